"""How promises B (the same bytes) and C (nothing lost) are measured.

Each function takes (quick, folder) and returns (kept, what was measured in a sentence, figures).
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
from crash import CODES, change_every_bit, fail_every_operation, kill_while_saving, power_loss_states
from runs_harness import contents, measure, prepare, start, wait

from benchmarks.reliability.tested import also, tested
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
    return (same == n, f"{same} of {n} processes wrote the {len(first)} files of another, whatever Python's hash seed "
            "and the threads of BLAS", {"n": n, "same": same})


def any_threads(quick, folder):
    arguments, first = prepare(folder, epochs=3)
    del first["config.json"]        # which notes how many workers were asked for
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
    """COV-19Net, stopped after every batch and epoch and gone on with, other threads and workers each time."""
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
    return also((same == n and n > 5, f"COV-19Net stopped after each of {n} batches and ends of epochs, and gone on "
                 f"with: {same} ended with the same files", {"n": n, "same": same}),
                "test_resume.py::test_a_signal_at_any_check_changes_no_bit",
                "test_resume.py::test_dying_between_any_two_files_changes_no_bit",
                "test_resume.py::test_early_stopping_stops_where_it_would_have")


def fitting(quick, folder):
    return tested("test_resume.py::test_fit_is_idempotent_and_a_failed_fit_leaves_no_trace")


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
            f"{found['states']:,} states of the disk, {len(found['bad'])} bad; without fsync of the file "
            f"{caught['file']:,} would be bad, without that of the folder {caught['folder']:,}",
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
            f"{found['kills']} kills, {found['in_epochs']} of them in epochs, in {found['runs']} runs of 60 epochs: "
            f"{found['lost']} reported epochs lost, {found['identical']} of {found['runs']} runs ended with the same "
            f"files, {found['litter']} leftovers", found)


def full_disk(quick, folder):
    return tested("test_crash.py::test_a_full_disk_keeps_the_old_files_and_says_what_it_lacks",
                  "test_crash.py::test_a_file_larger_than_the_limit_is_an_error_in_words",
                  "test_environment.py::test_a_checkpoint_that_finds_no_room_is_said_and_leaves_nothing",
                  "test_environment.py::test_a_read_only_run_folder_is_said")


def interruptions(quick, folder):
    found = measure("signalled", folder=str(folder), count=6 if quick else 100)
    n = found["signals"] + found["ended_first"]
    told = also((found["codes_right"] == found["identical"] == n and found["litter"] == 0 and found["seconds"] <= 2,
                 f"{n} signals at random times ({found['signals']} found the run going, {found['twice']} came twice): "
                 f"{found['codes_right']} right exit codes, {found['identical']} runs gone on with to the same files; "
                 f"at most {found['seconds']:.2f} s to the end", found), "test_interrupts.py")
    return told if quick else also(told, "test_interrupts.py::test_signals_while_kernels_are_compiled", quick=False)


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
    return also((not found["bad"], f"all {found['flips']:,} single bits flipped and all {found['truncations']:,} "
                 f"lengths of a checkpoint of {len(content):,} bytes: {len(found['bad'])} accepted", found),
                "test_resume.py::test_a_damaged_last_gives_way_to_previous_with_a_warning")


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
    return also((named == free == n and worst < 2, f"{named} of {n} second runs ended with 5 and named the first, the "
                 f"slowest in {worst:.2f} s with Python's start; {free} of {n} locks went with a killed holder",
                 {"named": named, "free": free, "worst seconds": worst}),
                "test_cli.py::test_a_folder_serves_one_run_at_a_time",
                "test_cli.py::test_a_lock_goes_with_its_process_however_that_ends")


def little_memory(quick, folder):
    found = measure("starved", folder=str(folder), step=16 if quick else 4)
    codes = sorted(set(found["codes"]))
    return (found["starved"] > 2 and codes == [3] and found["sentences"] == found["starved"] and found["lost"] == 0
            and found["identical"] == 1,
            f"{found['starved']} runs that ran out of memory: exit codes {', '.join(map(str, codes))}, "
            f"{found['sentences']} said what they lack, {found['lost']} checkpoints lost; with enough memory "
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
