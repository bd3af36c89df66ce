"""Processes that share each batch give the bits of one; here threads stand for processes."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from minicnn import (Adam, CapsuleLength, Capsules, Concatenate, Conv2D, Dense, DepthwiseConv2D, Dropout, Flatten, GlobalAveragePooling2D, Input,
                     LayerNormalization, BatchNormalization, MaxPool2D, Model, Parameter, ReLU, Reshape, Sequential, Sigmoid, Softmax,
                     SpatialDropout2D, L2)
from minicnn.kernels.convolution import winograd
from minicnn.kernels.runtime import reduction
from tests.support.laws import assert_same_bits
from tests.support.processes import run_together


pytestmark = pytest.mark.filterwarnings("ignore:fit. a batch of .* has .* chunks")


def images(n, side, channels, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (n, side, side, channels), dtype=np.uint8)


class Scale:
    """A layer of somebody else's, whose gradient is a sum over the batch."""

    def build(self, input_shape):
        self.parameters = [Parameter("factor", np.ones(input_shape[-1], np.float32))]
        return input_shape

    def forward(self, x):
        self.x = x
        return x * self.parameters[0].value

    def backward(self, dy):
        self.parameters[0].grad[...] = (dy * self.x).sum(axis=tuple(range(dy.ndim - 1)))
        return dy * self.parameters[0].value


def cov19_like(**how):
    return Sequential([Conv2D(32, 3), ReLU(), MaxPool2D(), Conv2D(32, 3), ReLU(), MaxPool2D(), Conv2D(32, 3), ReLU(), Flatten(),
                       Dropout(0.3), Dense(300), ReLU(), Dense(1), Sigmoid()], input_shape=(26, 26, 3), seed=1, **how)


def residual(**how):
    x = Input((12, 12, 16))
    y = BatchNormalization()(Conv2D(64, 3, padding="same", use_bias=False)(x))
    y = ReLU()(y)
    z = BatchNormalization()(DepthwiseConv2D(3, padding="same")(y))
    z = LayerNormalization()(Concatenate()([ReLU()(z), y]))
    z = SpatialDropout2D(0.2)(Conv2D(32, 3, groups=4, kernel_regularizer=L2(1e-3))(z))
    return Model(x, Softmax()(Dense(3)(GlobalAveragePooling2D()(z))), seed=2, **how)


def wide(**how):
    return Sequential([Conv2D(128, 3, padding="same"), ReLU(), Conv2D(256, 3, padding="same"), ReLU(), Conv2D(520, 3, strides=2), ReLU(),
                       Scale(), Conv2D(64, 1), Flatten(), Dense(200), BatchNormalization(), Dense(1), Sigmoid()],
                      input_shape=(10, 10, 16), seed=3, **how)


def train(model, x, y, batch_size, group=None, epochs=2, loss=None, **how):
    """Return the weights, the history and the predictions of a model that was trained."""
    model.compile(Adam(), loss or ("categorical_crossentropy" if model.output_shape == (3,) else "binary_crossentropy"))
    history = model.fit(x, y, batch_size=batch_size, epochs=epochs, validation=(x[:7], y[:7]), progress=False, workers=0,
                        distributed=group, **how)
    return model.get_weights(), history.rows, model.predict(x, 5, distributed=group)


