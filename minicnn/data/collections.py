"""Manifests from the folder layouts of public collections; nothing is downloaded, and no image is opened or moved.

    cohen         covid-chestxray-dataset (Cohen et al.): metadata.csv, images/
    radiography   COVID-19 Radiography Database (Chowdhury et al.; Rahman et al.): a folder for each class, with images/
    covidx        COVIDx (Wang, Lin & Wong): train*.txt, val*.txt, test*.txt, and folders of the same names
    nih           ChestX-ray8 and 14 (Wang et al.): Data_Entry*.csv, images*/
    cxnet         COVID-CXNet (Haghanifar et al.): metadata.csv, chest_xray_images/ with a folder for each class

Labels become `normal`, `covid`, `pneumonia`, or `negative` (not COVID-19) where a collection gives no more. Patients
and sources get the name of the collection as a prefix, so that manifests can be joined. Only frontal radiographs are
kept; others are counted.
"""

import os
import re
from collections import Counter
from dataclasses import dataclass, field

from minicnn.core.text import join, spelling
from minicnn.core.untrusted import Problems, open_limited, raising, read_table, text_lines
from minicnn.data.file_kinds import EXTENSIONS
from minicnn.data.labels import SPLITS, finding, known
from minicnn.data.manifest_reader import COLUMNS
from minicnn.data.paths import Paths
from minicnn.errors import ManifestError, printable

__all__ = ["KINDS", "LABELS", "Imported", "import_collection", "view_kind"]

LABELS = ("normal", "negative", "covid", "pneumonia")

_MOST_BYTES = 2**28

# Columns in which words such as "nan" mean unknown, by their spelling.
_ATTRIBUTES = {"patientid", "folder", "view", "viewposition", "modality", "sex", "age", "patientage", "patientgender",
               "patientsex"}


@dataclass
class Imported:
    """The result of importing a collection.

    Attributes
    ----------
    rows : list of dict with the keys of `COLUMNS`; paths are relative to the collection's folder
    excluded : Counter from a reason to the number of images or rows
    findings : dict from the reasons that are findings to a Counter of these, as the collection writes them
    notes : list of sentences; limitations of the manifest
    unknown : Counter from a column to the number of its cells that say that it is unknown
    """

    rows: list = field(default_factory=list)
    excluded: Counter = field(default_factory=Counter)
    findings: dict = field(default_factory=dict)
    notes: list = field(default_factory=list)
    unknown: Counter = field(default_factory=Counter)

    def known(self, column, word):
        """Return the word of a column, "" if it means unknown, which is counted."""
        (word,), unknown = known([word.strip()])
        self.unknown[column] += unknown.total()
        return word


def import_collection(kind, folder, labels=("normal", "negative", "covid")):
    """Read a collection with the layout `kind` from `folder`; return an Imported.

    Parameters
    ----------
    kind : one of `KINDS`
    labels : the `LABELS` to keep; images with others are counted, by finding. "pneumonia" is not COVID-19; of cohen it is
        bacterial, viral or fungal

    Raises
    ------
    ManifestError : the folder has another layout, lists name a file twice in two ways, or no image is left
    """
    folder, name = os.fspath(folder), printable(os.fspath(folder))
    if not os.path.isdir(folder):
        raise ManifestError(f"{name}: no such folder. Name the folder in which the collection was unpacked.")
    result, first = Imported(), {}
    twice = Problems(f"{name}: files are listed twice, and not alike. Correct the lists, or keep one version of each")
    try:
        for row in _READERS[kind](folder, result):
            where, said = row.pop("where", ""), row.pop("finding", "")
            row = dict.fromkeys(COLUMNS, "") | {key: value if key == "path" else value.strip()
                                                for key, value in row.items()}
            reason = _why_not(row, labels)
            if row["path"] and reason not in _KINDS.values():
                before = first.setdefault(row["path"], (row, where))
                if before[0] is not row:
                    _compare(row, where, *before, twice)
                    reason = "listed twice"
            if reason is None:
                result.rows.append(row)
            else:
                result.excluded[reason] += 1
                if row["label"] not in labels and reason not in _KINDS.values():
                    result.findings.setdefault(reason, Counter())[said.strip() or "(empty)"] += 1
    except OSError as error:
        raise ManifestError(f"{printable(error.filename or folder)}: cannot be read ({error.strerror}).") from None
    twice.raise_any()
    if not result.rows:
        why = "; ".join(f"{count:,} {reason}" for reason, count in result.excluded.most_common())
        raise ManifestError(f"{name}: no image is left for a manifest ({why or 'nothing was listed'}). Is this the "
                            f"folder of the collection {kind!r}, with its images?")
    _check_whole(result)
    return result


