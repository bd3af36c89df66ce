"""Leakage and access to the test set: was the network trained on these images, and how often was it tested?

Each evaluation on a test set is an opportunity to choose a model by it, and then its metrics are optimistic. This
cannot be prevented, so the run folder counts the evaluations.
"""

import hashlib

from minicnn.errors import InputError, printable

__all__ = ["split_digest", "data_digest", "check_unseen", "count_access", "access_counts", "access_sentence"]

_NAME = "looks.json"


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

    An image is recognised by its file, whatever its name and place, and by its pixels in another file. Altered copies,
    such as a JPEG of it, are not: `data audit` of both collections together finds those.

    Raises
    ------
    InputError : there are such images, and that is not allowed
    """
    if model.training_digests is None or data.digests is None:
        return None
    trained = {row.tobytes() for row in model.training_digests}
    pixels = getattr(data, "pixel_digests", None)
    seen = [name for name, *digests in zip(data.names, data.digests, data.digests if pixels is None else pixels)
            if any(digest.tobytes() in trained for digest in digests)]
    if not seen:
        return None
    said = f"{len(seen):,} of these {len(data):,} images are among those that the network was trained on"
    if allowed:
        return f"{said}: on them the metrics mean nothing."
    raise InputError(f"{said}, the first is {printable(seen[0])}. Metrics on them mean nothing: leave them out, or "
                     "allow them with allow_training_images=True (--allow-training-images).")


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
