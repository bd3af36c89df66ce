"""Descriptions (evaluation/summary.py) and counts as tables of a report (document.py)."""

from minicnn.core.text import join, number, percent
from minicnn.evaluation.summary import GROUPED, HEADS
from minicnn.metrics import HEADS as PAPER_HEADS
from minicnn.reporting.console import cell
from minicnn.reporting.document import Bullets, Table
from minicnn.reporting.wording import why_none

__all__ = ["NONE", "METRICS", "lines", "by_metric", "by_row", "by_group", "reasons", "counted", "number", "percent",
           "join"]

NONE = "\N{EN DASH}"        # of what was not asked for; what was asked for and has no answer is "undefined"
METRICS = tuple(name for name in PAPER_HEADS if name != "n")


def lines(told, metric):
    """Return the lines of a cell: the figure; its interval; in brackets, of several seeds, the lowest and the highest.

    >>> lines({"accuracy": 0.9, "intervals": {"accuracy": [0.8, 0.95]}, "approximate": ["accuracy"],
    ...        "lowest": {"accuracy": 0.88}, "highest": {"accuracy": 0.91}}, "accuracy")
    ('90.0 %', '80.0 to 95.0~', '[88.0 to 91.0]')
    >>> lines({"auc": None}, "auc"), lines(None, "auc")
    (('undefined',), ('–',))
    """
    if told is None or metric not in told:
        return (NONE,)
    value, _, interval = cell(told, metric).partition(" (")
    found = [value] + ([interval.replace(")", "")] if interval else [])
    ends = [(told.get(end) or {}).get(metric) for end in ("lowest", "highest")]
    if value != "undefined" and None not in ends and ends[0] < ends[1]:
        low, high = (cell({metric: end}, metric).removesuffix(" %") for end in ends)
        found.append(f"[{low} to {high}]")
    return tuple(found)


def by_metric(caption, columns, metrics=METRICS):
    """Return a Table with a row for each metric and a column for each description of {head: description or cells}.

    A column may also be {metric: text}, of figures that were printed elsewhere.
    """
    rows = [["images", *(_count(told, "n") for told in columns.values())],
            ["patients", *(_count(told, "patients") for told in columns.values())]]
    rows += [[HEADS[name], *(_cell(told, name) for told in columns.values())] for name in metrics]
    return Table(caption, ["", *columns], rows)


def by_row(caption, rows, metrics, first="", extra=None):
    """Return a Table with a row for each of {name: description} and a column for each metric.

    Parameters
    ----------
    extra : (head, function from a description to a cell), optional; the last column
    """
    heads = [first, "images", "patients", *(HEADS[name] for name in metrics)]
    body = [[name, _count(told, "n"), _count(told, "patients"), *(_cell(told, metric) for metric in metrics)]
            for name, told in rows.items()]
    if extra:
        heads, body = [*heads, extra[0]], [[*row, extra[1](told)] for row, told in zip(body, rows.values())]
    return Table(caption, heads, body)


def by_group(caption, column, groups):
    """Return a Table of a description's groups by one column of the manifest."""
    names = [name for name in GROUPED if any(name in told for told in groups.values())]
    return by_row(caption, groups, names, column)


def reasons(columns, metrics=METRICS):
    """Return a list of Bullets, or none: why figures of {name: description} are undefined or have no interval.

    >>> told = {"accuracy": 0.9, "auc": None, "undefined": {"auc": "all samples have the same label"}, "no_interval": {
    ...     "accuracy": "there is one patient"}}
    >>> for sentence in reasons({"test": told})[0].items:
    ...     print(sentence)
    test: no interval of accuracy, because there is one patient.
    test: undefined AUC, because all samples have the same label.
    """
    said, approximate = {}, False
    for name, told in columns.items():
        for metric in metrics:
            if told is None or metric not in told or isinstance(told[metric], str):
                continue
            kind = "undefined" if told[metric] is None else "no interval of"
            if kind == "undefined" or metric in (told.get("no_interval") or {}):
                said.setdefault((name, kind, why_none(told, metric)), []).append(HEADS[metric])
        approximate |= bool(told) and any(metric in (told.get("approximate") or ()) for metric in metrics)
    whose = {}
    for (name, kind, reason), heads in said.items():
        whose.setdefault(f"{kind} {join(heads)}, because {reason}.", []).append(name)
    items = [f"{join(names)}: {sentence}" for sentence, names in whose.items()]
    if approximate:
        items.append("~ approximate: the interval rests on fewer than 50 patients.")
    return [Bullets(items, small=True)] if items else []


def counted(caption, first, table, fold=""):
    """Return a Table of {word: {class: number}}, with sums of columns below."""
    classes = list(dict.fromkeys(name for row in table.values() for name in row))
    rows = [[word, *(number(row.get(name, 0)) for name in classes), number(sum(row.values()))]
            for word, row in table.items()]
    sums = [sum(row.get(name, 0) for row in table.values()) for name in classes]
    return Table(caption, [first, *classes, "all"], [*rows, ["all", *map(number, sums), number(sum(sums))]], fold=fold)


def _cell(told, metric):
    if told is not None and isinstance(told.get(metric), str):
        return told[metric]
    return lines(told, metric)


def _count(told, name):
    return NONE if told is None or told.get(name) is None else number(told[name])
