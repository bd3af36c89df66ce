"""The memory of what the steps of a network hand on: an array is lent until nothing needs it, and then to another step.

A deep network needs as much memory as backward does: what the steps remember, and one or two gradients at a time. Large
workspaces of kernels (kernels/runtime/threads.py) lie here too, each until the end of its step. The
reference engine has no pool: every array stays, to be looked at.
"""

import math

import numpy as np

from minicnn.core.memory import aligned

__all__ = ["Pool"]


class Pool:
    """Arrays that are lent until nothing needs them: only as many as are in use at once.

    >>> pool = Pool()
    >>> one, two, three = (pool.get((8,), np.dtype(np.float32)) for _ in range(3))
    >>> pool.hold("relu", [one])                    # remembered; several may remember it
    >>> pool.keep([two.reshape(2, 4)])              # all others that are not remembered come back
    >>> np.shares_memory(three, pool.get((4, 2), np.dtype(np.float32)))
    True
    >>> pool.release("relu"); pool.keep([two, three]); np.shares_memory(one, pool.get((9,), np.dtype(np.uint8)))
    True
    """

    def __init__(self):
        self._free, self._lent = [], {}         # lent: {id of the memory: array}
        self._held, self._holders = {}, {}      # held: {id: (array, how often)}; {who holds some: their ids}

    def __reduce__(self):
        return Pool, ()         # a copy needs none of them

    def get(self, shape, dtype):
        """Return a C-contiguous array of this shape and dtype with undefined contents."""
        size = math.prod(shape) * dtype.itemsize
        best = min((array for array in self._free if array.size >= size), key=len, default=None)
        gone = max(self._free, key=len, default=None) if best is None else best     # a larger one takes its place
        self._free = [array for array in self._free if array is not gone]
        array = aligned(size, np.uint8) if best is None else best
        self._lent[id(array.base)] = array
        return array[:size].view(dtype).reshape(shape)

    def hold(self, holder, arrays):
        """Lend those that these arrays lie in until `release` of this holder, and of others that hold them too."""
        self._holders[holder] = [id(array.base) for array in arrays]
        for key in self._holders[holder]:
            if key in self._lent:
                self._held[key] = self._lent.pop(key), 1
            elif key in self._held:
                self._held[key] = self._held[key][0], self._held[key][1] + 1

    def release(self, holder):
        """Undo the `hold` of a holder, if there was one."""
        for key in self._holders.pop(holder, ()):
            if key in self._held:
                array, times = self._held.pop(key)
                (self._lent if times == 1 else self._held)[key] = array if times == 1 else (array, times - 1)

    def keep(self, arrays):
        """Take back all that are not held, but those that one of `arrays` lies in."""
        used = {id(array.base) for array in arrays}
        for key in [key for key in self._lent if key not in used]:
            self._free.append(self._lent.pop(key))

    def clear(self):
        """Take back all."""
        self._free += [*self._lent.values(), *(array for array, _ in self._held.values())]
        self._lent, self._held, self._holders = {}, {}, {}
