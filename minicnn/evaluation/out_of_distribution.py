"""Is this a chest radiograph like those that the network was trained on? If not, its answer means nothing.

A network answers whatever it is shown, a photograph of a cat too. What is kept of the training images, in one small
file beside the weights, is no image: the range of their shapes and contrasts, whether any were in colour, and the mean
and the spread of two kinds of numbers:

    the look        8 x 8 means of the picture, less their mean and over their spread
    the features    what the network's last layer with weights is given

How far a picture is from them is Mahalanobis' distance (Lee et al., NeurIPS 2018, use it on features). The limit is
what 99 % of the training images, and of the validation images, do not exceed, so some proper radiographs (2 to 5 in a
hundred, where it was measured) are warned about for nothing. A warning is a reason to look; none is no promise: hardly
any of the mirrored are noticed, and two thirds of those cropped to a quarter.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minicnn import weights
from minicnn.data.loader import open_dataset
from minicnn.errors import InputError, WeightsError, printable

__all__ = ["FILE", "Gaussian", "TrainingDistribution", "of_run", "thumbnails"]

FILE = "familiarity.safetensors"        # its name in a run folder
_FORMAT = "minicnn familiarity 1"
_BATCH, _MOST_FEATURES = 32, 1024
_WITHIN = 0.99          # of the images of a part, this share is not warned about
_SHRINK = 0.1           # of a covariance, towards that of independent numbers
_ROOM = 1.1             # by which a ratio of sides, or a contrast, may lie outside the range of the training images
_COLOURED = 1 / 50      # where fewer of the files trained on are in colour, one in colour is unlike them


@dataclass(frozen=True)
class Gaussian:
    """The mean and the spread of numbers, and how far from it is far.

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
        """Return the Gaussian of training numbers, (n, d), with the limit that both parts keep to; None if none varies."""
        mean, d = training.mean(axis=0), training.shape[1]
        spread = (training - mean).T @ (training - mean) / len(training)
        level = np.trace(spread) / d
        if not level > 0:
            return None
        spread = (1 - _SHRINK) * spread + _SHRINK * level * np.eye(d)
        # Rounded as the file keeps them, so that what is loaded says the same.
        mean, whiten = (values.astype(np.float32).astype(np.float64)
                        for values in (mean, np.linalg.cholesky(np.linalg.inv(spread))))
        cloud = cls(mean, whiten, 0.0)
        limit = max(float(np.quantile(cloud.distance(part), _WITHIN)) for part in (training, validation))
        return cls(cloud.mean, cloud.whiten, limit)

    def distance(self, x):
        """Return the distance of each row of x, (n, d): ndarray, shape (n,); about 1 for those of the cloud.

        >>> Gaussian(np.zeros(2), np.eye(2), 1.0).distance(np.array([[1.0, 1.0], [3.0, 3.0]]))
        array([1., 3.])
        """
        # Row by row: a picture's distance is the same bits whatever is asked about with it.
        return np.array([np.sqrt(np.mean(np.square((row - self.mean) @ self.whiten))) for row in x])


