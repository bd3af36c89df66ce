"""What a callback is, and which metric it monitors."""

import inspect
import math
import re

from minicnn.core.arguments import OneOf, Text
from minicnn.core.progress import Progress
from minicnn.errors import InputError, nearest, printable

__all__ = ["Callback", "as_callbacks", "check_monitors", "monitored", "say", "METRIC", "MODE"]

METRIC = Text("the name of a metric, such as 'val_loss'")
MODE = OneOf(("auto", "min", "max"))
_RISING = "accuracy", "auc", "precision", "recall", "specificity", "f1"


class Callback:
    """What happens between epochs and between batches. Override any of these; `on_epoch_end` returns True, or sets
    `model.stop_training` to True, to end training."""

    saves = False           # whether it keeps the model of a run, and what other callbacks remember: Checkpoint
    reports = True          # whether to write files and lines: False where another of several processes does

    def on_train_begin(self, model):
        """Before the first epoch."""

    def on_epoch_begin(self, model, epoch):
        """Before epoch number `epoch`, counted from 1; not again where an epoch is taken up in its middle."""

    def on_epoch_end(self, model, epoch, metrics):
        """After an epoch and its validation; `metrics` is the epoch's dict in `model.history`."""

    def on_train_batch_begin(self, model, batch):
        """Before batch number `batch` of the epoch, counted from 1."""

    def on_train_batch_end(self, model, batch, metrics):
        """After a batch and its update; `metrics` are the means over the epoch's batches so far."""

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
_MEANINGS = {"model": "model", "epoch": "epoch", "batch": "batch", "metrics": "metrics", "logs": "metrics"}


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
                             "is the Sequential, and epochs and batches count from 1. A callback of Keras must be "
                             f"written anew: def {name}(self, {', '.join(arguments)}).")


def monitored(metrics, monitor, mode="auto"):
    """Return the value of a metric with the sign that makes less better, infinity where it is undefined.

    Raises InputError where there is no such metric. By itself a loss improves downwards, and a rate of right decisions
    upwards.
    """
    if monitor not in metrics:
        raise InputError(f"monitor: there is no {monitor!r} in this training, only {', '.join(metrics)}."
                         + nearest(monitor, metrics) + (" Give fit a validation set." if "val_" in monitor else ""))
    value = metrics[monitor]
    rising = mode == "max" or mode == "auto" and monitor.endswith(_RISING)
    return math.inf if value is None else -value if rising else value


def say(line, verbose):
    """Print a line on stderr, where `verbose` is true."""
    Progress(0, "", enabled=bool(verbose)).say(line)


def check_monitors(callbacks, metrics, validation):
    """Raise InputError, before training, where one of our callbacks monitors a metric that there will not be.

    Parameters
    ----------
    metrics : list of str; the names of the metrics of an epoch; those that begin with val_ need the validation data
    validation : validation data, or None
    """
    here = dict.fromkeys(name for name in metrics if validation is not None or not name.startswith("val_"))
    for callback in sorted(callbacks, key=lambda callback: callback.saves):     # as they are called
        if not str(getattr(callback.on_epoch_end, "__module__", None)).startswith("minicnn.callbacks."):
            return                          # it may add a metric, which those after it know
        if getattr(callback, "monitor", None) is not None:
            # Without validation data a Checkpoint keeps no best one.
            monitored(dict.fromkeys(metrics) if callback.saves else here, callback.monitor)
