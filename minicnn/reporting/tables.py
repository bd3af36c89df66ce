"""Summaries (evaluation/summary.py) and counts as tables of a report (document.py)."""

from minicnn.core.text import number, percent, span
from minicnn.evaluation.summary import GROUPED, OF_A_CLASS, heads
from minicnn.metrics import HEADS as PAPER_HEADS
from minicnn.reporting.document import Bullets, Image, Table
from minicnn.reporting.plots import confusions
from minicnn.reporting.wording import is_approximate, patients_cell, value_and_interval, why_missing

__all__ = ["NONE", "METRICS", "lines", "by_metric", "by_row", "by_group", "by_class", "matrix_of", "reasons",
           "counted", "shortcut_table"]

NONE = "\N{EN DASH}"        # not measured; what was measured and has no value is "undefined"
METRICS = tuple(name for name in PAPER_HEADS if name != "n")


def lines(summary, metric):
    """Return the lines of a cell: the value; its interval; in brackets, the lowest and the highest of several seeds.

    >>> lines({"accuracy": 0.9, "intervals": {"accuracy": [0.8, 0.95]}, "approximate": ["accuracy"],
    ...        "lowest": {"accuracy": 0.88}, "highest": {"accuracy": 0.91}}, "accuracy")
    ('90.0 %', '80.0 to 95.0~', '[88.0 to 91.0]')
    >>> lines({"auc": None}, "auc"), lines(None, "auc")
    (('undefined',), ('–',))
    """
    if summary is None or metric not in summary:
        return (NONE,)
    value, interval = value_and_interval(summary, metric)
    found = [value, *([interval + "~" * is_approximate(summary, metric)] if interval else [])]
    ends = [(summary.get(end) or {}).get(metric) for end in ("lowest", "highest")]
    if value != "undefined" and None not in ends and ends[0] < ends[1]:
        low, high = (value_and_interval({metric: end}, metric)[0].removesuffix(" %") for end in ends)
        found.append(f"[{low} to {high}]")
    return tuple(found)


def by_metric(caption, columns, metrics=METRICS):
    """Return a Table with a row for each metric and a column for each summary of {head: summary or cells}.

    A column may also be {metric: text}, for values that were reported elsewhere.
    """
    rows = [[name, *(_count(summary, key) for summary in columns.values())]
            for name, key in (("images", "n"), ("patients", "patients"))]
    head = heads(*columns.values())
    rows += [[head[name], *(_cell(summary, name) for summary in columns.values())] for name in metrics]
    return Table(caption, ["", *columns], rows)


def by_row(caption, rows, metrics, first="", extra=None):
    """Return a Table with a row for each of {name: summary} and a column for each metric.

    Parameters
    ----------
    extra : (head, function from a summary to a cell), optional; the last column
    """
    head, last = ([extra[0]], lambda summary: [extra[1](summary)]) if extra else ([], lambda summary: [])
    return Table(caption, [first, "images", "patients", *(heads(*rows.values())[name] for name in metrics), *head],
                 [[name, _count(summary, "n"), _count(summary, "patients"),
                   *(_cell(summary, metric) for metric in metrics), *last(summary)] for name, summary in rows.items()])


def by_group(caption, column, groups):
    """Return a Table of the subgroups of a summary by one column of the manifest."""
    names = [name for name in GROUPED if any(name in summary for summary in groups.values())]
    return by_row(caption, groups, names, column)


def by_class(name, summary):
    """Return a list of a Table of each class of a summary against the rest and its notes, or none with two classes.

    Parameters
    ----------
    name : str; the set of images
    """
    each = summary.get("per_class")
    return [by_row(f"{name}: each class against the rest", each, OF_A_CLASS, "class"), *reasons(each, OF_A_CLASS)] \
        if each else []


def matrix_of(name, summary):
    """Return a list of an Image without a file, the confusion matrix of a summary; none where it has none."""
    if not (matrix := summary.get("confusion")):
        return []
    how = "by the most probable class" if summary.get("per_class") else "at p > 0.5"
    told = "; ".join(f"{word}: " + ", ".join(f"{number(n)} predicted {other}" for other, n in zip(matrix["classes"], row))
                     for word, row in zip(matrix["classes"], matrix["matrix"]))
    return [Image("", f"Confusion matrix: {name}, predicted {how}; percent of each true class.",
                  f"Confusion matrix: {name}. {told}.", confusions({name: matrix["matrix"]}, matrix["classes"]))]


def reasons(columns, metrics=METRICS):
    """Return a list of Bullets, or none: why metrics of {name: summary} are undefined or have no interval."""
    items = why_missing(columns, metrics)
    return [Bullets(items, small=True)] if items else []


def counted(caption, first, table):
    """Return a Table of {word: {class: number}}, with sums of columns below."""
    classes = list(dict.fromkeys(name for row in table.values() for name in row))
    sums = {name: sum(row.get(name, 0) for row in table.values()) for name in classes}
    rows = [[word, *(number(row.get(name, 0)) for name in classes), number(sum(row.values()))]
            for word, row in [*table.items(), ("all", sums)]]
    return Table(caption, [first, *classes, "all"], rows)


def shortcut_table(name, check):
    """Return the Table of a shortcut check, as `ShortcutCheck.to_dict` gives it.

    Parameters
    ----------
    name : str; the set of images
    """
    rows = [[row["condition"], *(percent(row[key]) for key in ("accuracy", "recall", "specificity")),
             _with_span(number(row["auc"], "{:.2f}"), row["interval"], "{:.2f}"),
             NONE if row["change"] is None else _with_span(f"{row['change']:+.2f}", row["change_interval"], "{:+.2f}")]
            for row in check["rows"]]
    macro = "macro " * check.get("is_macro", False)
    return Table(f"The shortcut check: {name}, {patients_cell(check)} patients",
                 ["images", "accuracy", f"{macro}recall", f"{macro}specificity", f"{macro}AUC",
                  f"change of {macro}AUC"], rows)


def _with_span(value, interval, form):
    return (value, *([] if interval is None else [span(interval, form)]))


def _cell(summary, metric):
    if summary is not None and isinstance(summary.get(metric), str):
        return summary[metric]
    return lines(summary, metric)


def _count(summary, name):
    if summary is None or summary.get(name) is None:
        return NONE
    return patients_cell(summary) if name == "patients" else number(summary[name])
