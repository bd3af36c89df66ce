"""The audit of a collection: problems of its files, duplicates, leakage between sets, and confounders.

    problems    what biases metrics on this collection: unreadable files, CT slices and lateral views, duplicate images,
                a patient in two sets, labels that the header, the border or the source predicts
    remarks     unusual files, which may be valid
    unusual     images unlike the others, to be inspected; no verdict

An audit without findings does not prove that there is no problem.
"""

import re
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import numpy as np

from minicnn.core.progress import Progress, announce
from minicnn.core.random import check_seed
from minicnn.core.text import join
from minicnn.core.untrusted import Problems
from minicnn.data.collections import view_kind
from minicnn.data.decoding import about_bits, is_dark
from minicnn.data.near_duplicates import clusters, find_pairs
from minicnn.data.preprocessing import Preprocessing
from minicnn.data.split import groups
from minicnn.errors import printable
from minicnn.evaluation.auditing import confounders
from minicnn.evaluation.auditing.file_scan import FileScan
from minicnn.evaluation.summary import same_words

__all__ = ["Finding", "Audit", "audit", "WHAT"]

_RARE = 0.05            # a file is odd if a smaller proportion of the collection has its format
_FENCE = 3.0            # unusual: so many interquartile ranges below the first quartile
_MOST_UNUSUAL, _MOST_ROWS = 20, 8

WHAT = {"unreadable": "unreadable files", "not frontal": "images that are not frontal radiographs",
        "duplicate": "pairs of duplicate images", "torn patient": "patients in more than one set",
        "torn duplicate": "pairs of duplicate images in two sets", "shortcut": "confounders", "odd file": "odd files",
        "several labels": "patients with several labels", "scale": "images on another scale"}


class Finding(NamedTuple):
    """One finding: what (a key of `WHAT`), the files concerned, a sentence, and what equal findings have in common."""

    what: str
    files: tuple
    sentence: str
    kind: str = ""


@dataclass
class Audit:
    """The result of `audit`; true if there is no problem.

    Attributes
    ----------
    source : str; what was audited
    images, readable, patients : int; patients who are known
    unidentified : int; the number of images whose patient is unknown
    counts : dict from class to number of images
    problems, remarks, unusual : lists of Finding
    confounders : list of Confounder (confounders.py)
    tables : dict from "source", "view", "format", "size", "manufacturer" ... to {value: {class: number of images}}
    sampled : int; the number of images used for the confounders
    """

    source: str
    images: int
    readable: int
    patients: int
    counts: dict
    problems: list = field(default_factory=list)
    remarks: list = field(default_factory=list)
    unusual: list = field(default_factory=list)
    confounders: list = field(default_factory=list)
    tables: dict = field(default_factory=dict)
    sampled: int = 0
    unidentified: int = 0

    def __bool__(self):
        return not self.problems

    def to_dict(self):
        """Return the audit as plain JSON; undefined values are None, with a reason."""
        found = {name: [finding._asdict() for finding in getattr(self, name)]
                 for name in ("problems", "remarks", "unusual")}
        rows = [asdict(confounder) | {"flagged": confounder.is_flagged} for confounder in self.confounders]
        return {"source": self.source, "images": self.images, "readable": self.readable, "patients": self.patients,
                "unidentified": self.unidentified, "counts": self.counts, **found, "shortcuts": rows,
                "sampled": self.sampled, "tables": self.tables}


def audit(manifest, workers=None, progress=False, seed=0, source="", bits=None):
    """Read every image of a manifest; return an Audit.

    Parameters
    ----------
    manifest : Manifest, of files
    workers : int, threads that decode; the number of available cores where None
    progress : bool; show a progress bar
    seed : int; of the cross-validation folds
    source : str; the name of the collection in the report
    bits : as in Preprocessing

    Raises
    ------
    ManifestError : none of the files can be read

    >>> import tempfile
    >>> from minicnn.data.manifest import Manifest
    >>> from minicnn.data.synthetic import phantom
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = audit(Manifest.read(phantom.write(folder, n=20, seed=1, size=64)))
    >>> bool(result), result.images, [finding.what for finding in result.problems]
    (True, 20, [])
    """
    seed = check_seed(seed)
    bits = Preprocessing(bits=bits).bits
    announce(f"reading {len(manifest):,} images", progress)
    scan = FileScan(manifest, workers, progress, bits)
    try:
        if not len(scan):
            problems = Problems(f"{printable(source) or 'audit'}: none of the {len(manifest):,} files can be read")
            for row, sentence in scan.unreadable:
                problems.add(sentence, kind=_kind(sentence, manifest.paths[row]))
            problems.raise_any()
        names = [printable(name) for name in manifest.names]
        sets = None if manifest.splits is None else [word.strip().lower() for word in manifest.splits]
        result = Audit(source, len(manifest), len(scan), len(set(manifest.patients) - {""}), manifest.counts())
        announce(f"finding copies among {len(scan):,} images", progress)
        result.unidentified = int((manifest.patients == "").sum())
        pairs = find_pairs(scan, manifest.patients[scan.rows], progress)
        result.problems += [
            Finding("unreadable", (names[row],), sentence.replace(printable(manifest.paths[row]), names[row]),
                    _kind(sentence, manifest.paths[row])) for row, sentence in scan.unreadable]
        result.problems += _not_frontal(manifest, names) + _duplicates(pairs, scan, manifest, names, sets)
        dark = tuple(names[row] for row in scan.rows[is_dark(scan.used, bits)])
        result.problems += [Finding("scale", dark, sentence) for sentence in about_bits(scan.used, bits)]
        if sets is not None:
            result.problems += _several(manifest, sets, "torn patient", "patient {} is in {}")
        labels = [manifest.classes[label] for label in manifest.labels]
        result.remarks += _odd_files(scan, names)
        result.remarks += _several(manifest, labels, "several labels", "patient {} has images of {}")
        result.unusual, result.tables = _unusual(scan, names), _tables(manifest, scan)
        group = groups(manifest.patients[scan.rows], clusters(scan, pairs))
        sample = confounders.sample(len(scan), seed)
        result.sampled, result.confounders = len(sample), _confounders(manifest, scan, group, sample, seed, progress)
        result.problems += [Finding("shortcut", (), _meaning(one)) for one in result.confounders if one.is_flagged]
        return result
    finally:
        scan.close()


