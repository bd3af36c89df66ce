"""Losses that COV-19Net has no use for: of one of several classes, and of numbers. They join the table LOSSES."""

import numpy as np

from minicnn.errors import InputError, ShapeError
from minicnn.losses import LOSSES, Loss
from minicnn.metrics.categorical import categorical_metrics

__all__ = ["CategoricalCrossentropy", "MeanSquaredError"]


class CategoricalCrossentropy(Loss):
    """Mean cross-entropy over classes; folds a final Softmax. Targets are one row of probabilities a sample."""

    operation = "categorical_crossentropy"
    head = "Softmax"

    def terms_per_sample(self, outputs):
        """One: a softmax over K classes is a single choice."""
        return 1

    def share_right(self, outputs, targets):
        return float((outputs.argmax(axis=-1) == targets.argmax(axis=-1)).mean())

    def describe(self, outputs, targets, loss):
        return categorical_metrics(targets.argmax(axis=-1), outputs, loss=loss)

    def check_targets(self, t, shape):
        if len(shape) != 2:
            raise ShapeError(f"{self.name}: expected outputs of shape (N, K), got {shape}. "
                             "Put Flatten() and Dense(K) before the Softmax.")
        super().check_targets(t, shape)
        sums = t.sum(axis=-1)
        if t.size and (t.min() < 0 or np.abs(sums - 1).max() > 1e-4):
            raise InputError(f"{self.name}: each row of targets must hold probabilities that sum to 1 (one-hot, or "
                             f"whole-number classes as a vector), got sums from {sums.min()} to {sums.max()}.")


class MeanSquaredError(Loss):
    """Mean squared error of the outputs as they are: no head is folded, and nothing is smoothed."""

    operation = "mean_squared_error"


LOSSES |= {loss.operation: loss for loss in (CategoricalCrossentropy, MeanSquaredError)}
