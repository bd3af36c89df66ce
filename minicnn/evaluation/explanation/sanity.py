"""Sanity checks of explanations: do maps depend on the trained weights, and do they avoid the border?

Adebayo et al., "Sanity checks for saliency maps" (NeurIPS 2018): the parameters of the layers are randomised
cumulatively, from the last layer to the first, and the maps are computed again each time. Maps that do not change
depend on the image, not on the network. And the support of a prediction should not lie on the border, with its letters
and tags.
"""

from typing import NamedTuple

import numpy as np

from minicnn.core.arguments import Whole, check
from minicnn.core.random import Stream, check_seed, normals
from minicnn.core.text import percent
from minicnn.errors import ShapeError
from minicnn.evaluation.explanation.gradcam import explain
from minicnn.evaluation.intervals import mean_rank

__all__ = ["RandomizedLayer", "parameter_randomization", "rank_correlation", "BorderCheck", "border_check"]

_MOST_ON_BORDER = 0.55      # a uniform map has 0.44
_MOST_LAYERS = 16
_ROUND = 0x5A17     # the `epoch` of these random numbers: other checks draw at other addresses


class RandomizedLayer(NamedTuple):
    """The maps after one more layer has been randomised.

    Attributes
    ----------
    layer : str; it and all layers after it are random
    correlation : float, the mean rank correlation with the maps of the trained network; None where none is defined
    strength : float, the mean of its absolute value, since an inverted map shows the same; or None
    defined : int, the number of pairs of maps with a correlation
    """

    layer: str
    correlation: float | None
    strength: float | None
    defined: int


def parameter_randomization(model, x, method="gradcam", layer=None, target=None, draws=8, seed=0):
    """Return a RandomizedLayer for each layer with parameters, from the last to the first; the model stays unchanged.

    Of a network with more than 16 such layers, 16 are told, evenly spaced, with those between them random too.

    A layer's parameters are replaced by normal random numbers of the same root mean square, `draws` times. The
    explained class remains that of the trained network. Other arguments as for `explain`; the maps compared are its
    `coarse`.

    Raises
    ------
    InputError : as `explain`; draws that is not a whole number of at least 1

    Notes
    -----
    A correlation near 0 means that nothing of the trained network's map is left. One that stays near 1 down to the
    first layer means that the map shows edges of the image, independently of the weights. Maps are smooth and small, so
    even unrelated ones have a strength of some tenths.
    """
    seed, draws = check_seed(seed), check("parameter_randomization", "draws", draws, Whole())
    trained = explain(model, x, method, layer, target)
    learning = [one for one in model.layers if getattr(one, "parameters", ())][::-1]
    told = np.linspace(0, len(learning) - 1, min(len(learning), _MOST_LAYERS)).round().astype(int).tolist()
    parameters, found = model.network.parameters, {i: [] for i in told}
    before = [parameter.value.copy() for parameter in parameters]
    try:
        for draw in range(draws):
            number = len(parameters)
            for i, one in enumerate(learning):
                for parameter in one.parameters[::-1]:
                    number -= 1
                    _randomise(parameter.value, seed, draw * len(parameters) + number)
                if i in told:
                    other = explain(model, x, method, layer, trained.targets)
                    found[i] += map(rank_correlation, trained.coarse, other.coarse)
            _restore(parameters, before)
    finally:
        _restore(parameters, before)
    return [_summed_up(learning[i].name, correlations) for i, correlations in found.items()]


class BorderCheck(NamedTuple):
    """The proportion of the support of a network's predictions that lies on the border of the images.

    Attributes
    ----------
    layer : str, the convolution explained
    share, low, high : float, the mean over images and its 95 % interval; None where undefined
    even : float, the share of a uniform map
    pictures : int, the number of images with a map
    exposed : bool, whether the interval lies above 0.55
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
    """Check by HiResCAM (gradcam.py) whether the predictions of a network depend on the border of the images.

    With two classes the check uses the images predicted positive, with more all of them.

    Parameters
    ----------
    model : Sequential over images that classifies, with a convolution
    x : array, shape (N, H, W, C), or a dataset of data/loader.py
    layer : name of the convolution; the last one where None

    Returns
    -------
    BorderCheck

    Raises
    ------
    InputError, NonFiniteError : as `explain`

    Notes
    -----
    Measured with tags of 4 to 10 pixels in each corner of positives, 64 x 64, and networks that had just learned them:
    the share is 0.58 to 0.86, without a tag 0.16 to 0.46. For the absence of a finding, such as the class normal, the
    support is spread over the whole image, and its share says little. Plain Grad-CAM has 0.15 to 0.83 and 0.38 to 0.42:
    its mean over positions loses a corner.
    """
    explained = explain(model, x, "hirescam", layer)
    chosen = explained.targets == 1 if model.output_shape[0] <= 2 else explained.targets >= 0
    shares = np.array([share for share, one in zip(explained.border_shares, chosen) if one and share is not None])
    what, even = f"HiResCAM of {explained.layer}", explained.even_share
    if len(shares) < 2:
        return BorderCheck(explained.layer, None, None, None, even, len(shares), False,
                           f"{what}: no verdict on the border, because only {len(shares)} of {len(chosen)} images are "
                           "predicted positive and have a map; two are needed.")
    share, error = float(shares.mean()), 1.96 * float(shares.std(ddof=1)) / len(shares)**0.5
    exposed = share - error > _MOST_ON_BORDER
    ending = "SHORTCUT: the prediction depends on the border, not on the lungs." if exposed else \
        "This is no evidence of a shortcut on the border, and no proof that there is no shortcut."
    return BorderCheck(explained.layer, share, max(0.0, share - error), min(1.0, share + error), even, len(shares),
                       exposed, f"{what}: {percent(share, 0)} of the support of {len(shares)} positive predictions "
                                f"lies on the border; for a uniform map it would be {percent(even, 0)}. {ending}")


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
    """Return Spearman's rank correlation of two arrays of one shape; ties have the mean of their ranks.

    None where all numbers of one array are equal.

    >>> rank_correlation([1, 2, 3], [10, 20, 15]), rank_correlation([1, 1], [1, 2])
    (0.5, None)
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or not a.size:
        raise ShapeError(f"rank_correlation: expected two arrays of one shape, got {a.shape} and {b.shape}.")
    a, b = (mean_rank(np.sort(values, axis=None), values.ravel()) for values in (a, b))
    a, b = a - a.mean(), b - b.mean()
    size = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / size) if size > 0 else None
