"""The main picture of the report: every figure with its interval, one below the other, beside what the paper claims.

A forest plot: a row for each measurement, a panel for each metric. The rows are made from `results.json` of `minicnn
reproduce` by `headline_rows` and `source_rows`; what is undefined is a row with a word in it.
"""

import textwrap

import numpy as np

from minicnn.errors import InputError, printable
from minicnn.plotting import style
from minicnn.plotting.style import BLUE, FAINT, INK, QUIET, SKY

__all__ = ["headline", "sources", "figure_of", "headline_rows", "source_rows"]

_DPI, _WIDTH, _NAMES, _GAP = 160, 6.4, 1.78, 0.22       # inches but the first; 6.4 in are 16 cm
_ROW, _HEAD, _TOP, _BOTTOM = 0.4, 0.28, 0.4, 0.6
_LETTER = 0.0076                                        # inches, of the average letter, for each point of its size
_HEADS = {"accuracy": "accuracy, %", "auc": "AUC", "recall": "recall, %", "specificity": "specificity, %"}


def headline(rows, path):
    """Draw accuracies and AUCs in rows: the paper's claim, its protocol, the honest test, unseen sources, elsewhere.

    Parameters
    ----------
    rows : list of dict, at least one: name, group (rows of one group that follow one another stand below its name),
        note (small, below the name; optional); accuracy, auc: a figure (`figure_of`) or None
    path : str or Path; a PNG file

    Raises
    ------
    InputError : no rows
    """
    _forest(rows, ("accuracy", "auc"), path)


def sources(rows, path):
    """Draw recall, specificity and AUC by source, with intervals; arguments as for `headline`, with these figures."""
    _forest(rows, ("recall", "specificity", "auc"), path)


def figure_of(part, metric):
    """Return what a forest plot shows of one metric.

    Parameters
    ----------
    part : dict, a description (summary.py), or {"seeds": [descriptions], "mean": description}; None: not measured
    metric : str

    Returns
    -------
    dict: value, low, high (None where there is none), seeds (list), reason (why there is no value)

    >>> told = {"auc": 0.9, "intervals": {"auc": [0.8, 0.95]}, "undefined": {}}
    >>> figure_of({"seeds": [{"auc": 0.88}, {"auc": 0.92}], "mean": told}, "auc")
    {'value': 0.9, 'low': 0.8, 'high': 0.95, 'seeds': [0.88, 0.92], 'reason': ''}
    """
    if part is None:
        return {"value": None, "low": None, "high": None, "seeds": [], "reason": "not measured"}
    told, seeds = (part["mean"], part.get("seeds", ())) if "mean" in part else (part, ())
    low, high = told.get("intervals", {}).get(metric) or (None, None)
    return {"value": told.get(metric), "low": low, "high": high,
            "seeds": [seed[metric] for seed in seeds if seed.get(metric) is not None],
            "reason": told.get("undefined", {}).get(metric, "")}


def headline_rows(results):
    """Return the rows of `headline` from the results of `minicnn reproduce`."""
    protocols, claim = results["protocols"], (results["paper"].get("table_ii") or {}).get("validation") or {}
    rows = [_row("the paper", "Table II, validation", None, "as printed")]
    rows[0]["accuracy"] |= {"value": claim.get("accuracy"), "claimed": True}
    rows[0]["auc"]["reason"] = "not reported"
    for key, name, part, note in (("paper", "the paper's protocol", "validation", "copies of images on both sides"),
                                  ("honest", "the honest protocol", "test", "patients kept apart"),
                                  ("robust", "our recipe, robust", "test", "patients kept apart")):
        if part in protocols.get(key, {}).get("parts", {}):
            rows.append(_row("the same network on these data", name, protocols[key]["parts"][part], note))
    for fold in results["unseen"]:
        if fold["recipes"].get("paper") is not None and "auc" in fold["shows"]:
            rows.append(_row("the paper's recipe, a source unseen", fold["source"], fold["recipes"]["paper"],
                             f"{fold['test']:,} images"))
    if results["external"] is not None:
        for key, name in (("paper", "the paper's protocol"), ("honest", "the honest protocol"),
                          ("robust", "our recipe, robust")):
            if "external" in protocols.get(key, {}).get("parts", {}):
                rows.append(_row("another hospital", name, protocols[key]["parts"]["external"],
                                 f"{results['external']['images']:,} images"))
    return rows


