"""Several processes that train together, for tests: threads in place of processes, and programs that mpiexec starts."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from minicnn.core.memory import Buffers
from minicnn.distributed import MPI

ROOT = Path(__file__).resolve().parents[2]


class _Threads(MPI):
    """An MPI whose processes are threads of this one; what they tell each other lies in memory that they share."""

    def __init__(self, rank, size, told, turn):
        self.rank, self.size, self.timeout, self.check_every, self.sent = rank, size, 60, 3, 0
        self._told, self._turn, self._number = told, turn, 0
        self.buffers = Buffers()

    def _tell(self, error):
        return error

    def ask(self, requests):
        pass

    def wait(self, *requests, patient=False):
        for request in requests:
            number, fill = request
            with self._turn:
                self._turn.wait_for(lambda: self._told.get("failed") or len(self._told.get(number, ())) == self.size, 60)
                assert len(self._told.get(number, ())) == self.size, "another thread failed"
            fill(self._told[number])

    def start_gather(self, given, sizes, found):
        flat, ends = found.reshape(-1).view(np.uint8), np.cumsum([0, *sizes])
        own = flat[ends[self.rank]:ends[self.rank + 1]] if given is None else given.reshape(-1).view(np.uint8)[:sizes[self.rank]]
        self.sent += sizes[self.rank] * (self.size - 1)
        assert len(own) == sizes[self.rank] and len(flat) == ends[-1]

        def fill(told):
            for rank, (begin, end) in enumerate(zip(ends, ends[1:])):
                flat[begin:end] = told[rank]
        return self._begin(own.copy(), fill)

    def start_exchange(self, given, counts, sizes, found):
        flat, ends, starts = found.reshape(-1).view(np.uint8), np.cumsum([0, *sizes]), np.cumsum([0, *counts])
        parts = [given.reshape(-1).view(np.uint8)[a:b].copy() for a, b in zip(starts, starts[1:])]
        self.sent += sum(counts) - counts[self.rank]

        def fill(told):
            for rank, (begin, end) in enumerate(zip(ends, ends[1:])):
                flat[begin:end] = told[rank][self.rank]
        return self._begin(parts, fill)

    def _begin(self, content, fill):
        number, self._number = self._number, self._number + 1
        with self._turn:
            self._told.setdefault(number, {})[self.rank] = content
            self._turn.notify_all()
        return number, fill


def run_together(size, function):
    """Return [function(group)] of so many threads that train together."""
    told, turn, results = {}, threading.Condition(), [None] * size

    def work(rank):
        try:
            results[rank] = function(_Threads(rank, size, told, turn))
        except BaseException as error:
            results[rank] = error
            with turn:
                told["failed"] = True
                turn.notify_all()
    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    errors = [result for result in results if isinstance(result, BaseException)]
    if errors:
        raise next((error for error in errors if not isinstance(error, AssertionError)), errors[0])
    return results


def mpiexec():
    """Return the path of mpiexec, or skip the test, saying so."""
    pytest.importorskip("mpi4py", reason="needs mpi4py (pip install 'minicnn[mpi]'), which is not installed")
    found = os.environ.get("MINICNN_MPIEXEC") or shutil.which(
        "mpiexec", path=os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")]))
    if found is None:
        pytest.skip("needs mpiexec (pip install 'minicnn[mpi]'), which is not there")
    return found


def is_open_mpi():
    """Return whether mpiexec is that of Open MPI, which after a signal passes on neither words nor codes of its processes."""
    return "Open MPI" in subprocess.run([mpiexec(), "--version"], text=True, capture_output=True, timeout=30).stdout


def start(ranks, *arguments, **settings):
    """Start `python *arguments` on so many ranks; return the Popen, whose output is text."""
    return subprocess.Popen([mpiexec(), "-n", str(ranks), sys.executable, *map(str, arguments)], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=settings.pop("cwd", ROOT), **settings,
                            env=os.environ | {"PYTHONPATH": str(ROOT)})


def finish(child, seconds=60):
    """Return (exit code, stdout, stderr) of a Popen, which must end within that time."""
    try:
        out, err = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        raise AssertionError(f"no end within {seconds} s: {child.communicate()}") from None
    return child.returncode, out, err
