"""How the figures look: RELIABILITY.md and the README's table, made from reliability.json and never typed."""

import json
from typing import Callable, NamedTuple

from benchmarks.measure import OURS
from benchmarks.reliability.promises import PROMISES
from benchmarks.reliability.saving import LIBRARIES
from benchmarks.report import BUSY, table

__all__ = ["Accident", "ACCIDENTS", "read", "compose", "readme_table", "kept_in_words", "accident_table"]

GROUPS = {"B": "The same bytes", "C": "Nothing lost", "D": "Nothing let in", "E": "Anywhere"}
NOT_PROMISED = """\
- The same bits on another CPU or system, or with other versions of numba or NumPy.
- Protection from bugs in Pillow and the libraries under it, and that weights or data are honest:
  [SECURITY.md](../SECURITY.md) has the list.
- A digest notices accidents. It does not notice a forger, who can compute one too.
- Saving whole needs room for the old and the new file at once; a program that writes in the place of the old one
  does not.
- DICOM files: there is no reader.
"""


class Accident(NamedTuple):
    """One row of the table with the peers."""

    what: str           # in the README
    shows: str          # what happens, and what the figures count
    names: tuple        # who takes part
    n: int
    cell: Callable      # figures -> what the row says of one
    remarks: Callable   # figures -> the rest, for RELIABILITY.md


def _of(count):
    """Return a function that tells figures as "count of n"."""
    return lambda f: f"{f[count]:,} of {f['n']:,}"


def _resumed(f):
    repeats = "the same" if f["repeats_same"] else "NOT the same"
    return f"largest difference of a weight {f['difference']:.1g}; two undisturbed runs are {repeats}"


def _threads(f):
    repeats = "the same" if f["repeats_same"] else "NOT the same"
    return f"repeated with as many threads: {repeats}; largest difference of a prediction {f['difference']:.1g}"


def _damage(f):
    ends = f", {f['crashed']} crashed, {f['hung']} hung" if f["crashed"] or f["hung"] else ""
    return f"{f['noticed']:,} errors, {f['same']:,} loaded as before{ends}; a file of {f['bytes']:,} bytes"


ACCIDENTS = {
    "full-disk": Accident(
        "disk full while saving: the old file still loads",
        "4 to 8 MB are saved over a file of 1 MB, on a disk of 3 MB. How often did the old file load afterwards?",
        tuple(LIBRARIES), 20, _of("old"), lambda f: f"{f['lost']} lost, {f['silent']} without an error; {f['said']}"),
    "kill": Accident(
        "killed while saving: the old or the new file loads",
        "`kill -9` at a random moment of a process that saves 4 MB again and again. How often did the last file "
        "that was saved, or the one being saved, load afterwards?",
        tuple(LIBRARIES), 200, _of("whole"), lambda f: f"{f['mid_save']} killed within a save; {f['lost']} lost"),
    "flip": Accident(
        "one bit flipped: other numbers load without a word",
        "One random bit of a file of 10,000 numbers is flipped. How often did other numbers load, and no error?",
        tuple(LIBRARIES), 1000, _of("changed"), _damage),
    "truncation": Accident(
        "file cut off: other numbers load without a word",
        "The same file is cut off at a random length.", tuple(LIBRARIES), 300, _of("changed"), _damage),
    "threads": Accident(
        "20 training steps on one thread and on two: the same bits",
        "COV-19Net, 32 images a step; each number of threads three times, each in a process of its own. Losses and "
        "predictions are compared.", (OURS, "PyTorch", "Keras", "JAX jit"), 3,
        lambda f: "yes" if f["same"] else "no", _threads),
    "killed-in-epoch": Accident(
        "killed in an epoch, gone on from the last one: the same weights",
        "`kill -9` after each of the 8 batches of the second epoch; then training goes on from what was saved after "
        "the first (Keras: `BackupAndRestore`). How often were the weights at the end those of undisturbed training?",
        (OURS, "Keras"), 8, _of("identical"), _resumed),
    "stopped-at-batch": Accident(
        "stopped in an epoch, gone on from that batch: the same weights",
        "The same, from what was saved after that batch (minicnn: Ctrl-C; Keras: `BackupAndRestore(save_freq=1)`, "
        "which begins the epoch again, with the weights of its middle).",
        (OURS, "Keras"), 8, _of("identical"), _resumed),
}
# The columns of the README, and who stands in them: a library's ways to save, and the library itself where it trains.
COLUMNS = {OURS: (OURS,), "NumPy `savez`": ("NumPy savez",), "PyTorch": ("PyTorch save", "PyTorch"),
           "Keras `save`": ("Keras save", "Keras"), "Keras `save_weights`": ("Keras save_weights",),
           "safetensors": ("safetensors",)}


