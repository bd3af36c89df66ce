"""An audit as text for a terminal; reports use the same words for confounders and findings."""

import textwrap

from minicnn.core.text import grid, join, number, span
from minicnn.errors import printable
from minicnn.evaluation.auditing.auditor import WHAT
from minicnn.evaluation.auditing.confounders import BOUND, FOLDS

__all__ = ["text", "confounder_rows", "confounder_verdict", "METHOD", "MEANING", "NO_PROBLEM", "findings_by_kind"]

_NAMES = {"header": "(a) file header", "border": "(b) image border", "thumbnail": "(c) 8 x 8 thumbnail",
          "source": "(d) source", "manufacturer": "(e) manufacturer", "detector": "(f) detector",
          "photometric": "(g) photometric interpretation", "compression": "(h) lossy compression"}
_HEADINGS = {"problems": "Problems", "remarks": "Remarks", "unusual": "Unusual images, to look at; this is no verdict"}
METHOD = (f"Logistic regression on each confounder alone, {FOLDS}-fold cross-validation by patient, {{}} images. An "
          "AUC of 0.50 is chance. All but (c) are flagged where the lower bound of the 95 % interval exceeds "
          f"{BOUND:.2f}; (c) shows the lungs and is for comparison. ~ marks intervals from fewer than 50 patients.")
MEANING = ("The labels can be predicted without the lungs. A network can learn any such shortcut, because traces of a "
           "file's origin (aspect ratio, noise, text, borders) are in its pixels. A high accuracy on a test set from "
           "this collection therefore does not show that the network recognizes a disease. Evaluate on images from one "
           "other hospital that has both labels, hold out whole sources, and check where the network looks.")
NO_PROBLEM = ("No problem found. This does not prove that there is none: the audit makes a fixed list of checks, none "
              "of them within the lungs.")


def text(audit):
    """Return the whole audit, at most 120 columns wide but for names of files and classes."""
    found = audit.to_dict()
    counts = ", ".join(f"{count:,} {printable(name)}" for name, count in audit.counts.items())
    unknown = f" ({audit.unidentified:,} of unknown patients)" if audit.unidentified else ""
    lines = [f"{printable(audit.source)}: {_counted(audit.images, 'image')}, {audit.readable:,} readable, of "
             f"{_counted(audit.patients, 'known patient')}{unknown}; {counts}", "", *_confounders(found), ""]
    for name, table in audit.tables.items():
        rows = [[name, *map(printable, next(iter(table.values())))]]
        rows += [[word, *map(number, row.values())] for word, row in table.items()]
        lines += [*grid(rows, numbers=range(1, len(rows[0]))), ""]
    for key, heading in _HEADINGS.items():
        if found[key]:
            lines.append(f"{heading}:")
            for kind, sentences in findings_by_kind(found[key], "--json lists all"):
                lines += [f"  {kind}"] * bool(kind) + [f"    {sentence}" for sentence in sentences]
            lines.append("")
    paragraphs = ["\n".join(textwrap.wrap(paragraph, 118)) for paragraph in _conclusions(audit)]
    return "\n".join([*lines, "\n\n".join(paragraphs)])


def _counted(n, noun):
    return f"{n:,} {noun}{'s' * (n != 1)}"


def _confounders(found):
    """Return the lines on the confounders; what holds for all of a class, and why nothing is measured, is said once."""
    held, lines = {}, ["How well the label is predicted without the lungs"]
    for one in found["shortcuts"]:
        held.setdefault(one["against"], []).append(one)
    why = {name: rows[0]["reason"] for name, rows in held.items()
           if len({row["reason"] for row in rows}) == 1 and all(row["auc"] is None for row in rows)}
    rows = confounder_rows(found["shortcuts"])
    rows = [row for row, one in zip(rows, found["shortcuts"]) if one["against"] not in why]
    if rows:
        lines += grid([["confounder", "AUC", "95 % interval", "the confounder"], *rows])
    if any(one["auc"] is not None for one in found["shortcuts"]):
        lines += textwrap.wrap(METHOD.format(number(found["sampled"])), 118)
    return lines + (textwrap.wrap(f"Not measured: {join(dict.fromkeys(why.values()))}.", 118) if why else [])


