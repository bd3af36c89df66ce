"""Is one network better than another? Two sets of answers to the same images, compared pair by pair.

McNemar's test (Psychometrika 12 (1947)) asks whether those images that only one of them answers rightly fall to both
alike. Images of one patient are not independent, so patients are the units: if the two were alike, exchanging their
answers on all images of a patient would change the sign of its d = (only A right) - (only B right) and be as likely.
With one image a patient that is McNemar's exact test. How large the differences are, and in which figures, says a
bootstrap that draws the same patients for both.
"""

import numpy as np

from minicnn import metrics
from minicnn.errors import ShapeError
from minicnn.evaluation import intervals
from minicnn.evaluation.calibration import squared_errors
from minicnn.evaluation.intervals import Interval, as_clusters

__all__ = ["compare", "mcnemar", "DIFFERENCES"]

SHARES = ("accuracy", "specificity", "precision", "recall", "f1")
DIFFERENCES = (*SHARES, "auc", "average_precision", "brier", "loss")
# Drawing patients again shows nothing that was not seen: where fewer are predicted otherwise, shares have no interval.
FEWEST = 5


def mcnemar(right_a, right_b, clusters=None):
    """Return how the images fall that only one of two networks answers rightly, and how likely a split so uneven is.

    Parameters
    ----------
    right_a, right_b : array-likes, shape (n,), bool; whether each answers each image rightly
    clusters : as for `intervals.as_clusters`

    Returns
    -------
    dict: only_a, only_b (images), p_value (two-sided, exact); undefined, a reason where there is no p_value

    >>> mcnemar([1, 1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 1, 1])["p_value"]
    0.21875
    """
    a, b = np.asarray(right_a, bool), np.asarray(right_b, bool)
    if a.ndim != 1 or a.shape != b.shape:
        raise ShapeError(f"mcnemar: expected both networks' answers to the same images, got shapes {a.shape} and "
                         f"{b.shape}.")
    d = np.bincount(as_clusters(clusters, len(a)), weights=a.astype(float) - b).astype(np.int64)
    told = {"only_a": int((a & ~b).sum()), "only_b": int((b & ~a).sum()), "p_value": None}
    sizes = np.abs(d[d != 0])
    if not len(sizes):
        return told | {"undefined": "both networks are right on as many images of every patient"}
    # The chance of each sum of +-d: one patient after the other moves it up or down. Place 0 is the sum -total.
    total = int(sizes.sum())
    chance = np.zeros(2 * total + 1)
    chance[total] = 1.0
    for size in sizes:
        chance = (np.roll(chance, size) + np.roll(chance, -size)) / 2     # never wraps: |sum| <= total
    sums = np.abs(np.arange(-total, total + 1))
    return told | {"p_value": float(min(1.0, chance[sums >= abs(int(d.sum()))].sum()))}


def compare(labels, a, b, clusters=None, samples=2000):
    """Return the figures of networks A and B on the same images, and the differences A - B with 95 % intervals.

    Parameters
    ----------
    labels : array-like, shape (n,); 0 or 1
    a, b : array-likes, shape (n,); probabilities of class 1
    clusters : as for `intervals.as_clusters`
    samples : int; of the bootstrap

    Returns
    -------
    dict: n, patients, a, b, difference ({metric: value or None}), intervals, no_interval ({metric: reason}), mcnemar

    >>> told = compare([0, 1] * 30, [0.2, 0.9] * 30, ([0.2, 0.9] * 5 + [0.6, 0.4]) * 5)
    >>> told["difference"]["accuracy"], told["mcnemar"]["only_a"], told["mcnemar"]["p_value"] < 0.01
    (0.166..., 10, True)
    """
    _, _ = metrics.binary_metrics(labels, a), metrics.binary_metrics(labels, b)     # the door
    positive, clusters = np.asarray(labels).reshape(-1) == 1, as_clusters(clusters, len(labels))
    a, b = (np.asarray(p, np.float64).reshape(-1) for p in (a, b))
    whole = np.ones((1, len(a)))
    of_a, of_b = (_figures(positive, p, whole)[0] for p in (a, b))
    found = intervals.bootstrap(lambda weights: _figures(positive, a, weights) - _figures(positive, b, weights),
                                clusters, DIFFERENCES, samples)
    apart = len(np.unique(clusters[(a > 0.5) != (b > 0.5)]))
    if apart < FEWEST:
        reason = f"the networks predict otherwise for images of {apart} patient{'s' * (apart != 1)} only"
        found |= {name: Interval(None, None, apart, reason) for name in SHARES}
    defined = [name for name, value in zip(DIFFERENCES, of_a - of_b) if np.isfinite(value)]
    return {"n": len(a), "patients": int(clusters.max()) + 1, "a": _named(of_a), "b": _named(of_b),
            "difference": _named(of_a - of_b),
            "intervals": {name: [found[name].low, found[name].high] for name in defined if found[name].low is not None},
            "no_interval": {name: found[name].reason for name in defined if found[name].low is None},
            "mcnemar": mcnemar((a > 0.5) == positive, (b > 0.5) == positive, clusters)}


def _figures(positive, p, weights):
    """Return the figures of `DIFFERENCES` for each row of weights: ndarray, shape (b, figures)."""
    predicted, ones = p > 0.5, np.ones(len(p))
    both = 1.0 * (predicted & positive)
    losses = -np.log(np.clip(np.where(positive, p, 1 - p), 1e-7, 1))
    return np.column_stack([
        intervals.ratios(predicted == positive, ones, weights),
        intervals.ratios(~predicted & ~positive, ~positive, weights), intervals.ratios(both, predicted, weights),
        intervals.ratios(both, positive, weights), intervals.ratios(2 * both, 1.0 * predicted + positive, weights),
        intervals.aucs(positive, p, weights), intervals.average_precisions(positive, p, weights),
        intervals.ratios(squared_errors(positive, p), ones, weights), intervals.ratios(losses, ones, weights)])


def _named(values):
    return {name: float(value) if np.isfinite(value) else None for name, value in zip(DIFFERENCES, values)}
