"""What one process has of a batch that several share, and how they exchange what a sum over all of it needs.

Kernels ask for it where they sum over samples (kernels/runtime/reduction.py). An exchange is begun while the backward pass goes
on, and awaited at its end; exchanges begin, and go on, in the same order in all processes.
"""

import functools
import math

import numpy as np

from minicnn.core import signals
from minicnn.core.memory import here
from minicnn.kernels.runtime.reduction import add_rows, chunk_of, tree

__all__ = ["Share"]

_BUCKET = 2**17                 # numbers of sums that are exchanged together
_UNDER_WAY = 4                  # exchanges at a time; before another begins, the first is awaited
_FEW = 2**16                    # weights whose gradient each process computes on its own, rather than wait twice
_SLICE = 16                     # numbers: where a slice of parameters or channels may end


class Share:
    """The part of a batch of `total` samples that a process of `group` has.

    Attributes
    ----------
    total, first, count : int; samples of the batch, the first of this process, and how many it has
    samples : slice; those that it computes with: where it has none the first of all, which then count for nothing
    signal : int or None; the number of a signal that has arrived in a process, 0 for none, once `whole` was called
    """

    def __init__(self, group, total, dtype):
        self._group, self.total, self._dtype = group, total, np.dtype(dtype)
        self._chunk, self._counts = _division(total, group.size)
        self.first, self.count = sum(self._counts[:group.rank]), self._counts[group.rank]
        self.signal, self.samples = None, slice(self.first, self.first + self.count) if self.count else slice(0, 1)
        self._buckets, self._under_way, self._afterwards, self._flags, self._begun = {}, [], [], [], 0

    # -- at once --

    def whole(self, array):
        """Return the arrays (n, ...) of all processes, n their samples, as one (total, ...).

        Signals, and the flags of `every`, are told on the way.
        """
        rank, array = self._group.rank, np.ascontiguousarray(array[:self.count])
        told = np.array([signals.noted() or 0, sum(flag << i for i, flag in enumerate(self._flags))], np.int64)
        sizes = [told.nbytes + size for size in self._sizes(array)]
        found = np.empty(sum(sizes), np.uint8)
        starts = np.cumsum([0, *sizes[:-1]])
        own = found[starts[rank]:][:sizes[rank]]
        own[:told.nbytes], own[told.nbytes:] = told.view(np.uint8), array.reshape(-1).view(np.uint8)
        self._group.wait(self._group.start_gather(None, sizes, found))
        told = np.array([found[start:start + told.nbytes].view(np.int64) for start in starts])
        self.signal = int(told[:, 0].max())
        self._everywhere = int(np.bitwise_and.reduce(told[:, 1], where=np.array(self._counts) > 0))
        return np.concatenate([found[start + told[0].nbytes:start + size].view(array.dtype).reshape(-1, *array.shape[1:])
                               for start, size in zip(starts, sizes)])

    def own(self, array):
        """Return what belongs to the samples of this process of an array of all of them."""
        return array[self.samples]

    def every(self, flag):
        """Return a function that returns whether `flag` is true in all processes that have samples, once `whole` was called."""
        self._flags.append(bool(flag))
        number = len(self._flags) - 1
        return lambda: bool(self._everywhere >> number & 1)

    def collect(self, rows):
        """Return (nodes, rows) of all processes: nodes of the tree over the chunks of the batch, and the sum of each."""
        _, nodes = self._tree(self._chunk)
        found = np.empty((sum(map(len, nodes)), rows.shape[1]))
        sizes = [len(one) * found[0].nbytes for one in nodes]
        self._group.wait(self._group.start_gather(np.ascontiguousarray(rows), sizes, found))
        return sum(nodes, ()), found

    # -- later --

    def has_whole(self, chunk):
        """Return whether each process has whole chunks of so many samples."""
        return all(first % chunk == 0 or first == self.total for first in np.cumsum(self._counts))

    def add(self, sums, chunk, write):
        """Call write(total) later: the sum of all processes' `sums`, (size,) each, of their nodes of the tree over such chunks."""
        size, bucket = sums[0].size, self._buckets.setdefault(chunk, [])
        bucket.append((np.array(sums if self.count else [], np.float64).reshape(-1, size), write))
        if sum(own.shape[1] for own, _ in bucket) >= _BUCKET:           # the same in all processes
            self._begin(self._summed(self._buckets.pop(chunk), chunk))

    def divide(self, gradient, dy, x, dw):
        """Write dw (..., C, F) = gradient(dy, x, dw) of all samples later, for dy and x (N, ..., C)."""
        self._begin((self._repeated if dw.size < _FEW else self._divided)(gradient, dy[:self.count], x[:self.count], dw))

    def then(self, function):
        """Call function() after all that was begun."""
        self._afterwards.append(function)

    def finish(self):
        """Await all that was begun."""
        for chunk, bucket in self._buckets.items():
            self._begin(self._summed(bucket, chunk))
        while self._under_way:
            for exchange in list(self._under_way):
                self._go_on(exchange)
        for function in self._afterwards:
            function()

    # -- exchanges: each yields what it waits for --

    def _begin(self, steps):
        while len(self._under_way) >= _UNDER_WAY:
            self._go_on(self._under_way[0])
        self._begun += 1
        self._under_way.append([steps, next(steps)])
        for _, requests in self._under_way:         # MPI gets on with its work when it is asked
            self._group.ask(requests)

    def _go_on(self, exchange):
        self._group.wait(*exchange[1])
        exchange[1] = next(exchange[0], None)
        if exchange[1] is None:
            self._under_way.remove(exchange)

    def _summed(self, bucket, chunk):
        """Each process adds up one slice of all sums, and hands it out."""
        buffer = functools.partial(self._buffer, self._begun)
        size, (chunks, nodes) = sum(sums.shape[1] for sums, _ in bucket), self._tree(chunk)
        cuts, own = self._cuts(size), len(bucket[0][0])
        widths = np.diff(cuts).tolist()
        given, ends = buffer("given", own * size, np.float64), np.cumsum([0] + [own * width for width in widths])
        whole = np.concatenate([sums for sums, _ in bucket], axis=1)
        for begin, end, a, b in zip(ends, ends[1:], cuts, cuts[1:]):
            given[begin:end].reshape(own, b - a)[...] = whole[:, a:b]
        rows = buffer("rows", (sum(map(len, nodes)), widths[self._group.rank]), np.float64)
        yield [self._group.start_exchange(given, [8 * own * width for width in widths],
                                          [8 * len(one) * rows.shape[1] for one in nodes], rows)]
        add_rows(rows, tree(sum(nodes, ()), chunks)[0])
        total = buffer("total", size, self._dtype)
        total[cuts[self._group.rank]:cuts[self._group.rank + 1]] = rows[0]
        yield [self._group.start_gather(None, [width * total.itemsize for width in widths], total)]
        at = 0
        for sums, write in bucket:
            write(total[at:at + sums.shape[1]])
            at += sums.shape[1]

    def _repeated(self, gradient, dy, x, dw):
        """Each process has dy and x of all samples, and computes all of it."""
        buffer = functools.partial(self._buffer, self._begun)
        whole, requests = [], []
        for name, array in (("dy", dy), ("x", x)):
            whole.append(buffer(name, (self.total, *array.shape[1:]), array.dtype))
            whole[-1][self.first:self.first + self.count] = array
            requests.append(self._group.start_gather(None, self._sizes(array), whole[-1]))
        yield requests
        self._alone(gradient, *whole, dw)

    def _divided(self, gradient, dy, x, dw):
        """Each process has dy of all samples, some channels of x, and computes the rows of dw that belong to them."""
        buffer = functools.partial(self._buffer, self._begun)
        rank, pixels, cuts = self._group.rank, math.prod(x.shape[1:-1]), self._cuts(x.shape[-1])
        widths = np.diff(cuts).tolist()
        all_dy = buffer("dy", (self.total, *dy.shape[1:]), dy.dtype)
        all_dy[self.first:self.first + self.count] = dy
        given, of_width = buffer("given", x.size, x.dtype), self.count * pixels
        for a, b in zip(cuts, cuts[1:]):
            given[of_width * a:of_width * b].reshape(*x.shape[:-1], b - a)[...] = x[..., a:b]
        all_x = buffer("x", (self.total, *x.shape[1:-1], widths[rank]), x.dtype)
        yield [self._group.start_gather(None, self._sizes(dy), all_dy),
               self._group.start_exchange(given, [of_width * width * x.itemsize for width in widths],
                                          [n * pixels * widths[rank] * x.itemsize for n in self._counts], all_x)]
        rows = dw if dw.ndim == 2 else buffer("dw", (x.shape[-1], dw.size // x.shape[-1]), dw.dtype)      # of each channel
        if widths[rank]:
            part = rows[cuts[rank]:cuts[rank + 1]].reshape(*dw.shape[:-2], widths[rank], dw.shape[-1])
            self._alone(gradient, all_dy, all_x, part)
        yield [self._group.start_gather(None, [width * rows[0].nbytes for width in widths], rows)]
        if dw.ndim > 2:
            for a, b in zip(cuts, cuts[1:]):
                dw[..., a:b, :] = rows[a:b].reshape(*dw.shape[:-2], b - a, dw.shape[-1])

    def _alone(self, gradient, *arrays):
        here.share = None
        try:
            gradient(*arrays)
        finally:
            here.share = self

    def _cuts(self, size):
        """Return where the slices of so many numbers begin that belong to the processes, and the last one ends."""
        blocks = -(-size // _SLICE)
        return [min(rank * blocks // self._group.size * _SLICE, size) for rank in range(self._group.size)] + [size]

    def _sizes(self, array):
        """Return how many bytes of such an array each process has."""
        return [n * math.prod(array.shape[1:]) * array.itemsize for n in self._counts]

    def _tree(self, chunk):
        """Return (number of chunks of so many samples, the nodes of the tree over them that each process has)."""
        chunks, ends = -(-self.total // chunk), [0, *(-(-end // chunk) for end in np.cumsum(self._counts).tolist())]
        return chunks, [_nodes(*bounds, chunks) for bounds in zip(ends, ends[1:])]

    def _buffer(self, number, name, shape, dtype):
        """Return an array that belongs to exchange `number` until the end of the step."""
        return self._group.buffers.get((number, name), shape if isinstance(shape, tuple) else (shape,), np.dtype(dtype))


@functools.lru_cache(64)
def _division(total, size):
    """Return (samples to a chunk, [how many samples each process has]): whole chunks, but for the last."""
    chunk = chunk_of(total)
    bounds = [rank * -(-total // chunk) // size for rank in range(size + 1)]
    return chunk, np.diff([min(bound * chunk, total) for bound in bounds]).tolist()


@functools.lru_cache(256)
def _nodes(first, end, chunks):
    """Return the largest subtrees of the tree over so many chunks that the chunks first .. end-1 are made of."""
    return tuple(node for _, node in tree(tuple((chunk, 1) for chunk in range(first, end)), chunks)[1])
