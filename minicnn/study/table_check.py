"""Check whether the metrics in a printed table are consistent with each other, within their rounding.

99.45 % printed with two decimals stands for any value from 99.445 to 99.455 %. The proportions of one set of
predictions come from four whole numbers, TP, FP, TN and FN, which tie them to each other. A check holds if some values
within rounding satisfy it; a table of real predictions passes every check. If a check fails, at least one printed value
is wrong; which one remains open. The arithmetic is exact (whole numbers and fractions), except for ln 2.
"""

import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from minicnn.core.arguments import Real, Whole, check
from minicnn.core.text import percent
from minicnn.errors import InputError
from minicnn.metrics import HEADS

__all__ = ["RATES", "check_table", "MOST_IMAGES", "Range", "least_images", "share_by_accuracy", "share_by_precision",
           "find_matrix"]


# ---- What printed proportions allow ----------------------------------------------------------------------------------

MOST_IMAGES = 200_000               # with more images, anything that rounding allows is possible


class Range(NamedTuple):
    """The values that a printed number may stand for, ends included: Fractions."""

    low: Fraction
    high: Fraction


def least_images(precision, specificity):
    """Return the smallest number of images whose precision and specificity lie in these Ranges; None if too large.

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
    """Return (TP, FP, TN, FN) of n images whose proportions lie in these Ranges, or None where there is none.

    Parameters
    ----------
    rates : dict from accuracy, specificity, precision, recall or f1 to Range; recall among them
    n : int, at most `MOST_IMAGES`

    Notes
    -----
    For every number of positives, recall allows a few TP; given those, each other proportion allows an interval of FP.

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
    """Return the fewest and the most false positives that a proportion allows, given TP, FN and the negatives."""
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


# ---- Checking a table ------------------------------------------------------------------------------------------------

RATES = ("accuracy", "specificity", "precision", "recall", "f1")
_TRIED = (*range(1, 2001), 20_000, MOST_IMAGES)     # where the number of images is not known


def check_table(accuracy=None, specificity=None, precision=None, recall=None, f1=None, loss=None, n=None, share=None,
                decimals=2, loss_decimals=4):
    """Check the printed metrics of one set of predictions against each other; return the checks that are possible.

    Parameters
    ----------
    accuracy, specificity, precision, recall, f1 : float in [0, 1], as printed: 0.9945 for 99.45 %; None: not printed
    loss : float; the mean binary cross-entropy in nats, judged at p > 0.5
    n : int; the number of images, if known
    share : (float, float); the range of the proportion of positives in the text
    decimals, loss_decimals : int; the number of decimals of the percentages and of the loss

    Returns
    -------
    list of dict: name, claim (what must hold), printed, computed, why (sentences), holds (bool)

    Raises
    ------
    InputError : a number outside its range, or with more decimals than the table has

    >>> [(check["name"], check["holds"]) for check in check_table(precision=0.9, recall=0.8, f1=0.88)]
    [('harmonic mean', False), ('one matrix', False)]
    >>> check_table(precision=0.9, recall=0.8, f1=0.8471)[0]["holds"]
    True
    """
    n = None if n is None else check("check_table", "n", n, Whole())
    for name, value, low in (("decimals", decimals, 0), ("loss_decimals", loss_decimals, 2)):
        check("check_table", name, value, Whole(low, low + 6))
    shares = {"accuracy": accuracy, "specificity": specificity, "precision": precision, "recall": recall, "f1": f1}
    box = {name: _range(name, value, decimals + 2, 1) for name, value in shares.items() if value is not None}
    told = {name: f"{HEADS[name]} {percent(float(shares[name]), decimals)} ({_between(box[name], decimals + 1)})"
            for name in box}
    if loss is not None:
        box["loss"] = _range("loss", loss, loss_decimals, 10**6)
        told["loss"] = (f"loss {loss:.{loss_decimals}f} ({float(box['loss'].low):.{loss_decimals + 1}f} to "
                        f"{float(box['loss'].high):.{loss_decimals + 1}f})")
    if share is not None:
        box["share"] = _stated(share)
        told["share"] = f"positives in the text {_between(box['share'], 0)}"
    if n is not None:
        told["n"] = f"{n:,} images"
    found = []
    for name, function, needed, wanted in _CHECKS:
        if needed <= told.keys():
            claim, computed, why, holds = function(box, n, decimals + 1)
            printed = ", ".join(told[key] for key in wanted if key in told)
            found.append({"name": name, "claim": claim, "printed": printed, "computed": computed, "why": why,
                          "holds": bool(holds)})
    return [one for one in found if one["computed"]]


