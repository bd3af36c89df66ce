"""check_optimizer: compare the steps of Adam, RMSprop and SGD with their equations, computed with 60 decimal digits.

With g the gradient at step t = 1, 2, ...:

    AdamW  w <- w - learning_rate weight_decay w, and then Adam's step
    Adam   m <- m + (1 - beta_1) (g - m),  v <- v + (1 - beta_2) (g^2 - v)
           "keras"  w <- w - learning_rate sqrt(1 - beta_2^t) / (1 - beta_1^t) m / (sqrt(v) + epsilon)
           "paper"  w <- w - learning_rate m / (1 - beta_1^t) / (sqrt(v / (1 - beta_2^t)) + epsilon)
           amsgrad: with the largest v so far in place of v
    RMSprop  v <- v + (1 - rho) (g^2 - v),  u <- momentum u + learning_rate g / sqrt(v + epsilon),  w <- w - u
    SGD    u <- momentum u - learning_rate g;  w <- w + u, with Nesterov w <- w + momentum u - learning_rate g

If an optimizer disagrees, the equations with common mistakes are computed too, and the mistake that agrees is named.
"""

from decimal import Decimal, localcontext

import numpy as np

from minicnn.core.backend import default_engine, get_engine
from minicnn.core.parameter import Parameter
from minicnn.core.random import normals
from minicnn.errors import InputError
from minicnn.gradient_check.problems import draw
from minicnn.gradient_check.report import Finding, Report
from minicnn.gradient_check.verdicts import BUG
from minicnn.optimizers import SGD, Adam
from minicnn.optimizers.adaptive import RMSprop

__all__ = ["check_optimizer"]

_STEPS, _TOLERANCE = 12, 1e-11
# The sizes of gradients in training. The two forms of Adam differ for those near epsilon.
_SIZES = np.array([1.0, 1e-2, 1e-4, 1e-7, 1e-9, 0.0])


def check_optimizer(optimizer, *, engine=None, seed=0):
    """Compare 12 steps of an optimizer with its equations.

    Parameters
    ----------
    optimizer : Adam, RMSprop or SGD, or a subclass; new, with a step count of 0
    engine : "fast" or "reference"; `$MINICNN_ENGINE` or "fast" by default
    seed : int, the seed of the gradients

    Returns
    -------
    Report; true if every weight after every step has a relative error of at most 1e-11

    Raises InputError for any other optimizer, or one that has trained.

    >>> bool(check_optimizer(Adam(epsilon_mode="paper"), engine="reference"))
    True
    """
    owner = type(optimizer).__name__
    known = {Adam: (_adam, _ADAM_MISTAKES), RMSprop: (_rmsprop, _RMSPROP_MISTAKES), SGD: (_sgd, _SGD_MISTAKES)}
    kind = next((kind for kind in known if isinstance(optimizer, kind)), None)
    if kind is None:
        raise InputError(f"check_optimizer: expected Adam, RMSprop, SGD or a subclass, got {owner}.")
    if optimizer.t != 0:
        raise InputError(f"check_optimizer: this {owner} has taken {optimizer.t} steps; make a new one.")
    gradients = draw(normals, seed, 40, (_STEPS, len(_SIZES))) * _SIZES
    equations, mistakes = known[kind]
    taken = _steps_of(optimizer, get_engine(engine or default_engine()), gradients)
    gradients = np.array([_clipped(optimizer, gradient) for gradient in gradients])
    report = Report(f"{owner}, {_STEPS} steps")
    expected = _expected(equations, optimizer, gradients)
    wrong = _wrong(taken, expected)
    if wrong is not None:
        step, i = wrong
        cause = next((sentence for sentence, options in mistakes.items()
                      if _wrong(taken, _expected(equations, optimizer, gradients, **options)) is None), "")
        sentence = f"after step {step + 1}, for gradients of about {_SIZES[i]:.0e}"
        report.findings.append(Finding(BUG, owner, "w", (int(i),), float(taken[step, i]), float(expected[step, i]),
                                       f"{cause} ({sentence})" if cause else sentence,
                                       words=("w is", "the equations give")))
    return report


def _steps_of(optimizer, ops, gradients):
    """Return the weights after each step, (steps, n). They start at 0, so that no bit of the updates is lost."""
    parameter = Parameter("w", np.zeros(gradients.shape[1]))
    taken = []
    for gradient in gradients:
        parameter.grad[...] = gradient
        optimizer.step(ops, [parameter])
        taken.append(parameter.value.copy())
    return np.array(taken)


def _clipped(optimizer, gradient):
    """Return the gradient of the one parameter as the optimizer is to take it."""
    if optimizer.clipvalue is not None:
        return np.minimum(np.maximum(gradient, -optimizer.clipvalue), optimizer.clipvalue)
    most, norm = optimizer.clipnorm or optimizer.global_clipnorm, np.linalg.norm(gradient)
    return gradient if most is None or norm <= most else gradient / norm * most


