"""The pixel cache: every image of a collection decoded once, as uint8, in one file that is read by position.

    images          n x height x width (x 3), uint8; grey stored once
    file digests    n x 32, SHA-256 of each file's bytes
    pixel digests   n x 32, SHA-256 of each image's full size and stored pixels: the same for an image that is saved
                    twice, in any formats
    facts           n x 3, int32: width and height of each file as it is shown, and whether it is in colour
    bits            n, uint8: how many bits the values of a 16-bit file need, 0 for other files
    remarks         n, uint8: what is to be said of each, a decoding.Remark
    check           32, SHA-256 of the five blocks before

The file is named by the SHA-256 of the preprocessing (with the decoder's version) and of all file digests: changed
content is another cache. Nothing is mapped or kept in memory, so a collection may be larger than memory.
"""

import hashlib
import json
import os
import secrets
import tempfile
import threading
import time
import warnings
from contextlib import suppress
from copy import copy
from typing import NamedTuple

import numpy as np

from minicnn.core.files import open_flags, private_folder, write_atomic
from minicnn.core.progress import Progress
from minicnn.core.untrusted import Problems, open_limited
from minicnn.data.decoding import ImageWarning, Remark, about_bits, open_planes, quiet, read_bytes
from minicnn.data.preprocessing import resize, stretch
from minicnn.data.workers import in_order
from minicnn.errors import CheckpointError, ImageError, InputError, ManifestError, printable

__all__ = ["PixelCache", "MemoryPixels", "CachePlace", "decode_file", "keep", "recall"]

_AHEAD = 64                         # images decoded ahead: bounds the memory of decoding
_MOST_BYTES = 8 * 2**30             # of all caches together; the least recently used are removed
_STALE = 24 * 3600                  # seconds after which an unfinished cache is removed
_DIGEST, _FACTS = 32, 12            # bytes
_TAIL = 2 * _DIGEST + _FACTS + 2    # of each image


class CachePlace(NamedTuple):
    """Where the images of a PixelCache are.

    name : str, of the file in the folder of caches; "" where it has none
    rows : ndarray, int64; the images of the file that are these
    images : int; those of the file
    check : bytes; the SHA-256 at its end
    """

    name: str
    rows: np.ndarray
    images: int
    check: bytes


