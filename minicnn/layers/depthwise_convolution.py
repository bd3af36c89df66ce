"""Convolution of each channel alone, and followed by one over all channels of a pixel."""

import math

from minicnn.core.arguments import OneOf, Pair, Whole
from minicnn.core.shapes import PADDINGS
from minicnn.initializers import INITIALIZERS
from minicnn.layers.affine import AffineLayer
from minicnn.layers.base import REGULARIZER, register
from minicnn.layers.windows import WindowedLayer, windows_of

__all__ = ["DepthwiseConv2D", "SeparableConv2D"]


class _Depthwise(AffineLayer, WindowedLayer):
    """What both share: each channel has `depth_multiplier` filters of its own."""

    fields = {"kernel_size": Pair(), "strides": Pair(), "padding": OneOf(PADDINGS), "depth_multiplier": Whole(),
              "depthwise_initializer": OneOf(INITIALIZERS), "depthwise_regularizer": REGULARIZER,
              "dilation_rate": Pair(), **AffineLayer.options}
    unsaid = AffineLayer.unsaid | {"dilation_rate": (1, 1), "depthwise_regularizer": None,
                                   "pointwise_regularizer": None}
    window = "kernel_size"
    # A parameter's regularizer is looked up by the parameter's name.
    depthwise_kernel_regularizer = property(lambda layer: layer.depthwise_regularizer)

    def _infer(self, input_shape):
        """Return (OH, OW, C M) and the law of the depthwise kernel."""
        (OH, OW), _ = windows_of(self, input_shape)
        C, M = input_shape[2], self.depth_multiplier
        return (OH, OW, C * M), ("depthwise_kernel", (*self.kernel_size, C, M), self.depthwise_initializer)

    def _channels(self, x, b, y):
        """Write the convolution of each channel to y."""
        w = self.parameters[0].value
        self.ops.depthwise_conv2d(x, w, b, self.strides, self.pads, self.dilation_rate, y)

    def _channels_backward(self, dy, x, w, db):
        """Write the gradients of what `_channels` did; return dx where it is needed."""
        window = self.strides, self.pads, self.dilation_rate
        self.ops.depthwise_conv2d_weight_gradient(dy, x, self.kernel_size, *window, self.parameters[0].grad, db)
        if not self.needs_input_gradient:
            return None
        dx = self.output("dx", x.shape)
        self.ops.depthwise_conv2d_input_gradient(dy, w, x.shape[1:3], *window, dx)
        return dx

    def _products(self, shape):
        """Return the floating-point operations of the windows over outputs of `shape`, two for each product."""
        return 2 * math.prod(self.kernel_size) * math.prod(shape)


class DepthwiseConv2D(_Depthwise):
    """Convolve each channel with M filters of its own; channels do not mix (reference.depthwise_conv2d).

    (H, W, C) -> (OH, OW, C M), OH as for Conv2D. Parameters: depthwise_kernel (KH, KW, C, M) and bias (C M,).

    Parameters
    ----------
    kernel_size, strides, padding, dilation_rate, activation, use_bias : as for Conv2D
    depth_multiplier : int >= 1, M
    depthwise_initializer : see initializers.py; the bias starts at 0
    depthwise_regularizer : L2, or None

    >>> layer = DepthwiseConv2D(3, padding="same")
    >>> layer.build((64, 64, 32)), [p.value.shape for p in layer.parameters]
    ((64, 64, 32), [(3, 3, 32, 1), (32,)])
    """

    def __init__(self, kernel_size, strides=1, padding="valid", depth_multiplier=1,
                 depthwise_initializer="glorot_uniform", depthwise_regularizer=None, dilation_rate=1, activation=None,
                 use_bias=True, name=None):
        super().__init__(name, kernel_size=kernel_size, strides=strides, padding=padding,
                         depth_multiplier=depth_multiplier, depthwise_initializer=depthwise_initializer,
                         depthwise_regularizer=depthwise_regularizer, dilation_rate=dilation_rate, use_bias=use_bias,
                         activation=activation)

    def infer(self, input_shape):
        output_shape, law = self._infer(input_shape)
        return output_shape, [law, ("bias", output_shape[2:], "zeros")][:1 + self.use_bias]

    def forward(self, x):
        x = self.accept(x)
        y = self.output("y", (len(x),) + self.output_shape)
        self._channels(x, self.bias[0], y)
        self.remember(x, self.parameters[0].value)
        return self.activated(y)

    def backward(self, dy):
        dy, x, w = self.consume(dy)
        return self._channels_backward(dy, x, w, self.bias[1])

    def flops(self):
        """Two for each product of a window and a filter (the bias is not counted)."""
        return self._products(self.output_shape)


