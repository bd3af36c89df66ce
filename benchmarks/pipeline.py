"""Augmentation: what it costs beside SciPy and OpenCV, and whether it slows training down.

    python -m benchmarks.pipeline --rounds 15

takes two minutes. Every library warps 32 grey images of 64 x 64 into 3 channels on one thread. SciPy runs as Keras'
ImageDataGenerator calls it: one affine_transform for each channel of a 3-channel float image. OpenCV warps the same
image and, in a second variant, the grey bytes, which are then copied to 3 float channels. The peers get their matrices
ready; minicnn also draws them, and shifts and clips the grey levels.
"""

import importlib.util
import sys

import numpy as np

from benchmarks.command import main
from benchmarks.measure import OURS, compare, interleave
from benchmarks.networks import COV19NET
from benchmarks.peers import minicnn_model
from benchmarks.report import absences, bar_plot, comparison, comparison_bars, number, table, threads_in_words

TITLE = "Augmentation and the input pipeline"
THREADS = "all"
BATCH = 32
MANUAL = "the same batches, prepared beforehand"


def run(options):
    import minicnn
    from minicnn.data import Augmentation, Manifest
    from minicnn.data.synthetic import phantom

    rounds = options.rounds or (3 if options.quick else 15)
    made = phantom.generate(n=4 * BATCH)
    pixels = made.images[:BATCH]
    minicnn.set_thread_count(1)
    honest, paper = Augmentation.honest(), Augmentation.paper()
    warps, absent = _peers(pixels)
    turn = iter(range(10**9))
    functions = {OURS: lambda: honest.apply(pixels, 7, next(turn), np.arange(BATCH)), **warps}
    warp = compare(interleave(functions, rounds, budget=0.1, most=100))

    model = minicnn_model(COV19NET, options.threads)
    x, t = honest.apply(pixels, 7, 0, np.arange(BATCH)), made.labels[:BATCH]
    share = interleave({"step": lambda: model.train_on_batch(x, t),
                        "honest": lambda: honest.apply(pixels, 7, next(turn), np.arange(BATCH)),
                        "paper": lambda: paper.apply(pixels, 7, next(turn), np.arange(BATCH))}, rounds)

    steps = 10 if options.quick else 50
    loader = Manifest.from_arrays(made.images, made.labels, ("normal", "covid")).augment(honest).open()
    everything = np.arange(len(loader)).reshape(-1, BATCH)
    ready = [(loader.batch(samples, np.full(BATCH, i), seed=1), loader.labels[samples])
             for i in range(3) for samples in everything]

    def prepared():
        # Not one batch alone: a network that fits it has few nonzero gradients, and its steps become faster.
        for i in range(steps):
            model.train_on_batch(*ready[i % len(ready)])

    def epoch(workers):
        return lambda: model.fit(loader, epochs=1, batch_size=BATCH, steps_per_epoch=steps, workers=workers,
                                 progress=False)

    functions = {f"fit, augmented, workers={workers}": (epoch(workers), steps) for workers in (0, 1, 2)}
    epochs = interleave({MANUAL: (prepared, steps), **functions}, rounds, budget=0.01, warm=1)
    return {"warp": warp, "absent": absent, "share": {name: float(np.median(s["rounds"])) for name, s in share.items()},
            "epochs": compare(epochs, MANUAL)}


def _peers(pixels):
    """Return ({name: function that warps the batch}, {name of a missing one: why})."""
    from minicnn.data.augmentation import affine_matrices

    N, H, W = pixels.shape
    rng, there, absent = np.random.default_rng(0), {}, {}
    matrices = affine_matrices(H, W, rotation=rng.uniform(-10, 10, N), zoom=rng.uniform(0.9, 1.1, N),
                               right=rng.uniform(-3, 3, N), up=rng.uniform(-3, 3, N))
    images = np.repeat(pixels[..., np.newaxis], 3, axis=3) / np.float32(255)
    out = np.empty_like(images)
    if importlib.util.find_spec("scipy"):
        from scipy.ndimage import affine_transform

        def scipy():
            for image, matrix, result in zip(images, matrices, out):
                result[...] = np.stack([affine_transform(image[..., c], matrix[:, :2], matrix[:, 2], order=1,
                                                         mode="nearest") for c in range(3)], axis=-1)
        there["SciPy, as in ImageDataGenerator"] = scipy
    else:
        absent["SciPy"] = "scipy not installed"
    if importlib.util.find_spec("cv2"):
        import cv2

        cv2.setNumThreads(1)
        flags = {"flags": cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, "borderMode": cv2.BORDER_REPLICATE}
        # OpenCV puts columns before rows.
        turned = np.ascontiguousarray(matrices[:, ::-1][:, :, [1, 0, 2]])

        def opencv():
            for image, matrix, result in zip(images, turned, out):
                cv2.warpAffine(image, matrix, (W, H), dst=result, **flags)

        def opencv_bytes():
            for image, matrix, result in zip(pixels, turned, out):
                np.divide(cv2.warpAffine(image, matrix, (W, H), **flags)[..., np.newaxis], np.float32(255), out=result)
        there |= {"OpenCV, float32, 3 channels": opencv, "OpenCV, grey bytes, then copied": opencv_bytes}
    else:
        absent["OpenCV"] = "opencv-python-headless not installed"
    return there, absent


def report(results):
    threads, result = next(iter(results.items()))
    share = result["share"]
    slower = [[f"{100 * (row[key] - 1):+.1f}" for key in ("ratio", "low", "high")] for row in result["epochs"]]
    rows = [[row["name"], number(row["median"])] + (["", ""] if row["name"] == MANUAL else
                                                    [f"{middle} %", f"{low} .. {high} %"])
            for row, (middle, low, high) in zip(result["epochs"], slower)]
    costs = {name: f"{number(share[name])} ms ({100 * share[name] / share['step']:.1f} % of the step)"
             for name in ("honest", "paper")}
    return "\n".join([
        "32 grey images of 64 x 64: rotation, zoom and shift, into 3 channels of float32, on one thread:\n",
        comparison(result["warp"]), absences(result["absent"]),
        f"A training step takes {number(share['step'])} ms ({threads_in_words(threads)}). Augmenting its batch takes "
        f"{costs['honest']} with `Augmentation.honest()`, {costs['paper']} with `Augmentation.paper()`.\n",
        "A step of `model.fit` with augmentation, and of `train_on_batch` on batches augmented beforehand:\n",
        table(["", "ms a step", "slower by", "quartiles"], rows)])


def draw(results, folder):
    rows = next(iter(results.values()))["warp"]
    panel = ("Augmenting 32 images on one thread", "ms (white mark: the best)", comparison_bars(rows))
    bar_plot(folder / "augmentation.png", [panel], 7)
    return [("augmentation.png", "Milliseconds to augment a batch, by library")]


if __name__ == "__main__":
    main(sys.modules[__name__])
