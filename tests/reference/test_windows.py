"""im2col and col2im: against loops, and adjoint to each other."""

import numpy as np
import pytest
from hypothesis import given

from minicnn import reference as ref
from tests.support.laws import assert_adjoint, assert_same_bits
from tests.support.reference_checks import NO_PADS, close, meetings
from tests.support.strategies import cases, separated, small_cases


@given(small_cases())
def test_im2col_and_col2im_are_their_loops(case):
    x = case.normals(*case.x_shape)
    N, OH, OW, _ = case.y_shape(1)
    cols, image = np.zeros((N, OH, OW, *case.kernel, case.C)), np.zeros(x.shape)
    dcols = case.normals(*cols.shape)
    for n, oh, ow, kh, kw, h, w in meetings(case):
        cols[n, oh, ow, kh, kw] = x[n, h, w]
        image[n, h, w] += dcols[n, oh, ow, kh, kw]
    assert_same_bits(ref.im2col(x, case.kernel, case.strides, case.pads), cols.reshape(N * OH * OW, -1))
    close(ref.col2im(dcols, (case.H, case.W), case.kernel, case.strides, case.pads), image)


@given(cases())
def test_im2col_and_col2im_are_adjoints(case):
    v = case.normals(*case.x_shape)
    window = case.kernel, case.strides, case.pads
    dcols = case.normals(*case.y_shape(1)[:3], *case.kernel, case.C)
    assert_adjoint(lambda v: ref.im2col(v, *window).reshape(dcols.shape),
                   lambda dcols: ref.col2im(dcols, (case.H, case.W), *window), v, dcols)


def overwriting_col2im(dcols, image_size, kernel_size, strides, pads):
    """col2im that forgets to add: the last window that reaches a pixel wins."""
    (N, OH, OW, KH, KW, C), (SH, SW), (top, bottom, left, right) = dcols.shape, strides, pads
    padded = np.zeros((N, top + image_size[0] + bottom, left + image_size[1] + right, C))
    for kh in range(KH):
        for kw in range(KW):
            padded[:, kh:kh + OH * SH:SH, kw:kw + OW * SW:SW] = dcols[:, :, :, kh, kw]
    return padded[:, top:top + image_size[0], left:left + image_size[1]]


def test_a_col2im_that_overwrites_breaks_the_adjoint_law():
    v, dcols = separated(1, (1, 4, 4, 2)), separated(2, (1, 3, 3, 2, 2, 2))
    window = (2, 2), (1, 1), NO_PADS
    with pytest.raises(AssertionError, match="differ by"):
        assert_adjoint(lambda v: ref.im2col(v, *window).reshape(dcols.shape),
                       lambda dcols: overwriting_col2im(dcols, (4, 4), *window), v, dcols)
