"""Dense layers, and flattening before them."""

import math

from minicnn.core.arguments import OneOf, Whole
from minicnn.errors import ShapeError
from minicnn.initializers import INITIALIZERS
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
        return x.reshape(len(x), -1)

    def backward(self, dy):
        dy, x = self.consume(dy)
        return dy.reshape(x.shape)

    def flops(self):
        """None: nothing is computed."""
        return 0


class Dense(Layer):
    """Multiply by a matrix and add a bias: (D,) -> (F,), y = x @ kernel + bias (reference.dense).

    Parameters: kernel (D, F) and bias (F,).

    >>> layer = Dense(128)
    >>> layer.build((4608,)), sum(p.value.size for p in layer.parameters)
    ((128,), 589952)
    """

    fields = {"units": Whole(), "kernel_initializer": OneOf(INITIALIZERS), "kernel_regularizer": REGULARIZER}
    unsaid = {"kernel_regularizer": None}

    def __init__(self, units, kernel_initializer="glorot_uniform", kernel_regularizer=None, name=None):
        super().__init__(name, units=units, kernel_initializer=kernel_initializer, kernel_regularizer=kernel_regularizer)

    def infer(self, input_shape):
        if len(input_shape) != 1:
            raise ShapeError(f"{self.label}: expected one row a sample, (D,), got {input_shape}. "
                             "Put a Flatten() before this layer.")
        D, F = input_shape[0], self.units
        return (F,), [("kernel", (D, F), self.kernel_initializer), ("bias", (F,), "zeros")]

    def forward(self, x):
        x = self.accept(x)
        y = self.buffer("y", (len(x), self.units))
        w, b = self.parameters
        self.ops.dense(x, w.value, b.value, y)
        self.remember(x, w.value)
        return y

    def backward(self, dy):
        dy, x, w_value = self.consume(dy)
        w, b = self.parameters
        self.ops.dense_weight_gradient(dy, x, w.grad, b.grad)
        if not self.needs_input_gradient:
            return None
        dx = self.buffer("dx", x.shape)
        self.ops.dense_input_gradient(dy, w_value, dx)
        return dx

    def flops(self):
        """Two for each weight (the bias is not counted)."""
        return 2 * self.parameters[0].value.size
