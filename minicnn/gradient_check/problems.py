"""What is checked, seen as one thing: a number that depends on named arrays, and what backward says its gradient is.

The number is a sum of terms. For a layer the terms are y * dy with a random dy, because backward returns the gradient
of <y, dy>; for a network they are the losses of the samples. Terms are kept apart so that those a change does not reach
cancel exactly. With them come the *choices* of the forward pass: the masks of ReLU and the switches of max pooling.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from minicnn.core.backend import get_engine
from minicnn.core.random import Stream, normals, uniforms
from minicnn.errors import InputError, MiniCNNError, NonFiniteError
from minicnn.layers import LAYERS, MaxPool2D, ReLU

__all__ = ["StepProblem", "NetworkProblem", "LossProblem", "drawn", "targets_for", "shown_name"]


def drawn(law, seed, purpose, shape):
    """Return numbers of `shape` from normals or uniforms; those of one purpose do not depend on those of another."""
    return law(seed, Stream.CHECK, purpose, 0, int(np.prod(shape, dtype=np.int64))).reshape(shape)


def shown_name(step):
    """How a report calls a step: the names of its layers, or their types where they have none.

    >>> from minicnn.layers import ReLU
    >>> from minicnn.network import LayerStep
    >>> shown_name(LayerStep(ReLU()))
    'ReLU'
    """
    return "+".join(getattr(layer, "name", None) or type(layer).__name__ for layer in step.layers)


class _Problem:
    """Base: `arrays` maps (layer, parameter) to the array that a check moves, in place.

    Attributes
    ----------
    name : str
    sees_all : bool; whether `choices` tell of every kink there can be
    base : (terms, choices) at the point where the arrays stand
    """

    def base(self):
        if self._base is None:
            self._base = self.terms()
            if not np.isfinite(self._base[0]).all():
                raise NonFiniteError(f"{self.name}: the output holds NaN or infinity for these inputs, so there is no "
                                     "gradient to check. Give others: gradcheck(..., x=...).")
        return self._base

    def _call(self, verb, function, *arguments):
        """Call what may be the user's own; say in one sentence what it raised."""
        try:
            with np.errstate(all="ignore"):
                return function(*arguments)
        except MiniCNNError:
            raise
        except Exception as error:      # anything may come out of a user's layer
            raise InputError(f"{self.name}: {verb} raised {type(error).__name__}: {error}") from error


class StepProblem(_Problem):
    """One step of a plan, a layer or several that run as one: L = <forward(x), dy>.

    Parameters
    ----------
    step : a step of fusion.py
    x, dy : ndarray, shapes of the step's input and output
    moves_x : bool; whether dx is checked
    """

    def __init__(self, step, x, dy, moves_x=True, name=None):
        self.step, self.x, self.dy, self._base = step, x, dy, None
        self.name = name or shown_name(step)
        self.dtype = x.dtype
        self.sees_all = all(type(layer) in LAYERS.values() for layer in step.layers)
        self.arrays = {(self.name, "x"): x} if moves_x else {}
        self.parameters = {}
        for layer in step.layers:
            owner = self.name if len(step.layers) == 1 else getattr(layer, "name", None) or type(layer).__name__
            for parameter in getattr(layer, "parameters", ()):
                self.parameters[_unused((owner, parameter.name), self.parameters)] = parameter
        self.arrays |= {place: parameter.value for place, parameter in self.parameters.items()}

    def elsewhere(self):
        """Run forward on another input, which must leave no trace."""
        self.forward(self.x[::-1] * 0.9)

    def forward(self, x):
        """Return the step's output."""
        return self._call("forward", self.step.forward, x)

    def backward(self, dy):
        """Return dx."""
        return self._call("backward", self.step.backward, dy)

    def terms(self):
        y = np.array(self.forward(self.x.copy()), np.float64)       # a step that writes to its input writes to the copy
        return (y * self.dy).ravel(), [np.array(choice) for choice in self.step.choices()]

    def frozen(self, choices):
        """Return the terms of the smooth function that takes these choices whatever the numbers are."""
        return (_frozen(self.step, self.x.copy(), iter(choices)) * self.dy).ravel()

    def gradients(self):
        """Return {place: what backward says}."""
        self.forward(self.x.copy())
        dx = self.backward(self.dy.copy())
        said = {place: np.array(parameter.grad) for place, parameter in self.parameters.items()}
        return said | ({(self.name, "x"): np.array(dx)} if (self.name, "x") in self.arrays else {})


