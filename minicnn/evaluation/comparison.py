"""The paired comparison of two networks on the same images: McNemar's test, and differences of metrics with intervals.

McNemar's test (Psychometrika 12 (1947)) considers the images that exactly one network classifies correctly: under the
null hypothesis they are equally likely to be those of either. Images of one patient are not independent, so patients
are the units: under the null hypothesis, exchanging the predictions of the two networks on all images of a patient
changes the sign of its d = (only A correct) - (only B correct) and is equally likely. With one image per patient this
is McNemar's exact test. The sizes of the differences come from a bootstrap that draws the same patients for both.

**The criterion**, fixed before any result is seen: one network is better if its accuracy at p > 0.5 is higher and
McNemar's test by patient gives p < 0.05. The test is exact for any number of patients; the intervals are approximate
and there are nine of them, so they show sizes and decide nothing. Where they seem to disagree, `verdict` says why.
"""

import numpy as np

from minicnn import metrics
from minicnn.core.text import join
from minicnn.errors import ShapeError
from minicnn.evaluation.intervals import SHARES, Interval, as_clusters, bootstrap, interval_fields
from minicnn.evaluation.summary import HEADS, count_patients, statistic

__all__ = ["compare", "mcnemar", "verdict", "same", "DIFFERENCES", "LOWER_IS_BETTER"]

DIFFERENCES = (*SHARES, "auc", "average_precision", "brier", "loss")
LOWER_IS_BETTER = ("brier", "loss")
SIGNIFICANT = 0.05
FEWEST = 5      # with predictions that differ for fewer patients, a bootstrap interval of a proportion is too narrow


def mcnemar(right_a, right_b, clusters=None):
    """Return McNemar's exact test by patient.

    Parameters
    ----------
    right_a, right_b : array-likes, shape (n,), bool; whether each network classifies each image correctly
    clusters : as for `intervals.as_clusters`

    Returns
    -------
    dict: only_a, only_b (images that only one classifies correctly), p_value (two-sided, exact), patients (on whom
    one is correct more often); undefined, a reason where there is no p_value

    Raises
    ------
    ShapeError : arrays of different shapes

    >>> mcnemar([1, 1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 1, 1])["p_value"]
    0.21875
    """
    a, b = np.asarray(right_a, bool), np.asarray(right_b, bool)
    if a.ndim != 1 or a.shape != b.shape:
        raise ShapeError(f"mcnemar: expected predictions of both networks on the same images, got shapes {a.shape} and "
                         f"{b.shape}.")
    d = np.bincount(as_clusters(clusters, len(a)), weights=a.astype(float) - b).astype(np.int64)
    sizes = np.abs(d[d != 0])
    told = {"only_a": int((a & ~b).sum()), "only_b": int((b & ~a).sum()), "p_value": None, "patients": len(sizes)}
    if not len(sizes):
        return told | {"undefined": "both networks are correct on equally many images of every patient"}
    # The probability of each sum of +-d, patient by patient. Index 0 is the sum -total.
    total = int(sizes.sum())
    probability = np.zeros(2 * total + 1)
    probability[total] = 1.0
    for size in sizes:
        probability = (np.roll(probability, size) + np.roll(probability, -size)) / 2    # never wraps: |sum| <= total
    sums = np.abs(np.arange(-total, total + 1))
    return told | {"p_value": float(min(1.0, probability[sums >= abs(int(d.sum()))].sum()))}


