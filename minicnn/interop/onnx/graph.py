"""What an ONNX graph becomes before it is a model: layers that are not made yet, and which axis of theirs is which of the file.

A tensor of the file is an array of ours whose axes may stand in another order: `order[j]` is the file's axis that our axis j is,
both counted without the samples. So a Transpose in the file changes `order` and costs nothing, images stay channels-last
whatever the file's are, and a Permute is put in only where an operation depends on the order.
"""

import math

import numpy as np

from minicnn import layers
from minicnn.core.text import join
from minicnn.errors import InputError, ShapeError

__all__ = ["CHANNELS_LAST", "Graph", "Known", "Scale", "Shift", "Start", "Step", "Tensor", "together"]

CHANNELS_LAST = (1, 2, 0)           # the order of an image (H, W, C) of a file's (C, H, W)
_MOST_NUMBERS = 2**31 - 1           # of one sample's array
_MOST_STEPS = 20_000
_ROOM, _ROOM_FOR_EACH = 2**26, 8    # how many numbers a file may make: in any case, and more for each that it holds


class Start:
    """The kind of step that is an input: nothing is computed."""

    several = False

    def __init__(self, shape, name):
        self.shape, self.name = shape, name

    def infer(self, _):
        return self.shape, []


class _Constant:
    """x and a constant array, which patterns.py makes a bias, a normalization, a rescaling or a layer Constant of."""

    several = False

    def __init__(self, array):
        self.array = array

    def infer(self, shape):
        if np.broadcast_shapes(shape, self.array.shape) != shape:
            raise ShapeError(f"a constant of shape {self.array.shape} does not fit {shape}")
        return shape, []


class Shift(_Constant):
    """x + array."""


class Scale(_Constant):
    """x array."""


class Known:
    """An array of the file that does not depend on the inputs' numbers, but perhaps on how many samples there are.

    Attributes
    ----------
    values : tuple of ndarray: one, or one for each of the numbers of samples that are tried (Graph.samples)
    """

    def __init__(self, values):
        values = tuple(np.asarray(value) for value in values)
        equal = all(value.dtype == values[0].dtype and np.array_equal(value, values[0]) for value in values[1:])
        self.values = values[:1] if equal else values

    def at(self, i):
        """Return the array for the i-th of the numbers of samples."""
        return self.values[min(i, len(self.values) - 1)]


class Step:
    """A layer that is not made yet.

    Attributes
    ----------
    kind, arguments : class of a layer, and the keyword arguments of its constructor
    sources : list of Step, what it takes
    weights : {name of a weight: ndarray}, in our order of axes
    shape : tuple, of its output, without N
    nonnegative : bool, whether no number that it gives can be negative
    name : str, that of the node in the file, or None
    main : bool, whether it is what the node is about, and so is called like it
    fixed : bool, whether its weights are what an operator says, such as those of a Resize, and do not train
    """

    def __init__(self, kind, arguments, sources, weights, name, main):
        self.kind, self.arguments, self.sources, self.weights = kind, arguments, sources, weights
        self.name, self.main, self.fixed = name, main, False
        shapes = [source.shape for source in sources]
        layer = self.made()
        self.shape = tuple(layer.infer(shapes if layer.several else shapes[0] if shapes else None)[0])
        if math.prod(self.shape) > _MOST_NUMBERS:
            raise ShapeError(f"one sample would have {math.prod(self.shape):,} numbers, of shape {self.shape}")
        self.nonnegative = _is_nonnegative(self)

    def made(self):
        """Return the layer, new."""
        return self.kind(**self.arguments)


_NEVER_NEGATIVE = {"ReLU", "Sigmoid", "Softmax", "Softplus"}
_SIGN_KEPT = {"MaxPool2D", "AveragePool2D", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "ZeroPadding2D", "Cropping2D",
              "UpSampling2D", "Flatten", "Reshape", "Permute", "Dropout", "Add", "Multiply", "Concatenate"}


def _is_nonnegative(step):
    kind = step.kind.__name__
    if kind == "Elementwise":
        return step.arguments["function"] in ("abs", "exp", "sqrt", "square")
    if kind in ("Shift", "Scale") and not (step.arguments["array"] >= 0).all():
        return False
    return kind in _NEVER_NEGATIVE or (kind in _SIGN_KEPT | {"Shift", "Scale"} and all(s.nonnegative for s in step.sources))


