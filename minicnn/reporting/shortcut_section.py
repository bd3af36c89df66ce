"""The shortcut check (evaluation/shortcut_test.py) as a part of a report."""

from minicnn.reporting.document import Bullets, Table, Text
from minicnn.reporting.tables import NONE, number, percent

__all__ = ["WHAT", "shortcut_check"]

WHAT = Text("The same pictures without their border, without their middle where the lungs are, re-encoded, inverted "
            "and blurred. A network that answers from the lungs keeps its answers without the border and has none "
            "without the middle.")


def shortcut_check(name, check):
    """Return the blocks of one check, as `ShortcutCheck.to_dict` gives it: a table, and what it points at.

    Parameters
    ----------
    name : str; what was measured on
    """
    rows = [[row["condition"], *(percent(row[key]) for key in ("accuracy", "recall", "specificity")),
             (number(row["auc"], "{:.2f}"), *_span(row["interval"], "{:.2f}")),
             NONE if row["change"] is None else (f"{row['change']:+.2f}", *_span(row["change_interval"], "{:+.2f}"))]
            for row in check["rows"]]
    return [Table(f"The shortcut check: {name}, {number(check['patients'])} patients",
                  ["pictures", "accuracy", "recall", "specificity", "AUC", "change of AUC"], rows),
            Bullets(check["sentences"])]


def _span(interval, form):
    return () if interval is None else (f"{form.format(interval[0])} to {form.format(interval[1])}",)
