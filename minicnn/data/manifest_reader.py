"""Read a manifest from a CSV file into columns, with all problems reported together (folders: folder_reader.py).

The files are untrusted: every path must be a regular file inside the root, and the size of a file, of a line and of the
table is limited.
"""

import csv
import os
from array import array
from collections.abc import Callable
from dataclasses import dataclass

from minicnn.core.text import join, shortened, spelling
from minicnn.core.untrusted import csv_cells, find_column, open_limited, raising, text_lines
from minicnn.data.labels import known, split_number
from minicnn.data.paths import Paths
from minicnn.errors import InputError, ManifestError, nearest, printable

__all__ = ["ATTRIBUTES", "COLUMNS", "Table", "read_csv", "without_unknown"]

# The optional columns of a manifest, by the attribute of Manifest that holds each.
ATTRIBUTES = {"patients": "patient_id", "sources": "source", "views": "view", "modalities": "modality",
              "splits": "split", "sexes": "sex", "ages": "age", "studies": "study", "manufacturers": "manufacturer",
              "detectors": "detector", "photometric_interpretations": "photometric_interpretation",
              "lossy_compressions": "lossy_compression", "burned_in_annotations": "burned_in_annotation"}
COLUMNS = ("path", "label", *ATTRIBUTES.values())

_MOST_BYTES, _MOST_ROWS, _MOST_COLUMNS = 2**30, 5_000_000, 1000


@dataclass
class Table:
    """What was read: columns of equal length, and the origin of each row.

    Attributes
    ----------
    root : str; the folder that paths belong to
    columns : dict from a name of `COLUMNS` to a list of str, "" where unknown; paths are absolute
    where : function from the number of a row to its place, such as "line 7"
    repeated : int; rows that were dropped because they repeat an earlier one
    others : int; files that were skipped because of their extension
    kinds, left_out : str; what those files are, and which images were left out of a folder, or ""
    """

    root: str
    columns: dict
    where: Callable
    repeated: int = 0
    others: int = 0
    kinds: str = ""
    left_out: str = ""


# ---- A CSV file ------------------------------------------------------------------------------------------------------

def read_csv(path, root, columns, allow_outside_root, problems, names):
    """Read a CSV file with a header.

    Parameters
    ----------
    path : str
    root : str or None; the folder that paths are relative to, by default that of the CSV
    columns : dict from a name of `COLUMNS` to the CSV's name of it; None leaves an optional column unread
    allow_outside_root : bool
    problems : Problems; receives a sentence for each bad line
    names : LabelNames; what the labels of the file are called here
    """
    if root is not None and not os.path.isdir(root):
        raise InputError(f"root: expected the folder that the paths are relative to, got {printable(root)!r}.")
    root = os.path.realpath(os.path.dirname(path) if root is None else root)
    columns, table, lines, there = _check_columns(columns), {}, array("q"), ""
    if not os.path.lexists(path):
        folder, name = os.path.split(path)
        other = Paths(os.path.realpath(folder), True).respelled_as(name)
        there = f"There is {printable(os.path.join(folder, other))}. " if other else ""
    with raising(ManifestError, path, f"{there}Name a CSV file, or a folder with one folder for each class."):
        file = open_limited(path, _MOST_BYTES)
    with file:
        wanted = [columns.get(name, name) for name in ("path", "label")]
        reader = csv_cells(text_lines(file, problems=problems), wanted, skipinitialspace=True)
        try:
            _read_rows(reader, columns, table, lines, problems)
        except csv.Error as error:
            problems.add(f"line {reader.line_num}: {error}. The rest was not read.")
    if not lines:
        problems.raise_any()
        raise ManifestError(f"{printable(path)}: has a header and no rows.")
    table |= without_unknown(table, problems)
    table["label"] = names.renamed(table["label"])
    return _place_rows(table, lines, Paths(root, allow_outside_root), problems)


def _check_columns(columns):
    columns = {} if columns is None else dict(columns)
    for name in columns:
        if name not in COLUMNS:
            raise InputError(f"columns: unknown column {name!r}.{nearest(name, COLUMNS)} The columns are "
                             f"{', '.join(COLUMNS)}.")
    return columns


