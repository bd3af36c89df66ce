"""The dense layer and its gradients: matrix products in tiles, split into panels of columns.

One panel is 16 columns of float32 (8 of float64); panels share no output, so the threads divide them. Each output is
summed by the same operations in the same order whatever the batch, so a sample's result does not depend on its company.
"""

import numpy as np

from minicnn.kernels.jit import kernel
from minicnn.kernels.threads import run
from minicnn.kernels.tiles import (OUTER_TERMS, add_tile_to_float64, in_panels, outer_tile, panel_columns, product_tile,
                                   store_tile)

__all__ = ["dense", "dense_input_gradient", "dense_weight_gradient"]


def dense(x, w, b, y):
    """Write y = x @ w + b; shapes (N, D), (D, F), (F,), (N, F). See reference.dense."""
    packed, wide = in_panels(w)
    panel = 64 // w.itemsize
    run(_dense_panels, wide // panel, x.reshape(-1), packed, wide, b, x.shape[0], x.shape[1], y)


@kernel
def _dense_panels(x, w, wide, b, N, D, y, start, stop):
    panel = panel_columns(x)
    out = np.empty(4 * panel, x.dtype)
    for j in range(start * panel, stop * panel, panel):
        for n in range(0, N, 4):
            # The last rows repeat the last sample: computed, not stored.
            tile = product_tile(x, n * D, min(n + 1, N - 1) * D, min(n + 2, N - 1) * D, min(n + 3, N - 1) * D,
                                1, D, 0, w, j, wide)
            store_tile(out, 0, panel, 2 * panel, 3 * panel, tile)
            for r in range(min(4, N - n)):
                for f in range(min(panel, len(b) - j)):
                    y[n + r, j + f] = out[r * panel + f] + b[j + f]


def dense_input_gradient(dy, w, dx):
    """Write dx = dy @ w^T; shapes (N, F), (D, F), (N, D). See reference.dense_input_gradient."""
    panel = 64 // w.itemsize
    run(_dense_input_gradient_panels, -(-w.shape[0] // panel), dy.reshape(-1), w, dy.shape[0], dx)


@kernel
def _dense_input_gradient_panels(dy, w, N, dx, start, stop):
    D, F = w.shape
    panel = panel_columns(dy)
    rows = np.zeros(F * panel, w.dtype)       # 16 rows of w, transposed: a panel of w^T
    out = np.empty(4 * panel, dy.dtype)
    for d0 in range(start * panel, min(stop * panel, D), panel):
        n_rows = min(panel, D - d0)
        for d in range(n_rows):
            for f in range(F):
                rows[f * panel + d] = w[d0 + d, f]
        for n in range(0, N, 4):
            tile = product_tile(dy, n * F, min(n + 1, N - 1) * F, min(n + 2, N - 1) * F, min(n + 3, N - 1) * F,
                                1, F, 0, rows, 0, panel)
            store_tile(out, 0, panel, 2 * panel, 3 * panel, tile)
            for r in range(min(4, N - n)):
                for d in range(n_rows):
                    dx[n + r, d0 + d] = out[r * panel + d]


def dense_weight_gradient(dy, x, dw, db):
    """Write dw = x^T @ dy and db = the sum of dy's rows; shapes (N, F), (N, D), (D, F), (F,)."""
    packed, wide = in_panels(dy)
    rows = np.arange(x.shape[0]) * x.shape[1]
    run(_dense_weight_gradient_rows, -(-x.shape[1] // 4), packed, wide, x.reshape(-1), rows, x.shape[1], dw, grain=8)
    _sum_rows(dy, db)


@kernel
def _dense_weight_gradient_rows(dy, wide, x, rows, D, dw, start, stop):
    F = dw.shape[1]
    N = len(rows)
    panel = panel_columns(x)
    total = np.empty(4 * panel)
    for k in range(start * 4, min(stop * 4, D), 4):
        k1, k2, k3 = min(k + 1, D - 1), min(k + 2, D - 1), min(k + 3, D - 1)
        for j in range(0, wide, panel):
            total[:] = 0
            for p in range(0, N, OUTER_TERMS):
                tile = outer_tile(x, rows, p, min(p + OUTER_TERMS, N), 0, k, k1, k2, k3, dy, j, wide)
                add_tile_to_float64(total, 0, panel, tile, x)
            for r in range(min(4, D - k)):
                for f in range(min(panel, F - j)):
                    dw[k + r, j + f] = total[r * panel + f]


@kernel
def _sum_rows(dy, db):
    total = np.zeros(len(db))
    for n in range(dy.shape[0]):
        for f in range(len(db)):
            total[f] += dy[n, f]
    for f in range(len(db)):
        db[f] = total[f]
