"""Training: the step, the epoch loop, what is measured on the way.

The data's way through one step: batch -> network forward (up to the loss's head) -> loss and dz -> network backward ->
optimizer. Everything random is addressed by (seed, epoch, step), so an epoch can be taken up again after any of its
batches: what training needs to go on is the model, its optimizer, the Position, and what the callbacks remember.
"""

import math
from contextlib import closing
from dataclasses import replace

import numpy as np

from minicnn.callbacks import (Callback, Checkpoint, CSVHistory, EarlyStopping, LearningRateSchedule, WeightAverage,
                               restore, states_of)
from minicnn.checkpoint import Position
from minicnn.core import signals
from minicnn.core.backend import get_engine
from minicnn.core.progress import Progress
from minicnn.core.validation import as_array
from minicnn.data.loader import load, schedule
from minicnn.errors import DTypeError, InputError, NonFiniteError, ShapeError
from minicnn.metrics import categorical_metrics, binary_metrics

__all__ = ["Trainer", "History", "Callback", "EarlyStopping", "LearningRateSchedule", "WeightAverage",
           "Checkpoint", "CSVHistory", "encode_targets"]


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
        loss = self.loss(self.ops, z, self.loss.smoothed(t), weights, losses, dz)
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
        return self.network.finish(z, self.depth)

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
            signals.check()
        return outputs, logits

    def mean_loss(self, logits, targets):
        """Return the mean loss of logits against encoded targets."""
        return self.loss(self.ops, logits, targets, None, np.empty(len(logits)), np.empty_like(logits))

    def evaluate(self, source, targets, batch_size):
        """Return the metrics of a source as a dict: n, accuracy, ..., auc, loss (metrics.py); n and loss alone where
        the network does not classify."""
        outputs, logits = self.predict(source, batch_size)
        return describe(outputs, targets, self.mean_loss(logits, targets), self.loss)

    def fit(self, model, source, targets, *, validation, epochs, batch_size, steps_per_epoch, shuffle, sample_weights,
            callbacks, workers, progress, kept=None):
        """Train until `model.history` has `epochs` epochs; return the History of those trained here.

        Where `model.position` stands in the middle of an epoch, its other batches come first. After each epoch
        `model.history` grows by a dict: epoch, loss, accuracy, and with validation val_loss, val_accuracy, val_auc. Loss
        and accuracy are those of the batches as they were trained on.

        `kept` is (whether a callback has ended training, their states) from a checkpoint, or None.

        Raises
        ------
        Interrupted
            after the batch in which a signal came; `model.position` says where, and a Checkpoint has saved it
        """
        history = History([])
        savers = [callback for callback in callbacks if isinstance(callback, Checkpoint)]
        others = [callback for callback in callbacks if not isinstance(callback, Checkpoint)]
        begin = Position(len(source), batch_size, steps_per_epoch, bool(shuffle))
        if model.position is not None:
            model.position.check_same_epoch(begin)
        for callback in callbacks:
            callback.on_train_begin(model)
        stop = False
        if kept is not None:
            stop, states = kept
            restore(others, states)
        with signals.postponed():
            while len(model.history) < epochs and not stop:
                epoch = len(model.history) + 1
                if model.position is None:
                    for callback in callbacks:
                        callback.on_epoch_begin(model, epoch)
                position, model.position = model.position or replace(begin), None
                name = f"epoch {epoch}/{epochs}"
                try:
                    with Progress(position.steps, name, "step", progress, done=position.batch) as bar:
                        row = self._epoch(epoch, position, source, targets, validation, sample_weights, workers, bar)
                        model.history.append(row)
                        history.rows.append(row)
                        # Every callback hears of the epoch, also when one says stop; what they then remember is saved.
                        stop = any([callback.on_epoch_end(model, epoch, row) for callback in others])
                        _tell(savers, stop, others)
                        for callback in savers:
                            callback.on_epoch_end(model, epoch, row)
                        bar.say(f"{name}  {_in_words(row)}")
                    signals.check()
                except signals.Interrupted as signal:
                    place = f"after epoch {epoch} of {epochs}"
                    if len(model.history) < epoch:
                        place = f"in epoch {epoch}, batch {position.batch} of {position.steps}"
                        model.position = position if position.batch else None
                        _tell(savers, False, others)
                        for callback in callbacks:
                            callback.on_interrupt(model)
                    saved = ": saved" if savers else ""
                    raise signals.Interrupted(signal.number, f"interrupted {place}{saved}.") from None
            for callback in callbacks:
                callback.on_train_end(model)
        return history

    def _epoch(self, epoch, position, source, targets, validation, sample_weights, workers, bar):
        """Run the steps of an epoch that are left after `position`, which moves on; validate; return the epoch's row."""
        steps = schedule(position.samples, position.batch_size, epoch - 1, position.steps_per_epoch, self.seed,
                         position.shuffle, start=position.batch)
        with closing(load(source, steps, self.seed, workers)) as batches:
            for samples, x in batches:
                t = targets[samples]
                try:
                    loss, outputs = self.step(x, t, None if sample_weights is None else sample_weights[samples])
                except NonFiniteError as error:
                    raise NonFiniteError(f"epoch {epoch}, batch {position.batch + 1}: {error} Training stopped before "
                                         "this update; a smaller learning rate may help.") from None
                position.add(len(x), loss, 0.0 if self.loss.head is None else share_right(outputs, t, self.loss))
                bar.advance(loss=position.loss / position.seen)
                signals.check()
        row = {"epoch": epoch, "loss": position.loss / position.seen}
        if self.loss.head is not None:
            row["accuracy"] = position.right / position.seen
        if validation is not None:
            measured = self.evaluate(*validation, position.batch_size)
            if not math.isfinite(measured["loss"]):
                raise NonFiniteError(f"epoch {epoch}: the loss of the validation data is {measured['loss']}. "
                                     "A smaller learning rate may help.")
            row |= {f"val_{name}": measured[name] for name in ("loss", "accuracy", "auc") if name in measured}
        return row


def _tell(savers, stop, others):
    """Tell the callbacks that save what the others remember, and whether one of them has ended training."""
    for saver in savers:
        saver.stop, saver.states = stop, states_of(others)


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
    try:
        t = as_array(t, "targets", "t", np.float64)
    except DTypeError as error:
        raise InputError(f"{error} For named classes use a manifest, or encode them: 0 and 1, or 0 .. K-1.") from None
    if t.ndim == 0:
        raise ShapeError(f"targets: expected an array with one target for each sample, got {t}.")
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
        from minicnn.plotting.run import curves
        return curves(self.rows, path)

    def __repr__(self):
        return "History(\n" + "".join(f"  epoch {row['epoch']}  {_in_words(row)}\n" for row in self.rows) + ")"


def _in_words(row):
    return "  ".join(f"{name} {'undefined' if value is None else f'{value:.4f}'}"
                     for name, value in row.items() if name != "epoch")
