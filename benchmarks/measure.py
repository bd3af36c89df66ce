"""Time functions in turns, so that a ratio compares times of the same minute.

The speed of a shared machine changes from one second to the next, by a factor of two and more. Times measured one
library after another say little. Times measured A B C A B C ... can be compared within each round:

    ratio of a round = (median time of the peer in this round) / (median time of ours in this round)
    ratio            = median over the rounds, with the quartiles beside it

The worker threads of frameworks spin on after the last operation, ONNX Runtime's for 40 ms. They would take a core from
the next library, so there is a pause between two turns.
"""

import importlib.metadata
import os
import platform
import re
import time
from datetime import date
from functools import partial
from typing import Callable, NamedTuple

import numpy as np

__all__ = ["OURS", "PAUSE", "cores", "settle", "machine", "slug", "Disturbance", "Turns", "timed", "interleave",
           "compare", "fastest"]

OURS = "minicnn"
PAUSE = 0.06            # seconds between two turns
_PACKAGES = ["minicnn", "numpy", "numba", "torch", "tensorflow", "tensorflow_cpu", "keras", "jax", "onnxruntime",
             "openvino", "ai-edge-litert", "scipy", "opencv-python-headless", "mpi4py", "mpich"]
_CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def cores():
    """Return the number of cores that this process may use."""
    return len(_CORES)


def settle(threads):
    """Limit this process and every library to `threads` threads; call it before any of them is imported."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "MINICNN_THREADS"):
        os.environ[name] = str(threads)
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow", "JAX_PLATFORMS": "cpu"}
    # JAX has no setting for its threads: it starts one for each core of the process.
    if threads < len(_CORES) and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, _CORES[:threads])


def machine():
    """Return what the results depend on: {"date", "cpu", "cores", "system", "versions"}."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    if OURS not in versions:        # a clone that is not installed
        import minicnn
        versions[OURS] = minicnn.__version__
    return {"date": date.today().isoformat(), "cpu": _cpu(), "cores": cores(),
            "system": f"{platform.system()} {platform.machine()}", "versions": versions}


class Disturbance:
    """The share of all cores that other programs used during the measurement, or None where unknown."""

    def __init__(self):
        self._before = self._now()

    def share(self):
        before, now = self._before, self._now()
        if before is None or now is None:
            return None
        (elapsed, busy, own), count = (b - a for a, b in zip(before, now)), os.cpu_count() or 1
        return max(0.0, (busy - own) / (elapsed * count))

    @staticmethod
    def _now():
        """Return (time, busy seconds of all cores and the host, seconds of this process and its children)."""
        try:
            with open("/proc/stat", encoding="ascii") as file:
                user, nice, system, _, _, *rest = (int(field) for field in file.readline().split()[1:9])
        except (OSError, ValueError):
            return None
        return (time.perf_counter(), (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK"), sum(os.times()[:4]))


def _cpu():
    """Return the name of the CPU; one without a number, such as "AMD EPYC", is said with its family and model."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            facts = dict(map(str.strip, line.split(":", 1)) for line in file.read().split("\n\n")[0].splitlines())
        name = facts["model name"]
    except (OSError, KeyError, ValueError):
        return platform.processor() or "unknown CPU"
    if re.search(r"\d{3}", name) or "cpu family" not in facts:
        return name
    return f"{name} (family {facts['cpu family']}, model {facts['model']})"


def slug(cpu):
    """Return the name of a CPU as that of a file.

    >>> slug("AMD EPYC (family 25, model 17)")
    'amd-epyc-family-25-model-17'
    """
    return re.sub("[^a-z0-9]+", "-", cpu.lower()).strip("-")


class Turns(NamedTuple):
    """A contestant of `interleave` that takes its times itself: `times` is a function of the number of calls."""

    times: Callable


def interleave(functions, rounds, budget=0.25, most=30, warm=2, pause=PAUSE):
    """Time every function in every round.

    Parameters
    ----------
    functions : dict from name to callable, or to (callable, units) where one call does `units` of what is timed, or to
        Turns
    rounds : int
    budget : float, seconds for one function in one round; it is called at least once and at most `most` times

    Returns
    -------
    dict from name to {"rounds": the median of each round, "best": the shortest time of all}, milliseconds a unit
    """
    take, units, repeats = {}, {}, {}
    for name, function in functions.items():
        call, units[name] = function if type(function) is tuple else (function, 1)
        take[name] = call.times if isinstance(call, Turns) else partial(timed, call)
        repeats[name] = int(np.clip(budget / min(take[name](warm)), 1, most))
        time.sleep(pause)
    medians, best = {name: [] for name in take}, dict.fromkeys(take, float("inf"))
    for _ in range(rounds):
        for name in take:
            times = take[name](repeats[name])
            medians[name].append(1e3 * float(np.median(times)) / units[name])
            best[name] = min(best[name], 1e3 * min(times) / units[name])
            time.sleep(pause)
    return {name: {"rounds": medians[name], "best": best[name]} for name in take}


def timed(call, count, sleep=0):
    """Return the seconds of each of `count` calls, each after `sleep` seconds of sleep."""
    times = []
    for _ in range(count):
        if sleep:           # even no seconds of it let the core go, and a call of 40 us would take 60
            time.sleep(sleep)
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times


def compare(times, ours=OURS):
    """Return a row for each function of `interleave`: minicnn first, then the others from the fastest to the slowest.

    A row is {"name", "median", "best" (milliseconds), "ratio", "low", "high" (median and quartiles over the rounds of
    their time over minicnn's), "best_ratio"}: above 1 where minicnn is faster.
    """
    base, rows = times[ours], []
    for name, measured in times.items():
        ratios = np.array(measured["rounds"]) / np.array(base["rounds"])
        low, ratio, high = np.percentile(ratios, [25, 50, 75])
        rows.append({"name": name, "median": float(np.median(measured["rounds"])), "best": measured["best"],
                     "ratio": float(ratio), "low": float(low), "high": float(high),
                     "best_ratio": measured["best"] / base["best"]})
    return sorted(rows, key=lambda row: (row["name"] != ours, row["ratio"]))


def fastest(rows):
    """Return the row of the fastest peer, or None without peers."""
    return next((row for row in rows if row["name"] != OURS), None)
