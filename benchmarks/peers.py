"""A network of networks.py in minicnn and in each peer, with the same weights.

All are float32 and train with the same Adam (1e-3, 0.9, 0.999, 1e-7; fused in PyTorch). Batches are made ready beforehand in
the layout that is fastest for the library, so that only the computation is timed.
"""

import copy
import itertools
import os
import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import Callable, NamedTuple

import numpy as np

from benchmarks.measure import OURS

__all__ = ["Peer", "BUILDERS", "OPTIONAL", "build", "minicnn_model", "keras_model"]


class Peer(NamedTuple):
    """What a library does with a network."""

    ready: Callable             # (x, t) -> batch, in the library's layout
    train: Callable | None      # (x, t) -> loss
    predict: Callable           # (x) -> probabilities (n, outputs)
    restore: Callable = lambda: None        # () sets the first weights again

    def call(self, x, t, task, n):
        """Return a function without arguments: "train" on the next n images, or "predict" the first n."""
        if task == "predict":
            images, _ = self.ready(x[:n], t[:n])
            return lambda: self.predict(images)
        turn = itertools.cycle([self.ready(x[i:i + n], t[i:i + n]) for i in range(0, len(x), n)])
        return lambda: self.train(*next(turn))


def build(name, network, threads):
    """Return the Peer of this name, out of BUILDERS; an ImportError where it is not installed."""
    builder, *options = BUILDERS[name]
    return builder(network, threads, *options)


# ---- minicnn and Keras -----------------------------------------------------------------------------------------------

def functional(network, layers, Model):
    """Return the Model of a library whose layers have Keras' names."""
    made, weighted = [layers.Input(network.input_shape)], []
    for array in network.arrays[1:]:
        layer = getattr(layers, array.kind)(**array.arguments)
        sources = [made[source.place] for source in array.sources]
        made.append(layer(sources if len(sources) > 1 else sources[0]))
        weighted += [(layer, array.weights)] * bool(array.weights)
    model = Model(made[0], made[-1])
    for layer, weights in weighted:
        layer.set_weights(weights)
    return model


def minicnn_model(network, threads):
    """Return the compiled model of minicnn."""
    import minicnn

    minicnn.set_thread_count(threads)
    model = functional(network, minicnn, minicnn.Model)
    model.compile(minicnn.Adam(1e-3, epsilon=1e-7),
                  "binary_crossentropy" if network.outputs == 1 else "categorical_crossentropy")
    return model


def _minicnn(network, threads):
    model = minicnn_model(network, threads)
    first = model.get_weights()
    return Peer(lambda x, t: (np.ascontiguousarray(x), t), model.train_on_batch, model.predict,
                lambda: model.set_weights(first))


def keras_model(network, threads, backend="tensorflow"):
    """Return the compiled model of Keras."""
    os.environ["KERAS_BACKEND"] = backend
    if backend == "tensorflow":         # JAX has no setting for its threads
        import tensorflow
        tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
        tensorflow.config.threading.set_inter_op_parallelism_threads(threads)
    import keras

    model = functional(network, keras.layers, keras.Model)
    model.compile(keras.optimizers.Adam(1e-3, epsilon=1e-7),
                  "binary_crossentropy" if network.outputs == 1 else "sparse_categorical_crossentropy")
    return model


def _keras(network, threads, backend="tensorflow"):
    model = keras_model(network, threads, backend)
    from keras.ops import convert_to_tensor

    def ready(x, t):
        return convert_to_tensor(x), convert_to_tensor(t.astype(np.float32)[:, None] if network.outputs == 1 else t)

    if backend == "tensorflow":
        import tensorflow
        forward = tensorflow.function(lambda x: model(x, training=False))
    first = model.get_weights()
    return Peer(ready, lambda x, t: float(model.train_on_batch(x, t)),
                (lambda x: forward(x).numpy()) if backend == "tensorflow" else model.predict_on_batch,
                lambda: model.set_weights(first))


