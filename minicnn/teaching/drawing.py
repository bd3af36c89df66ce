"""The plots of the example chapters: the style of plotting/style.py, with panels for matrices and images.

matplotlib is the extra `app`.
"""

import io
import os
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from minicnn.core.files import write_atomic
from minicnn.errors import printable
from minicnn.plotting import style
from minicnn.plotting.style import BLUE, FAINT, GREEN, INK, ORANGE, PURPLE, QUIET, SKY, YELLOW
from minicnn.plotting.style import new_figure as figure

__all__ = ["BLUE", "ORANGE", "GREEN", "PURPLE", "SKY", "YELLOW", "INK", "QUIET", "FAINT", "figure", "plot", "matrix",
           "picture", "heat", "legend", "note", "save"]

_SMALL = 9


class Saved(NamedTuple):
    """A saved plot, which a notebook displays."""

    path: Path

    def _repr_png_(self):
        return self.path.read_bytes()


def plot(ax, title, x="", y=""):
    """Set the title and the axis labels of a panel, with a faint grid and nothing else."""
    style.quiet(ax, title)
    style.axis_labels(ax, x, y, _SMALL)
    ax.tick_params(which="minor", length=0)


def legend(ax, **place):
    """Add a legend to a panel. Labels may hold formulas, such as $h^2$."""
    ax.legend(**style.LEGEND | place)


def note(ax, text, xy, at, colour=INK):
    """Write `text` at the position `at`, in data coordinates, with a thin line to the point `xy`."""
    ax.annotate(text, xy, at, fontsize=_SMALL, color=colour, ha="center", va="center",
                arrowprops=dict(arrowstyle="-", color=QUIET, linewidth=0.8, shrinkA=2, shrinkB=3))


def matrix(ax, numbers, title="", marked=None, colour=SKY, size=10, room=None):
    """Draw a matrix as a grid of its numbers; cells of the mask `marked` are filled with `colour`, zeros are pale.

    `room` is the number of rows to leave space for, so that matrices side by side have cells of the same size.
    """
    from matplotlib.patches import Rectangle

    numbers = np.atleast_2d(numbers)
    rows, columns = numbers.shape
    free = 0 if room is None else (room - rows) / 2
    marked = np.zeros(numbers.shape, bool) if marked is None else np.broadcast_to(marked, numbers.shape)
    for (i, j), number in np.ndenumerate(numbers):
        ax.add_patch(Rectangle((j, i), 1, 1, facecolor=(colour, 0.4) if marked[i, j] else "white", edgecolor="#CCCCCC",
                               linewidth=0.8))
        ax.text(j + 0.5, i + 0.52, f"{number:g}", ha="center", va="center", fontsize=size,
                color=INK if number or marked[i, j] else "#BBBBBB")
    ax.set(xlim=(-0.05, columns + 0.05), ylim=(rows + free + 0.05, -free - 0.05), aspect="equal")
    ax.text(columns / 2, -0.25, title, ha="center", va="bottom", fontsize=_SMALL + 1, color=INK)
    ax.set_axis_off()


def picture(ax, image, title="", low=None, high=None):
    """Show a greyscale image, without axes."""
    ax.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    style.bare(ax, title, _SMALL + 1)


def heat(ax, numbers, title="", most=None, colours="RdBu_r"):
    """Show numbers as colours, 0 in the middle of the colour map; return the image, for a colour bar."""
    most = np.nanmax(np.abs(numbers)) if most is None else most
    shown = ax.imshow(numbers, cmap=colours, vmin=-most, vmax=most, interpolation="nearest")
    style.bare(ax, title, _SMALL + 1)
    return shown


def save(drawn, name):
    """Write a figure as `name`.png, with at most 128 colours to keep it small; say where, and return it for a notebook.

    The folder is $MINICNN_FIGURES if it is set, else `figures` next to the script or the notebook.
    """
    script = getattr(sys.modules["__main__"], "__file__", None)
    beside = Path(script).parent if script else Path()
    folder = Path(os.environ.get("MINICNN_FIGURES") or beside / "figures")
    folder.mkdir(parents=True, exist_ok=True)
    raw, small = io.BytesIO(), io.BytesIO()
    drawn.savefig(raw, format="png", dpi=110, metadata={"Software": None})
    Image.open(raw).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    path = folder / f"{name}.png"
    write_atomic(path, small.getvalue())
    print(f"The plot: {printable(path)}")
    return Saved(path)
