"""Folders: what is a class, what is left out and counted, what is refused with the folders that could be meant."""

import gzip
import io
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from minicnn.data import Manifest
from minicnn.data.file_kinds import kind_of_file
from minicnn.data.manifest import ManifestWarning
from minicnn.errors import ManifestError


def touch(root, *names, content=b"not read here"):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def read(root, **how):
    """Return the manifest, without its warnings being errors, and what they say."""
    with pytest.warns(ManifestWarning) as said:
        manifest = Manifest.read(root, **how)
    return manifest, [str(one.message) for one in said]


# ---- Left out, and said ----------------------------------------------------------------------------------------------

ASIDE = {
    "masks in each class": (["covid/images/a.png", "covid/masks/a.png", "normal/images/b.png", "normal/masks/b.png"],
                            "left out 2 masks (covid/masks, ...)"),
    "masks of lungs and of lesions": (["covid/x/a.png", "covid/lung masks/a.png", "covid/infection_masks/a.png", "normal/b.png"],
                                      "left out 2 masks (covid/infection_masks, ...)"),
    "a folder of masks beside the classes": (["covid/a.png", "normal/b.png", "Segmentation_png/a.png"],
                                             "left out 1 mask (Segmentation_png)"),
    "a mask beside its image": (["covid/a.png", "covid/a_mask.png", "normal/b.jpg", "normal/b-seg.png"],
                                "left out 2 masks (covid/a_mask.png, ...)"),
    "the word in front": (["covid/7.png", "covid/mask_7.png", "normal/8.png"], "left out 1 mask (covid/mask_7.png)"),
    "maps": (["covid/a.png", "covid/a-heatmap.png", "normal/b.png", "normal/saliencyMaps/b.png"], "left out 2 maps"),
    "thumbnails": (["covid/a.png", "covid/thumbs/a.jpg", "normal/b.png", "normal/b thumb.jpg"], "left out 2 thumbnails"),
    "explanations": (["covid/a.png", "normal/b.png", "explanations/a-gradcam.png", "normal/b-occlusion.png"],
                     "left out 2 images of minicnn's own results (explanations, ...)"),
    "a run": (["covid/a.png", "normal/b.png", "runs/001/config.json", "runs/001/split.csv", "runs/001/roc.png"],
              "left out 1 image of minicnn's own results (runs/001)"),
    "a run inside a class": (["covid/a.png", "covid/mine/config.json", "covid/mine/environment.json", "covid/mine/roc.png",
                              "normal/b.png"], "left out 1 image of minicnn's own results (covid/mine)"),
    "a study": (["covid/a.png", "normal/b.png", "reproduction/results.json", "reproduction/report.html",
                 "reproduction/forest.png", "reproduction/phantoms/c.png"],
                "left out 2 images of minicnn's own results (reproduction)"),
    "an unfinished study": (["covid/a.png", "normal/b.png", "study/phantoms/c.png", "study/runs/paper-0/run.lock"],
                            "left out 1 image of minicnn's own results (study)"),
    "runs that are called like splits and classes": (
        ["covid/a.png", "normal/b.png", *(f"{run}/{name}" for run in ("test", "runs/train", "runs/covid") for name in
                                          ("config.json", "split.csv", "roc.png"))],
        "left out 3 images of minicnn's own results (runs/covid, ...)"),
    "masks in folders called like the classes": (["covid/a.png", "normal/b.png", "masks/covid/a.png", "masks/normal/b.png"],
                                                 "left out 2 masks (masks)"),
    "images beside the classes": (["covid/a.png", "normal/b.png", "logo.png", "c.jpg"],
                                  "left out 2 images beside the class folders (c.jpg)"),
}


@pytest.mark.parametrize("name", ASIDE)
def test_what_is_no_radiograph_of_a_class_is_left_out_and_counted(tmp_path, name):
    files, sentence = ASIDE[name]
    touch(tmp_path, *files)
    manifest, said = read(tmp_path)
    assert manifest.counts() == {"normal": 1, "covid": 1}
    assert len(said) == 1 and sentence in said[0]


