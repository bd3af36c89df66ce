"""The dense layer and its gradients: matrix products in tiles, in blocks that share no output.

    forward           y = x @ w + b       a unit is a block of up to 384 rows of w and four panels of its columns: their part
                                          of the sum, for all samples; then the parts are added in order, in float64
    input gradient    dx^T = w @ dy^T     a unit is 60 rows of w; samples lie side by side in a vector
    weight gradient   dw = x^T @ dy       a unit is up to 60 rows of dw; a term is a sample

Many samples go forward, and dx comes back, as those of a 1x1 convolution, which adds the same parts in the same order.

So a row of w is read once for all samples, and from few threads or many, alone or in a batch, each number is summed by
the same operations in the same order. No BLAS: its sums depend on its threads, and its second thread goes on spinning
for milliseconds after each product.
"""

import numpy as np

from minicnn.kernels.activations import relu_gradient
from minicnn.kernels.convolution.direct import convolve, gather
from minicnn.kernels.convolution.masking import bias_gradient
from minicnn.kernels.runtime.jit import kernel
from minicnn.kernels.runtime.microkernel import (BLOCK, ROWS, add_block, columns_of, ones, pack, panel_of, product_row,
                                                 product_tile, row_terms)
from minicnn.kernels.runtime.reduction import by_slices
from minicnn.kernels.runtime.simd import add_to_float64, as_float64, load, pointer, store, width
from minicnn.kernels.runtime.threads import run, workspace
from minicnn.kernels.runtime.work_queue import claim, places

__all__ = ["dense", "dense_relu", "dense_input_gradient", "dense_weight_gradient", "dense_relu_gradient"]

_FEW, _SOME = 96, 256           # samples up to which a product is divided by rows of w: forward, and dx
_PANELS = 4                     # of a unit of the forward product
_ROWS = 5 * ROWS                # rows of w in a unit of the input gradient


def dense(x, w, b, y):
    """Write y = x @ w + b; shapes (N, D), (D, F), (F,), (N, F). See reference.dense."""
    _dense(x, w, b, False, y)


def dense_relu(x, w, b, y):
    """Write y = max(x @ w + b, 0). See reference.dense_relu."""
    _dense(x, w, b, True, y)


