"""The content of a report, independent of HTML and Markdown: chapters of blocks.

Both files are written from the same chapters, so they have the same content in the same order. All text is plain: the
writers escape it. A block says what it is, not how it looks.
"""

from dataclasses import dataclass

__all__ = ["Chapter", "Text", "Notice", "Bullets", "Table", "Cards", "Card", "Image", "Command", "Heading", "Fold",
           "Plot", "Series", "Forest", "Estimate", "Matrix", "Tiles", "Tile", "said_once"]


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
    """

    caption: str
    heads: list
    rows: list
    numeric: bool = True
    kind = "table"

    def __post_init__(self):
        assert all(len(row) == len(self.heads) for row in self.rows), self.caption

    @property
    def is_wide(self):
        """Whether a table of numbers is wider than a phone: more letters stand side by side than fit there."""
        widths = [max([len(word) for word in self.heads[k].split()]
                      + [len(line) for row in self.rows for line in ([row[k]] if isinstance(row[k], str) else row[k])])
                  for k in range(1, len(self.heads))]
        return self.numeric and sum(max(width, 4) + 2 for width in widths) > 33


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
    """A plot: a PNG file in the folder of the report, and where known what the page draws in its place.

    Attributes
    ----------
    path : str, relative to the folder of the report
    caption : str; the title, and how to read it
    alt : str; a description for those who cannot see the image
    drawing : list of Plot, Matrix, Tiles or Forest; None: the file is shown
    """

    path: str
    caption: str
    alt: str
    drawing: object = None
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


@dataclass(frozen=True)
class Fold:
    """Details: blocks that are collapsed under a line on screen, and open on paper."""

    title: str
    blocks: list
    kind = "fold"


# ---- What the page draws itself --------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Series:
    """A line of a Plot.

    Attributes
    ----------
    name : str; in the key; "" for none. Series of one name are one entry
    points : list of (x, y); a y that is None or not finite leaves a gap
    tone : int; the number of its colour, dashes and marker
    style : "line", "thin", or "marks": markers on a faint line
    intervals : list of (x, low, high)
    """

    name: str
    points: list
    tone: int = 0
    style: str = "line"
    intervals: tuple = ()


@dataclass(frozen=True)
class Plot:
    """One panel: lines over two axes.

    Attributes
    ----------
    title, x, y : str; of the panel and of its axes
    series : list of Series
    xlim, ylim : (low, high)
    note : str; below the title
    percent : bool; the y axis is labelled in percent
    diagonal : bool; a thin line from the lower left to the upper right
    counts : list of (low, high, n); bars below the x axis
    """

    title: str
    x: str
    y: str
    series: list
    xlim: tuple = (0, 1)
    ylim: tuple = (0, 1)
    note: str = ""
    percent: bool = False
    diagonal: bool = False
    counts: tuple = ()


@dataclass(frozen=True)
class Estimate:
    """A value in a Forest: `text` stands beside it; without a value it says why. `hollow`: reported elsewhere."""

    text: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    seeds: tuple = ()
    hollow: bool = False


@dataclass(frozen=True)
class Forest:
    """Values with their intervals, a row for each measurement and a column for each metric.

    Attributes
    ----------
    heads : list of str; the metrics
    rows : list of (group, name, note, [Estimate of each metric]); consecutive rows of one group stand below its name
    low : float; the lower end of the scale, which ends at 1
    percent : list of bool, for each metric: its scale is labelled in percent
    """

    heads: list
    rows: list
    low: float
    percent: list


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix: `rows` are the counts of each true class by predicted class."""

    title: str
    classes: list
    rows: list
    note: str = ""


@dataclass(frozen=True)
class Tile:
    """Something small with a line above and lines below.

    Attributes
    ----------
    pictures : PNG files as bytes, side by side
    title, lines : str, and sequence of str
    framed : bool; the last picture has a dashed border at an eighth of its width
    marked : bool; set off as an error
    numbers : rows of (text, bool): cells of a matrix, and which of them are filled
    frame : (left, top, width, height) of a rectangle in the picture, in percent of it
    """

    pictures: tuple = ()
    title: str = ""
    lines: tuple = ()
    framed: bool = False
    marked: bool = False
    numbers: tuple = ()
    frame: tuple = ()


@dataclass(frozen=True)
class Tiles:
    """A row of Tile under a title, which goes on in the next line where the page is narrow, and a note below it."""

    title: str
    tiles: list
    note: str = ""


def said_once(chapters):
    """Return the chapters without the small notes that an earlier block has said.

    What stands in a Fold is not yet said to those who do not open it.

    >>> notes = [Bullets(["a: no interval.", "~ approximate"], small=True), Bullets(["~ approximate"], small=True)]
    >>> [block.items for block in said_once([Chapter("x", "X", [*notes, Text("y")])])[0].blocks[:-1]]
    [['a: no interval.', '~ approximate']]
    """
    seen, folded = set(), set()

    def kept(blocks, said):
        found = []
        for block in blocks:
            if block.kind == "fold":
                block = Fold(block.title, kept(block.blocks, folded))
            elif block.kind == "bullets" and block.small:
                items = [item for item in block.items if item not in said | seen]
                said.update(items)
                if not items:
                    continue
                block = Bullets(items, small=True)
            found.append(block)
        return found

    return [Chapter(one.name, one.title, kept(one.blocks, seen)) for one in chapters]
