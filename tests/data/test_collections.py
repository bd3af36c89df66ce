"""Importers: small trees in the shape of the public collections become manifests that minicnn reads."""

import argparse
import csv
import json

import pytest
from PIL import Image

from minicnn.cli import import_collection as import_collection_command
from minicnn.data.collections import KINDS, import_collection, view_kind
from minicnn.data.manifest import Manifest, ManifestWarning
from minicnn.errors import InputError, ManifestError


def picture(path, shade=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), shade).save(path)


def table(path, header, *rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def command(capsys, *arguments):
    parser = argparse.ArgumentParser()
    import_collection_command.add_options(parser)
    assert not import_collection_command.run(parser.parse_args([str(argument) for argument in arguments]))
    return capsys.readouterr().out


# ---- The trees -------------------------------------------------------------------------------------------------------

def cohen(folder):
    for i in range(8):
        picture(folder / "images" / f"{i}.png", i)
    head = ["patientid", "offset", "sex", "age", "finding", "RT_PCR_positive", "view", "modality", "date", "location",
            "folder", "filename", "license", "clinical_notes"]

    def row(patient, finding, view, modality, name):
        return [patient, 0, "M", 65, finding, "Y", view, modality, "2020", "Rome", "images", name, "CC0", "two\nlines"]

    table(folder / "metadata.csv", head,
          row(2, "Pneumonia/Viral/COVID-19", "PA", "X-ray", "0.png"), row(2, "COVID-19", "AP Supine", "X-ray", "1.png"),
          row(3, "No Finding", "PA", "X-ray", "2.png"), row(4, "COVID-19", "L", "X-ray", "3.png"),
          row(5, "COVID-19", "Axial", "CT", "4.png"), row(5, "COVID-19", "PA", "CT", "4.png"),
          row(6, "Pneumonia/Bacterial/Streptococcus", "PA", "X-ray", "5.png"), row(7, "todo", "PA", "X-ray", "6.png"),
          row(8, "COVID-19", "PA", "X-ray", "missing.png"), row(9, "COVID-19", "PA", "X-ray", "../../secret.png"))


def nih(folder):
    for name in ("images_001/images/1_000.png", "images_002/images/1_001.png", "images/2_000.png"):
        picture(folder / name)
    # As published: the header holds commas of its own, and each row ends with one.
    (folder / "Data_Entry_2017.csv").write_text(
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],\n"
        "1_000.png,No Finding,0,1,57,M,PA,2682,2749,0.143,0.143,\n"
        "1_001.png,Cardiomegaly|Emphysema,1,1,58,M,PA,1,1,1,1,\n"
        "2_000.png,Infiltration|Pneumonia,0,2,30,F,AP,1,1,1,1,\n3_000.png,No Finding,0,3,30,F,AP,1,1,1,1,\n")


def covidx(folder, *parts):
    lines = {"train": ["3 a.png positive cohen", "3 b.png positive cohen", "SIRM-1 c.png positive sirm",
                       "8989e25c d.png negative rsna"],
             "val": ["17 e.png COVID-19 fig1", "18 f.png normal rsna"], "test": ["4 g.png pneumonia cohen", "",
                                                                                  "5 h.png negative rsna"]}
    for part in parts:
        for line in filter(None, lines[part]):
            picture(folder / part / line.split()[1])
        (folder / f"{part}_COVIDx9B.txt").write_text("\n".join(lines[part]))


def radiography(folder):
    for name in ("COVID/images/COVID-1.png", "COVID/images/COVID-2.png", "COVID/masks/COVID-1.png",
                 "Normal/images/Normal-1.png", "Viral Pneumonia/images/Viral Pneumonia-1.png",
                 "Lung_Opacity/images/Lung_Opacity-1.png"):
        picture(folder / name)
    (folder / "COVID.metadata.xlsx").write_bytes(b"PK")


