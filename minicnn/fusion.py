"""What the fast engine does with a network: neighbouring layers run in one go, and parameters lie in one piece of memory.

A fused step holds the layers it stands for, and computes what they would one after another (kernels/convolution/direct.py).
The layers stay what a reader wrote: they keep their parameters, and gradients land in those. A network asks the backend for
PATTERNS and takes the longest that matches where it stands.

A new fused step needs three things: its operation in `reference` (the same operations one after another) with a kernel of
the same name; a class here with `match`, `forward` and `backward`; and a line in PATTERNS.
"""

import functools
import math

import numpy as np

from minicnn.core.memory import Buffers, aligned, here
from minicnn.core.parameter import Parameters
from minicnn.core import pool
from minicnn.core.validation import as_array
from minicnn.errors import InputError, ShapeError
from minicnn.kernels import Recordings, add
from minicnn.kernels.runtime.reduction import everywhere, finally_
from minicnn.layers import Add, BatchNormalization, Conv2D, Dense, DepthwiseConv2D, MaxPool2D, ReLU

__all__ = ["ConvReLU", "ConvReLUPool", "GreyConvReLU", "GreyConvReLUPool", "DenseReLU", "BatchNormReLU", "AddReLU",
           "FoldedBatchNorm", "FoldedBatchNormReLU", "FoldedBatchNormReLUPool", "PATTERNS", "PackedParameters", "Pool",
           "Recordings"]


class _Fused:
    """Base of the fused steps: the layers, the engine's operations, and buffers that are allocated once.

    As layers do, a step called by hand remembers copies and returns copies; inside a network neither is copied.
    """

    takes_pixels = False        # whether x may be uint8, which is divided by 255 as it is read

    def __init__(self, layers):
        self.layers, self.ops = layers, layers[0].ops
        self._weights = next(layer for layer in layers if layer.parameters)
        # All that kernels trust, as it is now: the layers may be built again for another network. The parameters' own
        # arrays stay where they are for as long as this one may run.
        w = self._weights.parameters[0]
        self._w, self._dw, (self._b, self._db) = w.value, w.grad, self._weights.bias
        self._input_shape, self._output_shape = self._weights.input_shape, layers[-1].output_shape
        self._strides, self._pads = getattr(self._weights, "strides", None), getattr(self._weights, "pads", None)
        self._buffers, self._cache = Buffers(), None

    def __reduce__(self):
        """A copy, or what a pickle gives, is made anew of copied layers, and reads their arrays wherever these lie."""
        return type(self), (self.layers,)

    def _buffer(self, name, shape, dtype=None):
        return self._buffers.get(name, shape, self._w.dtype if dtype is None else dtype)

    def _accept(self, x):
        """Return x as a batch to compute with. What comes from a step of ours already is one."""
        if type(x) is np.ndarray and (x.dtype == self._w.dtype or (x.dtype == np.uint8 and self.takes_pixels)):
            if x.shape[1:] == self._input_shape and len(x) and x.flags.carray:
                return self._lent(x)
        if self._weights.input_shape is not self._input_shape:
            raise InputError(f"{self._weights.label} was built again, so it no longer fits this step. Make new layers for "
                             "each network.")
        return self._lent(self._weights.accept(x))

    def _consume(self, dy):
        """Return (dy as an array, *cache); the cache is gone then."""
        if self._cache is None:
            raise InputError(f"{self._weights.label}: backward needs a forward before it; each backward uses one forward "
                             "up.")
        dy, y = self._lent(as_array(dy, self._weights.label, "dy", self._w.dtype)), self._cache[1]
        if dy.shape != y.shape:
            raise ShapeError(f"{self._weights.label}: expected dy of shape {y.shape}, as forward returned, got {dy.shape}.")
        cache, self._cache = self._cache, None
        return dy, *cache

    def _lent(self, array):
        """Return an array as it is inside a network; a copy where a user calls the step, who may change it."""
        return array if here.lending or array is None else array.copy()

    def _output(self, x):
        return self._handed_on("y", (len(x), *self._output_shape))

    def _input_gradient(self, x):
        return self._handed_on("dx", x.shape) if self._weights.needs_input_gradient else None

    def _handed_on(self, name, shape):
        return self._buffer(name, shape) if here.pool is None else here.pool.get(shape, self._w.dtype)

    def choices(self):
        """Return the mask of ReLU in the last forward."""
        return self._cache[1] > 0,


