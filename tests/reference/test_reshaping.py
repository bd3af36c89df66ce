"""Padding, up-sampling and rescaling: against loops, and the adjoint law."""

import numpy as np
from hypothesis import given, strategies as st

from minicnn import reference as ref
from tests.support.laws import assert_adjoint
from tests.support.strategies import cases

margins = st.tuples(*[st.integers(0, 3)] * 4)


@given(cases(), margins)
def test_zero_padding(case, pads):
    x, (top, bottom, left, right) = case.normals(*case.x_shape), pads
    y = ref.zero_padding2d(x, pads)
    assert y.shape == (case.N, top + case.H + bottom, left + case.W + right, case.C)
    for n, h, w in np.ndindex(*y.shape[:3]):
        inside = 0 <= h - top < case.H and 0 <= w - left < case.W
        assert (y[n, h, w] == (x[n, h - top, w - left] if inside else 0)).all()
    assert_adjoint(lambda v: ref.zero_padding2d(v, pads), lambda dy: ref.zero_padding2d_gradient(dy, pads), x,
                   case.normals(*y.shape))


@given(cases())
def test_up_sampling(case):
    x, (SH, SW) = case.normals(*case.x_shape), case.strides
    y = ref.up_sampling2d(x, (SH, SW))
    assert y.shape == (case.N, case.H * SH, case.W * SW, case.C)
    for n, h, w in np.ndindex(*y.shape[:3]):
        assert (y[n, h, w] == x[n, h // SH, w // SW]).all()
    assert_adjoint(lambda v: ref.up_sampling2d(v, (SH, SW)), lambda dy: ref.up_sampling2d_gradient(dy, (SH, SW)), x,
                   case.normals(*y.shape))


@given(cases())
def test_rescaling(case):
    x, dy = case.normals(*case.x_shape), case.normals(*case.x_shape)
    assert (ref.rescaling(x, -3.0, 0.5) == -3 * x + 0.5).all()
    assert_adjoint(lambda v: ref.rescaling(v, -3.0, 0.0), lambda dy: ref.rescaling_gradient(dy, -3.0), x, dy)
