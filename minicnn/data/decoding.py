"""Decode the bytes of an image file to planes of floats from 0 (black) to 255 (white), at the full depth of its pixels.

| in the file | its meaning |
|---|---|
| 1, 2, 4 and 8 bits of grey, palette | as Pillow expands them: full scale is white |
| 16 bits (12 in a TIFF) | value / 65535 (4095) is the share of white; Pillow's own conversion to 8 bits would clip |
| the same with `bits` | value / (2^bits - 1), where no value of the file is greater |
| 32-bit whole numbers (TIFF) | the 16-bit scale; beyond 0 .. 65535 is an error, not a guess |
| floats (TIFF) | 0 is black, 1 is white; NaN, infinity, or beyond 0 .. 1 is an error |
| colour | grey by ITU-R 601, 0.299 R + 0.587 G + 0.114 B, in float; with color="rgb" it stays |
| CMYK | R = (1 - C)(1 - K) and so on, then as colour |
| alpha, transparent palette entries and colours | composited over black, with a remark |
| EXIF orientation 1 to 8 | applied; an unreadable EXIF block counts as upright |
| several frames | the first, with a remark |
| DICOM | as a viewer shows it (`dicom.py`); a file of several frames is an error |

Pillow decodes 16-bit colour to its upper 8 bits. Colour profiles (ICC) and gamma chunks are not applied. Files are
untrusted: only these decoders are used, chosen by content and not by the file's name, and sizes are checked before
decoding, as is everything that makes a small file cost minutes or gigabytes. (libtiff prints a line on stderr for some
damaged TIFFs; Python cannot prevent it.)
"""

import io
import logging
import os
import struct
import warnings
from contextlib import contextmanager
from enum import IntFlag

import numpy as np
# The two plugins are named so that Pillow need not load all of its forty to find them.
from PIL import Image, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin  # noqa: F401

from minicnn.core.files import open_regular
from minicnn.core.untrusted import raising
from minicnn.core.locks import Lock
from minicnn.data.dicom import open_dicom
from minicnn.data.file_kinds import is_dicom, kind_of
from minicnn.errors import ImageError, printable

__all__ = ["DECODER_VERSION", "FORMATS", "ImageWarning", "Remark", "read_bytes", "open_planes", "quiet",
           "is_dark", "about_bits"]

# Increased when any file may decode to other pixels: it is part of every model file and of every cache.
DECODER_VERSION = 1

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
_MOST_BYTES, _MOST_PIXELS = 256 * 2**20, 64_000_000
# Beyond what cameras and encoders write, and expensive: a progressive JPEG passes over all pixels once for each scan
# (libtiff's limit is 100 too); Pillow joins the parts of an EXIF block in quadratic time, and holds 200 bytes for each
# strip of a TIFF (the smallest tiles, 16 x 16, are 250,000 in 64 megapixels).
_MOST_SCANS, _MOST_EXIF_PARTS, _MOST_EXIF_BYTES, _MOST_VALUES, _MOST_TAGS = 100, 100, 2**20, 2**18, 4096


_DARK = 14          # bits: a 16-bit file that uses no more has no pixel brighter than a quarter of white
_REPLACE = "Get another copy, or leave it out."


class ImageWarning(UserWarning):
    """An image was read, but possibly not as its author meant it."""


class Remark(IntFlag):
    """Remarks on an image that could be read."""

    TRANSPARENT = 1
    FRAMES = 2
    COLOURED = 4
    NO_RADIOGRAPH = 8
    RAW = 16
    UNWINDOWED = 32
    BURNED_IN = 64

    @property
    def sentence(self):
        """The meaning of one remark, as the end of a sentence about a file."""
        return {Remark.TRANSPARENT: "is not opaque: it was composited over black",
                Remark.FRAMES: "holds several frames: the first was taken",
                Remark.COLOURED: "is in colour",
                Remark.NO_RADIOGRAPH: "is a DICOM file of another modality than radiography, such as CT",
                Remark.RAW: "is a DICOM file of raw values (FOR PROCESSING), which are not meant for display",
                Remark.UNWINDOWED: "is a DICOM file without a window: its 0.5th and 99.5th percentile are black and white",
                Remark.BURNED_IN: "is a DICOM file that declares text in its pixels (burned-in annotation)"}[self]


