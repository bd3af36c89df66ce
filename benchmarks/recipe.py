"""The paper's recipe as a whole process: from the start of Python to the weights on the disk.

    python -m benchmarks.recipe --epochs 20

takes about fifteen minutes. 820 synthetic radiographs are stored beforehand in a .npy file; each library reads it,
trains COV-19Net for 20 epochs of 100 steps of 32 with augmentation (rotation up to 20 degrees, zoom 0.8 to 1.2, shear
up to 15 degrees, flips in both directions, brightness up to 0.1) and writes its weights. Keras reads its images from
the ImageDataGenerator, which the authors used, or from tf.data with Keras' augmentation layers. minicnn's kernels are
cached already.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.command import main
from benchmarks.measure import OURS, settle
from benchmarks.processes import measure_process
from benchmarks.report import Bar, absences, bar_plot, number, table, threads_in_words

TITLE = "The whole recipe"
THREADS = "all"
BATCH, STEPS = 32, 100


# ---- The libraries, each in a process of its own ---------------------------------------------------------------------

def minicnn(images, labels, epochs, steps, file, threads):
    from minicnn import Adam, cov19net
    from minicnn.data import ArrayDataset, Augmentation

    augmentation = Augmentation(rotation=20, zoom=0.2, shear=15, intensity=0.1, vertical_flip=True,
                                horizontal_flip=True)
    model = cov19net(seed=7)
    model.compile(Adam(learning_rate=1e-3), loss="binary_crossentropy")
    data = ArrayDataset(np.repeat(images[..., np.newaxis], 3, axis=3), augmentation=augmentation)
    history = model.fit(data, labels, epochs=epochs, steps_per_epoch=steps, batch_size=BATCH, progress=False)
    model.save(file.with_suffix(".safetensors"))
    return history.metrics["loss"][-1]


def generator(images, labels, epochs, steps, file, threads):
    from benchmarks.networks import COV19NET
    from benchmarks.peers import keras_model
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    model = keras_model(COV19NET, threads)
    augmentation = ImageDataGenerator(rotation_range=20, zoom_range=0.2, shear_range=15, vertical_flip=True,
                                      horizontal_flip=True, channel_shift_range=25.5, rescale=1 / 255)
    flow = augmentation.flow(np.repeat(images[..., np.newaxis], 3, axis=3), labels[:, np.newaxis], batch_size=BATCH)

    def batches():                      # full ones, without end
        while True:
            x, t = next(flow)
            if len(x) == BATCH:
                yield x, t

    history = model.fit(batches(), epochs=epochs, steps_per_epoch=steps, verbose=0)
    model.save_weights(file.with_suffix(".weights.h5"))
    return history.history["loss"][-1]


def layers(images, labels, epochs, steps, file, threads):
    from benchmarks.networks import COV19NET
    from benchmarks.peers import keras_model

    model = keras_model(COV19NET, threads)
    import keras
    import tensorflow as tf

    augmentation = keras.Sequential([
        keras.layers.RandomFlip(), keras.layers.RandomRotation(20 / 360, fill_mode="nearest"),
        keras.layers.RandomZoom(0.2, fill_mode="nearest"),
        keras.layers.RandomShear(np.tan(np.radians(15)), fill_mode="nearest"),
        keras.layers.RandomBrightness(0.1, value_range=(0, 1))])

    def prepare(x, t):
        x = augmentation(tf.cast(x, tf.float32)[..., tf.newaxis] / 255, training=True)
        return tf.repeat(x, 3, axis=3), t

    data = tf.data.Dataset.from_tensor_slices((images, labels[:, np.newaxis])).shuffle(len(images)).repeat()
    data = data.batch(BATCH).map(prepare, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    history = model.fit(data, epochs=epochs, steps_per_epoch=steps, verbose=0)
    model.save_weights(file.with_suffix(".weights.h5"))
    return history.history["loss"][-1]


LIBRARIES = {OURS: minicnn, "Keras, ImageDataGenerator": generator, "Keras, tf.data and layers": layers}


def child(arguments):
    """Train with one of the libraries; print the loss of the last epoch."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=LIBRARIES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("epochs", type=int)
    parser.add_argument("steps", type=int)
    parser.add_argument("threads", type=int)
    chosen = parser.parse_args(arguments)
    settle(chosen.threads)
    images, labels = np.load(chosen.folder / "images.npy"), np.load(chosen.folder / "labels.npy")
    train, file = LIBRARIES[chosen.name], chosen.folder / "weights"
    print(json.dumps(float(train(images, labels, chosen.epochs, chosen.steps, file, chosen.threads))))


# ---- The benchmark ---------------------------------------------------------------------------------------------------

def run(options):
    from minicnn.data.synthetic import phantom

    epochs, steps = options.epochs or (2 if options.quick else 20), 10 if options.quick else STEPS
    measured, absent = {name: [] for name in LIBRARIES}, {}
    with tempfile.TemporaryDirectory() as folder:
        made = phantom.generate(n=820, seed=1)
        np.save(Path(folder) / "images.npy", made.images)
        np.save(Path(folder) / "labels.npy", made.labels)
        for repeat in range(1 + (options.rounds or (1 if options.quick else 3))):
            for name in LIBRARIES:
                if name in absent:
                    continue
                # The first run is short and not counted: it brings files into memory and kernels into the cache.
                arguments = (1, 2) if repeat == 0 else (epochs, steps)
                try:
                    process = measure_process("-m", "benchmarks.recipe", "child", name, folder, *arguments,
                                              options.threads)
                except RuntimeError as error:
                    if name == OURS:
                        raise
                    absent[name] = str(error)
                    continue
                if repeat > 0:
                    measured[name].append(process)
    return {"measured": {name: processes for name, processes in measured.items() if processes}, "absent": absent,
            "epochs": epochs, "steps": steps}


def _median(processes, what):
    return float(np.median([process[what] for process in processes]))


def report(results):
    threads, result = next(iter(results.items()))
    measured, ours, rows = result["measured"], result["measured"][OURS], []
    for name, processes in measured.items():
        cells = [name]
        for what in ("wall", "processor", "memory"):
            value, base = _median(processes, what), _median(ours, what)
            cells += [number(value), "1" if name == OURS else f"{value / base:.2f}"]
        rows.append([*cells, f"{_median(processes, 'output'):.3f}"])
    return (f"{result['epochs']} epochs of {result['steps']} steps of {BATCH}, {threads_in_words(threads)}, medians of "
            f"{len(ours)} interleaved run{'s' if len(ours) > 1 else ''}; each value with its ratio to minicnn's.\n\n"
            + table(["", "wall, s", "ratio", "processor, s", "ratio", "memory, MB", "ratio", "last loss"], rows)
            + absences(result["absent"]))


def draw(results, folder):
    measured = next(iter(results.values()))["measured"]
    panels = []
    for what, label in (("wall", "wall time, s"), ("processor", "processor time (user + system), s")):
        medians = {name: _median(processes, what) for name, processes in measured.items()}
        panels.append(("", label, [Bar(name, value, number(value)) for name, value in medians.items()]))
    bar_plot(folder / "recipe.png", panels, 10)
    return [("recipe.png", "Seconds of the whole recipe, by library")]


if __name__ == "__main__":
    child(sys.argv[2:]) if sys.argv[1:2] == ["child"] else main(sys.modules[__name__])
