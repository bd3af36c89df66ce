r"""Augmentation: each image changed slightly and differently in each epoch, by one affine map and one interpolation.

All geometric changes of an image are composed into one matrix, so that its pixels are interpolated only once. The
change of an image depends on (seed, epoch, sample) alone, not on its batch or on the thread that computes it.

The map
-------
The origin is the centre of the image, x points right, y points up, and the unit is a pixel. The image is flipped
(F), magnified (z), sheared (S), turned (R) and shifted (t), in this order; a point p of it arrives at

    q = R S z F p + t,    R = [cos a, -sin a]    S = [1, -tan b]    F = [+-1,  0]
                              [sin a,  cos a]        [0,    1  ]        [ 0, +-1]

A positive a rotates counter-clockwise. A positive b turns the vertical lines counter-clockwise and leaves horizontal
lines where they are: the top moves to the left. The warp needs the inverse map, the point p that is seen at q; F is
its own inverse, and with T = tan b

    p = A (q - t),    A = 1/z F [1, T] [ cos a, sin a] = 1/z F [cos a - T sin a, sin a + T cos a]
                                [0, 1] [-sin a, cos a]         [        -sin a,           cos a]

The centre of the pixel in row i and column j of an H x W image lies at x = j - (W - 1)/2, y = (H - 1)/2 - i; putting
this in on both sides gives the matrix from output indices (i, j, 1) to input indices that `affine_warp` takes. Centres
outside the image take the nearest edge pixel. A flip maps centres onto centres exactly, and so copies pixels.
"""

from dataclasses import asdict, dataclass

import numpy as np

from minicnn.core.arguments import Flag, Real, check_all
from minicnn.core.backend import get_engine
from minicnn.core.random import Stream, check_seed
from minicnn.core.untrusted import check_fields
from minicnn.core.validation import check_output
from minicnn.errors import DTypeError, InputError, ShapeError

__all__ = ["TECHNIQUES", "Augmentation", "affine_matrices"]

TECHNIQUES = ("rescale", "vertical_flip", "horizontal_flip", "rotation", "zoom", "shear", "intensity")

# The bounds keep the map invertible: a zoom of 0 and a shear of 90 degrees have no inverse.
_CONSTRAINTS = {
    "rotation": Real(0, 180, "[]"), "zoom": Real(0, 0.9, "[]"), "shear": Real(0, 80, "[]"), "shift": Real(0, 1, "[]"),
    "vertical_flip": Flag(), "horizontal_flip": Flag(), "intensity": Real(0, 1, "[]"), "contrast": Real(0, 0.9, "[]"),
    "gamma": Real(0, 9, "[]"), "blur": Real(0, 1, "[]"), "noise": Real(0, 1, "[]"), "one_technique": Flag()}
# Changes that are not techniques of the paper, and only apply together with the others.
_TOGETHER = ("shift", "gamma", "blur", "noise")

