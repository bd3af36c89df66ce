"""Figures of many bootstrap samples at once: each row of `weights` says how often each image is in one of them.

With one row of ones they are the figures of the images themselves. A figure that a sample does not define is NaN.
"""

import numpy as np

__all__ = ["ratios", "aucs", "average_precisions", "average_precision"]


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
