"""Keras files in and out. Files that Keras 2 and 3 wrote, and what they compute from them, are frozen in vectors/keras_files.zip;
that Keras reads what is written here is checked by hand (vectors/make_keras_files.py check)."""

import io
import json
import re
import sys
import warnings
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file

from minicnn import (SGD, Adam, AdamW, BatchNormalization, BinaryCrossentropy, Conv2D, Dense, DepthwiseConv2D, Flatten, Input,
                     LayerNormalization, MaxPool2D, Model, RMSprop, SeparableConv2D, Sequential, Sigmoid, cov19net)
from minicnn.core.untrusted import pack
from minicnn.errors import InputError, MiniCNNError, MissingExtraError, ShapeError, WeightsError
from minicnn.interop import keras
from minicnn.interop.keras import hdf5
from minicnn.layers import Add, Constant, ElementwisePair
from minicnn.layers.nodes import connect
from tests.vectors.written_for_keras import branches, chain, every_layer, two_outputs

ARCHIVE = Path(__file__).parents[1] / "vectors" / "keras_files.zip"
with zipfile.ZipFile(ARCHIVE) as _archive:
    NAMES = [name for name in _archive.namelist() if name.endswith((".keras", ".h5"))]
WHOLE = [name for name in NAMES if not name.endswith((".weights.h5", "_notop.h5"))]


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    """The folder of the files that Keras wrote."""
    folder = tmp_path_factory.mktemp("keras")
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def expected(frozen):
    return load_file(frozen / "expected.safetensors")


def arrays(expected, kind, name):
    """Return the array of this kind for a network, or the list of them."""
    found = [expected[f"{kind}/{name}/{i}"] for i in range(100) if f"{kind}/{name}/{i}" in expected]
    return found if len(found) > 1 else found[0]