class NetworkProblem(_Problem):
    """A network as it trains: L = loss(network(x), t), the mean over the batch.

    Parameters
    ----------
    network : Network
    loss : a loss of losses.py
    x, t : ndarray, shapes of the network's input and of its output, with N
    """

    def __init__(self, network, loss, x, t):
        self.network, self.loss, self.x, self.t, self._base = network, loss, x, t, None
        self.name, self.dtype = "network", network.dtype
        self.depth = network.depth(loss.head)
        self.ops = get_engine(network.engine)
        self.sees_all = all(type(layer) in LAYERS.values() for layer in network.layers)
        self.parameters = {(layer.name, p.name): p for layer in network.layers
                           for p in getattr(layer, "parameters", ())}
        self.arrays = {place: parameter.value for place, parameter in self.parameters.items()}

    def elsewhere(self):
        """Run forward on another input, which must leave no trace."""
        self._call("forward", self.network.forward, self.x[::-1] * 0.9, self.depth, True)

    def outputs(self):
        return self._call("forward", self.network.forward, self.x.copy(), self.depth, True)

    def terms(self):
        z = self.outputs()
        losses, dz = np.empty(len(z)), np.empty(z.shape, z.dtype)
        self.loss(self.ops, z, self.t, None, losses, dz)
        steps = self.network.steps(self.depth)
        return losses, [np.array(choice) for step in steps for choice in step.choices()]

    def frozen(self, choices):
        x, choices = self.x.copy(), iter(choices)
        for step in self.network.steps(self.depth):
            x = _frozen(step, x, choices)
        losses = np.empty(len(x))
        self.loss(self.ops, x, self.t, None, losses, np.empty(x.shape, x.dtype))
        return losses

    def gradients(self):
        z = self.outputs()
        losses, dz = np.empty(len(z)), np.empty(z.shape, z.dtype)
        self.loss(self.ops, z, self.t, None, losses, dz)
        self._call("backward", self.network.backward, dz, self.depth)
        return {place: np.array(parameter.grad) for place, parameter in self.parameters.items()}


class LossProblem(_Problem):
    """A loss: L(z), the mean over the batch, and its dz."""

    sees_all = True
    parameters = {}

    def __init__(self, loss, ops, z, t, weights=None):
        self.loss, self.ops, self.z, self.t, self.weights, self._base = loss, ops, z, t, weights, None
        self.name, self.dtype = getattr(loss, "name", None) or type(loss).__name__, z.dtype
        self.arrays = {(self.name, "z"): z}

    def elsewhere(self):
        """Nothing to run: a loss keeps nothing."""

    def _compute(self):
        losses, dz = np.empty(len(self.z)), np.empty(self.z.shape, self.z.dtype)
        self._call("the loss", self.loss, self.ops, self.z.copy(), self.t, self.weights, losses, dz)
        return losses, dz

    def terms(self):
        return self._compute()[0], []

    def frozen(self, choices):
        return self._compute()[0]

    def gradients(self):
        return {(self.name, "z"): self._compute()[1]}


def _unused(place, taken):
    """Return the place, its parameter numbered where two have one name: kernel, kernel_2, kernel_3."""
    layer, name = place
    names = (name if number == 1 else f"{name}_{number}" for number in range(1, len(taken) + 2))
    return next((layer, name) for name in names if (layer, name) not in taken)


def targets_for(loss, shape, seed):
    """Return targets of `shape` that the loss is defined for: 0, 1 and what is between; distributions; any numbers."""
    if loss.head == "Sigmoid":
        return np.clip(np.round(1.5 * drawn(uniforms, seed, 11, shape), 1), 0, 1)
    if loss.head == "Softmax":
        weights = drawn(uniforms, seed, 11, shape)
        return weights / weights.sum(axis=-1, keepdims=True)
    return drawn(normals, seed, 11, shape)


def _frozen(step, x, choices):
    """Run a step with given choices: ReLU passes where the mask says so, pooling takes what the switch names."""
    layers = list(step.layers)
    if len(layers) == 1 and type(layers[0]) is ReLU:
        return np.where(next(choices), x, 0.0)
    if len(layers) == 1 and type(layers[0]) is MaxPool2D:
        return _at_switches(x, next(choices), layers[0])
    y = np.array(layers[0].forward(x), np.float64)
    if len(layers) == 1:
        for _ in getattr(layers[0], "choices", tuple)():
            next(choices)               # a user's layer that tells of its choices cannot be told to keep them
        return y
    mask = next(choices)
    for layer in layers[1:]:
        if type(layer) is MaxPool2D:
            y = _at_switches(y, next(choices), layer)
    return np.where(mask, y, 0.0)


def _at_switches(x, switches, pool):
    """Return the numbers of x that the switches name: max pooling that does not look for the largest."""
    top, bottom, left, right = pool.pads
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    windows = sliding_window_view(padded, pool.pool_size, axis=(1, 2))[:, ::pool.strides[0], ::pool.strides[1]]
    flat = windows.reshape(*windows.shape[:4], -1)
    return np.take_along_axis(flat, switches[..., np.newaxis].astype(np.intp), axis=4)[..., 0]
