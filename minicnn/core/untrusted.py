"""Files of unknown origin: CSV, JSON, archives and bytes are read within limits and checked, and problems are reported together.

The readers raise OSError and ValueError; `raising` turns these into an error of minicnn that names the file.
"""

import codecs
import csv
import io
import json
import re
import struct
import zipfile
import zlib
from contextlib import contextmanager
from itertools import chain
from types import SimpleNamespace

from minicnn.core.files import open_regular, write_atomic
from minicnn.core.text import spelling
from minicnn.errors import InputError, ManifestError, MiniCNNError, nearest, printable

__all__ = ["Problems", "raising", "open_limited", "text_lines", "csv_cells", "find_column", "read_table", "read_json",
           "parse_json", "Archive", "pack", "check_fields", "csv_text", "write_csv", "safe_cell"]

_LONGEST_LINE, _MOST_KINDS = 2**20, 200


class Problems:
    """Collect the problems of many rows or files, to raise them as one error.

    Equal problems are one problem, with their number and two examples; different ones are all told, up to 200.
    `remarks` are sentences about what was read although it could be written better: for warnings, if nothing is raised.
    `advice` follows the problems of the error.

    >>> problems = Problems("index.csv")
    >>> for line in range(3, 10):
    ...     problems.add("the label is empty.", f"line {line}")
    >>> problems.add("there is no file a.png.", "line 12")
    >>> problems.raise_any()
    Traceback (most recent call last):
    minicnn.errors.ManifestError: index.csv: 2 problems, in 8 places
      7 times, as in line 3 and line 4: the label is empty.
      line 12: there is no file a.png.
    """

    def __init__(self, where):
        self.where, self.count, self.remarks, self.advice = where, 0, [], []
        self._kinds, self._untold = {}, 0       # {kind: [how often, the first two (place, sentence)]}

    def add(self, sentence, place="", kind=None):
        """Count a problem.

        Parameters
        ----------
        sentence : str, cut after 1,000 characters, or a function that returns one
        place : str, such as "line 7"
        kind : what equal problems share, hashable; by default the sentence
        """
        self.count += 1
        if kind is None:
            kind = sentence = sentence if isinstance(sentence, str) else sentence()
        if kind not in self._kinds and len(self._kinds) == _MOST_KINDS:
            self._untold += 1
            return
        held = self._kinds.setdefault(kind, [0, []])
        held[0] += 1
        if len(held[1]) < 2:
            sentence = sentence if isinstance(sentence, str) else sentence()
            held[1].append((place, sentence if len(sentence) <= 1000 else sentence[:1000] + " ..."))

    def remark(self, sentence):
        """Keep a sentence about what was read."""
        self.remarks.append(f"{self.where}: {sentence}")

    def raise_any(self):
        """Raise a ManifestError if there is any problem."""
        if self.count:
            raise ManifestError("\n  ".join([f"{self.where}: {self._heading()}", *self._lines(), *self.advice]))

    def _heading(self):
        n, more = len(self._kinds), "more than " if self._untold else ""
        return f"{more}{n:,} problem{'s' * (n > 1)}" + (f", in {self.count:,} places" if self.count > n else "")

    def _lines(self):
        """Yield the lines that tell each kind."""
        for count, examples in self._kinds.values():
            places, sentences = zip(*examples)
            if count > 1 and all(places) and sentences[0] == sentences[-1]:
                times = "twice, in" if count == 2 else f"{count:,} times, as in"
                yield f"{times} {' and '.join(places)}: {sentences[0]}"
                continue
            yield from (f"{place}: {sentence}" if place else sentence for place, sentence in examples)
            if count > 2:
                yield f"... and {count - 2:,} more like the two above"
        if self._untold:
            yield f"... and others, in {self._untold:,} more places"


