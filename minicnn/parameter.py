"""What a layer learns: an array and its gradient."""

import numpy as np

__all__ = ["Parameter"]


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
