"""A network as an ONNX file: a function for each layer, in the table _OPERATORS, which writes its nodes.

Arrays of samples (H, W, C) are in the file (N, C, H, W), because ONNX's convolutions know no other order. `_File.first` and `last`
return an array with its channels first or last, and write a Transpose where it is not there yet: so there is one at the input,
and around layers whose meaning depends on the order of the axes, such as Flatten, and no other.
"""

import json
import math
import warnings
from typing import NamedTuple

import numpy as np

from minicnn import __version__, layers as ours
from minicnn.core.arguments import OneOf, OrNone, Real, Text, check
from minicnn.core.files import write_atomic
from minicnn.core.random import Stream, uniforms
from minicnn.core.text import join
from minicnn.errors import InputError, MissingExtraError
from minicnn.reference.capsules import EPSILON

__all__ = ["save", "OPSET", "IR_VERSION"]

OPSET, IR_VERSION = 17, 8
_LAYOUTS, _INPUTS = OneOf(("nhwc", "nchw")), OneOf(("float32", "uint8"))
_FIRST, _LAST = [0, 3, 1, 2], [0, 2, 3, 1]         # the orders of axes of the two Transposes
_MOST_BYTES = 2**31 - 2**20                        # protobuf's limit


def save(model, path, layout="nhwc", input="float32", threshold=None, licence=None):
    """Write a model to an ONNX file, all or nothing, after ONNX's checker, and ONNX Runtime where it is installed, agreed.

    Node names are those of the layers, inputs are called `input`, or as the model calls several, outputs as the layers that make
    them. The size of a batch, N, is free. Dropout does nothing. Metadata: classes, preprocessing, threshold, licence.

    Parameters
    ----------
    model : Sequential or Model of minicnn's own layers
    path : str or Path
    layout : "nhwc" or "nchw"; the order of axes of images, of inputs and outputs alike
    input : "float32", values as the model was trained on, or "uint8": images of 0 to 255, which the file divides by 255 itself
    threshold : float, optional; the operating point, of the second of two classes (evaluation/operating_point.py)
    licence : str, optional; the licence of the weights

    Raises
    ------
    InputError
        a layer that ONNX has no operators for, such as a custom one, or a model too large; nothing is written
    MissingExtraError
        without the onnx library: pip install "minicnn[onnx]"
    CheckpointError
        if the file cannot be written; the old one is intact

    Warns
    -----
    RuntimeWarning : a float64 model, which becomes float32, as ONNX Runtime's convolutions are

    >>> import tempfile, os
    >>> from minicnn import cov19net
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(cov19net(), os.path.join(folder, "model.onnx"))
    ...     os.listdir(folder)
    ['model.onnx']
    """
    layout, kind = check("save", "layout", layout, _LAYOUTS), check("save", "input", input, _INPUTS)
    threshold = check("save", "threshold", threshold, OrNone(Real(0, 1, "[]")))
    licence = check("save", "licence", licence, OrNone(Text("a text, such as CC-BY-4.0")))
    unknown = [layer for layer in model.layers if type(layer) not in _OPERATORS]
    if unknown:
        named = join(f"{type(layer).__name__} {layer.name!r}" for layer in unknown)
        raise InputError(f"save: ONNX has no operators for {named}. Nothing was written. Those of minicnn's own layers are known: "
                         f"{', '.join(sorted(layer.__name__ for layer in _OPERATORS))}.")
    size = 4 * sum(weight.value.size for _, weight in model.network.weights())
    if size > _MOST_BYTES:
        raise InputError(f"save: an ONNX file has at most 2 GiB, and the weights have {size:,} bytes. Nothing was written.")
    if model.dtype != np.float32:
        warnings.warn("save: this model computes in float64. The file computes in float32, as ONNX Runtime's convolutions do.",
                      RuntimeWarning, stacklevel=2)
    facts = {"classes": model.classes, "preprocessing": model.preprocessing and model.preprocessing.to_dict(),
             "threshold": threshold, "licence": licence}
    file = _File(_library(), model, layout, kind)
    content = file.content({name: value if isinstance(value, str) else json.dumps(value) for name, value in facts.items()
                            if value is not None})
    _check_by_runtime(content, model, layout, kind)
    write_atomic(path, content, private=False)


