"""Which images there are and what is known of each: one table, checked as a whole, that opens as a source.

A CSV has a header with `path` and `label` and, where known, `patient_id, source, view, modality, split, sex, age`; paths
are relative to the CSV's folder. Or there is a folder with one folder for each class. What has problems is refused as a
whole, with all problems counted and the first 20 listed.
"""

import os
import warnings
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from minicnn.core.files import write_whole
from minicnn.core.random import check_seed
from minicnn.core.untrusted import Problems, csv_text
from minicnn.data.augmentation import TECHNIQUES, Augmentation
from minicnn.data.labels import PARTS, check_classes, encode_labels, encode_parts
from minicnn.data.loader import ImageDataset
from minicnn.data.manifest_reader import read_csv, read_folder
from minicnn.data.near_duplicates import clusters
from minicnn.data.pixel_cache import MemoryPixels, PixelCache
from minicnn.data.preprocessing import Preprocessing
from minicnn.data.split import groups, split_groups, split_images
from minicnn.errors import InputError, ManifestError, ShapeError, printable

__all__ = ["Manifest", "ManifestWarning", "PARTS"]

# Attribute: how a CSV calls the column.
_COLUMNS = {"patients": "patient_id", "sources": "source", "views": "view", "modalities": "modality",
            "splits": "split", "sexes": "sex", "ages": "age"}


class ManifestWarning(UserWarning):
    """A manifest that was read, but not quite as it stands."""