def cxnet(folder):
    for name in ("covid19/260.jpg", "covid19/261.jpg", "covid19/262.jpg", "covid19/263.jpg", "normal/1.jpg"):
        picture(folder / "chest_xray_images" / name)
    table(folder / "metadata.csv", ["filename", "patient_id", "sex", "age", "view", "label"],
          ["260.jpg", 10, "female", 68, "", "COVID-19"], ["261.jpg", 11, "male", 47, "AP", "COVID-19"],
          ["262.jpg", 11, "male", 47, "lateral", "COVID-19"])


# ---- Each layout -----------------------------------------------------------------------------------------------------

def test_cohen(tmp_path):
    cohen(tmp_path)
    result = import_collection("cohen", tmp_path)
    assert [(row["path"], row["label"], row["patient_id"], row["view"]) for row in result.rows] == [
        ("images/0.png", "covid", "cohen-2", "PA"), ("images/1.png", "covid", "cohen-2", "AP Supine"),
        ("images/2.png", "normal", "cohen-3", "PA")]
    assert result.rows[0] | {"sex": "M", "age": "65", "source": "cohen", "modality": "X-ray"} == result.rows[0]
    assert result.excluded == {"CT slices": 2, "lateral views": 1, "labelled pneumonia": 1, "with other findings": 1,
                               "listed, but without a file": 2}
    assert result.findings == {"labelled pneumonia": {"Pneumonia/Bacterial/Streptococcus": 1},
                               "with other findings": {"todo": 1}}
    assert len(import_collection("cohen", tmp_path, ("normal", "covid", "pneumonia")).rows) == 4


# The findings of cohen's metadata.csv, of its last version and of early ones, by the label that they get.
FINDINGS = {
    "covid": ["Pneumonia/Viral/COVID-19", "COVID-19", "COVID-19, ARDS"],
    "pneumonia": ["Pneumonia/Viral/SARS", "Pneumonia/Viral/MERS-CoV", "Pneumonia/Viral/Varicella", "Pneumonia/Viral/Herpes ",
                  "Pneumonia/Viral/Influenza", "Pneumonia/Viral/Influenza/H1N1", "Pneumonia/Bacterial",
                  "Pneumonia/Bacterial/Streptococcus", "Pneumonia/Bacterial/Klebsiella", "Pneumonia/Bacterial/E.Coli",
                  "Pneumonia/Bacterial/Mycoplasma", "Pneumonia/Bacterial/Legionella", "Pneumonia/Bacterial/Nocardia",
                  "Pneumonia/Bacterial/Chlamydophila", "Pneumonia/Bacterial/Staphylococcus/MRSA",
                  "Pneumonia/Fungal/Pneumocystis", "Pneumonia/Fungal/Aspergillosis", "SARS", "MERS", "Streptococcus",
                  "Klebsiella", "Chlamydophila", "Legionella", "E.Coli", "Pneumocystis", "Bacterial Pneumonia"],
    "": ["Pneumonia", "Pneumonia/Lipoid", "Pneumonia/Aspiration", "Tuberculosis", "todo", "Unknown", "ARDS", "",
         "SARS or COVID-19", "no SARS"],
    "normal": ["No Finding"]}


def test_pneumonias_of_cohen_are_the_bacterial_viral_and_fungal_ones_and_never_covid(tmp_path, capsys):
    said = [(text, label) for label, texts in FINDINGS.items() for text in texts]
    for i in range(len(said)):
        picture(tmp_path / "images" / f"{i}.png")
    table(tmp_path / "metadata.csv", ["patientid", "finding", "view", "filename"],
          *([i, text, "PA", f"{i}.png"] for i, (text, _) in enumerate(said)))
    facts = json.loads(command(capsys, "cohen", tmp_path, "--pneumonia", "--out", tmp_path / "a.csv", "--json"))
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert [(row["path"], row["label"]) for row in rows] == [(f"images/{i}.png", label) for i, (_, label) in enumerate(said)
                                                             if label]
    assert facts["labels"] == {name: len(FINDINGS[name]) for name in ("covid", "pneumonia", "normal")}
    left = {text or "(empty)": 1 for text in FINDINGS[""]}
    assert facts["findings"] == {"with other findings": left} and facts["excluded"] == {"with other findings": len(left)}
    out = " ".join(command(capsys, "cohen", tmp_path).split())
    assert "left out: labelled pneumonia 26, with other findings 10" in out
    assert "labelled pneumonia (--pneumonia keeps them): Pneumonia/Viral/SARS 1, Pneumonia/Viral/MERS-CoV 1" in out
    assert "with other findings: Pneumonia 1, Pneumonia/Lipoid 1, Pneumonia/Aspiration 1, Tuberculosis 1, todo 1" in out


