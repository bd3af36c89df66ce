"""Optimizers: they change parameters by their gradients, and keep what they remember of each.

`step(ops, parameters)` applies one update; the state (moments, velocities, the step count t) is plain arrays that a
checkpoint saves and `restore` takes back.
"""

import math

import numpy as np

from minicnn.core.arguments import Flag, OneOf, OrNone, Real, check_all, said
from minicnn.core.parameter import Parameter, Parameters, check_apart
from minicnn.core.validation import as_array
from minicnn.errors import InputError, nearest

__all__ = ["Optimizer", "Adam", "SGD"]

_POSITIVE = Real(0, math.inf, "()")
_CLIPPING = ("clipnorm", "clipvalue", "global_clipnorm")


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


class Optimizer:
    """Base of the optimizers: the step count and one array of each kind in `slots` for each parameter.

    Each takes one of `clipnorm` (the gradient of each parameter is scaled down to this L2 norm), `global_clipnorm` (all
    are scaled by one factor, to this norm of them together) and `clipvalue` (each number is cut to lie in [-c, c]).
    """

    slots = ()
    fields = {"learning_rate": _POSITIVE, **dict.fromkeys(_CLIPPING, OrNone(_POSITIVE))}    # {argument: what it may be}
    unsaid = dict.fromkeys(_CLIPPING)       # {argument: the default that is not kept}

    def __init__(self, **arguments):
        owner, given = type(self).__name__, self.unsaid | arguments
        unknown = next((name for name in given if name not in self.fields), None)
        if unknown:
            raise InputError(f"{owner}: there is no argument {unknown!r}, only {', '.join(self.fields)}."
                             f"{nearest(unknown, self.fields)}")
        vars(self).update(check_all(owner, self.fields, given))
        if sum(getattr(self, name) is not None for name in _CLIPPING) > 1:
            raise InputError(f"{owner}: give one of {', '.join(_CLIPPING)}, or none.")
        self.t = 0
        self._state, self._layout = {}, None

    def step(self, ops, parameters):
        """Apply one update to every parameter that is trainable, in place, from its `grad`, which stays as it is."""
        parameters = _as_parameters(type(self).__name__, parameters)
        state, each = self._laid_out(parameters), any(getattr(self, name) is not None for name in _CLIPPING)
        self.t += 1
        norm = self.global_clipnorm and math.hypot(*(_norm(dw) for _, dw in parameters.pieces(each=True)))
        for w, dw, *slots in parameters.pieces(*(state[slot] for slot in self.slots), each=each):
            self.update(ops, w, self._clipped(dw, norm) if each else dw, slots)

    def _clipped(self, dw, norm):
        """Return the gradient that is taken for dw; `norm` is that of all gradients together, or None."""
        if self.clipvalue is not None:
            return np.clip(dw, -self.clipvalue, self.clipvalue)
        norm, most = (_norm(dw), self.clipnorm) if norm is None else (norm, self.global_clipnorm)
        return dw * dw.dtype.type(most / norm) if norm > most else dw

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

    def config(self):
        """Return what a model file keeps: {"type": ..., the constructor's arguments}."""
        return {"type": type(self).__name__} | said(self)

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(f'{field}={value!r}' for field, value in said(self).items())})"


def _norm(dw):
    """Return the L2 norm of a gradient, added up in float64 and in one order."""
    return math.sqrt(np.square(dw, dtype=np.float64).sum())


class Adam(Optimizer):
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
    amsgrad : bool; take the largest v so far in place of v (Reddi et al., ICLR 2018)
    clipping : one of clipnorm, clipvalue, global_clipnorm (see Optimizer)

    >>> Adam(learning_rate=1e-3)
    Adam(learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-07, epsilon_mode='keras')
    """

    slots = ("m", "v")
    fields = Optimizer.fields | {"beta_1": Real(0, 1), "beta_2": Real(0, 1), "epsilon": Real(1e-30, 1),
                                  "epsilon_mode": OneOf(("keras", "paper")), "amsgrad": Flag()}
    unsaid = Optimizer.unsaid | {"amsgrad": False}

    def __init__(self, learning_rate=1e-3, beta_1=0.9, beta_2=0.999, epsilon=1e-7, epsilon_mode="keras", amsgrad=False,
                 **clipping):
        super().__init__(learning_rate=learning_rate, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon,
                         epsilon_mode=epsilon_mode, amsgrad=amsgrad, **clipping)
        self.slots = ("m", "v", "v_hat") if self.amsgrad else ("m", "v")

    def update(self, ops, w, dw, slots):
        correction = math.sqrt(1 - self.beta_2**self.t)
        rate = self.learning_rate * correction / (1 - self.beta_1**self.t)
        # Algorithm 1's epsilon stands beside the corrected root: multiply numerator and denominator by the correction.
        epsilon = self.epsilon if self.epsilon_mode == "keras" else self.epsilon * correction
        step = ops.amsgrad if self.amsgrad else ops.adam
        step(w, *slots, dw, rate, self.beta_1, self.beta_2, epsilon, w, *slots)


class SGD(Optimizer):
    """Gradient descent, with momentum and Nesterov's look-ahead as options, in Keras' form (see reference.sgd).

    >>> SGD(0.1, momentum=0.9)
    SGD(learning_rate=0.1, momentum=0.9, nesterov=False)
    """

    slots = ("velocity",)
    fields = Optimizer.fields | {"momentum": Real(0, 1), "nesterov": Flag()}

    def __init__(self, learning_rate=0.01, momentum=0.0, nesterov=False, **clipping):
        super().__init__(learning_rate=learning_rate, momentum=momentum, nesterov=nesterov, **clipping)

    def update(self, ops, w, dw, slots):
        velocity, = slots
        ops.sgd(w, velocity, dw, self.learning_rate, self.momentum, self.nesterov, w, velocity)
