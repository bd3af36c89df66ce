"""Manifests: columns and labels are read as written, all problems are reported, and paths stay inside the root."""

import argparse
import csv
import io
import os
import shlex
import warnings

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from minicnn.cli.options import _SHARED
from minicnn.core.untrusted import safe_cell
from minicnn.data import Augmentation, Manifest, Preprocessing
from minicnn.data.labels import as_option, check_classes, class_order
from minicnn.data.manifest import ManifestWarning
from minicnn.errors import InputError, ManifestError, ShapeError


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("MINICNN_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))


def touch(root, *names):
    """Make small files that only look like images; reading a manifest does not decode them."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def table(root, text, **options):
    """Write `text` (str or bytes) as a CSV into `root`, read it, and return the manifest."""
    (root / "index.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return Manifest.read(root / "index.csv", **options)


def noise_images(root, names, seed=0):
    """Write images of noise, all different."""
    noise = np.random.default_rng(seed)
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (20, 16), dtype=np.uint8)).save(root / name)


# ---- Reading a CSV ---------------------------------------------------------------------------------------------------

def test_the_real_manifest(shared):
    manifest = Manifest.read(shared / "data" / "chestxray" / "manifest.csv")
    assert len(manifest) == 820 and manifest.counts() == {"normal": 410, "covid": 410}
    assert manifest.classes == ("normal", "covid") and len(set(manifest.patients)) == 536
    assert repr(manifest) == ("Manifest(820 images: 410 normal, 410 covid; 536 patients; "
                              "sources nih 394, cohen 314, cxnet 85, figure1 27)")
    assert manifest.paths[0].endswith("/chestxray/images/432c30651e293c71.jpg")
    assert manifest.names[0] == "images/432c30651e293c71.jpg" and manifest.labels[0] == 1
    assert (manifest.patients[0], manifest.views[0], manifest.ages[0], manifest.sexes[1]) == ("cohen-47", "PA", "58", "")


def test_columns_are_found_by_name_and_may_be_called_otherwise(tmp_path):
    touch(tmp_path, "a.png", "b.png")
    text = "finding,subject,extra,path,split\ncovid,ann,1,a.png,x\nnormal,,2,b.png,y\n"
    manifest = table(tmp_path, text, columns={"label": "finding", "patient_id": "subject", "split": None})
    assert manifest.labels.tolist() == [1, 0] and manifest.patients.tolist() == ["ann", ""]
    assert manifest.splits is None and manifest.sources is None


def test_the_modality_is_a_column_like_others(tmp_path):
    touch(tmp_path, "a.png", "b.png", "c.png")
    text = "path,label,kind\na.png,normal,CR\nb.png,covid,CT\nc.png,covid,\n"
    manifest = table(tmp_path, text, columns={"modality": "kind"})
    assert manifest.modalities.tolist() == ["CR", "CT", ""]
    assert manifest.subset([1, 0]).modalities.tolist() == ["CT", "CR"]
    assert [row["modality"] for row in manifest.rows()] == ["CR", "CT", ""]
    assert table(tmp_path, text).modalities is None


@pytest.mark.parametrize("text", [
    b"\xef\xbb\xbfpath,label\na.png,normal\nb.png,covid\n",                 # byte order mark
    b"path,label\r\na.png,normal\r\nb.png,covid\r\n",                       # CRLF
    b"path,label\na.png,normal\nb.png,covid",                               # no newline at the end
    b"\"path\",\"label\"\n\n\"a.png\",\"normal\"\n\n\"b.png\",\"covid\"\n\n",   # quotes, empty lines
    b" path , label \na.png, normal \nb.png,  covid\n",                     # spaces
    b"path,label\n./a.png,normal\nsub/../b.png,covid\n",
])
def test_harmless_differences_do_not_matter(tmp_path, text):
    touch(tmp_path, "a.png", "b.png", "sub/c.png")
    manifest = table(tmp_path, text)
    assert manifest.names == ["a.png", "b.png"] and manifest.labels.tolist() == [0, 1]


def test_names_with_everything_in_them(tmp_path):
    names = ["a,b.png", 'c"d.png', "e\nf.png", "\x1b[2J.png", "\u202egnp.png", "=1+1.png", "\u00e9.png", "e\u0301.png", "x" * 251 + ".png"]
    touch(tmp_path, *names)
    text = io.StringIO()
    csv.writer(text).writerows([("path", "label")] + [(name, i % 2) for i, name in enumerate(names)])
    manifest = table(tmp_path, text.getvalue())
    assert manifest.names == names and manifest.classes == ("0", "1")


def test_a_repeated_row_is_dropped_with_one_warning(tmp_path):
    touch(tmp_path, "a.png", "b.png")
    (tmp_path / "link").symlink_to(".")
    with pytest.warns(ManifestWarning, match="index.csv: 2 rows repeat an earlier one and were dropped"):
        manifest = table(tmp_path, "path,label,view\na.png,normal,PA\n./a.png,normal,AP\nb.png,covid,\nlink/b.png,covid,\n")
    assert manifest.names == ["a.png", "b.png"] and manifest.views.tolist() == ["PA", ""]


HEAD = "path,label,patient_id\n"
GOOD = "a.png,normal,1\nb.png,covid,2\n"
WRONG = {
    "empty": ("", "is empty; the first line must name the columns, such as path,label,patient_id"),
    "empty lines": ("\n\n", "is empty; the first line must name the columns"),
    "header only": (HEAD, "index.csv: has a header and no rows"),
    "no label column": ("path,labl\na.png,covid\n", r"there is no column 'label', only path, labl. Did you mean 'labl'\? .*"
                        r"columns=\{'label': ...\} \(--columns label=...\)"),
    "two columns of one name": ("path,label,label\na.png,covid,normal\n", "line 1: two columns are called 'label'"),
    "cells missing": (HEAD + GOOD + "c.png,covid\n", "line 4: has 2 cells, the header has 3"),
    "NUL": (HEAD + GOOD + "c\0.png,covid,3\n", r"line 4: holds a NUL character. Is this a CSV file\?"),
    "not UTF-8": (HEAD.encode() + GOOD.encode() + b"\xff.png,covid,3\n", "line 4: byte 1 is not UTF-8. Save the file as UTF-8"),
    "UTF-16, damaged": (HEAD.encode("utf-16") + b"\x00\xd8\n\0", "line 2: is not UTF-16 throughout. Save the file as UTF-8"),
    "a workbook": (b"PK\3\4" + b"\0" * 90, "archive. .*CSV"),
    "a comma without quotes": (HEAD + GOOD + "c.png,covid,Doe, J.\n", "line 4: has 4 cells, the header has 3. A cell that "
                               "holds a comma needs quotes around it"),
    "two headers of one spelling": ("path,label,Patient ID,patient-id\na.png,covid,1,2\n", "line 1: two columns are "
                                    "called 'Patient ID' and 'patient-id'. Rename one"),
    "a quote without end": (HEAD + '"' + "x" * 140_000, "line 2: field larger than field limit.*The rest was not read"),
    "a long line": (HEAD + "x" * 2**20, r"line 2: is longer than 1,048,576 bytes. Is this a CSV file\?"),
    "missing file": (HEAD + GOOD + "none.png,covid,3\n", "line 4: there is no file none.png"),
    "missing folder": (HEAD + GOOD + "none/a.png,covid,3\n", "line 4: there is no file none/a.png"),
    "no path": (HEAD + GOOD + ",covid,3\n", "line 4: the path is empty"),
    "folder": (HEAD + GOOD + "sub,covid,3\n", "line 4: sub is no regular file"),
    "folder, dots": (HEAD + GOOD + "sub/..,covid,3\n", "line 4: sub/.. is no regular file"),
    "FIFO": (HEAD + GOOD + "pipe.png,covid,3\n", "line 4: pipe.png is no regular file"),
    "device": (HEAD + GOOD + "/dev/zero,covid,3\n", "line 4: /dev/zero lies outside of .*allow_outside_root=True"),
    "outside": (HEAD + GOOD + "../secret.png,covid,3\n", r"line 4: ../secret.png lies outside of .*\(--allow-outside-root\)"),
    "outside, absolute": (HEAD + GOOD + "/etc/passwd,covid,3\n", "line 4: /etc/passwd lies outside of"),
    "outside, again": (HEAD + GOOD + "../x.png,covid,3\n../y.png,covid,3\n", "line 5: ../y.png lies outside of"),
    "link that leads outside": (HEAD + GOOD + "out.png,covid,3\n", "line 4: out.png lies outside of"),
    "folder that leads outside": (HEAD + GOOD + "outside/secret.png,covid,3\n", "line 4: outside/secret.png lies outside of"),
    "link to itself": (HEAD + GOOD + "loop.png,covid,3\n", "line 4: loop.png cannot be read .*symbolic links"),
    "name too long": (HEAD + GOOD + "y" * 256 + ".png,covid,3\n", r"line 4: yyy+.png cannot be read \(File name too long\)"),
    "two labels": (HEAD + GOOD + "a.png,covid,3\n", "line 4: a.png is labelled 'covid', but 'normal' in line 2"),
    "empty label": (HEAD + GOOD + "c.png,,3\n", "line 4: the label is empty"),
    "formula": (HEAD + GOOD + "c.png,=1+1,3\n", "line 4: the label '=1.1' cannot be used: it may hold up to 64 letters"),
    "minus": (HEAD + GOOD + "c.png,-1,3\n", r"line 4: the label '-1' cannot be used: .* must not begin with \+ or -"),
    "markup": (HEAD + GOOD + 'c.png,"""><img src=x>",3\n', "line 4: the label '\"><img src=x>' cannot be used"),
    "one class": (HEAD + "a.png,covid,1\nb.png,covid,2\n", r"there is one class only, 'covid'; two are needed.*--classes"),
    "which is positive": (HEAD + "a.png,sick,1\nb.png,well,2\n", r"which of 'sick' and 'well' is the positive class\? "
                          r"Name the negative one first: classes=\['sick', 'well'\] \(--classes 'sick','well'\)"),
    "one class, two spellings": (HEAD + "a.png,covid,1\nb.png,Covid,2\n", "one class only, 'covid'.* The labels 'Covid' "
                                 r"\(1\) differ from 'covid' only in case"),
    "both positive": (HEAD + "a.png,covid,1\nb.png,covid-19,2\n", "which of 'covid' and 'covid-19' is the positive class"),
    "no label": (HEAD + GOOD + "c.png,nan,3\n", r"line 4: the label 'nan' means that it is unknown. Leave the row out"),
    "two patients": (HEAD + GOOD + "./a.png,normal,3\n", "line 4: ./a.png is of patient '3', but '1' in line 2"),
    "two splits": ("path,label,split\na.png,normal,train\nb.png,covid,test\na.png,normal,test\n",
                   "line 4: a.png is in the split 'test', but 'train' in line 2"),
    "two spellings of a path, two labels": (HEAD + GOOD + "B.PNG,normal,\n", "line 4: B.PNG is labelled 'normal', but "
                                            "'covid' in line 3"),
    "elsewhere": (HEAD + GOOD + "d.png,covid,3\n", r"line 4: there is no file d.png. There is sub/d.png: are the paths "
                  r"relative to .*/root/sub\? Then name it with root= \(--root .*/root/sub\)"),
    "another extension": (HEAD + GOOD + "sub/d.jpg,covid,3\n", "no file sub/d.jpg. There is sub/d.png; the manifest says "
                          "sub/d.jpg"),
    "a drive": (HEAD + GOOD + "C:\\data\\sub\\d.png,covid,3\n", r"There is sub/d.png; the manifest says C:\\data.*, "
                "with C:/data/ in front. Leave that out"),
    "relative to the folder above": (HEAD + GOOD + "root/sub/d.png,covid,3\n", r"There is sub/d.png: are the paths relative "
                                     r"to /.*/test_\w+\? Then name it with root= \(--root /.*/test_\w+\)"),
    "of another machine": (HEAD + GOOD + "/home/ann/sub/d.png,covid,3\n", "/home/ann/sub/d.png lies outside of .* There is "
                           "sub/d.png; the manifest says /home"),
    "relative to what": (HEAD + "none.png,normal,1\nnone2.png,covid,1\n", r"line 2: there is no file none.png. Paths are "
                         r"relative to .*/root; another folder is named by root= \(--root DIR\)"),
    "split unknown": ("path,label,split\na.png,normal,trian\nb.png,covid,test\n",
                      r"line 2: the split 'trian' is none of training, validation, test. Did you mean 'train'\?"),
    "split empty": ("path,label,split\na.png,normal,train\nb.png,covid,\n",
                    "line 3: the split is empty, not one of training, validation, test"),
}


