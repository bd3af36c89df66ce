"""What a Keras user types: other names of optimizers, losses, metrics and arguments, and what to type for the rest.

docs/KERAS.md has the table of what works; the other names of layers are in layers.ALIASES.
"""

import inspect
from collections.abc import Mapping

from minicnn.core.arguments import Flag, Real, check
from minicnn.errors import InputError, nearest, printable
from minicnn.losses import get_loss
from minicnn.optimizers.adaptive import OPTIMIZERS

__all__ = ["as_optimizer", "as_loss", "as_metrics", "in_order", "one_of", "refuse", "is_told"]

_LOSSES = {"mse": "mean_squared_error", "sparse_categorical_crossentropy": "categorical_crossentropy"}
_RATES = ["accuracy", "auc", "precision", "recall", "specificity", "f1"]
# {argument of Keras that there is not: what to do}
_INSTEAD = {
    "weighted_metrics": "Weights of samples count in the loss alone.",
    "run_eagerly": "To step through the layers in a debugger, make the model with engine='reference'.",
    "jit_compile": "Leave it out: kernels are always compiled.",
    "steps_per_execution": "Leave it out.",
    "auto_scale_loss": "Leave it out: losses are in float32 or float64.",
    "validation_freq": "Validation data are measured after each epoch.",
    "validation_batch_size": "Validation data are measured in batches of batch_size.",
    "use_multiprocessing": "Threads prepare batches: workers=2.",
    "max_queue_size": "Threads prepare batches, two ahead each: workers=2.",
    "callbacks": "Only fit calls callbacks.",
    "by_name": "Weights are always read by their names; all must be there.",
    "skip_mismatch": "All weights must fit. To take some: layer.set_weights(other.layers[0].get_weights()).",
    "custom_objects": "A file names no code. Build the model in code and use model.load_weights(path).",
    "compile": "A model is loaded compiled, as it was saved; compile it again to train otherwise.",
    "overwrite": "A file that is there is replaced, as a whole.",
    "save_format": "The format is safetensors.",
    "include_optimizer": "The optimizer is always saved with the model; save_weights writes the weights alone.",
}


def as_optimizer(optimizer):
    """Return an optimizer by its name, with the arguments that it has by itself; an object is returned as it is.

    >>> as_optimizer("rmsprop")
    RMSprop(learning_rate=0.001, rho=0.9, momentum=0.0, epsilon=1e-07)
    """
    if isinstance(optimizer, str):
        made = {name.lower(): kind for name, kind in OPTIMIZERS.items()}
        if optimizer.lower() not in made:
            raise InputError(f"compile: optimizer must be one of {', '.join(made)}, got {printable(repr(optimizer))}."
                             f"{nearest(optimizer, made)}")
        return made[optimizer.lower()]()
    if isinstance(optimizer, type) or not hasattr(optimizer, "step"):
        raise InputError("compile: expected an optimizer such as Adam(learning_rate=1e-3) or \"adam\", got "
                         f"{printable(repr(optimizer))[:80]}.")
    return optimizer


def as_loss(loss, names=(), shapes=(), weights=None):
    """Return a loss by one of its names; an object is returned as it is. Of several outputs, the JointLoss of their losses.

    Parameters
    ----------
    loss : str or Loss; for several outputs one for all, a list or a dict
    names, shapes : the names of several outputs, and their shapes without N
    weights : list or dict of float, or None where all weigh 1

    >>> as_loss("mse").name
    'mean_squared_error'
    """
    if not names:
        if weights is not None:
            raise InputError("compile: loss_weights weigh the losses of several outputs, and this model has one.")
        return get_loss(_LOSSES.get(loss, loss) if isinstance(loss, str) else loss)
    from minicnn.losses.joint import JointLoss, Output
    losses = in_order(loss, names, "compile", "a loss") if isinstance(loss, (list, tuple, Mapping)) else [loss] * len(names)
    weights = [1.0] * len(names) if weights is None else in_order(weights, names, "compile", "a loss weight")
    return JointLoss([Output(name, shape, as_loss(one), check("compile", f"loss_weights: {name}", weight, Real(0)))
                      for name, shape, one, weight in zip(names, shapes, losses, weights)])


