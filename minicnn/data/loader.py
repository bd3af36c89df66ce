"""Datasets, which return samples by number as batches of floats, and loading them in an order set by the seed alone.

A dataset has a length, the `shape` (H, W, C) of a sample, `labels`, `classes`, `names`, `digests` (SHA-256 of each
file), `preprocessing`, and `batch(samples, passes, seed)`. `schedule` yields the samples of each step, and `load`
prepares them ahead on threads. The sample at a position of the stream, and its augmentation, are computed from the
position: training can resume at any step, and the number of threads does not change a bit.
"""

import math
import os
import warnings
from glob import glob

import numpy as np

from minicnn.core.memory import join
from minicnn.core.random import Stream, check_seed, permutation
from minicnn.core.validation import all_finite, as_array, check_batch, check_finite
from minicnn.data.decoding import ImageWarning
from minicnn.data.folder_reader import images_in
from minicnn.data.labels import as_numbers
from minicnn.data.file_kinds import EXTENSIONS
from minicnn.data.pixel_cache import PixelCache
from minicnn.data.preprocessing import to_input
from minicnn.data.workers import in_order
from minicnn.errors import DTypeError, InputError, ShapeError, printable

__all__ = ["ArrayDataset", "ImageDataset", "JoinedDataset", "Subset", "check_scale", "open_dataset", "image_files", "schedule",
           "load"]


_PIXELS = 0.0, 1.0
_SLACK, _DARK = 1e-3, 16        # rounding above 1; values of a model trained beyond 16 are no fractions of white
_OVERFLOWS = 1e30               # values that become infinite in training, which is an error of its own


class ArrayDataset:
    """Samples in memory as an array, which is never written to nor copied as a whole.

    Parameters
    ----------
    x : array, shape (N, ...); floats are used as they are, uint8 is divided by 255. Any memory layout is accepted
    t : array of N whole numbers, optional; the classes of the samples
    classes : names of the classes, optional
    augmentation : Augmentation, optional; for images that are uint8, or floats in [0, 1]
    shape : tuple of int, optional; the expected shape of a sample
    owner : str; the name in an error

    Attributes
    ----------
    keep_pixels : bool; return uint8 as it is, for a network that divides by 255 itself
    range : (least, greatest) value of images, after the division of uint8; None for other arrays

    Raises
    ------
    ShapeError, DTypeError, InputError : an array or labels that cannot be used

    >>> data = ArrayDataset(np.full((2, 4, 4, 1), 255, np.uint8), [0, 1], shape=(4, 4, 1))
    >>> data.batch(np.array([1])).max(), data.labels
    (np.float32(1.0), array([0, 1]))
    """

    names = digests = preprocessing = None
    keep_pixels = False

    def __init__(self, x, t=None, classes=None, augmentation=None, shape=None, owner="ArrayDataset"):
        x = _as_samples(x, owner)
        if shape is not None:
            check_batch(x, tuple(shape), owner, "x")
        _check_all_finite(x, owner)
        self._x, self.augmentation = x, augmentation
        self._dtype = np.dtype(np.float64 if x.dtype.kind == "f" and x.dtype.itemsize > 4 else np.float32)
        self.shape = x.shape[1:]
        self.labels = None if t is None else _as_labels(t, len(x), classes, owner)
        self.classes = None if classes is None else tuple(str(name) for name in classes)

    def __len__(self):
        return len(self._x)

    @property
    def range(self):
        if self._x.dtype == np.uint8:
            return _PIXELS
        return (float(self._x.min()), float(self._x.max())) if self._x.ndim == 4 else None

    def batch(self, samples, passes=None, seed=0):
        """Return the samples with these numbers: ndarray, (n,) + shape, float32 (float64 where x is).

        Parameters
        ----------
        samples : ndarray, shape (n,), int64; or a slice
        passes : ndarray, shape (n,), int64, or None; the pass over the data that each belongs to, None for the samples
            without augmentation
        seed : int; of the augmentation
        """
        x = self._x[samples if isinstance(samples, slice) else _as_slice(samples)]
        if self.augmentation is not None and passes is not None:
            return self.augmentation.apply(x, seed, passes, samples, channels=self.shape[-1])
        if x.dtype == np.uint8 and not self.keep_pixels:
            return np.divide(x, 255, dtype=np.float32)
        # A slice is not copied where a network can take it as it is. It never writes to it.
        if x.dtype == self._dtype and x.flags.carray:
            return x
        return np.require(x, x.dtype if x.dtype == np.uint8 else self._dtype, ["C", "A", "W"])


