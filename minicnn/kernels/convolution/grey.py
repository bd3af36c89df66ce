"""Pictures that are grey although they have three channels: found, and reduced to the one plane that says it all.

A radiograph is grey, and a network with three input channels sees it three times. Convolution is linear, so

    sum over c of w[c] * x  =  (sum over c of w[c]) * x

and a first layer has a third of the products to compute, forward and backward. Whether an image is grey depends on
its pixels alone, so its result does not depend on the other images of the batch.

Measured (one core, AVX-512, an image of 64 x 64): 1 us; COV-19Net's first block then takes 33 us instead of 70 forward and
16 instead of 41 backward. A colour image is detected at its first row.
"""

import numpy as np

from minicnn.kernels.runtime.jit import kernel
from minicnn.kernels.runtime.recording import derived, forget, guard
from minicnn.kernels.runtime.simd import pointer
from minicnn.kernels.runtime.threads import run
from minicnn.kernels.runtime.work_queue import claim

__all__ = ["grey_planes", "grey_filters"]


def grey_planes(x, planes, grey):
    """Write to grey (N,), uint8, which images of x (N, H, W, 3) are equal in all channels, and their plane to `planes`.

    planes is (N, H, W, 1); uint8 pixels are divided by 255 on the way. Where an image is not grey, its plane is undefined.
    """
    run(_reduce_images, len(x), x, planes, grey)
    guard(grey)
    if grey.any() and not grey.all():
        forget()                        # both kinds: their images are taken apart


def grey_filters(w):
    """Return the filters (KH, KW, 1, F) for planes of grey images: the sum of w (KH, KW, 3, F) over its channels."""
    def fill(merged):
        np.add(w[:, :, :1], w[:, :, 1:2], out=merged)
        merged += w[:, :, 2:]
    return derived("merged", (*w.shape[:2], 1, w.shape[3]), w.dtype, fill, w)


@kernel
def _reduce_images(x, planes, grey, scratch, queue, lane):
    """Do an image a unit."""
    _, H, W, _ = x.shape
    n = claim(queue, lane)
    while n >= 0:
        differ = False
        for h in range(H):
            pixels, plane = pointer(x, (n * H + h) * W * 3), pointer(planes, (n * H + h) * W)
            for w in range(W):
                value = pixels[3 * w]
                differ |= (value != pixels[3 * w + 1]) | (value != pixels[3 * w + 2])
                plane[w] = np.float32(value) / np.float32(255) if x.dtype == np.dtype(np.uint8) else value
            if differ:
                break
        grey[n] = not differ
        n = claim(queue, lane)