def quietly(name, *arguments, **others):
    """Return keras.load(name); what differs in training is no matter here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return keras.load(name, *arguments, **others)


def assert_near(got, wanted, most=1e-5):
    for y, t in zip(got if isinstance(got, list) else [got], wanted if isinstance(wanted, list) else [wanted], strict=True):
        assert y.shape == t.shape and np.abs(y - t).max() <= most


def assert_same(one, other):
    """The same layers under the same names, with the same bits of weights."""
    assert [repr(layer) for layer in one.layers] == [repr(layer) for layer in other.layers]
    assert [layer.name for layer in one.layers] == [layer.name for layer in other.layers]
    assert one.network.sources == other.network.sources
    assert all(a.tobytes() == b.tobytes() for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


def randomized(model, seed=0):
    """Give every weight of a model numbers of its own, positive as variances are."""
    rng = np.random.default_rng(seed)
    model.set_weights([0.5 + rng.random(w.shape) for w in model.get_weights()])
    return model


def rewritten(source, path, change):
    """Write a copy of a .keras file whose config went through a function, or is what that returns."""
    with zipfile.ZipFile(source) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    config = change(config) or config
    path.write_bytes(pack(members | {"config.json": config if isinstance(config, bytes) else json.dumps(config).encode()}))
    return path


# ---- From Keras ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", WHOLE)
def test_models_of_keras_predict_the_same(name, frozen, expected):
    network = name.partition(".")[0]
    model = quietly(frozen / name)
    # Keras computes in half precision in one of them.
    assert_near(model.predict(arrays(expected, "x", network)), arrays(expected, "y", network), 2e-3 if "short" in name else 1e-5)
    assert type(model) is (Sequential if "sequential" in name or "short" in name else Model)


def test_the_reference_engine_too(frozen, expected):
    model = keras.load(frozen / "keras3_graph.keras", engine="reference")
    assert_near(model.predict(arrays(expected, "x", "keras3_graph")), arrays(expected, "y", "keras3_graph"))


@pytest.mark.parametrize("name", [name for name in WHOLE if "sequential" in name or "graph" in name])
def test_training_goes_on_as_in_keras(name, frozen, expected):
    network = name.partition(".")[0]
    model = keras.load(frozen / name)
    steps = [model.train_on_batch(arrays(expected, "x", network), arrays(expected, "t", network)) for _ in range(3)]
    np.testing.assert_allclose(steps, expected[f"losses/{network}"], rtol=2e-5)


def test_how_it_was_compiled(frozen):
    model = keras.load(frozen / "keras3_graph.keras")
    assert repr(model.optimizer) == repr(SGD(np.float32(0.05), momentum=0.9, nesterov=True))
    assert model.loss.names == ["binary_crossentropy", "categorical_crossentropy"] and model.loss.weights == [1.0, 0.5]
    assert model.output_names == ("covid", "place") and model.input_names == ("image", "age")
    assert repr(keras.load(frozen / "keras2_sequential.h5").optimizer) == repr(Adam(np.float32(1e-2)))


def test_nested_models_are_named_after_them(frozen):
    names = [layer.name for layer in keras.load(frozen / "keras3_graph.keras").layers]
    assert {"stem", "block/conv2d", "head/dense", "head/batch_normalization_1"} <= set(names)


@pytest.mark.parametrize("name", [name for name in NAMES if "twelve" not in name and "every" not in name and "short" not in name])
def test_weights_alone(name, frozen):
    """From every kind of file, into a network of these names: the same bits as the whole model has."""
    version, network = re.match(r"(keras\d)_(\w+?)[_.]", name).groups()
    whole = keras.load(frozen / f"{version}_{network}.keras")
    model = randomized(keras.load(frozen / f"{version}_{network}.keras"))
    if name == "keras2_graph.weights.h5":       # neither names nor the order of nested models
        before = model.get_weights()
        with pytest.raises(WeightsError, match="no layer for it, nested models come in no order here"):
            keras.load_weights(model, frozen / name)
        assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights()))
        table = keras.load_weights(model, frozen / name, names={
            "layers/conv2d": "stem", "layers/functional/layers/conv2d": "block/conv2d", "layers/dense": "dense_2",
            "layers/functional/layers/conv2d_1": "block/conv2d_1", "layers/dense_1": "covid", "layers/dense_2": "place",
            "layers/functional/layers/batch_normalization": "block/batch_normalization",
            "layers/sequential/layers/dense": "head/dense", "layers/sequential/layers/dense_1": "head/dense_1",
            "layers/sequential/layers/batch_normalization": "head/batch_normalization_1"})
    else:
        table = keras.load_weights(model, frozen / name)
    assert_same(model, whole)
    assert table.unmatched == 0 and len([row for row in table.rows if row[1] != "-"]) == len(model.get_weights())
    assert all(row[3].startswith("as it is") for row in table.rows if row[1] != "-")


def test_weights_for_other_names(frozen):
    """A network built by hand: no name agrees, and the layers of each class are in order."""
    whole = keras.load(frozen / "keras3_sequential.keras")
    for name, how in ((".keras", "in order of its class"), (".weights.h5", "in order of its class"), (".h5", "in order")):
        model = Sequential([
            Conv2D(4, 3, activation="relu"), BatchNormalization(), DepthwiseConv2D(3, depth_multiplier=2, padding="same"),
            SeparableConv2D(5, 3), BatchNormalization(scale=False), Conv2D(4, 3, strides=2, padding="same", use_bias=False),
            MaxPool2D(2, padding="same"), Flatten(), Dense(6), LayerNormalization(), Dense(1)], input_shape=(10, 10, 2))
        table = keras.load_weights(model, frozen / f"keras3_sequential{name}")
        assert all(a.tobytes() == b.tobytes() for a, b in zip(model.get_weights(), whole.get_weights(), strict=True))
        assert how in {row[3].removeprefix("as it is, ") for row in table.rows}


@pytest.mark.parametrize("version", ["keras2", "keras3"])
def test_numbers_sort_as_numbers(version, frozen, expected):
    """Of 12 convolutions of one shape, HDF5 lists conv2d_10 before conv2d_2."""
    model = Sequential([Conv2D(2, 3, padding="same", name=f"c{i}") for i in range(12)], input_shape=(4, 4, 2))
    table = keras.load_weights(model, frozen / f"{version}_twelve.weights.h5")
    assert_near(model.predict(arrays(expected, "x", f"{version}_twelve")), arrays(expected, "y", f"{version}_twelve"), 2e-5)
    assert [row[1].partition("/")[0] for row in table.rows[::2]] == [f"c{i}" for i in range(12)]


def test_some_layers_alone(frozen, capsys):
    """A network with another end: an error and nothing changes; with strict=False what fits is taken, and told."""
    def model():
        return randomized(Sequential([Conv2D(4, 3, name="first"), Flatten(), Dense(3, name="mine")], input_shape=(10, 10, 2)))

    one, before = model(), model().get_weights()
    with pytest.raises(WeightsError, match=r"keras2_sequential_notop\.h5: \d+ of 21 rows .* Nothing was changed.* names="):
        keras.load_weights(one, frozen / "keras2_sequential_notop.h5")
    assert all(np.array_equal(a, b) for a, b in zip(one.get_weights(), before))
    table = keras.load_weights(one, frozen / "keras3_sequential.weights.h5", strict=False, names={"first": "first"})
    assert "first" in capsys.readouterr().out and table.unmatched
    whole = keras.load(frozen / "keras3_sequential.keras")
    assert np.array_equal(one.layers[0].get_weights()[0], whole.layers[0].get_weights()[0])
    assert np.array_equal(one.get_weights()[2], before[2])
    trunk = Sequential([Conv2D(4, 3, name="first")], input_shape=(10, 10, 2))
    table = keras.load_weights(trunk, frozen / "keras3_sequential.keras", strict="model")      # what the file has beside is left
    assert np.array_equal(trunk.get_weights()[0], whole.layers[0].get_weights()[0]) and table.unmatched and not table.lacking
    with pytest.raises(WeightsError, match="rows do not fit this model"):
        keras.load_weights(one, frozen / "keras3_sequential.keras", strict="model")
    with pytest.raises(InputError, match="no layer 'nine' with weights in the file"):
        keras.load_weights(one, frozen / "keras3_sequential.h5", names={"nine": "first"})
    with pytest.raises(InputError, match="names must be a dict, .*got list"):
        keras.load_weights(one, frozen / "keras3_sequential.h5", names=["first"])
    with pytest.raises(InputError, match="strict must be True or False, got 'no'"):
        keras.load_weights(one, frozen / "keras3_sequential.h5", strict="no")


def test_arrays_of_one_shape_are_not_mixed_up(tmp_path):
    """beta, mean and variance are three arrays of one shape, as gamma, mean and variance are; in a legacy file they have names."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["layer_names"] = [b"bn"]
        group = file.create_group("bn")
        group.attrs["weight_names"] = [b"bn/beta:0", b"bn/moving_mean:0", b"bn/moving_variance:0"]
        for name in ("beta:0", "moving_mean:0", "moving_variance:0"):
            group[f"bn/{name}"] = np.ones(2, np.float32)
    model = Sequential([BatchNormalization(center=False, name="bn")], input_shape=(2,))
    with pytest.raises(WeightsError, match="the layer has gamma, moving_mean, moving_variance"):
        keras.load_weights(model, tmp_path / "a.h5")
    table = keras.load_weights(Sequential([BatchNormalization(scale=False, name="bn")], input_shape=(2,)), tmp_path / "a.h5")
    assert [row[1] for row in table.rows] == ["bn/beta", "bn/moving_mean", "bn/moving_variance"]


