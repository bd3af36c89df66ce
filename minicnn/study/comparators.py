"""The systems of the paper's Table III, and others, trained on the same patients: `minicnn comparators`.

    read            the images of each task, written as a manifest into the folder: two classes, and all where there are more
    plan            {name: Training}: a task, a system, one of its recipes (systems.py) and a repeat: a seed, or a fold
    carry_out       trains what is left; each training is a run folder, which also keeps what the network answers and what that costs
    gather          the results as plain values (results.json): metrics, paired differences (paired.py), cost, external validation

A finished training is not repeated and an interrupted one is resumed, so the same command goes on at any time.
"""

import math
import os
import shlex
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from minicnn import experiment
from minicnn.core.arguments import OneOf, OrNone, Whole, check
from minicnn.core.processes import Alone
from minicnn.core.progress import Progress
from minicnn.core.untrusted import Problems, write_csv
from minicnn.data.labels import LabelNames
from minicnn.data.manifest import Manifest, labels_in
from minicnn.distributed.tasks import dismiss, spread
from minicnn.errors import InputError, printable
from minicnn.evaluation.summary import answers, count_patients
from minicnn.evaluation.test_access import data_digest
from minicnn.experiment.evaluation_run import unseen_images
from minicnn.experiment.run_folder import RunFolder, environment
from minicnn.experiment.transfer import weights_file
from minicnn.study import comparators_page, paper
from minicnn.study.paired import METRICS, Predictions, difference, measured
from minicnn.study.reproduction import phantoms
from minicnn.study.systems import SYSTEMS, TABLE_III
from minicnn.study.trainings import apart

__all__ = ["Comparators", "Training", "compare_systems"]

_REFERENCE = ("cov19net", "common")         # what all others are compared with
_ANSWERS, _COST, _EXTERNAL = "answers.json", "cost.json", "external.json"
_TIMED = 32                                 # images of a batch whose prediction is timed


@dataclass(frozen=True)
class Comparators:
    """The options of a comparison.

    Parameters
    ----------
    data : folder of class folders or CSV, of two classes or more; None: synthetic radiographs
    third : the same, with images of a third class, optional: a second task tells all classes apart
    external : the same, with the first two classes, for external validation, optional
    seeds : int; repeats, each with another split by patient and other initial weights
    folds : int, optional; repeats are the folds of a cross-validation by patient, in the place of seeds
    only, once : lists of names of SYSTEMS, optional; the systems that are compared, all where None, and those of which one training of
        two classes must do
    size : int; height and width of the images; systems that need larger ones have their least size
    epochs, steps_per_epoch : int, optional; at most so many, and so many in the place of a pass over the training images
    classes, columns, labels, root, allow_outside_root, workers : as of Config
    """

    data: str | None = None
    third: str | None = None
    external: str | None = None
    seeds: int = 3
    folds: int | None = None
    only: list | None = None
    once: list | None = None
    size: int = 64
    epochs: int | None = None
    steps_per_epoch: int | None = None
    classes: list | None = None
    columns: dict | None = None
    labels: dict | None = None
    root: str | None = None
    allow_outside_root: bool = False
    workers: int | None = None

    def __post_init__(self):
        limits = {"seeds": Whole(1, 100), "folds": OrNone(Whole(2, 100)), "size": Whole(18, 4096), "epochs": OrNone(Whole()),
                  "steps_per_epoch": OrNone(Whole())}
        for name, limit in limits.items():
            check("comparators", name, getattr(self, name), limit)
        for name in ("only", "once"):
            for system in getattr(self, name) or ():
                check("comparators", name, system, OneOf(SYSTEMS))

    @property
    def systems(self):
        """The names of the systems, in their order; one that begins with another's weights brings that along."""
        wanted = set(self.only or SYSTEMS)
        return [name for name in SYSTEMS if name in wanted | {SYSTEMS[one].after for one in wanted}]

    @property
    def repeats(self):
        """{name of a repeat: options of a Config}."""
        if self.folds is None:
            return {f"seed-{seed}": {"seed": seed} for seed in range(self.seeds)}
        return {f"fold-{fold}": {"folds": self.folds, "fold": fold} for fold in range(1, self.folds + 1)}


