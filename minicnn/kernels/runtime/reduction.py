"""What the gradients of weights share: sums over images in fixed chunks.

The images of a batch are cut into chunks that depend on their number and on the size of what is summed alone. Each chunk
sums its own images, and the chunks' sums are added in order: so the threads decide nothing.
"""

from minicnn.kernels.runtime.jit import kernel
from minicnn.kernels.runtime.simd import pointer
from minicnn.kernels.runtime.threads import run
from minicnn.kernels.runtime.work_queue import claim

__all__ = ["chunk_of", "sum_chunks"]

_MOST_NUMBERS = 2**23           # of all partial gradients together: 64 MB
_ROWS = 16                      # rows that are summed in a unit


def chunk_of(N, size=1):
    """Return how many images one partial gradient of `size` numbers sums: at least 2, and at most 16 partial gradients in
    all; fewer where they are large."""
    return max(2, -(-N // max(1, min(16, _MOST_NUMBERS // size))))


def sum_chunks(parts, wide, out):
    """Write to out (K, F) the sum over chunks, in order, of parts (chunks, >= K wide), rows `wide` apart."""
    run(_sum_rows, -(-len(out) // _ROWS), parts, wide, out, scratch=wide, dtype=parts.dtype)


@kernel
def _sum_rows(parts, wide, out, scratch, queue, lane):
    (K, F), total = out.shape, pointer(scratch, lane * scratch.shape[1])
    unit = claim(queue, lane)
    while unit >= 0:
        for k in range(unit * _ROWS, min((unit + 1) * _ROWS, K)):
            for f in range(F):
                total[f] = 0
            for s in range(parts.shape[0]):
                part = pointer(parts, s * parts.shape[1] + k * wide)
                for f in range(F):
                    total[f] += part[f]
            for f in range(F):
                out[k, f] = total[f]
        unit = claim(queue, lane)

