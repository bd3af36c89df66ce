"""Batch and layer normalization."""

import math

import numpy as np

from minicnn.core.arguments import Flag, Real, check
from minicnn.core.memory import here
from minicnn.errors import InputError, ShapeError
from minicnn.layers.base import Layer, register

__all__ = ["BatchNormalization", "LayerNormalization"]


class _Normalization(Layer):
    """What both share: they normalize along the last axis, and have gamma and beta (C,) where they scale and center."""

    fields = {"epsilon": Real(0, math.inf, "()"), "center": Flag(), "scale": Flag()}

    def __init__(self, axis, name, **arguments):
        super().__init__(name, **arguments)
        if isinstance(axis, bool) or not isinstance(axis, (int, np.integer)) or axis != -1:
            raise InputError(f"{self.label}: axis must be -1, the last one, which has the channels, got {axis!r}.")

    def infer(self, input_shape):
        if not input_shape:
            raise ShapeError(f"{self.label}: expected samples of shape (C,) or (H, W, C), got ().")
        C = input_shape[-1:]
        return input_shape, [("gamma", C, "ones")] * self.scale + [("beta", C, "zeros")] * self.center

    def gamma_and_beta(self):
        """Return gamma and beta, (C,); ones and zeros where the layer has none."""
        C = self.input_shape[-1]
        return (self.parameters[0].value if self.scale else np.ones(C, self.dtype),
                self.parameters[-1].value if self.center else np.zeros(C, self.dtype))

    def _their_gradients(self):
        """Return the arrays for dgamma and dbeta; some that nobody reads where the layer has none."""
        C = self.input_shape[-1]
        return (self.parameters[0].grad if self.scale else np.empty(C, self.dtype),
                self.parameters[-1].grad if self.center else np.empty(C, self.dtype))


