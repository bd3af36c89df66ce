"""Callbacks: what happens between epochs. Two of them decide (EarlyStopping, LearningRateSchedule), two keep
(Checkpoint, CSVHistory), and one averages (WeightAverage).

What a callback remembers is its `state`. A checkpoint holds the state of each, so that a run that was interrupted goes
on as if it had not been.
"""

import csv
import inspect
import io
import math
import re
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from minicnn import checkpoint
from minicnn.core import signals
from minicnn.core.arguments import Real, Text, Whole, check
from minicnn.core.files import keep_as, write_atomic
from minicnn.core.progress import Progress
from minicnn.errors import CheckpointError, InputError, nearest, printable

__all__ = ["Callback", "EarlyStopping", "LearningRateSchedule", "WeightAverage", "Checkpoint", "CSVHistory",
           "Callbacks", "History", "as_callbacks", "check_monitors"]


class Callback:
    """What happens between epochs. Override any of these; `on_epoch_end` returns True, or sets `model.stop_training` to
    True, to end training."""

    def on_train_begin(self, model):
        """Before the first epoch."""

    def on_epoch_begin(self, model, epoch):
        """Before epoch number `epoch`, counted from 1; not again where an epoch is taken up in its middle."""

    def on_epoch_end(self, model, epoch, metrics):
        """After an epoch and its validation; `metrics` is the epoch's dict in `model.history`."""

    def on_interrupt(self, model):
        """After the batch in which a signal came, where `model.position` stands; training ends here."""

    def on_train_end(self, model):
        """After the last epoch; not after an interruption."""

    def state(self):
        """Return what this callback remembers: a dict of JSON values and arrays, empty if nothing."""
        return {}

    def restore(self, state):
        """Remember again what `state` returned. It comes from a file: raise InputError for what cannot be."""


# {hook: its arguments}; and what an argument of such a name is, here or in Keras
_HOOKS = {name: list(inspect.signature(hook).parameters)[1:] for name, hook in vars(Callback).items()
          if name.startswith("on_")}
_MEANINGS = {"model": "model", "epoch": "epoch", "metrics": "metrics", "logs": "metrics"}


def as_callbacks(callbacks):
    """Return one callback, or several, as a list.

    Raises
    ------
    InputError
        for what is no callback, and for a method that training would never call, or not with the arguments it takes
    """
    if callbacks is None:
        return []
    several = hasattr(callbacks, "__iter__") and not isinstance(callbacks, (Callback, type, str))
    callbacks = list(callbacks) if several else [callbacks]
    for i, callback in enumerate(callbacks):
        if not isinstance(callback, Callback):
            made = f" Make one: {callback.__name__}(...)." if isinstance(callback, type) else ""
            raise InputError("fit: callbacks: expected objects of a class made from minicnn.Callback, got "
                             f"{printable(repr(callback))[:200]}.{made}")
        if any(callback is other for other in callbacks[:i]):
            raise InputError(f"fit: callbacks: the same {type(callback).__name__} is there twice. Make one for each "
                             "place.")
        _check_hooks(callback)
    return callbacks


def _check_hooks(callback):
    """Raise InputError where a method on_... of a callback would not be called, or not with what it takes."""
    owner = f"fit: callbacks: {type(callback).__name__}"
    known = ", ".join(f"{name}({', '.join(arguments)})" for name, arguments in _HOOKS.items())
    for name in dir(callback):
        if re.match("on(_|[A-Z])", name) and name not in _HOOKS and callable(getattr(callback, name, None)):
            raise InputError(f"{owner}.{name} would never be called. What is called: {known}.{nearest(name, _HOOKS)} "
                             f"Another method needs a name that does not begin with 'on', such as _{name}.")
    for name, arguments in _HOOKS.items():
        hook = getattr(callback, name)
        try:
            signature = inspect.signature(hook)
        except TypeError:
            raise InputError(f"{owner}: {name} must be a method, got {printable(repr(hook))[:80]}.") from None
        except ValueError:
            continue                        # some functions of C do not tell
        taken = [parameter.name for parameter in signature.parameters.values()
                 if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)]
        try:
            signature.bind(*arguments)
            fits = all(_MEANINGS.get(mine, given) == given for mine, given in zip(taken, arguments))
        except TypeError:
            fits = False
        if not fits:
            raise InputError(f"{owner}: it has {name}{signature}, which is called with ({', '.join(arguments)}): model "
                             "is the Sequential, and epochs count from 1. A callback of Keras must be written anew: "
                             f"def {name}(self, {', '.join(arguments)}).")


