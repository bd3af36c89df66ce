"""An audit as text for a terminal."""

import textwrap

from minicnn.errors import printable
from minicnn.evaluation.auditing.auditor import WHAT
from minicnn.evaluation.auditing.confounders import BOUND, FOLDS
from minicnn.reporting.console import grid

__all__ = ["SUSPECTS", "text"]

_MOST = 10      # findings of one kind that are written out

SUSPECTS = {"header": "(a) file header alone", "border": "(b) image border alone",
             "thumbnail": "(c) 8 x 8 thumbnail, for information: it holds lungs", "source": "(d) source column alone"}


def text(audit):
    """Return the whole audit, at most 120 columns wide but for file names."""
    lines = [f"{printable(audit.source)}: {audit.images:,} images, {audit.readable:,} readable, "
             f"{audit.patients:,} known patients; "
             + ", ".join(f"{count:,} {name}" for name, count in audit.counts.items()), ""]
    lines += _suspects(audit)
    for name, table in audit.tables.items():
        lines += _table(name, table)
    for heading, findings in (("Problems", audit.problems), ("Remarks", audit.remarks),
                              ("Unusual, look at these (no verdict)", audit.unusual)):
        lines += _findings(heading, findings)
    return "\n".join(lines + _verdict(audit))


def _suspects(audit):
    several = len(audit.counts) > 2
    lines = [f"How well the label is predicted without looking at lungs (AUC; logistic regression, {FOLDS} folds by "
             f"patient, {audit.sampled:,} images):"]
    for suspect in audit.shortcuts:
        head = SUSPECTS[suspect.name] + (f", {printable(suspect.against)} against the rest" if several else "")
        if suspect.auc is None:
            lines.append(f"  {head:54}  undefined: {printable(suspect.reason)}")
            continue
        interval = f"{suspect.low:.2f} to {suspect.high:.2f}" if suspect.low is not None else suspect.reason
        mark = "  GIVES THE LABEL AWAY" if suspect.is_flagged else ""
        interval += ", approximate" if suspect.approximate else ""
        lines.append(f"  {head:54}  {suspect.auc:.2f} ({interval}){mark}")
    return lines + [f"  Chance is 0.50. (a), (b) and (d) are a problem where the lower 95 % bound exceeds {BOUND:.2f}.",
                    ""]


def _table(name, table):
    classes = list(next(iter(table.values())))
    rows = [[name, *map(printable, classes)]]
    rows += [[word, *(f"{row[c]:,}" for c in classes)] for word, row in table.items()]
    return [*grid(rows, numbers=range(1, len(rows[0]))), ""]


def _findings(heading, findings):
    if not findings:
        return []
    lines = [f"{heading}:"]
    for what in dict.fromkeys(finding.what for finding in findings):
        of_kind = [finding.sentence for finding in findings if finding.what == what]
        if what in WHAT:
            lines.append(f"  {WHAT[what]}: {len(of_kind):,}")
        lines += [f"    {sentence}" for sentence in of_kind[:_MOST]]
        if len(of_kind) > _MOST:
            lines.append(f"    ... and {len(of_kind) - _MOST:,} more (--json lists all)")
    return [*lines, ""]


def _verdict(audit):
    """Say what it means and what to do, in plain words."""
    found = {finding.what for finding in audit.problems}
    said = []
    if "shortcut" in found:
        said += ["What it means: the labels can be told without looking at lungs. A network takes whatever tells them "
                 "apart, and the traces of a file's origin (stretch, grain, letters, frames) are in its pixels. So a "
                 "high figure on a held-out part of this collection does not say that it sees an illness.",
                 "What to do: measure on images of one other hospital that holds both labels (minicnn evaluate RUN "
                 "--data OTHER.csv), hold out whole sources, and look at where the network looks."]
    if found & {"duplicate", "torn duplicate", "torn patient"}:
        said += ["Images of one patient, and copies of one picture, stay in one part when minicnn divides the "
                 "collection. A split column of your own is taken as it is."]
    if not found:
        said += ["No problem found. That is no proof that there is none: the audit sees what it looks for, and no "
                 "shortcut within the field of the lungs."]
    return [line for sentence in said for line in textwrap.wrap(sentence, 118)]
