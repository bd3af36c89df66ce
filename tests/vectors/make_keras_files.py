"""Freeze files that Keras 3 and Keras 2 write, with what Keras computes from them, into `keras_files.zip`; and check in Keras
the files that minicnn writes.

Run by hand from the root of the checkout, in an environment with Keras 3 on TensorFlow, h5py, safetensors, NumPy and, to make
them, tf_keras, which is Keras 2; minicnn is not needed there (last run with keras 3.15.1, tf_keras 2.21.0, tensorflow 2.21.0):

    python tests/vectors/make_keras_files.py make               # writes keras_files.zip
    python -m tests.vectors.written_for_keras FOLDER            # where minicnn is: writes networks, and what it predicts
    python tests/vectors/make_keras_files.py check FOLDER       # loads them in Keras: predictions, weights, training

The archive holds files as Keras wrote them, packed, and expected.safetensors: for each network x/NAME/i, y/NAME/i, and
losses/NAME, those of three more steps of training on x and t/NAME/i.
"""

import json
import os

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", TF_ENABLE_ONEDNN_OPTS="0", KERAS_BACKEND="tensorflow", CUDA_VISIBLE_DEVICES="")

import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

import keras
import numpy as np
from safetensors.numpy import load_file, save_file

HERE = Path(__file__).resolve().parent


def sequential(keras):
    """Return a chain of layers with weights of every kind, compiled."""
    L = keras.layers
    model = keras.Sequential([
        L.Input((10, 10, 2)), L.Conv2D(4, 3, activation="relu", name="first"), L.BatchNormalization(),
        L.DepthwiseConv2D(3, depth_multiplier=2, padding="same", activation="relu6"), L.SeparableConv2D(5, 3, activation="swish"),
        L.BatchNormalization(scale=False, epsilon=1e-5), L.Conv2D(4, 3, strides=2, padding="same", use_bias=False, name="last_conv"),
        L.MaxPooling2D(2, padding="same"), L.Flatten(), L.Dense(6), L.LeakyReLU(0.1), L.LayerNormalization(), L.Dropout(0.0),
        L.Dense(1, activation="sigmoid")])
    model.compile(keras.optimizers.Adam(1e-2), loss="binary_crossentropy")
    return model


def graph(keras):
    """Return a graph of two inputs, two outputs, and models in it, compiled."""
    L = keras.layers
    image, age = L.Input((9, 9, 3), name="image"), L.Input((3,), name="age")
    inner = L.Input((7, 7, 4))
    body = L.Conv2D(4, 3, padding="same", use_bias=False)(inner)
    body = L.BatchNormalization()(body)
    block = keras.Model(inner, L.Add()([L.ReLU()(body), L.Conv2D(4, 1)(inner)]), name="block")
    head = keras.Sequential([L.Input((3,)), L.Dense(4, activation="tanh"), L.BatchNormalization(), L.Dense(2)], name="head")
    x = L.Conv2D(4, 3, name="stem")(image)
    x = block(x)
    scale = L.Dense(4, activation="sigmoid")(L.GlobalAveragePooling2D()(x))
    x = L.Multiply()([x, L.Reshape((1, 1, 4))(scale)])
    x = L.Concatenate()([L.GlobalMaxPooling2D()(x), L.GlobalAveragePooling2D()(x), head(age)])
    model = keras.Model([image, age], [L.Dense(1, activation="sigmoid", name="covid")(x),
                                       L.Dense(3, activation="softmax", name="place")(x)])
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
                  loss={"covid": "binary_crossentropy", "place": "categorical_crossentropy"},
                  loss_weights={"covid": 1.0, "place": 0.5})
    return model


