"""Read a DICOM file to grey or colour from 0 (black) to 255 (white): what a viewer shows at first.

pydicom parses the file; pydicom, Pillow, OpenJPEG or libjpeg decode the coded values (`_CODINGS`). Then, in this order:

| step | what happens |
|---|---|
| stored values | Bits Stored of Bits Allocated, signed or not; what lies in the other bits, such as overlays, is dropped |
| modality LUT | its sequence, else Rescale Slope and Intercept, else nothing |
| VOI LUT | the first: its entry / (2^bits - 1) is the share of white |
| else the window | the first, LINEAR, LINEAR_EXACT or SIGMOID: its lower end is black, its upper end white |
| else, up to 8 bits | what Bits Stored allows is black to white |
| else | the 0.5th and 99.5th percentile of the pixels, without Pixel Padding Value, are black and white; with a remark |
| MONOCHROME1 | or Presentation LUT Shape INVERSE: black and white change places, after all else |
| colour | YBR becomes RGB, a palette is looked up; value / (2^bits - 1) is the share of white |

So the file says what is white, and `bits` is not asked. Not applied: overlays, shutters, colour profiles, pixel spacing,
presentation states, and what enhanced files say of single frames.

Files are untrusted: what is in them is counted before it is converted, and a codestream's size is compared with the header's
before a decoder sees it. Of pydicom's plugins, GDCM, pyjpegls and pylibjpeg-rle are not used: damaged files made them abort the
process, loop for ever, and panic, where these decoders raised an error.
"""

import io
import math
import re
import struct
import zlib
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

import numpy as np

from minicnn.core.text import shortened
from minicnn.errors import ImageError, MiniCNNError, MissingExtraError

__all__ = ["Decoded", "open_dicom", "read_tags", "mode_of"]

_RADIOGRAPHY = ("CR", "DX", "DR", "RG", "OT", "")     # OT is any other; films, slices and reports have names of their own

# Transfer syntax: (the plugin of pydicom that decodes it, the module that it needs, its package, our extra).
_PILLOW, _PYDICOM = ("pillow", "PIL", "pillow", "dicom"), ("pydicom", "pydicom", "pydicom", "dicom")
_OPENJPEG = ("pylibjpeg", "openjpeg", "pylibjpeg-openjpeg", "dicom")
_LIBJPEG = ("pylibjpeg", "libjpeg", "pylibjpeg-libjpeg (licence: GPL 3)", "dicom-jpeg")
_NATIVE, _RLE, _JPEG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4."
_CODINGS = {
    **dict.fromkeys([_NATIVE, _NATIVE + ".1", _NATIVE + ".2"]), _RLE: _PYDICOM,             # the first three: no coding
    _JPEG + "50": _PILLOW, _JPEG + "51": _PILLOW,                                           # JPEG; of 12 bits: libjpeg
    **dict.fromkeys([_JPEG + end for end in ("57", "70", "80", "81")], _LIBJPEG),           # JPEG lossless, JPEG-LS
    **dict.fromkeys([_JPEG + end for end in ("90", "91")], _OPENJPEG)}                           # JPEG 2000
_DEFLATED, _INFLATED = b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.1\0\0\0"

# Limits. An element costs pydicom at least one read and 3 us, an unknown word of a character set 140 us; RLE expands 64-fold.
_MOST_READS, _MOST_INFLATED, _MOST_FRAGMENTS, _MOST_SCANS, _MOST_RLE = 2**17, 256 * 2**20, 2**16, 100, 2**25
_MOST_CHARSETS, _LONGEST_CHARSET, _LONGEST, _LONGEST_TABLE = 64, 128, 2**12, 2**20
_HEADER = 2**17         # bytes of a file within which its tags mostly end

_PIXELS = "PixelData FloatPixelData DoubleFloatPixelData ExtendedOffsetTable ExtendedOffsetTableLengths".split()
_TABLES = "ModalityLUTSequence VOILUTSequence".split() + [
    f"{colour}PaletteColorLookupTable{what}" for colour in ("Red", "Green", "Blue") for what in ("Data", "Descriptor")]
