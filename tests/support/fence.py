"""Electric fences: arrays that end (or begin) exactly where a page of memory begins that nobody may touch.

Numba checks no index and vector loads could not be checked anyway: a read one element past the end returns garbage, and
here kills the process instead. Inputs can be locked, so that a write to them kills it too.
"""

import ctypes
import faulthandler
import mmap
import os
import sys
import traceback
import warnings

import numpy as np

__all__ = ["Fences", "fenced", "survives"]

_PAGE = mmap.PAGESIZE
_NONE, _READ, _READ_WRITE = 0, 1, 3
_libc = ctypes.CDLL(None, use_errno=True)


class Fences:
    """Hands out arrays beside protected pages; `clear` takes them all back.

    Parameters
    ----------
    at_end : bool: the last byte of each array touches the protected page, else the first one does
    """

    def __init__(self, at_end, size=2**21):
        self.at_end, self._size = at_end, size
        self._slots, self._used, self._locked = [], 0, []

    def _slot(self):
        if self._used == len(self._slots):
            memory = mmap.mmap(-1, self._size + 2 * _PAGE)
            address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
            for page in (address, address + _PAGE + self._size):
                self._protect(page, _PAGE, _NONE)
            self._slots.append((memory, address))
        self._used += 1
        return self._slots[self._used - 1]

    def _protect(self, address, size, rights):
        if _libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(size), rights):
            raise OSError(ctypes.get_errno(), "mprotect")

    def copy(self, array, locked=False):
        """Return a copy of an array beside a protected page; where locked, it cannot be written to."""
        memory, address = self._slot()
        assert array.nbytes <= self._size
        offset = _PAGE + (self._size - array.nbytes if self.at_end else 0)
        copy = np.frombuffer(memory, array.dtype, array.size, offset).reshape(array.shape)
        copy[...] = array
        if locked:
            self._protect(address + _PAGE, self._size, _READ)
            self._locked.append(address + _PAGE)
        return copy

    def clear(self):
        """Take all arrays back: their memory will be handed out again."""
        for address in self._locked:
            self._protect(address, self._size, _READ_WRITE)
        self._locked, self._used = [], 0


def fenced(shape, dtype, make=np.empty):
    """Return an array full of NaN (of 0xAA, where it is no float; of zeros, where `make` is np.zeros) whose last byte touches a
    protected page."""
    shape = shape if isinstance(shape, tuple) else (shape,)
    dtype, count = np.dtype(dtype), int(np.prod(shape, dtype=np.int64))
    whole = max(1, -(-count * dtype.itemsize // _PAGE)) * _PAGE
    memory = mmap.mmap(-1, whole + _PAGE)               # goes with the array
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if _libc.mprotect(ctypes.c_void_p(address + whole), ctypes.c_size_t(_PAGE), _NONE):
        raise OSError(ctypes.get_errno(), "mprotect")
    array = np.frombuffer(memory, dtype, count, whole - count * dtype.itemsize)
    if make is not np.zeros:
        array.fill(np.nan) if dtype.kind == "f" else array.view(np.uint8).fill(0xAA)
    return array.reshape(shape)


def survives(work, log):
    """Run work(say) in a forked child; return whether it came to its end, and the last line that it said.

    A child killed by a signal, or one that raises, did not. `log` is the path of a file for what it says.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)        # Python 3.12 warns of forking beside threads
        child = os.fork()
    if child == 0:
        code = 1
        faulthandler.disable()                                     # the last line said tells more, in one line
        try:
            with open(log, "w", encoding="utf-8") as file:
                def say(line):
                    file.seek(0)
                    file.truncate()
                    file.write(str(line))
                    file.flush()
                try:
                    work(say)
                    code = 0
                except BaseException:
                    say(traceback.format_exc())
        finally:
            sys.stdout.flush()
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    return status == 0, log.read_text(encoding="utf-8")
