"""Convolution and its gradients, one operation at a time: tiles over windows that are read where they lie.

No im2col matrix is written. Row p of im2col is KH runs of KW C neighbouring numbers of the image, one image row apart,
so a tile needs only where its eight windows begin. An image that has padding is first copied into a frame of zeros.

    forward           y  = im2col(x) @ w + b
    input gradient    dx = im2col(dy spread by the strides and framed) @ (w turned by 180 degrees, C and F exchanged):
                      each pixel gathers what col2im would add to it
    weight gradient   dw = im2col(x)^T @ dy

Work is split over images. The weight gradient sums images in fixed chunks, then the chunks in order. What a network runs
where it can is blocks.py, winograd.py and sparse.py: several layers in one pass.
"""

import numpy as np

from minicnn.kernels.board import claim, places
from minicnn.kernels.frames import fill_frame
from minicnn.kernels.jit import kernel
from minicnn.kernels.simd import pointer
from minicnn.kernels.threads import run, workspace
from minicnn.kernels.tiles import ROWS, columns_of, in_panels, panel_of, product_tile, window_terms

__all__ = ["conv2d", "conv2d_input_gradient", "conv2d_weight_gradient", "sum_chunks", "chunk_of"]


def conv2d(x, w, b, strides, pads, y):
    """Write the convolution of x (N, H, W, C) with w (KH, KW, C, F) and b (F,) to y (N, OH, OW, F).

    See reference.conv2d.
    """
    KH, KW, C, F = w.shape
    packed, wide = in_panels(w.reshape(-1, F))
    _convolve(x, packed, wide, b, (KH, KW), strides, (1, 1), pads, y)


def conv2d_input_gradient(dy, w, image_size, strides, pads, dx):
    """Write dx (N, H, W, C) of a convolution from dy (N, OH, OW, F). See reference.conv2d_input_gradient.

    x[h, w] meets w[kh, kw] in the output at h = oh SH + kh - top. With kh' = KH - 1 - kh this is a convolution of
    stride 1 over dy spread SH apart, in a frame of KH - 1 - top zeros above.
    """
    KH, KW, C, F = w.shape
    turned = workspace("turned", (KH, KW, F, C), w.dtype)
    turned[...] = w[::-1, ::-1].transpose(0, 1, 3, 2)
    packed, wide = in_panels(turned.reshape(-1, C))
    (H, W), (OH, OW), (SH, SW), (top, _, left, _) = image_size, dy.shape[1:3], strides, pads
    above, before = KH - 1 - top, KW - 1 - left
    frame = (above, H - 1 + KH - above - ((OH - 1) * SH + 1), before, W - 1 + KW - before - ((OW - 1) * SW + 1))
    no_bias = workspace("no bias", C, w.dtype)
    no_bias[:] = 0
    _convolve(dy, packed, wide, no_bias, (KH, KW), (1, 1), strides, frame, dx)


def _convolve(x, packed, wide, b, kernel_size, strides, spread, pads, y):
    N, H, W, C = x.shape
    H, W = pads[0] + (H - 1) * spread[0] + 1 + pads[1], pads[2] + (W - 1) * spread[1] + 1 + pads[3]
    framed = any(pads) or spread != (1, 1)
    scratch = ROWS * columns_of(x.dtype) + (H * W * C if framed else 0)
    run(_conv2d_images, N, x, packed, wide, b, window_terms(kernel_size, C, W * C), strides, spread, pads, framed, (H, W),
        y, scratch=scratch, dtype=x.dtype)


