"""Image registration: find pairs that show the same radiograph cropped, rotated, shifted or stretched, and align them.

    candidates      the images whose coarse features are most similar to those of an image, and to those of its middle,
                    because a copy that lost a margin shows the middle
    register        the affine map from the first image's pixels to the second's: Gauss-Newton steps on the difference
                    of the two, on every second pixel, then on every pixel (the inverse compositional algorithm of
                    Baker and Matthews, "Lucas-Kanade 20 years on", IJCV 2004)

near_duplicates.py decides which aligned pairs are duplicates.
"""

import numpy as np

from minicnn.core.backend import get_engine
from minicnn.data.workers import in_order

__all__ = ["candidates", "register", "features", "mirrored", "warp", "correlation", "blurred"]

_SIDE, _STEP, _EDGE = 64, 3, 9      # the features' positions are symmetric under mirroring
_MOST, _FEW = (4, 3), 60_000        # candidates of an image, and of its middle; of a large collection in all
_LIKE, _ON_THE_WAY = 0.80, 0.93     # the least correlation of features; of coarse images, after the first steps
_ALIGNED = 0.94                      # the least correlation of features, aligned
_ZOOM = 0.92                        # the side of a middle
_MOST_VALUE = 16                    # no band-passed value is larger (_band)
_MOST_CHANGE, _MOST_SHIFT = 0.25, 10.0
_ROWS, _COLUMNS = 256, 2048         # images whose features are compared at once, with how many
_DIRECTIONS, _ROUNDING = 64, 1e-4   # of the bounds of features; measured, 0.2 % of the pairs pass them
_PAIRS = 1024                       # pairs whose features are aligned at once


def features(images):
    """Return the coarse features of each image, of norm 1: ndarray, shape (n, 256), float16.

    Parameters
    ----------
    images : ndarray, shape (n, 64, 64), uint8
    """
    coarse = _band(images, 2.0, 6.0)[:, _EDGE:_SIDE - _EDGE + 1:_STEP, _EDGE:_SIDE - _EDGE + 1:_STEP]
    coarse = (coarse - coarse.mean(axis=(1, 2), keepdims=True)).reshape(len(coarse), -1)
    norms = np.sqrt((coarse * coarse).sum(axis=1, keepdims=True))
    return (coarse / np.where(norms > 0.01, norms, np.inf)).astype(np.float16)


def mirrored(coarse):
    """Return the features of the mirror images."""
    side = int(coarse.shape[1]**0.5)
    return np.ascontiguousarray(coarse.reshape(-1, side, side)[:, :, ::-1]).reshape(coarse.shape)