@pytest.mark.parametrize("name", WRONG)
def test_every_problem_has_its_sentence(tmp_path, name):
    root = tmp_path / "root"
    touch(root, "a.png", "b.png", "c.png", "sub/d.png")
    touch(tmp_path, "secret.png")
    os.mkfifo(root / "pipe.png")
    (root / "out.png").symlink_to("../secret.png")
    (root / "outside").symlink_to("..")
    (root / "loop.png").symlink_to("loop.png")
    text, sentence = WRONG[name]
    with pytest.raises(ManifestError, match=sentence) as error:
        table(root, text)
    assert all(line.isprintable() for line in str(error.value).splitlines())


def test_equal_problems_are_one_with_their_number_and_two_examples(tmp_path):
    rows = [f"none{i}.png,{'covid' if i % 2 else 'normal'}" for i in range(1, 1001)]
    with pytest.raises(ManifestError, match=r"index.csv: 3 problems, in 1,002 places\n  line 1002: has 1 cells") as error:
        table(tmp_path, "path,label\n" + "\n".join(rows) + "\na.png\n,,,\n")
    lines = str(error.value).splitlines()
    assert [line.partition(":")[0] for line in lines[3:5]] == ["  line 2", "  line 3"] and len(lines) == 6
    assert lines[-1] == "  ... and 998 more like the two above"


