"""gradcheck: compare the gradients of layers, functions, losses and networks with finite differences.

A layer is checked number by number, at inputs in general position and then at inputs with many ties. A small network
is checked number by number from the loss, with its fused steps as in training; a large one along random directions,
two evaluations each. If a network is wrong, each of its steps is checked alone to locate the bug.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from minicnn.core.arguments import OneOf, OrNone, Real, check
from minicnn.core.memory import join
from minicnn.core.random import normals
from minicnn.gradient_check.elementwise import along_directions, check_row, row_findings, tie_findings
from minicnn.gradient_check.finite_differences import PRECISIONS, Precision
from minicnn.gradient_check.layer_contract import float32_fault, moving_faults, repeat_faults, step_faults
from minicnn.gradient_check.problems import Joined, StepProblem, draw, loss_gradient
from minicnn.gradient_check.report import Finding, Report
from minicnn.gradient_check.subjects import as_network, layer_problem, loss_problem, network_problem
from minicnn.gradient_check.verdicts import BUG, KINK
from minicnn.network import LayerStep

__all__ = ["gradcheck", "assert_gradients"]


def gradcheck(subject, shape=None, *, x=None, t=None, loss=None, engine=None, dtype="float64", step=None, directions=20,
              limit=1000, seed=0):
    """Compare the gradients of `subject` with finite differences, number by number or along random directions.

    Parameters
    ----------
    subject : what is checked:
        - a layer of minicnn or your own: an object with build, forward, backward and, optionally, parameters. It is
          built for the check; of a layer of minicnn that is built already, a copy is checked;
        - a pair of functions, (x) -> y and (x, dy) -> dx;
        - a loss of losses.py;
        - a Sequential or a Network. A float64 network is checked itself, a float32 one as a float64 copy
    shape : tuple with N, the shape of the input; for a model (2, *input_shape) by default
    x : ndarray, the inputs; by default they are drawn, from N(0, 1) for layers and U(0, 1) for models. Of a
        model of several inputs a list, as are t of several outputs
    t : ndarray, the targets of a model or a loss; drawn by default
    loss : name or loss, for a model; by default the loss it was compiled with, or the one that fits its last layer
    engine : "fast" or "reference", for layers and losses of minicnn; `$MINICNN_ENGINE` or "fast" by default
    dtype : "float64", or "float32" for a check in float32, which is less precise
    step : float in (0, 1), the first step; 1e-5 in float64 by default
    directions : int, the number of random directions for a model with more than `limit` parameters
    limit : int, how many numbers of an array, or of a model, are checked one by one
    seed : int, the seed of all random numbers

    Returns
    -------
    Report; it prints as text, and is true if no bug was found

    Raises
    ------
    InputError, ShapeError, DTypeError, NonFiniteError
        if the subject cannot be checked: no backward, an exception of its own, an output that is not finite

    >>> from minicnn.layers import Dense
    >>> report = gradcheck(Dense(2), shape=(3, 4), engine="reference")
    >>> bool(report), report.counts["OK"]
    (True, 44)
    >>> print(gradcheck((np.square, lambda x, dy: x * dy), shape=(3,)).bugs[0].cause)
    each is 1/2 of what it should be: a factor 2 is missing; 2 more of this array are wrong
    """
    dtype = np.dtype(dtype)
    check("gradcheck", "dtype", dtype.name, OneOf(PRECISIONS))
    step = check("gradcheck", "step", step, OrNone(Real(0, 1, "()")))
    options = _Options(dtype, PRECISIONS[dtype.name], step, limit, seed)
    network = as_network(subject)
    if network is not None:
        with network_problem(subject, network, shape, x, t, loss, seed, dtype) as problem:
            return _check_network(problem, options, directions)
    if hasattr(subject, "head") and hasattr(subject, "terms_per_sample"):
        problem = loss_problem(subject, shape, x, t, engine, seed, dtype)
        return _finished(Report(f"loss {problem.name}"), [_examine(problem, options)])
    with layer_problem(subject, shape, x, engine, seed, dtype) as problem:
        return _check_layer(problem, options, ties=x is None)


def assert_gradients(subject, shape=None, **options):
    """Raise AssertionError with the report if `gradcheck(subject, shape, ...)` finds a bug. For use in tests.

    >>> assert_gradients((np.sin, lambda x, dy: np.cos(x) * dy), shape=(3,))
    """
    __tracebackhide__ = True        # pytest then shows the line of the test
    report = gradcheck(subject, shape, **options)
    if not report:
        raise AssertionError(str(report))


class _Options(NamedTuple):
    """The options of a check: see gradcheck, and Precision in finite_differences.py."""

    dtype: np.dtype
    precision: Precision
    step: float | None
    limit: int
    seed: int


def _check_layer(problem, options, ties):
    report = Report(problem.name)
    found, usable = step_faults(problem)
    report.findings += found
    if not usable:
        return report
    results = [_examine(problem, options)]
    if ties and not _bugs(found + results[0][1]):
        tied = StepProblem(problem.step, np.round(problem.x), problem.dy)
        with np.errstate(all="ignore"):
            finite = np.isfinite(tied.terms()[0]).all()         # a logarithm is not defined at 0
        if finite:
            results.append(_examine(tied, options, "ties"))
    if not _bugs(found + [finding for _, findings in results for finding in findings]):
        report.findings += moving_faults(problem.step, problem.x)
    return _finished(report, results)


def _bugs(findings):
    return [finding for finding in findings if finding.verdict == BUG]


def _examine(problem, options, inputs=""):
    """Return (rows, findings) of all arrays of one problem."""
    problem.base()
    findings = repeat_faults(problem)
    if findings:
        return [], findings
    gradients = problem.gradients()
    if options.dtype == np.float64 and not inputs:
        findings += float32_fault(problem, options.seed)
        if findings:
            return [], findings         # no finite difference is precise enough then
    rows = []
    for place in problem.arrays:
        rows.append(check_row(problem, place, gradients[place], options, inputs))
        findings += row_findings(problem, rows[-1], gradients[place])
    if inputs and not _bugs(findings):
        findings += tie_findings(problem, rows, options)
    return rows, findings


def _finished(report, results):
    for rows, findings in results:
        report.rows += rows
        report.findings += findings
    report.findings.sort(key=lambda finding: finding.verdict != BUG)
    return report


def _check_network(problem, options, directions):
    size = sum(array.size for array in problem.arrays.values())
    report = Report(f"network of {size:,} parameters")
    if size <= options.limit:
        _finished(report, [_examine(problem, options)])
    else:
        problem.base()
        report.findings += repeat_faults(problem)
        report.directions, report.redrawn, found = along_directions(problem, directions, options)
        report.findings += found
    if not report:
        _locate(problem, options, report)
    else:
        _check_statistics(problem, report)
    return report


def _check_statistics(problem, report):
    """Add a Finding to the report for each layer that would move its statistics otherwise than its batch says."""
    _values(problem, problem.rows,
            lambda step, taken: report.findings.extend(moving_faults(step, taken)))


def _locate(problem, options, report):
    """Check every step alone, to locate the bug: a wrong step makes the gradients of the steps before it wrong too."""
    alone = [finding for findings in _check_steps(problem, options) for finding in findings]
    if found := _bugs(alone):
        located = {finding.array for finding in found}
        consequences = list(dict.fromkeys(bug.array for bug in report.bugs
                                          if bug.parameter and bug.array not in located))
        if consequences:
            report.notes.append(f"Wrong as a consequence: {', '.join(consequences)}.")
        report.findings = found + [finding for finding in report.findings if finding.verdict != BUG]
    elif (report.rows and not problem.kinks_visible and any(finding.verdict == KINK for finding in alone)
          and _is_chained(problem)):
        report.notes.append("Several numbers are at kinks together. Every step alone is right, and backward is the "
                            "chain of the steps.")
        report.findings = [replace(finding, verdict=KINK) for finding in report.findings]
        for row in report.rows:
            for verdicts in (row.first, row.verdicts):
                verdicts[verdicts == BUG] = KINK
    elif found := _branch_faults(problem):
        report.notes.append("Every step alone is right, the sum of what they hand back is not.")
        report.findings = found + [finding for finding in report.findings if finding.verdict != BUG]
    else:
        report.notes.append("Every step alone is right: check what the steps share, and what they pass to each other.")


def _branch_faults(problem):
    """Return a Finding on the last value whose gradient is not the sum of what the layers that take it hand back."""
    network, rows = problem.network, problem.rows
    takers = {value: [layer.name for layer, taken in zip(network.layers, network.sources) if value in taken]
              for value, wanted in enumerate(network.wanted) if wanted}
    branched = [value for value in takers if len(takers[value]) > 1]
    _, dy = loss_gradient(problem.loss, problem.ops, _values(problem, rows)[-1], problem.t)
    got, sums = network.gradients(dy, rows, branched), {rows[-1].last + 1: dy}
    _values(problem, rows)          # each backward uses one forward up
    for step, first, last in [row for row in rows[::-1] if network.wanted[row.last + 1]]:
        dx = step.backward(np.array(sums[last + 1]))
        for value, part in zip(network.sources[first], dx if isinstance(dx, list) else [dx]):
            if network.wanted[value]:
                sums[value] = sums.get(value, 0) + part
    wrong = [value for value in branched if not np.allclose(got[value], sums[value], rtol=1e-10, atol=1e-300)]
    cause = "it must be the sum of what each of the layers that take it hands back: {}"
    return [Finding(BUG, network.layers[value - 1].name, "y", cause=cause.format(" and ".join(takers[value])))
            for value in wrong[-1:]]


def _is_chained(problem):
    """Whether the gradients of the network are those of its steps, run backward one after another on copies."""
    gradients, network, rows = problem.gradients(), problem.network, problem.rows
    _, dy = loss_gradient(problem.loss, problem.ops, _values(problem, rows)[-1], problem.t)
    network.gradients(dy, rows)
    return all(np.allclose(parameter.grad, gradients[place], rtol=1e-10, atol=1e-300)
               for place, parameter in problem.parameters.items())


def _check_steps(problem, options):
    """Yield the findings on the loss and on each step of a network, from the last to the first with parameters."""
    z = np.array(problem.outputs())
    yield _examine(loss_problem(problem.loss, z.shape, z, problem.t, problem.network.engine, options.seed, z.dtype),
                   options)[1]
    size = sum(array.size for array in problem.arrays.values())
    alone = options if size <= options.limit else options._replace(limit=24)
    network, rows = problem.network, problem.rows
    values = _values(problem, rows)
    for step, first, last in reversed([row for row in rows if network.wanted[row.last + 1] and row.step.layers]):
        x, y = network.taken(values, first), values[last + 1]
        if isinstance(x, list):
            step, x = Joined(step, [part.shape[1:] for part in x]), join(x)
        moves_x = any(network.wanted[value] for value in network.sources[first])
        found = _check_step(step, x, y, moves_x, alone)
        if _bugs(found) and len(step.layers) > 1:
            # A fused step: if one of its layers is wrong alone, name that layer.
            by_layer = []
            for k, layer in enumerate(map(LayerStep, step.layers)):
                y = np.array(layer.forward(x.copy()))
                by_layer += _check_step(layer, x, y, moves_x or k > 0, alone)
                x = y
            found = by_layer if _bugs(by_layer) else found
        yield found


def _values(problem, rows, before=lambda step, taken: None):
    """Return copies of the values that some rows of a network make of the problem's x; `before` sees what each takes."""
    def run(step, taken):
        copied = [part.copy() for part in taken] if isinstance(taken, list) else taken.copy()
        before(step, copied)
        return np.array(step.forward(copied))
    return problem.network.values(problem.x.copy(), rows, run)


def _check_step(step, x, y, moves_x, options):
    """Return the findings on one step at its input x."""
    dy = draw(normals, options.seed, 3, y.shape).astype(x.dtype)
    problem = StepProblem(step, x, dy, moves_x=moves_x)
    found, usable = step_faults(problem)
    return found + (_examine(problem, options)[1] if usable and not found else [])
