"""The evaluation of predictions: every metric with its patient-clustered 95 % interval, overall and by subgroup.

The metrics of metrics.py, average precision, Brier score, and calibration slope and intercept; with three or more
classes those of each class too; the metrics at the threshold chosen on the validation set (operating_point.py); and the
metrics by source, view, sex and age where a manifest has these columns. An undefined metric or interval comes with its
reason, and proportions with the confusion matrix from which they can be recomputed.

Patients are those that the manifest names. In the intervals an image of an unknown patient is a cluster of its own.
"""

import re
from collections import Counter

import numpy as np

from minicnn import metrics
from minicnn.core.text import number, spelling
from minicnn.data.split import groups
from minicnn.errors import InputError, ShapeError, printable
from minicnn.evaluation import intervals
from minicnn.evaluation.calibration import (brier_score, calibration_line, calibration_lines, cross_entropies, logits,
                                            reliability_curve, squared_errors)
from minicnn.evaluation.intervals import SHARES, as_clusters, threshold_intervals
from minicnn.layers import CapsuleLength
from minicnn.losses.further import shares
from minicnn.metrics.categorical import categorical_metrics

__all__ = ["HEADS", "SHARES", "GROUPED", "OF_A_CLASS", "MORE_CLASSES", "heads", "summarize", "count_patients",
           "images_and_patients", "patient_clusters", "subgroup_columns", "answers", "same_words", "age_band", "statistic",
           "is_summary"]

# The keys of a summary in order, and their headings: those of Table II of the paper, then ours.
HEADS = metrics.HEADS | {"average_precision": "average precision", "brier": "Brier score",
                         "slope": "calibration slope", "intercept": "calibration intercept"}
GROUPED = ("accuracy", "specificity", "recall", "auc")
OF_A_CLASS = ("recall", "precision", "specificity", "f1", "auc")
_MACRO = ("specificity", "precision", "recall", "f1", "auc", "average_precision")
MORE_CLASSES = "there are more than two classes"
_MOST_GROUPS = 12


def answers(model, x, **others):
    """Return what a model predicts for x, as `summarize` takes it: (N, 1), of two classes the second's probability, or (N, k).

    Lengths of capsules are no probabilities; their shares in the sum are taken for them.
    """
    outputs = model.predict(x, **others)
    return shares(outputs).astype(outputs.dtype) if isinstance(model.layers[-1], CapsuleLength) else outputs


def heads(*summaries):
    """Return `HEADS` for summaries: with three or more classes, averages over the classes are called macro averages.

    >>> heads(summarize([0, 1], [0.2, 0.9]))["recall"], heads(summarize([0, 1, 2], np.eye(3)))["recall"]
    ('recall', 'macro recall')
    """
    is_macro = any("per_class" in one or one.get("undefined", {}).get("slope") == MORE_CLASSES  # of an earlier version
                   for one in summaries if isinstance(one, dict))
    return HEADS | ({name: f"macro {HEADS[name]}" for name in _MACRO} if is_macro else {})