def test_every_different_problem_is_told(tmp_path):
    names = [f"{i}.png" for i in range(1124)]
    touch(tmp_path, *names)
    words = [f"kind {i % 31}" for i in range(len(names))]
    with pytest.raises(ManifestError, match="31 problems, in 1,124 places") as error:
        table(tmp_path, "path,label\n" + "".join(map("{},{}\n".format, names, words)), classes=["normal", "covid"])
    lines = str(error.value).splitlines()[1:]
    assert len(lines) == 31 and all(f"the label 'kind {i}' is none of the classes" in line for i, line in enumerate(lines))
    assert lines[0].startswith("  37 times, as in line 2 and line 33: the label")
    with pytest.raises(ManifestError, match="1 problem, in 1,124 places\n  1,124 times, as in line 2 and line 3: the "
                       "label 'Covid-19' is none of the classes normal, covid") as error:
        table(tmp_path, "path,label\n" + "".join(f"{name},Covid-19\n" for name in names), classes=["normal", "covid"])
    assert len(str(error.value).splitlines()) == 3
    with pytest.raises(ManifestError, match="more than 200 problems, in 1,124 places") as error:
        table(tmp_path, "path,label\n" + "".join(f"{name},kind {name}\n" for name in names), classes=["a", "b"])
    assert str(error.value).splitlines()[-1] == "  ... and others, in 924 more places"


def test_what_is_said_stays_short_whatever_is_in_the_file(tmp_path):
    touch(tmp_path, *(f"{i}.png" for i in range(40)))
    long = {"header": "x" * 130_000 + "\n", "columns": ",".join(f"labl{i}" for i in range(100_000)) + "\n",
            "paths": "path,label\n" + ("./" * 60_000 + "none,covid\n") * 40,
            "labels": "path,label\n" + "".join(f"{i}.png,{'<' * 100_000}\n" for i in range(40)),
            "splits": "path,label,split\n" + "".join(f"{i}.png,{i % 2},{'<' * 100_000}\n" for i in range(40))}
    for name, text in long.items():
        with pytest.raises(ManifestError) as error:
            table(tmp_path, text)
        assert len(str(error.value)) < 25_000, name


def test_there_are_limits_to_rows_and_columns(tmp_path, monkeypatch):
    touch(tmp_path, "a.png", "b.png", "c.png")
    monkeypatch.setattr("minicnn.data.manifest_reader._MOST_ROWS", 2)
    assert len(table(tmp_path, "path,label\na.png,normal\nb.png,covid\n")) == 2
    with pytest.raises(ManifestError, match="line 4: there are more than 2 rows. Divide the collection. The rest was not read"):
        table(tmp_path, "path,label\na.png,normal\nb.png,covid\nc.png,covid\nd.png,covid\n")
    with pytest.raises(ManifestError, match="line 1: names 1,001 columns, the limit is 1,000. Is this a manifest?"):
        table(tmp_path, "path,label" + ",x" * 999 + "\n")


def test_problems_of_all_kinds_come_together(tmp_path):
    touch(tmp_path, "a.png", "b.png")
    with pytest.raises(ManifestError) as error:
        table(tmp_path, b"path,label\na.png,normal\nnone.png,covid\nb.png,covdi\n\xff\nx\n", classes=["normal", "covid"])
    assert str(error.value).splitlines()[1:] == [
        "  line 5: byte 1 is not UTF-8. Save the file as UTF-8.", "  line 6: has 1 cells, the header has 2.",
        "  line 3: there is no file none.png.",
        "  line 4: the label 'covdi' is none of the classes normal, covid. Did you mean 'covid'?",
        "  To give labels the names of classes: --labels covdi=covid (labels={'covdi': 'covid'})"]


# ---- Other names of labels -------------------------------------------------------------------------------------------

option_of_labels = _SHARED["--labels"]["type"]
OTHER = "path,label\na.png,No_findings\nb.png,Covid-19\nc.png,COVID 19\nd.png,\"Pneumonia, viral\"\n"


