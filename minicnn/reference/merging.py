"""Merging: two arrays become one.

Each branch of a network gets a gradient of its own, and where one array goes into several branches, the network adds what
comes back: y = f(x) + g(x) gives dx = f'(x)^T dy + g'(x)^T dy. More than two arrays are merged in turn, from the first to
the last. To concatenate is no arithmetic: the layer does it.
"""

import numpy as np

__all__ = ["add", "multiply", "multiply_gradient"]


def add(a, b):
    """Return a + b, arrays of one shape (N, ...). Its gradient is dy, for both.

    >>> add(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]]))
    array([[4., 6.]])
    """
    return a + b


def multiply(a, b):
    """Return a b, element by element.

    Parameters
    ----------
    a, b : ndarrays, shape (N, ..., C); of one shape, or with sizes of 1, which are repeated: (N, 1, 1, C) weighs channels
    """
    return a * b


def multiply_gradient(dy, a, b):
    """Return (da, db): da = dy b and db = dy a, each summed over the axes along which it was repeated, in float64.

    >>> da, db = multiply_gradient(np.ones((1, 2)), np.array([[2.0, 0.0]]), np.array([[3.0]]))
    >>> da.tolist(), db.tolist()
    ([[3.0, 3.0]], [[2.0]])
    """
    return unrepeated(dy * b, a), unrepeated(dy * a, b)


def unrepeated(gradient, x):
    """Return a gradient of the shape of x: summed, in float64, over the axes along which x was repeated."""
    axes = tuple(axis for axis, size in enumerate(x.shape) if size != gradient.shape[axis])
    return gradient.sum(axis=axes, keepdims=True, dtype=np.float64).astype(x.dtype) if axes else gradient
