"""What the tests of the layers share: the layers to check, and how one is built and run."""

import numpy as np
import pytest

from minicnn import BatchNormalization, LayerNormalization
from minicnn.core.backend import ENGINES
from minicnn.layers import (ELU, AveragePool2D, Capsules, CapsuleLength, Constant, Conv2D, Cropping2D, Dense, DepthwiseConv2D, Dropout, Elementwise, Flatten,
                            GlobalAveragePooling2D, GlobalMaxPooling2D, InputLayer, LeakyReLU, MaxPool2D, Permute, ReLU, Rescaling,
                            Reshape, SeparableConv2D, Sigmoid, Softmax, Softplus, SpatialDropout2D, StochasticDepth, Swish, Tanh, UpSampling2D,
                            ZeroPadding2D)
from tests.support.strategies import normals, separated


def while_training(layer):
    layer.training = True
    return layer


# Every exported layer in several configurations: (how to make it, the shape of its input).
LAYERS_TO_CHECK = [
    (lambda: Conv2D(3, 3), (6, 7, 2)),
    (lambda: Conv2D(17, (3, 2), strides=(2, 1), padding="same", kernel_initializer="he_normal"), (7, 6, 5)),
    (lambda: Conv2D(1, 1), (1, 1, 1)),
    (lambda: Conv2D(4, 5, strides=3), (9, 8, 16)),
    (lambda: Conv2D(2, 4, padding="same"), (2, 3, 1)),              # the window is larger than the image
    (lambda: Conv2D(2, 1, strides=3), (7, 9, 3)),                   # most pixels are never seen
    (lambda: MaxPool2D(), (5, 4, 3)),
    (lambda: MaxPool2D(3, strides=2, padding="same"), (7, 8, 17)),
    (lambda: MaxPool2D((2, 3), strides=(3, 1)), (7, 5, 2)),
    (lambda: AveragePool2D(), (5, 4, 3)),
    (lambda: AveragePool2D((4, 3), strides=(1, 2), padding="same"), (6, 5, 17)),
    (lambda: Flatten(), (2, 3, 4)),
    (lambda: Flatten(), (5,)),
    (lambda: Dense(4), (7,)),
    (lambda: Dense(17, kernel_initializer="he_uniform"), (33,)),
    (lambda: Dense(1), (1,)),
    (lambda: ReLU(), (3, 4, 5)),
    (lambda: ReLU(), (9,)),
    (lambda: Sigmoid(), (3, 4, 5)),
    (lambda: Tanh(), (9,)),
    (lambda: Softmax(), (7,)),
    (lambda: Softmax(), (2, 3, 4)),
    (lambda: Dropout(0.5), (2, 3, 4)),
    (lambda: Dropout(0), (8,)),
    (lambda: while_training(Dropout(0.4)), (2, 3, 4)),
    (lambda: BatchNormalization(), (5, 4, 3)),
    (lambda: while_training(BatchNormalization(momentum=0.9, epsilon=1e-5)), (5, 4, 17)),
    (lambda: while_training(BatchNormalization(center=False)), (3,)),
    (lambda: while_training(BatchNormalization(scale=False)), (7,)),
    (lambda: BatchNormalization(center=False, scale=False), (33,)),
    (lambda: LayerNormalization(), (3, 2, 18)),
    (lambda: LayerNormalization(center=False, epsilon=1e-5), (7,)),
    (lambda: LayerNormalization(scale=False), (2, 5)),
    (lambda: ReLU(0.3), (3, 4, 5)),
    (lambda: LeakyReLU(), (3, 4, 5)),
    (lambda: LeakyReLU(2), (9,)),                                   # steeper below 0 than above
    (lambda: ELU(), (9,)),
    (lambda: ELU(0.5), (3, 4, 5)),
    (lambda: Swish(), (3, 4, 5)),
    (lambda: Softplus(), (9,)),
    (lambda: GlobalAveragePooling2D(), (5, 4, 17)),
    (lambda: GlobalAveragePooling2D(keepdims=True), (1, 1, 3)),
    (lambda: GlobalMaxPooling2D(), (5, 4, 17)),
    (lambda: GlobalMaxPooling2D(keepdims=True), (2, 3, 1)),
    (lambda: ZeroPadding2D(), (2, 3, 4)),
    (lambda: ZeroPadding2D(((0, 1), (3, 0))), (2, 3, 17)),
    (lambda: ZeroPadding2D((0, 0)), (2, 3, 1)),
    (lambda: UpSampling2D(), (2, 3, 4)),
    (lambda: UpSampling2D((3, 1)), (2, 3, 17)),
    (lambda: Reshape((-1, 2)), (2, 3, 4)),
    (lambda: Reshape([2, -1, 1]), (24,)),
    (lambda: Rescaling(-2.5, offset=1), (2, 3, 4)),
    (lambda: Permute((2, 1)), (2, 5)),
    (lambda: Permute((3, 1, 2)), (2, 3, 17)),
    (lambda: Cropping2D(), (3, 4, 2)),
    (lambda: Cropping2D(((1, 0), (0, 2))), (3, 5, 17)),
    (lambda: Elementwise("erf"), (3, 4, 5)),
    (lambda: Elementwise("abs"), (9,)),
    (lambda: Elementwise("sinh"), (2, 3)),
    (lambda: Constant((2, 3)), (3, 4, 5)),
    (lambda: SpatialDropout2D(0.5), (2, 3, 4)),
    (lambda: while_training(SpatialDropout2D(0.4)), (2, 3, 4)),
    (lambda: StochasticDepth(0.5), (2, 3, 4)),
    (lambda: while_training(StochasticDepth(0.4)), (7,)),
    (lambda: Capsules(3, 4), (7, 5)),
    (lambda: Capsules(17, 3, routings=2), (2, 8)),
    (lambda: Capsules(1, 1, routings=1), (1, 1)),
    (lambda: Capsules(2, 16, routings=4), (150, 3)),                # more input capsules than a unit of the kernel has
    (lambda: CapsuleLength(), (5, 3)),
    (lambda: InputLayer(3, (2, 4)), (12,)),
    (lambda: InputLayer(0, (5,)), (5,)),
]
LAYERS_TO_CHECK += [
    (lambda: Conv2D(3, 3, use_bias=False, activation="relu"), (6, 7, 2)),
    (lambda: Conv2D(4, (3, 2), strides=(2, 1), padding="same", dilation_rate=(1, 3), groups=2), (7, 6, 6)),
    (lambda: Conv2D(6, 2, groups=2, dilation_rate=2, use_bias=False, activation="softmax"), (5, 4, 2)),
    (lambda: Dense(4, use_bias=False), (7,)),
    (lambda: Dense(3, activation="sigmoid"), (5,)),
    (lambda: DepthwiseConv2D(3), (5, 6, 17)),
    (lambda: DepthwiseConv2D((3, 2), strides=(2, 1), padding="same", depth_multiplier=2), (7, 6, 3)),
    (lambda: DepthwiseConv2D(2, dilation_rate=(2, 3), use_bias=False, activation="relu"), (5, 6, 2)),
    (lambda: SeparableConv2D(4, 3), (5, 6, 3)),
    (lambda: SeparableConv2D(17, 2, strides=2, padding="same", depth_multiplier=3, use_bias=False), (4, 5, 2)),
    (lambda: SeparableConv2D(2, (1, 3), dilation_rate=2, padding="same", activation="tanh"), (3, 4, 2))]