def _litert(network, threads):
    model = keras_model(network, threads)
    import tensorflow
    from ai_edge_litert.interpreter import Interpreter

    @cache
    def interpreter(shape):         # one for each number of images: with a shape that is known it is faster
        forward = tensorflow.function(lambda x: model(x, training=False)).get_concrete_function(tensorflow.TensorSpec(shape))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = tensorflow.lite.TFLiteConverter.from_concrete_functions([forward]).convert()
        made = Interpreter(model_content=content, num_threads=threads)
        made.allocate_tensors()
        return made, made.get_input_details()[0]["index"], made.get_output_details()[0]["index"]

    def predict(x):
        made, given, result = interpreter(x.shape)
        made.set_tensor(given, x)
        made.invoke()
        return made.get_tensor(result)
    return Peer(lambda x, t: (np.ascontiguousarray(x), t), None, predict)


# ---- PyTorch, ONNX Runtime and OpenVINO: images (N, C, H, W) ---------------------------------------------------------

def channels_first(array):
    """Return the weights of a layer as PyTorch and ONNX have them: (F, C, KH, KW), (C, 1, KH, KW), (out, in), (F,)."""
    w, *others = array.weights
    if array.kind == "Conv2D":
        w = w.transpose(3, 2, 0, 1)
    elif array.kind == "DepthwiseConv2D":
        w = w.transpose(2, 3, 0, 1)
    elif array.kind == "Dense":
        before = array.sources[0]
        if before.kind == "Flatten":        # it sees (C, H, W) here: its rows come in another order
            w = w.reshape(*before.sources[0].shape, -1).transpose(2, 0, 1, 3).reshape(w.shape)
        w = w.T
    return [np.ascontiguousarray(a) for a in (w, *others)]


def torch_model(network):
    """Return the network with its logits, with PyTorch's own layers."""
    import torch
    from torch import nn

    class Sum(nn.Module):
        def forward(self, a, b):
            return a + b

    def convolution(array, filters, strides, kernel_size, use_bias, padding, groups=1):
        before, after = array.padding()
        if array.sources[0].kind == "ZeroPadding2D":
            before = after = array.sources[0].arguments["padding"]
        layer = nn.Conv2d(array.sources[0].shape[2], filters, kernel_size, strides, before if before == after else 0,
                          groups=groups, bias=use_bias)
        return layer if before == after else nn.Sequential(nn.ZeroPad2d((before, after) * 2), layer)

    def layer(array):
        C = array.shape[-1]
        return {"Conv2D": lambda **given: convolution(array, **given),
                "DepthwiseConv2D": lambda **given: convolution(array, C, groups=C, **given),
                "BatchNormalization": lambda: nn.BatchNorm2d(C, eps=1e-3, momentum=0.01),
                "ReLU": lambda: nn.ReLU(inplace=True),
                # Behind ReLU the rows that PyTorch pads with -inf are no different from zeros.
                "MaxPool2D": lambda pool_size, strides: nn.MaxPool2d(
                    pool_size, strides, array.sources[0].arguments["padding"] if array.sources[0].kind == "ZeroPadding2D" else 0),
                "ZeroPadding2D": lambda padding: nn.Identity(),         # what takes it pads
                "Add": Sum, "GlobalAveragePooling2D": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
                "Flatten": nn.Flatten, "Dense": lambda units, activation: nn.Linear(array.sources[0].shape[0], units)
                }[array.kind](**array.arguments)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList()
            self.steps, last = [], {source.place: array for array in network.arrays for source in array.sources}
            for array in network.arrays[1:]:
                self.layers.append(layer(array))
                used = [source.place for source in array.sources]
                self.steps.append((self.layers[-1], used, array.place, [i for i in used if last[i] is array]))
                if array.weights:
                    modules = [m for m in self.layers[-1].modules() if hasattr(m, "weight")]
                    for name, w in zip(("weight", "bias", "running_mean", "running_var"), channels_first(array)):
                        getattr(modules[0], name).data.copy_(torch.from_numpy(w))

        def forward(self, x):
            made = {0: x}
            for layer, used, place, done in self.steps:
                made[place] = layer(*[made[i] for i in used])
                for i in done:          # as if it went out of scope
                    del made[i]
            return made[place]
    return Net()


