"""How files reach the disk, and how they are opened: whole or not at all, and never anything but a plain file."""

import errno
import os
import secrets
import stat
import tempfile
import warnings
from pathlib import Path

from minicnn.errors import CheckpointError, printable

__all__ = ["write_whole", "open_regular", "private_folder"]


def write_whole(path, parts):
    """Write byte strings to `path`, so that at any moment the old file or the new one is there, whole.

    The bytes go to a new file in the same folder, reach the disk (fsync), and take the name in one step (rename); the
    folder reaches the disk last. A symbolic link at `path` is replaced, not followed. The file is readable by its owner
    alone: it may be about patients.

    Parameters
    ----------
    path : str or Path
    parts : bytes, or a list of bytes-like objects that are written one after another

    Raises
    ------
    CheckpointError
        if it could not be written (disk full, folder missing or read-only); what was there before is intact

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_whole(os.path.join(folder, "a.txt"), b"whole")
    ...     os.listdir(folder)
    ['a.txt']
    """
    path = Path(path)
    parts = [parts] if isinstance(parts, bytes) else parts
    temporary = path.parent / f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        descriptor = os.open(temporary, flags, 0o600)
        try:
            for part in parts:
                _write_all(descriptor, part)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except BaseException as error:
        try:
            os.unlink(temporary)
        except OSError:
            pass        # it never came to be
        if not isinstance(error, OSError):
            raise
        raise _not_written(path, error, sum(len(part) for part in parts)) from error
    try:
        _sync_folder(path.parent)
    except OSError as error:
        raise CheckpointError(f"{printable(path)}: written, but the folder could not be made durable "
                              f"({error.strerror}); after a power failure the old file may be back.") from error


def open_regular(path):
    """Open `path` for reading; an OSError says why not.

    Opening neither waits for the other end of a FIFO nor touches a device: only regular files are opened.

    Returns
    -------
    (file, size) : a binary file object, to be closed by the caller, and its size in bytes
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return open(descriptor, "rb"), status.st_size


def private_folder(name, what, without):
    """Return the folder `name` of minicnn's caches, made with mode 0700 where missing, or None after one warning.

    It is `$MINICNN_CACHE_DIR/name`, else `$XDG_CACHE_HOME/minicnn/name`, else `~/.cache/minicnn/name`. A folder that
    belongs to somebody else, that others can write to or put another in place of, or that is a symbolic link is not
    trusted; one that cannot be written to is of no use. The warning says `what` is missing and how we go on `without`.
    """
    base = os.path.expanduser(os.environ.get("MINICNN_CACHE_DIR") or os.path.join(_cache_home(), "minicnn"))
    folder = Path(base) / name
    try:
        if base.startswith("~"):
            raise OSError(errno.ENOENT, "this user has no home folder")
        folder = Path(os.path.realpath(base)) / name
        for path in (folder.parent, folder):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        distrust = _distrust(folder)
        if distrust:
            warnings.warn(f"minicnn: {what} {folder} {distrust}; {without}. "
                          f"Remove it, or set MINICNN_CACHE_DIR to a folder of yours.", RuntimeWarning, stacklevel=3)
            return None
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        warnings.warn(f"minicnn: {what} {folder} cannot be used ({error.strerror}); {without}. "
                      f"Set MINICNN_CACHE_DIR to a folder of yours to keep it.", RuntimeWarning, stacklevel=3)
        return None


def _cache_home():
    """Return the folder of this user's caches; as the XDG specification has it, a relative one does not count."""
    folder = os.environ.get("XDG_CACHE_HOME", "")
    return folder if os.path.isabs(folder) else "~/.cache"


def _distrust(folder):
    """Return why somebody else could have put files into `folder`, or None."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        return "is not a folder of this user alone"
    # Who may write to a folder above may put another folder in place of ours, unless its sticky bit is set (/tmp).
    if any(above.stat().st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH for above in folder.parents):
        return "lies in a folder that everybody can write to"
    return None


def _write_all(descriptor, data):
    view = memoryview(data)
    while len(view):
        view = view[os.write(descriptor, view):]


def _sync_folder(folder):
    descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _not_written(path, error, needed):
    advice = {errno.ENOSPC: "Free some space, or choose another folder.",
              errno.EDQUOT: "Your quota is used up: choose another folder.",
              errno.EROFS: "The disk is read-only: choose another folder.", errno.ENOENT: "Make the folder first.",
              errno.EACCES: "You may not write there: choose another folder."}
    return CheckpointError(f"{printable(path)}: not written, {needed:,} bytes needed: {error.strerror}. "
                           f"{advice.get(error.errno, 'Choose another folder.')} What was there before is intact.")
