"""The plots of a run: learning curves, confusion matrix, ROC and reliability curves, sample images, augmentation."""

import textwrap

import numpy as np

from minicnn.core.text import join, shortened
from minicnn.errors import InputError, ShapeError, printable
from minicnn.plotting import style

__all__ = ["curves", "confusion_matrix", "roc", "reliability", "sample_grid", "augmentation_sheet", "augmented"]

_NO_ANATOMY = {"vertical_flip": "no anatomy:\nupside down", "shear": "no anatomy:\nsheared"}
_RARE_ANATOMY = {"horizontal_flip": "mirrored: heart\non the right"}


def curves(history, path):
    """Draw loss and accuracy of the training and validation set by epoch (Figs 7 and 8 of the paper).

    Parameters
    ----------
    history : list of dict, one for each epoch: `epoch`, `loss`, and where known `accuracy`, `val_loss`, `val_accuracy`.
        A value that is missing, None or not finite leaves a gap
    path : str or Path; a PNG file

    Raises
    ------
    InputError : an empty history, or an epoch without `epoch`
    """
    if not len(history):
        raise InputError("history: expected at least one epoch, got none.")
    for i, row in enumerate(history):
        if "epoch" not in row:
            raise InputError(f"history: row {i} has no 'epoch'; it has {', '.join(map(printable, row)) or 'nothing'}.")
    figure = style.new_figure(9.0, 3.6)
    for ax, key, title in zip(figure.subplots(1, 2), ("loss", "accuracy"), ("Loss", "Accuracy")):
        style.quiet(ax, title)
        style.draw_epochs(ax, [history], key)
        if ax.lines:
            style.legend(ax, loc="lower right", bbox_to_anchor=(1.0, 0.99), ncols=2)  # beside the title: hides no line
    style.save(figure, path)


def confusion_matrix(matrix, classes, path):
    """Draw a confusion matrix.

    Parameters
    ----------
    matrix : array-like, shape (k, k), counts; rows are true classes (`metrics.confusion`)
    classes : sequence of k names
    path : str or Path; a PNG file

    Raises
    ------
    ShapeError, InputError : not square, or another number of classes
    """
    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ShapeError(f"matrix: expected shape (k, k), got {matrix.shape}.")
    k = len(matrix)
    if len(classes) != k:
        raise InputError(f"classes: expected {k} names, got {len(classes)}.")
    figure = style.new_figure(1.2 * k + 0.8, 1.2 * k + 1.0)
    style.draw_matrix(figure.subplots(), matrix, classes)
    style.save(figure, path)


def roc(curves, path):
    """Draw ROC curves with their areas.

    Parameters
    ----------
    curves : {name: (false_positive_rates, true_positive_rates, auc)}, the first two from `metrics.curves.roc`
    path : str or Path; a PNG file

    Raises
    ------
    InputError : no curve, or more than six
    """
    style.check_count(curves, "ROC curves")
    figure = style.new_figure(4.6, 4.7)
    ax = figure.subplots()
    style.quiet(ax, "ROC")
    ax.plot([0, 1], [0, 1], color=style.FAINT, linewidth=1.2, zorder=1)
    for (name, (x, y, area)), colour, dashes in zip(curves.items(), style.COLOURS, style.LINE_STYLES):
        ax.plot(x, y, dashes, color=colour, linewidth=1.8, clip_on=False,
                label=f"AUC {area:.3f}  {style.short_name(name)}")
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    style.axis_labels(ax, "false positive rate (1 - specificity)", "true positive rate (recall)")
    style.legend(ax, loc="lower right")
    style.save(figure, path)


