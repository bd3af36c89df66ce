"""Layers of Keras and ours: what each is in the other library, and which arguments belong to each other.

`reading` gives, for the class and the config of a Keras layer, a function of nodes; `writing` the class and the config for a
layer of ours. What has no counterpart is an InputError; `network` collects these, and tells all of them at once.
"""

import math
import re

from minicnn import layers
from minicnn.core.text import shortened
from minicnn.errors import InputError
from minicnn.initializers import INITIALIZERS
from minicnn.layers.affine import ACTIVATIONS
from minicnn.regularizers import L2

__all__ = ["KNOWN", "MERGING", "OPERATIONS", "Reading", "as_activation", "reading", "snake_case", "writing"]

# Classes that have one name in both libraries, and whose arguments have too.
_SAME = """
    Conv2D DepthwiseConv2D SeparableConv2D Dense MaxPooling2D AveragePooling2D GlobalAveragePooling2D GlobalMaxPooling2D Flatten
    Reshape Permute ZeroPadding2D Cropping2D UpSampling2D Rescaling ReLU LeakyReLU ELU Softmax Dropout SpatialDropout2D
    BatchNormalization LayerNormalization Add Multiply Concatenate""".split()
# {activation of Keras: our layers in a row}
_IN_A_ROW = {
    "linear": [], "relu": [("ReLU",)], "relu6": [("ReLU", 6.0)], "leaky_relu": [("LeakyReLU", 0.2)], "elu": [("ELU",)],
    "selu": [("ELU", 1.6732632423543772), ("Rescaling", 1.0507009873554805)], "sigmoid": [("Sigmoid",)], "tanh": [("Tanh",)],
    "softmax": [("Softmax",)], "silu": [("Swish",)], "swish": [("Swish",)], "softplus": [("Softplus",)],
    "exponential": [("Elementwise", "exp")], "hard_sigmoid": [("Rescaling", 1 / 6, 0.5), ("ReLU", 1.0)],
    "hard_sigmoid of Keras 2": [("Rescaling", 0.2, 0.5), ("ReLU", 1.0)]}
# {activation of Keras: our layers in a row, whose result is multiplied by what they took}
_GATED = {"gelu": [("Rescaling", math.sqrt(0.5)), ("Elementwise", "erf"), ("Rescaling", 0.5, 0.5)],
          "hard_silu": _IN_A_ROW["hard_sigmoid"], "hard_swish": _IN_A_ROW["hard_sigmoid"], "mish": [("Softplus",), ("Tanh",)]}
# What a config holds beside the arguments, or what is of no meaning here; network looks at dtype.
_BESIDE = {"name", "dtype", "trainable", "batch_input_shape", "batch_shape", "input_shape", "seed"}
_TRAINING_ONLY = re.compile(r".*_(regularizer|constraint)|noise_shape")
# {argument that is not here: what it may be beside None and False}
_HARMLESS = {"data_format": ["channels_last"], "groups": [1], "rank": [2], "activation": ["linear"], "renorm_momentum": [0.99],
             "threshold": [0.0], "fused": [True], "autocast": [True]}


def snake_case(kind):
    """Return the name of a class as the paths of a weights file have it.

    >>> snake_case("GlobalAveragePooling2D"), snake_case("ReLU")
    ('global_average_pooling2d', 're_lu')
    """
    kind = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", kind))
    return re.sub("([a-z])([A-Z])", r"\1_\2", kind).lower()


# ---- From Keras ------------------------------------------------------------------------------------------------------

class Reading:
    """The config of a Keras layer while it is read: what is asked for is taken out, and what is left must be off.

    Attributes
    ----------
    kind, name : str; its class in Keras, and what the layer is to be called here
    layer : the layer of ours that has its weights, or None
    remarks : list of str; what there was that changes training alone, and was left out
    """

    def __init__(self, kind, config, name, version):
        self.kind, self.name, self.version, self.layer, self.remarks = kind, name, version, None, []
        self._config = {key: value for key, value in config.items() if key not in _BESIDE}

    def take(self, key, default=None):
        """Return an argument, lists in it as tuples."""
        return _as_tuples(self._config.pop(key, default))

    def same(self, **others):
        """Return our layer of the same class, with the arguments that there are, and others."""
        kind = getattr(layers, self.kind)
        for field in kind.fields:
            if field in self._config and field not in others:
                convert = {"initializer": _initializer, "regularizer": _l2}.get(field.rpartition("_")[2], _as_tuples)
                value = convert(self._config[field])
                if convert is _as_tuples or value is not None:          # else it is not here, and `finish` tells of it
                    others[field] = value
                    del self._config[field]
        return kind(**others, name=self.name)

    def made(self, kind, suffix="", **arguments):
        """Return a layer of ours, named after this one."""
        return getattr(layers, kind)(**arguments, name=f"{self.name}{suffix}")

    def finish(self):
        """Note what is left that is not off; raise InputError where it changes predictions."""
        left = {key: value for key, value in self._config.items() if value not in (None, False) and not key.endswith("_initializer")}
        self.remarks += [f"{self.name}: {shortened(key, 60)}" for key in left if _TRAINING_ONLY.fullmatch(key)]
        strange = [f"{shortened(key, 60)}={shortened(repr(value), 60)}" for key, value in left.items()
                   if not _TRAINING_ONLY.fullmatch(key) and value not in _HARMLESS.get(key, ())]
        if strange:
            raise InputError("; ".join(strange))


