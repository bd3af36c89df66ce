"""The stack: names, shapes, sentences, custom layers, NaN and who made it."""

import numpy as np
import pytest

from minicnn import reference
from minicnn.core.backend import ENGINES, get_engine
from minicnn.core.parameter import Parameter
from minicnn.errors import DTypeError, InputError, NonFiniteError, ShapeError
from minicnn.kernels.runtime import threads
from minicnn.layers import (AveragePool2D, Conv2D, Dense, Dropout, Flatten, Layer, MaxPool2D, ReLU, Sigmoid, Softmax,
                            Tanh)
from minicnn.model import Sequential
from tests.support.laws import assert_gradient, assert_same_bits
from tests.support.random_networks import Block
from tests.support.strategies import normals, separated

each_engine = pytest.mark.parametrize("engine", ENGINES)


def Network(layers, input_shape, seed=0, dtype="float32", engine="fast"):
    """Return the network of a model: its layers are named, and custom ones run."""
    return Sequential(layers, input_shape, seed, dtype, engine).network


def paper_layers(filters=4, units=8):
    """Return the layers of COV-19Net, thinner."""
    return [Conv2D(filters, 3), ReLU(), MaxPool2D(2), Conv2D(filters, 3), ReLU(), MaxPool2D(2), Conv2D(filters, 3),
            ReLU(), Flatten(), Dense(units), ReLU(), Dense(1), Sigmoid()]


# ---- Names -----------------------------------------------------------------------------------------------------------

def names(*layers):
    return [layer.name for layer in Network(list(layers), (9, 9, 1)).layers]


def test_layers_are_named_by_their_type_and_counted():
    assert names(Conv2D(1, 1), ReLU(), MaxPool2D(1), Conv2D(1, 1), AveragePool2D(1), ReLU(), Flatten(), Dense(2),
                 Tanh(), Dropout(0.1), Softmax()) == \
        ["conv2d_1", "relu_1", "max_pool2d_1", "conv2d_2", "average_pool2d_1", "relu_2", "flatten_1", "dense_1",
         "tanh_1", "dropout_1", "softmax_1"]


def test_given_names_are_kept_and_never_given_again():
    assert names(Conv2D(1, 1), Conv2D(1, 1, name="conv2d_1"), Conv2D(1, 1, name="stem"), Conv2D(1, 1)) == \
        ["conv2d_2", "conv2d_1", "stem", "conv2d_3"]


def test_two_layers_of_one_name_are_refused():
    with pytest.raises(InputError, match="Sequential: two layers are called 'a'"):
        names(Conv2D(1, 1, name="a"), Conv2D(1, 1, name="a"))


@pytest.mark.parametrize("name", ["a/b", "a b", "é", "x" * 65, "\x1b[2J", 7, ["a"]])
def test_names_are_plain(name):
    with pytest.raises(InputError, match="Sequential: layer name .* must be 1 to 64 letters, digits, '_', '.' or '-'"):
        names(Conv2D(1, 1, name=name))


# ---- What does not fit -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("shape, least", [((10, 10, 3), "18 x 18; these are 10 x 10"),
                                          ((17, 64, 3), "18 x 18; these are 17 x 64"),
                                          ((2, 2, 3), "18 x 18; these are 2 x 2")])
def test_images_too_small_hear_the_least_size(shape, least):
    with pytest.raises(ShapeError, match=rf"(Conv2D|MaxPool2D) '\w+': along the height of inputs .* "
                                         rf"This network needs images of at least {least}\."):
        Network(paper_layers(), shape)


def test_the_least_size_fits():
    assert Network(paper_layers(), (18, 18, 3)).output_shape == (1,)


def test_no_size_is_named_where_none_helps():
    with pytest.raises(ShapeError, match=r"Dense 'dense_1': expected one row a sample, \(D,\), got \(9, 9, 4\)\. Put a "
                                         r"Flatten\(\) before this layer\.$"):
        Network([Conv2D(4, 1), Dense(3)], (9, 9, 1))
    with pytest.raises(ShapeError, match=r"Conv2D 'conv2d_1': expected images, .* got inputs of shape \(9,\)\.$"):
        Network([Conv2D(4, 1)], (9,))


