"""Near-duplicates: the same radiograph saved again, resized, cropped, rotated, mirrored, or with another exposure.

Candidate pairs come from two methods, because radiographs of different people are similar. The first is a perceptual
hash: the signs of the 255 coefficients of lowest frequency of the image's discrete cosine transform (16 x 16 without
the mean). Mirroring flips the signs of the odd horizontal frequencies and no others, so the hash of the mirrored image
follows from that of the image. Pairs whose hashes differ in at most 56 of 255 bits are compared: each image less its
blur, over the local contrast, and the correlation r of the two. The second is registration.py, which aligns an image
with those most similar to it before r is computed.

Measured on 1,008 public radiographs and on synthetic ones, which resemble each other. Unaligned, different images reach
r = 0.71 (0.59 mirrored) and 0.79, so 0.85 is the threshold. Aligned, those of two people reach 0.93, and those of one
person 0.97: the threshold is 0.945 for two, 0.985 for one, and 0.96 where patients are unknown. Of 53 to 106 copies of
each kind, in files of 64 to 512 pixels, mirrored or not, all are found that were saved as JPEG of quality 40, at half
the size, blurred, made darker, brighter or of another contrast, rotated by up to 5 degrees, shifted by 2 %, cropped by
up to 3 % on each side, or tagged with a square of a tenth of the side; 98 % of those cropped by 5 % on each side, 96 %
with an equalised histogram, 89 % rotated by 8 degrees, 85 % cropped by 5 % on one side alone, 72 % cropped by 7 % on
each. Of those cropped by 4 % and saved as JPEG of quality 40, hardly any in files of 64 pixels. None that are inverted.
"""

import hashlib
from typing import NamedTuple

import numpy as np

from minicnn.data import registration
from minicnn.data.preprocessing import Preprocessing, resize
from minicnn.data.split import components

__all__ = ["Pair", "perceptual_hashes", "mirror_bits", "similarity", "find_pairs", "clusters"]

_SIDE, _LOW = 64, 16            # the side of an image, and the frequencies kept in each direction
_MOST_BITS, _LEAST_SIMILARITY = 56, 0.85
_LEAST_ALIGNED, _LEAST_OF_TWO, _LEAST_OF_ONE = 0.96, 0.945, 0.985       # patients unknown, two, one
_BLUR, _NOISE = 4, 4.0          # half the width of the blur in pixels; the noise level of 255
_BLOCK, _ROWS, _COLUMNS = 128, 32, 4096       # images read at once; hashes compared at once

_known, _MOST_KNOWN = {}, 8     # pairs by the digest of all pixel digests
_GREY = Preprocessing(_SIDE, _SIDE, 1)


class Pair(NamedTuple):
    """Two images, by number, that show the same radiograph."""

    first: int
    second: int
    how: str            # "exact": the same pixels; "near"; "mirrored"
    similarity: float     # the correlation of their details, 1 for equal ones


def perceptual_hashes(images):
    """Return the 256 signs of the low frequencies of each image.

    Parameters
    ----------
    images : ndarray, shape (n, 64, 64), from 0 to 255

    Returns
    -------
    ndarray, shape (n, 4), uint64; the bit of the mean is 0

    >>> image = np.outer(np.arange(64) ** 2 % 97, np.arange(64) ** 2 % 89)[np.newaxis]
    >>> bool((perceptual_hashes(image) ^ perceptual_hashes(image[:, :, ::-1]) == mirror_bits()).all())
    True
    """
    # The cosine transform's basis, (u, i): cos(pi u (2 i + 1) / 2 N), the same in both directions.
    basis = np.cos(np.pi * np.outer(np.arange(_LOW), 2 * np.arange(_SIDE) + 1) / (2 * _SIDE))
    signs = basis @ np.asarray(images, np.float64) @ basis.T > 0
    return _packed(signs)


