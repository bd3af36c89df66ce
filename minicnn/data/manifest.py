"""The manifest: a table of images, their labels and metadata, checked as a whole; it opens as a dataset.

A CSV has a header with `path` and `label` and, where known, `patient_id, source, view, modality, split, sex, age`,
and what `data import dicom` adds: `study, manufacturer, detector, photometric_interpretation, lossy_compression,
burned_in_annotation`; paths are relative to the CSV's folder. Alternatively, a folder has one folder for each class.
Reading raises one error for all problems, in which equal ones are one, with their number.
"""

import os
import warnings
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from minicnn.core.random import check_seed
from minicnn.core.untrusted import Problems, write_csv
from minicnn.data.augmentation import TECHNIQUES, Augmentation
from minicnn.data.file_kinds import kind_of_file
from minicnn.data.folder_reader import read_folder
from minicnn.data.labels import SPLITS, LabelNames, check_classes, encode_labels, encode_splits
from minicnn.data.loader import ImageDataset
from minicnn.data.manifest_reader import ATTRIBUTES, read_csv, without_unknown
from minicnn.data.near_duplicates import clusters
from minicnn.data.pixel_cache import MemoryPixels, PixelCache
from minicnn.data.preprocessing import Preprocessing
from minicnn.data.split import groups, split_groups, split_images
from minicnn.errors import InputError, ManifestError, ShapeError, printable

__all__ = ["Manifest", "ManifestWarning", "labels_in", "split_rows"]


class ManifestWarning(UserWarning):
    """A manifest was read, but some of its rows or files were left out."""


