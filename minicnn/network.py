"""The graph of layers, as a plan of steps: forward, backward, and who made the first NaN.

Layers stand in the order in which they run. Value 0 is the network's input, value i + 1 what layer i makes of the values
that are its sources; in a chain layer i takes value i. Backward goes through the layers in reverse. A value that several
layers take gets the sum of what comes back from them, always added in the same order.

A network knows shapes, parameters and order; it knows no targets and no optimizer. The final activation that a loss
folds into itself (its head) stays a layer of the network: training stops in front of it, prediction runs through it.
"""

from typing import NamedTuple

import numpy as np

from minicnn.core.arguments import Whole, check
from minicnn.core.backend import fusion_of
from minicnn.core.memory import here, join, split
from minicnn.core.parameter import Parameters, check_apart
from minicnn.core.validation import all_finite, as_array
from minicnn.errors import InputError, NonFiniteError
from minicnn.layers.base import LAYERS, Layer, lending

__all__ = ["Network", "LayerStep"]


class LayerStep:
    """One layer, as it is."""

    takes_pixels = False

    def __init__(self, layer):
        self.layers = [layer]
        self.forward, self.backward = layer.forward, layer.backward
        self.choices = getattr(layer, "choices", tuple)     # the masks and switches of the last forward, where the layer tells


