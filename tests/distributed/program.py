"""What tests start by mpiexec, on every rank: python -m tests.distributed.program CASE ARGUMENT..."""

import errno
import hashlib
import json
import os
import signal
import sys
import time

import numpy as np

from minicnn import Callback, MiniCNNError, set_thread_count
from minicnn.distributed import MPI
from tests.distributed.test_share import cov19_like, images, residual, train


def digests(group):
    """Return the digests of weights, history and predictions of two networks."""
    x = np.random.default_rng(0).normal(size=(21, 12, 12, 16)).astype(np.float32)
    found = [train(cov19_like(), images(37, 26, 3), np.arange(37) % 2, 16, group),
             train(residual(), x, np.arange(21) % 3, 9, group, steps_per_epoch=2)]
    return [hashlib.sha256(b"".join(map(np.ndarray.tobytes, [*weights, predictions])) + repr(rows).encode()).hexdigest()
            for weights, rows, predictions in found]


def bits(group, threads):
    """Print the digests with so many threads."""
    set_thread_count(int(threads))
    found = digests(group)
    if group.rank == 0:
        print(json.dumps(found))


class Fail(Callback):
    """Let one rank fail in a way after a batch."""

    def __init__(self, group, kind, rank, batch):
        self.kind, self.left = kind, int(batch) if group.rank == int(rank) else -1

    def on_train_batch_end(self, model, batch, metrics):
        self.left -= 1
        if self.left:
            return
        if self.kind == "exception":
            raise ValueError("something is wrong")
        if self.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind == "signal":
            os.kill(os.getpid(), signal.SIGTERM)
        if self.kind == "memory":
            raise MemoryError("Unable to allocate 9 GiB")
        if self.kind == "hang":
            time.sleep(1000)
        if self.kind == "nan":
            model.layers[0].parameters[0].value[...] = np.nan
        if self.kind == "drift":
            model.layers[0].parameters[0].value[...] *= 2
        if self.kind == "disk":
            os.fsync = full


def full(descriptor):
    raise OSError(errno.ENOSPC, "No space left on device")


def fail(group, folder, kind, rank, batch, epochs=4):
    """Train a small network into `folder`, or go on there, with a failure; exit as the command line does."""
    model = cov19_like()
    model.compile("adam", "binary_crossentropy")
    group.timeout, group.check_every, code = 8, 2, 0
    try:
        model.fit(images(24, 26, 3), np.arange(24) % 2, batch_size=8, epochs=int(epochs), validation_split=0.25, run=folder, resume=True,
                  callbacks=[] if kind == "none" else [Fail(group, kind, rank, batch)], progress=False, distributed=group)
    except (MiniCNNError, KeyboardInterrupt, MemoryError) as error:
        code = 1
        if not getattr(error, "relayed", False):
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
    group.end(code)
    return code


def differ(group, what):
    """Train with another argument on rank 1."""
    other, model = group.rank == 1, cov19_like()
    model.compile("sgd" if what == "optimizer" and other else "adam", "binary_crossentropy")
    x, y = images(8, 26, 3), np.arange(8) % 2
    x, y = (255 - x if what == "data" and other else x), (1 - y if what == "targets" and other else y)
    model.fit(x, y, epochs=1 + (what == "epochs" and other), batch_size=4 + (what == "batch_size" and other), progress=False,
              distributed=group)


if __name__ == "__main__":
    sys.exit({"bits": bits, "fail": fail}[sys.argv[1]](MPI(), *sys.argv[2:]))
