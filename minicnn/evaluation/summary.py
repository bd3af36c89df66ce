"""What `evaluate` reports of one set of images: every figure with its 95 % interval, over all and by group.

To the metrics of metrics.py come average precision, Brier score, and calibration slope and intercept; to each its
interval (intervals.py), which knows patients; the figures at the threshold fixed on validation (operating_point.py); and the
figures by source, view, sex and age where a manifest has these columns. Where there is no metric or no interval, there
is a reason.
"""

import re
from collections import Counter

import numpy as np

from minicnn import metrics
from minicnn.data.split import groups
from minicnn.errors import printable
from minicnn.evaluation import intervals
from minicnn.evaluation.calibration import calibration_line, calibration_lines, logits, reliability_curve, squared_errors
from minicnn.evaluation.intervals import as_clusters

__all__ = ["HEADS", "summarize", "patient_clusters", "subgroup_columns", "age_band", "is_summary"]

# The keys of a description in order, and how people read them: those of Table II, then ours.
HEADS = metrics.HEADS | {"average_precision": "average precision", "brier": "Brier score",
                         "slope": "calibration slope", "intercept": "calibration intercept"}
SHARES = ("accuracy", "specificity", "precision", "recall", "f1")
GROUPED = ("accuracy", "specificity", "recall", "auc")
_MOST_GROUPS = 12


def summarize(labels, probabilities, clusters=None, columns=None, threshold=None, loss=None, classes=None, samples=1000):
    """Return what is to be said of predictions.

    Parameters
    ----------
    labels, probabilities, loss, classes : as for `metrics.binary_metrics` where probabilities are (n,) or (n, 1), for
        `metrics.categorical_metrics` where they are (n, k)
    clusters : ndarray, shape (n,), optional; the patient of each image as a number (`patient_clusters`)
    columns : {name: n words}, optional; by which to divide (`subgroup_columns`)
    threshold : float, optional; fixed on other images
    samples : int; of the bootstrap

    Returns
    -------
    dict: the keys of `HEADS`; undefined ({metric: reason}); patients (int); intervals ({metric: [low, high]});
    no_interval ({metric: reason}); approximate (metrics whose intervals rest on fewer than 50 patients); reliability
    (the curve's points, see `calibration.reliability_curve`) with two classes; at_threshold (the shares there) where there is
    a threshold; groups ({column: {word: dict}}) where there are columns

    >>> told = summarize([0, 0, 1, 1, 1, 0], [0.1, 0.6, 0.7, 0.9, 0.4, 0.2], threshold=0.65)
    >>> round(told["accuracy"], 3), told["at_threshold"]["specificity"], told["patients"], "auc" in told["approximate"]
    (0.667, 1.0, 6, True)
    """
    p = np.asarray(probabilities)
    several = p.ndim == 2 and p.shape[1] > 1
    if several:
        told = metrics.categorical_metrics(labels, p, loss, classes)
    else:
        told = metrics.binary_metrics(labels, p, loss=loss)
        p = p.reshape(-1)
    labels, p = np.asarray(labels).reshape(-1).astype(np.int64), p.astype(np.float64)
    clusters = as_clusters(clusters, len(labels))
    undefined, found = told.pop("undefined"), _of_classes if several else _of_two
    more, reasons, bounds = found(labels, p, clusters, samples)
    told |= more | {"undefined": undefined | reasons, "patients": int(clusters.max()) + 1}
    told |= _with_intervals(bounds, told)
    if not several:
        told["reliability"] = _points(labels, p, clusters)
    if threshold is not None and not several:
        told["at_threshold"] = _at(labels, p, clusters, threshold)
    if columns:
        told["groups"] = {name: _by_word(labels, p, clusters, words) for name, words in columns.items()}
    return told


def patient_clusters(manifest):
    """Return the number of the patient of each image, (n,) int64.

    An image of nobody known is on its own, together with its versions under the paper's protocol and with pictures that
    are the same to the bit.
    """
    pixels = getattr(manifest.pixels, "pixel_digests", None)
    people = [patient or f"\0{path}" for patient, path in zip(manifest.patients, manifest.paths)]
    return groups(people, pixels)


def subgroup_columns(manifest):
    """Return {"source": words, "view": ..., "sex": ..., "age": bands} of the columns that tell images apart."""
    given = {"source": manifest.sources, "view": manifest.views, "sex": manifest.sexes,
             "age": None if manifest.ages is None else [age_band(age) for age in manifest.ages]}
    columns = {name: [word or "unknown" for word in words] for name, words in given.items() if words is not None}
    return {name: words for name, words in columns.items() if len(set(words)) > 1}