class ConvReLU(_Fused):
    """Convolution and ReLU (reference.conv2d_relu)."""

    operation = "conv2d_relu"
    takes_pixels = True
    match = staticmethod(lambda layers: _types(layers, Conv2D, ReLU))

    def forward(self, x):
        x = self._accept(x)
        outputs = self._outputs(x)
        self._forward(x, self._w, outputs)
        self._cache = x, *outputs
        return self._lent(outputs[0])

    def backward(self, dy):
        dy, x, *outputs = self._consume(dy)
        dx = self._input_gradient(x)
        self._backward(dy, outputs, x, self._w, dx, self._dw, self._db)
        return self._lent(dx)

    def _outputs(self, x):
        return [self._output(x)]

    def _forward(self, x, w, outputs):
        getattr(self.ops, self.operation)(x, w, self._b, self._strides, self._pads, *outputs)

    def _backward(self, dy, outputs, x, w, dx, dw, db):
        getattr(self.ops, f"{self.operation}_gradient")(dy, *outputs, x, w, self._strides, self._pads, dx, dw, db)


class ConvReLUPool(ConvReLU):
    """Convolution, ReLU and 2x2 max pooling, the last two in either order (reference.conv2d_relu_pool)."""

    operation = "conv2d_relu_pool"

    @staticmethod
    def match(layers):
        if not _types(layers, Conv2D, ReLU, MaxPool2D) and not _types(layers, Conv2D, MaxPool2D, ReLU):
            return False
        pool = layers[1] if isinstance(layers[1], MaxPool2D) else layers[2]
        return pool.pool_size == pool.strides == (2, 2) and pool.pads == (0, 0, 0, 0)

    def choices(self):
        """Return the mask of ReLU in the last forward, and the switches where it lets a gradient through."""
        _, y, switches = self._cache
        return y > 0, np.where(y > 0, switches, np.uint8(0))

    def _outputs(self, x):
        y = self._output(x)
        return [y, self._buffer("switches", y.shape, "uint8")]


class _GreyInput:
    """For a first convolution over three channels: of images that are grey in all of them, as radiographs are, it convolves
    the one plane with the sum of the filters over the channels (reference.grey_planes).

    The image alone decides, so its result does not depend on the batch it is in: a batch that holds both kinds is computed
    in two parts. Its gradient is that of coloured images.
    """

    @classmethod
    def match(cls, layers):
        return super().match(layers) and layers[0].input_shape[2] == 3 and not layers[0].needs_input_gradient

    def forward(self, x):
        x = self._accept(x)
        self._parts = self._split(x)
        self._is_grey = everywhere(self._parts is not None and len(self._parts) == 1)
        if self._parts is None:
            return super().forward(x)
        outputs = self._outputs(x)
        for images, x_part, w in self._parts:
            written = [y[images] for y in outputs]      # views, or copies where the batch holds both kinds
            self._forward(x_part, w, written)
            for y, part in zip(outputs, written):
                if isinstance(images, np.ndarray):
                    y[images] = part
        self._cache = x, *outputs
        return self._lent(outputs[0])

    def backward(self, dy):
        if self._cache is None or not self._is_grey():
            return super().backward(dy)
        dy, x, *outputs = self._consume(dy)
        (_, planes, w), = self._parts
        dw = self._buffer("dw", w.shape)
        self._backward(dy, outputs, planes, w, None, dw, self._db)
        finally_(functools.partial(np.copyto, self._dw, dw))        # that of the sum over channels is that of each
        return None                     # a first layer needs no dx

    def _split(self, x):
        """Return [(which images, those images, the filters to convolve them with)]; None where no image is grey."""
        if self._weights.needs_input_gradient:
            return None
        planes, grey, w = self._buffer("planes", (*x.shape[:3], 1)), self._buffer("grey", (len(x),), "uint8"), self._w
        self.ops.grey_planes(x, planes, grey)
        if not grey.any():
            return None
        merged = self.ops.grey_filters(w)
        if grey.all():
            return [(slice(None), planes, merged)]
        grey, coloured = np.flatnonzero(grey), np.flatnonzero(grey == 0)
        return [(grey, planes[grey], merged), (coloured, x[coloured], w)]


class GreyConvReLU(_GreyInput, ConvReLU):
    """ConvReLU as the first step, over three channels."""


class GreyConvReLUPool(_GreyInput, ConvReLUPool):
    """ConvReLUPool as the first step, over three channels."""


class DenseReLU(_Fused):
    """A dense layer and ReLU (reference.dense_relu)."""

    match = staticmethod(lambda layers: _types(layers, Dense, ReLU))

    def forward(self, x):
        x = self._accept(x)
        y = self._output(x)
        self.ops.dense_relu(x, self._w, self._b, y)
        self._cache = x, y
        return self._lent(y)

    def backward(self, dy):
        dy, x, y = self._consume(dy)
        dx = self._input_gradient(x)
        self.ops.dense_relu_gradient(dy, y, x, self._w, dx, self._dw, self._db)
        return self._lent(dx)