@dataclass(frozen=True, eq=False, repr=False)
class Manifest:
    """An immutable table of images; methods return new ones.

    Parameters
    ----------
    root : str; the folder that `paths` are relative to
    paths : list of n str, relative or absolute; the attribute holds absolute ones
    labels : array of n whole numbers; positions in `classes`
    classes : names of the classes; of two, the second is the positive one
    patients, sources, views, modalities, splits, sexes, ages, studies, manufacturers, detectors,
        photometric_interpretations, lossy_compressions, burned_in_annotations : lists of n str, "" where unknown, optional
    augmentation : Augmentation, optional; drawn anew in each epoch of training
    techniques, versions, seed : ndarrays (n,) and int; which version of which image each row is: see `paper_split`
    pixels : PixelCache or MemoryPixels, optional; the decoded images of the rows
    inside : bool; refuse files outside of the root when they are opened (`read` has checked the paths, but a folder may
        have changed since)

    >>> Manifest("/data", ["a.png", "b.png"], [0, 1], ["normal", "covid"], patients=["ann", "bob"])
    Manifest(2 images: 1 normal, 1 covid; 2 patients)
    """

    root: str
    paths: np.ndarray
    labels: np.ndarray
    classes: tuple
    patients: np.ndarray = None
    sources: np.ndarray = None
    views: np.ndarray = None
    modalities: np.ndarray = None
    splits: np.ndarray = None
    sexes: np.ndarray = None
    ages: np.ndarray = None
    studies: np.ndarray = None
    manufacturers: np.ndarray = None
    detectors: np.ndarray = None
    photometric_interpretations: np.ndarray = None
    lossy_compressions: np.ndarray = None
    burned_in_annotations: np.ndarray = None
    augmentation: Augmentation = None
    techniques: np.ndarray = None
    versions: np.ndarray = None
    seed: int = 0
    pixels: object = None
    inside: bool = False

    def __post_init__(self):
        n = len(self.paths)
        if not n:
            raise InputError("Manifest: there are no images in it.")
        paths = self.paths      # an array is that of another manifest: absolute already
        if not isinstance(paths, np.ndarray):
            paths = _words([os.path.join(self.root, path) for path in paths])
        labels = np.array(self.labels)
        if labels.shape != (n,) or labels.dtype.kind not in "iu":
            raise ShapeError(f"Manifest: expected {n} whole numbers as labels, got {labels.dtype} {labels.shape}.")
        columns = {"paths": paths, "labels": labels.astype(np.int64)}
        if self.patients is None:
            columns["patients"] = _words([""] * n)
        given = {name: getattr(self, name) for name in self._known()}
        if paths is not self.paths:
            problems = Problems("Manifest")
            given |= without_unknown(given, problems)
            _warn(problems, 4)
        columns |= {name: _words(column) for name, column in given.items()}
        for name, column in columns.items():
            if len(column) != n:
                raise ShapeError(f"Manifest: there are {n} paths, but {len(column)} {name}.")
            column.setflags(write=False)
            object.__setattr__(self, name, column)
        object.__setattr__(self, "classes", check_classes(self.classes))
        if labels.min() < 0 or labels.max() >= len(self.classes):
            raise InputError(f"Manifest: labels must lie between 0 and {len(self.classes) - 1} "
                             f"({', '.join(self.classes)}), got {labels.min()} to {labels.max()}.")

    @classmethod
    def read(cls, path, classes=None, columns=None, allow_outside_root=False, root=None, labels=None):
        """Read a CSV file, or a folder with one folder for each class.

        Parameters
        ----------
        path : path
        classes : names of the classes in order, optional. By default, of two labels the positive one is the one that
            says COVID-19 (as words: not `Non-COVID`), positive, abnormal or 1, and three or more are in alphabetical
            order. Labels that differ only in case, spaces, hyphens or Unicode form are one class
        columns : dict from our names of columns to the CSV's, such as {"label": "finding"}; None leaves one out
        allow_outside_root : bool; accept files outside of the root
        root : path; the folder that a CSV's paths are relative to, by default its own. A path that is spelled as on
            another system (backslashes, case, Unicode form) is read where it fits one file only
        labels : dict from labels of the data, or names of its class folders, to their names here, such as
            {"Covid-19": "covid"}; labels that it does not name stay. Several may get one name. Or LabelNames

        Raises
        ------
        ManifestError : all problems: missing files, unknown labels, contradictions, malformed lines, a single class, a
            name in `labels` that no image has ...

        Warns
        -----
        ManifestWarning : what is dropped or skipped, counted; words that mean unknown; other spellings of labels and paths
        """
        path, name = os.fspath(path), printable(os.fspath(path))
        classes, problems = None if classes is None else check_classes(classes), Problems(name)
        names = labels if isinstance(labels, LabelNames) else LabelNames(labels)
        if classes is not None:
            names.check_classes(classes)
        table = _read_table(path, name, classes or (), columns, allow_outside_root, root, problems, names)
        if names is not labels:
            names.report_unused(problems)
        labels, classes = encode_labels(table.columns["label"], table.where, classes, problems, names.given)
        if any(table.columns.get("split", ())):
            encode_splits(table.columns["split"], table.where, problems)
        else:
            table.columns.pop("split", None)
        if table.left_out:
            warnings.warn(f"{name}: left out {table.left_out}.", ManifestWarning, stacklevel=2)
        problems.raise_any()
        _warn(problems, 3)
        if table.repeated:
            warnings.warn(f"{name}: {table.repeated:,} rows repeat an earlier one and were dropped.", ManifestWarning,
                          stacklevel=2)
        if table.others:
            warnings.warn(f"{name}: {table.others:,} files were skipped: they do not have the extension of an image."
                          + (f" Among them are {table.kinds}" if table.kinds else ""), ManifestWarning, stacklevel=2)
        return cls(table.root, _words(table.columns["path"]), labels, classes, inside=not allow_outside_root,
                   **{ours: table.columns.get(theirs) for ours, theirs in ATTRIBUTES.items()})

    @classmethod
    def from_arrays(cls, images, labels, classes, patients=None, names=None):
        """Return a manifest of grey images in memory: ndarray, shape (n, H, W), uint8."""
        names = [f"{i:06d}" for i in range(len(images))] if names is None else list(names)
        return cls("", names, labels, classes, patients=patients, pixels=MemoryPixels(images))

    def __len__(self):
        return len(self.paths)

    def __repr__(self):
        text = f"{len(self):,} images: " + ", ".join(f"{count:,} {name}" for name, count in self.counts().items())
        known = set(self.patients) - {""}
        text += f"; {len(known):,} patients" if known else ""
        if self.sources is not None:
            common = Counter(source or "unknown" for source in self.sources).most_common()
            text += "; sources " + ", ".join(f"{printable(source)} {count:,}" for source, count in common[:5])
            text += ", ..." if len(common) > 5 else ""
        return f"Manifest({text})"

    def counts(self):
        """Return {class: number of images}."""
        return dict(zip(self.classes, np.bincount(self.labels, minlength=len(self.classes)).tolist()))

    @property
    def names(self):
        """The paths relative to the root: list of str."""
        inside = os.path.join(self.root, "")
        return [path[len(inside):] if path.startswith(inside) else os.path.relpath(path, self.root or ".")
                for path in self.paths]

    def subset(self, indices):
        """Return the manifest of the images with these numbers, in this order; their decoded images are shared."""
        rows = np.arange(len(self))[indices]
        columns = ("paths", "labels", *self._known("techniques", "versions"))
        changes = {name: getattr(self, name)[rows] for name in columns}
        return replace(self, pixels=None if self.pixels is None else self.pixels.take(rows), **changes)

    def augment(self, augmentation):
        """Return this manifest with an augmentation that training draws anew in each epoch."""
        if self.techniques is not None:
            raise InputError("augment: the versions of paper_split are drawn already, once and for all.")
        if not hasattr(augmentation, "apply"):
            raise InputError(f"augment: expected an Augmentation, such as Augmentation.honest(), got {augmentation!r}.")
        return replace(self, augmentation=augmentation)

    def split(self, train=0.70, validation=0.15, test=0.15, seed=0, preprocessing=None, workers=None, progress=False):
        """Split by patient, stratified by label; return the manifests (training, validation, test).

        A `split` column takes precedence. Without one, images of one patient stay together, and so do images that show
        the same radiograph, saved again, altered or mirrored; therefore they are decoded here (see `prepared`). An
        image without a patient id is on its own.

        Raises
        ------
        ManifestError : too few patients to give each set each class; a split column that leaves a set empty
        """
        sets, whole = self._given_split(), self
        if sets is None:
            whole = self.prepared(preprocessing, workers, progress)
            group = whole.patient_groups(preprocessing, workers, progress)
            sets = split_groups(group, whole.labels, (train, validation, test), seed, whole.classes)
        return tuple(whole.subset(sets == number) for number in range(3))

    def patient_groups(self, preprocessing=None, workers=None, progress=False):
        """Return the group of each image, (n,) int64: its patient, joined with those who share a radiograph."""
        whole = self.prepared(preprocessing, workers, progress)
        return groups(whole.patients, clusters(whole.pixels, progress=progress))

    def paper_split(self, seed=0, fraction=0.70, preprocessing=None, workers=None, progress=False):
        """Make the paper's seven versions of every image, then split the versions; return (training, validation).

        Each version is one technique of `Augmentation.paper()`, drawn once: it is the same in every epoch. Versions of
        one image, and images of one patient, fall into both sets: this leaks, as published. With a `split` column,
        training is what it says, and validation is the rest.
        """
        sets, k = self._given_split(), len(TECHNIQUES)
        whole = self.prepared(preprocessing, workers, progress)
        rows = np.repeat(np.arange(len(self)), k)
        versions = replace(whole.subset(rows), augmentation=Augmentation.paper(), seed=check_seed(seed),
                           versions=np.arange(len(rows)), techniques=np.tile(np.arange(k, dtype=np.int8), len(self)))
        if sets is None:
            sets = split_images(versions.labels, (fraction, 1 - fraction), seed, self.classes)
        else:
            sets = (sets > 0)[rows]
        return tuple(versions.subset(sets == number) for number in (0, 1))

    def prepared(self, preprocessing=None, workers=None, progress=False, skip_unreadable=False):
        """Return this manifest with its images decoded for `preprocessing`, or from the cache; subsets share them.

        With `skip_unreadable` images that cannot be read are left out, with a ManifestWarning that names and counts
        them. Without, or where no other image is left, they are a ManifestError.
        """
        preprocessing = Preprocessing() if preprocessing is None else preprocessing
        if self.pixels is not None and self.pixels.preprocessing == preprocessing:
            return self
        if isinstance(self.pixels, MemoryPixels):
            return replace(self, pixels=self.pixels.prepare(preprocessing))
        slots = {path: slot for slot, path in enumerate(dict.fromkeys(self.paths))}     # versions share a file
        root = self.root if self.inside else None
        is_new = self.pixels is None      # else the remarks on them have been said
        failed = {} if skip_unreadable else None
        try:
            cache = PixelCache.prepare(list(slots), preprocessing, workers, progress, root, is_new, failed)
        except ManifestError as error:
            raise ManifestError(f"{error}\n  To leave such images out: skip_unreadable=True (train, evaluate: "
                                "--skip-unreadable).") from None
        if not failed:
            return replace(self, pixels=cache.take(np.array([slots[path] for path in self.paths])))
        if cache is None:       # the error that says why
            PixelCache.prepare(list(slots), preprocessing, workers, progress, root)
        is_left = np.array([slots[path] not in failed for path in self.paths])
        left, lost = np.flatnonzero(is_left), np.flatnonzero(~is_left)
        names = [*map(printable, self.subset(lost[:5]).names), *(["..."] if len(lost) > 5 else [])]
        warnings.warn(f"{len(lost):,} of {len(self):,} images cannot be read and are left out: {', '.join(names)}. "
                      "The data audit says why.", ManifestWarning, stacklevel=3)
        places = np.cumsum([slot not in failed for slot in range(len(slots))]) - 1      # in the cache of those left
        rows = np.array([places[slots[path]] for path in self.paths[left]])
        return replace(self.subset(left), pixels=cache.take(rows))

    def open(self, preprocessing=None, workers=None, progress=False, skip_unreadable=False):
        """Decode the images and return the ImageDataset that training and prediction read.

        Parameters
        ----------
        preprocessing : Preprocessing; 64 x 64 x 3 from grey where None
        workers : int >= 0, threads that decode; the cores available where None. The result does not depend on it
        progress : bool, show a bar on stderr
        skip_unreadable : bool, leave out images that cannot be read, with a warning
        """
        whole = self.prepared(preprocessing, workers, progress, skip_unreadable)
        return ImageDataset(whole.pixels, whole.pixels.preprocessing, whole)

    def rows(self):
        """Yield a dict for each image: path, label, the columns that are known, and the technique of a version."""
        columns = {ATTRIBUTES[name]: getattr(self, name) for name in self._known()}
        for i, (name, label) in enumerate(zip(self.names, self.labels)):
            row = {"path": name, "label": self.classes[label]} | {key: column[i] for key, column in columns.items()}
            yield row if self.techniques is None else row | {"technique": TECHNIQUES[self.techniques[i]]}

    def write_csv(self, path, sets=None):
        """Write the table, or that of some of its subsets, as a CSV that `read` reads with the same root.

        Parameters
        ----------
        path : path; the file is written atomically
        sets : dict from the name of a set to its manifest, optional; the name becomes the `split` column
        """
        write_csv(path, list(self.rows()) if sets is None else split_rows(sets))

    def _known(self, *more):
        """Return the names of the optional columns that this manifest has, and of `more` attributes that it has."""
        return [name for name in (*ATTRIBUTES, *more) if getattr(self, name) is not None]

    def _given_split(self):
        """Return the number of the set of each image in the `split` column, (n,) int8, or None where there is none."""
        if self.splits is None:
            return None
        problems, names = Problems("the split column"), self.names
        sets = encode_splits(self.splits, lambda row: printable(names[row]), problems)
        problems.raise_any()
        for number, name in enumerate(SPLITS):
            if not (sets == number).any():
                raise ManifestError(f"the split column assigns no image to the {name} set. Add some, or leave the "
                                    "column out: columns={'split': None}.")
        together = {(patient, number) for patient, number in zip(self.patients, sets.tolist()) if patient}
        torn = sum(count > 1 for count in Counter(patient for patient, _ in together).values())
        if torn:
            warnings.warn(f"the split column assigns {torn:,} patients to more than one set: validation and test "
                          "metrics will be too good.", ManifestWarning, stacklevel=3)
        return sets


