"""What holds for every kernel: the specification's names and numbers, threads, batches, and bounds of arrays."""

import ast
import inspect
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from minicnn import kernels
from minicnn.kernels.runtime import jit, threads
from minicnn.kernels.runtime.jit import kernel
from minicnn.kernels.runtime.work_queue import TICKET
from tests.support.fence import Fences, survives
from tests.support.kernel_checks import (EXACT, FUNCTIONS, FUSED, NO_PADS, NORMALIZATION, RECTIFIED, ROUTING, SUMS, check, each_dtype,
                                          nan_everywhere, poisoned, run)
from tests.support.laws import as_tuple, assert_same_bits, digest
from tests.support.strategies import DTYPES, OPERATIONS, Case, cases, normals, specified

pytestmark = pytest.mark.usefixtures("same_threads")
each_kernel = pytest.mark.parametrize("name", kernels.__all__)
OUTPUTS = {"conv2d_weight_gradient": "dw db", "grouped_conv2d_weight_gradient": "dw db",
           "depthwise_conv2d_weight_gradient": "dw db", "dense_weight_gradient": "dw db", "max_pool2d": "y switches",
           "global_max_pool2d": "y switches", "conv2d_relu_pool": "y switches", "conv2d_scaled_relu_pool": "y switches", "conv2d_relu_gradient": "dx dw db",
           "conv2d_relu_pool_gradient": "dx dw db",
           "dense_relu_gradient": "dx dw db",
           "adam": "w_new m_new v_new", "sgd": "w_new velocity_new", "amsgrad": "w_new m_new v_new v_hat_new",
           "rmsprop": "w_new v_new velocity_new",
           "batch_statistics": "mean variance", "batch_norm_gradient": "dx dgamma dbeta",
           "batch_norm_relu_gradient": "dx dgamma dbeta", "layer_norm": "y mean variance",
           "layer_norm_gradient": "dx dgamma dbeta", "routing": "y sums", "routing_gradient": "du", "multiply_gradient": "da db", "binary_gradient": "da db"} \
    | dict.fromkeys(["binary_crossentropy", "categorical_crossentropy", "mean_squared_error", "margin", "deviation"], "losses dz")


@each_kernel
def test_a_kernel_takes_the_inputs_of_the_specification_and_then_its_outputs(name):
    outputs = OUTPUTS.get(name, "dx" if name.endswith("gradient") else "y").split()
    expected = list(inspect.signature(specified(name)).parameters) + outputs
    assert list(inspect.signature(getattr(kernels, name)).parameters) == expected


def test_every_operation_has_a_kernel():
    assert set(kernels.__all__) == set(OPERATIONS)
    assert {*EXACT, *SUMS, *FUNCTIONS, *NORMALIZATION, *RECTIFIED, *ROUTING, "softmax", "softmax_gradient", "swish_gradient", "binary_crossentropy",
            "categorical_crossentropy", "mean_squared_error", "conv2d_relu_pool", "conv2d_scaled_relu_pool"} == set(OPERATIONS)


@each_dtype
@each_kernel
@settings(max_examples=60)
@given(case=cases())
def test_a_kernel_computes_what_the_specification_says(name, dtype, case):
    check(name, OPERATIONS[name](case, dtype))


