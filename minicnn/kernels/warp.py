"""Kernel of the augmentation: one affine map and one bilinear interpolation per image.

A pixel's indices are the coordinates of its centre. Every output pixel computes its own coordinates, in the order of
operations of `reference.affine_warp`: the two agree to the bit, and no image depends on its neighbours in the batch.
"""

import numpy as np

from minicnn.kernels.jit import kernel

__all__ = ["affine_warp"]


@kernel
def affine_warp(pixels, matrices, gains, offsets, out):
    """Fill `out` with clip(gain * bilinear(pixels / white, at matrix @ (row, column, 1)) + offset, 0, 1).

    Parameters
    ----------
    pixels : ndarray, shape (N, H, W, C), uint8 (white is 255) or float32 (white is 1)
    matrices : ndarray, shape (N, 2, 3), float64; from output indices (row, column, 1) to input indices (row, column)
    gains, offsets : ndarray, shape (N,), float32
    out : ndarray, shape (N, H, W, F), float32; F is C, or any number where C is 1: grey is computed once and repeated

    Notes
    -----
    15 us for a grey 64 x 64 image into three channels, on one core. The same loops in one pass over the pixels, with
    the channels innermost, take 44: here the coordinates of a row are a loop of their own, which LLVM vectorises, and
    the four neighbours are read from a float copy of the image that has its last row and column twice.
    """
    N, H, W, C = pixels.shape
    F = out.shape[3]
    zero, one = np.float32(0.0), np.float32(1.0)
    white = np.float32(255.0) if pixels.dtype == np.dtype(np.uint8) else one
    bottom, right = np.float64(H - 1), np.float64(W - 1)
    stride = W + 1
    planes = np.empty((C, (H + 1) * stride), np.float32)
    corner, down, along = np.empty(W, np.int32), np.empty(W, np.float32), np.empty(W, np.float32)
    row = np.empty(W, np.float32)
    for n in range(N):
        for c in range(C):
            plane = planes[c]
            for i in range(H):
                for j in range(W):
                    plane[i * stride + j] = np.float32(pixels[n, i, j, c]) / white
                plane[i * stride + W] = plane[i * stride + W - 1]
            for j in range(stride):
                plane[H * stride + j] = plane[(H - 1) * stride + j]
        gain, offset = gains[n], offsets[n]
        y_i, y_j, y_0 = matrices[n, 0, 0], matrices[n, 0, 1], matrices[n, 0, 2]
        x_i, x_j, x_0 = matrices[n, 1, 0], matrices[n, 1, 1], matrices[n, 1, 2]
        for i in range(H):
            y_row, x_row = y_i * i + y_0, x_i * i + x_0
            for j in range(W):
                step = np.float64(np.int32(j))  # AVX2 has no conversion of 64-bit integers
                y = y_row + y_j * step
                x = x_row + x_j * step
                # Nearest fill: coordinates beyond the outermost centres are moved onto them.
                y = 0.0 if y < 0.0 else y
                y = bottom if y > bottom else y
                x = 0.0 if x < 0.0 else x
                x = right if x > right else x
                top, left = np.int32(y), np.int32(x)
                down[j], along[j] = np.float32(y - top), np.float32(x - left)
                corner[j] = top * np.int32(stride) + left
            for c in range(C):
                plane = planes[c]
                for j in range(W):
                    k = np.uint64(corner[j])  # unsigned: numba then leaves out its test for negative indices
                    a, b = plane[k], plane[k + np.uint64(1)]
                    p, q = plane[k + np.uint64(stride)], plane[k + np.uint64(stride + 1)]
                    upper = a + (b - a) * along[j]
                    lower = p + (q - p) * along[j]
                    value = gain * (upper + (lower - upper) * down[j]) + offset
                    value = zero if value < zero else value
                    row[j] = one if value > one else value
                for f in range(c, F if C == 1 else c + 1):
                    for j in range(W):
                        out[n, i, j, f] = row[j]
