"""PyTorch in and out: frozen files give what PyTorch computed, every layer goes out and in again, hostile files run nothing.

`vectors/make_torch_files.py` made the files of `vectors/torch/` in PyTorch; with --check it runs there what `save` writes.
"""

import io
import os
import random
import re
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from benchmarks.reliability import hostile_files as hostile
from benchmarks.reliability.children import outcomes

from minicnn import (Add, BatchNormalization, Concatenate, Conv2D, Dense, DepthwiseConv2D, Dropout, Flatten, GlobalAveragePooling2D,
                     Input, LayerNormalization, MaxPool2D, Model, ReLU, Reshape, Residual, SeparableConv2D, Sequential, Softmax, Swish,
                     Tanh, ZeroPadding2D, cov19net)
from minicnn.errors import CheckpointError, InputError, MissingExtraError, WeightsError
from minicnn.interop import pytorch
from minicnn.interop.pytorch.module import module_text
from minicnn.interop.pytorch.reading import read_arrays
from minicnn.interop.pytorch.state_dict import match
from minicnn.layers import LAYERS
from tests.interop.networks import chains, filled, graphs
from tests.support import golden
from tests.support.laws import assert_same_bits

FILES = Path(__file__).parents[1] / "vectors" / "torch"
EXPECTED = load_file(FILES / "expected.safetensors")
BATCH_NORM = {"epsilon": 1e-5, "momentum": 0.9}


def small(dtype="float32", seed=1):
    return Sequential([ZeroPadding2D(1), Conv2D(6, 3), BatchNormalization(**BATCH_NORM), ReLU(), ZeroPadding2D(1),
                       DepthwiseConv2D(3, strides=2, depth_multiplier=2, use_bias=False), BatchNormalization(**BATCH_NORM), ReLU(6),
                       Conv2D(8, (3, 2), groups=2, dilation_rate=(1, 2)), Swish(), MaxPool2D(2), Flatten(),
                       BatchNormalization(**BATCH_NORM), Dropout(0.5), Dense(10), ReLU(), LayerNormalization(epsilon=1e-5),
                       Dense(3, use_bias=False), Softmax()], (11, 15, 2), seed=seed, dtype=dtype, engine="reference")


