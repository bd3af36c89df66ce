"""COVID-Net, in two forms: the authors' Keras branch, and blocks of projections and extensions (PEPX).

Wang, Lin and Wong, "COVID-Net: a tailored deep convolutional neural network design for detection of COVID-19 cases from chest
X-ray images", Scientific Reports 10:19549 (2020), arXiv:2003.09871, figure 2.

The Keras branch of the authors' repository (commit bc42fbb, 2020-03-30) is ResNet-50 V2 with dense layers of 1,024 and 256.

Of the network in the figure the stages, their widths and the long-range connections are published, and the counts of parameters,
116.6 and 117.4 millions with the heads of the two versions. **The widths inside a block were found by a search and never
published**, nor where activations stand. Here each block narrows to a quarter of its input and stays so wide, which of uniform
ratios comes nearest to the published counts; convolutions have biases and no normalization, and all but the two projections are
followed by ReLU. These are choices, and so is the pooling of 2x2 between the stages.
"""

from minicnn.layers import Add, Conv2D, DepthwiseConv2D, MaxPool2D, ZeroPadding2D

__all__ = ["DENSE", "pepx_trunk"]

DENSE = {"dense": 1024, "dense_1": 256}                     # of the Keras branch, behind Flatten
_STAGES = ((256, 3), (512, 4), (1024, 6), (2048, 3))        # channels and blocks


def pepx_trunk(x):
    """Return the node of the features, (H // 32, W // 32, 2048), of the network of figure 2.

    Each block takes the sum of what the blocks of its stage and its long-range convolution made before it; that convolution, 1x1,
    takes the sum of the stage before.
    """
    x = Conv2D(64, 7, strides=2, activation="relu", name="conv1")(ZeroPadding2D(3, name="conv1_pad")(x))
    taken = x
    for stage, (channels, blocks) in enumerate(_STAGES, 1):
        pooled = MaxPool2D(2, name=f"pool{stage}")(taken)
        far = Conv2D(channels, 1, activation="relu", name=f"long_range{stage}")(pooled)
        made = [_pepx(pooled, channels, f"pepx{stage}_1")]
        for i in range(2, blocks + 1):
            made.append(_pepx(Add(name=f"sum{stage}_{i}")([far, *made]), channels, f"pepx{stage}_{i}"))
        taken = Add(name=f"sum{stage}")([far, *made])
    return taken


def _pepx(x, channels, name):
    """Project, expand, convolve each channel, project, extend."""
    narrow = x.shape[-1] // 4
    x = Conv2D(narrow, 1, name=f"{name}_project1")(x)
    x = Conv2D(narrow, 1, activation="relu", name=f"{name}_expand")(x)
    x = DepthwiseConv2D(3, padding="same", activation="relu", name=f"{name}_depthwise")(x)
    x = Conv2D(narrow, 1, name=f"{name}_project2")(x)
    return Conv2D(channels, 1, activation="relu", name=f"{name}_extend")(x)
