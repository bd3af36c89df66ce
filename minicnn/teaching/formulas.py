"""What each layer computes, with its own sizes: the formula, the matrix product, and one number by hand.

By hand means that the terms are multiplied in float64, where a product of two float32 is exact, and summed with one
rounding. `ByHand.bound` is the rounding error that the engine may have.
"""

import math
from typing import NamedTuple

import numpy as np

from minicnn import reference
from minicnn.layers import (ELU, Add, AveragePool2D, BatchNormalization, Capsules, CapsuleLength, Concatenate,
                            Constant, Conv2D, Cropping2D, Dense, Dropout, Elementwise, ElementwisePair, Flatten,
                            GlobalAveragePooling2D, GlobalMaxPooling2D, InputLayer, LayerNormalization, LeakyReLU, MaxPool2D,
                            Multiply, Outputs, Permute, ReLU, Rescaling, Reshape, Sigmoid, Softmax, Softplus,
                            SpatialDropout2D, StochasticDepth, Swish, Tanh, UpSampling2D, ZeroPadding2D)
from minicnn.layers.affine import AffineLayer
from minicnn.layers.depthwise_convolution import DepthwiseConv2D, SeparableConv2D
from minicnn.reference.grouped_convolution import dilated_windows

__all__ = ["ByHand", "kind_of", "explain", "by_hand", "times"]


class ByHand(NamedTuple):
    """One number of a layer's output, computed term by term.

    Attributes
    ----------
    index : tuple, the index of the number in the output: (i, j, filter), or (unit,)
    x : ndarray, the inputs it depends on; outside the image they are 0
    value : float, the result, computed in float64
    engine : float, the result of the engine
    bound : float, the largest rounding error in the precision of the engine; 0 if the results must be equal
    w, products : ndarrays of x's shape, float64; None for layers without weights
    bias : float, 0 for layers without a bias
    written : str, how the result is written, {} being the inputs; "" for the kinds that trace.py knows
    """

    index: tuple
    x: np.ndarray
    value: float
    engine: float
    bound: float
    w: np.ndarray | None = None
    products: np.ndarray | None = None
    bias: float = 0.0
    written: str = ""

    @property
    def difference(self):
        return abs(self.engine - self.value)

    @property
    def agrees(self):
        return self.difference <= self.bound


def times(*sizes):
    """Return sizes as text, with x between them.

    >>> times(3844, 27)
    '3,844 x 27'
    """
    return " x ".join(f"{size:,}" for size in sizes)


# ---- What a layer computes -------------------------------------------------------------------------------------------

def explain(layer):
    """Return [(word, text)]: the formula of a built layer with its sizes, and its matrix products.

    >>> layer = Dense(2)
    >>> _ = layer.build((3,))
    >>> dict(explain(layer))["GEMM"]
    'y = x @ w + b: (1 x 3) @ (3 x 2) + (2)'
    """
    if type(layer) not in _LAYERS:
        return [("formula", "not known for a custom layer: see its forward")]
    return _LAYERS[type(layer)][1](layer)


def _explain_conv(layer):
    (KH, KW, C, F), (OH, OW, _) = layer.parameters[0].value.shape, layer.output_shape
    windows, terms, itemsize, G = OH * OW, KH * KW * C, layer.dtype.itemsize, layer.groups
    bias, added = ("b[f] + ", f" + ({F // G})") if layer.use_bias else ("", "")
    channel, each = ("c", "") if G == 1 else (f"{C} (f // {F // G}) + c", f"for each of {G} groups of channels and filters, ")
    return [
        ("formula", f"y[i, j, f] = {bias}sum of x[{_places(layer)}, {channel}] w[kh, kw, c, f] over {_ranges(KH, KW)}, "
                    f"c < {C}"),
        ("size", _sizes(layer, layer.span)),
        ("im2col", f"{each}each window of {times(KH, KW, C)} becomes a row: ({times(windows, terms)}), "
                   f"{windows * terms * itemsize:,} bytes"),
        ("GEMM", f"y = cols @ w{' + b' if added else ''}: ({times(windows, terms)}) @ ({times(terms, F // G)}){added}"),
        ("backward", f"dw = cols.T @ dy: ({times(terms, windows)}) @ ({times(windows, F // G)}); "
                     f"dx = col2im(dy @ w.T)"),
    ]


