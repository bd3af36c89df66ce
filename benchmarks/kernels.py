"""Every kernel at COV-19Net's shapes, 32 images, on one thread: against the reference, and against the core's peak.

    python -m benchmarks.kernels --rounds 5

takes a minute or two. A kernel, its reference in NumPy (which sums in float64) and the peak of fused multiply-adds are
timed in turns. To add a kernel, add a row to ROWS.
"""

import sys
from typing import Callable, NamedTuple

import numpy as np

from benchmarks.command import main
from benchmarks.measure import interleave
from benchmarks.report import Bar, bar_plot, number, table

TITLE = "Kernels"
THREADS = "one"
N = 32
ONE, NONE = (1, 1), (0, 0, 0, 0)


class Row(NamedTuple):
    """One kernel at one shape."""

    name: str               # in minicnn.kernels
    where: str
    inputs: Callable        # () -> tuple of the inputs
    flops: int = 0          # of one call, done densely; 0 without multiply-adds
    specified: Callable | None = None       # (inputs) -> what to compare with; the reference of that name unless given
    outputs: Callable | None = None         # () -> the arrays to write to; those of `specified` unless given


def aligned(array):
    """Return a copy that begins on a cache line, as the library's own buffers do."""
    room = np.empty(array.nbytes + 64, np.uint8)
    start = -room.ctypes.data % 64
    copy = room[start:start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def normals(*shape):
    return aligned(np.random.default_rng(shape).standard_normal(shape, np.float32))


def convolution(where, side, C, F=32, K=3, first=False):
    """Return the rows of a convolution: forward, weight gradient, and but for the first layer input gradient."""
    out = side - K + 1
    flops = 2 * N * out * out * K * K * C * F
    rows = [Row("conv2d", where,
                lambda: (normals(N, side, side, C), normals(K, K, C, F), normals(F), ONE, NONE), flops),
            Row("conv2d_weight_gradient", where,
                lambda: (normals(N, out, out, F), normals(N, side, side, C), (K, K), ONE, NONE), flops),
            Row("conv2d_input_gradient", where,
                lambda: (normals(N, out, out, F), normals(K, K, C, F), (side, side), ONE, NONE), flops)]
    return rows[:2] if first else rows


def block(where, side, C, F=32, pool=True, first=False):
    """Return the rows of a fused block: forward, and the gradients, without dx in a first layer."""
    from minicnn.reference import fusion

    out = side - 2
    name = "conv2d_relu_pool" if pool else "conv2d_relu"
    flops = 2 * N * out * out * 9 * C * F

    def inputs():
        return normals(N, side, side, C), normals(3, 3, C, F), normals(F), ONE, NONE

    def of_gradient():
        x, w, b, strides, pads = inputs()
        results = getattr(fusion, name)(x, w, b, strides, pads)
        y, *switches = map(aligned, results if pool else (results,))
        return normals(*y.shape), y, *switches, x, w, strides, pads

    def gradients():
        dx = None if first else aligned(np.empty((N, side, side, C), np.float32))
        return dx, aligned(np.empty((3, 3, C, F), np.float32)), aligned(np.empty(F, np.float32))
    return [Row(name, where, inputs, flops),
            Row(f"{name}_gradient", where, of_gradient, flops * (1 if first else 2), outputs=gradients)]


def dense_block(where, D, F):
    flops = 2 * N * D * F
    return [Row("dense_relu", where, lambda: (normals(N, D), normals(D, F), normals(F)), flops),
            Row("dense_relu_gradient", where,
                lambda: (normals(N, F), np.maximum(normals(N, F), 0), normals(N, D), normals(D, F)), 2 * flops)]


def dense(where, D, F):
    flops = 2 * N * D * F
    return [Row("dense", where, lambda: (normals(N, D), normals(D, F), normals(F)), flops),
            Row("dense_weight_gradient", where, lambda: (normals(N, F), normals(N, D)), flops),
            Row("dense_input_gradient", where, lambda: (normals(N, F), normals(D, F)), flops)]


def pooling(where, side, C=32):
    out = side // 2

    def switches():
        return np.random.default_rng(0).integers(0, 4, (N, out, out, C)).astype(np.uint16)
    return [Row("max_pool2d", where, lambda: (normals(N, side, side, C), (2, 2), (2, 2), NONE)),
            Row("max_pool2d_gradient", where,
                lambda: (normals(N, out, out, C), switches(), (side, side), (2, 2), (2, 2), NONE)),
            Row("average_pool2d", where, lambda: (normals(N, side, side, C), (2, 2), (2, 2), NONE)),
            Row("average_pool2d_gradient", where,
                lambda: (normals(N, out, out, C), (side, side), (2, 2), (2, 2), NONE))]


def elementwise(where, *shape):
    rows = [Row(name, where, lambda: (normals(*shape),)) for name in ("relu", "sigmoid", "tanh", "softmax")]
    rows += [Row(f"{row.name}_gradient", where, lambda: (normals(*shape), normals(*shape))) for row in rows]
    return rows + [Row("dropout", where, lambda: (normals(*shape), normals(*shape) > 0, 0.5))]


def loss(name, K):
    def inputs():
        t = np.eye(max(K, 2), dtype=np.float32)[np.arange(N) % max(K, 2)][:, :K]
        return normals(N, K), np.ascontiguousarray(t), np.full(N, 1 / N)
    return Row(name, f"{N} x {K}", inputs)


def behind_relu(where, *shape):
    """Return the rows of passes over the numbers alone, and of the same and ReLU in one."""
    C = shape[-1:]

    def normalized():
        return normals(*shape), np.zeros(C), np.ones(C), normals(*C), np.zeros(C, np.float32), 1e-3
    return [Row(f"{name}{relu}", where, inputs) for relu in ("", "_relu")
            for name, inputs in (("batch_norm", normalized), ("add", lambda: (normals(*shape), normals(*shape))))]


WEIGHTS = 4608, 128
ROWS = [
    *block("block 1, 64x64x3", 64, 3, first=True),
    *block("block 2, 31x31x32", 31, 32),
    *block("block 3, 14x14x32", 14, 32, pool=False),
    *dense_block("block 4, 4608 to 128", *WEIGHTS),
    *convolution("conv 1, 64x64x3", 64, 3, first=True),
    *convolution("conv 2, 31x31x32", 31, 32),
    *convolution("conv 3, 14x14x32", 14, 32),
    *dense("dense 1, 4608 to 128", *WEIGHTS),
    *dense("dense 2, 128 to 1", 128, 1),
    *pooling("pool 1, 62x62x32", 62),
    *pooling("pool 2, 29x29x32", 29),
    *elementwise("62x62x32", N, 62, 62, 32),
    *behind_relu("32x32x64", N, 32, 32, 64),
    loss("binary_crossentropy", 1), loss("categorical_crossentropy", 3), loss("mean_squared_error", 1),
    Row("adam", "4608 x 128", lambda: (*(normals(*WEIGHTS) for _ in range(2)), np.abs(normals(*WEIGHTS)),
                                       normals(*WEIGHTS), 1e-3, 0.9, 0.999, 1e-7)),
    Row("sgd", "4608 x 128", lambda: (*(normals(*WEIGHTS) for _ in range(3)), 0.01, 0.9, False)),
]


def run(options):
    import minicnn
    from benchmarks.peak import peak_call
    from minicnn import kernels, reference
    from minicnn.reference import fusion

    minicnn.set_thread_count(options.threads)
    peak, peak_flops = peak_call()
    rounds, measured = options.rounds or (2 if options.quick else 7), []
    for row in ROWS:
        inputs, kernel = row.inputs(), getattr(kernels, row.name)
        specified = row.specified or getattr(fusion if "_relu" in row.name else reference, row.name)
        if row.outputs:
            outputs = row.outputs()
        else:
            results = specified(*inputs)
            outputs = [aligned(r) for r in (results if isinstance(results, tuple) else (results,))]
        times = interleave({"kernel": lambda: kernel(*inputs, *outputs), "reference": lambda: specified(*inputs),
                            "peak": peak}, rounds, budget=0.02 if options.quick else 0.1, warm=1, pause=0.002)
        ours, theirs, best = (np.array(times[name]["rounds"]) for name in ("kernel", "reference", "peak"))
        measured.append({"name": row.name, "where": row.where, "ms": float(np.median(ours)),
                         "faster": float(np.median(theirs / ours)), "peak": float(np.median(peak_flops / best / 1e6)),
                         "gflops": float(np.median(row.flops / ours / 1e6)),
                         "share": float(np.median(row.flops / ours / (peak_flops / best)))})
    missing = sorted(set(kernels.__all__) - {row.name for row in ROWS})
    return {"rows": measured, "missing": missing}


def report(results):
    result = next(iter(results.values()))
    rows = [[f"`{row['name']}`, {row['where']}", number(row["ms"]), number(row["faster"]),
             number(row["gflops"]) if row["gflops"] else "", f"{100 * row['share']:.0f} %" if row["gflops"] else ""]
            for row in result["rows"]]
    peak = np.median([row["peak"] for row in result["rows"]])
    text = (f"32 images, float32, one thread. One core peaks at {peak:.0f} GFLOP/s of fused multiply-adds. Operations "
            "are counted densely: a kernel that skips some of them can exceed the peak.\n\n"
            + table(["", "ms", "times faster than the reference", "GFLOP/s", "of the peak"], rows))
    return text + ("" if not result["missing"] else f"\nNot measured: {', '.join(result['missing'])}.\n")


def draw(results, folder):
    bars = [Bar(f"{row['name']}, {row['where'].split(',')[0]}", 100 * row["share"], f"{row['gflops']:.0f} GFLOP/s")
            for row in next(iter(results.values()))["rows"] if row["gflops"]]
    panel = ("", "% of one core's peak of fused multiply-adds (the line)", bars)
    bar_plot(folder / "kernels.png", [panel], 7.5, mark=100, ours="")
    return [("kernels.png", "Share of the peak that each multiplying kernel reaches")]


if __name__ == "__main__":
    main(sys.modules[__name__])