def test_a_run_without_images_is_no_class_and_nothing_is_said_of_it(tmp_path):
    touch(tmp_path, "covid/a.png", "normal/b.png", "runs/001/config.json", "runs/001/split.csv", "runs/002/run.lock")
    assert Manifest.read(tmp_path).counts() == {"normal": 1, "covid": 1}


READ = {
    "masks that people wear": ["with_mask/a.png", "without_mask/b.png"],
    "no image of that name beside it": ["mild/scan_mask.png", "severe/b_map.png"],
    "a class of that name that is asked for": ["masks/a.png", "maps/b.png"],
    "numbers": ["0/a.png", "1/b.png"],
    "patients and views": ["covid/p1/PA/a.png", "normal/p2/PA/b.png"],
}


@pytest.mark.parametrize("name", READ)
def test_what_only_looks_like_it_is_read(tmp_path, name):
    touch(tmp_path, *READ[name])
    classes = [file.partition("/")[0] for file in READ[name]]
    assert list(Manifest.read(tmp_path, classes=classes).counts().values()) == [1, 1]


def test_a_class_of_nothing_but_masks_is_a_problem(tmp_path):
    touch(tmp_path, "normal/a.png", "covid/b.png", "viral/masks/c.png", "viral/masks/d.png")
    with pytest.warns(ManifestWarning), pytest.raises(ManifestError, match="class folder viral holds no images, but 2 masks"):
        Manifest.read(tmp_path)


# ---- Refused, with the choices ---------------------------------------------------------------------------------------

DOUBTFUL = {
    "splits beside a copy": (["Train/healthy/a.png", "Train/sick/b.png", "Test/healthy/c.png", "Test/sick/d.png",
                              "lungs/Train/healthy/a.png", "lungs/Train/sick/b.png"],
                             "holds Test, Train: splits or parts, not classes", ["Test (healthy, sick)", "lungs/Train (healthy"]),
    "a split beside classes": (["covid/a.png", "normal/b.png", "val/c.png"], "holds val: splits", ["Move what is no class"]),
    "numbered parts": (["images_001/a.png", "images_002/b.png", "images_003/c.png"], "holds images_001, images_002", ["Move"]),
    "named by more than the split": (["train_images/a.png", "test-set/b.png", "stage_1_test_images/c.png"], "not classes", []),
    "folds": (["fold1/covid/a.png", "fold1/normal/b.png", "fold2/covid/c.png"], "fold1, fold2: splits", ["fold1 (covid"]),
    "a copy of the collection": (["covid/a.png", "normal/b.png", "all/COVID/a.png", "all/Normal/b.png"],
                                 "all, in which COVID, Normal are again: a copy", ["all (COVID, Normal)"]),
    "splits inside classes": (["covid/train/a.png", "covid/test/b.png", "normal/train/c.png"],
                              "test, train in covid: splits inside a class", []),
    "hospitals above classes": (["east/covid/a.png", "east/normal/b.png", "west/covid/c.png", "west/normal/d.png", "x/e.png"],
                                "east, in which there are covid, normal: not a class", ["east (covid", "west (covid"]),
}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_what_is_doubtful_is_an_error_that_shows_the_choices(tmp_path, name):
    files, sentence, choices = DOUBTFUL[name]
    touch(tmp_path, *files)
    with pytest.raises(ManifestError) as error:
        Manifest.read(tmp_path)
    assert sentence in str(error.value) and "Expected one folder for each class, or a CSV file" in str(error.value)
    for choice in choices:
        assert choice in str(error.value)


def test_every_choice_that_is_shown_can_be_read(tmp_path):
    touch(tmp_path, "train/covid/a.png", "train/normal/b.png", "test/covid/c.png", "test/normal/d.png", "more/train/covid/e.png",
          "more/train/normal/f.png")
    with pytest.raises(ManifestError) as error:
        Manifest.read(tmp_path)
    shown = [line.strip().partition(" (")[0] for line in str(error.value).splitlines()[2:]]
    assert len(shown) == 3
    for path in shown:
        assert Manifest.read(path).counts() == {"normal": 1, "covid": 1}


