"""Weights in the files of Keras: which layer of the file has which arrays, and how they are laid out.

    .keras        ZIP: config.json, metadata.json, model.weights.h5, or, here not read, model.weights.npz
    .weights.h5   layers/conv2d_1/vars/0, 1, ...: the path counts the layers of a class in the order of the model, the name is
                  the attribute `name` of vars, in files of Keras 3; nested models nest: layers/functional/layers/conv2d
    .h5           attributes layer_names and weight_names in the order of the model, of the root or of model_weights:
                  conv2d/conv2d/kernel:0; a whole model has model_config, training_config and optimizer_weights too

Which of them a file is is told by its content.
"""

import io
import re
from collections import Counter
from typing import NamedTuple

from minicnn.core.untrusted import Archive, open_limited, parse_json, raising
from minicnn.errors import WeightsError
from minicnn.interop.keras import hdf5
from minicnn.interop.keras.layers import snake_case
from minicnn.interop.keras.network import keras_name, names_by_path
from minicnn.interop.matching import BY_KIND, fitting, pair, weights_by_layer

__all__ = ["File", "Stored", "fill", "is_legacy", "named", "open_file", "paired", "stored"]

_MOST_BYTES, _MOST_CONFIG = 2**31, 2**23
_OF_ONE_SHAPE = {"bias", "gamma", "beta", "moving_mean", "moving_variance"}
_NO_ORDER = "nested models come in no order here"
_UNUSED = {"optimizer": "optimizer state: not used", "metrics": "state of metrics: not used"}


class File(NamedTuple):
    """A file of Keras: its content, what it says of the model and of its training, if it does, and Keras' version, 2 or 3."""

    root: hdf5.Group
    config: dict | None
    training: dict | None
    version: int


class Stored(NamedTuple):
    """A layer of a file that has weights.

    Attributes
    ----------
    name : str; its path where a weights file does not say the user's
    path : str, where its arrays lie; of a legacy file the name of the layer, or of the nested model, in it
    kind : str, its class, such as conv2d; None where a file does not say
    arrays : {name: hdf5.Dataset}, in Keras' order
    """

    name: str
    path: str
    kind: str | None
    arrays: dict


def open_file(path):
    """Return the File at a path; WeightsError where it is none of Keras'."""
    with raising(WeightsError, path):
        with open_limited(path, _MOST_BYTES) as file:
            data = file.read()
        if data.startswith(b"PK"):
            archive = Archive(io.BytesIO(data), _MOST_BYTES)
            if "model.weights.h5" not in archive.names and "model.weights.npz" in archive.names:
                raise ValueError("its weights lie in model.weights.npz; save the model in Keras again, which writes HDF5")
            config, metadata = (_parsed(archive.read(name)) for name in ("config.json", "metadata.json"))
            root = hdf5.read(archive.read("model.weights.h5"))
            training, version = config.get("compile_config"), metadata.get("keras_version")
        elif data.startswith(hdf5.SIGNATURE):
            root = hdf5.read(data)
            texts = [root.text(name) for name in ("model_config", "training_config")]
            config, training = (None if text is None else _parsed(text) for text in texts)
            version = root.text("keras_version")
        else:
            raise ValueError("it is neither a .keras archive nor an HDF5 file")
    return File(root, config, training if isinstance(training, dict) and training else None,
                2 if str(version).startswith(("1.", "2.")) else 3)


def _parsed(text):
    """Return the object that a JSON text holds."""
    if not isinstance(text, (str, bytes)) or len(text) > _MOST_CONFIG:
        raise ValueError("its config is no text, or too long")
    found = parse_json(text)
    if not isinstance(found, dict):
        raise ValueError("its config is no object")
    return found


# ---- What a file holds -----------------------------------------------------------------------------------------------

def is_legacy(root):
    """Whether a file is a legacy .h5."""
    return "model_weights" in root.names or _texts(root, "layer_names") is not None


