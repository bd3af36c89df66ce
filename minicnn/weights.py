"""The weights file: named arrays and named strings in safetensors layout, written atomically.

    8 bytes    length of the header, little-endian
    header     JSON: {"__metadata__": {str: str}, tensor name: {"dtype", "shape", "data_offsets"}, ...}, padded by spaces
    data       the arrays, C order, little-endian, without gaps

`__metadata__["sha256"]` is the SHA-256 of the file itself with these 64 digits as zeros: it detects damage, not
forgery. Files hold no time, host or path, so equal content gives equal bytes. Nothing in a file names code.
"""

import hashlib
import json
import math

import numpy as np

from minicnn.core.files import open_regular, write_atomic
from minicnn.core.untrusted import parse_json, raising
from minicnn.core.validation import all_finite
from minicnn.errors import InputError, NonFiniteError, WeightsError, printable

__all__ = ["save", "load"]

_DTYPES = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8"), "I64": np.dtype("<i8"), "U64": np.dtype("<u8"),
           "U8": np.dtype("u1")}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}

_MOST_HEADER_BYTES = 2**20
_MOST_TENSORS = 4096
_MOST_RANK = 8
_MOST_SIZE = 2**31
_MOST_MARKS = 16 * _MOST_TENSORS       # an array of eight axes has 10 quotes, 14 commas and brackets in the header
_NO_DIGEST = "0" * 64
# {how a file of another tool begins: what it is, and what reads it}
_OTHERS = {b"PK\3\4": "an archive, as Keras and PyTorch write: minicnn.interop.keras or pytorch reads it",
           b"\x89HDF": "an HDF5 file, as Keras writes: minicnn.interop.keras reads it",
           b"\x80\2\x8a\n": "a file of PyTorch: minicnn.interop.pytorch reads it",
           b"\x08": "an ONNX file, or damaged: minicnn.interop.onnx reads ONNX"}


def save(path, tensors, metadata, private=True):
    """Write arrays and strings to `path` atomically (files.write_atomic); equal content gives equal bytes.

    Parameters
    ----------
    path : str or Path
    tensors : dict of str to ndarray of float32, float64, int64, uint64 or uint8
    metadata : dict of str to str
    private : bool, as of write_atomic

    Raises
    ------
    CheckpointError
        if it cannot be written: the disk is full, the folder is missing or read-only; the old file is intact
    WeightsError
        if `load` would refuse the file: too many arrays, other dtypes, more than eight axes, too long a header
    NonFiniteError
        if an array holds NaN or infinity: training could not continue from such a file
    """
    write_atomic(path, _encode(tensors, metadata), private)


def load(path, expect=None):
    """Read a file written by `save` (or any safetensors file with such a digest).

    Every length is checked against the file's size and a limit before memory is allocated; the digest is checked before
    any array is returned. It needs the memory of the arrays and a few times that of the header.

    Parameters
    ----------
    path : str or Path
    expect : str, the SHA-256 of the file as `sha256sum` prints it, or None. The digest within the file detects damage;
        this one, known from elsewhere, detects forgery

    Returns
    -------
    tensors : dict of str to ndarray
    metadata : dict of str to str, without the digest

    Raises
    ------
    WeightsError
        if the file is missing, damaged, of another format, or not the expected one
    """
    name = printable(path)
    expect = None if expect is None else str(expect).lower()
    if expect is not None and not _is_digest(expect):
        raise InputError(f"{name}: its expected SHA-256 must be 64 hexadecimal digits, as sha256sum prints them, "
                         f"got {printable(expect)!r}.")
    with raising(WeightsError, path):
        file, size = open_regular(path)
        with file:
            return _read(file, size, name, expect)


# ---- Writing ---------------------------------------------------------------------------------------------------------

