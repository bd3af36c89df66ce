"""A formula for a training step that processes share over MPI, and what it says of many machines (see distributed.py).

    seconds of a step on R ranks = work image + rest + exchange - hidden
    work                         = n + sum over the layers whose gradient is by slices of part (N most - n)
    exchange                     = steps latency + bytes / bandwidth, of all collectives
    hidden                      <= 2/3 n image, and what is begun before the backward pass ends

N is the batch, n the largest share of it, in whole chunks; `image` the seconds of one image on one rank, and `rest` those of what
each rank does once a step (optimizer, checks). `part` is what the gradient of a layer's weights is of all products, and `most`
what a rank computes of it, at most: its channels, 16 or more of them, or all where weights are few.

`exchanges` follows share.py. Sums go as float64, a row for each subtree of a rank, and come back as float32, a slice from each
rank. Sums by slices need x and dy of other ranks. Batch normalization needs the rows of all ranks at once. The steps are
MPICH's: it gathers less than 512 KB in log2 R of them and more in R - 1, and has 32 messages of an exchange under way
(MPIR_CVAR_ALLGATHER_LONG_MSG_SIZE, MPIR_CVAR_ALLTOALL_THROTTLE). Copies into and out of messages count for nothing.
"""

import itertools
from math import ceil, log2
from typing import NamedTuple

import numpy as np

from benchmarks.networks import COV19NET
from benchmarks.report import number, table
from minicnn.distributed import share
from minicnn.kernels.convolution import backward, winograd
from minicnn.kernels.runtime.reduction import chunk_of

__all__ = ["Layer", "Cost", "NETWORKS", "cov19net", "exchanges", "sent", "step_seconds", "predictions"]

# Assumed: seconds of latency, bits in a second, and the part of these that MPI reaches.
LINKS = {"10 Gbit/s Ethernet": (20e-6, 10e9), "100 Gbit/s InfiniBand": (2e-6, 100e9)}
REACHED = 0.9


class Layer(NamedTuple):
    """A convolution of C channels with F filters of K x K, or a dense layer, which is one of an image of one pixel."""

    side: int                   # of its inputs
    out: int                    # of its outputs
    C: int
    K: int
    F: int
    norm: bool = False          # batch normalization follows

    @property
    def weights(self):
        return self.K**2 * self.C * self.F

    def chunk(self, N, R):
        """Return over how many samples each sum of its gradient is, or None where it goes by slices (reduction.by_slices)."""
        if self.out == 1:
            return None
        if self.K != 3 or self.C < 16 or self.side - self.out not in (0, 2):        # direct; strides halve the side
            return None if backward.is_divided(N, self.out**2, self.weights) else chunk_of(N)
        large = winograd.larger_chunk(N, ceil(self.out / 4)**2, self.C)
        return chunk_of(N) if large is None else large if share.Share(_Rank(R), N, np.float32).has_whole(large) else None

    def repeated(self, N, R):
        """Return whether each rank computes that gradient of all of the batch."""
        return self.chunk(N, R) is None and self.weights < share._FEW


class _Rank(NamedTuple):
    """One of so many processes, as a Share asks for it."""

    size: int
    rank: int = 0


def resnet50():
    """Return the layers of ResNet-50 as Keras has them, for images of 224 x 224 (He et al., 2015)."""
    layers, C, side = [Layer(230, 112, 3, 7, 64, True)], 64, 56
    for stage, blocks in enumerate((3, 4, 6, 3)):
        F, out = 64 << stage, 56 >> stage
        for block in range(blocks):
            layers += [Layer(side, out, C, 1, 4 * F, True)] if block == 0 else []
            layers += [Layer(side, out, C, 1, F, True), Layer(out, out, F, 3, F, True), Layer(out, out, F, 1, 4 * F, True)]
            C, side = 4 * F, out
    return [*layers, Layer(1, 1, C, 1, 1000)]


def vgg19():
    """Return the layers of VGG-19, for images of 224 x 224 (Simonyan & Zisserman, 2014)."""
    layers, C, side = [], 3, 224
    for F, count in ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)):
        for _ in range(count):
            layers, C = [*layers, Layer(side, side, C, 3, F)], F
        side //= 2
    return layers + [Layer(1, 1, D, 1, F) for D, F in ((side * side * C, 4096), (4096, 4096), (4096, 1000))]


def cov19net():
    """Return the layers of COV-19Net for radiographs, of which the first layer convolves one channel."""
    return [Layer(64, 62, 1, 3, 32), Layer(31, 29, 32, 3, 32), Layer(14, 12, 32, 3, 32), Layer(1, 1, 4608, 1, 128),
            Layer(1, 1, 128, 1, 1)]


NETWORKS = {"COV-19Net": (cov19net, (32, 256, 2048)), "ResNet-50": (resnet50, (256, 2048, 16384)),
            "VGG-19": (vgg19, (256, 2048, 16384))}              # their layers, and batches


def parameters(layers):
    """Return the number of parameters that are trained."""
    return sum(layer.weights + layer.F * (3 if layer.norm else 1) for layer in layers)


def flops(layers):
    """Return the operations of products of a training step for one image, as networks.Network.flops counts them."""
    products = [2 * layer.out**2 * layer.weights for layer in layers]
    return 3 * sum(products) - products[0]


