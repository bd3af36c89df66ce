"""The results of a study as plain values: what results.json holds, and what the report and the checklists read.

They hold no time, host or path, so equal studies give equal bytes. An undefined value is None, with a reason beside it.
"""

import os
import shlex
from collections import Counter

import numpy as np

from minicnn.core.text import join, number
from minicnn.data.labels import as_option
from minicnn.errors import printable
from minicnn.evaluation.auditing.auditor import audit
from minicnn.evaluation.explanation.gradcam import explain
from minicnn.evaluation.explanation.sanity import border_check, parameter_randomization
from minicnn.evaluation.intervals import proportion_interval
from minicnn.evaluation.shortcut_test import check_shortcuts
from minicnn.evaluation.summary import count_patients, patient_clusters, same_words, subgroup_columns
from minicnn.experiment.config import PROTOCOLS
from minicnn.experiment.run_folder import environment
from minicnn.reporting.document import Image, Text
from minicnn.study import paper
from minicnn.study.aggregate import over_seeds
from minicnn.study.trainings import Study

__all__ = ["FORMAT", "PROTOCOL_NAMES", "gather", "command_of", "trainings_of", "shortcut_checks", "held_out_datasets",
           "worst_errors", "summary_of", "honest_test_seeds", "honest_test_groups", "reported", "layers_of",
           "fold_summary", "counts_text", "image_of", "departures", "not_judged", "opening", "several_seeds"]

FORMAT = "minicnn reproduction 1"
PROTOCOL_NAMES = {"paper": "the paper's protocol", "honest": "the honest protocol", "robust": "recipe robust"}
_MOST_EXPLAINED = 32        # images whose maps show where a network looks
_MOST_ERRORS = 8
_PROTOCOLS = {name: f"{text[0].upper()}{text[1:]}." for name, text in PROTOCOLS.items()}
_PROTOCOLS["robust"] = ("The honest protocol, with the recipe that did best in leave-one-source-out validation instead "
                        "of the paper's; one training.")


# ---- What a study found ----------------------------------------------------------------------------------------------


def gather(study, collection, trainings, checks, synthetic=False, progress=True):
    """Return the results of a study as a dict of plain values.

    Parameters
    ----------
    study, collection, trainings : Study, Collection and {name: Training} of trainings.py
    checks : {set: ShortcutCheck}, of `shortcut_checks`
    synthetic : bool; the radiographs are synthetic ones of minicnn
    """
    first = trainings["honest-0"]
    return {
        "format": FORMAT, "command": command_of(study, synthetic), "environment": environment(),
        "settings": {name: getattr(study, name) for name in ("epochs", "steps_per_epoch", "batch_size",
                                                             "learning_rate")} | {
            "seeds": list(range(study.seeds))} | ({"network": study.other_network} if study.other_network else {}),
        "data": _of_manifest(collection.manifest, study.data) | {"synthetic": synthetic},
        "external": None if collection.external is None else _of_manifest(collection.external, study.external),
        "audit": audit(collection.manifest, workers=study.workers, progress=progress,
                       source=os.path.basename(study.data)).to_dict(),
        "layers": paper.table_i(first.model),
        "protocols": {name: {"what": text, "parts": _sets(trainings_of(trainings, name), collection.manifest.classes)}
                      for name, text in _PROTOCOLS.items()},
        "unseen": [_fold(number, fold, trainings) for number, fold in enumerate(collection.folds)],
        "stress": [{"name": f"honest, {name}", **check.to_dict()} for name, check in checks.items()],
        "sanity": _explained(first),
        "worst": worst_errors(first),
        "paper": paper.facts(),
        "remarks": collection.remarks,
    }


_OF_THE_NETWORK = ("network", "size", "weights", "freeze", "head")


def command_of(study, synthetic=False):
    """Return the command that repeats a study: options that differ from the defaults, and names instead of paths.

    >>> from minicnn.study.trainings import Study
    >>> command_of(Study("x/index.csv", "other/index.csv", seeds=2))
    'minicnn reproduce --data index.csv --external index.csv --seeds 2'
    """
    words = ["minicnn", "reproduce"]
    for name, value in vars(study).items():
        if name in ("data", "external") and value is not None and not synthetic:
            words += [f"--{name}", os.path.basename(os.path.normpath(value))]
        elif name == "seeds" or name in ("epochs", "steps_per_epoch", "batch_size", "learning_rate", *_OF_THE_NETWORK) \
                and value != type(study).__dataclass_fields__[name].default:
            words += [f"--{name.replace('_', '-')}", ",".join(map(str, value)) if name == "head" else
                      os.path.basename(os.path.normpath(value)) if name == "weights" else str(value)]
    if study.classes:
        words += ["--classes", ",".join(study.classes)]
    if study.labels:
        words += ["--labels", as_option(study.labels)]
    if study.columns:
        words += ["--columns", ",".join(f"{ours}={theirs}" for ours, theirs in study.columns.items())]
    return printable(shlex.join(words))


