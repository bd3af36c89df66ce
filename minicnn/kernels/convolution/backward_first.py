"""The weight gradient of a first block: a small window, 2x2 pooling, and no dx.

Each cell and filter has one gradient g, at one of four windows: the switch says which. For one tap of the window (one of
its K numbers), the four windows hold four neighbouring pixels. So a vector of filters picks, by its switches, from the two
rows of pixels that hold them, and the tap's gradient is a dense sum over cells:

    dw[tap, filters]  +=  g[cell, filters] * pick(upper row, lower row; switch[cell, filters], tap)

Nine taps are summed in registers at a time: three from each of three rows of the window where these fit (KW C <= 3, a grey
image), else nine of one row (COV-19Net in colour). In the lists of backward_sparse.py they would fill half a vector each, and
cross a cache line nearly always.

Measured (one core, AVX-512, an image): COV-19Net's first block 41 us, by lists 90; of grey images 16, a row at a time 40. Picking from two vectors is one
instruction with AVX-512 alone; elsewhere the lists stay.
"""

import numpy as np

from minicnn.kernels.convolution.padding import Geometry, fill_rows
from minicnn.kernels.runtime.jit import device, kernel
from minicnn.kernels.runtime.reduction import ChunkSums
from minicnn.kernels.runtime.simd import (REGISTER_BYTES, add, add_to_float64, choose, fma, load, load_bytes, multiply,
                                          pick, pointer, splat, store, where_positive, width, zeros)
from minicnn.kernels.runtime.threads import run
from minicnn.kernels.runtime.work_queue import claim, places

__all__ = ["suits", "weight_gradient"]

_TAPS = 9                               # in registers at a time
_CELLS = 64                             # in a block: their gradients and switches stay in the first cache


def suits(w, strides, pool, dx):
    """Return whether this is the way to the gradient of w: each row of pixels must fit into one vector."""
    _, KW, C, _ = w.shape
    return REGISTER_BYTES == 64 and pool == 2 and dx is None and (KW + strides[1]) * C <= REGISTER_BYTES // w.itemsize


