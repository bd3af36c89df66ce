"""The shortcut check of a trained network: is it the lungs that it looks at?

The same images are shown six times: as they are, without their border, without their middle (where the lungs are),
re-encoded, inverted and blurred. A network that answers from the lungs keeps its answers without the border and has
none without the middle; one that answers from a tag in the corner does the opposite (Maguolo and Nanni, 2020; DeGrave,
Janizek and Lee, 2021).
"""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from minicnn import metrics
from minicnn.core.random import check_seed
from minicnn.data.loader import ArrayDataset, open_dataset
from minicnn.data.split import groups
from minicnn.errors import InputError, printable
from minicnn.evaluation.explanation.border import border_mask
from minicnn.evaluation.intervals import Interval, auc_interval, aucs, bootstrap

__all__ = ["CONDITIONS", "PAPER_ACCURACY", "Condition", "ShortcutCheck", "check_shortcuts", "disturb"]

# What is done to the pictures, and how it reads in a sentence.
CONDITIONS = {
    "untouched": "as they are",
    "border black": "the outer eighth of each side is black",
    "middle black": "all but the outer eighth of each side is black, and with it the lungs",
    "re-encoded": "written as JPEG of quality 50, at the network's size, and read again",
    "inverted": "black is white",
    "blurred": "blurred by a Gaussian of 1/64 of the shorter side",
}
PAPER_ACCURACY = 0.9945         # Table II, validation: untouched images, and versions of them were trained on
_KNOWS, _LOSES = 0.60, 0.10     # an AUC, as in the audit of data; a fall of the AUC
_SHOWN = ("accuracy", "recall", "specificity", "auc")
_BATCH = 32


@dataclass(frozen=True)
class Condition:
    """What was measured on pictures of one kind.

    Attributes
    ----------
    name : a key of CONDITIONS
    metrics : dict, see metrics.py
    interval : Interval (intervals.py), 95 %, of the AUC
    change, change_interval : float and Interval, how the AUC differs from that of the untouched pictures; None for
        those, and where no AUC is defined
    """

    name: str
    metrics: dict
    interval: Interval
    change: float | None
    change_interval: Interval | None


@dataclass(frozen=True)
class ShortcutCheck:
    """The shortcut check of a network on some images.

    Attributes
    ----------
    conditions : list of Condition, in the order of CONDITIONS
    findings : list of sentences, on what points at a shortcut
    patients : int; images without a patient count as one each
    """

    conditions: list
    findings: list
    patients: int

    def __getitem__(self, name):
        return next(condition for condition in self.conditions if condition.name == name)

    @property
    def sentences(self):
        """The findings; where there is none, one sentence on what that means."""
        return self.findings or [_no_findings(self.conditions[0])]

    def to_dict(self):
        """Return the check as plain JSON."""
        rows = [{"condition": one.name, "what": CONDITIONS[one.name], **{key: one.metrics[key] for key in _SHOWN},
                 "interval": _bounds(one.interval), "change": one.change, "change_interval": _bounds(one.change_interval)}
                for one in self.conditions]
        return {"rows": rows, "findings": self.findings, "sentences": self.sentences, "patients": self.patients}

    def table(self):
        """Return the check as text for a terminal."""
        rows = [("images", "accuracy", "recall", "specificity", "AUC", "95 % interval", "change of AUC")]
        for one in self.conditions:
            rows.append((one.name, *(_percent(one.metrics[key]) for key in _SHOWN[:3]), _number(one.metrics["auc"]),
                         _span(one.interval, "{:.2f}"), _change(one)))
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]
        lines += [f"undefined: {one.name} {metrics.HEADS[key]}, because {printable(reason)}."
                  for one in self.conditions for key, reason in one.metrics["undefined"].items() if key in _SHOWN]
        lines.append(f"The paper prints an accuracy of {PAPER_ACCURACY:.2%}".replace("%", " %")
                     + " (Table II, validation), on untouched images of which other versions were trained on.")
        few = " (few: the intervals are approximate)" if self.conditions[0].interval.is_approximate else ""
        lines.append(f"{self.conditions[0].metrics['n']:,} images of {self.patients:,} patients{few}.")
        return "\n".join(lines + [""] + self.sentences)


