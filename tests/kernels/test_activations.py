"""Activations at the edges."""

import numpy as np
import pytest

from tests.support.kernel_checks import each_dtype, run
from tests.support.strategies import specified


@each_dtype
@pytest.mark.parametrize("name, arguments", [("relu", ()), ("sigmoid", ()), ("tanh", ()), ("softmax", ()),
                                             ("clipped_relu", (6,)), ("leaky_relu", (0.3,)), ("elu", (0.7,)), ("swish", ()),
                                             ("softplus", ())])
def test_activations_at_the_edges(name, arguments, dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    x = np.array([[-np.inf, -1e4, -88, -30, -tiny, -0.0, 0, tiny, 30, 88, 1e4], [np.inf] + [0] * 10,
                  [np.nan] + [0] * 10, [0] * 5 + [np.nan] * 6], dtype)
    with np.errstate(all="ignore"):
        expected = specified(name)(x, *arguments)
    got, = run(name, (x, *arguments))
    np.testing.assert_allclose(got, expected, rtol=4 * np.finfo(dtype).eps, atol=4 * tiny)
