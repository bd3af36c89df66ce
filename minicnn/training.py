"""Training: the step, the epoch loop, what is measured on the way, and the callbacks between epochs.

The data's way through one step: batch -> network forward (up to the loss's head) -> loss and dz -> network backward ->
optimizer. Everything random is addressed by (seed, epoch, step), so an epoch can be taken up again from a checkpoint.
"""

import csv
import math
import os
from pathlib import Path

import numpy as np

from minicnn.data.source import load, schedule
from minicnn.engines import get_engine
from minicnn.errors import CheckpointError, InputError, NonFiniteError, ShapeError, nearest, printable
from minicnn.metrics import categorical_metrics, binary_metrics
from minicnn.progress import Progress
from minicnn.shapes import positive_int

__all__ = ["Trainer", "History", "Callback", "EarlyStopping", "LearningRateSchedule", "Checkpoint", "CSVHistory",
           "encode_targets"]


class Trainer:
    """One network with its loss and its optimizer.

    Parameters
    ----------
    network : Network
    loss : a loss of losses.py
    optimizer : an optimizer of optimizers.py
    seed : int; decides shuffling and augmentation
    """

    def __init__(self, network, loss, optimizer, seed):
        self.network, self.loss, self.optimizer, self.seed = network, loss, optimizer, seed
        self.depth = network.depth(loss.head)
        if loss.head is not None and self.depth == len(network.layers):
            raise InputError(f"compile: loss {loss.name!r} needs {loss.head}() as the last layer, "
                             f"got {type(network.layers[-1]).__name__}.")
        self.ops = get_engine(network.engine)

    def loss_and_gradients(self, x, t, weights=None):
        """Return (mean loss, outputs of the batch); the gradients are in the parameters.

        Raises NonFiniteError naming the first layer, if the loss or a gradient is NaN or infinite.
        """
        z = self.network.forward(x, self.depth, training=True, step_number=self.optimizer.t)
        losses, dz = np.empty(len(x)), np.empty(z.shape, z.dtype)
        loss = self.loss(self.ops, z, t, weights, losses, dz)
        if not math.isfinite(loss):
            self.network.blame_forward(x, self.depth)
            raise NonFiniteError(f"the loss is {loss} though every layer's output is finite; "
                                 "look at the targets and the sample weights.")
        outputs = self.outputs(z)
        self.network.backward(dz, self.depth)
        self.network.blame_gradients()
        return loss, outputs

    def step(self, x, t, weights=None):
        """Update the parameters once from a batch; return (mean loss before the update, outputs)."""
        loss, outputs = self.loss_and_gradients(x, t, weights)
        self.optimizer.step(self.ops, self.network.parameters)
        return loss, outputs

    def outputs(self, z):
        """Return the network's outputs for logits z: through the head, where the loss folds one."""
        for layer in self.network.layers[self.depth:]:
            z = layer.forward(z)
        return z

    def predict(self, source, batch_size):
        """Return (outputs (n, ...), logits (n, ...)) of every sample of a source, in order, without augmentation."""
        n = len(source)
        outputs = np.empty((n,) + self.network.output_shape, self.network.dtype)
        logits = np.empty_like(outputs)
        for start in range(0, n, batch_size):
            samples = np.arange(start, min(start + batch_size, n))
            z = self.network.forward(source.batch(samples), self.depth)
            logits[samples] = z
            outputs[samples] = self.outputs(z)
        return outputs, logits

    def mean_loss(self, logits, targets):
        """Return the mean loss of logits against encoded targets."""
        return self.loss(self.ops, logits, targets, None, np.empty(len(logits)), np.empty_like(logits))

    def evaluate(self, source, targets, batch_size):
        """Return the metrics of a source as a dict: n, accuracy, ..., auc, loss (metrics.py); n and loss alone where
        the network does not classify."""
        outputs, logits = self.predict(source, batch_size)
        return describe(outputs, targets, self.mean_loss(logits, targets), self.loss)

    def fit(self, model, source, targets, *, validation, first_epoch, epochs, batch_size, steps_per_epoch, shuffle,
            sample_weights, callbacks, workers, progress):
        """Train from `first_epoch` (0 the first time) for `epochs` epochs; return the History of them.

        After each epoch `model.history` grows by a dict: epoch, loss, accuracy, and with validation val_loss,
        val_accuracy, val_auc. Loss and accuracy are those of the batches as they were trained on.
        """
        history = History([])
        for callback in callbacks:
            callback.on_train_begin(model)
        for epoch in range(first_epoch, first_epoch + epochs):
            for callback in callbacks:
                callback.on_epoch_begin(model, epoch + 1)
            steps = schedule(len(source), batch_size, epoch, steps_per_epoch, self.seed, shuffle)
            n_steps = steps_per_epoch or -(-len(source) // batch_size)
            with Progress(n_steps, f"epoch {epoch + 1}/{first_epoch + epochs}", "step", progress) as bar:
                row = {"epoch": epoch + 1} | self._epoch(source, targets, steps, sample_weights, workers, bar, epoch + 1)
                if validation is not None:
                    measured = self.evaluate(*validation, batch_size)
                    row |= {f"val_{name}": measured[name] for name in ("loss", "accuracy", "auc") if name in measured}
                model.history.append(row)
                history.rows.append(row)
                # Every callback hears of the epoch, also when one of them says stop.
                stop = [callback.on_epoch_end(model, epoch + 1, row) for callback in callbacks]
                bar.say(f"epoch {epoch + 1}/{first_epoch + epochs}  " + _in_words(row))
            if any(stop):
                break
        for callback in callbacks:
            callback.on_train_end(model)
        return history

    def _epoch(self, source, targets, steps, sample_weights, workers, bar, epoch):
        """Run the steps of one epoch; return its mean loss and, for a classifier, its accuracy."""
        total, right, seen = 0.0, 0.0, 0
        for number, (samples, x) in enumerate(load(source, steps, self.seed, workers), 1):
            t = targets[samples]
            try:
                loss, outputs = self.step(x, t, None if sample_weights is None else sample_weights[samples])
            except NonFiniteError as error:
                raise NonFiniteError(f"epoch {epoch}, batch {number}: {error} Training stopped before this update; "
                                     "a smaller learning rate may help.") from None
            total, seen = total + loss * len(x), seen + len(x)
            if self.loss.head is not None:
                right += share_right(outputs, t, self.loss) * len(x)
            bar.advance(loss=total / seen)
        row = {"loss": total / seen}
        if self.loss.head is not None:
            row["accuracy"] = right / seen
        return row


def share_right(outputs, targets, loss):
    """Return the share of right decisions: the largest of several under a softmax, else p > 0.5 (strictly)."""
    if loss.head == "Softmax":
        return float((outputs.argmax(axis=-1) == targets.argmax(axis=-1)).mean())
    return float(((outputs > 0.5) == (targets > 0.5)).mean())


def describe(outputs, targets, loss, loss_function):
    """Return the metrics of outputs against encoded targets."""
    if loss_function.head == "Sigmoid" and outputs.shape[1:] == (1,):
        return binary_metrics((targets[:, 0] > 0.5).astype(np.int64), outputs[:, 0], loss=loss)
    if loss_function.head == "Softmax":
        return categorical_metrics(targets.argmax(axis=-1), outputs, loss=loss)
    return {"n": len(outputs), "loss": loss}


def encode_targets(t, shape, loss, dtype):
    """Return targets as the loss wants them: (N,) + shape, of the network's dtype.

    A vector of N becomes a column; for categorical cross-entropy whole-number classes become one-hot rows.

    >>> from minicnn.losses import get_loss
    >>> encode_targets(np.array([2, 0]), (3,), get_loss("categorical_crossentropy"), np.float32).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    t = np.asarray(t)
    if t.dtype.kind not in "fiub":
        raise InputError(f"targets: expected numbers, got dtype {t.dtype}. For named classes use a manifest, or "
                         "encode them: 0 and 1, or 0 .. K-1.")
    if loss.head == "Softmax" and t.size == len(t) and shape != (1,):
        classes = t.reshape(-1)
        if len(classes) and ((classes != np.floor(classes)).any() or classes.min() < 0 or classes.max() >= shape[-1]):
            raise InputError(f"targets: expected whole-number classes from 0 to {shape[-1] - 1}, "
                             f"got values from {classes.min()} to {classes.max()}.")
        return np.eye(shape[-1], dtype=dtype)[classes.astype(np.int64)]
    if t.ndim == 1 and shape == (1,):
        t = t[:, None]
    if t.shape[1:] != shape:
        raise ShapeError(f"targets: expected shape (N, {', '.join(map(str, shape))}), got {t.shape}.")
    t = np.ascontiguousarray(t, dtype)
    loss.check_targets(t, (len(t),) + shape)
    return t


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
        from minicnn.figures import curves
        return curves(self.rows, path)

    def __repr__(self):
        return "History(\n" + "".join(f"  epoch {row['epoch']}  {_in_words(row)}\n" for row in self.rows) + ")"


def _in_words(row):
    return "  ".join(f"{name} {'undefined' if value is None else f'{value:.4f}'}"
                     for name, value in row.items() if name != "epoch")


# ---- Callbacks -------------------------------------------------------------------------------------------------------

class Callback:
    """What happens between epochs. Override any of the four; `on_epoch_end` returns True to end training."""

    def on_train_begin(self, model):
        """Before the first epoch."""

    def on_epoch_begin(self, model, epoch):
        """Before epoch number `epoch`, counted from 1."""

    def on_epoch_end(self, model, epoch, metrics):
        """After an epoch and its validation; `metrics` is the epoch's dict in `model.history`."""

    def on_train_end(self, model):
        """After the last epoch."""


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
        self.monitor, self.min_delta, self.restore_best = monitor, abs(float(min_delta)), restore_best
        self.patience = positive_int(patience, "EarlyStopping", "patience")
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


class LearningRateSchedule(Callback):
    """Set the learning rate before each epoch: rate(epoch), epochs counted from 1.

    >>> halve_each_ten = LearningRateSchedule(lambda epoch: 1e-3 * 0.5 ** ((epoch - 1) // 10))
    """

    def __init__(self, rate):
        self.rate = rate

    def on_epoch_begin(self, model, epoch):
        rate = float(self.rate(epoch))
        if not 0 < rate < math.inf:
            raise InputError(f"LearningRateSchedule: rate({epoch}) must be a positive number, got {rate!r}.")
        model.optimizer.learning_rate = rate


class Checkpoint(Callback):
    """Save the model into `folder` after each epoch.

    `last.safetensors` is the newest, `previous.safetensors` the one before, and `best.safetensors` the one with the best
    `monitor`. Each is whole at any moment.
    """

    def __init__(self, folder, monitor="val_loss"):
        self.folder, self.monitor = Path(folder), monitor

    def on_train_begin(self, model):
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"{printable(self.folder)}: the folder cannot be made: {error.strerror}.") from error

    def on_epoch_end(self, model, epoch, metrics):
        last, previous = self.folder / "last.safetensors", self.folder / "previous.safetensors"
        if last.exists():
            # A second name for the old file, before the new one takes the first: there is never none.
            spare = self.folder / f".previous.{os.getpid()}.tmp"
            spare.unlink(missing_ok=True)
            os.link(last, spare)
            os.replace(spare, previous)
        model.save(last)
        if self.monitor in metrics and self._is_best(model.history):
            model.save(self.folder / "best.safetensors")

    def _is_best(self, history):
        values = [_monitored(row, self.monitor) for row in history if self.monitor in row]
        return all(values[-1] < value for value in values[:-1])


class CSVHistory(Callback):
    """Append each epoch's figures to a CSV file, on the disk before the next epoch begins."""

    def __init__(self, path):
        self.path = Path(path)

    def on_train_begin(self, model):
        """Write the epochs that the model already has: after a crash the file may hold more, or less, than it."""
        self.path.unlink(missing_ok=True)
        for row in model.history:
            self.on_epoch_end(model, row["epoch"], row)

    def on_epoch_end(self, model, epoch, metrics):
        new = not self.path.exists()
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(metrics), extrasaction="ignore")
            if new:
                writer.writeheader()
            writer.writerow(metrics)
            file.flush()
            os.fsync(file.fileno())
