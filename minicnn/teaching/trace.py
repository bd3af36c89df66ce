"""Explain a network with real numbers: the formula, cost and receptive field of each layer, and one number by hand.

`trace(model, x)` runs the layers one at a time, forward and backward, and keeps their inputs and outputs. The result
prints as text, computes any number of any layer term by term (`by_hand`), and can be written as a page (`page`).
"""

import textwrap
from dataclasses import dataclass

import numpy as np

from minicnn.core.backend import get_engine
from minicnn.core.receptive_field import Field
from minicnn.core.text import grid
from minicnn.core.validation import as_array
from minicnn.data.loader import ArrayDataset
from minicnn.errors import InputError, nearest, printable
from minicnn.evaluation.explanation.gradcam import fields_of
from minicnn.gradient_check.subjects import loss_of
from minicnn.model_data import as_dataset, encoded
from minicnn.teaching.formulas import by_hand, explain, kind_of, times

__all__ = ["Trace", "LayerTrace", "trace"]

_WIDTH = 100        # of the text, in characters
_COUNTING = ("Words count layers, filters, units, rows and columns from 1; indices in brackets, as in y[0, 2], count "
             "from 0.")


@dataclass(frozen=True)
class LayerTrace:
    """One layer with its inputs, outputs and gradients.

    Attributes
    ----------
    number : int, from 1
    layer : the layer itself
    x, y : ndarrays, shape (N, ...), its input and output; x is a list of those that it merges
    takes : list of str, the names of the layers that x comes from, or "input"
    sources : tuple of int, the numbers of these layers; 0 is the input
    sent : list of what backward hands to each of them, ndarrays of the first sample; None where it hands nothing
    dy : ndarray of y's shape, the gradient with respect to y; None if the layer is `folded`, or if neither it nor a
        layer before it has parameters
    folded : bool, whether the loss computes this layer from its input
    parameters : dict from name to (value, gradient)
    field : Field (core/receptive_field.py), the receptive field of an output in the image; None if it is not known
    """

    number: int
    layer: object
    takes: list
    sources: tuple
    sent: list
    x: np.ndarray | list
    y: np.ndarray
    dy: np.ndarray | None
    folded: bool
    parameters: dict
    field: Field | None

    @property
    def name(self):
        return self.layer.name

    @property
    def inputs(self):
        """The arrays that the layer takes, a list."""
        return self.x if isinstance(self.x, list) else [self.x]

    @property
    def kind(self):
        """The kind of the layer in formulas.py, or None for a custom layer."""
        return kind_of(self.layer)

    def dead(self):
        """Return the filters (or units) whose output is 0 at every position of every sample: list of int."""
        return np.flatnonzero(~self.y.reshape(-1, self.y.shape[-1]).any(axis=0)).tolist()

    def start(self):
        """Return the index of a number to begin with: the largest output at the centre of the feature maps."""
        middle = tuple(size // 2 for size in self.y.shape[1:-1])
        return *middle, int(self.y[0][middle].argmax())

    def by_hand(self, index=None):
        """Return ByHand (formulas.py) of one number of the first sample's output, of `start()` by default."""
        if self.kind is None:
            what = "merges arrays" if isinstance(self.x, list) else "is a custom layer"
            raise InputError(f"trace: {self.name!r} {what}; by_hand needs a layer of minicnn that takes one array.")
        index = self.start() if index is None else index
        index = tuple(index) if isinstance(index, (tuple, list)) else (index,)
        shape = self.y.shape[1:]
        if len(index) != len(shape) or not all(i in range(size) for i, size in zip(index, shape)):
            raise InputError(f"trace: the output of {self.name!r} has shape {shape}: there is no number {index} in it.")
        weights = [value for value, _ in self.parameters.values()]
        return by_hand(self.layer, weights, self.inputs[0][0], self.y[0], tuple(int(i) for i in index))

    def facts(self):
        """Return [(word, text)]: formula, matrix products, cost, receptive field, and the ranges of the numbers."""
        takes = [("takes", " and ".join(self.takes))] if isinstance(self.x, list) else []
        rows = takes + explain(self.layer) + [("cost", self._cost()), ("field", _receptive_field(self.field, self.kind)),
                                      ("y", _range(self.y) + self._dead_units())]
        rows.append(("dy", "folded into the loss: backward starts at the input of this layer" if self.folded else
                     "not computed: no layer up to this one has parameters" if self.dy is None else _range(self.dy)))
        for name, (value, gradient) in self.parameters.items():
            rows.append((name, f"({times(*value.shape)}) {_range(value)}"))
            rows.append((f"d{name}", _range(gradient)))
        return rows + [(statistic.name.removeprefix("moving_"), f"({times(*statistic.value.shape)}) moving, now "
                        + _range(statistic.value)) for statistic in getattr(self.layer, "statistics", ())]

    def _cost(self):
        count = sum(value.size for value, _ in self.parameters.values())
        flops = self.layer.flops() if hasattr(self.layer, "flops") else None
        return (f"{'unknown' if flops is None else f'{flops:,}'} FLOP; {self.y[0].nbytes:,} bytes out; "
                f"{count:,} parameters")

    def _dead_units(self):
        if self.kind != "relu":
            return ""
        dead, what = self.dead(), "filters" if self.y.ndim == 4 else "units"
        where = "this sample" if len(self.y) == 1 else f"all {len(self.y)} samples"
        named = f" ({', '.join(str(k + 1) for k in dead[:12])}{', ...' if len(dead) > 12 else ''})" if dead else ""
        return f"; dead on {where}: {len(dead)} of {self.y.shape[-1]} {what}{named}"


class Trace:
    """The values and gradients of a network, by layer: print it, index it by name or number (from 1), or write a page.

    Attributes
    ----------
    x : ndarray, shape (N, ...), the input
    layers : list of LayerTrace
    output : ndarray, shape (N, ...), the output of the engine, as `predict` computes it
    loss : float, or None without a target
    target : ndarray, what the loss compares with the output, or None
    operation : str, the loss by its name in reference/losses.py
    """

    def __init__(self, model, x, layers, output, loss, target, operation, about_gradients):
        self.x, self.layers, self.output, self.loss = x, layers, output, loss
        self.target, self.operation = target, operation
        self.classes, self.dtype, self.engine = model.classes, model.dtype, model.engine
        self._about_gradients, self._several = about_gradients, bool(model.input_names or model.output_names)

    def __getitem__(self, layer):
        names = [one.name for one in self.layers]
        if layer in names:
            return self.layers[names.index(layer)]
        if isinstance(layer, int) and 1 <= layer <= len(self.layers):
            return self.layers[layer - 1]
        raise InputError(f"trace: there is no layer {layer!r}; there are {', '.join(names)}.{nearest(layer, names)}")

    def by_hand(self, layer, index=None):
        """Return one number of a layer's output, computed term by term: see LayerTrace.by_hand."""
        return self[layer].by_hand(index)

    def page(self, path, title="Trace of a network"):
        """Write a page that shows the products behind any selected number of any layer."""
        from minicnn.teaching.trace_page import write_page
        if self._several:
            raise InputError("trace: the page shows networks of one input and one output; print this trace instead (without "
                             "--html).")
        write_page(path, self, title)

    def __str__(self):
        return "\n".join([*self.heading(), *(line for layer in self.layers for line in ["", *layer_lines(layer)])])

    __repr__ = __str__

    def heading(self):
        """Return the first lines of the text: the network, its output, and the meaning of the gradients."""
        parameters = sum(value.size for layer in self.layers for value, _ in layer.parameters.values())
        samples = f"{len(self.x)} sample{'s' if len(self.x) > 1 else ''}"
        lines = [f"{len(self.layers)} layers, {parameters:,} parameters, on {samples} of {times(*self.x.shape[1:])}; "
                 f"{self.dtype}, {self.engine} engine.", f"Input: {_range(self.x)}.",
                 f"Output: {'; '.join(self._outputs())}" + (" (first sample)." if len(self.x) > 1 else "."),
                 self._about_gradients, _COUNTING]
        return [line for sentence in lines for line in textwrap.wrap(sentence, _WIDTH)]

    def _outputs(self):
        """Yield the output of the first sample in words; of several outputs each after the layer that makes it."""
        last, made = self.layers[-1], {layer.name: layer for layer in self.layers}
        if not getattr(last.layer, "joins", False):
            yield _output(self.output[0], self.classes, last.kind)
            return
        for name in last.takes:
            yield f"{name} {_output(made[name].y[0], None, made[name].kind)}"


def trace(model, x, t=None):
    """Return a Trace of a model on x.

    The layers run one at a time. In `predict` some are fused, and may round differently in the last place. The
    gradients of the model's parameters are overwritten, as by any backward pass.

    Parameters
    ----------
    model : Sequential; if it is not compiled, the loss is the one that fits its last layer
    x : array, shape (N, ...), one sample or a few (uint8 is divided by 255), or a dataset of data/loader.py. Ranges and
        dead ReLUs are over all samples, numbers by hand are of the first; all values are kept in memory
    t : the targets of the samples, as for `fit`; by default the gradients are those of the largest logit

    Raises
    ------
    ShapeError, DTypeError, InputError
        if x or t does not fit the network
    NonFiniteError
        if the output of a layer holds NaN or infinity, naming the first such layer

    >>> from minicnn import Dense, Flatten, Sequential
    >>> model = Sequential([Flatten(), Dense(1)], input_shape=(2, 2, 1), engine="reference")
    >>> traced = trace(model, np.ones((1, 2, 2, 1)))
    >>> hand = traced.by_hand("dense_1", 0)
    >>> hand.products.shape, hand.agrees
    ((4,), True)
    """
    source = x if hasattr(x, "batch") else as_dataset(model, x, "trace") if model.input_names else \
        ArrayDataset(x, shape=model.input_shape, owner="trace")
    x = as_array(source.batch(np.arange(len(source))), "trace", "x", model.dtype)
    network, loss = model.network, model.loss or loss_of(model.network)
    heads = network.heads(loss.heads)
    network.blame_forward(x)
    output = np.array(network.forward(x))
    rows = network.rows(heads=heads)
    z = np.array(network.forward(x, rows))
    dz, value, t, about = _output_gradient(network, loss, z, t)
    network.backward(dz, rows)              # checks what custom layers return
    values = network.values(x, network.rows(fused=False), lambda step, taken: np.array(step.forward(taken)))
    rows = [row._replace(step=_Noted(row.step)) for row in network.rows(heads=heads, fused=False)]
    gradients = network.gradients(dz, rows, range(len(values)))
    layers, fields = [], fields_of(network)
    names = ["input", *(layer.name for layer in model.layers)]
    for i, layer in enumerate(model.layers):
        parameters = {p.name: (p.value.copy(), p.grad.copy()) for p in getattr(layer, "parameters", ())}
        sources = network.sources[i]
        layers.append(LayerTrace(i + 1, layer, [names[value] for value in sources], sources, rows[i].step.sent,
                                 network.taken(values, i), values[i + 1], None if i in heads else gradients.get(i + 1),
                                 i in heads, parameters, fields[i + 1]))
    return Trace(model, x, layers, output, value, t, loss.operation, about)


class _Noted:
    """A step that notes what it sends back for the first sample."""

    def __init__(self, step):
        self.forward, self._backward, self.sent = step.forward, step.backward, []

    def backward(self, dy):
        dx = self._backward(dy)
        self.sent = [None if part is None else np.array(part[0]) for part in (dx if isinstance(dx, list) else [dx])]
        return dx


def _output_gradient(network, loss, z, t):
    """Return (the gradient with respect to z, the loss or None, the encoded target or None, a sentence about it)."""
    dz = np.zeros_like(z)
    if t is None:
        rows = dz.reshape(len(z), -1)
        rows[np.arange(len(z)), z.reshape(len(z), -1).argmax(axis=1)] = 1
        what = "logit" if loss.head else "output"
        return dz, None, None, f"No target: dy is the gradient of the largest {what} with respect to y."
    t = t if hasattr(loss, "outputs") else np.atleast_1d(t)
    t = encoded(loss, t, network.output_shape, network.dtype, len(z), "trace")
    value = loss(get_engine(network.engine), z, t, None, np.zeros(len(z)), dz)
    return dz, value, t, f"Loss ({loss.name}): {value:.6g}; dy is its gradient with respect to y."


# ---- As text ---------------------------------------------------------------------------------------------------------

def layer_lines(traced):
    """Return the lines of one layer: its name and shapes, its facts, and one number by hand."""
    head = f"{traced.number:2d}  {traced.name}  {type(traced.layer).__name__}"
    shapes = f"{' + '.join(times(*x.shape[1:]) for x in traced.inputs)} -> {times(*traced.y.shape[1:])}"
    lines = [head + " " + shapes.rjust(_WIDTH - len(head) - 1), "-" * _WIDTH]
    for word, sentence in traced.facts():
        lines += textwrap.wrap(sentence, _WIDTH, initial_indent=f"    {word:9} ", subsequent_indent=" " * 14)
    return lines if traced.kind is None else lines + hand_lines(traced, traced.by_hand())


def hand_lines(traced, hand):
    """Return the lines that compute one number by hand and compare it with that of the engine."""
    place = ", ".join(map(str, hand.index))
    if hand.products is None:
        terms = ", ".join(f"{x:.8g}" for x in hand.x.ravel()[:9]) + (", ..." if hand.x.size > 9 else "")
        operation = {"max": "max({})", "relu": "max({}, 0)", "average": "mean({})", "sigmoid": "1 / (1 + exp(-({})))",
                     "tanh": "tanh({})", "softmax": f"softmax({{}})[{hand.index[-1]}]"}.get(traced.kind, hand.written or "{}")
        lines = textwrap.wrap(f"y[{place}] = {operation.format(terms)} = {hand.value:.8g}", _WIDTH - 14)
    else:
        positive, negative = hand.products[hand.products > 0].sum(), hand.products[hand.products < 0].sum()
        lines = [f"y[{place}] = {hand.products.size:,} products{' and a bias' * traced.layer.use_bias}:"]
        if hand.products.ndim == 3 and hand.products.shape[1] * hand.products.shape[2] <= 9:
            lines += _window_table(hand)
        lines.append(f"positive products {positive:.7f}, negative {negative:.7f}, bias {hand.bias:.7f}: "
                     f"{hand.value:.8f}")
    verdict = "equal" if hand.difference == 0 else (
        f"differs by {hand.difference:.1e}, " + ("a rounding error" if hand.agrees else "more than a rounding error")
        + f" (at most {hand.bound:.1e})")
    lines.append(f"Engine: {hand.engine:.8g}, {verdict}")
    return [(f"    {'by hand':10}" if i == 0 else " " * 14) + line for i, line in enumerate(lines)]


def _window_table(hand):
    """Return a table of a small window: its numbers, the weights and the products, side by side if they fit.

    The products have a digit less than their factors: what one multiplies is what is there.
    """
    tables = [[" ".join(f"{number:8.{digits}{'f' if abs(number) < 10 else 'g'}}" for number in row.ravel())
               for row in array] for array, digits in ((hand.x, 5), (hand.w, 5), (hand.products, 4))]
    if hand.x[0].size > 3:
        return [f"{word if k == 0 else '':4}{row}" for word, table in zip(("x", "w", "x w"), tables)
                for k, row in enumerate(table)]
    return grid([("window", "", "weights", "", "products"), *((x, "*", w, "=", p) for x, w, p in zip(*tables))])


def _range(array):
    """Return the minimum, maximum and mean, and the share of zeros if there are any."""
    if array.min() == array.max():
        return f"{array.flat[0]:.6g}" + (" everywhere" if array.size > 1 else "")
    zeros = np.mean(array == 0)
    text = f"{array.min():.4g} .. {array.max():.4g}, mean {array.mean(dtype=np.float64):.4g}"
    return text + (f", {zeros:.1%} zeros" if zeros else "")


def _receptive_field(field, kind):
    if field is None:
        return "not known"
    size = f"{times(*field.size)} pixels of the image"
    if kind == "flatten":
        return f"that of each input; all together {size}"
    if field.stride == (0, 0):
        return f"{size}, the receptive field of the whole last feature map"
    text = f"{size}, stride {times(*field.stride)}"
    return text + (f", the first from [{field.start[0]}, {field.start[1]}]" if any(field.start) else "")


def _output(output, classes, kind):
    """Return the network's output for one sample, with the class name if it has classes."""
    if output.shape == (1,):
        named = kind == "sigmoid" and classes and len(classes) == 2
        return f"{output[0]:.6g}" + (f", the probability of {printable(classes[1])}" if named else "")
    if output.ndim == 1:
        best = int(output.argmax())
        name = printable(classes[best]) if classes else f"output {best + 1} of {output.size}"
        return f"{name}, {output[best]:.6g}"
    return f"a map of {times(*output.shape)}"
