"""The layers: shapes, parameters, forward and backward. The arithmetic is the engine's (`reference` or `kernels`).

The idiom. `infer` computes the output shape and the parameters' shapes, in whole numbers; `build` makes the parameters.
`forward` ends by writing the cache, all that backward must remember; `backward` begins by consuming it, so a second
call raises. Gradients are overwritten, not accumulated. A layer never writes to its input.

Inside a network what a layer returns is a buffer of its own, valid until its next call, and what it remembers is not
copied: the network sees to it that nobody changes either. A layer called by hand returns nothing that it will write to
again, and remembers copies.

A layer of your own needs no base class: `build(input_shape) -> output_shape` (shapes without N), `forward(x) -> y`,
`backward(dy) -> dx`, and where it learns, `parameters`, a list of Parameter. Layers of ours that it builds in its `build`
take dtype, engine and seed of the network.
"""

import threading
from contextlib import contextmanager

import numpy as np

from minicnn.arrays import as_array, check_batch
from minicnn.buffers import Buffers, aligned
from minicnn.engines import get_engine
from minicnn.errors import DTypeError, InputError, ShapeError
from minicnn.initializers import INITIALIZERS, initialize
from minicnn.parameter import Parameter
from minicnn.shapes import PADDINGS, pair, positive_int, window
from minicnn.streams import Stream, uniforms

__all__ = ["Layer", "Conv2D", "MaxPool2D", "AveragePool2D", "Flatten", "Dense", "ReLU", "Sigmoid", "Tanh", "Softmax",
           "Dropout", "LAYERS", "Host", "here", "refuse_freezing"]


class _Here(threading.local):
    """What the calling thread is in the middle of.

    lending : bool; a network runs its own steps, and each reads the buffer of the one before at once
    host : Host whose layer of the user's own is being built or run, or None
    """

    lending, host = False, None


here = _Here()


class Host:
    """What the layers of a network share: dtype, engine and seed, whether they train, and the number of the step.

    Layers of ours that a layer of the user's own builds are taken in, wherever it keeps them: each is given a number of
    its own, so that no two begin with the same weights, and dropout in them drops.

    Attributes
    ----------
    layers : list of Layer, all that were configured or built `within`
    lost : str, a layer that was built again since, or None
    """

    def __init__(self, dtype, engine, seed):
        self.dtype, self.engine, self.seed, self.lost = dtype, engine, seed, None
        self.layers, self.training, self.step_number, self._place = [], False, 0, 0

    @contextmanager
    def within(self, place=0):
        """Take in the layers that are built until the end; `place` is the number of the layer that builds them."""
        before, lending = here.host, here.lending
        here.host, here.lending, self._place = self, False, place
        try:
            yield
        finally:
            here.host, here.lending = before, lending

    def take_in(self, layer):
        """Configure a layer of ours inside a layer of the user's own. Its number is none that a layer in a row has."""
        layer.configure(self.dtype, self.engine, self.seed, ((self._place + 1) << 16) + len(self.layers))
        layer.training, layer.step_number = self.training, self.step_number

    def tell(self, training, step_number):
        """Tell all layers whether they train, and in which step."""
        self.training, self.step_number = training, step_number
        for layer in self.layers:
            layer.training, layer.step_number = training, step_number


class _Settled:
    """An attribute of a layer that kernels trust: set once, when a layer of ours is made or built.

    There is no `__get__`: Python then finds the value in the object itself, as fast as any other.
    """

    def __set_name__(self, owner, name):
        self.name = name

    def __set__(self, layer, value):
        if self.name in vars(layer) and isinstance(layer, tuple(LAYERS.values())):
            arguments = ", ".join(f"{field}=..." for field in layer.fields)
            raise InputError(f"{layer.label}: {self.name} cannot be changed once the layer is made. Make a new one, "
                             f"{type(layer).__name__}({arguments}), and a new network of it.")
        vars(layer)[self.name] = value