def _library():
    try:
        import onnx
    except ImportError:
        raise MissingExtraError("writing ONNX files", "onnx", "onnx") from None
    return onnx


class _Array(NamedTuple):
    """An array of the network in the file: its names with channels first and last, where they are there.

    Attributes
    ----------
    shape : without N; only with three sizes the two orders differ
    first, last : str or None
    single : str or None; the layer Constant whose value it is, one for all samples, (1, ...), which arithmetic repeats
    """

    shape: tuple
    first: str | None = None
    last: str | None = None
    single: str | None = None


class _File:
    """The nodes and weights of the file, as they are written layer by layer.

    Attributes
    ----------
    values : list of _Array, as the network's values: the input, then what each layer makes
    layer : the layer whose nodes are written
    """

    def __init__(self, library, model, layout, kind):
        self._onnx, self._model, self._layout, self._kind = library, model, layout, kind
        self._nodes, self._weights, self._inputs = [], [], []
        self._others = {}               # {(an _Array, an order): its name in that order, which is not its own}
        self._output_names = model.output_names or (model.layers[-1].name,)
        self._taken = set(self._output_names)
        network = model.network
        self.values = [None] if model.input_names else [self.input("input", network.input_shape)]
        for layer, sources in zip(model.layers, network.sources):
            arrays = [self.values[source] for source in sources]
            self.layer = layer
            self.values.append(_OPERATORS[type(layer)](self, layer, *arrays))

    # -- what the functions of layers use --

    def node(self, operator, inputs, shape=None, order="first", part=None, **attributes):
        """Write a node of the present layer, and return its output as an _Array, or its name where no shape is given.

        `part` names a node that is not the layer's last; `order` is the order of the output's axes.
        """
        name = self.layer.name if part is None else f"{self.layer.name}/{part}"
        result = self._unique(f"{name}:0")
        self._nodes.append(self._onnx.helper.make_node(operator, inputs, [result], name=name, **attributes))
        return result if shape is None else _in_order(shape, order, result)

    def weight(self, name, array):
        """Write an array of the present layer, and return its name; integers are int64, all else float32."""
        array = np.array(array, np.int64 if np.asarray(array).dtype.kind == "i" else np.float32, order="C")
        name = self._unique(f"{self.layer.name}/{name}")
        self._weights.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def first(self, array):
        """Return the name of an array with its channels first; with fewer axes, or more, there is one order."""
        return self._ordered(self.whole(array), "first")

    def last(self, array):
        """Return the name of an array with its channels last."""
        return self._ordered(self.whole(array), "last")

    def alike(self, arrays):
        """Return ([names of several arrays in one order], that order), for arithmetic that repeats sizes of 1."""
        if all(array.single for array in arrays):
            arrays = [self.whole(array) for array in arrays]
        order = next((order for order in ("first", "last") if all(self._there(array, order) for array in arrays)), "first")
        return [self._ordered(array, order) for array in arrays], order

    def whole(self, array):
        """Return an array with a row for each sample."""
        if not array.single:
            return array
        one = np.array([1])
        anything = next(value for value in self.values if value is not None and not value.single)
        n = self.node("Slice", [self.node("Shape", [anything.first or anything.last], part="shape"), self.weight("begin", 0 * one),
                                self.weight("end", one)], part="n")
        sizes = self.node("Concat", [n, self.weight("sizes", np.array(array.shape))], part="sizes", axis=0)
        return self.node("Expand", [self._ordered(array, "last"), sizes], array.shape, "last", part="expand")

    # -- the rest of the file --

    def _there(self, array, order):
        """Return the name of an array in an order, or None where nobody needed it yet."""
        return array.single or getattr(array, order) or self._others.get((array, order))

    def _ordered(self, array, order):
        name = getattr(array, order) or self._others.get((array, order))
        perm = _FIRST if order == "first" else _LAST
        if name is None and array.single:
            value = self._model.get_layer(array.single).statistics[0].value[np.newaxis]
            name = self.weight("value", value.transpose(perm) if order == "first" and value.ndim == 4 else value)
        elif name is None:
            name = self.node("Transpose", [array.first or array.last], part=f"channels_{order}", perm=perm)
        self._others[array, order] = name
        return name

    def _unique(self, name):
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name

    def input(self, name, shape):
        """Write an input, in the file's layout, and return its array: what the network takes, scaled where it is pixels."""
        helper, types = self._onnx.helper, self._onnx.TensorProto
        is_image, is_pixels = len(shape) == 3, self._kind == "uint8" and len(shape) == 3
        order = "first" if self._layout == "nchw" or not is_image else "last"
        sizes = (shape[2], *shape[:2]) if is_image and order == "first" else shape
        axes = f"(N, {', '.join('CHW' if order == 'first' else 'HWC')}), " if is_image else ""
        low, high = self._model.input_range or (None, None)
        values = "pixels from 0 to 255" if is_pixels else "values as in training" if low is None else \
            f"values as in training, from {low:g} to {high:g}"
        name = self._unique(name)
        self._inputs.append(helper.make_tensor_value_info(name, types.UINT8 if is_pixels else types.FLOAT, ["N", *sizes],
                                                          doc_string=f"{axes}{values}"))
        if is_pixels:
            result, limit = f"{name}/scaled", f"{name}/255"
            self._weights.append(self._onnx.numpy_helper.from_array(np.array(255, np.float32), limit))
            self._nodes += [helper.make_node("Cast", [name], [f"{name}/float"], name=f"{name}/cast", to=types.FLOAT),
                            helper.make_node("Div", [f"{name}/float", limit], [result], name=f"{name}/scale")]
            name = result
        return _in_order(shape, order, name)

    def content(self, facts):
        """Return the bytes of the file, which ONNX's checker has accepted; `facts` are its metadata."""
        helper, outputs, called = self._onnx.helper, [], {}
        for name, value in zip(self._output_names, self._model.network.outputs):
            array, self.layer = self.values[value], self._model.layers[value - 1]
            is_image = len(array.shape) == 3
            order = "first" if self._layout == "nchw" or not is_image else "last"
            made = self._ordered(self.whole(array), order)
            if called.setdefault(made, name) != name:       # another output, under another name
                self._nodes.append(helper.make_node("Identity", [made], [name], name=f"{name}/output"))
            sizes = (array.shape[2], *array.shape[:2]) if is_image and order == "first" else array.shape
            outputs.append(helper.make_tensor_value_info(name, self._onnx.TensorProto.FLOAT, ["N", *sizes]))
        for node in self._nodes:
            for names in (node.input, node.output):
                names[:] = [called.get(name, name) for name in names]
        graph = helper.make_graph(self._nodes, "network", self._inputs, outputs, self._weights)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
                                  producer_name="minicnn", producer_version=__version__)
        helper.set_model_props(proto, facts)
        content = proto.SerializeToString(deterministic=True)
        self._onnx.checker.check_model(content, full_check=True)
        return content


