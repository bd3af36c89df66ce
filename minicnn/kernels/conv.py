"""Convolution and its gradients: tiles over windows that are read where they lie.

No im2col matrix is written. Row p of im2col is KH runs of KW C neighbouring numbers of the image, one image row apart,
so a tile needs only where its four windows begin. An image that has padding is first copied into a frame of zeros.

    forward           y  = im2col(x) @ w + b
    input gradient    dx = im2col(dy spread by the strides and framed) @ (w turned by 180 degrees, C and F exchanged):
                      each pixel gathers what col2im would add to it
    weight gradient   dw = im2col(x)^T @ dy

Work is split over images. The weight gradient sums images in fixed chunks, then the chunks in order.
"""

import numpy as np

from minicnn.kernels.jit import device, kernel
from minicnn.kernels.threads import run
from minicnn.kernels.tiles import (OUTER_TERMS, add_tile_to_float64, in_panels, outer_tile, panel_columns, product_tile,
                                   store_tile)

__all__ = ["conv2d", "conv2d_input_gradient", "conv2d_weight_gradient"]


def conv2d(x, w, b, strides, pads, y):
    """Write the convolution of x (N, H, W, C) with w (KH, KW, C, F) and b (F,) to y (N, OH, OW, F).

    See reference.conv2d.
    """
    KH, KW, C, F = w.shape
    packed, wide = in_panels(w.reshape(-1, F))
    run(_conv2d_images, x.shape[0], x, packed, wide, b, KH, KW, strides, (1, 1), pads, y)


def conv2d_input_gradient(dy, w, image_size, strides, pads, dx):
    """Write dx (N, H, W, C) of a convolution from dy (N, OH, OW, F). See reference.conv2d_input_gradient.

    x[h, w] meets w[kh, kw] in the output at h = oh SH + kh - top. With kh' = KH - 1 - kh this is a convolution of
    stride 1 over dy spread SH apart, in a frame of KH - 1 - top zeros above.
    """
    KH, KW, C, F = w.shape
    turned = np.ascontiguousarray(w[::-1, ::-1].transpose(0, 1, 3, 2)).reshape(-1, C)
    packed, wide = in_panels(turned)
    (H, W), (OH, OW), (SH, SW), (top, _, left, _) = image_size, dy.shape[1:3], strides, pads
    above, before = KH - 1 - top, KW - 1 - left
    frame = (above, H - 1 + KH - above - ((OH - 1) * SH + 1), before, W - 1 + KW - before - ((OW - 1) * SW + 1))
    run(_conv2d_images, dy.shape[0], dy, packed, wide, np.zeros(C, w.dtype), KH, KW, (1, 1), strides, frame, dx)


@kernel
def _conv2d_images(x, w, wide, b, KH, KW, strides, spread, pads, y, start, stop):
    _, OH, OW, F = y.shape
    C = x.shape[3]
    framed = pads[0] + pads[1] + pads[2] + pads[3] > 0 or spread[0] > 1 or spread[1] > 1
    W = pads[2] + (x.shape[2] - 1) * spread[1] + 1 + pads[3]
    H = pads[0] + (x.shape[1] - 1) * spread[0] + 1 + pads[1]
    frame = np.zeros(H * W * C if framed else 1, x.dtype)
    flat = x.reshape(-1)
    P, run_length, row = OH * OW, KW * C, W * C
    panel = panel_columns(x)
    out = np.empty(4 * panel, x.dtype)
    for n in range(start, stop):
        image, base = flat, n * H * W * C
        if framed:
            _fill_frame(x, n, spread, pads, W, frame)
            image, base = frame, 0
        for p in range(0, P, 4):
            i0 = base + _window_start(p, P, OW, strides, row, C)
            i1 = base + _window_start(p + 1, P, OW, strides, row, C)
            i2 = base + _window_start(p + 2, P, OW, strides, row, C)
            i3 = base + _window_start(p + 3, P, OW, strides, row, C)
            for j in range(0, wide, panel):
                tile = product_tile(image, i0, i1, i2, i3, KH, run_length, row, w, j, wide)
                store_tile(out, 0, panel, 2 * panel, 3 * panel, tile)
                for r in range(min(4, P - p)):
                    oh, ow = (p + r) // OW, (p + r) % OW
                    for f in range(min(panel, F - j)):
                        y[n, oh, ow, j + f] = out[r * panel + f] + b[j + f]


