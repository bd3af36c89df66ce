"""Patient-clustered 95 % intervals: how uncertain a metric is where several images show one patient.

Images of one patient resemble each other, so 300 images of 100 patients carry less information than 300 images of 300.
All intervals therefore work on clusters: a patient, or a single image whose patient is unknown (`data.split.groups`).

    proportion          Wilson's interval at the effective sample size: the equivalent number of independent images
    F1                  the same: F1 = 2 J / (1 + J), and J = TP / (TP + FP + FN) is a proportion
    AUC                 DeLong's variance in Obuchowski's form for clusters, on the scale of log(AUC / (1 - AUC))
    anything else       bootstrap over patients, percentiles corrected for bias and skewness (BCa)

An interval describes other samples of patients *from the same source*. It says nothing about another hospital.

References: Wilson, JASA 22 (1927); Rao and Scott, Biometrics 48 (1992), for the effective sample size; DeLong et al.,
Biometrics 44 (1988); Obuchowski, Biometrics 53 (1997); Newcombe, Statistics in Medicine 25 (2006); Efron, JASA 82
(1987), for BCa; Efron and Tibshirani, "An introduction to the bootstrap" (1993).
"""

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from minicnn import metrics
from minicnn.core.random import Stream, uniforms
from minicnn.core.validation import as_array
from minicnn.errors import InputError, ShapeError
from minicnn.reference import sigmoid

__all__ = ["Interval", "FEW", "SHARES", "as_clusters", "proportion_interval", "f1_interval", "threshold_intervals",
           "auc_interval", "auc_variance", "bootstrap", "resamples", "interval_fields", "ratios", "aucs",
           "average_precisions", "average_precision", "bisect", "mean_rank"]

# Below this number of patients an interval is called approximate.
FEW = 50
SHARES = ("accuracy", "specificity", "precision", "recall", "f1")       # the metrics at a threshold, printed in percent
Z = NormalDist().inv_cdf(0.975)
_MOST_WEIGHTS = 2**17       # at a time: 1 MiB, which stays in the CPU's cache


class Interval(NamedTuple):
    """A 95 % interval and the number of patients it is estimated from; or no bounds, and the reason.

    >>> Interval(0.8, 0.9, 40).is_approximate
    True
    """

    low: float | None
    high: float | None
    patients: int
    reason: str | None = None

    @property
    def is_approximate(self):
        """Whether there are so few patients that the true coverage may differ from 95 %."""
        return self.patients < FEW

    @property
    def bounds(self):
        """[low, high], or None."""
        return None if self.low is None else [self.low, self.high]


def as_clusters(clusters, n):
    """Return the cluster of each of n images as numbers from 0, (n,) int64; where None, each image is its own cluster.

    Raises
    ------
    ShapeError, InputError, DTypeError : other than n whole numbers

    >>> as_clusters([7, 7, 3], 3).tolist()
    [1, 1, 0]
    """
    if clusters is None:
        return np.arange(n)
    clusters = as_array(clusters, "intervals", "clusters", np.float64)
    if clusters.shape != (n,):
        raise ShapeError(f"clusters: expected one number for each of the {n} images, got shape {clusters.shape}.")
    if not (np.isfinite(clusters) & (clusters == np.floor(clusters))).all():
        raise InputError("clusters: expected whole numbers. For names of patients see data.split.groups.")
    return np.unique(clusters, return_inverse=True)[1]


