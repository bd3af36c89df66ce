"""One contract for all layers, in both engines and both precisions; then what each layer says when it is misused."""

import copy
import pickle

import numpy as np
import pytest
from laws import assert_gradient, assert_same_bits, digest
from strategies import DTYPES, normals, separated

from minicnn import layers
from minicnn.core.backend import ENGINES, default_engine, get_engine
from minicnn.errors import DTypeError, InputError, ShapeError
from minicnn.layers import (AveragePool2D, Conv2D, Dense, Dropout, Flatten, Layer, MaxPool2D, ReLU, Sigmoid, Softmax,
                            Tanh)


def while_training(layer):
    layer.training = True
    return layer


# Every exported layer in several configurations: (how to make it, the shape of its input).
LAYERS_TO_CHECK = [
    (lambda: Conv2D(3, 3), (6, 7, 2)),
    (lambda: Conv2D(17, (3, 2), strides=(2, 1), padding="same", kernel_initializer="he_normal"), (7, 6, 5)),
    (lambda: Conv2D(1, 1), (1, 1, 1)),
    (lambda: Conv2D(4, 5, strides=3), (9, 8, 16)),
    (lambda: Conv2D(2, 4, padding="same"), (2, 3, 1)),              # the window is larger than the image
    (lambda: Conv2D(2, 1, strides=3), (7, 9, 3)),                   # most pixels are never seen
    (lambda: MaxPool2D(), (5, 4, 3)),
    (lambda: MaxPool2D(3, strides=2, padding="same"), (7, 8, 17)),
    (lambda: MaxPool2D((2, 3), strides=(3, 1)), (7, 5, 2)),
    (lambda: AveragePool2D(), (5, 4, 3)),
    (lambda: AveragePool2D((4, 3), strides=(1, 2), padding="same"), (6, 5, 17)),
    (lambda: Flatten(), (2, 3, 4)),
    (lambda: Flatten(), (5,)),
    (lambda: Dense(4), (7,)),
    (lambda: Dense(17, kernel_initializer="he_uniform"), (33,)),
    (lambda: Dense(1), (1,)),
    (lambda: ReLU(), (3, 4, 5)),
    (lambda: ReLU(), (9,)),
    (lambda: Sigmoid(), (3, 4, 5)),
    (lambda: Tanh(), (9,)),
    (lambda: Softmax(), (7,)),
    (lambda: Softmax(), (2, 3, 4)),
    (lambda: Dropout(0.5), (2, 3, 4)),
    (lambda: Dropout(0), (8,)),
    (lambda: while_training(Dropout(0.4)), (2, 3, 4)),
]
each_layer = pytest.mark.parametrize("make, shape", LAYERS_TO_CHECK, ids=[
    f"{make()!r} {shape} training={make().training}" for make, shape in LAYERS_TO_CHECK])
each_engine = pytest.mark.parametrize("engine", ENGINES)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def built(make, shape, dtype=np.float32, engine="fast"):
    """Return a layer ready for inputs of this shape, its biases other than 0."""
    layer = make()
    layer.configure(dtype, engine, seed=3, index=2)
    layer.build(shape)
    for parameter in layer.parameters:
        if parameter.name == "bias":
            parameter.value[...] = normals(4, parameter.value.shape, dtype)
    return layer


def batch(layer, n, seed=0):
    """Return (x, dy) for a built layer: no number of x is near a kink or equals another."""
    return (separated(seed, (n, *layer.input_shape), layer.dtype),
            normals(seed + 1, (n, *layer.output_shape), layer.dtype))


def passed(layer, x, dy):
    """Return copies of y, dx and the parameters' gradients of one pass forward and one backward."""
    y = layer.forward(x).copy()
    dx = layer.backward(dy)
    return [y, dx.copy(), *(p.grad.copy() for p in layer.parameters)]


# ---- The contract ----------------------------------------------------------------------------------------------------

