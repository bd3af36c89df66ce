"""Faults of runs: kills, interruptions and too little memory, and what they do to the files of a run.

`measure(name, ...)` calls a function in a process of its own, where the kernels are compiled once and every run is then
a forked child: a tenth of a second to start, not one or two. The tests use few cases, `-m soak` and
`python -m benchmarks.reliability` many.
"""

import gc
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

__all__ = ["ended", "measure", "killed", "signalled", "starved", "grown", "threads", "peak"]

EPOCH = ["--steps-per-epoch", "4", "--batch-size", "4"]


def ended(arguments):
    """Return the exit code of a command that runs in this process, also where argparse ends it."""
    from minicnn.cli.main import main
    try:
        return main(arguments)
    except SystemExit as stop:
        return stop.code


def measure(name, **arguments):
    """Return what the function of this name returns for these arguments, in a new process."""
    done = subprocess.run([sys.executable, __file__, name, json.dumps(arguments)], capture_output=True, text=True,
                          env=os.environ | {"MINICNN_THREADS": "1", "MPLBACKEND": "Agg"})
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


# ---- Processes -------------------------------------------------------------------------------------------------------

def start(arguments, log, quick=False, spare=None):
    """Fork a child that runs the command line, its output in the file `log`; return its process number.

    `quick` leaves the plots out. With `spare` the child may grow by so many MiB and no more.
    """
    child = os.fork()
    if child:
        return child
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(output, 1), os.dup2(output, 2)
    code = 1
    try:
        from minicnn.cli.main import main
        from minicnn.experiment import training_run
        if quick:
            training_run.draw = lambda *arguments: []
        if spare is not None:
            most = int((resident("VmSize") + spare) * 2**20)
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
        sys.argv = ["minicnn", *arguments]
        code = main()                       # as the process itself: nothing comes after it
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def wait(child, seconds=120):
    """Return (exit code, negative for a signal; seconds waited); a child that hangs is killed, and that is an error."""
    began = time.perf_counter()
    while True:
        number, status = os.waitpid(child, os.WNOHANG)
        waited = time.perf_counter() - began
        if number:
            return os.waitstatus_to_exitcode(status), waited
        if waited > seconds:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise AssertionError(f"a run hangs: {seconds} s")
        time.sleep(0.002)


def contents(folder):
    """Return {name: bytes} of the files of a run, except for the plots and the number of threads."""
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()
            if path.suffix != ".png" and path.name != "environment.json"}


def acknowledged(log):
    """Return the last epoch that a run reported in its log; 0 if none."""
    lines = Path(log).read_text().splitlines() if Path(log).exists() else []
    return max((int(line.split()[1].split("/")[0]) for line in lines if line.startswith("epoch ")), default=0)


def prepare(folder, epochs, epoch=EPOCH):
    """Make a small collection and an uninterrupted run on it; return the arguments of `train`, and its files."""
    from minicnn.cli.main import main
    folder = Path(folder)
    assert main(["data", "phantom", str(folder / "data"), "--n", "24", "--seed", "3", "--size", "64", "--quiet"]) == 0
    arguments = ["train", "--data", str(folder / "data" / "manifest.csv"), "--classes", "normal,covid", *epoch,
                 "--epochs", str(epochs)]
    assert main([*arguments, "--out", str(folder / "whole"), "--quiet"]) == 0
    return arguments, contents(folder / "whole")


# ---- Measurements ----------------------------------------------------------------------------------------------------

