"""scikit-learn: a network as a classifier for its pipelines and searches, and what a layer computes as features.

scikit-learn checks X, y and sample weights, in its words; minicnn checks parameters, in `fit`. Samples are rows (N, D) or images
(N, H, W, C), and a row may be an image. uint8 is divided by 255, floats are used as they are: scale features of other ranges first, with
a StandardScaler in the pipeline, say. Everything random comes from `random_state`, so equal fits are equal to the bit: in this
process, in those of `n_jobs`, and with any number of threads.
"""

import math
import numbers
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from minicnn.core.arguments import OneOf, OrNone, Real, Whole, check, check_all
from minicnn.core.validation import as_array
from minicnn.data.loader import ArrayDataset, check_scale
from minicnn.errors import InputError, MissingExtraError, NonFiniteError, ShapeError, printable
from minicnn.layers import Conv2D, Dense, Flatten, MaxPool2D, ReLU, Sigmoid, Softmax
from minicnn.model import Model, Sequential
from minicnn.networks import NETWORKS
from minicnn.optimizers import Adam
from minicnn.reference import softmax

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.preprocessing import LabelEncoder
    from sklearn.utils import check_random_state, compute_sample_weight
    from sklearn.utils.multiclass import _check_partial_fit_first_call, check_classification_targets
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, check_non_negative, validate_data
except ImportError as error:
    missing = isinstance(error, ModuleNotFoundError) and str(error.name).startswith("sklearn")
    state = "is not installed" if missing else f"cannot be imported ({printable(error)})"
    raise MissingExtraError("minicnn.interop.sklearn", "scikit-learn", "sklearn", state) from None

__all__ = ["CNNClassifier", "CNNFeatures"]

_OTHERS = "covid_caps", "anomaly_detector"
_BATCH = 32, 1024, 2**17        # of predictions: samples at least, at most, and numbers between. Bits do not depend on it


class _Network(OneOf):
    """A name of networks.NETWORKS, a function that makes a Model, or None."""

    def __call__(self, value):
        return value if value is None or callable(value) and not isinstance(value, Model) else super().__call__(value)

    def __str__(self):
        return (f"be a function of (classes, input_shape, seed) that returns a Model, None, or one of {', '.join(self)} "
                f"(not {' or '.join(_OTHERS)}, whose outputs are no probabilities)")


class _ImageShape(NamedTuple):
    """Height, width and channels."""

    def __call__(self, value):
        H, W, C = value
        return Whole()(H), Whole()(W), Whole()(C)

    def __str__(self):
        return "be (H, W, C), such as (64, 64, 1) for grey images"


class _ClassWeight(NamedTuple):
    """What scikit-learn takes as the weights of classes."""

    def __call__(self, value):
        if isinstance(value, Mapping):
            return {label: Real(0)(weight) for label, weight in value.items()}
        return OneOf(["balanced"])(value)

    def __str__(self):
        return "be a dict {class: weight >= 0}, or 'balanced'"


class _Seed(NamedTuple):
    """A seed, or what draws one, as scikit-learn has it."""

    def __call__(self, value):
        if isinstance(value, numbers.Integral):
            return Whole(0, 2**32 - 1)(value)
        return int(check_random_state(value).randint(2**31 - 1))

    def __str__(self):
        return f"{Whole(0, 2**32 - 1)}, a numpy.random.RandomState, or None"


