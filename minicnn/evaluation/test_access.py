"""Leakage and access to the test set: was the network trained on these images, and how often was it tested?

Each evaluation on a test set is an opportunity to choose a model by it, and then its metrics are optimistic. This
cannot be prevented, so the run folder counts the evaluations.
"""

import hashlib

import numpy as np

from minicnn.data.near_duplicates import perceptual_hashes
from minicnn.errors import InputError, printable

__all__ = ["split_digest", "data_digest", "trained_on", "check_unseen", "copy_hashes", "altered_copies",
           "count_access", "access_counts", "access_sentence"]

_NAME = "looks.json"
_BATCH, _MOST_BITS = 128, 22


def split_digest(datasets):
    """Return the SHA-256, as 64 hex digits, of which image is in which set, whatever the order of the images.

    Parameters
    ----------
    datasets : dict from the name of a set to its dataset, with `digests` of the files

    >>> from types import SimpleNamespace as Data
    >>> a, b = bytes(32), bytes([1] * 32)
    >>> split_digest({"training": Data(digests=[a, b])}) == split_digest({"training": Data(digests=[b, a])})
    True
    """
    lines = sorted(f"{bytes(digest).hex()} {name}\n" for name, data in datasets.items() for digest in data.digests)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def data_digest(dataset):
    """Return the SHA-256, as 64 hex digits, of which images a dataset shows and how they are labelled, in any order.

    It is that of the sorted lines "DIGEST LABEL\\n", one for each image: the hex digits of the SHA-256 of
    "(WIDTH, HEIGHT) " and the image's pixels as the network's preprocessing stores them (data/pixel_cache.py; of arrays
    the pixels alone), and the name of its class. Names and formats of files do not count, pixels and labels do.

    Parameters
    ----------
    dataset : ImageDataset, or similar, with `pixel_digests` or else `digests`, `labels` and `classes`

    >>> from types import SimpleNamespace as Data
    >>> pixels = [bytes(32), bytes([1] * 32)]
    >>> data_digest(Data(pixel_digests=pixels, labels=[0, 1], classes=("normal", "covid"))) == hashlib.sha256(
    ...     (32 * "00" + " normal\\n" + 32 * "01" + " covid\\n").encode()).hexdigest()
    True
    """
    digests = getattr(dataset, "pixel_digests", None)
    lines = sorted(f"{bytes(digest).hex()} {dataset.classes[label]}\n" for digest, label in
                   zip(dataset.digests if digests is None else digests, dataset.labels))
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def check_unseen(model, data, allowed=False):
    """Return a sentence about images of a dataset that the model was trained on, or None if there are none.

    Raises
    ------
    InputError : there are such images, and that is not allowed
    """
    seen = np.flatnonzero(trained_on(model, data))
    if not len(seen):
        return None
    said = f"{len(seen):,} of these {len(data):,} images are among those that the network was trained on"
    if allowed:
        return f"{said}: on them the metrics mean nothing."
    raise InputError(f"{said}, the first is {printable(data.names[seen[0]])}. Metrics on them mean nothing: leave them "
                     "out with leave_out_copies=True (--leave-out-copies), or allow them with "
                     "allow_training_images=True (--allow-training-images).")


def trained_on(model, data):
    """Return whether a model was trained on each image of a dataset: ndarray, shape (n,), bool.

    An image is recognised by its file, whatever its name and place, and by its pixels in another file; altered copies
    by `altered_copies`.
    """
    if model.training_digests is None or data.digests is None:
        return np.zeros(len(data), bool)
    trained = {row.tobytes() for row in model.training_digests}
    pixels = getattr(data, "pixel_digests", None)
    return np.array([any(digest.tobytes() in trained for digest in digests)
                     for digests in zip(data.digests, data.digests if pixels is None else pixels)], bool)


# ---- Altered copies --------------------------------------------------------------------------------------------------

def copy_hashes(data):
    """Return 128 bits of each image of a dataset, of which few differ in an altered copy: ndarray, (n, 2), uint64.

    They are the perceptual hash (data/near_duplicates.py) folded once: bit k is whether the signs of two frequencies
    differ, (u, v) and (u + 8, v). An image and its mirror image have the same bits. A blurred image can be made from the
    signs, but not from these: on 508 public radiographs the best guess correlates with what is an image's own (what
    distinguishes it from the mean radiograph) by 0.09, and by 0.61 from the signs.
    """
    batches = (data.batch(np.arange(at, min(at + _BATCH, len(data)))) for at in range(0, len(data), _BATCH))
    hashes = [perceptual_hashes(255 * batch.mean(axis=3)) for batch in batches]
    hashes = np.concatenate(hashes) if hashes else np.empty((0, 4), np.uint64)
    return np.ascontiguousarray(hashes[:, :2] ^ hashes[:, 2:])


def altered_copies(hashes, known):
    """Return whether images are altered copies of known ones, by their `copy_hashes`: ndarray, shape (n,), bool.

    At most 22 of 128 bits differ. Of 202 public radiographs, all copies are found that were saved as JPEG of quality 40,
    halved, doubled, scaled to 64 x 64, mirrored, blurred or made darker, and 98 % of those with a gamma of 0.7; none
    that were cropped by 2 %, rotated by 2 degrees or tagged, which `data audit` finds. Of 1,008 radiographs, no two
    different ones differ in fewer than 35 bits, and of 20,000 synthetic ones, 1 pair of 120 million differs in 22.

    >>> known = np.array([[0, 0], [0, 2**64 - 1]], np.uint64)
    >>> altered_copies(np.array([[2**22 - 1, 0], [2**23 - 1, 0]], np.uint64), known)
    array([ True, False])
    """
    return np.array([bool((np.bitwise_count(known ^ row).sum(axis=1) <= _MOST_BITS).any()) for row in hashes], bool)


def access_counts(run):
    """Return {set: how often its metrics were computed or shown} of a RunFolder; empty if nothing was counted."""
    path = run.path / _NAME
    if not path.exists():
        return {}
    counts = run.read_json(_NAME)
    if not isinstance(counts, dict) or not all(name.isprintable() and type(count) is int and 0 < count < 2**53
                                               for name, count in counts.items()):
        raise InputError(f"{printable(path)}: expected the number of evaluations on each set. Remove the file to start "
                         "again, and say so where you report the metrics.")
    return counts


def count_access(run, part="test"):
    """Count one more evaluation on a set of a RunFolder that the caller has locked; return their number."""
    counts = access_counts(run)
    counts[part] = counts.get(part, 0) + 1
    run.write_json(_NAME, counts)
    return counts[part]


def access_sentence(count, part="test"):
    """Return what a number of evaluations means; None where it is not known.

    >>> access_sentence(1)
    'The test set has been evaluated once.'
    >>> access_sentence(3)
    'The test set has been evaluated 3 times. If anything was changed in between, its metrics are optimistic.'
    """
    if count is None:
        return f"How often the {part} set has been evaluated is not known: the run folder is not writable."
    if count == 1:
        return f"The {part} set has been evaluated once."
    return (f"The {part} set has been evaluated {count:,} times. If anything was changed in between, its metrics are "
            "optimistic.")
