"""Which trainings a study consists of, and carrying them out.

    paper-S                 the paper's protocol and recipe, with seed S: training and validation
    honest-S                the honest protocol, the paper's recipe: training, validation, test
    robust-0                the honest protocol, the robust recipe
    unseen-K                the K-th source with positives held out (evaluation/leave_one_source_out.py), the paper's recipe

Each is a run folder like that of `minicnn train`. What is there already is not trained again, and what was interrupted
goes on, so a study can be stopped at any time and started again with the same command.
"""

import os
import sys
from dataclasses import dataclass, field

import numpy as np

from minicnn import checkpoint
from minicnn.data.manifest import Manifest
from minicnn.data.near_duplicates import clusters
from minicnn.data.split import groups
from minicnn.errors import InputError, ManifestError, printable
from minicnn.evaluation.source_folds import leave_one_source_out
from minicnn.evaluation.summary import subgroup_columns
from minicnn.experiment import training_run
from minicnn.experiment.config import Plan
from minicnn.experiment.run_folder import RunFolder
from minicnn.study.aggregate import Answers

__all__ = ["Study", "Collection", "Training", "carry_out", "say"]


@dataclass(frozen=True)
class Study:
    """What is to be reproduced.

    Parameters
    ----------
    data : folder of class folders or CSV
    external : CSV or folder of another place, optional; the same two classes
    seeds : int; trainings of each protocol, with the seeds 0, 1, ...
    epochs, steps_per_epoch, batch_size, learning_rate, classes, columns, workers, allow_outside_root : as of Plan
    """

    data: str
    external: str | None = None
    seeds: int = 3
    epochs: int = 20
    steps_per_epoch: int = 100
    batch_size: int = 32
    learning_rate: float = 1e-3
    classes: list | None = None
    columns: dict | None = None
    workers: int | None = None
    allow_outside_root: bool = False

    def __post_init__(self):
        if type(self.seeds) is not int or not 1 <= self.seeds <= 100:
            raise InputError(f"seeds: expected a whole number from 1 to 100, got {printable(repr(self.seeds))}.")

    def plans(self, folds):
        """Return {name: Plan}, in the order in which they are carried out."""
        common = {name: getattr(self, name) for name in ("data", "epochs", "steps_per_epoch", "batch_size",
                                                         "learning_rate", "classes", "columns", "workers",
                                                         "allow_outside_root")}
        plans = {f"{protocol}-{seed}": Plan(protocol=protocol, augmentation="paper", seed=seed, **common)
                 for protocol in ("paper", "honest") for seed in range(self.seeds)}
        plans["robust-0"] = Plan(recipe="robust", **common)
        for number, fold in enumerate(folds):
            if not fold.reason:
                plans[f"unseen-{number}"] = Plan(hold_out=fold.source, augmentation="paper", **common)
        return plans


@dataclass
class Collection:
    """The images of a study.

    Attributes
    ----------
    manifest, external : Manifest; external is None where there is none
    patients : {path: number of whom the image shows}; the same picture under two names is of one
    folds : list of SourceFold, for sources with positives; empty where sources are not known
    remarks : list of sentences
    """

    manifest: Manifest
    external: Manifest | None
    patients: dict
    folds: list
    remarks: list = field(default_factory=list)

    @classmethod
    def read(cls, study, progress=False):
        """Read what a Study names, and look whether it can be carried out.

        Raises
        ------
        ManifestError, ImageError : what cannot be read
        InputError : other than two classes; an external set of which nothing is left
        """
        how = {"columns": study.columns, "allow_outside_root": study.allow_outside_root}
        manifest = Manifest.read(study.data, classes=study.classes, **how)
        if len(manifest.classes) != 2:
            raise InputError(f"reproduce: the paper's task has two classes, got {len(manifest.classes)}: "
                             f"{', '.join(map(printable, manifest.classes))}.")
        manifest, remarks, external = manifest.prepared(None, study.workers, progress), [], None
        if study.external is not None:
            external = Manifest.read(study.external, classes=manifest.classes, **how)
            external, said = _apart(manifest, external.prepared(None, study.workers, progress), study.external)
            remarks += said
        patients = {}
        for part in (manifest, external):
            if part is not None:
                numbers = groups(part.patients, clusters(part.pixels)) + len(patients)
                patients |= dict(zip(part.paths, numbers.tolist()))
        folds = []
        try:
            own = np.array([patients[path] for path in manifest.paths])
            folds = [fold for fold in leave_one_source_out(manifest, own) if "recall" in fold.shows]
        except ManifestError as error:
            remarks.append(f"No source was held out. {error}")
        return cls(manifest, external, patients, folds, remarks)


