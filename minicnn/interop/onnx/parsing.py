"""ONNX files as bytes of unknown origin: counts and lengths before memory, tensors as arrays, no file but those beside the model."""

import math
import os
from pathlib import Path

import numpy as np

from minicnn.core.files import open_regular
from minicnn.core.text import shortened
from minicnn.core.untrusted import open_limited, raising
from minicnn.errors import InputError, MissingExtraError, WeightsError, printable

__all__ = ["MOST_RANK", "attributes_of", "array_of", "check_text", "read_model"]

MOST_RANK = 8
_MOST_BYTES = 2**31 - 1             # of protobuf too
_MOST_FIELDS = 2**19                # an empty message of two bytes takes 100 in memory

# {message: {number of a field that is a message: which}}, of those that may stand in large numbers (onnx.proto)
_MESSAGES = {
    "model": {7: "graph", 8: "entry", 14: "entry", 20: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 11: "value", 12: "value", 13: "value", 14: "annotation", 15: "sparse", 16: "entry"},
    "function": {7: "node", 9: "entry", 11: "attribute", 12: "value", 14: "entry"},
    "node": {5: "attribute", 9: "entry", 10: "entry"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 14: "type", 15: "type", 22: "sparse", 23: "sparse"},
    "tensor": {13: "entry", 16: "entry"}, "sparse": {1: "tensor", 2: "tensor"}, "annotation": {2: "entry"},
    "value": {2: "type", 4: "entry"}, "type": {1: "array", 4: "holder", 5: "holder", 8: "array", 9: "holder"},
    "holder": {1: "type", 2: "type"}, "array": {2: "shape"}, "shape": {1: "entry"}, "entry": {}}

# {TensorProto.DataType: (dtype, field of its numbers where there are no raw bytes)}
_DTYPES = {1: ("<f4", "float_data"), 2: ("u1", "int32_data"), 3: ("i1", "int32_data"), 4: ("<u2", "int32_data"),
           5: ("<i2", "int32_data"), 6: ("<i4", "int32_data"), 7: ("<i8", "int64_data"), 9: ("?", "int32_data"),
           10: ("<f2", "int32_data"), 11: ("<f8", "double_data"), 12: ("<u4", "uint64_data"), 13: ("<u8", "uint64_data")}


