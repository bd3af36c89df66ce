"""Dense layers, and flattening before them."""

import math

from minicnn.core.arguments import OneOf, Whole
from minicnn.errors import ShapeError
from minicnn.initializers import INITIALIZERS
from minicnn.layers.affine import AffineLayer
from minicnn.layers.base import REGULARIZER, Layer

__all__ = ["Flatten", "Dense"]


class Flatten(Layer):
    """Lay each sample out as one row, in row-major order. A view: nothing is computed or copied.

    >>> Flatten().build((12, 12, 32))
    (4608,)
    """

    def infer(self, input_shape):
        return (math.prod(input_shape),), []

    def receptive_field(self, field):
        return field.whole(self.input_shape) if len(self.input_shape) == 3 else field

    def forward(self, x):
        x = self.accept(x)
        self.remember(x)
        return x.reshape(len(x), *self.output_shape)

    def backward(self, dy):
        dy, x = self.consume(dy)
        return dy.reshape(x.shape)

    def flops(self):
        """None: nothing is computed."""
        return 0


class Dense(AffineLayer):
    """Multiply by a matrix and add a bias: (D,) -> (F,), y = x @ kernel + bias (reference.dense).

    Parameters: kernel (D, F) and bias (F,). `activation` is the name of one that follows (layers/affine.py).

    >>> layer = Dense(128)
    >>> layer.build((4608,)), sum(p.value.size for p in layer.parameters)
    ((128,), 589952)
    """

    fields = {"units": Whole(), "kernel_initializer": OneOf(INITIALIZERS), "kernel_regularizer": REGULARIZER,
              **AffineLayer.options}
    unsaid = AffineLayer.unsaid | {"kernel_regularizer": None}

    def __init__(self, units, kernel_initializer="glorot_uniform", kernel_regularizer=None, activation=None,
                 use_bias=True, name=None):
        super().__init__(name, units=units, kernel_initializer=kernel_initializer,
                         kernel_regularizer=kernel_regularizer, use_bias=use_bias, activation=activation)

    def infer(self, input_shape):
        if len(input_shape) != 1:
            raise ShapeError(f"{self.label}: expected one row a sample, (D,), got {input_shape}. "
                             "Put a Flatten() before this layer.")
        D, F = input_shape[0], self.units
        return (F,), [("kernel", (D, F), self.kernel_initializer), ("bias", (F,), "zeros")][:1 + self.use_bias]

    def forward(self, x):
        x = self.accept(x)
        y = self.output("y", (len(x), self.units))
        w = self.parameters[0].value
        self.ops.dense(x, w, self.bias[0], y)
        self.remember(x, w)
        return self.activated(y)

    def backward(self, dy):
        dy, x, w = self.consume(dy)
        self.ops.dense_weight_gradient(dy, x, self.parameters[0].grad, self.bias[1])
        if not self.needs_input_gradient:
            return None
        dx = self.output("dx", x.shape)
        self.ops.dense_input_gradient(dy, w, dx)
        return dx

    def flops(self):
        """Two for each weight (the bias is not counted)."""
        return 2 * self.parameters[0].value.size
