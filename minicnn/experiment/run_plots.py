"""The plots of a run: learning curves, ROC and reliability of each set, confusion matrix and samples of the last."""

import numpy as np

from minicnn import metrics
from minicnn.core.untrusted import read_table
from minicnn.metrics.curves import roc as roc_curve
from minicnn.plotting import style
from minicnn.reporting import plots as page_plots
from minicnn.reporting.document import Tile, Tiles

__all__ = ["PLOTS", "draw", "drawings", "read_answers", "read_history"]

# The caption of each.
PLOTS = {"curves.png": "Loss and accuracy by epoch",
         "roc.png": "ROC curves with their AUC, of three or more classes each against the rest; the thin line is "
         "chance",
         "reliability.png": "Reliability: the share of positives among the images with a probability, with 95 % "
         "intervals; bars: how many images have it. A calibrated network lies on the diagonal.",
         "confusion.png": "Confusion matrix of the last set, with percent of each true class",
         "samples.png": "Images of the last set; above: the true class; below: the predicted class and its probability"}


def draw(folder, classes, datasets, outputs, summaries, history=(), notes=None):
    """Draw the plots of a network's outputs; return the paths of those that could be drawn. The last set is the one
    that is shown in detail.

    Parameters
    ----------
    folder : Path
    classes : names in order
    datasets, outputs, summaries : {set: ImageDataset}, {set: ndarray (n, k)}, {set: summary}
    history : list of dict, one for each epoch; empty without training
    notes : list that receives a sentence on those that could not, optional
    """
    from minicnn.plotting import run

    failures, drawn = {}, set()

    def plot(name, function, *given):
        if style.attempt(failures, name, function, *given, folder / name):
            drawn.add(name)

    last = list(datasets)[-1]
    dataset, p = datasets[last], outputs[last]
    predicted = (p[:, 0] > 0.5).astype(int) if p.shape[1] == 1 else p.argmax(axis=1)
    if len(history):
        plot("curves.png", run.curves, history)
    plot("confusion.png", run.confusion_matrix, metrics.confusion(dataset.labels, predicted, len(classes)), classes)
    curves = _roc(classes, summaries, {name: (datasets[name].labels, outputs[name]) for name in summaries})
    if curves:
        plot("roc.png", run.roc, curves)
    if p.shape[1] == 1:
        plot("reliability.png", run.reliability, {name: one["reliability"] for name, one in summaries.items()})
    chosen = _chosen(len(dataset))
    plot("samples.png", run.sample_grid, dataset.batch(chosen), dataset.labels[chosen], predicted[chosen], p[chosen],
         classes)
    if notes is not None and failures:
        notes += ["", *style.not_drawn(failures)]
    return [folder / name for name in PLOTS if name in drawn]


def drawings(classes, summaries, answers, history=(), dataset=None):
    """Return {name of PLOTS: what a page draws in its place} (reporting/document.py), of what is known.

    Parameters
    ----------
    classes, summaries, history : as for `draw`
    answers : {set: (labels, outputs (n, 1 or k))}; a set may be missing
    dataset : ImageDataset of the last set, optional
    """
    found, last = {}, list(summaries)[-1]
    if len(history):
        found["curves.png"] = page_plots.learning_curves([history])
    if curves := _roc(classes, summaries, answers):
        found["roc.png"] = [page_plots.roc({f"{name}: AUC {area:.3f}": [(x, y)]
                                            for name, (x, y, area) in curves.items()})]
    if any(one.get("reliability") for one in summaries.values()):
        found["reliability.png"] = page_plots.reliability({name: one.get("reliability", [])
                                                           for name, one in summaries.items()})
    if dataset is not None and last in answers:
        found["samples.png"] = _samples(classes, dataset, answers[last][1])
    return found


def _roc(classes, summaries, answers):
    """Return {name: (false positive rates, true positive rates, AUC)}: of each set, or of each class of the last."""
    last = list(summaries)[-1]
    if len(classes) == 2:
        return {name: (*roc_curve(labels, p[:, -1]), summaries[name]["auc"]) for name, (labels, p) in answers.items()
                if name in summaries and summaries[name]["auc"] is not None}
    each = summaries[last].get("per_class", {}) if last in answers else {}
    return {f"{last}, {name}": (*roc_curve(answers[last][0] == c, answers[last][1][:, c]), one["auc"])
            for c, (name, one) in enumerate(each.items()) if one["auc"] is not None}


def _chosen(n):
    """Return up to 24 rows of n: versions of one image follow one another, so they are taken from the whole length."""
    return np.linspace(0, n - 1, min(24, n)).astype(int)


def _samples(classes, dataset, outputs):
    rows = _chosen(len(dataset))
    p = np.concatenate([1 - outputs, outputs], axis=1) if outputs.shape[1] == 1 else outputs
    tiles = []
    for image, label, of_classes in zip(dataset.batch(rows), dataset.labels[rows], p[rows]):
        predicted = int(of_classes.argmax())
        wrong = bool(predicted != label)
        tiles.append(Tile((page_plots.png(image),), classes[label],
                          (f"{classes[predicted]} {of_classes[predicted]:.2f}{', wrong' * wrong}",), marked=wrong))
    return [Tiles("", tiles)]


# ---- What a run keeps ------------------------------------------------------------------------------------------------

def read_answers(run, classes):
    """Return the answers, see `drawings`, of predictions.csv in the folder of a run; {} where it does not have them."""
    columns = ["probability"] if len(classes) == 2 else [f"p_{name}" for name in classes]
    found = {}
    try:
        for row in read_table(run / "predictions.csv", ("part", "label", *columns), "surrogateescape"):
            found.setdefault(row["part"], []).append([list(classes).index(row["label"]),
                                                      *(float(row[name]) for name in columns)])
    except (OSError, ValueError):
        return {}
    tables = {name: np.array(rows) for name, rows in found.items()}
    return {name: (table[:, 0].astype(int), table[:, 1:]) for name, table in tables.items() if np.isfinite(table).all()}


def read_history(run):
    """Return history.csv in the folder of a run as a list of dict, one for each epoch; [] where there is none."""
    try:
        return [{name: float(value) if value else None for name, value in row.items()}
                for row in read_table(run / "history.csv", ("epoch",))]
    except (OSError, ValueError):
        return []