@dataclass(frozen=True)
class TrainingDistribution:
    """What is kept of the images that a network was trained on, to tell whether others are like them.

    Attributes
    ----------
    weights_digest : str, SHA-256 of the weights that the features belong to
    look, features : Gaussian; None where nothing varies, and for more than 1,024 features
    contrast : (low, high), the standard deviations of pictures in [0, 1]
    ratio : (low, high), width over height of the files; None where there were no files
    coloured : bool, whether more than one in fifty of the files is in colour (decoding.py says what that is)
    """

    weights_digest: str
    look: Gaussian | None
    features: Gaussian | None
    contrast: tuple
    ratio: tuple | None
    coloured: bool

    @classmethod
    def fit(cls, model, training, validation):
        """Return the TrainingDistribution of a trained network.

        Parameters
        ----------
        model : Sequential over images
        training, validation : as x for `predict`; neither is augmented. What is from files (ImageDataset.facts) brings
            the ratio of its sides and its colour

        Raises
        ------
        InputError : a network that does not take images, fewer than two training images, or no validation images
        """
        training, validation = (_dataset(model, part) for part in (training, validation))
        parts = [_numbers(model, part) for part in (training, validation)]
        (looks, contrasts, features), n = parts[0], len(parts[0][0])
        if n < 2:
            raise InputError(f"familiarity: expected two training images or more, got {n}.")
        ratios, coloured = _shapes(training)
        return cls(_digest(model), Gaussian.fit(looks, parts[1][0]),
                   None if features is None else Gaussian.fit(features, parts[1][2]),
                   (float(contrasts.min()) / _ROOM, float(contrasts.max()) * _ROOM),
                   (float(ratios.min()) / _ROOM, float(ratios.max()) * _ROOM) if len(ratios) else None,
                   bool(coloured.sum() > len(coloured) * _COLOURED))

    def warnings(self, model, x):
        """Return for each picture the list of what is unlike the training images: sentences, none for a familiar one.

        Parameters
        ----------
        model : the network this belongs to
        x : as for `predict`; of files (ImageDataset.facts) shape and colour count too

        Raises
        ------
        InputError : a network with other weights
        """
        if _digest(model) != self.weights_digest:
            raise InputError("familiarity: this network has other weights than the one whose training is known. "
                             "Use the file beside its own weights.")
        source = _dataset(model, x)
        looks, contrasts, features = _numbers(model, source)
        said = [[] for _ in looks]
        for what, cloud, numbers in (("it does not look like", self.look, looks),
                                     ("its features are unlike those of", self.features, features)):
            distances = [] if cloud is None else cloud.distance(numbers)
            for sentences, distance in zip(said, distances):
                if distance > cloud.limit:
                    sentences.append(f"{what} the images trained on (distance {distance:.2f}, limit {cloud.limit:.2f})")
        for sentences, contrast in zip(said, contrasts):
            if not self.contrast[0] <= contrast <= self.contrast[1]:
                low, high = self.contrast
                sentences.append(f"its contrast is {contrast:.3f}, of the images trained on {low:.3f} to {high:.3f}")
        for sentences, ratio, coloured in zip(said, *_shapes(source)):
            if coloured and not self.coloured:
                sentences.append("it is in colour, the images trained on are grey")
            if self.ratio is not None and not self.ratio[0] <= ratio <= self.ratio[1]:
                sentences.append(f"its width is {ratio:.2f} of its height, of the images trained on "
                                 f"{_range(self.ratio)}")
        return said

    def save(self, path):
        """Write it as a safetensors file (weights.py), 85 KB for COV-19Net; no image can be made of it."""
        tensors = {"contrast": np.array(self.contrast), "coloured": np.array(self.coloured, np.uint8)}
        for name in ("look", "features"):
            if (cloud := getattr(self, name)) is not None:
                tensors |= {f"{name}/mean": cloud.mean.astype(np.float32),
                            f"{name}/whiten": cloud.whiten.astype(np.float32), f"{name}/limit": np.array(cloud.limit)}
        if self.ratio is not None:
            tensors["ratio"] = np.array(self.ratio)
        weights.save(path, tensors, {"format": _FORMAT, "weights": self.weights_digest})

    @classmethod
    def load(cls, path):
        """Read what `save` wrote; WeightsError where the file is damaged or is another."""
        tensors, metadata = weights.load(path)
        try:
            if metadata["format"] != _FORMAT or tensors["coloured"].shape != ():
                raise ValueError("another format")
            clouds = [_cloud(tensors, name) for name in ("look", "features")]
            ranges = [_pair(tensors["contrast"]), _pair(tensors["ratio"]) if "ratio" in tensors else None]
            return cls(metadata["weights"], *clouds, *ranges, bool(tensors["coloured"]))
        except (KeyError, ValueError) as error:
            raise WeightsError(f"{printable(path)}: does not hold what minicnn keeps of training images "
                               f"({printable(error)}). Was it written by another version?") from None


