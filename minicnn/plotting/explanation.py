"""What explanations and the shortcut check look like (matplotlib, extra `app`).

Maps are drawn over the pictures in cividis, which colour-blind eyes see as others do, see-through where they are low. A
dashed line marks the border, the outer eighth of each side.
"""

import textwrap

import numpy as np

from minicnn.errors import InputError, ShapeError, printable
from minicnn.plotting import style
from minicnn.plotting.style import BLUE, FAINT, INK, ORANGE, QUIET

__all__ = ["explanation", "explanation_sheet", "shortcut_check"]

_NOT_A_DEVICE = "minicnn is a tool for teaching and research, not a medical device."
_SIZE = 10


def explanation(picture, explained, path, title="", index=0):
    """Draw one picture beside itself with its map over it.

    Parameters
    ----------
    picture : ndarray, shape (H, W, C), C = 1 or 3, uint8 or floats in [0, 1], as the network sees it
    explained : Explanation
    path : str or Path; a PNG file
    title : str, what the picture is called
    index : int, which of the explained pictures it is

    Raises
    ------
    ShapeError : a picture of another size than the map
    """
    pictures = _checked(np.asarray(picture)[np.newaxis], explained)
    figure = style.new_figure(6.4, 4.15)
    left, right = figure.subplots(1, 2)
    name = style.short_name(explained.names[index])
    figure.suptitle(f"{name}, probability {explained.probabilities[index]:.3f}", x=0.012, ha="left",
                    fontsize=_SIZE + 2, color=INK, parse_math=False)
    style.show(left, pictures[0], None)
    left.set_title(_shortened(title or "the picture", 40), loc="left", fontsize=_SIZE - 1, color=QUIET,
                   parse_math=False)
    _scale(right, _overlay(right, pictures[0], explained.maps[index]))
    right.set_title(_method(explained), loc="left", fontsize=_SIZE - 1, color=QUIET)
    figure.supxlabel("\n".join([*textwrap.wrap(_told(explained, index), 98), _NOT_A_DEVICE]), x=0.012, ha="left",
                     fontsize=_SIZE - 1.5, color=QUIET)
    style.save(figure, path)