def stored(root, names=()):
    """Return ([Stored], [(name, sentence, whether that is as it should be)]): the layers that have weights, and what else there is.

    Parameters
    ----------
    root : hdf5.Group
    names : what a model's layers are called; in a legacy file it decides whether a/b is a nested layer, or the layer a
    """
    found, rest = [], []
    if is_legacy(root):
        legacy = root["model_weights"] if "model_weights" in root.names else root
        layer_names = _texts(legacy, "layer_names") or []
        if len(set(layer_names)) < len(layer_names):
            raise ValueError("it names a layer twice")
        for name in layer_names:
            found += _legacy(legacy, name, names)
        top = legacy.get("top_level_model_weights")
        if top is not None and _texts(top, "weight_names"):
            rest.append(("top_level_model_weights", "not used: weights of the model itself", False))
        if "optimizer_weights" in root.names:
            rest.append(("optimizer_weights", _UNUSED["optimizer"], True))
        return found, rest
    for name in sorted(root.names, key=_by_number):
        if name in _UNUSED:
            rest.append((name, _UNUSED[name], True))
        elif isinstance(root[name], hdf5.Group):
            _walk(root[name], name, (), found)
    if not found and not rest and "vars" not in root.names:
        raise ValueError("it holds no weights of Keras: neither layer_names nor layers/.../vars")
    return found, rest


def _walk(group, path, around, found):
    """Append the layers below a group of a weights file; `around` are the names of the models around it, None where unsaid."""
    if path == "vars":          # of the model itself
        if group.names:
            found.append(Stored(path, path, None, _datasets(group, path)))
        return
    own = group["vars"] if "vars" in group.names else None
    if isinstance(own, hdf5.Group):
        name = own.text("name")
        around = (*around, name if isinstance(name, str) else None)
        if own.names:
            name = path if None in around else "/".join(around)
            found.append(Stored(name, path, _by_number(path.rpartition("/")[2])[0], _datasets(own, f"{path}/vars")))
    for name in sorted(group.names, key=_by_number):
        if name != "vars" and isinstance(inner := group[name], hdf5.Group):
            _walk(inner, f"{path}/{name}", around, found)


def _datasets(group, path):
    """Return {path: Dataset} of the arrays of `vars`, in order."""
    arrays = {f"{path}/{name}": group[name] for name in sorted(group.names, key=_by_number)}
    for name, array in arrays.items():
        if not isinstance(array, hdf5.Dataset):
            raise ValueError(f"{name[:80]!r} is no array")
    return arrays


def _by_number(name):
    """Return what sorts conv2d, conv2d_2, conv2d_10 and 2, 10 in this order: the name without its number, and that.

    >>> sorted(["conv2d_10", "conv2d", "conv2d_2"], key=_by_number), sorted(["10", "2"], key=_by_number)
    (['conv2d', 'conv2d_2', 'conv2d_10'], ['2', '10'])
    """
    base, number = re.fullmatch(r"(.*?)_?(\d{1,9})?", name, re.DOTALL).groups()
    return (base, int(number) + 1) if number and (not base or name == f"{base}_{number}") else (name, 0)


def _texts(group, name):
    """Return an attribute that is a list of texts, which Keras splits where it is long: layer_names0, layer_names1, ..."""
    found = group.text(name)
    if found is None:
        parts, i = [], 0
        while (part := group.text(f"{name}{i}")) is not None:
            parts += [part] if isinstance(part, str) else part
            i += 1
        return parts if i else None
    return [found] if isinstance(found, str) else found


def _legacy(group, layer, names):
    """Return the Stored of a layer of a legacy file; of a nested model, those of its layers."""
    if layer not in group.names:
        raise ValueError(f"it names a layer that it does not hold, {layer[:80]}")
    parts = {}
    for name in _texts(group[layer], "weight_names") or []:
        found = group[layer].get(name)
        if not isinstance(found, hdf5.Dataset):
            raise ValueError(f"it names a weight that it does not hold, {name[:80]}")
        parts.setdefault(name.rpartition("/")[0].rpartition("/")[2], {})[f"{layer}/{name}"] = found
    nested = len(parts) > 1 or any(f"{layer}/{part}" in names for part in parts)
    return [Stored(f"{layer}/{part}" if nested else layer, layer, None, arrays) for part, arrays in parts.items()]


# ---- Whose weights are whose -----------------------------------------------------------------------------------------

def named(groups, config):
    """Return the Stored of a weights file with the names and in the order that the config beside it has."""
    known = names_by_path(config)
    order = {path: i for i, path in enumerate(known)}
    groups = sorted(groups, key=lambda one: order.get(one.path, len(order)))
    return [one._replace(name=known[one.path]) if one.path in known else one for one in groups]