def weights_file(path, *values, name="d"):
    """Write a .weights.h5 with a dense layer of these arrays."""
    with h5py.File(path, "w") as file:
        group = file.create_group("layers/dense/vars")
        group.attrs["name"] = name
        for i, value in enumerate(values):
            group.create_dataset(str(i), data=value)
    return path


def test_two_names_for_one_layer(tmp_path):
    """a/b goes out as a.b: a file that has both has two layers, and none is lost."""
    path = weights_file(tmp_path / "a.weights.h5", np.ones((2, 2), "f4"), np.ones(2, "f4"), name="a.b")
    with h5py.File(path, "a") as file:
        file.copy("layers/dense", "layers/dense_1")
        file["layers/dense_1/vars"].attrs["name"] = "a/b"
    model = Sequential([Dense(2)], input_shape=(2,))
    model.layers[0].name = "a/b"
    with pytest.raises(WeightsError, match="(?s)2 of 4 rows do not fit .*layers/dense_1/vars/0.* not used: no layer for it"):
        keras.load_weights(model, path)


@pytest.mark.parametrize("dtype", ["float16", "float64", ">f4"])
def test_other_dtypes_are_cast_and_told(dtype, tmp_path):
    kernel, bias = np.array([[0.5, 1], [2, 3]]), np.array([0.25, -1])
    path = weights_file(tmp_path / "a.weights.h5", kernel.astype(dtype), bias.astype(dtype))
    model = Sequential([Dense(2, name="d")], input_shape=(2,))
    table = keras.load_weights(model, path)
    assert [w.tolist() for w in model.get_weights()] == [kernel.tolist(), bias.tolist()]
    assert (f"{dtype} as float32" in str(table)) == (dtype != ">f4")


@pytest.mark.parametrize("value", [np.full((2, 2), np.nan, np.float32), np.ones((2, 3), np.float32), np.ones((2, 2), np.int32),
                                   np.full((2, 2), 1e39)])
def test_arrays_that_do_not_fit(value, tmp_path):
    model = randomized(Sequential([Dense(2, name="d")], input_shape=(2,)))
    before = model.get_weights()
    with pytest.raises(WeightsError, match=r"layers/dense/vars/0\) +d/kernel .*not used"):
        keras.load_weights(model, weights_file(tmp_path / "a.weights.h5", value, np.zeros(2, np.float32)))
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights()))


def test_negative_variances_are_refused(tmp_path):
    model = Sequential([BatchNormalization(name="d")], input_shape=(2,))
    path = weights_file(tmp_path / "a.weights.h5", *np.ones((3, 2), np.float32), -np.ones(2, np.float32))
    with pytest.raises(WeightsError, match="a variance is negative"):
        keras.load_weights(model, path)


# ---- What has no counterpart -----------------------------------------------------------------------------------------

def test_all_that_has_no_counterpart_is_told_at_once(frozen, tmp_path):
    def change(config):
        layers = config["config"]["layers"]
        layers[1]["config"]["data_format"] = "channels_first"
        layers[2] |= {"class_name": "Lambda", "config": {"name": "code", "function": "print(1)"}}
        layers[3] |= {"registered_name": "mine>Dense"}
        layers[4] |= {"module": "my_layers"}
        layers[5] |= {"class_name": "GaussianNoise", "config": {"name": "noise", "stddev": 1}}
        layers[6]["config"]["activation"] = "sparsemax"
        layers[8]["config"]["dtype"] = "int8"
        layers[9]["config"]["new_in_keras_4"] = 3

    path = rewritten(frozen / "keras3_sequential.keras", tmp_path / "a.keras", change)
    with pytest.raises(InputError) as raised:
        keras.load(path)
    told = str(raised.value)
    assert "8 parts" in told and str(path) in told and "Supported are Conv2D, DepthwiseConv2D" in told
    for line in ("Conv2D 'first': data_format='channels_first'", "Lambda 'code': it runs code",
                 "SeparableConv2D 'separable_conv2d': a custom layer", "DepthwiseConv2D 'depthwise_conv2d': a custom layer", "GaussianNoise 'noise': there is no such layer", "'sparsemax'",
                 "dtype='int8'", "new_in_keras_4=3"):
        assert line in told


