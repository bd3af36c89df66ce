"""The page of a trace: the window, the weights, the products and the sum of a selected number; of a graph, what takes what.

It is one self-contained file: the template, style and scripts next to this module, the numbers of the first sample in
base64, and the trace as text for browsers without scripts. Its content security policy allows only this style and this
script, by their SHA-256: the page sends no request, and code in a name cannot run. Names are escaped as well.
"""

import base64
import hashlib
import html
import json
from pathlib import Path

import numpy as np

from minicnn import reference
from minicnn.core.files import write_atomic
from minicnn.errors import InputError, printable
from minicnn.layers import (ELU, Add, BatchNormalization, Concatenate, Conv2D, GlobalAveragePooling2D, GlobalMaxPooling2D,
                            LayerNormalization, LeakyReLU, Multiply, ReLU, Rescaling, Reshape, Softplus, Swish, UpSampling2D,
                            ZeroPadding2D)
from minicnn.layers.base import LAYERS
from minicnn.layers.depthwise_convolution import DepthwiseConv2D, SeparableConv2D

__all__ = ["write_page"]

# {layer: what the script calls its arithmetic, and the numbers that it needs}, for those that formulas.kind_of does not
# tell apart. A depthwise convolution is one with a group for each channel.
_FURTHER = {
    Conv2D: ("conv", lambda layer: {"groups": layer.groups, "dilation_rate": layer.dilation_rate}),
    DepthwiseConv2D: ("conv", lambda layer: {"groups": layer.input_shape[2], "dilation_rate": layer.dilation_rate}),
    SeparableConv2D: ("separable", lambda layer: {"dilation_rate": layer.dilation_rate}),
    Reshape: ("flatten", lambda layer: {}), ReLU: ("clipped", lambda layer: {"constants": [layer.max_value]}),
    LeakyReLU: ("leaky_relu", lambda layer: {"constants": [layer.negative_slope]}),
    ELU: ("elu", lambda layer: {"constants": [layer.alpha]}),
    Rescaling: ("rescaling", lambda layer: {"constants": [layer.scale, layer.offset]}),
    ZeroPadding2D: ("zero_padding", lambda layer: {"constants": [pair[0] for pair in layer.padding]}),
    UpSampling2D: ("up_sampling", lambda layer: {"constants": layer.size}),
    BatchNormalization: ("batch_norm", lambda layer: {"constants": [layer.epsilon]}),
    LayerNormalization: ("layer_norm", lambda layer: {"constants": [layer.epsilon]}),
} | {kind: (name, lambda layer: {}) for kind, name in (
    (Swish, "swish"), (Softplus, "softplus"), (GlobalAveragePooling2D, "global_average"), (GlobalMaxPooling2D, "global_max"),
    (Add, "add"), (Multiply, "multiply"), (Concatenate, "concatenate"))}

_MAX_NUMBERS = 4_000_000        # of a page: 21 MB in float32
_MAX_WEIGHTS = 75_000           # of a layer: 16 of the 128 units of COV-19Net's first dense layer


def write_page(path, traced, title):
    """Write the page of a Trace.

    Parameters
    ----------
    path : str or Path; an HTML file
    traced : Trace
    title : str

    Raises
    ------
    InputError : the network has too many numbers for a page
    CheckpointError : the page cannot be written
    """
    template, style, numbers, script = (
        Path(__file__).with_name(name).read_text("utf-8")
        for name in ("trace_page.html", "trace_page.css", "trace_numbers.js", "trace_page.js"))
    script = numbers + script
    policy = (f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
              "base-uri 'none'; form-action 'none'")
    # In JSON inside HTML, "<" could end the element; \u003c is the same character.
    data = json.dumps(_data(traced), allow_nan=False).replace("<", "\\u003c")
    text = "\n".join(map(printable, str(traced).split("\n")))
    page = template.format(policy=html.escape(policy), title=html.escape(printable(title)), style=style, script=script,
                           heading=html.escape(" ".join(traced.heading())), text=html.escape(text), data=data)
    write_atomic(path, page.encode("utf-8"), private=False)


