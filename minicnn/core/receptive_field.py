"""The receptive field: which pixels of the image a number of a later map depends on."""

from typing import NamedTuple

__all__ = ["Field"]


class Field(NamedTuple):
    """The pixels of the image that an output depends on: output (i, j) sees `size` pixels from start + stride (i, j) on.

    Each is a pair, along the height and the width. A window of K in steps of S, over maps of which each number sees
    `size` pixels in steps of `stride`, sees size + (K - 1) stride pixels, in steps of S stride; P numbers of padding in
    front move its start by -P stride. At the border of a padded map it is the most that can be seen: what lies on
    padding is 0 there, whatever the pixels.

    >>> Field().through((3, 3), (1, 1), (0, 0)).through((2, 2), (2, 2), (0, 0))
    Field(size=(4, 4), stride=(2, 2), start=(0, 0))
    """

    size: tuple = (1, 1)
    stride: tuple = (1, 1)
    start: tuple = (0, 0)

    def through(self, window, strides, before):
        """Return the field behind a window of this size and strides, with `before` numbers of padding in front."""
        return Field(*(tuple(axis) for axis in zip(*(
            (size + (K - 1) * stride, stride * S, start - P * stride)
            for size, stride, start, K, S, P in zip(*self, window, strides, before)))))

    def whole(self, sizes):
        """Return the field of all numbers of a map of these sizes together, which have no place of their own any more."""
        return Field(tuple(size + (n - 1) * stride for size, stride, n in zip(self.size, self.stride, sizes)), (0, 0), self.start)