_WORDS = """SOPClassUID SOPInstanceUID StudyInstanceUID AccessionNumber Modality PresentationIntentType Manufacturer
    ManufacturerModelName PatientID PatientSex PatientAge BodyPartExamined ViewPosition PatientOrientation DetectorType
    SamplesPerPixel PhotometricInterpretation PlanarConfiguration NumberOfFrames Rows Columns BitsAllocated BitsStored HighBit
    PixelRepresentation PixelPaddingValue PixelPaddingRangeLimit WindowCenter WindowWidth RescaleIntercept RescaleSlope
    VOILUTFunction LossyImageCompression BurnedInAnnotation PresentationLUTShape""".split()

_REPLACE = "Get another copy, or leave it out."


class Decoded(NamedTuple):
    """A decoded image, and what its file says of it.

    pixels : ndarray, shape (H, W), or (H, W, 3) in colour, float32, from 0 to 255
    is_radiograph : bool; False where its modality is another one, such as CT
    is_raw : bool; the values are a detector's (FOR PROCESSING), which are not meant for display
    is_windowed : bool; False where percentiles stand in for a window
    is_burned_in : bool; the file says that there is text in the pixels (where it is silent there may be, too)
    """

    pixels: np.ndarray
    is_radiograph: bool
    is_raw: bool
    is_windowed: bool
    is_burned_in: bool


def open_dicom(data, name, most_pixels, frame=None):
    """Decode the bytes of a DICOM file, inside a block of `decoding.quiet`; return a Decoded.

    Parameters
    ----------
    data : bytes
    name : str; of the file, for errors
    most_pixels : int; the limit of a frame
    frame : int, the number of a frame from 0 on; None refuses files that hold several

    Raises
    ------
    ImageError : pydicom or a plugin of it is not installed, the file holds no image or several frames, is damaged or too large
    """
    with _typed(name, "decoded"):
        dataset, _ = _read(data, name)
        size = _size(dataset, name, most_pixels)
        index = _frame(dataset, name, frame)
        pixels, kind, bits = _decoded(dataset, name, index, size)
        if kind in ("MONOCHROME1", "MONOCHROME2") and pixels.ndim == 2:
            pixels, is_windowed = _grey(pixels, bits, dataset, name)
        elif kind == "RGB" and pixels.ndim == 3:
            pixels, is_windowed = _scaled(pixels, bits), True
        elif kind == "PALETTE COLOR" and pixels.ndim == 2:
            pixels, is_windowed = _palette(pixels, dataset, name), True
        else:
            raise ImageError(f"{name}: its pixels are {shortened(kind, 20)}, which is not read. Save it as MONOCHROME2 or RGB.")
        if not np.isfinite(pixels).all():
            raise ImageError(f"{name}: its window or its rescaling gives no numbers. {_REPLACE}")
        modality, intent, has_text = (_text(dataset, keyword).upper() for keyword in (
            "Modality", "PresentationIntentType", "BurnedInAnnotation"))
        return Decoded(pixels, modality in _RADIOGRAPHY, intent == "FOR PROCESSING", is_windowed, has_text == "YES")


def read_tags(file, size, name):
    """Return the tags of an open DICOM file without its pixels: {keyword of DICOM: its text, "" where it has none}.

    The key "" tells whether there are pixels: "pixels" or "". Raises as `open_dicom`.
    """
    with _typed(name, "read"):
        for most in sorted({min(_HEADER, size), size}):
            file.seek(0)
            data = file.read(most)
            try:
                dataset, has_pixels = _read(data, name, tags_alone=True)
            except Exception:
                if most == size:
                    raise
                continue
            if has_pixels or most == size:
                return {keyword: _text(dataset, keyword) for keyword in _WORDS} | {"": "pixels" * has_pixels}


def mode_of(data, name):
    """Return the form of a file's pixels as text, such as "MONOCHROME1, 12 bits"."""
    with _typed(name, "read"):
        dataset, _ = _read(data, name, tags_alone=True)
        return f"{_text(dataset, 'PhotometricInterpretation')}, {_text(dataset, 'BitsStored')} bits"


@contextmanager
def _typed(name, done):
    """Turn whatever a damaged file makes parsers and decoders raise into ImageError."""
    try:
        yield
    except MiniCNNError:
        raise
    except Exception as error:
        said = shortened(re.sub(r"\s+", " ", str(error)), 200) or type(error).__name__
        raise ImageError(f"{name}: is a DICOM file that cannot be {done} ({said}). {_REPLACE}") from None


# ---- The file --------------------------------------------------------------------------------------------------------