def _digest(text):
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _data(traced):
    """Return the data of the script, for JSON: the numbers of the first sample, and the weights."""
    layers = [_layer(layer) | _gradient(layer, _takers(traced, layer.number)) for layer in traced.layers]
    count = traced.x[0].size + sum(entry.pop("numbers") + entry.pop("gradients") for entry in layers)
    if count > _MAX_NUMBERS:
        raise InputError(f"trace: a page may hold {_MAX_NUMBERS:,} numbers, this one needs {count:,}. Trace a smaller "
                         "image or network, or print the trace instead.")
    return {"dtype": str(traced.dtype), "eps": float(np.finfo(traced.dtype).eps),
            "input": {"shape": traced.x.shape[1:], "packed": _packed(traced.x[0])}, "layers": layers,
            "loss": _loss(traced), "classes": [printable(name) for name in traced.classes or ()]}


def _loss(traced):
    """Return where the gradients begin: the layer, and the loss with its target, or the largest logit without one."""
    top = [layer for layer in traced.layers if not layer.folded][-1]
    if traced.target is None:
        return {"top": top.number - 1, "of": "the largest " + ("logit" if traced.layers[-1].folded else "output")}
    terms = len(traced.x) * (1 if traced.operation == "categorical_crossentropy" else top.y[0].size)
    return {"top": top.number - 1, "of": "the loss", "operation": traced.operation, "terms": terms,
            "target": traced.target[0].ravel().tolist()}


def _layer(layer):
    """Return the data of one layer for the script; `numbers` counts its numbers.

    Outputs that are a copy of the input, or its ReLU, are not included if the engine computed the same: the script
    computes them.
    """
    y, numbers, kind = layer.y[0], 0, _kind(layer)
    entry = {"name": printable(layer.name), "type": printable(type(layer.layer).__name__), "shape": y.shape,
             "kind": kind, "custom": type(layer.layer) not in LAYERS.values(),
             "facts": [(printable(word), printable(text)) for word, text in layer.facts()],
             "start": layer.start(), "field": None if layer.field is None else layer.field._asdict()}
    if layer.sources != (layer.number - 1,):
        entry["sources"] = layer.sources
    computed = {"relu": lambda x: np.maximum(x, 0), "flatten": lambda x: x.reshape(y.shape), "same": np.asarray}.get(kind)
    if computed is None or not np.array_equal(computed(layer.x[0]), y):
        entry["packed"], numbers = _packed(y), y.size
    for name in ("strides", "pads", "kernel_size", "pool_size"):
        if kind in ("conv", "separable", "max", "average") and hasattr(layer.layer, name):
            entry[name] = getattr(layer.layer, name)
    if layer.kind in ("further", None) and kind:
        entry |= _FURTHER[type(layer.layer)][1](layer.layer)
    if kind in ("conv", "separable", "dense"):
        w, included = _kernel(layer), _included(layer)
        w = w.reshape(-1, w.shape[-1])
        entry |= {"filters": included.tolist(), "weights": _packed(w[:, included].T)}
        numbers += len(w) * len(included)
        if layer.layer.use_bias:
            entry["bias"] = _packed(layer.layer.bias[0])
            numbers += w.shape[1]
    if kind == "separable":
        entry["depthwise"] = _packed(layer.layer.parameters[0].value)
        numbers += layer.layer.parameters[0].value.size
    if kind in ("batch_norm", "layer_norm"):
        arrays = [*layer.layer.gamma_and_beta(), *(statistic.value for statistic in layer.layer.statistics)]
        entry |= dict(zip(("gamma", "beta", "mean", "variance"), map(_packed, arrays)))
        numbers += sum(array.size for array in arrays)
    return entry | {"numbers": numbers}


def _kind(layer):
    """Return what the script calls the arithmetic of a layer; None where it does not know it."""
    return _FURTHER.get(type(layer.layer), (None,))[0] if layer.kind in ("further", None) else layer.kind


