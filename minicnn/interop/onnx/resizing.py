"""ONNX operators that make images larger or smaller: Resize, Upsample, ConvTranspose, DepthToSpace, SpaceToDepth."""

import math

import numpy as np

from minicnn.errors import InputError
from minicnn.interop.onnx.matrices import times_rows
from minicnn.interop.onnx.windows import padded

__all__ = ["RESIZING"]

_MOST_OUT = 2**20                   # pixels along an axis

# {coordinate_transformation_mode: where output o of `out` lies among `size` inputs that are scaled by s}
_PLACES = {
    "asymmetric": lambda o, s, size, out: o / s, "tf_half_pixel_for_nn": lambda o, s, size, out: (o + 0.5) / s,
    "half_pixel": lambda o, s, size, out: (o + 0.5) / s - 0.5,
    "half_pixel_symmetric": lambda o, s, size, out: size / 2 * (1 - out / (s * size)) + (o + 0.5) / s - 0.5,
    "pytorch_half_pixel": lambda o, s, size, out: (o + 0.5) / s - 0.5 if out > 1 else 0 * o,
    "align_corners": lambda o, s, size, out: o * (size - 1) / max(out - 1, 1)}
_NEAREST = {"floor": np.floor, "ceil": np.ceil, "round_prefer_floor": lambda x: np.ceil(x - 0.5),
            "round_prefer_ceil": lambda x: np.floor(x + 0.5)}


