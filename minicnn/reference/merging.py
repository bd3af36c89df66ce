"""Merging: several arrays become one.

Each branch of a network gets a gradient of its own, and where one array goes into several branches, the network adds what
comes back: y = f(x) + g(x) gives dx = f'(x)^T dy + g'(x)^T dy.
"""

import numpy as np

__all__ = ["add", "multiply", "multiply_gradient", "concatenate", "concatenate_gradient"]


def add(xs):
    """Return x1 + x2 + ..., from the first to the last. Its gradient hands dy to each.

    Parameters
    ----------
    xs : list of ndarray, all of one shape (N, ...)
    """
    y = xs[0]
    for x in xs[1:]:
        y = y + x
    return y


def multiply(xs):
    """Return x1 x2 ..., element by element, from the first to the last.

    Parameters
    ----------
    xs : list of ndarray, shape (N, ..., C); of one shape, or with sizes of 1, which are repeated: (N, 1, 1, C) weighs
        channels
    """
    y = xs[0]
    for x in xs[1:]:
        y = y * x
    return y


def multiply_gradient(dy, xs):
    """Return (dx1, dx2, ...): dxi = dy times the product of the others, summed where xi was repeated.

    The product of the others is computed, not y / xi, which is undefined at 0. Sums are accumulated in float64.

    >>> [dx.tolist() for dx in multiply_gradient(np.ones((1, 2)), [np.array([[2.0, 0.0]]), np.array([[3.0, 5.0]])])]
    [[[3.0, 5.0]], [[2.0, 0.0]]]
    """
    gradients = []
    for i, x in enumerate(xs):
        dx = multiply([dy, *(other for j, other in enumerate(xs) if j != i)])
        repeated = tuple(axis for axis, size in enumerate(x.shape) if size != dx.shape[axis])
        gradients.append(dx.sum(axis=repeated, keepdims=True, dtype=np.float64).astype(x.dtype) if repeated else dx)
    return tuple(gradients)


def concatenate(xs):
    """Return the arrays side by side along the last axis, the channels.

    Parameters
    ----------
    xs : list of ndarray, shapes (N, ..., Ci), equal but for Ci
    """
    return np.concatenate(xs, axis=-1)


def concatenate_gradient(dy, sizes):
    """Return (dx1, dx2, ...): the part of dy that came from each; `sizes` are their Ci.

    >>> [dx.tolist() for dx in concatenate_gradient(np.array([[1, 2, 3]]), [1, 2])]
    [[[1]], [[2, 3]]]
    """
    return tuple(np.split(dy, np.cumsum(sizes)[:-1], axis=-1))
