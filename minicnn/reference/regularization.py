"""Dropout. Its gradient is the same operation on dy."""

import numpy as np

__all__ = ["dropout"]


def dropout(x, keep, rate):
    """Return x / (1 - rate) where `keep`, else 0; its gradient is the same operation on dy.

    Dividing by the share that stays leaves the expected value as it was ("inverted" dropout).

    Parameters
    ----------
    x : ndarray, any shape
    keep : ndarray of bool, the shape of x
    rate : float in [0, 1), the share that is dropped

    >>> dropout(np.array([1.0, 1.0]), np.array([True, False]), 0.5)
    array([2., 0.])
    """
    return np.where(keep, x * x.dtype.type(1 / (1 - rate)), x.dtype.type(0))
