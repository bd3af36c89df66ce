"""Write the README's table of speed from results.json.

    python -m benchmarks.readme             print it
    python -m benchmarks.readme --write     write it between its two markers in README.md
"""

import argparse
import sys
from pathlib import Path

from benchmarks.command import load
from benchmarks.measure import COLOUR, OURS, fastest
from benchmarks.processes import ROOT
from benchmarks.report import number, ratio, table, threads_in_words, versions_text, write_readme


def compared(what, rows, unit="ms"):
    """Return the line of one comparison: ours, the fastest peer, and the ratio."""
    ours, peer = next(row for row in rows if row["name"] in (OURS, COLOUR)), fastest(rows)
    if peer is None:
        return [what, f"{number(ours['median'])} {unit}", "", "", ""]
    return [what, f"{number(ours['median'])} {unit}", f"{number(peer['median'])} {unit}", peer["name"], ratio(peer)]


def whole(what, measured, unit):
    """Return the line of whole processes from {name: value}; smaller values are better."""
    peers = {name: value for name, value in measured.items() if name != OURS}
    ours = f"{number(measured[OURS])} {unit}"
    if not peers:
        return [what, ours, "", "", ""]
    name = min(peers, key=peers.get)
    return [what, ours, f"{number(peers[name])} {unit}", name, f"{peers[name] / measured[OURS]:.2f}"]


def lines(stored):
    """Yield the lines of the table; predictions with all threads only (RESULTS.md has the rest)."""
    for threads, result in stored.get("step", {}).items():
        yield compared(f"training step, batch 32, {threads_in_words(threads)}", result["rows"])
        yield compared("the same, images in colour", result["colour"])
    for threads, result in list(stored.get("inference", {}).items())[:1]:
        for n, rows in result["tables"].items():
            yield compared(f"prediction, n = {n}, {threads_in_words(threads)}", rows)
    for result in stored.get("recipe", {}).values():
        values = {name: sorted(p["wall"] for p in processes)[len(processes) // 2]
                  for name, processes in result["measured"].items()}
        yield whole(f"the whole recipe, {result['epochs']} epochs", values, "s")
    for result in stored.get("pipeline", {}).values():
        yield compared("augmenting 32 images, one thread", result["warp"])
    for result in stored.get("memory", {}).values():
        yield whole("memory while training", {name: trained for name, (_, trained) in result["memory"].items()}, "MB")


def readme_table(stored):
    """Return the table and the sentence below it."""
    results = [result for by_threads in stored.values() for result in by_threads.values()]
    machine = max((result["machine"] for result in results), key=lambda m: m["date"])
    versions = versions_text(machine["versions"], {"PyTorch": "torch", "Keras": "keras", "JAX": "jax",
                                                   "ONNX Runtime": "onnxruntime", "OpenCV": "opencv-python-headless"})
    text = table(["COV-19Net", "minicnn", "fastest peer", "which", "times minicnn (quartiles)"], list(lines(stored)))
    text += (f"\nMeasured in turns on {machine['cpu']}, {machine['cores']} cores ({machine['date']}); "
             f"{versions}. All peers and the method: [benchmarks/RESULTS.md](benchmarks/RESULTS.md).\n")
    return text + ("\n**From a quick run: too short to quote.**\n" if any(r["quick"] for r in results) else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results.json")
    parser.add_argument("--write", action="store_true", help="write the table into README.md")
    chosen = parser.parse_args()
    stored = load(chosen.results)
    if not stored:
        print(f"{chosen.results}: nothing is measured yet. Run python -m benchmarks first.", file=sys.stderr)
        return 1
    text = readme_table(stored)
    write_readme("benchmarks", text) if chosen.write else print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
