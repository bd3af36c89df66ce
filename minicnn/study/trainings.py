"""The trainings of a study, and how they are carried out.

    paper-S                 the paper's protocol and recipe, with seed S: training and validation
    honest-S                the honest protocol, the paper's recipe: training, validation, test
    robust-0                the honest protocol, the robust recipe
    unseen-K                the K-th source with positives held out (evaluation/source_folds.py), the paper's recipe

Each is a run folder like that of `minicnn train`. A finished training is not repeated and an interrupted one is
resumed, so a study can be stopped at any time and continued with the same command.
"""

import os
from dataclasses import dataclass, field

import numpy as np

from minicnn import checkpoint, experiment
from minicnn.core.arguments import Whole, check
from minicnn.core.processes import Alone
from minicnn.core.progress import Progress
from minicnn.core.untrusted import Problems
from minicnn.data.labels import LabelNames
from minicnn.data.manifest import Manifest
from minicnn.data.near_duplicates import clusters
from minicnn.data.split import groups
from minicnn.distributed.tasks import spread
from minicnn.errors import InputError, ManifestError, printable
from minicnn.evaluation.source_folds import leave_one_source_out
from minicnn.evaluation.summary import subgroup_columns
from minicnn.experiment.run_folder import RunFolder
from minicnn.kernels.runtime.threads import available_cores, set_thread_count, thread_count
from minicnn.study.aggregate import Answers

__all__ = ["Study", "Collection", "Training", "carry_out", "apart"]


@dataclass(frozen=True)
class Study:
    """The options of a reproduction.

    Parameters
    ----------
    data : folder of class folders or CSV
    external : CSV or folder for external validation, optional; with the same two classes
    seeds : int; trainings of each protocol, with the seeds 0, 1, ...
    epochs, steps_per_epoch, batch_size, learning_rate, classes, columns, workers, allow_outside_root : as of Config
    root : path, optional; the folder that the paths in `data` are relative to (those in `external`: to its own)
    labels : as of Config, for `data` and `external`
    network, size, weights, freeze, head : as of Config: another network than the paper's, in all trainings
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
    root: str | None = None
    labels: dict | None = None
    network: str = "cov19net"
    size: int | None = None
    weights: str | None = None
    freeze: int | str | None = None
    head: list | None = None

    def __post_init__(self):
        check("reproduce", "seeds", self.seeds, Whole(1, 100))

    @property
    def other_network(self):
        """The network, its size, weights and frozen layers, where it is not the paper's; else an empty string."""
        weights = None if self.weights is None else os.path.basename(os.path.normpath(self.weights))
        config = experiment.Config(network=self.network, size=self.size, weights=weights, freeze=self.freeze, head=self.head)
        return config.network_sentence.strip(" .").removeprefix("Network ")

    def configs(self, folds, labels=None):
        """Return {name: Config} of the trainings, in order; `labels` are the names of labels that `data` has."""
        common = {name: value for name, value in vars(self).items() if name not in ("external", "seeds")}
        common["labels"] = labels or None
        configs = {f"{protocol}-{seed}": experiment.Config(protocol=protocol, augmentation="paper", seed=seed, **common)
                   for protocol in ("paper", "honest") for seed in range(self.seeds)}
        configs["robust-0"] = experiment.Config(recipe="robust", **common)
        for number, fold in enumerate(folds):
            if not fold.reason:
                configs[f"unseen-{number}"] = experiment.Config(hold_out=fold.source, augmentation="paper", **common)
        return configs


@dataclass
class Collection:
    """The images of a study.

    Attributes
    ----------
    manifest, external : Manifest; external is None where there is none
    patients : {path: number of the patient}; copies of an image under other names are of one patient
    folds : list of SourceFold, for sources with positives; empty where sources are unknown
    remarks : list of sentences
    labels : dict; what of the study's names of labels occurs in `manifest`
    """

    manifest: Manifest
    external: Manifest | None
    patients: dict
    folds: list
    remarks: list = field(default_factory=list)
    labels: dict = field(default_factory=dict)

    @classmethod
    def read(cls, study, progress=False):
        """Read the images of a Study and check that it can be carried out.

        Raises
        ------
        ManifestError, ImageError : data that cannot be read
        InputError : not two classes; an external set with no image of its own
        """
        Progress(0, "", enabled=progress).say(f"reading {printable(os.path.basename(os.path.normpath(study.data)))}")
        how = {"columns": study.columns, "allow_outside_root": study.allow_outside_root}
        names = LabelNames(study.labels)        # each of them occurs in one of the two
        manifest = Manifest.read(study.data, classes=study.classes, root=study.root, labels=names, **how)
        used = names.used()
        if len(manifest.classes) != 2:
            raise InputError(f"reproduce: expected two classes, as in the paper, got {len(manifest.classes)}: "
                             f"{', '.join(map(printable, manifest.classes))}.")
        manifest, remarks, external = manifest.prepared(None, study.workers, progress), [], None
        if study.external is not None:
            external = Manifest.read(study.external, classes=manifest.classes, labels=names, **how)
            external = external.prepared(None, study.workers, progress)
            external, said = apart(manifest, external, study.external, progress)
            remarks += said
        problems = Problems("reproduce")
        names.report_unused(problems)
        problems.raise_any()
        patients = {}
        for images in (manifest, external):
            if images is not None:
                numbers = groups(images.patients, clusters(images.pixels, progress=progress)) + len(patients)
                patients |= dict(zip(images.paths, numbers.tolist()))
        folds = []
        try:
            numbers = np.array([patients[path] for path in manifest.paths])
            folds = [fold for fold in leave_one_source_out(manifest, numbers) if "recall" in fold.shows]
        except ManifestError as error:
            remarks.append(f"No source was held out. {error}")
        return cls(manifest, external, patients, folds, remarks, used)


