"""Dense: the error of long float32 sums."""

import numpy as np
import pytest

from minicnn import reference as ref
from tests.support.kernel_checks import constants, each_draw, one_after_another, run, widened
from tests.support.laws import assert_rounded
from tests.support.strategies import abs_inputs

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