def residual():
    def conv(F, K, stride=1):
        return [ZeroPadding2D(K // 2), Conv2D(F, K, strides=stride, use_bias=False), BatchNormalization(**BATCH_NORM)]

    def block(F, stride):
        return Residual([*conv(F, 3, stride), ReLU(), *conv(F, 3)], conv(F, 1, 2) if stride > 1 else [])
    return Sequential([*conv(4, 3), ReLU(), block(4, 1), ReLU(), block(6, 2), ReLU(), GlobalAveragePooling2D(), Dense(2)], (7, 8, 3),
                      seed=1, engine="reference")


def twelve():
    return Sequential([layer for _ in range(12) for layer in (Conv2D(3, 1), Tanh())], (2, 2, 3), engine="reference")


def decoder():
    return Sequential([Dense(24), ReLU(), Reshape((3, 4, 2)), Conv2D(3, 3, padding="same"), Flatten(), Dense(4)], (5,),
                      engine="reference")


def assert_predicts(model, name, tolerance=1e-5):
    y = EXPECTED[f"{name}/y"]
    y = y if y.ndim == 2 else np.moveaxis(y, 1, -1)
    np.testing.assert_allclose(model.predict(EXPECTED[f"{name}/x"]), y, rtol=tolerance, atol=tolerance)


def done(matching):
    """Return {name in the file: what was done}."""
    return {row[0]: row[3] for row in matching.rows}


def same_weights(one, other):
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        assert_same_bits(a, b)


# ---- In ----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("file", ["small.pt", "small_legacy.pth"])
def test_files_of_pytorch_give_its_outputs(file):
    model = small()
    matching = pytorch.load_weights(model, FILES / file)
    assert_predicts(model, "small")
    said = done(matching)
    prefix = "features.0.", "classifier.3."
    assert [said[one + "weight"] for one in prefix] == ["transposed from O,I,H,W", "transposed, its columns from C,H,W"]
    assert said["features.3.weight"] == "transposed from C,1,H,W" and said["classifier.1.running_var"] == "reordered from C,H,W"
    assert said["features.1.num_batches_tracked"] == "a counter: not needed" and matching.unmatched == 0
    if file == "small.pt":
        assert "the entry state_dict of the file was read; not epoch, optimizer, best" in str(matching)
    else:
        assert "module. was taken from the beginning of each name" in str(matching)
    assert "paired in order, each kind by itself" in str(matching) and "epsilon" not in str(matching)


def test_safetensors_give_pytorchs_outputs():
    for make, name in ((residual, "residual"), (twelve, "twelve"), (decoder, "decoder")):
        model = make()
        pytorch.load_weights(model, FILES / f"{name}.safetensors")
        assert_predicts(model, name)
    model = small()
    # It sorts classifier before features, and so the normalization of the row before those of images.
    with pytest.raises(WeightsError, match=r"features.1.running_mean +batch_normalization_2/moving_mean +\(6,\) +not used: the layer "
                                           r"wants \(12,\)"):
        pytorch.load_weights(model, FILES / "small.safetensors")
    pytorch.load_weights(model, FILES / "small.safetensors", names={"classifier.1": "batch_normalization_3"})
    assert_predicts(model, "small")


def test_names_that_agree_need_no_order(tmp_path):
    arrays = load_file(FILES / "residual.safetensors")
    model = residual()
    names = {"conv2d_1": "conv1", "batch_normalization_1": "bn1", "dense_1": "fc"}
    for i, block in enumerate(("residual_1", "residual_2")):
        names |= {f"{block}/conv2d_{j}": f"layer1.{i}.conv{j}" for j in (1, 2)}
        names |= {f"{block}/batch_normalization_{j}": f"layer1.{i}.bn{j}" for j in (1, 2)}
    names |= {"residual_2/conv2d_3": "layer1.1.downsample.0", "residual_2/batch_normalization_3": "layer1.1.downsample.1"}
    for layer in model.layers:
        layer.name = names.get(layer.name, layer.name)
    matching = pytorch.load_weights(model, FILES / "residual.safetensors")
    assert_predicts(model, "residual")
    assert "in order" not in str(matching) and len(arrays) == len(matching.rows)


@pytest.mark.parametrize("precision, tolerance", [("float64", 1e-5), ("float16", 5e-3), ("bfloat16", 3e-2)])
def test_other_precisions_are_converted_and_said(precision, tolerance):
    model = small()
    matching = pytorch.load_weights(model, FILES / f"small_{precision}.safetensors", names={"classifier.1": "batch_normalization_3"})
    assert_predicts(model, "small", tolerance)
    said = "from " + precision if precision != "bfloat16" else "22 arrays of bfloat16 were made float32"
    assert said in str(matching)
    model = small("float64")
    matching = pytorch.load_weights(model, FILES / "small.pt")
    assert_predicts(model, "small")
    assert done(matching)["features.0.bias"] == "as it is, from float32"


def test_views_are_read_through_their_strides():
    arrays, said = read_arrays(FILES / "views.pt")
    weight = np.arange(24, dtype=np.float32)
    np.testing.assert_array_equal(arrays["turned.weight"], weight.reshape(4, 6).T)
    np.testing.assert_array_equal(arrays["turned.bias"], weight[3:21:3])
    assert arrays["column.weight"].shape == (6, 1) and said == []


def test_numbers_of_the_other_byte_order_are_read(tmp_path):
    with zipfile.ZipFile(FILES / "small.pt") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    turned = {}
    for name, data in members.items():
        if "/data/" in name:
            data = np.frombuffer(data, "<f4" if len(data) % 8 or len(data) > 8 else "<i8").byteswap().tobytes()
        turned[name] = b"big" if name.endswith("byteorder") else data
    (tmp_path / "big.pt").write_bytes(archived(turned))
    model = small()
    pytorch.load_weights(model, tmp_path / "big.pt")
    assert_predicts(model, "small")


def test_what_is_left_over_is_an_error_with_a_table(tmp_path, capsys):
    arrays = load_file(FILES / "twelve.safetensors")
    (arrays.pop("features.4.bias"), arrays.update({"head.weight": np.ones((2, 3), "f"), "scale": np.ones(2, "f")}))
    save_file(arrays, tmp_path / "w.safetensors")
    model = twelve()
    before = model.get_weights()
    with pytest.raises(WeightsError, match="3 of 27 rows do not fit this model. Nothing was changed") as error:
        pytorch.load_weights(model, tmp_path / "w.safetensors")
    for row in ("- +conv2d_3/bias +.3,. +not in the file", "head.weight +- +.2, 3. +not used: there is no layer for it",
                "scale +- +.2,. +not used: there is no layer for it"):
        assert re.search(row, str(error.value))
    for a, b in zip(before, model.get_weights()):
        assert_same_bits(a, b)
    matching = pytorch.load_weights(model, tmp_path / "w.safetensors", strict=False)
    assert capsys.readouterr().out == f"{matching}\n" and matching.unmatched == 3
    assert_same_bits(model.get_weights()[0], arrays["features.0.weight"].transpose(2, 3, 1, 0))
    assert_same_bits(model.get_weights()[5], before[5])


@pytest.mark.parametrize("array, why", [
    (np.ones((3, 3, 1, 2), "f"), r"not used: the layer wants \(3, 3, 1, 1\)"),
    (np.full((3, 3, 1, 1), np.nan, "f"), "NaN or infinity"), (np.full((3, 3, 1, 1), 1e39), "NaN or infinity"),
    (np.ones((3, 3, 1, 1), np.int64), "not used: it holds int64")])
def test_an_array_that_does_not_fit_is_not_used(array, why, tmp_path):
    save_file(load_file(FILES / "twelve.safetensors") | {"features.2.weight": array}, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=f"features.2.weight .*{why}"):
        pytorch.load_weights(twelve(), tmp_path / "w.safetensors")


def test_a_negative_variance_is_not_used(tmp_path):
    arrays = load_file(FILES / "residual.safetensors")
    arrays["bn1.running_var"][1] = -1
    save_file(arrays, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="bn1.running_var .*not used: a variance is negative"):
        pytorch.load_weights(residual(), tmp_path / "w.safetensors")


def test_names_that_are_not_there():
    for names, sentence in (({"features.1": "conv2d_1"}, "no layer 'features.1' with weights in the file. Did you mean 'features.1"),
                            ({"features.0": "conv"}, "no layer 'conv' with weights in the model. Did you mean 'conv2d_"),
                            ({"features.0": "conv2d_2", "features.2": "conv2d_2"}, "the layer 'conv2d_2' is named twice")):
        with pytest.raises(InputError, match=sentence):
            pytorch.load_weights(twelve(), FILES / "twelve.safetensors", names=names)
    with pytest.raises(InputError, match="names must be a dict, .*got list"):
        pytorch.load_weights(twelve(), FILES / "twelve.safetensors", names=["conv2d_1"])
    with pytest.raises(InputError, match="strict must be True or False, got 1"):
        pytorch.load_weights(twelve(), FILES / "twelve.safetensors", strict=1)


def test_epsilon_is_told_where_it_is_not_pytorchs(tmp_path):
    model = Sequential([BatchNormalization(), LayerNormalization(), BatchNormalization(epsilon=1e-5)], (2, 2, 3), engine="reference")
    pytorch.save(model, tmp_path / "m.py")
    matching = pytorch.load_weights(model, tmp_path / "m.safetensors")
    assert "epsilon is 0.001 in 2 normalizations; PyTorch's default is 1e-05" in str(matching)


def test_layers_that_pytorch_divides_are_named_by_their_parts(tmp_path):
    model = Sequential([SeparableConv2D(4, 3, name="a"), SeparableConv2D(2, 3, name="b")], (6, 6, 2), engine="reference")
    other = Sequential([SeparableConv2D(4, 3), SeparableConv2D(2, 3)], (6, 6, 2), seed=8, engine="reference")
    pytorch.save(filled(model, 1), tmp_path / "m.py")
    pytorch.load_weights(other, tmp_path / "m.safetensors")         # in order
    same_weights(model, other)
    names = {f"{one}.{part}": f"separable_conv2d_{i}.{part}" for i, one in enumerate("ab", 1) for part in ("depthwise", "pointwise")}
    other = Sequential([SeparableConv2D(4, 3), SeparableConv2D(2, 3)], (6, 6, 2), seed=9, engine="reference")
    pytorch.load_weights(other, tmp_path / "m.safetensors", names=names)
    same_weights(model, other)
    model = Sequential([SeparableConv2D(4, 3, name="a"), Conv2D(2, 3, name="a.depthwise")], (6, 6, 2), engine="reference")
    with pytest.raises(InputError, match="called as a part of a SeparableConv2D, NAME.depthwise or NAME.pointwise. Rename it"):
        pytorch.load_weights(model, tmp_path / "m.safetensors")


def test_rows_of_two_orders_have_no_counterpart(tmp_path):
    x = Input((2, 3, 4))
    other = Input((24,))
    model = Model([x, other], Dense(2)(Add(name="sum")([Flatten()(x), other])), engine="reference")
    for act in (lambda: pytorch.save(model, tmp_path / "m.py"), lambda: pytorch.load_weights(model, FILES / "twelve.safetensors")):
        with pytest.raises(InputError, match="sum: it is made of rows that PyTorch orders differently"):
            act()
    y = Concatenate(name="both")([Flatten()(x), other])
    model = Model([x, other], y, engine="reference")
    with pytest.raises(InputError, match="both: a row that flattened images and others are joined to is an output"):
        pytorch.save(model, tmp_path / "m.py")
    assert list(tmp_path.iterdir()) == []


def test_a_custom_layer_takes_arrays_of_its_own_names(tmp_path):
    from tests.support.random_networks import Block
    model = Sequential([Block((4, 4, 2)), Conv2D(1, 1, name="last")], (4, 4, 2), engine="reference")
    arrays = {f"block_1.{key.rpartition('/')[2]}": np.full_like(weight.value, i)
              for i, (key, weight) in enumerate(model.network.named_weights().items()) if key.startswith("block_1")}
    save_file(arrays | {"last.weight": np.ones((1, 2, 1, 1), "f"), "last.bias": np.ones(1, "f")}, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="save: PyTorch has no counterpart of Block 'block_1'. Nothing was written"):
        pytorch.save(model, tmp_path / "m.py")
    pytorch.load_weights(model, tmp_path / "w.safetensors")
    for i, weight in enumerate(model.get_weights()):
        assert (weight == (i if i < 4 else 1)).all()


# ---- Out ---------------------------------------------------------------------------------------------------------------

EVERY = {**chains(engine="reference"), **graphs(engine="reference")}


def test_every_layer_goes_out():
    refused = {"Capsules", "CapsuleLength"}         # tests/layers/test_capsules.py
    assert {type(layer).__name__ for model in EVERY.values() for layer in model.layers} == set(LAYERS) - refused


@pytest.mark.parametrize("name", EVERY)
def test_out_and_in_again_is_the_same_bits(name, tmp_path):
    model = EVERY[name]
    pytorch.save(model, tmp_path / "network.py")
    weights = [w.copy() for w in model.get_weights()]
    model.set_weights([np.zeros_like(w) for w in weights])
    matching = pytorch.load_weights(model, tmp_path / "network.safetensors")
    for ours, before in zip(model.get_weights(), weights, strict=True):
        assert_same_bits(ours, before)
    assert "in order" not in str(matching)
    text = (tmp_path / "network.py").read_text(encoding="ascii")
    compile(text, "network.py", "exec")
    pytorch.save(model, tmp_path / "again.py")
    assert text == (tmp_path / "again.py").read_text()
    assert (tmp_path / "network.safetensors").read_bytes() == (tmp_path / "again.safetensors").read_bytes()


def test_the_text_of_a_module():
    x = Input((12, 10, 3))
    y = MaxPool2D(2)(Conv2D(4, 3, strides=2, padding="same", activation="relu")(x))
    y = ReLU()(Residual([Conv2D(4, 3, padding="same", use_bias=False), BatchNormalization()])(y))
    model = Model(x, Dense(2, activation="softmax")(Dropout(0.5)(Dense(8, activation="relu")(Flatten()(y)))), engine="reference")
    golden.check(Path(__file__).parent / "golden" / "network.py.txt", module_text(model))
    assert len(module_text(cov19net()).splitlines()) < 45


def test_no_text_of_a_user_is_in_the_module():
    model = Sequential([Conv2D(1, 1, name="import"), ReLU(name="1.x-y"), ReLU(name="_private")], (2, 2, 1),
                       engine="reference")
    model.layers[0].name = '"); import os; os.system("'          # a name may be set afterwards
    text = module_text(model)
    assert "os." not in text and "self.layer_____import_os__os_system__ = nn.Conv2d(1, 1, 1)" in text
    with pytest.raises(InputError, match="expected a path that ends with .py, such as network.py, got m.txt"):
        pytorch.save(model, "m.txt")


def test_a_module_that_cannot_be_written(tmp_path):
    model = twelve()
    with pytest.raises(CheckpointError, match="not written"):
        pytorch.save(model, tmp_path / "nowhere" / "m.py")


def test_without_safetensors_the_extra_is_named(tmp_path, monkeypatch):
    model = small()
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(MissingExtraError, match=r'reading safetensors files needs safetensors.*pip install "minicnn\[pytorch\]"'):
        pytorch.load_weights(model, FILES / "small.safetensors")
    with pytest.raises(MissingExtraError, match="writing safetensors files needs safetensors"):
        pytorch.save(model, tmp_path / "m.py")
    pytorch.load_weights(model, FILES / "small.pt")             # needs nothing
    assert_predicts(model, "small")


def test_pytorch_is_not_imported():
    code = "import sys; from minicnn.interop import pytorch; assert not {'torch', 'safetensors'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- Hostile files -----------------------------------------------------------------------------------------------------

PROTO = b"\x80\x02"


def text(word):
    return b"X" + struct.pack("<I", len(word)) + word.encode()


def name(module, word):
    return b"c" + f"{module}\n{word}\n".encode()


def number(n):
    return b"J" + struct.pack("<i", n) if -2**31 <= n < 2**31 else b"\x8a\x10" + n.to_bytes(16, "little", signed=True)


def numbers(*sizes):
    return b"(" + b"".join(map(number, sizes)) + b"t"


def storage(key="0", kind=name("torch", "FloatStorage"), size=4, more=b""):
    return b"(" + text("storage") + kind + text(key) + text("cpu") + number(size) + more + b"tQ"


def tensor(stored=None, offset=0, shape=(4,), strides=(1,), more=b"\x89" + name("collections", "OrderedDict") + b")R"):
    stored = storage() if stored is None else stored
    view = number(offset) + numbers(*shape) + numbers(*strides)
    return name("torch._utils", "_rebuild_tensor_v2") + b"(" + stored + view + more + b"tR"


def entry(value, key=None):
    """A pickle of {key: value}."""
    return PROTO + b"}" + (text("a.weight") if key is None else key) + value + b"s."


def archived(members, **options):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as archive:
        for member, data in members.items():
            archive.writestr(zipfile.ZipInfo(member), data, options.get("compression"))
    return file.getvalue()


def file_of(pickled, storages=None, **others):
    members = {"m/data.pkl": pickled, "m/byteorder": b"little"} | {f"m/data/{key}": data for key, data in
                                                                   (storages or {"0": bytes(16)}).items()}
    return archived(members | others)


ORDERED, SYSTEM = name("collections", "OrderedDict"), name("posix", "system")
TWIN = b"q\0h\0\x86"            # the same object twice, as a tuple
PICKLES = {
    "os.system": (PROTO + SYSTEM + b"(" + text("touch hacked") + b"tR.", r"names posix.system, and to use that could run code"),
    "os.system, protocol 4": (b"\x80\x04\x8c\x05posix\x8c\x06system\x93.", "SHORT_BINUNICODE"),
    "a name from the stack": (PROTO + text("posix") + text("system") + b"\x93.", "STACK_GLOBAL"),
    "eval": (PROTO + name("builtins", "eval") + b".", "names builtins.eval"),
    "getattr": (PROTO + name("builtins", "getattr") + b".", "names builtins.getattr"),
    "another of torch": (PROTO + name("torch", "load") + b".", "names torch.load"),
    "a name with dots": (PROTO + name("torch._utils", "_rebuild_tensor_v2.__globals__") + b".", "tensor_v2.__globals__, and"),
    "a name in escapes": (PROTO + b"c\x1b[2J\nx\n.", r"names \\x1b\[2J.x"),
    "halves": (entry(tensor(storage(kind=name("torch", "HalfStorage")))), "names torch.HalfStorage.*model.float"),
    "a module": (PROTO + name("__main__", "Net") + b").", "names __main__.Net"),
    "INST": (PROTO + b"(" + text("ls") + b"iposix\nsystem\n.", "instruction INST"),
    "OBJ": (PROTO + b"(" + ORDERED + b"o.", "instruction OBJ"),
    "NEWOBJ": (PROTO + ORDERED + b")\x81.", "instruction NEWOBJ"),
    "EXT1": (PROTO + b"\x82\x01.", "instruction EXT1"),
    "PERSID": (PROTO + b"Pstorage\n.", "instruction PERSID"),
    "a storage called": (PROTO + name("torch", "FloatStorage") + b")R.", "calls something"),
    "a dict made of arguments": (PROTO + ORDERED + b"(]tR.", "calls something"),
    "a text called": (PROTO + text("os.system") + b")R.", "calls something"),
    "a tensor of no arguments": (PROTO + name("torch._utils", "_rebuild_tensor_v2") + b")R.", "calls something"),
    "attributes of a dict": (PROTO + b"}}" + text("__class__") + b"Nsb.", "sets attributes"),
    "attributes of a tensor": (PROTO + tensor() + b"}b.", "sets attributes"),
    "attributes of a name": (PROTO + ORDERED + b"}" + text("_metadata") + b"Nsb.", "sets attributes"),
    "a number for a storage": (PROTO + b"K\1Q.", "refers to what is no storage"),
    "a storage of no kind": (PROTO + storage(kind=text("torch.FloatStorage")) + b".", "refers to what is no storage"),
    "a dict's storage": (PROTO + storage(kind=ORDERED) + b".", "refers to what is no storage"),
    "a storage of -1": (PROTO + storage(size=-1) + b".", "refers to what is no storage"),
    "a storage of 2**100": (PROTO + storage(size=2**100) + b".", "refers to what is no storage"),
    "a view of a storage": (PROTO + storage(more=b"(" + text("0") + b"K\0K\1t") + b".", "refers to what is no storage"),
    "a storage of two kinds": (PROTO + b"}" + text("a") + tensor() + b"s" + text("b") +
                               tensor(storage(kind=name("torch", "LongStorage"))) + b"s.", "described in two ways"),
    "a tuple as a key": (entry(tensor(), b")" + TWIN * 3), "keys are of the type tuple"),
    "a large number as a key": (entry(tensor(), number(2**61 - 1)), "keys are of the type int"),
    "True as a key": (entry(tensor(), b"\x88"), "keys are of the type bool"),
    "a tuple that doubles, as a key": (entry(tensor(), b")" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(100))), "type tuple"),
    "items of a list": (PROTO + b"](" + text("a") + b"K\1u.", "sets items of what is no dict"),
    "half an item": (PROTO + b"}(" + text("a") + b"u.", "sets items of what is no dict"),
    "appended to a tuple": (PROTO + b")K\1a.", "appends to what is no list"),
    "a number of 2**31 bytes": (PROTO + b"\x8b\xff\xff\xff\x7f.", "instruction LONG4"),
    "a text of 2**32 bytes": (PROTO + b"X\xff\xff\xff\xff.", "expected 4294967295 bytes"),
    "a text of 2**64 bytes": (PROTO + b"\x8d" + b"\xff" * 8 + b".", "instruction BINUNICODE8"),
    "no text": (PROTO + b"X\2\0\0\0\xff\xff.", "decode"),
    "an empty stack": (PROTO + b".", "takes what it did not make"), "no mark": (PROTO + b"t.", "takes what it did not make"),
    "too short a stack": (PROTO + b"K\1\x87.", "takes what it did not make"), "no memo": (PROTO + b"h\7.", "takes what it did not"),
    "nothing": (b"", "cut off"), "no end": (PROTO + b"}", "cut off"), "no pickle": (b"\xff\xfe", "cut off, or holds what is no"),
    "260,000 instructions": (PROTO + b"]" + b"Na" * 130_000 + b".", "more than 250,000 instructions"),
    "a list": (PROTO + b"].", "holds no state_dict"), "numbers": (entry(b"K\1"), "holds no state_dict"),
    "a tensor alone": (PROTO + tensor() + b".", "holds no state_dict"),
    "a number as a name": (entry(tensor(), b"K\1"), "holds no state_dict"),
    "an offset outside": (entry(tensor(offset=1)), "does not lie within"),
    "an offset before": (entry(tensor(offset=-1)), "does not lie within"),
    "a shape outside": (entry(tensor(shape=(5,))), "does not lie within"),
    "a stride outside": (entry(tensor(shape=(2, 2), strides=(3, 1))), "does not lie within"),
    "a stride back": (entry(tensor(strides=(-1,))), "does not lie within"),
    "a stride of 2**64": (entry(tensor(shape=(1,), strides=(2**64,))), "does not lie within"),
    "2**40 numbers of one": (entry(tensor(shape=(2**20, 2**20), strides=(0, 0))), "does not lie within"),
    "2**80 numbers of none": (entry(tensor(shape=(2**80, 0), strides=(0, 0))), "does not lie within"),
    "a shape of 9": (entry(tensor(shape=(1,) * 9, strides=(1,) * 9)), "does not lie within"),
    "no strides": (entry(tensor(shape=(2, 2))), "does not lie within"),
    "nothing of nothing": (entry(tensor(storage(size=0), shape=(1,))), "does not lie within"),
    "a shape that is a list": (entry(name("torch._utils", "_rebuild_tensor_v2") + b"(" + storage() + b"K\0]]\x89NNtR"), "does not lie"),
    "4,097 tensors": (PROTO + b"}" + text("0") + tensor() + b"q\0s" + b"".join(text(f"{i}") + b"h\0s" for i in range(1, 4097)) +
                       b".", "holds 4,097 arrays, the limit is 4,096"),
    "no such storage": (entry(tensor(storage(key="7"))), "holds no m/data/7"),
    "a way out of the folder": (entry(tensor(storage(key="../../../etc/passwd"))), "holds no m/data/"),
    "a storage too short": (entry(tensor(storage(size=5), shape=(5,))), "has 16 bytes, expected 20"),
    "a storage too long": (entry(tensor(storage(size=3), shape=(3,))), "has 16 bytes, expected 12"),
    "a storage of 2**39": (entry(tensor(storage(size=2**39))), "has 16 bytes, expected 2,199,023,255,552"),
}
GOOD = entry(tensor())


def legacy(pickled, keys=("0",), storages=(struct.pack("<q", 4) + bytes(16),)):
    """A file as PyTorch before 1.6 wrote it."""
    start = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e") + PROTO + b"M\xe9\x03." + PROTO + b"}."
    return start + pickled + PROTO + b"](" + b"".join(map(text, keys)) + b"e." + b"".join(storages)


