"""How every kernel is compiled, and where the compiled code is kept.

This is the only file with numba flags. `nogil` lets the threads of `threads.py` run side by side; `error_model="numpy"`
makes 1/0 an infinity as in NumPy instead of an exception; there is no `fastmath`, because it deletes NaN tests, and no
`parallel=True`, because sums that depend on the number of threads cannot be repeated. Where a fused multiply-add is
wanted it is asked for by name (`simd.py`).

Compiled code is code: it is loaded only from a folder that is ours alone (owned by this user, mode 0700, not a link).
numba's own check, the date of the kernel's file, does not see a change in a helper of another file that was inlined
into it; so the folder bears a digest of all sources of this room.
"""

import hashlib
from pathlib import Path

import numba

from minicnn.files import private_folder

__all__ = ["kernel", "device", "cache_folder"]


def cache_folder():
    """Return the private folder for compiled kernels, or None, after a warning, where none can be trusted."""
    sources = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py"))))
    return private_folder(f"kernels-{sources.hexdigest()[:16]}", "kernel cache", "compiling without it")


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