def compare(labels, a, b, clusters=None, samples=2000, patients=None):
    """Return the metrics of networks A and B on the same images, and the differences A - B with 95 % intervals.

    Parameters
    ----------
    labels : array-like, shape (n,); 0 or 1
    a, b : array-likes, shape (n,); probabilities of class 1
    clusters : as for `intervals.as_clusters`
    samples : int; of the bootstrap
    patients : as for `summary.summarize`

    Returns
    -------
    dict: n, patients, images_of_unknown_patients, a, b, difference ({metric: value or None}), intervals, no_interval
    ({metric: reason}), mcnemar, verdict (of `verdict`; that of `same` where all probabilities are equal)

    Raises
    ------
    ShapeError, InputError : as `metrics.binary_metrics`

    >>> told = compare([0, 1] * 30, [0.2, 0.9] * 30, ([0.2, 0.9] * 5 + [0.6, 0.4]) * 5)
    >>> told["difference"]["accuracy"], told["mcnemar"]["only_a"], told["mcnemar"]["p_value"] < 0.01
    (0.166..., 10, True)
    """
    for p in (a, b):
        metrics.binary_metrics(labels, p)       # checks both
    labels, a, b = (np.asarray(values, np.float64).reshape(-1) for values in (labels, a, b))
    counted, clusters = count_patients(patients, clusters, len(a)), as_clusters(clusters, len(a))
    of_a, of_b = (statistic(labels, p, DIFFERENCES) for p in (a, b))
    found = bootstrap(lambda weights: of_a(weights) - of_b(weights), clusters, DIFFERENCES, samples)
    apart = len(np.unique(clusters[(a > 0.5) != (b > 0.5)]))
    if apart < FEWEST:
        reason = f"the predictions differ on images of {apart} patient{'s' * (apart != 1)} only"
        found |= {name: Interval(None, None, apart, reason) for name in SHARES}
    whole = np.ones((1, len(a)))
    told = {name: {metric: float(value) if np.isfinite(value) else None for metric, value in zip(DIFFERENCES, values)}
            for name, values in (("a", of_a(whole)[0]), ("b", of_b(whole)[0]),
                                 ("difference", of_a(whole)[0] - of_b(whole)[0]))}
    fields = interval_fields({name: found[name] for name in DIFFERENCES if told["difference"][name] is not None})
    told = {"n": len(a), **counted, **told, "intervals": fields["intervals"],
            "no_interval": fields["no_interval"],
            "mcnemar": mcnemar((a > 0.5) == labels, (b > 0.5) == labels, clusters)}
    return told | {"verdict": same("predictions") if np.array_equal(a, b) else verdict(told)}


_SAME = {"run": "A and B are the same run: there is nothing to compare.",
         "weights": "A and B are the same network, with equal weights: there is nothing to compare.",
         "predictions": "A and B give the same probability for every image: they do not differ here."}


def same(what):
    """Return the verdict on two networks that have the same `what`: "run", "weights" or "predictions".

    >>> same("run")["sentence"]
    'A and B are the same run: there is nothing to compare.'
    """
    return {"better": None, "same": what, "sentence": _SAME[what], "remarks": []}


def verdict(told):
    """Return which of two networks is better, by the criterion above, from what `compare` measured.

    Returns
    -------
    dict: better ("a", "b" or None: no difference is shown), same (None; see `same`), sentence, remarks (sentences on
    intervals that seem to say something else)

    >>> told = compare([0, 1] * 30, [0.2, 0.9] * 30, ([0.2, 0.9] * 5 + [0.6, 0.4]) * 5)
    >>> told["verdict"]["better"], told["verdict"]["sentence"]
    ('a', 'A is more accurate than B (p = 0.002; images that A alone gets right: 10, B alone: 0).')
    """
    test, better = told["mcnemar"], None
    counts = f"images that A alone gets right: {test['only_a']}, B alone: {test['only_b']}"
    if test["p_value"] is None:
        sentence = f"no difference is shown: {test['undefined']}."
    elif 2.0**(1 - test["patients"]) >= SIGNIFICANT:
        sentence = (f"no difference can be shown: {counts}, of {test['patients']} "
                    f"patient{'s' * (test['patients'] != 1)}; p < {SIGNIFICANT} needs six patients.")
    elif test["p_value"] < SIGNIFICANT:
        better, worse = ("a", "b") if told["difference"]["accuracy"] > 0 else ("b", "a")
        sentence = f"{better.upper()} is more accurate than {worse.upper()} (p = {test['p_value']:.2g}; {counts})."
    else:
        sentence = (f"no difference in accuracy is shown (p = {test['p_value']:.2g}; {counts}). This does not show "
                    "that A and B are equally accurate.")
    return {"better": better, "same": None, "sentence": sentence, "remarks": _remarks(told, better)}


def _remarks(told, better):
    """Return why intervals may leave 0 out, or not, where the verdict is another."""
    by_interval = {name: ("a" if (low > 0) != (name in LOWER_IS_BETTER) else "b") if low > 0 or high < 0 else None
                   for name, (low, high) in told["intervals"].items()}
    accuracy, said = by_interval.pop("accuracy", better), []
    if accuracy != better:
        said.append(f"The interval of the accuracy {'leaves 0 out' if accuracy else 'includes 0'}, unlike the test: it "
                    "is approximate, the test is exact, and the verdict is the test's.")
    found = {name: [HEADS[key] for key, one in by_interval.items() if one == name] for name in ("a", "b")
             if name != better}
    if found := [f"{name.upper()} is better in {join(heads)}" for name, heads in found.items() if heads]:
        said.append(f"By their intervals {' and '.join(found)}. These measure one class, the order of the "
                    "probabilities or their size, not the accuracy at p > 0.5, which the verdict is about; nine "
                    "intervals are looked at, and none is corrected for that.")
    return said
