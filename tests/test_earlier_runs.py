"""Models and runs that an earlier commit made load, go on and predict: tests/fixtures/run, made by make_run.py."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from minicnn import Sequential, weights

FIXTURES = Path(__file__).with_name("fixtures")
sys.path.append(str(FIXTURES))
from make_run import OPTIONS, callbacks, data, model_of  # noqa: E402

RUN = FIXTURES / "run"


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_training_goes_on(engine, tmp_path):
    """What comes out is what the earlier commit made of it; to rounding, for another CPU may have made it."""
    folder = tmp_path / "run"
    shutil.copytree(RUN / "stopped", folder)
    model = Sequential(model_of().layers, (16, 16, 3), seed=11, engine=engine, classes=["normal", "covid"])
    model.compile(model_of().optimizer, loss=model_of().loss)
    x, t = data()
    model.fit(x[:32], t[:32], validation=(x[32:], t[32:]), callbacks=callbacks(), run=folder, resume=True, **OPTIONS)
    (got, about), (expected, what) = (weights.load(path / "last.safetensors") for path in (folder, RUN / "whole"))
    assert {key: value for key, value in about.items() if key not in ("history", "callbacks")} == \
        {key: value for key, value in what.items() if key not in ("history", "callbacks")}
    assert got.keys() == expected.keys()
    for key in expected:
        np.testing.assert_allclose(got[key], expected[key], rtol=2e-3, atol=2e-5, err_msg=key)
    np.testing.assert_allclose(model.predict(x).ravel(), json.loads((RUN / "predictions.json").read_text()), atol=1e-4)


def test_files_of_an_earlier_commit_load_and_are_written_as_they_were(tmp_path):
    for path in (RUN / "whole" / "last.safetensors", RUN / "stopped" / "best.safetensors"):
        model = Sequential.load(path)
        assert model.classes == ("normal", "covid") and model.predict(data()[0]).shape == (40, 1)
        model.save(tmp_path / path.name)
        (tensors, about), (before, what) = weights.load(tmp_path / path.name), weights.load(path)
        what.pop("callbacks", None)         # of a run, and not of a model
        assert about == what
        assert {key for key in before if not key.startswith("callbacks/")} == set(tensors)
        for key, array in tensors.items():
            assert array.tobytes() == before[key].tobytes()