def _of_manifest(manifest, path):
    words = np.array([] if manifest.sources is None else same_words(manifest.sources), object)
    sources = {printable(source) or "unknown": manifest.subset(words == source).counts()
               for source, _ in Counter(words).most_common()}
    return {"name": printable(os.path.basename(os.path.normpath(path))), "images": len(manifest),
            **count_patients(manifest.patients, None, len(manifest)),
            "classes": [printable(name) for name in manifest.classes], "counts": manifest.counts(), "sources": sources,
            "remark": _confounded(manifest)}


def _confounded(manifest):
    """Return a sentence about the column that predicts the labels best, if it predicts them at all, or None.

    The majority label of each word of the column is right for a proportion of the images: the column is reported where
    the interval of this proportion lies above the proportion of the more frequent label.
    """
    found, labels = [], manifest.labels
    for name, words in subgroup_columns(manifest).items():
        _, word = np.unique(words, return_inverse=True)
        counts = np.stack([np.bincount(word[labels == label], minlength=word.max() + 1) for label in (0, 1)])
        right = counts.argmax(axis=0)[word] == labels
        value, interval = proportion_interval(right, right | True, patient_clusters(manifest))
        if interval.low is not None and interval.low > max(np.mean(labels), 1 - np.mean(labels)):
            found.append((value, f"The {name} is a confounder: the majority label of each {name} is right for "
                                 f"{int(right.sum()):,} of {len(right):,} images."))
    return max(found)[1] if found else None


def trainings_of(trainings, protocol):
    """Return the trainings of a protocol, one for each seed."""
    return [training for name, training in trainings.items() if name.rpartition("-")[0] == protocol]


def _sets(of_seeds, classes):
    """Return {set: {"seeds": summaries, "mean": summary over the seeds}} of the trainings of a protocol."""
    sets = {}
    for name in of_seeds[0].metrics:
        summaries = [training.metrics[name] for training in of_seeds]
        answers = [training.answers[name] for training in of_seeds]
        counts = np.mean([np.bincount(one.labels, minlength=len(classes)) for one in answers], axis=0)
        mean = over_seeds(answers, summaries, trained_on=name == "training")
        mean["counts"] = {printable(word): round(count) for word, count in zip(classes, counts)}
        sets[name] = {"seeds": summaries, "mean": mean}
    return sets


def _fold(number, fold, trainings):
    training = trainings.get(f"unseen-{number}")
    return {"name": fold.name, "source": printable(fold.source), "shows": list(fold.shows),
            "training": len(fold.training), "test": len(fold.test), "left_out": fold.left_out, "reason": fold.reason,
            "recipes": {"paper": None if training is None else training.metrics["test"]}}


def shortcut_checks(training):
    """Return {set: ShortcutCheck}: the shortcut check of a network on its test set and on the external set."""
    return {name: check_shortcuts(training.model, dataset, patients=training.answers[name].names,
                                  clusters=training.answers[name].patients)
            for name, dataset in held_out_datasets(training).items()}


def held_out_datasets(training):
    """Return {set: dataset} of the images that a network was neither trained nor selected on."""
    external = {} if training.external is None else {"external": training.external}
    return {"test": training.result.datasets["test"]} | external


def _explained(training):
    """Return where Grad-CAM shows that a network looks, and whether its maps depend on what it has learned."""
    dataset = training.result.datasets["test"]
    chosen = np.linspace(0, len(dataset) - 1, min(_MOST_EXPLAINED, len(dataset))).astype(int)
    images = dataset.batch(chosen)
    explained = explain(training.model, images)
    known = [share for share in explained.border_shares if share is not None]
    return {"layer": explained.layer, "pictures": len(chosen), "maps": len(known),
            "border_share": float(np.mean(known)) if known else None, "even_share": explained.even_share,
            "border_check": border_check(training.model, dataset)._asdict(),
            "rows": [{"layer": row.layer, "correlation": row.correlation, "strength": row.strength}
                     for row in parameter_randomization(training.model, images[:16], layer=explained.layer)]}


def worst_errors(training):
    """Return the errors with the highest probability, on images that a network was neither trained nor selected on."""
    found = []
    for name in held_out_datasets(training):
        answers = training.answers[name]
        wrong = np.flatnonzero((answers.probabilities > 0.5) != (answers.labels == 1))
        found += [(-abs(answers.probabilities[i] - 0.5), name, int(i)) for i in wrong]
    return [_error(training, name, row) for _, name, row in sorted(found)[:_MOST_ERRORS]]


