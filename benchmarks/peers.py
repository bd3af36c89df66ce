"""One network with the same weights and images, built in minicnn and in each peer.

Every builder returns a Peer whose functions have no arguments: the data is bound in the layout that is fastest for the
framework, so that only the computation is timed. All are float32, with the same Adam (1e-3, 0.9, 0.999,
1e-7; fused in PyTorch). Training steps iterate over the batches and return the loss; predictions are of
the first batch. Peers that are not installed are skipped, with a reason.
"""

import importlib.util
import itertools
import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import Callable, NamedTuple

import numpy as np

from benchmarks.measure import OURS
from benchmarks.networks import shapes, weights

__all__ = ["Peer", "NAMES", "build", "choose", "keras_model", "disagreement"]

FIT_STEPS = 50          # of one epoch of Keras' fit


class Peer(NamedTuple):
    train: Callable | None      # () -> loss
    predict: Callable | None    # () -> probabilities (batch, outputs)
    steps: int = 1              # training steps in one call


def build(names, network, x, t, batch, threads):
    """Return ({name: Peer}, {name of a missing one: why}).

    Parameters
    ----------
    names : list of str, out of NAMES
    x : ndarray, shape (count batch, H, W, C), float32; t : ndarray, shape (count batch,), whole numbers
    """
    there, absent = {}, {}
    for name in names:
        modules, builder, options = _BUILDERS[name]
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        if missing:
            absent[name] = f"{' and '.join(missing)} not installed"
            continue
        try:
            there[name] = builder(network, x, t, batch, threads, **options)
        except Exception as error:
            if name == OURS:
                raise
            absent[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"[:160]
    return there, absent


def choose(options, *unfit):
    """Return (names of the peers to build, {name of a skipped one: why}); `unfit` cannot run this benchmark."""
    out = dict.fromkeys(options.without, "--without")
    if options.quick:       # compiling takes a minute
        out["PyTorch compiled"] = "--quick"
    return [name for name in NAMES if name not in out and name not in unfit], out


def disagreement(peers):
    """Return the largest difference from minicnn before training: {"predictions", "losses": of three steps}.

    Checks that all compute the same, Adam included; except Keras' fit, which shuffles.
    """
    def largest(answer):
        answers = {name: answer(peer) for name, peer in peers.items()}
        return max((float(np.abs(np.subtract(a, answers[OURS])).max()) for a in answers.values() if a is not None),
                   default=0.0)

    return {"predictions": largest(lambda peer: peer.predict and peer.predict()),
            "losses": largest(lambda peer: peer.train and peer.steps == 1 and [peer.train() for _ in range(3)] or None)}


def _batches(x, t, batch):
    return [(x[i:i + batch], t[i:i + batch]) for i in range(0, len(x), batch)]


# ---- minicnn ---------------------------------------------------------------------------------------------------------

def _minicnn(network, x, t, batch, threads):
    import minicnn

    minicnn.set_thread_count(threads)
    kinds = {"conv": minicnn.Conv2D, "relu": minicnn.ReLU, "pool": minicnn.MaxPool2D, "flatten": minicnn.Flatten,
             "dense": minicnn.Dense}
    head = minicnn.Sigmoid() if network.outputs == 1 else minicnn.Softmax()
    model = minicnn.Sequential([kinds[layer[0]](*layer[1:]) for layer in network.layers] + [head], network.input_shape)
    model.compile(minicnn.Adam(learning_rate=1e-3, epsilon=1e-7),
                  "binary_crossentropy" if network.outputs == 1 else "categorical_crossentropy")
    model.set_weights(weights(network))
    turn, first = itertools.cycle(_batches(x, t, batch)), np.ascontiguousarray(x[:batch])
    return Peer(lambda: model.train_on_batch(*next(turn)), lambda: model.predict(first))


# ---- PyTorch and ONNX Runtime ----------------------------------------------------------------------------------------

def torch_model(network):
    """Return the network with its logits, for images (N, C, H, W), with the shared weights."""
    import torch
    from torch import nn

    arrays, layers, flat = iter(weights(network)), [], None
    for layer, before, after, weight in shapes(network):
        if layer[0] == "conv":
            layers.append(nn.Conv2d(before[2], layer[1], layer[2]))
            w = next(arrays).transpose(3, 2, 0, 1)
        elif layer[0] == "dense":
            layers.append(nn.Linear(before[0], layer[1]))
            w = next(arrays).T
            if flat is not None:        # Flatten sees (C, H, W) here: its rows come in another order
                w, flat = w.reshape(-1, *flat).transpose(0, 3, 1, 2).reshape(len(w), -1), None
        else:
            layers.append({"relu": nn.ReLU, "pool": nn.MaxPool2d, "flatten": nn.Flatten}[layer[0]](*layer[1:]))
            flat = before if layer[0] == "flatten" else flat
        if weight is not None:
            with torch.no_grad():
                layers[-1].weight.copy_(torch.from_numpy(w.copy()))
                layers[-1].bias.copy_(torch.from_numpy(next(arrays)))
    return nn.Sequential(*layers)


def _torch(network, x, t, batch, threads, channels_last=False, compiled=False):
    import torch

    torch.set_num_threads(threads)
    layout = torch.channels_last if channels_last else torch.contiguous_format

    def images(x):
        return torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).contiguous(memory_format=layout)

    model, binary = torch_model(network).to(memory_format=layout), network.outputs == 1
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-7, fused=True)
    loss_of = torch.nn.BCEWithLogitsLoss() if binary else torch.nn.CrossEntropyLoss()
    if compiled:        # for this batch size only
        torch.compiler.reset()
    forward = torch.compile(model, dynamic=False) if compiled else model
    targets = t.astype(np.float32)[:, None] if binary else t.astype(np.int64)
    turn = itertools.cycle([(images(x), torch.from_numpy(t)) for x, t in _batches(x, targets, batch)])
    first = images(x[:batch])

    def train():
        x, t = next(turn)
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(forward(x), t)
        loss.backward()
        optimizer.step()
        return loss.item()

    def predict():
        with torch.inference_mode():
            return (torch.sigmoid(forward(first)) if binary else torch.softmax(forward(first), 1)).numpy()

    if compiled:        # compile now, or fail now without a C++ compiler
        predict()
    return Peer(train, predict)


