"""Callbacks that decide how training goes on: when it ends, at which learning rate, and with which weights."""

import inspect
import math

import numpy as np

from minicnn.callbacks.base import METRIC, MODE, Callback, monitored, say
from minicnn.core.arguments import Real, Whole, check
from minicnn.errors import InputError, printable

__all__ = ["EarlyStopping", "ReduceLROnPlateau", "LearningRateSchedule", "LearningRateScheduler", "WeightAverage",
           "LambdaCallback"]


class EarlyStopping(Callback):
    """Stop when `monitor` has not improved by more than `min_delta` for `patience` epochs; keep the best weights.

    With mode="auto" losses improve downwards, accuracies, AUC and the like upwards. With restore_best_weights the model
    ends with the weights of its best epoch, by itself or not. Epochs up to `start_from_epoch` do not count.
    """

    def __init__(self, monitor="val_loss", patience=5, min_delta=0.0, restore_best_weights=True, mode="auto",
                 start_from_epoch=0, verbose=0):
        self.monitor = check("EarlyStopping", "monitor", monitor, METRIC)
        self.mode = check("EarlyStopping", "mode", mode, MODE)
        self.min_delta = abs(check("EarlyStopping", "min_delta", min_delta, Real(-math.inf, math.inf, "()")))
        self.patience = check("EarlyStopping", "patience", patience, Whole(0))
        self.start_from_epoch = check("EarlyStopping", "start_from_epoch", start_from_epoch, Whole(0))
        self.restore_best_weights, self.verbose = restore_best_weights, verbose
        self._best, self._waited, self._weights = math.inf, 0, None

    def on_train_begin(self, model):
        self._best, self._waited, self._weights = math.inf, 0, None

    def on_epoch_end(self, model, epoch, metrics):
        value = monitored(metrics, self.monitor, self.mode)
        if epoch <= self.start_from_epoch:
            return False
        if value < self._best - self.min_delta:
            self._best, self._waited = value, 0
            self._weights = model.get_weights() if self.restore_best_weights else None
            return False
        self._waited += 1
        stop = self._waited >= self.patience
        say(f"EarlyStopping: {self.monitor} is no better than {self._waited} epochs ago.", stop and self.verbose and self.reports)
        return stop

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


class ReduceLROnPlateau(Callback):
    """Multiply the learning rate by `factor` where `monitor` did not improve by `min_delta` in `patience` epochs.

    After that `cooldown` epochs are not counted. The learning rate does not fall below `min_lr`; the history holds that of
    each epoch.
    """

    def __init__(self, monitor="val_loss", factor=0.1, patience=10, verbose=0, mode="auto", min_delta=1e-4, cooldown=0,
                 min_lr=0.0):
        owner = "ReduceLROnPlateau"
        self.monitor, self.mode = check(owner, "monitor", monitor, METRIC), check(owner, "mode", mode, MODE)
        self.factor = check(owner, "factor", factor, Real(0, 1, "()"))
        self.min_lr = check(owner, "min_lr", min_lr, Real(0))
        self.patience, self.cooldown = (check(owner, name, value, Whole(0)) for name, value in
                                        (("patience", patience), ("cooldown", cooldown)))
        self.min_delta, self.verbose = check(owner, "min_delta", min_delta, Real(0)), verbose
        self._best, self._waited, self._cooling = math.inf, 0, 0

    def on_train_begin(self, model):
        self._best, self._waited, self._cooling = math.inf, 0, 0

    def on_epoch_end(self, model, epoch, metrics):
        value, rate = monitored(metrics, self.monitor, self.mode), model.optimizer.learning_rate
        metrics["learning_rate"] = rate
        if self._cooling:
            self._cooling, self._waited = self._cooling - 1, 0
        if value < self._best - self.min_delta:
            self._best, self._waited = value, 0
        elif not self._cooling:
            self._waited += 1
            if self._waited >= self.patience and rate > self.min_lr:
                model.optimizer.learning_rate = max(rate * self.factor, self.min_lr)
                self._waited, self._cooling = 0, self.cooldown
                say(f"epoch {epoch}: learning rate {model.optimizer.learning_rate:g}.", self.verbose and self.reports)

    def state(self):
        return {"best": None if self._best == math.inf else float(self._best), "waited": self._waited,
                "cooling": self._cooling}

    def restore(self, state):
        best, counts = state.get("best"), (state.get("waited"), state.get("cooling"))
        if len(state) != 3 or not (best is None or type(best) is float and math.isfinite(best)) \
                or not all(type(n) is int and 0 <= n < 2**31 for n in counts):
            raise InputError("ReduceLROnPlateau: the state in the file is not one of ReduceLROnPlateau.")
        self._best, (self._waited, self._cooling) = math.inf if best is None else best, counts


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