def candidates(coarse, read, advance, workers):
    """Return {whether mirrored: (a, b, whether b is similar to the middle of a)}, the pairs to align, in order of a.

    Parameters
    ----------
    coarse : ndarray, shape (n, 256); the features of all images
    read : function from numbers of images to images, (m, 64, 64)
    advance : function, called with the number of images whose candidates were found
    workers : int, threads
    """
    n, found = len(coarse), {False: [], True: []}
    starts, directions = range(0, n if n > 1 else 0, _ROWS), _directions(coarse)
    bounds = np.concatenate([_bounds(coarse[at:at + _PAIRS], directions) for at in range(0, n, _PAIRS)] or [coarse])

    def find(at):
        rows = np.arange(at, min(at + _ROWS, n))
        middles = features(_middles(read(rows)))
        # b is like the mirror image of a where the mirror image of b is like a
        queries = np.concatenate([coarse[rows], middles, mirrored(coarse[rows]), mirrored(middles)])
        most = np.repeat([max(1, min(most, _FEW // n, n - 1)) for most in (*_MOST, *_MOST)], len(rows))
        query, b = _neighbours(queries, coarse, _bounds(queries, directions), bounds, np.tile(rows, 4), most)
        kind, a = query // len(rows), rows[query % len(rows)]
        return {flips: _worth_aligning(coarse, *_ordered(kind - 2 * flips, a, b, n), flips) for flips in found}

    for at, pairs in zip(starts, in_order(find, starts, workers, workers, "minicnn-copies")):
        for flips in found:
            found[flips].append(pairs[flips])
        advance(min(_ROWS, n - at))
    return {flips: [np.concatenate(part) for part in zip(*pairs)] or 3 * [np.zeros(0, np.int64)]
            for flips, pairs in found.items()}


def _directions(coarse):
    """Return the directions along which features vary most: ndarray, shape (256, 64), float32."""
    spread = np.zeros((coarse.shape[1], coarse.shape[1]), np.float32)
    for at in range(0, len(coarse), _PAIRS):
        part = coarse[at:at + _PAIRS].astype(np.float32)
        spread += part.T @ part
    return np.linalg.eigh(spread)[1][:, -_DIRECTIONS:]


def _bounds(coarse, directions):
    """Return vectors, shape (n, 65), float32, whose products are no smaller than those of the features.

    A feature is a sum of its part along the directions and a rest. The product of two features is that of the parts and
    that of the rests, and the latter is at most the product of their lengths (Cauchy and Schwarz).
    """
    coarse = coarse.astype(np.float32)
    along = coarse @ directions
    rest = np.sqrt(np.maximum((coarse * coarse).sum(axis=1) - (along * along).sum(axis=1), 0))
    return np.column_stack([along, rest])


def _neighbours(queries, known, query_bounds, known_bounds, own, most):
    """Return (query, number), pairs of similar images: at most `most` for each query, the most similar first.

    Parameters
    ----------
    queries, known : ndarrays, shape (m, 256) and (n, 256); features
    query_bounds, known_bounds : ndarrays, shape (m, 65) and (n, 65); their `_bounds`, which tell most pairs apart
    own, most : ndarrays, shape (m,), int64; the number in `known` of the image of a query, which is no answer, and how
        many answers it gets
    """
    query, number, alike = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
    least = _least_alike(queries, known[:_COLUMNS], own)
    for start in range(0, len(known), _COLUMNS):
        part = query_bounds @ known_bounds[start:start + _COLUMNS].T
        row, column = np.nonzero(part >= least[:, np.newaxis] - _ROUNDING)
        found = np.einsum("pk,pk->p", queries[row], known[column + start], dtype=np.float32)
        new = (found >= least[row]) & (own[row] != column + start)
        query, number = np.concatenate([query, row[new]]), np.concatenate([number, column[new] + start])
        alike = np.concatenate([alike, found[new]])
        order = np.lexsort((number, -alike, query))
        rank = np.arange(len(order)) - np.searchsorted(query[order], query[order])
        order = order[rank < most[query[order]]]
        query, number, alike = query[order], number[order], alike[order]
        full = np.bincount(query, minlength=len(least)) >= most
        worst = np.full(len(least), np.inf, np.float32)
        np.minimum.at(worst, query, alike)
        least = np.where(full, np.maximum(least, worst), least)
    return query, number


def _least_alike(queries, known, own):
    """Return how similar an answer to each query is at least, by some of the known images: ndarray, shape (m,)."""
    if len(known) <= _MOST[0]:
        return np.full(len(queries), _LIKE, np.float32)
    part = queries.astype(np.float32) @ known.astype(np.float32).T
    mine = np.flatnonzero(own < len(known))
    part[mine, own[mine]] = -1
    # The same product, summed in another order, may be a little less.
    return np.maximum(np.partition(part, -_MOST[0], axis=1)[:, -_MOST[0]] - _ROUNDING, np.float32(_LIKE))


def _ordered(kind, a, b, n):
    """Return (a, b, zoomed) of the pairs of the kinds 0, not zoomed, and 1: each unordered pair of the kind 0 once."""
    plain, zoomed = kind == 0, kind == 1
    # By 64 images, the similar ones before those similar to the middle: which pairs join a cluster depends on it.
    key = a[plain] // 64 * n**2 + np.minimum(a[plain], b[plain]) * n + np.maximum(a[plain], b[plain])
    once = np.flatnonzero(plain)[np.unique(key, return_index=True)[1]]
    chosen = np.concatenate([once, np.flatnonzero(zoomed)])
    chosen = chosen[np.argsort(a[chosen] // 64, kind="stable")]
    return a[chosen], b[chosen], zoomed[chosen]


def _worth_aligning(coarse, a, b, zoomed, flips):
    """Return those of the pairs whose features, aligned with each other, are similar enough for the images to be."""
    worth = np.zeros(len(a), bool)
    for at in range(0, len(a), _PAIRS):
        block = slice(at, at + _PAIRS)
        first, second = coarse[a[block]], coarse[b[block]]
        first, second = (each.astype(np.float32).reshape(-1, 16, 16)
                         for each in (first, mirrored(second) if flips else second))
        worth[block] = correlation(first, *warp(second, _steps(first, second, _zoom(zoomed[block]), 3))) >= _ALIGNED
    return a[worth], b[worth], zoomed[worth]


def _middles(images):
    """Return the middle of each image, enlarged to the size of the image."""
    return warp(images, _zoom(np.ones(len(images), bool)))[0]


def register(first, second, zoomed, margin=0):
    """Return (which pairs may be duplicates; their second images aligned with the first, and where these are known).

    Parameters
    ----------
    first, second : ndarrays, shape (n, 64, 64), uint8
    zoomed : ndarray, shape (n,), bool; start from the middle of the first
    margin : int; pixels closer to the second image's edge do not count as known
    """
    halves = [_band(images, 1.5, 5.0, step=2) for images in (first, second)]
    maps = _steps(*halves, _zoom(zoomed), 3)
    worth = correlation(halves[0], *warp(halves[1], maps)) >= _ON_THE_WAY
    first, second, maps = first[worth], second[worth], maps[worth]
    maps[:, :2, 2] *= 2             # from every second pixel to every pixel
    if len(maps):
        maps = _steps(_band(first, 1.5, 5.0), _band(second, 1.5, 5.0), maps, 1)
        maps = _steps(_band(first, 0.7, 4.0), _band(second, 0.7, 4.0), maps, 3)
    change = np.abs(maps[:, :2] - np.eye(3, dtype=np.float32)[:2])
    sound = (change[:, :, :2].max(axis=(1, 2)) < _MOST_CHANGE) & (change[:, :, 2].max(axis=1) < _MOST_SHIFT)
    worth[worth] = sound
    return worth, *warp(second[sound], maps[sound], margin)


def _zoom(zoomed):
    maps = np.tile(np.eye(3, dtype=np.float32), (len(zoomed), 1, 1))
    maps[zoomed, 0, 0] = maps[zoomed, 1, 1] = _ZOOM
    return maps


def warp(images, maps, margin=0):
    """Return (images, where they are known): each pixel from its mapped position, interpolated between four.

    Parameters
    ----------
    images : ndarray, shape (n, side, side), float32 with values below 16, or uint8
    maps : ndarray, shape (n, 3, 3); from (row, column, 1) to (row, column, 1), counted from the centre of the image
    margin : int, as for `register`
    """
    n, side, _ = images.shape
    centre = (side - 1) / 2
    # From indices to indices: the offset takes the centre to where the map takes it.
    matrices = maps[:, :2].astype(np.float64)
    matrices[:, :, 2] += centre - centre * matrices[:, :, :2].sum(axis=2)
    place = np.arange(side, dtype=np.float32)
    row, column = (m[:, 0, None, None] * place[:, None] + m[:, 1, None, None] * place + m[:, 2, None, None]
                   for m in matrices.astype(np.float32).transpose(1, 0, 2))
    low, high = margin, side - 1 - margin
    known = (row >= low) & (row <= high) & (column >= low) & (column <= high)
    # The kernel takes floats from 0 to 1.
    scale, least = (255, 0) if images.dtype == np.uint8 else (2 * _MOST_VALUE, -_MOST_VALUE)
    source = images if images.dtype == np.uint8 else (images - np.float32(least)) / np.float32(scale)
    out = np.empty((n, side, side, 1), np.float32)
    get_engine("fast").affine_warp(source[..., np.newaxis], matrices, np.ones(n, np.float32), np.zeros(n, np.float32),
                                   out)
    return out[..., 0] * np.float32(scale) + np.float32(least), known


def _steps(first, second, maps, number):
    """Return maps improved by Gauss-Newton steps, for images of shape (n, side, side)."""
    n, side, _ = first.shape
    place = np.arange(side, dtype=np.float32) - (side - 1) / 2
    slopes = np.gradient(first, axis=(1, 2))
    # The derivative of each pixel by the six numbers of the map: the slope along an axis times (row, column, 1).
    change = np.stack([by * where for by in slopes for where in (place[:, None], place, np.float32(1))], axis=1)
    margin = side // 16
    change[:, :, :margin], change[:, :, -margin:], change[..., :margin], change[..., -margin:] = 0, 0, 0, 0
    change = change.reshape(n, 6, -1)
    inverse = np.linalg.inv(change @ change.transpose(0, 2, 1) + 1e-3 * np.eye(6, dtype=np.float32))
    for _ in range(number):
        aligned, known = warp(second, maps)
        off = ((aligned - first) * known).reshape(n, -1, 1)
        step = np.tile(np.eye(3, dtype=np.float32), (n, 1, 1))
        step[:, :2] += np.clip((inverse @ (change @ off)).reshape(n, 2, 3), [-0.1, -0.1, -4], [0.1, 0.1, 4])
        maps = maps @ np.linalg.inv(step)
    return maps


def correlation(first, second, known):
    """Return the correlation of images where the second is known: ndarray, shape (n,); 0 where one is constant."""
    count = np.maximum(known.sum(axis=(1, 2), keepdims=True), 1)
    a, b = ((x - (x * known).sum(axis=(1, 2), keepdims=True) / count) * known for x in (first, second))
    sizes = np.sqrt((a * a).sum(axis=(1, 2)) * (b * b).sum(axis=(1, 2)))
    return (a * b).sum(axis=(1, 2)) / np.where(sizes > 0.01, sizes, np.inf)


def _band(images, narrow, wide, step=1):
    """Return images band-passed between the blurs `narrow` and `wide`, over the local contrast.

    Every `step`-th pixel in both directions: ndarray, shape (n, 64 / step, 64 / step), float32.
    """
    images = np.asarray(images, np.float32)
    side = images.shape[1]
    fine = blurred(images, gaussian(side, narrow, step)) - blurred(images, gaussian(side, wide, step))
    return fine / (np.sqrt(np.maximum(blurred(fine * fine, gaussian(len(fine[0]), wide / step)), 0)) + 2)


def gaussian(side, deviation, step=1):
    """Return the matrix that blurs one axis by a Gaussian, normalised at the edges, and keeps every `step`-th place."""
    place = np.arange(side)
    weights = np.exp(-0.5 * ((place[::step, None] - place) / deviation)**2)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def blurred(images, weights):
    """Return images, (n, side, side) float32, blurred by the same matrix along both axes."""
    return weights @ images @ weights.T
