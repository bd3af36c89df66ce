"""Keras files in and out: weights, and whole models. Keras is not needed; writing needs h5py (extra: keras).

    from minicnn.interop import keras

    keras.load_weights(model, "resnet50_notop.h5")      # .weights.h5, .keras, .h5 of Keras 2 and 3
    model = keras.load("model.keras")                   # a whole model: .keras, or .h5 with its architecture
    keras.save_weights(model, "model.weights.h5")       # for model.load_weights of the same network in Keras
    keras.save(model, "model.keras")                    # for keras.models.load_model

Layouts are the same on both sides, images (N, H, W, C) and kernels (KH, KW, C, F), so weights keep their bits. What becomes of
pixels differs: Keras takes them as they are, minicnn divides uint8 by 255 on the way in.
"""

import json
import warnings
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np

from minicnn.core.files import write_atomic
from minicnn.core.untrusted import pack, raising
from minicnn.errors import InputError, MiniCNNError, ShapeError, WeightsError, printable
from minicnn.interop.keras import hdf5
from minicnn.interop.keras.network import Network, exported, keras_name, ordered, place
from minicnn.interop.keras.training import compile_as, compile_config, optimizer_arrays
from minicnn.interop.keras.weights import fill, is_legacy, named, open_file, paired, stored
from minicnn.interop.matching import Matching, check_options, weights_by_layer
from minicnn.layers import nodes
from minicnn.model import Model, Sequential

__all__ = ["load", "load_weights", "save", "save_weights"]

_VERSION = "3.15.1"         # of the Keras whose format is written


def load_weights(model, path, strict=True, names=None):
    """Take the weights of a Keras file, all or nothing: .weights.h5, .keras, or legacy .h5, of Keras 2 and 3.

    Layers are paired by name where all of the file's, or all of the model's, agree; those of a nested model by their own. In a
    graph, layers without a given name by their numbers, in the order in which they were made: Keras' conv2d, conv2d_1 are
    conv2d_1, conv2d_2 here. Otherwise in order, in a .weights.h5 the layers of each class in theirs. Optimizer state in the file
    is not used.

    Parameters
    ----------
    model : Model or Sequential
    path : str or Path
    strict : bool; whether it is an error if a weight of the model is not found, or one of the file not used. Otherwise what
        fits is taken, and the table printed. "model": each weight of the model must be found, and what the file has beside, such
        as its classifier, is left
    names : dict {layer in the file: layer of the model}, optional

    Returns
    -------
    Matching, the table of what became of each array

    Raises
    ------
    WeightsError
        where the file cannot be read, or does not fit; the model is as it was
    InputError
        where `names` names what there is not
    """
    check_options(strict, names)
    with _reading(path):
        layers = weights_by_layer(model)
        file = open_file(path)
        groups, rest = stored(file.root, list(layers))
        in_order = is_legacy(file.root) or file.config is not None
        if file.config is not None and not is_legacy(file.root):
            groups = named(groups, file.config)
        matching, found = Matching(path), {}
        for one, layer, how in paired(groups, model, names, in_order):
            found |= {id(weight): array for weight, array in fill(matching, one, layer, layers.get(layer, {}), how)}
        for name, done, is_fine in rest:
            matching.add(name, None, None, done, matched=is_fine)
        matching.check(strict)
        weights = model.network.named_weights().values()
        model.set_weights([found.get(id(weight), weight.value) for weight in weights])
    return matching


def save_weights(model, path):
    """Write the weights as a .weights.h5 of Keras 3, for `load_weights` of the same network built in Keras.

    Keras finds them by the order of the layers of each class, and asks for a name that ends in .weights.h5. Equal weights
    give equal bytes. The optimizer's state is in `save` alone.

    Raises InputError where `path` ends otherwise, and as `save`.
    """
    if not str(path).endswith(".weights.h5"):
        raise InputError(f"keras.save_weights: the name must end in .weights.h5, or Keras will not read it, got "
                         f"{printable(path)}.")
    layers, outputs = exported(model)
    write_atomic(path, hdf5.encode(_weight_groups(layers, ordered(layers, outputs))), private=False)