def test_a_class_may_be_called_like_a_split_if_it_is_asked_for(tmp_path):
    touch(tmp_path, "test/a.png", "control/b.png")
    assert Manifest.read(tmp_path, classes=["control", "test"]).counts() == {"control": 1, "test": 1}


def test_a_run_folder_is_no_collection(tmp_path):
    touch(tmp_path, "config.json", "split.csv", "a/b.png")
    with pytest.raises(ManifestError, match="minicnn's own results"):
        Manifest.read(tmp_path)


# ---- Files of other kinds --------------------------------------------------------------------------------------------

def archive(kind):
    buffer = io.BytesIO()
    if kind == "zip":
        zipfile.ZipFile(buffer, "w").close()
        return b"PK\3\4" + buffer.getvalue()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("a"))
    return buffer.getvalue()


def image(kind):
    buffer = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(buffer, kind)
    return buffer.getvalue()


NIFTI = bytes(344) + b"n+1\0" + bytes(40)
KINDS = {
    "a.bin": (bytes(128) + b"DICM", "2 DICOM files. It is read where its name ends with .dcm, or has no extension"),
    "DICOMDIR": (bytes(128) + b"DICM", "2 DICOMDIRs. The images that it lists are read without it"), "scan.nii": (NIFTI, "2 NIfTI files. It holds a volume"),
    "scan.nii.gz": (gzip.compress(NIFTI), "2 NIfTI files"), "volume": (NIFTI, "2 NIfTI files"), "a.gif": (image("GIF"), "2 GIFs"),
    "images.zip": (archive("zip"), "2 ZIP archives. Unpack it first"), "images.tar": (archive("tar"), "2 tar archives"),
    "data": (archive("tar"), "2 tar archives"), "images.7z": (b"7z\xbc\xaf", "2 7-Zip archives"),
    "x.npy": (b"\x93NUMPY", "2 array files"), "scan.png.part": (image("PNG"), "2 PNG images. It is read where its name ends"),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_folder_of_another_kind_says_the_kind_and_the_way(tmp_path, name):
    content, sentence = KINDS[name]
    touch(tmp_path, f"covid/{name}", f"covid/more/{name}", "normal/a.png", content=content)
    with pytest.raises(ManifestError, match="the class folder covid holds no images, but ") as error:
        Manifest.read(tmp_path)
    assert sentence in str(error.value)


def test_files_of_other_kinds_beside_images_are_said_with_their_number(tmp_path):
    touch(tmp_path, "covid/a.png", "normal/b.png", "normal/c.pgm", "covid/d.PGM", "covid/e.gif", "covid/notes.txt")
    _, said = read(tmp_path)
    assert len(said) == 1 and "4 files were skipped" in said[0] and "2 PGM files, 1 GIF" in said[0]


@pytest.mark.parametrize("name, sentence", [("all.zip", "but 1 ZIP archive. Unpack it first"), ("a.gif", "1 GIF"),
                                            ("b.png", "but 1 images, whose classes are not known"),
                                            ("c.dcm", "but 1 images, whose classes are not known")])
def test_a_folder_without_class_folders_says_what_is_there(tmp_path, name, sentence):
    touch(tmp_path, name)
    with pytest.raises(ManifestError, match=f"holds no folder, {'' if sentence.startswith('but') else 'but '}{sentence}"):
        Manifest.read(tmp_path)


@pytest.mark.parametrize("name, kind", [("data.zip", "a ZIP archive"), ("table.xlsx", "a spreadsheet"), ("a.gif", "a GIF")])
def test_data_that_is_another_file_is_named(tmp_path, name, kind):
    touch(tmp_path, name)
    with pytest.raises(ManifestError, match=f"is {kind}, not a folder or a CSV file"):
        Manifest.read(tmp_path / name)


def test_a_file_of_no_known_kind_has_none(tmp_path):
    touch(tmp_path, "notes.txt", "empty", content=b"")
    assert kind_of_file(tmp_path / "notes.txt") is None and kind_of_file(tmp_path / "empty") is None
    assert kind_of_file(tmp_path / "missing") is None and kind_of_file(tmp_path) is None
