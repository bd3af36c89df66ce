"""The most memory that a process holds which trains COV-19Net for 50 steps of 32.

    python -m benchmarks.memory

takes a minute. Each library trains in a process of its own, on the same 32 images.
"""

import sys

from benchmarks.measure import OURS
from benchmarks.part import main
from benchmarks.processes import measure_process
from benchmarks.report import COLOURS, absences, canvas, number, save, table

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
    figure, axes = canvas(size=(6, 0.9 + 0.4 * len(memory)))
    panel = axes[0, 0]
    for i, (name, (built, trained)) in enumerate(reversed(memory.items())):
        panel.barh(i, trained, height=0.6, color=COLOURS[OURS if name == OURS else "peer"])
        panel.plot([built] * 2, [i - 0.3, i + 0.3], color="white", linewidth=1.5)
        panel.text(trained + 10, i, number(trained), va="center")
    panel.set_yticks(range(len(memory)), list(reversed(memory)))
    panel.tick_params(axis="y", length=0)
    panel.set(xlabel="largest resident set, MB (white tick: before the first step)",
              xlim=(0, 1.15 * max(trained for _, trained in memory.values())))
    panel.spines["left"].set_visible(False)
    save(figure, folder, "memory.png")
    return [("memory.png", "Megabytes resident while training, by library")]


if __name__ == "__main__":
    main(sys.modules[__name__])
