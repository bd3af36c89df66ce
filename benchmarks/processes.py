"""Measure whole processes from outside: wall time, processor time and the most memory that was resident.

The children are run with this Python from the folder that holds `benchmarks` and `minicnn`. Linux counts what a child
had of its parent before it became another program; so whoever measures memory must itself be small, and imports no
framework.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

__all__ = ["measure_process", "ROOT"]

ROOT = Path(__file__).resolve().parents[1]


def measure_process(*arguments, **environment):
    """Run `python *arguments`; return {"wall", "processor" (seconds), "memory" (MB), "said": JSON of its last line}.

    Raises RuntimeError with the end of what it wrote, if it failed.
    """
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+", encoding="utf-8") as complaints:
        child = subprocess.Popen([sys.executable, *map(str, arguments)], cwd=ROOT, env=os.environ | environment,
                                 stdout=subprocess.PIPE, stderr=complaints, text=True)
        with child.stdout:
            output = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            complaints.seek(0)
            lines = complaints.read().strip().splitlines() or [f"exit code {child.returncode}"]
            raise RuntimeError(lines[-1][:300])
    unit = 1 if sys.platform == "darwin" else 1024
    return {"wall": wall, "processor": usage.ru_utime + usage.ru_stime, "memory": usage.ru_maxrss * unit / 1e6,
            "said": json.loads(output.strip().splitlines()[-1])}
