"""The shortcut check of a trained network: do its predictions depend on the lungs?

The network is evaluated on the same images under six conditions: unchanged, without their border, without their middle
(which holds the lungs), re-encoded, inverted and blurred. A network that uses the lungs keeps its AUC without the
border and loses it without the middle; one that uses a tag in a corner does the opposite (Maguolo and Nanni, 2020;
DeGrave, Janizek and Lee, 2021).
"""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from minicnn import metrics
from minicnn.core.arguments import OneOf, check
from minicnn.core.random import check_seed
from minicnn.core.text import grid, number, percent, span
from minicnn.data.loader import ArrayDataset, open_dataset
from minicnn.data.split import groups
from minicnn.errors import InputError, printable
from minicnn.evaluation.explanation.border import border_mask
from minicnn.evaluation.intervals import Interval, as_clusters, auc_interval, aucs, bootstrap
from minicnn.evaluation.summary import answers, count_patients, images_and_patients
from minicnn.metrics.categorical import categorical_metrics

__all__ = ["CONDITIONS", "PAPER_ACCURACY", "Condition", "ShortcutCheck", "check_shortcuts", "examples", "disturb"]

# What is done to the images, and how it reads in a sentence.
CONDITIONS = {
    "untouched": "unchanged",
    "border black": "the outer eighth of each side is black",
    "middle black": "all but the outer eighth of each side is black, lungs included",
    "re-encoded": "written as JPEG of quality 50 at the network's input size, and read again",
    "inverted": "black and white exchanged",
    "blurred": "blurred by a Gaussian of 1/64 of the shorter side",
}
PAPER_ACCURACY = 0.9945         # Table II, validation: unchanged images; the training set held other versions of them
_KNOWS, _LOSES = 0.60, 0.10     # an AUC, as in the audit of data; a drop of the AUC
_SHOWN = ("accuracy", "recall", "specificity", "auc")
_BATCH = 32


@dataclass(frozen=True)
class Condition:
    """The metrics of a network under one condition.

    Attributes
    ----------
    name : a key of CONDITIONS
    metrics : dict, see metrics.py
    interval : Interval (intervals.py), 95 %, of the AUC
    change, change_interval : float and Interval, the difference from the AUC on untouched images; None for those, and
        where no AUC is defined
    """

    name: str
    metrics: dict
    interval: Interval
    change: float | None
    change_interval: Interval | None


@dataclass(frozen=True)
class ShortcutCheck:
    """The result of `check_shortcuts`.

    Attributes
    ----------
    conditions : list of Condition, in the order of CONDITIONS
    findings : list of sentences, the evidence for a shortcut
    patients, images_of_unknown_patients : int
    is_macro : bool; recall, specificity and AUC are averages over more than two classes
    """

    conditions: list
    findings: list
    patients: int
    images_of_unknown_patients: int = 0
    is_macro: bool = False

    def __getitem__(self, name):
        return next(condition for condition in self.conditions if condition.name == name)

    @property
    def sentences(self):
        """The findings; without any, one sentence on what that means."""
        return self.findings or [_no_findings(self.conditions[0])]

    def to_dict(self):
        """Return the check as plain JSON."""
        rows = [{"condition": one.name, "what": CONDITIONS[one.name], **{key: one.metrics[key] for key in _SHOWN},
                 "interval": one.interval.bounds, "change": one.change,
                 "change_interval": one.change_interval and one.change_interval.bounds} for one in self.conditions]
        return {"rows": rows, "findings": self.findings, "sentences": self.sentences, "patients": self.patients,
                "images_of_unknown_patients": self.images_of_unknown_patients, "is_macro": self.is_macro}

    def table(self):
        """Return the check as text for a terminal."""
        macro = "macro " * self.is_macro
        rows = [("images", "accuracy", f"{macro}recall", f"{macro}specificity", f"{macro}AUC", "95 % interval",
                 f"change of {macro}AUC")]
        for one in self.conditions:
            change = "" if one.change is None else f"{one.change:+.2f} ({span(one.change_interval, '{:+.2f}')})"
            rows.append((one.name, *(percent(one.metrics[key]) for key in _SHOWN[:3]),
                         number(one.metrics["auc"], "{:.3f}"), span(one.interval), change))
        lines = grid(rows, numbers=range(1, len(rows[0])))
        lines += [f"undefined: {one.name} {metrics.HEADS[key]}, because {printable(reason)}."
                  for one in self.conditions for key, reason in one.metrics["undefined"].items() if key in _SHOWN]
        lines.append(f"The paper reports an accuracy of {percent(PAPER_ACCURACY, 2)} (Table II, validation) on "
                     "untouched images, with augmented versions of the same images in the training set.")
        few = " (few: the intervals are approximate)" if self.conditions[0].interval.is_approximate else ""
        lines.append(f"{images_and_patients(vars(self) | self.conditions[0].metrics)}{few}.")
        return "\n".join(lines + [""] + self.sentences)


