"""What all layers share: shapes, parameters, forward and backward. The arithmetic is the engine's (`reference` or `kernels`).

The idiom. `infer` computes the output shape and the parameters' shapes, in whole numbers; `build` makes the parameters.
`forward` ends by writing the cache, all that backward must remember; `backward` begins by consuming it, so a second
call raises. Gradients are overwritten, not accumulated. A layer never writes to its input.

Inside a network what a layer returns is a buffer of its own, valid until its next call, and what it remembers is not
copied: the network makes sure that neither changes. A layer that a user calls returns new arrays, and remembers copies.

A custom layer needs no base class: `build(input_shape) -> output_shape` (shapes without N), `forward(x) -> y`,
`backward(dy) -> dx`, and where it learns, `parameters`, a list of Parameter. Layers of ours that it builds in its `build`
take dtype, engine and seed of the network.
"""

import math

import numpy as np

from minicnn.core.arguments import Flag, Having, OrNone, Whole, check, check_all, said
from minicnn.core.backend import get_engine
from minicnn.core.memory import Buffers, aligned, here
from minicnn.core.parameter import Parameter
from minicnn.core.random import check_seed
from minicnn.core.validation import as_array, check_batch
from minicnn.errors import DTypeError, InputError, ShapeError
from minicnn.initializers import initialize

__all__ = ["Layer", "LAYERS", "NAME", "Settled", "lending", "register"]

LAYERS = {}         # the closed table of layers that a model file may name: those imported so far; layers.LAYERS has all
REGULARIZER = OrNone(Having("penalty", "a regularizer, such as L2(1e-4)"))
NAME = r"[A-Za-z0-9_.-]{1,64}"


def register(*layers):
    """Put layers of minicnn into the table."""
    LAYERS.update({layer.__name__: layer for layer in layers})


class lending:
    """Within it, layers hand each other their buffers, or arrays of a pool, as within a network."""

    def __init__(self, pool=None):
        self._pool = pool

    def __enter__(self):
        self._before, here.lending, here.pool = (here.lending, here.pool), True, self._pool

    def __exit__(self, *error):
        here.lending, here.pool = self._before


