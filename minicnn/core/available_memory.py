"""How much memory this process may still take: what the system has, and what its control groups allow (Linux)."""

from pathlib import Path

__all__ = ["available_memory"]


def available_memory():
    """Return the bytes of memory that a process may take now, or None where the system does not say."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        found = [int(lines["MemAvailable"].split()[0]) * 1024]
    except (OSError, KeyError, ValueError):
        return None
    return min(found + _allowed())


def _allowed():
    """Return what each control group around this process (version 2) has left, [bytes]."""
    found = []
    try:
        path = next(line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
        group = Path("/sys/fs/cgroup") / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder == Path("/sys/fs"):
                break
            try:
                limit = int((folder / "memory.max").read_text())
                stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                found.append(limit - int((folder / "memory.current").read_text()) + int(stat.get("inactive_file", 0)))
            except (OSError, ValueError):       # no limit: "max"
                pass
    except (OSError, StopIteration):
        pass
    return [max(0, left) for left in found]
