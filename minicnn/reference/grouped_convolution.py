"""Convolution with holes between the pixels of a window (dilation), and of channels in groups."""

import numpy as np

from minicnn.reference.dense import dense, dense_input_gradient, dense_weight_gradient
from minicnn.reference.windows import col2im, pad, windows_of

__all__ = ["grouped_conv2d", "grouped_conv2d_input_gradient", "grouped_conv2d_weight_gradient", "dilated_windows",
           "dilated_col2im"]


def dilated_windows(x, kernel_size, strides, pads, dilation):
    """Return every `dilation`-th pixel of the windows that reach over (KH - 1) DH + 1 by (KW - 1) DW + 1 pixels.

    Returns
    -------
    ndarray, shape (N, OH, OW, KH, KW, C)

    >>> x = np.arange(9.0).reshape(1, 3, 3, 1)
    >>> dilated_windows(x, (2, 2), (1, 1), (0, 0, 0, 0), (2, 2)).ravel()
    array([0., 2., 6., 8.])
    """
    windows = windows_of(pad(x, pads, 0.0), _reach(kernel_size, dilation), strides)
    return windows[:, :, :, ::dilation[0], ::dilation[1]]


def dilated_col2im(dcols, image_size, strides, pads, dilation):
    """Add every number of `dcols` (N, OH, OW, KH, KW, C) to the pixel it came from: the adjoint of `dilated_windows`.

    >>> dilated_col2im(np.ones((1, 1, 1, 2, 1, 1)), (3, 1), (1, 1), (0, 0, 0, 0), (2, 1)).ravel()
    array([1., 0., 1.])
    """
    reach = _reach(dcols.shape[3:5], dilation)
    wide = np.zeros(dcols.shape[:3] + reach + dcols.shape[5:], dcols.dtype)         # 0 in the holes
    wide[:, :, :, ::dilation[0], ::dilation[1]] = dcols
    return col2im(wide, image_size, reach, strides, pads)


def grouped_conv2d(x, w, b, strides, pads, dilation, groups):
    """Convolve images with filters that see C / G of the channels, at pixels that lie DH and DW apart.

    y[n, oh, ow, f] = b[f] + sum over kh, kw, c < C/G of x[n, i, j, g C/G + c] w[kh, kw, c, f], where
    i = oh SH + kh DH - top, j = ow SW + kw DW - left, and g = f // (F/G) is the group of filter f: each group is a
    convolution of its own. With G = 1 and DH = DW = 1 it is conv2d.

    Parameters
    ----------
    x : ndarray, shape (N, H, W, C)
    w : ndarray, shape (KH, KW, C / G, F)
    b : ndarray, shape (F,)
    dilation : (DH, DW)
    groups : int, G; it divides C and F

    Returns
    -------
    y : ndarray, shape (N, OH, OW, F)

    >>> x = np.array([[[[1.0, 10.0]]]])
    >>> grouped_conv2d(x, np.full((1, 1, 1, 2), 2.0), np.zeros(2), (1, 1), (0, 0, 0, 0), (1, 1), 2).ravel()
    array([ 2., 20.])
    """
    cols = dilated_windows(x, w.shape[:2], strides, pads, dilation)
    y = [dense(_rows(cols[..., channels]), w[..., filters].reshape(-1, w.shape[3] // groups), b[filters])
         for channels, filters in _groups(x.shape[3], w.shape[3], groups)]
    return np.concatenate(y, axis=1).reshape(cols.shape[:3] + (-1,))


def grouped_conv2d_input_gradient(dy, w, image_size, strides, pads, dilation, groups):
    """Return dx of `grouped_conv2d`.

    Group by group y = cols @ w, so dcols = dy @ w^T for its channels; x enters through its windows alone, so
    dx = dilated_col2im(dcols).

    Parameters
    ----------
    dy : ndarray, shape (N, OH, OW, F)
    w : ndarray, shape (KH, KW, C / G, F)
    image_size : (H, W)

    Returns
    -------
    dx : ndarray, shape (N, H, W, C)

    >>> dy, w = np.array([[[[1.0, 3.0]]]]), np.full((1, 1, 1, 2), 2.0)
    >>> grouped_conv2d_input_gradient(dy, w, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 2).ravel()
    array([2., 6.])
    """
    KH, KW, C, F = w.shape
    dy64 = dy.astype(np.float64)
    dcols = [dense_input_gradient(_columns(dy64[..., filters]), w[..., filters].reshape(-1, F // groups))
             .reshape(dy.shape[:3] + (KH, KW, C)) for _, filters in _groups(C * groups, F, groups)]
    return dilated_col2im(np.concatenate(dcols, axis=5), image_size, strides, pads, dilation).astype(dy.dtype)


def grouped_conv2d_weight_gradient(dy, x, kernel_size, strides, pads, dilation, groups):
    """Return (dw, db) of `grouped_conv2d`.

    Group by group y = cols @ w + b is linear in w and b: dw = cols^T @ dy, and db is the sum of dy over images and
    pixels.

    Parameters
    ----------
    dy : ndarray, shape (N, OH, OW, F)
    x : ndarray, shape (N, H, W, C)

    Returns
    -------
    dw : ndarray, shape (KH, KW, C / G, F)
    db : ndarray, shape (F,)

    >>> dy, x = np.array([[[[1.0, 3.0]]]]), np.array([[[[5.0, 7.0]]]])
    >>> dw, db = grouped_conv2d_weight_gradient(dy, x, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 2)
    >>> dw.ravel(), db
    (array([ 5., 21.]), array([1., 3.]))
    """
    C, F = x.shape[3], dy.shape[3]
    cols = dilated_windows(x, kernel_size, strides, pads, dilation)
    parts = [dense_weight_gradient(_columns(dy[..., filters]), _rows(cols[..., channels]))
             for channels, filters in _groups(C, F, groups)]
    dw, db = (np.concatenate(part, axis=-1) for part in zip(*parts))
    return dw.reshape(tuple(kernel_size) + (C // groups, F)), db


def _reach(kernel_size, dilation):
    """Return how many pixels a window spans: (K - 1) D + 1 along each axis."""
    return tuple((K - 1) * D + 1 for K, D in zip(kernel_size, dilation))


def _groups(C, F, groups):
    """Return the slice of the channels and that of the filters, group by group."""
    return [(slice(g * C // groups, (g + 1) * C // groups), slice(g * F // groups, (g + 1) * F // groups))
            for g in range(groups)]


def _rows(windows):
    """Return windows (N, OH, OW, KH, KW, C) as the rows of a matrix (N OH OW, KH KW C)."""
    return windows.reshape(windows.shape[0] * windows.shape[1] * windows.shape[2], -1)


def _columns(dy):
    """Return dy (N, OH, OW, F) as a matrix (N OH OW, F)."""
    return dy.reshape(-1, dy.shape[3])
