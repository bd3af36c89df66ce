"""The plan: which neighbours run as one step, and that a step computes what its layers would, one after another."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minicnn import Input, reference as ref, fusion
from minicnn.core.backend import get_engine
from minicnn.errors import InputError, ShapeError
from minicnn.layers import (Add, AveragePool2D, BatchNormalization, Conv2D, Dense, DepthwiseConv2D, Dropout, Flatten, LayerNormalization,
                            MaxPool2D, ReLU, Sigmoid, Tanh)
from minicnn.model import Model, Sequential
from minicnn.network import LayerStep
from minicnn.networks import cov19net
from minicnn.reference import fusion as specified_fusion
from tests.support.kernel_checks import largest_of_tiles
from tests.support.laws import assert_near_largest, assert_rounded, assert_same_bits
from tests.support.strategies import normals

each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


def Network(layers, input_shape, seed=0, dtype="float32", engine="fast"):
    """Return the network of a model: its layers are named, and custom ones run."""
    return Sequential(layers, input_shape, seed, dtype, engine).network


def plan(*layers, shape=(16, 16, 3), engine="fast", head=None):
    return Network(list(layers), shape, engine=engine).plan([head])


# ---- What is found ---------------------------------------------------------------------------------------------------

PAPER = [["conv2d_1", "relu_1", "max_pool2d_1"], ["conv2d_2", "relu_2", "max_pool2d_2"], ["conv2d_3", "relu_3"],
         ["flatten_1"], ["dense_1", "relu_4"], ["dense_2"]]


def test_the_plan_of_the_papers_network():
    network = cov19net().network
    assert network.plan(["Sigmoid"]) == PAPER + [["sigmoid_1", "loss"]]
    assert network.plan() == PAPER + [["sigmoid_1"], ["loss"]]
    assert [type(step).__name__ for step in network.steps] == \
        ["GreyConvReLUPool", "ConvReLUPool", "ConvReLU", "LayerStep", "DenseReLU", "LayerStep", "LayerStep"]


def test_the_reference_engine_takes_one_layer_at_a_time():
    network = cov19net(engine="reference").network
    assert network.plan(["Sigmoid"])[:-1] == [[layer.name] for layer in network.layers[:-1]]
    assert not network.takes_pixels and cov19net().network.takes_pixels


def test_relu_and_pooling_fuse_in_either_order():
    assert plan(Conv2D(2, 3), ReLU(), MaxPool2D(2)) == [["conv2d_1", "relu_1", "max_pool2d_1"], ["loss"]]
    assert plan(Conv2D(2, 3), MaxPool2D(2), ReLU()) == [["conv2d_1", "max_pool2d_1", "relu_1"], ["loss"]]
    assert plan(Conv2D(2, 3, strides=2, padding="same"), MaxPool2D(2, padding="same"), ReLU()) == \
        [["conv2d_1", "max_pool2d_1", "relu_1"], ["loss"]]          # 8 x 8: `same` pads nothing


@pytest.mark.parametrize("pool", [lambda: MaxPool2D(3), lambda: MaxPool2D((2, 3)), lambda: MaxPool2D(2, strides=1),
                                  lambda: MaxPool2D(2, strides=(2, 1)), lambda: AveragePool2D(2),
                                  lambda: MaxPool2D(2, padding="same")])        # of 15 x 15: it pads
def test_other_poolings_stay_layers(pool):
    name = "average_pool2d_1" if isinstance(pool(), AveragePool2D) else "max_pool2d_1"
    assert plan(Conv2D(2, 2), ReLU(), pool()) == [["conv2d_1", "relu_1"], [name], ["loss"]]
    assert plan(Conv2D(2, 2), pool(), ReLU()) == [["conv2d_1"], [name], ["relu_1"], ["loss"]]


class Doubled(Conv2D):
    """A convolution of the user's own."""

    def forward(self, x):
        return 2 * super().forward(x)


class Leaky(ReLU):
    def forward(self, x):
        return np.where(x > 0, x, 0.1 * x)


class LastOfTwo(MaxPool2D):
    pass


class Sparse(Dense):
    pass


