"""The two inner loops under every product of the fast engine, held in registers.

A tile is 4 rows x 2 vectors = 8 accumulators: enough independent sums to hide the latency of a fused multiply-add, few
enough to stay in the 16 registers of AVX.

    rows of a product          r0 [ a a ]         gradient of weights      k0 [ a a ]
    (pixels or samples)        r1 [ a a ]         (4 inputs of one         k1 [ a a ]
    times 2 vectors of         r2 [ a a ]         window or row) times     k2 [ a a ]
    filters                    r3 [ a a ]         2 vectors of filters     k3 [ a a ]

Rounding. A plain float32 running sum of n equal numbers drifts like n. Here at most 16 terms are summed in a row; at
most 16 such sums are added to the next level, and so on for four levels: over 20,000 constants the error stayed below
5.1 units in the last place of the sum of magnitudes up to 23,328 terms (8.1 with three levels of 32, and no faster).
Weight gradients sum up to 128 terms in float32, then go on in float64.
"""

import numpy as np

from minicnn.kernels.jit import device, kernel
from minicnn.kernels.simd import add, add_to_float64, broadcast, fma, load, splat, store, width

__all__ = ["product_tile", "outer_tile", "store_tile", "add_tile_to_float64", "panel_columns", "in_panels",
           "OUTER_TERMS"]

TERMS = 16
OUTER_TERMS = 128


@device
def panel_columns(array):
    """Return the columns of a tile: 16 for float32, 8 for float64."""
    return 2 * width(array)


@device
def _zero_tile(x):
    z = splat(x, x.dtype.type(0))
    return (z, z, z, z, z, z, z, z)


@device
def _add_tiles(p, q):
    return (add(p[0], q[0]), add(p[1], q[1]), add(p[2], q[2]), add(p[3], q[3]),
            add(p[4], q[4]), add(p[5], q[5]), add(p[6], q[6]), add(p[7], q[7]))


@device
def _fma_tile(x, i0, i1, i2, i3, w, j, tile):
    """Return tile[r] + x[i_r] * w[j : j + 2 vectors] for the four rows r."""
    x0, x1, x2, x3 = broadcast(x, i0), broadcast(x, i1), broadcast(x, i2), broadcast(x, i3)
    w0, w1 = load(w, j), load(w, j + width(w))
    return (fma(x0, w0, tile[0]), fma(x0, w1, tile[1]), fma(x1, w0, tile[2]), fma(x1, w1, tile[3]),
            fma(x2, w0, tile[4]), fma(x2, w1, tile[5]), fma(x3, w0, tile[6]), fma(x3, w1, tile[7]))


@device
def product_tile(x, i0, i1, i2, i3, runs, run, step, w, j, stride):
    """Return the 4 x 2-vector tile of a product whose rows are read where they lie (implicit im2col).

    tile[r] = sum over a < runs, t < run of x[i_r + a step + t] * w[j + (a run + t) stride : ... + 2 vectors]

    For a convolution a row is KH runs of KW C numbers, one image row (`step`) apart; for a dense layer one run.
    """
    fourth, third, second, first = _zero_tile(x), _zero_tile(x), _zero_tile(x), _zero_tile(x)
    terms = 0
    for a in range(runs):
        t = 0
        while t < run:
            n = min(run - t, TERMS - terms % TERMS)
            for _ in range(n):
                offset = a * step + t
                first = _fma_tile(x, i0 + offset, i1 + offset, i2 + offset, i3 + offset, w, j, first)
                t += 1
                j += stride
            terms += n
            if terms % TERMS == 0:
                second, first = _add_tiles(second, first), _zero_tile(x)
                if terms % TERMS**2 == 0:
                    third, second = _add_tiles(third, second), _zero_tile(x)
                    if terms % TERMS**3 == 0:
                        fourth, third = _add_tiles(fourth, third), _zero_tile(x)
    return _add_tiles(_add_tiles(_add_tiles(fourth, third), second), first)


@device
def outer_tile(x, rows, first, last, base, k0, k1, k2, k3, dy, j, stride):
    """Return tile[r] = sum over p in first .. last-1 of x[base + rows[p] + k_r] * dy[j + p stride : ... + 2 vectors].

    `rows[p]` says where the window (or sample) p begins in x; k_r is one of its elements. At most OUTER_TERMS a call.
    """
    tile = _zero_tile(x)
    for p in range(first, last):
        i = base + rows[p]
        tile = _fma_tile(x, i + k0, i + k1, i + k2, i + k3, dy, j + p * stride, tile)
    return tile


@device
def store_tile(y, at0, at1, at2, at3, tile):
    """Store the four rows of a tile, each two vectors, at the places given."""
    lanes = width(y)
    store(y, at0, tile[0])
    store(y, at0 + lanes, tile[1])
    store(y, at1, tile[2])
    store(y, at1 + lanes, tile[3])
    store(y, at2, tile[4])
    store(y, at2 + lanes, tile[5])
    store(y, at3, tile[6])
    store(y, at3 + lanes, tile[7])


@device
def add_tile_to_float64(total, at, stride, tile, x):
    """Add the four rows of a tile of x's type to `total`, float64, row r beginning at `at + r stride`."""
    lanes = width(x)
    add_to_float64(total, at, tile[0])
    add_to_float64(total, at + lanes, tile[1])
    add_to_float64(total, at + stride, tile[2])
    add_to_float64(total, at + stride + lanes, tile[3])
    add_to_float64(total, at + 2 * stride, tile[4])
    add_to_float64(total, at + 2 * stride + lanes, tile[5])
    add_to_float64(total, at + 3 * stride, tile[6])
    add_to_float64(total, at + 3 * stride + lanes, tile[7])


@kernel
def pack_columns(w, rows, columns, packed):
    """Copy w, a (rows, columns) matrix, into `packed`, whose rows are a whole number of panels wide; zeros after."""
    wide = len(packed) // rows
    for k in range(rows):
        for f in range(columns):
            packed[k * wide + f] = w[k * columns + f]
        for f in range(columns, wide):
            packed[k * wide + f] = 0


def in_panels(w):
    """Return the 2-D matrix w as a flat array whose rows are a whole number of panels wide, and that width.

    A matrix that already is so is not copied.
    """
    rows, columns = w.shape
    panel = 64 // w.itemsize
    wide = -(-columns // panel) * panel
    if wide == columns:
        return w.reshape(-1), wide
    packed = np.empty(rows * wide, w.dtype)
    pack_columns(w.reshape(-1), rows, columns, packed)
    return packed, wide
