"""Numbers, words and tables as text: one form of each, for terminals, plots and reports."""

import re
from unicodedata import normalize

from minicnn.errors import printable

__all__ = ["number", "percent", "span", "join", "shortened", "grid", "plain", "spelling"]

_DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"), "-") | {0xA0: " ", 0x202F: " "}


def number(value, form="{:,}"):
    """Return a number as text; "undefined" for None.

    >>> number(12345), number(0.5, "{:.2f}"), number(None)
    ('12,345', '0.50', 'undefined')
    """
    return "undefined" if value is None else form.format(value)


def percent(value, digits=1):
    """Return a proportion in percent.

    >>> percent(0.9945, 2), percent(None)
    ('99.45 %', 'undefined')
    """
    return number(None if value is None else 100 * value, f"{{:.{digits}f}} %")


def span(bounds, form="{:.2f}", none="-"):
    """Return the two bounds of an interval as text, or `none` where there are none.

    >>> span([0.812, 0.95]), span((None, None)), span(None)
    ('0.81 to 0.95', '-', '-')
    """
    return none if bounds is None or bounds[0] is None else f"{form.format(bounds[0])} to {form.format(bounds[1])}"


def join(words):
    """Return words as in a sentence.

    >>> join(["a"]), join(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    words = list(words)
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def shortened(text, most):
    """Return a text of unknown origin, printable and of at most so many characters.

    >>> shortened("radiograph", 6)
    'radio…'
    """
    text = printable(str(text)[:most + 1])
    return text if len(text) <= most else text[:most - 1] + "…"


def grid(rows, numbers=()):
    """Return rows of texts as lines with aligned columns; the columns in `numbers` are aligned to the right.

    >>> grid([["a", "bb"], ["ccc", "d"]])
    ['a    bb', 'ccc  d']
    """
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(text.rjust(width) if i in numbers else text.ljust(width)
                      for i, (text, width) in enumerate(zip(row, widths))).rstrip() for row in rows]


def plain(word):
    """Return a word in Unicode's composed form, with the hyphen and the space of a keyboard.

    >>> plain("COVID\u201119")
    'COVID-19'
    """
    return word if word.isascii() else normalize("NFC", word).translate(_DASHES)


def spelling(word):
    """Return what the spellings of a word share that differ only in case, Unicode form, spaces, hyphens and _ inside it.

    A hyphen at the end stays, as in `COVID-` beside `COVID+`; so does the gap between two numbers.

    >>> spelling("COVID-19") == spelling("covid 19") == spelling("Covid_19"), spelling("COVID -"), spelling("1-2")
    (True, 'covid-', '1-2')
    """
    word = normalize("NFKC", normalize("NFKC", plain(word)).casefold()).translate(_DASHES)
    word = re.sub(r"(?<=\d)[\s_-]+(?=\d)", "-", word)
    return re.sub(r"(?<=[^\W_])[\s_-]+(?=[^\W\d_])|(?<=[^\W\d_])[\s_-]+(?=[^\W_])|[\s_]+", "", word)