def of_run(folder):
    """Return the TrainingDistribution that a run folder holds, or None where it holds none (or is a weights file)."""
    path = Path(folder) / FILE
    return TrainingDistribution.load(path) if path.exists() else None


def thumbnails(x):
    """Return the look of pictures: 8 x 8 means, less their mean and over their spread.

    Parameters
    ----------
    x : ndarray, shape (N, H, W, C), at least 8 x 8, floats; the channels' mean is taken

    Returns
    -------
    ndarray, shape (N, 64), float64; the same for a picture with more light or contrast, but for the faintest

    >>> thumbnails(np.zeros((1, 8, 8, 1))).any(), thumbnails(np.eye(8).reshape(1, 8, 8, 1)).shape
    (np.False_, (1, 64))
    """
    _, H, W, _ = x.shape
    if min(H, W) < 8:
        raise InputError(f"familiarity: pictures must be 8 x 8 at least, got {H} x {W}.")
    grey = x.mean(axis=3, dtype=np.float64)
    down, across = (np.add.reduceat(np.eye(side), np.arange(8) * side // 8, axis=0) for side in (H, W))
    down, across = down / down.sum(axis=1, keepdims=True), across / across.sum(axis=1, keepdims=True)
    means = np.stack([(down @ picture @ across.T).ravel() for picture in grey])
    means -= means.mean(axis=1, keepdims=True)
    return means / (means.std(axis=1, keepdims=True) + 0.05)


def _dataset(model, x):
    if len(model.input_shape) != 3:
        raise InputError(f"familiarity: this network does not take images but inputs of shape {model.input_shape}.")
    return open_dataset(x, model.preprocessing, model.classes, "familiarity")


def _shapes(source):
    """Return (width over height, whether in colour) of each file of a source, two ndarrays; empty without files."""
    facts = getattr(source, "facts", None)
    if facts is None:
        return np.empty(0), np.empty(0, bool)
    return facts[:, 0] / facts[:, 1], facts[:, 2] > 0


def _numbers(model, source):
    """Return (looks, contrasts, features) of pictures; features are None where there are none or too many."""
    depth = max((i for i, layer in enumerate(model.layers) if getattr(layer, "parameters", ())), default=0)
    shape = model.network.shapes[depth]
    wanted = depth > 0 and len(shape) == 1 and shape[0] <= _MOST_FEATURES
    rows = []
    for start in range(0, len(source), _BATCH):
        batch = source.batch(np.arange(start, min(start + _BATCH, len(source))))
        features = np.array(model.network.forward(batch, depth), np.float64) if wanted else np.empty((len(batch), 0))
        rows.append((thumbnails(batch), batch.std(axis=(1, 2, 3), dtype=np.float64), features))
    looks, contrasts, features = (np.concatenate(column) for column in zip(*rows))
    return looks, contrasts, features if wanted else None


def _digest(model):
    digest = hashlib.sha256()
    for value in model.get_weights():
        digest.update(value.tobytes())
    return digest.hexdigest()


def _cloud(tensors, name):
    if f"{name}/mean" not in tensors:
        return None
    mean, whiten, limit = (np.asarray(tensors[f"{name}/{part}"], np.float64) for part in ("mean", "whiten", "limit"))
    if mean.ndim != 1 or whiten.shape != (len(mean), len(mean)) or limit.shape != () or not np.isfinite(whiten).all() \
            or not np.isfinite(mean).all() or not 0 < limit < np.inf:
        raise ValueError(f"{name}: a mean, a square matrix and a positive limit were expected")
    return Gaussian(mean, whiten, float(limit))


def _pair(values):
    if values.shape != (2,) or not 0 <= values[0] <= values[1] < np.inf:
        raise ValueError("a range was expected")
    return float(values[0]), float(values[1])


def _range(pair):
    return f"{pair[0]:.2f} to {pair[1]:.2f}"
