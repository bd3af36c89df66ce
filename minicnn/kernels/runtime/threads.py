"""Threads: a fixed amount of work in units, claimed by a small pool that lives as long as the process.

A kernel takes `scratch`, `queue` and `lane` last. It asks `claim(queue, lane)` for one unit after another (work_queue.py) and
has `scratch[lane]` for itself. Units never share an output, and sums over images are kept apart in fixed chunks and
added in a fixed order, so the number of threads decides how fast a result comes and never what it is.

One piece of work has the pool at a time. Whoever finds it taken (several threads of the user's predict at once), or runs
in a forked child, where the pool's threads do not exist, works alone or makes a pool anew: same bits.
"""

import contextlib
import math
import os
import threading

import numpy as np

from minicnn.core.memory import Buffers, here
from minicnn.errors import InputError
from minicnn.kernels.runtime.work_queue import COUNT, LANE, LANES, LOOKS, NEXT, TICKET, core, queue_size, leave, watch

__all__ = ["run", "perform", "helpers_sleep", "work_alone", "workspace", "scratch_of", "own_queue", "recording",
           "recorded_by", "thread_count", "set_thread_count", "available_cores"]


def available_cores():
    """Return how many cores this process may use: its affinity, and the quota of its control group.

    >>> available_cores() >= 1
    True
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            quota, period = file.read().split()
        if quota != "max":
            cores = min(cores, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):
        pass        # no control group of the second version: the affinity stands
    return cores


def _check(count, source):
    try:
        value = int(count)
    except (TypeError, ValueError):
        value = 0
    if not 1 <= value <= 256:
        raise InputError(f"{source}: expected a number of threads from 1 to 256, got {count!r}.")
    return value


def thread_count():
    """Return the number of threads in use: as set, else `$MINICNN_THREADS`, else `$NUMBA_NUM_THREADS`, else the cores available."""
    global _count
    if _count is None:
        name = next((name for name in ("MINICNN_THREADS", "NUMBA_NUM_THREADS") if os.environ.get(name)), None)
        _count = available_cores() if name is None else _check(os.environ[name], name)
    return _count


def set_thread_count(count):
    """Use `count` threads from now on. Results do not change by a bit.

    >>> before = thread_count(); set_thread_count(2); thread_count()
    2
    >>> set_thread_count(before)
    """
    global _count
    count = _check(count, "threads")
    with _turn:
        _count = count
        if _pool is not None and len(_pool.helpers) + 1 != count:
            _dissolve()


def run(kernel, units, *arguments, scratch=0, dtype=np.float32, integers=0):
    """Call kernel(*arguments, scratch, queue, lane) on every thread until `units` units are done.

    Parameters
    ----------
    scratch : int; each thread finds so many numbers of `dtype` for itself in scratch[lane], with undefined contents
    integers : int; where it is not 0, so many int64 likewise, in an array that comes before scratch

    Notes
    -----
    A kernel has at most twelve arguments; sizes that belong together are one NamedTuple. Neither its arguments nor such
    a tuple may be twenty: CPython 3.11 keeps up to 2000 tuples of exactly that length and never uses them again.
    """
    if _own.recording is not None:
        _own.recording.add(kernel, units, arguments, (scratch, dtype, integers))
    if units > 1 and thread_count() > 1:
        with _the_pool() as pool:
            if pool is not None:
                pool.work(kernel, units, (*arguments, *scratch_of(len(pool.bells), scratch, dtype, integers)))
                return
    queue = _own.queue
    queue[NEXT], queue[COUNT] = 0, units
    kernel(*arguments, *scratch_of(1, scratch, dtype, integers), queue, 0)


def perform(kernel, arguments, alone=False):
    """Call kernel(*arguments, queue, lane) on every thread, or on this one; return what it does on this one.

    The kernel sets the numbers of units itself, for one piece of work after another (recording.py).
    """
    if not alone:
        with _the_pool() as pool:
            if pool is not None:
                return pool.work(kernel, 0, arguments)
    return kernel(*arguments, _own.queue, 0)


def helpers_sleep():
    """Return whether a helper would have to be woken, or made."""
    return _pool is None or bool(_pool.asleep)


def work_alone():
    """Let the calling thread never take the pool: it prepares batches while another computes with all threads."""
    _own.alone = True


class _Own(threading.local):
    """What belongs to each thread that calls kernels: its workspaces, a queue for work that it does alone, and who records."""

    alone, recording = False, None

    def __init__(self):
        self.buffers = Buffers()
        self.queue = np.zeros(queue_size(1), np.int64)


def workspace(name, shape, dtype):
    """Return an array with undefined contents that belongs to the calling thread until it asks for `name` again.

    A large one is lent by the pool of the network that runs, until the end of its step: what the next needs may lie there.
    """
    shape = shape if isinstance(shape, tuple) else (shape,)
    if here.pool is not None and _own.recording is None and math.prod(shape) > _LARGE:
        return here.pool.get(shape, np.dtype(dtype))
    return _own.buffers.get(name, shape, dtype)


def own_queue():
    """Return the queue of the calling thread, for work that it does alone."""
    return _own.queue


def recording():
    """Return what records the kernels that the calling thread runs, or None."""
    return _own.recording


@contextlib.contextmanager
def recorded_by(recording, buffers):
    """Within it, `recording` is told what the calling thread runs, and `buffers` are its workspaces."""
    before = _own.recording, _own.buffers
    _own.recording, _own.buffers = recording, buffers
    try:
        yield
    finally:
        _own.recording, _own.buffers = before


def scratch_of(lanes, size, dtype, integers):
    """Return the arrays that a kernel gets for `run`'s scratch and integers."""
    size = max(16, -(-size // 16) * 16)             # each lane's share begins on a cache line
    scratch = _own.buffers.get("scratch", (lanes, size), dtype)
    return (_own.buffers.get("integers", (lanes, -(-integers // 8) * 8), np.int64), scratch) if integers else (scratch,)


class _Pool:
    """Helpers that sleep until there is work, and a queue on which they find it."""

    def __init__(self, lanes):
        self.queue = np.zeros(queue_size(lanes), np.int64)
        # Helpers look for new work about a quarter of a millisecond, more than the Python between two kernels of a step, before they sleep;
        # where there are more threads than cores they would only be in the way.
        self.queue[LOOKS] = 10000 if lanes <= available_cores() else 0
        self.job, self.ended, self.failure = _NO_JOB, False, None
        self.asleep, self.cores = [], set()     # lanes of helpers that sleep, or are about to; the cores that they may use
        self.bells = [threading.Semaphore(0) for _ in range(lanes)]
        self.helpers = [threading.Thread(target=self._help, args=(lane,), daemon=True, name=f"minicnn-{lane}")
                        for lane in range(1, lanes)]
        for helper in self.helpers:
            helper.start()

    def work(self, kernel, units, arguments):
        """Do the units, together with the helpers, and return what the kernel does; an exception of any is raised here."""
        queue = self.queue
        queue[NEXT], queue[COUNT] = 0, units
        self.failure = None
        self.job = (int(queue[TICKET]) + 1, kernel, arguments)
        self._ring()
        try:
            result = kernel(*arguments, queue, 0)
        finally:
            queue[COUNT] = 0                 # if our own part failed: no new units
            leave(queue, 0)                  # the helpers write into the caller's arrays until they have left
            self.job = _NO_JOB               # keep no arrays alive
        if self.failure is not None:
            raise self.failure
        return result

    def _ring(self):
        """Wake those that sleep, on cores other than ours.

        Linux likes to wake a thread where the one runs that wakes it. There it would take turns with us for milliseconds,
        beside a core that is idle: after a pause two threads were slower than one.
        """
        if not self.asleep:
            return
        here = core() if hasattr(os, "sched_setaffinity") else -1
        self.cores = os.sched_getaffinity(0) if here >= 0 else set()
        while self.asleep:
            lane = self.asleep.pop()
            if self.cores - {here}:
                _keep_to(self.helpers[lane - 1].native_id, self.cores - {here})
            self.bells[lane].release()

    def _help(self, lane):
        queue, seen = self.queue, 0
        while not self.ended:
            if not watch(queue, seen):
                self._sleep(lane, seen)
                continue
            seen = int(queue[TICKET])
            first, kernel, arguments = self.job         # a recording has several tickets, all from the first on
            if first > seen:
                continue
            queue[LANES + LANE * lane] = seen
            try:
                kernel(*arguments, queue, lane)
            except BaseException as failure:
                if queue[LANES + LANE * lane + 1]:          # still inside: no other work has begun
                    self.failure = failure
                    queue[COUNT] = 0
                    leave(queue, lane)
            del kernel, arguments

    def _sleep(self, lane, seen):
        """Sleep until the bell rings; not if a job came since: who brought it may have looked before we were on the list.

        A program would then be done without us to its end: VGG-19's took twice as long, now and then.
        """
        self.asleep.append(lane)
        if seen < self.job[0] < math.inf:
            try:
                return self.asleep.remove(lane)
            except ValueError:              # the bell has rung
                pass
        self.bells[lane].acquire()
        if len(self.cores) > 1:
            _keep_to(0, self.cores)         # once awake it may go anywhere again

    def end(self):
        """Let the helpers end; they do so soon, not at once."""
        self.ended = True
        self.queue[TICKET] += 1
        for bell in self.bells:
            bell.release()


_LARGE = 2**16                      # numbers of a workspace that is not the thread's own
_NO_JOB = (math.inf, None, ())      # (its first ticket, kernel, arguments)
_count = None
_pool = None
_turn = threading.Lock()            # who holds it has the pool
_own = _Own()


def _keep_to(thread, cores):
    """Let a thread, 0 the calling one, run on these cores only; where the system refuses, it runs where it would have."""
    with contextlib.suppress(OSError):
        os.sched_setaffinity(thread, cores)


class _the_pool:
    """Within it, the calling thread has the pool, or None where it is to work alone."""

    def __enter__(self):
        global _pool
        self._has_it = thread_count() > 1 and not _own.alone and _turn.acquire(blocking=False)
        if not self._has_it:
            return None
        if _pool is None:
            _pool = _Pool(thread_count())
        return _pool

    def __exit__(self, *error):
        if self._has_it:
            _turn.release()


def _dissolve():
    global _pool
    if _pool is not None:
        _pool.end()
        _pool = None


def _start_anew():
    """In a forked child the pool's threads do not exist, and no thread is left to release its lock."""
    global _pool, _turn
    _pool, _turn = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
