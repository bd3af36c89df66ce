"""The manifest of a folder of DICOM files: what their headers say, without what tells who the patient is.

Kept are frontal radiographs (CR and DX) of the chest; the rest is counted. A view or a body part that the file does not name is
no reason to leave it out. DICOM has no labels: they are the names of the folders in DIR, or come from a CSV file.

| column | from |
|---|---|
| patient_id, study | HMAC-SHA-256 of Patient ID and Study Instance UID under the salt, 64 bits; without an ID the study is the patient |
| source | the name of DIR |
| view | View Position; else `frontal` or `lateral` by Patient Orientation |
| modality, sex, manufacturer (with the model), detector, photometric_interpretation | the tags, as they are |
| age | whole years; 90 and more is 90 |
| lossy_compression, burned_in_annotation | `yes`, `no`, or empty where the file does not say |

Names, dates, UIDs, institutions and private tags do not reach the manifest. Paths do, as they are, and so does what is in pixels.
"""

import hmac
import os
import re
import secrets
from collections import Counter

from minicnn.core.files import open_regular, write_atomic
from minicnn.core.progress import Progress
from minicnn.core.text import join
from minicnn.core.untrusted import Problems, find_column, open_limited, raising, read_table
from minicnn.data.collections import Imported, view_kind
from minicnn.data.decoding import quiet
from minicnn.data.dicom import read_tags
from minicnn.data.file_kinds import is_dicom
from minicnn.data.labels import is_split
from minicnn.data.manifest_reader import COLUMNS
from minicnn.errors import ImageError, InputError, ManifestError, MissingExtraError, nearest, printable

__all__ = ["KEYS", "SALT", "import_dicom", "salt_in"]

SALT = "minicnn.salt"
# Columns by which a CSV file of labels names a file, the most exact first; `path` may be the name of a file, or its stem.
KEYS = ("path", "SOPInstanceUID", "StudyInstanceUID", "AccessionNumber", "PatientID")
_MOST_BYTES, _MOST_TOLD = 256 * 2**20, 60


def salt_in(folder):
    """Return the salt of the manifests in a folder, bytes: from its file, or drawn and written there, for its owner alone.

    Raises
    ------
    ManifestError : there is no such folder; the file cannot be read, or is no salt
    CheckpointError : it cannot be written
    """
    path = os.path.join(folder, SALT)
    if not os.path.isdir(folder):
        raise ManifestError(f"{printable(folder)}: no such folder. Name one that exists.")
    if not os.path.lexists(path):
        salt = secrets.token_hex(32).encode()
        write_atomic(path, salt)
        return salt
    with raising(ManifestError, path), open_limited(path, 100) as file:
        salt = file.read().strip()
    if not re.fullmatch(rb"[0-9a-f]{64}", salt):
        raise ManifestError(f"{printable(path)}: is no salt, which is 64 hexadecimal digits. Move it away: another is drawn, under "
                            "which patients have other names.")
    return salt


def import_dicom(folder, salt, labels_from=None, columns=None, progress=False):
    """Read the headers of the DICOM files in a folder and its folders; return an Imported.

    Parameters
    ----------
    folder : path
    salt : bytes; see `salt_in`
    labels_from : path of a CSV file with the column `label` and one of `KEYS`, optional
    columns : dict from `label` and `KEYS` to the headers of that file, optional
    progress : bool; show a bar on stderr

    Raises
    ------
    ManifestError : the labels contradict each other, folders are no classes, or no radiograph is left
    MissingExtraError : pydicom is not installed
    """
    try:
        import pydicom  # noqa: F401
    except ImportError:
        raise MissingExtraError("reading DICOM files", "pydicom", "dicom") from None
    folder, name = os.fspath(folder), printable(os.fspath(folder))
    if not os.path.isdir(folder):
        raise ManifestError(f"{name}: no such folder. Name the folder of the DICOM files.")
    if labels_from is None and columns:
        raise InputError("columns: names the columns of a file of labels, and there is none (--labels-from).")
    result, paths = Imported(), _files(folder)
    labels = _Folders() if labels_from is None else _Labels(labels_from, columns, paths)
    source = os.path.basename(os.path.realpath(folder))
    problems, first = Problems(f"{name}: copies of one image (SOP Instance UID) have several labels. Correct them"), {}
    with Progress(len(paths), "reading headers", "file", progress) as bar, quiet():
        for path in paths:
            bar.advance()
            tags, reason, said = _examined(folder, path)
            if reason is None:
                label = labels.of(path, tags)
                before = first.setdefault(tags["SOPInstanceUID"] or path, (path, label))
                if label and before[1] and before[1] != label:
                    said = f"{printable(path)} is {printable(label)}, but {printable(before[0])} is {printable(before[1])}."
                    problems.add(said, kind=(label, before[1]))
                reason = "copies of another file" if before[0] != path else None if label else labels.missing
            if reason is not None:
                result.excluded[reason] += 1
                if said:
                    result.findings.setdefault(reason, Counter())[said] += 1
                continue
            result.rows.append(_row(path, label, source, tags, salt, result))
    problems.raise_any()
    if not result.rows:
        why = "; ".join(f"{count:,} {reason}" for reason, count in result.excluded.most_common())
        raise ManifestError(f"{name}: no radiograph is left for a manifest ({why or 'there are no files'})." + labels.advice)
    labels.check(name, result)
    _note(result)
    return result