def test_operations_without_a_layer_are_told(frozen, tmp_path):
    def change(config):
        for layer in config["config"]["layers"]:
            if layer["class_name"] == "Multiply":
                layer |= {"module": "keras.src.ops.numpy", "class_name": "Einsum", "registered_name": "Einsum"}
    with pytest.raises(InputError, match="Einsum 'multiply': an operation and not a layer; only Add, Multiply"):
        keras.load(rewritten(frozen / "keras3_graph.keras", tmp_path / "a.keras", change))


def test_models_that_are_code_are_refused(frozen, tmp_path):
    def change(config):
        config |= {"class_name": "MyModel", "module": "mine", "registered_name": "MyModel"}
    with pytest.raises(InputError, match="a model of class MyModel is not read"):
        keras.load(rewritten(frozen / "keras3_graph.keras", tmp_path / "a.keras", change))


def test_what_changes_training_alone_is_left_out_with_a_warning(frozen, tmp_path):
    def change(config):
        first = config["config"]["layers"][1]["config"]
        first["kernel_constraint"] = {"class_name": "MaxNorm", "config": {"max_value": 2}}
        first["kernel_initializer"] = {"class_name": "Mine", "config": {}}          # it has begun
        first["kernel_regularizer"] = {"class_name": "L1", "config": {"l1": 0.1}}
        config["config"]["layers"][9]["config"]["kernel_regularizer"] = {"class_name": "L1L2", "config": {"l1": 0.0, "l2": 0.25}}
        config["compile_config"]["optimizer"] = {"class_name": "Ftrl", "config": {"learning_rate": 0.1}}
    with pytest.warns(RuntimeWarning) as told:
        model = keras.load(rewritten(frozen / "keras3_sequential.keras", tmp_path / "a.keras", change))
    told, = [str(one.message) for one in told]
    for part in ("first: kernel_constraint", "first: kernel_regularizer", "not compiled, its optimizer is Ftrl"):
        assert part in told
    assert model.optimizer is None and model.layers[11].kernel_regularizer.l2 == 0.25


@pytest.mark.parametrize("change, told", [
    (dict(optimizer={"class_name": "Adam", "config": {"learning_rate": {"class_name": "CosineDecay"}}}), "learning_rate"),
    (dict(optimizer={"class_name": "SGD", "config": {"learning_rate": 0.1, "weight_decay": 0.1}}), "weight_decay"),
    (dict(optimizer={"class_name": "Adam", "config": {"learning_rate": 0.1, "use_ema": True}}), "use_ema"),
    (dict(optimizer=3), "its optimizer is 3"), (dict(loss="hinge"), "its loss is 'hinge'"), (dict(loss=None), "its loss is None"),
    (dict(loss={"class_name": "BinaryCrossentropy", "config": {"from_logits": True}}), "takes logits"),
    (dict(loss="categorical_crossentropy"), "not compiled"),
    (dict(loss={"a": "mse", "b": "mse"}), "not compiled")])
def test_what_a_model_cannot_be_compiled_with(change, told, frozen, tmp_path):
    path = rewritten(frozen / "keras3_sequential.keras", tmp_path / "a.keras", lambda config: config["compile_config"].update(change))
    with pytest.warns(RuntimeWarning, match=told):
        assert keras.load(path).optimizer is None


def test_compiled_from_objects_of_keras(frozen, tmp_path):
    change = dict(optimizer={"class_name": "Adam", "config": {"learning_rate": 0.1, "weight_decay": 0.01, "clipnorm": 2.0}},
                  loss={"class_name": "BinaryCrossentropy", "config": {"label_smoothing": 0.1, "from_logits": False}})
    model = keras.load(rewritten(frozen / "keras3_sequential.keras", tmp_path / "a.keras",
                                 lambda config: config["compile_config"].update(change)))
    assert repr(model.optimizer) == repr(AdamW(0.1, weight_decay=0.01, clipnorm=2.0)) and model.loss.label_smoothing == 0.1


def test_open_sizes(frozen, tmp_path):
    def change(config):
        config["config"]["layers"][0]["config"]["batch_shape"] = [None, None, None, 2]
        del config["config"]["build_input_shape"]
    path = rewritten(frozen / "keras3_sequential.keras", tmp_path / "a.keras", change)
    with pytest.raises(InputError, match=r"leaves sizes of its input 'input_layer' open.*input_shape=\(224, 224, 3\)"):
        keras.load(path)
    assert keras.load(path, input_shape=(10, 10, 2)).input_shape == (10, 10, 2)
    with pytest.raises(InputError, match=r"a\.keras: Input: shape must be a tuple such as \(64, 64, 3\), got 10"):
        keras.load(path, input_shape=10)
    with pytest.raises((WeightsError, ShapeError), match=re.escape(str(path))):
        keras.load(path, input_shape=(20, 20, 2))


