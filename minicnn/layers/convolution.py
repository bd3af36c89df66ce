"""Convolution of images."""

import math

from minicnn.core.arguments import OneOf, Pair, Whole
from minicnn.core.shapes import PADDINGS
from minicnn.initializers import INITIALIZERS
from minicnn.layers.base import REGULARIZER
from minicnn.layers.windows import WindowedLayer, windows_of

__all__ = ["Conv2D"]


class Conv2D(WindowedLayer):
    """Convolve images with F filters of KH x KW (paper, section 3.2; reference.conv2d).

    (H, W, C) -> (OH, OW, F), OH = (H - KH) // SH + 1 for `valid` padding, ceil(H / SH) for `same`.
    Parameters: kernel (KH, KW, C, F) and bias (F,).

    Parameters
    ----------
    filters : int >= 1
    kernel_size, strides : int or two ints (height, width)
    padding : "valid" or "same"
    kernel_initializer : see initializers.py; the bias starts at 0
    kernel_regularizer : L2, or None

    >>> layer = Conv2D(32, 3)
    >>> layer.build((64, 64, 3)), [p.value.shape for p in layer.parameters]
    ((62, 62, 32), [(3, 3, 3, 32), (32,)])
    """

    fields = {"filters": Whole(), "kernel_size": Pair(), "strides": Pair(), "padding": OneOf(PADDINGS),
              "kernel_initializer": OneOf(INITIALIZERS), "kernel_regularizer": REGULARIZER}
    unsaid = {"kernel_regularizer": None}
    window = "kernel_size"

    def __init__(self, filters, kernel_size, strides=1, padding="valid", kernel_initializer="glorot_uniform",
                 kernel_regularizer=None, name=None):
        super().__init__(name, filters=filters, kernel_size=kernel_size, strides=strides, padding=padding,
                         kernel_initializer=kernel_initializer, kernel_regularizer=kernel_regularizer)

    def infer(self, input_shape):
        (OH, OW), _ = windows_of(self, input_shape)
        C, F = input_shape[2], self.filters
        return (OH, OW, F), [("kernel", self.kernel_size + (C, F), self.kernel_initializer), ("bias", (F,), "zeros")]

    def forward(self, x):
        x = self.accept(x)
        y = self.buffer("y", (len(x),) + self.output_shape)
        w, b = self.parameters
        self.ops.conv2d(x, w.value, b.value, self.strides, self.pads, y)
        self.remember(x, w.value)
        return y

    def backward(self, dy):
        dy, x, w_value = self.consume(dy)
        w, b = self.parameters
        self.ops.conv2d_weight_gradient(dy, x, self.kernel_size, self.strides, self.pads, w.grad, b.grad)
        if not self.needs_input_gradient:
            return None
        dx = self.buffer("dx", x.shape)
        self.ops.conv2d_input_gradient(dy, w_value, x.shape[1:3], self.strides, self.pads, dx)
        return dx

    def flops(self):
        """Two for each product of a window and a filter (the bias is not counted)."""
        KH, KW, C, F = self.parameters[0].value.shape
        return 2 * KH * KW * C * math.prod(self.output_shape)
