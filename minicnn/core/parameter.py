"""What a layer learns: an array and its gradient; and all parameters of a network."""

import numpy as np

from minicnn.core.validation import as_array
from minicnn.errors import DTypeError, InputError, ShapeError

__all__ = ["Parameter", "Parameters", "check_apart"]


class Parameter:
    """An array that training changes, and the gradient of the loss with respect to it.

    Compiled code reads and writes both, and trusts them: the first value settles shape and dtype for good. What is set
    later is copied into place, converted to that dtype, or refused where its shape or its kind is another.

    Parameters
    ----------
    name : str, such as "kernel" or "bias"
    value : array of real numbers; float32 stays float32, all else becomes float64. A plain ndarray is not copied
    grad : array of the same shape, optional; overwritten by each backward pass

    Attributes
    ----------
    value, grad : ndarray, C-contiguous, of the same shape and dtype
    trainable : bool; False where the layer is frozen: no optimizer changes it then
    regularizer : regularizers.L2, or None; what it adds to the loss in training
    owner : str, who speaks in an error; a network writes the layer's name here

    Raises
    ------
    DTypeError, ShapeError, InputError
        what is set is not real numbers, has another shape, or is one piece of memory for both

    >>> bias = Parameter("bias", np.zeros(3, np.float32))
    >>> bias.value = [1, 2, 3]
    >>> bias.value, bias.grad
    (array([1., 2., 3.], dtype=float32), array([0., 0., 0.], dtype=float32))
    >>> bias.grad = np.zeros((3, 1))
    Traceback (most recent call last):
    minicnn.errors.ShapeError: Parameter: its bias has shape (3,), the gradient (3, 1).
    """

    __slots__ = ("name", "owner", "trainable", "regularizer", "_value", "_grad")

    def __init__(self, name, value, grad=None):
        self.name, self.owner, self.trainable, self.regularizer = name, "Parameter", True, None
        self._value = np.atleast_1d(as_array(value, self.owner, f"{name}.value", None))
        self._grad = np.zeros(self._value.shape, self._value.dtype) if grad is None else self.fitting(grad, "grad", "gradient")
        if np.may_share_memory(self._value, self._grad):
            raise InputError(f"Parameter: {name!r} has one piece of memory as value and as gradient. Give it two.")

    # A view is handed out: giving it another shape changes the view, and not what kernels are given.
    @property
    def value(self):
        return self._value[...]

    @value.setter
    def value(self, array):
        self._value[...] = self.fitting(array)

    @property
    def grad(self):
        return self._grad[...]

    @grad.setter
    def grad(self, array):
        self._grad[...] = self.fitting(array, "grad", "gradient")

    def fitting(self, array, attribute="value", noun="new value"):
        """Return `array` in the dtype of the value, or raise; the error knows its `parameter`."""
        try:
            array = as_array(array, self.owner, f"{self.name}.{attribute}", self._value.dtype)
            if array.shape != self._value.shape:
                raise ShapeError(f"{self.owner}: its {self.name} has shape {self._value.shape}, the {noun} {array.shape}.")
        except (DTypeError, InputError, ShapeError) as error:
            error.parameter = self
            raise
        return array

    def hold(self, value, grad):
        """Hold these two arrays from now on, without a copy. The caller makes sure that the old ones are not used."""
        assert value.shape == grad.shape == self._value.shape and value.flags.carray and grad.flags.carray
        self._value, self._grad = value, grad

    def __repr__(self):
        return f"Parameter({self.name!r}, shape={self._value.shape}, dtype={self._value.dtype})"


class Parameters(tuple):
    """The parameters of a network, in order, each in memory of its own.

    The fast engine has them in one piece of memory (fusion.PackedParameters), so that an optimizer passes over all at once.

    Attributes
    ----------
    layout : tuple of (packed, shape, dtype), one for each; arrays of `zeros` fit all parameters of equal layout

    >>> both = Parameters([Parameter("w", np.ones((2, 3))), Parameter("b", np.zeros(2))])
    >>> [(value.shape, grad.shape) for value, grad in both.pieces()]
    [((2, 3), (2, 3)), ((2,), (2,))]
    """

    def __init__(self, parameters):
        self.layout = tuple((False, parameter.value.shape, parameter.value.dtype) for parameter in self)

    def penalties(self):
        """Return what the regularizer of each parameter that has one and is trainable adds to the loss: list of float."""
        return [p.regularizer.penalty(p.value) for p in self if p.regularizer is not None and p.trainable]

    def add_penalty_gradients(self):
        """Add the gradients of `penalties` to those of the parameters."""
        for parameter in self:
            if parameter.regularizer is not None and parameter.trainable:
                parameter.grad[...] += parameter.regularizer.gradient(parameter.value)

    def zeros(self):
        """Return an array of zeros for each parameter, laid out in memory as the parameters are."""
        return [np.zeros_like(parameter.value) for parameter in self]

    def pieces(self, *slots, each=False):
        """Yield (value, grad, *slots) of what is trainable: what lies in one piece of memory, or `each` parameter alone;
        each of `slots` is a list as `zeros` returns."""
        for parameter, (_, shape, dtype), *others in zip(self, self.layout, *slots):
            if not parameter.trainable:
                continue
            for array in (parameter.value, parameter.grad):
                if array.shape != shape or array.dtype != dtype or not array.flags.carray:
                    raise InputError(f"{parameter.owner}: the array of its {parameter.name} has become {array.shape} "
                                     f"{array.dtype}, read-only or strided; it was {shape} {dtype}.")
            yield parameter.value, parameter.grad, *others


def check_apart(named):
    """Raise InputError if two of the (sentence's beginning, Parameter) share memory, naming both."""
    spans = sorted((array.__array_interface__["data"][0], array.nbytes, name) for name, parameter in named
                   for array in (parameter.value, parameter.grad) if array.nbytes)
    for (first, size, one), (second, _, other) in zip(spans, spans[1:]):
        if second < first + size:
            raise InputError(f"{other} shares memory with a parameter before it ({one.rpartition(' ')[2]}), so each would "
                             "overwrite the other's gradient. Give each parameter an array of its own.")