class Graph:
    """The steps made so far, in an order in which they can run, and what is known of the samples.

    Parameters
    ----------
    samples : tuple of int, the numbers of samples that shapes are computed for; empty where the arrays have no such axis
    """

    def __init__(self, samples):
        self.samples, self.batched, self.steps = samples, bool(samples), []
        self.name = None            # of the node under way
        self._room = _ROOM

    def step(self, kind, sources, weights=None, main=True, **arguments):
        """Append a step and return it; `kind` is a class, or the name of a layer."""
        kind = getattr(layers, kind) if isinstance(kind, str) else kind
        if len(self.steps) == _MOST_STEPS:
            raise InputError(f"the nodes up to here already make {_MOST_STEPS:,} layers")
        self.spend(sum(weight.size for weight in (weights or {}).values()))
        step = Step(kind, arguments, list(sources), weights or {}, self.name, main)
        self.steps.append(step)
        return step

    def held(self, array):
        """Return an array that the file holds, which gives room to compute with it."""
        self._room += _ROOM_FOR_EACH * array.size
        return array

    def spend(self, count):
        """Raise InputError where a few numbers in the file would become far more: call it before they are made."""
        self._room -= count
        if self._room < 0:
            raise InputError(f"more numbers would be made of what the file holds than is plausible, {_ROOM:,} and {_ROOM_FOR_EACH} for each")

    def constant(self, array, like):
        """Return the step of a layer Constant that gives an array; `like` is any step that the array is combined with."""
        return self.step("Constant", [like], {"value": array}, main=False, shape=array.shape)

    def axis(self, axis, rank, what="axis"):
        """Return an axis of the file, counted with the samples in `rank`, as one counted without them.

        Raises InputError where there is no such axis, or it is that of the samples.
        """
        axis = int(axis)
        if not -rank <= axis < rank:
            raise InputError(f"{what} {axis} of an array of {rank} axes")
        if self.batched and axis % rank == 0:
            raise InputError(f"{what} {axis} is that of the samples, which do not mix. Arrays without samples are read with "
                             "batch_axis=None")
        return axis % rank - self.batched

    def shape_of(self, array):
        """Return the full shapes of a Tensor or a Known in the file, one for each of the numbers of samples."""
        if isinstance(array, Known):
            return [value.shape for value in array.values]
        return [(n, *array.shape) for n in self.samples] if self.batched else [array.shape]


