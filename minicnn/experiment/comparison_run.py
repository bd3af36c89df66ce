"""Comparison of two runs, on the images that both held out or on others. `minicnn compare`."""

import math
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from minicnn.core.arguments import Real, check
from minicnn.core.text import grid, number
from minicnn.core.untrusted import raising, read_table
from minicnn.data.manifest import Manifest
from minicnn.data.split import groups
from minicnn.errors import InputError, printable
from minicnn.evaluation import comparison
from minicnn.evaluation.intervals import FEW
from minicnn.evaluation.summary import HEADS, SHARES, answers, images_and_patients, patient_clusters
from minicnn.experiment.evaluation_run import load_model, preprocessing_of, read_data, unseen_images
from minicnn.layers import CapsuleLength

__all__ = ["Comparison", "compare"]


@dataclass
class Comparison:
    """How two networks, A and B, differ.

    Attributes
    ----------
    a, b : Path of a run folder or weights file
    metrics : dict (evaluation/comparison.py); `verdict` is what it comes to, in words
    where : which images they were compared on
    notes : list of sentences
    """

    a: Path
    b: Path
    metrics: dict
    where: str
    notes: list = field(default_factory=list)

    def to_dict(self):
        """Return plain JSON."""
        return self.metrics | {"notes": self.notes}

    def table(self):
        """Return the verdict, then the metrics of both, as text for a terminal."""
        told, verdict = self.metrics, self.metrics["verdict"]
        lines = [f"Verdict: {verdict['sentence']}", *verdict["remarks"], "",
                 f"A is {printable(self.a)}, B is {printable(self.b)}; on {images_and_patients(told)}, "
                 f"{self.where}."]
        if not verdict["same"]:
            rows = [["", "A", "B", "A - B", "95 % interval of A - B"],
                    *(_row(told, name) for name in comparison.DIFFERENCES)]
            few = f" Approximate: fewer than {FEW} patients." if sum(
                told[name] for name in ("patients", "images_of_unknown_patients")) < FEW else ""
            lines += ["", *grid(rows, range(1, 4)), "", "The verdict is on the accuracy at p > 0.5, by McNemar's exact "
                      f"test, by patient: p < {comparison.SIGNIFICANT} is a difference. The intervals show sizes.{few}"]
        return "\n".join([*lines, *self.notes])


def _row(told, name):
    """Return the cells of a metric of both networks."""
    scale, form, change, unit = (100, "{:.2f} %", "{:+.2f}", " points") if name in SHARES else (
        1, "{:.4f}", "{:+.4f}", "")
    of_a, of_b, difference = (None if (value := told[of][name]) is None else scale * value
                              for of in ("a", "b", "difference"))
    bounds = told["intervals"].get(name)
    return [HEADS[name] + " (lower is better)" * (name in comparison.LOWER_IS_BETTER), number(of_a, form),
            number(of_b, form), number(difference, change + unit), f"none: {told['no_interval'].get(name, 'undefined')}"
            if bounds is None else " to ".join(change.format(scale * bound) for bound in bounds)]


def compare(a, b, data=None, columns=None, classes=None, workers=None, allow_outside_root=False,
            allow_training_images=False, progress=True, root=None, bits=None, labels=None, leave_out_copies=False):
    """Compare two runs of two classes on the images of `data`, or, without, on those that both held out.

    Parameters
    ----------
    a, b : paths of run folders; of weights files too where there is `data`
    data : folder of class folders, CSV file or Manifest, optional
    columns, labels, workers, allow_outside_root, root : how to read `data`; see Config
    classes : the two labels of `data`, negative and positive, optional; by default the classes of the networks
    allow_training_images : bool; compare on images that a network was trained on too, and say so
    leave_out_copies : bool; leave out images that a network was trained on, and altered copies of them
    progress : bool; report progress on stderr
    bits : the bits that 16-bit files of `data` use (Preprocessing), optional; by default those of the training images

    Returns
    -------
    Comparison

    Raises
    ------
    InputError : a network was trained on some of the images; other classes; a run that is not finished; no image held
        out by both
    """
    a, b = Path(a), Path(b)
    models = [load_model(run) for run in (a, b)]
    _check_classes(models, classes)
    if data is None:
        return _checked(Comparison(a, b, *_held_out_by_both(a, b, models[0].classes or classes)), models)
    manifest = read_data(models[0], data, columns, classes, allow_outside_root, root, labels)
    kept, notes = np.arange(len(manifest)), []
    for run, model in zip((a, b), models):
        dataset = manifest.open(preprocessing_of(model, bits), workers=workers, progress=progress)
        try:
            own, said = unseen_images(run, model, dataset, allow_training_images, leave_out_copies)
        except InputError as error:
            raise InputError(f"{printable(run)}: {error}") from None
        kept = np.intersect1d(kept, own)
        notes += [f"{printable(run)}: {sentence}" for sentence in said]
    if not len(kept):
        raise InputError("compare: each image is one that a network was trained on, or a copy. Name others with --data.")
    manifest = manifest.subset(kept)
    outputs = [answers(model, manifest.open(preprocessing_of(model, bits), workers=workers, progress=progress))[:, 0]
               for model in models]
    where = "in the given manifest" if isinstance(data, Manifest) else f"in {printable(data)}"
    metrics = comparison.compare(manifest.labels, *outputs, patient_clusters(manifest), patients=manifest.patients)
    return _checked(Comparison(a, b, metrics, where, notes), models)


