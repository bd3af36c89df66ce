"""Compare training recipes by leave-one-source-out validation, and write down all that was tried.

    python -m benchmarks.robust --data MANIFEST --screen              every candidate, one seed
    python -m benchmarks.robust --data MANIFEST --only NAME --seeds 3 some candidates, three seeds
    mpiexec -n 8 python -m benchmarks.robust --data MANIFEST --runs DIR --mpi      eight trainings at a time
    python -m benchmarks.robust --data MANIFEST --external CSV --final paper, robust and the chosen, once

Each candidate is trained once for each seed and each source with positives, which is held out with some patients who
have only negatives (minicnn/evaluation/source_folds.py), by the honest protocol: the rest is split by patient into
training and validation set, with augmentation in training only. The probabilities of the held-out images are stored in
the folder `--runs` under the digest of the training, so nothing is trained twice. The results go to robust.json and
ROBUST.md (benchmarks/robust_report.py). The external set is used with `--final` only.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from benchmarks.processes import ROOT
from benchmarks.robust_candidates import AVERAGE, CANDIDATES, CHOSEN, described
from minicnn.callbacks import Callback, WeightAverage
from minicnn.core import signals
from minicnn.core.files import private_folder, write_atomic
from minicnn.core.processes import Alone
from minicnn.data.augmentation import Augmentation
from minicnn.data.manifest import Manifest
from minicnn.distributed import MPI
from minicnn.distributed.tasks import dismiss, spread, work
from minicnn.errors import MiniCNNError
from minicnn.evaluation.intervals import aucs, bootstrap
from minicnn.evaluation.source_folds import leave_one_source_out
from minicnn.evaluation.summary import patient_clusters
from minicnn.experiment.config import Config
from minicnn.experiment.transfer import initial_model
from minicnn.frozen import frozen_features

SETTINGS = {"epochs": 20, "steps_per_epoch": 100, "batch_size": 32, "learning_rate": 1e-3}
READINGS = {"best": "lowest validation loss", "last": "last epoch", "mean": "mean of the epochs"}
BASELINES = ("paper", "robust")     # each candidate is compared with them in pairs
_ROUND = 1              # increased when the same description trains something else, which makes stored runs invalid
FOLDS = "folds"


# ---- One training ----------------------------------------------------------------------------------------------------

class _Keeper(Callback):
    """Keep the weights of the epoch with the lowest validation loss, and of the last epoch."""

    lowest, best, last = np.inf, None, None

    def on_epoch_end(self, model, epoch, metrics):
        self.last = model.get_weights()
        if metrics["val_loss"] < self.lowest:
            self.lowest, self.best = metrics["val_loss"], self.last


def trained(candidate, seed, sets, settings):
    """Train once by the honest protocol.

    Parameters
    ----------
    candidate : Candidate
    seed : int
    sets : list of manifests: those of training and of validation, then any others
    settings : dict, options of Config; those of the candidate come before them

    Returns
    -------
    (Model, {reading: weights}, the sets as its `fit` and `predict` take them)
    """
    config, keeper = Config(**settings | candidate.options, seed=seed), _Keeper()
    side = config.preprocessing.height
    prepared = replace(candidate.recipe.preprocessing, height=side, width=side)
    with TemporaryDirectory() as folder:
        file = None
        if candidate.first is not None:
            before, weights, _ = trained(candidate.first, seed, sets[:2], settings)
            before.set_weights(weights[candidate.first.reading])
            file = Path(folder) / "first.safetensors"
            before.save(file)
        model = initial_model(config, sets[0].classes, file, candidate.recipe)
    data = [sets[0].augment(candidate.augmentation).open(prepared), *(other.open(prepared) for other in sets[1:])]
    if candidate.augmentation == Augmentation.none():       # each epoch has the same images
        data = [frozen_features(model, images) for images in data]
    model.fit(data[0], validation=data[1], epochs=config.epochs, steps_per_epoch=config.steps_per_epoch,
              batch_size=config.batch_size, callbacks=[keeper, WeightAverage(candidate.recipe.average or AVERAGE)],
              progress=False)
    return model, {"best": keeper.best, "last": keeper.last, "mean": model.get_weights()}, data


def answers(candidate, training, validation, others, seed, settings=SETTINGS):
    """Train once; return {reading: [probabilities of the positive class]}, a list for each manifest of `others`."""
    model, weights, data = trained(candidate, seed, [training, validation, *others], settings)
    probabilities = {}
    for reading in READINGS:
        model.set_weights(weights[reading])
        probabilities[reading] = [model.predict(images)[:, 0].tolist() for images in data[2:]]
    return probabilities


@cache
def collection(path):
    """Return (Manifest, its folds with both recall and specificity)."""
    whole = Manifest.read(path).prepared()
    folds = leave_one_source_out(whole, whole.patient_groups())
    return whole, {fold.source: fold for fold in folds if "auc" in fold.shows and not fold.reason}


def key(name, data, rows, seed, settings):
    """Return the name of the file that stores the probabilities of a training.

    Parameters
    ----------
    rows : list of ndarrays that determine the split
    """
    digests = [hashlib.sha256(np.ascontiguousarray(each)) for each in (collection(data)[0].pixels.file_digests, *rows)]
    training = [_ROUND, CANDIDATES[name].digest(), seed, settings, [digest.hexdigest() for digest in digests]]
    return hashlib.sha256(json.dumps(training, sort_keys=True).encode()).hexdigest()[:32] + ".json"


def train_fold(name, data, source, seed, settings, runs):
    """Train without a source, unless that is stored; return {reading: probabilities of the held-out images}."""
    whole, folds = collection(data)
    fold = folds[source]
    kept = Path(runs) / key(name, data, [fold.training, fold.test, fold.group], seed, settings)
    if not kept.exists():
        training, validation, test = fold.parts(whole)
        found = answers(CANDIDATES[name], training, validation, [test], seed, settings)
        write_atomic(kept, json.dumps({reading: p for reading, (p,) in found.items()}).encode())
    return json.loads(kept.read_text(encoding="utf-8"))


def train_whole(name, data, external, seed, settings, runs):
    """Train on the collection's own split, as `minicnn train` does; return {reading: [test, external]}."""
    whole = collection(data)[0]
    training, validation, test = whole.split(seed=seed)
    others = [test, Manifest.read(external, classes=whole.classes)]
    rows = [images.pixels.file_digests for images in (training, validation, test, others[1].prepared())]
    kept = Path(runs) / key(name, data, rows, seed, settings)
    if not kept.exists():
        write_atomic(kept, json.dumps(answers(CANDIDATES[name], training, validation, others, seed, settings)).encode())
    return json.loads(kept.read_text(encoding="utf-8"))


