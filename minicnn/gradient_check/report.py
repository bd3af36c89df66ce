"""What a check found, to print in a terminal, in a notebook, or as JSON. Truthy only where no bug was found."""

from collections import Counter
from dataclasses import dataclass, field
from html import escape

import numpy as np

from minicnn.errors import printable
from minicnn.gradient_check.verdicts import BUG, KINK, OK, PRECISION

__all__ = ["Finding", "Row", "Report"]

_SHOWN = 20         # findings printed of each kind; all of them are in `findings`


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    verdict : BUG, KINK or PRECISION
    layer, parameter : str; where. The parameter is "x" for the gradient that a layer passes on
    index : tuple of int, or None where the finding is on the whole
    analytic, numeric : float or None; what backward says, and what differences say
    cause : str, the likely cause, or a sentence on its own
    step : float or None; for PRECISION the step that told most
    words : who says the two numbers
    """

    verdict: str
    layer: str
    parameter: str = ""
    index: tuple = None
    analytic: float = None
    numeric: float = None
    cause: str = ""
    step: float = None
    words: tuple = ("backward says", "differences say")

    @property
    def place(self):
        """Where: "conv2d_1/kernel[0, 2, 1, 3]"."""
        where = self.layer + (f"/{self.parameter}" if self.parameter else "")
        return where + (str(list(self.index)) if self.index is not None else "")

    @property
    def ratio(self):
        """What backward says over what differences say; None where that is nothing to divide by."""
        return self.analytic / self.numeric if self.numeric else None

    def __str__(self):
        text = f"{self.verdict:9}  {self.place}"
        if self.analytic is not None:
            text += f": {self.words[0]} {self.analytic:.9g}, {self.words[1]} {self.numeric:.9g}"
            text += f", ratio {self.ratio:.6g}" if self.ratio is not None and self.verdict == BUG else ""
        if self.verdict == PRECISION and self.step:
            text += f"; the best step is {self.step:.0e}"
        return printable(text + (f". {self.cause[0].upper()}{self.cause[1:]}." if self.cause else "."))


@dataclass
class Row:
    """The verdicts on one array.

    layer, parameter : str; size : int; inputs : str, "" or "ties"
    coordinates : (n,) int, flat indices of what was checked
    analytic, numeric, steps : (n,) float; verdicts, first : (n,) of str (verdicts.Verdict)
    """

    layer: str
    parameter: str
    size: int
    coordinates: np.ndarray
    analytic: np.ndarray
    numeric: np.ndarray
    verdicts: np.ndarray
    first: np.ndarray
    steps: np.ndarray
    inputs: str = ""

    @property
    def error(self):
        """The largest difference relative to the largest number."""
        largest = max(np.abs(self.analytic).max(initial=0), np.abs(self.numeric).max(initial=0))
        return float(np.abs(self.analytic - self.numeric).max(initial=0) / largest) if largest else 0.0

    def count(self, verdict):
        return int((self.verdicts == verdict).sum())


@dataclass
class Report:
    """What was checked, and what was found.

    Attributes
    ----------
    subject : str
    rows : list of Row, one an array
    directions : list of (analytic, numeric, relative error), one a direction of a projection check
    redrawn : int, directions that crossed a kink and were drawn again
    findings : list of Finding, the bugs first
    notes : list of str

    >>> report = Report("Scale", findings=[Finding(BUG, "Scale", "factor", (0,), 2.0, 1.0, "the sign is flipped")])
    >>> bool(report), report.bugs[0].place
    (False, 'Scale/factor[0]')
    """

    subject: str
    rows: list = field(default_factory=list)
    directions: list = field(default_factory=list)
    redrawn: int = 0
    findings: list = field(default_factory=list)
    notes: list = field(default_factory=list)

    def __bool__(self):
        return not self.bugs

    @property
    def bugs(self):
        return [finding for finding in self.findings if finding.verdict == BUG]

    @property
    def counts(self):
        """{verdict: how many coordinates}."""
        counted = Counter(str(verdict) for row in self.rows for verdict in row.verdicts)
        return {verdict: counted[verdict] for verdict in (OK, KINK, PRECISION, BUG)}

    @property
    def explained(self):
        """{KINK or PRECISION: coordinates that are right, and that a check at the first step alone would accuse}."""
        counted = Counter(str(first) for row in self.rows for first, verdict in zip(row.first, row.verdicts)
                          if verdict != BUG)
        return {verdict: counted[verdict] for verdict in (KINK, PRECISION)}

    @property
    def better_step(self):
        """The step that settled most of what the first step alone was not precise enough for; None where it was."""
        steps = [float(s) for row in self.rows for s, first in zip(row.steps, row.first) if first == PRECISION]
        return Counter(steps).most_common(1)[0][0] if steps else None

    @property
    def error(self):
        """The largest relative error of the directions, or 0."""
        return max((error for *_, error in self.directions), default=0.0)

    def verdict(self):
        """Return the first line: what came out."""
        if not self:
            return f"{printable(self.subject)}: BUG at {', '.join(dict.fromkeys(map(_where, self.bugs)))}"
        return f"{printable(self.subject)}: no bug found"

    def lines(self):
        """Return (sentences, table as rows of cells, findings shown)."""
        counts, explained = self.counts, self.explained
        told = []
        if self.rows:
            told.append("  ".join(f"{verdict} {count:,}" for verdict, count in counts.items()))
        if sum(explained.values()):
            told.append(f"A check at the first step alone would accuse {sum(explained.values()):,} right numbers: "
                        f"{explained[KINK]:,} at kinks, {explained[PRECISION]:,} for want of precision"
                        + (f" (a step of {self.better_step:.0e} settles most)." if self.better_step else "."))
        if self.directions:
            told.append(f"{len(self.directions)} random directions: relative error at most {self.error:.1e}; "
                        f"{self.redrawn} crossed a kink and were drawn again.")
        table = [[printable(f"{row.layer}/{row.parameter}") + (f" ({row.inputs})" if row.inputs else ""),
                  f"{len(row.coordinates):,} of {row.size:,}",
                  *(f"{row.count(verdict):,}" for verdict in (OK, KINK, PRECISION, BUG)), f"{row.error:.0e}"]
                 for row in self.rows]
        shown = [finding for verdict in (BUG, PRECISION, KINK)
                 for finding in [f for f in self.findings if f.verdict == verdict][:_SHOWN]]
        return told + [printable(note) for note in self.notes], table, shown

    def __str__(self):
        told, table, shown = self.lines()
        table = [list(_HEADS), *table] if table else []
        widths = [max(len(row[i]) for row in table) for i in range(len(_HEADS))] if table else []
        text = [self.verdict(), *("  " + line for line in told)]
        text += ["  " + first.ljust(widths[0]) + "".join(f"  {cell:>{width}}" for cell, width in zip(cells, widths[1:]))
                 for first, *cells in table]
        text += ["  " + str(finding) for finding in shown]
        if len(self.findings) > len(shown):
            text.append(f"  ... and {len(self.findings) - len(shown):,} more (report.findings)")
        return "\n".join(text)

    def _repr_html_(self):
        """Return the report for a notebook; every text is escaped."""
        told, table, shown = self.lines()
        html = [f"<p><strong>{escape(self.verdict())}</strong></p>", *(f"<p>{escape(line)}</p>" for line in told)]
        if table:
            rows = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in table]
            html.append("<table><thead><tr>" + "".join(f"<th>{escape(head)}</th>" for head in _HEADS)
                        + "</tr></thead><tbody>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</tbody></table>")
        if shown:
            html.append("<ul>" + "".join(f"<li>{escape(str(finding))}</li>" for finding in shown) + "</ul>")
        return "\n".join(html)

    def as_dict(self):
        """Return what --json prints: numbers and words, no NaN."""
        return {"subject": self.subject, "ok": bool(self), "counts": self.counts, "explained": self.explained,
                "directions": len(self.directions), "redrawn": self.redrawn,
                "relative_error": _finite(self.error) if self.directions else None,
                "findings": [{"verdict": f.verdict, "layer": f.layer, "parameter": f.parameter,
                              "index": None if f.index is None else list(f.index), "analytic": _finite(f.analytic),
                              "numeric": _finite(f.numeric), "ratio": _finite(f.ratio), "cause": f.cause,
                              "step": f.step}
                             for f in self.findings], "notes": self.notes}


_HEADS = ("array", "checked", OK, KINK, PRECISION, BUG, "error")


def _where(finding):
    return printable(finding.layer + (f"/{finding.parameter}" if finding.parameter else ""))


def _finite(number):
    return float(number) if number is not None and np.isfinite(number) else None
