"""The pictures of a run: learning curves, ROC and reliability of each part, confusion matrix and samples of the last."""

import numpy as np

from minicnn import metrics

__all__ = ["PICTURES", "draw"]

# How each reads on a page.
PICTURES = {"curves.png": "Loss and accuracy by epoch", "roc.png": "ROC curve",
            "reliability.png": "Reliability: of the images given a probability, the share that is positive",
            "confusion.png": "Confusion matrix of the last part",
            "samples.png": "Images of the last part with the network's answers"}


def draw(folder, classes, sources, outputs, told, history=()):
    """Draw what there is to draw of a network's answers; return the paths. The last part is the one that counts.

    Parameters
    ----------
    folder : Path
    classes : names in order
    sources, outputs, told : {part: ImageDataset}, {part: ndarray (n, k)}, {part: description}
    history : list of dict, one for each epoch; none where the network was only asked

    Raises
    ------
    MissingExtraError : matplotlib is not installed
    """
    from minicnn.plotting import run

    part = list(sources)[-1]
    source, p = sources[part], outputs[part]
    predicted = (p[:, 0] > 0.5).astype(int) if p.shape[1] == 1 else p.argmax(axis=1)
    if len(history):
        run.curves(history, folder / "curves.png")
    run.confusion_matrix(metrics.confusion(source.labels, predicted, len(classes)), classes,
                             folder / "confusion.png")
    if len(classes) == 2:
        curves = {name: (*metrics.roc(sources[name].labels, outputs[name][:, 0])[:2], told[name]["auc"])
                  for name in sources if told[name]["auc"] is not None}
        if curves:
            run.roc(curves, folder / "roc.png")
        run.reliability({name: one["reliability"] for name, one in told.items()}, folder / "reliability.png")
    # Versions of one image follow one another: take the samples from the whole length.
    chosen = np.linspace(0, len(source) - 1, min(24, len(source))).astype(int)
    run.sample_grid(source.batch(chosen), source.labels[chosen], predicted[chosen], p[chosen], classes,
                        folder / "samples.png")
    return [folder / name for name in PICTURES if (folder / name).exists()]
