"""The same radiograph under two names: saved again in another format or size, cut, turned, its exposure changed, mirrored.

Candidates come from two sides, for radiographs of different people are much alike. One is a perceptual hash: of the
picture's discrete cosine transform, the signs of the 255 coefficients of lowest frequency (16 x 16 without the mean). A
mirror flips the signs of the odd horizontal frequencies and no others, so the hash of the mirrored picture is known
without it. Pairs whose hashes differ in at most 56 of 255 bits are looked at: each picture less its blur, over the local
contrast, and the correlation r of the two. The other is registration.py, which lays a picture over those most like it
before r is taken.

Measured on 1,008 public radiographs and on synthetic ones, which are all of one make. Different pictures reach r =
0.71 (0.59 mirrored) and 0.79 as they lie, so 0.85 is the border there. Laid over each other, those of two people reach
0.93, and those of one person 0.97: 0.945 is the border for two, 0.985 for one, and 0.96 where nobody knows. Of 53 to
106 copies of each kind, in files of 64 to 512 pixels, mirrored or not, all are found that were saved as JPEG of
quality 40, at half the size, blurred, made darker, brighter or of another contrast, turned by up to 5 degrees, moved
by 2 %, cut by up to 3 % on each side, or tagged with a square of a tenth of the side; 98 % of those cut by 5 % on each
side, 96 % with an equalised histogram, 89 % turned by 8 degrees, 85 % cut by 5 % on one side alone, 72 % cut by 7 % on
each. Of those cut by 4 % and saved as JPEG of quality 40, hardly any in files of 64 pixels. None whose black is white.
"""

import hashlib
from typing import NamedTuple

import numpy as np

from minicnn.data import registration
from minicnn.data.preprocessing import Preprocessing, resize

__all__ = ["Pair", "perceptual_hashes", "mirror_bits", "likeness", "find_pairs", "clusters"]

_SIDE, _LOW = 64, 16            # the picture's side, and the frequencies kept in each direction
_MOST_BITS, _LEAST_LIKENESS = 56, 0.85
_LEAST_LAID_OVER, _LEAST_OF_TWO, _LEAST_OF_ONE = 0.96, 0.945, 0.985     # where patients are unknown, two, one
_BLUR, _NOISE = 4, 4.0          # half the width of the blur in pixels; what is noise of 255
_BLOCK, _ROWS, _COLUMNS = 128, 32, 4096       # pictures read at once; hashes compared with hashes in one go

_known, _MOST_KNOWN = {}, 8     # pairs by the digest of all pixels
_GREY = Preprocessing(_SIDE, _SIDE, 1)


class Pair(NamedTuple):
    """Two images, by number, that show the same picture."""

    first: int
    second: int
    how: str            # "exact": the same pixels; "near"; "mirrored"
    likeness: float     # the correlation of their details, 1 for equal ones


def perceptual_hashes(pictures):
    """Return the 256 signs of the low frequencies of each picture.

    Parameters
    ----------
    pictures : ndarray, shape (n, 64, 64), from 0 to 255

    Returns
    -------
    ndarray, shape (n, 4), uint64; the bit of the mean is 0

    >>> picture = np.outer(np.arange(64) ** 2 % 97, np.arange(64) ** 2 % 89)[np.newaxis]
    >>> bool((perceptual_hashes(picture) ^ perceptual_hashes(picture[:, :, ::-1]) == mirror_bits()).all())
    True
    """
    # The cosine transform's basis, (u, i): cos(pi u (2 i + 1) / 2 N), the same in both directions.
    basis = np.cos(np.pi * np.outer(np.arange(_LOW), 2 * np.arange(_SIDE) + 1) / (2 * _SIDE))
    signs = basis @ np.asarray(pictures, np.float64) @ basis.T > 0
    return _packed(signs)


def mirror_bits():
    """Return the bits, (4,) uint64, that differ between the hash of a picture and that of its mirror image."""
    return _packed(np.tile(np.arange(_LOW) % 2 == 1, (1, _LOW, 1)))[0]


def _packed(signs):
    signs = signs.reshape(len(signs), -1)
    signs[:, 0] = False
    return np.packbits(signs, axis=1).view(np.uint64)


def likeness(first, second, known=None):
    """Return the correlation of the details of pictures, one pair after another.

    Parameters
    ----------
    first, second : ndarrays, shape (n, 64, 64), from 0 to 255
    known : ndarray, shape (n, 64, 64), bool, optional; where the second picture is known

    Returns
    -------
    ndarray, shape (n,), from -1 to 1; 0 where a picture has no detail
    """
    # The outermost pixels are left out: there a scan ends, or a frame begins.
    inner, edge = np.zeros(np.shape(first), bool), 2 if known is None else _BLUR
    inner[:, edge:-edge, edge:-edge] = True if known is None else known[:, edge:-edge, edge:-edge]
    return registration.correlation(_details(first), _details(second), inner)


def _details(pictures):
    """Return what is left of each picture without its blur, over the local contrast."""
    pictures = np.asarray(pictures, np.float64)
    fine = pictures - _blurred(pictures)
    return fine / (np.sqrt(np.maximum(_blurred(fine * fine), 0)) + _NOISE)


