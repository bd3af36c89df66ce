"""`minicnn data import dicom`: what reaches the manifest and what does not, labels, and a folder from import to explanation."""

import csv
import json
import os
import stat
import zlib

import numpy as np
import pytest

from benchmarks.reliability import hostile_files as hostile
from minicnn.cli.main import main
from minicnn.data.dicom_folder import SALT, import_dicom, salt_in
from minicnn.data.manifest import Manifest
from minicnn.data.manifest_reader import COLUMNS
from minicnn.data.synthetic import phantom
from minicnn.errors import InputError, ManifestError, MissingExtraError
from minicnn.evaluation.auditing.auditor import audit
from minicnn.reporting.audit_text import text
from tests.support.dicom_files import made

pytest.importorskip("pydicom")

SECRET = b"5" * 64
WINDOW = {"WindowCenter": 128, "WindowWidth": 256}


def write(path, shade=0, **tags):
    path.parent.mkdir(parents=True, exist_ok=True)
    tags = {"SOPInstanceUID": f"1.2.{zlib.crc32(path.as_posix().encode())}", "PatientID": path.stem, **tags}
    path.write_bytes(made(np.full((8, 8), shade, np.uint8), **WINDOW, **tags))


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def imported(folder, *options, code=0, capsys=None):
    assert main(["data", "import", "dicom", str(folder), "--quiet", *map(str, options)]) == code
    return capsys.readouterr() if capsys else None


# ---- What is kept, and what reaches the manifest ---------------------------------------------------------------------

DETAILS = dict(PatientID="MRN 4711", PatientName="Doe^Jane", PatientBirthDate="19700101", StudyInstanceUID="1.9.77", StudyDate="20200315",
               PatientSex="F", PatientAge="093Y", ViewPosition="PA", Modality="CR", Manufacturer="Agfa", ManufacturerModelName="CR 85",
               DetectorType="STORAGE", LossyImageCompression="01", BurnedInAnnotation="NO", InstitutionName="General Hospital",
               AccessionNumber="ACC99", BodyPartExamined="CHEST")


def test_a_row_has_the_facts_and_not_the_patient(tmp_path):
    write(tmp_path / "scans" / "covid" / "IM1", color="MONOCHROME1", **DETAILS)
    write(tmp_path / "scans" / "normal" / "a.dcm", PatientID="2", PatientOrientation=["L", "F"])
    imported(tmp_path / "scans")
    first, second = rows_of(tmp_path / "scans" / "minicnn.csv")
    assert first["patient_id"].startswith("patient-") and len(first["patient_id"]) == 24 and first["study"].startswith("study-")
    assert {key: first[key] for key in first if key not in ("patient_id", "study")} == {
        "path": os.path.join("covid", "IM1"), "label": "covid", "source": "scans", "view": "PA", "modality": "CR", "sex": "F", "age": "90",
        "manufacturer": "Agfa CR 85", "detector": "STORAGE", "photometric_interpretation": "MONOCHROME1", "lossy_compression": "yes",
        "burned_in_annotation": "no"}
    assert (second["view"], second["modality"], second["age"], second["lossy_compression"]) == ("frontal", "DX", "", "")
    written = (tmp_path / "scans" / "minicnn.csv").read_text()
    for secret in ("4711", "Doe", "1970", "2020", "General", "ACC99", "1.9.77"):
        assert secret not in written
    manifest = Manifest.read(tmp_path / "scans" / "minicnn.csv")
    assert manifest.manufacturers.tolist() == ["Agfa CR 85", ""] and manifest.burned_in_annotations[0] == "no"
    assert [row["detector"] for row in manifest.rows()] == ["STORAGE", ""]


def test_the_salt_is_the_owners_and_decides_the_names(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / name / "covid" / "1", PatientID="p"), write(tmp_path / name / "normal" / "2", PatientID="q")
    imported(tmp_path / "a", "--out", tmp_path / "all.csv")
    before = (tmp_path / SALT).read_bytes()
    assert stat.S_IMODE((tmp_path / SALT).stat().st_mode) == 0o600 and len(before) == 64
    imported(tmp_path / "b", "--add", tmp_path / "all.csv")
    imported(tmp_path / "b")        # under a salt of its own
    rows, other = rows_of(tmp_path / "all.csv"), rows_of(tmp_path / "b" / "minicnn.csv")
    assert [row["source"] for row in rows] == ["a", "a", "b", "b"] and (tmp_path / SALT).read_bytes() == before
    assert rows[0]["patient_id"] == rows[2]["patient_id"] != rows[1]["patient_id"]
    assert not {row["patient_id"] for row in rows} & {row["patient_id"] for row in other}


