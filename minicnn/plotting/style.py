"""One style for all plots: colours, sizes, axes, and how a figure becomes a file.

Drawn with matplotlib (extra `app`) on figures of their own: nothing here touches pyplot, the current figure or the
settings of whoever calls.
"""

import io
import warnings

import numpy as np

from minicnn.core.files import write_whole
from minicnn.core.signals import postponed
from minicnn.errors import InputError, MissingExtraError, ShapeError, printable

__all__ = ["BLUE", "ORANGE", "GREEN", "PURPLE", "SKY", "YELLOW", "INK", "QUIET", "FAINT", "SIZE", "DPI", "LEGEND",
           "COLOURS", "MARKERS", "LINE_STYLES", "LONGEST_NAME", "new_figure", "save", "quiet", "legend",
           "legend_below", "check_count", "draw_points", "draw_matrix", "percent_axis", "say", "show", "as_pictures",
           "number", "short_name"]

BLUE, ORANGE, GREEN, PURPLE, SKY, YELLOW = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"
INK, QUIET, FAINT = "#222222", "#666666", "#DDDDDD"
SIZE, DPI = 10, 120
LEGEND = dict(frameon=False, fontsize=SIZE - 1, labelcolor=INK, handlelength=2.4)
COLOURS, MARKERS = (BLUE, ORANGE, GREEN, PURPLE, SKY, YELLOW), "osD^vP"
LINE_STYLES = "-", "--", "-.", ":", "-", "--"
LONGEST_NAME = 15
# What a technique makes of a chest that no chest can be; and what few are.


def new_figure(width, height, dpi=DPI):
    """Return an empty figure, in inches, that belongs to nobody else."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("drawing pictures", "matplotlib", "app") from None
    figure = Figure(figsize=(width, height), dpi=dpi, facecolor="white", layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06, wspace=0.02)
    return figure


def save(figure, path):
    content = io.BytesIO()
    with postponed(), warnings.catch_warnings():      # a signal inside matplotlib's C code would become another error
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a class name in an unusual script
        figure.savefig(content, format="png", dpi=figure.dpi, metadata={"Software": None})
    write_whole(path, content.getvalue())


def quiet(ax, title):
    ax.set_title(title, loc="left", fontsize=SIZE + 1, color=INK, parse_math=False)
    ax.grid(axis="y", color=FAINT, linewidth=0.7)
    ax.set_axisbelow(True)
    ax.tick_params(length=0, labelsize=SIZE - 1, labelcolor=QUIET)
    for side, spine in ax.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(QUIET)


def legend(ax, **place):
    """Name the lines of a panel; a stranger's name is no formula."""
    for text in ax.legend(**LEGEND | place).get_texts():
        text.set_parse_math(False)


def legend_below(figure, ax, ncols=1):
    """Name the lines of a panel below the whole picture, where it hides nothing."""
    handles, labels = ax.get_legend_handles_labels()
    for text in figure.legend(handles, labels, loc="outside lower left", ncols=ncols, **LEGEND).get_texts():
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


def draw_matrix(ax, matrix, classes):
    """Draw a confusion matrix, ndarray (k, k): counts and percent of each true class."""
    totals, k = matrix.sum(axis=1, keepdims=True), len(matrix)
    shares = matrix / np.maximum(totals, 1)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1.15, aspect="equal")
    for i in range(k):
        for j in range(k):
            colour = "white" if shares[i, j] > 0.6 else INK
            ax.text(j, i - 0.07, f"{matrix[i, j]:,}", ha="center", va="center", fontsize=SIZE + 5, color=colour)
            ax.text(j, i + 0.17, f"{100 * shares[i, j]:.1f} %" if totals[i, 0] else "-",
                    ha="center", va="center", fontsize=SIZE - 1, color=colour)
    names = [short_name(name) for name in classes]
    ax.set_xticks(range(k), names, parse_math=False)
    ax.set_yticks(range(k), names, rotation=90, va="center", parse_math=False)
    ax.tick_params(length=0, labelsize=SIZE, labelcolor=INK)
    ax.set_xlabel("predicted (percent of each true class)", fontsize=SIZE - 1, color=QUIET)
    ax.set_ylabel("true", fontsize=SIZE - 1, color=QUIET)
    ax.set_title(f"{int(matrix.trace()):,} of {int(matrix.sum()):,} right", loc="left", fontsize=SIZE + 1, color=INK)
    for spine in ax.spines.values():
        spine.set_visible(False)


def percent_axis(ax, lowest):
    """Show from a round percentage below `lowest` to 100 %."""
    step = 0.1 if lowest < 0.8 else 0.05 if lowest < 0.9 else 0.02
    bottom = max(0.0, np.floor((lowest - 0.01) / step) * step)
    ax.set_ylim(bottom, 1 + 0.03 * (1 - bottom))
    ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")


def say(ax, text):
    ax.set_yticks([])
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", fontsize=SIZE, color=QUIET)


def show(ax, image, frame):
    ax.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="bilinear")
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(frame is not None)
        spine.set(color=frame or FAINT, linewidth=3.5)


def as_pictures(images):
    """Return images as (n, H, W) or (n, H, W, 3) floats in [0, 1], or raise."""
    images = np.asarray(images)
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3) or 0 in images.shape:
        raise ShapeError(f"images: expected shape (n, H, W), (n, H, W, 1) or (n, H, W, 3), got {images.shape}.")
    return images / 255.0 if images.dtype == np.uint8 else np.clip(images, 0.0, 1.0)


def number(value):
    return np.nan if value is None or not np.isfinite(value) else float(value)


def short_name(name, most=LONGEST_NAME):
    """Return a name from a stranger as a short printable text."""
    text = printable(name)
    return text if len(text) <= most else text[:most - 1] + "…"
