"""The cases of the exercises, from the smallest up, their solutions (reference/), and the computations by hand.

The numbers are small integers, different for each input (x from 2, w from 3, dy from 5), so that a sum can be checked
on paper. Cases that show what a level is about come first, the smallest of them before the others; degenerate ones,
such as a window of one number, follow.
"""

import itertools
import math
from typing import Callable, NamedTuple

import numpy as np

from minicnn import reference
from minicnn.core.shapes import window

__all__ = ["Exercise", "EXERCISES"]


class Exercise(NamedTuple):
    """One exercise.

    Attributes
    ----------
    outputs : tuple of str, the names of the return values
    levels : dict from a title to a function that returns its cases, each a dict of arguments, in the order to try them
    solve : the solution, a function of the arguments that returns the tuple of outputs
    by_hand : function (case, output, index) -> list of lines, the computation of one number
    """

    outputs: tuple
    levels: dict
    solve: Callable
    by_hand: Callable


# ---- Numbers and shapes ----------------------------------------------------------------------------------------------

def _count(first, *shape):
    return np.arange(first, first + math.prod(shape), dtype=np.float64).reshape(shape)


def _shuffled(*shape):
    """Return up to 53 different integers, negative and positive, in mixed order."""
    return (31.0 * np.arange(math.prod(shape)) % 53 - 20).reshape(shape)


def _geometries(most, most_kernel, strides=((1, 1),), pads=((0, 0, 0, 0),), others=((1, 1, 1),)):
    """Return (N, H, W, C, F, kernel_size, strides, pads) of all windows that fit: those that show the point, the rest.

    Both begin with the fewest numbers.
    """
    found = [(N, H, W, C, F, (KH, KW), step, pad)
             for (N, C, F), step, pad in itertools.product(others, strides, pads)
             for H, W in itertools.product(range(1, most + 1), repeat=2)
             for KH, KW in itertools.product(range(1, most_kernel + 1), repeat=2)
             if KH <= H + pad[0] + pad[1] and KW <= W + pad[2] + pad[3]]
    return sorted(found, key=lambda g: (not _shows_the_point(*g),
                                        g[0] * g[1] * g[2] * g[3] + math.prod(g[5]) * g[3] * g[4], g))


def _shows_the_point(N, H, W, C, F, kernel_size, strides, pads):
    """Whether a window of several numbers takes several positions, in each direction that has a stride or padding."""
    OH, OW = _output_size(H, W, kernel_size, strides, pads)
    directions = zip((OH, OW), kernel_size, strides, (pads[:2], pads[2:]))
    return OH * OW > 1 and math.prod(kernel_size) > 1 and all(
        out > 1 and (kernel > 1 or not any(padding)) for out, kernel, stride, padding in directions
        if stride > 1 or any(padding))


