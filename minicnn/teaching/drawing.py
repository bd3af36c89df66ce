"""How the figures of the walkthroughs look: as those of a run do (run.py), with panels for matrices and pictures.

`save` returns what a notebook shows. matplotlib is the extra `app`.
"""

import io
import os
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from minicnn.core.files import write_whole
from minicnn.plotting import style
from minicnn.plotting.style import BLUE, FAINT, GREEN, INK, ORANGE, PURPLE, QUIET, SKY, YELLOW

__all__ = ["BLUE", "ORANGE", "GREEN", "PURPLE", "SKY", "YELLOW", "INK", "QUIET", "FAINT", "figure", "plot", "matrix",
           "picture", "heat", "legend", "note", "save"]

_SMALL = 9


class Saved(NamedTuple):
    """A figure on the disk; a notebook shows it."""

    path: Path

    def _repr_png_(self):
        return self.path.read_bytes()


def figure(width, height):
    """Return an empty figure of `width` x `height` inches; make its panels with `figure.subplots(...)`."""
    return style.new_figure(width, height)


def plot(ax, title, x="", y=""):
    """Give a panel its title and the names of its axes, and take everything else away but a faint grid."""
    style.quiet(ax, title)
    ax.tick_params(which="minor", length=0)
    ax.set_xlabel(x, fontsize=_SMALL, color=INK)
    ax.set_ylabel(y, fontsize=_SMALL, color=INK)


def legend(ax, **place):
    """Name the lines of a panel."""
    ax.legend(**{**style.LEGEND, "fontsize": _SMALL, **place})


def note(ax, text, xy, at, colour=INK):
    """Write `text` at the place `at`, in data coordinates, with a thin line to the point `xy`."""
    ax.annotate(text, xy, at, fontsize=_SMALL, color=colour, ha="center", va="center",
                arrowprops=dict(arrowstyle="-", color=QUIET, linewidth=0.8, shrinkA=2, shrinkB=3))


def matrix(ax, numbers, title="", marked=None, colour=SKY, size=10, room=None):
    """Draw a matrix as a grid of its numbers; cells of the mask `marked` are filled with `colour`, 0 is pale.

    Where matrices stand side by side, `room` for as many rows in each keeps all cells of one size.
    """
    numbers = np.atleast_2d(numbers)
    rows, columns = numbers.shape
    free = 0 if room is None else (room - rows) / 2
    marked = np.zeros(numbers.shape, bool) if marked is None else np.broadcast_to(marked, numbers.shape)
    for (i, j), number in np.ndenumerate(numbers):
        ax.add_patch(_cell(j, i, colour if marked[i, j] else None))
        ax.text(j + 0.5, i + 0.52, f"{number:g}", ha="center", va="center", fontsize=size,
                color=INK if number or marked[i, j] else "#BBBBBB")
    ax.set(xlim=(-0.05, columns + 0.05), ylim=(rows + free + 0.05, -free - 0.05), aspect="equal", xticks=[], yticks=[])
    ax.text(columns / 2, -0.25, title, ha="center", va="bottom", fontsize=_SMALL + 1, color=INK)
    _no_frame(ax)


def picture(ax, image, title="", low=None, high=None):
    """Show a grey picture, without axes."""
    ax.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    _bare(ax, title)


def heat(ax, numbers, title="", most=None, colours="RdBu_r"):
    """Show numbers around 0 as colours, 0 in the middle; returns what a colour bar needs."""
    most = np.nanmax(np.abs(numbers)) if most is None else most
    shown = ax.imshow(numbers, cmap=colours, vmin=-most, vmax=most, interpolation="nearest")
    _bare(ax, title)
    return shown


def save(drawn, name):
    """Write a figure as `name`.png, in at most 128 colours to keep it small, and return what a notebook shows.

    The folder is $MINICNN_FIGURES where that is set, else `figures` beside the script; in a notebook, in its folder.
    """
    script = getattr(sys.modules["__main__"], "__file__", None)
    beside = Path(script).parent if script else Path()
    folder = Path(os.environ.get("MINICNN_FIGURES") or beside / "figures")
    folder.mkdir(parents=True, exist_ok=True)
    raw, small = io.BytesIO(), io.BytesIO()
    drawn.savefig(raw, format="png", dpi=110, metadata={"Software": None})
    Image.open(raw).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    path = folder / f"{name}.png"
    write_whole(path, small.getvalue())
    return Saved(path)


def _cell(x, y, colour):
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Rectangle
    return Rectangle((x, y), 1, 1, facecolor="white" if colour is None else to_rgba(colour, 0.4), edgecolor="#CCCCCC",
                     linewidth=0.8)


def _bare(ax, title):
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_title(title, fontsize=_SMALL + 1, color=INK)
    _no_frame(ax)


def _no_frame(ax):
    for spine in ax.spines.values():
        spine.set_visible(False)
