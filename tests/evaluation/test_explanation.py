"""Explanations: Grad-CAM against finite differences, occlusion against loops, sanity checks, plots, the command."""

import argparse
import json

import numpy as np
import pytest
from PIL import Image
from scipy.stats import spearmanr

from minicnn.cli import explain as explain_command
from minicnn.core.backend import ENGINES
from minicnn.core.parameter import Parameter
from minicnn.data.preprocessing import Preprocessing
from minicnn.errors import CheckpointError, InputError, NonFiniteError, ShapeError
from minicnn.evaluation.explanation.border import border_mask, border_share, even_share
from minicnn.evaluation.explanation.gradcam import convolutions, explain
from minicnn.evaluation.explanation.sanity import border_check, parameter_randomization, rank_correlation
from minicnn.evaluation.shortcut_test import check_shortcuts
from minicnn.layers import (AveragePool2D, Conv2D, Dense, DepthwiseConv2D, Dropout, Flatten, MaxPool2D, ReLU,
                            SeparableConv2D, Sigmoid, Softmax, Tanh)
from minicnn.model import Sequential
from minicnn.plotting import explanation
from tests.support import tagged
from tests.support.strategies import normals, separated

each_engine = pytest.mark.parametrize("engine", ENGINES)


def network(engine="fast", k=1, dtype="float64", input_shape=(16, 14, 3)):
    """Return a network with padding, strides, Dropout and both kinds of head; nothing in it is 0."""
    head = [Dense(1), Sigmoid()] if k == 1 else [Dense(k), Softmax()]
    model = Sequential([Conv2D(5, 3, padding="same"), Tanh(), MaxPool2D(2), Conv2D(4, (3, 2), strides=(2, 1)), ReLU(),
                        AveragePool2D(2, strides=1), Conv2D(3, 1), Dropout(0.4), Flatten(), Dense(6), ReLU()] + head,
                       input_shape=input_shape, dtype=dtype, engine=engine)
    model.set_weights([normals(i, w.shape, np.dtype(dtype)) * 0.5 for i, w in enumerate(model.get_weights())])
    return model


def pictures(model, n=3, seed=3):
    # So small that Tanh does not saturate: no ties in pooling.
    return separated(seed, (n, *model.input_shape), np.dtype(model.dtype)) / 20


# ---- Grad-CAM --------------------------------------------------------------------------------------------------------

def score(model, a, index, wanted):
    """Return the score of the class `wanted` of each sample, from the output `a` of layer `index` on."""
    for layer in model.layers[index + 1:-1]:
        a = layer.forward(a)
    return a[:, wanted].copy() if a.shape[1] > 1 else a[:, 0] * (1 if wanted == 1 else -1)


@each_engine
def test_convolutions_by_channel_are_explained_too(engine):
    layers = [Conv2D(4, 3), DepthwiseConv2D(3, activation="relu"), SeparableConv2D(3, 2, activation="relu"), Flatten(),
              Dense(1, activation="sigmoid")]
    model, h = Sequential(layers, (9, 8, 3), dtype="float64", engine=engine), 1e-6
    assert convolutions(model) == ["conv2d_1", "depthwise_conv2d_1", "separable_conv2d_1"]
    x = a = pictures(model, 1)
    for layer in model.layers[:5]:          # up to the activation of the last
        a = np.array(layer.forward(a))
    steps = np.eye(a.size).reshape(-1, *a.shape[1:]) * h
    ds = (score(model, a + steps, 4, 1) - score(model, a - steps, 4, 1)).reshape(a.shape) / (2 * h)
    explained = explain(model, x, target=1)
    np.testing.assert_allclose(explained.coarse[0], (a[0] * ds[0].mean(axis=(0, 1))).sum(axis=-1), rtol=1e-6, atol=1e-8)
    assert explained.layer == "separable_conv2d_1" and explained.coarse.any()


