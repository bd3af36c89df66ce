"""From a CSV file or a folder of class folders to the columns of a manifest, or to all that is wrong with it.

What is read comes from strangers: every path is checked to lie inside the root and to be a regular file, every label to be
a plain word, and no line is longer or file larger than a sane one.
"""

import csv
import os
import re
import stat
from array import array

from minicnn.errors import InputError, ManifestError, Problems, nearest, printable
from minicnn.files import open_regular

__all__ = ["COLUMNS", "PARTS", "read_csv", "read_folder", "check_label", "class_order"]

# How a manifest calls its columns; the first two are required.
COLUMNS = ("path", "label", "patient_id", "source", "view", "split", "sex", "age")

PARTS = ("train", "validation", "test")
_ALIASES = {"train": "train", "training": "train", "validation": "validation", "val": "validation",
            "valid": "validation", "dev": "validation", "test": "test", "testing": "test"}

_EXTENSIONS = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff")
_POSITIVE = ("covid", "covid-19", "covid19", "positive", "abnormal", "1")
_LABEL = re.compile(r"[\w (.][\w .+()-]{0,63}")     # never begins like a formula
_MOST_BYTES, _LONGEST_LINE = 2**30, 2**20


def read_csv(path, root, columns, allow_outside_root, problems):
    """Read a CSV file in UTF-8 with a header.

    Parameters
    ----------
    path : str
    root : str or None; the folder that paths are relative to, by default that of the CSV
    columns : dict from a name of `COLUMNS` to the header that stands for it; None leaves an optional column unread
    allow_outside_root : bool
    problems : Problems; receives a sentence for each bad line

    Returns
    -------
    (root, table) : str; and a dict from the columns that are there to lists, one entry for each row, "" where unknown.
        Paths are absolute; a repeated row appears once, and the number of repetitions is in table["repeated"]
    """
    root = os.path.realpath(os.path.dirname(path) if root is None else root)
    try:
        file, size = open_regular(path)
    except (OSError, ValueError) as error:
        raise ManifestError(f"{printable(path)}: cannot be read ({getattr(error, 'strerror', None) or error}). Name a CSV "
                            "file, or a folder with one folder for each class.") from None
    with file:
        if size > _MOST_BYTES:
            raise ManifestError(f"{printable(path)}: has {size:,} bytes, more than the limit of {_MOST_BYTES:,}.")
        reader = csv.reader(_lines(file, problems), skipinitialspace=True)
        try:
            table, lines = _rows(reader, columns, problems)
        except csv.Error as error:
            problems.add(f"line {reader.line_num}: {error}. The rest was not read.")
            problems.raise_any()
    problems.raise_any() if not table["path"] else None
    _place_rows(table, lines, _Paths(root, allow_outside_root), problems)
    return root, table


def _lines(file, problems):
    """Yield the lines of a binary file as text; an empty one for each that cannot be read, so that numbers stay true."""
    number = 0
    while line := file.readline(_LONGEST_LINE):
        number += 1
        text = "\n"
        if number == 1 and line[:2] in (b"\xff\xfe", b"\xfe\xff"):
            problems.add("line 1: the file is UTF-16. Save it as UTF-8.")
            return
        if len(line) == _LONGEST_LINE:
            problems.add(f"line {number}: is longer than {_LONGEST_LINE:,} bytes. Is this a CSV file? "
                         "The rest was not read.")
            return
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            problems.add(f"line {number}: byte {error.start + 1} is not UTF-8. Save the file as UTF-8.")
        if "\0" in text:
            problems.add(f"line {number}: holds a NUL character. Is this a CSV file?")
            text = "\n"
        yield text