def check_monitors(callbacks, metrics, validation):
    """Raise InputError, before training, where one of our callbacks monitors a metric that there will not be.

    Parameters
    ----------
    metrics : list of str; the names of the metrics of an epoch; those that begin with val_ need the validation data
    validation : validation data, or None
    """
    here = dict.fromkeys(name for name in metrics if validation is not None or not name.startswith("val_"))
    for callback in sorted(callbacks, key=lambda callback: isinstance(callback, Checkpoint)):     # as they are called
        if getattr(callback.on_epoch_end, "__module__", None) != __name__:
            return                          # it may add a metric, which those after it know
        if isinstance(callback, EarlyStopping):
            _monitored(here, callback.monitor)
        elif isinstance(callback, Checkpoint):
            _monitored(dict.fromkeys(metrics), callback.monitor)      # without validation it keeps no best one


class Callbacks:
    """The callbacks of one training, in order. Those that save come after the others, and are told what these remember.

    Parameters
    ----------
    callbacks : list of Callback
    kept : (whether a callback has ended training, [(type name, state)]) from a checkpoint, or None
    progress : bool, report on stderr

    Attributes
    ----------
    save : bool, whether one of them saves
    """

    def __init__(self, callbacks, kept=None, progress=False):
        self._all, self._kept, self._progress, self._bar = callbacks, kept, progress, None
        self._savers = [callback for callback in callbacks if isinstance(callback, Checkpoint)]
        self._others = [callback for callback in callbacks if not isinstance(callback, Checkpoint)]
        self.save = bool(self._savers)

    def begin(self, model):
        """Before the first epoch; return whether training has ended already.

        Raises
        ------
        InputError
            if these are not the callbacks that the states were taken from
        """
        vars(model).pop("stop_training", None)
        for callback in self._all:
            callback.on_train_begin(model)
        if self._kept is None:
            return False
        stop, states = self._kept
        remembering = [callback for callback in self._others if callback.state()]
        here, there = [type(callback).__name__ for callback in remembering], [name for name, _ in states]
        if here != there:
            raise InputError(f"callbacks: the run was begun with {printable(', '.join(there)) or 'none'} (of those that "
                             f"remember something), now there is {', '.join(here) or 'none'}. Give the same, in the same "
                             "order.")
        for callback, (_, state) in zip(remembering, states):
            callback.restore(state)
        return stop

    @contextmanager
    def epoch(self, model, epoch, epochs, begin):
        """Within it, epoch number `epoch` is trained from the Position that this gives on: `model.position`, or `begin`.

        Where a signal ends training there, the model knows its position again, and is saved.

        Raises
        ------
        Interrupted
            saying after which epoch or batch
        """
        if model.position is None:
            for callback in self._all:
                callback.on_epoch_begin(model, epoch)
        position, model.position = model.position or replace(begin), None
        name = f"epoch {epoch}/{epochs}"
        try:
            with Progress(position.steps, name, "step", self._progress, done=position.batch) as self._bar:
                yield position
                self._bar.say(f"{name}  {_in_words(model.history[-1])}")
                signals.check()
        except signals.Interrupted as signal:
            place = f"after epoch {epoch} of {epochs}"
            if len(model.history) < epoch:
                place = f"in epoch {epoch}, batch {position.batch} of {position.steps}"
                model.position = position if position.batch else None
                self._tell_savers(False)
                for callback in self._all:
                    callback.on_interrupt(model)
            raise signals.Interrupted(signal.number, f"interrupted {place}{': saved' * self.save}.") from None

    def end_batch(self, position):
        """After a batch, which is in the position."""
        self._bar.advance(loss=position.loss / position.seen)

    def end_epoch(self, model, epoch, row):
        """After an epoch; return whether one of them ends training."""
        # Every callback hears of the epoch, also when one says stop; what they then remember is saved.
        stop = any([callback.on_epoch_end(model, epoch, row) for callback in self._others])
        stop = bool(vars(model).pop("stop_training", False)) or stop
        self._tell_savers(stop)
        for callback in self._savers:
            callback.on_epoch_end(model, epoch, row)
        return stop

    def end(self, model):
        """After the last epoch."""
        for callback in self._all:
            callback.on_train_end(model)

    def _tell_savers(self, stop):
        states = [(type(callback).__name__, state) for callback in self._others if (state := callback.state())]
        for saver in self._savers:
            saver.stop, saver.states = stop, states


