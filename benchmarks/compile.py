"""What a user waits for before the first step: the import, and the compilation of the kernels, or their cache.

    python -m benchmarks.compile

takes a minute. Every figure is of a fresh process; the cold cache is an empty temporary folder, the warm one is the
same folder afterwards.
"""

import os
import sys
import tempfile

import numpy as np

from benchmarks.measure import OURS
from benchmarks.part import main
from benchmarks.processes import measure_process
from benchmarks.report import COLOURS, absences, canvas, number, save, table

TITLE = "Start: import and compilation"
THREADS = "all"
PEERS = ["PyTorch channels_last", "Keras", "JAX jit"]
_TIMED = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"
IMPORTS = {"import minicnn": "import minicnn", "from minicnn import Sequential": "from minicnn import Sequential",
           "import numpy": "import numpy", "import numba": "import numba"}


def run(options):
    rounds = options.rounds or (1 if options.quick else 5)
    imports = {name: [] for name in IMPORTS}
    for _ in range(rounds + 1):         # the first round, which reads the files from the disk, is left out below
        for name, code in IMPORTS.items():
            imports[name].append(measure_process("-c", _TIMED.format(code))["said"])
    starts, absent = {}, {}

    def start(label, name, **environment):
        child = measure_process("-m", "benchmarks.few_steps", name, "--steps", 20, "--threads", options.threads,
                                **environment)
        said = child["said"]
        starts.setdefault(label, []).append([said["build"], said["first"], said["last"]])

    for _ in range(1 if options.quick else 3):
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o700)
            start("minicnn, cold cache", OURS, MINICNN_CACHE_DIR=folder)
            start("minicnn, warm cache", OURS, MINICNN_CACHE_DIR=folder)
        for name in PEERS:
            try:
                start(name, name)
            except RuntimeError as error:
                absent[name] = str(error)
    return {"imports": {name: float(np.median(times[1:])) for name, times in imports.items()},
            "starts": {name: np.median(times, axis=0).tolist() for name, times in starts.items()}, "absent": absent}


def report(results):
    result = next(iter(results.values()))
    imports = [[f"`{name}`", number(seconds)] for name, seconds in result["imports"].items()]
    starts = [[name, number(build), number(first), number(build + first), number(1e3 * last)]
              for name, (build, first, last) in result["starts"].items()]
    return ("\n".join([
        "Seconds, each in a fresh process (medians).\n", table(["", "seconds"], imports),
        "From the first line of a script to the end of the first training step of COV-19Net, batch 32:\n",
        table(["", "import and build, s", "first step, s", "together, s", "twentieth step, ms"], starts)])
        + absences(result["absent"]))


def draw(results, folder):
    starts = next(iter(results.values()))["starts"]
    figure, axes = canvas(size=(7, 0.9 + 0.36 * len(starts)))
    panel = axes[0, 0]
    for i, (name, (build, first, _)) in enumerate(reversed(starts.items())):
        ours = name.startswith(OURS)
        panel.barh(i, build, height=0.6, color=COLOURS["faint"])
        panel.barh(i, first, left=build, height=0.6, color=COLOURS[OURS if ours else "peer"])
        panel.text(build + first, i, f"  {build + first:.1f}", va="center")
    panel.set_yticks(range(len(starts)), list(reversed(starts)))
    panel.tick_params(axis="y", length=0)
    panel.set(xlabel="seconds to the end of the first step (pale: import and build)",
              xlim=(0, 1.1 * max(build + first for build, first, _ in starts.values())))
    panel.spines["left"].set_visible(False)
    save(figure, folder, "start.png")
    return [("start.png", "Seconds from the start of a script to the end of its first training step")]


if __name__ == "__main__":
    main(sys.modules[__name__])
