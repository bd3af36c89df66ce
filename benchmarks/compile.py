"""The time before the first step: the import, and the compilation of the kernels or loading them from the cache.

    python -m benchmarks.compile

takes a minute. Every value is from a new process; the cold cache is an empty temporary folder, the warm cache the same
folder afterwards.
"""

import os
import sys
import tempfile
import time

import numpy as np

from benchmarks.command import main
from benchmarks.contestant import Contestant, Failed
from benchmarks.measure import OURS
from benchmarks.networks import COLOUR
from benchmarks.processes import measure_process
from benchmarks.report import Bar, absences, bar_plot, number, table

TITLE = "Start: import and compilation"
THREADS = "all"
PEERS = ["PyTorch channels_last", "Keras", "Keras on JAX"]
_TIMED = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"
IMPORTS = {"import minicnn": "import minicnn", "from minicnn import Sequential": "from minicnn import Sequential",
           "import numpy": "import numpy", "import numba": "import numba"}


def run(options):
    rounds = options.rounds or (1 if options.quick else 5)
    imports = {name: [] for name in IMPORTS}
    for _ in range(rounds + 1):         # the first round reads the files from the disk and is dropped below
        for name, code in IMPORTS.items():
            imports[name].append(measure_process("-c", _TIMED.format(code))["output"])
    starts, absent = {}, {}

    def begin(label, name, **environment):
        begun = time.perf_counter()
        with Contestant(name, COLOUR.name, options.threads, **environment) as contestant:
            contestant.answer()
            built = time.perf_counter()
            contestant.values("train", COLOUR.batch)
            first = time.perf_counter()
            last = contestant.ask("times", "train", COLOUR.batch, 0, 19)[-1]
        starts.setdefault(label, []).append([built - begun, first - built, last])

    for _ in range(1 if options.quick else 3):
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o700)
            begin("minicnn, cold cache", OURS, MINICNN_CACHE_DIR=folder)
            begin("minicnn, warm cache", OURS, MINICNN_CACHE_DIR=folder)
        for name in PEERS:
            try:
                begin(name, name)
            except Failed as error:
                absent[name] = str(error)
    return {"imports": {name: float(np.median(times[1:])) for name, times in imports.items()},
            "starts": {name: np.median(times, axis=0).tolist() for name, times in starts.items()}, "absent": absent}


def report(results):
    result = next(iter(results.values()))
    imports = [[f"`{name}`", number(seconds)] for name, seconds in result["imports"].items()]
    starts = [[name, number(build), number(first), number(build + first), number(1e3 * last)]
              for name, (build, first, last) in result["starts"].items()]
    return ("\n".join([
        "Seconds, each in a new process (medians).\n", table(["", "seconds"], imports),
        "From the start of Python to the end of the first training step of COV-19Net, batch 32:\n",
        table(["", "import and build, s", "first step, s", "together, s", "twentieth step, ms"], starts)])
        + absences(result["absent"]))


def draw(results, folder):
    starts = next(iter(results.values()))["starts"]
    bars = [Bar(name, build + first, f"{build + first:.1f}", build) for name, (build, first, _) in starts.items()]
    bar_plot(folder / "start.png", [("", "seconds to the end of step 1 (white mark: import and build)", bars)], 7)
    return [("start.png", "Seconds from the start of Python to the end of its first training step")]


if __name__ == "__main__":
    main(sys.modules[__name__])
