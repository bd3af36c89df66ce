"""ONNX in: a file becomes a Model that computes the same, trains on, and takes images as channels-last arrays."""

import re
import warnings
from pathlib import Path

import numpy as np

from minicnn.core.text import join, shortened
from minicnn.core.untrusted import parse_json, raising
from minicnn.data.labels import check_classes
from minicnn.data.preprocessing import Preprocessing
from minicnn.errors import InputError, MiniCNNError, WeightsError, printable
from minicnn.interop.onnx.folding import FOLDED, shape_slice
from minicnn.interop.onnx.graph import CHANNELS_LAST, Graph, Known, Start, Tensor
from minicnn.interop.onnx.operation import Operation
from minicnn.interop.onnx.operators import OPERATORS, PASSING
from minicnn.interop.onnx.parsing import MOST_RANK, array_of, check_text, read_model
from minicnn.interop.onnx.patterns import simplified
from minicnn.layers.naming import numbered
from minicnn.layers.nodes import Block, Input, connect
from minicnn.model import Model, Sequential

__all__ = ["load"]

_OLDEST_OPSET = 7
_MOST_NODES, _MOST_INPUTS, _MOST_LAYERS = 10_000, 1000, 1000           # a model file holds 1,000 layers
_SAMPLES = (3, 5, 1009)             # numbers of samples that shapes are computed for, where there may be any number


def load(path, batch_axis=0, shapes=None, engine=None, seed=0):
    """Return the Model, or Sequential, of an ONNX file of opset 7 or later.

    Images are (N, H, W, C) for the model, whatever they are in the file. An input of four axes is taken to be (N, H, W, C) in
    the file where it goes to a Transpose to (N, C, H, W) before it goes to an operator for images, and (N, C, H, W) otherwise;
    then the model takes (H, W, C), and what it puts out with four axes is turned likewise. Where it goes to neither, our own files
    say so, and else there are 1, 3 or 4 channels. All other arrays have the file's order of axes. An input of uint8 that the file
    casts to a float and divides by 255 is the model's own pixels: it divides uint8 by 255 itself.

    Layers are called like the nodes. Weights that several nodes share are given to each of their layers, which a warning says;
    so it does of outputs that are left out, such as the statistics of a BatchNormalization. What the file computes of constants
    is computed once. Nothing that stands in the file runs.

    Parameters
    ----------
    path : str or Path; data outside of the file may lie in other files of its folder
    batch_axis : 0, the axis of the samples of all inputs and outputs, whose size may be anything; or None: the arrays of the
        file have none, and each is one sample
    shapes : {name of an input: tuple}, the sizes of all its axes, for a file that leaves some open; None for any number of samples
    engine, seed : as of Model

    Raises
    ------
    WeightsError : a file that is missing, damaged, or refers to others outside of its folder; weights that are NaN or infinite
    InputError : a graph with what has no layer here; the error tells each node and why
    MissingExtraError : without the library onnx

    >>> import tempfile, onnx
    >>> from onnx import helper
    >>> x, y = (helper.make_tensor_value_info(name, 1, ["N", 4]) for name in "xy")
    >>> graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], "relu_1")], "example", [x], [y])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = onnx.save(helper.make_model(graph), f"{folder}/model.onnx")
    ...     model = load(f"{folder}/model.onnx")
    >>> model.predict(np.array([[-1.0, 2.0, -3.0, 4.0]])).tolist(), model.layers[0].name
    ([[0.0, 2.0, 0.0, 4.0]], 'relu_1')
    """
    if batch_axis not in (0, None) or isinstance(batch_axis, bool):
        raise InputError(f"load: batch_axis must be 0 or None, got {printable(repr(batch_axis))[:80]}.")
    proto = read_model(path)
    with np.errstate(all="ignore"):         # numbers that are not finite are looked for in the weights
        return _Reader(path, proto, batch_axis == 0, dict(shapes or {})).model(engine, seed)


