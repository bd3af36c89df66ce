"""Functions of each number, or of two numbers each, and arrays that stay: for networks of other tools (interop/)."""


import numpy as np

from minicnn.core.arguments import OneOf
from minicnn.errors import InputError, ShapeError
from minicnn.layers.base import Layer, register
from minicnn.layers.merging import Merge
from minicnn.layers.reshaping import SIZES
from minicnn.reference.elementwise import FUNCTIONS, PAIRS

__all__ = ["Elementwise", "ElementwisePair", "Constant"]


class Elementwise(Layer):
    """A function of each number (reference.unary, whose table has its slope).

    Parameters
    ----------
    function : "abs", "neg", "exp", "log", "sqrt", "reciprocal", "square", "sign", "floor", "ceil", "round", "erf", "sin", "cos",
        "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh" or "atanh"

    >>> layer = Elementwise("sqrt")
    >>> _ = layer.build((2,)); layer.forward([[4.0, 9.0]]).tolist()
    [[2.0, 3.0]]
    """

    fields = {"function": OneOf(FUNCTIONS)}

    def __init__(self, function, name=None):
        super().__init__(name, function=function)

    def forward(self, x):
        x = self.accept(x)
        y = self.output("y", x.shape)
        self.ops.unary(x, self.function, y)
        self.remember(x)
        return y

    def backward(self, dy):
        dy, x = self.consume(dy)
        dx = self.output("dx", x.shape)
        self.ops.unary_gradient(dy, x, self.function, dx)
        return dx

    def choices(self):
        """The pieces of the functions that have some."""
        x, = self._cache
        pieces = {"abs": np.sign, "sign": np.sign, "floor": np.floor, "ceil": np.ceil, "round": np.rint}
        return (pieces[self.function](x),) if self.function in pieces else ()


class ElementwisePair(Merge):
    """A function of each two numbers of two arrays (reference.binary); sizes of 1 are repeated, as by Multiply.

    Parameters
    ----------
    function : "maximum", "minimum", "subtract", "divide", "power" or "remainder", which has the sign of the first

    >>> layer = ElementwisePair("maximum")
    >>> layer.build([(8, 8, 4), (1, 1, 4)])
    (8, 8, 4)
    """

    fields = {"function": OneOf(PAIRS)}

    def __init__(self, function, name=None):
        super().__init__(name, function=function)

    def infer(self, shapes):
        if len(shapes) != 2:
            raise ShapeError(f"{self.label}: it takes two arrays, got {len(shapes)}.")
        if len(set(map(len, shapes))) > 1 or any(a != b and 1 not in (a, b) for a, b in zip(*shapes)):
            raise ShapeError(f"{self.label}: the shapes must be equal, or 1 where they are not, got {shapes[0]} and {shapes[1]}.")
        return tuple(map(max, *shapes)), []

    def forward(self, xs):
        a, b = self.accept(xs)
        y = self.output("y", (len(a), *self.output_shape))
        self.ops.binary(a, b, self.function, y)
        self.remember(a, b)
        return y

    def backward(self, dy):
        dy, a, b = self.consume(dy)
        da, db = self.output("da", a.shape), self.output("db", b.shape)
        self.ops.binary_gradient(dy, a, b, self.function, da, db)
        return [da, db]

    def choices(self):
        """Which of the two it is, or how often the one goes into the other."""
        a, b = self._cache
        pieces = {"maximum": np.greater_equal, "minimum": np.less_equal, "remainder": np.floor_divide}
        return (pieces[self.function](a, b),) if self.function in pieces else ()


class Constant(Layer):
    """Give every sample the same array, whatever it takes: an operand of a network that was made elsewhere.

    `Add()([x, Constant((8,))(x)])` adds it. The array is the statistic `value`, zeros at first, which no optimizer changes: set
    it by `layer.set_weights([array])`. The gradient of what it takes is 0.

    Parameters
    ----------
    shape : tuple of int, without N

    >>> layer = Constant((2,))
    >>> _ = layer.build((5,)); layer.set_weights([[1, 2]]); layer.forward(np.zeros((3, 5))).tolist()
    [[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]]
    """

    fields = {"shape": SIZES}
    untrained = ("value",)

    def __init__(self, shape, name=None):
        super().__init__(name, shape=shape)
        if -1 in self.shape:
            raise InputError(f"{self.label}: shape must have all its sizes, got {self.shape}.")

    def infer(self, input_shape):
        return self.shape, [("value", self.shape, "zeros")]

    def receptive_field(self, field):
        """None: what it gives sees no pixel."""
        return None

    def forward(self, x):
        x = self.accept(x)
        y = self.output("y", (len(x), *self.shape))
        self.ops.call(np.copyto, y, self.statistics[0].value)
        self.remember(y)
        return y

    def backward(self, dy):
        dy, _ = self.consume(dy)
        dx = self.output("dx", (len(dy), *self.input_shape))
        dx[...] = 0
        return dx

    def flops(self):
        """None: nothing is computed."""
        return 0


register(Elementwise, ElementwisePair, Constant)