class JoinedDataset:
    """The arrays of several inputs as one dataset: each sample flattened, side by side (core.memory.join).

    Parameters
    ----------
    parts : list of ArrayDataset
    owner : str; the name in an error

    >>> data = JoinedDataset([ArrayDataset(np.zeros((5, 2, 2))), ArrayDataset(np.ones((5, 1)))])
    >>> data.shape, data.batch(np.array([3])).tolist()
    ((5,), [[0.0, 0.0, 0.0, 0.0, 1.0]])
    """

    names = digests = preprocessing = labels = classes = None

    def __init__(self, parts, owner="JoinedDataset"):
        self._parts = parts
        if len(set(map(len, parts))) > 1:
            raise ShapeError(f"{owner}: expected as many samples of each input, got {', '.join(map(str, map(len, parts)))}.")
        self.shape = (sum(math.prod(part.shape) for part in parts),)
        ranges = [part.range for part in parts if part.range is not None]
        self.range = (min(low for low, _ in ranges), max(high for _, high in ranges)) if ranges else None

    def __len__(self):
        return len(self._parts[0])

    def batch(self, samples, passes=None, seed=0):
        """Return the samples with these numbers: ndarray, (n, D)."""
        return join([part.batch(samples) for part in self._parts])


class ImageDataset:
    """Images of files, from their cache.

    Parameters
    ----------
    pixels : PixelCache or MemoryPixels
    preprocessing : Preprocessing; the one that `pixels` were made with
    manifest : Manifest, optional; provides names, labels, classes, augmentation and the paper's versions
    names : list of str, optional; where there is no manifest

    Attributes
    ----------
    digests, pixel_digests : ndarray, shape (n, 32), uint8; SHA-256 of each file, and of what it shows in any format
    range : (0, 1), that of all pixels
    facts : ndarray, shape (n, 3); width, height and whether in colour of each file; None for images in memory
    """

    range = _PIXELS

    def __init__(self, pixels, preprocessing, manifest=None, names=None):
        self._pixels, self.preprocessing, self.manifest, self._names = pixels, preprocessing, manifest, names
        self.shape, self.facts = preprocessing.shape, pixels.facts
        self.digests, self.pixel_digests = pixels.file_digests, pixels.pixel_digests
        self.labels = None if manifest is None else manifest.labels
        self.classes = None if manifest is None else manifest.classes

    def __len__(self):
        return len(self._pixels)

    @property
    def names(self):
        """The name of each image: list of str."""
        return self._names if self.manifest is None else self.manifest.names

    def batch(self, samples, passes=None, seed=0):
        """Return the images with these numbers: ndarray, (n, H, W, C), float32, in [0, 1].

        The arguments are those of `ArrayDataset.batch`. A version of the paper's protocol is the same in every pass.
        """
        pixels, channels, manifest = self._pixels.read(samples), self.preprocessing.channels, self.manifest
        if manifest is not None and manifest.techniques is not None:
            return manifest.augmentation.apply(pixels, manifest.seed, 0, manifest.versions[samples], channels,
                                               technique=manifest.techniques[samples])
        if manifest is None or manifest.augmentation is None or passes is None:
            return to_input(pixels, self.preprocessing)
        return manifest.augmentation.apply(pixels, seed, passes, samples, channels)


class Subset:
    """Some samples of a dataset, by their numbers; nothing is copied, and each is augmented as in the whole.

    >>> some = Subset(ArrayDataset(np.arange(8.0).reshape(4, 2), [0, 1, 0, 1]), np.array([3, 0]))
    >>> some.batch(np.array([0])), some.labels, len(some)
    (array([[6., 7.]]), array([1, 0]), 2)
    """

    def __init__(self, data, numbers):
        self._data, self._numbers = data, numbers
        for name in ("labels", "digests", "pixel_digests"):
            column = getattr(data, name, None)
            setattr(self, name, None if column is None else column[numbers])
        self.pixel_digests = self.digests if self.pixel_digests is None else self.pixel_digests

    def __len__(self):
        return len(self._numbers)

    def __getattr__(self, name):
        return getattr(vars(self)["_data"], name)

    def batch(self, samples, passes=None, seed=0):
        """Return the samples with these numbers, as the dataset does."""
        return self._data.batch(self._numbers[samples], passes, seed)