_METRIC = Text("the name of a metric, such as 'val_loss'")


def _monitored(metrics, monitor):
    if monitor not in metrics:
        raise InputError(f"monitor: there is no {monitor!r} in this training, only {', '.join(metrics)}."
                         + nearest(monitor, metrics) + (" Give fit a validation set." if "val_" in monitor else ""))
    value = metrics[monitor]
    return math.inf if value is None else (-value if monitor.endswith(("accuracy", "auc")) else value)


class EarlyStopping(Callback):
    """Stop when `monitor` has not improved by more than `min_delta` for `patience` epochs; keep the best weights.

    Losses improve downwards, accuracies and AUC upwards. With restore_best the model ends with the weights of its best
    epoch.
    """

    def __init__(self, monitor="val_loss", patience=5, min_delta=0.0, restore_best=True):
        self.monitor = check("EarlyStopping", "monitor", monitor, _METRIC)
        self.min_delta = abs(check("EarlyStopping", "min_delta", min_delta, Real(-math.inf, math.inf, "()")))
        self.restore_best, self.patience = restore_best, check("EarlyStopping", "patience", patience, Whole())
        self._best, self._waited, self._weights = math.inf, 0, None

    def on_train_begin(self, model):
        self._best, self._waited, self._weights = math.inf, 0, None

    def on_epoch_end(self, model, epoch, metrics):
        value = _monitored(metrics, self.monitor)
        if value < self._best - self.min_delta:
            self._best, self._waited = value, 0
            self._weights = model.get_weights() if self.restore_best else None
        else:
            self._waited += 1
        return self._waited >= self.patience

    def on_train_end(self, model):
        if self._weights is not None:
            model.set_weights(self._weights)

    def state(self):
        weights = {f"weights/{i}": array for i, array in enumerate(self._weights or [])}
        return {"best": None if self._best == math.inf else float(self._best), "waited": self._waited} | weights

    def restore(self, state):
        best, waited = state.get("best"), state.get("waited")
        weights = [state.get(f"weights/{i}") for i in range(len(state) - 2)]
        if not (best is None or type(best) is float) or type(waited) is not int or not 0 <= waited < 2**31 \
                or not all(isinstance(array, np.ndarray) for array in weights):
            raise InputError("EarlyStopping: the state in the file is not one of EarlyStopping.")
        self._best, self._waited, self._weights = math.inf if best is None else best, waited, weights or None


class LearningRateSchedule(Callback):
    """Set the learning rate before each epoch: rate(epoch), epochs counted from 1.

    >>> halve_each_ten = LearningRateSchedule(lambda epoch: 1e-3 * 0.5 ** ((epoch - 1) // 10))
    """

    def __init__(self, rate):
        if not callable(rate):
            raise InputError(f"LearningRateSchedule: rate must be a function of the epoch, got {rate!r}.")
        self.rate = rate

    def on_epoch_begin(self, model, epoch):
        rate = float(self.rate(epoch))
        if not 0 < rate < math.inf:
            raise InputError(f"LearningRateSchedule: rate({epoch}) must be a positive number, got {rate!r}.")
        model.optimizer.learning_rate = rate