class BatchNormReLU:
    """Batch normalization and ReLU (reference.batch_norm_relu): what lies between them is never written."""

    takes_pixels, in_turn = False, True         # in_turn: its choices are those of its layers, one after another
    match = staticmethod(lambda layers: _types(layers, BatchNormalization, ReLU))

    def __init__(self, layers):
        self.layers = layers

    def forward(self, x):
        return self.layers[0].normalized(x, self.layers[0].ops.batch_norm_relu)

    def backward(self, dy):
        return self.layers[0].differentiated(dy, self.layers[0].ops.batch_norm_relu_gradient)

    def choices(self):
        """Return the mask of ReLU in the last forward."""
        norm = self.layers[0]
        x, mean, variance, gamma, beta, _ = norm._cache
        y = np.empty_like(x)
        norm.ops.batch_norm_relu(x, mean, variance, gamma, beta, norm.epsilon, y)
        return y > 0,


class AddReLU:
    """The sum of two arrays, and ReLU (reference.add_relu)."""

    takes_pixels, in_turn = False, True
    match = staticmethod(lambda layers: _types(layers, Add, ReLU) and len(layers[0].input_shape) == 2)

    def __init__(self, layers):
        self.layers, self.choices = layers, layers[1].choices

    def forward(self, xs):
        (one, other), relu = self.layers[0].accept(xs), self.layers[1]
        y = relu.output("y", one.shape)
        relu.ops.add_relu(one, other, y)
        relu.remember(y)
        return y

    def backward(self, dy):
        return [self.layers[1].backward(dy)] * 2


class FoldedBatchNorm(_Fused):
    """A convolution and batch normalization: in prediction one convolution.

    With its moving statistics batch normalization is a factor and a summand for each filter, y = scale z + shift. The
    convolution applies both where it would add its bias (reference.conv2d_scaled); a depthwise one takes the kernel w scale
    and the bias b scale + shift. So where both are frozen, too. In training, where each batch has statistics of its own, the
    layers run one after another, and so they do for a backward after a prediction; but batch normalization and ReLU in one.
    """

    operation, in_turn = "conv2d_scaled", True
    match = staticmethod(lambda layers: _types(layers, Conv2D, BatchNormalization)
                         or _types(layers, DepthwiseConv2D, BatchNormalization))

    def __init__(self, layers):
        super().__init__(layers)
        self._is_depthwise, self._window = isinstance(layers[0], DepthwiseConv2D), (self._strides, self._pads)
        if self._is_depthwise:
            self.operation = self.operation.replace("conv2d_scaled", "depthwise_conv2d")
            self._window += layers[0].dilation_rate,
        pair = BatchNormReLU.match(layers[1:3])
        self._turns = [layers[0], *([BatchNormReLU(layers[1:3]), *layers[3:]] if pair else layers[1:])]

    def forward(self, x):
        if self.layers[1].training and any(layer.trainable for layer in self.layers[:2]):
            self._cache = None
            return self._in_turn(x)
        x = self._accept(x)
        weights, w = (self._b, *(weight.value for weight in self.layers[1].weights)), self._w
        ends = self.ops.derived("ends", (2, *self._b.shape), w.dtype, self._fold, *weights)
        if self._is_depthwise:
            w, ends = self.ops.derived("folded w", w.shape, w.dtype, self._fold_w, w, *weights), ends[1:]
        outputs = self._outputs(x)
        getattr(self.ops, self.operation)(x, w, *ends, *self._window, *outputs)
        self._cache = x,
        return self._lent(outputs[0])

    def _fold(self, ends):
        scale, shift = self.layers[1].as_factors()
        ends[...] = scale, self._b * scale + shift

    def _fold_w(self, w):
        np.multiply(self._w, self.layers[1].as_factors()[0].reshape(self._w.shape[2:]).astype(w.dtype), out=w)

    def backward(self, dy):
        if self._cache is not None:
            self._in_turn(*self._cache)
            self._cache = None
        for one in self._turns[::-1]:
            dy = one.backward(dy)
        return dy

    def choices(self):
        """Return the masks and switches that the layers took, where they ran one after another."""
        return () if self._cache is not None else tuple(choice for one in self._turns for choice in one.choices())

    def _outputs(self, x):
        return [self._output(x)]

    def _in_turn(self, x):
        for one in self._turns:
            x = one.forward(x)
        return x


class FoldedBatchNormReLU(FoldedBatchNorm):
    """The same, and ReLU."""

    operation = "conv2d_scaled_relu"
    match = staticmethod(lambda layers: _types(layers, Conv2D, BatchNormalization, ReLU)
                         or _types(layers, DepthwiseConv2D, BatchNormalization, ReLU))


