"""Signals that end a run: Ctrl-C (SIGINT) and SIGTERM.

    with handled():
        ...                         the first signal raises Interrupted here,
        with postponed():
            step()                  is only noted here,
            check()                 and raised here, where no work is half done

A second signal ends the process at once. Files are written atomically (files.py), so the last checkpoint stays intact.
Python runs a handler in the main thread, between two of its instructions: if a kernel is being compiled or runs, after
it has finished.
"""

import os
import signal
import threading
from contextlib import contextmanager

__all__ = ["Interrupted", "handled", "postponed", "check", "noted", "say_nothing"]

# Only these defaults are replaced: a handler of the user's own stays, and an ignored signal stays ignored.
_DEFAULTS = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}

_noted = None               # number of the first signal, until the end of `handled`
_raised = False             # whether the handler has raised it
_postponements = 0
_silent = False
_main = threading.main_thread().ident     # whose blocks are counted


class Interrupted(KeyboardInterrupt):
    """A signal interrupted this process; the text says where.

    Attributes
    ----------
    number : int, of the signal
    """

    def __init__(self, number, sentence="interrupted."):
        super().__init__(sentence)
        self.number = number


@contextmanager
def handled(last=False):
    """Turn signals that end a process into Interrupted inside the block, and restore their handlers afterwards.

    Outside the main thread, where Python handles no signals, and inside another `handled` it does nothing. A C library
    may catch the Interrupted of the handler and raise its own error instead, which becomes Interrupted again here.

    Parameters
    ----------
    last : bool; no work follows the block: from its end on, a signal ends the process at once, as a second one does
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
        finally:                # the handler raises at most once: if it does so here, the code below still runs
            if before:
                seen, _postponements = _noted, level + 1
    finally:
        if before:
            try:
                for number in () if last else reversed(before):     # SIGINT last: Python raises it itself
                    signal.signal(number, before[number])
            finally:
                late, _noted, _raised, _postponements = _noted, _noted or 0 if last else None, False, level
    if late is not None and seen is None:
        raise Interrupted(late)


def _take_over(before):
    """Install our handler in place of Python's own; `before` receives {number: previous handler}."""
    global _noted, _raised
    for number, default in _DEFAULTS.items() if _in_main_thread() else ():
        if signal.getsignal(number) == default:
            if not before:
                _noted, _raised = None, False
            before[number] = signal.signal(number, _on_signal)


@contextmanager
def postponed():
    """Postpone a signal to the next `check`, at the latest to the end of the block."""
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
    """Raise Interrupted if a signal has arrived; called where no work is half done."""
    if _noted is not None and _in_main_thread():
        raise Interrupted(_noted)


def noted():
    """Return the number of a signal that has arrived, or None."""
    return _noted


def _on_signal(number, frame):
    global _noted, _raised
    if _noted is not None:
        _say(b"minicnn: ended at once; the last checkpoint is intact.\n")
        os._exit(128 + number)
    _noted, _raised = number, not _postponements
    if _raised:
        raise Interrupted(number)
    _say(b"minicnn: ending after the current step; a second signal ends at once.\n")


def say_nothing():
    """Let another process say what a signal does: one of several that train together."""
    global _silent
    _silent = True


def _say(line):
    try:
        if not _silent:
            os.write(2, line)       # not print: a handler may interrupt another write to stderr
    except OSError:
        pass                        # stderr is closed


def _in_main_thread():
    return threading.current_thread() is threading.main_thread()


def _start_anew():
    """In a forked child a signal ends the process, as it did before `handled`: nobody might check what is noted."""
    global _noted, _raised, _postponements, _main
    for number, default in _DEFAULTS.items():
        if signal.getsignal(number) is _on_signal:
            signal.signal(number, default)
    _noted, _raised = None, False
    if threading.get_ident() != _main:      # another thread forked: the blocks of the main one have no end here
        _postponements, _main = 0, threading.get_ident()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
