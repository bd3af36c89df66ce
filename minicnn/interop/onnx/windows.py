"""ONNX operators with windows: convolution and pooling, whose paddings become those of our layers."""

import math
from typing import NamedTuple

import numpy as np

from minicnn.core.shapes import window
from minicnn.errors import InputError, ShapeError
from minicnn.interop.onnx.graph import CHANNELS_LAST, Scale, Tensor

__all__ = ["WINDOWS", "edge_free", "padded", "power", "squared_up"]

_MOST_POSITIONS = 64                # of a dilated pooling window: each is a layer or two


class _Axis(NamedTuple):
    """A window along one axis.

    Attributes
    ----------
    size, kernel, stride, dilation : int
    before, after : int, the padding of the file; an average may count it
    out : int, how many windows there are
    reach : int, the padding after that the last window reaches into
    """

    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int
    out: int

    @property
    def span(self):
        return (self.kernel - 1) * self.dilation + 1

    @property
    def reach(self):
        return (self.out - 1) * self.stride + self.span - self.size - self.before

    def is_valid(self):
        return self.before == 0 and self.reach <= 0

    def is_same(self):
        return tuple(window(self.size, self.span, self.stride, "same")) == (self.out, self.before, max(self.reach, 0))

    def places(self):
        """Return which pixels each window takes, (out, kernel); those below 0 or from `size` on are padding."""
        first = np.arange(self.out) * self.stride - self.before
        return first[:, None] + np.arange(self.kernel) * self.dilation


