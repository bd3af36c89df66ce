"""What fit, predict and evaluate take, made into datasets and encoded targets that the network of a model fits.

A network has one array in and one out. Several inputs, several targets, are lists or dicts here, and joined.
"""

import hashlib
from collections.abc import Mapping

import numpy as np

from minicnn.callbacks.base import say
from minicnn.core.arguments import Real, Whole
from minicnn.core.memory import join
from minicnn.core.validation import as_array, check_batch, check_finite
from minicnn.data.batches import Batches, is_batches
from minicnn.data.labels import encode_targets
from minicnn.data.loader import ArrayDataset, JoinedDataset, Subset, check_scale, open_dataset
from minicnn.data.preprocessing import Preprocessing
from minicnn.data.sharing import share_dataset
from minicnn.data.split import split_groups
from minicnn.errors import DTypeError, InputError, ShapeError, nearest
from minicnn.keras_names import in_order

__all__ = ["as_dataset", "encoded", "labelled", "training_data", "validation_data", "one_batch", "opened_once",
           "sample_weights", "weights_of_samples", "widen"]


def as_dataset(model, x, verb, workers=None, progress=False):
    """Return x as a dataset whose samples the network takes; preprocessing is the model's once it has one."""
    network = model.network
    if model.input_names:
        parts = in_order(x, model.input_names, verb, "arrays x")
        data = JoinedDataset([ArrayDataset(part, shape=shape, owner=f"{verb}, input {name!r}") for part, name, shape in
                              zip(parts, model.input_names, model.input_shape)], verb)
        check_scale(data, model.input_range, verb)
        return data
    preprocessing, shape = model.preprocessing, network.shapes[getattr(x, "begin", 0)]
    needed = preprocessing is None and not isinstance(x, np.ndarray)
    if needed and len(shape) == 3 and shape[2] in (1, 3):
        preprocessing = Preprocessing(*shape)
    data = open_dataset(x, preprocessing, model.classes, verb, workers, progress)
    if data is not x and isinstance(data, ArrayDataset):
        data.keep_pixels = network.takes_pixels
    if data.shape != shape:
        check_batch(np.empty((len(data),) + data.shape, np.bool_), shape, verb, "x")
    check_scale(data, model.input_range, verb)
    return data


def opened_once(model, x, group, verb, workers, progress):
    """Return a Manifest as a dataset that rank 0 of a group has opened, so that images are decoded once; all else as it is."""
    if group.size == 1 or not (hasattr(x, "open") and hasattr(x, "labels")):
        return x
    group.same(verb, images=len(x), labels=hashlib.sha256(x.labels.tobytes()).hexdigest()[:16])
    return share_dataset(group, as_dataset(model, x, verb, workers, progress) if group.rank == 0 else None)


def widen(model, data):
    """Note the range of images to train on."""
    given = getattr(data, "range", None)
    if given is not None:
        low, high = model.input_range or given
        model.input_range = min(low, given[0]), max(high, given[1])


def labelled(model, x, t, verb, workers=None, progress=False):
    """Return (data, encoded targets) of x with t, or of a manifest with its labels; the model adopts its classes."""
    data = as_dataset(model, x, verb, workers, progress)
    targets = encoded(model.loss, data.labels if t is None else t, model.network.output_shape, model.dtype, len(data), verb)
    if data.classes is not None:
        if model.classes is None:
            model.classes = tuple(data.classes)
        elif tuple(data.classes) != model.classes:
            raise InputError(f"{verb}: the data's classes are {', '.join(data.classes)}, the model's "
                             f"{', '.join(model.classes)}. Name them in the model's order: classes=[...].")
    if data.preprocessing is not None:
        model.preprocessing = data.preprocessing
    return data, targets


def encoded(loss, t, shape, dtype, n, owner):
    """Return the targets t of n samples as the loss wants them, for outputs of `shape`."""
    if t is None:
        raise InputError(f"{owner}: expected targets beside x.")
    if hasattr(loss, "outputs"):
        parts = in_order(t, [output.name for output in loss.outputs], owner, "targets")
        return join([encoded(output.loss, part, output.shape, dtype, n, f"{owner}, output {output.name!r}")
                     for part, output in zip(parts, loss.outputs)])
    try:
        t = encode_targets(t, shape, loss, dtype)
    except (InputError, ShapeError) as error:
        raise type(error)(f"{owner}: {error}") from None
    if len(t) != n:
        raise ShapeError(f"{owner}: {n} samples, but {len(t)} targets.")
    return t


def one_batch(model, x, t, weights, owner):
    """Return (x as a dataset, x, t, weights) of one batch, for a step of training."""
    # As in fit and predict, uint8 means pixels from 0 to 255.
    if model.input_names:
        data = as_dataset(model, x, owner)
    else:
        data = ArrayDataset(x, shape=model.input_shape, owner=owner)
        data.keep_pixels = model.network.takes_pixels
    x = data.batch(np.arange(len(data)))
    x = x if x.dtype == np.uint8 else as_array(x, owner, "x", model.dtype)
    t = encoded(model.loss, t, model.network.output_shape, model.dtype, len(x), owner)
    return data, x, t, weights_of_samples(weights, len(x), owner, "sample_weight")


