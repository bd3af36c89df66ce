"""A prediction as one call: what a forward pass asks of the kernels is recorded once, then run again without Python between.

Between two kernels stands Python that does the same each time: it finds buffers, counts units, makes pointers of arrays.
For one small image that takes as long as the kernels. So a pass is recorded: `threads.run` notes each kernel with its
arguments, which stay where they are, and a program of them is made:

    words       the arguments of each kernel as its machine code takes them, side by side in memory
    an entry    a few instructions that call machine code with arguments read from there; one for each signature
    _replay     the loop over the entries, compiled; helpers run along, and find in the queue which step is under way

Only where the input lies differs from call to call, and is written into the words. The kernels are those of a pass that is
not recorded, in the same order, so every bit is the same. For that, what Python does with numbers must be said:

    derived     what is made of weights alone is made once; a replay begins by comparing every bit of those weights
    guard       numbers that decide what runs; a replay ends where they are others
    call        what NumPy does; it stands between two parts of the program

Measured (COV-19Net, one image, one core of an AMD EPYC): 0.14 ms of kernels; a pass takes 0.24 ms, a replay 0.15 ms.
"""

import functools
import itertools
import time
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target
from numba.extending import intrinsic
from numba.np.numpy_support import as_dtype

from minicnn.core.memory import Buffers, aligned
from minicnn.kernels.runtime import threads
from minicnn.kernels.runtime.jit import device, kernel
from minicnn.kernels.runtime.work_queue import COUNT, LANE, LANES, NEXT, PROGRAM, STEP, TICKET, claim, give_way, read, watch, write

__all__ = ["Recordings", "derived", "guard", "call", "forget"]

_LONGEST = 1.0                  # seconds of a pass that is recorded: a longer one gains nothing, and Ctrl-C would wait for it
_PASSES = 3                     # before one is recorded: the code of the entries takes a twentieth of a second to make
_SHAPES, _VARIANTS = 4, 2       # of input whose programs are kept, and programs of each, for what `guard` told apart
_SHORT, _TRIALS = 5e-4, 8       # seconds: calls of a shorter program find out whether helpers gain anything,
_AGAIN = 500                    # and so many calls later again: the first may have found them on our own core, or asleep
_SOON = 1e-3                    # seconds between two calls, within which it pays to wake helpers for a short program
_NEAR = 3 * 2**19               # bytes of what the largest step takes and makes, for images that are predicted together
_PIECE = 2**16                  # bytes that are compared in a unit


# ---- What kernels' callers say ---------------------------------------------------------------------------------------

def derived(name, shape, dtype, fill, *weights):
    """Return an array that fill(array) makes of these weights; in a recording it stays until a bit of them changes."""
    recording = threads.recording()
    array = threads.workspace(name, shape, dtype) if recording is None else aligned(shape, dtype)
    if recording is None:
        fill(array)
    else:
        recording.derive(array, fill, weights)
    return array


def guard(array):
    """Say that the numbers of this array decide what runs from here on: a recording holds only while they are the same."""
    recording = threads.recording()
    if recording is not None:
        recording.steps.append(recording.comparison([(array, array.copy())]))


def call(function, *arguments, **named):
    """Call a function of NumPy that reads and writes arrays that stay."""
    function(*arguments, **named)
    recording = threads.recording()
    if recording is not None:
        recording.steps.append(functools.partial(function, *arguments, **named))


def forget():
    """Say that NumPy computes here what nobody notes: the recording is worth nothing."""
    if threads.recording() is not None:
        threads.recording().is_whole = False


class _Step(NamedTuple):
    """A kernel with all that `run` was given; where one of the `answers` is not 0 afterwards, the program ends."""

    kernel: object
    units: int
    arguments: tuple
    scratch: tuple              # numbers for each thread, their dtype, integers
    answers: np.ndarray = np.zeros(0, np.int64)
    compared: object = ()       # the arrays whose addresses alone are among the arguments


class _Recording:
    """What a pass asks for: a list of _Step and of functions without arguments, and buffers that are its own."""

    def __init__(self):
        self.steps, self.buffers, self.is_whole = [], Buffers(), True
        self.kept = {}              # {address: array} of what is derived,
        self.weights = {}           # and {address: (array, copy)} of what it is derived from

    def add(self, *step):
        self.steps.append(_Step(*step))

    def derive(self, array, fill, weights):
        with threads.recorded_by(None, self.buffers):
            fill(array)
        self.weights |= {one.ctypes.data: (one, one.copy()) for one in weights if one.ctypes.data not in self.kept}
        self.kept[array.ctypes.data] = array

    def comparison(self, pairs):
        """Return the step that ends the program where the two arrays of a pair differ."""
        table = [(one.ctypes.data + at, other.ctypes.data + at, min(_PIECE, one.nbytes - at), 0)
                 for one, other in pairs for at in range(0, one.nbytes, _PIECE)]
        table, answers = np.array(table, np.int64).reshape(-1, 4), np.zeros(len(table), np.int64)
        with threads.recorded_by(None, self.buffers):
            threads.run(_compare, len(table), table, answers)
        return _Step(_compare, len(table), (table, answers), (0, np.float32, 0), answers, pairs)


