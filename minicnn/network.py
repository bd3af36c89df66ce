"""The stack of layers, as a plan of steps: forward, backward, and who made the first NaN.

A network knows shapes, parameters and order; it knows no targets and no optimizer. The final activation that a loss
folds into itself (its head) stays a layer of the network: training stops in front of it, prediction runs through it.
"""

import re

import numpy as np

from minicnn.core.backend import fusion_of
from minicnn.core.parameter import Parameters, check_apart, parameters_of
from minicnn.core.shapes import parameter_count, positive_int
from minicnn.core.validation import all_finite, as_array, check_batch
from minicnn.errors import InputError, NonFiniteError, ShapeError
from minicnn.layers.base import LAYERS, Host, Layer, here, refuse_freezing

__all__ = ["Network", "LayerStep"]

_NAME = r"[A-Za-z0-9_.-]{1,64}"


class LayerStep:
    """One layer, as it is."""

    takes_pixels = False

    def __init__(self, layer):
        self.layers = [layer]
        self.forward, self.backward = layer.forward, layer.backward

    def choices(self):
        """Return the masks and switches that the last forward took; a layer of the user's own need not tell."""
        return getattr(self.layers[0], "choices", tuple)()


class Network:
    """Layers in order, built for one input shape.

    Parameters
    ----------
    layers : list of layers, ours or your own (see layers/base.py for the protocol)
    input_shape : tuple of int without N
    seed : int; together with the place of a parameter it decides its initial value
    dtype : numpy dtype, float32 or float64
    engine : "fast" or "reference"

    Attributes
    ----------
    layers : tuple of the layers
    shapes : list of tuple: the input shape of the first layer, then each layer's output shape
    parameters : Parameters, in the order of the layers
    takes_pixels : bool; whether `forward` takes uint8 pixels, which its first step divides by 255 as it reads them

    Raises
    ------
    ShapeError
        if the layers do not fit together, naming the layer and, for images too small, the least size that fits
    """

    def __init__(self, layers, input_shape, seed=0, dtype=np.float32, engine="fast"):
        self.layers = _checked_layers(layers)
        self.input_shape = tuple(positive_int(size, "Sequential", "input_shape") for size in input_shape)
        self.dtype, self.engine = np.dtype(dtype), engine
        _name_layers(self.layers)
        self.shapes, self._host = [self.input_shape], Host(self.dtype, engine, seed)
        for index, layer in enumerate(self.layers):
            with self._host.within(index):
                if isinstance(layer, Layer):
                    layer.configure(self.dtype, engine, seed, index)
                try:
                    output_shape = layer.build(self.shapes[-1])
                except ShapeError as error:
                    raise ShapeError(f"{error}{_least_size(self.layers, self.input_shape)}") from None
            self.shapes.append(_checked_shape(layer, output_shape))
            _check_parameters(layer)
        owned = [(layer, p) for layer in self.layers for p in getattr(layer, "parameters", ())]
        check_apart((f"layer {layer.name!r}: its {p.name}", p) for layer, p in owned)
        fusion = fusion_of(engine)
        self.parameters = Parameters(p for _, p in owned) if fusion is None else \
            fusion.PackedParameters([p for _, p in owned], [_is_ours(layer) for layer, _ in owned])
        self._strangers = [(layer, tuple(getattr(layer, "parameters", ()))) for layer in self.layers if not _is_ours(layer)]
        # Nobody wants the gradient of the pixels: backward ends at the first layer that learns.
        self._first = next((i for i, layer in enumerate(self.layers) if getattr(layer, "parameters", ())),
                           len(self.layers))
        for i, layer in enumerate(self.layers):
            if isinstance(layer, Layer):
                layer.needs_input_gradient = i != self._first       # the layer may have been first elsewhere before

        # Rows of (step, whether it is ours, shape of its input, shape of its output, number of its last layer).
        self._steps, i = [], 0
        for step in _find_steps(self.layers, () if fusion is None else fusion.PATTERNS):
            i += len(step.layers)
            self._steps.append(self._row(step, i))
        self.takes_pixels = self._steps[0][0].takes_pixels

    def _row(self, step, end):
        """Return the row of a step whose last layer is number end - 1."""
        first = end - len(step.layers)
        return step, len(step.layers) > 1 or _is_ours(step.layers[0]), self.shapes[first], self.shapes[end], end - 1

    @property
    def output_shape(self):
        return self.shapes[-1]

    def depth(self, head=None):
        """Return how many layers run before the loss: all, or all but the last where it is the loss's head."""
        return len(self.layers) - (type(self.layers[-1]).__name__ == head)

    def forward(self, x, depth=None, training=False, step_number=0):
        """Run the first `depth` layers (all by default) on the batch x; the result is valid until the next call.

        x may be uint8 pixels where the first step takes them (`takes_pixels`). Until `backward` it must stay as it is.
        """
        self._check_unchanged(training)
        self._host.tell(training, step_number)
        rows = self._steps_to(depth)
        if getattr(x, "dtype", None) == np.uint8 and rows and not rows[0][0].takes_pixels:
            x = np.divide(x, 255, dtype=np.float32)
        return self._run(rows, x)

    def finish(self, z, depth):
        """Run the layers from number `depth` on, those that a loss takes over in training."""
        return self._run([self._row(LayerStep(layer), i) for i, layer in enumerate(self.layers[depth:], depth + 1)], z)

    def _run(self, rows, x):
        before, here.lending = here.lending, True
        try:
            for step, ours, input_shape, output_shape, _ in rows:
                if ours:
                    x = step.forward(x)
                    continue
                layer = step.layers[0]
                x = as_array(x, f"layer {layer.name!r}", "x", self.dtype)
                check_batch(x, input_shape, f"layer {layer.name!r}", "x")
                with self._host.within():
                    y = step.forward(x.copy())      # what a layer of the user's own writes to is its own
                x = self._checked(layer, "forward", y, (len(x), *output_shape))
        finally:
            here.lending = before
        return x

    def backward(self, dy, depth=None):
        """Run backward from layer `depth` to the first layer that learns; every parameter's `grad` is overwritten."""
        self._check_unchanged()
        N, before, here.lending = len(dy), here.lending, True
        try:
            for step, ours, input_shape, _, last in self._steps_to(depth)[::-1]:
                if last < self._first:
                    return
                if ours:
                    dy = step.backward(dy)
                    continue
                layer = step.layers[0]
                with self._host.within():
                    dx = step.backward(dy)
                self._check_unchanged()
                dy = None if layer is self.layers[self._first] else self._checked(layer, "backward", dx, (N, *input_shape))
        finally:
            here.lending = before

    def _checked(self, layer, verb, array, shape):
        """Return what a layer of the user's own returned as an array of this shape and of the network's dtype, or raise."""
        array = as_array(array, f"{verb} of layer {layer.name!r}", "y" if verb == "forward" else "dx", self.dtype)
        if array.shape != shape:
            raise ShapeError(f"layer {layer.name!r}: build promised an output of shape {shape}, forward returned "
                             f"{array.shape}." if verb == "forward" else
                             f"layer {layer.name!r}: expected backward to return dx of shape {shape}, that of x, got "
                             f"{array.shape}.")
        return array

    def _check_unchanged(self, training=False):
        """Raise InputError if a layer was built again elsewhere, has other parameters, or is to be frozen."""
        if self._host.lost is not None:
            raise InputError(f"{self._host.lost} was built again, by hand or by another network, so it no longer fits this "
                             "one. Make new layers for each network.")
        for layer, parameters in self._strangers:
            if tuple(getattr(layer, "parameters", ())) != parameters:
                raise InputError(f"layer {layer.name!r}: its `parameters` are not those that it had when the network was "
                                 "made, and training would miss them. Make the list once, in build; set what is in it by "
                                 "parameter.value = array.")
            if training:
                refuse_freezing(f"layer {layer.name!r}", getattr(layer, "trainable", True))

    def steps(self, depth=None):
        """Return what runs the first `depth` layers, in order: steps of one layer or several (fusion.py)."""
        return [step for step, *_ in self._steps_to(depth)]

    def _steps_to(self, depth):
        """Return the steps that layers 0 .. depth-1 make; where depth cuts a fused step, its layers one at a time."""
        if depth is None:
            return self._steps
        rows = [row for row in self._steps if row[-1] < depth]
        return rows + [self._row(LayerStep(self.layers[i]), i + 1) for i in range(rows[-1][-1] + 1 if rows else 0, depth)]

    def blame_forward(self, x, depth=None):
        """Raise NonFiniteError naming the first layer whose output for x is not finite, if there is one."""
        x = np.divide(x, 255, dtype=np.float32) if x.dtype == np.uint8 else x
        for i, layer in enumerate(self.layers[:depth]):
            for parameter in getattr(layer, "parameters", ()):
                if not np.isfinite(parameter.value).all():
                    raise NonFiniteError(f"layer {layer.name!r}: its {parameter.name} holds NaN or infinity.")
            x = layer.forward(x)
            if not np.isfinite(x).all():
                raise NonFiniteError(f"layer {layer.name!r}: the first whose output holds NaN or infinity.")

    def blame_gradients(self):
        """Raise NonFiniteError naming the last layer (the first that backward met) with a gradient not finite."""
        if all(all_finite(grad) for _, grad in self.parameters.pieces()):
            return
        for layer in self.layers[::-1]:
            for parameter in getattr(layer, "parameters", ()):
                if not np.isfinite(parameter.grad).all():
                    raise NonFiniteError(f"layer {layer.name!r}: the gradient of its {parameter.name} holds NaN or "
                                         "infinity.")

    def named_parameters(self):
        """Return {"layer/parameter": Parameter} in the order of the layers.

        Raises InputError where a layer or a parameter was renamed and two are now called the same.
        """
        self._check_unchanged()
        named = {f"{layer.name}/{p.name}": p for layer in self.layers for p in getattr(layer, "parameters", ())}
        if len(named) < len(self.parameters):
            raise InputError(f"two of the parameters are called the same: {', '.join(named)} name {len(self.parameters)}.")
        return named

    def plan(self, head=None):
        """Return the steps of one training pass: lists of layer names that run as one. The loss takes over the head."""
        depth = self.depth(head)
        return [[layer.name for layer in step.layers] for step, *_ in self._steps_to(depth)] + \
               [[layer.name for layer in self.layers[depth:]] + ["loss"]]

    def rows(self):
        """Yield one dict a layer for the summary: name, type, output_shape, parameters, flops, bytes (of the output)."""
        for layer, shape in zip(self.layers, self.shapes[1:]):
            yield {"name": layer.name, "type": type(layer).__name__, "output_shape": shape,
                   "parameters": parameter_count(p.value.shape for p in getattr(layer, "parameters", ())),
                   "flops": layer.flops() if hasattr(layer, "flops") else None,
                   "bytes": parameter_count([shape]) * self.dtype.itemsize}


