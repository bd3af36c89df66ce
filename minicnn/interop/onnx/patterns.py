"""What exporters write in several nodes, found again as one layer: biases, batch normalization, Swish, Flatten before Dense.

Each pass goes through the steps once, in their order, and changes only what has a single taker, so that no other step sees it.
"""

import numpy as np

from minicnn import layers
from minicnn.interop.onnx.graph import Scale, Shift

__all__ = ["simplified"]

_EPSILON = 1e-3
# Layers that do the same to each number of a row, whatever the order of the numbers.
_ANY_ORDER = {"ReLU", "LeakyReLU", "ELU", "Swish", "Softplus", "Sigmoid", "Tanh", "Dropout", "Rescaling", "Elementwise"}


def simplified(graph, outputs):
    """Return (steps, outputs) after all passes: those that the outputs need, in order.

    Parameters
    ----------
    graph : Graph
    outputs : list of Step
    """
    steps = graph.steps
    for change in (_joined, _without_order, _as_layers):
        steps = _needed(steps, outputs)
        takers = {id(step): [] for step in steps}
        for step in steps:
            for source in step.sources:
                takers[id(source)].append(step)
        for output in outputs:
            takers[id(output)].append(None)
        instead = {}                # {id of a step: (it, so that its id is no other's, the one in its place)}
        steps = change(graph, steps, takers, instead)
        outputs = [_resolved(output, instead) for output in outputs]
    return _needed(steps, outputs), outputs


def _resolved(step, instead):
    while id(step) in instead:
        step = instead[id(step)][1]
    return step


def _needed(steps, outputs):
    """Return the steps that the outputs are made of, in order."""
    needed, waiting = set(), list(outputs)
    while waiting:
        step = waiting.pop()
        if id(step) not in needed:
            needed.add(id(step))
            waiting += step.sources
    return [step for step in steps if id(step) in needed]


def _is(step, *kinds):
    return step.kind.__name__ in kinds


def _joined(graph, steps, takers, instead):
    """Make one layer of two: of Permute, Reshape and factors in a row, of x Sigmoid(x), of a pooled image and its Flatten."""
    for step in steps:
        step.sources = [_resolved(source, instead) for source in step.sources]
        if not step.sources:
            continue
        before = step.sources[0]
        alone = len(takers[id(before)]) == 1
        if _is(step, "Permute") and _is(before, "Permute") and alone:
            dims = tuple(before.arguments["dims"][axis - 1] for axis in step.arguments["dims"])
            step.arguments, step.sources = {"dims": dims}, before.sources
            if dims == tuple(range(1, len(dims) + 1)):
                instead[id(step)] = step, step.sources[0]
        elif _is(step, "Reshape", "Flatten") and _is(before, "Reshape") and alone:
            step.sources = before.sources
            if step.shape == step.sources[0].shape:
                instead[id(step)] = step, step.sources[0]
        elif _is(step, "Reshape", "Flatten") and _is(before, "GlobalAveragePooling2D", "GlobalMaxPooling2D") and alone \
                and step.shape in (before.shape[2:], (1, 1, *before.shape)):
            before.arguments, before.shape = {"keepdims": len(step.shape) == 3}, step.shape
            before.name = _whole_name(before, step)
            instead[id(step)] = step, before
        elif alone and step.kind is before.kind and _is(step, "Cropping2D", "ZeroPadding2D"):
            argument, = step.arguments
            step.arguments = {argument: tuple(tuple(map(sum, zip(*sides))) for sides in
                                              zip(step.arguments[argument], before.arguments[argument]))}
            step.sources, step.main = before.sources, step.main or before.main
        elif alone and _is(step, "Conv2D") and before.name == f"{step.name}/depthwise" and _is_pointwise(step):
            _make_separable(step, before)
        elif _is(step, "Multiply") and len(step.sources) == 2:
            for x, gate in (step.sources, step.sources[::-1]):
                if _is(gate, "Sigmoid") and gate.sources == [x] and len(takers[id(gate)]) == 1:
                    step.kind, step.sources = layers.Swish, [x]
                    break
        elif step.kind is before.kind is Scale and alone and step.arguments["array"].size == before.arguments["array"].size == 1:
            factor = step.arguments["array"] * before.arguments["array"]
            step.arguments, step.sources = {"array": factor}, before.sources
            if abs(factor.item() - 1) < 1e-6:
                instead[id(step)] = step, step.sources[0]
    return steps


def _whole_name(part, whole):
    """Return the name of a layer that our exporter wrote as two nodes, NAME/part and NAME; else that of the first."""
    return whole.name if (part.name or "").startswith(f"{whole.name}/") else part.name


def _is_pointwise(step):
    return {"kernel_size": (1, 1), "strides": (1, 1), "groups": 1}.items() <= step.arguments.items()


def _make_separable(step, before):
    """Make a SeparableConv2D of the two convolutions that our exporter writes for it."""
    depthwise = dict(before.arguments)
    filters, groups = depthwise.pop("filters", None), depthwise.pop("groups", 1)
    kernel = before.weights.get("depthwise_kernel", before.weights.get("kernel"))
    if depthwise.pop("use_bias") or groups > 1 or filters and kernel.shape[2] > 1:
        return
    depthwise.setdefault("depth_multiplier", kernel.shape[3])
    step.arguments = depthwise | {"filters": step.arguments["filters"], "use_bias": step.arguments["use_bias"]}
    step.weights = {"depthwise_kernel": kernel, "pointwise_kernel": step.weights.pop("kernel"), **step.weights}
    step.kind, step.sources = layers.SeparableConv2D, before.sources