def read(folder):
    """Return what is stored in a folder: {"promises", "accidents", "machine", "disturbance"}."""
    path = folder / "reliability.json"
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    return {"promises": {}, "accidents": {}, "machine": None, "disturbance": None}


# ---- RELIABILITY.md --------------------------------------------------------------------------------------------------

def compose(stored):
    """Return RELIABILITY.md."""
    where = stored["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    text = ["# Reliability\n", "Written by `python -m benchmarks.reliability`. Each accident was let happen as often "
            "as the table says, and what was left was looked at; a count of 0 says no more than that.\n",
            f"{where['cpu']}, {where['cores']} cores, {where['system']}; {where['date']}.\n", f"{versions}.\n",
            f"{kept_in_words(stored)}.\n"]
    if _is_quick(stored):
        text.append("*Some of it is from a quick run, with few accidents.*\n")
    if stored["disturbance"] > BUSY:
        text.append(f"*Other programs took {100 * stored['disturbance']:.0f} % of the machine meanwhile: times are "
                    "longer than on an idle one.*\n")
    for group, title in GROUPS.items():
        if any(number[0] == group for number in stored["promises"]):
            text += [f"## {group}. {title}\n", _promises_table(stored, group)]
    text.append("## The same accident for others\n")
    for fault in (fault for fault in ACCIDENTS if fault in stored["accidents"]):
        what = ACCIDENTS[fault].what
        text += [f"### {what[0].upper()}{what[1:]}\n", f"{ACCIDENTS[fault].shows}\n",
                 accident_table(fault, stored["accidents"][fault]["found"])]
    return "\n".join([*text, "## What is not promised\n", NOT_PROMISED])


def kept_in_words(stored):
    """Return the words that count the promises, and name those that were not kept."""
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
    """Return the table of one accident from {name: figures}."""
    rows = [[name, _told(fault, figures), "" if "absent" in figures else _cell(ACCIDENTS[fault].remarks(figures))]
            for name, figures in found.items()]
    return table(["", "", "more"], rows).replace("---:", "---")


def _told(fault, figures):
    return f"absent: {figures['absent']}" if "absent" in figures else ACCIDENTS[fault].cell(figures)


def _cell(text):
    """Return a text as it may stand in a table."""
    return text.replace("|", "/").replace("\n", " ")


def _is_quick(stored):
    return any(each["quick"] for part in ("promises", "accidents") for each in stored[part].values())


# ---- The README's table ----------------------------------------------------------------------------------------------

def readme_table(stored):
    """Return the table of the README and the sentences under it."""
    rows, absent = [], {}
    for fault in (fault for fault in ACCIDENTS if fault in stored["accidents"]):
        found, row = stored["accidents"][fault]["found"], [ACCIDENTS[fault].what]
        for who in COLUMNS.values():
            name = next((name for name in who if name in found), None)
            row.append("" if name is None else _told(fault, found[name]).partition(":")[0])
            if name is not None and "absent" in found[name]:
                absent[name] = found[name]["absent"]
        rows.append(row)
    where = stored["machine"]
    versions = [f"{label} {where['versions'][name]}" for label, name in
                (("NumPy", "numpy"), ("PyTorch", "torch"), ("Keras", "keras"), ("safetensors", "safetensors"))
                if name in where["versions"]]
    text = table(["the accident, and what is counted", *COLUMNS], rows)
    text += (f"\nMeasured on {where['cpu']}, {where['cores']} cores ({where['date']}); {', '.join(versions)}. "
             f"{kept_in_words(stored)}: [benchmarks/RELIABILITY.md](benchmarks/RELIABILITY.md).\n")
    text += "".join(f"\n{name} is absent: {why}.\n" for name, why in absent.items())
    return text + ("\n**From a quick run: too few accidents to quote.**\n" if _is_quick(stored) else "")
