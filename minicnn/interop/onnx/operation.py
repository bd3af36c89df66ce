"""One node of an ONNX graph as its handler sees it: inputs, attributes, and the version of the operator."""

import math

import numpy as np

from minicnn.core.text import shortened
from minicnn.errors import InputError
from minicnn.interop.onnx.graph import Known, Tensor, together
from minicnn.interop.onnx.parsing import array_of, attributes_of

__all__ = ["Operation"]

_REQUIRED = object()
MOST_FOLDED = 2**24                 # numbers of one array that is computed while reading
_FLOATS = {1: np.float32, 10: np.float16, 11: np.float64}
_WHOLE = {2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32, 7: np.int64, 9: np.bool_, 12: np.uint32, 13: np.uint64}


class Operation:
    """A node.

    Attributes
    ----------
    graph : Graph that its steps are appended to
    kind : str, the operator
    version : int, the opset of the file
    inputs : list of Known, Tensor, or None where an optional one is left out
    sample : int or None; while constants are computed, for which of Graph.samples
    takers : list of str, the operators that take its first output
    """

    def __init__(self, graph, node, version, inputs, folder, takers):
        self.graph, self.kind, self.version, self.inputs = graph, node.op_type, version, inputs
        self.takers, self.sample, self._names = takers, None, node.input
        self._attributes, self._used = attributes_of(node), set()
        self._folder = folder

    # -- attributes --

    def has(self, name):
        """Whether the node has an attribute."""
        return name in self._attributes

    def attribute(self, name, default=_REQUIRED, kind=None):
        """Return an attribute, of the kind of its default; InputError where it is missing or of another kind."""
        self._used.add(name)
        if name not in self._attributes:
            if default is _REQUIRED:
                raise InputError(f"its attribute {name} is missing")
            return default
        wanted = kind or {int: "int", float: "float", str: "text", list: "ints"}[type(default)]
        found, value = self._attributes[name]
        if found != wanted:
            raise InputError(f"its attribute {name} must be of the kind {wanted}")
        return value

    def ignore(self, *names):
        """Say that attributes change nothing of what is computed here."""
        self._used.update(names)

    def check_attributes(self):
        """Raise InputError for an attribute that the handler did not ask for."""
        for name in self._attributes:
            if name not in self._used:
                raise InputError(f"its attribute {shortened(name, 80)!r} is not supported")

    def array(self, tensor):
        """Return the array of an attribute that is a tensor."""
        return self.graph.held(array_of(tensor, self._folder))

    @staticmethod
    def dtype(code):
        """Return the dtype of a number of TensorProto.DataType."""
        if code not in _FLOATS | _WHOLE:
            raise InputError(f"numbers of the ONNX data type {code} are not supported")
        return (_FLOATS | _WHOLE)[code]

    @staticmethod
    def is_float(code):
        """Whether a number of TensorProto.DataType stands for one of the floats."""
        return code in _FLOATS

    # -- inputs --

    def input(self, i):
        """Return an input, or None where it is left out."""
        return self.inputs[i] if i < len(self.inputs) else None

    def tensor(self, i=0):
        """Return an input that depends on the graph's; InputError where it is a constant or left out."""
        value = self.input(i)
        if not isinstance(value, Tensor):
            raise InputError(f"its input {i} must be computed from the graph's inputs, it is {'left out' if value is None else 'a constant'}")
        return value

    def tensors(self):
        """Return all inputs, constants made to tensors, arranged alike."""
        first = next(value for value in self.inputs if isinstance(value, Tensor))
        return together([self.as_tensor(i, first) for i in range(len(self.inputs))])

    def as_tensor(self, i, like):
        """Return an input; a constant becomes a layer that gives it, in the order of the tensor `like`."""
        value = self.input(i)
        if isinstance(value, Tensor):
            return value
        tensor, array = like.fitted(self.constant(i))
        return Tensor(self.graph, self.graph.constant(array, tensor.step), tensor.order)

    def constant(self, i, default=_REQUIRED):
        """Return an input that is a constant, an ndarray; InputError where it is computed, or depends on the number of samples."""
        value = self.input(i)
        if value is None and default is not _REQUIRED:
            return default
        if not isinstance(value, Known):
            raise InputError(f"its input {i} must be a constant, it is {'left out' if value is None else 'computed from the inputs'}")
        if self.sample is None:
            self.graph.spend(value.at(0).size)
        if self.sample is None and len(value.values) > 1:
            rows = [array[:1] for array in value.values if array.ndim]
            if len(rows) < len(value.values) or any(array.shape[0] != n or (array != rows[0]).any() for array, n in
                                                    zip(value.values, self.graph.samples)):
                raise InputError(f"its input {i} depends on the number of samples")
            return rows[0]                      # the same for each of them
        return value.at(self.sample or 0)

    def is_absent(self, i, value):
        """Whether input i stands for a weight that the layer has not: our own files call it NAME/no_gamma or NAME/no_beta."""
        return i < len(self._names) and self._names[i].endswith(("/no_gamma", "/no_beta")) and bool((self.constant(i) == value).all())

    def numbers(self, name, i, default=_REQUIRED):
        """Return whole numbers as a list: those of an attribute `name`, as in older opsets, or of input i."""
        if self.has(name):
            return self.attribute(name, kind="ints")
        self._used.add(name)
        array = self.constant(i, default)
        if array is default:
            return default
        if array.dtype.kind not in "iu" or array.size > 64:
            raise InputError(f"its {name} must be a few whole numbers")
        return [int(number) for number in array.ravel()]

    def number(self, name, i, default):
        """Return one number: an attribute `name`, as in older opsets, or input i, or the default."""
        if self.has(name):
            return self.attribute(name, kind="float")
        self._used.add(name)
        array = self.constant(i, None)
        if array is None:
            return default
        if array.size != 1 or array.dtype.kind not in "fiub":
            raise InputError(f"its {name} must be one number, got an array of shape {array.shape}")
        return array.reshape(()).item()

    @staticmethod
    def within(axis, rank):
        """Return an axis counted from 0; InputError where there is none."""
        if not -rank <= axis < rank:
            raise InputError(f"axis {axis} of an array of {rank} axes")
        return axis % rank

    def axis(self, tensor, axis):
        """Return an axis of a tensor counted without the samples."""
        return self.graph.axis(axis, tensor.rank)

    def axes(self, tensor, axes):
        """Return axes of a tensor counted without the samples, in order."""
        found = sorted(self.axis(tensor, axis) for axis in axes)
        if len(set(found)) < len(found):
            raise InputError(f"its axes {list(axes)} name one twice")
        return found

    def margins(self, rank):
        """Return ([(before, after) of each axis], value) of a Pad of an array of `rank` axes."""
        pads, value = self.numbers("pads", 1), self.number("value", 2, 0.0)
        axes = self.numbers("axes", 3, None)
        axes = list(range(rank)) if axes is None else [self.within(axis, rank) for axis in axes]
        if len(pads) != 2 * len(axes) or len(set(axes)) < len(axes) or max(map(abs, pads), default=0) > 2**24:
            raise InputError(f"its pads {pads} do not belong to the axes {axes}")
        margins = [(0, 0)] * rank
        for axis, before, after in zip(axes, pads, pads[len(axes):]):
            margins[axis] = before, after
        return margins, value

    def split_sizes(self, size):
        """Return the sizes of the parts that a Split makes of an axis."""
        sizes, count = self.numbers("split", 1, None), self.attribute("num_outputs", 0)
        count = count or self.outputs
        if sizes is None:
            part = -(-size // count)
            sizes = [min(part, size - part * i) for i in range(count)]
        if sum(sizes) != size or min(sizes) < 1 or len(sizes) != self.outputs:
            raise InputError(f"it splits {size} into {sizes}, for {self.outputs} outputs")
        return sizes

    # -- limits --

    def room(self, shape):
        """Return a shape, of an array that is to be computed now, as a tuple; InputError where it is too large."""
        shape = tuple(int(size) for size in np.asarray(shape).ravel())
        if len(shape) > 8 or min(shape, default=0) < 0 or math.prod(shape) > MOST_FOLDED:
            raise InputError(f"a constant of shape {shape} would be computed; at most 8 axes and {MOST_FOLDED:,} numbers are")
        self.graph.spend(math.prod(shape))
        return shape