def open_dataset(x, preprocessing=None, classes=None, owner="open_dataset", workers=None, progress=False,
                 unreadable=None):
    """Return x as a dataset: an array, a Manifest, an image file or a list of them, or a dataset already.

    Parameters
    ----------
    preprocessing : Preprocessing; how files are read, None where the network does not take images
    classes : names of the classes, optional, for an array
    owner : str; the name in an error
    workers, progress, unreadable : as for `PixelCache.prepare`; of a list of files
    """
    if hasattr(x, "batch") and hasattr(x, "labels"):
        return x
    is_manifest = hasattr(x, "open") and hasattr(x, "labels")       # not imported: a manifest imports this module
    files = [x] if isinstance(x, (str, os.PathLike)) else x
    is_files = isinstance(files, (list, tuple)) and files and all(isinstance(f, (str, os.PathLike)) for f in files)
    if not is_files and not is_manifest:
        return ArrayDataset(x, classes=classes, owner=owner)
    if preprocessing is None:
        raise InputError(f"{owner}: this network does not take images of 1 or 3 channels; give it an array.")
    if is_manifest:
        return x.open(preprocessing, workers=workers, progress=progress)
    files = [os.fspath(file) for file in files]
    pixels = PixelCache.prepare(files, preprocessing, workers, progress, unreadable=unreadable)
    names = [file for number, file in enumerate(files) if number not in (unreadable or {})]
    return None if pixels is None else ImageDataset(pixels, preprocessing, names=names)


def image_files(names):
    """Return the files that names of files, folders and patterns stand for, in their order: list of str.

    A folder stands for the images in it and in its folders, sorted. A pattern with * ? or [], which some shells leave
    to the program, stands for what it matches, sorted; not where there is a file of that very name.

    Raises
    ------
    InputError : a pattern that matches nothing; folders without images, and nothing else

    Warns
    -----
    ImageWarning : what is left out of a folder: links that lead outside of it, and scans of kinds that are not read; a
        folder without images
    """
    files, said = [], []
    for name in map(os.fspath, names):
        found = [name]
        if any(sign in name for sign in "*?[") and not os.path.lexists(name):
            found = sorted(glob(name, recursive=True))
            if not found:
                raise InputError(f"{printable(name)}: no file matches this pattern.")
        for path in found:
            if os.path.isdir(path):
                inside, others = images_in(path)
                about = [] if inside else [f"there is no image in this folder ({', '.join(EXTENSIONS)})."]
                about += [f"{'Left' if about else 'left'} out: {others}"] if others else []
                said += [f"{printable(path)}: {' '.join(about)}"] if about else []
                files += inside
            else:
                files.append(path)
    if said and not files:
        raise InputError("\n  ".join(said))
    for sentence in said:
        warnings.warn(sentence, ImageWarning, stacklevel=3)
    return files


def check_scale(data, trained, owner):
    """Warn of images on another scale than those that a model was trained on.

    Parameters
    ----------
    data : dataset; one without a `range` is not checked
    trained : (least, greatest) value of the images in training, or None where it is not known
    """
    given = None if trained is None else getattr(data, "range", None)
    if given is None or given[1] > _OVERFLOWS:
        return
    (low, high), (least, most) = given, trained
    if least >= 0 and most <= 1 and not -_SLACK <= low <= high <= 1 + _SLACK:
        white = next((white for white in (255, 4095, 65535) if high <= white), None)
        way = "Pass uint8, or divide by 255." if white == 255 else f"Divide by {white:,}." if white else "Scale them."
        on, way = "pixels from 0 to 1 (uint8 is divided by 255)", way if low >= 0 else "Prepare x as in training."
    elif most > _DARK and 0 <= low and 0 < high <= 1:
        on, way = f"values from {least:g} to {most:g}", "uint8 and files are divided by 255. Prepare x as in training."
    else:
        return
    warnings.warn(f"{owner}: x holds values from {low:g} to {high:g}, but the model was trained on {on}. {way}",
                  ImageWarning, stacklevel=4)


