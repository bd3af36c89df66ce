"""Convolution: against loops, worked examples, and the adjoint law."""

import numpy as np
import pytest
from hypothesis import given, settings

from minicnn import reference as ref
from tests.support.laws import assert_adjoint
from tests.support.reference_checks import NO_PADS, close, image, meetings, plane
from tests.support.strategies import cases, separated, small_cases


@given(small_cases())
def test_convolution_and_its_gradients_are_their_loops(case):
    x, w, b = case.normals(*case.x_shape), case.normals(*case.w_shape), case.normals(case.F)
    dy = case.normals(*case.y_shape(case.F))
    y, dx, dw, db = np.zeros(dy.shape) + b, np.zeros(x.shape), np.zeros(w.shape), np.zeros(case.F)
    for n, oh, ow, kh, kw, i, j in meetings(case):
        for c in range(case.C):
            for f in range(case.F):
                y[n, oh, ow, f] += x[n, i, j, c] * w[kh, kw, c, f]
                dx[n, i, j, c] += dy[n, oh, ow, f] * w[kh, kw, c, f]
                dw[kh, kw, c, f] += dy[n, oh, ow, f] * x[n, i, j, c]
    for place in np.ndindex(dy.shape):
        db[place[3]] += dy[place]
    window = case.strides, case.pads
    close(ref.conv2d(x, w, b, *window), y)
    close(ref.conv2d_input_gradient(dy, w, (case.H, case.W), *window), dx)
    got_dw, got_db = ref.conv2d_weight_gradient(dy, x, case.kernel, *window)
    close(got_dw, dw)
    close(got_db, db)


def test_a_convolution_does_not_flip_its_filter():
    x = image([[0, 0, 0], [0, 1, 0], [0, 0, 0]])
    w = np.arange(9.0).reshape(3, 3, 1, 1)
    # The one pixel meets the last weight first: correlation lays the filter out turned round.
    assert plane(ref.conv2d(x, w, np.zeros(1), (1, 1), (1, 1, 1, 1))) == [[8, 7, 6], [5, 4, 3], [2, 1, 0]]


def test_the_odd_padding_comes_after():
    x = image([[1, 2, 3]])
    assert plane(ref.conv2d(x, np.ones((1, 2, 1, 1)), np.zeros(1), (1, 1), (0, 0, 0, 1))) == [[3, 5, 3]]


def test_convolution_adds_up_channels_and_keeps_filters_apart():
    x = np.array([[[[1.0, 10.0]]]])
    w = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]).reshape(1, 1, 2, 3)
    assert ref.conv2d(x, w, np.array([0.5, 0, 0]), (1, 1), NO_PADS).tolist() == [[[[41.5, 52, 63]]]]


def test_bias_gradient_sums_images_and_pixels():
    dy = np.arange(8.0).reshape(2, 2, 1, 2)
    assert ref.conv2d_weight_gradient(dy, np.zeros((2, 2, 1, 1)), (1, 1), (1, 1), NO_PADS)[1].tolist() == [12, 16]


def convolution_maps(case):
    """Return the linear maps in x, w and b of a convolution, each with its transpose, and the shapes they take."""
    x, w, b = case.normals(*case.x_shape), case.normals(*case.w_shape), np.zeros(case.F)
    window = case.strides, case.pads
    return [(case.x_shape, lambda v: ref.conv2d(v, w, b, *window),
             lambda dy: ref.conv2d_input_gradient(dy, w, (case.H, case.W), *window)),
            (case.w_shape, lambda v: ref.conv2d(x, v, b, *window),
             lambda dy: ref.conv2d_weight_gradient(dy, x, case.kernel, *window)[0]),
            ((case.F,), lambda v: ref.conv2d(0 * x, w, v, *window),
             lambda dy: ref.conv2d_weight_gradient(dy, x, case.kernel, *window)[1])]


@settings(max_examples=200)
@given(cases())
def test_convolution_gradients_are_adjoints(case):
    for shape, forward, backward in convolution_maps(case):
        assert_adjoint(forward, backward, case.normals(*shape), case.normals(*case.y_shape(case.F)))


def test_a_transpose_wrong_by_a_thousandth_in_one_place_breaks_the_adjoint_law():
    x, w, dy = separated(1, (5, 7)), separated(2, (7, 3)), separated(3, (5, 3))

    def wrong(dy):
        dx = ref.dense_input_gradient(dy, w)
        dx[2, 3] *= 1.001
        return dx
    with pytest.raises(AssertionError, match="differ by"):
        assert_adjoint(lambda v: ref.dense(v, w, np.zeros(3)), wrong, x, dy)
