"""Drawings of a report (document.py) as HTML and inline SVG, for pages from the width of a phone to that of a sheet.

A drawing is made of panels 300 units wide that stand side by side where there is room and below one another where there
is not; so their text is never smaller than the page's small print. Colours are classes of page.css, which has a light
and a dark set. All text passes through `_text`.
"""

import base64
from html import escape

import numpy as np

from minicnn.core.text import percent
from minicnn.errors import printable
from minicnn.reporting.document import Forest, Matrix, Plot, Tiles

__all__ = ["drawn", "ticks"]

_WIDTH, _HEIGHT, _COUNTS = 300, 204, 48                 # of a panel, and of the bars below it
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 26, 42
_STRIP, _LINE = 440, 26                                 # the size of all strips in a row of a forest plot
_SHAPES = {"line": "line", "thin": "thin", "marks": "faint"}
_DASHES = "", "7 4", "9 3 2 3", "2 3", "", "7 4"
_MARKS = "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0", "M-4-4h8v8h-8z", "M0-5 5 0 0 5-5 0z", "M0-5 5 4h-10z", \
    "M0 5 5-4h-10z", "M-4-2h2v-2h4v2h2v4h-2v2h-4v-2h-2z"


def drawn(drawing):
    """Return a drawing, a list of Plot, Matrix, Tiles or Forest, as HTML."""
    write = {Plot: _plot, Matrix: _matrix, Tiles: _tiles, Forest: _forest}
    panels = "".join(write[type(panel)](panel) for panel in drawing)
    return f'<div class="panels">{panels}</div>{_key(drawing)}'


def ticks(low, high, most=6):
    """Return round numbers from low to high, at most so many.

    >>> ticks(0, 1), ticks(0.5, 3.5), ticks(0, 0.7)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [1.0, 2.0, 3.0], [0.0, 0.2, 0.4, 0.6])
    """
    rough = (high - low) / (most - 1)
    power = 10.0**np.floor(np.log10(rough))
    step = next(step for step in (1, 2, 5, 10) if step * power >= rough * (1 - 1e-9)) * power
    return [round(float(k * step), 10) for k in range(int(np.ceil(low / step - 1e-9)), int(high / step + 1e-9) + 1)]


def _text(value):
    return escape(printable(value))


def _n(value):
    """Return a coordinate: no more digits than can be seen."""
    return f"{value:.1f}".removesuffix(".0")


def _svg(height, content, width=_WIDTH, name="plot"):
    return f'<svg class="{name}" viewBox="0 0 {width} {height}">{content}</svg>'


def _title(title, note=""):
    return f"<p><b>{_text(title)}</b>" + (f" <span>{_text(note)}</span>" if note else "") + "</p>"


# ---- Lines -----------------------------------------------------------------------------------------------------------

def _plot(plot):
    """Return a panel: axes, lines, markers with intervals, and the counts below."""
    below, top = _COUNTS if plot.counts else 0, _TOP if plot.y else 10
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    (x0, x1), (y0, y1) = plot.xlim, plot.ylim

    def across(x):
        return _LEFT + (x - x0) / (x1 - x0) * (right - _LEFT)

    def up(y):
        return bottom - (y - y0) / (y1 - y0) * (bottom - top)

    whole = plot.x == "epoch"
    parts = []
    for y in ticks(y0, y1):
        label = f"{100 * y:g} %" if plot.percent else f"{y:g}"
        parts.append(f'<path class="grid" d="M{_LEFT} {_n(up(y))}H{right}"/>'
                     f'<text x="{_LEFT - 6}" y="{_n(up(y) + 4)}" text-anchor="end">{label}</text>')
    for x in ticks(x0, x1, 11 if whole else 6):
        if not whole or x == int(x):
            parts.append(f'<text x="{_n(across(x))}" y="{bottom + below + 17}" text-anchor="middle">{x:g}</text>')
    parts.append(f'<path class="axis" d="M{_LEFT} {bottom}H{right}"/>'
                 f'<text x="2" y="13">{_text(plot.y)}</text>'
                 f'<text x="{right}" y="{bottom + below + 35}" text-anchor="end">{_text(plot.x)}</text>')
    if plot.diagonal:
        parts.append(f'<path class="axis thin" d="M{_n(across(x0))} {_n(up(y0))}L{_n(across(x1))} {_n(up(y1))}"/>')
    parts += [_series(one, across, up) for one in plot.series]
    if plot.counts:
        parts.append(_counts(plot.counts, across, bottom, below, next((one.tone for one in plot.series), 0)))
    if not any(np.isfinite(_number(y)) for one in plot.series for _, y in one.points):
        parts.append(f'<text x="{(_LEFT + right) / 2}" y="{(top + bottom) / 2}" text-anchor="middle">nothing to '
                     "draw</text>")
    return f'<div class="panel">{_title(plot.title, plot.note)}{_svg(_HEIGHT + below, "".join(parts))}</div>'


