"""Exercise max-pool-backward: send each gradient to the pixel that was the largest of its window."""

import numpy as np


def max_pool_backward(dy, x, pool_size, strides):
    """Return dx of y = max pooling of x.

    y[n, oh, ow, c] is the largest number of the window whose corner is at (oh SH, ow SW) of picture n, channel c; there
    is no padding, and rows and columns that no window reaches get 0. Where several are the largest, the first in
    reading order (row by row) gets all of dy. A pixel that is the largest of several windows gets the sum.

    Parameters
    ----------
    dy : ndarray, shape (N, OH, OW, C)
    x : ndarray, shape (N, H, W, C)
    pool_size : (KH, KW)
    strides : (SH, SW)

    Returns
    -------
    dx : ndarray, shape (N, H, W, C)

    Example
    -------
    x = [[1, 8], [3, 2]], one window of 2 x 2, dy = 5:   dx = [[0, 5], [0, 0]]
    """
    raise NotImplementedError("max-pool-backward")