class _Limited(io.BytesIO):
    """The bytes that pydicom reads: up to a number of elements, of which only those of pixels may be long."""

    def __init__(self, data, name):
        super().__init__(data)
        self._name, self._reads, self._charsets, self._is_charset = name, 0, 0, False
        self.is_pixels = self.has_pixels = False

    def read(self, size=-1, /):
        self._reads += 1
        if size == 8:       # the head of an element
            self._is_charset = False
        longest = _LONGEST_CHARSET if self._is_charset else _LONGEST_TABLE
        if self._reads > _MOST_READS or self._charsets > _MOST_CHARSETS or size > longest and not self.is_pixels:
            raise ImageError(f"{self._name}: is a DICOM file with too many elements, or one of more than {longest:,} bytes "
                             f"beside its pixels. {_REPLACE}")
        data = super().read(size)
        if size == 8 and data[:4] in (b"\x08\0\5\0", b"\0\x08\0\5"):     # (0008,0005), the character set
            self._charsets, self._is_charset = self._charsets + 1, True
        return data


@cache
def _parser():
    """Return pydicom's (read_partial, Tag), None where it is not installed; asked once, for a folder may hold many files."""
    try:
        from pydicom.filereader import read_partial
        from pydicom.tag import Tag
        return read_partial, Tag
    except ImportError:
        return None


def _read(data, name, tags_alone=False):
    """Return (the dataset of the tags that matter, whether there are pixels)."""
    if _parser() is None:
        raise ImageError(f"{name}: is a DICOM file; {MissingExtraError('reading it', 'pydicom', 'dicom')}")
    read_partial, Tag = _parser()
    if _DEFLATED in data:
        data = _inflated(data, name)
    file, pixels = _Limited(data, name), {Tag(keyword) for keyword in _PIXELS}

    def stop(tag, vr, length):
        file.is_pixels = tag in pixels
        file.has_pixels |= file.is_pixels
        return tags_alone and file.is_pixels

    dataset = read_partial(file, stop, force=True, specific_tags=[Tag(keyword) for keyword in (*_WORDS, *_TABLES, *_PIXELS)])
    for keyword in _WORDS:
        value = dataset.get_item(keyword).value if keyword in dataset else None
        if isinstance(value, bytes) and len(value) > _LONGEST:
            raise ImageError(f"{name}: its {keyword} has {len(value):,} bytes, the limit is {_LONGEST:,}. {_REPLACE}")
    return dataset, file.has_pixels


def _inflated(data, name):
    """Return a file whose dataset is deflated as one whose dataset is not."""
    from pydicom.filereader import read_dataset

    file = _Limited(data, name)
    file.seek(132 if data[128:132] == b"DICM" else 0)
    read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    head = data[:file.tell()]
    if _DEFLATED not in head:
        raise ImageError(f"{name}: is a DICOM file that names a transfer syntax in the wrong place. {_REPLACE}")
    inflate, rest, length = zlib.decompressobj(-zlib.MAX_WBITS), data[len(head):], 0
    while rest and not inflate.eof:         # counted before any of it is kept
        length += len(inflate.decompress(rest, 2**20))
        rest = inflate.unconsumed_tail
        if length > _MOST_INFLATED:
            raise ImageError(f"{name}: inflates to more than the limit of {_MOST_INFLATED:,} bytes. Scale it down first.")
    if not inflate.eof:
        raise ImageError(f"{name}: is cut off. {_REPLACE}")
    return head.replace(_DEFLATED, _INFLATED) + zlib.decompress(data[len(head):], -zlib.MAX_WBITS)


def _text(dataset, keyword):
    """Return the text of a tag on one line, the values of several with a backslash between; "" where there is none."""
    value = dataset.get(keyword)
    words = value if not isinstance(value, (str, bytes)) and hasattr(value, "__iter__") else [value]
    return shortened(re.sub(r"\s+", " ", "\\".join(str(word) for word in words if word is not None)).strip(" \0"), 64)


def _number(dataset, keyword, name):
    """Return the first number of a tag, None where there is none or it is not finite."""
    value = dataset.get(keyword)
    if value is not None and not isinstance(value, (str, bytes)) and hasattr(value, "__iter__"):
        value = value[0] if len(value) else None
    if value is None or value == "":
        return None
    if not isinstance(value, (int, float)) and not hasattr(value, "as_tuple"):      # a Decimal is neither
        raise ImageError(f"{name}: its {keyword} is no number but {shortened(value, 40)!r}. {_REPLACE}")
    return float(value) if math.isfinite(value) else None


