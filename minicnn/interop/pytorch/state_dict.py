"""Which array of a state_dict is which weight of a model, and how its axes lie.

    minicnn                                        PyTorch
    Conv2D kernel (KH, KW, C, F)                   weight (F, C, KH, KW)
    depthwise_kernel (KH, KW, C, M)                weight (C M, 1, KH, KW), of groups=C
    Dense kernel (in, out)                         weight (out, in)
    gamma, beta, moving_mean, moving_variance      weight, bias, running_mean, running_var

Vectors, and the rows and columns of dense layers, are in PyTorch's order (rows.py).
"""

import keyword
import re
from typing import NamedTuple

import numpy as np

from minicnn.errors import InputError
from minicnn.interop.matching import BY_KIND, Matching, fitting, pair, weights_by_layer
from minicnn.interop.pytorch.reading import read_arrays
from minicnn.interop.pytorch.rows import index_of, inverse, row_orders, type_of

__all__ = ["match", "slots", "state_dict", "module_names"]

_IN_A_LAYER = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}


# ---- The layers of a model, as PyTorch has them ----------------------------------------------------------------------

class Layout(NamedTuple):
    """`out` makes PyTorch's array of ours, `into` ours of PyTorch's; `said` is what the table says."""

    out: object
    into: object
    said: str


_SAME = Layout(lambda w: w, lambda w: w, "as it is")
_CONVOLUTION = Layout(lambda w: w.transpose(3, 2, 0, 1), lambda w: w.transpose(2, 3, 1, 0), "transposed from O,I,H,W")


def _depthwise(shape):
    KH, KW, C, M = shape
    return Layout(lambda w: w.transpose(2, 3, 0, 1).reshape(C * M, 1, KH, KW),
                  lambda w: w.reshape(C, M, KH, KW).transpose(2, 3, 0, 1), "transposed from C,1,H,W")


def _vector(order):
    index = index_of(order)
    return _SAME if order is None else Layout(lambda v: v[index], lambda v: v[inverse(index)], "reordered from C,H,W")


def _dense(order, made):
    rows, columns = index_of(order), index_of(made)
    said = "transposed" + ", its columns from C,H,W" * (order is not None) + ", its rows from C,H,W" * (made is not None)
    return Layout(lambda w: w[rows][:, columns].T, lambda w: w.T[inverse(rows)][:, inverse(columns)], said)


def _constant(order, rank):
    """The layout of a constant: PyTorch's has an axis for the batch, and images are channels first."""
    if rank == 3:
        return Layout(lambda v: v.transpose(2, 0, 1)[None], lambda v: v[0].transpose(1, 2, 0), "transposed from C,H,W")
    vector = _vector(order)
    return Layout(lambda v: vector.out(v)[None], lambda v: vector.into(v[0]), vector.said)


class Slot(NamedTuple):
    """What one module of PyTorch holds of a layer."""

    name: str           # the layer's, or of a SeparableConv2D its layer's and .depthwise or .pointwise
    layer: str
    module: str         # its name in the module that `save` writes
    kind: str           # it takes only arrays that PyTorch keeps in a module of such a kind
    weights: dict       # {name in PyTorch: (name here, Parameter, Layout)}
    constant: dict      # {name in PyTorch: the number that all of an array must be, which this layer does without}


def slots(model):
    """Return the list of Slot of a model's layers that have weights, in their order."""
    network, orders = model.network, row_orders(model.network)
    names, found, known = module_names(network), [], weights_by_layer(model)
    for i, layer in enumerate(network.layers):
        own = known.pop(layer.name, {})
        for part, kind, layouts in _modules(layer, own, orders[network.sources[i][0]], orders[i + 1]) if own else ():
            weights = {theirs: (f"{layer.name}/{ours}", own[ours], layout) for theirs, (ours, layout) in layouts.items() if ours in own}
            constant = {key: n for key, n in (("weight", 1), ("bias", 0)) if "norm" in kind and key not in weights}
            found.append(Slot(layer.name + part, layer.name, names[i] + part, kind, weights, constant))
    found += [Slot(name, name, name, "custom", {key: (f"{name}/{key}", weight, _SAME) for key, weight in own.items()}, {})
              for name, own in known.items()]           # of layers inside of custom ones
    return found


