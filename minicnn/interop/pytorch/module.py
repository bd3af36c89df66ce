"""The text of a Python file: a network of minicnn as a module of PyTorch.

Each layer is one line of `forward`, or a part of one, and, where it has weights, one of `__init__`. Arrays of three axes are
images, (H, W, C) here and channels first there; arrays of one axis are rows, which may be in another order (row_orders);
others are as here. The text consists of what stands here, of numbers, and of names of letters, digits and _.
"""

import numpy as np

from minicnn.core.text import join
from minicnn.errors import InputError, printable
from minicnn.interop.pytorch.rows import row_orders, type_of
from minicnn.interop.pytorch.state_dict import module_names

__all__ = ["module_text"]

_TEXT = '''"""A network of minicnn in PyTorch: load() returns it with its weights, from the .safetensors file of the same name.

It takes {inputs}. Images are channels first. Pixels are as in training: in [0, 1] where minicnn was given uint8.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F


class Network(nn.Module):
    def __init__(self):
        super().__init__()
{made}
    def forward(self, {arguments}):
{lines}

def load():
    """Return the network, ready to predict; call its train() to train it on."""
    network = Network(){cast}
    network.load_state_dict(load_file(Path(__file__).with_suffix(".safetensors")))
    return network.eval()
'''


def module_text(model):
    """Return the text of the module of a model; InputError names all layers that PyTorch cannot have from here."""
    network = model.network
    strange = join(f"{type(layer).__name__} {layer.name!r}" for layer in network.layers if type_of(layer) not in _LAYERS)
    if strange:
        raise InputError(f"save: PyTorch has no counterpart of {printable(strange)}. Nothing was written. Use minicnn's own layers.")
    return _Writer(model).text()


class _Writer:
    """The lines of one module.

    Attributes
    ----------
    orders : of each value of the network, as of row_orders
    made : lines of __init__
    """

    def __init__(self, model):
        self.model, self.network, self.made = model, model.network, []
        self.orders, self.names = row_orders(model.network), module_names(model.network)

    def text(self):
        network, several = self.network, self.model.input_names
        takers = [[i for i, taken in enumerate(network.sources) if value in taken] for value in range(len(network.shapes))]
        first = "x" if takers[0] == [0] else "inputs"
        said, lines = [None if several else first], []      # for each value the expression that stands for it
        for i, (layer, taken, name) in enumerate(zip(network.layers, network.sources, self.names)):
            kind, value, sources = type_of(layer), i + 1, [said[source] for source in taken]
            if kind == "InputLayer":
                said.append(name)
                continue
            if kind == "Outputs":
                lines.append(f"return {', '.join(self.as_ours(said[source], source) for source in taken)}")
                break
            write = _LAYERS[kind]
            expression = write.format(*sources, layer=layer) if isinstance(write, str) else write(self, layer, i, *sources)
            if i == len(network.layers) - 1:
                lines.append(f"return {self.as_ours(expression, value)}")
            elif takers[value] == [i + 1] and _wraps(network.layers[i + 1]) and len(expression) < 70:
                said.append(expression)
            else:
                said.append("x" if takers[value] == [i + 1] else name)
                if said[value] != expression:
                    lines.append(f"{said[value]} = {expression}")
        arguments = [name for name, layer in zip(self.names, network.layers) if type_of(layer) == "InputLayer"] or [first]
        shapes = self.model.input_shape if several else [network.input_shape]
        inputs = ", ".join(f"{argument} {_batch(shape)}" for argument, shape in zip(arguments, shapes))
        return _TEXT.format(inputs=inputs, arguments=", ".join(arguments), lines=_indented(lines), made=_indented(self.made),
                            cast=".double()" if self.model.dtype == "float64" else "")

    def module(self, i, text, frozen=()):
        """Add a module to __init__, and return its name."""
        name = f"self.{self.names[i]}"
        self.made.append(f"{name} = {text}")
        self.made += [f"{name}.{one}.requires_grad_(False)" for one in frozen]
        return name

    def as_ours(self, x, value):
        """Return the expression of a value whose row is in our order."""
        order = self.orders[value]
        if order is None:
            return x
        if len(order) > 1:
            name = self.names[value - 1]
            raise InputError(f"{name}: a row that flattened images and others are joined to is an output, or reshaped. In PyTorch "
                             "its numbers would be in another order. Put a Dense layer behind it.")
        x = x if x.isidentifier() else f"({x})"
        return f"{x}.unflatten(1, {order[0]}).movedim(1, -1).flatten(1)"


def _wraps(layer):
    """Whether a layer is written around what it takes, as an activation is."""
    return type_of(layer) in _WRAPPING and len(layer.output_shape) in (1, 3)


def _indented(lines):
    return "".join(f"        {line}\n" for line in lines)


def _batch(shape):
    shape = (shape[2], *shape[:2]) if len(shape) == 3 else shape
    return f"({', '.join(['N', *map(str, shape)])})"