@contextmanager
def raising(error_type, path, advice=""):
    """Turn OSError and ValueError of the block into `error_type`, naming the file, the reason and the advice.

    >>> with raising(InputError, "a.json", "Write it again."):
    ...     parse_json("[NaN]")
    Traceback (most recent call last):
    minicnn.errors.InputError: a.json: cannot be read (NaN is not a number). Write it again.
    """
    try:
        yield
    except MiniCNNError:
        raise
    except (OSError, ValueError) as error:
        reason = printable(getattr(error, "strerror", None) or error)
        raise error_type(f"{printable(path)}: cannot be read ({reason}). {advice}".rstrip()) from None


def open_limited(path, most_bytes):
    """Return a regular file, opened for reading bytes; ValueError if it is larger than `most_bytes`."""
    file, size = open_regular(path)
    if size > most_bytes:
        file.close()
        raise ValueError(f"it has {size:,} bytes, the limit is {most_bytes:,}")
    return file


# ---- CSV -------------------------------------------------------------------------------------------------------------

def text_lines(file, errors="strict", problems=None):
    """Yield the lines of a binary file as text: UTF-8, or UTF-16 as spreadsheets write it, with any ends of lines.

    Parameters
    ----------
    errors : as of bytes.decode, for UTF-8; "replace" replaces NUL too
    problems : Problems that receives a sentence for each line that cannot be read, which becomes an empty one so that
        line numbers stay true; without it the first one raises ValueError
    """
    encoding = _encoding(file)
    with io.TextIOWrapper(file, encoding, "surrogateescape" if encoding == "utf-8" else "replace", newline="") as lines:
        number = 0
        while encoding is None or (line := lines.readline(_LONGEST_LINE)):
            number, text, problem, is_last = number + 1, "\n", None, False
            if encoding is None:
                problem, is_last = "this is a workbook or an archive. Save the table as CSV UTF-8.", True
            elif len(line) == _LONGEST_LINE:
                problem = f"is longer than {_LONGEST_LINE:,} bytes. Is this a CSV file? The rest was not read."
                is_last = True
            elif errors != "replace" and "\0" in line:
                problem = "holds a NUL character. Is this a CSV file?"
            elif encoding != "utf-8" and errors == "strict" and "\ufffd" in line:
                problem = f"is not {encoding.upper()} throughout. Save the file as UTF-8."
            else:
                try:
                    text = line if line.isascii() else line.encode("utf-8", "surrogateescape").decode("utf-8", errors)
                except UnicodeDecodeError as error:
                    problem = f"byte {error.start + 1} is not UTF-8. Save the file as UTF-8."
            if problem is not None:
                if problems is None:
                    raise ValueError(f"line {number}: {problem}")
                problems.add(problem, f"line {number}")
            if is_last:
                return
            yield (text.lstrip("\ufeff") if number == 1 else text).replace("\0", "\ufffd")


_MARKS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF16_LE: "utf-16",
          codecs.BOM_UTF16_BE: "utf-16", b"PK\3\4": None, b"\xd0\xcf\x11\xe0": None, b"\x1f\x8b": None}


def _encoding(file):
    """Return the encoding of a text file by its first bytes; None for a workbook or an archive."""
    start = file.read(4)
    file.seek(0)
    for mark, encoding in _MARKS.items():
        if start.startswith(mark):
            return encoding
    nul = tuple(byte == 0 for byte in start)
    return {(False, True, False, True): "utf-16-le", (True, False, True, False): "utf-16-be"}.get(nul, "utf-8")


def csv_cells(lines, wanted, **form):
    """Return a csv.reader over lines whose first row is the header.

    Cells end at what the line `sep=` of a spreadsheet names, which becomes an empty one; without it at the one of
    , ; TAB | that finds the most of the columns `wanted` in the header. `form` is as of csv.reader.
    """
    head = []
    for line in lines:
        head.append(line)
        if line.strip():
            break
    first = head[-1] if head else ""
    if given := re.fullmatch(r'"?sep=([,;\t|:])\1*"?\1*\s*', first, re.IGNORECASE):
        head[-1], delimiter = "\n", given[1]
    else:
        def found(delimiter):
            cells = next(csv.reader([first[:2**16]], delimiter=delimiter, skipinitialspace=True), [])
            names = {spelling(cell) for cell in cells[:1000] if len(cell) <= 1000}
            return sum(spelling(name) in names for name in wanted), len(cells) > 1 and delimiter == ",", len(cells)
        delimiter = max(",;\t|", key=found)
    return csv.reader(chain(head, lines), delimiter=delimiter, **form)


