"""ONNX out: what ONNX Runtime makes of the files, for every layer and for whole networks, and what is refused."""

import json

import numpy as np
import onnx as library
import pytest

from benchmarks.networks import NETWORKS
from benchmarks.peers import minicnn_model
from minicnn import (Add, Concatenate, Constant, Conv2D, Cropping2D, Dense, DepthwiseConv2D, ElementwisePair, Flatten,
                     GlobalAveragePooling2D, Input, InputError, LayerNormalization, MaxPool2D, Model, Multiply, Permute, Rescaling,
                     SeparableConv2D, Sequential, UpSampling2D, ZeroPadding2D, cov19net)
from minicnn.data.preprocessing import Preprocessing
from minicnn.interop import onnx
from minicnn.reference.elementwise import FUNCTIONS, PAIRS
from tests.support.layer_checks import LAYERS_TO_CHECK
from tests.support.strategies import normals

runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed: its outputs are not compared")


def session(path):
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    return runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run(path, *arrays):
    """Return the outputs that ONNX Runtime makes of arrays, in the order of the inputs."""
    one = session(path)
    return one.run(None, {node.name: array for node, array in zip(one.get_inputs(), arrays)})


def operators(path):
    return [node.op_type for node in library.load(path).graph.node]


def stirred(model):
    """Return a model whose weights are other than at first: biases, statistics, constants."""
    for i, weight in enumerate(model.network.named_weights().values()):
        noise = normals(i, weight.value.shape, np.float32)
        weight.value[...] = 0.5 + noise ** 2 if weight.name == "moving_variance" else weight.value + 0.3 * noise
    return model


def assert_agrees(model, path, n, nchw=False):
    x = normals(7, (n, *model.input_shape), np.float32)
    x = np.abs(x) + 0.5 if isinstance(model.layers[-1], ElementwisePair) else x
    given = np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if nchw and x.ndim == 4 else x
    y, = run(path, given)
    y = y.transpose(0, 2, 3, 1) if nchw and y.ndim == 4 else y
    expected = model.predict(x)
    assert np.allclose(y, expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max())), np.abs(y - expected).max()


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
@pytest.mark.parametrize("make, shape", LAYERS_TO_CHECK, ids=[f"{make()!r} {shape}" for make, shape in LAYERS_TO_CHECK])
def test_every_layer(tmp_path, make, shape, layout):
    if type(make()).__name__ == "InputLayer":
        pytest.skip("it is an input of the file: test_several_inputs_and_outputs")
    model = stirred(Sequential([make()], input_shape=shape, seed=3))
    onnx.save(model, tmp_path / "model.onnx", layout=layout)
    library.checker.check_model(library.load(tmp_path / "model.onnx"), full_check=True)
    for n in (1, 33):
        assert_agrees(model, tmp_path / "model.onnx", n, layout == "nchw")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(tmp_path, name):
    from minicnn import Elementwise, Sigmoid
    layers = [Sigmoid(), Rescaling(0.9, offset=0.05 + (name == "acosh")), Elementwise(name)]
    model = Sequential(layers, input_shape=(3, 4, 2))
    onnx.save(model, tmp_path / "model.onnx")
    assert_agrees(model, tmp_path / "model.onnx", 5)


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_and_constants(tmp_path, name):
    x = Input((3, 4, 2))
    y = Multiply()([x, GlobalAveragePooling2D(keepdims=True)(x), x])
    made = ElementwisePair(name)([ElementwisePair("maximum")([y, Constant((3, 4, 2), name="low")(x)]), Constant((1, 1, 2))(y)])
    model = Model(x, made)
    for layer, value in (("low", 0.3), ("constant_1", 0.7)):
        model.get_layer(layer).set_weights([np.full(model.get_layer(layer).shape, value, np.float32)])
    onnx.save(model, tmp_path / "model.onnx")
    assert_agrees(model, tmp_path / "model.onnx", 4)
    assert operators(tmp_path / "model.onnx").count("Transpose") == 2          # of the input and the output


def graph():
    """A network with both orders of axes, blocks, constants alone in a concatenation, and two outputs, one of images."""
    x = Input((6, 5, 4))
    y, z = Conv2D(4, 3, padding="same", strides=2)(x), DepthwiseConv2D(3, padding="same", strides=2)(x)
    w = Concatenate()([Add()([y, z, y]), Multiply()([y, GlobalAveragePooling2D(keepdims=True)(z)]), Constant((3, 3, 2))(x)])
    w = Cropping2D(((1, 0), (2, 1)))(ZeroPadding2D((2, 1))(Permute((2, 1, 3))(UpSampling2D(2)(LayerNormalization()(w)))))
    kind = Dense(3, activation="softmax", name="kind")(Flatten()(MaxPool2D(2)(w)))
    return Model(x, [kind, Rescaling(2, offset=-1, name="map")(SeparableConv2D(3, 3, padding="same", activation="swish")(w))], seed=4)


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
@pytest.mark.parametrize("kind", ["float32", "uint8"])
def test_a_graph_with_two_outputs(tmp_path, layout, kind):
    model, path = stirred(graph()), tmp_path / "model.onnx"
    onnx.save(model, path, layout=layout, input=kind)
    assert [node.name for node in session(path).get_outputs()] == ["kind", "map"]
    for n in (1, 33):
        x = np.random.default_rng(n).integers(0, 256, (n, 6, 5, 4), np.uint8)
        x = x if kind == "uint8" else x / np.float32(255)
        given = x.transpose(0, 3, 1, 2) if layout == "nchw" else x
        for got, expected in zip(run(path, given), model.predict(x), strict=True):
            got = got.transpose(0, 2, 3, 1) if layout == "nchw" and got.ndim == 4 else got
            assert np.allclose(got, expected, rtol=0, atol=1e-5)


