"""What is checked, in one form: a scalar that depends on named arrays, and the gradient that backward computes for it.

The scalar is a sum of terms. For a layer the terms are y * dy with a random dy, because backward returns the gradient
of <y, dy>; for a network they are the losses of the samples. Terms are kept apart so that those that a change does not
affect cancel exactly. With them come the *choices* of the forward pass: the masks of ReLU, the switches of max pooling.
"""

import numpy as np

from minicnn.core.backend import get_engine
from minicnn.core.memory import join, split
from minicnn.core.random import Stream, normals, uniforms
from minicnn.errors import InputError, MiniCNNError, NonFiniteError
from minicnn.layers import ELU, LAYERS, GlobalMaxPooling2D, LeakyReLU, MaxPool2D, ReLU
from minicnn.network import LayerStep
from minicnn.reference.windows import pad, windows_of

__all__ = ["StepProblem", "NetworkProblem", "LossProblem", "draw", "call", "loss_gradient", "layer_name", "step_name",
           "targets_for", "InTurn", "Joined"]


def draw(distribution, seed, purpose, shape):
    """Return numbers of `shape` from normals or uniforms; those of one purpose do not depend on those of another."""
    return distribution(seed, Stream.CHECK, purpose, 0, int(np.prod(shape, dtype=np.int64))).reshape(shape)


def call(name, verb, function, *arguments):
    """Call code that may be the user's; any exception of it becomes an InputError."""
    try:
        with np.errstate(all="ignore"):
            return function(*arguments)
    except MiniCNNError:
        raise
    except Exception as error:
        raise InputError(f"{name}: {verb} raised {type(error).__name__}: {error}") from error


def layer_name(layer):
    """Return the name of a layer or a loss, or its type if it has none."""
    return getattr(layer, "name", None) or type(layer).__name__


def step_name(step):
    """Return the names of a step's layers.

    >>> from minicnn.layers import ReLU
    >>> from minicnn.network import LayerStep
    >>> step_name(LayerStep(ReLU()))
    'ReLU'
    """
    return "+".join(map(layer_name, step.layers))


def loss_gradient(loss, ops, z, t):
    """Return (losses of the samples, dz) of a loss at the logits z."""
    losses, dz = np.empty(len(z)), np.empty(z.shape, z.dtype)
    loss(ops, z, t, None, losses, dz)
    return losses, dz


class _Problem:
    """Base of the problems.

    Attributes
    ----------
    name : str
    arrays : dict from (layer, parameter) to the array that a check moves in place
    parameters : dict from (layer, parameter) to the Parameter, where the array is one
    kinks_visible : bool; whether `choices` show every kink of the function
    """

    _base = None
    parameters = {}

    def base(self):
        """Return (terms, choices) at the current values of the arrays."""
        if self._base is None:
            self._base = self.terms()
            if not np.isfinite(self._base[0]).all():
                raise NonFiniteError(f"{self.name}: the output holds NaN or infinity for these inputs, so there is no "
                                     "gradient to check. Give others: gradcheck(..., x=...).")
        return self._base

    def forward_other_input(self):
        """Run forward on another input. A later backward must not depend on it."""


