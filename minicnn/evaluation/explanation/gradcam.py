"""Explanations of predictions: Grad-CAM, HiResCAM and occlusion, as maps over the pixels of an image.

They explain one number, the score of a class: the input of its Sigmoid or Softmax (with one output for two classes, the
score of the negative class is minus that of the positive one), or the length of its capsule. `explain` makes the maps;
`sanity.py` tests whether they depend on the trained weights. A map shows where, not why, and a plausible map proves nothing.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from minicnn.core.arguments import OneOf, check
from minicnn.core.receptive_field import Field
from minicnn.core.validation import as_array
from minicnn.data.loader import ArrayDataset
from minicnn.errors import InputError, NonFiniteError, nearest, printable
from minicnn.evaluation.explanation.border import border_share, even_share
from minicnn.layers import CapsuleLength, Conv2D, DepthwiseConv2D, InputLayer, SeparableConv2D, Sigmoid, Softmax
from minicnn.layers.activations import Activation
from minicnn.layers.base import LAYERS
from minicnn.losses.further import shares

__all__ = ["METHODS", "Explanation", "explain", "convolutions", "check_classifies", "fields_of"]

METHODS = ("gradcam", "hirescam", "occlusion")
_BATCH = 32


@dataclass(frozen=True)
class Explanation:
    """Maps of N images.

    Attributes
    ----------
    method : one of METHODS
    layer : str, the convolution; None for occlusion
    targets : ndarray, shape (N,), int64: the class whose score is explained
    names : list of N str, the name of that class
    probabilities : ndarray, shape (N,), of that class
    coarse : ndarray, shape (N, OH, OW), float64: the map on the grid of the layer, or of the positions of the occluder;
        positive where the image supports the class, negative where it contradicts it
    maps : ndarray, shape (N, H, W), float64: the support of the class at each pixel, not negative
    """

    method: str
    layer: str | None
    targets: np.ndarray
    names: list
    probabilities: np.ndarray
    coarse: np.ndarray
    maps: np.ndarray

    @property
    def border_shares(self):
        """The proportion of each map on the outer eighth of each side: list of N floats, None for a map of zeros."""
        return border_share(self.maps)

    @property
    def even_share(self):
        """The border share of a uniform map, to compare `border_shares` with."""
        return even_share(*self.maps.shape[1:])


def explain(model, x, method="gradcam", layer=None, target=None, output=None):
    """Return the Explanation of a model's predictions for x.

    Parameters
    ----------
    model : a model over images that ends in a Sigmoid of one output, in a Softmax, or in the lengths of capsules
    x : array, shape (N, H, W, C), or a dataset of data/loader.py
    method : "gradcam" or "hirescam" (of a convolution), or "occlusion" (of any network)
    layer : name of the convolution; the last one where None. If an activation follows, its output is used
    target : the class to explain, by name or number, for all images or one for each; the predicted class where None
    output : name of the output, where the model has several

    Raises
    ------
    InputError
        a network that does not classify images or has no convolution; an unknown method, layer or class
    NonFiniteError
        the network's outputs hold NaN or infinity

    Notes
    -----
    Grad-CAM (Selvaraju et al., ICCV 2017, eq. 1 and 2). With A[i, j, k] the maps of a layer and s the score:

        alpha[k] = mean over i, j of ds/dA[i, j, k]        map = max(0, sum over k of alpha[k] A[i, j, k])

    Each value of the map belongs to the centre of its receptive field, which is not where resizing the map to the image
    would place it; between centres the map is interpolated, beyond the outermost ones it is constant. Where dense
    layers weight each position of a map separately, as in COV-19Net, the mean alpha can hide what matters at a single
    position: then a map may be uniform, or 0 everywhere. HiResCAM (Draelos and Carin, arXiv 2011.08891, eq. 5) uses the
    gradient of each position; with global average pooling, all gradients are the same and it equals Grad-CAM:

        map = max(0, sum over k of ds/dA[i, j, k] A[i, j, k])

    Occlusion (Zeiler and Fergus, ECCV 2014). A square of an eighth of the image's side, with the mean colour of the
    image, moves in steps of half its side; the map is the drop of the score, at each pixel the mean over the squares
    that cover it.

    Like any backward pass, Grad-CAM overwrites the gradients of the model's parameters. The map of an image is the same
    bits in any batch.

    >>> from minicnn import Conv2D, Dense, Flatten, Sequential, Sigmoid
    >>> model = Sequential([Conv2D(2, 3), Flatten(), Dense(1), Sigmoid()], (8, 8, 1), engine="reference")
    >>> explained = explain(model, np.zeros((1, 8, 8, 1)))
    >>> explained.layer, explained.coarse.shape, explained.maps.shape, explained.border_shares
    ('conv2d_1', (1, 6, 6), (1, 8, 8), [None])
    """
    score = check_classifies(model, output)
    check("explain", "method", method, OneOf(METHODS))
    if method == "occlusion" and layer is not None:
        raise InputError("explain: occlusion explains the whole network; leave the layer out, or use gradcam or "
                         "hirescam.")
    index = None if method == "occlusion" else _layer_index(model, layer)
    data = x if hasattr(x, "batch") else ArrayDataset(x, shape=model.input_shape, owner="explain")
    targets = _targets(model, score, target, len(data))
    parts = []
    for start in range(0, len(data), _BATCH):
        samples = np.arange(start, min(start + _BATCH, len(data)))
        batch = as_array(data.batch(samples), "explain", "x", model.dtype)
        p = _probabilities(model, score, batch)
        wanted = p.argmax(axis=1) if targets is None else targets[samples]
        made = _occlusion(model, score, batch, wanted) if index is None else \
            _grad_cam(model, score, batch, wanted, index, method)
        parts.append((wanted, p[np.arange(len(p)), wanted], *made))
    wanted, p, coarse, maps = (np.concatenate(columns) for columns in zip(*parts))
    names = model.classes or [f"class {number}" for number in range(max(2, score.size))]
    return Explanation(method, None if index is None else model.layers[index].name, wanted, [names[k] for k in wanted],
                       p, coarse, maps)


def convolutions(model):
    """Return the names of a model's convolutions, in order."""
    return [layer.name for layer in model.layers if isinstance(layer, (Conv2D, DepthwiseConv2D, SeparableConv2D))]


