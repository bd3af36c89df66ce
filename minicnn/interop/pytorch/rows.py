"""The order of rows. PyTorch's images are channels first, and so are the rows that it flattens them to.

A row here is an array of one axis for each sample. The columns of a dense layer that takes a flattened image are in PyTorch's
order in a state_dict, and so are the vectors of a batch normalization between; what a dense layer makes is in the order of the
image that it is reshaped to, or of the row that it is added to.
"""

import numpy as np

from minicnn.errors import InputError
from minicnn.layers import LAYERS

__all__ = ["type_of", "row_orders", "index_of", "inverse"]

_KEEPING = {"ReLU", "LeakyReLU", "ELU", "Swish", "Softplus", "Sigmoid", "Tanh", "Softmax", "Dropout", "StochasticDepth", "Rescaling",
            "Elementwise", "BatchNormalization", "LayerNormalization", "Add", "Multiply", "ElementwisePair"}


def type_of(layer):
    """Return the name of the type of a layer of minicnn; None for a custom one."""
    return type(layer).__name__ if type(layer) in LAYERS.values() else None


def row_orders(network):
    """Return for each value of a network how PyTorch orders its numbers, where that is a row and differs; else None.

    An order is a tuple of parts, one after another: (C, H, W) of a flattened image, channels first, or the number of what
    is in our order. What works element by element keeps an order; a dense layer makes rows of any, so of the one that an
    image wants which its row is reshaped to.

    Raises InputError where a layer merges rows of two orders.

    >>> from minicnn import Dense, Flatten, ReLU, Sequential
    >>> row_orders(Sequential([Flatten(), ReLU(), Dense(2)], (4, 5, 3)).network)
    [None, ((3, 4, 5),), ((3, 4, 5),), None]
    """
    shapes, home = network.shapes, list(range(len(network.shapes)))

    def root(value):        # of the values that have one order
        while home[value] != value:
            value = home[value]
        return value

    fixed, wished, joined = [(0, None)], [], []
    for value, (layer, taken) in enumerate(zip(network.layers, network.sources), 1):
        kind, shape, first = type_of(layer), shapes[value], shapes[taken[0]]
        reshapes = kind in ("Flatten", "Reshape", "Permute")
        if len(shape) != 1:
            if reshapes and len(shape) == 3 and len(first) == 1:
                wished.append((taken[0], _channels_first(shape)))
        elif kind in _KEEPING or reshapes and len(first) == 1:
            for source in taken:
                if shapes[source] == shape:         # a single number, which is repeated, has no order
                    home[root(source)] = root(value)
        elif kind == "Concatenate":
            joined.append((value, taken))
        elif kind not in ("Dense", "Constant"):
            fixed.append((value, _channels_first(first) if reshapes and len(first) == 3 else None))
    orders = {}

    def settle(value, order):
        if orders.setdefault(root(value), order) != order:
            at = max(other for other in range(len(shapes)) if root(other) == root(value))
            raise InputError(f"{network.layers[at - 1].name}: it is made of rows that PyTorch orders differently: images that "
                             "are flattened, channels first there, and others. Its weights have no counterpart in PyTorch.")
    for value, order in fixed:
        settle(value, order)
    for value, order in wished:
        if root(value) not in [root(other) for other, _ in joined]:
            orders.setdefault(root(value), order)
    for value, taken in joined:
        parts = [part for source in taken for part in orders.get(root(source)) or shapes[source]]
        settle(value, tuple(parts) if any(isinstance(part, tuple) for part in parts) else None)
    return [orders.get(root(value)) for value in range(len(shapes))]


def _channels_first(shape):
    H, W, C = shape
    return None if C == 1 or H * W == 1 else ((C, H, W),)


def index_of(order):
    """Return the place in our row of each number of PyTorch's row."""
    if order is None:
        return slice(None)
    parts, start = [], 0
    for part in order:
        C, H, W = part if isinstance(part, tuple) else (1, 1, part)
        parts.append(start + np.arange(C * H * W).reshape(H, W, C).transpose(2, 0, 1).ravel())
        start += C * H * W
    return np.concatenate(parts)


def inverse(index):
    return index if isinstance(index, slice) else np.argsort(index)
