"""Images in frames: padded, spread by strides, or converted.

A kernel reads an image where it lies if it can. Otherwise it copies the part that it needs into a frame of its own.
"""

import numpy as np

from minicnn.kernels.runtime.jit import device
from minicnn.kernels.runtime.simd import pointer

__all__ = ["fill_frame", "fill_rows"]


@device
def fill_frame(x, n, spread, pads, W, size, frame):
    """Zero `size` numbers of `frame`; copy image n into them, its pixels `spread` apart, rows W pixels wide."""
    C = x.shape[3]
    for i in range(size):
        frame[i] = 0
    for h in range(x.shape[1]):
        for w in range(x.shape[2]):
            at = ((pads[0] + h * spread[0]) * W + pads[2] + w * spread[1]) * C
            for c in range(C):
                frame[at + c] = x[n, h, w, c]


@device
def fill_rows(x, n, top, bottom, pads, W, frame):
    """Copy rows top .. bottom-1 of image n, as padded, to `frame`, W pixels wide; uint8 pixels are divided by 255."""
    H, run, pixels = x.shape[1], x.shape[2] * x.shape[3], pointer(x, 0)
    for i in range((bottom - top) * W * x.shape[3]):
        frame[i] = 0
    for h in range(max(top - pads[0], 0), min(bottom - pads[0], H)):
        at, of = ((h + pads[0] - top) * W + pads[2]) * x.shape[3], (n * H + h) * run
        for i in range(run):
            if x.dtype == np.dtype(np.uint8):
                frame[at + i] = np.float32(pixels[of + i]) / np.float32(255)
            else:
                frame[at + i] = pixels[of + i]
