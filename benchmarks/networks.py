"""The networks that every library is measured on, each defined once, with their weights and images.

A definition is a function of the image that calls layers on arrays, `x.conv(64, 3).relu().pool()`, and returns the
logits. What it calls is noted with the names and arguments of Keras' layers, which are those of minicnn's too; peers.py
builds the network of each library from the notes.
"""

from functools import cached_property
from math import ceil, prod

import numpy as np

__all__ = ["Network", "NETWORKS", "PUBLISHED", "COV19NET", "COLOUR", "cov19net"]

BATCHES = 8         # to train on in turn


class Array:
    """One array of a network. Its methods are the layers: each returns the array it makes, and notes it in `notes`.

    Attributes
    ----------
    kind, arguments : str, dict; the layer that makes it, as in Keras; kind is "Input" for the images
    sources : list of Array
    shape : (H, W, C) or (D,), without N; height and width are the same
    weights : list of ndarray, float32, in Keras' order and layout
    flops : int, the floating-point operations of products for one image; a multiply-add counts as two
    """

    def __init__(self, notes, shape, kind="Input", sources=(), weights=(), flops=0, **arguments):
        self.notes, self.shape, self.kind, self.sources, self.arguments = notes, shape, kind, sources, arguments
        self.weights, self.flops = [np.asarray(w, np.float32) for w in weights], flops
        self.place = len(notes)
        notes.append(self)

    def _make(self, kind, shape, weights=(), flops=0, **arguments):
        return Array(self.notes, shape, kind, [self], weights, flops, **arguments)

    def _draw(self, *shape):
        """Return normal numbers that depend on the place of the layer in the network alone."""
        return np.random.default_rng(len(self.notes)).standard_normal(shape)

    def _windows(self, kind, w, C, strides, padding, use_bias, **arguments):
        """Note a convolution with the kernel w, (K, K, ...), as He et al. (2015) scale it, to C channels."""
        side = self.shape[0] if padding == "same" else self.shape[0] - len(w) + 1       # those that windows may begin at
        out = ceil(side / strides)
        w *= (2 * C / w.size) ** 0.5
        return self._make(kind, (out, out, C), [w, np.zeros(C)][:1 + use_bias], 2 * w.size * out * out, kernel_size=len(w),
                          strides=strides, padding=padding, use_bias=use_bias, **arguments)

    def conv(self, filters, size, strides=1, padding="same", use_bias=True):
        w = self._draw(size, size, self.shape[2], filters)
        return self._windows("Conv2D", w, filters, strides, padding, use_bias, filters=filters)

    def depthwise(self, size, strides=1, padding="same", use_bias=True):
        C = self.shape[2]
        return self._windows("DepthwiseConv2D", self._draw(size, size, C, 1), C, strides, padding, use_bias)

    def norm(self):
        """Note a batch normalization, with moving statistics as if it had trained."""
        gamma, beta, mean, variance = 0.1 * self._draw(4, self.shape[2])
        return self._make("BatchNormalization", self.shape, [1 + gamma, beta, mean, 1 + abs(variance)])

    def relu(self):
        return self._make("ReLU", self.shape)

    def pad(self, rows):
        """Note rows and columns of zeros around each image."""
        side = self.shape[0] + 2 * rows
        return self._make("ZeroPadding2D", (side, side, self.shape[2]), padding=rows)

    def pool(self, size=2, strides=2):
        side = (self.shape[0] - size) // strides + 1
        return self._make("MaxPool2D", (side, side, self.shape[2]), pool_size=size, strides=strides)

    def add(self, other):
        return Array(self.notes, self.shape, "Add", [self, other])

    def mean(self):
        return self._make("GlobalAveragePooling2D", self.shape[2:])

    def flatten(self):
        return self._make("Flatten", (prod(self.shape),))

    def dense(self, units, activation=None):
        D, = self.shape
        w = self._draw(D, units) * (2 / D) ** 0.5
        return self._make("Dense", (units,), [w, np.zeros(units)], 2 * w.size, units=units, activation=activation)

    def padding(self):
        """Return the rows of zeros that a convolution puts before and after those of its source."""
        arguments = self.arguments
        rows = (self.shape[0] - 1) * arguments["strides"] + arguments["kernel_size"] - self.sources[0].shape[0]
        rows = max(rows, 0) if arguments["padding"] == "same" else 0
        return rows // 2, rows - rows // 2


