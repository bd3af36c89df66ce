"""The words of a manifest: label names to class numbers, a split column to training, validation and test, and findings.

Labels and findings are read as words, never as parts of words: `Non-COVID` is not COVID.
"""

import difflib
import numbers
import re
import shlex
from collections import Counter

import numpy as np

from minicnn.core.text import join, plain, shortened, spelling
from minicnn.core.validation import as_array
from minicnn.errors import DTypeError, InputError, ManifestError, ShapeError, nearest, printable

__all__ = ["SPLITS", "is_split", "split_number", "encode_splits", "finding", "known", "class_order", "check_classes",
           "LabelNames", "as_option", "encode_labels", "encode_targets", "as_numbers"]

SPLITS = ("training", "validation", "test")
_ALIASES = {"training": 0, "train": 0, "validation": 1, "val": 1, "valid": 1, "dev": 1, "test": 2, "testing": 2}

# The vocabulary of `finding`: what a word names, and the words that deny what follows, or what came before.
_NAMES = {"covid": "covid", "coronavirus": "covid", "pneumonia": "pneumonia", "pneumonias": "pneumonia",
          "normal": "normal", "healthy": "normal", "finding": "finding", "findings": "finding"}
_NOT_NEXT, _NOT_REST = {"non"}, {"no", "not", "none", "without", "never", "excluding", "excluded", "exclude"}
_NOT_BEFORE = {"negative", "neg", "absent", "free", "unlikely", "undetected", "denied", "false", "out", "0"}
_DOUBT = {"suspected", "suspicion", "possible", "possibly", "probable", "presumed", "query", "unclear", "unknown",
          "unconfirmed", "pending", "vs", "versus", "or", "pre", "post", "before", "after", "like", "mimic", "mimics"}
_GLUED = re.compile(r"(non|no|not)?(covid|coronavirus|pneumonias?|normal|findings?)(negative|neg|positive|pos)?")

# In patients, sources and the like: what spreadsheets, NumPy, pandas, R, databases and people write for "unknown".
_UNKNOWN = {"", "nan", "na", "nat", "none", "null", "nil", "unknown", "unk", "missing", "unspecified", "undefined",
            "unavailable", "notavailable", "notknown", "notspecified", "notprovided", "notapplicable", "notreported",
            "notrecorded", "notstated", "nodata", "nk", "unidentified", "blank", "anonymous", "anonymized", "anonymised",
            "\\n", "ref!", "value!", "null!", "div0!"}
_NO_LABEL = {"", "nan", "na", "nat", "null"}

# Labels end up in model files, tables, pages and spreadsheets: plain words only, none that begins like a formula.
_LABEL = re.compile(r"(?![+-])[\w .+()-]{1,64}")
_LABEL_RULE = "may hold up to 64 letters, digits, spaces and . + - ( ) _, and must not begin with + or -"


def is_split(word):
    """Return whether a word names a split.

    >>> is_split("Testing"), is_split("normal")
    (True, False)
    """
    return split_number(word) >= 0


def split_number(word):
    """Return the number of the split (of `SPLITS`) that a word names, or -1."""
    return _ALIASES.get(word.lower(), -1)


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

    codes = {word: split_number(word) for word in dict.fromkeys(words)}
    _report(words, {word for word, code in codes.items() if code < 0}, where, sentence, problems)
    return np.fromiter((codes[word] for word in words), np.int8, len(words))


