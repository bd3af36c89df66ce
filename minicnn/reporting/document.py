"""What a report is made of, before it is HTML or Markdown: chapters of blocks.

Both files are written from the same chapters, so they say the same in the same order. All text is plain: whoever writes
it out escapes it, and what comes from strangers needs no other care here. A block says what it is, not how it looks.
"""

from dataclasses import dataclass, field

__all__ = ["Chapter", "Text", "Notice", "Bullets", "Table", "Cards", "Card", "Picture", "Command", "Heading"]


@dataclass(frozen=True)
class Chapter:
    """A part of the report under a heading of its own.

    Attributes
    ----------
    name : str; fit for the end of an address, such as "answer"
    title : str
    blocks : list
    """

    name: str
    title: str
    blocks: list


@dataclass(frozen=True)
class Text:
    """A paragraph; what stands in `lead` comes first and is stressed."""

    text: str
    lead: str = ""
    kind: str = field(default="text", init=False)


@dataclass(frozen=True)
class Notice:
    """A paragraph that must not be missed."""

    text: str
    lead: str = ""
    kind: str = field(default="notice", init=False)


@dataclass(frozen=True)
class Bullets:
    """A list of sentences; an item is a str, or a Text with a lead. `small` ones are notes to what stands above."""

    items: list
    small: bool = False
    kind: str = field(default="bullets", init=False)


@dataclass(frozen=True)
class Table:
    """A table. The first cell of a row names it.

    Attributes
    ----------
    caption : str; what is in it
    heads : list of str
    rows : list of lists of cells; a cell is a str, or a tuple of str: the figure, then what stands small below it
    figures : bool; the cells hold numbers, to be aligned to the right
    fold : str; where not empty the table is folded away under these words
    """

    caption: str
    heads: list
    rows: list
    figures: bool = True
    fold: str = ""
    kind: str = field(default="table", init=False)

    def __post_init__(self):
        assert all(len(row) == len(self.heads) for row in self.rows), self.caption


@dataclass(frozen=True)
class Card:
    """One figure to be seen from afar: whose it is, the figure, how sure it is, and what that means."""

    label: str
    value: str
    interval: str
    remark: str


@dataclass(frozen=True)
class Cards:
    """Figures side by side, to be compared."""

    caption: str
    cards: list
    kind: str = field(default="cards", init=False)


@dataclass(frozen=True)
class Picture:
    """A picture of the report's folder.

    Attributes
    ----------
    path : str, relative to the folder of the report
    caption : str; the title and a sentence on how to read it
    alt : str; what it shows, for those who do not see it
    """

    path: str
    caption: str
    alt: str
    kind: str = field(default="picture", init=False)


@dataclass(frozen=True)
class Command:
    """A line to be typed."""

    line: str
    kind: str = field(default="command", init=False)


@dataclass(frozen=True)
class Heading:
    """A heading within a chapter."""

    text: str
    kind: str = field(default="heading", init=False)
