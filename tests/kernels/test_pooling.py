"""Pooling: ties, NaN, and sums over many windows."""

import numpy as np

from minicnn import reference as ref
from tests.support.kernel_checks import NO_PADS, each_dtype, nan_everywhere, run, widened
from tests.support.laws import assert_near_largest


@each_dtype
def test_max_pooling_takes_the_first_of_equals_and_any_nan(dtype):
    rng = np.random.default_rng(0)
    x = rng.integers(-1, 2, (40, 6, 6, 5)).astype(dtype)
    x[rng.random(x.shape) < 0.05] = np.nan
    x[rng.random(x.shape) < 0.3] = -np.inf
    for pool, strides, pads in [((2, 2), (2, 2), NO_PADS), ((3, 2), (1, 2), (1, 1, 0, 0)), ((6, 6), (6, 6), NO_PADS)]:
        inputs = x, pool, strides, pads
        y, switches = run("max_pool2d", inputs)
        expected_y, expected_switches = ref.max_pool2d(*inputs)
        np.testing.assert_array_equal(y, expected_y)
        known = ~np.isnan(y)
        assert (switches[known] == expected_switches[known]).all()
        windows = ref.im2col(x, *inputs[1:]).reshape(*y.shape[:3], -1, x.shape[3])
        chosen = np.take_along_axis(windows, switches[:, :, :, None].astype(int), axis=3)[:, :, :, 0]
        assert np.isnan(chosen[~known]).all()


def test_one_pixel_that_wins_thousands_of_windows_gets_their_sum():
    x = np.zeros((1, 63, 63, 1), np.float32)
    x[0, 31, 31] = 1
    window = (32, 32), (1, 1), NO_PADS
    y, switches = run("max_pool2d", (x, *window))
    assert (y == 1).all()
    inputs = np.full(y.shape, 0.1, np.float32), switches, (63, 63), *window
    assert_near_largest(run("max_pool2d_gradient", inputs)[0], ref.max_pool2d_gradient(*widened(inputs)), 1e-6)


def test_a_maximum_that_loses_nan_would_be_noticed():
    x = nan_everywhere((2, 2, 1), np.float32)
    assert np.isnan(np.fmax.reduce(x.reshape(4, 4), axis=1)).sum() == 0
    assert np.isnan(ref.max_pool2d(x, (2, 2), (2, 2), NO_PADS)[0]).all()