class WeightAverage(Callback):
    """Let the model end with a mean of the weights after each epoch, the later ones counting more.

    With k the number of epochs so far, the mean moves towards the weights w after each epoch (Izmailov et al.,
    "Averaging weights leads to wider optima and better generalization", UAI 2018, where all count alike):

        mean <- mean + (w - mean) max(1 / k, 1 - decay)

    so that the weights of n epochs ago count about decay^n. Training itself goes on with the weights as they are, and
    what is measured after each epoch is theirs; `last` and `best.safetensors` hold them. The mean is in the model when
    `fit` is done.

    Parameters
    ----------
    decay : float in (0, 1); 0.8 averages over about the last five epochs
    """

    def __init__(self, decay=0.8):
        self.decay = check("WeightAverage", "decay", decay, Real(0, 1, "()"))
        self._epochs, self._mean, self._form = 0, [], None

    def on_train_begin(self, model):
        self._epochs, self._mean = 0, []
        self._form = [(w.shape, w.dtype) for w in model.get_weights()]

    def on_epoch_end(self, model, epoch, metrics):
        self._epochs += 1
        step, weights = max(1 / self._epochs, 1 - self.decay), model.get_weights()
        self._mean = [mean + (w - mean) * w.dtype.type(step) for mean, w in zip(self._mean or weights, weights)]

    def on_train_end(self, model):
        if self._mean:
            model.set_weights(self._mean)

    def state(self):
        return {"epochs": self._epochs} | {f"weights/{i}": array for i, array in enumerate(self._mean)}

    def restore(self, state):
        epochs, mean = state.get("epochs"), [state.get(f"weights/{i}") for i in range(len(state) - 1)]
        form = [(array.shape, array.dtype) if isinstance(array, np.ndarray) else None for array in mean]
        if type(epochs) is not int or not 0 <= epochs < 2**31 or form != (self._form if epochs else []):
            raise InputError("WeightAverage: the state in the file is not one of WeightAverage.")
        self._epochs, self._mean = epochs, mean


class Checkpoint(Callback):
    """Save the model into `folder` after each epoch, and in the middle of one that is interrupted.

    `last.safetensors` is the newest, `previous.safetensors` the epoch before, and `best.safetensors` the epoch with the
    best `monitor`. Each is whole at any moment. Wherever it stands among the callbacks, after an epoch it is called
    after the others, and told what they remember then: `last` keeps it.
    """

    stop, states = False, ()

    def __init__(self, folder, monitor="val_loss"):
        self.folder, self.monitor = Path(folder), check("Checkpoint", "monitor", monitor, _METRIC)
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
        values = [_monitored(row, self.monitor) for row in history if self.monitor in row]
        return all(values[-1] < value for value in values[:-1])


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


class History:
    """What training measured, epoch by epoch.

    Attributes
    ----------
    rows : list of dict, one an epoch: epoch, loss, accuracy, val_loss, val_accuracy, val_auc (where measured)

    >>> history = History([{"epoch": 1, "loss": 0.7}, {"epoch": 2, "loss": 0.5}])
    >>> history.epochs, history.metrics
    ([1, 2], {'loss': [0.7, 0.5]})
    """

    def __init__(self, rows):
        self.rows = rows

    @property
    def epochs(self):
        """The numbers of the epochs, from 1."""
        return [row["epoch"] for row in self.rows]

    @property
    def metrics(self):
        """{name: [value of each epoch]}."""
        names = list(dict.fromkeys(name for row in self.rows for name in row if name != "epoch"))
        return {name: [row.get(name) for row in self.rows] for name in names}

    def plot(self, path):
        """Draw loss and accuracy by epoch (Figs 7 and 8 of the paper) into the image file `path`."""
        from minicnn.plotting.run import curves
        return curves(self.rows, path)

    def __repr__(self):
        return "History(\n" + "".join(f"  epoch {row['epoch']}  {_in_words(row)}\n" for row in self.rows) + ")"


def _in_words(row):
    return "  ".join(f"{name} {'undefined' if value is None else f'{value:.4f}'}"
                     for name, value in row.items() if name != "epoch")
