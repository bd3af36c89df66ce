"""Plots of the report: sample images, learning curves of seeds, ROC and precision-recall, confusion matrices, errors.

Those of a single run are in plotting/run.py, those of the network in plotting/network.py, the main one in
forest_plots.py. All are 16 cm wide; an undefined value leaves a gap with a word in it.
"""

import textwrap
from dataclasses import replace

import numpy as np

from minicnn import metrics
from minicnn.core.text import percent, shortened, span
from minicnn.errors import InputError, ShapeError, printable
from minicnn.evaluation import intervals
from minicnn.metrics.curves import roc as roc_curve
from minicnn.plotting import network, style
from minicnn.plotting.explanation import blended, images_of, method_name, overlay
from minicnn.plotting.style import INK, QUIET
from minicnn.reporting import plots
from minicnn.reporting.document import Plot, Series, Tile, Tiles

__all__ = ["samples_of_both", "curves_of_seeds", "roc_and_precision", "roc_and_precision_panels",
           "precision_recall", "confusions", "worst_errors", "worst_error_tiles", "tiles_of", "architecture_tiles"]

_DPI, _WIDTH, _SIZE = 160, 6.4, 9


def samples_of_both(images, classes, path):
    """Draw the images of each class in a row (Fig 2 of the paper).

    Parameters
    ----------
    images : sequence of ndarrays, one for each class: (n, H, W), (n, H, W, 1) or (n, H, W, 3), uint8 or floats in
        [0, 1]; a class may have none
    classes : sequence of names, as many
    path : str or Path; a PNG file

    Raises
    ------
    InputError : another number of classes; no image at all
    """
    if len(images) != len(classes):
        raise InputError(f"images: expected those of each of the {len(classes)} classes, got {len(images)}.")
    columns = max((len(one) for one in images), default=0)
    if not columns:
        raise InputError("images: expected at least one image of one class, got none.")
    across = max(columns, 4)
    figure = style.new_figure(_WIDTH, (_WIDTH / across + 0.32) * len(classes), _DPI)
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.04)
    for axes, of_class, name in zip(figure.subplots(len(classes), across, squeeze=False), images, classes):
        shown = style.as_pictures(of_class) if len(of_class) else ()
        axes[0].set_title(shortened(name, 60) + ("" if len(shown) else ": no image"), loc="left", fontsize=_SIZE + 1,
                          color=INK, parse_math=False)
        for ax, image in zip(axes, shown):
            style.show(ax, image)
        for ax in axes[len(shown):]:
            ax.set(xticks=[], yticks=[], frame_on=False)
    style.save(figure, path)


def curves_of_seeds(histories, path):
    """Draw loss and accuracy by epoch (Figs 7 and 8): each seed as a thin line, their mean as a thick one.

    Parameters
    ----------
    histories : list of histories, one for each seed; see plotting.run.curves
    path : str or Path; a PNG file

    Raises
    ------
    InputError : no epoch
    """
    histories = [history for history in histories if len(history)]
    if not histories:
        raise InputError("histories: expected at least one epoch, got none.")
    figure = style.new_figure(_WIDTH, 2.85, _DPI)
    panels = figure.subplots(1, 2)
    for ax, key in zip(panels, ("loss", "accuracy")):
        style.quiet(ax, key)
        style.draw_epochs(ax, histories, key)
    style.legend_below(figure, max(panels, key=lambda ax: len(ax.get_legend_handles_labels()[1])), ncols=2)
    style.save(figure, path)


def roc_and_precision(curves, path):
    """Draw ROC and precision-recall curves side by side, with their areas (AUC, AP: average precision) and chance.

    Parameters
    ----------
    curves : {name: [(labels, probabilities) of each seed]}, one to six names; as for `metrics.binary_metrics`. Without
        both labels there is no curve, and the legend says so
    path : str or Path; a PNG file
    """
    style.check_count(curves, "names")
    figure = style.new_figure(_WIDTH, 3.35 + 0.2 * len(curves), _DPI)
    left, right = figure.subplots(1, 2)
    for ax, title, x, y in ((left, "ROC", "1 - specificity", "recall"),
                            (right, "Precision and recall", "recall", "precision")):
        style.quiet(ax, title)
        ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal", xticks=np.arange(0, 1.1, 0.25),
               yticks=np.arange(0, 1.1, 0.25))
        style.axis_labels(ax, x, y, _SIZE)
    left.plot([0, 1], [0, 1], color="#BBBBBB", linewidth=1, label="chance", zorder=1)
    for (name, seeds), colour, dashes in zip(curves.items(), style.COLOURS, style.LINE_STYLES):
        line = dict(color=colour, linestyle=dashes, linewidth=1.5 if len(seeds) == 1 else 1.1, clip_on=False,
                    alpha=1.0 if len(seeds) == 1 else 0.75)
        for labels, p in seeds:
            if metrics.auc(labels, p) is not None:
                left.plot(*roc_curve(labels, p), **line)
                recall, precision = precision_recall(labels, p)
                right.step(recall, precision, where="pre", **line)
                right.axhline(np.mean(np.asarray(labels) == 1), color=colour, linewidth=0.9, alpha=0.3, zorder=1)
        left.plot([], [], **line | {"clip_on": True}, label=f"{shortened(name, 30)}: {_areas(seeds)}")
    style.legend_below(figure, left)
    style.save(figure, path)


