"""A lock that survives a fork, a copy and a pickle of what it guards.

The threads that hold locks do not exist in a forked child, so nobody releases them there. Ours are made anew in it. The
lock of numba's compiler guards a state that would be half changed: a fork waits until nothing is compiled.
"""

import os
import sys
import threading
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


def _stop_compiler():
    global _compiler
    numba = sys.modules.get("numba.core.compiler_lock")     # not imported here: it takes half a second
    _compiler = getattr(numba, "global_compiler_lock", None)
    if _compiler is not None:
        _compiler.acquire()


def _go_on():
    if _compiler is not None:
        _compiler.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_stop_compiler, after_in_parent=_go_on, after_in_child=_go_on)
    os.register_at_fork(after_in_child=_free)
