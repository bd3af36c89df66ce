"""Training: the step, the epoch loop, what is measured on the way.

The data's way through one step: batch -> network forward (up to the loss's head) -> loss and dz -> network backward ->
optimizer. Everything random is addressed by (seed, epoch, step), so an epoch can be taken up again after any of its
batches: what training needs to go on is the model, its optimizer, the Position, and what the callbacks remember.
"""

import math
from contextlib import closing

import numpy as np

from minicnn.core.backend import get_engine
from minicnn.errors import InputError, NonFiniteError

__all__ = ["Trainer"]


class Trainer:
    """One network with its loss and its optimizer.

    Parameters
    ----------
    network : Network
    loss : a loss of losses.py
    optimizer : an optimizer of optimizers/
    between_batches : function, called without arguments after each batch; what it raises ends the work there
    metrics : names of the metrics of each epoch, or None: accuracy where the network classifies, and AUC in validation
    """

    def __init__(self, network, loss, optimizer, between_batches, metrics=None):
        self.network, self.loss, self.optimizer, self.between_batches = network, loss, optimizer, between_batches
        self.metrics = metrics
        for value, head in zip(network.outputs, loss.heads):
            last = network.layers[value - 1]
            if head not in (None, type(last).__name__):
                raise InputError(f"compile: loss {loss.name!r} needs {head}() as the last layer, got {last.label}.")
            if head is not None and network.is_taken(value):
                raise InputError(f"compile: the loss takes {last.label} over, and another layer takes it. Give that layer a "
                                 f"{head}() of its own.")
        self.heads = network.heads(loss.heads)
        self.rows = network.rows(heads=self.heads)
        self.ops = get_engine(network.engine)

    def loss_and_gradients(self, x, t, weights=None):
        """Return (mean loss, outputs of the batch); the gradients are in the parameters.

        Raises NonFiniteError naming the first layer, if the loss or a gradient is NaN or infinite.
        """
        self.network.note_frozen()
        z = self.network.forward(x, self.rows, training=True, step_number=self.optimizer.t)
        losses, dz = np.empty(len(t)), np.empty(z.shape, z.dtype)
        loss = self.loss(self.ops, z, self.loss.smoothed(t), weights, losses, dz)
        loss += sum(self.network.parameters.penalties())
        if not math.isfinite(loss):
            self.network.blame_forward(x)
            raise NonFiniteError(f"the loss is {loss} though every layer's output is finite; "
                                 "look at the targets and the sample weights.")
        outputs = self.outputs(z)
        self.network.backward(dz, self.rows)
        self.network.parameters.add_penalty_gradients()
        self.network.blame_gradients()
        return loss, outputs

    def step(self, x, t, weights=None):
        """Update the parameters once from a batch; return (mean loss before the update, outputs)."""
        loss, outputs = self.loss_and_gradients(x, t, weights)
        self.network.move_statistics()
        self.optimizer.step(self.ops, self.network.parameters)
        return loss, outputs

    def outputs(self, z):
        """Return the network's outputs for logits z: through the head, where the loss folds one."""
        return self.network.finish(z, self.heads)

    def predict(self, data, batch_size):
        """Return (outputs (n, ...), logits (n, ...)) of every sample of a dataset, in order, without augmentation."""
        n = len(data)
        outputs = np.empty((n,) + self.network.output_shape, self.network.dtype)
        logits = np.empty_like(outputs)
        for start in range(0, n, batch_size):
            samples = np.arange(start, min(start + batch_size, n))
            z = self.network.forward(data.batch(samples), self.rows)
            logits[samples] = z
            outputs[samples] = self.outputs(z)
            self.between_batches()
        return outputs, logits

    def mean_loss(self, logits, targets, weights=None):
        """Return the mean loss of logits against encoded targets; `weights`, one a sample, count in it."""
        self.network.note_frozen()
        loss = self.loss(self.ops, logits, targets, weights, np.empty(len(logits)), np.empty_like(logits))
        return loss + sum(self.network.parameters.penalties())

    def evaluate(self, data, targets, batch_size, weights=None):
        """Return the metrics of a dataset as a dict (Loss.describe)."""
        outputs, logits = self.predict(data, batch_size)
        return self.loss.describe(outputs, targets, self.mean_loss(logits, targets, weights))

    def fit(self, model, batches, *, begin, validation, batch_size, epochs, callbacks):
        """Train until `model.history` has `epochs` epochs; return the rows of those trained here.

        Where `model.position` stands in the middle of an epoch, the rest of its batches come first. After each epoch `model.history`
        grows by a dict: epoch, loss and accuracy of the batches as they were trained on, and val_loss, val_accuracy, val_auc.

        Parameters
        ----------
        model : Sequential, whose history and position this is
        batches : function of (epoch, position) that returns a generator of the batches after it: (x, targets, weights or None)
        begin : Position (checkpoint.py) at the beginning of an epoch
        validation : (dataset, targets), or with a weight in the loss for each sample (dataset, targets, weights), or None
        batch_size : int, in validation
        callbacks : Callbacks (callbacks/running.py)
        """
        rows, stop = [], callbacks.begin(model)
        while len(model.history) < epochs and not stop:
            epoch = len(model.history) + 1
            with callbacks.epoch(model, epoch, epochs, begin) as position:
                row = self._train_epoch(epoch, position, batches(epoch, position), callbacks)
                row |= self._validate(epoch, validation, batch_size)
                model.history.append(row)
                rows.append(row)
                stop = callbacks.end_epoch(model, epoch, row)
        callbacks.end(model)
        return rows

    def _train_epoch(self, epoch, position, batches, callbacks):
        """Take a step for each of the batches, which move `position` on; return the row of the epoch."""
        names = self.loss.measured(self.metrics)
        with closing(batches):
            for x, t, weights in batches:
                callbacks.begin_batch(position)
                try:
                    loss, outputs = self.step(x, t, weights)
                except NonFiniteError as error:
                    error.args = (f"epoch {epoch}, batch {position.batch + 1}: {error} Training stopped before this update; "
                                  "a smaller learning rate may help.",)
                    raise
                position.add(len(t), loss, self.loss.share_right(outputs, t), self.loss.values)
                if set(names) - {"loss", "accuracy", *self.loss.values}:
                    position.keep(outputs, t)
                callbacks.end_batch(position)
                self.between_batches()
        row = {"loss": position.loss, "accuracy": position.right} | position.others
        row = {name: total / position.seen for name, total in row.items()}
        if position.outputs:
            row = self.loss.describe(np.concatenate(position.outputs), np.concatenate(position.targets), row["loss"]) | row
        return {"epoch": epoch} | {name: row[name] for name in names}

    def _validate(self, epoch, validation, batch_size):
        """Return {"val_" + name: value} of the validation data; empty where there is none."""
        if validation is None:
            return {}
        measured = self.evaluate(*validation[:2], batch_size, *validation[2:])
        if not math.isfinite(measured["loss"]):
            raise NonFiniteError(f"epoch {epoch}: the validation loss is {measured['loss']}. A smaller learning rate may help.")
        return {f"val_{name}": measured[name] for name in self.loss.measured(self.metrics, True) if name in measured}
