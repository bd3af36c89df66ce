"""Calibration: Brier score, calibration slope and intercept, reliability curve, temperature scaling.

Of the images with a predicted probability of 0.8, eight in ten should be positive. Two numbers measure how far that
holds (Cox, Biometrika 45 (1958); Van Calster et al., BMC Medicine 17 (2019)). With z = log(p / (1 - p)), logistic
regression gives

    slope s:      log odds = a + s z     ideal 1; below 1 the probabilities are too extreme, above 1 too moderate
    intercept a:  log odds = a + z       ideal 0; above 0 they are too low on average, below 0 too high

Temperature scaling (Guo et al., ICML 2017) divides z by the T that minimises the loss on the validation set. It keeps
the order, so it changes neither the AUC nor, with two classes, any prediction at 0.5.
"""

import numpy as np

from minicnn import metrics
from minicnn.core.arguments import Whole, check
from minicnn.evaluation.intervals import as_clusters, bisect, proportion_interval
from minicnn.evaluation.regression import logistic_regression

__all__ = ["brier_score", "squared_errors", "cross_entropies", "logits", "calibration_line", "calibration_lines",
           "reliability_curve", "fit_temperature", "apply_temperature"]

EPS = 1e-7      # that of metrics.bce_from_probabilities; float32 probabilities near 1 are no finer than 6e-8


def brier_score(labels, probabilities):
    """Return the Brier score: the mean squared error of the probabilities (Brier, Monthly Weather Review 78 (1950)).

    With two classes that of class 1, from 0 to 1; with more the sum over the classes, from 0 to 2.

    >>> round(brier_score([0, 1], [0.2, 0.9]), 3)
    0.025
    """
    return float(squared_errors(labels, probabilities).mean())


def squared_errors(labels, probabilities):
    """Return the contribution of each image to the Brier score: ndarray, shape (n,), float64."""
    labels, p = np.asarray(labels).reshape(-1), np.asarray(probabilities, np.float64)
    if p.ndim == 2 and p.shape[1] > 1:
        return ((p - np.eye(p.shape[1])[labels.astype(np.int64)]) ** 2).sum(axis=1)
    return (p.reshape(-1) - labels) ** 2


def cross_entropies(labels, probabilities):
    """Return the cross-entropy of each image, of probabilities of at least 1e-7: ndarray, shape (n,), float64."""
    labels, p = np.asarray(labels).reshape(-1).astype(np.int64), np.asarray(probabilities, np.float64)
    if p.ndim == 2 and p.shape[1] > 1:
        own = p[np.arange(len(p)), labels]
    else:
        own = np.where(labels == 1, p.reshape(-1), 1 - p.reshape(-1))
    return -np.log(np.clip(own, EPS, 1))


def logits(probabilities):
    """Return log(p / (1 - p)) of probabilities clipped to [1e-7, 1 - 1e-7].

    >>> logits([0.5, 1.0]).round(2)
    array([ 0.  , 16.12])
    """
    p = np.clip(np.asarray(probabilities, np.float64).reshape(-1), EPS, 1 - EPS)
    return np.log(p) - np.log1p(-p)


def calibration_line(labels, probabilities):
    """Return ({"slope": ..., "intercept": ...}, {name: reason}) of a two-class prediction; None where undefined.

    Where a threshold separates the labels completely, the slope is infinite, which counts as undefined.

    >>> values, reasons = calibration_line([0, 1, 0, 1, 1, 0], [0.1, 0.6, 0.6, 0.9, 0.4, 0.3])
    >>> round(values["slope"], 3), round(values["intercept"], 3), reasons
    (1.451, 0.09, {})
    """
    y, z = np.asarray(labels).reshape(-1) == 1, logits(probabilities)
    values, reasons = dict.fromkeys(("slope", "intercept")), {}
    if y.all() or not y.any():
        return values, dict.fromkeys(values, "all samples have the same label")
    slope, intercept = calibration_lines(y, z, np.ones((1, len(z))))[0]
    values["intercept"] = float(intercept)
    if z.min() == z.max():
        reasons["slope"] = "all samples have the same probability"
    elif z[y].min() >= z[~y].max() or z[y].max() <= z[~y].min():
        reasons["slope"] = "a threshold separates the labels completely"
    elif np.isnan(slope):
        reasons["slope"] = "a threshold separates the labels so nearly that the regression does not converge"
    else:
        values["slope"] = float(slope)
    return values, reasons


