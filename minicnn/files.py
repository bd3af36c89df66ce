"""How files reach the disk, and how they are opened: whole or not at all, and never anything but a plain file."""

import errno
import os
import secrets
import stat
from pathlib import Path

from minicnn.errors import CheckpointError, printable

__all__ = ["write_whole", "open_regular"]


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
