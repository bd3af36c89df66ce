r"""What the gradients of weights share: sums over the samples of a batch, as a fixed binary tree over fixed chunks.

    samples   0 1 | 2 3 | 4 5 | 6 7 | 8 9          chunks of `chunk_of(N)` samples, by their place in the batch
                \     /      \    /     |
                 0 - 3       4 - 7      |          each chunk sums its own, in float64; then neighbours are added
                    \         /         |
                      0 - 7             |
                           \            |
                              0 - 9

Chunks and tree depend on the number of samples alone. Whoever has chunks that follow each other, a thread or a process of
several that share a batch (distributed/), adds the whole subtrees among them; what is left is added where they meet. So the
same numbers are added in the same order, and neither threads nor processes change a bit.
"""

import functools

import numpy as np

from minicnn.core.memory import here
from minicnn.kernels.runtime.jit import kernel
from minicnn.kernels.runtime.simd import pointer
from minicnn.kernels.runtime.threads import run, workspace
from minicnn.kernels.runtime.work_queue import claim

__all__ = ["LARGEST", "ChunkSums", "add_rows", "batch_size", "by_slices", "chunk_of", "everywhere", "finally_", "join", "put", "tree"]

LARGEST = 16                    # samples of a chunk; batches of more than 16 such have more chunks
_MOST_NUMBERS = 2**23           # of all chunks' sums that are kept at a time: 64 MB
_ROWS = 64                      # of a gradient that are written in a unit
_COLUMNS = 1024                 # numbers of a sum that are added in a unit


def batch_size(n):
    """Return how many samples the batch has of which n are at hand: as many, unless processes share it."""
    return n if here.share is None else here.share.total


