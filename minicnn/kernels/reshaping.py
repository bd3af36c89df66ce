"""Zero padding; up-sampling, split over images; rescaling, over the elements. See reference for the equations."""

import numpy as np

from minicnn.kernels.runtime.jit import kernel
from minicnn.kernels.runtime.recording import call
from minicnn.kernels.runtime.simd import pointer
from minicnn.kernels.runtime.threads import run
from minicnn.kernels.runtime.work_queue import claim

__all__ = ["zero_padding2d", "zero_padding2d_gradient", "up_sampling2d", "up_sampling2d_gradient", "rescaling",
           "rescaling_gradient"]

_BLOCK = 16384          # elements in a unit


def zero_padding2d(x, pads, y):
    """Write the images of x (N, H, W, C) to y, with rows and columns of zeros around them; NumPy's copy is as fast as any."""
    call(np.copyto, y, 0)
    call(np.copyto, _inside(y, pads), x)


def zero_padding2d_gradient(dy, pads, dx):
    """Write dy to dx (N, H, W, C), without the rows and columns that were added."""
    call(np.copyto, dx, _inside(dy, pads))


def _inside(padded, pads):
    top, bottom, left, right = pads
    return padded[:, top:padded.shape[1] - bottom, left:padded.shape[2] - right]


def up_sampling2d(x, size, y):
    """Write each pixel of x (N, H, W, C) to size[0] x size[1] places of y."""
    run(_up_sampling2d_images, x.shape[0], x, size, y)


@kernel
def _up_sampling2d_images(x, size, y, scratch, queue, lane):
    _, OH, OW, C = y.shape
    n = claim(queue, lane)
    while n >= 0:
        for oh in range(OH):
            for ow in range(OW):
                for c in range(C):
                    y[n, oh, ow, c] = x[n, oh // size[0], ow // size[1], c]
        n = claim(queue, lane)


def up_sampling2d_gradient(dy, size, dx):
    """Write to each pixel of dx (N, H, W, C) the sum of dy over the places it went to."""
    run(_up_sampling2d_gradient_images, dy.shape[0], dy, size, dx, scratch=dy.shape[3], dtype=np.float64)


@kernel
def _up_sampling2d_gradient_images(dy, size, dx, scratch, queue, lane):
    _, H, W, C = dx.shape
    total = scratch[lane, :C]
    n = claim(queue, lane)
    while n >= 0:
        for h in range(H):
            for w in range(W):
                total[:] = 0
                for kh in range(size[0]):
                    for kw in range(size[1]):
                        for c in range(C):
                            total[c] += dy[n, h * size[0] + kh, w * size[1] + kw, c]
                for c in range(C):
                    dx[n, h, w, c] = total[c]
        n = claim(queue, lane)


def rescaling(x, factor, offset, y):
    """Write factor x + offset to y."""
    run(_rescaling, -(-x.size // _BLOCK), x.reshape(-1), x.dtype.type(factor), x.dtype.type(offset), y.reshape(-1))


@kernel
def _rescaling(x, factor, offset, y, scratch, queue, lane):
    size = len(x)
    x_at, y_at = pointer(x, 0), pointer(y, 0)
    unit = claim(queue, lane)
    while unit >= 0:
        for i in range(unit * _BLOCK, min((unit + 1) * _BLOCK, size)):
            y_at[i] = x_at[i] * factor + offset
        unit = claim(queue, lane)


def rescaling_gradient(dy, factor, dx):
    """Write factor dy to dx."""
    rescaling(dy, factor, -0.0, dx)          # adding -0 changes nothing, not even 0
