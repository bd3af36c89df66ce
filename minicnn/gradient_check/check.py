"""gradcheck: is what backward returns the gradient of what forward computes? For layers, functions, losses, networks.

A layer is checked number by number, with inputs in general position and then with inputs full of ties. A small network
is checked number by number from the loss, as it trains, fused steps and all; a large one along random directions, two
evaluations each. Where a network is wrong, each of its steps is then checked alone, which names the place.
"""

from dataclasses import replace

import numpy as np

from minicnn.core.random import normals
from minicnn.errors import InputError
from minicnn.gradient_check.elementwise import along_directions, check_row, row_findings, tie_findings
from minicnn.gradient_check.finite_differences import PRECISIONS
from minicnn.gradient_check.layer_contract import float32_fault, repeat_faults, step_faults
from minicnn.gradient_check.problems import StepProblem, drawn
from minicnn.gradient_check.report import Report
from minicnn.gradient_check.subjects import as_network, layer_problem, loss_problem, network_problem
from minicnn.gradient_check.verdicts import BUG, KINK
from minicnn.network import LayerStep

__all__ = ["gradcheck", "assert_gradients"]


def gradcheck(subject, shape=None, *, x=None, t=None, loss=None, engine=None, dtype="float64", step=None, directions=20,
              limit=1000, seed=0):
    """Compare the gradients of `subject` with differences, and say of each number whether it is right.

    Parameters
    ----------
    subject : what is checked:
        - a layer, ours or your own: an object with build, forward, backward and perhaps parameters. It is built anew,
          but for a layer of ours that is built already: then a copy of it is checked;
        - a pair of functions, (x) -> y and (x, dy) -> dx;
        - a loss of losses.py;
        - a Sequential or a Network. In float64 it is checked as it stands, in float32 a float64 copy of it is
    shape : tuple with N, the shape of the input; for a model (2, *input_shape) where None
    x : ndarray, the inputs, instead of drawn ones: normals for layers, U(0, 1) for models
    t : ndarray, the targets of a model or a loss, instead of drawn ones
    loss : name or loss, for a model; that it was compiled with, or what its last layer asks for, where None
    engine : "fast" or "reference", for layers and losses of ours; `$MINICNN_ENGINE` or "fast" where None
    dtype : "float64", or "float32" to see what float32 leaves of a check
    step : float, the first step; 1e-5 in float64
    directions : int, for a model with more than `limit` parameters: how many random directions
    limit : int, how many numbers of an array, or of a model, are checked one by one
    seed : int, decides all that is drawn

    Returns
    -------
    Report, to print; true only where no bug was found

    Raises
    ------
    InputError, ShapeError, DTypeError, NonFiniteError
        where the subject cannot be checked: no backward, an exception of its own, no finite output

    >>> from minicnn.layers import Dense
    >>> report = gradcheck(Dense(2), shape=(3, 4), engine="reference")
    >>> bool(report), report.counts["OK"]
    (True, 44)
    >>> print(gradcheck((np.square, lambda x, dy: x * dy), shape=(3,)).bugs[0].cause)
    each is 1/2 of what it should be: a factor 2 is missing; 2 more of this array are wrong
    """
    options = _Options(dtype, step, limit, seed)
    network = as_network(subject)
    if network is not None:
        with network_problem(subject, network, shape, x, t, loss, seed, options.dtype) as problem:
            return _check_network(problem, options, directions)
    if hasattr(subject, "head") and hasattr(subject, "terms_per_sample"):
        problem = loss_problem(subject, shape, x, t, engine, seed, options.dtype)
        return _finished(Report(f"loss {problem.name}"), [_examine(problem, options)])
    with layer_problem(subject, shape, x, engine, seed, options.dtype) as problem:
        return _check_layer(problem, options, ties=x is None)


def assert_gradients(subject, shape=None, **options):
    """Raise AssertionError with the report unless `gradcheck(subject, shape, ...)` finds no bug: for tests.

    >>> assert_gradients((np.sin, lambda x, dy: np.cos(x) * dy), shape=(3,))
    """
    __tracebackhide__ = True        # pytest then shows the line of the test
    report = gradcheck(subject, shape, **options)
    if not report:
        raise AssertionError(str(report))


class _Options:
    """What all parts of one check share: dtype, precision (finite_differences.py), first step, limit, seed."""

    def __init__(self, dtype, step, limit, seed):
        self.dtype = np.dtype(dtype)
        if self.dtype.name not in PRECISIONS:
            raise InputError(f"gradcheck: dtype must be float64 or float32, got {dtype!r}.")
        if step is not None and not 0 < step < 1:
            raise InputError(f"gradcheck: step must lie in (0, 1), got {step!r}.")
        self.precision, self.step, self.limit, self.seed = PRECISIONS[self.dtype.name], step, limit, seed


