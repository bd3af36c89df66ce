"""The ROC curve."""

import numpy as np

from minicnn.errors import InputError
from minicnn.metrics import as_binary, counts_by_score

__all__ = ["roc"]


def roc(labels, probabilities):
    """Return the points of the ROC curve: the rates at every threshold, from none predicted positive to all.

    Returns
    -------
    false_positive_rates, true_positive_rates : ndarrays, float64, from 0 to 1, a point for each distinct probability

    Raises
    ------
    InputError : only one label occurs, and with it only one of the rates

    >>> roc([0, 1, 1], [0.5, 0.5, 0.7])
    (array([0., 0., 1.]), array([0. , 0.5, 1. ]))
    """
    labels, p = as_binary(labels, probabilities)
    if labels.min() == labels.max():
        raise InputError(f"labels: an ROC curve needs both labels, got only {labels[0]}.")
    negatives, positives = counts_by_score(labels == 1, -p)
    return (np.concatenate([[0], negatives]).cumsum() / negatives.sum(),
            np.concatenate([[0], positives]).cumsum() / positives.sum())