def check_shapes(make, shape, dtype, engine):
    layer = built(make, shape, dtype, engine)
    x, dy = batch(layer, 3)
    y, dx, *gradients = passed(layer, x, dy)
    assert y.shape == (3, *layer.output_shape) and dx.shape == x.shape
    assert [g.shape for g in gradients] == [p.value.shape for p in layer.parameters]
    assert {a.dtype for a in (y, dx, *gradients, *(p.value for p in layer.parameters))} == {np.dtype(dtype)}
    assert all(np.isfinite(a).all() for a in (y, dx, *gradients))


def check_inputs_untouched(make, shape, dtype, engine):
    layer = built(make, shape, dtype, engine)
    x, dy = batch(layer, 3)
    before = digest(x), digest(dy), [digest(p.value) for p in layer.parameters]
    passed(layer, x, dy)
    assert (digest(x), digest(dy), [digest(p.value) for p in layer.parameters]) == before


def check_company(make, shape, dtype, engine):
    """A batch of n is n batches of one: to the bit in the fast engine. The weights' gradients are the sum."""
    layer = built(make, shape, dtype, engine)
    if layer.training:
        return                                          # what Dropout drops depends on the place in the batch
    x, dy = batch(layer, 5)
    y, dx, *gradients = passed(layer, x, dy)
    singles = [passed(layer, x[i:i + 1], dy[i:i + 1]) for i in range(5)]
    for i, (y_i, dx_i, *_) in enumerate(singles):
        for together, alone in ((y[i:i + 1], y_i), (dx[i:i + 1], dx_i)):
            if engine == "fast":
                assert_same_bits(alone, together)
            else:                                       # NumPy's matrix product sums a batch of one in another order
                np.testing.assert_allclose(alone, together, rtol=1e-6, atol=1e-6)
    for k, gradient in enumerate(gradients):
        np.testing.assert_allclose(sum(single[2 + k] for single in singles), gradient, rtol=1e-4, atol=1e-5)


def check_smaller_after_larger(make, shape, dtype, engine):
    """What a layer remembers of a larger batch does not show in a smaller one, nor does an earlier gradient."""
    used, fresh = built(make, shape, dtype, engine), built(make, shape, dtype, engine)
    passed(used, *batch(used, 6, seed=5))
    used.forward(batch(used, 4, seed=6)[0])             # a forward that no backward followed
    for got, expected in zip(passed(used, *batch(used, 2)), passed(fresh, *batch(fresh, 2)), strict=True):
        assert_same_bits(got, expected)


def check_order_of_calls(make, shape, dtype, engine):
    layer = built(make, shape, dtype, engine)
    x, dy = batch(layer, 2)
    sentence = "backward needs a forward before it; each backward uses one forward up"
    with pytest.raises(InputError, match=sentence):
        layer.backward(dy)
    layer.forward(x)
    with pytest.raises(ShapeError, match=r"expected dy of shape \(2, .*\), as forward returned, got \(1, "):
        layer.backward(dy[:1])
    with pytest.raises(DTypeError, match="dy must hold real numbers"):
        layer.backward(dy.astype(complex))
    layer.backward(dy)                                  # a refused dy does not use the forward up
    with pytest.raises(InputError, match=sentence):
        layer.backward(dy)


def check_gradients(make, shape, dtype, engine):
    layer = built(make, shape, np.float64, engine)
    x, dy = batch(layer, 2)
    _, dx, *gradients = passed(layer, x, dy)
    assert_gradient(lambda x: layer.forward(x).copy(), dx, x, dy)
    for parameter, gradient in zip(layer.parameters, gradients, strict=True):
        start = parameter.value.copy()

        def forward(value):
            parameter.value[...] = value
            return layer.forward(x).copy()
        assert_gradient(forward, gradient, start, dy)
        parameter.value[...] = start


CHECKS = [check_shapes, check_inputs_untouched, check_company, check_smaller_after_larger, check_order_of_calls]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@each_dtype
@each_engine
@each_layer
def test_contract(make, shape, engine, dtype, check):
    check(make, shape, dtype, engine)


