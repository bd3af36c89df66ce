"""Layers that merge: what they compute, their gradients by hand, the residual block, and what they refuse."""

import numpy as np
import pytest

from minicnn import SGD, Add, Concatenate, Conv2D, Flatten, InputError, Multiply, ReLU, Residual, Sequential, ShapeError
from minicnn.core.backend import ENGINES


def built(layer, shapes, engine, dtype=np.float64):
    layer.configure(dtype, engine)
    layer.build(shapes)
    return layer


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_merges_by_hand(engine, dtype):
    a, b, c = (np.array(values, dtype).reshape(2, 1, 2) for values in ([1, 2, 3, 4], [5, 6, 7, 8], [0, -1, 2, 0.5]))
    dy = np.array([1, 10, 100, 1000], dtype).reshape(2, 1, 2)
    add = built(Add(), [(1, 2)] * 3, engine, dtype)
    assert np.array_equal(add.forward([a, b, c]), a + b + c)
    assert all(np.array_equal(dx, dy) for dx in add.backward(dy))
    multiply = built(Multiply(), [(1, 2)] * 3, engine, dtype)
    assert np.array_equal(multiply.forward([a, b, c]), a * b * c)
    for dx, expected in zip(multiply.backward(dy), (dy * b * c, dy * a * c, dy * a * b)):       # also where a factor is 0
        assert np.array_equal(dx, expected) and dx.dtype == dtype
    side = built(Concatenate(), [(1, 2), (1, 1)], engine, dtype)
    assert np.array_equal(side.forward([a, b[..., :1]]), np.concatenate([a, b[..., :1]], axis=-1))
    first, second = side.backward(np.concatenate([dy, dy[..., :1]], axis=-1))
    assert np.array_equal(first, dy) and np.array_equal(second, dy[..., :1])


@pytest.mark.parametrize("engine", ENGINES)
def test_channels_are_weighed(engine):
    x, w = np.random.default_rng(0).normal(size=(2, 3, 4, 5)), np.random.default_rng(1).normal(size=(2, 1, 1, 5))
    layer = built(Multiply(), [(3, 4, 5), (1, 1, 5)], engine)
    assert np.array_equal(layer.forward([x, w]), x * w)
    dy = np.random.default_rng(2).normal(size=x.shape)
    dx, dw = layer.backward(dy)
    assert np.array_equal(dx, dy * w)
    assert np.allclose(dw, (dy * x).sum(axis=(1, 2), keepdims=True), rtol=1e-14, atol=0)


def test_what_is_handed_out_and_in_is_copied():
    a, b = np.ones((1, 2)), np.full((1, 2), 2.0)
    layer = built(Multiply(), [(2,), (2,)], "fast")
    y = layer.forward([a, b])
    a[...] = 100
    assert np.array_equal(layer.backward(np.ones((1, 2)))[1], [[1, 1]])
    assert not np.shares_memory(y, layer.forward([a, b]))


@pytest.mark.parametrize("xs, error", [
    ([np.ones((1, 2))], InputError), (np.ones((2, 1, 2)), InputError), ([np.ones((1, 2)), np.ones((1, 3))], ShapeError),
    ([np.ones((1, 2)), np.ones((2, 2))], ShapeError)])
def test_other_batches_are_refused(xs, error):
    with pytest.raises(error, match="Add"):
        built(Add(), [(2,), (2,)], "fast").forward(xs)


def test_a_residual_block_keeps_the_gradient_of_its_input():
    """A body of zeros: y = x, and the gradient passes whole."""
    model = Sequential([Conv2D(2, 1), Residual([Conv2D(2, 3, padding="same"), ReLU()]), Flatten()], input_shape=(3, 3, 1),
                       dtype="float64", seed=1)
    weights = model.get_weights()
    model.set_weights(weights[:2] + [np.zeros_like(w) for w in weights[2:]])
    model.compile(SGD(0.1), loss="mean_squared_error")
    x = np.random.default_rng(0).random((2, 3, 3, 1))
    y = model.predict(x)
    assert np.allclose(y.reshape(2, 3, 3, 2), x * weights[0].reshape(2) + weights[1])
    _, gradients = model.loss_and_gradients(x, np.zeros_like(y))
    expected = (2 * y / y[0].size / 2).reshape(2, 3, 3, 2)
    assert np.allclose(gradients[1], expected.sum(axis=(0, 1, 2)))