@pytest.mark.parametrize("channels", range(1, 34))
def test_nan_at_any_place_reaches_all_that_it_contributes_to_and_no_other_sample(channels):
    x = nan_everywhere((3, 2, channels), np.float32)
    n, window = len(x), ((2, 2), (1, 1), NO_PADS)
    w, b = normals(0, (2, 2, channels, 3), np.float32), np.zeros(3, np.float32)
    rows = np.ascontiguousarray(x.reshape(n, -1))
    calls = {"conv2d": (x, w, b, *window[1:]), "max_pool2d": (x, *window), "average_pool2d": (x, *window),
             "dense": (rows, normals(1, (n, 3), np.float32), b), "relu": (x,), "sigmoid": (x,), "tanh": (x,),
             "softmax": (x,), "dropout": (x, x != 0.01, 0.5),
             "depthwise_conv2d": (x, w[..., :1].copy(), np.zeros(channels, np.float32), *window[1:], (1, 1)),
             "depthwise_conv2d_input_gradient": (x, w[..., :1].copy(), (4, 3), *window[1:], (1, 1)),
             "grouped_conv2d": (x, w, b, *window[1:], (1, 1), 1),
             "conv2d_input_gradient": (x, np.ascontiguousarray(w.transpose(0, 1, 3, 2)), (4, 3), *window[1:]),
             "average_pool2d_gradient": (x, (4, 3), *window),
             "clipped_relu": (x, 0.3), "leaky_relu": (x, 0.3), "elu": (x, 0.3), "swish": (x,), "softplus": (x,),
             "global_average_pool2d": (x,), "global_max_pool2d": (x,), "zero_padding2d": (x, (1, 0, 2, 1)),
             "up_sampling2d": (x, (2, 3)), "up_sampling2d_gradient": (x, (3, 2)), "rescaling": (x, 2.0, 1.0), "unary": (x, "erf"), "routing": (x, 3),
             "length": (x.reshape(n, -1, channels),)}
    ones, zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    calls |= {"batch_norm": (x, np.zeros(channels), np.ones(channels), ones, zeros, 1e-3),
              "layer_norm": (x, ones, zeros, 1e-3)}
    for name, inputs in calls.items():
        with np.errstate(all="ignore"):
            expected = as_tuple(specified(name)(*inputs))
        got, expected = run(name, inputs, poisoned(expected))[0], expected[0]
        assert np.isnan(expected).any(axis=tuple(range(1, expected.ndim))).all(), name
        # The specification says which numbers: with zeros for weights NaN spreads as NumPy has it, 0 x NaN = NaN.
        assert (np.isnan(got) == np.isnan(expected)).all(), name


@each_dtype
def test_nan_at_any_place_of_a_gradient_reaches_the_weights_and_of_a_logit_the_loss(dtype):
    dy = nan_everywhere((2, 3, 2), dtype)
    for n in range(len(dy)):
        x = normals(0, (1, 3, 4, 2), dtype)
        dw, db = run("conv2d_weight_gradient", (dy[n:n + 1], x, (2, 2), (1, 1), NO_PADS))
        assert np.isnan(dw[..., n % 2]).all() and np.isnan(db[n % 2]) and np.isfinite(dw[..., 1 - n % 2]).all()
    z = nan_everywhere((5,), dtype)
    for name in ("binary_crossentropy", "categorical_crossentropy", "mean_squared_error", "margin", "deviation"):
        losses, dz = run(name, (z, np.eye(5, dtype=dtype), np.ones(5)))
        assert np.isnan(losses).all() and np.isnan(np.diag(dz)).all()


BY_SAMPLE = ["batch_norm", "layer_norm", "conv2d", "conv2d_input_gradient", "max_pool2d", "max_pool2d_gradient", "average_pool2d",
             "average_pool2d_gradient", "dense", "dense_input_gradient", "relu", "relu_gradient", "sigmoid",
             "sigmoid_gradient", "tanh", "tanh_gradient", "softmax", "softmax_gradient", "binary_crossentropy",
             "categorical_crossentropy", "mean_squared_error", "conv2d_relu", "conv2d_relu_pool", "dense_relu",
             "conv2d_relu_gradient", "conv2d_relu_pool_gradient", "dense_relu_gradient",
             "clipped_relu", "clipped_relu_gradient", "leaky_relu", "leaky_relu_gradient", "elu", "elu_gradient", "swish",
             "swish_gradient", "softplus", "softplus_gradient", "global_average_pool2d", "global_average_pool2d_gradient",
             "global_max_pool2d", "global_max_pool2d_gradient", "zero_padding2d", "zero_padding2d_gradient",
             "up_sampling2d", "up_sampling2d_gradient", "rescaling", "rescaling_gradient", "unary", "unary_gradient"]