def test_labels_get_the_names_they_have_here(tmp_path):
    touch(tmp_path, "a.png", "b.png", "c.png", "d.png")
    names = {"Covid-19": "covid", "no findings": "normal", "Pneumonia, viral": "pneumonia"}
    for classes in (None, ["normal", "pneumonia", "covid"]):
        manifest = table(tmp_path, OTHER, classes=classes, labels=names)
        assert manifest.counts() == {"normal": 1, "covid": 2, "pneumonia": 1}
    two = table(tmp_path, OTHER, labels={"Covid-19": "covid", "Pneumonia, viral": "No_findings"})
    assert two.counts() == {"No_findings": 2, "covid": 2}       # what is not named stays, and several may be one


def test_class_folders_get_the_names_they_have_here(tmp_path):
    touch(tmp_path, "Kovid/a.png", "Healthy/b.png", "test/c.png")
    manifest = Manifest.read(tmp_path, labels={"Kovid": "covid", "test": "normal"})
    assert manifest.counts() == {"Healthy": 1, "covid": 1, "normal": 1}


def test_two_labels_of_one_file_are_compared_by_their_names_here(tmp_path):
    touch(tmp_path, "a.png", "b.png")
    text = "path,label\na.png,Covid-19\na.png,ncov\nb.png,normal\n"
    with pytest.raises(ManifestError, match="line 3: a.png is labelled 'ncov', but 'Covid-19' in line 2"):
        table(tmp_path, text)
    with pytest.warns(ManifestWarning, match="1 rows repeat"):
        assert len(table(tmp_path, text, labels={"Covid-19": "covid", "ncov": "covid"})) == 2


def test_a_label_that_occurs_nowhere_is_an_error_with_the_labels_there(tmp_path):
    touch(tmp_path, "a.png", "b.png", "c.png", "d.png")
    with pytest.raises(ManifestError, match=r"no image is labelled 'Covid-91'. Did you mean 'Covid-19'\? The labels are "
                                            r"'No_findings' \(1\), 'Covid-19' \(1\), 'COVID 19' \(1\) and 'Pneum"):
        table(tmp_path, OTHER, labels={"Covid-91": "covid"})


@pytest.mark.parametrize("labels, sentence", [
    (["Covid-19=covid"], "expected a dict from labels to names"), ({"Covid-19": ""}, "expected a dict"),
    ({1: "covid"}, "expected a dict"), ({"covid 19": "covid", "Covid-19": "sick"}, "'Covid-19' is named twice")])
def test_names_of_labels_are_checked(tmp_path, labels, sentence):
    touch(tmp_path, "a.png", "b.png", "c.png", "d.png")
    with pytest.raises(InputError, match=sentence):
        table(tmp_path, OTHER, labels=labels)


def test_labels_that_are_no_classes_lead_to_the_option_that_names_them(tmp_path):
    touch(tmp_path, "a.png", "b.png", "c.png", "d.png")
    with pytest.raises(ManifestError, match="4 problems") as error:
        table(tmp_path, OTHER, classes=["normal", "covid"])
    option = shlex.split(str(error.value).splitlines()[-1].partition("--labels ")[2])[0]
    names = option_of_labels(option)
    assert names == {"No_findings": "normal", "Covid-19": "covid", "COVID 19": "covid", "Pneumonia, viral": "..."}
    with pytest.raises(ManifestError, match=r"--labels 'Covid-19=covid,No_findings=normal,\"Pneumonia, viral\"=...'"):
        table(tmp_path, OTHER, classes=["normal", "covid"], labels={"Covid-19": "covid"})       # the whole option
    with pytest.raises(InputError, match="'Covid-19' is called 'covdi', which is none of the classes normal, covid. Did you"):
        table(tmp_path, OTHER, classes=["normal", "covid"], labels={"Covid-19": "covdi"})
    assert table(tmp_path, OTHER, classes=["normal", "covid"], labels=names | {"Pneumonia, viral": "normal"}).counts() == {
        "normal": 2, "covid": 2}


@pytest.mark.parametrize("text, names", [
    ("Covid-19=covid,No_findings=normal", {"Covid-19": "covid", "No_findings": "normal"}),
    ('"a, b"=x, c = y', {"a, b": "x", "c": "y"}), ("a=b=c", {"a=b": "c"}), ('"say ""no"""=x', {'say "no"': "x"})])
def test_the_option_of_labels(text, names):
    assert option_of_labels(text) == names
    assert option_of_labels(as_option(names)) == names


@pytest.mark.parametrize("text", ["", "covid", "a=", "=a", "a=b,", "a=b,a=c", "a\rb=c"])
def test_the_option_of_labels_is_checked(text):
    with pytest.raises(argparse.ArgumentTypeError, match="LABEL=NAME"):
        option_of_labels(text)


def test_outside_can_be_allowed(tmp_path):
    touch(tmp_path, "other/a.png", "root/b.png")
    (tmp_path / "root" / "link.png").symlink_to("../other/a.png")
    text = f"path,label\n../other/a.png,normal\nb.png,covid\n{tmp_path}/root/link.png,covid\n"
    manifest = table(tmp_path / "root", text, allow_outside_root=True)
    assert manifest.names == ["../other/a.png", "b.png", "link.png"]
    with pytest.raises(ManifestError, match="line 2: /dev/zero is no regular file"):
        table(tmp_path / "root", "path,label\n/dev/zero,normal\nb.png,covid\n", allow_outside_root=True)


def test_another_root_can_be_named(tmp_path):
    touch(tmp_path, "images/a.png", "images/b.png")
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "index.csv").write_text("path,label\na.png,0\nb.png,1\n")
    manifest = Manifest.read(tmp_path / "tables" / "index.csv", root=tmp_path / "images")
    assert manifest.names == ["a.png", "b.png"] and manifest.root == str(tmp_path / "images")


def test_sources_that_cannot_be_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(ManifestError, match=r"none.csv: cannot be read \(No such file or directory\). Name a CSV file, or a f"):
        Manifest.read(tmp_path / "none.csv")
    with pytest.raises(ManifestError, match=r"PIPE.CSV: cannot be read .* There is .*/pipe.csv. Name a CSV file"):
        Manifest.read(tmp_path / "PIPE.CSV")
    for path in (tmp_path / "pipe.csv", "/dev/zero"):
        with pytest.raises(ManifestError, match=r"cannot be read \(not a regular file\)"):
            Manifest.read(path)
    with open(tmp_path / "large.csv", "wb") as file:
        file.truncate(2**30 + 1)
    with pytest.raises(ManifestError, match="large.csv: .*1,073,741,825 bytes, the limit is 1,073,741,824"):
        Manifest.read(tmp_path / "large.csv")


