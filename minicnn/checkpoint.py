"""Checkpoints: the content of a model file, how it is written, and how it is checked, for it is untrusted when read.

    arrays                                              strings, each JSON
    conv2d_1/kernel, ...  parameters and statistics     architecture   layers from a closed table, with their numbers
    optimizer/t, optimizer/m/conv2d_1/kernel, ...       optimizer, loss
    training_images  (n, 32), SHA-256 of each file      classes, preprocessing, history
      and of its pixels
    callbacks/0/weights/0, ...                          input_range    of images, where it is known
                                                        position       in the middle of an epoch only
                                                        callbacks      their state, in checkpoints of a run only

weights.py turns these into bytes. They hold no time, host or path: equal training gives equal bytes.
"""

import json
import math
import re
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

import numpy as np

from minicnn import weights
from minicnn.core.arguments import Flag, OrNone, Real, Whole, check, check_all
from minicnn.core.untrusted import check_fields, parse_json
from minicnn.data.labels import check_classes
from minicnn.data.preprocessing import Preprocessing
from minicnn.errors import InputError, MiniCNNError, NonFiniteError, WeightsError, printable
from minicnn.layers import LAYERS, Layer
from minicnn.layers.nodes import inferred
from minicnn.optimizers.adaptive import OPTIMIZERS
from minicnn.regularizers import L2

__all__ = ["Content", "Position", "save", "save_weights", "read", "refusing", "architecture_of"]

_FORMAT = "minicnn model 1"
_MOST_LAYERS = 1000
_POSITION = {"samples": OrNone(Whole()), "batch_size": OrNone(Whole()), "steps_per_epoch": OrNone(Whole()), "shuffle": Flag(),
             "batch": Whole(), "loss": Real(-math.inf, math.inf, "()"), "right": Real(0), "seen": Whole()}