class PixelCache:
    """Decoded images in a file; see `prepare`.

    Attributes
    ----------
    file_digests, pixel_digests : ndarray, shape (n, 32), uint8
    facts : ndarray, shape (n, 3), int32; width, height and whether in colour of each file, before preprocessing
    preprocessing : Preprocessing
    decoded : int; how many files `prepare` decoded, 0 where the cache was found
    """

    def __init__(self, block, preprocessing, rows, file_digests, pixel_digests, facts, decoded):
        self._block, self._rows, self.preprocessing, self.decoded = block, rows, preprocessing, decoded
        self.file_digests, self.pixel_digests, self.facts = file_digests, pixel_digests, facts

    def __len__(self):
        return len(self._rows)

    @classmethod
    def prepare(cls, paths, preprocessing, workers=None, progress=False, root=None, remark=True, unreadable=None):
        """Decode the files at `paths`, or find them in the cache.

        Parameters
        ----------
        paths : list of str
        preprocessing : Preprocessing
        workers : int >= 0, threads that decode; the cores available where None. The result does not depend on it
        progress : bool, show a bar on stderr
        root : real path, optional; no file outside of it is read, even if a path has changed since it was checked
        remark : bool; warn of them
        unreadable : dict, optional; receives {number in `paths`: sentence} of the files that cannot be read, which are
            left out instead of an error. Where none is left the result is None

        Raises
        ------
        ManifestError : files cannot be read; for each reason it names two and counts all
        CheckpointError : the disk has no space for the cache

        Warns
        -----
        ImageWarning : how many images have a remark (decoding.Remark), or 16 bits whose upper ones are not used, whether
            they are decoded or found in the cache
        """
        paths, failed = [os.fspath(path) for path in paths], {}
        try:
            return cls._prepare(paths, preprocessing, workers, progress, root, remark, failed)
        except ManifestError:
            if unreadable is None or not failed:
                raise
        unreadable |= failed
        left = [path for number, path in enumerate(paths) if number not in failed]
        return cls._prepare(left, preprocessing, workers, progress, root, remark, {}) if left else None

    @classmethod
    def _prepare(cls, names, preprocessing, workers, progress, root, remark, failed):
        """As `prepare`; the dict `failed` receives {number: sentence} of what cannot be read before that is raised."""
        n, workers = len(names), _cores() if workers is None else workers
        digests = list(_each(lambda path: hashlib.sha256(read_bytes(path, root)).digest(), names, workers,
                             Progress(n, "reading images", "image", progress), failed))
        if failed:              # the others are decoded nevertheless, so that one error names all
            others = [number for number in range(n) if number not in failed]
            with quiet():
                for _ in _each(lambda i: decode_file(names[i], digests[i], preprocessing), others, workers,
                               Progress(len(others), "decoding images", "image", progress), failed, others):
                    pass
            _raise(failed, names)
        key = json.dumps(preprocessing.to_dict(), sort_keys=True).encode() + b"".join(digests)
        name, decoded = hashlib.sha256(key).hexdigest(), 0
        folder = private_folder("pixels", "pixel cache", "decoding without keeping it")
        block = None if folder is None else _reuse(folder / name, n, preprocessing.stored_shape, digests)
        if block is None:
            block, decoded = _fill(folder, name, names, digests, preprocessing, workers, progress, failed), n
        size = n * int(np.prod(preprocessing.stored_shape))
        tail = block.read(_TAIL * n, size)
        digests = np.frombuffer(tail, np.uint8, 2 * n * _DIGEST).reshape(2, n, _DIGEST)
        facts = np.frombuffer(tail, "<i4", 3 * n, offset=2 * n * _DIGEST).reshape(n, 3)
        bits, remarks = np.frombuffer(tail, np.uint8, offset=n * (_TAIL - 2)).reshape(2, n)
        sentences = [f"{count:,} of {n:,} images: each {kind.sentence}." for kind in Remark
                     if (count := np.count_nonzero(remarks & kind))]
        for sentence in [*sentences, *about_bits(bits, preprocessing.bits)] if remark else ():
            warnings.warn(sentence, ImageWarning, stacklevel=5)
        return cls(block, preprocessing, np.arange(n), *digests, facts, decoded)

    @property
    def place(self):
        """A CachePlace, from which another process can `reopen` it."""
        size, path = os.fstat(self._block.descriptor).st_size, self._block.path
        n = size // (int(np.prod(self.preprocessing.stored_shape)) + _TAIL)
        return CachePlace("" if path is None else path.name, self._rows, n, self._block.read(_DIGEST, size - _DIGEST))

    @classmethod
    def reopen(cls, place, preprocessing):
        """Return the cache at a CachePlace, without digests and facts; None where this process finds it not."""
        folder = private_folder("pixels", "pixel cache", "decoding without keeping it") if place.name else None
        with suppress(OSError):
            if folder is not None:
                block = _Block(os.open(folder / place.name, open_flags("RDONLY", "NOFOLLOW")))
                size = os.fstat(block.descriptor).st_size
                if size > _DIGEST and block.read(_DIGEST, size - _DIGEST) == place.check:
                    return cls(block, preprocessing, place.rows, None, None, None, 0)
        return None

    def take(self, rows):
        """Return the cache of some of these images, in the order of `rows`; the file is shared."""
        return PixelCache(self._block, self.preprocessing, self._rows[rows], self.file_digests[rows],
                          self.pixel_digests[rows], self.facts[rows], self.decoded)

    def read(self, samples):
        """Return the images with these numbers, or of a slice: ndarray, shape (n,) + stored_shape, uint8."""
        rows = self._rows[samples]
        out = np.empty((len(rows),) + self.preprocessing.stored_shape, np.uint8)
        for image, row in zip(out, rows):
            if not self._block.fill(image, int(row) * image.nbytes):
                raise ManifestError("the pixel cache was cut off while it was in use. Start again.")
        return out


