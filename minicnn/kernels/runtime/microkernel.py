"""The inner loop under every product of the fast engine, held in registers.

    out[r, f] = sum over terms k of  x[at[r] + terms[k]] * w[k, f]

A panel is two vectors of columns. Six rows of it are summed at a time, in twelve registers, from the first term to the last:
a term costs two loads of w and, for each row, one number of x in every lane. Nothing is stored in between.

                      w[k]  [ a ][ b ]
    x[at[0] + terms[k]]  -> [   ][   ]      12 sums; 12 more hold the chains that have ended (with AVX-512, else the stack)
      ...
    x[at[5] + terms[k]]  -> [   ][   ]

The left factor is read where it lies (implicit im2col): a row is known by where it begins, a term by how far behind that
it lies. So windows of any shape, stride and dilation are rows, and so are the elements of a window, of which the weight
gradient sums the pixels.

    forward            rows are windows or samples; a term is an element of the window; columns are filters
    weight gradient    rows are elements of the window; a term is a window or sample; columns are filters (of dy)

Blocking. A unit of work takes BLOCK terms of one panel of w, 48 KB with AVX-512, through all its rows before it goes on to
the next, so w comes from far away once a unit, whatever its size.

Rounding. A plain float32 running sum of n equal numbers drifts like n. Here a chain sums at most 48 terms, a block adds up at
most eight chains in float32, and blocks are added in float64. Over 20,000 constants the error stayed below 6.7 units in the
last place of the sum of magnitudes, for any number of terms; with chains of 64 it passed 8, with 96 12 (numerics A3).

Measured (one core of an AMD EPYC, operands in the first cache, GFLOP/s; its peak is 118):

    rows x vectors     4x2   6x2   8x1   8x2   12x1   12x2   14x2
    64 bytes           114   118   117   116    115    113    112
    32 bytes            95   116    97    99     62     98    100      16 registers: 6 x 2 + 2 + 1 fill them
    16 bytes            50    58    49    49     32     49     50

An Intel Xeon of two 512-bit units was measured elsewhere (peak 172): 8 x 1 143, 8 x 2 164, 12 x 2 174. 12 x 2 lost here all the
same: with a list of terms its twelve rows need more registers for addresses than there are (62), with runs of neighbours in
place of the list it has no registers left for the chains, which then go to memory every 48 terms (99 where 6 x 2 reaches
105, in a convolution), and runs of three terms, those of a grey 3x3 window, took 1.3 times as long.
"""

import functools

import numpy as np

from minicnn.kernels.runtime.jit import device
from minicnn.kernels.runtime.simd import (REGISTER_BYTES, add_to_float64, from_float64, load, load_first, pointer, prefetch, store,
                                          store_float64, width)
from minicnn.kernels.runtime.tile import add_tile, add_tiles, finish_tile, multiply_add, no_sums, rows_of, store_tile

__all__ = ["product_tile", "finished_tile", "cell_sums", "product_row", "add_block", "pack", "panel_of", "columns_of",
           "row_terms", "window_terms", "ones", "ROWS", "BLOCK"]

ROWS = 12                                   # of a tile: two passes of six, or three of four
BLOCK = 384                                 # terms at most in a block, whose sums are float32
_CHAIN = 48                                 # terms at most in a running sum


def columns_of(dtype):
    """Return how many columns a panel has: two vectors."""
    return 2 * REGISTER_BYTES // dtype.itemsize


@device
def panel_of(array):
    """Return how many columns a panel of the array's type has, in compiled code."""
    return 2 * width(array)


@device
def _chain(x, rows, terms, first, last, w, stride, none, ahead):
    """Return the tile of sums over terms first .. last-1, in a row."""
    tile, j = none, first * stride
    if ahead > 0:
        for r in range(len(rows)):
            for i in range(0, _CHAIN, 16):          # a line of float32
                prefetch(x, rows[r] + terms[first] + ahead + i, 0)
    for k in range(first, last):
        tile = multiply_add(tile, x, rows, terms[k], w, j)
        j += stride
    return tile


@device
def _sums(x, rows, terms, n, w, stride, none, ahead):
    """Return the tile of sums over n terms: chains, added up; w's rows lie `stride` apart."""
    # A constant 0 would be another type, for which numba compiles this and what it calls once more.
    sums = _chain(x, rows, terms, np.int64(0), min(_CHAIN, n), w, stride, none, ahead)
    for k in range(_CHAIN, n, _CHAIN):
        sums = add_tiles(sums, _chain(x, rows, terms, k, min(k + _CHAIN, n), w, stride, none, ahead))
    return sums


@device
def _put(out, apart, tile, fresh):
    """Store a tile, or add it to what is there; its rows lie `apart`."""
    if fresh:
        store_tile(out, 0, apart, tile)
    else:
        add_tile(out, 0, apart, tile)


