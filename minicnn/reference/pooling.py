"""Max and average pooling, and their gradients."""

import numpy as np

from minicnn.reference.windows import col2im, pad, windows_of

__all__ = ["max_pool2d", "max_pool2d_gradient", "average_pool2d", "average_pool2d_gradient"]


def max_pool2d(x, pool_size, strides, pads):
    """Return the maximum of every window, and which position of the window it came from.

    y[n, oh, ow, c] = max over kh, kw of x[n, oh SH + kh - top, ow SW + kw - left, c]. The switch is kh KW + kw.
    Ties: the first position in row-major order. NaN: a window that holds one is NaN, its switch a position of a NaN.
    Padding never wins: it takes no part. A window of -inf alone is -inf.

    Parameters
    ----------
    x : ndarray, shape (N, H, W, C)

    Returns
    -------
    y : ndarray, shape (N, OH, OW, C)
    switches : ndarray, shape (N, OH, OW, C), uint16

    >>> x = np.array([[5.0, 5.0], [np.nan, 1.0]]).reshape(1, 2, 2, 1)
    >>> [int(max_pool2d(v, (2, 2), (2, 2), (0, 0, 0, 0))[1][0, 0, 0, 0]) for v in (x, np.nan_to_num(x))]
    [2, 0]
    """
    windows = windows_of(pad(x, pads, 0.0), pool_size, strides)
    inside = windows_of(pad(np.ones((1,) + x.shape[1:3] + (1,), bool), pads, False), pool_size, strides)
    y = np.zeros(windows.shape[:3] + windows.shape[5:], x.dtype)
    switches = np.zeros(y.shape, np.uint16)
    seen = np.zeros_like(inside[:, :, :, 0, 0])
    for k, (kh, kw) in enumerate(np.ndindex(*pool_size)):
        value, valid = windows[:, :, :, kh, kw], inside[:, :, :, kh, kw]
        wins = valid & (~seen | (value > y) | np.isnan(value))
        y, switches, seen = np.where(wins, value, y), np.where(wins, np.uint16(k), switches), seen | valid
    return y, switches


def max_pool2d_gradient(dy, switches, image_size, pool_size, strides, pads):
    """Return dx of `max_pool2d`.

    y is a copy of the one pixel that the switch names, so dy goes to that pixel alone and all others get 0; pixels that
    several windows chose receive the sum.

    Parameters
    ----------
    dy : ndarray, shape (N, OH, OW, C)
    switches : ndarray, shape (N, OH, OW, C), uint16
    image_size : (H, W)

    Returns
    -------
    dx : ndarray, shape (N, H, W, C)

    >>> switches = np.array([3], np.uint16).reshape(1, 1, 1, 1)
    >>> max_pool2d_gradient(np.ones((1, 1, 1, 1)), switches, (2, 2), (2, 2), (2, 2), (0, 0, 0, 0))[0, :, :, 0]
    array([[0., 0.],
           [0., 1.]])
    """
    KH, KW = pool_size
    dcols = np.zeros(dy.shape[:3] + (KH * KW, dy.shape[3]), np.float64)
    np.put_along_axis(dcols, switches[:, :, :, None].astype(np.intp), dy[:, :, :, None], axis=3)
    dcols = dcols.reshape(dy.shape[:3] + (KH, KW, dy.shape[3]))
    return col2im(dcols, image_size, pool_size, strides, pads).astype(dy.dtype)


def average_pool2d(x, pool_size, strides, pads):
    """Return the mean of every window, over the pixels of it that lie inside the image.

    y[n, oh, ow, c] = (sum over the window of x) / n(oh, ow), n being the pixels of the window that are not padding.

    Parameters
    ----------
    x : ndarray, shape (N, H, W, C)

    Returns
    -------
    y : ndarray, shape (N, OH, OW, C)

    >>> average_pool2d(np.arange(4.0).reshape(1, 2, 2, 1), (2, 2), (2, 2), (0, 0, 0, 0)).item()
    1.5
    """
    windows = windows_of(pad(x, pads, 0.0), pool_size, strides)
    count = _window_counts(x.shape[1:3], pool_size, strides, pads)
    return (windows.sum(axis=(3, 4), dtype=np.float64) / count).astype(x.dtype)


def average_pool2d_gradient(dy, image_size, pool_size, strides, pads):
    """Return dx of `average_pool2d`: each pixel of a window receives dy / n(oh, ow).

    >>> average_pool2d_gradient(np.ones((1, 1, 1, 1)), (2, 2), (2, 2), (2, 2), (0, 0, 0, 0))[0, :, :, 0]
    array([[0.25, 0.25],
           [0.25, 0.25]])
    """
    share = dy / _window_counts(image_size, pool_size, strides, pads)
    dcols = np.broadcast_to(share[:, :, :, None, None], dy.shape[:3] + tuple(pool_size) + dy.shape[3:])
    return col2im(dcols, image_size, pool_size, strides, pads).astype(dy.dtype)


def _window_counts(image_size, pool_size, strides, pads):
    """Return how many pixels of each window lie inside the image: shape (1, OH, OW, 1), float64."""
    inside = pad(np.ones((1,) + tuple(image_size) + (1,)), pads, 0.0)
    return windows_of(inside, pool_size, strides).sum(axis=(3, 4))
