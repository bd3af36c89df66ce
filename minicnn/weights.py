"""The weights file: arrays by name and strings by name, in safetensors layout, written all or nothing.

    8 bytes    length of the header, little-endian
    header     JSON: {"__metadata__": {str: str}, tensor name: {"dtype", "shape", "data_offsets"}, ...}, padded by spaces
    data       the arrays, C order, little-endian, without holes

`__metadata__["sha256"]` is the SHA-256 of the file itself with these 64 digits as zeros: it notices accidents, not
forgery. Files hold no time, host or path, so equal content is equal bytes. Nothing in a file names code.
"""

import hashlib
import json
import math

import numpy as np

from minicnn.errors import WeightsError, printable
from minicnn.files import open_regular, write_whole

__all__ = ["save", "load"]

_DTYPES = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8"), "I64": np.dtype("<i8"), "U64": np.dtype("<u8"),
           "U8": np.dtype("u1")}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}

_MOST_HEADER_BYTES = 2**20
_MOST_TENSORS = 4096
_MOST_RANK = 8
_MOST_SIZE = 2**31
_NO_DIGEST = "0" * 64


def save(path, tensors, metadata):
    """Write arrays and strings to `path`, so that at any moment the old file or the new one is there, whole.

    Equal content is equal bytes. See files.write_whole for how it reaches the disk.

    Parameters
    ----------
    path : str or Path
    tensors : dict of str to ndarray of float32, float64, int64, uint64 or uint8
    metadata : dict of str to str

    Raises
    ------
    CheckpointError
        if it could not be written: the disk is full, the folder is missing or read-only; the old file is intact
    WeightsError
        if `load` would refuse the file: too many arrays, other dtypes, more than eight axes, too long a header
    """
    write_whole(path, _encode(tensors, metadata))


def load(path):
    """Read a file that `save` wrote (or any safetensors file with our digest).

    Every length is checked against the file's size and a cap before memory is asked for; the digest is checked before
    any array is made.

    Returns
    -------
    tensors : dict of str to ndarray
    metadata : dict of str to str, without the digest

    Raises
    ------
    WeightsError
        if the file is missing, damaged, or not ours; the sentence says which
    """
    content = _read(path)
    name = printable(path)
    if len(content) < 8:
        raise WeightsError(f"{name}: too short for a weights file ({len(content)} bytes). "
                           "Use another copy of it.")
    length = int.from_bytes(content[:8], "little")
    if length > min(_MOST_HEADER_BYTES, len(content) - 8):
        raise WeightsError(f"{name}: not a weights file, or cut off: its header would be {length} bytes long.")
    header = _parse_header(bytes(content[8:8 + length]), name)
    metadata = _check_metadata(header.pop("__metadata__", None), name)
    layout = _check_layout(header, len(content) - 8 - length, name)
    digest = metadata.pop("sha256", None)
    if digest is None or _digest(content, length, digest) != digest:
        raise WeightsError(f"{name}: damaged: its content does not match its SHA-256. Use another copy of it, such as "
                           "previous.safetensors of the same run.")
    data = memoryview(content)[8 + length:]
    tensors = {key: np.frombuffer(data[begin:end], dtype).reshape(shape).astype(dtype.newbyteorder("="))
               for key, (dtype, shape, begin, end) in layout.items()}
    return tensors, metadata


# ---- Writing ---------------------------------------------------------------------------------------------------------