@dataclass(frozen=True)
class Training:
    """One training: its Config, its run folder, and the name of the training with whose weights it begins, or ""."""

    task: str
    system: str
    recipe: str
    repeat: int
    config: experiment.Config
    folder: Path
    after: str = ""


def compare_systems(options, folder, progress=True, group=Alone()):
    """Carry a comparison out in `folder`, or go on with it there.

    Parameters
    ----------
    options : Comparators
    group : the trainings are spread over its processes; this is rank 0, the others call distributed.tasks.work

    Returns
    -------
    (dict, as results.json holds it; [path of comparators.html, of comparators.md])

    Raises
    ------
    ManifestError, InputError, ImageError : data that cannot be read; a folder with a comparison of other images
    RunLockedError, Interrupted : as for `train`; the same comparison goes on when it is started again
    """
    folder = Path(os.path.abspath(folder))
    with RunFolder(folder) as run:
        made = options if options.data else replace(options, data=str(phantoms(folder / "phantoms", progress)))
        tasks, external, remarks = read(made, folder, progress)
        trainings = plan(options, tasks, folder)
        for one in trainings.values():
            if one.config.weights == "imagenet":
                weights_file(one.config)            # says now if they are not there
        carry_out(trainings, progress, group)
        dismiss(group)
        outside = None if external is None else _answers_outside(external, tasks, trainings, options.workers, progress)
        results = gather(options, tasks, trainings, external, outside) | {"remarks": remarks}
        run.write_json("results.json", results)
        return results, comparators_page.write(results, folder)


# ---- Images ----------------------------------------------------------------------------------------------------------

def read(options, folder, progress):
    """Return ({"two": Manifest, "all": Manifest} of the tasks, the external Manifest or None, remarks on that).

    "all" is there where there are more than two classes. Manifests of the tasks are written into the folder, where the runs read
    them; a folder that has others is refused.
    """
    say = Progress(0, "", enabled=progress).say
    say(f"reading {printable(os.path.basename(os.path.normpath(options.data)))}")
    how = {"columns": options.columns, "allow_outside_root": options.allow_outside_root}
    names = LabelNames(options.labels)
    whole = Manifest.read(options.data, classes=None if options.third else options.classes, root=options.root, labels=names, **how)
    if len(whole.classes) > 2 and options.classes is None:
        raise InputError(f"comparators: of {len(whole.classes)} classes, {', '.join(map(printable, whole.classes))}, say which are the "
                         "first two: --classes NEGATIVE,POSITIVE,OTHER[,...].")
    parts = [whole]
    if options.third is not None:
        found = sorted(labels_in(options.third, labels=names, **how) - set(whole.classes))
        classes = tuple(options.classes or (*whole.classes, *found))
        parts = [_with_classes(whole, classes), Manifest.read(options.third, classes=classes, labels=names, **how)]
    external = None if options.external is None else Manifest.read(options.external, classes=parts[0].classes, labels=names, **how)
    problems = Problems("comparators")
    names.report_unused(problems)
    problems.raise_any()
    rows, root = _joined(parts)
    first = parts[0].classes[:2]
    if external is not None and set(external.labels) - {0, 1}:
        raise InputError(f"{printable(os.path.basename(options.external))}: the external set has images of other classes than "
                         f"{' and '.join(map(printable, first))}. Leave them out.")
    tables = {"two": [row for row in rows if row["label"] in first]} | ({"all": rows} if len(parts[0].classes) > 2 else {})
    made = {}
    for name, table in tables.items():
        path, new = folder / f"{name}-classes.csv", folder / f"{name}-classes.new"
        write_csv(new, table, private=True)
        if path.exists() and path.read_bytes() != new.read_bytes():
            new.unlink()
            raise InputError(f"{printable(folder)}: holds a comparison on other images. Choose another folder with --out.")
        new.replace(path)
        classes = list(first if name == "two" else parts[0].classes)
        made[name] = Manifest.read(path, classes=classes, root=root, allow_outside_root=options.allow_outside_root).prepared(
            None, options.workers, progress)
    return made, *((None, []) if external is None else apart(
        made.get("all", made["two"]), external.prepared(None, options.workers, progress), options.external, progress))