def _rows(reader, columns, problems):
    """Return ({column: cells}, the line number of each row)."""
    header = [cell.strip() for cell in next(reader, ())]
    places = _places(header, columns, problems)
    table, lines = {name: [] for name in places}, array("q")
    table.setdefault("path", [])
    if not {"path", "label"} <= places.keys():
        return table, lines
    # Few different words in many rows: each is kept once. Paths and patients mostly differ.
    kept = {}
    targets = [(table[name].append, place, name not in ("path", "patient_id")) for name, place in places.items()]
    for cells in reader:
        if len(cells) != len(header):
            if cells:
                problems.add(f"line {reader.line_num}: has {len(cells)} cells, the header has {len(header)}.")
            continue
        for append, place, repeats in targets:
            cell = cells[place].strip()
            append(kept.setdefault(cell, cell) if repeats else cell)
        lines.append(reader.line_num)
    if not lines:
        problems.add("has a header and no rows.")
    return table, lines


def _places(header, columns, problems):
    """Return {column: its place in the header}."""
    columns = {} if columns is None else dict(columns)
    for name in columns:
        if name not in COLUMNS:
            raise InputError(f"columns: unknown column {name!r}.{nearest(name, COLUMNS)} The columns are "
                             f"{', '.join(COLUMNS)}.")
    if not any(header):
        problems.add("is empty; the first line must name the columns, such as path,label,patient_id.")
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


def _place_rows(table, lines, paths, problems):
    """Replace the paths of a table by absolute ones and drop repeated rows; say which do not exist."""
    first, kept = {}, []
    for row, cell in enumerate(table["path"]):
        try:
            path = paths.find(cell)
        except ManifestError as error:
            problems.add(f"line {lines[row]}: {error}")
            continue
        other = first.setdefault(path, row)
        if other == row:
            kept.append(row)
            table["path"][row] = path
        elif table["label"][row] != table["label"][other]:
            problems.add(f"line {lines[row]}: {printable(cell)} is labelled {printable(table['label'][row])!r}, but "
                         f"{printable(table['label'][other])!r} in line {lines[other]}.")
    table["repeated"] = len(lines) - len(kept)
    table["where"] = lines
    if len(kept) < len(lines):
        table.update({name: [column[row] for row in kept] for name, column in table.items() if name in COLUMNS})
        table["where"] = array("q", (lines[row] for row in kept))


class _Paths:
    """Where files are: inside the root, and regular. One look at each folder, one at each file."""

    def __init__(self, root, allow_outside_root):
        self.root, self._anywhere, self._folders = root, allow_outside_root, {}

    def find(self, cell):
        """Return the absolute path that a cell means, or raise a ManifestError that says why not."""
        if not cell:
            raise ManifestError("the path is empty.")
        folder, name = os.path.split(os.path.join(self.root, cell))
        try:
            real = self._folders.get(folder)
            if real is None:
                real = self._folders[folder] = os.path.realpath(folder)
                self._check_inside(real, cell)
            path = os.path.join(real, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                self._check_inside(os.path.realpath(path), cell)
                mode = os.stat(path).st_mode
        except FileNotFoundError:
            raise ManifestError(f"there is no file {printable(cell)}.") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ManifestError(f"{printable(cell)[:300]} cannot be read ({reason}).") from None
        if not stat.S_ISREG(mode):
            raise ManifestError(f"{printable(cell)} is {'a folder' if stat.S_ISDIR(mode) else 'no regular file'}.")
        return path

    def _check_inside(self, real, cell):
        if not self._anywhere and os.path.commonpath([self.root, real]) != self.root:
            self._folders.pop(os.path.split(os.path.join(self.root, cell))[0], None)
            raise ManifestError(f"{printable(cell)} lies outside of {printable(self.root)}. If that is meant, allow it: "
                                "allow_outside_root=True (--allow-outside-root).")


def read_folder(root, allow_outside_root, problems):
    """Read a folder with one folder for each class; images may lie deeper inside. Returns what `read_csv` returns.

    Hidden files are passed over, folders that are links are not entered, and other files are counted in table["others"].
    """
    root = os.path.realpath(root)
    paths, table = _Paths(root, allow_outside_root), {"path": [], "label": [], "where": [], "repeated": 0, "others": 0}
    try:
        entries = sorted(os.scandir(root), key=lambda entry: entry.name)
    except OSError as error:
        raise ManifestError(f"{printable(root)}: cannot be read ({error.strerror}).") from None
    folders = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False) and not _is_hidden(entry.name)]
    if not folders or all(name.lower() in _ALIASES for name in folders):
        tables = [printable(entry.name) for entry in entries if entry.name.lower().endswith(".csv")]
        holds = f"holds {', '.join(map(printable, folders))}: parts, not classes" if folders else "holds no folder"
        raise ManifestError(f"{printable(root)}: {holds}. One folder for each class is expected, or a CSV file"
                            + (f"; did you mean {tables[0]}?" if tables else "; a CSV can have a split column."))
    for label in folders:
        before = len(table["path"])
        for folder, inner, files in os.walk(os.path.join(root, label), followlinks=False):
            inner[:] = sorted(name for name in inner if not _is_hidden(name))
            for name in sorted(files):
                _add_file(os.path.relpath(os.path.join(folder, name), root), label, table, paths, problems)
        if len(table["path"]) == before:
            problems.add(f"the class folder {printable(label)} holds no images.")
    table["others"] += sum(entry.is_file() and entry.name.lower().endswith(_EXTENSIONS) for entry in entries)
    return root, table


