"""How the promises on reproducibility (B), crashes (C) and threads (E4) are measured.

Each function takes (quick, folder) and returns (kept, the result as a sentence, values).
"""

import contextlib
import errno
import itertools
import os
import signal
import subprocess
import sys
import time
from unittest import mock

import numpy as np

from benchmarks.reliability.disk_faults import (CODES, change_every_bit, fail_every_operation, kill_while_saving,
                                                power_loss_states)
from benchmarks.reliability.run_faults import contents, measure, prepare, start, wait
from minicnn import Adam, Dense, Flatten, Sequential, Sigmoid, cov19net, set_thread_count
from minicnn.cli.main import main
from minicnn.core import signals
from minicnn.data.synthetic import phantom
from minicnn.experiment.run_folder import RunFolder


# ---- B: determinism and resuming -------------------------------------------------------------------------------------

def same_seed(quick, folder):
    arguments, first = prepare(folder, epochs=3)
    n, same = 2 if quick else 6, 0
    for i in range(n):
        environment = {"PYTHONHASHSEED": str(i), "OPENBLAS_NUM_THREADS": str(1 + i % 2)}
        subprocess.run([sys.executable, "-m", "minicnn", *arguments, "--out", folder / str(i), "--quiet"], check=True,
                       env=os.environ | environment, stdout=subprocess.DEVNULL)
        same += contents(folder / str(i)) == first
    return (same == n, f"{same} of {n} processes wrote the same {len(first)} files, for any hash seed of Python and "
            "number of BLAS threads", {"n": n, "same": same})


def any_threads(quick, folder):
    arguments, first = prepare(folder, epochs=3)
    del first["config.json"]        # it holds the number of workers
    ways, same = list(itertools.product((1, 2, 3, 4), (0, 1, 2, 4)))[::3 if quick else 1], 0
    for threads, workers in ways:
        run = folder / f"{threads} {workers}"
        code, _ = wait(start([*arguments, "--out", str(run), "--threads", str(threads), "--workers", str(workers)],
                             folder / "log", quick=True))
        found = contents(run)
        del found["config.json"]
        same += code == 0 and found == first
    n = len(ways)
    return (same == n, f"{same} of {n} pairs of 1 to 4 threads and 0, 1, 2 and 4 workers wrote the same {len(first)} "
            "files", {"n": n, "same": same})


def any_interruption(quick, folder):
    """Stop COV-19Net after every batch and epoch, and resume with other numbers of threads and workers."""
    made = phantom.generate(n=20, seed=2)
    images, count = made.images[..., None].repeat(3, axis=3), itertools.count(1)

    def fit(run, stop=None, way=0):
        checks = itertools.count(1)

        def check():
            if next(checks) == stop:
                raise signals.Interrupted(signal.SIGINT)

        set_thread_count(1 + way % 4)
        model = cov19net(seed=1)
        model.compile(Adam(), "binary_crossentropy")
        with mock.patch.object(signals, "check", check), contextlib.suppress(signals.Interrupted):
            model.fit(images[:16], made.labels[:16], validation=(images[16:], made.labels[16:]), epochs=3,
                      batch_size=2, workers=way % 3, run=folder / run, resume=True, progress=False)
        return {path.name: path.read_bytes() for path in (folder / run).iterdir()}, next(checks) - 1

    whole, checks = fit("whole")
    stops, same = range(1, checks, 5 if quick else 1), 0
    for stop in stops:
        _, done = fit("run", stop, next(count))
        same += done == stop and fit("run", way=next(count))[0] == whole
        for path in (folder / "run").iterdir():
            path.unlink()
    n = len(stops)
    return (same == n and n > 5, f"COV-19Net stopped after each of {n} batches and ends of epochs, and resumed: {same} "
            "ended with the same files", {"n": n, "same": same})


# ---- C: crashes ------------------------------------------------------------------------------------------------------

def failing_disk(quick, folder):
    found = fail_every_operation(folder, [errno.EIO] if quick else CODES)
    return (not found["bad"] and found["errors"] > 500,
            f"{found['runs']:,} saves on a disk that fails, {found['errors']:,} typed errors, {len(found['bad'])} bad",
            found)


def power(quick, folder):
    found = power_loss_states(folder)
    mutants = {kind: power_loss_states(folder, kind) for kind in ("file", "folder")}
    caught = {kind: len(mutant["bad"]) for kind, mutant in mutants.items()}
    return (not found["bad"] and all(caught.values()),
            f"{found['states']:,} states of the disk, {len(found['bad'])} bad; {caught['file']:,} bad "
            f"without fsync of the file, {caught['folder']:,} without fsync of the folder",
            found | {"mutants": caught})


def killed_while_saving(quick, folder):
    n = 50 if quick else 500
    found = kill_while_saving(folder, n)
    return (not found["bad"] and found["mid_write"] >= 0.3 * n,
            f"{n} kills, {found['mid_write']} of them in the middle of a write, after {found['saves']:,} saves: "
            f"{len(found['bad'])} lost or damaged", found)


def killed_while_training(quick, folder):
    found = measure("killed", folder=str(folder), count=5 if quick else 200)
    return (found["lost"] == found["litter"] == 0 and found["identical"] == found["runs"] > 0,
            f"{found['kills']} kills, {found['in_epochs']} of them within epochs, in {found['runs']} runs of 60 epochs"
            f": {found['lost']} reported epochs lost, {found['identical']} of {found['runs']} runs ended with the same "
            f"files, {found['litter']} leftovers", found)