def run(function, tasks, jobs, group):
    """Call function(*arguments) for each of [arguments] in `jobs` processes that share the cores (1: in those of the group, which
    may be this one alone); progress goes to stderr. All of them are about equally long: as many steps, and few images to predict.
    """
    tasks = {"{0}, {2}, seed {3}".format(*arguments): arguments for arguments in tasks}

    def tell(done, name, rank=0):
        print(f"{done}/{len(tasks)}  {name}", file=sys.stderr, flush=True)

    if jobs == 1:
        spread(group, function, tasks, tell)
        return
    os.environ["MINICNN_THREADS"] = str(max(1, (os.cpu_count() or 1) // jobs))
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        waiting = {pool.submit(function, *arguments): name for name, arguments in tasks.items()}
        for done, future in enumerate(as_completed(waiting), 1):
            future.result()
            tell(done, waiting[future])


# ---- Results ---------------------------------------------------------------------------------------------------------

class HeldOut(NamedTuple):
    """The held-out images, fold after fold; no patient is held out in two folds."""

    positive: np.ndarray    # (n,) bool
    clusters: np.ndarray    # (n,), the number of each image's patient
    places: dict            # {source: slice}


def held_out(data):
    whole, folds = collection(data)
    positive = np.concatenate([whole.labels[fold.test] == 1 for fold in folds.values()])
    clusters = np.concatenate([fold.group[fold.test] for fold in folds.values()])
    ends = np.cumsum([len(fold.test) for fold in folds.values()]).tolist()
    places = {source: slice(end - len(fold.test), end) for end, (source, fold) in zip(ends, folds.items())}
    return HeldOut(positive, np.unique(clusters, return_inverse=True)[1], places)


def mean_aucs(p, images, weights):
    """Return the AUC of each source, the mean over seeds, and the mean over the sources: ndarray, (b, sources + 1).

    Parameters
    ----------
    p : ndarray, shape (seeds, n); weights : ndarray, shape (b, n)
    """
    each = [np.mean([aucs(images.positive[place], row[place], weights[:, place]) for row in p], axis=0)
            for place in images.places.values()]
    return np.column_stack([*each, np.mean(each, axis=0)])


def values(p, images):
    """Return {source: mean AUC of the probabilities p (seeds, n)}, and over "all"."""
    found = mean_aucs(p, images, np.ones((1, len(images.positive))))[0].tolist()
    return dict(zip([*images.places, "all"], found))


def with_intervals(p, images, other=None):
    """Return {source: {"mean", "interval"}} of the probabilities p (seeds, n), and over "all".

    With the probabilities `other` of another recipe: of the paired difference p - other.
    """
    def statistic(weights):
        first = mean_aucs(p, images, weights)
        return first if other is None else first - mean_aucs(other, images, weights)

    names = [*images.places, "all"]
    means = statistic(np.ones((1, len(images.positive))))[0].tolist()
    bounds = bootstrap(statistic, images.clusters, names)
    return {name: {"mean": mean, "interval": [bounds[name].low, bounds[name].high]} for name, mean in zip(names, means)}


def stored_answers(name, images, data, seeds, settings, runs):
    """Return {reading: probabilities (seeds, n)} of a candidate for the held-out images."""
    found = [[train_fold(name, data, source, seed, settings, runs) for source in images.places] for seed in seeds]
    return {reading: np.array([np.concatenate([answer[reading] for answer in row]) for row in found])
            for reading in READINGS}


def candidate_results(name, data, seeds, settings, runs):
    """Return what robust.json holds of a candidate."""
    candidate, images = CANDIDATES[name], held_out(data)
    p = stored_answers(name, images, data, seeds, settings, runs)
    chosen = p[candidate.reading]
    results, against = with_intervals(chosen, images), {}
    for other in BASELINES:
        compared = name != other and name != "paper"
        against[f"against {other}"] = with_intervals(chosen, images, stored_answers(
            other, images, data, seeds, settings, runs)[CANDIDATES[other].reading]) if compared else {}
    by_seed = [values(row[np.newaxis], images) for row in chosen]
    ensemble = values(chosen.mean(axis=0)[np.newaxis], images)
    by_reading = {reading: values(p[reading], images) for reading in READINGS}
    for source, result in results.items():
        result |= {"seeds": [found[source] for found in by_seed], "ensemble": ensemble[source],
                   "readings": {reading: found[source] for reading, found in by_reading.items()}}
    return {"what": described(candidate), "network": candidate.network, "reading": candidate.reading, "seeds": list(seeds),
            FOLDS: results, **against}


def final_names():
    """Return the names of the candidates that are measured on the external set."""
    return list(dict.fromkeys([*BASELINES, CHOSEN]))


def final_results(data, external, seeds, settings, runs):
    """Return what robust.json holds of the baselines and the chosen candidate on their own test set and on the external set."""
    whole = collection(data)[0]
    outside = Manifest.read(external, classes=whole.classes).prepared()
    images = HeldOut(outside.labels == 1, patient_clusters(outside), {"external": slice(len(outside))})
    names, tests, p, results = final_names(), [whole.split(seed=seed)[2] for seed in seeds], {}, {}
    for name in names:
        reading = CANDIDATES[name].reading
        own, p[name] = zip(*(train_whole(name, data, external, seed, settings, runs)[reading] for seed in seeds))
        p[name] = np.array(p[name])
        results[name] = {
            "test": [float(aucs(test.labels == 1, np.array(row), np.ones((1, len(test))))[0])
                     for test, row in zip(tests, own)],
            "external": with_intervals(p[name], images)["external"] | {
                "seeds": [values(row[np.newaxis], images)["external"] for row in p[name]],
                "accuracy": [float(((row > 0.5) == images.positive).mean()) for row in p[name]],
                "ensemble": values(p[name].mean(axis=0)[np.newaxis], images)["external"]}}
    differences = {"difference": ("robust", "paper"), "difference of the chosen": (CHOSEN, "robust")}
    results |= {key: with_intervals(p[first], images, p[second])["external"] for key, (first, second) in differences.items()}
    return results | {"chosen": CHOSEN, "seeds": list(seeds),
                      "images": len(outside), "patients": int(images.clusters.max()) + 1, "counts": outside.counts()}


def collection_results(data):
    """Return what robust.json holds of the collection and its folds."""
    whole, folds = collection(data)
    rows = {}
    for source, fold in folds.items():
        sources = Counter(whole.sources[fold.test][whole.labels[fold.test] == 0].tolist())
        rows[source] = {"name": fold.name, "training": len(fold.training),
                        "positives": int((whole.labels[fold.test] == 1).sum()),
                        "training positives": int((whole.labels[fold.training] == 1).sum()),
                        "negatives": dict(sorted(sources.items()))}
    people = len(np.unique(next(iter(folds.values())).group))
    return {"name": Path(data).name, "images": len(whole), "people": people, "classes": list(whole.classes), FOLDS: rows}


def main(arguments=None):
    options = _options(arguments)
    if not options.mpi:
        return compare(options, Alone())
    group, code = MPI(), 0
    group.share_cores()
    try:
        with signals.handled(last=True), group.together():
            if group.rank > 0:
                work(group)
            else:
                compare(options, group)
                dismiss(group)
    except (MiniCNNError, MemoryError, KeyboardInterrupt) as error:
        code = 128 + getattr(error, "number", 2) if isinstance(error, KeyboardInterrupt) else 1
        if not getattr(error, "relayed", False):
            print(f"benchmarks.robust: {error}\nFinished trainings are kept; the same command goes on.", file=sys.stderr)
    group.end(code)
    return code


def compare(options, group):
    """Carry out the trainings that are left, in the processes of a group, and write robust.json and ROBUST.md; return 0."""
    from benchmarks.robust_report import page

    runs = options.runs or private_folder("robust", "folder of trainings", "choose one with --runs")
    Path(runs).mkdir(parents=True, exist_ok=True)
    names, seeds = options.only or list(CANDIDATES), range(1 if options.screen else options.seeds)
    settings = SETTINGS | {"epochs": options.epochs, "steps_per_epoch": options.steps}
    path = options.out / "robust.json"
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"candidates": {}}
    if options.final:
        run(train_whole, [(name, options.data, options.external, seed, settings, runs)
                          for name in final_names() for seed in seeds], options.jobs, group)
        results["final"] = final_results(options.data, options.external, seeds, settings, runs)
    else:
        wanted = dict.fromkeys([*BASELINES, *names])
        run(train_fold, [(name, options.data, source, seed, settings, runs)
                         for seed in seeds for name in wanted for source in collection(options.data)[1]], options.jobs, group)
        results["data"], results["settings"] = collection_results(options.data), settings
        for name in wanted:
            before = results["candidates"].get(name, {"seeds": []})
            if len(before["seeds"]) <= len(seeds) or before["what"] != described(CANDIDATES[name]):
                results["candidates"][name] = candidate_results(name, options.data, seeds, settings, runs)
    write_atomic(path, (json.dumps(results, indent=1) + "\n").encode())
    write_atomic(options.out / "ROBUST.md", page(results).encode())
    return 0


def _options(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, help="a manifest of two classes with a source column")
    parser.add_argument("--external", help="a manifest for external validation; with --final")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=CANDIDATES, metavar="NAME", help="these candidates")
    parser.add_argument("--screen", action="store_true", help="one seed")
    parser.add_argument("--final", action="store_true", help="measure paper, robust and the chosen on the external set")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--jobs", type=int, help="processes that share the cores (default: 2)")
    how.add_argument("--mpi", action="store_true", help="spread the trainings over the processes that mpiexec started, which all "
                     "see --data, --runs and --out")
    parser.add_argument("--epochs", type=int, default=SETTINGS["epochs"])
    parser.add_argument("--steps", type=int, default=SETTINGS["steps_per_epoch"])
    parser.add_argument("--runs", type=Path, help="folder of the stored trainings; default: minicnn's cache")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks", help="folder for robust.json and ROBUST.md")
    options = parser.parse_args(arguments)
    options.jobs = options.jobs or (1 if options.mpi else 2)
    if options.final and not options.external:
        parser.error("--final needs --external")
    return options


if __name__ == "__main__":
    sys.exit(main())