def _check_whole(result):
    """Drop a split column that does not name all three splits; note what is missing for training."""
    words = {row["split"] for row in result.rows}
    if words - {""} and words != set(SPLITS):
        result.notes.append(f"its lists name {' and '.join(sorted(words - {''}))} only, so no split column was "
                            "written: minicnn splits by patient.")
        for row in result.rows:
            row["split"] = ""
    if unknown := +result.unknown:
        result.notes.append("cells that mean unknown are left empty: "
                            f"{join(f'{count:,} of {column}' for column, count in unknown.items())}.")
    found = {row["label"] for row in result.rows}
    if len(found) == 1:
        result.notes.append(f"all images are {found.pop()}: to train, join it with a collection of the other label.")
    elif len(found) == 2 and "covid" not in found:
        result.notes.append(f"{join(sorted(found))}: name the classes, the negative one first, with --classes.")


def _compare(row, where, before, there, problems):
    """Report two rows of one file that contradict each other."""
    for name, said in (("label", "labelled"), ("patient_id", "of patient"), ("split", "in the split")):
        one, other = row[name], before[name]
        if one != other and (name == "label" or one and other):
            one, other = (repr(printable(word)) if word else "with another finding" for word in (one, other))
            problems.add(f"{printable(row['path'])} is {said} {one}, but {other} in {there}.", where, name)


_KINDS = {"lateral": "lateral views", "ct": "CT slices", "other": "not X-rays"}


def _why_not(row, labels):
    """Return the reason for excluding an image, or None."""
    kind = view_kind(row["view"], row["modality"])
    if kind in _KINDS:
        return _KINDS[kind]
    if row["label"] not in labels:
        return f"labelled {row['label']}" if row["label"] in LABELS else "with other findings"
    if not row["path"].isprintable():       # line ends and bytes that are not UTF-8 are not allowed in a manifest
        return "with names that cannot be written"
    if not row["path"]:
        return "listed, but without a file"
    return None if row["path"].strip().lower().endswith(EXTENSIONS) else "of a file type that is not read"


# ---- The layouts -----------------------------------------------------------------------------------------------------

# What a finding of cohen is, beside "pneumonia": its group, as in Pneumonia/Viral/SARS, or, in early versions of the
# collection, the agent alone, which today's table has in one of the groups.
_COHEN_GROUPS = {"viral", "bacterial", "fungal"}
_COHEN_AGENTS = {*"sars mers mers-cov varicella influenza h1n1 herpes".split(),                         # viral
                 *"streptococcus klebsiella chlamydophila legionella mycoplasma nocardia".split(),      # bacterial
                 *"e.coli staphylococcus mrsa".split(), "pneumocystis", "aspergillosis"}                # and fungal