class StepProblem(_Problem):
    """One step of a network, a layer or several fused ones: L = <forward(x), dy>.

    Parameters
    ----------
    step : a LayerStep, or a step of fusion.py
    x, dy : ndarray, shapes of the step's input and output
    moves_x : bool; whether dx is checked
    """

    def __init__(self, step, x, dy, moves_x=True):
        self.step, self.x, self.dy = step, x, dy
        self.name, self.dtype = step_name(step), x.dtype
        self.kinks_visible = _kinks_visible(step.layers)
        self.parameters = {}
        for layer in step.layers:
            for parameter in getattr(layer, "parameters", ()):
                self.parameters[_unused((layer_name(layer), parameter.name), self.parameters)] = parameter
        self.arrays = {(self.name, "x"): x} if moves_x else {}
        self.arrays |= {place: parameter.value for place, parameter in self.parameters.items()}

    def forward_other_input(self):
        self.forward(self.x[::-1] * 0.9)

    def forward(self, x):
        """Return the step's output."""
        return call(self.name, "forward", self.step.forward, x)

    def backward(self, dy):
        """Return dx."""
        return call(self.name, "backward", self.step.backward, dy)

    def terms(self):
        """Return (terms, choices). The step gets a copy of x, which it may overwrite."""
        y = np.array(self.forward(self.x.copy()), np.float64)
        return (y * self.dy).ravel(), [np.array(choice) for choice in self.step.choices()]

    def frozen(self, choices):
        """Return the terms of the smooth function that makes the given choices at every input."""
        return (_frozen(self.step, self.x.copy(), iter(choices)) * self.dy).ravel()

    def gradients(self):
        """Return {(layer, parameter): the gradient that backward computes}."""
        self.forward(self.x.copy())
        dx = self.backward(self.dy.copy())
        gradients = {place: np.array(parameter.grad) for place, parameter in self.parameters.items()}
        return gradients | ({(self.name, "x"): np.array(dx)} if (self.name, "x") in self.arrays else {})


class InTurn:
    """The step of layers one after another, each as it is: of one that is called by hand, and its activation."""

    def __init__(self, layers):
        self.layers = layers

    def forward(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dy):
        for layer in self.layers[::-1]:
            dy = layer.backward(dy)
        return dy

    def choices(self):
        return [choice for layer in self.layers for choice in layer.choices()]


class Joined:
    """The step of a layer that merges several arrays, as a step of one: each sample flattened, and the arrays side by side.

    Parameters
    ----------
    step : a LayerStep
    shapes : list of tuple, those of the arrays without N
    """

    def __init__(self, step, shapes):
        self.layers, self.choices, self._step, self._shapes = step.layers, step.choices, step, shapes

    def forward(self, x):
        return self._step.forward(split(x, self._shapes))

    def backward(self, dy):
        return join(self._step.backward(dy))


class NetworkProblem(_Problem):
    """A network as in training: L = loss(network(x), t), the mean over the batch, and the penalties of its weights.

    Parameters
    ----------
    network : Network
    loss : a loss of losses.py
    x, t : ndarray, shapes of the network's input and of its output, with N
    """

    def __init__(self, network, loss, x, t):
        self.network, self.loss, self.x, self.t = network, loss, x, loss.smoothed(t) if hasattr(loss, "smoothed") else t
        self.name, self.dtype = "network", network.dtype
        self.rows = network.rows(heads=network.heads(loss.heads))
        self.ops = get_engine(network.engine)
        self.kinks_visible = _kinks_visible(network.layers)
        self.parameters = {(layer.name, p.name): p for layer in network.layers
                           for p in getattr(layer, "parameters", ())}
        self.arrays = {place: parameter.value for place, parameter in self.parameters.items()}

    def forward_other_input(self):
        self._forward(self.x[::-1] * 0.9)

    def _forward(self, x):
        return call(self.name, "forward", self.network.forward, x, self.rows, True)

    def outputs(self):
        """Return the logits, or the outputs if the loss has no head."""
        return self._forward(self.x.copy())

    def terms(self):
        losses, _ = loss_gradient(self.loss, self.ops, self.outputs(), self.t)
        choices = [np.array(choice) for row in self.rows for choice in row.step.choices()]
        return self._with_penalties(losses), choices

    def frozen(self, choices):
        choices = iter(choices)
        values = self.network.values(self.x.copy(), self.rows, lambda step, taken: _frozen(step, taken, choices))
        return self._with_penalties(loss_gradient(self.loss, self.ops, values[-1], self.t)[0])

    def _with_penalties(self, losses):
        return np.append(losses, self.network.parameters.penalties())

    def gradients(self):
        _, dz = loss_gradient(self.loss, self.ops, self.outputs(), self.t)
        call(self.name, "backward", self.network.backward, dz, self.rows)
        self.network.parameters.add_penalty_gradients()
        return {place: np.array(parameter.grad) for place, parameter in self.parameters.items()}


