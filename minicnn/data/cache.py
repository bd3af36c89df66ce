"""The pixel cache: every picture of a collection decoded once, as uint8, in one file that is read by position.

    pictures        n x height x width (x 3), uint8; grey stored once
    file digests    n x 32, SHA-256 of each file's bytes
    pixel digests   n x 32, SHA-256 of each decoded picture at full size: the same picture in two files has the same one
    check           32, SHA-256 of the two blocks before

Its name is the SHA-256 of the preprocessing (with the decoder's version) and of all file digests: changed content is
another cache. Nothing is mapped or held: a collection larger than memory trains in flat memory.
"""

import hashlib
import json
import os
import secrets
import tempfile
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from minicnn.data.decoder import ImageWarning, Remark, open_planes, quiet, read_bytes
from minicnn.data.images import stretch
from minicnn.errors import CheckpointError, ImageError, ManifestError, printable
from minicnn.files import private_folder
from minicnn.progress import Progress

__all__ = ["PixelCache", "MemoryPixels", "Report", "default_workers", "list_problems"]

_WINDOW = 256                       # pictures under way at once: what bounds the memory of preparing
_MOST_BYTES = 8 * 2**30             # of all caches together; the oldest go first


class Report(NamedTuple):
    """How preparing went: pictures decoded (0 when reused), wall seconds, seconds inside Pillow and ours over all workers."""

    decoded: int
    seconds: float
    pillow_seconds: float
    our_seconds: float

    @property
    def images_per_second(self):
        return self.decoded / self.seconds if self.seconds else 0.0


class PixelCache:
    """Prepared pictures in a file; see `prepare`.

    Attributes
    ----------
    file_digests, pixel_digests : ndarray, shape (n, 32), uint8
    report : Report
    """

    def __init__(self, file, shape, n, report):
        self._file, self._shape, self._n, self.report = file, shape, n, report
        self._size = int(np.prod(shape))
        tail = os.pread(file.fileno(), 64 * n, n * self._size)
        self.file_digests, self.pixel_digests = np.frombuffer(tail, np.uint8).reshape(2, n, 32)

    def __len__(self):
        return self._n

    @classmethod
    def prepare(cls, paths, preprocessing, workers=None, progress=False):
        """Decode the files at `paths`, or find them decoded.

        Parameters
        ----------
        paths : list of str
        preprocessing : Preprocessing
        workers : int >= 0, threads that decode; the cores available where None
        progress : bool, show a bar on stderr

        Raises
        ------
        ManifestError
            if files cannot be read; it lists the first 20 and counts all
        """
        workers = default_workers() if workers is None else workers
        start = time.perf_counter()
        n, shape = len(paths), preprocessing.stored_shape
        with Progress(n, "reading images", "image", progress) as bar:
            digests = b"".join(_over(paths, _file_digest, workers, bar))
        name = hashlib.sha256(json.dumps(preprocessing.to_dict(), sort_keys=True).encode() + digests).hexdigest()
        folder = private_folder("pixels", "pixel cache", "decoding without keeping it")
        file = None if folder is None else _reuse(folder / name, n, int(np.prod(shape)), digests)
        if file is not None:
            return cls(file, shape, n, Report(0, time.perf_counter() - start, 0.0, 0.0))
        file, spent = _fill(folder, name, paths, preprocessing, workers, progress, digests)
        return cls(file, shape, n, Report(n, time.perf_counter() - start, *spent))

    def read(self, indices):
        """Return the pictures with these numbers: ndarray, shape (len(indices),) + stored_shape, uint8."""
        out = np.empty((len(indices), self._size), np.uint8)
        for row, i in zip(out, indices):
            if os.preadv(self._file.fileno(), [row.data], int(i) * self._size) != self._size:
                raise ManifestError("the pixel cache was cut off while it was in use. Start again.")
        return out.reshape((len(indices),) + self._shape)


class MemoryPixels:
    """Pictures that are in memory already, behind the same two doors as a PixelCache."""

    def __init__(self, images):
        self._images = images
        self.pixel_digests = np.frombuffer(b"".join(hashlib.sha256(image.tobytes()).digest() for image in images),
                                           np.uint8).reshape(len(images), 32)
        self.file_digests = self.pixel_digests

    def read(self, indices):
        return self._images[np.asarray(indices)]


