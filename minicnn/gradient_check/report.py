"""The result of a check, as text, HTML for a notebook, or JSON. It is true if no bug was found."""

from collections import Counter
from dataclasses import dataclass, field
from html import escape

import numpy as np

from minicnn.core.text import grid
from minicnn.errors import printable
from minicnn.gradient_check.verdicts import BUG, KINK, PRECISION, VERDICTS

__all__ = ["Finding", "Row", "Report"]

_SHOWN = 20         # the number of printed findings of each verdict; all of them are in `findings`
_HEADS = ("array", "checked", *VERDICTS, "error")


@dataclass(frozen=True)
class Finding:
    """One result that is not OK.

    verdict : BUG, KINK or PRECISION
    layer, parameter : str, the place. The parameter is "x" for the gradient with respect to a layer's input
    index : tuple of int, or None for a finding on the whole array
    analytic, numeric : float or None; the gradient by backward and by finite differences
    cause : str, the likely cause, or what was found
    step : float or None; the step of the finite difference, the most precise one for PRECISION
    words : what the two numbers are called
    """

    verdict: str
    layer: str
    parameter: str = ""
    index: tuple = None
    analytic: float = None
    numeric: float = None
    cause: str = ""
    step: float = None
    words: tuple = ("analytic gradient", "finite difference")

    @property
    def array(self):
        """The array: "conv2d_1/kernel"."""
        return self.layer + (f"/{self.parameter}" if self.parameter else "")

    @property
    def place(self):
        """The place: "conv2d_1/kernel[0, 2, 1, 3]"."""
        return self.array + (str(list(self.index)) if self.index is not None else "")

    @property
    def ratio(self):
        """analytic / numeric; None if numeric is 0 or None."""
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
    coordinates : (n,) int, flat indices of the numbers that were checked
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
    rows : list of Row, one for each array
    directions : list of (analytic, numeric, relative error), one for each random direction
    redrawn : int, the number of directions that crossed a kink and were replaced
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
        """{verdict: number of coordinates}."""
        return {verdict: sum(row.count(verdict) for row in self.rows) for verdict in VERDICTS}

    @property
    def explained(self):
        """{KINK or PRECISION: number of right coordinates that a check at the first step alone reports as wrong}."""
        return {reason: sum(int(((row.first == reason) & (row.verdicts != BUG)).sum()) for row in self.rows)
                for reason in (KINK, PRECISION)}

    @property
    def better_step(self):
        """The step that decided most of the numbers for which the first was not precise enough, or None."""
        steps = [float(s) for row in self.rows for s, first in zip(row.steps, row.first) if first == PRECISION]
        return Counter(steps).most_common(1)[0][0] if steps else None

    @property
    def error(self):
        """The largest relative error of the directions, or 0."""
        return max((error for *_, error in self.directions), default=0.0)

    def verdict(self):
        """Return the first line: the result."""
        places = ", ".join(dict.fromkeys(printable(bug.array) for bug in self.bugs))
        return f"{printable(self.subject)}: " + (f"BUG at {places}" if places else "no bug found")

    def lines(self):
        """Return (sentences, table as rows of cells with the heads first, findings shown)."""
        explained, sentences = self.explained, []
        if self.rows:
            sentences.append("  ".join(f"{verdict} {count:,}" for verdict, count in self.counts.items()))
        if sum(explained.values()):
            better = f" (a step of {self.better_step:.0e} decides most)" if self.better_step else ""
            sentences.append(f"A check at the first step alone gives {sum(explained.values()):,} false positives: "
                             f"{explained[KINK]:,} at kinks, {explained[PRECISION]:,} by insufficient precision"
                             + better + ".")
        if self.directions:
            sentences.append(f"{len(self.directions)} random directions: relative error at most {self.error:.1e}; "
                             f"{self.redrawn} crossed a kink and were replaced.")
        table = [[printable(f"{row.layer}/{row.parameter}") + (f" ({row.inputs})" if row.inputs else ""),
                  f"{len(row.coordinates):,} of {row.size:,}",
                  *(f"{row.count(verdict):,}" for verdict in VERDICTS), f"{row.error:.0e}"] for row in self.rows]
        shown = [finding for verdict in (BUG, PRECISION, KINK)
                 for finding in [f for f in self.findings if f.verdict == verdict][:_SHOWN]]
        return sentences + [printable(note) for note in self.notes], [_HEADS, *table] if table else [], shown

    def __str__(self):
        sentences, table, shown = self.lines()
        text = [self.verdict(), *sentences, *grid(table, range(1, len(_HEADS))), *map(str, shown)]
        if len(self.findings) > len(shown):
            text.append(f"... and {len(self.findings) - len(shown):,} more (report.findings)")
        return "\n  ".join(text)

    def _repr_html_(self):
        """Return the report as HTML for a notebook; every text is escaped."""
        sentences, table, shown = self.lines()
        html = [f"<p><strong>{escape(self.verdict())}</strong></p>", *(f"<p>{escape(line)}</p>" for line in sentences)]
        if table:
            heads, *rows = ["".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row)
                            for tag, row in zip(["th"] + ["td"] * len(self.rows), table)]
            html.append(f"<table><thead><tr>{heads}</tr></thead><tbody>" + "".join(f"<tr>{row}</tr>" for row in rows)
                        + "</tbody></table>")
        if shown:
            html.append("<ul>" + "".join(f"<li>{escape(str(finding))}</li>" for finding in shown) + "</ul>")
        return "\n".join(html)

    def as_dict(self):
        """Return the report as a dict for JSON, without NaN."""
        return {"subject": self.subject, "ok": bool(self), "counts": self.counts, "explained": self.explained,
                "directions": len(self.directions), "redrawn": self.redrawn,
                "relative_error": _finite(self.error) if self.directions else None,
                "findings": [{"verdict": f.verdict, "layer": f.layer, "parameter": f.parameter,
                              "index": None if f.index is None else list(f.index), "analytic": _finite(f.analytic),
                              "numeric": _finite(f.numeric), "ratio": _finite(f.ratio), "cause": f.cause,
                              "step": f.step}
                             for f in self.findings], "notes": self.notes}


def _finite(number):
    return float(number) if number is not None and np.isfinite(number) else None