def test_what_is_left_out_is_named_with_its_number_in_every_collection(tmp_path):
    for made, kind in ((nih, "nih"), (radiography, "radiography")):
        (tmp_path / kind).mkdir()
        made(tmp_path / kind)
    covidx(tmp_path / "covidx", "train", "test")
    assert [import_collection(kind, tmp_path / kind).findings for kind in ("nih", "radiography", "covidx")] == [
        {"with other findings": {"Cardiomegaly|Emphysema": 1}, "labelled pneumonia": {"Infiltration|Pneumonia": 1}},
        {"with other findings": {"Lung_Opacity": 1}, "labelled pneumonia": {"Viral Pneumonia": 1}},
        {"labelled pneumonia": {"pneumonia": 1}}]


def test_nih(tmp_path):
    nih(tmp_path)
    result = import_collection("nih", tmp_path, ("normal", "pneumonia"))
    columns = ("path", "label", "patient_id", "view", "sex", "age")
    assert [tuple(row[column] for column in columns) for row in result.rows] == [
        ("images_001/images/1_000.png", "normal", "nih-1", "PA", "M", "57"),
        ("images/2_000.png", "pneumonia", "nih-2", "AP", "F", "30")]
    assert result.excluded == {"with other findings": 1, "listed, but without a file": 1}
    assert "all images are normal: to train, join it" in import_collection("nih", tmp_path).notes[-1]


def test_covidx(tmp_path):
    covidx(tmp_path, "train", "test")
    result = import_collection("covidx", tmp_path)
    assert [(row["path"], row["label"], row["patient_id"], row["source"], row["split"]) for row in result.rows] == [
        ("test/h.png", "negative", "rsna-5", "rsna", ""), ("train/a.png", "covid", "cohen-3", "cohen", ""),
        ("train/b.png", "covid", "cohen-3", "cohen", ""), ("train/c.png", "covid", "sirm-SIRM-1", "sirm", ""),
        ("train/d.png", "negative", "rsna-8989e25c", "rsna", "")]
    assert any("test and training only" in note for note in result.notes)
    covidx(tmp_path, "val")
    assert {row["split"] for row in import_collection("covidx", tmp_path).rows} == {"training", "validation", "test"}
    (tmp_path / "test_COVIDx9B.txt").write_text("4 g.png\n")
    with pytest.raises(ManifestError, match="line 1: expected 'patient file label source', got '4 g.png'"):
        import_collection("covidx", tmp_path)


def test_radiography(tmp_path):
    radiography(tmp_path)
    result = import_collection("radiography", tmp_path)
    assert [(row["path"], row["label"], row["source"], row["patient_id"]) for row in result.rows] == [
        ("COVID/images/COVID-1.png", "covid", "radiography", ""),
        ("COVID/images/COVID-2.png", "covid", "radiography", ""),
        ("Normal/images/Normal-1.png", "normal", "radiography", "")]
    assert result.excluded == {"masks": 1, "labelled pneumonia": 1, "with other findings": 1}
    assert "patients" in result.notes[0] and "CSV" in result.notes[1]
    table(tmp_path / "COVID.metadata.csv", ["FILE NAME", "FORMAT", "SIZE", "URL"],
          ["COVID-1", "PNG", "256*256", "https://sirm.org/category/covid-19/"],
          ["COVID-2", "PNG", "256*256", "https://github.com/armiro/COVID-CXNet"])
    again = import_collection("radiography", tmp_path)
    assert [row["source"] for row in again.rows] == ["radiography:sirm.org/category", "radiography:github.com/armiro",
                                                     "radiography"]
    assert len(again.notes) == 1


