"""The pictures of a run: learning curves, confusion matrix, ROC and reliability curves, sample images, augmentation.

Drawn with matplotlib (extra `app`) on figures of their own: nothing here touches pyplot, the current figure or the
global settings. Files hold no time, host or program name, so equal input gives equal bytes. Colours are those of Okabe
and Ito ("Color universal design", 2008), which stay apart for colour-blind eyes; nothing is told by colour alone.
"""

import io
import warnings

import numpy as np

from minicnn.errors import InputError, MissingExtraError, ShapeError, printable
from minicnn.files import write_whole
from minicnn.interrupts import postponed

__all__ = ["curves", "confusion_matrix", "roc", "reliability", "sample_grid", "augmentation_sheet"]

_BLUE, _ORANGE, _GREEN, _PURPLE, _SKY, _YELLOW = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"
_INK, _QUIET, _FAINT = "#222222", "#666666", "#DDDDDD"
_SIZE, _DPI = 10, 120
_LEGEND = dict(frameon=False, fontsize=_SIZE - 1, labelcolor=_INK, handlelength=2.4)
_COLOURS, _MARKERS = (_BLUE, _ORANGE, _GREEN, _PURPLE, _SKY, _YELLOW), "osD^vP"
_STYLES = "-", "--", "-.", ":", "-", "--"
_LONGEST_NAME = 15
# What a technique makes of a chest that no chest can be; and what few are.
_NO_ANATOMY = {"vertical_flip": "no anatomy:\nupside down", "shear": "no anatomy:\nnobody leans so"}
_RARE_ANATOMY = {"horizontal_flip": "mirrored: heart\non the right"}


def curves(history, path):
    """Draw loss and accuracy of the training and validation set by epoch (Figs 7 and 8 of the paper).

    Parameters
    ----------
    history : list of dict, one for each epoch: `epoch`, `loss`, and where known `accuracy`, `val_loss`, `val_accuracy`.
        What is missing, None or not finite leaves a gap.
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
    epochs = [row["epoch"] for row in history]
    figure = _figure(9.0, 3.6)
    for ax, key, title in zip(figure.subplots(1, 2), ("loss", "accuracy"), ("Loss", "Accuracy")):
        _quiet(ax, title)
        drawn = []
        for name, column, colour, style in (("training", key, _BLUE, "-"), ("validation", "val_" + key, _ORANGE, "--")):
            values = np.array([_number(row.get(column)) for row in history])
            if np.isfinite(values).any():
                ax.plot(epochs, values, style, color=colour, label=name, linewidth=1.8,
                        marker="o", markersize=3.5 if len(epochs) <= 30 else 0)
                drawn.append(values[np.isfinite(values)])
        ax.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
        ax.set_xlabel("epoch", color=_INK, fontsize=_SIZE)
        ax.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        if not drawn:
            _say(ax, "not recorded")
            continue
        if key == "loss":
            ax.set_ylim(0, 1.08 * max(max(values.max() for values in drawn), 1e-6))
        else:
            _percent_axis(ax, min(values.min() for values in drawn))
        ax.legend(loc="lower right", bbox_to_anchor=(1.0, 0.99), ncols=2, **_LEGEND)  # beside the title: hides no line
    _save(figure, path)


def confusion_matrix(matrix, classes, path):
    """Draw how many samples of each true class were predicted as each class.

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
    figure = _figure(1.2 * k + 0.8, 1.2 * k + 1.0)
    _matrix(figure.subplots(), matrix, classes)
    _save(figure, path)


