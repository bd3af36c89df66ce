"""Freeze what PyTorch computes for the cases of `cases.py` into `torch.safetensors`, and for the layers that COV-19Net has
no use for into `torch_further.safetensors`
and, those of normalization, `torch_normalization.safetensors`, and forms of convolution, in float64,
`torch_convolution.safetensors`.

Run by hand from the root of the checkout, in an environment with PyTorch, safetensors and NumPy (it is not needed to
run the tests; last run with the versions in the file's metadata):

    python -m pip install -e . torch==2.13.0 safetensors
    python tests/vectors/make_torch.py [torch | torch_further | torch_normalization]        # all by default

One thread and no time, host or path in the output: two runs on one machine write the same bytes.

Layouts: PyTorch keeps images NCHW and convolution weights OIHW, and its Flatten lists channels first. Everything is
given and returned in Keras' layout, so the kernel of the dense layer after Flatten has its rows permuted on the way in
and back on the way out: the network is the same function.
"""

import sys
import warnings
from pathlib import Path

import cases
import numpy as np
import safetensors
import torch
from safetensors.numpy import load_file, save_file
from torch import nn
from torch.nn import functional

from minicnn.core.shapes import window

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def nchw(x, dtype):
    """Return an NHWC array as an NCHW leaf tensor that collects its gradient."""
    return torch.tensor(x, dtype=dtype).permute(0, 3, 1, 2).contiguous().requires_grad_()


def nhwc(tensor):
    """Return an NCHW tensor as an NHWC array."""
    return tensor.detach().permute(0, 2, 3, 1).contiguous().numpy()


def to_torch(array, flattened=None):
    """Return a Keras parameter in PyTorch's layout; `flattened` is (H, W, C) for the dense kernel after Flatten."""
    tensor = torch.tensor(array)
    if tensor.ndim == 4:
        return tensor.permute(3, 2, 0, 1).contiguous()
    if tensor.ndim == 2 and flattened:
        return tensor.reshape(*flattened, -1).permute(3, 2, 0, 1).flatten(1).contiguous()
    return tensor.t().contiguous()


def to_keras(tensor, flattened=None):
    """Return a PyTorch parameter or its gradient in Keras' layout: the inverse of `to_torch`."""
    tensor = tensor.detach()
    if tensor.ndim == 4:
        tensor = tensor.permute(2, 3, 1, 0)
    elif tensor.ndim == 2 and flattened:
        H, W, C = flattened
        tensor = tensor.reshape(-1, C, H, W).permute(2, 3, 1, 0).flatten(0, 2)
    else:
        tensor = tensor.t()
    return tensor.contiguous().numpy().copy()


class Net:
    """A network of `cases.NETWORKS` in PyTorch, with its parameters seen in Keras' layout."""

    def __init__(self, name, dtype):
        network = cases.NETWORKS[name]
        shapes, flattened = cases.parameter_shapes(network)
        modules, channels, features = [], network.input_shape[-1], int(np.prod(flattened))
        for kind, *options in network.layers:
            if kind == "conv":
                modules.append(nn.Conv2d(channels, options[0], options[1], padding=options[2]))
                channels = options[0]
            elif kind == "dense":
                modules.append(nn.Linear(features, options[0]))
                features = options[0]
            else:
                modules.append({"relu": nn.ReLU, "max_pool": nn.MaxPool2d, "flatten": nn.Flatten}[kind](*options))
        self.module = nn.Sequential(*modules).to(dtype)
        self.parameters = list(self.module.parameters())
        first_dense = next(i for i, shape in enumerate(shapes) if len(shape) == 2)
        self.layouts = [flattened if i == first_dense else None for i in range(len(shapes))]
        with torch.no_grad():
            for parameter, array, layout in zip(self.parameters, cases.weights(name), self.layouts, strict=True):
                parameter.copy_(to_torch(array, layout))

    def loss(self, x, t):
        """Return logits and mean binary cross-entropy from logits, and leave the gradients in the parameters."""
        dtype = self.parameters[0].dtype
        self.module.zero_grad()
        z = self.module(nchw(x, dtype))
        loss = functional.binary_cross_entropy_with_logits(z, torch.tensor(t, dtype=dtype))
        loss.backward()
        return z.detach().numpy(), loss.item()

    def values(self):
        """Return copies of the parameters in Keras' layout."""
        return [to_keras(p, layout) for p, layout in zip(self.parameters, self.layouts)]

    def gradients(self):
        """Return copies of the gradients in Keras' layout."""
        return [to_keras(p.grad, layout) for p, layout in zip(self.parameters, self.layouts)]


