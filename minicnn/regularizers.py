"""What the size of weights adds to the loss: a penalty, with its gradient."""

import numpy as np

from minicnn.core.arguments import Real, check

__all__ = ["L2"]


class L2:
    """What the kernel of a layer adds to the loss, as in Keras: l2 sum(w^2), with the gradient 2 l2 w.

    Training, and what is reported of it, includes it; biases and frozen layers add nothing.

    >>> L2(0.5).penalty(np.array([1.0, 3.0])), L2(0.5).gradient(np.array([1.0, 3.0]))
    (5.0, array([1., 3.]))
    """

    def __init__(self, l2=0.01):
        self.l2 = check("L2", "l2", l2, Real(0))

    def penalty(self, w):
        """Return l2 sum(w^2), a float; the sum is in float64."""
        return self.l2 * float(np.square(w, dtype=np.float64).sum())

    def gradient(self, w):
        """Return 2 l2 w."""
        return w * w.dtype.type(2 * self.l2)

    def config(self):
        """Return what a model file keeps."""
        return {"type": "L2", "l2": self.l2}

    def __repr__(self):
        return f"L2({self.l2})"
