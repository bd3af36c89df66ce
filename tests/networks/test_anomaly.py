"""The anomaly detector: two heads on one trunk, its loss, its rule, and that it learns, is saved and exported."""

import numpy as np
import pytest

from minicnn import Adam, InputError, Model, gradcheck
from minicnn.interop import onnx
from minicnn.losses import get_loss
from minicnn.networks import anomaly_detector
from minicnn.networks.anomaly import reports


def images(n=64):
    rng, labels = np.random.default_rng(0), np.arange(n) % 2
    x = rng.random((n, 32, 32, 3), np.float32) / 2
    x[labels == 1, 8:20, 8:20] += 0.5
    return x, labels.astype(np.float32)


def test_it_learns_and_is_kept(tmp_path):
    x, t = images()
    model = anomaly_detector((32, 32, 3), seed=2)
    model.compile(Adam(1e-3), {"classification": "binary_crossentropy", "anomaly": "deviation"}, loss_weights=[1, 0.1])
    rows = model.fit(x, [t, t], epochs=4, batch_size=16, progress=False).rows
    assert rows[-1]["loss"] < rows[0]["loss"] and rows[-1]["anomaly_loss"] < rows[0]["anomaly_loss"]
    model.save(tmp_path / "model.safetensors")
    again = Model.load(tmp_path / "model.safetensors")
    before, after = model.predict(x[:8]), again.predict(x[:8])
    assert again.loss.names == ["binary_crossentropy", "deviation"]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    onnx.save(model, tmp_path / "model.onnx")


def test_targets_are_0_or_1():
    x, t = images(4)
    model = anomaly_detector((32, 32, 3))
    model.compile(Adam(), {"classification": "binary_crossentropy", "anomaly": "deviation"})
    with pytest.raises(InputError, match="deviation: targets must be 0 for normal samples and 1 for anomalies, got values from 0.0 to 3.0"):
        model.fit(x, [t, 3 * t], progress=False)


def test_its_loss_has_the_gradient_of_its_value():
    assert (report := gradcheck(get_loss("deviation"), shape=(6, 1))), report


def test_the_rule():
    p, scores = [[0.1], [0.9], [0.5], [0.58]], [[-1.0], [2.5], [0.0], [2.4]]
    assert reports(p, scores, 2.5).tolist() == [False, True, False, False]
    assert reports(p, scores, 2.5, confidence=0.6).tolist() == [False, True, True, True]
    for options, sentence in (({"threshold": "a"}, "threshold"), ({"threshold": 1, "confidence": 0.2}, "confidence")):
        with pytest.raises(InputError, match=f"reports: {sentence} must"):
            reports(p, scores, **options)