def _without_order(graph, steps, takers, instead):
    """Remove a Permute before a Flatten whose numbers go to Dense layers alone: their rows are permuted once."""
    for step in steps:
        step.sources = [_resolved(source, instead) for source in step.sources]
        if not (_is(step, "Flatten") and _is(step.sources[0], "Permute") and len(takers[id(step.sources[0])]) == 1):
            continue
        permute = step.sources[0]
        changes, waiting = [], list(takers[id(step)])
        while waiting:
            taker = waiting.pop()
            if taker is None or not (_is(taker, "Dense", "BatchNormalization", "Shift", "Scale", *_ANY_ORDER)):
                break
            changes.append(taker)
            waiting += [] if _is(taker, "Dense") else takers[id(taker)]
        else:
            shape = permute.shape
            back = np.argsort(permute.arguments["dims"])        # place[i]: where number i of ours stands in the file's row
            place = np.arange(step.shape[0]).reshape(shape).transpose(back).ravel()
            for taker in changes:
                if _is(taker, "Shift", "Scale"):
                    array = taker.arguments["array"]
                    taker.arguments = {"array": array if array.size == 1 else array[place]}
                elif taker.weights:
                    taker.weights = {name: weight if _is(taker, "Dense") and name == "bias" else weight[place]
                                     for name, weight in taker.weights.items()}
            step.sources = permute.sources
    return steps


def _as_layers(graph, steps, takers, instead):
    """Make layers of Shift and Scale: a bias, a BatchNormalization, a Rescaling, or an array that a layer Constant gives."""
    result, done = [], set()
    for step in steps:
        step.sources = [_resolved(source, instead) for source in step.sources]
        if id(step) in done:
            continue
        if step.kind not in (Shift, Scale):
            result.append(step)
            continue
        run = [step]
        while len(takers[id(run[-1])]) == 1 and takers[id(run[-1])][0] is not None and takers[id(run[-1])][0].kind in (Shift, Scale):
            run.append(takers[id(run[-1])][0])
        done.update(map(id, run))
        made, last = len(graph.steps), run[-1]
        source, run = _with_bias(step.sources[0], run, takers)
        while run:
            graph.name, shape = run[0].name, source.shape
            n, source = _normalization(graph, source, run) or _rescaling(graph, source, run) or _constant(graph, source, run[0])
            assert source.shape == shape
            run = run[n:]
        result += graph.steps[made:]
        instead[id(last)] = last, source
    return result


def _with_bias(source, run, takers):
    """Return (source, what is left of the run) after its first summand became the bias of the layer before it, if it can."""
    maker, path = source, [source]
    while _is(maker, "Reshape") and maker.sources[0].shape[-1] == maker.shape[-1]:
        maker = maker.sources[0]
        path.append(maker)
    first = run[0].arguments["array"]
    alone = all(len(takers.get(id(one), ())) == 1 for one in path)
    if run[0].kind is Shift and alone and _is(maker, "Conv2D", "DepthwiseConv2D", "Dense") \
            and not maker.arguments["use_bias"] and not maker.fixed \
            and _is_of_channels(first, source.shape):
        maker.arguments["use_bias"] = True
        maker.weights["bias"] = np.broadcast_to(first.ravel(), maker.shape[-1:])
        run = run[1:]
    return source, run


def _is_of_channels(array, shape):
    return array.size in (1, shape[-1]) and array.shape[-1] == array.size


def _normalization(graph, source, run):
    """Return (length, step) where the run begins as batch normalization does when it is written out, else None."""
    for kinds in ((Shift, Scale, Shift), (Shift, Scale), (Scale, Shift)):
        some = run[:len(kinds)]
        arrays = [one.arguments["array"] for one in some]
        if [one.kind for one in some] != list(kinds) or not all(_is_of_channels(array, source.shape) for array in arrays) \
                or max(array.size for array in arrays) == 1:
            continue
        C = source.shape[-1:]
        arrays = [np.broadcast_to(array.ravel(), C) for array in arrays]
        mean = -arrays.pop(0) if kinds[0] is Shift else np.zeros(C)
        # Of the variance nothing is known but that the factor has it in it: it is what makes the divisor 1.
        weights = {"gamma": arrays[0], "moving_mean": mean, "moving_variance": np.full(C, 1 - _EPSILON)}
        if len(arrays) > 1:
            weights["beta"] = arrays[1]
        graph.name = some[-1].name
        return len(kinds), graph.step("BatchNormalization", [source], weights, epsilon=_EPSILON, center="beta" in weights)
    return None


def _rescaling(graph, source, run):
    """Return (length, step) where the run begins with one factor, one summand, or both in this order, else None."""
    numbers = [one.arguments["array"] for one in run[:2]]
    if numbers[0].size > 1:
        return None
    both = len(run) > 1 and run[0].kind is Scale and run[1].kind is Shift and numbers[1].size == 1
    scale = numbers[0].item() if run[0].kind is Scale else 1.0
    offset = numbers[both].item() if both or run[0].kind is Shift else 0.0
    graph.name = run[both].name
    return 1 + both, graph.step("Rescaling", [source], main=run[0].main or both and run[1].main, scale=scale, offset=offset)


def _constant(graph, source, step):
    """Return (1, a step) that adds or multiplies an array which a layer Constant gives."""
    array = step.arguments["array"]
    if step.kind is Scale:
        return 1, graph.step("Multiply", [source, graph.constant(array, source)])
    if array.shape == source.shape:
        return 1, graph.step("Add", [source, graph.constant(array, source)])
    return 1, graph.step("ElementwisePair", [source, graph.constant(-array, source)], function="subtract")
