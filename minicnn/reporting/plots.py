"""Numbers and images as drawings of a report (document.py). They take what the PNG plots of `plotting` take."""

import io

import numpy as np
from PIL import Image

from minicnn.core.text import number
from minicnn.errors import printable
from minicnn.plotting import style
from minicnn.reporting.document import Estimate, Forest, Matrix, Plot, Series, Tile, Tiles

__all__ = ["learning_curves", "roc", "reliability", "shortcut_check", "confusions", "png"]


def learning_curves(histories):
    """Return the Plots of loss and accuracy by epoch: each seed as a thin line, their mean as a thick one.

    Parameters
    ----------
    histories : list of histories, one for each seed; see plotting.style.epoch_lines
    """
    panels, epochs = [], [row["epoch"] for history in histories for row in history]
    for key in ("loss", "accuracy"):
        lines = style.epoch_lines(histories, key)
        panels.append(Plot(
            key.capitalize(), "epoch", "",
            [Series(name, list(zip(numbers, values)), i, "thin" if kind == "thin" else "line")
             for name, i, kind, numbers, values in lines],
            (min(epochs, default=1) - 0.5, max(epochs, default=1) + 0.5),
            style.epoch_limits([value for *_, values in lines for value in values], key), percent=key == "accuracy"))
    return panels


def roc(curves):
    """Return the Plot of ROC curves.

    Parameters
    ----------
    curves : {name in the key: [(false positive rates, true positive rates) of each seed]}
    """
    return Plot("ROC", "1 - specificity", "recall",
                [Series(name, list(zip(*map(np.ndarray.tolist, map(np.asarray, line)))), tone)
                 for tone, (name, lines) in enumerate(curves.items()) for line in lines], diagonal=True)


def reliability(curves):
    """Return a Plot for each reliability curve, with its intervals and the number of images in each bin.

    Parameters
    ----------
    curves : {name: points of calibration.reliability_curve}
    """
    return [Plot(name, "predicted probability", "proportion of positives",
                 [Series("", [(row["predicted"], row["observed"]) for row in points], tone, "marks",
                         tuple((row["predicted"], *row["interval"][:2]) for row in points
                               if row.get("interval") and row["interval"][0] is not None))],
                 note=f"{number(sum(row['n'] for row in points))} images" if points
                 else "undefined", diagonal=True,
                 counts=tuple((row["low"], row["high"], row["n"]) for row in points))
            for tone, (name, points) in enumerate(curves.items())]


def shortcut_check(checks, images):
    """Return an image under each condition, and the Forest of the AUC under each.

    Parameters
    ----------
    checks : list of dict, `ShortcutCheck.to_dict` with the name of the set of images
    images : {condition: the image under it}
    """
    def estimate(row):
        if row["auc"] is None:
            return Estimate("undefined")
        low, high = row["interval"] or (None, None)
        pair = "" if low is None else f" ({low:.2f} to {high:.2f})"
        return Estimate(f"{row['auc']:.2f}{pair}", row["auc"], low, high)

    rows = [("", name, "", [estimate(row) for row in of_condition])
            for name, *of_condition in zip(images, *(check["rows"] for check in checks))]
    return [Tiles("", [Tile((png(image),), name) for name, image in images.items()]),
            Forest([check["name"] for check in checks], rows, 0.0, [False] * len(checks))]


def confusions(matrices, classes):
    """Return a Matrix for each of {name: array-like (k, k)}, rows are true classes.

    >>> confusions({"test": [[3, 1], [0, 4]]}, ["normal", "covid"])[0].note
    '7 of 8 correct'
    """
    return [Matrix(name, list(map(printable, classes)), np.asarray(matrix).tolist(),
                   f"{number(int(np.trace(matrix)))} of {number(int(np.sum(matrix)))} correct")
            for name, matrix in matrices.items()]


def png(image):
    """Return an image as the bytes of a PNG file, without metadata.

    Parameters
    ----------
    image : ndarray, shape (H, W), (H, W, 1) or (H, W, 3); uint8, or floats in [0, 1]
    """
    pixels = np.asarray(image)
    pixels = pixels if pixels.dtype == np.uint8 else (np.clip(pixels, 0, 1) * 255).round().astype(np.uint8)
    if pixels.ndim == 3 and (pixels.shape[2] == 1 or (pixels == pixels[..., :1]).all()):
        pixels = pixels[..., 0]             # grey: a third of the bytes
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG", optimize=True)
    return content.getvalue()
