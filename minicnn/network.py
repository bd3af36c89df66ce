"""The stack of layers, as a plan of steps: forward, backward, and who made the first NaN.

A network knows shapes, parameters and order; it knows no targets and no optimizer. The final activation that a loss
folds into itself (its head) stays a layer of the network: training stops in front of it, prediction runs through it.
"""

import re

import numpy as np

from minicnn.arrays import all_finite, as_array
from minicnn.errors import DTypeError, InputError, NonFiniteError, ShapeError
from minicnn.layers import LAYERS, Layer
from minicnn.parameter import Parameters
from minicnn.shapes import parameter_count, positive_int
from minicnn.steps import LayerStep, find_steps

__all__ = ["Network"]

_NAME = r"[A-Za-z0-9_.-]{1,64}"


class Network:
    """Layers in order, built for one input shape.

    Parameters
    ----------
    layers : list of layers, ours or your own (see layers.py for the protocol)
    input_shape : tuple of int without N
    seed : int; together with the place of a parameter it decides its initial value
    dtype : numpy dtype, float32 or float64
    engine : "fast" or "reference"

    Attributes
    ----------
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
        self.shapes = [self.input_shape]
        for index, layer in enumerate(self.layers):
            if isinstance(layer, Layer):
                layer.configure(self.dtype, engine, seed, index)
            try:
                output_shape = layer.build(self.shapes[-1])
            except ShapeError as error:
                raise ShapeError(f"{error}{_least_size(self.layers, self.input_shape)}") from None
            self.shapes.append(_checked_shape(layer, output_shape))
            _check_parameters(layer)
        owned = [(p, type(layer) in LAYERS.values()) for layer in self.layers for p in getattr(layer, "parameters", ())]
        self.parameters = Parameters([p for p, _ in owned], [ours for _, ours in owned])
        # Nobody wants the gradient of the pixels: backward ends at the first layer that learns.
        self._first = next((i for i, layer in enumerate(self.layers) if getattr(layer, "parameters", ())),
                           len(self.layers))
        for i, layer in enumerate(self.layers):
            if isinstance(layer, Layer):
                layer.needs_input_gradient = i != self._first       # the layer may have been first elsewhere before

        # Rows of (step, shape of its input, shape of its output, number of its last layer).
        self._steps, i = [], 0
        for step in find_steps(self.layers, engine):
            i += len(step.layers)
            self._steps.append((step, self.shapes[i - len(step.layers)], self.shapes[i], i - 1))
        self.takes_pixels = self._steps[0][0].takes_pixels

    @property
    def output_shape(self):
        return self.shapes[-1]

    def depth(self, head=None):
        """Return how many layers run before the loss: all, or all but the last where it is the loss's head."""
        return len(self.layers) - (type(self.layers[-1]).__name__ == head)

    def forward(self, x, depth=None, training=False, step_number=0):
        """Run the first `depth` layers (all by default) on the batch x; the result is valid until the next call.

        x may be uint8 pixels where the first step takes them (`takes_pixels`).
        """
        for layer in self.layers:
            if isinstance(layer, Layer):
                layer.training, layer.step_number = training, step_number
        rows = self._steps_to(depth)
        if getattr(x, "dtype", None) == np.uint8 and rows and not rows[0][0].takes_pixels:
            x = np.divide(x, 255, dtype=np.float32)
        for step, _, output_shape, _ in rows:
            y = step.forward(x)
            x = y if _is_ours(step) else _checked_output(step.layers[0], y, (len(x), *output_shape))
        return x

    def backward(self, dy, depth=None):
        """Run backward from layer `depth` to the first layer that learns; every parameter's `grad` is overwritten."""
        N = len(dy)
        for step, input_shape, _, last in self._steps_to(depth)[::-1]:
            if last < self._first:
                return
            dy = step.backward(dy)
            if not _is_ours(step):
                layer = step.layers[0]
                _check_gradients(layer)
                if layer is not self.layers[self._first]:
                    dy = _checked_input_gradient(layer, dy, (N, *input_shape))

    def steps(self, depth=None):
        """Return what runs the first `depth` layers, in order: steps of one layer or several (steps.py)."""
        return [step for step, *_ in self._steps_to(depth)]

    def _steps_to(self, depth):
        """Return the steps that layers 0 .. depth-1 make; where depth cuts a fused step, its layers one at a time."""
        if depth is None:
            return self._steps
        rows = [row for row in self._steps if row[3] < depth]
        for i in range(rows[-1][3] + 1 if rows else 0, depth):
            rows.append((LayerStep(self.layers[i]), self.shapes[i], self.shapes[i + 1], i))
        return rows

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
        """Return {"layer/parameter": Parameter} in the order of the layers."""
        return {f"{layer.name}/{p.name}": p for layer in self.layers for p in getattr(layer, "parameters", ())}

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


def _checked_layers(layers):
    layers = list(layers)
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


def _is_ours(step):
    """Whether what a step returns need not be checked; a subclass of a layer of ours is its author's."""
    return len(step.layers) > 1 or type(step.layers[0]) in LAYERS.values()


def _check_parameters(layer):
    """Raise unless the parameters can be trained and their names tell them apart."""
    names = [parameter.name for parameter in getattr(layer, "parameters", ())]
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(_NAME, name) or names.count(name) > 1:
            raise InputError(f"layer {layer.name!r}: each parameter needs a name of its own, of 1 to 64 letters, digits, "
                             f"'_', '.' or '-', got {names}.")
    for parameter in getattr(layer, "parameters", ()):
        if getattr(parameter.value, "dtype", None) not in (np.float32, np.float64):
            raise DTypeError(f"layer {layer.name!r}: its {parameter.name} must be an array of float32 or float64, "
                             f"got {parameter.value!r}.")


def _checked_output(layer, y, shape):
    y = as_array(y, f"forward of layer {layer.name!r}", "y", getattr(y, "dtype", np.float64))
    if y.shape != shape:
        raise ShapeError(f"layer {layer.name!r}: build promised an output of shape {shape}, forward returned {y.shape}.")
    return y


def _checked_input_gradient(layer, dx, shape):
    dx = as_array(dx, f"backward of layer {layer.name!r}", "dx", getattr(dx, "dtype", np.float64))
    if dx.shape != shape:
        raise ShapeError(f"layer {layer.name!r}: expected backward to return dx of shape {shape}, that of x, "
                         f"got {dx.shape}.")
    return dx


def _check_gradients(layer):
    """Make the gradients of a layer's parameters arrays of the parameters' dtype; kernels will trust their shapes."""
    for parameter in getattr(layer, "parameters", ()):
        parameter.grad = as_array(parameter.grad, f"layer {layer.name!r}", f"{parameter.name}.grad",
                                  parameter.value.dtype)
        if parameter.grad.shape != parameter.value.shape:
            raise ShapeError(f"layer {layer.name!r}: its {parameter.name} has shape {parameter.value.shape}, "
                             f"the gradient {parameter.grad.shape}.")


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