@device
def _window_start(p, P, OW, strides, row, C):
    """Return where window p of P begins in its image; past the last, the last again (computed, not stored)."""
    p = min(p, P - 1)
    return (p // OW) * strides[0] * row + (p % OW) * strides[1] * C


@device
def _fill_frame(x, n, spread, pads, W, frame):
    """Copy image n, its pixels `spread` apart, into the zeros of `frame`."""
    C = x.shape[3]
    for h in range(x.shape[1]):
        for w in range(x.shape[2]):
            at = ((pads[0] + h * spread[0]) * W + pads[2] + w * spread[1]) * C
            for c in range(C):
                frame[at + c] = x[n, h, w, c]


def conv2d_weight_gradient(dy, x, kernel_size, strides, pads, dw, db):
    """Write dw (KH, KW, C, F) and db (F,) of a convolution from dy (N, OH, OW, F) and x (N, H, W, C).

    See reference.conv2d_weight_gradient. Chunks are at least 4 images and at most 16 in number, whatever the threads.
    """
    N, OH, OW, F = dy.shape
    K = kernel_size[0] * kernel_size[1] * x.shape[3]
    W, C = pads[2] + x.shape[2] + pads[3], x.shape[3]
    # Where each window begins in the image, and where each element of a window lies in it.
    rows = (np.arange(OH)[:, None] * (strides[0] * W * C) + np.arange(OW) * (strides[1] * C)).reshape(-1)
    elements = (np.arange(kernel_size[0])[:, None] * (W * C) + np.arange(kernel_size[1] * C)).reshape(-1)
    elements = np.append(elements, np.full(-K % 4, elements[-1]))
    chunk = max(4, -(-N // 16))
    chunks = -(-N // chunk)
    wide = -(-F // (64 // x.itemsize)) * (64 // x.itemsize)
    dw_parts = np.zeros((chunks, len(elements) * wide))
    db_parts = np.zeros((chunks, F))
    run(_conv2d_weight_gradient_chunks, chunks, dy, x, chunk, rows, elements, pads, wide, dw_parts, db_parts)
    _sum_chunks(dw_parts, wide, dw.reshape(K, F))
    _sum_chunks(db_parts, F, db.reshape(1, F))


@kernel
def _conv2d_weight_gradient_chunks(dy, x, chunk, rows, elements, pads, wide, dw_parts, db_parts, start, stop):
    N, OH, OW, F = dy.shape
    H, W, C = pads[0] + x.shape[1] + pads[1], pads[2] + x.shape[2] + pads[3], x.shape[3]
    P, panel = OH * OW, panel_columns(x)
    framed = pads[0] + pads[1] + pads[2] + pads[3] > 0
    frame = np.zeros(H * W * C if framed else 1, x.dtype)
    aligned = wide == F
    padded = np.zeros(1 if aligned else P * wide, dy.dtype)
    flat_x, flat_dy = x.reshape(-1), dy.reshape(-1)
    for s in range(start, stop):
        dw, db = dw_parts[s], db_parts[s]
        for n in range(s * chunk, min((s + 1) * chunk, N)):
            image, base = flat_x, n * H * W * C
            if framed:
                _fill_frame(x, n, (1, 1), pads, W, frame)
                image, base = frame, 0
            gradient, g = flat_dy, n * P * F
            for p in range(P):
                for f in range(F):
                    db[f] += flat_dy[g + p * F + f]
            if not aligned:
                for p in range(P):
                    for f in range(F):
                        padded[p * wide + f] = flat_dy[g + p * F + f]
                gradient, g = padded, 0
            for p in range(0, P, OUTER_TERMS):
                last = min(p + OUTER_TERMS, P)
                for j in range(0, wide, panel):
                    for k in range(0, len(elements), 4):
                        tile = outer_tile(image, rows, p, last, base, elements[k], elements[k + 1], elements[k + 2],
                                          elements[k + 3], gradient, g + j, wide)
                        add_tile_to_float64(dw, k * wide + j, wide, tile, x)


@kernel
def _sum_chunks(parts, wide, out):
    """Write to out (K, F) the sum over chunks, in order, of parts (chunks, >= K wide), rows `wide` apart."""
    K, F = out.shape
    for k in range(K):
        for f in range(F):
            total = 0.0
            for s in range(parts.shape[0]):
                total += parts[s, k * wide + f]
            out[k, f] = total
