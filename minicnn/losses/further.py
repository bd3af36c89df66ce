"""Losses that COV-19Net has no use for: of one of several classes, of numbers, of capsules, and of anomalies. They join the table LOSSES."""

import numpy as np

from minicnn.errors import InputError, ShapeError
from minicnn.losses import LOSSES, Loss
from minicnn.metrics import binary_metrics
from minicnn.metrics.categorical import categorical_metrics

__all__ = ["CategoricalCrossentropy", "MeanSquaredError", "MarginLoss", "DeviationLoss", "shares"]


class _OneOfSeveral(Loss):
    """Of one of K classes: targets are one row of probabilities a sample, which are one term of the mean."""

    one_hot = True
    _before = ""        # what to put before the activation, or how to come to one output for each class

    def terms_per_sample(self, outputs):
        """One: K classes are a single choice."""
        return 1

    def share_right(self, outputs, targets):
        return float((outputs.argmax(axis=-1) == targets.argmax(axis=-1)).mean())

    def describe(self, outputs, targets, loss):
        return categorical_metrics(targets.argmax(axis=-1), outputs, loss=loss)

    def check_targets(self, t, shape):
        if len(shape) != 2:
            raise ShapeError(f"{self.name}: expected outputs of shape (N, K), got {shape}. {self._before}")
        super().check_targets(t, shape)
        sums = t.sum(axis=-1)
        if t.size and (t.min() < 0 or np.abs(sums - 1).max() > 1e-4):
            raise InputError(f"{self.name}: each row of targets must hold probabilities that sum to 1 (one-hot, or "
                             f"whole-number classes as a vector), got sums from {sums.min()} to {sums.max()}.")


class CategoricalCrossentropy(_OneOfSeveral):
    """Mean cross-entropy over classes; folds a final Softmax. Targets are one row of probabilities a sample."""

    operation = "categorical_crossentropy"
    head = "Softmax"
    _before = "Put Flatten() and Dense(K) before the Softmax."


class MeanSquaredError(Loss):
    """Mean squared error of the outputs as they are: no head is folded, and nothing is smoothed."""

    operation = "mean_squared_error"


class MarginLoss(_OneOfSeveral):
    """Mean margin loss of the lengths of capsules, one for each class (reference.margin); no head is folded.

    Metrics are of the lengths' shares in their sum: these are no probabilities, and the largest is the same class.
    """

    operation = "margin"
    _before = "Put Capsules(K, size) and CapsuleLength() at the end."

    def describe(self, outputs, targets, loss):
        p, classes = shares(outputs), targets.argmax(axis=-1)
        return binary_metrics(classes, p[:, 0], loss=loss) if p.shape[1] == 1 else categorical_metrics(classes, p, loss=loss)


def shares(lengths):
    """Return the share of each class's length, (N, k), in their sum, float64; of two classes that of the second, (N, 1).

    >>> shares(np.array([[0.2, 0.6], [0.0, 0.0]]))
    array([[0.75],
           [0.5 ]])
    """
    lengths = lengths.astype(np.float64) + np.finfo(np.float32).tiny
    found = lengths / lengths.sum(axis=-1, keepdims=True)
    return found[:, 1:] if found.shape[1] == 2 else found


class DeviationLoss(Loss):
    """Mean deviation loss of anomaly scores (reference.deviation); targets are 1 for anomalies, no head is folded."""

    operation, two_classes = "deviation", True

    def check_targets(self, t, shape):
        super().check_targets(t, shape)
        if t.size and (t.min() < 0 or t.max() > 1):
            raise InputError(f"{self.name}: targets must be 0 for normal samples and 1 for anomalies, got values from {t.min()} to "
                             f"{t.max()}.")


LOSSES |= {loss.operation: loss for loss in (CategoricalCrossentropy, MeanSquaredError, MarginLoss, DeviationLoss)}