class FoldedBatchNormReLUPool(FoldedBatchNorm):
    """The same, and ReLU and 2x2 max pooling in either order."""

    operation = "conv2d_scaled_relu_pool"
    match = staticmethod(lambda layers: _types(layers[1:2], BatchNormalization)
                         and ConvReLUPool.match([*layers[:1], *layers[2:]]))

    def _outputs(self, x):
        y = self._output(x)
        return [y, self._buffer("switches", y.shape, "uint8")]


# (how many layers, the step): the longest first, and of equal ones the narrower.
PATTERNS = [(4, FoldedBatchNormReLUPool), (3, GreyConvReLUPool), (3, ConvReLUPool), (3, FoldedBatchNormReLU),
            (2, GreyConvReLU), (2, ConvReLU), (2, FoldedBatchNorm), (2, DenseReLU), (2, BatchNormReLU), (2, AddReLU)]


def _types(layers, *types):
    """Whether these are layers of exactly these types: a subclass may compute something else, and so do ReLU(max_value),
    a convolution in groups or with dilated windows, and a layer with an activation of its own."""
    return len(layers) == len(types) and all(type(layer) is kind and getattr(layer, "max_value", None) is None
                                             and getattr(layer, "is_plain", True)
                                             and getattr(layer, "activation", None) is None
                                             for layer, kind in zip(layers, types))


class Pool(pool.Pool):
    """The pool of a network's memory, and sums that lie in it."""

    def __reduce__(self):
        return Pool, ()

    def add(self, one, other):
        """Return one + other of the same shape and dtype."""
        total = self.get(one.shape, one.dtype)
        add(one, other, total)
        return total


# ---- Parameters in one piece of memory -------------------------------------------------------------------------------

class PackedParameters(Parameters):
    """The parameters of a network of which those that are `ours` move into one array, their gradients into another.

    An optimizer then passes over all of them at once, and one look tells whether every gradient is finite. Each begins
    on a cache line; the gaps between hold zeros. A parameter of a custom layer stays where it is, because its
    layer may compute with the array that it made the parameter of.

    Parameters
    ----------
    parameters : list of Parameter
    ours : list of bool; which of them may move

    >>> from minicnn.core.parameter import Parameter
    >>> both = PackedParameters([Parameter("w", np.ones((2, 3))), Parameter("b", np.zeros(2))], [True, True])
    >>> [(value.size, grad.size) for value, grad in both.pieces()]
    [(16, 16)]
    """

    def __new__(cls, parameters, ours):
        return super().__new__(cls, parameters)

    def __init__(self, parameters, ours):
        self.layout = tuple((mine and p.value.dtype == self[0].value.dtype, p.value.shape, p.value.dtype)
                            for p, mine in zip(self, ours))
        self._left = Parameters(p for p, (packed, *_) in zip(self, self.layout) if not packed)
        self._values, self._grads = self.zeros(), self.zeros()
        for parameter, value, grad, (packed, *_) in zip(self, self._values, self._grads, self.layout):
            if packed:
                value[...] = parameter.value
                if parameter.grad.any():            # zeros that nobody has written take no memory
                    grad[...] = parameter.grad
                parameter.hold(value, grad)

    def __reduce__(self):
        """A copy, or what a pickle gives, moves the copied parameters into one array of its own."""
        return PackedParameters, (list(self), [packed for packed, *_ in self.layout])

    def zeros(self):
        return _Views(self.layout)

    def pieces(self, *slots, each=False):
        """Yield first the piece with all that moved, then one for each other; each alone where one that moved is frozen."""
        if each or not all(parameter.trainable or not packed for parameter, (packed, *_) in zip(self, self.layout)):
            yield from super().pieces(*slots)
            return
        if len(self._left) < len(self):
            yield self._values.flat, self._grads.flat, *(slot.flat for slot in slots)
        yield from self._left.pieces(*([array for array, (packed, *_) in zip(slot, self.layout) if not packed]
                                       for slot in slots))


class _Views(list):
    """An array for each parameter of a layout, with zeros or the numbers of `arrays`; those of parameters which moved are
    views of the array `flat`."""

    def __init__(self, layout, arrays=()):
        sizes = [-(-math.prod(shape) * dtype.itemsize // 64) * 64 // dtype.itemsize if packed else 0
                 for packed, shape, dtype in layout]
        self.layout, self.flat = layout, aligned(sum(sizes), layout[0][2] if layout else np.float32, np.zeros)
        super().__init__(self.flat[first:first + math.prod(shape)].reshape(shape) if packed else np.zeros(shape, dtype)
                         for first, (packed, shape, dtype) in zip(np.cumsum([0, *sizes[:-1]]), layout))
        for mine, array in zip(self, arrays):
            mine[...] = array

    def __reduce__(self):
        """In a copy, or what a pickle gives, they are views of its own flat array."""
        return _Views, (self.layout, list(self))