def check_shortcuts(model, x, t=None, patients=None, seed=0, clusters=None):
    """Return the ShortcutCheck of a network on labelled images.

    Parameters
    ----------
    model : Sequential, over images of 1 or 3 channels, that classifies
    x : Manifest (with labels and patients), a dataset with labels, or an array, (N, H, W, C), uint8 or in [0, 1]
    t : array of N classes, where x is an array
    patients : N names, "" where unknown, optional; the bootstrap draws the images of one patient together
    seed : int, of the bootstrap
    clusters : ndarray, shape (N,), optional; other numbers of what is drawn together (`summary.patient_clusters`)

    Raises
    ------
    InputError
        images without labels, or of other classes than the network's; pixels outside [0, 1]

    Notes
    -----
    A finding is: an AUC without the middle whose interval lies above 0.60; or, where the AUC on untouched images is
    above chance, a drop of the AUC without the border or after re-encoding whose interval lies beyond 0.10. Images with
    black parts are out-of-distribution, so a drop alone is no proof; nor is the absence of findings a proof that there
    is no shortcut: one may lie between the lungs.
    """
    patients = getattr(x, "patients", None) if patients is None else patients
    x = x if t is None else ArrayDataset(x, t, model.classes, shape=model.input_shape, owner="check_shortcuts")
    data = open_dataset(x, model.preprocessing, model.classes, "check_shortcuts")
    _check(model, data)
    patients = [""] * len(data) if patients is None else list(patients)
    if len(patients) != len(data):
        raise InputError(f"check_shortcuts: expected {len(data)} patients, one for each image, got {len(patients)}.")
    clusters = groups(patients) if clusters is None else as_clusters(clusters, len(data))
    outputs = {name: [] for name in CONDITIONS}
    for start in range(0, len(data), _BATCH):
        batch = data.batch(np.arange(start, min(start + _BATCH, len(data))))
        for name in CONDITIONS:
            outputs[name].append(answers(model, disturb(batch, name)))
    outputs = {name: np.concatenate(parts) for name, parts in outputs.items()}
    conditions = _measured(data.labels, outputs, clusters, model.classes, check_seed(seed))
    return ShortcutCheck(conditions, _findings({one.name: one for one in conditions}),
                         **count_patients(patients, None, len(data)), is_macro=next(iter(outputs.values())).shape[1] > 1)


def examples(image):
    """Return {condition: the image under it} for an image (H, W, 1 or 3), uint8 or floats in [0, 1]."""
    image = np.asarray(image)
    image = image / np.float32(255) if image.dtype == np.uint8 else image
    return {name: disturb(image[np.newaxis], name)[0] for name in CONDITIONS}


def disturb(x, name):
    """Return images under one of CONDITIONS.

    Parameters
    ----------
    x : ndarray, shape (N, H, W, C), C = 1 or 3, floats in [0, 1]

    Raises
    ------
    InputError : another condition, shape or range of pixels

    >>> disturb(np.ones((1, 8, 8, 1)), "border black").sum(), disturb(np.ones((1, 8, 8, 1)), "middle black").sum()
    (np.float64(36.0), np.float64(28.0))
    """
    check("disturb", "name", name, OneOf(CONDITIONS))
    x = np.asarray(x)
    if x.ndim != 4 or x.shape[3] not in (1, 3) or not 0 <= x.min() <= x.max() <= 1:
        raise InputError("disturb: expected images (N, H, W, 1 or 3) with pixels between 0 (black) and 1 (white), got "
                         f"{x.shape}" + (f" from {x.min():g} to {x.max():g}." if x.size else "."))
    if name == "untouched":
        return x
    if name == "inverted":
        return 1 - x
    if name == "re-encoded":
        return np.stack([_as_jpeg(image) for image in x]).astype(x.dtype)
    if name == "blurred":
        return _blurred(x)
    border = border_mask(*x.shape[1:3])[..., np.newaxis]
    return np.where(border if name == "border black" else ~border, x.dtype.type(0), x)


# ---- The conditions --------------------------------------------------------------------------------------------------