def roc_and_precision_panels(curves):
    """Return the same as panels of the page (reporting/document.py)."""
    names = {name: f"{name}: {_areas(seeds)}" for name, seeds in curves.items()}
    defined = {name: [seed for seed in seeds if metrics.auc(*seed) is not None] for name, seeds in curves.items()}
    right = []
    for tone, (name, seeds) in enumerate(defined.items()):
        for seed in seeds:
            recall, precision = precision_recall(*seed)
            steps = np.stack([np.repeat(recall, 2)[:-1], np.repeat(precision, 2)[1:]], axis=1)
            right.append(Series(names[name], steps.tolist(), tone))
    return [plots.roc({names[name]: [roc_curve(*seed) for seed in seeds] for name, seeds in defined.items()}),
            Plot("Precision and recall", "recall", "precision", right)]


def precision_recall(labels, probabilities):
    """Return (recall, precision) at each threshold, from the highest; the first point has recall 0 and its precision.

    Between two points the curve is a step: the area below it is the average precision.

    Parameters
    ----------
    labels, probabilities : as for `metrics.curves.roc`

    >>> recall, precision = precision_recall([1, 0, 1], [0.9, 0.5, 0.3])
    >>> recall.tolist(), precision.round(2).tolist()
    ([0.0, 0.5, 0.5, 1.0], [1.0, 1.0, 0.5, 0.67])
    """
    false, true = roc_curve(labels, probabilities)
    positives = int((np.asarray(labels).reshape(-1) == 1).sum())
    hits, wrong = true[1:] * positives, false[1:] * (np.size(labels) - positives)
    precision = hits / (hits + wrong)
    return true, np.concatenate([precision[:1], precision])


