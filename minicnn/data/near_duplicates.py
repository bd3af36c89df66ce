"""Near-duplicates: the same radiograph saved again, resized, cropped, rotated, mirrored, or with another exposure.

Candidate pairs come from two methods, because radiographs of different people are similar. The first is a perceptual
hash: the signs of the 255 coefficients of lowest frequency of the image's discrete cosine transform (16 x 16 without
the mean). Mirroring flips the signs of the odd horizontal frequencies and no others, so the hash of the mirrored image
follows from that of the image. Pairs whose hashes differ in at most 56 of 255 bits are compared: each image less its
blur, over the local contrast, and the correlation r of the two. The second is registration.py, which aligns an image
with those most similar to it before r is computed. Few pairs come that far: a sample of the pixels, and the coarse
features aligned, tell most apart without reading an image. Their limits are 0.70 and 0.94; of 366 and 2,572 pairs that
are copies, none was below 0.84 and 0.966.

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
import os
from typing import NamedTuple

import numpy as np

from minicnn.core.progress import Progress
from minicnn.data import registration
from minicnn.data.pixel_cache import keep, recall
from minicnn.data.preprocessing import Preprocessing, resize
from minicnn.data.split import components
from minicnn.data.workers import in_order

__all__ = ["Pair", "perceptual_hashes", "mirror_bits", "similarity", "find_pairs", "clusters"]

_SIDE, _LOW = 64, 16            # the side of an image, and the frequencies kept in each direction
_MOST_BITS, _LEAST_SAMPLED, _LEAST_SIMILARITY = 56, 0.70, 0.85
_LEAST_ALIGNED, _LEAST_OF_TWO, _LEAST_OF_ONE = 0.96, 0.945, 0.985       # patients unknown, two, one
_BLUR, _NOISE = 4, 4.0          # half the width of the blur in pixels; the noise level of 255
_BLOCK, _ROWS, _COLUMNS = 128, 32, 4096       # images read at once; hashes compared at once
_WORKERS = min(os.cpu_count() or 1, 8)
_AHEAD = 2 * _WORKERS

_VERSION, _HOW = 3, ("exact", "near", "mirrored")       # of what is kept: raise it with any change of what is found
# The mean over the 9 pixels around each; the edges are extended.
_BOX = sum(np.eye(_SIDE, dtype=np.float32)[np.clip(np.arange(_SIDE) + k, 0, _SIDE - 1)]
           for k in range(-_BLUR, _BLUR + 1)) / np.float32(2 * _BLUR + 1)
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
    images : ndarray, shape (n, H, W), from 0 to 255

    Returns
    -------
    ndarray, shape (n, 4), uint64; the bit of the mean is 0

    >>> image = np.outer(np.arange(64) ** 2 % 97, np.arange(64) ** 2 % 89)[np.newaxis]
    >>> bool((perceptual_hashes(image) ^ perceptual_hashes(image[:, :, ::-1]) == mirror_bits()).all())
    True
    """
    images = np.asarray(images, np.float64)
    # The cosine transform's basis of an axis, (u, i): cos(pi u (2 i + 1) / 2 N).
    down, across = (np.cos(np.pi * np.outer(np.arange(_LOW), 2 * np.arange(side) + 1) / (2 * side))
                    for side in images.shape[1:])
    return _packed(down @ images @ across.T > 0)


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
    images = np.asarray(images, np.float32)
    fine = images - registration.blurred(images, _BOX)
    return fine / (np.sqrt(registration.blurred(fine * fine, _BOX)) + _NOISE)


def _sample(details):
    """Return every third of the details in both directions, in the middle of each image, scaled to whole numbers: int8.

    Their correlation estimates that of all. Where that was 0.85 or more, the estimate was never below 0.84.
    """
    sampled = details[:, 3:-3:3, 3:-3:3].reshape(len(details), 400)
    sampled = sampled - sampled.mean(axis=1, keepdims=True)
    return np.round(sampled * (127 / np.maximum(np.abs(sampled).max(axis=1, keepdims=True), 1e-6))).astype(np.int8)


def find_pairs(pixels, patients=None, progress=False):
    """Return pairs of images that show the same radiograph, in order: list of Pair.

    The pairs form no cycles: n copies are n - 1 pairs. It needs 1,200 bytes of memory per image. What was found is kept
    in the pixel cache.

    Parameters
    ----------
    pixels : PixelCache, MemoryPixels or similar: `read(numbers)` returns uint8 images, `pixel_digests` their digests
    patients : sequence of n str, "" where unknown, optional; two radiographs of one person align well, so their
        threshold is higher, and that of two people's is lower
    progress : bool; show a bar on stderr
    """
    key = _key(pixels, patients)
    kept = recall(key)
    if kept is None:
        pairs = _search(pixels, patients, progress)
        keep(key, np.array([(*pair[:2], _HOW.index(pair.how), pair.similarity) for pair in pairs], "<f8").tobytes())
        return pairs
    return [Pair(int(first), int(second), _HOW[int(how)], float(alike))
            for first, second, how, alike in np.frombuffer(kept, "<f8").reshape(-1, 4)]


