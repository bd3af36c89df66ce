"""Published networks: every row of the tables of Keras' layers, parameter counts, tops and sizes, and what is refused."""

import csv
import math
from collections import Counter

import numpy as np
import pytest

from minicnn import InputError, ShapeError, load_model, networks
from minicnn.layers.nodes import ordered
from tests.conftest import SHARED
from tests.vectors import cases

# {table: (function, rows that Keras has and we have not, how often)}
TABLES = {"VGG19": ("vgg19", {}), "ResNet50": ("resnet50", {}), "MobileNetV2": ("mobilenet_v2", {}), "InceptionV3": ("inception_v3", {}),
          "InceptionResNetV2": ("inception_resnet_v2", {}), "EfficientNetB0": ("efficientnet_b0", {"Rescaling": 1, "Normalization": 1})}
KEYS = "filters kernel strides padding use_bias activation epsilon momentum shape parameters".split()


def table(name):
    """Return [(layer's name, its row as a dict)] of a table of Keras' layers."""
    path = SHARED / "networks" / f"layers_{name}.tsv"
    if not path.exists():
        pytest.skip("needs the tables of layers in ../shared/networks, which are not here")
    columns = "name kind filters kernel strides padding use_bias activation epsilon momentum shape parameters".split()
    rows = [dict(zip(columns, cells)) for cells in csv.reader(path.read_text(encoding="utf-8").splitlines(), delimiter="\t")]
    return [(row.pop("name"), row) for row in rows if row["kind"] != "InputLayer"]


def described(node, takers):
    """Return (name, row) of the layer of a node as Keras' table has it; None for an activation that Keras has within its layer."""
    layer, kind = node.layer, type(node.layer).__name__
    kind = {"MaxPool2D": "MaxPooling2D", "AveragePool2D": "AveragePooling2D", "Swish": "Activation", "StochasticDepth": "Dropout"}.get(kind, kind)
    if getattr(layer, "follows", None) is not None:
        return None
    source = [source.shape[1:] for source in node.sources]
    laws = layer.infer(source if layer.several else source[0])[1]
    row = dict.fromkeys(["kind", *KEYS], "") | {"kind": kind, "shape": str((None, *node.shape[1:])),
                                                "parameters": str(sum(math.prod(shape) for _, shape, _ in laws))}
    if kind in ("Conv2D", "DepthwiseConv2D", "Dense"):
        activation = takers.get(id(node))
        row |= {"use_bias": str(layer.use_bias), "filters": str(getattr(layer, "filters", getattr(layer, "units", ""))),
                "activation": "linear" if activation is None else {"Swish": "silu"}.get(type(activation).__name__,
                                                                                          type(activation).__name__.lower())}
    if hasattr(layer, "window"):
        row |= {"kernel": str(getattr(layer, layer.window)), "strides": str(layer.strides), "padding": layer.padding}
    if kind == "ZeroPadding2D":
        row["padding"] = str(layer.padding)
    if kind == "BatchNormalization":
        row |= {"epsilon": str(layer.epsilon), "momentum": str(layer.momentum)}
    if type(layer).__name__ == "ReLU":
        row |= {"kind": "Activation" if layer.max_value is None else "ReLU", "activation": str(layer.max_value or "relu")}
    if type(layer).__name__ == "Swish":
        row["activation"] = "silu"
    return layer.name, row


def layers_of(function, monkeypatch, **options):
    """Return [(name, row)] of a network, without weights."""
    monkeypatch.setattr(networks, "Model", lambda x, y, **others: y)
    nodes = [node for node in ordered([function(**options)]) if node.layer is not None]
    takers = {id(node.sources[0]): node.layer for node in nodes if getattr(node.layer, "follows", None) is not None}
    return [found for node in nodes if (found := described(node, takers)) is not None]


@pytest.mark.parametrize("name", TABLES)
def test_every_row_of_keras_table(name, monkeypatch):
    function, absent = TABLES[name]
    expected, mine = table(name), layers_of(getattr(networks, function), monkeypatch)
    if name == "InceptionResNetV2":             # Keras has x + scale y as a layer of its own; here it is Rescaling and Add
        mine = [(None, row | {"kind": "CustomScaleLayer"}) if row["kind"] == "Add" else (one, row) for one, row in mine
                if row["kind"] != "Rescaling"]
    if name.startswith("Inception"):            # whose names are numbers, in the order of the session
        expected, mine = [(None, row) for _, row in expected], [(None, row) for _, row in mine]

    def as_keys(rows):          # MobileNetV2's own name of the mean is a number too
        return Counter((None if "Global" in row["kind"] else one, *row.values()) for one, row in rows)
    missing, more = as_keys(expected) - as_keys(mine), as_keys(mine) - as_keys(expected)
    assert Counter(row[1] for row in missing.elements()) == absent and not more, (missing, more)


