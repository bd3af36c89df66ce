"""How pictures and pages reach the disk: whole, or not at all."""

import os
import secrets
from pathlib import Path

from minicnn.errors import CheckpointError, printable

__all__ = ["write_whole"]


def write_whole(path, content):
    """Write bytes to `path` in one step: what was there before stays until the new file is complete.

    The file is readable by its owner alone, for pictures may show patients. A symbolic link at `path` is replaced, not
    followed.

    Raises
    ------
    CheckpointError : the folder is missing or read-only, or the disk is full

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_whole(os.path.join(folder, "a.txt"), b"whole")
    ...     os.listdir(folder)
    ['a.txt']
    """
    path = Path(path)
    temporary = path.parent / f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        with open(os.open(temporary, flags, 0o600), "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CheckpointError(f"{printable(path)}: not written ({error.strerror or error}). "
                              f"Choose a folder that exists and has room.") from error
