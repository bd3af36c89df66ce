"""Exercise max-pool-backward: pass each gradient to the largest pixel of its window."""

import numpy as np


def max_pool_backward(dy, x, pool_size, strides):
    """Return dx of y = max pooling of x.

    y[n, oh, ow, c] is the largest number of the window whose corner is at (oh SH, ow SW) of image n, channel c. There
    is no padding; rows and columns that are in no window get 0. At a tie the first in row-major order gets all of dy.
    A pixel that is the largest of several windows gets the sum.

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
