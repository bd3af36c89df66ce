"""Signals that end a run: Ctrl-C (SIGINT), and SIGTERM, with which systems ask a process to end.

    with handled():
        ...                         the first signal raises Interrupted here,
        with postponed():
            step()                  is only noted here,
            check()                 and raised here, where nothing is half done

A second signal ends the process at once: files are written whole (files.py), so whatever it cuts off, the last checkpoint
is intact. Python runs a handler in the main thread, between two of its instructions: while a kernel is being compiled or
runs, as soon as that is done.
"""

import os
import signal
import threading
from contextlib import contextmanager

__all__ = ["Interrupted", "handled", "postponed", "check"]

# Whoever has installed a handler of their own, or ignores a signal, keeps it so.
_DEFAULTS = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}

_noted = None               # number of the first signal, from its coming to the end of `handled`
_postponements = 0


class Interrupted(KeyboardInterrupt):
    """A signal asked this process to end; its text says what was reached.

    Attributes
    ----------
    number : int, of the signal
    """

    def __init__(self, number, sentence="interrupted."):
        super().__init__(sentence)
        self.number = number


@contextmanager
def handled():
    """Turn signals that end a process into Interrupted; afterwards they do what they did before.

    Outside the main thread, where Python handles no signals, and inside another `handled` nothing changes.
    """
    global _noted
    before = {}
    try:
        for number, default in _DEFAULTS.items() if _in_main_thread() else ():
            if signal.getsignal(number) == default:
                before[number] = signal.signal(number, _on_signal)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if before:
            _noted = None


@contextmanager
def postponed():
    """Let a signal wait for the next `check`, at the latest for the end of this block."""
    global _postponements
    if not _in_main_thread():
        yield
        return
    _postponements += 1
    try:
        yield
    finally:
        _postponements -= 1
    if not _postponements:
        check()


def check():
    """Raise Interrupted if a signal has come. To be called where nothing is half done."""
    if _noted is not None and _in_main_thread():
        raise Interrupted(_noted)


def _on_signal(number, frame):
    global _noted
    if _noted is not None:
        _say(b"minicnn: ended at once; the last checkpoint is whole.\n")
        os._exit(128 + number)
    _noted = number
    if not _postponements:
        raise Interrupted(number)
    _say(b"minicnn: ending after this batch; a second signal ends at once.\n")


def _say(line):
    try:
        os.write(2, line)           # a handler may run while Python is in the middle of its own writing
    except OSError:
        pass                        # nobody listens


def _in_main_thread():
    return threading.current_thread() is threading.main_thread()
