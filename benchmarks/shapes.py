"""Products and convolutions over many shapes on one thread: against NumPy's sgemm; depthwise ones against PyTorch.

    python -m benchmarks.shapes --rounds 5
    python -m benchmarks.shapes --only gradient 14x14       # the rows with both in their names

takes a minute. A convolution is compared with the product of its windows, (N OH OW, KH KW C) @ (KH KW C, F),
gathered beforehand. All kernels of a shape and their peers are timed in turns. To add a shape, add a line to SHAPES.
"""

import os
import sys
from typing import NamedTuple

import numpy as np

from benchmarks.command import main
from benchmarks.kernels import aligned, normals
from benchmarks.measure import OURS, compare, interleave
from benchmarks.report import number, ratio, table

TITLE = "Kernels beside sgemm"
THREADS = "one"         # and one whatever --threads says
SGEMM, TORCH = "sgemm", "PyTorch"
GRADIENT = 0.8          # the bar of a gradient, out of the forward pass's


class Shape(NamedTuple):
    """A convolution with padding `same`; of 1x1 windows also a dense layer, and without F a depthwise convolution."""

    name: str
    n: int              # images
    side: int           # their height and width
    K: int              # the window's
    stride: int
    C: int
    F: int
    bar: float          # how many times as fast as its peer the forward pass is to be


