"""What printed shares leave possible: which confusion matrices, which share of positives, how many images.

A printed share is a Range, from the least to the greatest number that it may have been before rounding. Everything is
exact: fractions and whole numbers.
"""

import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np

__all__ = ["MOST_IMAGES", "Range", "least_images", "share_by_accuracy", "share_by_precision", "find_matrix"]

MOST_IMAGES = 200_000               # so many hide anything that rounding allows


class Range(NamedTuple):
    """What a printed number may have been, ends included: Fractions."""

    low: Fraction
    high: Fraction


def least_images(precision, specificity):
    """Return the smallest number of images whose precision and specificity lie in these Ranges, or None if it is large.

    With FP false positives, TP + FP = FP / (1 - precision) and TN + FP = FP / (1 - specificity) must be whole numbers.

    >>> least_images(Range(Fraction(99, 100), Fraction(1)), Range(Fraction(1, 2), Fraction(1, 2)))
    101
    """
    if precision.high == 1 and specificity.high == 1:
        return 2                                                    # a true positive and a true negative
    for fp in range(1, MOST_IMAGES + 1):
        wholes = []
        for bounds in (precision, specificity):
            first = math.ceil(fp / (1 - bounds.low)) if bounds.low < 1 else math.inf
            last = math.floor(fp / (1 - bounds.high)) if bounds.high < 1 else math.inf
            wholes.append(first if first <= last else math.inf)
        least = sum(wholes) - fp                                    # never falls from one fp to the next
        if least < math.inf:
            return least if least <= 10**9 else None
    return None


def share_by_accuracy(accuracy, recall, specificity):
    """Return the Range of w with accuracy = w recall + (1 - w) specificity, all within Ranges; or None.

    >>> share_by_accuracy(*(Range(Fraction(x, 10), Fraction(x, 10)) for x in (8, 9, 6)))
    Range(low=Fraction(2, 3), high=Fraction(2, 3))
    """
    low, high = Fraction(0), Fraction(1)
    # w (recall - specificity) <= accuracy - specificity with the ends that help, and the same from the other side.
    for rise, room in ((recall.low - specificity.low, accuracy.high - specificity.low),
                       (specificity.high - recall.high, specificity.high - accuracy.low)):
        if rise > 0:
            high = min(high, room / rise)
        elif rise < 0:
            low = max(low, room / rise)
        elif room < 0:
            return None
    return Range(low, high) if low <= high else None


def share_by_precision(precision, recall, specificity):
    """Return the Range of w with precision = w recall / (w recall + (1 - w) (1 - specificity)), all within Ranges.

    >>> share_by_precision(*(Range(Fraction(x, 10), Fraction(x, 10)) for x in (5, 8, 8)))
    Range(low=Fraction(1, 5), high=Fraction(1, 5))
    """
    a, b = recall.high * (1 - precision.low), precision.low * (1 - specificity.high)
    c, d = recall.low * (1 - precision.high), precision.high * (1 - specificity.low)
    return Range(b / (a + b) if a + b else Fraction(0), d / (c + d) if c + d else Fraction(1))


def find_matrix(rates, n):
    """Return (TP, FP, TN, FN) of n images whose shares lie in these Ranges, or None where there is none.

    Parameters
    ----------
    rates : dict from accuracy, specificity, precision, recall or f1 to Range; recall among them
    n : int, at most `MOST_IMAGES`

    Notes
    -----
    For every number of positives, recall leaves a few TP; given those, each other share leaves an interval of FP.

    >>> half = Range(Fraction(1, 2), Fraction(1, 2))
    >>> find_matrix({"recall": half, "precision": half}, 4)
    (1, 1, 1, 1)
    """
    positives = np.arange(1, n + 1)
    negatives = n - positives
    first, last = _ceil(rates["recall"].low, positives), _floor(rates["recall"].high, positives)
    for step in range(int((last - first).max()) + 1):
        tp = first + step
        fn = positives - tp
        low, high = np.zeros(n, np.int64), np.where(tp <= last, negatives, -1)
        for name, bounds in rates.items():
            fewest, most = _false(name, bounds, tp, fn, negatives, n)
            low, high = np.maximum(low, fewest), np.minimum(high, most)
        if (low <= high).any():
            at = int(np.argmax(low <= high))
            return int(tp[at]), int(low[at]), int(negatives[at] - low[at]), int(fn[at])
    return None


def _false(name, bounds, tp, fn, negatives, n):
    """Return the fewest and the most false positives that a share allows, given TP, FN and the number of negatives."""
    if name == "recall":
        return 0, n
    if name == "accuracy":
        return tp + negatives - _floor(bounds.high, n), tp + negatives - _ceil(bounds.low, n)
    if name == "specificity":
        fewest, most = negatives - _floor(bounds.high, negatives), negatives - _ceil(bounds.low, negatives)
        return fewest, np.where(negatives > 0, most, -1)            # undefined without negatives
    # The rest over the hits: FP = TP (1 - p) / p for precision p, and FP + FN = 2 TP (1 - f) / f for F1.
    hits, others = (tp, 0) if name == "precision" else (2 * tp, fn)
    fewest = _ceil((1 - bounds.high) / bounds.high, hits)
    most = _floor((1 - bounds.low) / bounds.low, hits) if bounds.low > 0 else np.full(len(tp), 2 * n)
    return np.maximum(fewest, tp == 0) - others, most - others      # without a hit, undefined unless there is a false


def _ceil(fraction, counts):
    return -(-fraction.numerator * counts // fraction.denominator)


def _floor(fraction, counts):
    return fraction.numerator * counts // fraction.denominator
