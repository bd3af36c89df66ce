"""What users of other converters complain of, the ten of docs/INTEROP.md: none happens here."""

import re
import warnings
import zipfile
from pathlib import Path

import numpy as np
import onnx as library
import pytest
from onnx import helper, numpy_helper

from minicnn import (SGD, BatchNormalization, Conv2D, Dense, Flatten, GlobalAveragePooling2D, Input, InputError, MaxPool2D, Model, Permute,
                     ReLU, Residual, Sequential, UpSampling2D, WeightsError, cov19net)
from minicnn.interop import keras, onnx, pytorch
from tests.interop.test_onnx_writer import operators, run
from tests.support.strategies import normals

TABLE = (Path(__file__).parents[2] / "docs" / "INTEROP.md").read_text(encoding="utf-8")
VECTORS = Path(__file__).parents[1] / "vectors"


def test_the_table_names_these_tests():
    named = re.findall(r"\| `(test_\w+)` \|", TABLE)
    assert len(named) == 10 and all(callable(globals().get(name)) for name in named)


def residual():
    def block(strides=1, shortcut=()):
        return Residual([Conv2D(8, 3, strides, padding="same", use_bias=False), BatchNormalization(), ReLU(),
                         Conv2D(8, 3, padding="same", use_bias=False), BatchNormalization()], shortcut)
    return Sequential([Conv2D(8, 3), ReLU(), block(), ReLU(), block(2, [Conv2D(8, 1, 2)]), ReLU(), GlobalAveragePooling2D(), Dense(3)],
                      input_shape=(13, 11, 2), seed=5)


def test_no_transpose_around_convolutions(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(residual(), path)
    assert operators(path).count("Conv") == 6 and operators(path).count("Transpose") == 1
    onnx.save(residual(), path, layout="nchw")
    assert "Transpose" not in operators(path)
    assert not any(isinstance(layer, Permute) for layer in onnx.load(path).layers)


def test_the_layout_is_that_of_outputs_too(tmp_path):
    model, x = Sequential([Conv2D(3, 2), UpSampling2D(2)], input_shape=(5, 4, 2)), normals(0, (3, 5, 4, 2), np.float32)
    onnx.save(model, tmp_path / "nchw.onnx", layout="nchw")
    y, = run(tmp_path / "nchw.onnx", x.transpose(0, 3, 1, 2))
    assert y.shape == (3, 3, 8, 6) and np.allclose(y.transpose(0, 2, 3, 1), model.predict(x), atol=1e-5)
    onnx.save(model, tmp_path / "nhwc.onnx")
    assert np.allclose(run(tmp_path / "nhwc.onnx", x)[0], model.predict(x), atol=1e-5)


def torchlike(x, kernel, weight, bias):
    """Return relu(conv(x)), flattened as C, H, W, times the weight (out, in): by loops over the window."""
    N, _, H, W = x.shape
    F, _, KH, KW = kernel.shape
    y = sum(np.einsum("nchw,fc->nfhw", x[:, :, kh:kh + H - KH + 1, kw:kw + W - KW + 1], kernel[:, :, kh, kw])
            for kh in range(KH) for kw in range(KW))
    return np.maximum(y, 0).reshape(N, -1) @ weight.T + bias


def test_numbers_after_flatten_are_right(tmp_path):
    kernel, weight, bias = (normals(i, shape, np.float32) for i, shape in enumerate([(4, 2, 3, 2), (5, 4 * 3 * 5), (5,)]))
    x = normals(9, (3, 2, 5, 6), np.float32)
    nodes = [helper.make_node("Conv", ["x", "kernel"], ["c"]), helper.make_node("Relu", ["c"], ["r"]),
             helper.make_node("Flatten", ["r"], ["f"]), helper.make_node("Gemm", ["f", "weight", "bias"], ["y"], transB=1)]
    graph = helper.make_graph(nodes, "torch", [helper.make_tensor_value_info("x", 1, ["N", 2, 5, 6])],
                              [helper.make_tensor_value_info("y", 1, ["N", 5])],
                              [numpy_helper.from_array(array, name) for array, name in
                               ((kernel, "kernel"), (weight, "weight"), (bias, "bias"))])
    library.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "torch.onnx")
    model, expected = onnx.load(tmp_path / "torch.onnx"), torchlike(x, kernel, weight, bias)
    assert np.allclose(model.predict(x.transpose(0, 2, 3, 1)), expected, atol=1e-5)
    assert [type(layer).__name__ for layer in model.layers] == ["Conv2D", "ReLU", "Flatten", "Dense"]
    from safetensors.numpy import save_file
    save_file({"0.weight": kernel, "3.weight": weight, "3.bias": bias}, tmp_path / "torch.safetensors")
    built = Sequential([Conv2D(4, (3, 2), use_bias=False), ReLU(), Flatten(), Dense(5)], input_shape=(5, 6, 2))
    pytorch.load_weights(built, tmp_path / "torch.safetensors")
    assert np.allclose(built.predict(x.transpose(0, 2, 3, 1)), expected, atol=1e-5)


def test_the_size_of_a_batch_is_free(tmp_path):
    model, path = cov19net(), tmp_path / "model.onnx"
    onnx.save(model, path)
    again = onnx.load(path)
    for n in (1, 2, 33):
        x = np.random.default_rng(n).random((n, 64, 64, 3), np.float32)
        assert run(path, x)[0].shape == (n, 1) and np.array_equal(again.predict(x), model.predict(x))
    proto = library.load(path)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1            # as others freeze it
    proto.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1
    library.save(proto, path)
    assert onnx.load(path).predict(x).shape == (33, 1)


