"""Depthwise convolution: vectors over channels, which do not mix.

A copy of a band of rows, padded and spread, has each channel as often as it has filters, and a whole number of vectors to
a pixel: from then on output channel o is made of channel o of the copy. The gradient of the inputs is the same
convolution of dy, spread by the strides, with the window turned round; the gradient of the weights sums, like that of
`backward`, images in fixed chunks.

Rounding: at most 16 terms in a row, as in every product (microkernel.py).
"""

from typing import NamedTuple

import numpy as np

from minicnn.kernels.convolution.padding import Geometry
from minicnn.kernels.runtime.jit import device, kernel
from minicnn.kernels.runtime.microkernel import columns_of, in_panels, window_terms
from minicnn.kernels.runtime.reduction import chunk_of, sum_chunks
from minicnn.kernels.runtime.simd import add, add_to_float64, fma, load, pointer, store, store_first, width, zeros
from minicnn.kernels.runtime.threads import run, workspace
from minicnn.kernels.runtime.work_queue import claim

__all__ = ["depthwise_conv2d", "depthwise_conv2d_input_gradient", "depthwise_conv2d_weight_gradient"]

_TERMS = 16


class _Copy(NamedTuple):
    """How a kernel copies its images.

    An image of H x W pixels becomes rows of `W` pixels, of `wide` numbers each, behind `top` and `left` zeros, its own
    pixels (SH, SW) apart and each of its numbers `times` times in a row.
    """

    top: int
    left: int
    SH: int
    SW: int
    W: int
    wide: int
    times: int


def depthwise_conv2d(x, w, b, strides, pads, dilation, y):
    """Write the convolution of each channel of x (N, H, W, C) with its filters w (KH, KW, C, M) to y (N, OH, OW, C M).

    See reference.depthwise_conv2d.
    """
    KH, KW, C, M = w.shape
    filters, wide = in_panels(w.reshape(KH * KW, C * M))
    bias, _ = in_panels(b.reshape(1, C * M), "bias")
    W = pads[2] + x.shape[2] + pads[3]
    _convolve(x, filters, bias, (KH, KW), dilation, strides, _Copy(pads[0], pads[2], 1, 1, W, wide, M), 1, y)


def depthwise_conv2d_input_gradient(dy, w, image_size, strides, pads, dilation, dx):
    """Write dx (N, H, W, C) from dy (N, OH, OW, C M). See reference.depthwise_conv2d_input_gradient.

    x[h] meets w[kh] in the output at h = oh SH + kh DH - top. With kh' = KH - 1 - kh this is a convolution of stride 1
    over dy spread SH apart, behind (KH - 1) DH - top zeros; the M gradients of a channel are added up.
    """
    KH, KW, C, M = w.shape
    turned = workspace("turned", (KH, KW, C * M), w.dtype)
    turned[...] = w.reshape(KH, KW, C * M)[::-1, ::-1]
    filters, wide = in_panels(turned.reshape(KH * KW, C * M))
    bias = workspace("bias", wide, w.dtype)
    bias[...] = 0
    top, left = (KH - 1) * dilation[0] - pads[0], (KW - 1) * dilation[1] - pads[2]
    W = image_size[1] + (KW - 1) * dilation[1]
    _convolve(dy, filters, bias, (KH, KW), dilation, (1, 1), _Copy(top, left, *strides, W, wide, 1), M, dx)


