"""Networks of Keras and ours: the config of a model becomes nodes, and a network becomes a config.

A config is untrusted: it is checked as a whole before a layer is connected, and everything that has no counterpart is told in
one error. Nested models are flattened: the layer `dense` of the model `head` is head/dense here.
"""

import re
from contextlib import ExitStack
from graphlib import CycleError, TopologicalSorter
from itertools import count
from types import SimpleNamespace
from typing import NamedTuple

from minicnn.core.arguments import Whole, check
from minicnn.core.text import shortened
from minicnn.errors import InputError, printable
from minicnn.interop.keras.layers import KNOWN, MERGING, OPERATIONS, as_activation, reading, snake_case, writing
from minicnn.layers.affine import AffineLayer
from minicnn.layers.nodes import Input, inside

__all__ = ["Exported", "Network", "exported", "keras_name", "names_by_path", "ordered", "place"]

_MODELS = ("Sequential", "Functional", "Model")
_MOST_LAYERS, _MOST_DEPTH = 1000, 16
_DTYPES = {"float32": None, "float64": None, "mixed_float16": "float16", "float16": "float16", "mixed_bfloat16": "bfloat16",
           "bfloat16": "bfloat16"}


# ---- From Keras ------------------------------------------------------------------------------------------------------

class _Entry(NamedTuple):
    """A layer of a config."""

    key: str                # its name in the config
    name: str               # its name here, which may have parts
    kind: str               # its class
    config: dict
    path: str               # where its weights lie in a weights file
    calls: list             # for each call a list of what it takes: (key, number of the call, number of the output)
    inner: object           # the _Plan of a nested model, or None
    trainable: bool         # it and all that holds it


class _Plan(NamedTuple):
    """A model of a config."""

    entries: dict       # {key: _Entry}, in order
    shapes: dict        # {key of each input: its shape with N}
    outputs: list       # (key, number of the call, number of the output)


