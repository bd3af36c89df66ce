"""Plots of explanations and of the shortcut check.

Maps are drawn over the images in cividis, which colour-blind people see as others do, transparent where they are low. A
dashed line marks the border, the outer eighth of each side.
"""

import textwrap

import numpy as np

from minicnn.core.text import percent
from minicnn.errors import InputError, ShapeError, printable
from minicnn.plotting import style
from minicnn.plotting.style import BLUE, FAINT, GREEN, INK, ORANGE, QUIET, SIZE

__all__ = ["explanation", "shortcut_check", "images_of", "method_name", "overlay", "blended"]

_NOT_A_DEVICE = "minicnn is a tool for teaching and research, not a medical device."


def explanation(image, explained, path, title="", index=0):
    """Draw an image, and beside it the same image with its map as an overlay.

    Parameters
    ----------
    image : ndarray, shape (H, W, C), C = 1 or 3, uint8 or floats in [0, 1], as input to the network
    explained : Explanation
    path : str or Path; a PNG file
    title : str, the name of the image
    index : int, the number of the image among those explained

    Raises
    ------
    ShapeError : an image of another size than the map
    """
    images = images_of(np.asarray(image)[np.newaxis], explained)
    figure = style.new_figure(6.4, 4.15)
    left, right = figure.subplots(1, 2)
    style.heading(figure, f"{style.short_name(explained.names[index])}, probability "
                          f"{explained.probabilities[index]:.3f}", SIZE + 2)
    style.show(left, images[0])
    _scale(right, overlay(right, images[0], explained.maps[index]))
    for ax, text in ((left, _ending(title or "the image")), (right, method_name(explained))):
        ax.set_title(text, loc="left", fontsize=SIZE - 1, color=QUIET, parse_math=False)
    style.footnote(figure, "\n".join([*textwrap.wrap(_sentence(explained, index), 98), _NOT_A_DEVICE]), SIZE - 1.5)
    style.save(figure, path)


def shortcut_check(checks, images, path):
    """Draw an image under each condition, and below it the AUC under this condition with its interval.

    Parameters
    ----------
    checks : {name, such as "test" or "external": ShortcutCheck (evaluation/shortcut_test.py)}; one to three
    images : {condition: the image under it, ndarray, shape (H, W, C), uint8 or floats in [0, 1]}
    path : str or Path; a PNG file

    Raises
    ------
    InputError : no check, or more than three
    """
    if not 1 <= len(checks) <= 3 or not all(hasattr(check, "conditions") for check in checks.values()):
        raise InputError(f"checks: expected one to three results of check_shortcuts by name, got {len(checks)}.")
    width, left, slot = 6.4, 0.52, 0.97              # inches; a slot holds an image, and its AUCs below
    below = 0.12 + 0.2 * (len(checks) > 1) * len(checks)
    height = below + 2.5 + 0.42 + slot + 0.2
    figure = style.new_figure(width, height, 160)
    figure.set_layout_engine("none")
    for k, (name, image) in enumerate(images.items()):
        ax = figure.add_axes([(left + k * slot + 0.04) / width, 1 - (slot + 0.2) / height, (slot - 0.08) / width,
                              (slot - 0.08) / height])
        style.show(ax, style.as_pictures(np.asarray(image)[np.newaxis])[0])
        ax.set_title(name, fontsize=SIZE - 1, color=INK, pad=4)
    ax = figure.add_axes([left / width, below / height, len(images) * slot / width, 2.5 / height])
    style.quiet(ax, "AUC with 95 % intervals")
    ax.axhline(0.5, color=QUIET, linewidth=1, linestyle=":")
    ax.annotate("chance", (-0.5, 0.5), xytext=(2, 3), textcoords="offset points", ha="left", fontsize=SIZE - 2,
                color=QUIET)
    apart = 0.34 if len(checks) == 2 else 0.3
    for i, ((name, check), colour, marker) in enumerate(zip(checks.items(), (BLUE, ORANGE, GREEN), "osD")):
        place = np.arange(len(images)) + apart * (i - (len(checks) - 1) / 2)
        _dots(ax, place, check, colour, marker, style.short_name(name))
    ax.set(xlim=(-0.5, len(images) - 0.5), ylim=(-0.02, 1.12), xticks=[], yticks=np.arange(0, 1.01, 0.25))
    if len(checks) > 1:
        style.legend(ax, loc="upper left", bbox_to_anchor=(-0.01, 0.0), borderpad=0.2)
    style.save(figure, path)


