"""Exercise conv-forward: convolve images with filters."""

import numpy as np


def conv_forward(x, w, b, strides, pads):
    """Return y: the sum of the products of each filter with each window, plus the bias of the filter.

    y[n, oh, ow, f] = b[f] + sum over kh, kw, c of x[n, oh SH + kh - top, ow SW + kw - left, c] w[kh, kw, c, f].
    The filter is not flipped: a convolution in neural networks is a cross-correlation. x is 0 outside the image. Loops
    are fine; a matrix product (im2col) is faster.

    Parameters
    ----------
    x : ndarray, shape (N, H, W, C)
    w : ndarray, shape (KH, KW, C, F)
    b : ndarray, shape (F,)
    strides : (SH, SW)
    pads : (top, bottom, left, right), rows and columns of zeros to add around each image

    Returns
    -------
    y : ndarray, shape (N, OH, OW, F), where OH = (top + H + bottom - KH) // SH + 1, and OW likewise

    Example
    -------
    x = [[1, 2, 3]], w = [[10, 1]], b = 0.5:   y = [[1 * 10 + 2 * 1 + 0.5, 2 * 10 + 3 * 1 + 0.5]] = [[12.5, 23.5]]
    """
    raise NotImplementedError("conv-forward")