FORMS = {
    "no archive": (b"PK\3\4" + bytes(100), "no archive that can be read"),
    "an archive of something else": (archived({"a.txt": b"x"}), "none of PyTorch: it holds no data.pkl"),
    "two pickles": (archived({"a/data.pkl": GOOD, "b/data.pkl": GOOD}), "holds no data.pkl"),
    "a bomb": (archived({"m/data.pkl": GOOD, "m/data/0": bytes(10**7)}, compression=zipfile.ZIP_DEFLATED), "unpack to more than"),
    "another byte order": (file_of(GOOD, **{"m/byteorder": b"middle"}), "byteorder is neither"),
    "one name twice": (file_of(GOOD).replace(b"m/byteorder", b"m/data.pkl\0"), "it holds two members of one name"),
    "a long pickle": (file_of(PROTO + b"}" + text("a" * 2**24) + b"Ns."), "its pickle has 16,777,2.. bytes"),
    "TorchScript": (file_of(PROTO + name("__torch__", "Net") + b").", **{"m/constants.pkl": PROTO + b")."}), "names __torch__.Net"),
    "nothing": (b"", "neither safetensors nor"), "text": (b"weights, as text", "neither safetensors nor"),
    "a pickle alone": (GOOD, "neither safetensors nor"),
    "legacy, cut off": (legacy(GOOD)[:-1], "cut off, or damaged, in its storage"),
    "legacy, no size": (legacy(GOOD, storages=()), "cut off, or damaged, in its storage"),
    "legacy, 2**62": (legacy(GOOD, storages=(struct.pack("<q", 2**62),)), "cut off, or damaged"),
    "legacy, another size": (legacy(GOOD, storages=(struct.pack("<q", 2) + bytes(8),)), "cut off, or damaged"),
    "legacy, no keys": (legacy(GOOD, keys=(), storages=()), "lacks the storage '0'"),
    "legacy, other keys": (legacy(GOOD, keys=("1",)), "list of its storages is not that of its tensors"),
    "legacy, a key twice": (legacy(GOOD, keys=("0", "0")), "list of its storages"),
    "legacy, its magic alone": (legacy(b"")[:15], "cut off"),
    "legacy, os.system": (legacy(PICKLES["os.system"][0]), "names posix.system"),
    "safetensors, cut off": ((FILES / "twelve.safetensors").read_bytes()[:-1], "no safetensors file that can be read"),
    "safetensors, a long header": (struct.pack("<Q", 2**40) + b"{" + bytes(100), "its header is longer than"),
    "safetensors, not JSON": (struct.pack("<Q", 2) + b"{]", "no safetensors file that can be read"),
}


