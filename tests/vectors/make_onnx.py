"""Freeze small networks that PyTorch and Keras exported to ONNX, `onnx_NAME.onnx`, and what they compute, `onnx_exports.safetensors`.

Run by hand from the root of the checkout (it is not needed to run the tests; last run with the versions in the file's metadata):

    python -m pip install torch==2.13.0 onnxscript keras==3.15.1 tensorflow-cpu tf2onnx onnx safetensors
    python tests/vectors/make_onnx.py [torch | keras]       # all by default

Both exporters of PyTorch are asked, the one of TorchScript (dynamo=False) and the newer one, as files of both are about.
Images are NHWC in the frozen arrays, as Keras and minicnn have them.
"""

import os
import sys
import warnings
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

HERE = Path(__file__).parent
FROZEN = HERE / "onnx_exports.safetensors"


def torch_networks():
    """Return {name: (module in evaluation mode, shape of an image)}."""
    from torch import cat, nn

    class Gate(nn.Module):
        """Squeeze and excitation."""

        def __init__(self, channels):
            super().__init__()
            self.inner = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, 2, 1), nn.SiLU(), nn.Conv2d(2, channels, 1), nn.Hardsigmoid())

        def forward(self, x):
            return x * self.inner(x)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.norm1 = nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False), nn.BatchNorm2d(6)
            self.conv2, self.norm2 = nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6)
            self.gate = Gate(6)

        def forward(self, x):
            return nn.functional.hardswish(x + self.gate(self.norm2(self.conv2(nn.functional.relu6(self.norm1(self.conv1(x)))))))

    class Shuffled(nn.Module):
        """Two views of an image, a shuffle of channels, and view(size(0), -1)."""

        def __init__(self):
            super().__init__()
            self.left, self.right = nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Conv2d(3, 4, 5, stride=2, padding=2)
            self.prelu, self.last = nn.PReLU(8), nn.Linear(8 * 3 * 4, 3)

        def forward(self, x):
            x = nn.functional.max_pool2d(self.prelu(cat([self.left(x), self.right(x)], 1)), 3, 2, 1, ceil_mode=False)
            n, c, h, w = x.shape
            x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
            return nn.functional.log_softmax(self.last(nn.functional.gelu(x.reshape(n, -1))), 1)

    residual = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(3, 2, 1), Block(),
                             nn.AvgPool2d(3, 1, 1), nn.Dropout(0.5), nn.Flatten(), nn.Linear(6 * 3 * 4, 5), nn.ReLU(), nn.Linear(5, 2), nn.Softmax(1))
    return {"residual": (residual.eval(), (12, 16, 3)), "shuffled": (Shuffled().eval(), (12, 16, 3))}


def write_bare(path):
    """Write a file again without what says how it was made: traces of the exporter, shapes of arrays between nodes."""
    import onnx
    model = onnx.load(path)
    for part in (model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output, *model.graph.initializer):
        for field in ("metadata_props", "doc_string"):
            part.ClearField(field)
    del model.graph.value_info[:]
    path.write_bytes(model.SerializeToString(deterministic=True))


def by_torch():
    import torch
    torch.manual_seed(7)
    torch.set_num_threads(1)
    arrays = {}
    for name, (module, shape) in torch_networks().items():
        for layer in module.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):         # as if it had trained
                layer.running_mean.normal_(), layer.running_var.uniform_(0.5, 2)
                layer.weight.data.uniform_(0.5, 2), layer.bias.data.normal_()
        x = torch.randn(3, shape[2], *shape[:2])
        arrays[f"torch_{name}/x"], arrays[f"torch_{name}/y"] = x.permute(0, 2, 3, 1).contiguous().numpy(), module(x).detach().numpy()
        for exporter, options in (("script", {"dynamo": False, "opset_version": 12, "dynamic_axes": {"x": {0: "n"}}}),
                                  ("dynamo", {"dynamo": True, "opset_version": 18, "dynamic_shapes": ({0: torch.export.Dim("n")},), "external_data": False})):
            path = HERE / f"onnx_torch_{name}_{exporter}.onnx"
            torch.onnx.export(module, (x,), path, input_names=["x"], output_names=["y"], **options)
            write_bare(path)
    return arrays, {"torch": torch.__version__}


def by_keras():
    import keras
    from keras import layers
    keras.utils.set_random_seed(7)
    x = inputs = keras.Input((10, 12, 3))
    x = layers.Conv2D(6, 3, strides=2, padding="same", use_bias=False)(layers.Rescaling(2.0, offset=-1.0)(x))
    x = layers.ReLU(6)(layers.BatchNormalization()(x))
    y = layers.DepthwiseConv2D(3, padding="same", activation="swish")(x)
    y = layers.Multiply()([y, layers.Reshape((1, 1, 6))(layers.Dense(6, activation="sigmoid")(layers.GlobalAveragePooling2D()(y)))])
    x = layers.Concatenate()([layers.Add()([x, y]), layers.AveragePooling2D(3, 1, padding="same")(x)])
    x = layers.MaxPooling2D(2, padding="same")(layers.LeakyReLU()(x))
    x = layers.Dense(4, activation="elu")(layers.Dropout(0.5)(layers.Flatten()(layers.UpSampling2D(2)(x))))
    model = keras.Model(inputs, layers.Dense(3, activation="softmax")(x))
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([np.random.uniform(0.5, 2, 6) for _ in range(4)])
    x = np.random.uniform(size=(3, 10, 12, 3)).astype("f")
    y = model(x).numpy()
    model.export(HERE / "onnx_keras.onnx", format="onnx", verbose=False)
    write_bare(HERE / "onnx_keras.onnx")
    return {"keras/x": x, "keras/y": y}, {"keras": keras.__version__}


if __name__ == "__main__":
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    warnings.simplefilter("ignore")
    arrays, versions = {}, {}
    if FROZEN.exists():
        with safe_open(FROZEN, "np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}
            versions = dict(part.split(" ") for part in file.metadata()["versions"].split(", "))
    for name, make in (("torch", by_torch), ("keras", by_keras)):
        if name in (sys.argv[1:] or [name]):
            made, version = make()
            arrays, versions = arrays | made, versions | version
    save_file({name: np.ascontiguousarray(array) for name, array in sorted(arrays.items())}, FROZEN,
              {"versions": ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))})
