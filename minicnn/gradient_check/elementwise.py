"""The check of one array, number by number, and of many along random directions."""

import numpy as np

from minicnn.core.random import Stream, normals, permutation
from minicnn.errors import InputError
from minicnn.gradient_check.diagnosis import likely_cause
from minicnn.gradient_check.finite_differences import Line
from minicnn.gradient_check.problems import drawn
from minicnn.gradient_check.report import Finding, Row
from minicnn.gradient_check.verdicts import BUG, KINK, PRECISION, judge

__all__ = ["check_row", "row_findings", "tie_findings", "along_directions"]

# How many findings of an array are told; the verdicts on all are in its Row.
_TOLD = {BUG: 3, PRECISION: 2, KINK: 1}


def check_row(problem, place, said, options, inputs=""):
    """Judge the numbers of one array: all, or `options.limit` of them drawn at random.

    Parameters
    ----------
    problem : see problems.py
    place : (layer, parameter), a key of problem.arrays
    said : ndarray, what backward says of it
    """
    array = problem.arrays[place]
    coordinates = np.arange(array.size)
    if array.size > options.limit:
        order = permutation(options.seed, Stream.CHECK, 1, array.size)
        coordinates = np.sort(order[:options.limit])
    analytic = said.reshape(-1)[coordinates].astype(np.float64)
    verdicts = []
    finite = analytic[np.isfinite(analytic)]
    typical = float(np.sqrt(np.mean(finite**2))) if finite.size else 0.0
    for i, value in zip(coordinates, analytic):
        line = _coordinate(problem, array, i, options)
        verdicts.append(judge(line, float(value), typical, options.precision, options.step))
    row = Row(*place, array.size, coordinates, analytic, np.array([v.numeric for v in verdicts]),
              np.array([v.verdict for v in verdicts], object), np.array([v.first for v in verdicts], object),
              np.array([v.step for v in verdicts]), inputs)
    if options.dtype == np.float64 and not row.count(BUG):
        _look_for_float32(problem, row, typical, options)
    return row


def _coordinate(problem, array, i, options):
    return Line(problem, [(array, np.unravel_index(i, array.shape), 1.0)], options.precision.eps)


def _look_for_float32(problem, row, typical, options):
    """Accuse an array of gradients of float32: where all are numbers of float32, and differences show the rounding."""
    told = np.flatnonzero(row.analytic)
    if not told.size or (row.analytic != row.analytic.astype(np.float32)).any():
        return
    array = problem.arrays[row.layer, row.parameter]
    for k in told[:8]:
        slope = _coordinate(problem, array, row.coordinates[k], options).best((1e-3, 1e-4, 1e-5), 1e-11 * typical)
        if slope is not None and abs(slope.value - row.analytic[k]) > 3 * slope.uncertainty + 1e-10 * abs(slope.value):
            row.verdicts[k], row.numeric[k] = BUG, slope.value


def row_findings(problem, row, said):
    """Return the Findings of one row, the worst first, with the likely cause."""
    found = []
    for verdict, most in _TOLD.items():
        where = np.flatnonzero(row.verdicts == verdict)
        worst = where[np.argsort(-np.abs(row.analytic[where] - row.numeric[where]), kind="stable")][:most]
        for k in worst:
            index = tuple(int(i) for i in np.unravel_index(row.coordinates[k], said.shape))
            cause = _cause(problem, row, said, verdict) if k == worst[0] else ""
            found.append(Finding(verdict, row.layer, row.parameter, index, float(row.analytic[k]),
                                 float(row.numeric[k]), cause, float(row.steps[k])))
    return found


def _cause(problem, row, said, verdict):
    if verdict == KINK:
        return "a corner exactly here, and the slope taken is one of those it allows"
    if verdict == PRECISION:
        return "no step tells right from wrong here"
    numeric = np.full(said.size, np.nan)
    numeric[row.coordinates] = row.numeric
    dy = getattr(problem, "dy", None)
    N = len(getattr(problem, "x", getattr(problem, "z", [0])))
    cause = likely_cause(said.astype(np.float64), numeric.reshape(said.shape), N, dy)
    others = row.count(BUG) - 1
    return "; ".join([cause] * bool(cause) + [f"{others:,} more of this array are wrong"] * bool(others))


def tie_findings(problem, rows, options):
    """Return Findings where tied numbers together get more, or less, gradient than there is.

    Of numbers that tie, each alone may take any share. Moved together they stay tied, so the sum of the shares is told.
    """
    if problem.sees_all:
        return []               # the masks were known, and each number was checked with them
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
                index = tuple(int(i) for i in np.unravel_index(row.coordinates[together[0]], array.shape))
                found.append(Finding(BUG, row.layer, row.parameter, index, analytic, verdict.numeric,
                                     f"the {len(together)} numbers that tie at {value:g} move the output together by "
                                     "another amount than their gradients add up to: a tie's gradient goes to one, "
                                     "once"))
    return found


def along_directions(problem, count, options):
    """Check a large problem along random directions, each through all its arrays, which move by equal lengths.

    Returns
    -------
    directions : list of (analytic, numeric, relative error)
    redrawn : int, directions along which a choice changed, and which were drawn anew
    found : list of Finding

    Raises InputError if nine directions in ten cross a kink.
    """
    said = problem.gradients()
    # The size of a typical directional derivative: what g . v is on average for v of unit length in each array.
    typical = float(np.sqrt(sum(np.sum(g.astype(np.float64)**2) / g.size for g in said.values())))
    h = options.step or options.precision.step * 0.03
    directions, drawn_so_far = [], 0
    while len(directions) < count:
        if drawn_so_far >= 10 * count:
            raise InputError(f"gradcheck: of {drawn_so_far} directions {drawn_so_far - len(directions)} cross a kink "
                             f"within a step of {h:.0e}. Take a smaller step, or inputs without flat places.")
        moves, analytic = [], 0.0
        for number, (place, array) in enumerate(problem.arrays.items()):
            v = drawn(normals, options.seed, 1000 + 50 * drawn_so_far + number, array.shape)
            v /= np.linalg.norm(v)
            moves.append((array, ..., v))
            analytic += float(np.vdot(said[place], v))
        drawn_so_far += 1
        line = Line(problem, moves, options.precision.eps)
        if not line.same(h):
            continue
        numeric = line.central(h)
        error = abs(numeric - analytic) / (max(abs(numeric), abs(analytic), typical) or 1.0)
        directions.append((analytic, numeric, error))
    wrong = [direction for direction in directions if direction[2] > options.precision.rtol]
    analytic, numeric, _ = max(wrong, key=lambda direction: direction[2], default=(0, 0, 0))
    found = [Finding(BUG, problem.name, "", None, analytic, numeric, f"{len(wrong)} of {count} directions disagree, "
                     "this one most")] if wrong else []
    return directions, drawn_so_far - count, found