def _count(dataset, keyword, name):
    """Return the number of a tag, which must be a whole one of at least 1."""
    value = dataset.get(keyword)
    if not isinstance(value, int) or value < 1:
        said = "missing" if value is None else shortened(repr(value), 40)
        raise ImageError(f"{name}: its {keyword} is {said}, and must be a whole number of at least 1. {_REPLACE}")
    return int(value)


def _size(dataset, name, most_pixels):
    """Return (columns, rows), which are below the limits."""
    if not any(keyword in dataset for keyword in _PIXELS[:3]):
        raise ImageError(f"{name}: is a DICOM file without an image ({_class(dataset)}). Leave it out.")
    if "PixelData" not in dataset:
        raise ImageError(f"{name}: its pixels are floats, which are not read. Leave it out.")
    width, height = _count(dataset, "Columns", name), _count(dataset, "Rows", name)
    if width * height > most_pixels:
        raise ImageError(f"{name}: has {width} x {height} pixels; the limits are 1 and {most_pixels:,} in all. Scale it down "
                         "first.")
    return width, height


def _class(dataset):
    return shortened(getattr(dataset.get("SOPClassUID"), "name", "") or "of an unknown class", 80)


def _frame(dataset, name, frame):
    """Return the number of the frame to decode, from 0 on."""
    frames = 1 if dataset.get("NumberOfFrames") is None else _count(dataset, "NumberOfFrames", name)
    if frame is None and frames > 1:
        raise ImageError(f"{name}: holds {frames:,} frames: a film, a volume or several views. To take one, decode it in Python "
                         "with minicnn.data.preprocessing.decode(file, frame=0), and save it as a PNG; or leave it out.")
    if frame is not None and not 0 <= frame < frames:
        raise ImageError(f"{name}: has no frame {frame}: it holds {frames:,}, numbered from 0.")
    return frame or 0


# ---- Stored values ---------------------------------------------------------------------------------------------------

def _decoded(dataset, name, index, size):
    """Return (the values of a frame as stored, the name of their colours, how many bits they have)."""
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    given = getattr(dataset, "file_meta", {}).get("TransferSyntaxUID")
    is_implicit, is_little = dataset.original_encoding
    syntax = UID(str(given) if given else _NATIVE if is_implicit else _NATIVE + ".1" if is_little else _NATIVE + ".2")
    if syntax not in _CODINGS:
        raise ImageError(f"{name}: is coded in {shortened(syntax.name, 80)}, which is not read. Save it uncompressed, for "
                         "instance with gdcmconv --raw of GDCM.")
    plugin = _CODINGS[syntax]
    if syntax == _JPEG + "51" and dataset.get("BitsStored") != 8:
        plugin = _LIBJPEG
    decoder = get_decoder(syntax)
    if plugin is None:
        pixels, facts = decoder.as_array(dataset, index=index)
    else:
        if plugin[0] not in decoder.available_plugins:
            raise ImageError(f"{name}: is coded in {syntax.name}; {MissingExtraError('decoding it', *plugin[2:])}")
        _check_coded(dataset, name, index, size, syntax)
        pixels, facts = decoder.as_array(dataset, index=index, decoding_plugin=plugin[0])
    return pixels, facts["photometric_interpretation"], facts["bits_stored"]


