"""Max and average pooling."""

import math

import numpy as np

from minicnn.core.arguments import OneOf, Pair
from minicnn.core.shapes import PADDINGS
from minicnn.errors import InputError
from minicnn.layers.windows import WindowedLayer, windows_of

__all__ = ["MaxPool2D", "AveragePool2D"]


class _Pool2D(WindowedLayer):
    """What max and average pooling share: their arguments and shapes."""

    fields = {"pool_size": Pair(), "strides": Pair(), "padding": OneOf(PADDINGS)}
    window = "pool_size"

    def __init__(self, pool_size=2, strides=None, padding="valid", name=None):
        super().__init__(name, pool_size=pool_size, strides=pool_size if strides is None else strides, padding=padding)
        if self.pool_size[0] * self.pool_size[1] > 2**16:
            raise InputError(f"{self.label}: pool_size {self.pool_size} has more than 65,536 positions.")

    def infer(self, input_shape):
        (OH, OW), _ = windows_of(self, input_shape)
        return (OH, OW, input_shape[2]), []

    def flops(self):
        """One for each number of each window after the first."""
        return (self.pool_size[0] * self.pool_size[1] - 1) * math.prod(self.output_shape)


class MaxPool2D(_Pool2D):
    """Keep the largest number of each window and channel (paper, section 3.2; reference.max_pool2d).

    Ties go to the first position, a NaN in the window to the output. Rows and columns that no window reaches are dropped.

    Parameters
    ----------
    pool_size : int or two ints (height, width)
    strides : int or two ints; the pool size where None
    padding : "valid" or "same"

    >>> MaxPool2D(2).build((29, 29, 32))
    (14, 14, 32)
    """

    def forward(self, x):
        x = self.accept(x)
        y = self.output("y", (len(x),) + self.output_shape)
        switches = self.buffer("switches", y.shape, np.uint16)
        self.ops.max_pool2d(x, self.pool_size, self.strides, self.pads, y, switches)
        self.remember(switches)
        return y

    def backward(self, dy):
        dy, switches = self.consume(dy)
        dx = self.output("dx", (len(dy),) + self.input_shape)
        self.ops.max_pool2d_gradient(dy, switches, self.input_shape[:2], self.pool_size, self.strides, self.pads, dx)
        return dx

    def choices(self):
        return self._cache[0],


class AveragePool2D(_Pool2D):
    """Take the mean of each window and channel, over the pixels inside the image (reference.average_pool2d).

    Arguments as for MaxPool2D.

    >>> AveragePool2D(2).build((4, 4, 1))
    (2, 2, 1)
    """

    def forward(self, x):
        x = self.accept(x)
        y = self.output("y", (len(x),) + self.output_shape)
        self.ops.average_pool2d(x, self.pool_size, self.strides, self.pads, y)
        self.remember(y)
        return y

    def backward(self, dy):
        dy, _ = self.consume(dy)
        dx = self.output("dx", (len(dy),) + self.input_shape)
        self.ops.average_pool2d_gradient(dy, self.input_shape[:2], self.pool_size, self.strides, self.pads, dx)
        return dx
