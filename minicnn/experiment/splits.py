"""The parts of a run: who is trained on, who validates, who tests; by patient, as published, or a source unseen."""

import numpy as np

from minicnn.core.files import write_whole
from minicnn.data.augmentation import Augmentation
from minicnn.data.manifest import Manifest, csv_text
from minicnn.data.preprocessing import Preprocessing
from minicnn.data.synthetic import phantom
from minicnn.errors import InputError, ManifestError, printable
from minicnn.evaluation.leave_one_source_out import leave_one_source_out, patient_groups
from minicnn.experiment.config import Plan
from minicnn.experiment.recipes import RECIPES
from minicnn.reporting.console import grid

__all__ = ["parts_of", "open_parts", "split_csv", "split_table"]


def parts_of(plan, progress=False):
    """Return {"training": Manifest, "validation": ..., "test": ...} of a plan, augmentation attached.

    Who is in which part depends on the pictures and the seed, not on the recipe. There is no test part under the
    paper's protocol.

    Raises
    ------
    ManifestError, InputError : what cannot be read or divided, and a held-out source that is not there
    """
    if plan.data is None:
        made = phantom.generate(seed=plan.seed)
        manifest = Manifest.from_arrays(made.images, made.labels, made.classes, made.patients, made.names)
    else:
        manifest = Manifest.read(plan.data, classes=plan.classes, columns=plan.columns,
                                 allow_outside_root=plan.allow_outside_root)
    how = {"workers": plan.workers, "progress": progress}
    if plan.protocol == "paper":
        training, validation = manifest.paper_split(seed=plan.seed, **how)
        _check_classes(training)
        return {"training": training, "validation": validation}
    if plan.hold_out is None:
        training, validation, test = manifest.split(0.70, 0.15, 0.15, seed=plan.seed, **how)
    else:
        training, validation, test = _without_source(manifest, plan.hold_out, plan.seed, **how)
    _check_classes(training)
    augmentation = getattr(Augmentation, plan.augmentation or RECIPES[plan.recipe].augmentation or "honest")()
    return {"training": training.augment(augmentation), "validation": validation, "test": test}


def _check_classes(training):
    """Raise a ManifestError where the training part lacks a class; the other parts may, and their figures say so."""
    lacking = [name for name, count in training.counts().items() if not count]
    if lacking:
        raise ManifestError(f"the training part has no image of {' and of '.join(map(printable, lacking))}: there is "
                            "nothing to learn to tell apart. Add some, or name the classes that there are with "
                            "--classes.")


def _without_source(manifest, source, seed, workers, progress):
    """Return (training, validation, test) with a source held out (evaluation/leave_one_source_out.py)."""
    whole = manifest.prepared(Preprocessing(), workers, progress)
    folds = {fold.source: fold for fold in leave_one_source_out(whole, patient_groups(whole), seed)}
    if source not in folds:
        raise InputError(f"hold_out: there is no source {printable(source)[:60]!r}. The sources are "
                         f"{', '.join(sorted(printable(name)[:60] for name in list(folds)[:20]))}"
                         f"{', ...' if len(folds) > 20 else ''}.")
    return folds[source].parts(whole, seed=seed)


def open_parts(plan, progress):
    """Return ({part: ImageDataset}, the text of split.csv)."""
    parts = parts_of(plan, progress)
    preprocessing = RECIPES[plan.recipe].preprocessing
    sources = {name: part.open(preprocessing, workers=plan.workers, progress=progress) for name, part in parts.items()}
    return sources, split_csv(parts)


def split_csv(parts):
    """Return the rows of all parts as CSV text: path, label, patient_id, split (and technique under the paper's)."""
    return csv_text([row | {"split": name} for name, part in parts.items() for row in part.rows()])


def split_table(data, protocol="honest", seed=0, classes=None, columns=None, allow_outside_root=False, workers=None,
                out=None, progress=True, hold_out=None):
    """Return how a source falls into parts, as text; write it as a manifest with a `split` column if asked."""
    plan = Plan(data=data, protocol=protocol, seed=seed, classes=classes, columns=columns, workers=workers,
                allow_outside_root=allow_outside_root, hold_out=hold_out)
    parts = parts_of(plan, progress)
    if out is not None:
        write_whole(out, split_csv(parts).encode("utf-8", "surrogateescape"))
    names = parts["training"].classes
    rows = [("part", *map(printable, names), "images", "patients")]
    for name, part in parts.items():
        counts = np.bincount(part.labels, minlength=len(names))
        rows.append((name, *map(str, counts), str(len(part)), str(len({p for p in part.patients if p}))))
    return "\n".join([*grid(rows, numbers=range(1, len(rows[0]))), "", plan.protocol_sentence])