def _check_layer(problem, options, ties):
    report = Report(problem.name)
    found, usable = step_faults(problem)
    report.findings += found
    if not usable:
        return report
    parts = [_examine(problem, options)]
    if ties and not _bugs(found + parts[0][1]):
        tied = StepProblem(problem.step, np.round(problem.x), problem.dy, name=problem.name)
        with np.errstate(all="ignore"):
            finite = np.isfinite(tied.terms()[0]).all()         # a logarithm has nothing to say at 0
        if finite:
            parts.append(_examine(tied, options, "ties"))
    return _finished(report, parts)


def _bugs(findings):
    return [finding for finding in findings if finding.verdict == BUG]


def _examine(problem, options, inputs=""):
    """Return (rows, findings) of all arrays of one problem."""
    problem.base()
    findings = repeat_faults(problem)
    if findings:
        return [], findings
    said = problem.gradients()
    if options.dtype == np.float64 and not inputs:
        findings += float32_fault(problem, options.seed)
        if findings:
            return [], findings         # no difference is worth anything then
    rows = []
    for place in problem.arrays:
        rows.append(check_row(problem, place, said[place], options, inputs))
        findings += row_findings(problem, rows[-1], said[place])
    if inputs and not _bugs(findings):
        findings += tie_findings(problem, rows, options)
    return rows, findings


def _finished(report, parts):
    for rows, findings in parts:
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
        _name_the_place(problem, options, report)
    return report


def _name_the_place(problem, options, report):
    """Check every step alone; what is wrong with one explains what came out wrong for those before it."""
    alone = [finding for findings in _steps_alone(problem, options) for finding in findings]
    culprits = _bugs(alone)
    if culprits:
        named = {(finding.layer, finding.parameter) for finding in culprits}
        follow = list(dict.fromkeys(f"{f.layer}/{f.parameter}" for f in report.bugs
                                    if f.parameter and (f.layer, f.parameter) not in named))
        if follow:
            report.notes.append(f"Wrong because of that: {', '.join(follow)}.")
        report.findings = culprits + [finding for finding in report.findings if finding.verdict != BUG]
    elif (report.rows and not problem.sees_all and any(finding.verdict == KINK for finding in alone)
          and _is_chained(problem)):
        report.notes.append("Corners of several numbers meet here. Every step alone is right, and backward is their chain.")
        report.findings = [replace(finding, verdict=KINK) for finding in report.findings]
        for row in report.rows:
            for verdicts in (row.first, row.verdicts):
                verdicts[verdicts == BUG] = KINK
    else:
        report.notes.append("Every step alone is right: look at what passes between them, and at what they share.")


def _is_chained(problem):
    """Whether the network's gradients are those of its steps, run backward one after another on copies."""
    said = problem.gradients()
    steps = problem.network.steps(problem.depth)
    z = _inputs_of(steps, problem.x)[-1]
    losses, dy = np.empty(len(z)), np.empty(z.shape, z.dtype)
    problem.loss(problem.ops, z, problem.t, None, losses, dy)
    first = next(i for i, step in enumerate(steps) if _learns(step))
    for step in steps[first:][::-1]:
        dy = step.backward(np.array(dy))
    return all(np.allclose(parameter.grad, said[place], rtol=1e-10, atol=1e-300)
               for place, parameter in problem.parameters.items())


def _steps_alone(problem, options):
    """Yield the findings on the loss and on each step of a network, from the last to the first that learns."""
    z = np.array(problem.outputs())
    yield _examine(loss_problem(problem.loss, z.shape, z, problem.t, problem.network.engine, options.seed, z.dtype),
                   options)[1]
    size = sum(array.size for array in problem.arrays.values())
    alone = _Options(options.dtype, options.step, options.limit if size <= options.limit else 24, options.seed)
    steps = problem.network.steps(problem.depth)
    first = next(i for i, step in enumerate(steps) if _learns(step))
    inputs = _inputs_of(steps, problem.x)
    for i in reversed(range(first, len(steps))):
        found = _one_step(steps[i], *inputs[i:i + 2], i > first, alone)
        if _bugs(found) and len(steps[i].layers) > 1:
            # Several layers in one go: where one of them alone is wrong, it is the one to name.
            layers = [LayerStep(layer) for layer in steps[i].layers]
            between = _inputs_of(layers, inputs[i])
            parts = [finding for k, layer in enumerate(layers) for finding in
                     _one_step(layer, *between[k:k + 2], i > first or k > 0, alone)]
            found = parts if _bugs(parts) else found
        yield found


def _learns(step):
    return any(getattr(layer, "parameters", ()) for layer in step.layers)


def _inputs_of(steps, x):
    """Return the inputs of each step in a row, and the last one's output."""
    inputs = [x.copy()]
    for step in steps:
        inputs.append(np.array(step.forward(inputs[-1].copy())))
    return inputs


def _one_step(step, x, y, moves_x, options):
    """Return the findings on one step at its input x."""
    dy = drawn(normals, options.seed, 3, y.shape).astype(x.dtype)
    problem = StepProblem(step, x, dy, moves_x=moves_x)
    found, usable = step_faults(problem)
    return found + (_examine(problem, options)[1] if usable and not found else [])