def _with_classes(manifest, classes):
    """Return a manifest with more classes, in their order."""
    if missing := set(manifest.classes) - set(classes):
        raise InputError(f"comparators: --classes lacks {', '.join(map(printable, sorted(missing)))}.")
    codes = np.array([classes.index(name) for name in manifest.classes])
    return replace(manifest, labels=codes[manifest.labels], classes=classes)


def _joined(manifests):
    """Return (rows of a CSV, the folder that their paths are relative to) of several manifests."""
    root = os.path.commonpath([os.path.abspath(one.root) for one in manifests])
    rows = [row | {"path": os.path.relpath(path, root)} for one in manifests for path, row in zip(one.paths, one.rows())]
    columns = {name: "" for row in rows for name in row if name != "split"}
    return [columns | {name: value for name, value in row.items() if name != "split"} for row in rows], root


# ---- Trainings -------------------------------------------------------------------------------------------------------

def plan(options, tasks, folder):
    """Return {name: Training}, those that others begin with first."""
    trainings = {}
    for task, images in tasks.items():
        for name in options.systems:
            system = SYSTEMS[name]
            for recipe, chosen in system.recipes.items():
                for number, (repeat, of_repeat) in enumerate(options.repeats.items()):
                    if name in (options.once or ()) and (number or task != "two"):
                        break
                    key, after = f"{task}-{name}-{recipe}-{repeat}", system.after and f"{task}-{system.after}-common-{repeat}"
                    trainings[key] = Training(task, name, recipe, number, _config(
                        options, images, folder / f"{task}-classes.csv", system, chosen,
                        of_repeat | ({"weights": str(folder / "runs" / after)} if after else {})), folder / "runs" / key, after)
    return dict(sorted(trainings.items(), key=lambda item: bool(item[1].after)))


def _config(options, images, data, system, chosen, others):
    """Return the Config of a training of a system by a recipe, with other options."""
    share = 0.7 if options.folds is None else (1 - 1 / options.folds) * 0.85
    epochs = chosen["epochs"] if options.epochs is None else min(options.epochs, chosen["epochs"])
    steps = options.steps_per_epoch or chosen.get("steps_per_epoch") or math.ceil(share * len(images) / chosen["batch_size"])
    return experiment.Config(data=str(data), root=images.root, classes=list(images.classes), workers=options.workers,
                             allow_outside_root=options.allow_outside_root, network=system.network, size=max(options.size, system.least),
                             **chosen | system.options | others | {"epochs": epochs, "steps_per_epoch": steps})


def carry_out(trainings, progress=True, group=Alone()):
    """Carry out the trainings that are left, spread over the processes of a group, and note what they answer and cost."""
    left = {name: one for name, one in trainings.items() if not _is_done(one)}
    with Progress(len(trainings), "trainings", "part", progress, done=len(trainings) - len(left)) as bar:
        def tell(_, name, rank):
            bar.advance()
            bar.say(f"{bar.done} of {len(trainings)} trainings done: {name}" + f", by rank {rank}" * (group.size > 1))

        for late in (False, True):          # those that begin with the weights of others come after them
            spread(group, train_one, {name: (one.config, one.folder, progress and group.size == 1) for name, one in left.items()
                                      if bool(one.after) == late}, tell)


def _is_done(training):
    run = RunFolder(training.folder)
    return (training.folder / _ANSWERS).exists() and not experiment.Config.read(run).differences(training.config)