def test_cxnet(tmp_path):
    cxnet(tmp_path)
    result = import_collection("cxnet", tmp_path)
    assert [(row["path"], row["label"], row["patient_id"], row["view"]) for row in result.rows] == [
        ("chest_xray_images/covid19/260.jpg", "covid", "cxnet-10", ""),
        ("chest_xray_images/covid19/261.jpg", "covid", "cxnet-11", "AP"),
        ("chest_xray_images/covid19/263.jpg", "covid", "", ""), ("chest_xray_images/normal/1.jpg", "normal", "", "")]
    assert result.excluded == {"lateral views": 1} and not result.notes
    (tmp_path / "metadata.csv").unlink()
    assert "no metadata.csv" in import_collection("cxnet", tmp_path).notes[0]


# ---- The command -----------------------------------------------------------------------------------------------------

def test_two_collections_become_one_manifest(tmp_path, capsys):
    cohen(tmp_path / "cohen")
    (tmp_path / "nih").mkdir()
    nih(tmp_path / "nih")
    both = tmp_path / "all.csv"
    out = command(capsys, "cohen", tmp_path / "cohen", "--out", both)
    assert "3 images added (2 covid, 1 normal) of 2 known patients" in out
    assert "left out: lateral views 1, CT slices 2, labelled pneumonia 1" in out
    facts = json.loads(command(capsys, "nih", tmp_path / "nih", "--add", both, "--json"))
    assert facts["images"] == 1 and facts["sources"] == {"nih": 1}
    manifest = Manifest.read(both)
    assert manifest.counts() == {"normal": 2, "covid": 2} and set(manifest.sources) == {"cohen", "nih"}
    assert manifest.splits is None and manifest.prepared().pixels.read([0]).shape == (1, 64, 64)
    again = command(capsys, "nih", tmp_path / "nih", "--add", both)
    assert "in the manifest already 1" in again and len(Manifest.read(both)) == 4


def test_a_complete_split_is_kept_and_a_partial_one_is_not(tmp_path, capsys):
    covidx(tmp_path / "covidx", "train", "val", "test")
    command(capsys, "covidx", tmp_path / "covidx")
    path = tmp_path / "covidx" / "minicnn.csv"
    assert Manifest.read(path, classes=["negative", "normal", "covid"]).splits is not None
    cohen(tmp_path / "covidx" / "cohen")
    command(capsys, "cohen", tmp_path / "covidx" / "cohen", "--add", path)
    assert Manifest.read(path, classes=["negative", "normal", "covid"]).splits is None


def test_images_beside_the_manifest_are_noted(tmp_path, capsys):
    radiography(tmp_path / "files")
    (tmp_path / "elsewhere").mkdir()
    out = command(capsys, "radiography", tmp_path / "files", "--out", tmp_path / "elsewhere" / "a.csv")
    assert "--allow-outside-root" in out
    assert len(Manifest.read(tmp_path / "elsewhere" / "a.csv", allow_outside_root=True)) == 3


def test_nothing_is_written_over(tmp_path, capsys):
    radiography(tmp_path)
    (tmp_path / "minicnn.csv").write_text("mine")
    with pytest.raises(InputError, match="exists already, and is not replaced. Name another file with --out"):
        command(capsys, "radiography", tmp_path)
    with pytest.raises(ManifestError, match="minicnn.csv: .* no column 'path', only mine"):
        command(capsys, "radiography", tmp_path, "--add", tmp_path / "minicnn.csv")
    with pytest.raises(ManifestError, match="none.csv: cannot be read"):
        command(capsys, "radiography", tmp_path, "--add", tmp_path / "none.csv")
    assert (tmp_path / "minicnn.csv").read_text() == "mine"