def check_shortcuts(model, x, t=None, patients=None, seed=0):
    """Return the ShortcutCheck of a network on labelled images.

    Parameters
    ----------
    model : Sequential, over images of 1 or 3 channels, that classifies
    x : Manifest (which brings labels and patients), a source with labels, or an array, (N, H, W, C), uint8 or in [0, 1]
    t : array of N classes, where x is an array
    patients : N names, "" where unknown; the images of one patient are drawn together. Optional
    seed : int, of the bootstrap

    Raises
    ------
    InputError
        images without labels, or with other classes than the network's; pixels outside [0, 1]

    Notes
    -----
    A finding is: an AUC without the middle whose interval lies above 0.60; or, where the network tells the classes
    apart at all, a fall of the AUC without the border or after re-encoding whose interval lies beyond 0.10. Pictures
    with black parts are unlike all that the network was trained on, so a fall alone is no proof; nor does no finding
    prove that there is no shortcut: one may lie between the lungs.
    """
    patients = getattr(x, "patients", None) if patients is None else patients
    x = x if t is None else ArrayDataset(x, t, model.classes, shape=model.input_shape, owner="stress")
    source = open_dataset(x, model.preprocessing, model.classes, "stress")
    _check(model, source)
    clusters = _clusters(patients, len(source))
    outputs = {name: [] for name in CONDITIONS}
    for start in range(0, len(source), _BATCH):
        batch = source.batch(np.arange(start, min(start + _BATCH, len(source))))
        for name in CONDITIONS:
            outputs[name].append(model.predict(disturb(batch, name)))
    outputs = {name: np.concatenate(parts) for name, parts in outputs.items()}
    conditions = _measured(source.labels, outputs, clusters, model.classes, check_seed(seed))
    return ShortcutCheck(conditions, _findings({one.name: one for one in conditions}), len(np.unique(clusters)))


def examples(picture):
    """Return {condition: the picture under it} for a picture (H, W, 1 or 3), uint8 or floats in [0, 1]."""
    picture = np.asarray(picture)
    picture = picture / np.float32(255) if picture.dtype == np.uint8 else picture
    return {name: disturb(picture[np.newaxis], name)[0] for name in CONDITIONS}


def disturb(x, name):
    """Return pictures as they are under one of CONDITIONS.

    Parameters
    ----------
    x : ndarray, shape (N, H, W, C), C = 1 or 3, floats in [0, 1]

    >>> disturb(np.ones((1, 8, 8, 1)), "border black").sum(), disturb(np.ones((1, 8, 8, 1)), "middle black").sum()
    (np.float64(36.0), np.float64(28.0))
    """
    if name not in CONDITIONS:
        raise InputError(f"stress: expected one of {', '.join(CONDITIONS)}, got {printable(name)!r}.")
    x = np.asarray(x)
    if x.ndim != 4 or x.shape[3] not in (1, 3) or not 0 <= x.min() <= x.max() <= 1:
        raise InputError("stress: expected images (N, H, W, 1 or 3) with pixels between 0 (black) and 1 (white), got "
                         f"{x.shape}" + (f" from {x.min():g} to {x.max():g}." if x.size else "."))
    if name == "untouched":
        return x
    if name == "inverted":
        return 1 - x
    if name == "re-encoded":
        return np.stack([_as_jpeg(picture) for picture in x]).astype(x.dtype)
    if name == "blurred":
        return _blurred(x)
    border = border_mask(*x.shape[1:3])[..., np.newaxis]
    return np.where(border if name == "border black" else ~border, x.dtype.type(0), x)


# ---- What is done to a picture ---------------------------------------------------------------------------------------

def _as_jpeg(picture, quality=50):
    """Return a picture (H, W, C) after a JPEG; one whose channels are equal is written in grey."""
    pixels = np.rint(picture * 255).astype(np.uint8)
    grey = (pixels == pixels[..., :1]).all()
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if grey else pixels).save(file, "JPEG", quality=quality)
    pixels = np.asarray(Image.open(file)) / 255
    return np.broadcast_to(pixels[..., np.newaxis], picture.shape) if grey else pixels


def _blurred(x):
    """Return pictures convolved with a Gaussian, cut off at three standard deviations; the edges go on unchanged."""
    deviation = min(x.shape[1:3]) / 64
    reach = int(np.ceil(3 * deviation))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation)**2)
    weights /= weights.sum()
    for axis in (1, 2):
        padded = np.pad(x, [(reach, reach) if i == axis else (0, 0) for i in range(4)], mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, len(weights), axis)
        x = (windows @ weights).astype(x.dtype)
    return np.clip(x, 0, 1)


# ---- What is measured ------------------------------------------------------------------------------------------------

