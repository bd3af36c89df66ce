"""check_determinism: does a model compute the same every time, in any company, and on any number of threads?

What must not matter does not: asking again, a fresh model of the same seed, what was computed before, the threads, the
other samples of the batch. And a batch computed in uneven shards must add up to the batch.
"""

import numpy as np

from minicnn.core.random import uniforms
from minicnn.errors import InputError
from minicnn.gradient_check.problems import drawn, shown_name, targets_for
from minicnn.gradient_check.report import Finding, Report
from minicnn.gradient_check.verdicts import BUG
from minicnn.layers import Dropout

__all__ = ["check_determinism"]

_N = 5      # not a multiple of the shards


def check_determinism(make_model, *, x=None, t=None, threads=(1, 2, 3), seed=0):
    """Check that what a model computes depends on nothing but its input and its seed.

    Parameters
    ----------
    make_model : function without arguments that returns a new compiled Sequential, each time with the same seed
    x, t : ndarray, inputs and targets, at least 3 samples; drawn where None
    threads : numbers of threads that must not matter (the fast engine only)
    seed : int, decides what is drawn

    Returns
    -------
    Report; true only where nothing differs. Asking again, freshness, history and threads are compared to the bit; what
    is added in another order, shards and (on the reference engine) company, to rounding

    >>> from minicnn import SGD, Dense, Sequential, Sigmoid
    >>> def make_model():
    ...     model = Sequential([Dense(1), Sigmoid()], input_shape=(3,), engine="reference")
    ...     model.compile(SGD(), loss="binary_crossentropy")
    ...     return model
    >>> bool(check_determinism(make_model))
    True
    """
    model = _made(make_model)
    x = drawn(uniforms, seed, 50, (_N, *model.input_shape)) if x is None else np.asarray(x)
    t = targets_for(model.loss, (len(x), *model.output_shape), seed) if t is None else np.asarray(t)
    if len(x) < 3 or len(t) != len(x):
        raise InputError("check_determinism: expected at least 3 samples and as many targets, "
                         f"got {len(x)} and {len(t)}.")
    network = model.network
    report = Report(f"determinism of a network of {len(network.layers)} layers")
    once = _Seen(model, x, t)
    _compare(report, once, _Seen(model, x, t), "asked again, the same model gives another result: something is random, "
             "or kept between calls")
    _compare(report, once, _Seen(_made(make_model), x, t), "a new model of the same seed gives another result")
    _Seen(model, np.concatenate([x, x])[::-1] * 0.9, np.concatenate([t, t])[::-1])
    _compare(report, once, _Seen(model, x, t), "after a larger batch the result is another: something of it is left "
             "over")
    if network.engine == "fast":
        _check_threads(report, model, x, t, once, threads)
    if any(isinstance(layer, Dropout) and layer.rate for layer in network.layers):
        report.notes.append("Dropout drops by the place in the batch: shards were not compared.")
    else:
        _check_shards(report, model, x, t, once)
    _check_company(report, model, x)
    return report


def _made(make_model):
    model = make_model()
    if getattr(model, "loss", None) is None or not hasattr(model, "loss_and_gradients"):
        raise InputError("check_determinism: make_model must return a new Sequential that is compiled, "
                         f"got {type(model).__name__}.")
    return model


class _Seen:
    """What a model computes of one batch: {(layer, what): array}, in the order of the data's way.

    outputs : each step's output; gradients : the loss, and each parameter's gradient
    """

    def __init__(self, model, x, t, training=True):
        self.outputs = _outputs(model, x, training)
        places = [(layer.name, p.name) for layer in model.network.layers for p in getattr(layer, "parameters", ())]
        loss, gradients = model.loss_and_gradients(x, t)
        self.gradients = {("network", "loss"): np.array(loss)} | dict(zip(places, gradients, strict=True))


def _outputs(model, x, training):
    """Return {(step, "output"): array}, each step fed what the one before gave."""
    network = model.network
    x = np.ascontiguousarray(x, network.dtype)
    depth = network.depth(model.loss.head)
    network.forward(x.copy(), depth, training)          # sets every layer to training, or not
    outputs = {}
    for step in network.steps(depth):
        x = np.array(step.forward(x.copy()))
        outputs[shown_name(step), "output"] = x
    return outputs


def _compare(report, expected, got, cause, rtol=0.0):
    """Note the first step whose output differs, by a bit or by more than `rtol` of its largest; else gradients."""
    for one, other in ((expected.outputs, got.outputs), (expected.gradients, got.gradients)):
        different = [finding for place in one if (finding := _difference(place, one[place], other[place], cause, rtol))]
        if different:
            report.findings += different[:1] if one is expected.outputs else different
            return


def _difference(place, one, other, cause, rtol):
    far = np.abs(one - other) > rtol * np.abs(one).max() if rtol else one != other
    if not far.any():
        return None
    index = tuple(int(i) for i in np.argwhere(far)[0])
    return Finding(BUG, *place, index or None, cause=f"{cause}: {other[index]:.9g} beside {one[index]:.9g}")


def _check_threads(report, model, x, t, once, threads):
    from minicnn.kernels.runtime.threads import set_thread_count, thread_count

    before = thread_count()
    try:
        for number in threads:
            set_thread_count(number)
            _compare(report, once, _Seen(model, x, t), f"on {number} threads the result is another: sums are added in "
                     "an order that threads decide")
    finally:
        set_thread_count(before)


def _check_shards(report, model, x, t, once):
    """The gradients of uneven shards, each weighted by its share of the samples, add up to those of the batch."""
    cut = 2 * len(x) // 3
    first, second = _Seen(model, x[:cut], t[:cut]), _Seen(model, x[cut:], t[cut:])
    first.gradients = {place: array * (cut / len(x)) + second.gradients[place] * (1 - cut / len(x))
                       for place, array in first.gradients.items()}
    first.outputs = {place: np.concatenate([array, second.outputs[place]]) for place, array in first.outputs.items()}
    _compare(report, once, first, f"shards of {cut} and {len(x) - cut} samples do not add up to the batch: a mean is "
             "taken over shards of unequal size, or samples are lost, or see each other",
             1e-9 if model.network.dtype == np.float64 else 1e-4)


def _check_company(report, model, x):
    together = _outputs(model, x, False)
    alone = [_outputs(model, x[i:i + 1], False) for i in range(len(x))]
    rtol = 0.0 if model.network.engine == "fast" else 1e-5      # NumPy's products sum a batch of one in another order
    for place, one in together.items():
        other = np.concatenate([outputs[place] for outputs in alone])
        finding = _difference(place, one, other, "a sample's output depends on its company", rtol)
        if finding:
            report.findings.append(finding)
            return
