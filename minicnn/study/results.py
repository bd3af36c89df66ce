"""Everything that the report says, as plain values: what `results.json` holds, and the page is made of.

No time, host or path of the machine is among it, so equal studies are equal bytes. What is undefined is None, with the
reason beside it.
"""

import os
import shlex
from collections import Counter

import numpy as np

from minicnn.errors import printable
from minicnn.evaluation.auditing.auditor import audit
from minicnn.evaluation.explanation.gradcam import explain
from minicnn.evaluation.explanation.sanity import border_check, parameter_randomization
from minicnn.evaluation.intervals import proportion_interval
from minicnn.evaluation.shortcut_test import check_shortcuts
from minicnn.evaluation.summary import patient_clusters, subgroup_columns
from minicnn.experiment.config import PROTOCOLS
from minicnn.experiment.run_folder import environment
from minicnn.study import paper
from minicnn.study.aggregate import over_seeds

__all__ = ["FORMAT", "gather", "shortcut_checks", "sources_of", "surest_mistakes", "command_of"]

FORMAT = "minicnn reproduction 1"
_MOST_EXPLAINED = 32        # pictures whose maps say where a network looks
_MOST_MISTAKES = 8
_TOLD = {name: f"{told[0].upper()}{told[1:]}." for name, told in PROTOCOLS.items()}
_TOLD["robust"] = "The honest protocol, with the recipe that did best on sources unseen instead of the paper's; one training."


def gather(study, collection, trainings, checks, synthetic=False, progress=True):
    """Return what a study found, as a dict of plain values; the form is that of the report.

    Parameters
    ----------
    study, collection, trainings : Study, Collection and {name: Training} of reproduction.py
    checks : {part: ShortcutCheck}, of `shortcut_checks`
    synthetic : bool; the radiographs are made by minicnn itself
    """
    first = trainings["honest-0"]
    return {
        "format": FORMAT, "command": command_of(study, synthetic), "environment": environment(),
        "settings": {name: getattr(study, name) for name in ("epochs", "steps_per_epoch", "batch_size",
                                                             "learning_rate")} | {"seeds": list(range(study.seeds))},
        "data": _of_manifest(collection.manifest, study.data, collection) | {"synthetic": synthetic},
        "external": None if collection.external is None else _of_manifest(collection.external, study.external,
                                                                          collection),
        "audit": audit(collection.manifest, workers=study.workers, progress=progress,
                       source=os.path.basename(study.data)).to_dict(),
        "layers": paper.table_i(first.model),
        "protocols": {name: {"what": told, "parts": _parts(trainings, name, collection.manifest.classes)}
                      for name, told in _TOLD.items()},
        "unseen": [_unseen(number, fold, trainings) for number, fold in enumerate(collection.folds)],
        "stress": [{"name": f"honest, {part}", **check.to_dict()} for part, check in checks.items()], **_where_it_looks(first),
        "worst": surest_mistakes(first),
        "paper": paper.facts(),
        "remarks": collection.remarks,
    }


def command_of(study, synthetic=False):
    """Return the command that repeats a study: what differs from the defaults, and of paths the last part.

    >>> from minicnn.study.reproduction import Study
    >>> command_of(Study("x/index.csv", "other/index.csv", seeds=2))
    'minicnn reproduce --data index.csv --external index.csv --seeds 2'
    """
    words = ["minicnn", "reproduce"]
    for name, value in vars(study).items():
        if name in ("data", "external") and value is not None and not synthetic:
            words += [f"--{name}", os.path.basename(os.path.normpath(value))]
        elif name == "seeds" or name in ("epochs", "steps_per_epoch", "batch_size", "learning_rate") \
                and value != type(study).__dataclass_fields__[name].default:
            words += [f"--{name.replace('_', '-')}", str(value)]
    if study.classes:
        words += ["--classes", ",".join(study.classes)]
    if study.columns:
        words += ["--columns", ",".join(f"{ours}={theirs}" for ours, theirs in study.columns.items())]
    return printable(shlex.join(words))


def _of_manifest(manifest, path, collection):
    sources = {} if manifest.sources is None else {
        printable(source) or "unknown": manifest.subset(manifest.sources == source).counts()
        for source, _ in Counter(manifest.sources).most_common()}
    return {"name": printable(os.path.basename(os.path.normpath(path))), "images": len(manifest),
            "patients": len({collection.patients[path] for path in manifest.paths}),
            "classes": [printable(name) for name in manifest.classes], "counts": manifest.counts(), "sources": sources,
            "remark": _given_away(manifest)}