def explanation_sheet(pictures, explained, path, titles=None, columns=6):
    """Draw many pictures with their maps over them: the class and its probability above, the border share below.

    Parameters
    ----------
    pictures : ndarray, shape (N, H, W, C), one for each map
    explained : Explanation
    path : str or Path; a PNG file
    titles : sequence of N str, what each picture is called, optional
    """
    pictures = _checked(pictures, explained)
    if titles is not None and len(titles) != len(pictures):
        raise InputError(f"titles: expected {len(pictures)}, one for each picture, got {len(titles)}.")
    rows = -(-len(pictures) // columns)
    figure = style.new_figure(1.5 * columns + 0.2, (1.95 if titles is not None else 1.8) * rows + 0.75)
    shares = [share for share in explained.border_shares if share is not None]
    mean = _percent(np.mean(shares)) if shares else "undefined"
    figure.suptitle(f"{_method(explained)}; on the border {mean} of a map on average, of an even one "
                    f"{_percent(explained.even_share)}\nabove: the class explained and its probability; below: how "
                    "much of the map lies on the border", x=0.012, ha="left", fontsize=_SIZE - 0.5, color=INK)
    for k, ax in enumerate(np.ravel(figure.subplots(rows, columns, squeeze=False))):
        if k >= len(pictures):
            ax.set_axis_off()
            continue
        share = explained.border_shares[k]
        _overlay(ax, pictures[k], explained.maps[k])
        head = f"{style.short_name(explained.names[k])} {explained.probabilities[k]:.2f}"
        name = "" if titles is None else _shortened(titles[k], 20) + "\n"
        ax.set_title(name + head, loc="left", fontsize=_SIZE - 2, color=INK, parse_math=False)
        ax.set_xlabel("no map" if share is None else f"border {_percent(share)}", loc="left", fontsize=_SIZE - 2,
                      color=QUIET)
    style.save(figure, path)


def shortcut_check(checks, pictures, path):
    """Draw what each condition does to a picture, and below it the AUC under it with its interval.

    Parameters
    ----------
    checks : dict from a name, such as "test" or "other hospital", to a ShortcutCheck (evaluation/shortcut_test.py); one to three
    pictures : dict from each condition to the picture under it, ndarray, shape (H, W, C), uint8 or floats in [0, 1]
    path : str or Path; a PNG file
    """
    if not 1 <= len(checks) <= 3 or not all(hasattr(check, "conditions") for check in checks.values()):
        raise InputError(f"checks: expected one to three results of stress by name, got {len(checks)}.")
    width, left, slot = 6.4, 0.52, 0.97              # inches; a slot holds a picture, and below it what was measured
    below = 0.12 + 0.2 * (len(checks) > 1) * len(checks)
    height = below + 2.5 + 0.42 + slot + 0.2
    figure = style.new_figure(width, height, 160)
    figure.set_layout_engine("none")
    for k, (name, picture) in enumerate(pictures.items()):
        ax = figure.add_axes([(left + k * slot + 0.04) / width, 1 - (slot + 0.2) / height, (slot - 0.08) / width,
                              (slot - 0.08) / height])
        style.show(ax, style.as_pictures(np.asarray(picture)[np.newaxis])[0], None)
        ax.set_title(name, fontsize=_SIZE - 1, color=INK, pad=4)
    ax = figure.add_axes([left / width, below / height, len(pictures) * slot / width, 2.5 / height])
    style.quiet(ax, "AUC with 95 % intervals")
    ax.axhline(0.5, color=QUIET, linewidth=1, linestyle=":")
    ax.annotate("chance", (-0.5, 0.5), xytext=(2, 3), textcoords="offset points", ha="left", fontsize=_SIZE - 2,
                color=QUIET)
    apart = 0.34 if len(checks) == 2 else 0.3
    for i, ((name, check), colour, marker) in enumerate(zip(checks.items(), (BLUE, ORANGE, "#009E73"), "osD")):
        place = np.arange(len(pictures)) + apart * (i - (len(checks) - 1) / 2)
        _dots(ax, place, check, colour, marker, style.short_name(name))
    ax.set_xlim(-0.5, len(pictures) - 0.5)
    ax.set_ylim(-0.02, 1.12)
    ax.set_yticks(np.arange(0, 1.01, 0.25))
    ax.set_xticks([])
    if len(checks) > 1:
        style.legend(ax, loc="upper left", bbox_to_anchor=(-0.01, 0.0), borderpad=0.2)
    style.save(figure, path)


def _dots(ax, places, check, colour, marker, name):
    """Draw the AUCs of a check; where one is not defined there is a word in its place."""
    label = name
    if all(one.metrics["auc"] is None for one in check.conditions):
        ax.plot([], [], marker, color=colour, markersize=6.5, label=f"{name}: undefined")
    for place, one in zip(places, check.conditions):
        value, interval = one.metrics["auc"], one.interval
        if value is None:
            ax.text(place, 0.04, "undefined", rotation=90, ha="center", va="bottom", fontsize=_SIZE - 2, color=QUIET)
            continue
        low, high = (value, value) if interval.low is None else interval[:2]
        ax.plot([place, place], [low, high], color=colour, linewidth=1.6)
        ax.plot(place, value, marker, color=colour, markersize=6.5, label=label, linestyle="")
        ax.annotate(f"{value:.2f}", (place, high), xytext=(0, 4), textcoords="offset points", ha="center",
                    fontsize=_SIZE - 2, color=INK)
        label = None


def _checked(pictures, explained):
    """Return pictures as style.py shows them, or raise unless they are those of the maps."""
    if not hasattr(explained, "border_shares"):
        raise InputError("explained: expected what explain(model, pictures) returned.")
    pictures = style.as_pictures(pictures)
    if pictures.shape[1:3] != explained.maps.shape[1:] or len(pictures) not in (1, len(explained.maps)):
        raise ShapeError(f"pictures: expected those that were explained, {explained.maps.shape}, got {pictures.shape}.")
    return pictures


def _overlay(ax, picture, heat):
    """Draw a picture with its map over it and the line of the border; return what the colour scale belongs to."""
    style.show(ax, picture, None)
    top = heat.max() if heat.max() > 0 else 1.0
    shown = ax.imshow(heat, cmap="cividis", vmin=0, vmax=top, alpha=0.75 * np.sqrt(heat / top),
                      interpolation="nearest")
    H, W = heat.shape
    left, right, up, down = W // 8 - 0.5, W - W // 8 - 0.5, H // 8 - 0.5, H - H // 8 - 0.5
    for width, colour, dashes in ((2.2, INK, "-"), (1.0, "white", (0, (4, 3)))):
        ax.plot([left, right, right, left, left], [up, up, down, down, up], color=colour, linewidth=width,
                linestyle=dashes, alpha=0.8 if colour == "white" else 0.35)
    ax.set_xlim(-0.5, W - 0.5)
    ax.set_ylim(H - 0.5, -0.5)
    return shown


def _scale(ax, shown):
    """Draw the colour scale beside a panel, from nothing to the most of its map."""
    bar = ax.inset_axes([1.03, 0, 0.045, 1])
    bar.imshow(np.linspace(1, 0, 256)[:, np.newaxis], cmap=shown.cmap, vmin=0, vmax=1, aspect="auto")
    bar.set_xticks([])
    bar.yaxis.tick_right()
    bar.set_yticks([255, 0], labels=["0", "most"])
    bar.tick_params(length=0, labelsize=_SIZE - 2, labelcolor=QUIET)
    for spine in bar.spines.values():
        spine.set_color(FAINT)


def _method(explained):
    if explained.layer is None:
        return "Occlusion"
    return f"{'HiResCAM' if explained.method == 'hirescam' else 'Grad-CAM'} of {explained.layer}"


def _told(explained, index):
    """Return the sentence below a picture."""
    share, even = explained.border_shares[index], explained.even_share
    if share is None:
        return ("Nothing in this map speaks for the class; try another layer, or occlusion. (Of an even map "
                f"{_percent(even)} would lie on the border, outside the dashed line.)")
    return (f"{_percent(share)} of the map lies on the border, outside the dashed line; of an even map it would be "
            f"{_percent(even)}. The map shows where the class's score comes from, not why.")


def _percent(share):
    return f"{100 * share:.0f} %"


def _shortened(text, most):
    text = printable(text)
    return text if len(text) <= most else "…" + text[1 - most:]
