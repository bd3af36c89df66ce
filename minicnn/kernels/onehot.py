"""The weight gradient of a first block: a small window, 2x2 pooling, and nobody who wants dx.

Each cell and filter has one gradient g, at one of four windows: the switch says which. For one tap of the window (one of
its K numbers), the four windows hold four neighbouring pixels. So a vector of filters picks, by its switches, from the two
rows of pixels that hold them, and the tap's gradient is a dense sum over cells:

    dw[tap, filters]  +=  g[cell, filters] * pick(upper row, lower row; switch[cell, filters], tap)

The nine taps (KW C of COV-19Net) of one row of the window are summed in registers at a time. In the lists of sparse.py they
would fill half a vector each, and cross a cache line nearly always.

Measured (one core, AVX-512, an image): COV-19Net's first block 41 us, by lists 90. Picking from two vectors is one
instruction with AVX-512 alone; elsewhere the lists stay.
"""

import numpy as np

from minicnn.kernels.board import claim, places
from minicnn.kernels.chunks import chunk_of, sum_chunks
from minicnn.kernels.frames import fill_rows
from minicnn.kernels.jit import device, kernel
from minicnn.kernels.simd import (REGISTER_BYTES, add, add_to_float64, choose, fma, load, load_bytes, multiply, pick,
                                  pointer, splat, store, where_positive, width, zeros)
from minicnn.kernels.threads import run, workspace

__all__ = ["suits", "weight_gradient"]

_TAPS = 9                               # of a row of the window, in registers at a time
_CELLS = 64                             # in a block: their gradients and switches stay in the first cache


def suits(w, strides, pool, dx):
    """Return whether this is the way to the gradient of w: each row of pixels must fit into one vector."""
    _, KW, C, _ = w.shape
    return REGISTER_BYTES == 64 and pool == 2 and dx is None and (KW + strides[1]) * C <= REGISTER_BYTES // w.itemsize


def weight_gradient(dy, y, switches, x, w, strides, pads, dw, db):
    """Write dw and db of `conv2d_relu_pool`. See reference.conv2d_relu_pool_gradient; x may be uint8 pixels."""
    (N, H, W, C), (KH, KW, _, F), (PH, PW) = x.shape, w.shape, y.shape[1:3]
    lanes = REGISTER_BYTES // w.itemsize
    HP, WP, wide = pads[0] + H + pads[1], pads[2] + W + pads[3], -(-F // lanes) * lanes
    groups = -(-(KW * C) // _TAPS)                                      # of taps, in a row of the window
    taps, chunks = KH * groups * _TAPS, -(-N // chunk_of(N))
    dw_parts = workspace("dw parts", (chunks, taps * wide), np.float64)
    db_parts = workspace("db parts", (chunks, wide), np.float64)
    run(_chunks, chunks, dy.reshape(-1), y.reshape(-1), switches, x, KH, KW * C, groups, F, wide, strides, pads, (HP, WP),
        (PH, PW), chunk_of(N), dw_parts, db_parts, scratch=(2 * _CELLS + taps) * wide + HP * WP * C + lanes, dtype=w.dtype)
    rows = workspace("rows of taps", (taps, F), w.dtype)
    sum_chunks(dw_parts, wide, rows)
    dw.reshape(KH, KW * C, F)[...] = rows.reshape(KH, groups * _TAPS, F)[:, :KW * C]
    sum_chunks(db_parts, wide, db.reshape(1, F))


@kernel
def _chunks(dy, y, switches, x, KH, run_length, groups, F, wide, strides, pads, padded_size, size, chunk, dw_parts,
            db_parts, scratch, board, lane):
    """Add up the gradients of one chunk of images a unit."""
    (HP, WP), (PH, PW), C, N = padded_size, size, x.shape[3], x.shape[0]
    row, count = WP * C, dw_parts.shape[1]
    below, beside = strides[0] * row, strides[1] * C
    marked, at = pointer(scratch, lane * scratch.shape[1]), places(board, lane)
    chosen = pointer(marked, _CELLS * wide)
    sums = pointer(chosen, _CELLS * wide)
    frame = pointer(sums, count)
    dy_at, y_at, switches_at = pointer(dy, 0), pointer(y, 0), pointer(switches, 0)
    s = claim(board, lane)
    while s >= 0:
        dw, db = pointer(dw_parts, s * count), pointer(db_parts, s * wide)
        for i in range(count):
            dw[i] = 0
        for f in range(wide):
            db[f] = 0
        for n in range(s * chunk, min((s + 1) * chunk, N)):
            fill_rows(x, n, 0, HP, pads, WP, frame)
            for first in range(0, PH * PW, _CELLS):
                cells = min(_CELLS, PH * PW - first)
                _mark(dy_at, y_at, switches_at, (n * PH * PW + first) * F, cells, F, wide, beside, marked, chosen, db)
                for kh in range(KH):
                    for group in range(groups):
                        for tap in range(_TAPS):
                            at[tap] = min(group * _TAPS + tap, run_length - 1)
                        for f in range(0, wide, width(marked)):
                            _sum_taps(pointer(frame, kh * row), at, first // PW, first % PW, cells, PW, below, beside,
                                      pointer(marked, f), pointer(chosen, f), wide, sums,
                                      (kh * groups + group) * _TAPS * wide + f)
                for i in range(0, count, width(marked)):
                    add_to_float64(dw, i, load(sums, i))
        s = claim(board, lane)


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
def _sum_taps(x, taps, i, j, cells, PW, below, beside, marked, chosen, wide, sums, o):
    """Write the sums of nine taps over the cells, of which (i, j) is the first, for a vector of filters."""
    j0, j1, j2, j3, j4, j5, j6, j7, j8 = (taps[0], taps[1], taps[2], taps[3], taps[4], taps[5], taps[6], taps[7], taps[8])
    z = zeros(x)
    t0, t1, t2, t3, t4, t5, t6, t7, t8 = z, z, z, z, z, z, z, z, z
    for cell in range(cells):
        p = 2 * (i * below + j * beside)
        upper, lower = load(x, p), load(x, p + below)
        g, n = load(marked, cell * wide), load(chosen, cell * wide)
        t0 = fma(g, pick(upper, lower, n, j0), t0)
        t1 = fma(g, pick(upper, lower, n, j1), t1)
        t2 = fma(g, pick(upper, lower, n, j2), t2)
        t3 = fma(g, pick(upper, lower, n, j3), t3)
        t4 = fma(g, pick(upper, lower, n, j4), t4)
        t5 = fma(g, pick(upper, lower, n, j5), t5)
        t6 = fma(g, pick(upper, lower, n, j6), t6)
        t7 = fma(g, pick(upper, lower, n, j7), t7)
        t8 = fma(g, pick(upper, lower, n, j8), t8)
        i, j = (i + 1, 0) if j + 1 == PW else (i, j + 1)
    store(sums, o, t0)
    store(sums, o + wide, t1)
    store(sums, o + 2 * wide, t2)
    store(sums, o + 3 * wide, t3)
    store(sums, o + 4 * wide, t4)
    store(sums, o + 5 * wide, t5)
    store(sums, o + 6 * wide, t6)
    store(sums, o + 7 * wide, t7)
    store(sums, o + 8 * wide, t8)
