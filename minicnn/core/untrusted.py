"""Files of unknown origin: CSV, JSON and bytes are read within limits and checked, and problems are reported together.

The readers raise OSError and ValueError; `raising` turns these into an error of minicnn that names the file.
"""

import csv
import json
from contextlib import contextmanager
from types import SimpleNamespace

from minicnn.core.files import open_regular, write_atomic
from minicnn.errors import InputError, ManifestError, MiniCNNError, nearest, printable

__all__ = ["Problems", "raising", "open_limited", "text_lines", "read_table", "read_json", "parse_json", "check_fields",
           "csv_text", "write_csv", "safe_cell"]

_LONGEST_LINE = 2**20


class Problems:
    """Collect the problems of many rows or files, to raise them as one error: the first 20 sentences, and their number.

    >>> problems = Problems("index.csv")
    >>> problems.add("line 3: the label is empty.")
    >>> problems.raise_any()
    Traceback (most recent call last):
    minicnn.errors.ManifestError: index.csv: 1 problem
      line 3: the label is empty.
    """

    def __init__(self, where):
        self.where, self.count, self.first = where, 0, []

    def add(self, sentence):
        """Count a problem; `sentence` is a str, cut after 1,000 characters, or a function that returns one."""
        self.count += 1
        if len(self.first) < 20:
            sentence = sentence if isinstance(sentence, str) else sentence()
            self.first.append(sentence if len(sentence) <= 1000 else sentence[:1000] + " ...")

    def raise_any(self):
        """Raise a ManifestError if there is any problem."""
        if self.count:
            more = [f"... and {self.count - len(self.first):,} more"] if self.count > len(self.first) else []
            heading = f"{self.where}: {self.count:,} problem{'s' if self.count > 1 else ''}"
            raise ManifestError("\n  ".join([heading, *self.first, *more]))


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
    """Yield the lines of a binary file as text, decoded from UTF-8 with or without a byte order mark.

    Parameters
    ----------
    errors : as of bytes.decode; "replace" replaces NUL too
    problems : Problems that receives a sentence for each line that cannot be read, which becomes an empty one so that
        line numbers stay true; without it the first one raises ValueError
    """
    number = 0
    while line := file.readline(_LONGEST_LINE):
        number += 1
        text, problem, is_last = "\n", None, False
        if number == 1 and line[:2] in (b"\xff\xfe", b"\xfe\xff"):
            problem, is_last = "the file is UTF-16. Save it as UTF-8.", True
        elif len(line) == _LONGEST_LINE:
            problem = f"is longer than {_LONGEST_LINE:,} bytes. Is this a CSV file? The rest was not read."
            is_last = True
        elif errors != "replace" and b"\0" in line:
            problem = "holds a NUL character. Is this a CSV file?"
        else:
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8", errors).replace("\0", "\ufffd")
            except UnicodeDecodeError as error:
                problem = f"byte {error.start + 1} is not UTF-8. Save the file as UTF-8."
        if problem is not None:
            if problems is None:
                raise ValueError(f"line {number}: {problem}")
            problems.add(f"line {number}: {problem}")
        if is_last:
            return
        yield text


def read_table(path, needed, errors="strict", ragged=False, most_bytes=2**30):
    """Yield the rows of a CSV file with a header, each as a dict of str by column.

    Parameters
    ----------
    needed : columns that must be there; others may be
    errors : as for `text_lines`
    ragged : bool; fill rows that are too short with "" and cut rows that are too long, and accept sloppy quotes

    Raises
    ------
    OSError, ValueError : a file that cannot be read, a missing column, a malformed row
    """
    with open_limited(path, most_bytes) as file:
        reader = csv.DictReader(text_lines(file, errors), restval="" if ragged else None, strict=not ragged)
        try:
            names = reader.fieldnames or ()
            for name in needed:
                if name not in names:
                    raise ValueError(f"there is no column {name!r}, only {', '.join(map(printable, names))[:300]}")
            for row in reader:
                more = row.pop(None, None)
                if not ragged and (more or None in row.values()):
                    raise ValueError(f"line {reader.line_num}: expected {len(names)} cells, as in the header")
                yield row
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


def write_csv(path, rows):
    """Write rows as a CSV file, atomically; the bytes of a name that is not UTF-8 are kept."""
    write_atomic(path, csv_text(rows).encode("utf-8", "surrogateescape"))


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
