"""The scan of the files of a collection: header, oddities of the pixels, and a small image of each.

Files may be of any kind: those that cannot be read are listed, not raised. It needs some hundred bytes of memory per
image; the images, 64 x 64, are kept in a temporary file that is deleted with the object.
"""

import hashlib
import io
import os
import tempfile
from typing import NamedTuple

import numpy as np
from PIL import Image

from minicnn.core.progress import Progress
from minicnn.data.decoding import FORMATS, Remark, open_planes, quiet, read_bytes
from minicnn.data.dicom import mode_of
from minicnn.data.file_kinds import is_dicom
from minicnn.data.preprocessing import Preprocessing, stretch
from minicnn.data.workers import in_order
from minicnn.errors import CheckpointError, ImageError, printable

__all__ = ["Header", "FileScan", "SIDE"]

SIDE = 64
_GREY = Preprocessing(SIDE, SIDE, 1)
_AHEAD = 64             # files in progress at once, which bounds the memory
_SMALL, _LONG = 64, 2.5  # an image is odd below this shorter side in pixels, and above this ratio of its sides


class Header(NamedTuple):
    """The header of a file."""

    format: str         # PNG, JPEG ...
    mode: str           # Pillow's mode: L is 8-bit grey, I;16 16-bit, RGB, P a palette ...; of DICOM "MONOCHROME2, 12 bits" ...
    width: int
    height: int
    progressive: bool
    exif: bool
    icc: bool
    dpi: bool
    quality: float      # mean quantisation step of a JPEG's luminance, 0 for other formats


class FileScan:
    """The readable files of a manifest, in its order, and the errors of the others.

    It has `read(numbers)` and `pixel_digests` like a PixelCache, numbered by its own rows.

    Attributes
    ----------
    rows : ndarray, shape (n,), int64; the number in the manifest of each readable file
    headers : list of n Header
    oddities : list of n tuples of phrases; what is odd about a file in itself
    file_digests, pixel_digests : ndarrays, shape (n, 32), uint8
    used : ndarray, shape (n,); how many bits the values of a 16-bit file need, 0 for other files
    unreadable : list of (number in the manifest, sentence)
    """

    def __init__(self, manifest, workers=None, progress=False, bits=None):
        self.rows, self.headers, self.oddities, self.unreadable, used = [], [], [], [], []
        digests, root = [], manifest.root if manifest.inside else None
        try:
            self._images = tempfile.TemporaryFile()
            for row, seen in _each(manifest.paths.tolist(), root, workers, progress, bits):
                if isinstance(seen, ImageError):
                    self.unreadable.append((row, str(seen)))
                    continue
                header, oddities, image, file_digest, of_file = seen
                used.append(of_file)
                self._images.write(image.data)
                self.rows.append(row)
                self.headers.append(header)
                self.oddities.append(oddities)
                size = f"{header.width} {header.height} ".encode()
                digests.append(file_digest + hashlib.sha256(size + image.tobytes()).digest())
            self._images.flush()
        except OSError as error:
            if isinstance(error, ImageError):
                raise
            raise CheckpointError(f"the temporary images of the audit could not be written: {error.strerror}. Free "
                                  "some space, or set TMPDIR to another folder.") from error
        self.rows, self.used = np.array(self.rows, np.int64), np.array(used, np.int64)
        both = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 64)
        self.file_digests, self.pixel_digests = both[:, :32], np.ascontiguousarray(both[:, 32:])

    def __len__(self):
        return len(self.rows)

    def close(self):
        """Delete the temporary file."""
        self._images.close()

    def read(self, numbers):
        """Return images: ndarray, shape (len(numbers), 64, 64), uint8."""
        out = np.empty((len(numbers), SIDE, SIDE), np.uint8)
        for image, number in zip(out, numbers):
            os.preadv(self._images.fileno(), [image.data], int(number) * image.nbytes)
        return out


def _each(paths, root, workers, progress, bits):
    """Yield (number, what _examine returns or its ImageError) for each path, in order."""
    def attempt(path):
        try:
            return _examine(path, root, bits)
        except ImageError as error:
            return error

    workers = os.cpu_count() or 1 if workers is None else workers
    with Progress(len(paths), "reading images", "image", progress) as bar, quiet():
        for row, seen in enumerate(in_order(attempt, paths, workers, _AHEAD, "minicnn-audit")):
            bar.advance()
            yield row, seen


def _examine(path, root, bits):
    """Return (Header, oddities, image as (64, 64) uint8, SHA-256 of the file, the bits that it uses of 16)."""
    data, name = read_bytes(path, root), printable(path)
    planes, remarks, used = open_planes(data, name, "grey", bits)       # first: it refuses what would cost too much to open
    header = _header(data, name, planes[0].size)
    image = stretch(planes, _GREY)
    oddities = [remark.sentence for remark in Remark if remark in remarks]
    if image.max() == image.min():
        oddities.append("is blank: all pixels are equal")
    short, long = sorted(planes[0].size)
    if short < _SMALL:
        oddities.append(f"is small: {header.width} x {header.height} pixels")
    if long > _LONG * short:
        oddities.append(f"is long and narrow: {header.width} x {header.height} pixels")
    return header, tuple(oddities), image, hashlib.sha256(data).digest(), used


def _header(data, name, size):
    if is_dicom(data):
        return Header("DICOM", mode_of(data, name), *size, False, False, False, False, 0.0)
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        tables = getattr(image, "quantization", None)
        return Header("JPEG" if image.format == "MPO" else image.format, image.mode, *image.size,
                      bool(image.info.get("progressive") or image.info.get("interlace")), "exif" in image.info,
                      "icc_profile" in image.info, "dpi" in image.info,
                      float(np.mean(tables[min(tables)])) if tables else 0.0)