# The use of each uniform of one address. A seed must repeat a run, so append only.
(_TECHNIQUE, _VERTICAL, _HORIZONTAL, _ROTATION, _ZOOM, _SHEAR, _RIGHT, _UP, _INTENSITY, _CONTRAST, _GAMMA, _BLUR,
 _NOISE, _PIXELS) = range(14)       # from _PIXELS on one for each pixel of a channel


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """The ranges of random changes of images; each change is drawn uniformly from its range.

    Parameters
    ----------
    rotation : float, degrees; from -rotation to +rotation, positive is counter-clockwise
    zoom : float; magnification from 1 - zoom to 1 + zoom
    shear : float, degrees; from -shear to +shear, positive leans vertical lines counter-clockwise
    shift : float, fraction of the width (and of the height); from -shift to +shift in each direction
    vertical_flip, horizontal_flip : bool; flip half of the images upside down, or left to right
    intensity : float; added to all pixels (white is 1), from -intensity to +intensity
    contrast : float; distance from mid-grey multiplied by 1 - contrast to 1 + contrast
    gamma : float; pixels raised to a power from 1 / (1 + gamma) to 1 + gamma, uniform in its logarithm
    blur : float; the weight, from 0 to blur, of the image smoothed by (1, 2, 1) / 4 in both directions
    noise : float; to each pixel a number is added, uniform between -a and a, and a is from 0 to noise
    one_technique : bool; apply one of `techniques` to each image, all equally likely, instead of all together

    Raises
    ------
    InputError : a range that is not a number from 0 to its bound; shift, gamma, blur or noise with `one_technique`

    >>> Augmentation.paper().techniques == TECHNIQUES
    True
    >>> Augmentation(rotation=10).apply(np.zeros((1, 4, 4), np.uint8), seed=7, epochs=0, samples=0).shape
    (1, 4, 4, 3)
    """

    rotation: float = 0.0
    zoom: float = 0.0
    shear: float = 0.0
    shift: float = 0.0
    vertical_flip: bool = False
    horizontal_flip: bool = False
    intensity: float = 0.0
    contrast: float = 0.0
    gamma: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    one_technique: bool = False

    def __post_init__(self):
        for name, value in check_all("Augmentation", _CONSTRAINTS, asdict(self)).items():
            object.__setattr__(self, name, value)
        for name in _TOGETHER if self.one_technique else ():
            if value := getattr(self, name):
                raise InputError(f"Augmentation: {name} must be 0 with one_technique, got {value:g}. It is none of the "
                                 f"techniques: {', '.join(TECHNIQUES)}.")

    @classmethod
    def paper(cls):
        """Return the paper's seven techniques, one for each image.

        Rotation by -20 to +20 degrees, zoom 0.8 to 1.2, shear by -15 to +15 degrees (counter-clockwise positive),
        intensity shift by -0.1 to +0.1, vertical flip, horizontal flip, or the rescaled original. The paper names the
        techniques and not the ranges: these are ours.
        """
        return cls(rotation=20, zoom=0.2, shear=15, intensity=0.1, vertical_flip=True, horizontal_flip=True,
                   one_technique=True)

    @classmethod
    def honest(cls):
        """Return small changes that leave a chest radiograph anatomically possible, all applied together.

        Rotation by -10 to +10 degrees, zoom 0.9 to 1.1, shift by up to 5 % of the width and of the height, intensity
        shift by -0.1 to +0.1, contrast 0.9 to 1.1. No flips: the heart is on the left.
        """
        return cls(rotation=10, zoom=0.1, shift=0.05, intensity=0.1, contrast=0.1)

    @classmethod
    def strong(cls):
        """Return larger changes, also of what differs between hospitals, all applied together.

        With leave-one-source-out it did no better than `honest` (benchmarks/ROBUST.md).

        Rotation by -15 to +15 degrees, zoom 0.8 to 1.2, shear by -5 to +5 degrees, shift by up to 10 %: framing and
        pose. Intensity shift by -0.2 to +0.2, contrast 0.6 to 1.4, gamma 0.56 to 1.8: the display curve. Blur and noise:
        scanners, screens and JPEG. No flips.
        """
        return cls(rotation=15, zoom=0.2, shear=5, shift=0.1, intensity=0.2, contrast=0.4, gamma=0.8, blur=1.0, noise=0.1)

    @classmethod
    def covid_net(cls):
        """Return the changes of COVID-Net's Keras branch (networks/covidnet.py), with an intensity shift for its brightness.

        Rotation by -10 to +10 degrees, shift by up to 10 %, horizontal flip, intensity shift by -0.1 to +0.1.
        """
        return cls(rotation=10, shift=0.1, horizontal_flip=True, intensity=0.1)

    @classmethod
    def none(cls):
        """Return the augmentation that changes nothing: pixels divided by 255."""
        return cls()

    @property
    def techniques(self):
        """The names out of `TECHNIQUES` that this augmentation offers; `rescale`, nothing changed, is always one."""
        offered = {"rescale": True, "vertical_flip": self.vertical_flip, "horizontal_flip": self.horizontal_flip,
                   "rotation": self.rotation, "zoom": self.zoom, "shear": self.shear,
                   "intensity": self.intensity or self.contrast}
        return tuple(name for name in TECHNIQUES if offered[name])

    def to_dict(self):
        """Return the fields by name, for a configuration file.

        >>> Augmentation.from_dict(Augmentation.honest().to_dict()) == Augmentation.honest()
        True
        """
        return asdict(self)

    @classmethod
    def from_dict(cls, values):
        """Return the augmentation of `to_dict`; unknown, missing or out-of-range fields raise InputError."""
        check_fields("Augmentation", values, list(_CONSTRAINTS))
        return cls(**values)

    def apply(self, pixels, seed, epochs, samples, channels=3, technique=None, out=None):
        """Change each image as drawn for its (seed, epoch, sample), and scale it to [0, 1].

        Parameters
        ----------
        pixels : ndarray, shape (N, H, W) or (N, H, W, C) with C 1 or 3, uint8; or float32 or float64 in [0, 1]
        epochs, samples : whole numbers from 0, or integer ndarrays of shape (N,); the address of each image's draws
        channels : int; of the result; grey images are repeated, colour images keep theirs
        technique : int, or ndarray of shape (N,), integer, optional; index into `TECHNIQUES` of the only one to apply
            to each image, -1 to draw as usual
        out : ndarray, shape (N, H, W, channels), float32, optional; filled and returned

        Returns
        -------
        ndarray, shape (N, H, W, channels), float32, in [0, 1]

        Raises
        ------
        ShapeError, DTypeError, InputError : an argument of the wrong shape, type or range
        """
        pixels = _check_pixels(pixels)
        N, H, W, C = pixels.shape
        if channels not in ((1, 3) if C == 1 else (C,)):
            raise InputError(f"channels: expected {'1 or 3' if C == 1 else C} for pixels of shape {pixels.shape}, "
                             f"got {channels!r}.")
        if out is None:
            out = np.empty((N, H, W, channels), np.float32)
        else:
            check_output(out, (N, H, W, channels), np.float32, "Augmentation", "out")
        u = uniforms_batch(check_seed(seed), Stream.AUGMENTATION, _whole("epochs", epochs, N),
                           _whole("samples", samples, N), _PIXELS + (H * W * C if self.noise else 0))
        technique = self._technique(technique, u)
        matrices, gains, offsets = self._draw(u, technique, H, W)
        get_engine("fast").affine_warp(pixels, matrices, gains, offsets, out)
        if self.gamma or self.blur or self.noise:
            chosen = technique < 0
            out[chosen] = self._develop(out[chosen, :, :, :C], u[chosen])       # grey is computed once for all channels
        return out

    def _develop(self, x, u):
        """Return images (N, H, W, C) with gamma, blur and noise as drawn by the uniforms u."""
        if self.gamma:
            x = x ** _each(np.exp(np.log1p(self.gamma) * (2.0 * u[:, _GAMMA] - 1.0)))
        if self.blur:
            padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
            rows = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
            smooth = (rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]) / np.float32(16)
            x = x + _each(self.blur * u[:, _BLUR]) * (smooth - x)
        if self.noise:
            grain = (2.0 * u[:, _PIXELS:] - 1.0).astype(np.float32).reshape(x.shape)
            x = np.clip(x + _each(self.noise * u[:, _NOISE]) * grain, 0, 1)
        return x

    def _technique(self, technique, u):
        """Return (N,) indices into TECHNIQUES: those given, those drawn, or -1 where all apply together."""
        N = len(u)
        offered = np.array([TECHNIQUES.index(name) for name in self.techniques])
        drawn = offered[(u[:, _TECHNIQUE] * len(offered)).astype(int)] if self.one_technique else np.full(N, -1)
        if technique is None:
            return drawn
        given = _whole("technique", technique, N, lowest=-1)
        unknown = given[(given >= 0) & ~np.isin(given, offered)]
        if unknown.size:
            raise InputError(f"technique: expected -1 or one of "
                             f"{', '.join(f'{k} ({TECHNIQUES[k]})' for k in offered)}, got {unknown[0]}.")
        return np.where(given < 0, drawn, given)

    def _draw(self, u, technique, H, W):
        """Return the matrices, gains and offsets drawn by the uniforms u (N, 10 at least); derived above."""
        def used(name):  # the shift, which is not a technique, is used where all apply together
            return (technique < 0) | (technique == (TECHNIQUES.index(name) if name in TECHNIQUES else -1))

        def between(extent, slot, name):  # drawn from -extent to +extent
            return np.where(used(name), extent * (2.0 * u[:, slot] - 1.0), 0.0)

        def flipped(name, slot):  # a given technique always flips; together with the others the probability is 1/2
            return getattr(self, name) & used(name) & ((technique >= 0) | (u[:, slot] < 0.5))

        matrices = affine_matrices(
            H, W, rotation=between(self.rotation, _ROTATION, "rotation"), zoom=1.0 + between(self.zoom, _ZOOM, "zoom"),
            shear=between(self.shear, _SHEAR, "shear"), right=between(self.shift * W, _RIGHT, "shift"),
            up=between(self.shift * H, _UP, "shift"), vertical_flip=flipped("vertical_flip", _VERTICAL),
            horizontal_flip=flipped("horizontal_flip", _HORIZONTAL))
        # contrast * (pixel - 1/2) + 1/2 + intensity, as one gain and one offset
        gains = 1.0 + between(self.contrast, _CONTRAST, "intensity")
        offsets = between(self.intensity, _INTENSITY, "intensity") + 0.5 * (1.0 - gains)
        return matrices, gains.astype(np.float32), offsets.astype(np.float32)