def _as_jpeg(image, quality=50):
    """Return an image (H, W, C) after a JPEG; one whose channels are equal is written in grey."""
    pixels = np.rint(image * 255).astype(np.uint8)
    grey = (pixels == pixels[..., :1]).all()
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if grey else pixels).save(file, "JPEG", quality=quality)
    pixels = np.asarray(Image.open(file)) / 255
    return np.broadcast_to(pixels[..., np.newaxis], image.shape) if grey else pixels


def _blurred(x):
    """Return images convolved with a Gaussian, truncated at three standard deviations; edges are replicated."""
    deviation = min(x.shape[1:3]) / 64
    reach = int(np.ceil(3 * deviation))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation)**2)
    weights /= weights.sum()
    for axis in (1, 2):
        padded = np.pad(x, [(reach, reach) if i == axis else (0, 0) for i in range(4)], mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, len(weights), axis)
        x = (windows @ weights).astype(x.dtype)
    return np.clip(x, 0, 1)


# ---- The measurements ------------------------------------------------------------------------------------------------

def _check(model, data):
    if data.labels is None:
        raise InputError("check_shortcuts: expected images with labels: a manifest, or an array with t.")
    if len(model.output_shape) != 1:
        raise InputError("check_shortcuts: this network does not classify: its outputs have the shape "
                         f"{model.output_shape}.")
    if None not in (model.classes, data.classes) and tuple(data.classes) != tuple(model.classes):
        raise InputError(f"check_shortcuts: the images' classes are {', '.join(map(printable, data.classes))}, the "
                         f"network's {', '.join(map(printable, model.classes))}.")


def _measured(labels, outputs, clusters, classes, seed):
    """Return a Condition for each of {name: (n, k) outputs}, the untouched one first."""
    first, *others = outputs

    def changes(weights):       # each sample of patients is drawn once for all conditions
        before = _aucs(labels, outputs[first], weights)
        return np.stack([_aucs(labels, outputs[name], weights) - before for name in others], axis=1)

    intervals_of = bootstrap(changes, clusters, others, seed=seed)
    conditions = []
    for name, p in outputs.items():
        if p.shape[1] == 1:
            values, interval = metrics.binary_metrics(labels, p), auc_interval(labels, p, clusters)[1]
        else:
            values = categorical_metrics(labels, p, classes=classes)
            interval = bootstrap(lambda weights: _aucs(labels, p, weights)[:, np.newaxis], clusters, ["auc"],
                                 seed=seed)["auc"]
        before = conditions[0].metrics["auc"] if conditions else None
        change = None if before is None else values["auc"] - before
        conditions.append(Condition(name, values, interval, change, intervals_of.get(name)))
    return conditions


def _aucs(labels, p, weights):
    """Return the AUC in each bootstrap sample, of class 1 or the mean over classes against the rest."""
    if p.shape[1] == 1:
        return aucs(labels == 1, p[:, 0].astype(np.float64), weights)
    return np.mean([aucs(labels == k, p[:, k].astype(np.float64), weights) for k in range(p.shape[1])], axis=0)


# ---- The findings ----------------------------------------------------------------------------------------------------

def _findings(by_name):
    """Return the evidence for a shortcut, as sentences."""
    said, middle, whole = [], by_name["middle black"], by_name["untouched"]
    if middle.interval.low is not None and middle.interval.low > _KNOWS:
        said.append("SHORTCUT: with the middle of the images black, lungs included, the network still separates the "
                    f"classes (AUC {middle.metrics['auc']:.2f}, {span(middle.interval)}): it uses the border.")
    for name, what, where in (("border black", "the border black and the lungs visible", "the border"),
                              ("re-encoded", "the images re-encoded as JPEG", "the encoding of the files")):
        one = by_name[name]
        if _is_above_chance(whole) and one.change_interval.low is not None and one.change_interval.high < -_LOSES:
            said.append(f"POSSIBLE SHORTCUT: with {what}, the AUC drops by {-one.change:.2f} "
                        f"({span(one.change_interval, '{:+.2f}')}): the network partly uses {where}.")
    return said


def _is_above_chance(untouched):
    return untouched.interval.low is not None and untouched.interval.low > 0.5


def _no_findings(untouched):
    if untouched.metrics["auc"] is None:
        return f"No verdict: the AUC is undefined, because {printable(untouched.metrics['undefined']['auc'])}."
    if untouched.interval.low is None:
        return f"No verdict: the AUC has no interval, because {untouched.interval.reason}."
    if not _is_above_chance(untouched):
        return (f"No verdict: on the untouched images the AUC is not above chance ({untouched.metrics['auc']:.2f}, "
                f"{span(untouched.interval)}).")
    return ("No evidence that the network uses the border or the encoding. This does not prove that there is no "
            "shortcut: one may lie between the lungs.")
