"""Merging: NumPy's own loops, each one pass that memory alone limits. See reference for the equations."""

import numpy as np

__all__ = ["add", "multiply", "multiply_gradient"]


def add(a, b, y):
    """Write a + b to y."""
    np.add(a, b, out=y)


def multiply(a, b, y):
    """Write a b to y; sizes of 1 are repeated."""
    np.multiply(a, b, out=y)


def multiply_gradient(dy, a, b, da, db):
    """Write dy b to da and dy a to db, each summed in float64 over the axes along which it was repeated."""
    for x, other, dx in ((a, b, da), (b, a, db)):
        axes = tuple(axis for axis, size in enumerate(x.shape) if size != dy.shape[axis])
        if axes:
            dx[...] = np.multiply(dy, other).sum(axis=axes, keepdims=True, dtype=np.float64)
        else:
            np.multiply(dy, other, out=dx)
