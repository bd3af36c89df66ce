"""The processes that train together: what they tell each other, and how all of them end when one fails.

Every message is sent without blocking and awaited here (`MPI.wait`). So each process hears at once that another has failed, and
gives up after a time without an answer.
"""

import atexit
import itertools
import math
import os
import sys
import time
import warnings
from contextlib import contextmanager

import numpy as np

from minicnn import errors
from minicnn.core import signals
from minicnn.core.arguments import Real, Whole, check
from minicnn.core.memory import Buffers
from minicnn.core.processes import versions
from minicnn.distributed.share import Share
from minicnn.distributed.trainer import SharingTrainer
from minicnn.errors import DistributedError, InputError, MissingExtraError, printable
from minicnn.kernels.runtime.reduction import chunk_of
from minicnn.kernels.runtime.threads import available_cores, set_thread_count

__all__ = ["MPI"]

_ALERT = 1.0                    # seconds in which processes that fail hear of each other: one speaks for all
_SPOKEN = None                  # what a process tells rank 0 once it has said what was wrong
_GRACE = 20.0                   # seconds in which rank 0 can leave its files whole, before another process ends it
_PASS_ON = 0.5                  # seconds in which mpiexec passes on what was printed: at Abort it may drop what it still holds
_SPIN = 4096                    # looks, one or two milliseconds; then the core is left to others between two looks