def roc(curves, path):
    """Draw ROC curves with their areas.

    Parameters
    ----------
    curves : dict; from a name to (false_positive_rates, true_positive_rates, auc), the first two from `metrics.roc`
    path : str or Path; a PNG file

    Raises
    ------
    InputError : no curve, or more than six
    """
    _check_count(curves, "ROC curves")
    figure = _figure(4.6, 4.7)
    ax = figure.subplots()
    _quiet(ax, "ROC")
    ax.plot([0, 1], [0, 1], color=_FAINT, linewidth=1.2, zorder=1)
    for (name, (x, y, area)), colour, style in zip(curves.items(), _COLOURS, _STYLES):
        ax.plot(x, y, style, color=colour, linewidth=1.8, label=f"AUC {area:.3f}  {_name(name)}", clip_on=False)
    ax.set_xlim(-0.01, 1.01)
    ax.set_ylim(-0.01, 1.01)
    ax.set_aspect("equal")
    ax.set_xlabel("false positive rate (1 - specificity)", fontsize=_SIZE, color=_INK)
    ax.set_ylabel("true positive rate (recall)", fontsize=_SIZE, color=_INK)
    _legend(ax, loc="lower right")
    _save(figure, path)


def reliability(curves, path):
    """Draw reliability curves: what share of the images that were given a probability is positive, and of how many.

    Parameters
    ----------
    curves : dict; from a name to the points of its curve (`evaluation.calibration.reliability`): dicts with low, high,
        n, predicted, observed, and an interval whose first two are its bounds, None where it has none. A name without
        points is said to have none
    path : str or Path; a PNG file

    Raises
    ------
    InputError : no curve, or more than six; labels and probabilities in place of points
    """
    _check_count(curves, "reliability curves")
    figure = _figure(4.8, 6.0)
    from matplotlib.ticker import NullLocator
    for name, points in curves.items():
        if not all(isinstance(row, dict) and {"low", "high", "n", "predicted", "observed"} <= set(row)
                   for row in points):
            raise InputError(f"curves: expected the points of {printable(name)!r} as calibration.reliability(labels, "
                             "probabilities) returns them.")
    ax, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    _quiet(ax, "Reliability, with 95 % intervals")
    _quiet(below, "")
    ax.plot([0, 1], [0, 1], color="#BBBBBB", linewidth=1.2, zorder=1, label="where probabilities mean what they say")
    for i, (name, points) in enumerate(curves.items()):
        total = f", {sum(row['n'] for row in points):,} images" if points else ": undefined"
        _points(ax, points, f"{_name(name, 44)}{total}", i)
        for row in points:
            width = (row["high"] - row["low"]) * 0.84 / len(curves)
            place = (row["low"] + row["high"]) / 2 + width * (i - (len(curves) - 1) / 2)
            below.bar(place, row["n"], width, color=_COLOURS[i])
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    ax.set_ylabel("share of positives", fontsize=_SIZE, color=_INK)
    below.set_ylabel("images", fontsize=_SIZE, color=_INK)
    below.set_yscale("log")             # sets of 40 and of 4,000 images are seen beside each other
    below.set_ylim(0.7, None)
    below.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    below.yaxis.set_minor_locator(NullLocator())
    below.set_xlabel("probability that the network gave", fontsize=_SIZE, color=_INK)
    _legend_below(figure, ax)
    _save(figure, path)


