"""Published networks compute what those of keras.applications do from identical weights: outputs, and gradients of every weight.

Keras' numbers are frozen in `../vectors/keras_networks.safetensors` (made by make_keras_networks.py), in float64: one in prediction,
and with moving statistics. In float32 a number near a kink of a ReLU falls on its other side, here or there, so that gradients
differ by some thousandths.
"""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from minicnn import BatchNormalization, networks
from minicnn.networks import resnet
from tests.vectors import cases

FROZEN = load_file(Path(__file__).parents[1] / "vectors" / "keras_networks.safetensors")
# Largest difference of an output, and of a gradient as a share of its norm; measured: 3e-15 and 2e-14, 2e-6 and 1e-2.
BARS = {"float64": (1e-12, 1e-11), "float32": (1e-5, 5e-2)}


def differences(name, dtype, engine):
    """Return the largest difference of an output from Keras', and {weight: that of its gradient as a share of its norm}."""
    model = getattr(networks, name)(cases.PUBLISHED_CLASSES, cases.PUBLISHED[name][1], dtype=dtype, engine=engine)
    for key, weight in model.network.named_weights().items():
        weight.value[...] = cases.published_weight(f"{name}/{key}", weight.value.shape)
    x = cases.published_images(name).astype(dtype)
    predicted = model.predict(x)
    y = model.network.forward(x)            # as predict, but for the recording
    assert np.abs(y - predicted).max() <= BARS[dtype][0]
    model.network.backward(cases.draw(f"{name}/dy", y.shape).astype(dtype))
    off = {}
    for i, (key, parameter) in enumerate(sorted(model.network.named_parameters().items())):
        norm, direction = FROZEN[f"{name}/norms"][i], cases.published_direction(f"{name}/{key}", parameter.grad.shape)
        projected = np.sum(parameter.grad * direction, dtype=np.float64)
        off[key] = max(abs(projected - FROZEN[f"{name}/projections"][i]), abs(np.linalg.norm(parameter.grad) - norm)) / norm
    assert len(off) == len(FROZEN[f"{name}/norms"])
    return np.abs(predicted - FROZEN[f"{name}/outputs"]).max(), off


# One precision for each, as they are large; ReLU6 has two kinks, and float32 the most to lose.
RUNS = [("vgg16", "float32", "fast"), ("vgg19", "float32", "fast"), ("resnet50", "float64", "fast"), ("resnet50_v2", "float64", "fast"),
        ("mobilenet_v2", "float64", "fast"), ("mobilenet_v2", "float32", "fast"), ("mobilenet_v2", "float64", "reference"),
        ("inception_v3", "float64", "fast"), ("inception_resnet_v2", "float64", "fast"), ("efficientnet_b0", "float64", "fast")]


@pytest.mark.parametrize("name, dtype, engine", RUNS)
def test_outputs_and_gradients_are_those_of_keras(name, dtype, engine):
    output, gradients = differences(name, dtype, engine)
    worst = max(gradients, key=gradients.get)
    assert output <= BARS[dtype][0] and gradients[worst] <= BARS[dtype][1], (output, worst, gradients[worst])


def test_everything_frozen_is_compared():
    assert {name for name, *_ in RUNS} == set(cases.PUBLISHED) and set(cases.PUBLISHED) <= set(networks.NETWORKS)


@pytest.mark.parametrize("name", cases.PUBLISHED)
def test_what_is_frozen_tells_images_and_classes_apart(name):
    y = FROZEN[f"{name}/outputs"]
    assert np.abs(y[0] - y[1]).min() > 1e-4 and y.max() < 0.95 and FROZEN[f"{name}/norms"].min() > 1e-4


def test_an_epsilon_of_another_convention_is_seen(monkeypatch):
    norm = resnet._norm
    monkeypatch.setattr(resnet, "_norm", lambda name: BatchNormalization(name=name) if name == "conv3_block2_2_bn" else norm(name))
    assert differences("resnet50", "float64", "fast")[0] > 1e6 * BARS["float64"][0]         # 1e-5: float32 would hardly tell


def test_two_convolutions_in_the_wrong_order_are_seen(monkeypatch):
    draw, other = cases.published_weight, {"inception_v3/conv2d_50/kernel": "inception_v3/conv2d_51/kernel"}
    monkeypatch.setattr(cases, "published_weight", lambda name, shape: draw(other.get(name, name), shape))
    assert differences("inception_v3", "float32", "fast")[0] > 10 * BARS["float32"][0]
