"""The laws of the weights before training: exact bounds, variances, truncation, fans."""

from math import prod, sqrt

import numpy as np
import pytest

from minicnn.errors import InputError
from minicnn.initializers import INITIALIZERS, fans, initialize
from tests.support.laws import assert_same_bits
from tests.support.strategies import DTYPES

# Kernels as images and dense layers have them, with unequal fans: (shape, fan_in, fan_out).
SHAPES = [((3, 3, 3, 32), 27, 288), ((5, 2, 16, 4), 160, 40), ((4608, 128), 4608, 128), ((7, 400), 7, 400)]
each_shape = pytest.mark.parametrize("shape, fan_in, fan_out", SHAPES)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def draw(law, shape, n=200_000, dtype=np.float64):
    """Return at least n numbers drawn by a law: as many arrays of the shape as it takes."""
    return np.concatenate([initialize(law, shape, dtype, 1, i).ravel() for i in range(-(-n // prod(shape)))])


@each_shape
def test_fans_are_counted_over_the_whole_window(shape, fan_in, fan_out):
    assert fans(shape) == (fan_in, fan_out)


@each_dtype
@each_shape
@pytest.mark.parametrize("law, n", [("glorot_uniform", lambda i, o: i + o), ("he_uniform", lambda i, o: i)])
def test_uniform_laws_fill_their_bounds_and_no_more(law, n, shape, fan_in, fan_out, dtype):
    w, bound = draw(law, shape, dtype=dtype), sqrt(6 / n(fan_in, fan_out))
    assert np.abs(w).max() <= dtype(bound)
    # Of n draws the largest falls short of the bound by 1/n of its range on average; by 20/n once in 5e8 tries.
    assert w.max() > bound * (1 - 40 / w.size) and w.min() < -bound * (1 - 40 / w.size)
    assert_moments(w, bound**2 / 3, fourth=bound**4 / 5)


@each_shape
@pytest.mark.parametrize("law, variance", [("glorot_normal", lambda i, o: 2 / (i + o)),
                                           ("he_normal", lambda i, o: 2 / i)])
def test_normal_laws_are_truncated_at_two_and_keep_their_variance(law, variance, shape, fan_in, fan_out):
    w, variance = draw(law, shape), variance(fan_in, fan_out)
    cut = 2 * sqrt(variance) / 0.87962566103423978
    assert np.abs(w).max() <= cut and np.abs(w).max() > 0.99 * cut
    # The fourth moment of a normal truncated at 2, over the square of its variance: 2.36
    assert_moments(w, variance, fourth=2.36 * variance**2)
    # Truncated, not clipped: the outermost twentieth is no fuller than the density there (2 x 0.05 x phi(2)/0.9545).
    assert (np.abs(w) > 0.975 * cut).mean() < 0.0075


def assert_moments(w, variance, fourth):
    """The mean is 0 and the variance right, each within three of its own standard deviations."""
    assert abs(w.mean()) < 3 * sqrt(variance / w.size)
    assert abs(w.var() - variance) < 3 * sqrt((fourth - variance**2) / w.size)


def test_a_law_that_forgets_the_truncation_or_swaps_the_fans_is_noticed():
    w = draw("he_normal", (7, 400))
    with pytest.raises(AssertionError):
        assert_moments(w * 0.87962566103423978, 2 / 7, fourth=2.36 * (2 / 7)**2)
    with pytest.raises(AssertionError):
        assert_moments(w, 2 / 400, fourth=2.36 * (2 / 400)**2)


def test_zeros_are_zeros():
    w = initialize("zeros", (4,), np.float32, 0, 0)
    assert w.tolist() == [0, 0, 0, 0] and w.dtype == np.float32


@each_dtype
@pytest.mark.parametrize("law", INITIALIZERS)
def test_draws_depend_on_seed_and_index_alone_and_are_rounded_once(law, dtype):
    shape = (3, 3, 4, 8)
    w = initialize(law, shape, dtype, 5, 6)
    assert w.shape == shape and w.dtype == dtype and w.flags.c_contiguous
    assert_same_bits(initialize(law, shape, dtype, 5, 6), w)
    assert_same_bits(initialize(law, shape, np.float64, 5, 6).astype(dtype), w)
    if law not in ("zeros", "ones"):
        assert (initialize(law, shape, dtype, 5, 7) != w).mean() > 0.99
        assert (initialize(law, shape, dtype, 6, 6) != w).mean() > 0.99


def test_an_unknown_law_hears_the_nearest():
    with pytest.raises(InputError, match="initializer: expected one of glorot_uniform, glorot_normal, he_uniform, "
                                         "he_normal, zeros, ones, got 'glorot_unifrom'. Did you mean "
                                         "'glorot_uniform'?"):
        initialize("glorot_unifrom", (2, 2), np.float32, 0, 0)