def _in_order(shape, order, name):
    """Return the _Array of this name; with other than three sizes both orders are one."""
    return _Array(shape, name, name) if len(shape) != 3 else _Array(shape, **{order: name})


def _check_by_runtime(content, model, layout, kind):
    """Raise InputError unless ONNX Runtime, where it is installed, makes of a few samples what the model does."""
    try:
        import onnxruntime
    except ImportError:
        return
    low, high = model.input_range or (0, 1)
    drawn = [uniforms(0, Stream.CHECK, 0, i, 2 * math.prod(shape)).reshape(2, *shape)
             for i, shape in enumerate(model.input_shape if model.input_names else [model.input_shape])]
    x = [np.uint8(256 * u) if kind == "uint8" and u.ndim == 4 else np.float32(low + (high - low) * u) for u in drawn]
    expected = model.predict(x if model.input_names else x[0])
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    given = {node.name: array.transpose(_FIRST) if layout == "nchw" and array.ndim == 4 else array
             for node, array in zip(session.get_inputs(), x)}
    for node, got, y in zip(session.get_outputs(), session.run(None, given), expected if model.output_names else [expected]):
        y = y.transpose(_FIRST) if layout == "nchw" and y.ndim == 4 else y
        off = np.abs(got - y).max() / max(1, np.abs(y).max()) if got.shape == y.shape else np.inf
        if not off <= 1e-4:
            raise InputError(f"save: ONNX Runtime's output {node.name!r} differs from that of predict by {off:.2g} of its largest "
                             "number. Nothing was written. Please report this network: it is a bug of minicnn or ONNX Runtime.")


