"""What each layer computes, told with its own sizes: the formula, the matrices, the field of view, one number by hand.

By hand means: the terms are laid open, multiplied in float64, where a product of two float32 is exact, and summed with
one rounding. What the engine's float32 sums may differ by is then known, and `ByHand.bound` says it.
"""

import math
from typing import NamedTuple

import numpy as np

from minicnn.layers import (AveragePool2D, Conv2D, Dense, Dropout, Flatten, MaxPool2D, ReLU, Sigmoid, Softmax, Tanh)
from minicnn.reference import sigmoid

__all__ = ["ByHand", "KINDS", "explain", "by_hand", "times"]


class ByHand(NamedTuple):
    """One number of a layer's output, computed term by term.

    Attributes
    ----------
    index : tuple, which number of the output: (i, j, filter), or (unit,)
    x : ndarray, the numbers of the input that it is made of; outside the image they are 0
    w, products : ndarrays of x's shape, float64; None where nothing is multiplied
    bias : float, 0 where there is none
    value : float, the result, computed in float64
    engine : float, what the engine computed
    bound : float, what rounding in the engine's precision may make of it; 0 where the result must be the same
    """

    index: tuple
    x: np.ndarray
    w: np.ndarray | None
    products: np.ndarray | None
    bias: float
    value: float
    engine: float
    bound: float

    @property
    def difference(self):
        return abs(self.engine - self.value)

    @property
    def agrees(self):
        return self.difference <= self.bound


def times(*sizes):
    """Return sizes with x between them, as errors and tables write them.

    >>> times(3844, 27)
    '3,844 x 27'
    """
    return " x ".join(f"{size:,}" for size in sizes)


# ---- What a layer computes -------------------------------------------------------------------------------------------

def explain(layer):
    """Return [(word, sentence)]: the formula of a built layer with its sizes, and the matrices it comes down to.

    >>> layer = Dense(2)
    >>> _ = layer.build((3,))
    >>> dict(explain(layer))["GEMM"]
    'y = x @ w + b: (1 x 3) @ (3 x 2) + (2)'
    """
    known = _EXPLAINED.get(type(layer))
    if known is None:
        return [("formula", "that of a layer of your own: see its forward")]
    return known(layer)


def _explain_conv(layer):
    (KH, KW, C, F), (OH, OW, _) = layer.parameters[0].value.shape, layer.output_shape
    windows, terms, itemsize = OH * OW, KH * KW * C, layer.dtype.itemsize
    return [
        ("formula", f"y[i, j, f] = b[f] + sum of x[{_places(layer)}, c] w[kh, kw, c, f] over {_ranges(KH, KW)}, "
                    f"c < {C}"),
        ("size", _sizes(layer, (KH, KW))),
        ("im2col", f"each window of {times(KH, KW, C)} becomes a row: ({times(windows, terms)}), "
                   f"{windows * terms * itemsize:,} bytes"),
        ("GEMM", f"y = cols @ w + b: ({times(windows, terms)}) @ ({times(terms, F)}) + ({F})"),
        ("backward", f"dw = cols.T @ dy: ({times(terms, windows)}) @ ({times(windows, F)}); "
                     f"dx = col2im(dy @ w.T)"),
    ]


def _explain_dense(layer):
    D, F = layer.parameters[0].value.shape
    return [("formula", f"y[f] = b[f] + sum of x[d] w[d, f] over d < {D:,}"),
            ("GEMM", f"y = x @ w + b: ({times(1, D)}) @ ({times(D, F)}) + ({F})"),
            ("backward", f"dw = x.T @ dy: ({times(D, 1)}) @ ({times(1, F)}); dx = dy @ w.T")]


def _explain_max_pool(layer):
    KH, KW = layer.pool_size
    return [("formula", f"y[i, j, c] = max of x[{_places(layer)}, c] over {_ranges(KH, KW)}"),
            ("size", _sizes(layer, layer.pool_size)),
            ("backward", "dy goes to the number that was the largest, the others get 0")]


def _explain_average_pool(layer):
    KH, KW = layer.pool_size
    return [("formula", f"y[i, j, c] = mean of x[{_places(layer)}, c] over {_ranges(KH, KW)}"),
            ("size", _sizes(layer, layer.pool_size)),
            ("backward", "each number of a window gets an equal share of dy")]


def _explain_flatten(layer):
    names = ["i", "j", "c"] if len(layer.input_shape) == 3 else [f"i{k}" for k in range(len(layer.input_shape))]
    place = names[0]
    for k, (size, name) in enumerate(zip(layer.input_shape[1:], names[1:])):
        place = f"({place}) {size} + {name}" if k else f"{place} {size} + {name}"
    return [("formula", f"y[{place}] = x[{', '.join(names)}]: the same numbers in one row"),
            ("backward", "the same numbers in the shape of x")]


def _explain_dropout(layer):
    return [("formula", "y = x when predicting, as here"),
            ("training", f"each number is dropped with probability {layer.rate:g}, the others are divided by "
                         f"{1 - layer.rate:g}")]


