"""Convolution, alone or fused with ReLU and 2x2 max pooling in one pass, in which the big map is never written.

No im2col matrix is written either: a tile needs only where its eight windows begin. An image that has padding is copied,
a band of rows at a time, into a frame of zeros; so are uint8 pixels, which are divided by 255 on the way.

One pooled number is the largest of four neighbouring outputs of one filter. So a tile takes its eight rows from two cells
of the pooled map, four windows each, and a panel of filters; when the sums are done, bias, ReLU and maximum are a few
instructions on registers. Rows and columns that pooling drops (29 -> 14) are never computed.

    tile   cell 0: window (0,0)  [ 16 filters ]  \\
                   window (0,1)  [ 16 filters ]   | + b, largest of the four, its place (2 bits) -> switches,
                   window (1,0)  [ 16 filters ]   | max(., 0) -> y
                   window (1,1)  [ 16 filters ]  /
           cell 1: ...

The result is bit for bit that of conv2d, relu and max_pool2d one after another: bias and ReLU are monotone, and are
applied in the same order to the same sums. Where `winograd.suits`, its faster algorithm takes over (same rules, other
rounding).

Measured (one core, AVX-512, an image): COV-19Net's first block 72 us, of which 56 are multiply-adds at peak.
"""

import numpy as np

from minicnn.kernels.convolution import winograd
from minicnn.kernels.convolution.padding import Geometry, fill_rows
from minicnn.kernels.runtime.jit import device, kernel
from minicnn.kernels.runtime.microkernel import ROWS, columns_of, in_panels, panel_of, product_tile, window_terms
from minicnn.kernels.runtime.simd import (add, choose, load, pointer, rectify, splat, store_bytes, store_first, width,
                                          zeros)
from minicnn.kernels.runtime.threads import run, workspace
from minicnn.kernels.runtime.work_queue import claim, places

__all__ = ["conv2d", "dilated_conv2d", "conv2d_relu", "conv2d_relu_pool"]


def conv2d(x, w, b, strides, pads, y):
    """Write the convolution of x (N, H, W, C) with w (KH, KW, C, F) and b (F,) to y (N, OH, OW, F).

    See reference.conv2d.
    """
    dilated_conv2d(x, w, b, strides, pads, (1, 1), y)


def dilated_conv2d(x, w, b, strides, pads, dilation, y):
    """Write the convolution with windows whose pixels lie `dilation` apart, reference.grouped_conv2d with one group."""
    _direct(x, w, b, strides, pads, 1, False, y, _none(), dilation)


def conv2d_relu(x, w, b, strides, pads, y):
    """Write max(conv2d(x, w, b), 0) to y (N, OH, OW, F). See reference.conv2d_relu. x may be uint8 pixels."""
    _block(x, w, b, strides, pads, 1, y, _none())


def conv2d_relu_pool(x, w, b, strides, pads, y, switches):
    """Write the 2x2 maxima of max(conv2d(x, w, b), 0) to y (N, PH, PW, F), their places to switches (uint8, 0 to 3).

    See reference.conv2d_relu_pool. x may be uint8 pixels.
    """
    _block(x, w, b, strides, pads, 2, y, switches.reshape(-1))


def _none():
    return workspace("no switches", 0, np.uint8)


def _block(x, w, b, strides, pads, pool, y, switches):
    if winograd.suits(w, strides):
        winograd.block(x, w, b, pads, y.shape[1:3], pool, True, y, switches)
    else:
        _direct(x, w, b, strides, pads, pool, True, y, switches)


