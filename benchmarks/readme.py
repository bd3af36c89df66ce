"""Write the README's tables of speed from the results of each CPU.

    python -m benchmarks.readme             print them
    python -m benchmarks.readme --write     write them between their two markers in README.md
"""

import argparse
import statistics
import sys
from pathlib import Path

from benchmarks import suite
from benchmarks.command import load
from benchmarks.measure import OURS, fastest
from benchmarks.processes import ROOT
from benchmarks.report import newest_machine, number, ratio, table, versions_text, write_readme

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
    machines = map(newest_machine, stored.values())
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
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results", help="has a file for each CPU")
    parser.add_argument("--write", action="store_true", help="write the tables into README.md")
    chosen = parser.parse_args()
    stored = load(chosen.results)
    if not stored:
        print(f"{chosen.results}: nothing is measured yet. Run python -m benchmarks first.", file=sys.stderr)
        return 1
    text = readme_tables(stored)
    write_readme("benchmarks", text) if chosen.write else print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