def read_model(path):
    """Return the ModelProto of a file; its external data is not read.

    Raises
    ------
    MissingExtraError : the library onnx is not installed
    WeightsError : the file is missing, too large, or no ONNX file
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise MissingExtraError("reading ONNX files", "onnx", "onnx") from None
    with raising(WeightsError, path, "Is it an ONNX file?"):
        with open_limited(path, _MOST_BYTES) as file:
            data = file.read()
        _check_fields(data)
        model = onnx.ModelProto()
        try:
            model.ParseFromString(data)
        except DecodeError as error:
            raise ValueError(f"it is no protobuf message of a model: {printable(error)[:100]}") from None
        if not model.HasField("graph"):
            raise ValueError("it holds no graph")
    return model


def _check_fields(data):
    """Raise ValueError where the messages that make a graph have more fields than is plausible, or are cut off."""
    fields, waiting = 0, [(0, len(data), "model")]
    while waiting:
        at, end, message = waiting.pop()
        nested = _MESSAGES[message]
        while at < end:
            fields += 1
            if fields > _MOST_FIELDS:
                raise ValueError(f"it has more than {_MOST_FIELDS:,} fields")
            tag, at = _varint(data, at, end)
            if tag & 7 == 0:
                _, at = _varint(data, at, end)
            elif tag & 7 == 2:
                length, at = _varint(data, at, end)
                if length > end - at:
                    raise ValueError("it is cut off")
                if tag >> 3 in nested:
                    waiting.append((at, at + length, nested[tag >> 3]))
                at += length
            elif tag & 7 in (1, 5):
                at += 8 if tag & 7 == 1 else 4
            else:
                raise ValueError("it is no protobuf message of a model")


def _varint(data, at, end):
    value = shift = 0
    while at < end and shift < 64:
        byte = data[at]
        value, at, shift = value | (byte & 127) << shift, at + 1, shift + 7
        if byte < 128:
            return value, at
    raise ValueError("it is cut off")


def check_text(*names):
    """Raise ValueError unless all are str: what is no UTF-8 in the file is handed out as bytes."""
    if any(not isinstance(name, str) for name in names):
        raise ValueError("a name in it is no text")


def attributes_of(node):
    """Return {name: (kind, value)} of a node; kind is int, float, text, ints, floats, tensor, or "another".

    Raises InputError for a name that stands twice, and for one that refers to a function's.
    """
    found = {}
    kinds = {1: ("float", "f"), 2: ("int", "i"), 3: ("text", "s"), 4: ("tensor", "t"), 6: ("floats", "floats"), 7: ("ints", "ints")}
    for attribute in node.attribute:
        kind, field = kinds.get(attribute.type, ("another", None))
        check_text(attribute.name)
        if attribute.name in found or attribute.ref_attr_name:
            raise InputError(f"its attribute {shortened(attribute.name, 80)!r} stands twice, or is a function's")
        value = None if field is None else getattr(attribute, field)
        if kind == "float":
            value = float(str(np.float32(value)))           # 0.001, and not the double next to the float32 next to it
        if kind in ("floats", "ints"):
            value = list(value)
        found[attribute.name] = kind, value.decode("utf-8", "replace") if kind == "text" else value
    return found


def array_of(tensor, folder):
    """Return the ndarray of a TensorProto, read-only; its sizes are compared with its bytes first.

    Parameters
    ----------
    tensor : TensorProto
    folder : Path of the model's folder, in which external data may lie

    Raises ValueError or OSError.
    """
    shape = tuple(tensor.dims)
    if tensor.data_type not in _DTYPES:
        raise ValueError(f"numbers of the ONNX data type {tensor.data_type} are not supported")
    code, field = _DTYPES[tensor.data_type]
    dtype = np.dtype(code)
    if len(shape) > MOST_RANK or any(size < 0 for size in shape):
        raise ValueError(f"a shape of {len(shape)} axes, or with a negative size")
    if tensor.HasField("segment"):
        raise ValueError("a tensor in segments")
    size = math.prod(shape)
    if tensor.data_location == 1:
        raw = _external(tensor, folder, size * dtype.itemsize)
    elif tensor.HasField("raw_data"):
        raw = tensor.raw_data
    else:
        numbers = getattr(tensor, field)
        if len(numbers) != size:
            raise ValueError(f"{len(numbers):,} numbers for the shape {shape}")
        if field == "int32_data":
            wide = np.array(numbers, np.int32)
            narrow = wide.astype(np.uint16).view(np.float16) if code == "<f2" else wide.astype(dtype)
            return narrow.reshape(shape)
        return np.array(numbers, dtype).reshape(shape)
    if len(raw) != size * dtype.itemsize:
        raise ValueError(f"{len(raw):,} bytes for the shape {shape} of {dtype.name}")
    array = np.frombuffer(raw, dtype)
    if code == "?":
        array = array.view(np.uint8) != 0
    return array.reshape(shape)


def _external(tensor, folder, needed):
    """Return the bytes of a tensor that stand in a file of their own: a plain name, in the model's folder and not outside of it."""
    facts = {entry.key: entry.value for entry in tensor.external_data}
    check_text(*facts, *facts.values())
    name = facts.get("location", "")
    plain = name not in ("", ".", "..") and len(name) <= 255 and not set(name) & set("/\\\0:")
    home = os.path.realpath(folder)
    real = os.path.realpath(os.path.join(home, name)) if plain else None
    if not plain or os.path.dirname(real) != home:
        raise ValueError(f"its external data {shortened(name, 80)!r} is not a file in the model's own folder")
    numbers = []
    for key, default in (("offset", "0"), ("length", str(needed))):
        text = facts.get(key, default)
        if not (text.isascii() and text.isdigit() and len(text) <= 18):
            raise ValueError(f"the {key} of its external data is {shortened(text, 40)!r}")
        numbers.append(int(text))
    offset, length = numbers
    file, size = open_regular(Path(real))
    with file:
        if length != needed or offset + length > size:
            raise ValueError(f"{length:,} bytes from byte {offset:,} on, of the {size:,} of {shortened(name, 80)}, for {needed:,}")
        file.seek(offset)
        return file.read(length)
