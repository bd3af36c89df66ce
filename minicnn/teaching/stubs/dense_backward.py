"""Exercise dense-backward: the gradients of a dense layer, y = x @ w + b."""

import numpy as np


def dense_backward(dy, x, w):
    """Return (dx, dw, db).

    y[n, f] = b[f] + sum over d of x[n, d] w[d, f]. Find for each x[n, d] the outputs y it contributes to, and its
    factor in each. The gradients are sums over the samples, not means: the mean is taken once, in the loss.

    Parameters
    ----------
    dy : ndarray, shape (N, F)
    x : ndarray, shape (N, D)
    w : ndarray, shape (D, F)

    Returns
    -------
    dx : ndarray, shape (N, D)
    dw : ndarray, shape (D, F)
    db : ndarray, shape (F,)

    Example
    -------
    x = [[1, 2]], w = [[10], [20]], dy = [[5]]:   dx = [[50, 100]], dw = [[5], [10]], db = [5]
    """
    raise NotImplementedError("dense-backward")