def _convolve(x, w, b, kernel_size, dilation, strides, copy, merged, y):
    """Convolve the copies of x; each `merged` sums in a row become one number of y."""
    N, OH, OW, _ = y.shape
    reach = (kernel_size[0] - 1) * dilation[0] + 1
    # A band's copy fits into a first cache, or is what one row of outputs needs.
    band = max(1, min(OH, (16384 // (copy.W * copy.wide * w.itemsize) - reach) // strides[0] + 1))
    terms = window_terms(kernel_size, 1, copy.W, dilation) * copy.wide
    geometry = Geometry(0, 0, 0, 0, reach, 0, *strides, OH, OW, y.shape[3], copy.wide, True, band)
    rows = (band - 1) * strides[0] + reach
    run(_bands, N * -(-OH // band), x, w, b, terms, geometry, copy, merged, y.reshape(-1),
        scratch=copy.wide + rows * copy.W * copy.wide, dtype=w.dtype)


@kernel
def _bands(x, w, b, terms, geometry, copy, merged, y, scratch, queue, lane):
    """Do a band of rows of y a unit."""
    OH, OW, F, band, SH = geometry.OH, geometry.OW, geometry.F, geometry.per_unit, geometry.SH
    bands, wide, K, lanes = -(-OH // band), copy.wide, len(terms), width(w)
    sums, filters, bias, y_at = (pointer(scratch, lane * scratch.shape[1]), pointer(w, 0), pointer(b, 0), pointer(y, 0))
    frame, offsets = pointer(sums, wide), pointer(terms, 0)
    unit = claim(queue, lane)
    while unit >= 0:
        n, first, last = unit // bands, unit % bands * band, min((unit % bands + 1) * band, OH)
        _copy_rows(x, n, first * SH, (last - 1) * SH + geometry.KH, copy, frame)
        for oh in range(first, last):
            for ow in range(OW):
                at = ((oh - first) * SH * copy.W + ow * geometry.SW) * wide
                o = ((n * OH + oh) * OW + ow) * F
                for c in range(0, F * merged, lanes):
                    total = add(load(bias, c), _sum_16(frame, at + c, offsets, 0, min(_TERMS, K), filters, c, wide))
                    for k in range(_TERMS, K, _TERMS):
                        part = _sum_16(frame, at + c, offsets, k, min(k + _TERMS, K), filters, c, wide)
                        total = add(total, part)
                    if merged == 1:
                        store_first(y_at, o + c, total, F - c)
                    else:
                        store(sums, c, total)
                if merged > 1:
                    for c in range(F):
                        value = 0.0
                        for m in range(c * merged, (c + 1) * merged):
                            value += sums[m]
                        y_at[o + c] = value
        unit = claim(queue, lane)


@device
def _sum_16(x, at, terms, first, last, w, j, wide):
    """Return the sum over k from first to last of x[at + terms[k]] * w[k wide + j], a vector of channels."""
    total = zeros(x)
    for k in range(first, last):
        total = fma(load(x, at + terms[k]), load(w, k * wide + j), total)
    return total


@device
def _copy_rows(x, n, first, last, copy, frame):
    """Write rows first .. last-1 of the copy of image n to `frame`."""
    H, W, C, wide = x.shape[1], x.shape[2], x.shape[3], copy.wide
    for i in range((last - first) * copy.W * wide):
        frame[i] = 0
    for h in range(H):
        row = copy.top + h * copy.SH - first
        if row < 0 or row >= last - first:
            continue
        for j in range(W):
            column = copy.left + j * copy.SW
            if column < 0 or column >= copy.W:
                continue
            at = (row * copy.W + column) * wide
            if copy.times == 1:
                for c in range(C):
                    frame[at + c] = x[n, h, j, c]
            else:
                for c in range(C):
                    for m in range(copy.times):
                        frame[at + c * copy.times + m] = x[n, h, j, c]


def depthwise_conv2d_weight_gradient(dy, x, kernel_size, strides, pads, dilation, dw, db):
    """Write dw (KH, KW, C, M) and db (C M,) from dy (N, OH, OW, C M) and x (N, H, W, C).

    See reference.depthwise_conv2d_weight_gradient.
    """
    (N, OH, OW, F), (KH, KW) = dy.shape, kernel_size
    H, W = pads[0] + x.shape[1] + pads[1], pads[2] + x.shape[2] + pads[3]
    wide = -(-F // columns_of(dy.dtype)) * columns_of(dy.dtype)
    copy = _Copy(pads[0], pads[2], 1, 1, W, wide, F // x.shape[3])
    chunk = chunk_of(N)
    chunks = -(-N // chunk)
    dw_parts, db_parts = (workspace(name, (chunks, size), np.float64) for name, size in
                          (("dw parts", KH * KW * wide), ("db parts", wide)))
    terms = window_terms((KH, KW), 1, W, dilation) * wide
    geometry = Geometry(H, W, 0, 0, KH, KW, *strides, OH, OW, F, wide, True, chunk)
    run(_chunks, chunks, dy, x, terms, geometry, copy, dw_parts, db_parts, scratch=(H * W + OH * OW) * wide,
        dtype=dy.dtype)
    sum_chunks(dw_parts, wide, dw.reshape(KH * KW, F))
    sum_chunks(db_parts, wide, db.reshape(1, F))


@kernel
def _chunks(dy, x, terms, geometry, copy, dw_parts, db_parts, scratch, queue, lane):
    """Add up the gradients of one chunk of images a unit."""
    (N, OH, OW, F), H, wide, chunk, lanes = dy.shape, geometry.H, copy.wide, geometry.per_unit, width(dy)
    frame, offsets = pointer(scratch, lane * scratch.shape[1]), pointer(terms, 0)
    gradient = pointer(frame, H * copy.W * wide)
    of_dy = _Copy(0, 0, 1, 1, OW, wide, 1)
    s = claim(queue, lane)
    while s >= 0:
        dw, db = pointer(dw_parts, s * dw_parts.shape[1]), pointer(db_parts, s * wide)
        for i in range(dw_parts.shape[1]):
            dw[i] = 0
        for i in range(wide):
            db[i] = 0
        for n in range(s * chunk, min((s + 1) * chunk, N)):
            _copy_rows(x, n, 0, H, copy, frame)
            _copy_rows(dy, n, 0, OH, of_dy, gradient)
            for oh in range(OH):
                for first in range(0, OW, _TERMS):
                    last, row = min(first + _TERMS, OW), oh * geometry.SH * copy.W
                    for c in range(0, F, lanes):
                        for k in range(len(terms)):
                            total = zeros(dy)
                            for ow in range(first, last):
                                pixel = load(frame, (row + ow * geometry.SW) * wide + offsets[k] + c)
                                total = fma(pixel, load(gradient, (oh * OW + ow) * wide + c), total)
                            add_to_float64(dw, k * wide + c, total)
                        for ow in range(first, last):
                            add_to_float64(db, c, load(gradient, (oh * OW + ow) * wide + c))
        s = claim(queue, lane)