def mirror_bits():
    """Return the bits, (4,) uint64, that differ between the hash of an image and that of its mirror image."""
    return _packed(np.tile(np.arange(_LOW) % 2 == 1, (1, _LOW, 1)))[0]


def _packed(signs):
    signs = signs.reshape(len(signs), -1)
    signs[:, 0] = False
    return np.packbits(signs, axis=1).view(np.uint64)


def similarity(first, second, known=None):
    """Return the correlation of the details of images, one pair after another.

    Parameters
    ----------
    first, second : ndarrays, shape (n, 64, 64), from 0 to 255
    known : ndarray, shape (n, 64, 64), bool, optional; the pixels where the second image is defined

    Returns
    -------
    ndarray, shape (n,), from -1 to 1; 0 where an image has no detail
    """
    # The outermost pixels are left out: scans end and frames begin there.
    inner, edge = np.zeros(np.shape(first), bool), 2 if known is None else _BLUR
    inner[:, edge:-edge, edge:-edge] = True if known is None else known[:, edge:-edge, edge:-edge]
    return registration.correlation(_details(first), _details(second), inner)


def _details(images):
    """Return each image less its blur, over the local contrast."""
    images = np.asarray(images, np.float64)
    fine = images - _blurred(images)
    return fine / (np.sqrt(np.maximum(_blurred(fine * fine), 0)) + _NOISE)


def _blurred(images):
    """Return the mean over the 9 x 9 pixels around each; the edges are extended."""
    width = 2 * _BLUR + 1
    padded = np.pad(images, ((0, 0), (_BLUR, _BLUR), (_BLUR, _BLUR)), mode="edge")
    sums = np.pad(padded.cumsum(axis=1).cumsum(axis=2), ((0, 0), (1, 0), (1, 0)))
    return (sums[:, width:, width:] - sums[:, :-width, width:] - sums[:, width:, :-width]
            + sums[:, :-width, :-width]) / width**2


def find_pairs(pixels, patients=None):
    """Return pairs of images that show the same radiograph, in order: list of Pair.

    The pairs form no cycles: n copies are n - 1 pairs. It needs 600 bytes of memory per image, and time that grows
    with the square of their number.

    Parameters
    ----------
    pixels : PixelCache, MemoryPixels or similar: `read(numbers)` returns uint8 images, `pixel_digests` their digests
    patients : sequence of n str, "" where unknown, optional; two radiographs of one person align well, so their
        threshold is higher, and that of two people's is lower
    """
    search = _Search(pixels, patients)
    n = len(search.firsts)
    hashes, coarse = np.empty((n, 4), np.uint64), np.empty((n, 256), np.float16)
    for at in range(0, n, _BLOCK):
        block = slice(at, min(at + _BLOCK, n))
        images = search.read(np.arange(n)[block])
        hashes[block], coarse[block] = perceptual_hashes(images), registration.features(images)
    for how, flips in (("near", np.zeros(4, np.uint64)), ("mirrored", mirror_bits())):
        for a, b in _candidates(hashes, flips):
            search.compare(a, b, how)
    for how in ("near", "mirrored"):
        for a, b, zoomed in registration.candidates(coarse, search.read, how == "mirrored"):
            search.compare(a, b, how, zoomed)
    return sorted(search.pairs)


