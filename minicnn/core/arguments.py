"""What arguments may be: a table {name: constraint} at each class or function, and the one way to check it.

A constraint, called with a value, returns it in the type that the code below wants, or raises ValueError or TypeError.
Its text ends the sentence "filters must be ...".
"""

import math
import numbers
import operator
from typing import NamedTuple

from minicnn.errors import InputError, nearest, printable

__all__ = ["Whole", "Real", "OneOf", "Pair", "Flag", "Text", "Having", "OrNone", "check", "check_all", "said"]


def check(owner, argument, value, constraint):
    """Return `value` as the constraint has it, or raise InputError naming the owner, if it is not "", and the argument.

    >>> check("Conv2D", "kernel_size", 3, Pair())
    (3, 3)
    >>> check("Dropout", "rate", 1, Real(0, 1))
    Traceback (most recent call last):
    minicnn.errors.InputError: Dropout: rate must lie in [0, 1), got 1.
    """
    try:
        return constraint(value)
    except (TypeError, ValueError, OverflowError):
        hint = nearest(value, constraint) if isinstance(constraint, OneOf) and isinstance(value, str) else ""
        raise InputError(f"{owner}{': ' * bool(owner)}{argument} must {constraint}, got {printable(repr(value))[:80]}.{hint}") from None


def check_all(owner, constraints, arguments):
    """Return {argument: value as its constraint has it}, in the order of `arguments`; of all of them, or raise."""
    return {name: check(owner, name, value, constraints[name]) for name, value in arguments.items()}


class Whole(NamedTuple):
    """A whole number from `low` to `high`."""

    low: int = 1
    high: int = 2**31 - 1

    def __call__(self, value):
        number = operator.index(value)
        if isinstance(value, bool) or not self.low <= number <= self.high:
            raise ValueError
        return number

    def __str__(self):
        power = (self.high + 1).bit_length() - 1
        high = f"2**{power} - 1" if power > 20 and self.high == 2**power - 1 else self.high
        return f"be a whole number from {self.low} to {high}"


class Real(NamedTuple):
    """A number between `low` and `high`, which is a float from then on; `brackets` say whether either is allowed itself."""

    low: float
    high: float = math.inf
    brackets: str = "[)"

    def __call__(self, value):
        if isinstance(value, bool) or not isinstance(value, numbers.Real):      # NumPy's numbers are, its bool is not
            raise TypeError
        number, (left, right) = float(value), self.brackets
        if not self.low <= number <= self.high or (number == self.low and left == "(") or (number == self.high and right == ")"):
            raise ValueError
        return number

    def __str__(self):
        left, right = self.brackets
        return f"lie in {left}{self.low:g}, {self.high:g}{right}"


class OneOf(tuple):
    """One of these words."""

    def __call__(self, value):
        if not isinstance(value, str) or value not in self:
            raise ValueError
        return value

    def __str__(self):
        return f"be one of {', '.join(self)}"


class Pair(NamedTuple):
    """Two whole numbers of at least 1, or one that stands for both."""

    def __call__(self, value):
        first, second = value if isinstance(value, (tuple, list)) else (value, value)
        return Whole()(first), Whole()(second)

    def __str__(self):
        return f"be one whole number or two, each from 1 to {str(Whole()).rpartition(' to ')[2]}"


class Flag(NamedTuple):
    """True or False."""

    def __call__(self, value):
        import numpy as np              # late: the command line checks its options without NumPy

        if not isinstance(value, (bool, np.bool_)):
            raise TypeError
        return bool(value)

    def __str__(self):
        return "be True or False"


class Text(NamedTuple):
    """A text that is not empty: `what` says of what, such as "the name of a file"."""

    what: str

    def __call__(self, value):
        if not isinstance(value, str) or not value or "\0" in value:
            raise ValueError
        return value

    def __str__(self):
        return f"be {self.what}"


class Having(NamedTuple):
    """An object with this method: `what` says what has it."""

    method: str
    what: str

    def __call__(self, value):
        if isinstance(value, type) or not hasattr(value, self.method):
            raise TypeError
        return value

    def __str__(self):
        return f"be {self.what}"


class OrNone(NamedTuple):
    """What a constraint allows, or None."""

    constraint: object

    def __call__(self, value):
        return None if value is None else self.constraint(value)

    def __str__(self):
        return f"{self.constraint}, or be None"


def said(owner):
    """Return {argument: value} of an object with `fields`, without those at the default that is in its `unsaid`."""
    values = {field: getattr(owner, field) for field in owner.fields}
    return {field: value for field, value in values.items() if field not in owner.unsaid or value != owner.unsaid[field]}
