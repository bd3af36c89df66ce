"""Pictures as a network sees them: one path from a file to its input, the same in training and in prediction.

A picture is decoded (`decoding.py` says what pixels mean), stretched to the size the network wants with Pillow's
antialiased bilinear filter, and rounded to uint8, of which a batch takes its 255th parts. Where asked for, the grey
levels are then evened out, and the border is made black. `Preprocessing` names the choices and travels in the model
file.
"""

import os
import warnings
from dataclasses import asdict, dataclass, fields

import numpy as np
from PIL import Image

from minicnn.core.shapes import positive_int
from minicnn.data.decoding import DECODER_VERSION, ImageWarning, Remark, open_planes, quiet, read_bytes
from minicnn.errors import InputError, ShapeError, nearest, printable

__all__ = ["Preprocessing", "decode", "equalized", "load", "resize", "stretch", "to_input"]

_LONGEST_SIDE = 4096
_WIDEST_BORDER = 0.45
_LATER = ("equalize", "border")     # fields that model files of before do not have


@dataclass(frozen=True)
class Preprocessing:
    """How pictures become input: the same for training and prediction.

    Parameters
    ----------
    height, width : int from 1 to 4096
    channels : int, 1 or 3; grey pictures are repeated
    color : "grey", or "rgb", which needs channels=3
    resample : "bilinear", Pillow's antialiased one
    decoder : int; the version of the decoder, of which this minicnn has `DECODER_VERSION` alone
    equalize : bool; even out the grey levels of what is inside the border (`equalized`)
    border : float from 0 to 0.45; this share of the height and of the width is made black on each side: there stand
        letters and tags. 1/8 is the border of evaluation/explanation/border.py

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

    def __post_init__(self):
        for name in ("height", "width"):
            side = positive_int(getattr(self, name), "Preprocessing", name)
            if side > _LONGEST_SIDE:
                raise InputError(f"Preprocessing: {name} must be at most {_LONGEST_SIDE}, got {side}.")
            object.__setattr__(self, name, side)
        self._one_of("color", "grey", "rgb")
        self._one_of("resample", "bilinear")
        self._one_of("channels", *((3,) if self.color == "rgb" else (1, 3)))
        self._one_of("equalize", False, True)
        if type(self.border) not in (int, float) or not 0 <= self.border <= _WIDEST_BORDER:
            raise InputError(f"Preprocessing: border must lie in [0, {_WIDEST_BORDER}], got {self.border!r}.")
        object.__setattr__(self, "border", float(self.border))
        if type(self.decoder) is not int or self.decoder != DECODER_VERSION:
            raise InputError(f"Preprocessing: this minicnn decodes images by version {DECODER_VERSION}, not by version "
                             f"{self.decoder!r}; other pixels would reach the network. Install the minicnn that made "
                             "the model, or train it anew.")

    def _one_of(self, name, *choices):
        value = getattr(self, name)
        if type(value) is not type(choices[0]) or value not in choices:
            raise InputError(f"Preprocessing: {name} must be {' or '.join(map(repr, choices))}, got {value!r}.")

    @property
    def shape(self):
        """Shape (H, W, C) of one input."""
        return self.height, self.width, self.channels

    @property
    def stored_shape(self):
        """Shape of one picture as uint8: (H, W) for grey, (H, W, 3) for colour."""
        return (self.height, self.width) + ((3,) if self.color == "rgb" else ())

    @property
    def changes_grey(self):
        """Whether a picture that has the right size already comes out another."""
        return self.equalize or self.border > 0

    def to_dict(self):
        """Return the fields by name, for a model file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values):
        """Return the preprocessing of `to_dict`; unknown, missing or out-of-range fields raise InputError.

        Files of before there was `equalize` and `border` were made without.
        """
        names = [field.name for field in fields(cls)]
        if not isinstance(values, dict):
            raise InputError(f"Preprocessing: expected an object with the fields {', '.join(names)}, "
                             f"got {type(values).__name__}.")
        for name in values:
            if name not in names:
                raise InputError(f"Preprocessing: unknown field {printable(name)!r}.{nearest(name, names)}")
        missing = [name for name in names if name not in values and name not in _LATER]
        if missing:
            raise InputError(f"Preprocessing: missing field {', '.join(missing)}.")
        return cls(**values)


def decode(source, color="grey"):
    """Read a picture at its full size.

    Parameters
    ----------
    source : path, or the bytes of a file
    color : "grey" or "rgb"

    Returns
    -------
    ndarray, shape (H, W), or (H, W, 3) for "rgb", float32, from 0 to 255

    Raises
    ------
    ImageError : a file that cannot be read, is too large, or is no picture in PNG, JPEG, WebP, BMP or TIFF format

    Warns
    -----
    ImageWarning : transparent pixels, or more than one frame
    """
    planes = _planes_of(source, color)
    return np.stack([np.asarray(plane) for plane in planes], axis=-1) if color == "rgb" else np.array(planes[0])


def load(source, preprocessing):
    """Read a picture at the size a network wants: `resize` of `decode`, in one go.

    Returns
    -------
    ndarray, shape (height, width), or (height, width, 3) for color "rgb", uint8
    """
    return stretch(_planes_of(source, preprocessing.color), preprocessing)


def resize(pixels, preprocessing):
    """Stretch a decoded picture to the size of `preprocessing`, and round it to uint8.

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
    """Return planes of mode F as `preprocessing` wants them: uint8 pixels of its `stored_shape`."""
    size = preprocessing.width, preprocessing.height
    planes = [np.asarray(plane.resize(size, Image.Resampling.BILINEAR)) for plane in planes]
    pixels = np.stack(planes, axis=-1) if preprocessing.color == "rgb" else planes[0]
    return _inside(np.clip(np.rint(pixels), 0, 255).astype(np.uint8), preprocessing)


def to_input(pixels, preprocessing, dtype=np.float32):
    """Scale stored pictures to [0, 1], and repeat grey ones to the channels of `preprocessing`.

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
    """Return pixels with their grey levels evened out: each level becomes the share of the pixels that are darker.

    With c(v) the number of pixels up to level v and d the darkest level, v becomes 255 (c(v) - c(d)) / (n - c(d)),
    rounded: the darkest is black, the brightest white, and brightness, contrast and any other curve of the levels
    that keeps their order change nothing. Pixels that are all alike stay as they are.

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
    """Even out the grey levels inside the border, each channel by itself, and make the border black, where asked to."""
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


def _planes_of(source, color):
    if color not in ("grey", "rgb"):
        raise InputError(f"decode: color must be 'grey' or 'rgb', got {color!r}.")
    is_bytes = isinstance(source, (bytes, bytearray, memoryview))
    name = "the image" if is_bytes else printable(os.fspath(source))
    data = bytes(source) if is_bytes else read_bytes(source)
    with quiet():
        planes, remarks = open_planes(data, name, color)
    for remark in remarks & ~Remark.COLOURED:
        warnings.warn(f"{name} {remark.sentence}.", ImageWarning, stacklevel=3)
    return planes
