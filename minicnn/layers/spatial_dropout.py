"""Dropout of whole channels, and of whole samples: the operation is that of dropout (reference.regularization), what is drawn differs."""

from minicnn.errors import ShapeError
from minicnn.layers.base import register
from minicnn.layers.regularization import Dropout

__all__ = ["SpatialDropout2D", "StochasticDepth"]


class SpatialDropout2D(Dropout):
    """While training, drop each channel of an image with the probability rate and divide the rest by 1 - rate.

    Neighbouring pixels are so alike that dropping single numbers takes little away (Tompson et al. 2015).

    >>> layer = SpatialDropout2D(0.5)
    >>> layer.training = True
    >>> _ = layer.build((2, 2, 3)); layer.forward([[[[1, 1, 1]] * 2] * 2]).reshape(4, 3).tolist()
    [[0.0, 2.0, 0.0], [0.0, 2.0, 0.0], [0.0, 2.0, 0.0], [0.0, 2.0, 0.0]]
    """

    def infer(self, input_shape):
        if len(input_shape) != 3:
            raise ShapeError(f"{self.label}: expected images, (H, W, C), got inputs of shape {input_shape}.")
        return input_shape, []

    def _drawn(self, shape):
        return 1, 1, shape[2]


class StochasticDepth(Dropout):
    """While training, drop all of a sample with the probability rate and divide the others by 1 - rate.

    Before the addition of a residual block a sample then skips the block (Huang et al. 2016, "Deep networks with stochastic
    depth"). Keras' is Dropout(rate, noise_shape=(None, 1, 1, 1)).

    >>> layer = StochasticDepth(0.5)
    >>> layer.training = True
    >>> _ = layer.build((2,)); layer.forward([[1, 1]] * 3).tolist()
    [[0.0, 0.0], [2.0, 2.0], [2.0, 2.0]]
    """

    def _drawn(self, shape):
        return (1,) * len(shape)


register(SpatialDropout2D, StochasticDepth)
