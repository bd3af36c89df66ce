"""Who is trained on, who validates, who tests: groups of images that must stay together, and their division.

Pure functions over arrays, deterministic from a seed. Images of one patient are one group, and so are files with the
same picture in them; a missing patient id is a group of its own.
"""

import numpy as np

from minicnn.errors import InputError, ManifestError
from minicnn.streams import Stream, check_seed, permutation

__all__ = ["groups", "split_groups", "split_images"]


def groups(patients, pixel_digests=None):
    """Return the group number of each image.

    Parameters
    ----------
    patients : sequence of n str; "" where unknown
    pixel_digests : ndarray, shape (n, 32), uint8, optional: images with equal ones join

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

    keys = [patients] if pixel_digests is None else [patients, [digest.tobytes() for digest in pixel_digests]]
    for column in keys:
        first = {}
        for i, key in enumerate(column):
            if key:
                a, b = root(i), root(first.setdefault(key, i))
                parent[max(a, b)] = min(a, b)
    _, numbers = np.unique([root(i) for i in range(len(patients))], return_inverse=True)
    return numbers.astype(np.int64)


def split_groups(group, labels, fractions, seed):
    """Divide images into parts so that no group is divided.

    Groups are shuffled within their stratum (the largest label of a group: with two classes a group is positive if any of
    its images is) and dealt one by one to the part that is furthest behind its share of the stratum's images.

    Parameters
    ----------
    group, labels : ndarray, shape (n,), int64
    fractions : sequence of floats that sum to 1
    seed : int

    Returns
    -------
    ndarray, shape (n,), int8: the number of the part

    Raises
    ------
    ManifestError
        if a part would lack a class that another has

    >>> split_groups(np.arange(10), np.arange(10) % 2, (0.6, 0.4), seed=1).tolist().count(0)
    6
    """
    fractions = _checked(fractions)
    n_groups = int(group.max()) + 1
    size = np.bincount(group, minlength=n_groups)
    stratum = np.zeros(n_groups, np.int64)
    np.maximum.at(stratum, group, labels)
    order = permutation(check_seed(seed), Stream.SPLIT, 0, n_groups)
    # Large groups first: the small ones even out what they leave. The sort is stable, so the rest stays shuffled.
    order = order[np.argsort(-size[order], kind="stable")]
    part = np.zeros(n_groups, np.int8)
    for label in np.unique(stratum):
        members = order[stratum[order] == label]
        wanted = fractions * size[members].sum()
        given = np.zeros(len(fractions))
        for g in members:
            part[g] = np.argmax((wanted - given) / np.maximum(wanted, 1e-9))
            given[part[g]] += size[g]
    parts = part[group]
    for number in range(len(fractions)):
        missing = np.setdiff1d(labels, labels[parts == number])
        if missing.size:
            raise ManifestError(f"split: part {number + 1} of {len(fractions)} would have no image of class "
                                f"{int(missing[0])}: there are too few patients of it. Add images, or give the split "
                                "yourself in a `split` column.")
    return parts


def split_images(labels, fractions, seed):
    """Divide images into parts one by one, stratified by label, whoever they show: the paper's way.

    Returns
    -------
    ndarray, shape (n,), int8: the number of the part
    """
    return split_groups(np.arange(len(labels)), labels, fractions, seed)


def _checked(fractions):
    fractions = np.array(fractions, np.float64)
    if fractions.ndim != 1 or not (fractions > 0).all() or abs(fractions.sum() - 1) > 1e-6:
        raise InputError(f"split: expected positive fractions that sum to 1, got {fractions.tolist()}.")
    return fractions