def _modules(layer, own, order, made):
    """Yield (end of its name, kind, {name in PyTorch: (name here, Layout)}) of each module that a layer is in PyTorch.

    `own` are its weights, and `order` and `made` the orders of the rows that it takes and makes (rows.py).
    """
    kind, bias = type_of(layer), {"bias": ("bias", _SAME)}
    if kind == "Conv2D":
        yield "", "convolution", {"weight": ("kernel", _CONVOLUTION)} | bias
    elif kind == "DepthwiseConv2D":
        yield "", "convolution", {"weight": ("depthwise_kernel", _depthwise(own["depthwise_kernel"].value.shape))} | bias
    elif kind == "SeparableConv2D":
        yield ".depthwise", "convolution", {"weight": ("depthwise_kernel", _depthwise(own["depthwise_kernel"].value.shape))}
        yield ".pointwise", "convolution", {"weight": ("pointwise_kernel", _CONVOLUTION)} | bias
    elif kind == "Dense":
        yield "", "linear", {"weight": ("kernel", _dense(order, made)), "bias": ("bias", _vector(made))}
    elif kind in ("BatchNormalization", "LayerNormalization"):
        layout = _vector(made)
        yield "", "batch norm" if kind == "BatchNormalization" else "norm", {
            "weight": ("gamma", layout), "bias": ("beta", layout), "running_mean": ("moving_mean", layout),
            "running_var": ("moving_variance", layout)}
    elif kind == "Constant":
        yield "", "array", {"": ("value", _constant(made, len(layer.output_shape)))}
    else:
        yield "", "custom", {name: (name, _SAME) for name in own}


# What a module of PyTorch has already, and what the written code uses: no layer can be called so there.
_TAKEN = set("""
    T_destination add_module append apply bfloat16 buffers call_super_init children compile cpu cuda double dump_patches eval
    extend extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half insert ipu load_state_dict
    modules mtia named_buffers named_children named_modules named_parameters parameters pop register_backward_hook
    register_buffer register_forward_hook register_forward_pre_hook register_full_backward_hook
    register_full_backward_pre_hook register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module
    register_parameter register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ set_extra_state
    set_submodule share_memory state_dict to to_empty train training type xpu zero_grad
    self x inputs torch nn F len""".split())


def module_names(network):
    """Return a name for each layer that Python and PyTorch allow: of ASCII letters, digits and _, each once."""
    names, taken = [], set(_TAKEN)
    for layer in network.layers:
        name = re.sub("[^A-Za-z0-9_]", "_", str(layer.name))
        name = name if name[:1].isalpha() else f"layer_{name}"
        while name in taken or keyword.iskeyword(name):
            name += "_"
        taken.add(name)
        names.append(name)
    return names


def state_dict(model):
    """Return {name: ndarray} of all weights of a model, as PyTorch lays them out, for the module that `save` writes."""
    found = {}
    for slot in slots(model):
        prefix = f"{slot.module}." if slot.kind != "array" else slot.module
        own = {name: layout.out(weight.value) for name, (_, weight, layout) in slot.weights.items()}
        if len(slot.constant) == 1:         # of weight and bias PyTorch's module has both, or none
            (name, number), like = *slot.constant.items(), next(iter(own.values()))
            own[name] = np.full_like(like, number)
        if slot.kind == "batch norm":
            own["num_batches_tracked"] = np.zeros((), np.int64)
        found |= {prefix + name: np.ascontiguousarray(array).reshape(array.shape) for name, array in own.items()}
    return found


# ---- Matching --------------------------------------------------------------------------------------------------------

