"""The network that minicnn is named for training: COV-19Net, the network of the paper.

Asif & Amjad, "Automatic COVID-19 Detection from chest radiographic images using Convolutional Neural Network",
medRxiv 2020.11.08.20228080 (2020), Table I and section 3.
"""

from minicnn.layers import Conv2D, Dense, Dropout, Flatten, MaxPool2D, ReLU, Sigmoid, Softmax
from minicnn.model import Sequential
from minicnn.shapes import positive_int

__all__ = ["cov19net"]


def cov19net(seed=0, classes=2, input_shape=(64, 64, 3), dtype="float32", engine=None, dropout=0.0):
    """Return COV-19Net: three convolutions of 32 filters, two poolings, two dense layers; 609,473 parameters.

    Parameters
    ----------
    seed : int, decides the initial weights (Glorot uniform; biases 0)
    classes : int, or names of the classes: with three or more the head is Dense(k) and Softmax instead of Dense(1) and
        Sigmoid (paper, section 3.2)
    input_shape : (H, W, C), at least 18 x 18
    dtype, engine : see Sequential
    dropout : float in [0, 1); where above 0, Dropout of this rate stands before each dense layer. The paper has none

    >>> model = cov19net(seed=7)
    >>> sum(w.size for w in model.get_weights())
    609473
    """
    names = None if isinstance(classes, int) else tuple(classes)
    k = positive_int(classes if names is None else len(names), "cov19net", "classes")
    head = [Dense(1), Sigmoid()] if k <= 2 else [Dense(k), Softmax()]
    drop = [[Dropout(dropout)] if dropout else [] for _ in range(2)]
    return Sequential([Conv2D(32, 3), ReLU(), MaxPool2D(2),
                       Conv2D(32, 3), ReLU(), MaxPool2D(2),
                       Conv2D(32, 3), ReLU(), Flatten(), *drop[0],
                       Dense(128), ReLU(), *drop[1], *head],
                      input_shape=input_shape, seed=seed, dtype=dtype, engine=engine, classes=names)