COUNTS = {"vgg16": (138_357_544, 14_714_688), "vgg19": (143_667_240, 20_024_384), "resnet50": (25_636_712, 23_587_712),
          "resnet101": (44_707_176, 42_658_176), "resnet152": (60_419_944, 58_370_944), "resnet50_v2": (25_613_800, 23_564_800),
          "mobilenet_v2": (3_538_984, 2_257_984), "inception_v3": (23_851_784, 21_802_784),
          "inception_resnet_v2": (55_873_736, 54_336_736), "efficientnet_b0": (5_330_571 - 7, 4_049_571 - 7),
          "efficientnet_lite0": (4_694_024, 4_694_024 - 1_281_000)}


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_with_and_without_the_top(name, monkeypatch):
    for top, count in zip((True, False), COUNTS[name]):
        rows = layers_of(getattr(networks, name), monkeypatch, top=top)
        assert sum(int(row["parameters"]) for _, row in rows) == count


def test_covid_net(monkeypatch):
    """The Keras branch; and of figure 2 the trunk and the two heads, beside what was published (facts 1.3)."""
    def count(function, **options):
        return sum(int(row["parameters"]) for _, row in layers_of(function, monkeypatch, **options))
    assert count(networks.covid_net) == 126_589_443
    first, second = (count(networks.covid_net_pepx, classes=k, dense=dense) for k, dense in ((4, (1024, 256)), (3, (1024, 1024))))
    assert (first, second) == (116_167_828, 13_142_928 + 103_814_147)
    assert abs(first / 116.6e6 - 1) < 0.005 and abs(second / 117.4e6 - 1) < 0.005
    shapes = {name: row["shape"] for name, row in layers_of(networks.covid_net_pepx, monkeypatch)}
    assert [shapes[f"pepx{stage}_3_extend"] for stage in (1, 2, 3, 4)] == [f"(None, {side}, {side}, {channels})" for side, channels in
                                                                           ((56, 256), (28, 512), (14, 1024), (7, 2048))]
    assert shapes["flatten"] == "(None, 100352)" and shapes["conv1"] == "(None, 112, 112, 64)"


def test_every_network_is_counted():
    assert set(networks.NETWORKS) == {"cov19net", "covid_net", "covid_net_pepx", "covid_caps", "anomaly_detector", *COUNTS}


@pytest.mark.parametrize("classes, shape", [(1, (1,)), (2, (1,)), (["a", "b"], (1,)), (3, (3,)), (["a", "b", "c"], (3,))])
def test_any_number_of_classes(classes, shape):
    model = networks.mobilenet_v2(classes, input_shape=(32, 32, 1), seed=3)
    assert model.output_shape == shape and model.classes == (None if isinstance(classes, int) else tuple(classes))
    assert type(model.layers[-1]).__name__ == ("Sigmoid" if shape == (1,) else "Softmax")
    assert model.layers[-2].name == "predictions"


@pytest.mark.parametrize("pooling, shape", [(None, (2, 2, 1280)), ("avg", (1280,)), ("max", (1280,))])
def test_without_the_top(pooling, shape):
    assert networks.efficientnet_lite0(input_shape=(64, 64, 3), top=False, pooling=pooling).output_shape == shape


@pytest.mark.parametrize("name, least", [("inception_v3", 75), ("inception_resnet_v2", 75), ("vgg16", 32)])
def test_images_that_are_too_small(name, least):
    function = getattr(networks, name)
    with pytest.raises(ShapeError, match=rf"{name}: .* It needs images of at least {least} x {least}; these are 20 x 31"):
        function(input_shape=(20, 31, 3), top=False)


@pytest.mark.parametrize("options, sentence", [({"classes": 0}, "resnet50: classes must"), ({"pooling": "mean"}, "resnet50: pooling must be one of avg"),
                                               ({"top": 1}, "resnet50: top must"), ({"input_shape": 64}, "resnet50: input_shape must")])
def test_what_cannot_be_used_is_said(options, sentence):
    with pytest.raises(InputError, match=sentence):
        networks.resnet50(**options)