def proportion_interval(hits, counted, clusters=None):
    """Return (value, Interval) of the proportion of hits among the counted images.

    With x hits of m counted images in a patient and p = sum x / sum m, the variance of p between patients is
    v = k / (k - 1) sum (x - p m)^2 / (sum m)^2 over the k patients with a counted image. That of n independent images
    is u = p (1 - p) / (n - 1), so the effective sample size is n' = n u / v, at most n. Where all or none are hits
    nothing varies, and n' = k.
    Wilson's interval holds the q for which |p - q| <= t sqrt(q (1 - q) / n'), with Student's t of k - 1 degrees.

    Parameters
    ----------
    hits, counted : array-likes, shape (n,), bool
    clusters : as for `as_clusters`

    Returns
    -------
    (float, Interval), or (None, Interval without bounds) where nothing is counted

    >>> value, interval = proportion_interval([1, 1, 1, 0], [1, 1, 1, 1])
    >>> value, round(interval.low, 3), round(interval.high, 3), interval.patients
    (0.75, 0.163, 0.979, 4)
    """
    hits, counted = np.asarray(hits, bool), np.asarray(counted, bool)
    if hits.ndim != 1 or hits.shape != counted.shape:
        raise ShapeError(f"proportion_interval: expected hits and counted of the same shape (n,), got {hits.shape} and "
                         f"{counted.shape}.")
    clusters = as_clusters(clusters, len(hits))
    m = np.bincount(clusters, weights=counted)
    x = np.bincount(clusters, weights=hits & counted)[m > 0]
    m = m[m > 0]
    k, n = len(m), int(m.sum())
    if n == 0:
        return None, Interval(None, None, 0, "no image is counted")
    p = float(x.sum() / n)
    if k == 1:
        return p, Interval(None, None, 1, "the images that it counts are of one patient")
    v = float(k / (k - 1) * ((x - p * m) ** 2).sum() / n**2)
    u = p * (1 - p) / (n - 1)
    effective = k if u == 0 else n if v <= u else n * u / v
    return p, Interval(*_wilson(p, effective, _student(k - 1)), k)


def f1_interval(positive, predicted, clusters=None):
    """Return (value, Interval) of F1, from the proportion J of true positives among all positive or predicted so.

    >>> value, interval = f1_interval([1, 1, 1, 0], [1, 1, 0, 0])
    >>> value, interval.patients
    (0.8, 3)
    """
    positive, predicted = np.asarray(positive, bool), np.asarray(predicted, bool)
    value, interval = proportion_interval(positive & predicted, positive | predicted, clusters)
    if value is None:
        return None, interval._replace(reason="no sample is positive or was predicted so")
    bounds = (None, None) if interval.low is None else [2 * j / (1 + j) for j in interval[:2]]
    return 2 * value / (1 + value), Interval(*bounds, *interval[2:])


def threshold_intervals(positive, predicted, clusters=None):
    """Return {metric: (value, Interval)} of the metrics in `SHARES`.

    >>> {name: value for name, (value, _) in threshold_intervals([1, 1, 0], [1, 0, 0]).items()}["specificity"]
    1.0
    """
    positive, predicted = np.asarray(positive, bool), np.asarray(predicted, bool)
    return {"accuracy": proportion_interval(positive == predicted, positive | True, clusters),
            "specificity": proportion_interval(~predicted, ~positive, clusters),
            "precision": proportion_interval(positive, predicted, clusters),
            "recall": proportion_interval(predicted, positive, clusters),
            "f1": f1_interval(positive, predicted, clusters)}


