"""Pooling: against loops, worked examples, the adjoint law and differences."""

import numpy as np
from hypothesis import given, settings, strategies as st

from minicnn import reference as ref
from tests.support.laws import assert_adjoint, assert_gradient, assert_same_bits
from tests.support.reference_checks import NO_PADS, close, image, meetings, plane
from tests.support.strategies import cases, small_cases


@given(small_cases(), st.sampled_from([0.0, 0.3, 1.0]))
def test_max_pooling_is_its_loop(case, share_nan):
    # Few values, so that most windows have ties; NaN in some of them.
    x = np.round(case.normals(*case.x_shape))
    x[case.normals(case.C, *case.x_shape[:3]).transpose(1, 2, 3, 0) > 3 - 3 * share_nan] = np.nan
    window = case.kernel, case.strides, case.pads
    y, switches = ref.max_pool2d(x, *window)
    values, dy = {}, case.normals(*y.shape)
    for n, oh, ow, kh, kw, h, w in meetings(case):
        for c in range(case.C):
            values.setdefault((n, oh, ow, c), []).append((kh * case.kernel[1] + kw, x[n, h, w, c], (n, h, w, c)))
    assert len(values) == y.size and switches.dtype == np.uint16
    dx = np.zeros(x.shape)
    for place, met in values.items():
        nans = [k for k, value, _ in met if value != value]
        if nans:
            assert np.isnan(y[place]) and switches[place] in nans
        else:
            largest = max(value for _, value, _ in met)
            first = min(k for k, value, _ in met if value == largest)
            assert y[place] == largest and switches[place] == first
        dx[next(pixel for k, _, pixel in met if k == switches[place])] += dy[place]
    close(ref.max_pool2d_gradient(dy, switches, (case.H, case.W), *window), dx)


@given(small_cases())
def test_average_pooling_is_its_loop(case):
    x, dy = case.normals(*case.x_shape), case.normals(*case.y_shape(case.C))
    total, count, dx = np.zeros(dy.shape), np.zeros(dy.shape), np.zeros(x.shape)
    for n, oh, ow, _, _, h, w in meetings(case):
        total[n, oh, ow] += x[n, h, w]
        count[n, oh, ow] += 1
    for n, oh, ow, _, _, h, w in meetings(case):
        dx[n, h, w] += dy[n, oh, ow] / count[n, oh, ow]
    window = case.kernel, case.strides, case.pads
    close(ref.average_pool2d(x, *window), total / count)
    close(ref.average_pool2d_gradient(dy, (case.H, case.W), *window), dx)


def test_an_average_counts_only_pixels_of_the_image():
    x = image([[2, 4], [6, 8]])
    assert plane(ref.average_pool2d(x, (2, 2), (1, 1), (0, 1, 0, 1))) == [[5, 6], [7, 8]]


def test_padding_never_wins_a_maximum():
    y, switches = ref.max_pool2d(image([[-5, -6], [-np.inf, -8]]), (2, 2), (1, 1), (1, 0, 1, 0))
    assert plane(y) == [[-5, -5], [-5, -5]] and plane(switches) == [[3, 2], [1, 0]]
    y, switches = ref.max_pool2d(image([[-np.inf]]), (2, 2), (1, 1), (1, 0, 1, 0))
    assert plane(y) == [[-np.inf]] and plane(switches) == [[3]]


def test_a_pixel_that_two_windows_chose_receives_both():
    x = image([[1, 9, 2]])
    _, switches = ref.max_pool2d(x, (1, 2), (1, 1), NO_PADS)
    dx = ref.max_pool2d_gradient(image([[10, 100]]), switches, (1, 3), (1, 2), (1, 1), NO_PADS)
    assert plane(dx) == [[0, 110, 0]]


@settings(max_examples=200)
@given(cases())
def test_pooling_gradients_are_adjoints(case):
    x, window = case.separated(*case.x_shape), (case.kernel, case.strides, case.pads)
    _, switches = ref.max_pool2d(x, *window)
    v, dy = case.normals(*case.x_shape), case.normals(*case.y_shape(case.C))
    assert_adjoint(lambda v: ref.average_pool2d(v, *window),
                   lambda dy: ref.average_pool2d_gradient(dy, (case.H, case.W), *window), v, dy)

    def chosen(v):
        """Pick from each window of v what the switches name: max pooling with its choice held fixed."""
        cols = ref.im2col(v, *window).reshape(*dy.shape[:3], -1, case.C)
        return np.take_along_axis(cols, switches[:, :, :, None].astype(int), axis=3)[:, :, :, 0]
    assert_adjoint(chosen, lambda dy: ref.max_pool2d_gradient(dy, switches, (case.H, case.W), *window), v, dy)
    assert_same_bits(chosen(x), ref.max_pool2d(x, *window)[0])


@given(cases())
def test_max_pooling_gradient(case):
    x, window = case.separated(*case.x_shape), (case.kernel, case.strides, case.pads)
    y, switches = ref.max_pool2d(x, *window)
    dy = case.normals(*y.shape)
    assert_gradient(lambda x: ref.max_pool2d(x, *window)[0],
                    ref.max_pool2d_gradient(dy, switches, (case.H, case.W), *window), x, dy)
