"""All plots of a study: the figures of the paper, and further ones. One PNG file each, in figures/."""

import numpy as np

from minicnn import metrics
from minicnn.data.augmentation import Augmentation
from minicnn.evaluation.calibration import reliability_curve
from minicnn.evaluation.explanation.gradcam import explain
from minicnn.evaluation.shortcut_test import examples
from minicnn.plotting import explanation, network, run, style
from minicnn.study import forest_plots, result_plots
from minicnn.study.results import held_out_datasets, trainings_of

__all__ = ["draw"]

_SAMPLES = 8                # of each class, and of each technique of augmentation
_SETS = {"paper's protocol, validation": ("paper", "validation"), "honest protocol, test": ("honest", "test"),
         "honest protocol, external": ("honest", "external")}


def draw(found, collection, trainings, checks, folder):
    """Draw everything into folder/figures; return {key: path relative to the folder}, of what could be drawn. The
    remarks of `found` receive a sentence on the rest.

    Parameters
    ----------
    found : dict of results.gather
    collection, trainings : see trainings.py
    checks : {set: ShortcutCheck}, of results.shortcut_checks
    folder : Path
    """
    (folder / "figures").mkdir(mode=0o700, exist_ok=True)
    drawn, failures = {}, {}

    def plot(key, function, *given, **options):
        if style.attempt(failures, key, function, *given, folder / "figures" / f"{key}.png", **options):
            drawn[key] = f"figures/{key}.png"

    first, images, answers = trainings["honest-0"], collection.manifest.open(), _answers(trainings)
    chosen = [_spread(np.flatnonzero(images.labels == label)) for label in (0, 1)]
    example = images.batch(chosen[1][:1])[0]
    plot("headline", forest_plots.forest_plot, forest_plots.headline_rows(found))
    plot("samples", result_plots.samples_of_both, [images.batch(rows) for rows in chosen], images.classes)
    plot("convolution", network.convolution, first.model, example)
    plot("pooling", network.pooling, first.model, example)
    plot("architecture", network.architecture, first.model)
    for protocol in ("paper", "honest"):
        plot(f"curves_{protocol}", result_plots.curves_of_seeds,
             [training.history for training in trainings_of(trainings, protocol)])
    plot("roc_pr", result_plots.roc_and_precision,
         {name: [(one.labels, one.probabilities) for one in seeds] for name, seeds in answers.items()})
    plot("reliability", run.reliability, _reliability(answers))
    plot("confusions", result_plots.confusions,
         {name: sum(metrics.confusion(one.labels, (one.probabilities > 0.5).astype(int), 2) for one in seeds)
          for name, seeds in answers.items()}, images.classes)
    if rows := forest_plots.source_rows(found):
        plot("sources", forest_plots.forest_plot, rows, metrics=forest_plots.SOURCE_METRICS)
    plot("stress", explanation.shortcut_check, checks, examples(example))
    plot("worst", result_plots.worst_errors, *_errors(found, first))
    plot("augmentation", run.augmentation_sheet,
         collection.manifest.pixels.read(np.concatenate([rows[:_SAMPLES // 2] for rows in chosen])),
         augmentation=Augmentation.paper())
    found["remarks"] += style.not_drawn(failures)
    return drawn


def _spread(rows):
    return rows[np.linspace(0, len(rows) - 1, min(_SAMPLES, len(rows))).astype(int)]


def _answers(trainings):
    """Return {name: [Answers of each seed]} of the sets that the plots compare."""
    found = {name: [training.answers[key] for training in trainings_of(trainings, protocol) if key in training.answers]
             for name, (protocol, key) in _SETS.items()}
    return {name: seeds for name, seeds in found.items() if seeds}


def _reliability(answers):
    """Return {name: points of the reliability curve}, of all seeds pooled."""
    return {name if len(seeds) == 1 else f"{name}, {len(seeds)} seeds":
            reliability_curve(*(np.concatenate([getattr(one, key) for one in seeds])
                                for key in ("labels", "probabilities", "patients")))
            for name, seeds in answers.items()}


def _errors(found, training):
    """Return (images, explanation, rows) of the worst errors."""
    rows, datasets = found["worst"], held_out_datasets(training)
    if not rows:
        return None, None, []
    images = np.concatenate([datasets[row["part"]].batch(np.array([row["number"]])) for row in rows])
    return images, explain(training.model, images), rows
