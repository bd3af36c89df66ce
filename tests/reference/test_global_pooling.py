"""Global pooling is pooling by a window of the image's size."""

import numpy as np
from hypothesis import given, strategies as st

from minicnn import reference as ref
from tests.support.laws import assert_adjoint
from tests.support.reference_checks import NO_PADS, close
from tests.support.strategies import cases


@given(cases(), st.sampled_from([0.0, 0.3]))
def test_it_is_pooling_by_one_window(case, share_nan):
    x, whole = np.round(case.normals(*case.x_shape)), ((case.H, case.W), (1, 1), NO_PADS)
    dy, image_size = case.normals(case.N, case.C), (case.H, case.W)
    close(ref.global_average_pool2d(x), ref.average_pool2d(x, *whole)[:, 0, 0])
    close(ref.global_average_pool2d_gradient(dy, image_size),
          ref.average_pool2d_gradient(dy[:, None, None], image_size, *whole))
    x[case.normals(case.C, *case.x_shape[:3]).transpose(1, 2, 3, 0) > 3 - 3 * share_nan] = np.nan
    y, switches = ref.global_max_pool2d(x)
    expected, places = ref.max_pool2d(x, *whole)
    np.testing.assert_array_equal(y, expected[:, 0, 0])
    known = ~np.isnan(y)
    assert (switches == places[:, 0, 0])[known].all()
    assert np.isnan(np.take_along_axis(x.reshape(case.N, -1, case.C), switches[:, None].astype(int), 1)[:, 0][~known]).all()
    close(ref.global_max_pool2d_gradient(dy, switches, image_size),
          ref.max_pool2d_gradient(dy[:, None, None], switches[:, None, None].astype(np.uint16), image_size, *whole))


@given(cases())
def test_its_gradients_are_adjoints(case):
    v, dy, image_size = case.separated(*case.x_shape), case.normals(case.N, case.C), (case.H, case.W)
    assert_adjoint(ref.global_average_pool2d, lambda dy: ref.global_average_pool2d_gradient(dy, image_size), v, dy)
    _, switches = ref.global_max_pool2d(v)
    assert_adjoint(lambda v: np.take_along_axis(v.reshape(case.N, -1, case.C), switches[:, None].astype(int), 1)[:, 0],
                   lambda dy: ref.global_max_pool2d_gradient(dy, switches, image_size), v, dy)
