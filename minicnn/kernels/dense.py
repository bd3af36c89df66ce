"""The dense layer and its gradients: matrix products in tiles, in blocks that share no output.

    forward           y = x @ w + b       a unit is 256 rows of w: their part of the sum, for all samples; then the parts
                                          are added in order, in float64
    input gradient    dx^T = w @ dy^T     a unit is 64 rows of w; 16 samples lie side by side in a vector
    weight gradient   dw = x^T @ dy       a unit is 64 rows of dw

So a row of w is read once for all samples, and from few threads or many, alone or in a batch, each number is summed by
the same operations in the same order. No BLAS: its sums depend on its threads, and its second thread goes on spinning
for milliseconds after each product.
"""

import numpy as np

from minicnn.kernels.activations import relu_gradient
from minicnn.kernels.runtime.jit import kernel
from minicnn.kernels.runtime.microkernel import (ROWS, columns_of, in_panels, panel_of, product_row, product_tile,
                                                 row_terms)
from minicnn.kernels.runtime.simd import add_to_float64, load, pointer, width
from minicnn.kernels.runtime.threads import run, workspace
from minicnn.kernels.runtime.work_queue import claim, places

__all__ = ["dense", "dense_relu", "dense_input_gradient", "dense_weight_gradient", "dense_relu_gradient"]

_TERMS = 256                    # rows of w in a unit of the forward product: 16 columns of them are half of a first cache
_BLOCK = 64                     # rows of w in a unit of the gradients


def dense(x, w, b, y):
    """Write y = x @ w + b; shapes (N, D), (D, F), (F,), (N, F). See reference.dense."""
    _dense(x, w, b, False, y)


def dense_relu(x, w, b, y):
    """Write y = max(x @ w + b, 0). See reference.dense_relu."""
    _dense(x, w, b, True, y)