def every_layer(keras):
    """Return a model with an output for each layer that computes without weights, and each activation."""
    L = keras.layers
    x = L.Input((6, 7, 2), name="x")
    a, b = L.Conv2D(2, 1, name="a")(x), L.Conv2D(2, 1, name="b")(x)
    names = ["relu", "relu6", "leaky_relu", "elu", "selu", "sigmoid", "tanh", "softmax", "silu", "softplus", "exponential",
             "hard_sigmoid", "gelu", "hard_silu", "mish", "linear"]
    names = names if keras.__version__[0] == "3" else [name for name in names if name not in ("hard_silu", "mish")]
    ys = [L.Activation(name, name=f"activation_{name}")(a) for name in names]
    ys += [L.Conv2D(2, 1, activation="leaky_relu", name="fused_leaky")(x), L.Conv2D(2, 1, activation="gelu", name="fused_gelu")(x)]
    ys += [layer(a) for layer in (
        L.ReLU(max_value=0.5), L.ReLU(negative_slope=0.3), L.LeakyReLU(), L.ELU(0.5), L.Softmax(), L.Rescaling(2.0, 0.5),
        L.ZeroPadding2D(((0, 1), (2, 3))), L.Cropping2D(((1, 0), (2, 1))), L.UpSampling2D((2, 3)), L.Permute((3, 1, 2)),
        L.Reshape((7, -1, 3)), L.MaxPooling2D((3, 2), strides=(2, 1), padding="same"), L.AveragePooling2D(3, strides=2, padding="same"),
        L.GlobalAveragePooling2D(keepdims=True), L.GlobalMaxPooling2D(), L.Flatten(), L.SpatialDropout2D(0.3), L.Dropout(0.2))]
    ys += [layer([a, b]) for layer in (L.Add(), L.Multiply(), L.Subtract(), L.Maximum(), L.Minimum(), L.Average(), L.Concatenate())]
    ys += [L.Maximum(name="of_three")([a, b, x]), L.Average(name="mean_of_three")([a, b, x]),
           L.Conv2D(4, (3, 2), dilation_rate=(2, 1), padding="same", name="dilated")(x), L.Conv2D(4, 3, groups=2, name="grouped")(x),
           L.BatchNormalization(center=False, name="uncentred")(a), L.LayerNormalization(scale=False, name="unscaled")(a)]
    ys = [y if len(y.shape) == 2 else L.Flatten(name=f"flat_{i}")(y) for i, y in enumerate(ys)]
    known = L.Normalization(name="known")
    known.adapt(coarse(np.arange(48).reshape(2, 6, 2, 2) / 7))
    ys.append(L.Flatten(name="normalized")(known(x)))
    if keras.__version__[0] == "3":             # operations, and no layers
        ys += [L.Flatten(name="sum")(a + b), L.Flatten(name="product")(a * x), L.Flatten(name="largest")(keras.ops.maximum(a, b))]
    return keras.Model(x, ys)


def twelve(keras):
    """Return 12 convolutions of one shape in a row: their numbers sort as numbers, or predictions differ."""
    L = keras.layers
    return keras.Sequential([L.Input((4, 4, 2)), *(L.Conv2D(2, 3, padding="same") for _ in range(12))])


NETWORKS = {"sequential": sequential, "graph": graph, "every_layer": every_layer, "twelve": twelve}


def drawn(model, name):
    """Give a model weights of its own, positive where they are variances; return inputs and targets."""
    rng = np.random.default_rng(len(name))
    for w in model.weights:
        path = (getattr(w, "path", None) or w.name).partition(":")[0]
        if path.rpartition("/")[2] not in ("mean", "variance", "count"):        # of Normalization
            w.assign(coarse(0.5 + rng.random(w.shape) if "variance" in path else rng.normal(size=w.shape) * 0.5))
    xs = [coarse(rng.random((3, *x.shape[1:]))) for x in model.inputs]
    ts = [np.eye(y.shape[-1], dtype=np.float32)[rng.integers(0, y.shape[-1], 3)] if y.shape[-1] > 1
          else rng.integers(0, 2, (3, 1)).astype(np.float32) for y in model.outputs]
    return xs, ts


def coarse(array):
    """Return float32 of 8 bits each, which pack well."""
    return np.asarray(np.round(np.asarray(array) * 128) / 128, np.float32)


def listed(value):
    return list(value) if isinstance(value, (list, tuple)) else [value]