def sample_grid(images, labels, predicted, probabilities, classes, path):
    """Draw images with their true and predicted classes; mistakes stand in a thick orange frame.

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
    images, p = _pictures(images), np.asarray(probabilities, float)
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
    columns = max(4, int(np.ceil(np.sqrt(1.5 * n))))  # four at least: room for the heading
    rows = -(-n // columns)
    figure = _figure(1.35 * columns + 0.2, 1.66 * rows + 0.6)
    mistakes = int((labels != predicted).sum())
    verdict = f"{mistakes} predicted wrongly (framed)" if mistakes else "none predicted wrongly"
    figure.suptitle(f"{n} image{'s' if n > 1 else ''}, {verdict}\n"
                    "above: the true class; below: the predicted class and its probability",
                    x=0.012, ha="left", fontsize=_SIZE - 0.5, color=_INK)
    for k, ax in enumerate(np.ravel(figure.subplots(rows, columns, squeeze=False))):
        if k >= n:
            ax.set_axis_off()
            continue
        wrong = labels[k] != predicted[k]
        _show(ax, images[k], _ORANGE if wrong else None)
        ax.set_title(_name(classes[labels[k]]), loc="left", fontsize=_SIZE - 2, color=_INK, pad=5, parse_math=False)
        ax.set_xlabel(f"{_name(classes[predicted[k]])} {p[k, predicted[k]]:.2f}", loc="left", fontsize=_SIZE - 2,
                      color=_ORANGE if wrong else _QUIET, labelpad=5, parse_math=False,
                      fontweight="bold" if wrong else "normal")
    _save(figure, path)


def augmentation_sheet(pixels, path, augmentation, seed=0, epochs=4):
    """Draw what an augmentation does to images: a row for each of its techniques, or for each of `epochs` epochs.

    Parameters
    ----------
    pixels : ndarray, shape (n, H, W) or (n, H, W, 3), uint8; a column each
    path : str or Path; a PNG file
    augmentation : Augmentation; with `one_technique` the rows are its techniques, else the original and `epochs` draws
    seed, epochs : int
    """
    from minicnn.data.augmentation import TECHNIQUES

    samples = np.arange(len(pixels))
    remarks = _NO_ANATOMY | _RARE_ANATOMY
    if augmentation.one_technique:
        rows = {name.replace("_", " ") + (f"\n{remarks[name]}" if name in remarks else ""):
                augmentation.apply(pixels, seed, 0, samples, technique=TECHNIQUES.index(name))
                for name in augmentation.techniques}
    else:
        rows = {"original": augmentation.none().apply(pixels, seed, 0, samples)}
        rows |= {f"epoch {k + 1}": augmentation.apply(pixels, seed, k, samples) for k in range(epochs)}
    n = len(samples)
    figure = _figure(1.1 * n + 1.3, 1.1 * len(rows) + 0.4)
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03)
    for axes, (name, images) in zip(figure.subplots(len(rows), n, squeeze=False), rows.items()):
        for ax, image in zip(axes, _pictures(images)):
            _show(ax, image, None)
        axes[0].set_ylabel(name, fontsize=_SIZE - 1, color=_ORANGE if "no anatomy" in name else _INK, rotation=0,
                           ha="right", va="center")
    strange = [f"a {name.replace('_', ' ')}" for name in _NO_ANATOMY if name in augmentation.techniques]
    if strange and not augmentation.one_technique:
        figure.supxlabel(f"No anatomy, but among these changes: {' and '.join(strange)}.", x=0.012, ha="left",
                         fontsize=_SIZE - 1, color=_ORANGE)
    _save(figure, path)


# ---- House style -----------------------------------------------------------------------------------------------------

def _figure(width, height, dpi=_DPI):
    """Return an empty figure, in inches, that belongs to nobody else."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("drawing pictures", "matplotlib", "app") from None
    figure = Figure(figsize=(width, height), dpi=dpi, facecolor="white", layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06, wspace=0.02)
    return figure


def _save(figure, path):
    content = io.BytesIO()
    with postponed(), warnings.catch_warnings():      # a signal inside matplotlib's C code would become another error
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a class name in an unusual script
        figure.savefig(content, format="png", dpi=figure.dpi, metadata={"Software": None})
    write_whole(path, content.getvalue())


def _quiet(ax, title):
    ax.set_title(title, loc="left", fontsize=_SIZE + 1, color=_INK, parse_math=False)
    ax.grid(axis="y", color=_FAINT, linewidth=0.7)
    ax.set_axisbelow(True)
    ax.tick_params(length=0, labelsize=_SIZE - 1, labelcolor=_QUIET)
    for side, spine in ax.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_QUIET)


def _legend(ax, **place):
    """Name the lines of a panel; a stranger's name is no formula."""
    for text in ax.legend(**_LEGEND | place).get_texts():
        text.set_parse_math(False)


