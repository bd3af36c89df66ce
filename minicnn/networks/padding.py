"""The padding of keras.applications before a convolution with stride 2."""

__all__ = ["before_strides"]


def before_strides(size, kernel):
    """Return ((top, bottom), (left, right)) before a `valid` convolution of a kernel K with stride 2.

    K // 2 on both sides, and one less in front where the size is even: a pixel in the middle of each window is then in the image.

    >>> before_strides((112, 113), 3)
    ((0, 1), (1, 1))
    """
    return tuple((kernel // 2 - (1 - side % 2), kernel // 2) for side in size)