class _Reader:
    """A file under way to a model."""

    def __init__(self, path, proto, batched, shapes):
        self.path, self.proto, self.batched, self.shapes = printable(path), proto, batched, shapes
        self.folder, self.problems, self.remarks = Path(path).parent, [], []
        self.values, self.lost = {}, {}         # {name: Known or Tensor}; {name: why there is none, or ""}
        self.initializers, self.takers, self.makers = {}, {}, {}

    def model(self, engine, seed):
        """Return the model."""
        self._check()
        self._begin()
        for node in self.proto.graph.node:
            self._read(node)
        outputs = self._ends()
        if self.problems:
            more = len(self.problems) - 20
            raise InputError("\n  ".join([f"{self.path}: {len(self.problems)} problem{'s' * (len(self.problems) > 1)}",
                                          *self.problems[:20], *[f"... and {more} more"] * (more > 0)]))
        try:
            model = self._built(*simplified(self.graph, outputs), engine, seed)
        except WeightsError as error:
            raise WeightsError(f"{self.path}: {error}") from None
        except MiniCNNError as error:
            raise InputError(f"{self.path}: {error}") from None
        self._take_metadata(model)
        if self.remarks:
            warnings.warn(f"{self.path}: {' '.join(self.remarks)}", UserWarning, stacklevel=4)
        return model

    # -- the file --

    def _check(self):
        """Raise for a file that is refused as a whole; note what takes each array."""
        graph = self.proto.graph
        versions = [opset.version for opset in self.proto.opset_import if opset.domain in ("", "ai.onnx")]
        import onnx
        newest = onnx.defs.onnx_opset_version()
        if len(versions) != 1 or not _OLDEST_OPSET <= versions[0] <= newest:
            got = join(map(str, versions)) or "none"
            raise InputError(f"{self.path}: expected one opset from {_OLDEST_OPSET} to {newest}, which this onnx knows, got {got}. "
                             "Export it with another opset, such as 17.")
        self.version = versions[0]
        if len(graph.node) > _MOST_NODES:
            raise InputError(f"{self.path}: it has {len(graph.node):,} nodes, at most {_MOST_NODES:,} are read.")
        if graph.sparse_initializer:
            raise InputError(f"{self.path}: it has sparse weights, which are not supported. Write them as dense ones.")
        with raising(WeightsError, self.path, "The file is damaged."):
            check_text(*(text for values in (graph.input, graph.output, graph.initializer) for value in values
                         for text in (value.name, value.doc_string)),
                       *(name for node in graph.node for name in (node.name, node.op_type, node.domain, *node.input, *node.output)),
                       *(text for entry in self.proto.metadata_props for text in (entry.key, entry.value)))
        for tensor in graph.initializer:
            if tensor.name in self.initializers:
                raise WeightsError(f"{self.path}: two initializers are called {shortened(tensor.name, 80)!r}.")
            self.initializers[tensor.name] = tensor
        for node in graph.node:
            for name in node.input:
                self.takers.setdefault(name, []).append(node)
            self.makers.update(dict.fromkeys(node.output, node.name))

    def _begin(self):
        """Make the graph and its inputs."""
        inputs = [value for value in self.proto.graph.input if value.name not in self.initializers]
        names = [value.name for value in inputs]
        if not inputs or len(set(names)) < len(names):
            raise InputError(f"{self.path}: it has no input, or two of one name.")
        for name in self.shapes:
            if name not in names:
                raise InputError(f"load: shapes: there is no input {printable(name)!r}, only {join(map(repr, map(printable, names)))}.")
        sizes = [self._sizes(value) for value in inputs]
        fixed = {size[0] for size in sizes} - {None} if self.batched else set()
        if len(fixed) > 1:
            raise InputError(f"{self.path}: its inputs have {join(map(str, sorted(fixed)))} samples. Where their arrays have no axis of "
                             "samples, read it with batch_axis=None.")
        self.graph = Graph((tuple(fixed) or _SAMPLES) if self.batched else ())
        self.inputs, self.turned = [], False        # whether an image is channels first in the file
        for value, size in zip(inputs, sizes):
            shape, kind = size[self.batched:], value.type.tensor_type.elem_type
            order = tuple(range(len(shape)))
            if self.batched and len(shape) == 3 and not self._is_channels_last(value, shape):
                order = CHANNELS_LAST
            if kind != 2 and not Operation.is_float(kind):
                raise InputError(f"{self.path}: input {shortened(value.name, 80)!r} holds numbers of the ONNX data type {kind}; floats "
                                 "are supported, and uint8 pixels.")
            step = self.graph.step(Start, [], shape=tuple(shape[axis] for axis in order) or (1,), name=value.name)
            self.inputs.append(step)
            self.values[value.name] = Tensor(self.graph, step, order, pixels=kind == 2)
            self.turned |= order == CHANNELS_LAST

    def _sizes(self, value):
        """Return the sizes of all axes of an input, None for a number of samples that may be any."""
        name, label = value.name, f"input {shortened(value.name, 80)!r}"
        if value.type.WhichOneof("value") != "tensor_type":
            raise InputError(f"{self.path}: {label} is no tensor; sequences and the like are not supported.")
        known = value.type.tensor_type
        dims = list(known.shape.dim)
        given = self.shapes.get(name)
        if given is not None:
            given = tuple(given)
            if known.HasField("shape") and len(given) != len(dims):
                raise InputError(f"load: shapes: {label} has {len(dims)} axes, got {given}.")
            for i, size in enumerate(given):
                if size is None and self.batched and i == 0:
                    continue
                if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or not 1 <= size < 2**31:
                    raise InputError(f"load: shapes: {label} must have whole sizes, and None for the samples, got {given}.")
                fixed = dims[i].dim_value if i < len(dims) else 0
                if fixed > 0 and fixed != size and not (self.batched and i == 0):
                    raise InputError(f"load: shapes: axis {i} of {label} has the size {fixed} in the file, got {given}.")
            sizes = list(given)
        elif not known.HasField("shape"):
            raise InputError(f"{self.path}: {label} has no shape in the file. Give it: shapes={{{shortened(name, 80)!r}: (None, 224, 224, 3)}}.")
        else:
            sizes = [dim.dim_value if dim.dim_value > 0 else None for dim in dims]
        if len(sizes) > MOST_RANK or self.batched and not sizes:
            raise InputError(f"{self.path}: {label} has {len(sizes)} axes; 1 to {MOST_RANK} are read, and batch_axis=None reads it without "
                             "an axis of samples.")
        for i, size in enumerate(sizes):
            if size is None and not (self.batched and i == 0):
                symbol = f" ({shortened(dims[i].dim_param, 40)!r})" if dims[i].dim_param else ""
                example = tuple("None" if self.batched and j == 0 else one or "..." for j, one in enumerate(sizes))
                raise InputError(f"{self.path}: axis {i} of {label}{symbol} has no fixed size. Give the sizes: shapes={{"
                                 f"{shortened(name, 80)!r}: ({', '.join(map(str, example))})}}.")
        return sizes

    def _is_channels_last(self, value, shape):
        """Whether an input of four axes is (N, H, W, C) in the file: the first operator that cares for the order tells.

        Where there is none, our exporter wrote it into the documentation of the input.
        """
        waiting, seen = [value.name], {value.name}
        while waiting:
            for node in self.takers.get(waiting.pop(0), ()):
                if node.op_type == "Transpose":
                    perm = next((list(attribute.ints) for attribute in node.attribute if attribute.name == "perm"), None)
                    return perm == [0, 3, 1, 2]
                if node.op_type in _OF_IMAGES:
                    return False
                if node.op_type not in _OF_ROWS:
                    waiting += [output for output in node.output if output not in seen]
                    seen.update(node.output)
        if value.doc_string.startswith(("(N, H, W, C)", "(N, C, H, W)")):
            return value.doc_string.startswith("(N, H, W, C)")
        return shape[0] not in (1, 3, 4) and shape[2] in (1, 3, 4)      # nothing tells: the channels are few

    # -- the nodes --

    def _value(self, name):
        """Return what a name stands for; a WeightsError where there is nothing."""
        if name not in self.values and name in self.initializers:
            try:
                self.values[name] = Known([self.graph.held(array_of(self.initializers[name], self.folder))])
            except (OSError, ValueError) as error:
                reason = printable(getattr(error, "strerror", None) or error)
                raise WeightsError(f"{self.path}: initializer {shortened(name, 80)!r} cannot be read ({reason}).") from None
        if name not in self.values:
            raise WeightsError(f"{self.path}: nothing before it makes {shortened(name, 80)!r}, which a node takes. The file is damaged, or "
                               "its nodes go in a circle.")
        return self.values[name]

    def _read(self, node):
        """Compute a node: as constants, or as steps of the graph."""
        outputs = [name for name in node.output if name]
        for name in outputs:
            if name in self.values or name in self.initializers or name in self.lost:
                raise WeightsError(f"{self.path}: {shortened(name, 80)!r} is made twice.")
        if len(set(outputs)) < len(outputs):
            raise WeightsError(f"{self.path}: {shortened(outputs[0], 80)!r} is made twice.")
        label = f"node {shortened(node.name or ''.join(outputs[:1]), 80)!r} ({shortened(node.op_type, 40)})"
        missing = [self.lost[name] for name in node.input if name in self.lost]
        try:
            if any(missing):
                raise InputError(f"it takes {next(filter(None, missing))}")
            made = {} if missing else self._made(node, [self._value(name) if name else None for name in node.input])
        except InputError as error:
            made = {}
            self.problems.append(f"{label}: {str(error).rstrip('.')}.")
        except WeightsError:
            raise
        except MiniCNNError as error:
            made = {}
            self.problems.append(f"{label}: {str(error).rstrip('.')}.")
        except (ValueError, OverflowError, OSError) as error:       # of NumPy, or an array of an attribute
            made = {}
            self.problems.append(f"{label}: {printable(error)[:200]}.")
        for i, name in enumerate(node.output):
            if name in made:
                self.values[name] = made[name]
            elif name:          # of a node that was read, an output that no layer gives
                self.lost[name] = f"output {i} of {label}, which no layer gives" if made else ""

    def _made(self, node, inputs):
        """Return {name of an output: Known or Tensor} of a node."""
        if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS and node.op_type not in FOLDED:
            domain = f", of the domain {shortened(node.domain, 40)!r}," * (node.domain not in ("", "ai.onnx"))
            raise InputError(f"this operator{domain} is not supported. Supported are {', '.join(sorted(OPERATORS))}")
        self._check_inputs(node, inputs)
        takers = [taker.op_type for taker in self.takers.get(node.output[0] if node.output else "", ())]
        operation = Operation(self.graph, node, self.version, inputs, self.folder, takers)
        operation.outputs = len(node.output)
        tensors = [value for value in inputs if isinstance(value, Tensor)]
        if tensors and node.op_type in ("Shape", "Size"):
            shapes = self.graph.shape_of(operation.tensor())
            if tensors[0].edge:
                raise InputError("the shape of an image whose edge a Pad repeats")
            made = Known([np.array(shape_slice(operation, shape) if node.op_type == "Shape" else np.prod(shape), np.int64)
                          for shape in shapes])
        elif not tensors:
            made = self._folded(operation, node.op_type)
        else:
            if node.op_type not in OPERATORS:
                raise InputError("this operator is supported for constants alone")
            if node.op_type not in PASSING:
                if any(tensor.pixels for tensor in tensors):
                    raise InputError("uint8 pixels must be cast to a float first")
                if any(tensor.edge for tensor in tensors) and node.op_type != "MaxPool":
                    raise InputError("a Pad of the mode 'edge' is supported in front of a MaxPool alone")
            self.graph.name = node.name
            made = OPERATORS[node.op_type](operation)
        operation.check_attributes()
        made = made if isinstance(made, list) else [made]
        return {name: value for name, value in zip(node.output, made) if name}

    def _check_inputs(self, node, inputs):
        """Raise InputError unless a node has the inputs and outputs that its operator asks for in this opset."""
        import onnx
        try:
            schema = onnx.defs.get_schema(node.op_type, self.version, "")
        except onnx.defs.SchemaError:
            raise InputError(f"there is no such operator in opset {self.version}") from None
        needed = [i for i, one in enumerate(schema.inputs) if one.option != onnx.defs.OpSchema.FormalParameterOption.Optional]
        if max(len(inputs), len(node.output)) > _MOST_INPUTS:
            raise InputError(f"it has {len(inputs):,} inputs and {len(node.output):,} outputs, at most {_MOST_INPUTS:,} are read")
        if not schema.min_input <= len(inputs) <= schema.max_input or any(i < len(inputs) and inputs[i] is None for i in needed):
            raise InputError(f"it has {len(inputs)} inputs, or leaves out one that it needs; {schema.min_input} to {schema.max_input} "
                             "are asked for")
        if not schema.min_output <= len(node.output) <= schema.max_output:
            raise InputError(f"it has {len(node.output)} outputs")

    def _folded(self, operation, kind):
        """Return the Known, or a list of them, that a node makes of constants."""
        if kind not in FOLDED:
            raise InputError("this operator is not supported for constants alone")
        count = max((len(value.values) for value in operation.inputs if value is not None), default=1)
        results = []
        for i in range(count):
            operation.sample = i
            arrays = [None if value is None else value.at(i) for value in operation.inputs]
            try:
                results.append(FOLDED[kind](operation, *arrays))
            except (TypeError, IndexError, AttributeError) as error:        # of too many, too few or left out inputs
                raise InputError(f"its inputs do not fit: {printable(error)[:100]}") from None
        if isinstance(results[0], list):
            return [Known(parts) for parts in zip(*results)]
        return Known(results)

    def _ends(self):
        """Return the steps that are the graph's outputs: images as the inputs are, all else in the file's order of axes."""
        outputs = []
        for value in self.proto.graph.output:
            name, label = value.name, f"output {shortened(value.name, 80)!r}"
            if name in self.lost:
                if self.lost[name]:
                    self.remarks.append(f"{label} is left out: it is {self.lost[name]}.")
                continue
            made = self._value(name)
            if isinstance(made, Known):
                self.problems.append(f"{label}: it does not depend on the inputs.")
                continue
            if made.edge or made.pixels:
                self.problems.append(f"{label}: a layer must compute it.")
                continue
            self.graph.name = self.makers.get(name)
            made = made.arranged(CHANNELS_LAST if self.turned and len(made.order) == 3 else range(len(made.order)))
            if made.step.kind is Start or made.step in outputs:         # a view, so that there is a layer
                made = made.then("Reshape", target_shape=made.step.shape)
            outputs.append(made.step)
        if not outputs and not self.problems:
            self.problems.append("it has no output that a layer gives.")
        return outputs

    # -- the model --

    def _built(self, steps, outputs, engine, seed):
        """Return the model of the steps, with its weights."""
        if len(steps) > _MOST_LAYERS + len(self.inputs):
            raise InputError(f"it would have {len(steps) - len(self.inputs):,} layers, a model has at most {_MOST_LAYERS:,}.")
        used = [step for step in self.inputs if step in steps]
        for step in self.inputs:
            if step not in used:
                self.remarks.append(f"input {shortened(step.arguments['name'], 80)!r} is left out: no output depends on it.")
        nodes, made, taken = {}, [], set()
        inputs = [step for step in steps if step.kind is Start]
        for step in steps:
            if step.kind is Start:
                name = _free(_plain(step.arguments["name"]).replace("/", "_") or "input", taken) if len(inputs) > 1 else None
                nodes[id(step)] = Input(step.shape, name)
                continue
            layer = step.made()
            layer.trainable = not step.fixed
            name = _plain(step.name or "")
            if name and not step.main:
                above, slash, last_part = name.rpartition("/")
                name = f"{above}{slash}{last_part[:40]}_{numbered(layer, {}).rpartition('_')[0]}"
            if name:
                name = _free(name, taken)
            *around, layer.name = name.split("/") if name else [None]
            sources = [nodes[id(source)] for source in step.sources]
            node = connect(layer, sources if len(sources) > 1 else sources[0])
            node.blocks = tuple(Block(_Scope(part)) for part in around)
            nodes[id(step)] = node
            made.append((step, layer))
        chain = len(inputs) == len(outputs) == 1 and all(
            step.sources == [before] for before, step in zip(steps, steps[1:])) and outputs == steps[-1:]
        if chain and not any(node.blocks for node in nodes.values()):
            model = Sequential([layer for _, layer in made], inputs[0].shape, seed=seed, engine=engine)
        else:
            given = [nodes[id(step)] for step in used], [nodes[id(step)] for step in outputs]
            model = Model(*(some if len(some) > 1 else some[0] for some in given), seed=seed, engine=engine)
        self._set_weights(made)
        return model

    def _set_weights(self, made):
        seen, shared = {}, set()
        for step, layer in made:
            weights = {weight.name: weight for weight in layer.weights}
            assert set(weights) == set(step.weights), (layer, step.weights.keys())
            for name, array in step.weights.items():
                value = np.asarray(array, np.float32)
                if not np.isfinite(value).all():
                    raise WeightsError(f"{layer.label}: its {name} holds NaN or infinity.")
                weights[name].value = value
                if isinstance(layer.name, str) and array.size > 1 and name.endswith("kernel"):
                    place = array.__array_interface__["data"][0]
                    shared.update([layer.name, seen[place]] if place in seen else [])
                    seen.setdefault(place, layer.name)
        if shared:
            self.remarks.append(f"The layers {join(map(repr, sorted(shared)))} share weights in the file; here each has its own.")

    def _take_metadata(self, model):
        """Take what our exporter wrote beside the graph: classes and preprocessing."""
        for entry in self.proto.metadata_props:
            if entry.key not in ("classes", "preprocessing"):
                continue
            try:
                value = parse_json(entry.value)
                if entry.key == "classes":
                    model.classes = check_classes(value)
                    count = model.network.output_shape[-1]
                    if len(model.classes) != (2 if model.output_shape == (1,) else count):
                        raise InputError(f"{len(model.classes)} classes for outputs of shape {model.output_shape}.")
                else:
                    model.preprocessing = Preprocessing.from_dict(value)
                    if model.preprocessing.shape != model.input_shape:
                        raise InputError(f"images are prepared to {model.preprocessing.shape}, the network takes {model.input_shape}.")
            except (ValueError, TypeError) as error:
                raise WeightsError(f"{self.path}: its metadata {entry.key!r} cannot be used ({printable(error)[:300]}).") from None


class _Scope:
    """What the layers of one path in the file's names stand in."""

    def __init__(self, name):
        self.name = name


# Operators whose input tells that images are (N, C, H, W) in the file; and those that make something else of images.
_OF_IMAGES = {"Conv", "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "BatchNormalization",
              "Upsample", "Resize", "ConvTranspose", "DepthToSpace", "SpaceToDepth", "InstanceNormalization", "GroupNormalization", "LRN"}
_OF_ROWS = {"Reshape", "Flatten", "MatMul", "Gemm", "Shape", "Size"}


def _plain(name):
    """Return a node's name as our layers may be called: parts of plain characters between slashes."""
    parts = [re.sub(r"[^A-Za-z0-9_.-]", "_", part)[:64] for part in name[:1000].split("/") if part]
    return "/".join(parts[-4:])


def _free(name, taken):
    """Return a name that is not taken, and take it."""
    number, whole = 1, name
    while name in taken:
        number += 1
        name = f"{whole[:-len(str(number)) - 1] if len(whole.split('/')[-1]) > 56 else whole}_{number}"
    taken.add(name)
    return name