def _explain_by_channel(layer):
    (KH, KW, C, M), bias = layer.parameters[0].value.shape, "b[f] + " if layer.use_bias else ""
    of, w = (f"f // {M}", f"w[kh, kw, f // {M}, f % {M}]") if M > 1 else ("f", "w[kh, kw, f]")
    first = f"sum of x[{_places(layer)}, {of}] {w} over {_ranges(KH, KW)}"
    own, F = KH * KW * C * M, layer.output_shape[2]
    facts = [("size", _sizes(layer, layer.span))]
    if isinstance(layer, DepthwiseConv2D):
        return [("formula", f"y[i, j, f] = {bias}{first}: channels do not mix"), *facts,
                ("weights", f"{times(KH, KW, C, M)} = {own:,}; a Conv2D to {F:,} filters has {KH * KW * C * F:,}"),
                ("backward", "channel by channel: dw = cols.T @ dy, dx = col2im(dy w)")]
    return [("formula", f"z[i, j, f] = {first}; y[i, j, f] = {bias}sum of z[i, j, c] p[c, f] over c < {C * M}"), *facts,
            ("weights", f"{own:,} + {C * M * F:,} = {own + C * M * F:,}; a Conv2D to {F:,} filters has {KH * KW * C * F:,}"),
            ("backward", "dp = z.T @ dy, dz = dy @ p.T; then channel by channel dw = cols.T @ dz, dx = col2im(dz w)")]


def _explain_dense(layer):
    D, F = layer.parameters[0].value.shape
    bias, b, added = ("b[f] + ", " + b", f" + ({F})") if layer.use_bias else ("", "", "")
    return [("formula", f"y[f] = {bias}sum of x[d] w[d, f] over d < {D:,}"),
            ("GEMM", f"y = x @ w{b}: ({times(1, D)}) @ ({times(D, F)}){added}"),
            ("backward", f"dw = x.T @ dy: ({times(D, 1)}) @ ({times(1, F)}); dx = dy @ w.T")]


def _explain_pool(operation, backward):
    return lambda layer: [
        ("formula", f"y[i, j, c] = {operation} of x[{_places(layer)}, c] over {_ranges(*layer.pool_size)}"),
        ("size", _sizes(layer, layer.pool_size)), ("backward", backward)]


def _explain_flatten(layer):
    names = ["i", "j", "c"] if len(layer.input_shape) == 3 else [f"i{k}" for k in range(len(layer.input_shape))]
    place = names[0]
    for k, (size, name) in enumerate(zip(layer.input_shape[1:], names[1:])):
        place = f"({place}) {size} + {name}" if k else f"{place} {size} + {name}"
    return [("formula", f"y[{place}] = x[{', '.join(names)}]: the same numbers as one row"),
            ("backward", "dy in the shape of x")]


def _explain_dropout(layer):
    one = {SpatialDropout2D: "channel", StochasticDepth: "sample"}.get(type(layer), "number")
    return [("formula", "y = x at inference, as here"),
            ("training", f"each {one} is set to 0 with probability {layer.rate:g}, the others are divided by "
                         f"{1 - layer.rate:g}")]


