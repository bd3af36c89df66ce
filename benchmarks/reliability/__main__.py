"""Measure the promises of minicnn, and the same accidents for minicnn and its peers.

    python -m benchmarks.reliability                    everything: RELIABILITY.md and reliability.json
    python -m benchmarks.reliability C3 full-disk       only these; the stored results of the others stay
    python -m benchmarks.reliability --quick            fewer accidents; prints, and writes only to --out
    python -m benchmarks.reliability --write            measures nothing: writes the stored table into README.md

Each promise and each library is measured in a process of its own: a crash is one line of the table.
"""

import argparse
import contextlib
import importlib.metadata
import json
import os
import re
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import Disturbance, machine
from benchmarks.processes import ROOT, measure_process
from benchmarks.reliability.peers import missing
from benchmarks.reliability.promises import PROMISES
from benchmarks.reliability.tables import ACCIDENTS, accident_table, compose, kept_in_words, read, readme_table
from benchmarks.report import write_readme


def main():
    parser = argparse.ArgumentParser("python -m benchmarks.reliability", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="name", help="promises (B1) and accidents (kill) to measure; "
                        "default: all of " + ", ".join([*PROMISES, *ACCIDENTS]))
    parser.add_argument("--quick", action="store_true", help="fewer accidents: a few minutes")
    parser.add_argument("--out", type=Path, help="folder of RELIABILITY.md and reliability.json (benchmarks/)")
    parser.add_argument("--write", action="store_true", help="measure nothing: write the stored table into README.md")
    chosen = parser.parse_args()
    for name in chosen.names:
        if name not in PROMISES and name not in ACCIDENTS:
            parser.error(f"there is no {name!r}; choose from {', '.join([*PROMISES, *ACCIDENTS])}")
    if chosen.write:
        return write(read(chosen.out or ROOT / "benchmarks"))
    out = chosen.out or (None if chosen.quick else ROOT / "benchmarks")
    stored = read(out) if out else read(Path("nowhere"))
    with tempfile.TemporaryDirectory() as cache:        # kernels are compiled once for all measurements
        os.environ["MINICNN_CACHE_DIR"] = os.environ.get("MINICNN_CACHE_DIR") or cache
        measure_process("-c", "from minicnn.cli.main import main\nprint(main(['warmup']))")
        measure(chosen.names or [*PROMISES, *ACCIDENTS], chosen.quick, out, stored)
    print(f"\n{kept_in_words(stored)}.")
    return int(not all(found["kept"] for found in stored["promises"].values()))


def write(stored):
    """Write the table of the stored results into README.md; return the exit code."""
    if not stored["accidents"]:
        print("nothing is measured yet. Run python -m benchmarks.reliability first.", file=sys.stderr)
        return 1
    write_readme("reliability", readme_table(stored))
    return 0


def measure(names, quick, out, stored):
    """Measure promises and accidents into `stored`, print each, and write all to the folder `out`, if any."""
    disturbance, before = Disturbance(), stored["disturbance"] if len(names) < len(PROMISES) else None
    for name in names:
        if name in PROMISES:
            found = stored["promises"][name] = measure_promise(name, quick)
            print(f"{name:4}{'kept' if found['kept'] else 'NOT KEPT':10}{PROMISES[name].says}: {found['measured']} "
                  f"({found['seconds']:.0f} s)", flush=True)
        else:
            found = stored["accidents"][name] = measure_accident(name, quick)
            print(f"\n{ACCIDENTS[name].what}\n{accident_table(name, found['found'])}", flush=True)
        stored |= {"machine": surroundings(), "disturbance": max(disturbance.share() or 0, before or 0)}
        if out:         # after each: an interruption loses one
            out.mkdir(parents=True, exist_ok=True)
            (out / "reliability.json").write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
            (out / "RELIABILITY.md").write_text(compose(stored), encoding="utf-8")


def measure_promise(number, quick):
    """Return {"kept", "measured", "figures", "seconds", "quick"}; a promise that cannot be measured is not kept."""
    print(f"{number}: {PROMISES[number].says} ...", file=sys.stderr, flush=True)
    try:
        found = measure_process("-m", "benchmarks.reliability.promises", number, *["--quick"] * quick)
    except RuntimeError as error:
        return {"kept": False, "measured": f"could not be measured: {_without_paths(error)}", "figures": {},
                "seconds": 0.0, "quick": quick}
    return found["output"] | {"seconds": round(found["wall"], 1), "quick": quick}


def measure_accident(fault, quick):
    """Return {"quick", "found": {name: values, or {"absent": why}}}."""
    accident, found = ACCIDENTS[fault], {}
    for name in accident.names:
        print(f"{fault}: {name} ...", file=sys.stderr, flush=True)
        if missing(name):
            found[name] = {"absent": f"{' and '.join(missing(name))} not installed"}
            continue
        n = max(2, accident.n // 10) if quick else accident.n
        try:
            found[name] = measure_process("-m", "benchmarks.reliability.peers", fault, name, "--n", n)["output"]
        except RuntimeError as error:
            found[name] = {"absent": _without_paths(error)}
    return {"quick": quick, "found": found}


def _without_paths(error):
    """Return an error without the paths of this machine, to be stored."""
    return re.sub(rf"{re.escape(str(ROOT))}/|{re.escape(tempfile.gettempdir())}/[^/\s]*/?", "", str(error))


def surroundings():
    """Return `measure.machine`, with the versions of the peers of this table."""
    where = machine()
    for name in ("safetensors", "h5py"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            where["versions"][name] = importlib.metadata.version(name)
    return where


if __name__ == "__main__":
    sys.exit(main())