def _checked(told, models):
    """Return a Comparison whose verdict says so where both are one run, or have equal weights and answers."""
    if os.path.samefile(told.a, told.b):
        told.metrics["verdict"] = comparison.same("run")
    elif told.metrics["verdict"]["same"] and _have_equal_weights(*models):
        told.metrics["verdict"] = comparison.same("weights")
    return told


def _have_equal_weights(a, b):
    a, b = a.get_weights(), b.get_weights()
    return len(a) == len(b) and all(map(np.array_equal, a, b))


def _check_classes(models, given):
    known = [model.classes for model in models]
    if known[0] != known[1] or known[0] is None and given is None:
        raise InputError("compare: both networks must have the same classes, in the same order; they have "
                         + " and ".join(", ".join(map(printable, names or ["none"])) for names in known) + "."
                         + (" Name those of other images with --classes." if known == [None, None] else ""))
    if known[0] is not None and len(known[0]) > 2:
        raise InputError(f"compare: the networks must have two classes, they have {len(known[0])}: "
                         f"{', '.join(map(printable, known[0]))}.")
    for model in models:
        if tuple(model.output_shape) != (1,) and not isinstance(model.layers[-1], CapsuleLength):
            raise InputError("compare: the networks must have one output, a probability; the outputs of one have the "
                             f"shape {tuple(model.output_shape)}.")


# ---- What both runs held out -----------------------------------------------------------------------------------------

def _held_out_by_both(a, b, classes):
    """Return (metrics, where) of the images in the last set of both runs."""
    tables = [_held_out(folder) for folder in (a, b)]
    shared = [key for key in tables[0] if key in tables[1]]
    if not shared:
        raise InputError(f"{printable(a)} and {printable(b)}: no image is held out by both. Train both on the same "
                         "data with the same --seed, or name other images with --data.")
    rows = [[table[key] for key in shared] for table in tables]
    for x, y in zip(*rows):
        if x["label"] != y["label"] or x["label"] not in classes:
            raise InputError(f"{printable(x['path'])}: is {printable(x['label'])} in {printable(a)} and "
                             f"{printable(y['label'])} in {printable(b)}. Compare them with --data, with correct "
                             "labels.")
    labels = np.array([list(classes).index(row["label"]) for row in rows[0]])
    patients = [row["patient_id"] for row in rows[0]]
    clusters = groups([patient or f"\0{row['path']}" for patient, row in zip(patients, rows[0])])
    p = [np.array([_probability(row) for row in table]) for table in rows]
    most = max(map(len, tables))
    where = "the set that each held out" if len(shared) == most else f"those of up to {most} that both held out"
    return comparison.compare(labels, *p, clusters, patients=patients), where


def _held_out(folder):
    """Return {(path, technique): row} of the set that a run held out: test, or the paper's protocol's validation."""
    split, predictions = (_rows(folder / name) for name in ("split.csv", "predictions.csv"))
    if [(row["path"], row["split"]) for row in split] != [(row["path"], row["part"]) for row in predictions]:
        raise InputError(f"{printable(folder)}: split.csv and predictions.csv do not hold the same images in the same "
                         "order: one of them was changed. Compare with --data.")
    last = "test" if any(row["part"] == "test" for row in predictions) else "validation"
    return {(x["path"], x.get("technique", "")): {"patient_id": x.get("patient_id", ""), **y}
            for x, y in zip(split, predictions) if y["part"] == last}


def _rows(path):
    """Return the rows of a CSV file of a run, which may be of unknown origin."""
    needed = ("path", "split") if path.name == "split.csv" else ("path", "part", "label", "probability")
    with raising(InputError, path):
        try:
            return list(read_table(path, needed, "surrogateescape"))
        except FileNotFoundError:
            raise InputError(f"{printable(path.parent)}: has no {path.name}: this run is not finished, or not a run. "
                             "Finish it: minicnn train --resume RUN.") from None


def _probability(row):
    try:
        value = float(row["probability"])
    except ValueError:
        value = math.nan
    return check(f"predictions.csv: {printable(row['path'])}", "the probability", value, Real(0, 1, "[]"))