def _blurred(pictures):
    """Return the mean over the 9 x 9 pixels around each; beyond the edge lies the nearest pixel."""
    width = 2 * _BLUR + 1
    padded = np.pad(pictures, ((0, 0), (_BLUR, _BLUR), (_BLUR, _BLUR)), mode="edge")
    sums = np.pad(padded.cumsum(axis=1).cumsum(axis=2), ((0, 0), (1, 0), (1, 0)))
    return (sums[:, width:, width:] - sums[:, :-width, width:] - sums[:, width:, :-width]
            + sums[:, :-width, :-width]) / width**2


def find_pairs(pixels, patients=None):
    """Return pairs of images that show the same picture, in order: list of Pair.

    Each pair joins two images that no other pairs join, directly or through others: n copies are n - 1 pairs. Memory
    holds 600 bytes an image; the time grows with the square of their number.

    Parameters
    ----------
    pixels : PixelCache, MemoryPixels, or the like: `read(numbers)` gives uint8 pictures, `pixel_digests` their digests
    patients : sequence of n str, "" where unknown, optional; two radiographs of one person can be laid over each other
        well, so more likeness is asked of them, and less of two people's
    """
    search = _Search(pixels, patients)
    n = len(search.firsts)
    hashes, coarse = np.empty((n, 4), np.uint64), np.empty((n, 256), np.float16)
    for at in range(0, n, _BLOCK):
        block = slice(at, min(at + _BLOCK, n))
        pictures = search.read(np.arange(n)[block])
        hashes[block], coarse[block] = perceptual_hashes(pictures), registration.features(pictures)
    for how, flips in (("near", np.zeros(4, np.uint64)), ("mirrored", mirror_bits())):
        for a, b in _candidates(hashes, flips):
            search.compare(a, b, how)
    for how in ("near", "mirrored"):
        for a, b, zoomed in registration.candidates(coarse, search.read, how == "mirrored"):
            search.compare(a, b, how, zoomed)
    return sorted(search.pairs)


class _Search:
    """The pairs found so far, and which images they join.

    Images are numbered here without those that equal an earlier one.
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
        """Return grey pictures: ndarray, shape (n, 64, 64)."""
        return _grey(self.pixels.read(self.firsts[numbers]))

    def compare(self, a, b, how, zoomed=None):
        """Look at pairs, and join those that show the same picture; with `zoomed`, once the second lies over the first."""
        while (apart := self.joined[a] != self.joined[b]).any():
            a, b, zoomed = (each if each is None else each[apart] for each in (a, b, zoomed))
            first, second = self.read(a[:_BLOCK]), self.read(b[:_BLOCK])
            second = second[:, :, ::-1] if how == "mirrored" else second
            if zoomed is None:
                alike, least = likeness(first, second), _LEAST_LIKENESS
            else:
                alike, least = np.zeros(len(first)), self._least(a[:_BLOCK], b[:_BLOCK])
                worth, *laid = registration.lay_over(first, second, zoomed[:_BLOCK], _BLUR)
                alike[worth] = likeness(first[worth], *laid)
            for k in np.flatnonzero(alike >= least):
                self._join(a[k], b[k], how, float(alike[k]))
            a, b, zoomed = (each if each is None else each[_BLOCK:] for each in (a, b, zoomed))

    def _least(self, a, b):
        """Return the likeness asked of pairs that are laid over each other."""
        if self.patients is None:
            return _LEAST_LAID_OVER
        one, other = (np.asarray(self.patients, object)[self.firsts[numbers]] for numbers in (a, b))
        known = (one != "") & (other != "")
        return np.where(known, np.where(one == other, _LEAST_OF_ONE, _LEAST_OF_TWO), _LEAST_LAID_OVER)

    def _join(self, a, b, how, alike):
        if self.joined[a] != self.joined[b]:
            self.joined[self.joined == self.joined[b]] = self.joined[a]
            self.pairs.append(Pair(*sorted((int(self.firsts[a]), int(self.firsts[b]))), how, alike))


def _candidates(hashes, flips):
    """Yield (a, b), a < b, the numbers of pairs of hashes that differ in few bits once `flips` are undone.

    A block of 32 x 4096 pairs stays in the cache; measured, it is half again as fast as 1024 x 1024.
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
    """Return the cluster of each image: those that show the same picture, directly or through others, have one number.

    Parameters
    ----------
    pixels : as for `find_pairs`
    pairs : list of Pair, optional; where they are known already

    Returns
    -------
    ndarray, shape (n, 8), uint8; rows that are equal for images of one cluster, as `split.groups` takes them
    """
    if pairs is None:       # the parts of one collection, and the runs of one process, ask again and again
        key = hashlib.sha256(np.ascontiguousarray(pixels.pixel_digests)).digest()
        if key not in _known:
            while len(_known) >= _MOST_KNOWN:
                del _known[next(iter(_known))]
            _known[key] = find_pairs(pixels)
        pairs = _known[key]
    number = np.arange(len(pixels))
    if pairs:
        first, second = np.array([(pair.first, pair.second) for pair in pairs]).T
        before = None
        while before is None or (number != before).any():   # each takes the lowest number of those it is like
            before = number.copy()
            np.minimum.at(number, first, number[second])
            np.minimum.at(number, second, number[first])
    return number[:, np.newaxis].view(np.uint8)


def _grey(pictures):
    """Return uint8 pictures of any size, grey or in colour, as grey ones of 64 x 64."""
    if pictures.ndim == 4:
        pictures = pictures @ np.array([0.299, 0.587, 0.114], np.float32)
    if pictures.shape[1:] == (_SIDE, _SIDE):
        return pictures
    return np.stack([resize(picture, _GREY) for picture in pictures])
