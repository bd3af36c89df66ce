"""Freeze what the networks of keras.applications compute into `keras_networks.safetensors`: outputs in prediction, and gradients.

Run by hand from the root of the checkout, in an environment with TensorFlow, safetensors and NumPy (it is not needed to run the
tests; the versions of the last run are in the file's metadata):

    python -m tests.vectors.make_keras_networks

All in float64, so that no ReLU is on for one and off for the other. Gradients are those of the sum of the outputs times fixed
numbers, with moving statistics, as of a frozen trunk: for each weight, by the name that it has in minicnn and in the order of
these names, the sum of its gradient times fixed numbers, and the norm of its gradient.

Names are the same in Keras, but that there the Inceptions' convolutions and normalizations are counted from 0, in the order in
which they are made: conv2d, conv2d_1, ... are conv2d_1, conv2d_2, ... here.
"""

import os

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", TF_ENABLE_ONEDNN_OPTS="0", KERAS_BACKEND="tensorflow", CUDA_VISIBLE_DEVICES="")

import re
from pathlib import Path

import keras
import numpy as np
import safetensors
import tensorflow as tf
from safetensors.numpy import save_file

from tests.vectors import cases


def name_here(layer, weight):
    """Return the name in minicnn of a weight of a layer of Keras."""
    counted = re.fullmatch(r"(conv2d|batch_normalization)(?:_(\d+))?", layer.name)
    name = f"{counted[1]}_{int(counted[2] or 0) + 1}" if counted else layer.name
    kind = "depthwise_kernel" if isinstance(layer, keras.layers.DepthwiseConv2D) and weight.name == "kernel" else weight.name
    return f"{name}/{kind}"


def freeze(out, name):
    """Record a network with the weights of `cases.published_weight`."""
    keras.backend.clear_session()               # which counts layers
    function, shape = cases.PUBLISHED[name]
    model = getattr(keras.applications, function)(weights=None, input_shape=shape, classes=cases.PUBLISHED_CLASSES)
    if any(isinstance(layer, keras.layers.Normalization) for layer in model.layers):       # of pixels: not part of it here
        model = keras.Model(model.get_layer("normalization").output, model.output)
    weights = {name_here(layer, weight): weight for layer in model.layers for weight in layer.weights}
    for key, weight in weights.items():
        weight.assign(cases.published_weight(f"{name}/{key}", tuple(weight.shape)))
    x = tf.constant(cases.published_images(name), "float64")
    keys = sorted(key for key in weights if weights[key].trainable)
    with tf.GradientTape() as tape:
        y = model(x, training=False)
        loss = tf.reduce_sum(y * cases.draw(f"{name}/dy", tuple(y.shape)))
    gradients = [gradient.numpy() for gradient in tape.gradient(loss, [weights[key] for key in keys])]
    out[f"{name}/outputs"] = y.numpy()
    out[f"{name}/projections"] = np.array([np.sum(gradient * cases.published_direction(f"{name}/{key}", gradient.shape))
                                           for key, gradient in zip(keys, gradients)])
    out[f"{name}/norms"] = np.array([np.linalg.norm(gradient) for gradient in gradients])


def main():
    keras.config.set_floatx("float64")
    out = {}
    for name in cases.PUBLISHED:
        freeze(out, name)
    path = Path(__file__).with_name("keras_networks.safetensors")
    save_file(out, path, {"versions": f"tensorflow {tf.__version__}, keras {keras.__version__}, numpy {np.__version__}, "
                                      f"safetensors {safetensors.__version__}"})
    print(f"{path.name}: {len(out)} arrays, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
