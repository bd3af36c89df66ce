"""Activations: extremes, and gradients against differences."""

import math

import numpy as np
import pytest
from hypothesis import given

from minicnn import reference as ref
from tests.support.laws import assert_gradient
from tests.support.reference_checks import each_dtype
from tests.support.strategies import cases, separated, specified


def test_relu_at_the_edges():
    x = np.array([-np.inf, -1, -0.0, 0, 1e-45, 3, np.inf, np.nan])
    np.testing.assert_array_equal(ref.relu(x), [0, 0, 0, 0, 1e-45, 3, np.inf, np.nan])
    # relu'(0) = 0; and where the output is NaN no gradient is made of it (TensorFlow; PyTorch passes it on)
    assert ref.relu_gradient(np.full(8, 7.0), ref.relu(x)).tolist() == [0, 0, 0, 0, 7, 7, 7, 0]


@each_dtype
@pytest.mark.parametrize("name, exact", [("sigmoid", lambda a: 1 / (1 + math.exp(-a)) if a > 0
                                          else math.exp(a) / (1 + math.exp(a))), ("tanh", math.tanh)])
def test_sigmoid_and_tanh_keep_their_tails(name, exact, dtype):
    # Within 4 units in the last place of each value, also far out, where tanh(x/2)/2 + 1/2 would have lost all.
    x = np.concatenate([np.linspace(-87, 87, 2001), [-30, 30, 0, 1e-30, -1e-30]]).astype(dtype)
    expected = np.array([exact(float(a)) for a in x])
    error = np.abs(specified(name)(x).astype(np.float64) - expected)
    assert (error <= 4 * np.spacing(np.abs(expected).astype(dtype))).all()
    ends = specified(name)(np.array([-np.inf, np.inf, np.nan], dtype))
    np.testing.assert_array_equal(ends, [0 if name == "sigmoid" else -1, 1, np.nan])


@each_dtype
def test_softmax_of_extremes(dtype):
    y = ref.softmax(np.array([[1e4, -1e4, 1e4], [0, 0, 0], [np.nan, 1, 2], [-30, 0, 30]], dtype))
    assert y[0].tolist() == [0.5, 0, 0.5]
    assert np.isnan(y[2]).all() and np.isfinite(y[[0, 1, 3]]).all()
    tail = np.exp([-60.0, -30.0, 0.0])
    np.testing.assert_allclose(y[3], tail / tail.sum(), rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh", "softmax"])
@given(cases())
def test_activation_gradients(activation, case):
    forward, gradient = getattr(ref, activation), getattr(ref, activation + "_gradient")
    x, dy = case.separated(*case.x_shape), case.normals(*case.x_shape)
    assert_gradient(forward, gradient(dy, forward(x)), x, dy)


@given(cases())
def test_softmax_rows_are_distributions_that_ignore_a_common_shift(case):
    x = 10 * case.normals(*case.x_shape)
    y = ref.softmax(x)
    assert (y >= 0).all()
    np.testing.assert_allclose(y.sum(axis=-1), 1, rtol=1e-14)
    np.testing.assert_allclose(ref.softmax(x + 100), y, rtol=1e-12)


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh", "softmax"])
def test_a_gradient_wrong_by_a_thousandth_in_one_place_is_caught(activation):
    x, dy = separated(1, (3, 20)), separated(2, (3, 20))
    forward = getattr(ref, activation)
    dx = getattr(ref, activation + "_gradient")(dy, forward(x))
    assert_gradient(forward, dx, x, dy)
    largest = np.unravel_index(np.abs(dx).argmax(), dx.shape)
    dx[largest] *= 1.001
    with pytest.raises(AssertionError, match="the gradient is off by"):
        assert_gradient(forward, dx, x, dy)


def test_a_step_over_a_kink_would_show():
    # Why pooling and ReLU get separated numbers: on a kink the difference quotient is half the gradient.
    with pytest.raises(AssertionError, match="the gradient is off by"):
        assert_gradient(ref.relu, np.zeros(4), np.zeros(4), np.ones(4))
    assert np.diff(np.sort(separated(5, (99,)))).min() > 0.019 and np.abs(separated(5, (99,))).min() > 0.009
