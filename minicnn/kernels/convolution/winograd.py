"""Winograd's convolution F(2x2, 3x3): four outputs of a 3x3 window for 16 products instead of 36.

Along one axis, two outputs of a window g of three over four numbers d are

    m1 = (d0 - d2) g0                       y0 = m1 + m2 + m3
    m2 = (d1 + d2) (g0 + g1 + g2) / 2       y1 = m2 - m3 - m4
    m3 = (d2 - d1) (g0 - g1 + g2) / 2
    m4 = (d1 - d3) g2

which multiplying out confirms: y0 = d0 g0 + d1 g1 + d2 g2, y1 = d1 g0 + d2 g1 + d3 g2. Along both axes, with the matrices
B, G and A of these lines,  Y = A [ (G g G^T) * (B d B^T) ] A^T, and the sums over channels commute with A: 16 small
matrix products, one for each place p of the 4 x 4.

    4 x 4 x C patch of each tile --B--> V[p] (tiles, C)
                                        M[p] (tiles, F) = V[p] @ U[p],  U[p] (C, F) from the filters by G, once a call
    bias, ReLU (and 2x2 pooling) <--A-- M[0..15]            a tile is just the four outputs that one pooled cell needs

Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, section 4.1.

What was tried and measured (one core, AVX-512, COV-19Net's second block, an image):
    direct, 4 x 2 tile      148 us
    direct, 8 x 1 tile      124 us
    F(2x2, 3x3)              72 us, error below 1 eps of the sum of magnitudes on normal numbers: kept
    F(4x4, 3x3)              not kept: an output depends on all 36 numbers of its patch, so NaN and large numbers leak
                             into outputs whose window does not hold them, against numerics A3 and A6; in F(2x2, 3x3)
                             y0 uses d0, d1, d2 alone and y1 d1, d2, d3
    F(2x2) for 3 channels    not kept: with so few terms the error passes 8 eps of the sum of magnitudes where pixels of
                             one window differ by orders of magnitude, as at the black border of a radiograph

Gradients behind a ReLU alone, 28x28x24, 3x3, 24 filters: 155 us, by the lists of backward_sparse.py 320. COV-19Net's third block:
38 and 39. Behind pooling the lists win: three of four gradients are 0.

What the bound of 8 eps (numerics A3) holds for, as tested: normal, uniform and constant numbers, feature maps behind a
ReLU, radiographs' own feature maps; 16 to 64 channels. What it does not hold for: a window in which all but one or two
channels are 0 everywhere (C = 32: one alone 244 eps, two 15, four 3.4), because then few products stand against a whole
patch's rounding; or whose channels differ by five orders of magnitude (9.4). Relative to the largest output of the image
the error stays below 1e-6 there too.
"""

import numpy as np

from minicnn.kernels.convolution.padding import Geometry, fill_rows
from minicnn.kernels.runtime.jit import device, kernel
from minicnn.kernels.runtime.microkernel import ROWS, columns_of, in_panels, panel_of, product_tile, row_terms
from minicnn.kernels.runtime.reduction import chunk_of, mark, sum_chunks
from minicnn.kernels.runtime.simd import (REGISTER_BYTES, add, add_to_float64, choose, load, multiply, pointer,
                                          rectify, splat, store, store_bytes, store_first, subtract, width, zeros)
from minicnn.kernels.runtime.threads import run, workspace
from minicnn.kernels.runtime.work_queue import claim, places

__all__ = ["suits", "block", "suits_gradient", "gradients"]

_CHANNELS_AND_FILTERS = 16              # at least
_MOST_CHANNELS = 64
_LINE = 16                      # numbers more between two of the 16 places: a power of two apart, they share a set of the cache
_CHANNELS = 32                  # whose filters are transformed in a unit
_GRADIENT_BYTES = 2**19         # for V and Z of a block of tiles: their sum is added up once a block
_BYTES = 2**18                  # for V and M of a block of tiles: they should stay in the second cache


