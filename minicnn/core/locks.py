"""A lock that survives a fork, a copy and a pickle of what it guards.

The threads that hold locks do not exist in a forked child, so nobody releases them there. Ours are made anew in it. What
another thread imports or compiles would stay half done, and locked: a fork waits until it is done.
"""

import os
import sys
import threading
import time
import weakref

__all__ = ["Lock"]

_all = weakref.WeakSet()


class Lock(type(threading.RLock())):
    """A lock that one thread holds at a time, as often as it likes (threading.RLock).

    In a forked child only the thread that forked exists: what another held is free there. A copy, and what a pickle
    gives, is a lock of its own.

    >>> import copy
    >>> lock = Lock()
    >>> with lock:
    ...     copy.deepcopy(lock) is lock
    False
    """

    def __new__(cls):
        lock = super().__new__(cls)
        _all.add(lock)
        return lock

    def __reduce__(self):
        return Lock, ()


def _free():
    for lock in list(_all):
        if lock.acquire(blocking=False):        # nobody's, or ours
            lock.release()
        else:
            lock._at_fork_reinit()


_compiler = None                                # numba's lock, while a fork is under way


def _wait(seconds=30):
    global _compiler
    end = time.monotonic() + seconds            # the other thread may wait for something that this one holds
    while True:
        numba = sys.modules.get("numba.core.compiler_lock")     # not imported here: it takes half a second
        _compiler = getattr(numba, "global_compiler_lock", None)
        if _compiler is not None:
            _compiler.acquire()
        if not _others_import() or time.monotonic() > end:
            return
        _go_on()
        time.sleep(0.001)


def _others_import():
    """Return whether another thread is importing a module (numpy.ma, for one, is imported when it is first used)."""
    locks = getattr(sys.modules.get("_frozen_importlib"), "_module_locks", {})
    owners = {getattr(reference(), "owner", None) for reference in list(locks.values())}
    return bool(owners - {None, threading.get_ident()})


def _go_on():
    if _compiler is not None:
        _compiler.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_wait, after_in_parent=_go_on, after_in_child=_go_on)
    os.register_at_fork(after_in_child=_free)
