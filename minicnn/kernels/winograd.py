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

What the bound of 8 eps (numerics A3) holds for, as tested: normal, uniform and constant numbers, feature maps behind a
ReLU, radiographs' own feature maps; 16 to 64 channels. What it does not hold for: a window in which all but one or two
channels are 0 everywhere (C = 32: one alone 244 eps, two 15, four 3.4), because then few products stand against a whole
patch's rounding; or whose channels differ by five orders of magnitude (9.4). Relative to the largest output of the image
the error stays below 1e-6 there too.
"""

from minicnn.kernels.board import claim, places
from minicnn.kernels.frames import fill_rows, store_first
from minicnn.kernels.jit import device, kernel
from minicnn.kernels.simd import (REGISTER_BYTES, add, choose, load, multiply, pointer, rectify, splat, store,
                                  subtract, width, zeros)
from minicnn.kernels.threads import run, workspace
from minicnn.kernels.tiles import ROWS, in_panels, panel_of, product_tile, row_terms

__all__ = ["suits", "block"]

_CHANNELS_AND_FILTERS = 16              # at least
_MOST_CHANNELS = 64
_CHANNELS = 32                  # whose filters are transformed in a unit
_BYTES = 2**18                  # for V and M of a block of tiles: they should stay in the second cache


def suits(w, strides):
    """Return whether this algorithm is right for a convolution: 3x3, stride 1, and channels as above."""
    KH, KW, C, F = w.shape
    return ((KH, KW) == (3, 3) and tuple(strides) == (1, 1) and min(C, F) >= _CHANNELS_AND_FILTERS
            and C <= _MOST_CHANNELS)


def block(x, w, b, pads, size, pool, y, switches):
    """Write conv2d + ReLU (pool 1), or conv2d + ReLU + 2x2 pooling with its switches (pool 2), to y. See blocks.py."""
    (N, H, W, C), F, (PH, PW) = x.shape, w.shape[3], size
    panels, wide = in_panels(w.reshape(-1, F))
    bias, _ = in_panels(b.reshape(1, F), "bias")
    U = workspace("U", 16 * C * wide, w.dtype)
    run(_transform_filters, -(-C // _CHANNELS), panels, wide, C, U)
    # Channels are transformed a vector at a time. Where the last vector reaches beyond them, so beyond the image, the image
    # is framed; it also is where it is padded, or where the last tile of an odd map reaches a row or column too far.
    lanes = REGISTER_BYTES // w.itemsize
    CV = -(-C // lanes) * lanes
    TH, TW = (PH, PW) if pool == 2 else (-(-PH // 2), -(-PW // 2))
    # Of one image alone a block is smaller, so that all threads have some.
    most = max(ROWS, min(40 if N > 4 else 16, _BYTES // (16 * (CV + wide) * w.itemsize)) // ROWS * ROWS)
    tiles = -(-(TH * TW) // -(-(TH * TW) // most))                  # blocks of equal size, as large as may be
    tiles = -(-tiles // ROWS) * ROWS
    W += pads[2] + pads[3]
    framed = any(pads) or x.dtype != w.dtype or CV > C or 2 * TH + 2 > H or 2 * TW + 2 > W
    W = max(W, 2 * TW + 2)
    rows = 2 * ((tiles - 1) // TW + 2) + 2 if framed else 0
    image = workspace("no image", 0, w.dtype) if framed else x.reshape(-1)
    run(_blocks_of_tiles, N * -(-(TH * TW) // tiles), x, image, U, wide, bias, row_terms(C), pads, W, framed, (TH, TW),
        tiles, size, pool, F, y.reshape(-1), switches, scratch=16 * tiles * (CV + wide) + 64 + rows * W * C + lanes, dtype=w.dtype)


@kernel
def _transform_filters(w, wide, C, U, scratch, board, lane):
    """Write U[p] = G g G^T of each filter and channel; some channels are a unit, a vector holds filters."""
    filters, step, half = pointer(w, 0), C * wide, splat(w, 0.5)
    unit = claim(board, lane)
    while unit >= 0:
        for i in range(unit * _CHANNELS * wide, min((unit + 1) * _CHANNELS, C) * wide, width(w)):
            g = pointer(filters, i)
            for kw in range(4):
                # Column kw of g G^T, then G times it.
                g0, g1, g2 = _along(g, 0, kw, step), _along(g, 3, kw, step), _along(g, 6, kw, step)
                even, odd = multiply(half, add(g0, g2)), multiply(half, g1)
                u = pointer(U, kw * step + i)
                store(u, 0, g0)
                store(u, 4 * step, add(even, odd))
                store(u, 8 * step, subtract(even, odd))
                store(u, 12 * step, g2)
        unit = claim(board, lane)


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
def _blocks_of_tiles(x, flat, U, wide, b, channels, pads, W, framed, grid, tiles, size, pool, F, y, switches, scratch, board,
                     lane):
    (TH, TW), C, panel = grid, x.shape[3], panel_of(U)
    T, row = TH * TW, W * C
    blocks, CV = -(-T // tiles), -(-C // width(U)) * width(U)
    V, at, terms = pointer(scratch, lane * scratch.shape[1]), places(board, lane), pointer(channels, 0)
    M, spare = pointer(V, 16 * tiles * CV), pointer(V, 16 * tiles * (CV + wide))
    frame, pixels, filters, bias = pointer(spare, 64), pointer(flat, 0), pointer(U, 0), pointer(b, 0)
    y_at, switches_at = pointer(y, 0), pointer(switches, 0)
    unit = claim(board, lane)
    while unit >= 0:
        n, first = unit // blocks, unit % blocks * tiles
        last = min(first + tiles, T)
        top, image, base = 0, pixels, n * x.shape[1] * row
        if framed:
            top, image, base = 2 * (first // TW), frame, 0
            fill_rows(x, n, top, 2 * ((last - 1) // TW) + 4, pads, W, frame)
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
                    product_tile(V, at, terms, C, filters, p * C * wide + j, wide, M, (p * tiles + t) * wide + j, wide)
        i, j = first // TW, first % TW
        for t in range(last - first):
            for f in range(0, F, width(U)):
                _finish_tile(M, t * wide + f, tiles * wide, bias, f, n, i, j, size, pool, F, spare, y_at,
                             switches_at)
            i, j = (i + 1, 0) if j + 1 == TW else (i, j + 1)
        unit = claim(board, lane)


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
def _finish_tile(M, m, step, b, f, n, i, j, size, pool, F, spare, y, switches):
    """Store one tile's four outputs of a vector of filters, or the largest of them and its place."""
    (PH, PW), bias = size, load(b, f)
    s0, s1, s2, s3 = (_sum_column(M, m, step), _sum_column(M, m + step, step), _sum_column(M, m + 2 * step, step),
                      _sum_column(M, m + 3 * step, step))
    y0 = add(add(add(s0[0], s1[0]), s2[0]), bias)
    y1 = add(subtract(subtract(s1[0], s2[0]), s3[0]), bias)
    y2 = add(add(add(s0[1], s1[1]), s2[1]), bias)
    y3 = add(subtract(subtract(s1[1], s2[1]), s3[1]), bias)
    if pool == 2:
        place = choose(y1, y0, splat(M, 1), zeros(M))
        best = choose(y1, y0, y1, y0)
        place, best = choose(y2, best, splat(M, 2), place), choose(y2, best, y2, best)
        place, best = choose(y3, best, splat(M, 3), place), choose(y3, best, y3, best)
        o = ((n * PH + i) * PW + j) * F + f
        store_first(place, F - f, spare, switches, o, True)
        store_first(rectify(best), F - f, spare, y, o, False)
        return
    h, w = 2 * i, 2 * j
    o = ((n * PH + h) * PW + w) * F + f
    store_first(rectify(y0), F - f, spare, y, o, False)
    if w + 1 < PW:
        store_first(rectify(y1), F - f, spare, y, o + F, False)
    if h + 1 < PH:
        store_first(rectify(y2), F - f, spare, y, o + PW * F, False)
        if w + 1 < PW:
            store_first(rectify(y3), F - f, spare, y, o + PW * F + F, False)
