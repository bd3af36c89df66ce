"""Chapters of a report (document.py) as one self-contained HTML file.

Names of files, classes and settings are untrusted. jinja2 and svg.py escape every value, the page has no script, and
its content security policy lets a browser load nothing: plots are drawn in the page, images are embedded as data.
"""

import base64
import io
import re
from pathlib import Path

from PIL import Image

from minicnn.data.decoding import read_bytes
from minicnn.errors import ImageError, MissingExtraError, printable
from minicnn.reporting.document import said_once
from minicnn.reporting.svg import drawn

__all__ = ["WARNING", "render", "template"]

_HERE, _compiled = Path(__file__).parent, {}
_CSS_PIXELS_PER_INCH, _DPI = 96, 160

WARNING = ("minicnn is a tool for teaching and research, not a medical device: do not use this page for diagnosis "
           "or treatment.")


def render(title, about, chapters, folder, statuses=(), running="", notice=""):
    """Return the page.

    Parameters
    ----------
    title, about : str; the heading, and the line below it
    chapters : list of document.Chapter
    folder : Path; paths of images are relative to it
    statuses : words that are shown as a status where they fill a cell
    running : str, trusted; at the top of each printed page
    notice : str; what must be read before all else, optional

    Raises
    ------
    ImageError : an image that is missing or is not a PNG file
    MissingExtraError : jinja2 is not installed
    """
    page, style = template("page.html", _escaped), (_HERE / "page.css").read_text("utf-8")
    if running:
        style += f'@page {{ @top-left {{ content: "{running}"; }} @top-right {{ content: "minicnn"; }} }}\n'
    from markupsafe import Markup       # a dependency of jinja2

    return page.render(title=title, about=about, notice=notice, warning=WARNING, chapters=said_once(chapters),
                       statuses=statuses, style=style, embedded=lambda path: _embedded(folder / path),
                       drawn=lambda drawing: Markup(drawn(drawing)))


def _embedded(path):
    """Return (address, width, height): a PNG file as a data URL, and its size in CSS pixels.

    An image has the width it was drawn with for print, at 160 dots per inch where the file does not say.
    """
    content = read_bytes(path)
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            (width, height), dpi = picture.size, picture.info.get("dpi", (_DPI,))[0]
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageError(f"{printable(path)}: expected a PNG file for the page.") from error
    scale = _CSS_PIXELS_PER_INCH / (dpi if dpi >= 30 else _DPI)
    address = "data:image/png;base64," + base64.b64encode(content).decode("ascii")
    return address, round(width * scale), round(height * scale)


def template(name, escaped, **options):
    """Return a template of this folder, compiled once; every value passes through `escaped` unless marked |safe.

    Raises
    ------
    MissingExtraError : jinja2 is not installed
    """
    try:
        from jinja2 import Environment
        from markupsafe import Markup       # a dependency of jinja2
    except ImportError:
        raise MissingExtraError("writing the report", "jinja2", "app") from None

    def finalize(value):
        return value if isinstance(value, Markup) else Markup(escaped(value))

    if name not in _compiled:
        environment = Environment(autoescape=True, finalize=finalize, **options)
        _compiled[name] = environment.from_string((_HERE / name).read_text("utf-8"))
    return _compiled[name]


def _escaped(value):
    """Return a value as HTML, with no line ends between a number and its percent sign."""
    from markupsafe import escape

    return re.sub(r"(?<=\d) %", "&nbsp;%", escape(printable(value)))
