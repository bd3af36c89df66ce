"""Convolution by im2col, and its gradients."""

import numpy as np

from minicnn.reference.dense import dense, dense_weight_gradient
from minicnn.reference.windows import col2im, im2col, pad, windows_of

__all__ = ["conv2d", "conv2d_input_gradient", "conv2d_weight_gradient"]


def conv2d(x, w, b, strides, pads):
    """Convolve (as networks do: correlate) images with filters.

    y[n, oh, ow, f] = b[f] + sum over kh, kw, c of x[n, oh SH + kh - top, ow SW + kw - left, c] w[kh, kw, c, f],
    that is, y = im2col(x) @ w + b, with w seen as a (KH KW C, F) matrix.

    Parameters
    ----------
    x : ndarray, shape (N, H, W, C)
    w : ndarray, shape (KH, KW, C, F)
    b : ndarray, shape (F,)

    Returns
    -------
    y : ndarray, shape (N, OH, OW, F)

    >>> x = np.arange(9.0).reshape(1, 3, 3, 1)
    >>> conv2d(x, np.ones((2, 2, 1, 1)), np.array([0.5]), (1, 1), (0, 0, 0, 0))[0, :, :, 0]
    array([[ 8.5, 12.5],
           [20.5, 24.5]])
    """
    KH, KW, C, F = w.shape
    windows = windows_of(pad(x, pads, 0.0), (KH, KW), strides)
    y = dense(windows.reshape(-1, KH * KW * C), w.reshape(-1, F), b)
    return y.reshape(windows.shape[:3] + (F,))


def conv2d_input_gradient(dy, w, image_size, strides, pads):
    """Return dx of `conv2d`.

    y = cols @ w, so dcols = dy @ w^T; x enters only through cols = im2col(x), so dx = col2im(dcols).

    Parameters
    ----------
    dy : ndarray, shape (N, OH, OW, F)
    w : ndarray, shape (KH, KW, C, F)
    image_size : (H, W)

    Returns
    -------
    dx : ndarray, shape (N, H, W, C)

    >>> dy, w = np.ones((1, 2, 2, 1)), np.full((2, 2, 1, 1), 0.5)
    >>> conv2d_input_gradient(dy, w, (3, 3), (1, 1), (0, 0, 0, 0))[0, 1, :, 0]
    array([1., 2., 1.])
    """
    KH, KW, C, F = w.shape
    dcols = dy.reshape(-1, F).astype(np.float64) @ w.reshape(-1, F).T.astype(np.float64)
    return col2im(dcols.reshape(dy.shape[:3] + (KH, KW, C)), image_size, (KH, KW), strides, pads).astype(dy.dtype)


def conv2d_weight_gradient(dy, x, kernel_size, strides, pads):
    """Return (dw, db) of `conv2d`.

    y = cols @ w + b is linear in w and b: dw = cols^T @ dy, and db is the sum of dy over images and pixels.

    Parameters
    ----------
    dy : ndarray, shape (N, OH, OW, F)
    x : ndarray, shape (N, H, W, C)

    Returns
    -------
    dw : ndarray, shape (KH, KW, C, F)
    db : ndarray, shape (F,)

    >>> x, dy = np.arange(9.0).reshape(1, 3, 3, 1), np.ones((1, 2, 2, 1))
    >>> dw, db = conv2d_weight_gradient(dy, x, (2, 2), (1, 1), (0, 0, 0, 0))
    >>> dw[:, :, 0, 0].tolist(), db.tolist()
    ([[8.0, 12.0], [20.0, 24.0]], [4.0])
    """
    cols = im2col(x, kernel_size, strides, pads)
    dw, db = dense_weight_gradient(dy.reshape(-1, dy.shape[3]), cols)
    return dw.reshape(kernel_size + (x.shape[3], dy.shape[3])), db