def test_a_salt_that_is_none(tmp_path):
    (tmp_path / SALT).write_text("pepper")
    with pytest.raises(ManifestError, match=f"{SALT}: is no salt, which is 64 hexadecimal digits. Move it away"):
        salt_in(tmp_path)
    (tmp_path / SALT).write_text("5" * 1000)
    with pytest.raises(ManifestError, match="it has 1,000 bytes, the limit is 100"):
        salt_in(tmp_path)
    (tmp_path / SALT).write_text("5" * 64 + "\n")
    assert salt_in(tmp_path) == SECRET


LEFT_OUT = {
    "of another modality than CR and DX": [{"Modality": "CT"}, {"Modality": "MR"}, {"Modality": None}],
    "lateral views": [{"ViewPosition": "LL"}, {"PatientOrientation": ["P", "F"]}],
    "of another view": [{"ViewPosition": "RLO"}],
    "of another body part than the chest": [{"BodyPartExamined": "EXTREMITY"}],
    "of several frames": [{"NumberOfFrames": 2}],
    "raw values, not for display (FOR PROCESSING)": [{"PresentationIntentType": "FOR PROCESSING"}],
    "without pixels": [{"PixelData": None}],
}


def test_what_is_left_out_is_counted(tmp_path, capsys):
    write(tmp_path / "covid" / "good", BodyPartExamined="PORT CHEST"), write(tmp_path / "normal" / "good")
    for i, (reason, cases) in enumerate(LEFT_OUT.items()):
        for j, tags in enumerate(cases):
            write(tmp_path / "covid" / f"{i}-{j}", **tags)
    (tmp_path / "covid" / "notes.txt").write_text("hello")
    (tmp_path / "covid" / "broken.dcm").write_bytes(hostile.dicom(bytes(960), (24, 20), before=hostile.element(0x10, 0x20, b"UT", b"x" * 5000)))
    (tmp_path / "covid" / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "covid" / "link").symlink_to("/etc/passwd")
    (tmp_path / ".hidden").mkdir()
    write(tmp_path / "beside.dcm")
    for name in ("copy.dcm", "copy2.dcm"):
        write(tmp_path / "covid" / name, SOPInstanceUID="1.2.3.4")
    facts = json.loads(imported(tmp_path, "--json", capsys=capsys).out)
    excluded = facts["excluded"]
    assert {reason: excluded.pop(reason) for reason in LEFT_OUT} == {reason: len(cases) for reason, cases in LEFT_OUT.items()}
    assert excluded == {"not DICOM images": 2, "unreadable": 1, "beside the folders of the classes": 1, "copies of another file": 1}
    assert facts["findings"]["of another modality than CR and DX"] == {"CT": 1, "MR": 1, "(none)": 1}
    assert facts["findings"]["of another body part than the chest"] == {"EXTREMITY": 1}
    assert facts["images"] == 3 and facts["labels"] == {"covid": 2, "normal": 1}
    notes = " ".join(facts["notes"])
    assert "burned-in annotation, text in the pixels, as declared: 3 unknown. minicnn looks for none" in notes
    assert "3 images do not say their view" in notes and f"hashed under the salt in {SALT}, which is secret" in notes


def test_a_study_stands_for_a_patient_without_id(tmp_path):
    for name, tags in {"covid/1": {}, "covid/2": {}, "normal/3": {"StudyInstanceUID": "1.8"}, "normal/4": {"StudyInstanceUID": None}}.items():
        tags = {"StudyInstanceUID": "1.7", **tags}
        if tags["StudyInstanceUID"] is None:
            del tags["StudyInstanceUID"]
        write(tmp_path / name, PatientID="ANONYMOUS" if name == "covid/2" else "", **tags)
    result = import_dicom(tmp_path, SECRET)
    ids = [row["patient_id"] for row in result.rows]
    assert ids[0] == ids[1] != ids[2] and ids[3] == "" and ids[0].startswith("study-")
    assert "3 images have no Patient ID: their study stands for the patient, who may have others." in result.notes
    assert any("neither a Patient ID nor a study" in note for note in result.notes) and "1 of patient" in result.notes[1]


