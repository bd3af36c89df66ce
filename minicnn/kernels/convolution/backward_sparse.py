"""The backward pass of a fused block, which visits only what has a gradient.

Behind 2x2 max pooling at most one output in four has a gradient g (the switch says which), and none where ReLU was off
(y = 0). So both gradients are sums over short lists of (place, g):

    dw[:, f]          = sum over the list of filter f           of g * window of x at the place        (window_p)
    dx at window p   += sum over the list of the window at p    of g * filter                          (w[:, f])

A window is KH runs of KW C neighbouring numbers, cut into vectors. Nine vectors at a time are summed in registers.

    list of f:  place 17, g | place 19, g | ...       x       [v0 v1 ... v8]   -> nine sums -> dw of f
    list of p:  filter 3, g | filter 8, g | ...       filters [v0 v1 ... v8]   -> nine sums -> added to dx at p

The list of p is a whole number with a bit for each filter; the lists of f are made for a block of places at a time, whose
rows of x fit into the first cache. The sums of 16 blocks are added up in float32, then in float64.

Without pooling there is less to leave out; choice.py says where the lists win.

Measured (one core, AVX-512, an image, 89 % of ReLUs on): COV-19Net's second block 104 us, its third 39; the multiply-adds of
a dense backward of the second alone take 264 us at peak. Tried before: dx[window] += g w[:, f] for each entry of the
lists of dw, in the same loop: 160 and 57, because a vector that was just stored is slow to load; lists for dx like those for
dw instead of bits: 134 and 48; twice nine sums for dx at a time: no gain.
"""

from typing import NamedTuple

import numpy as np

from minicnn.kernels.convolution.padding import Geometry, fill_rows
from minicnn.kernels.runtime.jit import device, kernel
from minicnn.kernels.runtime.reduction import ChunkSums
from minicnn.kernels.runtime.simd import (REGISTER_BYTES, add, add_to_float64, broadcast, equal, fma, load, load_bytes,
                                          lowest_bit, pointer, splat, store, where_positive, width, zeros)
from minicnn.kernels.runtime.threads import run, workspace
from minicnn.kernels.runtime.work_queue import claim, places

__all__ = ["gradients"]

_GROUP = 9                              # vectors of a window in registers at a time
_LIST = 128                             # places in a block at the most
_FEW = 3                                # vectors of a window, of which three entries are summed side by side
_BITS = 64                              # filters whose presence one whole number tells
_BLOCKS = 16                            # blocks whose sums are added in float32 before they are added in float64
_CACHE = 24 * 1024                      # bytes of x that a block of places may touch


class _Output(NamedTuple):
    """What a fused block wrote, and the gradient that comes back; flat."""

    dy: np.ndarray
    y: np.ndarray
    switches: np.ndarray


class _Gradients(NamedTuple):
    """Where a block's gradients go."""

    parts: np.ndarray           # (chunks, F size + F), float64: dw, then db
    dx: np.ndarray              # flat; empty where it is not needed


