"""ResNet-50, 101 and 152, and ResNet-50 V2: bottlenecks of three convolutions, and shortcuts around them.

He, Zhang, Ren and Sun, "Deep residual learning for image recognition", CVPR 2016, and "Identity mappings in deep residual networks",
ECCV 2016 (V2: normalization and ReLU before each convolution). Layers and names as in keras.applications: convolutions have biases,
and in V1 the first 1x1 convolution of a stage has its stride. PyTorch's ResNet-50 has it in the 3x3 convolution, and no biases: the
weights of one do not fit the other.
"""

from minicnn.layers import Add, BatchNormalization, Conv2D, MaxPool2D, ReLU, ZeroPadding2D

__all__ = ["RESNET50", "RESNET101", "RESNET152", "trunk", "trunk_v2"]

RESNET50, RESNET101, RESNET152 = (3, 4, 6, 3), (3, 4, 23, 3), (3, 8, 36, 3)         # blocks of each stage


def _norm(name):
    return BatchNormalization(epsilon=1.001e-5, name=name)


def trunk(x, blocks):
    """Return the node of the features, (H / 32, W / 32, 2048), of a node of images."""
    x = ZeroPadding2D(3, name="conv1_pad")(x)
    x = ReLU(name="conv1_relu")(_norm("conv1_bn")(Conv2D(64, 7, strides=2, name="conv1_conv")(x)))
    x = MaxPool2D(3, strides=2, name="pool1_pool")(ZeroPadding2D(1, name="pool1_pad")(x))
    for stage, (n, filters) in enumerate(zip(blocks, (64, 128, 256, 512)), 2):
        for i in range(1, n + 1):
            strides = 2 if i == 1 and stage > 2 else 1
            x = _block(x, filters, strides, i == 1, f"conv{stage}_block{i}")
    return x


def _block(x, filters, strides, widens, name):
    """Return relu(x + conv3(relu(conv2(relu(conv1(x)))))), each convolution normalized; one that widens projects x too."""
    shortcut = _norm(f"{name}_0_bn")(Conv2D(4 * filters, 1, strides, name=f"{name}_0_conv")(x)) if widens else x
    x = ReLU(name=f"{name}_1_relu")(_norm(f"{name}_1_bn")(Conv2D(filters, 1, strides, name=f"{name}_1_conv")(x)))
    x = Conv2D(filters, 3, padding="same", name=f"{name}_2_conv")(x)
    x = ReLU(name=f"{name}_2_relu")(_norm(f"{name}_2_bn")(x))
    x = _norm(f"{name}_3_bn")(Conv2D(4 * filters, 1, name=f"{name}_3_conv")(x))
    return ReLU(name=f"{name}_out")(Add(name=f"{name}_add")([shortcut, x]))


def trunk_v2(x, blocks):
    """Return the node of the features of the second version, as of `trunk`."""
    x = Conv2D(64, 7, strides=2, name="conv1_conv")(ZeroPadding2D(3, name="conv1_pad")(x))
    x = MaxPool2D(3, strides=2, name="pool1_pool")(ZeroPadding2D(1, name="pool1_pad")(x))
    for stage, (n, filters) in enumerate(zip(blocks, (64, 128, 256, 512)), 2):
        for i in range(1, n + 1):
            strides = 2 if i == n and stage < 5 else 1          # the last of a stage makes the image smaller
            x = _block_v2(x, filters, strides, i == 1, f"conv{stage}_block{i}")
    return ReLU(name="post_relu")(_norm("post_bn")(x))


def _block_v2(x, filters, strides, widens, name):
    """Return x + conv3(relu(conv2(relu(conv1(relu(norm(x))))))); one that widens projects what comes before conv1."""
    before = ReLU(name=f"{name}_preact_relu")(_norm(f"{name}_preact_bn")(x))
    if widens:
        shortcut = Conv2D(4 * filters, 1, strides, name=f"{name}_0_conv")(before)
    else:
        shortcut = x if strides == 1 else MaxPool2D(1, strides=strides, name=f"{name}_0_pool")(x)
    x = Conv2D(filters, 1, use_bias=False, name=f"{name}_1_conv")(before)
    x = ZeroPadding2D(1, name=f"{name}_2_pad")(ReLU(name=f"{name}_1_relu")(_norm(f"{name}_1_bn")(x)))
    x = Conv2D(filters, 3, strides, use_bias=False, name=f"{name}_2_conv")(x)
    x = ReLU(name=f"{name}_2_relu")(_norm(f"{name}_2_bn")(x))
    return Add(name=f"{name}_out")([shortcut, Conv2D(4 * filters, 1, name=f"{name}_3_conv")(x)])
