"""Summaries (evaluation/summary.py) as text for a terminal: Table II of the paper, then the intervals and subgroups."""

from minicnn import metrics
from minicnn.core.text import grid, number, percent
from minicnn.errors import printable
from minicnn.evaluation.summary import GROUPED, HEADS, SHARES
from minicnn.reporting.wording import APPROXIMATE, cell

__all__ = ["table", "paper_table"]


def table(summaries):
    """Return {set: summary} as text: a table like Table II, one with 95 % intervals, and the last set by subgroup.

    >>> from minicnn.evaluation.summary import summarize
    >>> summary = summarize([0, 1] * 60, [0.2, 0.7, 0.4, 0.9, 0.6, 0.3] * 20, loss=0.5)
    >>> print(table({"test": {name: summary[name] for name in [*metrics.HEADS, "undefined", "patients", "intervals"]}}))
    set     n  accuracy  specificity  precision   recall       F1     AUC    loss
    test  120   66.67 %      66.67 %    66.67 %  66.67 %  66.67 %  0.7778  0.5000
    <BLANKLINE>
    95 % intervals  test
    patients        120
    accuracy        66.7 % (57.7 to 74.5)
    specificity     66.7 % (53.8 to 77.5)
    precision       66.7 % (53.8 to 77.5)
    recall          66.7 % (53.8 to 77.5)
    F1              66.7 % (56.3 to 75.7)
    AUC             0.778 (0.673 to 0.856)
    loss            0.500 (0.491 to 0.625)
    """
    lines = [paper_table(summaries)]
    if any(summary.get("intervals") or summary.get("no_interval") for summary in summaries.values()):
        lines += ["", *_with_intervals(summaries)]
    lines += _at_threshold({name: summary["at_threshold"] for name, summary in summaries.items()
                            if summary.get("at_threshold")})
    name, last = list(summaries.items())[-1]
    for column, groups in last.get("groups", {}).items():
        lines += ["", *_by_group(f"{name}, by {column}", groups)]
    if any("~" in line for line in lines[1:]):
        lines += ["", APPROXIMATE]
    return "\n".join(lines)


def paper_table(summaries):
    """Return the metrics of several sets as a text table like Table II of the paper, with reasons below it.

    Parameters
    ----------
    summaries : dict; from the name of a set (training, validation ...) to its metrics

    >>> print(paper_table({"test": metrics.binary_metrics([0, 1], [0.1, 0.2], loss=0.5)}))
    set   n  accuracy  specificity  precision  recall      F1     AUC    loss
    test  2   50.00 %     100.00 %  undefined  0.00 %  0.00 %  1.0000  0.5000
    undefined: test precision, because no sample was predicted positive.
    """
    forms, heads = {"n": "{}", "auc": "{:.4f}", "loss": "{:.4f}"}, metrics.HEADS
    rows = [["set", *heads.values()]]
    rows += [[printable(name), *(number(summary[key], forms[key]) if key in forms else percent(summary[key], 2)
                                 for key in heads)] for name, summary in summaries.items()]
    return "\n".join(grid(rows, numbers=range(1, len(rows[0]))) + _reasons(summaries, heads))


def _rows(summaries, names):
    return [[HEADS[name], *(cell(summary, name) for summary in summaries.values())] for name in names]


def _reasons(summaries, names, key="undefined", kind="undefined"):
    """Return lines on why metrics among `names` have no value, or no interval."""
    return [f"{kind}: {printable(set_name)} {HEADS[name]}, because {printable(reason)}."
            for set_name, summary in summaries.items()
            for name, reason in summary.get(key, {}).items() if name in names]


def _with_intervals(summaries):
    rows = [["95 % intervals", *map(printable, summaries)]]
    rows.append(["patients", *(str(summary.get("patients", "unknown")) for summary in summaries.values())])
    rows += _rows(summaries, [name for name in HEADS if name != "n"
                              and any(name in summary for summary in summaries.values())])
    return (grid(rows) + _reasons(summaries, HEADS.keys() - metrics.HEADS.keys())
            + _reasons(summaries, HEADS, "no_interval", "no interval"))


def _at_threshold(summaries):
    """Return the metrics at the threshold that was fixed on validation, which is the same for all sets."""
    if not summaries:
        return []
    rows = [[f"at p > {next(iter(summaries.values()))['threshold']:.4g}, fixed on validation",
             *map(printable, summaries)], *_rows(summaries, SHARES)]
    if "validation" in summaries:
        rows.append(["(optimistic on validation, where it was chosen)", *[""] * len(summaries)])
    return ["", *grid(rows), *_reasons(summaries, SHARES)]


def _by_group(title, groups):
    names = [name for name in GROUPED if any(name in summary for summary in groups.values())]
    rows = [[title, "images", "patients", *(HEADS[name] for name in names)]]
    rows += [[word, str(summary["n"]), str(summary["patients"]), *(cell(summary, name) for name in names)]
             for word, summary in groups.items()]
    missing = {}
    for word, summary in groups.items():
        for name, reason in summary["undefined"].items():
            missing.setdefault((name, reason), []).append(word)
    return grid(rows) + [f"undefined: {HEADS[name]} of {', '.join(words)}, because {reason}."
                         for (name, reason), words in missing.items() if name in names]
