"""HDF5 files: the part of the format that Keras writes, read in Python, for a file may come from anyone.

The C library behind h5py is not for that: of 10,000 mutations of a small Keras file 3 crashed the process and 8 ran for
more than 20 seconds (h5py 3.16). pyfive 1.3, which is Python too, took 6 s and 3 GB for some of them, raises errors of any
type, and brings numcodecs and fsspec. Here each length is checked against the file before it is used, and every entry that is
met counts against one limit. Numbers of chapters are those of the HDF5 File Format Specification, version 3. h5py writes.

Read are superblocks of version 0, groups as symbol tables, attributes of text, and arrays in one piece: what h5py writes
unless it is told otherwise, and Keras does not. Everything else is refused by its name: chunks and compression, soft and
external links, external storage, virtual datasets, references.
"""

import io
import math

import numpy as np

from minicnn.core.text import shortened
from minicnn.errors import MissingExtraError

__all__ = ["SIGNATURE", "Dataset", "Group", "encode", "read"]

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_NOWHERE = 2**64 - 1                    # the address of what is not there
_MOST_STEPS = 200_000                   # messages, links and nodes that are looked at, in all
_MOST_DEPTH, _MOST_RANK, _MOST_NAME = 16, 8, 1024
_MOST_BYTES = 2**31                     # of an array
_DTYPES = {(2, 5, 10, 15): "f2", (4, 8, 23, 127): "f4", (8, 11, 52, 1023): "f8", (2, 8, 7, 127): "bfloat16"}
_SHAPE, _TYPE, _EXTERNAL, _LAYOUT, _FILTERS, _ATTRIBUTE, _CONTINUED, _SYMBOLS = 0x01, 0x03, 0x07, 0x08, 0x0B, 0x0C, 0x10, 0x11
_LATER = {0x02: "links", 0x06: "a link", 0x15: "attributes"}        # messages of HDF5 1.8
_WRITE_AGAIN = "which Keras does not write. Write the file again in Keras, or with h5py's defaults"


def read(data):
    """Return the root Group of the bytes of a file; ValueError, here and when it is read from, where it cannot be read.

    >>> read(b"something else")
    Traceback (most recent call last):
    ValueError: it is no HDF5 file
    """
    if not data.startswith(SIGNATURE):
        raise ValueError("it is no HDF5 file")
    file = _File(data)
    if data[8:9] != b"\0":
        raise ValueError(f"its superblock is not of version 0, {_WRITE_AGAIN}")
    if file.take(13, 2) != b"\x08\x08" or file.number(24) != 0:
        raise ValueError("its addresses are not of 8 bytes from the beginning of the file")
    return _object(file, file.number(64), 0, "")


def encode(groups):
    """Return the bytes of a file of {path of a group: ({attribute: str}, {name: array})}; equal content gives equal bytes."""
    try:
        import h5py
    except ImportError:
        raise MissingExtraError("writing Keras files", "h5py", "keras") from None
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for path, (attributes, arrays) in groups.items():
            group = file.require_group(path)
            group.attrs.update(attributes)
            for name, array in arrays.items():
                group.create_dataset(name, data=array)
    return content.getvalue()


class _File:
    """The bytes of a file, and how much of it may still be looked at."""

    def __init__(self, data):
        self.data, self.steps, self.stored = memoryview(data), _MOST_STEPS, len(data)
        self.heaps = {}         # {address of a global heap collection: {index: (begin, size)}}

    def take(self, at, size):
        """Return `size` bytes from address `at`."""
        if at + size > len(self.data):
            raise ValueError("it is cut off, or damaged: an address lies behind its end")
        return bytes(self.data[at:at + size])

    def number(self, at, size=8):
        return int.from_bytes(self.take(at, size), "little")

    def step(self, n=1):
        """Count n entries."""
        self.steps -= n
        if self.steps < 0:
            raise ValueError(f"it has more than {_MOST_STEPS:,} parts, or they go round in a circle")

    def begins(self, at, signature):
        if self.take(at, 4) != signature:
            raise ValueError(f"it is damaged: expected {signature.decode()} at {at}")

    def count(self, size):
        """Count the bytes of an array or a text before they are read: no byte belongs to two."""
        self.stored -= size
        if self.stored < 0:
            raise ValueError("its arrays and texts are larger than the file")


# ---- Objects (IV.A) --------------------------------------------------------------------------------------------------

def _object(file, address, depth, path):
    """Return the Group or the Dataset whose object header lies at an address."""
    if depth > _MOST_DEPTH:
        raise ValueError(f"groups lie more than {_MOST_DEPTH} deep, or in each other")
    file.step()
    messages = list(_messages(file, address))
    for kind, flags, _, _ in messages:
        if kind == _EXTERNAL:
            raise ValueError(f"{_shown(path)} has external storage, which is not read")
        if kind in _LATER:
            raise ValueError(f"{_shown(path)} has {_LATER[kind]} in a later form of HDF5, {_WRITE_AGAIN}")
        if flags & 2 and kind in (_SHAPE, _TYPE, _LAYOUT, _FILTERS, _ATTRIBUTE):
            raise ValueError(f"{_shown(path)} shares a part of its description with others, {_WRITE_AGAIN}")
    is_dataset = _LAYOUT in [message[0] for message in messages]
    return (Dataset if is_dataset else Group)(file, messages, depth, path)