@each_engine
@pytest.mark.parametrize("k, wanted", [(1, 0), (1, 1), (3, 2)])
@pytest.mark.parametrize("name, index", [("conv2d_1", 1), ("conv2d_2", 4), ("conv2d_3", 6)])   # or of its activation
def test_grad_cam_agrees_with_finite_differences(engine, k, wanted, name, index):
    model, h = network(engine, k), 1e-6
    x = pictures(model, 1)
    model.predict(x)                        # Dropout off
    a = x
    for layer in model.layers[:index + 1]:
        a = np.array(layer.forward(a))
    steps = np.eye(a.size).reshape(-1, *a.shape[1:]) * h            # a step of each number of the layer's output
    ds = (score(model, a + steps, index, wanted) - score(model, a - steps, index, wanted)).reshape(a.shape) / (2 * h)
    alpha = ds[0].mean(axis=(0, 1))
    explained = explain(model, x, layer=name, target=wanted)
    np.testing.assert_allclose(explained.coarse[0], (a[0] * alpha).sum(axis=-1), rtol=1e-6, atol=1e-8)
    each = explain(model, x, "hirescam", name, wanted)
    np.testing.assert_allclose(each.coarse[0], (a[0] * ds[0]).sum(axis=-1), rtol=1e-6, atol=1e-8)
    assert explained.layer == name and explained.targets.tolist() == [wanted]
    assert np.abs(explained.coarse).max() > 1e-3 and explained.maps.shape == (1, 16, 14) and explained.maps.min() >= 0


@each_engine
def test_a_map_by_hand(engine):
    """One filter that doubles, dense weights with the mean 0.5: the map is the picture where it is above 0."""
    model = Sequential([Conv2D(1, 1), Flatten(), Dense(1), Sigmoid()], (8, 8, 1), dtype="float64", engine=engine)
    w = normals(0, (64, 1))
    model.set_weights([np.full((1, 1, 1, 1), 2.0), [0.0], w - w.mean() + 0.5, [0.0]])
    x = normals(1, (1, 8, 8, 1))
    explained = explain(model, x, target=1)
    np.testing.assert_allclose(explained.maps[0], np.maximum(x[0, ..., 0], 0), atol=1e-12)
    np.testing.assert_allclose(explain(model, x, target=0).maps[0], np.maximum(-x[0, ..., 0], 0), atol=1e-12)


def test_a_map_lies_at_the_receptive_field():
    """A single bright pixel, and a filter that responds to it: the map is highest at that pixel, not beside it."""
    model = Sequential([Conv2D(1, 3), MaxPool2D(2), Conv2D(1, 3), Flatten(), Dense(1), Sigmoid()], (32, 32, 1))
    model.set_weights([np.ones(w.shape) for w in model.get_weights()])
    for row, column in ((11, 20), (16, 16), (20, 12)):
        x = np.zeros((1, 32, 32, 1), np.float32)
        x[0, row, column] = 1
        heat = explain(model, x, target=1).maps[0] - explain(model, np.zeros_like(x), target=1).maps[0]
        centre = [(heat.sum(axis=1 - axis) @ np.arange(32)) / heat.sum() for axis in (0, 1)]
        np.testing.assert_allclose(centre, (row, column), atol=1.01)


def test_maps_after_a_custom_layer_are_spaced_evenly():
    class Halved:
        def build(self, shape):
            self.parameters = [Parameter("factor", np.array([0.5], np.float32))]
            return shape

        def forward(self, x):
            return x * self.parameters[0].value

        def backward(self, dy):
            return dy * self.parameters[0].value

    model = Sequential([Halved(), Conv2D(2, 3), ReLU(), Flatten(), Dense(1), Sigmoid()], (10, 10, 1))
    explained = explain(model, pictures(model), target=1)
    assert explained.maps.shape == (3, 10, 10) and explained.maps.max() > 0
    assert len(parameter_randomization(model, pictures(model), draws=2)) == 3


# ---- Occlusion -------------------------------------------------------------------------------------------------------

