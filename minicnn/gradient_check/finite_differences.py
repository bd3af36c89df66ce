"""Finite differences with an error estimate: the function along one line, at as many steps as needed.

    D(h) = (L(+h) - L(-h)) / 2h = L' + h^2 L''' / 6 + rounding / h

A large step has truncation error, a small one rounding error. D(h) and D(h/2) together give an estimate of the error,
and Richardson's extrapolation (4 D(h/2) - D(h)) / 3 removes the h^2 term.
"""

from typing import NamedTuple

import numpy as np

__all__ = ["Line", "Slope", "Precision", "PRECISIONS"]


class Precision(NamedTuple):
    """The settings of a check in one dtype.

    step : the first step; steps : the steps tried if the first does not decide
    rtol : the tolerance, relative to the larger of the two numbers
    max_uncertainty : the largest uncertainty of a usable derivative, relative to the typical gradient of its array
    eps : the machine epsilon
    """

    step: float
    steps: tuple
    rtol: float
    max_uncertainty: float
    eps: float


PRECISIONS = {
    "float64": Precision(1e-5, (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8), 1e-7, 1e-4, 2.0**-52),
    "float32": Precision(2.0**-8, (2.0**-5, 2.0**-7, 2.0**-9, 2.0**-11), 2e-3, 5e-2, 2.0**-23),
}


class Slope(NamedTuple):
    """A derivative, its uncertainty, and its step."""

    value: float
    uncertainty: float
    step: float


class Line:
    """The function along a line through the current values of the arrays.

    Parameters
    ----------
    problem : see problems.py
    moves : list of (array, index, direction): at s, s x direction is added to array[index]. The index may be `...`
    eps : float, the relative rounding error of the problem's dtype
    terms : function without arguments that returns (terms, choices); `problem.terms` by default
    """

    def __init__(self, problem, moves, eps=2.0**-52, terms=None):
        self.problem, self.moves, self.eps = problem, moves, eps
        self._terms, self._known = terms or problem.terms, {}

    def at(self, s):
        """Return (terms, choices) at s. The arrays keep their values."""
        if s not in self._known:
            kept = [np.array(array[index]) for array, index, _ in self.moves]
            try:
                for (array, index, direction), start in zip(self.moves, kept):
                    array[index] = start + s * direction
                self._known[s] = self._terms()
            finally:
                for (array, index, _), start in zip(self.moves, kept):
                    array[index] = start
        return self._known[s]

    def same_choices(self, s):
        """Whether the choices at s and at -s are those at 0: then no visible kink lies between them."""
        _, choices = self.problem.base()
        return all(np.array_equal(a, b) for sign in (s, -s) for a, b in zip(self.at(sign)[1], choices, strict=True))

    def central(self, s):
        """Return the central difference D(s)."""
        return float((self.at(s)[0] - self.at(-s)[0]).sum() / self._width(s))

    def noise(self, s):
        """Return the rounding error that D(s) may have: about 30 units in the last place of the terms that changed.

        If no term changed, each may have changed by half a unit.
        """
        plus, minus = self.at(s)[0], self.at(-s)[0]
        changed, sizes = plus != minus, np.abs(plus) + np.abs(minus)
        return float(self.eps * (30 * sizes[changed].sum() if changed.any() else sizes.sum() / 2) / (2 * s))

    def _width(self, s):
        """Return the distance between +s and -s after rounding to the array's dtype."""
        array, index, direction = self.moves[0]
        if len(self.moves) > 1 or index is ... or np.ndim(direction):
            return 2 * s
        start = array[index]
        return float(array.dtype.type(start + s * direction)) - float(array.dtype.type(start - s * direction))

    def extrapolated(self, s):
        """Return Richardson's Slope from s and s/2, or None if a choice changes between them and 0."""
        if not (self.same_choices(s) and self.same_choices(s / 2)):
            return None
        coarse, fine = self.central(s), self.central(s / 2)
        return Slope((4 * fine - coarse) / 3, abs(fine - coarse) + self.noise(s / 2), s)

    def best(self, steps, enough, claim=np.nan):
        """Return the Slope with the least uncertainty, or None if choices change at every step.

        The search ends at an uncertainty of `enough`, or when `claim` is clearly a different number.
        """
        best = None
        for slope in map(self.extrapolated, steps):
            if slope is None or not np.isfinite(slope.value):
                continue
            if best is None or slope.uncertainty < best.uncertainty:
                best = slope
                if best.uncertainty <= enough or best.uncertainty < 0.01 * abs(best.value - claim):
                    break
        return best

    def frozen(self):
        """Return the line of the smooth function whose choices stay those at 0."""
        _, choices = self.problem.base()
        return Line(self.problem, self.moves, self.eps, lambda: (self.problem.frozen(choices), choices))

    def one_sided(self, s):
        """Return (low, high, drift): the slopes to either side, and how much they change when s is halved.

        For each term the lower and the higher slope are taken, then summed: an output at a kink may have any slope
        between its two, independently of the other outputs.
        """
        middle, _ = self.problem.base()
        half = s / 2
        sides = [(self.at(s)[0] - middle) / s, (middle - self.at(-s)[0]) / s]
        halves = [(self.at(half)[0] - middle) / half, (middle - self.at(-half)[0]) / half]
        drift = sum(float(np.abs(a - b).sum()) for a, b in zip(sides, halves))
        return float(np.minimum(*halves).sum()), float(np.maximum(*halves).sum()), drift