def labels_in(path, columns=None, allow_outside_root=False, labels=None):
    """Return the set of the labels in a CSV file or a folder, which may be a single one; arguments as for `Manifest.read`."""
    path, problems = os.fspath(path), Problems(printable(os.fspath(path)))
    names = labels if isinstance(labels, LabelNames) else LabelNames(labels)
    table = _read_table(path, printable(path), (), columns, allow_outside_root, None, problems, names)
    problems.raise_any()
    return set(table.columns["label"])


def _read_table(path, name, classes, columns, allow_outside_root, root, problems, names):
    """Return the Table of a CSV file, or of a folder with one folder for each class, its labels renamed."""
    if os.path.isdir(path):
        if root is not None:
            raise InputError(f"root: is for the paths in a CSV file; {name} is a folder of class folders.")
        table = read_folder(path, allow_outside_root, problems, [*classes, *names.given])
        table.columns["label"] = names.renamed(table.columns["label"])
        return table
    if kind := kind_of_file(path):
        raise ManifestError(f"{name}: is {kind[0]}, not a folder or a CSV file. {kind[1]}")
    return read_csv(path, root, columns, allow_outside_root, problems, names)


def split_rows(sets):
    """Return the rows of the manifests in `sets`, a dict by name of the set, with the name as the `split` column."""
    return [row | {"split": name} for name, manifest in sets.items() for row in manifest.rows()]


def _warn(problems, level):
    for sentence in problems.remarks:
        warnings.warn(sentence, ManifestWarning, stacklevel=level)


def _words(column):
    words = np.empty(len(column), object)
    words[:] = column
    return words
