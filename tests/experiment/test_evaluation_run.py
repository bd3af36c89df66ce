"""`minicnn evaluate` on other images: the reliability curve and the shortcut check."""

import hashlib
import json
import re

import numpy as np
import pytest
from PIL import Image

from minicnn.cli.main import main
from minicnn.core.untrusted import read_table
from minicnn.data.manifest import Manifest
from minicnn.data.synthetic import phantom
from minicnn.errors import InputError
from minicnn import experiment
from tests.support import tagged


@pytest.fixture(scope="module", params=[True, False], ids=["tagged", "honest"])
def network(request, tmp_path_factory):
    """(weights file, manifest of 60 images it was not trained on, whether it was trained on tagged positives)."""
    folder, made = tmp_path_factory.mktemp("network"), tagged.trained(request.param)
    made.model.save(folder / "model.safetensors")
    lines = ["path,label,patient_id"]
    for i, (image, label, patient) in enumerate(zip(made.images[:60], made.labels, made.patients)):
        Image.fromarray(image[..., 0]).save(folder / f"{i}.png")
        lines.append(f"{i}.png,{made.model.classes[label]},{patient}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder / "model.safetensors", folder / "manifest.csv", request.param


def test_a_shortcut_is_an_exit_code_a_sentence_and_a_chapter(network, tmp_path, capsys):
    file, data, cheats = network
    page = tmp_path / "page.html"
    command = ["evaluate", str(file), "--data", str(data), "--quiet"]
    assert main([*command, "--shortcuts", "--report", str(page)]) == (1 if cheats else 0)
    text = capsys.readouterr().out
    assert ("SHORTCUT: with the middle" in text) == cheats
    assert ("SHORTCUT: with the middle" in page.read_text()) == cheats
    assert "Shortcut check" in page.read_text() and "middle black" in page.read_text()
    assert page.read_text().count("data:image/png;base64,") == 24 + 6          # samples, and one image six times
    assert len(re.findall('<svg class="plot"', page.read_text())) == 2         # ROC, reliability
    assert main([*command, "--shortcuts", "--json"]) == (1 if cheats else 0)
    told = json.loads(capsys.readouterr().out)
    assert bool(told["shortcuts"]["findings"]) == cheats and len(told["shortcuts"]["rows"]) == 6
    assert main(command) == 0 and "Shortcut check" not in capsys.readouterr().out


def above(page):
    """Return the line below the title of a page."""
    return re.search(r'<p class="about">(.*?)</p>', page.read_text("utf-8"))[1]


def test_the_page_names_the_data_the_date_and_the_digest(collection, finished, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    phantom.write(tmp_path / "other", n=12, seed=9, size=64)
    data, page, again = tmp_path / "other" / "manifest.csv", tmp_path / "page.html", tmp_path / "again.html"
    found = experiment.evaluate(finished, data, page, progress=False)
    lines = sorted(f"{bytes(digest).hex()} {('normal', 'covid')[label]}\n" for digest, label in
                   zip(found.datasets["evaluation"].pixel_digests, found.datasets["evaluation"].labels))
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()[:16]
    assert above(page).endswith(f"Measured on {data} on 2023-11-14. The SHA-256 of its images and labels begins with "
                                 f"{digest}.")
    rows = data.read_text().splitlines()
    for change, same in ((rows[:1] + rows[:0:-1], True), (rows[:-1], False),
                         ([rows[0], *(row.replace(",covid,", ",?,").replace(",normal,", ",covid,").replace(",?,", ",normal,")
                                      for row in rows[1:])], False)):
        data.write_text("\n".join(change) + "\n")           # another order; one image less; other labels
        experiment.evaluate(finished, data, again, progress=False)
        assert (digest in above(again)) == same
    # What the run itself measured: its sets, each with its digest; no date is in the run folder.
    experiment.evaluate(finished, report=page, progress=False)
    digests = json.loads((finished / "environment.json").read_text())["digests"]
    assert above(page).endswith(
        f"Measured at the end of the training of {finished}, on its own sets of {collection}; this page is of 2023-11-14. "
        "The SHA-256 of images and labels begins with: training {training:.16}, validation {validation:.16} and test {test:.16}.".format(
            **digests))
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    experiment.evaluate(finished, report=page, progress=False)
    assert re.search(r"this page is of 2\d\d\d-\d\d-\d\d\.", above(page)) and "2023-11-14" not in above(page)


def test_the_reliability_curve_is_in_the_json(network):
    file, data, _ = network
    result = experiment.evaluate(file, Manifest.read(data), progress=False)
    p, labels = result.outputs["evaluation"][:, 0], result.datasets["evaluation"].labels
    points = result.to_dict()["evaluation"]["reliability"]
    assert sum(point["n"] for point in points) == 60 and json.dumps(points, allow_nan=False)
    for point in points:
        # A probability on the border of two bins belongs to the lower.
        here = (p > point["low"]) & (p <= point["high"]) | (p == 0) & (point["low"] == 0)
        assert point["n"] == here.sum() and point["observed"] == pytest.approx(labels[here].mean())
        assert point["predicted"] == pytest.approx(p[here].astype(np.float64).mean())
        assert point["interval"] is None or 0 <= point["interval"][0] <= point["observed"] <= point["interval"][1] <= 1


# ---- Altered copies of training images -------------------------------------------------------------------------------

ALTERATIONS = {"again.jpg": lambda image: image, "half.png": lambda image: image.resize((32, 32)),
               "mirrored.png": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
               "darker.png": lambda image: image.point([round(0.7 * value) for value in range(256)])}


@pytest.fixture(scope="module")
def partly_copied(collection, finished, tmp_path_factory):
    """The manifest of 12 new images, one training image and four altered copies of another."""
    folder = tmp_path_factory.mktemp("copied")
    phantom.write(folder, n=12, seed=9, size=64)
    trained = [row for row in read_table(finished / "split.csv", ("path", "split")) if row["split"] == "training"]
    lines = []
    for name, alter in ALTERATIONS.items():
        alter(Image.open(collection.parent / trained[0]["path"])).save(folder / name)
        lines.append(f"{name},{trained[0]['label']}")
    (folder / "same.png").write_bytes((collection.parent / trained[1]["path"]).read_bytes())
    manifest = Manifest.read(folder / "manifest.csv")
    lines += [f"{path},{manifest.classes[label]}" for path, label in zip(manifest.paths, manifest.labels)]
    (folder / "copied.csv").write_text("\n".join(["path,label", f"same.png,{trained[1]['label']}", *lines]) + "\n")
    return folder / "copied.csv"


def test_altered_copies_of_training_images_are_found_and_can_be_left_out(finished, partly_copied, capsys):
    command = ["evaluate", str(finished), "--data", str(partly_copied), "--quiet"]
    assert main(command) == 3 and "--leave-out-copies" in capsys.readouterr().err
    assert main([*command, "--allow-training-images"]) == 0
    assert "4 of these 17 images are altered copies" in capsys.readouterr().out
    assert main([*command, "--leave-out-copies", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["evaluation"]["n"] == 12
    left = experiment.evaluate(finished, partly_copied, leave_out_copies=True, progress=False)
    assert len(left.datasets["evaluation"]) == 12 and any("4 altered copies" in note for note in left.notes)
    both = experiment.compare(finished, finished, partly_copied, leave_out_copies=True, progress=False)
    assert both.metrics["n"] == 12 and any("4 altered copies" in note for note in both.notes)


def test_nothing_may_be_left(finished, partly_copied, tmp_path):
    lines = partly_copied.read_text().splitlines()
    for name in ALTERATIONS:
        (tmp_path / name).write_bytes((partly_copied.parent / name).read_bytes())
    (tmp_path / "copies.csv").write_text("\n".join([lines[0], *lines[2:6]]) + "\n")
    with pytest.raises(InputError, match="trained on all 4 images"):
        experiment.evaluate(finished, tmp_path / "copies.csv", classes=["normal", "covid"], leave_out_copies=True,
                            progress=False)


def test_a_weights_file_alone_says_that_it_cannot_find_copies(finished, partly_copied):
    told = experiment.evaluate(finished / "last.safetensors", partly_copied, allow_training_images=True, progress=False)
    assert any("has no hashes" in note for note in told.notes)
    assert not any("has no hashes" in note for note in experiment.evaluate(
        finished, partly_copied, allow_training_images=True, progress=False).notes)
