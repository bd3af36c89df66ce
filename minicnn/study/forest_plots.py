"""Forest plots of the report: a row for each measurement, a panel for each metric, with the values of the paper.

`headline_rows` and `source_rows` make the rows from the results of a study. An undefined value is a row with a word in
it.
"""

import textwrap

import numpy as np

from minicnn.core.text import shortened
from minicnn.errors import InputError, printable
from minicnn.plotting import style
from minicnn.plotting.style import BLUE, FAINT, INK, QUIET, SKY
from minicnn.reporting.document import Estimate, Forest
from minicnn.study.results import PROTOCOL_NAMES, fold_summary, reported, honest_test_groups

__all__ = ["forest_plot", "forest", "forests", "key", "estimate", "headline_rows", "source_rows", "SOURCE_METRICS"]

SOURCE_METRICS = ("recall", "specificity", "auc")
_DPI, _WIDTH, _NAMES, _VALUES, _GAP = 160, 6.4, 1.6, 0.8, 0.16     # inches but the first; 6.4 in are 16 cm
_ROW, _HEAD, _TOP, _BOTTOM = 0.4, 0.28, 0.4, 0.6
_LETTER = 0.0076                                        # inches, of the average letter, for each point of its size
_HEADS = {"accuracy": "accuracy, %", "auc": "AUC", "recall": "recall, %", "specificity": "specificity, %"}


def estimate(summaries, metric):
    """Return what a forest plot shows of one metric.

    Parameters
    ----------
    summaries : dict; a summary, or {"seeds": [summaries], "mean": summary}; None: not measured
    metric : str

    Returns
    -------
    dict: value, low, high (None where there is none), seeds (list), reason (why there is no value)

    >>> summary = {"auc": 0.9, "intervals": {"auc": [0.8, 0.95]}, "undefined": {}}
    >>> estimate({"seeds": [{"auc": 0.88}, {"auc": 0.92}], "mean": summary}, "auc")
    {'value': 0.9, 'low': 0.8, 'high': 0.95, 'seeds': [0.88, 0.92], 'reason': ''}
    """
    if summaries is None:
        return {"value": None, "low": None, "high": None, "seeds": [], "reason": "not measured"}
    summary, seeds = (summaries["mean"], summaries.get("seeds", ())) if "mean" in summaries else (summaries, ())
    low, high = summary.get("intervals", {}).get(metric) or (None, None)
    return {"value": summary.get(metric), "low": low, "high": high,
            "seeds": [seed[metric] for seed in seeds if seed.get(metric) is not None],
            "reason": summary.get("undefined", {}).get(metric, "")}


def headline_rows(results):
    """Return the rows of the main plot: the reported values, internal, leave-one-source-out and external validation."""
    rows = [_row("the paper", "Table II, validation", None, "as reported")]
    rows[0]["accuracy"] |= {"value": reported(results).get("accuracy"), "claimed": True}
    rows[0]["auc"]["reason"] = "not reported"
    sets = {key: (results["protocols"].get(key) or {}).get("parts") or {} for key in PROTOCOL_NAMES}
    for key, name, note in (("paper", "validation", "split by image"),
                            ("honest", "test", "split by patient"), ("robust", "test", "split by patient")):
        if name in sets[key]:
            rows.append(_row("the same network on these data", PROTOCOL_NAMES[key], sets[key][name], note))
    for fold in results["unseen"]:
        if fold_summary(fold) is not None and "auc" in fold["shows"]:
            rows.append(_row("leave-one-source-out validation", fold["source"], fold_summary(fold),
                             f"{fold['test']:,} images"))
    for key in PROTOCOL_NAMES:
        if results["external"] is not None and "external" in sets[key]:
            rows.append(_row("external validation", PROTOCOL_NAMES[key], sets[key]["external"],
                             f"{results['external']['images']:,} images"))
    return rows