def hostile_file(case):
    return FORMS[case][0] if case in FORMS else file_of(PICKLES[case][0])


@pytest.mark.parametrize("case", [*PICKLES, *FORMS])
def test_hostile_files_are_refused_by_type(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w\x1b[2J.pt"
    path.write_bytes(hostile_file(case))
    model = Sequential([Dense(4, use_bias=False, name="a")], (1,), engine="reference")
    before = model.get_weights()
    with pytest.raises(WeightsError, match={**PICKLES, **FORMS}[case][1]) as error:
        pytorch.load_weights(model, path)
    said = str(error.value)
    assert said.isprintable() and "w\\x1b[2J.pt: cannot be read" in said and "torch.save(" in said
    assert_same_bits(model.get_weights()[0], before[0])
    assert list(tmp_path.iterdir()) == [path]


def test_the_same_files_without_what_is_hostile_are_read(tmp_path):
    values = np.arange(4, dtype="f")
    numbers = values.tobytes()
    for data in (file_of(entry(tensor(shape=(4, 1), strides=(1, 7))), {"0": numbers}),
                 legacy(entry(tensor(shape=(4, 1), strides=(1, 1))), storages=(struct.pack("<q", 4) + numbers,)),
                 file_of(entry(tensor(shape=(4, 1), strides=(1, 1))).replace(text("a.weight"), b"U\x08a.weight"), {"0": numbers}),
                 file_of(entry(tensor(storage(more=b"N"), shape=(4, 1), strides=(1, 1))), {"0": numbers})):
        (tmp_path / "w.pt").write_bytes(data)
        model = Sequential([Dense(4, use_bias=False, name="a")], (1,), engine="reference")
        pytorch.load_weights(model, tmp_path / "w.pt")
        np.testing.assert_array_equal(model.get_weights()[0], [values])
    doubled = b")" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(1, 100))         # 2**99 empty tuples, if written out
    (tmp_path / "w.pt").write_bytes(file_of(PROTO + b"}" + text("a.weight") + tensor(shape=(4, 1), strides=(1, 1)) + b"s" +
                                            text("b") + doubled + b"s.", {"0": numbers}))
    with pytest.raises(WeightsError, match="b +- +- +not used: it is no tensor"):
        pytorch.load_weights(model, tmp_path / "w.pt")


def test_an_entry_is_taken_for_the_state_dict_although_another_is_a_tensor(tmp_path):
    state = b"}" + text("a.weight") + tensor(shape=(4, 1), strides=(1, 1)) + b"s"
    pickled = PROTO + b"}" + text("best") + tensor() + b"s" + text("model_state_dict") + state + b"s."
    (tmp_path / "w.pt").write_bytes(file_of(pickled))
    arrays, said = read_arrays(tmp_path / "w.pt")
    assert list(arrays) == ["a.weight"] and said == ["the entry model_state_dict of the file was read; not best"]


def test_a_module_instead_of_its_state_dict_says_what_to_do():
    with pytest.raises(WeightsError, match=r"names torch.nn.modules.*In PyTorch write .*torch.save\(model.float\(\).state_dict\(\)"):
        pytorch.load_weights(small(), FILES / "whole_module.pt")
    with pytest.raises(WeightsError, match="names torch.HalfStorage"):
        pytorch.load_weights(small(), FILES / "small_half.pt")


def test_files_that_are_none(tmp_path):
    with pytest.raises(WeightsError, match="nowhere.pt: cannot be read .No such file"):
        pytorch.load_weights(small(), tmp_path / "nowhere.pt")
    os.mkfifo(tmp_path / "pipe.pt")
    with pytest.raises(WeightsError, match="not a regular file"):
        pytorch.load_weights(small(), tmp_path / "pipe.pt")
    with open(tmp_path / "large.pt", "wb") as file:
        file.truncate(2**31 + 1)
    with pytest.raises(WeightsError, match="has 2,147,483,649 bytes, the limit is"):
        pytorch.load_weights(small(), tmp_path / "large.pt")


SEEDS = [(FILES / file).read_bytes() for file in
         ("small.pt", "small_legacy.pth", "small.safetensors", "views.pt", "twelve.safetensors")]


def damaged(i):
    """Return file number i: one of PyTorch's with bytes turned, cut off, repeated or put in, or lengths made large."""
    draw = random.Random(i)
    data = bytearray(draw.choice(SEEDS))
    near = draw.choice([200, 1500, len(data)])                  # most of the structure stands at the ends
    for _ in range(draw.choice([1, 1, 2, 8])):
        at = draw.randrange(min(near, len(data)))
        at = at if draw.random() < 0.7 else len(data) - 1 - at
        kind = draw.randrange(6)
        if kind == 0:
            data[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            data[at] = draw.randrange(256)
        elif kind == 2:
            data[at:at + 4] = struct.pack("<I", draw.choice([0, 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1]))
        elif kind == 3:
            del data[at:at + draw.choice([1, 4, len(data)])]
        elif kind == 4:
            data[at:at] = data[at:at + draw.choice([1, 8, 300])]
        else:
            data[at:at] = draw.choice([b"(", b"t", b"R", b"\x86", b"h\0", b"q\0", b"Q", b"}", b"u", b".", SYSTEM, ORDERED])
        data = data or bytearray(b"x")
    # A pickle in an archive has a checksum: half of those are changed inside.
    if data.startswith(b"PK") and draw.random() < 0.5:
        with zipfile.ZipFile(io.BytesIO(SEEDS[0])) as archive:
            members = {member: archive.read(member) for member in archive.namelist()}
        pickled = bytearray(members["small/data.pkl"])
        for _ in range(draw.choice([1, 2, 5])):
            at = draw.randrange(len(pickled))
            put = [bytes([draw.randrange(256)]), b"", b"(", b"t", b"R", b"\x86", b"h\0", b"Q", SYSTEM]
            pickled[at:at + draw.randrange(3)] = draw.choice(put)
        data = archived(members | {"small/data.pkl": bytes(pickled)})
    return bytes(data)


@pytest.mark.parametrize("n", [300, pytest.param(15_000, marks=pytest.mark.soak)])
def test_damaged_files_are_read_or_refused_by_type(n, tmp_path):
    path, models = tmp_path / "w", [make() for make in (small, twelve, decoder)]

    def judge(i):
        path.write_bytes(damaged(i))
        try:
            str(match(models[i % 3], path)[0])
            return "read"
        except WeightsError as error:
            return "refused" if str(error).isprintable() else f"raw {error!r}"
        except Exception as error:
            return f"untyped {error!r}"
    found = outcomes(judge, n, seconds=10)
    assert set(found) == {"read", "refused"}, sorted(set(found))
    assert found.count("read") > n / 50 and found.count("refused") > n / 10


def test_no_hostile_file_runs_imports_connects_or_writes(tmp_path):
    paths = []
    for i, data in enumerate([*map(hostile_file, [*PICKLES, *FORMS]), *map(damaged, range(200)), *SEEDS]):
        paths.append(tmp_path / str(i))
        paths[-1].write_bytes(data)

    def work():
        def read_all():
            counts = {"read": 0, "refused": 0}
            for path in paths:
                try:
                    read_arrays(path)
                    counts["read"] += 1
                except WeightsError:
                    counts["refused"] += 1
            return counts
        read_all()                  # safetensors is imported
        seen = hostile.forbid_effects()
        counts, effects = read_all(), list(seen)
        try:
            os.system("true")
        except AssertionError:
            pass
        return counts | {"effects": effects, "caught": len(seen) - len(effects)}
    figures = hostile.in_child(work)
    assert figures["effects"] == [] and figures["caught"] == 1
    assert figures["read"] >= len(SEEDS) and figures["refused"] > 100