def reading(kind, config, name, version):
    """Return the Reading of a Keras layer and a function of nodes that gives its node.

    Parameters
    ----------
    kind, config : str, dict; the class and the config of the layer
    name : str, plain
    version : int; of Keras: 2 or 3

    Raises
    ------
    InputError
        naming the arguments that have no counterpart, or that the class has none
    """
    if kind not in _READERS:
        reason = "it runs code, and a file's code is never run" if kind == "Lambda" else "there is no such layer here"
        raise InputError(reason)
    one = Reading(kind, config, name, version)
    try:
        function = _READERS[kind](one)
        one.finish()
    except InputError as error:
        raise InputError(str(error).removesuffix(".")) from None
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise InputError(f"its config is damaged ({shortened(error, 100)})") from None
    return one, function


def _as_tuples(value):
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


def _initializer(config):
    name = config.get("class_name") if isinstance(config, dict) else config
    name = snake_case(name) if isinstance(name, str) else None
    return name if name in INITIALIZERS else None


def _l2(config):
    """Return L2 from the config of Keras' L2, or of its L1L2 without l1; None where it is another, or none."""
    inner = config.get("config") if isinstance(config, dict) else None
    if not isinstance(inner, dict) or config.get("class_name") not in ("L2", "L1L2") or inner.get("l1") not in (None, 0):
        return None
    return L2(inner.get("l2"))


def _row(row, name):
    """Return the function of a node that a row of a table is; its last layer is called `name`."""
    made = [getattr(layers, kind)(*values, name=name if i == len(row) else f"{name}_{i}") for i, (kind, *values) in enumerate(row, 1)]

    def run(x):
        for layer in made:
            x = layer(x)
        return x
    return run


def _activation(one, activation, suffix=""):
    """Return the function of a node that an activation of Keras is: its name, or the config of a layer."""
    name, where = activation, one.name + suffix
    if isinstance(activation, dict) and activation.get("class_name") in _ACTIVATION_LAYERS:
        config = activation.get("config")
        return reading(activation["class_name"], config if isinstance(config, dict) else {}, where, one.version)[1]
    if name == "hard_sigmoid" and one.version < 3:
        name = "hard_sigmoid of Keras 2"
    if isinstance(name, str) and name in _IN_A_ROW:
        return _row(_IN_A_ROW[name], where)
    if isinstance(name, str) and name in _GATED:
        row, product = _row(_GATED[name], f"{where}_gate"), layers.Multiply(name=where)
        return lambda x: product([x, row(x)])
    raise InputError(f"activation={shortened(repr(activation), 60)}, only {', '.join([*list(_IN_A_ROW)[:-1], *_GATED])}")


def _affine(one):
    """A layer with a kernel and an activation."""
    activation = one.take("activation", "linear")
    # One that ours has under this name is its argument; LeakyReLU's slope is another.
    own = isinstance(activation, str) and activation in ACTIVATIONS and activation != "leaky_relu"
    layer = one.layer = one.same(activation=activation if own else None)
    if own:
        return layer
    follows = _activation(one, activation, "_activation")
    return lambda x: follows(layer(x))


def _last_axis(one):
    """A layer with an axis, which must be the last one."""
    axis = one.take("axis", -1)
    axis = axis[0] if isinstance(axis, tuple) and len(axis) == 1 else axis
    layer = one.same()
    one.layer = layer if one.kind.endswith("Normalization") else None

    def run(x):
        shape = (x[0] if isinstance(x, list) else x).shape
        if axis != -1 and (shape is None or axis != len(shape) - 1):
            raise InputError(f"{one.kind} {one.name!r}: axis must be the last one, got {axis!r}.")
        return layer(x)
    return run


def _relu(one):
    slope, most = one.take("negative_slope", 0) or 0, one.take("max_value")
    if slope and most is not None:
        raise InputError("negative_slope beside max_value")
    return one.made("LeakyReLU", negative_slope=slope) if slope else one.made("ReLU", max_value=most)


