"""Exercise conv-backward: the gradients of a convolution.

Each y[n, oh, ow, f] is a sum of products x w plus a bias. By the chain rule each product contributes dy w to the
gradient of its pixel and dy x to the gradient of its weight. The contributions of several products are added
(examples/03_why_backward_is_the_adjoint.py).
"""

import numpy as np


def conv_backward(dy, x, w, strides, pads):
    """Return (dx, dw, db), the gradients of the loss with respect to the inputs of y = conv_forward(x, w, b, ...).

    Parameters
    ----------
    dy : ndarray, shape (N, OH, OW, F), the gradient of the loss with respect to y
    x : ndarray, shape (N, H, W, C)
    w : ndarray, shape (KH, KW, C, F)
    strides : (SH, SW)
    pads : (top, bottom, left, right)

    Returns
    -------
    dx : ndarray, shape (N, H, W, C); the gradient of the padding is dropped
    dw : ndarray, shape (KH, KW, C, F)
    db : ndarray, shape (F,)

    Example
    -------
    x = [[1, 2, 3]], w = [[10, 1]], dy = [[5, 7]]:   dx = [[5 * 10, 5 * 1 + 7 * 10, 7 * 1]] = [[50, 75, 7]],
    dw = [[5 * 1 + 7 * 2, 5 * 2 + 7 * 3]] = [[19, 31]],   db = 5 + 7 = 12
    """
    raise NotImplementedError("conv-backward")