@pytest.mark.parametrize("layers, sentence", [
    ([], "Sequential: expected at least one layer, got none"),
    ([ReLU(), Dense], r"Sequential: layer 1 is the class Dense; make one: Dense\(\.\.\.\)"),
    ([ReLU(), "relu"], r"Sequential: layer 1, 'relu', has no build, forward, backward\. A layer needs "
                       r"build\(input_shape\), forward\(x\) and backward\(dy\)\."),
    ([ReLU()] * 2, "Sequential: the same layer stands in two places. Make one for each place"),
])
def test_lists_that_are_no_network(layers, sentence):
    with pytest.raises(InputError, match=sentence):
        Network(layers, (4,))


@pytest.mark.parametrize("shape", [(0, 3), (2.5, 3), (-1,)])
def test_input_shapes_are_whole_numbers(shape):
    with pytest.raises(InputError, match="Sequential: input_shape must be a whole number from 1"):
        Network([ReLU()], shape)


def test_wrong_inputs_name_the_layer():
    network = Network([Conv2D(2, 3, name="stem"), ReLU()], (5, 5, 1))
    with pytest.raises(ShapeError, match=r"Conv2D 'stem': expected x of shape \(N, 5, 5, 1\), got \(2, 5, 5, 2\)"):
        network.forward(np.zeros((2, 5, 5, 2)))


# ---- What it computes ------------------------------------------------------------------------------------------------

def test_shapes_parameters_rows_and_plan_of_the_paper():
    network = Network(paper_layers(32, 128), (64, 64, 3))
    assert network.shapes[:6] == [(64, 64, 3), (62, 62, 32), (62, 62, 32), (31, 31, 32), (29, 29, 32), (29, 29, 32)]
    assert sum(p.value.size for p in network.parameters) == 609_473
    assert list(network.named_parameters())[:3] == ["conv2d_1/kernel", "conv2d_1/bias", "conv2d_2/kernel"]
    assert tuple(network.named_parameters().values()) == network.parameters
    assert network.heads([None]) == network.heads(["Softmax"]) == () and network.heads(["Sigmoid"]) == (12,)
    steps = network.plan(["Sigmoid"])
    assert [name for step in steps for name in step] == [layer.name for layer in network.layers] + ["loss"]
    assert steps[-1][-1] == "loss" and network.plan()[-1] == ["loss"]


@each_engine
def test_all_gradients_of_the_papers_network(engine):
    # Numerics A2: the whole network with its loss, in float64, along random directions in all parameters at once.
    network = Network(paper_layers(), (22, 22, 3), seed=5, dtype=np.float64, engine=engine)
    x, t, scale = np.abs(normals(0, (3, 22, 22, 3))), np.array([[0.0], [1.0], [1.0]]), np.full(3, 1 / 3)
    rows, shapes = network.rows(heads=(12,)), [p.value.shape for p in network.parameters]

    def loss(theta):
        for parameter, part in zip(network.parameters, np.split(theta, np.cumsum([np.prod(s) for s in shapes])[:-1])):
            parameter.value[...] = part.reshape(parameter.value.shape)
        return reference.binary_crossentropy(network.forward(x, rows), t, scale)[0].sum()[None]
    theta = np.concatenate([p.value.ravel() for p in network.parameters])
    loss(theta)
    network.backward(reference.binary_crossentropy(network.forward(x, rows), t, scale)[1], rows)
    gradient = np.concatenate([p.grad.ravel() for p in network.parameters])
    for seed in range(3):
        assert_gradient(loss, gradient, theta, np.ones(1), seed=seed)
    gradient[np.abs(gradient).argmax()] *= 1.001
    with pytest.raises(AssertionError, match="the gradient is off by"):
        assert_gradient(loss, gradient, theta, np.ones(1))


def test_engines_agree_on_a_network():
    x, dy = normals(0, (3, 22, 22, 3)), normals(1, (3, 1))
    fast, slow = (Network(paper_layers(), (22, 22, 3), seed=1, dtype=np.float64, engine=engine) for engine in ENGINES)
    np.testing.assert_allclose(fast.forward(x), slow.forward(x), rtol=1e-12)
    fast.backward(dy), slow.backward(dy)
    for ours, expected in zip(fast.parameters, slow.parameters, strict=True):
        np.testing.assert_allclose(ours.grad, expected.grad, rtol=1e-11, atol=1e-15)