class MemoryPixels:
    """Grey images in memory, with the interface of a PixelCache.

    Parameters
    ----------
    images : ndarray, shape (n, H, W), uint8
    preprocessing : Preprocessing to apply; None leaves them as they are
    """

    facts = None        # there are no files

    def __init__(self, images, preprocessing=None):
        if preprocessing is not None and preprocessing.color != "grey":
            raise InputError(f"Manifest: grey images cannot be prepared with color={preprocessing.color!r}.")
        self._given = images
        if preprocessing is not None and (images.shape[1:] != preprocessing.stored_shape or preprocessing.changes_grey):
            images = np.stack([resize(image, preprocessing) for image in images])
        self.preprocessing, self._images, self._rows = preprocessing, images, np.arange(len(images))
        digests = b"".join(hashlib.sha256(np.ascontiguousarray(image)).digest() for image in images)
        self.file_digests = self.pixel_digests = np.frombuffer(digests, np.uint8).reshape(-1, 32)

    def __len__(self):
        return len(self._rows)

    def prepare(self, preprocessing):
        """Return the same images as they were given, prepared by `preprocessing`."""
        return MemoryPixels(self._given, preprocessing).take(self._rows)

    def take(self, rows):
        """Return some of these images, in the order of `rows`, without a copy."""
        taken = copy(self)
        taken._rows = self._rows[rows]
        taken.file_digests = taken.pixel_digests = self.file_digests[rows]
        return taken

    def read(self, samples):
        """Return the images with these numbers: ndarray, shape (len(samples), H, W), uint8."""
        return self._images[self._rows[samples]]


_kept, _MOST_KEPT = {}, 8           # of this process: runs and subsets of one collection need them again


def keep(name, data):
    """Keep bytes that were computed from pixels under `name`, in this process and beside the pixels if they can be."""
    while len(_kept) >= _MOST_KEPT:
        del _kept[next(iter(_kept))]
    _kept[name] = data
    folder = _quiet_folder()
    if folder is not None:
        with suppress(CheckpointError):         # it can be computed again
            write_atomic(folder / name, [data, hashlib.sha256(data).digest()])


def recall(name):
    """Return the bytes that `keep` kept under `name`, or None where there are none or they are damaged."""
    if name in _kept:
        return _kept[name]
    folder = _quiet_folder()
    if folder is None:
        return None
    try:
        with open_limited(folder / name, 2**30) as file:
            data = file.read()
        os.utime(folder / name)
    except (OSError, ValueError):
        return None
    return data[:-_DIGEST] if hashlib.sha256(data[:-_DIGEST]).digest() == data[-_DIGEST:] else None