def chunk_of(N):
    """Return how many samples of a batch of N one chunk has: at least 2; 16 where there are more than 256."""
    return max(2, min(LARGEST, -(-N // 16)))


def _place_of(n, chunk=None):
    """Return (samples to a chunk, chunks of the n samples at hand, number of the first of these, chunks of the batch)."""
    N = batch_size(n)
    chunk = chunk_of(N) if chunk is None else chunk
    return chunk, -(-n // chunk), 0 if here.share is None else here.share.first // chunk, -(-N // chunk)


@functools.lru_cache(1024)
def tree(nodes, chunks):
    """Return how nodes of the tree over so many chunks are added.

    Parameters
    ----------
    nodes : tuple of (first chunk, number of chunks), in order; each a subtree

    Returns
    -------
    (pairs, rest) : int64 array (n, 2), in order: add node [1] to node [0]; and the nodes that are left then, tuple of (number,
        node), which is one where `nodes` are all of the tree

    >>> pairs, rest = tree(((2, 1), (3, 1), (4, 1)), 5)         # chunks 2, 3 and 4 of five
    >>> pairs.tolist(), rest
    ([[0, 1]], ((0, (2, 2)), (2, (4, 1))))
    """
    pairs, left = [], []
    for number, (first, count) in enumerate(nodes):
        left.append((number, (first, count)))
        while len(left) > 1:
            (one, (begin, size)), (other, (middle, more)) = left[-2:]
            # The left one of two halves begins at a multiple of both; the right one is whole, or ends with the tree.
            if begin % (2 * size) or middle != begin + size or middle + more != min(begin + 2 * size, chunks):
                break
            pairs.append((one, other))
            left[-2:] = [(one, (begin, size + more))]
    return np.array(pairs, np.int64).reshape(-1, 2), tuple(left)


class ChunkSums:
    """A sum over the N samples at hand, float64: first of each chunk, then of all.

        sums = ChunkSums(N, size)
        for samples in sums.rounds():           # all of them at once, where memory allows
            run(kernel, len(sums.parts), x[samples], sums.chunk, sums.parts)        # writes the sums (chunks, size)
        sums.finish(write)                      # write(total (size,)), now or when the other processes' sums are there

    Parameters
    ----------
    chunk : int; samples to a chunk where that is not `chunk_of`
    most : int; how many chunks' sums are kept at a time, at most

    Attributes
    ----------
    chunk : int; how many samples a chunk has
    parts : ndarray, (chunks of this round, size); to be overwritten
    """

    def __init__(self, N, size, chunk=None, most=_MOST_NUMBERS):
        self.chunk, self._here, self._first, self._all = _place_of(N, chunk)
        self._most = 2 ** (max(1, min(most, _MOST_NUMBERS // size)).bit_length() - 1)
        self._N, self._size, self._nodes, self._sums, self.parts = N, size, (), [], None

    def rounds(self):
        """Yield the slice of the samples of each round."""
        at = 0
        while at < self._here:
            count = min(self._here - at, self._most - (self._first + at) % self._most)
            self.parts = workspace("chunk sums", (count, self._size), np.float64)
            yield slice(at * self.chunk, min((at + count) * self.chunk, self._N))
            pairs, rows, nodes = _pairs(count, 1, self._first + at, count, self._all)
            add_rows(self.parts, pairs)
            if count == self._here:
                self._sums, self._nodes = [self.parts[row] for row in rows], nodes
            else:
                self._keep([self.parts[row].copy() for row in rows], nodes)
            at += count

    def _keep(self, sums, nodes):
        """Add the sums of more nodes of the tree to those before."""
        self._sums += sums
        pairs, rest = tree(self._nodes + nodes, self._all)
        for one, other in pairs:
            self._sums[one] += self._sums[other]
        self._sums, self._nodes = [self._sums[row] for row, _ in rest], tuple(node for _, node in rest)

    def finish(self, write):
        """Call write(total) with the sum of all samples, (size,), float64 or of the dtype of the parameters."""
        if here.share is None:
            write(self._sums[0])
        else:
            here.share.add(self._sums, self.chunk, write)


def put(total, dw):
    """Write a sum (size,) to dw (..., F) in its dtype; the sum's rows may be wider than F."""
    rows = dw.size // dw.shape[-1]
    run(_put, -(-rows // _ROWS), total.reshape(rows, -1), dw.reshape(rows, -1))


@kernel
def _put(total, dw, scratch, queue, lane):
    (rows, wide), F, of, to = total.shape, dw.shape[1], pointer(total, 0), pointer(dw, 0)
    unit = claim(queue, lane)
    while unit >= 0:
        for row in range(unit * _ROWS, min((unit + 1) * _ROWS, rows)):
            for f in range(F):
                to[row * F + f] = of[row * wide + f]
        unit = claim(queue, lane)


def add_rows(parts, pairs):
    """Add row [1] of parts (rows, size) to row [0], for each of the pairs, in order."""
    if len(pairs):
        run(_add_rows, -(-parts.shape[1] // _COLUMNS), parts, pairs)


@kernel
def _add_rows(parts, pairs, scratch, queue, lane):
    size, numbers = parts.shape[1], pointer(parts, 0)
    unit = claim(queue, lane)
    while unit >= 0:
        first, count = unit * _COLUMNS, min(_COLUMNS, size - unit * _COLUMNS)
        for i in range(len(pairs)):
            to, part = pointer(numbers, pairs[i, 0] * size + first), pointer(numbers, pairs[i, 1] * size + first)
            for k in range(count):
                to[k] += part[k]
        unit = claim(queue, lane)


def join(parts, of_chunk, n, joined):
    """Return the row that has all of a batch, at once: of its n samples at hand each chunk has `of_chunk` rows of parts.

    joined(parts, pairs) adds row [1] to row [0], for each of the pairs, in order.
    """
    _, chunks, first, of_batch = _place_of(n)
    pairs, rows, _ = _pairs(len(parts), of_chunk, first, chunks, of_batch)
    joined(parts, pairs)
    if here.share is None:
        return parts[0]
    nodes, parts = here.share.collect(parts[rows])
    joined(parts, tree(nodes, of_batch)[0])
    return parts[0]


@functools.lru_cache(256)
def _pairs(rows, of_chunk, first, chunks, of_batch):
    """Return the pairs of rows to add, those of a chunk in a row and then the chunks', and the rows and nodes that are left."""
    pairs, rest = tree(tuple((first + i, 1) for i in range(chunks)), of_batch)
    in_a_row = [(row - row % of_chunk, row) for row in range(rows) if row % of_chunk]
    return (np.array(in_a_row + (pairs * of_chunk).tolist(), np.int64).reshape(-1, 2), [row * of_chunk for row, _ in rest],
            tuple(node for _, node in rest))


def by_slices(gradient, dy, x, dw, chunk=None):
    """Write dw (..., C, F) = gradient(dy, x, dw), a sum over all samples that is not added up chunk by chunk.

    It is so where weights are many and what they meet is little, as behind the last convolutions. Processes that share the batch
    send each other dy and x (N, ..., C), and each computes the gradient of some channels; unless the sum is one over chunks of
    another size, `chunk` samples, and each process has whole ones.
    """
    if here.share is None or chunk is not None and here.share.has_whole(chunk):
        gradient(dy, x, dw)
    else:
        here.share.divide(gradient, dy, x, dw)


def everywhere(flag):
    """Return a function that says, in the backward pass, whether `flag` is true wherever there are samples of the batch."""
    return (lambda: flag) if here.share is None else here.share.every(flag)


def finally_(function):
    """Call function() once the gradients that were asked for so far are written: now, unless others' parts are awaited."""
    if here.share is None:
        function()
    else:
        here.share.then(function)
