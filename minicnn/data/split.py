"""Who is trained on, who validates, who tests: groups of images that must stay together, and their division.

Pure functions over arrays, deterministic from a seed. Images of one patient are one group, and images that are the same
picture join the groups they are in; an image of nobody known is a group of its own.
"""

import numpy as np

from minicnn.core.random import Stream, check_seed, permutation
from minicnn.errors import InputError, ManifestError

__all__ = ["groups", "split_groups", "split_images"]


def groups(patients, pictures=None):
    """Return the group number of each image.

    Parameters
    ----------
    patients : sequence of n str, "" (or None) where unknown
    pictures : ndarray, shape (n, bytes), uint8, optional; images with equal rows show the same picture, and join: digests
        of the pixels, or `duplicates.clusters`

    Returns
    -------
    ndarray, shape (n,), int64; numbers from 0 in the order of first appearance

    >>> groups(["ann", "", "bob", "ann", ""]).tolist()
    [0, 1, 2, 0, 3]
    """
    parent = list(range(len(patients)))

    def root(i):
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for column in (patients, () if pictures is None else map(bytes, pictures)):
        first = {}
        for i, key in enumerate(column):
            if key:
                a, b = root(i), root(first.setdefault(key, i))
                parent[max(a, b)] = min(a, b)
    # The root of a group is its first image, so numbering the roots in order numbers the groups by appearance.
    _, numbers = np.unique([root(i) for i in range(len(parent))], return_inverse=True)
    return numbers.astype(np.int64)


def split_groups(group, labels, fractions, seed, classes=None):
    """Divide images into parts so that no group is divided.

    The groups of each stratum (the largest label in a group: of two classes, a group is positive if any of its images is)
    are shuffled and laid end to end, one unit of length an image, and cut where the fractions say; a group belongs to the
    part in which its middle lies. So each part is a fair sample, whatever the sizes of the groups. Then groups move, in
    shuffled order, wherever that brings the parts nearer to their shares.

    Parameters
    ----------
    group : ndarray, shape (n,), int64, numbers from 0
    labels : ndarray, shape (n,), int64
    fractions : sequence of positive floats that sum to 1; the share of the images of each part
    seed : int
    classes : names of the classes, optional, for a sentence

    Returns
    -------
    ndarray, shape (n,), int8; the number of the part of each image

    Raises
    ------
    ManifestError : a part would lack a class that there is

    >>> split_groups(np.arange(10), np.arange(10) % 2, (0.6, 0.4), seed=1).tolist().count(0)
    6
    """
    fractions, seed = _check_fractions(fractions), check_seed(seed)
    n_groups = int(group.max()) + 1
    size, stratum, part = np.bincount(group), np.zeros(n_groups, np.int64), np.zeros(n_groups, np.int8)
    np.maximum.at(stratum, group, labels)
    order = permutation(seed, Stream.SPLIT, 0, n_groups)
    for label in np.unique(stratum):
        members = order[stratum[order] == label]
        part[members] = _divide(size[members], fractions)
    parts = part[group]
    for number in range(len(fractions)):
        for label in np.setdiff1d(labels, labels[parts == number]):
            held = len(np.unique(group[labels == label]))
            raise ManifestError(f"split: part {number + 1} of {len(fractions)} would have no image of class "
                                f"{repr(classes[label]) if classes else label}, of which there are {held} patients or "
                                "separate images. Add some, or give the parts in a split column.")
    return parts


def split_images(labels, fractions, seed, classes=None):
    """Divide images into parts one by one, stratified by label, whoever they show: the paper's way.

    Arguments, result and errors are those of `split_groups`.
    """
    return split_groups(np.arange(len(labels)), labels, fractions, seed, classes)


def _divide(size, fractions):
    """Return the part of each group of one stratum, given the groups' sizes in shuffled order."""
    ends = np.cumsum(size)
    wanted = fractions * ends[-1]
    part = np.searchsorted(np.cumsum(wanted)[:-1], ends - size / 2, side="right").astype(np.int8)
    surplus = np.bincount(part, weights=size, minlength=len(fractions)) - wanted
    # Each move lessens the sum of |surplus|, so this ends; mostly after a look or two.
    while (np.abs(surplus).max() >= 1 or len(np.unique(part)) < len(fractions)) and _even_out(size, part, surplus):
        pass
    return part


def _even_out(size, part, surplus):
    """Move groups, once through, to where the parts come nearer to their shares; return whether any moved."""
    held, moved = np.bincount(part, minlength=len(surplus)), False
    for i, n in enumerate(size):
        here = part[i]
        if held[here] == 1:
            continue
        # A move changes |surplus| here and there only; a part without any group is worth any price.
        gain = np.abs(surplus) - np.abs(surplus + n) + np.abs(surplus[here]) - np.abs(surplus[here] - n)
        gain[held == 0] = np.inf
        gain[here] = 0
        there = int(np.argmax(gain))
        if gain[there] > 1e-9:
            part[i], moved = there, True
            surplus[[here, there]] += -n, n
            held[[here, there]] += -1, 1
    return moved


def _check_fractions(fractions):
    fractions = np.array(fractions, np.float64)
    if fractions.ndim != 1 or not (fractions > 0).all() or abs(fractions.sum() - 1) > 1e-6:
        raise InputError(f"split: expected positive fractions that sum to 1, got {fractions.tolist()}.")
    return fractions
