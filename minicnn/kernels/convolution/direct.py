"""Convolution of any shape, alone or fused with ReLU and 2x2 max pooling in one pass that never writes the big map.

No im2col matrix is written: the micro-kernel needs only where windows begin and where their elements lie behind that. An
image that has padding is copied, the rows of one unit of work at a time, into a frame of zeros; so are uint8 pixels, which
are divided by 255 on the way.

A unit is some rows of y, or some small images, of about 200 windows, with some panels only where there would be few units:

    for each panel of filters
        for each block of up to 384 terms       w's part of it, 48 KB, is packed and stays in the caches
            for each tile of 12 windows         sums in registers, and with one block of terms bias and ReLU too, then y
        of several blocks                       the sums are added up in float64; bias, ReLU, y

One pooled number is the largest of four neighbouring outputs of one filter, so then a tile's windows are those of one cell
of the pooled map, or of three. Rows and columns that pooling drops (29 -> 14) are never computed. The result is bit for bit
that of conv2d, relu and max_pool2d one after another: bias and ReLU are monotone, and are applied in the same order to the
same sums.

The gradient of the inputs is a convolution too, of dy with turned filters, so it runs here. With strides it is one for
each phase: the pixels h = SH i + a meet only every SH-th row of a window, so no zero is multiplied.

Lines of y, and under 1x1 windows those of the next tile of x, are asked for while a tile is multiplied: maps of large batches
come from far away. With 32 images of 33 x 33 it makes 128 to 32 channels 1.6 times as fast, 32 to 128 1.5 times; with one, 0.97.

Of one image w is read once, by all units together, and nothing of it is kept from call to call: to compare what was kept with the
weights, as a recording must (runtime/recording.py), would read it twice more.

Measured (one core of an Intel Xeon of family 6, model 207, its peak 170 GFLOP/s, before and after units of all windows of a small
image and some panels): one image of 14 x 14, 1024 to 256 channels 88 and 111, 256 to 1024 80 and 129; of 7 x 7, 2048 to 512 53 and 77;
eight images as much as where w was packed beforehand. Blocks of 256 terms instead of 384 gained nothing.

Measured (one core of an AMD EPYC, AVX-512, peak 118 GFLOP/s): 3x3 with stride 2, 5x5 and 1x1 windows of 32 to 256 channels 98
to 110, their input gradients as much (spread with zeros, stride 2 reached 28); COV-19Net's first block 67 us an image, 29
if it is grey, of which 19 are multiply-adds (39 where the sums of a cell were stored before they were compared). What lost:
to pack w's blocks in units of 96 windows (0.8 to 0.95; of 192 windows it takes as long as to pack w beforehand), to work out where
windows begin in each unit instead of once (0.9 in the first block).
"""

import numpy as np

from minicnn.kernels.convolution.padding import Geometry, fill_rows
from minicnn.kernels.runtime.jit import device, kernel
from minicnn.kernels.runtime.microkernel import (BLOCK, ROWS, add_block, cell_sums, columns_of, finished_tile, ones, pack,
                                                 panel_of, window_terms)
from minicnn.kernels.runtime.simd import (as_float64, choose, fma, load, load_first, pointer, prefetch, rectify, splat, store_bytes,
                                          store_first, width, zeros)
from minicnn.kernels.runtime.threads import run, workspace
from minicnn.kernels.runtime.work_queue import claim, places

__all__ = ["convolve", "gather", "turn", "finish_cell"]

_WINDOWS = 192                  # to a unit, at least: sixteen tiles read a block of w from near for once from far
_TURNED, _SQUARE = 64, 16       # filters that are turned in a unit, and the side of the squares in which they are
_UNITS = 16                     # at least, so that all threads have some, if there are so many panels


def convolve(x, w, ends, strides, pads, dilation, pool, rectified, y, switches):
    """Write the convolution of x (N, H, W, C) with w (KH, KW, C, F), times the first of the `ends` (F,) plus the second, to y,
    behind ReLU if `rectified`, and 2x2 maxima if `pool` is 2.

    Windows' pixels lie `dilation` apart; switches is flat, and empty without pooling.
    """
    (KH, KW, C, F), (DH, DW), (_, OH, OW, _) = w.shape, dilation, y.shape
    H, W = pads[0] + x.shape[1] + pads[1], pads[2] + x.shape[2] + pads[3]
    down, across = tuple(range(0, KH * DH, DH)), tuple(range(0, KW * DW, DW))
    geometry = Geometry(H, W, pads[0], pads[2], down[-1] + 1, across[-1] + 1, *strides, OH, OW, F, 0, any(pads), 0,
                        pool, rectified)
    _products(x, w.reshape(-1, F), ends, window_terms(down, across, C, W * C), geometry, y.reshape(-1), switches,
              (OH * OW * F, 0, OW * F, F))