def _find_steps(layers, patterns):
    """Return the steps of the layers, in order: the longest of the patterns that matches where it stands, else one layer."""
    steps, i = [], 0
    while i < len(layers):
        length, step = next(((n, step) for n, step in patterns if step.match(layers[i:i + n])), (1, None))
        steps.append(LayerStep(layers[i]) if step is None else step(layers[i:i + length]))
        i += length
    return steps


def _checked_layers(layers):
    layers = tuple(layers)
    if not layers:
        raise InputError("Sequential: expected at least one layer, got none.")
    for i, layer in enumerate(layers):
        missing = [verb for verb in ("build", "forward", "backward") if not callable(getattr(layer, verb, None))]
        if isinstance(layer, type):
            raise InputError(f"Sequential: layer {i} is the class {layer.__name__}; make one: {layer.__name__}(...).")
        if missing:
            raise InputError(f"Sequential: layer {i}, {layer!r}, has no {', '.join(missing)}. A layer needs "
                             "build(input_shape), forward(x) and backward(dy).")
    if len({id(layer) for layer in layers}) < len(layers):
        raise InputError("Sequential: the same layer stands in two places. Make one for each place.")
    return layers


def _name_layers(layers):
    """Give every layer without a name one made of its type and a count: conv2d_1, conv2d_2, max_pool2d_1."""
    taken = [getattr(layer, "name", None) for layer in layers]
    counts = {}
    for layer in layers:
        if getattr(layer, "name", None):
            continue
        base = re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", type(layer).__name__).lower()
        base = base.replace("re_lu", "relu")
        while True:
            counts[base] = counts.get(base, 0) + 1
            name = f"{base}_{counts[base]}"
            if name not in taken:
                break
        layer.name = name
    names = [layer.name for layer in layers]
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(_NAME, name):
            raise InputError(f"Sequential: layer name {name!r} must be 1 to 64 letters, digits, '_', '.' or '-'.")
        if names.count(name) > 1:
            raise InputError(f"Sequential: two layers are called {name!r}.")


