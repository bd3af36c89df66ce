"""Weights out of PyTorch's own files, .pt and .pth, without PyTorch and without pickle.

Such a file holds a pickle, which is a program for a machine with a stack and a memo. The machine here knows the
instructions that a state_dict needs, and four names: collections.OrderedDict, torch._utils._rebuild_tensor_v2,
torch.FloatStorage, torch.LongStorage. It calls none of them: the first makes a dict, the second a Tensor, which is a
description, and the last two say what a storage holds. Any other name, and any other instruction, ends it with an error.

The numbers themselves, the storages, are not pickled. In the archive that PyTorch writes since 1.6 each is a member:

    NAME/data.pkl   NAME/byteorder   NAME/data/0   NAME/data/1   ...

Before, they followed the pickles in the same file, each behind its size:

    magic number, version, sizes of types, the object, the keys of its storages   (pickles)   8 bytes, storage, 8 bytes, ...
"""

import io
import math
import pickletools
from typing import NamedTuple

import numpy as np

from minicnn.core.text import shortened
from minicnn.core.untrusted import Archive

__all__ = ["Storage", "Tensor", "unpickle", "read_archive", "read_legacy", "is_legacy"]

_MOST_PICKLE_BYTES, _MOST_INSTRUCTIONS, _MOST_RANK = 2**24, 250_000, 8
_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")        # the pickle of the magic number


class Storage(NamedTuple):
    """A row of `size` numbers of a file, by its key there."""

    key: str
    dtype: np.dtype
    size: int


class Tensor(NamedTuple):
    """Where an array lies in its storage: all in numbers, not in bytes."""

    storage: Storage
    offset: int
    shape: tuple
    strides: tuple


class _Name(NamedTuple):
    """One of the names that a pickle may use; a storage's has a dtype."""

    text: str
    dtype: np.dtype | None = None


_NAMES = {name.text: name for name in (
    _Name("collections.OrderedDict"), _Name("torch._utils._rebuild_tensor_v2"), _Name("torch.FloatStorage", np.dtype("<f4")),
    _Name("torch.LongStorage", np.dtype("<i8")))}


# ---- The machine -----------------------------------------------------------------------------------------------------

def unpickle(file, most=_MOST_INSTRUCTIONS):
    r"""Run the pickle that begins at the position of a binary file object in memory; return (object, {key: Storage}).

    The object is made of dict, list, tuple, str, int, float, bool, None and Tensor; the keys of a dict are str, or int as
    those of an optimizer's state. Raises ValueError for anything else. One step of work for each instruction, of which there
    are at `most` so many: nothing is hashed but text and small numbers, and no tensor takes memory yet.

    >>> unpickle(io.BytesIO(b"\x80\x02}X\1\0\0\0aK\7s."))        # PROTO 2, EMPTY_DICT, BINUNICODE "a", BININT1 7, SETITEM, STOP
    ({'a': 7}, {})
    """
    machine = _Machine()
    for _ in range(most):
        instruction = pickletools.code2op.get(file.read(1).decode("latin-1"))
        action = instruction and _ACTIONS.get(instruction.name)
        if instruction is None:
            raise ValueError("its pickle is cut off, or holds what is no instruction")
        if action is None:
            raise ValueError(f"its pickle uses the instruction {instruction.name}, which no state_dict needs")
        argument = None if instruction.arg is None else instruction.arg.reader(file)
        try:
            action(machine, argument)
            if instruction.name == "STOP":
                return machine.stack[-1], machine.storages
        except (IndexError, KeyError):
            raise ValueError("its pickle takes what it did not make") from None
    raise ValueError(f"its pickle has more than {most:,} instructions")