class Tensor:
    """An array of the file that depends on the inputs.

    Attributes
    ----------
    step : Step that computes it
    order : tuple; see above. A single number, a sample of shape (), is (1,) of ours, with the order ()
    pixels : bool; whole numbers of 0 to 255 in the file, which our array has divided by 255
    edge : {axis: (before, after)} of edge pixels that are to be repeated; only a MaxPool behind it can do without
    """

    def __init__(self, graph, step, order, pixels=False, edge=None):
        self.graph, self.step, self.order, self.pixels, self.edge = graph, step, tuple(order), pixels, edge or {}

    @property
    def shape(self):
        """Shape in the file, without N."""
        sizes = dict(zip(self.order, self.step.shape))
        return tuple(sizes[axis] for axis in range(len(self.order)))

    @property
    def rank(self):
        """Number of axes in the file, that of the samples too."""
        return len(self.order) + self.graph.batched

    def then(self, kind, weights=None, order=None, main=True, **arguments):
        """Return what a layer makes of it; `order` is that of the result where the layer changes it."""
        step = self.graph.step(kind, [self.step], weights, main, **arguments)
        return Tensor(self.graph, step, self.order if order is None else order)

    def same(self, order=None, edge=None):
        """Return it with other facts, and nothing computed."""
        return Tensor(self.graph, self.step, self.order if order is None else order, self.pixels, self.edge if edge is None else edge)

    def _long(self, order):
        """Return those of the axes that are longer than 1: the others may stand anywhere."""
        return [axis for axis in order if self.shape[axis] != 1]

    def arranged(self, order):
        """Return it with our axes in this order of the file's: a Permute, or a Reshape where only sizes of 1 move."""
        order = tuple(order)
        if order == self.order:
            return self
        shape = tuple(self.shape[axis] for axis in order)
        if self._long(order) != self._long(self.order):
            dims = tuple(self.order.index(axis) + 1 for axis in order)
            result = self.then("Permute", order=order, main=False, dims=dims)
        else:
            result = self.same(order) if shape == self.step.shape else self.then("Reshape", order=order, main=False, target_shape=shape)
        result.pixels = self.pixels
        return result

    def with_last(self, axis):
        """Return it arranged so that an axis of the file is our last."""
        return self.arranged([*(other for other in self.order if other != axis), axis])

    def image(self, what):
        """Return it as an image (H, W, C) of ours, where it is (N, C, H, W) in the file."""
        if not self.graph.batched or len(self.order) != 3:
            raise InputError(f"{what} is supported for images (N, C, H, W), two spatial dimensions, got {self.graph.shape_of(self)[0]}")
        return self.arranged(CHANNELS_LAST)

    def transposed(self, permutation):
        """Return it with the file's axes (without N) permuted: nothing is computed."""
        edge = {permutation.index(axis): sides for axis, sides in self.edge.items()}
        return self.same([permutation.index(axis) for axis in self.order], edge)

    def reshaped(self, shape, main=False):
        """Return it with another shape (without N) in the file, of as many numbers in the file's order."""
        shape = tuple(shape)
        if shape == self.shape:
            return self
        group_of = {axis: group for group in _groups(self.shape, shape) for axis in group[0]}
        mine, order = [], []
        for axis in self._long(self.order):
            if axis not in mine:
                mine, order = mine + group_of[axis][0], order + group_of[axis][1]
        if mine != self._long(self.order):          # axes that become one stand apart here, or in another order
            return self.arranged([axis for axis in self.order if axis not in mine] + mine).reshaped(shape, main)
        order = self._with_ones(order, shape)
        sizes = tuple(shape[axis] for axis in order) or (1,)
        if sizes == self.step.shape:
            return self.same(order)
        if len(sizes) == 1:
            result = self.then("Flatten", order=order, main=main)
        else:
            result = self.then("Reshape", order=order, main=main, target_shape=sizes)
        result.pixels = self.pixels
        return result

    def _with_ones(self, order, shape):
        """Return an order with the axes of size 1 too: as of an image where that is one, or as in the file, else they are first."""
        usual = [CHANNELS_LAST] * (self.graph.batched and len(shape) == 3) + [tuple(range(len(shape)))]
        fitting = [one for one in usual if [axis for axis in one if shape[axis] != 1] == order]
        fitting.sort(key=lambda one: not order or one[-1] != order[-1])         # what is long stands last, as channels do
        return fitting[0] if fitting else [axis for axis, size in enumerate(shape) if size == 1] + order

    def with_rank(self, count):
        """Return it with sizes of 1 in front, as broadcasting has them, so that it has `count` axes without N."""
        missing = count - len(self.order)
        if missing <= 0:
            return self
        if self.graph.batched:
            raise InputError(f"arrays of {self.rank} and {self.rank + missing} axes are combined, so samples would be another axis")
        return self.reshaped((1,) * missing + self.shape)

    def fitted(self, array):
        """Return (tensor, array): it, perhaps with more axes, and a constant array of the file in our order beside it.

        Raises InputError where the two do not fit together, or the constant differs between samples.
        """
        tensor = self.with_rank(array.ndim - self.graph.batched)
        array = array.reshape((1,) * (tensor.rank - array.ndim) + array.shape)
        if self.graph.batched:
            if array.shape[0] != 1:
                raise InputError(f"a constant of shape {array.shape} has numbers of its own for each of {array.shape[0]} samples")
            array = array[0]
        try:
            np.broadcast_shapes(array.shape, tensor.shape)
        except ValueError:
            raise InputError(f"a constant of shape {array.shape} does not fit an array of shape {tensor.shape}") from None
        if array.size > 1 and (array == array.flat[0]).all():
            array = array[(slice(0, 1),) * array.ndim]
            array = array.reshape((1,) * len(tensor.order))
        return tensor, array.transpose(tensor.order).reshape(array.shape and tuple(array.shape[a] for a in tensor.order) or (1,))


def together(tensors):
    """Return tensors arranged alike, with equally many axes, as operations element by element take them."""
    count = max(len(tensor.order) for tensor in tensors)
    tensors = [tensor.with_rank(count) for tensor in tensors]
    leader = max(tensors, key=lambda tensor: math.prod(tensor.shape))
    shapes = [tensor.shape for tensor in tensors]
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        raise InputError(f"arrays of the shapes {join(map(str, shapes))} do not fit together") from None
    return [tensor.arranged(leader.order) for tensor in tensors]


def _groups(old, new):
    """Return [(axes of old, axes of new)] of the least runs of axes with equally many numbers, those of size 1 left out."""
    left = [[axis for axis, size in enumerate(shape) if size != 1] for shape in (old, new)]
    groups = []
    while left[0]:
        group = [left[0].pop(0)], [left[1].pop(0)]
        while (sizes := [math.prod(shape[axis] for axis in axes) for shape, axes in zip((old, new), group)])[0] != sizes[1]:
            which = sizes[0] > sizes[1]
            group[which].append(left[which].pop(0))
        groups.append(group)
    return groups
