"""The layers that a model is made of. Read `base` first: it says what a layer is.

COV-19Net's families stand alone. The others are imported when one of their layers, or `LAYERS`, is first asked for.
"""

import importlib

from minicnn.layers import base
from minicnn.layers.activations import ReLU, Sigmoid, Softmax, Tanh
from minicnn.layers.base import Layer, register
from minicnn.layers.convolution import Conv2D
from minicnn.layers.dense import Dense, Flatten
from minicnn.layers.pooling import AveragePool2D, MaxPool2D
from minicnn.layers.regularization import Dropout

register(Conv2D, MaxPool2D, AveragePool2D, Flatten, Dense, ReLU, Sigmoid, Tanh, Softmax, Dropout)

# {family that COV-19Net has no use for: its layers}; at its end each module registers them.
_FURTHER = {
    "depthwise_convolution": ["DepthwiseConv2D", "SeparableConv2D"],
    "normalization": ["BatchNormalization", "LayerNormalization"],
    "global_pooling": ["GlobalAveragePooling2D", "GlobalMaxPooling2D"],
    "reshaping": ["ZeroPadding2D", "Cropping2D", "UpSampling2D", "Reshape", "Permute", "Rescaling"],
    "rectifiers": ["LeakyReLU", "ELU", "Swish", "Softplus"],
    "spatial_dropout": ["SpatialDropout2D", "StochasticDepth"],
    "merging": ["Add", "Multiply", "Concatenate", "Residual"],
    "elementwise": ["Elementwise", "ElementwisePair", "Constant"], "ends": ["InputLayer", "Outputs"], "capsules": ["Capsules", "CapsuleLength"]}
# {what Keras or a paper calls it too: our name}, which stands in a model file and in what is printed.
ALIASES = {"MaxPooling2D": "MaxPool2D", "AveragePooling2D": "AveragePool2D", "AvgPool2D": "AveragePool2D",
           "GlobalAvgPool2D": "GlobalAveragePooling2D", "GlobalMaxPool2D": "GlobalMaxPooling2D", "SiLU": "Swish"}
_HOMES = {name: family for family, names in _FURTHER.items() for name in names}

__all__ = ["Layer", "Conv2D", "MaxPool2D", "AveragePool2D", "Flatten", "Dense", "ReLU", "Sigmoid", "Tanh", "Softmax",
           "Dropout", *_HOMES, *ALIASES, "LAYERS"]


def __getattr__(name):
    ours = ALIASES.get(name, name)
    if name == "LAYERS":
        for family in _FURTHER:
            importlib.import_module(f"minicnn.layers.{family}")
        value = base.LAYERS
    elif ours in _HOMES:
        value = getattr(importlib.import_module(f"minicnn.layers.{_HOMES[ours]}"), ours)
    elif ours in __all__:
        value = globals()[ours]
    else:
        raise AttributeError(f"module 'minicnn.layers' has no attribute {name!r}")
    globals()[name] = value
    return value
