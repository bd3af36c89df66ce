"""Which images there are and what is known of them: a table read from a CSV or from folders, checked as a whole.

A CSV has a header with `path` and `label`, and where known `patient_id, source, view, split, sex, age`; paths are relative
to the CSV's folder. Or SOURCE is a folder with one folder per class. A table with problems is refused as a whole, with all
problems counted and the first 20 listed: nothing is skipped in silence.
"""

import csv
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from minicnn.data.cache import MemoryPixels, PixelCache
from minicnn.data.images import Preprocessing
from minicnn.data.source import ImageSource
from minicnn.data.split import groups, split_groups, split_images
from minicnn.errors import InputError, ManifestError, Problems, nearest, printable
from minicnn.files import open_regular

__all__ = ["Manifest", "PARTS", "safe_cell"]

PARTS = ("training", "validation", "test")
_PART_NAMES = {"training": 0, "train": 0, "validation": 1, "valid": 1, "val": 1, "dev": 1, "test": 2, "testing": 2}
_OPTIONAL = ("patient_id", "source", "view", "split", "sex", "age")
_POSITIVE = ("covid", "covid-19", "covid19", "positive", "abnormal", "1")
_LABEL = re.compile(r"[\w .+()-]{1,64}")
_EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Manifest:
    """An immutable table of images: one entry of each field an image.

    Attributes
    ----------
    root : str, the folder that paths are relative to
    names : list of str, the paths as given
    labels : ndarray, shape (n,), int64, numbers of `classes`
    classes : tuple of str; with two, the second is the positive one
    columns : dict of str to list of str: patient_id, source, view, split, sex, age, where known
    augmentation : Augmentation, or None
    techniques, versions : ndarray (n,) or None: which version of which image each row is, under the paper's protocol
    seed : int, of the versions
    images : ndarray of uint8 pictures, or None where they are files

    >>> images = np.zeros((4, 64, 64), np.uint8)
    >>> Manifest.from_arrays(images, [0, 1, 0, 1], ("normal", "covid"))
    Manifest(4 images: 2 normal, 2 covid)
    """

    root: str
    names: list
    labels: np.ndarray
    classes: tuple
    columns: dict
    augmentation: object = None
    techniques: np.ndarray = None
    versions: np.ndarray = None
    seed: int = 0
    images: np.ndarray = None

    @classmethod
    def read(cls, source, classes=None, columns=None, allow_outside_root=False):
        """Read a CSV file, or a folder with one folder per class.

        Parameters
        ----------
        source : path
        classes : names of the classes in order, optional; by default the positive one of two is the one called covid,
            covid-19, covid19, positive, abnormal or 1, and three or more stand in alphabetical order
        columns : dict from our names to the CSV's, such as {"label": "finding"}
        allow_outside_root : bool, accept paths that lead out of the CSV's folder

        Raises
        ------
        ManifestError
            with all problems: missing files, unknown labels, duplicates, malformed rows, paths outside, one class only
        """
        source = Path(source)
        if source.is_dir():
            root, problems = str(source), Problems(printable(source))
            rows = _read_folder(source, problems)
        else:
            root, problems = str(source.parent), Problems(printable(source))
            rows = _read_csv(source, columns or {}, problems)
        return _checked(cls, printable(source), root, rows, problems, classes, allow_outside_root)

    @classmethod
    def from_arrays(cls, images, labels, classes, patients=None, names=None):
        """Return a manifest of pictures in memory: uint8, (n, H, W) or (n, H, W, 3)."""
        names = [f"{i:05d}" for i in range(len(images))] if names is None else list(names)
        columns = {} if patients is None else {"patient_id": list(patients)}
        return cls("", names, np.asarray(labels, np.int64), tuple(classes), columns, images=images)

    def __len__(self):
        return len(self.names)

    def __repr__(self):
        counts = ", ".join(f"{count} {printable(name)}" for name, count in self.counts().items())
        return f"Manifest({len(self)} images: {counts})"

    def counts(self):
        """Return {class: number of images}."""
        return dict(zip(self.classes, np.bincount(self.labels, minlength=len(self.classes)).tolist()))

    @property
    def patients(self):
        """Patient ids, "" where unknown: list of str."""
        return self.columns.get("patient_id", [""] * len(self))

    @property
    def paths(self):
        """The files: list of str."""
        return [os.path.join(self.root, name) for name in self.names]

    def subset(self, indices):
        """Return the manifest of the images with these numbers, in this order."""
        def take(values):
            return None if values is None else values[indices]
        return replace(self, names=[self.names[i] for i in indices], labels=self.labels[indices],
                       columns={key: [values[i] for i in indices] for key, values in self.columns.items()},
                       techniques=take(self.techniques), versions=take(self.versions), images=take(self.images))

    def augment(self, augmentation):
        """Return this manifest with an augmentation that training draws afresh in each pass."""
        return replace(self, augmentation=augmentation)

    def split(self, train=0.70, validation=0.15, test=0.15, seed=0, workers=None, progress=False):
        """Divide by patient, stratified by label, into three manifests; a `split` column wins.

        Images without a patient id are on their own; files that hold the same picture stay together, which is why the
        files are read here.
        """
        given = self._given_split()
        if given is None:
            pixels = self._pixels(Preprocessing(), workers, progress)
            group = groups(self.patients, pixels.pixel_digests)
            given = split_groups(group, self.labels, (train, validation, test), seed)
        return tuple(self.subset(np.flatnonzero(given == part)) for part in range(3))

    def paper_split(self, seed=0, fraction=0.70):
        """Make the paper's seven versions of every image and divide the versions: (training, validation). It leaks.

        Each version is one technique of `augmentation.TECHNIQUES`, drawn once. A `split` column wins: training is what it
        says, validation the rest.
        """
        from minicnn.data.augmentation import TECHNIQUES, Augmentation

        k = len(TECHNIQUES)
        source = np.repeat(np.arange(len(self)), k)
        every = replace(self.subset(source), augmentation=Augmentation.paper(), seed=seed, versions=np.arange(len(source)),
                        techniques=np.tile(np.arange(k, dtype=np.int8), len(self)))
        given = self._given_split()
        part = split_images(every.labels, (fraction, 1 - fraction), seed) if given is None else (given > 0)[source]
        return tuple(every.subset(np.flatnonzero(part == number)) for number in (0, 1))

    def open(self, preprocessing=None, workers=None, progress=False):
        """Decode the images (once: see cache.py) and return an ImageSource that training and prediction read."""
        preprocessing = Preprocessing() if preprocessing is None else preprocessing
        return ImageSource(self._pixels(preprocessing, workers, progress), preprocessing, self)

    def rows(self):
        """Yield a dict an image: path, label, and the columns that are known; the technique of a paper's version."""
        from minicnn.data.augmentation import TECHNIQUES

        for i, (name, label) in enumerate(zip(self.names, self.labels)):
            row = {"path": name, "label": self.classes[label]}
            row |= {key: values[i] for key, values in self.columns.items() if key != "split"}
            yield row if self.techniques is None else row | {"technique": TECHNIQUES[self.techniques[i]]}

    def _pixels(self, preprocessing, workers, progress):
        if self.images is not None:
            return MemoryPixels(self.images, preprocessing)
        if self.techniques is None:
            return PixelCache.prepare(self.paths, preprocessing, workers, progress)
        files = list(dict.fromkeys(self.paths))         # the versions of one image share its picture
        slot = {path: i for i, path in enumerate(files)}
        cache = PixelCache.prepare(files, preprocessing, workers, progress)
        return cache.take(np.array([slot[path] for path in self.paths]))

    def _given_split(self):
        """Return the parts of the `split` column as (n,) int8, or None where there is no such column."""
        words = self.columns.get("split")
        if words is None or not any(words):
            return None
        problems = Problems("split column")
        for name, word in zip(self.names, words):
            if word.strip().lower() not in _PART_NAMES:
                problems.add(f"{printable(name)}: split {printable(word)!r} is none of {', '.join(PARTS)}."
                             + nearest(word, _PART_NAMES))
        problems.raise_any()
        part = np.array([_PART_NAMES[word.strip().lower()] for word in words], np.int8)
        for number in range(3):
            if not (part == number).any():
                raise ManifestError(f"split column: no image is in the {PARTS[number]} part.")
        return part