def paired(groups, model, names=None, in_order=False):
    """Return [(Stored or None, layer or None, how)] for the layers of a model, whose names are strings (matching.pair).

    Where the names do not agree, the layers of each class are paired in order, for the paths of a weights file count them:
    in each nested model anew, so that only where groups come `in_order` of the model several of these can be told apart.
    """
    layers = list(weights_by_layer(model))
    plain = {keras_name(layer): layer for layer in layers}      # what `save` called them

    def ours(name):
        return plain.get(name, name)
    called = Counter(ours(one.name) for one in groups)
    known = {ours(one.name) if called[ours(one.name)] == 1 else one.path: one for one in groups}
    if len(known) < len(groups):
        raise ValueError("two of its layers have one name")
    given = {ours(name): layer for name, layer in (names or {}).items()}
    kinds = None
    if all(one.kind for one in groups):         # as in a weights file
        kinds = ({name: one.kind for name, one in known.items()},
                 {layer.name: snake_case(type(layer).__name__) for layer in model.layers})
    found = [(known.get(name), layer, how) for name, layer, how in pair(list(known), layers, given, kinds)]
    if in_order or kinds is None:
        return found
    models, result = {}, []         # {class: the models in which its layers lie}
    for one, _, how in found:
        if one and how == BY_KIND:
            models.setdefault(one.kind, set()).add(one.path.rpartition("/")[0])
    for one, layer, how in found:
        apart = one and how == BY_KIND and len(models[one.kind]) > 1
        result += [(one, None, _NO_ORDER), (None, layer, _NO_ORDER)] if apart else [(one, layer, how)]
    return result


def fill(matching, one, name, weights, how):
    """Add the rows of a layer to a table; return [(Parameter, array)] of what fits.

    Parameters
    ----------
    one : Stored, or None where the file has none
    name : str, the layer's, or None
    weights : {name: Parameter} of the layer
    how : str, how they were paired
    """
    if one is None:
        for key, weight in weights.items():
            matching.add(None, f"{name}/{key}", weight.value.shape, f"not found in the file, {how}", matched=False)
        return []
    held, found = dict(one.arrays), []
    last = list(held)[-1]
    if weights and one.kind in (None, "normalization") and len(held) == len(weights) + 1 and held[last].shape == ():
        matching.add(_row(one, last), name, (), "not used: how many samples the mean of Normalization is of")
        del held[last]
    pairs = _pairs(list(held), list(weights))
    for key, dataset in held.items():
        row, shape, weight = _row(one, key), dataset.shape, weights.get(pairs.get(key))
        if weight is None:
            why = f"no layer for it, {how}" if name is None else f"the layer has {', '.join(weights)}"
            matching.add(row, name, shape, f"not used: {why}", matched=False)
            continue
        where = f"{name}/{pairs[key]}"
        if shape != weight.value.shape:         # and is not read
            matching.add(row, where, shape, f"not used: the layer has {weight.value.shape}", matched=False)
            continue
        array = dataset.array()
        fits = fitting(array, weight)
        if isinstance(fits, str):
            matching.add(row, where, shape, fits, matched=False)
            continue
        done = "as it is" if array.dtype == fits.dtype else f"{array.dtype} as {fits.dtype}"
        matching.add(row, where, shape, f"{done}, {how}")
        found.append((weight, fits))
    return found


def _pairs(keys, weights):
    """Return {key of an array: name of a weight}: by their names, else in order where no two names say otherwise; or {}."""
    theirs = [key.rpartition("/")[2].partition(":")[0] for key in keys]
    if set(theirs) == set(weights):
        return dict(zip(keys, theirs))
    mixed_up = any(mine != other and {mine, other} <= _OF_ONE_SHAPE for mine, other in zip(weights, theirs))
    return {} if mixed_up or len(keys) != len(weights) else dict(zip(keys, weights))


def _row(one, key):
    """Return the name of an array in the table: that of the layer too, where the path does not say it."""
    says = one.name in (one.path, one.path.rpartition("/")[2])
    return key if says or not key.startswith("layers/") else f"{one.name} ({key})"
