"""The sets of a run: training, validation and test, by patient, as published, or with one source held out."""

import numpy as np

from minicnn.core.progress import Progress
from minicnn.core.text import grid
from minicnn.core.untrusted import write_csv
from minicnn.data.augmentation import Augmentation
from minicnn.data.manifest import Manifest, split_rows
from minicnn.data.preprocessing import Preprocessing
from minicnn.data.split import split_groups
from minicnn.data.synthetic import phantom
from minicnn.errors import InputError, ManifestError, printable
from minicnn.evaluation.source_folds import leave_one_source_out

__all__ = ["split", "open_split", "split_table", "read_images"]


def split(config, progress=False):
    """Return {"training": Manifest, "validation": ..., "test": ...} of a Config, augmentation attached.

    The split depends on the images and the seed, not on the recipe. The paper's protocol has no test set. Of a cross-validation
    it is that of a fold.

    Raises
    ------
    ManifestError, InputError : data that cannot be read or split, and a held-out source that is not there
    """
    if config.is_cross_validation:
        raise InputError(f"a cross-validation has {config.folds} splits. Name one of them, fold=1 to fold={config.folds}; or train all "
                         "its networks: experiment.cross_validate (minicnn train --folds).")
    how = {"seed": config.seed, "preprocessing": Preprocessing(bits=config.bits), "workers": config.workers,
           "progress": progress}
    manifest = read_images(config, progress)
    if config.protocol == "paper":
        sets = dict(zip(("training", "validation"), manifest.paper_split(**how)))
    else:
        parts = _without_fold(manifest, config, **how) if config.fold is not None else \
            manifest.split(0.70, 0.15, 0.15, **how) if config.hold_out is None else _without_source(manifest, config.hold_out, **how)
        sets = dict(zip(("training", "validation", "test"), parts))
    lacking = [name for name, count in sets["training"].counts().items() if not count]
    if lacking:         # the other sets may lack a class: their metrics then say that they are undefined
        raise ManifestError(f"the training set has no image of {' and of '.join(map(printable, lacking))}. Add some, "
                            "or name the classes that there are with --classes.")
    if config.protocol != "paper":
        sets["training"] = sets["training"].augment(getattr(Augmentation, config.drawn)())
    return sets


def read_images(config, progress=False):
    """Return the Manifest of a Config's images, decoded once, whatever splits it; errors as of `split`."""
    if config.data is None:
        made = phantom.generate(seed=config.seed)
        manifest = Manifest.from_arrays(made.images, made.labels, made.classes, made.patients, made.names)
    else:
        manifest = Manifest.read(config.data, classes=config.classes, columns=config.columns,
                                 allow_outside_root=config.allow_outside_root, root=config.root,
                                 labels=config.labels)
        if config.root is not None:
            Progress(0, "data", enabled=progress).say(f"{len(manifest):,} images are read from {printable(manifest.root)}.")
    return manifest.prepared(Preprocessing(bits=config.bits), config.workers, progress, config.skip_unreadable)


def _without_source(manifest, source, seed, preprocessing, workers, progress):
    """Return (training, validation, test) with a source held out (evaluation/source_folds.py)."""
    whole = manifest.prepared(preprocessing, workers, progress)
    group = whole.patient_groups(preprocessing, progress=progress)
    folds = {fold.source: fold for fold in leave_one_source_out(whole, group, seed)}
    if source not in folds:
        raise InputError(f"hold_out: there is no source {printable(source)[:60]!r}. The sources are "
                         f"{', '.join(sorted(printable(name)[:60] for name in list(folds)[:20]))}"
                         f"{', ...' if len(folds) > 20 else ''}.")
    return folds[source].parts(whole, seed=seed)


def _without_fold(manifest, config, seed, preprocessing, workers, progress):
    """Return (training, validation, test): a fold of the patients, and the others 85 to 15. A split column is ignored."""
    whole = manifest.prepared(preprocessing, workers, progress)
    group, labels, classes = whole.patient_groups(preprocessing, progress=progress), whole.labels, whole.classes
    fold = split_groups(group, labels, [1 / config.folds] * config.folds, seed, classes)
    rest = np.flatnonzero(fold != config.fold - 1)
    part = split_groups(np.unique(group[rest], return_inverse=True)[1], labels[rest], (0.85, 0.15), seed, classes)
    return whole.subset(rest[part == 0]), whole.subset(rest[part == 1]), whole.subset(fold == config.fold - 1)


def open_split(config, progress):
    """Return ({set: ImageDataset}, the rows of split.csv)."""
    sets = split(config, progress)
    return {name: manifest.open(config.preprocessing, workers=config.workers, progress=progress)
            for name, manifest in sets.items()}, split_rows(sets)


def split_table(config, out=None, progress=True):
    """Return how data falls into sets, as text; with `out`, write it as a manifest with a `split` column."""
    sets = split(config, progress)
    if out is not None:
        write_csv(out, split_rows(sets))
    names = sets["training"].classes
    rows = [("set", *map(printable, names), "images", "patients")]
    for name, manifest in sets.items():
        counts = np.bincount(manifest.labels, minlength=len(names))
        rows.append((name, *map(str, [*counts, len(manifest), len(set(manifest.patients) - {""})])))
    return "\n".join([*grid(rows, numbers=range(1, len(rows[0]))), "", config.protocol_sentence])
