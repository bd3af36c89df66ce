"""Max and average pooling over any window, split over rows of y, their gradients over images. See reference for the equations and the rules."""

import numpy as np

from minicnn.kernels.runtime.jit import device, kernel
from minicnn.kernels.runtime.threads import run
from minicnn.kernels.runtime.work_queue import claim

__all__ = ["max_pool2d", "max_pool2d_gradient", "average_pool2d", "average_pool2d_gradient"]


@device
def _clip(o, stride, before, size, length):
    """Return the part of window `o` along one axis that lies inside the image: its first and last + 1 position."""
    corner = o * stride - before
    return max(0, -corner), min(size, length - corner), corner


def max_pool2d(x, pool_size, strides, pads, y, switches):
    """Write the maximum of every window of x (N, H, W, C) to y and its place to switches (N, OH, OW, C)."""
    run(_max_pool2d_rows, y.shape[0] * y.shape[1], x, pool_size, strides, pads, y, switches)


@kernel
def _max_pool2d_rows(x, pool_size, strides, pads, y, switches, scratch, queue, lane):
    """Do a row of y a unit."""
    _, OH, OW, C = y.shape
    unit = claim(queue, lane)
    while unit >= 0:
        n, oh = unit // OH, unit % OH
        h0, h1, top = _clip(oh, strides[0], pads[0], pool_size[0], x.shape[1])
        for ow in range(OW):
            w0, w1, left = _clip(ow, strides[1], pads[2], pool_size[1], x.shape[2])
            first = np.uint16(h0 * pool_size[1] + w0)
            for c in range(C):
                y[n, oh, ow, c] = x[n, top + h0, left + w0, c]
                switches[n, oh, ow, c] = first
            for kh in range(h0, h1):
                for kw in range(w0, w1):
                    k = np.uint16(kh * pool_size[1] + kw)
                    for c in range(C):
                        value, best = x[n, top + kh, left + kw, c], y[n, oh, ow, c]
                        wins = value > best or value != value     # the second: value is NaN
                        y[n, oh, ow, c] = value if wins else best
                        switches[n, oh, ow, c] = k if wins else switches[n, oh, ow, c]
        unit = claim(queue, lane)


def max_pool2d_gradient(dy, switches, image_size, pool_size, strides, pads, dx):
    """Add each dy to the pixel of dx (N, H, W, C) that its switch names; all other pixels are 0."""
    run(_max_pool2d_gradient_images, dy.shape[0], dy, switches, pool_size, strides, pads, dx, scratch=dx[0].size,
        dtype=np.float64)


@kernel
def _max_pool2d_gradient_images(dy, switches, pool_size, strides, pads, dx, scratch, queue, lane):
    _, OH, OW, C = dy.shape
    _, H, W, _ = dx.shape
    # Where windows overlap one pixel may win thousands of them: in float32 that sum was off by 4e-5 (64 x 64, stride 1).
    overlap = strides[0] < pool_size[0] or strides[1] < pool_size[1]
    total = scratch[lane, :H * W * C].reshape(H, W, C)
    n = claim(queue, lane)
    while n >= 0:
        dx[n] = 0
        if overlap:
            total[:] = 0
        for oh in range(OH):
            for ow in range(OW):
                for c in range(C):
                    k = np.intp(switches[n, oh, ow, c])
                    h = oh * strides[0] - pads[0] + k // pool_size[1]
                    w = ow * strides[1] - pads[2] + k % pool_size[1]
                    if overlap:
                        total[h, w, c] += dy[n, oh, ow, c]
                    else:
                        dx[n, h, w, c] = dy[n, oh, ow, c]
        if overlap:
            for h in range(H):
                for w in range(W):
                    for c in range(C):
                        dx[n, h, w, c] = total[h, w, c]
        n = claim(queue, lane)


def average_pool2d(x, pool_size, strides, pads, y):
    """Write the mean of every window of x (N, H, W, C), over the pixels inside the image, to y."""
    run(_average_pool2d_rows, y.shape[0] * y.shape[1], x, pool_size, strides, pads, y, scratch=x.shape[3], dtype=np.float64)


@kernel
def _average_pool2d_rows(x, pool_size, strides, pads, y, scratch, queue, lane):
    """Do a row of y a unit."""
    _, OH, OW, C = y.shape
    total = scratch[lane, :C]
    unit = claim(queue, lane)
    while unit >= 0:
        n, oh = unit // OH, unit % OH
        h0, h1, top = _clip(oh, strides[0], pads[0], pool_size[0], x.shape[1])
        for ow in range(OW):
            w0, w1, left = _clip(ow, strides[1], pads[2], pool_size[1], x.shape[2])
            total[:] = 0
            for kh in range(h0, h1):
                for kw in range(w0, w1):
                    for c in range(C):
                        total[c] += x[n, top + kh, left + kw, c]
            count = (h1 - h0) * (w1 - w0)
            for c in range(C):
                y[n, oh, ow, c] = total[c] / count
        unit = claim(queue, lane)


def average_pool2d_gradient(dy, image_size, pool_size, strides, pads, dx):
    """Add to each pixel of dx (N, H, W, C) its share of every window it lies in."""
    run(_average_pool2d_gradient_images, dy.shape[0], dy, pool_size, strides, pads, dx, scratch=dx[0].size,
        dtype=np.float64)


@kernel
def _average_pool2d_gradient_images(dy, pool_size, strides, pads, dx, scratch, queue, lane):
    _, OH, OW, C = dy.shape
    _, H, W, _ = dx.shape
    total = scratch[lane, :H * W * C].reshape(H, W, C)
    n = claim(queue, lane)
    while n >= 0:
        total[:] = 0
        for oh in range(OH):
            h0, h1, top = _clip(oh, strides[0], pads[0], pool_size[0], H)
            for ow in range(OW):
                w0, w1, left = _clip(ow, strides[1], pads[2], pool_size[1], W)
                count = (h1 - h0) * (w1 - w0)
                for kh in range(h0, h1):
                    for kw in range(w0, w1):
                        for c in range(C):
                            total[top + kh, left + kw, c] += np.float64(dy[n, oh, ow, c]) / count
        for h in range(H):
            for w in range(W):
                for c in range(C):
                    dx[n, h, w, c] = total[h, w, c]
        n = claim(queue, lane)
