"""Winograd's convolution F(4x4, 3x3): sixteen outputs of a 3x3 window for 36 products instead of 144.

Four outputs of a window g of three over six numbers d, along one axis, are values of a product of polynomials, and a product
of polynomials of degree 5 is known from its values at six points, here 0, a, -a, b, -b and infinity:

    y = A^T [ (G g) * (B^T d) ]

          1  1   1   1   1   0       1/(a2 b2)   0      0       a2 b2   0   -a2-b2   0    1  0      a2 = a a
    A^T = 0  a  -a   b  -b   0       1/m      a/m    a2/m         0  -a b2    -b2    a    1  0      b2 = b b
          0  a2  a2  b2  b2  0   G = 1/m     -a/m    a2/m   B^T = 0   a b2    -b2   -a    1  0      m = 2 a2 (a2 - b2)
          0  a3 -a3  b3 -b3  1       1/n      b/n    b2/n         0  -b a2    -a2    b    1  0      n = 2 b2 (b2 - a2)
                                     1/n     -b/n    b2/n         0   b a2    -a2   -b    1  0
                                      0        0      1           0   a2 b2    0 -a2-b2  0  1

The points decide the error: with a = 3/4 and b = 3/2 it is a quarter of that with the customary 1 and 2, and A and B hold only
numbers that float32 holds exactly.

Along both axes Y = A^T [ (G g G^T) * (B^T d B) ] A, and the sums over channels commute with A: 36 small matrix products,
one for each place p of the 6 x 6.

    6 x 6 x C patch of each tile --B--> V[p] (tiles, C)
                                        M[p] (tiles, F) = V[p] @ U[p],  U[p] (C, F) from the filters by G
    bias, ReLU (and 2x2 pooling) <--A-- M[0..35]            a tile is 4 x 4 outputs, or the 2 x 2 pooled cells of them

A unit is up to 52 tiles, of one image or of several, with all filters, or some where there would be few units. It transforms their
patches, then takes one panel of filters after the other, up to 96 channels at a time: it transforms these filters and takes them
through all 36 products. So w is what comes from far away, and not U, which is four times as large; U of a block and M of one panel
stay near. Of few weights and many tiles U is made once, to the same bits. A patch is read where it lies; one that reaches over
the border is copied into a small frame of zeros first.

The input gradient is the same convolution of dy with turned filters. The weight gradient turns the algorithm round: the sum
over a tile's outputs of dy times its output is, as a function of the filter, linear; its coefficients are

    dw = G^T [ sum over tiles of (B^T d B) * (A g A^T) ] G          g: the tile's 4 x 4 gradients

so the sums over tiles are 36 products again, (C, tiles) @ (tiles, F), and G comes last, once.

Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, sections 4.1 to 4.3; that points decide the error:
Barabasz et al., "Error Analysis and Improving the Accuracy of Winograd Convolution", ACM TOMS 46 (2020).

Error. An output depends on all 36 numbers of its patch, so what is promised is 16 eps of the largest sum of magnitudes among
the outputs of its tile (numerics A3); NaN and infinity reach the whole tile. Measured on 16 channels, the largest of 5,000
tiles: 4 eps, with the points 1 and 2 15 eps; of feature maps beside an edge of 1000 to 1, 5 and 17.

Measured (one core of an AMD EPYC with AVX-512, 3x3 `same`, operations counted as if all were done, GFLOP/s; sgemm reaches 60
to 100 on the equivalent products): 29x29x32 238, 56x56x64 340, 28x28x128 335, 14x14x256 255, 8x8x256 335, filters kept; weight
gradients 205, 310, 245, 140, 180.
On one core of an Intel Xeon (family 6, model 207), U of all filters made beforehand and in each unit, GFLOP/s: one image of 14x14x256 68
and 180, 14x14x512 57 and 180, 28x28x512 139 and 233, 7x7x512 12 and 85; eight of 7x7x512 65 and 153; as much where there are many tiles.
48, 64 or 128 channels at a time instead of 96 take 1.0 to 1.1 times as long.
What lost: fewer tiles in a unit, so that V stays in the second cache (0.9 at 256 channels: U is read more often); 64 or 96
terms to a chain of the weight gradient (0.95, 0.85); V of all channels there (0.7 at 256: sums go to memory and back).
"""

