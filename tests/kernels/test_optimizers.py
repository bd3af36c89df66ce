"""Adam may write over its inputs."""

import numpy as np

from minicnn import kernels
from tests.support.kernel_checks import run
from tests.support.laws import assert_same_bits
from tests.support.strategies import OPERATIONS, Case


def test_adam_may_write_over_its_inputs():
    w, m, v, dw, *rest = OPERATIONS["adam"](Case(1, 1, 1, 3, 5, (2, 2), (1, 1), "valid", 0), np.float32)
    apart = run("adam", (w, m, v, dw, *rest))
    kernels.adam(w, m, v, dw, *rest, w, m, v)
    for over, expected in zip((w, m, v), apart, strict=True):
        assert_same_bits(over, expected)