def auc_interval(labels, probabilities, clusters=None):
    """Return (value, Interval) of the AUC.

    The interval is symmetric in log(AUC / (1 - AUC)), so it stays between 0 and 1. This is undefined for an AUC of
    exactly 0 or 1: there the bound is Newcombe's (2006, method 5), from the numbers of patients of each label.

    >>> value, interval = auc_interval([0] * 20 + [1] * 20, [0.3] * 15 + [0.8] * 5 + [0.2] * 5 + [0.9] * 15)
    >>> round(value, 3), round(interval.low, 3), round(interval.high, 3)
    (0.75, 0.497, 0.901)
    """
    value, clusters = metrics.auc(labels, probabilities), as_clusters(clusters, len(labels))
    positive = np.asarray(labels).reshape(-1) == 1
    k = int(clusters.max()) + 1
    if value is None:
        return None, Interval(None, None, k, "all samples have the same label")
    positives, negatives = len(np.unique(clusters[positive])), len(np.unique(clusters[~positive]))
    few = [name for name, held in (("positive", positives), ("negative", negatives)) if held == 1]
    if few:
        return value, Interval(None, None, k, f"all {few[0]} images are of one patient")
    if value in (0, 1):
        bound = _edge(positives, negatives)
        return value, Interval(*((bound, 1.0) if value == 1 else (0.0, 1 - bound)), k)
    variance = auc_variance(positive, np.asarray(probabilities, np.float64).reshape(-1), clusters)
    if variance <= 1e-18:
        return value, Interval(None, None, k, "the probabilities do not vary between patients")
    centre = math.log(value / (1 - value))
    reach = _student(min(positives, negatives) - 1) * math.sqrt(variance) / (value * (1 - value))
    return value, Interval(*map(float, sigmoid(np.array([centre - reach, centre + reach]))), k)


def auc_variance(positive, probabilities, clusters):
    """Return the variance of the AUC by Obuchowski (1997); without clusters it is DeLong's.

    The placement of a positive image is the proportion of negatives below it, that of a negative the proportion of
    positives above it; both have the mean AUC. Their deviations, summed by patient, have a variance over the positives,
    one over the negatives, and a covariance, since one patient may have images of both labels.

    Parameters
    ----------
    positive : ndarray, shape (n,), bool; both values occur, each in two patients or more
    probabilities : ndarray, shape (n,), float64
    clusters : ndarray, shape (n,), int64, numbers from 0

    >>> round(auc_variance(np.array([0, 0, 1, 1]) > 0, np.array([0.1, 0.3, 0.2, 0.4]), np.arange(4)), 4)
    0.125
    """
    above, below = np.sort(probabilities[positive]), np.sort(probabilities[~positive])
    place = np.empty(len(probabilities))
    place[positive] = mean_rank(below, probabilities[positive]) / len(below)
    place[~positive] = 1 - mean_rank(above, probabilities[~positive]) / len(above)
    deviation = place - place[positive].mean()
    k = int(clusters.max()) + 1
    sums = [np.bincount(clusters[those], weights=deviation[those], minlength=k) for those in (positive, ~positive)]
    held = [len(np.unique(clusters[those])) for those in (positive, ~positive)]
    of_one, of_other = (i / (i - 1) * (s**2).sum() / size**2
                        for i, s, size in zip(held, sums, (len(above), len(below))))
    together = k / (k - 1) * (sums[0] * sums[1]).sum() / (len(above) * len(below))
    return float(of_one + of_other + 2 * together)


def bootstrap(statistic, clusters, names, n=1000, seed=0):
    """Return {name: Interval} of statistics by bootstrap over patients.

    Parameters
    ----------
    statistic : function from weights, ndarray (b, images), how often each image is in each of b samples, to an ndarray,
        shape (b, len(names)), NaN where a statistic is undefined
    clusters : ndarray, shape (images,), int64, numbers from 0
    names : sequence of str
    n, seed : int; the number of samples, and their seed

    >>> x = np.arange(100.0)
    >>> mean = lambda weights: (weights @ x / weights.sum(axis=1))[:, np.newaxis]
    >>> interval = bootstrap(mean, np.arange(100), ["mean"])["mean"]
    >>> 43 < interval.low < 45 and 54 < interval.high < 56
    True
    """
    k = int(clusters.max()) + 1
    if k == 1:
        return {name: Interval(None, None, 1, "all images are of one patient") for name in names}
    value = statistic(np.ones((1, len(clusters))))[0]
    drawn = np.concatenate([statistic(weights) for weights in resamples(clusters, n, seed)])
    without = np.concatenate([statistic(weights) for weights in _without_each(clusters)])
    return {name: _corrected(*columns, k) for name, *columns in zip(names, value, drawn.T, without.T)}