def _encode(tensors, metadata):
    """Return the file's bytes as a list of parts: length and header, then each array."""
    if len(tensors) > _MOST_TENSORS:
        raise WeightsError(f"{len(tensors):,} arrays are too many: a file holds at most {_MOST_TENSORS:,}.")
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
        if dtype.kind == "f" and not all_finite(array):
            raise NonFiniteError(f"save: {printable(name)} holds NaN or infinity; such weights are never saved.")
        header[name] = {"dtype": _CODES[dtype], "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        arrays.append(array.reshape(-1).view(np.uint8).data if array.size else b"")
        at += array.nbytes
    text = json.dumps(header, separators=(",", ":"), allow_nan=False).encode("ascii")
    text += b" " * (-len(text) % 8)
    if len(text) > _MOST_HEADER_BYTES or _has_too_many_marks(text):
        raise WeightsError(f"the header would be {len(text)} bytes long, more than {_MOST_HEADER_BYTES}, or of too "
                           "many strings: the history or the layers are too many for one file.")
    digest = hashlib.sha256(len(text).to_bytes(8, "little") + text)
    for array in arrays:
        digest.update(array)
    text = text.replace(_NO_DIGEST.encode(), digest.hexdigest().encode(), 1)
    return [len(text).to_bytes(8, "little") + text] + arrays


# ---- Reading ---------------------------------------------------------------------------------------------------------

def _read(file, size, name, expect):
    """Return (tensors, metadata) of an open file of `size` bytes."""
    if size < 8:
        raise WeightsError(f"{name}: too short for a weights file ({size} bytes). Use another copy of it.")
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if length > min(_MOST_HEADER_BYTES, size - 8):
        other = next((what for mark, what in _OTHERS.items() if start.startswith(mark)), None)
        raise WeightsError(f"{name}: not a weights file of minicnn" + (
            f", but {other}." if other else f", or cut off: its header would be {length} bytes long."))
    text = file.read(length)
    header = _parse_header(text, name)
    metadata = _check_metadata(header.pop("__metadata__", None), name)
    layout = _check_layout(header, size - 8 - length, name)
    digest = metadata.pop("sha256")
    seen = hashlib.sha256(start + text.replace(digest.encode(), _NO_DIGEST.encode(), 1))
    seen_as_is = hashlib.sha256(start + text)
    tensors = {}
    for key, (dtype, shape) in layout.items():
        try:
            array = np.empty(shape, dtype)
        except MemoryError as error:
            raise WeightsError(f"{name}: it holds {size:,} bytes, more than there is memory for.") from error
        content = array.reshape(-1).view(np.uint8)
        if file.readinto(content) != len(content):
            raise WeightsError(f"{name}: changed while it was read. Try again.")
        seen.update(content)
        if expect is not None:
            seen_as_is.update(content)
        tensors[key] = array.astype(dtype.newbyteorder("="), copy=False)
    if seen.hexdigest() != digest:
        raise WeightsError(f"{name}: damaged: its content does not match its SHA-256. Use another copy of it, such as "
                           "previous.safetensors of the same run.")
    if expect is not None and seen_as_is.hexdigest() != expect:
        raise WeightsError(f"{name}: not the file that was expected: its SHA-256 is {seen_as_is.hexdigest()}, not "
                           f"{expect}. Do not use it; get it again from where that number came from.")
    return tensors, metadata


def _has_too_many_marks(text):
    """Return whether a JSON text has more quotes, or commas and brackets outside of strings, than any header needs.

    This limits the objects that parsing creates: a million bytes of "[],[],..." would take 30 million in memory.
    """
    text = text.replace(rb"\\", b"").replace(rb'\"', b"")        # now every quote begins or ends a string
    if text.count(b'"') > _MOST_MARKS:
        return True
    outside = b"".join(text.split(b'"')[::2])
    return sum(map(outside.count, (b",", b"[", b"{"))) > _MOST_MARKS


def _parse_header(text, name):
    try:
        if _has_too_many_marks(text):
            raise ValueError("too many parts")
        header = parse_json(text)
    except ValueError as error:
        raise WeightsError(f"{name}: not a weights file: its header cannot be read ({printable(error)}).") from None
    if not isinstance(header, dict) or len(header) > _MOST_TENSORS + 1:
        raise WeightsError(f"{name}: not a weights file: its header is no object of at most {_MOST_TENSORS} arrays.")
    return header


def _check_metadata(metadata, name):
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise WeightsError(f"{name}: not a minicnn file: it has no metadata of strings.")
    if not _is_digest(metadata.get("sha256", "")):
        raise WeightsError(f"{name}: not a minicnn file: it has no SHA-256 of itself.")
    return dict(metadata)


def _is_digest(text):
    return len(text) == 64 and all(c in "0123456789abcdef" for c in text)


def _check_layout(header, size, name):
    """Return {tensor: (dtype, shape)} in the data's order: known dtypes, consistent sizes, no gaps, no overlaps."""
    layout, at = {}, 0
    for key, entry in header.items():
        try:
            dtype = _DTYPES[entry["dtype"]]
            shape, (begin, end) = entry["shape"], entry["data_offsets"]
            numbers = [*shape, begin, end]
            fits = (len(entry) == 3 and len(shape) <= _MOST_RANK and isinstance(shape, list)
                    and all(type(n) is int and n >= 0 for n in numbers) and all(n <= _MOST_SIZE for n in shape)
                    and end - begin == math.prod(shape) * dtype.itemsize
                    # NumPy multiplies in 64 bits, and leaves out the zeros of an empty array.
                    and math.prod(max(n, 1) for n in shape) * dtype.itemsize < 2**63)
        except (KeyError, TypeError, ValueError):
            fits = False
        if not fits or begin != at:
            raise WeightsError(f"{name}: damaged: the entry of array {printable(key)!r} is wrong.")
        layout[key], at = (dtype, tuple(shape)), end
    if at != size:
        raise WeightsError(f"{name}: damaged: its arrays need {at} bytes, it has {size}.")
    return layout
