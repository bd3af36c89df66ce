"""Splitting into training, validation and test set: which images must stay together, and a stratified assignment.

Pure functions over arrays, deterministic from a seed. Images of one patient form a group; images that show the same
radiograph join their groups; an image of an unknown patient is a group of its own.
"""

import numpy as np

from minicnn.core.random import Stream, check_seed, permutation
from minicnn.errors import InputError, ManifestError

__all__ = ["components", "groups", "split_groups", "split_images"]


def components(n, pairs):
    """Return the connected component of each of n nodes as the lowest number in it: ndarray, shape (n,), int64.

    >>> components(5, [(1, 3), (3, 4)]).tolist()
    [0, 1, 2, 1, 1]
    """
    parent = list(range(n))

    def root(i):
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for a, b in pairs:
        a, b = root(a), root(b)
        parent[max(a, b)] = min(a, b)
    return np.array([root(i) for i in range(n)], np.int64)


def groups(patients, radiographs=None):
    """Return the group number of each image.

    Parameters
    ----------
    patients : sequence of n str, "" (or None) where unknown
    radiographs : ndarray, shape (n, bytes), uint8, optional; images with equal rows show the same radiograph, and join:
        digests of the pixels, or `near_duplicates.clusters`

    Returns
    -------
    ndarray, shape (n,), int64; numbers from 0 in the order of first appearance

    >>> groups(["ann", "", "bob", "ann", ""]).tolist()
    [0, 1, 2, 0, 3]
    """
    pairs = []
    for column in (patients, () if radiographs is None else map(bytes, radiographs)):
        first = {}
        pairs += [(first.setdefault(key, i), i) for i, key in enumerate(column) if key]
    # A component is numbered by its first image, so the order of these numbers is the order of appearance.
    return np.unique(components(len(patients), pairs), return_inverse=True)[1].astype(np.int64)


def split_groups(group, labels, fractions, seed, classes=None):
    """Assign images to sets so that no group is divided.

    The groups of each stratum (the largest label in a group: with two classes, a group is positive if any of its images
    is) are shuffled and laid end to end, one unit of length per image, and cut at the fractions; a group belongs to the
    set in which its middle lies. So each set is an unbiased sample, whatever the sizes of the groups. Then groups move,
    in shuffled order, wherever that brings the sets nearer to their fractions.

    Parameters
    ----------
    group : ndarray, shape (n,), int64, numbers from 0
    labels : ndarray, shape (n,), int64
    fractions : sequence of positive floats that sum to 1; the fraction of the images in each set
    seed : int
    classes : names of the classes, optional, for an error

    Returns
    -------
    ndarray, shape (n,), int8; the number of the set of each image

    Raises
    ------
    ManifestError : a set would have no image of a class

    >>> split_groups(np.arange(10), np.arange(10) % 2, (0.6, 0.4), seed=1).tolist().count(0)
    6
    """
    fractions, seed = _check_fractions(fractions), check_seed(seed)
    n_groups = int(group.max()) + 1
    size, stratum, assigned = np.bincount(group), np.zeros(n_groups, np.int64), np.zeros(n_groups, np.int8)
    np.maximum.at(stratum, group, labels)
    order = permutation(seed, Stream.SPLIT, 0, n_groups)
    for label in np.unique(stratum):
        members = order[stratum[order] == label]
        assigned[members] = _divide(size[members], fractions)
    sets = assigned[group]
    for number in range(len(fractions)):
        for label in np.setdiff1d(labels, labels[sets == number]):
            held = len(np.unique(group[labels == label]))
            raise ManifestError(f"split: set {number + 1} of {len(fractions)} would have no image of class "
                                f"{repr(classes[label]) if classes else label}: there are {held} patients or separate "
                                "images with it. Add some, or assign the images in a split column.")
    return sets


def split_images(labels, fractions, seed, classes=None):
    """Assign images to sets one by one, stratified by label, without regard to patients: the paper's protocol.

    Arguments, result and errors are those of `split_groups`.
    """
    return split_groups(np.arange(len(labels)), labels, fractions, seed, classes)


def _divide(size, fractions):
    """Return the set of each group of one stratum, from the groups' sizes in shuffled order."""
    ends = np.cumsum(size)
    wanted = fractions * ends[-1]
    assigned = np.searchsorted(np.cumsum(wanted)[:-1], ends - size / 2, side="right").astype(np.int8)
    surplus = np.bincount(assigned, weights=size, minlength=len(fractions)) - wanted
    # Each move lessens the sum of |surplus|, so this ends; mostly after one or two passes.
    while (np.abs(surplus).max() >= 1 or len(np.unique(assigned)) < len(fractions)) \
            and _even_out(size, assigned, surplus):
        pass
    return assigned


def _even_out(size, assigned, surplus):
    """Move groups, in one pass, to where the sets come nearer to their fractions; return whether any moved."""
    held, moved = np.bincount(assigned, minlength=len(surplus)), False
    for i, n in enumerate(size):
        here = assigned[i]
        if held[here] == 1:
            continue
        # A move changes |surplus| here and there only; a set without any group takes one at any price.
        gain = np.abs(surplus) - np.abs(surplus + n) + np.abs(surplus[here]) - np.abs(surplus[here] - n)
        gain[held == 0] = np.inf
        gain[here] = 0
        there = int(np.argmax(gain))
        if gain[there] > 1e-9:
            assigned[i], moved = there, True
            surplus[[here, there]] += -n, n
            held[[here, there]] += -1, 1
    return moved


def _check_fractions(fractions):
    fractions = np.array(fractions, np.float64)
    if fractions.ndim != 1 or not (fractions > 0).all() or abs(fractions.sum() - 1) > 1e-6:
        raise InputError(f"split: expected positive fractions that sum to 1, got {fractions.tolist()}.")
    return fractions
