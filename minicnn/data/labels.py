"""The words of a manifest: label names to class numbers, and a split column to training, validation and test."""

import re

import numpy as np

from minicnn.core.validation import as_array
from minicnn.errors import DTypeError, InputError, ManifestError, ShapeError, nearest, printable

__all__ = ["SPLITS", "is_split", "encode_splits", "class_order", "check_classes", "encode_labels", "encode_targets"]

SPLITS = ("training", "validation", "test")
_ALIASES = {"training": 0, "train": 0, "validation": 1, "val": 1, "valid": 1, "dev": 1, "test": 2, "testing": 2}

_POSITIVE = ("covid", "covid-19", "covid19", "positive", "abnormal", "1")

# Labels end up in model files, tables, pages and spreadsheets: plain words only, none that begins like a formula.
_LABEL = re.compile(r"(?![+-])[\w .+()-]{1,64}")
_LABEL_RULE = "may hold up to 64 letters, digits, spaces and . + - ( ) _, and must not begin with + or -"


def is_split(word):
    """Return whether a word names a split.

    >>> is_split("Testing"), is_split("normal")
    (True, False)
    """
    return word.lower() in _ALIASES


def encode_splits(words, where, problems):
    """Return the number of the split (of `SPLITS`) in each cell of a split column: ndarray, (n,), int8.

    The arguments are those of `encode_labels`; "train", "val" and other common spellings are accepted.

    >>> from minicnn.core.untrusted import Problems
    >>> encode_splits(["Train", "test"], "row {}".format, Problems("x")).tolist()
    [0, 2]
    """
    def sentence(word):
        if not word:
            return f"the split is empty, not one of {', '.join(SPLITS)}."
        return f"the split {printable(word)[:100]!r} is none of {', '.join(SPLITS)}.{nearest(word[:100], _ALIASES)}"

    codes = {word: _ALIASES.get(word.lower(), -1) for word in dict.fromkeys(words)}
    _report(words, {word for word, code in codes.items() if code < 0}, where, sentence, problems)
    return np.fromiter((codes[word] for word in words), np.int8, len(words))


def class_order(labels):
    """Return the classes of a set of labels in order: negative, positive; more than two in alphabetical order.

    >>> class_order({"COVID", "normal"}), class_order({"c", "a", "b"})
    (('normal', 'COVID'), ('a', 'b', 'c'))

    Raises
    ------
    ManifestError : a single label; or two labels without a clear positive one
    """
    labels = sorted(labels)
    if len(labels) > 2:
        return tuple(labels)
    if len(labels) == 1:
        raise ManifestError(f"there is one class only, {labels[0]!r}; two are needed. If it is one of several, name all: "
                            "classes=[...] (--classes NEGATIVE,POSITIVE).")
    positive = [label for label in labels if label.lower() in _POSITIVE]
    if len(positive) != 1:
        first, second = labels
        raise ManifestError(f"which of {first!r} and {second!r} is the positive class? Name the negative one first: "
                            f"classes=[{first!r}, {second!r}] (--classes {first!r},{second!r}).")
    return tuple(sorted(labels, key=lambda label: label == positive[0]))


def check_classes(classes):
    """Return the class names as a tuple of two or more different plain words, or raise InputError."""
    if isinstance(classes, str) or not hasattr(classes, "__iter__"):
        raise InputError(f"classes: expected a list of names such as ['normal', 'covid'], got {classes!r}.")
    classes = tuple(str(name) for name in classes)
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise InputError(f"classes: expected two or more different names, got {list(classes)}.")
    for name in classes:
        if not _LABEL.fullmatch(name):
            raise InputError(f"classes: the name {printable(name)!r} cannot be used: it {_LABEL_RULE}.")
    return classes


def encode_labels(words, where, classes, problems):
    """Return the labels of all rows as class numbers, and the classes.

    Parameters
    ----------
    words : list of n str
    where : function from the number of a row to its place in the file, such as "line 7"
    classes : names in order, or None to take them from the words
    problems : Problems; receives a sentence for each row whose label cannot be used

    Returns
    -------
    (labels, classes) : ndarray, shape (n,), int64; and a tuple of str. The labels are meaningless if there are problems
    """
    def sentence(word):
        if not word:
            return "the label is empty."
        if not _LABEL.fullmatch(word):
            return f"the label {printable(word)[:100]!r} cannot be used: it {_LABEL_RULE}."
        return f"the label {word!r} is none of the classes {', '.join(classes)}.{nearest(word, classes)}"

    wrong = {word for word in set(words) if not _LABEL.fullmatch(word) or classes is not None and word not in classes}
    _report(words, wrong, where, sentence, problems)
    if classes is None and words and not wrong:
        try:
            classes = class_order(set(words))
        except ManifestError as error:
            problems.add(str(error))
    codes = {name: code for code, name in enumerate(classes or ())}
    return np.fromiter((codes.get(word, -1) for word in words), np.int64, len(words)), classes


def _report(words, wrong, where, sentence, problems):
    """Add a problem for each row whose word is in `wrong`."""
    for row, word in enumerate(words if wrong else ()):
        if word in wrong:
            problems.add(lambda: f"{where(row)}: {sentence(word)}")


def encode_targets(t, shape, loss, dtype):
    """Return targets as the loss wants them: (N,) + shape, of the network's dtype.

    A vector of N becomes a column; for categorical cross-entropy whole-number classes become one-hot rows.

    >>> from minicnn.losses import get_loss
    >>> encode_targets(np.array([2, 0]), (3,), get_loss("categorical_crossentropy"), np.float32).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    try:
        t = as_array(t, "targets", "t", np.float64)
    except DTypeError as error:
        raise InputError(f"{error} For named classes use a manifest, or encode them: 0 and 1, or 0 .. K-1.") from None
    if t.ndim == 0:
        raise ShapeError(f"targets: expected an array with one target for each sample, got {t}.")
    if loss.head == "Softmax" and t.size == len(t) and shape != (1,):
        classes = t.reshape(-1)
        if len(classes) and ((classes != np.floor(classes)).any() or classes.min() < 0 or classes.max() >= shape[-1]):
            raise InputError(f"targets: expected whole-number classes from 0 to {shape[-1] - 1}, "
                             f"got values from {classes.min()} to {classes.max()}.")
        return np.eye(shape[-1], dtype=dtype)[classes.astype(np.int64)]
    if t.ndim == 1 and shape == (1,):
        t = t[:, None]
    if t.shape[1:] != shape:
        raise ShapeError(f"targets: expected shape (N, {', '.join(map(str, shape))}), got {t.shape}.")
    t = np.ascontiguousarray(t, dtype)
    loss.check_targets(t, (len(t),) + shape)
    return t
