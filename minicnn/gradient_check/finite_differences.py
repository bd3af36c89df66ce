"""Derivatives by differences, with what they are worth: the function along one line, at as many steps as it takes.

    D(h) = (L(+h) - L(-h)) / 2h = L' + h^2 L''' / 6 + rounding / h

A large step bends, a small one rounds. Two steps tell how much a derivative is worth: D(h) and D(h/2) differ by what
the step costs, and Richardson's (4 D(h/2) - D(h)) / 3 takes the h^2 term away.
"""

from typing import NamedTuple

import numpy as np

__all__ = ["Line", "Slope", "Precision", "PRECISIONS"]


class Precision(NamedTuple):
    """How a check computes in one dtype.

    step : the first step; steps : those that follow where the first does not settle it
    rtol : what counts as agreement, relative to the larger of the two numbers
    blur : how uncertain, relative to what the gradients nearby are like, a derivative may be and still say something
    """

    step: float
    steps: tuple
    rtol: float
    blur: float
    eps: float


PRECISIONS = {
    "float64": Precision(1e-5, (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8), 1e-7, 1e-4, 2.0**-52),
    "float32": Precision(2.0**-8, (2.0**-5, 2.0**-7, 2.0**-9, 2.0**-11), 2e-3, 5e-2, 2.0**-23),
}


class Slope(NamedTuple):
    """A derivative, how far off it may be, and the step it was taken with."""

    value: float
    uncertainty: float
    step: float


class Line:
    """The function along a line through the point where the arrays stand.

    Parameters
    ----------
    problem : see problems.py
    moves : list of (array, where, how much): the array moves by s x how much at s. `where` is an index or `...`
    eps : float, the relative rounding error of the problem's dtype
    """

    def __init__(self, problem, moves, eps=2.0**-52):
        self.problem, self.moves, self.eps = problem, moves, eps
        self._seen = {}

    def at(self, s):
        """Return (terms, choices) at s; the arrays stand where they stood afterwards."""
        return self._moved(s, self.problem.terms, self._seen)

    def _moved(self, s, function, memory):
        if s not in memory:
            kept = [np.array(array[where]) for array, where, _ in self.moves]
            try:
                for (array, where, much), start in zip(self.moves, kept):
                    array[where] = start + s * much
                memory[s] = function()
            finally:
                for (array, where, _), start in zip(self.moves, kept):
                    array[where] = start
        return memory[s]

    def same(self, s):
        """Whether the choices at s and at -s are those at 0: then no kink that can be seen lies between them."""
        _, choices = self.problem.base()
        return all(np.array_equal(a, b) for sign in (s, -s) for a, b in zip(self.at(sign)[1], choices, strict=True))

    def central(self, s):
        """Return the central difference D(s)."""
        return float((self.at(s)[0] - self.at(-s)[0]).sum() / self._width(s))

    def noise(self, s):
        """Return what rounding may add to D(s): some 30 units in the last place of the terms that changed.

        Where none changed, they may have meant to by half a unit.
        """
        return self._rounding(self.at(s)[0], self.at(-s)[0], s)

    def _rounding(self, plus, minus, s):
        changed, sizes = plus != minus, np.abs(plus) + np.abs(minus)
        return float(self.eps * (30 * sizes[changed].sum() if changed.any() else sizes.sum() / 2) / (2 * s))

    def _width(self, s):
        """Return the distance between +s and -s, as far as it survived rounding."""
        array, where, much = self.moves[0]
        if len(self.moves) > 1 or where is ... or np.ndim(much):
            return 2 * s
        start = array[where]
        return float(array.dtype.type(start + s * much)) - float(array.dtype.type(start - s * much))

    def extrapolated(self, s):
        """Return Richardson's Slope from s and s/2, or None where a choice changes on the way."""
        if not (self.same(s) and self.same(s / 2)):
            return None
        coarse, fine = self.central(s), self.central(s / 2)
        return Slope((4 * fine - coarse) / 3, abs(fine - coarse) + self.noise(s / 2), s)

    def best(self, steps, enough, claim=np.nan):
        """Return the Slope with the least uncertainty, or None where choices change at every step.

        Looking ends at an uncertainty of `enough`, or where `claim` is plainly another number.
        """
        return _best((self.extrapolated(s) for s in steps), enough, claim)

    def frozen(self, steps, enough, claim=np.nan):
        """Return the best Slope of the function whose choices are kept as they are at the point itself."""
        _, choices = self.problem.base()
        memory = {}

        def central(s):
            plus, minus = (self._moved(signed, lambda: self.problem.frozen(choices), memory) for signed in (s, -s))
            return float((plus - minus).sum() / self._width(s)), self._rounding(plus, minus, s)

        def extrapolated(s):
            (coarse, _), (fine, noise) = central(s), central(s / 2)
            return Slope((4 * fine - coarse) / 3, abs(fine - coarse) + noise, s)
        return _best((extrapolated(s) for s in steps), enough, claim)

    def one_sided(self, s):
        """Return (low, high, drift): the slopes to either side, and how much they change when s is halved.

        They are taken of each term, the lower and the higher one summed: an output of a layer at its kink may have any
        slope between its two, whatever the others do.
        """
        middle, _ = self.problem.base()
        half = s / 2
        sides = [(self.at(s)[0] - middle) / s, (middle - self.at(-s)[0]) / s]
        halves = [(self.at(half)[0] - middle) / half, (middle - self.at(-half)[0]) / half]
        drift = sum(float(np.abs(a - b).sum()) for a, b in zip(sides, halves))
        return float(np.minimum(*halves).sum()), float(np.maximum(*halves).sum()), drift


def _best(slopes, enough, claim):
    best = None
    for slope in slopes:
        if slope is not None and np.isfinite(slope.value) and (best is None or slope.uncertainty < best.uncertainty):
            best = slope
            if best.uncertainty <= enough or best.uncertainty < 0.01 * abs(best.value - claim):
                break
    return best
