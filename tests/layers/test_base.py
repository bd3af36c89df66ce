"""What layers share: conversion of inputs, errors, what is settled, dtypes, engines, copies."""

import copy
import pickle

import numpy as np
import pytest

from minicnn.core.backend import default_engine, get_engine
from minicnn.errors import DTypeError, InputError, ShapeError
from minicnn.layers import AveragePool2D, Conv2D, Dense, Dropout, Flatten, MaxPool2D, ReLU
from tests.support.laws import assert_same_bits
from tests.support.layer_checks import LAYERS_TO_CHECK, batch, built, each_engine, passed, read_only
from tests.support.strategies import normals


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
                                                        "glorot_normal, he_uniform, he_normal, .*, got 'glorot'"),
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


def test_a_frozen_layer_says_so_in_its_config_alone():
    layer = Dense(2, name="head")
    assert layer.trainable and "trainable" not in layer.config()
    layer.trainable = np.False_
    assert layer.trainable is False and layer.config()["trainable"] is False and "trainable" not in repr(layer)
    with pytest.raises(InputError, match="Dense 'head': trainable must be True or False, got 'no'"):
        layer.trainable = "no"


def test_a_layer_can_be_copied_and_pickled():
    layer = built(lambda: Conv2D(2, 3), (5, 5, 2))
    x = normals(1, (1, 5, 5, 2))
    y = layer.forward(x)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert_same_bits(other.forward(x), y)
        assert not np.shares_memory(other.parameters[0].value, layer.parameters[0].value)