def confusions(matrices, classes, path):
    """Draw confusion matrices side by side, at most three in a row.

    Parameters
    ----------
    matrices : {name: array-like (k, k)}, see plotting.run.confusion_matrix
    classes : sequence of k names
    path : str or Path; a PNG file

    Raises
    ------
    InputError, ShapeError : none; not square, or of another number of classes
    """
    if not matrices:
        raise InputError("matrices: expected at least one confusion matrix, got none.")
    for name, matrix in matrices.items():
        if np.shape(matrix) != (len(classes),) * 2:
            raise ShapeError(f"matrices: expected shape {(len(classes),) * 2} of {printable(name)!r}, got "
                             f"{np.shape(matrix)}.")
    columns = 2 if len(matrices) == 4 else min(3, len(matrices))
    rows = -(-len(matrices) // columns)
    side = _WIDTH / 3
    figure = style.new_figure(max(side * columns, 3.2), (side + 0.45) * rows + 0.2, _DPI)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, (name, matrix) in zip(axes, matrices.items()):
        style.draw_matrix(ax, np.asarray(matrix), classes)
        ax.set_title("\n".join(textwrap.wrap(shortened(name, 44), 22)) + "\n" + ax.get_title(loc="left"), loc="left",
                     fontsize=_SIZE, color=INK, parse_math=False)
        ax.set_xlabel("predicted", fontsize=_SIZE, color=QUIET)
        ax.tick_params(labelsize=_SIZE - 1)
    for ax in axes[len(matrices):]:
        ax.set_axis_off()
    figure.supxlabel("Percent: of each true class.", x=0.012, ha="left", fontsize=_SIZE - 1, color=QUIET)
    style.save(figure, path)


def worst_errors(images, explained, rows, path):
    """Draw the errors with the highest probability, each with its explanation as an overlay.

    Parameters
    ----------
    images : ndarray, shape (N, H, W, C), as input to the network
    explained : Explanation of the N predictions; None where there is no error
    rows : list of N dict: label, prediction, probability (of the prediction); part, seed, source where known
    path : str or Path; a PNG file

    Raises
    ------
    ShapeError, InputError : the numbers of images, maps and rows differ
    """
    n = len(rows)
    if not n:
        figure = style.new_figure(_WIDTH, 0.9, _DPI)
        ax = figure.subplots()
        ax.set_axis_off()
        style.say(ax, "No errors.")
        return style.save(figure, path)
    images = images_of(images, explained)
    if len(images) != n:
        raise InputError(f"rows: expected {len(images)}, one for each image, got {n}.")
    figure = style.new_figure(_WIDTH, 1.72 * -(-n // 3) + 0.45, _DPI)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.03, wspace=0.0)
    title = (f"Each error as input to the network, and with {method_name(explained)} of the prediction as an overlay. "
             "The dashed line marks the border; below: the share of the map that lies there.")
    style.heading(figure, "\n".join(textwrap.wrap(title, 90)), _SIZE)
    axes = style.panels(figure, 2 * n, 6)
    for k, row in enumerate(rows):
        style.show(axes[2 * k], images[k])
        overlay(axes[2 * k + 1], images[k], explained.maps[k])
        _write(axes[2 * k], row, explained.border_shares[k])
    style.save(figure, path)


def worst_error_tiles(images, explained, rows):
    """Return the same as pictures of the page (reporting/document.py)."""
    tiles = []
    for image, heat, share, row in zip(images_of(images, explained), explained.maps, explained.border_shares, rows):
        tiles.append(Tile((plots.png(image), plots.png(blended(image, heat))), f"true: {row['label']}",
                          (f"predicted: {row['prediction']} {row['probability']:.3f}", *_origin(row, share)),
                          framed=True))
    return [Tiles("", tiles)]


def tiles_of(figure):
    """Return a figure of plotting/network.py as pictures and numbers of the page (reporting/document.py)."""
    found = []
    for part in figure.subfigs or [figure]:
        tiles, maps = [], []
        for ax in part.axes:
            frames = [patch for patch in ax.patches if not patch.get_fill()] if ax.images else []
            if ax.images:
                image = ax.images[0]
                (H, W), (x, y) = image.get_array().shape[:2], frames[0].get_xy() if frames else (0, 0)
                box = (100 * (x + 0.5) / W, 100 * (y + 0.5) / H, 100 * frames[0].get_width() / W,
                       100 * frames[0].get_height() / H) if frames else ()
                colours = image.to_rgba(image.get_array())[..., :3]
                picture = plots.png(np.kron(colours, np.ones((-(-64 // H), -(-64 // W), 1))))      # pixels stay squares
                if ax.get_title():
                    tiles.append(Tile((picture,), ax.get_title(), frame=box))
                else:                   # the map of a filter: each stands beside it
                    maps.append(picture)
            elif ax.texts:
                columns = int(round(ax.get_xlim()[1]))
                cells = [(text.get_text(), patch.get_facecolor()[:3] != (1, 1, 1))
                         for text, patch in zip(ax.texts, ax.patches)]
                tiles.append(Tile(title=ax.get_title(), numbers=tuple(
                    tuple(cells[k:k + columns]) for k in range(0, len(cells), columns))))
        tiles = [replace(tile, pictures=tile.pictures + (one,)) for tile, one in zip(tiles, maps)] if maps else tiles
        found.append(Tiles(*(" ".join(text.split()) if isinstance(text, str) else text
                             for text in (part.get_suptitle(), tiles, part.get_supxlabel()))))
    return found


def architecture_tiles(model):
    """Return the layers of a network in order, with their output shapes and parameters, for the page."""
    blocks = network.blocks_of(model)
    return [Tiles(network.total_of(blocks), [
        Tile(title=" ".join(block["lines"]), lines=(
            " x ".join(map(str, block["shape"])),
            "" if block["parameters"] is None else f"{block['parameters']:,} parameters")) for block in blocks])]


# ---- Panels ----------------------------------------------------------------------------------------------------------

def _write(ax, row, share):
    """Write label and prediction above an error, and its origin below."""
    ax.set_title(f"true: {shortened(row['label'], 24)}\n"
                 f"predicted: {shortened(row['prediction'], 16)} {row['probability']:.3f}", loc="left",
                 fontsize=_SIZE - 2, color=INK, parse_math=False)
    ax.set_xlabel("\n".join(_origin(row, share)), loc="left", fontsize=_SIZE - 2.5, color=QUIET, parse_math=False)


def _origin(row, share):
    """Return where an error comes from, and the share of its map on the border."""
    where = [shortened(row[key], 16) for key in ("part", "source") if row.get(key)]
    where += [f"seed {row['seed']}"] if row.get("seed") is not None else []
    return ", ".join(where), "no map" if share is None else f"border {percent(share, 0)}"


def _areas(seeds):
    """Return the areas under both curves, means over seeds with their range, or why there are none."""
    defined = [seed for seed in seeds if metrics.auc(*seed) is not None]
    if not defined:
        return f"undefined, {'all samples have the same label' if seeds else 'not measured'}"
    areas, precisions = ([area(*seed) for seed in defined] for area in (metrics.auc, intervals.average_precision))
    return f"AUC {_mean(areas)}, AP {_mean(precisions)}"


def _mean(values):
    """Return a mean as text, with the range of several values."""
    mean = f"{np.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({span((min(values), max(values)), '{:.3f}')})"
