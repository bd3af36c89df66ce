"""The scale of pixels that weights for ImageNet were trained on: it is a part of the weights, and differs from tool to tool.

Each is the mean and the standard deviation of the channels of an image in [0, 1], which the argument `pixels` of a network takes.
Keras' VGG and ResNet take blue, green, red: of images whose channels are equal, as of radiographs, the order means nothing.
"""

__all__ = ["pixels"]

_CENTRED = (0.5,) * 3, (0.5,) * 3                                       # [-1, 1]
_STANDARDIZED = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)            # the images' own, red first
_BLUE_FIRST = (103.939 / 255, 116.779 / 255, 123.68 / 255), (1 / 255,) * 3      # only the means are subtracted, of 0 to 255
_LITE = (127 / 255,) * 3, (128 / 255,) * 3                              # (pixel - 127) / 128

_OF_KERAS = dict.fromkeys(["vgg16", "vgg19", "resnet50", "resnet101", "resnet152"], _BLUE_FIRST) | dict.fromkeys(
    ["resnet50_v2", "mobilenet_v2", "inception_v3", "inception_resnet_v2", "covid_net"], _CENTRED) | {
    "efficientnet_b0": _STANDARDIZED, "efficientnet_lite0": _LITE}
_OF_PYTORCH = dict.fromkeys(_OF_KERAS, _STANDARDIZED) | {"efficientnet_lite0": _LITE}


def pixels(network, tool):
    """Return (means, standard deviations) of the channels for weights of a network, or None where no such weights are known.

    Parameters
    ----------
    network : str, a name of NETWORKS
    tool : "keras", as of keras.applications (module imagenet_utils), or "pytorch", as of torchvision

    >>> pixels("mobilenet_v2", "keras")
    ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    """
    return {"keras": _OF_KERAS, "pytorch": _OF_PYTORCH}[tool].get(network)
