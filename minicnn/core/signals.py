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
_raised = False             # whether the handler raised it
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
def handled(last=False):
    """Turn signals that end a process into Interrupted; afterwards they do what they did before.

    Outside the main thread, where Python handles no signals, and inside another `handled` nothing changes. Libraries in C
    may catch what the handler raised, and raise an error of their own for it: here it is Interrupted again.

    Parameters
    ----------
    last : bool; nothing is left to be done afterwards: a signal then ends the process at once, as a second one does
    """
    global _noted, _raised, _postponements
    before, level, seen, late = {}, _postponements, None, None
    try:
        try:
            with postponed():
                _take_over(before)
            yield
        except Exception as error:
            if before and _raised:
                raise Interrupted(_noted) from error
            raise
        finally:                # the handler raises once at most: if here, what is below is done all the same
            if before:
                seen, _postponements = _noted, level + 1
    finally:
        if before:
            try:
                for number in () if last else reversed(before):     # Ctrl-C, which Python itself raises, comes last
                    signal.signal(number, before[number])
            finally:
                late, _noted, _raised, _postponements = _noted, _noted or 0 if last else None, False, level
    if late is not None and seen is None:
        raise Interrupted(late)


def _take_over(before):
    """Put our handler in the place of Python's own; {number: what was there} goes into `before`."""
    global _noted, _raised
    for number, default in _DEFAULTS.items() if _in_main_thread() else ():
        if signal.getsignal(number) == default:
            if not before:
                _noted, _raised = None, False
            before[number] = signal.signal(number, _on_signal)


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
    global _noted, _raised
    if _noted is not None:
        _say(b"minicnn: ended at once; the last checkpoint is whole.\n")
        os._exit(128 + number)
    _noted, _raised = number, not _postponements
    if _raised:
        raise Interrupted(number)
    _say(b"minicnn: ending after the step under way; a second signal ends at once.\n")


def _say(line):
    try:
        os.write(2, line)           # a handler may run while Python is in the middle of its own writing
    except OSError:
        pass                        # nobody listens


def _in_main_thread():
    return threading.current_thread() is threading.main_thread()
