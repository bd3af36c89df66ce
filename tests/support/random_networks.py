"""Random correct networks of 2 to 6 layers of all kinds, on both engines, every third with many ties in its images; and a
custom layer that contains layers of minicnn.
"""

import numpy as np

from minicnn import (ELU, Add, AveragePool2D, BatchNormalization, Concatenate, Conv2D, Dense, DepthwiseConv2D, Dropout,
                     Flatten, GlobalAveragePooling2D, GlobalMaxPooling2D, Input, LayerNormalization, LeakyReLU,
                     MaxPool2D, Model, Multiply, ReLU, Rescaling, Reshape, Residual, SeparableConv2D, Sequential,
                     ShapeError, Sigmoid, Softmax, Softplus, SpatialDropout2D, Swish, Tanh, UpSampling2D, ZeroPadding2D)
from minicnn.core.backend import ENGINES

__all__ = ["random_case", "random_graph", "flat_images", "Block"]


def random_case(number):
    """Return (model in float64, x), determined by the number."""
    rng = np.random.default_rng([5, number])
    while True:
        layers, shape = _layers(rng), (int(rng.integers(3, 8)), int(rng.integers(3, 8)), int(rng.integers(1, 4)))
        try:
            model = Sequential(layers, shape, seed=number, dtype="float64", engine=ENGINES[number % 2])
        except ShapeError:
            continue            # an image too small for its windows
        if any(layer.parameters for layer in model.layers) and sum(w.size for w in model.get_weights()) <= 250:
            break
    x = rng.random((int(rng.integers(2, 4)), *shape))
    if number % 3 == 0:
        x = flat_images(rng, x)
        # Weights are multiples of 1/16, so that sums are equal, or exactly 0.
        model.set_weights([np.round(16 * (w + (w == 0) * rng.normal(0, 0.3, w.shape))) / 16
                           for w in model.get_weights()])
    return model, x


def random_graph(number, engine=None):
    """Return (graph in float64, x), determined by the number: branches, merges, and all layers; of every third two outputs,
    of every fifth two inputs, for which x is a list."""
    rng = np.random.default_rng([6, number])
    C = int(rng.integers(1, 4))
    x = Input((int(rng.integers(4, 8)), int(rng.integers(4, 8)), C))
    nodes = [x]
    for _ in range(int(rng.integers(3, 9))):
        node = nodes[rng.integers(max(0, len(nodes) - 3), len(nodes))]
        alike = [other for other in nodes if other is not node and other.shape == node.shape]
        beside = [other for other in nodes if other is not node and other.shape[:-1] == node.shape[:-1]]
        draw = rng.random()
        if draw < 0.35 and alike:
            products = sum(isinstance(one.layer, Multiply) for one in nodes)        # of many, the sigmoid is flat
            nodes.append(rng.choice([Add, Multiply] if products < 2 else [Add])()([node, alike[rng.integers(len(alike))]]))
        elif draw < 0.45 and beside:
            nodes.append(Concatenate()([node, beside[rng.integers(len(beside))]]))
        elif draw < 0.55:
            nodes.append(Residual([Conv2D(node.shape[-1], 3, padding="same"), BatchNormalization(), ReLU()])(node))
        elif draw < 0.60:       # channels weighed by what all positions say
            weights = Sigmoid()(Dense(node.shape[-1])(GlobalAveragePooling2D()(node)))
            nodes.append(Multiply()([node, Reshape((1, 1, node.shape[-1]))(weights)]))
        else:
            nodes.append(rng.choice(_KEEPING)(rng)(node) if draw < 0.9 else rng.choice(_RESIZING)(rng)(node))
    taken = {id(source) for node in nodes for source in node.sources}
    ends = [node for node in nodes if id(node) not in taken]
    rows = [rng.choice([Flatten, GlobalAveragePooling2D, GlobalMaxPooling2D])()(node) for node in ends]
    ages = [Input((3,))] * (number % 5 == 0)
    rows += [Dense(2, activation="tanh")(node) for node in ages]
    y = Concatenate()(rows) if len(rows) > 1 else rows[0]
    outputs = [rng.choice([Sigmoid, Softmax])()(Dense(int(rng.integers(1, 4)))(y))]
    if number % 3 == 0:
        side = GlobalAveragePooling2D()(nodes[rng.integers(len(nodes))])
        outputs.append(rng.choice([Sigmoid, Softmax, Softplus])()(Dense(int(rng.integers(1, 4)))(side)))
    model = Model([x, *ages], outputs, seed=number, dtype="float64", engine=engine or ENGINES[number % 2])
    n = int(rng.integers(2, 4))
    return model, [rng.random((n, *shape)) for shape in model.input_shape] if ages else rng.random((n, *model.input_shape))