def match(model, path, names=None):
    """Return (Matching, [(Parameter, array for it)]) of a file and a model; nothing is changed yet."""
    arrays, said = read_arrays(path)
    matching, taken, targets = Matching(path), [], slots(model)
    for remark in said:
        matching.add(None, None, None, remark)
    groups = _groups(arrays, {slot.name for slot in targets if slot.kind == "custom"})
    ours, modules = {slot.name: slot for slot in targets}, {slot.module: slot.name for slot in targets}
    if len(ours) < len(targets):
        raise InputError("load_weights: a layer is called as a part of a SeparableConv2D, NAME.depthwise or NAME.pointwise. Rename it.")
    # Where the file has the names that `save` writes, those of their layers.
    known = {name: name if name in ours else modules.get(name, name) for name in groups}
    if len(set(known.values())) < len(known):
        known = {name: name for name in known}
    files = {layer: name for name, layer in known.items()}
    given = {known.get(name, name): layer for name, layer in (names or {}).items()}
    pairs = pair(list(files), list(ours), given, ({known[name]: _kind(arrays) for name, arrays in groups.items()},
                                                  {slot.name: slot.kind for slot in targets}))
    if BY_KIND in [how for _, _, how in pairs]:
        matching.add(None, None, None, "paired in order, each kind by itself, as the names do not agree")
    other = [epsilon for epsilon in (getattr(layer, "epsilon", 1e-5) for layer in model.layers) if epsilon != 1e-5]
    if other:
        numbers = " or ".join(f"{epsilon:g}" for epsilon in dict.fromkeys(other))
        matching.add(None, None, None, f"epsilon is {numbers} in {len(other)} normalizations; PyTorch's default is 1e-05")
    place = {name: i for i, name in enumerate(ours)}
    for group, layer, _ in sorted(pairs, key=lambda one: place.get(one[1], len(place))):
        name = files.get(group)
        _match_one(matching, taken, name, groups.get(name, {}), ours.get(layer))
    return matching, taken


def _groups(arrays, custom):
    """Return {module: {name in it: array}} of {name: array}: a module's weight, bias and statistics, all of a custom layer; other
    arrays are alone."""
    groups = {}
    for name, array in arrays.items():
        module, _, last = name.rpartition(".")
        module, last = (module, last) if last in _IN_A_LAYER or module in custom else (name, "")
        groups.setdefault(module, {})[last] = array
    return groups


def _kind(arrays):
    """Return the kind of module that has such arrays, as far as they tell."""
    if "running_mean" in arrays:
        return "batch norm"
    return {4: "convolution", 2: "linear", 1: "norm"}.get(getattr(arrays.get("weight"), "ndim", None), "array")


def _match_one(matching, taken, name, arrays, slot):
    """Tell of each array of a module and each weight of a slot, which may be None; append to `taken` what fits."""
    weights = slot.weights if slot else {}
    for key, array in arrays.items():
        full = ".".join(filter(None, (name, key)))
        if array is None:
            matching.add(full, None, None, "not used: it is no tensor", matched=False)
        elif key in weights:
            ours, weight, layout = weights[key]
            expected = layout.out(weight.value).shape
            fits = f"not used: the layer wants {expected}" if array.shape != expected else fitting(layout.into(array), weight)
            if isinstance(fits, str):
                matching.add(full, ours, array.shape, fits, matched=False)
            else:
                converted = "" if array.dtype.newbyteorder("=") == fits.dtype else f", from {array.dtype.name}"
                matching.add(full, ours, array.shape, layout.said + converted)
                taken.append((weight, fits))
        elif key == "num_batches_tracked":
            matching.add(full, None, array.shape, "a counter: not needed")
        elif slot and key in slot.constant and (array == slot.constant[key]).all():
            matching.add(full, slot.layer, array.shape, f"{slot.constant[key]} throughout, as in a layer without it")
        else:
            why = f"{slot.layer} has none" if slot else "there is no layer for it"
            matching.add(full, slot and slot.layer, array.shape, f"not used: {why}", matched=False)
    for key, (ours, weight, layout) in weights.items():
        if key not in arrays:
            matching.add(None, ours, layout.out(weight.value).shape, "not in the file", matched=False)