class CNNClassifier(ClassifierMixin, BaseEstimator):
    """A classifier of images or rows: a network, trained with Adam.

    Parameters
    ----------
    network : None for a small network, of rows or of images; a name of `minicnn.networks.NETWORKS`; or a function of (classes,
        input_shape, seed) that returns a Model ending in a Sigmoid of one output or a Softmax of `classes`, with any weights
    image_shape : (H, W, C) of the images that the rows of X hold; None where X has shape (N, H, W, C), or its rows are no images
    epochs, batch_size : int >= 1
    learning_rate : float > 0
    class_weight : dict {class: weight}, or "balanced", n / (number of classes x n of the class); None for 1
    random_state : int, the seed of Model; a numpy RandomState, or None for NumPy's global one, which draw a seed
    verbose : 0, or 1 to report each epoch on stderr

    Attributes
    ----------
    classes_ : ndarray, the labels in order
    model_ : Model, with `history` and `save`; its outputs are in the order of `classes_`
    input_shape_ : (H, W, C), or (D,)
    n_features_in_ : int, H x W x C or D
    feature_names_in_ : ndarray, the names of columns, where X had them

    Raises
    ------
    InputError : a parameter that cannot be used, a network of other outputs, y of one class alone
    ShapeError : X or images whose sizes do not fit
    NonFiniteError : training or outputs left the range of floats

    Notes
    -----
    `decision_function` returns logits: what `CalibratedClassifierCV` needs for Platt scaling.

    A sample weight of 0 equals leaving the sample out, to the bit; `fit` divides the others by their mean, so that only
    their ratios count. A weight of 2 equals two copies only where a batch holds all samples, for copies are shuffled into
    different batches; and then up to rounding.

    >>> X, y = np.repeat([[[[0.1]], [[0.9]]]], 20, axis=0).reshape(40, 1), ["normal", "covid"] * 20
    >>> classifier = CNNClassifier(epochs=30, random_state=7).fit(X, y)
    >>> classifier.predict([[0.0], [1.0]]).tolist(), classifier.classes_.tolist()
    (['normal', 'covid'], ['covid', 'normal'])
    """

    def __init__(self, network=None, image_shape=None, epochs=20, batch_size=32, learning_rate=1e-3, class_weight=None,
                 random_state=None, verbose=0):
        self.network = network
        self.image_shape = image_shape
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.class_weight = class_weight
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X, y, sample_weight=None):
        """Train a new network on X and the labels y, any that scikit-learn takes; return self."""
        given, rows, y = self._taken(X, y, first=True)
        self.classes_ = np.unique(y)
        rows, y, weights = _weighed(rows, y, sample_weight, given["class_weight"])
        if len(np.unique(y)) < 2:
            raise InputError(f"CNNClassifier: expected samples of at least two classes, with weights above 0; got one class, "
                             f"{printable(repr(y[:1].tolist()[0]))[:80]}.")
        self._train(rows, y, None if weights is None else weights / weights.mean(), True, given, given["epochs"])
        return self

    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Train for one epoch more, on X and y alone; return self.

        Parameters
        ----------
        classes : all labels that y may hold, in the first call, where there was no `fit`
        sample_weight : weights, used as they are, for other calls may bring other ones
        """
        first = not hasattr(self, "model_")
        given, rows, y = self._taken(X, y, first)
        if given["class_weight"] == "balanced":
            raise InputError("CNNClassifier: 'balanced' is for fit, which sees all of y. For partial_fit give class_weight as a dict.")
        _check_partial_fit_first_call(self, classes)
        if len(self.classes_) < 2:
            raise InputError("CNNClassifier: expected at least two classes, got one class.")
        self._train(*_weighed(rows, y, sample_weight, given["class_weight"]), first, given, 1)
        return self

    def decision_function(self, X):
        """Return the logits: ndarray, (N, number of classes), float64; of two classes (N,), positive for the second."""
        check_is_fitted(self, "model_")
        model, (rows, *_) = self.model_, _checked(self, X, shape=self.input_shape_)
        z = _computed(model, rows, model.network.rows(heads=(len(model.layers) - 1,)), "CNNClassifier").astype(np.float64)
        return z if len(self.classes_) > 2 else z[:, 0] if z.shape[1] == 1 else z[:, 1] - z[:, 0]

    def predict_proba(self, X):
        """Return the probability of each class of `classes_`: ndarray, (N, number of classes), float64; each row sums to 1."""
        z = self.decision_function(X)
        return softmax(np.stack([np.zeros_like(z), z], axis=1) if z.ndim == 1 else z)

    def predict(self, X):
        """Return the label of the most probable class of each sample: ndarray, (N,)."""
        z = self.decision_function(X)
        return self.classes_[(z > 0).astype(np.int64) if z.ndim == 1 else z.argmax(axis=1)]

    # -- private --

    def _taken(self, X, y, first):
        """Return ({parameter: value}, X as rows, y), checked; the first time note the shape of a sample, later keep to it."""
        given = check_all("CNNClassifier", _PARAMETERS, {name: getattr(self, name) for name in _PARAMETERS})
        rows, y, shape = _checked(self, X, y, first, given["image_shape"] if first else self.input_shape_)
        check_classification_targets(y)
        if first:
            self.input_shape_ = shape
        return given, rows, y

    def _train(self, rows, y, weights, first, given, epochs):
        """Train the model, a new one the first time."""
        labels = LabelEncoder().fit(self.classes_).transform(y)
        if first:
            self.model_ = self._made(given["network"])
        self.model_.optimizer.learning_rate = given["learning_rate"]
        self.model_.fit(rows.reshape(-1, *self.input_shape_), labels, batch_size=given["batch_size"], epochs=epochs,
                        sample_weight=weights, verbose=self.verbose, progress=False)

    def _made(self, network):
        """Return the compiled Model that a network's name or function makes, or raise InputError where it cannot classify."""
        k, shape = len(self.classes_), self.input_shape_
        seed = check("CNNClassifier", "random_state", self.random_state, _Seed())
        if isinstance(network, str) and len(shape) != 3:
            raise InputError(f"CNNClassifier: network {network!r} takes images. Give X of shape (N, H, W, C), or image_shape=(H, W, C) "
                             f"of the images in its rows of {shape[0]}.")
        make = _small if network is None else NETWORKS[network] if isinstance(network, str) else network
        model = make(classes=k, input_shape=shape, seed=seed)
        if not isinstance(model, Model):
            raise InputError(f"CNNClassifier: expected the function network to return a Model, got {type(model).__name__}.")
        last = model.layers[-1]
        sigmoid = k == 2 and type(last) is Sigmoid and model.output_shape == (1,)
        if model.input_shape != shape or not sigmoid and not (type(last) is Softmax and model.output_shape == (k,)):
            raise InputError(f"CNNClassifier: expected a network from {shape} to {'a Sigmoid of one output, or ' * (k == 2)}a Softmax of "
                             f"{k}, got one from {model.input_shape} to {model.output_shape} that ends in {last.label}.")
        model.compile(Adam(), "binary_crossentropy" if sigmoid else "categorical_crossentropy")
        return model


