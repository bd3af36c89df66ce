"""Forked children that may crash, hang or be killed, so that an accident is counted and the program goes on."""

import faulthandler
import os
import signal
import traceback
import warnings

__all__ = ["HUNG", "fork", "outcomes", "counted"]

HUNG = 60           # seconds until an accident counts as hung


def fork():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)        # Python 3.12 warns of forking beside threads
        return os.fork()


def outcomes(judge, count, seconds=None):
    """Return [judge(i) for i in range(count)], each a line of text, computed in forked children.

    A judge that crashes its child, or runs longer than `seconds` (default: HUNG), counts as "crashed" or "hung"; one
    that raises is a RuntimeError here.
    """
    found = []
    while len(found) < count:
        reading, writing = os.pipe()
        child = fork()
        if child == 0:
            code = 1
            try:
                warnings.simplefilter("ignore")
                faulthandler.disable()          # a crash is counted, not printed
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                for i in range(len(found), count):
                    signal.alarm(seconds or HUNG)
                    os.write(writing, judge(i).encode() + b"\n")
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(writing)
        with open(reading, encoding="utf-8") as pipe:
            found += pipe.read().split("\n")[:-1]
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code > 0:
            raise RuntimeError("the judge failed; its error is on stderr")
        if code < 0:
            found.append("hung" if code == -signal.SIGALRM else "crashed")
    return found


def counted(found, *words):
    """Return {"n", and the number of times that each word was found}."""
    return {"n": len(found)} | {word: found.count(word) for word in words}