def load(path, engine=None, input_shape=None):
    """Read a whole model: a .keras file, or a legacy .h5 that has its architecture, of Keras 2 or 3.

    Layers keep their names; those of nested models become head/dense. Where the model was compiled with an optimizer and losses
    that are here, it is compiled so; its optimizer starts anew, and metrics are minicnn's own. A warning tells what was left
    out, which changes training alone: constraints, regularizers other than L2, mixed precision.

    Parameters
    ----------
    path : str or Path
    engine : "fast" or "reference", as of Model
    input_shape : tuple of int without N, for a model with one input that leaves sizes open

    Returns
    -------
    Sequential for a chain of layers that is one in Keras, else Model

    Raises
    ------
    InputError
        naming every layer and argument that is not here. Lambda and custom layers are code, and never run
    WeightsError
        where the file cannot be read, or its weights do not fit its layers
    """
    with _reading(path):
        file = open_file(path)
        if file.config is None:
            raise InputError("it holds weights alone. Build the network, and use keras.load_weights(model, path).")

        def real_name(place, name):         # in files that `save` wrote
            own = file.root.get(f"{place}/vars")
            own = own.text("name") if isinstance(own, hdf5.Group) else None
            return own if isinstance(own, str) and own and keras_name(own) == name else name

        network = Network(file.config, file.version, input_shape, real_name)
        arrays = _arrays(file.root, network, path)          # before any layer is built, and has memory
        model = _built(network, engine)
        model.set_weights([arrays[id(layer), weight.name] for layer in model.layers for weight in layer.weights])
    remarks = list(network.remarks)
    if file.training is not None:
        try:
            compile_as(model, file.training)
        except MiniCNNError as error:
            remarks.append(f"not compiled, {str(error).removesuffix('.')}")
    if remarks:
        warnings.warn(f"{printable(path)}: left out: {'; '.join(remarks)}.", RuntimeWarning, stacklevel=2)
    return model


def save(model, path):
    """Write a whole model as a .keras file, for `keras.models.load_model` of Keras 3.

    A chain becomes a Sequential, a graph a Functional model, and blocks are flattened: residual_1/conv2d_1 is called
    residual_1.conv2d_1 there. A compiled model is compiled in Keras too, with its step count and moments, so that `fit` goes on.
    Classes and preprocessing are not in the file. Equal models give equal bytes.

    Raises
    ------
    InputError
        naming each layer that Keras has not; nothing was written
    MissingExtraError
        where h5py is not installed
    CheckpointError
        where the file cannot be written
    """
    layers, outputs = exported(model)
    order = ordered(layers, outputs)
    groups = _weight_groups(layers, order)
    config = _model_config(model, layers, outputs, order)
    if model.optimizer is not None:
        try:
            config["compile_config"] = compile_config(model, [layers[i].name for i in outputs])
            trained = [p for i in order if getattr(layers[i].layer, "trainable", False) for p in layers[i].layer.parameters]
            name = config["compile_config"]["optimizer"]["config"]["name"]
            groups["optimizer/vars"] = {"name": name}, optimizer_arrays(model, trained)
        except InputError as error:
            warnings.warn(f"keras.save: the model is not compiled in Keras: {error}.", RuntimeWarning, stacklevel=2)
    metadata = {"keras_version": _VERSION, "date_saved": "1980-01-01@00:00:00"}
    content = pack({"metadata.json": json.dumps(metadata).encode(), "config.json": json.dumps(config).encode(),
                    "model.weights.h5": hdf5.encode(groups)})
    write_atomic(path, content, private=False)


# ---- The parts of `load` ---------------------------------------------------------------------------------------------

@contextmanager
def _reading(path):
    """Let every error name the file."""
    with raising(WeightsError, path):
        try:
            yield
        except (InputError, ShapeError) as error:
            raise type(error)(f"{printable(path)}: {error}") from None
        except RecursionError:
            raise WeightsError(f"{printable(path)}: its config is nested too deeply.") from None
        except MemoryError as error:
            raise WeightsError(f"{printable(path)}: there is not enough memory for it.") from error