def confounder_rows(confounders):
    """Return [name, AUC, 95 % interval, verdict] of each confounder, as `Audit.to_dict` gives them."""
    several = len({one["against"] for one in confounders}) > 1
    return [[_NAMES.get(one["name"], one["name"]) + f", {printable(one['against'])} against the rest" * several,
             number(one["auc"], "{:.2f}"),
             span((one["low"], one["high"])) + "~" * bool(one["low"] is not None and one.get("approximate")),
             confounder_verdict(one)] for one in confounders]


def confounder_verdict(one):
    """Return what the AUC of a confounder shows.

    >>> confounder_verdict({"auc": 0.99, "low": 0.98, "high": 1.0, "judged": True, "flagged": True})
    'predicts the label (flagged)'
    >>> confounder_verdict({"auc": 0.62, "low": 0.57, "high": 0.67, "judged": True, "flagged": False})
    'predicts the label weakly'
    >>> confounder_verdict({"auc": 0.55, "low": 0.48, "high": 0.62, "judged": True, "flagged": False})
    'is not shown to predict the label'
    >>> confounder_verdict({"auc": None, "low": None, "high": None, "flagged": False, "reason": "no column"})
    'not judged: no column'
    """
    if one["low"] is None:
        return f"not judged: {printable(one.get('reason') or 'there is no interval')}"
    if one.get("flagged"):
        return "predicts the label (flagged)"
    if one["low"] <= 0.5:
        return "is not shown to predict the label"
    return "predicts the label weakly" if one["judged"] else "predicts the label"


def findings_by_kind(findings, where):
    """Return a list of (heading, sentences): the findings of each sort with their number, two examples of equal ones.

    Parameters
    ----------
    findings : list of dict, as `Audit.to_dict` gives them
    where : str; says where the rest are found

    >>> seen = [{"what": "duplicate", "sentence": f"{name} are the same image.", "kind": "exact"} for name in "abc"]
    >>> findings_by_kind(seen, "--json lists all")[0][1]
    ['a are the same image.', 'b are the same image.', '... and 1 more like the two above (--json lists all)']
    """
    sorts = {}
    for finding in findings:
        kinds = sorts.setdefault(finding["what"], {})
        kinds.setdefault(finding.get("kind") or finding["sentence"], []).append(finding["sentence"])
    result = []
    for sort, kinds in sorts.items():
        lines = []
        for sentences in kinds.values():
            more = [f"... and {len(sentences) - 2:,} more like the two above ({where})"] * (len(sentences) > 2)
            lines += [*sentences[:2], *more]
        result.append((f"{WHAT[sort]}: {sum(map(len, kinds.values())):,}" if sort in WHAT else "", lines))
    return result


def _conclusions(audit):
    """Say what the findings mean, and what to do."""
    kinds = {finding.what for finding in audit.problems}
    said = [MEANING] if "shortcut" in kinds else []
    if kinds & {"torn duplicate", "torn patient"}:
        said.append("The split column of the manifest is used as it is, and metrics on its sets will be too good. "
                    "Correct or remove it: minicnn's own split keeps images of one patient and copies of one image "
                    "together.")
    elif "duplicate" in kinds:
        said.append("minicnn's split keeps copies of one image together.")
    if kinds & {"unreadable", "not frontal"}:
        said.append("Leave files that cannot be read, CT slices and lateral views out of the manifest.")
    if not kinds:
        said.append(NO_PROBLEM)
    if all(one.auc is None for one in audit.confounders):
        said.append("No confounder could be measured: whether the label can be predicted without the lungs is not "
                    "known.")
    return said