@each_engine
@pytest.mark.parametrize("k, wanted", [(1, 0), (1, 1), (3, 1)])
def test_occlusion_agrees_with_a_loop(engine, k, wanted):
    model = network(engine, k, input_shape=(17, 16, 3))
    x = pictures(model, 2)
    explained = explain(model, x, "occlusion", target=wanted)
    rows, columns = [*range(0, 15, 1), 15], [*range(0, 14, 1), 14]          # squares of 2 x 2, in steps of 1
    for n, picture in enumerate(x):
        z = score(model, picture[np.newaxis], -1, wanted)[0]
        total, count = np.zeros((17, 16)), np.zeros((17, 16))
        for i, top in enumerate(rows):
            for j, left in enumerate(columns):
                hidden = picture.copy()
                for c in range(3):
                    hidden[top:top + 2, left:left + 2, c] = picture[:, :, c].mean()
                lost = z - score(model, hidden[np.newaxis], -1, wanted)[0]
                assert explained.coarse[n, i, j] == pytest.approx(lost, abs=1e-9)
                total[top:top + 2, left:left + 2] += lost
                count[top:top + 2, left:left + 2] += 1
        np.testing.assert_allclose(explained.maps[n], np.maximum(total / count, 0), atol=1e-9)
    assert explained.layer is None and explained.maps.max() > 0


# ---- Both ------------------------------------------------------------------------------------------------------------

@each_engine
@pytest.mark.parametrize("method", ["gradcam", "hirescam", "occlusion"])
@pytest.mark.parametrize("k", [1, 3])
def test_a_map_does_not_depend_on_the_batch(engine, method, k):
    model = network(engine, k, "float32")
    x = pictures(model, 35 if engine == "fast" else 3)                      # more than one batch
    together = explain(model, x, method)
    for i in (0, len(x) - 1):
        alone = explain(model, x[i:i + 1], method)
        for name in ("coarse", "maps", "probabilities", "targets"):
            assert (getattr(alone, name)[0] == getattr(together, name)[i]).all(), name


def test_engines_agree():
    fast, reference = (explain(network(engine), pictures(network(engine))) for engine in ("fast", "reference"))
    np.testing.assert_allclose(fast.maps, reference.maps, atol=1e-12)


def test_the_class_explained_is_the_predicted_one_by_default():
    model = network(k=3)
    model.classes = ("a", "b", "c")
    x = pictures(model, 6)
    p = model.predict(x)
    explained = explain(model, x)
    assert explained.targets.tolist() == p.argmax(axis=1).tolist() and (explained.probabilities == p.max(axis=1)).all()
    assert explained.names == ["abc"[i] for i in explained.targets]
    assert explain(model, x, target="b").targets.tolist() == [1] * 6
    assert explain(model, x, target=["a", 1, 2, "c", 0, 0]).targets.tolist() == [0, 1, 2, 2, 0, 0]
    binary = network()
    explained = explain(binary, pictures(binary, 6))
    p = binary.predict(pictures(binary, 6))[:, 0]
    assert explained.targets.tolist() == (p > 0.5).tolist() and explained.names[0] in ("class 0", "class 1")
    np.testing.assert_array_equal(explained.probabilities, np.where(p > 0.5, p, 1 - p))


def test_explaining_changes_no_weight_and_no_prediction():
    model = network()
    before, p = model.get_weights(), model.predict(pictures(model))
    for method in ("gradcam", "occlusion"):
        explain(model, pictures(model), method)
    parameter_randomization(model, pictures(model), draws=2)
    assert all((a == b).all() for a, b in zip(before, model.get_weights()))
    assert (model.predict(pictures(model)) == p).all()


