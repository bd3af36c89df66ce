"""Activations: each gradient follows from the output."""

from minicnn.layers.base import Layer

__all__ = ["ReLU", "Sigmoid", "Tanh", "Softmax"]


class _Activation(Layer):
    """An activation whose gradient follows from its output: `operation` names it and its gradient in the engines."""

    operation = None

    def forward(self, x):
        x = self.accept(x)
        y = self.buffer("y", x.shape)
        getattr(self.ops, self.operation)(x, y)
        self.remember(y)
        return y

    def backward(self, dy):
        dy, y = self.consume(dy)
        dx = self.buffer("dx", y.shape)
        getattr(self.ops, self.operation + "_gradient")(dy, y, dx)
        return dx


class ReLU(_Activation):
    """max(x, 0), element by element; the gradient at 0 is 0 (reference.relu)."""

    operation = "relu"

    def choices(self):
        return self._cache[0] > 0,


class Sigmoid(_Activation):
    """1 / (1 + exp(-x)), element by element (reference.sigmoid). As the last layer it is folded into the loss."""

    operation = "sigmoid"


class Tanh(_Activation):
    """Hyperbolic tangent, element by element (reference.tanh)."""

    operation = "tanh"


class Softmax(_Activation):
    """exp(x) over its sum along the last axis (reference.softmax). As the last layer it is folded into the loss."""

    operation = "softmax"