def freeze_network(out, name, precision):
    """Record logits, loss and gradients on the first batch, then the weights after each whole Adam step."""
    prefix, dtype = f"{name}/{precision}", DTYPES[precision]
    net = Net(name, dtype)
    z, loss = net.loss(*cases.batch(name, 0))
    out[f"{prefix}/logits"] = z
    out[f"{prefix}/probabilities"] = torch.sigmoid(torch.tensor(z)).numpy()
    out[f"{prefix}/loss"] = np.float64(loss)
    for index, gradient in enumerate(net.gradients()):
        out[f"{prefix}/gradient/{index}"] = cases.sampled(gradient)
        out[f"{prefix}/gradient_max/{index}"] = np.float64(abs(gradient).max())
    optimizer = torch.optim.Adam(net.parameters, lr=cases.LEARNING_RATE, eps=1e-8)
    steps = cases.NETWORKS[name].steps
    for step in range(steps):
        net.loss(*cases.batch(name, step))
        optimizer.step()
    for index, value in enumerate(net.values()):
        out[f"{prefix}/after_{steps}_steps/{index}"] = cases.sampled(value)


def freeze_optimizer(out, name, precision, make):
    """Record 320 parameters after each of five updates with the frozen gradients."""
    parameter = torch.tensor(cases.optimizer_start(), dtype=DTYPES[precision])
    optimizer, rows = make([parameter]), []
    for gradient in cases.optimizer_gradients():
        parameter.grad = torch.tensor(gradient, dtype=parameter.dtype)
        optimizer.step()
        rows.append(parameter.numpy().copy())
    out[f"optimizer/{name}/{precision}"] = np.stack(rows)


def freeze_convolutions(out, precision):
    """Record y, dx, dw, db; PyTorch has no `same` padding with strides."""
    dtype = DTYPES[precision]
    for name, case in cases.CONVOLUTIONS.items():
        if case.padding == "same" and case.strides != (1, 1):
            continue
        x = nchw(cases.layer_input(name, case.input_shape), dtype)
        kernel, bias = cases.convolution_weights(name)
        w = to_torch(kernel).to(dtype).requires_grad_()
        b = torch.tensor(bias, dtype=dtype, requires_grad=True)
        y = functional.conv2d(x, w, b, stride=case.strides, padding=case.padding)
        y.backward(nchw(cases.layer_gradient(name, nhwc(y).shape), dtype).detach())
        record(out, f"{name}/{precision}", y=nhwc(y), dx=nhwc(x.grad), dw=to_keras(w.grad), db=b.grad.numpy())


def freeze_poolings(out, precision):
    """Record y and dx of max pooling (on tied inputs) and average pooling, `valid` windows only."""
    dtype = DTYPES[precision]
    for name, case in cases.POOLINGS.items():
        if case.padding == "same":
            continue
        for kind, pool, images in (("max", functional.max_pool2d, cases.tied_input(name, case.input_shape)),
                                   ("average", functional.avg_pool2d, cases.layer_input(name, case.input_shape))):
            x = nchw(images, dtype)
            y = pool(x, case.pool_size, case.strides)
            y.backward(nchw(cases.layer_gradient(name, nhwc(y).shape), dtype).detach())
            record(out, f"{kind}_{name}/{precision}", y=nhwc(y), dx=nhwc(x.grad))


def freeze_dense_and_activations(out, precision):
    """Record y and every gradient of dense layers and activations."""
    dtype = DTYPES[precision]
    for name, (N, n_in, n_out) in cases.DENSE.items():
        kernel, bias = cases.dense_weights(name)
        x = torch.tensor(cases.layer_input(name, (N, n_in)), dtype=dtype, requires_grad=True)
        w = to_torch(kernel).to(dtype).requires_grad_()
        b = torch.tensor(bias, dtype=dtype, requires_grad=True)
        y = functional.linear(x, w, b)
        y.backward(torch.tensor(cases.layer_gradient(name, (N, n_out)), dtype=dtype))
        record(out, f"{name}/{precision}", y=y.detach().numpy(), dx=x.grad.numpy(), dw=to_keras(w.grad),
               db=b.grad.numpy())
    for name in cases.ACTIVATIONS:
        x = torch.tensor(cases.activation_input(), dtype=dtype, requires_grad=True)
        y = getattr(torch, name)(x)
        y.backward(torch.tensor(cases.layer_gradient(name, y.shape), dtype=dtype))
        record(out, f"{name}/{precision}", y=y.detach().numpy(), dx=x.grad.numpy())