def source_rows(results):
    """Return the rows of the plot by source: each held-out source, under each recipe; then the honest test set."""
    rows = []
    for fold in results["unseen"]:
        trained = {f"recipe {name}": summary for name, summary in fold["recipes"].items() if summary is not None}
        for name, summary in (trained or {"not trained": None}).items():
            row = _row(fold["name"], name, summary, f"{fold['test']:,} images", SOURCE_METRICS)
            for metric in SOURCE_METRICS:
                if summary is None:
                    row[metric]["reason"] = fold["reason"] or "not measured"
                elif metric not in fold["shows"]:
                    row[metric] |= {"value": None, "reason": "one class only"}
            rows.append(row)
    return rows + [_row("the honest test set, by source", word, group, f"{group['n']:,} images", SOURCE_METRICS)
                   for word, group in honest_test_groups(results)[0].get("source", {}).items()]


def _row(group, name, summaries, note="", metrics=("accuracy", "auc")):
    return {"group": group, "name": name, "note": note} | {metric: estimate(summaries, metric) for metric in metrics}


def forest(rows, metrics=("accuracy", "auc")):
    """Return the rows of a forest plot as a drawing of the page (reporting/document.py); arguments as for
    `forest_plot`."""
    return Forest([_HEADS[metric].removesuffix(", %") for metric in metrics],
                  [(row["group"], row["name"], row.get("note", ""),
                    [_estimate(row[metric], metric) for metric in metrics]) for row in rows],
                  _lowest(rows, metrics), [metric != "auc" for metric in metrics])


def forests(results):
    """Return {key of results["figures"]: [Forest]}: both forest plots of a study."""
    rows, sources = headline_rows(results), source_rows(results)
    return {"headline": [forest(rows)]} | ({"sources": [forest(sources, SOURCE_METRICS)]} if sources else {})


def _estimate(one, metric):
    value, low, high = (style.number(one[key]) for key in ("value", "low", "high"))
    if not np.isfinite(value):
        return Estimate(_why(one))
    pair = (low, high) if np.isfinite([low, high]).all() else (None, None)
    return Estimate(_numbers(value, low, high, metric, one.get("claimed", False)), value, *pair,
                    tuple(one["seeds"]) if len(one["seeds"]) > 1 else (), one.get("claimed", False))


# ---- Drawing ---------------------------------------------------------------------------------------------------------

def forest_plot(rows, path, metrics=("accuracy", "auc")):
    """Draw rows of metrics with their intervals, in columns: names, and for each metric a panel and its values.

    Parameters
    ----------
    rows : list of dict, at least one: name, group (consecutive rows of one group stand below its name), note (small,
        below the name; optional), and for each metric an `estimate` or None
    path : str or Path; a PNG file
    metrics : sequence of str; a panel for each

    Raises
    ------
    InputError : no rows
    """
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
    page.set_zorder(1)                  # the names of groups hide the lines of the panels below them
    for top, group in heads:
        page.plot([0.08, _WIDTH - 0.08], [top + 0.04] * 2, color=FAINT, linewidth=0.8)
        page.text(0.08, top + 0.18, _fitted(group, _WIDTH - 0.2, 11), fontsize=9, color=INK, va="center", weight="bold",
                  parse_math=False, bbox=dict(facecolor="white", edgecolor="none", pad=1))
    for place, row in zip(places, rows):
        note = row.get("note")
        page.text(0.16, place + (-0.02 if note else 0.06), _fitted(row["name"], _NAMES - 0.16, 9), fontsize=9,
                  color=INK, va="center", parse_math=False)
        page.text(0.16, place + 0.13, _fitted(note or "", _NAMES - 0.16, 7), fontsize=7, color=QUIET, va="center",
                  parse_math=False)
    lowest = _lowest(rows, metrics)
    wide = (_WIDTH - _NAMES - 0.12 - _GAP * len(metrics)) / len(metrics)
    for k, metric in enumerate(metrics):
        box = [(_NAMES + _GAP + k * (wide + _GAP)) / _WIDTH, _BOTTOM / height, (wide - _VALUES) / _WIDTH,
               (y - _TOP) / height]
        ax = figure.add_axes(box, xlim=(lowest, 1.0), ylim=(y, _TOP))
        _panel(ax, metric, narrow=len(metrics) > 2)
        for place, row in zip(places, rows):
            _mark(ax, place, row.get(metric) or estimate(None, metric), metric, wide / (wide - _VALUES))
    for i, line in enumerate(textwrap.wrap(key(rows, metrics), 110)):
        page.text(0.08, height - 0.24 + 0.14 * i, line, fontsize=7.5, color=QUIET, va="center")
    style.save(figure, path)


