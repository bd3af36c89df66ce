"""Custom layers, written by users, and the built-in layers inside them, as steps of a network.

Nothing is known of what they do, so a custom layer is given copies, and what it returns is checked before a kernel reads
it. Network (network.py) runs the result like any other step.
"""

import re
from contextlib import contextmanager

import numpy as np

from minicnn.core.memory import here
from minicnn.core.parameter import Parameter
from minicnn.core.validation import as_array, check_batch
from minicnn.errors import DTypeError, InputError, ShapeError
from minicnn.layers.base import NAME, Layer
from minicnn.layers.naming import numbered

__all__ = ["CustomStep", "Host", "check_protocol", "parameters_of"]


def check_protocol(layers):
    """Raise InputError if a layer is a class, or stands in two places."""
    for i, layer in enumerate(layers):
        if isinstance(layer, type):
            raise InputError(f"Sequential: layer {i} is the class {layer.__name__}; make one: {layer.__name__}(...).")
    if len({id(layer) for layer in layers}) < len(layers):
        raise InputError("Sequential: the same layer stands in two places. Make one for each place.")


class _Gathered(tuple):
    """The parameters of the layers in a custom layer, which has none of its own."""


def parameters_of(layer, owner):
    """Return the parameters of any layer as a tuple; `owner` is who it is in an error.

    A custom layer that lists layers of ours in `layers`, and has no `parameters`, gets theirs, named after the layers:
    conv2d_1/kernel.

    Raises
    ------
    DTypeError
        if one of them is no Parameter
    """
    parameters, held = getattr(layer, "parameters", ()), getattr(layer, "layers", ())
    has_none = not len(parameters) or isinstance(parameters, _Gathered)
    if held and has_none and all(isinstance(one, Layer) for one in held):
        counts, taken = {}, [one.name for one in held]
        for one in held:
            one.name = one.name or numbered(one, counts, taken)
            for weight in one.weights:
                weight.name = f"{one.name}/{weight.name.rpartition('/')[2]}"
        layer.parameters = _Gathered(parameter for one in held for parameter in one.parameters)
    parameters = tuple(getattr(layer, "parameters", ()))
    for parameter in parameters:
        if not isinstance(parameter, Parameter):
            raise DTypeError(f"{owner}: parameter {parameter!r} must hold an array of float32 or float64: make it with "
                             "minicnn.Parameter(name, array).")
    return parameters