_PARAMETERS = {"network": _Network(name for name in NETWORKS if name not in _OTHERS), "image_shape": OrNone(_ImageShape()),
               "epochs": Whole(), "batch_size": Whole(), "learning_rate": Adam.fields["learning_rate"],
               "class_weight": OrNone(_ClassWeight())}


class CNNFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """What a layer of a trained network computes for each sample, flattened, as features.

    `fit` learns nothing: `transform` works without it.

    Parameters
    ----------
    model : Model of one input, such as `load_model("model.safetensors")`, or the `model_` of a fitted CNNClassifier
    layer : str, the name of a layer, or int, its number, from the end where negative

    Attributes
    ----------
    n_features_in_ : int, the size of a sample

    Raises
    ------
    InputError : no model of one input, no such layer
    ShapeError : X of other sizes than the model takes

    >>> from minicnn import cov19net
    >>> features = CNNFeatures(cov19net(seed=7), "flatten_1")
    >>> features.fit_transform(np.zeros((2, 64, 64, 3), np.uint8)).shape
    (2, 4608)
    """

    def __init__(self, model, layer):
        self.model = model
        self.layer = layer

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.transformer_tags.preserves_dtype = []
        return tags

    def fit(self, X, y=None):
        """Check the parameters and X; return self."""
        self._depth()
        _checked(self, X, reset=True, shape=self.model.input_shape)
        return self

    def transform(self, X):
        """Return the outputs of the layer: ndarray, (N, its size), float32 (of a float64 model float64)."""
        model, depth = self.model, self._depth()
        values = _computed(model, _checked(self, X, shape=model.input_shape)[0], model.network.rows(depth), "CNNFeatures")
        return values.reshape(len(values), -1)

    # -- private --

    @property
    def _n_features_out(self):
        return math.prod(self.model.network.shapes[self._depth()])

    def _depth(self):
        """Return the number of the value that the layer makes (network.py), or raise InputError."""
        model = self.model
        if not isinstance(model, Model) or model.input_names:
            raise InputError("CNNFeatures: model must be a Model of one input, such as load_model(path), or the model_ of a fitted "
                             f"CNNClassifier, got {type(model).__name__}{' of several inputs' * isinstance(model, Model)}.")
        layer = model.get_layer(self.layer) if isinstance(self.layer, str) else model.get_layer(index=self.layer)
        return next(i for i, one in enumerate(model.layers, 1) if one is layer)