@kernel
def _conv2d_images(x, w, wide, b, terms, strides, spread, pads, framed, size, y, scratch, board, lane):
    (_, OH, OW, F), C, (H, W), K = y.shape, x.shape[3], size, len(terms)
    P, row = OH * OW, W * C
    out, at, panel = pointer(scratch, lane * scratch.shape[1]), places(board, lane), panel_of(w)
    frame, flat, filters, offsets = pointer(out, ROWS * panel), pointer(x, 0), pointer(w, 0), pointer(terms, 0)
    n = claim(board, lane)
    while n >= 0:
        image, base = flat, n * H * W * C
        if framed:
            fill_frame(x, n, spread, pads, W, H * W * C, frame)
            image, base = frame, 0
        for p in range(0, P, ROWS):
            for r in range(ROWS):
                # Past the last window, the last again: computed, not stored.
                q = min(p + r, P - 1)
                at[r] = base + (q // OW) * strides[0] * row + (q % OW) * strides[1] * C
            for j in range(0, wide, panel):
                product_tile(image, at, offsets, K, filters, j, wide, out, 0, panel)
                for r in range(min(ROWS, P - p)):
                    oh, ow = (p + r) // OW, (p + r) % OW
                    for f in range(min(panel, F - j)):
                        y[n, oh, ow, j + f] = out[r * panel + f] + b[j + f]
        n = claim(board, lane)


def chunk_of(N):
    """Return how many images one partial gradient sums: at least 2, and at most 16 partial gradients in all."""
    return max(2, -(-N // 16))


def conv2d_weight_gradient(dy, x, kernel_size, strides, pads, dw, db):
    """Write dw (KH, KW, C, F) and db (F,) of a convolution from dy (N, OH, OW, F) and x (N, H, W, C).

    See reference.conv2d_weight_gradient. Chunks depend on N alone, whatever the threads.
    """
    N, OH, OW, F = dy.shape
    H, W, C = pads[0] + x.shape[1] + pads[1], pads[2] + x.shape[2] + pads[3], x.shape[3]
    K = kernel_size[0] * kernel_size[1] * C
    # Where each window begins in the image, and where each element of a window lies in it.
    rows = workspace("rows", OH * OW, np.int64)
    np.add.outer(np.arange(OH) * (strides[0] * W * C), np.arange(OW) * (strides[1] * C), out=rows.reshape(OH, OW))
    elements = workspace("elements", -(-K // ROWS) * ROWS, np.int64)
    elements[:K] = np.add.outer(np.arange(kernel_size[0]) * (W * C), np.arange(kernel_size[1] * C)).reshape(-1)
    elements[K:] = elements[K - 1]
    chunk, panel = chunk_of(N), columns_of(x.dtype)
    chunks, wide = -(-N // chunk), -(-F // panel) * panel
    dw_parts = workspace("dw parts", (chunks, len(elements) * wide), np.float64)
    db_parts = workspace("db parts", (chunks, F), np.float64)
    framed, aligned = any(pads), wide == F
    run(_conv2d_weight_gradient_chunks, chunks, dy, x, chunk, rows, elements, pads, (H, W), framed, wide, dw_parts,
        db_parts, scratch=ROWS * panel + (H * W * C if framed else 0) + (0 if aligned else OH * OW * wide),
        dtype=x.dtype)
    sum_chunks(dw_parts, wide, dw.reshape(K, F))
    sum_chunks(db_parts, F, db.reshape(1, F))


@kernel
def _conv2d_weight_gradient_chunks(dy, x, chunk, rows, elements, pads, size, framed, wide, dw_parts, db_parts, scratch,
                                   board, lane):
    N, OH, OW, F = dy.shape
    (H, W), C, P, panel = size, x.shape[3], OH * OW, panel_of(dy)
    pixels = H * W * C if framed else 0
    out, at, windows = pointer(scratch, lane * scratch.shape[1]), places(board, lane), pointer(rows, 0)
    frame, padded = pointer(out, ROWS * panel), pointer(out, ROWS * panel + pixels)
    flat_x, flat_dy = pointer(x, 0), pointer(dy, 0)
    s = claim(board, lane)
    while s >= 0:
        dw, db = dw_parts[s], db_parts[s]
        dw[:] = 0
        db[:] = 0
        for n in range(s * chunk, min((s + 1) * chunk, N)):
            image, base = flat_x, n * H * W * C
            if framed:
                fill_frame(x, n, (1, 1), pads, W, pixels, frame)
                image, base = frame, 0
            gradient, g = flat_dy, n * P * F
            for p in range(P):
                for f in range(F):
                    db[f] += flat_dy[g + p * F + f]
            if wide != F:
                for p in range(P):
                    for f in range(wide):
                        padded[p * wide + f] = flat_dy[g + p * F + f] if f < F else 0
                gradient, g = padded, 0
            for k in range(0, len(elements), ROWS):
                for r in range(ROWS):
                    at[r] = base + elements[k + r]
                for j in range(0, wide, panel):
                    product_tile(image, at, windows, P, gradient, g + j, wide, out, 0, panel)
                    for r in range(ROWS):
                        for f in range(panel):
                            dw[(k + r) * wide + j + f] += out[r * panel + f]
        s = claim(board, lane)


@kernel
def sum_chunks(parts, wide, out):
    """Write to out (K, F) the sum over chunks, in order, of parts (chunks, >= K wide), rows `wide` apart."""
    K, F = out.shape
    for k in range(K):
        for f in range(F):
            total = 0.0
            for s in range(parts.shape[0]):
                total += parts[s, k * wide + f]
            out[k, f] = total
