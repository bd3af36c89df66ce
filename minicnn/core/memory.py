"""Where bytes live: aligned arrays, workspaces allocated once, several arrays in one row; and whose a thread is to use."""

import math
import threading

import numpy as np

__all__ = ["aligned", "join", "split", "Buffers", "here"]

_LINE = 64      # bytes


def aligned(shape, dtype, make=np.empty):
    """Return an array as `make` fills it, with undefined contents or zeros, whose first byte begins a cache line.

    A vector of 64 bytes that crosses two lines is two reads; NumPy promises 16 bytes only.

    >>> aligned((3, 5), np.float32).ctypes.data % 64
    0
    """
    dtype, shape = np.dtype(dtype), shape if isinstance(shape, tuple) else (shape,)
    size = math.prod(shape) * dtype.itemsize
    raw = make(size + _LINE, np.uint8)
    first = -raw.ctypes.data % _LINE
    return raw[first:first + size].view(dtype).reshape(shape)


def join(arrays):
    """Return arrays of N samples as one, (N, D): each sample flattened, side by side.

    >>> join([np.zeros((2, 3, 3)), np.zeros((2, 1))]).shape
    (2, 10)
    """
    return np.concatenate([np.reshape(array, (len(array), -1)) for array in arrays], axis=1)


def split(row, shapes):
    """Return the arrays that `join` made one, copies; `shapes` are theirs without N."""
    ends = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
    return [part.reshape(len(row), *shape).copy() for part, shape in zip(np.split(row, ends, axis=1), shapes)]


class Buffers:
    """Named workspaces: allocated for the largest batch seen so far, lent out as views of the size asked for.

    What a buffer holds is valid until it is asked for again under the same name and dtype.

    >>> buffers = Buffers()
    >>> large, small = buffers.get("y", (4, 2), np.float32), buffers.get("y", (3, 2), np.float32)
    >>> np.shares_memory(large, small)
    True
    """

    def __init__(self):
        self._arrays, self._views = {}, {}      # by (name, dtype): all that is held, and what was lent out last

    def get(self, name, shape, dtype):
        """Return a C-contiguous array of this shape and dtype with undefined contents."""
        view = self._views.get((name, dtype))
        if view is not None and view.shape == shape:
            return view
        size = math.prod(shape)
        array = self._arrays.get((name, dtype))
        if array is None or array.size < size:
            array = self._arrays[name, dtype] = aligned(size, dtype)
        view = self._views[name, dtype] = array[:size].reshape(shape)
        return view


class _Here(threading.local):
    """What the calling thread is in the middle of.

    lending : bool; a network runs its own steps, and each reads the buffer of the one before at once
    pool : Pool of that network, where what its steps hand on lies; None where each has a buffer of its own
    host : Host (custom.py) of the custom layer that is being built or run, or None
    share : Share (distributed/), the part that this process has of a batch; None where it has all
    """

    lending, pool, host, share = False, None, None, None


here = _Here()