def test_layers_in_two_places(frozen, tmp_path):
    """Without weights each call becomes a layer; with weights it is refused."""
    def twice(kind):
        def change(config):
            layers = {layer["name"]: layer for layer in config["config"]["layers"]}
            again = [one for one in layers.values() if one["class_name"] == kind][0]
            node = json.loads(json.dumps(again["inbound_nodes"][0]))
            again["inbound_nodes"].append(node)
            concatenated = layers["concatenate"]["inbound_nodes"][0]["args"][0]
            concatenated[1]["config"]["keras_history"] = [again["name"], 1, 0]
        return change

    model = keras.load(rewritten(frozen / "keras3_graph.keras", tmp_path / "a.keras", twice("GlobalMaxPooling2D")))
    names = [layer.name for layer in model.layers]
    assert "global_max_pooling2d" in names and "global_max_pooling2d_again_1" in names
    with pytest.raises(InputError, match="Dense '.*' is called twice"):
        keras.load(rewritten(frozen / "keras3_graph.keras", tmp_path / "a.keras", twice("Dense")))


@pytest.mark.parametrize("taken, told", [(["covid", 0, 0], "is made of itself"), (["stem", 1, 0], "takes output 0 of 'stem'"),
                                         (["stem", 0, 7], "takes output 7 of 'stem'"), (["nine", 0, 0], "output 0 of 'nine'")])
def test_layers_that_take_what_there_is_not(taken, told, frozen, tmp_path):
    def change(config):
        layers = {layer["name"]: layer for layer in config["config"]["layers"]}
        layers["concatenate"]["inbound_nodes"][0]["args"][0][1]["config"]["keras_history"] = taken
    with pytest.raises(InputError, match=told):
        keras.load(rewritten(frozen / "keras3_graph.keras", tmp_path / "a.keras", change))


# ---- To Keras --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("make", [every_layer, two_outputs, branches, cov19net, lambda: chain(RMSprop(1e-3, momentum=0.5))],
                         ids=["every layer", "two outputs", "branches", "COV-19Net", "chain"])
def test_out_and_in_again(make, tmp_path):
    model = randomized(make())
    keras.save(model, tmp_path / "a.keras")
    keras.save_weights(model, tmp_path / "a.weights.h5")
    read = keras.load(tmp_path / "a.keras")
    assert_same(read, model)
    assert [layer.trainable for layer in read.layers] == [layer.trainable for layer in model.layers]
    again = randomized(make(), seed=1)
    assert keras.load_weights(again, tmp_path / "a.weights.h5").unmatched == 0
    assert_same(again, model)
    assert (read.optimizer and read.optimizer.config()) == (model.optimizer and model.optimizer.config())
    assert (read.loss and read.loss.name) == (model.loss and model.loss.name)
    for suffix, write in ((".keras", keras.save), (".weights.h5", keras.save_weights)):        # equal models, equal bytes
        write(model, tmp_path / f"b{suffix}")
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_where_keras_looks_for_weights(tmp_path):
    """Keras numbers the layers of a class by depth, the longest way to an output; vectors/make_keras_files.py checks it in Keras."""
    keras.save_weights(randomized(branches()), tmp_path / "a.weights.h5")
    with h5py.File(tmp_path / "a.weights.h5") as file:
        names = {path: group["vars"].attrs["name"] for path, group in file["layers"].items() if "conv2d" in path}
    assert names == {"conv2d": "conv2d_4", "conv2d_1": "conv2d_5", "conv2d_2": "conv2d_1", "conv2d_3": "conv2d_6",
                     "conv2d_4": "conv2d_2", "conv2d_5": "conv2d_7", "conv2d_6": "conv2d_3", "conv2d_7": "conv2d_8"}


def test_the_optimizer_goes_with_it(tmp_path):
    model = chain(Adam(3e-3))
    model.train_on_batch(np.ones((2, 8, 8, 1)), [0, 1])
    keras.save(model, tmp_path / "a.keras")
    with zipfile.ZipFile(tmp_path / "a.keras") as archive:
        file = h5py.File(io.BytesIO(archive.read("model.weights.h5")))
        assert json.loads(archive.read("config.json"))["compile_config"]["optimizer"]["class_name"] == "Adam"
    kept = file["optimizer/vars"]
    state, n = model.optimizer.state(model.network.parameters), len(model.network.parameters)
    assert len(kept) == 2 + 2 * n and kept["0"][()] == 1 and kept["1"][()] == np.float32(3e-3)
    for i in range(n):
        assert np.array_equal(kept[str(2 + 2 * i)], state["m"][i]) and np.array_equal(kept[str(3 + 2 * i)], state["v"][i])