def gather(dy, w, image_size, strides, pads, dilation, dx):
    """Write dx (N, H, W, C) of a convolution from dy (N, OH, OW, F): each pixel gathers what reaches it.

    Pixel h meets w[kh] in the output where oh SH = h + top - kh DH. Those of one phase, h = SH i + a, share the kh for which
    that divides; with q = (kh DH - remainder) / SH, oh = i + start - q, so the largest q comes first in a window.
    """
    (KH, KW, C, F), (_, OH, OW, _), (H, W) = w.shape, dy.shape, image_size
    none, zero = workspace("no switches", 0, np.uint8), workspace("no bias", C, w.dtype)
    zero[...] = 0
    if not all(_phase(a, w.shape[i], strides[i], 0, dilation[i])[0] for i in (0, 1) for a in range(strides[i])):
        dx.fill(0)              # many numbers that no window meets
    for a in range(strides[0]):
        rows, down, above = _phase(a, KH, strides[0], pads[0], dilation[0])
        for c in range(strides[1]):
            columns, across, before = _phase(c, KW, strides[1], pads[2], dilation[1])
            high, broad = -(-(H - a) // strides[0]), -(-(W - c) // strides[1])
            if not (rows and columns and high > 0 and broad > 0):
                continue
            turned = workspace("turned", (len(rows) * len(columns) * F, C), w.dtype)
            turn(w, rows, columns, turned)
            wide = broad + across[-1]
            framed = (above, before, high + down[-1], wide) != (0, 0, OH, OW)
            geometry = Geometry(high + down[-1], wide, above, before, down[-1] + 1, across[-1] + 1, 1, 1, high, broad,
                                C, 0, framed, 0, 1, False)
            _products(dy, turned, (ones(C, w.dtype), zero), window_terms(down, across, F, wide * F), geometry, dx.reshape(-1), none,
                      (H * W * C, (a * W + c) * C, strides[0] * W * C, strides[1] * C))


def _phase(a, K, stride, pad, dilation):
    """Return, along one axis, the taps that the pixels of phase a meet, where each lies in their window of dy, and the
    zeros before dy."""
    start, remainder = divmod(a + pad, stride)
    taps = [k for k in range(K) if k * dilation % stride == remainder][::-1]
    q = [(k * dilation - remainder) // stride for k in taps]
    return taps, tuple(q[0] - i for i in q), q[0] - start if q else 0


def turn(w, rows, columns, turned):
    """Write w[kh, kw]^T for these rows and columns of the window of w (KH, KW, C, F) to `turned`, (F, C) each."""
    groups = -(-w.shape[3] // _TURNED)
    run(_turn, len(rows) * len(columns) * groups, w, np.array(rows), np.array(columns), groups, turned.reshape(-1))


@kernel
def _turn(w, rows, columns, groups, turned, scratch, queue, lane):
    """Do some filters of one place of the window a unit, in squares: a line of w, and one of `turned`, is fetched once."""
    C, F = w.shape[2], w.shape[3]
    unit = claim(queue, lane)
    while unit >= 0:
        k, begin = unit // groups, unit % groups * _TURNED
        of = pointer(w, (rows[k // len(columns)] * w.shape[1] + columns[k % len(columns)]) * C * F)
        out, end = pointer(turned, k * F * C), min(begin + _TURNED, F)
        for first in range(0, C, _SQUARE):
            for left in range(begin, end, _SQUARE):
                for f in range(left, min(left + _SQUARE, end)):
                    for c in range(first, min(first + _SQUARE, C)):
                        out[f * C + c] = of[c * F + f]
        unit = claim(queue, lane)


def _products(x, w, ends, terms, geometry, y, switches, places):
    """Do the convolution that `geometry` describes, with filters w (K, F) whose terms lie at `terms` in a window.

    places: how far apart images of y lie, where its first number is, how far apart its rows and its pixels lie.
    """
    (N, _, _, C), F = x.shape, w.shape[1]
    OH, OW, pool = geometry.OH, geometry.OW, geometry.pool
    framed = geometry.framed or x.dtype != w.dtype
    per_row, panel = OW * pool * pool, columns_of(w.dtype)
    band = max(1, min(OH, -(-_WINDOWS // per_row)))
    band = -(-OH // -(-OH // band))
    images = 1 if band < OH else max(1, min(N, _WINDOWS // (OH * per_row)))
    units, panels = -(-N // images) * -(-OH // band), -(-F // panel)
    panels = -(-panels // min(panels, -(-_UNITS // units)))
    geometry = geometry._replace(framed=framed, per_unit=band, images=images, panels=panels)
    rows = images * ((band * pool - 1) * geometry.SH + geometry.KH) if framed else 0
    windows = -(-(images * band * per_row + ROWS) // 8) * 8
    totals = 2 * windows * panel if len(terms) > BLOCK else 0
    run(_units, units * -(-F // (panels * panel)), x, workspace("no image", 0, w.dtype) if framed else x.reshape(-1),
        w.reshape(-1), ends, terms, geometry, (y, switches), places, integers=2 * windows, dtype=w.dtype,
        scratch=(ROWS + BLOCK) * panel + totals + rows * geometry.W * C)


@kernel
def _units(x, flat, w, ends, terms, geometry, outputs, steps, corners, scratch, queue, lane):
    """Do some rows of y, or some small images, and some panels of filters a unit."""
    (N, F), OH, panel, pool = (x.shape[0], geometry.F), geometry.OH, panel_of(w), geometry.pool
    K, offsets, filters, scale, bias = len(terms), pointer(terms, 0), pointer(w, 0), pointer(ends[0], 0), pointer(ends[1], 0)
    y, switches, pixels = pointer(outputs[0], 0), pointer(outputs[1], 0), pointer(flat, 0)
    blocks, bands, wide = -(-K // BLOCK), -(-OH // geometry.per_unit), geometry.panels * panel
    groups = -(-F // wide)
    at, out = pointer(corners, lane * corners.shape[1]), pointer(scratch, lane * scratch.shape[1])
    to, packed = pointer(at, corners.shape[1] // 2), pointer(out, ROWS * panel)
    totals = as_float64(pointer(packed, BLOCK * panel))
    frame = pointer(packed, BLOCK * panel + (2 * panel * (corners.shape[1] // 2) if blocks > 1 else 0))
    image_y, start, row_y, pixel_y = steps
    row, count, placed = geometry.W * x.shape[3], 0, (0, 0)
    L, no_bound, rows_of_out = width(w), splat(y, -np.inf), places(queue, lane)
    as_they_are = splat(y, 1), splat(y, 1), splat(y, -0.0), splat(y, -0.0), no_bound
    low = splat(y, 0) if geometry.rectified else no_bound
    unit = claim(queue, lane)
    for r in range(ROWS):
        rows_of_out[r] = r * panel
    while unit >= 0:
        unit, left = unit // groups, unit % groups * wide
        n, first = unit // bands * geometry.images, unit % bands * geometry.per_unit
        images, rows = min(geometry.images, N - n), min(geometry.per_unit, geometry.OH - first)
        top, below = first * pool * geometry.SH, ((first + rows) * pool - 1) * geometry.SH + geometry.KH
        if (images, rows) != placed:
            image_x = (below - top if geometry.framed else x.shape[1]) * row
            count = _place(images, rows, geometry, x.shape[3], (image_x, image_y, row_y, pixel_y), at, to)
            placed = images, rows
        image, o = pointer(pixels, (n * x.shape[1] + top) * row), n * image_y + start + first * row_y
        if geometry.framed:
            image = frame
            for i in range(images):
                fill_rows(x, n + i, top, below, geometry, pointer(frame, i * (below - top) * row))
        for j in range(left, min(left + wide, F), panel):
            columns = min(panel, F - j)
            s0, s1 = load_first(scale, j, columns), load_first(scale, j + L, columns - L)
            b0, b1 = load_first(bias, j, columns), load_first(bias, j + L, columns - L)
            # With one block of terms, sums stay in registers: those of a cell, or whole vectors, which go where they belong.
            if pool == 2 and blocks == 1 and columns > L:
                factors = filters
                if F != panel:
                    pack(pointer(filters, j), K, F, columns, packed)
                    factors = packed
                for m in range(0, count, 4):
                    t, cell = cell_sums(image, pointer(at, m), offsets, K, factors, panel), o + to[m // 4] + j
                    finish_cell(t[0][0], t[1][0], t[2][0], t[3][0], (s0, b0), geometry.rectified, y, switches, cell, columns)
                    finish_cell(t[0][1], t[1][1], t[2][1], t[3][1], (s1, b1), geometry.rectified, y, switches, cell + L, columns - L)
                continue
            at_once = pool == 1 and blocks == 1 and columns % L == 0
            target, end = (pointer(y, o + j), (s0, s1, b0, b1, low)) if at_once else (out, as_they_are)
            for k in range(blocks):
                first_term = k * BLOCK
                terms_here, factors = min(BLOCK, K - first_term), pointer(filters, first_term * F + j)
                if F != panel:
                    pack(factors, terms_here, F, columns, packed)
                    factors = packed
                for m in range(0, count, ROWS):
                    some = min(ROWS, count - m)
                    if pool == 1 and k + 1 == blocks:       # by the time that its sums are known, y's lines are there
                        for q in range(some):
                            for v in range(0, panel, L):
                                prefetch(y, o + to[m + q] + j + v, 1)
                    ahead = at[m + ROWS] - at[m] if j == left and geometry.KW == 1 else 0
                    finished_tile(image, pointer(at, m), some, pointer(offsets, first_term), terms_here, factors,
                                  panel, columns, ahead, target, pointer(to, m) if at_once else rows_of_out, end)
                    if at_once:
                        continue
                    add_block(out, some * panel, pointer(totals, m * panel), k, blocks)
                    if k + 1 < blocks:
                        continue
                    for v in range(0, columns, L):
                        of_v = (s1, b1) if v > 0 else (s0, b0)
                        if pool == 2:
                            for q in range(some // 4):
                                i = 4 * q * panel + v
                                finish_cell(load(out, i), load(out, i + panel), load(out, i + 2 * panel),
                                            load(out, i + 3 * panel), of_v, geometry.rectified, y, switches,
                                            o + to[m // 4 + q] + j + v, columns - v)
                        else:
                            for q in range(some):
                                total = fma(load(out, q * panel + v), of_v[0], of_v[1])
                                store_first(y, o + to[m + q] + j + v, rectify(total) if geometry.rectified else total,
                                            columns - v)
        unit = claim(queue, lane)


@device
def _place(images, rows, geometry, C, steps, at, to):
    """Write where each window of a unit begins, and where each of its cells goes; return how many windows there are.

    Both count from the unit's first; steps: an image of x, and an image, a row and a pixel of y. Windows of one cell are
    neighbours. Behind the last window it stands again, a tile's worth, and behind the last cell that.
    """
    W, SH, SW, pool, (image_x, image_y, row, pixel) = geometry.W, geometry.SH, geometry.SW, geometry.pool, steps
    count, cells = 0, 0
    for i in range(images):
        for h in range(rows):
            for w in range(geometry.OW):
                to[cells] = i * image_y + h * row + w * pixel
                cells += 1
                for p in range(pool):
                    for q in range(pool):
                        at[count] = i * image_x + ((h * pool + p) * SH * W + (w * pool + q) * SW) * C
                        count += 1
    for i in range(ROWS):
        at[count + i], to[cells + i] = at[count - 1], to[cells - 1]
    return count


@device
def finish_cell(v0, v1, v2, v3, ends, rectified, y, switches, o, filters):
    """Store the largest of a cell's four sums, scaled and shifted by the ends, and its place; only the first `filters` of them exist."""
    v0, v1, v2, v3 = fma(v0, ends[0], ends[1]), fma(v1, ends[0], ends[1]), fma(v2, ends[0], ends[1]), fma(v3, ends[0], ends[1])
    place, best = choose(v1, v0, splat(y, 1), zeros(y)), choose(v1, v0, v1, v0)
    place, best = choose(v2, best, splat(y, 2), place), choose(v2, best, v2, best)
    place, best = choose(v3, best, splat(y, 3), place), choose(v3, best, v3, best)
    store_bytes(switches, o, place, filters)
    store_first(y, o, rectify(best) if rectified else best, filters)