class Layer:
    """Base of our layers: names, checks, buffers, dtype and engine.

    Attributes
    ----------
    name : str, unique within a network
    parameters : tuple of Parameter; empty before `build`
    input_shape, output_shape : tuples of int without N; None before `build`
    training : bool; only Dropout behaves differently
    needs_input_gradient : bool; a network clears it on its first layer, whose dx nobody wants
    """

    fields = ()         # the constructor's arguments: what a model file keeps of a layer
    dtype, input_shape, output_shape, parameters = _Settled(), _Settled(), _Settled(), _Settled()

    def __init_subclass__(cls):
        for field in cls.fields:
            if not hasattr(cls, field):
                setattr(cls, field, _Settled())
                vars(cls)[field].__set_name__(cls, field)

    def __init__(self, name=None):
        self.name = name
        self.training = False
        self.needs_input_gradient = True
        self._buffers = Buffers()
        self._host = None
        self._configure(np.float32, "fast", 0, 0)

    def configure(self, dtype=np.float32, engine="fast", seed=0, index=0):
        """Choose dtype, engine, seed and the layer's number in its network. The layer is to be built after it.

        Raises DTypeError for a dtype other than float32 and float64.
        """
        if np.dtype(dtype).newbyteorder("=") not in (np.float32, np.float64):
            raise DTypeError(f"{self.label}: dtype must be float32 or float64, got {dtype!r}.")
        self._unbuild()
        if here.host is not None and self._host is not here.host:
            here.host.layers.append(self)
        self._host = here.host
        self._configure(dtype, engine, seed, index)

    def _configure(self, dtype, engine, seed, index):
        vars(self).update(dtype=np.dtype(dtype).newbyteorder("="), input_shape=None, output_shape=None, parameters=())
        self._engine, self._ops, self._cache = engine, None, None
        self.seed, self.index = seed, index

    def _unbuild(self):
        """Tell the network that this layer was built for, if there is one, that it has lost it."""
        if self._host is not None and self.input_shape is not None:
            self._host.lost = self.label

    def __getstate__(self):
        """What a copy or a pickle keeps: nothing of a network, nor of a pass under way."""
        return vars(self) | {"_host": None, "_ops": None, "_cache": None, "_buffers": Buffers()}

    @property
    def trainable(self):
        """True: a layer cannot be frozen yet."""
        return True

    @trainable.setter
    def trainable(self, value):
        refuse_freezing(self.label, value)

    @property
    def ops(self):
        """The operations of the engine; kernels are imported at first use."""
        if self._ops is None:
            self._ops = get_engine(self._engine)
        return self._ops

    @property
    def label(self):
        """How errors call this layer: Conv2D 'conv2d_1'."""
        return type(self).__name__ + (f" {self.name!r}" if self.name else "")

    def infer(self, input_shape):
        """Return (output_shape, [(name, shape, initializer) of each parameter]); override in each layer."""
        return input_shape, []

    def build(self, input_shape):
        """Make the parameters for inputs of `input_shape` (without N); return the output shape.

        Raises ShapeError if the layer cannot take such inputs.
        """
        if not isinstance(input_shape, (tuple, list)):
            raise InputError(f"{self.label}: input_shape must be a tuple such as (64, 64, 3), got {input_shape!r}.")
        if here.host is not None and self._host is not here.host:
            here.host.take_in(self)
        self._unbuild()
        input_shape = tuple(positive_int(size, self.label, "input_shape") for size in input_shape)
        output_shape, laws = self.infer(input_shape)
        # Each parameter of a network is drawn under its own number: layer index, then place in the layer.
        parameters = tuple(Parameter(name, initialize(law, shape, self.dtype, self.seed, self.index * 16 + i))
                           for i, (name, shape, law) in enumerate(laws))
        vars(self).update(input_shape=input_shape, output_shape=output_shape, parameters=parameters)
        self._cache = None
        return output_shape

    def forward(self, x):
        """Return the layer's output for the batch x; override."""
        raise NotImplementedError

    def backward(self, dy):
        """Return dx, and overwrite the gradients of the parameters; override."""
        raise NotImplementedError

    def choices(self):
        """Return the masks and switches that the last forward took; a check asks whether a step changes them."""
        return ()

    def flops(self):
        """Return the floating-point operations of one sample's forward pass."""
        return _size(self.output_shape)

    def config(self):
        """Return what a model file keeps: {"type": ..., "name": ..., the constructor's arguments}."""
        return {"type": type(self).__name__, "name": self.name} | {field: getattr(self, field) for field in self.fields}

    def __repr__(self):
        arguments = ", ".join(f"{field}={getattr(self, field)!r}" for field in self.fields)
        return f"{type(self).__name__}({arguments})"

    # -- for the layers below --

    def accept(self, x):
        """Return x as a batch this layer can compute with, or raise."""
        if self.input_shape is None:
            raise InputError(f"{self.label}: not built yet. Call build(input_shape) first, or put it into a Sequential.")
        if here.lending:
            if type(x) is np.ndarray and x.dtype == self.dtype and x.shape[1:] == self.input_shape and len(x) \
                    and x.flags.carray:
                return x        # what one layer of ours hands to the next, at once
        else:
            self._check_configured()
        x = as_array(x, self.label, "x", self.dtype)
        check_batch(x, self.input_shape, self.label, "x")
        return x

    def _check_configured(self):
        """Raise unless the layer was configured for where it is called by hand."""
        if here.host is not None and self._host is not here.host:
            raise InputError(f"{self.label}: it runs inside a layer of your own, and was not built there. Call its build "
                             "in the build of your layer: it then takes the network's dtype, engine and seed.")
        for parameter in self.parameters:
            if parameter.value.dtype != self.dtype:
                raise DTypeError(f"{self.label}: it computes in {self.dtype}, and its {parameter.name} is "
                                 f"{parameter.value.dtype}. Call its build in the build of the layer that holds it, or "
                                 f"configure(dtype={parameter.value.dtype.name!r}) before its build.")

    def remember(self, *cache):
        """Keep what backward needs; copies of it where whoever called may still change it."""
        self._cache = cache if here.lending else tuple(np.array(kept) if isinstance(kept, np.ndarray) else kept
                                                       for kept in cache)

    def consume(self, dy):
        """Return (dy as an array, *cache); the cache is gone then."""
        if self._cache is None:
            raise InputError(f"{self.label}: backward needs a forward before it; each backward uses one forward up.")
        dy = as_array(dy, self.label, "dy", self.dtype)
        expected = (len(self._cache[0]),) + self.output_shape
        if dy.shape != expected:
            raise ShapeError(f"{self.label}: expected dy of shape {expected}, as forward returned, got {dy.shape}.")
        cache, self._cache = self._cache, None
        return dy, *cache

    def buffer(self, name, shape, dtype=None):
        """Return an array with undefined contents: a buffer inside a network, else a new one, for it is handed out."""
        dtype = self.dtype if dtype is None else dtype
        return self._buffers.get(name, shape, dtype) if here.lending else aligned(shape, dtype)


