"""The pictures of a report: which there are, and as data inside a page that may load nothing."""

import base64
import io

from PIL import Image

from minicnn.data.decoding import read_bytes
from minicnn.errors import ImageError, printable
from minicnn.reporting.document import Picture, Text

__all__ = ["drawn", "inside"]

_CSS_PIXELS_PER_INCH, _DPI = 96, 160


def drawn(results, key, caption, alt):
    """Return the Picture of a key of results["figures"]; where it was not drawn, a Text that says so."""
    path = results["figures"].get(key)
    if path is None:
        return Text(f"Not drawn: {caption}")
    return Picture(path, caption, alt)


def inside(path):
    """Return (address, width, height): a PNG file as the address of an image, and its size in CSS pixels.

    A picture is as wide as it was drawn for print: 160 dots are an inch where the file does not say.

    Raises
    ------
    ImageError : the file cannot be read, or is not a PNG file
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
