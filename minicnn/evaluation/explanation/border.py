"""Where the border of a radiograph is, and how much of a map lies on it.

The border is the outer eighth of each side: there stand letters, tags, shutters and wires, and hardly any lung. The
rest is the middle. Together they are the whole picture, so what is told by one is not told by the other.
"""

import numpy as np

from minicnn.errors import ShapeError

__all__ = ["border_mask", "border_share", "even_share"]


def border_mask(height, width):
    """Return which pixels are border: ndarray, shape (height, width), bool.

    >>> border_mask(8, 8).sum(), border_mask(8, 8)[0, 0], border_mask(8, 8)[1, 1]
    (np.int64(28), np.True_, np.False_)
    """
    if min(height, width) < 8:
        raise ShapeError(f"border: an eighth of each side is less than a pixel in pictures of {height} x {width}; they "
                         "must be 8 x 8 at least.")
    mask = np.ones((height, width), bool)
    mask[height // 8:height - height // 8, width // 8:width - width // 8] = False
    return mask


def border_share(maps):
    """Return how much of each map lies on the border: list of N floats from 0 to 1, None where a map is 0 everywhere.

    Parameters
    ----------
    maps : ndarray, shape (N, H, W), nowhere below 0

    >>> border_share(np.ones((1, 8, 8))), border_share(np.zeros((1, 8, 8)))
    ([0.4375], [None])
    """
    sums, border = maps.sum(axis=(1, 2)), maps[:, border_mask(*maps.shape[1:])].sum(axis=1)
    return [float(part / whole) if whole > 0 else None for part, whole in zip(border, sums)]


def even_share(height, width):
    """Return the border's share of the pixels, which is that of a map that is the same everywhere.

    >>> even_share(64, 64)
    0.4375
    """
    return float(border_mask(height, width).mean())
