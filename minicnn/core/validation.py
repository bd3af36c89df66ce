"""Validation of arrays: what a user passes in becomes a plain C-contiguous array, or an error that says why not."""

import math

import numpy as np

from minicnn.core.backend import kernels_in_use
from minicnn.errors import DTypeError, InputError, ShapeError

__all__ = ["as_array", "all_finite", "check_finite", "check_batch", "check_output", "check_alike"]


def as_array(x, owner, argument, dtype):
    """Return x as a C-contiguous, aligned, writable, native ndarray of `dtype`; x itself where it already is one.

    Where `dtype` is None, float32 stays float32 and all else becomes float64.

    Any memory form is welcome (strided, Fortran order, read-only, memory-mapped, big-endian, subclasses, lists); x is
    never written to. Whole numbers, booleans and other floats are converted. A read-only x is copied because every
    kernel would have to be compiled anew for it, which takes seconds.

    Raises
    ------
    DTypeError
        if the elements are objects, strings, dates or complex numbers
    ShapeError
        if x is a list of rows of different lengths
    InputError
        if x is masked somewhere: what stands under the mask must not be used unseen

    >>> as_array([[1, 2]], "Dense 'dense_1'", "x", np.float32)
    array([[1., 2.]], dtype=float32)
    """
    if type(x) is np.ndarray and x.flags.carray and (x.dtype in (np.float32, np.float64) if dtype is None else
                                                     x.dtype == dtype and x.dtype.kind in "fiub"):
        return x        # the usual case, at once
    if isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):
        raise InputError(f"{owner}: {argument} is masked in places. Fill them first: {argument}.filled(0).")
    try:
        array = np.asarray(x)
    except ValueError as error:
        raise ShapeError(f"{owner}: {argument} is not an array: its rows have different lengths ({error}).") from None
    if array.dtype.kind not in "fiub":
        raise DTypeError(f"{owner}: {argument} must hold real numbers, got dtype {array.dtype}. "
                         f"Convert it first, for instance with {argument}.astype('float32').")
    if dtype is None:
        dtype = np.float32 if array.dtype.newbyteorder("=") == np.float32 else np.float64
    with np.errstate(over="ignore"):       # too large for float32 becomes infinity, and is reported as such
        return np.require(array, dtype, ["C", "A", "W"])


def all_finite(array):
    """Return whether no element is NaN or infinite. Nothing of the array's size is allocated if so.

    A sum that holds NaN or an infinity is one of them itself, and so is one of squares, which is faster but copies what is
    not contiguous, and which BLAS shares among threads beyond 10,000. Only a sum of finite numbers that overflows asks for a
    second look. Where the fast engine is in use anyway, it looks at large arrays, on all threads.

    >>> all_finite(np.array([1.0, 2.0])), all_finite(np.array([np.inf, -np.inf])), all_finite(np.array([1e308, 1e308]))
    (True, False, True)
    """
    if array.size > 10_000 and array.dtype in (np.float32, np.float64) and array.flags.carray and kernels_in_use() is not None:
        return kernels_in_use().all_finite(array)
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.vdot(array, array) if array.size <= 10_000 and array.flags.c_contiguous else array.sum()
        return math.isfinite(total) or bool(np.isfinite(array).all())


def check_finite(array, owner, argument):
    """Raise InputError naming the first position of `array` that is NaN or infinite."""
    if not all_finite(array):
        position = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise InputError(f"{owner}: {argument} holds {array[position]} at {list(position)}. "
                         "Remove or replace NaN and infinite values first.")


def check_batch(array, shape, owner, argument):
    """Raise ShapeError unless `array` is a batch of at least one sample of `shape`; guess what went wrong.

    >>> check_batch(np.zeros((8, 3, 64, 64)), (64, 64, 3), "Conv2D 'conv_1'", "x")
    Traceback (most recent call last):
    minicnn.errors.ShapeError: Conv2D 'conv_1': expected x of shape (N, 64, 64, 3), got (8, 3, 64, 64). Images are
    channels-last; try x.transpose(0, 2, 3, 1).
    """
    if array.shape[1:] == shape and array.ndim > 0 and array.shape[0] > 0:
        return
    hint = ""
    if array.ndim and array.shape[0] == 0:
        hint = " The batch is empty."
    elif array.shape == shape:
        hint = f" One sample still needs a batch axis; try {argument}[np.newaxis]."
    elif len(shape) == 3 and array.ndim == 4 and array.shape[1:] == (shape[2], shape[0], shape[1]):
        hint = f" Images are channels-last; try {argument}.transpose(0, 2, 3, 1)."
    elif len(shape) == 3 and array.ndim == 3 and shape[2] == 1 and array.shape[1:] == shape[:2]:
        hint = f" Grey images still need a channel axis; try {argument}[..., np.newaxis]."
    elif len(shape) == 1 and array.ndim == 4:
        hint = " Put a Flatten() before this layer."
    expected = ", ".join(["N", *map(str, shape)]) + ("," if not shape else "")
    raise ShapeError(f"{owner}: expected {argument} of shape ({expected}), got {array.shape}.{hint}")


def check_output(array, shape, dtype, owner, argument):
    """Raise unless `array` can be filled by a kernel: a C-contiguous, aligned, writable ndarray of this shape and dtype.

    >>> check_output(np.zeros((4, 2))[::2], (2, 2), np.float64, "BinaryCrossentropy", "dz")
    Traceback (most recent call last):
    minicnn.errors.InputError: BinaryCrossentropy: dz is filled, so it must be a C-contiguous, aligned, writable array
    without a mask. Make it with np.empty((2, 2), 'float64').
    """
    if type(array) is np.ndarray and array.shape == shape and array.dtype == dtype and array.flags.carray:
        return      # the usual case, at once
    way_out = f"Make it with np.empty({shape}, {np.dtype(dtype).name!r})."
    if not isinstance(array, np.ndarray) or array.shape != shape:
        got = array.shape if isinstance(array, np.ndarray) else type(array).__name__
        raise ShapeError(f"{owner}: {argument} is filled, so it must be an array of shape {shape}, got {got}. {way_out}")
    if array.dtype != dtype:
        raise DTypeError(f"{owner}: {argument} is filled with {np.dtype(dtype).name}, got {array.dtype}. {way_out}")
    if not array.flags.carray or isinstance(array, np.ma.MaskedArray):
        raise InputError(f"{owner}: {argument} is filled, so it must be a C-contiguous, aligned, writable array without a "
                         f"mask. {way_out}")

def check_alike(owner, *arrays):
    """Raise InputError unless the arrays are of one shape and dtype, C-contiguous, aligned and writable."""
    shape, dtype = arrays[0].shape, arrays[0].dtype
    for array in arrays:
        if array.shape != shape or array.dtype != dtype or not array.flags.carray:
            raise InputError(f"{owner}: expected C-contiguous, writable arrays of one shape and dtype, {shape} {dtype}, got "
                             f"{array.shape} {array.dtype}.")
