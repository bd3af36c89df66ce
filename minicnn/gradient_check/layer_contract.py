"""The rules that every layer must follow, each with its own message.

A layer does not change its input, returns arrays of the promised shapes and of its input's dtype, gives the same
result twice, and overwrites the gradients of its parameters. Moving statistics follow those of the batch.
"""

import numpy as np

from minicnn.core.random import normals
from minicnn.errors import MiniCNNError
from minicnn.gradient_check.diagnosis import FLOAT32
from minicnn.gradient_check.finite_differences import Line
from minicnn.gradient_check.problems import draw, layer_name
from minicnn.gradient_check.report import Finding
from minicnn.gradient_check.verdicts import BUG
from minicnn.reference import batch_statistics

__all__ = ["step_faults", "repeat_faults", "float32_fault", "moving_faults"]

_SENTINEL = 7.25        # the gradient before backward; what is still equal to it was never written


def step_faults(problem):
    """Return (Findings on one step, a StepProblem; whether its gradients can be checked nevertheless)."""
    name, found = problem.name, []

    def bug(cause, parameter=""):
        found.append(Finding(BUG, name, parameter, cause=cause))

    x = problem.x.copy()
    y = problem.forward(x)
    if not np.array_equal(x, problem.x):
        bug("forward changes its input, which the previous layer may still need", "x")
    if np.shape(y) != problem.dy.shape:
        bug(f"forward returned shape {np.shape(y)}, where build promised {problem.dy.shape}")
        return found, False
    if getattr(y, "dtype", None) != problem.dtype:
        bug(f"{FLOAT32}: x is {problem.dtype}, forward returned {getattr(y, 'dtype', type(y).__name__)}")
    for parameter in problem.parameters.values():
        parameter.grad[...] = _SENTINEL
    dy = problem.dy.copy()
    try:
        dx = problem.backward(dy)
    except MiniCNNError as error:           # a parameter may have refused what backward set
        refused = [place for place, parameter in problem.parameters.items()
                   if parameter is getattr(error, "parameter", None)]
        if not refused:
            raise
        sentence = str(error).removeprefix(f"{error.parameter.owner}: ").rstrip(".")
        return [*found, Finding(BUG, *refused[0], cause=sentence)], False
    if not np.array_equal(dy, problem.dy):
        bug("backward changes dy, which belongs to the next layer", "x")
    if (name, "x") in problem.arrays:
        if np.shape(dx) != problem.x.shape:
            bug("backward returned no dx" if dx is None else
                f"backward returned dx of shape {np.shape(dx)}, x has shape {problem.x.shape}", "x")
            return found, False
        if getattr(dx, "dtype", None) != problem.dtype:
            bug(f"{FLOAT32}: x is {problem.dtype}, dx is {getattr(dx, 'dtype', type(dx).__name__)}", "x")
    for (layer, parameter_name), parameter in problem.parameters.items():
        if parameter.grad.size and (parameter.grad == _SENTINEL).all():
            found.append(Finding(BUG, layer, parameter_name, cause="backward never writes its gradient"))
        parameter.grad[...] = 0
    return found, True


def _differ(one, two):
    return [place for place in one if not np.allclose(one[place], two[place], rtol=1e-10, atol=1e-300, equal_nan=True)]


def repeat_faults(problem):
    """Return Findings if a second call gives another result: an accumulated gradient, randomness, or a stale cache."""
    once, twice = problem.terms()[0], problem.terms()[0]
    if not np.array_equal(once, twice, equal_nan=True):
        return [Finding(BUG, problem.name, cause="forward is random between calls: the same input gave two outputs. "
                        "Use a seed, and draw random numbers once for each training step")]
    for parameter in problem.parameters.values():
        parameter.grad[...] = 0
    first, second = problem.gradients(), problem.gradients()
    found = []
    for place in _differ(first, second):
        doubled = place in problem.parameters and np.allclose(second[place], 2 * first[place], rtol=1e-6)
        found.append(Finding(BUG, *place, cause="the gradient is added to the previous one: accumulated instead of "
                             "overwritten" if doubled else "backward is random between calls: the same dy gave two "
                             "gradients"))
    if found:
        return found
    problem.forward_other_input()
    return [Finding(BUG, *place, cause="backward depends on an earlier forward than the last: it uses a stale cache")
            for place in _differ(first, problem.gradients())]


def moving_faults(step, x):
    """Return a Finding if a layer with moving_mean and moving_variance would move one otherwise than a batch x says.

    The new values are what `moved` returns after a forward: momentum old + (1 - momentum) new, new being the mean of a
    channel of x and the variance that is divided by M, the numbers of a channel.
    """
    layer, *others = step.layers or [None]
    kept = {statistic.name: statistic for statistic in getattr(layer, "statistics", ())}
    if others or list(kept) != ["moving_mean", "moving_variance"] or not getattr(layer, "trainable", True):
        return []
    before = [statistic.value.copy() for statistic in kept.values()]
    step.forward(x.copy())
    moves = {statistic.name: value for statistic, value in getattr(layer, "moved", list)()}
    m, M, close = layer.momentum, x.size // x.shape[-1], 1e-5 if x.dtype == np.float32 else 1e-9
    for (name, statistic), old, new in zip(kept.items(), before, batch_statistics(x)):
        got = moves.get(name)
        causes = [(m * old + (1 - m) * new, None),
                  ((1 - m) * old + m * new, "the moving average is the wrong way round: momentum weighs the batch"),
                  (m * old + (1 - m) * new * M / max(M - 1, 1), f"the variance is divided by M - 1, not by M = {M}"),
                  (m * old + (1 - m) * np.sqrt(np.abs(new)), "a standard deviation moves it, not a variance"),
                  (new, "it becomes that of the last batch, and no average of many")]
        cause = "forward moves it, so a check does too, and a step that is not finite: `moved` returns its new value" \
            if not np.array_equal(statistic.value, old) else "no batch in training moves it" if got is None else \
            next((cause for value, cause in causes if np.allclose(got, value, close, close)),
                 "it does not move to momentum old + (1 - momentum) new")
        if cause is not None:
            return [Finding(BUG, layer_name(layer), name, cause=cause)]
    return []


def float32_fault(problem, seed):
    """Return a Finding if the output has the resolution of float32 although every array is float64.

    At steps near 1e-9 finite differences in float64 still agree to three digits; those of a sum in float32 jump.
    """
    line = Line(problem, [(array, ..., draw(normals, seed, 20 + number, array.shape))
                          for number, array in enumerate(problem.arrays.values())])
    wide = line.best((1e-3, 1e-5, 1e-6), 0)
    steps = [2.0**-k for k in (26, 27, 28, 29, 30)]
    if wide is None or not all(line.same_choices(s) for s in steps):
        return []
    slopes, noise = [line.central(s) for s in steps], 100 * line.noise(steps[-1])
    uneven = max(slopes) - min(slopes) > max(noise, 1e-4 * abs(wide.value))
    stuck = not any(slopes) and abs(wide.value) > 10 * wide.uncertainty
    if not (uneven or stuck):
        return []
    return [Finding(BUG, problem.name, cause=f"{FLOAT32}: when input and parameters change by 1e-9, forward changes in "
                    "steps of about 1e-7, or not at all")]
