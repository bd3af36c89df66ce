"""Write networks for Keras, with what minicnn computes from them; `make_keras_files.py check` loads them there.

    python -m tests.vectors.written_for_keras FOLDER
"""

import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from benchmarks.networks import NETWORKS
from minicnn import (SGD, Adam, AdamW, Add, AveragePool2D, BatchNormalization, BinaryCrossentropy, Concatenate, Conv2D, Dense,
                     DepthwiseConv2D, Dropout, ELU, Flatten, GlobalAveragePooling2D, GlobalMaxPooling2D, Input, L2,
                     LayerNormalization, LeakyReLU, MaxPool2D, Model, Multiply, ReLU, Rescaling, Reshape, Residual, RMSprop,
                     SeparableConv2D, Sequential, Sigmoid, Softmax, Softplus, SpatialDropout2D, Swish, Tanh, UpSampling2D,
                     ZeroPadding2D)
from minicnn.interop import keras
from minicnn.layers import Cropping2D, Elementwise, ElementwisePair, Permute


def two_outputs():
    """Return a graph of two inputs and two outputs, with a block and a frozen layer, compiled."""
    image, age = Input((9, 9, 2), "image"), Input((3,), "age")
    x = Conv2D(4, 3, activation="relu", kernel_regularizer=L2(0.01))(image)
    x = Residual([Conv2D(4, 3, padding="same", use_bias=False), BatchNormalization(), ReLU()], name="block")(x)
    x = Residual([SeparableConv2D(6, 3, padding="same", activation="swish")], [Conv2D(6, 1)])(x)
    frozen = Dense(2, name="frozen")
    frozen.trainable = False
    x = Concatenate()([GlobalAveragePooling2D()(x), GlobalMaxPooling2D()(x), frozen(age)])
    model = Model([image, age], [Dense(1, activation="sigmoid", name="covid")(x), Dense(3, activation="softmax", name="place")(x)])
    model.compile(Adam(1e-3, amsgrad=True), {"covid": "binary_crossentropy", "place": "categorical_crossentropy"},
                  loss_weights=[1, 0.3])
    return model


def every_layer():
    """Return a model with an output for each layer that Keras has too."""
    x = Input((6, 7, 2))
    a, b = Conv2D(2, 1, name="a")(x), Conv2D(2, 1, name="b")(x)
    ys = [layer(a) for layer in (
        ReLU(), ReLU(0.5), LeakyReLU(0.1), ELU(0.5), Swish(), Softplus(), Sigmoid(), Tanh(), Softmax(), Rescaling(2, 0.5),
        Elementwise("exp"), ZeroPadding2D(((0, 1), (2, 3))), Cropping2D(((1, 0), (2, 1))), UpSampling2D((2, 3)), Permute((3, 1, 2)),
        Reshape((7, -1, 3)), MaxPool2D((3, 2), strides=(2, 1), padding="same"), AveragePool2D(3, strides=2, padding="same"),
        GlobalAveragePooling2D(True), GlobalMaxPooling2D(), Flatten(), SpatialDropout2D(0.3), Dropout(0.2),
        BatchNormalization(center=False), BatchNormalization(scale=False, momentum=0.9, epsilon=1e-4), LayerNormalization(),
        DepthwiseConv2D(3, depth_multiplier=2, strides=2), SeparableConv2D(3, 2, depth_multiplier=2, use_bias=False),
        Conv2D(4, (3, 2), dilation_rate=(2, 1), padding="same", activation="leaky_relu"), Conv2D(4, 3, groups=2, activation="elu"),
        *(DepthwiseConv2D(1, activation=name) for name in ("relu", "sigmoid", "tanh", "softmax", "swish", "softplus")))]
    ys += [layer([a, b]) for layer in (Add(), Multiply(), Concatenate(), *map(ElementwisePair, ("maximum", "minimum", "subtract")))]
    return Model(x, [y if len(y.shape) == 2 else Flatten()(y) for y in ys])