# The layers of `cases.FURTHER` in PyTorch: functions of (x, arguments), of images NCHW.
FURTHER = {
    "ReLU": lambda x, max_value: functional.hardtanh(x, 0.0, max_value),
    "LeakyReLU": lambda x, negative_slope=0.3: functional.leaky_relu(x, negative_slope),
    "ELU": lambda x, alpha=1.0: functional.elu(x, alpha),
    "Swish": functional.silu,
    "Softplus": lambda x: -functional.logsigmoid(-x),                   # softplus would be x from 20 on
    "Rescaling": lambda x, scale, offset: x * scale + offset,
    "GlobalAveragePooling2D": lambda x, keepdims=False: x.mean((2, 3), keepdim=keepdims),
    "GlobalMaxPooling2D": lambda x, keepdims=False: x.amax((2, 3), keepdim=keepdims),
    "ZeroPadding2D": lambda x, padding: functional.pad(x, _sides(padding)),
    "UpSampling2D": lambda x, size=2: functional.interpolate(x, scale_factor=size, mode="nearest"),
}


def _sides(padding):
    """Return (left, right, top, bottom) of the padding of an image."""
    rows, columns = padding if isinstance(padding, tuple) else (padding, padding)
    return [*(columns if isinstance(columns, tuple) else (columns,) * 2), *(rows if isinstance(rows, tuple) else (rows,) * 2)]


def freeze_further(out, precision):
    """Record y and dx of the layers that COV-19Net has no use for."""
    for name, case in cases.FURTHER.items():
        if case.kind not in FURTHER:
            continue
        x = cases.further_input(name)
        x = nchw(x, DTYPES[precision]) if x.ndim == 4 else torch.tensor(x, dtype=DTYPES[precision], requires_grad=True)
        y = FURTHER[case.kind](x, **case.arguments)
        back = nhwc if y.ndim == 4 else lambda tensor: tensor.detach().numpy()
        dy = torch.tensor(cases.layer_gradient(name, back(y).shape), dtype=y.dtype)
        y.backward(dy.permute(0, 3, 1, 2) if y.ndim == 4 else dy)
        record(out, f"{name}/{precision}", y=back(y), dx=nhwc(x.grad) if x.ndim == 4 else x.grad.numpy())


ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "softmax": lambda y: torch.softmax(y, 1)}


def freeze_forms(out, precision):
    """Record y, dx and the gradients of the parameters of the forms of convolution; PyTorch pools without `same`."""
    shapes = load_file(Path(__file__).with_name("keras_convolution.safetensors"))
    for name, case in cases.FORMS.items():
        if "Pool" in case.kind:
            continue
        count = sum(key.startswith(f"{name}/float32/gradient/") for key in shapes)
        weights = [torch.tensor(w, dtype=DTYPES[precision], requires_grad=True) for w in
                   cases.form_weights(name, [shapes[f"{name}/float32/gradient/{i}"].shape for i in range(count)])]
        x, back = cases.form_input(name), nhwc if case.kind != "Dense" else lambda tensor: tensor.detach().numpy()
        x = nchw(x, DTYPES[precision]) if x.ndim == 4 else torch.tensor(x, dtype=DTYPES[precision], requires_grad=True)
        y = form(x, weights, case)
        y = ACTIVATIONS.get(case.arguments.get("activation"), lambda y: y)(y)
        dy = torch.tensor(cases.layer_gradient(name, back(y).shape), dtype=y.dtype)
        y.backward(dy.permute(0, 3, 1, 2) if y.ndim == 4 else dy)
        record(out, f"{name}/{precision}", y=back(y), dx=back(x.grad),
               **{f"gradient/{i}": weight.grad.numpy() for i, weight in enumerate(weights)})


def form(x, weights, case):
    """Return what a form makes of x before its activation; weights are in Keras' layout."""
    arguments, (w, *rest) = case.arguments, weights
    bias = rest.pop() if arguments.get("use_bias", True) else None
    if case.kind == "Dense":
        return functional.linear(x, w.T, bias)
    strides, dilation = ((size, size) if isinstance(size, int) else size for size in
                         (arguments.get("strides", 1), arguments.get("dilation_rate", 1)))
    rows, columns = (window(size, (K - 1) * D + 1, S, arguments.get("padding", "valid")) for size, K, D, S in
                     zip(x.shape[2:], w.shape, dilation, strides))
    x = functional.pad(x, (columns.before, columns.after, rows.before, rows.after))
    if case.kind == "Conv2D":
        return functional.conv2d(x, w.permute(3, 2, 0, 1), bias, strides, 0, dilation, arguments.get("groups", 1))
    KH, KW, C, M = w.shape
    apart = w.permute(2, 3, 0, 1).reshape(C * M, 1, KH, KW)
    if case.kind == "DepthwiseConv2D":
        return functional.conv2d(x, apart, bias, strides, 0, dilation, C)
    return functional.conv2d(functional.conv2d(x, apart, None, strides, 0, dilation, C), rest[0].permute(3, 2, 0, 1), bias)