def _search(pixels, patients, progress):
    search = _Search(pixels, patients)
    n = len(search.firsts)
    starts, hashes, coarse = range(0, n, _BLOCK), np.empty((n, 4), np.uint64), np.empty((n, 256), np.float16)
    search.sampled = np.empty((n, 400), np.int8)

    def describe(at):
        images = search.read(np.arange(at, min(at + _BLOCK, n)))
        return perceptual_hashes(images), registration.features(images), _sample(_details(images))

    with Progress(5 * n, "finding copies", "step", progress) as bar:
        for at, parts in zip(starts, in_order(describe, starts, _WORKERS, _AHEAD, "minicnn-copies")):
            for whole, part in zip((hashes, coarse, search.sampled), parts):
                whole[at:at + len(part)] = part
            bar.advance(len(part))
        for how, flips in (("near", np.zeros(4, np.uint64)), ("mirrored", mirror_bits())):
            search.compare(_candidates(hashes, flips, bar.advance), how)
        worth = registration.candidates(coarse, search.read, bar.advance, _WORKERS)
        for how in ("near", "mirrored"):
            search.compare([worth[how == "mirrored"]], how)
        bar.advance(n)
    return sorted(search.pairs)


def _key(pixels, patients):
    """Return the name in the cache of the pairs of these images: a digest of all that decides them."""
    shape = pixels.read(np.arange(0)).shape[1:]
    known = repr((_VERSION, shape, None if patients is None else list(patients))).encode("utf-8", "replace")
    return f"copies-{hashlib.sha256(known + np.ascontiguousarray(pixels.pixel_digests).tobytes()).hexdigest()}"


class _Search:
    """The pairs found so far, and the groups of images they join.

    Images that equal an earlier one are left out of the numbering.
    """

    def __init__(self, pixels, patients):
        self.pixels, self.pairs, firsts, last = pixels, [], [], {}
        self.patients = None if patients is None else np.array(patients, object)
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

    def compare(self, blocks, how):
        """Compare blocks of pairs, (a, b), or (a, b, zoomed) to align b with a first; join those that are copies."""
        parts = ([each[at:at + _BLOCK] for each in block] for block in blocks for at in range(0, len(block[0]), _BLOCK))
        for a, b, alike in in_order(lambda part: self._copies(how, *part), parts, _WORKERS, _AHEAD, "minicnn-copies"):
            for pair in zip(a, b, alike):
                self._join(*pair, how)

    def _copies(self, how, a, b, zoomed=None):
        """Return (a, b, similarity) of those of at most `_BLOCK` pairs that show the same radiograph."""
        chosen = np.flatnonzero(self.joined[a] != self.joined[b])
        if zoomed is None:
            chosen = chosen[self._sampled(a[chosen], b[chosen], how) >= _LEAST_SAMPLED]
        a, b = a[chosen], b[chosen]
        if not len(a):
            return a, b, np.zeros(0)
        first, second = self.read(a), self.read(b)[:, :, ::-1] if how == "mirrored" else self.read(b)
        if zoomed is None:
            alike, least = similarity(first, second), _LEAST_SIMILARITY
        else:
            alike, least = np.zeros(len(first)), self._thresholds(a, b)
            worth, *aligned = registration.register(first, second, zoomed[chosen], _BLUR)
            alike[worth] = similarity(first[worth], *aligned)
        copies = alike >= least
        return a[copies], b[copies], alike[copies]

    def _sampled(self, a, b, how):
        """Return the similarity of pairs of images, from a sample of their pixels."""
        first, second = self.sampled[a].astype(np.float32), self.sampled[b].astype(np.float32)
        if how == "mirrored":
            second = registration.mirrored(second)
        sizes = np.sqrt((first * first).sum(axis=1) * (second * second).sum(axis=1))
        return (first * second).sum(axis=1) / np.maximum(sizes, 1)

    def _thresholds(self, a, b):
        """Return the similarity from which aligned pairs show the same radiograph."""
        if self.patients is None:
            return _LEAST_ALIGNED
        one, other = (self.patients[self.firsts[numbers]] for numbers in (a, b))
        known = (one != "") & (other != "")
        return np.where(known, np.where(one == other, _LEAST_OF_ONE, _LEAST_OF_TWO), _LEAST_ALIGNED)

    def _join(self, a, b, alike, how):
        if self.joined[a] != self.joined[b]:
            self.joined[self.joined == self.joined[b]] = self.joined[a]
            self.pairs.append(Pair(*sorted((int(self.firsts[a]), int(self.firsts[b]))), how, float(alike)))


def _candidates(hashes, flips, advance):
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
        advance(block.shape[1])


def clusters(pixels, pairs=None, progress=False):
    """Return the cluster of each image: those joined by pairs that show the same radiograph.

    Parameters
    ----------
    pixels : as for `find_pairs`
    pairs : list of Pair, optional; by default those of `find_pairs`
    progress : bool; show a bar on stderr

    Returns
    -------
    ndarray, shape (n, 8), uint8; rows that are equal for images of one cluster, as `split.groups` takes them
    """
    if pairs is None:
        pairs = find_pairs(pixels, progress=progress)
    return components(len(pixels), [(pair.first, pair.second) for pair in pairs])[:, np.newaxis].view(np.uint8)


def _grey(images):
    """Return uint8 images of any size, grey or in colour, as grey images of 64 x 64."""
    if images.ndim == 4:
        images = np.round(images @ np.array([0.299, 0.587, 0.114], np.float32)).astype(np.uint8)
    if images.shape[1:] == (_SIDE, _SIDE):
        return images
    return np.stack([resize(image, _GREY) for image in images])
