"""Plots of the computation of a network: convolution, pooling, architecture (Figs 3 to 6 of the paper).

The numbers are those of the network on one image. Sums are computed in float64 and shown rounded; the result beside
them is the engine's.
"""

import textwrap
from typing import NamedTuple

import numpy as np

from minicnn.core.text import percent
from minicnn.errors import InputError, ShapeError, printable
from minicnn.layers import (AveragePool2D, Conv2D, Dense, Flatten, GlobalAveragePooling2D, GlobalMaxPooling2D, MaxPool2D,
                            Reshape)
from minicnn.layers.activations import Activation
from minicnn.plotting import style
from minicnn.plotting.style import BLUE, GREEN, INK, ORANGE, QUIET, SKY, YELLOW
from minicnn.reference import im2col

__all__ = ["convolution", "convolution_figure", "pooling", "pooling_figure", "architecture", "blocks_of", "total_of"]

_DPI, _SIZE, _FILTERS, _MOST = 160, 9, 6, 7     # filters drawn; the widest window whose numbers are readable


def convolution(model, image, path):
    """Draw the first convolution of an image: the computation of one number, and the maps of some filters (Fig 3).

    The filters are chosen one by one, each with the map of the largest variance beyond those before. The number is of
    the first filter, at the position away from the border around which the image varies most.

    Parameters
    ----------
    model : Sequential over images
    image : ndarray, shape (H, W, C), as input to the network; uint8, or floats in [0, 1]
    path : str or Path; a PNG file

    Raises
    ------
    ShapeError, InputError : another shape than the network's input; no convolution, or a window wider than 7
    """
    style.save(convolution_figure(model, image), path)


