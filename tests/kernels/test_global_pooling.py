"""Global pooling: ties, NaN, and sums over large images."""

import numpy as np

from minicnn import reference as ref
from tests.support.kernel_checks import each_dtype, run, widened
from tests.support.laws import assert_near_largest, assert_same_bits


@each_dtype
def test_the_maximum_takes_the_first_of_equals_and_any_nan(dtype):
    rng = np.random.default_rng(0)
    x = rng.integers(-1, 2, (60, 3, 4, 5)).astype(dtype)
    x[rng.random(x.shape) < 0.05] = np.nan
    x[rng.random(x.shape) < 0.3] = -np.inf
    x[0] = -np.inf
    for got, expected in zip(run("global_max_pool2d", (x,)), ref.global_max_pool2d(x), strict=True):
        assert_same_bits(got, expected)
    assert np.isnan(x.reshape(60, 12, 5)).any(axis=1).sum() > 50        # what the case is for


def test_a_place_beyond_65_535_is_kept():
    x = np.zeros((1, 300, 300, 1), np.float32)
    x[0, 290, 7] = 1
    y, switches = run("global_max_pool2d", (x,))
    assert (y.item(), switches.item()) == (1, 290 * 300 + 7)
    dx, = run("global_max_pool2d_gradient", (np.full((1, 1), 3, np.float32), switches, (300, 300)))
    assert_same_bits(dx, 3 * x)


def test_a_mean_of_many_equal_numbers_is_that_number():
    x = np.full((2, 222, 222, 3), 0.1, np.float32)      # one after another in float32 they are off by 2e-3
    assert_near_largest(run("global_average_pool2d", (x,))[0], ref.global_average_pool2d(*widened((x,))), 1e-7)