class _Windowed(Layer):
    """What convolution and pooling share: a window that moves over the image, its size in the field `window`."""

    window = None
    pads = _Settled()

    def build(self, input_shape):
        output_shape = super().build(input_shape)
        vars(self)["pads"] = _windows(self, self.input_shape)[1]
        return output_shape


class Conv2D(_Windowed):
    """Convolve images with F filters of KH x KW (paper, section 3.2; reference.conv2d).

    (H, W, C) -> (OH, OW, F), OH = (H - KH) // SH + 1 for `valid` padding, ceil(H / SH) for `same`.
    Parameters: kernel (KH, KW, C, F) and bias (F,).

    Parameters
    ----------
    filters : int >= 1
    kernel_size, strides : int or two ints (height, width)
    padding : "valid" or "same"
    kernel_initializer : see initializers.py; the bias starts at 0

    >>> layer = Conv2D(32, 3)
    >>> layer.build((64, 64, 3)), [p.value.shape for p in layer.parameters]
    ((62, 62, 32), [(3, 3, 3, 32), (32,)])
    """

    fields = ("filters", "kernel_size", "strides", "padding", "kernel_initializer")
    window = "kernel_size"

    def __init__(self, filters, kernel_size, strides=1, padding="valid", kernel_initializer="glorot_uniform", name=None):
        super().__init__(name)
        self.filters = positive_int(filters, self.label, "filters")
        self.kernel_size = pair(kernel_size, self.label, "kernel_size")
        self.strides = pair(strides, self.label, "strides")
        self.padding = _choice(padding, PADDINGS, self.label, "padding")
        self.kernel_initializer = _choice(kernel_initializer, INITIALIZERS, self.label, "kernel_initializer")

    def infer(self, input_shape):
        (OH, OW), _ = _windows(self, input_shape)
        C, F = input_shape[2], self.filters
        return (OH, OW, F), [("kernel", self.kernel_size + (C, F), self.kernel_initializer), ("bias", (F,), "zeros")]

    def forward(self, x):
        x = self.accept(x)
        y = self.buffer("y", (len(x),) + self.output_shape)
        w, b = self.parameters
        self.ops.conv2d(x, w.value, b.value, self.strides, self.pads, y)
        self.remember(x, w.value)
        return y

    def backward(self, dy):
        dy, x, w_value = self.consume(dy)
        w, b = self.parameters
        self.ops.conv2d_weight_gradient(dy, x, self.kernel_size, self.strides, self.pads, w.grad, b.grad)
        if not self.needs_input_gradient:
            return None
        dx = self.buffer("dx", x.shape)
        self.ops.conv2d_input_gradient(dy, w_value, x.shape[1:3], self.strides, self.pads, dx)
        return dx

    def flops(self):
        """Two for each product of a window and a filter (the bias is not counted)."""
        KH, KW, C, F = self.parameters[0].value.shape
        return 2 * KH * KW * C * _size(self.output_shape)