def convolution_figure(model, image):
    """Return the figure of `convolution`."""
    index = _first(model, Conv2D, "convolution")
    conv, x = model.layers[index], _input(model, image)
    if max(conv.kernel_size) > _MOST:
        raise InputError(f"convolution: the window of {conv.name}, {_by(conv.kernel_size)}, is too large to be drawn; "
                         f"at most {_by((_MOST, _MOST))}.")
    if not conv.is_plain:
        raise InputError(f"convolution: {conv.name} has groups or dilated windows, which are not drawn.")
    sources = model.network.sources
    follows = index + 1 < len(model.layers) and isinstance(model.layers[index + 1], Activation) \
        and sources[index + 1] == (index + 1,)
    before, y = _output(model, x, sources[index][0]), _output(model, x, index + 1)
    after = _output(model, x, index + 2) if follows else y
    best = _different(after, min(_FILTERS, after.shape[2]))
    (KH, KW), (SH, SW), (top, _, left, _), (OH, OW) = conv.kernel_size, conv.strides, conv.pads, y.shape[:2]
    at = _most_varied({(i, j): before[max(0, i * SH - top):i * SH - top + KH, max(0, j * SW - left):j * SW - left + KW]
                       for i in range(OH // 4, OH - OH // 4) for j in range(OW // 4, OW - OW // 4)})
    number = _number(conv, before, y, (*at, best[0]))

    figure = style.new_figure(6.4, 4.9, _DPI)
    upper, lower = figure.subfigures(2, 1, height_ratios=[1, 1.05])
    behind = f" after {model.layers[index + 1].name}" if follows else ""
    _computation(upper, conv, before, number, behind and f";{behind} it is {after[number.index]:.3f}")
    _maps(lower, conv, behind, after, best)
    return figure


def pooling(model, image, path):
    """Draw the first pooling of an image: four windows with their numbers, and the whole map (Fig 4).

    The map is the one of the largest variance, the windows are where its output varies most. Arguments and errors as
    for `convolution`.
    """
    style.save(pooling_figure(model, image), path)


def pooling_figure(model, image):
    """Return the figure of `pooling`."""
    index = _first(model, (MaxPool2D, AveragePool2D), "pooling")
    pool, x = model.layers[index], _input(model, image)
    if max(pool.pool_size) > 3:
        raise InputError(f"pooling: the windows of {pool.name}, {_by(pool.pool_size)}, are too large to be drawn; "
                         f"at most {_by((3, 3))}.")
    before, after = _output(model, x, model.network.sources[index][0]), _output(model, x, index + 1)
    k = int(before.std(axis=(0, 1)).argmax())
    before, after = before[..., k], after[..., k]
    row, column = _most_varied({(i, j): after[i:i + 2, j:j + 2] for i in range(max(1, after.shape[0] - 1))
                                for j in range(max(1, after.shape[1] - 1))})
    windows = after[row:row + 2, column:column + 2]
    rows, columns = (slice(max(0, at * S - P), min(side, (at + n - 1) * S - P + K)) for at, n, S, P, K, side in zip(
        (row, column), windows.shape, pool.strides, (pool.pads[0], pool.pads[2]), pool.pool_size, before.shape))
    figure = style.new_figure(6.4, 2.4, _DPI)
    largest = isinstance(pool, MaxPool2D)
    _title(figure, f"{pool.name} keeps the {'largest' if largest else 'mean'} of each window of {_by(pool.pool_size)}: "
           f"{_by(before.shape)} numbers become {_by(after.shape)}")
    a, b, c, d = figure.subplots(1, 4, width_ratios=[1.15, 1.3, 0.7, 1.15])
    _grey(a, before, f"before (map {k} of {model.layers[index].input_shape[2]})")
    _frame(a, rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start)
    _numbers(b, before[rows, columns], "in the frame", _taken(before, pool, (row, column), windows.shape)[rows, columns]
             if largest else None, window=pool.pool_size if pool.pool_size == pool.strides else None)
    _numbers(c, windows, "output", np.full(windows.shape, largest))
    _grey(d, after, "after")
    _frame(d, row, column, *windows.shape)
    return figure


def architecture(model, path):
    """Draw the layers of a network in order, with their output shapes and parameters (Figs 5 and 6); an arrow where a layer
    takes what the one before it makes, and nothing else.

    The height of a block is that of its maps, its depth grows with the logarithm of their number; a vector is a bar. An
    activation is written with the layer before it.

    Parameters
    ----------
    model : Sequential
    path : str or Path; a PNG file
    """
    blocks = blocks_of(model)
    columns = min(len(blocks), 9)
    rows = -(-len(blocks) // columns)
    figure = style.new_figure(6.4, 2.25 * rows + 0.5, _DPI)
    _title(figure, total_of(blocks), "below each layer: its output shape, and its number of parameters")
    for r, ax in enumerate(np.ravel(figure.subplots(rows, 1, squeeze=False))):
        ax.set(xlim=(-0.55, max(columns, 5) - 0.45), ylim=(-0.75, 1.5))
        ax.set_axis_off()
        here = blocks[r * columns:(r + 1) * columns]
        for i, block in enumerate(here):
            _block(ax, i, block, model.network.input_shape)
            if block["follows"]:
                ax.annotate("", (i - 0.40, 0.5), (i - 0.56, 0.5), annotation_clip=False,
                            arrowprops=dict(arrowstyle="->", color=QUIET, linewidth=0.9))
    style.save(figure, path)


# ---- Values ----------------------------------------------------------------------------------------------------------

def _first(model, kind, what):
    for index, layer in enumerate(model.layers):
        if isinstance(layer, kind):
            return index
    raise InputError(f"{what}: this network has no {what} layer to draw; its layers are "
                     f"{', '.join(layer.name for layer in model.layers)}.")


def _input(model, image):
    """Return an image as the network's input: (H, W, C) of its dtype."""
    x = np.asarray(image)
    if x.shape != model.network.input_shape or len(x.shape) != 3:
        raise ShapeError(f"image: expected shape {model.network.input_shape}, the network's input shape, got {x.shape}.")
    return x.astype(model.dtype) / 255 if x.dtype == np.uint8 else x.astype(model.dtype)


def _output(model, x, depth):
    """Return the output of the first `depth` layers for one image, without N."""
    return x if depth == 0 else np.array(model.network.forward(x[np.newaxis], model.network.rows(depth))[0])


def _different(maps, n):
    """Return the numbers of n maps of (OH, OW, F), each of the largest variance beyond those before."""
    left, chosen = maps.reshape(-1, maps.shape[2]).astype(np.float64), []
    left = left - left.mean(axis=0)
    for _ in range(n):
        lengths = np.linalg.norm(left, axis=0)
        lengths[chosen] = -1
        k = int(lengths.argmax())
        chosen.append(k)
        direction = left[:, k] / (lengths[k] or 1.0)
        left = left - np.outer(direction, direction @ left)
    return chosen


def _most_varied(windows):
    """Return the key of the window with the largest standard deviation, the first of equal ones."""
    return max(windows, key=lambda at: windows[at].std())


def _taken(before, pool, at, sizes):
    """Return which numbers max pooling keeps in windows of `before`: the first largest of each, bool."""
    taken = np.zeros(before.shape, bool)
    for i, j in np.ndindex(*sizes):
        top, left = (max(0, (place + step) * S - P) for place, step, S, P in zip(
            at, (i, j), pool.strides, (pool.pads[0], pool.pads[2])))
        window = before[top:(at[0] + i) * pool.strides[0] - pool.pads[0] + pool.pool_size[0],
                        left:(at[1] + j) * pool.strides[1] - pool.pads[2] + pool.pool_size[1]]
        down, across = np.unravel_index(window.argmax(), window.shape)
        taken[top + down, left + across] = True
    return taken


class _Number(NamedTuple):
    """One number of a convolution: index, window x, filter w, their products, bias, the sum, and the engine's."""

    index: tuple
    x: np.ndarray
    w: np.ndarray
    products: np.ndarray
    bias: float
    value: float
    engine: float


def _number(conv, x, y, index):
    """Return the _Number at `index` of y, in float64."""
    (row, column, f), w, b = index, conv.parameters[0].value, conv.bias[0]
    windows = im2col(x[np.newaxis].astype(np.float64), conv.kernel_size, conv.strides, conv.pads)
    window = windows[row * y.shape[1] + column].reshape(w.shape[:3])
    products = window * w[..., f]
    return _Number(index, window, w[..., f], products, float(b[f]), float(products.sum() + b[f]), float(y[index]))


# ---- Convolution -----------------------------------------------------------------------------------------------------

def _computation(figure, conv, before, number, then):
    """Draw the image, the numbers around the window, the filter, the products, and below them their sum."""
    (KH, KW), (row, column, k) = conv.kernel_size, number.index
    top, left = row * conv.strides[0] - conv.pads[0], column * conv.strides[1] - conv.pads[2]
    grey = bool((before == before[..., :1]).all())
    channel = 0 if grey else int(np.abs(number.products).sum(axis=(0, 1)).argmax())
    w, products = (part.sum(axis=-1) if grey else part[..., channel] for part in (number.w, number.products))
    rows, columns = (np.arange(at - 1, at + K + 1) for at, K in ((top, KH), (left, KW)))
    padded = np.pad(before[..., channel], KH + KW + 2)      # outside the image there are zeros
    patch = padded[np.ix_(rows + KH + KW + 2, columns + KH + KW + 2)]
    inside = np.zeros(patch.shape, bool)
    inside[1:-1, 1:-1] = True

    _title(figure, f"{conv.name}: the computation of one number")
    axes = figure.subplots(1, 4, width_ratios=[5, KW + 2, KW, KW])
    _grey(axes[0], before if before.shape[2] == 3 else before[..., 0], "the image")
    _frame(axes[0], *(max(0, at[0]) for at in (rows, columns)),
           *(min(at[-1] + 1, side) - max(0, at[0]) for at, side in zip((rows, columns), before.shape)))
    _numbers(axes[1], patch, "in the frame", inside)
    _numbers(axes[2], w, f"filter {k}")
    _numbers(axes[3], products, "products")
    others = number.products.sum() - products.sum()
    told = (f"Sum of the {products.size} products {products.sum():.3f}"
            + ("" if grey else f", of the other channels {others:.3f}")
            + f", plus bias {number.bias:.3f}: {number.value:.3f}. The engine gives {number.engine:.3f}{then}."
            + (" All channels of the image are equal, so the weights of a filter are added over them."
               if grey and before.shape[2] > 1 else "" if grey else f" Shown: channel {channel}."))
    style.footnote(figure, "\n".join(textwrap.wrap(told, 105)), _SIZE - 1)


def _maps(figure, conv, behind, after, best):
    """Draw filters, and below each its map of the image."""
    w = conv.parameters[0].value.sum(axis=2)
    _title(figure, f"{len(best)} of its {after.shape[-1]} filters (orange: above 0, purple: below)",
           f"and their maps of {_by(after.shape[:2])}{behind} (black: minimum, white: maximum)")
    most = np.abs(w[..., best]).max() or 1.0
    for column, k in zip(figure.subplots(2, len(best), height_ratios=[0.55, 1], squeeze=False).T, best):
        column[0].imshow(w[..., k], cmap="PuOr_r", vmin=-most, vmax=most, interpolation="nearest")
        style.bare(column[0], f"filter {k}")
        _grey(column[1], after[..., k], "")


# ---- Panels ----------------------------------------------------------------------------------------------------------

def _title(figure, *lines):
    style.heading(figure, "\n".join(part for line in lines for part in textwrap.wrap(printable(line), 80)))


def _numbers(ax, numbers, title, marked=None, window=None):
    """Draw a matrix as a grid of its numbers with two decimals; marked cells are filled, thick lines part windows."""
    from matplotlib.patches import Rectangle

    (rows, columns), size = numbers.shape, (_SIZE - 2) * min(1.0, 5 / max(numbers.shape))
    for (i, j), number in np.ndenumerate(numbers):
        filled = marked is not None and marked[i, j]
        ax.add_patch(Rectangle((j, i), 1, 1, facecolor="#CFE8F7" if filled else "white", edgecolor="#BBBBBB",
                               linewidth=0.7))
        ax.text(j + 0.5, i + 0.52, f"{number:.2f}".replace("-0.00", "0.00"), ha="center", va="center", fontsize=size,
                color=INK)
    for i, j in np.ndindex(-(-rows // window[0]), -(-columns // window[1])) if window else ():
        ax.add_patch(Rectangle((j * window[1], i * window[0]), window[1], window[0], fill=False, edgecolor=QUIET,
                               linewidth=1.3))
    ax.set(xlim=(-0.05, columns + 0.05), ylim=(rows + 0.05, -0.05), aspect="equal")
    style.bare(ax, title)


def _grey(ax, image, title):
    low, high = float(image.min()), float(image.max())
    shown = image if image.ndim == 3 else (image - low) / ((high - low) or 1.0)
    ax.imshow(np.clip(shown, 0, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    style.bare(ax, title)


def _frame(ax, row, column, rows, columns):
    from matplotlib.patches import Rectangle
    ax.add_patch(Rectangle((column - 0.5, row - 0.5), columns, rows, fill=False, edgecolor=ORANGE, linewidth=1.6,
                           clip_on=False))


# ---- Architecture ----------------------------------------------------------------------------------------------------

def blocks_of(model):
    """Return a dict for the input and each layer but activations: lines, shape, parameters, kind, and whether it takes
    what the one before it makes, and nothing else."""
    blocks = [{"lines": ["input"], "shape": model.network.input_shape, "parameters": None, "kind": None, "name": "input",
               "follows": False}]
    before = ["input", *(layer.name for layer in model.layers)]
    for layer, row, previous in zip(model.layers, model.summary_rows(), before):
        if isinstance(layer, Activation) and len(blocks) > 1 and len(blocks[-1]["lines"]) < 3:
            blocks[-1]["lines"].append(type(layer).__name__)
            continue
        window = getattr(layer, "kernel_size", getattr(layer, "pool_size", None))
        name = type(layer).__name__.replace("Pooling2D", "Pool").replace("Pool2D", "Pool").replace("Average", "Mean")
        short = (name if len(name) < 12 else name.removesuffix("2D"))[:11]
        lines = ["Global", name[6:]] if name.startswith("Global") else [short]
        blocks.append({"lines": lines + ([_by(window)] if window is not None else []), "name": row["name"],
                       "follows": row["takes"] == [previous], "shape": row["output_shape"], "parameters": row["parameters"], "kind": type(layer)})
    return blocks


def total_of(blocks):
    """Return the number of parameters, and the layer with most of them."""
    total = sum(block["parameters"] or 0 for block in blocks)
    most = max(blocks, key=lambda block: block["parameters"] or 0)
    if not total:
        return "no parameters"
    return f"{total:,} parameters, {percent(most['parameters'] / total, 0)} of them in {most['name']}"


def _block(ax, place, block, input_shape):
    """Draw one block around x = place between y = 0 and 1, its name above, and its sizes below."""
    from matplotlib.patches import Polygon

    colours = {Conv2D: BLUE, MaxPool2D: YELLOW, AveragePool2D: YELLOW, Dense: GREEN, Flatten: SKY, Reshape: SKY,
               GlobalAveragePooling2D: YELLOW, GlobalMaxPooling2D: YELLOW}
    colour, shape = colours.get(block["kind"], QUIET), block["shape"]
    if len(shape) == 3:
        height = 0.12 + 0.72 * shape[0] / max(input_shape[0], shape[0])
        lean, deep = 0.30 * height, 0.05 + 0.035 * np.log2(shape[2])
    else:
        height, lean, deep = 0.1 + 0.06 * np.log2(max(2, np.prod(shape))), 0.05, 0.07
    left, low = place - (deep + lean * 0.8) / 2, 0.5 - (height + lean * 0.5) / 2
    front = np.array([(0, 0), (deep, 0), (deep, height), (0, height)]) + (left, low)
    back = front + (lean * 0.8, lean * 0.5)
    for corners, light in ((front, 0.55), ([front[3], front[2], back[2], back[3]], 0.3),
                           ([front[1], back[1], back[2], front[2]], 0.75)):
        ax.add_patch(Polygon(corners, facecolor=_mixed(colour, light), edgecolor=INK, linewidth=0.6, joinstyle="round"))
    ax.text(place, 1.1, "\n".join(block["lines"]), ha="center", va="bottom", fontsize=_SIZE - 2, color=INK,
            linespacing=1.15, parse_math=False)
    parameters = "" if block["parameters"] is None else f"{block['parameters']:,}"
    sizes = f"{shape[0]} x {shape[1]}\nx {shape[2]}" if len(shape) == 3 else _by(shape)
    ax.text(place, -0.1, sizes, ha="center", va="top", fontsize=_SIZE - 2, color=INK)
    ax.text(place, -0.52, parameters, ha="center", va="top", fontsize=_SIZE - 2, color=QUIET)


def _mixed(colour, share):
    """Return a colour mixed with white, in the proportion `share`."""
    parts = np.array([int(colour[i:i + 2], 16) for i in (1, 3, 5)]) / 255
    return tuple(1 - share + share * parts)


def _by(sizes):
    return " x ".join(map(str, sizes))