@each_engine
@each_layer
def test_gradients(make, shape, engine):
    check_gradients(make, shape, np.float64, engine)


@each_layer
def test_engines_agree(make, shape):
    fast, slow = (built(make, shape, np.float64, engine) for engine in ENGINES)
    for got, expected in zip(passed(fast, *batch(fast, 3)), passed(slow, *batch(slow, 3)), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-13)


def test_every_exported_layer_is_checked():
    checked = {type(make()).__name__ for make, _ in LAYERS_TO_CHECK}
    assert checked == set(layers.__all__) - {"Layer", "LAYERS"} == set(layers.LAYERS)


class _Wrong(Layer):
    """A layer y = 2 x with one fault."""

    def __init__(self, fault=None):
        super().__init__()
        self.fault = fault

    def forward(self, x):
        x = self.accept(x)
        if self.fault == "writes to x":
            x *= 1.5
        y = self.buffer("y", x.shape)
        y[...] = 2 * x
        if self.fault == "mixes samples":
            y += 1e-3 * x.mean()
        if self.fault == "remembers too much":
            self.steps = getattr(self, "steps", 0) + 1
            y *= self.steps
        self.remember(y)
        return y.astype(np.float16) if self.fault == "other dtype" else y

    def backward(self, dy):
        if self.fault == "backward without forward":
            return 2 * dy
        dy, _ = self.consume(dy)
        dx = 2 * dy
        if self.fault == "0.1 % off":
            dx.flat[0] *= 1.001
        return dx


@pytest.mark.parametrize("fault, check", [("writes to x", check_inputs_untouched), ("mixes samples", check_company),
                                          ("remembers too much", check_smaller_after_larger),
                                          ("other dtype", check_shapes), ("0.1 % off", check_gradients)])
def test_the_contract_rejects(fault, check):
    check(_Wrong, (3, 4), np.float32, "fast")
    with pytest.raises(AssertionError):
        check(lambda: _Wrong(fault), (3, 4), np.float32, "fast")


def test_the_contract_rejects_a_backward_without_forward():
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        check_order_of_calls(lambda: _Wrong("backward without forward"), (3, 4), np.float32, "fast")


# ---- Any memory form -------------------------------------------------------------------------------------------------

class _Subclass(np.ndarray):
    pass


def unaligned(array):
    memory = np.zeros(array.nbytes + 1, np.uint8)[1:]
    copy = memory.view(array.dtype).reshape(array.shape)
    copy[...] = array
    assert not copy.flags.aligned
    return copy


def read_only(array):
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def strided(array):
    wide = np.full(array.shape[:-1] + (2 * array.shape[-1],), np.nan, array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


FORMS = {"fortran": np.asfortranarray, "strided": strided, "reversed": lambda a: a[::-1].copy()[::-1],
         "read-only": read_only, "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")), "unaligned": unaligned,
         "subclass": lambda a: a.view(_Subclass), "list": lambda a: a.tolist(),
         "float64": lambda a: a.astype(np.float64), "longdouble": lambda a: a.astype(np.longdouble),
         "masked nowhere": np.ma.masked_invalid}


@pytest.mark.parametrize("form", FORMS)
@each_dtype
@each_layer
def test_any_memory_form_gives_the_same_bits(make, shape, dtype, form):
    layer = built(make, shape, dtype)
    x, dy = batch(layer, 3)
    expected = passed(layer, x, dy)
    x_form, dy_form = FORMS[form](x), FORMS[form](dy)
    for got, plain in zip(passed(layer, x_form, dy_form), expected, strict=True):
        assert_same_bits(np.asarray(got), plain)
    assert_same_bits(np.array(x_form, dtype), x)
    assert_same_bits(np.array(dy_form, dtype), dy)