class _Pool2D(_Windowed):
    """What max and average pooling share: their arguments and shapes."""

    fields = ("pool_size", "strides", "padding")
    window = "pool_size"

    def __init__(self, pool_size=2, strides=None, padding="valid", name=None):
        super().__init__(name)
        self.pool_size = pair(pool_size, self.label, "pool_size")
        self.strides = self.pool_size if strides is None else pair(strides, self.label, "strides")
        self.padding = _choice(padding, PADDINGS, self.label, "padding")
        if self.pool_size[0] * self.pool_size[1] > 2**16:
            raise InputError(f"{self.label}: pool_size {self.pool_size} has more than 65,536 positions.")

    def infer(self, input_shape):
        (OH, OW), _ = _windows(self, input_shape)
        return (OH, OW, input_shape[2]), []

    def flops(self):
        """One for each number of each window after the first."""
        return (self.pool_size[0] * self.pool_size[1] - 1) * _size(self.output_shape)


class MaxPool2D(_Pool2D):
    """Keep the largest number of each window and channel (paper, section 3.2; reference.max_pool2d).

    Ties go to the first position, a NaN in the window to the output. Rows and columns that no window reaches are dropped.

    Parameters
    ----------
    pool_size : int or two ints (height, width)
    strides : int or two ints; the pool size where None
    padding : "valid" or "same"

    >>> MaxPool2D(2).build((29, 29, 32))
    (14, 14, 32)
    """

    def forward(self, x):
        x = self.accept(x)
        y = self.buffer("y", (len(x),) + self.output_shape)
        switches = self.buffer("switches", y.shape, np.uint16)
        self.ops.max_pool2d(x, self.pool_size, self.strides, self.pads, y, switches)
        self.remember(switches)
        return y

    def backward(self, dy):
        dy, switches = self.consume(dy)
        dx = self.buffer("dx", (len(dy),) + self.input_shape)
        self.ops.max_pool2d_gradient(dy, switches, self.input_shape[:2], self.pool_size, self.strides, self.pads, dx)
        return dx

    def choices(self):
        return self._cache[0],


