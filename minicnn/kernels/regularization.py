"""Dropout: one pass over the elements, as activations.py has them."""

import numpy as np

from minicnn.kernels.runtime.jit import kernel
from minicnn.kernels.runtime.simd import pointer
from minicnn.kernels.runtime.threads import run
from minicnn.kernels.runtime.work_queue import claim

__all__ = ["dropout"]

_BLOCK = 16384          # elements in a unit


def dropout(x, keep, rate, y):
    """Write x / (1 - rate) where keep, else 0, to y."""
    run(_dropout, -(-x.size // _BLOCK), x.reshape(-1), keep.reshape(-1).view(np.uint8), x.dtype.type(1 / (1 - rate)),
        y.reshape(-1))


@kernel
def _dropout(x, keep, scale, y, scratch, queue, lane):
    size = len(x)
    x_at, keep_at, y_at = pointer(x, 0), pointer(keep, 0), pointer(y, 0)
    zero = x.dtype.type(0)
    unit = claim(queue, lane)
    while unit >= 0:
        for i in range(unit * _BLOCK, min((unit + 1) * _BLOCK, size)):
            y_at[i] = x_at[i] * scale if keep_at[i] != 0 else zero
        unit = claim(queue, lane)
