"""The plots of a run: learning curves, ROC and reliability of each set, confusion matrix and samples of the last."""

import numpy as np

from minicnn import metrics

__all__ = ["PLOTS", "draw"]

# The caption of each.
PLOTS = {"curves.png": "Loss and accuracy by epoch", "roc.png": "ROC curves; of three or more classes, each against the rest",
         "reliability.png": "Reliability: the share of positives among the images with a probability",
         "confusion.png": "Confusion matrix of the last set",
         "samples.png": "Images of the last set with the network's predictions"}


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
    from minicnn.plotting import run, style

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
    if p.shape[1] == 1:
        curves = {name: (*metrics.roc(datasets[name].labels, outputs[name][:, 0]), summary["auc"])
                  for name, summary in summaries.items() if summary["auc"] is not None}
    else:
        curves = {f"{last}, {name}": (*metrics.roc(dataset.labels == c, p[:, c]), one["auc"])
                  for c, (name, one) in enumerate(summaries[last]["per_class"].items()) if one["auc"] is not None}
    if curves:
        plot("roc.png", run.roc, curves)
    if p.shape[1] == 1:
        plot("reliability.png", run.reliability, {name: one["reliability"] for name, one in summaries.items()})
    # Versions of one image follow one another: take the samples from the whole length.
    chosen = np.linspace(0, len(dataset) - 1, min(24, len(dataset))).astype(int)
    plot("samples.png", run.sample_grid, dataset.batch(chosen), dataset.labels[chosen], predicted[chosen], p[chosen],
         classes)
    if notes is not None and failures:
        notes += ["", *style.not_drawn(failures)]
    return [folder / name for name in PLOTS if name in drawn]
