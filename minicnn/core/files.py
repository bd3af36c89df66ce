"""How files reach the disk, and how they are opened: whole or not at all, and never anything but a plain file."""

import errno
import os
import re
import secrets
import stat
import tempfile
import warnings
from pathlib import Path

from minicnn.errors import CheckpointError, printable

__all__ = ["write_whole", "keep_as", "remove_leftovers", "open_regular", "private_folder"]


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

    Notes
    -----
    Nothing is tried twice: after a failed fsync the kernel may count lost bytes as written, so that file is given up.
    A process that is killed leaves its new file behind; see `remove_leftovers`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_whole(os.path.join(folder, "a.txt"), b"whole")
    ...     os.listdir(folder)
    ['a.txt']
    """
    path = Path(path)
    parts = [memoryview(part).cast("B") for part in ([parts] if isinstance(parts, bytes) else parts)]
    temporary = _temporary(path)
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
        _remove(temporary)
        if not isinstance(error, OSError):
            raise
        raise _not_written(path, error, sum(map(len, parts))) from error
    _sync_folder(path)


def keep_as(path, other):
    """Give the file at `path` a second name, `other`, in place of what had that name.

    With hard links this takes no room and no time, and whoever then writes `path` whole leaves `other` as it was. Where
    the disk has none, the file is copied. At any moment `other` is what it was or what it shall be, whole.

    Raises
    ------
    CheckpointError
        if it could not be done; both names are what they were

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     last, previous = Path(folder) / "last", Path(folder) / "previous"
    ...     write_whole(last, b"epoch 1")
    ...     keep_as(last, previous)
    ...     write_whole(last, b"epoch 2")
    ...     previous.read_bytes(), last.read_bytes()
    (b'epoch 1', b'epoch 2')
    """
    other = Path(other)
    temporary = _temporary(other)
    try:
        os.link(path, temporary)
        os.replace(temporary, other)
    except OSError:
        # The reasons are many, and differ between disks. What a copy cannot mend, writing it will say.
        write_whole(other, _content(path, other))
    finally:
        # Here even after a rename that went well: where both names are one file's already, it leaves both.
        _remove(temporary)
    _sync_folder(other)


def remove_leftovers(folder):
    """Remove what `write_whole` and `keep_as` left in a folder when their process was killed; return how many files.

    For whoever has locked the folder and not begun to write to it. So a file that bears this process's own number is
    an earlier one's: in a container the first process has the same number each time. The file of a living process is
    left alone, though it may be another's that was given a dead one's number; so is what cannot be removed.
    """
    removed = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            ours = _TEMPORARY.fullmatch(entry.name)
            if ours and entry.is_file(follow_symlinks=False) and not _lives_elsewhere(int(ours["process"])):
                removed += _remove(entry.path)
    return removed


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


def _temporary(path):
    """Return a name for a new file that shall become `path`: beside it, hidden, with the number of this process."""
    name = path.name
    while len(os.fsencode(name)) > 200:     # a name has at most 255 bytes, the rest of this one up to 26
        name = name[:-1]
    return path.parent / f".{name}.{os.getpid()}.{secrets.token_hex(4)}.tmp"


_TEMPORARY = re.compile(r"\..*\.(?P<process>[1-9]\d{0,8})\.[0-9a-f]{8}\.tmp", re.DOTALL)


def _lives_elsewhere(process):
    """Return whether there is a process of this number, and it is not this one."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)     # sends nothing
    except ProcessLookupError:
        return False
    except PermissionError:
        pass                    # somebody else's
    return True


def _remove(path):
    """Remove a file; return whether it was there and could be removed."""
    try:
        os.unlink(path)
    except OSError:
        return False
    return True


def _write_all(descriptor, view):
    while len(view):
        written = os.write(descriptor, view)
        if written == 0:
            raise OSError(errno.EIO, "the disk takes no more bytes and does not say why")
        view = view[written:]


def _sync_folder(path):
    """Make the name of the file `path` reach the disk, or raise CheckpointError."""
    try:
        descriptor = os.open(path.parent, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0))
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return      # some network disks have no fsync for folders: their names are durable, or nothing can be done
        raise CheckpointError(f"{printable(path)}: written, but the folder could not be made durable "
                              f"({error.strerror}); after a power failure the old file may be back.") from error


def _content(path, other):
    try:
        file, _ = open_regular(path)
        with file:
            return file.read()
    except OSError as error:
        raise CheckpointError(f"{printable(path)}: cannot be kept as {printable(other.name)}: {error.strerror}. "
                              "Both are what they were.") from error


def _not_written(path, error, needed):
    advice = {errno.ENOSPC: "Free some space, or choose another folder.",
              errno.EDQUOT: "Your quota is used up: choose another folder.",
              errno.EROFS: "The disk is read-only: choose another folder.", errno.ENOENT: "Make the folder first.",
              errno.EACCES: "You may not write there: choose another folder.",
              errno.ENAMETOOLONG: "Choose a shorter name."}
    free = _free_bytes(path.parent) if error.errno in (errno.ENOSPC, errno.EDQUOT) else None
    return CheckpointError(f"{printable(path)}: not written, {needed:,} bytes needed: {error.strerror}"
                           f"{'' if free is None else f' ({free:,} bytes free)'}. "
                           f"{advice.get(error.errno, 'Choose another folder.')} What was there before is intact.")


def _free_bytes(folder):
    """Return how many bytes of the folder's disk this user may still fill, or None where the disk does not say."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return None
    return disk.f_bavail * disk.f_frsize
