"""Convolution of images."""

import math

from minicnn.core.arguments import OneOf, Pair, Whole
from minicnn.core.shapes import PADDINGS
from minicnn.errors import ShapeError
from minicnn.initializers import INITIALIZERS
from minicnn.layers.affine import AffineLayer
from minicnn.layers.base import REGULARIZER
from minicnn.layers.windows import WindowedLayer, windows_of

__all__ = ["Conv2D"]


class Conv2D(AffineLayer, WindowedLayer):
    """Convolve images with F filters of KH x KW (paper, section 3.2; reference.conv2d, grouped_conv2d).

    (H, W, C) -> (OH, OW, F), OH = (H - KH) // SH + 1 for `valid` padding, where KH is what a dilated window spans, and
    ceil(H / SH) for `same`. Parameters: kernel (KH, KW, C / groups, F) and bias (F,).

    Parameters
    ----------
    filters : int >= 1
    kernel_size, strides : int or two ints (height, width)
    padding : "valid" or "same"
    kernel_initializer : see initializers.py; the bias starts at 0
    kernel_regularizer : L2, or None
    dilation_rate : int or two ints, how far apart the pixels of a window lie
    groups : int that divides channels and filters, each group of filters sees its own group of channels
    activation : the name of an activation that follows, such as "relu", or None (layers/affine.py)
    use_bias : bool

    >>> layer = Conv2D(32, 3)
    >>> layer.build((64, 64, 3)), [p.value.shape for p in layer.parameters]
    ((62, 62, 32), [(3, 3, 3, 32), (32,)])
    """

    fields = {"filters": Whole(), "kernel_size": Pair(), "strides": Pair(), "padding": OneOf(PADDINGS),
              "kernel_initializer": OneOf(INITIALIZERS), "kernel_regularizer": REGULARIZER,
              "dilation_rate": Pair(), "groups": Whole(), **AffineLayer.options}
    unsaid = AffineLayer.unsaid | {"kernel_regularizer": None, "dilation_rate": (1, 1), "groups": 1}
    window = "kernel_size"

    def __init__(self, filters, kernel_size, strides=1, padding="valid", kernel_initializer="glorot_uniform",
                 kernel_regularizer=None, dilation_rate=1, groups=1, activation=None, use_bias=True, name=None):
        super().__init__(name, filters=filters, kernel_size=kernel_size, strides=strides, padding=padding,
                         kernel_initializer=kernel_initializer, kernel_regularizer=kernel_regularizer,
                         dilation_rate=dilation_rate, groups=groups, use_bias=use_bias, activation=activation)

    @property
    def is_plain(self):
        """Whether it is reference.conv2d: one group, and no holes in its windows."""
        return self.groups == 1 and self.dilation_rate == (1, 1)

    def infer(self, input_shape):
        (OH, OW), _ = windows_of(self, input_shape)
        C, F, groups = input_shape[2], self.filters, self.groups
        if C % groups or F % groups:
            raise ShapeError(f"{self.label}: groups={groups} must divide the {C} channels of its input and its {F} "
                             "filters.")
        return (OH, OW, F), [("kernel", self.kernel_size + (C // groups, F), self.kernel_initializer),
                             ("bias", (F,), "zeros")][:1 + self.use_bias]

    def forward(self, x):
        x = self.accept(x)
        y = self.output("y", (len(x),) + self.output_shape)
        w = self.parameters[0].value
        self._operation("")(x, w, self.bias[0], self.strides, self.pads, *self._apart(), y)
        self.remember(x, w)
        return self.activated(y)

    def backward(self, dy):
        dy, x, w = self.consume(dy)
        window = self.strides, self.pads, *self._apart()
        db = self.bias[1] if self.use_bias else None
        self._operation("_weight_gradient")(dy, x, self.kernel_size, *window, self.parameters[0].grad, db)
        if not self.needs_input_gradient:
            return None
        dx = self.output("dx", x.shape)
        self._operation("_input_gradient")(dy, w, x.shape[1:3], *window, dx)
        return dx

    def _operation(self, gradient):
        return getattr(self.ops, ("conv2d" if self.is_plain else "grouped_conv2d") + gradient)

    def _apart(self):
        return () if self.is_plain else (self.dilation_rate, self.groups)

    def flops(self):
        """Two for each product of a window and a filter (the bias is not counted)."""
        KH, KW, C, F = self.parameters[0].value.shape
        return 2 * KH * KW * C * math.prod(self.output_shape)