def _onnxruntime(network, x, t, batch, threads):
    import onnxruntime
    import torch

    head = torch.nn.Sigmoid() if network.outputs == 1 else torch.nn.Softmax(dim=1)
    model = torch.nn.Sequential(torch_model(network), head).eval()
    images = np.ascontiguousarray(x[:batch].transpose(0, 3, 1, 2))
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "network.onnx"
        torch.onnx.export(model, (torch.from_numpy(images[:1]),), str(path), input_names=["x"],
                          dynamic_axes={"x": {0: "n"}}, dynamo=False)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads, settings.inter_op_num_threads = threads, 1
        session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    return Peer(None, lambda: session.run(None, {"x": images})[0])


# ---- Keras on TensorFlow ---------------------------------------------------------------------------------------------

@cache
def _tensorflow_threads(threads):
    import tensorflow
    tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
    tensorflow.config.threading.set_inter_op_parallelism_threads(threads)


def keras_model(network, threads):
    """Return the compiled Keras model with the shared weights."""
    _tensorflow_threads(threads)
    import keras

    kinds = {"conv": keras.layers.Conv2D, "relu": keras.layers.ReLU, "pool": keras.layers.MaxPool2D,
             "flatten": keras.layers.Flatten, "dense": keras.layers.Dense}
    head = keras.layers.Activation("sigmoid" if network.outputs == 1 else "softmax")
    model = keras.Sequential([keras.layers.Input(network.input_shape)]
                             + [kinds[layer[0]](*layer[1:]) for layer in network.layers] + [head])
    model.compile(keras.optimizers.Adam(1e-3, epsilon=1e-7),
                  "binary_crossentropy" if network.outputs == 1 else "sparse_categorical_crossentropy")
    model.set_weights(weights(network))
    return model