class AveragePool2D(_Pool2D):
    """Take the mean of each window and channel, over the pixels inside the image (reference.average_pool2d).

    Arguments as for MaxPool2D.

    >>> AveragePool2D(2).build((4, 4, 1))
    (2, 2, 1)
    """

    def forward(self, x):
        x = self.accept(x)
        y = self.buffer("y", (len(x),) + self.output_shape)
        self.ops.average_pool2d(x, self.pool_size, self.strides, self.pads, y)
        self.remember(y)
        return y

    def backward(self, dy):
        dy, _ = self.consume(dy)
        dx = self.buffer("dx", (len(dy),) + self.input_shape)
        self.ops.average_pool2d_gradient(dy, self.input_shape[:2], self.pool_size, self.strides, self.pads, dx)
        return dx


class Flatten(Layer):
    """Lay each sample out as one row, in row-major order. A view: nothing is computed or copied.

    >>> Flatten().build((12, 12, 32))
    (4608,)
    """

    def infer(self, input_shape):
        return (_size(input_shape),), []

    def forward(self, x):
        x = self.accept(x)
        self.remember(x)
        return x.reshape(len(x), -1)

    def backward(self, dy):
        dy, x = self.consume(dy)
        return dy.reshape(x.shape)

    def flops(self):
        """None: nothing is computed."""
        return 0


class Dense(Layer):
    """Multiply by a matrix and add a bias: (D,) -> (F,), y = x @ kernel + bias (reference.dense).

    Parameters: kernel (D, F) and bias (F,).

    >>> layer = Dense(128)
    >>> layer.build((4608,)), sum(p.value.size for p in layer.parameters)
    ((128,), 589952)
    """

    fields = ("units", "kernel_initializer")

    def __init__(self, units, kernel_initializer="glorot_uniform", name=None):
        super().__init__(name)
        self.units = positive_int(units, self.label, "units")
        self.kernel_initializer = _choice(kernel_initializer, INITIALIZERS, self.label, "kernel_initializer")

    def infer(self, input_shape):
        if len(input_shape) != 1:
            raise ShapeError(f"{self.label}: expected one row a sample, (D,), got {input_shape}. "
                             "Put a Flatten() before this layer.")
        D, F = input_shape[0], self.units
        return (F,), [("kernel", (D, F), self.kernel_initializer), ("bias", (F,), "zeros")]

    def forward(self, x):
        x = self.accept(x)
        y = self.buffer("y", (len(x), self.units))
        w, b = self.parameters
        self.ops.dense(x, w.value, b.value, y)
        self.remember(x, w.value)
        return y

    def backward(self, dy):
        dy, x, w_value = self.consume(dy)
        w, b = self.parameters
        self.ops.dense_weight_gradient(dy, x, w.grad, b.grad)
        if not self.needs_input_gradient:
            return None
        dx = self.buffer("dx", x.shape)
        self.ops.dense_input_gradient(dy, w_value, dx)
        return dx

    def flops(self):
        """Two for each weight (the bias is not counted)."""
        return 2 * self.parameters[0].value.size


class _Activation(Layer):
    """An activation whose gradient follows from its output: `operation` names it and its gradient in the engines."""

    operation = None

    def forward(self, x):
        x = self.accept(x)
        y = self.buffer("y", x.shape)
        getattr(self.ops, self.operation)(x, y)
        self.remember(y)
        return y

    def backward(self, dy):
        dy, y = self.consume(dy)
        dx = self.buffer("dx", y.shape)
        getattr(self.ops, self.operation + "_gradient")(dy, y, dx)
        return dx