from typing import NamedTuple

import numpy as np

from minicnn.kernels.convolution.direct import finish_cell, turn
from minicnn.kernels.runtime.jit import device, kernel
from minicnn.kernels.runtime.microkernel import ROWS, columns_of, ones, panel_of, product_tile, row_terms
from minicnn.kernels.runtime.recording import derived
from minicnn.kernels.runtime.reduction import LARGEST, ChunkSums, batch_size, by_slices, chunk_of, put
from minicnn.kernels.runtime.simd import (REGISTER_BYTES, add, fma, load, load_first, multiply, pointer, rectify,
                                          splat, store, store_first, store_float64, subtract, width)
from minicnn.kernels.runtime.threads import run, workspace
from minicnn.kernels.runtime.work_queue import claim

__all__ = ["convolve", "input_gradient", "weight_gradient", "larger_chunk"]

_A, _B = 0.75, 1.5              # the points
_ZERO = _A**2 * _B**2           # the divisors of the rows of G, for 0, a and b
_NEAR, _FAR = 2 * _A**2 * (_A**2 - _B**2), 2 * _B**2 * (_B**2 - _A**2)
_GROUP = 64                     # channels to a unit of a weight gradient: its sums stay near
_UNITS = 16                     # of a weight gradient, at most
_LEAST = 64                     # tiles to a unit of it, at least
_MANY_TILES = 256               # of a chunk, which are worth 36 sums for each weight; less in chunks that grow no more
_TRANSFORMED = 16               # channels whose sums are transformed in a unit: they lie side by side
_LINE = 16                      # numbers more between the 36 places: a power of two apart, they share a set of the cache
_CHANNELS = 96                  # at most, whose filters are transformed at a time: U of a panel stays near
_TILES = 48                     # at most in a unit of a weight gradient, whose chains are as long
_MOST = 52                      # at most in a unit of the others: so many share one transform of the filters
_FEWEST = 8                     # units, so that all threads have some, if there are so many pairs of panels
_FEW = 2**14                    # filters times channels, of which U is made once where several units read it


