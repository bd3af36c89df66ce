"""Batches that others make: a generator, or an object with batches by number, such as Keras' Sequence."""

import os

import numpy as np

from minicnn.core.random import Stream, permutation
from minicnn.data.workers import in_order
from minicnn.errors import InputError, ShapeError, printable

__all__ = ["Batches", "is_batches"]


def is_batches(x):
    """Whether x gives batches: one after another (a generator), or by number; arrays, tables and datasets do not.

    >>> is_batches(iter([])), is_batches([1, 2]), is_batches(np.zeros(3))
    (True, False, False)
    """
    if hasattr(x, "__array__") or hasattr(x, "labels") or hasattr(x, "iloc"):
        return False
    if isinstance(x, (list, tuple, str, bytes, bytearray, memoryview, dict, os.PathLike)):
        return False
    return hasattr(x, "__next__") or hasattr(x, "__len__") and hasattr(x, "__getitem__")


class Batches:
    """Batches (x, t) or (x, t, weights) from elsewhere, `steps` in an epoch.

    Those that are taken by number come in an order drawn by the seed, and training goes on at any of them; what a number
    gives is to be the same each time. A generator is asked for the next one, epoch after epoch.

    Parameters
    ----------
    source : generator, or object with __len__ and __getitem__; its `on_epoch_end`, if it has one, is called
    steps : int >= 1, or None for all of those that have numbers
    owner : str; the name in an error

    Raises
    ------
    InputError : a generator without `steps`, no batches, or more steps than batches
    """

    def __init__(self, source, steps, owner, argument="steps_per_epoch"):
        self._source, self._owner, self.in_order = source, owner, hasattr(source, "__next__")
        if self.in_order and steps is None:
            raise InputError(f"{owner}: a generator does not tell how many batches an epoch has: give {argument}=....")
        there = steps if self.in_order else len(source)
        self.steps = there if steps is None else steps
        if not 1 <= self.steps <= there:
            raise InputError(f"{owner}: expected at least {steps or 1} batches, the {type(source).__name__} has {there}.")

    def epoch(self, number, start=0, seed=0, shuffle=True, workers=0):
        """Yield (name of the batch for an error, its parts) for the batches of epoch `number`, from batch `start` on."""
        def taken(i):
            return self._source[int(i)]

        if self.in_order:
            given = (self._next(number, step) for step in range(start, self.steps))
        else:
            n = len(self._source)
            order = permutation(seed, Stream.SHUFFLE, number - 1, n) if shuffle else np.arange(n)
            given = in_order(taken, order[start:self.steps], workers, 2 * workers, "minicnn-load")
        try:
            for step, batch in enumerate(given, start + 1):
                name = f"{self._owner}, epoch {number}, batch {step}"
                if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
                    got = f"{len(batch)} parts" if isinstance(batch, (tuple, list)) else type(batch).__name__
                    raise InputError(f"{name}: expected (x, t) or (x, t, weights), got {got}.")
                yield name, tuple(batch)
        finally:
            given.close()
        getattr(self._source, "on_epoch_end", lambda: None)()

    def _next(self, number, step):
        try:
            return next(self._source)
        except StopIteration:
            raise InputError(f"{self._owner}: the generator ended in epoch {number} after {step} of {self.steps} batches. It "
                             "must go on for all epochs (while True), or give fewer steps_per_epoch.") from None

    def collected(self, parts=3):
        """Return all batches of one epoch, in order, as arrays (x, t, weights or None); of predictions x alone is taken."""
        given = [batch if isinstance(batch, (tuple, list)) else (batch,) for batch in
                 (self._next(1, i) if self.in_order else self._source[i] for i in range(self.steps))]
        widths = {len(batch[:parts]) for batch in given}
        if len(widths) > 1 or not 1 <= min(widths) <= 3:
            raise InputError(f"{self._owner}: expected batches of as many parts each, got {sorted(widths)}.")
        whole = [self._joined(column) for column in zip(*(batch[:parts] for batch in given))]
        return (*whole, None, None)[:3]

    def _joined(self, column):
        """Return one part of all batches as one array; of several inputs or outputs, a list or dict of them."""
        if isinstance(column[0], dict) and all(isinstance(part, dict) and part.keys() == column[0].keys() for part in column):
            return {name: self._joined([part[name] for part in column]) for name in column[0]}
        if hasattr(column[0], "__len__") and len(column[0]) and hasattr(column[0][0], "shape") \
                and all(isinstance(part, (list, tuple)) and len(part) == len(column[0]) for part in column):
            return [self._joined(parts) for parts in zip(*column)]
        column = [np.asarray(array) for array in column]
        for i, array in enumerate(column):
            if array.shape[1:] != column[0].shape[1:] or not array.ndim:
                raise ShapeError(f"{self._owner}, batch {i + 1}: expected arrays of shape (n, "
                                 f"{printable(str(column[0].shape[1:])[1:-1])}), as in batch 1, got {array.shape}.")
        return np.concatenate(column)
