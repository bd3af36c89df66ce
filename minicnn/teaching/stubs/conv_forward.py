"""Exercise conv-forward: convolve pictures with filters."""

import numpy as np


def conv_forward(x, w, b, strides, pads):
    """Return y, the sums of products of each filter with each window, and the filter's bias.

    y[n, oh, ow, f] = b[f] + sum over kh, kw, c of x[n, oh SH + kh - top, ow SW + kw - left, c] w[kh, kw, c, f].
    The filter is not turned round: what networks call a convolution is a correlation. x is 0 outside the picture.
    Loops are welcome; a product of matrices (im2col) is faster.

    Parameters
    ----------
    x : ndarray, shape (N, H, W, C)
    w : ndarray, shape (KH, KW, C, F)
    b : ndarray, shape (F,)
    strides : (SH, SW)
    pads : (top, bottom, left, right), rows and columns of zeros to add around each picture

    Returns
    -------
    y : ndarray, shape (N, OH, OW, F), where OH = (top + H + bottom - KH) // SH + 1, and OW likewise

    Example
    -------
    x = [[1, 2, 3]], w = [[10, 1]], b = 0.5:   y = [[1 * 10 + 2 * 1 + 0.5, 2 * 10 + 3 * 1 + 0.5]] = [[12.5, 23.5]]
    """
    raise NotImplementedError("conv-forward")