# ---- Files -----------------------------------------------------------------------------------------------------------

def _not_frontal(manifest, names):
    kinds = {"lateral": "a lateral view", "ct": "a slice of a CT", "other": "not an X-ray"}
    unknown, found = [""] * len(manifest), []
    views, modalities = (unknown if words is None else words for words in (manifest.views, manifest.modalities))
    for name, view, modality in zip(names, views, modalities):
        if (kind := view_kind(view, modality)) in kinds:
            said = " ".join(printable(word) for word in (view, modality) if word)
            said = f"is {kinds[kind]} according to the manifest ({said[:60]})"
            found.append(Finding("not frontal", (name,), f"{name} {said}.", said))
    return found


def _kind(sentence, path):
    """Return what a sentence about a file shares with those about others: without its path, and without numbers."""
    return re.sub(r"\d+", "0", sentence.replace(printable(path), ""))


def _odd_files(scan, names):
    """Return the files that are odd in themselves, or whose format is rare in the collection."""
    found = []
    kinds = [(header.format, header.mode) for header in scan.headers]
    held = Counter(kinds)
    (common, mode), _ = held.most_common(1)[0]
    for row, kind, oddities in zip(scan.rows, kinds, scan.oddities):
        said = list(oddities)
        if held[kind] < _RARE * len(kinds):
            said.append(f"is a {kind[0]} of {_pixels(kind[1])}, where most are {common} of {_pixels(mode)}")
        if said:
            said = "; ".join(said)
            found.append(Finding("odd file", (names[row],), f"{names[row]} {said}.", re.sub(r": \d+ x \d+", "", said)))
    return found


def _pixels(mode):
    """Return what Pillow's name of a mode means."""
    if mode.startswith("I;16"):
        return "16-bit grey"
    return {"1": "1-bit black and white", "L": "8-bit grey", "LA": "8-bit grey with transparency",
            "P": "palette colour", "RGB": "RGB colour", "RGBA": "RGB colour with transparency", "CMYK": "CMYK colour",
            "I": "32-bit grey", "F": "floating-point grey"}.get(mode, printable(mode) if "," in mode else f"mode {printable(mode)}")


# ---- Duplicates and patients -----------------------------------------------------------------------------------------

def _duplicates(pairs, scan, manifest, names, sets):
    how = {"exact": "are the same image", "near": "are the same image, altered",
           "mirrored": "are the same image, mirrored"}
    found = []
    for pair in pairs:
        a, b = scan.rows[pair.first], scan.rows[pair.second]
        said, kind, what = [how[pair.how]], [pair.how], "duplicate"
        if manifest.labels[a] != manifest.labels[b]:
            said.append(f"labelled {manifest.classes[manifest.labels[a]]} and {manifest.classes[manifest.labels[b]]}")
            kind += sorted((manifest.labels[a], manifest.labels[b]))
        owners = manifest.patients[a], manifest.patients[b]
        if all(owners) and owners[0] != owners[1]:
            said.append(f"of two patients, {printable(owners[0])} and {printable(owners[1])}")
            kind.append("of two patients")
        if sets is not None and sets[a] != sets[b]:
            said.append(f"in two sets, {printable(sets[a])} and {printable(sets[b])}")
            kind += sorted((sets[a], sets[b]))
            what = "torn duplicate"
        found.append(Finding(what, (names[a], names[b]), f"{names[a]} and {names[b]} {', '.join(said)}"
                             f"{'' if pair.how == 'exact' else f' (similarity {pair.similarity:.2f})'}.",
                             ", ".join(map(printable, kind))))
    return found