_KEEPING = [lambda rng: Conv2D(int(rng.integers(1, 4)), int(rng.integers(1, 4)), padding="same"),
            lambda rng: _activation(rng), lambda rng: MaxPool2D(2, strides=1, padding="same"),
            lambda rng: rng.choice([LeakyReLU, ELU, Swish, Softplus])(), lambda rng: ReLU(max_value=0.5),
            lambda rng: BatchNormalization(), lambda rng: LayerNormalization(), lambda rng: Rescaling(0.5, 0.1),
            lambda rng: SpatialDropout2D(0.3)]
_RESIZING = [lambda rng: UpSampling2D(2), lambda rng: ZeroPadding2D(1), lambda rng: MaxPool2D(2), lambda rng: AveragePool2D(2),
             lambda rng: Conv2D(2, 2, strides=2)]


def flat_images(rng, x):
    """Return images with black borders, constant patches, and multiples of 1/4, which tie."""
    x = np.round(4 * x) / 4
    x[:, :1], x[:, :, -1:] = 0, 0
    row, column = (int(rng.integers(0, size)) for size in x.shape[1:3])
    x[:, row:row + 3, column:column + 3] = rng.integers(0, 5) / 4
    return x


def _layers(rng):
    """Return random layers; the last may be the head of a loss."""
    count = int(rng.integers(2, 7))
    layers = []
    while len(layers) < count:
        if any(isinstance(layer, Flatten) for layer in layers):
            layers.append(rng.choice([_dense, _activation])(rng))
        else:
            layers.append(rng.choice([_convolution, _pooling, _activation, lambda rng: Flatten()])(rng))
    if any(isinstance(layer, Flatten) for layer in layers) and rng.random() < 0.6:
        layers[-1:] = [Dense(int(rng.integers(1, 4))), rng.choice([Sigmoid, Softmax])()]
    return layers


def _padding(rng):
    return str(rng.choice(["valid", "same"]))


def _convolution(rng):
    filters, window = int(rng.integers(1, 4)), tuple(int(k) for k in rng.integers(1, 4, 2))
    options = dict(strides=tuple(int(s) for s in rng.integers(1, 3, 2)), padding=_padding(rng))
    if rng.random() < 0.6:
        return Conv2D(filters, window, **options)
    options |= dict(dilation_rate=tuple(int(d) for d in rng.integers(1, 3, 2)), use_bias=bool(rng.random() < 0.5),
                    activation=str(rng.choice(["linear", "relu", "relu", "leaky_relu"])))
    return [lambda: Conv2D(filters, window, **options), lambda: Conv2D(2 * filters, window, groups=2, **options),
            lambda: DepthwiseConv2D(window, depth_multiplier=min(filters, 2), **options),
            lambda: SeparableConv2D(filters, window, **options)][int(rng.integers(0, 4))]()


def _pooling(rng):
    kind = MaxPool2D if rng.random() < 0.7 else AveragePool2D
    return kind(2) if rng.random() < 0.5 else kind(int(rng.integers(2, 4)), strides=int(rng.integers(1, 3)),
                                                   padding=_padding(rng))


def _dense(rng):
    return Dense(int(rng.integers(1, 6)))


def _activation(rng):
    kind = rng.choice([ReLU, ReLU, ReLU, Sigmoid, Tanh, Softmax, Dropout])
    return kind(0.3) if kind is Dropout else kind()


class Block:
    """A custom layer of two convolutions and dropout.

    Parameters
    ----------
    shape : tuple, the shape of its input and output, without N
    where : "build", or "init" to build the layers too early
    names : bool, whether each parameter gets a unique name
    rate : float, the rate of the dropout
    """

    def __init__(self, shape, where="build", names=True, rate=0.5):
        filters = shape[-1]
        self.where, self.names = where, names
        self.parts = {"first": [Conv2D(filters, 3, padding="same"), Dropout(rate)], "then": Conv2D(filters, 3, padding="same")}
        if where == "init":
            self.build_all(shape)

    def chain(self):
        return *self.parts["first"], self.parts["then"]

    def build_all(self, shape):
        for layer in self.chain():
            shape = layer.build(shape)
        self.parameters = [p for layer in self.chain() for p in layer.parameters]
        for i, parameter in enumerate(self.parameters if self.names else []):
            parameter.name += f"_{i}"
        return shape

    def build(self, shape):
        return self.build_all(shape) if self.where == "build" else shape

    def forward(self, x):
        for layer in self.chain():
            x = layer.forward(x)
        return x

    def backward(self, dy):
        for layer in self.chain()[::-1]:
            dy = layer.backward(dy)
        return dy
