"""The page of a run: its metrics with their intervals, at the threshold and by subgroup, its plots and its options."""

import json
from pathlib import Path

from minicnn.core.files import write_atomic
from minicnn.core.text import join, number, percent
from minicnn.errors import printable
from minicnn.evaluation.summary import HEADS, MORE_CLASSES, SHARES, heads, images_and_patients
from minicnn.reporting.document import Bullets, Chapter, Fold, Image, Table, Text
from minicnn.reporting.html import render
from minicnn.reporting.tables import by_class, by_group, by_metric, lines, matrix_of, reasons, shortcut_table
from minicnn.reporting.wording import SHORTCUT_CHECK, against_chance, cell

__all__ = ["page"]

_METRICS = tuple(name for name in HEADS if name != "n")


def page(path, title, summaries, plots=None, config=None, classes=(), notes=(), shortcuts=None,
         drawings=None, measured=""):
    """Write the page of a run.

    Parameters
    ----------
    path : str or Path; an HTML file
    title : str
    summaries : {set: summary} (evaluation/summary.py); a summary may lack what it does not know
    plots : dict, optional; from a caption to the path of a PNG file, which becomes part of the page
    config : dict, optional; options, shown as a table
    classes : sequence of names in order; of two, the second is the positive one
    notes : sequence of sentences
    shortcuts : dict, optional; `ShortcutCheck.to_dict`
    measured : str, optional; a sentence on the data, the date and the digest, at the top
    drawings : {name of a plot, such as "roc": (caption, what the page draws (reporting/document.py))}, optional

    Raises
    ------
    ImageError : a plot that is missing or is not a PNG file
    CheckpointError : the page could not be written
    """
    name, last = list(summaries.items())[-1]
    drawn = {Path(plot).stem: Image(Path(plot).absolute(), caption, caption) for caption, plot in (plots or {}).items()}
    drawn = {name: Image("", caption, caption, drawing) for name, (caption, drawing) in (drawings or {}).items()} | drawn
    if "confusion" in last:
        drawn.pop("confusion", None)        # it stands among the metrics
    curve, check = ([drawn.pop(stem)] if stem in drawn else [] for stem in ("reliability", "shortcuts"))
    chapters = [Chapter("metrics", "Metrics", _metrics(summaries, classes, notes)),
                Chapter("probabilities", "Calibration", _reliability(name, last, curve)),
                Chapter("groups", "Subgroups", [
                    Fold(f"By {column}: {join(groups)}", [by_group(f"{name}, by {column}", column, groups),
                                                          *reasons(groups)])
                    for column, groups in last.get("groups", {}).items()]),
                Chapter("shortcuts", "Shortcut check",
                        [Text(SHORTCUT_CHECK), *check, Bullets(shortcuts["sentences"]),
                         Fold("The values of the shortcut check", [shortcut_table(name, shortcuts)])]
                        if shortcuts else []),
                Chapter("plots", "Plots", list(drawn.values())),
                Chapter("options", "Options", _options(config) if config else [])]
    about = f"{_about(summaries, classes)} {measured}".rstrip()
    html = render(title, about, [one for one in chapters if one.blocks], Path(),
                  running="Evaluation")       # it stands in the style sheet: no text of unknown origin
    write_atomic(path, html.encode("utf-8"), private=False)


def _options(config):
    texts = {name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
             for name, value in config.items()}
    return [Fold("All options", [Table("The options of the run", ["option", "value"], [
        [printable(name), printable(text)] for name, text in texts.items()], numeric=False)])]


def _about(summaries, classes):
    sizes = [f"{name}: {images_and_patients(one)}" for name, one in summaries.items()]
    positive = f" Positive is {classes[1]}." if len(classes) == 2 else ""
    return "; ".join(sizes) + "." + (f" Classes: {', '.join(classes)}.{positive}" if len(classes) else "")


def _metrics(summaries, classes, notes):
    """Return the metrics at p > 0.5 and at the threshold fixed on validation."""
    at = "at p > 0.5, with 95 % intervals" if len(classes) in (0, 2) else \
        "of the most probable class, with 95 % intervals; macro: the mean over the classes, each against the rest"
    name, last = list(summaries.items())[-1]
    shown = [metric for metric in _METRICS if last["undefined"].get(metric) != MORE_CLASSES]
    lead = [Text(f"{name}: {heads(last)['auc']} {cell(last, 'auc')}, {against_chance(last, 'auc')}; accuracy "
                 f"{cell(last, 'accuracy')}.", "In one line.")] if last.get("intervals") else []
    blocks = [*lead, *map(Text, notes), by_metric(f"Metrics {at}", summaries, shown), *reasons(summaries, _METRICS)]
    fixed = {name: one["at_threshold"] for name, one in summaries.items() if one.get("at_threshold")}
    if fixed:
        threshold = next(iter(fixed.values()))["threshold"]
        rows = [[HEADS[metric], *(lines(one, metric) for one in fixed.values())] for metric in SHARES]
        blocks += [Table(f"At the threshold fixed on validation: p > {threshold:.4g}", ["", *fixed], rows),
                   *reasons(fixed, SHARES)]
        if "validation" in fixed:
            blocks.append(Text("On validation, where the threshold was chosen, these values are too good."))
    return blocks + by_class(name, last) + matrix_of(name, last)


def _reliability(name, summary, curve):
    """Return the plot of the reliability curves, and the points of the curve of one set."""
    if not summary.get("reliability"):
        return curve
    rows = [[f"{row['low']:.1f} to {row['high']:.1f}", number(row["n"]), f"{row['predicted']:.3f}",
             (percent(row["observed"]), *([] if row["interval"] is None else
                                          ["{:.1f} to {:.1f}".format(*(100 * bound for bound in row["interval"]))]))]
            for row in summary["reliability"]]
    return [Text("Of the images with a probability of 0.8, eight in ten should be positive. A calibration slope of 1 "
                 "and an intercept of 0 are ideal; a slope below 1 means that the probabilities are too extreme."), *curve,
            Fold(f"The points of the curve: {name}", [
                Table(f"Reliability: {name}", ["probability", "images", "mean probability", "share of positives"], rows)])]
