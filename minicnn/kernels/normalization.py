"""Batch and layer normalization. See reference for the equations and the derivations.

The numbers are cut into blocks whose size depends on the number of channels alone; for sums, those of each chunk of samples
(runtime/reduction.py). Each block keeps float64 sums of its own; a chunk's are joined in order, the chunks' as a tree, so the
threads decide no bit. Within a block the sums have a place for each channel, of
few channels several in a row: LLVM makes vectors of loops over 256 places, and none of loops over three (32 channels: half
the time that loops over 32 places take).
"""

import math
from typing import NamedTuple

import numpy as np

from minicnn.kernels.activations import relu_gradient
from minicnn.kernels.runtime.jit import device, kernel
from minicnn.kernels.runtime.recording import derived
from minicnn.kernels.runtime.reduction import batch_size, chunk_of, join
from minicnn.kernels.runtime.simd import pointer
from minicnn.kernels.runtime.threads import run, workspace
from minicnn.kernels.runtime.work_queue import claim

__all__ = ["batch_statistics", "batch_norm", "batch_norm_gradient", "batch_norm_relu", "batch_norm_relu_gradient", "layer_norm",
           "layer_norm_gradient"]


class _Blocks(NamedTuple):
    """How rows of C channels are cut.

    places : int, the least multiple of C that is at least 256
    size : int, numbers in a block: whole rows, about 16384 numbers, so that it stays in the cache between two passes
    chunk, of_chunk : int, numbers in a chunk of samples, and blocks in one; all in one chunk where it does not matter
    """

    C: int
    places: int
    size: int
    chunk: int
    of_chunk: int