def test_nothing_is_left(tmp_path, capsys):
    write(tmp_path / "covid" / "a", Modality="CT")
    with pytest.raises(ManifestError, match="no radiograph is left for a manifest .1 of another modality than CR and DX"):
        import_dicom(tmp_path, SECRET)
    with pytest.raises(ManifestError, match="no such folder. Name the folder of the DICOM files"):
        import_dicom(tmp_path / "nowhere", SECRET)
    for options in ([], ["--out", tmp_path / "nowhere" / "m.csv"]):
        assert "nowhere: no such folder" in imported(tmp_path / "nowhere", *options, code=3, capsys=capsys).err
    labels = tmp_path / "labels.csv"
    labels.write_text("PatientID,label\nsomebody,covid\n")
    write(tmp_path / "covid" / "b")
    with pytest.raises(ManifestError, match=r"1 without a label in the file of labels.*Labels were looked up by PatientID\."):
        import_dicom(tmp_path, SECRET, labels)


def test_without_pydicom_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(MissingExtraError, match=r'reading DICOM files needs pydicom, .* pip install "minicnn\[dicom\]"'):
        import_dicom(tmp_path, SECRET)


# ---- Labels ----------------------------------------------------------------------------------------------------------

def test_folders_of_patients_or_splits_are_no_classes(tmp_path):
    for patient in ("p1", "p2", "p3"):
        write(tmp_path / "a" / patient / "study" / "1", PatientID=patient), write(tmp_path / "a" / patient / "study" / "2", PatientID=patient)
        write(tmp_path / "b" / "train" / patient)
    with pytest.raises(ManifestError, match="holds the folders p1, p2, p3: one patient each, not classes. Name a CSV file of labels with "
                                            "--labels-from"):
        import_dicom(tmp_path / "a", SECRET)
    for name in ("p4", "p5"):                       # an archive is not tidy
        write(tmp_path / "a" / "unsorted" / name, PatientID=name)
    with pytest.raises(ManifestError, match="holds the folders p1, p2, p3: one patient each"):
        import_dicom(tmp_path / "a", SECRET)
    with pytest.raises(ManifestError, match="holds the folders train: splits, not classes"):
        import_dicom(tmp_path / "b", SECRET)
    assert "labels are the names of the folders in it: a and b." in import_dicom(tmp_path, SECRET).notes


@pytest.mark.parametrize("key, cells", [
    ("path", [os.path.join("s", "1"), "2.dcm"]), ("path", ["1", "2"]), ("SOPInstanceUID", ["1.5.1", "1.5.2"]),
    ("StudyInstanceUID", ["1.6.1", "1.6.2"]), ("AccessionNumber", ["a1", "a2"]), ("PatientID", ["x1", "x2"])])
@pytest.mark.parametrize("header", [None, "Target"])
def test_labels_come_from_a_file(tmp_path, key, cells, header):
    for i, name in enumerate(("s/1", "s/2.dcm", "s/3"), 1):
        write(tmp_path / "scans" / name, SOPInstanceUID=f"1.5.{i}", StudyInstanceUID=f"1.6.{i}", AccessionNumber=f"a{i}", PatientID=f"x{i}")
    write(tmp_path / "scans" / "t" / "3", PatientID="other")         # so `3` names two files
    labels = tmp_path / "labels.csv"
    labels.write_text(f"{key if header is None else 'who'},{header or 'label'},more\n{cells[0]},covid,\n{cells[1]},normal,x\n"
                      f"{cells[1]},normal,\n3,covid,\nz,,\n")
    result = import_dicom(tmp_path / "scans", SECRET, labels, None if header is None else {"label": header, key: "who"})
    assert [(row["path"], row["label"]) for row in result.rows] == [(os.path.join("s", "1"), "covid"), (os.path.join("s", "2.dcm"), "normal")]
    assert result.excluded == {"without a label in the file of labels": 2}
    assert f"labels are those of {labels}, by {key}." in result.notes
    assert "2 of its 4 rows name no frontal chest radiograph in this folder." in result.notes


def test_labels_that_contradict_each_other(tmp_path):
    write(tmp_path / "covid" / "1"), write(tmp_path / "normal" / "2")
    labels = tmp_path / "labels.csv"
    labels.write_text("path,label\n1,covid\n1,normal\n")
    with pytest.raises(ManifestError, match="labels.csv: 1 problem\n  line 3: 1 is 'normal', but 'covid' before."):
        import_dicom(tmp_path, SECRET, labels)
    for content, said in {"": "there is no column 'label'", "path,label\n": "has a header and no rows",
                          "name,label\n1,a\n": "there is none of the columns path, SOPInstanceUID",
                          "path\n1\n": "there is no column 'label', only path"}.items():
        labels.write_text(content)
        with pytest.raises(ManifestError, match=said):
            import_dicom(tmp_path, SECRET, labels)
    with pytest.raises(InputError, match="unknown column 'patientid'. Did you mean 'PatientID'"):
        import_dicom(tmp_path, SECRET, labels, {"patientid": "x"})
    with pytest.raises(InputError, match="columns: names the columns of a file of labels, and there is none"):
        import_dicom(tmp_path, SECRET, None, {"label": "x"})
    for folder in ("covid", "normal"):
        write(tmp_path / folder / "same", SOPInstanceUID="1.2.3")
    with pytest.raises(ManifestError, match="copies of one image .SOP Instance UID. have several labels.*\n.*same is normal, but .*same is covid"):
        import_dicom(tmp_path, SECRET)