def source_rows(results):
    """Return the rows of `sources`: each source unseen, under each recipe; then the honest test part, by source."""
    metrics, rows = ("recall", "specificity", "auc"), []
    for fold in results["unseen"]:
        trained = {f"recipe {name}": told for name, told in fold["recipes"].items() if told is not None}
        for name, told in (trained or {"not trained": None}).items():
            row = _row(fold["name"], name, told, f"{fold['test']:,} images", metrics)
            for metric in metrics:
                if told is None:
                    row[metric]["reason"] = fold["reason"] or "not measured"
                elif metric not in fold["shows"]:
                    row[metric] |= {"value": None, "reason": "one class only"}
            rows.append(row)
    test = results["protocols"].get("honest", {}).get("parts", {}).get("test") or {}
    told = test.get("mean", {})
    by_source = (told if "groups" in told else (test.get("seeds") or [{}])[0]).get("groups", {}).get("source", {})
    return rows + [_row("the honest test part, by source", word, group, f"{group['n']:,} images", metrics)
                   for word, group in by_source.items()]


def _row(group, name, part, note="", metrics=("accuracy", "auc")):
    return {"group": group, "name": name, "note": note} | {metric: figure_of(part, metric) for metric in metrics}


# ---- Drawing ---------------------------------------------------------------------------------------------------------

def _forest(rows, metrics, path):
    """Draw rows as above, with a panel for each of the metrics."""
    if not len(rows):
        raise InputError("rows: expected at least one row to draw, got none.")
    places, heads, y = [], [], _TOP
    for before, row in zip([None, *rows], rows):
        if before is None or row["group"] != before["group"]:
            heads.append((y, row["group"]))
            y += _HEAD
        places.append(y + _ROW / 2)
        y += _ROW
    height = y + _BOTTOM
    figure = style.new_figure(_WIDTH, height, _DPI)
    figure.set_layout_engine("none")
    page = figure.add_axes([0, 0, 1, 1], xlim=(0, _WIDTH), ylim=(height, 0))
    page.set_axis_off()
    for top, group in heads:
        page.plot([0.08, _WIDTH - 0.08], [top + 0.04] * 2, color=FAINT, linewidth=0.8)
        page.text(0.08, top + 0.18, _cut(group, _WIDTH - 0.2, 11), fontsize=9, color=INK, va="center", weight="bold",
                  parse_math=False)
    for place, row in zip(places, rows):
        note = row.get("note")
        page.text(0.16, place + (-0.02 if note else 0.06), _cut(row["name"], _NAMES - 0.16, 9), fontsize=9, color=INK,
                  va="center", parse_math=False)
        page.text(0.16, place + 0.13, _cut(note or "", _NAMES - 0.16, 7), fontsize=7, color=QUIET, va="center",
                  parse_math=False)
    lowest = _lowest(rows, metrics)
    wide = (_WIDTH - _NAMES - 0.12 - _GAP * len(metrics)) / len(metrics)
    for k, metric in enumerate(metrics):
        box = [(_NAMES + _GAP + k * (wide + _GAP)) / _WIDTH, _BOTTOM / height, wide / _WIDTH, (y - _TOP) / height]
        ax = figure.add_axes(box, xlim=(lowest, 1.0), ylim=(y, _TOP))
        _panel(ax, metric)
        for place, row in zip(places, rows):
            _mark(ax, place, row.get(metric) or figure_of(None, metric), metric, wide)
    for i, line in enumerate(textwrap.wrap(_key(rows, metrics), 110)):
        page.text(0.08, height - 0.24 + 0.14 * i, line, fontsize=7.5, color=QUIET, va="center")
    style.save(figure, path)