def finding(text):
    """Return what a label, a finding or the name of a folder says: "covid", "normal", "pneumonia" or "negative".

    "negative" only denies COVID-19, as `Non-COVID` does. "" is anything else, doubt and contradictions too.

    >>> [finding(text) for text in ("Pneumonia/Viral/COVID-19", "Non-COVID", "covid_negative", "No Finding")]
    ['covid', 'negative', 'negative', 'normal']
    >>> [finding(text) for text in ("COVID-19 (suspected)", "COVID or normal", "non-COVID pneumonia", "SARS-CoV-2")]
    ['', '', 'pneumonia', 'covid']
    """
    text = re.sub(r"\bw/o\b", "without", plain(text).replace("_", " ").casefold().strip())
    text = re.sub(r"(?<=\w)\s*(-\s*ve\b|\(-\)|-$)", " negative", text)
    text = re.sub(r"\bsars[ -]?cov[ -]?2\b|\b(2019[ -]?)?ncov\b", "covid", text)
    clauses, said = re.split(r"[,;/|&+]|\band\b|\bwith\b", text), set()
    for clause in clauses:
        said |= _said(clause, len(clauses) == 1)
    if "covid" in said:
        return "" if said & {"not covid", "normal", "not finding", "doubt"} else "covid"
    if "pneumonia" in said:
        return "" if "normal" in said else "pneumonia"
    if "normal" in said or "not finding" in said and "not covid" not in said:
        return "normal"
    return "negative" if "not covid" in said and "doubt" not in said else ""


def _said(clause, alone):
    """Return what a clause names: a set of names of `_NAMES`, "not ..." where denied, and "doubt"."""
    words = re.findall(r"[^\W\d]+|\d+", clause)
    if words == ["positive"]:
        return {"covid"} if alone else set()
    if words == ["negative"] or not alone and len(words) == 1 and words[0] in _NOT_BEFORE | _NOT_REST:
        return {"not covid"}
    said, last, deny, is_idle = [], None, None, False
    for word in words:
        glued = _GLUED.fullmatch(word)
        before, name, after = glued.groups() if glued else (None, word, None)
        name = "pneumonia" if name.endswith(("pneumonia", "pneumonias")) else _NAMES.get(name)
        if word in _DOUBT:
            said.append("doubt")
        elif word in _NOT_NEXT or word in _NOT_REST:
            deny, is_idle = "next" if word in _NOT_NEXT else "rest", True
        elif word in _NOT_BEFORE and last is not None:
            said[last] = "not " + said[last].removeprefix("not ")
        elif word in _NOT_BEFORE and word.isalpha():
            deny = "rest"
        elif name is not None:
            denied = deny is not None or before is not None or after in ("negative", "neg")
            last = len(said)
            said.append(f"not {name}" if denied else name)
            deny, is_idle = None if deny == "next" else deny, False
    if last is not None and is_idle:        # nothing follows: "COVID: no", "covid not detected"
        said[last] = "not " + said[last].removeprefix("not ")
    return set(said)


def known(words):
    """Return the words of a column with "" for those that mean unknown, and a Counter of these.

    >>> known(["ann", "NaN", "", "n/a", None])
    (['ann', '', '', '', ''], Counter({'NaN': 1, 'n/a': 1}))
    """
    words = [word if isinstance(word, str) else "" if word is None else str(word) for word in words]
    unknown = {word for word in set(words) if len(word) <= 20 and _bare(word) in _UNKNOWN}
    if not unknown - {""}:
        return words, Counter()
    return (["" if word in unknown else word for word in words],
            Counter(word for word in words if word and word in unknown))


def _bare(word):
    return re.sub(r"[\s_./?#<>()-]+", "", plain(word).casefold())


def class_order(labels):
    """Return the classes of a set of labels in order: negative, positive; more than two in alphabetical order.

    >>> class_order({"COVID", "normal"}), class_order({"c", "a", "b"}), class_order({"covid+", "Non-COVID"})
    (('normal', 'COVID'), ('a', 'b', 'c'), ('Non-COVID', 'covid+'))

    Raises
    ------
    ManifestError : a single label; or two labels without a clear positive one
    """
    labels = sorted(labels)
    if len(labels) > 2:
        return tuple(labels)
    if len(labels) == 1:
        raise ManifestError(f"there is one class only, {labels[0]!r}; two are needed. If it is one of several, name "
                            "all: classes=[...] (--classes NEGATIVE,POSITIVE).")
    positive = [label for label in labels if label.casefold() in ("abnormal", "1") or finding(label) == "covid"]
    if len(positive) != 1:
        first, second = labels
        raise ManifestError(f"which of {first!r} and {second!r} is the positive class? Name the negative one first: "
                            f"classes=[{first!r}, {second!r}] (--classes {first!r},{second!r}).")
    return tuple(sorted(labels, key=lambda label: label == positive[0]))


