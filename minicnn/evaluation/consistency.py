"""Can a printed table of metrics be true? Arithmetic decides, and rounding has every benefit of the doubt.

99.45 % printed with two decimals stands for anything from 99.445 to 99.455 %. The shares of one set of predictions come
from four whole numbers, TP, FP, TN and FN, and are tied to each other by them. A check holds where some numbers within
rounding satisfy it; a table made from real predictions passes every check. Where one fails, at least one of the printed
numbers is wrong: which one, arithmetic cannot tell. All of it is exact (whole numbers and fractions) but for ln 2.
"""

import math
from fractions import Fraction

import numpy as np

from minicnn.errors import InputError
from minicnn.evaluation.possible import (MOST_IMAGES, Range, find_matrix, least_images, share_by_accuracy,
                                         share_by_precision)
from minicnn.metrics import HEADS
from minicnn.shapes import positive_int

__all__ = ["RATES", "check_table"]

RATES = ("accuracy", "specificity", "precision", "recall", "f1")
_TRIED = (*range(1, 2001), 20_000, MOST_IMAGES)     # where the number of images is not known


def check_table(accuracy=None, specificity=None, precision=None, recall=None, f1=None, loss=None, n=None, share=None,
                decimals=2, loss_decimals=4):
    """Check the printed metrics of one set of predictions against each other; return the checks that they allow.

    Parameters
    ----------
    accuracy, specificity, precision, recall, f1 : float in [0, 1], as printed: 0.9945 for 99.45 %; None: not printed
    loss : float; the mean binary cross-entropy in nats, judged at p > 0.5
    n : int; the number of images, where it is known
    share : (float, float); the share of positives that the text gives, from and to
    decimals : int; how many decimals the percentages are printed with
    loss_decimals : int; the same of the loss

    Returns
    -------
    list of dict: name, claim (what must be so), printed, computed, why (sentences), holds (bool)

    Raises
    ------
    InputError : a number outside its range, or with more decimals than the table has

    >>> [(check["name"], check["holds"]) for check in check_table(precision=0.9, recall=0.8, f1=0.88)]
    [('harmonic mean', False), ('one matrix', False)]
    >>> check_table(precision=0.9, recall=0.8, f1=0.8471)[0]["holds"]
    True
    """
    n = None if n is None else positive_int(n, "check_table", "n")
    shares = {"accuracy": accuracy, "specificity": specificity, "precision": precision, "recall": recall, "f1": f1}
    box = {name: _range(name, value, decimals + 2, 1) for name, value in shares.items() if value is not None}
    told = {name: f"{HEADS[name]} {_percent(shares[name], decimals)} ({_between(box[name], decimals + 1)})"
            for name in box}
    if loss is not None:
        box["loss"] = _range("loss", loss, loss_decimals, None)
        told["loss"] = (f"loss {loss:.{loss_decimals}f} ({float(box['loss'].low):.{loss_decimals + 1}f} to "
                        f"{float(box['loss'].high):.{loss_decimals + 1}f})")
    if share is not None:
        box["share"] = _stated(share)
        told["share"] = f"positives in the text {_between(box['share'], 0)}"
    if n is not None:
        told["n"] = f"{n:,} images"
    found = []
    for name, check, needed, wanted in _CHECKS:
        if needed <= told.keys():
            claim, computed, why, holds = check(box, n, decimals + 1)
            said = ", ".join(told[key] for key in wanted if key in told)
            found.append({"name": name, "claim": claim, "printed": said, "computed": computed, "why": why,
                          "holds": bool(holds)})
    return [check for check in found if check["computed"]]


# ---- The checks: each returns (claim, computed, why, holds) ----------------------------------------------------------

def _whole_images(box, n, digits):
    a = box["accuracy"]
    first, last = math.ceil(a.low * n), math.floor(a.high * n)
    holds = first <= last
    counts = sorted({first, last}) if holds else [last, first]
    computed = ", ".join(f"{k:,} of {n:,} are {_percent(Fraction(k, n), digits)}" for k in counts)
    return (f"The accuracy is that of a whole number of right answers among {n:,}.", computed,
            "An image is right or wrong, so the accuracy goes in steps of one image; "
            + ("one of the steps rounds to the printed figure." if holds
               else "the printed figure lies between two steps, and neither rounds to it."), holds)


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
        why += "A whole number of them must fit both."
    return "The false positives behind the precision are those behind the specificity.", computed, why, holds