def convolve(x, w, ends, pads, pool, rectified, y, switches):
    """Write the 3x3 convolution of stride 1, times the first of the `ends` (F,) plus the second, behind ReLU if `rectified`, and
    2x2 maxima and their switches if `pool` is 2."""
    (N, _, _, C), (_, OH, OW, F), lanes, panel = x.shape, y.shape, REGISTER_BYTES // w.itemsize, columns_of(w.dtype)
    CV, TH, TW = -(-C // lanes) * lanes, -(-OH * pool // 4), -(-OW * pool // 4)
    units, panels = -(-(N * TH * TW) // _MOST), -(-F // panel)
    tiles, channels = -(-(N * TH * TW) // units), -(-C // -(-C // _CHANNELS))
    group = -(-panels // min(-(-_FEWEST // units), -(-panels // 2))) * panel
    U = _filters(w, channels) if C * F <= _FEW and units > 1 else workspace("no filters", 0, w.dtype)
    run(_units, units * -(-F // group), x, _flat(x, w.dtype), (w, U, *ends), row_terms(C),
        _Tiling(TH, TW, tiles, pads[0], pads[2], channels, group), pool, rectified, (y, switches), integers=tiles + ROWS, dtype=w.dtype,
        scratch=36 * (tiles * CV + _LINE) + 36 * ((tiles + ROWS) * panel + _LINE) + max(36 * CV, 36 * (channels * panel + _LINE)))


def _flat(x, dtype):
    """Return x as its numbers in a row; nothing where they are of another dtype, that of pixels."""
    return x.reshape(-1) if x.dtype == dtype else workspace("no image", 0, dtype)


class _Tiling(NamedTuple):
    """How images are cut into tiles, and work into units."""

    TH: int                     # rows of tiles
    TW: int
    tiles: int                  # to a unit, or to a block of a weight gradient
    top: int                    # pads
    left: int
    chunk: int = 0              # images to a unit of a weight gradient; channels whose filters are transformed at a time
    group: int = 0              # channels to one, and filters to a unit of the others


def input_gradient(dy, w, pads, dx):
    """Write dx (N, H, W, C) of a convolution of stride 1 from dy (N, OH, OW, F): that of dy with turned filters."""
    _, _, C, F = w.shape
    turned, zero = workspace("turned", (3, 3, F, C), w.dtype), workspace("no bias", C, w.dtype)
    turn(w, (2, 1, 0), (2, 1, 0), turned)
    zero[...] = 0
    convolve(dy, turned, (ones(C, w.dtype), zero), tuple(2 - pad for pad in pads), 1, False, dx, workspace("no switches", 0, np.uint8))


# ---- Filters ---------------------------------------------------------------------------------------------------------

def _filters(w, channels):
    """Return U of w, the blocks of so many channels of a panel of filters one after another."""
    (_, _, C, F), panel = w.shape, columns_of(w.dtype)
    blocks = -(-C // channels) * -(-F // panel)
    return derived("U", blocks * 36 * (channels * panel + _LINE), w.dtype, lambda U: run(_transform_filters, blocks, w, channels, U), w)


@kernel
def _transform_filters(w, channels, U, scratch, queue, lane):
    """Transform a block of filters a unit."""
    (_, _, C, F), panel = w.shape, panel_of(w)
    blocks, size = -(-C // channels), 36 * (channels * panel + _LINE)
    unit = claim(queue, lane)
    while unit >= 0:
        _transform_block(w, unit // blocks * panel, unit % blocks * channels, channels, pointer(U, unit * size))
        unit = claim(queue, lane)


@device
def _transform_block(w, j, begin, channels, U):
    """Write U[p, channel, filter] of a panel of filters, from number j on, and some channels; places lie a line further apart."""
    (_, _, C, F), panel, L, filters = w.shape, panel_of(w), width(w), pointer(w, 0)
    for c in range(min(channels, C - begin)):
        for v in range(0, panel, L):
            _transform_filter(filters, (begin + c) * F + j + v, C * F, F - j - v, U, c * panel + v, channels * panel + _LINE)


@device
def _transform_filter(w, i, step, n, U, o, place):
    """Write G g G^T of a vector of filters, 36 numbers `place` apart; only the first n filters exist, the others become 0."""
    a = _spread3(load_first(w, i, n), load_first(w, i + 3 * step, n), load_first(w, i + 6 * step, n), w)
    b = _spread3(load_first(w, i + step, n), load_first(w, i + 4 * step, n), load_first(w, i + 7 * step, n), w)
    c = _spread3(load_first(w, i + 2 * step, n), load_first(w, i + 5 * step, n), load_first(w, i + 8 * step, n), w)
    for p in range(6):
        _store6(U, o + 6 * p * place, place, _spread3(a[p], b[p], c[p], w))


@device
def _spread3(g0, g1, g2, x):
    """Return G g."""
    p = fma(g2, splat(x, _A**2 / _NEAR), multiply(g0, splat(x, 1 / _NEAR)))
    q = fma(g2, splat(x, _B**2 / _FAR), multiply(g0, splat(x, 1 / _FAR)))
    return (multiply(g0, splat(x, 1 / _ZERO)), fma(g1, splat(x, _A / _NEAR), p), fma(g1, splat(x, -_A / _NEAR), p),
            fma(g1, splat(x, _B / _FAR), q), fma(g1, splat(x, -_B / _FAR), q), g2)


@device
def _store6(a, i, step, v):
    for p in range(6):
        store(a, i + p * step, v[p])


@device
def _load6(a, i, step):
    return (load(a, i), load(a, i + step), load(a, i + 2 * step), load(a, i + 3 * step), load(a, i + 4 * step),
            load(a, i + 5 * step))


# ---- Patches of x ----------------------------------------------------------------------------------------------------

@device
def _transform_patches(x, flat, channels, tiling, first, count, V, CV, step, frame, at):
    """Write B^T d B of so many tiles' patches, for a range of channels, to V, CV numbers a tile, places `step` apart.

    Where each tile begins there goes to `at`.
    """
    (_, H, W, C), (begin, end), pixels = x.shape, channels, pointer(flat, 0)
    TH, TW, top, left = tiling.TH, tiling.TW, tiling.top, tiling.left
    for t in range(count):
        at[t] = t * CV
        n, tile = (first + t) // (TH * TW), (first + t) % (TH * TW)
        h, w = 4 * (tile // TW) - top, 4 * (tile % TW) - left
        corner = ((n * H + h) * W + w) * C + begin
        # A vector may reach beyond the channels of the last pixel of all; flat is empty where pixels are bytes.
        source, row, pixel = pointer(pixels, corner), W * C, C
        if h < 0 or w < 0 or h + 6 > H or w + 6 > W or corner + (5 * W + 5) * C + CV > len(flat):
            _copy_patch(x, n, h, w, np.int64(6), begin, end, CV, frame)
            source, row, pixel = frame, 6 * CV, CV
        _transform_patch(source, row, pixel, end - begin, V, t * CV, step)


@device
def _copy_patch(x, n, h, w, side, begin, end, wide, frame):
    """Copy some channels of the `side` x `side` pixels from (h, w) on, `wide` numbers each; zeros where no image is."""
    _, H, W, C = x.shape
    for i in range(side * side * wide):
        frame[i] = 0
    for i in range(max(h, 0), min(h + side, H)):
        for j in range(max(w, 0), min(w + side, W)):
            of, to = pointer(x, ((n * H + i) * W + j) * C + begin), pointer(frame, ((i - h) * side + j - w) * wide)
            for c in range(end - begin):
                if x.dtype == np.dtype(np.uint8):
                    to[c] = np.float32(of[c]) / np.float32(255)
                else:
                    to[c] = of[c]


@device
def _transform_patch(x, row, pixel, C, V, o, step):
    """Write B^T d B of one patch, a vector of channels after the other."""
    for c in range(0, C, width(V)):
        d0, d1, d2, d3, d4, d5 = (_mix6(_load6(x, c, row), V), _mix6(_load6(x, c + pixel, row), V),
                                  _mix6(_load6(x, c + 2 * pixel, row), V), _mix6(_load6(x, c + 3 * pixel, row), V),
                                  _mix6(_load6(x, c + 4 * pixel, row), V), _mix6(_load6(x, c + 5 * pixel, row), V))
        for p in range(6):
            _store6(V, o + c + 6 * p * step, step, _mix6((d0[p], d1[p], d2[p], d3[p], d4[p], d5[p]), V))


@device
def _mix6(d, x):
    """Return B^T d."""
    near, far, both, product = splat(x, -_A**2), splat(x, -_B**2), splat(x, -_A**2 - _B**2), splat(x, _ZERO)
    p, q = fma(d[2], far, d[4]), multiply(fma(d[1], far, d[3]), splat(x, _A))
    r, s = fma(d[2], near, d[4]), multiply(fma(d[1], near, d[3]), splat(x, _B))
    return (fma(d[0], product, fma(d[2], both, d[4])), add(p, q), subtract(p, q), add(r, s), subtract(r, s),
            fma(d[1], product, fma(d[3], both, d[5])))


# ---- Forward ---------------------------------------------------------------------------------------------------------

@kernel
def _units(x, flat, filters_of, terms, tiling, pool, rectified, outputs, integers, scratch, queue, lane):
    """Do some tiles and filters a unit."""
    (w, U_whole, scale, b), (y, switches), (N, _, _, C), TH, TW, tiles = filters_of, outputs, x.shape, tiling.TH, tiling.TW, tiling.tiles
    F, panel, L, channels = y.shape[3], panel_of(w), width(w), tiling.chunk
    CV, groups = -(-C // L) * L, -(-F // tiling.group)
    V_step, M_step, U_step = tiles * CV + _LINE, (tiles + ROWS) * panel + _LINE, channels * panel + _LINE
    V, at = pointer(scratch, lane * scratch.shape[1]), pointer(integers, lane * integers.shape[1])
    M, offsets = pointer(V, 36 * V_step), pointer(terms, 0)
    own = pointer(M, 36 * M_step)               # U of a block, or the frame of a patch before
    scales, bias, y_at, switches_at = pointer(scale, 0), pointer(b, 0), pointer(y, 0), pointer(switches, 0)
    unit = claim(queue, lane)
    while unit >= 0:
        first, left = unit // groups * tiles, unit % groups * tiling.group
        count = min(tiles, N * TH * TW - first)
        _transform_patches(x, flat, (np.int64(0), C), tiling, first, count, V, CV, V_step, own, at)
        for t in range(count, count + ROWS):
            at[t] = 0
        for j in range(left, min(left + tiling.group, F), panel):
            for begin in range(0, C, channels):
                if len(U_whole) > 0:
                    U = pointer(U_whole, (j // panel * -(-C // channels) + begin // channels) * 36 * U_step)
                else:
                    U = own
                    _transform_block(w, j, begin, channels, U)
                for p in range(36):
                    for t in range(0, count, ROWS):
                        product_tile(pointer(V, p * V_step + begin), pointer(at, t), min(ROWS, count - t), offsets, min(channels, C - begin),
                                     pointer(U, p * U_step), panel, min(panel, F - j), pointer(M, p * M_step + t * panel), panel,
                                     begin == 0)
            for t in range(count):
                n, tile = (first + t) // (TH * TW), (first + t) % (TH * TW)
                for v in range(0, min(panel, F - j), L):
                    ends = load_first(scales, j + v, F - j - v), load_first(bias, j + v, F - j - v)
                    _finish_tile(M, t * panel + v, M_step, ends, (n, tile // TW, tile % TW, j + v), pool, rectified, y.shape, y_at,
                                 switches_at)
        unit = claim(queue, lane)


@device
def _sum6(m, x):
    """Return A^T m."""
    p, q, r, s = add(m[1], m[2]), subtract(m[1], m[2]), add(m[3], m[4]), subtract(m[3], m[4])
    return (add(add(m[0], p), r), fma(s, splat(x, _B), multiply(q, splat(x, _A))),
            fma(r, splat(x, _B**2), multiply(p, splat(x, _A**2))),
            fma(s, splat(x, _B**3), fma(q, splat(x, _A**3), m[5])))


@device
def _finish_tile(M, m, step, ends, place, pool, rectified, shape, y, switches):
    """Store one tile's 4 x 4 outputs of a vector of filters, or the largest of each 2 x 2 and its place.

    Sixteen sums go back to the first places of M: a loop over them is a third of the code of sixteen stores written out.
    """
    s0, s1, s2, s3, s4, s5 = (_sum6(_load6(M, m, 6 * step), M), _sum6(_load6(M, m + step, 6 * step), M),
                              _sum6(_load6(M, m + 2 * step, 6 * step), M), _sum6(_load6(M, m + 3 * step, 6 * step), M),
                              _sum6(_load6(M, m + 4 * step, 6 * step), M), _sum6(_load6(M, m + 5 * step, 6 * step), M))
    rows = (_sum6((s0[0], s1[0], s2[0], s3[0], s4[0], s5[0]), M), _sum6((s0[1], s1[1], s2[1], s3[1], s4[1], s5[1]), M),
            _sum6((s0[2], s1[2], s2[2], s3[2], s4[2], s5[2]), M), _sum6((s0[3], s1[3], s2[3], s3[3], s4[3], s5[3]), M))
    (n, i, j, f), (_, OH, OW, F) = place, shape
    if pool == 2:
        # Of cells that do not exist no filter is stored. A loop over the four takes 3 % longer: they would lie in memory.
        o, below, beside = ((n * OH + 2 * i) * OW + 2 * j) * F + f, (F - f) * (2 * i + 1 < OH), 2 * j + 1 < OW
        finish_cell(rows[0][0], rows[0][1], rows[1][0], rows[1][1], ends, rectified, y, switches, o, F - f)
        finish_cell(rows[0][2], rows[0][3], rows[1][2], rows[1][3], ends, rectified, y, switches, o + F, (F - f) * beside)
        finish_cell(rows[2][0], rows[2][1], rows[3][0], rows[3][1], ends, rectified, y, switches, o + OW * F, below)
        finish_cell(rows[2][2], rows[2][3], rows[3][2], rows[3][3], ends, rectified, y, switches, o + OW * F + F, below * beside)
        return
    for h in range(4):
        for w in range(4):
            store(M, m + (4 * h + w) * step, rows[h][w])
    for h in range(4 * i, min(4 * i + 4, OH)):
        for w in range(4 * j, min(4 * j + 4, OW)):
            total = fma(load(M, m + (4 * (h - 4 * i) + w - 4 * j) * step), ends[0], ends[1])
            store_first(y, ((n * OH + h) * OW + w) * F + f, rectify(total) if rectified else total, F - f)


# ---- The weight gradient ---------------------------------------------------------------------------------------------

def weight_gradient(dy, x, pads, dw):
    """Write dw (3, 3, C, F) of a convolution of stride 1 from dy (N, OH, OW, F) and x (N, H, W, C)."""
    large = larger_chunk(batch_size(len(dy)), -(-dy.shape[1] // 4) * -(-dy.shape[2] // 4), x.shape[3])
    if large is None:
        _weight_gradient(dy, x, pads, dw)
    else:
        by_slices(lambda dy, x, dw: _weight_gradient(dy, x, pads, dw, large), dy, x, dw, large)


def larger_chunk(N, tiles, C):
    """Return how many images are summed at a time, for a batch of N of so many tiles, where the batch's own chunks are too small.

    Each chunk has 36 sums for each weight, which so few tiles are not worth. None where the chunks are large enough.
    """
    own, large = chunk_of(N), max(2, -(-N // max(1, _UNITS // -(-C // _GROUP))), -(-_LEAST // tiles))
    enough = own * tiles >= (_LEAST if own == LARGEST else _MANY_TILES)
    return None if large <= own or enough else large


def _weight_gradient(dy, x, pads, dw, chunk=None):
    """Write dw, summed over chunks of so many images, or of the size that a batch's chunks have."""
    (N, OH, OW, F), C, lanes, panel = dy.shape, x.shape[3], REGISTER_BYTES // dy.itemsize, columns_of(dy.dtype)
    TH, TW, wide, group = -(-OH // 4), -(-OW // 4), -(-F // panel) * panel, min(_GROUP, -(-C // lanes) * lanes)
    groups, rows = -(-C // group), -(-group // ROWS) * ROWS
    sums = ChunkSums(N, 9 * C * F, chunk, max(1, _UNITS // groups))
    of_chunk = min(sums.chunk, batch_size(N)) * TH * TW
    tiles = -(-of_chunk // -(-of_chunk // _TILES))
    tiling = _Tiling(TH, TW, tiles, pads[0], pads[2], sums.chunk, group)
    for some in sums.rounds():
        parts = workspace("dw parts", (len(sums.parts), 36 * groups * rows * wide), dy.dtype)
        run(_gradient_chunks, len(parts) * groups, dy[some], x[some], _flat(x[some], dy.dtype), row_terms(tiles, group), tiling,
            parts, integers=max(tiles, ROWS), dtype=dy.dtype,
            scratch=36 * (tiles * (group + wide) + 2 * _LINE) + max(36 * group, 16 * wide))
        run(_transform_sums, len(parts) * -(-C // _TRANSFORMED), parts, group, sums.parts.reshape(-1, 9, C, F), scratch=36 * panel, dtype=np.float64)
    sums.finish(lambda total: put(total, dw))


@kernel
def _gradient_chunks(dy, x, flat, terms, tiling, parts, integers, scratch, queue, lane):
    """Add up the 36 products of one chunk of images and one group of channels a unit: parts[p, panel, group, channel, filter].

    A group has whole tiles of channels there: what a tile writes behind the last channel is nobody else's.
    """
    (N, OH, OW, F), C, panel, L, gradient = dy.shape, x.shape[3], panel_of(dy), width(dy), pointer(dy, 0)
    TW, of_image, tiles, chunk, group = tiling.TW, tiling.TH * tiling.TW, tiling.tiles, tiling.chunk, tiling.group
    panels, rows, groups = -(-F // panel), -(-group // ROWS) * ROWS, -(-C // group)
    V_step, Z_step = tiles * group + _LINE, tiles * panels * panel + _LINE
    V, at = pointer(scratch, lane * scratch.shape[1]), pointer(integers, lane * integers.shape[1])
    Z, offsets = pointer(V, 36 * V_step), pointer(terms, 0)
    frame = pointer(Z, 36 * Z_step)
    unit = claim(queue, lane)
    while unit >= 0:
        s, begin = unit // groups, unit % groups * group
        channels, start, end = min(group, C - begin), s * chunk * of_image, min((s + 1) * chunk, N) * of_image
        sums = pointer(parts, s * parts.shape[1] + unit % groups * rows * panel)
        for first in range(start, end, tiles):
            count = min(tiles, end - first)
            _transform_patches(x, flat, (begin, begin + channels), tiling, first, count, V, group, V_step, frame, at)
            for t in range(count):
                n, tile = (first + t) // of_image, (first + t) % of_image
                h, w = 4 * (tile // TW), 4 * (tile % TW)
                source, row, pixel = pointer(gradient, ((n * OH + h) * OW + w) * F), OW * F, F
                if h + 4 > OH or w + 4 > OW or F % L > 0:
                    _copy_patch(dy, n, h, w, np.int64(4), np.int64(0), F, panels * panel, frame)
                    source, row, pixel = frame, 4 * panels * panel, panels * panel
                for f in range(0, F, L):
                    _transform_gradients(pointer(source, f), row, pixel,
                                         pointer(Z, (f // panel * tiles + t) * panel + f % panel), Z_step)
            for p in range(36 if count < tiles else 0):         # behind the last tile of a chunk: nothing
                for i in range(count * group, tiles * group):
                    V[p * V_step + i] = 0
                for j in range(panels):
                    for i in range((j * tiles + count) * panel, (j + 1) * tiles * panel):
                        Z[p * Z_step + i] = 0
            for p in range(36):
                for c in range(0, channels, ROWS):
                    for r in range(ROWS):
                        at[r] = min(c + r, channels - 1)
                    for j in range(panels):
                        product_tile(pointer(V, p * V_step), at, min(ROWS, channels - c), offsets, tiles,
                                     pointer(Z, p * Z_step + j * tiles * panel), panel, min(panel, F - j * panel),
                                     pointer(sums, ((p * panels + j) * groups * rows + c) * panel), panel, first == start)
        unit = claim(queue, lane)


@device
def _transform_gradients(g, row, pixel, Z, step):
    """Write A g A^T of 4 x 4 gradients, for a vector of filters."""
    g0, g1, g2, g3 = (_load4(g, 0, pixel), _load4(g, row, pixel), _load4(g, 2 * row, pixel), _load4(g, 3 * row, pixel))
    a, b, c, d = (_spread4(g0[0], g1[0], g2[0], g3[0], Z), _spread4(g0[1], g1[1], g2[1], g3[1], Z),
                  _spread4(g0[2], g1[2], g2[2], g3[2], Z), _spread4(g0[3], g1[3], g2[3], g3[3], Z))
    for p in range(6):
        _store6(Z, 6 * p * step, step, _spread4(a[p], b[p], c[p], d[p], Z))


@device
def _load4(a, i, step):
    return load(a, i), load(a, i + step), load(a, i + 2 * step), load(a, i + 3 * step)


@device
def _spread4(g0, g1, g2, g3, x):
    """Return A g."""
    p, q = fma(g2, splat(x, _A**2), g0), multiply(fma(g3, splat(x, _A**2), g1), splat(x, _A))
    r, s = fma(g2, splat(x, _B**2), g0), multiply(fma(g3, splat(x, _B**2), g1), splat(x, _B))
    return g0, add(p, q), subtract(p, q), add(r, s), subtract(r, s), g3


@kernel
def _transform_sums(parts, group, dw, scratch, queue, lane):
    """Write dw (chunks, 9, C, F) = G^T S G of a chunk and some channels a unit, S its part."""
    (_, _, C, F), panel = dw.shape, panel_of(parts)
    S, panels, rows = pointer(scratch, lane * scratch.shape[1]), -(-F // panel), -(-group // ROWS) * ROWS
    of_panel, units, dw_at = -(-C // group) * rows, -(-C // _TRANSFORMED), pointer(dw, 0)
    unit = claim(queue, lane)
    while unit >= 0:
        s, first = unit // units, unit % units * _TRANSFORMED
        for j in range(panels):
            for c in range(first, min(first + _TRANSFORMED, C)):
                for p in range(36):
                    row = (p * panels + j) * of_panel + c // group * rows + c % group
                    part = pointer(parts, s * parts.shape[1] + row * panel)
                    for f in range(0, panel, width(part)):
                        store_float64(S, p * panel + f, load(part, f))
                for i in range(9):                  # G^T from the left, in place: rows 0 to 2 of what were six; then G
                    row, step = (i, 6) if i < 6 else (6 * (i - 6), 1)
                    _gather3(pointer(S, row * panel), step * panel, panel)
                for k in range(9):
                    sums, to = pointer(S, (6 * (k // 3) + k % 3) * panel), ((s * 9 + k) * C + c) * F + j * panel
                    for f in range(0, min(panel, F - j * panel), width(S)):
                        store_first(dw_at, to + f, load(sums, f), F - j * panel - f)
        unit = claim(queue, lane)


@device
def _gather3(s, step, n):
    """Replace the first three of six rows, `step` apart, by G^T s."""
    zero, near, far = splat(s, 1 / _ZERO), splat(s, 1 / _NEAR), splat(s, 1 / _FAR)
    for f in range(0, n, width(s)):
        s0, s1, s2, s3, s4, s5 = _load6(s, f, step)
        p, q = multiply(add(s1, s2), near), multiply(subtract(s1, s2), near)
        r, t = multiply(add(s3, s4), far), multiply(subtract(s3, s4), far)
        store(s, f, fma(s0, zero, add(p, r)))
        store(s, step + f, fma(q, splat(s, _A), multiply(t, splat(s, _B))))
        store(s, 2 * step + f, fma(p, splat(s, _A**2), fma(r, splat(s, _B**2), s5)))
