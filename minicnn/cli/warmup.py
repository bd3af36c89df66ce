"""`minicnn warmup`: compile the kernels that COV-19Net needs ahead of time, by running once what it is used for.

There is no list of kernels: made-up pixels go through training and prediction, and the kernels that they reach are
compiled, and kept for later processes if there is a folder to keep them in (kernels/runtime/jit.py).
"""

import time

from minicnn.cli.options import add_shared, show
from minicnn.errors import printable

__all__ = ["HELP", "EXAMPLES", "add_options", "run", "warm_up", "report"]

HELP = "compile ahead what training and prediction need"
EXAMPLES = """examples:
  minicnn warmup                    for COV-19Net in float32; later commands then start at once
  minicnn warmup --dtype float64    for networks of that dtype"""


def add_options(parser):
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32", help="default: %(default)s")
    add_shared(parser, "--quiet", "--json")


def run(options):
    """Compile, and print how many kernels there are and where."""
    show(options, warm_up(options.dtype, not options.quiet), report)


def warm_up(dtype="float32", progress=True):
    """Train COV-19Net for a step and predict with it, with two and with three classes, on each kind of input it takes.

    Parameters
    ----------
    dtype : "float32" or "float64", of the network
    progress : bool, report on stderr

    Returns
    -------
    dict fit for JSON: dtype, seconds, folder (None where none can be trusted), kernels and bytes (in the folder)
    """
    from minicnn.core.progress import Progress
    from minicnn.kernels.runtime import jit

    began = time.perf_counter()
    tasks = _tasks(dtype)
    with Progress(len(tasks), "compiling", "part", progress) as bar:
        for name, work in tasks.items():
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


def _tasks(dtype):
    """Return {what is compiled: a function that runs it}."""
    import numpy as np

    from minicnn.data import ArrayDataset, Augmentation, Manifest
    from minicnn.networks import cov19net
    from minicnn.optimizers import Adam

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
