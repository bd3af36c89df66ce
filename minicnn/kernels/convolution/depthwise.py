"""Depthwise convolution: vectors over channels, which do not mix.

A tile is seven outputs in a row, of a vector of channels: seven sums in registers. Widths of published networks are
sevens (56, 28, 14, 7). Images are read where they lie, and channels are the inner loop, so memory is read in order:

    x    [-1][0][1][2][3][4][5][6][7]     of KH rows: nine loads, zeros where a border is, for 21 multiply-adds
           w0 w1 w2                       three neighbouring weights, one after another
    y        [0][1][2][3][4][5][6]        a last tile begins early, or up to three outputs are made alone

    forward             tiles as above; with stride 2, fifteen inputs
    input gradient      the same with dy for x. For stride s, dx is s x s images of pixels s apart (`_runs`), and each
                        meets some taps of the window alone: no zeros are multiplied
    weight gradient     seven gradients stay in registers, and each tap adds one sum of seven products to its row

Other windows than 3 wide and dilated ones have the same tiles with a load for each product. There a border is a run of
outputs with fewer taps. Pixels of less than a vector, or whose channels have M > 1 filters, are copied first.

Measured on one core (AVX-512, peak 118 GFLOP/s; 8 images, 3x3, stride 1): 83 GFLOP/s at 56x56x32 and at 28x28x128, 5
times what the code before this reached, which copied each band number by number. What lost: a load for each product
(0.7 of this speed: the first cache is the limit), tiles of 4 (0.85), padded frames of two vectors of channels (0.4 to
0.8: many short rows), for the weight gradient nine sums in registers over such a frame (0.8; 0.6 with stride 2), and
prefetching the next row (0.95). Where a pixel is a multiple of 2 KB (512 channels) its neighbours share the sets of the
first cache, and an output takes 1.5 times as long as with 480 channels. Outputs made alone, as in runs of less than
seven, take 2 to 4 times as long; tiles of 4 for them would cost another second of compiling. Images beyond the caches
are as fast as memory.

Rounding: at most 48 products in a row, then such sums; in a weight gradient 7, then 48 such sums, then float64.
"""

import functools
from typing import NamedTuple

import numpy as np

from minicnn.kernels.runtime.jit import device, kernel
from minicnn.kernels.runtime.reduction import ChunkSums
from minicnn.kernels.runtime.recording import derived
from minicnn.kernels.runtime.simd import (REGISTER_BYTES, add, add_to_float64, fma, load, multiply, pointer, rectify, store,
                                          width, zeros)
from minicnn.kernels.runtime.threads import run, workspace
from minicnn.kernels.runtime.work_queue import claim

__all__ = ["depthwise_conv2d", "depthwise_conv2d_input_gradient", "depthwise_conv2d_weight_gradient"]

_TERMS = 48


class _Geometry(NamedTuple):
    """How images lie and how work is divided."""

    wide: int           # numbers to a pixel, as a kernel reads it
    step: int           # how many inputs neighbouring outputs of a run are apart
    period: int         # how many outputs they are apart
    times: int          # how often a copy of a pixel has each of its numbers
    merged: int         # how many sums in a row are added up to one output
    copied: bool        # whether pixels are copied, to be `wide`
    rows: int           # of outputs: to a unit of work, or between two additions in float64
    chunk: int = 0      # images to a unit of work, where gradients of weights are added up
    rectified: bool = False     # whether ReLU follows


# ---- Which taps of the window an output meets ------------------------------------------------------------------------

def _runs(outputs, inputs, K, stride, pad, dilation, spread):
    """Return runs of outputs along one axis that meet the same taps: [first output, how many, its inputs, taps].

    Output i meets input i stride + k dilation - pad with tap k. In the gradient (`spread`), where it is a pixel of dx,
    it meets (i + pad - k dilation) / stride, if that is whole, and the outputs of a run are `stride` apart.
    """
    runs, period = [], stride if spread else 1
    for phase in range(min(period, outputs)):
        for i in range(phase, outputs, period):
            met = [divmod(i + pad - k * dilation, stride) if spread else (i * stride + k * dilation - pad, 0)
                   for k in range(K)]
            taps = sorted((k for k in range(K) if met[k][1] == 0 and 0 <= met[k][0] < inputs), key=met.__getitem__)
            if i > phase and runs[-1][3] == taps:
                runs[-1][1] += 1
            else:
                runs.append([i, 1, [met[k][0] for k in taps], taps])
    return runs