def _encode(tensors, metadata):
    """Return the file's bytes as a list of parts: length and header, then each array."""
    if len(tensors) > _MOST_TENSORS:
        raise WeightsError(f"{len(tensors):,} arrays are too many: one file holds at most {_MOST_TENSORS:,}.")
    if "sha256" in metadata or not all(isinstance(value, str) for value in metadata.values()):
        raise WeightsError(f"metadata must be strings under any name but sha256, got {metadata!r}.")
    header = {"__metadata__": {"sha256": _NO_DIGEST} | dict(sorted(metadata.items()))}
    arrays, at = [], 0
    for name, array in tensors.items():
        dtype = array.dtype.newbyteorder("<") if array.dtype.itemsize > 1 else array.dtype
        if name in header or dtype not in _CODES or array.ndim > _MOST_RANK:
            raise WeightsError(f"array {printable(name)!r}: expected {', '.join(str(known) for known in _CODES)} with at "
                               f"most {_MOST_RANK} axes, got {array.dtype} with {array.ndim}.")
        array = np.asarray(array, dtype, order="C")
        header[name] = {"dtype": _CODES[dtype], "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        arrays.append(array.reshape(-1).view(np.uint8).data if array.size else b"")
        at += array.nbytes
    text = json.dumps(header, separators=(",", ":"), allow_nan=False).encode("ascii")
    text += b" " * (-len(text) % 8)
    if len(text) > _MOST_HEADER_BYTES:
        raise WeightsError(f"the header would be {len(text)} bytes long, more than {_MOST_HEADER_BYTES}: the history or "
                           "the layers are too many for one file.")
    digest = hashlib.sha256(len(text).to_bytes(8, "little") + text)
    for array in arrays:
        digest.update(array)
    text = text.replace(_NO_DIGEST.encode(), digest.hexdigest().encode(), 1)
    return [len(text).to_bytes(8, "little") + text] + arrays


# ---- Reading ---------------------------------------------------------------------------------------------------------

def _read(path):
    """Return the whole content of a regular file as a bytearray."""
    name = printable(path)
    try:
        file, size = open_regular(path)
    except OSError as error:
        raise WeightsError(f"{name}: cannot be opened: {error.strerror}.") from None
    with file:
        content = bytearray(size)
        if file.readinto(content) != size:
            raise WeightsError(f"{name}: changed while it was read. Try again.")
    return content


def _digest(content, length, digest):
    """Return the SHA-256 of the content with the digits of `digest` in the header as zeros."""
    at = content.find(digest.encode("ascii", "replace"), 8, 8 + length)
    if at < 0:
        return None
    whole = hashlib.sha256(memoryview(content)[:at])
    whole.update(_NO_DIGEST.encode())
    whole.update(memoryview(content)[at + 64:])
    return whole.hexdigest()


def _parse_header(text, name):
    def no_duplicates(pairs):
        result = dict(pairs)
        if len(result) < len(pairs):
            raise ValueError("the same name twice")
        return result

    def no_constants(word):
        raise ValueError(f"{word} is not a number")

    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=no_duplicates, parse_constant=no_constants)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{name}: not a weights file: its header cannot be read ({printable(error)}).") from None
    if not isinstance(header, dict) or len(header) > _MOST_TENSORS + 1:
        raise WeightsError(f"{name}: not a weights file: its header is not a table of at most {_MOST_TENSORS} arrays.")
    return header


def _check_metadata(metadata, name):
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise WeightsError(f"{name}: not a minicnn file: it has no table of strings.")
    digest = metadata.get("sha256", "")
    if len(digest) != 64 or not all(c in "0123456789abcdef" for c in digest):
        raise WeightsError(f"{name}: not a minicnn file: it has no SHA-256 of itself.")
    return dict(metadata)


def _check_layout(header, size, name):
    """Return {tensor: (dtype, shape, begin, end)}: known dtypes, sizes that agree, no holes, no overlaps."""
    layout, at = {}, 0
    for key, entry in header.items():
        try:
            dtype = _DTYPES[entry["dtype"]]
            shape, (begin, end) = entry["shape"], entry["data_offsets"]
            numbers = [*shape, begin, end]
            fits = (len(entry) == 3 and len(shape) <= _MOST_RANK and isinstance(shape, list)
                    and all(type(n) is int and n >= 0 for n in numbers) and all(n <= _MOST_SIZE for n in shape)
                    and end - begin == math.prod(shape) * dtype.itemsize)
        except (KeyError, TypeError, ValueError):
            fits = False
        if not fits or begin != at:
            raise WeightsError(f"{name}: damaged: the entry of array {printable(key)!r} is wrong.")
        layout[key], at = (dtype, tuple(shape), begin, end), end
    if at != size:
        raise WeightsError(f"{name}: damaged: its arrays need {at} bytes, it has {size}.")
    return layout