@kernel
def _compare(table, answers, scratch, queue, lane):
    """Write 0 for each piece of memory, (its address, another's, bytes), that has the bits of the other."""
    unit = claim(queue, lane)
    while unit >= 0:
        one, other, different = _bytes_at(table[unit, 0]), _bytes_at(table[unit, 1]), np.uint8(0)
        for i in range(table[unit, 2]):
            different |= one[i] ^ other[i]
        answers[unit] = different
        unit = claim(queue, lane)


@intrinsic
def _bytes_at(typing, address):
    def build(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())
    return types.CPointer(types.uint8)(types.int64), build


# ---- Machine code, entered with arguments from memory ----------------------------------------------------------------

def _words(kind, value):
    """Yield a value of a numba type as machine code takes it, in int64: (word, whether it is where an array lies)."""
    if isinstance(kind, types.Array):
        before, behind = (0, 0, value.size, value.itemsize), (*value.shape, *value.strides)
        yield from ((word, False) for word in before)
        yield value.ctypes.data, True
        yield from ((word, False) for word in behind)
    elif isinstance(kind, types.BaseTuple):
        for one, part in zip(kind.types, value):
            yield from _words(one, part)
    else:
        yield int(np.frombuffer(np.array(value, as_dtype(kind)).tobytes().ljust(8, b"\0"), np.int64)[0]), False


def _arrays(arguments):
    """Yield the arrays among arguments, also those in lists and tuples."""
    for one in arguments:
        if isinstance(one, (list, tuple)):
            yield from _arrays(one)
        elif isinstance(one, np.ndarray):
            yield one


_entries = {}       # {signature of machine code: (address of its entry, what keeps it there)}


def _signature(compiled):
    """Return the type of a compiled kernel's machine code."""
    return cpu_target.target_context.call_conv.get_function_type(compiled.fndesc.restype, compiled.fndesc.argtypes)


@global_compiler_lock       # a fork waits for it, and so for LLVM's own
def _addresses(kernels):
    """Return for each compiled kernel the addresses of its entry and of its machine code."""
    _make_entries({str(signature): signature for signature in map(_signature, kernels) if str(signature) not in _entries})
    return [(_entries[str(_signature(compiled))][0], compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name))
            for compiled in kernels]


def _make_entries(missing):
    """Make an entry for each of these signatures, {as text: type}: int32 (int64 words, int64 queue, int64 lane).

    The first of the words is the address of the kernel's code, the others are its arguments. What differs from thread to
    thread is put in place of the last: where the queue lies, and the lane.
    """
    if not missing:
        return
    library, word = cpu_target.target_context.codegen().create_library("entries"), ir.IntType(64)
    module = library.create_ir_module("entries")
    for number, signature in enumerate(missing.values(), len(_entries)):
        entry = ir.Function(module, ir.FunctionType(ir.IntType(32), [word] * 3), f"minicnn_entry_{number}")
        builder = ir.IRBuilder(entry.append_basic_block())
        words = builder.inttoptr(entry.args[0], word.as_pointer())

        def argument(i, kind):
            return builder.load(builder.bitcast(builder.gep(words, [word(i)]), kind.as_pointer()))
        code = builder.inttoptr(argument(0, word), signature.as_pointer())
        results = [builder.bitcast(builder.alloca(word), kind) for kind in signature.args[:2]]      # nobody reads them
        arguments = [argument(i, kind) for i, kind in enumerate(signature.args[2:], 1)]
        arguments[-4] = builder.inttoptr(entry.args[1], signature.args[-4])
        arguments[-1] = entry.args[2]
        builder.ret(builder.call(code, [*results, *arguments]))
    library.add_ir_module(module)
    library.finalize()
    for number, signature in enumerate(missing, len(_entries)):
        _entries[signature] = library.get_pointer_to_function(f"minicnn_entry_{number}"), library


@intrinsic
def _enter(typing, entry, words, queue, lane):
    """Enter a kernel; return 0 unless it failed."""
    def build(context, builder, signature, arguments):
        word, (entry, words, queue, lane) = ir.IntType(64), arguments
        code = builder.inttoptr(entry, ir.FunctionType(ir.IntType(32), [word] * 3).as_pointer())
        lies = context.make_array(signature.args[2])(context, builder, queue).data
        return builder.call(code, [words, builder.ptrtoint(lies, word), lane])
    return types.int32(types.int64, types.int64, queue, types.int64), build