def test_a_subclass_may_compute_something_else_and_stays_a_layer():
    assert plan(Doubled(2, 3), ReLU(), MaxPool2D(2)) == [["doubled_1"], ["relu_1"], ["max_pool2d_1"], ["loss"]]
    assert plan(Conv2D(2, 3), Leaky(), MaxPool2D(2)) == [["conv2d_1"], ["leaky_1"], ["max_pool2d_1"], ["loss"]]
    assert plan(Conv2D(2, 3), ReLU(6), MaxPool2D(2)) == [["conv2d_1"], ["relu_1"], ["max_pool2d_1"], ["loss"]]
    assert plan(Conv2D(2, 3), ReLU(), LastOfTwo(2)) == [["conv2d_1", "relu_1"], ["last_of_two_1"], ["loss"]]
    assert plan(Sparse(2), ReLU(), shape=(4,)) == [["sparse_1"], ["relu_1"], ["loss"]]


def test_layers_that_are_no_pattern_stay_layers():
    assert plan(ReLU(), Conv2D(2, 3), Tanh(), MaxPool2D(2), Conv2D(2, 3), Dropout(0.5), ReLU(), Flatten(), Dense(2),
                Tanh(), Dense(1)) == \
        [["relu_1"], ["conv2d_1"], ["tanh_1"], ["max_pool2d_1"], ["conv2d_2"], ["dropout_1"], ["relu_2"], ["flatten_1"],
         ["dense_1"], ["tanh_2"], ["dense_2"], ["loss"]]
    assert plan(Conv2D(2, 3), ReLU(), ReLU()) == [["conv2d_1", "relu_1"], ["relu_2"], ["loss"]]
    assert plan(Conv2D(2, 3)) == [["conv2d_1"], ["loss"]]


class DenseTanh(LayerStep):
    """A dense layer and tanh, one after another: a pattern of the user's own."""

    match = staticmethod(lambda layers: len(layers) == 2 and type(layers[0]) is Dense and type(layers[1]) is Tanh)

    def __init__(self, layers):
        self.layers = layers

    def forward(self, x):
        return self.layers[1].forward(self.layers[0].forward(x))

    def backward(self, dy):
        return self.layers[0].backward(self.layers[1].backward(dy))


def test_a_new_pattern_is_one_line(monkeypatch):
    layers, x, dy = [Dense(5), Tanh(), Dense(3), ReLU()], normals(0, (4, 6), np.float32), normals(1, (4, 3), np.float32)
    apart = Network(layers, (6,), seed=1)
    y, _ = apart.forward(x).copy(), apart.backward(dy)
    grads = [p.grad.copy() for p in apart.parameters]
    monkeypatch.setattr(fusion, "PATTERNS", [(2, DenseTanh), *fusion.PATTERNS])
    network = Network(layers, (6,), seed=1)
    assert network.plan() == [["dense_1", "tanh_1"], ["dense_2", "relu_1"], ["loss"]]
    assert_same_bits(network.forward(x), y)
    network.backward(dy)
    for parameter, grad in zip(network.parameters, grads, strict=True):
        assert_same_bits(parameter.grad, grad)


# ---- What is computed ------------------------------------------------------------------------------------------------

def paper(filters):
    return [Conv2D(filters, 3), ReLU(), MaxPool2D(2), Conv2D(filters, 3), ReLU(), MaxPool2D(2), Conv2D(filters, 3),
            ReLU(), Flatten(), Dense(9), ReLU(), Dense(1)]


# name: (layers, input shape)
STACKS = {
    "the paper's, thin": (lambda: paper(5), (22, 22, 3)),
    "the paper's, odd maps": (lambda: paper(8), (25, 31, 1)),
    "the paper's": (lambda: paper(32), (22, 22, 3)),
    "pooling before ReLU": (lambda: [Conv2D(6, (4, 2), strides=(2, 1)), MaxPool2D(2), ReLU(), Flatten(), Dense(2)],
                            (19, 12, 2)),
    "padding": (lambda: [Conv2D(20, 3, padding="same"), MaxPool2D(2), ReLU(), Conv2D(3, 4, padding="same"), ReLU(),
                         Flatten(), Dense(2)], (9, 12, 2)),
    "layers first and between": (lambda: [ReLU(), Conv2D(4, 3), ReLU(), Tanh(), Conv2D(3, 2), ReLU(), MaxPool2D(2),
                                          AveragePool2D(2), Flatten(), Dense(3), ReLU()], (12, 11, 3)),
    "dense layers": (lambda: [Dense(40), ReLU(), Dense(17), ReLU(), Dense(3)], (300,))}
