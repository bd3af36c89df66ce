"""Normalization: large means, gradients that are not wanted, many blocks, and layer normalization's company."""

import numpy as np
import pytest

from minicnn import kernels, reference as ref
from tests.support.kernel_checks import check, each_dtype, run
from tests.support.laws import assert_same_bits
from tests.support.strategies import normals


@each_dtype
@pytest.mark.parametrize("shape", [(3,), (31, 2, 3, 1), (5000, 5), (257, 100), (9, 20000), (33, 16, 16, 32), (2, 33)])
@pytest.mark.parametrize("name", ["batch_statistics", "batch_norm_gradient", "layer_norm_gradient"])
def test_any_number_of_blocks(name, shape, dtype):
    """Of one number and of many rows, of few channels and of so many that a block holds eight rows."""
    shape = shape if len(shape) > 1 else (1, *shape)
    x, dy, gamma = 2 * normals(0, shape, dtype) + 3, normals(1, shape, dtype), normals(2, shape[-1:], dtype)
    if name == "batch_statistics":
        check(name, (x,))
    elif name == "batch_norm_gradient":
        check(name, (dy, x, *ref.batch_statistics(x), gamma, 1e-3, False))
    else:
        check(name, (dy, x, *ref.layer_norm(x, gamma, gamma, 1e-3)[1:], gamma, 1e-3))


@each_dtype
def test_a_variance_survives_a_mean_a_million_times_as_large(dtype):
    x = (2.0**20 + np.random.default_rng(0).integers(0, 8, (40000, 3)) / 8).astype(dtype)        # exact in float32
    mean, variance = run("batch_statistics", (x,))
    np.testing.assert_allclose(variance, ref.batch_statistics(x - 2.0**20)[1], rtol=1e-9)
    naive = np.square(x, dtype=dtype).mean(axis=0, dtype=dtype) - x.mean(axis=0, dtype=dtype) ** 2
    assert (np.abs(naive - variance) > 1e-5 * variance).all(), "sums of squares would not do"
    inputs = x, mean, variance, np.ones(3, dtype), np.zeros(3, dtype), 1e-3
    np.testing.assert_allclose(run("batch_norm", inputs)[0], ref.batch_norm(*inputs), rtol=1e-5, atol=1e-6)


@each_dtype
def test_the_gradients_of_gamma_and_beta_need_no_dx(dtype):
    x, dy, gamma = normals(0, (50, 7), dtype), normals(1, (50, 7), dtype), normals(2, (7,), dtype)
    inputs = dy, x, *ref.batch_statistics(x), gamma, 1e-3, False
    _, *expected = run("batch_norm_gradient", inputs)
    got = [np.full_like(a, np.nan) for a in expected]
    kernels.batch_norm_gradient(*inputs, None, *got)
    for one, other in zip(got, expected):
        assert_same_bits(one, other)


@each_dtype
@pytest.mark.parametrize("C", [1, 3, 16, 17, 100])
def test_dx_of_a_row_depends_on_no_other_row(C, dtype):
    x, dy, gamma = normals(0, (2000, C), dtype), normals(1, (2000, C), dtype), normals(2, (C,), dtype)
    statistics = ref.layer_norm(x, gamma, gamma, 1e-3)[1:]
    dx, *_ = run("layer_norm_gradient", (dy, x, *statistics, gamma, 1e-3))
    for rows in (slice(0, 1), slice(700, 701), slice(1990, 2000)):
        alone, *_ = run("layer_norm_gradient", (dy[rows].copy(), x[rows].copy(), *(a[rows].copy() for a in statistics),
                                                gamma, 1e-3))
        assert_same_bits(alone, dx[rows])


@each_dtype
def test_nan_and_infinity_reach_their_channel_or_their_row_and_no_other(dtype):
    for bad in (np.nan, np.inf):
        x = normals(0, (400, 5), dtype)
        x[7, 2] = bad
        mean, variance = run("batch_statistics", (x,))
        assert (np.isfinite(variance) == [True, True, False, True, True]).all()
        y, = run("batch_norm", (x, mean, variance, np.ones(5, dtype), np.ones(5, dtype), 1e-3))
        assert (np.isfinite(y).all(axis=0) == [True, True, False, True, True]).all()
        y, mean, _ = run("layer_norm", (x, np.ones(5, dtype), np.ones(5, dtype), 1e-3))
        assert (np.flatnonzero(~np.isfinite(y).all(axis=1)) == [7]).all()
