"""Synthetic radiographs: what a seed decides, what the label may change, and that nothing else tells the label."""

import csv
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from minicnn.data import Manifest
from minicnn.data.synthetic import phantom, radiograph
from minicnn.errors import CheckpointError, InputError


@pytest.fixture(scope="module")
def collection():
    return phantom.generate(n=460, seed=5)


# ---- One image -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("size", [32, 64, 100, 256])
def test_a_picture_has_the_size_asked_for_and_uses_the_greys(size):
    picture = phantom.render(1, 2, 3, True, size)
    assert picture.shape == (size, size) and picture.dtype == np.uint8
    assert picture.std() > 25 and np.ptp(picture) > 120


def test_the_same_address_gives_the_same_picture_whatever_was_drawn_before():
    first = phantom.render(1, 2, 3, True)
    phantom.render(9, 8, 7, False, 100)
    assert np.array_equal(first, phantom.render(1, 2, 3, True))


@pytest.mark.parametrize("other", [(2, 2, 3), (1, 3, 3), (1, 2, 4)])
def test_seed_patient_and_image_each_matter(other):
    assert not np.array_equal(phantom.render(1, 2, 3, False), phantom.render(*other, False))


def test_a_patient_keeps_the_chest_from_exam_to_exam():
    exams = [radiograph._Exam(1, image) for image in (0, 1)]
    same = [radiograph._Body(1, 7, exam) for exam in exams]
    other = radiograph._Body(1, 8, exams[0])
    assert np.array_equal(same[0].wall, same[1].wall) and not np.array_equal(same[0].wall, other.wall)
    assert same[0].rib_gap == same[1].rib_gap != other.rib_gap


def test_sizes_show_the_same_picture():
    for image in range(4):
        small = phantom.render(1, image, image, True, 64)
        large = phantom.render(1, image, image, True, 256).reshape(64, 4, 64, 4).mean(axis=(1, 3))
        assert np.corrcoef(small.ravel(), large.ravel())[0, 1] > 0.99


def test_strips_do_not_show(monkeypatch):
    whole = [phantom.render(1, image, image, True, 256).astype(int) for image in range(3)]
    monkeypatch.setattr(radiograph, "_STRIP", 256 * 24)
    for image, picture in enumerate(whole):
        assert np.abs(phantom.render(1, image, image, True, 256) - picture).max() <= 1     # a last bit before rounding


@pytest.mark.parametrize("size, images", [(64, 60), (256, 6)])
def test_the_label_changes_the_lungs_and_not_one_pixel_of_the_border(size, images):
    edge = size // 8
    for image in range(images):
        well, ill = (phantom.render(3, image, image, positive, size).astype(int) for positive in (False, True))
        change = np.abs(ill - well)
        inner = change[edge:-edge, edge:-edge]
        assert change.sum() == inner.sum()
        assert inner.max() > 12
        assert inner[:, inner.shape[1] // 2 - 1].max() < 10      # the spine is not lung


def test_findings_are_in_both_lungs():
    size = 64
    for image in range(20):
        change = np.abs(phantom.render(4, image, image, True).astype(int) - phantom.render(4, image, image, False))
        assert change[:, :size // 2].max() > 5 and change[:, size // 2:].max() > 5


def test_the_view_is_the_one_drawn():
    views = [radiograph.view(1, image) for image in range(200)]
    assert views == ["AP" if radiograph._Exam(1, image).ap else "PA" for image in range(200)]
    assert 50 < views.count("AP") < 110


# ---- A collection ----------------------------------------------------------------------------------------------------

def test_a_collection_is_the_pictures_of_its_addresses():
    made = phantom.generate(n=7, patients=4, seed=2, size=32)
    assert made.images.shape == (7, 32, 32) and made.images.dtype == np.uint8
    assert made.labels.dtype == np.int64 and made.classes == phantom.CLASSES == ("normal", "covid")
    assert made.names == [f"{i:06d}.png" for i in range(7)]
    for i in (5, 0, 3):
        number = int(made.patients[i].removeprefix("patient-"))
        assert np.array_equal(made.images[i], phantom.render(2, number, i, made.labels[i] == 1, 32))
        assert made.views[i] == radiograph.view(2, i)


def test_the_default_is_the_size_of_the_papers_collection():
    labels, owners = phantom._collection("generate", 820, None, 0, 64)
    images = Counter(owners.tolist())
    assert labels.sum() == 410 and len(images) == 540
    assert max(images.values()) >= 3
    both = set(owners[labels == 0].tolist()) & set(owners[labels == 1].tolist())
    assert 1 <= len(both) <= 12


@given(n=st.integers(2, 300), share=st.floats(0, 1), seed=st.integers(0, 2**64 - 1))
def test_half_are_positive_and_each_patient_has_an_image(n, share, seed):
    patients = 2 + round(share * (n - 2))
    labels, owners = phantom._collection("generate", n, patients, seed, 64)
    assert labels.sum() == n // 2
    assert sorted(set(owners.tolist())) == list(range(patients))


def test_order_patient_number_and_view_do_not_tell_the_label():
    labels, owners = phantom._collection("generate", 4000, None, 1, 64)
    views = [radiograph.view(1, i) == "AP" for i in range(4000)]
    often = np.bincount(owners)[owners]
    for clue in (np.arange(4000), owners, views, often):
        assert abs(roc_auc_score(labels, np.asarray(clue, float)) - 0.5) < 0.04


def test_brightness_and_contrast_hardly_tell_the_label(collection):
    for clue in (collection.images.mean(axis=(1, 2)), collection.images.std(axis=(1, 2))):
        assert abs(roc_auc_score(collection.labels, clue) - 0.5) < 0.12


def test_logistic_regression_on_8x8_pixels_does_not_solve_it(collection):
    x = collection.images.reshape(-1, 8, 8, 8, 8).mean(axis=(2, 4)).reshape(-1, 64)
    for strength in (0.001, 0.1):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))
        model.fit(x[:270], collection.labels[:270])
        assert 0.55 < roc_auc_score(collection.labels[270:], model.decision_function(x[270:])) < 0.85


