"""Random numbers that depend on a key, never on a history.

Every draw is addressed by (seed, stream, epoch, sample): the same address gives the same numbers on any machine, with
any number of threads or workers, and after a resume. There is no generator object to save. Philox is counter-based
(Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011); the uniforms are made here from its raw 64-bit
words, because NumPy promises to keep those and not the methods of `Generator` (NEP 19).
"""

from enum import IntEnum

import numpy as np

from minicnn.core.arguments import Whole, check

__all__ = ["Stream", "check_seed", "words", "uniforms", "normals", "permutation"]


class Stream(IntEnum):
    """What the numbers are for. Values are part of the promise that a seed repeats a run: append, never renumber."""

    INITIALIZER = 0
    SHUFFLE = 1
    AUGMENTATION = 2
    SPLIT = 3
    DROPOUT = 4
    PHANTOM = 5
    CHECK = 6


def check_seed(seed):
    """Return `seed` as an int, or raise InputError: it must be a whole number from 0 to 2**64 - 1.

    >>> check_seed(7)
    7
    """
    return check("", "seed", seed, Whole(0, 2**64 - 1))


def words(seed, stream, epoch, sample, n):
    """Draw `n` raw 64-bit words at the address (seed, stream, epoch, sample).

    The two key words of Philox4x64 are (seed, stream); its counter starts at (0, sample, epoch, 0) and the lowest word
    counts the blocks of one address, so no two addresses overlap.

    Returns
    -------
    ndarray, shape (n,), uint64

    >>> words(7, Stream.SPLIT, 0, 0, 4).dtype
    dtype('uint64')
    """
    key = np.array([seed, stream], np.uint64)
    counter = np.array([0, sample, epoch, 0], np.uint64)
    return np.random.Philox(key=key, counter=counter).random_raw(n)


def uniforms(seed, stream, epoch, sample, n):
    """Draw `n` float64 uniforms in [0, 1): the upper 53 bits of each word, times 2**-53.

    >>> u = uniforms(7, Stream.AUGMENTATION, 0, 3, 2)
    >>> bool((u == uniforms(7, Stream.AUGMENTATION, 0, 3, 2)).all() and (u < 1).all())
    True
    """
    return (words(seed, stream, epoch, sample, n) >> np.uint64(11)) * 2.0**-53


def normals(seed, stream, epoch, sample, n):
    """Draw `n` float64 standard normals by Box and Muller's method: sqrt(-2 ln(1 - u)) cos(2 pi v).

    >>> bool(abs(normals(1, Stream.INITIALIZER, 0, 0, 10_000).mean()) < 0.03)
    True
    """
    u, v = uniforms(seed, stream, epoch, sample, 2 * n).reshape(2, n)
    return np.sqrt(-2.0 * np.log1p(-u)) * np.cos(2.0 * np.pi * v)


def permutation(seed, stream, epoch, n):
    """Return the order of `n` random words: a permutation of 0 .. n-1 (int64).

    >>> sorted(permutation(7, Stream.SHUFFLE, 0, 5).tolist())
    [0, 1, 2, 3, 4]
    """
    return np.argsort(words(seed, stream, epoch, 0, n), kind="stable")
