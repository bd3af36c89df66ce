"""What the words of a manifest mean: which class a label is, and which part of a split."""

import re

import numpy as np

from minicnn.errors import InputError, ManifestError, nearest, printable

__all__ = ["PARTS", "is_part", "encode_parts", "class_order", "check_classes", "encode_labels"]

PARTS = ("training", "validation", "test")
_ALIASES = {"training": 0, "train": 0, "validation": 1, "val": 1, "valid": 1, "dev": 1, "test": 2, "testing": 2}

_POSITIVE = ("covid", "covid-19", "covid19", "positive", "abnormal", "1")

# Labels end up in model files, tables, pages and spreadsheets: plain words only, none that begins like a formula.
_LABEL = re.compile(r"(?![+-])[\w .+()-]{1,64}")
_LABEL_RULE = "may hold up to 64 letters, digits, spaces and . + - ( ) _, and must not begin with + or -"


def is_part(word):
    """Return whether a word means a part of a split.

    >>> is_part("Testing"), is_part("normal")
    (True, False)
    """
    return word.lower() in _ALIASES


def encode_parts(words, where, problems):
    """Return the number of the part (`PARTS`) in each cell of a split column: ndarray, (n,), int8.

    The arguments are those of `encode_labels`; "train", "val" and the like are understood.

    >>> from minicnn.core.untrusted import Problems
    >>> encode_parts(["Train", "test"], "row {}".format, Problems("x")).tolist()
    [0, 2]
    """
    codes = {word: _ALIASES.get(word.lower(), -1) for word in dict.fromkeys(words)}
    if -1 in codes.values():
        def sentence(row, word):
            said = f"the split {printable(word)[:100]!r} is none of" if word else "the split is empty, not one of"
            return f"{where(row)}: {said} {', '.join(PARTS)}.{nearest(word[:100], _ALIASES) if word else ''}"

        for row, word in enumerate(words):
            if codes[word] < 0:
                problems.add(lambda: sentence(row, word))
    return np.fromiter((codes[word] for word in words), np.int8, len(words))


def class_order(labels):
    """Return the classes of a set of labels in order: negative, positive; or alphabetical where there are more than two.

    >>> class_order({"COVID", "normal"}), class_order({"c", "a", "b"})
    (('normal', 'COVID'), ('a', 'b', 'c'))

    Raises
    ------
    ManifestError : one label only; or two, of which it is not plain which is the positive one
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
    """Return the names of the classes as a tuple: two or more different plain words; or raise an InputError."""
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
    """Return the labels of all rows as numbers, and the classes.

    Parameters
    ----------
    words : list of n str
    where : function from the number of a row to its place in words, for a sentence
    classes : names in order, or None to take them from the words
    problems : Problems; receives a sentence for each row whose label cannot be used

    Returns
    -------
    (labels, classes) : ndarray, shape (n,), int64; and a tuple of str. The labels are of no use if there are problems
    """
    def sentence(row, word):
        if not word:
            return f"{where(row)}: the label is empty."
        if not _LABEL.fullmatch(word):
            return f"{where(row)}: the label {printable(word)[:100]!r} cannot be used: it {_LABEL_RULE}."
        return f"{where(row)}: the label {word!r} is none of the classes {', '.join(classes)}.{nearest(word, classes)}"

    wrong = {word for word in dict.fromkeys(words)
             if not _LABEL.fullmatch(word) or classes is not None and word not in classes}
    if wrong:
        for row, word in enumerate(words):
            if word in wrong:
                problems.add(lambda: sentence(row, word))
    elif classes is None and words:
        try:
            classes = class_order(set(words))
        except ManifestError as error:
            problems.add(str(error))
    codes = {name: code for code, name in enumerate(classes or ())}
    return np.fromiter((codes.get(word, -1) for word in words), np.int64, len(words)), classes
