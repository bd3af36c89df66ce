"""Files: written atomically and durably, and only opened if they are regular files.

Not every system has all that this asks for: Windows flushes no folders, knows neither modes nor owners, and renames or
removes no file that is open. What a system lacks is left out.
"""

import errno
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
import warnings
from contextlib import suppress
from pathlib import Path

from minicnn.errors import CheckpointError, printable

__all__ = ["write_atomic", "keep_as", "remove_leftovers", "lives_elsewhere", "open_regular", "open_flags",
           "private_folder", "remove_unused"]


def write_atomic(path, parts, private=True):
    """Write bytes to `path` atomically: at any moment there is the complete old file or the complete new one.

    The bytes are written to a new file in the same folder, flushed to disk (fsync) and renamed; then the folder is
    flushed. A symbolic link at `path` is replaced, not followed.

    Parameters
    ----------
    path : str or Path
    parts : bytes, or a list of bytes-like objects that are written in order
    private : bool; readable by the owner alone, for run folders and caches: they hold what belongs to patients.
        Otherwise, for a file that the user names, the umask decides, and a file that is replaced keeps its mode

    Raises
    ------
    CheckpointError
        if it cannot be written (disk full, folder missing or read-only); the old file is intact

    Notes
    -----
    Nothing is retried: after a failed fsync the kernel may count lost bytes as written, so that file is abandoned. A
    process that is killed leaves its new file behind; see `remove_leftovers`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomic(os.path.join(folder, "a.txt"), b"whole")
    ...     os.listdir(folder)
    ['a.txt']
    """
    path = Path(path)
    parts = [memoryview(part).cast("B") for part in ([parts] if isinstance(parts, bytes) else parts)]
    temporary, kept = _temporary(path), None if private else _mode(path)
    try:
        # The umask is the system's to apply: to read it here it would have to be set, for all threads.
        descriptor = os.open(temporary, open_flags("WRONLY", "CREAT", "EXCL", "NOFOLLOW"),
                             0o600 if private else 0o666 if kept is None else kept)
        try:
            if kept is not None and hasattr(os, "fchmod"):
                os.fchmod(descriptor, kept)
            for part in parts:
                _write_all(descriptor, part)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        _replace(temporary, path)
    except BaseException as error:
        _remove(temporary)
        if not isinstance(error, OSError):
            raise
        raise _not_written(path, error, sum(map(len, parts))) from error
    _sync_folder(path)


def keep_as(path, other):
    """Give the file at `path` a second name, `other`, atomically replacing a file of that name.

    The second name is a hard link, which takes no space; a later `write_atomic` to `path` does not change `other`.
    Where the file system has no hard links, the file is copied.

    Raises
    ------
    CheckpointError
        if it cannot be done; both files are unchanged

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     last, previous = Path(folder) / "last", Path(folder) / "previous"
    ...     write_atomic(last, b"epoch 1")
    ...     keep_as(last, previous)
    ...     write_atomic(last, b"epoch 2")
    ...     previous.read_bytes(), last.read_bytes()
    (b'epoch 1', b'epoch 2')
    """
    other = Path(other)
    temporary = _temporary(other)
    try:
        os.link(path, temporary)
        _replace(temporary, other)
    except OSError:
        # The reasons differ between file systems. If a copy fails too, its error says why.
        write_atomic(other, _content(path, other))
    finally:
        # Even after a successful rename: where both names are one file already, the rename leaves both.
        _remove(temporary)
    _sync_folder(other)


def remove_leftovers(folder):
    """Remove the temporary files of killed processes from a folder; return how many were removed.

    The caller has locked the folder and not written to it yet. So a file with this process's own number is an earlier
    one's: in a container the first process always has the same number. Files of other living processes are kept, and so
    are files that cannot be removed.
    """
    removed = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            ours = _TEMPORARY.fullmatch(entry.name)
            if ours and entry.is_file(follow_symlinks=False) and not lives_elsewhere(int(ours["process"])):
                removed += _remove(entry.path)
    return removed


def open_regular(path):
    """Open a regular file for reading, or raise OSError; it neither waits for a FIFO nor opens a device.

    Returns
    -------
    (file, size) : a binary file object, to be closed by the caller, and its size in bytes
    """
    descriptor = os.open(path, open_flags("RDONLY", "NONBLOCK"))
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return open(descriptor, "rb"), status.st_size


def open_flags(*names):
    """Return the flags O_NAME of `os.open`, as far as this system has them, for a descriptor of bytes of this process.

    >>> open_flags("WRONLY", "CREAT", "NOTHING") == open_flags("WRONLY") | os.O_CREAT
    True
    """
    flags = 0
    for name in (*names, "BINARY", "CLOEXEC"):      # Windows would write \r\n for \n
        flags |= getattr(os, f"O_{name}", 0)
    return flags


def private_folder(name, what, without):
    """Return the folder `name` of minicnn's caches, created with mode 0700 where missing, or None after a warning.

    It is `$MINICNN_CACHE_DIR/name`, else `$XDG_CACHE_HOME/minicnn/name`, else `~/.cache/minicnn/name`. A folder is not
    used if it belongs to another user, if others can write to it or replace it, if it is a symbolic link, or if it is
    not writable. The warning names `what` cannot be used and what happens `without` it.
    """
    base = _expanded(os.environ.get("MINICNN_CACHE_DIR") or os.path.join(_cache_home(), "minicnn"))
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