def _error(training, name, row):
    answers, dataset = training.answers[name], held_out_datasets(training)[name]
    sources = dataset.manifest.sources
    p = float(answers.probabilities[row])
    classes = [printable(word) for word in dataset.classes]
    return {"path": printable(dataset.names[row]), "number": row, "label": classes[answers.labels[row]],
            "prediction": classes[int(p > 0.5)], "probability": max(p, 1 - p), "part": name, "seed": 0,
            "source": "" if sources is None else printable(sources[row]),
            "border_share": explain(training.model, dataset.batch(np.array([row]))).border_shares[0]}


# ---- What the report reads -------------------------------------------------------------------------------------------

def departures(results):
    """Return clauses on what differs from the paper's recipe with the default seeds; none where nothing is known to.

    More steps in an epoch are no difference: the paper says 100 in one place and 200 in another.

    >>> departures({"data": {"synthetic": True}, "settings": {
    ...     "epochs": 3, "steps_per_epoch": 100, "batch_size": 32, "learning_rate": 0.01, "seeds": [0]}})
    ['the images are synthetic', '3 of 20 epochs and 1 of 3 seeds were run', 'the learning rate was 0.01, not 0.001']
    """
    recipe = vars(Study(""))
    run = recipe | results["settings"] | {"seeds": len(results["settings"].get("seeds", range(recipe["seeds"])))}
    synthetic = results["data"].get("synthetic", False)
    fewer = [f"{run[name]} of {recipe[name]} {name.replace('_', ' ')}"
             for name in ("epochs", "steps_per_epoch", "seeds") if run[name] < recipe[name]]
    return (["the images are synthetic"] * synthetic + [f"{join(fewer)} were run"] * bool(fewer)
            + ["there were {epochs} epochs, not 20".format(**run)] * (run["epochs"] > recipe["epochs"])
            + [f"the {name.replace('_', ' ')} was {run[name]}, not {recipe[name]}"
               for name in ("batch_size", "learning_rate") if run[name] != recipe[name]]
            + [f"the network is {results['settings'].get('network')}"] * ("network" in results["settings"]))


def not_judged(results):
    """Return what stands in the place of a verdict on the paper or its recipe; "" where this is the recipe.

    >>> not_judged({"data": {"synthetic": False}, "settings": {
    ...     "epochs": 3, "steps_per_epoch": 100, "batch_size": 32, "learning_rate": 1e-3, "seeds": [0, 1, 2]}})
    'not judged: 3 of 20 epochs were run'
    """
    clauses = departures(results)
    return f"not judged: {', and '.join(clauses)}" if clauses else ""


def opening(results):
    """Return the first sentences of a report on less, or on something else, than the paper's recipe; else ""."""
    if not (clauses := departures(results)):
        return ""
    return (f"This does not repeat the paper: {', and '.join(clauses)}. No value measured here is a verdict on the "
            "paper or its recipe." + " Give radiographs with --data." * results["data"]["synthetic"])


def several_seeds(results):
    """Return the number of seeds, or 0 where there is one alone: then nothing can be said of their spread."""
    n = len(results["settings"].get("seeds", ()))
    return n if n > 1 else 0


def summary_of(results, protocol, name):
    """Return the summary of a set under a protocol, as mean over the seeds; None where there is none."""
    return (((results["protocols"].get(protocol) or {}).get("parts") or {}).get(name) or {}).get("mean")


def honest_test_seeds(results):
    """Return the summaries of the honest test set, one for each seed."""
    return ((results["protocols"].get("honest") or {}).get("parts") or {}).get("test", {}).get("seeds") or []


def honest_test_groups(results):
    """Return {column: {word: summary}} of the honest test set, and which seeds it is of."""
    pooled = (summary_of(results, "honest", "test") or {}).get("groups")
    if pooled and several_seeds(results):
        return pooled, "all seeds"
    groups = next((summary["groups"] for summary in honest_test_seeds(results) if summary.get("groups")), pooled or {})
    return groups, f"seed {results['settings']['seeds'][0]}"


def reported(results, name="validation"):
    """Return {metric: value} of what the paper reports for a set in Table II."""
    return (results["paper"].get("table_ii") or {}).get(name) or {}


def layers_of(results):
    """Return the rows of the network's layers, without their total."""
    return [layer for layer in results["layers"] if layer["name"] != "total"]


def fold_summary(fold, recipe="paper"):
    """Return the summary of a held-out source under a recipe; None where there is none."""
    return (fold.get("recipes") or {}).get(recipe)


def counts_text(counts):
    """Return {class: number of images} as words.

    >>> counts_text({"normal": 1410, "covid": 3})
    '1,410 normal and 3 covid'
    """
    return join(f"{number(n)} {printable(name)}" for name, n in counts.items())


def image_of(results, key, caption, alt):
    """Return the Image of a key of results["figures"]; where it was not drawn, a Text that says so.

    results["drawings"], which `page.write` sets, holds what the page draws in the place of the file.
    """
    path = results["figures"].get(key)
    if path is None:
        return Text(f"Not drawn: {caption}")
    return Image(path, caption, alt, results.get("drawings", {}).get(key))