def test_what_cannot_be_explained():
    x = np.zeros((1, 16, 14, 3))
    model = network()
    assert convolutions(model) == ["conv2d_1", "conv2d_2", "conv2d_3"]
    for arguments, sentence in (({"layer": "conv2d_4"}, "layer must be one of conv2d_1, conv2d_2, conv2d_3, "
                                                        "got 'conv2d_4'. Did you mean 'conv2d"),
                                ({"layer": "dense_1"}, "layer must be one of .* got 'dense_1'"),
                                ({"method": "gradcamm"}, "method must be one of gradcam, hirescam, occlusion.* mean 'gradcam'"),
                                ({"method": "occlusion", "layer": "conv2d_1"}, "occlusion explains the whole network"),
                                ({"target": 2}, "expected a class from 0 to 1, got '2'"),
                                ({"target": True}, "expected a class"), ({"target": 0.5}, "expected a class"),
                                ({"target": "covd"}, "expected a class from 0 to 1, got 'covd'"),
                                ({"target": [0, 1]}, "one class for all 1 images or one for each, got 2")):
        with pytest.raises(InputError, match=sentence):
            explain(model, x, **arguments)
    model.classes = ("normal", "covid")
    with pytest.raises(InputError, match="or normal, covid, got 'covd'. Did you mean 'covid'"):
        explain(model, x, target="covd")
    with pytest.raises(ShapeError, match="expected x of shape"):
        explain(model, x[:, :8])
    dense = Sequential([Flatten(), Dense(1), Sigmoid()], (8, 8, 1))
    with pytest.raises(InputError, match="no convolution.* Use the method occlusion"):
        explain(dense, np.zeros((1, 8, 8, 1)))
    assert explain(dense, separated(0, (1, 8, 8, 1)), "occlusion").maps.shape == (1, 8, 8)
    for layers, shape in (([Dense(1), Sigmoid()], (4,)), ([Conv2D(2, 3), Flatten(), Dense(2)], (8, 8, 1)),
                          ([Conv2D(1, 3), Sigmoid()], (8, 8, 1)), ([Flatten(), Dense(2), Sigmoid()], (8, 8, 1))):
        with pytest.raises(InputError, match="expected a network from images .* ends in"):
            explain(Sequential(layers, shape), np.zeros((1, *shape)))


def test_non_finite_values_name_their_layer():
    model = network()
    model.layers[3].parameters[0].value[0, 0, 0, 0] = np.nan
    with pytest.raises(NonFiniteError, match="layer 'conv2d_2': its kernel holds NaN"):
        explain(model, pictures(model))


# ---- Borders and ranks -----------------------------------------------------------------------------------------------

def test_the_border_is_the_outer_eighth_of_each_side():
    mask = border_mask(64, 40)
    assert not mask[8:56, 5:35].any() and mask.sum() == 64 * 40 - 48 * 30
    heat = np.zeros((3, 64, 40))
    heat[0, 0, 0], heat[0, 30, 20] = 1, 3
    heat[1, 30, 20] = 2
    assert border_share(heat) == [0.25, 0.0, None]
    assert even_share(64, 40) == pytest.approx(1 - 48 * 30 / (64 * 40))
    with pytest.raises(ShapeError, match="8 x 8, got 7 x 9"):
        border_mask(7, 9)


def test_rank_correlation_is_scipys():
    for seed in range(5):
        a, b = normals(seed, (60,)).round(1), normals(seed + 9, (60,)).round(0)       # with ties
        assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)
        assert rank_correlation(a, a**3) == pytest.approx(1) and rank_correlation(a, -a) == pytest.approx(-1)
    assert rank_correlation(np.zeros(3), [1, 2, 3]) is None
    with pytest.raises(ShapeError, match="two arrays of one shape"):
        rank_correlation([1, 2], [1, 2, 3])


# ---- Sanity checks ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("method", ["gradcam", "occlusion"])
def test_the_tag_is_seen_by_its_border_share(method):
    """Grad-CAM of the second convolution, and occlusion: most of the tagged network's maps lies on the border."""
    shares = {}
    for tag in (False, True):
        model, images, labels, *_ = tagged.trained(tag)
        layer, count = ("conv2d_2", 48) if method == "gradcam" else (None, 16)      # many of Grad-CAM's maps are 0
        explained = explain(model, images[labels == 1][:count], method, layer, "covid")
        known = [share for share in explained.border_shares if share is not None]
        shares[tag] = np.mean(known)
        assert len(known) >= 8 and explained.even_share == 0.4375
    assert shares[True] > 0.8 and shares[False] < 0.5