class LossProblem(_Problem):
    """A loss: L(z), the mean over the batch, and its dz."""

    kinks_visible = True

    def __init__(self, loss, ops, z, t):
        self.loss, self.ops, self.z, self.t = loss, ops, z, t
        self.name, self.dtype = layer_name(loss), z.dtype
        self.arrays = {(self.name, "z"): z}

    def _compute(self):
        return call(self.name, "the loss", loss_gradient, self.loss, self.ops, self.z.copy(), self.t)

    def terms(self):
        return self._compute()[0], []

    def frozen(self, choices):
        return self._compute()[0]

    def gradients(self):
        return {(self.name, "z"): self._compute()[1]}


def _kinks_visible(layers):
    return all(type(layer) in LAYERS.values() for layer in layers)


def _unused(place, taken):
    """Return the place, its parameter numbered if the name is taken: kernel, kernel_2, kernel_3."""
    layer, name = place
    names = (name if number == 1 else f"{name}_{number}" for number in range(1, len(taken) + 2))
    return next((layer, name) for name in names if (layer, name) not in taken)


def targets_for(loss, shape, seed):
    """Return random targets of `shape` in the domain of the loss: [0, 1], distributions, or real numbers."""
    if hasattr(loss, "outputs"):
        return join([targets_for(one.loss, (shape[0], *one.shape), seed + i) for i, one in enumerate(loss.outputs)])
    if loss.two_classes:
        return np.clip(np.round(1.5 * draw(uniforms, seed, 11, shape), 1), 0, 1)
    if loss.one_hot:
        weights = draw(uniforms, seed, 11, shape)
        return weights / weights.sum(axis=-1, keepdims=True)
    return draw(normals, seed, 11, shape)


def _frozen(step, x, choices):
    """Run a step with given choices: ReLU uses the given mask, max pooling takes the number at the given switch."""
    if isinstance(step, InTurn) or getattr(step, "in_turn", False):
        for layer in step.layers:
            x = _frozen(LayerStep(layer), x, choices)
        return x
    if not step.layers:         # a head that the loss takes over
        return step.forward(x)
    first, *rest = step.layers
    if not rest and type(first) in _CHOSEN:
        return _CHOSEN[type(first)](first, x, choices)
    y = np.array(first.forward(x) if rest else step.forward(x), np.float64)
    if not rest:
        for _ in getattr(first, "choices", tuple)():
            next(choices)               # the choices of a user's layer cannot be fixed
        return y
    mask = next(choices)
    for layer in rest:
        if type(layer) is MaxPool2D:
            y = _at_switches(y, next(choices), layer)
    return np.where(mask, y, 0.0)


def _clipped(layer, x, choices):
    positive = next(choices)
    return np.where(positive, x if layer.max_value is None else np.where(next(choices), x, layer.max_value), 0.0)


def _largest(layer, x, choices):
    pixels = x.reshape(len(x), -1, x.shape[3])
    chosen = np.take_along_axis(pixels, next(choices)[:, np.newaxis].astype(np.intp), axis=1)
    return chosen.reshape(len(x), *layer.output_shape)


# {layer: the function of (layer, x, choices) that it is while it makes these choices}
_CHOSEN = {
    ReLU: _clipped, GlobalMaxPooling2D: _largest,
    LeakyReLU: lambda layer, x, choices: np.where(next(choices), x, layer.negative_slope * x),
    ELU: lambda layer, x, choices: np.where(next(choices) if layer.alpha != 1 else x > 0, x,
                                            layer.alpha * np.expm1(np.minimum(x, 1))),
    MaxPool2D: lambda layer, x, choices: _at_switches(x, next(choices), layer)}


def _at_switches(x, switches, pool):
    """Return the numbers of x at the switches: max pooling without the search for the largest."""
    windows = windows_of(pad(x, pool.pads, 0.0), pool.pool_size, pool.strides)
    flat = windows.reshape(*windows.shape[:3], -1, x.shape[3])
    return np.take_along_axis(flat, switches[..., np.newaxis, :].astype(np.intp), axis=3)[..., 0, :]
