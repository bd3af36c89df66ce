"""Layers that merge several arrays into one, and the residual block made of them."""

import math

import numpy as np

from minicnn.core.memory import here
from minicnn.core.validation import as_array, check_batch
from minicnn.errors import InputError, ShapeError
from minicnn.layers.base import Layer, register
from minicnn.layers.nodes import chain, connect, inside

__all__ = ["Merge", "Add", "Multiply", "Concatenate", "Residual"]


class Merge(Layer):
    """What merging layers share: they take lists of shapes and of batches, and hand back a list of gradients."""

    several = True

    def accept(self, xs):
        if self.input_shape is None:
            raise InputError(f"{self.label}: not built yet. Call build([shape, shape]) first, or put it into a Model.")
        if not isinstance(xs, (list, tuple)) or len(xs) != len(self.input_shape):
            raise InputError(f"{self.label}: expected a list of {len(self.input_shape)} batches.")
        if not here.lending:
            self._check_configured()
        xs = [as_array(x, self.label, f"x[{i}]", self.dtype) for i, x in enumerate(xs)]
        for i, (x, shape) in enumerate(zip(xs, self.input_shape)):
            check_batch(x, shape, self.label, f"x[{i}]")
            if len(x) != len(xs[0]):
                raise ShapeError(f"{self.label}: x[0] has {len(xs[0])} samples, x[{i}] has {len(x)}.")
        return xs

    def flops(self):
        """One for each number of the output and each array after the first."""
        return (len(self.input_shape) - 1) * math.prod(self.output_shape)


class Add(Merge):
    """Add two or more arrays of one shape (reference.add); the gradient goes to each of them.

    >>> Add().build([(8, 8, 4), (8, 8, 4)])
    (8, 8, 4)
    """

    def infer(self, shapes):
        if len(set(shapes)) > 1:
            raise ShapeError(f"{self.label}: the shapes must be equal, got {_listed(shapes)}.")
        return shapes[0], []

    def forward(self, xs):
        y, *xs = self.accept(xs)
        for i, x in enumerate(xs):
            total = self.output(f"y{i}", y.shape)
            self.ops.add(y, x, total)
            y = total
        self.remember(y)
        return y

    def backward(self, dy):
        dy, _ = self.consume(dy)
        return [dy] * len(self.input_shape)


class Multiply(Merge):
    """Multiply two or more arrays element by element (reference.multiply).

    Sizes of 1 are repeated: (1, 1, C), as GlobalAveragePooling2D(keepdims=True) gives, weighs the channels of (H, W, C).

    >>> Multiply().build([(8, 8, 4), (1, 1, 4)])
    (8, 8, 4)
    """

    def infer(self, shapes):
        sizes = {len(shape) for shape in shapes}
        if len(sizes) > 1 or any(len({size for size in axis if size != 1}) > 1 for axis in zip(*shapes)):
            raise ShapeError(f"{self.label}: the shapes must be equal, or 1 where they are not, got {_listed(shapes)}.")
        return tuple(map(max, zip(*shapes))), []

    def forward(self, xs):
        y, *xs = self.accept(xs)
        factors = []
        for i, x in enumerate(xs):
            product = self.output(f"y{i}", (len(x), *map(max, y.shape[1:], x.shape[1:])))
            self.ops.multiply(y, x, product)
            factors += [y, x]
            y = product
        self.remember(*factors)
        return y

    def backward(self, dy):
        """From the last product to the first: dy of each gives that of the product before and that of its own factor."""
        dy, *factors = self.consume(dy)
        dxs = []
        for i in reversed(range(0, len(factors), 2)):
            y, x = factors[i:i + 2]
            before, dx = self.output(f"dy{i}", y.shape), self.output(f"dx{i}", x.shape)
            self.ops.multiply_gradient(dy, y, x, before, dx)
            dxs.insert(0, dx)
            dy = before
        return [dy, *dxs]


class Concatenate(Merge):
    """Put two or more arrays side by side along their last axis, the channels; each takes its part of the gradient.

    >>> Concatenate().build([(8, 8, 4), (8, 8, 2)])
    (8, 8, 6)
    """

    def infer(self, shapes):
        if len({shape[:-1] for shape in shapes}) > 1:
            raise ShapeError(f"{self.label}: the shapes must be equal but for the last size, got {_listed(shapes)}.")
        return (*shapes[0][:-1], sum(shape[-1] for shape in shapes)), []

    def forward(self, xs):
        xs = self.accept(xs)
        y = self.output("y", (len(xs[0]), *self.output_shape))
        self.ops.call(np.concatenate, xs, axis=-1, out=y)
        self.remember(y)
        return y

    def backward(self, dy):
        dy, _ = self.consume(dy)
        ends = np.cumsum([shape[-1] for shape in self.input_shape])
        dxs = [self.output(f"dx{i}", (len(dy), *shape)) for i, shape in enumerate(self.input_shape)]
        for dx, part in zip(dxs, np.split(dy, ends[:-1], axis=-1)):
            dx[...] = part
        return dxs

    def flops(self):
        return 0


class Residual:
    """A block: y = body(x) + shortcut(x) (He et al., "Deep residual learning for image recognition", CVPR 2016).

    The gradient reaches x through the shortcut whatever the body does: dx = dy + body'(x)^T dy. In a Sequential or called
    on a node, its layers become layers of the network: residual_1/conv2d_1.

    Parameters
    ----------
    body : list of layers and blocks
    shortcut : list of layers and blocks, for a body that changes the shape; the input itself where empty
    name : str, optional

    >>> from minicnn import Conv2D, Input
    >>> Residual([Conv2D(4, 3, padding="same")])(Input((8, 8, 4))).shape
    (None, 8, 8, 4)
    """

    def __init__(self, body, shortcut=(), name=None):
        self.body, self.shortcut, self.name = list(body), list(shortcut), name
        if not self.body:
            raise InputError("Residual: expected a body of at least one layer, got none.")

    @property
    def layers(self):
        """The layers and blocks of the body, then those of the shortcut."""
        return self.body + self.shortcut

    def __call__(self, x):
        with inside(self):
            return connect(Add(), [chain(self.body, x), chain(self.shortcut, x)])


def _listed(shapes):
    return " and ".join(map(str, shapes))


register(Add, Multiply, Concatenate)
