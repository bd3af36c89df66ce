"""Is a collection fit to learn from? What is wrong with its files, who is in it twice, and what gives its labels away.

    problems    what makes figures on this collection untrue: files that cannot be read, slices and lateral views, the
                same picture more than once, a patient in two parts, a label that header, border or source tells
    remarks     what is odd, and may be right
    unusual     pictures unlike the others, to be looked at: no verdict

Nothing found is not a clean bill: see the sentence at the end of the text.
"""

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import numpy as np

from minicnn.core.random import check_seed
from minicnn.data.collections import view_kind
from minicnn.data.near_duplicates import clusters, find_pairs
from minicnn.data.split import groups
from minicnn.errors import ManifestError, printable
from minicnn.evaluation.auditing import confounders
from minicnn.evaluation.auditing.file_scan import FileScan

__all__ = ["Finding", "Audit", "audit"]

_RARE = 0.05            # a file of a kind that a smaller share of the collection has is odd
_FENCE = 3.0            # unusual: so many interquartile ranges below the first quartile
_MOST_UNUSUAL, _MOST_ROWS = 20, 8

WHAT = {"unreadable": "cannot be read", "not frontal": "no frontal radiographs", "duplicate": "the same picture twice",
        "torn patient": "patients in more than one part", "torn duplicate": "the same picture in two parts",
        "shortcut": "labels given away", "odd file": "odd files", "several labels": "patients with several labels"}


class Finding(NamedTuple):
    """One thing found: what (a key of `WHAT`), the files it is about, and a sentence."""

    what: str
    files: tuple
    sentence: str


@dataclass
class Audit:
    """What an audit found; true where there is no problem.

    Attributes
    ----------
    source : str; what was audited
    images, readable, patients : int
    counts : dict from class to number of images
    problems, remarks, unusual : lists of Finding
    shortcuts : list of shortcuts.Confounder
    tables : dict from "source", "view", "format", "size" to {value: {class: number of images}}
    sampled : int; the images that decided about shortcuts
    """

    source: str
    images: int
    readable: int
    patients: int
    counts: dict
    problems: list = field(default_factory=list)
    remarks: list = field(default_factory=list)
    unusual: list = field(default_factory=list)
    shortcuts: list = field(default_factory=list)
    tables: dict = field(default_factory=dict)
    sampled: int = 0

    def __bool__(self):
        return not self.problems

    def to_dict(self):
        """Return all of it as plain values, for JSON; undefined figures are None, with a reason."""
        found = {name: [finding._asdict() for finding in getattr(self, name)]
                 for name in ("problems", "remarks", "unusual")}
        suspects = [asdict(suspect) | {"flagged": suspect.is_flagged} for suspect in self.shortcuts]
        return {"source": self.source, "images": self.images, "readable": self.readable, "patients": self.patients,
                "counts": self.counts, **found, "shortcuts": suspects, "sampled": self.sampled, "tables": self.tables}


def audit(manifest, workers=None, progress=False, seed=0, source=""):
    """Look at every image of a manifest; return an Audit.

    Parameters
    ----------
    manifest : Manifest, of files
    workers : int, threads that decode; the cores available where None
    seed : int; of the folds

    Raises
    ------
    ManifestError : none of the files can be read
    """
    seed = check_seed(seed)
    survey = FileScan(manifest, workers, progress)
    try:
        if not len(survey):
            raise ManifestError(f"{printable(source) or 'audit'}: none of the {len(manifest):,} files can be read. The "
                                f"first: {survey.unreadable[0][1]}")
        names = [printable(name) for name in manifest.names]
        counts = manifest.counts()
        result = Audit(source, len(manifest), len(survey), len(set(manifest.patients) - {""}), counts)
        result.problems += [Finding("unreadable", (names[row],), sentence) for row, sentence in survey.unreadable]
        result.problems += _not_frontal(manifest, names)
        pairs = find_pairs(survey, manifest.patients[survey.rows])
        parts = _parts(manifest)
        result.problems += _duplicates(pairs, survey, manifest, names, parts)
        result.problems += _torn_patients(manifest, parts)
        result.remarks += _odd_files(survey, names) + _several_labels(manifest)
        result.unusual = _unusual(survey, names)
        result.tables = _tables(manifest, survey)
        group = groups(manifest.patients[survey.rows], clusters(survey, pairs))
        chosen = confounders.sample(len(survey), seed)
        result.sampled, result.shortcuts = len(chosen), _suspects(manifest, survey, group, chosen, seed)
        result.problems += [Finding("shortcut", (), _meaning(suspect)) for suspect in result.shortcuts
                            if suspect.is_flagged]
        return result
    finally:
        survey.close()