# ---- Layers ----------------------------------------------------------------------------------------------------------

def _window(layer, kernel_size, **others):
    top, bottom, left, right = layer.pads
    return {"kernel_shape": kernel_size, "strides": layer.strides, "pads": [top, left, bottom, right], **others}


def _arrays(file, layer, **arrays):
    """Write several arrays of a layer, and return their names; those that are None are left out."""
    return [file.weight(name, array) for name, array in arrays.items() if array is not None]


def _bias(layer):
    return layer.bias[0] if layer.use_bias else None


def _conv(file, layer, x):
    kernel = layer.parameters[0].value.transpose(3, 2, 0, 1)
    return file.node("Conv", [file.first(x), *_arrays(file, layer, kernel=kernel, bias=_bias(layer))], layer.output_shape,
                     **_window(layer, layer.kernel_size, dilations=layer.dilation_rate, group=layer.groups))


def _depthwise(layer, C):
    """Return (weights, attributes) of a convolution of each channel alone: output channel c M + m is filter m of channel c."""
    kernel = layer.parameters[0].value.transpose(2, 3, 0, 1)
    return kernel.reshape(-1, 1, *layer.kernel_size), _window(layer, layer.kernel_size, dilations=layer.dilation_rate, group=C)


def _depthwise_conv(file, layer, x):
    kernel, window = _depthwise(layer, x.shape[2])
    return file.node("Conv", [file.first(x), *_arrays(file, layer, depthwise_kernel=kernel, bias=_bias(layer))],
                     layer.output_shape, **window)


def _separable_conv(file, layer, x):
    kernel, window = _depthwise(layer, x.shape[2])
    z = file.node("Conv", [file.first(x), *_arrays(file, layer, depthwise_kernel=kernel)], part="depthwise", **window)
    pointwise = layer.parameters[1].value.transpose(3, 2, 0, 1)
    return file.node("Conv", [z, *_arrays(file, layer, pointwise_kernel=pointwise, bias=_bias(layer))], layer.output_shape,
                     kernel_shape=[1, 1])


def _dense(file, layer, x):
    return file.node("Gemm", [file.first(x), *_arrays(file, layer, kernel=layer.parameters[0].value, bias=_bias(layer))],
                     layer.output_shape)


def _pool(operator):
    return lambda file, layer, x: file.node(operator, [file.first(x)], layer.output_shape, **_window(layer, layer.pool_size))


def _global_pool(operator):
    def write(file, layer, x):
        if layer.keepdims:
            return file.node(operator, [file.first(x)], layer.output_shape)
        return file.node("Flatten", [file.node(operator, [file.first(x)], part="pool")], layer.output_shape)
    return write


def _flatten(file, layer, x):
    return file.node("Flatten", [file.last(x)], layer.output_shape)


def _reshape(file, layer, x):
    sizes = file.weight("shape", np.array([0, *layer.output_shape]))       # 0: as it was, N
    return file.node("Reshape", [file.last(x), sizes], layer.output_shape, "last")


def _permute(file, layer, x):
    return file.node("Transpose", [file.last(x)], layer.output_shape, "last", perm=[0, *layer.dims])


def _padding(file, layer, x):
    (top, bottom), (left, right) = layer.padding
    pads = file.weight("pads", np.array([0, 0, top, left, 0, 0, bottom, right]))
    return file.node("Pad", [file.first(x), pads], layer.output_shape)


def _cropping(file, layer, x):
    (top, _), (left, _) = layer.cropping
    H, W, _ = layer.output_shape
    bounds = [file.weight(name, np.array(value)) for name, value in
              (("starts", [top, left]), ("ends", [top + H, left + W]), ("axes", [2, 3]))]
    return file.node("Slice", [file.first(x), *bounds], layer.output_shape)