def schedule(n, batch_size, epoch, steps, seed, shuffle=True, start=0):
    """Yield (samples, passes), both (B,) int64, for each step of an epoch.

    Without `steps` an epoch is one pass over the n samples, and its last batch may be smaller. With a number of steps
    every batch is full: the stream of samples, pass after pass, continues through the epochs, so that position
    p = (epoch * steps + step) * batch_size + i belongs to pass p // n. Each pass has its own order.

    Parameters
    ----------
    epoch : int from 0
    steps : int or None
    seed : int; of the order, which is that of the numbers where shuffle is False
    start : int; the first step to yield

    >>> [samples.tolist() for samples, _ in schedule(3, 2, 0, 3, seed=7, shuffle=False)]
    [[0, 1], [2, 0], [1, 2]]
    """
    seed, size = check_seed(seed), n if steps is None else steps * batch_size
    order, order_of = None, None
    for first in range(start * batch_size, size, batch_size):
        positions = epoch * size + np.arange(first, min(first + batch_size, size))
        passes, samples = np.divmod(positions, n)
        for number in np.unique(passes) if shuffle else ():
            if number != order_of:
                order, order_of = permutation(seed, Stream.SHUFFLE, int(number), n), number
            here = passes == number
            samples[here] = order[samples[here]]
        yield samples, passes


def load(data, schedule, seed, workers=1, part=None):
    """Yield (samples, x) for each step of a schedule, x = data.batch(samples, passes, seed), in order.

    Where a process has but a part of each batch, part(n) is the slice of a batch of n samples that x has.

    `workers` threads prepare at most two batches each ahead of the current one; with 0 each batch is prepared when it
    is needed. Errors are raised in the step they belong to. Closing the generator ends the threads.
    """
    def step(numbers):
        samples, passes = numbers
        own = slice(None) if part is None else part(len(samples))
        return samples, data.batch(samples[own], passes[own], seed)

    yield from in_order(step, schedule, workers, 2 * workers, "minicnn-load", _work_alone)


def _work_alone():
    """Run kernels of this thread on one thread: the others are for the training step."""
    from minicnn.kernels.runtime.threads import work_alone
    work_alone()


def _as_slice(samples):
    """Return the numbers as a slice where each follows the one before."""
    first, n = int(samples[0]), len(samples)
    if samples[-1] - first == n - 1 and (samples == np.arange(first, first + n)).all():
        return slice(first, first + n)
    return samples


# ---- Checks of ArrayDataset ------------------------------------------------------------------------------------------

def _as_samples(x, owner):
    """Return x as an ndarray (N, ...) of numbers, without a copy where it is one, or raise."""
    if isinstance(x, np.ndarray) and x.dtype.kind in "fiub" and not isinstance(x, np.ma.MaskedArray):
        x = np.asarray(x)       # read-only or strided is fine: batches are copies
    else:
        if isinstance(x, (list, tuple)) and any(map(np.ma.is_masked, x)):
            raise InputError(f"{owner}: x is a list of arrays of which {sum(map(np.ma.is_masked, x))} are masked in places. "
                             "Fill them first: [image.filled(0) for image in x].")
        x = as_array(x, owner, "x", None)
    if x.ndim < 2:
        raise ShapeError(f"{owner}: expected x of shape (N, ...), got {x.shape}. One sample still needs a batch axis; "
                         "try x[np.newaxis].")
    if not x.size:
        raise ShapeError(f"{owner}: x of shape {x.shape} holds no samples.")
    if x.ndim == 4 and x.dtype.kind in "iub" and x.dtype != np.uint8:
        raise DTypeError(f"{owner}: images are floats, which are used as they are, or uint8, which is divided by 255; "
                         f"got {x.dtype}. Say which is meant: x.astype('uint8') or x.astype('float32').")
    return x


def _check_all_finite(x, owner, block=256):
    # Block by block: a mask of a large array at once would be a large array.
    if x.dtype.kind == "f":
        for i in range(0, len(x), block):
            if not all_finite(x[i:i + block]):
                check_finite(x, owner, "x")


def _as_labels(t, n, classes, owner):
    """Return t as (n,) int64 classes, or raise."""
    t = as_array(as_numbers(t), owner, "t", np.float64)
    if t.ndim == 2 and t.shape[1] > 1:
        raise ShapeError(f"{owner}: expected t of shape ({n},), got {t.shape}. If its rows are one-hot, try "
                         "t.argmax(axis=1).")
    if t.shape not in ((n,), (n, 1)):
        raise ShapeError(f"{owner}: expected t of shape ({n},), one class for each sample, got {t.shape}.")
    t, most = t.reshape(n), 2**31 if classes is None else len(classes)
    wrong = np.flatnonzero(~((t == np.floor(t)) & (t >= 0) & (t < most)))
    if wrong.size:
        known = "whole numbers from 0" if classes is None else f"classes 0 to {most - 1} ({', '.join(map(str, classes))})"
        raise InputError(f"{owner}: expected {known} in t, got {t[wrong[0]]:g} at [{wrong[0]}].")
    return t.astype(np.int64)
