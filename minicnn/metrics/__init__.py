"""The metrics of the paper: how good predictions are, and where that question has no answer.

With TP, FP, TN, FN the counts of true and false positives and negatives:

    accuracy = (TP + TN) / all        specificity = TN / (TN + FP)      precision = TP / (TP + FP)
    recall = TP / (TP + FN)           F1 = 2 TP / (2 TP + FP + FN), the harmonic mean of precision and recall

and AUC, the probability that a random positive scores higher than a random negative, a tie counting one half. A sample
is predicted positive where p > threshold, strictly. A fraction whose denominator is zero is undefined: its value is
None, and `undefined` says why. It is never 0 or 1 by convention, which would read as a result. F1 is defined as long as
there is a positive, true or predicted: with TP = 0 it is 0, though precision or recall may be undefined.
"""

import numpy as np

from minicnn.core.arguments import Real, check
from minicnn.core.validation import as_array, check_finite
from minicnn.errors import InputError, ShapeError

__all__ = ["confusion", "binary_metrics", "auc", "bce_from_probabilities", "HEADS", "REASONS"]

# The keys of a metrics object, in the order of Table II of the paper, and how people read them.
HEADS = {"n": "n", "accuracy": "accuracy", "specificity": "specificity", "precision": "precision", "recall": "recall",
         "f1": "F1", "auc": "AUC", "loss": "loss"}
# Why one of these is undefined: in a task of two classes `this` is "positive" and `other` "negative".
REASONS = {"specificity": "no sample is {other}", "precision": "no sample was predicted {this}",
           "recall": "no sample is {this}", "f1": "no sample is {this} or was predicted so"}


def confusion(labels, predictions, k):
    """Count the samples of each label (row) that were predicted as each class (column).

    Parameters
    ----------
    labels, predictions : array-likes of shape (n,) or (n, 1), whole numbers (or booleans) from 0 to k - 1
    k : int; the number of classes

    Returns
    -------
    ndarray, shape (k, k), int64

    Raises
    ------
    ShapeError, DTypeError, InputError : no samples, different lengths, or a class outside 0 to k - 1

    >>> confusion([0, 0, 1, 1], [0, 1, 1, 1], 2)
    array([[1, 1],
           [0, 2]])
    """
    labels, predictions = as_classes("labels", labels, k), as_classes("predictions", predictions, k)
    _check_lengths("predictions", predictions, labels)
    return np.bincount(labels * k + predictions, minlength=k * k).reshape(k, k)


def binary_metrics(labels, probabilities, threshold=0.5, loss=None):
    """Return the metrics of a two-class prediction.

    Parameters
    ----------
    labels : array-like, shape (n,) or (n, 1); 0 or 1
    probabilities : array-like, shape (n,) or (n, 1), in [0, 1]; of class 1
    threshold : float in [0, 1]
    loss : float, optional; the mean loss where it is known from the logits, else it is taken from the probabilities

    Returns
    -------
    dict: n (int); accuracy, specificity, precision, recall, f1, auc, loss (float or None); undefined ({metric: reason})

    Raises
    ------
    ShapeError, DTypeError, InputError : arrays of the wrong rank, length, type or range

    >>> metrics = binary_metrics([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.9])
    >>> metrics["recall"], metrics["precision"], metrics["auc"]
    (0.5, 1.0, 1.0)
    >>> binary_metrics([0, 1], [0.1, 0.2])["undefined"]
    {'precision': 'no sample was predicted positive'}
    """
    labels, p = as_binary(labels, probabilities)
    threshold = check("", "threshold", threshold, Real(0, 1, "[]"))
    matrix = confusion(labels, p > threshold, 2)
    values, undefined = rates(matrix, 1)
    values["auc"], undefined["auc"] = area(labels == 1, p)
    return report(matrix, values, undefined, bce_from_probabilities(labels, p) if loss is None else loss)


def auc(labels, probabilities):
    """Return the area under the ROC curve, exactly: ties count one half. None where only one label occurs.

    >>> auc([0, 1, 1], [0.5, 0.5, 0.7])
    0.75
    """
    labels, p = as_binary(labels, probabilities)
    return area(labels == 1, p)[0]


