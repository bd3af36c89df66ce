"""Whose weights are whose: the layers of a file, the layers of a model, and a table of what became of each array."""

from itertools import zip_longest

import numpy as np

from minicnn.core.arguments import Flag, check
from minicnn.core.text import grid, shortened
from minicnn.errors import InputError, WeightsError, nearest, printable

__all__ = ["BY_KIND", "Matching", "check_options", "fitting", "pair", "weights_by_layer"]

BY_KIND = "in order of its class"


class Matching:
    """A table of what became of each array of a file and each weight of a model; its text is the table.

    Attributes
    ----------
    rows : list of (name in the file, layer, shape in the file, what was done), all str; "-" where there is none
    unmatched : int; rows that say of something that it was not used, or not found
    lacking : int; those of them that are about a weight of the model

    >>> matching = Matching("model.h5")
    >>> matching.add("conv2d/kernel", "conv2d_1/kernel", (3, 3, 1, 8), "as it is")
    >>> matching.add("top_level", None, (4,), "not used", matched=False)
    >>> print(matching)
    name in the file  layer            shape         what was done
    conv2d/kernel     conv2d_1/kernel  (3, 3, 1, 8)  as it is
    top_level         -                (4,)          not used
    """

    def __init__(self, path):
        self.path, self.rows, self.unmatched, self.lacking = printable(path), [], 0, 0

    def add(self, name, layer, shape, done, matched=True):
        """Add a row; `name` or `layer` may be None, and shape."""
        self.rows.append(tuple("-" if part is None else shortened(str(part), 80) for part in (name, layer, shape, done)))
        self.unmatched += not matched
        self.lacking += not matched and layer is not None

    def __str__(self):
        return "\n".join(grid([("name in the file", "layer", "shape", "what was done"), *self.rows]))

    def check(self, strict, advice="Give names={name in the file: layer}, or strict=False to take what fits."):
        """Raise WeightsError with the table where something is unmatched, or with "model" where a weight of the model is; print
        it instead where not `strict`."""
        if not (self.lacking if strict == "model" else self.unmatched):
            return
        if strict:
            raise WeightsError(f"{self.path}: {self.unmatched} of {len(self.rows)} rows do not fit this model. Nothing was changed. "
                               f"{advice}\n{self}")
        print(self)


def check_options(strict, names):
    """Raise InputError where arguments of `load_weights` are of the wrong type."""
    if strict != "model":
        check("load_weights", "strict", strict, Flag())
    if names is not None and not isinstance(names, dict):
        raise InputError(f"load_weights: names must be a dict, {{layer in the file: layer}}, got {type(names).__name__}.")


def weights_by_layer(model):
    """Return {name of a layer that has weights: {name of a weight: Parameter}} of a model, in the order of its layers."""
    found = {}
    for key, weight in model.network.named_weights().items():
        layer, _, name = key.rpartition("/")
        found.setdefault(layer, {})[name] = weight
    return found


def pair(groups, layers, names=None, kinds=None):
    """Return [(group or None, layer or None, how)]: which layer of a file is which of a model, all by their names.

    By `names`, {group: layer}, what it names. The rest by name, if all of the file's are in the model or all of the
    model's in the file: names such as conv2d_1 are numbered in each session, and some that agree prove nothing. Otherwise in
    order, and `how` says so: the caller checks the shapes of each pair. With `kinds`, ({group: kind}, {layer: kind}), the first
    of a kind goes with the first of that kind, and so on.

    Parameters
    ----------
    groups, layers : the names of the layers that have weights, of the file and of the model, in their orders

    >>> pair(["a", "b"], ["b", "a", "c"])
    [('a', 'a', 'by name'), ('b', 'b', 'by name'), (None, 'c', 'by name')]
    >>> pair(["conv2d"], ["conv2d_1"])
    [('conv2d', 'conv2d_1', 'in order')]
    >>> pair(["bn", "conv"], ["c", "b"], kinds=({"bn": 1, "conv": 0}, {"c": 0, "b": 1}))
    [('conv', 'c', 'in order of its class'), ('bn', 'b', 'in order of its class')]
    """
    found, theirs, ours = [], dict.fromkeys(groups), dict.fromkeys(layers)
    for name, layer in (names or {}).items():
        for what, choices, given in (("the file", groups, name), ("the model", layers, layer)):
            if given not in choices:
                raise InputError(f"names: there is no layer {printable(given)!r} with weights in {what}.{nearest(given, choices)}")
        if layer not in ours:
            raise InputError(f"names: the layer {layer!r} is named twice.")
        found.append((name, layer, "as names= says"))
        del theirs[name], ours[layer]
    if theirs.keys() <= ours.keys() or ours.keys() <= theirs.keys():
        return found + [(name if name in theirs else None, name if name in ours else None, "by name") for name in theirs | ours]
    of_group, of_layer = kinds or ({}, {})
    for kind in dict.fromkeys([*map(of_layer.get, ours), *map(of_group.get, theirs)]):
        both = zip_longest([name for name in theirs if of_group.get(name) == kind],
                           [name for name in ours if of_layer.get(name) == kind])
        found += [(group, layer, BY_KIND if kinds else "in order") for group, layer in both]
    return found


def fitting(array, weight):
    """Return an array in the dtype of a weight, or the reason, a str, why it does not fit."""
    if array.shape != weight.value.shape:
        return f"not used: the layer has {weight.value.shape}"
    if array.dtype.kind != "f":
        return f"not used: it holds {array.dtype}"
    with np.errstate(over="ignore"):
        array = array.astype(weight.value.dtype)
    if not np.isfinite(array).all():
        return "not used: it holds NaN or infinity"
    if weight.name == "moving_variance" and (array < 0).any():
        return "not used: a variance is negative"
    return array
