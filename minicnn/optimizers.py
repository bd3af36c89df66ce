"""Optimizers: they change parameters by their gradients, and keep what they remember of each.

`step(ops, parameters)` applies one update; the state (moments, velocities, the step count t) is plain arrays that a
checkpoint saves and `restore` takes back.
"""

import math

import numpy as np

from minicnn.core.parameter import Parameter, Parameters, check_apart
from minicnn.core.validation import as_array
from minicnn.errors import InputError

__all__ = ["Adam", "AdamW", "SGD", "OPTIMIZERS"]


def _check(owner, argument, value, low, high, low_included=True):
    """Return value as a float in [low, high), or raise InputError."""
    number = float(value) if isinstance(value, (int, float, np.number)) and not isinstance(value, bool) else math.nan
    if not (low <= number < high) or (number == low and not low_included):
        bracket = "[" if low_included else "("
        raise InputError(f"{owner}: {argument} must lie in {bracket}{low}, {high}), got {value!r}.")
    return number


def _as_parameters(owner, parameters):
    """Return Parameters of any sequence of Parameter, each left where it is."""
    if isinstance(parameters, Parameters):
        return parameters
    parameters = tuple(parameters)
    for parameter in parameters:
        if not isinstance(parameter, Parameter):
            raise InputError(f"{owner}: expected objects of minicnn.Parameter, got {parameter!r}.")
    check_apart((f"{owner}: {parameter.name}", parameter) for parameter in parameters)
    return Parameters(parameters)


class _Optimizer:
    """Base of the optimizers: the step count and one array of each kind in `slots` for each parameter."""

    slots = ()

    def __init__(self, learning_rate):
        self.learning_rate = _check(type(self).__name__, "learning_rate", learning_rate, 0, math.inf, False)
        self.t = 0
        self._state, self._layout = {}, None

    def step(self, ops, parameters):
        """Apply one update to every parameter, in place, from its `grad`."""
        parameters = _as_parameters(type(self).__name__, parameters)
        state = self._laid_out(parameters)
        self.t += 1
        for w, dw, *slots in parameters.pieces(*(state[slot] for slot in self.slots)):
            self.update(ops, w, dw, slots)

    def state(self, parameters):
        """Return {slot: [array for each parameter]}; zeros before the first step.

        Parameters
        ----------
        parameters : Parameters, or any list of Parameter
        """
        state = self._laid_out(_as_parameters(type(self).__name__, parameters))
        return {slot: [array[...] for array in arrays] for slot, arrays in state.items()}

    def _laid_out(self, parameters):
        """Return the state in arrays that lie in memory as the parameters do: as it was, else new with its numbers."""
        if parameters.layout is not self._layout and parameters.layout != self._layout:
            state = {slot: parameters.zeros() for slot in self.slots}
            for slot, arrays in self._state.items():
                if [np.shape(array) for array in arrays] != [array.shape for array in state[slot]]:
                    raise InputError(f"{type(self).__name__}: this optimizer has already trained a network of other "
                                     "shapes. Make a new one for each model.")
                for mine, array in zip(state[slot], arrays):
                    mine[...] = as_array(array, type(self).__name__, slot, mine.dtype)
            self._state, self._layout = state, parameters.layout
        return self._state

    def restore(self, t, state):
        """Go on from the step count and the state of a checkpoint."""
        self.t, self._state, self._layout = int(t), {slot: list(state[slot]) for slot in self.slots}, None

    def __repr__(self):
        name, *options = self.config().items()
        return f"{name[1]}({', '.join(f'{option}={value!r}' for option, value in options)})"