def summarize(labels, probabilities, clusters=None, columns=None, threshold=None, loss=None, classes=None,
              samples=1000, patients=None):
    """Return the metrics of predictions with their patient-clustered 95 % intervals.

    Parameters
    ----------
    labels, probabilities, loss, classes : as for `metrics.binary_metrics` where probabilities are (n,) or (n, 1), for
        `categorical_metrics` where they are (n, k)
    clusters : ndarray, shape (n,), optional; the cluster of each image as a number (`patient_clusters`): images of one
        patient share it. Without, each image is a cluster of its own
    columns : {name: n words}, optional; the subgroups (`subgroup_columns`)
    threshold : float, optional; chosen on other images, with two classes
    samples : int; of the bootstrap
    patients : sequence of n str, "" where unknown, optional; who is counted. Without, each cluster counts as a patient,
        and without clusters all are unknown

    Returns
    -------
    dict: the keys of `HEADS`; undefined ({metric: reason}); patients (int, the known ones);
    images_of_unknown_patients (int); intervals ({metric: [low, high]}); no_interval ({metric: reason}); approximate
    (metrics whose intervals are estimated from fewer than 50 clusters); confusion ({"classes": names or numbers,
    "matrix": k lists of k ints}: a row for each true class, a column for each predicted, which of two classes is the
    second where p > 0.5 and of more the most probable); reliability (points of `reliability_curve`) with two classes;
    at_threshold (the metrics in `SHARES`) where there is a threshold; groups ({column: {word: dict}}) where there are
    columns; per_class ({class: dict}) with probabilities (n, k): the metrics in `OF_A_CLASS` of each class against the
    rest, of which specificity, precision, recall, f1, auc and average_precision above are the macro averages

    Raises
    ------
    ShapeError, InputError : as the functions of metrics.py; other than one cluster for each image

    >>> told = summarize([0, 0, 1, 1, 1, 0], [0.1, 0.6, 0.7, 0.9, 0.4, 0.2], threshold=0.65)
    >>> round(told["accuracy"], 3), told["at_threshold"]["specificity"], told["images_of_unknown_patients"]
    (0.667, 1.0, 6)
    >>> told["confusion"]["matrix"], "auc" in told["approximate"]
    ([[2, 1], [1, 2]], True)
    """
    p = np.asarray(probabilities)
    several = p.ndim == 2 and p.shape[1] > 1
    if classes is not None and not several and len(classes) != 2:
        raise InputError(f"classes: expected the names of two, negative and positive, got {len(classes)}.")
    if several:
        told = categorical_metrics(labels, p, loss, classes)
    else:
        told = metrics.binary_metrics(labels, p, loss=loss)
        p = p.reshape(-1)
    labels, p = np.asarray(labels).reshape(-1).astype(np.int64), p.astype(np.float64)
    who = _people(patients, clusters, len(labels))
    clusters = as_clusters(clusters, len(labels))
    names = [str(c) for c in range(p.shape[1] if several else 2)] if classes is None else list(map(printable, classes))
    undefined, found = told.pop("undefined"), _of_classes if several else _of_two
    more, reasons, bounds = found(labels, p, clusters, samples)
    if more["average_precision"] is None:
        reasons["average_precision"] = undefined["auc"]
    told |= more | {"undefined": undefined | reasons, **_counted(who)}
    told |= _with_intervals(bounds, told)
    told["confusion"] = _confusion(labels, p, names)
    if several:
        told["per_class"] = _by_class(labels, p, clusters, who, names)
    else:
        told["reliability"] = [row | {"interval": row["interval"].bounds}
                               for row in reliability_curve(labels, p, clusters)]
    if threshold is not None and not several:
        told["at_threshold"] = _at(labels, p, clusters, threshold, names)
    if columns:
        told["groups"] = {name: _by_word(labels, p, clusters, who, words, names) for name, words in columns.items()}
    return told


def count_patients(patients, clusters, n):
    """Return {"patients": the number of known ones, "images_of_unknown_patients": ...}; arguments as for `summarize`.

    >>> count_patients(["ann", "", "ann", "bob"], None, 4)
    {'patients': 2, 'images_of_unknown_patients': 1}
    """
    return _counted(_people(patients, clusters, n))


def images_and_patients(told):
    """Return the numbers of images and of patients, of a summary or another dict with these keys, as text.

    >>> images_and_patients({"n": 1200, "patients": 87, "images_of_unknown_patients": 0})
    '1,200 images of 87 patients'
    >>> images_and_patients({"n": 99, "patients": 87, "images_of_unknown_patients": 1}), images_and_patients({"n": 1})
    ('99 images, 1 of them of an unknown patient and the others of 87 patients', '1 image')
    >>> images_and_patients({"images": 12, "patients": 0, "images_of_unknown_patients": 12})
    '12 images of unknown patients'
    """
    n, known, unknown = told.get("n", told.get("images")), told.get("patients"), told.get("images_of_unknown_patients")
    images = f"{number(n)} image{'s' * (n != 1)}"
    strangers = "an unknown patient" if unknown == 1 else "unknown patients"
    if known is None:
        return images
    if unknown and not known:
        return f"{images} of {strangers}"
    patients = f"of {number(known)} patient{'s' * (known != 1)}"
    return f"{images}, {number(unknown)} of them of {strangers} and the others {patients}" if unknown \
        else f"{images} {patients}"


