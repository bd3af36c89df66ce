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
from itertools import zip_longest
from typing import NamedTuple

from minicnn.core.untrusted import Archive, open_limited, parse_json, raising
from minicnn.errors import WeightsError
from minicnn.interop.keras import hdf5
from minicnn.interop.keras.layers import snake_case
from minicnn.interop.keras.network import keras_name, names_by_path
from minicnn.interop.matching import Group, fitting, pair, weights_by_layer
from minicnn.layers import LAYERS

__all__ = ["File", "Stored", "fill", "is_legacy", "named", "open_file", "paired", "stored"]

_MOST_BYTES, _MOST_CONFIG = 2**31, 2**23
_COUNTED = {snake_case(kind) for kind in LAYERS}            # what layers without a name are called, and counted by
_OF_ONE_SHAPE = {"bias", "gamma", "beta", "moving_mean", "moving_variance"}


class File(NamedTuple):
    """A file of Keras.

    Attributes
    ----------
    root : hdf5.Group
    config, training : dict or None; of the model, and of how it was compiled
    version : int, of Keras: 2 or 3
    """

    root: hdf5.Group
    config: dict | None
    training: dict | None
    version: int


class Stored(NamedTuple):
    """A layer of a file that has weights.

    Attributes
    ----------
    name : str
    path : str, where its arrays lie; of a legacy file the name of the layer, or of the nested model, in it
    kind : str, its class, such as conv2d; None where a file does not say
    arrays : {name: hdf5.Dataset}, in Keras' order
    is_named : bool, whether the name is the user's
    """

    name: str
    path: str
    kind: str | None
    arrays: dict
    is_named: bool


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
            version = root.text("keras_version") or (root["model_weights"].text("keras_version")
                                                     if "model_weights" in root.names else None)
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
    """Return ([Stored], [(name, sentence)] of what else there is): all layers of a file that have weights.

    Parameters
    ----------
    root : hdf5.Group
    names : what a model's layers are called; in a legacy file it decides whether a/b is a nested layer, or the layer a
    """
    rest = []
    if is_legacy(root):
        legacy = root["model_weights"] if "model_weights" in root.names else root
        layer_names = _texts(legacy, "layer_names") or []
        if len(set(layer_names)) < len(layer_names):
            raise ValueError("it names a layer twice")
        found = [one for name in layer_names for one in _legacy(legacy, name, names)]
        top = legacy.get("top_level_model_weights")
        if top is not None and _texts(top, "weight_names"):
            rest.append(("top_level_model_weights", "not used: weights of the model itself"))
        if "optimizer_weights" in root.names:
            rest.append(("optimizer_weights", _UNUSED["optimizer"]))
        return found, rest
    found = []
    for name in sorted(root.names, key=_by_number):
        if name in _UNUSED:
            rest.append((name, _UNUSED[name]))
        elif isinstance(root[name], hdf5.Group):
            _walk(root[name], name, (), True, found)
    if not found and not rest and "vars" not in root.names:
        raise ValueError("it holds no weights of Keras: neither layer_names nor layers/.../vars")
    return found, rest


_UNUSED = {"optimizer": "optimizer state: not used", "metrics": "state of metrics: not used"}


def _walk(group, path, around, is_named, found):
    """Append the layers below a group of a weights file, each with the names of the models around it."""
    own = group["vars"] if "vars" in group.names else None
    if isinstance(own, hdf5.Group):
        name, kind = own.text("name"), _by_number(path.rpartition("/")[2])[0]
        is_named = is_named and isinstance(name, str) and path != "vars"
        around = (*around, name)
        if own.names:
            arrays = _datasets(own, f"{path}/vars")
            found.append(Stored("/".join(around) if is_named else path, path, kind, arrays, is_named))
    elif path == "vars" and group.names:
        found.append(Stored(path, path, None, _datasets(group, path), False))
    for name in sorted(group.names, key=_by_number):
        if name != "vars" and isinstance(inner := group[name], hdf5.Group):
            _walk(inner, f"{path}/{name}", around, is_named, found)


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
    return [Stored(f"{layer}/{part}" if nested else layer, layer, None, arrays, True) for part, arrays in parts.items()]


# ---- Whose weights are whose -----------------------------------------------------------------------------------------

def named(groups, config):
    """Return the Stored of a weights file with the names and in the order that the config beside it has."""
    known = names_by_path(config)
    order = {path: i for i, path in enumerate(known)}
    groups = sorted(groups, key=lambda one: order.get(one.path, len(order)))
    return [one._replace(name=known[one.path], is_named=True) if one.path in known else one for one in groups]


