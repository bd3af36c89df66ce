"""The inner loop under every product of the fast engine, held in registers.

A tile is 8 rows x one panel of 64 bytes (16 columns of float32, 8 of float64). It is accumulated in 8 registers, enough
independent sums to hide the latency of a fused multiply-add:

    with AVX-512, 8 rows x 1 vector         with AVX, twice 4 rows x 2 vectors (with SSE or NEON, 4 times)

    r0 [ a ]                                r0 [ a a ]
    ..                                      ..
    r7 [ a ]                                r3 [ a a ]

    forward            rows are windows or samples; a term is an element of the window; columns are filters
    weight gradient    rows are elements of the window; a term is a window or sample; columns are filters (of dy)

Measured on one core of an AVX-512 machine with a peak of 118 GFLOP/s: 113 at COV-19Net's first convolution, 116 at its
second; with the 4 x 2 tile of AVX, 108 and 108.

Rounding. A plain float32 running sum of n equal numbers drifts like n. Here at most 16 terms are summed in a row; at
most 16 such sums are added to the next level, and so on for four levels: over 20,000 constants the error stayed below
5.1 units in the last place of the sum of magnitudes up to 23,328 terms (8.1 with three levels of 32, and no faster).
"""

import functools

import numpy as np

from minicnn.kernels.runtime.jit import device, kernel
from minicnn.kernels.runtime.simd import REGISTER_BYTES, add, broadcast, fma, load, store, width, zeros
from minicnn.kernels.runtime.threads import workspace

__all__ = ["product_tile", "product_row", "panel_of", "columns_of", "in_panels", "window_terms", "row_terms", "ROWS"]

ROWS = 8
_TERMS = 16
_PANEL_BYTES = 64
_REGISTERS = _PANEL_BYTES // REGISTER_BYTES        # of a panel's width


def columns_of(dtype):
    """Return how many columns a panel has: 16 of float32, 8 of float64."""
    return _PANEL_BYTES // dtype.itemsize


@device
def panel_of(array):
    """Return how many columns a panel of the array's type has, in compiled code."""
    return width(array) * _REGISTERS


@device
def _zeros(x):
    z = zeros(x)
    return (z, z, z, z, z, z, z, z)


@device
def _sums(p, q):
    return (add(p[0], q[0]), add(p[1], q[1]), add(p[2], q[2]), add(p[3], q[3]),
            add(p[4], q[4]), add(p[5], q[5]), add(p[6], q[6]), add(p[7], q[7]))


# ---- How 8 rows x 64 bytes lie in registers: one pass of 8 x 1 vectors, or passes of 4 rows x 2 vectors ------------------
# at[r] is where row r begins in x. A pass covers _PASS_ROWS rows from row `r` and _PASS_VECTORS vectors from column `j`.

if REGISTER_BYTES == 64:
    _PASS_ROWS, _PASS_VECTORS = 8, 1

    @device
    def _multiply_add(x, at, r, offset, w, j, t):
        """Return t[i] + x[at[r + i] + offset] * w[j : j + 1 vector] for the rows i of a pass."""
        w0 = load(w, j)
        return (fma(broadcast(x, at[r] + offset), w0, t[0]), fma(broadcast(x, at[r + 1] + offset), w0, t[1]),
                fma(broadcast(x, at[r + 2] + offset), w0, t[2]), fma(broadcast(x, at[r + 3] + offset), w0, t[3]),
                fma(broadcast(x, at[r + 4] + offset), w0, t[4]), fma(broadcast(x, at[r + 5] + offset), w0, t[5]),
                fma(broadcast(x, at[r + 6] + offset), w0, t[6]), fma(broadcast(x, at[r + 7] + offset), w0, t[7]))
else:
    _PASS_ROWS, _PASS_VECTORS = 4, 2

    @device
    def _multiply_add(x, at, r, offset, w, j, t):
        """Return t[2 i + v] + x[at[r + i] + offset] * w[j + v vectors : ...] for the rows i of a pass, v = 0, 1."""
        x0, x1 = broadcast(x, at[r] + offset), broadcast(x, at[r + 1] + offset)
        x2, x3 = broadcast(x, at[r + 2] + offset), broadcast(x, at[r + 3] + offset)
        w0, w1 = load(w, j), load(w, j + width(w))
        return (fma(x0, w0, t[0]), fma(x0, w1, t[1]), fma(x1, w0, t[2]), fma(x1, w1, t[3]),
                fma(x2, w0, t[4]), fma(x2, w1, t[5]), fma(x3, w0, t[6]), fma(x3, w1, t[7]))


@device
def _store_pass(y, at, stride, t):
    """Store the rows of a pass, the first beginning at `at`, `stride` apart."""
    if _PASS_VECTORS == 1:
        store(y, at, t[0])
        store(y, at + stride, t[1])
        store(y, at + 2 * stride, t[2])
        store(y, at + 3 * stride, t[3])
        store(y, at + 4 * stride, t[4])
        store(y, at + 5 * stride, t[5])
        store(y, at + 6 * stride, t[6])
        store(y, at + 7 * stride, t[7])
    else:
        lanes = width(y)
        store(y, at, t[0])
        store(y, at + lanes, t[1])
        store(y, at + stride, t[2])
        store(y, at + stride + lanes, t[3])
        store(y, at + 2 * stride, t[4])
        store(y, at + 2 * stride + lanes, t[5])
        store(y, at + 3 * stride, t[6])
        store(y, at + 3 * stride + lanes, t[7])