def _cohen_label(text):
    """Return the label of a finding of cohen; "pneumonia" is a bacterial, viral or fungal one and not COVID-19.

    >>> [_cohen_label(text) for text in ("Pneumonia/Viral/SARS", "SARS", "Pneumonia/Viral/COVID-19", "COVID-19, ARDS")]
    ['pneumonia', 'pneumonia', 'covid', 'covid']
    >>> [_cohen_label(text) for text in ("Pneumonia/Lipoid", "Pneumonia", "Tuberculosis", "ARDS", "SARS or COVID-19")]
    ['', '', '', '', '']
    """
    label, parts = finding(text), {part.strip() for part in re.split(r"[/,]", text.lower())}
    if label == "pneumonia":
        return label if parts & _COHEN_AGENTS or _COHEN_GROUPS & {*_words(text)} else ""
    is_agent = not label and parts & _COHEN_AGENTS and not re.search("covid|corona|ncov", text.lower())
    return "pneumonia" if is_agent else label


def _cohen(folder, result):
    """metadata.csv: a row for each image, with its `folder` and `filename`."""
    listed = _Listed(folder)
    for row in _table(folder, "metadata.csv", ("patientid", "finding", "view", "filename"), result):
        place = os.path.join(row.get("folder", "") or "images", row["filename"])
        yield {"path": listed.find(place), "label": _cohen_label(row["finding"]), "finding": row["finding"],
               "where": row["where"], "patient_id": _of("cohen", row["patientid"]), "source": "cohen"} | _described(row)
    listed.note(result)


def _nih(folder, result):
    """Data_Entry*.csv: a row for each image; its file is in images/, images_001/images/ or the like."""
    files = _files_by_name(folder, "images")
    for row in _table(folder, "Data_Entry", ("Image Index", "Finding Labels", "Patient ID", "View Position"), result):
        findings = row["Finding Labels"].split("|")
        label = "normal" if findings == ["No Finding"] else "pneumonia" if "Pneumonia" in findings else ""
        yield {"path": files.get(row["Image Index"], ""), "label": label, "finding": row["Finding Labels"],
               "patient_id": _of("nih", row["Patient ID"]),
               "source": "nih", "where": row["where"], "view": row["View Position"], "age": row.get("Patient Age", ""),
               "sex": row.get("Patient Gender", "") or row.get("Patient Sex", "")}


_LISTS = re.compile(r"(train|val|test)(?:ing|idation)?(?![a-z]).*\.txt")


def _covidx(folder, result):
    """train*.txt, val*.txt and test*.txt: `patient file label source`, the source missing in early versions."""
    lists = sorted(name for name in os.listdir(folder) if _LISTS.fullmatch(name.lower()))
    if not lists:
        raise ManifestError(f"{printable(folder)}: there is no train*.txt or test*.txt, the lists of COVIDx.")
    splits, listed = {"train": "training", "val": "validation", "test": "test"}, _Listed(folder)
    for name in lists:
        inside = _LISTS.fullmatch(name.lower())[1]
        for number, line in enumerate(_lines(os.path.join(folder, name)), 1):
            words = line.split()
            if not words:
                continue
            if len(words) < 3:
                raise ManifestError(f"{printable(os.path.join(folder, name))}: line {number}: expected 'patient file "
                                    f"label source', got {printable(line.strip())[:100]!r}.")
            patient, file, label, source = words[0], words[1], words[2], words[3] if len(words) > 3 else "covidx"
            path = listed.find(os.path.join(inside, file)) or listed.find(os.path.join("data", inside, file))
            source = result.known("source", source)
            yield {"path": path, "label": finding(label), "finding": label, "split": splits[inside], "source": source,
                   "patient_id": _of(source or "covidx", result.known("patient", patient)),
                   "where": f"{name} line {number}"}
    listed.note(result)
    result.notes.append("in COVIDx, negative means normal or another pneumonia.")


def _radiography(folder, result):
    """A folder for each class, with its images inside or in images/; masks/ holds no radiographs."""
    yield from _class_folders(folder, result, "radiography")
    result.notes.append("it does not identify patients: only copies of one image can be kept together. Metrics "
                        "measured on it will be too good by an unknown amount.")
    if any(name.endswith(".xlsx") for name in os.listdir(folder)) and not _urls(folder):
        result.notes.append("its .xlsx tables hold the origin of each image. Save them as CSV in the same folder to "
                            "get a source column.")