def make():
    """Write keras_files.zip."""
    import tf_keras         # to check needs Keras 3 alone
    expected, files = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for library, version in ((keras, "keras3"), (tf_keras, "keras2")):
            for network, define in NETWORKS.items():
                library.backend.clear_session()          # names are numbered from the start
                library.utils.set_random_seed(1)
                model, name = define(library), f"{version}_{network}"
                xs, ts = drawn(model, network)
                suffixes = [".keras", ".weights.h5", ".h5"] if network in ("sequential", "graph") else [".keras"]
                suffixes = [".weights.h5"] if network == "twelve" else suffixes
                for suffix in suffixes:
                    path = f"{folder}/{name}{suffix}"
                    model.save_weights(path) if "weights" in suffix else model.save(path)
                    files[f"{name}{suffix}"] = path
                if version == "keras2" and network != "twelve":
                    model.save_weights(f"{folder}/{name}_notop.h5")
                    files[f"{name}_notop.h5"] = f"{folder}/{name}_notop.h5"
                given = xs if len(xs) > 1 else xs[0]
                expected |= {f"x/{name}/{i}": x for i, x in enumerate(xs)}
                expected |= {f"y/{name}/{i}": np.asarray(y) for i, y in enumerate(listed(model.predict_on_batch(given)))}
                if getattr(model, "optimizer", None):
                    expected |= {f"t/{name}/{i}": t for i, t in enumerate(ts)}
                    steps = [listed(model.train_on_batch(given, ts if len(ts) > 1 else ts[0]))[0] for _ in range(3)]
                    expected[f"losses/{name}"] = np.asarray(steps, np.float64)
        policy = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2, dtype="bfloat16"), keras.layers.Dense(2, dtype="float16")])
        xs, _ = drawn(policy, "short")
        policy.save(f"{folder}/keras3_short.keras")
        files["keras3_short.keras"] = f"{folder}/keras3_short.keras"
        expected |= {"x/keras3_short/0": xs[0], "y/keras3_short/0": np.asarray(policy.predict_on_batch(xs[0]), np.float32)}
        save_file({key: np.ascontiguousarray(value) for key, value in expected.items()}, f"{folder}/expected.safetensors",
                  {"versions": f"keras {keras.__version__}, tf_keras {tf_keras.__version__}"})
        files["expected.safetensors"] = f"{folder}/expected.safetensors"
        with zipfile.ZipFile(HERE / "keras_files.zip", "w", zipfile.ZIP_LZMA) as archive:
            for name, path in files.items():
                archive.writestr(zipfile.ZipInfo(name), Path(path).read_bytes(), zipfile.ZIP_LZMA)
    print(f"keras_files.zip: {len(files)} files, {(HERE / 'keras_files.zip').stat().st_size:,} bytes")


def check(folder):
    """Load what minicnn wrote to a folder in Keras, and compare."""
    failed = 0
    for path in sorted(Path(folder).glob("*.keras")):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = keras.models.load_model(path)
        told = [str(one.message)[:200] for one in caught if "Skipping" in str(one.message) or "weights" in str(one.message)]
        expected = load_file(path.with_suffix(".safetensors"))
        xs = [expected[f"x/{i}"] for i in range(len(model.inputs))]
        given = xs if len(xs) > 1 else xs[0]
        off = max(float(np.abs(y - expected[f"y/{i}"]).max()) for i, y in enumerate(listed(model.predict(given, verbose=0))))
        # The same network, with weights of its own, takes those of the weights file.
        other = keras.models.model_from_json(model.to_json())
        other.load_weights(path.with_suffix(".weights.h5"))
        same = all(np.array_equal(a, b) for a, b in zip(model.get_weights(), other.get_weights()))
        # Keras orders the layers of a graph by itself: where weights lie depends on it.
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))["config"]
        written = [layer["config"]["name"] for layer in config["layers"] if "inbound_nodes" in layer or layer["class_name"] != "InputLayer"]
        fine, losses = off <= 1e-5 and same and not told and [layer.name for layer in model.layers] == written, ""
        if "losses" in expected:
            ts = [expected[f"t/{i}"] for i in range(len(model.outputs))]
            steps = [float(listed(model.train_on_batch(given, ts if len(ts) > 1 else ts[0]))[0]) for _ in range(3)]
            worst = float(np.abs(np.array(steps) / expected["losses"] - 1).max())
            losses, fine = f", three losses to {worst:.1e}", fine and worst <= 1e-4
        failed += not fine
        print(f"{'ok  ' if fine else 'FAIL'} {path.stem}: off by {off:.1e}, weights {'equal' if same else 'DIFFER'}{losses} {told or ''}")
    raise SystemExit(failed)


if __name__ == "__main__":
    make() if sys.argv[1:] == ["make"] else check(sys.argv[2])
