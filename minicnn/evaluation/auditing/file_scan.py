"""One look at every file of a collection: what its header says, what can be said of its pixels, and a small picture.

Made for files that may be anything: what cannot be read is noted and not raised. Memory holds some hundred bytes an
image; the pictures, 64 x 64, lie in a temporary file that goes with the object.
"""

import hashlib
import io
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from PIL import Image

from minicnn.core.progress import Progress
from minicnn.data.decoding import FORMATS, Remark, open_planes, quiet, read_bytes
from minicnn.data.preprocessing import Preprocessing, stretch
from minicnn.errors import CheckpointError, ImageError, printable

__all__ = ["Header", "FileScan", "SIDE"]

SIDE = 64
_GREY = Preprocessing(SIDE, SIDE, 1)
_AHEAD = 64             # files under way at once: what bounds the memory
_SMALL, _LONG = 64, 2.5  # the shorter side in pixels below which, the ratio of sides above which a picture is odd


class Header(NamedTuple):
    """What a file says of itself before its pixels."""

    format: str         # PNG, JPEG ...
    mode: str           # Pillow's name of the pixels: L is 8 bits of grey, I;16 16 bits, RGB, P a palette ...
    width: int
    height: int
    progressive: bool
    exif: bool
    icc: bool
    dpi: bool
    quality: float      # mean of a JPEG's quantisation steps for brightness, 0 for other formats: the file's coarseness


class FileScan:
    """The readable files of a manifest, in its order, and what is wrong with the others.

    It has `read(numbers)` and `pixel_digests` like a PixelCache, numbered by its own rows.

    Attributes
    ----------
    rows : ndarray, shape (n,), int64; the number in the manifest of each readable file
    headers : list of n Header
    oddities : list of n tuples of sentences; what is odd about a file by itself
    file_digests, pixel_digests : ndarrays, shape (n, 32), uint8
    unreadable : list of (number in the manifest, sentence)
    """

    def __init__(self, manifest, workers=None, progress=False):
        self.rows, self.headers, self.oddities, self.unreadable = [], [], [], []
        digests, root = [], manifest.root if manifest.inside else None
        try:
            self._pictures = tempfile.TemporaryFile()
            for row, seen in _each(manifest.paths.tolist(), root, workers, progress):
                if isinstance(seen, ImageError):
                    self.unreadable.append((row, str(seen)))
                    continue
                header, oddities, picture, file_digest = seen
                self._pictures.write(picture.data)
                self.rows.append(row)
                self.headers.append(header)
                self.oddities.append(oddities)
                size = f"{header.width} {header.height} ".encode()
                digests.append(file_digest + hashlib.sha256(size + picture.tobytes()).digest())
            self._pictures.flush()
        except OSError as error:
            if isinstance(error, ImageError):
                raise
            raise CheckpointError(f"the small pictures of the audit could not be written: {error.strerror}. Free some "
                                  "space, or set TMPDIR to a folder with room.") from error
        self.rows = np.array(self.rows, np.int64)
        both = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 64)
        self.file_digests, self.pixel_digests = both[:, :32], np.ascontiguousarray(both[:, 32:])

    def __len__(self):
        return len(self.rows)

    def close(self):
        """Let the pictures go."""
        self._pictures.close()

    def read(self, numbers):
        """Return pictures: ndarray, shape (len(numbers), 64, 64), uint8."""
        out = np.empty((len(numbers), SIDE, SIDE), np.uint8)
        for picture, number in zip(out, numbers):
            os.preadv(self._pictures.fileno(), [picture.data], int(number) * picture.nbytes)
        return out


def _each(paths, root, workers, progress):
    """Yield (number, what _examine returns or its ImageError) for each path, in order."""
    workers = os.cpu_count() or 1 if workers is None else workers

    def attempt(path):
        try:
            return _examine(path, root)
        except ImageError as error:
            return error

    with Progress(len(paths), "looking at images", "image", progress) as bar, quiet(), \
            ThreadPoolExecutor(max(1, workers), "minicnn-audit") as pool:
        for at in range(0, len(paths), _AHEAD):
            for i, seen in enumerate(pool.map(attempt, paths[at:at + _AHEAD])):
                bar.advance()
                yield at + i, seen


def _examine(path, root):
    """Return (Header, oddities, picture as (64, 64) uint8, SHA-256 of the file)."""
    data, name = read_bytes(path, root), printable(path)
    planes, remarks = open_planes(data, name, "grey")       # first: it refuses what would cost too much to open
    header = _header(data)
    picture = stretch(planes, _GREY)
    oddities = [remark.sentence for remark in Remark if remark in remarks]
    if picture.max() == picture.min():
        oddities.append("is blank: all pixels are alike")
    short, long = sorted(planes[0].size)
    if short < _SMALL:
        oddities.append(f"is small: {header.width} x {header.height} pixels")
    if long > _LONG * short:
        oddities.append(f"is long and narrow: {header.width} x {header.height} pixels")
    return header, tuple(oddities), picture, hashlib.sha256(data).digest()


def _header(data):
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        tables = getattr(image, "quantization", None)
        return Header("JPEG" if image.format == "MPO" else image.format, image.mode, *image.size,
                      bool(image.info.get("progressive") or image.info.get("interlace")), "exif" in image.info,
                      "icc_profile" in image.info, "dpi" in image.info,
                      float(np.mean(tables[min(tables)])) if tables else 0.0)
