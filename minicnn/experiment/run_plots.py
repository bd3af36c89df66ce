"""The plots of a run: learning curves, ROC and reliability of each set, confusion matrix and samples of the last."""

import numpy as np

from minicnn import metrics

__all__ = ["PLOTS", "draw"]

# The caption of each.
PLOTS = {"curves.png": "Loss and accuracy by epoch", "roc.png": "ROC curve",
         "reliability.png": "Reliability: the share of positives among the images with a probability",
         "confusion.png": "Confusion matrix of the last set",
         "samples.png": "Images of the last set with the network's predictions"}


def draw(folder, classes, datasets, outputs, summaries, history=()):
    """Draw the plots of a network's outputs; return their paths. The last set is the one that is shown in detail.

    Parameters
    ----------
    folder : Path
    classes : names in order
    datasets, outputs, summaries : {set: ImageDataset}, {set: ndarray (n, k)}, {set: summary}
    history : list of dict, one for each epoch; empty without training

    Raises
    ------
    MissingExtraError : matplotlib is not installed
    """
    from minicnn.plotting import run

    last = list(datasets)[-1]
    dataset, p = datasets[last], outputs[last]
    predicted = (p[:, 0] > 0.5).astype(int) if p.shape[1] == 1 else p.argmax(axis=1)
    if len(history):
        run.curves(history, folder / "curves.png")
    run.confusion_matrix(metrics.confusion(dataset.labels, predicted, len(classes)), classes, folder / "confusion.png")
    if len(classes) == 2:
        curves = {name: (*metrics.roc(datasets[name].labels, outputs[name][:, 0])[:2], summary["auc"])
                  for name, summary in summaries.items() if summary["auc"] is not None}
        if curves:
            run.roc(curves, folder / "roc.png")
        run.reliability({name: one["reliability"] for name, one in summaries.items()}, folder / "reliability.png")
    # Versions of one image follow one another: take the samples from the whole length.
    chosen = np.linspace(0, len(dataset) - 1, min(24, len(dataset))).astype(int)
    run.sample_grid(dataset.batch(chosen), dataset.labels[chosen], predicted[chosen], p[chosen], classes,
                    folder / "samples.png")
    return [folder / name for name in PLOTS if (folder / name).exists()]