# {layer: (what its arithmetic is called here, function that explains it)}; custom layers are not in it.
_LAYERS = {
    Conv2D: ("conv", _explain_conv), Dense: ("dense", _explain_dense),
    MaxPool2D: ("max", _explain_pool("max", "dy goes to the largest number of the window, the others get 0")),
    AveragePool2D: ("average", _explain_pool("mean", "each number of a window gets an equal share of dy")),
    Flatten: ("flatten", _explain_flatten), Dropout: ("same", _explain_dropout),
    SpatialDropout2D: ("same", _explain_dropout), StochasticDepth: ("same", _explain_dropout),
    ReLU: ("relu", lambda layer: [("formula", "y = max(x, 0), elementwise"), ("backward", "dx = dy where y > 0, else 0")]
           if layer.max_value is None else [("formula", f"y = min(max(x, 0), {layer.max_value:g}), elementwise"),
                                            ("backward", f"dx = dy where 0 < y < {layer.max_value:g}, else 0")]),
    Sigmoid: ("sigmoid", lambda layer: [("formula", "y = 1 / (1 + exp(-x))"), ("backward", "dx = dy y (1 - y)")]),
    Tanh: ("tanh", lambda layer: [("formula", "y = tanh(x)"), ("backward", "dx = dy (1 - y^2)")]),
    Softmax: ("softmax", lambda layer: [
        ("formula", f"y[k] = exp(x[k]) / sum over j < {layer.input_shape[-1]} of exp(x[j])"),
        ("backward", "dx[k] = y[k] (dy[k] - sum over j of dy[j] y[j])")]),
}
_LAYERS |= {
    DepthwiseConv2D: ("further", _explain_by_channel), SeparableConv2D: ("further", _explain_by_channel),
    Add: (None, lambda layer: [("formula", "y = x1 + x2 + ..., elementwise"),
                               ("backward", "dx1 = dx2 = ... = dy; an array that goes into several layers gets the sum")]),
    Multiply: (None, lambda layer: [("formula", "y = x1 x2 ..., elementwise; sizes of 1 are repeated"),
                                    ("backward", "dx1 = dy x2 ..., summed where x1 was repeated")]),
    Concatenate: (None, lambda layer: [
        ("formula", "y = [x1, x2, ...] along the channels: "
                    + " + ".join(str(shape[-1]) for shape in layer.input_shape) + f" = {layer.output_shape[-1]}"),
        ("backward", "each takes its part of dy")]),
    InputLayer: (None, lambda layer: [
        ("formula", f"y = numbers {layer.first:,} to {layer.first + math.prod(layer.shape) - 1:,} of the sample's row")]),
    Outputs: (None, lambda layer: [
        ("formula", "y = [x1, x2, ...], each flattened: "
                    + " + ".join(f"{math.prod(shape):,}" for shape in layer.input_shape) + f" = {layer.output_shape[0]:,}"),
        ("backward", "each takes its part of dy")]),
}
_LAYERS |= {layer: (None, function) for layer, function in {
    Permute: lambda layer: [("formula", f"the same numbers; axis i of y is axis {', '.join(map(str, layer.dims))} of x for i = 1, 2, ..."),
                            ("backward", "dy with its axes in the order of x")],
    Cropping2D: lambda layer: [("formula", "y[i, j, c] = x[{}, {}, c]".format(
                                    *(f"{out} + {first}" if first else out for out, (first, _) in zip("ij", layer.cropping)))),
                               ("backward", "dy, and 0 where x was cropped")],
    Elementwise: lambda layer: [("formula", f"y = {layer.function}(x), elementwise"),
                                ("backward", f"dx = dy {layer.function}'(x)")],
    ElementwisePair: lambda layer: [("formula", f"y = {layer.function}(x1, x2), elementwise; sizes of 1 are repeated"),
                                    ("backward", "dx1 = dy times the slope in x1, dx2 likewise, summed where one was repeated")],
    Capsules: lambda layer: [
        ("formula", f"u[i, j] = x[i] @ w[:, j]: {times(layer.input_shape[0], layer.count)} predictions of {layer.size} numbers; y[j] = "
                    "squash(sum over i of c[i, j] u[i, j]), squash(s) = s |s| / (1 + |s|^2)"),
        ("routing", f"{layer.routings} rounds: c = 1 / {layer.count}, then c[i] = softmax over j of y[j] . u[i, j], y of the round before"),
        ("backward", "through all rounds; dw = x.T @ du, dx = du @ w.T")],
    CapsuleLength: lambda layer: [("formula", f"y[i] = sqrt(sum of x[i, d]^2 over d < {layer.input_shape[-1]})"),
                                  ("backward", "dx[i, d] = dy[i] x[i, d] / y[i], 0 where y[i] = 0")],
    Constant: lambda layer: [("formula", f"y = value, {times(*layer.shape)} numbers that no optimizer changes, whatever x is"),
                             ("backward", "dx = 0")],
}.items()}
_LAYERS |= {layer: ("further", function) for layer, function in {
    LeakyReLU: lambda layer: [("formula", f"y = x where x > 0, else {layer.negative_slope:g} x"),
                              ("backward", f"dx = dy where y > 0, else {layer.negative_slope:g} dy")],
    ELU: lambda layer: [("formula", f"y = x where x > 0, else {layer.alpha:g} (exp(x) - 1)"),
                        ("backward", f"dx = dy where x > 0, else {layer.alpha:g} exp(x) dy")],
    Swish: lambda layer: [("formula", "y = x s with s = 1 / (1 + exp(-x))"), ("backward", "dx = dy (s + x s (1 - s))")],
    Softplus: lambda layer: [("formula", "y = log(1 + exp(x))"), ("backward", "dx = dy (1 - exp(-y))")],
    GlobalAveragePooling2D: lambda layer: [
        ("formula", f"y[c] = mean of x[h, w, c] over {_extent(layer)}"),
        ("backward", f"each of the {math.prod(layer.input_shape[:2]):,} numbers of a channel gets an equal share of dy")],
    GlobalMaxPooling2D: lambda layer: [
        ("formula", f"y[c] = max of x[h, w, c] over {_extent(layer)}"),
        ("backward", "dy goes to the largest number of the channel, the others get 0")],
    ZeroPadding2D: lambda layer: [
        ("formula", "y[i, j, c] = x[{}, {}, c], 0 outside the image".format(
            *(f"{out} - {first}" if first else out for out, (first, _) in zip("ij", layer.padding)))),
        ("backward", "dy without the padding")],
    UpSampling2D: lambda layer: [("formula", "y[i, j, c] = x[{}, {}, c]".format(
                                     *(f"{out} // {size}" if size > 1 else out for out, size in zip("ij", layer.size)))),
                                 ("backward", f"each pixel gets the sum of dy over its {times(*layer.size)} places")],
    BatchNormalization: lambda layer: [
        ("formula", f"y[c] = gamma[c] z[c] + beta[c], z[c] = (x[c] - mean[c]) / s[c], s[c] = sqrt(variance[c] + "
                    f"{layer.epsilon:g}); moving mean and variance at inference, as here"),
        ("training", f"mean and variance of channel c over the batch, N{_sides(layer)} numbers; then moving <- "
                     f"{layer.momentum:g} moving + {1 - layer.momentum:g} that of the batch"),
        ("backward", "dx = g / s, g = gamma dy, as here; in training dx = (g - mean(g) - z mean(g z)) / s, because mean and "
                     "s depend on x")],
    LayerNormalization: lambda layer: [
        ("formula", f"y[c] = gamma[c] z[c] + beta[c], z[c] = (x[c] - mean) / s, s = sqrt(variance + {layer.epsilon:g}), mean "
                    f"and variance over c < {layer.input_shape[-1]:,}"),
        ("backward", "dx = (g - mean(g) - z mean(g z)) / s, g = gamma dy, the means over c")],
    Reshape: lambda layer: [("formula", f"the same numbers, in row-major order, as {times(*layer.output_shape)}"),
                            ("backward", "dy in the shape of x")],
    Rescaling: lambda layer: [("formula", f"y = {layer.scale:g} x{_added(layer.offset)}"),
                              ("backward", f"dx = {layer.scale:g} dy")],
}.items()}