def _wrong(taken, expected):
    """Return (step, index) of the first weight that is not as expected, or None."""
    error = np.abs(taken - expected)
    bad = np.argwhere(~(error <= _TOLERANCE * np.maximum.accumulate(np.abs(expected), axis=0) + 1e-300))
    return tuple(bad[0]) if len(bad) else None


def _expected(equations, optimizer, gradients, **mistakes):
    """Return the weights after each step by the equations, (steps, n), computed with 60 digits."""
    with localcontext(prec=60):
        return np.array([list(equations(optimizer, [Decimal(float(g)) for g in column], **mistakes))
                         for column in gradients.T]).T


def _adam(optimizer, gradients, correct=True, inside=False, late=0, swapped=False, other_form=False, sign=1,
          square=True, moments=True, epsilon=True, decayed=True, largest=True):
    """Yield a weight after each step; the options are the mistakes."""
    rate, beta_1, beta_2 = (Decimal(float(number)) for number in
                            (optimizer.learning_rate, optimizer.beta_1, optimizer.beta_2))
    if swapped:
        beta_1, beta_2 = beta_2, beta_1
    tiny = Decimal(float(optimizer.epsilon if epsilon else 0))
    decay = Decimal(float(getattr(optimizer, "weight_decay", 0) if decayed else 0))
    keras = (optimizer.epsilon_mode == "keras") != other_form
    largest = largest and optimizer.amsgrad
    w = m = v = v_hat = Decimal(0)
    for t, g in enumerate(gradients, 1 - late):
        m += (1 - beta_1 if moments else 1) * g - (1 - beta_1) * m
        v += (1 - beta_2 if moments else 1) * (g * g if square else abs(g)) - (1 - beta_2) * v
        first, second = (1 - beta_1**t, 1 - beta_2**t) if correct and t else (Decimal(1), Decimal(1))
        shift = tiny if keras else tiny * second.sqrt()
        v_hat = max(v_hat, v) if largest else v
        root = (v_hat + shift).sqrt() if inside else v_hat.sqrt() + shift
        w -= rate * decay * w
        w -= sign * rate * second.sqrt() / first * m / root if root else 0
        yield float(w)


_ADAM_MISTAKES = {
    "the bias correction is missing": {"correct": False},
    "epsilon is inside the root": {"inside": True},
    "the step count is one behind: it starts at 0": {"late": 1},
    "the step count is one ahead: it starts at 2": {"late": -1},
    "beta_1 and beta_2 are swapped": {"swapped": True},
    "epsilon is added as in the other form (see epsilon_mode)": {"other_form": True},
    "the sign is flipped: gradient ascent": {"sign": -1},
    "the second moment is of |g| instead of g^2": {"square": False},
    "the new gradient is not weighted by 1 - beta": {"moments": False},
    "epsilon is missing": {"epsilon": False},
    "the weight decay is missing": {"decayed": False},
    "v is taken, and not the largest v so far": {"largest": False},
}


def _rmsprop(optimizer, gradients, inside=True, sign=1, square=True, swapped=False, momentum=True, epsilon=True):
    """Yield a weight after each step; the options are the mistakes."""
    rate, rho, keep, tiny = (Decimal(float(number)) for number in (optimizer.learning_rate, optimizer.rho,
                             optimizer.momentum if momentum else 0, optimizer.epsilon if epsilon else 0))
    rho = 1 - rho if swapped else rho
    w = v = u = Decimal(0)
    for g in gradients:
        v += (1 - rho) * ((g * g if square else abs(g)) - v)
        root = (v + tiny).sqrt() if inside else v.sqrt() + tiny
        u = keep * u + (rate * g / root if root else 0)
        w -= sign * u
        yield float(w)


_RMSPROP_MISTAKES = {
    "epsilon is outside the root": {"inside": False},
    "the sign is flipped: gradient ascent": {"sign": -1},
    "the mean is of |g| instead of g^2": {"square": False},
    "rho and 1 - rho are swapped": {"swapped": True},
    "momentum is missing": {"momentum": False},
    "epsilon is missing": {"epsilon": False},
}


def _sgd(optimizer, gradients, look_ahead=None, sign=1, momentum=True, damped=False, rate=True):
    """Yield a weight after each step; the options are the mistakes."""
    nesterov = optimizer.nesterov if look_ahead is None else look_ahead
    step, keep = Decimal(float(optimizer.learning_rate)), Decimal(float(optimizer.momentum if momentum else 0))
    w = u = Decimal(0)
    for g in gradients:
        move = sign * (step if rate else 1) * g * (1 - keep if damped else 1)
        u = keep * u - move
        w += keep * u - move if nesterov else u
        yield float(w)


_SGD_MISTAKES = {
    "the look-ahead of Nesterov is missing": {"look_ahead": False},
    "the look-ahead is applied although nesterov is off": {"look_ahead": True},
    "the sign is flipped: gradient ascent": {"sign": -1},
    "momentum is missing": {"momentum": False},
    "the gradient is multiplied by 1 - momentum": {"damped": True},
    "the learning rate is missing": {"rate": False},
}
