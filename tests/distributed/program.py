"""What tests start by mpiexec: python -m tests.distributed.program CASE ARGUMENT..., on every rank."""

import errno
import hashlib
import json
import os
import signal
import sys
import time

import numpy as np

from minicnn import Callback, MiniCNNError, Sequential, set_thread_count
from minicnn.core import files
from minicnn.distributed import MPI
from tests.distributed.test_share import cov19_like, images, residual, train


def bits(group, threads):
    """Print the digest of weights, history and predictions of two networks."""
    set_thread_count(int(threads))
    x = np.random.default_rng(0).normal(size=(21, 12, 12, 16)).astype(np.float32)
    found = [train(cov19_like(), images(37, 26, 3), np.arange(37) % 2, 16, group),
             train(residual(), x, np.arange(21) % 3, 9, group, steps_per_epoch=2)]
    if group is None or group.rank == 0:
        print(json.dumps([hashlib.sha256(b"".join(map(np.ndarray.tobytes, [*weights, predictions])) + repr(rows).encode()).hexdigest()
                          for weights, rows, predictions in found]))


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
            files._sync = full


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def fail(group, folder, kind, rank, batch, epochs=4):
    """Train a small network into `folder`, or go on there, with a failure; exit as the command line does."""
    model = Sequential.load if False else cov19_like()
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
    """Give one rank another argument."""
    model = cov19_like()
    model.compile("sgd" if what == "optimizer" and group.rank else "adam", "binary_crossentropy")
    x, y = images(8, 26, 3), np.arange(8) % 2
    x, y = (255 - x if what == "data" and group.rank else x), (1 - y if what == "targets" and group.rank else y)
    try:
        model.fit(x, y, epochs=1 + (what == "epochs" and group.rank), batch_size=4 + (what == "batch_size" and group.rank),
                  progress=False, distributed=group)
    except MiniCNNError as error:
        if not error.relayed:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        group.end(3)
        return 3


if __name__ == "__main__":
    sys.exit({"bits": bits, "fail": fail, "differ": differ}[sys.argv[1]](MPI(), *sys.argv[2:]))