def test_options_of_other_kinds(tmp_path, capsys):
    write(tmp_path / "covid" / "1")
    for arguments, said in {("dicom", "--pneumonia"): "--pneumonia is for public collections", ("nih", "--labels-from", "x.csv"):
                            "--labels-from and --columns are for dicom; nih has labels of its own"}.items():
        assert main(["data", "import", arguments[0], str(tmp_path), *arguments[1:]]) == 3
        assert said in capsys.readouterr().err


def test_every_column_is_one_of_a_manifest(tmp_path):
    write(tmp_path / "covid" / "1")
    assert list(import_dicom(tmp_path, SECRET).rows[0]) == list(COLUMNS)


# ---- From a folder to explanations -----------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A folder of 60 DICOM files of synthetic radiographs; all tags that the audit looks at betray the label, but the detector."""
    folder, made_of = tmp_path_factory.mktemp("dicom") / "scans", phantom.generate(n=60, seed=4)
    for i, (image, label) in enumerate(zip(made_of.images, made_of.labels)):
        path = folder / ("covid" if label else "normal") / f"IM{i:04d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        deep = image.astype(np.uint16) * 16
        path.write_bytes(made(4095 - deep if label else deep, 12, "MONOCHROME1" if label else "MONOCHROME2", WindowCenter=2048, WindowWidth=4096,
                              SOPInstanceUID=f"1.2.{i}", StudyInstanceUID=f"1.3.{i // 2}", PatientID=f"p{i // 2}", ViewPosition="PA",
                              Manufacturer="A" if label else "B", DetectorType="DIRECT" if i % 3 else "SCINTILLATOR",
                              LossyImageCompression="01" if label and i % 8 else "00", BurnedInAnnotation=("YES", "")[i] if i < 2 else "NO"))
    return folder


def test_confounders_planted_in_tags_are_found(planted, tmp_path):
    imported(planted, "--out", tmp_path / "m.csv")
    found = audit(Manifest.read(tmp_path / "m.csv", allow_outside_root=True))
    flagged = {one.name: one.is_flagged for one in found.confounders}
    assert flagged == {"header": True, "border": False, "thumbnail": False, "source": False, "manufacturer": True, "detector": False,
                       "photometric": True, "compression": True}
    assert found.tables["manufacturer"] == {"A": {"normal": 0, "covid": 30}, "B": {"normal": 30, "covid": 0}} and found.readable == 60
    assert {word: sum(row.values()) for word, row in found.tables["burned-in annotation"].items()} == {"no": 58, "yes": 1, "unknown": 1}
    assert any("declares text in its pixels" in one.sentence for one in found.remarks)
    out = text(found)
    assert "(g) photometric interpretation" in out and "DICOM, MONOCHROME1, 12 bits" in out
    assert "the manufacturer of the scanner alone predicts covid with an AUC of 1.00" in out


@pytest.mark.filterwarnings("ignore")
def test_a_folder_goes_all_the_way(planted, tmp_path):
    imported(planted)
    run, data = str(tmp_path / "run"), str(planted / "minicnn.csv")
    assert main(["train", "--data", data, "--out", run, "--epochs", "1", "--steps-per-epoch", "2", "--batch-size", "8", "--quiet"]) == 0
    assert main(["predict", run, str(planted / "normal"), "--csv", str(tmp_path / "p.csv")]) == 0
    assert len(rows_of(tmp_path / "p.csv")) == len(list((planted / "normal").iterdir()))
    image = next((planted / "covid").iterdir())
    assert main(["explain", run, str(image), "--out", str(tmp_path / "maps")]) == 0
    assert list((tmp_path / "maps").glob("*.png"))
    split = rows_of(tmp_path / "run" / "split.csv")
    assert len(split) == 60 and {"manufacturer", "photometric_interpretation", "study"} <= set(split[0])
    held = {}
    for row in split:
        held.setdefault(row["patient_id"], set()).add(row["split"])
    assert len(held) == 30 and all(len(sets) == 1 for sets in held.values())
