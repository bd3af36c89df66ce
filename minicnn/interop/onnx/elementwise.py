"""ONNX operators of single numbers, composed of our layers where none of them is the same.

A handler takes an Operation and returns the Tensor that is its first output, or a list where it has several.
"""

import math

import numpy as np

from minicnn.errors import InputError
from minicnn.interop.onnx.graph import Known, Scale, Shift, Tensor, together
from minicnn.interop.onnx.windows import power

__all__ = ["ELEMENTWISE", "applied", "pair", "product", "scaled", "shifted", "total", "with_constant"]


def layer(kind, **arguments):
    """Return a handler that makes one layer."""
    return lambda operation: operation.tensor().then(kind, **arguments)


def number(tensor, value):
    """Return an array of one number that fits a tensor."""
    return np.full((1,) * len(tensor.step.shape), float(value))


def scaled(tensor, factor, main=False):
    return tensor.then(Scale, main=main, array=number(tensor, factor))


def shifted(tensor, summand, main=False):
    return tensor.then(Shift, main=main, array=number(tensor, summand))


def applied(tensor, function):
    return tensor.then("Elementwise", main=False, function=function)


def pair(function, a, b, main=True):
    """Return a function of two tensors."""
    a, b = together([a, b])
    return Tensor(a.graph, a.graph.step("ElementwisePair", [a.step, b.step], main=main, function=function), a.order)


def product(a, b, main=True):
    """Return the product of two tensors."""
    a, b = together([a, b])
    return Tensor(a.graph, a.graph.step("Multiply", [a.step, b.step], main=main), a.order)


def total(tensors, main=True):
    """Return the sum of tensors."""
    tensors = together(tensors)
    graph, order = tensors[0].graph, tensors[0].order
    if len({tensor.step.shape for tensor in tensors}) == 1:
        return tensors[0] if len(tensors) == 1 else Tensor(graph, graph.step("Add", [one.step for one in tensors], main=main), order)
    result = tensors[0]
    for other in tensors[1:]:           # Add takes equal shapes; a difference repeats sizes of 1
        result = pair("subtract", result, scaled(other, -1), main)
    return result


def with_constant(kind, tensor, array):
    """Return x + array (Shift) or x array (Scale) of a tensor and a constant of the file."""
    tensor, array = tensor.fitted(np.asarray(array, np.float64))
    shape = tensor.step.shape
    if np.broadcast_shapes(shape, array.shape) == shape:
        return tensor.then(kind, array=array)
    constant = Tensor(tensor.graph, tensor.graph.constant(array if kind is Scale else -array, tensor.step), tensor.order)
    return product(tensor, constant) if kind is Scale else pair("subtract", tensor, constant)


def add(operation):
    constants = [value for value in operation.inputs if isinstance(value, Known)]
    result = total([value for value in operation.inputs if isinstance(value, Tensor)])
    for i, value in enumerate(operation.inputs):
        if value is None or value in constants:
            result = with_constant(Shift, result, operation.constant(i))
    return result


def subtract(operation):
    a, b = operation.inputs
    if isinstance(b, Known):
        return with_constant(Shift, operation.tensor(), -np.asarray(operation.constant(1), np.float64))
    if isinstance(a, Known):
        return with_constant(Shift, scaled(operation.tensor(1), -1), operation.constant(0))
    return pair("subtract", *operation.tensors())


def multiply(operation):
    for i in (0, 1):
        if isinstance(operation.input(i), Known):
            return with_constant(Scale, operation.tensor(1 - i), operation.constant(i))
    return product(*operation.tensors())


def divide(operation):
    if isinstance(operation.input(1), Known):
        inverse = 1 / np.asarray(operation.constant(1), np.float64)
        if np.isfinite(inverse.astype(np.float32)).all() and (np.abs(inverse) > 1e-37).all():
            return with_constant(Scale, operation.tensor(), inverse)
    return pair("divide", *operation.tensors())


def raised(operation):
    exponent = operation.input(1)
    if isinstance(exponent, Known) and operation.constant(1).size == 1 and operation.constant(1).ndim <= operation.tensor().rank:
        return power(operation.tensor(), operation.constant(1).reshape(()).item())
    return pair("power", *operation.tensors())


def remainder(operation):
    """fmod=1 has the sign of a, fmod=0 that of b: b is added where the two signs differ."""
    a, b = operation.tensors()
    r = pair("remainder", a, b)
    if operation.attribute("fmod", 0):
        return r
    differ = scaled(product(applied(r, "sign"), applied(b, "sign"), main=False), -1).then("ReLU", main=False)
    return total([r, product(b, differ, main=False)])


def extreme(function):
    def handle(operation):
        tensors = operation.tensors()
        result = tensors[0]
        for other in tensors[1:]:
            result = pair(function, result, other)
        return result
    return handle


def mean(operation):
    return scaled(add(operation), 1 / len(operation.inputs))


def clip(operation):
    tensor, low, high = operation.tensor(), operation.number("min", 1, -math.inf), operation.number("max", 2, math.inf)
    if not -math.inf < low:
        low = None
    if not high < math.inf:
        high = None
    if low == 0 and (high is None or high > 0):
        return tensor.then("ReLU", max_value=high)
    for function, bound in (("maximum", low), ("minimum", high)):
        if bound is not None:
            constant = Tensor(tensor.graph, tensor.graph.constant(number(tensor, bound), tensor.step), tensor.order)
            tensor = pair(function, tensor, constant)
    return tensor


