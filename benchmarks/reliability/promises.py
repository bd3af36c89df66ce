"""What minicnn promises, by number, and how each promise is measured.

    python -m benchmarks.reliability.promises C3

measures one in this process and prints {"kept", "measured" (a sentence), "figures"} as JSON.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Callable, NamedTuple

from benchmarks.processes import ROOT
from benchmarks.reliability import crashes, strangers

__all__ = ["Promise", "PROMISES"]


class Promise(NamedTuple):
    """One line of the table."""

    says: str
    bar: str            # what must come out
    measure: Callable   # (quick, folder) -> (kept, sentence, figures)


PROMISES = {
    "B1": Promise("The same seed is the same files", "all the same, to the byte", crashes.same_seed),
    "B2": Promise("So it is with any number of threads and loader workers", "all the same, to the byte",
                  crashes.any_threads),
    "B3": Promise("Going on after an interruption is as if there had been none", "all the same, to the byte",
                  crashes.any_interruption),
    "B4": Promise("Fitting twice is the same, and a failed fit leaves no trace", "all pass", crashes.fitting),
    "C1": Promise("Whatever operation of a save fails, the old or the new file is there", "0 bad",
                  crashes.failing_disk),
    "C2": Promise("So it is when the power fails", "0 bad; writers without fsync are caught", crashes.power),
    "C3": Promise("So it is when the process is killed while it saves", "0 lost; 30 % of kills in a write",
                  crashes.killed_while_saving),
    "C4": Promise("kill -9 while training loses no epoch that was reported", "0 lost, the same files",
                  crashes.killed_while_training),
    "C5": Promise("A full or read-only disk is said in a sentence; the old file stays", "all pass", crashes.full_disk),
    "C6": Promise("Ctrl-C and SIGTERM end a run after its batch, saved", "all right, within 2 s", crashes.interruptions),
    "C7": Promise("Damage to a checkpoint is noticed, and the previous one is there", "0 accepted", crashes.corruption),
    "C8": Promise("A folder serves one run at a time", "exit code 5 within 2 s; no lock outlives its holder",
                  crashes.one_run_a_folder),
    "C9": Promise("Too little memory is said, and nothing is lost", "exit code 3, 0 lost", crashes.little_memory),
    "C10": Promise("Memory is bounded", "1,024 MiB; 8 and 4 MiB grown; 32 MiB by images", crashes.memory),
    "D1": Promise("Weights files of strangers are refused by type, at little cost", "0 accepted or untyped, 0.1 s",
                  strangers.hostile_weights),
    "D2": Promise("Damaged images are decoded or refused by type", "0 anything else, 1 s", strangers.hostile_images),
    "D3": Promise("Image bombs are refused before they cost anything", "all refused, 1 s", strangers.image_bombs),
    "D4": Promise("Pixels mean what their file says", "all pass", strangers.pixels),
    "D5": Promise("Manifests are read fast, and all their problems listed", "10 s, 600 MB; 0 untyped",
                  strangers.manifests),
    "D6": Promise("No path leads out of its root, none is waited for", "all pass", strangers.paths),
    "D7": Promise("Pages, tables and JSON hold nothing active", "all pass", strangers.exports),
    "D8": Promise("No data runs code", "all pass", strangers.nothing_runs),
    "E1": Promise("A read-only or damaged kernel cache costs a warning", "all pass", strangers.strange_caches),
    "E2": Promise("Four first uses at once are fine", "all pass", strangers.first_use_together),
    "E3": Promise("So are forks, spawned processes and callers' threads", "all pass", strangers.others_processes),
    "E4": Promise("No more threads than asked for", "never more", strangers.live_threads),
    "E5": Promise("No locale, no home and no flag of Python matters", "all pass", strangers.strange_places),
    "E6": Promise("Every end has its exit code and one line", "all pass", strangers.ends),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("number", choices=PROMISES)
    parser.add_argument("--quick", action="store_true", help="fewer accidents")
    chosen = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    os.environ.setdefault("MPLBACKEND", "Agg")
    with tempfile.TemporaryDirectory() as folder:
        kept, sentence, figures = PROMISES[chosen.number].measure(chosen.quick, Path(folder))
    print("\n" + json.dumps({"kept": bool(kept), "measured": sentence, "figures": figures}))


if __name__ == "__main__":
    main()