def check_classes(classes):
    """Return the class names as a tuple of two or more different plain words, or raise InputError."""
    if isinstance(classes, str) or not hasattr(classes, "__iter__"):
        raise InputError(f"classes: expected a list of names such as ['normal', 'covid'], got {classes!r}.")
    classes = tuple(plain(str(name)) for name in classes)
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise InputError(f"classes: expected two or more different names, got {list(classes)}.")
    for name in classes:
        if not _LABEL.fullmatch(name):
            raise InputError(f"classes: the name {printable(name)!r} cannot be used: it {_LABEL_RULE}.")
    return classes


class LabelNames:
    """What labels of data are called here, and which labels the data has.

    Labels that differ only in case, spaces, hyphens or Unicode form are one.

    Parameters
    ----------
    given : dict from a label to its name here; several may get one name

    >>> names = LabelNames({"Covid-19": "covid", "Helathy": "normal"})
    >>> names.renamed(["COVID 19", "Healthy"])
    ['covid', 'Healthy']
    >>> names.unused()
    ["no image is labelled 'Helathy'. Did you mean 'Healthy'? The labels are 'COVID 19' (1) and 'Healthy' (1)."]
    """

    def __init__(self, given=None):
        given = {} if given is None else given
        if not isinstance(given, dict) or not all(isinstance(word, str) and word.strip()
                                                  for pair in given.items() for word in pair):
            raise InputError("labels: expected a dict from labels to names such as {'Covid-19': 'covid'}, got "
                             f"{printable(repr(given))[:300]}.")
        self.given, self.counts, self._names = dict(given), Counter(), {}
        for label, name in given.items():
            if self._names.setdefault(spelling(label), name) != name:
                raise InputError(f"labels: {printable(label)!r} is named twice, {printable(name)!r} and "
                                 f"{printable(self._names[spelling(label)])!r}: labels that differ only in case, "
                                 "spaces, hyphens or Unicode form are one.")

    def check_classes(self, classes):
        """Raise InputError if a name is none of the classes."""
        for label, name in self.given.items():
            if spelling(name) not in map(spelling, classes):
                raise InputError(f"labels (--labels): {printable(label)!r} is called {printable(name)!r}, which is none "
                                 f"of the classes {', '.join(map(printable, classes))}.{nearest(name, classes)}")

    def renamed(self, words):
        """Return the labels of a list of str by their names here."""
        if not self._names:
            return words
        self.counts.update(words)
        named = {word: self._names.get(spelling(word), word) if len(word) <= 1000 else word for word in set(words)}
        return [named[word] for word in words]

    def used(self):
        """Return the part of `given` that occurred in what was renamed: dict."""
        there = {spelling(word) for word in self.counts if len(word) <= 1000}
        return {label: name for label, name in self.given.items() if spelling(label) in there}

    def unused(self):
        """Return a sentence for each label that did not occur."""
        listed = [f"{shortened(word, 64)!r} ({count:,})" for word, count in self.counts.most_common(20)]
        there = f"The labels are {join(listed)}{' and others' if len(self.counts) > 20 else ''}."
        near, used = [shortened(word, 64) for word in self.counts], self.used()
        return [f"no image is labelled {shortened(label, 64)!r}.{nearest(label[:100], near)} {there}"
                for label in self.given if label not in used]

    def report_unused(self, problems):
        """Add a problem for each label that did not occur."""
        for sentence in self.unused():
            problems.add(f"labels (--labels): {sentence}")