_SEVERAL = [(2, 1, 1), (1, 2, 1), (1, 1, 2), (2, 2, 3)]         # N, C, F
_GEOMETRIES = {
    "one image, one channel": lambda: _geometries(4, 3),
    "several images, channels, filters": lambda: _geometries(3, 2, others=_SEVERAL),
    "strides": lambda: _geometries(4, 3, strides=[(1, 2), (2, 1), (2, 2), (3, 1)]),
    "padding": lambda: _geometries(3, 3, pads=[(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (1, 1, 1, 1)]),
    "all together": lambda: [(2, 7, 6, 2, 3, (3, 2), (2, 1), (1, 0, 2, 1))],
}


def _levels(arguments, without=()):
    """Return the levels of an exercise about windows; `arguments` returns the case of a geometry."""
    return {title: lambda make=make: [arguments(*geometry) for geometry in make()]
            for title, make in _GEOMETRIES.items() if title not in without}


def _output_size(H, W, kernel_size, strides, pads):
    return (window(H + pads[0] + pads[1], kernel_size[0], strides[0], "valid").out,
            window(W + pads[2] + pads[3], kernel_size[1], strides[1], "valid").out)


# ---- Computations by hand --------------------------------------------------------------------------------------------

def _at(name, index):
    return f"{name}[{', '.join(map(str, index))}]"


def show(number):
    """Return a number with at most seven digits: 18.5, not 18.499999999999996.

    >>> show(18.499999999999996), show(2.0)
    ('18.5', '2')
    """
    return f"{float(number):.7g}"


def _sum(case, terms, bias=None):
    """Return two lines, a sum of products of the entries of a case in symbols and in numbers."""
    if not terms and bias is None:
        return ["no product contributes: 0"]
    symbols = [" ".join(_at(name, index) for name, index in factors) for factors in terms]
    numbers = [" * ".join(show(case[name][index]) for name, index in factors) for factors in terms]
    total = sum(math.prod(case[name][index] for name, index in factors) for factors in terms)
    if bias is not None:
        symbols, numbers, total = [*symbols, _at("b", bias)], [*numbers, show(case["b"][bias])], total + case["b"][bias]
    most = 12
    if len(terms) > most:
        symbols[most:] = numbers[most:] = [f"{len(terms) - most} more"]
    return [" + ".join(symbols), "= " + " + ".join(numbers) + f" = {show(total)}"]


def _products(case, y_shape, kernel_size):
    """Yield (n, oh, ow, kh, kw, h, w) for each position of each window that lies inside the image."""
    (N, OH, OW), (SH, SW), (H, W) = y_shape[:3], case["strides"], case["x"].shape[1:3]
    top, _, left, _ = case.get("pads", (0, 0, 0, 0))
    for n, oh, ow, kh, kw in np.ndindex(N, OH, OW, *kernel_size):
        h, w = oh * SH + kh - top, ow * SW + kw - left
        if 0 <= h < H and 0 <= w < W:
            yield n, oh, ow, kh, kw, h, w


# ---- im2col and convolution ------------------------------------------------------------------------------------------

def _im2col_case(N, H, W, C, F, kernel_size, strides, pads):
    return {"x": _count(2, N, H, W, C), "kernel_size": kernel_size, "strides": strides, "pads": pads}


def _im2col_by_hand(case, output, index):
    (N, H, W, C), (KH, KW), (SH, SW), pads = case["x"].shape, case["kernel_size"], case["strides"], case["pads"]
    OH, OW = _output_size(H, W, (KH, KW), (SH, SW), pads)
    n, oh, ow = (int(i) for i in np.unravel_index(index[0], (N, OH, OW)))
    kh, kw, c = (int(i) for i in np.unravel_index(index[1], (KH, KW, C)))
    h, w = oh * SH + kh - pads[0], ow * SW + kw - pads[2]
    inside = 0 <= h < H and 0 <= w < W
    return [f"row {index[0]} is the window (n, oh, ow) = ({n}, {oh}, {ow}), with its corner at "
            f"({oh * SH - pads[0]}, {ow * SW - pads[2]});",
            f"column {index[1]} is the position (kh, kw, c) = ({kh}, {kw}, {c}) in it: "
            + (f"{_at('x', (n, h, w, c))} = {show(case['x'][n, h, w, c])}" if inside else
               f"({h}, {w}) is outside the image: 0")]


def _conv_case(N, H, W, C, F, kernel_size, strides, pads):
    return {"x": _count(2, N, H, W, C), "w": _count(3, *kernel_size, C, F), "b": _count(0.5, F), "strides": strides,
            "pads": pads}


def _conv_by_hand(case, output, index):
    KH, KW, C, _ = case["w"].shape
    terms = [(("x", (n, h, w, c)), ("w", (kh, kw, c, index[3])))
             for n, oh, ow, kh, kw, h, w in _products(case, [i + 1 for i in index[:3]], (KH, KW))
             if (n, oh, ow) == index[:3] for c in range(C)]
    return _sum(case, terms, bias=index[3:])


def _conv_backward_case(N, H, W, C, F, kernel_size, strides, pads):
    OH, OW = _output_size(H, W, kernel_size, strides, pads)
    return {"dy": _count(5, N, OH, OW, F), "x": _count(2, N, H, W, C), "w": _count(3, *kernel_size, C, F),
            "strides": strides, "pads": pads}


def _conv_backward(dy, x, w, strides, pads):
    return (reference.conv2d_input_gradient(dy, w, x.shape[1:3], strides, pads),
            *reference.conv2d_weight_gradient(dy, x, w.shape[:2], strides, pads))


def _conv_backward_by_hand(case, output, index):
    dy, F = case["dy"], case["dy"].shape[3]
    if output == "db":
        return _sum(case, [(("dy", (*place, index[0])),) for place in np.ndindex(dy.shape[:3])])
    products = list(_products(case, dy.shape, case["w"].shape[:2]))
    if output == "dx":
        return _sum(case, [(("dy", (n, oh, ow, f)), ("w", (kh, kw, index[3], f)))
                           for n, oh, ow, kh, kw, h, w in products if (n, h, w) == index[:3] for f in range(F)])
    return _sum(case, [(("dy", (n, oh, ow, index[3])), ("x", (n, h, w, index[2])))
                       for n, oh, ow, kh, kw, h, w in products if (kh, kw) == index[:2]])


# ---- Pooling ---------------------------------------------------------------------------------------------------------

def _pool_case(N, H, W, C, F, kernel_size, strides, pads, x=None):
    OH, OW = _output_size(H, W, kernel_size, strides, pads)
    return {"dy": _count(5, N, OH, OW, C), "x": _shuffled(N, H, W, C) if x is None else x, "pool_size": kernel_size,
            "strides": strides}


def _tied_pools():
    return [_pool_case(*geometry, x=x(*geometry[:4])) for geometry in _geometries(4, 2, strides=[(1, 1), (2, 2)])
            for x in (lambda *shape: np.zeros(shape), lambda *shape: _count(0, *shape) // 2 % 2)]


def _max_pool_backward(dy, x, pool_size, strides):
    _, switches = reference.max_pool2d(x, pool_size, strides, (0, 0, 0, 0))
    return reference.max_pool2d_gradient(dy, switches, x.shape[1:3], pool_size, strides, (0, 0, 0, 0)),


def _max_pool_by_hand(case, output, index):
    (n, *pixel, c), dy, x, (KH, KW), (SH, SW) = index, case["dy"], case["x"], case["pool_size"], case["strides"]
    lines, received = [], []
    for oh, ow in np.ndindex(dy.shape[1:3]):
        window = x[n, oh * SH:oh * SH + KH, ow * SW:ow * SW + KW, c]
        kh, kw = (int(i) for i in np.unravel_index(window.argmax(), window.shape))
        largest = [oh * SH + kh, ow * SW + kw]
        if 0 <= pixel[0] - oh * SH < KH and 0 <= pixel[1] - ow * SW < KW:
            rows = "; ".join(" ".join(map(show, row)) for row in window)
            first = " the first of several," if (window == window.max()).sum() > 1 else ""
            given = dy[n, oh, ow, c]
            lines.append(f"window ({oh}, {ow}) holds {rows}. Its largest, {show(window.max())},{first} is "
                         f"{_at('x', (n, *largest, c))}, which gets {_at('dy', (n, oh, ow, c))} = {show(given)}")
            received += [given] * (largest == pixel)
    total = " + ".join(map(show, received)) or "0"
    return lines + [f"so {_at('dx', index)} gets {total}" + (f" = {show(sum(received))}" if len(received) > 1 else "")]


# ---- Loss, optimizer, dense layer ------------------------------------------------------------------------------------

def _bce_cases(*pairs):
    return lambda: [{"z": np.array(z, np.float64), "t": np.array(t, np.float64)} for z, t in pairs]


def _bce(z, t):
    losses, dz = reference.binary_crossentropy(z[:, None], t[:, None], np.full(len(z), 1 / len(z)))
    return losses.sum(), dz[:, 0]


def _bce_by_hand(case, output, index):
    z, t, N = case["z"], case["t"], len(case["z"])
    p, (losses, _) = reference.sigmoid(z), reference.binary_crossentropy(z[:, None], t[:, None], np.ones(N))
    if output == "dz":
        i = index[0]
        return [f"dL/dz = p - t, and the mean over {N} divides by {N}: p[{i}] = 1 / (1 + exp({show(-z[i])})) = "
                f"{show(p[i])}", f"= ({show(p[i])} - {show(t[i])}) / {N} = {show((p[i] - t[i]) / N)}"]
    lines = [f"sample {i}: max(z, 0) - z t + log(1 + exp(-|z|)) = {show(max(z[i], 0))} - {show(z[i] * t[i] + 0)} + "
             f"{show(np.log1p(np.exp(-abs(z[i]))))} = {show(losses[i])}" for i in range(N)]
    return lines + [f"mean over {N}: {show(losses.mean())}"]


def _adam_cases(*rows):
    fixed = {"learning_rate": 0.1, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}
    return lambda: [{**{name: np.array(value, np.float64) for name, value in zip(("w", "m", "v", "dw"), row)},
                     "t": row[4], **fixed} for row in rows]


def _adam_rate(t, learning_rate, beta_1, beta_2, **others):
    return learning_rate * math.sqrt(1 - beta_2**t) / (1 - beta_1**t)


def _adam(w, m, v, dw, t, learning_rate, beta_1, beta_2, epsilon):
    return reference.adam(w, m, v, dw, _adam_rate(t, learning_rate, beta_1, beta_2), beta_1, beta_2, epsilon)


def _adam_by_hand(case, output, index):
    w, m, v = (array[index] for array in _adam(**case))
    old_w, old_m, old_v, dw = (show(case[name][index]) for name in ("w", "m", "v", "dw"))
    lines = {"m": f"m = {old_m} + (1 - {case['beta_1']}) ({dw} - {old_m}) = {show(m)}",
             "v": f"v = {old_v} + (1 - {case['beta_2']}) ({dw}^2 - {old_v}) = {show(v)}"}
    if output in lines:
        return [lines[output]]
    rate, t = show(_adam_rate(**case)), case["t"]
    return [*lines.values(),
            f"rate = {case['learning_rate']} sqrt(1 - {case['beta_2']}^{t}) / (1 - {case['beta_1']}^{t}) = {rate}",
            f"w = {old_w} - {rate} * {show(m)} / (sqrt({show(v)}) + {case['epsilon']}) = {show(w)}"]


def _dense_cases(*shapes):
    return lambda: [{"dy": _count(5, N, F), "x": _count(2, N, D), "w": _count(3, D, F)} for N, D, F in shapes]


def _dense_backward(dy, x, w):
    return reference.dense_input_gradient(dy, w), *reference.dense_weight_gradient(dy, x)


def _dense_by_hand(case, output, index):
    N, F = case["dy"].shape
    if output == "dx":
        return _sum(case, [(("dy", (index[0], f)), ("w", (index[1], f))) for f in range(F)])
    if output == "dw":
        return _sum(case, [(("x", (n, index[0])), ("dy", (n, index[1]))) for n in range(N)])
    return _sum(case, [(("dy", (n, index[0])),) for n in range(N)])


EXERCISES = {
    "im2col": Exercise(("cols",), _levels(_im2col_case), lambda **case: (reference.im2col(**case),), _im2col_by_hand),
    "conv-forward": Exercise(("y",), _levels(_conv_case), lambda **case: (reference.conv2d(**case),), _conv_by_hand),
    "conv-backward": Exercise(("dx", "dw", "db"), _levels(_conv_backward_case), _conv_backward, _conv_backward_by_hand),
    "max-pool-backward": Exercise(
        ("dx",), {**_levels(_pool_case, without=("padding", "all together")), "ties": _tied_pools},
        _max_pool_backward, _max_pool_by_hand),
    "bce": Exercise(("loss", "dz"), {
        "one sample": _bce_cases(([2], [1]), ([2], [0]), ([-3], [1]), ([-3], [0]), ([0], [1]), ([0], [0])),
        "the mean over samples": _bce_cases(([1, -2], [1, 0]), ([0, 0], [1, 0]), ([3, 0, -1], [0, 1, 1])),
        "targets between 0 and 1": _bce_cases(([2], [0.25]), ([0], [0.25]), ([1, -1], [0.5, 0.9])),
        "large logits": _bce_cases(([40], [0]), ([-40], [1]), ([800], [1]), ([800], [0]), ([-800], [1]),
                                      ([-800], [0])),
    }, _bce, _bce_by_hand),
    "adam": Exercise(("w", "m", "v"), {
        "the first step": _adam_cases(([1], [0], [0], [0.5], 1), ([1], [0], [0], [-2], 1)),
        "later steps": _adam_cases(([1], [0.05], [0.00025], [0.5], 2), ([1], [0.1], [0.01], [-0.5], 2),
                                   ([2], [-0.3], [0.04], [1], 10), ([2], [-0.3], [0.04], [1], 1000)),
        "several weights": _adam_cases(([1, 2], [0, 0], [0, 0], [0.5, -2], 1),
                                       ([1, 2], [0.1, -0.2], [0.01, 0.09], [1, 3], 5)),
        "zero and tiny gradients": _adam_cases(([1], [0], [0], [0], 1), ([1], [0], [0], [1e-6], 1)),
    }, _adam, _adam_by_hand),
    "dense-backward": Exercise(("dx", "dw", "db"), {
        "one sample": _dense_cases((1, 2, 2), (1, 3, 2), (1, 1, 2), (1, 2, 1), (1, 1, 1)),
        "several samples": _dense_cases((2, 1, 1), (2, 2, 1), (2, 1, 2), (2, 2, 2), (3, 2, 4), (4, 3, 2)),
    }, _dense_backward, _dense_by_hand),
}
