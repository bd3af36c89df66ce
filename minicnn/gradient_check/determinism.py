"""check_determinism: check that the results of a model are reproducible.

They must not depend on repetition, on the instance (a new model of the same seed), on earlier batches, on the number
of threads, or on the other samples of the batch; and the gradients of uneven shards must add up to those of the batch.
"""

import numpy as np

from minicnn.core.memory import split
from minicnn.core.random import uniforms
from minicnn.errors import InputError
from minicnn.gradient_check.problems import draw, step_name, targets_for
from minicnn.gradient_check.report import Finding, Report
from minicnn.gradient_check.verdicts import BUG
from minicnn.layers import Dropout

__all__ = ["check_determinism"]

_N = 5      # samples; not a multiple of the number of shards


def check_determinism(make_model, *, x=None, t=None, threads=(1, 2, 3), seed=0):
    """Check that the results of a model depend only on its input and its seed.

    Parameters
    ----------
    make_model : function without arguments that returns a new compiled Sequential, each time with the same seed
    x, t : ndarray, inputs and targets, at least 3 samples; drawn by default
    threads : numbers of threads to compare (the fast engine only)
    seed : int, the seed of x and t

    Returns
    -------
    Report; true if nothing differs. Repetition, new instances, earlier batches and threads are compared to the bit;
    shards and, on the reference engine, samples alone up to rounding, because sums are added in another order

    >>> from minicnn import SGD, Dense, Sequential, Sigmoid
    >>> def make_model():
    ...     model = Sequential([Dense(1), Sigmoid()], input_shape=(3,), engine="reference")
    ...     model.compile(SGD(), loss="binary_crossentropy")
    ...     return model
    >>> bool(check_determinism(make_model))
    True
    """
    model = _new(make_model)
    network = model.network
    x = draw(uniforms, seed, 50, (_N, *network.input_shape)) if x is None else np.asarray(x)
    t = targets_for(model.loss, (len(x), *network.output_shape), seed) if t is None else np.asarray(t)
    if len(x) < 3 or len(t) != len(x):
        raise InputError("check_determinism: expected at least 3 samples and as many targets, "
                         f"got {len(x)} and {len(t)}.")
    report = Report(f"determinism of a network of {len(network.layers)} layers")
    once = _results(model, x, t)
    _compare(report, once, _results(model, x, t), "a second call of the same model gives another result: it is random, "
             "or keeps something between calls")
    _compare(report, once, _results(_new(make_model), x, t), "a new model of the same seed gives another result")
    _results(model, np.concatenate([x, x])[::-1] * 0.9, np.concatenate([t, t])[::-1])
    _compare(report, once, _results(model, x, t), "the result changes after a larger batch: some of its data is reused")
    if network.engine == "fast":
        _check_threads(report, model, x, t, once, threads)
    if any(isinstance(layer, Dropout) and layer.rate for layer in network.layers):
        report.notes.append("Dropout masks depend on the position in the batch: shards were not compared.")
    elif any(getattr(layer, "statistics", ()) for layer in network.layers):
        report.notes.append("Batch normalization takes its batch as a whole in training: shards were not compared.")
    else:
        _check_shards(report, model, x, t, once)
    _check_samples_alone(report, model, x)
    return report


def _new(make_model):
    model = make_model()
    if getattr(model, "loss", None) is None or not hasattr(model, "loss_and_gradients"):
        raise InputError("check_determinism: make_model must return a new Sequential that is compiled, "
                         f"got {type(model).__name__}.")
    return model


def _results(model, x, t):
    """Return (outputs of the steps, loss and gradients) on one batch, each {(layer, name): array}."""
    places = [(layer.name, p.name) for layer in model.network.layers for p in getattr(layer, "parameters", ())]
    outputs = _outputs(model, x, True)
    loss, gradients = model.loss_and_gradients(split(x, model.input_shape) if model.input_names else x,
                                               split(t, model.output_shape) if model.output_names else t)
    return outputs, {("network", "loss"): np.array(loss)} | dict(zip(places, gradients, strict=True))


def _outputs(model, x, training):
    """Return {(step, "output"): array}, computed one step at a time."""
    network = model.network
    x = np.ascontiguousarray(x, network.dtype)
    rows, outputs = network.rows(heads=network.heads(model.loss.heads)), {}
    network.forward(x.copy(), rows, training)           # sets the mode of every layer: training or inference

    def run(step, taken):
        y = np.array(step.forward([part.copy() for part in taken] if isinstance(taken, list) else taken.copy()))
        outputs[step_name(step), "output"] = y
        return y
    network.values(x.copy(), rows, run)
    return outputs


def _compare(report, expected, got, cause, rtol=0.0):
    """Add a Finding for the first step whose output differs; if none does, for each gradient that differs."""
    for one, other in zip(expected, got, strict=True):
        found = [finding for place in one if (finding := _difference(place, one[place], other[place], cause, rtol))]
        if found:
            report.findings += found[:1] if one is expected[0] else found
            return


def _difference(place, one, other, cause, rtol):
    """Return a Finding if two arrays differ, by a bit or by more than `rtol` of the largest number, else None."""
    far = np.abs(one - other) > rtol * np.abs(one).max() if rtol else one != other
    if not far.any():
        return None
    index = tuple(int(i) for i in np.argwhere(far)[0])
    return Finding(BUG, *place, index or None, cause=f"{cause}: {other[index]:.9g} instead of {one[index]:.9g}")


def _check_threads(report, model, x, t, once, threads):
    from minicnn.kernels.runtime.threads import set_thread_count, thread_count

    before = thread_count()
    try:
        for number in threads:
            set_thread_count(number)
            _compare(report, once, _results(model, x, t), f"{number} threads give another result: the order of a sum "
                     "depends on the threads")
    finally:
        set_thread_count(before)


def _check_shards(report, model, x, t, once):
    """Compare the gradients of two uneven shards, weighted by their numbers of samples, with those of the batch."""
    cut = 2 * len(x) // 3
    (outputs, gradients), (more_outputs, more_gradients) = (_results(model, x[rows], t[rows])
                                                            for rows in (slice(cut), slice(cut, None)))
    outputs = {place: np.concatenate([array, more_outputs[place]]) for place, array in outputs.items()}
    gradients = {place: array * (cut / len(x)) + more_gradients[place] * (1 - cut / len(x))
                 for place, array in gradients.items()}
    _compare(report, once, (outputs, gradients), f"shards of {cut} and {len(x) - cut} samples do not add up to the "
             "batch: a mean is taken over shards of unequal size, or samples are lost, or depend on each other",
             1e-9 if model.network.dtype == np.float64 else 1e-4)


def _check_samples_alone(report, model, x):
    """Compare the outputs of each sample alone with those of the batch."""
    alone = [_outputs(model, x[i:i + 1], False) for i in range(len(x))]
    joined = {place: np.concatenate([outputs[place] for outputs in alone]) for place in alone[0]}
    # NumPy's matrix products add the terms of a batch of one in another order.
    rtol = 0.0 if model.network.engine == "fast" else 1e-5
    _compare(report, [_outputs(model, x, False)], [joined], "the output depends on the other samples of the batch",
             rtol)