_EXPLAINED = {
    Conv2D: _explain_conv, Dense: _explain_dense, MaxPool2D: _explain_max_pool, AveragePool2D: _explain_average_pool,
    Flatten: _explain_flatten, Dropout: _explain_dropout,
    ReLU: lambda layer: [("formula", "y = max(x, 0), number by number"), ("backward", "dx = dy where y > 0, else 0")],
    Sigmoid: lambda layer: [("formula", "y = 1 / (1 + exp(-x))"), ("backward", "dx = dy y (1 - y)")],
    Tanh: lambda layer: [("formula", "y = tanh(x)"), ("backward", "dx = dy (1 - y^2)")],
    Softmax: lambda layer: [("formula", f"y[k] = exp(x[k]) / sum over j < {layer.input_shape[-1]} of exp(x[j])"),
                            ("backward", "dx[k] = y[k] (dy[k] - sum over j of dy[j] y[j])")],
}

# What each layer is called where only the arithmetic matters; a layer of your own is none of these.
KINDS = {Conv2D: "conv", Dense: "dense", MaxPool2D: "max", AveragePool2D: "average", Flatten: "flatten",
         Dropout: "same", ReLU: "relu", Sigmoid: "sigmoid", Tanh: "tanh", Softmax: "softmax"}


def _places(layer):
    """Return where a window's numbers lie: `2 i + kh - 1, j + kw`."""
    top, _, left, _ = layer.pads
    return ", ".join((f"{stride} " if stride > 1 else "") + f"{out} + {inner}" + (f" - {before}" if before else "")
                     for out, inner, stride, before in zip("ij", ("kh", "kw"), layer.strides, (top, left)))


def _ranges(KH, KW):
    return f"kh, kw < {KH}" if KH == KW else f"kh < {KH}, kw < {KW}"


def _sizes(layer, kernel_size):
    """Return how the size of the output follows from that of the input."""
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
        text += f"; no window reaches the last rows ({rows}) and columns ({columns})"
    return text


# ---- One number by hand ----------------------------------------------------------------------------------------------

def by_hand(layer, weights, x, y, index):
    """Return ByHand: number `index` of the output y of a layer for the input x, computed term by term.

    Parameters
    ----------
    layer : a built layer of ours
    weights : list of ndarrays, its parameters
    x, y : ndarrays without N, what went in and what the engine made of it
    index : tuple of int

    >>> conv = Conv2D(1, 2)
    >>> _ = conv.build((2, 2, 1))
    >>> w, b = np.ones((2, 2, 1, 1)), np.array([0.5])
    >>> hand = by_hand(conv, [w, b], np.arange(4.0).reshape(2, 2, 1), np.array([[[6.5]]]), (0, 0, 0))
    >>> hand.products.ravel().tolist(), hand.bias, hand.value, hand.agrees
    ([0.0, 1.0, 2.0, 3.0], 0.5, 6.5, True)
    """
    engine, eps, kind = float(y[index]), float(np.finfo(y.dtype).eps), KINDS[type(layer)]
    if kind in ("conv", "dense"):
        w, bias = weights[0][..., index[-1]].astype(np.float64), float(weights[1][index[-1]])
        terms = (window_of(layer, layer.kernel_size, x, index)[0] if kind == "conv" else x).astype(np.float64)
        products = terms * w
        bound = 8 * eps * math.fsum([*np.abs(products).ravel(), abs(bias)])
        return ByHand(index, terms, w, products, bias, math.fsum([*products.ravel(), bias]), engine, bound)
    if kind in ("max", "average"):
        terms, inside = window_of(layer, layer.pool_size, x, index)
        terms = terms[..., index[2]].astype(np.float64)
        if kind == "max":
            return ByHand(index, terms, None, None, 0.0, float(terms[inside].max()), engine, 0.0)
        value = math.fsum(terms[inside]) / int(inside.sum())
        return ByHand(index, terms, None, None, 0.0, value, engine, 8 * eps * float(np.abs(terms).max()))
    if kind == "softmax":
        row = x[index[:-1]].astype(np.float64)
        shifted = row - row.max()
        value = math.exp(shifted[index[-1]]) / math.fsum(np.exp(shifted))
        return ByHand(index, row, None, None, 0.0, value, engine, 8 * eps * value * (1 - float(shifted.min())))
    z = float(x.reshape(-1)[index[0]] if kind == "flatten" else x[index])
    functions = {"relu": lambda z: max(z, 0.0), "sigmoid": lambda z: float(sigmoid(np.float64(z))), "tanh": math.tanh}
    value = functions[kind](z) if kind in functions else z
    bound = 8 * eps * abs(value) if kind in ("sigmoid", "tanh") else 0.0
    return ByHand(index, np.array(z), None, None, 0.0, value, engine, bound)


def window_of(layer, size, x, index):
    """Return (the window of x under output `index`, shape (KH, KW, C), 0 outside; which of it is inside, (KH, KW))."""
    (KH, KW), (SH, SW), (top, _, left, _), (H, W, _) = size, layer.strides, layer.pads, x.shape
    rows, columns = index[0] * SH - top + np.arange(KH), index[1] * SW - left + np.arange(KW)
    inside = ((rows >= 0) & (rows < H))[:, None] & ((columns >= 0) & (columns < W))
    window = x[np.clip(rows, 0, H - 1)[:, None], np.clip(columns, 0, W - 1)]
    return np.where(inside[..., None], window, x.dtype.type(0)), inside
