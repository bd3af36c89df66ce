"""Measure callables in turns, so that a ratio compares times of the same minute.

A shared machine changes its speed from one second to the next, by a factor of two and more. Times measured one
contestant after another say little; times measured A B C A B C ... do, if each round is compared within itself. So:

    ratio of a round = (median time of the peer in this round) / (median time of ours in this round)
    ratio            = median over the rounds, with the quartiles beside it

Frameworks keep their worker threads spinning for some milliseconds after the last operation, to be quick at the next
one. They would take a core from whoever comes next, so there is a pause between two contestants' turns.
"""

import importlib.metadata
import os
import platform
import time
from datetime import date

import numpy as np

__all__ = ["OURS", "COLOUR", "PAUSE", "cores", "settle", "machine", "Disturbance", "interleave", "compare", "compare_both",
           "fastest"]

OURS = "minicnn"
COLOUR = "minicnn, in colour"   # the same, of images that are not grey: minicnn computes more for those, the peers do not
PAUSE = 0.02            # seconds between two contestants
_PACKAGES = ["minicnn", "numpy", "numba", "torch", "tensorflow", "tensorflow_cpu", "keras", "jax", "onnxruntime",
             "scipy", "opencv-python-headless"]
_CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def cores():
    """Return how many cores this process was given."""
    return len(_CORES)


def settle(threads):
    """Give this process `threads` cores and tell every library the same number; before any of them is imported."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "MINICNN_THREADS"):
        os.environ[name] = str(threads)
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow", "JAX_PLATFORMS": "cpu"}
    # JAX has no setting for its threads: it takes one for each core that it may use.
    if threads < len(_CORES) and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, _CORES[:threads])


def machine():
    """Return what the figures depend on: {"date", "cpu", "cores", "system", "versions"}."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    if OURS not in versions:        # run from a clone, not installed
        import minicnn
        versions[OURS] = minicnn.__version__
    return {"date": date.today().isoformat(), "cpu": _cpu(), "cores": cores(),
            "system": f"{platform.system()} {platform.machine()}", "versions": versions}


class Disturbance:
    """How much of the machine others used while we measured: a share of all its cores, or None where unknown."""

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
        """Return (time, seconds in which any core was busy or taken by the host, our own and our children's)."""
        try:
            with open("/proc/stat", encoding="ascii") as file:
                user, nice, system, _, _, *rest = (int(field) for field in file.readline().split()[1:9])
        except (OSError, ValueError):
            return None
        return (time.perf_counter(), (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK"), sum(os.times()[:4]))


def _cpu():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown CPU"


def interleave(contestants, rounds, budget=0.25, most=30, warm=2, pause=PAUSE):
    """Time every contestant in every round.

    Parameters
    ----------
    contestants : dict from name to callable, or to (callable, units) where one call does `units` of what is timed
    rounds : int
    budget : float, seconds that one contestant has in one round; it is called at least once, at most `most` times

    Returns
    -------
    dict from name to {"rounds": the median of each round, "best": the shortest time of all}, milliseconds a unit
    """
    calls, units, repeats = {}, {}, {}
    for name, contestant in contestants.items():
        calls[name], units[name] = contestant if isinstance(contestant, tuple) else (contestant, 1)
        times = _times(calls[name], warm)
        repeats[name] = int(np.clip(budget / min(times), 1, most))
        time.sleep(pause)
    medians, best = {name: [] for name in calls}, dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, call in calls.items():
            times = _times(call, repeats[name])
            medians[name].append(1e3 * float(np.median(times)) / units[name])
            best[name] = min(best[name], 1e3 * min(times) / units[name])
            time.sleep(pause)
    return {name: {"rounds": medians[name], "best": best[name]} for name in calls}


def _times(call, count):
    times = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times


def compare(times, ours=OURS):
    """Return a row for each contestant of `interleave`, ours first, then the others from the fastest to the slowest.

    A row is {"name", "median", "best" (milliseconds), "ratio", "low", "high" (median and quartiles over the rounds of
    their time over ours), "best_ratio"}: above 1 where ours is the faster.
    """
    base, rows = times[ours], []
    for name, measured in times.items():
        ratios = np.array(measured["rounds"]) / np.array(base["rounds"])
        low, ratio, high = np.percentile(ratios, [25, 50, 75])
        rows.append({"name": name, "median": float(np.median(measured["rounds"])), "best": measured["best"],
                     "ratio": float(ratio), "low": float(low), "high": float(high),
                     "best_ratio": measured["best"] / base["best"]})
    return sorted(rows, key=lambda row: (row["name"] != ours, row["ratio"]))


def compare_both(times):
    """Return `compare` of minicnn with grey images, and of minicnn with coloured ones, against the same peers."""
    return compare(times), compare({name: measured for name, measured in times.items() if name != OURS}, COLOUR)


def fastest(rows):
    """Return the row of the fastest peer, or None where all are absent."""
    return next((row for row in rows if row["name"] not in (OURS, COLOUR)), None)
