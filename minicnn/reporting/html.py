"""Chapters of a report (document.py) as one HTML file that needs nothing else.

Names of files, classes and settings come from strangers. jinja2 escapes every value, the page has no script, and its
content security policy lets a browser load nothing: pictures are inside, as data.
"""

import re
from pathlib import Path

from minicnn.errors import MissingExtraError, printable
from minicnn.reporting.embedding import inside

__all__ = ["WARNING", "render"]

_HERE, _compiled = Path(__file__).parent, []

WARNING = ("minicnn is a teaching and research tool, not a medical device: nothing on this page may be used to "
           "diagnose or treat anybody.")


def render(title, about, chapters, folder, statuses=(), running=""):
    """Return the page.

    Parameters
    ----------
    title, about : str; the heading, and a line below it
    chapters : list of document.Chapter
    folder : Path; what the paths of pictures are relative to
    statuses : words that are shown as a status where they are a whole cell
    running : str; ours, no stranger's; at the top of each printed page

    Raises
    ------
    ImageError : a picture that is missing or is not a PNG file
    MissingExtraError : jinja2 is not installed
    """
    try:
        from markupsafe import Markup       # which jinja2 brings
        template = _template()
    except ImportError:
        raise MissingExtraError("writing the report", "jinja2", "app") from None

    def address(path):
        data, width, height = inside(folder / path)
        return Markup(data), width, height

    style = (_HERE / "page.css").read_text("utf-8")
    if running:
        style += f'@page {{ @top-left {{ content: "{running}"; }} @top-right {{ content: "minicnn"; }} }}\n'
    return template.render(title=title, about=about, warning=WARNING, chapters=chapters, statuses=statuses,
                           inside=address, style=Markup(style))


def _template():
    """Return the page's template, compiled once."""
    from jinja2 import Environment

    if not _compiled:
        environment = Environment(autoescape=True, finalize=_as_html)
        _compiled.append(environment.from_string((_HERE / "page.html").read_text("utf-8")))
    return _compiled[0]


def _as_html(value):
    """Return a value as HTML: strangers' text escaped, and no line ends between a number and its percent sign."""
    from markupsafe import Markup, escape

    return value if isinstance(value, Markup) else Markup(re.sub(r"(?<=\d) %", "&nbsp;%", escape(printable(value))))