def default_workers():
    """Return how many threads decode: the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def list_problems(what, problems, total=None, most=20):
    """Return a ManifestError that lists the first problems, one a line, and counts all."""
    total = len(problems) if total is None else total
    lines = [f"{what}: {total} problem{'s' if total != 1 else ''}"] + [f"  {problem}" for problem in problems[:most]]
    if total > most:
        lines.append(f"  ... and {total - most} more")
    return ManifestError("\n".join(lines))


def _over(paths, function, workers, bar):
    """Yield function(path) in order, a window at a time on `workers` threads; ImageErrors are collected and raised."""
    pool = ThreadPoolExecutor(workers) if workers else None
    problems = []

    def attempt(path):
        try:
            return function(path)
        except ImageError as error:
            return error

    try:
        for start in range(0, len(paths), _WINDOW):
            for result in (pool.map if pool else map)(attempt, paths[start:start + _WINDOW]):
                bar.advance()
                if isinstance(result, ImageError):
                    problems.append(str(result))
                elif not problems:
                    yield result
    finally:
        if pool:
            pool.shutdown(cancel_futures=True)
    if problems:
        raise list_problems("images that cannot be read", problems)


def _file_digest(path):
    return hashlib.sha256(read_bytes(path)).digest()


def _fill(folder, name, paths, preprocessing, workers, progress, digests):
    """Decode all files into a new cache; return (open file, (seconds in Pillow, our seconds))."""
    temporary = None if folder is None else folder / f".{name[:16]}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    seconds, remarks, pixel_digests = np.zeros(2), {remark: 0 for remark in Remark}, []

    def decode(path):
        began = time.perf_counter()
        data = read_bytes(path)
        opened = time.perf_counter()
        planes, found = open_planes(data, printable(path), preprocessing.color)
        pixels = stretch(planes, preprocessing)
        decoded = time.perf_counter()
        whole = hashlib.sha256(repr(planes[0].size).encode())
        for plane in planes:
            whole.update(np.asarray(plane).data)
        return pixels, whole.digest(), found, decoded - opened, opened - began + time.perf_counter() - decoded

    file = tempfile.TemporaryFile() if temporary is None else open(temporary, "xb+")
    try:
        with Progress(len(paths), "decoding images", "image", progress) as bar, quiet():
            for pixels, digest, found, theirs, ours in _over(paths, decode, workers, bar):
                file.write(pixels.data)
                pixel_digests.append(digest)
                seconds += theirs, ours
                for remark in found:
                    remarks[remark] += 1
        tail = digests + b"".join(pixel_digests)
        file.write(tail + hashlib.sha256(tail).digest())
        file.flush()
        if temporary is not None:
            os.replace(temporary, folder / name)
            _prune(folder, keep=name)
    except BaseException as error:
        file.close()
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and not isinstance(error, (ImageError, ManifestError)):
            raise CheckpointError(f"the pixel cache could not be written: {error.strerror or error}. Free some space, or "
                                  "set MINICNN_CACHE_DIR to a folder with room.") from error
        raise
    for remark, count in remarks.items():
        if count:
            warnings.warn(f"{count} of {len(paths)} images: each {remark.sentence}.", ImageWarning, stacklevel=4)
    return file, tuple(seconds.tolist())


def _reuse(path, n, size, digests):
    """Return the cache at `path`, open, if it is whole and of these files; else None."""
    try:
        file = open(path, "rb")
    except OSError:
        return None
    tail = os.pread(file.fileno(), 64 * n + 32, n * size)
    whole = os.fstat(file.fileno()).st_size == n * size + 64 * n + 32
    if whole and tail[:32 * n] == digests and hashlib.sha256(tail[:-32]).digest() == tail[-32:]:
        os.utime(path)
        return file
    file.close()
    return None


def _prune(folder, keep):
    """Remove the caches used longest ago until all together fit."""
    found = sorted((path for path in folder.iterdir() if path.name != keep and len(path.name) == 64),
                   key=lambda path: path.stat().st_mtime, reverse=True)
    left = _MOST_BYTES - (folder / keep).stat().st_size
    for path in found:
        left -= path.stat().st_size
        if left < 0:
            path.unlink(missing_ok=True)
