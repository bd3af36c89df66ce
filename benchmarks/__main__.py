"""Run the benchmarks, each part in a process of its own, and write RESULTS.md with its pictures.

    python -m benchmarks                            everything: about an hour
    python -m benchmarks step inference             these parts; what is known of the others is kept
    python -m benchmarks step --rounds 5 --threads 2
    python -m benchmarks --quick                    does everything run? A few minutes; prints, and writes only to --out
"""

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import cores
from benchmarks.part import load, options
from benchmarks.processes import ROOT
from benchmarks.report import compose

PARTS = ["step", "inference", "recipe", "pipeline", "memory", "compile", "scaling", "kernels"]


def main():
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__.split("\n")[0], parents=[options()])
    parser.add_argument("parts", nargs="*", metavar="part", help=f"out of {', '.join(PARTS)}; all where none is named")
    parser.add_argument("--only", default="", help="the same, separated by commas: --only step,inference")
    parser.add_argument("--threads", type=int, default=cores(), help="the most threads of all contestants (the cores)")
    parser.add_argument("--out", type=Path, help="folder of RESULTS.md, results.json and pictures (benchmarks/)")
    chosen = parser.parse_args()
    names = chosen.parts + [name for name in chosen.only.split(",") if name] or PARTS
    for name in names:
        if name not in PARTS:
            parser.error(f"there is no part {name!r}; there are {', '.join(PARTS)}")
    parts = {name: importlib.import_module(f"benchmarks.{name}") for name in PARTS}
    out = chosen.out or (None if chosen.quick else ROOT / "benchmarks")
    stored, failed = load(out / "results.json") if out else {}, []
    for name in names:
        results = {}
        for threads in thread_counts(parts[name].THREADS, chosen.threads):
            print(f"{name}, {threads} thread{'s' if threads > 1 else ''} ...", file=sys.stderr, flush=True)
            result = run_part(name, threads, passed_on(chosen))
            if result is not None:
                results[threads] = result
        if not results:
            failed.append(name)
            continue
        stored[name] = results
        print(f"\n## {parts[name].TITLE}\n\n{parts[name].report(results)}", flush=True)
        if out:         # after each part: an interruption loses one
            out.mkdir(parents=True, exist_ok=True)
            (out / "results.json").write_text(json.dumps(stored, indent=1), encoding="utf-8")
            (out / "RESULTS.md").write_text(compose(parts, stored, out), encoding="utf-8")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def thread_counts(wish, threads):
    """Return the numbers of threads that a part is run with."""
    return {"all": [threads], "one": [1], "both": sorted({threads, 1}, reverse=True)}[wish]


def passed_on(chosen):
    arguments = ["--quick"] if chosen.quick else []
    for name in ("rounds", "epochs"):
        if getattr(chosen, name) is not None:
            arguments += [f"--{name}", str(getattr(chosen, name))]
    return arguments + (["--without", *chosen.without] if chosen.without else [])


def run_part(name, threads, arguments):
    """Return what a part measured in a process of its own, or None where that failed; its complaints are on stderr."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "result.json"
        command = [sys.executable, "-m", f"benchmarks.{name}", "--threads", str(threads), "--json", str(file)]
        if subprocess.run(command + arguments, cwd=ROOT).returncode:
            return None
        return json.loads(file.read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(main())
