"""Functions of each number, and of two numbers each, with their slopes: what networks of other tools are made of besides layers.

y = f(x) gives dx = dy f'(x); y = f(a, b) gives da = dy df/da and db = dy df/db, summed where an array was repeated. Outside of
its domain a function is NaN, at a pole infinite, without a warning: the network says where.
"""

import math

import numpy as np

from minicnn.reference.merging import unrepeated

__all__ = ["FUNCTIONS", "PAIRS", "unary", "unary_gradient", "binary", "binary_gradient"]

_erf = np.vectorize(math.erf, otypes=[np.float64])          # NumPy has none

# {name: (f(x), f'(x))}; at a jump or a kink the slope is 0, that of erf is 2 / sqrt(pi) exp(-x^2).
FUNCTIONS = {
    "abs": (np.abs, np.sign),
    "neg": (np.negative, lambda x: np.full_like(x, -1)),
    "exp": (np.exp, np.exp),
    "log": (np.log, lambda x: 1 / x),
    "sqrt": (np.sqrt, lambda x: 0.5 / np.sqrt(x)),
    "reciprocal": (lambda x: 1 / x, lambda x: -1 / (x * x)),
    "square": (np.square, lambda x: 2 * x),
    "sign": (np.sign, np.zeros_like),
    "floor": (np.floor, np.zeros_like),
    "ceil": (np.ceil, np.zeros_like),
    "round": (np.rint, np.zeros_like),                      # halves to the even number
    "erf": (lambda x: _erf(x).astype(x.dtype), lambda x: 2 / math.sqrt(math.pi) * np.exp(-x * x)),
    "sin": (np.sin, np.cos),
    "cos": (np.cos, lambda x: -np.sin(x)),
    "tan": (np.tan, lambda x: 1 / np.cos(x) ** 2),
    "asin": (np.arcsin, lambda x: 1 / np.sqrt((1 - x) * (1 + x))),
    "acos": (np.arccos, lambda x: -1 / np.sqrt((1 - x) * (1 + x))),
    "atan": (np.arctan, lambda x: 1 / (1 + x * x)),
    "sinh": (np.sinh, np.cosh),
    "cosh": (np.cosh, np.sinh),
    "asinh": (np.arcsinh, lambda x: 1 / np.hypot(x, 1)),
    "acosh": (np.arccosh, lambda x: 1 / np.sqrt((x - 1) * (x + 1))),
    "atanh": (np.arctanh, lambda x: 1 / ((1 - x) * (1 + x)))}

# {name: (f(a, b), df/da, df/db)}; of two equal numbers the first is the larger one, and the smaller one.
PAIRS = {
    "maximum": (np.maximum, lambda a, b: (a >= b).astype(a.dtype), lambda a, b: (a < b).astype(a.dtype)),
    "minimum": (np.minimum, lambda a, b: (a <= b).astype(a.dtype), lambda a, b: (a > b).astype(a.dtype)),
    "subtract": (np.subtract, lambda a, b: a.dtype.type(1), lambda a, b: a.dtype.type(-1)),
    "divide": (np.divide, lambda a, b: 1 / b, lambda a, b: -a / (b * b)),
    # a^b = exp(b log a): its slope in b is a^b log a, and 0 where a <= 0 has no logarithm.
    "power": (np.power, lambda a, b: np.where(b == 0, a.dtype.type(0), b * np.power(a, b - 1)),
              lambda a, b: np.where(a > 0, np.power(a, b) * np.log(np.where(a > 0, a, a.dtype.type(1))), a.dtype.type(0))),
    "remainder": (np.fmod, lambda a, b: a.dtype.type(1), lambda a, b: -np.trunc(a / b))}      # with the sign of a


def unary(x, function):
    """Return a function of each number of x.

    Parameters
    ----------
    function : one of the names in FUNCTIONS

    >>> unary(np.array([-1.5, 0.5, 2.5]), "round").tolist()
    [-2.0, 0.0, 2.0]
    """
    with np.errstate(all="ignore"):
        return FUNCTIONS[function][0](x)


def unary_gradient(dy, x, function):
    """Return dx of `unary`: dy f'(x).

    >>> unary_gradient(np.array([3.0, 3.0]), np.array([-2.0, 5.0]), "abs").tolist()
    [-3.0, 3.0]
    """
    with np.errstate(all="ignore"):
        return dy * FUNCTIONS[function][1](x)


def binary(a, b, function):
    """Return a function of each two numbers of a and b.

    Parameters
    ----------
    a, b : ndarrays, shape (N, ...); of one shape, or with sizes of 1, which are repeated
    function : one of the names in PAIRS

    >>> binary(np.array([[5.0, -5.0]]), np.array([[3.0]]), "remainder").tolist()
    [[2.0, -2.0]]
    """
    with np.errstate(all="ignore"):
        return PAIRS[function][0](a, b)


def binary_gradient(dy, a, b, function):
    """Return (da, db) of `binary`, each summed over the axes along which it was repeated, in float64.

    >>> da, db = binary_gradient(np.ones((1, 2)), np.array([[1.0, 4.0]]), np.array([[4.0]]), "maximum")
    >>> da.tolist(), db.tolist()
    ([[0.0, 1.0]], [[1.0]])
    """
    _, slope_a, slope_b = PAIRS[function]
    with np.errstate(all="ignore"):
        return unrepeated(dy * slope_a(a, b), a), unrepeated(dy * slope_b(a, b), b)
