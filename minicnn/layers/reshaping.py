"""Other sizes, another shape, another range: padding, cropping, up-sampling, reshaping, permuting, rescaling. None of them learns."""

import math
import operator
from typing import NamedTuple

import numpy as np

from minicnn.core.arguments import OneOf, Pair, Real, Whole
from minicnn.core.receptive_field import Field
from minicnn.errors import InputError, ShapeError
from minicnn.layers.base import Layer, register
from minicnn.layers.dense import Flatten

__all__ = ["SIZES", "ZeroPadding2D", "Cropping2D", "UpSampling2D", "Reshape", "Permute", "Rescaling"]


class _Margins(NamedTuple):
    """((top, bottom), (left, right)), or what stands for it: one number, or one for the rows and one for the columns."""

    def __call__(self, value):
        def pair(value):
            first, second = value if isinstance(value, (tuple, list)) else (value, value)
            return Whole(0)(first), Whole(0)(second)
        rows, columns = value if isinstance(value, (tuple, list)) else (value, value)
        return pair(rows), pair(columns)

    def __str__(self):
        return "be a whole number of at least 0, two of them (rows, columns), or ((top, bottom), (left, right))"


class _Sizes(NamedTuple):
    """The sizes of a shape, of which one may be -1."""

    def __call__(self, value):
        sizes = tuple(-1 if operator.index(size) == -1 else Whole()(size) for size in value)
        if not sizes or sizes.count(-1) > 1:
            raise ValueError
        return sizes

    def __str__(self):
        return "be a tuple of sizes without N, such as (8, 8, 3), of which one may be -1"


SIZES = _Sizes()


class _Images(Layer):
    """What padding and up-sampling share: they take images, and compute by one operation and its gradient."""

    operation = None

    def forward(self, x):
        x = self.accept(x)
        y = self.output("y", (len(x), *self.output_shape))
        getattr(self.ops, self.operation)(x, self._geometry(), y)
        self.remember(y)
        return y

    def backward(self, dy):
        dy, _ = self.consume(dy)
        dx = self.output("dx", (len(dy), *self.input_shape))
        getattr(self.ops, f"{self.operation}_gradient")(dy, self._geometry(), dx)
        return dx

    def _sizes(self, input_shape):
        if len(input_shape) != 3:
            raise ShapeError(f"{self.label}: expected images, (H, W, C), got inputs of shape {input_shape}.")
        return input_shape

    def flops(self):
        """None: nothing is computed."""
        return 0


class ZeroPadding2D(_Images):
    """Surround images with rows and columns of zeros (reference.zero_padding2d).

    Parameters
    ----------
    padding : int, the same on every side; or two ints, for rows and columns; or ((top, bottom), (left, right))

    >>> ZeroPadding2D(((0, 1), (2, 2))).build((8, 8, 3))
    (9, 12, 3)
    """

    fields = {"padding": _Margins()}
    operation = "zero_padding2d"

    def __init__(self, padding=1, name=None):
        super().__init__(name, padding=padding)

    def _geometry(self):
        return self.padding[0] + self.padding[1]

    def infer(self, input_shape):
        H, W, C = self._sizes(input_shape)
        return (H + sum(self.padding[0]), W + sum(self.padding[1]), C), []

    def receptive_field(self, field):
        return field.through((1, 1), (1, 1), (self.padding[0][0], self.padding[1][0]))


class Cropping2D(_Images):
    """Remove rows and columns at the sides of images: what ZeroPadding2D adds (reference.zero_padding2d_gradient).

    Parameters
    ----------
    cropping : int, the same on every side; or two ints, for rows and columns; or ((top, bottom), (left, right))

    >>> Cropping2D(((0, 1), (2, 2))).build((9, 12, 3))
    (8, 8, 3)
    """

    fields = {"cropping": _Margins()}

    def __init__(self, cropping=1, name=None):
        super().__init__(name, cropping=cropping)

    def _geometry(self):
        return self.cropping[0] + self.cropping[1]

    def infer(self, input_shape):
        H, W, C = self._sizes(input_shape)
        shape = H - sum(self.cropping[0]), W - sum(self.cropping[1]), C
        if min(shape) < 1:
            raise ShapeError(f"{self.label}: nothing is left of images {input_shape} without {self.cropping}.")
        return shape, []

    def forward(self, x):
        x = self.accept(x)
        y = self.output("y", (len(x), *self.output_shape))
        self.ops.zero_padding2d_gradient(x, self._geometry(), y)
        self.remember(y)
        return y

    def backward(self, dy):
        dy, _ = self.consume(dy)
        dx = self.output("dx", (len(dy), *self.input_shape))
        self.ops.zero_padding2d(dy, self._geometry(), dx)
        return dx

    def receptive_field(self, field):
        return field.through((1, 1), (1, 1), (-self.cropping[0][0], -self.cropping[1][0]))


