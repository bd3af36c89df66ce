"""Accidents of files: a full disk, kill -9, a flipped bit, a truncated file, for each way to save.

Everything runs in forked children; the parent never computes with TensorFlow, whose threads a child would lack.
"""

import itertools
import mmap
import os
import random
import signal
import tempfile
import time
import traceback
from pathlib import Path
from typing import Callable, NamedTuple

import numpy as np

from benchmarks.measure import OURS
from benchmarks.reliability.children import counted, fork, outcomes
from benchmarks.reliability.disk_faults import mount_small_disk

__all__ = ["Library", "LIBRARIES", "full_disk", "kills", "flips", "truncations"]

OLD, DISK = 250_000, 3          # float32 numbers in the old file: 1 MB; size of the disk in megabytes


class Library(NamedTuple):
    """A way to keep weights in a file: `save(path, value, size)` and `load(path, size)` of `size` equal float32."""

    modules: tuple
    suffix: str
    open: Callable      # () -> (save, load); imports


# ---- Ways to save ----------------------------------------------------------------------------------------------------

def _minicnn():
    from minicnn import weights

    return (lambda path, value, size: weights.save(path, {"w": _filled(value, size)}, {}),
            lambda path, size: weights.load(path)[0]["w"])


def _numpy():
    def load(path, size):
        with np.load(path) as file:
            return file["w"]
    return lambda path, value, size: np.savez(path, w=_filled(value, size)), load


def _torch():
    import torch

    return (lambda path, value, size: torch.save({"w": torch.from_numpy(_filled(value, size))}, path),
            lambda path, size: torch.load(path)["w"].numpy())


def _safetensors():
    from safetensors.numpy import load_file, save_file

    return (lambda path, value, size: save_file({"w": _filled(value, size)}, path),
            lambda path, size: load_file(path)["w"])


def _keras(whole):
    import keras
    models = {}

    def model(size):
        if size not in models:
            layer = keras.layers.Dense(size // 1000, use_bias=False)
            models[size] = keras.Sequential([keras.Input((1000,)), layer])
        return models[size]

    def save(path, value, size):
        model(size).set_weights([_filled(value, size).reshape(1000, -1)])
        model(size).save(path) if whole else model(size).save_weights(path)

    def load(path, size):
        if whole:
            return keras.models.load_model(path).get_weights()[0].ravel()
        model(size).load_weights(path)
        return model(size).get_weights()[0].ravel()
    return save, load


def _filled(value, size):
    return np.full(size, value, np.float32)


LIBRARIES = {
    OURS: Library((), ".safetensors", _minicnn),
    "NumPy savez": Library((), ".npz", _numpy),
    "PyTorch save": Library(("torch",), ".pt", _torch),
    "Keras save": Library(("keras", "tensorflow"), ".keras", lambda: _keras(True)),
    "Keras save_weights": Library(("keras", "tensorflow"), ".weights.h5", lambda: _keras(False)),
    "safetensors": Library(("safetensors",), ".safetensors", _safetensors),
}


# ---- Accidents -------------------------------------------------------------------------------------------------------

def held(load, path, values):
    """Return which of {value: size} the file at `path` holds, or None where it cannot be loaded or holds none."""
    for value, size in values.items():
        try:
            if np.array_equal(load(path, size), _filled(value, size)):
                return value
        except Exception:
            continue
    return None


def full_disk(library, n, seed=0):
    """Save 4 to 8 MB over a file of 1 MB, on a disk of 3 MB.

    Returns
    -------
    dict: n, old (the old file loads), new (the new one), lost (neither), silent (without an error), said
    """
    save, load = library.open()
    sizes = random.Random(seed)
    draws = [1000 * sizes.randint(1000, 2000) for _ in range(n)]

    def judge(i, disk):
        if not mount_small_disk(disk, DISK):
            return "not allowed"
        path = disk / f"w{library.suffix}"
        save(path, 1, OLD)
        assert held(load, path, {1: OLD}) == 1
        said = "silent"
        try:
            save(path, 2, draws[i])
        except Exception as error:
            said = f"{type(error).__name__}: {error}".replace(f"{disk}/", "").splitlines()[0]
            said = said.partition(" (file write failed: ")[0]       # HDF5 adds details, with the time
        fate = {1: "old", 2: "new", None: "lost"}[held(load, path, {1: OLD, 2: draws[i]})]
        return f"{fate} {said}"

    found = []
    for i in range(n):      # each in a child of its own, which takes the disk with it
        with tempfile.TemporaryDirectory() as disk:
            found += outcomes(lambda _: judge(i, Path(disk)), 1)
    if "not allowed" in found:
        raise SystemExit("needs user namespaces to mount a small disk, which are not allowed here")
    fates, said = zip(*(one.partition(" ")[::2] for one in found))
    return counted(fates, "old", "new", "lost", "crashed") | {"silent": said.count("silent"), "said": said[0][:200]}


def kills(library, n, seed=0, size=1_000_000):
    """Kill (-9) a process that saves 4 MB again and again, at random moments.

    Returns
    -------
    dict: n, whole (the last file that was saved, or the one being saved, loads), lost, mid_save (killed within a save)
    """
    save, load = library.open()
    moments = random.Random(seed)
    found, within = [], 0
    for first in range(0, n, 10):       # ten files are kept at a time
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / f"{i}{library.suffix}" for i in range(min(10, n - first))]
            counts = [_killed(save, path, size, moments) for path in paths]
            within += sum(begun != done for begun, done in counts)

            def judge(i):
                values = dict.fromkeys(counts[i], size)
                return "lost" if held(load, paths[i], values) is None else "whole"
            found += outcomes(judge, len(paths))
    return counted(found, "whole", "lost", "crashed", "hung") | {"mid_save": within}