@device
def _multiply_add_row(x, at, r, offset, w, j, t):
    """Return t[v] + x[at[r] + offset] * w[j + v vectors : ...] for eight vectors of one row."""
    x0, L = broadcast(x, at[r] + offset), width(w)
    return (fma(x0, load(w, j), t[0]), fma(x0, load(w, j + L), t[1]), fma(x0, load(w, j + 2 * L), t[2]),
            fma(x0, load(w, j + 3 * L), t[3]), fma(x0, load(w, j + 4 * L), t[4]), fma(x0, load(w, j + 5 * L), t[5]),
            fma(x0, load(w, j + 6 * L), t[6]), fma(x0, load(w, j + 7 * L), t[7]))


# ---- The loop --------------------------------------------------------------------------------------------------------

@device
def _sum_16(x, at, r, terms, first, last, w, j, stride, by_row):
    tile = _zeros(x)
    for k in range(first, last):
        if by_row:
            tile = _multiply_add_row(x, at, r, terms[k], w, j + k * stride, tile)
        else:
            tile = _multiply_add(x, at, r, terms[k], w, j + k * stride, tile)
    return tile


@device
def _sum_256(x, at, r, terms, first, last, w, j, stride, by_row):
    tile = _sum_16(x, at, r, terms, first, min(first + _TERMS, last), w, j, stride, by_row)
    for k in range(first + _TERMS, last, _TERMS):
        tile = _sums(tile, _sum_16(x, at, r, terms, k, min(k + _TERMS, last), w, j, stride, by_row))
    return tile


@device
def _sum_all(x, at, r, terms, K, w, j, stride, by_row):
    tile = _sum_256(x, at, r, terms, 0, min(_TERMS**2, K), w, j, stride, by_row)
    if K > _TERMS**2:
        third, fourth = tile, _zeros(x)
        for k in range(_TERMS**2, K, _TERMS**2):
            if k % _TERMS**3 == 0:
                fourth, third = _sums(fourth, third), _zeros(x)
            third = _sums(third, _sum_256(x, at, r, terms, k, min(k + _TERMS**2, K), w, j, stride, by_row))
        tile = _sums(fourth, third)
    return tile


@device
def product_tile(x, at, terms, K, w, j, stride, y, o, y_stride):
    """Store 8 rows x one panel of a product whose left factor is read where it lies (implicit im2col).

    y[o + r y_stride + f] = sum over k < K of x[at[r] + terms[k]] * w[j + k stride + f]

    Parameters
    ----------
    x, w, y : pointers
    at : pointer to 8 int64: where each row begins in x
    terms : pointer to K int64: where term k lies behind it. For a convolution's window, KH runs of KW C numbers, one
        image row apart; for a dense layer 0, 1, 2, ...
    """
    for r in range(0, ROWS, _PASS_ROWS):
        for v in range(0, panel_of(x), _PASS_VECTORS * width(x)):
            _store_pass(y, o + r * y_stride + v, y_stride, _sum_all(x, at, r, terms, K, w, j + v, stride,
                                                                           False))


@device
def product_row(x, at, terms, K, w, j, stride, y, o, F):
    """Store the first of the 8 rows alone, F columns (a whole number of panels): the same sums, in the same order.

    A tile of which one row is wanted would do eight times the work.
    """
    L = width(x)
    for f in range(0, F - F % (8 * L), 8 * L):
        t = _sum_all(x, at, 0, terms, K, w, j + f, stride, True)
        store(y, o + f, t[0])
        store(y, o + f + L, t[1])
        store(y, o + f + 2 * L, t[2])
        store(y, o + f + 3 * L, t[3])
        store(y, o + f + 4 * L, t[4])
        store(y, o + f + 5 * L, t[5])
        store(y, o + f + 6 * L, t[6])
        store(y, o + f + 7 * L, t[7])
    for f in range(F - F % (8 * L), F, panel_of(x)):
        product_tile(x, at, terms, K, w, j + f, stride, y, o + f, 0)


# ---- Panels ----------------------------------------------------------------------------------------------------------

@kernel
def _pack(w, rows, columns, packed):
    """Copy w, a (rows, columns) matrix, into `packed`, whose rows are a whole number of panels wide; zeros after."""
    wide = len(packed) // rows
    for k in range(rows):
        for f in range(columns):
            packed[k * wide + f] = w[k * columns + f]
        for f in range(columns, wide):
            packed[k * wide + f] = 0


def in_panels(w, name="panels"):
    """Return the 2-D matrix w as a flat array whose rows are a whole number of panels wide, and that width.

    A matrix that already is so is not copied; a copy is the workspace `name`.
    """
    rows, columns = w.shape
    panel = columns_of(w.dtype)
    wide = -(-columns // panel) * panel
    if wide == columns:
        return w.reshape(-1), wide
    packed = workspace(name, rows * wide, w.dtype)
    _pack(w.reshape(-1), rows, columns, packed)
    return packed, wide


# ---- Terms -----------------------------------------------------------------------------------------------------------

@functools.lru_cache(256)
def window_terms(kernel_size, C, row, dilation=(1, 1)):
    """Return where the elements of a window lie behind its first, in images whose rows are `row` numbers apart.

    The pixels of a window lie `dilation` apart.
    """
    (KH, KW), (DH, DW) = kernel_size, dilation
    return (np.arange(KH)[:, None, None] * (DH * row) + np.arange(KW)[:, None] * (DW * C) + np.arange(C)).reshape(-1)


@functools.lru_cache(256)
def row_terms(n, step=1):
    """Return 0, step, ... (n - 1) step."""
    return np.arange(n) * step