class Network:
    """The network that a config of Keras describes.

    Parameters
    ----------
    config : dict with class_name and config
    version : int, of Keras: 2 or 3
    input_shape : tuple of int without N, or None: for a model that leaves sizes open
    real_name : function of (path in a weights file, name in the config) that gives the name to read it by

    Attributes
    ----------
    inputs, outputs : lists of Node
    weighted : list of (layer, its input shape, path, (name of each nested model, ..., name of the layer))
    remarks : list of str, what differs in training
    is_sequential : bool
    dtype : str

    Raises
    ------
    InputError, ShapeError : where it has no counterpart, or does not fit together
    """

    def __init__(self, config, version, input_shape=None, real_name=lambda path, name: name):
        self._version, self._real_name, self._problems = version, real_name, []
        self.weighted, self.remarks, self._layers, self._dtypes = [], [], 0, set()
        plan = self._model(config, "", (), True, 0)
        if self._problems:
            listed = "\n  ".join(self._problems[:100] + ["..."] * (len(self._problems) > 100))
            raise InputError(f"{len(self._problems)} parts of this network have no counterpart here:\n  {listed}\n"
                             f"Supported are {', '.join(KNOWN)}, in models that are Sequential or Functional.")
        self.dtype = "float64" if self._dtypes == {"float64"} else "float32"
        others = sorted({_DTYPES[name] for name in self._dtypes} - {None})
        self.remarks += [f"it computes in {name} in Keras, in {self.dtype} here" for name in others]
        self.is_sequential = config["class_name"] == "Sequential"
        self.inputs = [self._input(name, shape, input_shape if len(plan.shapes) == 1 else None, len(plan.shapes) > 1)
                       for name, shape in plan.shapes.items()]
        self.outputs = self._run(plan, self.inputs, ())

    # -- first pass: what there is --

    def _model(self, config, path, names, trainable, depth):
        """Return the _Plan of a model's config."""
        kind, inner = _text(config, "class_name"), _dict(config, "config")
        if kind not in _MODELS or _is_own(config, kind) or not isinstance(inner.get("layers"), list) or depth > _MOST_DEPTH:
            raise InputError(f"a model of class {shortened(kind, 60)} is not read, only Sequential and Functional: others run code "
                             "of their author's. Build the network, and use keras.load_weights(model, path).")
        self._note_dtype("/".join(names) or "the model", inner)
        entries, counts, shapes, before, chain = {}, {}, {}, None, kind == "Sequential"
        for one in inner["layers"]:
            self._layers += 1
            if self._layers > _MOST_LAYERS:
                raise InputError(f"it has more than {_MOST_LAYERS:,} layers.")
            kind, own = _text(one, "class_name"), _dict(one, "config")
            key = _text(one if "name" in one else own, "name")
            if key in entries or key in shapes:
                raise InputError(f"two layers are called {shortened(key, 60)!r}.")
            where = "" if _is_operation(one) else place(path, kind, counts)
            if kind == "InputLayer":
                before, shapes[key] = key, own.get("batch_shape", own.get("batch_input_shape"))
                continue
            name, calls = _plain_name(self._real_name(where, key)), [] if chain else self._calls(one, key, kind)
            model, holds = None, trainable and own.get("trainable", True) is not False
            if _is_operation(one) and kind in OPERATIONS and all(len(taken) == 2 for taken in calls):
                own = {}
            elif kind in _MODELS and "layers" in own and not _is_own(one, kind):
                model = self._model(one, f"{where}/", (*names, name), holds, depth + 1)
            else:
                self._check(one, kind, own, (*names, name))
            if chain and not shapes:            # Keras 2: the first layer knows the shape
                before = f"{key}_input"
                shapes[before] = own.get("batch_input_shape", inner.get("build_input_shape"))
                shapes[before] = shapes[before] or (model and next(iter(model.shapes.values())))
            entries[key] = _Entry(key, name, kind, own, where, [[(before, 0, 0)]] if chain else calls, model, holds)
            before = key
        inputs, outputs = [(key, 0, 0) for key in shapes], [(before, 0, 0)]
        if not chain:
            inputs, outputs = _tensors(inner.get("input_layers")), _tensors(inner.get("output_layers"))
        if not inputs or not outputs or not {key for key, _, _ in inputs} <= set(shapes):
            raise InputError("its inputs or outputs are not among its layers.")
        return _Plan(entries, {key: shapes[key] for key, _, _ in inputs}, outputs)

    def _check(self, one, kind, config, names):
        """Note what of a layer has no counterpart."""
        shown = f"{shortened(kind, 60)} {shortened('/'.join(names), 80)!r}"
        self._note_dtype(shown, config)
        if _is_operation(one):
            self._problems.append(f"{shown}: an operation and not a layer; only {', '.join(OPERATIONS)} of two arrays are read")
        elif _is_own(one, kind):
            self._problems.append(f"{shown}: a custom layer of its author, whose code no file holds")
        else:
            try:
                self.remarks += reading(kind, config, names[-1].rpartition("/")[2], self._version)[0].remarks
            except InputError as error:
                self._problems.append(f"{shown}: {error}")

    def _note_dtype(self, shown, config):
        dtype = config.get("dtype", "float32")
        if isinstance(dtype, dict):
            dtype = (dtype.get("config") if isinstance(dtype.get("config"), dict) else {}).get("name")
        if dtype is not None and not (isinstance(dtype, str) and dtype in _DTYPES):
            self._problems.append(f"{shown}: dtype={shortened(repr(dtype), 60)}")
        else:
            self._dtypes.add(dtype or "float32")

    def _calls(self, one, key, kind):
        """Return what each call of a layer takes, as _tensors gives it."""
        nodes = one.get("inbound_nodes")
        if not isinstance(nodes, list):
            raise InputError(f"{shortened(key, 60)}: it is not said what the layer is called on.")
        self._layers += max(0, len(nodes) - 1)
        calls = []
        for node in nodes:
            if isinstance(node, dict):          # Keras 3
                kwargs = dict(_dict(node, "kwargs"))
                tensors = _tensors([node.get("args"), kwargs.pop("inputs", None)])
            else:                               # Keras 2: the arguments stand behind each tensor
                tensors, first = _tensors(node), node
                while isinstance(first, list) and first and isinstance(first[0], list):
                    first = first[0]
                kwargs = first[3] if isinstance(first, list) and len(first) > 3 else {}
                kwargs = kwargs if isinstance(kwargs, dict) else {"call": kwargs}
            for name, value in kwargs.items():
                if name == "training" and value is False and kind in ("Dropout", "SpatialDropout2D"):
                    continue                    # Keras 3 says so of all of them
                if name == "training" and value is False:
                    self.remarks.append(f"{shortened(key, 80)}: called with training=False; freeze it instead, "
                                        "trainable = False")
                elif value is not None:
                    self._problems.append(f"{shortened(key, 80)}: called with {shortened(name, 60)}={shortened(repr(value), 60)}")
            calls.append(tensors)
        return calls

    # -- second pass: nodes --

    def _input(self, name, shape, given, named):
        if given is not None:
            return Input(given)
        sizes = shape[1:] if isinstance(shape, list) and shape else None
        if sizes is None or None in sizes:
            raise InputError(f"it leaves sizes of its input {shortened(name, 60)!r} open: {shape}. Give them: "
                             "keras.load(path, input_shape=(224, 224, 3)).")
        for size in sizes:
            check("", f"the shape of the input {shortened(name, 60)!r}", size, Whole())
        return Input(tuple(sizes), _plain_name(name) if named else None)

    def _run(self, plan, inputs, names):
        """Return the nodes that a model makes of nodes."""
        values = {(key, 0): [node] for key, node in zip(plan.shapes, inputs)}
        nested = {key for key, entry in plan.entries.items() if entry.inner}

        def called(tensors):        # a nested model has one call, which Keras counts from 0 or from 1
            return [(key, 0 if key in nested else number, output) for key, number, output in tensors]

        def taken(tensors, taker):
            for key, number, output in tensors:
                if not 0 <= output < len(values.get((key, number), ())):
                    raise InputError(f"{taker} takes output {output} of {shortened(key, 60)!r}, which there is not.")
            return [values[key, number][output] for key, number, output in tensors]

        calls = {(key, i): called(tensors) for key, entry in plan.entries.items() for i, tensors in enumerate(entry.calls)}
        try:
            order = [*TopologicalSorter({call: [tensor[:2] for tensor in calls[call]] for call in calls}).static_order()]
        except CycleError as error:
            raise InputError(f"the layer {shortened(error.args[1][0][0], 60)!r} takes what is made of itself.") from None
        for call in order:
            if call in calls:
                nodes = taken(calls[call], f"the layer {shortened(call[0], 60)!r}")
                values[call] = self._call(plan.entries[call[0]], nodes, names, call[1])
        return taken(called(plan.outputs), "the model")

    def _call(self, entry, nodes, names, i):
        """Return the nodes of the i-th call of an entry."""
        if i and entry.inner:
            raise InputError(f"the model {shortened(entry.key, 60)!r} is called twice: here each layer stands in one place.")
        *blocks, last = entry.name.split("/")
        if i:
            last = f"{last}_again_{i}"
        with ExitStack() as stack:
            for block in blocks:
                stack.enter_context(inside(SimpleNamespace(name=block)))
            if entry.inner:
                if len(nodes) != len(entry.inner.shapes):
                    raise InputError(f"the model {shortened(entry.key, 60)!r} takes {len(entry.inner.shapes)} inputs, got "
                                     f"{len(nodes)}.")
                stack.enter_context(inside(SimpleNamespace(name=last)))
                return self._run(entry.inner, nodes, (*names, entry.key))
            one, function = reading(entry.kind, entry.config, last, self._version)
            if i and one.layer is not None:
                raise InputError(f"{entry.kind} {shortened(entry.key, 60)!r} is called twice: here each layer with weights "
                                 "stands in one place.")
            several = entry.kind in MERGING
            if len(nodes) < 2 if several else len(nodes) != 1:
                raise InputError(f"{entry.kind} {shortened(entry.key, 60)!r} is called on {len(nodes)} arrays.")
            y = function(nodes if several else nodes[0])
        if one.layer is not None:
            one.layer.trainable = one.layer.trainable and entry.trainable
            self.weighted.append((one.layer, nodes[0].shape[1:], entry.path, (*names, entry.key)))
        return [y]