def interruptions(quick, folder):
    found = measure("signalled", folder=str(folder), count=6 if quick else 100)
    n = found["signals"] + found["ended_first"]
    return (found["codes_right"] == found["identical"] == n and found["litter"] == 0 and found["seconds"] <= 2,
            f"{n} signals at random times ({found['signals']} reached a running process, {found['twice']} came twice): "
            f"{found['codes_right']} correct exit codes, {found['identical']} runs resumed to the same files; at most "
            f"{found['seconds']:.2f} s to the end", found)


def small_checkpoint(folder):
    """Return the bytes of a checkpoint of about 2 KB."""
    model = Sequential([Flatten(), Dense(1), Sigmoid()], (2, 2, 1), seed=7, engine="reference")
    model.compile(Adam(0.1), "binary_crossentropy")
    x = np.linspace(0, 1, 8).reshape(2, 2, 2, 1)
    model.fit(x, [0, 1], validation=(x, [0, 1]), epochs=2, progress=False)
    model.save(folder / "w.safetensors")
    return (folder / "w.safetensors").read_bytes()


def corruption(quick, folder):
    content = small_checkpoint(folder)
    found = change_every_bit(content)
    return (not found["bad"], f"all {found['flips']:,} single bits flipped and all {found['truncations']:,} lengths of "
            f"a checkpoint of {len(content):,} bytes: {len(found['bad'])} accepted", found)


def one_run_a_folder(quick, folder):
    hold = ("import sys, time\nfrom minicnn.experiment.run_folder import RunFolder\n"
            "with RunFolder(sys.argv[1]):\n    print('held', flush=True)\n    time.sleep(600)\n")
    n, named, free, worst = 2 if quick else 10, 0, 0, 0.0
    for i in range(n):
        holder = subprocess.Popen([sys.executable, "-c", hold, folder / str(i)], stdout=subprocess.PIPE, text=True)
        holder.stdout.readline()
        began = time.perf_counter()
        second = subprocess.run([sys.executable, "-m", "minicnn", "train", "--epochs", "1", "--out", folder / str(i)],
                                capture_output=True, text=True)
        worst = max(worst, time.perf_counter() - began)
        named += second.returncode == 5 and f"process {holder.pid}" in second.stderr
        holder.kill(), holder.communicate()
        free += not RunFolder(folder / str(i)).is_locked
    return (named == free == n and worst < 2, f"{named} of {n} second runs ended with 5 and named the first, the "
            f"slowest in {worst:.2f} s including Python's start; {free} of {n} locks were free after their holder was "
            "killed",
            {"named": named, "free": free, "worst seconds": worst})


def little_memory(quick, folder):
    found = measure("starved", folder=str(folder), step=16 if quick else 4)
    codes = sorted(set(found["codes"]))
    return (found["starved"] > 2 and codes == [3] and found["sentences"] == found["starved"] and found["lost"] == 0
            and found["identical"] == 1,
            f"{found['starved']} runs that ran out of memory: exit codes {', '.join(map(str, codes))}, "
            f"{found['sentences']} printed what is missing, {found['lost']} checkpoints lost; with enough memory "
            f"{'the same files' if found['identical'] else 'OTHER files'} in the end", found)


def memory(quick, folder):
    few = ["--epochs", "1", "--steps-per-epoch", "20", "--quiet"]
    default = measure("peak", arguments=["train", "--out", str(folder / "run"), *(few if quick else ["--quiet"])])
    epochs, predictions = (10, 200) if quick else (50, 1000)
    grown = measure("grown", epochs=epochs, predictions=predictions)
    kept = default <= 1024 and grown["training"] <= 8 and grown["predicting"] <= 4
    sentence = (f"{default:.0f} MiB at most in {'a short' if quick else 'the default'} run; {grown['training']:.1f} "
                f"MiB grown over epochs 3 to {epochs}, {grown['predicting']:.1f} over {predictions:,} predictions")
    figures = {"peak": default, "grown": grown}
    if not quick:
        peaks = []
        for n in (1000, 10_000):
            data = folder / str(n)
            main(["data", "phantom", str(data), "--n", str(n), "--size", "64", "--quiet"])
            peaks.append(measure("peak", arguments=["train", "--data", str(data / "manifest.csv"), "--out",
                                                    str(folder / f"run {n}"), *few]))
        kept, figures["by images"] = kept and peaks[1] - peaks[0] <= 32, peaks
        sentence += f"; {peaks[1] - peaks[0]:.0f} more with 10,000 images than with 1,000"
    return kept, sentence, figures


# ---- E4: threads -----------------------------------------------------------------------------------------------------

def live_threads(quick, folder):
    over, sentences = 0, []
    for count, workers in ((2, 1),) if quick else ((1, 0), (2, 1), (4, 2), (4, 4)):
        found = measure("threads", count=count, workers=workers)
        more = found["during"] - found["before"]
        over += more > count - 1 + workers or found["after"] - found["before"] > count - 1
        sentences.append(f"{more} of at most {count - 1 + workers}")
    return over == 0, f"threads besides the main thread while training: {', '.join(sentences)}", {"threads": sentences}
