"""The layers that a model is made of. Read `base` first: it says what a layer is."""

from minicnn.layers.activations import ReLU, Sigmoid, Softmax, Tanh
from minicnn.layers.base import LAYERS, Layer
from minicnn.layers.convolution import Conv2D
from minicnn.layers.dense import Dense, Flatten
from minicnn.layers.pooling import AveragePool2D, MaxPool2D
from minicnn.layers.regularization import Dropout

__all__ = ["Layer", "Conv2D", "MaxPool2D", "AveragePool2D", "Flatten", "Dense", "ReLU", "Sigmoid", "Tanh", "Softmax",
           "Dropout", "LAYERS"]

LAYERS.update({layer.__name__: layer for layer in (Conv2D, MaxPool2D, AveragePool2D, Flatten, Dense, ReLU, Sigmoid, Tanh,
                                                   Softmax, Dropout)})