@dataclass
class Position:
    """The position of training within an epoch: the settings of the epoch, and the sums over its batches so far.

    Attributes
    ----------
    samples, batch_size, steps_per_epoch, shuffle : of the epoch; training resumes only with the same. Batches that come
        from elsewhere (data/batches.py) have neither a number of samples nor a size
    batch : number of batches done
    loss, right, seen : sums over the samples of these batches: of losses, of correct predictions, of samples
    others : dict; sums of further means over the samples, by name: the losses of several outputs
    outputs, targets : lists of ndarray, those of each batch, where a metric needs them
    """

    samples: int | None
    batch_size: int | None
    steps_per_epoch: int | None
    shuffle: bool
    batch: int = 0
    loss: float = 0.0
    right: float = 0.0
    seen: int = 0
    others: dict = field(default_factory=dict)

    def __post_init__(self):
        self.outputs, self.targets = [], []

    def keep(self, outputs, targets):
        """Keep the outputs and targets of a batch, copies."""
        self.outputs.append(np.array(outputs))
        self.targets.append(np.array(targets))

    @property
    def steps(self):
        """Batches of the whole epoch."""
        return self.steps_per_epoch or -(-self.samples // self.batch_size)

    def add(self, n, loss, right, others):
        """Add a batch of n samples with its mean loss, its accuracy and other means, a dict."""
        self.batch, self.seen = self.batch + 1, self.seen + n
        self.loss, self.right = self.loss + loss * n, self.right + right * n
        self.others = {name: self.others.get(name, 0.0) + mean * n for name, mean in others.items()}

    def check_same_epoch(self, other):
        """Raise InputError unless `other` is a position in an epoch with the same settings."""
        for name in ("samples", "batch_size", "steps_per_epoch", "shuffle"):
            mine, given = getattr(self, name), getattr(other, name)
            if mine != given:
                raise InputError(f"fit: the model is in the middle of an epoch (batch {self.batch} of {self.steps}) "
                                 f"with {name} = {mine}, now it is {given}. Continue with {mine}; or set "
                                 "model.position = None to restart that epoch with the present weights.")

    @classmethod
    def from_dict(cls, values):
        """Return the Position with these fields, or raise InputError."""
        check_fields("position", values, list(_POSITION), ["others"])
        others = values.pop("others", {})
        if not isinstance(others, dict) or not all(name.isidentifier() and _is_finite(total)
                                                   for name, total in others.items()):
            raise InputError("position: expected the finite sums of other losses.")
        position = cls(**check_all("position", _POSITION, values), others=others)
        if position.samples is None or position.batch_size is None:         # batches from elsewhere
            whole = position.samples is position.batch_size and position.steps_per_epoch is not None
            seen = position.seen if whole and position.seen >= position.batch else -1
        else:
            seen = position.batch * position.batch_size
            seen = seen if position.steps_per_epoch else min(seen, position.samples)
        if seen < 0 or position.batch > position.steps or position.seen != seen or position.right > seen:
            raise InputError("position: these are not the sums over the batches of an epoch.")
        return position


@dataclass
class Content:
    """The content of a model file, checked as far as possible without a network; see `check_arrays`.

    Attributes
    ----------
    name : str, of the file, for errors
    tensors : dict of str to ndarray
    architecture : dict
    history : list of dict
    classes : tuple of str, or None
    preprocessing : Preprocessing or None
    optimizer, loss : a new optimizer without its arrays, and the name of the loss; or both None
    position : Position or None
    stop, states : whether a callback has ended training, and the state of each (callbacks/)
    split : str or None; the SHA-256 of the split of the images
    input_range : (least, greatest) value of the images in training, or None where it is not known
    metrics : list of str, what the model was compiled to measure, or None
    loss_weights : list of float, where there are several outputs: `loss` is then a list of names too
    """

    name: str
    tensors: dict
    architecture: dict
    history: list
    classes: tuple | None
    preprocessing: Preprocessing | None
    optimizer: object | None
    loss: str | list | None
    position: Position | None
    stop: bool
    states: list
    split: str | None = None
    input_range: tuple | None = None
    metrics: list | None = None
    loss_weights: list | None = None

    def layers(self):
        """Return new layers, after checking that the file holds arrays of their shapes."""
        layers = []
        for config in self.architecture["layers"]:
            config = {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}
            kind, trainable = config.pop("type"), config.pop("trainable", True)
            if kind not in LAYERS:
                raise InputError(f"the layer {printable(config.get('name'))!r} is not one of minicnn's. Build the model "
                                 "in code and use model.load_weights(path).")
            for key in [key for key, value in config.items() if isinstance(value, dict)]:       # a regularizer
                check_fields(key, config[key], ["type", "l2"])
                config[key] = L2(config[key]["l2"])
            layers.append(LAYERS[kind](**config))
            layers[-1].trainable = trainable
        shape = tuple(check("architecture", "input_shape", size, Whole()) for size in self.architecture["input_shape"])
        for layer, (_, laws) in zip(layers, inferred(layers, shape, self.architecture.get("sources"))):
            for name, parameter_shape, _ in laws:
                array = self.tensors.get(f"{layer.name}/{name}")
                if array is None or array.shape != parameter_shape:
                    raise InputError(f"expected {printable(layer.name)}/{name} of shape {parameter_shape}.")
        return layers

    def check_arrays(self, network):
        """Raise WeightsError unless the file holds the arrays of this network and this optimizer, and no others."""
        expected = {key: (parameter.value.shape, parameter.value.dtype)
                    for key, parameter in network.named_parameters().items()}
        if self.optimizer is not None:
            expected |= {f"optimizer/{slot}/{key}": what for slot in self.optimizer.slots
                         for key, what in list(expected.items())}
            expected["optimizer/t"] = ((), np.dtype(np.int64))
        expected |= {key: (weight.value.shape, weight.value.dtype) for key, weight in network.named_weights().items()}
        images = self.tensors.get("training_images")
        if images is not None:
            expected["training_images"] = ((len(images) if images.ndim else 0, 32), np.dtype(np.uint8))
        if self.position is not None and "position/outputs" in self.tensors:
            what = (self.position.seen, *network.output_shape), network.dtype
            expected |= {"position/outputs": what, "position/targets": what}
        for key, (shape, dtype) in expected.items():
            _check_array(self.tensors, key, shape, dtype, self.name)
        unknown = [key for key in self.tensors if key not in expected and not key.startswith("callbacks/")]
        if unknown:
            raise WeightsError(f"{self.name}: the array {printable(unknown[0])!r} does not belong to this model.")
        squares = [key for key in self.tensors
                   if key.startswith(("optimizer/v/", "optimizer/v_hat/")) or "/moving_variance" in key]
        negative = [key for key in squares if (self.tensors[key] < 0).any()]
        if negative:
            raise WeightsError(f"{self.name}: {printable(negative[0])} holds mean squares; they cannot be negative.")
        if self.optimizer is not None and not 0 <= self.tensors["optimizer/t"] < 2**53:
            raise WeightsError(f"{self.name}: optimizer/t counts steps and cannot be {self.tensors['optimizer/t']}.")

    def check_goes_on(self, model, digests):
        """Raise InputError unless this is a checkpoint of such a model, trained on images with these digests."""
        here = json.loads(json.dumps(architecture_of(model)))
        parts = {name: (self.architecture[name], here[name]) for name in here}
        # What is frozen goes on as it was, as the learning rate does: a callback may have changed it.
        parts["layers"] = tuple([{key: layer[key] for key in layer if key != "trainable"} for layer in layers]
                                for layers in parts["layers"])
        parts |= {"loss": (self.loss, _loss_of(model)), "loss weights": (self.loss_weights, model.loss.weights),
                  "metrics": (self.metrics, model.metrics),
                  "optimizer": (_rule(self.optimizer), _rule(model.optimizer)), "classes": (self.classes, model.classes),
                  "preprocessing": (self.preprocessing, model.preprocessing), "split": (self.split, model.split_digest)}
        trained = self.tensors.get("training_images")
        parts["training images"] = (trained if trained is None else trained.tobytes(),
                                    digests if digests is None else digests.tobytes())
        different = [name for name, (saved, given) in parts.items() if saved != given]
        if different:
            raise InputError(f"{self.name}: this run was begun with other {', '.join(different)}. Give the same to "
                             "resume it, or another folder for a new run.")

    def optimizer_arrays(self, network):
        """Return (t, {slot: [array for each parameter]})."""
        return self.tensors["optimizer/t"], {slot: [self.tensors[f"optimizer/{slot}/{key}"]
                                                    for key in network.named_parameters()]
                                             for slot in self.optimizer.slots}


def architecture_of(model):
    """Return the description of a model's layers: their types, names and numbers, nothing that names code."""
    layers = [layer.config() if isinstance(layer, Layer) else {"type": "your own", "name": layer.name}
              for layer in model.layers]
    found = {"input_shape": list(model.network.input_shape), "dtype": str(model.dtype), "seed": model.seed, "layers": layers}
    return found if model.network.is_chain else found | {"sources": [list(taken) for taken in model.network.sources]}


def _loss_of(model):
    """Return the name of a model's loss, or the names of those of several outputs."""
    return model.loss.name if model.loss.weights is None else model.loss.names


def save(path, model, stop=False, states=(), private=True):
    """Write a model to `path` atomically (`private` as of write_atomic), with the state of callbacks where it is given.

    Raises
    ------
    CheckpointError
        if the file cannot be written; the old one is intact
    NonFiniteError
        if a number is NaN or infinite
    """
    tensors = {key: weight.value for key, weight in model.network.named_weights().items()}
    content = {"architecture": architecture_of(model), "history": model.history, "classes": model.classes,
               "preprocessing": None if model.preprocessing is None else model.preprocessing.to_dict()}
    if model.optimizer is not None:
        content |= {"loss": _loss_of(model), "optimizer": model.optimizer.config()}
        if model.loss.weights is not None:
            content["loss_weights"] = model.loss.weights
        tensors["optimizer/t"] = np.array(model.optimizer.t, np.int64)
        for slot, arrays in model.optimizer.state(model.network.parameters).items():
            tensors |= {f"optimizer/{slot}/{key}": array
                        for key, array in zip(model.network.named_parameters(), arrays)}
    if model.training_digests is not None:
        tensors["training_images"] = model.training_digests
    if model.metrics is not None:
        content["metrics"] = model.metrics
    if model.position is not None:
        content["position"] = {name: value for name, value in asdict(model.position).items() if value != {}}
        for name in ("outputs", "targets"):
            if kept := getattr(model.position, name):
                tensors[f"position/{name}"] = np.concatenate(kept)
    if model.split_digest is not None:
        content["split"] = model.split_digest
    if model.input_range is not None:
        content["input_range"] = model.input_range
    if stop or states:
        plain = []
        for i, (name, state) in enumerate(states):
            arrays = {key: value for key, value in state.items() if isinstance(value, np.ndarray)}
            tensors |= {f"callbacks/{i}/{key}": array for key, array in arrays.items()}
            plain.append({"type": name, "state": {key: state[key] for key in state if key not in arrays}})
        content["callbacks"] = {"stop": bool(stop), "states": plain}
    weights.save(path, tensors, {"format": _FORMAT} | {key: _as_json(key, value) for key, value in content.items()},
                 private)


def save_weights(path, network):
    """Write the weights of a network to `path` atomically; errors as of `save`."""
    weights.save(path, {key: weight.value for key, weight in network.named_weights().items()},
                 {"format": "minicnn weights 1"}, private=False)


def read(path, expect=None):
    """Return the Content of a file written by `save`; WeightsError where it is damaged or of another format.

    `expect` is the SHA-256 of the file, or None (weights.load).
    """
    tensors, metadata = weights.load(path, expect)
    name = printable(path)
    if metadata.get("format") != _FORMAT:
        raise WeightsError(f"{name}: expected the format {_FORMAT!r}, "
                           f"got {printable(metadata.get('format'))!r}. Was it written by another version?")
    with refusing(name):
        content = {key: parse_json(text) for key, text in metadata.items() if key != "format"}
        check_fields("the file", content, ["architecture", "history", "classes", "preprocessing"],
                     ["loss", "loss_weights", "optimizer", "position", "callbacks", "split", "input_range", "metrics"])
        stop, states = _states(content.get("callbacks", {"stop": False, "states": []}), tensors)
        preprocessing, position = content["preprocessing"], content.get("position")
        return Content(name, tensors, _architecture(content["architecture"]), _history(content["history"]),
                       _classes(content["classes"]),
                       None if preprocessing is None else Preprocessing.from_dict(preprocessing),
                       *_training(content.get("optimizer"), content.get("loss")),
                       None if position is None else Position.from_dict(position), stop, states,
                       _split(content.get("split")), _range(content.get("input_range")), content.get("metrics"),
                       content.get("loss_weights"))


@contextmanager
def refusing(name):
    """Turn any error in the description of a model into a WeightsError that names the file."""
    try:
        yield
    except WeightsError:
        raise
    except (MiniCNNError, KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise WeightsError(f"{name}: its description of the model cannot be used: {printable(error)}") from None


def check_parameters(tensors, network, name):
    """Raise WeightsError unless there is an array for each weight, of its shape and dtype, and finite."""
    for key, weight in network.named_weights().items():
        _check_array(tensors, key, weight.value.shape, weight.value.dtype, name)


# ---- Checks ----------------------------------------------------------------------------------------------------------

def _check_array(tensors, key, shape, dtype, name):
    array = tensors.get(key)
    if array is None or array.shape != shape or array.dtype != dtype:
        found = "nothing" if array is None else f"{array.shape} {array.dtype}"
        raise WeightsError(f"{name}: expected {key} of shape {shape} {dtype}, found {found}. "
                           "Is it the file of another network?")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise WeightsError(f"{name}: {key} holds NaN or infinity.")


def _split(digest):
    if digest is not None and not (isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest)):
        raise InputError(f"split: expected a SHA-256, got {printable(digest)[:80]!r}.")
    return digest


def _range(values):
    if values is not None and not (isinstance(values, list) and len(values) == 2 and all(map(_is_finite, values))
                                   and values[0] <= values[1]):
        raise InputError("input_range: expected two finite numbers, the smaller first.")
    return None if values is None else tuple(values)


def _architecture(values):
    check_fields("architecture", values, ["input_shape", "dtype", "seed", "layers"], ["sources"])
    if not isinstance(values["layers"], list) or not isinstance(values["input_shape"], list) \
            or not all(isinstance(layer, dict) and isinstance(layer.get("type"), str) for layer in values["layers"]):
        raise InputError("architecture: expected an input_shape and a list of layers.")
    if "sources" in values:
        _check_sources(values["sources"], [LAYERS.get(layer["type"]) for layer in values["layers"]])
    if not values["layers"]:
        raise InputError("architecture: expected at least one layer, got none.")
    if len(values["layers"]) > _MOST_LAYERS:
        raise InputError(f"architecture: {len(values['layers']):,} layers are too many, the limit is {_MOST_LAYERS:,}.")
    return values


def _check_sources(sources, layers):
    """Raise InputError unless each layer takes values made before it, and each value is taken."""
    if not isinstance(sources, (list, tuple)) or not all(isinstance(values, (list, tuple)) for values in sources):
        raise InputError("architecture: expected the sources of each layer, a list of lists of numbers.")
    sources = tuple(map(tuple, sources))
    several = [getattr(layer, "several", False) for layer in layers]
    if len(sources) != len(layers) or not all(
            all(type(value) is int and 0 <= value <= i for value in values) and (len(values) > 1) == merges and values
            for i, (values, merges) in enumerate(zip(sources, several))):
        raise InputError("architecture: each layer must take values that were made before it, one, or several to merge.")
    if set(range(len(layers))) - {value for values in sources for value in values}:
        raise InputError("architecture: what a layer makes is taken by none.")


def _history(rows):
    """Return the rows of a history: epochs counted from 1, finite numbers or None under names."""
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError("history: expected a list of epochs.")
    for number, row in enumerate(rows, 1):
        values = [value for value in row.values() if value is not None]
        if type(row.get("epoch")) is not int or row["epoch"] != number or not all(map(str.isidentifier, row)) \
                or not all(_is_finite(value) or type(value) is int and abs(value) < 2**53 for value in values):
            raise InputError(f"history: expected the finite metrics of epoch {number}.")
    return rows


def _classes(names):
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError("classes: expected names.")
    return check_classes(names)


def _training(config, loss):
    """Return (a new optimizer, the name of the loss or of several), or (None, None) for a model that was not compiled."""
    if config is None and loss is None:
        return None, None
    names = loss if isinstance(loss, list) else [loss]
    if not isinstance(config, dict) or config.get("type") not in OPTIMIZERS \
            or not all(isinstance(one, str) for one in names):
        raise InputError(f"optimizer: expected one of {', '.join(OPTIMIZERS)}, and a loss.")
    return OPTIMIZERS[config["type"]](**{key: value for key, value in config.items() if key != "type"}), loss


def _states(values, tensors):
    """Return (stop, [(type name, state)]), each state with its arrays."""
    check_fields("callbacks", values, ["stop", "states"])
    if type(values["stop"]) is not bool or not isinstance(values["states"], list):
        raise InputError("callbacks: expected whether to stop, and a list of states.")
    states = []
    for i, entry in enumerate(values["states"]):
        check_fields("callbacks", entry, ["type", "state"])
        prefix = f"callbacks/{i}/"
        arrays = {key.removeprefix(prefix): array for key, array in tensors.items() if key.startswith(prefix)}
        if not isinstance(entry["type"], str) or not isinstance(entry["state"], dict) \
                or set(arrays) & set(entry["state"]):
            raise InputError("callbacks: expected the type and the state of each.")
        states.append((entry["type"], entry["state"] | arrays))
    if sum(key.startswith("callbacks/") for key in tensors) != sum(isinstance(value, np.ndarray) for _, state in states
                                                                    for value in state.values()):
        raise InputError("callbacks: some arrays belong to none of them.")
    return values["stop"], states


def _rule(optimizer):
    """Return the settings of an optimizer without the learning rate, which a schedule changes."""
    return None if optimizer is None else {key: value for key, value in optimizer.config().items()
                                           if key != "learning_rate"}


def _is_finite(value):
    return type(value) is float and math.isfinite(value)


def _as_json(key, value):
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        raise NonFiniteError(f"save: {key} holds NaN or infinity; such numbers are never saved.") from None
    except TypeError as error:
        raise InputError(f"save: {key} must hold plain numbers, strings, lists and dicts: {error}.") from None
