"""Finding copies in a collection: how long it takes, and how many of each kind are found. Writes COPIES.md.

    python -m benchmarks.copies                         1,000, 6,000 and 20,000 synthetic images
    python -m benchmarks.copies --sizes 100000          another number; the other figures stay
    PYTHONSAFEPATH=1 PYTHONPATH=OLD:. python -m benchmarks.copies --version before      another checkout of minicnn

Each collection has a copy of every hundredth image. The images are in memory, as they are decoded, and a search begins
without a kept result.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageFilter

HERE = Path(__file__).parent
_SIZES, _SEED, _OF_EACH, _SIDE = (1000, 6000, 20000), 7, 30, 128


def _jpeg(image):
    file = BytesIO()
    image.save(file, "JPEG", quality=40)
    return Image.open(file)


def _cut(share):
    return lambda image: image.crop([round(share * _SIDE)] * 2 + [round((1 - share) * _SIDE)] * 2)


def _tagged(image):
    image = image.copy()
    image.paste(250, (2, 2, 2 + _SIDE // 10, 2 + _SIDE // 10))
    return image


def _mirrored(image):
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def _turned(degrees):
    return lambda image: image.rotate(degrees, Image.Resampling.BILINEAR)


KINDS = {"saved as JPEG, quality 40": _jpeg, "half the size": lambda image: image.resize((_SIDE // 2, _SIDE // 2)),
         "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(1)),
         "darker": lambda image: image.point([round(0.7 * v) for v in range(256)]), "tagged": _tagged,
         "cut by 3 %": _cut(0.03), "cut by 5 %": _cut(0.05), "turned by 5 degrees": _turned(5),
         "moved by 2 %": lambda image: ImageChops.offset(image, round(0.02 * _SIDE), 0), "mirrored": _mirrored,
         "mirrored, turned by 3 degrees": lambda image: _turned(3)(_mirrored(image)),
         "mirrored, cut by 4 %": lambda image: _cut(0.04)(_mirrored(image))}


def render(numbers, size=64):
    """Return synthetic radiographs, each of a patient of its own."""
    from minicnn.data.synthetic.radiograph import render
    return np.stack([render(_SEED, number, number, number % 2 == 1, size) for number in numbers])


def collection(n):
    """Return n images, of which the last hundredth are copies, darker or mirrored, of others."""
    own = n - n // 100
    with ProcessPoolExecutor() as pool:
        images = np.concatenate(list(pool.map(render, np.array_split(np.arange(own), 64))))
    copies = images[99 * np.arange(n - own)] * 0.8
    copies[::2] = copies[::2, :, ::-1]
    return np.concatenate([images, copies.astype(np.uint8)])


def measure_time(n):
    """Return the seconds of a search, those of the processor, those of a second search, and the copies found."""
    from minicnn.data.near_duplicates import find_pairs
    from minicnn.data.pixel_cache import MemoryPixels

    pixels, times, load = MemoryPixels(collection(n)), [], os.getloadavg()[0]
    for _ in range(2):
        start, worked = time.perf_counter(), time.process_time()
        pairs = find_pairs(pixels)
        times.append((time.perf_counter() - start, time.process_time() - worked))
    return {"first": times[0][0], "processor": times[0][1], "again": times[1][0], "planted": n // 100,
            "found": len(pairs), "load": load}


def measure_kinds():
    """Return {kind: how many of `_OF_EACH` copies are found}, and the pairs that are none."""
    from minicnn.data.near_duplicates import find_pairs
    from minicnn.data.pixel_cache import MemoryPixels
    from minicnn.data.preprocessing import Preprocessing, resize

    originals = [Image.fromarray(image) for image in render(np.arange(len(KINDS) * _OF_EACH), _SIDE)]
    copies = [change(originals[k * _OF_EACH + i]) for k, change in enumerate(KINDS.values()) for i in range(_OF_EACH)]
    how = Preprocessing(64, 64, 1)
    pixels = MemoryPixels(np.stack([resize(np.array(image), how) for image in originals + copies]))
    n, found = len(originals), dict.fromkeys(KINDS, 0)
    right = [pair.first for pair in find_pairs(pixels) if pair.second == pair.first + n]
    for number in right:
        found[list(KINDS)[number // _OF_EACH]] += 1
    return found | {"pairs of different images": len(find_pairs(pixels)) - len(right)}


def report(stored):
    """Return COPIES.md."""
    versions = list(stored)
    sizes = sorted({int(n) for told in stored.values() for n in told["times"]})
    lines = ["# Finding copies", "", "`python -m benchmarks.copies` writes this page.", "",
             "| images, copies planted |" + "".join(f" {name}: seconds (processor; again) | found |"
                                                    for name in versions),
             "| --- |" + " ---: | ---: |" * len(versions)]
    for n in sizes:
        cells = [stored[name]["times"].get(str(n)) for name in versions]
        lines.append(f"| {n:,}, {n // 100:,} |" + "".join(
            " | |" if cell is None else
            f" {cell['first']:.1f} ({cell['processor']:.1f}; {cell['again']:.2f}) | {cell['found']:,} |"
            for cell in cells))
    lines += ["", f"| copies found, of {_OF_EACH} each |" + "".join(f" {name} |" for name in versions),
              "| --- |" + " ---: |" * len(versions)]
    for kind in [*KINDS, "pairs of different images"]:
        lines.append(f"| {kind} |" + "".join(f" {stored[name]['kinds'].get(kind, '')} |" for name in versions))
    lines += ["", "; ".join(f"{name}: {stored[name]['machine']}" for name in versions) + ". Other programs ran too if "
              "the processor's seconds are far below the cores' share.", ""]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser("python -m benchmarks.copies", description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=_SIZES)
    parser.add_argument("--version", default="now", help="the heading of its columns")
    parser.add_argument("--one", help=argparse.SUPPRESS)        # a measurement of its own process: a size, or kinds
    chosen = parser.parse_args()
    if chosen.one is not None:
        print(json.dumps(measure_kinds() if chosen.one == "kinds" else measure_time(int(chosen.one))))
        return
    stored_in = HERE / "copies.json"
    stored = json.loads(stored_in.read_text()) if stored_in.exists() else {}
    told = stored.setdefault(chosen.version, {"times": {}, "kinds": {}})
    told["machine"] = f"{os.cpu_count()} cores, Python {platform.python_version()}, NumPy {np.__version__}"
    for what in ["kinds", *map(str, chosen.sizes)]:
        with tempfile.TemporaryDirectory() as cache:        # no kept result
            done = subprocess.run([sys.executable, "-m", "benchmarks.copies", "--one", what], check=True, text=True,
                                  stdout=subprocess.PIPE, env=os.environ | {"MINICNN_CACHE_DIR": cache})
        result = json.loads(done.stdout)
        print(what, result, file=sys.stderr, flush=True)
        if what == "kinds":
            told["kinds"] = result
        else:
            told["times"][what] = result
        stored_in.write_text(json.dumps(stored, indent=1) + "\n")
        (HERE / "COPIES.md").write_text(report(stored))


if __name__ == "__main__":
    main()