def _series(one, across, up):
    places = [(across(x), up(y)) for x, y in ((x, _number(y)) for x, y in one.points)]
    dashes = f' stroke-dasharray="{_DASHES[one.tone % 6]}"' if _DASHES[one.tone % 6] and one.style != "marks" else ""
    shape = _path(places)
    marks = [(x, y) for x, y in places if np.isfinite(y)]
    marked = one.style == "marks" or one.style == "line" and len(marks) <= 30 and not any(
        a[0] == b[0] for a, b in zip(marks, marks[1:]))         # the steps of a ROC curve have none
    parts = [f'<path class="{_SHAPES[one.style]}" d="{shape}"{dashes}/>'] if shape else []
    parts += [f'<path class="interval" d="M{_n(across(x))} {_n(up(low))}V{_n(up(high))}"/>'
              for x, low, high in one.intervals]
    size = "" if one.style == "marks" else " scale(.75)"
    parts += [f'<path class="mark" transform="translate({_n(x)} {_n(y)}){size}" d="{_MARKS[one.tone % 6]}"/>'
              for x, y in marks] if marked else []
    return f'<g class="tone{one.tone % 6}">{"".join(parts)}</g>'


def _path(places):
    """Return points as a path: a gap where one is not finite, none that lies on a level or upright line."""
    shape, kept = "", []
    for x, y in [*places, (0, np.nan)]:
        if not np.isfinite(y):
            if len(kept) > 1:
                shape += "M" + "L".join(f"{a} {b}" for a, b in kept)
            kept = []
            continue
        here = _n(x), _n(y)
        if len(kept) > 1 and any(kept[-2][k] == kept[-1][k] == here[k] for k in (0, 1)):
            kept.pop()
        if not kept or kept[-1] != here:
            kept.append(here)
    return shape


def _number(value):
    return float("nan") if value is None else float(value)


def _counts(counts, across, top, height, tone):
    """Return the bars below a panel, hanging from its axis, with the largest number beside them."""
    most = max(n for *_, n in counts)
    bars = "".join(f'<path d="M{_n(across(low) + 2)} {top + 4}v{_n(max(1, n / most * (height - 12)))}'
                   f'H{_n(across(high) - 2)}V{top + 4}z"/>' for low, high, n in counts if n)
    return (f'<g class="bars tone{tone % 6}">{bars}</g>'
            f'<text x="{_LEFT - 6}" y="{top + 18}" text-anchor="end">0</text>'
            f'<text x="{_LEFT - 6}" y="{top + height - 4}" text-anchor="end">{most:,}</text>')


def _key(panels):
    """Return what each name of a line means, once for all panels."""
    entries = {one.name: one for panel in panels if isinstance(panel, Plot) for one in panel.series if one.name}
    if not entries:
        return ""
    names = "".join(f"<li>{_sample(one)}{_text(name)}</li>" for name, one in entries.items())
    return f'<ul class="key">{names}</ul>'


def _sample(one):
    dashes = f' stroke-dasharray="{_DASHES[one.tone % 6]}"' if _DASHES[one.tone % 6] else ""
    return (f'<svg class="sample tone{one.tone % 6}" viewBox="0 0 32 16">'
            f'<path class="{_SHAPES[one.style]}" d="M1 8H31"{dashes}/></svg>')


# ---- Forest plot -----------------------------------------------------------------------------------------------------