def paired(groups, model, names=None, in_order=False):
    """Return [(Stored or None, layer or None, how)] for the layers of a model, whose names are strings (matching.pair).

    Where the names do not agree, the layers of each class are paired in order, for the paths of a weights file count them:
    in each nested model anew, so that only where groups come `in_order` of the model several of these can be told apart.
    The order of a graph is one thing in Keras and another here, but both count the names that are not given, conv2d_1, as its
    layers are made: where the given names agree, the others are paired by these counts (`_by_counts`).
    """
    layers = list(weights_by_layer(model))
    plain = {keras_name(layer): layer for layer in layers}      # what `save` called them
    called = Counter(one.name for one in groups)
    groups = [one if called[one.name] == 1 else one._replace(name=one.path, is_named=False) for one in groups]
    last = {one.name: one.name.rpartition("/")[2] for one in groups}
    once = Counter(last.values())           # layers of a nested model by their own names, where only one is called so

    def known(one):
        inner = last[one.name] if one.is_named and once[last[one.name]] == 1 else one.name
        return one.name if one.name in layers else plain.get(one.name, inner)
    ours = {one.name: known(one) for one in groups}
    ours = ours if len(set(ours.values())) == len(ours) else {name: name for name in ours}
    given = {ours.get(name, name): layer for name, layer in (names or {}).items()}
    found, how = pair([Group(ours[one.name], one) for one in groups], layers, given)
    found = [(group and group.arrays, layer) for group, layer in found]
    if how != "by name" and not model.network.is_chain:
        counted = _by_counts({ours[one.name]: one for one in groups if ours[one.name] not in given},
                             [layer for layer in layers if layer not in given.values()])
        if counted:
            return [(one, layer, "as names= says") for one, layer in found[:len(given)]] + counted
    if how == "by name" or not all(one.kind for one in groups):
        return [(one, layer, how) for one, layer in found]
    fixed = found[:len(given)]
    theirs = [one for one in groups if one.name not in [other.name for other, _ in fixed]]
    left = [layer for layer in layers if layer not in given.values()]
    kind_of = {layer.name: snake_case(type(layer).__name__) for layer in model.layers}
    result = [(one, layer, "as names= says") for one, layer in fixed]
    for kind in dict.fromkeys([*(one.kind for one in theirs), *map(kind_of.get, left)]):
        of_file = [one for one in theirs if one.kind == kind]
        of_model = [layer for layer in left if kind_of[layer] == kind]
        if not in_order and len({one.path.rpartition("/")[0] for one in of_file}) > 1:
            reason = "nested models come in no order here"
            result += [(one, None, reason) for one in of_file] + [(None, layer, reason) for layer in of_model]
        else:
            result += [(one, layer, "in order of its class") for one, layer in zip_longest(of_file, of_model)]
    return result


def _by_counts(groups, layers):
    """Return [(Stored or None, layer or None, how)] of {name: Stored} and names of layers; None where the given names disagree."""
    theirs, mine = ({name: counted for name in names if (counted := _by_number(name))[0] in _COUNTED} for names in (groups, layers))
    given, expected = [name for name in groups if name not in theirs], [name for name in layers if name not in mine]
    if not (set(given) <= set(expected) or set(expected) <= set(given)):
        return None
    found = [(groups[name], name if name in expected else None, "by name") for name in given]
    found += [(None, name, "by name") for name in expected if name not in given]
    for kind in dict.fromkeys(base for base, _ in [*theirs.values(), *mine.values()]):
        both = zip_longest(*(sorted((name for name in names if names[name][0] == kind), key=names.get) for names in (theirs, mine)))
        found += [(groups.get(name), layer, "in the order of their numbers") for name, layer in both]
    return found


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
    if name is None:
        for key, dataset in one.arrays.items():
            matching.add(_row(one, key), None, dataset.shape, f"not used: no layer for it, {how}", matched=False)
        return []
    held = dict(one.arrays)
    if len(held) == len(weights) + 1 and list(held.values())[-1].shape == () and (one.kind or "normalization") == "normalization":
        key, count = held.popitem()         # of Normalization
        matching.add(_row(one, key), name, count.shape, "not used: how many samples its mean is of")
    found, theirs = [], [key.rpartition("/")[2].partition(":")[0] for key in held]
    by_name = set(theirs) == set(weights)
    pairs = [(key, theirs[i] if by_name else list(weights)[i]) for i, key in enumerate(held)] \
        if len(theirs) == len(weights) else []
    if not pairs or any({mine, other} <= _OF_ONE_SHAPE and mine != other for (_, mine), other in zip(pairs, theirs)):
        for key, dataset in held.items():
            matching.add(_row(one, key), name, dataset.shape, f"not used: the layer has {', '.join(weights)}", matched=False)
        return []
    for key, mine in pairs:
        dataset, weight = held[key], weights[mine]
        array = f"not used: the layer has {weight.value.shape}" if dataset.shape != weight.value.shape else dataset.array()
        dtype, done = getattr(array, "dtype", None), "as it is"
        if not isinstance(array, str):
            array = fitting(array, weight)
        if mine == "moving_variance" and not isinstance(array, str) and (array < 0).any():
            array = "not used: a variance is negative"
        if isinstance(array, str):
            matching.add(_row(one, key), f"{name}/{mine}", dataset.shape, array, matched=False)
            continue
        if dtype != weight.value.dtype:
            done = f"{dtype} as {weight.value.dtype}"
        matching.add(_row(one, key), f"{name}/{mine}", dataset.shape, f"{done}, {how}")
        found.append((weight, array))
    return found


def _row(one, key):
    """Return the name of an array in the table: that of the layer, where it says more than the path."""
    return key if one.path.rpartition("/")[2] == one.name or not one.is_named or not key.startswith("layers/") else \
        f"{one.name} ({key})"