def _slides(outputs, inputs, K, stride, pad, dilation, spread):
    """Return how many inputs outputs are apart if all of them make one run of three neighbouring taps, and that run.

    At most two inputs before the image and two after it are met: they are zeros. Otherwise, return 0 and no run.
    """
    step, first = (1, pad - 2) if spread else (stride, -pad)
    after = first + (outputs - 1) * step + 3 - inputs
    if (K, dilation) != (3, 1) or step > 2 or (spread and stride > 1) or first < -2 or after > 2:
        return 0, []
    return step, [[0, outputs, [first, first + 1, first + 2], [2, 1, 0] if spread else [0, 1, 2]]]


@functools.lru_cache(256)
def _plan(outputs, inputs, kernel_size, window, wide, spread=False):
    """Return what kernels know of the taps, as three arrays of whole numbers.

    of_row (rows of outputs, 3): the run of each, where in an image its first tap is, and how many rows have taps
    columns (runs, 5): first output, how many, column of its first tap, how many columns have taps, and `slide`
    taps (runs of rows x runs of columns, 2 KH KW): how far behind the first tap each is, and where its weights are
    """
    (KH, KW), row, (strides, pads, dilation) = kernel_size, inputs[1] * wide, window
    axes = [(outputs[i], inputs[i], kernel_size[i], strides[i], pads[2 * i], dilation[i], spread) for i in (0, 1)]
    down, (slide, across) = _runs(*axes[0]), _slides(*axes[1])
    across = across or _runs(*axes[1])
    step, period = (1, strides[0]) if spread else (strides[0], 1)
    of_row = [None] * outputs[0]
    for r, (first, count, met, _) in enumerate(down):
        for i in range(count):
            of_row[first + i * period] = r, (met[0] + i * step) * row if met else 0, len(met)
    columns = [(first, count, met[0] if met else 0, len(met), slide) for first, count, met, _ in across]
    taps = np.zeros((len(down) * len(across), 2 * KH * KW), np.int64)
    for pair, ((_, _, high, ks), (_, _, broad, ms)) in enumerate((d, a) for d in down for a in across):
        n = 2 * len(high) * len(broad)
        taps[pair, :n:2] = [(i - high[0]) * row + (j - broad[0]) * wide for i in high for j in broad]
        taps[pair, 1:n:2] = [(k * KW + m) * wide for k in ks for m in ms]
    return np.array(of_row, np.int64), np.array(columns, np.int64), taps


# ---- Forward, and the gradient of the inputs -------------------------------------------------------------------------

def depthwise_conv2d(x, w, b, strides, pads, dilation, y):
    """Write the convolution of each channel of x (N, H, W, C) with its filters w (KH, KW, C, M) to y (N, OH, OW, C M).

    See reference.depthwise_conv2d.
    """
    _convolve(x, w, b, (strides, pads, dilation), False, False, y)


def depthwise_conv2d_relu(x, w, b, strides, pads, dilation, y):
    """Write max(depthwise_conv2d(x, w, b), 0) to y. See reference.depthwise_conv2d_relu."""
    _convolve(x, w, b, (strides, pads, dilation), False, True, y)


def depthwise_conv2d_input_gradient(dy, w, image_size, strides, pads, dilation, dx):
    """Write dx (N, H, W, C) from dy (N, OH, OW, C M). See reference.depthwise_conv2d_input_gradient."""
    b = workspace("no bias", w[0, 0].size, w.dtype)
    b[:] = 0
    _convolve(dy, w, b, (strides, pads, dilation), True, False, dx)


