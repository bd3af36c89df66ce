"""Which recipe does best on sources that it has never seen? Measured, and written down with all that was tried.

    python -m benchmarks.robust --data MANIFEST --screen              every candidate, one seed
    python -m benchmarks.robust --data MANIFEST --only NAME --seeds 3 some candidates, three seeds
    python -m benchmarks.robust --data MANIFEST --external CSV --final the paper's recipe and the shipped one, once

Each candidate is trained once for each source with positives, held out together with a part of the negatives' patients
(minicnn/evaluation/leave_one_source_out.py), and for each seed, by the honest protocol: a validation part by patient out of what is
left, augmentation in training alone. What a training answers for the images held out is kept in the folder `--runs`,
under the digest of what was trained, so nothing is trained twice. The figures go to robust.json, the page to ROBUST.md
(benchmarks/robust_report.py). The external set plays no part until `--final`.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.processes import ROOT
from benchmarks.robust_candidates import AVERAGE, CANDIDATES, described
from minicnn.callbacks import Callback, WeightAverage
from minicnn.core.files import private_folder, write_atomic
from minicnn.data.manifest import Manifest
from minicnn.evaluation.intervals import aucs, bootstrap
from minicnn.evaluation.source_folds import leave_one_source_out, patient_groups
from minicnn.evaluation.summary import patient_clusters

SETTINGS = {"epochs": 20, "steps_per_epoch": 100, "batch_size": 32, "learning_rate": 1e-3}
READINGS = {"best": "lowest validation loss", "last": "last epoch", "mean": "mean of the epochs"}
_ROUND = 1              # counts up where the same description trains something else: then nothing kept is of use
FOLDS = "folds"


# ---- One training ----------------------------------------------------------------------------------------------------

class _Keeper(Callback):
    """Keep the weights of the epoch with the lowest validation loss, and of the last."""

    lowest, best, last = np.inf, None, None

    def on_epoch_end(self, model, epoch, metrics):
        self.last = model.get_weights()
        if metrics["val_loss"] < self.lowest:
            self.lowest, self.best = metrics["val_loss"], self.last


def answers(candidate, training, validation, others, seed, settings=SETTINGS):
    """Train once by the honest protocol; return {reading: [probability of the positive class of each image, for each
    manifest of `others`]}."""
    recipe, keeper = candidate.recipe, _Keeper()
    prepared = recipe.preprocessing
    model = recipe.model(seed, training.classes, settings["learning_rate"])
    model.fit(training.augment(candidate.augmentation).open(prepared), validation=validation.open(prepared),
              epochs=settings["epochs"], steps_per_epoch=settings["steps_per_epoch"], batch_size=settings["batch_size"],
              callbacks=[keeper, WeightAverage(recipe.average or AVERAGE)], progress=False)
    mean = model.get_weights()
    sources, told = [other.open(prepared) for other in others], {}
    for reading, weights in {"best": keeper.best, "last": keeper.last, "mean": mean}.items():
        model.set_weights(weights)
        told[reading] = [model.predict(source)[:, 0].tolist() for source in sources]
    return told


@cache
def collection(path):
    """Return (Manifest, its folds with both recall and specificity)."""
    whole = Manifest.read(path).prepared()
    folds = leave_one_source_out(whole, patient_groups(whole))
    return whole, {fold.source: fold for fold in folds if "auc" in fold.shows and not fold.reason}


def key(name, data, rows, seed, settings):
    """Return the name of the file that keeps a training's answers.

    Parameters
    ----------
    rows : list of ndarrays; what decides who is in which part
    """
    digests = [hashlib.sha256(np.ascontiguousarray(each)) for each in (collection(data)[0].pixels.file_digests, *rows)]
    described = [_ROUND, CANDIDATES[name].digest(), seed, settings, [digest.hexdigest() for digest in digests]]
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:32] + ".json"


def train_fold(name, data, source, seed, settings, runs):
    """Train a candidate with a source unseen, unless that is done; return {reading: answers for the held out}."""
    whole, folds = collection(data)
    fold = folds[source]
    kept = Path(runs) / key(name, data, [fold.training, fold.test, fold.group], seed, settings)
    if not kept.exists():
        training, validation, test = fold.parts(whole)
        told = answers(CANDIDATES[name], training, validation, [test], seed, settings)
        told = {reading: p for reading, (p,) in told.items()}
        write_atomic(kept, json.dumps(told).encode())
    return json.loads(kept.read_text(encoding="utf-8"))


def train_whole(name, data, external, seed, settings, runs):
    """Train on the collection's own split, as `minicnn train` does; return {reading: [test, external]}."""
    whole = collection(data)[0]
    training, validation, test = whole.split(seed=seed)
    others = [test, Manifest.read(external, classes=whole.classes)]
    rows = [part.pixels.file_digests for part in (training, validation, test, others[1].prepared())]
    kept = Path(runs) / key(name, data, rows, seed, settings)
    if not kept.exists():
        write_atomic(kept, json.dumps(answers(CANDIDATES[name], training, validation, others, seed, settings)).encode())
    return json.loads(kept.read_text(encoding="utf-8"))