def find_column(header, name):
    """Return the position of a column in a header, or None; ValueError if there are two.

    A header in another case, or with other spaces, hyphens and _, is found where none is exactly `name`.

    >>> find_column(["Path", "patient id"], "patient_id")
    1
    """
    places = [i for i, cell in enumerate(header) if cell == name]
    if not places:
        wanted = spelling(name)
        places = [i for i, cell in enumerate(header) if len(cell) <= 1000 and spelling(cell) == wanted]
    if len(places) > 1:
        both = " and ".join(dict.fromkeys(repr(printable(header[i])[:80]) for i in places[:2]))
        raise ValueError(f"two columns are called {both}. Rename one")
    return places[0] if places else None


def read_table(path, needed, errors="strict", ragged=False, most_bytes=2**30, line=None):
    """Yield the rows of a CSV file with a header, each as a dict of str by column.

    Parameters
    ----------
    needed : columns that must be there; others may be
    errors : as for `text_lines`
    ragged : bool; fill rows that are too short with "" and cut rows that are too long, and accept sloppy quotes
    line : name of a column for the number of the line, optional

    Raises
    ------
    OSError, ValueError : a file that cannot be read, a missing column, a malformed row
    """
    with open_limited(path, most_bytes) as file:
        reader = csv_cells(text_lines(file, errors), needed, strict=not ragged)
        try:
            names = [cell.strip() for cell in next(filter(None, reader), ())]
            for name in needed:
                if name in names and not ragged:        # of two, the last is read
                    continue
                place = find_column(names, name)
                if place is None:
                    raise ValueError(f"there is no column {name!r}, only {', '.join(map(printable, names))[:300]}")
                names[place] = name
            for cells in filter(None, reader):
                if not ragged and len(cells) != len(names):
                    raise ValueError(f"line {reader.line_num}: expected {len(names)} cells, as in the header")
                row = dict.fromkeys(names, "") | dict(zip(names, cells))
                yield row if line is None else row | {line: reader.line_num}
        except csv.Error as error:
            raise ValueError(f"line {reader.line_num}: {error}") from None


def csv_text(rows):
    r"""Return rows, dicts of the same keys, as the text of a CSV file with a header; no cell is a formula.

    >>> csv_text([{"path": "=1+1", "n": 1}, {"path": "a\r=b", "n": 2}])
    'path,n\n./=1+1,1\n"a\r=b",2\n'
    """
    lines = []
    # With \r\n as the end of a line a cell that holds either is quoted: a lone \r begins a new row in spreadsheets.
    writer = csv.writer(SimpleNamespace(write=lines.append), lineterminator="\r\n")
    writer.writerows([list(rows[0]), *([safe_cell(cell) for cell in row.values()] for row in rows)])
    return "".join(line[:-2] + "\n" for line in lines)


def write_csv(path, rows, private=False):
    """Write rows as a CSV file, atomically (`private` as of write_atomic); bytes of a name beyond UTF-8 are kept."""
    write_atomic(path, csv_text(rows).encode("utf-8", "surrogateescape"), private)


def safe_cell(value):
    """Return a CSV cell that no spreadsheet takes for a formula: ./ is put before a leading = + - @ TAB, CR or LF.

    >>> safe_cell("=1+1"), safe_cell(0.5)
    ('./=1+1', 0.5)
    """
    is_formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    return "./" + value if is_formula else value


# ---- JSON ------------------------------------------------------------------------------------------------------------

def read_json(path, most_bytes=2**20):
    """Return the content of a JSON file; OSError or ValueError where it cannot be read."""
    with open_limited(path, most_bytes) as file:
        return parse_json(file.read())