def bce_from_probabilities(labels, probabilities, eps=1e-7):
    """Return the mean binary cross-entropy of probabilities clipped to [eps, 1 - eps].

    A metric only: training takes its loss from logits, which needs no clipping and knows more than p near 0 and 1.

    >>> round(bce_from_probabilities([1, 0], [1.0, 1.0]), 3)
    8.059
    """
    labels, p = as_binary(labels, probabilities)
    return float(-np.log(np.clip(np.where(labels == 1, p, 1.0 - p), eps, 1.0 - eps)).mean())


def rates(matrix, c, this="positive", other="negative"):
    """Return ({rate: value or None}, {rate: reason or None}) of class c of a confusion matrix against the rest."""
    tp = int(matrix[c, c])
    fn, fp = int(matrix[c].sum()) - tp, int(matrix[:, c].sum()) - tp
    tn = int(matrix.sum()) - tp - fn - fp
    fractions = {"specificity": (tn, tn + fp), "precision": (tp, tp + fp), "recall": (tp, tp + fn),
                 "f1": (2 * tp, 2 * tp + fp + fn)}
    return ({rate: part / whole if whole else None for rate, (part, whole) in fractions.items()},
            {rate: None if whole else REASONS[rate].format(this=this, other=other)
             for rate, (part, whole) in fractions.items()})


def area(positive, p):
    """Return (AUC, None), or (None, reason)."""
    negatives, positives = counts_by_score(positive, p)
    if not negatives.any() or not positives.any():
        return None, "all samples have the same label"
    # Twice the number of (positive, negative) pairs in the right order, a tie counting once: whole numbers, so exact.
    below = 2 * (negatives.cumsum() - negatives) + negatives
    return int(positives @ below) / (2 * int(positives.sum()) * int(negatives.sum())), None


def counts_by_score(positive, scores):
    """Return the numbers of negatives and of positives at each distinct score, from the lowest score up."""
    distinct, where = np.unique(scores, return_inverse=True)
    return (np.bincount(where[~positive], minlength=len(distinct)),
            np.bincount(where[positive], minlength=len(distinct)))


def report(matrix, values, undefined, loss):
    n, loss = int(matrix.sum()), check("", "loss", loss, Real(0))
    return {"n": n, "accuracy": int(matrix.trace()) / n, **{rate: values[rate] for rate in (*REASONS, "auc")},
            "loss": loss, "undefined": {metric: reason for metric, reason in undefined.items() if reason}}


def as_classes(name, values, k):
    """Return whole numbers from 0 to k - 1 as an (n,) int64 array, or raise."""
    values = _column(name, as_array(values, "metrics", name, np.float64))
    if not ((values >= 0) & (values < k) & (values == np.floor(values))).all():
        first = values[~((values >= 0) & (values < k) & (values == np.floor(values)))][0]
        raise InputError(f"{name}: expected classes from 0 to {k - 1}, got {first:g}.")
    return values.astype(np.int64)


def as_binary(labels, probabilities):
    """Return (n,) labels 0 or 1 and (n,) float64 probabilities, or raise."""
    labels = as_classes("labels", labels, 2)
    p = _column("probabilities", as_array(probabilities, "metrics", "probabilities", np.float64))
    check_probabilities(p, labels, "sigmoid")
    return labels, p


def check_probabilities(p, labels, activation):
    _check_lengths("probabilities", p, labels)
    check_finite(p, "metrics", "probabilities")
    if p.min() < 0 or p.max() > 1:
        raise InputError(f"probabilities: expected values from 0 to 1, got {p.min():g} to {p.max():g}. "
                         f"Are these logits? Apply the {activation} first.")


def _column(name, values):
    """Return (n,) values from shape (n,) or (n, 1), n >= 1, or raise."""
    if values.ndim not in (1, 2) or values.shape[1:] not in ((), (1,)) or len(values) == 0:
        raise ShapeError(f"{name}: expected shape (n,) or (n, 1) with n >= 1, got {values.shape}.")
    return values.reshape(-1)


def _check_lengths(name, values, labels):
    if len(values) != len(labels):
        raise ShapeError(f"{name}: expected as many as labels, {len(labels)}, got {len(values)}.")