# ---- The checks: each returns (claim, computed, why, holds) ----------------------------------------------------------

def _whole_images(box, n, digits):
    a = box["accuracy"]
    first, last = math.ceil(a.low * n), math.floor(a.high * n)
    holds = first <= last
    counts = sorted({first, last}) if holds else [last, first]
    computed = ", ".join(f"{k:,} of {n:,} are {percent(float(Fraction(k, n)), digits)}" for k in counts)
    return (f"The accuracy is that of a whole number of correct predictions among {n:,}.", computed,
            "The accuracy has steps of one image; "
            + ("one of the steps rounds to the printed value." if holds
               else "the printed value lies between two steps, and neither rounds to it."), holds)


def _false_positives(box, n, digits):
    least = least_images(box["precision"], box["specificity"])
    holds = n is None or least is not None and least <= n
    computed = (f"both need at least {least:,} images" if least else f"both need more than {MOST_IMAGES:,} images")
    why = "Precision and specificity count the same false positives: without any, both are 100 %. "
    if box["precision"].high == 1 and box["specificity"].high < 1:
        hidden = math.ceil(1 / (1 - box["precision"].low))
        why += (f"For one false positive to vanish in the rounding of a precision of 100 %, at least {hidden:,} images "
                "must be predicted positive.")
    elif box["specificity"].high == 1 and box["precision"].high < 1:
        hidden = math.ceil(1 / (1 - box["specificity"].low))
        why += f"For one to vanish in the rounding of a specificity of 100 %, there must be {hidden:,} negatives."
    else:
        why += "One whole number must fit both."
    return "Precision and specificity have the same false positives.", computed, why, holds


def _weighted_mean(box, n, digits):
    a, r, s = box["accuracy"], box["recall"], box["specificity"]
    low, high = min(r.low, s.low), max(r.high, s.high)
    return ("The accuracy lies between recall and specificity.", f"accuracy from {_between((low, high), digits)}",
            "Accuracy is the mean of recall and specificity, weighted by the proportions of positives and negatives, "
            "so it lies between them.", share_by_accuracy(a, r, s) is not None)


def _harmonic_mean(box, n, digits):
    p, r, f = box["precision"], box["recall"], box["f1"]
    computed = Range(_f1(p.low, r.low), _f1(p.high, r.high))
    return ("F1 is the harmonic mean of precision and recall.", f"F1 from {_between(computed, digits)}",
            "F1 = 2 / (1/recall + 1/precision) is determined by the two.",
            computed.low <= f.high and f.low <= computed.high)


def _least_loss(box, n, digits):
    errors = 1 - box["accuracy"].high
    least = float(errors) * math.log(2)
    return ("The loss is at least the error rate times ln 2.",
            f"loss at least {float(errors):.6f} x ln 2 = {least:.5f}",
            "In an error at p > 0.5 the true class has a probability of at most one half, which contributes at least "
            "ln 2 to the cross-entropy; no prediction contributes less than 0. (This holds for the binary "
            "cross-entropy of the same predictions, not for a mean over the batches of an epoch.)",
            float(box["loss"].high) >= least)


