"""Make Linux look like Windows to what is imported afterwards: to be called first in a process of its own.

Names that are not there are hidden. `windows` also brings what is there instead: byte-range locks that others meet as
PermissionError, and files that cannot be renamed, replaced or removed while this process has them open.
"""

import os
import signal
import sys
import types

__all__ = ["HIDDEN", "hide", "windows"]

MODULES = ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog")
SIGNALS = ("SIGXFSZ", "SIGXCPU", "SIGKILL", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGPIPE", "SIGCHLD", "SIGQUIT",
           "alarm", "setitimer", "pthread_sigmask", "sigwait")
HIDDEN = ("fork", "forkpty", "register_at_fork", "sysconf", "getuid", "geteuid", "getgid", "getegid", "getgroups",
          "statvfs", "fstatvfs", "pread", "preadv", "pwrite", "pwritev", "posix_fadvise", "posix_fallocate", "fchmod",
          "fchown", "chown", "mkfifo", "nice", "getloadavg", "killpg", "getpgid", "wait3", "wait4", "lockf", "sendfile",
          "sched_getaffinity", "sched_setaffinity", "sched_yield", "setsid", "setuid", "confstr", "pathconf",
          "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_SYNC", "O_DSYNC", "O_TMPFILE", "O_NOCTTY")


def hide():
    """Hide the modules, functions, flags and signals that Windows does not have."""
    for name in MODULES:
        sys.modules[name] = None
    for owner, names in ((os, HIDDEN), (signal, SIGNALS)):
        for name in names:
            if hasattr(owner, name):
                delattr(owner, name)


def windows():
    """Hide what Windows lacks, and bring what it has instead."""
    import fcntl
    import struct

    def locking(descriptor, mode, size):
        kind = {0: fcntl.F_UNLCK, 2: fcntl.F_WRLCK}[mode]
        place = os.lseek(descriptor, 0, os.SEEK_CUR)
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", kind, 0, place, size, 0))
        except OSError:
            raise PermissionError(13, "Permission denied") from None

    def refuse_open_files(name):
        real = getattr(os, name)

        def operation(*paths, **options):
            for path in paths:
                for number in os.listdir("/proc/self/fd"):
                    try:
                        is_open = os.path.lexists(path) and os.path.samestat(os.lstat(path), os.fstat(int(number)))
                    except OSError:
                        continue        # the descriptor of the listing itself
                    if is_open:
                        raise PermissionError(13, "Permission denied", os.fspath(path))
            return real(*paths, **options)
        setattr(os, name, operation)

    def open_file(path, flags, *mode, **options):
        if os.path.isdir(path):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return real_open(path, flags & ~os.O_BINARY, *mode, **options)

    hide()
    import subprocess           # asks for msvcrt to know where it is  # noqa: F401
    sys.modules["msvcrt"] = types.SimpleNamespace(locking=locking, LK_UNLCK=0, LK_LOCK=1, LK_NBLCK=2)
    for name in ("replace", "rename", "unlink", "remove"):
        refuse_open_files(name)
    real_open, os.O_BINARY, os.open = os.open, 1 << 30, open_file
    import tempfile
    tempfile.TemporaryFile = tempfile.NamedTemporaryFile
