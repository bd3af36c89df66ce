"""Does a map depend on what the network has learnt? Sanity tests of explanations.

Adebayo et al., "Sanity checks for saliency maps" (NeurIPS 2018): the layers lose what they learnt one after another,
from the last to the first, and each time the maps are made again. Maps that stay what they were show the picture, not
the network.
"""

from typing import NamedTuple

import numpy as np

from minicnn.errors import ShapeError
from minicnn.evaluation.explain import explain
from minicnn.shapes import positive_int
from minicnn.streams import Stream, check_seed, normals

__all__ = ["Randomised", "randomisation", "rank_correlation"]

_ROUND = 0x5A17     # the `epoch` word of our random numbers: other checks draw at other addresses


class Randomised(NamedTuple):
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


def randomisation(model, x, method="gradcam", layer=None, target=None, draws=8, seed=0):
    """Return a Randomised for each layer that learns, from the last to the first; the model is afterwards as before.

    A layer's parameters become normal random numbers of the same root mean square, `draws` times. The class explained
    stays the one explained in the trained network. Arguments as for `explain`; the maps compared are its `coarse`.

    Notes
    -----
    A correlation near 0 says that a map has nothing left of the trained network's. One that stays near 1 down to the
    first layer says that the map shows edges of the picture, whatever the network knows. Maps are smooth and small: of
    unrelated ones too the strength is some tenths.
    """
    seed, draws = check_seed(seed), positive_int(draws, "randomisation", "draws")
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


def _restore(parameters, values):
    for parameter, value in zip(parameters, values):
        parameter.value[...] = value


def _randomise(value, seed, number):
    scale = np.sqrt(np.mean(np.square(value, dtype=np.float64)))
    value[...] = scale * normals(seed, Stream.CHECK, _ROUND, number, value.size).reshape(value.shape)


def _summed_up(name, correlations):
    known = [value for value in correlations if value is not None]
    if not known:
        return Randomised(name, None, None, 0)
    return Randomised(name, float(np.mean(known)), float(np.mean(np.abs(known))), len(known))


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