def _up_sampling(file, layer, x):
    return file.node("Resize", [file.first(x), "", file.weight("scales", np.array([1.0, 1.0, *layer.size]))], layer.output_shape,
                     mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")


def _with_fields(operator, **fields):
    """Return the function of a layer that is one operator on each number, with attributes from the layer's fields."""
    def write(file, layer, x):
        (name,), order = file.alike([x])
        return file.node(operator, [name], layer.output_shape, order,
                         **{attribute: getattr(layer, field) for attribute, field in fields.items()})
    return write


def _relu(file, layer, x):
    (name,), order = file.alike([x])
    if layer.max_value is None:
        return file.node("Relu", [name], layer.output_shape, order)
    return file.node("Clip", [name, *_arrays(file, layer, min=np.float32(0), max=np.float32(layer.max_value))], layer.output_shape, order)


def _swish(file, layer, x):
    (name,), order = file.alike([x])
    return file.node("Mul", [name, file.node("Sigmoid", [name], part="sigmoid")], layer.output_shape, order)


def _softmax(file, layer, x):
    (name,), order = file.alike([x])
    return file.node("Softmax", [name], layer.output_shape, order, axis=1 if order == "first" and len(x.shape) == 3 else -1)


def _rescaling(file, layer, x):
    (name,), order = file.alike([x])
    scale = file.weight("scale", np.float32(layer.scale))
    if not layer.offset:
        return file.node("Mul", [name, scale], layer.output_shape, order)
    scaled = file.node("Mul", [name, scale], part="scaled")
    return file.node("Add", [scaled, file.weight("offset", np.float32(layer.offset))], layer.output_shape, order)


def _dropout(file, layer, x):
    (name,), order = file.alike([x])
    return file.node("Dropout", [name, file.weight("ratio", np.float32(layer.rate))], layer.output_shape, order)


def _gamma_and_beta(layer):
    """Return {name: array} of gamma and beta; ones called no_gamma, and zeros called no_beta, stand for what a layer has not."""
    names = "gamma" if layer.scale else "no_gamma", "beta" if layer.center else "no_beta"
    return dict(zip(names, layer.gamma_and_beta()))


def _batch_norm(file, layer, x):
    """Write BatchNormalization, whose channels are axis 1; of samples (A, C) they are brought there and back."""
    mean, variance = (statistic.value for statistic in layer.statistics)
    arrays = _arrays(file, layer, **_gamma_and_beta(layer), moving_mean=mean, moving_variance=variance)
    numbers = {"epsilon": layer.epsilon, "momentum": layer.momentum}
    if len(x.shape) in (1, 3):
        return file.node("BatchNormalization", [file.first(x), *arrays], layer.output_shape, **numbers)
    rank = len(x.shape) + 1
    there = file.node("Transpose", [file.last(x)], part="channels_first", perm=[0, rank - 1, *range(1, rank - 1)])
    done = file.node("BatchNormalization", [there, *arrays], part="normalized", **numbers)
    return file.node("Transpose", [done], layer.output_shape, perm=[0, *range(2, rank), 1])


def _layer_norm(file, layer, x):
    return file.node("LayerNormalization", [file.last(x), *_arrays(file, layer, **_gamma_and_beta(layer))], layer.output_shape, "last",
                     axis=-1, epsilon=layer.epsilon)


def _add(file, layer, *arrays):
    names, order = file.alike(arrays)
    return file.node("Add" if len(names) == 2 else "Sum", names, layer.output_shape, order)


def _multiply(file, layer, *arrays):
    (product, *names), order = file.alike(arrays)
    for i, name in enumerate(names[:-1], 1):
        product = file.node("Mul", [product, name], part=str(i))
    return file.node("Mul", [product, names[-1]], layer.output_shape, order)


def _concatenate(file, layer, *arrays):
    names, order = file.alike([file.whole(array) for array in arrays])
    return file.node("Concat", names, layer.output_shape, order, axis=1 if order == "first" and len(layer.output_shape) == 3 else -1)


def _elementwise(file, layer, x):
    (name,), order = file.alike([x])
    operator = {"square": "Mul"}.get(layer.function, layer.function.capitalize())
    return file.node(operator, [name] * (1 + (operator == "Mul")), layer.output_shape, order)


def _elementwise_pair(file, layer, a, b):
    names, order = file.alike([a, b])
    operator, attributes = {"maximum": ("Max", {}), "minimum": ("Min", {}), "subtract": ("Sub", {}), "divide": ("Div", {}),
                            "power": ("Pow", {}), "remainder": ("Mod", {"fmod": 1})}[layer.function]
    return file.node(operator, names, layer.output_shape, order, **attributes)


def _capsules(file, layer, x):
    """Write predictions (N, I, J, D), and for each round the sums of their products with the softmax, squashed: (N, 1, J, D)."""
    I, J, D = layer.input_shape[0], *layer.output_shape
    one, last, capsules, epsilon = file.weight("one", np.float32(1)), *(file.weight(name, np.array(value)) for name, value in (
        ("last", [-1]), ("capsules", [1]), ("epsilon", np.float32(EPSILON))))
    predicted = file.node("MatMul", [file.last(x), *_arrays(file, layer, kernel=layer.parameters[0].value)], part="products")
    predicted = file.node("Reshape", [predicted, file.weight("sizes", np.array([0, I, J, D]))], part="predictions")
    share, o = file.weight("share", np.float32(1 / J)), None
    for r in range(layer.routings):
        if r:
            agreed = file.node("Mul", [predicted, o], part=f"agreed{r}")
            agreed = file.node("ReduceSum", [agreed, last], part=f"agreements{r}")
            share = file.node("Softmax", [agreed], part=f"share{r}", axis=2)
        shared = file.node("Mul", [predicted, share], part=f"shared{r}")
        total = file.node("ReduceSum", [shared, capsules], part=f"sum{r}")
        square = file.node("ReduceSumSquare", [total], part=f"square{r}", axes=[-1])
        square = file.node("Add", [square, epsilon], part=f"positive{r}")
        factor = file.node("Div", [file.node("Sqrt", [square], part=f"root{r}"), file.node("Add", [one, square], part=f"more{r}")],
                           part=f"factor{r}")
        o = file.node("Mul", [total, factor], part=f"squashed{r}")
    return file.node("Squeeze", [o, capsules], layer.output_shape)


# {layer: the function (file, layer, *arrays) that writes its nodes and returns the _Array that it makes}
_OPERATORS = {
    ours.Conv2D: _conv, ours.DepthwiseConv2D: _depthwise_conv, ours.SeparableConv2D: _separable_conv, ours.Dense: _dense,
    ours.MaxPool2D: _pool("MaxPool"), ours.AveragePool2D: _pool("AveragePool"),
    ours.GlobalAveragePooling2D: _global_pool("GlobalAveragePool"), ours.GlobalMaxPooling2D: _global_pool("GlobalMaxPool"),
    ours.Flatten: _flatten, ours.Reshape: _reshape, ours.Permute: _permute, ours.ZeroPadding2D: _padding,
    ours.Cropping2D: _cropping, ours.UpSampling2D: _up_sampling, ours.Rescaling: _rescaling,
    ours.ReLU: _relu, ours.LeakyReLU: _with_fields("LeakyRelu", alpha="negative_slope"), ours.ELU: _with_fields("Elu", alpha="alpha"),
    ours.Swish: _swish, ours.Softplus: _with_fields("Softplus"), ours.Sigmoid: _with_fields("Sigmoid"),
    ours.Tanh: _with_fields("Tanh"), ours.Softmax: _softmax, ours.Dropout: _dropout, ours.SpatialDropout2D: _with_fields("Identity"),
    ours.StochasticDepth: _with_fields("Identity"),
    ours.BatchNormalization: _batch_norm, ours.LayerNormalization: _layer_norm,
    ours.Capsules: _capsules,
    ours.CapsuleLength: lambda file, layer, x: file.node("ReduceL2", [file.last(x)], layer.output_shape, axes=[-1], keepdims=0),
    ours.Add: _add, ours.Multiply: _multiply, ours.Concatenate: _concatenate,
    ours.Elementwise: _elementwise, ours.ElementwisePair: _elementwise_pair,
    ours.Constant: lambda file, layer, x: _Array(layer.shape, single=layer.name),
    ours.InputLayer: lambda file, layer, row: file.input(layer.name, layer.shape), ours.Outputs: lambda file, layer, *arrays: None}