def _added(number):
    return f" {'-' if number < 0 else '+'} {abs(number):g}" if number else ""


def kind_of(layer):
    """Return what the arithmetic of a layer is called here; None for a custom layer, and one that merges.

    >>> kind_of(ReLU()), kind_of(ReLU(6)), kind_of(Add())
    ('relu', 'further', None)
    """
    apart = getattr(layer, "max_value", None) is not None or not getattr(layer, "is_plain", True)
    return "further" if apart else _LAYERS.get(type(layer), (None, None))[0]


def _sides(layer):
    return "".join(f" x {size:,}" for size in layer.input_shape[:-1])


def _extent(layer):
    return "h < {:,}, w < {:,}".format(*layer.input_shape)


def _places(layer):
    """Return the row and column of a window's numbers: `2 i + kh - 1, j + kw`."""
    top, _, left, _ = layer.pads
    return ", ".join((f"{stride} " if stride > 1 else "") + f"{out} + " + (f"{apart} " if apart > 1 else "") + inner
                     + (f" - {before}" if before else "") for out, inner, stride, apart, before in
                     zip("ij", ("kh", "kw"), layer.strides, getattr(layer, "dilation_rate", (1, 1)), (top, left)))


def _ranges(KH, KW):
    return f"kh, kw < {KH}" if KH == KW else f"kh < {KH}, kw < {KW}"