def test_columns_are_checked(tmp_path):
    with pytest.raises(InputError, match=r"columns: unknown column 'labl'. Did you mean 'label'\? The columns are path, label"):
        table(tmp_path, "path,label\n", columns={"labl": "x"})
    with pytest.raises(ManifestError, match="there is no column 'subject', only path, label"):
        table(tmp_path, "path,label\n", columns={"patient_id": "subject"})


# ---- Tables and paths of other systems --------------------------------------------------------------------------------

ROWS = [("path", "label", "patient_id"), ("a.png", "normal", "Doe, Ann"), ("b.png", "covid", "7")]


def written(delimiter=",", end="\n", rows=ROWS):
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator=end).writerows(rows)
    return text.getvalue()


@pytest.mark.parametrize("content", [
    written(";").encode(), written("\t").encode(), written("|").encode(), written(end="\r").encode(),
    ("sep=;\r\n" + written(";", "\r\n")).encode(), ("\ufeffsep=,\n" + written()).encode(),
    ('"sep=\t"\n' + written("\t")).encode(), written("\t", "\r\n").encode("utf-16"), written(";").encode("utf-16-le"),
    b"\xfe\xff" + written().encode("utf-16-be"), written().encode("utf-32"), ("\ufeff\ufeff" + written()).encode(),
    (written(end="\r") + "a.png,normal,\n").replace("a.png,normal,\n", "").encode(), ("\n\n" + written()).encode(),
    (written() + ",,\n , ,\n").encode(),
], ids=lambda content: repr(content[:12]))
def test_a_table_of_a_spreadsheet_is_read(tmp_path, content):
    touch(tmp_path, "a.png", "b.png")
    manifest = table(tmp_path, content)
    assert manifest.names == ["a.png", "b.png"] and manifest.patients.tolist() == ["Doe, Ann", "7"]


@pytest.mark.parametrize("head, said", [
    ("Path,Label,Patient ID\n", ["'Path' was read as 'path'", "'Label'", "'Patient ID' was read as 'patient_id'"]),
    ("path,label,PATIENT-ID\n", ["'PATIENT-ID' was read as 'patient_id'"]),
    (" path,label ,patient id\n", ["'patient id' was read as 'patient_id'"])])
def test_a_header_in_another_spelling_is_read_and_said(tmp_path, head, said):
    touch(tmp_path, "a.png", "b.png")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        manifest = table(tmp_path, head + "a.png,normal,1\nb.png,covid,2\n")
    assert manifest.patients.tolist() == ["1", "2"]
    told = "\n".join(str(warning.message) for warning in caught)
    assert len(caught) == len(said) and all(words in told for words in said)


def test_a_header_that_is_repeated_is_said(tmp_path):
    touch(tmp_path, "a.png", "b.png")
    with pytest.warns(ManifestWarning, match="index.csv: 2 more lines repeat the header and were skipped"):
        assert len(table(tmp_path, "path,label\na.png,normal\npath,label\nb.png,covid\n path , label\n")) == 2


@pytest.mark.parametrize("there, cells", [
    (["scans/p1.png", "scans/p2.png"], ["scans\\p1.png", ".\\scans\\p2.png"]),
    (["Scans/p1.png", "Scans/P2.PNG"], ["SCANS/P1.png", "scans/p2.png"]),
    (["Jos\u00e9/1.png", "Jos\u00e9/2.png"], ["Jose\u0301/1.png", "Jose\u0301/2.png"]),
    (["re\u0301sume\u0301.png", "nai\u0308ve.png"], ["r\u00e9sum\u00e9.png", "na\u00efve.png"]),
    (["a/b.png ", "a/ c.png"], ["a/b.png", "a/c.png"]),
    (["\u00c9t\u00e9/x.png", "\u00c9t\u00e9/y.png"], ["e\u0301te\u0301\\X.PNG", "E\u0301TE\u0301/y.png"])])
def test_paths_of_another_system_are_read_and_said(tmp_path, there, cells):
    touch(tmp_path, *there)
    with pytest.warns(ManifestWarning) as caught:
        manifest = table(tmp_path, f"path,label\n{cells[0]},normal\n{cells[1]},covid\n")
    assert manifest.names == there and manifest.root == str(tmp_path)
    assert "2 paths are spelled otherwise" in str(caught[0].message) and f"there is {there[0]}" in str(caught[0].message)


def test_a_name_that_is_there_is_never_taken_for_another(tmp_path):
    touch(tmp_path, "a.png", "A.png", "a\\b.png", "a/b.png")
    manifest = table(tmp_path, "path,label\na.png,normal\nA.png,covid\na\\b.png,normal\na/b.png,covid\n")
    assert manifest.names == ["a.png", "A.png", "a\\b.png", "a/b.png"]
    with pytest.raises(ManifestError, match="line 2: there is no file A.PNG, but (a|A).png and (a|A).png. Write the one"):
        table(tmp_path, "path,label\nA.PNG,normal\na.png,covid\n")


def test_another_spelling_leads_nowhere_outside(tmp_path):
    touch(tmp_path, "Secret/a.png", "root/b.png")
    (tmp_path / "root" / "Link").symlink_to("../Secret")
    for cell in ("..\\Secret\\a.png", "..\\secret\\a.png", "link/a.png", "LINK\\A.PNG"):
        with pytest.raises(ManifestError, match="no file|outside") as error:
            table(tmp_path / "root", f"path,label\nb.png,normal\n{cell},covid\n")
        assert "there is a.png" not in str(error.value).lower()


def test_a_file_in_two_spellings_is_one_row_that_knows_all(tmp_path):
    touch(tmp_path, "x/a.png", "b.png")
    text = "path,label,patient_id,split,view\nx/a.png,normal,,train,PA\nx\\a.png,Normal,p1,Training,AP\nb.png,covid,p2,test,\n"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        manifest = table(tmp_path, text)
    assert manifest.names == ["x/a.png", "b.png"] and manifest.patients.tolist() == ["p1", "p2"]
    assert manifest.views.tolist() == ["PA", ""] and any("1 rows repeat" in str(one.message) for one in caught)


