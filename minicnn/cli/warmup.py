"""What `minicnn warmup` does: it compiles ahead what COV-19Net needs, by doing once what COV-19Net is for.

There is no list of kernels: made-up pixels go in at each public door, and what they meet on their way is compiled, and
kept for later processes where there is a folder to keep it in (kernels/runtime/jit.py).
"""

import time

import numpy as np

from minicnn.core.progress import Progress
from minicnn.data import ArrayDataset, Augmentation, Manifest
from minicnn.errors import printable
from minicnn.kernels.runtime import jit
from minicnn.networks import cov19net
from minicnn.optimizers import Adam

__all__ = ["warm_up", "report"]


def warm_up(dtype="float32", progress=True):
    """Train COV-19Net for a step and ask it, with two and with three classes, on pixels of each kind it takes.

    Parameters
    ----------
    dtype : "float32" or "float64", of the network
    progress : bool, report on stderr

    Returns
    -------
    dict fit for JSON: dtype, seconds, folder (None where none can be trusted), kernels and bytes (in the folder)
    """
    began = time.perf_counter()
    parts = _parts(dtype)
    with Progress(len(parts), "compiling", "part", progress) as bar:
        for name, work in parts.items():
            bar.say(f"compiling: {name}")
            work()
            bar.advance()
    return {"dtype": dtype, "seconds": round(time.perf_counter() - began, 1)} | jit.contents(jit.FOLDER)


def report(facts):
    """Return the facts as a line for a terminal."""
    if facts["folder"] is None:
        return f"Ready in {facts['seconds']:.1f} s, but nothing is kept: the warning says why."
    return (f"Ready in {facts['seconds']:.1f} s: {facts['kernels']} kernels, {facts['bytes'] / 2**20:.1f} MiB, in "
            f"{printable(facts['folder'])}")


def _parts(dtype):
    """Return {what it is: a function that does it}."""
    n = 33                                              # one batch of 32 and one of 1
    pixels = (np.arange(n * 64 * 64 * 3) % 251).astype(np.uint8).reshape(n, 64, 64, 3)
    floats, labels = np.divide(pixels, 255, dtype=dtype), np.arange(n) % 2
    two, three = cov19net(dtype=dtype, engine="fast"), cov19net(classes=3, dtype=dtype, engine="fast")
    two.compile(Adam(), "binary_crossentropy")
    three.compile(Adam(), "categorical_crossentropy")
    radiographs = Manifest.from_arrays(pixels[..., 0], labels, ("normal", "covid")).augment(Augmentation.honest())
    augmented = ArrayDataset(floats, augmentation=Augmentation.honest())
    return {"a step of training": lambda: two.train_on_batch(pixels, labels),
            "prediction": lambda: (two.predict(pixels), two.predict(floats)),
            "training on augmented radiographs": lambda: two.fit(radiographs, validation=radiographs, progress=False),
            "training on augmented floats": lambda: two.fit(augmented, labels, progress=False),
            "three classes": lambda: (three.train_on_batch(floats, np.arange(n) % 3), three.predict(floats))}