@each_layer
def test_memory_mapped_inputs(make, shape, tmp_path):
    layer = built(make, shape)
    x, dy = batch(layer, 3)
    expected = passed(layer, x, dy)
    mapped = [np.memmap(tmp_path / name, np.float32, "w+", shape=a.shape) for name, a in (("x", x), ("dy", dy))]
    for file, a in zip(mapped, (x, dy)):
        file[...] = a
        file.flush()
    for got, plain in zip(passed(layer, *(np.memmap(f.filename, np.float32, "r", shape=f.shape) for f in mapped)),
                          expected, strict=True):
        assert_same_bits(np.asarray(got), plain)


def test_read_only_inputs_need_no_compilation_of_their_own():
    from minicnn.kernels import activations
    layer = built(ReLU, (4,))
    layer.forward(np.ones((1, 4), np.float32))
    before = len(activations._relu.signatures)
    layer.forward(read_only(np.ones((1, 4), np.float32)))
    assert len(activations._relu.signatures) == before


def test_whole_numbers_and_booleans_are_converted():
    layer = built(ReLU, (3,))
    for x in (np.array([[-1, 0, 2]]), np.array([[-1, 0, 2]], np.int8), [[-1, 0, 2]]):
        assert layer.forward(x).tolist() == [[0, 0, 2]] and layer.forward(x).dtype == np.float32
    assert layer.forward(np.array([[True, False, True]])).tolist() == [[1, 0, 1]]


@pytest.mark.parametrize("bad", [np.array([[1, None, "x"]], object), np.ones((1, 3), complex),
                                 np.array([["1", "2", "3"]]), np.array([[b"1", b"2", b"3"]]), np.zeros((1, 3), "M8[s]"),
                                 np.zeros((1, 3), "m8[s]"), np.zeros((1, 3), [("a", "f4")])],
                         ids=lambda bad: str(bad.dtype))
def test_arrays_of_other_things_are_refused(bad):
    with pytest.raises(DTypeError, match=r"ReLU: x must hold real numbers, got dtype .*x\.astype\('float32'\)"):
        built(ReLU, (3,)).forward(bad)


def test_rows_of_different_lengths_are_refused():
    with pytest.raises(ShapeError, match="ReLU: x is not an array: its rows have different lengths"):
        built(ReLU, (2,)).forward([[1, 2], [3]])


def test_masked_numbers_are_refused():
    x = np.ma.masked_equal(np.array([[1.0, 2.0, 99.0]]), 99)
    with pytest.raises(InputError, match=r"ReLU: x is masked in places. Fill them first: x\.filled\(0\)\."):
        built(ReLU, (3,)).forward(x)


def test_numbers_too_large_for_float32_become_infinite():
    assert built(ReLU, (2,)).forward(np.array([[1e300, -1e300]])).tolist() == [[np.inf, 0]]


# ---- Sentences -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("make, shape, x_shape, sentence", [
    (lambda: Conv2D(4, 3, name="conv_1"), (64, 64, 3), (8, 3, 64, 64),
     r"Conv2D 'conv_1': expected x of shape \(N, 64, 64, 3\), got \(8, 3, 64, 64\)\. Images are channels-last; "
     r"try x\.transpose\(0, 2, 3, 1\)\."),
    (lambda: Conv2D(4, 3), (8, 8, 3), (8, 8, 3), r"got \(8, 8, 3\)\. One sample still needs a batch axis; "
                                                 r"try x\[np\.newaxis\]\."),
    (lambda: MaxPool2D(), (8, 8, 1), (5, 8, 8), r"Grey images still need a channel axis; try x\[\.\.\., np\.newaxis\]"),
    (lambda: MaxPool2D(), (8, 8, 1), (0, 8, 8, 1), r"got \(0, 8, 8, 1\)\. The batch is empty\."),
    (lambda: Dense(4), (12,), (5, 2, 2, 3), r"expected x of shape \(N, 12\), got \(5, 2, 2, 3\)\. "
                                            r"Put a Flatten\(\) before this layer\."),
    (lambda: Dense(4), (12,), (5, 11), r"expected x of shape \(N, 12\), got \(5, 11\)\.$"),
    (lambda: ReLU(), (3,), (), r"expected x of shape \(N, 3\), got \(\)\.$"),
    (lambda: ReLU(), (3,), (3,), r"One sample still needs a batch axis"),
])
def test_wrong_shapes_are_said_with_a_way_out(make, shape, x_shape, sentence):
    with pytest.raises(ShapeError, match=sentence):
        built(make, shape).forward(np.zeros(x_shape))


