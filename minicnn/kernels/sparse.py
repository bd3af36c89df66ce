"""The backward pass of a fused block, which visits only what has a gradient.

Behind 2x2 max pooling at most one output in four has a gradient (the switch says which), and none where ReLU was off
(y = 0). For each filter f, the places where it has one are listed, with the gradient g; then, a list at a time,

    dw[:, f]      += g * window of x at the place            (gather)
    dx at window  += g * w[:, f]                             (scatter)

A window is KH runs of KW C neighbouring numbers, cut into vectors; six vectors at a time stay in registers: six sums for
dw, and six vectors of the filter for dx. One pass over a list does both: while the six stores of dx go out, the
multiply-adds of dw are free.

    list of f:  place 17, g | place 19, g | ...          x  [v0 v1 v2 v3 v4 v5]  -> six sums -> dw
                                                         dx [v0 v1 v2 v3 v4 v5] += g * six vectors of w

A list covers a block of places whose rows of x and dx fit into the first cache; over the whole image the second cache
would set the pace (139 us instead of 60). The sums of 16 blocks are added up in float32, then in float64.

Measured (one core, AVX-512, an image, 86 % of ReLUs on): COV-19Net's second block 63 us, the multiply-adds of a dense
backward alone take 303 us at peak.
"""

import numpy as np

from minicnn.kernels.board import claim, places
from minicnn.kernels.conv import chunk_of
from minicnn.kernels.frames import fill_rows
from minicnn.kernels.jit import device, kernel
from minicnn.kernels.simd import (REGISTER_BYTES, add, add_to_float64, broadcast, fma, load, pointer, store,
                                  where_positive, width, zeros)
from minicnn.kernels.threads import run, workspace

__all__ = ["conv2d_relu_gradient", "conv2d_relu_pool_gradient"]

_GROUP = 6                              # vectors of a window in registers at a time
_LIST = 128                             # places in a block at the most
_BLOCKS = 16                            # blocks whose sums are added in float32 before they are added in float64
_CACHE = 48 * 1024                      # bytes of x (and dx) that a block may touch


def conv2d_relu_gradient(dy, y, x, w, strides, pads, dx, dw, db):
    """Write dx, dw and db of `conv2d_relu` from dy and its output y. See reference.conv2d_relu_gradient.

    Where dx is None it is not computed.
    """
    _gradients(dy, y, workspace("no switches", 0, np.uint8), 1, x, w, strides, pads, dx, dw, db)


def conv2d_relu_pool_gradient(dy, y, switches, x, w, strides, pads, dx, dw, db):
    """Write dx, dw and db of `conv2d_relu_pool` from dy, its output y and its switches.

    See reference.conv2d_relu_pool_gradient. Where dx is None it is not computed; x may be uint8 pixels.
    """
    _gradients(dy, y, switches.reshape(-1), 2, x, w, strides, pads, dx, dw, db)