def gradients(dy, y, switches, pool, x, w, strides, pads, dx, dw, db):
    """Write dx, dw and db of a convolution with ReLU, and with 2x2 max pooling if `pool` is 2; dx None is not computed.

    See reference.conv2d_relu_gradient, conv2d_relu_pool_gradient. switches is flat; x may be uint8 pixels.
    """
    (N, H, W, C), (KH, KW, _, F), (OH, OW) = x.shape, w.shape, y.shape[1:3]
    lanes = REGISTER_BYTES // w.itemsize
    HP, WP = pads[0] + H + pads[1], pads[2] + W + pads[3]
    # The vectors of a window: KH runs of so many, then the last one again (with a weight of 0) to make groups of nine.
    vectors = -(-(KW * C) // lanes)
    groups = -(-KH * vectors // _GROUP)
    size = groups * _GROUP * lanes
    filters = workspace("filters", F * size, w.dtype)
    if dx is not None:
        _pack_filters(w.reshape(-1), KH, KW * C, F, vectors, size, filters)
    window_at = workspace("window vectors", groups * _GROUP, np.int64)
    np.add.outer(np.arange(KH) * (WP * C), np.arange(vectors) * lanes,
                 out=window_at[:KH * vectors].reshape(KH, vectors))
    window_at[KH * vectors:] = window_at[KH * vectors - 1]
    # A vector may reach beyond its run, so beyond the image: then the image is read from a padded copy with space after it.
    framed = any(pads) or (KW * C) % lanes > 0 or x.dtype != w.dtype
    pixels = HP * WP * C + lanes
    rows = max(1, _CACHE // (WP * C * w.itemsize) // (strides[0] * pool))
    block = min(_LIST, rows * OW)
    sums = ChunkSums(N, F * (size + 1))
    geometry = Geometry(HP, WP, pads[0], pads[2], KH, KW, *strides, OH, OW, F, F, framed, sums.chunk, pool)
    for some in sums.rounds():
        flat_x = workspace("no image", 0, w.dtype) if framed else x[some].reshape(-1)
        flat_dx = workspace("no dx", 0, w.dtype) if dx is None else dx[some].reshape(-1)
        output = _Output(dy[some].reshape(-1), y[some].reshape(-1), switches[some.start * OH * OW * F:][:y[some].size])
        run(_chunks, len(sums.parts), output, x[some], flat_x, filters, window_at, geometry, block, _Gradients(sums.parts, flat_dx),
            scratch=2 * F * _LIST + lanes + F * size + (2 * pixels if framed else 0), dtype=w.dtype,
            integers=F * (_LIST + 1) + 5 * _LIST)

    def write(total):
        runs = total[:F * size].reshape(F, size)[:, :KH * vectors * lanes].reshape(F, KH, vectors * lanes)[..., :KW * C]
        dw.reshape(KH, KW * C, F)[...] = runs.transpose(1, 2, 0)
        db[...] = total[F * size:]
    sums.finish(write)


@kernel
def _pack_filters(w, KH, run_length, F, vectors, size, filters):
    """Write each filter of w (KH run_length, F) as its vectors, zeros where a vector reaches beyond its run."""
    lanes, w_at, filters_at = width(w), pointer(w, 0), pointer(filters, 0)
    for i in range(len(filters)):
        filters_at[i] = 0
    for f in range(F):
        for kh in range(KH):
            for t in range(run_length):
                filters_at[f * size + kh * vectors * lanes + t] = w_at[(kh * run_length + t) * F + f]


@kernel
def _chunks(output, x, flat_x, filters, window_vectors, geometry, block, gradients, lists, scratch, queue, lane):
    """Add up the gradients of one chunk of images a unit, `block` places at a time; write dx of its images."""
    H, W, OW, F, pool, framed = geometry.H, geometry.W, geometry.OW, geometry.F, geometry.pool, geometry.framed
    N, C, P, chunk, wanted = x.shape[0], x.shape[3], geometry.OH * OW, geometry.per_unit, len(gradients.dx) > 0
    few = geometry.KH * -(-(geometry.KW * C) // width(filters)) <= _FEW
    row, of_filters, groups = W * C, gradients.parts.shape[1] - F, len(window_vectors) // _GROUP
    size_of, window_at = of_filters // F, pointer(window_vectors, 0)
    values = pointer(scratch, lane * scratch.shape[1])
    marked, sums = pointer(values, F * _LIST), pointer(values, 2 * F * _LIST + width(filters))
    frame = pointer(sums, of_filters)
    dx_frame = pointer(frame, H * row + width(filters))
    places_of = pointer(lists, lane * lists.shape[1])
    lengths, corners, at = pointer(places_of, F * _LIST), pointer(places_of, F * (_LIST + 1)), places(queue, lane)
    bits = pointer(corners, _LIST)
    dy_at, y_at, switches_at = pointer(output.dy, 0), pointer(output.y, 0), pointer(output.switches, 0)
    filters_at, pixels, dx_at = pointer(filters, 0), pointer(flat_x, 0), pointer(gradients.dx, 0)
    below, beside = geometry.SH * row, geometry.SW * C
    s = claim(queue, lane)
    at[0], at[1], at[2], at[3] = 0, beside, below, below + beside
    while s >= 0:
        dw = pointer(gradients.parts, s * (of_filters + F))
        db = pointer(dw, of_filters)
        for i in range(of_filters):
            dw[i] = 0
            sums[i] = 0
        for f in range(F):
            db[f] = 0
        for n in range(s * chunk, min((s + 1) * chunk, N)):
            image, target, base = pixels, dx_at, n * H * row
            if framed:
                fill_rows(x, n, 0, H, geometry, frame)
                image, target, base = frame, dx_frame, 0
            if wanted:
                for i in range(base, base + H * row):
                    target[i] = 0
            for first in range(0, P, block):
                cells = min(block, P - first)
                o = (n * P + first) * F
                _mark(dy_at, y_at, o, cells * F, F, marked, db)
                _find_corners(first, cells, OW, pool * below, pool * beside, base, corners)
                _list_places(marked, switches_at, o, pool, corners, at, cells, F, places_of, values, lengths)
                for group in range(groups):
                    _gather_dw(image, pointer(window_at, _GROUP * group), group, groups, few, F, places_of, values, lengths,
                               sums)
                for f in range(0, F if wanted else 0, _BITS):
                    for cell in range(cells):
                        _find_filters(marked, cell * F + f, switches_at, o + cell * F + f, pool, min(_BITS, F - f),
                                      pointer(bits, 4 * cell))
                    # One group of the filters, 18 KB of COV-19Net's, stays in the first cache; all of them would not.
                    for group in range(groups):
                        for place in range(pool * pool):
                            for cell in range(cells):
                                if bits[4 * cell + place] != 0:
                                    _gather_dx(filters_at, f * size_of + group * _GROUP * width(filters), size_of,
                                               pointer(window_at, _GROUP * group), bits[4 * cell + place],
                                               pointer(marked, cell * F + f), target, corners[cell] + at[place])
                if first // block % _BLOCKS == _BLOCKS - 1 or first + block >= P:
                    for i in range(0, of_filters, width(filters)):
                        add_to_float64(dw, i, load(sums, i))
                        store(sums, i, zeros(sums))
            if wanted and framed:
                _crop(target, n, x.shape, geometry, dx_at)
        s = claim(queue, lane)


@device
def _find_corners(first, cells, OW, below, beside, base, corners):
    """Write where the first window of each cell begins; cells are so far below and beside each other."""
    i, j = first // OW, first % OW
    for cell in range(cells):
        corners[cell] = base + i * below + j * beside
        i, j = (i + 1, 0) if j + 1 == OW else (i, j + 1)


@device
def _mark(dy, y, o, size, F, marked, db):
    """Write the gradient of `size` numbers, F to a cell, from o on, 0 where ReLU was off; add it to db."""
    whole = F - F % width(dy)
    for i in range(0, size, F):
        for f in range(0, whole, width(dy)):
            g = where_positive(load(y, o + i + f), load(dy, o + i + f))
            store(marked, i + f, g)
            add_to_float64(db, f, g)
        for f in range(whole, F):
            marked[i + f] = dy[o + i + f] if y[o + i + f] > 0 else 0
            db[f] += marked[i + f]


@device
def _list_places(marked, switches, o, pool, corners, windows, cells, F, places_of, values, lengths):
    """List, for each filter, where the windows with a gradient begin, and that gradient."""
    for f in range(F):
        n = f * _LIST
        for cell in range(cells):
            g, place = marked[cell * F + f], corners[cell]
            if pool == 2:
                place += windows[switches[o + cell * F + f]]
            # Written in any case, kept only if there is a gradient: no branch that could be guessed wrong.
            places_of[n] = place
            values[n] = g
            n += np.int64(g != 0)
        lengths[f] = n - f * _LIST


@device
def _find_filters(marked, m, switches, o, pool, n, bits):
    """Write, for each of a cell's windows, a number whose bit f says whether filter f has a gradient there."""
    for place in range(pool * pool):
        bits[place] = 0
    zero, whole = zeros(marked), n - n % width(marked)
    for f in range(0, whole, width(marked)):
        idle = equal(load(marked, m + f), zero)
        if pool == 2:
            chosen = load_bytes(marked, switches, o + f)
            for place in range(4):
                bits[place] |= (equal(chosen, splat(marked, place)) & ~idle) << f
        else:
            bits[0] |= (equal(zero, zero) & ~idle) << f
    for f in range(whole, n):
        if marked[m + f] != 0:
            bits[np.int64(switches[o + f]) if pool == 2 else 0] |= np.int64(1) << f


@device
def _gather(a, u, places_of, values, i, end, t):
    """Return t[v] + the sum over entries i .. end-1 of value * a[place + u[v] : + a vector], for the nine v."""
    u0, u1, u2, u3, u4, u5, u6, u7, u8 = u
    while i < end:
        p, g = places_of[i], broadcast(values, i)
        t = (fma(g, load(a, p + u0), t[0]), fma(g, load(a, p + u1), t[1]), fma(g, load(a, p + u2), t[2]),
             fma(g, load(a, p + u3), t[3]), fma(g, load(a, p + u4), t[4]), fma(g, load(a, p + u5), t[5]),
             fma(g, load(a, p + u6), t[6]), fma(g, load(a, p + u7), t[7]), fma(g, load(a, p + u8), t[8]))
        i += 1
    return t


@device
def _gather_few(a, u0, u1, u2, places_of, values, i, end, t):
    """Do the same for windows of at most three vectors, three entries at a time: each sum would wait for itself."""
    while i + 2 < end:
        p, q, r = places_of[i], places_of[i + 1], places_of[i + 2]
        f, g, h = broadcast(values, i), broadcast(values, i + 1), broadcast(values, i + 2)
        t = (fma(f, load(a, p + u0), t[0]), fma(f, load(a, p + u1), t[1]), fma(f, load(a, p + u2), t[2]),
             fma(g, load(a, q + u0), t[3]), fma(g, load(a, q + u1), t[4]), fma(g, load(a, q + u2), t[5]),
             fma(h, load(a, r + u0), t[6]), fma(h, load(a, r + u1), t[7]), fma(h, load(a, r + u2), t[8]))
        i += 3
    z = zeros(a)
    t = (add(add(t[0], t[3]), t[6]), add(add(t[1], t[4]), t[7]), add(add(t[2], t[5]), t[8]), z, z, z, z, z, z)
    while i < end:
        p, f = places_of[i], broadcast(values, i)
        t = (fma(f, load(a, p + u0), t[0]), fma(f, load(a, p + u1), t[1]), fma(f, load(a, p + u2), t[2]),
             z, z, z, z, z, z)
        i += 1
    return t


@device
def _gather_dw(x, at, group, groups, few, F, places_of, values, lengths, sums):
    """Add one group of vectors of each filter's gradient to `sums`."""
    u, L, z = (at[0], at[1], at[2], at[3], at[4], at[5], at[6], at[7], at[8]), width(x), zeros(x)
    for f in range(F):
        o, i, t = (f * groups + group) * _GROUP * L, f * _LIST, (z, z, z, z, z, z, z, z, z)
        if few:
            t = _gather_few(x, u[0], u[1], u[2], places_of, values, i, i + lengths[f], t)
        else:
            t = _gather(x, u, places_of, values, i, i + lengths[f], t)
        _add_to(sums, o, t[0])
        _add_to(sums, o + L, t[1])
        _add_to(sums, o + 2 * L, t[2])
        _add_to(sums, o + 3 * L, t[3])
        _add_to(sums, o + 4 * L, t[4])
        _add_to(sums, o + 5 * L, t[5])
        _add_to(sums, o + 6 * L, t[6])
        _add_to(sums, o + 7 * L, t[7])
        _add_to(sums, o + 8 * L, t[8])


@device
def _gather_dx(filters, o, size, u, bits, values, dx, p):
    """Add one group of the filters of which `bits` holds a 1, times their values, to the window of dx at p."""
    L, z = width(filters), zeros(filters)
    t = (z, z, z, z, z, z, z, z, z)
    while bits != 0:
        f = lowest_bit(bits)
        bits &= bits - 1
        a, g = pointer(filters, o + f * size), broadcast(values, f)
        t = (fma(g, load(a, 0), t[0]), fma(g, load(a, L), t[1]), fma(g, load(a, 2 * L), t[2]),
             fma(g, load(a, 3 * L), t[3]), fma(g, load(a, 4 * L), t[4]), fma(g, load(a, 5 * L), t[5]),
             fma(g, load(a, 6 * L), t[6]), fma(g, load(a, 7 * L), t[7]), fma(g, load(a, 8 * L), t[8]))
    _add_to(dx, p + u[0], t[0])
    _add_to(dx, p + u[1], t[1])
    _add_to(dx, p + u[2], t[2])
    _add_to(dx, p + u[3], t[3])
    _add_to(dx, p + u[4], t[4])
    _add_to(dx, p + u[5], t[5])
    _add_to(dx, p + u[6], t[6])
    _add_to(dx, p + u[7], t[7])
    _add_to(dx, p + u[8], t[8])


@device
def _add_to(a, i, v):
    store(a, i, add(load(a, i), v))


@device
def _crop(frame, n, shape, geometry, dx):
    """Copy the inside of a frame to image n of dx, whose shape this is."""
    _, H, W, C = shape
    run, dx_at = W * C, pointer(dx, n * H * W * C)
    for h in range(H):
        row = pointer(frame, ((h + geometry.top) * geometry.W + geometry.left) * C)
        for i in range(run):
            dx_at[h * run + i] = row[i]
