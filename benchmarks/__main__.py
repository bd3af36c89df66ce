"""Run the benchmarks, each in a process of its own, and write RESULTS.md with its plots.

    python -m benchmarks                            everything: about an hour and a half
    python -m benchmarks suite recipe               only these; the stored results of the others stay
    python -m benchmarks suite --rounds 5 --threads 2
    python -m benchmarks --quick                    does everything run? Prints, and writes only to --out
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.command import BENCHMARKS, load, modules, options, passed_on
from benchmarks.measure import cores, machine, slug
from benchmarks.processes import ROOT
from benchmarks.report import compose


def main():
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__.split("\n")[0], parents=[options()])
    parser.add_argument("names", nargs="*", metavar="name", help=f"out of {', '.join(BENCHMARKS)}; all without a name")
    parser.add_argument("--threads", type=int, default=cores(), help="the largest number of threads (the cores)")
    parser.add_argument("--out", type=Path, help="folder of RESULTS.md and results/, a file for each CPU (benchmarks/)")
    chosen = parser.parse_args()
    names = chosen.names or BENCHMARKS
    for name in names:
        if name not in BENCHMARKS:
            parser.error(f"there is no benchmark {name!r}; choose from {', '.join(BENCHMARKS)}")
    benchmarks, out = modules(), chosen.out or (None if chosen.quick else ROOT / "benchmarks")
    stored, cpu, failed = load(out / "results") if out else {}, slug(machine()["cpu"]), []
    for name in names:
        results = {}
        for threads in thread_counts(benchmarks[name].THREADS, chosen.threads):
            print(f"{name}, {threads} thread{'s' if threads > 1 else ''} ...", file=sys.stderr, flush=True)
            result = run_benchmark(name, threads, passed_on(chosen))
            if result is not None:
                results[threads] = result
        if not results:
            failed.append(name)
            continue
        stored.setdefault(cpu, {})[name] = results
        print(f"\n## {benchmarks[name].TITLE}\n\n{benchmarks[name].report(results)}", flush=True)
        if out:         # after each: an interruption loses one
            (out / "results").mkdir(parents=True, exist_ok=True)
            (out / "results" / f"{cpu}.json").write_text(json.dumps(stored[cpu], indent=1), encoding="utf-8")
            (out / "RESULTS.md").write_text(compose(benchmarks, stored, out), encoding="utf-8")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def thread_counts(wish, threads):
    """Return the numbers of threads that a benchmark is run with."""
    return {"all": [threads], "one": [1], "both": sorted({threads, 1}, reverse=True)}[wish]


def run_benchmark(name, threads, arguments):
    """Return what a benchmark measured in a process of its own, or None if it failed; its errors are on stderr."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "result.json"
        command = [sys.executable, "-m", f"benchmarks.{name}", "--threads", str(threads), "--json", str(file)]
        if subprocess.run(command + arguments, cwd=ROOT).returncode:
            return None
        return json.loads(file.read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(main())
