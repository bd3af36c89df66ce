"""The metrics of a prediction of one of three or more classes.

Each class is taken against the rest, and the values are averaged over the classes, all with the same weight: specificity,
precision, recall, F1 and AUC are macro averages. Undefined for one class is undefined on average, since a mean over fewer
classes is another quantity.
"""

import numpy as np

from minicnn.core.validation import as_array
from minicnn.errors import InputError, ShapeError, printable
from minicnn.metrics import REASONS, area, as_classes, check_probabilities, confusion, rates, report

__all__ = ["categorical_metrics", "cce_from_probabilities"]


def categorical_metrics(labels, probabilities, loss=None, classes=None):
    """Return the metrics of a prediction of one of k classes: macro averages over each class against the rest.

    Parameters
    ----------
    labels : array-like, shape (n,) or (n, 1); whole numbers from 0 to k - 1
    probabilities : array-like, shape (n, k), k >= 2, in [0, 1], rows summing to 1; the largest is the prediction, the
        first of equals
    loss : float, optional; as in `binary_metrics`
    classes : sequence of k names, optional; for the reasons in `undefined`

    Returns
    -------
    dict: the keys of `binary_metrics`; specificity, precision, recall, f1 and auc are macro averages

    >>> p = [[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.3, 0.6, 0.1], [0.0, 0.1, 0.9]]
    >>> metrics = categorical_metrics([0, 1, 2, 2], p)
    >>> metrics["accuracy"], round(metrics["recall"], 3)
    (0.75, 0.833)
    """
    labels, p = _categorical(labels, probabilities)
    k = p.shape[1]
    if classes is not None and len(classes) != k:
        raise InputError(f"classes: expected {k} names, one for each column of probabilities, got {len(classes)}.")
    matrix = confusion(labels, p.argmax(axis=1), k)
    each, undefined = [], {}
    for c in range(k):
        name = f"of class {c}" if classes is None else printable(classes[c])
        values, reasons = rates(matrix, c, name, "of another class")
        values["auc"], reason = area(labels == c, p[:, c])
        reasons["auc"] = reason and (reasons["recall"] or reasons["specificity"])
        each.append(values)
        for metric, reason in reasons.items():
            if reason:
                undefined.setdefault(metric, f"{reason}, and a mean over the other classes is another quantity")
    macro = {metric: None if metric in undefined else float(np.mean([values[metric] for values in each]))
             for metric in (*REASONS, "auc")}
    return report(matrix, macro, undefined, cce_from_probabilities(labels, p) if loss is None else loss)


def cce_from_probabilities(labels, probabilities, eps=1e-7):
    """Return the mean cross-entropy of (n, k) probabilities clipped to [eps, 1 - eps]; a metric only.

    >>> round(cce_from_probabilities([1], [[0.25, 0.5, 0.25]]), 3)
    0.693
    """
    labels, p = _categorical(labels, probabilities)
    return float(-np.log(np.clip(p[np.arange(len(p)), labels], eps, 1.0 - eps)).mean())


def _categorical(labels, probabilities):
    """Return (n,) labels and (n, k) float64 probabilities, or raise."""
    p = as_array(probabilities, "metrics", "probabilities", np.float64)
    if p.ndim != 2 or p.shape[0] == 0 or p.shape[1] < 2:
        raise ShapeError(f"probabilities: expected shape (n, k) with n >= 1 and k >= 2, got {p.shape}.")
    labels = as_classes("labels", labels, p.shape[1])
    check_probabilities(p, labels, "softmax")
    sums = p.sum(axis=1)
    if np.abs(sums - 1).max() > 1e-3:
        raise InputError(f"probabilities: expected rows that sum to 1, got sums from {sums.min():g} to {sums.max():g}.")
    return labels, p