def affine_matrices(H, W, rotation, zoom=1.0, shear=0.0, right=0.0, up=0.0, vertical_flip=False, horizontal_flip=False):
    """Return the matrices from output indices (row, column, 1) to input indices; derived above.

    Parameters
    ----------
    H, W : int; the size of the images
    rotation : ndarray, shape (N,), degrees counter-clockwise
    zoom, shear, right, up : float or ndarray of shape (N,); magnification, degrees, and pixels
    vertical_flip, horizontal_flip : bool or ndarray of shape (N,)

    Returns
    -------
    ndarray, shape (N, 2, 3), float64

    >>> affine_matrices(4, 4, rotation=np.zeros(1), horizontal_flip=True)[0]
    array([[ 1.,  0.,  0.],
           [ 0., -1.,  3.]])
    """
    a, T = np.radians(rotation), np.tan(np.radians(shear))
    across, upright = np.where(horizontal_flip, -1.0, 1.0) / zoom, np.where(vertical_flip, -1.0, 1.0) / zoom
    xx, xy = across * (np.cos(a) - T * np.sin(a)), across * (np.sin(a) + T * np.cos(a))
    yx, yy = upright * -np.sin(a), upright * np.cos(a)
    centre_x, centre_y = (W - 1) / 2, (H - 1) / 2
    at_x, at_y = centre_x + right, centre_y - up  # where the centre of the image arrives, as column and row
    # column = x + centre_x and row = centre_y - y, on both sides of p = A (q - t)
    matrices = np.empty((len(a), 2, 3))
    matrices[:, 0] = np.stack([yy, -yx, centre_y + yx * at_x - yy * at_y], axis=-1)
    matrices[:, 1] = np.stack([-xy, xx, centre_x - xx * at_x + xy * at_y], axis=-1)
    return matrices + 0.0  # no negative zeros