def as_metrics(metrics, loss, output_shape):
    """Return the names of the metrics that each epoch is to be measured with, or None for those that are always.

    Raises InputError for those that there are not for this loss and these outputs.
    """
    if metrics is None:
        return None
    known = {name: [name] for name in _rates(loss, output_shape)}
    if hasattr(loss, "outputs"):        # a name alone stands for all outputs that it fits
        known = {}
        for prefix, output in zip(loss.prefixes, loss.outputs):
            for name in _rates(output.loss, output.shape):
                known.setdefault(name, []).append(f"{prefix}_{name}")
                known[f"{prefix}_{name}"] = [f"{prefix}_{name}"]
        metrics = _of_outputs(metrics, loss)
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    for name in names:
        if not isinstance(name, str):
            raise InputError(f"compile: metrics: expected names such as 'accuracy', got {printable(repr(name))[:80]}. A "
                             "metric of your own is measured by a callback: metrics['mine'] = ... in its on_epoch_end.")
        if name not in known:
            near = "accuracy" if name.lower().endswith(("acc", "accuracy")) else name
            raise InputError(f"compile: metrics: {printable(repr(name))} is not measured with {loss.name} on outputs of "
                             f"shape {output_shape}, only {', '.join(known) or 'the loss'}.{nearest(near, known)}")
    return list(dict.fromkeys(full for name in names for full in known[name]))


def _rates(loss, output_shape):
    return _RATES if loss.one_hot or loss.head == "Sigmoid" and output_shape == (1,) else ["accuracy"] if loss.classifies else []


def _of_outputs(metrics, loss):
    """Return the metrics of several outputs in one list, from a dict, or a list of as many lists."""
    names = [output.name for output in loss.outputs]
    if isinstance(metrics, Mapping):
        metrics = in_order(dict.fromkeys(names, ()) | dict(metrics), names, "compile", "metrics")
    elif isinstance(metrics, str) or not any(isinstance(one, (list, tuple)) for one in metrics):
        return metrics
    lists = [[one] if isinstance(one, str) else one or () for one in in_order(metrics, names, "compile", "metrics")]
    return [f"{prefix}_{name}" for prefix, own in zip(loss.prefixes, lists) for name in own]


def in_order(given, names, owner, what):
    """Return a list with one of `what` for each of several inputs or outputs, from a list in their order, or a dict.

    >>> in_order({"age": 2, "image": 1}, ["image", "age"], "fit", "x")
    [1, 2]
    """
    several = f"{owner}: expected {what} for each of {', '.join(names)}: a list, or a dict by name"
    if isinstance(given, Mapping):
        strange = [name for name in given if name not in names]
        if strange:
            raise InputError(f"{several}; got {printable(repr(strange[0]))[:80]}.{nearest(strange[0], names)}")
        if len(given) < len(names):
            raise InputError(f"{several}; got none for {', '.join(name for name in names if name not in given)}.")
        return [given[name] for name in names]
    if not isinstance(given, (list, tuple)):
        raise InputError(f"{several}; got one {type(given).__name__}.")
    if len(given) != len(names):
        raise InputError(f"{several}; got {len(given)}.")
    return list(given)


def one_of(owner, **given):
    """Return the one of several arguments of one meaning that is given, or None.

    >>> one_of("fit", t=None, y=[1])
    [1]
    """
    there = [name for name, value in given.items() if value is not None]
    if len(there) > 1:
        raise InputError(f"{owner}: {there[0]} and {there[1]} are the same argument. Give one.")
    return given[there[0]] if there else None


def is_told(verbose, progress):
    """Return whether to report progress, from Keras' `verbose` (0, 1, 2 or "auto"), where it is given."""
    if verbose is None or verbose == "auto":
        return progress
    if isinstance(verbose, str) or verbose not in (0, 1, 2):
        raise InputError(f"fit: verbose must be 0, 1, 2 or 'auto', got {printable(repr(verbose))[:80]}.")
    return Flag()(bool(verbose))


def refuse(function, others):
    """Raise InputError for the first of the arguments `others`, which a function does not have.

    >>> def fit(x, epochs=1, **others): refuse(fit, others)
    >>> fit(1, epoch=2)
    Traceback (most recent call last):
    minicnn.errors.InputError: fit: there is no argument 'epoch'. Did you mean 'epochs'?
    """
    for name in others:
        known = [parameter for parameter in inspect.signature(function).parameters if parameter not in ("self", "others")]
        hint = f" {_INSTEAD[name]}" if name in _INSTEAD else nearest(name, known)
        raise InputError(f"{function.__name__}: there is no argument {printable(name)!r}.{hint}")