def encode_labels(words, where, classes, problems, given=None):
    """Return the labels of all rows as class numbers, and the classes.

    Labels that differ only in case, spaces, hyphens or Unicode form are one class, with the name that most rows have.

    Parameters
    ----------
    words : list of n str
    where : function from the number of a row to its place in the file, such as "line 7"
    classes : names in order, or None to take them from the words
    problems : Problems; receives a sentence for each row whose label cannot be used, and a remark on several spellings
    given : dict, what of LabelNames was given, for the advice how labels get the names of classes

    Returns
    -------
    (labels, classes) : ndarray, shape (n,), int64; and a tuple of str. The labels are meaningless if there are problems
    """
    def sentence(word):
        if not word:
            return "the label is empty."
        if not _LABEL.fullmatch(plain(word)):
            return f"the label {printable(word)[:100]!r} cannot be used: it {_LABEL_RULE}."
        if classes is None:
            return (f"the label {word!r} means that it is unknown. Leave the row out; if it is a class, name all: "
                    "classes=[...] (--classes ...).")
        return f"the label {word!r} is none of the classes {', '.join(classes)}.{nearest(word, classes)}"

    counts, named = Counter(words), {}
    names = _one_of_each(classes) if classes is not None else [word for word, _ in counts.most_common()
                                                               if _LABEL.fullmatch(plain(word))]
    for name in names:
        named.setdefault(spelling(name), plain(name) if classes is None else name)
    meant = {word: named.get(spelling(word)) if len(word) <= 100 else None for word in counts}
    wrong = {word for word, name in meant.items()
             if name is None or not _LABEL.fullmatch(plain(word)) or classes is None and _bare(word) in _NO_LABEL}
    _report(words, wrong, where, sentence, problems)
    others = [word for word, _ in counts.most_common() if word in wrong and _bare(word) not in _NO_LABEL]
    problems.advice += _advice(others, classes, given or {})
    others = [] if wrong else _other_spellings(meant, counts)
    if classes is None and words and not wrong:
        try:
            classes = class_order(set(meant.values()))
        except ManifestError as error:
            problems.add(" ".join([str(error), *others]))
    for told in others:
        problems.remark(told)
    codes = {name: code for code, name in enumerate(classes or ())}
    codes = {word: codes.get(name, -1) for word, name in meant.items()}
    return np.fromiter((codes[word] for word in words), np.int64, len(words)), classes


def as_option(names):
    """Return a dict from labels to names as the value of --labels; a label that holds a comma or " is quoted as in CSV.

    >>> as_option({"Covid-19": "covid", "no, none": "normal"})
    'Covid-19=covid,"no, none"=normal'
    """
    def quoted(word):
        return '"' + word.replace('"', '""') + '"' if {",", '"'} & {*word} or word != word.strip() else word

    return ",".join(f"{quoted(label)}={name}" for label, name in names.items())


def _advice(wrong, classes, given):
    """Return the line that says how labels which are no classes get the names of classes, in a list; else none.

    >>> print(*_advice(["Covid-19", "x, y"], ("normal", "covid"), {}))
    To give labels the names of classes: --labels 'Covid-19=covid,"x, y"=...' (labels={'Covid-19': 'covid', ...})
    """
    if not wrong or len(wrong) > 20 or max(map(len, wrong)) > 64:
        return []
    names = dict(given)
    for word in map(printable, wrong):
        said = finding(word)
        alike = [name for name in classes or () if finding(name) == said] if said else \
            difflib.get_close_matches(word.lower(), classes or (), n=1)
        names[word] = alike[0] if len(alike) == 1 else "..."
    first, name = next(iter(names.items()))
    return [f"To give labels the names of classes: --labels {shlex.quote(as_option(names))} "
            f"(labels={{{first!r}: {name!r}{', ...' * (len(names) > 1)}}})"]


def _one_of_each(classes):
    """Return given classes; InputError if two of them differ in spelling only."""
    for i, name in enumerate(classes):
        for other in classes[:i]:
            if spelling(name) == spelling(other):
                raise InputError(f"classes: {other!r} and {name!r} differ only in case, spaces, hyphens or Unicode "
                                 "form: they are one class. Name it once.")
    return classes


