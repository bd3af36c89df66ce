"""Preprocessing: one path from an image file to the input of a network, the same in training and in prediction.

An image is decoded (`decoding.py`), resized with Pillow's antialiased bilinear filter, and rounded to uint8; batches
divide it by 255. Optionally, the histogram is equalised and the border is blacked out. `Preprocessing` holds the
options and is stored in the model file.
"""

import os
import warnings
from dataclasses import asdict, dataclass, fields

import numpy as np
from PIL import Image

from minicnn.core.arguments import Flag, OneOf, OrNone, Real, Whole, check, check_all
from minicnn.core.untrusted import check_fields
from minicnn.data.decoding import DECODER_VERSION, ImageWarning, Remark, about_bits, open_planes, quiet, read_bytes
from minicnn.errors import InputError, ShapeError, printable

__all__ = ["Preprocessing", "decode", "equalized", "resize", "stretch", "to_input"]

_COLOR = OneOf(("grey", "rgb"))
_CONSTRAINTS = {"height": Whole(1, 4096), "width": Whole(1, 4096), "channels": Whole(1, 3), "color": _COLOR,
                "resample": OneOf(("bilinear",)), "equalize": Flag(), "border": Real(0, 0.45, "[]"),
                "bits": OrNone(Whole(8, 16))}
_LATER = ("equalize", "border", "bits")     # fields that older model files do not have


@dataclass(frozen=True)
class Preprocessing:
    """How images become input: the same for training and prediction.

    Parameters
    ----------
    height, width : int from 1 to 4096
    channels : int, 1 or 3; grey images are repeated
    color : "grey", or "rgb", which needs channels=3
    resample : "bilinear", Pillow's antialiased one
    decoder : int; the version of the decoder, always `DECODER_VERSION`
    equalize : bool; equalise the histogram of what is inside the border (`equalized`)
    border : float from 0 to 0.45; this fraction of the height and of the width is black on each side: letters and tags
        lie there. 1/8 is the border of evaluation/explanation/border.py
    bits : int from 8 to 16, or None; white is 2**bits - 1, and not 65535, in 16-bit files whose values fit into so many
        bits (12 of many detectors)

    Raises
    ------
    InputError : a value outside of these

    >>> Preprocessing.from_dict(Preprocessing().to_dict()) == Preprocessing(64, 64, 3)
    True
    """

    height: int = 64
    width: int = 64
    channels: int = 3
    color: str = "grey"
    resample: str = "bilinear"
    decoder: int = DECODER_VERSION
    equalize: bool = False
    border: float = 0.0
    bits: int | None = None

    def __post_init__(self):
        given = {name: getattr(self, name) for name in _CONSTRAINTS}
        for name, value in check_all("Preprocessing", _CONSTRAINTS, given).items():
            object.__setattr__(self, name, value)
        if self.channels != 3 and (self.channels == 2 or self.color == "rgb"):
            raise InputError(f"Preprocessing: channels must be {'1 or ' * (self.color == 'grey')}3 with color "
                             f"{self.color!r}, got {self.channels}.")
        if type(self.decoder) is not int or self.decoder != DECODER_VERSION:
            raise InputError(f"Preprocessing: this minicnn decodes images by version {DECODER_VERSION}, not by version "
                             f"{self.decoder!r}; other pixels would reach the network. Install the minicnn that made "
                             "the model, or train it anew.")

    @property
    def shape(self):
        """Shape (H, W, C) of one input."""
        return self.height, self.width, self.channels

    @property
    def stored_shape(self):
        """Shape of one image as uint8: (H, W) for grey, (H, W, 3) for colour."""
        return (self.height, self.width) + ((3,) if self.color == "rgb" else ())

    @property
    def changes_grey(self):
        """Whether an image of the right size is changed nevertheless."""
        return self.equalize or self.border > 0

    def to_dict(self):
        """Return the fields by name, for a model file; without `bits` where there are none, as in older files."""
        return {name: value for name, value in asdict(self).items() if name != "bits" or value is not None}

    @classmethod
    def from_dict(cls, values):
        """Return the preprocessing of `to_dict`; unknown, missing or out-of-range fields raise InputError.

        Older files lack `equalize`, `border` and `bits`, which are off then.
        """
        check_fields("Preprocessing", values, [field.name for field in fields(cls) if field.name not in _LATER], _LATER)
        return cls(**values)


