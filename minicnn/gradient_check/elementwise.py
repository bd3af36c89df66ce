"""The check of one array number by number, and of all arrays along random directions."""

import numpy as np

from minicnn.core.random import Stream, normals, permutation
from minicnn.errors import InputError
from minicnn.gradient_check.diagnosis import likely_cause
from minicnn.gradient_check.finite_differences import Line
from minicnn.gradient_check.problems import draw
from minicnn.gradient_check.report import Finding, Row
from minicnn.gradient_check.verdicts import BUG, KINK, PRECISION, judge

__all__ = ["check_row", "row_findings", "tie_findings", "along_directions"]

# The number of findings reported for an array; the verdicts on all its numbers are in its Row.
_REPORTED = {BUG: 3, PRECISION: 2, KINK: 1}


def check_row(problem, place, gradient, options, inputs=""):
    """Return the Row of one array: the verdicts on all its numbers, or on `options.limit` random ones.

    Parameters
    ----------
    problem : see problems.py
    place : (layer, parameter), a key of problem.arrays
    gradient : ndarray, its gradient by backward
    """
    array = problem.arrays[place]
    coordinates = np.arange(array.size)
    if array.size > options.limit:
        order = permutation(options.seed, Stream.CHECK, 1, array.size)
        coordinates = np.sort(order[:options.limit])
    analytic = gradient.reshape(-1)[coordinates].astype(np.float64)
    finite = analytic[np.isfinite(analytic)]
    typical = float(np.sqrt(np.mean(finite**2))) if finite.size else 0.0
    judged = [judge(_coordinate(problem, array, i, options), float(value), typical, options.precision, options.step)
              for i, value in zip(coordinates, analytic)]
    row = Row(*place, array.size, coordinates, analytic, np.array([one.numeric for one in judged]),
              np.array([one.verdict for one in judged], object), np.array([one.first for one in judged], object),
              np.array([one.step for one in judged]), inputs)
    if options.dtype == np.float64 and not row.count(BUG):
        _find_float32(problem, row, typical, options)
    return row


def _coordinate(problem, array, i, options):
    """Return the Line along which one number of an array changes."""
    return Line(problem, [(array, np.unravel_index(i, array.shape), 1.0)], options.precision.eps)


def _find_float32(problem, row, typical, options):
    """Set BUG in an array that was rounded to float32, if finite differences show the rounding error."""
    nonzero = np.flatnonzero(row.analytic)
    if (row.analytic != row.analytic.astype(np.float32)).any():
        return
    array = problem.arrays[row.layer, row.parameter]
    for k in nonzero[:8]:
        slope = _coordinate(problem, array, row.coordinates[k], options).best((1e-3, 1e-4, 1e-5), 1e-11 * typical)
        if slope is not None and abs(slope.value - row.analytic[k]) > 3 * slope.uncertainty + 1e-10 * abs(slope.value):
            row.verdicts[k], row.numeric[k] = BUG, slope.value


def row_findings(problem, row, gradient):
    """Return the Findings of one row, the worst first, with the likely cause."""
    found = []
    for verdict, most in _REPORTED.items():
        where = np.flatnonzero(row.verdicts == verdict)
        worst = where[np.argsort(-np.abs(row.analytic[where] - row.numeric[where]), kind="stable")][:most]
        for k in worst:
            cause = _cause(problem, row, gradient, verdict) if k == worst[0] else ""
            found.append(Finding(verdict, row.layer, row.parameter, _index(row, k, gradient.shape),
                                 float(row.analytic[k]), float(row.numeric[k]), cause, float(row.steps[k])))
    return found


def _index(row, k, shape):
    return tuple(int(i) for i in np.unravel_index(row.coordinates[k], shape))


def _cause(problem, row, gradient, verdict):
    if verdict == KINK:
        return "the function is not differentiable here, and this is a valid subgradient"
    if verdict == PRECISION:
        return "insufficient precision: no step tells right from wrong"
    numeric = np.full(gradient.size, np.nan)
    numeric[row.coordinates] = row.numeric
    N = len(getattr(problem, "x", getattr(problem, "z", [0])))
    cause = likely_cause(gradient.astype(np.float64), numeric.reshape(gradient.shape), N, getattr(problem, "dy", None))
    others = row.count(BUG) - 1
    return "; ".join([cause] * bool(cause) + [f"{others:,} more of this array are wrong"] * bool(others))


def tie_findings(problem, rows, options):
    """Return Findings where the gradients of tied numbers have the wrong sum.

    Each of the tied numbers alone may get any share of the gradient. Moved together they stay tied, so a finite
    difference gives the sum of the shares.
    """
    if problem.kinks_visible:
        return []               # each number was checked with the masks that were known
    found = []
    for row in rows:
        array = problem.arrays[row.layer, row.parameter]
        kinks = np.flatnonzero(row.verdicts == KINK)
        values = array.reshape(-1)[row.coordinates[kinks]]
        for value in np.unique(values)[:16]:
            together = kinks[values == value]
            shift = np.zeros(array.size)
            shift[row.coordinates[together]] = 1
            line = Line(problem, [(array, ..., shift.reshape(array.shape))], options.precision.eps)
            analytic = float(row.analytic[together].sum())
            verdict = judge(line, analytic, abs(analytic), options.precision, options.step)
            if verdict.verdict == BUG:
                index = _index(row, together[0], array.shape)
                found.append(Finding(BUG, row.layer, row.parameter, index, analytic, verdict.numeric,
                                     f"the gradients of the {len(together)} numbers tied at {value:g} have the wrong "
                                     "sum: at a tie exactly one number gets the gradient"))
    return found


def along_directions(problem, count, options):
    """Check a large problem along random directions, which have a part of unit length in each array.

    Returns
    -------
    directions : list of (analytic, numeric, relative error)
    redrawn : int, the number of directions along which a choice changed, and which were replaced
    found : list of Finding

    Raises InputError if nine in ten directions cross a kink.
    """
    gradients = problem.gradients()
    # The root mean square of the directional derivative g . v, for v of unit length in each array.
    typical = float(np.sqrt(sum(np.sum(g.astype(np.float64)**2) / g.size for g in gradients.values())))
    h = options.step or options.precision.step * 0.03
    directions, tried = [], 0
    while len(directions) < count:
        if tried >= 10 * count:
            raise InputError(f"gradcheck: {tried - len(directions)} of {tried} directions cross a kink within a step "
                             f"of {h:.0e}. Use a smaller step, or inputs without constant patches.")
        moves, analytic = [], 0.0
        for number, (place, array) in enumerate(problem.arrays.items()):
            v = draw(normals, options.seed, 1000 + 50 * tried + number, array.shape)
            v /= np.linalg.norm(v)
            moves.append((array, ..., v))
            analytic += float(np.vdot(gradients[place], v))
        tried += 1
        line = Line(problem, moves, options.precision.eps)
        if not line.same_choices(h):
            continue
        numeric = line.central(h)
        error = abs(numeric - analytic) / (max(abs(numeric), abs(analytic), typical) or 1.0)
        directions.append((analytic, numeric, error))
    wrong = [direction for direction in directions if direction[2] > options.precision.rtol]
    analytic, numeric, _ = max(wrong, key=lambda direction: direction[2], default=(0, 0, 0))
    found = [Finding(BUG, problem.name, "", None, analytic, numeric, f"{len(wrong)} of {count} directions disagree; "
                     "this is the worst")] if wrong else []
    return directions, tried - count, found