def test_a_sample_depends_neither_on_its_batch_nor_on_the_threads():
    network = Network(paper_layers(), (22, 22, 3))
    x = normals(0, (33, 22, 22, 3), np.float32)
    y, before = network.forward(x).copy(), threads.thread_count()
    try:
        for count in (1, 2, 3):
            threads.set_thread_count(count)
            for size in (1, 2, 3, 7, 16, 33):
                order = np.random.default_rng(size).permutation(33)
                again = [network.forward(x[order[i:i + size]]).copy() for i in range(0, 33, size)]
                assert_same_bits(np.concatenate(again), y[order])
    finally:
        threads.set_thread_count(before)


def test_backward_ends_where_nothing_learns_any_more():
    network = Network([ReLU(), Conv2D(2, 3), ReLU(), Conv2D(2, 3)], (7, 7, 1))
    assert [layer.needs_input_gradient for layer in network.layers[1:]] == [False, True, True]
    network.forward(np.ones((1, 7, 7, 1)))
    network.backward(np.ones((1, 3, 3, 2)))
    assert all(np.isfinite(p.grad).all() for p in network.parameters)


def test_a_layer_that_was_first_elsewhere_gives_its_input_gradient_again():
    dense = Dense(3)
    Network([dense], (2,))
    network = Network([Dense(2), dense], (4,))
    network.forward(np.ones((1, 4)))
    network.backward(np.ones((1, 3)))
    assert (network.parameters[0].grad != 0).all()


def test_a_network_without_parameters_runs_both_ways():
    network = Network([Flatten(), ReLU()], (2, 2, 1))
    assert network.forward(np.ones((1, 2, 2, 1))).shape == (1, 4) and not network.parameters
    network.backward(np.ones((1, 4)))


# ---- custom layers ----------------------------------------------------------------------------------------

class Scale:
    """y = a x, a learned: the protocol and nothing else."""

    def build(self, input_shape):
        self.parameters = [Parameter("a", np.full(input_shape, 2.0))]
        return input_shape

    def forward(self, x):
        self.x = x
        return x * self.parameters[0].value

    def backward(self, dy):
        self.parameters[0].grad = (dy * self.x).sum(axis=0)
        return dy * self.parameters[0].value


class Double:
    """y = 2 x: three methods are enough."""

    def build(self, input_shape):
        return input_shape

    def forward(self, x):
        return 2 * x

    def backward(self, dy):
        return 2 * dy


@each_engine
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_layer_needs_no_base_class(engine, dtype):
    network = Network([Dense(3), Scale(), Double(), Dense(2)], (4,), dtype=dtype, engine=engine)
    assert [layer.name for layer in network.layers] == ["dense_1", "scale_1", "double_1", "dense_2"]
    assert list(network.named_parameters()) == ["dense_1/kernel", "dense_1/bias", "scale_1/a", "dense_2/kernel",
                                                "dense_2/bias"]
    x, dy, a = normals(0, (5, 4), dtype), normals(1, (5, 2), dtype), network.layers[1].parameters[0]
    network.forward(x)
    network.backward(dy)
    gradient = a.grad.copy()

    def forward(value):
        a.value[...] = value
        return network.forward(x).astype(np.float64)
    assert gradient.dtype == np.float64
    assert_gradient(forward, gradient, np.full(3, 2.0), dy, bar=1e-7 if dtype == "float64" else 3e-2)


def faulty(base=Scale, **methods):
    """Return a custom layer with some methods replaced."""
    return type("Mine", (base,), methods)()


def grad_of(value):
    def backward(self, dy):
        self.parameters[0].grad = value
        return dy
    return backward


def parameters_of(*parameters):
    def build(self, input_shape):
        self.parameters = list(parameters)
        return input_shape
    return build