def test_float64_keeps_its_bits(tmp_path):
    model = randomized(Sequential([Dense(3), Sigmoid()], input_shape=(4,), dtype="float64"))
    keras.save(model, tmp_path / "a.keras")
    read = keras.load(tmp_path / "a.keras")
    assert read.dtype == np.float64
    assert_same(read, model)


class Own:
    """A custom layer."""

    def build(self, input_shape):
        return input_shape

    def forward(self, x):
        return x

    backward = forward


def test_layers_that_keras_has_not_are_told_and_nothing_is_written(tmp_path):
    x = Input((4,))
    y = Add()([x, Constant((4,), name="shift")(x)])
    model = Model(x, connect(Own(), ElementwisePair("divide", name="ratio")([y, x])))
    for write, name in ((keras.save, "a.keras"), (keras.save_weights, "a.weights.h5")):
        with pytest.raises(InputError) as raised:
            write(model, tmp_path / name)
        assert all(part in str(raised.value) for part in ("Constant 'shift'", "ElementwisePair 'ratio'", "Own"))
    assert not list(tmp_path.iterdir())


def test_what_keras_cannot_compile(tmp_path):
    for optimizer in (Adam(epsilon_mode="paper"), type("Mine", (SGD,), {})(0.1)):
        with pytest.warns(RuntimeWarning, match="not compiled in Keras"):
            keras.save(chain(optimizer), tmp_path / "a.keras")
        assert keras.load(tmp_path / "a.keras").optimizer is None


def test_smoothed_losses(tmp_path):
    keras.save(chain(SGD(0.1), BinaryCrossentropy(0.1)), tmp_path / "a.keras")
    assert keras.load(tmp_path / "a.keras").loss.name == "binary_crossentropy(smoothing=0.1)"


def test_the_name_of_a_weights_file(tmp_path):
    with pytest.raises(InputError, match=r"must end in \.weights\.h5"):
        keras.save_weights(chain(SGD(0.1)), tmp_path / "a.h5")


def test_h5py_is_needed_to_write_alone(tmp_path, frozen, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    model = keras.load(frozen / "keras3_sequential.keras")
    keras.load_weights(model, frozen / "keras2_sequential.h5", names=None)
    with pytest.raises(MissingExtraError, match=r"h5py.*minicnn\[keras\]"):
        keras.save(model, tmp_path / "a.keras")
    assert not list(tmp_path.iterdir())


def test_keras_names_have_no_slash(tmp_path):
    keras.save(two_outputs(), tmp_path / "a.keras")
    with zipfile.ZipFile(tmp_path / "a.keras") as archive:
        names = [layer["name"] for layer in json.loads(archive.read("config.json"))["config"]["layers"]]
    assert "block.conv2d_1" in names and not any("/" in name for name in names) and len(set(names)) == len(names)


# ---- Files that are wrong, or hostile --------------------------------------------------------------------------------

@pytest.mark.parametrize("content, told", [
    (b"", "neither"), (b"\x89PNG\r\n\x1a\n", "neither"), (hdf5.SIGNATURE, "superblock"), (hdf5.SIGNATURE + bytes(200), "addresses"),
    (b"PK\3\4", "archive"), (pack({"a": b""}), "holds no config.json"), (pack({"model.weights.npz": b""}), "npz"),
    (pack({"config.json": b"[]", "metadata.json": b"{}", "model.weights.h5": b""}), "no object"),
    (pack({"config.json": b"{", "metadata.json": b"{}", "model.weights.h5": b""}), "cannot be read"),
    (pack({"config.json": b"[" * 100_000, "metadata.json": b"{}", "model.weights.h5": b""}), "cannot be read"),
    (pack({"config.json": b"{}", "metadata.json": b"{}", "model.weights.h5": b"x"}), "no HDF5")])
def test_files_that_are_none(content, told, tmp_path):
    path = tmp_path / "a.keras"
    path.write_bytes(content)
    for read in (keras.load, lambda path: keras.load_weights(Sequential([Dense(1)], input_shape=(2,)), path)):
        with pytest.raises(WeightsError, match=f"{re.escape(str(path))}.*{told}"):
            read(path)


def test_files_that_are_not_there(tmp_path):
    for path in (tmp_path, tmp_path / "none.keras"):
        with pytest.raises(WeightsError, match=re.escape(str(path))):
            keras.load(path)


def test_weights_alone_are_no_model(frozen):
    with pytest.raises(InputError, match="it holds weights alone. Build the network"):
        keras.load(frozen / "keras3_sequential.weights.h5")


def hostile(tmp_path):
    """Yield (name, function of an open HDF5 file that puts something hostile in place of a dense kernel, what is told)."""
    kernel = np.zeros((2, 2), np.float32)
    (tmp_path / "secret").write_bytes(bytes(16))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["kernel"] = kernel

    def external_storage(group):
        group.create_dataset("0", (2, 2), "f4", external=[(str(tmp_path / "secret"), 0, 16)])

    def virtual(group):
        layout = h5py.VirtualLayout((2, 2), "f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "kernel", (2, 2))
        group.create_virtual_dataset("0", layout)

    def loop(group):
        group["0"] = group.parent

    def circle(group):
        group.file["layers/deeper"] = group.file["layers"]

    def reference(group):
        group.create_dataset("0", data=np.array([[group.ref] * 2] * 2, h5py.ref_dtype))

    def bomb(group):
        group.create_dataset("0", chunks=(2**12, 2**12), compression="gzip", data=np.zeros((2**12, 2**12), "f4"))

    yield "soft link", lambda group: group.__setitem__("0", h5py.SoftLink("/elsewhere")), "a soft link, which is not followed"
    yield "external link", lambda group: group.__setitem__("0", h5py.ExternalLink("other.h5", "kernel")), "has links in a later form"
    yield "external storage", external_storage, "external storage"
    yield "virtual dataset", virtual, "virtual dataset|in another form"
    yield "hard links in a circle", loop, "'layers/dense/vars/0' is no array"
    yield "groups in a circle", circle, "more than 16 deep"
    yield "references", reference, "type of class 7"
    yield "bomb", bomb, "the layer has"
    yield "strings", lambda group: group.create_dataset("0", data=["a", "b"]), "the layer has|class 9"
    yield "compound", lambda group: group.create_dataset("0", data=np.zeros((2, 2), "f4,i4")), "type of class 6"
    yield "lzf", lambda group: group.create_dataset("0", data=kernel, compression="lzf"), "in chunks, compressed"
    yield "never written", lambda group: group.create_dataset("0", (2, 2), "f4"), "not the bytes of its shape"
    yield "missing chunks", lambda group: group.create_dataset("0", (2, 2), "f4", chunks=(1, 1)), "in chunks, compressed"


def test_hostile_files(tmp_path):
    for name, put, told in hostile(tmp_path):
        path = tmp_path / "a.weights.h5"
        with h5py.File(path, "w") as file:
            group = file.create_group("layers/dense/vars")
            group.attrs["name"] = "d"
            put(group)
            group["1"] = np.zeros(2, np.float32)
        model = randomized(Sequential([Dense(2, name="d")], input_shape=(2,)))
        before = model.get_weights()
        with pytest.raises(WeightsError, match=told):
            keras.load_weights(model, path)
            pytest.fail(name)
        assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights())), name


