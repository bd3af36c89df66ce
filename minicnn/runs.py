"""The run folder: what one training run leaves behind, and the lock that keeps a second run out.

    config.json        the options, resolved         split.csv         which image is in which part
    history.csv        one row an epoch              metrics.json      the metrics of each part
    last.safetensors   the newest epoch              predictions.csv   each image with its probability
    previous.safetensors, best.safetensors           *.png             curves, ROC, confusion matrix, samples
    environment.json   versions                      run.lock          held while a run is going on
"""

import fcntl
import json
import os
import platform
import sys
from pathlib import Path

from minicnn import __version__
from minicnn.errors import CheckpointError, InputError, RunLockedError, printable
from minicnn.files import write_whole

__all__ = ["RunFolder", "next_folder", "environment"]


class RunFolder:
    """A folder of one run, locked while the `with` block lasts.

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
        except BlockingIOError:
            holder = (self.path / "run.lock").read_text(encoding="ascii", errors="replace")[:20].strip() or "unknown"
            raise RunLockedError(f"{printable(self.path)}: another run is using this folder (process "
                                 f"{printable(holder)}). Wait for it, or choose another folder with --out.") from None
        except OSError as error:
            raise CheckpointError(f"{printable(self.path)}: cannot be used as a run folder: {error.strerror}. "
                                  "Choose another with --out.") from error
        self._lock.truncate(0)
        self._lock.write(str(os.getpid()))
        self._lock.flush()
        return self

    def __exit__(self, *exception):
        # The kernel drops the lock with the file; the name goes first, while nobody else can hold it.
        (self.path / "run.lock").unlink(missing_ok=True)
        self._lock.close()

    @property
    def last(self):
        """The newest checkpoint."""
        return self.path / "last.safetensors"

    def write_json(self, name, content):
        """Write `content` as RFC 8259 JSON (no NaN), all or nothing."""
        text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
        write_whole(self.path / name, text.encode("utf-8"))

    def read_json(self, name):
        """Return the content of a JSON file of this folder."""
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(f"{printable(self.path)}: not a run folder: it has no {name}. "
                             "Name the folder that `minicnn train` printed.") from None
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{printable(self.path / name)}: cannot be read: {printable(error)}.") from None


def _locked(path):
    """Return `path`, opened and locked by this process; BlockingIOError where another holds it."""
    while True:
        # Appending neither truncates another holder's number nor needs the file to be there.
        file = open(path, "a+", encoding="ascii")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A holder that ended between our open and our lock took the name away: then this is not the lock any more.
            if os.path.exists(path) and os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def next_folder(parent="runs"):
    """Return the first of parent/001, parent/002, ... that does not exist.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     next_folder(folder).name
    '001'
    """
    number = 1
    while (Path(parent) / f"{number:03d}").exists():
        number += 1
    return Path(parent) / f"{number:03d}"


def environment():
    """Return the versions that a result depends on; no host, no user, no path."""
    import llvmlite
    import numba
    import numpy
    import PIL

    from minicnn.kernels.threads import available_cores, thread_count

    return {"minicnn": __version__, "python": platform.python_version(), "numpy": numpy.__version__,
            "numba": numba.__version__, "llvmlite": llvmlite.__version__, "pillow": PIL.__version__,
            "platform": sys.platform, "machine": platform.machine(), "cores": available_cores(),
            "threads": thread_count()}