def _axes(operation, sizes, kernel, ceil=False):
    """Return the _Axis of the height and of the width, `sizes`, of the attributes that all windows share."""
    strides, dilations = (operation.attribute(name, [1, 1]) for name in ("strides", "dilations"))
    pads, mode = operation.attribute("pads", [0] * 4), operation.attribute("auto_pad", "NOTSET")
    if [len(kernel), len(strides), len(dilations), len(pads)] != [2, 2, 2, 4] or min(*kernel, *strides, *dilations) < 1 or min(pads) < 0:
        raise InputError(f"windows of {kernel} in steps of {strides}, dilated by {dilations}, with pads {pads}: two spatial "
                         "dimensions are supported, and no negative padding")
    if max(*kernel, *strides, *dilations, *pads) > 2**20:
        raise InputError("a window, or its padding, of more than a million pixels")
    axes = []
    for i in range(2):
        size, K, S, D, before, after = sizes[i], kernel[i], strides[i], dilations[i], pads[i], pads[i + 2]
        span = (K - 1) * D + 1
        if mode in ("SAME_UPPER", "SAME_LOWER"):
            out = -(-size // S)
            total = max((out - 1) * S + span - size, 0)
            before = total // 2 if mode == "SAME_UPPER" else total - total // 2
            after = total - before
        elif mode == "VALID":
            before = after = 0
        elif mode != "NOTSET":
            raise InputError("its auto_pad is none of NOTSET, VALID, SAME_UPPER, SAME_LOWER")
        left = size + before + after - span
        if left < 0:
            raise ShapeError(f"a window of {span} does not fit into {size} + {before} + {after}")
        out = left // S + 1
        if ceil and left % S and out * S < size + before:       # one more, if it does not begin in the padding
            out += 1
        axes.append(_Axis(size, K, S, D, before, after, out))
    return axes


def padded(image, margins, main=False):
    """Return an image of ours with ((top, bottom), (left, right)) rows and columns of zeros more, or less where negative."""
    cut = tuple(tuple(max(-side, 0) for side in sides) for sides in margins)
    more = tuple(tuple(max(side, 0) for side in sides) for sides in margins)
    if any(map(any, cut)):
        image = image.then("Cropping2D", main=main, cropping=cut)
    return image.then("ZeroPadding2D", main=main, padding=more) if any(map(any, more)) else image


def _with_padding(image, axes, may_be_same=True):
    """Return (image, padding) for our layer: its own `same`, or zeros around the image, which it then takes as `valid`."""
    if all(axis.is_valid() for axis in axes):
        return image, "valid"
    if may_be_same and all(axis.is_same() for axis in axes):
        return image, "same"
    return padded(image, tuple((axis.before, max(axis.reach, 0)) for axis in axes)), "valid"


def edge_free(operation, image):
    """Return ([(before, after) of the height and width that repeat the edge], image without these)."""
    edge = [image.edge.get(axis, (0, 0)) for axis in CHANNELS_LAST]
    if any(edge[2]) or min(map(min, edge)) < 0:
        raise InputError("a Pad of the mode 'edge' before it repeats channels")
    return edge[:2], image.same(edge={})


def conv(operation):
    image = operation.tensor().image("a Conv")
    w = operation.constant(1)
    group = operation.attribute("group", 1)
    C = image.step.shape[2]
    if w.ndim != 4 or operation.attribute("kernel_shape", list(w.shape[2:])) != list(w.shape[2:]) or group < 1 \
            or w.shape[1] * group != C or w.shape[0] % group or min(w.shape) < 1:
        raise InputError(f"a kernel of shape {w.shape} in {group} groups does not fit {C} channels")
    axes = _axes(operation, image.step.shape[:2], list(w.shape[2:]))
    F, (KH, KW) = w.shape[0], w.shape[2:]
    image, padding = _with_padding(image, axes)
    b = operation.constant(2, None)
    if b is not None and b.shape != (F,):
        raise InputError(f"a bias of shape {b.shape} for {F} filters")
    weights = {} if b is None else {"bias": b}
    arguments = {"kernel_size": (KH, KW), "strides": tuple(axis.stride for axis in axes), "padding": padding,
                 "dilation_rate": tuple(axis.dilation for axis in axes), "use_bias": b is not None}
    if group == C > 1:
        weights["depthwise_kernel"] = w.reshape(C, F // C, KH, KW).transpose(2, 3, 0, 1)
        return image.then("DepthwiseConv2D", weights, depth_multiplier=F // C, **arguments)
    weights["kernel"] = w.transpose(2, 3, 1, 0)
    return image.then("Conv2D", weights, filters=F, groups=group, **arguments)


def max_pool(operation):
    operation.ignore("storage_order")           # of the indices, a second output
    edge, image = edge_free(operation, operation.tensor())
    image = image.image("a MaxPool")
    axes = _pool_axes(operation, [size + sum(sides) for size, sides in zip(image.step.shape, edge)])
    return _max_pool(operation, image, _without_edge(operation, axes, edge) if any(map(any, edge)) else axes)


def _pool_axes(operation, sizes):
    return _axes(operation, sizes, operation.attribute("kernel_shape", kind="ints"), operation.attribute("ceil_mode", 0))


def _without_edge(operation, axes, edge):
    """Return the _Axis of windows whose repeated edge pixels are padding: no maximum changes where each holds the edge too."""
    operation.graph.spend(sum(axis.out for axis in axes))
    found = []
    for axis, (before, after) in zip(axes, edge):
        size = axis.size - before - after
        first = np.arange(axis.out) * axis.stride - axis.before - before
        if axis.dilation > 1 or axis.before or axis.after or (first + axis.span < 1).any() or (first > size - 1).any():
            raise InputError("a Pad of the mode 'edge' before it is supported where every window holds a pixel of the image")
        found.append(axis._replace(size=size, before=before, after=after))
    return found


def _max_pool(operation, image, axes):
    if any(axis.dilation > 1 for axis in axes):
        slices = _slices(_lowest_around(image, axes), axes)
        for other in slices[1:]:
            slices[0] = Tensor(operation.graph, operation.graph.step("ElementwisePair", [slices[0].step, other.step],
                                                                     function="maximum"), image.order)
        return slices[0]
    same = all(axis.is_same() for axis in axes) and not all(axis.is_valid() for axis in axes)
    image = image if same else _lowest_around(image, axes)
    return image.then("MaxPool2D", pool_size=tuple(axis.kernel for axis in axes), strides=tuple(axis.stride for axis in axes),
                      padding="same" if same else "valid")


def _lowest_around(image, axes):
    """Return an image with its padding of the lowest finite number, which no maximum takes; of zeros if none is lower."""
    margins = tuple((axis.before, max(axis.reach, 0)) for axis in axes)
    around = padded(image, margins)
    if around is image or image.step.nonnegative:
        return around
    H, W, _ = around.step.shape
    return filled(around, margins, np.finfo(np.float32).min)


def filled(image, margins, value, main=False):
    """Return an image of ours whose margins, which are zeros, are `value`."""
    H, W, _ = image.step.shape
    image.graph.spend(H * W)
    inside = np.zeros([size - before - after for size, (before, after) in zip((H, W), margins)], np.float32)
    constant = np.pad(inside, margins, constant_values=-value)[:, :, None]
    graph = image.graph
    return Tensor(graph, graph.step("ElementwisePair", [image.step, graph.constant(constant, image.step)], main=main,
                                    function="subtract"), image.order)


def _slices(image, axes):
    """Return the images of each position in the windows over a padded image, (OH, OW, C)."""
    if axes[0].kernel * axes[1].kernel > _MOST_POSITIONS:
        raise InputError(f"a dilated pooling window has at most {_MOST_POSITIONS} positions")
    found, strides = [], tuple(axis.stride for axis in axes)
    for i in range(axes[0].kernel):
        for j in range(axes[1].kernel):
            sides = []
            for axis, place, size in zip(axes, (i, j), image.step.shape):
                first = place * axis.dilation
                sides.append((-first, first + (axis.out - 1) * axis.stride + 1 - size))
            one = padded(image, tuple(sides))
            found.append(one if strides == (1, 1) else one.then("MaxPool2D", main=False, pool_size=1, strides=strides))
    return found


def average_pool(operation):
    image = operation.tensor().image("an AveragePool")
    axes = _pool_axes(operation, image.step.shape[:2])
    return _average(image, axes, operation.attribute("count_include_pad", 0))


def _average(image, axes, counts_padding):
    pool = {"pool_size": tuple(axis.kernel for axis in axes), "strides": tuple(axis.stride for axis in axes)}
    apart = any(axis.dilation > 1 for axis in axes)
    if not apart and not counts_padding and all(axis.is_same() for axis in axes):
        return image.then("AveragePool2D", padding="valid" if all(axis.is_valid() for axis in axes) else "same", **pool)
    around, _ = _with_padding(image, axes, may_be_same=False)
    if apart:
        slices = _slices(around, axes)
        step = image.graph.step("Add", [one.step for one in slices]) if len(slices) > 1 else slices[0].step
        result = Tensor(image.graph, step, image.order).then(Scale, main=False, array=np.full((1, 1, 1), 1 / len(slices)))
    else:
        result = around.then("AveragePool2D", **pool)
    factors = []
    image.graph.spend(axes[0].out * axes[1].out + sum(axis.out * axis.kernel for axis in axes))
    for axis in axes:
        low, high = (-axis.before, axis.size + axis.after) if counts_padding else (0, axis.size)
        counted = ((axis.places() >= low) & (axis.places() < high)).sum(axis=1)
        if not counted.all():
            raise InputError("a window lies in the padding alone, and has no mean")
        factors.append(axis.kernel / counted)
    factor = np.outer(*factors)[:, :, None]
    return result if (factor == 1).all() else result.then(Scale, main=False, array=factor)


def lp_pool(operation):
    image = operation.tensor().image("an LpPool")
    p = operation.attribute("p", 2)
    axes = _pool_axes(operation, image.step.shape[:2])
    if p < 1:
        raise InputError(f"its p must be at least 1, got {p}")
    powers = power(image if p == 2 else image.then("Elementwise", main=False, function="abs"), p, main=False)
    around, _ = _with_padding(powers, axes, may_be_same=False)
    whole = [axis._replace(size=axis.size + axis.before + max(axis.reach, 0), before=0, after=0) for axis in axes]
    count = axes[0].kernel * axes[1].kernel
    return power(_average(around, whole, True).then(Scale, main=False, array=np.full((1, 1, 1), float(count))), 1 / p)


def power(tensor, exponent, main=True):
    """Return a tensor to a power that is one number."""
    plain = {2: "square", 0.5: "sqrt", -1: "reciprocal"}.get(exponent)
    if exponent == 1:
        return tensor
    if plain:
        return tensor.then("Elementwise", main=main, function=plain)
    graph = tensor.graph
    constant = graph.constant(np.full((1,) * len(tensor.step.shape), exponent), tensor.step)
    return Tensor(graph, graph.step("ElementwisePair", [tensor.step, constant], main=main, function="power"), tensor.order)


def squared_up(tensor, axis):
    """Return (image of ours (before, size, after), our axis) with an axis of the file in the middle: of an array of any rank."""
    place = tensor.order.index(axis)
    shape = tensor.step.shape
    sizes = math.prod(shape[:place]), shape[place], math.prod(shape[place + 1:])
    return tensor.then("Reshape", order=CHANNELS_LAST, main=False, target_shape=sizes) if shape != sizes else tensor


def global_pool(layer):
    def handle(operation):
        return operation.tensor().image(f"a {operation.kind}").then(layer, keepdims=True)
    return handle


WINDOWS = {"Conv": conv, "MaxPool": max_pool, "AveragePool": average_pool, "LpPool": lp_pool,
           "GlobalAveragePool": global_pool("GlobalAveragePooling2D"), "GlobalMaxPool": global_pool("GlobalMaxPooling2D")}
