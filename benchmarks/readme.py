"""Write the README's tables of speed, and RESULTS.md, from the results of each CPU.

    python -m benchmarks.readme             print the tables
    python -m benchmarks.readme --write     write them between their two markers in README.md, and RESULTS.md with its plots
"""

import argparse
import statistics

from benchmarks import suite
from benchmarks.command import load, modules
from benchmarks.measure import OURS, fastest
from benchmarks.processes import ROOT
from benchmarks.report import compose, newest_machine, number, ratio, table, versions_text, write_readme

PEERS = {"PyTorch": "torch", "Keras": "keras", "ONNX Runtime": "onnxruntime", "OpenCV": "opencv-python-headless"}


def lines(stored):
    """Yield the lines of the second table: what the suite does not measure."""
    for measured in stored.values():
        cpu = newest_machine(measured)["cpu"]
        for result in measured.get("recipe", {}).values():
            walls = {name: statistics.median(process["wall"] for process in processes)
                     for name, processes in result["measured"].items()}
            ours, peer = walls.pop(OURS), min(walls, key=walls.get, default=None)
            if peer:
                yield [f"the whole recipe, {result['epochs']} epochs", cpu, f"{number(ours)} s", f"{number(walls[peer])} s",
                       peer, f"{walls[peer] / ours:.2f}"]
        for result in measured.get("pipeline", {}).values():
            ours, peer = result["warp"][0], fastest(result["warp"])
            if peer:
                yield ["augmenting 32 images, one thread", cpu, f"{number(ours['median'])} ms",
                       f"{number(peer['median'])} ms", peer["name"], ratio(peer)]


def readme_tables(stored):
    """Return both tables and the sentence below them."""
    machines = [newest_machine(measured) for measured in stored.values() if {"suite", "recipe", "pipeline"} & set(measured)]
    text = suite.summary(stored) + "\n" + table(["COV-19Net", "CPU", "minicnn", "fastest peer", "which", "times minicnn"],
                                                lines(stored))
    text += "\nMeasured in turns on " + "; ".join(
        f"{machine['cpu']}, {machine['cores']} cores ({machine['date']}; {versions_text(machine['versions'], PEERS)})"
        for machine in machines)
    text += ". All peers and the method: [benchmarks/RESULTS.md](benchmarks/RESULTS.md).\n"
    results = [result for measured in stored.values() for by_threads in measured.values() for result in by_threads.values()]
    return text + ("\n**From a quick run: too short to quote.**\n" if any(r["quick"] for r in results) else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="write README.md and RESULTS.md")
    chosen, folder = parser.parse_args(), ROOT / "benchmarks"
    stored = load(folder / "results")
    text = readme_tables(stored)
    if not chosen.write:
        return print(text)
    write_readme("benchmarks", text)
    (folder / "RESULTS.md").write_text(compose(modules(), stored, folder), encoding="utf-8")


if __name__ == "__main__":
    main()