def _arrays(root, network, path):
    """Return {(id of a layer, name of a weight): array} for the layers of a Network, or raise WeightsError with the table."""
    legacy = is_legacy(root)        # it knows of a nested model only its own name, and those of its layers
    places = ["/".join((*names[:1], *names[1:][-1:])) if legacy else at for _, _, at, names in network.weighted]
    held = {one.name if legacy else one.path: one for one in stored(root, places)[0]}
    if len(set(places)) < len(places):
        raise WeightsError(f"{printable(path)}: two layers of its nested models have one name, and its weights cannot be told "
                           "apart. Save the model in Keras as .keras.")
    matching, arrays = Matching(path), {}
    for (layer, shape, _, names), where in zip(network.weighted, places):
        # Of the shape of a weight, without its memory.
        weights = {name: SimpleNamespace(name=name, value=np.broadcast_to(np.zeros((), network.dtype), sizes))
                   for name, sizes, _ in layer.infer(shape)[1]}
        for weight, array in fill(matching, held.pop(where, None), "/".join(names), weights, "by its place"):
            arrays[id(layer), weight.name] = array
    for one in held.values():
        fill(matching, one, None, {}, "by its place")
    matching.check(True)
    return arrays


def _built(network, engine):
    """Return a model of the nodes of a Network."""
    # A model nested in it, and an activation such as gelu, may be a graph.
    is_chain = network.is_sequential and all(len(node.sources) < 2 for node in nodes.ordered(network.outputs))
    model = object.__new__(Sequential if is_chain else Model)
    Model.__init__(model, network.inputs, network.outputs, dtype=network.dtype, engine=engine)
    lost = [names for layer, _, _, names in network.weighted if layer not in model.layers]
    if lost:
        raise InputError(f"no output is made of the layer {printable('/'.join(lost[0]))[:80]!r}.")
    return model


# ---- The parts of `save` ---------------------------------------------------------------------------------------------

def _weight_groups(layers, order):
    """Return what hdf5.encode takes: the weights of exported layers where Keras looks for them."""
    groups, counts = {"vars": ({}, {})}, {}
    for layer, path in [(layers[i].layer, place("", layers[i].kind, counts)) for i in order]:
        if layer is not None:
            groups[f"{path}/vars"] = {"name": layer.name}, {str(i): weight.value for i, weight in enumerate(layer.weights)}
    return groups


def _model_config(model, layers, outputs, order):
    """Return the config of a Sequential or Functional model of Keras."""
    dtype = str(model.dtype)
    chain = outputs == [len(layers) - 1] and all(one.sources == ((i - 1,) if i else ()) for i, one in enumerate(layers))

    def tensor(i):
        return {"class_name": "__keras_tensor__",
                "config": {"shape": [None, *layers[i].shape], "dtype": dtype, "keras_history": [layers[i].name, 0, 0]}}

    def layer(one):
        own = {"batch_shape": [None, *one.shape], "sparse": False, "ragged": False} if one.kind == "InputLayer" else one.config
        found = {"module": "keras.layers", "class_name": one.kind, "config": {"name": one.name, "dtype": dtype} | own,
                 "registered_name": None}
        if not chain:
            taken = [tensor(source) for source in one.sources]
            taken = [taken] if len(taken) > 1 else taken
            found |= {"name": one.name, "inbound_nodes": [{"args": taken, "kwargs": {}}] if taken else []}
        return found

    config = {"name": "sequential" if chain else "functional", "trainable": True, "dtype": dtype,
              "layers": [layer(layers[i]) for i in order]}
    if not chain:
        del config["dtype"]
        ends = [i for i, one in enumerate(layers) if one.kind == "InputLayer"], outputs
        for key, end in zip(("input_layers", "output_layers"), ends):
            places = [[layers[i].name, 0, 0] for i in end]
            config[key] = places if len(places) > 1 else places[0]
    kind, module = ("Sequential", "keras") if chain else ("Functional", "keras.src.models.functional")
    return {"module": module, "class_name": kind, "config": config, "registered_name": None}
