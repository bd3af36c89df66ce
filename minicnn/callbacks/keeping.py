"""Callbacks that keep: the model, and the history."""

import csv
import io
import math
from pathlib import Path

from minicnn import checkpoint
from minicnn.callbacks.base import METRIC, MODE, Callback, monitored, say
from minicnn.core.arguments import Flag, Text, check
from minicnn.core.files import keep_as, write_atomic
from minicnn.errors import CheckpointError, InputError, printable

__all__ = ["Checkpoint", "ModelCheckpoint", "CSVHistory"]


class Checkpoint(Callback):
    """Save the model into `folder` after each epoch, and in the middle of one that is interrupted.

    `last.safetensors` is the newest, `previous.safetensors` the epoch before, and `best.safetensors` the epoch with the
    best `monitor`. Each is whole at any moment. Wherever it stands among the callbacks, after an epoch it is called
    after the others, and told what they remember then: `last` keeps it.
    """

    saves, stop, states = True, False, ()

    def __init__(self, folder, monitor="val_loss"):
        self.folder, self.monitor = Path(folder), check("Checkpoint", "monitor", monitor, METRIC)
        self._middle = False                # whether last.safetensors is the middle of an epoch

    def on_train_begin(self, model):
        self._middle = model.position is not None
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"{printable(self.folder)}: the folder cannot be made: {error.strerror}.") from error

    def on_epoch_end(self, model, epoch, metrics):
        # The best one first: a run that dies between two of these files goes on from last.safetensors, does this epoch
        # again, and writes the same files.
        if self.monitor in metrics and self._is_best(model.history):
            checkpoint.save(self.folder / "best.safetensors", model)
        self._save_last(model, middle=False)

    def on_interrupt(self, model):
        if model.position is not None:
            self._save_last(model, middle=True)

    def _save_last(self, model, middle):
        """Save; what was last becomes the previous one, unless it was the middle of an epoch."""
        last = self.folder / "last.safetensors"
        if not self._middle and last.exists():
            keep_as(last, self.folder / "previous.safetensors")
        checkpoint.save(last, model, self.stop, self.states)
        self._middle = middle

    def _is_best(self, history):
        values = [monitored(row, self.monitor) for row in history if self.monitor in row]
        return all(values[-1] < value for value in values[:-1])


class ModelCheckpoint(Callback):
    """Save the model after each epoch; its name may hold numbers, such as "{epoch:02d}-{val_loss:.2f}.safetensors".

    `Checkpoint`, which `fit(run=...)` makes, keeps a run that can be resumed; this one keeps models, all or the best.

    Parameters
    ----------
    filepath : path; braces are filled with the epoch, counted from 1, and its metrics
    monitor, mode : the metric that is to improve, for save_best_only
    save_best_only : bool; write only where `monitor` improved
    save_weights_only : bool; write what `save_weights` writes

    Raises
    ------
    CheckpointError
        if a file cannot be written
    """

    def __init__(self, filepath, monitor="val_loss", verbose=0, save_best_only=False, save_weights_only=False,
                 mode="auto"):
        owner = "ModelCheckpoint"
        self.filepath = check(owner, "filepath", str(filepath), Text("the name of a file"))
        self.save_best_only, self.save_weights_only = (check(owner, name, value, Flag()) for name, value in (
            ("save_best_only", save_best_only), ("save_weights_only", save_weights_only)))
        self.monitor = check(owner, "monitor", monitor, METRIC) if self.save_best_only else None
        self.mode, self.verbose = check(owner, "mode", mode, MODE), verbose
        self._best = math.inf

    def on_train_begin(self, model):
        self._best = math.inf

    def on_epoch_end(self, model, epoch, metrics):
        if self.save_best_only:
            value = monitored(metrics, self.monitor, self.mode)
            if not value < self._best:
                return
            self._best = value
        try:
            path = self.filepath.format(**metrics | {"epoch": epoch})
        except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
            raise InputError(f"ModelCheckpoint: {printable(self.filepath)} cannot be filled with {', '.join(metrics)}: "
                             f"{printable(error)}.") from None
        if self.reports:
            (model.save_weights if self.save_weights_only else model.save)(path)
            say(f"epoch {epoch}: saved {printable(path)}.", self.verbose)

    def state(self):
        return {"best": None if self._best == math.inf else float(self._best)} if self.save_best_only else {}

    def restore(self, state):
        best = state.get("best")
        if len(state) != 1 or not (best is None or type(best) is float and math.isfinite(best)):
            raise InputError("ModelCheckpoint: the state in the file is not one of ModelCheckpoint.")
        self._best = math.inf if best is None else best


class CSVHistory(Callback):
    """Keep each epoch's metrics in a CSV file, on the disk before the next epoch begins.

    The file holds all epochs of the model, those of earlier calls of `fit` too, and is whole at any moment.
    """

    def __init__(self, path):
        self.path = Path(path)

    def on_train_begin(self, model):
        """Write the epochs that the model already has: after a crash the file may hold more, or less, than it."""
        self._write(model.history)

    def on_epoch_end(self, model, epoch, metrics):
        self._write(model.history)

    def _write(self, history):
        if not history:
            self.path.unlink(missing_ok=True)
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, list(dict.fromkeys(name for row in history for name in row)))
        writer.writeheader()
        writer.writerows(history)
        write_atomic(self.path, text.getvalue().encode("utf-8"))
