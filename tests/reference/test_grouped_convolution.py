"""Convolution in groups and with dilated windows: against loops, plain convolution, and the adjoint law."""

import numpy as np
from hypothesis import given, settings, strategies as st

from minicnn import reference as ref
from tests.support.laws import assert_adjoint
from tests.support.reference_checks import close, image, plane
from tests.support.strategies import OPERATIONS, cases, small_cases


@given(small_cases())
def test_it_and_its_gradients_are_their_loops(case):
    x, w, b, (SH, SW), pads, (DH, DW), groups = OPERATIONS["grouped_conv2d"](case, np.float64)
    got = ref.grouped_conv2d(x, w, b, (SH, SW), pads, (DH, DW), groups)
    dy = case.normals(*got.shape)
    y, dx, dw = np.zeros(got.shape) + b, np.zeros(x.shape), np.zeros(w.shape)
    for n, oh, ow, f in np.ndindex(got.shape):
        first = f // (len(b) // groups) * w.shape[2]
        for kh, kw, c in np.ndindex(w.shape[:3]):
            i, j = oh * SH + kh * DH - pads[0], ow * SW + kw * DW - pads[2]
            if 0 <= i < case.H and 0 <= j < case.W:
                y[n, oh, ow, f] += x[n, i, j, first + c] * w[kh, kw, c, f]
                dx[n, i, j, first + c] += dy[n, oh, ow, f] * w[kh, kw, c, f]
                dw[kh, kw, c, f] += dy[n, oh, ow, f] * x[n, i, j, first + c]
    window = (SH, SW), pads, (DH, DW), groups
    close(got, y)
    close(ref.grouped_conv2d_input_gradient(dy, w, (case.H, case.W), *window), dx)
    got_dw, got_db = ref.grouped_conv2d_weight_gradient(dy, x, case.kernel, *window)
    close(got_dw, dw)
    close(got_db, dy.sum(axis=(0, 1, 2)))


def test_a_dilated_window_skips_pixels():
    x = image([[1, 2, 3, 4, 5]])
    assert plane(ref.grouped_conv2d(x, np.ones((1, 3, 1, 1)), np.zeros(1), (1, 1), (0, 0, 0, 0), (1, 2), 1)) == [[9]]


@given(cases())
def test_one_group_without_holes_is_a_convolution(case):
    inputs = OPERATIONS["conv2d"](case, np.float64)
    close(ref.grouped_conv2d(*inputs, (1, 1), 1), ref.conv2d(*inputs))


@settings(max_examples=200)
@given(cases(), st.sampled_from(["x", "w", "b"]))
def test_gradients_are_adjoints(case, of):
    x, w, b, *window = OPERATIONS["grouped_conv2d"](case, np.float64)
    dy = case.normals(*ref.grouped_conv2d(x, w, b, *window).shape)
    if of == "x":
        assert_adjoint(lambda v: ref.grouped_conv2d(v, w, 0 * b, *window),
                       lambda dy: ref.grouped_conv2d_input_gradient(dy, w, x.shape[1:3], *window), x, dy)
    else:
        place = "wb".index(of)
        zeros = [0 * w, 0 * b]
        assert_adjoint(lambda v: ref.grouped_conv2d(x, *zeros[:place], v, *zeros[place + 1:], *window),
                       lambda dy: ref.grouped_conv2d_weight_gradient(dy, x, w.shape[:2], *window)[place],
                       (w, b)[place], dy)