def age_band(text):
    """Return the band of 20 years in which an age lies, "" where it is not one.

    >>> age_band("58"), age_band("early 40s"), age_band("030Y"), age_band("7 months"), age_band("unknown")
    ('40 to 59', '40 to 59', '18 to 39', 'under 18', '')
    """
    number = re.search(r"(\d{1,4})(?:\.\d+)?\s*([A-Za-z]*)", text)
    if number is None or int(number[1]) > 120:
        return ""
    years = 0 if number[2][:1].lower() in ("m", "w", "d") else int(number[1])
    bands = {18: "under 18", 40: "18 to 39", 60: "40 to 59", 80: "60 to 79"}
    return next((band for end, band in bands.items() if years < end), "80 and over")


# ---- The figures and their intervals ---------------------------------------------------------------------------------

def _of_two(labels, p, clusters, samples):
    """Return ({metric: value}, {metric: reason}, {metric: Interval}) of a two-class prediction."""
    positive, z = labels == 1, logits(p)
    squares, losses = squared_errors(labels, p), -np.log(np.clip(np.where(positive, p, 1 - p), 1e-7, 1))
    values, reasons = calibration_line(labels, p)
    ap = intervals.average_precision(labels, p)
    if ap is None:
        reasons["average_precision"] = "all samples have the same label"

    def statistic(weights):
        ones = np.ones(len(p))
        return np.column_stack([intervals.average_precisions(positive, p, weights),
                                intervals.ratios(squares, ones, weights), intervals.ratios(losses, ones, weights),
                                calibration_lines(positive, z, weights)])

    bounds = {name: interval for name, (_, interval) in intervals.threshold_intervals(positive, p > 0.5, clusters).items()}
    bounds["auc"] = intervals.auc_interval(labels, p, clusters)[1]
    bounds |= intervals.bootstrap(statistic, clusters, ["average_precision", "brier", "loss", "slope", "intercept"],
                                  samples)
    return {"average_precision": ap, "brier": float(squares.mean()), **values}, reasons, bounds


def _of_classes(labels, p, clusters, samples):
    """Return what `_of_two` does, of a prediction of one of k classes; averages over the classes by bootstrap."""
    n, k = p.shape
    predicted, ones = p.argmax(axis=1), np.ones(n)
    squares, losses = squared_errors(labels, p), -np.log(np.clip(p[np.arange(n), labels], 1e-7, 1))
    scored = [intervals.average_precision(labels == c, p[:, c]) for c in range(k)]
    ap = None if None in scored else float(np.mean(scored))
    reasons = dict.fromkeys(("slope", "intercept"), "there are more than two classes")
    if ap is None:
        reasons["average_precision"] = "a class has no sample, or all of them"

    def statistic(weights):
        each = np.mean([_rates(labels == c, predicted == c, p[:, c], weights) for c in range(k)], axis=0)
        return np.column_stack([*each, intervals.ratios(squares, ones, weights),
                                intervals.ratios(losses, ones, weights)])

    bounds = {"accuracy": intervals.proportion_interval(predicted == labels, ones > 0, clusters)[1]}
    bounds |= intervals.bootstrap(statistic, clusters, [*_RATES, "brier", "loss"], samples)
    values = {"average_precision": ap, "brier": float(squares.mean()), "slope": None, "intercept": None}
    return values, reasons, bounds


_RATES = ("specificity", "precision", "recall", "f1", "auc", "average_precision")


def _rates(positive, predicted, scores, weights):
    """Return the figures of `_RATES` for each row of weights: list of ndarrays, shape (b,)."""
    return [intervals.ratios(~predicted & ~positive, ~positive, weights),
            intervals.ratios(predicted & positive, predicted, weights),
            intervals.ratios(predicted & positive, positive, weights),
            intervals.ratios(2.0 * (predicted & positive), 1.0 * predicted + positive, weights),
            intervals.aucs(positive, scores, weights), intervals.average_precisions(positive, scores, weights)]


def _with_intervals(bounds, told):
    """Return intervals, no_interval and approximate of {metric: Interval}, of the metrics that are defined."""
    bounds = {name: bounds[name] for name in HEADS if name in bounds and told[name] is not None}
    return {"intervals": {name: [i.low, i.high] for name, i in bounds.items() if i.low is not None},
            "no_interval": {name: i.reason for name, i in bounds.items() if i.low is None},
            "approximate": [name for name, i in bounds.items() if i.low is not None and i.is_approximate]}


def _at(labels, p, clusters, threshold):
    """Return the shares at a threshold, with their intervals."""
    whole = metrics.binary_metrics(labels, p, threshold)
    told = {"threshold": float(threshold)} | {name: whole[name] for name in SHARES}
    told["undefined"] = {name: reason for name, reason in whole["undefined"].items() if name in SHARES}
    found = intervals.threshold_intervals(labels == 1, p > threshold, clusters)
    return told | _with_intervals({name: interval for name, (_, interval) in found.items()}, told)