class _Machine:
    """The stack, the stacks under each mark, the memo, and the storages that were named."""

    def __init__(self):
        self.stack, self.marks, self.memo, self.storages = [], [], {}, {}

    def push(self, value):
        self.stack.append(value)

    def mark(self, _):
        self.marks.append(self.stack)
        self.stack = []

    def since_mark(self):
        """Return what was pushed since the last mark, and forget it."""
        found, self.stack = self.stack, self.marks.pop()
        return found

    def last(self, n):
        """Return the last n, which need not be there, and forget them."""
        found = self.stack[-n:]
        if len(found) < n:
            raise IndexError
        del self.stack[-n:]
        return found

    def put(self, number):
        self.memo[number] = self.stack[-1]

    def extend(self, values):
        if type(self.stack[-1]) is not list:
            raise ValueError("its pickle appends to what is no list")
        self.stack[-1].extend(values)

    def set_items(self, values):
        target = self.stack[-1]
        if type(target) is not dict or len(values) % 2:
            raise ValueError("its pickle sets items of what is no dict")
        for key, value in zip(values[::2], values[1::2]):
            if not (type(key) is str or type(key) is int and 0 <= key < 2**20):
                raise ValueError(f"its pickle holds a dict whose keys are of the type {type(key).__name__}")
            target[key] = value

    def name(self, argument):
        text = argument.replace(" ", ".", 1)
        if text not in _NAMES:
            raise ValueError(f"its pickle names {shortened(text, 80)}, and to use that could run code. Only {', '.join(_NAMES)} may "
                             "be named")
        self.push(_NAMES[text])

    def reduce(self, _):
        """What calls a function in a pickle: here a new dict, or the description of a tensor."""
        function, arguments = self.last(2)
        if function is _NAMES["collections.OrderedDict"] and arguments == ():
            self.push({})
        elif function is _NAMES["torch._utils._rebuild_tensor_v2"] and type(arguments) is tuple and len(arguments) in (6, 7):
            self.push(_tensor(*arguments[:4]))
        else:
            raise ValueError("its pickle calls something in a way that no state_dict needs")

    def build(self, _):
        """What sets the attributes of an object: here the versions of the modules, which a state_dict has with it."""
        attributes, = self.last(1)
        if type(self.stack[-1]) is not dict or type(attributes) is not dict or list(attributes) != ["_metadata"]:
            raise ValueError("its pickle sets attributes of an object")

    def storage(self, _):
        """What stands for something that is not pickled: ("storage", type, key, device, size), and before 1.6 None."""
        (pid,) = self.last(1)
        if type(pid) is not tuple or len(pid) not in (5, 6) or pid[0] != "storage" or pid[5:] not in ((), (None,)):
            raise ValueError("its pickle refers to what is no storage")
        _, kind, key, _, size = pid[:5]
        if type(kind) is not _Name or kind.dtype is None or type(key) is not str or not _is_count(size):
            raise ValueError("its pickle refers to what is no storage")
        found = Storage(key, kind.dtype, size)
        if self.storages.setdefault(key, found) != found:
            raise ValueError(f"its storage {shortened(key, 80)!r} is described in two ways")
        self.push(found)


_ACTIONS = {
    "PROTO": lambda machine, _: None, "STOP": lambda machine, _: None, "MARK": _Machine.mark,
    "NONE": lambda machine, _: machine.push(None), "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False), "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_LIST": lambda machine, _: machine.push([]), "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    **dict.fromkeys(["BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "BINSTRING", "SHORT_BINSTRING"],
                    _Machine.push),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
    "TUPLE1": lambda machine, _: machine.push(tuple(machine.last(1))),
    "TUPLE2": lambda machine, _: machine.push(tuple(machine.last(2))),
    "TUPLE3": lambda machine, _: machine.push(tuple(machine.last(3))),
    "APPEND": lambda machine, _: machine.extend(machine.last(1)), "SETITEM": lambda machine, _: machine.set_items(machine.last(2)),
    "APPENDS": lambda machine, _: machine.extend(machine.since_mark()),
    "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
    "BINPUT": _Machine.put, "LONG_BINPUT": _Machine.put, "BINGET": lambda machine, number: machine.push(machine.memo[number]),
    "LONG_BINGET": lambda machine, number: machine.push(machine.memo[number]),
    "GLOBAL": _Machine.name, "REDUCE": _Machine.reduce, "BUILD": _Machine.build, "BINPERSID": _Machine.storage}


def _is_count(value, most=2**40):
    return type(value) is int and 0 <= value < most


def _tensor(storage, offset, shape, strides):
    """Return a Tensor whose numbers all lie in its storage; of a view that repeats them, no more than the storage has."""
    fits = (type(storage) is Storage and _is_count(offset) and type(shape) is type(strides) is tuple
            and len(shape) == len(strides) <= _MOST_RANK and all(map(_is_count, shape + strides)))
    if fits and 0 not in shape:
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides))
        fits = last < storage.size and math.prod(shape) <= storage.size
    if not fits:
        raise ValueError("one of its tensors does not lie within its storage")
    return Tensor(storage, offset, shape, strides)