def _read_rows(reader, columns, table, lines, problems):
    """Fill `table`, {column: cells}, and `lines`, the line number of each row."""
    header = [cell.strip() for cell in next(filter(None, reader), ())]
    places, headers = _places(header, columns, problems), 0
    if not {"path", "label"} <= places.keys():
        return
    table.update({name: [] for name in places})
    # Most columns hold few different words: each is kept once. Paths and patients mostly differ.
    kept = {}
    targets = [(table[name].append, place, name not in ("path", "patient_id")) for name, place in places.items()]
    for cells in reader:
        if len(cells) != len(header):
            if cells:
                more = " A cell that holds a comma needs quotes around it." if len(cells) > len(header) else ""
                problems.add(f"has {len(cells)} cells, the header has {len(header)}.{more}", f"line {reader.line_num}")
            continue
        if cells[places["path"]].strip() in ("", header[places["path"]]):       # a line without words, or a header
            words = [cell.strip() for cell in cells]
            if not any(words) or words == header:
                headers += any(words)
                continue
        if len(lines) == _MOST_ROWS:
            problems.add(f"line {reader.line_num}: there are more than {_MOST_ROWS:,} rows. Divide the collection. "
                         "The rest was not read.")
            return
        for append, place, repeats in targets:
            cell = cells[place].strip()
            append(kept.setdefault(cell, cell) if repeats else cell)
        lines.append(reader.line_num)
    if headers:
        problems.remark(f"{headers:,} more lines repeat the header and were skipped.")


def _places(header, columns, problems):
    """Return {column: its position in the header}."""
    if not any(header):
        problems.add("is empty; the first line must name the columns, such as path,label,patient_id.")
        return {}
    if len(header) > _MOST_COLUMNS:
        problems.add(f"line 1: names {len(header):,} columns, the limit is {_MOST_COLUMNS:,}. Is this a manifest?")
        return {}
    places = {}
    for name in COLUMNS:
        wanted = columns.get(name, name)
        try:
            place = None if wanted is None else find_column(header, wanted)
        except ValueError as error:
            problems.add(f"line 1: {error}.")
            continue
        if place is not None:
            places[name] = place
            if header[place] != wanted:
                problems.remark(f"the column {printable(header[place])!r} was read as {wanted!r}.")
        elif name in ("path", "label") or columns.get(name) is not None:
            found = ", ".join(printable(cell) for cell in header)
            hint = nearest(wanted, [printable(cell) for cell in header])
            problems.add(f"line 1: there is no column {wanted!r}, only {found}.{hint} A column of another name is given "
                         f"by columns={{{name!r}: ...}} (--columns {name}=...).")
    return places


def without_unknown(columns, problems):
    """Return the columns of attributes, by either name, with "" for words that mean unknown; a remark counts these."""
    told, result = [], {}
    for ours, theirs in ATTRIBUTES.items():
        for name in {ours, theirs} & columns.keys() - {"split", "splits"}:
            result[name], words = known(columns[name])
            if words:
                which = ", ".join(repr(shortened(word, 20)) for word, _ in words.most_common(4))
                told.append(f"{words.total():,} of {theirs} ({which}{', ...' if len(words) > 4 else ''})")
    if told:
        problems.remark(f"cells that mean unknown are read as empty: {join(told)}.")
    return result


# What two rows of one file must agree on, where both know it: the words for it, and what the spellings share.
_ONCE = {"label": ("is labelled", spelling), "patient_id": ("is of patient", str),
         "split": ("is in the split", split_number)}


def _place_rows(columns, lines, paths, problems):
    """Return the Table with absolute paths and each file once; report paths that cannot be used."""
    first, kept = {}, []
    cells, once = columns["path"], [name for name in _ONCE if name in columns]
    for row, cell in enumerate(cells):
        try:
            path = paths.find(cell)
        except ManifestError as error:
            said = str(error)
            problems.add(lambda: said + paths.hint(cell), f"line {lines[row]}", said.replace(printable(cell), ""))
            continue
        other = first.setdefault(path, row)
        if other == row:
            kept.append(row)
            cells[row] = path
            continue
        for name in once:
            said, before = columns[name][row], columns[name][other]
            verb, meaning = _ONCE[name]
            if (said and before or name == "label") and meaning(said[:200]) != meaning(before[:200]):
                problems.add(f"{printable(cell)} {verb} {printable(said)!r}, but {printable(before)!r} in line "
                             f"{lines[other]}.", f"line {lines[row]}", (name, verb))
        for column in columns.values():
            column[other] = column[other] or column[row]
    repeated = len(lines) - len(kept)
    if repeated:
        columns = {name: [column[row] for row in kept] for name, column in columns.items()}
        lines = array("q", (lines[row] for row in kept))
    if paths.respelled:
        problems.remark(paths.remark())
    return Table(paths.root, columns, lambda row: f"line {lines[row]}", repeated)
