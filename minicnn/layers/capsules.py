"""Capsules: vectors of numbers, of which each layer routes those of the one before to the ones that they agree with."""

import math

import numpy as np

from minicnn.core.arguments import OneOf, Whole
from minicnn.errors import ShapeError
from minicnn.initializers import INITIALIZERS
from minicnn.layers.base import Layer, register

__all__ = ["Capsules", "CapsuleLength"]


class _OfCapsules(Layer):
    """What both share: they take capsules, (I, D)."""

    def _sizes(self, input_shape):
        if len(input_shape) != 2:
            raise ShapeError(f"{self.label}: expected capsules, (number of capsules, numbers in each), got inputs of shape {input_shape}. "
                             "Put a Reshape((-1, size)) before this layer: it makes capsules of a feature map.")
        return input_shape


class Capsules(_OfCapsules):
    """Route capsules by agreement: (I, C) -> (count, size) (reference.routing).

    Each input capsule x[i] predicts each output capsule, u[i, j] = x[i] @ kernel[:, j size : (j + 1) size], by weights that all
    input capsules share, so that there may be any number of them: a 1x1 convolution without bias. In each round an output capsule is
    the squashed sum of its predictions, weighed by how much they agreed with it in the round before. Lengths are below 1.

    Parameters: kernel (C, count size).

    Parameters
    ----------
    count, size : int >= 1; output capsules, and numbers in each
    routings : int >= 1, rounds
    kernel_initializer : see initializers.py

    >>> layer = Capsules(32, 8)
    >>> layer.build((676, 128)), [p.value.shape for p in layer.parameters]
    ((32, 8), [(128, 256)])
    """

    fields = {"count": Whole(), "size": Whole(), "routings": Whole(), "kernel_initializer": OneOf(INITIALIZERS)}
    _POINT = (1, 1), (0, 0, 0, 0)           # strides and pads of the convolution

    def __init__(self, count, size, routings=3, kernel_initializer="glorot_uniform", name=None):
        super().__init__(name, count=count, size=size, routings=routings, kernel_initializer=kernel_initializer)

    def infer(self, input_shape):
        _, C = self._sizes(input_shape)
        return (self.count, self.size), [("kernel", (C, self.count * self.size), self.kernel_initializer)]

    def build(self, input_shape):
        """Make the kernel; and in place of a bias zeros, and where a gradient goes that nobody reads."""
        output_shape = super().build(input_shape)
        self._no_bias = [np.zeros(self.count * self.size, self.dtype) for _ in range(2)]
        return output_shape

    def forward(self, x):
        x = self.accept(x)
        w, N, J, D = self.parameters[0].value, len(x), self.count, self.size
        u, y = self.output("u", (N, x.shape[1], J, D)), self.output("y", (N, J, D))
        sums = self.buffer("sums", (N, self.routings, J, D), np.float64)
        self.ops.conv2d(x[:, :, None], w[None, None], self._no_bias[0], *self._POINT, u.reshape(N, -1, 1, J * D))
        self.ops.routing(u, self.routings, y, sums)
        self.remember(x, w, u, sums)
        return y

    def backward(self, dy):
        dy, x, w, u, sums = self.consume(dy)
        du, dw = self.output("du", u.shape), self.parameters[0].grad
        self.ops.routing_gradient(dy, u, sums, du)
        du, pixels = du.reshape(*u.shape[:2], 1, -1), x[:, :, None]
        self.ops.conv2d_weight_gradient(du, pixels, (1, 1), *self._POINT, dw[None, None], self._no_bias[1])
        if not self.needs_input_gradient:
            return None
        dx = self.output("dx", x.shape)
        self.ops.conv2d_input_gradient(du, w[None, None], pixels.shape[1:3], *self._POINT, dx[:, :, None])
        return dx

    def flops(self):
        """Two for each product: of the predictions, of the sum of each round, and of the agreements between two rounds."""
        I, C = self.input_shape
        return 2 * I * math.prod(self.output_shape) * (C + 2 * self.routings - 1)


class CapsuleLength(_OfCapsules):
    """Take the length of each capsule: (I, D) -> (I,), y = sqrt(x . x) (reference.length).

    That of an output capsule says how likely what it stands for is there. Each is judged alone: they do not sum to 1.

    >>> layer = CapsuleLength()
    >>> _ = layer.build((1, 2)); layer.forward([[[3.0, 4.0]]]).tolist()
    [[5.0]]
    """

    def __init__(self, name=None):
        super().__init__(name)

    def infer(self, input_shape):
        return self._sizes(input_shape)[:1], []

    def forward(self, x):
        x = self.accept(x)
        y = self.output("y", x.shape[:2])
        self.ops.length(x, y)
        self.remember(x, y)
        return y

    def backward(self, dy):
        dy, x, y = self.consume(dy)
        dx = self.output("dx", x.shape)
        self.ops.length_gradient(dy, x, y, dx)
        return dx

    def flops(self):
        """Two for each number, a product and a sum."""
        return 2 * math.prod(self.input_shape)


register(Capsules, CapsuleLength)