def reliability(curves, path):
    """Draw a reliability curve in each panel, and below it the number of images in each bin.

    Parameters
    ----------
    curves : {name: points}, from `evaluation.calibration.reliability_curve`: dicts with low, high, n, predicted,
        observed, and interval, whose first two items are the bounds, or None. A name without points is marked as
        undefined
    path : str or Path; a PNG file

    Raises
    ------
    InputError : no curve, or more than six; labels and probabilities instead of points
    """
    style.check_count(curves, "reliability curves")
    for name, points in curves.items():
        if not all(isinstance(row, dict) and {"low", "high", "n", "predicted", "observed"} <= set(row)
                   for row in points):
            raise InputError(f"curves: expected the points of {printable(name)!r} as "
                             "calibration.reliability_curve(labels, probabilities) returns them.")
    across = min(3, len(curves))
    down = -(-len(curves) // across)
    figure = style.new_figure(max(2.5 * across, 3.2), 3.7 * down, 128)
    axes = figure.subplots(2 * down, across, squeeze=False, sharex=True, height_ratios=[3, 1] * down)
    for i in range(len(curves), across * down):
        for ax in axes[2 * (i // across):2 * (i // across) + 2, i % across]:
            ax.set_axis_off()
    for i, (name, points) in enumerate(curves.items()):
        ax, below = axes[2 * (i // across):2 * (i // across) + 2, i % across]
        total = f"{sum(row['n'] for row in points):,} images" if points else "undefined"
        style.quiet(ax, "\n".join([*textwrap.wrap(shortened(name, 48), 24), total]))
        style.quiet(below, "")
        ax.plot([0, 1], [0, 1], color="#BBBBBB", linewidth=1.2, zorder=1)
        style.draw_points(ax, points, name, i)
        for row in points:
            below.bar((row["low"] + row["high"]) / 2, row["n"], 0.84 * (row["high"] - row["low"]),
                      color=style.COLOURS[i])
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        below.yaxis.get_major_locator().set_params(integer=True, nbins=2)
        below.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        below.tick_params(labelbottom=True)
        style.axis_labels(ax, "", "proportion of positives" * (i % across == 0), style.SIZE - 1)
        style.axis_labels(below, "predicted probability", "images" * (i % across == 0), style.SIZE - 1)
    style.footnote(figure, "Lines: 95 % intervals. Calibrated: on the diagonal.")
    style.save(figure, path)


def sample_grid(images, labels, predicted, probabilities, classes, path):
    """Draw images with their true and predicted classes; errors have a thick orange frame.

    Parameters
    ----------
    images : ndarray, shape (n, H, W), (n, H, W, 1) or (n, H, W, 3), uint8 or float in [0, 1]
    labels, predicted : array-like, shape (n,), whole numbers; the true and the predicted class
    probabilities : array-like, shape (n,), of the second of two classes, or (n, k); shown for the predicted class
    classes : sequence of names
    path : str or Path; a PNG file

    Raises
    ------
    ShapeError, InputError : no images, other lengths, or a class without a name
    """
    images, p = style.as_pictures(images), np.asarray(probabilities, float)
    labels, predicted = np.asarray(labels, int).reshape(-1), np.asarray(predicted, int).reshape(-1)
    n = len(images)
    if p.ndim == 1 or p.shape[1:] == (1,):
        p = np.stack([1 - p.reshape(-1), p.reshape(-1)], axis=1)
    for name, values in (("labels", labels), ("predicted", predicted), ("probabilities", p)):
        if len(values) != n:
            raise ShapeError(f"{name}: expected one for each of the {n} images, got {len(values)}.")
    for name, values in (("labels", labels), ("predicted", predicted)):
        if values.min() < 0 or values.max() >= min(len(classes), p.shape[1]):
            raise InputError(f"{name}: expected classes from 0 to {min(len(classes), p.shape[1]) - 1}, "
                             f"got {values.min()} to {values.max()}.")
    columns = max(4, int(np.ceil(np.sqrt(1.5 * n))))  # four at least: space for the heading
    figure = style.new_figure(1.35 * columns + 0.2, 1.66 * -(-n // columns) + 0.6)
    errors = int((labels != predicted).sum())
    counted = f"{errors} error{'s' * (errors > 1)} (framed)" if errors else "no errors"
    style.heading(figure, f"{n} image{'s' * (n > 1)}, {counted}\nabove: the true class; below: the predicted class and "
                          "its probability", style.SIZE - 0.5)
    small = dict(loc="left", fontsize=style.SIZE - 2, parse_math=False)
    for k, ax in enumerate(style.panels(figure, n, columns)):
        wrong = labels[k] != predicted[k]
        style.show(ax, images[k], style.ORANGE if wrong else None)
        ax.set_title(style.short_name(classes[labels[k]]), color=style.INK, pad=5, **small)
        ax.set_xlabel(f"{style.short_name(classes[predicted[k]])} {p[k, predicted[k]]:.2f}", labelpad=5,
                      color=style.ORANGE if wrong else style.QUIET, fontweight="bold" if wrong else "normal", **small)
    style.save(figure, path)


def augmented(pixels, augmentation, seed=0, epochs=4):
    """Return {name of a row: its images} of an `augmentation_sheet`."""
    from minicnn.data.augmentation import TECHNIQUES

    samples, remarks = np.arange(len(pixels)), _NO_ANATOMY | _RARE_ANATOMY
    if augmentation.one_technique:
        return {name.replace("_", " ") + (f"\n{remarks[name]}" if name in remarks else ""):
                augmentation.apply(pixels, seed, 0, samples, technique=TECHNIQUES.index(name))
                for name in augmentation.techniques}
    rows = {"original": augmentation.none().apply(pixels, seed, 0, samples)}
    return rows | {f"epoch {k + 1}": augmentation.apply(pixels, seed, k, samples) for k in range(epochs)}


def augmentation_sheet(pixels, path, augmentation, seed=0, epochs=4):
    """Draw augmented images: a row for each technique, or for each of `epochs` epochs.

    Parameters
    ----------
    pixels : ndarray, shape (n, H, W) or (n, H, W, 3), uint8; a column each
    path : str or Path; a PNG file
    augmentation : Augmentation; with `one_technique` the rows are its techniques, else the original and `epochs` draws
    seed, epochs : int
    """
    rows = augmented(pixels, augmentation, seed, epochs)
    n = len(pixels)
    figure = style.new_figure(1.1 * n + 1.3, 1.1 * len(rows) + 0.4)
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03)
    for axes, (name, images) in zip(figure.subplots(len(rows), n, squeeze=False), rows.items()):
        for ax, image in zip(axes, style.as_pictures(images)):
            style.show(ax, image)
        axes[0].set_ylabel(name, fontsize=style.SIZE - 1, color=style.ORANGE if "no anatomy" in name else style.INK,
                           rotation=0, ha="right", va="center")
    unreal = [f"a {name.replace('_', ' ')}" for name in _NO_ANATOMY if name in augmentation.techniques]
    if unreal and not augmentation.one_technique:
        style.footnote(figure, f"These changes include {join(unreal)}, which no anatomy shows.", colour=style.ORANGE)
    style.save(figure, path)