class BatchNormalization(_Normalization):
    """Normalize each channel: y = gamma (x - mean) / sqrt(variance + epsilon) + beta (reference.batch_norm).

    While training, mean and variance are those of the batch, over all its samples and pixels, the variance divided by
    their number. After each step, once its loss and gradients are finite,

        moving_mean <- momentum moving_mean + (1 - momentum) mean,      moving_variance likewise,

    and prediction takes these, so that what it says of a sample depends on no other. So does training where the layer
    is frozen (trainable = False), and they move no more (Ioffe and Szegedy, 2015; as Keras has it).

    Parameters: gamma and beta (C,). Statistics, which no optimizer changes: moving_mean and moving_variance (C,).

    Parameters
    ----------
    axis : -1; channels are last
    momentum : float in [0, 1)
    epsilon : float > 0
    center, scale : bool; whether there is a beta, a gamma

    Raises
    ------
    InputError
        in training, for a batch with one number in a channel, whose variance is 0 whatever it is

    >>> layer = BatchNormalization()
    >>> layer.build((1,)), [p.name for p in layer.parameters], [p.name for p in layer.statistics]
    ((1,), ['gamma', 'beta'], ['moving_mean', 'moving_variance'])
    >>> layer.training = True
    >>> layer.forward(np.array([[1.0], [3.0]])).round(3).ravel().tolist()
    [-1.0, 1.0]
    >>> for statistic, value in layer.moved():         # a network does so after each step of training
    ...     statistic.value = value
    >>> layer.statistics[0].value
    array([0.02], dtype=float32)
    """

    fields = {"momentum": Real(0, 1)} | _Normalization.fields
    untrained = ("moving_mean", "moving_variance")
    _batch = None           # mean and variance of the last batch in training, until they have moved the statistics

    def __init__(self, axis=-1, momentum=0.99, epsilon=1e-3, center=True, scale=True, name=None):
        super().__init__(axis, name, momentum=momentum, epsilon=epsilon, center=center, scale=scale)

    @property
    def momentum(self):
        """May be changed at any time: no kernel depends on it."""
        return vars(self)["momentum"]

    @momentum.setter
    def momentum(self, value):
        vars(self)["momentum"] = check(self.label, "momentum", value, self.fields["momentum"])

    def __getstate__(self):
        return super().__getstate__() | {"_batch": None}

    def infer(self, input_shape):
        output_shape, laws = super().infer(input_shape)
        C = input_shape[-1:]
        return output_shape, laws + [("moving_mean", C, "zeros"), ("moving_variance", C, "ones")]

    def forward(self, x):
        return self.normalized(x, self.ops.batch_norm)

    def normalized(self, x, operation):
        """Return what an operation that takes the arguments of batch_norm makes of x; both remember the same."""
        x = self.accept(x)
        self._batch = None
        constant = not (self.training and self.trainable)
        mean, variance = self._moving() if constant else self._of_batch(x)
        gamma, beta = self.gamma_and_beta()
        y = self.output("y", x.shape)
        operation(x, mean, variance, gamma, beta, self.epsilon, y)
        self.remember(x, mean, variance, gamma, beta, constant)
        return y

    def backward(self, dy):
        return self.differentiated(dy, lambda dy, x, mean, variance, gamma, beta, *others:
                                   self.ops.batch_norm_gradient(dy, x, mean, variance, gamma, *others))

    def differentiated(self, dy, gradient):
        """Return dx, where `gradient` is that of the operation that `normalized` was given, and write those of gamma and beta."""
        dy, x, mean, variance, gamma, beta, constant = self.consume(dy)
        dx = self.output("dx", x.shape) if self.needs_input_gradient else None
        gradient(dy, x, np.float64(mean), np.float64(variance), gamma, beta, self.epsilon, constant, dx, *self._their_gradients())
        return dx

    def as_factors(self):
        """Return (scale, shift), float64, (C,): in prediction it is y = scale x + shift."""
        mean, variance = map(np.float64, self._moving())
        gamma, beta = self.gamma_and_beta()
        scale = gamma / np.sqrt(variance + self.epsilon)
        return scale, beta - mean * scale

    def moved(self):
        batch, self._batch = self._batch, None
        with np.errstate(over="ignore"):        # the network says where it is not finite
            return [(moving, (self.momentum * np.float64(moving.value) + (1 - self.momentum) * new).astype(self.dtype))
                    for moving, new in zip(self.statistics, batch or ())]

    def flops(self):
        """Three for each number: a difference, a product, a sum."""
        return 3 * math.prod(self.output_shape)

    def _moving(self):
        mean, variance = (moving.value for moving in self.statistics)
        if (variance < 0).any():
            raise InputError(f"{self.label}: its moving_variance holds {variance.min():g}, and cannot be negative.")
        return mean, variance

    def _of_batch(self, x):
        if x.size // len(x) * (len(x) if here.share is None else here.share.total) == x.shape[-1]:
            raise InputError(f"{self.label}: a batch in training needs more than one number in each channel, and this "
                             f"is one sample, {x.shape[1:]}, whose variance is 0. Take a batch_size that leaves no "
                             "batch of one sample, or give fit steps_per_epoch, with which all batches are full.")
        self._batch = mean, variance = [self.buffer(name, x.shape[-1:], np.float64) for name in ("mean", "variance")]
        self.ops.batch_statistics(x, mean, variance)
        return mean, variance


class LayerNormalization(_Normalization):
    """Normalize each pixel, or row, over its channels: y = gamma (x - mean) / sqrt(variance + epsilon) + beta.

    The same in training and prediction, and a sample depends on no other (reference.layer_norm; Ba et al., 2016).
    Parameters: gamma and beta (C,).

    Parameters
    ----------
    axis, epsilon, center, scale : as for BatchNormalization

    >>> layer = LayerNormalization()
    >>> _ = layer.build((2,)); layer.forward(np.array([[1.0, 3.0], [10.0, 30.0]])).round(3).tolist()
    [[-1.0, 1.0], [-1.0, 1.0]]
    """

    def __init__(self, axis=-1, epsilon=1e-3, center=True, scale=True, name=None):
        super().__init__(axis, name, epsilon=epsilon, center=center, scale=scale)

    def forward(self, x):
        x = self.accept(x)
        gamma, beta = self.gamma_and_beta()
        y, *statistics = self.output("y", x.shape), *(self.buffer(name, x.shape[:-1], np.float64) for name in
                                                     ("mean", "variance"))
        self.ops.layer_norm(x, gamma, beta, self.epsilon, y, *statistics)
        self.remember(x, *statistics, gamma)
        return y

    def backward(self, dy):
        dy, x, mean, variance, gamma = self.consume(dy)
        dx = self.output("dx", x.shape)
        self.ops.layer_norm_gradient(dy, x, mean, variance, gamma, self.epsilon, dx, *self._their_gradients())
        return dx

    def flops(self):
        """Eight for each number: four for mean and variance, two to normalize, two to scale and shift."""
        return 8 * math.prod(self.output_shape)


register(BatchNormalization, LayerNormalization)