def _keras(network, x, t, batch, threads, fit=False):
    model = keras_model(network, threads)
    import tensorflow

    targets = t.astype(np.float32)[:, None] if network.outputs == 1 else t
    if fit:
        rows = np.resize(np.arange(len(x)), FIT_STEPS * batch)
        x, targets = x[rows], targets[rows]
        return Peer(lambda: model.fit(x, targets, batch_size=batch, epochs=1, verbose=0).history["loss"][0], None,
                    FIT_STEPS)
    turn = itertools.cycle([tuple(map(tensorflow.constant, pair)) for pair in _batches(x, targets, batch)])
    forward, first = tensorflow.function(lambda x: model(x, training=False)), tensorflow.constant(x[:batch])
    return Peer(lambda: float(model.train_on_batch(*next(turn))), lambda: forward(first).numpy())


# ---- JAX -------------------------------------------------------------------------------------------------------------

def _jax(network, x, t, batch, threads):
    import jax
    import jax.numpy as jnp
    from jax import lax

    def logits(parameters, y):
        arrays = iter(parameters)
        for layer in network.layers:
            if layer[0] == "conv":
                y = lax.conv_general_dilated(y, next(arrays), (1, 1), "VALID",
                                             dimension_numbers=("NHWC", "HWIO", "NHWC")) + next(arrays)
            elif layer[0] == "dense":
                y = y @ next(arrays) + next(arrays)
            elif layer[0] == "pool":
                window = (1, layer[1], layer[1], 1)
                y = lax.reduce_window(y, -jnp.inf, lax.max, window, window, "VALID")
            else:
                y = jax.nn.relu(y) if layer[0] == "relu" else y.reshape(len(y), -1)
        return y

    def loss_of(parameters, x, t):
        z = logits(parameters, x)
        if network.outputs == 1:
            z = z[:, 0]
            return (jnp.maximum(z, 0) - z * t + jnp.log1p(jnp.exp(-jnp.abs(z)))).mean()
        return -jnp.take_along_axis(jax.nn.log_softmax(z), t[:, None], axis=1).mean()

    def step(parameters, m, v, count, x, t):
        loss, gradients = jax.value_and_grad(loss_of)(parameters, x, t)
        count = count + 1
        rate = 1e-3 * jnp.sqrt(1 - 0.999 ** count) / (1 - 0.9 ** count)
        m = [0.9 * m + 0.1 * g for m, g in zip(m, gradients)]
        v = [0.999 * v + 0.001 * g * g for v, g in zip(v, gradients)]
        parameters = [w - rate * m / (jnp.sqrt(v) + 1e-7) for w, m, v in zip(parameters, m, v)]
        return loss, parameters, m, v, count

    compiled = jax.jit(step, donate_argnums=(0, 1, 2))
    answer = jax.jit(lambda parameters, x: (jax.nn.sigmoid if network.outputs == 1 else jax.nn.softmax)(
        logits(parameters, x)))
    parameters = [jnp.array(w) for w in weights(network)]
    m, v = ([jnp.zeros_like(w) for w in parameters] for _ in range(2))
    state = [parameters, m, v, jnp.float32(0)]
    turn = itertools.cycle([(jnp.array(x), jnp.array(t)) for x, t in _batches(x, t, batch)])
    first = jnp.array(x[:batch])

    def train():
        loss, *state[:] = compiled(*state, *next(turn))
        return float(jax.block_until_ready(loss))

    return Peer(train, lambda: np.asarray(answer(state[0], first)))


_BUILDERS = {
    OURS: ([], _minicnn, {}),
    "PyTorch channels_last": (["torch"], _torch, {"channels_last": True}),
    "PyTorch": (["torch"], _torch, {}),
    "PyTorch compiled": (["torch"], _torch, {"channels_last": True, "compiled": True}),
    "Keras": (["keras", "tensorflow"], _keras, {}),
    "Keras fit": (["keras", "tensorflow"], _keras, {"fit": True}),
    "JAX jit": (["jax"], _jax, {}),
    "ONNX Runtime": (["onnxruntime", "torch", "onnx"], _onnxruntime, {}),
}
NAMES = list(_BUILDERS)
