"""Networks that are moved to other tools and back: every layer in its forms, alone and in company, and graphs."""

import numpy as np

from minicnn import (ELU, Add, AveragePool2D, BatchNormalization, Concatenate, Conv2D, Dense, DepthwiseConv2D, Dropout, Flatten,
                     GlobalAveragePooling2D, GlobalMaxPooling2D, Input, LayerNormalization, LeakyReLU, MaxPool2D, Model, Multiply,
                     ReLU, Rescaling, Reshape, Residual, SeparableConv2D, Sequential, Sigmoid, Softmax, Softplus, SpatialDropout2D,
                     StochasticDepth, Swish, Tanh, UpSampling2D, ZeroPadding2D)
from minicnn.layers import Constant, Cropping2D, Elementwise, ElementwisePair, Permute
from minicnn.reference.elementwise import FUNCTIONS, PAIRS

__all__ = ["chains", "graphs", "filled"]

SAME = {"padding": "same"}
# (layers, the shape of their input)
CHAINS = [
    ([Conv2D(3, 3)], (6, 7, 2)), ([Conv2D(3, 3, **SAME)], (6, 7, 2)), ([Conv2D(3, 3, strides=2, **SAME)], (6, 7, 2)),
    ([Conv2D(3, (2, 4), **SAME, activation="relu")], (6, 7, 2)), ([Conv2D(5, 1, strides=3, use_bias=False)], (7, 9, 3)),
    ([Conv2D(4, (3, 2), strides=(2, 1), dilation_rate=(1, 3), groups=2, **SAME)], (7, 6, 6)),
    ([DepthwiseConv2D((3, 2), strides=(2, 1), depth_multiplier=2, **SAME)], (7, 6, 3)),
    ([DepthwiseConv2D(2, dilation_rate=(2, 3), use_bias=False, activation="relu")], (5, 6, 2)),
    ([SeparableConv2D(4, 3, depth_multiplier=3)], (5, 6, 2)),
    ([SeparableConv2D(4, 2, strides=2, use_bias=False, **SAME), ReLU()], (4, 5, 3)),
    ([MaxPool2D()], (5, 4, 3)), ([MaxPool2D(3, strides=2, **SAME)], (7, 8, 3)),
    ([MaxPool2D((2, 3), strides=(3, 1), **SAME)], (7, 5, 2)),
    ([AveragePool2D((2, 3), strides=1)], (5, 4, 3)), ([AveragePool2D(3, strides=1, **SAME)], (6, 5, 3)),
    ([AveragePool2D((4, 3), strides=(1, 2), **SAME)], (6, 6, 3)),
    ([GlobalAveragePooling2D()], (3, 4, 5)), ([GlobalAveragePooling2D(keepdims=True)], (3, 4, 5)),
    ([GlobalMaxPooling2D()], (3, 4, 5)),
    ([GlobalMaxPooling2D(keepdims=True), Flatten(), Dense(2)], (3, 4, 5)),
    ([ZeroPadding2D(((0, 1), (3, 2)))], (2, 3, 4)), ([Cropping2D(((1, 0), (2, 1)))], (4, 6, 2)), ([Cropping2D((0, 1))], (4, 6, 2)),
    ([UpSampling2D((3, 2))], (2, 3, 4)), ([UpSampling2D(49)], (1, 2, 1)), ([Rescaling(-2.5, offset=1)], (2, 3, 4)),
    ([Permute((3, 1, 2))], (2, 3, 4)), ([Permute((2, 1, 3)), Conv2D(2, 2)], (3, 4, 2)), ([Permute((2, 1))], (3, 4)),
    ([Permute((1, 2, 3))], (2, 3, 4)), ([Permute((1,))], (3,)), ([Flatten(), Permute((1,)), Dense(2)], (2, 3, 4)),
    ([Permute((2, 4, 1, 3))], (2, 3, 4, 5)),
    ([Reshape((3, 8))], (2, 3, 4)), ([Reshape((4, 2, 3))], (2, 3, 4)), ([Reshape((4, 2, 3))], (24,)), ([Reshape((6, 2, 2))], (4, 6)),
    ([Reshape((1, 1, 24)), Conv2D(2, 1)], (24,)), ([Flatten(), Reshape((2, 3, 4)), Conv2D(2, 2)], (2, 3, 4)),
    ([Flatten(), Reshape((4, 3, 2)), Conv2D(2, 2)], (2, 3, 4)), ([Flatten()], (2, 3, 4)), ([Flatten(), Flatten()], (2, 3)),
    ([Flatten(), Reshape((4, 6))], (2, 3, 4)), ([Flatten()], (2, 3, 1)),
    ([Dense(7), ReLU(), Dense(24), LeakyReLU(0.1), Reshape((2, 4, 3)), Conv2D(2, 2)], (5,)),
    ([Dense(12, use_bias=False), BatchNormalization(), Reshape((2, 2, 3)), Flatten(), Dense(2)], (3,)),
    ([Conv2D(3, 2), Flatten(), ReLU(), Dropout(0.5), BatchNormalization(), LayerNormalization(epsilon=1e-5), Dense(4), Sigmoid()],
     (4, 6, 2)),
    ([Flatten(), StochasticDepth(0.5), Dense(3, use_bias=False)], (3, 2, 4)), ([Flatten(), Constant((24,)), Dense(2)], (2, 3, 4)),
    ([BatchNormalization()], (4, 5, 3)), ([BatchNormalization(scale=False, momentum=0.9, epsilon=1e-5)], (4, 5, 3)),
    ([BatchNormalization(center=False)], (3,)), ([BatchNormalization(center=False, scale=False)], (4, 3)),
    ([BatchNormalization()], (2, 3, 4, 5)), ([LayerNormalization()], (4, 5, 3)), ([LayerNormalization(scale=False)], (2, 5)),
    ([LayerNormalization(center=False, epsilon=1e-5)], (7,)), ([LayerNormalization(center=False, scale=False)], (2, 3, 4)),
    ([Conv2D(3, 2), BatchNormalization(), ReLU(6)], (4, 5, 2)), ([ReLU(0.3)], (3, 4, 5)), ([LeakyReLU()], (9,)), ([ELU()], (9,)),
    ([ELU(0.5)], (3, 4, 5)), ([Swish(), Softplus(), Tanh()], (3, 4, 5)), ([Softmax()], (2, 3, 4)), ([Softmax()], (3, 4)),
    ([Softmax()], (7,)), ([Dropout(0.5), SpatialDropout2D(0.3), StochasticDepth(0.2), ReLU()], (2, 3, 4)), ([Constant((3, 2, 4))], (5,)),
    ([Constant((3, 2))], (2, 3, 4)), ([Constant((1, 2, 3)), Flatten(), Dense(3)], (5,)),
]
# Of numbers between 0.2 and 0.9 in the domains of all functions.
CHAINS += [([Rescaling(1, offset=1), Elementwise("acosh")] if function == "acosh" else [Elementwise(function)], (3, 4, 2))
           for function in FUNCTIONS]