def _people(patients, clusters, n):
    """Return the patient of each image as an ndarray of (n,) str, "" where unknown."""
    if patients is None:
        patients = [""] * n if clusters is None else [str(cluster) for cluster in clusters]
    if len(patients) != n:
        raise ShapeError(f"patients: expected one for each of the {n} images, got {len(patients)}.")
    return np.array([patient or "" for patient in patients], object)


def _counted(who):
    return {"patients": len(set(who) - {""}), "images_of_unknown_patients": int((who == "").sum())}


def patient_clusters(manifest):
    """Return the number of the patient of each image, (n,) int64.

    An image of an unknown patient shares a cluster with its augmented versions under the paper's protocol and with
    images of exactly the same pixels, and with no other.
    """
    pixels = getattr(manifest.pixels, "pixel_digests", None)
    people = [patient or f"\0{path}" for patient, path in zip(manifest.patients, manifest.paths)]
    return groups(people, pixels)


def subgroup_columns(manifest):
    """Return {"source": words, "view": ..., "sex": ..., "age": bands} of the columns with more than one value."""
    given = {"source": manifest.sources, "view": manifest.views, "sex": manifest.sexes,
             "age": None if manifest.ages is None else [age_band(age) for age in manifest.ages]}
    columns = {name: same_words([word or "unknown" for word in words])
               for name, words in given.items() if words is not None}
    return {name: words for name, words in columns.items() if len(set(words)) > 1}


def same_words(words):
    """Return words with one spelling each, the most used, where they differ in case, spaces, hyphens and _ only.

    >>> same_words(["AP", "ap", "PA", "AP"])
    ['AP', 'AP', 'PA', 'AP']
    """
    said = {}
    for word, _ in Counter(words).most_common():
        said.setdefault(spelling(word), word)
    return [said[spelling(word)] for word in words]


def age_band(text):
    """Return the age group, in bands of 20 years; "" where the text is no age.

    >>> age_band("58"), age_band("early 40s"), age_band("030Y"), age_band("7 months"), age_band("unknown")
    ('40 to 59', '40 to 59', '18 to 39', 'under 18', '')
    """
    found = re.search(r"(\d{1,4})(?:\.\d+)?\s*([A-Za-z]*)", text)
    if found is None or int(found[1]) > 120:
        return ""
    years = 0 if found[2][:1].lower() in ("m", "w", "d") else int(found[1])
    bands = {18: "under 18", 40: "18 to 39", 60: "40 to 59", 80: "60 to 79"}
    return next((band for end, band in bands.items() if years < end), "80 and over")


# ---- Metrics and their intervals -------------------------------------------------------------------------------------

def statistic(labels, p, names, predicted=None):
    """Return the function from weights (see intervals.py) to the metrics `names`: ndarray (b, len(names)).

    Parameters
    ----------
    labels : ndarray, shape (n,); 0 or 1
    p : ndarray, shape (n,), float64
    names : sequence of keys of `HEADS`, without n
    predicted : ndarray, shape (n,), bool; p > 0.5 where None

    >>> statistic(np.array([0, 1, 1]), np.array([0.2, 0.9, 0.4]), ["accuracy", "auc"])(np.array([[1.0, 1.0, 1.0]]))
    array([[0.66666667, 1.        ]])
    """
    positive, ones = labels == 1, np.ones(len(p))
    predicted = p > 0.5 if predicted is None else predicted
    hits = 1.0 * (predicted & positive)
    squares, losses, z = squared_errors(labels, p), cross_entropies(labels, p), logits(p)
    quotients = {"accuracy": (predicted == positive, ones), "specificity": (~predicted & ~positive, ~positive),
                 "precision": (hits, predicted), "recall": (hits, positive),
                 "f1": (2 * hits, 1.0 * predicted + positive), "brier": (squares, ones), "loss": (losses, ones)}

    def values(weights):
        found = {name: intervals.ratios(*quotients[name], weights) for name in names if name in quotients}
        if "auc" in names:
            found["auc"] = intervals.aucs(positive, p, weights)
        if "average_precision" in names:
            found["average_precision"] = intervals.average_precisions(positive, p, weights)
        if "slope" in names or "intercept" in names:
            found["slope"], found["intercept"] = calibration_lines(positive, z, weights).T
        return np.column_stack([found[name] for name in names])

    return values