# ---- Files -----------------------------------------------------------------------------------------------------------

def _not_frontal(manifest, names):
    kinds = {"lateral": "a lateral view", "ct": "a slice of a CT", "other": "not an X-ray"}
    unknown, found = [""] * len(manifest), []
    views, modalities = (unknown if words is None else words for words in (manifest.views, manifest.modalities))
    for name, view, modality in zip(names, views, modalities):
        if (kind := view_kind(view, modality)) in kinds:
            said = " ".join(printable(word) for word in (view, modality) if word)
            found.append(Finding("not frontal", (name,), f"{name} is {kinds[kind]} by its own word ({said[:60]})."))
    return found


def _odd_files(survey, names):
    """Say what is odd about a file by itself, or by its kind among the others."""
    found = []
    kinds = [(header.format, header.mode) for header in survey.headers]
    held = Counter(kinds)
    (common, mode), _ = held.most_common(1)[0]
    for row, kind, oddities in zip(survey.rows, kinds, survey.oddities):
        said = list(oddities)
        if held[kind] < _RARE * len(kinds):
            said.append(f"is a {kind[0]} of {_pixels(kind[1])}, where most are {common} of {_pixels(mode)}")
        if said:
            found.append(Finding("odd file", (names[row],), f"{names[row]} {'; '.join(said)}."))
    return found


def _pixels(mode):
    """Say what Pillow's name of a mode means."""
    if mode.startswith("I;16"):
        return "16-bit grey"
    return {"1": "1-bit black and white", "L": "8-bit grey", "LA": "8-bit grey with transparency",
            "P": "palette colour", "RGB": "RGB colour", "RGBA": "RGB colour with transparency", "CMYK": "CMYK colour",
            "I": "32-bit grey", "F": "floating-point grey"}.get(mode, f"mode {printable(mode)}")


# ---- Who is in it twice ----------------------------------------------------------------------------------------------

def _parts(manifest):
    """Return the word in the split column of each image, in lower case; or None without one."""
    return None if manifest.splits is None else [word.strip().lower() for word in manifest.splits]


def _duplicates(pairs, survey, manifest, names, parts):
    how = {"exact": "are the same picture", "near": "are the same picture, altered",
           "mirrored": "are the same picture, mirrored"}
    found = []
    for pair in pairs:
        a, b = survey.rows[pair.first], survey.rows[pair.second]
        said, what = [how[pair.how]], "duplicate"
        if manifest.labels[a] != manifest.labels[b]:
            said.append(f"labelled {manifest.classes[manifest.labels[a]]} and {manifest.classes[manifest.labels[b]]}")
        owners = manifest.patients[a], manifest.patients[b]
        if all(owners) and owners[0] != owners[1]:
            said.append(f"under two patients' names, {printable(owners[0])} and {printable(owners[1])}")
        if parts is not None and parts[a] != parts[b]:
            said.append(f"in two parts, {printable(parts[a])} and {printable(parts[b])}")
            what = "torn duplicate"
        found.append(Finding(what, (names[a], names[b]), f"{names[a]} and {names[b]} {', '.join(said)}"
                             f"{'' if pair.how == 'exact' else f' (similarity {pair.similarity:.2f})'}."))
    return found


def _torn_patients(manifest, parts):
    if parts is None:
        return []
    return [Finding("torn patient", (), f"patient {printable(patient)} is in "
                    f"{' and '.join(map(printable, sorted(held)))}.")
            for patient, held in _by_patient(manifest, parts).items() if len(held) > 1]