@pytest.mark.parametrize("methods, error, sentence", [
    (dict(build=lambda self, shape: None), ShapeError,
     r"layer 'mine_1': build must return the output shape without N, a tuple of whole numbers, got None"),
    (dict(build=lambda self, shape: [3]), ShapeError, r"build must return .* got \[3\]"),
    (dict(build=lambda self, shape: (3.0,)), ShapeError, r"build must return .* got \(3.0,\)"),
    (dict(build=lambda self, shape: (0,)), ShapeError, r"build must return .* got \(0,\)"),
    (dict(build=parameters_of(Parameter("a", np.ones(3)), Parameter("a", np.ones(3)))), InputError,
     r"layer 'mine_1': each parameter needs a name of its own, .* got \['a', 'a'\]"),
    (dict(build=parameters_of(Parameter("a/b", np.ones(3)))), InputError, r"each parameter needs a name .* \['a/b'\]"),
    (dict(build=parameters_of(Parameter(None, np.ones(3)))), InputError, r"each parameter needs a name .* \[None\]"),
    (dict(build=parameters_of(np.ones(3))), DTypeError,
     r"layer 'mine_1': parameter array\(\[1., 1., 1.\]\) must hold an array of float32 or float64: make it with"),
    (dict(forward=lambda self, x: x[:, :2]), ShapeError,
     r"layer 'mine_1': build promised an output of shape \(2, 3\), forward returned \(2, 2\)"),
    (dict(forward=lambda self, x: x[0]), ShapeError, r"forward returned \(3,\)"),
    (dict(forward=lambda self, x: None), DTypeError, r"forward of layer 'mine_1': y must hold .*, got dtype object"),
    (dict(forward=lambda self, x: x * 1j), DTypeError, r"forward of layer 'mine_1': y must hold .* got dtype complex"),
    (dict(backward=lambda self, dy: dy[:, :2]), ShapeError,
     r"layer 'mine_1': expected backward to return dx of shape \(2, 3\), that of x, got \(2, 2\)"),
    (dict(backward=lambda self, dy: None), DTypeError, r"backward of layer 'mine_1': dx must hold .* dtype object"),
    (dict(backward=grad_of(np.ones(2))), ShapeError, r"layer 'mine_1': its a has shape \(3,\), the gradient \(2,\)"),
    (dict(backward=grad_of(1.0)), ShapeError, r"its a has shape \(3,\), the gradient \(\)"),
    (dict(backward=grad_of(None)), DTypeError, r"layer 'mine_1': a\.grad must hold real numbers, got dtype object"),
])
@pytest.mark.parametrize("base", [(), (Layer,)], ids=["no base", "a subclass of ours"])
def test_a_wrong_layer_of_ones_own_is_named(base, methods, error, sentence):
    layer = type("Mine", (Scale, *base), methods)()
    with pytest.raises(error, match=sentence):
        network = Network([Dense(3), layer, Dense(2)], (4,))
        network.forward(np.ones((2, 4)))
        network.backward(np.ones((2, 2)))


def test_a_first_layer_of_ones_own_need_not_return_dx():
    network = Network([faulty(backward=lambda self, dy: None), Dense(2)], (3,))
    network.forward(np.ones((1, 3)))
    network.backward(np.ones((1, 2)))


def test_an_error_in_a_layer_of_ones_own_comes_through():
    def build(self, input_shape):
        raise ZeroDivisionError("mine")
    with pytest.raises(ZeroDivisionError, match="mine"):
        Network([faulty(build=build)], (3,))


# ---- Non-finite numbers never hide (A6) ------------------------------------------------------------------------------

def nan_everywhere(shape):
    """Return as many samples of `shape` as a sample has numbers, the i-th with a NaN in place i."""
    n = int(np.prod(shape))
    x = separated(0, (n, n), np.float32)
    np.fill_diagonal(x, np.nan)
    return x.reshape(n, *shape)


@pytest.mark.parametrize("pool", [MaxPool2D, AveragePool2D])
@pytest.mark.parametrize("channels", range(1, 34))
def test_nan_at_any_pixel_and_channel_reaches_the_loss(channels, pool):
    network = Network([Conv2D(channels, 2), ReLU(), pool(2), Flatten(), Dense(1)], (3, 3, channels))
    x = nan_everywhere((3, 3, channels))
    assert np.isfinite(network.forward(np.nan_to_num(x))).all()
    z = network.forward(x)
    assert np.isnan(z).all()
    losses, dz = np.empty(len(x)), np.empty_like(z)
    get_engine("fast").binary_crossentropy(z, np.ones_like(z), np.ones(len(x)), losses, dz)
    assert np.isnan(losses).all() and np.isnan(dz).all()