def _of_two(labels, p, clusters, samples):
    """Return ({metric: value}, {metric: reason}, {metric: Interval}) of a two-class prediction."""
    values, reasons = calibration_line(labels, p)
    values = {"average_precision": intervals.average_precision(labels, p), "brier": brier_score(labels, p), **values}
    bounds = {name: interval for name, (_, interval) in threshold_intervals(labels == 1, p > 0.5, clusters).items()}
    bounds["auc"] = intervals.auc_interval(labels, p, clusters)[1]
    names = ["average_precision", "brier", "loss", "slope", "intercept"]
    return values, reasons, bounds | intervals.bootstrap(statistic(labels, p, names), clusters, names, samples)


def _of_classes(labels, p, clusters, samples):
    """Return the same for a prediction of one of k classes; the metrics are averaged over the classes."""
    predicted, classes = p.argmax(axis=1), range(p.shape[1])
    values = {"average_precision": None, "brier": brier_score(labels, p), "slope": None, "intercept": None}
    reasons = dict.fromkeys(("slope", "intercept"), MORE_CLASSES)
    scored = [intervals.average_precision(labels == c, p[:, c]) for c in classes]
    if None not in scored:
        values["average_precision"] = float(np.mean(scored))
    each = [statistic(labels == c, p[:, c], _MACRO, predicted == c) for c in classes]
    squares, losses, ones = squared_errors(labels, p), cross_entropies(labels, p), np.ones(len(p))

    def values_of(weights):
        return np.column_stack([np.mean([of_class(weights) for of_class in each], axis=0),
                                intervals.ratios(squares, ones, weights), intervals.ratios(losses, ones, weights)])

    bounds = {"accuracy": intervals.proportion_interval(predicted == labels, ones > 0, clusters)[1]}
    return values, reasons, bounds | intervals.bootstrap(values_of, clusters, [*_MACRO, "brier", "loss"], samples)


def _by_class(labels, p, clusters, who, names):
    """Return {class: metrics} of each class against the rest, with the intervals of two classes."""
    predicted, told = p.argmax(axis=1), {}
    for c, name in enumerate(names):
        found = threshold_intervals(labels == c, predicted == c, clusters)
        found["auc"] = intervals.auc_interval(labels == c, p[:, c], clusters)
        reasons = {rate: reason.format(this=name, other="of another class") for rate, reason in metrics.REASONS.items()}
        reasons["auc"] = reasons["specificity" if (labels == c).any() else "recall"]
        one = {"n": int((labels == c).sum()), **_counted(who[labels == c]),
               **{metric: found[metric][0] for metric in OF_A_CLASS}}
        one["undefined"] = {metric: reasons[metric] for metric in OF_A_CLASS if one[metric] is None}
        told[name] = one | _with_intervals({metric: found[metric][1] for metric in OF_A_CLASS}, one)
    return told


def _confusion(labels, p, names, threshold=0.5):
    """Return the confusion matrix with the names of the classes."""
    predicted = p > threshold if p.ndim == 1 else p.argmax(axis=1)
    return {"classes": names, "matrix": metrics.confusion(labels, predicted, len(names)).tolist()}


def _with_intervals(bounds, values):
    """Return the fields of {metric: Interval}, of the metrics that are defined, in the order of `HEADS`."""
    return intervals.interval_fields({name: bounds[name] for name in HEADS
                                      if name in bounds and values[name] is not None})


def _at(labels, p, clusters, threshold, names):
    """Return the metrics at a threshold, with their intervals."""
    whole = metrics.binary_metrics(labels, p, threshold)
    told = {"threshold": float(threshold)} | {name: whole[name] for name in SHARES}
    told["undefined"] = {name: reason for name, reason in whole["undefined"].items() if name in SHARES}
    found = threshold_intervals(labels == 1, p > threshold, clusters)
    told |= _with_intervals({name: interval for name, (_, interval) in found.items()}, told)
    return told | {"confusion": _confusion(labels, p, names, threshold)}


