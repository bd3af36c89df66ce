"""The page of a trace: pick a layer, a filter and a pixel, and see the window, the weights, the products and the sum.

One file that needs nothing else: style and scripts, which lie beside this room, the numbers of the first sample in
base64, and the trace as text for readers without scripts. Its content security policy names style and script by their
SHA-256 and forbids everything else: no request leaves the page, and nothing that a name smuggles in would run. Names are
escaped all the same.
"""

import base64
import hashlib
import html
import json
from pathlib import Path

import numpy as np

from minicnn.core.files import write_whole
from minicnn.errors import InputError, printable

__all__ = ["write_page"]

_MOST_NUMBERS = 4_000_000       # on a page: 21 MB in float32
_MOST_WEIGHTS = 75_000          # of a layer: 16 of the 128 units of COV-19Net's first dense layer

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p>Pick a layer, a filter and a pixel: here is every product that the number is made of, and beside their sum what the
engine computed.</p>
<p class="quiet">{heading}</p>
</header>
<main id="lab" hidden>
<fieldset id="layers"><legend>Layer</legend></fieldset>
<h2 id="name"></h2>
<p id="formula"></p>
<section id="maps" aria-label="Maps">
<figure id="picture-figure"><canvas id="picture" role="img"></canvas>
<figcaption id="picture-caption"></figcaption></figure>
<figure><canvas id="input" role="img"></canvas><figcaption id="input-caption"></figcaption></figure>
<figure><canvas id="output" role="img" tabindex="0" aria-describedby="how"></canvas>
<figcaption id="output-caption"></figcaption></figure>
<div id="pick" role="group" aria-label="Which number"></div>
</section>
<p id="how" class="quiet">Click into the output, or move with the arrow keys once it has the focus.</p>
<section id="sum" aria-live="polite"><h3 id="sum-title"></h3><div id="terms"></div>
<table id="result"><tbody></tbody></table><p id="verdict"></p></section>
<section><h3>The whole layer</h3><table id="facts"><tbody></tbody></table></section>
</main>
<details id="text" open><summary>The trace as text</summary><pre>{text}</pre></details>
<footer>Made by minicnn, a teaching and research tool, <strong>not a medical device</strong>: nothing on this page may
be used to diagnose or treat anybody. The page holds the picture itself; whoever has the file has the picture.</footer>
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
"""


def write_page(path, traced, title):
    """Write the page of a Trace.

    Parameters
    ----------
    path : str or Path; an HTML file
    traced : Trace
    title : str

    Raises
    ------
    InputError : the network's numbers are too many for a page
    CheckpointError : the page could not be written
    """
    style, numbers, script = (Path(__file__).with_name(name).read_text("utf-8")
                              for name in ("trace_page.css", "trace_numbers.js", "trace_page.js"))
    script = numbers + script
    policy = (f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
              "base-uri 'none'; form-action 'none'")
    # In JSON inside of HTML, "<" could end the element: as \\u003c it is the same string.
    data = json.dumps(_data(traced), allow_nan=False).replace("<", "\\u003c")
    text = "\n".join(map(printable, str(traced).split("\n")))
    page = _PAGE.format(policy=html.escape(policy), title=html.escape(printable(title)), style=style, script=script,
                        heading=html.escape(" ".join(traced.heading())), text=html.escape(text), data=data)
    write_whole(path, page.encode("utf-8"))


def _digest(text):
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _data(traced):
    """Return what the script needs, fit for JSON: the numbers of the first sample, and the weights."""
    layers = [_layer(layer) for layer in traced.layers]
    count = traced.x[0].size + sum(entry.pop("numbers") for entry in layers)
    if count > _MOST_NUMBERS:
        raise InputError(f"trace: the page would hold {count:,} numbers; {_MOST_NUMBERS:,} are the most. Trace a "
                         "smaller picture or network, or print the trace instead.")
    return {"dtype": str(traced.dtype), "eps": float(np.finfo(traced.dtype).eps),
            "input": {"shape": traced.x.shape[1:], "packed": _packed(traced.x[0])}, "layers": layers}


def _layer(layer):
    """Return one layer for the script, and under `numbers` how many numbers it takes.

    What is a copy of its input, or of its input above 0, is not carried again: the script makes it, and here it is made
    sure that the engine computed the same.
    """
    y, numbers = layer.y[0], 0
    entry = {"name": printable(layer.name), "type": printable(type(layer.layer).__name__), "kind": layer.kind,
             "shape": y.shape, "facts": [(printable(word), printable(text)) for word, text in layer.facts()],
             "start": layer.start(), "field": None if layer.field is None else layer.field._asdict()}
    made = {"relu": lambda x: np.maximum(x, 0), "flatten": np.ravel, "same": np.asarray}.get(layer.kind)
    if made is None or not np.array_equal(made(layer.x[0]), y):
        entry["packed"], numbers = _packed(y), y.size
    for name in ("strides", "pads", "kernel_size", "pool_size"):
        if layer.kind in ("conv", "max", "average") and hasattr(layer.layer, name):
            entry[name] = getattr(layer.layer, name)
    if layer.kind in ("conv", "dense"):
        (w, _), (b, _) = layer.parameters.values()
        w = w.reshape(-1, w.shape[-1])
        strongest = np.argsort(-y[layer.start()[:-1]], kind="stable")
        carried = np.sort(strongest[:max(1, _MOST_WEIGHTS // len(w))])
        entry |= {"filters": carried.tolist(), "weights": _packed(w[:, carried].T), "bias": _packed(b)}
        numbers += len(w) * len(carried) + b.size
    return entry | {"numbers": numbers}


def _packed(array):
    """Return an array's bytes in base64, little-endian as browsers are."""
    return base64.b64encode(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()).decode("ascii")