def chains(**options):
    """Return {name: Sequential}, one for each of CHAINS, as new layers."""
    return {f"{i}: {', '.join(map(repr, layers))}": filled(Sequential([type(layer)(**_arguments(layer)) for layer in layers], shape,
                                                                     seed=i, **options), i)
            for i, (layers, shape) in enumerate(CHAINS)}


def _arguments(layer):
    return {field: getattr(layer, field) for field in layer.fields}


def graphs(**options):
    """Return {name: Model}: branches, merges, several inputs and outputs, names that are odd, in float64 too."""
    return {name: filled(make(options), i) for i, (name, make) in enumerate(GRAPHS.items(), 100)}


def filled(model, seed):
    """Give a model weights none of which is the 0 or 1 that it begins with; variances are positive. Return it."""
    rng = np.random.default_rng(seed)
    model.set_weights([np.abs(w) + 0.5 if weight.name == "moving_variance" else rng.normal(0, 0.5, w.shape)
                       for w, weight in zip(model.get_weights(), model.weights)])
    return model


def _two_outputs(options):
    x = Input((7, 8, 3))
    y = Conv2D(4, 3, strides=2, activation="relu", **SAME)(x)
    z = Residual([Conv2D(4, 3, **SAME), BatchNormalization(scale=False), ReLU(6)], name="block.a")(BatchNormalization()(y))
    z = Multiply()([z, Reshape((1, 1, 4))(Dense(4, activation="sigmoid", name="1x1-weights")(GlobalAveragePooling2D()(z)))])
    flat = Flatten(name="forward")(z)
    g = Concatenate()([Flatten(name="x")(MaxPool2D(2, **SAME)(y)), flat, GlobalMaxPooling2D()(z)])
    g = Dropout(0.5)(BatchNormalization()(g))
    return Model(x, [Dense(3, activation="softmax", name="type")(g), Reshape((4, 5, 2))(Dense(40)(flat)), flat, z], **options)


def _two_inputs(options):
    image, age = Input((5, 6, 2), name="image"), Input((3,), name="class")
    y = SeparableConv2D(4, 3, name="sep")(image)
    y = Concatenate()([y, y, Conv2D(1, 1)(Cropping2D(1)(image))])
    row = Concatenate()([Flatten()(y), Dense(5, activation="tanh")(age)])
    return Model([image, age], [Dense(2)(row), Add()([Dense(1)(row), Dense(1)(age), Dense(1, activation="elu")(age)])], **options)


def _pairs(options):
    x = Input((4, 5, 3))
    a, b = Conv2D(3, 3, activation="softplus", **SAME)(x), Conv2D(3, 1, activation="softplus")(x)
    weights = Softplus()(GlobalMaxPooling2D(keepdims=True)(a))
    made = [ElementwisePair(function)([a, other]) for function in PAIRS for other in (b, weights)]
    return Model(x, [Concatenate()([*made, Constant((4, 5, 2))(a)]), Flatten()(a)], **options)


def _rows(options):
    x = Input((3, 4, 2))
    flat = Flatten()(x)
    gate = Sigmoid()(Dense(24)(flat))               # in the order of the row that it weighs
    one = Dense(1)(flat)
    y = Multiply()([ElementwisePair("maximum")([Multiply()([flat, gate]), Flatten()(Conv2D(2, 3, **SAME)(x))]), one])
    return Model(x, [Dense(3)(y), Reshape((3, 4, 2))(Add()([y, Constant((24,))(one)])), Reshape((4, 6))(y)], **options)


def _wide(options):
    x = Input((3, 3, 2))
    y = Add()([x, Conv2D(2, 3, **SAME)(ReLU()(x))])
    return Model(x, Add()([Concatenate()([y, x]), Conv2D(4, 1)(y), Conv2D(4, 1)(x)]), dtype="float64", **options)


GRAPHS = {"two outputs": _two_outputs, "two inputs": _two_inputs, "pairs": _pairs, "rows": _rows, "float64": _wide}
