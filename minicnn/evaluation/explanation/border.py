"""The border of a radiograph, and the proportion of a map that lies on it.

The border is the outer eighth of each side: it holds letters, tags, shutters and wires, and hardly any lung. The rest
is the middle. Border and middle are disjoint, so neither contains the information of the other.
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
        raise ShapeError(f"border: images must be at least 8 x 8, got {height} x {width}: an eighth of a side is less "
                         "than a pixel.")
    mask = np.ones((height, width), bool)
    mask[height // 8:height - height // 8, width // 8:width - width // 8] = False
    return mask


def border_share(maps):
    """Return the proportion of each map on the border: list of N floats from 0 to 1, None where a map is 0 everywhere.

    Parameters
    ----------
    maps : ndarray, shape (N, H, W), not negative

    >>> border_share(np.ones((1, 8, 8))), border_share(np.zeros((1, 8, 8)))
    ([0.4375], [None])
    """
    sums, border = maps.sum(axis=(1, 2)), maps[:, border_mask(*maps.shape[1:])].sum(axis=1)
    return [float(part / whole) if whole > 0 else None for part, whole in zip(border, sums)]


def even_share(height, width):
    """Return the border's proportion of the pixels, which is that of a uniform map.

    >>> even_share(64, 64)
    0.4375
    """
    return float(border_mask(height, width).mean())
