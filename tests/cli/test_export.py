"""`minicnn export`: a finished run as files of other tools, and what it refuses."""

import json

import numpy as np
import pytest

from minicnn import experiment
from minicnn.cli.main import main


def test_a_run_becomes_an_onnx_file(finished, tmp_path, capsys):
    import onnx
    file = tmp_path / "model.onnx"
    assert main(["export", str(finished), str(file), "--layout", "nchw", "--input", "uint8", "--licence", "CC0-1.0"]) == 0
    assert capsys.readouterr().out == (f"{file}: 609,473 weights, inputs (N, 64, 64, 3), outputs (N, 1), of the classes normal, "
                                       "covid\n")
    facts = {one.key: one.value for one in onnx.load(file).metadata_props}
    decision = json.loads((finished / "decision.json").read_text())
    assert json.loads(facts["classes"]) == ["normal", "covid"] and facts["licence"] == "CC0-1.0"
    assert ("threshold" in facts) == (decision["threshold"] is not None)
    assert json.loads(facts["preprocessing"])["height"] == 64


@pytest.mark.parametrize("name, files", [("model.keras", ["model.keras"]), ("model.weights.h5", ["model.weights.h5"]),
                                         ("model.py", ["model.py", "model.safetensors"])])
def test_and_files_of_keras_and_pytorch(finished, tmp_path, capsys, name, files):
    assert main(["export", str(finished), str(tmp_path / name), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["files"] == [str(tmp_path / one) for one in files] and told["classes"] == ["normal", "covid"]
    assert sorted(path.name for path in tmp_path.iterdir()) == files
    from minicnn.interop import keras, pytorch
    model, other = experiment.load_model(finished), experiment.load_model(finished)
    other.set_weights([np.zeros_like(w) for w in other.get_weights()])
    (pytorch if name == "model.py" else keras).load_weights(other, tmp_path / files[-1])
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), other.get_weights()))


@pytest.mark.parametrize("words, code, sentence", [
    (["model.h7"], 3, "the ending of FILE must be one of .onnx, .keras, .weights.h5, .py"),
    (["model.keras", "--layout", "nchw"], 3, "--layout is for ONNX files"),
    (["model.onnx", "--input", "int8"], 2, "invalid choice: 'int8'"),
    (["model.onnx", "--licence", ""], 2, "must be a text, such as CC-BY-4.0"),
    (["no/such/folder/model.onnx"], 4, "Create the folder first")])
def test_what_cannot_be_done_is_said(finished, tmp_path, monkeypatch, capsys, words, code, sentence):
    monkeypatch.chdir(tmp_path)
    try:
        ended = main(["export", str(finished), *words])
    except SystemExit as error:
        ended = error.code
    assert ended == code and sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
