"""Activations: each gradient follows from the output."""

from minicnn.core.arguments import OrNone, Real
from minicnn.layers.base import Layer

__all__ = ["Activation", "ReLU", "Sigmoid", "Tanh", "Softmax"]


class Activation(Layer):
    """An activation: `operation` names it and its gradient in the engines; `fields` are their numbers.

    The gradient follows from the output, or from the input where `from_output` is false.
    """

    operation, from_output = None, True

    def forward(self, x):
        x = self.accept(x)
        y = self.output("y", x.shape)
        getattr(self.ops, self.operation)(x, *self.numbers(), y)
        self.remember(y if self.from_output else x)
        return y

    def backward(self, dy):
        dy, seen = self.consume(dy)
        dx = self.output("dx", seen.shape)
        getattr(self.ops, self.operation + "_gradient")(dy, seen, *self.numbers(), dx)
        return dx

    def numbers(self):
        """Return what the operation takes after its array."""
        return [getattr(self, field) for field in self.fields]


class ReLU(Activation):
    """max(x, 0), element by element, at most max_value where that is given (reference.relu, clipped_relu).

    The gradient at 0 is 0, and at max_value too. Keras' ReLU6 is ReLU(6).

    >>> layer = ReLU(6)
    >>> _ = layer.build((3,)); layer.forward([[-1.0, 2.0, 7.0]]).tolist()
    [[0.0, 2.0, 6.0]]
    """

    fields, unsaid = {"max_value": OrNone(Real(0, brackets="()"))}, {"max_value": None}

    def __init__(self, max_value=None, name=None):
        super().__init__(name, max_value=max_value)

    @property
    def operation(self):
        return "relu" if self.max_value is None else "clipped_relu"

    def numbers(self):
        return [] if self.max_value is None else [self.max_value]

    def choices(self):
        y, = self._cache
        return (y > 0,) if self.max_value is None else (y > 0, y < self.max_value)


class Sigmoid(Activation):
    """1 / (1 + exp(-x)), element by element (reference.sigmoid). As the last layer it is folded into the loss."""

    operation = "sigmoid"


class Tanh(Activation):
    """Hyperbolic tangent, element by element (reference.tanh)."""

    operation = "tanh"


class Softmax(Activation):
    """exp(x) over its sum along the last axis (reference.softmax). As the last layer it is folded into the loss."""

    operation = "softmax"
