"""VGG-16 and VGG-19: 3x3 convolutions in five blocks, then three dense layers.

Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015, configurations D and E;
layers and names as in keras.applications.
"""

from minicnn.layers import Conv2D, MaxPool2D

__all__ = ["VGG16", "VGG19", "DENSE", "trunk"]

VGG16, VGG19 = (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)         # convolutions of each block
DENSE = {"fc1": 4096, "fc2": 4096}                   # dense layers before the last, behind Flatten


def trunk(x, depths):
    """Return the node of the features, (H // 32, W // 32, 512), of a node of images."""
    for block, (depth, filters) in enumerate(zip(depths, (64, 128, 256, 512, 512)), 1):
        for i in range(1, depth + 1):
            x = Conv2D(filters, 3, padding="same", activation="relu", name=f"block{block}_conv{i}")(x)
        x = MaxPool2D(2, name=f"block{block}_pool")(x)
    return x
