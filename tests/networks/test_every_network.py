"""Every published network, small: it learns 64 images, goes on to the byte after interruptions, is saved, loaded and exported.

Networks of a few million parameters do all of it on 64 images. The larger ones do that with -m soak; otherwise one of each other
family takes two steps of two images, which is enough to go on in their middle, and to be saved and exported.
"""

import shutil

import numpy as np
import pytest

from minicnn import SGD, Adam, BatchNormalization, load_model
from minicnn.networks import NETWORKS
from tests.support.interruptions import interrupted_after
from tests.support.laws import assert_same_bits
from tests.vectors import cases

# {name: (size, learning rate, epochs in which the loss falls, options)}; three seeds of each were tried, the larger ones two.
# VGG's two layers of 4,096 units are left out. Where maps shrink to 1 x 1, statistics of a batch are of 16 numbers alone.
CASES = {"cov19net": (32, 1e-3, 3, {}), "covid_caps": (32, 1e-3, 6, {}), "mobilenet_v2": (32, 5e-4, 5, {}),
         "efficientnet_lite0": (32, 5e-4, 6, {}), "efficientnet_b0": (32, 3e-4, 3, {}), "anomaly_detector": (32, 3e-4, 3, {}),
         "vgg16": (32, 3e-4, 4, {"head": (8,)}), "resnet50": (32, 3e-4, 3, {}), "resnet50_v2": (32, 3e-4, 3, {}),
         "inception_v3": (75, 3e-4, 3, {}), "covid_net_pepx": (32, 3e-4, 5, {}),
         "vgg19": (32, 3e-4, 5, {"head": (8,)}), "resnet101": (32, 3e-4, 4, {}), "resnet152": (64, 3e-4, 4, {}),
         "inception_resnet_v2": (75, 3e-4, 3, {}), "covid_net": (32, 3e-4, 3, {})}
LEARN = ["cov19net", "covid_caps", "mobilenet_v2", "efficientnet_lite0", "anomaly_detector"]     # whose trunk is efficientnet_b0
SHORT = ["vgg16", "resnet50", "inception_v3", "covid_net_pepx"]


def compiled(name, optimizer=None):
    size, rate, _, options = CASES[name]
    loss, weights = "margin" if name == "covid_caps" else "binary_crossentropy", None
    if name == "anomaly_detector":
        loss, weights = {"classification": loss, "anomaly": "deviation"}, [1, 0.1]
    else:
        options = options | {"classes": ["normal", "covid"]}
    model = NETWORKS[name](input_shape=(size, size, 3), seed=1, **options)
    model.compile(optimizer or Adam(rate), loss, loss_weights=weights, metrics=["accuracy"])
    return model


def images(name, n=64):
    """Return (x, labels): noise that is brighter in its right half, or its left."""
    size, labels = CASES[name][0], np.arange(n) % 2
    x = np.random.default_rng(0).random((n, size, size, 3), np.float32) / 2
    x[labels == 0, :, size // 2:] += 0.5
    x[labels == 1, :, :size // 2] += 0.5
    return x, labels


def fit(name, model, run, n, batch_size, epochs, **options):
    x, labels = images(name, n)
    t = [labels, labels] if name == "anomaly_detector" else labels
    return model.fit(x, t, epochs=epochs, batch_size=batch_size, run=run, progress=False, **options).rows


def begun(folder):
    """Return the folder of a run that ended where that in `folder`/whole had one epoch to go."""
    (folder / "parts").mkdir()
    shutil.copy(folder / "whole" / "previous.safetensors", folder / "parts" / "last.safetensors")
    return folder / "parts"


def settle(model, steps):
    """Make moving statistics what they would be without the 0 and 1 that they began with, so that predictions tell images apart."""
    for layer in model.layers:
        if isinstance(layer, BatchNormalization):
            left = layer.momentum ** steps
            mean, variance = (statistic.value for statistic in layer.statistics)
            mean[:], variance[:] = mean / (1 - left), np.maximum(variance - left, 0) / (1 - left)


def fill(name, model):
    """Give a model, whose outputs two steps have made 0 or 1, weights with which they are near 0.5."""
    for key, weight in model.network.named_weights().items():
        weight.value[...] = cases.published_weight(f"{name}/{key}", weight.value.shape)
    logits = model.network.forward(images(name, 2)[0], model.network.rows(heads=model.network.heads(["Sigmoid"])))
    model.get_layer("predictions").parameters[0].value[...] /= np.abs(logits).max()


def predictions(model, x):
    p = model.predict(x)
    return np.concatenate(p, 1) if isinstance(p, list) else p


def assert_same_runs(folder):
    files = [folder / part / "last.safetensors" for part in ("whole", "parts")]
    assert files[0].read_bytes() == files[1].read_bytes()


def assert_kept(model, x, folder):
    """What a model predicts is the same after each way into a file and back, and in ONNX Runtime."""
    model.save(folder / "model.safetensors")
    expected = predictions(model, x)
    assert np.ptp(expected, axis=0).max() > 1e-3            # there is something to compare
    again = load_model(folder / "model.safetensors")
    assert_same_bits(predictions(again, x), expected)
    assert again.classes == model.classes and again.loss.name == model.loss.name and again.get_config() == model.get_config()
    pytest.importorskip("onnx")
    from minicnn.interop import onnx
    onnx.save(model, folder / "model.onnx")
    assert np.abs(predictions(onnx.load(folder / "model.onnx"), x) - expected).max() <= 1e-5
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    assert np.abs(np.concatenate(session.run(None, {"input": x}), 1) - expected).max() <= 1e-5


@pytest.fixture
def folder(tmp_path):
    """A folder that does not stay, as files of a hundred megabytes would."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("name", [name if name in LEARN else pytest.param(name, marks=pytest.mark.soak) for name in CASES])
def test_it_learns_goes_on_to_the_byte_and_is_kept(name, folder, monkeypatch):
    model, plan = compiled(name), (64, 16, CASES[name][2])
    first, *_, last = fit(name, model, folder / "whole", *plan)
    falls = ["loss", "anomaly_loss"] if name == "anomaly_detector" else ["loss"]
    assert all(last[key] < first[key] / 1.6 for key in falls), [(first[key], last[key]) for key in falls]
    if name != "covid_caps":                    # which takes longer: test_covidcaps.py
        assert last["classification_accuracy" if name == "anomaly_detector" else "accuracy"] > 0.8
    with interrupted_after(1, monkeypatch):
        fit(name, compiled(name), begun(folder), *plan, resume=True)
    assert len(fit(name, compiled(name), folder / "parts", *plan, resume=True)) == 1
    assert_same_runs(folder)
    settle(model, 4 * plan[2])
    assert_kept(model, images(name, 4)[0], folder)


@pytest.mark.parametrize("name", SHORT)
def test_a_large_one_goes_on_to_the_byte_and_is_kept(name, folder):
    model, again = (compiled(name, SGD(1e-3)) for _ in range(2))
    fit(name, model, folder / "whole", 2, 2, 2)
    assert len(fit(name, again, begun(folder), 2, 2, 2, resume=True)) == 1
    assert_same_runs(folder)
    fill(name, model)
    x = images(name, 2)[0]
    x[1] /= 8
    assert_kept(model, x, folder)


def test_every_network_is_here():
    assert set(CASES) == set(NETWORKS)
