"""Collections of synthetic chest radiographs: generated in memory from a seed, or written as files with a manifest.

They replace real radiographs in a first run, in teaching and in tests. The task is the paper's, normal against
COVID-19, on a collection of its size: 820 images of 540 patients. There are no confounders by construction: the label
is in the lungs alone. File names and sizes, order, borders, letters, exposure, pose, wires, views and the number of
images of a patient are drawn independently of it.

`radiograph.py` draws the single image.
"""

import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minicnn.core import random
from minicnn.core.arguments import Whole, check
from minicnn.core.untrusted import write_csv
from minicnn.data.synthetic.radiograph import SIZE, render, view
from minicnn.errors import CheckpointError, InputError, printable

__all__ = ["CLASSES", "Phantoms", "generate", "write", "render"]

CLASSES = ("normal", "covid")

_COLLECTION = 0         # the `epoch` word of our random numbers; those of `radiograph.py` have others
_FOLLOW_UPS = 0.03      # of the further normal images, the fraction that shows a patient before or after COVID-19


class Phantoms(NamedTuple):
    """A collection in memory; image i shows a `classes[labels[i]]`."""

    images: np.ndarray      # (n, size, size) uint8
    labels: np.ndarray      # (n,) int64: 0 or 1, half of each
    patients: list          # n names; the images of one patient share an anatomy
    names: list             # n file names
    views: list             # "PA" or "AP", n times
    classes: tuple = CLASSES


def generate(n=820, patients=None, seed=0, size=64):
    """Generate `n` radiographs of `patients` patients (by default about two for every three images) in memory.

    Half of the images, rounded down, are positive. A patient has one label, but for a few with images from before
    or after the illness.

    Returns
    -------
    Phantoms

    Raises
    ------
    InputError
        n < 2; patients < 2 or > n; size outside 32 .. 2048; a seed that is not a whole number from 0 to 2**64 - 1

    >>> made = generate(n=4, seed=1)
    >>> made.images.shape, int(made.labels.sum()), made.names[0]
    ((4, 64, 64), 2, '000000.png')
    """
    labels, owners = _collection("generate", n, patients, seed, size)
    images = np.empty((n, size, size), np.uint8)
    for i in range(n):
        images[i] = render(seed, owners[i], i, labels[i] == 1, size)
    return Phantoms(images, labels, [_patient(owner) for owner in owners], [_name(i) for i in range(n)],
                    [view(seed, i) for i in range(n)])


def write(folder, n=820, patients=None, seed=0, size=256, progress=None):
    """Write the radiographs of `generate` as files, with a manifest.

    The files are 8-bit grey PNG without compression, all of the same size in bytes. The manifest is written last and
    atomically: a folder with a manifest has every image. After an error or an interruption the files are removed.

    Parameters
    ----------
    folder : str or Path, empty or not there yet
    progress : function, called after each image

    Returns
    -------
    Path of manifest.csv, with the columns path, label, patient_id, source, view

    Raises
    ------
    InputError
        as `generate`; or a folder that holds anything
    CheckpointError
        the folder cannot be written
    """
    from PIL import Image

    labels, owners = _collection("write", n, patients, seed, size)
    folder = Path(folder)
    manifest = folder / "manifest.csv"
    existed = folder.is_dir()
    try:
        _check_empty(folder)
        folder.mkdir(parents=True, exist_ok=True)
        images = folder / "images"
        images.mkdir()
        try:
            rows = []
            for i in range(n):
                image = Image.fromarray(render(seed, owners[i], i, labels[i] == 1, size))
                image.save(images / _name(i), "PNG", compress_level=0)
                rows.append({"path": f"images/{_name(i)}", "label": CLASSES[labels[i]],
                             "patient_id": _patient(owners[i]), "source": "phantom", "view": view(seed, i)})
                if progress is not None:
                    progress()
            write_csv(manifest, rows)
        except BaseException:
            shutil.rmtree(images, ignore_errors=True)
            if not existed:
                shutil.rmtree(folder, ignore_errors=True)
            raise
    except OSError as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{printable(folder)}: the radiographs could not be written ({error.strerror or error}). "
                              f"Choose another folder, or free some space.") from error
    return manifest


def _collection(owner, n, patients, seed, size):
    """Check the arguments; return (labels, owners), the label and the number of the patient of each image."""
    random.check_seed(seed)
    n = check(owner, "n", n, Whole(2, 10**7))
    check(owner, "size", size, SIZE)
    patients = check(owner, "patients", max(2, round(n * 540 / 820)) if patients is None else patients, Whole(2, n))
    place = random.permutation(seed, random.Stream.PHANTOM, _COLLECTION, n)   # of the images: positives, then negatives
    number = np.argsort(random.words(seed, random.Stream.PHANTOM, _COLLECTION, 1, patients), kind="stable")
    draws = random.uniforms(seed, random.Stream.PHANTOM, _COLLECTION, 2, 2 * n).reshape(2, n)

    positives = n // 2
    ill = max(1, patients * positives // n)                 # patients 0 .. ill-1; neither class has more than images
    labels = (np.arange(n) < positives).astype(np.int64)
    turn = np.where(labels == 1, np.arange(n), np.arange(n) - positives)    # its position among the images of its class
    first, count = np.where(labels == 1, 0, ill), np.where(labels == 1, ill, patients - ill)
    # Each patient has one image; each further image is of a patient drawn at random.
    further = turn >= count
    follow_up = further & (labels == 0) & (draws[1] < _FOLLOW_UPS)
    first, count = np.where(follow_up, 0, first), np.where(follow_up, ill, count)
    owners = first + np.where(further, (draws[0] * count).astype(np.int64), turn)
    by_place = np.argsort(place)
    return labels[by_place], number[owners[by_place]]


def _check_empty(folder):
    if (folder / "manifest.csv").exists():
        raise InputError(f"{printable(folder)}: holds a manifest.csv already. Choose another folder, or remove it.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{printable(folder)}: expected a folder that is empty or not there yet. Choose another.")


def _name(i):
    return f"{i:06d}.png"


def _patient(number):
    return f"patient-{number:06d}"