def _cxnet(folder, result):
    """A folder for each class below chest_xray_images/, and an optional metadata.csv."""
    table = {}
    if os.path.exists(os.path.join(folder, "metadata.csv")):
        twice = Problems(f"{printable(folder)}: files are listed twice, and not alike. Correct the list")
        for row in _table(folder, "metadata.csv", ("filename", "patient_id"), result):
            before = table.setdefault(row["filename"], row)
            if row["patient_id"] and before["patient_id"] not in ("", row["patient_id"]):
                twice.add(f"{printable(row['filename'])} is of patient {printable(row['patient_id'])!r}, but "
                          f"{printable(before['patient_id'])!r} in {before['where']}.", row["where"], "patient_id")
            elif row["patient_id"]:
                table[row["filename"]] = row
        twice.raise_any()
    inside = os.path.join(folder, "chest_xray_images")
    for row in _class_folders(inside if os.path.isdir(inside) else folder, result, "cxnet"):
        known = table.get(os.path.basename(row["path"]), {})
        if os.path.isdir(inside):
            row["path"] = os.path.join("chest_xray_images", row["path"])
        yield row | {"patient_id": _of("cxnet", known.get("patient_id", ""))} | _described(known)
    if not table:
        result.notes.append("there is no metadata.csv, so patients are unknown.")


_READERS = {"cohen": _cohen, "radiography": _radiography, "covidx": _covidx, "nih": _nih, "cxnet": _cxnet}
KINDS = tuple(_READERS)


# ---- Common to the layouts -------------------------------------------------------------------------------------------

def _described(row):
    """Return the columns that some collections share with manifests, "" where missing."""
    return {column: row.get(column, "") for column in ("view", "modality", "sex", "age")}


def _of(collection, patient):
    """Return a patient name that is unique among all collections, "" where unknown."""
    patient = patient.strip()
    return f"{collection}-{patient}" if patient else ""


def _existing(folder, place):
    """Return `place` where it names a regular file inside `folder`, else ""."""
    inside = os.path.realpath(os.path.join(folder, place))
    root = os.path.realpath(folder)
    return place if os.path.isfile(inside) and os.path.commonpath([root, inside]) == root else ""


class _Listed:
    """Find the files that a list names, also where it is spelled as on another system."""

    def __init__(self, folder):
        self.paths = Paths(os.path.realpath(folder))

    def find(self, place):
        """Return the path relative to the folder, or "" where there is no such file inside it."""
        try:
            return os.path.relpath(self.paths.find(place), self.paths.root)
        except ManifestError:
            return ""

    def note(self, result):
        """Note how many files were found under another spelling."""
        if self.paths.respelled:
            result.notes.append(self.paths.remark("the list"))


def _class_folders(folder, result, source):
    """Yield a row for each image of each class folder; masks are counted."""
    urls, negative = _urls(folder), []
    for name in sorted(os.listdir(folder)):
        if not os.path.isdir(os.path.join(folder, name)) or name.startswith("."):
            continue
        for inner in (name, os.path.join(name, "images"), os.path.join(name, "masks")):
            if not os.path.isdir(os.path.join(folder, inner)):
                continue
            if finding(name) == "negative" and name not in negative:
                negative.append(name)
            images = [file for file in sorted(os.listdir(os.path.join(folder, inner)))
                      if file.lower().endswith(EXTENSIONS) and not file.startswith(".")]
            if inner.endswith("masks"):
                result.excluded["masks"] += len(images)
                continue
            for file in images:
                origin = urls.get((finding(name), os.path.splitext(file)[0].lower()), "")
                yield {"path": _existing(folder, os.path.join(inner, file)), "label": finding(name), "finding": name,
                       "source": f"{source}:{origin}" if origin else source}
    if negative:
        result.notes.append(f"the label of {join(map(printable, negative))} is negative: not COVID-19, but perhaps "
                            "another disease.")


