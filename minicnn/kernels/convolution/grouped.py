"""Convolution in groups and with dilated windows: each group is a convolution of its own, over a copy of its channels.

Dilation costs little here: a kernel reads a window by the runs in which its elements lie (microkernel.window_runs). For
filters of one channel each, `depthwise` is there.
"""

import functools

import numpy as np

from minicnn.kernels.convolution.backward import weight_gradient
from minicnn.kernels.convolution.direct import convolve, gather
from minicnn.kernels.convolution.masking import bias_gradient
from minicnn.kernels.runtime.microkernel import ones
from minicnn.kernels.runtime.recording import call, derived
from minicnn.kernels.runtime.reduction import finally_
from minicnn.kernels.runtime.threads import workspace

__all__ = ["grouped_conv2d", "grouped_conv2d_input_gradient", "grouped_conv2d_weight_gradient"]


def grouped_conv2d(x, w, b, strides, pads, dilation, groups, y):
    """Write the convolution of x (N, H, W, C) with w (KH, KW, C / G, F) and b (F,) to y (N, OH, OW, F).

    See reference.grouped_conv2d.
    """
    for g in range(groups):
        part, ends = _part("group y", y, g, groups), (ones(y.shape[3] // groups, b.dtype), _weights("group b", b, g, groups))
        convolve(_copy("group x", x, g, groups), _weights("group w", w, g, groups), ends, strides, pads, dilation, 1, False, part, workspace("no switches", 0, np.uint8))
        _put(part, y, g, groups)


def grouped_conv2d_input_gradient(dy, w, image_size, strides, pads, dilation, groups, dx):
    """Write dx (N, H, W, C). See reference.grouped_conv2d_input_gradient."""
    for g in range(groups):
        part = _part("group x", dx, g, groups)
        gather(_copy("group y", dy, g, groups), _copy("group w", w, g, groups), image_size, strides, pads, dilation, part)
        _put(part, dx, g, groups)


def grouped_conv2d_weight_gradient(dy, x, kernel_size, strides, pads, dilation, groups, dw, db):
    """Write dw (KH, KW, C / G, F) and db (F,), if it is not None. See reference.grouped_conv2d_weight_gradient."""
    if db is not None:
        bias_gradient(dy, db)
    for g in range(groups):
        dw_part = dw if groups == 1 else np.empty_like(_of(dw, g, groups), order="C")
        dy_part = _copy("group y", dy, g, groups)
        weight_gradient(dy_part, _copy("group x", x, g, groups), kernel_size, strides, pads, dilation, dw_part)
        finally_(functools.partial(_put, dw_part, dw, g, groups))


def _of(array, g, groups):
    """Return the view of what group g has of the last axis."""
    size = array.shape[-1] // groups
    return array[..., g * size:(g + 1) * size]


def _part(name, array, g, groups):
    """Return where the part of group g is to be written: the array itself where there is one group, else a workspace."""
    return array if groups == 1 else workspace(name, _of(array, g, groups).shape, array.dtype)


def _copy(name, array, g, groups):
    """Return the part of group g, C-contiguous."""
    part = _part(name, array, g, groups)
    if groups > 1:
        call(np.copyto, part, _of(array, g, groups))
    return part


def _weights(name, array, g, groups):
    """Return the same of weights, as they stay in a recording."""
    part = _of(array, g, groups)
    return array if groups == 1 else derived(name, part.shape, array.dtype, lambda own: np.copyto(own, part), array)


def _put(part, array, g, groups):
    """Write the part of group g to where it belongs."""
    if groups > 1:
        call(np.copyto, _of(array, g, groups), part)
