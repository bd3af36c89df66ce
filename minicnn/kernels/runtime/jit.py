"""How every kernel is compiled, and where the compiled code is kept.

This is the only file with numba flags. `nogil` lets the threads of `threads.py` run side by side; `error_model="numpy"`
makes 1/0 an infinity as in NumPy instead of an exception; there is no `fastmath`, because it deletes NaN tests, and no
`parallel=True`, because sums that depend on the number of threads cannot be repeated. Where a fused multiply-add is
wanted it is asked for by name (`simd.py`).

Compiled code is code: it is loaded only from a folder that is ours alone (owned by this user, mode 0700, not a link),
and only where its SHA-256 is right. numba's own cache is not used. It believes its files: a truncated one crashes it
and a flipped bit in the machine code would run. It sees no change in a helper of another file that was inlined. And its
index numbers the files, so that processes compiling different dtypes at once can leave one that leads to wrong code.
Here one file holds one compiled kernel and its name says of what; what cannot be loaded is compiled, with one warning.

Kernels do not run as Python. So NUMBA_DISABLE_JIT, which people set to debug or measure code of their own, does not
concern them; `MINICNN_ENGINE=reference` is the engine for a debugger.
"""

import contextlib
import hashlib
import os
import sys
import warnings
from pathlib import Path

import llvmlite

from minicnn.errors import InputError, printable

# To numba a variable that is set but empty is a wrong one, worth a traceback whenever it looks at them.
warnings.filterwarnings("ignore", "Environment variable 'NUMBA_.*' is defined but its associated value '' could")
try:
    import numba
except Exception as error:      # another NumPy than it was made for, a variable with a value that it cannot use
    raise InputError(f"numba cannot be imported ({printable(error)}). Check NUMBA_..., or install it anew.") from error
from numba.core import serialize
from numba.core.caching import NullCache
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler, CompileResult
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import CPUDispatcher, cpu_target

from minicnn.core.files import private_folder, remove_unused as _remove_unused, write_atomic

__all__ = ["kernel", "device", "cache_folder", "contents", "FOLDER"]


def kernel(function):
    """Compile `function` at its first call for each combination of dtypes; keep the code in `cache_folder()`."""
    compiled = _Dispatcher(function, {}, _FLAGS)
    # Code that is in no file (python -c, a zipped package) cannot be told from a later one, and is not kept.
    if FOLDER is not None and os.path.isfile(function.__code__.co_filename):
        compiled._cache = _KeptCode(function)       # what numba does for cache=True, with a cache of its own
    return compiled


def device(function):
    """Compile a small helper that kernels call; LLVM inlines it into them."""
    return _Device(function, {}, _FLAGS | {"forceinline": True}, pipeline_class=_WithoutCode)


_FLAGS = dict(nopython=True, nogil=True, error_model="numpy", boundscheck=None, no_cfunc_wrapper=True)


class _Dispatcher(CPUDispatcher):
    """What numba.njit makes of a function, but for NUMBA_DISABLE_JIT."""

    @global_compiler_lock
    def compile(self, signature):
        """Compile or load; numba's own helpers are compiled on the way, which that switch would prevent."""
        disabled, numba.config.DISABLE_JIT = numba.config.DISABLE_JIT, 0
        try:
            return super().compile(signature)
        finally:
            numba.config.DISABLE_JIT = disabled


class _Inlined(JITCodeLibrary):
    """What is kept of a helper: LLVM's own language. Optimized and made machine code of is the kernel that it is inlined into;
    to do both for each helper would be a fifth of the time that a first step takes to compile, and never be run."""

    def _optimize_final_module(self):
        pass

    def _finalize_final_module(self):
        self._finalize_dynamic_globals()
        self._finalized = True