def names_by_path(config):
    """Return {path in a weights file: name} of all layers of a model's config, in its order; nothing else of it is read."""
    found = {}

    def walk(model, path, names):
        inner = model.get("config") if isinstance(model.get("config"), dict) else {}
        counts = {}
        for one in inner.get("layers", ()) if isinstance(inner.get("layers"), list) else ():
            own = one.get("config") if isinstance(one, dict) else None
            kind, key = (one.get("class_name"), one.get("name", own.get("name"))) if isinstance(own, dict) else (None, None)
            if not isinstance(kind, str) or not isinstance(key, str):
                continue
            where = "" if _is_operation(one) else place(path, kind, counts)
            found[where] = "/".join((*names, key))
            if kind in _MODELS and len(names) < _MOST_DEPTH:
                walk(one, f"{where}/", (*names, key))
    walk(config, "", ())
    return found


def place(path, kind, counts):
    """Return where a weights file has the next layer of a class of the model at a path; `counts` are those met before.

    >>> counts = {}
    >>> place("", "Conv2D", counts), place("", "Conv2D", counts)
    ('layers/conv2d', 'layers/conv2d_1')
    """
    base = snake_case(kind)
    number = counts[base] = counts.get(base, -1) + 1
    return f"{path}layers/{base}{f'_{number}' if number else ''}"


def _is_operation(one):
    return re.match(r"keras\.(src\.)?ops\b", str(one.get("module"))) is not None


def _is_own(config, kind):
    """Whether a class is not of Keras, but its author's: registered under a name, or of another module."""
    module, registered = config.get("module"), config.get("registered_name")
    return registered not in (None, kind) or ">" in kind or \
        module is not None and str(module).partition(".")[0] not in ("keras", "tf_keras", "tensorflow")