# ---- Programs --------------------------------------------------------------------------------------------------------

_ENTRY, _WORDS, _UNITS, _ANSWERS, _BYTES = range(5)     # the columns of a program's table
_DONE, _FAILED = -1, -2


@kernel
def _replay(table, number, queue, lane):
    """Run the steps; return _DONE, _FAILED, or the number of the step whose answers ended it.

    A helper sees in the queue which step is under way, and joins it with the ticket that it saw before: if that is no
    longer the ticket, the work is another, and it is not let in (work_queue.py).
    """
    if lane > 0:
        _help(table, number, queue, lane)
        return _DONE
    end = _DONE
    write(queue, PROGRAM, number)
    for step in range(len(table)):
        queue[NEXT], queue[COUNT] = 0, table[step, _UNITS]
        write(queue, STEP, step)
        if _enter(table[step, _ENTRY], table[step, _WORDS], queue, lane) != 0:
            end = _FAILED
            break
        answers, different = _bytes_at(table[step, _ANSWERS]), np.uint8(0)
        for i in range(table[step, _BYTES]):
            different |= answers[i]
        if different != 0:
            end = step
            break
    write(queue, STEP, -1)
    write(queue, TICKET, read(queue, TICKET) + 1)       # helpers that wait for one more step go
    return end


@device
def _help(table, number, queue, lane):
    """Join one step after another, until the program is over.

    A step of one unit is done by lane 0 alone and may take longer than a helper watches. It would sleep then, and nobody wakes it
    in the middle of a program: of ResNet-50 it slept through all behind the first pooling.
    """
    while True:
        ticket, step = read(queue, TICKET), read(queue, STEP)
        if step < 0 or read(queue, PROGRAM) != number:
            return
        queue[LANES + LANE * lane] = ticket
        _enter(table[step, _ENTRY], table[step, _WORDS], queue, lane)
        while not watch(queue, ticket):
            give_way()


class _Program:
    """A recorded pass over arrays of one shape and dtype, to be run again.

    The kernels read x where it lies. Where NumPy reads it, or the output is a view of it, it is copied to where it lay
    when it was recorded.

    Attributes
    ----------
    is_stale : bool; the last call has found other weights than were recorded
    """

    _numbers = itertools.count(1)

    def __init__(self, recording, x, y, lanes, seconds=0.0):
        self.is_stale, self._output, self._checks = False, y, bool(recording.weights)
        # A pass that took so many seconds with helpers takes longer without: there is nothing to find out.
        self._alone = lanes == 1 or (None if seconds < 10 * _SHORT else False)
        self._times, self._ended, self._calls = {True: [], False: []}, 0.0, 0
        steps = [recording.comparison(recording.weights.values())] * self._checks + recording.steps
        with threads.recorded_by(None, recording.buffers):
            for _ in range(2):      # by the second time every buffer is as large as any step wants it
                given = [(*step.arguments, *threads.scratch_of(lanes, *step.scratch), threads.own_queue(), 0)
                         if isinstance(step, _Step) else () for step in steps]
        self._keep, self._x = (recording, given), x
        self._copies = any(np.may_share_memory(x, array) for array in
                           [y, *_arrays([(*step.args, *step.keywords.values()) for step in steps if not isinstance(step, _Step)])])
        kinds = [tuple(map(step.kernel.typeof_pyval, arguments)) if arguments else () for step, arguments in zip(steps, given)]
        addresses = iter(_addresses([step.kernel.overloads[kind] for step, kind in zip(steps, kinds) if kind]))
        words, self._parts = [], []         # words: (word, whether it is where an array lies)
        for step, kind, arguments in zip(steps, kinds, given):
            if not kind:
                self._parts.append(step)
                continue
            entry, code = next(addresses)
            row = [entry, 8 * len(words), step.units, step.answers.ctypes.data, step.answers.nbytes]
            words += [(code, False), *(word for one in zip(kind, arguments) for word in _words(*one))]
            if not self._parts or callable(self._parts[-1]):
                self._parts.append([])
            self._parts[-1].append(row)
        self._words = np.array([word for word, _ in words], np.int64)
        self._lies, lies = x.ctypes.data, np.array([is_address for _, is_address in words], bool)
        self._of_x = np.flatnonzero(lies & (self._words >= self._lies) & (self._words < self._lies + x.nbytes))
        self._within_x = self._words[self._of_x] - self._lies
        for i, part in enumerate(self._parts):
            if not callable(part):
                table = np.array(part, np.int64)
                table[:, _WORDS] += self._words.ctypes.data
                self._parts[i] = table, next(self._numbers)
        # The first step compares the weights; this is all behind it.
        self._compared = [(self._parts[0][0][1:], next(self._numbers)), *self._parts[1:]] if self._checks else self._parts

    def __call__(self, x, has_compared=False):
        """Return what the pass would, or None where something else decides it than when it was recorded.

        has_compared : bool; it has found the weights as they were just before, and does not compare them again
        """
        lies = self._lies if self._copies else x.ctypes.data
        if self._copies:
            np.copyto(self._x, x)
        elif lies != self._lies:
            self._lies = None           # a child that is forked in between writes them again
            self._words[self._of_x] = self._within_x + lies
            self._lies = lies
        start, times = time.perf_counter(), self._times
        alone = len(times[True]) <= len(times[False]) if self._alone is None else self._alone
        if not alone and times[True] and min(times[True]) < _SHORT and start - self._ended > _SOON:
            alone = threads.helpers_sleep()         # to wake them takes as long as to do their part
        for part in self._compared if has_compared else self._parts:
            if callable(part):
                part()
                continue
            end = threads.perform(_replay, part, alone)
            assert end != _FAILED, "a kernel failed"
            if end != _DONE:
                self.is_stale = self._checks and end == 0 and part is self._parts[0]
                return None
        self._ended = time.perf_counter()
        if self._alone is None:
            times[alone] += [self._ended - start] * (len(times[alone]) < _TRIALS)       # calls after pauses are alone, all
            if len(times[False]) == _TRIALS or len(times[True]) > 2 and min(times[True]) > _SHORT:
                self._alone, self._calls = min(times[True]) <= min(_SHORT, *times[False]), 0
        else:
            self._calls += 1
            if self._calls == _AGAIN:
                self._alone, self._times = None, {True: [], False: []}
        return self._output


