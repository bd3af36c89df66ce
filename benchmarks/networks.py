"""Networks, weights and images independent of any framework, from which every library is built.

A layer is ("conv", filters, size), ("relu",), ("pool", size), ("flatten",) or ("dense", units); convolutions and
poolings are "valid", poolings do not overlap. The last layer gives logits: one for a sigmoid, several for a softmax.
"""

from math import prod
from typing import NamedTuple

import numpy as np

__all__ = ["Network", "conv_net", "COV19NET", "OTHERS", "shapes", "weights", "flops", "training_flops", "noise",
           "phantoms"]


class Network(NamedTuple):
    """A network for every framework."""

    name: str
    input_shape: tuple      # (H, W, C)
    layers: tuple
    outputs: int            # 1: sigmoid and binary cross-entropy; more: softmax and categorical cross-entropy


def conv_net(name, input_shape, blocks, dense=128, outputs=1):
    """Return a network of convolutions (filters, size, pooled or not) with ReLU, one dense layer and a head."""
    layers = []
    for filters, size, pooled in blocks:
        layers += [("conv", filters, size), ("relu",)] + ([("pool", 2)] if pooled else [])
    layers += [("flatten",), ("dense", dense), ("relu",), ("dense", outputs)]
    return Network(name, input_shape, tuple(layers), outputs)


def cov19net(side=64, filters=32):
    """Return COV-19Net, or the same with images of another size or with more filters."""
    return conv_net("COV-19Net", (side, side, 3), [(filters, 3, True), (filters, 3, True), (filters, 3, False)])


COV19NET = cov19net()

OTHERS = [
    conv_net("digits, 28x28x1, two 3x3", (28, 28, 1), [(32, 3, True), (64, 3, True)], outputs=10),
    conv_net("digits, 28x28x1, two 5x5", (28, 28, 1), [(16, 5, True), (32, 5, True)], outputs=10),
    conv_net("colour, 32x32x3, four 3x3", (32, 32, 3),
             [(32, 3, False), (32, 3, True), (64, 3, False), (64, 3, True)], outputs=10),
    conv_net("grey, 64x64x1, five 3x3", (64, 64, 1),
             [(16, 3, True), (32, 3, True), (32, 3, False), (64, 3, False), (64, 3, False)]),
    conv_net("colour, 64x64x3, three 5x5", (64, 64, 3), [(16, 5, True), (32, 5, True), (32, 5, False)]),
    conv_net("colour, 32x32x3, three 3x3, no pooling", (32, 32, 3), [(24, 3, False)] * 3, dense=64, outputs=10),
]


def shapes(network):
    """Yield (layer, input shape, output shape, weight shape or None) of each layer, shapes without N."""
    shape = network.input_shape
    for layer in network.layers:
        before, weight = shape, None
        if layer[0] == "conv":
            _, F, K = layer
            shape, weight = (shape[0] - K + 1, shape[1] - K + 1, F), (K, K, shape[2], F)
        elif layer[0] == "pool":
            shape = shape[0] // layer[1], shape[1] // layer[1], shape[2]
        elif layer[0] == "flatten":
            shape = prod(shape),
        elif layer[0] == "dense":
            shape, weight = (layer[1],), (shape[0], layer[1])
        yield layer, before, shape, weight


def weights(network, seed=0):
    """Return Glorot uniform weights and zero biases in Keras' order and layout: (KH, KW, C, F) or (in, out), (F,)."""
    rng, arrays = np.random.default_rng(seed), []
    for _, _, _, shape in shapes(network):
        if shape is not None:
            limit = (6 / (prod(shape[:-2]) * (shape[-2] + shape[-1]))) ** 0.5
            arrays += [rng.uniform(-limit, limit, shape).astype(np.float32), np.zeros(shape[-1], np.float32)]
    return arrays


def flops(network):
    """Return the floating-point operations of one image's forward pass; a multiply-add counts as two.

    >>> flops(COV19NET)
    25977856
    """
    return sum(2 * prod(weight) * (prod(after[:2]) if layer[0] == "conv" else 1)
               for layer, _, after, weight in shapes(network) if weight is not None)


def training_flops(network):
    """Return those of a training step for each image, all computed densely: forward, and both gradients but for the
    first layer's input."""
    first = next(2 * prod(weight) * prod(after[:2]) for _, _, after, weight in shapes(network) if weight is not None)
    return 3 * flops(network) - first


def noise(network, n, seed=0):
    """Return n smooth random images in [0, 1], float32 (n, H, W, C), with random labels (n,)."""
    rng, (H, W, C) = np.random.default_rng(seed), network.input_shape
    coarse = rng.random((n, -(-H // 8), -(-W // 8), C), np.float32)
    x = 0.7 * np.repeat(np.repeat(coarse, 8, axis=1), 8, axis=2)[:, :H, :W] + 0.3 * rng.random((n, H, W, C), np.float32)
    return x, rng.integers(0, max(2, network.outputs), n)


def phantoms(n, seed=0):
    """Return n synthetic radiographs as input of COV-19Net, float32 (n, 64, 64, 3) in [0, 1], with their labels."""
    from minicnn.data.synthetic import phantom
    made = phantom.generate(n=n, seed=seed)
    return np.repeat(made.images[..., np.newaxis], 3, axis=3) / np.float32(255), made.labels