def _quiet_folder():
    """Return the folder of the cache or None; opening the pixels has warned of one that cannot be used."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return private_folder("pixels", "pixel cache", "")


class _Block:
    """An open file, closed when the last cache that reads from it is gone."""

    _turn = threading.Lock()

    def __init__(self, descriptor, path=None):
        self.descriptor, self.path = descriptor, path

    def read(self, size, place):
        """Return so many bytes from a place on, or what there is of them."""
        if hasattr(os, "pread"):
            return os.pread(self.descriptor, size, place)
        with self._turn:        # Windows reads where the descriptor stands, which all threads share
            os.lseek(self.descriptor, place, os.SEEK_SET)
            return os.read(self.descriptor, size)

    def fill(self, image, place):
        """Read a uint8 array from a place on; return whether the file was long enough."""
        if hasattr(os, "preadv"):
            return os.preadv(self.descriptor, [image.data], place) == image.nbytes
        content = self.read(image.nbytes, place)
        if len(content) == image.nbytes:
            image[...] = np.frombuffer(content, np.uint8).reshape(image.shape)
        return len(content) == image.nbytes

    def __del__(self, close=os.close):      # bound here: at exit modules are cleared before objects
        close(self.descriptor)


def _cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _each(function, items, workers, progress, failed, numbers=None):
    """Yield function(item) in order, by `workers` threads; None where it raises an ImageError.

    Its sentence goes to the dict `failed` under the number of the item, or that at its place in `numbers`.
    """
    def attempt(item):
        try:
            return function(item)
        except ImageError as error:
            return error

    with progress:
        for i, result in enumerate(in_order(attempt, items, workers, _AHEAD, "minicnn-decode")):
            progress.advance()
            if isinstance(result, ImageError):
                failed[i if numbers is None else numbers[i]] = str(result)
                result = None
            yield result


def _raise(failed, names):
    """Raise a ManifestError if there is any file that cannot be read."""
    problems = Problems("images that cannot be read")
    for number, sentence in failed.items():
        place = printable(names[number])
        problems.add(sentence.removeprefix(f"{place}: "), place)
    problems.raise_any()


def decode_file(path, digest, preprocessing, otherwise="changed while it was being read. Start again."):
    """Return (pixels, their digest, facts as bytes, bits as a byte, Remark) of a file whose bytes have this digest.

    Raises ImageError, with what it says `otherwise`.
    """
    data, name = read_bytes(path), printable(path)
    if hashlib.sha256(data).digest() != digest:
        raise ImageError(f"{name}: {otherwise}")
    planes, remark, used = open_planes(data, name, preprocessing.color, preprocessing.bits)
    pixels = stretch(planes, preprocessing)
    of_pixels = hashlib.sha256(f"{planes[0].size} ".encode() + pixels.tobytes()).digest()
    facts = np.array([*planes[0].size, Remark.COLOURED in remark], "<i4").tobytes()
    return pixels, of_pixels, facts, bytes([used]), remark & ~Remark.COLOURED


def _fill(folder, name, paths, digests, preprocessing, workers, progress, failed):
    """Decode all files into a new cache; return it as a _Block. `failed` is as of `_each`."""
    temporary = None if folder is None else folder / f".{name[:16]}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    pixel_digests, facts, bits, remarks = [], [], [], []
    try:
        with (tempfile.TemporaryFile() if temporary is None else open(temporary, "xb+", opener=_private)) as file:
            with quiet():
                for decoded in _each(lambda item: decode_file(*item, preprocessing), zip(paths, digests), workers,
                                     Progress(len(paths), "decoding images", "image", progress), failed):
                    if not failed:
                        pixels, of_pixels, of_file, used, remark = decoded
                        file.write(pixels.data)
                        pixel_digests.append(of_pixels)
                        facts.append(of_file)
                        bits.append(used)
                        remarks.append(bytes([remark]))
            _raise(failed, paths)
            tail = b"".join(digests + pixel_digests + facts + bits + remarks)
            file.write(tail + hashlib.sha256(tail).digest())
            file.flush()
            block = _Block(os.dup(file.fileno()), None if folder is None else folder / name)
        if temporary is not None:
            try:
                os.replace(temporary, folder / name)
            except PermissionError:
                block = None                # closes it: Windows renames no file that is open
                os.replace(temporary, folder / name)
                block = _Block(os.open(folder / name, open_flags("RDONLY", "NOFOLLOW")), folder / name)
            with suppress(OSError):         # another process may remove caches as well
                _prune(folder, keep=name)
    except BaseException as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise CheckpointError(f"the pixel cache could not be written: {error.strerror}. Free some space, or set "
                                  "MINICNN_CACHE_DIR to a folder on another disk.") from error
        raise
    return block


def _private(path, flags):
    return os.open(path, flags, 0o600)      # images of patients: readable by the owner alone


def _reuse(path, n, shape, digests):
    """Return the cache at `path` as a _Block if it is complete and of these files, else None."""
    try:
        descriptor = os.open(path, open_flags("RDONLY", "NOFOLLOW"))
    except OSError:
        return None
    block, size = _Block(descriptor, path), n * int(np.prod(shape))
    tail = block.read(_TAIL * n + _DIGEST, size)
    whole = os.fstat(descriptor).st_size == size + _TAIL * n + _DIGEST
    check = hashlib.sha256(tail[:-_DIGEST]).digest()
    if not whole or tail[:_DIGEST * n] != b"".join(digests) or check != tail[-_DIGEST:]:
        return None
    os.utime(path)
    return block


def _prune(folder, keep):
    """Remove stale unfinished caches, and the least recently used ones until the rest fits."""
    entries = [(entry.stat().st_mtime, entry) for entry in os.scandir(folder) if entry.name != keep]
    left = _MOST_BYTES - os.path.getsize(folder / keep)
    for used, entry in sorted(entries, key=lambda pair: -pair[0]):
        if entry.name.endswith(".tmp"):
            remove = used < time.time() - _STALE
        else:
            left -= entry.stat().st_size
            remove = left < 0
        if remove:
            os.unlink(entry.path)