def _killed(save, path, size, moments):
    """Kill a child that saves 1, 2, 3, ... to `path`, after its second save; return the last numbers (begun, done)."""
    numbers = np.frombuffer(mmap.mmap(-1, 24), np.int64)        # begun, done, nanoseconds of the last save
    child = fork()
    if child == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            for number in itertools.count(1):
                numbers[0], start = number, time.perf_counter_ns()
                save(path, number, size)
                numbers[1:] = number, time.perf_counter_ns() - start
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    try:
        while numbers[1] < 2:
            time.sleep(0.0005)
            if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                raise RuntimeError("saving failed; its error is on stderr")
        time.sleep(moments.uniform(0, 1.5e-9 * numbers[2]))        # within the third save, or the next
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return int(numbers[0]), int(numbers[1])


def _damaged(library, n, change, seed, size):
    """Load n damaged copies of a file: how many are detected, load unchanged, or load with wrong numbers?"""
    save, load = library.open()
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        good, bad = (Path(folder) / f"{name}{library.suffix}" for name in ("good", "bad"))
        assert outcomes(lambda _: (save(good, 7, size), "saved")[1], 1) == ["saved"]
        content = good.read_bytes()
        contents = [change(content, draw) for _ in range(n)]

        def judge(i):
            bad.write_bytes(contents[i])
            try:
                return "same" if np.array_equal(load(bad, size), _filled(7, size)) else "changed"
            except Exception:
                return "noticed"
        return counted(outcomes(judge, n), "noticed", "same", "changed", "crashed", "hung") | {"bytes": len(content)}


def flips(library, n, seed=0, size=10_000):
    """Flip one bit of a file of 40 KB and load it.

    Returns
    -------
    dict: n, noticed (an error), same (loaded unchanged), changed (loaded with wrong numbers), crashed, hung, bytes
    """
    def change(content, draw):
        content = bytearray(content)
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        return bytes(content)
    return _damaged(library, n, change, seed, size)


def truncations(library, n, seed=0, size=10_000):
    """Truncate a file of 40 KB and load it; returns the same as `flips`."""
    return _damaged(library, n, lambda content, draw: content[:draw.randrange(len(content))], seed, size)