def key(rows, metrics=("accuracy", "auc")):
    """Return the key to the marks that are drawn."""
    shown = [row[metric] for row in rows for metric in metrics if row.get(metric)]
    return " ".join(["Line: 95 % patient-clustered interval."]
                    + ["Small dots: the seeds."] * any(len(one["seeds"]) > 1 for one in shown)
                    + ["Hollow: reported by the paper, without an interval."] * any(one.get("claimed") for one in shown)
                    + ["Dotted: 0.5, chance for two classes of equal size."])


def _lowest(rows, metrics):
    """Return the lower end of the scale: at most 0.4, a round number below all values."""
    shown = [number for row in rows for metric in metrics if row.get(metric)
             for number in (row[metric]["value"], row[metric]["low"], *row[metric]["seeds"])]
    shown = [number for number in map(style.number, shown) if np.isfinite(number)]
    return float(np.clip(np.floor(10 * min(shown, default=0.4)) / 10, 0.0, 0.4))


def _panel(ax, metric, narrow):
    style.quiet(ax, "")
    ax.set_title(_HEADS[metric], loc="left", fontsize=9, color=INK)
    ax.set_facecolor("none")
    ax.grid(False)
    ax.axvline(0.5, color=QUIET, linewidth=1, linestyle=":", zorder=1)
    ax.axvline(1, color=FAINT, linewidth=0.8, zorder=1)
    ax.set_yticks([])
    low = ax.get_xlim()[0]
    ax.set_xticks([tick for tick in ((0, 0.5, 1) if narrow else (0, 0.25, 0.5, 0.75, 1)) if tick >= low])
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}" if metric == "auc" else f"{100 * value:g}")
    ax.tick_params(labelsize=8)


def _mark(ax, place, one, metric, room):
    """Draw one estimate in its row: the mark, its interval and its seeds below, and its numbers in the column beside.

    `room` : the width of the panel and that column, in widths of the panel
    """
    value = style.number(one["value"])
    small = dict(transform=ax.get_yaxis_transform(), fontsize=7.5, ha="right", va="center", parse_math=False,
                 linespacing=1.1)
    if np.isnan(value):
        lines = textwrap.wrap(_why(one), int(_VALUES / (7 * _LETTER)), max_lines=3, placeholder=" …")
        ax.text(room, place + 0.04, "\n".join(lines), **small | {"fontsize": 7}, color=QUIET)
        return
    claimed, mark = one.get("claimed", False), place + 0.02
    low, high = (style.number(one[key]) for key in ("low", "high"))
    if np.isfinite([low, high]).all():
        ax.plot([low, high], [mark, mark], color=BLUE, linewidth=2.2, solid_capstyle="butt", zorder=3, clip_on=False)
    ax.plot(value, mark, "D" if claimed else "o", markersize=5, color=INK if claimed else BLUE, zorder=4,
            markerfacecolor="white" if claimed else BLUE, markeredgewidth=1.3, clip_on=False)
    if len(one["seeds"]) > 1:
        ax.plot(one["seeds"], [mark + 0.095] * len(one["seeds"]), "o", markersize=2.6, color=SKY, zorder=4,
                markeredgewidth=0, clip_on=False)
    text = _numbers(value, low, high, metric, claimed)
    ax.text(room, place + 0.02, text.replace(" (", "\n(").replace(", no", ",\nno"), color=INK, **small)


def _why(one):
    """Return why an estimate has no value."""
    reason = printable(one.get("reason") or "")
    return reason if reason.startswith("not ") else "undefined" + (f": {reason}" if reason else "")


def _numbers(value, low, high, metric, claimed):
    form, unit = ("{:.2f}", "") if metric == "auc" else ("{:.2f}" if claimed else "{:.1f}", " %")
    value, low, high = (number if metric == "auc" else 100 * number for number in (value, low, high))
    if claimed:
        return form.format(value) + unit
    bounds = ", no interval" if np.isnan(low + high) else f" ({form.format(low)} to {form.format(high)})"
    return form.format(value) + unit + bounds


def _fitted(text, inches, size):
    """Return a text shortened to about a width."""
    return shortened(text, int(inches / (size * _LETTER)))
