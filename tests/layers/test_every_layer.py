"""The contract of layers, held by every built-in layer on both engines."""

import numpy as np
import pytest

import minicnn
from minicnn import layers
from minicnn.core.backend import ENGINES
from minicnn.errors import DTypeError, InputError, ShapeError
from minicnn.layers import Dropout, Flatten, Layer, Reshape
from tests.support.laws import assert_gradient, assert_same_bits, digest
from tests.support.layer_checks import LAYERS_TO_CHECK, batch, built, each_engine, passed, read_only, unaligned
from tests.support.strategies import DTYPES

each_layer = pytest.mark.parametrize("make, shape", LAYERS_TO_CHECK, ids=[
    f"{make()!r} {shape} training={make().training}" for make, shape in LAYERS_TO_CHECK])
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


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
    merging = {"Add", "Multiply", "Concatenate", "Outputs", "ElementwisePair"}      # test_merging.py, test_elementwise.py
    assert checked | merging == set(layers.__all__) - {"Layer", "LAYERS", "Residual", *layers.ALIASES} == set(layers.LAYERS)


def test_the_other_names_of_layers():
    for name, ours in layers.ALIASES.items():
        assert getattr(layers, name) is getattr(layers, ours) is getattr(minicnn, name) is layers.LAYERS[ours]
        assert name not in layers.LAYERS


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


class _Subclass(np.ndarray):
    pass


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


@each_engine
@each_layer
def test_what_is_handed_in_or_out_may_be_changed(make, shape, engine):
    layer = built(make, shape, engine=engine)
    x, dy = batch(layer, 2)
    y, dx, *gradients = passed(layer, x, dy)
    given = x.copy()
    got = layer.forward(given)
    given[...] = 9
    if not isinstance(layer, (Flatten, Reshape, Dropout)):          # views of x
        got[...] = 9
    for parameter in layer.parameters:
        parameter.value = np.zeros(parameter.value.shape)
    assert_same_bits(layer.backward(dy), dx)
    for parameter, gradient in zip(layer.parameters, gradients, strict=True):
        assert_same_bits(parameter.grad, gradient)
