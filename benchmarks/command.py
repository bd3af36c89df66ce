"""The command line that all benchmarks share.

A benchmark is a module with

    TITLE               the heading of its chapter in RESULTS.md
    THREADS             "all": run with the threads asked for; "one": with one; "both": with all, then with one
    run(options)        measure; return what JSON can hold
    report(results)     that, as Markdown; results are {number of threads: what `run` returned}, most threads first
    draw(results, folder)   optional: save plots there; return [(file name, what it shows)]
    summary(stored)         optional: all CPUs side by side, as Markdown; stored is what `load` returns
    arguments(parser)       optional: add options of this benchmark alone

    python -m benchmarks.step --threads 1 --rounds 5
"""

import argparse
import importlib
import json
from pathlib import Path

from benchmarks.measure import Disturbance, cores, machine, settle

__all__ = ["BENCHMARKS", "modules", "options", "passed_on", "main", "load"]

BENCHMARKS = ["suite", "published", "recipe", "pipeline", "compile", "scaling", "kernels", "shapes", "distributed"]


def modules():
    """Return {name: module} of all benchmarks."""
    return {name: importlib.import_module(f"benchmarks.{name}") for name in BENCHMARKS}


def options():
    """Return the parser of the options that every benchmark has."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--rounds", type=int, help="rounds of each comparison")
    parser.add_argument("--epochs", type=int, help="epochs of the recipe (20)")
    parser.add_argument("--without", nargs="+", default=[], metavar="PEER", help="peers to leave out, by name")
    parser.add_argument("--quick", action="store_true", help="few rounds and small sizes: does it run at all?")
    return parser


def passed_on(chosen):
    """Return the arguments that hand these options to a process."""
    arguments = ["--quick"] * chosen.quick
    for name in ("rounds", "epochs"):
        if getattr(chosen, name) is not None:
            arguments += [f"--{name}", str(getattr(chosen, name))]
    return arguments + (["--without", *chosen.without] if chosen.without else [])


def main(benchmark):
    """Run one benchmark in this process; print its chapter, or write its results to --json."""
    parser = argparse.ArgumentParser(description=benchmark.__doc__.split("\n")[0], parents=[options()])
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--json", type=Path, help="write the results there instead of printing them")
    if hasattr(benchmark, "arguments"):
        benchmark.arguments(parser)
    chosen = parser.parse_args()
    settle(chosen.threads)
    disturbance = Disturbance()
    result = benchmark.run(chosen) | {"machine": machine(), "quick": chosen.quick, "disturbance": disturbance.share()}
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=1), encoding="utf-8")
    else:
        print(benchmark.report({chosen.threads: result}))


def load(folder):
    """Return {file name of a CPU: {benchmark: {threads: result}}} of the files in a folder."""
    stored = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(Path(folder).glob("*.json"))}
    return {cpu: {name: dict(sorted(((int(threads), result) for threads, result in results.items()), reverse=True))
                  for name, results in measured.items()} for cpu, measured in stored.items()}