def _messages(file, address):
    """Yield (type, flags, begin, size) of each message of an object header."""
    if file.number(address, 1) != 1:
        raise ValueError(f"it is damaged, or has objects in a later form of HDF5, {_WRITE_AGAIN}")
    blocks = [(address + 16, file.number(address + 8, 4))]
    for begin, size in blocks:          # it grows
        end = begin + size
        while begin + 8 <= end:
            file.step()
            kind, length, flags = file.number(begin, 2), file.number(begin + 2, 2), file.number(begin + 4, 1)
            begin += 8
            if begin + length > end:
                raise ValueError("it is damaged: a message of an object is too long")
            if kind == _CONTINUED:
                blocks.append((file.number(begin), file.number(begin + 8)))
            elif kind:
                yield kind, flags, begin, length
            begin += length


class _Object:
    """What groups and datasets share: attributes of text."""

    def __init__(self, file, messages, depth, path):
        self._file, self._depth, self.path = file, depth, path
        self._messages = {kind: begin for kind, _, begin, _ in messages}        # of each kind the last
        self._attributes = [(begin, size) for kind, _, begin, size in messages if kind == _ATTRIBUTE]

    def text(self, name):
        """Return an attribute of text: a str, or a list of str; None where there is none of this name (IV.A.2.m)."""
        file = self._file
        for begin, size in self._attributes:
            lengths = [file.number(begin + at, 2) for at in (2, 4, 6)]
            place, places = begin + 8, []
            for length in lengths:
                places.append(place)
                place += -(-length // 8) * 8
            if file.number(begin, 1) != 1 or place > begin + size:
                raise ValueError(f"an attribute of {_shown(self.path)} is damaged, or in a later form of HDF5, {_WRITE_AGAIN}")
            if lengths[0] <= _MOST_NAME and file.take(places[0], lengths[0]).rstrip(b"\0") == name.encode():
                return self._strings(name, places[1], _shape(file, places[2]), place, begin + size)
        return None

    def _strings(self, name, datatype, shape, at, end):
        file, n = self._file, math.prod(shape)
        kind, size = file.number(datatype, 1) & 15, file.number(datatype + 4, 4)
        if n == 0:
            return []
        is_long = kind == 9 and file.number(datatype + 1, 1) & 15 == 1
        if kind != 3 and not is_long or n > 2**16 or at + n * size > end or is_long and size != 16:
            raise ValueError(f"the attribute {name} of {_shown(self.path)} is no text")
        file.step(n)
        found = []
        for i in range(n):
            text = self._long(at + i * size) if is_long else file.take(at + i * size, size)
            found.append(text.rstrip(b"\0" if is_long else b"\0 ").decode("utf-8"))
        return found[0] if shape == () else found

    def _long(self, at):
        """Return the bytes of a string of variable length, which lie in a global heap (III.E)."""
        file = self._file
        length, heap, index = file.number(at, 4), file.number(at + 4), file.number(at + 12, 4)
        if length == 0:
            return b""
        if heap not in file.heaps:
            file.begins(heap, b"GCOL")
            objects, begin, end = {}, heap + 16, heap + file.number(heap + 8)
            while begin + 16 <= end:
                file.step()
                number, size = file.number(begin, 2), file.number(begin + 8)
                if number == 0:         # the rest is free
                    break
                objects[number] = (begin + 16, size)
                begin += 16 + -(-size // 8) * 8
            file.heaps[heap] = objects
        begin, size = file.heaps[heap].get(index, (0, 0))
        if length > size:
            raise ValueError("it is damaged: a text is not where it should be")
        file.count(length)
        return file.take(begin, length)


class Group(_Object):
    """A group: `names` of what it holds, in the file's order, and group[name], a Group or a Dataset."""

    def __init__(self, file, messages, depth, path):
        super().__init__(file, messages, depth, path)
        if _SYMBOLS not in self._messages:
            raise ValueError(f"{_shown(path)} is damaged: it is neither a group nor an array")
        self._links = dict(self._symbols())
        self._held = {}         # what was looked up: not by address, for groups may lie in each other

    @property
    def names(self):
        return tuple(self._links)

    def __getitem__(self, name):
        path = f"{self.path}/{name}"
        if name not in self._links:
            raise ValueError(f"there is no {_shown(path)}")
        if self._links[name] is None:
            raise ValueError(f"{_shown(path)} is a soft link, which is not followed")
        if name not in self._held:
            self._held[name] = _object(self._file, self._links[name], self._depth + 1, path)
        return self._held[name]

    def get(self, name):
        """Return group[name], or None where there is none, or where one of the names of a path is no group's."""
        found = self
        for part in name.split("/"):
            if not isinstance(found, Group) or part not in found._links:
                return None
            found = found[part]
        return found

    def _symbols(self):
        """Yield (name, address) of the links, None of a soft one: leaves of a B-tree hold them (III.A.1, III.B, III.C, III.D)."""
        file, at = self._file, self._messages[_SYMBOLS]
        tree, heap = file.number(at), file.number(at + 8)
        file.begins(heap, b"HEAP")
        size, names = file.number(heap + 8), file.number(heap + 24)
        for leaf in _leaves(file, tree):
            file.begins(leaf, b"SNOD")
            for entry in range(leaf + 8, leaf + 8 + 40 * file.number(leaf + 6, 2), 40):
                file.step()
                offset = file.number(entry)
                text = file.take(names + offset, max(0, min(_MOST_NAME, size - offset, len(file.data) - names - offset)))
                if b"\0" not in text:
                    raise ValueError(f"a name in {_shown(self.path)} is damaged")
                is_soft = file.number(entry + 16, 4) == 2
                yield text.split(b"\0")[0].decode("utf-8"), None if is_soft else file.number(entry + 8)


def _leaves(file, address):
    """Yield the addresses that the B-tree of a group leads to, in order (III.A.1)."""
    waiting = [(address, None)]
    while waiting:
        at, level = waiting.pop()
        file.step()
        file.begins(at, b"TREE")
        own, n = file.number(at + 5, 1), file.number(at + 6, 2)
        if file.number(at + 4, 1) != 0 or level not in (None, own):
            raise ValueError("it is damaged: a tree has other branches than it says")
        file.step(n)
        children = [file.number(at + 32 + 16 * i) for i in range(n)]
        if own:
            waiting += [(child, own - 1) for child in reversed(children)]
        else:
            yield from children


class Dataset(_Object):
    """An array of numbers.

    Attributes
    ----------
    shape : tuple of int
    """

    def __init__(self, file, messages, depth, path):
        super().__init__(file, messages, depth, path)
        if not {_SHAPE, _TYPE} <= set(self._messages):
            raise ValueError(f"{_shown(path)} is damaged: it has no shape, or no type")
        self.shape = _shape(file, self._messages[_SHAPE])

    def array(self):
        """Return the array, native float or integer; read-only."""
        dtype, is_short = self._dtype()
        count = math.prod(self.shape)
        array = np.frombuffer(self._content(count * dtype.itemsize) if count else b"", dtype).reshape(self.shape)
        if is_short:        # bfloat16: the upper half of a float32
            return (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return array.astype(dtype.newbyteorder("="), copy=False)

    def _dtype(self):
        """Return (dtype, whether it stands for bfloat16) (IV.A.2.d)."""
        file, at = self._file, self._messages[_TYPE]
        kind, bits, size = file.number(at, 1) & 15, file.number(at + 1, 1), file.number(at + 4, 4)
        order, found = ">" if bits & 1 else "<", None
        if kind == 0 and size in (1, 2, 4, 8):
            found = f"{'i' if bits & 8 else 'u'}{size}"
        elif kind == 1 and not bits & 64:
            found = _DTYPES.get((size, file.number(at + 13, 1), file.number(at + 15, 1), file.number(at + 16, 4)))
        elif kind == 5 and size == 2 and self.text("dtype") == "bfloat16":
            found = "bfloat16"
        if found is None:
            raise ValueError(f"{_shown(self.path)} holds no numbers that are read, but a type of class {kind} and {size} bytes")
        return np.dtype(order + ("u2" if found == "bfloat16" else found)), found == "bfloat16"

    def _content(self, size):
        """Return the bytes of the array, `size` of them, which lie in one piece (IV.A.2.i)."""
        file, at = self._file, self._messages[_LAYOUT]
        version, kind = file.number(at, 1), file.number(at + 1, 1)
        if kind == 3:
            raise ValueError(f"{_shown(self.path)} is a virtual dataset, which is not read")
        if (version, kind) != (3, 1) or _FILTERS in self._messages:
            raise ValueError(f"{_shown(self.path)} is stored in chunks, compressed, or in another form, {_WRITE_AGAIN}")
        begin, there = file.number(at + 2), file.number(at + 10)
        if there < size or begin == _NOWHERE:
            raise ValueError(f"{_shown(self.path)} is damaged: it has not the bytes of its shape")
        file.count(size)
        file.take(begin + size, 0)          # it does not end behind the file
        return file.data[begin:begin + size]


def _shape(file, at):
    """Return the shape that a dataspace message says (IV.A.2.b)."""
    version, rank = file.number(at, 1), file.number(at + 1, 1)
    if version != 1:
        raise ValueError(f"it is damaged, or has arrays in a later form of HDF5, {_WRITE_AGAIN}")
    if rank > _MOST_RANK:
        raise ValueError(f"an array has {rank} axes, only {_MOST_RANK} are read")
    shape = tuple(file.number(at + 8 + 8 * i) for i in range(rank))
    if math.prod(max(n, 1) for n in shape) > _MOST_BYTES:
        raise ValueError("an array is larger than any that is read")
    return shape


def _shown(path):
    """Return the path of an object as an error tells it."""
    return repr(shortened(path[1:], 100)) if path else "the file"