def _sizes(layer, kernel_size):
    """Return the computation of the output's size from that of the input."""
    pieces = []
    for axis, size, kernel, stride, out in zip(("OH", "OW"), layer.input_shape, kernel_size, layer.strides,
                                               layer.output_shape):
        pieces.append(f"{axis} = ceil({size} / {stride}) = {out}" if layer.padding == "same" else
                      f"{axis} = ({size} - {kernel}) // {stride} + 1 = {out}")
    text = "; ".join(pieces)
    if any(layer.pads):
        text += "; padding {} above, {} below, {} left, {} right".format(*layer.pads)
    rows, columns = (size - (out - 1) * stride - kernel for size, kernel, stride, out in
                     zip(layer.input_shape, kernel_size, layer.strides, layer.output_shape))
    if layer.padding == "valid" and rows + columns:
        text += f"; the last rows ({rows}) and columns ({columns}) are in no window"
    return text


# ---- One number by hand ----------------------------------------------------------------------------------------------

def by_hand(layer, weights, x, y, index):
    """Return ByHand: the number `index` of the output y of a layer for the input x, computed term by term.

    Parameters
    ----------
    layer : a built layer of minicnn
    weights : list of ndarrays, its parameters
    x, y : ndarrays without N, the input, and the output of the engine
    index : tuple of int

    >>> conv = Conv2D(1, 2)
    >>> _ = conv.build((2, 2, 1))
    >>> w, b = np.ones((2, 2, 1, 1)), np.array([0.5])
    >>> hand = by_hand(conv, [w, b], np.arange(4.0).reshape(2, 2, 1), np.array([[[6.5]]]), (0, 0, 0))
    >>> hand.products.ravel().tolist(), hand.bias, hand.value, hand.agrees
    ([0.0, 1.0, 2.0, 3.0], 0.5, 6.5, True)
    """
    engine, eps, kind = float(y[index]), float(np.finfo(y.dtype).eps), kind_of(layer)
    if isinstance(layer, AffineLayer):
        terms, w, sizes = _factors(layer, [weight.astype(np.float64) for weight in weights], x.astype(np.float64), index)
        products, bias = terms * w, float(weights[-1][index[-1]]) if layer.use_bias else 0.0
        bound = 8 * eps * math.fsum([*np.abs(sizes * w).ravel(), abs(bias)])
        return ByHand(index, terms, math.fsum([*products.ravel(), bias]), engine, bound, w, products, bias)
    if kind == "further":
        terms, value, scale, written = _by_hand_further(layer, x.astype(np.float64), index)
        return ByHand(index, np.array(terms), float(value), engine, 8 * eps * float(scale), written=written)
    if kind in ("max", "average"):
        window, inside = window_of(layer, layer.pool_size, x, index)
        terms = window[..., index[2]].astype(np.float64)
        value = float(terms[inside].max()) if kind == "max" else math.fsum(terms[inside]) / int(inside.sum())
        scale = 0.0 if kind == "max" else float(np.abs(terms).max())
    elif kind == "softmax":
        terms = x[index[:-1]].astype(np.float64)
        shifted = terms - terms.max()
        value = math.exp(shifted[index[-1]]) / math.fsum(np.exp(shifted))
        scale = value * (1 - float(shifted.min()))
    else:
        terms = np.array(float(x.reshape(-1)[index[0]] if kind == "flatten" else x[index]))
        functions = {"relu": lambda z: max(z, 0.0), "sigmoid": lambda z: float(reference.sigmoid(z)), "tanh": math.tanh}
        value = functions[kind](terms[()]) if kind in functions else float(terms)
        scale = abs(value) if kind in ("sigmoid", "tanh") else 0.0
    return ByHand(index, terms, float(value), engine, 8 * eps * scale)