def _weighted_mean(box, n, digits):
    a, r, s = box["accuracy"], box["recall"], box["specificity"]
    low, high = min(r.low, s.low), max(r.high, s.high)
    return ("The accuracy lies between recall and specificity.", f"accuracy from {_between((low, high), digits)}",
            "Accuracy is the mean of recall and specificity, weighted by the shares of positives and of negatives, so "
            "it can be neither above both nor below both.", share_by_accuracy(a, r, s) is not None)


def _harmonic_mean(box, n, digits):
    p, r, f = box["precision"], box["recall"], box["f1"]
    computed = Range(_f1(p.low, r.low), _f1(p.high, r.high))
    return ("F1 is the harmonic mean of precision and recall.", f"F1 from {_between(computed, digits)}",
            "F1 = 2 / (1/recall + 1/precision) has no freedom left once both are printed.",
            computed.low <= f.high and f.low <= computed.high)


def _least_loss(box, n, digits):
    errors = 1 - box["accuracy"].high
    least = float(errors) * math.log(2)
    return ("The loss is at least the share of mistakes times ln 2.",
            f"loss at least {float(errors):.6f} x ln 2 = {least:.5f}",
            "Where an answer at p > 0.5 is a mistake, the true class was given at most one half, which costs at least "
            "ln 2 of cross-entropy; right answers cost something too. (For the binary cross-entropy of the same "
            "predictions; a mean over the batches of an epoch is another figure.)", float(box["loss"].high) >= least)


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
    return ("One share of positives explains accuracy, precision and the text.",
            "" if len(told) < 2 else f"share of positives: {'; '.join(said)}",
            "With recall and specificity known, the accuracy tells how many of the images are positive, and so does "
            "the precision: it must be the same share, and the one that the text gives.", holds)


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
    return ("One confusion matrix gives all the shares.", computed,
            "Four whole numbers that add up to the number of images decide every share; all of them were tried.",
            matrix is not None)


# Each check with what must be printed for it, and what it shows of the table.
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
    """Return the Range of a number printed with so many decimal places (of a share, not of a percentage)."""
    if not isinstance(places, int) or not 2 <= places <= 8:
        raise InputError(f"check_table: expected 0 to 6 decimals of percentages and 2 to 8 of the loss for {name}.")
    is_number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= (most or 1e6):
        expected = "a share from 0 to 1" if most else "a number from 0 up"
        raise InputError(f"check_table: {name}: expected {expected}, got {value!r}."
                         f"{' Write 99.45 % as 0.9945.' if most else ''}")
    printed = Fraction(round(float(value) * 10**places), 10**places)
    if abs(float(printed) - float(value)) > 1e-12 * max(1.0, float(value)):
        raise InputError(f"check_table: {name}: {value!r} has more decimals than the table is said to have. Say how "
                         "many with decimals (of the percentages) or loss_decimals.")
    half = Fraction(1, 2 * 10**places)
    return Range(max(printed - half, Fraction(0)), min(printed + half, Fraction(1)) if most else printed + half)


def _stated(share):
    if len(share) != 2 or not 0 <= share[0] <= share[1] <= 1:
        raise InputError(f"check_table: share: expected two shares from 0 to 1, from and to, got {share!r}.")
    return Range(*(Fraction(str(end)) for end in share))


def _middle(bounds):
    return Range(*[(bounds.low + bounds.high) / 2] * 2)


def _share(bounds, point):
    """Say which shares are possible, and which one the figures give as they are printed."""
    if bounds is None:
        return "none fits"
    return _between(bounds, 1) if point is None else f"{_percent(point.low, 1)} ({_between(bounds, 1)})"


def _percent(value, digits):
    return f"{100 * float(value):.{digits}f} %"


def _between(bounds, digits):
    return f"{100 * float(bounds[0]):.{digits}f} to {100 * float(bounds[1]):.{digits}f} %"