def _torch(network, threads, channels_last=False, compiled=False):
    import torch

    torch.set_num_threads(threads)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model, binary = torch_model(network).to(memory_format=layout), network.outputs == 1
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-7, fused=True)
    loss_of = torch.nn.BCEWithLogitsLoss() if binary else torch.nn.CrossEntropyLoss()
    forward = torch.compile(model, dynamic=False) if compiled else model

    def ready(x, t):
        return (torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).contiguous(memory_format=layout),
                torch.from_numpy(t.astype(np.float32)[:, None] if binary else t.astype(np.int64)))

    def train(x, t):
        if not model.training:
            model.train()
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(forward(x), t)
        loss.backward()
        optimizer.step()
        return loss.item()

    def predict(x):
        if model.training:
            model.eval()
        with torch.inference_mode():
            return (torch.sigmoid(forward(x)) if binary else torch.softmax(forward(x), 1)).numpy()
    first = copy.deepcopy(model.state_dict())
    return Peer(ready, train, predict, lambda: model.load_state_dict(first))


def onnx_model(network):
    """Return the network as the bytes of an ONNX file, for any number of images."""
    from onnx import TensorProto, checker, helper, numpy_helper

    nodes, weights = [], []

    def note(kind, array, sources, result, **attributes):
        for i, w in enumerate(channels_first(array) if array.weights else ()):
            weights.append(numpy_helper.from_array(w, f"{array.place}_{i}"))
            sources = [*sources, weights[-1].name]
        nodes.append(helper.make_node(kind, sources, [result], **attributes))

    for array in network.arrays[1:]:
        sources, result, given = [str(source.place) for source in array.sources], str(array.place), array.arguments
        if array.kind in ("Conv2D", "DepthwiseConv2D"):
            note("Conv", array, sources, result, kernel_shape=[given["kernel_size"]] * 2, strides=[given["strides"]] * 2,
                 pads=[rows for rows in array.padding() for _ in range(2)],
                 group=array.shape[2] if array.kind == "DepthwiseConv2D" else 1)
        elif array.kind == "BatchNormalization":
            note("BatchNormalization", array, sources, result, epsilon=1e-3)
        elif array.kind == "MaxPool2D":
            note("MaxPool", array, sources, result, kernel_shape=[given["pool_size"]] * 2, strides=[given["strides"]] * 2)
        elif array.kind == "ZeroPadding2D":
            weights.append(numpy_helper.from_array(np.array([0, 0] + [given["padding"]] * 2 + [0, 0] + [given["padding"]] * 2),
                                                   f"{array.place}_pads"))
            note("Pad", array, [*sources, weights[-1].name], result)
        elif array.kind == "GlobalAveragePooling2D":
            note("GlobalAveragePool", array, sources, result + "_mean")
            note("Flatten", array, [result + "_mean"], result)
        elif array.kind == "Dense":
            note("Gemm", array, sources, result, transB=1)
        else:
            note({"ReLU": "Relu"}.get(array.kind, array.kind), array, sources, result)
    nodes.append(helper.make_node(network.activation.capitalize(), [result], ["y"]))
    H, W, C = network.input_shape
    graph = helper.make_graph(nodes, "network", [helper.make_tensor_value_info("0", TensorProto.FLOAT, ["n", C, H, W])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", network.outputs])], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    return model.SerializeToString()


def _transposed(x, t):
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)), t


def _onnxruntime(network, threads):
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(onnx_model(network), settings, providers=["CPUExecutionProvider"])
    return Peer(_transposed, None, lambda x: session.run(None, {"0": x})[0])


def _openvino(network, threads):
    import openvino

    @cache
    def compiled(shape):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.onnx"
            path.write_bytes(onnx_model(network))
            model = openvino.Core().read_model(path)
        model.reshape(list(shape))
        return openvino.Core().compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY",
                                                            "INFERENCE_PRECISION_HINT": "f32"})
    return Peer(_transposed, None, lambda x: compiled(x.shape)(x)[0])


BUILDERS = {
    OURS: (_minicnn,),
    "PyTorch channels_last": (_torch, True),
    "Keras": (_keras,),
    "ONNX Runtime": (_onnxruntime,),
    "OpenVINO": (_openvino,),
    "LiteRT": (_litert,),
    "PyTorch": (_torch,),
    "PyTorch compiled": (_torch, True, True),
    "Keras on JAX": (_keras, "jax"),
}
OPTIONAL = ("PyTorch", "PyTorch compiled", "Keras on JAX")       # never the fastest; the second compiles for minutes
