"""Dense layers: a matrix product and a bias, and their gradients."""

import numpy as np

__all__ = ["dense", "dense_input_gradient", "dense_weight_gradient"]


def dense(x, w, b):
    """Multiply by a matrix and add a bias: y = x @ w + b.

    Parameters
    ----------
    x : ndarray, shape (N, D)
    w : ndarray, shape (D, F)
    b : ndarray, shape (F,)

    Returns
    -------
    y : ndarray, shape (N, F)

    >>> dense(np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]]), np.array([0.5]))
    array([[11.5]])
    """
    # in float64, rounded once
    return (x.astype(np.float64) @ w.astype(np.float64) + b).astype(x.dtype)


def dense_input_gradient(dy, w):
    """Return dx of `dense`: y[n, f] = sum_d x[n, d] w[d, f], so dx[n, d] = sum_f dy[n, f] w[d, f]; dx = dy @ w^T.

    >>> dense_input_gradient(np.array([[2.0]]), np.array([[3.0], [4.0]]))
    array([[6., 8.]])
    """
    return (dy.astype(np.float64) @ w.T.astype(np.float64)).astype(dy.dtype)


def dense_weight_gradient(dy, x):
    """Return (dw, db) of `dense`: dw[d, f] = sum_n x[n, d] dy[n, f], so dw = x^T @ dy; db is the sum of dy's rows.

    >>> dense_weight_gradient(np.array([[2.0]]), np.array([[3.0, 4.0]]))
    (array([[6.],
           [8.]]), array([2.]))
    """
    dy64 = dy.astype(np.float64)
    return (x.T.astype(np.float64) @ dy64).astype(dy.dtype), dy64.sum(axis=0).astype(dy.dtype)
