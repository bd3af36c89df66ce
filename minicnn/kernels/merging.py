"""Merging: NumPy's own loops, for each is one pass that memory alone limits. See reference for the equations."""

import numpy as np

__all__ = ["add", "multiply", "multiply_gradient", "concatenate", "concatenate_gradient"]


def add(xs, y):
    """Write the sum of the arrays to y."""
    _in_turn(np.add, xs, y)


def multiply(xs, y):
    """Write the product of the arrays to y."""
    _in_turn(np.multiply, xs, y)


def multiply_gradient(dy, xs, *dxs):
    """Write to each dx dy times the product of the other arrays, summed where its x was repeated."""
    for i, (x, dx) in enumerate(zip(xs, dxs)):
        factors = [dy, *(other for j, other in enumerate(xs) if j != i)]
        repeated = tuple(axis for axis, size in enumerate(x.shape) if size != dy.shape[axis])
        product = np.empty_like(dy) if repeated else dx
        _in_turn(np.multiply, factors, product)
        if repeated:
            dx[...] = product.sum(axis=repeated, keepdims=True, dtype=np.float64)


def concatenate(xs, y):
    """Write the arrays side by side along the last axis of y."""
    np.concatenate(xs, axis=-1, out=y)


def concatenate_gradient(dy, sizes, *dxs):
    """Write to each dx its part of dy."""
    for dx, part in zip(dxs, np.split(dy, np.cumsum(sizes)[:-1], axis=-1)):
        dx[...] = part


def _in_turn(operation, xs, y):
    operation(xs[0], xs[1], out=y)
    for x in xs[2:]:
        operation(y, x, out=y)
