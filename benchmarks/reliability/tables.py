"""Write RELIABILITY.md and the README's table from reliability.json."""

import json
from typing import Callable, NamedTuple

from benchmarks.measure import OURS
from benchmarks.reliability.promises import PROMISES
from benchmarks.reliability.file_accidents import LIBRARIES
from benchmarks.report import BUSY, table, versions_text

__all__ = ["Accident", "ACCIDENTS", "read", "compose", "readme_table", "kept_in_words", "accident_table"]

GROUPS = {"B": "Reproducibility", "C": "Crash safety", "D": "Untrusted input", "E": "Environments"}
NOT_PROMISED = """\
- The same bits on another CPU or system, or with other versions of numba or NumPy.
- Protection from bugs in Pillow and the libraries below it, or from malicious weights and data:
  [SECURITY.md](../SECURITY.md) has the list.
- Protection from a forger: a digest detects accidents, but a forger can compute one too.
- Saving in place: an atomic save needs disk space for the old and the new file at once.
"""


class Accident(NamedTuple):
    """One row of the table with the peers."""

    what: str           # in the README
    shows: str          # what happens, and what is counted
    names: tuple        # of libraries
    n: int
    cell: Callable      # values -> the cell of a library
    remarks: Callable   # values -> the rest, for RELIABILITY.md


def _of(count):
    """Return a function that formats values as "count of n"."""
    return lambda f: f"{f[count]:,} of {f['n']:,}"


def _difference(of, repeated):
    """Return a function that formats the largest difference, and whether a repetition is the same."""
    return lambda f: (f"largest difference of a {of} {f['difference']:.1g}; {repeated} are "
                      f"{'the same' if f['repeats_same'] else 'NOT the same'}")


_RESUMED = _difference("weight", "two uninterrupted runs")


def _damage(f):
    ends = f", {f['crashed']} crashed, {f['hung']} hung" if f["crashed"] or f["hung"] else ""
    return f"{f['noticed']:,} errors, {f['same']:,} loaded unchanged{ends}; a file of {f['bytes']:,} bytes"


ACCIDENTS = {
    "full-disk": Accident(
        "disk full while saving: the old file still loads",
        "4 to 8 MB are saved over a file of 1 MB, on a disk of 3 MB. Counted: the old file loads afterwards.",
        tuple(LIBRARIES), 20, _of("old"), lambda f: f"{f['lost']} lost, {f['silent']} without an error; {f['said']}"),
    "kill": Accident(
        "killed while saving: the old or the new file loads",
        "`kill -9` at a random moment of a process that saves 4 MB repeatedly. Counted: the last saved file, or the "
        "one being saved, loads afterwards.",
        tuple(LIBRARIES), 200, _of("whole"), lambda f: f"{f['mid_save']} killed within a save; {f['lost']} lost"),
    "flip": Accident(
        "one bit flipped: wrong numbers load without an error",
        "One random bit of a file of 10,000 numbers is flipped. Counted: wrong numbers load, without an error.",
        tuple(LIBRARIES), 1000, _of("changed"), _damage),
    "truncation": Accident(
        "file truncated: wrong numbers load without an error",
        "The same file is truncated at a random length.", tuple(LIBRARIES), 300, _of("changed"), _damage),
    "threads": Accident(
        "20 training steps on one thread and on two: the same bits",
        "COV-19Net, 32 images a step; three processes for each number of threads. Losses and predictions are compared.",
        (OURS, "PyTorch", "Keras", "Keras on JAX"), 3,
        lambda f: "yes" if f["same"] else "no", _difference("prediction", "runs with the same number of threads")),
    "killed-in-epoch": Accident(
        "killed in an epoch, resumed from the epoch before: the same weights",
        "`kill -9` after each of the 8 batches of the second epoch; then training resumes from the state saved after "
        "the first (Keras: `BackupAndRestore`). Counted: the final weights equal those of uninterrupted training.",
        (OURS, "Keras"), 8, _of("identical"), _RESUMED),
    "stopped-at-batch": Accident(
        "stopped in an epoch, resumed at that batch: the same weights",
        "The same from the state saved after that batch (minicnn: Ctrl-C; Keras: `BackupAndRestore(save_freq=1)`, "
        "which restarts the epoch with the weights from its middle).",
        (OURS, "Keras"), 8, _of("identical"), _RESUMED),
}
# The columns of the README, and the names in each: a library's way to save, and the library where it trains.
COLUMNS = {OURS: (OURS,), "NumPy `savez`": ("NumPy savez",), "PyTorch": ("PyTorch save", "PyTorch"),
           "Keras `save`": ("Keras save", "Keras"), "Keras `save_weights`": ("Keras save_weights",),
           "safetensors": ("safetensors",)}


