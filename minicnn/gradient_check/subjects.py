"""Layers, pairs of functions, losses and models as problems to check, with random inputs.

Parameters are moved away from their initial values during a check: biases of 0 and factors of 1 hide bugs.
"""

import copy
from contextlib import contextmanager

import numpy as np

from minicnn.core.arguments import Whole, check
from minicnn.core.backend import default_engine, get_engine
from minicnn.core.memory import join
from minicnn.core.parameter import check_apart
from minicnn.core.random import normals, uniforms
from minicnn.core.validation import as_array
from minicnn.errors import InputError, ShapeError
from minicnn.gradient_check.problems import (InTurn, Joined, LossProblem, NetworkProblem, StepProblem, call, draw, layer_name,
                                             targets_for)
from minicnn.layers.base import LAYERS, Layer
from minicnn.layers.custom import CustomStep, Host, parameters_of
from minicnn.losses import get_loss
from minicnn.losses.joint import JointLoss, Output
from minicnn.network import LayerStep, Network

__all__ = ["as_network", "layer_problem", "loss_problem", "network_problem", "loss_of"]


def as_network(subject):
    """Return the Network that `subject` is or has, or None."""
    subject = getattr(subject, "network", subject)
    return subject if isinstance(subject, Network) else None


@contextmanager
def layer_problem(subject, shape, x, engine, seed, dtype):
    """Yield the StepProblem of a layer or of a pair of functions; the layer's parameters are restored afterwards."""
    layer = _checked_layer(subject)
    name = layer_name(layer)
    several = getattr(layer, "several", False)
    x, shape = (_several_inputs if several else _inputs)(name, shape, x, seed, dtype, normals)
    sizes = [one[1:] for one in shape] if several else shape[1:]
    built, layer = layer, _copied(layer) if type(layer) in LAYERS.values() else layer
    host = Host(dtype, engine or default_engine(), seed)
    with host.within():         # layers of minicnn inside the user's layer are built in the dtype of the check too
        if isinstance(layer, Layer):
            layer.configure(dtype, engine or default_engine(), seed)
        output_shape = call(name, "build", layer.build, sizes)
    if layer is not built and built.input_shape == layer.input_shape:
        for mine, theirs in zip(layer.parameters + layer.statistics, built.parameters + built.statistics, strict=True):
            mine.value = theirs.value
    if not isinstance(layer, Layer):
        output_shape = _checked_shape(name, output_shape)
    parameters = parameters_of(layer, name)
    check_apart((f"{name}: its {parameter.name}", parameter) for parameter in parameters)
    with _perturbed(parameters, dtype, lambda value: 0.3, seed):
        try:
            host.tell(True, 0)
            if isinstance(layer, Layer):
                layer.needs_input_gradient = True
            step, x = (Joined(LayerStep(layer), sizes), join(x)) if several else (_step(layer), x)
            y_shape = (len(x), *output_shape) if output_shape is not None else \
                np.shape(call(name, "forward", step.forward, x.copy()))
            dy = draw(normals, seed, 2, y_shape).astype(dtype)
            yield StepProblem(step, x, dy)
        finally:
            host.tell(False, 0)


def _step(layer):
    """Return the step of one layer; of one with an activation, that of both, so that the check sees its kinks."""
    activation = layer.unfold() if hasattr(layer, "unfold") else None
    if activation is None:
        return LayerStep(layer)
    activation.configure(layer.dtype, layer._engine)
    activation.build(layer.output_shape)
    return InTurn([layer, activation])


@contextmanager
def _perturbed(parameters, dtype, scale, seed):
    """Add normals times scale(value) to each parameter, in the dtype of the check; restore it afterwards to the bit."""
    kept = [(parameter, parameter.value, parameter.grad, parameter.value.copy()) for parameter in parameters]
    try:
        for number, (parameter, value, *_) in enumerate(kept):
            if value.dtype != dtype:
                parameter.hold(value.astype(dtype), np.zeros(value.shape, dtype))
            parameter.value += (scale(value) * draw(normals, seed, 30 + number, value.shape)).astype(dtype)
        yield
    finally:
        for parameter, value, grad, before in kept:
            value[...] = before
            parameter.hold(value, grad)


def loss_problem(loss, shape, z, t, engine, seed, dtype):
    """Return the LossProblem of a loss on logits of `shape`."""
    name = layer_name(loss)
    z, shape = _inputs(name, shape, z, seed, dtype, normals, "z")
    t = as_array(targets_for(loss, shape, seed) if t is None else t, name, "t", dtype)
    if hasattr(loss, "check_targets"):
        loss.check_targets(t, shape)
    return LossProblem(loss, get_engine(engine or default_engine()), z, t)