def _text(values, key):
    found = values.get(key) if isinstance(values, dict) else None
    if not isinstance(found, str) or not found:
        raise InputError(f"its config is damaged: a layer has no {key}.")
    return found


def _dict(values, key):
    found = values.get(key, {}) if isinstance(values, dict) else None
    if not isinstance(found, dict):
        raise InputError(f"its config is damaged: {key} is no object.")
    return found


def _tensors(value):
    """Return [(key, number, number of the output)] in a structure of lists and objects.

    >>> _tensors([["conv", 0, 0, {}], {"class_name": "__keras_tensor__", "config": {"keras_history": ["add", 1, 0]}}])
    [('conv', 0, 0), ('add', 1, 0)]
    """
    if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        value = _dict(value, "config").get("keras_history")
    if isinstance(value, dict):
        value = [value[key] for key in sorted(value)]
    if not isinstance(value, list):
        return []
    if len(value) >= 3 and isinstance(value[0], str) and type(value[1]) is type(value[2]) is int:
        return [(value[0], value[1], value[2])]
    return [one for part in value for one in _tensors(part)]


def _plain_name(name):
    """Return a name of Keras as a layer's here may be."""
    return "/".join(re.sub(r"[^A-Za-z0-9_.-]", "_", part)[:52] or "_" for part in name.split("/")[:_MOST_DEPTH])


# ---- To Keras --------------------------------------------------------------------------------------------------------

class Exported(NamedTuple):
    """A layer as Keras has it."""

    name: str
    kind: str           # its class
    config: dict        # without its name
    sources: tuple      # numbers of the exported layers that it takes
    layer: object       # the layer of ours that has its weights and its name; None for an input
    shape: tuple        # of its output, without N


def keras_name(name, taken=()):
    """Return a layer's name as Keras takes it, which has no "/", and not one that is taken.

    >>> keras_name("residual_1/conv2d_1"), keras_name("_a"), keras_name("a/b", ["a.b"])
    ('residual_1.conv2d_1', 'layer_a', 'a.b_1')
    """
    name = name.replace("/", ".")
    name = name if name[0].isalnum() else f"layer{name}"
    return next(one for i in count() if (one := f"{name}_{i}" if i else name) not in taken)


def exported(model):
    """Return ([Exported] in an order in which they run, [number of each output]) of a model.

    An activation that a layer of ours was given by name, conv2d_1_activation behind conv2d_1, is that layer's argument again.

    Raises
    ------
    InputError
        naming every layer that Keras has not
    """
    network, found, problems, number, taken = model.network, [], [], {}, set()

    def add(name, *rest):
        taken.add(name)
        found.append(Exported(name, *rest))
        return len(found) - 1

    if not model.input_names:
        names = [layer.name for layer in network.layers]
        number[0] = add(keras_name("input_layer", [keras_name(name) for name in names]), "InputLayer", {}, (), None,
                        network.input_shape)
    for i, layer in enumerate(network.layers):
        kind, sources, value = type(layer).__name__, network.sources[i], i + 1
        if kind == "InputLayer":
            number[value] = add(keras_name(layer.name, taken), "InputLayer", {}, (), layer, layer.output_shape)
            continue
        if getattr(layer, "joins", False):          # the outputs, side by side
            continue
        before = network.layers[sources[0] - 1] if sources[0] else None
        activation = as_activation(layer)
        if isinstance(before, AffineLayer) and layer.name == f"{before.name}_activation" and activation \
                and sum(sources[0] in others for others in network.sources) == 1:
            number[value] = number[sources[0]]
            found[number[value]].config["activation"] = activation
            continue
        try:
            kind, config = writing(layer)
        except InputError as error:
            problems.append(f"{getattr(layer, 'label', kind)}: {error}")
            kind, config = "none", {}
        if not getattr(layer, "trainable", True):
            config["trainable"] = False
        number[value] = add(keras_name(layer.name, taken), kind, config, tuple(number[source] for source in sources), layer,
                            network.shapes[value])
    if problems:
        raise InputError("keras: these layers have no counterpart in Keras, and nothing was written:\n  " + "\n  ".join(problems))
    return found, [number[value] for value in network.outputs]


def ordered(layers, outputs):
    """Return the numbers of exported layers in the order of Keras' `model.layers`, which decides where weights lie.

    Keras orders by depth, the longest way to an output, and layers of one depth as a search from the outputs meets them.
    """
    met, waiting = {}, outputs[::-1]
    while waiting:
        node = waiting.pop()
        if node not in met:
            met[node] = len(met)
            waiting += reversed(layers[node].sources)
    depth = dict.fromkeys(met, 0)
    for node in sorted(met, reverse=True):          # each after those that take it
        for source in layers[node].sources:
            depth[source] = max(depth[source], depth[node] + 1)
    return sorted(met, key=lambda node: (-depth[node], met[node]))
