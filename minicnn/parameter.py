"""What a layer learns (`Parameter`) and where its bytes live (`Buffers`)."""

import numpy as np

__all__ = ["Parameter", "Buffers"]


class Parameter:
    """An array that training changes, and the gradient of the loss with respect to it.

    Parameters
    ----------
    name : str, such as "kernel" or "bias"
    value : ndarray; its dtype and shape are the parameter's
    grad : ndarray of the same shape, optional; overwritten by each backward pass

    >>> Parameter("bias", np.zeros(3)).grad
    array([0., 0., 0.])
    """

    def __init__(self, name, value, grad=None):
        self.name = name
        self.value = np.ascontiguousarray(value)
        self.grad = np.zeros_like(self.value) if grad is None else grad

    def __repr__(self):
        return f"Parameter({self.name!r}, shape={self.value.shape}, dtype={self.value.dtype})"


class Buffers:
    """Named workspaces: allocated for the largest batch seen so far, lent out as views of the size asked for.

    What a buffer holds is valid until it is asked for again under the same name.

    >>> buffers = Buffers()
    >>> large, small = buffers.get("y", (4, 2), np.float32), buffers.get("y", (3, 2), np.float32)
    >>> np.shares_memory(large, small)
    True
    """

    def __init__(self):
        self._arrays = {}

    def get(self, name, shape, dtype):
        """Return a C-contiguous array of this shape and dtype with undefined contents."""
        dtype = np.dtype(dtype)
        size = 1
        for length in shape:
            size *= length
        array = self._arrays.get(name)
        if array is None or array.size < size or array.dtype != dtype:
            array = self._arrays[name] = np.empty(size, dtype)
        return array[:size].reshape(shape)

    @property
    def nbytes(self):
        """How many bytes are held."""
        return sum(array.nbytes for array in self._arrays.values())
