"""All plots of a study: the figures of the paper, and further ones. One PNG file each, in figures/; and what the page
draws in their place."""

import numpy as np

from minicnn import metrics
from minicnn.data.augmentation import Augmentation
from minicnn.evaluation.calibration import reliability_curve
from minicnn.evaluation.explanation.gradcam import explain
from minicnn.evaluation.shortcut_test import examples
from minicnn.plotting import explanation, network, run, style
from minicnn.reporting import plots as page_plots
from minicnn.reporting.document import Tile, Tiles
from minicnn.study import forest_plots, result_plots
from minicnn.study.results import held_out_datasets, trainings_of

__all__ = ["draw"]

_SAMPLES = 8                # of each class, and of each technique of augmentation
_SETS = {"paper's protocol, validation": ("paper", "validation"), "honest protocol, test": ("honest", "test"),
         "honest protocol, external": ("honest", "external")}


def draw(found, collection, trainings, checks, folder):
    """Draw everything into folder/figures. The remarks of `found` receive a sentence on what could not be drawn.

    Parameters
    ----------
    found : dict of results.gather
    collection, trainings : see trainings.py
    checks : {set: ShortcutCheck}, of results.shortcut_checks
    folder : Path

    Returns
    -------
    ({key: path relative to the folder}, {key: drawing of the page, a list (reporting/document.py)})
    """
    (folder / "figures").mkdir(mode=0o700, exist_ok=True)
    drawn, drawings, failures = {}, {}, {}

    def plot(key, function, *given, page=None, **options):
        if style.attempt(failures, key, function, *given, folder / "figures" / f"{key}.png", **options):
            drawn[key] = f"figures/{key}.png"
        if page is not None:
            style.attempt(failures, key, lambda: drawings.update({key: page()}))

    first, answers = trainings["honest-0"], _answers(trainings)
    images = collection.manifest.open(first.model.preprocessing)
    chosen = [_spread(np.flatnonzero(images.labels == label)) for label in (0, 1)]
    example = images.batch(chosen[1][:1])[0]
    plot("headline", forest_plots.forest_plot, forest_plots.headline_rows(found))
    samples = [images.batch(rows) for rows in chosen]
    plot("samples", result_plots.samples_of_both, samples, images.classes,
         page=lambda: [Tiles(name, _tiles(of_class)) for name, of_class in zip(images.classes, samples)])
    plot("convolution", network.convolution, first.model, example,
         page=lambda: result_plots.tiles_of(network.convolution_figure(first.model, example)))
    plot("pooling", network.pooling, first.model, example,
         page=lambda: result_plots.tiles_of(network.pooling_figure(first.model, example)))
    plot("architecture", network.architecture, first.model, page=lambda: result_plots.architecture_tiles(first.model))
    for protocol in ("paper", "honest"):
        histories = [training.history for training in trainings_of(trainings, protocol)]
        plot(f"curves_{protocol}", result_plots.curves_of_seeds, histories,
             page=lambda: page_plots.learning_curves(histories))
    curves = {name: [(one.labels, one.probabilities) for one in seeds] for name, seeds in answers.items()}
    plot("roc_pr", result_plots.roc_and_precision, curves, page=lambda: result_plots.roc_and_precision_panels(curves))
    points = _reliability(answers)
    plot("reliability", run.reliability, points, page=lambda: page_plots.reliability(points))
    matrices = {name: sum(metrics.confusion(one.labels, (one.probabilities > 0.5).astype(int), 2) for one in seeds)
                for name, seeds in answers.items()}
    plot("confusions", result_plots.confusions, matrices, images.classes,
         page=lambda: page_plots.confusions(matrices, images.classes))
    if rows := forest_plots.source_rows(found):
        plot("sources", forest_plots.forest_plot, rows, metrics=forest_plots.SOURCE_METRICS)
    disturbed = examples(example)
    plot("stress", explanation.shortcut_check, checks, disturbed,
         page=lambda: page_plots.shortcut_check(found["stress"], disturbed))
    errors = _errors(found, first)
    plot("worst", result_plots.worst_errors, *errors,
         page=lambda: result_plots.worst_error_tiles(*errors) if errors[2] else [])
    pixels, augmentation = collection.manifest.pixels.read(np.concatenate([rows[:_SAMPLES // 2] for rows in chosen])), \
        Augmentation.paper()
    plot("augmentation", run.augmentation_sheet, pixels, augmentation=augmentation,
         page=lambda: [Tiles(name.replace("\n", " "), _tiles(images)) for name, images
                       in run.augmented(pixels, augmentation).items()])
    found["remarks"] += style.not_drawn(failures)
    return drawn, drawings


def _tiles(images):
    return [Tile((page_plots.png(image),)) for image in images]


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
