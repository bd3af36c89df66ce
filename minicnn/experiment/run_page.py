"""The page of a run: its figures with their intervals, by group, at the threshold, its pictures and its settings."""

import json
from pathlib import Path

from minicnn.core.files import write_whole
from minicnn.core.text import number, percent
from minicnn.errors import printable
from minicnn.evaluation.summary import HEADS, SHARES
from minicnn.reporting.document import Bullets, Chapter, Image, Table, Text
from minicnn.reporting.html import render
from minicnn.reporting.tables import by_group, by_metric, lines, reasons, shortcut_table
from minicnn.reporting.wording import SHORTCUT_CHECK, against_chance, cell

__all__ = ["page"]

_METRICS = tuple(name for name in HEADS if name != "n")


def page(path, title, parts, figures=None, config=None, classes=(), notes=(), shortcuts=None):
    """Write the page of a run.

    Parameters
    ----------
    path : str or Path; an HTML file
    title : str
    parts : dict; from the name of a part to its description (evaluation/summary.py), of which less will do
    figures : dict, optional; from a caption to the path of a PNG file, which becomes part of the page
    config : dict, optional; settings, shown as a table; inner objects by dotted names
    classes : sequence of names in order; of two the second is the positive one
    notes : sequence of sentences
    shortcuts : dict, optional; `ShortcutCheck.to_dict`

    Raises
    ------
    ImageError : a picture that is missing or is not a PNG file
    CheckpointError : the page could not be written
    """
    last, drawn = list(parts)[-1], {Path(picture).stem: Image(Path(picture).absolute(), caption, caption)
                                    for caption, picture in (figures or {}).items()}
    curve, check = ([drawn.pop(name)] if name in drawn else [] for name in ("reliability", "shortcuts"))
    chapters = [Chapter("answer", "How well it does", _figures(parts, classes, notes)),
                Chapter("probabilities", "What its probabilities mean", _reliability(last, parts[last], curve)),
                Chapter("groups", "For whom", _groups(last, parts[last])),
                Chapter("shortcuts", "Is it the lungs that it looks at?",
                        [Text(SHORTCUT_CHECK), *check, shortcut_table(last, shortcuts),
                         Bullets(shortcuts["sentences"])] if shortcuts else []),
                Chapter("pictures", "Pictures", list(drawn.values())),
                Chapter("settings", "Settings", _settings(config or {}))]
    html = render(title, _about(parts, classes), [one for one in chapters if one.blocks], Path(),
                  running="COV-19Net: how well it does")
    write_whole(path, html.encode("utf-8"))


def _about(parts, classes):
    told = [f"{name}: {number(one['n'])} images"
            + (f" of {number(one['patients'])} patients" if "patients" in one else "") for name, one in parts.items()]
    positive = f" Positive is {classes[1]}." if len(classes) == 2 else ""
    return "; ".join(told) + "." + (f" Classes: {', '.join(classes)}.{positive}" if len(classes) else "")


def _figures(parts, classes, notes):
    """Return the figures at p > 0.5 and at the threshold fixed on validation."""
    at = "at p > 0.5, with 95 % intervals" if len(classes) in (0, 2) else "with 95 % intervals"
    part, told = list(parts.items())[-1]
    lead = [Text(f"{part}: an AUC of {cell(told, 'auc')}, {against_chance(told, 'auc')}; accuracy "
                 f"{cell(told, 'accuracy')}.", "In one line.")] if told.get("intervals") else []
    blocks = [*lead, *map(Text, notes), by_metric(f"Figures {at}", parts, _METRICS), *reasons(parts, _METRICS)]
    fixed = {name: one["at_threshold"] for name, one in parts.items() if one.get("at_threshold")}
    if fixed:
        threshold = next(iter(fixed.values()))["threshold"]
        rows = [[HEADS[name], *(lines(one, name) for one in fixed.values())] for name in SHARES]
        blocks += [Table(f"At the threshold fixed on validation: p > {threshold:.4g}", ["", *fixed], rows),
                   *reasons(fixed, SHARES)]
        if "validation" in fixed:
            blocks.append(Text("On validation, where the threshold was chosen, these figures are too good."))
    return blocks


def _reliability(part, told, curve):
    """Return the picture of the reliability curves, and the points of that of one part."""
    if not told.get("reliability"):
        return curve
    rows = [[f"{row['low']:.1f} to {row['high']:.1f}", number(row["n"]), f"{row['predicted']:.3f}",
             (percent(row["observed"]), *([] if row["interval"] is None else
                                          ["{:.1f} to {:.1f}".format(*(100 * bound for bound in row["interval"]))]))]
            for row in told["reliability"]]
    return [Text("Of the images that were given 0.8, eight in ten should be positive. Slope 1 and intercept 0 are "
                 "right; a slope below 1 means that the probabilities are too extreme."), *curve,
            Table(f"Reliability: {part}", ["probability", "images", "mean probability", "share of positives"], rows)]


def _groups(part, told):
    """Return a table for each column by which the last part was divided, and why figures are missing."""
    blocks = []
    for column, groups in told.get("groups", {}).items():
        blocks += [by_group(f"{part}, by {column}", column, groups), *reasons(groups)]
    return blocks


def _settings(config):
    return [Table("The options of the run", ["option", "value"], list(map(list, _flat(config))), numeric=False)] \
        if config else []


def _flat(config, prefix=""):
    """Yield (dotted name, text) for each setting."""
    for key, value in config.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
            yield printable(f"{prefix}{key}"), printable(text)