@dataclass
class Training:
    """A finished training of a study.

    Attributes
    ----------
    result : experiment.Result
    answers : {set: Answers}
    metrics : {set: summary}; with "external" where there is an external set
    model : Sequential; the selected network
    external : dataset of the external set, or None
    history : list of dict, one for each epoch
    """

    result: experiment.Result
    answers: dict
    metrics: dict
    model: object
    external: object
    history: list


def carry_out(configs, collection, folder, bar, progress=True, group=Alone()):
    """Train, resume, or load each training of {name: Config}; return {name: Training}. The bar counts them.

    Several processes first divide the trainings that are left, in this order, the longest first: those of the paper's protocol
    evaluate 1,722 augmented copies after each epoch where others have 40 to 125 images (of 820); per step all cost the same.
    """
    if group.size > 1:
        _spread(configs, folder, bar, group)
    trainings = {}
    for number, (name, config) in enumerate(configs.items(), 1):
        done = ", finished: evaluated again" if RunFolder(folder / name).is_finished else ""
        bar.begin(f"training {number} of {len(configs)}: {_described(config)} ({name}){done}")
        result = experiment.train_or_resume(config, folder / name, progress, plots=False)
        external = None
        if collection.external is not None:
            external = experiment.evaluate(folder / name, collection.external, progress=False)
        trainings[name] = _training(folder / name, result, external, collection.patients)
        bar.advance()
    return trainings


def _spread(configs, folder, bar, group):
    """Let the processes of a group carry out the trainings that are not finished."""
    left = {name: (config, folder / name, False, False) for name, config in configs.items()
            if not RunFolder(folder / name).is_finished or experiment.Config.read(RunFolder(folder / name)).differences(config)}
    bar.say(f"{len(left)} trainings over {group.size} processes")
    spread(group, experiment.train_or_resume, left, lambda done, name, rank: bar.begin(
        f"{done} of {len(left)} done: {_described(configs[name])} ({name}), by rank {rank}"))
    set_thread_count(max(thread_count(), min(available_cores(), thread_count() * group.neighbours)))    # the others only wait


def _described(config):
    if config.hold_out is not None:
        return f"source {printable(config.hold_out)} held out"
    return "the robust recipe" if config.recipe == "robust" else f"{config.protocol} protocol, seed {config.seed}"


def _training(folder, result, external, patients):
    datasets, outputs, metrics = dict(result.datasets), dict(result.outputs), dict(result.metrics)
    if external is not None:
        for held, found in ((datasets, external.datasets), (outputs, external.outputs), (metrics, external.metrics)):
            held["external"] = found["evaluation"]
    answers = {name: Answers(dataset.labels, outputs[name][:, 0].astype(np.float64),
                             np.array([patients[path] for path in dataset.manifest.paths]),
                             subgroup_columns(dataset.manifest),
                             metrics[name].get("at_threshold", {}).get("threshold"), metrics[name]["loss"],
                             dataset.manifest.patients)
               for name, dataset in datasets.items()}
    return Training(result, answers, {name: metrics[name] for name in datasets}, experiment.load_model(folder),
                    datasets.get("external"), checkpoint.read(RunFolder(folder).last).history)


def apart(manifest, external, name, progress):
    """Return the external images without copies, altered or mirrored, of images in the collection; and remarks."""
    n, remarks = len(manifest), []
    number = groups([""] * (n + len(external)), clusters(_Joined(manifest.pixels, external.pixels),
                                                          progress=progress))
    seen = np.flatnonzero(np.isin(number[n:], number[:n]))
    if len(seen) == len(external):
        raise InputError(f"{printable(os.path.basename(name))}: all its images are in the collection too, so none is "
                         "external. Give images from another hospital.")
    if seen.size:
        names = ", ".join(printable(external.names[i]) for i in seen[:5])
        remarks.append(f"{len(seen):,} of {len(external):,} external images are in the collection too and were "
                       f"excluded ({names}{', ...' if len(seen) > 5 else ''}).")
        external = external.subset(np.setdiff1d(np.arange(len(external)), seen))
    shared = (set(manifest.patients) & set(external.patients)) - {""}
    if shared:
        remarks.append(f"{len(shared):,} patient identifiers of the external set occur in the collection too, such as "
                       f"{printable(min(shared))}: if these are the same patients, the set is not external.")
    return external, remarks


class _Joined:
    """The images of two collections, one after the other, as `near_duplicates.clusters` reads them."""

    def __init__(self, first, second):
        self._first, self._second = first, second
        self.pixel_digests = np.concatenate([first.pixel_digests, second.pixel_digests])

    def __len__(self):
        return len(self.pixel_digests)

    def read(self, numbers):
        """Return the images with these numbers, uint8."""
        numbers, n = np.asarray(numbers), len(self._first)
        out = np.empty((len(numbers), *self._first.preprocessing.stored_shape), np.uint8)
        early = numbers < n
        out[early], out[~early] = self._first.read(numbers[early]), self._second.read(numbers[~early] - n)
        return out