def _gradients(dy, y, switches, pool, x, w, strides, pads, dx, dw, db):
    (N, H, W, C), (KH, KW, _, F), (PH, PW) = x.shape, w.shape, y.shape[1:3]
    lanes = REGISTER_BYTES // w.itemsize
    HP, WP = pads[0] + H + pads[1], pads[2] + W + pads[3]
    # The vectors of a window: KH runs of so many, then the last one again (with a weight of 0) to make groups of six.
    vectors = -(-(KW * C) // lanes)
    groups = -(-KH * vectors // _GROUP)
    size = groups * _GROUP * lanes
    filters = workspace("filters", F * size, w.dtype)
    _pack_filters(w.reshape(-1), KH, KW * C, F, vectors, size, filters)
    # A vector may reach beyond its run, so beyond the image: then the image is read from a frame with room after it.
    framed = any(pads) or (KW * C) % lanes > 0 or x.dtype != w.dtype
    pixels = HP * WP * C + lanes
    row_bytes = WP * C * w.itemsize * (1 if dx is None else 2)
    rows = max(1, _CACHE // row_bytes // (strides[0] * pool))
    block = min(_LIST, rows * PW)
    chunk = chunk_of(N)
    chunks = -(-N // chunk)
    dw_parts = workspace("dw parts", (chunks, F * size), np.float64)
    db_parts = workspace("db parts", (chunks, F), np.float64)
    wanted = dx is not None
    flat_x = workspace("no image", 0, w.dtype) if framed else x.reshape(-1)
    flat_dx = workspace("no dx", 0, w.dtype) if framed or not wanted else dx.reshape(-1)
    out = workspace("no dx out", (1, 1, 1, 1), w.dtype) if dx is None else dx
    run(_chunks, chunks, dy.reshape(-1), y.reshape(-1), switches, pool, x, flat_x, filters, (KH, KW), vectors, groups, F,
        strides, pads, (HP, WP), framed, wanted, (PH, PW), block, chunk, dw_parts, db_parts, flat_dx, out,
        scratch=2 * F * _LIST + lanes + F * size + (2 * pixels if framed else 0), dtype=w.dtype,
        integers=F * (_LIST + 1) + _LIST)
    run(_sum_parts, F, dw_parts, db_parts, KW * C, vectors, size, dw.reshape(-1), db)


@kernel
def _pack_filters(w, KH, run_length, F, vectors, size, filters):
    """Write each filter of w (KH run_length, F) as its vectors, zeros where a vector reaches beyond its run."""
    lanes = width(w)
    filters[:] = 0
    for kh in range(KH):
        for t in range(run_length):
            for f in range(F):
                filters[f * size + kh * vectors * lanes + t] = w[(kh * run_length + t) * F + f]


@kernel
def _sum_parts(parts, db_parts, run_length, vectors, size, dw, db, scratch, board, lane):
    """Write to dw (K, F) and db (F,) the sums over chunks, in order; a filter a unit."""
    F, lanes = len(db), width(dw)
    f = claim(board, lane)
    while f >= 0:
        total = 0.0
        for s in range(parts.shape[0]):
            total += db_parts[s, f]
        db[f] = total
        for k in range(len(dw) // F):
            i = f * size + k // run_length * vectors * lanes + k % run_length
            total = 0.0
            for s in range(parts.shape[0]):
                total += parts[s, i]
            dw[k * F + f] = total
        f = claim(board, lane)


@kernel
def _chunks(dy, y, switches, pool, x, flat_x, filters, kernel_size, vectors, groups, F, strides, pads, padded_size, framed,
            wanted, size, block, chunk, dw_parts, db_parts, flat_dx, dx, lists, scratch, board, lane):
    """Add up the gradients of one chunk of images a unit; write dx of its images."""
    (HP, WP), (PH, PW), C, N = padded_size, size, x.shape[3], x.shape[0]
    row, of_filters = WP * C, dw_parts.shape[1]
    values = pointer(scratch, lane * scratch.shape[1])
    marked, sums = pointer(values, F * _LIST), pointer(values, 2 * F * _LIST + width(filters))
    frame = pointer(sums, of_filters)
    dx_frame = pointer(frame, HP * row + width(filters))
    offsets = pointer(lists, lane * lists.shape[1])
    lengths, corners, at = pointer(offsets, F * _LIST), pointer(offsets, F * (_LIST + 1)), places(board, lane)
    dy_at, y_at, switches_at, filters_at = pointer(dy, 0), pointer(y, 0), pointer(switches, 0), pointer(filters, 0)
    pixels, dx_at = pointer(flat_x, 0), pointer(flat_dx, 0)
    s = claim(board, lane)
    while s >= 0:
        dw, db = pointer(dw_parts, s * of_filters), pointer(db_parts, s * F)
        for i in range(of_filters):
            dw[i] = 0
            sums[i] = 0
        for f in range(F):
            db[f] = 0
        for n in range(s * chunk, min((s + 1) * chunk, N)):
            image, target, base = pixels, dx_at, n * HP * row
            if framed:
                fill_rows(x, n, 0, HP, pads, WP, frame)
                image, target, base = frame, dx_frame, 0
            if wanted:
                for i in range(base, base + HP * row):
                    target[i] = 0
            for first in range(0, PH * PW, block):
                cells = min(block, PH * PW - first)
                o = (n * PH * PW + first) * F
                _mark(dy_at, y_at, o, cells * F, F, marked, db)
                _find_corners(first, cells, PW, pool * strides[0] * row, pool * strides[1] * C, base, corners)
                at[0], at[1], at[2], at[3] = 0, strides[1] * C, strides[0] * row, strides[0] * row + strides[1] * C
                _list_places(marked, switches_at, o, pool, corners, at, cells, F, offsets, values, lengths)
                for group in range(groups):
                    _visit(image, target, wanted, filters_at, kernel_size[0] * vectors, vectors, group, groups, row, F,
                           offsets, values, lengths, sums, at)
                if first // block % _BLOCKS == _BLOCKS - 1 or first + block >= PH * PW:
                    for i in range(0, of_filters, width(filters)):
                        add_to_float64(dw, i, load(sums, i))
                        store(sums, i, zeros(sums))
            if wanted and framed:
                _crop(target, n, pads, WP, dx)
        s = claim(board, lane)


@device
def _mark(dy, y, o, size, F, marked, db):
    """Write the gradient of `size` numbers, F to a cell, from o on, 0 where ReLU was off; add it to db."""
    whole = F - F % width(dy)
    for i in range(0, size, F):
        for f in range(0, whole, width(dy)):
            g = where_positive(load(y, o + i + f), load(dy, o + i + f))
            store(marked, i + f, g)
            add_to_float64(db, f, g)
        for f in range(whole, F):
            marked[i + f] = dy[o + i + f] if y[o + i + f] > 0 else 0
            db[f] += marked[i + f]


@device
def _find_corners(first, cells, PW, below, beside, base, corners):
    """Write where the first window of each cell begins; cells are so far below and beside each other."""
    i, j = first // PW, first % PW
    for cell in range(cells):
        corners[cell] = base + i * below + j * beside
        i, j = (i + 1, 0) if j + 1 == PW else (i, j + 1)


@device
def _list_places(marked, switches, o, pool, corners, places_of, cells, F, offsets, values, lengths):
    """List, for each filter, where the windows with a gradient begin, and that gradient."""
    for f in range(F):
        n = f * _LIST
        for cell in range(cells):
            g, place = marked[cell * F + f], corners[cell]
            if pool == 2:
                place += places_of[switches[o + cell * F + f]]
            # Written in any case, kept only if there is a gradient: no branch that could be guessed wrong.
            offsets[n] = place
            values[n] = g
            n += np.int64(g != 0)
        lengths[f] = n - f * _LIST


@device
def _visit(x, dx, wanted, filters, real, vectors, group, groups, row, F, offsets, values, lengths, sums, at):
    """Gather the sums for dw and scatter dx for one group of six vectors of the window, all filters."""
    lanes = width(x)
    for v in range(_GROUP):
        u = min(group * _GROUP + v, real - 1)
        at[v] = u // vectors * row + u % vectors * lanes
    v0, v1, v2, v3, v4, v5 = at[0], at[1], at[2], at[3], at[4], at[5]
    for f in range(F):
        i, end = f * _LIST, f * _LIST + lengths[f]
        o = (f * groups + group) * _GROUP * lanes
        o1, o2, o3, o4, o5 = o + lanes, o + 2 * lanes, o + 3 * lanes, o + 4 * lanes, o + 5 * lanes
        a0, a1, a2 = load(sums, o), load(sums, o1), load(sums, o2)
        a3, a4, a5 = load(sums, o3), load(sums, o4), load(sums, o5)
        if wanted:
            w0, w1, w2 = load(filters, o), load(filters, o1), load(filters, o2)
            w3, w4, w5 = load(filters, o3), load(filters, o4), load(filters, o5)
            while i < end:
                p, g = offsets[i], broadcast(values, i)
                a0, a1, a2 = fma(g, load(x, p + v0), a0), fma(g, load(x, p + v1), a1), fma(g, load(x, p + v2), a2)
                a3, a4, a5 = fma(g, load(x, p + v3), a3), fma(g, load(x, p + v4), a4), fma(g, load(x, p + v5), a5)
                store(dx, p + v0, fma(g, w0, load(dx, p + v0)))
                store(dx, p + v1, fma(g, w1, load(dx, p + v1)))
                store(dx, p + v2, fma(g, w2, load(dx, p + v2)))
                store(dx, p + v3, fma(g, w3, load(dx, p + v3)))
                store(dx, p + v4, fma(g, w4, load(dx, p + v4)))
                store(dx, p + v5, fma(g, w5, load(dx, p + v5)))
                i += 1
        elif real <= _GROUP // 2:
            # Few vectors: two places at a time, or each sum would wait for itself.
            while i + 1 < end:
                p, g, q, h = offsets[i], broadcast(values, i), offsets[i + 1], broadcast(values, i + 1)
                a0, a1, a2 = fma(g, load(x, p + v0), a0), fma(g, load(x, p + v1), a1), fma(g, load(x, p + v2), a2)
                a3, a4, a5 = fma(h, load(x, q + v0), a3), fma(h, load(x, q + v1), a4), fma(h, load(x, q + v2), a5)
                i += 2
            if i < end:
                p, g = offsets[i], broadcast(values, i)
                a0, a1, a2 = fma(g, load(x, p + v0), a0), fma(g, load(x, p + v1), a1), fma(g, load(x, p + v2), a2)
            a0, a1, a2, a3, a4, a5 = add(a0, a3), add(a1, a4), add(a2, a5), zeros(x), zeros(x), zeros(x)
        else:
            while i < end:
                p, g = offsets[i], broadcast(values, i)
                a0, a1, a2 = fma(g, load(x, p + v0), a0), fma(g, load(x, p + v1), a1), fma(g, load(x, p + v2), a2)
                a3, a4, a5 = fma(g, load(x, p + v3), a3), fma(g, load(x, p + v4), a4), fma(g, load(x, p + v5), a5)
                i += 1
        store(sums, o, a0)
        store(sums, o1, a1)
        store(sums, o2, a2)
        store(sums, o3, a3)
        store(sums, o4, a4)
        store(sums, o5, a5)


@device
def _crop(frame, n, pads, W, dx):
    """Copy the inside of a frame, rows W pixels wide, to image n of dx."""
    C = dx.shape[3]
    for h in range(dx.shape[1]):
        for w in range(dx.shape[2]):
            for c in range(C):
                dx[n, h, w, c] = frame[((h + pads[0]) * W + w + pads[2]) * C + c]