def test_the_root_is_a_folder_and_for_tables(tmp_path):
    touch(tmp_path, "normal/a.png", "covid/b.png")
    with pytest.raises(InputError, match="root: expected the folder .*none"):
        Manifest.read(tmp_path / "index.csv", root=tmp_path / "none")
    with pytest.raises(InputError, match="root: is for the paths in a CSV file"):
        Manifest.read(tmp_path, root=tmp_path)


# ---- Words for "unknown" ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("column, attribute", [("patient_id", "patients"), ("source", "sources"), ("view", "views"),
                                               ("sex", "sexes"), ("age", "ages"), ("modality", "modalities")])
def test_words_that_mean_unknown_are_unknown_and_counted(tmp_path, column, attribute):
    words = ["NaN", "n/a", "NONE", "Unknown", "-", "", "null", "#N/A", "not available", "?", "Nancy", "na-7"]
    touch(tmp_path, *(f"{i}.png" for i in range(12)))
    text = f"path,label,{column}\n" + "".join(f"{i}.png,{i % 2},{word}\n" for i, word in enumerate(words))
    with pytest.warns(ManifestWarning, match=rf"index.csv: cells that mean unknown are read as empty: 9 of {column} \('NaN',") \
            as caught:
        manifest = table(tmp_path, text)
    assert getattr(manifest, attribute).tolist() == [""] * 10 + ["Nancy", "na-7"] and len(caught) == 1


def test_unknown_patients_are_not_one_patient():
    with pytest.warns(ManifestWarning, match="Manifest: .*3 of patient_id.* and 1 of age"):
        manifest = small(patients=["nan", float("nan"), None, "NA", "x", 0], ages=["5", "7", "-", "", "1", "2"])
    assert manifest.patients.tolist() == ["", "", "", "", "x", "0"] and manifest.ages[2] == ""


# ---- Labels ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("labels, named", [
    (["COVID-19", "covid 19", "COVID-19", "Normal", "normal", "NORMAL", "Normal"], ("Normal", "COVID-19")),
    (["no_finding", "No Finding", "no-finding", "no_finding", "Covid", "covid", "Covid"], ("no_finding", "Covid")),
    (["Mal\u00e9", "Male\u0301", "Mal\u00e9", "covid", "covid", "covid", "covid"], ("Mal\u00e9", "covid")),
    (["COVID\u201119", "COVID-19", "COVID-19", "well", "well", "well", "well"], ("well", "COVID-19"))])
def test_labels_that_differ_in_spelling_are_one_class_and_said_once(tmp_path, labels, named):
    touch(tmp_path, *(f"{i}.png" for i in range(len(labels))))
    text = "path,label\n" + "".join(f"{i}.png,{label}\n" for i, label in enumerate(labels))
    with pytest.warns(ManifestWarning, match="only in case, spaces, hyphens or Unicode form: they are one class"):
        manifest = table(tmp_path, text)
    assert manifest.classes == named
    with pytest.warns(ManifestWarning, match="they are one class"):
        given = table(tmp_path, text, classes=[name.upper() for name in named])
    assert given.labels.tolist() == manifest.labels.tolist()


def test_folders_that_differ_in_spelling_are_one_class(tmp_path):
    touch(tmp_path, "COVID-19/a.png", "covid_19/b.png", "Normal/c.png", "COVID-19/d.png")
    with pytest.warns(ManifestWarning, match=r"'covid_19' \(1\) differ from 'COVID-19'"):
        assert Manifest.read(tmp_path).counts() == {"Normal": 1, "COVID-19": 3}


def test_labels_that_say_something_else_stay_apart(tmp_path):
    touch(tmp_path, "a.png", "b.png", "c.png", "d.png")
    for labels in (["COVID+", "COVID-"], ["grade 1-2", "grade 12"], ["non-covid", "covid"]):
        manifest = table(tmp_path, "path,label\n" + f"a.png,{labels[0]}\nb.png,{labels[1]}\n", classes=labels)
        assert manifest.labels.tolist() == [0, 1]


def test_classes_in_two_spellings_are_refused(tmp_path):
    touch(tmp_path, "a.png")
    for names in (["covid", "COVID"], ["no finding", "No-Finding"], ["x", "Mal\u00e9", "male\u0301"]):
        with pytest.raises(InputError, match="differ only in case.* Name it once"):
            table(tmp_path, "path,label\na.png,x\n", classes=names)


CELLS = st.one_of(st.sampled_from(["a.png", "b.png", "./a.png", "none.png", "../a.png", "normal", "covid", "train", "", "=1"]),
                  st.text(max_size=8))


@settings(max_examples=300)
@given(rows=st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=6), noise=st.binary(max_size=6),
       head=st.sampled_from(["path,label", "path,label,split", "label,path,patient_id", "", "path"]),
       end=st.sampled_from(["\n", "\r\n"]), quoted=st.booleans())
def test_any_file_is_a_manifest_or_a_list_of_problems(tmp_path_factory, rows, noise, head, end, quoted):
    root = tmp_path_factory.getbasetemp() / "drawn"
    touch(root, "a.png", "b.png")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=end, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL)
    try:
        writer.writerows(rows)
        body = text.getvalue().encode()
    except (csv.Error, UnicodeEncodeError):
        body = repr(rows).encode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ManifestWarning)
        try:
            manifest = table(root, (head + end).encode() + body + noise)
            assert set(manifest.names) <= {"a.png", "b.png"} and len(manifest.classes) >= 2
        except ManifestError as error:
            assert all(line.isprintable() for line in str(error).split("\n"))
            assert "problem" in str(error) or "has a header and no rows" in str(error)


# ---- Reading a folder ------------------------------------------------------------------------------------------------

