"""The weight gradient of a convolution of any shape: dw = im2col(x)^T @ dy, over windows that are read where they lie.

    a unit is a chunk of images and some rows of dw (elements of the window)

    for each image, or some small ones together
        for each block of up to 384 pixels of y         under 1x1 windows x's part of it, the unit's channels, is copied
            for each panel of filters                   dy's part of it is packed, and stays in the caches
                for each tile of 12 rows of dw          sums in registers; added in float64 to the chunk's part

The chunks' parts are added as a tree (runtime/reduction.py). The input gradient is a convolution and runs in direct.py.
choice.py says where winograd.py, backward_sparse.py or backward_first.py do this instead.

Measured (one core of an AMD EPYC, AVX-512, peak 118 GFLOP/s): 5x5 windows 99, 3x3 with stride 2 80 to 100, 1x1 of 64 channels
95.
Pixels of many channels lie so far apart that their lines share few sets of the cache. With 1x1 windows, pixels and panels packed, and
blocks of one size (392 pixels are two of 196, not 384 and 8), eight images take on one core of an Intel Xeon (family 6, model 207) 0.6
to 0.7 of the time at 14 x 14 and 7 x 7 pixels of 256 to 2048 channels, and 0.8 at 28 x 28 and 56 x 56.
"""

import functools

import numpy as np

from minicnn.kernels.convolution.padding import Geometry, fill_rows
from minicnn.kernels.runtime.jit import kernel
from minicnn.kernels.runtime.microkernel import BLOCK, ROWS, columns_of, pack, panel_of, product_tile, row_terms, window_terms
from minicnn.kernels.runtime.reduction import LARGEST, ChunkSums, batch_size, by_slices, chunk_of, put
from minicnn.kernels.runtime.simd import add_to_float64, load, pointer, width
from minicnn.kernels.runtime.threads import run, workspace
from minicnn.kernels.runtime.work_queue import claim, places

__all__ = ["weight_gradient", "is_divided"]

_UNITS = 8                      # at least, so that all threads have some
_ROWS = 16 * ROWS               # of dw to a unit, at most: what is copied of x stays near
_MANY = 2**19                   # weights, which are not summed for each chunk of a batch
_MANY_PIXELS = 512              # of a chunk, which are worth it where chunks grow no more


def weight_gradient(dy, x, kernel_size, strides, pads, dilation, dw):
    """Write dw (KH, KW, C, F) of a convolution from dy (N, OH, OW, F) and x (N, H, W, C).

    See reference.conv2d_weight_gradient, grouped_conv2d_weight_gradient. x may be uint8 pixels.
    """
    how = kernel_size, strides, pads, dilation
    if is_divided(batch_size(len(dy)), dy.shape[1] * dy.shape[2], dw.size):
        by_slices(lambda dy, x, dw: _weight_gradient(dy, x, *how, dw, len(dy)), dy, x, dw)
    else:
        _weight_gradient(dy, x, *how, dw)


def is_divided(N, pixels, weights):
    """Return whether there are too many weights for sums of each chunk of a batch of N, each image of so many pixels."""
    return weights > _MANY and (chunk_of(N) < LARGEST or LARGEST * pixels < _MANY_PIXELS)