def killed(folder, count, seed=0, epochs=60):
    """Kill runs (SIGKILL) at random times and resume them, until `count` kills are done; the last run ends.

    Returns
    -------
    kills, in_epochs (while it was training), lost (reported epochs that were not there afterwards), runs, identical (of
    these, to an uninterrupted run), litter (incomplete files)
    """
    from minicnn import Sequential
    arguments, whole = prepare(folder, epochs)
    chance = random.Random(seed)
    counts = dict(kills=0, in_epochs=0, lost=0, runs=0, identical=0, litter=0)
    while not counts["runs"] or counts["kills"] < count:
        run, log = Path(folder) / f"run{counts['runs']}", Path(folder) / f"log{counts['runs']}"
        code = None
        while code != 0:
            begun = (run / "config.json").exists()
            command = ["train", "--resume", str(run)] if begun else [*arguments, "--out", str(run)]
            child = start(command, log, quick=True)
            if counts["kills"] < count:
                time.sleep(chance.uniform(0, 0.4))
                os.kill(child, signal.SIGKILL)
            code, _ = wait(child)
            assert code in (0, -signal.SIGKILL), log.read_text()
            counts["kills"] += code != 0
            done = len(Sequential.load(run / "last.safetensors").history) if (run / "last.safetensors").exists() else 0
            counts["lost"] += max(0, acknowledged(log) - done)
            counts["in_epochs"] += code != 0 and 0 < done < epochs
        counts["runs"] += 1
        counts["identical"] += contents(run) == whole
        counts["litter"] += sum(path.suffix == ".tmp" for path in run.iterdir())
    return counts


def signalled(folder, count, seed=0, epochs=4):
    """Send SIGINT or SIGTERM at a random time of a run, to every third run twice; then resume it.

    Returns
    -------
    signals (that found it running), ended_first (runs that were through when it came), twice (second signals that found
    it running); of all these runs: codes_right, identical (to the run that nobody interrupted), seconds (the longest
    from the signal to the end), litter
    """
    arguments, whole = prepare(folder, epochs)
    chance = random.Random(seed)
    log = Path(folder) / "log"
    began = time.perf_counter()
    wait(start([*arguments, "--out", f"{folder}/clean"], log))
    length = time.perf_counter() - began
    counts = dict(signals=0, ended_first=0, twice=0, codes_right=0, identical=0, seconds=0.0, litter=0)
    while counts["signals"] < count:
        runs = counts["signals"] + counts["ended_first"]
        run, number = Path(folder) / f"run{runs}", (signal.SIGINT, signal.SIGTERM)[runs % 2]
        child = start([*arguments, "--out", str(run), "--threads", "2"], log)
        while not handles(child):
            time.sleep(0.001)
        time.sleep(chance.uniform(0, length))
        os.kill(child, number)
        if runs % 3 == 0:
            time.sleep(chance.uniform(0, 0.02) * (runs % 2))      # or at once: a fast run is through before long
            if not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                os.kill(child, number)
                counts["twice"] += 1
        code, seconds = wait(child)
        ended = code == 0 and (run / "metrics.json").exists()
        counts["ended_first" if ended else "signals"] += 1
        counts["codes_right"] += ended or code == 128 + number
        if not (ended or code == 128 + number):
            print(f"exit code {code} after signal {number}", log.read_text()[-1500:], file=sys.stderr)
        counts["seconds"] = round(max(counts["seconds"], seconds), 3)
        begun = (run / "config.json").exists()
        again = ["train", "--resume", str(run)] if begun else [*arguments, "--out", str(run)]
        assert wait(start(again, log, quick=True))[0] == 0, log.read_text()[-1500:]
        counts["identical"] += contents(run) == whole
        counts["litter"] += sum(path.suffix == ".tmp" for path in run.iterdir())
    return counts


