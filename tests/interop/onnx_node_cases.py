"""ONNX's own cases of single nodes, written for every opset that has the operator, and which of them are left out, and why.

`python -m tests.interop.onnx_node_cases` prints the list that onnx_node_cases.txt holds.
"""

import functools
import math
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

LIST = Path(__file__).with_suffix(".txt")
OPERATORS = set("""
    Conv MaxPool AveragePool GlobalAveragePool GlobalMaxPool LpPool Gemm MatMul BatchNormalization LayerNormalization Softmax
    LogSoftmax Hardmax Relu Clip LeakyRelu PRelu Elu Selu Celu Sigmoid HardSigmoid HardSwish Tanh Softplus Softsign Mish Gelu
    ThresholdedRelu Shrink Swish Add Sub Mul Div Pow Max Min Sum Mean Mod Abs Neg Exp Log Sqrt Reciprocal Floor Ceil Round Sign Erf
    Sin Cos Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh Concat Pad Flatten Reshape Squeeze Unsqueeze ReduceMean Identity Dropout
    Transpose Upsample Resize ConvTranspose DepthToSpace SpaceToDepth InstanceNormalization GroupNormalization LRN
    ReduceMax ReduceMin ReduceL1 ReduceL2 ReduceSumSquare""".split())
IMAGES = {"Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool", "BatchNormalization", "Upsample", "Resize",
          "ConvTranspose", "DepthToSpace", "SpaceToDepth", "InstanceNormalization", "GroupNormalization", "LRN"}
PAIRS = {"Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "Mean", "Mod", "Concat"}
OLDEST = 7
_ROWS = {"Softmax", "LogSoftmax", "Hardmax"}


class Case(NamedTuple):
    """A case: `inputs` and `outputs` are its arrays."""

    name: str
    node: onnx.NodeProto
    opset: int
    inputs: list
    outputs: list
    rtol: float


@functools.cache
def collected():
    """Return {name: Case} of ONNX's cases with one node of OPERATORS and float32 tensors."""
    from onnx.backend.test.case.node import collect_testcases

    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    for case in cases:
        model = case.model
        if model is None or len(model.graph.node) != 1 or model.graph.node[0].op_type not in OPERATORS:
            continue
        kinds = [value.type.tensor_type.elem_type for value in model.graph.input]
        floats = kinds and kinds[0] == 1 and set(kinds) <= {1, 7, 9} and model.graph.output[0].type.tensor_type.elem_type == 1
        if floats:
            inputs, outputs = case.data_sets[0]
            found[case.name] = Case(case.name, model.graph.node[0], model.opset_import[0].version, [np.asarray(x) for x in inputs],
                                    [np.asarray(y) for y in outputs], case.rtol)
    return found


def left_out(case):
    """Return why a case is not run, or None."""
    x, kind = case.inputs[0], case.node.op_type
    if kind in IMAGES and kind != "BatchNormalization" and x.ndim != 4:
        return f"{x.ndim - 2} spatial dimensions; images have two"
    if kind == "Dropout" and len(case.inputs) > 2 and case.inputs[2] and case.inputs[1] > 0:
        return "it draws random numbers"
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in case.node.attribute}
    for name, value in (("antialias", 1), ("exclude_outside", 1), ("coordinate_transformation_mode", b"tf_crop_and_resize")):
        if given.get(name) == value:
            return f"its {name}, which is refused"
    if "downsample_scales" in case.name and given.get("coordinate_transformation_mode") == b"align_corners":
        return "the reference divides by a size that is no whole number; ONNX Runtime and the specification do not"
    if given.get("keep_aspect_ratio_policy", b"stretch") != b"stretch":
        return "its keep_aspect_ratio_policy, which is refused"
    if 0 in x.shape:
        return "an array without numbers"
    if any(array.dtype.kind == "f" and not np.isfinite(array).all() for array in case.inputs):
        return "infinite inputs, which predict refuses"
    return None


def forms(case):
    """Return how a case is written: its further inputs as "constants", and for operators of several arrays as "inputs" too."""
    return ["constants"] + ["inputs"] * (case.node.op_type in PAIRS and len(case.inputs) > 1)


def opsets(case):
    """Return the opsets, from 7 on, that have the operator with the case's attributes."""
    attributes = {attribute.name for attribute in case.node.attribute}
    newest, found = onnx.defs.onnx_opset_version(), []
    for opset in range(11 if case.node.op_type == "Resize" else OLDEST, newest + 1):       # the Resize of 10 is an Upsample
        try:
            schema = onnx.defs.get_schema(case.node.op_type, opset, "")
        except onnx.defs.SchemaError:
            continue
        if not schema.deprecated and attributes <= set(schema.attributes) and len(case.outputs) <= max(schema.max_output, 1):
            found.append(opset)
    return found