class UpSampling2D(_Images):
    """Repeat each pixel (reference.up_sampling2d).

    Parameters
    ----------
    size : int or two ints; how often along the height and the width
    interpolation : "nearest"

    >>> UpSampling2D((2, 3)).build((4, 4, 3))
    (8, 12, 3)
    """

    fields = {"size": Pair(), "interpolation": OneOf(["nearest"])}
    unsaid = {"interpolation": "nearest"}
    operation = "up_sampling2d"

    def __init__(self, size=2, interpolation="nearest", name=None):
        super().__init__(name, size=size, interpolation=interpolation)

    def _geometry(self):
        return self.size

    def infer(self, input_shape):
        H, W, C = self._sizes(input_shape)
        return (H * self.size[0], W * self.size[1], C), []

    def receptive_field(self, field):
        """Return the field that the repeated pixels share; None where their steps are fractions of a pixel."""
        if any(stride % S for stride, S in zip(field.stride, self.size)):
            return None
        axes = zip(*field, self.size)
        return Field(*map(tuple, zip(*((size + stride - stride // S, stride // S, start - stride + stride // S)
                                       for size, stride, start, S in axes))))


class Reshape(Flatten):
    """Give each sample another shape, in row-major order. A view: nothing is computed or copied.

    Parameters
    ----------
    target_shape : tuple of int without N; one may be -1, and is then what is left

    >>> Reshape((4, 4, -1)).build((128,))
    (4, 4, 8)
    """

    fields = {"target_shape": SIZES}

    def __init__(self, target_shape, name=None):
        super().__init__(name, target_shape=target_shape)

    def infer(self, input_shape):
        given, wanted = math.prod(input_shape), abs(math.prod(self.target_shape))
        left = given // wanted if -1 in self.target_shape else 1
        if given != left * wanted:
            raise ShapeError(f"{self.label}: {given:,} numbers, of shape {input_shape}, do not fit into "
                             f"{self.target_shape}.")
        return tuple(left if size == -1 else size for size in self.target_shape), []


class Permute(Layer):
    """Reorder the axes of each sample.

    Parameters
    ----------
    dims : tuple of int; axis i of the output is axis dims[i] of the input, counted from 1, as N has none

    >>> Permute((3, 1, 2)).build((64, 32, 3))
    (3, 64, 32)
    """

    fields = {"dims": SIZES}

    def __init__(self, dims, name=None):
        super().__init__(name, dims=dims)
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise InputError(f"{self.label}: dims must have each of 1, 2, ... once, got {self.dims}.")

    def infer(self, input_shape):
        if len(input_shape) != len(self.dims):
            raise ShapeError(f"{self.label}: dims {self.dims} are for {len(self.dims)} axes, got inputs of shape {input_shape}.")
        return tuple(input_shape[axis - 1] for axis in self.dims), []

    def forward(self, x):
        x = self.accept(x)
        y = self.output("y", (len(x), *self.output_shape))
        self.ops.call(np.copyto, y, x.transpose(0, *self.dims))
        self.remember(y)
        return y

    def backward(self, dy):
        dy, _ = self.consume(dy)
        dx = self.output("dx", (len(dy), *self.input_shape))
        dx.transpose(0, *self.dims)[...] = dy
        return dx

    def receptive_field(self, field):
        return None if field is None or self.dims != (1, 2, 3) else field

    def flops(self):
        """None: nothing is computed."""
        return 0


class Rescaling(Layer):
    """scale x + offset, element by element, with two numbers that are not learned (reference.rescaling).

    Images that minicnn reads have values in [0, 1], and a network divides uint8 pixels by 255 by itself:
    `Rescaling(1 / 255)` is for arrays of 0 to 255 in floating point. `Rescaling(2, offset=-1)` makes [-1, 1] of [0, 1].

    >>> layer = Rescaling(2, offset=-1)
    >>> _ = layer.build((2,)); layer.forward([[0.0, 1.0]]).tolist()
    [[-1.0, 1.0]]
    """

    fields = {"scale": Real(-math.inf, brackets="()"), "offset": Real(-math.inf, brackets="()")}

    def __init__(self, scale, offset=0.0, name=None):
        super().__init__(name, scale=scale, offset=offset)

    def forward(self, x):
        x = self.accept(x)
        y = self.output("y", x.shape)
        self.ops.rescaling(x, self.scale, self.offset, y)
        self.remember(y)
        return y

    def backward(self, dy):
        dy, y = self.consume(dy)
        dx = self.output("dx", y.shape)
        self.ops.rescaling_gradient(dy, self.scale, dx)
        return dx

    def flops(self):
        """Two for each number."""
        return 2 * math.prod(self.output_shape)


register(ZeroPadding2D, Cropping2D, UpSampling2D, Reshape, Permute, Rescaling)