@pytest.mark.parametrize("make, shape, sentence", [
    (lambda: Conv2D(1, 5), (4, 9, 1), r"Conv2D: along the height of inputs \(4, 9, 1\), a window of 5 does not fit"),
    (lambda: MaxPool2D(3), (9, 2, 1), r"MaxPool2D: along the width of inputs \(9, 2, 1\), a window of 3 does not fit"),
    (lambda: AveragePool2D(), (5,), r"AveragePool2D: expected images, \(H, W, C\), got inputs of shape \(5,\)\."),
    (lambda: Conv2D(1, 1), (5, 5), r"Conv2D: expected images, \(H, W, C\), got inputs of shape \(5, 5\)\."),
    (lambda: Dense(3), (2, 2, 1), r"Dense: expected one row a sample, \(D,\), got \(2, 2, 1\)\. Put a Flatten\(\)"),
])
def test_inputs_that_a_layer_cannot_take(make, shape, sentence):
    with pytest.raises(ShapeError, match=sentence):
        make().build(shape)


@pytest.mark.parametrize("make, sentence", [
    (lambda: Conv2D(0, 3), "Conv2D: filters must be a whole number from 1 to .*got 0"),
    (lambda: Conv2D(1, 0), "Conv2D: kernel_size must be one whole number or two"),
    (lambda: Conv2D(1, (3, 3, 3)), r"Conv2D: kernel_size must be one whole number or two, .*got \(3, 3, 3\)"),
    (lambda: Conv2D(1, 3, strides=-1), "Conv2D: strides must be one whole number or two"),
    (lambda: Conv2D(1, 3, padding="full"), "Conv2D: padding must be one of valid, same, got 'full'"),
    (lambda: Conv2D(1, 3, padding=["same"]), r"Conv2D: padding must be one of valid, same, got \['same'\]"),
    (lambda: Conv2D(1, 3, kernel_initializer="glorot"), "Conv2D: kernel_initializer must be one of glorot_uniform, "
                                                        "glorot_normal, he_uniform, he_normal, zeros, got 'glorot'"),
    (lambda: Conv2D(1, 3, name="c", padding=1), "Conv2D 'c': padding must be"),
    (lambda: MaxPool2D(2.0), "MaxPool2D: pool_size must be one whole number or two"),
    (lambda: MaxPool2D(2, strides="2"), "MaxPool2D: strides must be one whole number or two"),
    (lambda: AveragePool2D(padding=None), "AveragePool2D: padding must be one of valid, same, got None"),
    (lambda: MaxPool2D(257), r"MaxPool2D: pool_size \(257, 257\) has more than 65,536 positions"),
    (lambda: Dense(True), "Dense: units must be a whole number from 1 to .*got True"),
    (lambda: Dense(1, kernel_initializer=None), "Dense: kernel_initializer must be one of"),
    (lambda: Dropout(1), r"Dropout: rate must lie in \[0, 1\), got 1"),
    (lambda: Dropout(-0.1), r"Dropout: rate must lie in"),
    (lambda: Dropout(float("nan")), r"Dropout: rate must lie in"),
    (lambda: Dropout("0.5"), r"Dropout: rate must lie in \[0, 1\), got '0.5'"),
    (lambda: ReLU().build((0, 3)), "ReLU: input_shape must be a whole number from 1 to .*got 0"),
    (lambda: ReLU().build((2.5,)), "ReLU: input_shape must be a whole number"),
    (lambda: ReLU().build(5), r"ReLU: input_shape must be a tuple such as \(64, 64, 3\), got 5"),
    (lambda: ReLU().forward(np.ones((1, 2))), r"ReLU: not built yet\. Call build\(input_shape\) first, or put it into "
                                              r"a Sequential\."),
    (lambda: get_engine("gpu"), "engine: expected one of fast, reference, got 'gpu'"),
])
def test_what_cannot_be_used_is_said(make, sentence):
    with pytest.raises(InputError, match=sentence):
        make()


