"""Images in other sizes and another range: zero padding, up-sampling, rescaling, and their gradients."""

import numpy as np

from minicnn.reference.windows import pad

__all__ = ["zero_padding2d", "zero_padding2d_gradient", "up_sampling2d", "up_sampling2d_gradient", "rescaling",
           "rescaling_gradient"]


def zero_padding2d(x, pads):
    """Return images with rows and columns of zeros around them.

    Parameters
    ----------
    x : ndarray, shape (N, H, W, C)
    pads : (top, bottom, left, right), in pixels

    Returns
    -------
    y : ndarray, shape (N, H + top + bottom, W + left + right, C)

    >>> zero_padding2d(np.ones((1, 1, 1, 1)), (0, 1, 1, 0))[0, :, :, 0]
    array([[0., 1.],
           [0., 0.]])
    """
    return pad(x, pads, 0.0)


def zero_padding2d_gradient(dy, pads):
    """Return dx of `zero_padding2d`: dy without the rows and columns that were added, on which no x has an effect.

    >>> zero_padding2d_gradient(np.arange(4.0).reshape(1, 2, 2, 1), (0, 1, 1, 0)).ravel()
    array([1.])
    """
    top, bottom, left, right = pads
    return dy[:, top:dy.shape[1] - bottom, left:dy.shape[2] - right].copy()


def up_sampling2d(x, size):
    """Return images with each pixel repeated: y[n, h, w, c] = x[n, h // SH, w // SW, c] (the nearest neighbour).

    Parameters
    ----------
    x : ndarray, shape (N, H, W, C)
    size : (SH, SW)

    Returns
    -------
    y : ndarray, shape (N, H SH, W SW, C)

    >>> up_sampling2d(np.arange(2.0).reshape(1, 1, 2, 1), (1, 2)).ravel()
    array([0., 0., 1., 1.])
    """
    return x.repeat(size[0], axis=1).repeat(size[1], axis=2)


def up_sampling2d_gradient(dy, size):
    """Return dx of `up_sampling2d`: each pixel went to SH x SW places, so it receives the sum of dy over them.

    >>> up_sampling2d_gradient(np.arange(4.0).reshape(1, 1, 4, 1), (1, 2)).ravel()
    array([1., 5.])
    """
    (SH, SW), (N, H, W, C) = size, dy.shape
    return dy.reshape(N, H // SH, SH, W // SW, SW, C).sum(axis=(2, 4), dtype=np.float64).astype(dy.dtype)


def rescaling(x, factor, offset):
    """Return factor x + offset.

    >>> rescaling(np.array([0.0, 1.0]), 2.0, -1.0)
    array([-1.,  1.])
    """
    return x * x.dtype.type(factor) + x.dtype.type(offset)


def rescaling_gradient(dy, factor):
    """Return dx of `rescaling`: factor dy.

    >>> rescaling_gradient(np.ones(2), 2.0)
    array([2., 2.])
    """
    return dy * dy.dtype.type(factor)
