"""The queue on which threads find their work, in shared memory and without Python's lock.

A piece of work is a number of units (images, rows of an image, blocks of elements). Whoever is free claims the next unit
that no thread has taken, so a core that is disturbed takes fewer. Which thread computes a unit never changes a bit: units
share no output.

    lane 0    the thread that called; it opens the work, claims units, and leaves when all helpers have left
    lane 1..  helpers; each claims units while the work is open, then watches the queue for the next piece

Lanes with even numbers take units from the first on, odd ones from the last back, as long as there are any. So where two
threads do one piece of work after another on the same images, each finds most of what it takes in its own caches (1x1
bottlenecks on two cores of an AMD EPYC, one image or 32: 0.95 of the time).

A helper's last `claim` returns only when there is new work, or after queue[LOOKS] looks. So it needs Python's lock (the
GIL) in one moment alone: after lane 0 has opened the next piece *from inside its kernel*, when it does not hold that
lock. That is why handing work over takes 3 microseconds here and 50 through Python's `queue.Queue`, where the two fight for the lock
and sleep.

Every entry of the queue is written and read atomically and has a cache line of its own.
"""

import os
import sys

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from minicnn.kernels.runtime.jit import device, kernel
from minicnn.kernels.runtime.simd import pointer

__all__ = ["claim", "places", "leave", "watch", "give_way", "read", "write", "core", "queue_size", "TICKET", "NEXT", "COUNT", "LOOKS", "PROGRAM",
           "STEP", "LANES", "LANE"]

_LINE = 8                                                   # one cache line of int64
# PROGRAM and STEP are of recording.py: the kernels of one program follow each other without Python between.
TICKET, _OPEN, NEXT, COUNT, _INSIDE, LOOKS, PROGRAM, STEP, LANES = (_LINE * i for i in range(9))   # then three lines a lane:
LANE = 3 * _LINE                                            # [ticket it was called for, whether it joined that work],
_JOINED, _PLACES = 1, _LINE                                 # [sixteen numbers for its kernel's own use]
_PATIENCE = 200                                             # looks before a waiting thread lets others have the core


def queue_size(lanes):
    """Return how many int64 a queue for so many lanes needs."""
    return LANES + LANE * lanes


def _address(context, builder, array_type, array, index):
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


@intrinsic
def read(typing, queue, index):
    def build(context, builder, signature, arguments):
        return builder.load_atomic(_address(context, builder, signature.args[0], *arguments), "seq_cst", 8)
    return types.int64(queue, types.intp), build


@intrinsic
def write(typing, queue, index, value):
    def build(context, builder, signature, arguments):
        builder.store_atomic(arguments[2], _address(context, builder, signature.args[0], *arguments[:2]), "seq_cst", 8)
        return context.get_dummy_value()
    return types.void(queue, types.intp, types.int64), build


@intrinsic
def _add(typing, queue, index, value):
    """Add to an entry; return what it was before."""
    def build(context, builder, signature, arguments):
        address = _address(context, builder, signature.args[0], *arguments[:2])
        return builder.atomic_rmw("add", address, arguments[2], "seq_cst")
    return types.int64(queue, types.intp, types.int64), build


@intrinsic
def _pause(typing):
    """Tell the core that we only wait."""
    def build(context, builder, signature, arguments):
        if "x86" in builder.module.triple:
            function = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, function, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()
    return types.void(), build


@intrinsic
def give_way(typing):
    """Let another thread have the core."""
    def build(context, builder, signature, arguments):
        if os.name == "posix":
            function = ir.FunctionType(ir.IntType(32), [])
            builder.call(cgutils.get_or_insert_function(builder.module, function, "sched_yield"), [])
        return context.get_dummy_value()
    return types.void(), build


@intrinsic
def _core(typing):
    def build(context, builder, signature, arguments):
        if sys.platform != "linux":
            return context.get_constant(types.int32, -1)
        function = ir.FunctionType(ir.IntType(32), [])
        return builder.call(cgutils.get_or_insert_function(builder.module, function, "sched_getcpu"), [])
    return types.int32(), build


@kernel
def core():
    """Return the number of the core that the calling thread runs on; -1 where the system does not say."""
    return _core()


@device
def claim(queue, lane):
    """Return the number of a unit that is ours now, or -1 when all are taken (see above for what else happens then)."""
    mine = LANES + LANE * lane
    if queue[mine + _JOINED] == 0:
        if lane == 0:
            if queue[COUNT] > 1:            # one unit is for us: nobody is called
                write(queue, _OPEN, queue[TICKET] + 1)
                write(queue, TICKET, queue[_OPEN])
        else:
            # Enter before reading which work is open: lane 0 closes it, then reads how many are inside.
            _add(queue, _INSIDE, 1)
            if read(queue, _OPEN) != queue[mine]:
                _add(queue, _INSIDE, -1)
                return -1
        queue[mine + _JOINED] = 1
    taken = _add(queue, NEXT, 2**32 if lane % 2 else 1)         # NEXT holds how many went from the end, and from the start
    first, last = taken % 2**32, taken // 2**32
    if first + last < queue[COUNT]:
        return queue[COUNT] - 1 - last if lane % 2 else first
    leave(queue, lane)
    if lane > 0:
        watch(queue, queue[mine])
    return -1


@device
def places(queue, lane):
    """Return a pointer to sixteen int64 for the use of this lane's kernel: nothing is allocated inside kernels."""
    return pointer(queue, LANES + LANE * lane + _PLACES)


@kernel
def leave(queue, lane):
    """Leave the work. Lane 0 closes it and waits until no helper is inside."""
    mine = LANES + LANE * lane
    if queue[mine + _JOINED] == 0:
        return
    queue[mine + _JOINED] = 0
    if lane > 0:
        _add(queue, _INSIDE, -1)
        return
    write(queue, _OPEN, 0)
    looks = 0
    while read(queue, _INSIDE) > 0:
        looks += 1
        if looks < _PATIENCE:
            _pause()
        else:
            give_way()


@kernel
def watch(queue, ticket):
    """Wait until the queue shows another ticket than this one, at most queue[LOOKS] looks; return whether it does."""
    for _ in range(max(1, queue[LOOKS])):
        if read(queue, TICKET) != ticket:
            return True
        _pause()
    return False