class CustomStep:
    """One custom layer, built for inputs of one shape; it runs in place of the network's LayerStep.

    Parameters
    ----------
    layer : object with build, forward and backward, and perhaps parameters, trainable, choices (layers/base.py)
    input_shape : tuple of int without N
    dtype, engine, seed : those of the network, which layers of ours inside this one take too
    index : int; the number of the layer in its network

    Attributes
    ----------
    layers : list of the one layer
    output_shape : tuple of int without N
    needs_input_gradient : bool; whether what backward returns is needed

    Raises
    ------
    ShapeError, DTypeError, InputError
        if the layer returns an array of another shape, not of numbers, or has changed since it was built
    """

    takes_pixels, needs_input_gradient = False, True

    def __init__(self, layer, input_shape, dtype, engine, seed, index):
        self.layers, self.label, self._layer = [layer], f"layer {layer.name!r}", layer
        self._input_shape, self._dtype, self._host = input_shape, dtype, Host(dtype, engine, seed, index)
        with self._host.within():
            if isinstance(layer, Layer):
                layer.configure(dtype, engine, seed, index)
            shape = layer.build(input_shape)
        if not isinstance(shape, tuple) or not all(isinstance(size, (int, np.integer)) and size > 0 for size in shape):
            raise ShapeError(f"{self.label}: build must return the output shape without N, a tuple of whole numbers, got "
                             f"{shape!r}.")
        self.output_shape = tuple(int(size) for size in shape)
        self._parameters = parameters_of(layer, self.label)
        names = [parameter.name for parameter in self._parameters]
        plain = f"{NAME}/{NAME}" if isinstance(getattr(layer, "parameters", ()), _Gathered) else NAME
        if not all(isinstance(name, str) and re.fullmatch(plain, name) and names.count(name) == 1 for name in names):
            raise InputError(f"{self.label}: each parameter needs a name of its own, of 1 to 64 letters, digits, '_', '.' or "
                             f"'-', got {names}. Give it another: parameter.name = '...'.")
        listed = set(map(id, self._parameters))
        for held in self._host.layers:
            if held is not layer and not listed.issuperset(map(id, held.parameters)):
                raise InputError(f"{self.label}: its `parameters` have not those of {held.label}, and training would miss "
                                 "them. List the layers that it holds: self.layers = [...], and leave `parameters` out.")

    def forward(self, x):
        x = as_array(x, self.label, "x", self._dtype)
        check_batch(x, self._input_shape, self.label, "x")
        share = here.share                          # of a batch that processes share, each computes all here
        x = x if share is None else share.whole(x)
        with self._host.within():
            y = self._layer.forward(x.copy())       # the layer may write to it
        y = as_array(y, f"forward of {self.label}", "y", self._dtype)
        if y.shape != (len(x), *self.output_shape):
            raise ShapeError(f"{self.label}: build promised an output of shape {(len(x), *self.output_shape)}, forward "
                             f"returned {y.shape}.")
        return y if share is None else share.own(y)

    def backward(self, dy):
        share = here.share
        dy = dy if share is None else share.whole(dy)
        with self._host.within():
            dx = self._layer.backward(dy.copy())        # the same array may go to another branch
        self.check_unchanged()
        if not self.needs_input_gradient:
            return None
        dx = as_array(dx, f"backward of {self.label}", "dx", self._dtype)
        if dx.shape != (len(dy), *self._input_shape):
            raise ShapeError(f"{self.label}: expected backward to return dx of shape {(len(dy), *self._input_shape)}, that of "
                             f"x, got {dx.shape}.")
        return dx if share is None else share.own(dx)

    def choices(self):
        """Return the masks and switches that the last forward took, where the layer tells."""
        return getattr(self._layer, "choices", tuple)()

    @property
    def hosted(self):
        """The layers of ours inside."""
        return self._host.layers

    @property
    def statistics(self):
        """{name: Parameter} of the layer's own and those of ours inside; a name that comes again gets a number."""
        every = [one for layer in [self._layer, *self.hosted] for one in getattr(layer, "statistics", ())]
        found = {}
        for one in {id(one): one for one in every}.values():
            number = sum(name.split(".")[0] == one.name for name in found) + 1
            found[one.name if number == 1 else f"{one.name}.{number}"] = one
        return found

    def tell(self, training, step_number):
        """Tell the layer, where it has an attribute `training`, and those inside whether they train, and in which step."""
        if hasattr(self._layer, "training"):
            self._layer.training = training
        self._host.tell(training, step_number)

    def check_unchanged(self):
        """Raise InputError if a layer inside was built again elsewhere, or parameters are others."""
        for layer in self._host.layers:
            if layer._host is not self._host:
                raise InputError(f"{layer.label} was built again, by hand or by another network, so it no longer fits this "
                                 "one. Make new layers for each network.")
        if tuple(getattr(self._layer, "parameters", ())) != self._parameters:
            raise InputError(f"{self.label}: its `parameters` are not those that it had when the network was made, and "
                             "training would miss them. Make the list once, in build; set what is in it by "
                             "parameter.value = array.")


class Host:
    """What layers of ours take from the network when a custom layer builds them: dtype, engine, seed, and a number.

    They are taken in wherever the custom layer keeps them; each gets a number of its own, so that no two begin with the
    same weights, and dropout in them drops.

    Attributes
    ----------
    layers : list of Layer, all that were configured or built `within`
    """

    def __init__(self, dtype, engine, seed, index=0):
        self.dtype, self.engine, self.seed, self._first = dtype, engine, seed, (index + 1) << 16
        self.layers, self.training, self.step_number = [], False, 0

    @contextmanager
    def within(self):
        """Take in the layers that are built until the end."""
        before = here.host, here.lending, here.pool, here.share
        here.host, here.lending, here.pool, here.share = self, False, None, None
        try:
            yield
        finally:
            here.host, here.lending, here.pool, here.share = before

    def take_in(self, layer):
        """Configure a layer of ours. Its number is none that a layer in a row has."""
        layer.configure(self.dtype, self.engine, self.seed, self._first + len(self.layers))
        layer.training, layer.step_number = self.training, self.step_number

    def tell(self, training, step_number):
        """Tell all layers whether they train, and in which step."""
        self.training, self.step_number = training, step_number
        for layer in self.layers:
            layer.training, layer.step_number = training, step_number