# ---- Arguments -------------------------------------------------------------------------------------------------------

class _Score(NamedTuple):
    """Where the score is: the number of the layer that it is the input of, -1 where it is the output itself, and which columns of
    the network's row are its output."""

    head: int
    first: int
    size: int


def check_classifies(model, output=None):
    """Return the _Score of a model that maps images to probabilities of classes, or raise InputError."""
    network, names = model.network, model.output_names
    if names:
        output = check("explain", "output", output, OneOf(names))
    elif output is not None:
        raise InputError(f"explain: this model has one output; leave output={printable(repr(output))[:80]} out.")
    sizes = [math.prod(network.shapes[value]) for value in network.outputs]
    number = names.index(output) if names else 0
    head, shape = network.outputs[number] - 1, network.shapes[network.outputs[number]]
    last = model.layers[head]
    if model.input_names or len(network.input_shape) != 3 or len(shape) != 1 \
            or not isinstance(last, (Softmax, CapsuleLength)) and not (isinstance(last, Sigmoid) and shape == (1,)):
        raise InputError("explain: expected a network from images (H, W, C) to a Sigmoid of one output, a Softmax or capsules, "
                         f"this one goes from {model.input_shape} to {shape} and ends in {last.label}.")
    return _Score(-1 if isinstance(last, CapsuleLength) else head, sum(sizes[:number]), sizes[number])


def _layer_index(model, name):
    names = convolutions(model)
    if not names:
        raise InputError("explain: this network has no convolution, which Grad-CAM needs. Use the method occlusion.")
    name = names[-1] if name is None else check("explain", "layer", name, OneOf(names))
    return next(i for i, layer in enumerate(model.layers) if layer.name == name)


def _targets(model, score, target, n):
    """Return the class to explain in each image, (n,) int64, or None where it is the predicted one."""
    if target is None:
        return None
    k = max(2, score.size)
    known = list(model.classes or ())
    wanted = [target] if isinstance(target, str) or np.ndim(target) == 0 else list(target)
    numbers = [known.index(one) if isinstance(one, str) and one in known else one for one in wanted]
    for one, number in zip(wanted, numbers):
        if isinstance(number, (bool, np.bool_)) or not isinstance(number, (int, np.integer)) or not 0 <= number < k:
            raise InputError(f"explain: expected a class from 0 to {k - 1}"
                             + (f", or {', '.join(map(printable, known))}" if known else "")
                             + f", got {printable(one)!r}.{nearest(one, known)}")
    if len(numbers) not in (1, n):
        raise InputError(f"explain: expected one class for all {n} images or one for each, got {len(numbers)}.")
    return np.broadcast_to(np.array(numbers, np.int64), n)


def _probabilities(model, score, batch):
    """Return the probability of each class: ndarray, shape (N, k), float64."""
    p = np.array(model.network.forward(batch)[:, score.first:score.first + score.size], np.float64)
    if not np.isfinite(p).all():
        model.network.blame_forward(batch)
        raise NonFiniteError("explain: the network's outputs hold NaN or infinity.")
    p = shares(p) if score.head < 0 else p
    return np.concatenate([1 - p, p], axis=1) if p.shape[1] == 1 else p