def train_one(config, folder, progress):
    """Train in a run folder, or go on there; keep what the network answers for the test set, and what it costs."""
    start, run = time.perf_counter(), RunFolder(folder)
    before = run.read_json(_COST)["train"] if (Path(folder) / _COST).exists() else 0
    try:
        result = experiment.train_or_resume(config, folder, progress, plots=False)
    finally:            # of an interrupted training, this part too
        if Path(folder).exists():
            run.write_json(_COST, {"train": before + time.perf_counter() - start})
    data, model = result.datasets["test"], experiment.load_model(folder)
    run.write_json(_COST, {"train": before + time.perf_counter() - start, "one": _seconds(model, data, 1),
                           "many": _seconds(model, data, min(_TIMED, len(data)))})
    flops = [row["flops"] for row in model.summary_rows()]
    run.write_json(_ANSWERS, {
        "names": data.names, "labels": data.labels.tolist(), "outputs": result.outputs["test"].astype(float).tolist(),
        "parameters": model.count_params(), "flops": None if None in flops else sum(flops)})


def _seconds(model, data, n):
    """Return the seconds that predicting n images takes, divided by n: the median of seven."""
    x, found = data.batch(np.arange(n)), []
    for _ in range(11):
        start = time.perf_counter()
        model.predict(x)
        found.append(time.perf_counter() - start)
    return float(np.median(found[4:])) / n


# ---- External validation ---------------------------------------------------------------------------------------------

def _answers_outside(manifest, tasks, trainings, workers, progress):
    """Return {name: outputs} of all networks for the external set, which each of them sees once."""
    found = {}
    with Progress(len(trainings), "external validation", "network", progress) as bar:
        for name, one in trainings.items():
            run, data = RunFolder(one.folder), replace(manifest, classes=tasks[one.task].classes).open(one.config.preprocessing, workers)
            kept, digest = run.read_json(_EXTERNAL) if (one.folder / _EXTERNAL).exists() else {}, data_digest(data)
            if kept.get("digest") != digest:
                model = experiment.load_model(one.folder)
                unseen_images(one.folder, model, data)
                kept = {"digest": digest, "outputs": answers(model, data).astype(float).tolist()}
                run.write_json(_EXTERNAL, kept)
            found[name] = np.array(kept["outputs"])
            bar.advance()
    return found


# ---- Results ---------------------------------------------------------------------------------------------------------

def gather(options, tasks, trainings, external, outside):
    """Return the results as a dict of plain values. Equal comparisons have equal ones, but for what is under "cost"."""
    whole = tasks.get("all", tasks["two"])
    patients = dict(zip(whole.names, whole.patient_groups().tolist()))
    results = {"format": "minicnn comparators 1", "command": command_of(options), "environment": environment(),
               "settings": {"seeds": options.seeds, "folds": options.folds, "once": options.once or [], "epochs": options.epochs,
                            "steps_per_epoch": options.steps_per_epoch, "size": options.size, "synthetic": options.data is None,
                            "left_out": [name for name in SYSTEMS if name not in options.systems]},
               "table_iii": [dict(row) for row in paper.TABLE_III], "tasks": {}, "cost": {}, "external": None}
    if external is not None:
        results["external"] = {"name": os.path.basename(os.path.normpath(options.external)), "counts": _counts(external),
                               **count_patients(external.patients, None, len(external)), "n": len(external)}
        numbers = external.patient_groups()
    for task, images in tasks.items():
        told = {"classes": list(map(printable, images.classes)), "counts": _counts(images), "n": len(images),
                **count_patients(images.patients, None, len(images)), "rows": []}
        groups = {}
        for name, one in trainings.items():
            if one.task == task:
                groups.setdefault((one.system, one.recipe), []).append((name, one, RunFolder(one.folder).read_json(_ANSWERS)))
        found = {key: _predictions(options, of_system, patients) for key, of_system in groups.items()}
        seen = {} if external is None else {key: _of_external(external, numbers, of_system, outside) for key, of_system in groups.items()}
        for (system, recipe), of_system in groups.items():
            mine = found[system, recipe]
            told["rows"].append(_row(system, recipe, of_system, mine, found.get(_REFERENCE), seen))
            results["cost"].setdefault(task, {})[f"{system}, {recipe}"] = _cost(of_system)
        told["rows"].sort(key=lambda row: -row["metrics"]["accuracy"])
        told["table_iii"] = _pairs(found)
        results["tasks"][task] = told
    return results