def _weight_gradient(dy, x, kernel_size, strides, pads, dilation, dw, chunk=None):
    """Write dw, summed over chunks of so many images, or of the size that a batch's chunks have."""
    (N, OH, OW, F), C = dy.shape, x.shape[3]
    H, W = pads[0] + x.shape[1] + pads[1], pads[2] + x.shape[2] + pads[3]
    K, panel = kernel_size[0] * kernel_size[1] * C, columns_of(dy.dtype)
    wide = -(-F // panel) * panel
    framed, sums = any(pads) or x.dtype != dy.dtype, ChunkSums(N, K * wide, chunk)
    images = max(1, BLOCK // (OH * OW))                                     # and all blocks of about one size
    images = -(-sums.chunk // -(-sums.chunk // images))
    block = -(-images * OH * OW // -(-images * OH * OW // BLOCK))
    terms = _pixels(images, H * W * C, OH, OW, strides[0] * W * C, strides[1] * C)
    elements = window_terms(*(tuple(range(0, n * apart, apart)) for n, apart in zip(kernel_size, dilation)), C, W * C)
    geometry = Geometry(H, W, pads[0], pads[2], 0, 0, *strides, OH, OW, F, wide, framed, sums.chunk, images=images, block=block)
    for some in sums.rounds():
        rows = min(_ROWS, -(-K // max(1, _UNITS // len(sums.parts)) // ROWS) * ROWS)
        apart = rows + 16 if kernel_size == (1, 1) and not framed else 0
        run(_chunks, len(sums.parts) * -(-K // rows), dy[some], x[some],
            workspace("no image", 0, dy.dtype) if framed else x[some].reshape(-1), terms, elements, row_terms(BLOCK, apart),
            geometry, rows, sums.parts, dtype=dy.dtype,
            scratch=(ROWS + BLOCK) * panel + (images * H * W * C if framed else BLOCK * apart))
    sums.finish(lambda total: put(total, dw))


@functools.lru_cache(256)
def _pixels(images, image, OH, OW, down, across):
    """Return where the windows of some images begin, which lie `image` numbers apart."""
    places = np.arange(images)[:, None, None] * image + np.arange(OH)[:, None] * down + np.arange(OW) * across
    return places.reshape(-1)


@kernel
def _chunks(dy, x, flat, terms, elements, packed_terms, geometry, rows, parts, scratch, queue, lane):
    """Add up the gradients of some rows of dw over one chunk of images a unit."""
    (N, OH, OW, F), C, K = dy.shape, x.shape[3], len(elements)
    image, wide, chunk, P, panel = geometry.H * geometry.W * C, geometry.wide, geometry.per_unit, OH * OW, panel_of(dy)
    groups = -(-K // rows)
    out, at, gradient = pointer(scratch, lane * scratch.shape[1]), places(queue, lane), pointer(dy, 0)
    packed, frame = pointer(out, ROWS * panel), pointer(out, (ROWS + BLOCK) * panel)
    windows, pixels = pointer(terms, 0), pointer(flat, 0)
    unit = claim(queue, lane)
    while unit >= 0:
        s, first = unit // groups, unit % groups * rows
        dw = pointer(parts, s * parts.shape[1])
        last = min(first + rows, K)
        for i in range(first * wide, last * wide):
            dw[i] = 0
        for n in range(s * chunk, min((s + 1) * chunk, N), geometry.images):
            images = min(geometry.images, (s + 1) * chunk - n, N - n)
            source, base = pixels, n * image
            if geometry.framed:
                source, base = frame, 0
                for i in range(images):
                    fill_rows(x, n + i, 0, geometry.H, geometry, pointer(frame, i * image))
            for term in range(0, images * P, geometry.block):
                count, offsets = min(geometry.block, images * P - term), pointer(windows, term)
                if packed_terms[1] > 0:         # pixels of all channels lie far apart: those of a unit's rows are copied
                    for t in range(count):
                        of, to = pointer(pixels, base + terms[term + t] + first), pointer(frame, t * packed_terms[1])
                        for i in range(last - first):
                            to[i] = of[i]
                    offsets, source = pointer(packed_terms, 0), frame
                for j in range(0, F, panel):
                    columns, factors, apart = min(panel, F - j), pointer(gradient, (n * P + term) * F + j), F
                    if F != panel:
                        pack(factors, count, F, columns, packed)
                        factors, apart = packed, panel
                    for r in range(first, last, ROWS):
                        for i in range(ROWS):
                            at[i] = min(r + i, K - 1) - first if packed_terms[1] > 0 else base + elements[min(r + i, K - 1)]
                        some = min(ROWS, last - r)
                        product_tile(source, at, some, offsets, count, factors, apart, columns, out,
                                     panel, True)
                        for i in range(some):
                            for v in range(0, columns, width(dy)):
                                add_to_float64(dw, (r + i) * wide + j + v, load(out, i * panel + v))
        unit = claim(queue, lane)