class Network:
    """Layers in order, built for one input shape.

    Parameters
    ----------
    layers : list of layers, each with a name of its own; ours or custom ones (layers/base.py says what they need)
    input_shape : tuple of int without N
    seed : int; together with the place of a parameter it decides its initial value
    dtype : numpy dtype, float32 or float64
    engine : "fast" or "reference"
    custom : class of the steps that run custom layers (layers.custom.CustomStep); None where there are none
    sources : for each layer a tuple of the numbers of the values that it takes; a chain where None

    Attributes
    ----------
    layers, sources : tuples, as above
    is_chain : bool, whether each layer takes what the one before makes
    shapes : list of tuple: the shape of each value, without N; the input's, then each layer's output shape
    parameters : Parameters, in the order of the layers
    wanted : list of bool; of which values backward computes the gradient
    takes_pixels : bool; whether `forward` takes uint8 pixels, which its first step divides by 255 as it reads them
    outputs : tuple of int, the numbers of the values that are outputs: the last, or those that a last layer Outputs joins

    Raises
    ------
    ShapeError
        if the layers do not fit together, naming the layer
    """

    def __init__(self, layers, input_shape, seed=0, dtype=np.float32, engine="fast", custom=None, sources=None):
        self.layers, self.dtype, self.engine = tuple(layers), np.dtype(dtype), engine
        self.input_shape = tuple(check("Sequential", "input_shape", size, Whole()) for size in input_shape)
        chain = tuple((i,) for i in range(len(self.layers)))
        self.sources = chain if sources is None else tuple(map(tuple, sources))
        self.is_chain = self.sources == chain
        self._several = [getattr(layer, "several", False) for layer in self.layers]
        self._takers = [sum(value in taken for taken in self.sources) for value in range(len(self.layers) + 1)]
        self.outputs = self.sources[-1] if getattr(self.layers[-1], "joins", False) else (len(self.layers),)
        last = {value: i for i, taken in enumerate(self.sources) for value in taken}    # the last layer that takes it
        self._taken_later = [[value for value in range(i + 2) if last.get(value, i + 1) > i] for i in range(len(self.layers))]
        self.shapes, self._custom = [self.input_shape], {}      # the steps of custom layers, by the layer's number
        before, here.host = here.host, None         # a network inside a custom layer is a whole of its own
        try:
            for index, layer in enumerate(self.layers):
                shape = self.taken(self.shapes, index)
                if _is_ours(layer):
                    layer.configure(self.dtype, engine, seed, index)
                    self.shapes.append(layer.build(shape))
                else:
                    step = self._custom[index] = custom(layer, shape, self.dtype, engine, seed, index)
                    self.shapes.append(step.output_shape)
        finally:
            here.host = before
        self._built = [(layer, layer.input_shape) for layer in self.layers if _is_ours(layer)]

        owned = [(layer, parameter) for layer in self.layers for parameter in getattr(layer, "parameters", ())]
        for layer, parameter in owned:
            parameter.owner = f"layer {layer.name!r}"
        check_apart((f"{parameter.owner}: its {parameter.name}", parameter) for _, parameter in owned)
        fusion = fusion_of(engine)
        self.parameters = Parameters(p for _, p in owned) if fusion is None else \
            fusion.PackedParameters([p for _, p in owned], [_is_ours(layer) for layer, _ in owned])
        # Nobody wants the gradient of the pixels: that of a value is wanted if a layer before it learns.
        self.wanted, self._first_learning = [False], 0
        self._pool, self._recordings = (None, None) if fusion is None else (fusion.Pool(), fusion.Recordings(
            [int(np.prod(shape)) for shape in self.shapes], sum(p.value.size for p in self.parameters), self.dtype.itemsize))
        for i, layer in enumerate(self.layers):
            needed = any(self.wanted[value] for value in self.sources[i])
            self.wanted.append(needed or bool(getattr(layer, "parameters", ())))
            if isinstance(layer, Layer):
                layer.needs_input_gradient = needed         # it may have been another elsewhere before
            if i in self._custom:
                self._custom[i].needs_input_gradient = needed

        inner = [layer for step in self._custom.values() for layer in step.hosted]
        self._moving = [one for one in [*self.layers, *inner] if hasattr(one, "moved") and getattr(one, "statistics", ())]

        self._steps = self._find_steps(() if fusion is None else fusion.PATTERNS)
        self.takes_pixels = self._steps[0].step.takes_pixels and self._takers[0] == 1

    def taken(self, values, i):
        """Return what layer i takes of the values: one, or a list where it merges several."""
        return [values[value] for value in self.sources[i]] if self._several[i] else values[self.sources[i][0]]

    def _find_steps(self, patterns):
        """Return a list of _Row: the longest pattern that matches where it stands, else one layer."""
        rows, i = [], 0
        while i < len(self.layers):
            length, fused = next(((n, fused) for n, fused in patterns
                                  if fused.match(self.layers[i:i + n]) and self._is_run(i, n)), (1, None))
            rows.append(self.single(i) if fused is None else _Row(fused(self.layers[i:i + length]), i, i + length - 1))
            i += length
        return rows

    def _is_run(self, first, n):
        """Whether n layers follow each other, and no other takes what is between them."""
        return all(self.sources[i] == (i,) and self._takers[i] == 1 for i in range(first + 1, first + n))

    @property
    def output_shape(self):
        return self.shapes[-1]

    def is_taken(self, output):
        """Whether a layer takes the value with this number, which is an output."""
        return self._takers[output] > (len(self.outputs) > 1)

    def heads(self, names):
        """Return the numbers of the layers that a loss takes over: of each output the last, if it is of its type in `names`."""
        return tuple(value - 1 for value, name in zip(self.outputs, names) if type(self.layers[value - 1]).__name__ == name)

    def forward(self, x, rows=None, training=False, step_number=0):
        """Run `rows` (all by default) on the batch x, return the last value; it is valid until the next call.

        x may be uint8 pixels where the first step takes them (`takes_pixels`). Until `backward` it must stay as it is.
        """
        self._check_unchanged()
        for layer, _ in self._built:
            layer.training, layer.step_number = training, step_number
        for step in self._custom.values():
            step.tell(training, step_number)
        rows = self._steps if rows is None else rows
        if self._pool is not None:
            self._pool.clear()
            if training:
                self._recordings.clear()
        if getattr(x, "dtype", None) == np.uint8 and rows:
            takes_them = self.takes_pixels and rows[0].step.takes_pixels and x.flags.carray
            x = x if takes_them else np.divide(x, 255, dtype=np.float32)
        with lending(self._pool):
            return self.values(x, rows)[-1]

    def predict(self, x):
        """Return `forward(x)`; the fast engine records what it runs, and soon replays that for batches of one shape."""
        if self._recordings is None or self._custom:
            return self.forward(x)
        self._check_unchanged()
        if x.dtype != np.uint8 or not self.takes_pixels:        # made the network's dtype here, where nobody records
            x = as_array(np.divide(x, 255, dtype=np.float32) if x.dtype == np.uint8 else x, "predict", "x", self.dtype)
        return self._recordings(self.forward, x)

    def values(self, x, rows, run=None):
        """Return the values that some rows of `rows` make of x, in a list; None where a step keeps one to itself.

        `run` is a function of (step, what it takes); by default the step's forward.
        """
        values, pooled = [x, *[None] * (rows[-1].last + 1 if rows else 0)], here.pool is not None
        for step, first, last in rows:
            taken = self.taken(values, first) if self._several[first] else values[self.sources[first][0]]
            values[last + 1] = step.forward(taken) if run is None else run(step, taken)
            if pooled:      # what is neither taken later nor remembered for backward is free
                remembering = (step, *step.layers) if last >= self._first_learning else ()
                here.pool.hold(first, [array for one in remembering for array in getattr(one, "_cache", None) or ()
                                       if isinstance(array, np.ndarray)])
                here.pool.keep([values[value] for value in self._taken_later[last]])
        return values

    def finish(self, z, heads):
        """Return the outputs for logits z: what the layers `heads`, which a loss took over in training, make of them."""
        with lending():
            if self.outputs == (len(self.layers),):
                return self.single(heads[0]).step.forward(z) if heads else z.copy()      # backward may write there
            parts = split(z, [self.shapes[value] for value in self.outputs])
            return join([self.single(value - 1).step.forward(part) if value - 1 in heads else part
                         for value, part in zip(self.outputs, parts)])

    def backward(self, dy, rows=None):
        """Run `rows` backward to the first layer that learns; the `grad` of each parameter from there on is overwritten."""
        self._check_unchanged()
        with lending(self._pool):
            self.gradients(dy, [row for row in (self._steps if rows is None else rows) if row.last >= self._first_learning])

    def gradients(self, dy, rows, wanted=None):
        """Run some rows of `rows` backward, and return {number of a value: its gradient} of those that are `wanted`.

        By default those that a layer before them learns from, and none is kept.
        """
        kept, gradients = {}, {rows[-1].last + 1: dy} if rows else {}
        for step, first, last in rows[::-1]:
            dy = gradients.pop(last + 1, None)
            if wanted is not None and last + 1 in wanted:
                kept[last + 1] = None if dy is None else np.array(dy)
            if dy is None or not self.wanted[last + 1]:
                continue
            dx = step.backward(dy)
            for value, part in zip(self.sources[first], dx if isinstance(dx, list) else [dx]):
                if self.wanted[value]:
                    gradients[value] = part if value not in gradients else self._add(gradients[value], part)
            if here.pool is not None:
                here.pool.release(first)
                here.pool.keep(gradients.values())
        return kept

    def _add(self, one, other):
        """Return the sum of two gradients of a value that several layers take."""
        return one + other if here.pool is None else here.pool.add(one, other)

    def _check_unchanged(self):
        """Raise InputError if a layer was built again elsewhere, or has other parameters."""
        for layer, input_shape in self._built:
            if layer.input_shape is not input_shape:        # each `build` makes a new tuple
                raise InputError(f"{layer.label} was built again, by hand or by another network, so it no longer fits this "
                                 "one. Make new layers for each network.")
        for step in self._custom.values():
            step.check_unchanged()

    def rows(self, depth=None, heads=(), fused=True, begin=0):
        """Return the _Row of each step that runs layers 0 .. depth-1 (by default all): of one layer, or fused (fusion.py).

        Where depth cuts a step, its layers run one at a time. The `heads` hand on what they take; so do the layers before
        `begin`, whose last value is then the input.
        """
        depth = len(self.layers) if depth is None else depth
        rows = [row for row in self._steps if begin <= row.first and row.last < depth] if fused else []
        alone = set(range(begin, depth)).difference(*(range(row.first, row.last + 1) for row in rows))
        rows = [_Row(_HandedOn, 0, begin - 1)] * (begin > 0) + sorted([*rows, *map(self.single, alone)], key=lambda row: row.first)
        return [_Row(_HandedOn, row.first, row.last) if row.first in heads else row for row in rows]

    def single(self, i):
        """Return the _Row of layer number i alone."""
        return _Row(self._custom.get(i) or LayerStep(self.layers[i]), i, i)

    def blame_forward(self, x, begin=0):
        """Raise NonFiniteError naming the first layer whose output for x is not finite, if there is one (`begin`: see rows)."""
        values = [*[None] * begin, np.divide(x, 255, dtype=np.float32) if x.dtype == np.uint8 else x]
        for i, layer in enumerate(self.layers[begin:], begin):
            for parameter in getattr(layer, "parameters", ()):
                if not np.isfinite(parameter.value).all():
                    raise NonFiniteError(f"layer {layer.name!r}: its {parameter.name} holds NaN or infinity.")
            values.append(layer.forward(self.taken(values, i)))
            if not np.isfinite(values[-1]).all():
                raise NonFiniteError(f"layer {layer.name!r}: the first whose output holds NaN or infinity.")

    def blame_gradients(self):
        """Raise NonFiniteError naming the last layer (the first that backward met) with a gradient not finite."""
        if all(all_finite(grad) for _, grad in self.parameters.pieces()):
            return
        for layer in self.layers[::-1]:
            for parameter in getattr(layer, "parameters", ()):
                if not np.isfinite(parameter.grad).all():
                    raise NonFiniteError(f"layer {layer.name!r}: the gradient of its {parameter.name} holds NaN or infinity.")

    def move_statistics(self):
        """Move the statistics of the layers as the last forward says; all, or none and NonFiniteError."""
        moves = [(layer, *move) for layer in self._moving for move in layer.moved()]
        for layer, statistic, value in moves:
            if not np.isfinite(value).all():
                raise NonFiniteError(f"layer {layer.name!r}: its {statistic.name} would hold NaN or infinity.")
        for _, statistic, value in moves:
            statistic.value = value

    def note_frozen(self):
        """Note at each parameter whether its layer, and every layer that holds this one, is trainable now."""
        def note(layers, held):
            for layer in layers:
                trainable = held and bool(getattr(layer, "trainable", True))
                for parameter in getattr(layer, "parameters", ()):
                    parameter.trainable = trainable
                note(getattr(layer, "layers", ()), trainable)
        note(self.layers, True)
        self._first_learning = next((i for i, layer in enumerate(self.layers) if any(
            parameter.trainable for parameter in getattr(layer, "parameters", ()))), len(self.layers))

    def named_parameters(self):
        """Return {"layer/parameter": Parameter} in the order of the layers.

        Raises InputError where a layer or a parameter was renamed and two are now called the same.
        """
        self._check_unchanged()
        named = {f"{layer.name}/{p.name}": p for layer in self.layers for p in getattr(layer, "parameters", ())}
        if len(named) < len(self.parameters):
            raise InputError(f"two of the parameters are called the same: {', '.join(named)} name {len(self.parameters)}.")
        return named

    def weights(self):
        """Yield ("layer/name", Parameter) of what a model file keeps: of each layer parameters, then statistics."""
        for i, layer in enumerate(self.layers):
            held = self._custom[i].statistics if i in self._custom else {p.name: p for p in layer.statistics}
            for name, weight in [*((p.name, p) for p in getattr(layer, "parameters", ())), *held.items()]:
                yield f"{layer.name}/{name}", weight

    def named_weights(self):
        """Return `weights` as a dict; errors as of `named_parameters`."""
        self.named_parameters()
        return dict(self.weights())

    @property
    def steps(self):
        """What runs the layers, in order: steps of one layer or several (fusion.py)."""
        return [row.step for row in self._steps]

    def plan(self, heads=()):
        """Return the steps of one training pass: lists of layer names that run as one. The loss takes over `heads`."""
        heads = self.heads(heads)
        return [[layer.name for layer in row.step.layers] for row in self.rows(heads=heads) if row.first not in heads] + \
               [[self.layers[i].name for i in heads] + ["loss"]]


class _HandedOn:
    """The step of a final activation that the loss takes over: logits pass, and their gradient."""

    layers, takes_pixels = (), False
    forward = backward = staticmethod(lambda array: array)
    choices = staticmethod(tuple)


class _Row(NamedTuple):
    """A step, and the numbers of its first and last layer: it takes the sources of the first."""

    step: object
    first: int
    last: int


def _is_ours(layer):
    """Whether a layer is one of the library; a subclass of one is its author's."""
    return type(layer) in LAYERS.values()