def _given_away(manifest):
    """Return a sentence about the column that tells the labels best, where it tells them at all; or None.

    Whoever answers each word of the column with the label that is more frequent there is right in some share of the
    images: it is pointed out where its interval lies above the share of the more frequent label.
    """
    told, labels = [], manifest.labels
    for name, words in subgroup_columns(manifest).items():
        _, word = np.unique(words, return_inverse=True)
        counts = np.stack([np.bincount(word[labels == label], minlength=word.max() + 1) for label in (0, 1)])
        right = counts.argmax(axis=0)[word] == labels
        value, interval = proportion_interval(right, right | True, patient_clusters(manifest))
        if interval.low is not None and interval.low > max(np.mean(labels), 1 - np.mean(labels)):
            told.append((value, f"The {name} nearly gives the label away: to answer by it alone would be right for "
                                f"{int(right.sum()):,} of {len(right):,} images."))
    return max(told)[1] if told else None


def _parts(trainings, protocol, classes):
    """Return {part: {"seeds": descriptions, "mean": description over the seeds}} of a protocol."""
    of_seeds = [training for name, training in trainings.items() if name.rpartition("-")[0] == protocol]
    parts = {}
    for part in of_seeds[0].metrics:
        described = [training.metrics[part] for training in of_seeds]
        answers = [training.answers[part] for training in of_seeds]
        counts = np.mean([np.bincount(one.labels, minlength=len(classes)) for one in answers], axis=0)
        mean = over_seeds(answers, described, known=part == "training")
        mean["counts"] = {printable(name): round(count) for name, count in zip(classes, counts)}
        parts[part] = {"seeds": described, "mean": mean}
    return parts


def _unseen(number, fold, trainings):
    told = {"name": fold.name, "source": printable(fold.source), "shows": list(fold.shows),
            "training": len(fold.training), "test": len(fold.test), "left_out": fold.left_out, "reason": fold.reason}
    training = trainings.get(f"unseen-{number}")
    return told | {"recipes": {"paper": None if training is None else training.metrics["test"]}}


def shortcut_checks(training):
    """Return {part: ShortcutCheck}: the shortcut check of a network on its test part and on the external set."""
    return {part: check_shortcuts(training.model, source, patients=training.answers[part].patients.astype(str))
            for part, source in sources_of(training).items()}


def sources_of(training):
    """Return {part: source} of the images that a network was not trained on and not chosen by."""
    sources = {"test": training.result.sources["test"]}
    if training.external is not None:
        sources["external"] = training.external
    return sources


def _where_it_looks(training):
    """Return where Grad-CAM says that a network looks, and whether its maps depend on what it has learnt."""
    source = training.result.sources["test"]
    chosen = np.linspace(0, len(source) - 1, min(_MOST_EXPLAINED, len(source))).astype(int)
    pictures = source.batch(chosen)
    explained = explain(training.model, pictures)
    known = [share for share in explained.border_shares if share is not None]
    return {"sanity": {"layer": explained.layer, "pictures": len(chosen), "maps": len(known),
                       "border_share": float(np.mean(known)) if known else None, "even_share": explained.even_share,
                       "border_check": border_check(training.model, source)._asdict(),
                       "rows": [{"layer": row.layer, "correlation": row.correlation, "strength": row.strength}
                                for row in parameter_randomization(training.model, pictures[:16],
                                                                   layer=explained.layer)]}}


def surest_mistakes(training):
    """Return the mistakes that a network was surest of, on images it was neither trained on nor chosen by."""
    found = []
    for part, source in sources_of(training).items():
        answers = training.answers[part]
        wrong = np.flatnonzero((answers.probabilities > 0.5) != (answers.labels == 1))
        found += [(abs(answers.probabilities[i] - 0.5), part, int(i)) for i in wrong]
    found = sorted(found, key=lambda one: (-one[0], one[1:]))[:_MOST_MISTAKES]
    return [_mistake(training, part, number) for _, part, number in found]


def _mistake(training, part, number):
    answers, source = training.answers[part], sources_of(training)[part]
    sources = source.manifest.sources
    p = float(answers.probabilities[number])
    explained = explain(training.model, source.batch(np.array([number])))
    classes = [printable(name) for name in source.classes]
    return {"path": printable(source.names[number]), "number": number, "label": classes[answers.labels[number]],
            "prediction": classes[int(p > 0.5)], "probability": max(p, 1 - p), "part": part, "seed": 0,
            "source": "" if sources is None else printable(sources[number]),
            "border_share": explained.border_shares[0]}