def resize(operation):
    """Whole factors of the nearest pixel are an UpSampling2D; else each axis is multiplied by a matrix, which does not train."""
    tensor = operation.tensor()
    factors, matrices, is_image = [1, 1], {}, tensor.graph.batched and len(tensor.order) == 3
    for axis, size, scale, out in _scales(operation, tensor):
        taps, times = _taps(operation, size, scale, out), out // size
        if is_image and axis and times and len(taps) == 1 and (taps[0][0] == np.arange(out) // times).all():
            factors[axis - 1] = times
            continue
        tensor.graph.spend(size * out)
        matrices[axis] = matrix = np.zeros((size, out), np.float32)
        for places, weights in taps:
            np.add.at(matrix, (places, np.arange(out)), weights)
    if factors != [1, 1]:
        tensor = tensor.image(f"a {operation.kind}").then("UpSampling2D", size=tuple(factors))
    for axis, matrix in matrices.items():
        tensor = times_rows(tensor.with_last(axis), matrix, fixed=True)
    return tensor


def _scales(operation, tensor):
    """Return [(axis, size, scale, size of the output)] of the axes that change."""
    graph, old, axes = tensor.graph, operation.kind == "Upsample" or operation.version < 11, list(range(tensor.rank))
    if old:
        given = operation.attribute("scales", kind="floats") if operation.has("scales") else operation.constant(1).ravel().tolist()
        sizes = None
    else:
        if operation.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
            raise InputError("its keep_aspect_ratio_policy must be 'stretch'")
        given, axes = operation.constant(2, np.empty(0)).ravel().tolist(), operation.attribute("axes", axes)
        sizes = None if given else _sizes(operation, [operation.within(axis, tensor.rank) for axis in axes])
    if len(axes) != len(sizes or given):
        raise InputError(f"{len(sizes or given)} sizes or scales for {len(axes)} axes")
    found = []
    for i, axis in enumerate(axes):
        if operation.within(axis, tensor.rank) == 0 and graph.batched and (sizes or given[i] == 1):
            continue
        axis = operation.axis(tensor, axis)
        size = tensor.shape[axis]
        out = sizes[i] if sizes else math.floor(size * given[i]) if 0 < given[i] < _MOST_OUT else 0
        if not 1 <= out <= _MOST_OUT:
            raise InputError(f"it makes {out:,} pixels of {size:,}; 1 to {_MOST_OUT:,} are supported")
        if out != size:
            found.append((axis, size, out / size if sizes else given[i], out))
    return found


def _sizes(operation, axes):
    """Return the sizes that the axes get, where that of the samples, which may be any, stays as it is."""
    found = []
    for i, n in enumerate(operation.graph.samples or (None,)):
        operation.sample = i
        sizes = operation.numbers("sizes", 3)
        found.append([None if (axis, size) == (0, n) else size for axis, size in zip(axes, sizes)] + sizes[len(axes):])
    operation.sample = None
    repeats = any(size and not axis for axis, size in zip(axes, found[0]))
    if operation.graph.batched and (repeats or any(sizes != found[0] for sizes in found)):
        raise InputError("it repeats samples")
    return found[0]


def _taps(operation, size, scale, out):
    """Return [(which input, its weight)] of every output along an axis: arrays (out,) for each tap."""
    mode, rule, nearest = operation.attribute("mode", "nearest"), "asymmetric", "floor"
    if operation.kind == "Resize" and operation.version >= 11:
        rule = operation.attribute("coordinate_transformation_mode", "half_pixel")
        nearest = operation.attribute("nearest_mode", "round_prefer_floor")
        operation.ignore("cubic_coeff_a", "extrapolation_value")
        if operation.attribute("antialias", 0) and out < size and mode != "nearest":
            raise InputError("its antialias must be 0")
        if operation.attribute("exclude_outside", 0):
            raise InputError("its exclude_outside must be 0")
    if mode not in ("nearest", "linear", "cubic") or rule not in _PLACES or nearest not in _NEAREST:
        raise InputError(f"its mode must be nearest, linear or cubic, its coordinate_transformation_mode one of {', '.join(_PLACES)}; "
                         f"got {mode[:40]!r} and {rule[:40]!r}")
    operation.graph.spend(out)
    x = _PLACES[rule](np.arange(out), scale, size, out)
    within = lambda place: np.clip(place, 0, size - 1).astype(int)
    if mode == "nearest":
        return [(within(_NEAREST[nearest](x)), 1)]
    left = np.floor(x)
    t = x - left
    if mode == "linear":
        return [(within(left), 1 - t), (within(left + 1), t)]
    a = operation.attribute("cubic_coeff_a", -0.75)             # Keys, 1981
    near, far = (lambda d: ((a + 2) * d - (a + 3)) * d**2 + 1), (lambda d: ((a * d - 5 * a) * d + 8 * a) * d - 4 * a)
    return [(within(left + i), weight) for i, weight in ((-1, far(1 + t)), (0, near(t)), (1, near(1 - t)), (2, far(2 - t)))]


def spread(image, before, block, after):
    """Return an image of ours whose channels (before, *block, after) are blocks of pixels: (H, W, C) to (BH H, BW W, before after)."""
    (H, W, _), (BH, BW) = image.step.shape, block
    if block == (1, 1):
        return image
    parts = image.then("Reshape", main=False, target_shape=(H, W, before, BH, BW, after)).then("Permute", dims=(1, 4, 2, 5, 3, 6))
    return parts.then("Reshape", main=False, target_shape=(H * BH, W * BW, before * after))


def depth_to_space(operation):
    image, mode = operation.tensor().image("a DepthToSpace"), operation.attribute("mode", "DCR")
    size, C = operation.attribute("blocksize", kind="int"), image.step.shape[2]
    if mode not in ("DCR", "CRD") or size < 1 or C % size**2:
        raise InputError(f"blocks of {size} x {size} of {C} channels, with the mode {mode[:40]!r}")
    return spread(image, *((1, (size, size), C // size**2) if mode == "DCR" else (C // size**2, (size, size), 1)))


def space_to_depth(operation):
    image, mode = operation.tensor().image("a SpaceToDepth"), operation.attribute("mode", "DCR")
    size, (H, W, C) = operation.attribute("blocksize", kind="int"), image.step.shape
    if mode not in ("DCR", "CRD") or size < 1 or H % size or W % size:
        raise InputError(f"blocks of {size} x {size} of {H} x {W} pixels, with the mode {mode[:40]!r}")
    parts = image.then("Reshape", main=False, target_shape=(H // size, size, W // size, size, C))
    parts = parts.then("Permute", dims=(1, 3, 2, 4, 5) if mode == "DCR" else (1, 3, 5, 2, 4))
    return parts.then("Reshape", main=False, target_shape=(H // size, W // size, size * size * C))


def conv_transpose(operation):
    """A convolution that gives the strides' block of pixels for each of its pixels, as channels, which are then spread out.

    With x (H), w (K), stride s: y[s m + a] = sum over j of x[m - j] w[s j + a], so filter a of s has the numbers s j + a of w,
    turned around. The pads of the file are cut off. What is trained on is this convolution.
    """
    image, w, group = operation.tensor().image("a ConvTranspose"), operation.constant(1), operation.attribute("group", 1)
    C = image.step.shape[2]
    if w.ndim != 4 or operation.attribute("kernel_shape", list(w.shape[2:])) != list(w.shape[2:]) or group < 1 \
            or w.shape[0] != C or C % group or min(w.shape) < 1:
        raise InputError(f"a kernel of shape {w.shape} in {group} groups does not fit {C} channels")
    f, b = w.shape[1], operation.constant(2, None)
    if b is not None and b.shape != (group * f,):
        raise InputError(f"a bias of shape {b.shape} for {group * f} filters")
    strides, dilations, extra = (operation.attribute(name, [default] * 2) for name, default in
                                 (("strides", 1), ("dilations", 1), ("output_padding", 0)))
    mode, pads = operation.attribute("auto_pad", "NOTSET"), operation.attribute("pads", [0] * 4)
    outs = operation.attribute("output_shape", [], kind="ints")[-2:]
    if not len(strides) == len(dilations) == len(extra) == 2 or len(pads) != 4 or mode not in ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID") \
            or min(*strides, *dilations) < 1 or min(*extra, *pads, *outs) < 0 or max(*strides, *dilations, *extra, *pads, *outs) > 2**20:
        raise InputError(f"strides {strides}, dilations {dilations}, pads {pads}, output_padding {extra}, auto_pad {mode[:40]!r}: two spatial "
                         "dimensions are supported")
    margins, cuts, blocks = [], [], []
    for i in range(2):
        size, s, d, K = image.step.shape[i], strides[i], dilations[i], w.shape[2 + i]
        span = (K - 1) * d + 1
        whole = s * (size - 1) + span + extra[i]
        if outs or mode.startswith("SAME"):
            rest = whole - (outs[i] if outs else size * s)
            before = rest // 2 if mode == "SAME_UPPER" else rest - rest // 2
            after = rest - before
        else:
            before, after = (pads[i], pads[i + 2]) if mode == "NOTSET" else (0, 0)
        J = -(-span // s)
        more = max(-(-(whole - after) // s) - size, 0)
        if min(before, whole - before - after - 1) < 0:
            raise InputError(f"pads of {before} and {after} of {whole} pixels")
        operation.graph.spend(w.size // K * J * s)
        dilated = np.zeros((*w.shape[:2 + i], J * s, *w.shape[3 + i:]), np.float32)
        dilated[(slice(None),) * (2 + i) + (slice(0, span, d),)] = w
        w = dilated
        margins.append((J - 1, more))
        cuts.append((-before, whole - after - s * (size + more)))
        blocks.append((J, s))
    (JH, SH), (JW, SW) = blocks
    kernel = w.reshape(group, C // group, f, JH, SH, JW, SW)[:, :, :, ::-1, :, ::-1].transpose(3, 5, 1, 0, 4, 6, 2)
    filters = group * SH * SW * f
    weights = {"kernel": kernel.reshape(JH, JW, C // group, filters)}
    if b is not None:
        weights["bias"] = np.broadcast_to(b.reshape(group, 1, f), (group, SH * SW, f)).ravel()
    image = padded(image, tuple(margins)).then("Conv2D", weights, filters=filters, kernel_size=(JH, JW), groups=group,
                                               use_bias=b is not None)
    return padded(spread(image, group, (SH, SW), f), tuple(cuts))


RESIZING = {"Resize": resize, "Upsample": resize, "ConvTranspose": conv_transpose, "DepthToSpace": depth_to_space,
            "SpaceToDepth": space_to_depth}