class MPI:
    """The processes that `mpiexec` started; each makes one of these and hands it to `fit`.

    It has what core.processes.Alone has, and describes.

    Parameters
    ----------
    timeout : seconds without an answer of the others, after which one of them is taken for dead
    check_every : steps of training after which the weights of all are compared

    Attributes
    ----------
    rank, size : int; the number of this process, and how many there are. Rank 0 alone writes and reports
    neighbours : int; how many of the processes are on this machine, with this one
    sent : int; bytes that this process has sent to others
    buffers : Buffers of the exchanges

    Raises
    ------
    MissingExtraError
        without mpi4py, or without an MPI library for it
    InputError
        where the processes have different CPUs or versions, whose bits would differ
    """

    def __init__(self, timeout=600.0, check_every=100):
        self.timeout = check("MPI", "timeout", timeout, Real(0, math.inf, "()"))
        self.check_every = check("MPI", "check_every", check_every, Whole())
        try:
            from mpi4py import MPI as mpi
        except (ImportError, RuntimeError) as error:        # RuntimeError: mpi4py is there, and no MPI library
            state = "is not installed" if isinstance(error, ModuleNotFoundError) else f"finds no MPI ({printable(error)})"
            raise MissingExtraError("training over MPI", "mpi4py", "mpi", state) from None
        self._mpi, self._comm, self._alarms = mpi, mpi.COMM_WORLD.Dup(), mpi.COMM_WORLD.Dup()
        self.rank, self.size, self.sent = self._comm.rank, self._comm.size, 0
        self.buffers, self._failed, self._speaks, self._sending = Buffers(), False, False, []
        atexit.register(self.end, 1)
        with self.together():
            self.same("MPI", **_environment())
        local = self._comm.Split_type(mpi.COMM_TYPE_SHARED)
        self.neighbours = local.size
        local.Free()

    # -- what the processes tell each other --

    def wait(self, *requests, patient=False):
        """Wait for requests of MPI.

        Raises
        ------
        DistributedError
            after `timeout` seconds, unless `patient`
        the error of another process that failed; it says which
        """
        looks, began = 0, time.monotonic()
        while not self._mpi.Request.Testall(list(requests)):
            looks += 1
            if looks < _SPIN and looks % 64:
                continue
            if self._alarms.Iprobe():
                raise self._error(*self._alarms.recv())
            waited = time.monotonic() - began
            if waited > self.timeout and not patient:
                raise DistributedError(f"no answer from the other processes for {self.timeout:g} seconds: one of them may be "
                                       "dead. Where they need longer, give MPI(timeout=...).")
            if looks >= _SPIN:
                time.sleep(5e-5 if waited < 0.1 else 1e-3)

    def ask(self, requests):
        """Let MPI get on with requests, without waiting."""
        self._mpi.Request.Testall(list(requests))

    def start_gather(self, given, sizes, found):
        """Begin to collect from each rank an array of sizes[rank] bytes, in `found`; return the request.

        This one gives `given`, or, where it is None, what is at its place in `found`.
        """
        self.sent += sizes[self.rank] * (self.size - 1)
        given = self._mpi.IN_PLACE if given is None else [given, sizes[self.rank], self._mpi.BYTE]
        return self._comm.Iallgatherv(given, [found, sizes, self._mpi.BYTE])

    def start_exchange(self, given, counts, sizes, found):
        """Begin to send counts[rank] bytes of `given` to each rank, and to receive sizes[rank] in `found`; return the request."""
        self.sent += sum(counts) - counts[self.rank]
        return self._comm.Ialltoallv([given, counts, self._mpi.BYTE], [found, sizes, self._mpi.BYTE])

    def largest(self, number):
        if self.size == 1:
            return int(number)
        found = np.empty(self.size, np.int64)
        self.wait(self.start_gather(np.array([number], np.int64), [8] * self.size, found))
        return int(found.max())

    def collect(self, content, patient=False):
        """Return a list of what each process gives: anything that can be pickled, as mpi4py does it."""
        given, sizes = np.frombuffer(_pickle().dumps(content), np.uint8), np.empty(self.size, np.int64)
        self.wait(self.start_gather(np.array([given.size], np.int64), [8] * self.size, sizes), patient=patient)
        found = np.empty(sizes.sum(), np.uint8)
        self.wait(self.start_gather(given, sizes.tolist(), found))
        return [_pickle().loads(part) for part in np.split(found, np.cumsum(sizes)[:-1])]

    def broadcast(self, content=None):
        """Return what rank 0 gives, which can be pickled; the others wait for it, however long it takes."""
        if self.size == 1:
            return content
        return self.collect(content if self.rank == 0 else None, patient=True)[0]

    def same(self, owner, **facts):
        given = self.collect({name: repr(value) for name, value in facts.items()}) if self.size > 1 else []
        for name in facts:
            for rank, other in enumerate(given):
                if other.get(name) != given[0].get(name):
                    one, two = (printable(str(found.get(name)))[:100] for found in (given[0], other))
                    raise self.of_all(InputError(f"{owner}: the processes differ in {name.replace('_', ' ')}: {one} on rank 0, {two} "
                                                 f"on rank {rank}. All of them need the same."))

    # -- batches that they share --

    def check_batch_size(self, owner, batch_size):
        """Warn where there are more processes than chunks in a batch; rank 0 does."""
        chunks = self.size if batch_size is None else -(-batch_size // chunk_of(batch_size))
        if chunks < self.size and self.rank == 0:
            enough = next(n for n in itertools.count(batch_size) if -(-n // chunk_of(n)) >= self.size)
            warnings.warn(f"{owner}: a batch of {batch_size} has {chunks} chunks, so {self.size - chunks} of {self.size} processes "
                          f"have nothing to compute in training. A batch of {enough} gives each a chunk.", RuntimeWarning,
                          stacklevel=5)

    def trainer(self, trainer):
        return trainer if self.size == 1 else SharingTrainer(self, trainer)

    def samples(self, n, network):
        return slice(0, n) if self.size == 1 or network.engine != "fast" else Share(self, n, network.dtype).samples

    def portion(self, n):
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def joined(self, array):
        if self.size == 1:
            return array
        counts = self.collect(len(array))
        found = np.empty((sum(counts), *array.shape[1:]), array.dtype)
        self.wait(self.start_gather(array, [n * math.prod(array.shape[1:]) * array.itemsize for n in counts], found))
        return found

    # -- tasks that they divide (distributed/tasks.py) --

    def share_cores(self):
        """Compute with this process's share of the cores of its machine, unless $MINICNN_THREADS says with how many."""
        if not os.environ.get("MINICNN_THREADS"):
            set_thread_count(max(1, available_cores() // self.neighbours))

    def executor(self):
        """Return a context: an executor of mpi4py.futures in rank 0, which the others serve before they enter it.

        Raises
        ------
        DistributedError
            where the MPI library lets no two threads call it at a time: one hands out tasks, one hears of errors
        """
        from mpi4py.futures import MPICommExecutor

        if self._mpi.Query_thread() < self._mpi.THREAD_MULTIPLE:
            raise self.of_all(DistributedError("spreading trainings needs MPI_THREAD_MULTIPLE, which this MPI library lacks."))
        return MPICommExecutor(self._comm)

    # -- when one fails --

    def of_all(self, error):
        """Return an error that all processes raise at the same place, and rank 0 reports."""
        error.relayed = self.rank > 0
        return error

    @contextmanager
    def together(self):
        try:
            yield
        except BaseException as error:
            if self.size == 1 or hasattr(error, "relayed"):
                raise
            raise self._tell(error) from error

    def _tell(self, error):
        """Tell the other processes of an error in this one; return that of whoever speaks for all: the first that has one."""
        heard = {self.rank: (self.rank, type(error).__name__, str(error), getattr(error, "number", None))}
        self._failed, until = True, time.monotonic() + _ALERT
        self._sending += [self._alarms.isend(heard[self.rank], dest=rank) for rank in range(self.size) if rank != self.rank]
        while time.monotonic() < until and len(heard) < self.size:
            time.sleep(1e-3)
            self._mpi.Request.testall(self._sending)
            if self._alarms.Iprobe() and (other := self._alarms.recv()) is not _SPOKEN:
                heard[other[0]] = other
        rank, *said = heard[min(heard)]
        of_all = len(heard) == self.size and all(others == said for _, *others in heard.values())
        return self._error(None if of_all else rank, *said, speaks=rank == self.rank)

    def _error(self, rank, kind, text, number, speaks=False):
        """Return the error of a process as one of this one. `relayed` is whether another process reports it."""
        self._failed, self._speaks, text = True, speaks, text or kind
        text = text if rank is None or kind == "Interrupted" else f"rank {rank}: {text}"
        if kind == "Interrupted":
            error = signals.Interrupted(number, text)
        else:
            known = getattr(errors, kind, MemoryError if kind == "MemoryError" else None)
            error = (known or DistributedError).__new__(known or DistributedError)
            error.args = (text if known else f"{text} ({kind})",)
        error.relayed = not speaks
        return error

    def heed(self):
        """Raise the error of another process if one has failed; this one reports it."""
        if self._alarms.Iprobe():
            raise self._error(*self._alarms.recv(), speaks=True)

    def failure(self, rank, name, kind, text, number):
        """Return the error in which a task of this name ended on a rank, as one of this process, which reports it."""
        return self._error(rank, kind, f"{name}: {text or kind}", number, speaks=True)

    def end(self, code):
        """End all processes if one has failed: some may wait in MPI for what will never come.

        Rank 0 does so, once its files are whole and who speaks for all has spoken.
        """
        if self._failed:
            self._failed = False
            sys.stdout.flush()
            sys.stderr.flush()
            if self.rank > 0 and self._speaks:
                self._sending.append(self._alarms.isend(_SPOKEN, dest=0))
            until = time.monotonic() + (_GRACE if self.rank > 0 else 0 if self._speaks else 3 * _ALERT)
            while time.monotonic() < until and not (self._alarms.Iprobe() and self._alarms.recv() == _SPOKEN):
                time.sleep(1e-2)
            time.sleep(_PASS_ON)
            self._mpi.COMM_WORLD.Abort(code)


def _pickle():
    """Return what mpi4py makes bytes of objects with: messages are from processes that the same user has started."""
    from mpi4py import MPI as mpi
    return mpi.pickle


def _environment():
    """Return what bits depend on, beside the program and the data."""
    import llvmlite.binding

    from minicnn.kernels.runtime.simd import REGISTER_BYTES

    return versions() | {"CPU": llvmlite.binding.get_host_cpu_name(), "bytes_of_registers": REGISTER_BYTES,
                         "CPU_features": llvmlite.binding.get_host_cpu_features().flatten()}