def assert_all_the_same(make, x, y, batch_size, size, **how):
    weights, history, predictions = train(make(), x, y, batch_size, **how)
    for others, rows, predicted in run_together(size, lambda group: train(make(), x, y, batch_size, group, **how)):
        for one, other in zip(weights, others, strict=True):
            assert_same_bits(one, other)
        assert rows == history
        assert_same_bits(predictions, predicted)


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("batch_size, n", [(16, 37), (5, 12), (40, 40), (2, 6)])
def test_cov19net_of_grey_and_coloured_images(size, batch_size, n):
    """Uneven last batches, fewer samples than processes, and a batch with images of both kinds."""
    x, y = images(n, 26, 3), np.arange(n) % 2
    x[:n // 2] = x[:n // 2, ..., :1]
    assert_all_the_same(cov19_like, x, y, batch_size, size)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_sums_over_chunks_of_another_size(size):
    """Of 8 images of a batch of 32: two and four processes have whole ones, three exchange x and dy."""
    x = np.random.default_rng(0).normal(size=(40, 14, 14, 32)).astype(np.float32)
    assert winograd.larger_chunk(32, 9, 32) == 8
    assert_all_the_same(lambda: Sequential([Conv2D(32, 3), ReLU(), Conv2D(32, 3, padding="same"), Flatten(), Dense(1), Sigmoid()],
                                           input_shape=(14, 14, 32)), x, np.arange(40) % 2, 32, size, epochs=1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [2, 3])
def test_normalization_groups_and_dropout(size, dtype):
    x = np.random.default_rng(0).normal(size=(21, 12, 12, 16)).astype(dtype)
    assert_all_the_same(lambda: residual(dtype=dtype), x, np.arange(21) % 3, 9, size)


@pytest.mark.parametrize("size", [2, 3])
def test_capsules(size):
    x = 3 * np.random.default_rng(0).normal(size=(21, 12, 12, 16)).astype(np.float32)
    assert_all_the_same(lambda: Sequential([Conv2D(32, 3), ReLU(), Reshape((-1, 32)), Capsules(6, 4), Capsules(3, 5), CapsuleLength()],
                                           input_shape=(12, 12, 16)), x, np.arange(21) % 3, 9, size, loss="margin")


@pytest.mark.parametrize("size", [2, 3])
def test_many_weights_and_a_layer_of_somebody_elses(size):
    x = np.random.default_rng(0).normal(size=(11, 10, 10, 16)).astype(np.float32)
    assert_all_the_same(wide, x, np.arange(11) % 2, 4, size, epochs=1)


def test_the_reference_engine_computes_all_in_each_process():
    assert_all_the_same(lambda: Sequential([Conv2D(2, 3), BatchNormalization(), ReLU(), Flatten(), Dense(1), Sigmoid()],
                                           input_shape=(6, 6, 3), engine="reference"), images(9, 6, 3), np.arange(9) % 2, 4, 2)


def test_weights_of_samples_and_batches_that_others_make():
    x, y, weights = images(14, 26, 3), np.arange(14) % 2, np.linspace(0.1, 2, 14)
    assert_all_the_same(cov19_like, x, y, 6, 2, sample_weight=weights, class_weight={0: 2, 1: 1}, epochs=1)

    class Taken:
        def __len__(self):
            return 3

        def __getitem__(self, i):
            return x[4 * i:4 * i + 4], y[4 * i:4 * i + 4]

    def fit(group=None):
        model = cov19_like()
        model.compile(Adam(), "binary_crossentropy")
        return model.fit(Taken(), epochs=2, progress=False, workers=0, distributed=group).rows

    assert run_together(3, fit) == [fit()] * 3


def test_several_inputs_and_outputs():
    image, number = Input((8, 8, 3), name="image"), Input((2,), name="number")
    y = Flatten()(Conv2D(4, 3, activation="relu")(image))
    model = Model([image, number], [Dense(1, activation="sigmoid", name="one")(Concatenate()([y, number])), Dense(3, name="two")(y)],
                  seed=4)
    x = {"image": images(10, 8, 3), "number": np.random.default_rng(1).normal(size=(10, 2)).astype(np.float32)}
    t = {"one": np.arange(10) % 2, "two": np.random.default_rng(2).normal(size=(10, 3))}
    data = pickle.dumps(model)

    def fit(group=None):
        model = pickle.loads(data)
        model.compile("adam", loss={"one": "binary_crossentropy", "two": "mse"}, loss_weights=[1, 0.5])
        rows = model.fit(x, t, batch_size=4, epochs=2, validation=(x, t), progress=False, workers=0, distributed=group).rows
        return rows, [array.tobytes() for array in [*model.get_weights(), *model.predict(x, distributed=group)]]

    assert run_together(3, fit) == [fit()] * 3


def test_steps_that_run_on_through_the_data():
    assert_all_the_same(cov19_like, images(13, 26, 3), np.arange(13) % 2, 8, 3, steps_per_epoch=3)


# ---- The tree --------------------------------------------------------------------------------------------------------

class Term:
    """A number that remembers how it was added."""

    def __init__(self, text):
        self.text = text

    def __iadd__(self, other):
        return Term(f"({self.text}+{other.text})")


def added(terms, nodes, chunks):
    """Return (terms, nodes) that are left when terms of nodes of the tree are added as `tree` says."""
    pairs, rest = reduction.tree(tuple(nodes), chunks)
    terms = list(terms)
    for one, other in pairs:
        terms[one] += terms[other]
    return [terms[row] for row, _ in rest], [node for _, node in rest]


@given(st.integers(1, 70), st.lists(st.integers(0, 70), max_size=6))
def test_whoever_has_which_chunks_they_are_added_the_same_way(chunks, cuts):
    terms, nodes = [Term(str(i)) for i in range(chunks)], [(i, 1) for i in range(chunks)]
    (whole,), (root,) = added(terms, nodes, chunks)
    assert root == (0, chunks)
    bounds = sorted({0, chunks, *(cut for cut in cuts if cut < chunks)})
    left, kept = [], []
    for begin, end in zip(bounds, bounds[1:]):
        some, of_some = added(terms[begin:end], nodes[begin:end], chunks)
        assert len(some) <= 2 * max(1, (end - begin).bit_length())
        left, kept = left + some, kept + of_some
    assert [one.text for one in added(left, kept, chunks)[0]] == [whole.text]


@settings(max_examples=20)
@given(st.integers(1, 600), st.integers(1, 40))
def test_sums_in_rounds_are_those_at_once(n, most):
    """However few chunks' sums are kept at a time."""
    x = np.random.default_rng(n).normal(size=(n, 3))
    results = []
    for limit in (most, 2**20):
        sums = reduction.ChunkSums(n, 3, most=limit)
        for some in sums.rounds():
            chunks = [x[some][i:i + sums.chunk] for i in range(0, len(x[some]), sums.chunk)]
            assert len(chunks) == len(sums.parts) <= limit
            sums.parts[...] = [chunk.sum(axis=0) for chunk in chunks]
        sums.finish(lambda total: results.append(total.copy()))
    assert_same_bits(*results)
    np.testing.assert_allclose(results[0], x.sum(axis=0), atol=1e-9)


def test_chunks_of_a_batch():
    assert [reduction.chunk_of(n) for n in (1, 2, 32, 33, 256, 257, 10**6)] == [2, 2, 2, 3, 16, 16, 16]
