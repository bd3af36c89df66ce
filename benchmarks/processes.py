"""Measure whole processes from outside: wall time, processor time and peak resident memory.

The children run with this Python in the folder that holds `benchmarks` and `minicnn`. Linux counts the memory that a
child shares with its parent before it starts another program, so the measuring process must be small and import no
framework.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

__all__ = ["measure_process", "last_line", "ROOT"]

ROOT = Path(__file__).resolve().parents[1]


def measure_process(*arguments, **environment):
    """Run `python *arguments`; return {"wall", "processor" (seconds), "memory" (MB), "output": JSON of its last line}.

    Raises RuntimeError with the last line of its errors if it failed.
    """
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        child = subprocess.Popen([sys.executable, *map(str, arguments)], cwd=ROOT, env=os.environ | environment,
                                 stdout=subprocess.PIPE, stderr=errors, text=True)
        with child.stdout:
            output = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise RuntimeError(last_line(errors, child.returncode))
    unit = 1 if sys.platform == "darwin" else 1024
    return {"wall": wall, "processor": usage.ru_utime + usage.ru_stime, "memory": usage.ru_maxrss * unit / 1e6,
            "output": json.loads(output.strip().splitlines()[-1])}


def last_line(errors, code):
    """Return the last line of a file of errors, or the exit code of a process that wrote none."""
    errors.seek(0)
    lines = errors.read().strip().splitlines() or [f"exit code {code}"]
    return lines[-1][:300]