def test_a_wrong_name_is_an_error(tmp_path):
    onnx.save(cov19net(), tmp_path / "model.onnx")
    with pytest.raises(InputError, match="image"):
        onnx.load(tmp_path / "model.onnx", shapes={"image": (None, 64, 64, 3)})
    keras.save_weights(cov19net(), tmp_path / "model.weights.h5")
    with pytest.raises(InputError, match="conv2d_9"):
        keras.load_weights(cov19net(), tmp_path / "model.weights.h5", names={"conv2d_9": "conv2d_1"})


def test_the_format_is_old_enough(tmp_path):
    onnx.save(residual(), tmp_path / "model.onnx")
    proto = library.load(tmp_path / "model.onnx")
    assert proto.ir_version == 8 < library.IR_VERSION
    assert [(one.domain, one.version) for one in proto.opset_import] == [("", 17)] and 17 < library.defs.onnx_opset_version()


def test_pixels_and_doubles(tmp_path):
    model, pixels = cov19net(), np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    onnx.save(model, tmp_path / "model.onnx", input="uint8")
    assert np.allclose(run(tmp_path / "model.onnx", pixels)[0], model.predict(pixels), atol=1e-5)
    assert np.array_equal(onnx.load(tmp_path / "model.onnx").predict(pixels), model.predict(pixels))
    with pytest.warns(RuntimeWarning, match="float64"):
        onnx.save(cov19net(dtype="float64"), tmp_path / "model.onnx")
    assert np.allclose(run(tmp_path / "model.onnx", pixels / np.float32(255))[0], model.predict(pixels), atol=1e-5)


def test_a_file_of_keras_3_becomes_onnx(tmp_path):
    with zipfile.ZipFile(VECTORS / "keras_files.zip") as archive:
        names = [name for name in archive.namelist() if name.startswith("keras3") and name.endswith(".keras")]
        for name in names:
            archive.extract(name, tmp_path)
    assert len(names) >= 3
    for name in names:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")         # of what it leaves out, which changes training alone
            model = keras.load(tmp_path / name)
        onnx.save(model, tmp_path / "model.onnx")           # ONNX Runtime agrees, or this raises
        assert operators(tmp_path / "model.onnx")


def test_batch_normalization_trains_on(tmp_path):
    def trained(model):
        model.compile(SGD(0.1), "mean_squared_error")
        model.fit(x, t, epochs=2, batch_size=4, shuffle=False, progress=False)
        return model

    def build():
        return Sequential([Conv2D(3, 2, name="conv"), BatchNormalization(momentum=0.9, epsilon=1e-4, name="norm"), ReLU(), Flatten(),
                           Dense(2, name="dense")], input_shape=(5, 4, 2), seed=2)
    x, t = normals(0, (8, 5, 4, 2), np.float32), normals(1, (8, 2), np.float32)
    model = trained(build())
    onnx.save(model, tmp_path / "model.onnx")
    keras.save(model, tmp_path / "model.keras")
    pytorch.save(model, tmp_path / "model.py")
    others = onnx.load(tmp_path / "model.onnx"), keras.load(tmp_path / "model.keras"), build()
    pytorch.load_weights(others[2], tmp_path / "model.safetensors")
    assert operators(tmp_path / "model.onnx").count("BatchNormalization") == 1
    for other in others:
        assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), other.get_weights(), strict=True))
        assert [layer.config() for layer in other.layers if isinstance(layer, BatchNormalization)][0]["momentum"] == pytest.approx(0.9)
    before = model.get_weights()
    trained(model)
    for other in others:
        other.set_weights(before)
        if other is others[0]:      # ONNX keeps numbers such as epsilon in float32
            assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(model.get_weights(), trained(other).get_weights()))
        else:
            assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), trained(other).get_weights()))


def twelve(layers=12, filters=3):
    return Sequential([Conv2D(filters, 3, padding="same") for _ in range(layers)], input_shape=(5, 5, filters), seed=8)


@pytest.mark.parametrize("save, load, ending", [(keras.save_weights, keras.load_weights, ".weights.h5"), (keras.save, keras.load_weights, ".keras"),
                                                (lambda model, path: pytorch.save(model, path.with_suffix(".py")),
                                                 pytorch.load_weights, ".safetensors")])
def test_weights_are_never_skipped_silently(tmp_path, capsys, save, load, ending):
    path, model = tmp_path / f"twelve{ending}", twelve()
    save(model, path)
    other = twelve()
    other.set_weights([0 * w for w in other.get_weights()])
    table = str(load(other, path))
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), other.get_weights(), strict=True))
    assert all(f"conv2d_{i}/kernel" in table for i in range(1, 13))
    longer, before = twelve(13), twelve(13).get_weights()
    with pytest.raises(WeightsError, match="(?s)2 of .* rows do not fit.*conv2d_13/kernel"):
        load(longer, path)
    assert all(np.array_equal(a, b) for a, b in zip(before, longer.get_weights(), strict=True))
    load(longer, path, strict=False)
    assert "conv2d_13/kernel" in capsys.readouterr().out
    assert np.array_equal(longer.get_weights()[22], model.get_weights()[22])


def test_imported_networks_are_models(tmp_path):
    x = Input((6, 6, 1))
    model = Model(x, Dense(1, activation="sigmoid")(Flatten()(MaxPool2D(2)(Conv2D(2, 3)(x)))))
    onnx.save(model, tmp_path / "model.onnx")
    again = onnx.load(tmp_path / "model.onnx")
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]
    again.save(tmp_path / "model.safetensors")
    assert np.array_equal(Model.load(tmp_path / "model.safetensors").get_weights()[0], model.get_weights()[0])
