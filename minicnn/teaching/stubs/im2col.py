"""Exercise im2col: write every window of an image as a row of a matrix.

With the windows as rows, a convolution is one matrix product (examples/02_a_convolution_is_a_matrix_product.py).
"""

import numpy as np


def im2col(x, kernel_size, strides, pads):
    """Return the windows of x as rows.

    Row (n, oh, ow), in this order, holds the KH x KW x C numbers under the window whose corner is at
    (oh SH - top, ow SW - left) of image n. Within a row the order is kh, kw, c. Numbers outside the image are 0.

    Parameters
    ----------
    x : ndarray, shape (N, H, W, C)
    kernel_size : (KH, KW)
    strides : (SH, SW)
    pads : (top, bottom, left, right), rows and columns of zeros to add around each image

    Returns
    -------
    ndarray, shape (N OH OW, KH KW C), where OH = (top + H + bottom - KH) // SH + 1, and OW likewise

    Example
    -------
    x = [[1, 2, 3],     the windows of 2 x 2, stride 1, are the rows:     [[1, 2, 4, 5],
         [4, 5, 6]]                                                         [2, 3, 5, 6]]
    """
    raise NotImplementedError("im2col")