def product(M, K, N):
    """Return (M, K) @ (K, N), whose M rows are also the pixels of square images."""
    side = next(side for side in range(int(M ** 0.5), 0, -1) if M % side ** 2 == 0)
    return Shape(f"product {M}x{K}x{N}", M // side ** 2, side, 1, 1, K, N, 0.9)


def convolution(side, C, F, bar, K=3, stride=1, n=8):
    steps = f", stride {stride}" if stride > 1 else ""
    return Shape(f"{K}x{K}{steps}, {side}x{side}, {C} to {F}", n, side, K, stride, C, F, bar)


def depthwise(side, C):
    return Shape(f"{side}x{side}, {C}", 8, side, 3, 1, C, 0, 1.5)


SHAPES = [
    product(4096, 576, 64), product(4096, 576, 128), product(1024, 2304, 256), product(196, 4608, 512),
    product(3136, 64, 64), product(3136, 64, 256), product(32, 4608, 128),
    convolution(56, 32, 32, 1.7), convolution(56, 64, 64, 1.7, n=2),
    convolution(29, 32, 32, 1.7), convolution(29, 64, 64, 1.7), convolution(28, 128, 128, 1.7),
    convolution(14, 256, 256, 1.7), convolution(8, 256, 256, 1.7),
    convolution(14, 512, 512, 0.9), convolution(7, 512, 512, 0.9),
    convolution(56, 64, 128, 0.9, stride=2), convolution(28, 128, 256, 0.9, stride=2),
    convolution(28, 32, 64, 0.9, K=5), convolution(112, 3, 64, 0.9, K=7, stride=2),
    depthwise(56, 32), depthwise(56, 64), depthwise(28, 128), depthwise(14, 256), depthwise(14, 512),
]


def calls(shape):
    """Return ({kernel: call}, {kernel: call of its peer}, the operations of one call, done densely)."""
    from minicnn import kernels
    from minicnn.core.shapes import window

    _, n, side, K, stride, C, F, _ = shape
    out, before, after = window(side, K, stride, "same")
    pads, strides, pixels = (before, after, before, after), (stride, stride), n * out * out
    x, dy, b = normals(n, side, side, C), normals(n, out, out, F or C), normals(F or C)
    y, dx, db = map(aligned, (dy, x, b))
    if not F:
        w, dw, holes = normals(K, K, C, 1), normals(K, K, C, 1), (1, 1)
        return {"depthwise_conv2d": lambda: kernels.depthwise_conv2d(x, w, b, strides, pads, holes, y),
                "depthwise_conv2d_input_gradient": lambda: kernels.depthwise_conv2d_input_gradient(
                    dy, w, (side, side), strides, pads, holes, dx),
                "depthwise_conv2d_weight_gradient": lambda: kernels.depthwise_conv2d_weight_gradient(
                    dy, x, (K, K), strides, pads, holes, dw, db)}, torch_calls(x, w, b, dy), 2 * pixels * K * K * C
    w, dw = normals(K, K, C, F), normals(K, K, C, F)
    ours = {"conv2d": lambda: kernels.conv2d(x, w, b, strides, pads, y),
            "conv2d_relu": lambda: kernels.conv2d_relu(x, w, b, strides, pads, y),
            "conv2d_input_gradient": lambda: kernels.conv2d_input_gradient(dy, w, (side, side), strides, pads, dx),
            "conv2d_weight_gradient": lambda: kernels.conv2d_weight_gradient(dy, x, (K, K), strides, pads, dw, db)}
    if C == 3:          # images: nobody needs their gradient
        del ours["conv2d_input_gradient"]
    if K == 1:
        samples, gradients, results, matrix = (a.reshape(-1, a.shape[-1]) for a in (x, dy, y, w))
        inputs, weights = dx.reshape(-1, C), dw.reshape(C, F)
        ours = {"dense": lambda: kernels.dense(samples, matrix, b, results),
                "dense_input_gradient": lambda: kernels.dense_input_gradient(gradients, matrix, inputs),
                "dense_weight_gradient": lambda: kernels.dense_weight_gradient(gradients, samples, weights, db)} | ours
    windows, filters, products = normals(pixels, K * K * C), w.reshape(-1, F), np.empty_like(y).reshape(-1, F)

    def sgemm():
        np.dot(windows, filters, out=products)
    return ours, dict.fromkeys(ours, sgemm), 2 * pixels * K * K * C * F


def torch_calls(x, w, b, dy):
    """Return {kernel: call} of PyTorch, channels last, for a depthwise convolution of stride 1; {} without PyTorch."""
    try:
        import torch
    except ImportError:
        return {}
    torch.set_num_threads(1)
    images, gradients = (torch.from_numpy(a).permute(0, 3, 1, 2) for a in (x, dy))
    filters, bias = torch.from_numpy(w.transpose(2, 3, 0, 1).copy()), torch.from_numpy(b)
    C, around = len(b), w.shape[0] // 2

    def backward(*wanted):
        torch.ops.aten.convolution_backward(gradients, images, filters, [C], [1, 1], [around, around], [1, 1], False,
                                            [0, 0], C, wanted)
    return {"depthwise_conv2d": lambda: torch.conv2d(images, filters, bias, padding=around, groups=C),
            "depthwise_conv2d_input_gradient": lambda: backward(True, False, False),
            "depthwise_conv2d_weight_gradient": lambda: backward(False, True, True)}


def arguments(parser):
    parser.add_argument("--only", nargs="+", default=[], metavar="TEXT", help="rows with all of these in their names")


def run(options):
    import minicnn

    minicnn.set_thread_count(1)
    rounds, rows = options.rounds or (2 if options.quick else 7), []
    for shape in SHAPES:
        ours, peers, flops = calls(shape)
        ours = {name: call for name, call in ours.items()
                if name in peers and all(text in f"{name}, {shape.name}" for text in options.only)}
        peer_of = {name: SGEMM if shape.F else f"{TORCH} {name}" for name in ours}      # sgemm takes one turn for all
        times = interleave(ours | {peer: peers[name] for name, peer in peer_of.items()}, rounds,
                           budget=0.02 if options.quick else 0.1, warm=3, pause=0.002)
        for name in peer_of:
            mine, peer = compare({OURS: times[name], peer_of[name]: times[peer_of[name]]})
            bar = shape.bar * (GRADIENT if shape.F and "gradient" in name else 1)
            rows.append(peer | {"name": f"`{name}`, {shape.name}", "peer": peer_of[name].split()[0], "bar": bar,
                                "ms": mine["median"], "gflops": flops / mine["median"] / 1e6,
                                "peer_gflops": flops / peer["median"] / 1e6})
    if not rows:
        raise SystemExit(f"No row has {options.only} in its name; depthwise ones need PyTorch.")
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {"rows": rows, "blas": f"{blas['name']} {blas['version']}"}


def report(results):
    result = next(iter(results.values()))
    machine = result["machine"]
    text = [f"{machine['cpu']}, one thread, float32. Products, and convolutions with padding `same`, beside NumPy's "
            f"sgemm ({result['blas']}, one thread) on the product of the same size, whose windows are gathered "
            "already; `conv2d` of a product has 1x1 windows. Depthwise convolutions, 3x3, are beside PyTorch, channels "
            "last. Operations are counted as if all were done: a kernel that needs fewer can be faster than any "
            "product. Ratios are the peer's time over minicnn's: above 1, minicnn is faster. A bar is met by the "
            "median.\n"]
    for peer in (SGEMM, TORCH):
        rows = [[row["name"], number(row["ms"]), number(row["gflops"]), number(row["peer_gflops"]), ratio(row),
                 f"{row['best_ratio']:.2f}", f"{row['bar']:.2f}", "yes" if row["ratio"] >= row["bar"] else "**no**"]
                for row in result["rows"] if row["peer"] == peer]
        if rows:
            met = sum(row[-1] == "yes" for row in rows)
            text += [f"Beside {peer}: {met} of {len(rows)} bars are met.\n",
                     table(["", "ms", "GFLOP/s", f"GFLOP/s of {peer}", "times as fast, median (quartiles)",
                            "of the best times", "bar", "met"], rows)]
    if "torch" not in machine["versions"]:
        text.append("Depthwise convolutions are left out: PyTorch, their peer, is not installed.\n")
    return "\n".join(text)


if __name__ == "__main__":
    if os.environ.get("OPENBLAS_NUM_THREADS") != "1":       # NumPy reads it once, when it is imported: begin again
        os.environ["OPENBLAS_NUM_THREADS"] = "1"
        os.execv(sys.executable, sys.orig_argv)
    main(sys.modules[__name__])