def test_several_inputs_and_outputs(tmp_path):
    a, b = Input((4, 4, 1), name="image"), Input((3,), name="age")
    h = Concatenate()([Flatten()(Conv2D(2, 3)(a)), b])
    model = stirred(Model([a, b], [Dense(1, activation="sigmoid", name="covid")(h), Dense(2, name="size")(h)]))
    onnx.save(model, tmp_path / "model.onnx", input="uint8")
    one = session(tmp_path / "model.onnx")
    assert [(node.name, node.type, node.shape) for node in one.get_inputs()] == [
        ("image", "tensor(uint8)", ["N", 4, 4, 1]), ("age", "tensor(float)", ["N", 3])]
    x = [np.random.default_rng(0).integers(0, 256, (5, 4, 4, 1), np.uint8), normals(1, (5, 3), np.float32)]
    for got, expected in zip(run(tmp_path / "model.onnx", *x), model.predict(x), strict=True):
        assert np.allclose(got, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_networks_of_the_benchmark_suite(tmp_path, name):
    model = minicnn_model(NETWORKS[name], 1)
    onnx.save(model, tmp_path / "model.onnx")
    for n in (1, 33):
        x = np.random.default_rng(n).random((n, *model.input_shape), np.float32)
        assert np.allclose(run(tmp_path / "model.onnx", x)[0], model.predict(x), rtol=0, atol=1e-5)


def test_transposes_stand_at_the_input_and_before_what_depends_on_the_order(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(cov19net(), path)
    assert operators(path) == ["Transpose", "Conv", "Relu", "MaxPool", "Conv", "Relu", "MaxPool", "Conv", "Relu", "Transpose",
                               "Flatten", "Gemm", "Relu", "Gemm", "Sigmoid"]
    onnx.save(cov19net(), path, layout="nchw", input="uint8")
    assert operators(path)[:3] == ["Cast", "Div", "Conv"] and operators(path).count("Transpose") == 1


def test_what_a_file_says_of_itself(tmp_path):
    model, path = cov19net(classes=["normal", "covid"]), tmp_path / "model.onnx"
    model.preprocessing = Preprocessing()
    onnx.save(model, path, threshold=0.25, licence="CC-BY-4.0")
    proto = library.load(path)
    facts = {one.key: one.value for one in proto.metadata_props}
    assert json.loads(facts["classes"]) == ["normal", "covid"] and json.loads(facts["threshold"]) == 0.25
    assert Preprocessing.from_dict(json.loads(facts["preprocessing"])) == Preprocessing() and facts["licence"] == "CC-BY-4.0"
    assert (proto.ir_version, proto.opset_import[0].version, proto.producer_name) == (8, 17, "minicnn")
    assert {node.name for node in proto.graph.node} >= {layer.name for layer in model.layers}
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    before = path.read_bytes()
    onnx.save(model, path, threshold=0.25, licence="CC-BY-4.0")
    assert path.read_bytes() == before


class Own:
    parameters = ()

    def build(self, shape):
        return shape

    def forward(self, x):
        return x

    backward = forward


def test_what_cannot_be_mapped_is_named_before_anything_is_written(tmp_path):
    model = Sequential([Own(), Flatten(), Dense(1)], input_shape=(4, 4, 1))
    with pytest.raises(InputError, match="ONNX has no operators for Own 'own_1'. Nothing was written"):
        onnx.save(model, tmp_path / "model.onnx")
    for argument, value in (("layout", "hwcn"), ("input", "float64"), ("threshold", 2), ("licence", "")):
        with pytest.raises(InputError, match=f"save: {argument} must"):
            onnx.save(cov19net(), tmp_path / "model.onnx", **{argument: value})
    assert not list(tmp_path.iterdir())


def test_a_double_network_becomes_one_of_float32_with_a_warning(tmp_path):
    model = Sequential([Flatten(), Dense(2)], input_shape=(2, 2, 1), dtype="float64")
    with pytest.warns(RuntimeWarning, match="this model computes in float64. The file computes in float32"):
        onnx.save(model, tmp_path / "model.onnx")
    x = normals(0, (3, 2, 2, 1), np.float32)
    assert np.allclose(run(tmp_path / "model.onnx", x)[0], model.predict(x.astype(np.float64)), atol=1e-5)


def test_what_onnx_runtime_computes_otherwise_is_not_written(tmp_path, monkeypatch):
    model = cov19net()
    monkeypatch.setattr(model, "predict", lambda x: np.full((2, 1), 0.9, np.float32))
    with pytest.raises(InputError, match="ONNX Runtime's output 'sigmoid_1' differs .* Nothing was written"):
        onnx.save(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