class Phase(NamedTuple):
    """What is waited for together: the bytes that each rank sends, those that pass the busiest rank, the steps in a row."""

    sent: np.ndarray
    bytes: int
    steps: int

    def __add__(self, other):
        return Phase(*(a + b for a, b in zip(self, other)))

    def seconds(self, latency, bandwidth):
        return self.steps * latency + self.bytes / bandwidth


def _gather(sizes):
    R, total = len(sizes), sizes.sum()
    return Phase(sizes * (R - 1), total - sizes.min(), ceil(log2(R)) if total < 2**19 else R - 1)


def _exchange(given, widths):
    """Return the Phase in which each rank sends given[rank] bytes for each of the widths[other] numbers of another's slice."""
    sent, received = given * (widths.sum() - widths), widths * (given.sum() - given)
    return Phase(sent, max(sent.max(), received.max()), ceil((len(given) - 1) / 32))


def _widths(size, R):
    """Return how many of so many numbers belong to each rank (Share._cuts)."""
    return np.diff(np.minimum(np.arange(R + 1) * ceil(size / share._SLICE) // R * share._SLICE, size))


def exchanges(layers, N, R):
    """Return (Phases that are awaited at once, [the Phases of each exchange that goes on meanwhile], in order)."""
    own, counts = chunk_of(N), np.array(share._division(N, R)[1])
    nodes = _nodes(N, R, own)
    at_once, later, buckets = [_gather(16 + 4 * counts * layers[-1].F)], [], {}

    def summed(size, chunk):
        return [_exchange(8 * _nodes(N, R, chunk), _widths(size, R)), _gather(4 * _widths(size, R))]

    for layer in reversed(layers):
        if layer.norm:
            at_once += [_gather(8 * nodes * (2 * layer.F + 1)), _gather(8 * nodes * 2 * layer.F)]
        dy, x = _gather(4 * counts * layer.out**2 * layer.F), 4 * counts * layer.side**2         # x: of a channel
        chunk = layer.chunk(N, R)
        for size, of in ((layer.F, own), (layer.weights, chunk)):
            if of is not None:
                buckets[of] = buckets.get(of, 0) + size
                if buckets[of] >= share._BUCKET:
                    later.append(summed(buckets.pop(of), of))
        if layer.repeated(N, R):
            later.append([dy + _gather(x * layer.C)])
        elif chunk is None:
            widths = _widths(layer.C, R)
            later.append([dy + _exchange(x, widths), _gather(4 * widths * (layer.weights // layer.C))])
    return at_once, later + [summed(size, chunk) for chunk, size in buckets.items()]


def _nodes(N, R, chunk):
    """Return how many subtrees each rank has, of the tree over chunks of so many samples."""
    return np.array([len(nodes) for nodes in share.Share(_Rank(R), N, np.float32)._tree(chunk)[1]])


def sent(layers, N, R):
    """Return the bytes that each rank sends in a step."""
    at_once, later = exchanges(layers, N, R)
    return sum(phase.sent for phase in itertools.chain(at_once, *later))


class Cost(NamedTuple):
    """The seconds of one image on one rank, and of what a rank does once a step."""

    image: float
    rest: float

    def of(self, layers):
        """Return the Cost of other layers than those of COV-19Net, at the same speed: by operations, and by parameters."""
        return Cost(self.image * flops(layers) / COV19NET.flops(training=True),
                    self.rest * parameters(layers) / COV19NET.parameters)


def step_seconds(layers, N, R, cost, latency, bandwidth):
    """Return the seconds of a step on R ranks: where nothing is hidden, and where all is that can be."""
    own, (at_once, later) = max(share._division(N, R)[1]), exchanges(layers, N, R)
    work = own
    for layer in layers:
        if layer.chunk(N, R) is None:
            most = 1 if layer.repeated(N, R) else _widths(layer.C, R).max() / layer.C
            work += 2 * layer.out**2 * layer.weights / flops(layers) * (N * most - own)
    later = [[phase.seconds(latency, bandwidth) for phase in phases] for phases in later]
    total = work * cost.image + cost.rest + sum(itertools.chain(*later)) + sum(
        phase.seconds(latency, bandwidth) for phase in at_once)
    # The last exchange begins when the pass is over; the second phase of each when it is awaited: for a later one, or at the end.
    before = sum(first for first, *_ in later[:-1]) + sum(sum(second) for _, *second in later[:-share._UNDER_WAY])
    return total, total - min(before, 2 / 3 * own * cost.image)


def predictions(cost):
    """Return a table for each of LINKS: how many times as fast as one rank 2 to 1,024 are, for Cost of COV-19Net."""
    text, ranks = [], [2**i for i in range(1, 11)]
    for link, (latency, bits) in LINKS.items():
        rows = []
        for name, (define, batches) in NETWORKS.items():
            layers = define()
            given = cost.of(layers), latency, REACHED * bits / 8
            rows += [[f"{name}, {N:,} images", *(_times_as_fast(layers, N, R, *given) for R in ranks)] for N in batches]
        text.append(table([f"{link}, {1e6 * latency:g} us", *(f"{R:,}" for R in ranks)], rows))
    return "\n".join(text)


def _times_as_fast(layers, N, R, cost, *link):
    if R * chunk_of(N) > N:
        return "-"
    alone = step_seconds(layers, N, 1, cost, *link)[0]
    low, high = (number(alone / seconds) for seconds in step_seconds(layers, N, R, cost, *link))
    return low if low == high else f"{low} .. {high}"
