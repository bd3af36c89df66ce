"""How every kernel is compiled, and where the compiled code is kept.

This is the only file with numba flags. `nogil` lets the threads of `threads.py` run side by side; `error_model="numpy"`
makes 1/0 an infinity as in NumPy instead of an exception; there is no `fastmath`, because it deletes NaN tests, and no
`parallel=True`, because sums that depend on the number of threads cannot be repeated. Where a fused multiply-add is
wanted it is asked for by name (`simd.py`).

Compiled code is code: it is loaded only from a folder that is ours alone (owned by this user, mode 0700, not a link).
"""

import os
import stat
import tempfile
import warnings
from pathlib import Path

import numba

__all__ = ["kernel", "device", "cache_folder"]


def cache_folder():
    """Return the folder for compiled kernels, made with mode 0700 where missing, or None where none can be trusted.

    It is `$MINICNN_CACHE_DIR/kernels`, else `$XDG_CACHE_HOME/minicnn/kernels`, else `~/.cache/minicnn/kernels`. A folder
    that belongs to somebody else, that others can write to, or that is a symbolic link is refused with a warning;
    kernels are then compiled anew in each process.
    """
    base = os.environ.get("MINICNN_CACHE_DIR")
    if base is None:
        cache_home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        base = os.path.join(cache_home, "minicnn")
    folder = Path(base) / "kernels"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
        owned = status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o022
        if not stat.S_ISDIR(status.st_mode) or not owned:
            warnings.warn(f"minicnn: kernel cache {folder} is not a folder of this user alone; compiling without it. "
                          f"Remove it, or set MINICNN_CACHE_DIR to a folder of yours.", RuntimeWarning, stacklevel=2)
            return None
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        warnings.warn(f"minicnn: kernel cache {folder} cannot be used ({error.strerror}); compiling without it. "
                      f"Set MINICNN_CACHE_DIR to a folder of yours to keep compiled kernels.",
                      RuntimeWarning, stacklevel=2)
        return None


_FOLDER = cache_folder()


def kernel(function):
    """Compile `function` at its first call for each combination of dtypes; keep the code in `cache_folder()`."""
    return _compile(function, inline=False)


def device(function):
    """Compile a small helper that kernels call; LLVM inlines it into them."""
    return _compile(function, inline=True)


def _compile(function, inline):
    options = dict(nogil=True, error_model="numpy", boundscheck=None)
    if inline:
        return numba.njit(forceinline=True, **options)(function)
    if _FOLDER is None:
        return numba.njit(**options)(function)
    # numba reads the cache folder from its global setting while it decorates: ours only for that moment.
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(_FOLDER)
    try:
        return numba.njit(cache=True, **options)(function)
    finally:
        numba.config.CACHE_DIR = before
