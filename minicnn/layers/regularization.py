"""Dropout."""

import math

import numpy as np

from minicnn.core.arguments import Real
from minicnn.core.memory import here
from minicnn.core.random import Stream, uniforms
from minicnn.layers.base import Layer

__all__ = ["Dropout"]


class Dropout(Layer):
    """While training, drop each number with probability `rate` and divide the rest by 1 - rate; else, and frozen, do nothing.

    What is dropped depends on the seed, the layer's index, the step of training and the sample's place in the batch,
    and on nothing else (reference.dropout; Srivastava et al. 2014).

    Attributes
    ----------
    step_number : int, set by the network: the number of updates done so far

    >>> layer = Dropout(0.5)
    >>> _ = layer.build((4,)); layer.forward(np.ones((1, 4))).tolist()
    [[1.0, 1.0, 1.0, 1.0]]
    """

    fields = {"rate": Real(0, 1)}

    def __init__(self, rate, name=None):
        super().__init__(name, rate=rate)
        self.step_number = 0

    def forward(self, x):
        x = self.accept(x)
        if not (self.training and self.trainable) or self.rate == 0:
            self.remember(x, None)
            return x
        keep, shape = self.buffer("keep", x.shape, np.bool_), self._drawn(x.shape[1:])
        for i in range(len(x)):
            place = i + (here.share.first if here.share else 0)         # in the batch
            drawn = uniforms(self.seed, Stream.DROPOUT, self.step_number, self.index << 32 | place, math.prod(shape))
            np.greater_equal(drawn.reshape(shape), self.rate, out=keep[i])
        y = self.output("y", x.shape)
        self.ops.dropout(x, keep, self.rate, y)
        self.remember(x, keep)
        return y

    def _drawn(self, shape):
        """Return the shape of the numbers that are drawn for a sample of `shape`."""
        return shape

    def backward(self, dy):
        dy, x, keep = self.consume(dy)
        if keep is None:
            return dy
        dx = self.output("dx", x.shape)
        self.ops.dropout(dy, keep, self.rate, dx)
        return dx