class ReLU(_Activation):
    """max(x, 0), element by element; the gradient at 0 is 0 (reference.relu)."""

    operation = "relu"

    def choices(self):
        return self._cache[0] > 0,


class Sigmoid(_Activation):
    """1 / (1 + exp(-x)), element by element (reference.sigmoid). As the last layer it is folded into the loss."""

    operation = "sigmoid"


class Tanh(_Activation):
    """Hyperbolic tangent, element by element (reference.tanh)."""

    operation = "tanh"


class Softmax(_Activation):
    """exp(x) over its sum along the last axis (reference.softmax). As the last layer it is folded into the loss."""

    operation = "softmax"


class Dropout(Layer):
    """While training, drop each number with probability `rate` and divide the rest by 1 - rate; else do nothing.

    What is dropped depends on the seed, the layer's index, the step of training and the sample's place in the batch,
    and on nothing else (reference.dropout; Srivastava et al. 2014).

    Attributes
    ----------
    step_number : int, set by the network: the number of updates done so far

    >>> layer = Dropout(0.5)
    >>> _ = layer.build((4,)); layer.forward(np.ones((1, 4))).tolist()
    [[1.0, 1.0, 1.0, 1.0]]
    """

    fields = ("rate",)

    def __init__(self, rate, name=None):
        super().__init__(name)
        if isinstance(rate, bool) or not isinstance(rate, (int, float, np.number)) or not 0 <= rate < 1:
            raise InputError(f"{self.label}: rate must lie in [0, 1), got {rate!r}.")
        self.rate = float(rate)
        self.step_number = 0

    def forward(self, x):
        x = self.accept(x)
        if not self.training or self.rate == 0:
            self.remember(x, None)
            return x
        keep = self.buffer("keep", x.shape, np.bool_)
        for i in range(len(x)):
            drawn = uniforms(self.seed, Stream.DROPOUT, self.step_number, self.index << 32 | i, x[i].size)
            np.greater_equal(drawn.reshape(x[i].shape), self.rate, out=keep[i])
        y = self.buffer("y", x.shape)
        self.ops.dropout(x, keep, self.rate, y)
        self.remember(x, keep)
        return y

    def backward(self, dy):
        dy, x, keep = self.consume(dy)
        if keep is None:
            return dy
        dx = self.buffer("dx", x.shape)
        self.ops.dropout(dy, keep, self.rate, dx)
        return dx


# The closed table of layers that a model file may name.
LAYERS = {layer.__name__: layer for layer in (Conv2D, MaxPool2D, AveragePool2D, Flatten, Dense, ReLU, Sigmoid, Tanh,
                                              Softmax, Dropout)}


def _size(shape):
    size = 1
    for length in shape:
        size *= length
    return size


def _choice(value, choices, owner, argument):
    if value not in choices:
        raise InputError(f"{owner}: {argument} must be one of {', '.join(choices)}, got {value!r}.")
    return value


def refuse_freezing(owner, trainable):
    """Raise InputError where `trainable` is false: it would be ignored."""
    if not trainable:
        raise InputError(f"{owner}: trainable = False would be ignored, for layers cannot be frozen yet. Keep the weights "
                         "that get_weights() returns, and put them back with set_weights() after each epoch.")


def _windows(layer, input_shape):
    """Return ((OH, OW), pads) of a layer's windows over inputs of `input_shape`; errors name the layer and the axis."""
    if len(input_shape) != 3:
        raise ShapeError(f"{layer.label}: expected images, (H, W, C), got inputs of shape {input_shape}.")
    axes = []
    for name, size, kernel, stride in zip(("height", "width"), input_shape, getattr(layer, layer.window), layer.strides):
        try:
            axes.append(window(size, kernel, stride, layer.padding))
        except ShapeError as error:
            raise ShapeError(f"{layer.label}: along the {name} of inputs {input_shape}, {error}.") from None
    rows, columns = axes
    return (rows.out, columns.out), (rows.before, rows.after, columns.before, columns.after)
