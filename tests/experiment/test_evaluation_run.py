"""`minicnn evaluate` on other images: the reliability curve and the shortcut check."""

import json

import numpy as np
import pytest
from PIL import Image

from minicnn.cli.main import main
from minicnn.data.manifest import Manifest
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
    assert page.read_text().count("data:image/png;base64,") == 5       # ROC, reliability, confusion, samples, shortcuts
    assert main([*command, "--shortcuts", "--json"]) == (1 if cheats else 0)
    told = json.loads(capsys.readouterr().out)
    assert bool(told["shortcuts"]["findings"]) == cheats and len(told["shortcuts"]["rows"]) == 6
    assert main(command) == 0 and "Shortcut check" not in capsys.readouterr().out


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