def test_the_border_does_not_tell_the_label(collection):
    mask = np.ones((64, 64), bool)
    mask[8:-8, 8:-8] = False
    x, t = collection.images[:, mask].astype(float), collection.labels
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=1e-4, max_iter=1000)).fit(x[:270], t[:270])
    assert abs(roc_auc_score(t[270:], linear.decision_function(x[270:])) - 0.5) < 0.1


@pytest.mark.parametrize("arguments, message", [
    (dict(n=1), "n must be a whole number from 2 to 10000000, got 1"),
    (dict(n=2.5), "n must be a whole number .* got 2.5"),
    (dict(n=4, patients=5), "patients must be a whole number from 2 to 4, got 5"),
    (dict(n=4, size=16), "size must be a whole number from 32 to 2048, got 16"),
    (dict(n=4, seed=-1), r"seed must be a whole number from 0 to 2\*\*64 - 1, got -1")])
def test_impossible_collections_are_refused(arguments, message, tmp_path):
    with pytest.raises(InputError, match=message):
        phantom.generate(**arguments)
    with pytest.raises(InputError, match=message):
        phantom.write(tmp_path / "new", **arguments)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("address, message", [((-1, 0, 0), "seed must .* got -1"), ((0, -1, 0), "patient must .* got -1"),
                                              ((0, 0, "a"), "image must .* got 'a'")])
def test_impossible_addresses_are_refused(address, message):
    with pytest.raises(InputError, match=message):
        phantom.render(*address, True)


# ---- Files -----------------------------------------------------------------------------------------------------------

def test_files_hold_the_collection_and_nothing_that_tells_the_label(tmp_path):
    calls = []
    path = phantom.write(tmp_path / "deep" / "new", n=12, seed=6, size=64, progress=lambda: calls.append(1))
    made = phantom.generate(n=12, seed=6, size=64)
    assert path == tmp_path / "deep" / "new" / "manifest.csv" and len(calls) == 12
    text = path.read_text()
    rows = list(csv.DictReader(text.splitlines()))
    assert text.splitlines()[0] == "path,label,patient_id,source,view"
    assert [row["path"] for row in rows] == [f"images/{name}" for name in made.names]
    assert [row["label"] for row in rows] == [made.classes[label] for label in made.labels]
    assert [row["patient_id"] for row in rows] == made.patients
    assert [row["view"] for row in rows] == made.views
    assert {row["source"] for row in rows} == {"phantom"}
    files = sorted((path.parent / "images").iterdir())
    assert [file.name for file in files] == made.names
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["images", "manifest.csv"]
    assert len({file.stat().st_size for file in files}) == 1
    assert len({file.read_bytes()[:48] for file in files}) == 1         # all that comes before the first pixel
    for file, picture in zip(files, made.images):
        with Image.open(file) as image:
            assert image.mode == "L" and image.format == "PNG" and not image.info
            assert np.array_equal(np.asarray(image), picture)


def test_a_manifest_reads_what_was_written(tmp_path):
    manifest = Manifest.read(phantom.write(tmp_path, n=6, seed=1, size=32))
    assert len(manifest) == 6 and tuple(manifest.classes) == phantom.CLASSES
    assert manifest.labels.tolist() == phantom.generate(n=6, seed=1, size=32).labels.tolist()


def test_a_folder_that_holds_something_is_refused_and_kept(tmp_path):
    path = phantom.write(tmp_path / "a", n=2, size=32)
    before = path.read_bytes()
    with pytest.raises(InputError, match="holds a manifest.csv already"):
        phantom.write(tmp_path / "a", n=2, size=32)
    assert path.read_bytes() == before
    with pytest.raises(InputError, match="expected a folder that is empty or not there yet"):
        phantom.write(tmp_path, n=2, size=32)
    with pytest.raises(InputError, match="expected a folder that is empty or not there yet"):
        phantom.write(path.parent / "images" / "000000.png", n=2, size=32)
    with pytest.raises(CheckpointError, match="the radiographs could not be written"):
        phantom.write(path / "below_a_file", n=2, size=32)


@pytest.mark.parametrize("there", [False, True])
def test_an_interruption_leaves_nothing_behind(tmp_path, there):
    folder = tmp_path / "new"
    if there:
        folder.mkdir()
    calls = []

    def interrupt():
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        phantom.write(folder, n=6, size=32, progress=interrupt)
    assert folder.exists() == there and not (there and list(folder.iterdir()))
    assert phantom.write(folder, n=2, size=32).exists()


def test_a_manifest_that_cannot_be_written_leaves_no_images(tmp_path, monkeypatch):
    def full(path, rows):
        raise CheckpointError("no space left")

    monkeypatch.setattr(phantom, "write_csv", full)
    with pytest.raises(CheckpointError, match="no space left"):
        phantom.write(tmp_path / "new", n=2, size=32)
    assert not (tmp_path / "new").exists()


def test_drawing_needs_neither_numba_nor_pillow():
    script = ("import sys; from minicnn.data.synthetic import phantom; phantom.render(0, 0, 0, True); "
              "assert not {'numba', 'PIL', 'scipy'} & set(sys.modules)")
    subprocess.run([sys.executable, "-c", script], check=True)
