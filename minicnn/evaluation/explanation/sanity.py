"""Does a map depend on what the network has learnt, and does it lie where lungs are? Sanity tests of explanations.

Adebayo et al., "Sanity checks for saliency maps" (NeurIPS 2018): the layers lose what they learnt one after another,
from the last to the first, and each time the maps are made again. Maps that stay what they were show the picture, not
the network. And what speaks for an answer should not stand on the border, where there are letters and tags.
"""

from typing import NamedTuple

import numpy as np

from minicnn.core.random import Stream, check_seed, normals
from minicnn.core.shapes import positive_int
from minicnn.errors import ShapeError
from minicnn.evaluation.explanation.gradcam import explain

__all__ = ["RandomizedLayer", "parameter_randomization", "rank_correlation", "BorderCheck", "border_check"]

_MOST_ON_BORDER = 0.55      # of an even map 0.44
_ROUND = 0x5A17     # the `epoch` word of our random numbers: other checks draw at other addresses


class RandomizedLayer(NamedTuple):
    """The maps after one more layer has lost what it learnt.

    Attributes
    ----------
    layer : str; it and all behind it are random
    correlation : float, the mean rank correlation with the maps of the trained network; None where none is defined
    strength : float, the mean of its absolute value: a map upside down is still the same map; or None
    defined : int, of how many pairs of maps
    """

    layer: str
    correlation: float | None
    strength: float | None
    defined: int


def parameter_randomization(model, x, method="gradcam", layer=None, target=None, draws=8, seed=0):
    """Return a RandomizedLayer for each layer that learns, from the last to the first; the model is afterwards as before.

    A layer's parameters become normal random numbers of the same root mean square, `draws` times. The class explained
    stays the one explained in the trained network. Arguments as for `explain`; the maps compared are its `coarse`.

    Notes
    -----
    A correlation near 0 says that a map has nothing left of the trained network's. One that stays near 1 down to the
    first layer says that the map shows edges of the picture, whatever the network knows. Maps are smooth and small: of
    unrelated ones too the strength is some tenths.
    """
    seed, draws = check_seed(seed), positive_int(draws, "parameter_randomization", "draws")
    trained = explain(model, x, method, layer, target)
    learning = [one for one in model.layers if getattr(one, "parameters", ())][::-1]
    parameters, found = model.network.parameters, [[] for _ in learning]
    before = model.get_weights()
    try:
        for draw in range(draws):
            number = len(parameters)
            for one, correlations in zip(learning, found):
                for parameter in one.parameters[::-1]:
                    number -= 1
                    _randomise(parameter.value, seed, draw * len(parameters) + number)
                other = explain(model, x, method, layer, trained.targets)
                correlations += map(rank_correlation, trained.coarse, other.coarse)
            _restore(parameters, before)
    finally:
        _restore(parameters, before)
    return [_summed_up(one.name, correlations) for one, correlations in zip(learning, found)]


class BorderCheck(NamedTuple):
    """How much of what speaks for a network's answers lies on the border of the pictures.

    Attributes
    ----------
    layer : str, the convolution that was looked at
    share, low, high : float, the mean over pictures and its 95 % interval; None where undefined
    even : float, the share of a map that is the same everywhere
    pictures : int, that have a map
    exposed : bool
    sentence : str
    """

    layer: str
    share: float | None
    low: float | None
    high: float | None
    even: float
    pictures: int
    exposed: bool
    sentence: str


def border_check(model, x, layer=None):
    """Say whether the answers of a network come from the border of the pictures.

    Looked at are, by HiResCAM (gradcam.py), the pictures that it calls positive; of more than two classes, all. A finding
    is a mean share whose interval lies above 0.55.

    Parameters
    ----------
    model : Sequential over images that classifies, with a convolution
    x : array, shape (N, H, W, C), or a source of data/loader.py
    layer : name of the convolution; the last one where None

    Notes
    -----
    Measured with tags of 4 to 10 pixels in each corner of positives, 64 x 64, and networks that had just learnt them: the
    share is 0.58 to 0.86, without a tag 0.16 to 0.46. With the class that is not there, such as normal, no mark speaks
    for it; the whole picture does, and its share says little. Plain Grad-CAM has 0.15 to 0.83 and 0.38 to 0.42: behind
    its mean over places a corner is lost.
    """
    explained = explain(model, x, "hirescam", layer)
    chosen = explained.targets == 1 if model.output_shape[0] <= 2 else explained.targets >= 0
    shares = np.array([share for share, one in zip(explained.border_shares, chosen) if one and share is not None])
    what, even = f"HiResCAM of {explained.layer}", explained.even_share
    if len(shares) < 2:
        return BorderCheck(explained.layer, None, None, None, even, len(shares), False,
                           f"{what}: no verdict on the border, for {len(shares)} of {len(chosen)} pictures are called "
                           "positive and have a map, and two are needed.")
    share, error = float(shares.mean()), 1.96 * float(shares.std(ddof=1)) / len(shares)**0.5
    exposed = share - error > _MOST_ON_BORDER
    ending = "EXPOSED: the answer comes from the border, not from the lungs." if exposed else \
        "Nothing here points at the border. That is no proof that there is no shortcut."
    return BorderCheck(explained.layer, share, max(0.0, share - error), min(1.0, share + error), even, len(shares), exposed,
                       f"{what}: of what speaks for the positive answers to {len(shares)} pictures {100 * share:.0f} % lies "
                       f"on the border, of an even map {100 * even:.0f} % would. {ending}")


def _restore(parameters, values):
    for parameter, value in zip(parameters, values):
        parameter.value[...] = value


def _randomise(value, seed, number):
    scale = np.sqrt(np.mean(np.square(value, dtype=np.float64)))
    value[...] = scale * normals(seed, Stream.CHECK, _ROUND, number, value.size).reshape(value.shape)


def _summed_up(name, correlations):
    known = [value for value in correlations if value is not None]
    if not known:
        return RandomizedLayer(name, None, None, 0)
    return RandomizedLayer(name, float(np.mean(known)), float(np.mean(np.abs(known))), len(known))


def rank_correlation(a, b):
    """Return Spearman's rank correlation of two arrays of one shape; equal numbers share the mean of their ranks.

    None where all numbers of one are equal: then there is no order to compare.

    >>> rank_correlation([1, 2, 3], [10, 20, 15]), rank_correlation([1, 1], [1, 2])
    (0.5, None)
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or not a.size:
        raise ShapeError(f"rank_correlation: expected two arrays of one shape, got {a.shape} and {b.shape}.")
    a, b = (_ranks(values.ravel()) for values in (a, b))
    a, b = a - a.mean(), b - b.mean()
    size = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / size) if size > 0 else None


def _ranks(values):
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return ((last - counts + 1 + last) / 2)[where]