def _dots(ax, places, check, colour, marker, name):
    """Draw the AUCs of a check, or "undefined"."""
    label = name
    if all(one.metrics["auc"] is None for one in check.conditions):
        ax.plot([], [], marker, color=colour, markersize=6.5, label=f"{name}: undefined")
    for place, one in zip(places, check.conditions):
        value, interval = one.metrics["auc"], one.interval
        if value is None:
            ax.text(place, 0.04, "undefined", rotation=90, ha="center", va="bottom", fontsize=SIZE - 2, color=QUIET)
            continue
        low, high = interval.bounds or (value, value)
        ax.plot([place, place], [low, high], color=colour, linewidth=1.6)
        ax.plot(place, value, marker, color=colour, markersize=6.5, label=label, linestyle="")
        ax.annotate(f"{value:.2f}", (place, high), xytext=(0, 4), textcoords="offset points", ha="center",
                    fontsize=SIZE - 2, color=INK)
        label = None


def images_of(images, explained):
    """Return images as style.py shows them; ShapeError or InputError unless they are those of the maps."""
    if not hasattr(explained, "border_shares"):
        raise InputError("explained: expected the result of explain(model, images).")
    images = style.as_pictures(images)
    if images.shape[1:3] != explained.maps.shape[1:] or len(images) not in (1, len(explained.maps)):
        raise ShapeError(f"images: expected those that were explained, {explained.maps.shape}, got {images.shape}.")
    return images


def overlay(ax, image, heat):
    """Draw an image with its map as an overlay and the line of the border; return the drawn map."""
    style.show(ax, image)
    top = heat.max() if heat.max() > 0 else 1.0
    shown = ax.imshow(heat, cmap="cividis", vmin=0, vmax=top, alpha=0.75 * np.sqrt(heat / top),
                      interpolation="nearest")
    H, W = heat.shape
    left, right, up, down = W // 8 - 0.5, W - W // 8 - 0.5, H // 8 - 0.5, H - H // 8 - 0.5
    for width, colour, dashes in ((2.2, INK, "-"), (1.0, "white", (0, (4, 3)))):
        ax.plot([left, right, right, left, left], [up, up, down, down, up], color=colour, linewidth=width,
                linestyle=dashes, alpha=0.8 if colour == "white" else 0.35)
    ax.set(xlim=(-0.5, W - 0.5), ylim=(H - 0.5, -0.5))
    return shown


def blended(image, heat):
    """Return what `overlay` draws, without the line: ndarray, shape (H, W, 3), floats in [0, 1]."""
    from matplotlib import colormaps

    share = heat / (heat.max() if heat.max() > 0 else 1.0)
    grey = image if np.ndim(image) == 3 else np.repeat(image[..., np.newaxis], 3, axis=2)
    opacity = 0.75 * np.sqrt(share)[..., np.newaxis]
    return (1 - opacity) * grey + opacity * colormaps["cividis"](share)[..., :3]


def _scale(ax, shown):
    """Draw the colour scale beside a panel, from 0 to the maximum of its map."""
    bar = ax.inset_axes([1.03, 0, 0.045, 1])
    bar.imshow(np.linspace(1, 0, 256)[:, np.newaxis], cmap=shown.cmap, vmin=0, vmax=1, aspect="auto")
    bar.set_xticks([])
    bar.yaxis.tick_right()
    bar.set_yticks([255, 0], labels=["0", "max."])
    bar.tick_params(length=0, labelsize=SIZE - 2, labelcolor=QUIET)
    for spine in bar.spines.values():
        spine.set_color(FAINT)


def method_name(explained):
    """Return the name of the method of an Explanation, with its layer."""
    if explained.layer is None:
        return "Occlusion"
    return f"{'HiResCAM' if explained.method == 'hirescam' else 'Grad-CAM'} of {explained.layer}"


def _sentence(explained, index):
    """Return the sentence below an image."""
    share, even = explained.border_shares[index], percent(explained.even_share, 0)
    if share is None:
        return (f"Nothing in this map supports the class; try another layer, or occlusion. (Of a uniform map {even} "
                "would lie on the border, outside the dashed line.)")
    return (f"{percent(share, 0)} of the map lies on the border, outside the dashed line; of a uniform map it would be "
            f"{even}. The map shows where the score of the class comes from, not why.")


def _ending(text, most=40):
    """Return the end of a text of unknown origin, such as the name of a file at the end of a path."""
    text = printable(text)
    return text if len(text) <= most else "…" + text[1 - most:]