@dataclass(frozen=True, eq=False, repr=False)
class Manifest:
    """A table of images that is never changed: methods return new ones.

    Parameters
    ----------
    root : str; the folder that `paths` are relative to
    paths : list of n str, relative or absolute; the attribute holds absolute ones
    labels : array of n whole numbers; positions in `classes`
    classes : names of the classes; of two, the second is the positive one
    patients, sources, views, modalities, splits, sexes, ages : lists of n str, "" where unknown, optional
    augmentation : Augmentation, optional; drawn afresh in each pass of training
    techniques, versions, seed : ndarrays (n,) and int; which version of which image each row is: see `paper_split`
    pixels : PixelCache or MemoryPixels, optional; the prepared pictures of the rows
    inside : bool; refuse files that lie outside of the root when they are opened (`read` has checked the paths, but a
        folder may have changed since)

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
        patients = [""] * n if self.patients is None else self.patients
        labels = np.array(self.labels)
        if labels.shape != (n,) or labels.dtype.kind not in "iu":
            raise ShapeError(f"Manifest: expected {n} whole numbers as labels, got {labels.dtype} {labels.shape}.")
        columns = {"patients": _words(patients), "paths": paths, "labels": labels.astype(np.int64)}
        for name in list(_COLUMNS)[1:]:
            if getattr(self, name) is not None:
                columns[name] = _words(getattr(self, name))
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
    def read(cls, source, classes=None, columns=None, allow_outside_root=False, root=None):
        """Read a CSV file, or a folder with one folder for each class.

        Parameters
        ----------
        source : path
        classes : names of the classes in order, optional. Without, of two labels the positive one is the one called
            covid, covid-19, covid19, positive, abnormal or 1, and three or more stand in alphabetical order
        columns : dict from our names of columns to the CSV's, such as {"label": "finding"}; None leaves one out
        allow_outside_root : bool; accept files outside of the root
        root : path; the folder that a CSV's paths are relative to, by default its own

        Raises
        ------
        ManifestError : all problems: missing files, unknown labels, contradictions, malformed lines, one class only ...

        Warns
        -----
        ManifestWarning : repeated rows, which are dropped, and files that are passed over
        """
        source, name = os.fspath(source), printable(os.fspath(source))
        classes, problems = None if classes is None else check_classes(classes), Problems(name)
        if os.path.isdir(source):
            table = read_folder(source, allow_outside_root, problems)
        else:
            table = read_csv(source, root, columns, allow_outside_root, problems)
        labels, classes = encode_labels(table.columns["label"], table.where, classes, problems)
        if any(table.columns.get("split", ())):
            encode_parts(table.columns["split"], table.where, problems)
        else:
            table.columns.pop("split", None)
        problems.raise_any()
        if table.repeated:
            warnings.warn(f"{name}: {table.repeated:,} rows repeat an earlier one and were dropped.", ManifestWarning,
                          stacklevel=2)
        if table.others:
            warnings.warn(f"{name}: {table.others:,} files were passed over, for their names do not end like an image's.",
                          ManifestWarning, stacklevel=2)
        return cls(table.root, _words(table.columns["path"]), labels, classes, inside=not allow_outside_root,
                   **{ours: table.columns.get(theirs) for ours, theirs in _COLUMNS.items()})

    @classmethod
    def from_arrays(cls, images, labels, classes, patients=None, names=None):
        """Return a manifest of grey pictures in memory: ndarray, shape (n, H, W), uint8."""
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
        """Return the manifest of the images with these numbers, in this order; their prepared pictures are shared."""
        rows = np.arange(len(self))[indices]
        each = ("paths", "labels", "techniques", "versions", *_COLUMNS)
        changes = {name: getattr(self, name)[rows] for name in each if getattr(self, name) is not None}
        return replace(self, pixels=None if self.pixels is None else self.pixels.take(rows), **changes)

    def augment(self, augmentation):
        """Return this manifest with an augmentation that training draws afresh in each pass."""
        if self.techniques is not None:
            raise InputError("augment: the versions of paper_split are drawn already, once and for all.")
        if not hasattr(augmentation, "apply"):
            raise InputError(f"augment: expected an Augmentation, such as Augmentation.honest(), got {augmentation!r}.")
        return replace(self, augmentation=augmentation)

    def split(self, train=0.70, validation=0.15, test=0.15, seed=0, preprocessing=None, workers=None, progress=False):
        """Divide by patient, stratified by label; return (training, validation, test), three manifests.

        A `split` column wins. Without one, an image without a patient id is on its own, and images that are the same
        picture stay together, saved again, altered or mirrored (near_duplicates.py): that is why they are prepared here (see
        `prepared`). No patient is on two sides.

        Raises
        ------
        ManifestError : too few patients to give each part each class; a split column that leaves a part empty
        """
        parts = self._given_parts()
        whole = self
        if parts is None:
            whole = self.prepared(preprocessing, workers, progress)
            group = groups(whole.patients, clusters(whole.pixels))
            parts = split_groups(group, whole.labels, (train, validation, test), seed, whole.classes)
        return tuple(whole.subset(parts == number) for number in range(3))

    def paper_split(self, seed=0, fraction=0.70, preprocessing=None, workers=None, progress=False):
        """Make the paper's seven versions of every image, then divide the versions; return (training, validation).

        Each version is one technique of `Augmentation.paper()`, drawn once: it looks the same in every pass. Versions of
        one image, and images of one patient, fall on both sides: this leaks, as published. With a `split` column,
        training is what it says, and validation is the rest.
        """
        parts, k = self._given_parts(), len(TECHNIQUES)
        whole = self.prepared(preprocessing, workers, progress)
        rows = np.repeat(np.arange(len(self)), k)
        versions = replace(whole.subset(rows), augmentation=Augmentation.paper(), seed=check_seed(seed),
                           versions=np.arange(len(rows)), techniques=np.tile(np.arange(k, dtype=np.int8), len(self)))
        if parts is None:
            parts = split_images(versions.labels, (fraction, 1 - fraction), seed, self.classes)
        else:
            parts = (parts > 0)[rows]
        return tuple(versions.subset(parts == number) for number in (0, 1))

    def prepared(self, preprocessing=None, workers=None, progress=False):
        """Return this manifest with its pictures decoded, or found decoded, for `preprocessing`; parts of it share them."""
        preprocessing = Preprocessing() if preprocessing is None else preprocessing
        if self.pixels is not None and self.pixels.preprocessing == preprocessing:
            return self
        if isinstance(self.pixels, MemoryPixels):
            return replace(self, pixels=self.pixels.prepare(preprocessing))
        slots = {path: slot for slot, path in enumerate(dict.fromkeys(self.paths))}     # versions share a file
        root = self.root if self.inside else None
        cache = PixelCache.prepare(list(slots), preprocessing, workers, progress, root)
        return replace(self, pixels=cache.take(np.array([slots[path] for path in self.paths])))

    def open(self, preprocessing=None, workers=None, progress=False):
        """Prepare the images and return the ImageDataset that training and prediction read.

        Parameters
        ----------
        preprocessing : Preprocessing; 64 x 64 x 3 from grey where None
        workers : int >= 0, threads that decode; the cores available where None. Never changes a bit
        progress : bool, show a bar on stderr
        """
        whole = self.prepared(preprocessing, workers, progress)
        return ImageDataset(whole.pixels, whole.pixels.preprocessing, whole)

    def rows(self):
        """Yield a dict for each image: path, label, the columns that are known, and the technique of a version."""
        columns = {theirs: getattr(self, ours) for ours, theirs in _COLUMNS.items() if getattr(self, ours) is not None}
        for i, (name, label) in enumerate(zip(self.names, self.labels)):
            row = {"path": name, "label": self.classes[label]} | {key: column[i] for key, column in columns.items()}
            yield row if self.techniques is None else row | {"technique": TECHNIQUES[self.techniques[i]]}

    def write_csv(self, path, parts=None):
        """Write the table, or that of some parts, as a CSV that `read` reads with the same root.

        Parameters
        ----------
        path : path; the file is written whole or not at all, readable by its owner alone
        parts : dict from the name of a part to its manifest, optional; the name becomes the `split` column
        """
        if parts is None:
            rows = list(self.rows())
        else:
            rows = [row | {"split": name} for name, part in parts.items() for row in part.rows()]
        write_whole(path, csv_text(rows).encode("utf-8", "surrogateescape"))

    def _given_parts(self):
        """Return the parts of the `split` column, (n,) int8, or None where there is none."""
        if self.splits is None:
            return None
        problems, names = Problems("the split column"), self.names
        parts = encode_parts(self.splits, lambda row: printable(names[row]), problems)
        problems.raise_any()
        for number, name in enumerate(PARTS):
            if not (parts == number).any():
                raise ManifestError(f"the split column puts no image into the {name} part. Add some, or leave the column "
                                    "out: columns={'split': None}.")
        together = {(patient, part) for patient, part in zip(self.patients, parts.tolist()) if patient}
        torn = sum(count > 1 for count in Counter(patient for patient, _ in together).values())
        if torn:
            warnings.warn(f"the split column puts {torn:,} patients into more than one part: what is measured outside of "
                          "training will be too good.", ManifestWarning, stacklevel=3)
        return parts


def _words(column):
    words = np.empty(len(column), object)
    words[:] = column
    return words
