"""What a layer learns: an array and its gradient; and all parameters of a network, in one piece of memory."""

import numpy as np

from minicnn.buffers import aligned

__all__ = ["Parameter", "Parameters"]


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


class Parameters(list):
    """The parameters of a network, in order. Those that are `ours` move into one array, their gradients into another.

    An optimizer then passes over all of them at once, and one look tells whether every gradient is finite. Each begins
    on a cache line; the gaps between hold zeros. A parameter of a layer of the user's own stays where it is, because its
    layer may put another array in its place.

    Parameters
    ----------
    parameters : list of Parameter
    ours : list of bool; which of them may move

    >>> both = Parameters([Parameter("w", np.ones((2, 3))), Parameter("b", np.zeros(2))], [True, True])
    >>> [(value.size, grad.size) for value, grad in both.pieces()]
    [(16, 16)]
    """

    def __init__(self, parameters, ours):
        super().__init__(parameters)
        self._moved = [mine and p.value.dtype == self[0].value.dtype for p, mine in zip(self, ours)]
        self._values, self._grads = self.zeros(), self.zeros()
        for parameter, value, grad, moved in zip(self, self._values, self._grads, self._moved):
            if moved:
                value[...], grad[...] = parameter.value, parameter.grad
                parameter.value, parameter.grad = value, grad

    def zeros(self):
        """Return an array of zeros for each parameter, laid out in memory as the parameters are."""
        sizes = [-(-p.value.nbytes // 64) * 64 // p.value.itemsize if moved else 0 for p, moved in zip(self, self._moved)]
        flat = aligned(sum(sizes), self[0].value.dtype if self else np.float32)
        flat[...] = 0
        return _Views((flat[first:first + p.value.size].reshape(p.value.shape) if moved else np.zeros_like(p.value)
                       for p, first, moved in zip(self, np.cumsum([0, *sizes[:-1]]), self._moved)), flat)

    def pieces(self, *slots):
        """Yield (value, grad, *slots), flat arrays: first the piece with all that moved, then one for each other."""
        if any(self._moved):
            yield self._values.flat, self._grads.flat, *(slot.flat for slot in slots)
        for parameter, moved, *others in zip(self, self._moved, *slots):
            if not moved:
                yield parameter.value, parameter.grad, *others


class _Views(list):
    """Arrays, and the flat array that those of parameters which moved are views of."""

    def __init__(self, arrays, flat):
        super().__init__(arrays)
        self.flat = flat
