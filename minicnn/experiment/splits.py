"""The sets of a run: training, validation and test, by patient, as published, or with one source held out."""

import numpy as np

from minicnn.core.progress import Progress
from minicnn.core.text import grid
from minicnn.core.untrusted import write_csv
from minicnn.data.augmentation import Augmentation
from minicnn.data.manifest import Manifest, split_rows
from minicnn.data.preprocessing import Preprocessing
from minicnn.data.synthetic import phantom
from minicnn.errors import InputError, ManifestError, printable
from minicnn.evaluation.source_folds import leave_one_source_out

__all__ = ["split", "open_split", "split_table"]


def split(config, progress=False):
    """Return {"training": Manifest, "validation": ..., "test": ...} of a Config, augmentation attached.

    The split depends on the images and the seed, not on the recipe. The paper's protocol has no test set.

    Raises
    ------
    ManifestError, InputError : data that cannot be read or split, and a held-out source that is not there
    """
    if config.data is None:
        made = phantom.generate(seed=config.seed)
        manifest = Manifest.from_arrays(made.images, made.labels, made.classes, made.patients, made.names)
    else:
        manifest = Manifest.read(config.data, classes=config.classes, columns=config.columns,
                                 allow_outside_root=config.allow_outside_root, root=config.root,
                                 labels=config.labels)
        if config.root is not None:
            Progress(0, "data", enabled=progress).say(f"{len(manifest):,} images are read from {printable(manifest.root)}.")
    how = {"seed": config.seed, "preprocessing": Preprocessing(bits=config.bits), "workers": config.workers,
           "progress": progress}
    manifest = manifest.prepared(how["preprocessing"], config.workers, progress,       # once, whatever splits it
                                 config.skip_unreadable)
    if config.protocol == "paper":
        sets = dict(zip(("training", "validation"), manifest.paper_split(**how)))
    else:
        sets = dict(zip(("training", "validation", "test"),
                        manifest.split(0.70, 0.15, 0.15, **how) if config.hold_out is None
                        else _without_source(manifest, config.hold_out, **how)))
    lacking = [name for name, count in sets["training"].counts().items() if not count]
    if lacking:         # the other sets may lack a class: their metrics then say that they are undefined
        raise ManifestError(f"the training set has no image of {' and of '.join(map(printable, lacking))}. Add some, "
                            "or name the classes that there are with --classes.")
    if config.protocol != "paper":
        sets["training"] = sets["training"].augment(getattr(Augmentation, config.drawn)())
    return sets


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
