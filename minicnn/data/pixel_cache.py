"""The pixel cache: every picture of a collection decoded once, as uint8, in one file that is read by position.

    pictures        n x height x width (x 3), uint8; grey stored once
    file digests    n x 32, SHA-256 of each file's bytes
    pixel digests   n x 32, SHA-256 of each picture's full size and stored pixels: a picture saved twice, in whatever
                    formats, has the same one
    facts           n x 3, int32: width and height of each file as it is shown, and whether it is in colour
    check           32, SHA-256 of the three blocks before

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
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from minicnn.core.files import private_folder
from minicnn.core.progress import Progress
from minicnn.core.untrusted import Problems
from minicnn.data.decoding import ImageWarning, Remark, open_planes, quiet, read_bytes
from minicnn.data.preprocessing import resize, stretch
from minicnn.errors import CheckpointError, ImageError, InputError, ManifestError, printable

__all__ = ["PixelCache", "MemoryPixels", "Report"]

_WINDOW = 64                        # pictures under way at once: what bounds the memory of preparing
_MOST_BYTES = 8 * 2**30             # of all caches together; those used longest ago go first
_STALE = 24 * 3600                  # seconds after which an unfinished cache belongs to nobody
_DIGEST, _FACTS = 32, 12            # bytes
_TAIL = 2 * _DIGEST + _FACTS        # of each picture


class Report(NamedTuple):
    """How preparing went.

    Pictures decoded (0 where all were found), wall seconds, and seconds of computing inside Pillow and outside of it,
    summed over the workers.
    """

    decoded: int
    seconds: float
    pillow_seconds: float
    our_seconds: float

    @property
    def images_per_second(self):
        return self.decoded / self.seconds


class PixelCache:
    """Prepared pictures in a file; see `prepare`.

    Attributes
    ----------
    file_digests, pixel_digests : ndarray, shape (n, 32), uint8
    facts : ndarray, shape (n, 3), int32; width, height and whether in colour of each file, before it is prepared
    preprocessing : Preprocessing
    report : Report
    """

    def __init__(self, block, preprocessing, rows, file_digests, pixel_digests, facts, report):
        self._block, self._rows, self.preprocessing, self.report = block, rows, preprocessing, report
        self.file_digests, self.pixel_digests, self.facts = file_digests, pixel_digests, facts

    def __len__(self):
        return len(self._rows)

    @classmethod
    def prepare(cls, paths, preprocessing, workers=None, progress=False, root=None):
        """Decode the files at `paths`, or find them decoded.

        Parameters
        ----------
        paths : list of str
        preprocessing : Preprocessing
        workers : int >= 0, threads that decode; the cores available where None. Never changes a bit
        progress : bool, show a bar on stderr
        root : real path, optional; no file outside of it is read, whatever became of the paths since they were checked

        Raises
        ------
        ManifestError : files cannot be read; it lists the first 20 and counts all
        CheckpointError : there is no room for the cache

        Warns
        -----
        ImageWarning : how many pictures are transparent, or have several frames
        """
        began = time.perf_counter()
        n, workers = len(paths), _cores() if workers is None else workers
        names = [os.fspath(path) for path in paths]
        with Progress(n, "reading images", "image", progress) as bar:
            digests = list(_over(lambda path: _file_digest(path, root), names, workers, bar))
        key = json.dumps(preprocessing.to_dict(), sort_keys=True).encode() + b"".join(digests)
        name, spent, decoded = hashlib.sha256(key).hexdigest(), (0.0, 0.0), 0
        folder = private_folder("pixels", "pixel cache", "decoding without keeping it")
        block = None if folder is None else _reuse(folder / name, n, preprocessing.stored_shape, digests)
        if block is None:
            block, spent = _fill(folder, name, names, digests, preprocessing, workers, progress)
            decoded = n
        size = n * int(np.prod(preprocessing.stored_shape))
        tail = os.pread(block.descriptor, _TAIL * n, size)
        digests = np.frombuffer(tail, np.uint8, 2 * n * _DIGEST).reshape(2, n, _DIGEST)
        facts = np.frombuffer(tail, "<i4", offset=2 * n * _DIGEST).reshape(n, 3)
        return cls(block, preprocessing, np.arange(n), *digests, facts,
                   Report(decoded, time.perf_counter() - began, *spent))

    def take(self, rows):
        """Return the cache of some of these pictures, in the order of `rows`; the file is shared."""
        return PixelCache(self._block, self.preprocessing, self._rows[rows], self.file_digests[rows],
                          self.pixel_digests[rows], self.facts[rows], self.report)

    def read(self, samples):
        """Return the pictures with these numbers: ndarray, shape (len(samples),) + stored_shape, uint8."""
        out = np.empty((len(samples),) + self.preprocessing.stored_shape, np.uint8)
        for picture, row in zip(out, self._rows[samples]):
            if os.preadv(self._block.descriptor, [picture.data], int(row) * picture.nbytes) != picture.nbytes:
                raise ManifestError("the pixel cache was cut off while it was in use. Start again.")
        return out


class MemoryPixels:
    """Grey pictures that are in memory already, behind the doors of a PixelCache.

    Parameters
    ----------
    pictures : ndarray, shape (n, H, W), uint8
    preprocessing : Preprocessing by which they are prepared; None leaves them as they are
    """

    facts = None        # there are no files

    def __init__(self, pictures, preprocessing=None):
        if preprocessing is not None and preprocessing.color != "grey":
            raise InputError("these pictures are grey; they cannot be prepared with color='rgb'.")
        self._given = pictures
        if preprocessing is not None and (pictures.shape[1:] != preprocessing.stored_shape or preprocessing.changes_grey):
            pictures = np.stack([resize(picture, preprocessing) for picture in pictures])
        self.preprocessing, self._pictures, self._rows = preprocessing, pictures, np.arange(len(pictures))
        digests = b"".join(hashlib.sha256(np.ascontiguousarray(picture)).digest() for picture in pictures)
        self.file_digests = self.pixel_digests = np.frombuffer(digests, np.uint8).reshape(-1, 32)

    def __len__(self):
        return len(self._rows)

    def prepare(self, preprocessing):
        """Return the same pictures as they were given, prepared by `preprocessing`."""
        return MemoryPixels(self._given, preprocessing).take(self._rows)

    def take(self, rows):
        """Return some of these pictures, in the order of `rows`, without a copy."""
        part = object.__new__(MemoryPixels)
        part.preprocessing, part._given = self.preprocessing, self._given
        part._pictures, part._rows = self._pictures, self._rows[rows]
        part.file_digests = part.pixel_digests = self.file_digests[rows]
        return part

    def read(self, samples):
        """Return the pictures with these numbers: ndarray, shape (len(samples), H, W), uint8."""
        return self._pictures[self._rows[samples]]


class _Block:
    """An open file, closed when the last cache that reads from it is gone."""

    def __init__(self, descriptor):
        self.descriptor = descriptor

    def __del__(self, close=os.close):      # bound early: at the end of the process modules go before objects
        close(self.descriptor)


def _cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _over(function, items, workers, bar):
    """Yield function(item) in order, from `workers` threads and a window that moves along; then raise all ImageErrors.

    From the first error on nothing is yielded, but the rest is still tried, so that all problems are found.
    """
    problems, ahead = Problems("images that cannot be read"), deque()
    pool = ThreadPoolExecutor(workers, "minicnn-decode") if workers else None

    def attempt(item):
        try:
            return function(item)
        except ImageError as error:
            return error

    def finished(result):
        bar.advance()
        if isinstance(result, ImageError):
            problems.add(str(result))
        elif not problems.count:
            yield result

    try:
        for item in items:
            if pool is None:
                yield from finished(attempt(item))
                continue
            ahead.append(pool.submit(attempt, item))
            if len(ahead) == _WINDOW:
                yield from finished(ahead.popleft().result())
        while ahead:
            yield from finished(ahead.popleft().result())
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)
    problems.raise_any()


def _file_digest(path, root):
    return hashlib.sha256(read_bytes(path, root)).digest()


def _decode(path, digest, preprocessing):
    """Return (pixels, digest of the picture, its facts, Remark, seconds inside Pillow, seconds outside)."""
    began = time.thread_time()
    data, name = read_bytes(path), printable(path)
    if hashlib.sha256(data).digest() != digest:
        raise ImageError(f"{name}: changed while it was being read. Start again.")
    opened = time.thread_time()
    planes, remark = open_planes(data, name, preprocessing.color)
    pixels = stretch(planes, preprocessing)
    decoded = time.thread_time()
    picture = hashlib.sha256(f"{planes[0].size} ".encode() + pixels.tobytes()).digest()
    facts = np.array([*planes[0].size, Remark.COLOURED in remark], "<i4").tobytes()
    ours = opened - began + time.thread_time() - decoded
    return pixels, picture, facts, remark & ~Remark.COLOURED, decoded - opened, ours


def _fill(folder, name, paths, digests, preprocessing, workers, progress):
    """Decode all files into a new cache; return (_Block, (seconds in Pillow, our seconds))."""
    temporary = None if folder is None else folder / f".{name[:16]}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    seconds, remarks, pictures, facts = np.zeros(2), dict.fromkeys(Remark, 0), [], []
    try:
        with (tempfile.TemporaryFile() if temporary is None else open(temporary, "xb+", opener=_private)) as file:
            with Progress(len(paths), "decoding images", "image", progress) as bar, quiet():
                for pixels, picture, fact, remark, theirs, ours in _over(
                        lambda item: _decode(*item, preprocessing), zip(paths, digests), workers, bar):
                    file.write(pixels.data)
                    pictures.append(picture)
                    facts.append(fact)
                    seconds += theirs, ours
                    for kind in remark:
                        remarks[kind] += 1
            tail = b"".join(digests + pictures + facts)
            file.write(tail + hashlib.sha256(tail).digest())
            file.flush()
            if temporary is not None:
                os.replace(temporary, folder / name)
                with suppress(OSError):     # another process may be tidying up as well
                    _prune(folder, keep=name)
            block = _Block(os.dup(file.fileno()))
    except BaseException as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise CheckpointError(f"the pixel cache could not be written: {error.strerror}. Free some space, or set "
                                  "MINICNN_CACHE_DIR to a folder with room.") from error
        raise
    for kind, count in remarks.items():
        if count:
            warnings.warn(f"{count:,} of {len(paths):,} images: each {kind.sentence}.", ImageWarning, stacklevel=4)
    return block, tuple(seconds.tolist())


def _private(path, flags):
    return os.open(path, flags, 0o600)      # patients' pictures are for their owner's eyes


def _reuse(path, n, shape, digests):
    """Return the cache at `path` as a _Block, if it is whole and of these files; else None."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    block, size = _Block(descriptor), n * int(np.prod(shape))
    tail = os.pread(descriptor, _TAIL * n + _DIGEST, size)
    whole = os.fstat(descriptor).st_size == size + _TAIL * n + _DIGEST
    check = hashlib.sha256(tail[:-_DIGEST]).digest()
    if not whole or tail[:_DIGEST * n] != b"".join(digests) or check != tail[-_DIGEST:]:
        return None
    os.utime(path)
    return block


def _prune(folder, keep):
    """Remove unfinished caches of long ago, and the caches used longest ago until all together fit."""
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
