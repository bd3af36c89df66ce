"""The names of layers: conv2d_1, and residual_1/conv2d_2 in a block."""

import re

from minicnn.errors import InputError
from minicnn.layers.base import NAME
from minicnn.layers.nodes import Block

__all__ = ["name_layers", "numbered"]


def name_layers(places, owner, nested=False):
    """Give every layer without a name one made of its type and a count, and those in a block the block's name before it.

    Parameters
    ----------
    places : tuples of the Blocks (nodes.py) around a layer, then the layer
    owner : str; the name in an error
    nested : bool; names may hold those of blocks already, as in a model file, and in a model that is a block

    Raises
    ------
    InputError
        for a name that is not plain, or that two layers have
    """
    names, counts, taken = {}, {}, {}
    for place in places:        # names that were given
        for depth, part in enumerate(place):
            taken.setdefault(tuple(map(id, place[:depth])), []).append(getattr(part, "name", None))
    for place in places:
        for depth, part in enumerate(place):
            if id(part) not in names:
                around = tuple(map(id, place[:depth]))
                names[id(part)] = getattr(part, "name", None) or (
                    f"{part.follows.name}_activation" if getattr(part, "follows", None)      # its layer stands before it
                    else numbered(part, counts.setdefault(around, {}), taken[around]))
        *around, name = (names[id(part)] for part in place)
        prefix = "".join(f"{one}/" for one in around)
        if isinstance(name, str):
            name = name.removeprefix(prefix)        # it was named in an earlier network
        whole = isinstance(name, str) and (nested or any(hasattr(block.of, "network") for block in place[:-1]))
        for one in (*around, *(name.split("/") if whole else [name])):
            if not isinstance(one, str) or not re.fullmatch(NAME, one):
                raise InputError(f"{owner}: layer name {one!r} must be 1 to 64 letters, digits, '_', '.' or '-'.")
        place[-1].name = prefix + name
    finals = [place[-1].name for place in places]
    for name in finals:
        if finals.count(name) > 1:
            raise InputError(f"{owner}: two layers are called {name!r}.")


def numbered(part, counts, taken=()):
    """Return a name of the part's type and the next number that is free.

    >>> from minicnn.layers import MaxPool2D
    >>> counts = {}
    >>> numbered(MaxPool2D(), counts), numbered(MaxPool2D(), counts)
    ('max_pool2d_1', 'max_pool2d_2')
    """
    kind = part.kind if isinstance(part, Block) else type(part).__name__
    base = re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", kind).lower().replace("re_lu", "relu")
    base = re.sub(r"[^a-z0-9_]", "", base) or "block"
    while True:
        counts[base] = counts.get(base, 0) + 1
        name = f"{base}_{counts[base]}"
        if name not in taken:
            return name
