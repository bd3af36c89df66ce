"""Accidents of training: another number of threads, kill -9 or a stop in the middle of an epoch."""

import itertools
import os
import signal
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np

from benchmarks.measure import OURS, settle
from benchmarks.processes import measure_process
from benchmarks.reliability.children import outcomes

__all__ = ["threads", "steps", "killed_in_epoch", "stopped_at_batch"]


def threads(name, n, seed=0, steps=20):
    """Train COV-19Net for 20 steps of 32 with one thread and with two, n times each, each in a process of its own.

    Returns
    -------
    dict: n, repeats_same (those of one number of threads have the same losses and predictions, to the bit), same
    (all of both), difference (the largest between predictions of one thread and of two)
    """
    found = {count: [measure_process("-m", "benchmarks.reliability.peers", "steps", name, "--n", steps, "--threads",
                                     count)["output"] for _ in range(n)] for count in (1, 2)}
    predictions = {count: np.array([float.fromhex(number) for number in each[0]["predictions"]])
                   for count, each in found.items()}
    same = {count: all(one == each[0] for one in each) for count, each in found.items()}
    return {"n": n, "repeats_same": all(same.values()), "same": all(same.values()) and found[1][0] == found[2][0],
            "difference": float(np.abs(predictions[1] - predictions[2]).max())}


def steps(name, n, count):
    """Return the losses of n steps with `count` threads, and the predictions after them, exactly."""
    settle(count)
    from benchmarks.networks import COLOUR
    from benchmarks.peers import build
    peer, images = build(name, COLOUR, count), COLOUR.images()
    train, predict = (peer.call(*images, task, COLOUR.batch) for task in ("train", "predict"))
    losses = [float(train()).hex() for _ in range(n)]
    return {"losses": losses, "predictions": [float(p).hex() for p in np.ravel(predict())]}


BATCHES, EPOCHS = 8, 3


def killed_in_epoch(name, n, seed=0):
    """Kill (-9) training after a batch of the second epoch of three, and resume from the file of the first epoch.

    Returns
    -------
    dict: n, identical (the final weights equal, to the bit, those of uninterrupted training), difference (the largest
    of any weight), repeats_same (two uninterrupted trainings are the same)
    """
    return _disturbed(name, n, at_batch=False)


def stopped_at_batch(name, n, seed=0):
    """Stop training after a batch of the second epoch, which saves its state, and resume; returns the same."""
    return _disturbed(name, n, at_batch=True)


def _disturbed(name, n, at_batch):
    train = {OURS: _train_minicnn, "Keras": _train_keras}[name]

    def process(folder, file, last_batch=None):
        """Train in a child, which saves its weights at the end; return them, or None if it did not get there."""
        def judge(_):
            np.save(folder / file, train(folder / "backup", last_batch, at_batch))
            return "done"
        outcomes(judge, 1)
        return np.load(folder / file) if (folder / file).exists() else None

    with tempfile.TemporaryDirectory() as base:
        folders = [Path(base) / str(i) for i in range(n + 2)]
        for folder in folders:
            folder.mkdir()
        whole, again = (process(folder, "w.npy") for folder in folders[:2])
        ends = []
        for i, folder in enumerate(folders[2:]):
            assert process(folder, "w.npy", BATCHES + 1 + i % BATCHES) is None
            ends.append(process(folder, "w.npy"))
    return {"n": n, "identical": sum(np.array_equal(end, whole) for end in ends),
            "difference": max(float(np.abs(end - whole).max()) for end in ends),
            "repeats_same": bool(np.array_equal(whole, again))}


def _samples():
    draw = np.random.default_rng(1)
    return draw.random((8 * BATCHES, 4, 4, 1), np.float32), draw.integers(0, 2, 8 * BATCHES)


def _train_minicnn(folder, last_batch, at_batch):
    from minicnn import Adam, Dense, Flatten, ReLU, Sequential, Sigmoid
    from minicnn.training import Trainer

    model = Sequential([Flatten(), Dense(16), ReLU(), Dense(1), Sigmoid()], (4, 4, 1), seed=1)
    model.compile(Adam(0.01), "binary_crossentropy")
    done, step = itertools.count(1), Trainer.step

    def counting(self, *batch):
        loss = step(self, *batch)
        if next(done) == last_batch:        # Ctrl-C takes effect, and saves, after this batch
            os.kill(os.getpid(), signal.SIGINT if at_batch else signal.SIGKILL)
        return loss

    signal.signal(signal.SIGINT, signal.default_int_handler)
    with mock.patch.object(Trainer, "step", counting):
        try:
            model.fit(*_samples(), batch_size=8, epochs=EPOCHS, run=folder, resume=True, progress=False)
        except KeyboardInterrupt:
            os.kill(os.getpid(), signal.SIGKILL)
    return np.concatenate([array.ravel() for array in model.get_weights()])


def _train_keras(folder, last_batch, at_batch):
    import keras

    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(16, activation="relu"),
                              keras.layers.Dense(1, activation="sigmoid")])
    model.compile(keras.optimizers.Adam(0.01), "binary_crossentropy")
    done = itertools.count(1)

    class Kill(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if next(done) == last_batch:
                os.kill(os.getpid(), signal.SIGKILL)

    backup = keras.callbacks.BackupAndRestore(folder, save_freq=1 if at_batch else "epoch")
    x, t = _samples()
    model.fit(x, t.astype(np.float32)[:, None], batch_size=8, epochs=EPOCHS, callbacks=[backup, Kill()], verbose=0)
    return np.concatenate([array.ravel() for array in model.get_weights()])
