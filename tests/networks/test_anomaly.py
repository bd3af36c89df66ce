"""The anomaly detector: two heads on one trunk, its loss and its rule (that it learns and is kept: test_every_network.py)."""

import numpy as np
import pytest

from minicnn import Adam, InputError, gradcheck
from minicnn.losses import get_loss
from minicnn.networks import anomaly_detector
from minicnn.networks.anomaly import reports


def test_targets_are_0_or_1():
    x, t = np.zeros((4, 32, 32, 3), np.float32), np.arange(4) % 2
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
