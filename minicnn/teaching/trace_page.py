"""The page of a trace: the window, the weights, the products and the sum of a selected number.

It is one self-contained file: the template, style and scripts next to this module, the numbers of the first sample in
base64, and the trace as text for browsers without scripts. Its content security policy allows only this style and this
script, by their SHA-256: the page sends no request, and code in a name cannot run. Names are escaped as well.
"""

import base64
import hashlib
import html
import json
from functools import partial
from pathlib import Path

import numpy as np

from minicnn import reference
from minicnn.core.files import write_atomic
from minicnn.errors import InputError, printable
from minicnn.layers.base import LAYERS

__all__ = ["write_page"]

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
    after = [*traced.layers[1:], None]
    layers = [_layer(layer) | _gradient(layer, following) for layer, following in zip(traced.layers, after)]
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
    y, numbers = layer.y[0], 0
    entry = {"name": printable(layer.name), "type": printable(type(layer.layer).__name__), "shape": y.shape,
             "kind": None if layer.kind == "further" else layer.kind, "custom": type(layer.layer) not in LAYERS.values(),
             "facts": [(printable(word), printable(text)) for word, text in layer.facts()],
             "start": layer.start(), "field": None if layer.field is None else layer.field._asdict()}
    computed = {"relu": lambda x: np.maximum(x, 0), "flatten": np.ravel, "same": np.asarray}.get(layer.kind)
    if computed is None or not np.array_equal(computed(layer.x[0]), y):
        entry["packed"], numbers = _packed(y), y.size
    for name in ("strides", "pads", "kernel_size", "pool_size"):
        if layer.kind in ("conv", "max", "average") and hasattr(layer.layer, name):
            entry[name] = getattr(layer.layer, name)
    if layer.kind in ("conv", "dense"):
        w, b = next(iter(layer.parameters.values()))[0], layer.layer.bias[0]
        w = w.reshape(-1, w.shape[-1])
        included = _included(layer)
        entry |= {"filters": included.tolist(), "weights": _packed(w[:, included].T), "bias": _packed(b)}
        numbers += len(w) * len(included) + b.size
    return entry | {"numbers": numbers}


def _gradient(layer, after):
    """Return the gradient of a layer's output for the script, which computes one that only passes through `after`.

    `rest` is what the units or filters of `after` add whose weights are not in the page, and the sum of the sizes.
    """
    if layer.dy is None:
        return {"gradient": None, "gradients": 0}
    dx = _passed_back(after) if after is not None and after.dy is not None else None
    if dx is not None and np.array_equal(dx.ravel(), layer.dy[0].ravel()):
        return {"gradient": "computed", "gradients": 0}
    entry = {"gradient": _packed(layer.dy[0]), "gradients": layer.dy[0].size}
    if after is not None and after.kind in ("conv", "dense") and after.dy is not None:
        (w, _), *_ = after.parameters.values()
        others = np.setdiff1d(np.arange(w.shape[-1]), _included(after))
        if len(others):
            dy, w = after.dy[:1, ..., others].astype(np.float64), w[..., others].astype(np.float64)
            back = reference.dense_input_gradient if after.kind == "dense" else partial(
                reference.conv2d_input_gradient, image_size=after.x.shape[1:3], strides=after.layer.strides,
                pads=after.layer.pads)
            entry["rest"] = [_packed(one.astype(layer.dy.dtype)) for one in (back(dy, w), back(abs(dy), abs(w)))]
            entry["gradients"] += 2 * layer.dy[0].size
    return entry


def _passed_back(after):
    """Return the gradient of the first sample that a layer without arithmetic passes back, or None."""
    if after.kind == "relu":
        return np.where(after.y[0] > 0, after.dy[0], 0)
    if after.kind in ("flatten", "same"):
        return after.dy[0]
    if after.kind == "max" and all(np.less_equal(after.layer.pool_size, after.layer.strides)):
        pool, size = after.layer, after.x.shape[1:3]
        _, switches = reference.max_pool2d(after.x[:1], pool.pool_size, pool.strides, pool.pads)
        return reference.max_pool2d_gradient(after.dy[:1], switches, size, pool.pool_size, pool.strides, pool.pads)[0]
    return None


def _included(layer):
    """Return the filters or units of a layer whose weights are in the page: those with the largest outputs."""
    (w, _), *_ = layer.parameters.values()
    largest = np.argsort(-layer.y[0][layer.start()[:-1]], kind="stable")
    return np.sort(largest[:max(1, _MAX_WEIGHTS // (w.size // w.shape[-1]))])


def _packed(array):
    """Return the bytes of an array in base64, little-endian as in browsers."""
    return base64.b64encode(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()).decode("ascii")