class Adam(_Optimizer):
    """Adam (Kingma & Ba, ICLR 2015).

    m <- m + (1 - beta_1)(g - m), v <- v + (1 - beta_2)(g^2 - v), and with epsilon_mode="keras"

        w <- w - learning_rate sqrt(1 - beta_2^t) / (1 - beta_1^t) m / (sqrt(v) + epsilon)

    (epsilon is the *epsilon-hat* of the paper's section 2), or with epsilon_mode="paper", Algorithm 1 and PyTorch,

        w <- w - learning_rate m / (1 - beta_1^t) / (sqrt(v / (1 - beta_2^t)) + epsilon).

    The powers and the rate are computed in float64 from the whole number t.

    Parameters
    ----------
    learning_rate : float > 0
    beta_1, beta_2 : floats in [0, 1)
    epsilon : float in [1e-30, 1); with 0 a weight whose gradients are all 0 would become 0 / 0
    epsilon_mode : "keras" or "paper"

    >>> Adam(learning_rate=1e-3)
    Adam(learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-07, epsilon_mode='keras')
    """

    slots = ("m", "v")

    def __init__(self, learning_rate=1e-3, beta_1=0.9, beta_2=0.999, epsilon=1e-7, epsilon_mode="keras"):
        super().__init__(learning_rate)
        self.beta_1 = _check("Adam", "beta_1", beta_1, 0, 1)
        self.beta_2 = _check("Adam", "beta_2", beta_2, 0, 1)
        self.epsilon = _check("Adam", "epsilon", epsilon, 1e-30, 1)
        if epsilon_mode not in ("keras", "paper"):
            raise InputError(f"Adam: epsilon_mode must be 'keras' or 'paper', got {epsilon_mode!r}.")
        self.epsilon_mode = epsilon_mode

    def update(self, ops, w, dw, slots):
        m, v = slots
        correction = math.sqrt(1 - self.beta_2**self.t)
        rate = self.learning_rate * correction / (1 - self.beta_1**self.t)
        # Algorithm 1's epsilon stands beside the corrected root: multiply numerator and denominator by the correction.
        epsilon = self.epsilon if self.epsilon_mode == "keras" else self.epsilon * correction
        ops.adam(w, m, v, dw, rate, self.beta_1, self.beta_2, epsilon, w, m, v)

    def config(self):
        return {"type": "Adam", "learning_rate": self.learning_rate, "beta_1": self.beta_1, "beta_2": self.beta_2,
                "epsilon": self.epsilon, "epsilon_mode": self.epsilon_mode}


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter, ICLR 2019, Algorithm 2), as in PyTorch: before each step

        w <- w - learning_rate weight_decay w

    for every weight and bias, beside the gradient and not through it. Other arguments are those of Adam.

    Parameters
    ----------
    weight_decay : float in [0, 1)
    """

    def __init__(self, learning_rate=1e-3, weight_decay=1e-2, **options):
        super().__init__(learning_rate, **options)
        self.weight_decay = _check("AdamW", "weight_decay", weight_decay, 0, 1)

    def update(self, ops, w, dw, slots):
        w *= w.dtype.type(1 - self.learning_rate * self.weight_decay)
        super().update(ops, w, dw, slots)

    def config(self):
        return super().config() | {"type": "AdamW", "weight_decay": self.weight_decay}


class SGD(_Optimizer):
    """Gradient descent, with momentum and Nesterov's look-ahead as options, in Keras' form (see reference.sgd).

    >>> SGD(0.1, momentum=0.9)
    SGD(learning_rate=0.1, momentum=0.9, nesterov=False)
    """

    slots = ("velocity",)

    def __init__(self, learning_rate=0.01, momentum=0.0, nesterov=False):
        super().__init__(learning_rate)
        self.momentum = _check("SGD", "momentum", momentum, 0, 1)
        self.nesterov = bool(nesterov)

    def update(self, ops, w, dw, slots):
        velocity, = slots
        ops.sgd(w, velocity, dw, self.learning_rate, self.momentum, self.nesterov, w, velocity)

    def config(self):
        return {"type": "SGD", "learning_rate": self.learning_rate, "momentum": self.momentum,
                "nesterov": self.nesterov}


OPTIMIZERS = {"Adam": Adam, "AdamW": AdamW, "SGD": SGD}
