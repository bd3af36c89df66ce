"""Dropout of whole channels: the operation is that of dropout (reference.regularization), what is drawn differs."""

from minicnn.errors import ShapeError
from minicnn.layers.base import register
from minicnn.layers.regularization import Dropout

__all__ = ["SpatialDropout2D"]


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


register(SpatialDropout2D)
