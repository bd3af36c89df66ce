"""check_optimizer: do Adam and SGD take the steps that their equations say? The equations in 60 decimal digits.

With g the gradient at step t = 1, 2, ...:

    AdamW  w <- w - learning_rate weight_decay w, and then Adam's step
    Adam   m <- m + (1 - beta_1) (g - m),  v <- v + (1 - beta_2) (g^2 - v)
           "keras"  w <- w - learning_rate sqrt(1 - beta_2^t) / (1 - beta_1^t) m / (sqrt(v) + epsilon)
           "paper"  w <- w - learning_rate m / (1 - beta_1^t) / (sqrt(v / (1 - beta_2^t)) + epsilon)
    SGD    u <- momentum u - learning_rate g;  w <- w + u, with Nesterov w <- w + momentum u - learning_rate g

Where an optimizer disagrees, the mistakes that are often made are computed too, and one that agrees is named.
"""

from decimal import Decimal, localcontext

import numpy as np

from minicnn.core.backend import default_engine, get_engine
from minicnn.core.parameter import Parameter
from minicnn.core.random import normals
from minicnn.errors import InputError
from minicnn.gradient_check.problems import drawn
from minicnn.gradient_check.report import Finding, Report
from minicnn.gradient_check.verdicts import BUG
from minicnn.optimizers import SGD, Adam

__all__ = ["check_optimizer"]

_STEPS, _BAR = 12, 1e-11
# Gradients as training meets them, those near epsilon too: there lies the difference between the two forms of Adam.
_SIZES = np.array([1.0, 1e-2, 1e-4, 1e-7, 1e-9, 0.0])


def check_optimizer(optimizer, *, engine=None, seed=0):
    """Compare 12 steps of an optimizer with its equations.

    Parameters
    ----------
    optimizer : Adam or SGD, or a subclass; new, its step count 0
    engine : "fast" or "reference"; `$MINICNN_ENGINE` or "fast" where None
    seed : int, decides the gradients

    Returns
    -------
    Report; true only where every weight after every step is right to 1e-11 of what it moved

    Raises InputError for an optimizer that has trained, or that is neither.

    >>> bool(check_optimizer(Adam(epsilon_mode="paper"), engine="reference"))
    True
    """
    owner = type(optimizer).__name__
    if not isinstance(optimizer, (Adam, SGD)):
        raise InputError(f"check_optimizer: the equations of Adam and SGD are known, those of {owner} are not.")
    if optimizer.t != 0:
        raise InputError(f"check_optimizer: this {owner} has taken {optimizer.t} steps; make a new one.")
    gradients = drawn(normals, seed, 40, (_STEPS, len(_SIZES))) * _SIZES
    right, variants = (_adam, _ADAM_MISTAKES) if isinstance(optimizer, Adam) else (_sgd, _SGD_MISTAKES)
    taken = _steps_of(optimizer, get_engine(engine or default_engine()), gradients)
    report = Report(f"{owner}, {_STEPS} steps")
    expected = right(optimizer, gradients)
    wrong = _wrong(taken, expected)
    if wrong is not None:
        step, i = wrong
        cause = next((sentence for sentence, options in variants.items()
                      if _wrong(taken, right(optimizer, gradients, **options)) is None), "")
        sentence = f"after step {step + 1}, for gradients of about {_SIZES[i]:.0e}"
        report.findings.append(Finding(BUG, owner, "w", (int(i),), float(taken[step, i]), float(expected[step, i]),
                                       f"{cause} ({sentence})" if cause else sentence,
                                       words=("it moved w to", "the equations to")))
    return report


def _steps_of(optimizer, ops, gradients):
    """Return the weights after each step, (steps, n). They start at 0, so that no bit of what they moved is lost."""
    parameter = Parameter("w", np.zeros(gradients.shape[1]))
    taken = []
    for gradient in gradients:
        parameter.grad[...] = gradient
        optimizer.step(ops, [parameter])
        taken.append(parameter.value.copy())
    return np.array(taken)