def starved(folder, step=8, epochs=3):
    """Resume a run in processes that may grow by 0, `step`, 2 `step` ... MiB, until one has enough.

    Without loader threads: Python's own `Thread.start` waits forever when a new thread gets no memory.

    Returns
    -------
    starved (processes that ran out of memory), codes (their exit codes), sentences (how many said what was needed and
    what there is), lost (checkpoints that were not as before), identical (1 if the run ends as an undisturbed one)
    """
    arguments, whole = prepare(folder, epochs, ["--steps-per-epoch", "2", "--batch-size", "256", "--workers", "0"])
    gc.collect()
    run, log = Path(folder) / "run", Path(folder) / "log"
    child = start([*arguments, "--out", str(run)], log, quick=True)
    while acknowledged(log) < 1:
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    wait(child)
    counts = dict(starved=0, codes=[], sentences=0, lost=0, identical=0)
    for spare in range(0, 2000, step):
        before, attempt = contents(run), Path(folder) / f"log{spare}"
        code, _ = wait(start(["train", "--resume", str(run)], attempt, quick=True, spare=spare))
        if code == 0:
            counts["identical"] = int(contents(run) == whole)
            break
        counts["starved"] += 1
        counts["codes"].append(code)
        said = attempt.read_text()
        counts["sentences"] += "minicnn: out of memory: " in said and "this process may have" in said
        if code != 3:
            print(spare, said, file=sys.stderr)
        counts["lost"] += acknowledged(attempt) == 0 and \
            any(before[name] != contents(run)[name] for name in before if name.endswith(".safetensors"))
    return counts


def handles(process):
    """Return whether a process handles SIGTERM by now, or has ended."""
    status = Path(f"/proc/{process}/status").read_text()
    caught = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")), None)
    return "State:\tZ" in status or int(caught, 16) >> (signal.SIGTERM - 1) & 1


def resident(key="VmRSS"):
    """Return the resident memory of this process in MiB: VmRSS now, VmHWM at most so far."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith(key))) / 1024


def grown(epochs=50, predictions=1000):
    """Train COV-19Net for some epochs, then predict; return by how many MiB the process grew in each."""
    from minicnn import Adam, Callback, cov19net
    from minicnn.data.synthetic import phantom
    made = phantom.generate(n=64, seed=1)
    images = made.images[..., None].repeat(3, axis=3)
    sizes = {}

    class Watch(Callback):
        def on_epoch_end(self, model, epoch, metrics):
            sizes[epoch] = resident()

    model = cov19net(seed=1)
    model.compile(Adam(), "binary_crossentropy")
    model.fit(images, made.labels, validation=(images, made.labels), epochs=epochs, callbacks=[Watch()], progress=False)
    for _ in range(10):                 # one of the first is recorded, once (kernels/runtime/recording.py)
        model.predict(images[:1])
    before = resident()
    for i in range(predictions):
        model.predict(images[i % 64:i % 64 + 1])
    return {"training": round(sizes[epochs] - sizes[3], 2), "predicting": round(resident() - before, 2)}


def threads(count, workers):
    """Return the number of threads of this process before, at most during, and after training with `count` threads.

    Libraries have threads of their own (numba loads SciPy's OpenBLAS): training on one thread comes first.
    """
    from minicnn import Adam, Callback, cov19net, set_thread_count
    from minicnn.data import Augmentation, Manifest
    from minicnn.data.synthetic import phantom
    made = phantom.generate(n=64, seed=1)
    data = Manifest.from_arrays(made.images, made.labels, made.classes).augment(Augmentation.honest())
    live = []

    def tasks():
        return len(os.listdir("/proc/self/task"))

    class Watch(Callback):
        def on_epoch_begin(self, model, epoch):
            step = model._trainer.step
            model._trainer.step = lambda *batch: (step(*batch), live.append(tasks()))[0]

    model = cov19net(seed=1)
    model.compile(Adam(), "binary_crossentropy")
    model.fit(data, epochs=1, batch_size=32, workers=0, progress=False)
    before = tasks()
    set_thread_count(count)
    model.fit(data, epochs=1, batch_size=8, workers=workers, callbacks=[Watch()], progress=False)
    deadline = time.monotonic() + 10
    while tasks() > before + count - 1 and time.monotonic() < deadline:
        time.sleep(0.01)                    # a thread that has ended is listed for a moment
    return {"before": before, "during": max(live), "after": tasks()}


def peak(arguments):
    """Run the command line; return the peak memory of the process in MiB."""
    from minicnn.cli.main import main
    assert main(arguments) == 0
    return round(resident("VmHWM"), 1)


if __name__ == "__main__":
    print("\n" + json.dumps(globals()[sys.argv[1]](**json.loads(sys.argv[2]))))