def _several_labels(manifest):
    labels = [manifest.classes[label] for label in manifest.labels]
    return [Finding("several labels", (), f"patient {printable(patient)} has images of {' and '.join(sorted(held))}.")
            for patient, held in _by_patient(manifest, labels).items() if len(held) > 1]


def _by_patient(manifest, words):
    """Return {patient: set of words of their images}."""
    held = {}
    for patient, word in zip(manifest.patients, words):
        if patient:
            held.setdefault(patient, set()).add(word)
    return held


# ---- What the collection is made of ----------------------------------------------------------------------------------

def _tables(manifest, survey):
    """Count the labels of each source, view, format and size; the rarest values together."""
    labels = manifest.labels
    columns = {"source": (manifest.sources, labels), "view": (manifest.views, labels),
               "format": ([f"{head.format}, {_pixels(head.mode)}" for head in survey.headers], labels[survey.rows]),
               "size": ([f"{head.width} x {head.height}" for head in survey.headers], labels[survey.rows])}
    return {name: _table(words, of_rows, manifest.classes) for name, (words, of_rows) in columns.items()
            if words is not None}


def _table(words, labels, classes):
    words = [printable(word) or "unknown" for word in words]
    common = [word for word, _ in Counter(words).most_common(_MOST_ROWS)]
    rest = f"{len(set(words)) - len(common):,} others"
    table = {word: dict.fromkeys(classes, 0) for word in common + ([rest] if len(set(words)) > len(common) else [])}
    for word, label in zip(words, labels):
        table[word if word in table else rest][classes[label]] += 1
    return table


def _unusual(survey, names):
    """List the pictures that resemble the collection's median picture least, if they stand apart from the others."""
    n, block = len(survey), 4096
    middle = np.median(survey.read(confounders.sample(n)), axis=0).reshape(-1)
    middle = middle - middle.mean()
    alike = np.zeros(n)
    for at in range(0, n, block):
        numbers = np.arange(at, min(at + block, n))
        pictures = survey.read(numbers).reshape(len(numbers), -1).astype(np.float64)
        pictures -= pictures.mean(axis=1, keepdims=True)
        norms = np.sqrt((pictures**2).sum(axis=1) * (middle @ middle))
        alike[numbers] = pictures @ middle / np.where(norms > 0, norms, np.inf)
    low, high = np.quantile(alike, (0.25, 0.75))
    order = np.argsort(alike, kind="stable")[:_MOST_UNUSUAL]
    found = [(names[survey.rows[i]], alike[i]) for i in order if alike[i] < low - _FENCE * (high - low)]
    return [Finding("unusual", (name,), f"{name}: its correlation with the median picture is {r:.2f}, where half of "
                    f"all lie between {low:.2f} and {high:.2f}.") for name, r in found]


# ---- What gives the labels away --------------------------------------------------------------------------------------

def _suspects(manifest, survey, group, chosen, seed):
    rows = survey.rows[chosen]
    pictures = survey.read(chosen)
    header = confounders.header_features([survey.headers[i] for i in chosen])
    source, lone = None, "there is no source column"
    if manifest.sources is not None:
        source, lone = confounders.source_features(manifest.sources[rows]), "all images are from one source"
    suspects = []
    for name, features, judged, reason in (
            ("header", header, True, "" if header is not None else "all files say the same of themselves"),
            ("border", confounders.border_features(pictures), True, ""),
            ("thumbnail", confounders.thumbnail_features(pictures), False, ""),
            ("source", source, True, "" if source is not None else lone)):
        suspects += confounders.examine(name, features, manifest.labels[rows], group[chosen], manifest.classes, judged,
                                      reason, seed)
    return suspects


_ALONE = {"header": "the header of the file alone (format, size, encoding: no pixel)",
          "border": "the border of the picture alone (the outer eighth of each side)",
          "source": "the name of the collection that an image comes from, alone,"}


def _meaning(suspect):
    return (f"{_ALONE[suspect.name]} tells {printable(suspect.against)} from the rest with an AUC of {suspect.auc:.2f} "
            f"({suspect.low:.2f} to {suspect.high:.2f}).")