def _factors(layer, weights, x, index):
    """Return (the numbers that go into one sum, their weights, the sizes of what the numbers were rounded from)."""
    kernel, f = weights[0], index[-1]
    if isinstance(layer, Dense):
        return x, kernel[:, f], x
    apart = layer.strides, layer.pads, layer.dilation_rate
    window = dilated_windows(x[np.newaxis], layer.kernel_size, *apart)[(0, *index[:2])]
    if isinstance(layer, Conv2D):
        C = kernel.shape[2]
        first = f // (layer.filters // layer.groups) * C
        terms = window[..., first:first + C]
        return terms, kernel[..., f], terms
    if isinstance(layer, DepthwiseConv2D):
        c, m = divmod(f, layer.depth_multiplier)
        return window[..., c:c + 1], kernel[:, :, c:c + 1, m], window[..., c:c + 1]
    z, sizes = (np.einsum("hwc,hwcm->cm", a, b).ravel() for a, b in ((window, kernel), (abs(window), abs(kernel))))
    return z, weights[1][0, 0, :, f], sizes


def _by_hand_further(layer, x, index):
    """Return (the inputs of one number, the number, the size of what is rounded, how it is written)."""
    if isinstance(layer, (GlobalAveragePooling2D, GlobalMaxPooling2D)):
        channel = x[..., index[-1]]
        if isinstance(layer, GlobalMaxPooling2D):
            return channel, channel.max(), 0, "max({})"
        return channel, math.fsum(channel.flat) / channel.size, np.abs(channel).max(), "mean({})"
    if isinstance(layer, ZeroPadding2D):
        return (reference.zero_padding2d(x[None], layer.padding[0] + layer.padding[1])[(0, *index)],) * 2 + (0, "{}")
    if isinstance(layer, UpSampling2D):
        return (x[index[0] // layer.size[0], index[1] // layer.size[1], index[2]],) * 2 + (0, "{}")
    if isinstance(layer, (BatchNormalization, LayerNormalization)):
        row = x[index[:-1]]
        moving = isinstance(layer, BatchNormalization)
        mean, variance = (float(s.value[index[-1]]) for s in layer.statistics) if moving else (row.mean(), row.var())
        gamma, beta = (float(a[index[-1]]) for a in layer.gamma_and_beta())
        scale = gamma / math.sqrt(variance + layer.epsilon)
        written = f"{gamma:.5g} ({{}} - {mean:.5g}) / sqrt({variance:.5g} + {layer.epsilon:g}){_added(beta)}"
        return (x[index] if moving else row, scale * (x[index] - mean) + beta,
                abs(scale) * (abs(x[index]) + abs(mean)) + abs(beta),
                written if moving else written.format(f"{x[index]:.5g}") + " with mean and variance of {}")
    if isinstance(layer, Reshape):
        return (x.reshape(layer.output_shape)[index],) * 2 + (0, "{}")
    if isinstance(layer, Rescaling):
        term = layer.scale * x[index]
        return x[index], term + layer.offset, abs(term) + abs(layer.offset), f"{layer.scale:g} ({{}}){_added(layer.offset)}"
    numbers = layer.numbers()
    value = getattr(reference, layer.operation)(x[index], *numbers)
    return x[index], value, abs(value), f"{layer.operation}({', '.join(['{}', *(f'{number:g}' for number in numbers)])})"


def window_of(layer, size, x, index):
    """Return (the window of x for output `index`, (KH, KW, C), 0 outside the image; whether it is inside, (KH, KW))."""
    (KH, KW), (SH, SW), (top, _, left, _), (H, W, _) = size, layer.strides, layer.pads, x.shape
    rows, columns = index[0] * SH - top + np.arange(KH), index[1] * SW - left + np.arange(KW)
    inside = ((rows >= 0) & (rows < H))[:, None] & ((columns >= 0) & (columns < W))
    window = x[np.clip(rows, 0, H - 1)[:, None], np.clip(columns, 0, W - 1)]
    return np.where(inside[..., None], window, x.dtype.type(0)), inside
