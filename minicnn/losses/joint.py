"""The loss of a network with several outputs: the weighted sum of a loss for each."""

import re
from typing import NamedTuple

import numpy as np

from minicnn.core.memory import join, split
from minicnn.errors import InputError
from minicnn.losses import Loss

__all__ = ["JointLoss", "Output"]


class Output(NamedTuple):
    """One output: its name, its shape without N, its loss, and the weight of that in the sum."""

    name: str
    shape: tuple
    loss: Loss
    weight: float = 1.0


class JointLoss:
    """L = sum over outputs k of weight_k L_k, and so dL/dz_k = weight_k dL_k/dz_k.

    It takes what the losses of its outputs take, and has what a Loss has. Logits, targets and gradients of one sample are
    one row: each output flattened, side by side (core.memory.join), as the layer Outputs joins them.

    Parameters
    ----------
    outputs : list of Output

    Attributes
    ----------
    values : dict; the mean loss of each output in the last call, {"main_loss": ...}

    >>> from minicnn.losses import get_loss
    >>> joint = JointLoss([Output("main", (1,), get_loss("binary_crossentropy")),
    ...                    Output("aux", (3,), get_loss("categorical_crossentropy"), 0.3)])
    >>> joint.heads, joint.measured(["main_accuracy"])
    (('Sigmoid', 'Softmax'), ['loss', 'main_loss', 'aux_loss', 'main_accuracy'])
    """

    head, one_hot, classifies = None, False, False
    operation = "joint"

    def __init__(self, outputs):
        self.outputs, self.values = tuple(outputs), {}
        self.shapes = [output.shape for output in self.outputs]
        # Metrics are called after the outputs, and are keyword arguments and columns: block/dense_1 is block_dense_1.
        self.prefixes = [re.sub(r"^(?=\d)|\W", "_", output.name) for output in self.outputs]
        if len(set(self.prefixes)) < len(self.prefixes):
            raise InputError(f"compile: two outputs would have metrics of one name: {', '.join(self.prefixes)}. Give their "
                             "layers other names.")

    @property
    def name(self):
        """What errors call it: "1 binary_crossentropy + 0.3 categorical_crossentropy"."""
        return " + ".join(f"{output.weight:g} {output.loss.name}" for output in self.outputs)

    @property
    def names(self):
        """The name of each loss, a list."""
        return [output.loss.name for output in self.outputs]

    @property
    def weights(self):
        """The weight of each loss, a list."""
        return [output.weight for output in self.outputs]

    @property
    def heads(self):
        return tuple(output.loss.head for output in self.outputs)

    def smoothed(self, t):
        return join([output.loss.smoothed(part) for output, part in zip(self.outputs, split(t, self.shapes))])

    def check_targets(self, t, shape):
        for output, part in zip(self.outputs, split(t, self.shapes)):
            output.loss.check_targets(part, part.shape)

    def __call__(self, ops, z, t, weights, losses, dz):
        """Return the loss of the batch and write its gradient to dz; arguments as of Loss, z, t and dz (N, D)."""
        own, dzs, values, losses[:] = np.empty_like(losses), [], [], 0
        for output, z_k, t_k in zip(self.outputs, split(z, self.shapes), split(t, self.shapes)):
            dzs.append(np.empty_like(z_k))
            values.append(output.loss(ops, z_k, t_k, weights, own, dzs[-1]))
            dzs[-1] *= dzs[-1].dtype.type(output.weight)
            losses += output.weight * own
        dz[...] = join(dzs)
        self.values = {f"{prefix}_loss": value for prefix, value in zip(self.prefixes, values)}
        return float(losses.sum())

    def share_right(self, outputs, targets):
        return 0.0          # of each output, in `describe`

    def describe(self, outputs, targets, loss):
        """Return {"n", "loss", "main_loss", and "main_" + each metric of an output}; losses as in the last call."""
        found = {"n": len(outputs), "loss": loss} | self.values
        parts = zip(self.prefixes, self.outputs, split(outputs, self.shapes), split(targets, self.shapes))
        for prefix, output, y, t in parts:
            own = output.loss.describe(y, t, loss=0.0)
            if output.loss.classifies and "accuracy" not in own:
                own["accuracy"] = output.loss.share_right(y, t)
            found |= {f"{prefix}_{name}": value for name, value in own.items() if name not in ("n", "loss")}
        return found

    def measured(self, metrics=None, validation=False):
        losses = [f"{prefix}_loss" for prefix in self.prefixes]
        if metrics is None:
            metrics = [f"{prefix}_{name}" for prefix, output in zip(self.prefixes, self.outputs)
                       for name in output.loss.measured(None, validation) if name != "loss"]
        return ["loss", *losses, *metrics]
