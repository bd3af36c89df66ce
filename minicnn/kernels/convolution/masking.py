"""The gradient that reaches a convolution's outputs, and the bias gradient, which is its sum.

Behind a ReLU it is dy where the output y is positive, else 0. Behind 2x2 max pooling as well, dy of a cell goes to the one of
its four outputs that the switch names; the others, and the rows that pooling drops, have none. Sums are float64, over
fixed chunks of images (runtime/reduction.py).
"""

import numpy as np

from minicnn.kernels.runtime.jit import kernel
from minicnn.kernels.runtime.reduction import ChunkSums
from minicnn.kernels.runtime.simd import add_to_float64, load, pointer, store, where_positive, width
from minicnn.kernels.runtime.threads import run, workspace
from minicnn.kernels.runtime.work_queue import claim

__all__ = ["bias_gradient", "mask"]


def bias_gradient(dy, db):
    """Write to db (F,) the sum of dy (N, OH, OW, F)."""
    mask(dy, dy, workspace("no switches", 0, np.uint8), dy.shape[1:3], workspace("no mask", (0, 0, 0, 0), dy.dtype), db)


def mask(dy, y, switches, size, masked, db):
    """Write dy as it reaches the outputs to masked (N, *size, F), and its sum to db (F,).

    switches is flat: empty where there is no pooling. An empty `masked` is not written, and then all of dy is summed.
    """
    sums, of_image = ChunkSums(len(dy), dy.shape[3]), dy[0].size
    for some in sums.rounds():
        run(_chunks, len(sums.parts), dy[some], y[some], switches[some.start * of_image:some.stop * of_image], size, masked[some],
            sums.chunk, sums.parts)
    sums.finish(lambda total: np.copyto(db, total, "same_kind"))


@kernel
def _chunks(dy, y, switches, size, masked, chunk, parts, scratch, queue, lane):
    """Write the gradients of one chunk of images, and their sum, a unit."""
    (N, OH, OW, F), L, (H, W) = dy.shape, width(dy), size
    whole, pooled, written = F - F % L, len(switches) > 0, len(masked) > 0
    dy_at, y_at, switches_at, to = pointer(dy, 0), pointer(y, 0), pointer(switches, 0), pointer(masked, 0)
    s = claim(queue, lane)
    while s >= 0:
        db = pointer(parts, s * F)
        for f in range(F):
            db[f] = 0
        for n in range(s * chunk, min((s + 1) * chunk, N)):
            if pooled:
                for i in range(n * H * W * F, (n + 1) * H * W * F):
                    to[i] = 0
            for h in range(OH):
                for w in range(OW):
                    i = ((n * OH + h) * OW + w) * F
                    if pooled:
                        o = ((n * H + 2 * h) * W + 2 * w) * F
                        for f in range(F):
                            place = np.int64(switches_at[i + f])
                            g = dy_at[i + f] if y_at[i + f] > 0 else dy.dtype.type(0)
                            to[o + ((place >> 1) * W + (place & 1)) * F + f] = g
                            db[f] += g
                        continue
                    for f in range(0, whole, L):
                        g = load(dy_at, i + f)
                        if written:
                            g = where_positive(load(y_at, i + f), g)
                            store(to, i + f, g)
                        add_to_float64(db, f, g)
                    for f in range(whole, F):
                        g = dy_at[i + f]
                        if written:
                            g = g if y_at[i + f] > 0 else dy.dtype.type(0)
                            to[i + f] = g
                        db[f] += g
        s = claim(queue, lane)