each_stack = pytest.mark.parametrize("layers, shape", STACKS.values(), ids=STACKS)


def fused_and_not(monkeypatch, layers, shape, dtype="float32", seed=4):
    """Return a network of fused steps and one with the same layers and weights that runs them one at a time."""
    fused = Network(layers(), shape, seed=seed, dtype=dtype)
    with monkeypatch.context() as patch:
        patch.setattr(fusion, "PATTERNS", [])
        single = Network(layers(), shape, seed=seed, dtype=dtype)
    assert max(map(len, fused.plan())) > 1 == max(map(len, single.plan()))
    for network in (fused, single):         # biases are 0 at first: then a wrong one would not be noticed
        for i, parameter in enumerate(network.parameters):
            parameter.value[...] += 0.1 * normals(i, parameter.value.shape)
    return fused, single


@each_dtype
@each_stack
def test_a_step_computes_what_its_layers_do(layers, shape, dtype, monkeypatch):
    fused, single = fused_and_not(monkeypatch, layers, shape, dtype)
    for n in (5, 2, 9, 1):                  # larger and smaller batches in the buffers of the same step
        x = np.abs(normals(n, (n, *shape), dtype))
        y, expected = fused.forward(x), single.forward(x)
        assert_same_bits(y, expected)
        dy = normals(n + 1, y.shape, dtype)
        fused.backward(dy), single.backward(dy)
        for got, right in zip(fused.parameters, single.parameters, strict=True):
            assert_near_largest(got.grad, right.grad.astype(np.float64), 1e-5 if dtype == "float32" else 1e-13)


@pytest.mark.parametrize("layers", [lambda: [Conv2D(32, 3), ReLU()], lambda: [Conv2D(32, 3), ReLU(), MaxPool2D(2)]])
def test_a_step_by_winograds_algorithm_is_as_near_as_sums_may_be(layers, monkeypatch):
    fused, single = fused_and_not(monkeypatch, layers, (16, 13, 32))
    x = np.maximum(normals(0, (3, 16, 13, 32), np.float32), 0)
    y, (w, b) = fused.forward(x), (p.value.astype(np.float64) for p in fused.parameters)
    assert_same_bits(y, single.forward(x))
    inputs = (1, 1), (0, 0, 0, 0)
    exact = specified_fusion.conv2d_relu(x.astype(np.float64), w, b, *inputs)
    magnitude = 2 * largest_of_tiles(ref.conv2d(x, np.abs(w), np.abs(b), *inputs))
    if len(fused.layers) == 3:
        exact, magnitude = (ref.max_pool2d(a, (2, 2), (2, 2), (0, 0, 0, 0))[0] for a in (exact, magnitude))
    assert_rounded(y, exact, magnitude)


@each_dtype
def test_pixels_may_come_as_bytes(dtype):
    network = Network(paper(5), (22, 22, 3), dtype=dtype)
    assert network.takes_pixels
    pixels = np.random.default_rng(0).integers(0, 256, (3, 22, 22, 3)).astype(np.uint8)
    results = []
    for x in (pixels, (pixels / np.float32(255)).astype(dtype)):
        y = network.forward(x).copy()
        network.backward(np.ones_like(y))
        results.append([y] + [p.grad.copy() for p in network.parameters])
    for got, expected in zip(*results, strict=True):
        assert_same_bits(got, expected)


FIRST = {"pooled": lambda: [Conv2D(5, 3), ReLU(), MaxPool2D(2), Flatten(), Dense(2)],
         "not pooled": lambda: [Conv2D(20, 3, padding="same"), ReLU(), Flatten(), Dense(2)],
         "other window": lambda: [Conv2D(4, (5, 2), strides=(1, 2)), ReLU(), MaxPool2D(2), Flatten(), Dense(2)]}


