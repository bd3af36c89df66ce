"""InceptionV3 and Inception-ResNet-V2: blocks of parallel convolutions, whose outputs are put side by side.

Szegedy et al., "Rethinking the inception architecture for computer vision", CVPR 2016, and "Inception-v4, Inception-ResNet and the
impact of residual connections on learning", AAAI 2017; layers as in keras.applications. Every convolution is followed by batch
normalization without gamma, and ReLU.
"""

from minicnn.layers import (Add, AveragePool2D, BatchNormalization, Concatenate, Conv2D, MaxPool2D, ReLU, Rescaling)

__all__ = ["trunk_v3", "trunk_resnet_v2"]


def _conv(x, filters, size, strides=1, padding="same"):
    x = Conv2D(filters, size, strides, padding=padding, use_bias=False)(x)
    return ReLU()(BatchNormalization(scale=False)(x))


def _convs(x, *steps):
    """Return what convolutions (filters, size) make of x, one after another."""
    for filters, size in steps:
        x = _conv(x, filters, size)
    return x


def _pooled(x, filters):
    return _conv(AveragePool2D(3, strides=1, padding="same")(x), filters, 1)


def _stem(x):
    """Return the node that both begin with, of 192 channels and an eighth of the height and width."""
    x = _conv(_conv(x, 32, 3, 2, "valid"), 32, 3, padding="valid")
    x = MaxPool2D(3, strides=2)(_conv(x, 64, 3))
    return MaxPool2D(3, strides=2)(_conv(_conv(x, 80, 1, padding="valid"), 192, 3, padding="valid"))


# ---- InceptionV3 -----------------------------------------------------------------------------------------------------

def trunk_v3(x):
    """Return the node of the features, (8, 8, 2048) of images of 299 x 299."""
    x = _stem(x)
    for i, channels in enumerate((32, 64, 64)):
        x = _block_a(x, channels, f"mixed{i}")
    x = _smaller(x, [_conv(x, 384, 3, 2, "valid"), _conv(_convs(x, (64, 1), (96, 3)), 96, 3, 2, "valid")], "mixed3")
    for i, filters in enumerate((128, 160, 160, 192), 4):
        x = _block_b(x, filters, f"mixed{i}")
    one = _conv(_conv(x, 192, 1), 320, 3, 2, "valid")
    other = _conv(_convs(x, (192, 1), (192, (1, 7)), (192, (7, 1))), 192, 3, 2, "valid")
    x = _smaller(x, [one, other], "mixed8")
    for i in (9, 10):
        x = _block_c(x, i)
    return x


def _block_a(x, channels, name):
    parts = [_conv(x, 64, 1), _convs(x, (48, 1), (64, 5)), _convs(x, (64, 1), (96, 3), (96, 3)), _pooled(x, channels)]
    return Concatenate(name=name)(parts)


def _smaller(x, parts, name):
    return Concatenate(name=name)([*parts, MaxPool2D(3, strides=2)(x)])


def _block_b(x, filters, name):
    """Convolutions of 7x7 as one of 1x7 and one of 7x1."""
    once = _convs(x, (filters, 1), (filters, (1, 7)), (192, (7, 1)))
    twice = _convs(x, (filters, 1), (filters, (7, 1)), (filters, (1, 7)), (filters, (7, 1)), (192, (1, 7)))
    return Concatenate(name=name)([_conv(x, 192, 1), once, twice, _pooled(x, 192)])


def _block_c(x, number):
    """Convolutions of 3x3 as one of 1x3 beside one of 3x1."""
    def both(x, name=None):
        return Concatenate(name=name)([_conv(x, 384, (1, 3)), _conv(x, 384, (3, 1))])
    one = _conv(x, 320, 1)
    parts = [one, both(_conv(x, 384, 1), f"mixed9_{number - 9}"), both(_convs(x, (448, 1), (384, 3))), _pooled(x, 192)]
    return Concatenate(name=f"mixed{number}")(parts)


# ---- Inception-ResNet-V2 ---------------------------------------------------------------------------------------------

def trunk_resnet_v2(x):
    """Return the node of the features, (8, 8, 1536) of images of 299 x 299."""
    x = _stem(x)
    parts = [_conv(x, 96, 1), _convs(x, (48, 1), (64, 5)), _convs(x, (64, 1), (96, 3), (96, 3)), _pooled(x, 64)]
    x = Concatenate(name="mixed_5b")(parts)
    for i in range(1, 11):
        parts = [_conv(x, 32, 1), _convs(x, (32, 1), (32, 3)), _convs(x, (32, 1), (48, 3), (64, 3))]
        x = _residual(x, parts, 0.17, f"block35_{i}")
    parts = [_conv(x, 384, 3, 2, "valid"), _conv(_convs(x, (256, 1), (256, 3)), 384, 3, 2, "valid")]
    x = _smaller(x, parts, "mixed_6a")
    for i in range(1, 21):
        parts = [_conv(x, 192, 1), _convs(x, (128, 1), (160, (1, 7)), (192, (7, 1)))]
        x = _residual(x, parts, 0.1, f"block17_{i}")
    parts = [_conv(_conv(x, 256, 1), 384, 3, 2, "valid"), _conv(_conv(x, 256, 1), 288, 3, 2, "valid"),
             _conv(_convs(x, (256, 1), (288, 3)), 320, 3, 2, "valid")]
    x = _smaller(x, parts, "mixed_7a")
    for i in range(1, 11):
        parts = [_conv(x, 192, 1), _convs(x, (192, 1), (224, (1, 3)), (256, (3, 1)))]
        x = _residual(x, parts, 0.2 if i < 10 else 1.0, f"block8_{i}", rectified=i < 10)
    x = BatchNormalization(scale=False, name="conv_7b_bn")(Conv2D(1536, 1, padding="same", use_bias=False, name="conv_7b")(x))
    return ReLU(name="conv_7b_ac")(x)


def _residual(x, parts, scale, name, rectified=True):
    """Return relu(x + scale conv(parts)): a small part of what the block finds, so that training is stable (section 3.3)."""
    found = Conv2D(x.shape[-1], 1, padding="same", name=f"{name}_conv")(Concatenate(name=f"{name}_mixed")(parts))
    x = Add(name=f"{name}_add")([x, Rescaling(scale, name=f"{name}_scale")(found)])
    return ReLU(name=f"{name}_ac")(x) if rectified else x
