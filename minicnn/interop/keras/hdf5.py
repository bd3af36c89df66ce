"""HDF5 files: the part of the format that Keras writes, read in Python, for a file may come from anyone.

The C library behind h5py is not for that: of 10,000 mutations of a small Keras file 3 crashed the process and 8 ran for
more than 20 seconds (h5py 3.16). Here each length is checked against the file before it is used, every entry that is met
counts against one limit, and data are unpacked up to a limit. Numbers of chapters are those of the HDF5 File Format
Specification, version 3. h5py writes.

Read are superblocks 0 to 3; groups as symbol tables or compact links; hard links; attributes of text; arrays that are compact,
contiguous or chunked with a B-tree of version 1, packed by gzip, shuffle and fletcher32. Everything else is refused by its
name: soft and external links, external storage, virtual datasets, references.
"""

import io
import math
import re
import zlib

import numpy as np

from minicnn.errors import MissingExtraError, printable

__all__ = ["SIGNATURE", "Dataset", "Group", "encode", "read"]

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_NOWHERE = 2**64 - 1                    # the address of what is not there
_MOST_STEPS = 200_000                   # messages, links, nodes and chunks that are looked at, in all
_MOST_DEPTH, _MOST_RANK, _MOST_NAME = 16, 8, 1024
_MOST_UNPACKED = 2**31
_DTYPES = {(1, 2, 5, 10, 15): "f2", (1, 4, 8, 23, 127): "f4", (1, 8, 11, 52, 1023): "f8", (1, 2, 8, 7, 127): "bfloat16"}
_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32"}


def read(data):
    """Return the root Group of the bytes of a file; ValueError, here and when it is read from, where it cannot be read.

    >>> read(b"something else")
    Traceback (most recent call last):
    ValueError: it is no HDF5 file
    """
    if not data.startswith(SIGNATURE):
        raise ValueError("it is no HDF5 file")
    file, version = _File(data), data[8] if len(data) > 8 else 255
    if version > 3:
        raise ValueError(f"its superblock has version {version}, only 0 to 3 are read")
    sizes, base, root = ((13, 24, 64), (13, 28, 68), (9, 12, 36), (9, 12, 36))[version]
    if file.take(sizes, 2) != b"\x08\x08" or file.number(base) != 0:
        raise ValueError("its addresses are not of 8 bytes from the beginning of the file")
    return _object(file, file.number(root), 0, "")


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
            for name, value in attributes.items():
                group.attrs[name] = value
            for name, array in arrays.items():
                group.create_dataset(name, data=array)
    return content.getvalue()


class _File:
    """The bytes of a file, and how much of it may still be looked at."""

    def __init__(self, data):
        self.data, self.steps, self.stored = memoryview(data), _MOST_STEPS, len(data)
        self.unpacked = min(2**20 + 200 * len(data), _MOST_UNPACKED)
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

    def count(self, stored, unpacked=0):
        """Count bytes of arrays before they are read: no byte belongs to two, and none unpacks to too much."""
        self.stored, self.unpacked = self.stored - stored, self.unpacked - unpacked
        if self.stored < 0 or self.unpacked < 0:
            raise ValueError("its arrays are larger than the file, or unpack to more than is plausible")


# ---- Objects (IV.A) --------------------------------------------------------------------------------------------------

def _object(file, address, depth, path):
    """Return the Group or the Dataset whose object header lies at an address."""
    if depth > _MOST_DEPTH:
        raise ValueError(f"groups lie more than {_MOST_DEPTH} deep, or in each other")
    file.step()
    messages = list(_messages(file, address))
    for kind, flags, begin, _ in messages:
        if kind == 0x07:
            raise ValueError(f"{_shown(path)} has external storage, which is not read")
        if flags & 2 and kind in (0x01, 0x03, 0x08, 0x0B):
            raise ValueError(f"{_shown(path)} shares a part of its description with others, which is not read")
    kinds = {message[0] for message in messages}
    return (Dataset if 0x08 in kinds else Group)(file, messages, depth, path)


