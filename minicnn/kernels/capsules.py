"""Routing between capsules. See reference for the equations and the derivations.

u, the predictions, is by far the largest array: 2.9 million numbers for an image of COVID-CAPS. Each round reads it once; what it is
weighed by is computed anew wherever it is needed, and never written. The input capsules are cut into units of _ROWS. A unit's sum is
of the precision of u, the units' sums are added in order, in float64: the threads decide no bit. Lengths and losses are NumPy's.

The output capsules lie side by side in all that kernels keep, [d, j]: loops over them are of vectors. With the predictions as they are,
[j, d], a round took twice as long.
"""

import math

import numpy as np

from minicnn.kernels.runtime.jit import device, kernel
from minicnn.kernels.runtime.recording import call
from minicnn.kernels.runtime.simd import pointer
from minicnn.kernels.runtime.threads import run, workspace
from minicnn.kernels.runtime.work_queue import claim
from minicnn.reference import capsules as specification
from minicnn.reference.capsules import EPSILON

__all__ = ["routing", "routing_gradient", "length", "length_gradient", "margin"]

_ROWS = 128             # input capsules in a unit


def routing(u, routings, y, sums):
    """Write the capsules that predictions u (N, I, J, D) are routed to, (N, J, D), to y, and the sums of each round to sums."""
    (N, I, J, D), units = u.shape, -(-u.shape[1] // _ROWS)
    parts, o = workspace("sums of predictions", (N * units, D * J), np.float64), workspace("o", (N, D * J), u.dtype)
    for r in range(routings):
        run(_sum_predictions, len(parts), u, o, r > 0, parts, scratch=J + 2 * D * J, dtype=u.dtype)
        run(_squash_sums, N, parts, r, sums, o, y)


@kernel
def _sum_predictions(u, o, routed, parts, scratch, queue, lane):
    """Write each unit's sum of c u."""
    N, I, J, D = u.shape
    units, own = len(parts) // N, lane * scratch.shape[1]
    row, total, c = pointer(scratch, own), pointer(scratch, own + D * J), pointer(scratch, own + 2 * D * J)
    unit = claim(queue, lane)
    while unit >= 0:
        n, first, sums = unit // units, unit % units * _ROWS, pointer(parts, unit * D * J)
        for k in range(D * J):
            total[k] = 0
        for i in range(first, min(first + _ROWS, I)):
            _turn(pointer(u, (n * I + i) * D * J), D, J, row)
            _coefficients(row, pointer(o, n * D * J), routed, D, J, c)
            for d in range(0, D * J, J):
                for j in range(J):
                    total[d + j] += c[j] * row[d + j]
        for k in range(D * J):
            sums[k] = total[k]
        unit = claim(queue, lane)


@device
def _turn(a, D, J, turned):
    """Write numbers [j, d] as [d, j]."""
    for d in range(D):
        for j in range(J):
            turned[d * J + j] = a[j * D + d]


@device
def _coefficients(row, o, routed, D, J, c):
    """Write the softmax of o . u over the output capsules, for one input capsule, to c; in the first round, 1 / J."""
    for j in range(J):
        c[j] = 1 / J
    if routed:
        _agreements(row, o, D, J, c)
        top = c[0]
        for j in range(J):
            top = max(top, c[j])            # a NaN becomes one in exp
        for j in range(J):
            c[j] = math.exp(c[j] - top)
        total = c[0]
        for j in range(1, J):
            total += c[j]
        for j in range(J):
            c[j] /= total


@device
def _agreements(row, o, D, J, b):
    """Write o . u of each output capsule to b."""
    for j in range(J):
        b[j] = 0
    for d in range(0, D * J, J):
        for j in range(J):
            b[j] += o[d + j] * row[d + j]


@kernel
def _squash_sums(parts, r, sums, o, y, scratch, queue, lane):
    """Add the units' sums of a sample up, and squash them; o is y as kernels keep it."""
    N, _, J, D = sums.shape
    n = claim(queue, lane)
    while n >= 0:
        for j in range(J):
            for d in range(D):
                sums[n, r, j, d] = _added(parts, n, N, d * J + j)
            factor, _ = _factors(sums, n, r, j)
            for d in range(D):
                y[n, j, d] = o[n, d * J + j] = factor * sums[n, r, j, d]
        n = claim(queue, lane)


@device
def _added(parts, n, N, k):
    """Return number k of sample n: the sum of its units' parts, in order."""
    total, units = 0.0, len(parts) // N
    for unit in range(n * units, (n + 1) * units):
        total += parts[unit, k]
    return total


@device
def _factors(sums, n, r, j):
    """Return g and 2 g', of reference.capsules.squash_gradient."""
    s = EPSILON
    for d in range(sums.shape[3]):
        s += sums[n, r, j, d] * sums[n, r, j, d]
    root = math.sqrt(s)
    return root / (1 + s), (1 - s) / (root * (1 + s) ** 2)


def routing_gradient(dy, u, sums, du):
    """Write the gradient of `routing` to du."""
    (N, I, J, D), R, units = u.shape, sums.shape[1], -(-u.shape[1] // _ROWS)
    parts = workspace("sums of gradients", (N * units, D * J), np.float64)
    ds, o = (workspace(name, (N, D * J), u.dtype) for name in ("ds", "o"))
    parts[:N] = dy.swapaxes(1, 2).reshape(N, D * J)
    for r in reversed(range(R)):
        run(_gradient_of_sums, N, parts if r < R - 1 else parts[:N], sums, r, ds, o, scratch=D, dtype=np.float64)
        run(_gradient_of_predictions, len(parts), u, ds, o, r > 0, r < R - 1, du, parts, scratch=2 * J + 3 * D * J, dtype=u.dtype)


@kernel
def _gradient_of_sums(parts, sums, r, ds, o, scratch, queue, lane):
    """Write ds of each sample, from the units' parts of do; and o of the round before, of the first that of itself."""
    N, _, J, D = sums.shape
    do, n = scratch[lane], claim(queue, lane)
    while n >= 0:
        for j in range(J):
            dot = 0.0
            for d in range(D):
                do[d] = _added(parts, n, N, d * J + j)
                dot += do[d] * sums[n, r, j, d]
            factor, slope = _factors(sums, n, r, j)
            before, _ = _factors(sums, n, max(r - 1, 0), j)
            for d in range(D):
                ds[n, d * J + j] = factor * do[d] + slope * dot * sums[n, r, j, d]
                o[n, d * J + j] = before * sums[n, max(r - 1, 0), j, d]
        n = claim(queue, lane)


@kernel
def _gradient_of_predictions(u, ds, o, routed, adding, du, parts, scratch, queue, lane):
    """Write c ds + db o to du, or add it, and each unit's sum of db u, its part of do; in the first round db is 0."""
    N, I, J, D = u.shape
    units, own = len(parts) // N, lane * scratch.shape[1]
    row, total, more = pointer(scratch, own), pointer(scratch, own + D * J), pointer(scratch, own + 2 * D * J)
    c, db = pointer(scratch, own + 3 * D * J), pointer(scratch, own + 3 * D * J + J)
    unit = claim(queue, lane)
    while unit >= 0:
        n, first, sums = unit // units, unit % units * _ROWS, pointer(parts, unit * D * J)
        ds_at, o_at = pointer(ds, n * D * J), pointer(o, n * D * J)
        for k in range(D * J):
            total[k] = 0
        for i in range(first, min(first + _ROWS, I)):
            out = pointer(du, (n * I + i) * D * J)
            _turn(pointer(u, (n * I + i) * D * J), D, J, row)
            _coefficients(row, o_at, routed, D, J, c)
            _agreements(row, ds_at, D, J, db)
            mean = c[0] * db[0]
            for j in range(1, J):
                mean += c[j] * db[j]
            for j in range(J):
                db[j] = c[j] * (db[j] - mean) if routed else 0
            for d in range(0, D * J, J):
                for j in range(J):
                    more[d + j] = c[j] * ds_at[d + j] + db[j] * o_at[d + j]
                    total[d + j] += db[j] * row[d + j]
            for j in range(J):
                for d in range(D):
                    out[j * D + d] = out[j * D + d] + more[d * J + j] if adding else more[d * J + j]
        for k in range(D * J):
            sums[k] = total[k]
        unit = claim(queue, lane)


def length(x, y):
    """Write the length of each capsule of x (N, J, D) to y (N, J)."""
    call(_write, y, specification.length, x)


def length_gradient(dy, x, y, dx):
    """Write dy x / y to dx, 0 where y is."""
    dx[...] = specification.length_gradient(dy, x, y)


def margin(z, t, scale, losses, dz):
    """Write the scaled margin loss of each row of lengths z (N, K) against t to losses (N,), and its gradient to dz."""
    losses[...], dz[...] = specification.margin(z, t, scale)


def _write(y, operation, *arguments):
    y[...] = operation(*arguments)