def _files(folder):
    """Return the paths of the files in a folder, relative to it, sorted; without hidden ones and links."""
    found = []
    for place, inner, names in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        found += [os.path.relpath(os.path.join(place, name), folder) for name in names
                  if not name.startswith(".") and name != SALT and not os.path.islink(os.path.join(place, name))]
    return sorted(found)


def _examined(folder, path):
    """Return (tags or None; the reason to leave a file out, or None; what it says of itself instead)."""
    name = printable(path)
    try:
        file, size = open_regular(os.path.join(folder, path))
        with file:
            if not is_dicom(file.read(512)) or os.path.basename(path).lower() == "dicomdir":
                return None, "not DICOM images", os.path.splitext(name)[1].lower()[:10]
            tags = read_tags(file, min(size, _MOST_BYTES), name)
    except (OSError, ImageError) as error:
        return None, "unreadable", printable(getattr(error, "strerror", None) or error).removeprefix(f"{name}: ")[:_MOST_TOLD]
    view, part = _view(tags), tags["BodyPartExamined"].upper()
    kind, modality = view_kind(view), tags["Modality"].upper()
    frames = tags["NumberOfFrames"]
    for reason, holds, said in (
            ("without pixels", not tags[""], modality),
            ("of another modality than CR and DX", modality not in ("CR", "DX"), modality or "(none)"),
            ("of several frames", frames not in ("", "1"), ""),
            ("raw values, not for display (FOR PROCESSING)", tags["PresentationIntentType"].upper() == "FOR PROCESSING", ""),
            ("of another body part than the chest", part and not re.search("CHEST|THORA|TORAX|LUNG|RIB", part), part),
            ("lateral views", kind in ("lateral", "ct"), view),
            ("of another view", view and not kind, view),
            ("with names that cannot be written", not path.isprintable(), "")):
        if holds:
            return tags, reason, said[:_MOST_TOLD]
    return tags, None, ""


def _view(tags):
    r"""Return the view of a file, by the direction of its rows and columns where it does not name it.

    >>> _view({"ViewPosition": "PA", "PatientOrientation": ""}), _view({"ViewPosition": "", "PatientOrientation": "L\\F"})
    ('PA', 'frontal')
    """
    if tags["ViewPosition"]:
        return tags["ViewPosition"]
    along, _, down = tags["PatientOrientation"].upper().partition("\\")
    return {"L": "frontal", "R": "frontal", "A": "lateral", "P": "lateral"}.get(along[:1], "") if down[:1] in ("F", "H") else ""


def _row(path, label, source, tags, salt, result):
    """Return the row of a radiograph."""
    def hashed(kind, text):
        digest = hmac.new(salt, f"{kind} {text}".encode("utf-8", "surrogatepass"), "sha256").hexdigest()
        return f"{kind}-{digest[:16]}" if text else ""

    def answer(text, yes, no):
        return "yes" if text.upper() == yes else "no" if text.upper() == no else ""

    patient, study = result.known("patient", tags["PatientID"]), hashed("study", tags["StudyInstanceUID"])
    columns = {"path": path, "label": label, "patient_id": hashed("patient", patient) or study, "study": study, "source": source,
               "view": _view(tags), "modality": tags["Modality"], "sex": result.known("sex", tags["PatientSex"]),
               "age": _age(tags["PatientAge"]), "detector": tags["DetectorType"],
               "manufacturer": " ".join(filter(None, [tags["Manufacturer"], tags["ManufacturerModelName"]])),
               "photometric_interpretation": tags["PhotometricInterpretation"],
               "lossy_compression": answer(tags["LossyImageCompression"], "01", "00"),
               "burned_in_annotation": answer(tags["BurnedInAnnotation"], "YES", "NO")}
    return dict.fromkeys(COLUMNS, "") | columns


