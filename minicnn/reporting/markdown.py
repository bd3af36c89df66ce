"""The Markdown twin of the report: the same chapters, tables as pipes, pictures as links to files beside it.

Text is plain, so every character that Markdown or HTML would read as more than itself is escaped.
"""

import re

from minicnn.errors import printable

__all__ = ["markdown", "escaped"]

_MARKS = re.compile(r"[\\`*_\[\]<>#|~$&{}!@]")
_FIRST = re.compile(r"^(\s*)([-+=:]|\d+[.)](?=\s|$))")
_STOPS = str.maketrans({"<": "&lt;", ">": "&gt;", "&": "&amp;", "@": "&#64;", "$": "&#36;"})


def markdown(title, warning, about, chapters):
    """Return the chapters as Markdown.

    Parameters
    ----------
    title, warning, about : str; the heading of the whole, what must be read first, and a line below the title
    chapters : list of blocks.Chapter
    """
    parts = [f"# {escaped(title)}", escaped(about), f"> {escaped(warning)}"]
    for chapter in chapters:
        parts.append(f"## {escaped(chapter.title)}")
        parts += [text for block in chapter.blocks for text in _WRITERS[block.kind](block)]
    return "\n\n".join(parts) + "\n"


def escaped(text):
    r"""Return plain text so that Markdown shows it as it is.

    >>> print(escaped("a_b <script> 90 %~ x|y"))
    a\_b &lt;script&gt; 90 %\~ x\|y
    >>> print(escaped("1. no list"), escaped("- nor this"))
    1\. no list \- nor this
    """
    text = _MARKS.sub(lambda mark: mark[0].translate(_STOPS) if mark[0] in "<>&@$" else "\\" + mark[0], printable(text))
    return _FIRST.sub(lambda start: start[1] + start[2][:-1] + "\\" + start[2][-1], text)


def _lead(block):
    return f"**{escaped(block.lead)}** " if block.lead else ""


def _text(block):
    return [(_lead(block) + escaped(block.text)).strip()]


def _notice(block):
    return [f"> {_lead(block)}{escaped(block.text)}"]


def _bullets(block):
    return ["\n".join(f"- {escaped(item) if isinstance(item, str) else _text(item)[0]}" for item in block.items)]


def _table(block):
    heading = ([escaped(block.fold)] if block.fold else []) + [f"**{escaped(block.caption)}**"]
    marks = ["---", *(["---:" if block.figures else "---"] * (len(block.heads) - 1))]
    rows = [_row(map(escaped, block.heads)), _row(marks)] + [_row(map(_cell, row)) for row in block.rows]
    return [*heading, "\n".join(rows)]


def _cards(block):
    rows = [_row(map(escaped, (card.label, card.value, card.interval, card.remark))) for card in block.cards]
    return [f"**{escaped(block.caption)}**", "\n".join([_row(["", "figure", "interval", "remark"]),
                                                        _row(["---", "---:", "---:", "---"]), *rows])]


def _row(cells):
    return "| " + " | ".join(cells) + " |"


def _cell(cell):
    return escaped(cell) if isinstance(cell, str) else "<br>".join(map(escaped, cell))


def _picture(block):
    path = "".join(c if c.isalnum() or c in "-_./" else "".join(f"%{byte:02X}" for byte in c.encode("utf-8", "replace"))
                   for c in block.path)
    return [f"![{escaped(block.alt)}]({path})", escaped(block.caption)]


def _command(block):
    # Indented, and one line: no fence that a name could close.
    return [f"    {printable(block.line)}"]


def _heading(block):
    return [f"### {escaped(block.text)}"]


_WRITERS = {"text": _text, "notice": _notice, "bullets": _bullets, "table": _table, "cards": _cards,
            "picture": _picture, "command": _command, "heading": _heading}
