"""Out-of-distribution detection: is an image like those that the network was trained on?

A network classifies any image, a photograph of a cat included. One small file beside the weights describes the training
images without containing any: the ranges of their aspect ratios and contrasts, whether any were in colour, and the mean
and covariance of two representations:

    thumbnail       8 x 8 means of the image, standardised
    features        the input of the network's last layer with weights

The distance of an image is Mahalanobis' (Lee et al., NeurIPS 2018, on features). Its limit is the 99 % quantile on the
training images or on the validation images, the larger one, so some valid radiographs (2 to 5 %, where it was measured)
cause a warning. A warning is a reason to look; its absence proves nothing: hardly any mirrored images are detected, and
two thirds of those cropped to a quarter.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minicnn import weights
from minicnn.core.text import span
from minicnn.data.loader import open_dataset
from minicnn.errors import InputError, WeightsError, printable
from minicnn.evaluation.test_access import copy_hashes

__all__ = ["FILE", "Gaussian", "TrainingDistribution", "of_run", "thumbnails"]

FILE = "familiarity.safetensors"        # its name in a run folder
_FORMAT = "minicnn familiarity 1"
_BATCH, _MOST_FEATURES = 32, 1024
_WITHIN = 0.99          # the proportion of images within the limit
_SHRINK = 0.1           # shrinkage of a covariance towards a multiple of the identity
_ROOM = 1.1             # the factor by which an aspect ratio or a contrast may exceed the range of the training images
_COLOURED = 1 / 50      # with a smaller proportion of training files in colour, a colour image causes a warning


@dataclass(frozen=True)
class Gaussian:
    """Mean and covariance of vectors, and the limit of the distance from them.

    Attributes
    ----------
    mean : ndarray, shape (d,), float64
    whiten : ndarray, shape (d, d), float64: distance(x) = |(x - mean) @ whiten| / sqrt(d)
    limit : float, a distance
    """

    mean: np.ndarray
    whiten: np.ndarray
    limit: float

    @classmethod
    def fit(cls, training, validation):
        """Return the Gaussian of training vectors, (n, d), with the limit from both sets; None if they do not vary."""
        mean, d = training.mean(axis=0), training.shape[1]
        spread = (training - mean).T @ (training - mean) / len(training)
        level = np.trace(spread) / d
        if not level > 0:
            return None
        spread = (1 - _SHRINK) * spread + _SHRINK * level * np.eye(d)
        # Rounded as in the file, so that a loaded Gaussian gives the same distances.
        mean, whiten = (values.astype(np.float32).astype(np.float64)
                        for values in (mean, np.linalg.cholesky(np.linalg.inv(spread))))
        distance = cls(mean, whiten, 0.0).distance
        return cls(mean, whiten, max(float(np.quantile(distance(x), _WITHIN)) for x in (training, validation)))

    def distance(self, x):
        """Return the distance of each row of x, (n, d): ndarray, shape (n,); about 1 for training vectors.

        >>> Gaussian(np.zeros(2), np.eye(2), 1.0).distance(np.array([[1.0, 1.0], [3.0, 3.0]]))
        array([1., 3.])
        """
        # Row by row: the distance of an image is the same bits in any batch.
        return np.array([np.sqrt(np.mean(np.square((row - self.mean) @ self.whiten))) for row in x])


@dataclass(frozen=True)
class TrainingDistribution:
    """The description of a network's training images by which out-of-distribution images are detected.

    Attributes
    ----------
    weights_digest : str, SHA-256 of the weights that the features belong to
    look, features : Gaussian of the thumbnails and of the features; None where they do not vary, and for more than
        1,024 features
    contrast : (low, high), the standard deviations of images in [0, 1]
    ratio : (low, high), width over height of the files; None where there were no files
    coloured : bool, whether more than one in fifty of the files is in colour (see decoding.py)
    hashes : ndarray, shape (n, 2), uint64; of the training images (`test_access.copy_hashes`), by which altered copies
        of them are found; None in files of earlier versions
    """

    weights_digest: str
    look: Gaussian | None
    features: Gaussian | None
    contrast: tuple
    ratio: tuple | None
    coloured: bool
    hashes: np.ndarray | None = None

    @classmethod
    def fit(cls, model, training, validation):
        """Return the TrainingDistribution of a trained network.

        Parameters
        ----------
        model : Sequential over images
        training, validation : as x for `predict`, without augmentation; files (ImageDataset.facts) add aspect ratio and
            colour

        Raises
        ------
        InputError : a network that does not take images; fewer than two training images
        """
        training, validation = (_dataset(model, part) for part in (training, validation))
        parts = [_numbers(model, part) for part in (training, validation)]
        (looks, contrasts, features), n = parts[0], len(parts[0][0])
        if n < 2:
            raise InputError(f"out of distribution: expected two training images or more, got {n}.")
        ratios, coloured = _shapes(training)
        return cls(_digest(model), Gaussian.fit(looks, parts[1][0]),
                   None if features is None else Gaussian.fit(features, parts[1][2]),
                   (float(contrasts.min()) / _ROOM, float(contrasts.max()) * _ROOM),
                   (float(ratios.min()) / _ROOM, float(ratios.max()) * _ROOM) if len(ratios) else None,
                   bool(coloured.sum() > len(coloured) * _COLOURED), copy_hashes(training))

    def warnings(self, model, x):
        """Return for each image a list of sentences, how it differs from the training images; empty if it does not.

        Parameters
        ----------
        model : the network this belongs to
        x : as for `predict`; files (ImageDataset.facts) add aspect ratio and colour

        Raises
        ------
        InputError : a network with other weights
        """
        if _digest(model) != self.weights_digest:
            raise InputError(f"{FILE}: it belongs to a network with other weights. Use the file beside the weights.")
        data = _dataset(model, x)
        looks, contrasts, features = _numbers(model, data)
        said = [[] for _ in looks]
        for what, known, vectors in (("it does not look like", self.look, looks),
                                     ("its features differ from those of", self.features, features)):
            for sentences, distance in zip(said, [] if known is None else known.distance(vectors)):
                if distance > known.limit:
                    sentences.append(f"{what} the training images (distance {distance:.2f}, limit {known.limit:.2f})")
        for sentences, contrast in zip(said, contrasts):
            if not self.contrast[0] <= contrast <= self.contrast[1]:
                sentences.append(f"its contrast is {contrast:.3f}, of the training images "
                                 f"{span(self.contrast, '{:.3f}')}")
        for sentences, ratio, coloured in zip(said, *_shapes(data)):
            if coloured and not self.coloured:
                sentences.append("it is in colour, the training images are grey")
            if self.ratio is not None and not self.ratio[0] <= ratio <= self.ratio[1]:
                sentences.append(f"its width is {ratio:.2f} of its height, of the training images {span(self.ratio)}")
        return said

    def save(self, path):
        """Write a safetensors file (weights.py): 85 KB for COV-19Net, and 16 bytes for each training image.

        No image can be recovered from it.
        """
        tensors = {"contrast": np.array(self.contrast), "coloured": np.array(self.coloured, np.uint8)}
        for name in ("look", "features"):
            if (known := getattr(self, name)) is not None:
                tensors |= {f"{name}/mean": known.mean.astype(np.float32),
                            f"{name}/whiten": known.whiten.astype(np.float32), f"{name}/limit": np.array(known.limit)}
        if self.ratio is not None:
            tensors["ratio"] = np.array(self.ratio)
        if self.hashes is not None:
            tensors["hashes"] = self.hashes.view(np.uint8)
        weights.save(path, tensors, {"format": _FORMAT, "weights": self.weights_digest})

    @classmethod
    def load(cls, path):
        """Read what `save` wrote; WeightsError where the file is damaged or of another kind."""
        tensors, metadata = weights.load(path)
        try:
            if metadata["format"] != _FORMAT or tensors["coloured"].shape != ():
                raise ValueError("another format")
            known = [_gaussian(tensors, name) for name in ("look", "features")]
            ranges = [_pair(tensors["contrast"]), _pair(tensors["ratio"]) if "ratio" in tensors else None]
            return cls(metadata["weights"], *known, *ranges, bool(tensors["coloured"]), _hashes(tensors))
        except (KeyError, ValueError) as error:
            raise WeightsError(f"{printable(path)}: not a description of training images ({printable(error)}). Was it "
                               "written by another version of minicnn?") from None


def of_run(folder):
    """Return the TrainingDistribution of a run folder, or None if it has none (or is a weights file)."""
    path = Path(folder) / FILE
    return TrainingDistribution.load(path) if path.exists() else None


def thumbnails(x):
    """Return standardised thumbnails of images: 8 x 8 means, less their mean and over their standard deviation + 0.05.

    Parameters
    ----------
    x : ndarray, shape (N, H, W, C), at least 8 x 8, floats; the channels' mean is taken

    Returns
    -------
    ndarray, shape (N, 64), float64; almost independent of brightness and contrast

    >>> thumbnails(np.zeros((1, 8, 8, 1))).any(), thumbnails(np.eye(8).reshape(1, 8, 8, 1)).shape
    (np.False_, (1, 64))
    """
    _, H, W, _ = x.shape
    if min(H, W) < 8:
        raise InputError(f"out of distribution: images must be at least 8 x 8, got {H} x {W}.")
    grey = x.mean(axis=3, dtype=np.float64)
    down, across = (np.add.reduceat(np.eye(side), np.arange(8) * side // 8, axis=0) for side in (H, W))
    down, across = down / down.sum(axis=1, keepdims=True), across / across.sum(axis=1, keepdims=True)
    means = np.stack([(down @ image @ across.T).ravel() for image in grey])
    means -= means.mean(axis=1, keepdims=True)
    return means / (means.std(axis=1, keepdims=True) + 0.05)


def _dataset(model, x):
    if len(model.network.input_shape) != 3:
        raise InputError("out of distribution: this network does not take images but inputs of shape "
                         f"{model.input_shape}.")
    return open_dataset(x, model.preprocessing, model.classes, "out of distribution")


def _shapes(data):
    """Return (width over height, whether in colour) of each file of a dataset, two ndarrays; empty without files."""
    facts = getattr(data, "facts", None)
    if facts is None:
        return np.empty(0), np.empty(0, bool)
    return facts[:, 0] / facts[:, 1], facts[:, 2] > 0


def _numbers(model, data):
    """Return (thumbnails, contrasts, features) of images; features are None where there are none or too many."""
    depth = max((i for i, layer in enumerate(model.layers) if getattr(layer, "parameters", ())), default=0)
    depth = model.network.sources[depth][0]         # the value that this layer takes
    shape = model.network.shapes[depth]
    wanted = depth > 0 and len(shape) == 1 and shape[0] <= _MOST_FEATURES
    rows = []
    for start in range(0, len(data), _BATCH):
        batch = data.batch(np.arange(start, min(start + _BATCH, len(data))))
        features = np.array(model.network.forward(batch, model.network.rows(depth)), np.float64) if wanted else np.empty((len(batch), 0))
        rows.append((thumbnails(batch), batch.std(axis=(1, 2, 3), dtype=np.float64), features))
    looks, contrasts, features = (np.concatenate(column) for column in zip(*rows))
    return looks, contrasts, features if wanted else None


def _digest(model):
    digest = hashlib.sha256()
    for value in model.get_weights():
        digest.update(value.tobytes())
    return digest.hexdigest()


def _gaussian(tensors, name):
    if f"{name}/mean" not in tensors:
        return None
    mean, whiten, limit = (np.asarray(tensors[f"{name}/{part}"], np.float64) for part in ("mean", "whiten", "limit"))
    if mean.ndim != 1 or whiten.shape != (len(mean), len(mean)) or limit.shape != () or not np.isfinite(whiten).all() \
            or not np.isfinite(mean).all() or not 0 < limit < np.inf:
        raise ValueError(f"{name}: a mean, a square matrix and a positive limit were expected")
    return Gaussian(mean, whiten, float(limit))


def _hashes(tensors):
    hashes = tensors.get("hashes")
    if hashes is not None and (hashes.dtype != np.uint8 or hashes.ndim != 2 or hashes.shape[1] != 16):
        raise ValueError("hashes: 16 bytes an image were expected")
    return None if hashes is None else np.ascontiguousarray(hashes).view(np.uint64)


def _pair(values):
    if values.shape != (2,) or not 0 <= values[0] <= values[1] < np.inf:
        raise ValueError("a range was expected")
    return float(values[0]), float(values[1])
