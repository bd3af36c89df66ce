"""The verdict on one number: OK, KINK, PRECISION or BUG.

- OK: backward and the difference agree, to within what the difference is worth.
- KINK: the function has a corner exactly here, and backward took a slope that the corner allows.
- PRECISION: no step gives a difference that could tell right from wrong.
- BUG: they disagree, and neither a kink nor the step explains it.

A kink within the first step is no reason to pass: smaller steps are tried until none lies within. Where the corner is
at the point itself (a tie, a zero, a flat patch) and the masks are known, the derivative with the masks kept fixed must
be what backward says; where they are not known, the two one-sided slopes must each be stable under halving the step,
and backward's number must lie between them.
"""

from typing import NamedTuple

import numpy as np

__all__ = ["OK", "KINK", "PRECISION", "BUG", "Verdict", "judge"]

OK, KINK, PRECISION, BUG = "OK", "KINK", "PRECISION", "BUG"


class Verdict(NamedTuple):
    """verdict : the last word
    first : what a check at the first step alone runs into: OK, KINK or PRECISION where it would accuse
    numeric : the derivative by differences
    step : with which step it was taken
    """

    verdict: str
    first: str
    numeric: float
    step: float


def judge(line, analytic, typical, precision, step=None):
    """Return the Verdict on what backward says of one line.

    Parameters
    ----------
    line : Line
    analytic : float, what backward says
    typical : float, the size of the gradients nearby
    precision : Precision
    step : float, the first step; that of the precision where None
    """
    h = step or precision.step
    difference = line.central(h)
    same = line.same(h)
    if same and _settled(line, h, analytic, difference, typical, precision):
        return Verdict(OK, OK, difference, h)
    first = PRECISION if same else KINK
    scale = max(abs(analytic), abs(difference), typical)
    # Of a corner that cannot be seen, a wide step takes the mean of two slopes, and seems sure of it.
    slope = line.best(precision.steps, 1e-9 * scale, analytic if line.problem.sees_all else np.nan)
    if slope is None:
        return _at_a_corner(line, analytic, precision, scale)
    if same and not line.problem.sees_all:
        # The error of a step that bends falls to a quarter when it is halved; that of a corner does not.
        error, halved = abs(difference - slope.value), abs(line.central(h / 2) - slope.value)
        first = PRECISION if 0.15 * error <= halved <= 0.4 * error else KINK
    scale = max(abs(analytic), abs(slope.value))
    if abs(slope.value - analytic) <= precision.rtol * scale + 3 * slope.uncertainty:
        vague = slope.uncertainty > precision.blur * max(scale, typical)
        verdict, first = (PRECISION, PRECISION) if vague else (OK, first)
        return Verdict(verdict, first, slope.value, slope.step)
    return _kink_or_bug(line, analytic, slope, precision)


def _settled(line, h, analytic, difference, typical, precision):
    """Whether the first step alone shows agreement, and could have shown the contrary."""
    if analytic == difference == 0:
        return True         # dead: nothing moves, and nothing is said to
    noise, scale = line.noise(h), max(abs(analytic), abs(difference))
    return (abs(difference - analytic) <= precision.rtol * scale + noise
            and noise <= precision.blur * max(scale, typical))


def _at_a_corner(line, analytic, precision, scale):
    """Judge where a choice changes at every step, however small."""
    slope = line.frozen(precision.steps, 1e-9 * scale, analytic)
    if abs(slope.value - analytic) <= precision.rtol * max(scale, abs(slope.value)) + 3 * slope.uncertainty:
        return Verdict(KINK, KINK, slope.value, slope.step)
    return _kink_or_bug(line, analytic, slope, precision)


def _kink_or_bug(line, analytic, slope, precision):
    """Judge a number that the slope denies: a corner that nobody could see may still excuse it."""
    kink = None if line.problem.sees_all else _between_slopes(line, analytic, slope, precision)
    return Verdict(BUG, BUG, slope.value, slope.step) if kink is None else kink


def _between_slopes(line, analytic, slope, precision):
    """Return the Verdict KINK where the slopes to the two sides are stable, disagree, and allow what backward says.

    They are taken with the smallest step that can tell: a corner nearby is none here.
    """
    for s in precision.steps[::-1]:
        noise = 4 * line.noise(s / 2)
        if noise > 0.1 * abs(analytic - slope.value):
            continue
        low, high, drift = line.one_sided(s)
        if high - low > 10 * noise and drift <= 0.1 * (high - low):
            slack = precision.rtol * max(abs(low), abs(high)) + noise + drift
            if low - slack <= analytic <= high + slack:
                return Verdict(KINK, KINK, (low + high) / 2, s)
        return None
    return None
