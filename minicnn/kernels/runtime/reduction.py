"""What the gradients of weights share: sums over images in fixed chunks, and the gradients that a ReLU lets through.

The images of a batch are cut into chunks that depend on their number alone. Each chunk sums its own images, and the chunks'
sums are added in order: so the threads decide nothing.
"""

from minicnn.kernels.runtime.jit import device, kernel
from minicnn.kernels.runtime.simd import add_to_float64, load, store, where_positive, width

__all__ = ["chunk_of", "sum_chunks", "mark"]


def chunk_of(N):
    """Return how many images one partial gradient sums: at least 2, and at most 16 partial gradients in all."""
    return max(2, -(-N // 16))


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


@device
def mark(dy, y, o, size, F, marked, db):
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