def safe_cell(value):
    """Return a CSV cell that no spreadsheet takes for a formula: a leading = + - @ TAB or CR gets ./ before it.

    >>> safe_cell("=1+1"), safe_cell(0.5)
    ('./=1+1', 0.5)
    """
    return "./" + value if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value


# ---- Reading ---------------------------------------------------------------------------------------------------------

def _read_folder(folder, problems):
    """Return the rows of a folder with one folder per class; a row is (place, path, label, {})."""
    rows = []
    for label in sorted(entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)):
        for parent, _, files in os.walk(folder / label):
            for name in sorted(files):
                if name.lower().endswith(_EXTENSIONS):
                    path = os.path.relpath(os.path.join(parent, name), folder)
                    rows.append((printable(path), path, label, {}))
    if not rows:
        problems.add("no images: expected one folder per class with PNG, JPEG, WebP, BMP or TIFF files in it.")
    return rows


def _read_csv(path, columns, problems):
    """Return the rows of a CSV file; a row is (place, path, label, {column: text})."""
    unknown = [key for key in columns if key not in ("path", "label", *_OPTIONAL)]
    if unknown:
        raise InputError(f"columns: there is no {unknown[0]!r}; the names are path, label, {', '.join(_OPTIONAL)}."
                         + nearest(unknown[0], ("path", "label", *_OPTIONAL)))
    try:
        file, size = open_regular(path)
    except OSError as error:
        raise ManifestError(f"{printable(path)}: cannot be read: {error.strerror}. SOURCE is a CSV file, or a folder with "
                            "one folder per class.") from None
    with file:
        lines = _decoded_lines(file, printable(path))
        try:
            reader = csv.reader(lines, strict=True)
            return _rows(reader, path, columns, problems)
        except csv.Error as error:
            raise ManifestError(f"{printable(path)}, line {reader.line_num}: not a CSV file: {error}.") from None