each_engine = pytest.mark.parametrize("engine", ENGINES)


def built(make, shape, dtype=np.float32, engine="fast"):
    """Return a layer ready for inputs of this shape, its biases other than 0."""
    layer = make()
    layer.configure(dtype, engine, seed=3, index=2)
    layer.build(shape)
    for parameter in layer.parameters:
        if parameter.name in ("bias", "gamma", "beta"):
            parameter.value[...] = normals(4, parameter.value.shape, dtype)
    for statistic in layer.statistics:
        statistic.value[...] = 0.5 + normals(6, statistic.value.shape, dtype) ** 2
    return layer


def batch(layer, n, seed=0):
    """Return (x, dy) for a built layer: no number of x is near a kink or equals another."""
    return (separated(seed, (n, *layer.input_shape), layer.dtype),
            normals(seed + 1, (n, *layer.output_shape), layer.dtype))


def passed(layer, x, dy):
    """Return copies of y, dx and the parameters' gradients of one pass forward and one backward."""
    y = layer.forward(x).copy()
    dx = layer.backward(dy)
    return [y, dx.copy(), *(p.grad.copy() for p in layer.parameters)]


def read_only(array):
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def unaligned(array):
    memory = np.zeros(array.nbytes + 1, np.uint8)[1:]
    copy = memory.view(array.dtype).reshape(array.shape)
    copy[...] = array
    assert not copy.flags.aligned
    return copy