# ---- What some layers promise beyond ---------------------------------------------------------------------------------

@each_layer
def test_a_layer_is_made_again_from_its_config(make, shape):
    layer = make()
    config = layer.config()
    again = layers.LAYERS[config.pop("type")](**config)
    assert repr(again) == repr(layer) and again.build(shape) == layer.build(shape)


@each_layer
def test_a_layer_can_be_built_anew_for_other_inputs(make, shape):
    layer, other = built(make, shape), tuple(size + 2 for size in shape)
    passed(layer, *batch(layer, 3))
    layer.build(other)
    fresh = make()
    fresh.configure(seed=3, index=2)
    fresh.build(other)
    for got, expected in zip(passed(layer, *batch(layer, 2)), passed(fresh, *batch(fresh, 2)), strict=True):
        assert_same_bits(got, expected)


@pytest.mark.parametrize("make, shape, flops", [
    (lambda: Conv2D(32, 3), (64, 64, 3), 2 * 27 * 62 * 62 * 32), (lambda: Dense(128), (4608,), 2 * 4608 * 128),
    (lambda: MaxPool2D(2), (62, 62, 32), 3 * 31 * 31 * 32), (lambda: ReLU(), (12, 12, 32), 4608),
    (lambda: Flatten(), (12, 12, 32), 0)])
def test_flops_of_the_paper(make, shape, flops):
    layer = make()
    layer.build(shape)
    assert layer.flops() == flops


@each_engine
@pytest.mark.parametrize("make, shape", LAYERS_TO_CHECK[:2] + LAYERS_TO_CHECK[13:14])
def test_an_unwanted_input_gradient_is_not_made(make, shape, engine):
    layer = built(make, shape, engine=engine)
    x, dy = batch(layer, 3)
    _, _, *expected = passed(layer, x, dy)
    layer.needs_input_gradient = False
    layer.forward(x)
    assert layer.backward(dy) is None
    for parameter, gradient in zip(layer.parameters, expected, strict=True):
        assert_same_bits(parameter.grad, gradient)


@each_engine
def test_dropout_drops_the_share_it_says_and_the_rest_grows(engine):
    layer = built(lambda: while_training(Dropout(0.3)), (50, 50, 4), engine=engine)
    y = layer.forward(np.ones((2, 50, 50, 4))).copy()
    assert set(np.unique(y)) == {0, np.float32(1 / 0.7)}
    assert abs((y == 0).mean() - 0.3) < 3 * np.sqrt(0.3 * 0.7 / y.size)
    dx = layer.backward(np.ones(y.shape))
    assert_same_bits(dx, y)                                         # what was dropped has no gradient
    assert (y[0] != y[1]).any()


def test_what_is_dropped_depends_on_seed_layer_step_and_place_alone():
    def dropped(seed=0, index=0, step_number=0, n=3):
        layer = while_training(Dropout(0.5))
        layer.configure(seed=seed, index=index)
        layer.build((100,))
        layer.step_number = step_number
        return layer.forward(np.ones((n, 100))).copy()
    first = dropped()
    assert_same_bits(dropped(), first)
    assert_same_bits(dropped(n=2), first[:2])
    for other in (dropped(seed=1), dropped(index=1), dropped(step_number=1)):
        assert (other != first).any()


def test_a_layer_draws_its_weights_from_its_seed_and_its_place():
    def kernel(seed, index):
        layer = Conv2D(4, 3)
        layer.configure(np.float64, seed=seed, index=index)
        layer.build((5, 5, 2))
        return layer.parameters[0].value
    assert_same_bits(kernel(1, 0), kernel(1, 0))
    assert (kernel(1, 0) != kernel(1, 1)).all() and (kernel(1, 0) != kernel(2, 0)).all()