def freeze_losses(out, precision):
    """Record softmax with its own gradient, categorical cross-entropy from logits, and mean squared error."""
    dtype = DTYPES[precision]
    logits, targets = cases.class_logits()
    z = torch.tensor(logits, dtype=dtype, requires_grad=True)
    y = torch.softmax(z, -1)
    y.backward(torch.tensor(cases.layer_gradient("softmax", y.shape), dtype=dtype))
    record(out, f"softmax/{precision}", y=y.detach().numpy(), dx=z.grad.numpy())
    z = torch.tensor(logits, dtype=dtype, requires_grad=True)
    loss = functional.cross_entropy(z, torch.tensor(targets, dtype=dtype))
    loss.backward()
    record(out, f"categorical_crossentropy/{precision}", loss=np.float64(loss.item()), dz=z.grad.numpy())
    predictions, targets = cases.regression()
    y = torch.tensor(predictions, dtype=dtype, requires_grad=True)
    loss = functional.mse_loss(y, torch.tensor(targets, dtype=dtype))
    loss.backward()
    record(out, f"mean_squared_error/{precision}", loss=np.float64(loss.item()), dy=y.grad.numpy())


def record(out, prefix, **arrays):
    """Keep arrays under `prefix/name`."""
    for name, array in arrays.items():
        out[f"{prefix}/{name}"] = array


def freeze_all(out):
    """Record the networks, optimizers, layers and losses that COV-19Net has a use for."""
    # An even kernel with `same` padding makes PyTorch pad a copy first, and say so.
    warnings.filterwarnings("ignore", message="Using padding='same' with even kernel")
    freeze_network(out, "cov19net", "float32")
    for precision in DTYPES:
        freeze_network(out, "small", precision)
        freeze_optimizer(out, "adam", precision, lambda p: torch.optim.Adam(p, lr=cases.LEARNING_RATE, eps=1e-8))
        for name, (momentum, nesterov) in cases.SGD.items():
            freeze_optimizer(out, name, precision, lambda p: torch.optim.SGD(
                p, lr=cases.SGD_LEARNING_RATE, momentum=momentum, nesterov=nesterov))
        freeze_convolutions(out, precision)
        freeze_poolings(out, precision)
        freeze_dense_and_activations(out, precision)
        freeze_losses(out, precision)


def freeze_normalization(out, precision):
    """Record y, dx and the gradients of gamma and beta. What PyTorch makes of the variance in prediction is another."""
    for name, case in cases.NORMALIZATIONS.items():
        C, dtype = case.input_shape[-1], DTYPES[precision]
        rows = 3 * cases.layer_input(name, case.input_shape).reshape(-1, C) + 1
        x = torch.tensor(rows, dtype=dtype, requires_grad=True)
        arrays = [torch.tensor(a, dtype=dtype) for a in cases.normalization_weights(name, C, case.kind, case.options)]
        gamma, beta = (arrays.pop(0).requires_grad_() if case.options.get(key, True) else None for key in ("scale", "center"))
        epsilon = case.options.get("epsilon", 1e-3)
        y = functional.layer_norm(x, (C,), gamma, beta, epsilon) if case.kind == "layer" else \
            functional.batch_norm(x, *arrays, gamma, beta, training=case.training, eps=epsilon)
        dy = cases.layer_gradient(name, case.input_shape).reshape(-1, C)
        y.backward(torch.tensor(dy, dtype=dtype))
        results = {"y": y.detach(), "dx": x.grad} | {f"d{key}": parameter.grad for key, parameter in
                                                     (("gamma", gamma), ("beta", beta)) if parameter is not None}
        record(out, f"{name}/{precision}", **{key: array.numpy().reshape(case.input_shape if key in ("y", "dx") else (C,))
                                              for key, array in results.items()})


def main(*names):
    """Write the files of these names, by default all."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    files = {"torch": freeze_all, "torch_further": lambda out: [freeze_further(out, precision) for precision in DTYPES],
             "torch_convolution": lambda out: freeze_forms(out, "float64"),
             "torch_normalization": lambda out: [freeze_normalization(out, precision) for precision in DTYPES]}
    for name in names or files:
        out = {}
        files[name](out)
        write(out, Path(__file__).with_name(f"{name}.safetensors"))


def write(out, path):
    """Write the recorded arrays to a file, with the versions."""
    # One metadata entry: safetensors writes several in no particular order, and equal runs should be equal bytes.
    versions = f"torch {torch.__version__}, numpy {np.__version__}, safetensors {safetensors.__version__}"
    save_file({key: np.asarray(array, order="C") for key, array in out.items()}, path, {"versions": versions})
    print(f"{path.name}: {len(out)} arrays, {path.stat().st_size:,} bytes, {versions}")


if __name__ == "__main__":
    main(*sys.argv[1:])