def _class_shares(box, n, digits):
    told = {}
    for name, share_by in (("accuracy", share_by_accuracy), ("precision", share_by_precision)):
        if {name, "recall", "specificity"} <= box.keys():
            ranges = box[name], box["recall"], box["specificity"]
            told[f"by {name}"] = (share_by(*ranges), share_by(*map(_middle, ranges)))
    if "share" in box:
        told["by the text"] = box["share"], None
    said = [f"{name} {_share(*found)}" for name, found in told.items()]
    bounds = [found for found, _ in told.values()]
    holds = bool(bounds) and None not in bounds and max(b.low for b in bounds) <= min(b.high for b in bounds)
    return ("One proportion of positives explains accuracy, precision and the text.",
            "" if len(told) < 2 else f"proportion of positives: {'; '.join(said)}",
            "Given recall and specificity, the accuracy determines the proportion of positives, and so does the "
            "precision: both must give the same proportion, and the one in the text.", holds)


def _one_matrix(box, n, digits):
    rates = {name: box[name] for name in RATES if name in box}
    if len(rates) < 2 or n is not None and n > MOST_IMAGES:
        return "", "", "", True
    matrix = next((found for tried in (_TRIED if n is None else (n,))
                   if (found := find_matrix(rates, tried)) is not None), None)
    if matrix is not None:
        computed = "for example TP {:,}, FP {:,}, TN {:,}, FN {:,}".format(*matrix)
    elif n is None:
        computed = f"none of up to 2,000 images, of 20,000 or of {MOST_IMAGES:,}"
    else:
        computed = f"none of the {math.comb(n + 3, 3):,} confusion matrices of {n:,} images"
    return ("One confusion matrix gives all the metrics.", computed,
            "Four whole numbers that add up to the number of images determine every metric; all were tried.",
            matrix is not None)


# Each check, the metrics that it needs, and those that it shows.
_CHECKS = (
    ("whole images", _whole_images, {"accuracy", "n"}, ("accuracy", "n")),
    ("false positives", _false_positives, {"precision", "specificity"}, ("precision", "specificity", "n")),
    ("weighted mean", _weighted_mean, {"accuracy", "recall", "specificity"}, ("accuracy", "recall", "specificity")),
    ("harmonic mean", _harmonic_mean, {"precision", "recall", "f1"}, ("f1", "precision", "recall")),
    ("least loss", _least_loss, {"accuracy", "loss"}, ("loss", "accuracy")),
    ("class shares", _class_shares, {"recall", "specificity"},
     ("accuracy", "precision", "recall", "specificity", "share")),
    ("one matrix", _one_matrix, {"recall"}, (*RATES, "n")),
)


# ---- Numbers and words ----------------------------------------------------------------------------------------------

def _f1(precision, recall):
    return 2 * precision * recall / (precision + recall) if precision + recall else Fraction(0)


def _range(name, value, places, most):
    """Return the Range of a number of at most `most`, printed with so many decimal places (0.9945 has four)."""
    value = check("check_table", name, value, Real(0, most, "[]"))
    printed = Fraction(round(value * 10**places), 10**places)
    if abs(float(printed) - value) > 1e-12 * max(1.0, value):
        raise InputError(f"check_table: {name}: {value!r} has more decimals than the table. Set decimals (of the "
                         "percentages) or loss_decimals.")
    half = Fraction(1, 2 * 10**places)
    return Range(max(printed - half, Fraction(0)), min(printed + half, Fraction(most)))


def _stated(share):
    if len(share) != 2 or not 0 <= share[0] <= share[1] <= 1:
        raise InputError(f"check_table: share: expected two numbers from 0 to 1, in order, got {share!r}.")
    return Range(*(Fraction(str(end)) for end in share))


def _middle(bounds):
    return Range(*[(bounds.low + bounds.high) / 2] * 2)


def _share(bounds, point):
    """Return the possible proportions as text, after the one that the printed values give."""
    if bounds is None:
        return "none is possible"
    return _between(bounds, 1) if point is None else f"{percent(float(point.low), 1)} ({_between(bounds, 1)})"


def _between(bounds, digits):
    return f"{100 * float(bounds[0]):.{digits}f} to {100 * float(bounds[1]):.{digits}f} %"