def _call(*numbers, **options):
    """Return the text of arguments; those that are None are left out."""
    return ", ".join(str(number) if name is None else f"{name}={number}" for name, number in
                     [*((None, number) for number in numbers), *options.items()] if number is not None)


def _pair(sizes, default=None):
    """Return two numbers, or the one that both are; None where that is the default."""
    one = sizes[0] if sizes[0] == sizes[1] else tuple(sizes)
    return None if one == default else one


# ---- The layers ------------------------------------------------------------------------------------------------------
# Each is a text with places for the expressions of what it takes, or a function of (writer, layer, its number, expressions).

def _padded(layer, x, value=""):
    """Return (x, its padding): a pair where it is the same on both sides; else x is padded by a line of its own."""
    top, bottom, left, right = layer.pads
    if (top, left) == (bottom, right):
        return x, (top, left)
    return f"F.pad({x}, {(left, right, top, bottom)}{value})", (0, 0)


def _module(layer, F, groups, bias, padding):
    """Return the text of a convolution from the channels of a layer's input to F."""
    return f"""nn.Conv2d({_call(layer.input_shape[2], F, _pair(layer.kernel_size), stride=_pair(layer.strides, 1),
                                padding=_pair(padding, 0), dilation=_pair(layer.dilation_rate, 1),
                                groups=None if groups == 1 else groups, bias=None if bias else False)})"""


def _convolution(writer, layer, i, x):
    x, padding = _padded(layer, x)
    return f"{writer.module(i, _module(layer, layer.filters, layer.groups, layer.use_bias, padding))}({x})"


def _depthwise(writer, layer, i, x):
    (x, padding), C = _padded(layer, x), layer.input_shape[2]
    return f"{writer.module(i, _module(layer, C * layer.depth_multiplier, C, layer.use_bias, padding))}({x})"


def _separable(writer, layer, i, x):
    (x, padding), C = _padded(layer, x), layer.input_shape[2]
    name = writer.module(i, "nn.Sequential()")
    point = _call(C * layer.depth_multiplier, layer.filters, 1, bias=None if layer.use_bias else False)
    writer.made += [f"{name}.depthwise = {_module(layer, C * layer.depth_multiplier, C, False, padding)}",
                    f"{name}.pointwise = nn.Conv2d({point})"]
    return f"{name}({x})"


def _dense(writer, layer, i, x):
    numbers = _call(layer.input_shape[0], layer.units, bias=None if layer.use_bias else False)
    return f"{writer.module(i, f'nn.Linear({numbers})')}({x})"


def _window(layer):
    """Return the size of a pool, and its strides where they are others."""
    return [_pair(layer.pool_size)] + [_pair(layer.strides)] * (layer.strides != layer.pool_size)


def _max_pool(writer, layer, i, x):
    x, padding = _padded(layer, x, ', value=float("-inf")')
    return f"F.max_pool2d({_call(x, *_window(layer), padding=_pair(padding, 0))})"


def _average_pool(writer, layer, i, x):
    """Where the padding is not symmetric, sums over the padded image are divided by those over padded ones."""
    window = _call(*_window(layer))
    padded, padding = _padded(layer, x)
    if padded != x:
        ones, _ = _padded(layer, f"torch.ones_like({x})")
        return f"F.avg_pool2d({padded}, {window}) / F.avg_pool2d({ones}, {window})"
    more = "" if padding == (0, 0) else f", padding={_pair(padding)}, count_include_pad=False"
    return f"F.avg_pool2d({x}, {window}{more})"


def _normalization(writer, layer, i, x):
    """PyTorch's weight and bias are both there, or neither: one that the layer has not is written, and frozen."""
    absent = [name for name, has in (("weight", layer.scale), ("bias", layer.center)) if not has]
    frozen, off = absent if len(absent) == 1 else [], False if len(absent) == 2 else None
    *sizes, C = layer.output_shape
    epsilon = None if layer.epsilon == 1e-5 else layer.epsilon
    if type_of(layer) == "LayerNormalization":
        name = writer.module(i, f"nn.LayerNorm({_call(C, eps=epsilon, elementwise_affine=off)})", frozen)
        return f"{name}({x}.movedim(1, -1)).movedim(-1, 1)" if len(sizes) == 2 else f"{name}({x})"
    momentum = round(1 - layer.momentum, 12)
    numbers = _call(C, eps=epsilon, momentum=None if momentum == 0.1 else momentum, affine=off)
    name = writer.module(i, f"nn.BatchNorm{2 if len(sizes) == 2 else 1}d({numbers})", frozen)
    return f"{name}({x}.flatten(0, -2)).view_as({x})" if len(sizes) not in (0, 2) else f"{name}({x})"