@dataclass
class Training:
    """One finished run of a study.

    Attributes
    ----------
    result : experiment.Result
    answers : {part: Answers}
    metrics : {part: description}; "external" among them where there is such a set
    model : Sequential; the network that is judged
    external : source of the external set, or None
    history : list of dict, one for each epoch
    """

    result: training_run.Result
    answers: dict
    metrics: dict
    model: object
    external: object
    history: list


def carry_out(study, collection, folder, progress=True):
    """Train, or go on, or take what is there; return {name: Training}."""
    plans, trainings = study.plans(collection.folds), {}
    for number, (name, plan) in enumerate(plans.items(), 1):
        say(f"training {number} of {len(plans)}: {name}", progress)
        result = training_run.complete(plan, folder / name, progress, pictures=False)
        external = None
        if collection.external is not None:
            external = training_run.evaluate(folder / name, collection.external, progress=False)
        trainings[name] = _training(folder / name, result, external, collection.patients)
    return trainings


def say(line, enabled=True):
    """Print a line where there is no bar."""
    try:
        if enabled:
            print(line, file=sys.stderr, flush=True)
    except OSError:
        pass            # nobody reads on; the work goes on


def _training(folder, result, external, patients):
    measured = [(part, source, result.outputs[part], result.metrics[part]) for part, source in result.sources.items()]
    if external is not None:
        measured.append(("external", *(held["evaluation"] for held in (external.sources, external.outputs,
                                                                       external.metrics))))
    answers = {part: Answers(source.labels, outputs[:, 0].astype(np.float64),
                             np.array([patients[path] for path in source.manifest.paths]),
                             subgroup_columns(source.manifest), told.get("at_threshold", {}).get("threshold"), told["loss"])
               for part, source, outputs, told in measured}
    return Training(result, answers, {part: told for part, _, _, told in measured}, training_run.load_model(folder),
                    None if external is None else external.sources["evaluation"],
                    checkpoint.read(RunFolder(folder).last).history)


def _apart(manifest, external, name):
    """Return the external images that are not in the collection, altered or mirrored neither, and what to say of it."""
    n, remarks = len(manifest), []
    number = groups([""] * (n + len(external)), clusters(_Both(manifest.pixels, external.pixels)))
    seen = np.flatnonzero(np.isin(number[n:], number[:n]))
    if len(seen) == len(external):
        raise InputError(f"{printable(os.path.basename(name))}: all its pictures are in the collection too, so nothing "
                         "of it is external. Name images of another place.")
    if seen.size:
        names = ", ".join(printable(external.names[i]) for i in seen[:5])
        remarks.append(f"{len(seen):,} of {len(external):,} pictures of the external set are in the collection too, and "
                       f"were left out ({names}{', ...' if len(seen) > 5 else ''}).")
        external = external.subset(np.setdiff1d(np.arange(len(external)), seen))
    shared = (set(manifest.patients) & set(external.patients)) - {""}
    if shared:
        remarks.append(f"{len(shared):,} patient names of the external set occur in the collection too, such as "
                       f"{printable(min(shared))}: if these are the same people, it is not external.")
    return external, remarks


class _Both:
    """The pictures of two collections, one after the other, as `duplicates.find_pairs` reads them."""

    def __init__(self, first, second):
        self._first, self._second = first, second
        self.pixel_digests = np.concatenate([first.pixel_digests, second.pixel_digests])

    def __len__(self):
        return len(self.pixel_digests)

    def read(self, numbers):
        """Return the pictures with these numbers, uint8."""
        numbers, n = np.asarray(numbers), len(self._first)
        out = np.empty((len(numbers), *self._first.preprocessing.stored_shape), np.uint8)
        early = numbers < n
        out[early], out[~early] = self._first.read(numbers[early]), self._second.read(numbers[~early] - n)
        return out
