"""One style for all plots: colours, sizes, axes, headings, and the PNG file.

Plots are drawn with matplotlib (extra `app`) on figures of their own: pyplot, the current figure and the global
settings are not touched. Files hold no time, host or program name, so equal input gives equal bytes. The colours are
those of Okabe and Ito ("Color universal design", 2008), which colour-blind people can tell apart; no information is in
colour alone.
"""

import io
import os
import sys
import warnings
from contextlib import suppress

import numpy as np

from minicnn.core.files import write_atomic
from minicnn.core.signals import postponed
from minicnn.core.text import join, percent, shortened
from minicnn.errors import InputError, MiniCNNError, MissingExtraError, ShapeError

__all__ = ["BLUE", "ORANGE", "GREEN", "PURPLE", "SKY", "YELLOW", "INK", "QUIET", "FAINT", "SIZE", "DPI", "LEGEND",
           "COLOURS", "MARKERS", "LINE_STYLES", "LONGEST_NAME", "new_figure", "save", "heading", "footnote", "panels",
           "quiet", "axis_labels", "bare", "legend", "legend_below", "check_count", "draw_points", "epoch_lines",
           "epoch_limits", "draw_epochs", "draw_matrix", "say", "show", "as_pictures", "number", "short_name", "attempt",
           "not_drawn"]

BLUE, ORANGE, GREEN, PURPLE, SKY, YELLOW = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"
INK, QUIET, FAINT = "#222222", "#666666", "#DDDDDD"
SIZE, DPI = 10, 120
LEGEND = dict(frameon=False, fontsize=SIZE - 1, labelcolor=INK, handlelength=2.4)
COLOURS, MARKERS = (BLUE, ORANGE, GREEN, PURPLE, SKY, YELLOW), "osD^vP"
LINE_STYLES = "-", "--", "-.", ":", "-", "--"
LONGEST_NAME = 15


def new_figure(width, height, dpi=DPI):
    """Return an empty figure of its own; width and height in inches."""
    figure = _figure_class()(figsize=(width, height), dpi=dpi, facecolor="white", layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06, wspace=0.02)
    return figure


def _figure_class():
    """Return matplotlib's Figure, which draws PNG files whatever MPLBACKEND says.

    That variable is for windows and notebooks, and every child of a notebook inherits its name of a backend; where that
    is not installed, matplotlib cannot be imported. So it is imported without, and told of the backend afterwards.
    """
    first = "matplotlib" not in sys.modules
    backend = os.environ.pop("MPLBACKEND", None) if first else None
    try:
        from matplotlib.figure import Figure
    except Exception as error:      # an installation that is damaged, or made for another NumPy, fails in any way
        missing = isinstance(error, ModuleNotFoundError) and str(error.name).startswith("matplotlib")
        state = "is not installed" if missing else f"cannot be imported ({_reason(error)})"
        raise MissingExtraError("drawing pictures", "matplotlib", "app", state) from (None if missing else error)
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend:
        with suppress(ValueError):
            sys.modules["matplotlib"].rcParams["backend"] = backend
    return Figure


def attempt(failures, name, plot, *given, **options):
    """Call a function that draws a plot; return whether it could. No result is to be lost for a plot.

    Where it could not, `failures`, a dict, receives the name under the reason: see `not_drawn`.
    """
    try:
        plot(*given, **options)
    except Exception as error:      # matplotlib, its fonts, its caches and the user's settings of it fail in any way
        failures.setdefault(_reason(error), []).append(name)
        return False
    return True


def not_drawn(failures):
    """Return the sentences on the plots that `attempt` could not draw.

    >>> not_drawn({"no space left": ["roc.png", "curves.png"]})
    ['Not drawn: roc.png and curves.png (no space left)']
    """
    return [f"Not drawn: {join(names)} ({reason})" for reason, names in failures.items()]


def _reason(error):
    return shortened(error if isinstance(error, MiniCNNError) else f"{type(error).__name__}: {error}".rstrip(": "), 300)


def save(figure, path):
    """Write a figure as a PNG file, whole or not at all."""
    content = io.BytesIO()
    with postponed(), warnings.catch_warnings():      # a signal inside matplotlib's C code would become another error
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a class name in an unusual script
        figure.savefig(content, format="png", dpi=figure.dpi, metadata={"Software": None})
    write_atomic(path, content.getvalue())