def _leaky_relu(one):
    slope = one.take("negative_slope", one.take("alpha", 0.3))          # alpha in Keras 2
    return one.made("LeakyReLU", negative_slope=slope) if slope else one.made("ReLU")


def _average(one):
    total = one.made("Add", "_sum")
    return lambda xs: one.made("Rescaling", scale=1 / len(xs))(total(xs))


def _normalization_of_pixels(one):
    """A frozen batch normalization: (x - mean) / sqrt(variance); the file has both, and a count that nothing needs."""
    if one.take("axis", -1) not in (-1, (-1,), 3, (3,)):
        raise InputError("axis must be the last one")
    one.layer = one.made("BatchNormalization", center=False, scale=False, epsilon=1e-14)
    one.layer.trainable = False
    return one.layer


def _pairwise(one):
    """A layer that takes two arrays or more, one after another."""
    def run(xs):
        x, *others = xs
        for i, other in enumerate(others, 1):
            x = one.made("ElementwisePair", "" if i == len(others) else f"_{i}", function=one.kind.lower())([x, other])
        return x
    return run


_READERS = dict.fromkeys(_SAME, Reading.same) | {
    "Conv2D": _affine, "DepthwiseConv2D": _affine, "SeparableConv2D": _affine, "Dense": _affine,
    "BatchNormalization": _last_axis, "LayerNormalization": _last_axis, "Softmax": _last_axis, "Concatenate": _last_axis,
    "Normalization": _normalization_of_pixels, "ReLU": _relu, "LeakyReLU": _leaky_relu,
    "Activation": lambda one: _activation(one, one.take("activation", "linear")), "Identity": lambda one: lambda x: x,
    "Average": _average, "Maximum": _pairwise, "Minimum": _pairwise, "Subtract": _pairwise}
_ACTIVATION_LAYERS = "ReLU", "LeakyReLU", "ELU", "Softmax", "Activation"
KNOWN = tuple(_READERS)
OPERATIONS = "Add", "Multiply", "Subtract", "Maximum", "Minimum"           # of keras.ops, on two arrays: Keras writes x + y so
MERGING = "Add", "Multiply", "Concatenate", "Average", "Maximum", "Minimum", "Subtract"        # they take several arrays


# ---- To Keras --------------------------------------------------------------------------------------------------------

_RENAMED = {"MaxPool2D": "MaxPooling2D", "AveragePool2D": "AveragePooling2D"}
_ACTIVATIONS = {"Sigmoid": "sigmoid", "Tanh": "tanh", "Swish": "silu", "Softplus": "softplus"}
_PAIRS = {"maximum": "Maximum", "minimum": "Minimum", "subtract": "Subtract"}


def writing(layer):
    """Return (class, config without name and dtype) of the Keras layer that computes what a layer of ours does.

    Raises
    ------
    InputError
        where Keras has none

    >>> writing(layers.ReLU(6))
    ('ReLU', {'max_value': 6.0})
    """
    kind = type(layer).__name__
    if getattr(layers, kind, None) is not type(layer):
        raise InputError("it is a custom layer")
    if kind in _ACTIVATIONS:
        return "Activation", {"activation": _ACTIVATIONS[kind]}
    if kind == "Elementwise" and layer.function == "exp":
        return "Activation", {"activation": "exponential"}
    if kind == "ElementwisePair" and layer.function in _PAIRS:
        return _PAIRS[layer.function], {}
    if _RENAMED.get(kind, kind) not in _SAME:
        raise InputError("Keras has no such layer")
    return _RENAMED.get(kind, kind), {field: _argument(field, getattr(layer, field)) for field in layer.fields}


def _argument(field, value):
    if isinstance(value, L2):
        return {"module": "keras.regularizers", "class_name": "L2", "config": {"l2": value.l2}, "registered_name": None}
    return "linear" if field == "activation" and value is None else value


def as_activation(layer):
    """Return the name by which Keras' `activation` argument says what a layer does, or None.

    >>> as_activation(layers.Sigmoid()), as_activation(layers.ReLU(5)), as_activation(layers.LeakyReLU(0.3))
    ('sigmoid', None, None)
    """
    kind, values = type(layer).__name__, tuple(getattr(layer, field) for field in getattr(layer, "fields", ()))
    if kind in _ACTIVATIONS:
        return _ACTIVATIONS[kind]
    return {("ReLU", None): "relu", ("ReLU", 6.0): "relu6", ("LeakyReLU", 0.2): "leaky_relu", ("ELU", 1.0): "elu",
            ("Softmax",): "softmax"}.get((kind, *values))