class _WithoutCode(Compiler):
    """numba's compiler as far as a helper needs it (as numba compiles subroutines of its own, without code)."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        state = self.state
        state.flags.no_compile = state.flags.no_cpython_wrapper = state.flags.no_cfunc_wrapper = True
        state.library = _Inlined(state.targetctx.codegen(), "inlined")


class _Device(_Dispatcher):
    """What kernels call: known to numba by a name that stands for no address. Python cannot call it."""

    def add_overload(self, result):
        name = object()
        cpu_target.target_context.insert_user_function(name, result.fndesc, [result.library])
        self.overloads[tuple(result.signature.args)] = result._replace(entry_point=name)


# ---- The folder ------------------------------------------------------------------------------------------------------

def cache_folder():
    """Return the private folder for compiled kernels, or None, after a warning, where none can be trusted.

    Its name is a digest of all that decides the code but the kernel itself: the sources of this package, the versions, the
    settings of numba and the CPU. So the machines that share a home have a folder each.
    """
    sources = [file.read_bytes() for file in sorted(Path(__file__).parents[1].rglob("*.py"))]
    target = cpu_target.target_context.codegen().magic_tuple()      # triple, CPU, features
    settings = str(numba.config.OPT), numba.config.BOUNDSCHECK, os.environ.get("MINICNN_VECTOR_BYTES") or None
    name = _digest(sources, sys.version, numba.__version__, llvmlite.__version__, target, settings)
    return private_folder(f"kernels-{name}", "kernel cache", "compiling without it")


def contents(folder):
    """Return what is in a folder of compiled kernels, or in None: a dict of folder, kernels and bytes, fit for JSON.

    A kernel compiled for two combinations of dtypes counts twice.
    """
    sizes = [] if folder is None else [file.stat().st_size for file in folder.glob("*.nbc")]
    return {"folder": None if folder is None else str(folder), "kernels": len(sizes), "bytes": sum(sizes)}


def _digest(*parts):
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


FOLDER = cache_folder()     # the one in use by this process, or None
if FOLDER is not None:
    _remove_unused(FOLDER)


# ---- The files in it -------------------------------------------------------------------------------------------------

class _KeptCode(NullCache):
    """The compiled code of one kernel, for numba to load and save: a file for each combination of dtypes.

    A file begins with the SHA-256 of its name and of the rest, which numba has pickled. No process sees half a file.
    """

    def __init__(self, function):
        assert function.__closure__ is None, f"{function.__qualname__}: no file name would tell what it closes over"
        self._name = f"{function.__module__.rpartition('.')[2]}.{function.__qualname__}"
        code = function.__code__
        # The package's sources are in the folder's name, but a kernel may stand elsewhere.
        self._key = _digest(code.co_firstlineno, Path(code.co_filename).read_bytes())

    def _path(self, dtypes):
        return FOLDER / f"{self._name}-{_digest(self._key, dtypes)}.nbc"

    def load_overload(self, dtypes, target):
        """Return what `save_overload` saved for these dtypes, or None: numba then compiles."""
        target.refresh()        # so that what the code refers to is known, as numba's own cache has it
        path = self._path(dtypes)
        try:
            content = path.read_bytes()
            if content[:32] != _seal(path, content[32:]):
                raise ValueError("it is not what was written")
            return CompileResult._rebuild(target, *serialize.loads(content[32:]))
        except FileNotFoundError:
            return None
        except Exception as error:      # the code may be another numba's: unpickling and linking raise anything
            with contextlib.suppress(OSError):
                path.unlink()
            _warn_once(f"{printable(path)} cannot be used ({printable(error)}); compiling it again. If this comes "
                       "back, set MINICNN_CACHE_DIR to a folder on a sound disk.")
            return None

    def save_overload(self, dtypes, result):
        """Keep a compiled kernel, or warn that it could not be kept."""
        if result.library.has_dynamic_globals:
            return      # it holds addresses of this process
        path = self._path(dtypes)
        try:
            payload = serialize.dumps(result._reduce())
            write_atomic(path, [_seal(path, payload), payload])
        except Exception as error:      # the kernel is compiled and works: nothing here may stop it
            _warn_once(f"{printable(error)} Kernels are compiled at each start until MINICNN_CACHE_DIR names a folder "
                       "with space for them.")


def _seal(path, payload):
    """Return the 32 bytes that stand before `payload` in the file `path`."""
    return hashlib.sha256(path.name.encode() + payload).digest()


_warned = False


def _warn_once(sentence):
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(f"minicnn: kernel cache: {sentence}", RuntimeWarning, stacklevel=2)