def _check(model, source):
    if source.labels is None:
        raise InputError("stress: expected images with labels: a manifest, or an array with t.")
    if len(model.output_shape) != 1:
        raise InputError(f"stress: this network does not classify: its outputs have the shape {model.output_shape}.")
    if None not in (model.classes, source.classes) and tuple(source.classes) != tuple(model.classes):
        raise InputError(f"stress: the images' classes are {', '.join(map(printable, source.classes))}, the network's "
                         f"{', '.join(map(printable, model.classes))}.")


def _clusters(patients, n):
    """Return a number for each image, the same for those of one patient: ndarray, shape (n,), int64."""
    if patients is None:
        return np.arange(n)
    if len(patients) != n:
        raise InputError(f"stress: expected {n} patients, one for each image, got {len(patients)}.")
    return groups(list(patients))


def _measured(labels, outputs, clusters, classes, seed):
    """Return a Condition for each of {name: (n, k) outputs}, the untouched one first."""
    changes = _changes(labels, outputs, clusters, seed)
    conditions = []
    for name, p in outputs.items():
        if p.shape[1] == 1:
            values, interval = metrics.binary_metrics(labels, p), auc_interval(labels, p, clusters)[1]
        else:
            values = metrics.categorical_metrics(labels, p, classes=classes)
            interval = bootstrap(lambda weights: _aucs(labels, p, weights)[:, np.newaxis], clusters, ["auc"],
                                 seed=seed)["auc"]
        before = conditions[0].metrics["auc"] if conditions else None
        change = None if before is None else values["auc"] - before
        conditions.append(Condition(name, values, interval, change, changes.get(name)))
    return conditions


def _changes(labels, outputs, clusters, seed):
    """Return {name: Interval of the change of AUC}, each sample of patients drawn once for all conditions."""
    first, *others = outputs
    changes = bootstrap(lambda weights: np.stack([_aucs(labels, outputs[name], weights)
                                                  - _aucs(labels, outputs[first], weights) for name in others], axis=1),
                        clusters, others, seed=seed)
    return dict(changes)


def _aucs(labels, p, weights):
    """Return the AUC in each bootstrap sample, of class 1 or the mean over classes against the rest."""
    if p.shape[1] == 1:
        return aucs(labels == 1, p[:, 0].astype(np.float64), weights)
    return np.mean([aucs(labels == k, p[:, k].astype(np.float64), weights) for k in range(p.shape[1])], axis=0)


# ---- What is said ----------------------------------------------------------------------------------------------------

def _findings(by_name):
    """Return the sentences on what points at a shortcut."""
    said, middle, whole = [], by_name["middle black"], by_name["untouched"]
    if middle.interval.low is not None and middle.interval.low > _KNOWS:
        said.append("SHORTCUT: with the middle of the pictures black, lungs and all, the network still tells the "
                    f"classes apart (AUC {middle.metrics['auc']:.2f}, {_span(middle.interval, '{:.2f}')}): what is on "
                    "the border gives them away.")
    for name, what, where in (("border black", "their border black and the lungs in sight", "on the border"),
                              ("re-encoded", "the pictures written as JPEG once more", "in how files are encoded")):
        one = by_name[name]
        if _tells_apart(whole) and one.change_interval.low is not None and one.change_interval.high < -_LOSES:
            said.append(f"SUSPECT: with {what}, the AUC falls by {-one.change:.2f} "
                        f"({_span(one.change_interval, '{:+.2f}')}): part of what the network answers from is {where}.")
    return said


def _tells_apart(untouched):
    return untouched.interval.low is not None and untouched.interval.low > 0.5


def _no_findings(untouched):
    if untouched.interval.low is None:
        return f"No verdict: the AUC has no interval, for {untouched.interval.reason}."
    if not _tells_apart(untouched):
        return (f"No verdict: on these images the network does not tell the classes apart in the first place (AUC "
                f"{untouched.metrics['auc']:.2f}, {_span(untouched.interval, '{:.2f}')}).")
    return ("Nothing here points at the border or the encoding. That is no proof that there is no shortcut: one may "
            "lie between the lungs.")


def _percent(value):
    return "undefined" if value is None else f"{100 * value:.1f} %"


def _number(value):
    return "undefined" if value is None else f"{value:.3f}"


def _bounds(interval):
    return None if interval is None or interval.low is None else [interval.low, interval.high]


def _span(interval, form):
    return "-" if interval.low is None else f"{form.format(interval.low)} to {form.format(interval.high)}"


def _change(one):
    return "" if one.change is None else f"{one.change:+.2f} ({_span(one.change_interval, '{:+.2f}')})"