@each_dtype
@pytest.mark.parametrize("as_bytes", [False, True])
@pytest.mark.parametrize("layers", FIRST.values(), ids=FIRST)
def test_a_grey_picture_is_one_plane_whatever_company_it_is_in(layers, as_bytes, dtype, monkeypatch):
    fused, single = fused_and_not(monkeypatch, layers, (17, 14, 3), dtype)
    pixels = np.random.default_rng(0).integers(0, 256, (6, 17, 14, 3)).astype(np.uint8)
    grey = np.array([1, 0, 1, 1, 0, 0], bool)
    pixels[grey] = pixels[grey][..., 1:2]
    pixels[2, -1, -1, 2] ^= 1               # nearly grey is not grey
    x = pixels if as_bytes else (pixels / np.float32(255)).astype(dtype)
    bar = 1e-5 if dtype == "float32" else 1e-13
    alone = [fused.forward(picture[np.newaxis]).copy() for picture in x]
    for chosen in (np.arange(6), [5, 3, 0, 1], [0, 3], [1, 4], [3, 3, 0]):
        y, expected = fused.forward(x[chosen]), single.forward(x[chosen])
        assert_same_bits(y, np.concatenate([alone[i] for i in chosen]))
        assert_near_largest(y, expected.astype(np.float64), bar)
        dy = normals(len(chosen), y.shape, dtype)
        fused.backward(dy), single.backward(dy)
        for got, right in zip(fused.parameters, single.parameters, strict=True):
            assert_near_largest(got.grad, right.grad.astype(np.float64), bar)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_grey_planes_are_those_of_the_specification(dtype):
    x = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3)).astype(dtype)
    x[[0, 2, 3]] = x[[0, 2, 3], ..., :1]
    x[3, -1, -1, 1] = 1 if dtype == np.uint8 else np.nan
    planes, grey = specified_fusion.grey_planes(x)
    got, which = np.full(planes.shape, -1, planes.dtype), np.full(5, 9, np.uint8)
    get_engine("fast").grey_planes(x, got, which)
    assert which.tolist() == grey.tolist() and grey[[0, 2]].all() and not grey[[1, 4]].any()
    assert_same_bits(got[which == 1], planes[grey == 1])


def test_a_network_of_grey_pictures_computes_a_third_of_its_first_products(monkeypatch):
    network = Network(paper(5), (22, 22, 3))
    seen, ops = [], network._steps[0][0].ops
    whole = ops.conv2d_relu_pool
    monkeypatch.setattr(ops, "conv2d_relu_pool", lambda x, *rest: (seen.append(x.shape), whole(x, *rest)))
    grey, coloured = normals(0, (2, 22, 22, 1), np.float32).repeat(3, axis=3), normals(1, (1, 22, 22, 3), np.float32)
    network.forward(grey), network.forward(coloured), network.forward(np.concatenate([grey, coloured]))
    assert [shape for shape in seen if shape[1] == 22] == [(2, 22, 22, 1), (1, 22, 22, 3)] * 2
    grey[1, 3, 3] = np.nan                  # NaN equals nothing: such a picture is no grey one
    assert np.isnan(network.forward(grey)[1]).all() and np.isfinite(network.forward(grey)[0]).all()


@pytest.mark.parametrize("layers", [[Dense(3), ReLU()], [ReLU(), Conv2D(3, 3), ReLU()], [Conv2D(3, 3), Tanh()]])
def test_who_cannot_divide_bytes_takes_none(layers):
    assert not Network(layers, (9,) if isinstance(layers[0], Dense) else (9, 9, 3)).takes_pixels


# ---- Batch normalization, folded into the convolution before it ------------------------------------------------------

FOLDED = {"alone": (lambda: [Conv2D(17, 3), BatchNormalization()], 2),
          "ReLU": (lambda: [Conv2D(5, 3, strides=2, padding="same"), BatchNormalization(), ReLU()], 3),
          "pooling": (lambda: [Conv2D(32, 3), BatchNormalization(center=False), ReLU(), MaxPool2D(2)], 4),
          "pooling first, no bias": (lambda: [Conv2D(6, 2, use_bias=False), BatchNormalization(scale=False), MaxPool2D(2),
                                              ReLU()], 4),
          "each channel": (lambda: [DepthwiseConv2D(3, strides=2, depth_multiplier=2), BatchNormalization()], 2),
          "each channel, ReLU": (lambda: [DepthwiseConv2D(3, use_bias=False, dilation_rate=2), BatchNormalization(), ReLU()], 3)}
each_fold = pytest.mark.parametrize("layers, length", FOLDED.values(), ids=FOLDED)


