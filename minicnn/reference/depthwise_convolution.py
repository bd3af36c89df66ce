"""Depthwise convolution: every channel has filters of its own, and channels do not mix."""

import numpy as np

from minicnn.reference.grouped_convolution import dilated_col2im, dilated_windows

__all__ = ["depthwise_conv2d", "depthwise_conv2d_input_gradient", "depthwise_conv2d_weight_gradient"]


def depthwise_conv2d(x, w, b, strides, pads, dilation):
    """Convolve each channel of images with M filters of its own.

    y[n, oh, ow, c M + m] = b[c M + m] + sum over kh, kw of x[n, i, j, c] w[kh, kw, c, m], where i = oh SH + kh DH - top
    and j = ow SW + kw DW - left. It is a convolution in C groups. With a 1x1 convolution after it, which mixes the
    channels, it stands in for a convolution of KH KW C F weights with KH KW C M + C M F of them (Howard et al. 2017).

    Parameters
    ----------
    x : ndarray, shape (N, H, W, C)
    w : ndarray, shape (KH, KW, C, M)
    b : ndarray, shape (C M,)
    dilation : (DH, DW)

    Returns
    -------
    y : ndarray, shape (N, OH, OW, C M)

    >>> x, w = np.array([[[[1.0, 10.0]]]]), np.array([[[[1.0, 2.0], [3.0, 4.0]]]])
    >>> depthwise_conv2d(x, w, np.zeros(4), (1, 1), (0, 0, 0, 0), (1, 1)).ravel()
    array([ 1.,  2., 30., 40.])
    """
    windows = dilated_windows(x, w.shape[:2], strides, pads, dilation).astype(np.float64)
    y = np.einsum("nijhwc,hwcm->nijcm", windows, w.astype(np.float64)).reshape(windows.shape[:3] + (-1,))
    return (y + b).astype(x.dtype)


def depthwise_conv2d_input_gradient(dy, w, image_size, strides, pads, dilation):
    """Return dx of `depthwise_conv2d`.

    A number of a window of channel c enters the M outputs c M + m, each times its weight: its gradient is
    dcols[n, oh, ow, kh, kw, c] = sum over m of dy[n, oh, ow, c M + m] w[kh, kw, c, m], and dx = dilated_col2im(dcols).

    Parameters
    ----------
    dy : ndarray, shape (N, OH, OW, C M)
    w : ndarray, shape (KH, KW, C, M)
    image_size : (H, W)

    Returns
    -------
    dx : ndarray, shape (N, H, W, C)

    >>> dy, w = np.array([[[[1.0, 10.0]]]]), np.array([[[[3.0, 4.0]]]])
    >>> depthwise_conv2d_input_gradient(dy, w, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1)).item()
    43.0
    """
    dy64 = dy.reshape(dy.shape[:3] + w.shape[2:]).astype(np.float64)
    dcols = np.einsum("nijcm,hwcm->nijhwc", dy64, w.astype(np.float64))
    return dilated_col2im(dcols, image_size, strides, pads, dilation).astype(dy.dtype)


def depthwise_conv2d_weight_gradient(dy, x, kernel_size, strides, pads, dilation):
    """Return (dw, db) of `depthwise_conv2d`.

    y is linear in w and b: dw[kh, kw, c, m] is the sum over n, oh, ow of dy[n, oh, ow, c M + m] times the number of x
    that the weight met there, and db is the sum of dy over images and pixels.

    Parameters
    ----------
    dy : ndarray, shape (N, OH, OW, C M)
    x : ndarray, shape (N, H, W, C)

    Returns
    -------
    dw : ndarray, shape (KH, KW, C, M)
    db : ndarray, shape (C M,)

    >>> dw, db = depthwise_conv2d_weight_gradient(np.array([[[[1.0, 10.0]]]]), np.array([[[[5.0]]]]), (1, 1), (1, 1),
    ...                                           (0, 0, 0, 0), (1, 1))
    >>> dw.ravel(), db
    (array([ 5., 50.]), array([ 1., 10.]))
    """
    windows = dilated_windows(x, kernel_size, strides, pads, dilation).astype(np.float64)
    dy64 = dy.astype(np.float64)
    dw = np.einsum("nijhwc,nijcm->hwcm", windows, dy64.reshape(dy.shape[:3] + (x.shape[3], -1)))
    return dw.astype(dy.dtype), dy64.sum(axis=(0, 1, 2)).astype(dy.dtype)