BY_SAMPLE += ["grouped_conv2d", "grouped_conv2d_input_gradient", "depthwise_conv2d", "depthwise_conv2d_input_gradient",
              "depthwise_conv2d_relu", "conv2d_scaled", "conv2d_scaled_relu", "conv2d_scaled_relu_pool", "batch_norm_relu", "routing", "routing_gradient", "length", "length_gradient", "margin", "deviation"]
BATCHED = {"x", "dy", "y", "switches", "z", "t", "scale", "u", "sums"}       # the inputs that have a row for each sample
WINOGRAD = Case(2, 9, 8, 32, 33, (3, 3), (1, 1), "same", 0)


@each_dtype
@pytest.mark.parametrize("name, case", [(name, Case(2, 7, 6, 17, 18, (3, 2), (2, 1), "same", 0)) for name in BY_SAMPLE]
                         + [(name, WINOGRAD) for name in FUSED], ids=lambda value: str(value)[:30])
@pytest.mark.parametrize("n", [2, 3, 7, 16, 33])
def test_a_sample_does_not_depend_on_its_company(name, case, n, dtype):
    inputs = OPERATIONS[name](case._replace(N=n), dtype)
    batched = [key in BATCHED for key in inspect.signature(specified(name)).parameters]
    of_samples = 1 if "relu_" in name and name.endswith("gradient") else None       # dw and db are sums of all samples
    whole = run(name, inputs)[:of_samples]

    def of(samples):
        chosen = [a[samples].copy() if by_sample else a for a, by_sample in zip(inputs, batched, strict=True)]
        return run(name, chosen)[:of_samples]
    order = np.random.default_rng(n).permutation(n)
    for together, shuffled in zip(whole, of(order), strict=True):
        assert_same_bits(shuffled, together[order])
    for i in {0, 1, n // 2, n - 1}:
        for together, alone in zip(whole, of(slice(i, i + 1)), strict=True):
            assert_same_bits(alone, together[i:i + 1])


# Large enough that every kernel divides its work among four: elements by 16384, rows of a softmax by 2048, rows of a
# dense layer's weights by 256 and by 64, images one by one, or by rows of the image.
LARGE = Case(21, 37, 29, 6, 34, (3, 3), (2, 1), "same", 0)
LARGE_DENSE = Case(20, 60, 20, 20, 50, (1, 1), (1, 1), "valid", 0)
LARGE_PARAMETER = Case(1, 1, 1, 300, 400, (1, 1), (1, 1), "valid", 0)
NOT_DIVIDED = ["binary_crossentropy", "categorical_crossentropy", "mean_squared_error",
               "tanh", "softplus_gradient", "zero_padding2d", "zero_padding2d_gradient", "multiply",
               "multiply_gradient", "unary_gradient", "binary", "binary_gradient", "length", "length_gradient", "margin", "deviation"]     # from tanh on they are NumPy's
DIVIDED = [(name, LARGE_DENSE if name.startswith("dense") else LARGE_PARAMETER if name in ("adam", "sgd", "amsgrad", "rmsprop") else LARGE)
           for name in kernels.__all__] + [(name, WINOGRAD._replace(N=5, H=31)) for name in FUSED]


@each_dtype       # float64 too: partial sums are float64, and rounding to float32 would hide that they differ
@pytest.mark.parametrize("name, case", DIVIDED, ids=lambda value: str(value)[:30])
def test_the_number_of_threads_does_not_decide_a_bit(name, case, dtype):
    inputs, results = OPERATIONS[name](case, dtype), []
    outputs = poisoned(specified(name)(*inputs))
    for count in (1, 2, 3, 4):
        threads.set_thread_count(count)
        results.append([digest(a) for a in run(name, inputs, tuple(a.copy() for a in outputs))])
        divided = threads._pool is not None and threads._pool.queue[TICKET] > 0
        assert divided == (count > 1 and name not in NOT_DIVIDED)
    assert results.count(results[0]) == 4


def test_compiled_code_is_not_used_after_any_file_of_the_room_changed(tmp_path, monkeypatch):
    # numba looks only at the date of the kernel's own file, not at those of the helpers inlined into it.
    monkeypatch.setenv("MINICNN_CACHE_DIR", str(tmp_path))
    kernels = shutil.copytree(Path(jit.__file__).parents[1], tmp_path / "kernels")
    monkeypatch.setattr(jit, "__file__", str(kernels / "runtime" / "jit.py"))
    before = jit.cache_folder()
    assert jit.cache_folder() == before and before.parent == tmp_path
    with open(kernels / "runtime" / "microkernel.py", "a", encoding="utf-8") as file:
        file.write("# another way to add\n")
    assert jit.cache_folder() != before


def compiled_and_tuples(folder):
    """Return {function: how many arguments} of what @kernel and @device compile, {NamedTuple: how many fields}."""
    arguments, fields = {}, {}
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = {ast.unparse(d) for d in [*getattr(node, "decorator_list", []), *getattr(node, "bases", [])]}
            if isinstance(node, ast.FunctionDef) and names & {"kernel", "device"}:
                all_of_them = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                arguments[path.stem, node.name] = len(all_of_them)
            elif isinstance(node, ast.ClassDef) and "NamedTuple" in names:
                fields[path.stem, node.name] = sum(isinstance(line, ast.AnnAssign) for line in node.body)
    return arguments, fields


def test_no_kernel_takes_more_than_twelve_arguments():
    arguments, fields = compiled_and_tuples(Path(kernels.__file__).parent)
    assert len(arguments) > 70 and arguments["direct", "_units"] == 12 and len(fields) > 3
    assert not {name: count for name, count in arguments.items() if count > 12}
    assert 20 not in fields.values(), "CPython 3.11 keeps tuples of exactly twenty and does not use them again"


@each_kernel
def test_a_kernel_stays_inside_its_arrays(name, tmp_path):
    def work(say):
        both = Fences(at_end=True), Fences(at_end=False)

        @settings(max_examples=100)
        @given(cases(), st.sampled_from(DTYPES))
        def check(case, dtype):
            inputs = OPERATIONS[name](case, dtype)
            outputs = poisoned(specified(name)(*inputs))
            for fences in both:
                say(f"{case} {dtype.__name__} at_end={fences.at_end}")
                fenced = [fences.copy(a, locked=True) if isinstance(a, np.ndarray) else a for a in inputs]
                written = run(name, fenced, [fences.copy(a) for a in outputs])
                assert all(np.isfinite(a).all() for a in written)
                fences.clear()
        check()
    alive, said = survives(work, tmp_path / "log")
    assert alive, f"read or wrote outside its arrays, or to an input: {said}"


@kernel
def one_too_far(x, y):
    for i in range(len(x)):
        y[i] = x[i] + x[i + 1]


@kernel
def one_too_early(x, y):
    for i in range(len(x)):
        y[i] = x[i] + x[np.uint64(i) - np.uint64(1)]       # unsigned: no wrapping round to the end


@kernel
def writes_to_its_input(x, y):
    for i in range(len(x)):
        x[i] = y[i]


@pytest.mark.parametrize("wrong, at_end", [(one_too_far, True), (one_too_early, False), (writes_to_its_input, True)])
def test_the_fence_kills_who_touches_it(wrong, at_end, tmp_path):
    def work(say):
        fences = Fences(at_end)
        say("started")
        wrong(fences.copy(np.ones(5, np.float32), locked=True), fences.copy(np.ones(5, np.float32)))
    assert survives(work, tmp_path / "log") == (False, "started")
