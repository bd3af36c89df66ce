"""The relatives of ReLU."""

from minicnn.core.arguments import Real
from minicnn.layers.activations import Activation
from minicnn.layers.base import register

__all__ = ["LeakyReLU", "ELU", "Swish", "Softplus"]


class LeakyReLU(Activation):
    """x where x > 0, else negative_slope x, element by element (reference.leaky_relu).

    >>> layer = LeakyReLU(0.25)
    >>> _ = layer.build((2,)); layer.forward([[-1.0, 2.0]]).tolist()
    [[-0.25, 2.0]]
    """

    fields = {"negative_slope": Real(0, brackets="()")}
    operation = "leaky_relu"

    def __init__(self, negative_slope=0.3, name=None):
        super().__init__(name, negative_slope=negative_slope)

    def choices(self):
        return self._cache[0] > 0,


class ELU(Activation):
    """x where x > 0, else alpha (exp(x) - 1), element by element (reference.elu).

    >>> layer = ELU()
    >>> _ = layer.build((2,)); layer.forward([[-100.0, 2.0]]).tolist()
    [[-1.0, 2.0]]
    """

    fields = {"alpha": Real(0)}
    operation, from_output = "elu", False

    def __init__(self, alpha=1.0, name=None):
        super().__init__(name, alpha=alpha)

    def choices(self):
        """The mask, where alpha makes a kink at 0 of it."""
        return () if self.alpha == 1 else (self._cache[0] > 0,)


class Swish(Activation):
    """x / (1 + exp(-x)), element by element (reference.swish); SiLU is another name for it.

    >>> layer = Swish()
    >>> _ = layer.build((2,)); layer.forward([[0.0, 100.0]]).tolist()
    [[0.0, 100.0]]
    """

    operation, from_output = "swish", False


class Softplus(Activation):
    """log(1 + exp(x)), element by element (reference.softplus).

    >>> layer = Softplus()
    >>> _ = layer.build((2,)); layer.forward([[-1000.0, 1000.0]]).tolist()
    [[0.0, 1000.0]]
    """

    operation = "softplus"


register(LeakyReLU, ELU, Swish, Softplus)
