"""Kernel of the augmentation: one affine map and one bilinear interpolation per image.

A pixel's indices are the coordinates of its centre. Every output pixel computes its own coordinates, in the order of
operations of `reference.affine_warp`: the two agree to the bit, and no image depends on its neighbours in the batch.
"""

import numpy as np

from minicnn.kernels.runtime.jit import device, kernel
from minicnn.kernels.runtime.simd import pointer
from minicnn.kernels.runtime.threads import run
from minicnn.kernels.runtime.work_queue import claim

__all__ = ["affine_warp"]


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
    12 us for a grey 64 x 64 image into three channels, on one core. The same loops in one pass over the pixels, with
    the channels innermost, take 44: here the coordinates of a row are a loop of their own, which LLVM vectorises, and
    the four neighbours are read from a float copy of the image that has its last row and column twice.
    """
    _, H, W, C = pixels.shape
    run(_warp_images, len(pixels), pixels, matrices, gains, offsets, out, scratch=C * (H + 1) * (W + 1) + 3 * W,
        integers=W)


@kernel
def _warp_images(pixels, matrices, gains, offsets, out, corners, scratch, queue, lane):
    """Do an image a unit."""
    _, H, W, C = pixels.shape
    F, stride, plane = out.shape[3], W + 1, (H + 1) * (W + 1)
    planes, corner = pointer(scratch, lane * scratch.shape[1]), pointer(corners, lane * corners.shape[1])
    down, along, row = pointer(planes, C * plane), pointer(planes, C * plane + W), pointer(planes, C * plane + 2 * W)
    n = claim(queue, lane)
    while n >= 0:
        for c in range(C):
            _fill_plane(pixels, n, c, pointer(planes, c * plane))
        for i in range(H):
            _find_neighbours(matrices[n], i, H, W, corner, down, along)
            for c in range(C):
                _interpolate(pointer(planes, c * plane), stride, corner, down, along, gains[n], offsets[n], W, row)
                _spread(row, W, pointer(out, ((n * H + i) * W) * F + c), F, F if C == 1 else 1)
        n = claim(queue, lane)


@device
def _fill_plane(pixels, n, c, plane):
    """Copy one channel of an image, as floats of which white is 1, with its last row and column twice."""
    _, H, W, C = pixels.shape
    source = pointer(pixels, n * H * W * C + c)
    white = np.float32(255.0) if pixels.dtype == np.dtype(np.uint8) else np.float32(1.0)
    for i in range(H):
        for j in range(W):
            plane[i * (W + 1) + j] = np.float32(source[(i * W + j) * C]) / white
        plane[i * (W + 1) + W] = plane[i * (W + 1) + W - 1]
    for j in range(W + 1):
        plane[H * (W + 1) + j] = plane[(H - 1) * (W + 1) + j]


@device
def _find_neighbours(matrix, i, H, W, corner, down, along):
    """Write, for each pixel of row i, where the upper left of its four neighbours lies and the way past it."""
    bottom, right = np.float64(H - 1), np.float64(W - 1)
    y_row, x_row = matrix[0, 0] * i + matrix[0, 2], matrix[1, 0] * i + matrix[1, 2]
    y_step, x_step = matrix[0, 1], matrix[1, 1]
    for j in range(W):
        step = np.float64(np.int32(j))  # AVX2 has no conversion of 64-bit integers
        y = y_row + y_step * step
        x = x_row + x_step * step
        # Nearest fill: coordinates beyond the outermost centres are moved onto them.
        y = 0.0 if y < 0.0 else y
        y = bottom if y > bottom else y
        x = 0.0 if x < 0.0 else x
        x = right if x > right else x
        top, left = np.int32(y), np.int32(x)
        down[j], along[j] = np.float32(y - top), np.float32(x - left)
        corner[j] = top * np.int32(W + 1) + left


@device
def _interpolate(plane, stride, corner, down, along, gain, offset, W, row):
    """Write the values of one row: bilinear between the neighbours, then gain and offset, from 0 to 1."""
    zero, one = np.float32(0.0), np.float32(1.0)
    for j in range(W):
        k = corner[j]
        a, b, p, q = plane[k], plane[k + 1], plane[k + stride], plane[k + stride + 1]
        upper = a + (b - a) * along[j]
        lower = p + (q - p) * along[j]
        value = gain * (upper + (lower - upper) * down[j]) + offset
        value = zero if value < zero else value
        row[j] = one if value > one else value


@device
def _spread(row, W, out, F, copies):
    """Write a row to its channel of `out`, F apart; or to three channels, or any number of them."""
    if copies == 3:
        for j in range(W):
            out[3 * j] = row[j]
            out[3 * j + 1] = row[j]
            out[3 * j + 2] = row[j]
        return
    for f in range(copies):
        for j in range(W):
            out[j * F + f] = row[j]
