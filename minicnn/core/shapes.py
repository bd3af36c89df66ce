"""Integer shape arithmetic: every size in minicnn is computed here, once.

Along one axis a window of K samples moves in steps of S over a signal of `size` samples, to which `before` and `after`
samples are added. It fits `(size + before + after - K) // S + 1` times and is never partly outside.
"""

from typing import NamedTuple

from minicnn.errors import ShapeError

__all__ = ["Axis", "PADDINGS", "window"]

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
