"""The gradients of a convolution alone: tiles over windows that are read where they lie.

    input gradient    dx = im2col(dy spread by the strides and framed) @ (w turned by 180 degrees, C and F exchanged):
                      each pixel gathers what col2im would add to it
    weight gradient   dw = im2col(x)^T @ dy

Work is split over images. The weight gradient sums images in fixed chunks, then the chunks in order. Behind a ReLU a
network runs backward_sparse.py and backward_first.py instead, which leave out what is 0.
"""

import numpy as np

from minicnn.kernels.convolution.padding import Geometry, fill_frame, fill_rows
from minicnn.kernels.runtime.jit import device, kernel
from minicnn.kernels.runtime.microkernel import ROWS, columns_of, in_panels, panel_of, product_tile, window_terms
from minicnn.kernels.runtime.reduction import chunk_of, sum_chunks
from minicnn.kernels.runtime.simd import add_to_float64, load, pointer, store_first, width
from minicnn.kernels.runtime.threads import run, workspace
from minicnn.kernels.runtime.work_queue import claim, places

__all__ = ["conv2d_input_gradient", "conv2d_weight_gradient", "dilated_input_gradient", "dilated_weight_gradient"]


def conv2d_input_gradient(dy, w, image_size, strides, pads, dx):
    """Write dx (N, H, W, C) of a convolution from dy (N, OH, OW, F). See reference.conv2d_input_gradient.

    x[h, w] meets w[kh, kw] in the output at h = oh SH + kh - top. With kh' = KH - 1 - kh this is a convolution of
    stride 1 over dy spread SH apart, in a frame of KH - 1 - top zeros above.
    """
    dilated_input_gradient(dy, w, image_size, strides, pads, (1, 1), dx)


def dilated_input_gradient(dy, w, image_size, strides, pads, dilation, dx):
    """Write dx of `dilated_conv2d`: the window reaches over (KH - 1) DH + 1 rows, else as above."""
    KH, KW, C, F = w.shape
    turned = workspace("turned", (KH, KW, F, C), w.dtype)
    turned[...] = w[::-1, ::-1].transpose(0, 1, 3, 2)
    packed, wide = in_panels(turned.reshape(-1, C))
    (H, W), (OH, OW), (SH, SW), (top, _, left, _) = image_size, dy.shape[1:3], strides, pads
    high, broad = (KH - 1) * dilation[0] + 1, (KW - 1) * dilation[1] + 1
    above, before = high - 1 - top, broad - 1 - left
    frame = (above, H - 1 + high - above - ((OH - 1) * SH + 1), before, W - 1 + broad - before - ((OW - 1) * SW + 1))
    HP, WP = frame[0] + (OH - 1) * SH + 1 + frame[1], frame[2] + (OW - 1) * SW + 1 + frame[3]
    run(_gather_images, dy.shape[0], dy, packed, wide, window_terms((KH, KW), F, WP * F, dilation), strides, frame,
        (HP, WP), dx, scratch=ROWS * columns_of(w.dtype) + HP * WP * F, dtype=w.dtype)


@kernel
def _gather_images(dy, w, wide, terms, spread, pads, size, dx, scratch, queue, lane):
    """Write dx of an image a unit: a convolution of stride 1 over dy in its frame."""
    (_, H, W, C), F, (HP, WP), K = dx.shape, dy.shape[3], size, len(terms)
    out, at, panel = pointer(scratch, lane * scratch.shape[1]), places(queue, lane), panel_of(w)
    frame, filters, offsets, dx_at = pointer(out, ROWS * panel), pointer(w, 0), pointer(terms, 0), pointer(dx, 0)
    n = claim(queue, lane)
    while n >= 0:
        fill_frame(dy, n, spread, pads, WP, HP * WP * F, frame)
        i, j = 0, 0                         # row and column of the next pixel
        for p in range(0, H * W, ROWS):
            for r in range(ROWS):
                at[r] = (i * WP + j) * F
                if p + r + 1 < H * W:       # past the last pixel, the last again: computed, not stored
                    i, j = (i + 1, 0) if j + 1 == W else (i, j + 1)
            for c in range(0, wide, panel):
                product_tile(frame, at, offsets, K, filters, c, wide, out, 0, panel)
                for r in range(min(ROWS, H * W - p)):
                    pixel = (n * H * W + p + r) * C
                    for v in range(0, min(panel, C - c), width(w)):
                        store_first(dx_at, pixel + c + v, load(out, r * panel + v), C - c - v)
        n = claim(queue, lane)


