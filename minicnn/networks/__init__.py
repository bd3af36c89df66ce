"""Published networks as models, each by its own function; its layers are in a file of its own."""

from minicnn.core.arguments import Whole, check
from minicnn.model import Sequential
from minicnn.networks import cov19

__all__ = ["cov19net"]


def cov19net(seed=0, classes=2, input_shape=(64, 64, 3), dtype="float32", engine=None, dropout=0.0):
    """Return COV-19Net: three convolutions of 32 filters, two poolings, two dense layers; 609,473 parameters.

    Parameters
    ----------
    seed : int, decides the initial weights (Glorot uniform; biases 0)
    classes : int, or names of the classes (cov19.layers)
    input_shape : (H, W, C), at least 18 x 18
    dtype, engine : see Sequential
    dropout : float in [0, 1) (cov19.layers)

    >>> model = cov19net(seed=7)
    >>> sum(w.size for w in model.get_weights())
    609473
    """
    names = None if isinstance(classes, int) else tuple(classes)
    k = check("cov19net", "classes", classes if names is None else len(names), Whole())
    return Sequential(cov19.layers(k, dropout), input_shape=input_shape, seed=seed, dtype=dtype, engine=engine,
                      classes=names)
