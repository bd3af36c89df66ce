"""Freeze what Keras on TensorFlow computes for layers of capsules into `keras_capsules.safetensors`.

Run by hand from the root of the checkout, in an environment with TensorFlow, safetensors and NumPy (not needed to run the tests; last
run with the versions in the file's metadata):

    python tests/vectors/make_keras_capsules.py

The routing is that of the code of COVID-CAPS (binary.py of ShahinSHH/COVID-CAPS, ec0e646), written anew: logits are replaced in each
round, the softmax is over the output capsules, and gradients are TensorFlow's, through all rounds. All that went in is in the file too.
"""

import os

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", TF_ENABLE_ONEDNN_OPTS="0", KERAS_BACKEND="tensorflow", CUDA_VISIBLE_DEVICES="")

from pathlib import Path

import cases
import keras
import numpy as np
import tensorflow as tf
from make_keras import write

def squashed(x):
    square = tf.reduce_sum(x * x, axis=-1, keepdims=True) + tf.constant(1e-7, x.dtype)
    return x * tf.sqrt(square) / (1 + square)


class Capsule(keras.layers.Layer):
    """Routing by agreement, with weights that all input capsules share."""

    def __init__(self, count, size, rounds, **others):
        super().__init__(**others)
        self.count, self.size, self.rounds = count, size, rounds

    def build(self, input_shape):
        self.kernel = self.add_weight(name="kernel", shape=(1, input_shape[-1], self.count * self.size))

    def call(self, x):
        predicted = tf.nn.conv1d(x, tf.convert_to_tensor(self.kernel), stride=1, padding="VALID")
        predicted = tf.reshape(predicted, (-1, x.shape[1], self.count, self.size))
        logits = tf.zeros_like(predicted[..., 0])
        for number in range(self.rounds):
            weights = tf.nn.softmax(logits, axis=2)
            routed = squashed(tf.einsum("nij,nijd->njd", weights, predicted))
            if number < self.rounds - 1:
                logits = tf.einsum("njd,nijd->nij", routed, predicted)
        return routed


def margin_loss(t, p):
    there, absent = tf.nn.relu(0.9 - p), tf.nn.relu(p - 0.1)
    return tf.reduce_mean(tf.reduce_sum(t * there**2 + 0.5 * (1 - t) * absent**2, axis=-1))


def freeze(out, name, precision):
    """Record the lengths, the loss, and the gradients of the loss with respect to the input and each kernel."""
    (N, I, C, stack), rng = cases.CAPSULES[name], np.random.default_rng(sorted(cases.CAPSULES).index(name))
    x = rng.normal(size=(N, I, C)).astype("float32")
    kernels = [(rng.normal(size=(1, width, count * size)) * 0.4).astype("float32")
               for (count, size, _), width in zip(stack, [C, *(size for _, size, _ in stack)])]
    t = np.eye(stack[-1][0], dtype="float32")[np.arange(N) % stack[-1][0]]
    layers = [Capsule(*one, dtype=precision) for one in stack]
    given = tf.constant(x.astype(precision))
    with tf.GradientTape() as tape:
        tape.watch(given)
        y = given
        for layer, kernel in zip(layers, kernels):
            layer.build(y.shape)
            layer.set_weights([kernel.astype(precision)])
            y = layer(y)
        p = tf.sqrt(tf.reduce_sum(y * y, axis=-1))
        loss = margin_loss(tf.constant(t.astype(precision)), p)
    dx, *gradients = tape.gradient(loss, [given, *(layer.kernel.value for layer in layers)])
    out |= {f"{name}/x": x, f"{name}/t": t} | {f"{name}/kernel/{i}": kernel[0] for i, kernel in enumerate(kernels)}
    out |= {f"{name}/{precision}/{key}": value.numpy() for key, value in
            {"capsules": y, "lengths": p, "loss": loss, "dx": dx}.items()}
    out |= {f"{name}/{precision}/gradient/{i}": gradient.numpy()[0] for i, gradient in enumerate(gradients)}


if __name__ == "__main__":
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    frozen = {}
    for name in cases.CAPSULES:
        for precision in ("float32", "float64"):
            freeze(frozen, name, precision)
    write(frozen, Path(__file__).with_name("keras_capsules.safetensors"))