def branches():
    """Return a graph whose layers Keras orders by their depth: long and short ways, from several outputs."""
    x = Input((8, 8, 2))
    long = x
    for _ in range(3):
        long = Conv2D(3, 3, padding="same", activation="relu")(long)
    short = Conv2D(3, 3, padding="same")(x)
    both = Add()([short, long])
    early = Conv2D(3, 1)(short)
    x = Add()([both, early, Conv2D(3, 1)(x)])
    return Model(x.sources[2].sources[0], [Flatten()(Conv2D(1, 1)(early)), Flatten()(Conv2D(1, 1)(x)), Flatten()(short)])


def of_benchmarks(network):
    """Return a network of the benchmarks as a model."""
    nodes = []
    from minicnn import layers
    for array in network.arrays:
        taken = [nodes[source.place] for source in array.sources]
        nodes.append(Input(array.shape) if array.kind == "Input" else
                     getattr(layers, array.kind)(**array.arguments)(taken if len(taken) > 1 else taken[0]))
    return Model(nodes[0], nodes[-1])


def chain(optimizer, loss="binary_crossentropy"):
    """Return a compiled chain that has trained for some steps."""
    layers = [Conv2D(4, 3, activation="relu"), BatchNormalization(), MaxPool2D(2), Flatten(), Dense(5), Tanh()]
    layers += [Dense(1), Sigmoid()] if "binary" in getattr(loss, "name", loss) else [Dense(2)]
    model = Sequential(layers, input_shape=(8, 8, 1))
    model.compile(optimizer, loss)
    return model


def networks():
    """Yield (name, model)."""
    yield "two_outputs", two_outputs()
    yield "every_layer", every_layer()
    yield "branches", branches()
    yield "adam", chain(Adam(3e-3, clipnorm=1.0))
    yield "adamw", chain(AdamW(3e-3, weight_decay=0.05), "mean_squared_error")
    yield "sgd", chain(SGD(0.05, momentum=0.9, nesterov=True), BinaryCrossentropy(0.1))
    yield "rmsprop", chain(RMSprop(1e-3, momentum=0.5))
    for name, network in NETWORKS.items():
        if network.input_shape[0] <= 65:
            yield "".join(c if c.isalnum() else "_" for c in name), of_benchmarks(network)


def write(folder):
    for name, model in networks():
        rng = np.random.default_rng(len(name))
        model.set_weights([0.5 + rng.random(w.shape) if key.endswith("variance") else w + 0.05 * rng.normal(size=w.shape)
                           for (key, _), w in zip(model.network.weights(), model.get_weights())])
        shapes = model.input_shape if model.input_names else [model.input_shape]
        xs = [rng.random((4, *shape), np.float32) for shape in shapes]
        given = xs if len(xs) > 1 else xs[0]
        if model.optimizer is not None:
            shapes = model.output_shape if model.output_names else [model.output_shape]
            ts = [np.eye(n, dtype=np.float32)[rng.integers(0, n, 4)] if n > 1 else rng.integers(0, 2, (4, 1)).astype(np.float32)
                  for n, in shapes]
            targets = ts if len(ts) > 1 else ts[0]
            for _ in range(2):          # the optimizer remembers something
                model.train_on_batch(given, targets)
        keras.save(model, folder / f"{name}.keras")
        keras.save_weights(model, folder / f"{name}.weights.h5")
        ys = model.predict(given)
        found = {f"x/{i}": x for i, x in enumerate(xs)} | {f"y/{i}": y for i, y in enumerate(ys if isinstance(ys, list) else [ys])}
        if model.optimizer is not None:
            found |= {f"t/{i}": t for i, t in enumerate(ts)}
            found["losses"] = np.array([model.train_on_batch(given, targets) for _ in range(3)])
        save_file({key: np.ascontiguousarray(value) for key, value in found.items()}, folder / f"{name}.safetensors")
        print(name)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    write(folder)
