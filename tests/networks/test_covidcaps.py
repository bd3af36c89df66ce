"""COVID-CAPS: every row of its table, any size and number of classes; it learns (more: test_every_network.py) and is traced."""

import numpy as np
import pytest

from minicnn import Adam, ShapeError
from minicnn.networks import covid_caps

# (layer, output at 224 x 224, parameters with moving statistics): 1.4 of ../shared/facts.md, read from the authors' code
TABLE = [("conv1_activation", (222, 222, 64), 1_792), ("norm", (222, 222, 64), 256), ("conv2_activation", (220, 220, 64), 36_928),
         ("pool", (110, 110, 64), 0), ("conv3_activation", (108, 108, 128), 73_856), ("conv4_activation", (106, 106, 128), 147_584),
         ("pixels", (11_236, 128), 0), ("capsules1", (32, 8), 32_768), ("capsules2", (32, 8), 2_048),
         ("class_capsules", (2, 16), 256), ("lengths", (2,), 0)]


def test_every_row_of_the_table():
    model = covid_caps()
    counts = {layer.name.removesuffix("_activation"): layer.count_params() for layer in model.layers if layer.count_params()}
    assert [(name, model.get_layer(name).output_shape, counts.get(name.removesuffix("_activation"), 0)) for name, *_ in TABLE] == TABLE
    assert [layer.name for layer in model.layers if not layer.name.startswith("conv")] == [name for name, *_ in TABLE if "conv" not in name]
    norm, capsules = model.get_layer("norm"), [model.get_layer(name) for name in ("capsules1", "capsules2", "class_capsules")]
    assert (norm.momentum, norm.epsilon, norm.center, norm.scale) == (0.99, 1e-3, True, True)
    assert [layer.routings for layer in capsules] == [3, 3, 3] and model.count_params() == sum(count for *_, count in TABLE) == 295_488


@pytest.mark.parametrize("classes, size, outputs, count", [(2, 14, 2, 295_488), (["normal", "covid"], 64, 2, 295_488), (1, 33, 2, 295_488),
                                                           (5, 224, 5, 295_872)])
def test_any_size_and_number_of_classes(classes, size, outputs, count):
    model = covid_caps(classes, (size, size, 3))
    assert model.output_shape == (outputs,) and model.count_params() == count
    assert model.classes == (None if isinstance(classes, int) else tuple(classes))


def test_images_that_are_too_small():
    with pytest.raises(ShapeError, match="covid_caps: .* It needs images of at least 14 x 14; these are 13 x 20"):
        covid_caps(input_shape=(13, 20, 3))


@pytest.mark.soak
def test_it_tells_classes_apart():
    """Which takes long: first the capsules of both classes get the length that is best for all images, a loss of 0.213."""
    labels = np.arange(64) % 2
    x = np.random.default_rng(0).random((64, 48, 48, 3), np.float32) / 2
    x[labels == 0] = 0
    model = covid_caps(["normal", "covid"], (48, 48, 3), seed=1)
    model.compile(Adam(1e-3), "margin", metrics=["accuracy"])
    last = model.fit(x, labels, epochs=25, batch_size=16, progress=False).rows[-1]
    assert last["loss"] < 0.16 and last["accuracy"] == 1


def test_it_is_traced(capsys):
    model, x = covid_caps(["normal", "covid"], (32, 32, 3), seed=1), np.random.default_rng(0).random((1, 32, 32, 3), np.float32)
    model.compile(Adam(), "margin")
    model.summary()
    assert "class_capsules" in capsys.readouterr().out
    told = " ".join(str(model.trace(x, [1])).split())
    assert "squash(sum over i of c[i, j] u[i, j])" in told and "100 x 32 predictions of 8 numbers" in told and "3 rounds: c = 1 / 32" in told