def _urls(folder):
    """Return {(label, stem of the file name): host and first folder of its URL} from CSV copies of the .xlsx tables."""
    urls = {}
    for name in sorted(os.listdir(folder)):
        label = finding(name.split(".")[0])
        if name.lower().endswith(".csv") and "metadata" in name.lower() and label:
            for row in _table(folder, name, ("FILE NAME", "URL"), Imported()):
                address = row["URL"].split("//")[-1].strip("/").split("/")
                urls[label, row["FILE NAME"].strip().lower()] = "/".join(address[:2])
    return urls


def _files_by_name(folder, prefix):
    """Return {name: path relative to folder} of the images in folders that begin with `prefix`, at any depth."""
    found = {}
    for top in sorted(os.listdir(folder)):
        if top.startswith(prefix) and os.path.isdir(os.path.join(folder, top)):
            for where, inner, files in os.walk(os.path.join(folder, top)):
                inner.sort()
                found |= {file: os.path.relpath(os.path.join(where, file), folder) for file in files
                          if file.lower().endswith(EXTENSIONS)}
    return found


def _table(folder, name, needed, result):
    """Yield the rows of the CSV file in `folder` whose name begins with `name`: dicts of str, with `where` each is."""
    names = [entry for entry in sorted(os.listdir(folder)) if entry.startswith(name) and entry.lower().endswith(".csv")]
    if not names:
        raise ManifestError(f"{printable(folder)}: there is no {name}{'' if name.endswith('.csv') else '*.csv'} in it. "
                            "Name the folder in which the collection was unpacked.")
    if len(names) > 1:
        result.notes.append(f"of {join(map(printable, names))}, the last was read.")
    path, attributes = os.path.join(folder, names[-1]), None
    with raising(ManifestError, path):
        for row in read_table(path, needed, "replace", ragged=True, most_bytes=_MOST_BYTES, line="where"):
            row["where"] = f"{names[-1]} line {row['where']}"
            if attributes is None:
                attributes = [column for column in row if spelling(column) in _ATTRIBUTES]
            yield row | {column: result.known(column, row[column]) for column in attributes}


def _lines(path):
    """Yield the lines of a text file; bytes that are not UTF-8 are replaced."""
    with raising(ManifestError, path), open_limited(path, _MOST_BYTES) as file:
        yield from text_lines(file, "replace")


# ---- Words of a `view` or `modality` column --------------------------------------------------------------------------

# Whole words, in the spellings of Cohen's collection, NIH, CheXpert, PadChest and DICOM.
_CT = {"ct", "axial", "coronal", "sagittal", "tomography", "transverse", "hrct"}
_LATERAL = {"l", "ll", "lat", "lateral", "rl"}
_FRONTAL = {"pa", "ap", "frontal", "posteroanterior", "anteroposterior", "posterior", "anterior"}
_RADIOGRAPH = {"", "x", "xray", "ray", "cr", "dx", "rx", "cxr", "radiograph", "dr"}


def view_kind(view, modality=""):
    """Return what an image shows according to its columns: "frontal", "lateral", "ct", "other", or "" where unknown.

    Parameters
    ----------
    view : str, such as "PA", "AP Supine", "L", "Axial", "Frontal"
    modality : str, such as "X-ray", "CT", "CR"; it takes precedence

    >>> [view_kind(*words) for words in [("AP Supine",), ("L", "X-ray"), ("Axial",), ("PA", "CT"), ("", "MR"), ("",)]]
    ['frontal', 'lateral', 'ct', 'ct', 'other', '']
    """
    of_view, of_modality = _words(view), _words(modality)
    if (of_view | of_modality) & _CT:
        return "ct"
    if of_modality - _RADIOGRAPH:
        return "other"
    if of_view & _LATERAL:
        return "lateral"
    return "frontal" if of_view & _FRONTAL else ""


def _words(text):
    return set(re.findall(r"[a-z]+", text.lower()))
