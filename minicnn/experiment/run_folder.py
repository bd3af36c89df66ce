"""The run folder: what one training run leaves behind, and the lock that keeps a second run out.

    config.json        the options, resolved         split.csv         which image is in which set
    history.csv        one row an epoch              metrics.json      the metrics of each set, written last
    last.safetensors   the newest state              predictions.csv   each image with its probability
    previous.safetensors, best.safetensors           *.png             curves, ROC, reliability, confusion, samples
    average.safetensors   where the recipe averages  decision.json     threshold, abstention, temperature (validation)
    environment.json   versions                      run.lock          held while a run is going on
    familiarity.safetensors   the distribution of the training images: predict warns of images outside it
    fold-1, fold-2 ...   the run folders of a cross-validation, whose own files are those that need no network
    looks.json         how often the test set was evaluated

A folder with a config.json holds a run that has begun, one with a metrics.json a run that is finished.
"""

import errno
import json
import os
import platform
import shlex
import stat
import sys
from pathlib import Path

from minicnn.core import untrusted
from minicnn.core.files import lives_elsewhere, open_flags, open_regular, remove_leftovers, write_atomic
from minicnn.core.processes import versions
from minicnn.errors import CheckpointError, InputError, RunLockedError, printable

try:
    import fcntl
except ImportError:
    fcntl = None
try:
    import msvcrt           # what Windows has in its place
except ImportError:
    msvcrt = None

__all__ = ["RunFolder", "next_folder", "make_next", "environment"]


class RunFolder:
    """A folder of one run, locked while the `with` block lasts.

    The lock is the operating system's: it ends with the process that holds it, even if that is killed. Files that such
    a process left half written are removed when the next one has the lock.

    Raises
    ------
    RunLockedError
        if another process holds it; the sentence names its process number
    CheckpointError
        if the folder cannot be made or written to
    """

    def __init__(self, path):
        self.path = Path(path)

    def __enter__(self):
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _locked(self.path / "run.lock")
            remove_leftovers(self.path)
            os.ftruncate(self._lock, 0)
            os.write(self._lock, str(os.getpid()).encode("ascii"))
        except BlockingIOError:
            raise RunLockedError(f"{printable(self.path)}: another run is using this folder (process {self._holder()}"
                                 "). Wait for it, or choose another folder with --out.") from None
        except OSError as error:
            raise CheckpointError(f"{printable(self.path)}: cannot be used as a run folder: {error.strerror}. "
                                  "Choose another with --out.") from error
        return self

    def __exit__(self, *exception):
        # The kernel drops the lock with the file; the name goes first, while nobody else can hold it. But Windows
        # removes no open file: there the name goes last, unless another process has it by then.
        if fcntl is None:
            _unlock(self._lock)
        try:
            (self.path / "run.lock").unlink(missing_ok=True)
        except OSError:
            pass        # a file without a lock does no harm
        if fcntl is not None:
            _unlock(self._lock)

    def _holder(self):
        """Return the number of the process that holds the lock, as text."""
        try:
            file, _ = open_regular(self.path / "run.lock")
            with file:
                number = file.read(20).decode("ascii", "replace").strip()
        except OSError:
            number = ""
        return number if number.isdecimal() else "unknown"

    @property
    def is_locked(self):
        """Whether a process is using this folder."""
        try:
            _unlock(_locked(self.path / "run.lock", make=False))
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    @property
    def is_begun(self):
        """Whether there is a run in this folder."""
        return os.path.lexists(self.path / "config.json")

    @property
    def is_finished(self):
        """Whether the run in this folder has been measured, after its last epoch."""
        return os.path.lexists(self.path / "metrics.json")

    @property
    def resume_command(self):
        """The command that goes on with the run, or None where there is none."""
        return f"minicnn train --resume {shlex.quote(printable(self.path))}" if self.is_begun else None

    @property
    def last(self):
        """The newest checkpoint."""
        return self.path / "last.safetensors"

    def write_json(self, name, content):
        """Write `content` as RFC 8259 JSON (no NaN), all or nothing."""
        # In ASCII: a path that is not UTF-8 is kept, as escapes.
        write_atomic(self.path / name, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode("ascii"))

    def read_json(self, name):
        """Return the content of a JSON file of this folder."""
        if not os.path.lexists(self.path / name):
            raise InputError(f"{printable(self.path)}: not a run folder: it has no {name}. "
                             "Name the folder that `minicnn train` printed.")
        with untrusted.raising(InputError, self.path / name):
            return untrusted.read_json(self.path / name)


def _locked(path, make=True):
    """Return a descriptor of `path`, locked by this process; BlockingIOError where another holds it."""
    # A link, a pipe or a device in the place of the lock is not followed, waited for or written to.
    flags = open_flags("RDWR", "NOFOLLOW", "NONBLOCK", *(["CREAT"] if make else []))
    while True:
        descriptor = os.open(path, flags, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "run.lock is not a regular file")
            _lock(descriptor)
            # A holder that ended between our open and our lock took the name away: then this is not the lock any more.
            if os.path.exists(path) and os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor):
    """Lock an open file for this process; BlockingIOError where another has it."""
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    elif msvcrt is not None:
        try:
            _lock_byte(descriptor, msvcrt.LK_NBLCK)
        except PermissionError as error:
            raise BlockingIOError(*error.args) from None
    else:       # a system without locks: who holds it is the process whose number is in the file, while that lives
        number, file = os.read(descriptor, 20), _identity(descriptor)
        os.lseek(descriptor, 0, os.SEEK_SET)
        if file in _held or number.isdigit() and lives_elsewhere(int(number)):
            raise BlockingIOError(errno.EAGAIN, "in use")
        _held.add(file)


_held = set()       # files that this process holds, on such a system


def _identity(descriptor):
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _unlock(descriptor):
    """Give the lock back, and close its file."""
    if fcntl is None and msvcrt is not None:
        _lock_byte(descriptor, msvcrt.LK_UNLCK)     # else Windows does so some time after it is closed
    _held.discard(_identity(descriptor))
    os.close(descriptor)


def _lock_byte(descriptor, mode):
    """Lock or unlock, as Windows does, a byte that nobody reads: one that is locked can be read by its holder alone."""
    os.lseek(descriptor, 2**20, os.SEEK_SET)
    try:
        msvcrt.locking(descriptor, mode, 1)
    finally:
        os.lseek(descriptor, 0, os.SEEK_SET)


def next_folder(parent="runs"):
    """Return the first of parent/001, parent/002, ... that does not exist.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     next_folder(folder).name
    '001'
    """
    number = 1
    while os.path.lexists(Path(parent) / f"{number:03d}"):
        number += 1
    return Path(parent) / f"{number:03d}"


def make_next(parent="runs"):
    """Make the `next_folder`, which no other process has made, and return it."""
    while True:
        folder = next_folder(parent)
        try:
            folder.mkdir(mode=0o700, parents=True)
            return folder
        except FileExistsError:
            pass
        except OSError as error:
            raise CheckpointError(f"{printable(folder)}: cannot be used as a run folder: {error.strerror}. Choose "
                                  "another with --out.") from error


def environment():
    """Return the versions that a result depends on; no host, no user, no path."""
    from minicnn.kernels.runtime.threads import available_cores, thread_count

    return versions() | {"platform": sys.platform, "machine": platform.machine(), "cores": available_cores(),
                         "threads": thread_count()}
