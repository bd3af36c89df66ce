"""Dense: the error of long float32 sums, and samples that do not see how many they are."""

import numpy as np
import pytest

from minicnn import reference as ref
from tests.support.kernel_checks import constants, each_draw, one_after_another, run, widened
from tests.support.laws import assert_rounded, assert_same_bits
from tests.support.strategies import DTYPES, abs_inputs, normals

LONGEST = 27 * 27 * 32


def sums_of(K, draw):
    """Return x (1, K), w (K, 100), b (100,) for 100 sums of K products each."""
    return [np.ascontiguousarray(draw(shape)) for shape in ((1, K), (K, 100), (100,))]


@each_draw
@pytest.mark.parametrize("K", [1, 15, 27, 288, 4608, 16384, LONGEST])
def test_float32_sums_stay_within_eight_eps(K, draw):
    inputs = sums_of(K, draw)
    assert_rounded(run("dense", inputs)[0], ref.dense(*widened(inputs)), ref.dense(*abs_inputs(inputs)))


def test_a_plain_float32_sum_would_be_noticed():
    x, w, b = sums_of(4608, constants)
    with pytest.raises(AssertionError, match="eps of the magnitude, the bound is 8"):
        assert_rounded(one_after_another(x.T * w)[None], ref.dense(*widened((x, w, b * 0))),
                       ref.dense(*abs_inputs((x, w, b * 0))))


@pytest.mark.parametrize("dtype", DTYPES)
def test_many_samples_and_few_have_the_same_bits_whichever_way_they_go(dtype):
    x, w, b, dy = (normals(i, shape, dtype) for i, shape in enumerate([(300, 800), (800, 70), (70,), (300, 70)]))
    pointwise, flat = w[None, None], ((1, 1), (0, 0, 0, 0))
    y, = run("dense", (x, w, b))
    dx, = run("dense_input_gradient", (dy, w))
    assert_same_bits(run("conv2d", (x[:, None, None], pointwise, b, *flat))[0][:, 0, 0], y)
    assert_same_bits(run("conv2d_input_gradient", (dy[:, None, None], pointwise, (1, 1), *flat))[0][:, 0, 0], dx)
    for n in (1, 2, 95, 96, 97, 256, 257):
        assert_same_bits(run("dense", (x[:n].copy(), w, b))[0], y[:n])
        assert_same_bits(run("dense_relu", (x[:n].copy(), w, b))[0], np.maximum(y[:n], 0))
        assert_same_bits(run("dense_input_gradient", (dy[:n].copy(), w))[0], dx[:n])
