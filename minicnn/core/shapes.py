"""Integer shape arithmetic: every size in minicnn is computed here, once.

Along one axis a window of K samples moves in steps of S over a signal of `size` samples, to which `before` and `after`
samples are added. It fits `(size + before + after - K) // S + 1` times and is never partly outside.
"""

import operator
from typing import NamedTuple

from minicnn.errors import InputError, ShapeError

__all__ = ["Axis", "PADDINGS", "window", "positive_int", "pair", "parameter_count"]

PADDINGS = ("valid", "same")


class Axis(NamedTuple):
    """One axis of a sliding window: how many outputs, and how much padding on either side."""

    out: int
    before: int
    after: int


def window(size, kernel, stride, padding):
    """Return the `Axis` of a window of `kernel` samples in steps of `stride` over `size` samples.

    - `valid`: no padding, out = (size - kernel) // stride + 1, the rest is dropped;
    - `same`: out = ceil(size / stride), padding = max((out - 1) stride + kernel - size, 0), the odd one after (Keras).

    Raises
    ------
    ShapeError
        if the window does not fit once; the sentence holds the formula with its numbers.

    >>> window(64, 3, 1, "valid"), window(29, 2, 2, "valid").out
    (Axis(out=62, before=0, after=0), 14)
    >>> window(5, 3, 2, "same")
    Axis(out=3, before=1, after=1)
    """
    if padding == "same":
        out = -(-size // stride)
        total = max((out - 1) * stride + kernel - size, 0)
        return Axis(out, total // 2, total - total // 2)
    if size < kernel:
        raise ShapeError(f"a window of {kernel} does not fit into {size}: "
                         f"(size - kernel) // stride + 1 = ({size} - {kernel}) // {stride} + 1 < 1")
    return Axis((size - kernel) // stride + 1, 0, 0)


def positive_int(value, owner, argument):
    """Return `value` as an int from 1 to 2**31 - 1, or raise InputError naming the owner and the argument.

    >>> positive_int(32, "Conv2D", "filters")
    32
    """
    try:
        number = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = 0
    if not 1 <= number < 2**31:
        raise InputError(f"{owner}: {argument} must be a whole number of at least 1 and below 2**31, got {value!r}.")
    return number


def pair(value, owner, argument):
    """Return `value` as two positive ints; one number stands for both.

    >>> pair(3, "Conv2D", "kernel_size"), pair((1, 2), "Conv2D", "strides")
    ((3, 3), (1, 2))
    """
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise InputError(f"{owner}: {argument} must be one whole number or two, got {value!r}.")
        return tuple(positive_int(v, owner, argument) for v in value)
    return (positive_int(value, owner, argument),) * 2


def parameter_count(shapes):
    """Return the number of elements of all `shapes` together.

    >>> parameter_count([(3, 3, 3, 32), (32,)])
    896
    """
    total = 0
    for shape in shapes:
        count = 1
        for size in shape:
            count *= size
        total += count
    return total
