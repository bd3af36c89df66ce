"""What training makes small: the mean loss of a batch, with its gradient.

A loss takes logits: the numbers before the final Sigmoid or Softmax, its `head`. That activation and the logarithm in
the loss cancel (see reference.binary_crossentropy), which is exact where the probabilities would have rounded to 0 or 1.
The mean over the batch is taken here and nowhere else.
"""

import importlib
import re

import numpy as np

from minicnn.core.arguments import Real, check
from minicnn.core.validation import as_array, check_output
from minicnn.errors import InputError, ShapeError, nearest
from minicnn.metrics import binary_metrics

__all__ = ["Loss", "BinaryCrossentropy", "LOSSES", "get_loss"]


class Loss:
    """Base of the losses: `operation` names the engine's function, `head` the activation folded in, `one_hot` and `two_classes` the targets.

    Label smoothing (Szegedy et al., CVPR 2016, section 7): in training, and there alone, a share of each target is
    spread evenly over the classes, so that a network has nothing to gain from being surer than 1 - label_smoothing.

    Parameters
    ----------
    label_smoothing : float in [0, 1); 0 where targets are numbers and not classes
    """

    operation, head, one_hot, two_classes = None, None, False, False
    classifies = property(lambda loss: loss.head is not None or loss.one_hot, doc="Whether targets are classes.")
    values = {}         # where there are several outputs (joint.py): {name: mean loss of the last batch}, and their weights
    weights = None

    def __init__(self, label_smoothing=0.0, **others):
        for name in others:
            raise InputError(f"{type(self).__name__}: there is no argument {name!r}, only label_smoothing. "
                             "A loss takes the logits itself where the model ends with its activation, probabilities out.")
        self.label_smoothing = check(self.operation, "label_smoothing", label_smoothing, Real(0, 1))
        if label_smoothing and not self.classifies:
            raise InputError(f"{self.operation}: label_smoothing must be 0 where targets are no classes, got "
                             f"{label_smoothing!r}.")

    @property
    def name(self):
        """What `get_loss` makes it from again: "binary_crossentropy", or "binary_crossentropy(smoothing=0.1)"."""
        return f"{self.operation}(smoothing={self.label_smoothing})" if self.label_smoothing else self.operation

    @property
    def heads(self):
        """For each output its head."""
        return (self.head,)

    def config(self):
        """Return {"type": ..., and the constructor's arguments}."""
        return {"type": type(self).__name__, "label_smoothing": self.label_smoothing}

    def smoothed(self, t):
        """Return the targets that training takes for t, s being the smoothing: t (1 - s) + s / (number of classes).

        >>> BinaryCrossentropy(label_smoothing=0.2).smoothed(np.array([[0.0], [1.0]])).tolist()
        [[0.1], [0.9]]
        """
        classes = t.shape[-1] if self.one_hot else 2
        s = self.label_smoothing
        return t * (1 - s) + t.dtype.type(s / classes) if s else t

    def __call__(self, ops, z, t, weights, losses, dz):
        """Return the mean loss of the batch and write its gradient to dz.

        Parameters
        ----------
        ops : an engine
        z : ndarray, shape (N, ...): logits, or the outputs themselves where there is no head
        t : ndarray of the same shape and dtype: targets
        weights : ndarray, shape (N,), float64, or None: how much each sample counts
        losses : ndarray, shape (N,), float64: filled with each sample's share of the loss
        dz : ndarray of z's shape: filled with the gradient

        Returns
        -------
        float: sum over samples of weight x loss, over the number of terms (N for one output)

        Raises
        ------
        ShapeError, DTypeError, InputError
            if the arrays do not fit together, or losses or dz cannot be filled
        """
        z = as_array(z, self.name, "z", None)
        t = as_array(t, self.name, "t", z.dtype)
        if z.ndim < 1 or z.size == 0:
            raise ShapeError(f"{self.name}: expected z of shape (N, ...) with at least one number, got {z.shape}.")
        if t.shape != z.shape:
            raise ShapeError(f"{self.name}: expected targets of shape {z.shape}, that of the outputs, got {t.shape}.")
        N = z.shape[0]
        check_output(losses, (N,), np.float64, self.name, "losses")
        check_output(dz, z.shape, z.dtype, self.name, "dz")
        if weights is not None:
            weights = as_array(weights, self.name, "weights", np.float64)
            if weights.shape != (N,):
                raise ShapeError(f"{self.name}: expected weights of shape ({N},), one for each sample, got {weights.shape}.")
        terms = N * self.terms_per_sample(z.size // N)
        scale = np.full(N, 1.0 / terms) if weights is None else weights / terms
        getattr(ops, self.operation)(z.reshape(N, -1), t.reshape(N, -1), scale, losses, dz.reshape(N, -1))
        return float(losses.sum())

    def terms_per_sample(self, outputs):
        """How many terms one sample adds to the mean: one for each output."""
        return outputs

    def share_right(self, outputs, targets):
        """Return the share of right decisions, 0 where there are no classes."""
        return 0.0

    def describe(self, outputs, targets, loss):
        """Return the metrics of outputs against encoded targets, a dict (metrics); n and loss alone without classes."""
        return {"n": len(outputs), "loss": loss}

    def measured(self, metrics=None, validation=False):
        """Return the names of what an epoch is measured with: the loss, then `metrics`; where None, accuracy and AUC."""
        rates = ["accuracy", *["auc"] * validation] if metrics is None else metrics
        return ["loss", *(rates if self.classifies or metrics else [])]

    def check_targets(self, t, shape):
        """Raise unless the targets t have the shape of the outputs and values that the loss is defined for."""
        if t.shape != shape:
            raise ShapeError(f"{self.name}: expected targets of shape {shape}, got {t.shape}.")
        if not np.isfinite(t).all():
            raise InputError(f"{self.name}: targets hold NaN or infinity.")


class BinaryCrossentropy(Loss):
    """Mean binary cross-entropy; folds a final Sigmoid (paper, section 3.3)."""

    operation = "binary_crossentropy"
    head, two_classes = "Sigmoid", True

    def share_right(self, outputs, targets):
        """Return the share of decisions p > 0.5 (strictly) that are right."""
        return float(((outputs > 0.5) == (targets > 0.5)).mean())

    def describe(self, outputs, targets, loss):
        if outputs.shape[1:] != (1,):
            return super().describe(outputs, targets, loss)
        return binary_metrics((targets[:, 0] > 0.5).astype(np.int64), outputs[:, 0], loss=loss)

    def check_targets(self, t, shape):
        super().check_targets(t, shape)
        if t.size and (t.min() < 0 or t.max() > 1):
            raise InputError(f"{self.name}: targets must lie in [0, 1], got values from {t.min()} to {t.max()}. "
                             "For whole-number classes use loss='categorical_crossentropy' and a Softmax.")


LOSSES = {"binary_crossentropy": BinaryCrossentropy}       # further.py adds its own


def get_loss(loss):
    """Return a loss by its name, with its smoothing where it has one; a loss is returned as it is.

    >>> get_loss("binary_crossentropy").head, get_loss("binary_crossentropy(smoothing=0.1)").label_smoothing
    ('Sigmoid', 0.1)
    """
    if isinstance(loss, Loss):
        return loss
    parts = re.fullmatch(r"(\w+)(?:\(smoothing=(\d(?:\.\d+)?(?:e-\d+)?)\))?", loss) if isinstance(loss, str) else None
    if not parts or parts[1] not in LOSSES:
        importlib.import_module("minicnn.losses.further")
    if not parts or parts[1] not in LOSSES:
        raise InputError(f"loss: expected one of {', '.join(LOSSES)}, got {loss!r}." + nearest(loss, LOSSES))
    return LOSSES[parts[1]](*([float(parts[2])] if parts[2] else []))
