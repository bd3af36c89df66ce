"""Two small networks for the tests of shortcuts: one trained on honest phantoms, one on those with a tag on positives.

They are trained once a session. The tag is a white square of 6 x 6 in the upper left corner, on the border.
"""

import functools
from typing import NamedTuple

import numpy as np

from minicnn.data.synthetic import phantom
from minicnn.layers import Conv2D, Dense, Flatten, MaxPool2D, ReLU, Sigmoid
from minicnn.model import Sequential
from minicnn.optimizers import Adam

TRAINING = 450


class Trained(NamedTuple):
    model: Sequential
    images: np.ndarray      # (150, 64, 64, 1) uint8, not trained on, made as those trained on
    labels: np.ndarray
    patients: list
    training: np.ndarray    # the images trained on


@functools.cache
def trained(tagged):
    return train(5, (2, 2, 6, 255) if tagged else None)


def train(seed, tag=None):
    """Train a network on phantoms whose positives carry a tag: its row, its column, its side and its shade; or none."""
    made = phantom.generate(n=600, seed=seed)
    images = made.images[..., np.newaxis].copy()
    if tag is not None:
        row, column, side, shade = tag
        images[made.labels == 1, row:row + side, column:column + side] = shade
    model = Sequential([Conv2D(16, 3), ReLU(), MaxPool2D(2), Conv2D(16, 3), ReLU(), MaxPool2D(2), Conv2D(16, 3), ReLU(),
                        Flatten(), Dense(32), ReLU(), Dense(1), Sigmoid()], (64, 64, 1), classes=made.classes)
    model.compile(Adam(learning_rate=2e-3), loss="binary_crossentropy")
    model.fit(images[:TRAINING], made.labels[:TRAINING], epochs=12, progress=False)
    return Trained(model, images[TRAINING:], made.labels[TRAINING:], made.patients[TRAINING:], images[:TRAINING])
