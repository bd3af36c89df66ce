"""The arrays of a file of weights: safetensors, or PyTorch's own, told by its content."""

import io
import re

import numpy as np

from minicnn.core.text import shortened
from minicnn.core.untrusted import open_limited, raising
from minicnn.errors import MissingExtraError, WeightsError
from minicnn.interop.pytorch.unpickler import Tensor, is_legacy, read_archive, read_legacy

__all__ = ["read_arrays"]

_MOST_BYTES, _MOST_HEADER_BYTES, _MOST_ARRAYS = 2**31, 2**22, 4096
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
           "U8": "u1", "BOOL": "?"}
_WRAPPERS = "state_dict", "model_state_dict", "model"
_WAY_OUT = ("In PyTorch write float32 and int64 alone: torch.save(model.float().state_dict(), path), or "
            "safetensors.torch.save_file(model.state_dict(), path).")


def read_arrays(path):
    """Return ({name: ndarray, or None where it is no tensor}, [what the table says of the whole]) of a file.

    Raises WeightsError where it is neither safetensors nor a file of PyTorch, is damaged, or could run code.
    """
    try:
        with raising(WeightsError, path), open_limited(path, _MOST_BYTES) as file:
            data = file.read()
        with raising(WeightsError, path, _WAY_OUT):
            if data.startswith(b"PK\3\4"):
                arrays, said = _entry(*read_archive(io.BytesIO(data), len(data)))
            elif is_legacy(data):
                arrays, said = _entry(*read_legacy(data))
            elif data[8:9] == b"{":
                arrays, said = _read_safetensors(data)
            else:
                raise ValueError("it is neither safetensors nor a file of torch.save")
    except MemoryError:
        raise WeightsError(f"{shortened(str(path), 300)}: holds more than there is memory for.") from None
    if arrays and all(name.startswith("module.") for name in arrays):
        arrays = {name.removeprefix("module."): array for name, array in arrays.items()}
        said.append("module. was taken from the beginning of each name: it is of DataParallel")
    return arrays, said


def _entry(content, array):
    """Return (arrays, remarks) of the state_dict that an object is, or that is an entry of it."""
    said = []
    wrapper = next((key for key in _WRAPPERS if type(content) is dict and _has_tensors(content.get(key))), None)
    if wrapper is not None:
        others = ", ".join(shortened(str(key), 30) for key in list(content)[:20] if key != wrapper)
        said.append(f"the entry {wrapper} of the file was read; not {others}" if others else f"the entry {wrapper} was read")
        content = content[wrapper]
    if not _has_tensors(content) or not all(type(key) is str for key in content):
        raise ValueError("it holds no state_dict, which is a dict of tensors by their names")
    _check_count(content)
    return {name: array(value) if type(value) is Tensor else None for name, value in content.items()}, said


def _has_tensors(content):
    return type(content) is dict and Tensor in map(type, content.values())


def _check_count(arrays):
    if len(arrays) > _MOST_ARRAYS:
        raise ValueError(f"it holds {len(arrays):,} arrays, the limit is {_MOST_ARRAYS:,}")


def _read_safetensors(data):
    """Return (arrays, remarks) of the bytes of a safetensors file: in the natural order of names, 2 before 10."""
    try:
        from safetensors import SafetensorError, deserialize
    except ImportError:
        raise MissingExtraError("reading safetensors files", "safetensors", "pytorch") from None
    if int.from_bytes(data[:8], "little") > _MOST_HEADER_BYTES:
        raise ValueError(f"its header is longer than {_MOST_HEADER_BYTES:,} bytes")
    try:
        found = dict(deserialize(data))
    except SafetensorError as error:
        raise ValueError(f"it is no safetensors file that can be read: {shortened(str(error), 200)}") from None
    _check_count(found)
    arrays, halves = {}, 0
    for name in sorted(found, key=lambda name: re.sub("[0-9]+", lambda digits: digits[0].zfill(20), name)):
        code, shape, content = (found[name][key] for key in ("dtype", "shape", "data"))
        if code not in _DTYPES:
            raise ValueError(f"its array {shortened(name, 80)!r} holds {shortened(code, 20)}, which is not read")
        array = np.frombuffer(content, _DTYPES[code])
        if code == "BF16":          # the upper half of a float32
            array, halves = (array.astype(np.uint32) << 16).view(np.float32), halves + 1
        arrays[name] = array.reshape(shape)
    return arrays, [f"{halves} arrays of bfloat16 were made float32"] * bool(halves)
