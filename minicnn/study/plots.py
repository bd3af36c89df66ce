"""What a study draws: the figures of the paper, and those that it should have had. One PNG file each, in figures/."""

import numpy as np

from minicnn import metrics
from minicnn.data.augmentation import Augmentation
from minicnn.evaluation.explanation.gradcam import explain
from minicnn.evaluation.shortcut_test import examples
from minicnn.plotting import explanation, network, run
from minicnn.study import forest_plots, result_plots
from minicnn.study.results import sources_of

__all__ = ["draw"]

_SAMPLES = 8                # of each class; and of each technique of augmentation


def draw(found, collection, trainings, checks, folder):
    """Draw everything into folder/figures; return {key: path relative to the folder}.

    Parameters
    ----------
    found : dict of results.gather
    collection, trainings : see reproduction.py
    checks : {part: ShortcutCheck}, of results.shortcut_checks
    folder : Path
    """
    (folder / "figures").mkdir(mode=0o700, exist_ok=True)
    first, pictures, drawn = trainings["honest-0"], collection.manifest.open(), {}
    chosen = [_spread(np.flatnonzero(pictures.labels == label)) for label in (0, 1)]
    example = pictures.batch(chosen[1][:1])[0]
    for key, function, *given in (
            ("headline", forest_plots.headline, forest_plots.headline_rows(found)),
            ("samples", result_plots.samples_of_both, [pictures.batch(rows) for rows in chosen], pictures.classes),
            ("convolution", network.convolution, first.model, example),
            ("pooling", network.pooling, first.model, example),
            ("architecture", network.architecture, first.model),
            *((f"curves_{protocol}", result_plots.curves_of_seeds, {"": _histories(trainings, protocol)})
              for protocol in ("paper", "honest")),
            ("roc_pr", result_plots.roc_and_precision, _curves(trainings)),
            ("reliability", result_plots.reliability, _reliability(trainings)),
            ("confusions", result_plots.confusions, _confusions(trainings), pictures.classes),
            *((("sources", forest_plots.sources, rows),) if (rows := forest_plots.source_rows(found)) else ()),
            ("stress", explanation.shortcut_check, checks, examples(example)),
            ("worst", result_plots.worst_errors, *_mistakes(found, first))):
        path = f"figures/{key}.png"
        function(*given, folder / path)
        drawn[key] = path
    drawn["augmentation"] = "figures/augmentation.png"
    grey = collection.manifest.pixels.read(np.concatenate([rows[:_SAMPLES // 2] for rows in chosen]))
    run.augmentation_sheet(grey, folder / drawn["augmentation"], Augmentation.paper())
    return drawn


def _spread(rows):
    return rows[np.linspace(0, len(rows) - 1, min(_SAMPLES, len(rows))).astype(int)]


def _of(trainings, protocol):
    return [training for name, training in trainings.items() if name.rpartition("-")[0] == protocol]


def _histories(trainings, protocol):
    return [training.history for training in _of(trainings, protocol)]


_SETS = {"paper's protocol, validation": ("paper", "validation"), "honest protocol, test": ("honest", "test"),
         "honest protocol, external": ("honest", "external")}


def _curves(trainings):
    """Return {name: [(labels, probabilities) of each seed]} of the sets that count."""
    curves = {name: [(training.answers[part].labels, training.answers[part].probabilities)
                     for training in _of(trainings, protocol) if part in training.answers]
              for name, (protocol, part) in _SETS.items()}
    return {name: seeds for name, seeds in curves.items() if seeds}


def _reliability(trainings):
    """Return {name: (labels, probabilities, patients)}, the answers of all seeds together."""
    curves = {}
    for name, (protocol, part) in _SETS.items():
        answers = [training.answers[part] for training in _of(trainings, protocol) if part in training.answers]
        if answers:
            title = name if len(answers) == 1 else f"{name}, {len(answers)} seeds"
            curves[title] = tuple(np.concatenate([getattr(one, key) for one in answers])
                                 for key in ("labels", "probabilities", "patients"))
    return curves


def _confusions(trainings):
    """Return {name: matrix}, the answers of all seeds together."""
    return {name: sum(metrics.confusion(labels, (p > 0.5).astype(int), 2) for labels, p in seeds)
            for name, seeds in _curves(trainings).items()}


def _mistakes(found, training):
    """Return (pictures, explanation, rows) of the surest mistakes."""
    rows, sources = found["worst"], sources_of(training)
    if not rows:
        return None, None, []
    pictures = np.concatenate([sources[row["part"]].batch(np.array([row["number"]])) for row in rows])
    return pictures, explain(training.model, pictures), rows