def remove_unused(folder, days=30):
    """Remove the folders of other versions that no process has used for some time; say that this one is in use.

    The name of a version's folder is that of the cache, a hyphen, and 16 hexadecimal digits.
    """
    with suppress(OSError):     # a cache that cannot be tidied is still a cache
        os.utime(folder)
        for other in folder.parent.glob(folder.name.rpartition("-")[0] + "-" + 16 * "[0-9a-f]"):
            if other.lstat().st_mtime < time.time() - days * 86400:
                shutil.rmtree(other, ignore_errors=True)


def _cache_home():
    """Return the folder of this user's caches; the XDG specification ignores a relative one."""
    folder = os.environ.get("XDG_CACHE_HOME", "")
    return folder if os.path.isabs(folder) else "~/.cache"


def _expanded(path):
    """Return a path with its ~ expanded, as far as there is a home; to Python an empty HOME is the folder /."""
    if path.split("/")[0] != "~" or os.environ.get("HOME") != "":
        return os.path.expanduser(path)
    try:
        import pwd
        return pwd.getpwuid(os.getuid()).pw_dir + path[1:]
    except (ImportError, KeyError):
        return path


def _distrust(folder):
    """Return why another user could have put files into `folder`, or None."""
    status = folder.lstat()
    has_owners = hasattr(os, "geteuid")         # without, the rights to a folder are those of the user's profile
    if not stat.S_ISDIR(status.st_mode) or has_owners and (status.st_uid != os.geteuid() or status.st_mode & 0o022):
        return "is not a folder of this user alone"
    if not has_owners:
        return None
    # A user with write access to a parent folder can replace ours, unless the sticky bit is set (/tmp).
    if any(above.stat().st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH for above in folder.parents):
        return "lies in a folder that everybody can write to"
    return None


def _temporary(path):
    """Return the name of a new file that will become `path`: in the same folder, hidden, with the process number."""
    name = path.name
    while len(os.fsencode(name)) > 200:     # a name has at most 255 bytes, the rest of this one up to 26
        name = name[:-1]
    return path.parent / f".{name}.{os.getpid()}.{secrets.token_hex(4)}.tmp"


_TEMPORARY = re.compile(r"\..*\.(?P<process>[1-9]\d{0,8})\.[0-9a-f]{8}\.tmp", re.DOTALL)


def lives_elsewhere(process):
    """Return whether another process with this number is alive, as far as the system tells."""
    if process == os.getpid() or os.name == "nt":   # there kill(process, 0) is a Ctrl-C, and open files stay anyway
        return False
    try:
        os.kill(process, 0)     # sends nothing
    except ProcessLookupError:
        return False
    except PermissionError:
        pass                    # it belongs to another user
    return True


def _mode(path):
    """Return the permissions of a file, or None where there is no regular file."""
    with suppress(OSError):
        status = os.lstat(path)
        if stat.S_ISREG(status.st_mode):
            return stat.S_IMODE(status.st_mode) & 0o777
    return None


def _remove(path):
    """Remove a file; return whether that succeeded."""
    try:
        os.unlink(path)
    except OSError:
        return False
    return True


def _replace(source, target):
    """Rename a file, in place of another if there is one; while a virus scanner has that open (Windows), wait."""
    for pause in (0.01, 0.1, 0.5, None):
        try:
            return os.replace(source, target)
        except PermissionError as error:
            if pause is None or getattr(error, "winerror", None) is None:
                raise
        time.sleep(pause)


def _write_all(descriptor, view):
    while len(view):
        written = os.write(descriptor, view)
        if written == 0:
            raise OSError(errno.EIO, "the disk accepts no more bytes")
        view = view[written:]


def _sync_folder(path):
    """Flush the folder of `path` to disk where the system opens folders, or raise CheckpointError."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    try:
        descriptor = os.open(path.parent, open_flags("RDONLY", "DIRECTORY"))
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return      # some network file systems have no fsync for folders
        raise CheckpointError(f"{printable(path)}: written, but the folder could not be flushed to disk "
                              f"({error.strerror}); after a power failure the old file may be back.") from error


def _content(path, other):
    try:
        file, _ = open_regular(path)
        with file:
            return file.read()
    except OSError as error:
        raise CheckpointError(f"{printable(path)}: cannot be kept as {printable(other.name)}: {error.strerror}. "
                              "Both files are unchanged.") from error


def _not_written(path, error, needed):
    advice = {errno.ENOSPC: "Free some space, or choose another folder.",
              errno.EDQUOT: "Your disk quota is exhausted: choose another folder.",
              errno.EROFS: "The disk is read-only: choose another folder.", errno.ENOENT: "Create the folder first.",
              errno.EACCES: "You have no permission to write there: choose another folder.",
              errno.ENAMETOOLONG: "Choose a shorter name."}
    free = ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        with suppress(OSError, AttributeError):     # Windows cannot be asked like this
            disk = os.statvfs(path.parent)
            free = f" ({disk.f_bavail * disk.f_frsize:,} bytes free)"
    return CheckpointError(f"{printable(path)}: not written, {needed:,} bytes needed: {error.strerror}{free}. "
                           f"{advice.get(error.errno, 'Choose another folder.')} The old file is intact.")