@pytest.mark.parametrize("layer", [None, "conv2d_2"])
def test_hirescam_separates_a_tag_from_lungs(layer):
    """HiResCAM has a gradient for each position: the mean of Grad-CAM loses a corner before dense layers."""
    model, images, labels, *_ = tagged.trained(True)
    check = border_check(model, images, layer)
    assert check.exposed and check.share > 0.75 and check.low < check.share < check.high
    assert check.pictures == (model.predict(images)[:, 0] > 0.5).sum() and check.layer == (layer or "conv2d_3")
    assert f"{100 * check.share:.0f} % of the support" in check.sentence
    assert "44 %" in check.sentence and "SHORTCUT" in check.sentence
    honest = tagged.trained(False)
    check = border_check(honest.model, honest.images, layer)
    assert not check.exposed and check.high < check.even and "no evidence of a shortcut" in check.sentence
    alone = border_check(honest.model, honest.images[:1], layer)
    assert alone.share is None and not alone.exposed and "no verdict on the border" in alone.sentence


@pytest.mark.soak
@pytest.mark.parametrize("seed", [6, 7, 8])
@pytest.mark.parametrize("tag", [None, (2, 2, 6, 255), (54, 54, 8, 255), (2, 56, 5, 200), (55, 3, 4, 255)])
def test_tags_of_all_kinds_are_exposed_by_both_checks(seed, tag):
    """A tag: its row, its column, its side and its shade."""
    made = tagged.train(seed, tag)
    check = border_check(made.model, made.images)
    found = check_shortcuts(made.model, made.images, made.labels, made.patients)
    assert check.exposed is (tag is not None)
    assert [sentence[:8] for sentence in found.findings[:1]] == ["SHORTCUT"] * (tag is not None)


def test_hirescam_equals_grad_cam_for_uniform_gradients():
    model = Sequential([Conv2D(3, 3), ReLU(), AveragePool2D(14), Flatten(), Dense(1), Sigmoid()], (16, 16, 1))
    x = pictures(model)
    a, b = (explain(model, x, method, target=1) for method in ("gradcam", "hirescam"))
    np.testing.assert_allclose(a.maps, b.maps, rtol=1e-5, atol=1e-6)


def test_maps_change_when_layers_are_randomised():
    model, images, labels, *_ = tagged.trained(False)
    before = model.get_weights()
    rows = parameter_randomization(model, images[labels == 1][:16])
    assert [row.layer for row in rows] == ["dense_2", "dense_1", "conv2d_3", "conv2d_2", "conv2d_1"]
    assert all(row.defined == 8 * 16 and abs(row.correlation) <= row.strength <= 1 for row in rows)
    assert abs(rows[-1].correlation) < 0.3 and rows[-1].strength < 0.6
    assert all((a == b).all() for a, b in zip(before, model.get_weights()))
    assert rows == parameter_randomization(model, images[labels == 1][:16])


def test_of_a_deep_network_sixteen_layers_are_told(monkeypatch):
    from minicnn.evaluation.explanation import sanity
    model, explained = Sequential([*(Conv2D(2, 3, padding="same") for _ in range(30)), Flatten(), Dense(1), Sigmoid()], (6, 6, 1)), []
    monkeypatch.setattr(sanity, "explain", lambda *arguments, **named: explained.append(1) or explain(*arguments, **named))
    rows = parameter_randomization(model, pictures(model), layer="conv2d_9", draws=2)
    names = [row.layer for row in rows]
    assert len(names) == 16 and names[0] == "dense_1" and names[-1] == "conv2d_1" and len(explained) == 1 + 2 * 16
    deep = [int(name.rpartition("_")[2]) for name in names[1:]]
    assert deep == sorted(deep, reverse=True) and max(np.diff(deep) * -1) <= 3