class Network:
    """A network for every library.

    Parameters
    ----------
    input_shape : (H, W, C)
    define : function of the Array of the images that returns that of the last hidden layer
    outputs : int, of the last dense layer; 1: sigmoid and binary cross-entropy; more: softmax and categorical cross-entropy
    batch : int, images of a training step
    sizes : tuple of int, the numbers of images that are predicted at once
    radiographs : bool; whether the images are synthetic radiographs
    """

    def __init__(self, name, input_shape, define, outputs=10, batch=32, sizes=None, radiographs=False):
        self.name, self.input_shape, self.define, self.outputs = name, input_shape, define, outputs
        self.batch, self.sizes, self.radiographs = batch, sizes or (1, batch), radiographs
        self.activation = "sigmoid" if outputs == 1 else "softmax"

    @cached_property
    def arrays(self):
        """The Array of the images, and one for each layer in order; the last is that of the probabilities."""
        notes = []
        self.define(Array(notes, self.input_shape)).dense(self.outputs, self.activation)
        return notes

    @property
    def parameters(self):
        """The number of parameters that are trained."""
        return sum(w.size for array in self.arrays for w in array.weights[:2])

    def flops(self, training=False):
        """Return the operations of products for one image: predicted, or in a training step, both gradients of all but
        the first layer, all computed densely.

        >>> COV19NET.flops(), COV19NET.flops(training=True)
        (25977856, 71291136)
        """
        flops = [array.flops for array in self.arrays if array.flops]
        return 3 * sum(flops) - flops[0] if training else sum(flops)

    def images(self):
        """Return images for several batches, float32 (n, H, W, C) in [0, 1], and their classes (n,)."""
        n = BATCHES * self.batch
        if self.radiographs:
            from minicnn.data.synthetic import phantom
            made = phantom.generate(n=n, seed=0)
            return np.repeat(made.images[..., np.newaxis], 3, axis=3) / np.float32(255), made.labels
        rng, (H, W, C) = np.random.default_rng(0), self.input_shape
        coarse = rng.random((n, ceil(H / 8), ceil(W / 8), C), np.float32)
        x = np.repeat(np.repeat(coarse, 8, axis=1), 8, axis=2)[:, :H, :W]
        return 0.7 * x + 0.3 * rng.random(x.shape, np.float32), rng.integers(0, max(2, self.outputs), n)


def cov19net(name="COV-19Net", side=64, filters=32, **others):
    """Return COV-19Net, or the same with images of another size or with more filters."""
    def define(x):
        for pooled in (True, True, False):
            x = x.conv(filters, 3, padding="valid").relu()
            x = x.pool() if pooled else x
        return x.flatten().dense(128).relu()
    return Network(name, (side, side, 3), define, outputs=1, **others)


def lenet(x):
    for filters in (16, 32):
        x = x.conv(filters, 5, padding="valid").relu().pool()
    return x.flatten().dense(128).relu()


def vgg(x):
    for filters in (64, 128, 256):
        x = x.conv(filters, 3).relu().conv(filters, 3).relu().pool()
    return x.flatten()


def vgg_first_five(x):
    x = x.conv(64, 3).relu().conv(64, 3).relu().pool()
    x = x.conv(128, 3).relu().conv(128, 3).relu().pool()
    return x.conv(256, 3).relu().mean()