def test_a_folder_of_class_folders(tmp_path):
    touch(tmp_path, "normal/b.PNG", "normal/a.jpg", "covid/deep/er/c.tiff", "covid/.hidden.png", ".git/x.png", "notes.txt")
    manifest = Manifest.read(tmp_path)
    assert manifest.names == ["covid/deep/er/c.tiff", "normal/a.jpg", "normal/b.PNG"]
    assert manifest.classes == ("normal", "covid") and manifest.labels.tolist() == [1, 0, 0]
    assert manifest.patients.tolist() == ["", "", ""]


def test_other_files_are_counted(tmp_path):
    touch(tmp_path, "normal/a.png", "covid/b.png", "covid/c.nii", "covid/deep/d.gif")
    with pytest.warns(ManifestWarning, match="2 files .* extension"):
        assert len(Manifest.read(tmp_path)) == 2


def test_folders_that_are_none(tmp_path):
    with pytest.raises(ManifestError, match="holds no folder. .*one folder for each class, or a CSV file"):
        Manifest.read(tmp_path)
    touch(tmp_path, "train/normal/a.png", "test/normal/b.png", "index.csv")
    with pytest.raises(ManifestError, match=r"holds test, train: .* not classes. .* did you mean index.csv\?"):
        Manifest.read(tmp_path)


def test_a_folder_with_problems_lists_them(tmp_path):
    touch(tmp_path, "normal/a.png", "secret.png")
    (tmp_path / "root" / "covid").mkdir(parents=True)
    touch(tmp_path / "root", "normal/a.png", "a<b/c.png")
    (tmp_path / "root" / "normal" / "out.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "root" / "link").symlink_to(tmp_path / "normal")
    os.mkfifo(tmp_path / "root" / "normal" / "pipe.png")
    with open(os.fsencode(tmp_path / "root" / "normal") + b"/\xff.png", "wb"):
        pass
    with pytest.raises(ManifestError) as error:
        Manifest.read(tmp_path / "root")
    for sentence in ("the class folder covid holds no images", "the class folder link is a link",
                     "normal/out.png lies outside of", "normal/pipe.png is no regular file",
                     r"normal/\xff.png: its name is not UTF-8. Rename it", "a<b/c.png: the label 'a<b' cannot be used"):
        assert sentence in str(error.value)
    assert "link/a.png" not in str(error.value)     # links are not followed


def test_a_folder_of_nothing_but_links_says_so(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "normal").symlink_to("/")
    with pytest.raises(ManifestError, match="1 problem\n  the class folder normal is a link.* allow_outside_root=True"):
        Manifest.read(tmp_path / "root")


def test_linked_class_folders_can_be_allowed(tmp_path):
    touch(tmp_path, "elsewhere/a.png", "root/covid/b.png")
    (tmp_path / "root" / "normal").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "covid" / "loop").symlink_to("..")
    manifest = Manifest.read(tmp_path / "root", allow_outside_root=True)
    assert manifest.counts() == {"normal": 1, "covid": 1}


# ---- Classes ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("labels, order", [
    ({"normal", "covid"}, ("normal", "covid")), ({"COVID-19", "zzz"}, ("zzz", "COVID-19")), ({"0", "1"}, ("0", "1")),
    ({"abnormal", "normal"}, ("normal", "abnormal")), ({"Positive", "negative"}, ("negative", "Positive")),
    ({"a", "covid19"}, ("a", "covid19")), ({"Non-COVID", "COVID"}, ("Non-COVID", "COVID")),
    ({"covid-negative", "covid-positive"}, ("covid-negative", "covid-positive")), ({"COVID+", "COVID-"}, ("COVID-", "COVID+")),
    ({"no_covid", "Covid_19"}, ("no_covid", "Covid_19")), ({"SARS-CoV-2", "other"}, ("other", "SARS-CoV-2")), ({"covid", "normal", "Bacterial"}, ("Bacterial", "covid", "normal")),
])
def test_the_positive_class_is_the_last_of_two(labels, order):
    assert class_order(labels) == order


def test_classes_can_be_given(tmp_path):
    touch(tmp_path, "a.png", "b.png")
    manifest = table(tmp_path, "path,label\na.png,normal\nb.png,covid\n", classes=["covid", "normal", "other"])
    assert manifest.classes == ("covid", "normal", "other") and manifest.labels.tolist() == [1, 0]
    assert manifest.counts() == {"covid": 1, "normal": 1, "other": 0}
    assert table(tmp_path, "path,label\na.png,normal\n", classes=["normal", "covid"]).labels.tolist() == [0]


@pytest.mark.parametrize("classes, sentence", [
    ("normal,covid", r"classes: expected a list of names such as \['normal', 'covid'\], got 'normal,covid'"),
    (3, "expected a list of names"), (["covid"], r"two or more different names, got \['covid'\]"),
    (["a", "a"], "two or more different names"), (["a", "=b"], "the name '=b' cannot be used: it may hold up to 64"),
])
def test_given_classes_are_checked(classes, sentence):
    with pytest.raises(InputError, match=sentence):
        check_classes(classes)


# ---- The table -------------------------------------------------------------------------------------------------------

def small(n=6, **columns):
    return Manifest("/data", [f"{i}.png" for i in range(n)], np.arange(n) % 2, ["normal", "covid"], **columns)


def test_a_manifest_is_not_changed():
    labels, manifest = np.array([0, 1]), None
    manifest = Manifest("/data", ["a.png", "/data/b.png"], labels, ["normal", "covid"], patients=["p", "q"])
    labels[0] = 1
    assert manifest.labels.tolist() == [0, 1] and manifest.paths.tolist() == ["/data/a.png", "/data/b.png"]
    for column in (manifest.labels, manifest.paths, manifest.patients):
        with pytest.raises(ValueError, match="read-only"):
            column[0] = column[1]
    with pytest.raises(AttributeError, match="cannot assign to field 'root'"):
        manifest.root = "/"


def test_subset_takes_every_column():
    manifest = small(patients=list("abcdef"), sources=list("uvwxyz"), ages=list("123456"))
    for indices in ([4, 1, 1], np.array([4, 1, 1])):
        part = manifest.subset(indices)
        assert part.names == ["4.png", "1.png", "1.png"] and part.labels.tolist() == [0, 1, 1]
        assert part.patients.tolist() == list("ebb") and part.sources.tolist() == list("yvv") and part.ages[0] == "5"
    assert manifest.subset(manifest.labels == 1).names == ["1.png", "3.png", "5.png"]
    with pytest.raises(InputError, match="Manifest: there are no images in it"):
        manifest.subset([])