def _messages(file, address):
    """Yield (type, flags, begin, size) of each message of an object header, of either version."""
    if file.take(address, 4) == b"OHDR":
        flags = file.number(address + 5, 1)
        width, at = 1 << (flags & 3), address + 6 + 16 * bool(flags & 0x20) + 4 * bool(flags & 0x10)
        blocks = [(at + width, file.number(at, width))]
        head, sizes, tail = 4 + 2 * bool(flags & 4), (1, 2, 1), 4        # tail: the checksum of a continuation
    elif file.number(address, 1) == 1:
        blocks = [(address + 16, file.number(address + 8, 4))]
        head, sizes, tail = 8, (2, 2, 1), 0
    else:
        raise ValueError("it is damaged: there is no object where a link leads")
    for begin, size in blocks:          # it grows
        end = begin + size
        while begin + head <= end:
            file.step()
            kind = file.number(begin, sizes[0])
            length = file.number(begin + sizes[0], 2)
            flags = file.number(begin + sizes[0] + 2, 1)
            begin += head
            if begin + length > end:
                raise ValueError("it is damaged: a message of an object is too long")
            if kind == 0x10:
                at, size = file.number(begin), file.number(begin + 8)
                if tail:
                    file.begins(at, b"OCHK")
                blocks.append((at + tail, size - 2 * tail))
            elif kind:
                yield kind, flags, begin, length
            begin += length