def test_a_bomb_is_not_unpacked():
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.create_dataset("a", chunks=(2**12, 2**12), compression="gzip", data=np.zeros((2**12, 2**12), "f4"))
    assert len(content.getvalue()) < 2**21
    with pytest.raises(ValueError, match="'a' is stored in chunks, compressed, or in another form, which Keras does not write"):
        hdf5.read(content.getvalue())["a"].array()


def test_huge_layers_take_no_memory(frozen, tmp_path):
    """Shapes are compared with the file before a layer is built: this one would have 2**40 bytes."""
    def change(config):
        config["config"]["layers"][9]["config"]["units"] = 2**31 - 1
    with pytest.raises(WeightsError, match=r"the layer has \(\d+, 2147483647\)"):
        keras.load(rewritten(frozen / "keras3_sequential.keras", tmp_path / "a.keras", change))


def test_hdf5_as_h5py_reads_it():
    """What h5py writes is read to the bit."""
    content, rng = io.BytesIO(), np.random.default_rng(0)
    with h5py.File(content, "w") as file:
        for i, dtype in enumerate("f2 f4 f8 >f4 i4 u1 >i2".split()):
            file.create_dataset(f"{i}/a", data=rng.integers(0, 100, (2, 3, 4)).astype(dtype))
        for i in range(100):            # more than one node of the tree
            file[f"many/{i}"] = np.full(2, i, "f4")
        group = file["0"]
        group["scalar"], group["none"] = np.float32(3), np.zeros((0, 3), "f4")
        texts = dict(a="é", b=np.array([b"ab", b"c"]), c=["q", "rr", ""], d=b"ss", e=np.bytes_("fix"), f=np.zeros(0))
        for name, value in texts.items():
            group.attrs[name] = value
    found, n = hdf5.read(content.getvalue()), 0

    def walk(group, same):
        nonlocal n
        assert set(group.names) == set(same)
        for name in group.names:
            if isinstance(same[name], h5py.Group):
                walk(group[name], same[name])
            else:
                array, there = group[name].array(), same[name][()]
                assert array.dtype == there.dtype.newbyteorder("=") and array.shape == there.shape and np.array_equal(array, there)
                n += 1
    with h5py.File(content) as file:
        walk(found, file)
    assert n == 109
    texts = {name: found["0"].text(name) for name in "abcdefg"}
    assert texts == dict(a="é", b=["ab", "c"], c=["q", "rr", ""], d="ss", e="fix", f=[], g=None)


@pytest.mark.parametrize("options", [{"libver": "latest"}, {"track_order": True}], ids=str)
def test_later_forms_of_hdf5_are_refused(options):
    """Keras does not write them; an error says what to do."""
    content = io.BytesIO()
    with h5py.File(content, "w", **options) as file:
        file["a/b"] = np.zeros(2)
    with pytest.raises(ValueError, match="which Keras does not write. Write the file again in Keras, or with h5py's defaults"):
        hdf5.read(content.getvalue())


