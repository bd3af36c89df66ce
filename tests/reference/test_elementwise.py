"""Functions of one and of two numbers: values by Python's floats, slopes by differences, ties, poles, repeated sizes."""

import math

import numpy as np
import pytest

from minicnn import reference as ref
from minicnn.reference.elementwise import FUNCTIONS, PAIRS
from tests.support.reference_checks import each_dtype

BY_PYTHON = {"abs": abs, "neg": lambda a: -a, "reciprocal": lambda a: 1 / a, "square": lambda a: a * a, "round": round,
             "sign": lambda a: (a > 0) - (a < 0)} | {name: getattr(math, name) for name in
             "exp log sqrt floor ceil erf sin cos tan asin acos atan sinh cosh asinh acosh atanh".split()}
PAIRS_BY_PYTHON = {"maximum": max, "minimum": min, "subtract": lambda a, b: a - b, "divide": lambda a, b: a / b,
                   "power": math.pow, "remainder": math.fmod}


def inside(name):
    """Return numbers in the domain of a function, away from its kinks and poles."""
    low, high = {"log": (0.1, 5), "sqrt": (0.1, 5), "asin": (-0.9, 0.9), "acos": (-0.9, 0.9), "atanh": (-0.9, 0.9),
                 "acosh": (1.1, 4), "tan": (-1.4, 1.4)}.get(name, (-3.4, 3.4))
    x = np.linspace(low, high, 41)
    return x[(np.abs(x * 2 - np.rint(x * 2)) > 0.05) | (name in BY_PYTHON and low > -3)]


@each_dtype
@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_slopes(name, dtype):
    x = inside(name).astype(dtype)
    got = ref.unary(x, name)
    expected = np.array([BY_PYTHON[name](float(a)) for a in x], np.float64)
    assert got.dtype == dtype and np.allclose(got, expected, rtol=8 * np.finfo(dtype).eps, atol=0)
    wide, h = x.astype(np.float64), 1e-6
    slopes = (ref.unary(wide + h, name) - ref.unary(wide - h, name)) / (2 * h)
    gradient = ref.unary_gradient(np.full(x.shape, 2, dtype), x, name)
    assert gradient.dtype == dtype and np.allclose(gradient, 2 * slopes, rtol=1e-5, atol=1e-6)


@each_dtype
@pytest.mark.parametrize("name", PAIRS)
def test_pairs(name, dtype):
    a, b = (array.ravel().astype(dtype) for array in np.meshgrid([0.3, 1.7, 2.75, 5.1], [0.45, 1.3, 2.2]))
    got = ref.binary(a, b, name)
    expected = [PAIRS_BY_PYTHON[name](float(one), float(other)) for one, other in zip(a, b)]
    assert got.dtype == dtype and np.allclose(got, expected, rtol=1e-5 if dtype == np.float32 else 1e-13, atol=0)
    (x, y), h = (a.astype(np.float64), b.astype(np.float64)), 1e-6
    slopes = [(ref.binary(x + h, y, name) - ref.binary(x - h, y, name)) / (2 * h),
              (ref.binary(x, y + h, name) - ref.binary(x, y - h, name)) / (2 * h)]
    for gradient, slope in zip(ref.binary_gradient(np.full(a.shape, 3, dtype), a, b, name), slopes):
        assert gradient.dtype == dtype and np.allclose(gradient, 3 * slope, rtol=1e-5, atol=1e-6)


def test_ties_poles_and_what_has_no_logarithm():
    one, zero, dy = np.ones(1), np.zeros(1), np.full(1, 5.0)
    for name in ("maximum", "minimum"):
        assert [g.item() for g in ref.binary_gradient(dy, one, one, name)] == [5, 0]
    assert np.isposinf(ref.unary(zero, "reciprocal")) and np.isneginf(ref.unary(zero, "log"))
    assert np.isnan(ref.unary(-one, "sqrt")) and ref.unary_gradient(dy, zero, "abs") == 0
    da, db = ref.binary_gradient(dy, -2 * one, 3 * one, "power")
    assert (da.item(), db.item()) == (60, 0)
    assert [g.item() for g in ref.binary_gradient(dy, zero, zero, "power")] == [0, 0]


def test_repeated_sizes_get_the_sum():
    a, b = np.arange(12.0).reshape(2, 3, 2) + 1, np.array([[[2.0, 4.0]]])
    dy = np.ones((2, 3, 2))
    da, db = ref.binary_gradient(dy, a, np.repeat(b, 2, axis=0), "divide")
    assert np.allclose(da, 1 / np.broadcast_to(b, a.shape)) and np.allclose(db, (-a / b**2).sum(axis=1, keepdims=True))