def conv2d_weight_gradient(dy, x, kernel_size, strides, pads, dw, db):
    """Write dw (KH, KW, C, F) and db (F,) of a convolution from dy (N, OH, OW, F) and x (N, H, W, C).

    See reference.conv2d_weight_gradient. x may be uint8 pixels.
    """
    dilated_weight_gradient(dy, x, kernel_size, strides, pads, (1, 1), dw, db)


def dilated_weight_gradient(dy, x, kernel_size, strides, pads, dilation, dw, db):
    """Write dw and db of `dilated_conv2d`."""
    N, OH, OW, F = dy.shape
    H, W, C = pads[0] + x.shape[1] + pads[1], pads[2] + x.shape[2] + pads[3], x.shape[3]
    K = kernel_size[0] * kernel_size[1] * C
    # Where each window begins in the image, and where each element of a window lies in it.
    rows = workspace("rows", OH * OW, np.int64)
    np.add.outer(np.arange(OH) * (strides[0] * W * C), np.arange(OW) * (strides[1] * C), out=rows.reshape(OH, OW))
    elements = workspace("elements", -(-K // ROWS) * ROWS, np.int64)
    elements[:K] = window_terms(tuple(kernel_size), C, W * C, dilation)
    elements[K:] = elements[K - 1]
    chunk, panel = chunk_of(N), columns_of(dy.dtype)
    chunks, wide = -(-N // chunk), -(-F // panel) * panel
    dw_parts = workspace("dw parts", (chunks, len(elements) * wide), np.float64)
    db_parts = workspace("db parts", (chunks, F), np.float64)
    framed, aligned = any(pads) or x.dtype != dy.dtype, wide == F
    image = workspace("no image", 0, dy.dtype) if framed else x.reshape(-1)
    geometry = Geometry(H, W, pads[0], pads[2], *kernel_size, *strides, OH, OW, F, wide, framed, chunk)
    run(_conv2d_weight_gradient_chunks, chunks, dy, x, image, rows, elements, geometry, dw_parts, db_parts,
        scratch=ROWS * panel + (H * W * C if framed else 0) + (0 if aligned else OH * OW * wide), dtype=dy.dtype)
    sum_chunks(dw_parts, wide, dw.reshape(K, F))
    sum_chunks(db_parts, F, db.reshape(1, F))


@kernel
def _conv2d_weight_gradient_chunks(dy, x, flat, rows, elements, geometry, dw_parts, db_parts, scratch, queue, lane):
    """Add up the gradients of one chunk of images a unit."""
    N, OH, OW, F = dy.shape
    H, W, wide, chunk = geometry.H, geometry.W, geometry.wide, geometry.per_unit
    C, P, panel = x.shape[3], OH * OW, panel_of(dy)
    pixels = H * W * C if geometry.framed else 0
    out, at, windows = pointer(scratch, lane * scratch.shape[1]), places(queue, lane), pointer(rows, 0)
    frame, padded = pointer(out, ROWS * panel), pointer(out, ROWS * panel + pixels)
    flat_x, flat_dy = pointer(flat, 0), pointer(dy, 0)
    s = claim(queue, lane)
    while s >= 0:
        dw = pointer(dw_parts, s * dw_parts.shape[1])
        for i in range(dw_parts.shape[1]):
            dw[i] = 0
        for f in range(F):
            db_parts[s, f] = 0
        for n in range(s * chunk, min((s + 1) * chunk, N)):
            image, base = flat_x, n * H * W * C
            if geometry.framed:
                fill_rows(x, n, 0, H, geometry, frame)
                image, base = frame, 0
            gradient, g = flat_dy, n * P * F
            _add_rows(flat_dy, g, P, F, pointer(db_parts, s * F))
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
                        for v in range(0, panel, width(dy)):
                            add_to_float64(dw, (k + r) * wide + j + v, load(out, r * panel + v))
        s = claim(queue, lane)


@device
def _add_rows(g, o, rows, F, db):
    """Add the rows of g, F numbers each, from o on, to db."""
    whole = F - F % width(g)
    for i in range(o, o + rows * F, F):
        for f in range(0, whole, width(g)):
            add_to_float64(db, f, load(g, i + f))
        for f in range(whole, F):
            db[f] += g[i + f]