def _each(values):
    """Return one float32 for each image, (N, 1, 1, 1)."""
    return values.astype(np.float32)[:, np.newaxis, np.newaxis, np.newaxis]


def _check_pixels(pixels):
    """Return pixels as a contiguous (N, H, W, C) array of uint8 or float32, or raise."""
    if np.ma.is_masked(pixels):
        raise InputError("pixels: they are masked in places. Fill them first: pixels.filled(0).")
    pixels = np.asarray(pixels)
    if pixels.ndim == 3:
        pixels = pixels[..., np.newaxis]
    if pixels.ndim != 4 or pixels.shape[3] not in (1, 3) or 0 in pixels.shape[1:]:
        channels_first = pixels.ndim == 4 and pixels.shape[1] in (1, 3)
        raise ShapeError(f"pixels: expected shape (N, H, W), (N, H, W, 1) or (N, H, W, 3), got {pixels.shape}."
                         + (" Images are channels-last; try pixels.transpose(0, 2, 3, 1)." if channels_first else ""))
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    if pixels.dtype.kind != "f":
        raise DTypeError(f"pixels: expected uint8, or float32 or float64 in [0, 1], got {pixels.dtype}.")
    if pixels.size and not (pixels.min() >= 0 and pixels.max() <= 1):  # false for a NaN
        raise InputError(f"pixels: expected floats from 0 to 1, got {pixels.min():g} to {pixels.max():g}. "
                         f"Divide by the value of white, or pass uint8.")
    return np.require(pixels, np.float32, ["C", "A"])


def _whole(name, values, N, lowest=0):
    """Return values as (N,) integers not below `lowest`, or raise; one number stands for all images."""
    values = np.asarray(values)
    if values.dtype.kind not in "iu":
        raise DTypeError(f"{name}: expected whole numbers, got {values.dtype}.")
    if values.shape not in ((), (N,)):
        raise ShapeError(f"{name}: expected one number, or one for each of the {N} images, got shape {values.shape}.")
    if values.size and values.min() < lowest:
        raise InputError(f"{name}: expected numbers from {lowest}, got {values.min()}.")
    return np.broadcast_to(values, (N,))


def uniforms_batch(seed, stream, epochs, samples, n):
    """Draw for each i the `n` numbers of `uniforms(seed, stream, epochs[i], samples[i], n)`.

    A kernel draws them all (kernels/philox.py) on either engine, in less time than NumPy takes to make one generator.

    Parameters
    ----------
    epochs, samples : sequences of whole numbers of equal length

    Returns
    -------
    ndarray, shape (len(samples), n), float64

    >>> from minicnn.core.random import uniforms
    >>> u = uniforms_batch(7, Stream.AUGMENTATION, [0, 5], [3, 1], 2)
    >>> bool((u[1] == uniforms(7, Stream.AUGMENTATION, 5, 1, 2)).all())
    True
    """
    epochs, samples = np.asarray(epochs, np.uint64), np.asarray(samples, np.uint64)
    if epochs.shape != samples.shape:
        raise InputError(f"uniforms_batch: {len(epochs)} epochs for {len(samples)} samples; each address needs both.")
    out = np.empty((len(samples), n))
    get_engine("fast").philox_uniforms(np.uint64(seed), np.uint64(stream), epochs, samples, out)
    return out