def _by_word(labels, p, clusters, who, words, names):
    """Return {word: metrics} of the images with each word, the most frequent first; the rarest together as "others"."""
    words = [printable(word)[:60] for word in words]
    common = [word for word, _ in Counter(words).most_common()]
    if len(common) > _MOST_GROUPS:
        kept = set(common[:_MOST_GROUPS - 1])
        words, common = [word if word in kept else "others" for word in words], [*common[:_MOST_GROUPS - 1], "others"]
    words = np.array(words, object)
    return {word: _of_group(labels[here], p[here], clusters[here], who[here], names) for word in dict.fromkeys(common)
            if (here := words == word).any()}


def _of_group(labels, p, clusters, who, names):
    clusters = as_clusters(clusters, len(labels))
    if p.ndim == 2:
        right, reasons = p.argmax(axis=1) == labels, {}
        found = {"accuracy": intervals.proportion_interval(right, right | True, clusters)}
    else:
        positive = labels == 1
        found = threshold_intervals(positive, p > 0.5, clusters) | {"auc": intervals.auc_interval(labels, p, clusters)}
        reasons = metrics.binary_metrics(labels, p)["undefined"]
    values = {name: found[name][0] for name in GROUPED if name in found}
    told = {"n": len(labels), **_counted(who), **values,
            "undefined": {name: reason for name, reason in reasons.items() if name in values}}
    told |= _with_intervals({name: found[name][1] for name in values}, told)
    return told | {"confusion": _confusion(labels, p, names)}


# ---- Checks of a file ------------------------------------------------------------------------------------------------

def is_summary(content):
    """Return whether `content`, read from a file, has the form of a summary, perhaps of an earlier version.

    >>> told = summarize([0, 1, 1, 0], [0.2, 0.9, 0.4, 0.1], columns={"view": ["PA", "AP", "AP", "PA"]})
    >>> is_summary(told), is_summary(told | {"accuracy": "high"})
    (True, False)
    """
    if not isinstance(content, dict) or not set(metrics.HEADS) | {"undefined"} <= set(content):
        return False
    content = dict(content)
    at, by, points = content.pop("at_threshold", None), content.pop("groups", {}), content.pop("reliability", [])
    each = content.pop("per_class", {})
    return (_is_plain(content, HEADS) and isinstance(points, list) and all(map(_is_point, points))
            and (at is None or _is_plain(at, ("threshold", *SHARES), ("threshold", *SHARES)))
            and _are_groups(each, OF_A_CLASS)
            and isinstance(by, dict) and all(_is_word(column) and _are_groups(words) for column, words in by.items()))


def _are_groups(words, names=GROUPED):
    return isinstance(words, dict) and all(_is_word(word) and _is_plain(group, ("n", *names), ("n", "patients"))
                                           for word, group in words.items())


def _is_plain(content, names, needed=()):
    """Whether content holds numbers or None under names, all the needed ones, and else only fields of a summary."""
    if not isinstance(content, dict) or not {*needed, "undefined"} <= set(content):
        return False
    beside = {"undefined": _is_reasons, "no_interval": _is_reasons, "intervals": _is_intervals,
              "approximate": lambda value: isinstance(value, list) and all(_is_word(name) for name in value),
              "patients": _is_count, "images_of_unknown_patients": _is_count, "confusion": _is_confusion}
    return all(beside[name](value) if name in beside else name in names and _is_number(value)
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
    whole = _is_count(content["n"]) and content["n"] > 0
    return whole and _is_pair(pair if pair is not None else [0, 1]) and _is_pair(shares[:2]) and _is_pair(shares[2:])


def _is_confusion(value):
    """Whether value is a square matrix of counts with a name for each class."""
    if not isinstance(value, dict) or set(value) != {"classes", "matrix"} or not isinstance(value["matrix"], list):
        return False
    names, rows = value["classes"], value["matrix"]
    return (isinstance(names, list) and all(map(_is_word, names)) and len(names) == len(rows) >= 2
            and all(isinstance(row, list) and len(row) == len(names) and all(map(_is_count, row)) for row in rows))


def _is_count(value):
    return type(value) is int and 0 <= value < 2**53


def _is_pair(value):
    return isinstance(value, list) and len(value) == 2 and None not in value and all(map(_is_number, value))


def _is_number(value):
    return value is None or type(value) in (int, float) and abs(value) < 2**53


def _is_word(value):
    return isinstance(value, str) and value.isprintable()