def heading(figure, text, size=SIZE):
    """Write text above all panels."""
    figure.suptitle(text, x=0.012, ha="left", fontsize=size, color=INK, parse_math=False)


def footnote(figure, text, size=SIZE - 1, colour=QUIET):
    """Write text below all panels."""
    figure.supxlabel(text, x=0.012, ha="left", fontsize=size, color=colour, parse_math=False)


def panels(figure, n, columns):
    """Return the axes of n panels in rows of so many."""
    axes = np.ravel(figure.subplots(-(-n // columns), columns, squeeze=False))
    for ax in axes[n:]:
        ax.set_axis_off()
    return axes[:n]


def quiet(ax, title):
    """Set the title of a panel, and remove all but the x axis and a faint grid."""
    ax.set_title(title, loc="left", fontsize=SIZE + 1, color=INK, parse_math=False)
    ax.grid(axis="y", color=FAINT, linewidth=0.7)
    ax.set_axisbelow(True)
    ax.tick_params(length=0, labelsize=SIZE - 1, labelcolor=QUIET)
    for side, spine in ax.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(QUIET)


def axis_labels(ax, x="", y="", size=SIZE):
    """Write the names of the axes."""
    ax.set_xlabel(x, fontsize=size, color=INK)
    ax.set_ylabel(y, fontsize=size, color=INK)


def bare(ax, title="", size=SIZE - 1.5):
    """Set the title of a panel, and remove its axes and frame."""
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=size, color=INK, parse_math=False)
    for spine in ax.spines.values():
        spine.set_visible(False)


def legend(ax, **place):
    """Draw the legend of a panel; names are not parsed as formulas."""
    for text in ax.legend(**LEGEND | place).get_texts():
        text.set_parse_math(False)


def legend_below(figure, ax, ncols=1):
    """Draw the legend of a panel below all panels, where it hides nothing."""
    handles = {label: handle for handle, label in zip(*ax.get_legend_handles_labels())}     # seeds share a label
    for text in figure.legend(handles.values(), handles, loc="outside lower left", ncols=ncols, **LEGEND).get_texts():
        text.set_parse_math(False)


def check_count(curves, what):
    if not 1 <= len(curves) <= len(COLOURS):
        raise InputError(f"curves: expected 1 to {len(COLOURS)} {what}, got {len(curves)}.")


def draw_points(ax, points, label, i):
    """Draw the points of reliability curve number i, with their intervals."""
    p, observed = ([row[key] for row in points] for key in ("predicted", "observed"))
    style = dict(color=COLOURS[i], clip_on=not points)     # an empty line that is not clipped would have no place
    ax.plot(p, observed, MARKERS[i], markersize=6, label=label, **style)
    ax.plot(p, observed, LINE_STYLES[i], linewidth=1, alpha=0.5, **style)
    for row in points:
        low, high = (row.get("interval") or (None, None))[:2]
        if low is not None:
            ax.plot([row["predicted"]] * 2, [low, high], linewidth=1.6, alpha=0.5, **style)


def epoch_lines(histories, key):
    """Return the lines of a metric by epoch on the training and validation set: one for each seed, then their mean.

    Parameters
    ----------
    histories : list, one for each seed, of lists of dict with `epoch`, `key` and "val_" + `key`; a value that is
        missing, None or not finite leaves a gap
    key : "loss" or "accuracy"

    Returns
    -------
    list of (name, 0 for training or 1, "line" alone or "thin" of several or "mean", epochs, values)

    >>> epoch_lines([[{"epoch": 1, "loss": 0.5}], [{"epoch": 1, "loss": 0.7}]], "loss")[-1]
    ('training, mean', 0, 'mean', [1], [0.6])
    """
    found = []
    for i, (name, column) in enumerate((("training", key), ("validation", "val_" + key))):
        lines = [([row["epoch"] for row in history], [number(row.get(column)) for row in history])
                 for history in histories]
        lines = [line for line in lines if np.isfinite(line[1]).any()]
        several = len(lines) > 1
        found += [(f"{name}, one seed" if several else name, i, "thin" if several else "line", *line) for line in lines]
        if several:
            shared = sorted(set.intersection(*(set(epochs) for epochs, _ in lines)))
            means = [float(np.mean([dict(zip(*line))[epoch] for line in lines])) for epoch in shared]
            found.append((f"{name}, mean", i, "mean", shared, means))
    return found


def epoch_limits(values, key):
    """Return the ends of the y axis for values of a metric by epoch."""
    values = [value for value in values if np.isfinite(value)]
    if not values:
        return 0.0, 1.0
    if key == "loss":
        return 0.0, 1.08 * max(max(values), 1e-6)
    step = 0.1 if min(values) < 0.8 else 0.05 if min(values) < 0.9 else 0.02
    bottom = max(0.0, float(np.floor((min(values) - 0.01) / step) * step))
    return bottom, 1 + 0.03 * (1 - bottom)      # from a round percentage below the lowest value


def draw_epochs(ax, histories, key):
    """Draw a metric by epoch: the `epoch_lines`, seeds thin and means thick."""
    lines, numbers = epoch_lines(histories, key), [row["epoch"] for history in histories for row in history]
    for name, i, kind, epochs, values in lines:
        width, opacity = {"line": (1.8, 1), "thin": (0.8, 0.55), "mean": (2, 1)}[kind]
        marked = len(values) == 1 or kind == "line" and len(values) <= 30
        ax.plot(epochs, values, LINE_STYLES[i], color=COLOURS[i], linewidth=width, alpha=opacity, label=name, marker="o",
                markersize=0 if not marked else 4 if kind == "mean" else 3.5)
    ax.set_xlim(min(numbers) - 0.5, max(numbers) + 0.5)
    axis_labels(ax, "epoch")
    ax.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    if not lines:
        return say(ax, "not recorded")
    ax.set_ylim(epoch_limits([value for *_, values in lines for value in values], key))
    if key != "loss":
        ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")


def draw_matrix(ax, matrix, classes):
    """Draw a confusion matrix, ndarray (k, k): counts and percent of each true class."""
    totals, k = matrix.sum(axis=1, keepdims=True), len(matrix)
    shares = matrix / np.maximum(totals, 1)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1.15, aspect="equal")
    for i in range(k):
        for j in range(k):
            colour = "white" if shares[i, j] > 0.6 else INK
            ax.text(j, i - 0.07, f"{matrix[i, j]:,}", ha="center", va="center", fontsize=SIZE + 5, color=colour)
            ax.text(j, i + 0.17, percent(shares[i, j]) if totals[i, 0] else "-", ha="center", va="center",
                    fontsize=SIZE - 1, color=colour)
    names = [short_name(name) for name in classes]
    ax.set_xticks(range(k), names, parse_math=False)
    ax.set_yticks(range(k), names, rotation=90, va="center", parse_math=False)
    ax.tick_params(length=0, labelsize=SIZE, labelcolor=INK)
    ax.set_xlabel("predicted (percent of each true class)", fontsize=SIZE - 1, color=QUIET)
    ax.set_ylabel("true", fontsize=SIZE - 1, color=QUIET)
    ax.set_title(f"{int(matrix.trace()):,} of {int(matrix.sum()):,} correct", loc="left", fontsize=SIZE + 1, color=INK)
    for spine in ax.spines.values():
        spine.set_visible(False)


def say(ax, text):
    """Write text in the middle of an empty panel."""
    ax.set_yticks([])
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", fontsize=SIZE, color=QUIET)


def show(ax, image, frame=None):
    """Draw an image, in a frame of a colour or without."""
    ax.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="bilinear")
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(frame is not None)
        spine.set(color=frame or FAINT, linewidth=3.5)


def as_pictures(images):
    """Return images as (n, H, W) or (n, H, W, 3) floats in [0, 1], or raise ShapeError."""
    images = np.asarray(images)
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3) or 0 in images.shape:
        raise ShapeError(f"images: expected shape (n, H, W), (n, H, W, 1) or (n, H, W, 3), got {images.shape}.")
    return images / 255.0 if images.dtype == np.uint8 else np.clip(images, 0.0, 1.0)


def number(value):
    """Return a value as a float, NaN for None and infinity: a gap in a line."""
    return np.nan if value is None or not np.isfinite(value) else float(value)


def short_name(name):
    """Return a name of unknown origin as a short printable text."""
    return shortened(name, LONGEST_NAME)