@each_engine
def test_pixels_that_pooling_drops_do_not_contribute(engine):
    network = Network([MaxPool2D(2), Flatten(), Dense(1)], (3, 3, 1), engine=engine)
    assert np.isnan(network.forward(nan_everywhere((3, 3, 1))))[:, 0].tolist() == \
        [True, True, False, True, True, False, False, False, False]


@each_engine
def test_minus_infinity_may_end_in_a_relu(engine):
    network = Network([ReLU(), MaxPool2D(2), Flatten(), Dense(1)], (2, 2, 1), engine=engine)
    assert np.isfinite(network.forward(np.full((1, 2, 2, 1), -np.inf))).all()


def blamed(network, x, poison=None):
    """Return whom the network blames, after `poison` set one number of a parameter to NaN."""
    if poison is not None:
        network.named_parameters()[poison].value.flat[-1] = np.nan
    with pytest.raises(NonFiniteError) as caught:
        network.blame_forward(x)
    return str(caught.value)


@each_engine
def test_the_first_layer_that_is_not_finite_is_blamed(engine):
    ones = np.ones((2, 22, 22, 3), np.float32)

    def network():
        return Network(paper_layers(), (22, 22, 3), engine=engine)
    network().blame_forward(ones)                                        # nothing to blame
    assert blamed(network(), ones, "conv2d_2/kernel") == "layer 'conv2d_2': its kernel holds NaN or infinity."
    assert blamed(network(), ones, "dense_1/bias") == "layer 'dense_1': its bias holds NaN or infinity."
    sick = ones.copy()
    sick[1, 5, 5, 2] = np.inf
    assert blamed(network(), sick) == "layer 'conv2d_1': the first whose output holds NaN or infinity."
    large = network()
    large.named_parameters()["conv2d_3/kernel"].value[...] = 3e38
    assert blamed(large, ones) == "layer 'conv2d_3': the first whose output holds NaN or infinity."
    own = Network([Scale(), faulty(Double, forward=lambda self, x: x / 0 * 0)], (3,), engine=engine)
    with np.errstate(all="ignore"):
        assert blamed(own, np.ones((1, 3))) == "layer 'mine_1': the first whose output holds NaN or infinity."


def test_the_first_gradient_that_is_not_finite_is_blamed():
    network = Network(paper_layers(), (22, 22, 3))
    network.blame_gradients()
    network.named_parameters()["conv2d_1/kernel"].grad.flat[3] = np.inf
    network.named_parameters()["conv2d_2/bias"].grad[0] = np.nan
    # Backward meets the later layer first: there it began.
    with pytest.raises(NonFiniteError, match="^layer 'conv2d_2': the gradient of its bias holds NaN or infinity.$"):
        network.blame_gradients()


# ---- Nobody changes what a network trusts ----------------------------------------------------------------------------

@pytest.mark.parametrize("elsewhere", [lambda layer: layer.build((6,)), lambda layer: layer.configure("float64"),
                                       lambda layer: Network([layer], (6,))])
@each_engine
def test_a_layer_that_was_built_again_is_missed(engine, elsewhere):
    network = Network([Dense(3), ReLU(), Dense(2)], (4,), engine=engine)
    network.forward(np.ones((1, 4)))
    elsewhere(network.layers[0])
    for use in (lambda: network.forward(np.ones((1, 4))), lambda: network.backward(np.ones((1, 2))), network.named_parameters):
        with pytest.raises(InputError, match="Dense 'dense_1' was built again, by hand or by another network"):
            use()


def test_a_layer_of_ones_own_with_new_parameters_is_named():
    layer = Scale()
    network = Network([layer, Dense(2)], (3,))
    layer.parameters = [Parameter("a", np.ones(3))]
    with pytest.raises(InputError, match="layer 'scale_1': its `parameters` are not those that it had"):
        network.forward(np.ones((1, 3)))
    with pytest.raises(InputError, match=r"layer 'mine_1': its b shares memory with a parameter before it \(a\)"):
        Network([faulty(build=parameters_of(Parameter("a", memory := np.ones(3)), Parameter("b", memory)))], (3,))


def test_a_custom_layer_is_frozen_by_its_attribute():
    layer = Scale()
    network = Network([layer, Dense(2)], (3,))
    layer.trainable = False
    network.note_frozen()
    assert [p.trainable for p in network.parameters] == [False, True, True]