def test_names_of_strangers_do_no_harm(tmp_path, capsys):
    for name in ("=1+1.png", "a\n.png", "\x1b[2J.png"):
        picture(tmp_path / "covid" / name)
    picture(tmp_path / "normal" / "n.png")
    table(tmp_path / "metadata.csv", ["filename", "patient_id"], ["=1+1.png", "=HYPERLINK(1)"])
    out = command(capsys, "cxnet", tmp_path)
    assert "with names that cannot be written 2" in out and "\x1b" not in out
    manifest = Manifest.read(tmp_path / "minicnn.csv")
    assert len(manifest) == 2 and manifest.patients[0] == "cxnet-=HYPERLINK(1)"


# ---- Words, spellings and lists --------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind, inside", [("radiography", ""), ("cxnet", "chest_xray_images")])
def test_a_folder_of_another_disease_is_never_positive(kind, inside, tmp_path):
    for folder, label in {"COVID": "covid", "Non-COVID": "negative", "no_covid19": "negative", "covid-neg": "negative",
                          "Normal": "normal"}.items():
        picture(tmp_path / inside / folder / f"{folder}.png")
    result = import_collection(kind, tmp_path)
    assert {row["path"].split("/")[-1]: row["label"] for row in result.rows} == {
        "COVID.png": "covid", "Non-COVID.png": "negative", "no_covid19.png": "negative", "covid-neg.png": "negative",
        "Normal.png": "normal"}
    assert any("Non-COVID" in note and "perhaps another disease" in note for note in result.notes)


def test_a_finding_in_a_list_is_read_as_words(tmp_path):
    findings = ["COVID-19 (ruled out)", "Non-COVID viral pneumonia", "no covid", "COVID-19, ARDS", "suspected COVID"]
    rows = []
    for i, said in enumerate(findings):
        picture(tmp_path / "images" / f"{i}.png", i)
        rows.append([i, said, "PA", f"{i}.png"])
    table(tmp_path / "metadata.csv", ["patientid", "finding", "view", "filename"], *rows)
    result = import_collection("cohen", tmp_path)
    assert [(row["path"], row["label"]) for row in result.rows] == [
        ("images/0.png", "negative"), ("images/2.png", "negative"), ("images/3.png", "covid")]
    assert result.excluded == {"labelled pneumonia": 1, "with other findings": 1}
    (tmp_path / "train").mkdir()
    for name in "ab":
        picture(tmp_path / "train" / f"{name}.png")
    (tmp_path / "train.txt").write_text("1 a.png non-COVID sirm\n2 b.png COVID-19 sirm\n")
    assert [row["label"] for row in import_collection("covidx", tmp_path).rows] == ["negative", "covid"]


def test_words_that_mean_unknown_are_left_empty_and_counted(tmp_path):
    rows = []
    for i, (patient, view, sex) in enumerate([("nan", "PA", "M"), ("NA", "n/a", "-"), ("7", "unknown", "F"), ("None", "AP", "")]):
        picture(tmp_path / "images" / f"{i}.png", i)
        rows.append([patient, "COVID-19", view, sex, "X-ray", f"{i}.png"])
    table(tmp_path / "metadata.csv", ["patientid", "finding", "view", "sex", "modality", "filename"], *rows)
    result = import_collection("cohen", tmp_path)
    assert [row["patient_id"] for row in result.rows] == ["", "", "cohen-7", ""]
    assert [row["view"] for row in result.rows] == ["PA", "", "", "AP"]
    assert any("3 of patientid, 2 of view and 1 of sex" in note for note in result.notes)


def test_versions_of_a_list_side_by_side_name_each_file_once(tmp_path):
    covidx(tmp_path, "train", "val", "test")
    (tmp_path / "train_COVIDx8A.txt").write_text((tmp_path / "train_COVIDx9B.txt").read_text())
    result = import_collection("covidx", tmp_path)
    assert len({row["path"] for row in result.rows}) == len(result.rows) == 7 and result.excluded["listed twice"] == 4
    (tmp_path / "train_COVIDx8A.txt").write_text("3 a.png negative cohen\n9 b.png positive cohen\n")
    with pytest.raises(ManifestError) as error:
        import_collection("covidx", tmp_path)
    assert "keep one version of each: 2 problems" in str(error.value)
    assert "train_COVIDx9B.txt line 1: train/a.png is labelled 'covid', but 'negative' in train_COVIDx8A.txt line 1." in str(error.value)
    assert "train_COVIDx9B.txt line 2: train/b.png is of patient 'cohen-3', but 'cohen-9'" in str(error.value)