def _age(text):
    """Return an Age String in whole years, at most 90; "" where it is none.

    >>> _age("045Y"), _age("018M"), _age("093Y"), _age("old")
    ('45', '1', '90', '')
    """
    match = re.fullmatch(r"(\d{1,3})([DWMY])", text.strip().upper())
    return str(min(int(match[1]) // {"D": 365, "W": 52, "M": 12, "Y": 1}[match[2]], 90)) if match else ""


def _note(result):
    """Note what the manifest does not know, and what minicnn does not remove."""
    rows = result.rows
    studies = sum(row["patient_id"] == row["study"] != "" for row in rows)
    nobody, views = (sum(not row[column] for row in rows) for column in ("patient_id", "view"))
    written = Counter(row["burned_in_annotation"] or "unknown" for row in rows)
    if unknown := +result.unknown:
        told = join(f"{count:,} of {column}" for column, count in unknown.items())
        result.notes.append(f"cells that mean unknown are left empty: {told}.")
    if studies:
        result.notes.append(f"{studies:,} images have no Patient ID: their study stands for the patient, who may have others.")
    if nobody:
        result.notes.append(f"{nobody:,} images have neither a Patient ID nor a study: their patients are unknown.")
    if views:
        result.notes.append(f"{views:,} images do not say their view: look for lateral ones.")
    told = join(f"{written[word]:,} {word}" for word in ("yes", "no", "unknown") if written[word])
    result.notes += [
        f"burned-in annotation, text in the pixels, as declared: {told}. minicnn looks for none and removes none.",
        f"patients and studies are hashed under the salt in {SALT}, which is secret; paths are written as they are."]


# ---- Labels ----------------------------------------------------------------------------------------------------------

class _Folders:
    """Labels that are the names of the folders in DIR."""

    missing = "beside the folders of the classes"
    advice = (" Without --labels-from, each label is a folder in DIR.")

    def __init__(self):
        self._patients = {}

    def of(self, path, tags):
        label, _, inside = path.partition(os.sep)
        if inside:
            self._patients.setdefault(label, set()).add(tags["PatientID"] or tags["StudyInstanceUID"])
        return label if inside else ""

    def check(self, name, result):
        """Refuse folders that are splits, or patients: most of three or more are of one patient each."""
        labels, patients = sorted({row["label"] for row in result.rows}), self._patients
        splits = [label for label in labels if is_split(label)]
        alone = [label for label in labels if len(patients[label]) == 1]
        of_one = len(labels) > 2 and len(set().union(*(patients[label] for label in alone))) == len(alone) > len(labels) / 2
        if splits or of_one:
            what = f"{', '.join(map(printable, splits))}: splits" if splits else \
                f"{', '.join(map(printable, alone[:4]))}{', ...' * (len(alone) > 4)}: one patient each"
            raise ManifestError(f"{name}: holds the folders {what}, not classes. Name a CSV file of labels with --labels-from, or "
                                "the folder that holds the folders of the classes.")
        result.notes.append(f"labels are the names of the folders in it: {join(map(printable, labels[:8]))}"
                            f"{', ...' * (len(labels) > 8)}.")


class _Labels:
    """Labels from a CSV file."""

    missing = "without a label in the file of labels"

    def __init__(self, file, columns, paths):
        columns = {} if columns is None else dict(columns)
        for column in columns:
            if column not in ("label", *KEYS):
                raise InputError(f"columns: unknown column {printable(column)!r}.{nearest(column, KEYS)} A file of labels has "
                                 f"label and one of {', '.join(KEYS)}.")
        self._labels, self._used, problems = {}, set(), Problems(printable(file))
        wanted = columns.get("label", "label")
        with raising(ManifestError, file, "It must be a CSV file with the column label and one of " + ", ".join(KEYS) + "."):
            for row in read_table(file, [wanted], ragged=True, most_bytes=2**28, line=""):
                line = row.pop("")
                if not self._labels:
                    self.key, place = self._key(list(row), columns)
                cell, label = row[place].strip(), row[wanted].strip()
                before = self._labels.setdefault(cell, label)
                if label != before:
                    said = f"{printable(cell)} is {printable(label)!r}, but {printable(before)!r} before."
                    problems.add(said, f"line {line}", (label, before))
        problems.raise_any()
        if not self._labels:
            raise ManifestError(f"{printable(file)}: has a header and no rows.")
        names = Counter(os.path.basename(path) for path in paths)
        self._only, self._file = {name for name, count in names.items() if count == 1}, file
        self.advice = f" Labels were looked up by {self.key}."

    @staticmethod
    def _key(header, columns):
        """Return (the key that a file of labels has, its column)."""
        for key in sorted(KEYS, key=lambda key: key not in columns):
            place = find_column(header, columns.get(key, key))
            if place is not None:
                return key, header[place]
        raise ValueError(f"there is none of the columns {', '.join(columns.get(key, key) for key in KEYS)}, only "
                         f"{', '.join(map(printable, header))[:300]}")

    def of(self, path, tags):
        cells = [tags[self.key]] if self.key != "path" else [path, path.replace(os.sep, "/")]
        if self.key == "path" and os.path.basename(path) in self._only:     # else it would name several files
            cells += [os.path.basename(path), os.path.splitext(os.path.basename(path))[0]]
        cell = next((cell for cell in cells if cell and cell in self._labels), None)
        self._used.add(cell)
        return self._labels.get(cell, "")

    def check(self, name, result):
        """Note how many rows name no radiograph."""
        result.notes.append(f"labels are those of {printable(self._file)}, by {self.key}.")
        if unused := len(self._labels.keys() - self._used):
            result.notes.append(f"{unused:,} of its {len(self._labels):,} rows name no frontal chest radiograph in this folder.")
