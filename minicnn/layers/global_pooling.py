"""Pooling over the whole image, in place of Flatten: one number for each channel, whatever the image's size."""

import math

import numpy as np

from minicnn.core.arguments import Flag
from minicnn.errors import ShapeError
from minicnn.layers.base import Layer, register

__all__ = ["GlobalAveragePooling2D", "GlobalMaxPooling2D"]


class _GlobalPool2D(Layer):
    """What both share: (H, W, C) becomes (C,), or (1, 1, C) with keepdims."""

    fields = {"keepdims": Flag()}

    def __init__(self, keepdims=False, name=None):
        super().__init__(name, keepdims=keepdims)

    def infer(self, input_shape):
        if len(input_shape) != 3:
            raise ShapeError(f"{self.label}: expected images, (H, W, C), got inputs of shape {input_shape}.")
        return (1, 1, input_shape[2]) if self.keepdims else (input_shape[2],), []

    def receptive_field(self, field):
        return field.whole(self.input_shape)

    def flops(self):
        """One for each number after the first of a channel."""
        return math.prod(self.input_shape) - self.input_shape[2]

    def _flat(self, array):
        return array.reshape(len(array), self.input_shape[2])


class GlobalAveragePooling2D(_GlobalPool2D):
    """Take the mean of each channel over all pixels (reference.global_average_pool2d).

    Parameters
    ----------
    keepdims : bool; whether the output is (1, 1, C), so that it can be multiplied with an image, and not (C,)

    >>> GlobalAveragePooling2D().build((7, 5, 32)), GlobalAveragePooling2D(keepdims=True).build((7, 5, 32))
    ((32,), (1, 1, 32))
    """

    def forward(self, x):
        x = self.accept(x)
        y = self.output("y", (len(x), *self.output_shape))
        self.ops.global_average_pool2d(x, self._flat(y))
        self.remember(y)
        return y

    def backward(self, dy):
        dy, _ = self.consume(dy)
        dx = self.output("dx", (len(dy), *self.input_shape))
        self.ops.global_average_pool2d_gradient(self._flat(dy), self.input_shape[:2], dx)
        return dx


class GlobalMaxPooling2D(_GlobalPool2D):
    """Keep the largest number of each channel (reference.global_max_pool2d).

    Ties go to the first pixel, a NaN in the channel to the output.

    Parameters
    ----------
    keepdims : bool; whether the output is (1, 1, C) and not (C,)

    >>> GlobalMaxPooling2D().build((7, 5, 32))
    (32,)
    """

    def forward(self, x):
        x = self.accept(x)
        y = self.output("y", (len(x), *self.output_shape))
        switches = self.buffer("switches", (len(x), x.shape[3]), np.uint32)
        self.ops.global_max_pool2d(x, self._flat(y), switches)
        self.remember(switches)
        return y

    def backward(self, dy):
        dy, switches = self.consume(dy)
        dx = self.output("dx", (len(dy), *self.input_shape))
        self.ops.global_max_pool2d_gradient(self._flat(dy), switches, self.input_shape[:2], dx)
        return dx

    def choices(self):
        return self._cache[0],


register(GlobalAveragePooling2D, GlobalMaxPooling2D)