class SeparableConv2D(_Depthwise):
    """DepthwiseConv2D without bias, then Conv2D of 1x1, which mixes the channels (reference.depthwise_conv2d, conv2d).

    (H, W, C) -> (OH, OW, F), OH as for Conv2D. Parameters: depthwise_kernel (KH, KW, C, M), pointwise_kernel
    (1, 1, C M, F) and bias (F,). As y = conv2d(z, pointwise) and z = depthwise_conv2d(x, depthwise), the gradients are
    those of the two, one after another: dz, the input gradient of the one, is what the other gets for its dy.

    Parameters
    ----------
    filters : int >= 1
    kernel_size, strides, padding, dilation_rate, activation, use_bias : as for Conv2D
    depth_multiplier : int >= 1, M
    depthwise_initializer, pointwise_initializer : see initializers.py; the bias starts at 0
    depthwise_regularizer, pointwise_regularizer : L2, or None

    >>> layer = SeparableConv2D(64, 3, padding="same")
    >>> layer.build((32, 32, 16)), [p.value.shape for p in layer.parameters]
    ((32, 32, 64), [(3, 3, 16, 1), (1, 1, 16, 64), (64,)])
    """

    fields = {"filters": Whole(), **_Depthwise.fields, "pointwise_initializer": OneOf(INITIALIZERS),
              "pointwise_regularizer": REGULARIZER}
    pointwise_kernel_regularizer = property(lambda layer: layer.pointwise_regularizer)
    _POINT = (1, 1), (0, 0, 0, 0)           # strides and pads of the second convolution

    def __init__(self, filters, kernel_size, strides=1, padding="valid", depth_multiplier=1,
                 depthwise_initializer="glorot_uniform", pointwise_initializer="glorot_uniform",
                 depthwise_regularizer=None, pointwise_regularizer=None, dilation_rate=1, activation=None,
                 use_bias=True, name=None):
        super().__init__(name, filters=filters, kernel_size=kernel_size, strides=strides, padding=padding,
                         depth_multiplier=depth_multiplier, depthwise_initializer=depthwise_initializer,
                         pointwise_initializer=pointwise_initializer, depthwise_regularizer=depthwise_regularizer,
                         pointwise_regularizer=pointwise_regularizer, dilation_rate=dilation_rate, use_bias=use_bias,
                         activation=activation)

    def infer(self, input_shape):
        (OH, OW, C), law = self._infer(input_shape)
        F = self.filters
        return (OH, OW, F), [law, ("pointwise_kernel", (1, 1, C, F), self.pointwise_initializer),
                             ("bias", (F,), "zeros")][:2 + self.use_bias]

    def forward(self, x):
        x = self.accept(x)
        depthwise, pointwise = (parameter.value for parameter in self.parameters[:2])
        z = self.buffer("z", (len(x), *self.output_shape[:2], pointwise.shape[2]))
        self._channels(x, self._zeros("no bias", z), z)
        y = self.output("y", (len(x),) + self.output_shape)
        self.ops.conv2d(z, pointwise, self.bias[0], *self._POINT, y)
        self.remember(x, z, depthwise, pointwise)
        return self.activated(y)

    def backward(self, dy):
        dy, x, z, depthwise, pointwise = self.consume(dy)
        self.ops.conv2d_weight_gradient(dy, z, (1, 1), *self._POINT, self.parameters[1].grad, self.bias[1])
        dz = self.buffer("dz", z.shape)
        self.ops.conv2d_input_gradient(dy, pointwise, z.shape[1:3], *self._POINT, dz)
        return self._channels_backward(dz, x, depthwise, self._zeros("no db", z))

    def _zeros(self, name, z):
        """Return zeros in place of a bias for z, or of its gradient."""
        zeros = self.buffer(name, z.shape[3:])
        zeros[...] = 0
        return zeros

    def flops(self):
        """Two for each product of a window and a filter, of both convolutions (the bias is not counted)."""
        C = self.parameters[1].value.shape[2]
        return self._products(self.output_shape[:2] + (C,)) + 2 * C * math.prod(self.output_shape)


register(DepthwiseConv2D, SeparableConv2D)