def _counts(manifest):
    return {printable(name): n for name, n in manifest.counts().items() if n}


def _predictions(options, of_system, patients):
    """Return the Predictions of a system's trainings for their test sets; folds of a cross-validation are one repeat."""
    names, repeats, labels, outputs = [], [], [], []
    for _, one, kept in of_system:
        names += kept["names"]
        repeats += [0 if options.folds else one.repeat] * len(kept["names"])
        labels += kept["labels"]
        outputs += kept["outputs"]
    return Predictions(names, np.array(repeats), np.array([patients[name] for name in names]), np.array(labels), np.array(outputs))


def _of_external(manifest, numbers, of_system, outputs):
    """Return the Predictions of a system's trainings for the external set."""
    n = len(of_system)
    return Predictions(manifest.names * n, np.repeat([one.repeat for _, one, _ in of_system], len(manifest)), np.tile(numbers, n),
                       np.tile(manifest.labels, n), np.concatenate([outputs[name] for name, _, _ in of_system]))


def _row(system, recipe, of_system, mine, reference, outside):
    """Return what the results hold of one system under one recipe."""
    config, kept = of_system[0][1].config, of_system[0][2]
    each = [measured(mine.take(np.flatnonzero(mine.repeats == repeat))) for repeat in np.unique(mine.repeats)]
    row = {"system": system, "recipe": recipe, "title": SYSTEMS[system].title, "size": config.preprocessing.height,
           "epochs": config.epochs, "steps": config.steps_per_epoch, "batch": config.batch_size, "learning_rate": config.learning_rate,
           "epochs_published": SYSTEMS[system].recipes[recipe]["epochs"], "trainings": len(of_system),
           "parameters": kept["parameters"], "flops": kept["flops"], "metrics": measured(mine),
           "repeats": [{name: one[name] for name in METRICS} for one in each], "difference": None, "external": None, "apart": None}
    is_reference = (system, recipe) == _REFERENCE
    if reference is not None and not is_reference:
        row["difference"] = difference(mine, reference)
    if outside:
        row["external"] = measured(outside[system, recipe])
        if _REFERENCE in outside and not is_reference:
            row["apart"] = difference(outside[system, recipe], outside[_REFERENCE])
    return row


def _cost(of_system):
    """Return the seconds of a system's trainings: to train (their mean), to answer for one image, and for each of a batch."""
    costs = [RunFolder(one.folder).read_json(_COST) for _, one, _ in of_system]
    return {name: float(np.mean([cost[name] for cost in costs])) for name in ("train", "one", "many")}


def _pairs(found):
    """Return the paired differences between the systems that stand in Table III, each with the ones below it: list of dict."""
    rows = sorted(({row["study"]: row["accuracy"] for row in paper.TABLE_III}).items(), key=lambda item: -item[1])
    systems = list(dict.fromkeys(TABLE_III[study] for study, _ in rows))
    there = [name for name in systems if (name, "common") in found]
    return [{"above": a, "below": b, **difference(found[a, "common"], found[b, "common"])}
            for i, a in enumerate(there) for b in there[i + 1:]]


def command_of(options):
    """Return the command that repeats a comparison: options that differ from the defaults, and names instead of paths.

    >>> command_of(Comparators("x/index.csv", folds=5, only=["cov19net", "covid_caps"]))
    'minicnn comparators --data index.csv --folds 5 --only cov19net,covid_caps'
    """
    words = ["minicnn", "comparators"]
    for name, field in Comparators.__dataclass_fields__.items():
        value = getattr(options, name)
        if value == field.default or name in ("workers", "root", "allow_outside_root", "columns", "labels"):
            continue
        text = os.path.basename(os.path.normpath(value)) if name in ("data", "third", "external") else \
            ",".join(value) if isinstance(value, list) else str(value)
        words += [f"--{name.replace('_', '-')}", text]
    return printable(shlex.join(words))
