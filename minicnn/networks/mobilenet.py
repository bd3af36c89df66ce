"""MobileNetV2: inverted residuals, which widen, convolve each channel alone, and narrow again.

Sandler et al., "MobileNetV2: inverted residuals and linear bottlenecks", CVPR 2018, table 2; layers and names as in
keras.applications, width 1. A depthwise convolution with stride 2 has its padding after the image alone.
"""

from minicnn.layers import Add, BatchNormalization, Conv2D, DepthwiseConv2D, ReLU, ZeroPadding2D
from minicnn.networks.padding import before_strides

__all__ = ["trunk"]

# (expansion, channels, blocks, stride of the first)
_STAGES = (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)


def _normed(x, layer, name, rectified=True):
    x = BatchNormalization(momentum=0.999, name=name)(layer(x))
    return ReLU(6, name=rectified)(x) if rectified else x


def trunk(x):
    """Return the node of the features, (H / 32, W / 32, 1280), of a node of images."""
    x = _normed(x, Conv2D(32, 3, strides=2, padding="same", use_bias=False, name="Conv1"), "bn_Conv1", "Conv1_relu")
    number = 0
    for expansion, channels, blocks, first in _STAGES:
        for i in range(blocks):
            x = _block(x, expansion, channels, first if i == 0 else 1, f"block_{number}" if number else "expanded_conv")
            number += 1
    return _normed(x, Conv2D(1280, 1, use_bias=False, name="Conv_1"), "Conv_1_bn", "out_relu")


def _block(x, expansion, channels, strides, name):
    """Return project(depthwise(expand(x))), and x added where it has as many channels and pixels."""
    source, wide = x, x.shape[-1] * expansion
    if expansion > 1:
        x = _normed(x, Conv2D(wide, 1, padding="same", use_bias=False, name=f"{name}_expand"), f"{name}_expand_BN", f"{name}_expand_relu")
    if strides == 2:
        x = ZeroPadding2D(before_strides(x.shape[1:3], 3), name=f"{name}_pad")(x)
    depthwise = DepthwiseConv2D(3, strides, padding="same" if strides == 1 else "valid", use_bias=False, name=f"{name}_depthwise")
    x = _normed(x, depthwise, f"{name}_depthwise_BN", f"{name}_depthwise_relu")
    project = Conv2D(channels, 1, padding="same", use_bias=False, name=f"{name}_project")
    x = _normed(x, project, f"{name}_project_BN", None)
    return Add(name=f"{name}_add")([source, x]) if strides == 1 and source.shape == x.shape else x