def _other_spellings(meant, counts):
    """Return a sentence for each class that has labels in other spellings."""
    others, told = {}, []
    for word, name in meant.items():
        if word != name:
            others.setdefault(name, []).append(word)
    for name, words in others.items():
        named = join(f"{shortened(word, 64)!r} ({counts[word]:,})" for word in sorted(words)[:5])
        told.append(f"The labels {named}{' and others' if len(words) > 5 else ''} differ from {name!r} only in case, "
                    "spaces, hyphens or Unicode form: they are one class.")
    return told


def _report(words, wrong, where, sentence, problems):
    """Add a problem for each row whose word is in `wrong`."""
    for row, word in enumerate(words if wrong else ()):
        if word in wrong:
            problems.add(lambda: sentence(word), where(row), (sentence, word))


def encode_targets(t, shape, loss, dtype):
    """Return targets as the loss wants them: (N,) + shape, of the network's dtype.

    A vector of N becomes a column; whole-number classes become one-hot rows where the loss takes such.

    >>> from minicnn.losses import get_loss
    >>> encode_targets(np.array([2, 0]), (3,), get_loss("categorical_crossentropy"), np.float32).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    t = as_numbers(t)
    try:
        t = as_array(t, "targets", "t", np.float64)
    except DTypeError as error:
        raise InputError(f"{error} For named classes use a manifest, or encode them: 0 and 1, or 0 .. K-1.") from None
    if t.ndim == 0:
        raise ShapeError(f"targets: expected an array with one target for each sample, got {t}.")
    if loss.one_hot and t.size == len(t) and shape != (1,):
        classes = t.reshape(-1)
        if len(classes) and ((classes != np.floor(classes)).any() or classes.min() < 0 or classes.max() >= shape[-1]):
            raise InputError(f"targets: expected whole-number classes from 0 to {shape[-1] - 1}, "
                             f"got values from {classes.min()} to {classes.max()}.")
        return np.eye(shape[-1], dtype=dtype)[classes.astype(np.int64)]
    if t.ndim == 1 and shape == (1,):
        t = t[:, None]
    if t.shape[1:] != shape:
        one_hot = " If its rows are one-hot, try t.argmax(axis=1)." if t.ndim == 2 and shape == (1,) else ""
        raise ShapeError(f"targets: expected shape (N, {', '.join(map(str, shape))}), got {t.shape}.{one_hot}")
    t = np.ascontiguousarray(t, dtype)
    loss.check_targets(t, (len(t),) + shape)
    return t


def as_numbers(t):
    """Return targets without their mask, if nothing is under it, and objects as the numbers that they are, or raise."""
    several = isinstance(t, (list, tuple)) or isinstance(t, np.ma.MaskedArray) and t.ndim
    masked = [any(map(np.ma.is_masked, row)) if isinstance(row, (list, tuple)) else np.ma.is_masked(row)
              for row in (t if several else [t])]
    if any(masked):
        raise InputError(f"targets: t is masked in {sum(masked)} of {len(masked)} samples: what they are is not known. Leave "
                         "them out: known = ~np.ma.getmaskarray(t), then x[known] and t[known].")
    if getattr(t, "dtype", None) == object or isinstance(t, (list, tuple)):
        try:
            objects = np.asarray(t)
        except ValueError:
            return t                        # ragged: as_array says so
        if objects.dtype == object and objects.ndim:
            for place, value in np.ndenumerate(objects):
                if not isinstance(value, (numbers.Real, np.bool_)):
                    raise InputError(f"targets: expected a number for each sample, got {printable(repr(value))[:80]} at "
                                     f"{list(place)}. Leave out samples without a target; named classes are encoded as 0 "
                                     "and 1, or 0 .. K-1, or come with a manifest.")
            return objects.astype(np.float64)
    return t
