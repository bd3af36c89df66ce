"""Summaries (evaluation/summary.py) as text for a terminal: each metric once, with its interval."""

from minicnn.core.text import grid, number
from minicnn.errors import printable
from minicnn.evaluation.summary import GROUPED, HEADS, MORE_CLASSES, SHARES, heads
from minicnn.reporting.wording import (APPROXIMATE, UNKNOWN_PATIENTS, cell, is_approximate, patients_cell,
                                       value_and_interval, why_missing)

__all__ = ["table"]

_WIDTH = 100
_OF_A_CLASS = ("recall", "precision", "specificity", "auc")


def table(summaries):
    """Return {set: summary} as text: every metric with its 95 % interval, then the last set in detail.

    These are the metrics at p > 0.5 (or of the most probable class), of the probabilities, and at the threshold fixed
    on validation; of the last set the confusion matrix, the classes (of three or more) and the subgroups.

    >>> from minicnn.evaluation.summary import summarize
    >>> print(table({"test": summarize([0, 1] * 60, [0.2, 0.7, 0.4, 0.9, 0.6, 0.3] * 20, classes=["normal", "covid"])}))
    value (95 % interval)  test
    images                 120
    patients               0 + 120
    covid is positive, and predicted where p > 0.5:
    accuracy               66.7 % (57.7 to 74.5)
    specificity            66.7 % (53.8 to 77.5)
    precision              66.7 % (53.8 to 77.5)
    recall                 66.7 % (53.8 to 77.5)
    F1                     66.7 % (56.3 to 75.7)
    Of the probabilities:
    AUC                    0.778 (0.673 to 0.856)
    loss                   0.553 (0.491 to 0.625)
    average precision      0.867 (0.797 to 0.913)
    Brier score            0.192 (0.164 to 0.224)
    calibration slope      1.07 (0.74 to 1.42)
    calibration intercept  -0.09 (-0.49 to 0.28)
    <BLANKLINE>
    test: true (rows), predicted at p > 0.5 (columns)  normal  covid
    normal                                                 40     20
    covid                                                  20     40
    <BLANKLINE>
    n + m: n patients and m images of unknown patients, each of which the intervals take for a patient of its own.
    """
    name, last = list(summaries.items())[-1]
    blocks = [_metrics(summaries), _confusion(name, last)]
    if last.get("per_class"):
        blocks.append(_by_row(f"{name}, by class", last["per_class"], _OF_A_CLASS))
    blocks += [_by_row(f"{name}, by {column}", groups, GROUPED) for column, groups in last.get("groups", {}).items()]
    notes = [note for note in (APPROXIMATE, UNKNOWN_PATIENTS) if any(note in block for block in blocks)]
    blocks = [[line for line in block if line not in notes] for block in blocks] + [notes]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _metrics(summaries):
    """Return the lines of a table with a row for each metric and a column for each set."""
    fixed = {name: one["at_threshold"] for name, one in summaries.items() if one.get("at_threshold")}
    shown = [name for name in HEADS if name != "n" and any(
        name in one and one["undefined"].get(name) != MORE_CLASSES for one in summaries.values())]
    rows = [["value (95 % interval)" if any("intervals" in one for one in summaries.values()) else "",
             *map(printable, summaries)]]
    rows += [["images", *(number(one["n"]) for one in summaries.values())],
             ["patients", *map(patients_cell, summaries.values())]]
    titles, head = {len(rows): _rule(summaries)}, heads(*summaries.values())
    rows += [[head[name], *(cell(one, name) for one in summaries.values())] for name in shown if name in SHARES]
    titles[len(rows)] = "Of the probabilities:"
    rows += [[head[name], *(cell(one, name) for one in summaries.values())] for name in shown if name not in SHARES]
    threshold = next(iter(fixed.values()))["threshold"] if fixed else None
    if threshold not in (None, 0.5):
        optimistic = " (optimistic there)" * ("validation" in fixed)
        titles[len(rows)] = f"At p > {threshold:.4g}, fixed on validation{optimistic}:"
        rows += [[head[name], *(cell(fixed[one], name) if one in fixed else "" for one in summaries)]
                 for name in SHARES]
    lines = [line for place, row in enumerate(grid(rows))
             for line in ([titles[place], row] if place in titles else [row])]
    if threshold == 0.5:
        lines.append("The threshold fixed on validation is 0.5 too.")
        fixed = {}
    said = _why(summaries, [name for name in HEADS if name != "n"])
    said += _why({f"{name} at p > {threshold:.4g}": one for name, one in fixed.items()}, SHARES)
    return lines + list(dict.fromkeys(said))


def _rule(summaries):
    """Return how probabilities become classes: the title of the metrics for which that matters."""
    classes = next((one["confusion"]["classes"] for one in summaries.values() if "confusion" in one), ())
    if heads(*summaries.values()) != HEADS:
        of = f" {len(classes)}" if classes else ""
        return f"The most probable class is predicted; macro is the mean over the{of} classes, each against the rest:"
    return f"{classes[1] if classes else 'Class 1'} is positive, and predicted where p > 0.5:"


def _confusion(name, summary):
    """Return the lines of the confusion matrix of a set; none for a summary of an earlier version, which has none."""
    if "confusion" not in summary:
        return []
    classes, matrix = (summary["confusion"][key] for key in ("classes", "matrix"))
    how = "" if "per_class" in summary else " at p > 0.5"
    return grid([[f"{printable(name)}: true (rows), predicted{how} (columns)", *classes],
                 *([one, *map(number, row)] for one, row in zip(classes, matrix))], range(1, len(classes) + 1))


def _by_row(title, summaries, metrics):
    """Return the lines of a table with a row for each summary; of two lines each where it is too wide otherwise."""
    names = [name for name in metrics if any(name in one for one in summaries.values())]
    first = [printable(title), "images", "patients", *(HEADS[name] for name in names)]
    rows, split = [first], [first]
    for word, one in summaries.items():
        start = [word, number(one["n"]), patients_cell(one)]
        pairs = [value_and_interval(one, name) for name in names]
        rows.append([*start, *(cell(one, name) for name in names)])
        split += [[*start, *(value for value, _ in pairs)],
                  [*[""] * len(start), *(interval and interval + "~" * is_approximate(one, name)
                                         for name, (_, interval) in zip(names, pairs))]]
    lines = grid(rows, numbers=(1, 2))
    if max(map(len, lines)) > _WIDTH:
        lines = [line for line in grid(split, numbers=(1, 2)) if line]
    return lines + _why(summaries, names)


def _why(summaries, names):
    return [printable(line) for line in why_missing(summaries, names)]
