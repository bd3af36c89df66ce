"""Augmentation: one affine map and one bilinear interpolation an image."""

import numpy as np

__all__ = ["affine_warp"]


def affine_warp(pixels, matrices, gains, offsets, channels):
    """Return each image seen through an affine map, its grey levels scaled to [0, 1], spread and shifted.

    Output pixel (i, j) takes the value at (row, column) = matrix @ (i, j, 1) of the input, where a pixel's indices are
    the coordinates of its centre. Between centres the value is bilinear: with (down, along) the way past the centre
    (top, left), upper = a + (b - a) along from the two upper neighbours, lower likewise from the two below, and
    upper + (lower - upper) down. Places outside the outermost centres are moved onto them (nearest fill). Then
    out = clip(gain * value + offset, 0, 1); a NaN stays a NaN.

    Parameters
    ----------
    pixels : ndarray, shape (N, H, W, C), uint8 (white is 255) or float32 (white is 1)
    matrices : ndarray, shape (N, 2, 3), float64
    gains, offsets : ndarray, shape (N,), float32
    channels : int; C, or any number where C is 1: grey is repeated

    Returns
    -------
    ndarray, shape (N, H, W, channels), float32

    >>> half_a_pixel = np.array([[[1, 0, 0], [0, 1, 0.5]]])
    >>> affine_warp(np.array([[[[0], [255]]]], np.uint8), half_a_pixel, np.ones(1, "f"), np.zeros(1, "f"), 1).ravel()
    array([0.5, 1. ], dtype=float32)
    """
    N, H, W, C = pixels.shape
    image = pixels.astype(np.float32) / np.float32(255 if pixels.dtype == np.uint8 else 1)
    i, j = np.mgrid[:H, :W]
    m = matrices[..., np.newaxis, np.newaxis]                          # each element against the whole (H, W) grid
    y = np.clip(m[:, 0, 0] * i + m[:, 0, 2] + m[:, 0, 1] * j, 0, H - 1)
    x = np.clip(m[:, 1, 0] * i + m[:, 1, 2] + m[:, 1, 1] * j, 0, W - 1)
    top, left = y.astype(int), x.astype(int)
    below, beside = np.minimum(top + 1, H - 1), np.minimum(left + 1, W - 1)
    down, along = (y - top).astype(np.float32)[..., np.newaxis], (x - left).astype(np.float32)[..., np.newaxis]
    n = np.arange(N)[:, np.newaxis, np.newaxis]
    a, b, p, q = image[n, top, left], image[n, top, beside], image[n, below, left], image[n, below, beside]
    upper, lower = a + (b - a) * along, p + (q - p) * along
    gain, offset = gains[:, np.newaxis, np.newaxis, np.newaxis], offsets[:, np.newaxis, np.newaxis, np.newaxis]
    out = np.clip(gain * (upper + (lower - upper) * down) + offset, 0, 1)
    return np.repeat(out, channels, axis=3) if C == 1 else out