def _legend_below(figure, ax, ncols=1):
    """Name the lines of a panel below the whole picture, where it hides nothing."""
    handles, labels = ax.get_legend_handles_labels()
    for text in figure.legend(handles, labels, loc="outside lower left", ncols=ncols, **_LEGEND).get_texts():
        text.set_parse_math(False)


def _check_count(curves, what):
    if not 1 <= len(curves) <= len(_COLOURS):
        raise InputError(f"curves: expected 1 to {len(_COLOURS)} {what}, got {len(curves)}.")


def _points(ax, points, label, i):
    """Draw the points of reliability curve number i, with their intervals."""
    p, observed = ([row[key] for row in points] for key in ("predicted", "observed"))
    style = dict(color=_COLOURS[i], clip_on=not points)     # an empty line that is not clipped would have no place
    ax.plot(p, observed, _MARKERS[i], markersize=6, label=label, **style)
    ax.plot(p, observed, _STYLES[i], linewidth=1, alpha=0.5, **style)
    for row in points:
        low, high = (row.get("interval") or (None, None))[:2]
        if low is not None:
            ax.plot([row["predicted"]] * 2, [low, high], linewidth=1.6, alpha=0.5, **style)


def _matrix(ax, matrix, classes):
    """Draw a confusion matrix, ndarray (k, k): counts and percent of each true class."""
    totals, k = matrix.sum(axis=1, keepdims=True), len(matrix)
    shares = matrix / np.maximum(totals, 1)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1.15, aspect="equal")
    for i in range(k):
        for j in range(k):
            colour = "white" if shares[i, j] > 0.6 else _INK
            ax.text(j, i - 0.07, f"{matrix[i, j]:,}", ha="center", va="center", fontsize=_SIZE + 5, color=colour)
            ax.text(j, i + 0.17, f"{100 * shares[i, j]:.1f} %" if totals[i, 0] else "-",
                    ha="center", va="center", fontsize=_SIZE - 1, color=colour)
    names = [_name(name) for name in classes]
    ax.set_xticks(range(k), names, parse_math=False)
    ax.set_yticks(range(k), names, rotation=90, va="center", parse_math=False)
    ax.tick_params(length=0, labelsize=_SIZE, labelcolor=_INK)
    ax.set_xlabel("predicted (percent of each true class)", fontsize=_SIZE - 1, color=_QUIET)
    ax.set_ylabel("true", fontsize=_SIZE - 1, color=_QUIET)
    ax.set_title(f"{int(matrix.trace()):,} of {int(matrix.sum()):,} right", loc="left", fontsize=_SIZE + 1, color=_INK)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _percent_axis(ax, lowest):
    """Show from a round percentage below `lowest` to 100 %."""
    step = 0.1 if lowest < 0.8 else 0.05 if lowest < 0.9 else 0.02
    bottom = max(0.0, np.floor((lowest - 0.01) / step) * step)
    ax.set_ylim(bottom, 1 + 0.03 * (1 - bottom))
    ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")


def _say(ax, text):
    ax.set_yticks([])
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", fontsize=_SIZE, color=_QUIET)


def _show(ax, image, frame):
    ax.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="bilinear")
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(frame is not None)
        spine.set(color=frame or _FAINT, linewidth=3.5)


def _pictures(images):
    """Return images as (n, H, W) or (n, H, W, 3) floats in [0, 1], or raise."""
    images = np.asarray(images)
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3) or 0 in images.shape:
        raise ShapeError(f"images: expected shape (n, H, W), (n, H, W, 1) or (n, H, W, 3), got {images.shape}.")
    return images / 255.0 if images.dtype == np.uint8 else np.clip(images, 0.0, 1.0)


def _number(value):
    return np.nan if value is None or not np.isfinite(value) else float(value)


def _name(name, most=_LONGEST_NAME):
    """Return a name from a stranger as a short printable text."""
    text = printable(name)
    return text if len(text) <= most else text[:most - 1] + "…"