def _key(rows, metrics):
    """Return what marks mean, of those that there are."""
    shown = [row[metric] for row in rows for metric in metrics if row.get(metric)]
    return " ".join(["Line: 95 % interval, patients intervals."]
                    + ["Small dots: the seeds."] * any(len(one["seeds"]) > 1 for one in shown)
                    + ["Hollow: printed by the paper, without an interval."] * any(one.get("claimed") for one in shown)
                    + ["Dotted: 0.5, what a coin gives on two classes of equal size."])


def _lowest(rows, metrics):
    """Return where the scale begins: at 0.4 or below, a round number under all that is drawn."""
    shown = [number for row in rows for metric in metrics if row.get(metric)
             for number in (row[metric]["value"], row[metric]["low"], *row[metric]["seeds"])]
    shown = [number for number in map(style.number, shown) if np.isfinite(number)]
    return float(np.clip(np.floor(10 * min(shown, default=0.4)) / 10, 0.0, 0.4))


def _panel(ax, metric):
    style.quiet(ax, _HEADS[metric])
    ax.set_facecolor("none")
    ax.grid(False)
    ax.axvline(0.5, color=QUIET, linewidth=1, linestyle=":", zorder=1)
    ax.axvline(1, color=FAINT, linewidth=0.8, zorder=1)
    ax.set_yticks([])
    low = ax.get_xlim()[0]
    ax.set_xticks([tick for tick in (0, 0.25, 0.5, 0.75, 1) if tick >= low])
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}" if metric == "auc" else f"{100 * value:g}")
    ax.tick_params(labelsize=8)


def _mark(ax, place, figure, metric, wide):
    """Draw one figure in its row: the mark, its interval, its seeds below, and above it what it is in numbers."""
    value = style.number(figure["value"])
    if np.isnan(value):
        reason = printable(figure.get("reason") or "")
        words = reason if reason.startswith("not ") else "undefined" + (f": {reason}" if reason else "")
        lines = textwrap.wrap(words, max(8, int(wide / (7 * _LETTER))), max_lines=3, placeholder=" …")
        ax.text(sum(ax.get_xlim()) / 2, place + 0.06, "\n".join(lines), fontsize=7, color=QUIET, ha="center",
                va="center", parse_math=False, linespacing=1.1, bbox=dict(facecolor="white", edgecolor="none", pad=1))
        return
    claimed, mark = figure.get("claimed", False), place + 0.06
    low, high = (style.number(figure[key]) for key in ("low", "high"))
    if np.isfinite([low, high]).all():
        ax.plot([low, high], [mark, mark], color=BLUE, linewidth=2.2, solid_capstyle="butt", zorder=3)
    ax.plot(value, mark, "D" if claimed else "o", markersize=6, color=INK if claimed else BLUE, zorder=4,
            markerfacecolor="white" if claimed else BLUE, markeredgewidth=1.3, clip_on=False)
    if len(figure["seeds"]) > 1:
        ax.plot(figure["seeds"], [mark + 0.095] * len(figure["seeds"]), "o", markersize=2.6, color=SKY, zorder=4,
                markeredgewidth=0, clip_on=False)
    text, (left, right) = _told(value, low, high, metric, claimed), ax.get_xlim()
    half = 0.5 * len(text) * 7.5 * _LETTER / wide * (right - left)
    ax.text(np.clip(value, left + half, max(left + half, right - half)), place - 0.09, text, fontsize=7.5, color=INK,
            ha="center", va="center", bbox=dict(facecolor="white", edgecolor="none", pad=0.6), zorder=2)


def _told(value, low, high, metric, claimed):
    form, unit = ("{:.2f}", "") if metric == "auc" else ("{:.2f}" if claimed else "{:.1f}", " %")
    value, low, high = (number if metric == "auc" else 100 * number for number in (value, low, high))
    if claimed:
        return form.format(value) + unit
    bounds = ", no interval" if np.isnan(low + high) else f" ({form.format(low)} to {form.format(high)})"
    return form.format(value) + unit + bounds


def _cut(text, inches, size):
    """Return a text that fits, about, into a width."""
    text, most = printable(text), int(inches / (size * _LETTER))
    return text if len(text) <= most else text[:most - 1] + "…"