def _blocks(x, chunk=None):
    """Return the _Blocks of x, cut at each chunk of so many samples or nowhere, and their number."""
    C = x.shape[-1]
    places = C * -(-256 // C)
    size, of_chunk = places * max(8, 16384 // places), x.size if chunk is None else chunk * (x.size // len(x))
    blocks = _Blocks(C, places, size, of_chunk, -(-of_chunk // size))
    whole, rest = divmod(x.size, of_chunk)
    return blocks, whole * blocks.of_chunk - -rest // size


@device
def _begin(unit, blocks):
    """Return the first number of a block."""
    return unit // blocks.of_chunk * blocks.chunk + unit % blocks.of_chunk * blocks.size


@device
def _end(unit, blocks, size):
    """Return the end of a block, of an array of so many numbers."""
    return min(_begin(unit, blocks) + blocks.size, (unit // blocks.of_chunk + 1) * blocks.chunk, size)


def _sum_blocks(x, columns, kernel, arguments, joined):
    """Return the row of sums (columns,) over all samples of the batch.

    kernel(*arguments, blocks, parts) writes those of each block; joined(parts, pairs) adds the second of two rows to the first.
    """
    blocks, units = _blocks(x, chunk_of(batch_size(len(x))))
    parts = workspace("sums of blocks", (units, columns), np.float64)
    run(kernel, units, *arguments, blocks, parts, scratch=2 * blocks.places, dtype=np.float64)
    return join(parts, blocks.of_chunk, len(x), joined)


def batch_statistics(x, mean, variance):
    """Write mean and variance of each channel of x (..., C), over all other axes, to two float64 arrays (C,).

    Each block has its mean first and then the squares around it, and blocks are joined by Chan's formula (1979). Sums
    of x and x^2 would lose the variance where the mean is large: no digit of it is left at 1e8 deviations.
    """
    C = x.shape[-1]
    rows, mean[...], variance[...] = np.split(_sum_blocks(x, 2 * C + 1, _moments, (x.reshape(-1),), _join_moments), [1, C + 1])
    variance /= rows


@kernel
def _moments(x, blocks, parts, scratch, queue, lane):
    """Write the number of rows of each block, the mean of each channel, and the sum of the squares around it."""
    C, places, x_at, parts_at = blocks.C, blocks.places, pointer(x, 0), pointer(parts, 0)
    own = scratch[lane]
    sums, means = pointer(own, 0), pointer(own, places)
    unit = claim(queue, lane)
    while unit >= 0:
        first, last = _begin(unit, blocks), _end(unit, blocks, len(x))
        rows, at = (last - first) // C, unit * (2 * C + 1) + 1
        parts_at[at - 1] = rows
        for j in range(places):
            sums[j] = 0.0
        for i in range(first, last, places):
            for j in range(min(places, last - i)):
                sums[j] += x_at[i + j]
        _fold(sums, blocks)
        for j in range(places):
            means[j] = sums[j % C] / rows
        for c in range(C):
            parts_at[at + c] = means[c]
        for j in range(places):
            sums[j] = 0.0
        for i in range(first, last, places):
            for j in range(min(places, last - i)):
                d = x_at[i + j] - means[j]
                sums[j] += d * d
        _fold(sums, blocks)
        for c in range(C):
            parts_at[at + C + c] = sums[c]
        unit = claim(queue, lane)


@device
def _fold(sums, blocks):
    """Add the places of each channel up in its first."""
    for j in range(blocks.C, blocks.places):
        sums[j % blocks.C] += sums[j]


@kernel
def _join_moments(parts, pairs):
    C = parts.shape[1] // 2
    for i in range(len(pairs)):
        one, other = parts[pairs[i, 0]], parts[pairs[i, 1]]
        before, more = one[0], other[0]
        share = more / (before + more)
        for c in range(1, C + 1):
            step = other[c] - one[c]
            one[c] += step * share
            one[C + c] += other[C + c] + step * step * share * before
        one[0] = before + more


@np.errstate(all="ignore")       # NaN and infinity pass through
def batch_norm(x, mean, variance, gamma, beta, epsilon, y):
    """Write gamma (x - mean) / sqrt(variance + epsilon) + beta to y.

    Computed in x's precision as (x - centre) scale + shift: the shift makes good what the centre, the mean, lost when
    it was rounded.
    """
    _scale_and_shift(x, _factors(x, mean, variance, gamma, beta, epsilon), False, y)


@np.errstate(all="ignore")
def batch_norm_relu(x, mean, variance, gamma, beta, epsilon, y):
    """Write max(batch_norm(x, ...), 0) to y. See reference.batch_norm_relu."""
    _scale_and_shift(x, _factors(x, mean, variance, gamma, beta, epsilon), True, y)


def _factors(x, mean, variance, gamma, beta, epsilon):
    """Return centre, scale and shift of each place in a block of x, one after another."""
    blocks, _ = _blocks(x)

    def fill(factors):
        scale, centre = gamma / np.sqrt(np.float64(variance) + epsilon), mean.astype(x.dtype)
        _spread((centre, scale, beta - (np.float64(mean) - centre) * scale), blocks, factors)
    return derived("factors", 3 * blocks.places, x.dtype, fill, mean, variance, gamma, beta)


def _spread(constants, blocks, out):
    """Write constants of each channel to `out`, repeated for each place in a block."""
    out[...] = np.tile(np.stack(constants).astype(out.dtype), blocks.places // blocks.C).reshape(-1)


def _scale_and_shift(x, factors, rectified, y):
    blocks, units = _blocks(x)
    run(_scale_blocks, units, x.reshape(-1), factors, blocks, rectified, y.reshape(-1))


@device
def _scaled(x, j, factors, places):
    """Return (x - centre) scale + shift of a number at place j of a block: forward, and where a gradient asks what ReLU did."""
    return (x - factors[j]) * factors[places + j] + factors[2 * places + j]


@kernel
def _scale_blocks(x, factors, blocks, rectified, y, scratch, queue, lane):
    places, size = blocks.places, blocks.size
    x_at, y_at, forward, zero = pointer(x, 0), pointer(y, 0), pointer(factors, 0), x.dtype.type(0)
    unit = claim(queue, lane)
    while unit >= 0:
        last = min((unit + 1) * size, len(x))
        for i in range(unit * size, last, places):
            if rectified:
                for j in range(min(places, last - i)):
                    z = _scaled(x_at[i + j], j, forward, places)
                    y_at[i + j] = zero if z <= zero else z          # NaN passes
            else:
                for j in range(min(places, last - i)):
                    y_at[i + j] = _scaled(x_at[i + j], j, forward, places)
        unit = claim(queue, lane)


@np.errstate(all="ignore")       # NaN and infinity pass through
def batch_norm_gradient(dy, x, mean, variance, gamma, epsilon, constant, dx, dgamma, dbeta):
    """Write dx, dgamma and dbeta of `batch_norm`, but no dx where it is None. See reference.batch_norm_gradient.

    With s = sqrt(variance + epsilon), dx = gamma dy / s - (x - mean) b - a: two passes over dy and x, the second with
    three constants a channel.
    """
    _gradients(dy, x, mean, variance, gamma, epsilon, constant, np.zeros(0, x.dtype), dx, dgamma, dbeta)


@np.errstate(all="ignore")
def batch_norm_relu_gradient(dy, x, mean, variance, gamma, beta, epsilon, constant, dx, dgamma, dbeta):
    """Write dx, dgamma and dbeta of `batch_norm_relu`, but no dx where it is None. See reference.batch_norm_relu_gradient.

    Where ReLU let dy through is worked out again from x, by the operations of the forward pass: y is not read.
    """
    factors = _factors(x, mean, variance, gamma, beta, epsilon)
    if constant:                        # the layer is frozen
        masked = workspace("masked dy", dy.shape, dy.dtype)
        _scale_and_shift(x, factors, True, masked)
        relu_gradient(dy, masked, masked)
        dy, factors = masked, np.zeros(0, x.dtype)
    _gradients(dy, x, mean, variance, gamma, epsilon, constant, factors, dx, dgamma, dbeta)


def _gradients(dy, x, mean, variance, gamma, epsilon, constant, factors, dx, dgamma, dbeta):
    """Write the gradients of batch normalization, behind ReLU where there are the factors of the forward pass."""
    blocks, units = _blocks(x)
    C, M = blocks.C, x.size // blocks.C // len(x) * batch_size(len(x))
    s = np.sqrt(variance + epsilon)
    sums = _sum_blocks(x, 2 * C, _gradient_sums,
                       (dy.reshape(-1), x.reshape(-1), np.tile(mean, blocks.places // C), factors), _join)
    sum_dy, sum_dyz = sums[:C], sums[C:] / s
    dgamma[...], dbeta[...] = sum_dyz, sum_dy
    if dx is None:
        return
    scale, constants = gamma / s, np.empty((3 if constant else 4) * blocks.places, x.dtype)
    if constant:
        _spread((np.zeros(C), scale, np.zeros(C)), blocks, constants)
        _scale_and_shift(dy, constants, False, dx)
        return
    slope, centre = -scale * sum_dyz / (s * M), mean.astype(x.dtype)
    _spread((scale, centre, slope, -scale * sum_dy / M - (mean - centre) * slope), blocks, constants)
    run(_batch_norm_dx, units, dy.reshape(-1), x.reshape(-1), constants, factors, blocks, dx.reshape(-1))


@kernel
def _gradient_sums(dy, x, mean, factors, blocks, parts, scratch, queue, lane):
    """Write the sums of dy and of dy (x - mean) over each block to parts."""
    C, places = blocks.C, blocks.places
    dy_at, x_at, mean_at, parts_at = pointer(dy, 0), pointer(x, 0), pointer(mean, 0), pointer(parts, 0)
    own, forward, behind_relu, zero = scratch[lane], pointer(factors, 0), len(factors) > 0, dy.dtype.type(0)
    sums, products = pointer(own, 0), pointer(own, places)
    unit = claim(queue, lane)
    while unit >= 0:
        first, last = _begin(unit, blocks), _end(unit, blocks, len(x))
        for j in range(2 * places):
            sums[j] = 0.0
        for i in range(first, last, places):
            if behind_relu:
                for j in range(min(places, last - i)):
                    g = np.float64(dy_at[i + j] if _scaled(x_at[i + j], j, forward, places) > zero else zero)
                    sums[j] += g
                    products[j] += g * (x_at[i + j] - mean_at[j])
            else:
                for j in range(min(places, last - i)):
                    g = np.float64(dy_at[i + j])
                    sums[j] += g
                    products[j] += g * (x_at[i + j] - mean_at[j])
        _fold(sums, blocks)
        _fold(products, blocks)
        for c in range(C):
            parts_at[unit * 2 * C + c] = sums[c]
            parts_at[unit * 2 * C + C + c] = products[c]
        unit = claim(queue, lane)


@kernel
def _join(parts, pairs):
    for i in range(len(pairs)):
        for c in range(parts.shape[1]):
            parts[pairs[i, 0], c] += parts[pairs[i, 1], c]


@kernel
def _batch_norm_dx(dy, x, constants, factors, blocks, dx, scratch, queue, lane):
    places, size = blocks.places, blocks.size
    dy_at, x_at, dx_at = pointer(dy, 0), pointer(x, 0), pointer(dx, 0)
    forward, behind_relu, zero = pointer(factors, 0), len(factors) > 0, dy.dtype.type(0)
    scale, centre = pointer(constants, 0), pointer(constants, places)
    slope, shift = pointer(constants, 2 * places), pointer(constants, 3 * places)
    unit = claim(queue, lane)
    while unit >= 0:
        last = min((unit + 1) * size, len(x))
        for i in range(unit * size, last, places):
            if behind_relu:
                for j in range(min(places, last - i)):
                    g = dy_at[i + j] if _scaled(x_at[i + j], j, forward, places) > zero else zero
                    dx_at[i + j] = g * scale[j] + (x_at[i + j] - centre[j]) * slope[j] + shift[j]
            else:
                for j in range(min(places, last - i)):
                    dx_at[i + j] = dy_at[i + j] * scale[j] + (x_at[i + j] - centre[j]) * slope[j] + shift[j]
        unit = claim(queue, lane)


# ---- Layer normalization ---------------------------------------------------------------------------------------------

_LANES = 16     # sums over a row are kept in so many parts, on registers of any size, and these are added in order


@device
def _sum_of(lanes):
    total = 0.0
    for j in range(_LANES):
        total += lanes[j]
    return total


def layer_norm(x, gamma, beta, epsilon, y, mean, variance):
    """Write x (..., C), each row normalized, scaled and shifted, to y; mean and variance to float64 arrays (...)."""
    blocks, units = _blocks(x)
    run(_layer_norm, units, x.reshape(-1), gamma, beta, epsilon, blocks, y.reshape(-1), mean.reshape(-1),
        variance.reshape(-1), scratch=_LANES, dtype=np.float64)


@kernel
def _layer_norm(x, gamma, beta, epsilon, blocks, y, mean, variance, scratch, queue, lane):
    C, size = blocks.C, blocks.size
    x_at, y_at, gamma_at, beta_at = pointer(x, 0), pointer(y, 0), pointer(gamma, 0), pointer(beta, 0)
    own = scratch[lane]
    lanes = pointer(own, 0)
    unit = claim(queue, lane)
    while unit >= 0:
        for i in range(unit * size, min((unit + 1) * size, len(x)), C):
            for j in range(_LANES):
                lanes[j] = 0.0
            for k in range(0, C, _LANES):
                for j in range(min(_LANES, C - k)):
                    lanes[j] += x_at[i + k + j]
            middle = _sum_of(lanes) / C
            for j in range(_LANES):
                lanes[j] = 0.0
            for k in range(0, C, _LANES):
                for j in range(min(_LANES, C - k)):
                    d = x_at[i + k + j] - middle
                    lanes[j] += d * d
            square = _sum_of(lanes) / C
            mean[i // C], variance[i // C] = middle, square
            inverse = 1.0 / math.sqrt(square + epsilon)
            for c in range(C):
                y_at[i + c] = gamma_at[c] * ((x_at[i + c] - middle) * inverse) + beta_at[c]
        unit = claim(queue, lane)


def layer_norm_gradient(dy, x, mean, variance, gamma, epsilon, dx, dgamma, dbeta):
    """Write dx, dgamma and dbeta of `layer_norm`. See reference.layer_norm_gradient."""
    dbeta[...], dgamma[...] = np.split(_sum_blocks(x, 2 * x.shape[-1], _layer_norm_gradient, (
        dy.reshape(-1), x.reshape(-1), mean.reshape(-1), variance.reshape(-1), gamma, epsilon, dx.reshape(-1)), _join), 2)


@kernel
def _layer_norm_gradient(dy, x, mean, variance, gamma, epsilon, dx, blocks, parts, scratch, queue, lane):
    C = blocks.C
    dy_at, x_at, gamma_at, dx_at = pointer(dy, 0), pointer(x, 0), pointer(gamma, 0), pointer(dx, 0)
    own = scratch[lane]
    lanes, products = pointer(own, 0), pointer(own, _LANES)
    unit = claim(queue, lane)
    while unit >= 0:
        dbeta, dgamma = pointer(parts, unit * 2 * C), pointer(parts, unit * 2 * C + C)
        for c in range(C):
            dbeta[c] = 0.0
            dgamma[c] = 0.0
        for i in range(_begin(unit, blocks), _end(unit, blocks, len(x)), C):
            middle, inverse = mean[i // C], 1.0 / math.sqrt(variance[i // C] + epsilon)
            for j in range(2 * _LANES):
                lanes[j] = 0.0
            for k in range(0, C, _LANES):
                for j in range(min(_LANES, C - k)):
                    d = np.float64(dy_at[i + k + j])
                    z = (x_at[i + k + j] - middle) * inverse
                    dbeta[k + j] += d
                    dgamma[k + j] += d * z
                    lanes[j] += d * gamma_at[k + j]
                    products[j] += d * gamma_at[k + j] * z
            mean_g, mean_gz = _sum_of(lanes) / C, _sum_of(products) / C
            for c in range(C):
                z = (x_at[i + c] - middle) * inverse
                dx_at[i + c] = (np.float64(dy_at[i + c]) * gamma_at[c] - mean_g - z * mean_gz) * inverse
        unit = claim(queue, lane)