def resamples(clusters, n=1000, seed=0):
    """Yield weights, float64 (b, images), until there are n rows: how often each image is in a bootstrap sample."""
    k = int(clusters.max()) + 1
    block = max(1, _MOST_WEIGHTS // max(k, len(clusters)))
    for first in range(0, n, block):
        drawn = (uniforms(seed, Stream.CHECK, 0, row, k) * k for row in range(first, min(first + block, n)))
        counts = [np.bincount(patients.astype(np.int64), minlength=k) for patients in drawn]
        yield np.array(counts, np.float64)[:, clusters]


def _without_each(clusters):
    """Yield weights (b, images) that leave one patient out, for each patient; for 500 of them where there are more."""
    k = int(clusters.max()) + 1
    left_out = np.linspace(0, k - 1, min(k, 500)).astype(np.int64)
    block = max(1, _MOST_WEIGHTS // len(clusters))
    for first in range(0, len(left_out), block):
        yield (left_out[first:first + block, np.newaxis] != clusters).astype(np.float64)


def interval_fields(found):
    """Return {metric: Interval} as a summary reports it: intervals, no_interval (with the reason), approximate.

    >>> interval_fields({"auc": Interval(0.8, 0.9, 40), "f1": Interval(None, None, 1, "all images are of one patient")})
    {'intervals': {'auc': [0.8, 0.9]}, 'no_interval': {'f1': 'all images are of one patient'}, 'approximate': ['auc']}
    """
    return {"intervals": {name: i.bounds for name, i in found.items() if i.bounds},
            "no_interval": {name: i.reason for name, i in found.items() if not i.bounds},
            "approximate": [name for name, i in found.items() if i.bounds and i.is_approximate]}


def _corrected(value, drawn, without, patients):
    """Return the percentiles of drawn values, corrected for bias and skewness (Efron's BCa)."""
    known = drawn[np.isfinite(drawn)]
    if len(known) < 0.95 * len(drawn) or not np.isfinite(value):
        return Interval(None, None, patients, f"it is undefined in {len(drawn) - len(known):,} of {len(drawn):,} "
                                              "samples drawn with replacement")
    if np.ptp(known) < 1e-12:
        return Interval(None, None, patients, "it is the same in all samples drawn with replacement")
    normal, pull = NormalDist(), without[np.isfinite(without)]
    pull = pull.mean() - pull
    below = ((known < value).sum() + 0.5 * (known == value).sum()) / len(known)
    bias = normal.inv_cdf(min(max(below, 0.5 / len(known)), 1 - 0.5 / len(known)))
    skew = (pull**3).sum() / (6 * (pull**2).sum() ** 1.5) if pull.any() else 0.0
    places = [normal.cdf(bias + (bias + z) / (1 - skew * (bias + z))) for z in (-Z, Z)]
    low, high = np.quantile(known, places)
    return Interval(float(low), float(high), patients)


def _wilson(p, n, t):
    """Return both q with |p - q| = t sqrt(q (1 - q) / n)."""
    shrunk = n + t * t
    centre = (n * p + t * t / 2) / shrunk
    reach = t / shrunk * math.sqrt(n * p * (1 - p) + t * t / 4)
    return max(0.0, centre - reach), min(1.0, centre + reach)


def _edge(positives, negatives):
    """Return the lowest AUC that is compatible with a perfect order of so many positives and negatives.

    It is the root of 1 - q = Z sqrt(V(q)), V the variance of Hanley and McNeil (1982) in Newcombe's form.
    """
    other = (positives + negatives) / 2 - 1

    def compatible(q):
        factor = 1 + other * ((1 - q) / (2 - q) + q / (1 + q))
        return (1 - q) ** 2 <= Z**2 * q * (1 - q) * factor / (positives * negatives)

    return bisect(compatible, 0.0, 1.0)


def bisect(holds, low, high):
    """Return the number between `low` and `high` from which on a condition holds.

    >>> round(bisect(lambda x: x * x > 2, 0, 2), 6)
    1.414214
    """
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _student(degrees):
    """Return the 97.5 % point of Student's t: from 3 degrees on by the expansion of Cornish and Fisher, within 0.2 %.

    >>> [round(_student(d), 3) for d in (1, 9, 29, 499)]
    [12.706, 2.262, 2.045, 1.965]
    """
    if degrees < 3:
        return (math.tan(0.475 * math.pi), 0.95 / math.sqrt(2 * 0.975 * 0.025))[degrees - 1]
    z, d = Z, float(degrees)
    return z + (z**3 + z) / (4 * d) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * d**2) \
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * d**3) \
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * d**4)