def folded_and_not(layers, monkeypatch, dtype="float32"):
    fused, single = fused_and_not(monkeypatch, layers, (11, 12, 3), dtype)
    for network in (fused, single):
        for i, statistic in enumerate(network.layers[1].statistics):
            statistic.value = 0.3 + np.abs(normals(i, statistic.value.shape))
    return fused, single


@each_dtype
@each_fold
def test_folded_batch_normalization_predicts_what_its_layers_do(layers, length, dtype, monkeypatch):
    fused, single = folded_and_not(layers, monkeypatch, dtype)
    assert len(fused.plan()[0]) == length
    x = normals(0, (7, 11, 12, 3), dtype)
    y = fused.forward(x).copy()
    assert_near_largest(y, single.forward(x).astype(np.float64), 1e-6 if dtype == "float32" else 1e-14)
    for i in (0, 6):                        # whatever else is in the batch
        assert_same_bits(fused.forward(x[i:i + 1]), y[i:i + 1])
    # A prediction may be followed backward, as an explanation does: the statistics are constants then.
    dy = normals(1, y.shape, dtype)
    fused.forward(x), fused.backward(dy), single.forward(x), single.backward(dy)
    for got, right in zip(fused.parameters, single.parameters, strict=True):
        assert_same_bits(got.grad, right.grad)


@each_fold
def test_in_training_the_layers_run_one_after_another(layers, length, monkeypatch):
    fused, single = folded_and_not(layers, monkeypatch)
    x, dy = normals(0, (4, 11, 12, 3), "float32"), normals(1, (4, *fused.output_shape), "float32")
    for frozen in (False, True):
        for network in (fused, single):
            network.layers[1].trainable = not frozen
        fused.forward(x)                    # a prediction in between, as validation is
        assert_same_bits(fused.forward(x, training=True), single.forward(x, training=True))
        fused.backward(dy), single.backward(dy)
        fused.move_statistics(), single.move_statistics()
        for got, right in zip(fused.named_weights().values(), single.named_weights().values(), strict=True):
            assert_same_bits(got.value, right.value)
        for got, right in zip(fused.parameters, single.parameters, strict=True):
            assert_same_bits(got.grad, right.grad)
        with pytest.raises(InputError, match="backward needs a forward before it"):
            fused.backward(dy)


def test_what_batch_normalization_is_not_folded_into():
    assert ["batch_normalization_1"] in plan(Conv2D(2, 3, activation="relu"), BatchNormalization())
    assert plan(Conv2D(2, 3, groups=1, dilation_rate=2), BatchNormalization())[0] == ["conv2d_1"]
    assert plan(Conv2D(2, 3), ReLU(), BatchNormalization())[:2] == [["conv2d_1", "relu_1"], ["batch_normalization_1"]]
    assert plan(Conv2D(2, 3), LayerNormalization())[0] == ["conv2d_1"]


def test_an_addition_and_relu_are_one_step():
    def residual():
        x = Input((6, 7, 3))
        y = Conv2D(3, 3, padding="same")(x)
        return Model(x, ReLU()(Add()([ReLU()(Add()([y, x])), y, x])))       # the second adds three
    model, single = residual(), residual()
    assert ["add_1", "relu_1"] in model.network.plan() and ["add_2"] in model.network.plan()
    x, dy = normals(0, (3, 6, 7, 3), "float32"), normals(1, (3, 6, 7, 3), "float32")
    apart = single.network.rows(fused=False)
    assert_same_bits(model.network.forward(x, training=True), single.network.forward(x, apart, training=True))
    model.network.backward(dy), single.network.backward(dy, apart)
    for got, right in zip(model.network.parameters, single.network.parameters, strict=True):
        assert_same_bits(got.grad, right.grad)
    assert plan(Conv2D(2, 3), BatchNormalization(), ReLU(), MaxPool2D(3))[:2] == [
        ["conv2d_1", "batch_normalization_1", "relu_1"], ["max_pool2d_1"]]
    assert plan(Conv2D(2, 3), BatchNormalization(), engine="reference")[0] == ["conv2d_1"]


# ---- The idiom of layers holds for steps -----------------------------------------------------------------------------