def test_of_several_tables_the_last_is_read_and_said(tmp_path):
    nih(tmp_path)
    (tmp_path / "Data_Entry_2017_v2020.csv").write_text((tmp_path / "Data_Entry_2017.csv").read_text())
    assert "of Data_Entry_2017.csv and Data_Entry_2017_v2020.csv, the last was read." in import_collection("nih", tmp_path).notes


def test_a_file_in_two_rows_is_once_or_refused(tmp_path):
    for name in "ab":
        picture(tmp_path / "images" / f"{name}.png")
    head = ["patientid", "finding", "view", "filename"]
    table(tmp_path / "metadata.csv", head, [1, "COVID-19", "PA", "a.png"], [1, "covid-19", "PA", "./a.png"],
          [1, "COVID-19", "AP", "A.PNG"], [2, "No Finding", "PA", "b.png"])
    result = import_collection("cohen", tmp_path)
    assert [row["path"] for row in result.rows] == ["images/a.png", "images/b.png"] and result.excluded["listed twice"] == 2
    table(tmp_path / "metadata.csv", head, [1, "COVID-19", "PA", "a.png"], [1, "Tuberculosis", "PA", "a.png"])
    with pytest.raises(ManifestError, match="metadata.csv line 3: images/a.png is labelled with another finding, but 'covid' in "
                                            "metadata.csv line 2"):
        import_collection("cohen", tmp_path)


def test_a_file_of_two_patients_is_refused(tmp_path):
    cxnet(tmp_path)
    head = ["filename", "patient_id", "view"]
    table(tmp_path / "metadata.csv", head, ["260.jpg", "nan", ""], ["260.jpg", 4, ""], ["261.jpg", 5, ""], ["261.jpg", 5, ""])
    rows = {row["path"][-7:]: row["patient_id"] for row in import_collection("cxnet", tmp_path).rows}
    assert rows["260.jpg"] == "cxnet-4" and rows["261.jpg"] == "cxnet-5"
    table(tmp_path / "metadata.csv", head, ["260.jpg", 4, ""], ["260.jpg", 5, ""])
    with pytest.raises(ManifestError, match="metadata.csv line 3: 260.jpg is of patient '5', but '4' in metadata.csv line 2"):
        import_collection("cxnet", tmp_path)


def test_lists_of_other_systems_are_read(tmp_path):
    picture(tmp_path / "images" / "Jose\u0301.png")
    picture(tmp_path / "images" / "b.png")
    text = "sep=;\npatientid;Finding;view;filename\n1;COVID-19;PA;Jos\u00e9.png\n2;No Finding;PA;.\\B.PNG\n"
    (tmp_path / "metadata.csv").write_bytes(text.replace("\n", "\r\n").encode("utf-16"))
    result = import_collection("cohen", tmp_path)
    assert [row["path"] for row in result.rows] == ["images/Jose\u0301.png", "images/b.png"]
    assert any("2 paths are spelled otherwise" in note for note in result.notes)


def test_what_an_import_writes_can_be_read(tmp_path, capsys):
    for name in (" lead.png", "a\\b.png", "c;d.png", 'e"f.png', "g,h.png"):
        picture(tmp_path / "covid" / name)
    picture(tmp_path / "normal" / "-1.png")
    (tmp_path / "covid" / "scan.gif").write_bytes(b"GIF89a")
    (tmp_path / "normal" / "same.png").symlink_to("-1.png")
    out = command(capsys, "cxnet", tmp_path)
    assert Manifest.read(tmp_path / "minicnn.csv").counts() == {"normal": 1, "covid": 5} and "already 1" in out
    (tmp_path / "covid").rename(tmp_path / " covid")
    command(capsys, "cxnet", tmp_path, "--out", tmp_path / "space.csv")
    with pytest.warns(ManifestWarning, match="5 paths are spelled otherwise"):
        assert Manifest.read(tmp_path / "space.csv").counts() == {"normal": 1, "covid": 5}


