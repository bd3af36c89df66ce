"""The geometry of a convolution, and images in frames: padded or converted.

A kernel reads an image where it lies if it can. Otherwise it copies the part that it needs into a frame of its own.
"""

from typing import NamedTuple

import numpy as np

from minicnn.kernels.runtime.jit import device
from minicnn.kernels.runtime.simd import pointer

__all__ = ["Geometry", "fill_rows"]


class Geometry(NamedTuple):
    """The sizes of a convolution and of its work: one argument, of which numba makes the code that it makes of many.

    A kernel reads what it needs. A field more or less does not matter, but they must not become twenty (threads.run).
    """

    H: int                      # rows of an image as padded, or of the frame that it is copied to
    W: int
    top: int                    # pads
    left: int
    KH: int                     # rows under a window, with the holes of a dilated one
    KW: int
    SH: int
    SW: int
    OH: int                     # rows of y, behind the pooling
    OW: int
    F: int
    wide: int                   # F, made a whole number of panels or vectors
    framed: bool                # whether images are copied into frames
    per_unit: int               # how much a unit of work is: rows of y, tiles, or images of a chunk
    pool: int = 1               # 2 where 2x2 pooling follows
    rectified: bool = True      # whether ReLU follows
    images: int = 1             # whole images to a unit, where they are small
    panels: int = 1             # panels of filters to a unit
    block: int = 0              # terms of a sum that stay in float32


@device
def fill_rows(x, n, first, last, geometry, frame):
    """Copy rows first .. last-1 of image n, as padded, to `frame`; uint8 pixels are divided by 255."""
    H, C, pixels = x.shape[1], x.shape[3], pointer(x, 0)
    W, top, left = geometry.W, geometry.top, geometry.left
    for i in range((last - first) * W * C):
        frame[i] = 0
    skipped = max(-left, 0)                     # a frame may begin inside the image, and end before it does
    run = (min(x.shape[2], W - left) - skipped) * C
    for h in range(max(first - top, 0), min(last - top, H)):
        at, of = ((h + top - first) * W + left + skipped) * C, ((n * H + h) * x.shape[2] + skipped) * C
        for i in range(run):
            if x.dtype == np.dtype(np.uint8):
                frame[at + i] = np.float32(pixels[of + i]) / np.float32(255)
            else:
                frame[at + i] = pixels[of + i]