def _convolve(x, w, b, window, spread, rectified, y):
    (N, H, W, _), (_, OH, OW, _), (KH, KW, C, M) = x.shape, y.shape, w.shape
    wide = max(C * M, REGISTER_BYTES // w.dtype.itemsize)
    filters, bias = _widened(w.reshape(KH * KW, -1), wide, "filters"), _widened(b.reshape(1, -1), wide, "bias")
    copied = wide > C * M or M > 1
    band = OH if copied else max(1, min(OH, 2**18 // (OW * wide * KH * KW)))
    step, period, times, merged = (1, window[0][1], 1, M) if spread else (window[0][1], 1, M, 1)
    of_row, columns, taps = _plan((OH, OW), (H, W), (KH, KW), window, wide, spread)
    run(_bands, N * -(-OH // band), x, filters, bias, of_row, columns, taps,
        _Geometry(wide, step, period, times, merged, copied, band, 0, rectified), y, scratch=(OW + H * W) * wide if copied else 0,
        dtype=w.dtype)


def _widened(a, wide, name):
    """Return the rows of `a` as one array, zeros behind each to make it `wide`."""
    if a.shape[1] == wide:
        return a.reshape(-1)

    def fill(out):
        out[:, :a.shape[1]] = a
        out[:, a.shape[1]:] = 0
    return derived(name, (len(a), wide), a.dtype, fill, a).reshape(-1)


@kernel
def _bands(x, w, b, of_row, columns, taps, geometry, y, scratch, queue, lane):
    """Do a band of rows of y a unit."""
    (_, H, W, C), (_, OH, OW, F), wide, band = x.shape, y.shape, geometry.wide, geometry.rows
    bands, z, step, period = -(-OH // band), zeros(w), geometry.step * wide, geometry.period * wide
    filters, bias, line = pointer(w, 0), pointer(b, 0), pointer(scratch, lane * scratch.shape[1])
    frame = pointer(line, OW * wide)
    unit = claim(queue, lane)
    while unit >= 0:
        n, first, last = unit // bands, unit % bands * band, min((unit % bands + 1) * band, OH)
        image = pointer(x, n * H * W * C)
        if geometry.copied:
            _copy(image, H * W, C, geometry.times, wide, frame)
            image = frame
        for i in range(first, last):
            row = pointer(y, (n * OH + i) * OW * F)
            to = line if geometry.copied else row
            for r in range(len(columns)):
                count, T = columns[r, 1], of_row[i, 2] * columns[r, 3]
                at, o = pointer(image, of_row[i, 1] + columns[r, 2] * wide), pointer(to, columns[r, 0] * wide)
                run_taps, q = pointer(taps, (of_row[i, 0] * len(columns) + r) * taps.shape[1]), 0
                while q < count:
                    # A last tile of seven may begin early, and compute up to three outputs again.
                    tile = 7 if count >= 7 and count - q > 3 else 1
                    q = min(q, count - tile)
                    j = columns[r, 2] + q * geometry.step
                    slide = columns[r, 4], max(0, -j), max(0, j + (tile - 1) * geometry.step + 3 - W)
                    inputs, out = pointer(at, q * step), pointer(o, q * period)
                    if tile == 7:
                        _outputs(inputs, run_taps, T, slide, filters, bias, out, geometry, (z, z, z, z, z, z, z))
                    else:
                        _outputs(inputs, run_taps, T, slide, filters, bias, out, geometry, (z,))
                    q += tile
            if geometry.copied:
                _merge(line, OW, wide, geometry.merged, F, row)
        unit = claim(queue, lane)


@device
def _outputs(x, taps, T, slide, w, b, y, geometry, zero):
    """Store len(zero) outputs of a run, sums of T products and the bias."""
    wide, step, period = geometry.wide, geometry.step * geometry.wide, geometry.period * geometry.wide
    s, before, after = slide
    for v in range(0, wide, width(w)):
        c = min(v, wide - width(w))
        total, far = _all(zero, load(b, c)), zero
        for first in range(0, 2 * T, 2 * _TERMS):
            if first > 0:
                total, far = zero, _sums(far, total)
            last = min(first + 2 * _TERMS, 2 * T)
            if s == 1:          # a constant in the call: each stride has code of its own
                for t in range(first, last, 6):
                    total = _slide(pointer(x, c + taps[t]), wide, 1, before, after, load(w, taps[t + 1] + c),
                                   load(w, taps[t + 3] + c), load(w, taps[t + 5] + c), total)
            elif s == 2:
                for t in range(first, last, 6):
                    total = _slide(pointer(x, c + taps[t]), wide, 2, before, after, load(w, taps[t + 1] + c),
                                   load(w, taps[t + 3] + c), load(w, taps[t + 5] + c), total)
            else:
                for t in range(first, last, 2):
                    total = _multiply_add(x, c + taps[t], step, load(w, taps[t + 1] + c), total)
        _store(pointer(y, c), period, geometry.rectified, _sums(far, total) if T > _TERMS else total)


@device
def _slide(x, pixel, s, before, after, w0, w1, w2, t):
    """Return t[i] + the three weights times inputs i s, i s + 1, i s + 2 for each i.

    The first `before` inputs and the last `after`, up to two, are outside the image. LLVM makes a load that occurs
    three times once.
    """
    end = (len(t) - 1) * s + 2
    first, last = _inside(x, 0, before > 0), _inside(x, end * pixel, after > 0)
    if len(t) == 1:
        return (_three(first, _inside(x, pixel, before > 1 or after > 1), last, w0, w1, w2, t[0]),)
    second, other = _inside(x, pixel, before > 1), _inside(x, (end - 1) * pixel, after > 1)
    p = s * pixel
    a = _three(first, second, load(x, 2 * pixel), w0, w1, w2, t[0])
    b = _three(second if s == 1 else load(x, p), load(x, p + pixel), load(x, p + 2 * pixel), w0, w1, w2, t[1])
    z = other if s == 1 else load(x, 5 * p + 2 * pixel)
    f = _three(load(x, 5 * p), load(x, 5 * p + pixel), z, w0, w1, w2, t[5])
    g = _three(load(x, 6 * p), other, last, w0, w1, w2, t[6])
    return (a, b, _three_of(x, 2 * p, pixel, w0, w1, w2, t[2]), _three_of(x, 3 * p, pixel, w0, w1, w2, t[3]),
            _three_of(x, 4 * p, pixel, w0, w1, w2, t[4]), f, g)


@device
def _three_of(x, at, pixel, w0, w1, w2, t):
    """Return t + the three weights times neighbouring inputs. Written out in _slide it is 0.9 as fast: LLVM's order."""
    return _three(load(x, at), load(x, at + pixel), load(x, at + 2 * pixel), w0, w1, w2, t)


@device
def _inside(x, at, outside):
    """Return the vector at `at`, or zeros where that is outside the image."""
    return zeros(x) if outside else load(x, at)


@device
def _three(x0, x1, x2, w0, w1, w2, t):
    return fma(x2, w2, fma(x1, w1, fma(x0, w0, t)))


@device
def _all(like, v):
    """Return a tuple as long as `like` of one vector."""
    if len(like) == 7:
        return (v, v, v, v, v, v, v)
    return (v,)


@device
def _multiply_add(x, at, step, w, t):
    """Return t[i] + x[at + i step : ...] * w for each i."""
    if len(t) == 1:
        return (fma(load(x, at), w, t[0]),)
    return (fma(load(x, at), w, t[0]), fma(load(x, at + step), w, t[1]), fma(load(x, at + 2 * step), w, t[2]),
            fma(load(x, at + 3 * step), w, t[3]), fma(load(x, at + 4 * step), w, t[4]),
            fma(load(x, at + 5 * step), w, t[5]), fma(load(x, at + 6 * step), w, t[6]))


@device
def _sums(p, q):
    if len(p) == 1:
        return (add(p[0], q[0]),)
    return (add(p[0], q[0]), add(p[1], q[1]), add(p[2], q[2]), add(p[3], q[3]), add(p[4], q[4]), add(p[5], q[5]),
            add(p[6], q[6]))


@device
def _store(y, period, rectified, t):
    """Store the vectors of t, `period` apart."""
    store(y, 0, _behind(rectified, t[0]))
    if len(t) == 7:
        store(y, period, _behind(rectified, t[1]))
        store(y, 2 * period, _behind(rectified, t[2]))
        store(y, 3 * period, _behind(rectified, t[3]))
        store(y, 4 * period, _behind(rectified, t[4]))
        store(y, 5 * period, _behind(rectified, t[5]))
        store(y, 6 * period, _behind(rectified, t[6]))


@device
def _behind(rectified, v):
    return rectify(v) if rectified else v


@device
def _copy(x, pixels, C, times, wide, frame):
    """Copy pixels of C numbers to `frame`, each number `times` times in a row, zeros behind them up to `wide`."""
    for p in range(pixels):
        for c in range(C):
            for m in range(times):
                frame[p * wide + c * times + m] = x[p * C + c]
        for c in range(C * times, wide):
            frame[p * wide + c] = 0


@device
def _merge(line, pixels, wide, merged, F, y):
    """Write the sums of `merged` numbers in a row of `line` to y, F to a pixel."""
    for p in range(pixels):
        for c in range(F):
            value = 0.0
            for m in range(merged):
                value += line[p * wide + c * merged + m]
            y[p * F + c] = value


# ---- The gradient of the weights -------------------------------------------------------------------------------------

def depthwise_conv2d_weight_gradient(dy, x, kernel_size, strides, pads, dilation, dw, db):
    """Write dw (KH, KW, C, M) and db (C M,) from dy (N, OH, OW, C M) and x (N, H, W, C).

    See reference.depthwise_conv2d_weight_gradient.
    """
    (N, OH, OW, F), (_, H, W, C), (KH, KW), lanes = dy.shape, x.shape, kernel_size, REGISTER_BYTES // dy.dtype.itemsize
    wide = -(-F // lanes) * lanes
    copied, sums = wide > F or C < F, ChunkSums(N, (KH * KW + 1) * wide)
    of_row, columns, taps = _plan((OH, OW), (H, W), (KH, KW), (strides, pads, dilation), wide)
    tiles = sum(-(-count // 7) if count >= 7 else count for count in columns[:, 1].tolist())
    geometry = _Geometry(wide, strides[1], 1, F // C, 1, copied, max(1, _TERMS // tiles), sums.chunk)
    for some in sums.rounds():
        run(_chunks, len(sums.parts), dy[some], x[some], of_row, columns, taps, geometry, sums.parts,
            scratch=(KH * KW + 1 + (H * W + OH * OW if copied else 0)) * wide, dtype=dy.dtype)

    def write(total):
        rows = total.reshape(-1, wide)[:, :F]
        dw.reshape(KH * KW, F)[...], db[...] = rows[:-1], rows[-1]
    sums.finish(write)


@kernel
def _chunks(dy, x, of_row, columns, taps, geometry, parts, scratch, queue, lane):
    """Add up the gradients, dw and db behind it, of one chunk of images a unit."""
    (N, H, W, C), (_, OH, OW, F), wide, chunk, z = x.shape, dy.shape, geometry.wide, geometry.chunk, zeros(dy)
    sums, size, step = pointer(scratch, lane * scratch.shape[1]), parts.shape[1] - wide, geometry.step * wide
    frame = pointer(sums, size + wide)
    s = claim(queue, lane)
    while s >= 0:
        for k in range(size + wide):
            parts[s, k] = 0
            sums[k] = 0
        for n in range(s * chunk, min((s + 1) * chunk, N)):
            image, gradient = pointer(x, n * H * W * C), pointer(dy, n * OH * OW * F)
            if geometry.copied:
                _copy(image, H * W, C, geometry.times, wide, frame)
                _copy(gradient, OH * OW, F, 1, wide, pointer(frame, H * W * wide))
                image, gradient = frame, pointer(frame, H * W * wide)
            for first in range(0, OH, geometry.rows):
                for i in range(first, min(first + geometry.rows, OH)):
                    for r in range(len(columns)):
                        count, T = columns[r, 1], of_row[i, 2] * columns[r, 3]
                        run_taps = pointer(taps, (of_row[i, 0] * len(columns) + r) * taps.shape[1])
                        tile = 7 if count >= 7 else 1
                        for q in range(0, count, tile):
                            # A last tile of seven begins early; the outputs that it has again are left out.
                            begin = min(q, count - tile)
                            j = columns[r, 2] + begin * geometry.step
                            slide = columns[r, 4], max(0, -j), max(0, j + (tile - 1) * geometry.step + 3 - W)
                            inputs = pointer(image, of_row[i, 1] + columns[r, 2] * wide + begin * step)
                            o = pointer(gradient, (i * OW + columns[r, 0] + begin) * wide)
                            if tile == 7:
                                _gradients(inputs, run_taps, T, slide, o, q - begin, sums, size, geometry,
                                           (z, z, z, z, z, z, z))
                            else:
                                _gradients(inputs, run_taps, T, slide, o, 0, sums, size, geometry, (z,))
                for k in range(0, size + wide, width(dy)):
                    add_to_float64(pointer(parts, s * (size + wide)), k, load(sums, k))
                    store(sums, k, z)
        s = claim(queue, lane)


@device
def _gradients(x, taps, T, slide, dy, skip, sums, size, geometry, zero):
    """Add to `sums` what len(zero) outputs of a run, but for the first `skip`, make of their inputs."""
    wide, step = geometry.wide, geometry.step * geometry.wide
    s, before, after = slide
    for c in range(0, wide, width(dy)):
        g = _some(pointer(dy, c), wide, skip, zero)
        if s == 1:
            for t in range(0, 2 * T, 6):
                _add_three(sums, c, pointer(taps, t), _slide_back(pointer(x, c + taps[t]), wide, 1, before, after, g))
        elif s == 2:
            for t in range(0, 2 * T, 6):
                _add_three(sums, c, pointer(taps, t), _slide_back(pointer(x, c + taps[t]), wide, 2, before, after, g))
        else:
            for t in range(0, 2 * T, 2):
                _add(sums, taps[t + 1] + c, _dot(_some(pointer(x, c + taps[t]), step, 0, zero), g))
        _add(sums, size + c, _total(g))


@device
def _add(sums, at, v):
    store(sums, at, add(load(sums, at), v))


@device
def _add_three(sums, c, taps, v):
    _add(sums, taps[1] + c, v[0])
    _add(sums, taps[3] + c, v[1])
    _add(sums, taps[5] + c, v[2])


@device
def _some(x, step, skip, like):
    """Return as many vectors as `like` has, `step` apart, and zeros for the first `skip`."""
    if len(like) == 1:
        return (load(x, 0),)
    return (_inside(x, 0, skip > 0), _inside(x, step, skip > 1), _inside(x, 2 * step, skip > 2),
            _inside(x, 3 * step, skip > 3), _inside(x, 4 * step, skip > 4), _inside(x, 5 * step, skip > 5),
            load(x, 6 * step))


@device
def _slide_back(x, pixel, s, before, after, g):
    """Return for each of three taps the sum of the gradients times the inputs that it meets, as in _slide."""
    p, end = s * pixel, (len(g) - 1) * s + 2
    first, last = _inside(x, 0, before > 0), _inside(x, end * pixel, after > 0)
    if len(g) == 1:
        other = _inside(x, pixel, before > 1 or after > 1)
        return multiply(first, g[0]), multiply(other, g[0]), multiply(last, g[0])
    second, other = _inside(x, pixel, before > 1), _inside(x, (end - 1) * pixel, after > 1)
    return (_dot((first, second if s == 1 else load(x, p), load(x, 2 * p), load(x, 3 * p), load(x, 4 * p),
                  load(x, 5 * p), load(x, 6 * p)), g),
            _dot((second, load(x, p + pixel), load(x, 2 * p + pixel), load(x, 3 * p + pixel), load(x, 4 * p + pixel),
                  load(x, 5 * p + pixel), other), g),
            _dot((load(x, 2 * pixel), load(x, p + 2 * pixel), load(x, 2 * p + 2 * pixel), load(x, 3 * p + 2 * pixel),
                  load(x, 4 * p + 2 * pixel), other if s == 1 else load(x, 5 * p + 2 * pixel), last), g))


@device
def _dot(x, g):
    if len(g) == 1:
        return multiply(x[0], g[0])
    return fma(x[6], g[6], fma(x[5], g[5], fma(x[4], g[4], fma(x[3], g[3], fma(x[2], g[2], fma(x[1], g[1], multiply(
        x[0], g[0])))))))


@device
def _total(g):
    if len(g) == 1:
        return g[0]
    return add(add(add(g[0], g[1]), add(g[2], g[3])), add(add(g[4], g[5]), g[6]))