def spelled(case, opset):
    """Return (attributes, inputs, expected first output) of a case as an opset writes it."""
    kind, x, expected = case.node.op_type, case.inputs[0], case.outputs[0]
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in case.node.attribute}
    names = [name for name in case.node.input]
    given = dict(zip([i for i, name in enumerate(names) if name], case.inputs))
    rest = {i: given.get(i) for i in range(1, len(names))}
    positive = lambda axis, rank=x.ndim: axis % rank if opset < 11 and axis < 0 else axis
    if kind == "Pad" and opset < 18:
        pads, axes = rest[1].tolist(), rest.get(3)
        axes = list(range(x.ndim)) if axes is None else [axis % x.ndim for axis in axes.tolist()]
        full = [0] * (2 * x.ndim)
        for i, axis in enumerate(axes):
            full[axis], full[x.ndim + axis] = pads[i], pads[len(axes) + i]
        rest = {1: np.array(full), 2: rest.get(2)}
        if opset < 11:
            attributes["pads"], attributes["value"], rest = full, float(rest[2]) if rest[2] is not None else 0.0, {}
    elif kind == "Clip" and opset < 11:
        for i, name in ((1, "min"), (2, "max")):
            if rest.get(i) is not None:
                attributes[name] = float(rest[i])
        rest = {}
    elif kind == "Resize" and opset < 13:                       # what later may be left out is empty
        rest = {i: np.zeros(0, np.float32) if rest.get(i) is None else rest[i] for i in range(1, len(names))}
    elif kind.startswith(("Squeeze", "Unsqueeze", "Reduce")) and opset < (18 if kind.startswith("Reduce") else 13):
        rank = x.ndim + len(rest[1]) * (kind == "Unsqueeze") if rest else x.ndim
        if rest and rest[1].size:
            attributes["axes"] = [positive(int(axis), rank) for axis in rest[1]]
        rest = {}
    elif kind == "Dropout" and opset < 12:
        if rest.get(1) is not None:
            attributes["ratio"] = float(rest[1])
        attributes.pop("seed", None)
        rest = {}
    elif kind == "Dropout" and "ratio" in attributes:           # written for an older one
        rest = {1: np.float32(attributes.pop("ratio"))}
    elif kind == "Upsample" and opset < 9:
        attributes["scales"], rest = rest[1].tolist(), {}
    elif kind == "Gemm" and opset < 11 and 2 not in rest:
        rest[2] = np.zeros(expected.shape[1], np.float32)
    elif kind in _ROWS and opset < 13:
        axis = attributes.get("axis", -1) % x.ndim
        attributes["axis"] = axis
        if math.prod(x.shape[axis + 1:]) > 1:
            expected = _of_rows(kind, x.reshape(math.prod(x.shape[:axis]), -1)).reshape(x.shape)
    elif "axis" in attributes and kind in ("Flatten", "Concat"):
        attributes["axis"] = positive(attributes["axis"])
    return attributes, [x, *(rest[i] for i in sorted(rest))], expected


def _of_rows(kind, x):
    """Return what an operator makes of each row of x, (N, D)."""
    if kind == "Hardmax":
        return (np.arange(x.shape[1]) == x.argmax(axis=1)[:, None]).astype(np.float32)
    z = x - x.max(axis=1, keepdims=True)
    total = np.exp(z).sum(axis=1, keepdims=True)
    return np.exp(z) / total if kind == "Softmax" else z - np.log(total)


def model_of(case, opset, form):
    """Return (ModelProto, inputs of the model, expected output)."""
    attributes, arrays, expected = spelled(case, opset)
    names = ["" if array is None else f"x{i}" for i, array in enumerate(arrays)]
    outputs = [name or "" for name in case.node.output]
    node = helper.make_node(case.node.op_type, names, outputs, name="one", **attributes)
    count = len(arrays) if form == "inputs" else 1
    inputs = [helper.make_tensor_value_info(name, 1, array.shape) for name, array in zip(names[:count], arrays)]
    constants = [numpy_helper.from_array(np.asarray(array), name) for name, array in zip(names[count:], arrays[count:])
                 if array is not None]
    graph = helper.make_graph([node], "case", inputs, [helper.make_tensor_value_info(outputs[0], 1, expected.shape)], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), arrays[:count], expected


def listed():
    """Return the lines of the list: what is run, with its opsets and forms, and what is left out."""
    run, out, count = [], [], 0
    for name, case in sorted(collected().items(), key=lambda item: (item[1].node.op_type, item[0])):
        reason, found = left_out(case), opsets(case)
        if reason:
            out.append(f"{case.node.op_type}  {name}  {reason}")
        else:
            count += len(found) * len(forms(case))
            run.append(f"{case.node.op_type}  {name}  {found[0]}-{found[-1]}  {' '.join(forms(case))}")
            assert found == list(range(found[0], found[-1] + 1))
    return [f"ONNX {onnx.defs.onnx_opset_version()}: {len(run)} cases, {count} models of them over all opsets; each on two engines", *run,
            f"left out: {len(out)}", *out]


if __name__ == "__main__":
    print("\n".join(listed()))