# ---- The two forms of a file -----------------------------------------------------------------------------------------

def is_legacy(start):
    """Return whether a file that begins with these bytes is one of PyTorch before 1.6."""
    return start.startswith(_MAGIC)


def read_archive(file, size):
    """Return (object, function of a Tensor that gives its array) of an archive of `size` bytes."""
    archive = Archive(file, size)           # PyTorch packs nothing: together its members are no larger than the file
    roots = [name.removesuffix("data.pkl") for name in archive.names if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(roots) != 1:
        raise ValueError("it is an archive, but none of PyTorch: it holds no data.pkl")
    root, = roots
    pickled = archive.read(root + "data.pkl")
    if len(pickled) > _MOST_PICKLE_BYTES:
        raise ValueError(f"its pickle has {len(pickled):,} bytes, the limit is {_MOST_PICKLE_BYTES:,}")
    content, _ = unpickle(io.BytesIO(pickled))
    order = archive.read(root + "byteorder") if root + "byteorder" in archive.names else b"little"
    if order not in (b"little", b"big"):
        raise ValueError("its byteorder is neither little nor big")
    storages = {}

    def array(tensor):
        key, dtype, count = tensor.storage
        if key not in storages:
            data = archive.read(f"{root}data/{key}")
            if len(data) != count * dtype.itemsize:
                raise ValueError(f"its storage {shortened(key, 80)!r} has {len(data):,} bytes, expected {count * dtype.itemsize:,}")
            storages[key] = np.frombuffer(data, dtype.newbyteorder("<" if order == b"little" else ">"))
        return _view(tensor, storages[key])
    return content, array


def read_legacy(data):
    """Return (object, function of a Tensor that gives its array) of the bytes of a file of PyTorch before 1.6."""
    file = io.BytesIO(data)
    for _ in range(3):          # the magic number, the version, the sizes of types: numbers are little-endian in every file
        unpickle(file, 100)
    content, storages = unpickle(file)
    keys, _ = unpickle(file, _MOST_INSTRUCTIONS // 10)
    if type(keys) is not list or not all(type(key) is str and key in storages for key in keys) or len(set(keys)) < len(keys):
        raise ValueError("the list of its storages is not that of its tensors")
    places, at = {}, file.tell()
    for key in keys:
        size, at = int.from_bytes(data[at:at + 8], "little"), at + 8
        if size != storages[key].size or size * storages[key].dtype.itemsize > len(data) - at:
            raise ValueError(f"it is cut off, or damaged, in its storage {shortened(key, 80)!r}")
        places[key], at = at, at + size * storages[key].dtype.itemsize

    def array(tensor):
        if tensor.storage.key not in places:
            raise ValueError(f"it lacks the storage {shortened(tensor.storage.key, 80)!r}")
        key, dtype, count = tensor.storage
        return _view(tensor, np.frombuffer(data, dtype, count, places[key]))
    return content, array


def _view(tensor, numbers):
    """Return the array of a tensor, read-only, in the numbers of its storage."""
    strides = [stride * numbers.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(numbers[tensor.offset:], tensor.shape, strides, writeable=False)
