"""What layers with a kernel share: a bias that may be left out, and an activation that may follow."""

import sys

import numpy as np

from minicnn.core.arguments import Flag, OneOf, OrNone
from minicnn.layers.base import Layer

__all__ = ["AffineLayer", "ACTIVATIONS"]

# {what `activation` may be: the layer that computes it}
ACTIVATIONS = {"relu": "ReLU", "sigmoid": "Sigmoid", "tanh": "Tanh", "softmax": "Softmax", "leaky_relu": "LeakyReLU",
               "elu": "ELU", "swish": "Swish", "silu": "Swish", "softplus": "Softplus"}


class AffineLayer(Layer):
    """What layers with a kernel share: the arguments `use_bias` and `activation`.

    In a network the activation becomes a layer of its own, NAME_activation, right behind this one, which computes what
    comes before it and whose `activation` is None from then on: so Conv2D(8, 3, activation="relu") is Conv2D(8, 3) and
    ReLU(), to the bit. A layer that is called by hand computes both.

    Attributes
    ----------
    following : the activation as a layer of its own, or None; a network puts it behind this one
    """

    options = {"use_bias": Flag(), "activation": OrNone(OneOf([*ACTIVATIONS, "linear"]))}
    unsaid = {"use_bias": True, "activation": None}
    following = None

    def __init__(self, name=None, **arguments):
        super().__init__(name, **arguments)
        if self.activation == "linear":
            vars(self)["activation"] = None

    def build(self, input_shape):
        output_shape = super().build(input_shape)
        # In place of a bias: zeros, and where a gradient goes that nobody reads.
        self._no_bias = [np.zeros(output_shape[-1], self.dtype) for _ in range(2)]
        if self.activation is not None:
            self._activation = self._make_activation()
            self._activation.configure(self.dtype, self._engine)
            self._activation.build(output_shape)
        return output_shape

    @property
    def bias(self):
        """(value, gradient) of the bias; zeros, and an array that nobody reads, where there is none."""
        return (self.parameters[-1].value, self.parameters[-1].grad) if self.use_bias else self._no_bias

    def _make_activation(self):
        kind = getattr(sys.modules[__package__], ACTIVATIONS[self.activation])      # may be imported only now
        activation = kind(name=self.name and f"{self.name}_activation")
        activation.follows = self
        return activation

    def unfold(self):
        """Return the activation as a layer of its own, and leave it to that; None where there is none."""
        if self.activation is not None:
            self.following = self._make_activation()
            vars(self)["activation"] = None
        return self.following

    def activated(self, y):
        """Return what forward returns: y, behind the activation where it is not a layer of its own."""
        return y if self.activation is None else self._activation.forward(y)

    def consume(self, dy):
        return super().consume(dy if self.activation is None else self._activation.backward(dy))

    def choices(self):
        return () if self.activation is None else self._activation.choices()