def training_data(model, x, t, sample_weight, share, workers, progress):
    """Return (data, targets, weights, validation data or None), split at `share` where it is above 0."""
    data, targets = labelled(model, x, t, "fit", workers, progress)
    weights = weights_of_samples(sample_weight, len(targets), "fit", "sample_weight")
    if not share:
        return data, targets, weights, None
    label = _strata(model.loss, targets)
    manifest = getattr(data, "manifest", None)
    known = manifest is not None and any(manifest.patients)
    group = np.arange(len(targets)) if manifest is None else manifest.patient_groups(data.preprocessing, workers)
    sets = split_groups(group, label, (1 - share, share), model.seed, model.classes)
    say(f"validation_split={share:g}: {int(sets.sum()):,} of {len(sets):,} samples, drawn by the seed ({model.seed})"
        f"{' and stratified by class' if label.any() else ''}. " + (
            "Images of one patient stay together." if known else
            "Which are of one patient is not said: if some are, give validation data, or a Manifest with patients."),
        progress)
    parts = [np.flatnonzero(sets == number) for number in (0, 1)]
    chosen = [None if weights is None else weights[rows] for rows in parts]
    trained, held_out = ((Subset(data, rows), targets[rows], weight) for rows, weight in zip(parts, chosen))
    return *trained, held_out


def _strata(loss, targets):
    """Return the class of each sample; without classes a target on one side of the middle or the other, or 0.

    Of several outputs the first with classes tells.
    """
    for output in getattr(loss, "outputs", ()):
        width = int(np.prod(output.shape))
        if output.loss.classifies:
            return _strata(output.loss, targets[:, :width].reshape(len(targets), *output.shape))
        targets = targets[:, width:]
    if not loss.classifies:
        return np.zeros(len(targets), np.int64)
    return targets.argmax(axis=-1) if targets.ndim == 2 and targets.shape[1] > 1 else \
        (targets.reshape(len(targets), -1)[:, 0] > 0.5).astype(np.int64)


def validation_data(model, validation, steps, workers, progress):
    """Return (data, targets, weights) of what `fit` takes as validation data; batches are taken once, all."""
    owner = "fit, validation"
    if is_batches(validation):
        validation = Batches(validation, steps, owner, "validation_steps").collected()
    parts = tuple(validation) if isinstance(validation, (tuple, list)) else (validation,)
    x, t, weights = (*parts, None, None)[:3] if parts else (None,) * 3
    if len(parts) > 3 or t is None and not hasattr(x, "labels"):
        got = f"a {type(validation).__name__} of {len(parts)}" if isinstance(validation, (tuple, list)) else \
            f"{type(validation).__name__} without targets"
        raise InputError("fit, validation: expected (x, t), (x, t, weights), a Manifest or a dataset with labels, got "
                         f"{got}.")
    data, targets = labelled(model, x, t, owner, workers, progress)
    return data, targets, weights_of_samples(weights, len(targets), owner, "weights")


def weights_of_samples(weights, n, owner, argument):
    """Return a weight for each of n samples as float64, or None where there are none."""
    if weights is None:
        return None
    weights = as_array(weights, owner, argument, np.float64)
    check_finite(weights, owner, argument)
    if weights.shape != (n,):
        raise ShapeError(f"{owner}: expected {argument} of shape ({n},), got {weights.shape}.")
    return weights


def sample_weights(model, class_weight, targets, weights=None):
    """Return the weight of each sample, float64: of its class, times its own in `weights`; None where all are 1."""
    if class_weight is None:
        return weights
    if model.output_names:
        raise InputError("class_weight: classes of several outputs are weighed by no one number: leave it out, and weigh "
                         "the samples with sample_weight, the outputs with compile(loss_weights=...).")
    several = targets.shape[1:] != (1,)
    n_classes = targets.shape[-1] if several else 2
    sure = np.isin(targets, (0, 1)).all() and (not several or (targets.sum(axis=-1) == 1).all())
    if targets.ndim != 2 or not sure and not (model.loss.one_hot if several else model.loss.head == "Sigmoid"):
        raise InputError(f"class_weight: each sample must be of one class, and with {model.loss.name} on outputs of shape "
                         f"{model.output_shape} the targets are none. Leave class_weight out.")
    classes = targets.argmax(axis=-1) if several else (targets[:, 0] > 0.5).astype(int)
    of_class = _class_weights(class_weight, classes, n_classes, model.classes)[classes]
    return of_class if weights is None else of_class * weights


def _class_weights(given, labels, n, names):
    """Return the weight of each of n classes, float64, from what `fit` takes as class_weight; `labels` are the samples'."""
    if isinstance(given, str):
        if given != "balanced":
            raise InputError("class_weight: expected a dict, one weight for each class, or 'balanced', got "
                             f"{given!r}.{nearest(given, ['balanced'])}")
        counts = np.bincount(labels, minlength=n)
        return len(labels) / (n * np.maximum(counts, 1))
    if not isinstance(given, Mapping) and not hasattr(given, "keys"):       # a pandas Series has keys
        try:
            values = as_array(given, "class_weight", "the list", np.float64)
        except (DTypeError, ShapeError) as error:
            raise InputError(f"{error} Give a dict, one weight for each class, or 'balanced'.") from None
        if values.shape != (n,):
            raise ShapeError(f"class_weight: expected one weight for each of {n} classes, got shape {values.shape}.")
        given = dict(enumerate(values.tolist()))
    table, said = np.ones(n), {}
    for key, value in dict(given).items():
        number = names.index(key) if names and key in names else key
        try:
            number, value = Whole(0, n - 1)(number), Real(0)(value)
        except (TypeError, ValueError):
            raise InputError(f"class_weight: expected a class (0 to {n - 1}" + (f", or {', '.join(names)}" if names else "")
                             + f") with a weight of at least 0, got {key!r}: {value!r}.") from None
        if number in said:
            raise InputError(f"class_weight: {said[number]!r} and {key!r} are the same class.")
        table[number], said[number] = value, key
    if not table.any():
        raise InputError("class_weight: expected a weight above 0 for at least one class, got 0 for all.")
    return table
