"""Has the network seen these images, and how often has anybody looked at the test part?

Each look at a test part is a chance to choose by it, and a figure that was chosen by is no longer a test. Nobody can
forbid looking; the run folder counts.
"""

import hashlib

from minicnn.errors import InputError, printable

__all__ = ["split_digest", "check_unseen", "count_access", "access_counts", "access_sentence"]

_NAME = "looks.json"


def split_digest(sources):
    """Return the SHA-256, as 64 hex digits, of which image is in which part; the order of images plays no role.

    Parameters
    ----------
    sources : dict from the name of a part to its source, with `digests` of the files

    >>> from types import SimpleNamespace as Part
    >>> a, b = bytes(32), bytes([1] * 32)
    >>> split_digest({"training": Part(digests=[a, b])}) == split_digest({"training": Part(digests=[b, a])})
    True
    """
    lines = sorted(f"{bytes(digest).hex()} {name}\n" for name, source in sources.items() for digest in source.digests)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def check_unseen(model, source, allowed=False):
    """Return a sentence about images of `source` that the model was trained on, or None where there are none.

    Known again are the file, whatever it is called and wherever it lies, and the same pixels in another file. A picture
    that was changed, by a JPEG for instance, is not: `data audit` of both collections together finds those.

    Raises
    ------
    InputError : there are, and that is not allowed
    """
    if model.training_digests is None or source.digests is None:
        return None
    trained = {row.tobytes() for row in model.training_digests}
    pixels = getattr(source, "pixel_digests", None)
    seen = [name for name, *digests in zip(source.names, source.digests, source.digests if pixels is None else pixels)
            if any(digest.tobytes() in trained for digest in digests)]
    if not seen:
        return None
    said = f"{len(seen):,} of these {len(source):,} images are among those that the network was trained on"
    if allowed:
        return f"{said}: on them the figures say nothing."
    raise InputError(f"{said}, the first is {printable(seen[0])}. Figures on them say nothing: leave them out. If it "
                     "is meant, allow it: allow_training_images=True (--allow-training-images).")


def access_counts(run):
    """Return {part: how often its figures were computed or shown} of a RunFolder; empty where nobody counted."""
    if not (run.path / _NAME).exists():
        return {}
    counts = run.read_json(_NAME)
    if not isinstance(counts, dict) or not all(name.isprintable() and type(count) is int and 0 < count < 2**53
                                               for name, count in counts.items()):
        raise InputError(f"{printable(run.path / _NAME)}: expected how often each part was looked at. Remove it to "
                         "begin anew, and say so where you report the figures.")
    return counts


def count_access(run, part="test"):
    """Count one more look at a part of a RunFolder that the caller has locked; return how many there are now."""
    counts = access_counts(run)
    counts[part] = counts.get(part, 0) + 1
    run.write_json(_NAME, counts)
    return counts[part]


def access_sentence(count, part="test"):
    """Return what a number of looks means.

    >>> access_sentence(1)
    'The test part has been looked at once.'
    >>> access_sentence(3)
    'The test part has been looked at 3 times. If anything was changed in between, its figures are too good.'
    """
    if count is None:
        return f"How often the {part} part was looked at is not known: the run folder cannot be written to."
    if count == 1:
        return f"The {part} part has been looked at once."
    return (f"The {part} part has been looked at {count:,} times. If anything was changed in between, its figures are "
            "too good.")