def read_bytes(path, root=None):
    """Return the content of a regular file of at most 256 MB, or raise ImageError.

    With `root`, a real path, a file outside of it is refused too. The location is that of the open file, so a link that
    replaced the file after its path was checked does not lead outside.
    """
    name = printable(os.fspath(path))
    with raising(ImageError, path, "Check the path and its permissions."):
        file, size = open_regular(path)
        with file:
            if root is not None and os.path.commonpath([root, _place(file, path)]) != root:
                raise ImageError(f"{name}: leads outside of {printable(root)}, unlike when it was checked. Find out "
                                 "who changes the folder, then start again.")
            data = file.read(min(size, _MOST_BYTES + 1))
    if len(data) > _MOST_BYTES:
        raise ImageError(f"{name}: has {size:,} bytes, more than the limit of {_MOST_BYTES:,}. Scale it down first.")
    if not data:
        raise ImageError(f"{name}: is empty. {_REPLACE}")
    return data


def _place(file, path):
    """Return the real path of an open file, or that of its name where the system does not know it."""
    try:
        return os.readlink(f"/proc/self/fd/{file.fileno()}")
    except OSError:
        return os.path.realpath(path)


def open_planes(data, name, color, bits=None, frame=None):
    """Decode the bytes of a file, inside a `quiet` block; `frame` is as of `dicom.open_dicom`, and for its files alone.

    Returns
    -------
    (planes, remarks, used) : a list of one grey or three colour images of Pillow's mode F, from 0 to 255; a Remark; and
        how many bits the largest value of a 16-bit file needs, 0 for other files
    """
    if is_dicom(data):
        return *_of_dicom(open_dicom(data, name, _MOST_PIXELS, frame), color), 0
    if frame is not None:
        raise ImageError(f"{name}: frame={frame} is for DICOM files, which this is not.")
    try:
        _check_parts(data, name)
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if not 0 < width * height <= _MOST_PIXELS:
                raise ImageError(f"{name}: has {width} x {height} pixels; the limits are 1 and {_MOST_PIXELS:,} in all. "
                                 "Scale it down first.")
            scans = data.count(b"\xff\xda") if image.format in ("JPEG", "MPO") else 1
            if scans * width * height > _MOST_SCANS * _MOST_PIXELS:
                raise ImageError(f"{name}: is a JPEG of {width} x {height} pixels in {scans:,} scans; decoding it would "
                                 "take minutes. Save it again as a baseline JPEG, or leave it out.")
            remarks = Remark.FRAMES if getattr(image, "is_animated", False) else Remark(0)
            is_deep = ";16" in str(image.tile[:1])
            image.load()
            remarks |= Remark.COLOURED if _is_coloured(image) else Remark(0)
            planes, alpha, used = _planes(image, color, name, bits)
            if is_deep and not used:
                planes, used = _deep_colour(planes, bits)
            if alpha is not None and alpha.getextrema()[0] < 255:
                remarks |= Remark.TRANSPARENT
                planes = [_float_image(np.asarray(plane) * np.asarray(alpha) / np.float32(255)) for plane in planes]
            turn = _UPRIGHT.get(_orientation(image))
            return (planes if turn is None else [plane.transpose(turn) for plane in planes]), remarks, used
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{name}: {_what_else(data)}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(f"{name}: has more than the limit of {_MOST_PIXELS:,} pixels. Scale it down first.") from None
    except Exception as error:  # a damaged file makes a decoder fail in any way: nine types were met in Pillow's own
        raise ImageError(f"{name}: cannot be decoded ({printable(error)[:200] or type(error).__name__}). "
                         f"{_REPLACE}") from None


_lock, _decoding, _filters, _level = Lock(), 0, None, logging.NOTSET


@contextmanager
def quiet():
    """Suppress what Pillow and pydicom warn of and log, and make the decompression bomb warning an error, while any thread decodes.

    A thousand files with odd EXIF blocks would give a thousand irrelevant warnings. The filters belong to the process
    and not to a thread: the first thread to enter sets them, and the last to leave restores them.
    """
    global _decoding, _filters, _level
    log = logging.getLogger("pydicom")
    with _lock:
        if _decoding == 0:
            _filters = warnings.catch_warnings()
            _filters.__enter__()
            warnings.filterwarnings("ignore", module=r"(PIL|pydicom|pylibjpeg)\.")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            _level = log.level
            log.setLevel(logging.CRITICAL + 1)
        _decoding += 1
    try:
        yield
    finally:
        with _lock:
            _decoding -= 1
            if _decoding == 0:
                _filters.__exit__(None, None, None)
                log.setLevel(_level)


# ---- Files that would cost too much ----------------------------------------------------------------------------------