def weight_gradient(dy, y, switches, x, w, strides, pads, dw, db):
    """Write dw and db of `conv2d_relu_pool`. See reference.conv2d_relu_pool_gradient; x may be uint8 pixels."""
    (N, H, W, C), (KH, KW, _, F), (OH, OW) = x.shape, w.shape, y.shape[1:3]
    lanes = REGISTER_BYTES // w.itemsize
    HP, WP, wide = pads[0] + H + pads[1], pads[2] + W + pads[3], -(-F // lanes) * lanes
    rows = 3 if KW * C <= _TAPS // 3 else 1                             # of the window, that nine taps come from
    columns = _TAPS // rows
    bands, groups = -(-KH // rows), -(-(KW * C) // columns)
    taps, sums = bands * groups * _TAPS, ChunkSums(N, (bands * groups * _TAPS + 1) * wide)
    geometry = Geometry(HP, WP, pads[0], pads[2], KH, KW, *strides, OH, OW, F, wide, framed=True, per_unit=sums.chunk)
    for some in sums.rounds():
        run(_chunks, len(sums.parts), dy[some].reshape(-1), y[some].reshape(-1), switches[some].reshape(-1), x[some], geometry, rows,
            sums.parts, scratch=(2 * _CELLS + taps) * wide + HP * WP * C + lanes, dtype=w.dtype)

    def write(total):
        # Rows of the window and columns of it that do not exist were computed with the last ones; they go here.
        ordered = total[:taps * wide].reshape(bands, groups, rows, columns, wide)[..., :F].transpose(0, 2, 1, 3, 4)
        dw.reshape(KH, KW * C, F)[...] = ordered.reshape(bands * rows, groups * columns, F)[:KH, :KW * C]
        db[...] = total[taps * wide:][:F]
    sums.finish(write)


@kernel
def _chunks(dy, y, switches, x, geometry, rows, parts, scratch, queue, lane):
    """Add up dw, and db behind it, of one chunk of images a unit; nine taps come from so many `rows` of the window."""
    KH, F, P, wide, chunk = geometry.KH, geometry.F, geometry.OH * geometry.OW, geometry.wide, geometry.per_unit
    N, C, run_length, columns = x.shape[0], x.shape[3], geometry.KW * x.shape[3], _TAPS // rows
    groups, row, count = (run_length + columns - 1) // columns, geometry.W * C, parts.shape[1] - wide
    below, beside = geometry.SH * row, geometry.SW * C
    marked, at = pointer(scratch, lane * scratch.shape[1]), places(queue, lane)
    chosen = pointer(marked, _CELLS * wide)
    sums = pointer(chosen, _CELLS * wide)
    frame = pointer(sums, count)
    dy_at, y_at, switches_at = pointer(dy, 0), pointer(y, 0), pointer(switches, 0)
    s = claim(queue, lane)
    while s >= 0:
        dw = pointer(parts, s * (count + wide))
        db = pointer(dw, count)
        for i in range(count):
            dw[i] = 0
        for f in range(wide):
            db[f] = 0
        for n in range(s * chunk, min((s + 1) * chunk, N)):
            fill_rows(x, n, 0, geometry.H, geometry, frame)
            for first in range(0, P, _CELLS):
                cells = min(_CELLS, P - first)
                _mark(dy_at, y_at, switches_at, (n * P + first) * F, cells, F, wide, beside, marked, chosen, db)
                for band in range((KH + rows - 1) // rows):
                    for group in range(groups):
                        for tap in range(_TAPS):
                            at[tap] = min(group * columns + tap % columns, run_length - 1)
                        for r in range(3):
                            at[_TAPS + r] = min(band * rows + r, KH - 1) * row if rows == 3 else band * row
                        for f in range(0, wide, width(marked)):
                            _sum_taps(frame, at, rows, first, cells, geometry, below, beside, pointer(marked, f),
                                      pointer(chosen, f), sums, (band * groups + group) * _TAPS * wide + f)
                for i in range(0, count, width(marked)):
                    add_to_float64(dw, i, load(sums, i))
        s = claim(queue, lane)


@device
def _mark(dy, y, switches, o, cells, F, wide, beside, marked, chosen, db):
    """Write each cell's gradients, 0 where ReLU was off, and where the switches find their pixel; add to db."""
    L = width(dy)
    whole = F - F % L
    for cell in range(cells):
        i, m = o + cell * F, cell * wide
        for f in range(0, whole, L):
            g = where_positive(load(y, i + f), load(dy, i + f))
            store(marked, m + f, g)
            # In two rows of pixels, the lower one a vector later: 0, beside, L, L + beside.
            k = load_bytes(dy, switches, i + f)
            below = choose(k, splat(dy, 1.5), splat(dy, L - 2 * beside), zeros(dy))
            store(chosen, m + f, add(multiply(splat(dy, beside), k), below))
            add_to_float64(db, f, g)
        if whole < wide:
            store(marked, m + whole, zeros(dy))
            store(chosen, m + whole, zeros(dy))
        for f in range(whole, F):
            marked[m + f] = dy[i + f] if y[i + f] > 0 else 0
            chosen[m + f] = (switches[i + f] >> 1) * L + (switches[i + f] & 1) * beside
            db[f] += marked[m + f]


@device
def _sum_taps(x, at, rows, first, cells, geometry, below, beside, marked, chosen, sums, o):
    """Write the sums of nine taps over so many cells from the first on, for a vector of filters.

    at[:9] are the taps' places in their row of pixels, at[9:] where the rows of the three threes begin.
    """
    wide, OW, i, j = geometry.wide, geometry.OW, first // geometry.OW, first % geometry.OW
    taps = (at[0], at[1], at[2], at[3], at[4], at[5], at[6], at[7], at[8])
    z, k0, k1, k2 = zeros(x), at[9], at[10], at[11]
    t = (z, z, z, z, z, z, z, z, z)
    for cell in range(0 if rows == 3 else cells):
        p = 2 * (i * below + j * beside) + k0
        u, v = load(x, p), load(x, p + below)
        t = _add_picked(t, load(marked, cell * wide), load(chosen, cell * wide), taps, u, v, u, v, u, v)
        i, j = (i + 1, 0) if j + 1 == OW else (i, j + 1)
    for cell in range(cells if rows == 3 else 0):
        p = 2 * (i * below + j * beside)
        t = _add_picked(t, load(marked, cell * wide), load(chosen, cell * wide), taps,
                        load(x, p + k0), load(x, p + k0 + below), load(x, p + k1), load(x, p + k1 + below),
                        load(x, p + k2), load(x, p + k2 + below))
        i, j = (i + 1, 0) if j + 1 == OW else (i, j + 1)
    t0, t1, t2, t3, t4, t5, t6, t7, t8 = t
    store(sums, o, t0)
    store(sums, o + wide, t1)
    store(sums, o + 2 * wide, t2)
    store(sums, o + 3 * wide, t3)
    store(sums, o + 4 * wide, t4)
    store(sums, o + 5 * wide, t5)
    store(sums, o + 6 * wide, t6)
    store(sums, o + 7 * wide, t7)
    store(sums, o + 8 * wide, t8)


@device
def _add_picked(t, g, n, taps, u0, v0, u1, v1, u2, v2):
    """Return t + g * the pixel that each tap meets: of rows u0 and v0 below it, and so on, three taps of each."""
    j0, j1, j2, j3, j4, j5, j6, j7, j8 = taps
    return (fma(g, pick(u0, v0, n, j0), t[0]), fma(g, pick(u0, v0, n, j1), t[1]), fma(g, pick(u0, v0, n, j2), t[2]),
            fma(g, pick(u1, v1, n, j3), t[3]), fma(g, pick(u1, v1, n, j4), t[4]), fma(g, pick(u1, v1, n, j5), t[5]),
            fma(g, pick(u2, v2, n, j6), t[6]), fma(g, pick(u2, v2, n, j7), t[7]), fma(g, pick(u2, v2, n, j8), t[8]))