@device
def product_tile(x, at, count, terms, n, w, stride, columns, out, apart, fresh):
    """Write a tile of a product over one block of terms to `out`, or add it to what is there if it is not `fresh`.

        out[r apart + f] = sum over k < n of x[at[r] + terms[k]] * w[k stride + f]

    Parameters
    ----------
    x, w, out : pointers; w at the block's first row, at the panel's first column
    at : pointer to 12 int64, where each row begins in x: past the last of `count` rows they may be any that exist, and
        what is written there is of no use
    terms : pointer to n int64, where each of the block's terms lies behind that
    columns : how many there are; where they are not more than a vector, half a panel is computed
    """
    if columns <= width(x):
        for r in range(0, count, 6):
            rows = rows_of(pointer(at, r), 6)
            _put(pointer(out, r * apart), apart, _sums(x, rows, terms, n, w, stride, no_sums(x, rows, 1), 0), fresh)
    elif count <= 4 or 6 < count <= 8:
        for r in range(0, count, 4):
            rows = rows_of(pointer(at, r), 4)
            _put(pointer(out, r * apart), apart, _sums(x, rows, terms, n, w, stride, no_sums(x, rows, 2), 0), fresh)
    else:
        for r in range(0, count, 6):
            rows = rows_of(pointer(at, r), 6)
            _put(pointer(out, r * apart), apart, _sums(x, rows, terms, n, w, stride, no_sums(x, rows, 2), 0), fresh)


@device
def finished_tile(x, at, count, terms, n, w, stride, columns, ahead, y, places, end):
    """Write a tile of the same sums where it belongs, of one block of terms and of whole vectors.

        y[places[r] + f] = max(sum * scale[f] + bias[f], low), NaN for NaN

    Past the last of `count` rows `at` and `places` have the last again, up to six.

    Parameters
    ----------
    ahead : how far behind each row lies one that comes next, from far away, and of which each number is read once; else 0
    end : a tuple of vectors, the two of the panel's scale, of its bias, then `low` in every lane
    """
    if columns <= width(x):
        for r in range(0, count, 6):
            rows = rows_of(pointer(at, r), 6)
            finish_tile(y, pointer(places, r), _sums(x, rows, terms, n, w, stride, no_sums(x, rows, 1), ahead), end)
    elif count <= 4 or 6 < count <= 8:
        for r in range(0, count, 4):
            rows = rows_of(pointer(at, r), 4)
            finish_tile(y, pointer(places, r), _sums(x, rows, terms, n, w, stride, no_sums(x, rows, 2), ahead), end)
    else:
        for r in range(0, count, 6):
            rows = rows_of(pointer(at, r), 6)
            finish_tile(y, pointer(places, r), _sums(x, rows, terms, n, w, stride, no_sums(x, rows, 2), ahead), end)


@device
def cell_sums(x, at, terms, n, w, stride):
    """Return the same sums of four rows, in registers."""
    rows = rows_of(at, 4)
    return _sums(x, rows, terms, n, w, stride, no_sums(x, rows, 2), np.int64(0))


@device
def product_row(x, at, terms, n, w, stride, panels, out):
    """Write the first row alone, of four panels or of one: the same sums, for one sample, which reads w once."""
    rows = rows_of(at, 1)
    if panels == 4:
        store_tile(out, 0, 0, _sums(x, rows, terms, n, w, stride, no_sums(x, rows, 8), 0))
    else:
        store_tile(out, 0, 0, _sums(x, rows, terms, n, w, stride, no_sums(x, rows, 2), 0))


@device
def pack(w, terms, stride, columns, packed):
    """Copy so many terms of a panel of w, whose rows lie `stride` apart, to `packed`, where they lie one panel apart.

    Columns that do not exist become zeros; nothing behind them is read.
    """
    L, panel = width(w), panel_of(w)
    for k in range(terms):
        i, o = k * stride, k * panel
        if columns >= panel:
            store(packed, o, load(w, i))
            store(packed, o + L, load(w, i + L))
        else:
            store(packed, o, load_first(w, i, min(columns, L)))
            store(packed, o + L, load_first(w, i + L, max(columns - L, 0)))


@device
def add_block(out, size, totals, k, blocks):
    """Add the sums of block k to the totals, in float64; with the last block, write the totals to `out`."""
    if blocks == 1:
        return
    L = width(out)
    for i in range(0, size, L):
        if k == 0:
            store_float64(totals, i, load(out, i))
        else:
            add_to_float64(totals, i, load(out, i))
        if k + 1 == blocks:
            store(out, i, from_float64(out, totals, i))


# ---- Terms -----------------------------------------------------------------------------------------------------------

@functools.lru_cache(256)
def window_terms(down, across, C, row):
    """Return where the elements of a window lie behind its first, in images of C channels and rows of `row` numbers.

    Its pixels lie at these distances below and beside its first, which are tuples.
    """
    return (np.array(down)[:, None, None] * row + np.array(across)[:, None] * C + np.arange(C)).reshape(-1)


@functools.lru_cache(256)
def row_terms(n, step=1):
    """Return 0, step, ... (n - 1) step."""
    return np.arange(n) * step


@functools.lru_cache(256)
def ones(n, dtype):
    """Return n ones, which scale what nothing else does."""
    return np.ones(n, dtype)