def _check_parts(data, name):
    """Raise ImageError for a JPEG or TIFF with so many parts that opening it would take minutes or gigabytes."""
    if data.startswith(b"\xff\xd8"):
        parts = data.count(b"Exif\0\0")
        if parts > _MOST_EXIF_PARTS:
            raise ImageError(f"{name}: its EXIF block is in {parts:,} parts, the limit is {_MOST_EXIF_PARTS}. Save it "
                             "again without EXIF, or leave it out.")
    elif data.startswith((b"II", b"MM")):
        tags, values = _tiff_sizes(data)
        if tags > _MOST_TAGS or values > _MOST_VALUES:
            raise ImageError(f"{name}: is a TIFF of {tags:,} tags, the longest with {values:,} numbers; the limits are "
                             f"{_MOST_TAGS:,} and {_MOST_VALUES:,}. Save it again in larger strips, or leave it out.")


def _tiff_sizes(data):
    """Return how many tags the first directory of a TIFF has, and how many values the longest of them; 0 if unknown."""
    order, big = "<" if data.startswith(b"II") else ">", 43 in data[2:4]
    try:
        at, = struct.unpack_from(order + ("Q" if big else "L"), data, 8 if big else 4)
        tags, = struct.unpack_from(order + ("Q" if big else "H"), data, at)
        entry, first = struct.Struct(order + ("HHQQ" if big else "HHLL")), at + (8 if big else 2)
        longest = 0
        for i in range(min(tags, _MOST_TAGS)):
            _, kind, count, _ = entry.unpack_from(data, first + i * entry.size)
            if kind not in (1, 2, 7):       # bytes, text and "undefined" stay as they are
                longest = max(longest, count)
    except (struct.error, OverflowError):
        return 0, 0         # cut off: the decoder raises
    return tags, longest