def _direct(x, w, b, strides, pads, pool, rectified, y, switches, dilation=(1, 1)):
    (N, H, W, C), (KH, KW, _, F), (OH, OW) = x.shape, w.shape, y.shape[1:3]
    packed, wide = in_panels(w.reshape(-1, F))
    bias, _ = in_panels(b.reshape(1, F), "bias")
    framed = any(pads) or x.dtype != w.dtype
    H, W = pads[0] + H + pads[1], pads[2] + W + pads[3]
    # Enough rows of y in a unit that few of its tiles are partly empty, few enough that one image occupies all threads.
    band = max(1, min(OH, -(-48 // (OW * pool * pool))))
    reach = (KH - 1) * dilation[0] + 1          # rows under a window
    rows = ((band * pool - 1) * strides[0] + reach) if framed else 0
    image = workspace("no image", 0, w.dtype) if framed else x.reshape(-1)
    geometry = Geometry(H, W, pads[0], pads[2], reach, KW, *strides, OH, OW, F, wide, framed, band, pool, rectified)
    run(_bands, N * -(-OH // band), x, image, packed, bias, window_terms((KH, KW), C, W * C, dilation), geometry,
        y.reshape(-1), switches, scratch=ROWS * columns_of(w.dtype) + rows * W * C, dtype=w.dtype)


@kernel
def _bands(x, flat, w, b, terms, geometry, y, switches, scratch, queue, lane):
    """Do a band of rows of y a unit."""
    W, SH, SW, OH, OW = geometry.W, geometry.SH, geometry.SW, geometry.OH, geometry.OW
    F, wide, pool, band = geometry.F, geometry.wide, geometry.pool, geometry.per_unit
    C, K, bands, row, panel = x.shape[3], len(terms), -(-OH // band), W * x.shape[3], panel_of(w)
    out, at, filters, offsets = (pointer(scratch, lane * scratch.shape[1]), places(queue, lane), pointer(w, 0),
                                 pointer(terms, 0))
    frame, pixels, bias, y_at, switches_at = (pointer(out, ROWS * panel), pointer(flat, 0), pointer(b, 0), pointer(y, 0),
                                              pointer(switches, 0))
    windows = pool * pool                       # windows to a cell of y: 1 or 4
    cells = ROWS // windows                     # cells to a tile
    unit = claim(queue, lane)
    while unit >= 0:
        n, first, last = unit // bands, unit % bands * band, min((unit % bands + 1) * band, OH)
        # Row `top` of the padded image is where `image` begins at `base`.
        top, image, base = 0, pixels, n * x.shape[1] * row
        if geometry.framed:
            top, image, base = first * pool * SH, frame, 0
            fill_rows(x, n, top, (last * pool - 1) * SH + geometry.KH, geometry, frame)
        i, c = first, 0                         # row and column of the next cell
        for cell in range(first * OW, last * OW, cells):
            for q in range(cells):
                corner = base + ((i * pool * SH - top) * W + c * pool * SW) * C
                if pool == 2:
                    at[4 * q], at[4 * q + 1] = corner, corner + SW * C
                    at[4 * q + 2], at[4 * q + 3] = corner + SH * row, corner + SH * row + SW * C
                else:
                    at[q] = corner
                if cell + q + 1 < last * OW:    # past the last cell, the last again: computed, not stored
                    i, c = (i + 1, 0) if c + 1 == OW else (i, c + 1)
            for j in range(0, wide, panel):
                product_tile(image, at, offsets, K, filters, j, wide, out, 0, panel)
                for q in range(min(cells, last * OW - cell)):
                    for v in range(0, min(panel, F - j), width(w)):
                        o = (n * OH * OW + cell + q) * F + j + v
                        _finish(out, q * windows * panel + v, panel, pool, geometry.rectified, bias, j + v, F - j - v,
                                y_at, switches_at, o)
        unit = claim(queue, lane)


@device
def _finish(out, i, panel, pool, rectified, b, f, filters, y, switches, o):
    """Store one cell's vector of filters from its 1 or 4 sums in `out`; only the first `filters` of them exist."""
    bias = load(b, f)
    best = add(load(out, i), bias)
    if pool == 2:
        place = zeros(out)
        for k in range(1, 4):
            sums = add(load(out, i + k * panel), bias)
            place = choose(sums, best, splat(out, k), place)
            best = choose(sums, best, sums, best)
        store_bytes(switches, o, place, filters)
    store_first(y, o, rectify(best) if rectified else best, filters)