def _kernel(layer):
    """Return the weights of a dense layer, (D, F), or a convolution, (KH, KW, C / groups, F); the last of a separable one."""
    (w, _), *others = layer.parameters.values()
    if isinstance(layer.layer, SeparableConv2D):
        return others[0][0]
    return w.reshape(*w.shape[:2], 1, -1) if isinstance(layer.layer, DepthwiseConv2D) else w


def _takers(traced, number):
    """Return [(layer, which of its inputs)] that take a value, in the order in which the network adds their gradients."""
    return [(layer, k) for layer in reversed(traced.layers) for k, source in enumerate(layer.sources) if source == number]


def _gradient(layer, takers):
    """Return the gradient of a layer's output for the script, which computes one that its only taker passes through.

    `rest` is, for each taker with weights that are not in the page, what their units or filters add, and the sum of the
    sizes. `sent` is what each taker sends back that the script does not know, where the gradient is a sum.
    """
    if layer.dy is None:
        return {"gradient": None, "gradients": 0}
    takers = [(taker, k) for taker, k in takers if taker.dy is not None]
    dx = _passed_back(takers[0][0]) if len(takers) == 1 else None
    if dx is not None and np.array_equal(dx.ravel(), layer.dy[0].ravel()):
        return {"gradient": "computed", "gradients": 0}
    rest = [array for taker, _ in takers for array in _rest(taker)]
    sent = [taker.sent[k] for taker, k in takers if _kind(taker) is None and len(takers) > 1]
    entry = {"gradient": _packed(layer.dy[0]), "gradients": (1 + len(rest) + len(sent)) * layer.dy[0].size}
    for name, arrays in (("rest", rest), ("sent", sent)):
        if arrays:
            entry[name] = [_packed(array.astype(layer.dy.dtype)) for array in arrays]
    return entry


def _rest(taker):
    """Return what the units or filters of a layer send back whose weights are not in the page, and its size; or nothing."""
    kind, layer = _kind(taker), taker.layer
    if kind not in ("conv", "separable", "dense"):
        return []
    w, dy, included = _kernel(taker).astype(np.float64), taker.dy[:1].astype(np.float64), _included(taker)
    if len(included) == w.shape[-1]:
        return []
    dy[..., included] = 0
    if kind == "dense":
        return [reference.dense_input_gradient(*arrays) for arrays in ((dy, w), (abs(dy), abs(w)))]
    window = taker.x.shape[1:3], layer.strides, layer.pads, layer.dilation_rate
    if kind == "conv":
        groups = taker.x.shape[3] // w.shape[2]
        return [reference.grouped_conv2d_input_gradient(*arrays, *window, groups)
                for arrays in ((dy, w), (abs(dy), abs(w)))]
    depthwise = layer.parameters[0].value.astype(np.float64)
    return [reference.depthwise_conv2d_input_gradient(dy @ w[0, 0].T, depthwise, *window)
            for dy, w, depthwise in ((dy, w, depthwise), (abs(dy), abs(w), abs(depthwise)))]


def _passed_back(after):
    """Return the gradient of the first sample that a layer without arithmetic passes back, or None."""
    kind = _kind(after)
    if kind == "relu":
        return np.where(after.y[0] > 0, after.dy[0], 0)
    if kind in ("flatten", "same", "add"):
        return after.dy[0]
    if kind == "max" and all(np.less_equal(after.layer.pool_size, after.layer.strides)):
        pool, size = after.layer, after.x.shape[1:3]
        _, switches = reference.max_pool2d(after.x[:1], pool.pool_size, pool.strides, pool.pads)
        return reference.max_pool2d_gradient(after.dy[:1], switches, size, pool.pool_size, pool.strides, pool.pads)[0]
    return None


def _included(layer):
    """Return the filters or units of a layer whose weights are in the page: those with the largest outputs."""
    w = _kernel(layer)
    largest = np.argsort(-layer.y[0][layer.start()[:-1]], kind="stable")
    return np.sort(largest[:max(1, _MAX_WEIGHTS // (w.size // w.shape[-1]))])


def _packed(array):
    """Return the bytes of an array in base64, little-endian as in browsers."""
    return base64.b64encode(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()).decode("ascii")