def _of_dicom(decoded, color):
    """Return (planes of mode F, Remark) of a Decoded."""
    facts = {Remark.NO_RADIOGRAPH: not decoded.is_radiograph, Remark.RAW: decoded.is_raw,
             Remark.UNWINDOWED: not decoded.is_windowed, Remark.BURNED_IN: decoded.is_burned_in}
    remarks = Remark(sum(remark for remark, holds in facts.items() if holds))
    if decoded.pixels.ndim == 2:
        planes = [_float_image(decoded.pixels)] * (3 if color == "rgb" else 1)
    else:
        step = tuple(max(1, side // 128) for side in decoded.pixels.shape[:2])
        few = Image.fromarray(decoded.pixels[::step[0], ::step[1]].astype(np.uint8))
        remarks |= Remark.COLOURED if _is_coloured(few) else Remark(0)
        red, green, blue = (decoded.pixels[..., i] for i in range(3))
        rgb = (red, green, blue)
        if color == "grey":
            rgb = [sum(np.float32(share) * plane for share, plane in zip((299, 587, 114), rgb)) / np.float32(1000)]
        planes = [_float_image(plane) for plane in rgb]
    return planes, remarks


# ---- Pixels of each mode ---------------------------------------------------------------------------------------------

def is_dark(used, bits=None):
    """Return which files leave their upper bits unused: ndarray (n,) of bool; see `about_bits`."""
    return (used > (bits or 0)) & (used <= _DARK)


def about_bits(used, bits=None):
    """Return sentences on 16-bit files that leave their upper bits unused, and on those that do not fit into `bits`.

    Parameters
    ----------
    used : ndarray (n,) of whole numbers; the bits that each file needs, 0 for files that have no 16 bits
    bits : as in Preprocessing, which was used to decode them

    >>> about_bits(np.array([0, 16, 12, 11]))[0].partition(" (")[0]
    '2 of 3 16-bit images use at most 12 bits'
    """
    deep = used[used > 0]
    beyond = deep[deep > (bits or 0)]
    dark = used[is_dark(used, bits)]
    sentences = []
    if dark.size:
        most = next(most for most in (8, 10, 12, 14) if most >= dark.max())
        say = f"If white is {2**most - 1:,} in them, say so: bits={most} (--bits {most}); else save"
        way = say if bits is None else "Save"
        sentences.append(f"{len(dark):,} of {len(deep):,} 16-bit images use at most {most} bits (values up to "
                         f"{2**most - 1:,} of 65,535) and are nearly black. {way} them in the whole range.")
    if bits is not None and len(beyond) > len(dark):
        sentences.append(f"{len(beyond) - len(dark):,} of {len(deep):,} 16-bit images use more than {bits} bits: their "
                         "white stays 65,535.")
    return sentences


def _planes(image, color, name, bits):
    """Return (planes of mode F from 0 to 255, alpha of mode L or None, bits used), as they lie in the file."""
    mode = image.mode
    alpha, used = None, 0
    if mode.startswith("I;16") or mode in ("I", "F"):
        (values, used), alpha = _deep_grey(image, name, bits), _transparent_value(image)
        planes = [_float_image(values)]
    elif mode == "CMYK":
        planes = _from_cmyk(np.asarray(image), color)
    else:
        if image.has_transparency_data:
            image = image.convert("LA" if mode in ("1", "L", "LA", "La") else "RGBA")
            alpha = image.getchannel("A")
        if image.mode in ("1", "L", "LA"):
            planes = [image.convert("L").convert("F")]
        elif color == "grey":
            planes = [image.convert("RGB").convert("F")]    # (299 R + 587 G + 114 B) / 1000: exact where R = G = B
        else:
            planes = [band.convert("F") for band in image.convert("RGB").split()]
    return (planes * 3 if color == "rgb" and len(planes) == 1 else planes), alpha, used


def _deep_grey(image, name, bits):
    """Return (the float32 pixels, 0 to 255, of an image of more than 8 bits; how many of 16 its values use, or 0)."""
    values, tags = np.asarray(image), getattr(image, "tag_v2", {})
    if image.mode == "F":
        white, low, high = 1.0, values.min(), values.max()
    else:
        white, low, high = 65535, int(values.min()), int(values.max())
    if not 0 <= low <= high <= white:       # false for NaN
        raise ImageError(f"{name}: holds pixels from {low} to {high}; {'floats' if image.mode == 'F' else 'whole numbers'} "
                         f"must lie between 0 (black) and {white:g} (white). Scale them first.")
    used = 0
    if tags.get(TiffImagePlugin.BITSPERSAMPLE) == (12,):
        white = 4095
    elif image.mode != "F":
        used = high.bit_length()
        white = 2**bits - 1 if bits is not None and used <= bits else white
    if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0:       # white is zero: Pillow inverts 8 bits, not these
        values = white - values
    return values * np.float32(255 / white), used


def _deep_colour(planes, bits):
    """Return (planes, bits used) of 16-bit colour or alpha, of which Pillow keeps the upper 8 bits."""
    brightest = int(max(plane.getextrema()[1] for plane in planes))
    used = (brightest << 8 | 255).bit_length() if brightest else 0
    if bits is not None and 0 < used <= bits:
        scale = np.float32(65535 / (2**bits - 1))
        planes = [_float_image(np.minimum(np.asarray(plane) * scale, 255)) for plane in planes]
    return planes, used


def _transparent_value(image):
    """Return the alpha of an image of more than 8 bits in which one value stands for transparent, or None."""
    value = image.info.get("transparency")
    return None if value is None else Image.fromarray(np.where(np.asarray(image) == value, 0, 255).astype(np.uint8))


def _from_cmyk(values, color):
    light = np.float32(255) - values[..., 3]
    rgb = ((np.float32(255) - values[..., i]) * light / np.float32(255) for i in range(3))
    if color == "grey":     # one channel at a time: 64 megapixels of floats are 256 MB
        grey = sum(np.float32(share) * plane for share, plane in zip((299, 587, 114), rgb))
        rgb = [grey / np.float32(1000)]
    return [_float_image(plane) for plane in rgb]


def _is_coloured(image):
    """Return whether an image is in colour: in more than 5 % of its pixels the channels differ by more than 24 of 255.

    It samples at most 128 x 128 pixels, evenly spread, which takes less than 0.5 ms.
    """
    if image.mode.startswith("I") or image.mode in ("1", "L", "LA", "La", "F"):
        return False
    few = image.resize([min(side, 128) for side in image.size], Image.Resampling.NEAREST)
    if few.has_transparency_data:
        few = few.convert("RGBA")
        alpha = np.asarray(few)[..., 3] / 255
    else:
        alpha = 1.0
    red, green, blue = (np.asarray(band) for band in few.convert("RGB").split())
    apart = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    return bool(np.mean(apart * alpha > 24) > 0.05)


def _float_image(values):
    return Image.fromarray(np.ascontiguousarray(values, np.float32))


_UPRIGHT = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
            5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_90}


def _orientation(image):
    """Return the EXIF orientation that is still to be applied (Pillow has applied a TIFF's own)."""
    if len(image.info.get("exif", b"")) > _MOST_EXIF_BYTES:
        return 1
    try:
        return image.getexif().get(0x0112, 1)
    except Exception:   # an unreadable EXIF block does not make the image unreadable
        return 1


# ---- Files that are not images ---------------------------------------------------------------------------------------

_MAGIC = {b"\x89PNG": "PNG", b"\xff\xd8": "JPEG", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"RIFF": "WebP"}


def _what_else(data):
    """Return what data is that no decoder accepts, and what to do about it, as the end of a sentence."""
    for magic, kind in _MAGIC.items():
        if data.startswith(magic):
            return f"starts like a {kind}, but is damaged. {_REPLACE}"
    kind, way = kind_of(data) or ("none of them", "Convert it, for instance to PNG.")
    return f"PNG, JPEG, WebP, BMP, TIFF and DICOM files are read, this is {kind}. {way}"
