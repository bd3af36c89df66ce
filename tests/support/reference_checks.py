"""What the tests of the specification share."""

import numpy as np
import pytest

from tests.support.strategies import DTYPES

NO_PADS = (0, 0, 0, 0)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def close(got, expected):
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-13)


def meetings(case):
    """Yield (n, oh, ow, kh, kw, h, w): each place of each window that lies on the image."""
    _, OH, OW, _ = case.y_shape(1)
    for n in range(case.N):
        for oh in range(OH):
            for ow in range(OW):
                for kh in range(case.kernel[0]):
                    for kw in range(case.kernel[1]):
                        h = oh * case.strides[0] + kh - case.pads[0]
                        w = ow * case.strides[1] + kw - case.pads[2]
                        if 0 <= h < case.H and 0 <= w < case.W:
                            yield n, oh, ow, kh, kw, h, w


def image(rows):
    return np.array(rows, np.float64)[None, :, :, None]


def plane(batch):
    return batch[0, :, :, 0].tolist()