@pytest.mark.parametrize("change, error, sentence", [
    ({"labels": [0, 1, 2]}, InputError, r"labels must lie between 0 and 1 \(normal, covid\), got 0 to 2"),
    ({"labels": [0, 1]}, ShapeError, r"expected 3 whole numbers as labels, got int64 \(2,\)"),
    ({"labels": [0.0, 1.0, 1.0]}, ShapeError, "whole numbers as labels, got float64"),
    ({"patients": ["p"]}, ShapeError, "there are 3 paths, but 1 patients"),
    ({"classes": ["normal"]}, InputError, "two or more different names"),
])
def test_the_constructor_checks(change, error, sentence):
    with pytest.raises(error, match=sentence):
        Manifest(**({"root": "/", "paths": list("abc"), "labels": [0, 1, 1], "classes": ["normal", "covid"]} | change))


def test_augment_makes_a_new_manifest():
    manifest = small()
    assert manifest.augment(Augmentation.honest()).augmentation == Augmentation.honest() and manifest.augmentation is None
    with pytest.raises(InputError, match="augment: .*Augmentation.honest.*got 'paper'"):
        manifest.augment("paper")


def test_what_is_written_can_be_read(tmp_path):
    noise_images(tmp_path, ["a.png", "sub/b.png", "=c.png"])
    manifest = Manifest(tmp_path, ["a.png", "sub/b.png", "=c.png"], [0, 1, 1], ["normal", "covid"],
                        patients=["1", "", "-2"], sources=["@x", "y", "\tz"])
    manifest.write_csv(tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == (
        "path,label,patient_id,source\na.png,normal,1,./@x\nsub/b.png,covid,,y\n./=c.png,covid,./-2,./\tz\n")
    again = Manifest.read(tmp_path / "out.csv")
    assert again.names == manifest.names and again.labels.tolist() == [0, 1, 1]
    parts = {"training": manifest.subset([0, 2]), "test": manifest.subset([1])}
    manifest.write_csv(tmp_path / "split.csv", parts)
    again = Manifest.read(tmp_path / "split.csv")
    assert again.names == ["a.png", "=c.png", "sub/b.png"] and again.splits.tolist() == ["training", "training", "test"]


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@x", "\tx", "\r", "\n"])
def test_no_cell_is_a_formula(cell):
    assert safe_cell(cell) == "./" + cell
    assert safe_cell("a" + cell) == "a" + cell and safe_cell("") == "" and safe_cell(-0.5) == -0.5


# ---- Opening ---------------------------------------------------------------------------------------------------------

def test_open_reads_images_in_order(tmp_path):
    noise_images(tmp_path, [f"{i}.png" for i in range(6)])
    manifest = Manifest(tmp_path, [f"{i}.png" for i in range(6)], np.arange(6) % 2, ["normal", "covid"])
    data = manifest.open(Preprocessing(20, 16, 1))        # their own size
    assert data.shape == (20, 16, 1) and len(data) == 6 and data.classes == ("normal", "covid")
    stored = np.asarray(Image.open(tmp_path / "4.png"))
    np.testing.assert_array_equal(data.batch(np.array([4]))[0, :, :, 0], stored / np.float32(255))
    assert manifest.subset([4]).open(Preprocessing(20, 16, 1)).digests.tolist() == data.digests[[4]].tolist()


def test_images_that_cannot_be_read_are_told_together_or_left_out(tmp_path):
    noise_images(tmp_path, ["a.png", "b.png"])
    touch(tmp_path, "c.png", "d.png")
    manifest = Manifest(tmp_path, ["c.png", "a.png", "d.png", "b.png"], [0, 1, 0, 1], ["normal", "covid"])
    with pytest.raises(ManifestError, match="images that cannot be read: 1 problem, in 2 places\n  twice, in .*c.png and .*d.png: PNG, "
                       ".*\n  .*skip_unreadable=True"):
        manifest.open()
    with pytest.warns(ManifestWarning, match="^2 of 4 images cannot be read and are left out: c.png, d.png. ") as caught:
        left = manifest.open(skip_unreadable=True)
    assert len(caught) == 1 and left.names == ["a.png", "b.png"] and left.labels.tolist() == [1, 1]
    np.testing.assert_array_equal(left.batch(slice(0, 2)), manifest.subset([1, 3]).open().batch(slice(0, 2)))
    with pytest.raises(ManifestError, match="1 problem, in 2 places"):          # none would be left
        manifest.subset([0, 2]).open(skip_unreadable=True)
    with pytest.warns(ManifestWarning, match="^3 of 5 images .*: c.png, d.png, c.png. "):
        left = manifest.subset([0, 1, 2, 0, 3]).open(skip_unreadable=True)      # two rows of one file
    assert left.names == ["a.png", "b.png"]


def test_images_in_memory():
    images = np.random.default_rng(1).integers(0, 256, (4, 64, 64), dtype=np.uint8)
    manifest = Manifest.from_arrays(images, [0, 1, 0, 1], ("normal", "covid"), patients=list("abab"))
    assert manifest.names == ["000000", "000001", "000002", "000003"] and manifest.patients.tolist() == list("abab")
    data = manifest.subset([3, 0]).open()
    np.testing.assert_array_equal(data.batch(np.array([0, 1]))[..., 0], images[[3, 0]] / np.float32(255))
    assert manifest.subset([3, 0]).open(Preprocessing(32, 16)).shape == (32, 16, 3)
    with pytest.raises(InputError, match="color='rgb'"):
        manifest.open(Preprocessing(color="rgb"))


def test_modules_are_imported_at_first_use():
    import subprocess
    import sys
    code = ("import sys, minicnn.data\nassert not {'numpy', 'PIL', 'numba'} & set(sys.modules)\n"
            "minicnn.data.Manifest\nassert 'numba' not in sys.modules\n"
            "try:\n    minicnn.data.Manifst\nexcept AttributeError as error:\n    print(error)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "module 'minicnn.data' has no attribute 'Manifst'\n"