class _Search:
    """The pairs found so far, and the groups of images they join.

    Images that equal an earlier one are left out of the numbering.
    """

    def __init__(self, pixels, patients):
        self.pixels, self.patients, self.pairs, firsts, last = pixels, patients, [], [], {}
        for i, digest in enumerate(map(bytes, pixels.pixel_digests)):
            if digest in last:
                self.pairs.append(Pair(last[digest], i, "exact", 1.0))
            else:
                firsts.append(i)
            last[digest] = i
        self.firsts, self.joined = np.array(firsts, np.int64), np.arange(len(firsts))

    def read(self, numbers):
        """Return grey images: ndarray, shape (n, 64, 64)."""
        return _grey(self.pixels.read(self.firsts[numbers]))

    def compare(self, a, b, how, zoomed=None):
        """Compare pairs, and join those that show the same radiograph; with `zoomed`, the second is aligned first."""
        while (apart := self.joined[a] != self.joined[b]).any():
            a, b, zoomed = (each if each is None else each[apart] for each in (a, b, zoomed))
            first, second = self.read(a[:_BLOCK]), self.read(b[:_BLOCK])
            second = second[:, :, ::-1] if how == "mirrored" else second
            if zoomed is None:
                alike, least = similarity(first, second), _LEAST_SIMILARITY
            else:
                alike, least = np.zeros(len(first)), self._thresholds(a[:_BLOCK], b[:_BLOCK])
                worth, *aligned = registration.register(first, second, zoomed[:_BLOCK], _BLUR)
                alike[worth] = similarity(first[worth], *aligned)
            for k in np.flatnonzero(alike >= least):
                self._join(a[k], b[k], how, float(alike[k]))
            a, b, zoomed = (each if each is None else each[_BLOCK:] for each in (a, b, zoomed))

    def _thresholds(self, a, b):
        """Return the similarity from which aligned pairs show the same radiograph."""
        if self.patients is None:
            return _LEAST_ALIGNED
        one, other = (np.asarray(self.patients, object)[self.firsts[numbers]] for numbers in (a, b))
        known = (one != "") & (other != "")
        return np.where(known, np.where(one == other, _LEAST_OF_ONE, _LEAST_OF_TWO), _LEAST_ALIGNED)

    def _join(self, a, b, how, alike):
        if self.joined[a] != self.joined[b]:
            self.joined[self.joined == self.joined[b]] = self.joined[a]
            self.pairs.append(Pair(*sorted((int(self.firsts[a]), int(self.firsts[b]))), how, alike))


def _candidates(hashes, flips):
    """Yield (a, b), a < b, the numbers of pairs of hashes that differ in few bits after flipping the bits `flips`.

    A block of 32 x 4096 pairs stays in the CPU's cache; measured, it is 1.5 times as fast as 1024 x 1024.
    """
    words, flipped = np.ascontiguousarray(hashes.T), np.ascontiguousarray((hashes ^ flips).T)
    for at in range(0, len(hashes), _ROWS):
        block = flipped[:, at:at + _ROWS, np.newaxis]
        for start in range(at, len(hashes), _COLUMNS):
            others = words[:, np.newaxis, start:start + _COLUMNS]
            # At most 255 bits differ: uint8 holds their number.
            bits = sum(np.bitwise_count(block[word] ^ others[word]) for word in range(4))
            a, b = np.nonzero(bits <= _MOST_BITS)
            a, b = a + at, b + start
            yield a[a < b], b[a < b]


def clusters(pixels, pairs=None):
    """Return the cluster of each image: those joined by pairs that show the same radiograph.

    Parameters
    ----------
    pixels : as for `find_pairs`
    pairs : list of Pair, optional; by default those of `find_pairs`

    Returns
    -------
    ndarray, shape (n, 8), uint8; rows that are equal for images of one cluster, as `split.groups` takes them
    """
    if pairs is None:       # subsets of one collection and runs of one process need them again
        key = hashlib.sha256(np.ascontiguousarray(pixels.pixel_digests)).digest()
        if key not in _known:
            while len(_known) >= _MOST_KNOWN:
                del _known[next(iter(_known))]
            _known[key] = find_pairs(pixels)
        pairs = _known[key]
    return components(len(pixels), [(pair.first, pair.second) for pair in pairs])[:, np.newaxis].view(np.uint8)


def _grey(images):
    """Return uint8 images of any size, grey or in colour, as grey images of 64 x 64."""
    if images.ndim == 4:
        images = images @ np.array([0.299, 0.587, 0.114], np.float32)
    if images.shape[1:] == (_SIDE, _SIDE):
        return images
    return np.stack([resize(image, _GREY) for image in images])