def run(tasks, jobs):
    """Carry out [(function, arguments)] in `jobs` processes that share the cores, or in this one for 1.

    How far it is goes to stderr.
    """
    def tell(done, arguments):
        name, _, source, seed = arguments[:4]
        print(f"{done}/{len(tasks)}  {name}, {Path(source).name}, seed {seed}", file=sys.stderr, flush=True)

    if jobs == 1:
        for done, (function, arguments) in enumerate(tasks, 1):
            function(*arguments)
            tell(done, arguments)
        return
    os.environ["MINICNN_THREADS"] = str(max(1, (os.cpu_count() or 1) // jobs))
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        waiting = {pool.submit(function, *arguments): arguments for function, arguments in tasks}
        for done, future in enumerate(as_completed(waiting), 1):
            future.result()
            tell(done, waiting[future])


# ---- Figures ---------------------------------------------------------------------------------------------------------

def layout(data):
    """Return (positive (n,) bool, clusters (n,), {source: slice}) of the images held out, fold after fold.

    Nobody is held out in two folds, so their patients are different people.
    """
    whole, folds = collection(data)
    positive = np.concatenate([whole.labels[fold.test] == 1 for fold in folds.values()])
    clusters = np.concatenate([fold.group[fold.test] for fold in folds.values()])
    ends = np.cumsum([len(fold.test) for fold in folds.values()]).tolist()
    places = {source: slice(end - len(fold.test), end) for end, (source, fold) in zip(ends, folds.items())}
    return positive, np.unique(clusters, return_inverse=True)[1], places


def means(p, positive, places, weights):
    """Return the AUC of each source, the mean over seeds, and the mean over the sources: ndarray, (b, sources + 1).

    Parameters
    ----------
    p : ndarray, shape (seeds, n); weights : ndarray, shape (b, n)
    """
    each = [np.mean([aucs(positive[place], row[place], weights[:, place]) for row in p], axis=0)
            for place in places.values()]
    return np.column_stack([*each, np.mean(each, axis=0)])


def figures(p, where, other=None):
    """Return what is told of the answers p (seeds, n): a dict by source, and over "all".

    With the answers `other` of another recipe: of the difference p - other, in pairs.
    """
    positive, clusters, places = where

    def statistic(weights):
        first = means(p, positive, places, weights)
        return first if other is None else first - means(other, positive, places, weights)

    names = [*places, "all"]
    values, bounds = statistic(np.ones((1, len(positive))))[0].tolist(), bootstrap(statistic, clusters, names)
    return {name: {"mean": value, "interval": [bounds[name].low, bounds[name].high]}
            for name, value in zip(names, values)}


def told_of(name, data, seeds, settings, runs):
    """Return what robust.json says of a candidate."""
    candidate, where = CANDIDATES[name], layout(data)
    answered = {source: [train_fold(name, data, source, seed, settings, runs) for seed in seeds] for source in where[2]}
    p = {reading: np.array([np.concatenate([answered[source][i][reading] for source in where[2]])
                            for i in range(len(seeds))]) for reading in READINGS}
    told, chosen, ones = figures(p[candidate.reading], where), p[candidate.reading], np.ones((1, len(where[0])))
    for number, source in enumerate([*where[2], "all"]):
        told[source]["seeds"] = [float(means(row[np.newaxis], where[0], where[2], ones)[0, number]) for row in chosen]
        told[source]["ensemble"] = float(means(chosen.mean(axis=0)[np.newaxis], where[0], where[2], ones)[0, number])
        told[source]["readings"] = {reading: float(means(p[reading], where[0], where[2], ones)[0, number])
                                    for reading in READINGS}
    against = {}
    if name != "paper":
        against = figures(chosen, where, _answers_of("paper", data, seeds, settings, runs, where))
    return {"what": described(candidate), "reading": candidate.reading, "seeds": list(seeds), FOLDS: told,
            "against paper": against}


def _answers_of(name, data, seeds, settings, runs, where):
    reading = CANDIDATES[name].reading
    return np.array([np.concatenate([train_fold(name, data, source, seed, settings, runs)[reading]
                                     for source in where[2]]) for seed in seeds])


def final(data, external, seeds, settings, runs):
    """Return what is said of the two recipes on their own test part and on the external set."""
    whole, outside = collection(data)[0], Manifest.read(external, classes=collection(data)[0].classes).prepared()
    positive = outside.labels == 1
    where, p, told = (positive, patient_clusters(outside), {"external": slice(0, len(positive))}), {}, {}
    for name in ("paper", "robust"):
        reading = CANDIDATES[name].reading
        both = [train_whole(name, data, external, seed, settings, runs)[reading] for seed in seeds]
        p[name] = np.array([answer[1] for answer in both])
        of_test = []
        for seed, answer in zip(seeds, both):
            test = whole.split(seed=seed)[2]
            of_test.append(float(aucs(test.labels == 1, np.array(answer[0]), np.ones((1, len(test))))[0]))
        rows = [float(aucs(positive, row, np.ones((1, len(positive))))[0]) for row in p[name]]
        told[name] = {"test": of_test, "external": figures(p[name], where)["external"] | {
            "seeds": rows, "accuracy": [float(((row > 0.5) == positive).mean()) for row in p[name]],
            "ensemble": float(aucs(positive, p[name].mean(axis=0), np.ones((1, len(positive))))[0])}}
    told["difference"] = figures(p["robust"], where, p["paper"])["external"]
    told |= {"seeds": list(seeds), "images": len(outside), "patients": int(where[1].max()) + 1,
             "counts": outside.counts()}
    return told


def about(data):
    """Return what the page says of the collection and its folds."""
    whole, folds = collection(data)
    rows = {}
    for source, fold in folds.items():
        negatives = whole.sources[fold.test][whole.labels[fold.test] == 0].tolist()
        rows[source] = {"name": fold.name, "training": len(fold.training),
                        "positives": int((whole.labels[fold.test] == 1).sum()),
                        "training positives": int((whole.labels[fold.training] == 1).sum()),
                        "negatives": {name: negatives.count(name) for name in sorted(set(negatives))}}
    people = len(np.unique(next(iter(folds.values())).group))
    return {"name": Path(data).name, "images": len(whole), "people": people, "classes": list(whole.classes), FOLDS: rows}


def main(arguments=None):
    from benchmarks.robust_report import page

    options = _options(arguments)
    runs = options.runs or private_folder("robust", "folder of trainings", "choose one with --runs")
    Path(runs).mkdir(parents=True, exist_ok=True)
    names, seeds = options.only or list(CANDIDATES), range(1 if options.screen else options.seeds)
    settings = SETTINGS | {"epochs": options.epochs, "steps_per_epoch": options.steps}
    path = options.out / "robust.json"
    told = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"candidates": {}}
    if options.final:
        run([(train_whole, (name, options.data, options.external, seed, settings, runs))
             for name in ("paper", "robust") for seed in seeds], options.jobs)
        told["final"] = final(options.data, options.external, seeds, settings, runs)
    else:
        wanted = dict.fromkeys(["paper", *names])
        run([(train_fold, (name, options.data, source, seed, settings, runs))
             for seed in seeds for name in wanted for source in collection(options.data)[1]], options.jobs)
        told["data"], told["settings"] = about(options.data), settings
        for name in wanted:
            before = told["candidates"].get(name, {"seeds": []})
            if len(before["seeds"]) <= len(seeds) or before["what"] != described(CANDIDATES[name]):
                told["candidates"][name] = told_of(name, options.data, seeds, settings, runs)
    write_atomic(path, (json.dumps(told, indent=1) + "\n").encode())
    write_atomic(options.out / "ROBUST.md", page(told).encode())
    return 0


def _options(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, help="a manifest of two classes with a source column")
    parser.add_argument("--external", help="a manifest of another hospital; with --final")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=CANDIDATES, metavar="NAME", help="these candidates")
    parser.add_argument("--screen", action="store_true", help="one seed")
    parser.add_argument("--final", action="store_true", help="measure paper and robust on the external set")
    parser.add_argument("--jobs", type=int, default=2, help="processes, which share the cores")
    parser.add_argument("--epochs", type=int, default=SETTINGS["epochs"])
    parser.add_argument("--steps", type=int, default=SETTINGS["steps_per_epoch"])
    parser.add_argument("--runs", type=Path, help="folder that keeps what trainings answered; default: minicnn's cache")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks", help="folder for robust.json and ROBUST.md")
    options = parser.parse_args(arguments)
    if options.final and not options.external:
        parser.error("--final needs --external")
    return options


if __name__ == "__main__":
    sys.exit(main())
