"""Threads: a fixed amount of work, split over a small pool that lives as long as the process.

A kernel takes `start` and `stop` last and works on that range of images (or panels, or elements). Ranges never share an
output, and sums over images are kept apart in fixed chunks and added in a fixed order, so the number of threads decides
how fast a result comes and never what it is.
"""

import os
from concurrent.futures import ThreadPoolExecutor

from minicnn.errors import InputError

__all__ = ["run", "thread_count", "set_thread_count", "available_cores"]


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
    """Return the number of threads in use: as set, else `$MINICNN_THREADS`, else the cores available."""
    global _count
    if _count is None:
        wanted = os.environ.get("MINICNN_THREADS")
        _count = available_cores() if wanted is None else _check(wanted, "MINICNN_THREADS")
    return _count


def set_thread_count(count):
    """Use `count` threads from now on. Results do not change by a bit.

    >>> before = thread_count(); set_thread_count(2); thread_count()
    2
    >>> set_thread_count(before)
    """
    global _count, _pool
    _count = _check(count, "threads")
    _pool = None


def run(kernel, count, *arguments, grain=1):
    """Call kernel(*arguments, start, stop) so that the ranges cover 0 .. count, each at least `grain` long.

    The calling thread takes the first range; an exception of any range is raised here.
    """
    shares = max(1, min(thread_count(), count // grain))
    if shares == 1:
        kernel(*arguments, 0, count)
        return
    bounds = [count * i // shares for i in range(shares + 1)]
    pending = [_workers().submit(kernel, *arguments, bounds[i], bounds[i + 1]) for i in range(1, shares)]
    try:
        kernel(*arguments, bounds[0], bounds[1])
    finally:
        # Even when our own range failed: the others write into the caller's arrays until they are done.
        for future in pending:
            future.exception()
    for future in pending:
        future.result()


_count = None
_pool = None


def _workers():
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(max(1, thread_count() - 1), thread_name_prefix="minicnn")
    return _pool


def _forget():
    """In a forked child the pool's threads do not exist: start anew there."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