def _signs(score, wanted):
    """Return (column of z, its sign) of each sample's score; with one output, class 0 has minus class 1's score."""
    if score.size == 1:
        return np.full(len(wanted), score.first), np.where(wanted == 1, 1.0, -1.0)
    return score.first + wanted, np.ones(len(wanted))


# ---- Grad-CAM --------------------------------------------------------------------------------------------------------

def _grad_cam(model, score, batch, wanted, index, method):
    """Return (coarse, maps) of a batch at layer `index`, or at the activation that follows it."""
    network, after = model.network, model.layers[index + 1]
    if index + 1 != score.head and isinstance(after, Activation) and not isinstance(after, Softmax) \
            and network.sources[index + 1] == (index + 1,):
        index += 1
    rows = network.rows(heads=(score.head,), fused=False)       # the score is what the head takes
    values = network.values(batch, rows)
    z, a = values[-1], values[index + 1].astype(np.float64)
    dy = np.zeros_like(z)
    columns, signs = _signs(score, wanted)
    dy[np.arange(len(z)), columns] = signs
    alpha = network.gradients(dy, [row for row in rows if row.last >= index], {index + 1})[index + 1].astype(np.float64)
    if method == "gradcam":
        alpha = alpha.mean(axis=(1, 2), keepdims=True)
    coarse = (alpha * a).sum(axis=-1)
    sizes = model.input_shape[:2]
    centres = _centres(fields_of(network)[index + 1], coarse.shape[1:], sizes)
    rows, columns = (_to_pixels(*axis) for axis in zip(centres, sizes))
    return coarse, rows @ np.maximum(coarse, 0) @ columns.T


def fields_of(network):
    """Return the Field of each value of a network over images, the input's first; None where it is not known.

    A layer that merges several has the widest of their fields; a custom layer's is not known.
    """
    fields = [Field() if len(network.input_shape) == 3 else None]
    for layer, sources in zip(network.layers, network.sources):
        taken = [fields[value] for value in sources]
        known = type(layer) in LAYERS.values() and None not in taken
        fields.append(layer.receptive_field(max(taken, key=lambda field: field.size)) if known else
                      layer.receptive_field(None) if type(layer) is InputLayer else None)
    return fields


def _centres(field, sizes, pixels):
    """Return along each axis the centre, in pixels, of each output's receptive field; evenly spaced where not known."""
    if field is None:
        return [(np.arange(n) + 0.5) * side / n - 0.5 for n, side in zip(sizes, pixels)]
    return [start + (size - 1) / 2 + stride * np.arange(n)
            for n, size, stride, start in zip(sizes, *field)]


def _to_pixels(centres, pixels):
    """Return the matrix, (pixels, outputs), that interpolates values at `centres`; constant beyond the outermost."""
    return np.stack([np.interp(np.arange(pixels), centres, row) for row in np.eye(len(centres))], axis=1)


# ---- Occlusion -------------------------------------------------------------------------------------------------------

def _occlusion(model, score, batch, wanted):
    """Return (coarse, maps) of a batch: the drop of the score where a grey square hides the image."""
    H, W, _ = model.input_shape
    rows, columns = _squares(H), _squares(W)
    places = [np.ix_(row, column) for row in rows for column in columns]
    coarse = np.empty((len(batch), len(rows), len(columns)))
    for n, (image, column, sign) in enumerate(zip(batch, *_signs(score, wanted))):
        grey = image.mean(axis=(0, 1), dtype=np.float64)
        scores = []
        for i in range(0, len(places), _BATCH):
            hidden = np.repeat(image[np.newaxis], len(places[i:i + _BATCH]), axis=0)
            for one, place in zip(hidden, places[i:i + _BATCH]):
                one[place] = grey
            scores.append(_scores(model, score, hidden, column, sign))
        whole = _scores(model, score, image[np.newaxis], column, sign)
        coarse[n] = (whole - np.concatenate(scores)).reshape(coarse.shape[1:])
    down, across = (np.stack(masks, axis=1).astype(np.float64) for masks in (rows, columns))
    covered = np.outer(down.sum(axis=1), across.sum(axis=1))        # the number of squares over each pixel
    return coarse, np.maximum(down @ coarse @ across.T / covered, 0)


def _squares(side):
    """Return the positions of the occluder along an axis, as masks of its pixels. The last touches the far edge."""
    size = max(1, side // 8)
    starts = [*range(0, side - size, max(1, size // 2)), side - size]
    return [(np.arange(side) >= start) & (np.arange(side) < start + size) for start in starts]


def _scores(model, score, x, column, sign):
    """Return the score of a class for each sample of x: ndarray, shape (N,), float64."""
    return sign * model.network.forward(x, model.network.rows(heads=(score.head,)))[:, column].astype(np.float64)
