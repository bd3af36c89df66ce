"""Optimizers: steps worked by hand."""

import numpy as np

from minicnn import reference as ref


def test_two_steps_of_sgd_by_hand():
    w, v = ref.sgd(np.array([1.0]), np.array([0.0]), np.array([2.0]), 0.25, 0.5, False)
    assert (w.item(), v.item()) == (0.5, -0.5)                         # v = -0.25 * 2
    w, v = ref.sgd(w, v, np.array([1.0]), 0.25, 0.5, False)
    assert (w.item(), v.item()) == (0.0, -0.5)                         # v = 0.5 * -0.5 - 0.25
    w, v = ref.sgd(np.array([1.0]), np.array([-0.5]), np.array([2.0]), 0.25, 0.5, True)
    assert (w.item(), v.item()) == (0.125, -0.75)                      # v = -0.25 - 0.5; w = 1 + 0.5 v - 0.5


def test_one_step_of_adam_by_hand():
    # m = 0 + 0.5 (2 - 0) = 1, v = 0 + 0.25 (4 - 0) = 1, w = 3 - 0.5 * 1 / (1 + 1)
    w, m, v = ref.adam(np.array([3.0]), np.zeros(1), np.zeros(1), np.array([2.0]), 0.5, 0.5, 0.75, 1.0)
    assert (w.item(), m.item(), v.item()) == (2.75, 1, 1)