def parse_json(text):
    """Return the content of a JSON text, str or UTF-8 bytes; ValueError for NaN, repeated names and deep nesting.

    >>> parse_json(b'{"a": [1, 2.5]}')
    {'a': [1, 2.5]}
    """
    try:
        return json.loads(text.decode("utf-8") if isinstance(text, bytes) else text, object_pairs_hook=_unique,
                          parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _unique(pairs):
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("the same name twice")
    return result


def _no_constant(word):
    raise ValueError(f"{word} is not a number")


# ---- Archives --------------------------------------------------------------------------------------------------------

class Archive:
    """A ZIP archive whose members are read in memory, within limits, and never written to a disk.

    Parameters
    ----------
    file : binary file object, or anything zipfile.ZipFile takes
    most_bytes : int; the limit of all members together, unpacked. One that says it is over a megabyte, and 200 times what it
        is packed, is refused

    Raises ValueError where it is no archive that can be read.

    >>> file = io.BytesIO()
    >>> with zipfile.ZipFile(file, "w") as archive:
    ...     archive.writestr("config.json", "{}")
    >>> Archive(file, 100).read("config.json")
    b'{}'
    """

    _MOST_MEMBERS = 2**16

    def __init__(self, file, most_bytes):
        with self._readable():
            self._archive = zipfile.ZipFile(file)
            self._members = {member.filename: member for member in self._archive.infolist()}
            if len(self._members) < len(self._archive.infolist()):
                raise ValueError("it holds two members of one name")
        if len(self._members) > self._MOST_MEMBERS:
            raise ValueError(f"it holds {len(self._members):,} members, the limit is {self._MOST_MEMBERS:,}")
        total = sum(member.file_size for member in self._members.values())
        bombs = [name for name, member in self._members.items() if member.file_size > 2**20 + 200 * member.compress_size]
        if total > most_bytes or bombs:
            what = f"its member {printable(bombs[0])[:80]!r}" if bombs else "it"
            raise ValueError(f"{what} would unpack to more than is plausible, {total:,} bytes in all")
        self.names = tuple(self._members)

    def read(self, name):
        """Return the bytes of a member; ValueError where there is none, or it is damaged, encrypted or packed in another way."""
        member = self._members.get(name)
        if member is None:
            raise ValueError(f"it holds no {printable(name)[:80]}")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.flag_bits & 1:
            raise ValueError(f"its member {printable(name)[:80]} is encrypted, or packed in a way that is not read")
        with self._readable():
            return self._archive.read(member)

    @staticmethod
    @contextmanager
    def _readable():
        try:
            yield
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OverflowError, IndexError,
                UnicodeError, struct.error) as error:
            raise ValueError(f"it is no archive that can be read: {printable(error)[:200]}") from None


def pack(members):
    """Return the bytes of a ZIP archive of {name: bytes}, not compressed; equal members give equal bytes.

    >>> Archive(io.BytesIO(pack({"a.txt": b"whole"})), 100).read("a.txt")
    b'whole'
    """
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)        # dated 1980, as no time is in it
    return file.getvalue()


def check_fields(owner, values, needed, optional=()):
    """Raise InputError unless `values` is a dict that has the needed fields, and beyond them only optional ones.

    >>> check_fields("config", {"sede": 1}, ["seed"])
    Traceback (most recent call last):
    minicnn.errors.InputError: config: unknown field 'sede'. Did you mean 'seed'?
    """
    known = [*needed, *optional]
    if not isinstance(values, dict):
        raise InputError(f"{owner}: expected a dict with the fields {', '.join(known)}, got {type(values).__name__}.")
    for name in map(str, values):
        if name not in known:
            raise InputError(f"{owner}: unknown field {printable(name)[:80]!r}.{nearest(name[:80], known)}")
    missing = [name for name in needed if name not in values]
    if missing:
        raise InputError(f"{owner}: missing field {', '.join(missing)}.")