def test_a_file_in_two_classes_is_refused_by_the_command(tmp_path, capsys):
    picture(tmp_path / "one" / "covid" / "a.png")
    picture(tmp_path / "one" / "normal" / "b.png")
    (tmp_path / "one" / "normal" / "c.png").symlink_to("../covid/a.png")
    with pytest.raises(ManifestError, match="covid/a.png is labelled 'covid' already, and 'normal' by the import"):
        command(capsys, "cxnet", tmp_path / "one")
    assert not (tmp_path / "one" / "minicnn.csv").exists()
    (tmp_path / "one" / "normal" / "c.png").unlink()
    (tmp_path / "all.csv").write_text("path,label\n./one/covid/a.png,normal\n")
    with pytest.raises(ManifestError, match="all.csv: 1 problem\n  one/covid/a.png is labelled 'normal' already"):
        command(capsys, "cxnet", tmp_path / "one", "--add", tmp_path / "all.csv")


def test_the_next_command_names_the_classes_where_labels_do_not_tell(tmp_path, capsys):
    picture(tmp_path / "a" / "normal" / "1.png")
    picture(tmp_path / "b" / "normal" / "1.png")
    picture(tmp_path / "b" / "Viral Pneumonia" / "2.png")
    assert command(capsys, "cxnet", tmp_path / "a").rstrip().endswith("minicnn.csv --classes normal,covid")
    out = command(capsys, "cxnet", tmp_path / "b", "--pneumonia")
    assert "name the classes" in out and out.rstrip().endswith("minicnn.csv --classes normal,pneumonia")


# ---- What is not such a collection -----------------------------------------------------------------------------------

@pytest.mark.parametrize("kind, sentence", [
    ("cohen", "there is no metadata.csv in it"), ("nih", r"there is no Data_Entry\*.csv in it"),
    ("covidx", r"there is no train\*.txt or test\*.txt"),
    ("radiography", "no image is left for a manifest .nothing was listed"),
    ("cxnet", "no image is left for a manifest")])
def test_another_folder_is_refused(kind, sentence, tmp_path):
    with pytest.raises(ManifestError, match=sentence):
        import_collection(kind, tmp_path)


def test_every_kind_is_offered():
    assert list(KINDS) == ["cohen", "radiography", "covidx", "nih", "cxnet"]
    parser = argparse.ArgumentParser()
    import_collection_command.add_options(parser)
    assert all(parser.parse_args([kind, "x"]).kind == kind for kind in KINDS)


def test_broken_tables_are_refused(tmp_path):
    with pytest.raises(ManifestError, match="no such folder"):
        import_collection("cohen", tmp_path / "none")
    table(tmp_path / "metadata.csv", ["patientid", "finding"], ["1", "COVID-19"])
    with pytest.raises(ManifestError, match="there is no column 'view', only patientid, finding"):
        import_collection("cohen", tmp_path)
    (tmp_path / "metadata.csv").write_text("patientid,finding,view,filename\n" + "x" * 200_000)
    with pytest.raises(ManifestError, match="field larger than"):
        import_collection("cohen", tmp_path)
    (tmp_path / "metadata.csv").write_bytes(b"patientid,finding,view,filename\n1,COVID-19,PA,\xff.png\n2,COVID-19\n")
    with pytest.raises(ManifestError, match="no image is left for a manifest .2 listed, but without a file"):
        import_collection("cohen", tmp_path)


@pytest.mark.parametrize("words, kind", [
    (("PA", "X-ray"), "frontal"), (("AP semi erect", ""), "frontal"), (("L", ""), "lateral"), (("Coronal", ""), "ct"),
    (("", "CT"), "ct"), (("", "X-ray"), ""), (("", "MR"), "other"), (("PA", "DX"), "frontal"),
    (("Lateral", "CR"), "lateral"), (("erect", ""), "")])
def test_views(words, kind):
    assert view_kind(*words) == kind