def _dense(x, w, b, rectified, y):
    N, D = x.shape
    packed, wide = in_panels(w)
    blocks = -(-D // _TERMS)
    parts = workspace("parts", (blocks, -(-N // ROWS) * ROWS * wide), w.dtype)
    run(_dense_parts, blocks, x.reshape(-1), packed, wide, row_terms(_TERMS), N, D, parts)
    run(_add_parts, -(-N // ROWS), parts, wide, b, rectified, y, scratch=wide, dtype=np.float64)


@kernel
def _dense_parts(x, w, wide, terms, N, D, parts, scratch, queue, lane):
    panel, at, samples, rows, offsets, sums = (panel_of(x), places(queue, lane), pointer(x, 0), pointer(w, 0),
                                               pointer(terms, 0), pointer(parts, 0))
    k = claim(queue, lane)
    while k >= 0:
        first = k * _TERMS
        for n in range(0, N, ROWS):
            for r in range(ROWS):
                at[r] = min(n + r, N - 1) * D + first       # past the last sample, the last again
            if n + 1 == N:
                product_row(samples, at, offsets, min(_TERMS, D - first), rows, first * wide, wide, sums,
                            k * parts.shape[1] + n * wide, wide)
                continue
            for j in range(0, wide, panel):
                product_tile(samples, at, offsets, min(_TERMS, D - first), rows, first * wide + j, wide, sums,
                             k * parts.shape[1] + n * wide + j, wide)
        k = claim(queue, lane)


@kernel
def _add_parts(parts, wide, b, rectified, y, scratch, queue, lane):
    """Write each sample's sum over the parts, in order, plus the bias; eight samples a unit."""
    (N, F), lanes, total = y.shape, width(parts), pointer(scratch, lane * scratch.shape[1])
    sums, zero = pointer(parts, 0), y.dtype.type(0)
    unit = claim(queue, lane)
    while unit >= 0:
        for n in range(unit * ROWS, min((unit + 1) * ROWS, N)):
            for f in range(wide):
                total[f] = b[f] if f < F else 0
            for k in range(parts.shape[0]):
                for f in range(0, wide, lanes):
                    add_to_float64(total, f, load(sums, k * parts.shape[1] + n * wide + f))
            for f in range(F):
                value = y.dtype.type(total[f])
                y[n, f] = zero if rectified and value <= zero else value        # NaN passes
        unit = claim(queue, lane)


def dense_input_gradient(dy, w, dx):
    """Write dx = dy @ w^T; shapes (N, F), (D, F), (N, D). See reference.dense_input_gradient."""
    (N, F), D = dy.shape, w.shape[0]
    panel = columns_of(w.dtype)
    across = workspace("dy across", (F, -(-N // panel) * panel), w.dtype)
    across[:, :N] = dy.T
    across[:, N:] = 0
    run(_dense_input_gradient_rows, -(-D // _BLOCK), across.reshape(-1), across.shape[1], w.reshape(-1), row_terms(F), N,
        D, dx, scratch=_BLOCK * panel, dtype=w.dtype)


@kernel
def _dense_input_gradient_rows(dy, wide, w, terms, N, D, dx, scratch, queue, lane):
    F, panel, at, out = len(terms), panel_of(w), places(queue, lane), pointer(scratch, lane * scratch.shape[1])
    rows, offsets, across, dx_at = pointer(w, 0), pointer(terms, 0), pointer(dy, 0), pointer(dx, 0)
    unit = claim(queue, lane)
    while unit >= 0:
        first, last = unit * _BLOCK, min((unit + 1) * _BLOCK, D)
        for j in range(0, wide, panel):
            for d in range(first, last, ROWS):
                for r in range(ROWS):
                    at[r] = min(d + r, D - 1) * F
                product_tile(rows, at, offsets, F, across, j, wide, out, (d - first) * panel, panel)
            # Whole lines of each sample at a time: its neighbours lie D numbers away.
            for n in range(min(panel, N - j)):
                for d in range(last - first):
                    dx_at[(j + n) * D + first + d] = out[d * panel + n]
        unit = claim(queue, lane)


def dense_weight_gradient(dy, x, dw, db):
    """Write dw = x^T @ dy and db = the sum of dy's rows; shapes (N, F), (N, D), (D, F), (F,)."""
    (N, D), F = x.shape, dy.shape[1]
    packed, wide = in_panels(dy)
    run(_dense_weight_gradient_rows, -(-D // _BLOCK), packed, wide, x.reshape(-1), row_terms(N, D), D, F, dw.reshape(-1),
        scratch=ROWS * columns_of(x.dtype), dtype=x.dtype)
    _sum_rows(dy, db)


@kernel
def _dense_weight_gradient_rows(dy, wide, x, terms, D, F, dw, scratch, queue, lane):
    panel, at, out = panel_of(x), places(queue, lane), pointer(scratch, lane * scratch.shape[1])
    samples, offsets, gradient, dw_at, N = pointer(x, 0), pointer(terms, 0), pointer(dy, 0), pointer(dw, 0), len(terms)
    unit = claim(queue, lane)
    while unit >= 0:
        for d in range(unit * _BLOCK, min((unit + 1) * _BLOCK, D), ROWS):
            for r in range(ROWS):
                at[r] = min(d + r, D - 1)
            for j in range(0, wide, panel):
                if d + ROWS <= D and j + panel <= F:
                    product_tile(samples, at, offsets, N, gradient, j, wide, dw_at, d * F + j, F)
                    continue
                product_tile(samples, at, offsets, N, gradient, j, wide, out, 0, panel)
                for r in range(min(ROWS, D - d)):
                    for f in range(min(panel, F - j)):
                        dw[(d + r) * F + j + f] = out[r * panel + f]
        unit = claim(queue, lane)


@kernel
def _sum_rows(dy, db):
    """Write the sum of dy's rows, in order, in float64; one column after another."""
    for f in range(len(db)):
        total = 0.0
        for n in range(dy.shape[0]):
            total += dy[n, f]
        db[f] = total


def dense_relu_gradient(dy, y, x, w, dx, dw, db):
    """Write dx, dw and db of `dense_relu` from dy and its output y. See reference.dense_relu_gradient.

    Where dx is None it is not computed.
    """
    masked = workspace("masked dy", dy.shape, dy.dtype)
    relu_gradient(dy, y, masked)
    dense_weight_gradient(masked, x, dw, db)
    if dx is not None:
        dense_input_gradient(masked, w, dx)