def _forest(forest):
    """Return a table: the name of a row, and for each metric a strip with its mark, and the value beside it."""
    heads = "".join(f'<th colspan="2">{_text(head)}</th>' for head in forest.heads)
    lines, before, width = [], "", _STRIP // max(2, len(forest.heads))
    for group, name, note, cells in forest.rows:
        if group != before:
            lines.append(f'<tr class="group"><th colspan="{1 + 2 * len(forest.heads)}">{_text(group)}</th></tr>')
            before = group
        shown = "".join(f'<td class="strip" data-head="{_text(head)}">{_strip(one, forest.low, width)}</td>'
                        f'<td class="{"value" if one.value is not None else "why"}">{_text(one.text)}</td>'
                        for head, one in zip(forest.heads, cells))
        small = f" <small>{_text(note)}</small>" if note else ""
        lines.append(f"<tr><th>{_text(name)}{small}</th>{shown}</tr>")
    axes = "".join(f'<td class="strip" data-head="">{_scale(forest.low, shares)}</td><td></td>'
                   for shares in forest.percent)
    return (f'<table class="group forest{" one" if len(forest.heads) == 1 else ""}">'
            f'<thead><tr><td></td>{heads}</tr></thead><tbody>{"".join(lines)}'
            f'<tr class="scale"><th></th>{axes}</tr></tbody></table>')


def _strip(one, low, width):
    """Return the marks of an estimate on a scale that has room for half a mark at both ends."""
    def across(value):
        return _n(0.036 * width + 0.9 * width * (value - low) / (1 - low))

    parts = [f'<path class="chance" d="M{across(0.5)} 0V{_LINE}"/>'] if low < 0.5 else []
    if one.value is not None and one.low is not None:
        parts.append(f'<path class="interval" d="M{across(one.low)} 12H{across(one.high)}"/>')
    if one.value is not None:
        parts.append(f'<path class="{"hollow" if one.hollow else "mark"}" d="{_MARKS[2 if one.hollow else 0]}" '
                     f'transform="translate({across(one.value)} 12)"/>')
    parts += [f'<circle class="seed" cx="{across(seed)}" cy="22" r="2"/>' for seed in one.seeds]
    return _svg(_LINE, "".join(parts), width, "bar")


def _scale(low, shares):
    marks = "".join(f'<span style="left: {_n(100 * (x - low) / (1 - low))}%">'
                    f'{f"{100 * x:g}" + " %" * (x == 1) if shares else f"{x:g}"}</span>' for x in ticks(low, 1, 3))
    return f'<div class="ends">{marks}</div>'


# ---- Matrices and pictures -------------------------------------------------------------------------------------------

def _matrix(matrix):
    """Return a confusion matrix as a table whose cells are shaded by the share of their true class."""
    heads = "".join(f"<th>{_text(name)}</th>" for name in matrix.classes)
    rows = ""
    for name, counts in zip(matrix.classes, matrix.rows):
        total = sum(counts)
        cells = "".join(f'<td style="--share:{100 * n / total if total else 0:.0f}%">{n:,}'
                        f'<small>{percent(n / total) if total else "–"}</small></td>' for n in counts)
        rows += f"<tr><th>{_text(name)}</th>{cells}</tr>"
    return (f'<div class="panel">{_title(matrix.title, matrix.note)}'
            f'<table class="matrix{" two" if len(matrix.rows) == 2 else ""}">'
            f'<thead><tr><td>true \\ predicted'
            f"</td>{heads}</tr></thead><tbody>{rows}</tbody></table></div>")


def _tiles(tiles):
    found = "".join(f'<li class="{"marked" if one.marked else ""}">{_title(one.title) if one.title else ""}'
                    f'{_inside(one)}' + "".join(f"<small>{_text(line)}</small>" for line in one.lines) + "</li>"
                    for one in tiles.tiles)
    kind = " pairs" if any(len(one.pictures) > 1 for one in tiles.tiles) else \
        " mixed" if any(one.numbers for one in tiles.tiles) else "" if any(one.pictures for one in tiles.tiles) else \
        " boxes"
    return (f'<div class="group">{_title(tiles.title) if tiles.title else ""}'
            f'<ul class="tiles{kind}">{found}</ul>{f"<p>{_text(tiles.note)}</p>" if tiles.note else ""}</div>')


def _inside(tile):
    if tile.numbers:
        rows = "".join("<tr>" + "".join(f'<td class="{"full" if full else ""}">{_text(text)}</td>'
                                        for text, full in row) + "</tr>" for row in tile.numbers)
        return f'<table class="grid-of">{rows}</table>'
    found = [f'<img src="data:image/png;base64,{base64.b64encode(one).decode("ascii")}" alt="">'
             for one in tile.pictures]
    if tile.framed:
        found[-1] = f'<span class="framed">{found[-1]}</span>'
    if tile.frame:
        place = "; ".join(f"{side}: {_n(x)}%" for side, x in zip(("left", "top", "width", "height"), tile.frame))
        found[-1] = f'<span class="frame">{found[-1]}<i style="{place}"></i></span>'
    return f"<div>{''.join(found)}</div>" if found else ""
