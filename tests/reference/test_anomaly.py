"""The deviation loss: by hand, at its kinks, and its gradient by differences."""

import numpy as np

from minicnn import reference as ref
from minicnn.reference.anomaly import DEVIATION_MARGIN


def test_by_hand():
    z, t = np.array([[2.0], [-2.0], [3.0], [7.0], [0.0]]), np.array([[0.0], [0.0], [1.0], [1.0], [0.0]])
    losses, dz = ref.deviation(z, t, np.array([1.0, 1.0, 0.5, 1.0, 1.0]))
    assert losses.tolist() == [2, 2, 1, 0, 0] and dz.ravel().tolist() == [1, -1, -0.5, 0, 0]
    assert DEVIATION_MARGIN == 5


def test_the_gradient_by_differences():
    rng, h = np.random.default_rng(0), 1e-6
    z, t = 6 * rng.normal(size=(50, 2)), rng.random((50, 2))
    _, dz = ref.deviation(z, t, np.ones(50))
    for k in range(2):
        step = h * np.eye(2)[k]
        slope = (ref.deviation(z + step, t, np.ones(50))[0] - ref.deviation(z - step, t, np.ones(50))[0]) / (2 * h)
        assert np.allclose(dz[:, k], slope, atol=1e-6)