def test_the_engine_of_the_environment(monkeypatch):
    monkeypatch.setenv("MINICNN_ENGINE", "reference")
    assert default_engine() == "reference"
    monkeypatch.delenv("MINICNN_ENGINE")
    assert default_engine() == "fast"


# ---- By hand ---------------------------------------------------------------------------------------------------------

@each_engine
@each_layer
def test_what_is_handed_in_or_out_may_be_changed(make, shape, engine):
    layer = built(make, shape, engine=engine)
    x, dy = batch(layer, 2)
    y, dx, *gradients = passed(layer, x, dy)
    given = x.copy()
    got = layer.forward(given)
    given[...] = 9
    if not isinstance(layer, (Flatten, Dropout)):       # views of x
        got[...] = 9
    for parameter in layer.parameters:
        parameter.value = np.zeros(parameter.value.shape)
    assert_same_bits(layer.backward(dy), dx)
    for parameter, gradient in zip(layer.parameters, gradients, strict=True):
        assert_same_bits(parameter.grad, gradient)


def test_the_same_layer_twice_returns_two_arrays():
    layer = built(lambda: Conv2D(2, 3, padding="same"), (5, 5, 2))
    first = layer.forward(np.ones((1, 5, 5, 2)))
    kept = first.copy()
    second = layer.forward(first)                       # of its own output
    assert_same_bits(first, kept)
    again = built(lambda: Conv2D(2, 3, padding="same"), (5, 5, 2))
    assert_same_bits(second, again.forward(kept))


@pytest.mark.parametrize("make, shape", [LAYERS_TO_CHECK[1], LAYERS_TO_CHECK[7], (lambda: Dense(4), (7,)),
                                         (lambda: Dropout(0.5), (8,))])
def test_what_kernels_trust_is_settled(make, shape):
    layer = built(make, shape)
    settled = [*layer.fields, "dtype", "input_shape", "output_shape", "parameters"]
    for name in settled + ["pads"] * hasattr(layer, "pads"):
        before = getattr(layer, name)
        with pytest.raises(InputError, match=rf"{type(layer).__name__}: {name} cannot be changed once the layer is made"):
            setattr(layer, name, before)
        assert getattr(layer, name) is before
    pads = getattr(layer, "pads", None)
    layer.infer(tuple(size + 1 for size in shape))      # a question leaves no trace
    assert getattr(layer, "pads", None) == pads


def test_a_layer_computes_in_the_dtype_it_is_configured_for():
    layer = Dense(2)
    with pytest.raises(DTypeError, match="Dense: dtype must be float32 or float64, got 'int32'"):
        layer.configure(dtype="int32")
    layer.configure(dtype=">f8")
    layer.build((3,))
    assert layer.dtype == np.float64 and layer.dtype.isnative
    for parameter in layer.parameters:
        parameter.hold(parameter.value.astype(np.float32), parameter.grad.astype(np.float32))
    with pytest.raises(DTypeError, match=r"Dense: it computes in float64, and its kernel is float32\. Call its build in"):
        layer.forward(np.ones((1, 3)))
    layer.configure(dtype="float32")
    with pytest.raises(InputError, match="Dense: not built yet"):
        layer.forward(np.ones((1, 3)))


def test_a_layer_is_not_frozen_without_a_word():
    layer = Dense(2, name="head")
    layer.trainable = True
    with pytest.raises(InputError, match=r"Dense 'head': trainable = False would be ignored, .* set_weights\(\) after each"):
        layer.trainable = False
    assert layer.trainable


def test_a_layer_can_be_copied_and_pickled():
    layer = built(lambda: Conv2D(2, 3), (5, 5, 2))
    x = normals(1, (1, 5, 5, 2))
    y = layer.forward(x)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert_same_bits(other.forward(x), y)
        assert not np.shares_memory(other.parameters[0].value, layer.parameters[0].value)