class _Object:
    """What groups and datasets share: attributes of text."""

    def __init__(self, file, messages, depth, path):
        self._file, self._depth, self.path = file, depth, path
        self._messages = {kind: begin for kind, _, begin, _ in messages}        # of each kind the last
        self._all = messages

    def text(self, name):
        """Return an attribute of text: a str, or a list of str; None where there is none of this name (IV.A.2.m)."""
        file = self._file
        info = self._messages.get(0x15)
        if info is not None and file.number(info + 2 + 2 * (file.number(info + 1, 1) & 1)) != _NOWHERE:
            raise ValueError(f"{_shown(self.path)} has its attributes in a dense storage, which is not read")
        for kind, flags, begin, size in self._all:
            if kind != 0x0C or flags & 2:
                continue
            version, end = file.number(begin, 1), begin + size
            lengths = [file.number(begin + at, 2) for at in (2, 4, 6)]
            at, step = begin + 8 + (version == 3), 8 if version == 1 else 1
            places = []
            for length in lengths:
                places.append(at)
                at += -(-length // step) * step
            if version not in (1, 2, 3) or at > end:
                raise ValueError(f"an attribute of {_shown(self.path)} is damaged")
            if lengths[0] <= _MOST_NAME and file.take(places[0], lengths[0]).rstrip(b"\0") == name.encode():
                if version > 1 and file.number(begin + 1, 1) & 3:
                    raise ValueError(f"the attribute {name} of {_shown(self.path)} has a shared type")
                return self._strings(name, places[1], _shape(file, places[2]), at, end)
        return None

    def _strings(self, name, datatype, shape, at, end):
        file = self._file
        kind, size = file.number(datatype, 1) & 15, file.number(datatype + 4, 4)
        n = 0 if shape is None else math.prod(shape)
        if n == 0:
            return []
        is_long = kind == 9 and file.number(datatype + 1, 1) & 15 == 1
        if kind != 3 and not is_long or n > 2**16 or at + n * size > end or is_long and size != 16:
            raise ValueError(f"the attribute {name} of {_shown(self.path)} is no text")
        file.step(n)
        found = []
        for i in range(n):
            text = self._long(at + i * size) if is_long else file.take(at + i * size, size)
            found.append(text.rstrip(b"\0 " if not is_long else b"\0").decode("utf-8"))
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
        file.count(0, length)
        return file.take(begin, length)


class Group(_Object):
    """A group: `names` of what it holds, in the file's order, and group[name], a Group or a Dataset."""

    def __init__(self, file, messages, depth, path):
        super().__init__(file, messages, depth, path)
        self._links = dict(self._symbols() if 0x11 in self._messages else self._compact())
        self._held = {}         # what was looked up: not by address, for groups may lie in each other

    @property
    def names(self):
        return tuple(self._links)

    def __getitem__(self, name):
        if name not in self._links:
            raise ValueError(f"there is no {_shown(f'{self.path}/{name}')}")
        address = self._links[name]
        if isinstance(address, str):
            raise ValueError(f"{_shown(f'{self.path}/{name}')} is {address} link, which is not followed")
        if name not in self._held:
            self._held[name] = _object(self._file, address, self._depth + 1, f"{self.path}/{name}")
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
        """Yield (name, address) of the symbol table: a B-tree whose leaves hold the links (III.A.1, III.B, III.D)."""
        file, at = self._file, self._messages[0x11]
        tree, heap = file.number(at), file.number(at + 8)
        file.begins(heap, b"HEAP")
        names, size = file.number(heap + 24), file.number(heap + 8)
        for leaf in _leaves(file, tree, 0, 8):
            file.begins(leaf, b"SNOD")
            for entry in range(leaf + 8, leaf + 8 + 40 * file.number(leaf + 6, 2), 40):
                file.step()
                offset = file.number(entry)
                text = file.take(names + offset, max(0, min(_MOST_NAME, size - offset, len(file.data) - names - offset)))
                if b"\0" not in text:
                    raise ValueError(f"a name in {_shown(self.path)} is damaged")
                is_soft = file.number(entry + 16, 4) == 2
                yield text.split(b"\0")[0].decode("utf-8"), "a soft" if is_soft else file.number(entry + 8)

    def _compact(self):
        """Yield (name, address) of the links that stand in the object header itself (IV.A.2.g)."""
        file, info = self._file, self._messages.get(0x02)
        if info is not None and file.number(info + 2 + 8 * (file.number(info + 1, 1) & 1)) != _NOWHERE:
            raise ValueError(f"{_shown(self.path)} has its links in a dense storage, which is not read")
        for kind, _, at, _ in self._all:
            if kind != 0x06:
                continue
            flags, at = file.number(at + 1, 1), at + 2
            link = file.number(at, 1) if flags & 8 else 0
            at += bool(flags & 8) + 8 * bool(flags & 4) + bool(flags & 16)
            width = 1 << (flags & 3)
            size, at = file.number(at, width), at + width
            if size > _MOST_NAME:
                raise ValueError(f"a name in {_shown(self.path)} is too long")
            name = file.take(at, size).decode("utf-8")
            yield name, file.number(at + size) if link == 0 else "a soft" if link == 1 else "an external"


class Dataset(_Object):
    """An array of numbers.

    Attributes
    ----------
    shape : tuple of int
    """

    def __init__(self, file, messages, depth, path):
        super().__init__(file, messages, depth, path)
        if not {0x01, 0x03} <= set(self._messages):
            raise ValueError(f"{_shown(path)} is damaged: it has no shape, or no type")
        self.shape = _shape(file, self._messages[0x01])

    def array(self):
        """Return the array, native float or integer; read-only."""
        if self.shape is None:
            raise ValueError(f"{_shown(self.path)} is empty")
        dtype, is_short = self._dtype()
        count = math.prod(self.shape)
        content = self._content(dtype, count * dtype.itemsize) if count else b""
        array = np.frombuffer(content, dtype, count).reshape(self.shape)
        if is_short:        # bfloat16: the upper half of a float32
            return (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return array.astype(dtype.newbyteorder("="), copy=False)

    def _dtype(self):
        """Return (dtype, whether it stands for bfloat16) (IV.A.2.d)."""
        file, at = self._file, self._messages[0x03]
        kind, bits, size = file.number(at, 1) & 15, file.number(at + 1, 1), file.number(at + 4, 4)
        order, found = ">" if bits & 1 else "<", None
        if kind == 0 and size in (1, 2, 4, 8):
            found = f"{'i' if bits & 8 else 'u'}{size}"
        elif kind == 1 and not bits & 64:
            found = _DTYPES.get((1, size, file.number(at + 13, 1), file.number(at + 15, 1), file.number(at + 16, 4)))
        elif kind == 5 and size == 2 and self.text("dtype") == "bfloat16":
            found = "bfloat16"
        if found is None:
            raise ValueError(f"{_shown(self.path)} holds no numbers that are read, but a type of class {kind} and {size} bytes")
        return np.dtype(order + ("u2" if found == "bfloat16" else found)), found == "bfloat16"

    def _content(self, dtype, size):
        """Return the bytes of the array, `size` of them (IV.A.2.i)."""
        file, at = self._file, self._messages[0x08]
        version, kind = file.number(at, 1), file.number(at + 1, 1)
        if kind == 3:
            raise ValueError(f"{_shown(self.path)} is a virtual dataset, which is not read")
        if version not in (3, 4) or kind > 2 or kind == 2 and version == 4:
            raise ValueError(f"{_shown(self.path)} is stored in a newer or older way, which is not read")
        if kind == 2:
            return self._chunked(dtype, size, at)
        begin, there = (at + 4, file.number(at + 2, 2)) if kind == 0 else (file.number(at + 2), file.number(at + 10))
        if 0x0B in self._messages or there < size or begin == _NOWHERE:
            raise ValueError(f"{_shown(self.path)} is damaged: it has not the bytes of its shape")
        file.count(size)
        file.take(begin + size, 0)          # it does not end behind the file
        return file.data[begin:begin + size]

    def _chunked(self, dtype, size, at):
        """Return the bytes of an array that lies in chunks, in C order (III.A.1, IV.A.2.l)."""
        file, rank, filters = self._file, len(self.shape), self._filters()
        tree = file.number(at + 3)
        sides = [file.number(at + 11 + 4 * i, 4) for i in range(rank + 1)]
        if file.number(at + 2, 1) != rank + 1 or 0 in sides or sides[-1] != dtype.itemsize:
            raise ValueError(f"{_shown(self.path)} is damaged: its chunks have another shape")
        shape, chunk = tuple(sides[:-1]), math.prod(sides)
        expected = math.prod(-(-n // side) for n, side in zip(self.shape, shape))
        file.count(0, size + expected * chunk)
        width = 8 + 8 * (rank + 1)
        leaves = list(_leaves(file, tree, 1, width, keys=True))
        if len(leaves) != expected:
            raise ValueError(f"{_shown(self.path)} has {len(leaves):,} of its {expected:,} chunks")
        y = np.zeros(self.shape, dtype)
        for key, begin in leaves:
            stored, mask = file.number(key, 4), file.number(key + 4, 4)
            place = [file.number(key + 8 + 8 * i) for i in range(rank)]
            if any(first % side or first >= n for first, side, n in zip(place, shape, self.shape)):
                raise ValueError(f"{_shown(self.path)} is damaged: a chunk lies outside of it")
            file.count(stored)
            content = _unpacked(file.take(begin, stored), chunk, [one for i, one in enumerate(filters) if not mask >> i & 1])
            here = tuple(slice(first, first + side) for first, side in zip(place, shape))
            y[here] = np.frombuffer(content, dtype).reshape(shape)[tuple(map(slice, y[here].shape))]
        return y.reshape(-1).view(np.uint8).data

    def _filters(self):
        """Return the numbers of the filters that chunks went through, and what they were told (IV.A.2.l)."""
        file, at = self._file, self._messages.get(0x0B)
        if at is None:
            return []
        version, n, found = file.number(at, 1), file.number(at + 1, 1), []
        at += 8 if version == 1 else 2
        for _ in range(n):
            number = file.number(at, 2)
            if number not in _FILTERS or version not in (1, 2):
                raise ValueError(f"{_shown(self.path)} is packed by filter number {number}, only "
                                 f"{', '.join(_FILTERS.values())} are read")
            named = version == 1            # in version 2 such a filter has no name
            name, values = file.number(at + 2, 2) if named else 0, file.number(at + 4 + 2 * named, 2)
            at += 6 + 2 * named + -(-name // 8) * 8
            found.append((number, file.number(at, 4) if values else 0))
            at += 4 * values + 4 * (values % 2 if named else 0)
        return found


def _unpacked(content, size, filters):
    """Return the `size` bytes of a chunk from what is stored of it: the filters, backwards."""
    for number, value in reversed(filters):
        if number == 1:
            unpacking = zlib.decompressobj()
            try:
                content = unpacking.decompress(content, size + 4)       # with a checksum, where that came first
            except zlib.error as error:
                raise ValueError(f"a chunk cannot be unpacked ({error})") from None
        elif number == 2 and value > 1:
            whole = len(content) // value * value
            content = np.frombuffer(content[:whole], np.uint8).reshape(value, -1).T.tobytes() + content[whole:]
        elif number == 3:
            content = content[:-4]          # the checksum is not compared
    if len(content) != size:
        raise ValueError("a chunk is damaged: it has another length")
    return content


def _leaves(file, address, kind, key, keys=False):
    """Yield what a B-tree of version 1 leads to, in order: addresses, or (place of the key, address) (III.A.1)."""
    waiting = [(address, None)]
    while waiting:
        at, level = waiting.pop()
        file.step()
        file.begins(at, b"TREE")
        own = file.number(at + 5, 1)
        if file.number(at + 4, 1) != kind or level not in (None, own):
            raise ValueError("it is damaged: a tree has other branches than it says")
        entries = [at + 24 + i * (key + 8) for i in range(file.number(at + 6, 2))]
        file.step(len(entries))
        children = [(entry, file.number(entry + key)) for entry in entries]
        if own:
            waiting += [(child, own - 1) for _, child in reversed(children)]
        else:
            yield from (children if keys else (child for _, child in children))


def _shape(file, at):
    """Return the shape that a dataspace message says; None where there is nothing (IV.A.2.b)."""
    version, rank, kind = file.number(at, 1), file.number(at + 1, 1), file.number(at + 3, 1)
    if version not in (1, 2) or rank > _MOST_RANK:
        raise ValueError(f"an array has {rank} axes, only {_MOST_RANK} are read")
    if version == 2 and kind == 2:
        return None
    begin = at + (8 if version == 1 else 4)
    shape = tuple(file.number(begin + 8 * i) for i in range(rank))
    if math.prod(max(n, 1) for n in shape) > _MOST_UNPACKED:
        raise ValueError("an array is larger than any that is read")
    return shape


def _shown(path):
    """Return the path of an object as an error tells it."""
    path = re.sub("^/", "", printable(path))
    return repr(path if len(path) <= 100 else f"{path[:99]}…") if path else "the file"