def test_weights_are_restored_after_an_interruption(monkeypatch):
    from minicnn.evaluation.explanation import sanity
    model, calls = network(), []
    before, real = model.get_weights(), sanity.explain

    def breaks(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(sanity, "explain", breaks)
    with pytest.raises(KeyboardInterrupt):
        parameter_randomization(model, pictures(model))
    assert all((a == b).all() for a, b in zip(before, model.get_weights()))


# ---- Plots -----------------------------------------------------------------------------------------------------------

def test_plots_are_equal_for_equal_input(tmp_path):
    model = network(input_shape=(24, 24, 3))
    x = np.clip(pictures(model, 3), 0, 1)
    explained = explain(model, x)
    for name in ("a", "b"):
        explanation.explanation(x[1], explained, tmp_path / f"{name}1.png", "$\\frac{ \x1b[2J <b>", 1)
    assert (tmp_path / "a1.png").read_bytes() == (tmp_path / "b1.png").read_bytes()
    with Image.open(tmp_path / "a1.png") as picture:
        assert set(picture.info) == {"dpi"} and np.asarray(picture.convert("L")).std() > 10
    with pytest.raises(ShapeError, match="expected those that were explained"):
        explanation.explanation(x[0, :12], explained, tmp_path / "c.png")
    with pytest.raises(InputError, match="expected the result of explain"):
        explanation.explanation(x[0], "heat", tmp_path / "c.png")


# ---- The command -----------------------------------------------------------------------------------------------------

@pytest.fixture
def run(tmp_path, capsys):
    """Return (folder, function): a model and two pictures in a folder; the function runs the command on them."""
    model = network(dtype="float32", input_shape=(16, 16, 3))
    model.classes, model.preprocessing = ("normal", "covid"), Preprocessing(16, 16)
    model.save(tmp_path / "model.safetensors")
    for i, name in enumerate(("a\x1b/scan 1.png", "b/scan 1.png")):
        (tmp_path / name).parent.mkdir()
        Image.fromarray((separated(i, (20, 20)) * 50 + 128).clip(0, 255).astype(np.uint8)).save(tmp_path / name)

    def command(*options):
        parser = argparse.ArgumentParser()
        explain_command.add_options(parser)
        files = [str(tmp_path / name / "scan 1.png") for name in ("a\x1b", "b")]
        explain_command.run(parser.parse_args([str(tmp_path / "model.safetensors"), *files, "--out",
                                               str(tmp_path / "out"), *options]))
        return capsys.readouterr().out

    return tmp_path, command


def test_the_command_writes_a_plot_of_each_file(run):
    folder, command = run
    text = command("--layer", "conv2d_2", "--sanity")
    assert "Grad-CAM of conv2d_2. Of a map that is the same everywhere, 44 % would lie on the border" in text
    assert "randomized from here to the end" in text and "dense_2" in text and "\x1b" not in text
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["scan_1-2-gradcam.png", "scan_1-gradcam.png"]
    report = json.loads(command("--method", "occlusion", "--json", "--target", "normal"))
    assert report["method"] == "occlusion" and report["layer"] is None and report["even_share"] == 0.4375
    assert [one["class"] for one in report["files"]] == ["normal"] * 2
    assert len(list((folder / "out").iterdir())) == 4
    for one in report["files"]:
        with Image.open(one["picture"]) as picture:
            assert picture.format == "PNG"


def test_errors_of_the_command(run):
    folder, command = run
    (folder / "file").write_text("")
    with pytest.raises(CheckpointError, match="the folder cannot be made .* Choose another with --out"):
        command("--out", str(folder / "file"))
    with pytest.raises(InputError, match="layer must be one of .* got 'conv2d_9'"):
        command("--layer", "conv2d_9")
    assert not (folder / "out").exists()            # nothing is written before everything is known to work
    Sequential([Dense(1), Sigmoid()], (4,)).save(folder / "model.safetensors")
    with pytest.raises(InputError, match="expected a network from images"):
        command()