def test_the_same_seed_gives_the_same_weights():
    one, other = (networks.mobilenet_v2(3, (32, 32, 3), seed=4) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


# ---- head, dropout, pixels -------------------------------------------------------------------------------------------

SMALL = (32, 32, 3)


def after_the_trunk(model):
    """Return [(name, what)] of the layers from the means over the image, or Flatten, on: units of Dense, rates of Dropout."""
    layers = [layer for layer in model.layers if getattr(layer, "follows", None) is None]
    first = next(i for i, layer in enumerate(layers) if layer.name in ("avg_pool", "flatten"))
    return [(layer.name, getattr(layer, "units", getattr(layer, "rate", None))) for layer in layers[first:]]


@pytest.mark.parametrize("name, options, layers", [
    ("mobilenet_v2", {}, [("avg_pool", None), ("predictions", 3)]),
    ("mobilenet_v2", {"head": (8, 4)}, [("avg_pool", None), ("head1", 8), ("head2", 4), ("predictions", 3)]),
    ("mobilenet_v2", {"head": [8], "dropout": 0.3}, [("avg_pool", None), ("head1_dropout", 0.3), ("head1", 8), ("top_dropout", 0.3),
                                                     ("predictions", 3)]),
    ("efficientnet_b0", {}, [("avg_pool", None), ("top_dropout", 0.2), ("predictions", 3)]),
    ("efficientnet_b0", {"dropout": 0}, [("avg_pool", None), ("predictions", 3)]),
    ("vgg16", {"head": (8,)}, [("avg_pool", None), ("head1", 8), ("predictions", 3)]),
    ("covid_net_pepx", {"dense": (16, 8), "dropout": 0.5}, [("flatten", None), ("dense1_dropout", 0.5), ("dense1", 16), ("dense2_dropout", 0.5),
                                                            ("dense2", 8), ("top_dropout", 0.5), ("predictions", 3)])])
def test_a_head_and_its_dropout(name, options, layers):
    assert after_the_trunk(getattr(networks, name)(3, SMALL, **options)) == layers


def test_a_head_is_rectified_and_without_the_top_there_is_none():
    model = networks.mobilenet_v2(["a", "b"], SMALL, head=(8,))
    kinds = [type(layer).__name__ for layer in model.layers[-4:]]
    assert kinds == ["Dense", "ReLU", "Dense", "Sigmoid"] and model.get_layer("head1").output_shape == (8,)
    assert networks.mobilenet_v2(3, SMALL, top=False, head=(8,)).layers[-1].name == "out_relu"


MEANS, DEVIATIONS = [0.1, 0.5, 0.7], [0.2, 0.25, 4.0]


def test_pixels_are_normalized_by_the_first_layer(capsys):
    plain, scaled = (networks.mobilenet_v2(3, SMALL, seed=4, **options) for options in ({}, {"pixels": (MEANS, DEVIATIONS)}))
    assert scaled.layers[0].name == "pixels" and len(scaled.layers) == len(plain.layers) + 1
    assert scaled.count_params() - plain.count_params() == 6
    for model in (plain, scaled):
        for key, weight in model.network.named_weights().items():
            if not key.startswith("pixels/"):
                weight.value[...] = cases.published_weight(f"mobilenet_v2/{key}", weight.value.shape)
    x = np.random.default_rng(0).random((5, *SMALL), np.float32)
    expected = plain.predict(((x - MEANS) / DEVIATIONS).astype(np.float32))
    assert np.abs(scaled.predict(x) - expected).max() < 1e-6 and np.abs(plain.predict(x) - expected).max() > 1e-3
    scaled.summary()
    assert "pixels" in capsys.readouterr().out


def test_pixels_stay_as_they_are_in_training(tmp_path):
    model = networks.mobilenet_v2(["a", "b"], SMALL, seed=4, pixels=(MEANS, DEVIATIONS))
    x, labels = np.random.default_rng(0).random((8, *SMALL), np.float32), np.arange(8) % 2
    model.compile("adam", "binary_crossentropy")
    other = model.get_layer("bn_Conv1").statistics[0].value.copy()
    model.fit(x, labels, batch_size=4, epochs=2, progress=False)
    assert not np.array_equal(model.get_layer("bn_Conv1").statistics[0].value, other)           # which normalizes by its batch
    model.save(tmp_path / "model.safetensors")
    for kept in (model, load_model(tmp_path / "model.safetensors")):
        first = kept.get_layer("pixels")
        assert not first.trainable and [layer.name for layer in kept.layers if not layer.trainable] == ["pixels"]
        assert np.array_equal(first.statistics[0].value, np.float32(MEANS))
        assert np.array_equal(first.statistics[1].value, np.float32(np.square(DEVIATIONS)))


@pytest.mark.parametrize("options, sentence", [
    ({"head": (0,)}, "head must be a whole number"), ({"head": 8}, r"head must be a sequence of units, such as \(1024, 256\), got 8"),
    ({"head": "8"}, "head must be a sequence"), ({"dropout": 1.0}, r"dropout must lie in \[0, 1\)"),
    ({"pixels": ([0.5] * 2, [0.2] * 2)}, "pixels must be .means, standard deviations., each of 3 finite numbers, the second above 0"),
    ({"pixels": ([0.5] * 3, [0.2, 0.0, 0.2])}, "pixels"), ({"pixels": ([np.nan] * 3, [0.2] * 3)}, "pixels"),
    ({"pixels": (MEANS, [-1, 1, 1])}, "pixels"), ({"pixels": 0.5}, "pixels"), ({"pixels": ("a", "b")}, "pixels")])
def test_options_that_cannot_be_used(options, sentence):
    with pytest.raises(InputError, match=f"mobilenet_v2: {sentence}"):
        networks.mobilenet_v2(3, SMALL, **options)
