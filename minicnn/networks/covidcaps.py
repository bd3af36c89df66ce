"""COVID-CAPS: four convolutions, then three layers of capsules, of which the last has one for each class.

Afshar et al., "COVID-CAPS: a capsule network-based framework for identification of COVID-19 cases from X-ray images", Pattern
Recognition Letters 138:638 (2020), layers as in the authors' code: normalization stands behind ReLU, each pixel of the last
feature map is a capsule as it is, and all input capsules share their weights.
"""

from minicnn.layers import AveragePool2D, BatchNormalization, Capsules, CapsuleLength, Conv2D, Reshape

__all__ = ["layers"]


def layers(classes=2):
    """Return the layers of COVID-CAPS, for images of at least 14 x 14.

    Parameters
    ----------
    classes : int >= 2, of each of which there is a capsule

    >>> [layer.name for layer in layers()[-3:]]
    ['capsules2', 'class_capsules', 'lengths']
    """
    def conv(filters, name):
        return Conv2D(filters, 3, activation="relu", name=name)
    return [conv(64, "conv1"), BatchNormalization(name="norm"), conv(64, "conv2"), AveragePool2D(2, name="pool"),
            conv(128, "conv3"), conv(128, "conv4"), Reshape((-1, 128), name="pixels"),
            Capsules(32, 8, name="capsules1"), Capsules(32, 8, name="capsules2"),
            Capsules(classes, 16, name="class_capsules"), CapsuleLength(name="lengths")]