def calibration_lines(positive, z, weights):
    """Return slope and intercept for each row of weights (see intervals.py): ndarray (b, 2), NaN where undefined.

    Parameters
    ----------
    positive : ndarray, shape (n,), bool
    z : ndarray, shape (n,), float64
    weights : ndarray, shape (b, n), float64
    """
    slopes, spread = np.full(len(weights), np.nan), z.std()
    if spread > 0:
        slopes = logistic_regression((z[:, np.newaxis] - z.mean()) / spread, positive, weights)[:, 1] / spread
    intercepts = logistic_regression(np.empty((len(z), 0)), positive, weights, offset=z)[:, 0]
    return np.stack([slopes, intercepts], axis=1)


def reliability_curve(labels, probabilities, clusters=None, bins=10):
    """Return the points of the reliability curve: the proportion of positives among images of similar probability.

    Parameters
    ----------
    labels, probabilities : as for `metrics.binary_metrics`
    clusters : as for `intervals.as_clusters`
    bins : int from 1 to 1000; intervals of probability, of equal width

    Returns
    -------
    list of dict, one for each bin that is not empty: low, high, n, predicted (mean probability), observed
    (proportion of positives), interval (Interval)

    Raises
    ------
    ShapeError, InputError : as `metrics.auc`; another number of bins

    >>> rows = reliability_curve([0, 1, 1], [0.1, 0.8, 0.9], bins=2)
    >>> [(row["n"], round(row["predicted"], 2), row["observed"]) for row in rows]
    [(1, 0.1, 0.0), (2, 0.85, 1.0)]
    """
    bins = check("reliability_curve", "bins", bins, Whole(1, 1000))
    metrics.auc(labels, probabilities)      # checks both
    positive, p = np.asarray(labels).reshape(-1) == 1, np.asarray(probabilities, np.float64).reshape(-1)
    clusters, edges = as_clusters(clusters, len(p)), np.linspace(0, 1, bins + 1)
    place, rows = np.searchsorted(edges[1:-1], p), []
    for number in np.unique(place):
        here = place == number
        observed, interval = proportion_interval(positive, here, clusters)
        rows.append({"low": float(edges[number]), "high": float(edges[number + 1]), "n": int(here.sum()),
                     "predicted": float(p[here].mean()), "observed": observed, "interval": interval})
    return rows


def fit_temperature(labels, probabilities):
    """Return (T, None): the temperature that minimises the loss on these images; or (None, reason).

    With b = 1 / T, the derivative of the loss in b is the sum of E[z] - z_label over the images, the mean taken with
    the probabilities softmax(b z). It increases with b, so bisection finds its zero.

    Parameters
    ----------
    labels : array-like, shape (n,); classes from 0
    probabilities : array-like, shape (n,) or (n, 1) of class 1, or (n, k)

    >>> T, _ = fit_temperature([0, 0, 1, 1, 1, 0], [0.01, 0.02, 0.99, 0.98, 0.01, 0.99])
    >>> round(T, 2)
    7.15
    """
    z, labels = _class_logits(probabilities), np.asarray(labels).reshape(-1).astype(np.int64)
    own = z[np.arange(len(z)), labels]

    def rises(b):
        e = np.exp(b * (z - z.max(axis=1, keepdims=True)))
        return ((e * z).sum(axis=1) / e.sum(axis=1) - own).sum() > 0

    if (own == z.max(axis=1)).all():
        return None, "every prediction on the validation set is correct, so the best temperature is 0"
    if rises(1e-6):
        return None, "on the validation set the probabilities are no better than chance"
    low, high = 1e-6, 1.0
    while not rises(high):
        low, high = high, 2 * high
        if high > 1e6:
            return None, "on the validation set the best temperature is below 1e-6"
    return 1 / bisect(rises, low, high), None


def apply_temperature(probabilities, temperature):
    """Return the probabilities at a temperature, softmax(z / T) of their logits z, in their own shape.

    >>> apply_temperature([0.5, 0.9], 2.0)
    array([0.5 , 0.75])
    """
    p = np.asarray(probabilities, np.float64)
    z = _class_logits(p) / temperature
    e = np.exp(z - z.max(axis=1, keepdims=True))
    e /= e.sum(axis=1, keepdims=True)
    return e if p.ndim == 2 and p.shape[1] > 1 else e[:, 1].reshape(p.shape)


def _class_logits(probabilities):
    """Return logits by class: ndarray (n, k); (0, log odds) with two."""
    p = np.asarray(probabilities, np.float64)
    if p.ndim == 2 and p.shape[1] > 1:
        return np.log(np.clip(p, EPS, 1.0))
    z = logits(p)
    return np.stack([np.zeros_like(z), z], axis=1)
