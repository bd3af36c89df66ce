"""Functions of one and of two arrays, constants, and what they refuse; in networks, files and training."""

import numpy as np
import pytest

from minicnn import (SGD, Add, Constant, Conv2D, Cropping2D, Dense, Elementwise, ElementwisePair, Flatten, Input, InputError, Model,
                     Permute, ShapeError, gradcheck)
from minicnn.core.backend import ENGINES
from minicnn.reference.elementwise import PAIRS


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 1, 4), (2, 1, 1)])
def test_a_pair_on_both_engines(engine, name, shape):
    layer = ElementwisePair(name)
    layer.configure(np.float64, engine)
    assert layer.build([(2, 3, 4), shape]) == (2, 3, 4)
    rng = np.random.default_rng(0)
    a, b, dy = rng.uniform(0.5, 2, (3, 2, 3, 4)), rng.uniform(0.5, 2, (3, *shape)), rng.normal(size=(3, 2, 3, 4))
    y = layer.forward([a, b])
    assert np.array_equal(y, getattr(np, {"remainder": "fmod"}.get(name, name))(a, b))
    direction, h = rng.normal(size=b.shape), 1e-6
    da, db = layer.backward(dy)
    assert da.shape == a.shape and db.shape == b.shape
    change = sum(layer.forward([a, b + sign * h * direction]) * sign for sign in (1, -1)) / (2 * h)
    assert np.isclose((db * direction).sum(), (dy * change).sum(), rtol=1e-4, atol=1e-6)


def a_model(engine="fast"):
    x = Input((6, 5, 2))
    y = Conv2D(3, 3, name="conv")(Cropping2D(((1, 0), (0, 1)))(x))
    y = ElementwisePair("maximum")([y, Constant((3, 2, 3), name="floor")(y)])
    y = Elementwise("exp")(Permute((2, 1, 3))(y))
    return Model(x, Dense(1)(Flatten()(Add()([y, Constant((2, 3, 3))(y)]))), seed=3, engine=engine)


def test_in_a_network(tmp_path):
    model, x = a_model(), np.random.default_rng(1).normal(size=(5, 6, 5, 2)).astype(np.float32)
    model.get_layer("floor").set_weights([np.full((3, 2, 3), 0.1, np.float32)])
    slow = a_model("reference")
    slow.set_weights(model.get_weights())
    for _ in range(5):                                  # recorded, then replayed
        assert np.allclose(model.predict(x), slow.predict(x), rtol=1e-5)
    assert (report := gradcheck(model)), report
    model.compile(SGD(0.01), "mean_squared_error")
    losses = model.fit(x, np.ones(5), epochs=3, progress=False).history["loss"]
    assert losses[2] < losses[0]
    assert np.array_equal(model.get_layer("floor").get_weights()[0], np.full((3, 2, 3), np.float32(0.1)))
    model.save(tmp_path / "model.safetensors")
    assert np.array_equal(Model.load(tmp_path / "model.safetensors").predict(x), model.predict(x))


@pytest.mark.parametrize("make, error, sentence", [
    (lambda: Elementwise("sinh2"), InputError, "Elementwise: function must be one of abs, neg, .*Did you mean 'sinh'"),
    (lambda: ElementwisePair("max"), InputError, "ElementwisePair: function must be one of maximum"),
    (lambda: ElementwisePair("divide").build([(2,)] * 3), ShapeError, "it takes two arrays, got 3"),
    (lambda: ElementwisePair("divide").build([(2,), (3,)]), ShapeError, r"the shapes must be equal, or 1 .*\(2,\) and \(3,\)"),
    (lambda: Constant((2, -1)), InputError, r"Constant: shape must have all its sizes, got \(2, -1\)"),
    (lambda: Permute((1, 3)), InputError, r"Permute: dims must have each of 1, 2, ... once, got \(1, 3\)"),
    (lambda: Permute((2, 1)).build((3,)), ShapeError, r"Permute: dims \(2, 1\) are for 2 axes, got inputs of shape \(3,\)"),
    (lambda: Cropping2D((2, 0)).build((4, 4, 1)), ShapeError, r"Cropping2D: nothing is left of images \(4, 4, 1\)")])
def test_what_cannot_be_used_is_said(make, error, sentence):
    with pytest.raises(error, match=sentence):
        make()
