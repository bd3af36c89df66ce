"""Frozen layers: what they make of images is computed once, and training begins behind them.

    features = frozen_features(model, dataset)      the value that the frozen layers end in, of each image
    model.fit(features)                             trains the layers behind it; so do evaluate and predict begin there

Features are kept beside the pixels of the images (data/pixel_cache.py), under a name made of the weights and of the pixels.
"""

import hashlib
import json
import math

import numpy as np

from minicnn.core.processes import Alone, versions
from minicnn.core.progress import Progress
from minicnn.data.pixel_cache import keep, recall
from minicnn.layers import Dropout
from minicnn.layers.base import LAYERS

__all__ = ["FrozenFeatures", "Behind", "frozen_end", "frozen_features"]

_MOST_BYTES = 2**28             # of the features of a dataset; larger ones are computed in each step
_BATCH = 32


class FrozenFeatures:
    """What frozen layers make of the images of a dataset; all else is that of the dataset.

    Attributes
    ----------
    begin : int; the number of the network's value that a sample is
    shape : tuple; of a sample
    images : the dataset
    """

    def __init__(self, images, features, begin):
        self.images, self._features, self.begin, self.shape = images, features, begin, features.shape[1:]

    def __len__(self):
        return len(self.images)

    def __getattr__(self, name):
        return getattr(vars(self)["images"], name)

    def batch(self, samples, passes=None, seed=0):
        """Return the features of the images with these numbers: ndarray, (n,) + shape."""
        return self._features[samples]


class Behind:
    """A Network from one of its values on: that is the x of `forward`. All else is that of the network."""

    def __init__(self, network, begin):
        self._network, self._begin = network, begin

    def __getattr__(self, name):
        return getattr(vars(self)["_network"], name)

    def rows(self, depth=None, heads=(), fused=True):
        return self._network.rows(depth, heads, fused, self._begin)

    def predict(self, x):
        """Return the network's outputs for a batch of this value."""
        return self._network.forward(x, self.rows())

    def blame_forward(self, x):
        """Raise NonFiniteError naming the first layer whose output is not finite, if there is one."""
        self._network.blame_forward(x, self._begin)


def frozen_end(network):
    """Return the number of the last value that all later layers are made of, and frozen layers alone make; 0 for the input.

    A layer without weights, such as pooling, counts as frozen behind such layers; dropout and custom layers do not.

    >>> from minicnn import Conv2D, Dense, Flatten, Sequential
    >>> model = Sequential([Conv2D(2, 3), Flatten(), Dense(1)], (8, 8, 1))
    >>> model.layers[0].trainable = False
    >>> frozen_end(model.network)
    2
    """
    def changes(layer):
        return type(layer) not in LAYERS.values() or layer.trainable and (
            layer.parameters or layer.statistics or isinstance(layer, Dropout))

    end = next((i for i, layer in enumerate(network.layers) if changes(layer)), len(network.layers))
    while any(source < end for taken in network.sources[end:] for source in taken):
        end -= 1
    return end


def frozen_features(model, dataset, group=Alone(), progress=False):
    """Return the FrozenFeatures of a dataset, or the dataset itself where no layers are frozen or features are too many to keep.

    Parameters
    ----------
    model : Model over images; the layers that are not trainable are frozen
    dataset : ImageDataset (data/loader.py); its images are taken as they are, without augmentation
    group : distributed.MPI, of processes that all call this, and compute a part of the features each
    progress : bool, report on stderr
    """
    network, n = model.network, len(dataset)
    end = frozen_end(network)
    shape = network.shapes[end]
    size = n * math.prod(shape) * model.dtype.itemsize
    if not end or size > _MOST_BYTES:
        return dataset
    name = _name(model, dataset, end) if group.rank == 0 else None
    known = group.broadcast(recall(name) if group.rank == 0 else None)
    if known is not None and len(known) == size:
        return FrozenFeatures(dataset, np.frombuffer(known, model.dtype).reshape(n, *shape), end)
    own, rows = group.portion(n), network.rows(end)
    made = np.empty((own.stop - own.start, *shape), model.dtype)
    with Progress(len(made), "frozen features", "image", progress) as bar:
        for start in range(0, len(made), _BATCH):
            some = slice(start, min(start + _BATCH, len(made)))
            made[some] = network.forward(dataset.batch(np.arange(own.start + some.start, own.start + some.stop)), rows)
            bar.advance(some.stop - some.start)
    features = group.joined(made)
    if group.rank == 0:
        keep(name, features.tobytes())
    return FrozenFeatures(dataset, features, end)


def _name(model, dataset, end):
    """Return the name of features: the SHA-256 of all that they depend on."""
    manifest, layers = dataset.manifest, model.layers[:end]
    weights = [weight.value for key, weight in model.network.weights() if key.rpartition("/")[0] in {layer.name for layer in layers}]
    facts = {"layers": [layer.config() for layer in layers], "sources": model.network.sources[:end], "engine": model.engine,
             "shape": dataset.shape, "dtype": str(model.dtype), "versions": versions()}
    drawn = manifest is not None and manifest.techniques is not None        # versions of images, of the paper's protocol
    facts["versions of images"] = [manifest.seed, repr(manifest.augmentation)] if drawn else None
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for array in [*weights, dataset.pixel_digests, *([manifest.techniques, manifest.versions] if drawn else [])]:
        digest.update(np.ascontiguousarray(array).tobytes())
    return f"features-{digest.hexdigest()}"
