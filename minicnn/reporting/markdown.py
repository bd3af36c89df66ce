"""The chapters of a report as Markdown: tables as pipes, images as links to files beside it.

Text is plain, so every character with a meaning in Markdown or HTML is escaped. The template is page.md.
"""

import re

from minicnn.errors import printable
from minicnn.reporting.document import said_once
from minicnn.reporting.html import template

__all__ = ["markdown", "escaped"]

_MARKS = re.compile(r"[\\`*_\[\]<>#|~$&{}!@]")
_FIRST = re.compile(r"^(\s*)([-+=:]|\d+[.)](?=\s|$))")
_STOPS = str.maketrans({"<": "&lt;", ">": "&gt;", "&": "&amp;", "@": "&#64;", "$": "&#36;"})


def markdown(title, warning, about, chapters, notice=""):
    """Return the chapters as Markdown.

    Parameters
    ----------
    title, warning, about : str; the heading, the warning at the top, and the line below the title
    chapters : list of document.Chapter
    notice : str; what must be read before all else, optional

    Raises
    ------
    MissingExtraError : jinja2 is not installed
    """
    page = template("page.md", escaped, trim_blocks=True, lstrip_blocks=True)
    return page.render(title=title, warning=warning, about=about, notice=notice, chapters=said_once(chapters),
                       address=_address, printable=printable)


def escaped(text):
    r"""Return plain text so that Markdown shows it as it is.

    >>> print(escaped("a_b <script> 90 %~ x|y"))
    a\_b &lt;script&gt; 90 %\~ x\|y
    >>> print(escaped("1. no list"), escaped("- nor this"))
    1\. no list \- nor this
    """
    text = _MARKS.sub(lambda mark: mark[0].translate(_STOPS) if mark[0] in "<>&@$" else "\\" + mark[0], printable(text))
    return _FIRST.sub(lambda start: start[1] + start[2][:-1] + "\\" + start[2][-1], text)


def _address(path):
    """Return a path as the address of a link, with every character that could end it escaped."""
    return "".join(c if c.isalnum() or c in "-_./" else "".join(f"%{byte:02X}" for byte in c.encode("utf-8", "replace"))
                   for c in path)
