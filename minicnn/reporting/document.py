"""The content of a report, independent of HTML and Markdown: chapters of blocks.

Both files are written from the same chapters, so they have the same content in the same order. All text is plain: the
writers escape it. A block says what it is, not how it looks.
"""

from dataclasses import dataclass

__all__ = ["Chapter", "Text", "Notice", "Bullets", "Table", "Cards", "Card", "Image", "Command", "Heading"]


@dataclass(frozen=True)
class Chapter:
    """A chapter of the report.

    Attributes
    ----------
    name : str; the anchor of the chapter in the page, such as "answer"
    title : str
    blocks : list
    """

    name: str
    title: str
    blocks: list


@dataclass(frozen=True)
class Text:
    """A paragraph; `lead` comes first and is set in bold."""

    text: str
    lead: str = ""
    kind = "text"


@dataclass(frozen=True)
class Notice:
    """A paragraph that is set off as a warning."""

    text: str
    lead: str = ""
    kind = "notice"


@dataclass(frozen=True)
class Bullets:
    """A list of sentences; an item is a str, or a Text with a lead. `small`: notes to the block above."""

    items: list
    small: bool = False
    kind = "bullets"


@dataclass(frozen=True)
class Table:
    """A table. The first cell of a row names it.

    Attributes
    ----------
    caption : str
    heads : list of str
    rows : list of lists of cells; a cell is a str, or a tuple of str: the value, then small lines below it
    numeric : bool; the cells hold numbers and are aligned to the right
    fold : str; where not empty, the table is collapsed under this heading
    """

    caption: str
    heads: list
    rows: list
    numeric: bool = True
    fold: str = ""
    kind = "table"

    def __post_init__(self):
        assert all(len(row) == len(self.heads) for row in self.rows), self.caption


@dataclass(frozen=True)
class Card:
    """One value in large type: its label, the value, its interval and a remark."""

    label: str
    value: str
    interval: str
    remark: str


@dataclass(frozen=True)
class Cards:
    """Values side by side, for comparison."""

    caption: str
    cards: list
    kind = "cards"


@dataclass(frozen=True)
class Image:
    """A PNG file in the folder of the report.

    Attributes
    ----------
    path : str, relative to the folder of the report
    caption : str; the title, and how to read it
    alt : str; a description for those who cannot see the image
    """

    path: str
    caption: str
    alt: str
    kind = "image"


@dataclass(frozen=True)
class Command:
    """A command line."""

    line: str
    kind = "command"


@dataclass(frozen=True)
class Heading:
    """A heading within a chapter."""

    text: str
    kind = "heading"