class Recordings:
    """The programs of one network, for the shapes that it last predicted.

    Parameters
    ----------
    sizes : list of int; the numbers of a sample in each value of the network, its input first
    weights : int, how many numbers its weights have
    itemsize : int, bytes of a number

    A batch is predicted in portions whose arrays stay in the caches, where that takes less from memory than the weights that
    are read again for each of them. On one core of an AMD EPYC it takes 0.8 of the time for 32 images of ResNet-8 or of 1x1
    bottlenecks at 33 x 33 x 128, and longer where the weights are most of what is read, as in a VGG.
    """

    def __init__(self, sizes, weights, itemsize):
        self._made_of = sizes, weights, itemsize
        largest = max(one + other for one, other in zip(sizes, sizes[1:]))
        self._most = max(1, _NEAR // (largest * itemsize))
        if self._most * sum(sizes) < 8 * weights:
            self._most = 2**31
        self.clear()

    def __reduce__(self):
        return Recordings, self._made_of        # a copy records anew

    def clear(self):
        """Forget all: their memory is wanted, or the weights are about to change."""
        self._programs, self._passes = {}, {}       # {what is the same for all its calls: [_Program], seconds of each pass}

    def __call__(self, forward, x, compared=None):
        """Return forward(x), a pass whose kernels and buffers depend on the shape and dtype of x alone.

        The first passes run as ever, the next is recorded, and from then on it is replayed. `compared` is a set of programs
        that have just found the weights as they were.
        """
        compared = set() if compared is None else compared
        if not x.flags.carray:
            return forward(x)
        most = self._most * threads.thread_count()
        if len(x) > most:
            most = -(-len(x) // -(-len(x) // most))         # portions of one size, or nearly
            y = self(forward, x[:most], compared)
            whole = np.empty((len(x), *y.shape[1:]), y.dtype)
            whole[:len(y)] = y
            for i in range(most, len(x), most):
                whole[i:i + most] = self(forward, x[i:i + most], compared)
            return whole
        key = x.shape, x.dtype, threads.thread_count()
        programs = self._programs.get(key, [])
        for program in programs:
            y = program(x, program in compared)
            if y is not None:
                compared.add(program)
                return y
        programs[:] = [program for program in programs if not program.is_stale]
        passes = self._passes.setdefault(key, [])
        if len(passes) < _PASSES or min(passes) > _LONGEST:
            start = time.perf_counter()
            y = forward(x)
            passes[_PASSES - 1:] = [time.perf_counter() - start]
            return y
        recording, own = _Recording(), aligned(x.shape, x.dtype)
        np.copyto(own, x)
        with threads.recorded_by(recording, recording.buffers):
            y = forward(own)
        if recording.is_whole:
            self._programs[key] = [*programs, _Program(recording, own, y, threads.thread_count(), min(passes))][-_VARIANTS:]
            while len(self._programs) > _SHAPES:
                self._programs.pop(next(iter(self._programs)))
        return y