def _wrong(taken, expected):
    """Return (step, index) of the first weight that is not as expected, or None."""
    error = np.abs(taken - expected)
    bad = np.argwhere(~(error <= _BAR * np.maximum.accumulate(np.abs(expected), axis=0) + 1e-300))
    return tuple(bad[0]) if len(bad) else None


def _adam(optimizer, gradients, correct=True, inside=False, late=0, swapped=False, other_form=False, sign=1,
          square=True, moments=True, epsilon=True, decayed=True):
    """Return the weights after each step, computed with 60 digits; the options are the mistakes."""
    with localcontext() as context:
        context.prec = 60
        rate, beta_1, beta_2 = (Decimal(float(number)) for number in
                                (optimizer.learning_rate, optimizer.beta_1, optimizer.beta_2))
        if swapped:
            beta_1, beta_2 = beta_2, beta_1
        tiny = Decimal(float(optimizer.epsilon)) if epsilon else Decimal(0)
        decay = Decimal(getattr(optimizer, "weight_decay", 0.0)) if decayed else Decimal(0)
        keras = (optimizer.epsilon_mode == "keras") != other_form
        all_weights = []
        for column in gradients.T:
            w = m = v = Decimal(0)
            for t, g in enumerate(column, 1):
                g, t = Decimal(float(g)), t - late
                m += (1 - beta_1 if moments else 1) * g - (1 - beta_1) * m
                v += (1 - beta_2 if moments else 1) * (g * g if square else abs(g)) - (1 - beta_2) * v
                first, second = (1 - beta_1**t, 1 - beta_2**t) if correct and t else (Decimal(1), Decimal(1))
                shift = tiny if keras else tiny * second.sqrt()
                root = (v + shift).sqrt() if inside else v.sqrt() + shift
                w -= rate * decay * w
                w -= sign * rate * second.sqrt() / first * m / root if root else 0
                all_weights.append(float(w))
    return np.array(all_weights).reshape(gradients.T.shape).T


_ADAM_MISTAKES = {
    "the bias correction is missing": {"correct": False},
    "epsilon stands inside the root": {"inside": True},
    "the step count is one behind: it begins at 0": {"late": 1},
    "the step count is one ahead: it begins at 2": {"late": -1},
    "beta_1 and beta_2 are swapped": {"swapped": True},
    "epsilon is that of the other form (see epsilon_mode)": {"other_form": True},
    "the sign is flipped: it climbs": {"sign": -1},
    "the second moment is of |g| instead of g^2": {"square": False},
    "the new gradient is not weighted by 1 - beta": {"moments": False},
    "epsilon is missing": {"epsilon": False},
    "the weight decay is missing": {"decayed": False},
}


def _sgd(optimizer, gradients, look_ahead=None, sign=1, momentum=True, damped=False, rate=True):
    """Return the weights after each step, computed with 60 digits; the options are the mistakes."""
    nesterov = optimizer.nesterov if look_ahead is None else look_ahead
    with localcontext() as context:
        context.prec = 60
        step, keep = Decimal(float(optimizer.learning_rate)), Decimal(float(optimizer.momentum if momentum else 0))
        all_weights = []
        for column in gradients.T:
            w = u = Decimal(0)
            for g in column:
                move = sign * (step if rate else 1) * Decimal(float(g)) * (1 - keep if damped else 1)
                u = keep * u - move
                w += keep * u - move if nesterov else u
                all_weights.append(float(w))
    return np.array(all_weights).reshape(gradients.T.shape).T


_SGD_MISTAKES = {
    "the look-ahead of Nesterov is missing": {"look_ahead": False},
    "it looks ahead though nesterov is off": {"look_ahead": True},
    "the sign is flipped: it climbs": {"sign": -1},
    "momentum is missing": {"momentum": False},
    "the gradient is multiplied by 1 - momentum": {"damped": True},
    "the learning rate is missing": {"rate": False},
}