def read(folder):
    """Return the results stored in a folder: {"promises", "accidents", "machine", "disturbance"}."""
    path = folder / "reliability.json"
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    return {"promises": {}, "accidents": {}, "machine": None, "disturbance": None}


# ---- RELIABILITY.md --------------------------------------------------------------------------------------------------

def compose(stored):
    """Return RELIABILITY.md."""
    where = stored["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    text = ["# Reliability\n", "Written by `python -m benchmarks.reliability`. Each accident is caused as often as the "
            "table says, and the result is checked; a count of 0 of n does not mean never.\n",
            f"{where['cpu']}, {where['cores']} cores, {where['system']}; {where['date']}.\n", f"{versions}.\n",
            f"{kept_in_words(stored)}.\n"]
    if _is_quick(stored):
        text.append("*Partly from a quick run, with few accidents.*\n")
    if stored["disturbance"] > BUSY:
        text.append(f"*Other programs used {100 * stored['disturbance']:.0f} % of the machine meanwhile: times are "
                    "longer than on an idle one.*\n")
    for group, title in GROUPS.items():
        if any(number[0] == group for number in stored["promises"]):
            text += [f"## {group}. {title}\n", _promises_table(stored, group)]
    text.append("## The same accidents for other libraries\n")
    for fault in (fault for fault in ACCIDENTS if fault in stored["accidents"]):
        what = ACCIDENTS[fault].what
        text += [f"### {what[0].upper()}{what[1:]}\n", f"{ACCIDENTS[fault].shows}\n",
                 accident_table(fault, stored["accidents"][fault]["found"])]
    return "\n".join([*text, "## What is not promised\n", NOT_PROMISED])


def kept_in_words(stored):
    """Return the number of promises kept as text, with the names of those that were not."""
    broken = [number for number, found in stored["promises"].items() if not found["kept"]]
    count = len(stored["promises"])
    words = f"{count - len(broken)} of {count} promises were kept"
    return f"**{words}; not kept: {', '.join(broken)}**" if broken else words


def _promises_table(stored, group):
    rows = [[f"{number}. {promise.says}", promise.bar, _cell(stored["promises"][number]["measured"]),
             "kept" if stored["promises"][number]["kept"] else "**NOT KEPT**"]
            for number, promise in PROMISES.items() if number[0] == group and number in stored["promises"]]
    return table(["promise", "bar", "measured", ""], rows).replace("---:", "---")


def accident_table(fault, found):
    """Return the table of one accident from {name: values}."""
    rows = [[name, _result(fault, values), "" if "absent" in values else _cell(ACCIDENTS[fault].remarks(values))]
            for name, values in found.items()]
    return table(["", "", "more"], rows).replace("---:", "---")


def _result(fault, values):
    return f"absent: {values['absent']}" if "absent" in values else ACCIDENTS[fault].cell(values)


def _cell(text):
    """Return a text for a cell of a table."""
    return text.replace("|", "/").replace("\n", " ")


def _is_quick(stored):
    return any(each["quick"] for kind in ("promises", "accidents") for each in stored[kind].values())


# ---- The README's table ----------------------------------------------------------------------------------------------

def readme_table(stored):
    """Return the table of the README and the sentences below it."""
    rows, absent = [], {}
    for fault in (fault for fault in ACCIDENTS if fault in stored["accidents"]):
        found, row = stored["accidents"][fault]["found"], [ACCIDENTS[fault].what]
        for names in COLUMNS.values():
            name = next((name for name in names if name in found), None)
            row.append("" if name is None else _result(fault, found[name]).partition(":")[0])
            if name is not None and "absent" in found[name]:
                absent[name] = found[name]["absent"]
        rows.append(row)
    where = stored["machine"]
    versions = versions_text(where["versions"], {"NumPy": "numpy", "PyTorch": "torch", "Keras": "keras",
                                                 "safetensors": "safetensors"})
    text = table(["accident: what is counted", *COLUMNS], rows)
    text += (f"\nMeasured on {where['cpu']}, {where['cores']} cores ({where['date']}); {versions}. "
             f"{kept_in_words(stored)}: [benchmarks/RELIABILITY.md](benchmarks/RELIABILITY.md).\n")
    text += "".join(f"\n{name} is absent: {why}.\n" for name, why in absent.items())
    return text + ("\n**From a quick run: too few accidents to quote.**\n" if _is_quick(stored) else "")
