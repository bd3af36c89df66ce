"""An anomaly detector: a trunk that two heads share, one that classifies and one that scores how unlike normal radiographs an image is.

Zhang et al., "COVID-19 screening on chest X-ray images using deep learning based anomaly detection", arXiv:2003.12338 (2020). Trunk
and widths of the heads are not published so that they could be checked. Here they are choices: the trunk is EfficientNet-B0, the
anomaly head a hidden layer of 128. A case is reported if its score reaches a threshold, or the classification is not confident.
"""

import numpy as np

from minicnn.core.arguments import Real, check
from minicnn.layers import Dense, GlobalAveragePooling2D
from minicnn.networks import efficientnet

__all__ = ["outputs", "reports"]


def outputs(x):
    """Return the nodes of the two outputs, `classification`, a probability, and `anomaly`, a score."""
    features = GlobalAveragePooling2D(name="avg_pool")(efficientnet.trunk(x))
    hidden = Dense(128, activation="relu", name="anomaly_hidden")(features)
    return [Dense(1, activation="sigmoid", name="classification")(features), Dense(1, name="anomaly")(hidden)]


def reports(probabilities, scores, threshold, confidence=0.5):
    """Return for each image whether it is reported: its score is at least the threshold, or its class is not sure.

    Parameters
    ----------
    probabilities, scores : array-like, what `predict` of the detector returns
    threshold : float; a smaller one finds more and raises more false alarms
    confidence : float in [0.5, 1); the larger of p and 1 - p below which no class is trusted

    >>> reports([0.1, 0.9, 0.55], [-0.2, 4.0, 0.1], threshold=2.5, confidence=0.6).tolist()
    [False, True, True]
    """
    threshold = check("reports", "threshold", threshold, Real(-np.inf, np.inf, "()"))
    confidence = check("reports", "confidence", confidence, Real(0.5, 1))
    p, scores = (np.asarray(values, np.float64).reshape(len(values), -1)[:, 0] for values in (probabilities, scores))
    return (scores >= threshold) | (np.maximum(p, 1 - p) < confidence)