def _dense(x, w, b, rectified, y):
    (N, D), F, panel = x.shape, w.shape[1], columns_of(w.dtype)
    if N > _FEW:
        convolve(x[:, None, None], w[None, None], (ones(F, w.dtype), b), (1, 1), (0, 0, 0, 0), (1, 1), 1, rectified, y[:, None, None],
                 workspace("no switches", 0, np.uint8))
        return
    wide, rows = -(-F // panel) * panel, -(-N // ROWS) * ROWS
    parts = workspace("parts", (-(-D // BLOCK), rows * wide), w.dtype)
    groups = -(-F // (_PANELS * panel))
    run(_dense_parts, len(parts) * groups, x, w, row_terms(D), groups, parts, scratch=(_PANELS * ROWS + BLOCK) * panel,
        dtype=w.dtype)
    run(_add_parts, -(-N // ROWS), parts, b, rectified, y, scratch=panel, dtype=np.float64)


@kernel
def _dense_parts(x, w, terms, groups, parts, scratch, queue, lane):
    """Write a unit's part of the sums: parts[block, panel, sample, column]."""
    (N, D), F, panel, at, L = x.shape, w.shape[1], panel_of(x), places(queue, lane), width(x)
    offsets, samples, filters = pointer(terms, 0), pointer(x, 0), pointer(w, 0)
    out, rows = pointer(scratch, lane * scratch.shape[1]), -(-N // ROWS) * ROWS
    packed = pointer(out, _PANELS * ROWS * panel)
    unit = claim(queue, lane)
    while unit >= 0:
        k, first = unit // groups, unit % groups * _PANELS * panel
        sums, term, last = pointer(parts, k * parts.shape[1]), k * BLOCK, min(first + _PANELS * panel, F)
        of_block, count = pointer(offsets, term), min(BLOCK, D - term)
        at[0] = 0
        if N == 1 and last - first == _PANELS * panel:
            product_row(samples, at, of_block, count, pointer(filters, term * F + first), F, _PANELS, out)
            for i in range(0, _PANELS * panel, panel):
                store(sums, (first + i) * rows, load(out, i))
                store(sums, (first + i) * rows + L, load(out, i + L))
            last = first
        for j in range(first, last, panel):
            columns, factors, apart = min(panel, F - j), pointer(filters, term * F + j), F
            # Columns that the last panel lacks are read from the row behind, for nothing; behind the last row there is none.
            if (term + count - 1) * F + j + panel > D * F:
                pack(factors, count, F, columns, packed)
                factors, apart = packed, panel
            if N == 1:
                product_row(samples, at, of_block, count, factors, apart, 1, pointer(sums, j * rows))
                continue
            for n in range(0, N, ROWS):
                for r in range(ROWS):
                    at[r] = min(n + r, N - 1) * D       # past the last sample, the last again
                product_tile(samples, at, min(ROWS, N - n), of_block, count, factors, apart, columns,
                             pointer(sums, j * rows + n * panel), panel, True)
        unit = claim(queue, lane)


@kernel
def _add_parts(parts, b, rectified, y, scratch, queue, lane):
    """Write each sample's sum over the parts, in order, plus the bias; some samples a unit."""
    (N, F), panel, total = y.shape, panel_of(parts), pointer(scratch, lane * scratch.shape[1])
    rows, sums, zero = -(-N // ROWS) * ROWS, pointer(parts, 0), y.dtype.type(0)
    unit = claim(queue, lane)
    while unit >= 0:
        for n in range(unit * ROWS, min((unit + 1) * ROWS, N)):
            for j in range(0, F, panel):
                for f in range(panel):
                    total[f] = 0
                columns = min(panel, F - j)
                for k in range(parts.shape[0]):
                    for f in range(0, columns, width(parts)):
                        add_to_float64(total, f, load(sums, k * parts.shape[1] + j * rows + n * panel + f))
                for f in range(columns):
                    value = y.dtype.type(total[f]) + b[j + f]
                    y[n, j + f] = zero if rectified and value <= zero else value        # NaN passes
        unit = claim(queue, lane)


def dense_input_gradient(dy, w, dx):
    """Write dx = dy @ w^T; shapes (N, F), (D, F), (N, D). See reference.dense_input_gradient."""
    (N, F), D = dy.shape, w.shape[0]
    panel = columns_of(w.dtype)
    if N > _SOME:
        gather(dy[:, None, None], w[None, None], (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), dx[:, None, None])
        return
    across = workspace("dy across", (F, -(-N // panel) * panel), w.dtype)
    across[:, :N] = dy.T
    across[:, N:] = 0
    run(_dense_input_gradient_rows, -(-D // _ROWS), across, w, row_terms(F), dx, scratch=3 * ROWS * panel,
        dtype=w.dtype)


@kernel
def _dense_input_gradient_rows(dy, w, terms, dx, scratch, queue, lane):
    (D, F), N, wide, panel, at = w.shape, dx.shape[0], dy.shape[1], panel_of(w), places(queue, lane)
    offsets, blocks = pointer(terms, 0), -(-F // BLOCK)
    out, rows, across, dx_at = pointer(scratch, lane * scratch.shape[1]), pointer(w, 0), pointer(dy, 0), pointer(dx, 0)
    totals = as_float64(pointer(out, ROWS * panel))
    unit = claim(queue, lane)
    while unit >= 0:
        for d in range(unit * _ROWS, min((unit + 1) * _ROWS, D), ROWS):
            some = min(ROWS, D - d)
            for r in range(ROWS):
                at[r] = min(d + r, D - 1) * F
            for j in range(0, wide, panel):
                for k in range(blocks):
                    product_tile(rows, at, some, pointer(offsets, k * BLOCK), min(BLOCK, F - k * BLOCK),
                                 pointer(across, k * BLOCK * wide + j), wide, min(panel, N - j), out, panel, True)
                    add_block(out, some * panel, totals, k, blocks)
                for n in range(min(panel, N - j)):
                    for r in range(some):
                        dx_at[(j + n) * D + d + r] = out[r * panel + n]
        unit = claim(queue, lane)


def dense_weight_gradient(dy, x, dw, db):
    """Write dw = x^T @ dy and db = the sum of dy's rows; shapes (N, F), (N, D), (D, F), (F,)."""
    bias_gradient(dy[:, None, None], db)
    by_slices(_dense_weight_gradient, dy, x, dw)


def _dense_weight_gradient(dy, x, dw):
    (N, D), panel = x.shape, columns_of(x.dtype)
    rows = ROWS * max(1, min(5, D // (8 * ROWS)))           # so few to a unit that all threads have some
    run(_dense_weight_gradient_rows, -(-D // rows), dy, x, row_terms(N, D), rows, dw, dtype=x.dtype,
        scratch=(ROWS + 2 * rows + BLOCK) * panel)


@kernel
def _dense_weight_gradient_rows(dy, x, terms, rows, dw, scratch, queue, lane):
    (D, F), panel, at = dw.shape, panel_of(x), places(queue, lane)
    offsets, N = pointer(terms, 0), len(terms)
    blocks, samples, gradient, dw_at = -(-N // BLOCK), pointer(x, 0), pointer(dy, 0), pointer(dw, 0)
    out = pointer(scratch, lane * scratch.shape[1])
    packed, totals = pointer(out, ROWS * panel), as_float64(pointer(out, (ROWS + BLOCK) * panel))
    unit = claim(queue, lane)
    while unit >= 0:
        for j in range(0, F, panel):
            columns = min(panel, F - j)
            for k in range(blocks):
                factors, apart, count = pointer(gradient, k * BLOCK * F + j), F, min(BLOCK, N - k * BLOCK)
                if columns < panel:
                    pack(factors, count, F, columns, packed)
                    factors, apart = packed, panel
                for d in range(unit * rows, min((unit + 1) * rows, D), ROWS):
                    some = min(ROWS, D - d)
                    for r in range(ROWS):
                        at[r] = min(d + r, D - 1)
                    # A whole tile of the only block goes where it belongs at once.
                    whole = blocks == 1 and some == ROWS and columns == panel
                    to, between = (pointer(dw_at, d * F + j), F) if whole else (out, panel)
                    product_tile(samples, at, some, pointer(offsets, k * BLOCK), count, factors, apart, columns, to, between,
                                 True)
                    if whole:
                        continue
                    add_block(out, some * panel, pointer(totals, (d - unit * rows) * panel), k, blocks)
                    if k + 1 == blocks:
                        for r in range(some):
                            for f in range(columns):
                                dw_at[(d + r) * F + j + f] = out[r * panel + f]
        unit = claim(queue, lane)


def dense_relu_gradient(dy, y, x, w, dx, dw, db):
    """Write dx, dw and db of `dense_relu` from dy and its output y. See reference.dense_relu_gradient.

    Where dx is None it is not computed.
    """
    masked = workspace("masked dy", dy.shape, dy.dtype)
    relu_gradient(dy, y, masked)
    dense_weight_gradient(masked, x, dw, db)
    if dx is not None:
        dense_input_gradient(masked, w, dx)
