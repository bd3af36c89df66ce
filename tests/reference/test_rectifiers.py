"""The relatives of ReLU: edges, tails, and gradients against differences."""

import math

import numpy as np
import pytest
from hypothesis import given

from minicnn import reference as ref
from tests.support.laws import assert_gradient
from tests.support.reference_checks import each_dtype
from tests.support.strategies import cases

# {name: (its numbers, whether the gradient is found from the output, value and slope by Python's floats)}
RECTIFIERS = {
    "clipped_relu": ((6.0,), True, lambda a: min(max(a, 0.0), 6.0), lambda a: float(0 < a < 6)),
    "leaky_relu": ((0.25,), True, lambda a: a if a > 0 else 0.25 * a, lambda a: 1.0 if a > 0 else 0.25),
    "elu": ((0.5,), False, lambda a: a if a > 0 else 0.5 * math.expm1(a), lambda a: 1.0 if a > 0 else 0.5 * math.exp(a)),
    "swish": ((), False, lambda a: a * _sigmoid(a), lambda a: _sigmoid(a) + a * _sigmoid(a) * _sigmoid(-a)),
    "softplus": ((), True, lambda a: max(a, 0.0) + math.log1p(math.exp(-abs(a))), lambda a: _sigmoid(a))}
each_rectifier = pytest.mark.parametrize("name", RECTIFIERS)


def _sigmoid(a):
    return 1 / (1 + math.exp(-a)) if a > 0 else math.exp(a) / (1 + math.exp(a))


def gradient(name, dy, x):
    numbers, from_output, *_ = RECTIFIERS[name]
    seen = getattr(ref, name)(x, *numbers) if from_output else x
    return getattr(ref, f"{name}_gradient")(dy, seen, *numbers)


@each_dtype
@each_rectifier
def test_no_tail_is_lost(name, dtype):
    # Within 4 units in the last place of each value, and its gradient within 8 of the sum of its terms.
    numbers, _, value, slope = RECTIFIERS[name]
    x = np.concatenate([np.linspace(-80, 80, 2001), [-30, 30, 0, 1e-30, -1e-30, 6]]).astype(dtype)
    eps, tiny = np.finfo(dtype).eps, np.finfo(dtype).tiny
    expected = np.array([value(float(a)) for a in x])
    got = getattr(ref, name)(x, *numbers)
    assert got.dtype == dtype and (np.abs(got - expected) <= 4 * eps * np.abs(expected) + tiny).all()
    expected = np.array([slope(float(a)) for a in x])
    bound = np.array([_sigmoid(float(a)) * (1 + abs(float(a))) for a in x]) if name == "swish" else np.abs(expected)
    got = gradient(name, np.ones(x.shape, dtype), x)
    assert got.dtype == dtype and (np.abs(got - expected) <= 8 * eps * bound + tiny).all()


@each_dtype
@pytest.mark.parametrize("name, y, dx", [
    ("clipped_relu", [0, 0, 0, 3, 6, 6, 6], [0, 0, 0, 7, 0, 0, 0]),
    ("leaky_relu", [-np.inf, -256, 0, 3, 6, 1024, np.inf], [1.75, 1.75, 1.75, 7, 7, 7, 7]),
    ("elu", [-0.5, -0.5, 0, 3, 6, 1024, np.inf], [0, 0, 3.5, 7, 7, 7, 7]),
    ("swish", [0, 0, 0, 3 * _sigmoid(3), 6 * _sigmoid(6), 1024, np.inf],
     [0, 0, 3.5, 7 * RECTIFIERS["swish"][3](3), 7 * RECTIFIERS["swish"][3](6), 7, 7]),
    ("softplus", [0, 0, math.log(2), 3 + math.log1p(math.exp(-3)), 6 + math.log1p(math.exp(-6)), 1024, np.inf],
     [0, 0, 3.5, 7 * _sigmoid(3), 7 * _sigmoid(6), 7, 7])])
def test_edges_and_infinities(name, y, dx, dtype):
    """At 0 a kink has the gradient of the left side, and ReLU6 none at either end; far out nothing is NaN."""
    x = np.array([-np.inf, -1024, 0, 3, 6, 1024, np.inf], dtype)
    numbers = RECTIFIERS[name][0]
    with np.errstate(all="raise", under="ignore"):
        got, slopes = getattr(ref, name)(x, *numbers), gradient(name, np.full(7, 7, dtype), x)
    np.testing.assert_allclose(got, y, rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_allclose(slopes, dx, rtol=8 * np.finfo(dtype).eps)
    assert np.isnan(getattr(ref, name)(np.full(1, np.nan, dtype), *numbers)).all()


@each_rectifier
@given(case=cases())
def test_gradients(name, case):
    x, dy = case.separated(*case.x_shape), case.normals(*case.x_shape)
    assert_gradient(lambda x: getattr(ref, name)(x, *RECTIFIERS[name][0]), gradient(name, dy, x), x, dy)