def test_long_lists_of_names(tmp_path):
    """Keras splits attributes that are longer than HDF5 allows: layer_names0, layer_names1."""
    names = [f"layer_{i}" for i in range(3)]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["layer_names0"], file.attrs["layer_names1"] = [name.encode() for name in names[:2]], [names[2].encode()]
        for name in names:
            group = file.create_group(name)
            group.attrs["weight_names0"], group.attrs["weight_names1"] = [f"{name}/kernel:0".encode()], [f"{name}/bias:0".encode()]
            group[f"{name}/kernel:0"], group[f"{name}/bias:0"] = np.ones((2, 2), "f4"), np.ones(2, "f4")
        del file.attrs["layer_names0"], file.attrs["layer_names1"]
        file.attrs["layer_names"] = [names[0].encode()]     # what is not split is read first
    model = Sequential([Dense(2, name="layer_0")], input_shape=(2,))
    assert len(keras.load_weights(model, tmp_path / "a.h5").rows) == 2
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file.attrs["layer_names"]
        file.create_group("model_weights")
        for name in names:
            file.move(name, f"model_weights/{name}")
        file["model_weights"].attrs["layer_names0"] = [name.encode() for name in names[:2]]
        file["model_weights"].attrs["layer_names1"] = [names[2].encode()]
    model = Sequential([Dense(2, name=name) for name in names], input_shape=(2,))
    assert [row[1] for row in keras.load_weights(model, tmp_path / "a.h5").rows] == [
        f"{name}/{kind}" for name in names for kind in ("kernel", "bias")]


def mutated(rng, data):
    """Return a copy of bytes that is cut off, or has other bits, bytes, lengths or pieces in some places."""
    content, kind = bytearray(data), rng.integers(5)
    if kind == 0:
        return bytes(content[:rng.integers(len(content))])
    for _ in range(rng.choice([1, 1, 1, 2, 4, 16])):
        at = rng.integers(rng.choice([96, 1000, 4000, len(content)]))
        if kind == 1:
            content[at] ^= 1 << rng.integers(8)
        elif kind == 2:
            content[at] = rng.integers(256)
        elif kind == 3:
            content[at:at + 8] = (2**64 - 1, 0, 2**63 - 1, 2**int(rng.integers(63)))[rng.integers(4)].to_bytes(8, "little")
        else:
            other, n = rng.integers(len(content)), rng.integers(1, 64)
            content[at:at + n] = content[other:other + n]
    return bytes(content)


@pytest.mark.parametrize("n", [300, pytest.param(15_000, marks=pytest.mark.soak)])
def test_mutated_files(n, frozen, tmp_path):
    """They are read, or end in a typed error that names the file."""
    rng, path, read = np.random.default_rng(n), tmp_path / "a.keras", 0
    sources = [(frozen / name).read_bytes() for name in ("keras2_sequential.h5", "keras3_sequential.h5", "keras3_graph.h5",
                                                         "keras3_sequential.weights.h5", "keras3_sequential.keras")]
    model = keras.load(frozen / "keras3_sequential.keras")
    for i in range(n):
        path.write_bytes(mutated(rng, sources[i % len(sources)]))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                if i % 2:
                    keras.load_weights(model, path)
                else:
                    keras.load(path)
            read += 1
        except MiniCNNError as error:
            assert str(path) in str(error)
    assert 0 < read < n




JUNK = [None, True, 0, -1, 3, 2**31 - 1, 2**70, 0.5, 1e300, "", "same", "conv2d", "keras", [], [0], [[1, 2]], [None, 2, 2], {}, {"a": 1}]


def places(value, found):
    """Append (container, key) of everything in a JSON value."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        found.append((value, key))
        places(value[key], found)
    return found


@pytest.mark.parametrize("n", [300, pytest.param(15_000, marks=pytest.mark.soak)])
def test_configs_with_something_else_in_a_place(n, frozen, tmp_path):
    """They are read, or end in a typed error that names the file, without memory for what the file does not hold."""
    rng, path, read, names = np.random.default_rng(n), tmp_path / "a.keras", 0, ("keras3_graph.keras", "keras2_graph.keras",
                                                                               "keras3_sequential.keras")
    for i in range(n):
        def change(config):
            for _ in range(rng.integers(1, 4)):
                known = places(config, [])
                container, key = known[rng.integers(len(known))]
                if rng.integers(3) == 0:
                    other, one = known[rng.integers(len(known))]
                    container[key] = json.loads(json.dumps(other[one]))
                elif rng.integers(4) == 0 and isinstance(container, dict):
                    del container[key]
                else:
                    container[key] = JUNK[rng.integers(len(JUNK))]

        rewritten(frozen / names[i % 3], path, change)
        try:
            quietly(path)
            read += 1
        except MiniCNNError as error:
            assert str(path) in str(error)
    assert 0 < read < n