def bent(tensor, slope):
    """Return x where x > 0, else slope x, as max(x, 0) - slope max(-x, 0); `slope` is an array in the file's order."""
    below = with_constant(Scale, scaled(tensor, -1).then("ReLU", main=False), -np.asarray(slope, np.float64))
    return total([tensor.then("ReLU", main=False), below])


def leaky_relu(operation):
    alpha, tensor = operation.attribute("alpha", 0.01), operation.tensor()
    if alpha > 0:
        return tensor.then("LeakyReLU", negative_slope=alpha)
    return tensor.then("ReLU") if alpha == 0 else bent(tensor, alpha)


def prelu(operation):
    tensor, slope = operation.tensor(), operation.constant(1)
    if slope.size and (slope > 0).all() and (slope == slope.flat[0]).all() and slope.ndim <= tensor.rank:
        return tensor.then("LeakyReLU", negative_slope=float(slope.flat[0]))
    return bent(tensor, slope)


def elu(operation):
    return operation.tensor().then("ELU", alpha=operation.attribute("alpha", 1.0))


def selu(operation):
    alpha, gamma = operation.attribute("alpha", 1.67326319217681884765625), operation.attribute("gamma", 1.05070102214813232421875)
    return scaled(operation.tensor().then("ELU", alpha=alpha), gamma)


def celu(operation):
    alpha = operation.attribute("alpha", 1.0)
    if not 0 < alpha < math.inf:
        raise InputError(f"its alpha must be above 0, got {alpha}")
    return scaled(scaled(operation.tensor(), 1 / alpha).then("ELU"), alpha)


def hard_sigmoid(tensor, alpha, beta, main=True):
    return shifted(scaled(tensor, alpha), beta).then("ReLU", main=main, max_value=1)


def softsign(operation):
    x = operation.tensor()
    return pair("divide", x, shifted(applied(x, "abs"), 1))


def mish(operation):
    x = operation.tensor()
    return product(x, x.then("Softplus", main=False).then("Tanh", main=False))


def swish(operation):
    alpha, x = operation.attribute("alpha", 1.0), operation.tensor()
    return x.then("Swish") if alpha == 1 else product(x, scaled(x, alpha).then("Sigmoid", main=False))


def gelu(operation):
    approximation, x = operation.attribute("approximate", "none"), operation.tensor()
    if approximation == "none":
        bell = applied(scaled(x, math.sqrt(0.5)), "erf")
    elif approximation == "tanh":
        inner = total([x, scaled(product(applied(x, "square"), x, main=False), 0.044715)], main=False)
        bell = scaled(inner, math.sqrt(2 / math.pi)).then("Tanh", main=False)
    else:
        raise InputError("its approximate must be 'none' or 'tanh'")
    return product(x, shifted(scaled(bell, 0.5), 0.5))


def above(tensor, bound):
    """Return 1 where a tensor is above a number, else 0."""
    return applied(shifted(tensor, -bound).then("ReLU", main=False), "sign")


def thresholded_relu(operation):
    return product(operation.tensor(), above(operation.tensor(), operation.attribute("alpha", 1.0)))


def shrink(operation):
    x, bias, lambd = operation.tensor(), operation.attribute("bias", 0.0), operation.attribute("lambd", 0.5)
    if lambd < 0:
        raise InputError(f"its lambd must be at least 0, got {lambd}")
    return total([product(above(x, lambd), shifted(x, -bias), main=False),
                  product(above(scaled(x, -1), lambd), shifted(x, bias), main=False)])


def dropout(operation):
    rate = operation.number("ratio", 1, 0.5)
    operation.constant(2, None)             # training_mode: our layer knows itself whether it trains
    operation.ignore("seed")
    return operation.tensor().then("Dropout", rate=rate)


def cast(operation):
    tensor, to = operation.tensor(), operation.attribute("to", kind="int")
    operation.ignore("saturate", "round_mode")
    if not operation.is_float(to):
        raise InputError("numbers that are computed are floats, and cast to floats alone")
    if tensor.pixels:
        return scaled(Tensor(tensor.graph, tensor.step, tensor.order), 255)
    return tensor


ELEMENTWISE = {
    "Add": add, "Sum": add, "Sub": subtract, "Mul": multiply, "Div": divide, "Pow": raised, "Mod": remainder, "Mean": mean,
    "Max": extreme("maximum"), "Min": extreme("minimum"), "Clip": clip, "Relu": layer("ReLU"), "Sigmoid": layer("Sigmoid"),
    "Tanh": layer("Tanh"), "Softplus": layer("Softplus"), "LeakyRelu": leaky_relu, "PRelu": prelu, "Elu": elu, "Selu": selu,
    "Celu": celu, "Softsign": softsign, "Mish": mish, "Swish": swish, "Gelu": gelu, "ThresholdedRelu": thresholded_relu,
    "Shrink": shrink, "Dropout": dropout, "Cast": cast, "Identity": lambda operation: operation.tensor(),
    "HardSigmoid": lambda operation: hard_sigmoid(operation.tensor(), operation.attribute("alpha", 0.2), operation.attribute("beta", 0.5)),
    "HardSwish": lambda operation: product(operation.tensor(), hard_sigmoid(operation.tensor(), 1 / 6, 0.5, main=False)),
    **{name: layer("Elementwise", function=name.lower()) for name in
       "Abs Neg Exp Log Sqrt Reciprocal Sign Floor Ceil Round Erf Sin Cos Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh".split()}}