FUSED = {"conv relu pool": ([Conv2D(4, 3), ReLU(), MaxPool2D(2)], (8, 8, 2), "Conv2D 'conv2d_1'"),
         "conv relu": ([Conv2D(4, 3), ReLU()], (8, 8, 2), "Conv2D 'conv2d_1'"),
         "dense relu": ([Dense(4), ReLU()], (6,), "Dense 'dense_1'"),
         "conv norm": ([Conv2D(4, 3), BatchNormalization()], (8, 8, 2), "(Conv2D 'conv2d_1'|BatchNormalization 'b.*1')")}
each_step = pytest.mark.parametrize("layers, shape, label", FUSED.values(), ids=FUSED)


@each_step
def test_backward_uses_one_forward_up(layers, shape, label):
    network, sentence = Network(layers, shape), f"^{label}: backward needs a forward before it; each backward uses one"
    dy = np.ones((2, *network.output_shape), np.float32)
    with pytest.raises(InputError, match=sentence):
        network.backward(dy)
    network.forward(np.ones((2, *shape), np.float32))
    network.backward(dy)
    with pytest.raises(InputError, match=sentence):
        network.backward(dy)


@each_step
def test_a_gradient_of_another_shape_is_refused(layers, shape, label):
    network = Network(layers, shape)
    for wrong in ((1, *network.output_shape), (3, *network.output_shape), (2, *network.output_shape[:-1], 5),
                  (2, *network.output_shape[:-1], 3), (2,)):
        network.forward(np.ones((2, *shape), np.float32))
        with pytest.raises(ShapeError, match=rf"{label}: expected dy of shape .*, as forward returned, got"):
            network.backward(np.ones(wrong, np.float32))


@each_step
def test_inputs_of_another_shape_are_refused(layers, shape, label):
    network = Network(layers, shape)
    for wrong in ((2, *shape[:-1], shape[-1] + 1), (0, *shape), shape):
        with pytest.raises(ShapeError, match=rf"{label}: expected x of shape"):
            network.forward(np.ones(wrong, np.float32))
    if len(shape) == 1:
        with pytest.raises(ShapeError, match=rf"{label}: expected x of shape"):
            network.forward(np.ones((2, 4), np.uint8))


