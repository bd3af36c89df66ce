"""Adam may write over its inputs."""

import numpy as np

from minicnn import kernels
from tests.support.kernel_checks import DRAWS, WINOGRAD_DRAWS, run
from tests.support.laws import assert_same_bits
from tests.support.strategies import OPERATIONS, Case


def feature_maps(shape):
    """Return what a convolution sees behind another: half of it 0, three of four channels too, an edge of 1000 to 1."""
    x = np.maximum(np.random.default_rng(3).standard_normal(shape, np.float32), 0)
    x[:, :, 10:] *= np.float32(1e-3)
    x[..., shape[-1] // 4:] = 0
    return x


WINOGRAD_DRAWS |= {"feature maps": (feature_maps, DRAWS["normal"])}


def test_adam_may_write_over_its_inputs():
    w, m, v, dw, *rest = OPERATIONS["adam"](Case(1, 1, 1, 3, 5, (2, 2), (1, 1), "valid", 0), np.float32)
    apart = run("adam", (w, m, v, dw, *rest))
    kernels.adam(w, m, v, dw, *rest, w, m, v)
    for over, expected in zip((w, m, v), apart, strict=True):
        assert_same_bits(over, expected)
