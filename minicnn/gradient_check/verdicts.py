"""The verdict on one number of a gradient: OK, KINK, PRECISION or BUG.

- OK: the analytic gradient and the finite difference agree within the uncertainty of the difference.
- KINK: the function is not differentiable at this point, and backward returned a valid subgradient.
- PRECISION: insufficient precision; no step gives a difference that could tell right from wrong.
- BUG: the two disagree, and neither a kink nor the step explains it.

A kink within the first step does not end the check: smaller steps are tried until none lies within. If the kink is
at the point itself (a tie, a zero, a constant patch) and the masks are known, the analytic gradient must equal the
derivative with the masks kept fixed. If they are not known, the two one-sided slopes must each be stable when the step
is halved, and the analytic gradient must lie between them.
"""

from typing import NamedTuple

import numpy as np

__all__ = ["OK", "KINK", "PRECISION", "BUG", "VERDICTS", "Verdict", "judge"]

VERDICTS = OK, KINK, PRECISION, BUG = "OK", "KINK", "PRECISION", "BUG"


class Verdict(NamedTuple):
    """verdict : the final verdict
    first : the verdict at the first step alone: OK, or KINK or PRECISION where such a check would report an error
    numeric : the derivative by finite differences
    step : its step
    """

    verdict: str
    first: str
    numeric: float
    step: float


def judge(line, analytic, typical, precision, step=None):
    """Return the Verdict on the derivative along one line.

    Parameters
    ----------
    line : Line
    analytic : float, the derivative computed by backward
    typical : float, the typical size of the gradients of the same array
    precision : Precision
    step : float, the first step; that of the precision if None
    """
    h = step or precision.step
    difference = line.central(h)
    same = line.same_choices(h)
    if same and _settled(line, h, analytic, difference, typical, precision):
        return Verdict(OK, OK, difference, h)
    first = PRECISION if same else KINK
    scale = max(abs(analytic), abs(difference), typical)
    # At a kink that is not visible a wide step gives the mean of two slopes, with a small uncertainty.
    slope = line.best(precision.steps, 1e-9 * scale, analytic if line.problem.kinks_visible else np.nan)
    if slope is None:
        # A choice changes at every step, however small: the point itself is a kink.
        slope = line.frozen().best(precision.steps, 1e-9 * scale, analytic)
        if abs(slope.value - analytic) <= precision.rtol * max(scale, abs(slope.value)) + 3 * slope.uncertainty:
            return Verdict(KINK, KINK, slope.value, slope.step)
        return _kink_or_bug(line, analytic, slope, precision)
    if same and not line.problem.kinks_visible:
        # Halving the step divides a truncation error by four; the error at a kink stays.
        error, halved = abs(difference - slope.value), abs(line.central(h / 2) - slope.value)
        first = PRECISION if 0.15 * error <= halved <= 0.4 * error else KINK
    scale = max(abs(analytic), abs(slope.value))
    if abs(slope.value - analytic) <= precision.rtol * scale + 3 * slope.uncertainty:
        vague = slope.uncertainty > precision.max_uncertainty * max(scale, typical)
        verdict, first = (PRECISION, PRECISION) if vague else (OK, first)
        return Verdict(verdict, first, slope.value, slope.step)
    return _kink_or_bug(line, analytic, slope, precision)


def _settled(line, h, analytic, difference, typical, precision):
    """Whether the first step alone shows agreement, and is precise enough to have shown a disagreement."""
    if analytic == difference == 0:
        return True
    noise, scale = line.noise(h), max(abs(analytic), abs(difference))
    return (abs(difference - analytic) <= precision.rtol * scale + noise
            and noise <= precision.max_uncertainty * max(scale, typical))


def _kink_or_bug(line, analytic, slope, precision):
    """Return BUG, or KINK if a kink that is not visible allows `analytic`.

    The one-sided slopes must be stable and differ, and `analytic` must lie between them. The smallest step that is
    precise enough decides: a kink close by does not count.
    """
    bug = Verdict(BUG, BUG, slope.value, slope.step)
    for s in () if line.problem.kinks_visible else precision.steps[::-1]:
        noise = 4 * line.noise(s / 2)
        if noise > 0.1 * abs(analytic - slope.value):
            continue
        low, high, drift = line.one_sided(s)
        slack = precision.rtol * max(abs(low), abs(high)) + noise + drift
        kink = high - low > 10 * noise and drift <= 0.1 * (high - low) and low - slack <= analytic <= high + slack
        return Verdict(KINK, KINK, (low + high) / 2, s) if kink else bug
    return bug