def mean_rank(ordered, values):
    """Return for each value how many of `ordered` are below it, a tie counting one half."""
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / 2


# ---- Metrics of many bootstrap samples at once: a row of `weights` is how often each image occurs in one -------------

def ratios(parts, wholes, weights):
    """Return sum(weights x parts) / sum(weights x wholes) of each row.

    Parameters
    ----------
    parts, wholes : ndarrays, shape (n,)
    weights : ndarray, shape (b, n), float64

    Returns
    -------
    ndarray, shape (b,), float64

    >>> ratios(np.array([1, 0]), np.array([1, 1]), np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 0.0]]))
    array([0.5, 1. , nan])
    """
    return _quotient(weights @ np.asarray(parts, np.float64), weights @ np.asarray(wholes, np.float64))


def aucs(positive, scores, weights):
    """Return the AUC of each row, a tie counting one half; arguments as for `average_precisions`.

    >>> aucs(np.array([False, True, True]), np.array([0.5, 0.5, 0.7]), np.array([[1.0, 1.0, 1.0], [1.0, 0.0, 2.0]]))
    array([0.75, 1.  ])
    """
    positives, negatives = _by_score(positive, scores, weights)
    below = negatives.cumsum(axis=1) - negatives / 2
    return _quotient((positives * below).sum(axis=1), positives.sum(axis=1) * negatives.sum(axis=1))


def average_precisions(positive, scores, weights):
    """Return the average precision of each row: the precision at each distinct score, weighted by the recall it adds.

    Parameters
    ----------
    positive : ndarray, shape (n,), bool
    scores : ndarray, shape (n,), float64
    weights : ndarray, shape (b, n), float64

    >>> average_precisions(np.array([True, False, True]), np.array([0.9, 0.5, 0.3]), np.ones((1, 3))).round(4)
    array([0.8333])
    """
    positives, negatives = (counts[:, ::-1] for counts in _by_score(positive, scores, weights))
    hits = positives.cumsum(axis=1)
    taken = hits + negatives.cumsum(axis=1)
    precision = np.divide(hits, taken, out=np.zeros_like(hits), where=taken > 0)
    values = _quotient((precision * positives).sum(axis=1), hits[:, -1])
    return np.where(negatives.sum(axis=1) > 0, values, np.nan)


def average_precision(labels, probabilities):
    """Return the average precision of class 1; None where only one label occurs: then all orders are equally good.

    >>> round(average_precision([1, 0, 1], [0.9, 0.5, 0.3]), 4)
    0.8333
    """
    positive, scores = np.asarray(labels).reshape(-1) == 1, np.asarray(probabilities, np.float64).reshape(-1)
    value = average_precisions(positive, scores, np.ones((1, len(scores))))[0]
    return None if np.isnan(value) else float(value)


def _by_score(positive, scores, weights):
    """Return the weights of positives and of negatives at each distinct score, from the lowest up: two (b, scores)."""
    order = np.argsort(scores, kind="stable")
    first = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    ordered, positive = weights[:, order], positive[order]
    return (np.add.reduceat(ordered * positive, first, axis=1), np.add.reduceat(ordered * ~positive, first, axis=1))


def _quotient(parts, wholes):
    return np.divide(parts, wholes, out=np.full(len(wholes), np.nan), where=wholes != 0)