@contextmanager
def network_problem(subject, network, shape, x, t, loss, seed, dtype):
    """Yield the NetworkProblem of a model; its parameters are restored afterwards, to the bit."""
    if not network.parameters:
        raise InputError("gradcheck: this network has no parameters, so there is no gradient to check. "
                         "Check its layers one at a time.")
    if network.dtype != dtype:
        network = _copy(network, dtype)
    loss = loss or getattr(subject, "loss", None)
    loss = loss_of(network) if loss is None else loss if hasattr(loss, "outputs") else get_loss(loss)
    found = [type(network.layers[value - 1]).__name__ for value in network.outputs]
    for needed, head in zip(loss.heads, found):
        if needed not in (None, head):
            raise InputError(f"gradcheck: loss {loss.name!r} needs {needed}() as the last layer, got {head}.")
    if any(needed and network.is_taken(value) for needed, value in zip(loss.heads, network.outputs)):
        raise InputError(f"gradcheck: loss {loss.name!r} takes over a last layer that another layer takes too.")
    x = join(x) if isinstance(x, (list, tuple)) and getattr(subject, "input_names", ()) else x
    t = join(t) if isinstance(t, (list, tuple)) and getattr(subject, "output_names", ()) else t
    shape = (2, *network.input_shape) if shape is None and x is None else shape
    x, shape = _inputs("gradcheck", shape, x, seed, dtype, uniforms)
    t_shape = (shape[0], *network.output_shape)
    t = as_array(targets_for(loss, t_shape, seed) if t is None else t, "gradcheck", "t", dtype)
    loss.check_targets(t, t_shape)
    with _perturbed(network.parameters, dtype, lambda value: 0.0 if value.any() else 0.05, seed):
        yield NetworkProblem(network, loss, x, t)


def loss_of(network):
    """Return the loss that fits the last layer of a network, or of each of its outputs."""
    outputs = []
    for value in network.outputs:
        head = None if network.is_taken(value) else type(network.layers[value - 1]).__name__
        dimensions = len(network.shapes[value])
        loss = get_loss({("Sigmoid", dimensions): "binary_crossentropy", ("Softmax", 1): "categorical_crossentropy",
                         ("CapsuleLength", 1): "margin"}.get(
            (head, dimensions), "mean_squared_error"))
        outputs.append(Output(network.layers[value - 1].name, network.shapes[value], loss))
    return outputs[0].loss if len(outputs) == 1 else JointLoss(outputs)


class _Functions:
    """A pair of functions as a layer."""

    def __init__(self, forward, backward):
        self.name = getattr(forward, "__name__", None) or type(forward).__name__
        self._forward, self._backward = forward, backward

    def build(self, input_shape):
        """Return None: the shape of the output is known when the function is called."""
        return None

    def forward(self, x):
        self._x = x
        return self._forward(x)

    def backward(self, dy):
        return self._backward(self._x, dy)


def _checked_layer(subject):
    if isinstance(subject, (tuple, list)):
        if len(subject) != 2 or not all(callable(function) for function in subject):
            raise InputError("gradcheck: expected a pair of functions, (x) -> y and (x, dy) -> dx, "
                             f"got {subject!r}.")
        return _Functions(*subject)
    if isinstance(subject, type):
        raise InputError(f"gradcheck: {subject.__name__} is a class; pass an instance: "
                         f"gradcheck({subject.__name__}(...), shape=...).")
    missing = [verb for verb in ("build", "forward", "backward") if not callable(getattr(subject, verb, None))]
    if missing:
        raise InputError(f"{layer_name(subject)}: it has no {', no '.join(missing)}. A layer needs build(input_shape), "
                         "forward(x) and backward(dy). To check a function, pass it with its gradient: "
                         "gradcheck((f, df), shape=...).")
    return subject


def _inputs(name, shape, x, seed, dtype, distribution, argument="x"):
    """Return (x, its shape): a copy of the given x, or random numbers."""
    if x is not None:
        x = as_array(x, name, argument, dtype).copy()
        return x, x.shape
    if not isinstance(shape, (tuple, list)) or len(shape) < 1:
        raise InputError(f"{name}: shape must be that of a batch, such as (2, 5, 5, 3), got {shape!r}.")
    shape = tuple(check(name, "shape", size, Whole()) for size in shape)
    return draw(distribution, seed, 1, shape).astype(dtype), shape


def _several_inputs(name, shapes, x, seed, dtype, distribution):
    """Return (arrays, their shapes) of a layer that merges several; `shapes` is a list of them."""
    given = shapes if x is None else x
    if not isinstance(given, (tuple, list)) or len(given) < 2:
        raise InputError(f"{name}: expected a list of two or more, such as shape=[(2, 5, 5, 3), (2, 5, 5, 3)], got "
                         f"{given!r}.")
    pairs = [_inputs(name, None if x is not None else one, None if x is None else one, seed + i, dtype, distribution)
             for i, one in enumerate(given)]
    return [array for array, _ in pairs], [shape for _, shape in pairs]


def _checked_shape(name, shape):
    if shape is None or (isinstance(shape, tuple) and all(isinstance(size, (int, np.integer)) for size in shape)):
        return shape
    raise ShapeError(f"{name}: build must return the output shape without N, a tuple of whole numbers, got {shape!r}.")


def _copied(layer):
    """Return a new layer of minicnn with the same arguments."""
    copied = type(layer)(**{field: getattr(layer, field) for field in layer.fields}, name=layer.name)
    copied.training, copied.trainable = layer.training, layer.trainable
    return copied


def _copy(network, dtype):
    """Return a copy of a network, with its weights, in another dtype."""
    layers = []
    for layer in network.layers:
        try:
            layers.append(_copied(layer) if type(layer) in LAYERS.values() else copy.deepcopy(layer))
        except Exception as error:
            raise InputError(f"gradcheck: layer {layer.name!r} cannot be copied for a check in {dtype} "
                             f"({type(error).__name__}: {error}). Make the model with dtype='float64'.") from None
    seed = next((layer.seed for layer in network.layers if isinstance(layer, Layer)), 0)
    copied = Network(layers, network.input_shape, seed, dtype, network.engine, CustomStep, network.sources)
    for mine, theirs in zip(copied.named_weights().values(), network.named_weights().values(), strict=True):
        mine.value = theirs.value
    return copied