def suits(w, strides):
    """Return whether this algorithm is right for a convolution: 3x3, stride 1, and channels as above."""
    KH, KW, C, F = w.shape
    return ((KH, KW) == (3, 3) and tuple(strides) == (1, 1) and min(C, F) >= _CHANNELS_AND_FILTERS
            and C <= _MOST_CHANNELS)


def block(x, w, b, pads, size, pool, rectified, y, switches):
    """Write conv2d, then ReLU if `rectified`, then 2x2 maxima and their switches if `pool` is 2, to y. See direct.py."""
    (N, H, W, C), F, (OH, OW) = x.shape, w.shape[3], size
    panels, wide = in_panels(w.reshape(-1, F))
    bias, _ = in_panels(b.reshape(1, F), "bias")
    U = workspace("U", 16 * (C * wide + _LINE), w.dtype)
    run(_transform_filters, -(-C // _CHANNELS), panels, wide, C, U)
    # Channels are transformed a vector at a time. Where the last vector reaches beyond them, so beyond the image, the image
    # is framed; it also is where it is padded, or where the last tile of an odd map reaches a row or column too far.
    lanes = REGISTER_BYTES // w.itemsize
    CV = -(-C // lanes) * lanes
    TH, TW = (OH, OW) if pool == 2 else (-(-OH // 2), -(-OW // 2))
    # Of one image alone a block is smaller, so that all threads have some.
    most = max(ROWS, min(40 if N > 4 else 16, _BYTES // (16 * (CV + wide) * w.itemsize)) // ROWS * ROWS)
    tiles = -(-(TH * TW) // -(-(TH * TW) // most))                  # blocks of equal size, as large as may be
    tiles = -(-tiles // ROWS) * ROWS
    HP, WP = pads[0] + H + pads[1], pads[2] + W + pads[3]
    framed = any(pads) or x.dtype != w.dtype or CV > C or 2 * TH + 2 > H or 2 * TW + 2 > WP
    WP = max(WP, 2 * TW + 2)
    rows = 2 * ((tiles - 1) // TW + 2) + 2 if framed else 0
    image = workspace("no image", 0, w.dtype) if framed else x.reshape(-1)
    geometry = Geometry(HP, WP, pads[0], pads[2], 3, 3, 1, 1, OH, OW, F, wide, framed, tiles, pool, rectified)
    run(_blocks_of_tiles, N * -(-(TH * TW) // tiles), x, image, U, bias, row_terms(C), geometry, y.reshape(-1),
        switches, scratch=16 * tiles * (CV + wide) + rows * WP * C + lanes, dtype=w.dtype)


@kernel
def _transform_filters(w, wide, C, U, scratch, queue, lane):
    """Write U[p] = G g G^T of each filter and channel; some channels are a unit, a vector holds filters."""
    filters, step, place, half = pointer(w, 0), C * wide, C * wide + _LINE, splat(w, 0.5)
    unit = claim(queue, lane)
    while unit >= 0:
        for i in range(unit * _CHANNELS * wide, min((unit + 1) * _CHANNELS, C) * wide, width(w)):
            g = pointer(filters, i)
            for kw in range(4):
                # Column kw of g G^T, then G times it.
                g0, g1, g2 = _along(g, 0, kw, step), _along(g, 3, kw, step), _along(g, 6, kw, step)
                even, odd = multiply(half, add(g0, g2)), multiply(half, g1)
                u = pointer(U, kw * place + i)
                store(u, 0, g0)
                store(u, 4 * place, add(even, odd))
                store(u, 8 * place, subtract(even, odd))
                store(u, 12 * place, g2)
        unit = claim(queue, lane)


@device
def _along(g, first, place, step):
    """Return number `place` of G times the three numbers of a row of g, of which `first` is the first."""
    g0, g1, g2 = load(g, first * step), load(g, (first + 1) * step), load(g, (first + 2) * step)
    even, odd = multiply(splat(g, 0.5), add(g0, g2)), multiply(splat(g, 0.5), g1)
    if place == 1:
        return add(even, odd)
    if place == 2:
        return subtract(even, odd)
    return g0 if place == 0 else g2


@kernel
def _blocks_of_tiles(x, flat, U, b, channels, geometry, y, switches, scratch, queue, lane):
    """Do a block of tiles of an image a unit."""
    W, OH, OW, F, wide, tiles = geometry.W, geometry.OH, geometry.OW, geometry.F, geometry.wide, geometry.per_unit
    TH, TW = (OH, OW) if geometry.pool == 2 else ((OH + 1) // 2, (OW + 1) // 2)
    C, panel, T, row = x.shape[3], panel_of(U), TH * TW, W * x.shape[3]
    blocks, CV = -(-T // tiles), -(-C // width(U)) * width(U)
    V, at, terms = pointer(scratch, lane * scratch.shape[1]), places(queue, lane), pointer(channels, 0)
    M, frame = pointer(V, 16 * tiles * CV), pointer(V, 16 * tiles * (CV + wide))
    pixels, filters, bias = pointer(flat, 0), pointer(U, 0), pointer(b, 0)
    y_at, switches_at = pointer(y, 0), pointer(switches, 0)
    unit = claim(queue, lane)
    while unit >= 0:
        n, first = unit // blocks, unit % blocks * tiles
        last = min(first + tiles, T)
        top, image, base = 0, pixels, n * x.shape[1] * row
        if geometry.framed:
            top, image, base = 2 * (first // TW), frame, 0
            fill_rows(x, n, top, 2 * ((last - 1) // TW) + 4, geometry, frame)
        i, j = first // TW, first % TW
        for t in range(last - first):
            corner = base + ((2 * i - top) * W + 2 * j) * C
            for c in range(0, C, width(U)):
                _transform_patch(image, corner + c, row, C, V, t * CV + c, tiles * CV)
            i, j = (i + 1, 0) if j + 1 == TW else (i, j + 1)
        for p in range(16):
            for t in range(0, last - first, ROWS):
                for r in range(ROWS):
                    at[r] = (p * tiles + t + r) * CV
                for j in range(0, wide, panel):
                    product_tile(V, at, terms, C, filters, p * (C * wide + _LINE) + j, wide, M, (p * tiles + t) * wide + j, wide)
        i, j = first // TW, first % TW
        for t in range(last - first):
            for f in range(0, F, width(U)):
                _finish_tile(M, t * wide + f, tiles * wide, bias, f, n, i, j, geometry, y_at, switches_at)
            i, j = (i + 1, 0) if j + 1 == TW else (i, j + 1)
        unit = claim(queue, lane)


@device
def _transform_column(x, i, row):
    """Return B times the column of four vectors of x that begins at i."""
    d0, d1, d2, d3 = load(x, i), load(x, i + row), load(x, i + 2 * row), load(x, i + 3 * row)
    return subtract(d0, d2), add(d1, d2), subtract(d2, d1), subtract(d1, d3)


@device
def _transform_patch(x, i, row, C, V, v, step):
    """Write B d B^T of one 4 x 4 patch, for a vector of channels, to its 16 places in V, `step` apart."""
    a, b, c, d = (_transform_column(x, i, row), _transform_column(x, i + C, row),
                  _transform_column(x, i + 2 * C, row), _transform_column(x, i + 3 * C, row))
    _store_row(V, v, step, a[0], b[0], c[0], d[0])
    _store_row(V, v + 4 * step, step, a[1], b[1], c[1], d[1])
    _store_row(V, v + 8 * step, step, a[2], b[2], c[2], d[2])
    _store_row(V, v + 12 * step, step, a[3], b[3], c[3], d[3])


@device
def _store_row(V, v, step, d0, d1, d2, d3):
    store(V, v, subtract(d0, d2))
    store(V, v + step, add(d1, d2))
    store(V, v + 2 * step, subtract(d2, d1))
    store(V, v + 3 * step, subtract(d1, d3))


@device
def _sum_column(M, m, step):
    """Return the two numbers of A times the column of four vectors of M that begins at m, 4 places apart."""
    m1, m2, m3, m4 = load(M, m), load(M, m + 4 * step), load(M, m + 8 * step), load(M, m + 12 * step)
    return add(add(m1, m2), m3), subtract(subtract(m2, m3), m4)


@device
def _finish_tile(M, m, step, b, f, n, i, j, geometry, y, switches):
    """Store one tile's four outputs of a vector of filters, or the largest of them and its place."""
    OH, OW, F, rectified, bias = geometry.OH, geometry.OW, geometry.F, geometry.rectified, load(b, f)
    s0, s1, s2, s3 = (_sum_column(M, m, step), _sum_column(M, m + step, step), _sum_column(M, m + 2 * step, step),
                      _sum_column(M, m + 3 * step, step))
    y0 = add(add(add(s0[0], s1[0]), s2[0]), bias)
    y1 = add(subtract(subtract(s1[0], s2[0]), s3[0]), bias)
    y2 = add(add(add(s0[1], s1[1]), s2[1]), bias)
    y3 = add(subtract(subtract(s1[1], s2[1]), s3[1]), bias)
    if geometry.pool == 2:
        place = choose(y1, y0, splat(M, 1), zeros(M))
        best = choose(y1, y0, y1, y0)
        place, best = choose(y2, best, splat(M, 2), place), choose(y2, best, y2, best)
        place, best = choose(y3, best, splat(M, 3), place), choose(y3, best, y3, best)
        o = ((n * OH + i) * OW + j) * F + f
        store_bytes(switches, o, place, F - f)
        store_first(y, o, rectify(best) if rectified else best, F - f)
        return
    if rectified:
        y0, y1, y2, y3 = rectify(y0), rectify(y1), rectify(y2), rectify(y3)
    h, w = 2 * i, 2 * j
    o = ((n * OH + h) * OW + w) * F + f
    store_first(y, o, y0, F - f)
    if w + 1 < OW:
        store_first(y, o + F, y1, F - f)
    if h + 1 < OH:
        store_first(y, o + OW * F, y2, F - f)
        if w + 1 < OW:
            store_first(y, o + OW * F + F, y3, F - f)


# ---- The gradients behind a ReLU, without pooling --------------------------------------------------------------------

def suits_gradient(w, strides):
    """Return whether `gradients` is right for a convolution: both its images must have enough channels."""
    return suits(w, strides) and w.shape[3] <= _MOST_CHANNELS


def gradients(dy, y, x, w, pads, dx, dw, db):
    """Write dx, dw and db of `conv2d_relu` of stride 1. See reference.conv2d_relu_gradient; dx None is not computed.

    With g = dy where ReLU was on, the input gradient is the convolution of g, in a frame of two zeros less the padding,
    with w turned by 180 degrees, C and F exchanged: the block above. The weight gradient turns the algorithm round. The
    sum over a tile's outputs of g times its output is, as a function of the filter, linear; its coefficients are

        dw = G^T [ sum over tiles of (B d B^T) * (A^T g A) ] G

    so the sums over tiles are 16 products again, (C, tiles) @ (tiles, F), and G comes last, once.
    """
    (N, H, W, C), (_, OH, OW, F), lanes = x.shape, dy.shape, REGISTER_BYTES // w.itemsize
    masked = workspace("masked dy", dy.size + lanes, w.dtype)       # a vector may reach beyond the last filter
    TH, TW, CV, wide = -(-OH // 2), -(-OW // 2), -(-C // lanes) * lanes, -(-F // columns_of(w.dtype)) * columns_of(w.dtype)
    tiles = max(ROWS, min(TH * TW, _GRADIENT_BYTES // (16 * (CV + wide) * w.itemsize)))
    HP, WP = pads[0] + H + pads[1], pads[2] + W + pads[3]
    framed = any(pads) or x.dtype != w.dtype or CV > C or 2 * TH + 2 > HP or 2 * TW + 2 > WP
    HP, WP = max(HP, 2 * TH + 2), max(WP, 2 * TW + 2)
    chunk = chunk_of(N)
    chunks = -(-N // chunk)
    parts = workspace("dw parts", (chunks, 16 * C * wide), np.float64)
    db_parts = workspace("db parts", (chunks, F), np.float64)
    image = workspace("no image", 0, w.dtype) if framed else x.reshape(-1)
    geometry = Geometry(HP, WP, pads[0], pads[2], 3, 3, 1, 1, OH, OW, F, wide, framed, chunk)
    pixels = HP * WP * C + lanes if framed else 0
    run(_gradient_chunks, chunks, dy.reshape(-1), y.reshape(-1), masked, x, image, row_terms(tiles, CV), geometry,
        parts, db_parts, dtype=w.dtype,
        scratch=16 * (tiles * (CV + wide) + 2 * _LINE) + ROWS * columns_of(w.dtype) + pixels)
    run(_sum_transformed, C, parts, wide, dw.reshape(9, C, F), scratch=16 * wide, dtype=np.float64)
    sum_chunks(db_parts, F, db.reshape(1, F))
    if dx is not None:
        turned = workspace("turned", (3, 3, F, C), w.dtype)
        turned[...] = w[::-1, ::-1].transpose(0, 1, 3, 2)
        no_bias = workspace("no bias", C, w.dtype)
        no_bias[...] = 0
        frame = (2 - pads[0], 2 - pads[1], 2 - pads[2], 2 - pads[3])
        block(masked[:dy.size].reshape(dy.shape), turned, no_bias, frame, (H, W), 1, False, dx,
              workspace("no switches", 0, np.uint8))


@kernel
def _gradient_chunks(dy, y, masked, x, flat, terms, geometry, parts, db_parts, scratch, queue, lane):
    """Add up the 16 products of one chunk of images a unit; write `masked` for its images."""
    H, W, OH, OW, F, wide = geometry.H, geometry.W, geometry.OH, geometry.OW, geometry.F, geometry.wide
    (N, _, _, C), chunk, panel, tiles, TW = x.shape, geometry.per_unit, panel_of(masked), len(terms), (OW + 1) // 2
    row, CV, T = W * C, -(-C // width(masked)) * width(masked), (OH + 1) // 2 * TW
    V, at, offsets = pointer(scratch, lane * scratch.shape[1]), places(queue, lane), pointer(terms, 0)
    V_step, Z_step = tiles * CV + _LINE, tiles * wide + _LINE
    Z = pointer(V, 16 * V_step)
    out = pointer(Z, 16 * Z_step)
    frame, pixels, g = pointer(out, ROWS * panel), pointer(flat, 0), pointer(masked, 0)
    dy_at, y_at = pointer(dy, 0), pointer(y, 0)
    s = claim(queue, lane)
    while s >= 0:
        sums, db = pointer(parts, s * parts.shape[1]), pointer(db_parts, s * F)
        for i in range(parts.shape[1]):
            sums[i] = 0
        for f in range(F):
            db[f] = 0
        for n in range(s * chunk, min((s + 1) * chunk, N)):
            mark(dy_at, y_at, n * OH * OW * F, OH * OW * F, F, pointer(g, n * OH * OW * F), db)
            image, base = pixels, n * H * row
            if geometry.framed:
                fill_rows(x, n, 0, H, geometry, frame)
                image, base = frame, 0
            for first in range(0, T, tiles):
                count = min(tiles, T - first)
                i, j = first // TW, first % TW
                for t in range(count):
                    for c in range(0, C, width(masked)):
                        _transform_patch(image, base + (2 * i * W + 2 * j) * C + c, row, C, V, t * CV + c, V_step)
                    for f in range(0, F, width(masked)):
                        _transform_gradients(g, ((n * OH + 2 * i) * OW + 2 * j) * F + f, OW * F, F, 2 * i + 1 < OH,
                                             2 * j + 1 < OW, Z, t * wide + f, Z_step)
                    i, j = (i + 1, 0) if j + 1 == TW else (i, j + 1)
                for p in range(16):
                    for c in range(0, C, ROWS):
                        for r in range(ROWS):
                            at[r] = p * V_step + min(c + r, C - 1)
                        for f in range(0, wide, panel):
                            product_tile(V, at, offsets, count, Z, p * Z_step + f, wide, out, 0, panel)
                            for r in range(min(ROWS, C - c)):
                                for v in range(0, panel, width(masked)):
                                    add_to_float64(sums, (p * C + c + r) * wide + f + v, load(out, r * panel + v))
        s = claim(queue, lane)


@device
def _transform_gradients(g, i, row, F, below, beside, Z, o, step):
    """Write A^T g A of one tile's 2 x 2 gradients, for a vector of filters, to its 16 places in Z, `step` apart."""
    none = zeros(g)
    g00, g01 = load(g, i), load(g, i + F) if beside else none
    g10, g11 = load(g, i + row) if below else none, load(g, i + row + F) if below and beside else none
    _store_spread(Z, o, step, g00, g01)
    _store_spread(Z, o + 4 * step, step, add(g00, g10), add(g01, g11))
    _store_spread(Z, o + 8 * step, step, subtract(g00, g10), subtract(g01, g11))
    _store_spread(Z, o + 12 * step, step, subtract(none, g10), subtract(none, g11))


@device
def _store_spread(Z, o, step, g0, g1):
    store(Z, o, g0)
    store(Z, o + step, add(g0, g1))
    store(Z, o + 2 * step, subtract(g0, g1))
    store(Z, o + 3 * step, subtract(zeros(Z), g1))


@kernel
def _sum_transformed(parts, wide, dw, scratch, queue, lane):
    """Write dw (9, C, F) = G^T P G, P the sum over chunks, in order, of parts (chunks, 16 C wide); a channel a unit."""
    _, C, F = dw.shape
    P = pointer(scratch, lane * scratch.shape[1])
    c = claim(queue, lane)
    while c >= 0:
        for i in range(16 * wide):
            P[i] = 0
        for s in range(parts.shape[0]):
            for p in range(16):
                part, sums = pointer(parts, s * parts.shape[1] + (p * C + c) * wide), pointer(P, p * wide)
                for f in range(wide):
                    sums[f] += part[f]
        for f in range(F):
            for p in range(4):      # G^T from the left, in place: rows 0 to 2 of what were four
                p0, p1, p2, p3 = (P[p * wide + f], P[(4 + p) * wide + f], P[(8 + p) * wide + f], P[(12 + p) * wide + f])
                P[p * wide + f] = p0 + (p1 + p2) / 2
                P[(4 + p) * wide + f] = (p1 - p2) / 2
                P[(8 + p) * wide + f] = (p1 + p2) / 2 + p3
            for kh in range(3):
                p0, p1, p2, p3 = (P[4 * kh * wide + f], P[(4 * kh + 1) * wide + f], P[(4 * kh + 2) * wide + f],
                                  P[(4 * kh + 3) * wide + f])
                dw[3 * kh, c, f] = p0 + (p1 + p2) / 2
                dw[3 * kh + 1, c, f] = (p1 - p2) / 2
                dw[3 * kh + 2, c, f] = (p1 + p2) / 2 + p3
        c = claim(queue, lane)
