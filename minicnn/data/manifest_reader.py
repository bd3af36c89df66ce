"""Read a manifest, from a CSV file or a folder of class folders, into columns, with all problems reported together.

The files are untrusted: every path must be a regular file inside the root, and the size of a file, of a line and of the
table is limited.
"""

import csv
import os
import re
import stat
from array import array
from collections.abc import Callable
from dataclasses import dataclass

from minicnn.core.untrusted import open_limited, raising, text_lines
from minicnn.data.labels import is_split
from minicnn.errors import InputError, ManifestError, nearest, printable

__all__ = ["ATTRIBUTES", "COLUMNS", "EXTENSIONS", "Table", "read_csv", "read_folder"]

# The optional columns of a manifest, by the attribute of Manifest that holds each.
ATTRIBUTES = {"patients": "patient_id", "sources": "source", "views": "view", "modalities": "modality",
              "splits": "split", "sexes": "sex", "ages": "age"}
COLUMNS = ("path", "label", *ATTRIBUTES.values())

EXTENSIONS = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff")
_MOST_BYTES, _MOST_ROWS, _MOST_COLUMNS = 2**30, 5_000_000, 1000
_ALLOW = "To allow it: allow_outside_root=True (--allow-outside-root)."


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
    """

    root: str
    columns: dict
    where: Callable
    repeated: int = 0
    others: int = 0


# ---- A CSV file ------------------------------------------------------------------------------------------------------

def read_csv(path, root, columns, allow_outside_root, problems):
    """Read a CSV file in UTF-8 with a header.

    Parameters
    ----------
    path : str
    root : str or None; the folder that paths are relative to, by default that of the CSV
    columns : dict from a name of `COLUMNS` to the CSV's name of it; None leaves an optional column unread
    allow_outside_root : bool
    problems : Problems; receives a sentence for each bad line
    """
    root = os.path.realpath(os.path.dirname(path) if root is None else root)
    table, lines = {}, array("q")
    with raising(ManifestError, path, "Name a CSV file, or a folder with one folder for each class."):
        file = open_limited(path, _MOST_BYTES)
    with file:
        reader = csv.reader(text_lines(file, problems=problems), skipinitialspace=True)
        try:
            _read_rows(reader, columns, table, lines, problems)
        except csv.Error as error:
            problems.add(f"line {reader.line_num}: {error}. The rest was not read.")
    if not lines:
        problems.raise_any()
        raise ManifestError(f"{printable(path)}: has a header and no rows.")
    return _place_rows(table, lines, _Paths(root, allow_outside_root), problems)


def _read_rows(reader, columns, table, lines, problems):
    """Fill `table`, {column: cells}, and `lines`, the line number of each row."""
    header = [cell.strip() for cell in next(reader, ())]
    places = _places(header, columns, problems)
    if not {"path", "label"} <= places.keys():
        return
    table.update({name: [] for name in places})
    # Most columns hold few different words: each is kept once. Paths and patients mostly differ.
    kept = {}
    targets = [(table[name].append, place, name not in ("path", "patient_id")) for name, place in places.items()]
    for cells in reader:
        if len(cells) != len(header):
            if cells:
                problems.add(f"line {reader.line_num}: has {len(cells)} cells, the header has {len(header)}.")
            continue
        if len(lines) == _MOST_ROWS:
            problems.add(f"line {reader.line_num}: there are more than {_MOST_ROWS:,} rows. Divide the collection. "
                         "The rest was not read.")
            return
        for append, place, repeats in targets:
            cell = cells[place].strip()
            append(kept.setdefault(cell, cell) if repeats else cell)
        lines.append(reader.line_num)


def _places(header, columns, problems):
    """Return {column: its position in the header}."""
    columns = {} if columns is None else dict(columns)
    for name in columns:
        if name not in COLUMNS:
            raise InputError(f"columns: unknown column {name!r}.{nearest(name, COLUMNS)} The columns are "
                             f"{', '.join(COLUMNS)}.")
    if not any(header):
        problems.add("is empty; the first line must name the columns, such as path,label,patient_id.")
        return {}
    if len(header) > _MOST_COLUMNS:
        problems.add(f"line 1: names {len(header):,} columns, the limit is {_MOST_COLUMNS:,}. Is this a manifest?")
        return {}
    places = {}
    for name in COLUMNS:
        wanted = columns.get(name, name)
        if wanted in header:
            places[name] = header.index(wanted)
            if header.count(wanted) > 1:
                problems.add(f"line 1: two columns are called {printable(wanted)!r}.")
        elif name in ("path", "label") or columns.get(name) is not None:
            found = ", ".join(printable(cell) for cell in header)
            hint = nearest(wanted, [printable(cell) for cell in header])
            if len(header) == 1 and re.search("[;\t]", header[0]):
                hint = " Save the file with commas between the cells."
            problems.add(f"line 1: there is no column {wanted!r}, only {found}.{hint} A column of another name is given by "
                         f"columns={{{name!r}: ...}} (--columns {name}=...).")
    return places


def _place_rows(columns, lines, paths, problems):
    """Return the Table with absolute paths and without repeated rows; report paths that cannot be used."""
    first, kept = {}, []
    cells, labels = columns["path"], columns["label"]
    for row, cell in enumerate(cells):
        try:
            path = paths.find(cell)
        except ManifestError as error:
            problems.add(f"line {lines[row]}: {error}")
            continue
        other = first.setdefault(path, row)
        if other == row:
            kept.append(row)
            cells[row] = path
        elif labels[row] != labels[other]:
            problems.add(f"line {lines[row]}: {printable(cell)} is labelled {printable(labels[row])!r}, but "
                         f"{printable(labels[other])!r} in line {lines[other]}.")
    repeated = len(lines) - len(kept)
    if repeated:
        columns = {name: [column[row] for row in kept] for name, column in columns.items()}
        lines = array("q", (lines[row] for row in kept))
    return Table(paths.root, columns, lambda row: f"line {lines[row]}", repeated)


class _Paths:
    """Check that files are regular and inside the root, with one system call for each folder and each file."""

    def __init__(self, root, allow_outside_root):
        self.root, self._anywhere, self._folders = root, allow_outside_root, {}

    def find(self, cell):
        """Return the absolute path of a cell, or raise a ManifestError with the reason."""
        name = cell.rpartition("/")[2]
        folder = cell[:len(cell) - len(name)]
        try:
            if folder not in self._folders:
                real = os.path.realpath(os.path.join(self.root, folder))
                inside = self._is_inside(real)
                if inside:      # what is outside is not to be named
                    os.path.relpath(real, self.root).encode()
                self._folders[folder] = os.path.join(real, ""), inside
            real, inside = self._folders[folder]
            name.encode()
            path = real + name
            mode = os.lstat(path).st_mode if inside else 0
            if stat.S_ISLNK(mode):
                inside = self._is_inside(os.path.realpath(path))
                mode = os.stat(path).st_mode if inside else 0
        except FileNotFoundError:
            raise ManifestError(f"there is no file {printable(cell)}.") from None
        except UnicodeEncodeError:      # it could not be written into split.csv
            raise ManifestError(f"{printable(cell)}: its name is not UTF-8. Rename it.") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ManifestError(f"{printable(cell)[:300]} cannot be read ({reason}).") from None
        if not inside:
            raise ManifestError(f"{printable(cell)} lies outside of {printable(self.root)}. {_ALLOW}")
        if not stat.S_ISREG(mode):
            raise ManifestError(f"{printable(cell)} is no regular file." if cell else "the path is empty.")
        return path

    def _is_inside(self, real):
        return self._anywhere or os.path.commonpath([self.root, real]) == self.root


# ---- A folder of class folders ---------------------------------------------------------------------------------------

def read_folder(root, allow_outside_root, problems):
    """Read a folder with one folder for each class; images may lie deeper inside.

    Hidden files are skipped; files without the extension of an image are skipped and counted. Links to folders are
    followed only as class folders, and only with `allow_outside_root`.
    """
    root = os.path.realpath(root)
    with raising(ManifestError, root):
        entries = sorted(os.scandir(root), key=lambda entry: entry.name)
    table = Table(root, {"path": [], "label": []}, lambda row: printable(names[row]))
    paths, names = _Paths(root, allow_outside_root), []

    def report(error):
        problems.add(f"{printable(error.filename)}: cannot be read ({error.strerror}).")

    for label in _class_folders(root, entries, problems, allow_outside_root):
        before = len(names)
        for folder, inner, files in os.walk(os.path.join(root, label), onerror=report):
            inner[:] = sorted(name for name in inner if not _is_hidden(name))
            for name in sorted(name for name in files if not _is_hidden(name)):
                if not name.lower().endswith(EXTENSIONS):
                    table.others += 1
                    continue
                name = os.path.relpath(os.path.join(folder, name), root)
                try:
                    table.columns["path"].append(paths.find(name))
                except ManifestError as error:
                    problems.add(str(error))
                    continue
                names.append(name)
                table.columns["label"].append(label)
        if len(names) == before:
            problems.add(f"the class folder {printable(label)} holds no images.")
    return table


def _class_folders(root, entries, problems, allow_links):
    """Return the names of the class folders, or raise a ManifestError that says what is there instead."""
    folders = []
    for entry in entries:
        if entry.is_dir() and not _is_hidden(entry.name):
            if entry.is_symlink() and not allow_links:
                problems.add(f"the class folder {printable(entry.name)} is a link, which may lead outside. {_ALLOW}")
            else:
                folders.append(entry.name)
    if not folders:
        problems.raise_any()
    if not folders or all(is_split(name) for name in folders):
        tables = [printable(entry.name) for entry in entries if entry.name.lower().endswith(".csv")]
        holds = f"holds {', '.join(map(printable, folders))}: splits, not classes" if folders else "holds no folder"
        raise ManifestError(f"{printable(root)}: {holds}. Expected one folder for each class, or a CSV file"
                            + (f"; did you mean {tables[0]}?" if tables else ", which may have a split column."))
    return folders


def _is_hidden(name):
    return name.startswith(".") or name == "__MACOSX"