class LearningRateScheduler(Callback):
    """Keras' form of LearningRateSchedule: the rate is schedule(epoch, rate so far), or schedule(epoch); epochs from 0.

    The learning rate of each epoch is in the history.

    >>> halve = LearningRateScheduler(lambda epoch, rate: rate / 2 if epoch else rate)
    """

    def __init__(self, schedule, verbose=0):
        self.schedule, self.verbose = schedule, verbose
        self._taken = next((n for n in (2, 1) if _takes(schedule, n)), None)
        if self._taken is None:
            raise InputError("LearningRateScheduler: schedule must be a function of (epoch, learning rate) or of (epoch), "
                             f"got {printable(repr(schedule))[:80]}.")

    def on_epoch_begin(self, model, epoch):
        rate = self.schedule(*(epoch - 1, model.optimizer.learning_rate)[:self._taken])
        rate = check(f"LearningRateScheduler, epoch {epoch - 1}", "the rate", rate, Real(0, math.inf, "()"))
        model.optimizer.learning_rate = rate
        say(f"epoch {epoch}: learning rate {rate:g}.", self.verbose)

    def on_epoch_end(self, model, epoch, metrics):
        metrics["learning_rate"] = model.optimizer.learning_rate


class WeightAverage(Callback):
    """Let the model end with a mean of the weights after each epoch, the later ones counting more.

    With k the number of epochs so far, the mean moves towards the weights w after each epoch (Izmailov et al.,
    "Averaging weights leads to wider optima and better generalization", UAI 2018, where all count alike):

        mean <- mean + (w - mean) max(1 / k, 1 - decay)

    so that the weights of n epochs ago count about decay^n. Training itself goes on with the weights as they are, and
    what is measured after each epoch is theirs; `last` and `best.safetensors` hold them. The mean is in the model when
    `fit` is done. Moving statistics are averaged likewise, which is near those that the mean of the weights would have.

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


class LambdaCallback(Callback):
    """Call functions with the arguments that Keras gives them: (epoch, logs), (batch, logs) or (logs), counted from 0.

    `logs` are the metrics, a copy; before an epoch or a batch, and around training, there are none. A callback that is
    to know the model, or to remember something, is a class made from Callback.

    >>> epochs = []
    >>> callback = LambdaCallback(on_epoch_end=lambda epoch, logs: epochs.append((epoch, logs["loss"])))
    """

    def __init__(self, on_epoch_begin=None, on_epoch_end=None, on_train_begin=None, on_train_end=None,
                 on_train_batch_begin=None, on_train_batch_end=None):
        given = dict(vars())
        self._functions = {name: given[name] for name in given if name != "self" and given[name] is not None}
        for name, function in self._functions.items():
            wanted = ["logs"] if name in ("on_train_begin", "on_train_end") else [name.split("_")[-2], "logs"]
            if not _takes(function, len(wanted)):
                raise InputError(f"LambdaCallback: {name} must be a function of ({', '.join(wanted)}), got "
                                 f"{printable(repr(function))[:80]}.")

    def _call(self, name, *arguments):
        if name in self._functions:
            self._functions[name](*arguments)

    def on_train_begin(self, model):
        self._call("on_train_begin", {})

    def on_epoch_begin(self, model, epoch):
        self._call("on_epoch_begin", epoch - 1, {})

    def on_train_batch_begin(self, model, batch):
        self._call("on_train_batch_begin", batch - 1, {})

    def on_train_batch_end(self, model, batch, metrics):
        self._call("on_train_batch_end", batch - 1, dict(metrics))

    def on_epoch_end(self, model, epoch, metrics):
        self._call("on_epoch_end", epoch - 1, {name: value for name, value in metrics.items() if name != "epoch"})

    def on_train_end(self, model):
        self._call("on_train_end", {})


def _takes(function, n):
    """Whether a function can be called with n arguments in order."""
    try:
        inspect.signature(function).bind(*range(n))
    except TypeError:                       # it is no function, or takes others
        return False
    except ValueError:                      # some functions of C do not tell
        return True
    return True
