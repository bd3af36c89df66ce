"""COV-19Net, the network of the paper: three convolutions of 32 filters, two poolings, two dense layers.

Asif & Amjad, "Automatic COVID-19 Detection from chest radiographic images using Convolutional Neural Network",
medRxiv 2020.11.08.20228080 (2020), Table I and section 3.
"""

from minicnn.layers import Conv2D, Dense, Dropout, Flatten, MaxPool2D, ReLU, Sigmoid, Softmax

__all__ = ["layers"]


def layers(classes=2, dropout=0.0):
    """Return the layers of COV-19Net, for images of at least 18 x 18.

    Parameters
    ----------
    classes : int >= 1; with three or more the head is Dense(k) and Softmax instead of Dense(1) and Sigmoid (paper,
        section 3.2)
    dropout : float in [0, 1); where above 0, Dropout of this rate stands before each dense layer. The paper has none

    >>> [type(layer).__name__ for layer in layers()[-3:]]
    ['ReLU', 'Dense', 'Sigmoid']
    """
    head = [Dense(1), Sigmoid()] if classes <= 2 else [Dense(classes), Softmax()]
    drop = [[Dropout(dropout)] if dropout else [] for _ in range(2)]
    return [Conv2D(32, 3), ReLU(), MaxPool2D(2),
            Conv2D(32, 3), ReLU(), MaxPool2D(2),
            Conv2D(32, 3), ReLU(), Flatten(), *drop[0],
            Dense(128), ReLU(), *drop[1], *head]
