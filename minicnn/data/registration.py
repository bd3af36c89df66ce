"""Image registration: find pairs that show the same radiograph cropped, rotated, shifted or stretched, and align them.

    candidates      the images whose coarse features are most similar to those of an image, and to those of its middle,
                    because a copy that lost a margin shows the middle
    register        the affine map from the first image's pixels to the second's: Gauss-Newton steps on the difference
                    of the two, on every second pixel, then on every pixel (the inverse compositional algorithm of
                    Baker and Matthews, "Lucas-Kanade 20 years on", IJCV 2004)

near_duplicates.py decides which aligned pairs are duplicates.
"""

import numpy as np

__all__ = ["candidates", "register", "features", "mirrored", "warp", "correlation"]

_SIDE, _STEP, _EDGE = 64, 3, 9      # the features' positions are symmetric under mirroring
_MOST, _FEW = (4, 3), 60_000        # candidates of an image, and of its middle; of a large collection in all
_LIKE, _ON_THE_WAY = 0.80, 0.93     # the least correlation of features; of coarse images, after the first steps
_ZOOM = 0.92                        # the side of a middle
_MOST_CHANGE, _MOST_SHIFT = 0.25, 10.0
_ROWS, _COLUMNS = 64, 512           # features compared at once


def features(images):
    """Return the coarse features of each image, of norm 1: ndarray, shape (n, 256), float16.

    Parameters
    ----------
    images : ndarray, shape (n, 64, 64), from 0 to 255
    """
    coarse = _band(images, 2.0, 6.0)[:, _EDGE:_SIDE - _EDGE + 1:_STEP, _EDGE:_SIDE - _EDGE + 1:_STEP]
    coarse = (coarse - coarse.mean(axis=(1, 2), keepdims=True)).reshape(len(coarse), -1)
    norms = np.sqrt((coarse * coarse).sum(axis=1, keepdims=True))
    return (coarse / np.where(norms > 0.01, norms, np.inf)).astype(np.float16)


def mirrored(coarse):
    """Return the features of the mirror images."""
    side = int(coarse.shape[1]**0.5)
    return np.ascontiguousarray(coarse.reshape(-1, side, side)[:, :, ::-1]).reshape(coarse.shape)


def candidates(coarse, read, flips):
    """Yield (a, b, whether b is similar to the middle of a) of pairs to align, a block at a time.

    Parameters
    ----------
    coarse : ndarray, shape (n, 256); the features of all images
    read : function from numbers of images to images, (m, 64, 64)
    flips : bool; compare with the mirror images
    """
    n = len(coarse)
    known = mirrored(coarse) if flips else coarse
    for at in range(0, n if n > 1 else 0, _ROWS):
        rows = np.arange(at, min(at + _ROWS, n))
        for zoomed, most in enumerate(_MOST):
            queries = features(_middles(read(rows))) if zoomed else coarse[rows]
            a, b = _neighbours(queries, known, at, max(1, min(most, _FEW // n, n - 1)))
            if not zoomed:                          # similarity is symmetric
                _, kept = np.unique(np.minimum(a, b) * n + np.maximum(a, b), return_index=True)
                a, b = a[kept], b[kept]
            yield a, b, np.full(len(a), bool(zoomed))


def _neighbours(queries, known, at, most):
    """Return (a, b), the numbers of pairs of similar images: at most `most` for each query, and not itself.

    Parameters
    ----------
    queries, known : ndarrays, shape (m, 256) and (n, 256); features
    at : int; the number of the first query among `known`
    """
    queries, rows = queries.astype(np.float32), np.arange(len(queries))[:, np.newaxis]
    alike, names = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    for start in range(0, len(known), _COLUMNS):
        part = queries @ known[start:start + _COLUMNS].astype(np.float32).T
        columns = np.arange(start, start + part.shape[1])
        part[columns == at + rows] = -1
        alike = np.concatenate([alike, part], axis=1)
        names = np.concatenate([names, np.broadcast_to(columns, part.shape)], axis=1)
        best = np.argpartition(-alike, min(most, alike.shape[1]) - 1, axis=1)[:, :most]
        alike, names = alike[rows, best], names[rows, best]
    row, column = np.nonzero(alike >= _LIKE)
    return row + at, names[row, column]


def _middles(images):
    """Return the middle of each image, enlarged to the size of the image."""
    return warp(np.asarray(images, np.float32), _zoom(np.ones(len(images), bool)))[0]


def register(first, second, zoomed, margin=0):
    """Return (which pairs may be duplicates; their second images aligned with the first, and where these are known).

    Parameters
    ----------
    first, second : ndarrays, shape (n, 64, 64), from 0 to 255
    zoomed : ndarray, shape (n,), bool; start from the middle of the first
    margin : int; pixels closer to the second image's edge do not count as known
    """
    halves = [_band(images, 1.5, 5.0, step=2) for images in (first, second)]
    maps = _steps(*halves, _zoom(zoomed), 3)
    worth = correlation(halves[0], *warp(halves[1], maps)) >= _ON_THE_WAY
    first, second, maps = first[worth], np.asarray(second[worth], np.float32), maps[worth]
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
    images : ndarray, shape (n, side, side), float32
    maps : ndarray, shape (n, 3, 3); from (row, column, 1) to (row, column, 1), counted from the centre of the image
    margin : int, as for `register`
    """
    n, side, _ = images.shape
    place = np.arange(side, dtype=np.float32) - (side - 1) / 2
    row, column = (m[:, 0, None, None] * place[:, None] + m[:, 1, None, None] * place + m[:, 2, None, None]
                   + np.float32((side - 1) / 2) for m in (maps[:, 0], maps[:, 1]))
    low, high = margin, side - 1 - margin
    known = (row >= low) & (row <= high) & (column >= low) & (column <= high)
    top, left = (np.clip(axis, 0, side - 1.001).astype(np.int32) for axis in (row, column))
    down, across = np.clip(row - top, 0, 1), np.clip(column - left, 0, 1)
    flat, corner = images.reshape(-1), (np.arange(n, dtype=np.int32) * side**2)[:, None, None] + top * side + left
    upper = flat[corner] * (1 - across) + flat[corner + 1] * across
    lower = flat[corner + side] * (1 - across) + flat[corner + side + 1] * across
    return upper + down * (lower - upper), known


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
    fine = _blurred(images, narrow, step) - _blurred(images, wide, step)
    return fine / (np.sqrt(np.maximum(_blurred(fine * fine, wide / step), 0)) + 2)


def _blurred(images, deviation, step=1):
    """Return every `step`-th pixel of images convolved with a Gaussian, cut off and normalised at the edges."""
    place = np.arange(images.shape[1])
    weights = np.exp(-0.5 * ((place[::step, None] - place) / deviation)**2)
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return weights @ images @ weights.T