@each_engine
def test_renamed_parameters_are_not_lost(engine):
    network = Network([Dense(3)], (4,), engine=engine)
    network.layers[0].parameters[1].name = "kernel"
    with pytest.raises(InputError, match="two of the parameters are called the same: dense_1/kernel name 2"):
        network.named_parameters()


@each_engine
def test_a_layer_of_ones_own_may_write_to_its_input(engine):
    def forward(self, x):
        self.x = x.copy()
        x *= self.parameters[0].value
        return x
    x, dy, gradients = normals(0, (2, 4), np.float32), normals(1, (2, 2), np.float32), []
    for layer in (Scale(), faulty(forward=forward)):
        network = Network([Dense(3), Tanh(), layer, Dense(2)], (4,), engine=engine)     # tanh remembers its output
        network.forward(x)
        network.backward(dy)
        gradients.append([p.grad.copy() for p in network.parameters])
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("returned", [np.uint8, np.int64, np.float16, np.float32, np.float64, bool])
def test_what_a_layer_of_ones_own_returns_is_numbers_whatever_their_type(returned, dtype):
    """uint8 from a layer is no image of pixels, and whole numbers do not make gradients of whole numbers."""
    x = (np.arange(48) % 2).reshape(1, 4, 4, 3)
    results = []
    for kind in (returned, np.float64):
        layer = faulty(base=Double, forward=lambda self, x: x.astype(kind), backward=lambda self, dy: dy)
        network = Network([layer, Conv2D(2, 3), ReLU(), Flatten(), faulty(base=Double, forward=lambda self, x: x.astype(
            kind if kind != returned else np.float64), backward=lambda self, dy: dy)], (4, 4, 3), seed=1, dtype=dtype)
        results.append(network.forward(x))
    assert_same_bits(results[0], results[1])
    assert results[0].dtype == dtype


# ---- Layers of ours inside a layer of one's own ----------------------------------------------------------------------

@each_engine
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layers_inside_are_of_the_network(dtype, engine):
    block, x = Block((4, 4, 2)), normals(0, (2, 4, 4, 2), dtype)
    network, same = (Network([Conv2D(2, 3, padding="same"), one, Block((4, 4, 2)), Flatten(), Dense(1)], (4, 4, 2), seed=3, dtype=dtype,
                             engine=engine) for one in (block, Block((4, 4, 2))))
    kernels = [p.value for p in network.parameters if p.value.ndim == 4]
    assert len(kernels) == 5 and all(kernel.dtype == dtype for kernel in kernels)
    assert len({kernel.tobytes() for kernel in kernels}) == 5           # each its own weights
    assert_same_bits(network.forward(x), same.forward(x))
    y = network.forward(x).copy()
    assert (network.forward(x, training=True) != y).any()               # dropout drops where it trains
    dropped = block.parts["first"][1].forward(np.ones((1, 4, 4, 2), dtype))
    assert (dropped == 0).any() and dropped.dtype == dtype
    first, second = (network.forward(x, training=True, step_number=step).copy() for step in (0, 1))
    assert (first != second).any()
    assert_same_bits(network.forward(x), y)                             # and not where it predicts


@each_engine
def test_the_gradients_of_layers_inside_are_right(engine):
    x, dy = separated(0, (2, 4, 4, 2)), normals(1, (2, 1))
    network = Network([Block((4, 4, 2)), Flatten(), Dense(1)], (4, 4, 2), seed=3, dtype="float64", engine=engine)
    network.forward(x)
    network.backward(dy)
    for parameter in network.parameters[:4]:
        gradient, start = parameter.grad.copy(), parameter.value.copy()

        def forward(value):
            parameter.value = value
            return network.forward(x).copy()
        assert_gradient(forward, gradient, start, dy)
        parameter.value = start


def test_layers_inside_that_were_built_elsewhere_are_refused():
    network = Network([Block((4, 4, 2), "init"), Flatten()], (4, 4, 2), dtype="float64")
    with pytest.raises(InputError, match="Conv2D: it runs inside a custom layer, and was not built there. Call its build"):
        network.forward(np.ones((1, 4, 4, 2)))
    with pytest.raises(InputError, match=r"each parameter needs a name of its own, .*'kernel', 'bias', 'kernel', 'bias'\]\. Give it"):
        Network([Block((4, 4, 2), names=False)], (4, 4, 2))