def _checked_shape(layer, shape):
    if not isinstance(shape, tuple) or not all(isinstance(size, (int, np.integer)) and size > 0 for size in shape):
        raise ShapeError(f"layer {layer.name!r}: build must return the output shape without N, a tuple of whole "
                         f"numbers, got {shape!r}.")
    return tuple(int(size) for size in shape)


def _is_ours(layer):
    """Whether what a layer returns need not be checked; a subclass of a layer of ours is its author's."""
    return type(layer) in LAYERS.values()


def _check_parameters(layer):
    """Raise unless the parameters can be trained and their names tell them apart."""
    owner = f"layer {layer.name!r}"
    parameters = parameters_of(layer, owner)
    names = [parameter.name for parameter in parameters]
    for parameter in parameters:
        parameter.owner = owner
        if not isinstance(parameter.name, str) or not re.fullmatch(_NAME, parameter.name) or \
                names.count(parameter.name) > 1:
            raise InputError(f"{owner}: each parameter needs a name of its own, of 1 to 64 letters, digits, '_', '.' or "
                             f"'-', got {names}. Give it another: parameter.name = '...'.")
    refuse_freezing(owner, getattr(layer, "trainable", True))


def _least_size(layers, input_shape, most=1024):
    """Return a sentence with the least square image that fits all layers, or an empty string where none does."""
    if len(input_shape) != 3 or not all(isinstance(layer, Layer) for layer in layers):
        return ""
    for size in range(min(input_shape[:2]) + 1, most + 1):
        shape = (size, size, input_shape[2])
        try:
            for layer in layers:
                shape, _ = layer.infer(shape)
        except ShapeError:
            continue
        return f" This network needs images of at least {size} x {size}; these are {input_shape[0]} x {input_shape[1]}."
    return ""
