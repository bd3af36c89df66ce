"""Available memory: what the system says, what control groups leave of it, and nothing where nobody says."""

import numpy as np
import pytest

from minicnn.core import available_memory as module
from minicnn.core.available_memory import available_memory


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A function that writes files of a system which the module then reads."""
    monkeypatch.setattr(module, "Path", lambda path: tmp_path / str(path).lstrip("/"))

    def write(**files):
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path
    return write


MEMINFO = "MemTotal:       16000 kB\nMemAvailable:    8000 kB\nHugePages_Total:       0\n"


def test_what_the_system_says(system):
    assert available_memory() is None
    system(proc__meminfo=MEMINFO)
    assert available_memory() == 8000 * 1024
    system(proc__meminfo="MemTotal: 1 kB\n")
    assert available_memory() is None
    system(proc__meminfo="MemAvailable: much\n")
    assert available_memory() is None


@pytest.mark.parametrize("own, above, expected", [("max", "max", 8000 * 1024), ("3000000", "max", 3000000 - 1000000 + 200),
                                                  ("3000000", "2000000", 2000000 - 1000000 + 200), ("500", "max", 0)])
def test_what_control_groups_leave(own, above, expected, system):
    """The least of this process's group and those around it; file caches that can be dropped are free."""
    folder = system(proc__meminfo=MEMINFO, proc__self__cgroup="0::/a/b\n")
    for group, limit in (("a/b", own), ("a", above)):
        path = folder / "sys/fs/cgroup" / group
        path.mkdir(parents=True, exist_ok=True)
        (path / "memory.max").write_text(limit + "\n")
        (path / "memory.current").write_text("1000000\n")
        (path / "memory.stat").write_text("anon 5\ninactive_file 200\n")
    assert available_memory() == expected


def test_this_machine_says_something_sane():
    found = available_memory()
    assert found is None or 2**20 < found < np.iinfo(np.int64).max