# ---- Both ------------------------------------------------------------------------------------------------------------

def _checked(estimator, X, y="no_validation", reset=False, shape=None):
    """Return (X as rows (N, D), y, the shape of a sample), checked by scikit-learn.

    `shape` is what it must be, where that is known: rows may then be images of this shape.
    """
    try:
        given = X.shape if hasattr(X, "shape") else np.asarray(X).shape
    except ValueError:          # rows of different lengths: scikit-learn says so
        given = ()
    if len(given) > 2:
        if len(given) != 4 or shape not in (None, given[1:]):
            wanted = "D) or (N, H, W, C" if shape is None else ", ".join(map(str, shape))
            raise ShapeError(f"{type(estimator).__name__}: expected X of shape (N, {wanted}), got {given}."
                             + " Grey images need an axis of one channel: X[..., np.newaxis]." * (len(given) == 3))
        X, shape = np.asarray(X).reshape(given[0], math.prod(given[1:])), given[1:]
    checked = validate_data(estimator, X, y, reset=reset)
    rows, y = (checked, None) if isinstance(y, str) else checked
    shape = shape or rows.shape[1:]
    if rows.shape[1] != math.prod(shape):
        raise ShapeError(f"{type(estimator).__name__}: expected images of shape {shape}, in rows of {math.prod(shape)}, got rows of "
                         f"{rows.shape[1]}.")
    return rows, y, shape


def _weighed(rows, y, sample_weight, class_weight):
    """Return (rows, y, weights or None where all are 1) of the samples whose weight is above 0."""
    if sample_weight is None and class_weight is None:
        return rows, y, None
    weights = _check_sample_weight(sample_weight, rows, dtype=np.float64)
    check_non_negative(weights, "`sample_weight`")
    kept = weights > 0
    if class_weight is not None and kept.any():
        weights = weights.copy()
        weights[kept] *= compute_sample_weight(class_weight, y[kept])
        kept = weights > 0
    if not kept.any():
        raise InputError("CNNClassifier: all sample weights are zero.")
    return (rows, y, weights) if kept.all() else (rows[kept], y[kept], weights[kept])


def _computed(model, rows, steps, owner):
    """Return what the last of some steps of a model's network makes of rows (N, D): ndarray (N, ...)."""
    network = model.network
    data = ArrayDataset(rows.reshape(-1, *model.input_shape), owner=owner)
    data.keep_pixels = network.takes_pixels and steps[0].step.takes_pixels
    check_scale(data, model.input_range, owner)
    least, most, size = _BATCH
    n, parts = min(most, max(least, size // rows.shape[1])), []
    with model._lock:
        for start in range(0, len(data), n):
            x = data.batch(slice(start, start + n))
            x = x if x.dtype == np.uint8 else as_array(x, owner, "x", model.dtype)
            parts.append(network.forward(x, steps).copy())
            if not np.isfinite(parts[-1]).all():
                network.blame_forward(x)
                raise NonFiniteError(f"{owner}: outputs hold NaN or infinity.")
    return np.concatenate(parts)


def _small(classes, input_shape, seed):
    """Return a small network: of rows, or of images of any size, which convolutions and poolings make less than 8 high or wide."""
    layers = []
    if len(input_shape) == 3:
        side, filters = min(input_shape[:2]), 16
        while not layers or side >= 8:
            layers += [Conv2D(filters, 3, padding="same"), ReLU(), *[MaxPool2D(2)] * (side > 1)]
            side, filters = side // 2, min(2 * filters, 64)
        layers.append(Flatten())
    layers += [Dense(64), ReLU(), *((Dense(1), Sigmoid()) if classes == 2 else (Dense(classes), Softmax()))]
    return Sequential(layers, input_shape=input_shape, seed=seed)
