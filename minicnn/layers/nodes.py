"""Nodes: how a user connects layers into a graph, before there is a network.

    x = Input((64, 64, 3))
    y = Conv2D(32, 3, padding="same")(x)
    model = Model(x, Add()([x, y]))

A node stands for one array of a network: an input, or what a layer makes of other nodes. A layer called on a node gives a
node. A block is anything else that is called on a node and gives one: a function, a Residual, a whole model; its layers
become layers of the network, named after it: residual_1/conv2d_2.
"""

import threading
from contextlib import contextmanager

from minicnn.core.arguments import Whole, check
from minicnn.errors import InputError, ShapeError

__all__ = ["Node", "Input", "connect", "chain", "inside", "inferred", "ordered"]


class _Here(threading.local):
    blocks = ()         # the Block of each block that the calling thread is inside of
    late = False        # whether shapes that do not fit are left to the network, which knows the names


_here = _Here()


class Block:
    """One use of a block: layers that are connected inside of it belong to it.

    Attributes
    ----------
    of : the block: a Residual, a function, a model
    name, kind : str; its name or None, and what it is called otherwise
    """

    def __init__(self, of):
        self.of, self.name = of, getattr(of, "name", None)
        self.kind = getattr(of, "__name__", type(of).__name__)


@contextmanager
def inside(block):
    """Let layers that are connected until the end belong to a block, unless they do already."""
    outside = _here.blocks
    if not outside or outside[-1].of is not block:
        _here.blocks = (*outside, Block(block))
    try:
        yield
    finally:
        _here.blocks = outside


class Node:
    """One array of a network that is not built yet.

    Attributes
    ----------
    layer : the layer that makes it; None for an input
    name : str, of an input; or None
    sources : tuple of Node, what the layer takes
    shape : tuple; None for N, then the sizes, as in Keras; None where only the network will know, after a custom layer
    blocks : tuple of Block, those that the layer stands in, the outermost first
    """

    def __init__(self, layer, sources, shape, name=None):
        self.layer, self.sources, self.shape, self.blocks, self.name = layer, sources, shape, _here.blocks, name

    def __repr__(self):
        return f"<{_maker(self)}, shape {self.shape}>"


def Input(shape, name=None, *, owner="Input", argument="shape"):
    """Return the node of an input: images are (H, W, C), without N. `owner` and `argument` are their names in errors.

    A model of several inputs calls them by their `name`: {"image": x, "age": ages}.

    >>> Input((64, 64, 3)).shape
    (None, 64, 64, 3)
    """
    if isinstance(shape, int) or not hasattr(shape, "__iter__"):
        raise InputError(f"{owner}: {argument} must be a tuple such as (64, 64, 3), got {shape!r}.")
    return Node(None, (), (None, *(check(owner, argument, size, Whole()) for size in shape)), name)


def connect(layer, x):
    """Return the node that a layer makes of a node, or of a list of nodes where it takes several.

    Where the layer has an activation, it is that of the activation, which follows as a layer of its own.

    Raises
    ------
    InputError, ShapeError : not nodes, more or fewer than the layer takes, shapes that it cannot take
    """
    sources = tuple(x) if isinstance(x, (list, tuple)) else (x,)
    label = getattr(layer, "label", type(layer).__name__)
    for source in sources:
        if not isinstance(source, Node):
            raise InputError(f"{label}: expected a node, such as Input((64, 64, 3)) or what a layer returns for one, got "
                             f"{type(source).__name__}.")
    leader = getattr(layer, "follows", None)
    if leader is not None and sources[0].layer is layer and sources[0].sources[0].layer is leader:
        return sources[0]           # an activation that was put behind its layer already
    several = getattr(layer, "several", False)
    if several != (len(sources) > 1):
        takes = "two or more nodes, in a list" if several else "one node"
        raise InputError(f"{label}: it takes {takes}, got {len(sources)}.")
    shapes = [None if source.shape is None else source.shape[1:] for source in sources]
    if None in shapes or not type(layer).__module__.startswith("minicnn.layers."):     # a custom layer tells when built
        return _followed(layer, Node(layer, sources, None))
    try:
        return _followed(layer, Node(layer, sources, (None, *layer.infer(shapes if several else shapes[0])[0])))
    except ShapeError as error:
        if _here.late:
            return Node(layer, sources, None)
        given = ", ".join(f"{_maker(source)} gives {shape}" for source, shape in zip(sources, shapes))
        raise ShapeError(f"{error} ({given}.)") from None


def _followed(layer, node):
    """Return the node, or that of the layer's activation behind it (layers/affine.py)."""
    activation = layer.unfold() if hasattr(layer, "unfold") and not isinstance(layer, type) else None
    return node if activation is None else connect(activation, node)


def chain(parts, x, owner="block", late=False):
    """Return the node that layers and blocks make of x, one after another.

    With `late`, shapes that do not fit are no error yet: the network that is built of the node names the layer.

    Raises InputError where a part is neither, or a block gives no node; `owner` is whose parts they are.
    """
    before, _here.late = _here.late, late or _here.late
    try:
        for i, part in enumerate(parts):
            missing = [verb for verb in ("build", "forward", "backward") if not callable(getattr(part, verb, None))]
            if not missing:
                x = connect(part, x)
            elif callable(part) and not isinstance(part, type):
                x = _call(part, x)
            else:
                raise InputError(f"{owner}: layer {i}, {part!r}, has no {', '.join(missing)}. A layer needs "
                                 "build(input_shape), forward(x) and backward(dy). A block is called on a node, and "
                                 "returns a node.")
    finally:
        _here.late = before
    return x


def _call(block, x):
    """Return block(x), a node whose layers are named after the block."""
    with inside(block):
        y = block(x)
    if not isinstance(y, Node):
        label = getattr(block, "__name__", type(block).__name__)
        raise InputError(f"{label}: a block must return a node for a node, got {type(y).__name__}.")
    return y


def ordered(outputs):
    """Return the nodes that these are made of, and these, each after its sources: the order in which layers run.

    >>> x = Input((2,))
    >>> [node.shape for node in ordered([x])]
    [(None, 2)]
    """
    order, done, waiting = [], set(), [(node, False) for node in reversed(outputs)]
    while waiting:
        node, ready = waiting.pop()
        if id(node) in done:
            continue
        if ready or not node.sources:
            order.append(node)
            done.add(id(node))
        else:       # first what it needs; the first source first, so that a chain stays together
            waiting.append((node, True))
            waiting += [(source, False) for source in reversed(node.sources)]
    return order


def inferred(layers, input_shape, sources=None):
    """Return [(output shape, [(name, shape, initializer) of each parameter]) of each layer], without building any.

    Raises ShapeError where the layers do not fit together.
    """
    shapes, found = [input_shape], []
    for i, layer in enumerate(layers):
        taken = [shapes[value] for value in (sources[i] if sources else [i])]
        found.append(layer.infer(taken if getattr(layer, "several", False) else taken[0]))
        shapes.append(found[-1][0])
    return found


def _maker(node):
    return "Input" if node.layer is None else getattr(node.layer, "label", type(node.layer).__name__)