def _add_file(name, label, table, paths, problems):
    if _is_hidden(os.path.basename(name)):
        return
    if not name.lower().endswith(_EXTENSIONS):
        table["others"] += 1
        return
    try:
        name.encode()
        path = paths.find(name)
    except UnicodeEncodeError:
        problems.add(f"{printable(name)}: its name is not UTF-8. Rename it.")
    except ManifestError as error:
        problems.add(str(error))
    else:
        table["path"].append(path)
        table["label"].append(label)
        table["where"].append(printable(name))


def _is_hidden(name):
    return name.startswith(".") or name == "__MACOSX"


# ---- Labels and parts ------------------------------------------------------------------------------------------------

def check_label(label):
    """Return what is wrong with a label, as the end of a sentence, or None.

    >>> check_label("normal"), check_label("=1+1")
    (None, "may hold letters, digits, spaces and . + - ( ) _, at most 64, and begin with none of + -")
    """
    if not label:
        return "is empty"
    if not _LABEL.fullmatch(label):
        return "may hold letters, digits, spaces and . + - ( ) _, at most 64, and begin with none of + -"
    return None


def class_order(labels):
    """Return the classes of a set of labels in their order: negative, positive; or alphabetical where there are more.

    >>> class_order({"COVID", "normal"}), class_order({"c", "a", "b"})
    (('normal', 'COVID'), ('a', 'b', 'c'))

    Raises
    ------
    ManifestError : one label only; or two, of which it is not plain which is the positive one
    """
    labels = sorted(labels)
    if len(labels) > 2:
        return tuple(labels)
    if len(labels) == 1:
        raise ManifestError(f"there is one class only, {labels[0]!r}; two are needed. If it is one of several, name all: "
                            "classes=[...] (--classes NEGATIVE,POSITIVE).")
    positive = [label for label in labels if label.lower() in _POSITIVE]
    if len(positive) != 1:
        first, second = labels
        raise ManifestError(f"which of {first!r} and {second!r} is the positive class? Name the negative one first: "
                            f"classes=[{first!r}, {second!r}] (--classes {first},{second}).")
    return tuple(sorted(labels, key=lambda label: label == positive[0]))


def part_of(word):
    """Return the part (`PARTS`) that a cell of the split column means, or raise a ManifestError.

    >>> part_of("Val")
    'validation'
    """
    part = _ALIASES.get(word.lower())
    if part is None:
        said = f"the split {printable(word)!r} is none of" if word else "the split is empty; it must be one of"
        raise ManifestError(f"{said} {', '.join(PARTS)}.{nearest(word, PARTS) if word else ''}")
    return part
