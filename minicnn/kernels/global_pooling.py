"""Pooling over the whole image, split over images. See reference for the equations and the rules."""

import numpy as np

from minicnn.kernels.runtime.jit import kernel
from minicnn.kernels.runtime.threads import run
from minicnn.kernels.runtime.work_queue import claim

__all__ = ["global_average_pool2d", "global_average_pool2d_gradient", "global_max_pool2d", "global_max_pool2d_gradient"]


def global_average_pool2d(x, y):
    """Write the mean of each channel of x (N, H, W, C) to y (N, C)."""
    run(_global_average_pool2d_images, x.shape[0], x, y, scratch=2 * x.shape[3], dtype=np.float64)


@kernel
def _global_average_pool2d_images(x, y, scratch, queue, lane):
    _, H, W, C = x.shape
    # The rows of the image are summed apart: over all pixels in one go a float64 would round a thousand times as often.
    row, total = scratch[lane, :C], scratch[lane, C:2 * C]
    n = claim(queue, lane)
    while n >= 0:
        total[:] = 0
        for h in range(H):
            row[:] = 0
            for w in range(W):
                for c in range(C):
                    row[c] += x[n, h, w, c]
            for c in range(C):
                total[c] += row[c]
        for c in range(C):
            y[n, c] = total[c] / (H * W)
        n = claim(queue, lane)


def global_average_pool2d_gradient(dy, image_size, dx):
    """Write dy (N, C) over the number of pixels to each pixel of dx (N, H, W, C)."""
    run(_global_average_pool2d_gradient_images, dy.shape[0], dy, dy.dtype.type(image_size[0] * image_size[1]), dx)


@kernel
def _global_average_pool2d_gradient_images(dy, pixels, dx, scratch, queue, lane):
    _, H, W, C = dx.shape
    n = claim(queue, lane)
    while n >= 0:
        for c in range(C):
            dx[n, 0, 0, c] = dy[n, c] / pixels
        for h in range(H):
            for w in range(W):
                for c in range(C):
                    dx[n, h, w, c] = dx[n, 0, 0, c]
        n = claim(queue, lane)


def global_max_pool2d(x, y, switches):
    """Write the maximum of each channel of x (N, H, W, C) to y and its place to switches (N, C)."""
    run(_global_max_pool2d_images, x.shape[0], x, y, switches)


@kernel
def _global_max_pool2d_images(x, y, switches, scratch, queue, lane):
    _, H, W, C = x.shape
    n = claim(queue, lane)
    while n >= 0:
        for c in range(C):
            y[n, c] = x[n, 0, 0, c]
            switches[n, c] = 0
        for h in range(H):
            for w in range(W):
                k = np.uint32(h * W + w)
                for c in range(C):
                    value, best = x[n, h, w, c], y[n, c]
                    wins = value > best or (value != value and best == best)        # the second: the first NaN
                    y[n, c] = value if wins else best
                    switches[n, c] = k if wins else switches[n, c]
        n = claim(queue, lane)


def global_max_pool2d_gradient(dy, switches, image_size, dx):
    """Write each dy (N, C) to the pixel of dx (N, H, W, C) that its switch names; all other pixels are 0."""
    run(_global_max_pool2d_gradient_images, dy.shape[0], dy, switches, dx)


@kernel
def _global_max_pool2d_gradient_images(dy, switches, dx, scratch, queue, lane):
    _, _, W, C = dx.shape
    n = claim(queue, lane)
    while n >= 0:
        dx[n] = 0
        for c in range(C):
            k = np.intp(switches[n, c])
            dx[n, k // W, k % W, c] = dy[n, c]
        n = claim(queue, lane)