def _reshape(writer, layer, i, x):
    before, after, source = layer.input_shape, layer.output_shape, writer.network.sources[i][0]
    if len(after) == 1 and len(before) in (1, 3):
        return x if len(before) == 1 else f"{x}.flatten(1)"
    if len(after) == 3 and len(before) == 1:
        (H, W, C), order = after, writer.orders[source]
        if order == ((C, H, W),) or order is None and (C == 1 or H * W == 1):
            return f"{x}.unflatten(1, {(C, H, W)})"
    x = f"{x}.movedim(1, -1)" if len(before) == 3 else writer.as_ours(x, source)
    return f"{x}.reshape({_call(-1, *after)})" + ".movedim(-1, 1)" * (len(after) == 3)


def _permute(writer, layer, i, x):
    """Its axes as PyTorch has them: of images, ours 1, 2, 3 are 2, 3, 1."""
    rank = len(layer.dims)
    theirs = [2, 3, 1] if rank == 3 else list(range(1, rank + 1))
    made = [theirs[axis - 1] for axis in layer.dims]
    axes = [0] + [made[theirs.index(axis)] for axis in range(1, rank + 1)]
    return x if axes == sorted(axes) else f"{x}.permute({_call(*axes)})"


def _constant(writer, layer, i, x):
    *sizes, C = layer.output_shape
    axes = (C, *sizes) if len(sizes) == 2 else (*sizes, C)
    writer.made.append(f'self.register_buffer("{writer.names[i]}", torch.zeros({_call(1, *axes)}))')
    return f"self.{writer.names[i]}.expand({_call(f'len({x})', *[-1] * len(axes))})"


def _border(writer, layer, i, x):
    (top, bottom), (left, right) = layer.padding if type_of(layer) == "ZeroPadding2D" else -np.array(layer.cropping)
    return f"F.pad({x}, ({left}, {right}, {top}, {bottom}))"


def _relu(writer, layer, i, x):
    if layer.max_value is None:
        return f"F.relu({x})"
    return f"F.relu6({x})" if layer.max_value == 6 else f"F.hardtanh({x}, 0.0, {layer.max_value})"


def _global_pool(writer, layer, i, x):
    function = "mean" if type_of(layer) == "GlobalAveragePooling2D" else "amax"
    return f"{x}.{function}((2, 3){', keepdim=True' * layer.keepdims})"


def _channels(layer):
    """Return the axis in PyTorch of what is last here."""
    return 1 if len(layer.output_shape) in (1, 3) else -1


_PAIRS = {"maximum": "torch.maximum({}, {})", "minimum": "torch.minimum({}, {})", "subtract": "{} - {}", "divide": "{} / {}",
          "power": "{} ** {}", "remainder": "torch.fmod({}, {})"}
_LAYERS = {
    "Conv2D": _convolution, "DepthwiseConv2D": _depthwise, "SeparableConv2D": _separable, "Dense": _dense,
    "MaxPool2D": _max_pool, "AveragePool2D": _average_pool, "GlobalAveragePooling2D": _global_pool,
    "GlobalMaxPooling2D": _global_pool, "BatchNormalization": _normalization, "LayerNormalization": _normalization,
    "Flatten": _reshape, "Reshape": _reshape, "Permute": _permute, "Constant": _constant, "ZeroPadding2D": _border,
    "Cropping2D": _border, "ReLU": _relu,
    "UpSampling2D": 'F.interpolate({}, scale_factor={layer.size}, mode="nearest-exact")',
    "Rescaling": "{} * {layer.scale} + {layer.offset}",
    "LeakyReLU": "F.leaky_relu({}, {layer.negative_slope})", "Swish": "F.silu({})", "Softplus": "F.softplus({})",
    "ELU": lambda writer, layer, i, x: f"F.elu({_call(x, None if layer.alpha == 1 else layer.alpha)})",
    "Sigmoid": "torch.sigmoid({})", "Tanh": "torch.tanh({})",
    "Softmax": lambda writer, layer, i, x: f"F.softmax({x}, {_channels(layer)})",
    "Dropout": "F.dropout({}, {layer.rate}, self.training)", "SpatialDropout2D": "F.dropout2d({}, {layer.rate}, self.training)",
    "Elementwise": "torch.{layer.function}({})",
    "ElementwisePair": lambda writer, layer, i, x, y: _PAIRS[layer.function].format(x, y),
    "Add": lambda writer, layer, i, *xs: " + ".join(xs), "Multiply": lambda writer, layer, i, *xs: " * ".join(xs),
    "Concatenate": lambda writer, layer, i, *xs: f"torch.cat(({', '.join(xs)}), {_channels(layer)})",
    "InputLayer": None, "Outputs": None}            # arguments, and what is returned
_WRAPPING = {"ReLU", "LeakyReLU", "ELU", "Swish", "Softplus", "Sigmoid", "Tanh", "Softmax", "Dropout", "SpatialDropout2D",
             "Elementwise", "BatchNormalization"}