def _several(manifest, words, what, form):
    """Return a Finding for each patient whose images have several words; `form` has places for patient and words."""
    held = {}
    for patient, word in zip(manifest.patients, words):
        if patient:
            held.setdefault(patient, set()).add(word)
    several = [(printable(patient), join(map(printable, sorted(found)))) for patient, found in held.items()
               if len(found) > 1]
    return [Finding(what, (), f"{form.format(patient, found)}.", form.format("", found)) for patient, found in several]


# ---- Composition of the collection -----------------------------------------------------------------------------------

def _tables(manifest, scan):
    """Count the labels by source, view, format and size; the rarest values together."""
    labels = manifest.labels
    columns = {"source": (manifest.sources, labels), "view": (manifest.views, labels),
               **{name: (getattr(manifest, attribute), labels) for name, attribute in _SCANNERS.items()},
               "burned-in annotation": (manifest.burned_in_annotations, labels),
               "format": ([f"{head.format}, {_pixels(head.mode)}" for head in scan.headers], labels[scan.rows]),
               "size": ([f"{head.width} x {head.height}" for head in scan.headers], labels[scan.rows])}
    return {name: _table(words, of_rows, manifest.classes) for name, (words, of_rows) in columns.items()
            if words is not None}


def _table(words, labels, classes):
    words = [printable(word) or "unknown" for word in same_words(words)]
    common = [word for word, _ in Counter(words).most_common(_MOST_ROWS)]
    rest = f"{len(set(words)) - len(common):,} others"
    table = {word: dict.fromkeys(classes, 0) for word in common + ([rest] if len(set(words)) > len(common) else [])}
    for word, label in zip(words, labels):
        table[word if word in table else rest][classes[label]] += 1
    return table


def _unusual(scan, names):
    """Return the images with the lowest correlation with the median image, if they are outliers."""
    n, block = len(scan), 4096
    middle = np.median(scan.read(confounders.sample(n)), axis=0).reshape(-1)
    middle = middle - middle.mean()
    alike = np.zeros(n)
    for at in range(0, n, block):
        numbers = np.arange(at, min(at + block, n))
        images = scan.read(numbers).reshape(len(numbers), -1).astype(np.float64)
        images -= images.mean(axis=1, keepdims=True)
        norms = np.sqrt((images**2).sum(axis=1) * (middle @ middle))
        alike[numbers] = images @ middle / np.where(norms > 0, norms, np.inf)
    low, high = np.quantile(alike, (0.25, 0.75))
    order = np.argsort(alike, kind="stable")[:_MOST_UNUSUAL]
    found = [(names[scan.rows[i]], alike[i]) for i in order if alike[i] < low - _FENCE * (high - low)]
    return [Finding("unusual", (name,), f"{name}: its correlation with the median image is {r:.2f}; half of all images "
                    f"have {low:.2f} to {high:.2f}.") for name, r in found]


# ---- Confounders -----------------------------------------------------------------------------------------------------

def _confounders(manifest, scan, group, sample, seed, progress):
    rows, images = scan.rows[sample], scan.read(sample)
    scanners = {name: getattr(manifest, attribute)[rows] for name, attribute in _SCANNERS.items()
                if getattr(manifest, attribute) is not None}
    features = {"header": confounders.header_features([scan.headers[i] for i in sample]),
                "border": confounders.border_features(images), "thumbnail": confounders.thumbnail_features(images),
                "source": None if manifest.sources is None else confounders.source_features(manifest.sources[rows])}
    features |= {name: confounders.source_features(words) for name, words in scanners.items()}
    reasons = {"header": "all headers are the same",
               "source": "there is no source column" if manifest.sources is None else "all images are from one source"}
    reasons |= {name: "it is the same for all images" for name in scanners}
    announce(f"measuring confounders on {len(sample):,} images", progress)
    folds = confounders.FOLDS * len(features) * (len(manifest.classes) if len(manifest.classes) > 2 else 1)
    with Progress(folds, "measuring confounders", "fold", progress) as bar:
        return [found for name, values in features.items() for found in confounders.examine(
            name, values, manifest.labels[rows], group[sample], manifest.classes, name != "thumbnail",
            reasons[name] if values is None else "", seed, bar.advance)]


# What DICOM says of the scanner and the file, by the attribute of Manifest (ATTRIBUTES) that holds it.
_SCANNERS = {"manufacturer": "manufacturers", "detector": "detectors", "photometric": "photometric_interpretations",
             "compression": "lossy_compressions"}
_ALONE = {"header": "the file header alone (format, size, encoding; no pixels)",
          "border": "the image border alone (the outer eighth of each side)", "source": "the source alone",
          "manufacturer": "the manufacturer of the scanner alone", "detector": "the detector alone",
          "photometric": "the photometric interpretation alone (whether white was stored as 0)",
          "compression": "lossy compression alone"}


def _meaning(one):
    return (f"{_ALONE[one.name]} predicts {printable(one.against)} with an AUC of {one.auc:.2f} "
            f"({one.low:.2f} to {one.high:.2f}).")
