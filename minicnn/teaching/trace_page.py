"""The page of a trace: the window, the weights, the products and the sum of a selected number.

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

from minicnn.core.files import write_atomic
from minicnn.errors import InputError, printable

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
    write_atomic(path, page.encode("utf-8"))


def _digest(text):
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _data(traced):
    """Return the data of the script, for JSON: the numbers of the first sample, and the weights."""
    layers = [_layer(layer) for layer in traced.layers]
    count = traced.x[0].size + sum(entry.pop("numbers") for entry in layers)
    if count > _MAX_NUMBERS:
        raise InputError(f"trace: a page may hold {_MAX_NUMBERS:,} numbers, this one needs {count:,}. Trace a smaller "
                         "image or network, or print the trace instead.")
    return {"dtype": str(traced.dtype), "eps": float(np.finfo(traced.dtype).eps),
            "input": {"shape": traced.x.shape[1:], "packed": _packed(traced.x[0])}, "layers": layers}


def _layer(layer):
    """Return the data of one layer for the script; `numbers` counts its numbers.

    Outputs that are a copy of the input, or its ReLU, are not included if the engine computed the same: the script
    computes them.
    """
    y, numbers = layer.y[0], 0
    entry = {"name": printable(layer.name), "type": printable(type(layer.layer).__name__), "kind": layer.kind,
             "shape": y.shape, "facts": [(printable(word), printable(text)) for word, text in layer.facts()],
             "start": layer.start(), "field": None if layer.field is None else layer.field._asdict()}
    computed = {"relu": lambda x: np.maximum(x, 0), "flatten": np.ravel, "same": np.asarray}.get(layer.kind)
    if computed is None or not np.array_equal(computed(layer.x[0]), y):
        entry["packed"], numbers = _packed(y), y.size
    for name in ("strides", "pads", "kernel_size", "pool_size"):
        if layer.kind in ("conv", "max", "average") and hasattr(layer.layer, name):
            entry[name] = getattr(layer.layer, name)
    if layer.kind in ("conv", "dense"):
        (w, _), (b, _) = layer.parameters.values()
        w = w.reshape(-1, w.shape[-1])
        largest = np.argsort(-y[layer.start()[:-1]], kind="stable")
        included = np.sort(largest[:max(1, _MAX_WEIGHTS // len(w))])
        entry |= {"filters": included.tolist(), "weights": _packed(w[:, included].T), "bias": _packed(b)}
        numbers += len(w) * len(included) + b.size
    return entry | {"numbers": numbers}


def _packed(array):
    """Return the bytes of an array in base64, little-endian as in browsers."""
    return base64.b64encode(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()).decode("ascii")