def _check_coded(dataset, name, index, size, syntax):
    """Raise ImageError for a codestream that is not what the header says, or would take too much memory or time."""
    from pydicom.encaps import get_frame

    data = dataset.PixelData
    parts = data.count(b"\xfe\xff\0\xe0")
    if parts > _MOST_FRAGMENTS:
        raise ImageError(f"{name}: its pixels are in {parts:,} parts, the limit is {_MOST_FRAGMENTS:,}. {_REPLACE}")
    data = get_frame(data, index, number_of_frames=dataset.get("NumberOfFrames") or 1)
    if syntax == _RLE:
        samples, bits = (_count(dataset, keyword, name) for keyword in ("SamplesPerPixel", "BitsAllocated"))
        most = min(_MOST_RLE, 64 + size[0] * size[1] * samples * bits // 4)        # twice what it becomes
        if len(data) > most:
            raise ImageError(f"{name}: has {len(data):,} bytes of run lengths, the limit is {most:,}. Save it uncompressed.")
        return
    coded, samples = _coded_size(data), dataset.get("SamplesPerPixel")
    if coded != (*size, samples):
        said = "has no beginning" if coded is None else "is of {} x {} pixels of {} samples".format(*coded)
        raise ImageError(f"{name}: its coded image {said}, where the header says {size[0]} x {size[1]} of "
                         f"{shortened(samples, 20)}. {_REPLACE}")
    scans = data.count(b"\xff\xda")
    if data.startswith(b"\xff\xd8") and scans > _MOST_SCANS:
        raise ImageError(f"{name}: is a JPEG in {scans:,} scans, the limit is {_MOST_SCANS}. Save it uncompressed.")


def _coded_size(data):
    r"""Return (width, height, samples of a pixel) by the header of a JPEG, JPEG-LS or JPEG 2000 stream; None if it has none.

    >>> _coded_size(b"\xff\xd8\xff\xc0\0\x0b\x08\0\2\0\3\1\1\x11\0")
    (3, 2, 1)
    """
    at = 2
    if not data.startswith(b"\xff\xd8"):
        at = data.find(b"\xff\x4f\xff\x51")         # a box of JP2 may be around it
        if not 0 <= at <= len(data) - 42:
            return None
        right, bottom, left, top = struct.unpack_from(">4L", data, at + 8)
        return right - left, bottom - top, *struct.unpack_from(">H", data, at + 40)
    while at + 10 <= len(data) and data[at] == 0xFF:
        kind = data[at + 1]
        if kind == 0xF7 or 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            height, width, samples = struct.unpack_from(">HHB", data, at + 5)
            return width, height, samples
        if kind in (0xD9, 0xDA):
            return None
        at += 1 if kind == 0xFF else 2 if kind == 1 or 0xD0 <= kind <= 0xD8 else 2 + int.from_bytes(data[at + 2:at + 4])
    return None


# ---- From stored values to grey --------------------------------------------------------------------------------------

def _grey(pixels, bits, dataset, name):
    """Return (the grey of each pixel, whether the file has a window for it)."""
    low, high = int(pixels.min()), int(pixels.max())
    if high - low < 2**16:      # what follows is done once for each value, not for each pixel
        levels, places = np.arange(low, high + 1), pixels.astype(np.intp) - low
        counts = np.bincount(places.reshape(-1))
    else:
        levels, places, counts = np.unique(pixels, return_inverse=True, return_counts=True)
    with np.errstate(all="ignore"):
        values = _rescaled(levels, dataset, name)
        shares = _looked_up(values, dataset, name)
        if shares is None:
            shares = _windowed(values, dataset, name)
        is_windowed = shares is not None or bits <= 8
        if shares is None:
            if bits <= 8:
                signed = dataset.PixelRepresentation == 1
                ends = _rescaled(np.arange(2**bits) - (2**(bits - 1) if signed else 0), dataset, name)
                black, white = ends.min(), ends.max()
            else:
                black, white = _percentiles(values, counts * ~_is_padding(levels, dataset, name))
            shares = (values - black) / (white - black) if white > black else np.zeros(len(values))
    if dataset.PhotometricInterpretation == "MONOCHROME1" or _text(dataset, "PresentationLUTShape").upper() == "INVERSE":
        shares = 1 - shares
    return (255 * np.clip(shares, 0, 1)).astype(np.float32)[places].reshape(pixels.shape), is_windowed


def _rescaled(levels, dataset, name):
    """Return stored values after the modality LUT, as float64."""
    if item := _first_item(dataset, "ModalityLUTSequence"):
        table, first, _ = _table(item, "LUTDescriptor", "LUTData", dataset, name)
        return table[np.clip(levels - first, 0, len(table) - 1)].astype(np.float64)
    slope, offset = (_number(dataset, keyword, name) for keyword in ("RescaleSlope", "RescaleIntercept"))
    return levels.astype(np.float64) if None in (slope, offset) else levels * slope + offset


def _looked_up(values, dataset, name):
    """Return the share of white by the first VOI LUT, or None where there is none."""
    item = _first_item(dataset, "VOILUTSequence")
    if not item:
        return None
    table, first, bits = _table(item, "LUTDescriptor", "LUTData", dataset, name)
    return table[np.clip(np.trunc(values) - first, 0, len(table) - 1).astype(np.intp)] / (2**bits - 1)


def _windowed(values, dataset, name):
    """Return the share of white by the first window (PS3.3 C.11.2.1.2 and 3), or None where there is none that can be used."""
    center, width = (_number(dataset, keyword, name) for keyword in ("WindowCenter", "WindowWidth"))
    function = _text(dataset, "VOILUTFunction").upper() or "LINEAR"
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise ImageError(f"{name}: its VOI LUT Function is {function[:40]!r}, and must be LINEAR, LINEAR_EXACT or SIGMOID. "
                         f"{_REPLACE}")
    if center is None or width is None or width < 1 and function == "LINEAR" or width <= 0:
        return None
    if function == "SIGMOID":
        return 1 / (1 + np.exp(-4 * (values - center) / width))
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    if width == 0:
        return (values > center).astype(np.float64)
    return (values - center) / width + 0.5


def _percentiles(values, counts):
    """Return the 0.5th and 99.5th percentile of values that occur so often; the ends where these are equal."""
    seen = np.flatnonzero(counts) if counts.any() else np.arange(len(values))
    order = seen[np.argsort(values[seen], kind="stable")]
    up_to = np.cumsum(np.maximum(counts[order], 1))
    black, white = values[order[np.searchsorted(up_to, up_to[-1] * np.array([0.005, 0.995]))]]
    return (black, white) if white > black else (values[order[0]], values[order[-1]])


def _is_padding(levels, dataset, name):
    ends = [_number(dataset, keyword, name) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if ends[0] is None:
        return np.zeros(len(levels), bool)
    last = ends[0] if ends[1] is None else ends[1]
    return (levels >= min(ends[0], last)) & (levels <= max(ends[0], last))


# ---- Colour, tables --------------------------------------------------------------------------------------------------

def _scaled(pixels, bits):
    return np.clip(pixels * np.float32(255 / (2**bits - 1)), 0, 255, dtype=np.float32)


def _palette(pixels, dataset, name):
    planes = []
    for colour in ("Red", "Green", "Blue"):
        prefix = f"{colour}PaletteColorLookupTable"
        table, first, bits = _table(dataset, prefix + "Descriptor", prefix + "Data", dataset, name)
        planes.append(_scaled(table, bits)[np.clip(pixels.astype(np.intp) - first, 0, len(table) - 1)])
    return np.stack(planes, axis=-1)


def _first_item(dataset, keyword):
    """Return the first dataset of a sequence, or None."""
    from pydicom.filereader import read_sequence

    element = dataset.get_item(keyword) if keyword in dataset else None
    if element is None or not element.value:
        return None
    if not isinstance(element.value, bytes):        # its length is undefined, so it was read at once
        return element.value[0]
    is_unknown = element.VR == "UN"                 # then it is implicit and little-endian
    items = read_sequence(_Limited(element.value, keyword), element.is_implicit_VR or is_unknown,
                          element.is_little_endian or is_unknown, len(element.value), "iso8859")
    return items[0] if len(items) else None


def _table(item, described, content, dataset, name):
    """Return a lookup table as (its entries, the value of the first one, how many bits they have)."""
    (data, little, _), (words, order, vr) = _raw(item, content), _raw(item, described)
    if len(words) < 6 or not data:
        raise ImageError(f"{name}: its lookup table ({described}) is missing or damaged. (Segmented ones are not read: save it "
                         "with a plain one.)")
    entries, first, bits = struct.unpack_from("<3H" if order else ">3H", words)
    entries = entries or 2**16
    if first >= 2**15 and (vr == "SS" or vr != "US" and dataset.get("PixelRepresentation") == 1):
        first -= 2**16
    if not 1 <= bits <= 16 or len(data) < entries:
        raise ImageError(f"{name}: its lookup table has {len(data):,} bytes for {entries:,} entries of {bits} bits. {_REPLACE}")
    if len(data) < 2 * entries and not little:      # two entries of 8 bits in each word
        data = np.frombuffer(data, ">u2", len(data) // 2).astype("<u2").tobytes() + data[len(data) // 2 * 2:]
    return np.frombuffer(data, "u1" if len(data) < 2 * entries else "<u2" if little else ">u2", entries), first, bits


def _raw(item, keyword):
    """Return the bytes of a tag as stored, whether they are little-endian, and their VR."""
    element = item.get_item(keyword) if keyword in item else None
    if element is None or not isinstance(element.value, bytes):
        return b"", True, None
    return element.value, element.is_little_endian, element.VR