def _decoded_lines(file, name):
    """Yield the lines of a UTF-8 file; the first that is not, or holds a NUL, is named by its number."""
    for number, line in enumerate(file, 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise ManifestError(f"{name}, line {number}: not UTF-8. Save the file as UTF-8.") from None
        if "\0" in text:
            raise ManifestError(f"{name}, line {number}: holds a NUL byte: not a text file.")
        yield text


def _rows(reader, path, columns, problems):
    header = next(reader, None)
    if not header:
        raise ManifestError(f"{printable(path)}: empty. Expected a header with path,label.")
    header = [cell.strip() for cell in header]
    where = {}
    for key in ("path", "label", *_OPTIONAL):
        name = columns.get(key, key)
        if name in header:
            where[key] = header.index(name)
        elif key in ("path", "label") or key in columns:
            raise ManifestError(f"{printable(path)}: no column {printable(name)!r} in its header "
                                f"({printable(', '.join(header))}).{nearest(name, header)} Rename with "
                                f"--columns {key}=HEADER, or columns={{{key!r}: 'HEADER'}}.")
    extra = {key: i for key, i in where.items() if key not in ("path", "label")}
    rows = []
    for cells in reader:
        if not cells:
            continue
        if len(cells) != len(header):
            problems.add(f"line {reader.line_num}: {len(cells)} cells, the header has {len(header)}.")
        elif not cells[where["path"]].strip():
            problems.add(f"line {reader.line_num}: no path.")
        else:
            rows.append((f"line {reader.line_num}", cells[where["path"]], cells[where["label"]].strip(),
                         {key: cells[i].strip() for key, i in extra.items()}))
    if not rows and not problems.count:
        raise ManifestError(f"{printable(path)}: a header and nothing else.")
    return rows


# ---- Checking --------------------------------------------------------------------------------------------------------

def _checked(cls, name, root, rows, problems, classes, allow_outside_root):
    """Return the manifest of these rows, or raise with all their problems."""
    labels = {row[2] for row in rows}
    for label in sorted(labels):
        if not _LABEL.fullmatch(label) or label[0] in "=+-@":
            problems.add(f"label {printable(label)!r}: expected 1 to 64 letters, digits, spaces or . + ( ) - _.")
    if classes is not None:
        classes = tuple(str(label) for label in classes)
        unknown = labels - set(classes)
        for place, _, label, _ in rows:
            if label in unknown:
                problems.add(f"{place}: label {printable(label)!r} is none of {', '.join(classes)}.{nearest(label, classes)}")
    _check_paths(root, rows, allow_outside_root, problems)
    problems.raise_any()
    if len(labels) < 2 and classes is None:
        raise ManifestError(f"{name}: one class only ({printable(', '.join(labels))}); at least two are needed.")
    classes = _class_order(labels, name) if classes is None else classes
    number = {label: i for i, label in enumerate(classes)}
    keys = rows[0][3].keys()
    return cls(root, [row[1] for row in rows], np.array([number[row[2]] for row in rows], np.int64), classes,
               {key: [row[3][key] for row in rows] for key in keys})


def _class_order(labels, name):
    """Return the order of classes: (negative, positive) by name, or alphabetical for three or more."""
    if len(labels) > 2:
        return tuple(sorted(labels))
    positive = [label for label in labels if label.lower() in _POSITIVE]
    if len(positive) != 1:
        raise ManifestError(f"{name}: which of {' and '.join(sorted(map(printable, labels)))} is the positive class? Say it "
                            "with --classes NEGATIVE,POSITIVE, or classes=[negative, positive].")
    return tuple(sorted(labels - set(positive))) + tuple(positive)


def _check_paths(root, rows, allow_outside_root, problems):
    """Add the problems of paths: missing files, files twice, files outside the root."""
    seen, known = {}, {}
    real_root = os.path.realpath(root)
    for place, path, label, _ in rows:
        full = os.path.normpath(os.path.join(root, path))
        if full in seen:
            other_place, other_label = seen[full]
            also = "" if label == other_label else f", with the label {printable(other_label)!r} there"
            problems.add(f"{place}: {printable(path)} stands already in {other_place}{also}.")
            continue
        seen[full] = place, label
        folder, file = os.path.split(full)
        if folder not in known:
            known[folder] = _files_of(folder, real_root)
        files, inside = known[folder]
        if file not in files:
            problems.add(f"{place}: {printable(path)} is not there, or is not a file.")
        elif not allow_outside_root and not (inside and (not files[file] or _inside(full, real_root))):
            problems.add(f"{place}: {printable(path)} lies outside {printable(root)}. Allow it with "
                         "--allow-outside-root.")


def _files_of(folder, real_root):
    """Return ({file name: is it a link}, whether the folder lies inside the root): one look at each folder."""
    try:
        files = {entry.name: entry.is_symlink() for entry in os.scandir(folder) if entry.is_file()}
    except (OSError, ValueError):
        files = {}
    return files, _inside(folder, real_root)


def _inside(path, real_root):
    try:
        return os.path.commonpath([os.path.realpath(path), real_root]) == real_root
    except (OSError, ValueError):
        return False