@each_step
def test_any_form_of_memory_gives_the_same_bits(layers, shape, label):
    network, x = Network(layers, shape), normals(0, (4, *shape), np.float32)
    y = network.forward(x).copy()
    read_only, padded = x.copy(), np.zeros((8, *shape), np.float32)
    read_only.flags.writeable, padded[::2] = False, x
    unaligned = np.frombuffer(b"-" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(x.shape)
    offset = np.zeros(x.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(x.shape)     # unaligned, and writable
    offset[...] = x
    for form in (np.asfortranarray(x), read_only, padded[::2], x[::-1].copy()[::-1], x.astype(">f4"), unaligned, offset,
                 x.astype(np.float64), x.tolist(), np.ma.masked_array(x)):
        assert_same_bits(network.forward(form), y)
    with pytest.raises(InputError, match=f"{label}: x is masked in places"):
        network.forward(np.ma.masked_array(x, x > 0))


@each_step
def test_a_step_writes_neither_to_its_input_nor_to_the_gradient_it_gets(layers, shape, label):
    network = Network([Flatten(), *layers] if len(shape) == 1 else [ReLU(), *layers], shape)
    x = normals(0, (4, *shape), np.float32)
    dy = normals(1, (4, *network.output_shape), np.float32)
    before = x.copy(), dy.copy()
    network.forward(x)
    network.backward(dy)
    assert_same_bits(x, before[0]), assert_same_bits(dy, before[1])


@each_step
def test_only_a_step_that_is_not_the_first_to_learn_computes_dx(layers, shape, label):
    step, = Network(layers, shape).steps
    x = normals(0, (2, *shape), np.float32)
    y = step.forward(x)
    assert step.backward(np.ones_like(y)) is None
    layers[0].needs_input_gradient = True
    step.forward(x)
    assert step.backward(np.ones_like(y)).shape == x.shape


def test_the_head_is_left_to_the_loss():
    network = Network([Dense(3), ReLU(), Dense(1), Sigmoid()], (4,))
    x = normals(0, (2, 4), np.float32)
    z = network.forward(x, network.rows(heads=network.heads(["Sigmoid"]))).copy()
    np.testing.assert_allclose(network.forward(x), ref.sigmoid(z), rtol=1e-6)


# ---- Steady state ----------------------------------------------------------------------------------------------------

STEADY = """
import gc, tracemalloc
import numpy as np
from numba.core.runtime import rtsys
from minicnn import Sequential
from minicnn.kernels.runtime import threads
from minicnn.layers import Conv2D, Dense, Flatten, MaxPool2D, ReLU, Sigmoid
from minicnn.optimizers import Adam

class Own:
    build = lambda self, input_shape: input_shape
    forward = lambda self, x: x + 0
    backward = lambda self, dy: dy

def measure(pixels, own=(), grey=False):
    model = Sequential([*own, Conv2D(32, 3), ReLU(), MaxPool2D(2), Conv2D(32, 3), ReLU(), MaxPool2D(2), Conv2D(32, 3),
                        ReLU(), Flatten(), Dense(128), ReLU(), Dense(1), Sigmoid()], input_shape=(34, 34, 3))
    model.compile(Adam(), "binary_crossentropy")
    rng = np.random.default_rng(0)
    x, t = rng.integers(0, 256, (32, 34, 34, 3)).astype(np.uint8), rng.integers(0, 2, 32)
    x = x[..., :1].repeat(3, axis=3) if grey else x
    x = x if pixels else x / np.float32(255)
    for _ in range(5):
        model.train_on_batch(x, t)
    gc.collect()
    allocated, freed, *_ = rtsys.get_allocation_stats()
    tracemalloc.start()
    for _ in range(20):
        model.train_on_batch(x, t)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    now_allocated, now_freed, *_ = rtsys.get_allocation_stats()
    # Each array that a kernel is given is an entry in numba's books; it is closed when the kernel ends.
    print(peak, (now_allocated - allocated) - (now_freed - freed))

for count in (1, 2):
    threads.set_thread_count(count)
    measure(True)
    measure(False)
    measure(False, grey=True)
measure(False, [Own()])
"""


def test_training_allocates_nothing_of_the_size_of_a_batch_in_its_steady_state():
    done = subprocess.run([sys.executable, "-c", STEADY], env=os.environ | {"NUMBA_NRT_STATS": "1"}, text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stderr[-3000:]
    *rows, own = [[int(number) for number in line.split()] for line in done.stdout.splitlines()]
    for peak, still_open in rows:
        assert peak < 80_000, f"{peak} bytes were allocated at once: a batch has 110,976 or four times that"
        assert abs(still_open) < 16         # a helper closes its books when it is given the next
    assert own[0] > 400_000, "an array of a batch's size was not noticed"


def test_no_kernel_allocates():
    # numba's malloc is seen by nobody else.
    allocating = {"empty", "zeros", "ones", "full", "empty_like", "zeros_like", "ones_like", "full_like", "array",
                  "copy", "arange", "concatenate", "ascontiguousarray", "astype"}
    found = {}
    for file in sorted(Path(fusion.__file__).parent.joinpath("kernels").rglob("*.py")):
        for function in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef) and \
                    {"kernel", "device"} & {getattr(decorator, "id", "") for decorator in function.decorator_list}:
                calls = {getattr(node.func, "attr", "") for node in ast.walk(function) if isinstance(node, ast.Call)}
                found[file.stem, function.name] = calls & allocating
    assert len(found) > 40
    assert {name: calls for name, calls in found.items() if calls} == {}


@pytest.mark.parametrize("shape", [(12, 11, 4), (10, 11, 3)])
def test_a_step_keeps_what_it_was_made_for(shape):
    network = Network([Conv2D(4, 3), ReLU(), MaxPool2D(2), Flatten(), Dense(2), ReLU()], (10, 11, 3), seed=1)
    x, dy = normals(1, (2, 10, 11, 3), np.float32), normals(2, (2, 4, 4, 4), np.float32)
    step = network.steps[0]
    y = step.forward(x)
    network.layers[0].configure("float64")
    for layer in network.layers[:3]:
        shape = layer.build(shape)
    step.backward(dy)                                   # of the forward before
    assert_same_bits(step.forward(x), y)                # what it was made for, it still computes
    with pytest.raises(InputError, match="Conv2D 'conv2d_1' was built again, so it no longer fits this step"):
        step.forward(x.astype(np.float64))
    with pytest.raises(InputError, match="Conv2D 'conv2d_1' was built again"):
        network.forward(x)
