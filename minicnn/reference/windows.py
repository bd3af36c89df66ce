"""What convolution and pooling share: the windows of padded images, as a view and as a matrix."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

__all__ = ["pad", "windows_of", "im2col", "col2im"]


def pad(x, pads, value):
    """Surround the images of x with `value`: (N, top + H + bottom, left + W + right, C)."""
    top, bottom, left, right = pads
    return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=value)


def windows_of(x, kernel_size, strides):
    """Return a view of all windows of x: shape (N, OH, OW, KH, KW, C)."""
    windows = sliding_window_view(x, kernel_size, axis=(1, 2))         # (N, H-KH+1, W-KW+1, C, KH, KW)
    return windows[:, ::strides[0], ::strides[1]].transpose(0, 1, 2, 4, 5, 3)


def im2col(x, kernel_size, strides, pads):
    """Lay every window of `x` out as one row of a matrix.

    Row (n, oh, ow) holds the KH x KW x C numbers under the window whose corner is at (oh SH - top, ow SW - left), in
    the order of the weights. Pixels outside the image are 0.

    Parameters
    ----------
    x : ndarray, shape (N, H, W, C)

    Returns
    -------
    ndarray, shape (N OH OW, KH KW C)

    >>> x = np.arange(9.0).reshape(1, 3, 3, 1)
    >>> im2col(x, (2, 2), (1, 1), (0, 0, 0, 0))[0]
    array([0., 1., 3., 4.])
    """
    windows = windows_of(pad(x, pads, 0.0), kernel_size, strides)      # (N, OH, OW, KH, KW, C)
    return windows.reshape(-1, windows[0, 0, 0].size)


def col2im(dcols, image_size, kernel_size, strides, pads):
    """Add every row of `dcols` back to the pixels it was taken from: the adjoint of `im2col`.

    im2col copies pixel x[i] into several entries of cols; by the chain rule dx[i] is the sum over these entries of
    dcols. Entries that lie on padding are dropped.

    Parameters
    ----------
    dcols : ndarray, shape (N, OH, OW, KH, KW, C)
    image_size : (H, W)

    Returns
    -------
    ndarray, shape (N, H, W, C)

    >>> col2im(np.ones((1, 2, 2, 2, 2, 1)), (3, 3), (2, 2), (1, 1), (0, 0, 0, 0))[0, :, :, 0]
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]])
    """
    (N, OH, OW, KH, KW, C), (H, W), (SH, SW) = dcols.shape, image_size, strides
    top, bottom, left, right = pads
    padded = np.zeros((N, top + H + bottom, left + W + right, C), dcols.dtype)
    for kh in range(KH):
        for kw in range(KW):
            padded[:, kh:kh + OH * SH:SH, kw:kw + OW * SW:SW] += dcols[:, :, :, kh, kw]
    return padded[:, top:top + H, left:left + W].copy()