def _points(labels, p, clusters):
    """Return the points of the reliability curve with plain intervals, [low, high] or None."""
    return [row | {"interval": None if row["interval"].low is None else [row["interval"].low, row["interval"].high]}
            for row in reliability_curve(labels, p, clusters)]


def _by_word(labels, p, clusters, words):
    """Return {word: figures} of the images with each word, the most frequent first; the rarest together as "others"."""
    words = [printable(word)[:60] for word in words]
    common = [word for word, _ in Counter(words).most_common()]
    if len(common) > _MOST_GROUPS:
        kept = set(common[:_MOST_GROUPS - 1])
        words, common = [word if word in kept else "others" for word in words], [*common[:_MOST_GROUPS - 1], "others"]
    words = np.array(words, object)
    return {word: _of_group(labels[here], p[here], clusters[here]) for word in dict.fromkeys(common)
            if (here := words == word).any()}


def _of_group(labels, p, clusters):
    clusters = as_clusters(clusters, len(labels))
    if p.ndim == 2:
        right, reasons = p.argmax(axis=1) == labels, {}
        found = {"accuracy": intervals.proportion_interval(right, right | True, clusters)}
    else:
        positive = labels == 1
        found = intervals.threshold_intervals(positive, p > 0.5, clusters) | {"auc": intervals.auc_interval(labels, p, clusters)}
        reasons = metrics.binary_metrics(labels, p)["undefined"]
    values = {name: found[name][0] for name in GROUPED if name in found}
    told = {"n": len(labels), "patients": int(clusters.max()) + 1, **values,
            "undefined": {name: reason for name, reason in reasons.items() if name in values}}
    return told | _with_intervals({name: found[name][1] for name in values}, told)


# ---- What may come from a stranger -----------------------------------------------------------------------------------

def is_summary(content):
    """Return whether `content`, read from a file, has the form of a description; of an earlier version too, with less.

    >>> told = summarize([0, 1, 1, 0], [0.2, 0.9, 0.4, 0.1], columns={"view": ["PA", "AP", "AP", "PA"]})
    >>> is_summary(told), is_summary(told | {"accuracy": "high"})
    (True, False)
    """
    if not isinstance(content, dict) or not set(metrics.HEADS) | {"undefined"} <= set(content):
        return False
    content = dict(content)
    at, by, points = content.pop("at_threshold", None), content.pop("groups", {}), content.pop("reliability", [])
    return (_is_plain(content, HEADS) and isinstance(points, list) and all(map(_is_point, points))
            and (at is None or _is_plain(at, ("threshold", *SHARES), ("threshold", *SHARES)))
            and isinstance(by, dict) and all(_is_word(column) and _are_groups(words) for column, words in by.items()))


def _are_groups(words):
    return isinstance(words, dict) and all(_is_word(word) and _is_plain(group, ("n", *GROUPED), ("n", "patients"))
                                           for word, group in words.items())


def _is_plain(content, names, needed=()):
    """Whether content holds numbers or None under names, all the needed ones, and else only what describe puts."""
    if not isinstance(content, dict) or not {*needed, "undefined"} <= set(content):
        return False
    beside = {"undefined": _is_reasons, "no_interval": _is_reasons, "intervals": _is_intervals,
              "approximate": lambda value: isinstance(value, list) and all(_is_word(name) for name in value),
              "patients": lambda value: type(value) is int and 0 < value < 2**53}
    return all(beside[name](value) if name in beside else name in names and _is_figure(value)
               for name, value in content.items())


def _is_reasons(value):
    return isinstance(value, dict) and set(value) <= set(HEADS) and all(_is_word(reason) for reason in value.values())


def _is_intervals(value):
    return isinstance(value, dict) and set(value) <= set(HEADS) and all(map(_is_pair, value.values()))


def _is_point(content):
    """Whether content is a point of the reliability curve."""
    if not isinstance(content, dict) or set(content) != {"low", "high", "n", "predicted", "observed", "interval"}:
        return False
    *shares, pair = (content[name] for name in ("low", "high", "predicted", "observed", "interval"))
    whole = type(content["n"]) is int and 0 < content["n"] < 2**53
    return whole and _is_pair(pair if pair is not None else [0, 1]) and _is_pair(shares[:2]) and _is_pair(shares[2:])


def _is_pair(value):
    return isinstance(value, list) and len(value) == 2 and None not in value and all(map(_is_figure, value))


def _is_figure(value):
    return value is None or type(value) in (int, float) and abs(value) < 2**53


def _is_word(value):
    return isinstance(value, str) and value.isprintable()