class Settled:
    """Set once, when the layer is made or built: kernels trust it."""

    # There is no __get__: Python finds the value in the object itself, as fast as any other.
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
    statistics : tuple of Parameter that no optimizer changes: what `moved` says of them, after each step of training
    input_shape, output_shape : tuples of int without N; None before `build`
    training : bool; only Dropout and BatchNormalization behave differently
    needs_input_gradient : bool; a network clears it on its first layer, whose dx is not needed
    """

    several = False     # whether it merges several arrays: shapes, batches and gradients are then lists
    fields = {}         # {argument of the constructor: what it may be}; a model file keeps them
    unsaid = {}         # {argument: the default that is not kept, and not printed}; models of before know no such argument
    _trainable = True
    untrained = ()      # the names of those that `infer` lists which are statistics
    dtype, input_shape, output_shape, parameters, statistics = (Settled() for _ in range(5))

    def __init_subclass__(cls):
        for field in cls.fields:
            if not hasattr(cls, field):
                setattr(cls, field, Settled())
                vars(cls)[field].__set_name__(cls, field)

    def __init__(self, name=None, **arguments):
        self.name = name
        vars(self).update(check_all(self.label, self.fields, arguments))
        self.training = False
        self.needs_input_gradient = True
        self._buffers = Buffers()
        self._host = None
        self._configure(np.float32, "fast", 0, 0)

    def configure(self, dtype=np.float32, engine="fast", seed=0, index=0):
        """Choose dtype (float32 or float64), engine, seed and the layer's number in its network; before `build`."""
        if np.dtype(dtype).newbyteorder("=") not in (np.float32, np.float64):
            raise DTypeError(f"{self.label}: dtype must be float32 or float64, got {dtype!r}.")
        check_seed(seed)
        if here.host is not None and self._host is not here.host:
            here.host.layers.append(self)
        self._host = here.host
        self._configure(dtype, engine, seed, index)

    def _configure(self, dtype, engine, seed, index):
        vars(self).update(dtype=np.dtype(dtype).newbyteorder("="), input_shape=None, output_shape=None, parameters=(),
                          statistics=())
        self._engine, self._ops, self._cache = engine, None, None
        self.seed, self.index = seed, index

    def __getstate__(self):
        """What a copy or a pickle keeps: nothing of a pass under way, nor the engine's code."""
        return vars(self) | {"_ops": None, "_cache": None, "_buffers": Buffers()}

    @property
    def trainable(self):
        """Whether training changes the parameters, of layers in this one too; False freezes them at any time."""
        return self._trainable

    @trainable.setter
    def trainable(self, value):
        self._trainable = check(self.label, "trainable", value, Flag())
        for layer in getattr(self, "layers", ()):
            layer.trainable = self._trainable

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

    def __call__(self, x):
        """Return the node that this layer makes of a node (nodes.py), or of a list of nodes; or of a batch, its output."""
        if hasattr(x, "__array__"):
            if self.input_shape is None:
                self.build(np.shape(x)[1:])
            return self.forward(x)
        from minicnn.layers.nodes import connect        # of graphs, which the first evening leaves out
        return connect(self, x)

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
        self._host = here.host
        shapes = [tuple(check(self.label, "input_shape", size, Whole()) for size in shape)
                  for shape in (input_shape if self.several else [input_shape])]
        input_shape = shapes if self.several else shapes[0]
        output_shape, laws = self.infer(input_shape)
        # Each parameter of a network is drawn under its own number: layer index, then place in the layer.
        made = [Parameter(name, initialize(law, shape, self.dtype, self.seed, self.index * 16 + i))
                for i, (name, shape, law) in enumerate(laws)]
        for parameter in made:
            parameter.regularizer = getattr(self, f"{parameter.name}_regularizer", None)
        vars(self).update(input_shape=input_shape, output_shape=output_shape,
                          parameters=tuple(one for one in made if one.name not in self.untrained),
                          statistics=tuple(one for one in made if one.name in self.untrained))
        self._cache = None
        return output_shape

    def forward(self, x):
        """Return the layer's output for the batch x; override."""
        raise NotImplementedError

    def backward(self, dy):
        """Return dx, and overwrite the gradients of the parameters; override."""
        raise NotImplementedError

    def moved(self):
        """Return [(statistic, its new value)] after the last forward, once: a network sets them after a finite step."""
        return []

    def choices(self):
        """Return the masks and switches that the last forward took; a check asks whether a step changes them."""
        return ()

    def receptive_field(self, field):
        """Return the core.receptive_field.Field of this layer's outputs from that of its inputs."""
        return field

    def flops(self):
        """Return the floating-point operations of one sample's forward pass."""
        return math.prod(self.output_shape)

    @property
    def weights(self):
        """Parameters, then statistics; a list."""
        return [*self.parameters, *self.statistics]

    @property
    def trainable_weights(self):
        """The parameters, unless they are frozen; a list."""
        return [*self.parameters] if self.trainable else []

    def get_weights(self):
        """Return copies of the arrays of `weights`."""
        return [weight.value.copy() for weight in self.weights]

    def set_weights(self, arrays):
        """Set `weights` from arrays of their shapes; all or none."""
        arrays = list(arrays)
        if len(arrays) != len(self.weights):
            raise ShapeError(f"{self.label}: expected {len(self.weights)} arrays, as get_weights() returns, got "
                             f"{len(arrays)}.")
        fitting = [weight.fitting(array).copy() for weight, array in zip(self.weights, arrays)]
        for weight, array in zip(self.weights, fitting):
            weight.value = array

    def count_params(self):
        """Return how many numbers the weights hold."""
        return sum(weight.value.size for weight in self.weights)

    def get_config(self):
        """Return `config()`, as Keras calls it."""
        return self.config()

    def config(self):
        """Return what a model file keeps: {"type": ..., "name": ..., the constructor's arguments}."""
        kept = {field: value.config() if hasattr(value, "config") else value for field, value in said(self).items()}
        return {"type": type(self).__name__, "name": self.name} | kept | ({} if self.trainable else {"trainable": False})

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(f'{field}={value!r}' for field, value in said(self).items())})"

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
            raise InputError(f"{self.label}: it runs inside a custom layer, and was not built there. Call its build "
                             "in the build of the custom layer: it then takes the network's dtype, engine and seed.")
        for parameter in self.parameters:
            if parameter.value.dtype != self.dtype:
                raise DTypeError(f"{self.label}: it computes in {self.dtype}, and its {parameter.name} is "
                                 f"{parameter.value.dtype}. Call its build in the build of the layer that holds it.")

    def remember(self, *cache):
        """Keep what backward needs; copies of it where the caller may still change it."""
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

    def output(self, name, shape):
        """Return a `buffer` for what forward or backward hands on: in a network it is there until nothing needs it."""
        return self.buffer(name, shape) if here.pool is None else here.pool.get(shape, self.dtype)
