"""Depthwise convolution: against convolution in as many groups as channels, and the adjoint law."""

import numpy as np
from hypothesis import given, settings, strategies as st

from minicnn import reference as ref
from tests.support.laws import assert_adjoint
from tests.support.reference_checks import NO_PADS, close
from tests.support.strategies import OPERATIONS, cases


@settings(max_examples=200)
@given(cases())
def test_it_and_its_gradients_are_a_convolution_in_as_many_groups_as_channels(case):
    x, w, b, *window = OPERATIONS["depthwise_conv2d"](case, np.float64)
    apart = w.reshape(*w.shape[:2], 1, -1)
    y = ref.depthwise_conv2d(x, w, b, *window)
    dy = case.normals(*y.shape)
    close(y, ref.grouped_conv2d(x, apart, b, *window, case.C))
    close(ref.depthwise_conv2d_input_gradient(dy, w, x.shape[1:3], *window),
          ref.grouped_conv2d_input_gradient(dy, apart, x.shape[1:3], *window, case.C))
    dw, db = ref.depthwise_conv2d_weight_gradient(dy, x, w.shape[:2], *window)
    expected_dw, expected_db = ref.grouped_conv2d_weight_gradient(dy, x, w.shape[:2], *window, case.C)
    close(dw, expected_dw.reshape(w.shape))
    close(db, expected_db)


def test_the_filters_of_a_channel_lie_side_by_side():
    x, w = np.array([[[[1.0, 10.0]]]]), np.array([[[[1.0, 2.0], [3.0, 4.0]]]])
    y = ref.depthwise_conv2d(x, w, np.array([0, 0, 0, 0.5]), (1, 1), NO_PADS, (1, 1))
    assert y.tolist() == [[[[1, 2, 30, 40.5]]]]


@settings(max_examples=100)
@given(cases(), st.sampled_from(["x", "w"]))
def test_gradients_are_adjoints(case, of):
    x, w, b, *window = OPERATIONS["depthwise_conv2d"](case, np.float64)
    dy = case.normals(*ref.depthwise_conv2d(x, w, b, *window).shape)
    if of == "x":
        assert_adjoint(lambda v: ref.depthwise_conv2d(v, w, 0 * b, *window),
                       lambda dy: ref.depthwise_conv2d_input_gradient(dy, w, x.shape[1:3], *window), x, dy)
    else:
        assert_adjoint(lambda v: ref.depthwise_conv2d(x, v, 0 * b, *window),
                       lambda dy: ref.depthwise_conv2d_weight_gradient(dy, x, w.shape[:2], *window)[0], w, dy)
