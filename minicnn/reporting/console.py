"""Descriptions (summary.py) as text for a terminal: Table II of the paper, then the intervals, then the groups."""

from minicnn import metrics
from minicnn.core.text import grid
from minicnn.errors import printable
from minicnn.evaluation.summary import GROUPED, HEADS, SHARES

__all__ = ["table", "paper_table", "cell", "grid"]

_LEGEND = "~ approximate: rests on fewer than 50 patients."


def table(parts):
    """Return {part: description} as text: a table like Table II, one with 95 % intervals, and the last part by group.

    >>> from minicnn.evaluation.summary import summarize
    >>> told = summarize([0, 1] * 60, [0.2, 0.7, 0.4, 0.9, 0.6, 0.3] * 20, loss=0.5)
    >>> print(table({"test": {name: told[name] for name in [*metrics.HEADS, "undefined", "patients", "intervals"]}}))
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
    lines = [paper_table({name: _of_the_paper(told) for name, told in parts.items()})]
    if any(told.get("intervals") or told.get("no_interval") for told in parts.values()):
        lines += ["", *_with_intervals(parts)]
    lines += _at_threshold({name: told["at_threshold"] for name, told in parts.items() if told.get("at_threshold")})
    name, told = list(parts.items())[-1]
    for column, groups in told.get("groups", {}).items():
        lines += ["", *_by_group(f"{name}, by {column}", groups)]
    if any("~" in line for line in lines[1:]):
        lines += ["", _LEGEND]
    return "\n".join(lines)


def paper_table(parts):
    """Return the metrics of several parts as a text table like Table II of the paper, with reasons below it.

    Parameters
    ----------
    parts : dict; from the name of a part (training, validation ...) to its metrics

    >>> print(paper_table({"test": metrics.binary_metrics([0, 1], [0.1, 0.2], loss=0.5)}))
    set   n  accuracy  specificity  precision  recall      F1     AUC    loss
    test  2   50.00 %     100.00 %  undefined  0.00 %  0.00 %  1.0000  0.5000
    undefined: test precision, because no sample was predicted positive.
    """
    forms, heads = {"n": "{}", "auc": "{:.4f}", "loss": "{:.4f}"}, metrics.HEADS
    rows = [["set", *heads.values()]]
    for name, told in parts.items():
        rows.append([printable(name), *("undefined" if told[key] is None else
                                        forms.get(key, "{:.2%}").format(told[key]).replace("%", " %") for key in heads)])
    lines = grid(rows, numbers=range(1, len(rows[0])))
    lines += [f"undefined: {printable(name)} {heads[key]}, because {printable(reason)}."
              for name, told in parts.items() for key, reason in told["undefined"].items()]
    return "\n".join(lines)


def cell(told, name):
    """Return a figure of a description with its interval, as text; ~ where that is approximate.

    >>> cell({"accuracy": 0.9, "intervals": {"accuracy": [0.812, 0.95]}, "approximate": ["accuracy"]}, "accuracy")
    '90.0 % (81.2 to 95.0)~'
    >>> cell({"auc": None}, "auc"), cell({"auc": 0.9}, "auc")
    ('undefined', '0.900')
    """
    value, bounds = told.get(name), told.get("intervals", {}).get(name)
    if value is None:
        return "undefined"
    scale, form, unit = (100, "{:.1f}", " %") if name in SHARES else (1, "{:.3f}", "")
    text = form.format(scale * value) + unit
    if bounds is None:
        return text
    low, high = (form.format(scale * bound) for bound in bounds)
    return f"{text} ({low} to {high}){'~' if name in told.get('approximate', ()) else ''}"


def _of_the_paper(told):
    """Return the part of a description that paper_table knows."""
    return {name: told[name] for name in metrics.HEADS} | {
        "undefined": {name: reason for name, reason in told["undefined"].items() if name in metrics.HEADS}}


def _with_intervals(parts):
    rows = [["95 % intervals", *map(printable, parts)]]
    rows.append(["patients", *(str(told.get("patients", "unknown")) for told in parts.values())])
    for name in HEADS:
        if name != "n" and any(name in told for told in parts.values()):
            rows.append([HEADS[name], *(cell(told, name) for told in parts.values())])
    return grid(rows) + [f"{kind}: {printable(part)} {HEADS[name]}, because {reason}." for part, told in parts.items()
                         for kind, key in (("undefined", "undefined"), ("no interval", "no_interval"))
                         for name, reason in told.get(key, {}).items()
                         if key == "no_interval" or name not in metrics.HEADS]


def _at_threshold(parts):
    """Return the shares at the threshold that was fixed on validation, which is the same for all parts."""
    if not parts:
        return []
    rows = [[f"at p > {next(iter(parts.values()))['threshold']:.4g}, fixed on validation", *map(printable, parts)]]
    rows += [[HEADS[name], *(cell(told, name) for told in parts.values())] for name in SHARES]
    if "validation" in parts:
        rows.append(["(too good on validation, where it was chosen)", *[""] * len(parts)])
    return ["", *grid(rows)] + [f"undefined: {printable(part)} {HEADS[name]}, because {reason}."
                                for part, told in parts.items() for name, reason in told["undefined"].items()]


def _by_group(title, groups):
    names = [name for name in GROUPED if any(name in told for told in groups.values())]
    rows = [[title, "images", "patients", *(HEADS[name] for name in names)]]
    rows += [[word, str(told["n"]), str(told["patients"]), *(cell(told, name) for name in names)]
             for word, told in groups.items()]
    missing = {}
    for word, told in groups.items():
        for name, reason in told["undefined"].items():
            missing.setdefault((name, reason), []).append(word)
    return grid(rows) + [f"undefined: {HEADS[name]} of {', '.join(words)}, because {reason}."
                         for (name, reason), words in missing.items() if name in names]