def strided(x):
    for filters in (32, 64, 128):
        x = x.conv(filters, 3, strides=2).relu()
    return x.flatten()


def residual(x, blocks):
    """A ResNet for small images, of three stages (He et al., 2016)."""
    x = x.conv(16, 3, use_bias=False).norm().relu()
    for filters in (16, 32, 64):
        for _ in range(blocks):
            strides = 1 if x.shape[2] == filters else 2
            body = x.conv(filters, 3, strides, use_bias=False).norm().relu().conv(filters, 3, use_bias=False).norm()
            x = body.add(x if strides == 1 else x.conv(filters, 1, strides, use_bias=False).norm()).relu()
    return x.mean()


def separable(x):
    """The first blocks of a MobileNet (Howard et al., 2017)."""
    x = x.conv(32, 3, strides=2, use_bias=False).norm().relu()
    for filters, strides in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1)):
        x = x.depthwise(3, strides, use_bias=False).norm().relu().conv(filters, 1, use_bias=False).norm().relu()
    return x.mean()


def bottlenecks(x):
    x = x.conv(128, 3, strides=2, use_bias=False).norm().relu()
    for _ in range(4):
        body = x.conv(32, 1, use_bias=False).norm().relu().conv(32, 3, use_bias=False).norm().relu()
        x = body.conv(128, 1, use_bias=False).norm().add(x).relu()
    return x.mean()


def resnet50(x):
    """ResNet-50 as in Keras (minicnn.networks.resnet50)."""
    x = x.pad(3).conv(64, 7, strides=2, padding="valid").norm().relu().pad(1).pool(3, 2)
    for blocks, filters in zip((3, 4, 6, 3), (64, 128, 256, 512)):
        for block in range(blocks):
            strides = 2 if block == 0 and filters > 64 else 1
            shortcut = x if block else x.conv(4 * filters, 1, strides).norm()
            body = x.conv(filters, 1, strides).norm().relu().conv(filters, 3).norm().relu()
            x = body.conv(4 * filters, 1).norm().add(shortcut).relu()
    return x.mean()


def vgg19(x):
    """VGG-19 (minicnn.networks.vgg19)."""
    for convolutions, filters in zip((2, 2, 4, 4, 4), (64, 128, 256, 512, 512)):
        for _ in range(convolutions):
            x = x.conv(filters, 3).relu()
        x = x.pool()
    return x.flatten().dense(4096).relu().dense(4096).relu()


# Where strides pad, sides are odd: then both ends are padded alike, which PyTorch does without a copy.
NETWORKS = {network.name: network for network in [
    Network("LeNet-like, 5x5, 28x28x1", (28, 28, 1), lenet),
    Network("VGG-like, 64 to 256 filters, 32x32x3", (32, 32, 3), vgg),
    Network("VGG's first five, 224x224x3, batch 4", (224, 224, 3), vgg_first_five, batch=4),
    Network("strides, no pooling, 65x65x3", (65, 65, 3), strided),
    Network("ResNet-8, 32x32x3", (32, 32, 3), lambda x: residual(x, 1)),
    Network("ResNet-20, 32x32x3", (32, 32, 3), lambda x: residual(x, 3)),
    Network("depthwise-separable, 65x65x3", (65, 65, 3), separable),
    Network("1x1 bottlenecks, 65x65x3", (65, 65, 3), bottlenecks),
    cov19net(sizes=(1, 32, 256), radiographs=True),
    cov19net("COV-19Net in colour", sizes=(1, 32, 256)),
]}
# For published.py alone: they are too large for the suite.
PUBLISHED = {network.name: network for network in [
    Network("ResNet-50, 224x224x3", (224, 224, 3), resnet50, outputs=1000, batch=8),
    Network("VGG-19, 224x224x3", (224, 224, 3), vgg19, outputs=1000, batch=8),
]}
COV19NET, COLOUR = NETWORKS["COV-19Net"], NETWORKS["COV-19Net in colour"]