def decode(file, color="grey", bits=None, frame=None):
    """Decode an image at its full size.

    Parameters
    ----------
    file : path, or the bytes of a file
    color : "grey" or "rgb"
    bits : as for Preprocessing
    frame : int, optional; of a DICOM file of several frames, the one to take, from 0 on. Without it such a file is an error

    Returns
    -------
    ndarray, shape (H, W), or (H, W, 3) for "rgb", float32, from 0 to 255

    Raises
    ------
    ImageError : a file that cannot be read, is too large, or is not an image in PNG, JPEG, WebP, BMP, TIFF or DICOM format

    Warns
    -----
    ImageWarning : transparent pixels, more than one frame, or 16 bits of which the upper ones are not used; of a DICOM file
        another modality than radiography, raw values, a window that is missing, or burned-in annotation
    """
    check("decode", "color", color, _COLOR)
    frame = check("decode", "frame", frame, OrNone(Whole(0)))
    bits = check("decode", "bits", bits, _CONSTRAINTS["bits"])
    is_bytes = isinstance(file, (bytes, bytearray, memoryview))
    name = "the image" if is_bytes else printable(os.fspath(file))
    data = bytes(file) if is_bytes else read_bytes(file)
    with quiet():
        planes, remarks, used = open_planes(data, name, color, bits, frame)
    for sentence in about_bits(np.array([used]), bits):
        warnings.warn(f"{name}: {sentence}", ImageWarning, stacklevel=2)
    for remark in remarks & ~Remark.COLOURED:
        warnings.warn(f"{name} {remark.sentence}.", ImageWarning, stacklevel=2)
    return np.stack([np.asarray(plane) for plane in planes], axis=-1) if color == "rgb" else np.array(planes[0])


def resize(pixels, preprocessing):
    """Resize a decoded image to the size of `preprocessing`, and round it to uint8.

    Parameters
    ----------
    pixels : ndarray, shape (H, W), or (H, W, 3) for color "rgb", from 0 to 255

    >>> resize(np.array([[0.0, 255.0]]), Preprocessing(1, 1)).tolist()
    [[128]]
    """
    pixels = np.asarray(pixels, np.float32)
    rgb = preprocessing.color == "rgb"
    if pixels.ndim != 2 + rgb or (rgb and pixels.shape[2] != 3) or not pixels.size:
        raise ShapeError(f"resize: expected pixels of shape {'(H, W, 3)' if rgb else '(H, W)'} for color "
                         f"{preprocessing.color!r}, got {pixels.shape}.")
    planes = np.moveaxis(pixels, 2, 0) if rgb else [pixels]
    return stretch([Image.fromarray(np.ascontiguousarray(plane)) for plane in planes], preprocessing)


def stretch(planes, preprocessing):
    """Return planes of mode F resized to uint8 pixels of the `stored_shape` of `preprocessing`."""
    size = preprocessing.width, preprocessing.height
    planes = [np.asarray(plane.resize(size, Image.Resampling.BILINEAR)) for plane in planes]
    pixels = np.stack(planes, axis=-1) if preprocessing.color == "rgb" else planes[0]
    return _inside(np.clip(np.rint(pixels), 0, 255).astype(np.uint8), preprocessing)


def to_input(pixels, preprocessing, dtype=np.float32):
    """Scale stored images to [0, 1], and repeat grey ones to the channels of `preprocessing`.

    Parameters
    ----------
    pixels : ndarray, shape (N, H, W) or (N, H, W, 3), uint8

    Returns
    -------
    ndarray, shape (N, H, W, channels), dtype

    >>> to_input(np.full((1, 2, 2), 255, np.uint8), Preprocessing(2, 2))[0, 0, 0].tolist()
    [1.0, 1.0, 1.0]
    """
    scaled = np.divide(pixels, 255, dtype=dtype)
    if pixels.ndim == 3:
        scaled = np.repeat(scaled[..., np.newaxis], preprocessing.channels, axis=-1)
    return scaled


def equalized(pixels):
    """Return pixels with their histogram equalised: each level becomes the fraction of the pixels that are darker.

    With c(v) the number of pixels up to level v and d the darkest level, v becomes 255 (c(v) - c(d)) / (n - c(d)),
    rounded. The darkest becomes black and the brightest white, and the result does not depend on brightness, contrast
    or any other monotonic curve. Constant images stay as they are.

    Parameters
    ----------
    pixels : ndarray, shape (H, W), uint8

    >>> equalized(np.array([[10, 20], [20, 200]], np.uint8)).tolist()
    [[0, 170], [170, 255]]
    """
    up_to = np.bincount(pixels.reshape(-1), minlength=256).cumsum()
    darkest = up_to[pixels.min()]
    if darkest == pixels.size:
        return pixels.copy()
    levels = np.rint(255 * (up_to - darkest) / (pixels.size - darkest))
    return np.clip(levels, 0, 255).astype(np.uint8)[pixels]


def _inside(pixels, preprocessing):
    """Return pixels with the inside of the border equalised, channel by channel, and with a black border, if set."""
    height, width = (int(side * preprocessing.border) for side in pixels.shape[:2])
    inside = pixels[height:len(pixels) - height, width:pixels.shape[1] - width]
    if preprocessing.equalize:
        planes = inside[..., np.newaxis] if inside.ndim == 2 else inside
        inside = np.stack([equalized(plane) for plane in np.moveaxis(planes, -1, 0)], axis=-1).reshape(inside.shape)
    if not preprocessing.border:
        return inside
    framed = np.zeros_like(pixels)
    framed[height:len(pixels) - height, width:pixels.shape[1] - width] = inside
    return framed
