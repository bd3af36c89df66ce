"""The peak memory of a process that trains COV-19Net for 50 steps of 32.

    python -m benchmarks.memory

takes a minute. Each library trains in a process of its own, on the same 32 images.
"""

import sys

from benchmarks.command import main
from benchmarks.measure import OURS
from benchmarks.processes import measure_process
from benchmarks.report import Bar, absences, bar_plot, number, table

TITLE = "Memory"
THREADS = "all"
STEPS = 50
LIBRARIES = [OURS, "PyTorch channels_last", "Keras"]


def run(options):
    memory, absent = {}, {}
    steps = 5 if options.quick else STEPS
    for name in LIBRARIES:
        try:
            memory[name] = [measure_process("-m", "benchmarks.few_steps", name, "--steps", count, "--threads",
                                            options.threads)["memory"] for count in (0, steps)]
        except RuntimeError as error:
            absent[name] = str(error)
    return {"memory": memory, "absent": absent, "steps": steps}


def report(results):
    result = next(iter(results.values()))
    ours = result["memory"][OURS]
    rows = [[name, number(built), number(trained), "1" if name == OURS else f"{trained / ours[1]:.1f}"]
            for name, (built, trained) in result["memory"].items()]
    return ("The largest resident set of a process, megabytes: one that imports the library and builds the network, "
            f"and one that also trains it for {result['steps']} steps of 32.\n\n"
            + table(["", "built", "trained", "times minicnn"], rows) + absences(result["absent"]))


def draw(results, folder):
    memory = next(iter(results.values()))["memory"]
    bars = [Bar(name, trained, number(trained), built) for name, (built, trained) in memory.items()]
    bar_plot(folder / "memory.png", [("", "largest resident set, MB (white mark: before the first step)", bars)], 6)
    return [("memory.png", "Megabytes resident while training, by library")]


if __name__ == "__main__":
    main(sys.modules[__name__])
