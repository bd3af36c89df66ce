"""Merging: passes that memory alone limits. Sums run on all threads, the rest is NumPy's own. See reference for the equations."""

import numpy as np

from minicnn.kernels.runtime.jit import kernel
from minicnn.kernels.runtime.recording import call
from minicnn.kernels.runtime.simd import pointer
from minicnn.kernels.runtime.threads import run
from minicnn.kernels.runtime.work_queue import claim

__all__ = ["add", "add_relu", "multiply", "multiply_gradient"]

_BLOCK = 16384          # elements in a unit


def add(a, b, y):
    """Write a + b to y."""
    run(_add, -(-y.size // _BLOCK), a.reshape(-1), b.reshape(-1), False, y.reshape(-1))


def add_relu(a, b, y):
    """Write max(a + b, 0) to y. See reference.add_relu."""
    run(_add, -(-y.size // _BLOCK), a.reshape(-1), b.reshape(-1), True, y.reshape(-1))


@kernel
def _add(a, b, rectified, y, scratch, queue, lane):
    size, a_at, b_at, y_at, zero = len(y), pointer(a, 0), pointer(b, 0), pointer(y, 0), y.dtype.type(0)
    unit = claim(queue, lane)
    while unit >= 0:
        for i in range(unit * _BLOCK, min((unit + 1) * _BLOCK, size)):
            total = a_at[i] + b_at[i]
            y_at[i] = zero if rectified and total <= zero else total        # NaN passes
        unit = claim(queue, lane)


def multiply(a, b, y):
    """Write a b to y; sizes of 1 are repeated."""
    call(np.multiply, a, b, out=y)


def multiply_gradient(dy, a, b, da, db):
    """Write dy b to da and dy a to db, each summed in float64 over the axes along which it was repeated."""
    for x, other, dx in ((a, b, da), (b, a, db)):
        axes = tuple(axis for axis, size in enumerate(x.shape) if size != dy.shape[axis])
        if axes:
            dx[...] = np.multiply(dy, other).sum(axis=axes, keepdims=True, dtype=np.float64)
        else:
            np.multiply(dy, other, out=dx)
