"""Parity: minicnn computes what Keras and PyTorch compute, from identical weights, inputs and gradients.

Their numbers are frozen in `vectors/*.safetensors` (made by `vectors/make_keras.py` and `make_torch.py`), the inputs
are drawn anew by `vectors/cases.py`, and `vectors/golden.json` holds known answers worked out to 60 digits. No
framework is needed here. The bars are promises of the project; what was measured stands beside them.
"""

import functools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

import minicnn
from minicnn import (SGD, Adam, AveragePool2D, BatchNormalization, CapsuleLength, Capsules, Conv2D, Dense, Flatten, LayerNormalization, MaxPool2D,
                     ReLU, Sequential, Sigmoid, Softmax, Tanh, cov19net)
from minicnn.core.backend import ENGINES, get_engine
from minicnn.core.parameter import Parameter
from minicnn.initializers import initialize
from minicnn.losses import get_loss
from tests.vectors import cases

VECTORS = Path(__file__).with_name("vectors")
FROZEN = {path.stem: load_file(path) for path in sorted(VECTORS.glob("*.safetensors"))}
GOLDEN = json.loads((VECTORS / "golden.json").read_text(encoding="utf-8"))
PEERS = [("keras", "float32"), ("torch", "float32"), ("torch", "float64")]
ADAMS = {"keras": dict(epsilon=1e-7, epsilon_mode="keras"), "torch": dict(epsilon=1e-8, epsilon_mode="paper")}

each_engine = pytest.mark.parametrize("engine", ENGINES)
each_peer = pytest.mark.parametrize("peer, precision", PEERS)


def assert_near(got, expected, bar):
    """Fail unless every element is within `bar` times the largest element of `expected`."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    assert got.shape == expected.shape
    largest = np.abs(expected).max()
    assert np.abs(got - expected).max() <= bar * largest, \
        f"off by {np.abs(got - expected).max() / (largest or 1):.2g} of the largest element; the bar is {bar}"


def test_a_gradient_wrong_by_a_thousandth_is_caught():
    gradient = cases.draw("a gradient", (50,))
    wrong = np.where(np.abs(gradient) == np.abs(gradient).max(), gradient * 1.001, gradient)
    with pytest.raises(AssertionError, match="off by 0.001 of the largest element"):
        assert_near(wrong, gradient, 1e-4)


@pytest.mark.parametrize("peer", FROZEN)
def test_frozen_files_are_small_and_hold_versions_and_nothing_else_beside_numbers(peer):
    path = VECTORS / f"{peer}.safetensors"
    assert path.stat().st_size < 900_000
    with safe_open(path, "numpy") as file:
        assert re.fullmatch(r"(\w+ [\w.+]+(, |$))+", file.metadata().pop("versions"))
        assert list(file.metadata()) == ["versions"]
    assert all(np.isfinite(array).all() for array in FROZEN[peer].values())


def test_the_copy_of_the_known_answers_is_true(shared):
    assert GOLDEN == json.loads((shared / "golden" / "golden.json").read_text(encoding="utf-8"))


# --- whole networks ---------------------------------------------------------------------------------------------------

NETWORKS = [("cov19net", "keras", "float32"), ("cov19net", "torch", "float32"),
            ("small", "keras", "float32"), ("small", "torch", "float32"), ("small", "torch", "float64")]
each_network = pytest.mark.parametrize("name, peer, precision", NETWORKS)


def make_model(name, precision, engine, head=()):
    """Return a network of the cases with their weights, and the layers of `head` on top."""
    network = cases.NETWORKS[name]
    layers = [{"conv": lambda F, K, padding: Conv2D(F, K, padding=padding), "relu": ReLU, "max_pool": MaxPool2D,
               "flatten": Flatten, "dense": Dense}[kind](*options) for kind, *options in network.layers]
    model = Sequential([*layers, *head], input_shape=network.input_shape, seed=0, dtype=precision, engine=engine)
    model.set_weights(cases.weights(name))
    return model


def compiled_model(name, precision, engine, adam):
    """Return the network with its sigmoid, ready to train."""
    model = make_model(name, precision, engine, head=[Sigmoid()])
    model.compile(Adam(learning_rate=cases.LEARNING_RATE, **adam), loss="binary_crossentropy")
    return model


@functools.cache
def first_batch(name, precision, engine):
    """Return logits, probabilities, loss and gradients on the first batch, before any step."""
    x, t = cases.batch(name, 0)
    model = compiled_model(name, precision, engine, {})
    loss, gradients = model.loss_and_gradients(x, t)
    return dict(logits=make_model(name, precision, engine).predict(x), probabilities=model.predict(x), loss=loss,
                gradients=gradients)


def test_the_cases_hold_the_network_of_the_paper():
    shapes, flattened = cases.parameter_shapes(cases.NETWORKS["cov19net"])
    assert [w.shape for w in cov19net(seed=0).get_weights()] == shapes
    assert sum(np.prod(shape) for shape in shapes) == 609_473 and flattened == (12, 12, 32)


@each_engine
@each_network
def test_logits_and_loss(name, peer, precision, engine):
    frozen, ours = FROZEN[peer], first_batch(name, precision, engine)
    bar = 1e-5 if precision == "float32" else 1e-9
    for key in ("logits", "probabilities", "loss"):
        np.testing.assert_allclose(ours[key], frozen[f"{name}/{precision}/{key}"], rtol=0, atol=bar)


@each_engine
@each_network
def test_every_gradient_tensor(name, peer, precision, engine):
    frozen, gradients = FROZEN[peer], first_batch(name, precision, engine)["gradients"]
    bar = 1e-4 if precision == "float32" else 1e-9
    assert len(gradients) == len(cases.parameter_shapes(cases.NETWORKS[name])[0])
    for index, gradient in enumerate(gradients):
        largest = frozen[f"{name}/{precision}/gradient_max/{index}"]
        assert abs(np.abs(gradient).max() - largest) <= bar * largest
        difference = cases.sampled(gradient) - frozen[f"{name}/{precision}/gradient/{index}"]
        assert np.abs(difference).max() <= bar * largest, f"gradient {index}"


@each_engine
@each_network
def test_weights_after_three_whole_steps(name, peer, precision, engine):
    # Adam turns a gradient into its sign at first, so a rounding near a zero gradient can move a weight by a whole
    # step: hence a share of the weights. Measured: none is off by more than 3.1e-6 from Keras, 1.2e-6 from PyTorch.
    model = compiled_model(name, precision, engine, ADAMS[peer])
    for step in range(cases.NETWORKS[name].steps):
        model.train_on_batch(*cases.batch(name, step))
    for index, value in enumerate(model.get_weights()):
        after = FROZEN[peer][f"{name}/{precision}/after_3_steps/{index}"]
        if precision == "float64":
            assert_near(cases.sampled(value), after, 1e-9)
        else:
            assert (np.abs(cases.sampled(value) - after) <= 2e-5).mean() >= 0.999, f"parameter {index}"


@pytest.mark.parametrize("name", cases.NETWORKS)
def test_keras_trains_a_final_sigmoid_from_its_logits_as_we_do(name):
    frozen = FROZEN["keras"]
    assert frozen["saturated/bias"].item() == -1.0     # a loss from clipped probabilities would have left it at 0
    for index in range(len(cases.weights(name))):
        assert_near(frozen[f"{name}/float32/sigmoid_model_after_3_steps/{index}"],
                    frozen[f"{name}/float32/after_3_steps/{index}"], 1e-4)


# --- optimizers on frozen gradients -----------------------------------------------------------------------------------

def optimize(optimizer, engine, start, gradients):
    """Return the parameters after each step."""
    parameter, rows = Parameter("w", start.copy()), []
    for gradient in gradients:
        parameter.grad = gradient.astype(start.dtype)
        optimizer.step(get_engine(engine), [parameter])
        rows.append(parameter.value.copy())
    return np.stack(rows)


@each_engine
@each_peer
def test_adam_on_frozen_gradients(peer, precision, engine):
    adam = Adam(learning_rate=cases.LEARNING_RATE, **ADAMS[peer])
    ours = optimize(adam, engine, cases.optimizer_start().astype(precision), cases.optimizer_gradients())
    frozen = FROZEN[peer][f"optimizer/adam/{precision}"]
    if precision == "float64":
        np.testing.assert_allclose(ours, frozen, rtol=1e-9)
        return
    np.testing.assert_allclose(ours[:, 160:], frozen[:, 160:], rtol=1e-5)
    # The first half started at 0 and so is the sum of the updates. Keras takes 1 - beta_2^t in float32, which puts its
    # step size off by up to 9.97e-6 (t = 2, measured): the bar is spent, and the rounding of both sides comes on top.
    np.testing.assert_allclose(ours[:, :160], frozen[:, :160], rtol=1e-5 + 4 * np.finfo(np.float32).eps)


@each_engine
@each_peer
@pytest.mark.parametrize("name", cases.SGD)
def test_sgd_on_frozen_gradients(name, peer, precision, engine):
    # PyTorch writes velocity = momentum velocity + g, w -= lr velocity: with a constant rate it is the same walk.
    momentum, nesterov = cases.SGD[name]
    sgd = SGD(learning_rate=cases.SGD_LEARNING_RATE, momentum=momentum, nesterov=nesterov)
    ours = optimize(sgd, engine, cases.optimizer_start().astype(precision), cases.optimizer_gradients())
    frozen, rtol = FROZEN[peer][f"optimizer/{name}/{precision}"], 2e-6 if precision == "float32" else 1e-12
    np.testing.assert_allclose(ours[:, :160], frozen[:, :160], rtol=rtol)
    # Parameters that started near 1 in size may come to lie near 0: they are judged beside what they were.
    np.testing.assert_allclose(ours[:, 160:], frozen[:, 160:], rtol=rtol, atol=rtol / 10)


@each_engine
@pytest.mark.parametrize("key, options", [("keras_epshat_1e-7", ADAMS["keras"]),
                                          ("paper_or_torch_eps_1e-8", ADAMS["torch"])])
def test_adam_is_within_one_ulp_of_the_known_answer(key, options, engine):
    golden = GOLDEN["adam"]
    adam = Adam(learning_rate=golden["lr"], beta_1=golden["beta1"], beta_2=golden["beta2"], **options)
    ours = optimize(adam, engine, np.array(golden["p0"], np.float64), np.array(golden["grads"]))
    expected = np.array(golden[key])
    assert (np.abs(ours - expected) <= np.spacing(expected)).all()


# --- known answers ----------------------------------------------------------------------------------------------------

def golden_column(key, dtype=np.float64):
    """Return one column of the cross-entropy table."""
    return np.array([row[key] for row in GOLDEN["bce_from_logits"]], dtype)


@each_engine
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoid_is_within_four_ulp(dtype, engine):
    z, expected = golden_column("z", dtype), golden_column("sigmoid", dtype)
    y = np.empty_like(z)
    get_engine(engine).sigmoid(z, y)
    assert (np.abs(y - expected) <= 4 * np.spacing(expected)).all()


@each_engine
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_binary_crossentropy_is_within_3e7_of_the_known_answer(dtype, engine):
    z, t = golden_column("z", dtype)[:, None], golden_column("t", dtype)[:, None]
    losses, dz = np.empty(len(z)), np.empty_like(z)
    get_engine(engine).binary_crossentropy(z, t, np.ones(len(z)), losses, dz)
    # 60 digits cannot hold log(1 + exp(-200)) beside 1: there the known answer is 0 and the floor decides.
    np.testing.assert_allclose(losses, golden_column("loss"), rtol=3e-7, atol=1e-60)
    # Where p is near t, dz is the difference of two numbers near 1 and is judged beside them.
    np.testing.assert_allclose(dz[:, 0], golden_column("dz"), rtol=3e-7, atol=np.finfo(np.float64).eps)


@each_engine
@pytest.mark.parametrize("channels", [1, 16, 17])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", GOLDEN["maxpool_2x2_s2"], ids=lambda case: " ".join(map(str, case["in"])))
def test_max_pool_keeps_nan_and_takes_the_first_of_equals(case, dtype, channels, engine):
    values = np.array([float(v) for v in case["in"]], dtype)
    x = np.repeat(values, channels).reshape(1, 2, 2, channels)
    y, switches = np.full((1, 1, 1, channels), 7, dtype), np.full((1, 1, 1, channels), 9, np.uint16)
    get_engine(engine).max_pool2d(x, (2, 2), (2, 2), (0, 0, 0, 0), y, switches)
    expected = 0.0 if str(case["out"]).startswith("zero") else float(case["out"])
    np.testing.assert_array_equal(y, np.full_like(y, expected))       # -0.0 equals 0.0, and NaN itself
    if isinstance(case["arg"], int):
        assert (switches == case["arg"]).all()
    else:
        assert np.isnan(values[switches]).all()


# --- one layer at a time ----------------------------------------------------------------------------------------------

def run_layer(layer, x, dy, engine, precision, arrays=()):
    """Return dict(y, dx, dw, db) of a layer with the given weights; dw and db where it has any."""
    layer.configure(dtype=precision, engine=engine)
    dy = dy.reshape(len(x), *layer.build(x.shape[1:]))
    for parameter, array in zip(layer.parameters, arrays, strict=True):
        parameter.value[...] = array
    y = layer.forward(x.astype(precision))
    dx = layer.backward(dy.astype(precision))
    return dict(y=y, dx=dx, **{f"d{name}": p.grad for name, p in zip("wb", layer.parameters)})


def assert_layer(results, key, peer, precision, bar):
    """Fail unless y, dx and where there are any dw and db are as frozen; `bar` is for float32."""
    frozen = {path.rsplit("/", 1)[1]: array for path, array in FROZEN[peer].items()
              if path.startswith(f"{key}/{precision}/")}
    assert frozen.keys() == results.keys()
    for name, array in results.items():
        assert array.dtype == precision
        assert_near(array, frozen[name], bar if precision == "float32" else 1e-12)


def frozen_by(key, peer, precision):
    """Whether the framework could run the case: PyTorch has no `same` padding with strides, nor in pooling."""
    return f"{key}/{precision}/y" in FROZEN[peer]


LAYER_CASES = [(name, peer, precision) for name in cases.CONVOLUTIONS for peer, precision in PEERS
               if frozen_by(name, peer, precision)]
POOL_CASES = [(kind, name, peer, precision) for kind in ("max", "average") for name in cases.POOLINGS
              for peer, precision in PEERS if frozen_by(f"{kind}_{name}", peer, precision)]


@each_engine
@pytest.mark.parametrize("name, peer, precision", LAYER_CASES)
def test_convolution(name, peer, precision, engine):
    case = cases.CONVOLUTIONS[name]
    layer = Conv2D(case.filters, case.kernel, strides=case.strides, padding=case.padding)
    frozen_y = FROZEN[peer][f"{name}/{precision}/y"]
    results = run_layer(layer, cases.layer_input(name, case.input_shape), cases.layer_gradient(name, frozen_y.shape),
                        engine, precision, cases.convolution_weights(name))
    # That of 33 filters goes by Winograd's algorithm, whose rounding is that of a whole tile.
    assert_layer(results, name, peer, precision, 2e-6 if name == "conv_33_filters" else 1e-6)


@each_engine
@pytest.mark.parametrize("kind, name, peer, precision", POOL_CASES)
def test_pooling(kind, name, peer, precision, engine):
    # Max pooling is given whole numbers with many ties: one pixel chosen otherwise would be off by 100 %.
    case = cases.POOLINGS[name]
    pool, images = {"max": (MaxPool2D, cases.tied_input), "average": (AveragePool2D, cases.layer_input)}[kind]
    layer = pool(case.pool_size, strides=case.strides, padding=case.padding)
    frozen_y = FROZEN[peer][f"{kind}_{name}/{precision}/y"]
    results = run_layer(layer, images(name, case.input_shape), cases.layer_gradient(name, frozen_y.shape), engine,
                        precision)
    assert_layer(results, f"{kind}_{name}", peer, precision, 1e-6)


@each_engine
@each_peer
@pytest.mark.parametrize("name", cases.DENSE)
def test_dense(name, peer, precision, engine):
    N, n_in, n_out = cases.DENSE[name]
    results = run_layer(Dense(n_out), cases.layer_input(name, (N, n_in)), cases.layer_gradient(name, (N, n_out)),
                        engine, precision, cases.dense_weights(name))
    assert_layer(results, name, peer, precision, 1e-6)


@each_engine
@each_peer
@pytest.mark.parametrize("name", cases.ACTIVATIONS)
def test_activation(name, peer, precision, engine):
    x = cases.activation_input()
    layer = {"relu": ReLU, "sigmoid": Sigmoid, "tanh": Tanh}[name]()
    results = run_layer(layer, x, cases.layer_gradient(name, x.shape), engine, precision)
    assert_layer(results, name, peer, precision, 1e-6)
    # Relative to each element, not to the largest: the left tail must not be lost. Frameworks may flush subnormals.
    np.testing.assert_allclose(results["y"], FROZEN[peer][f"{name}/{precision}/y"],
                               rtol=1e-6 if precision == "float32" else 1e-14, atol=np.finfo(np.float32).tiny)


@each_engine
@each_peer
@pytest.mark.parametrize("name", cases.FURTHER)
def test_further_layer(name, peer, precision, engine):
    case, frozen = cases.FURTHER[name], FROZEN[f"{peer}_further"]
    if f"{name}/{precision}/y" not in frozen:
        assert (peer, case.kind) == ("torch", "Reshape")        # no operation of PyTorch's own
        return
    x, y = cases.further_input(name), frozen[f"{name}/{precision}/y"]
    results = run_layer(getattr(minicnn, case.kind)(**case.arguments), x, cases.layer_gradient(name, y.shape), engine,
                        precision)
    assert_layer(results, name, f"{peer}_further", precision, 1e-6)
    # Each element, not only beside the largest: no tail is lost. (TensorFlow's float32 has elu(-2**-27) = 0.)
    if precision == "float64":
        np.testing.assert_allclose(results["y"], y, rtol=1e-13)


@each_engine
@each_peer
@pytest.mark.parametrize("name", cases.NORMALIZATIONS)
def test_normalization(name, peer, precision, engine):
    case, frozen = cases.NORMALIZATIONS[name], FROZEN[f"{peer}_normalization"]
    x, C = 3 * cases.layer_input(name, case.input_shape) + 1, case.input_shape[-1]
    layer = {"batch": BatchNormalization, "layer": LayerNormalization}[case.kind](**case.options)
    layer.configure(dtype=precision, engine=engine)
    layer.build(x.shape[1:])
    arrays = cases.normalization_weights(name, C, case.kind, case.options)
    for weight, array in zip((*layer.parameters, *layer.statistics), arrays, strict=True):
        weight.value = array
    layer.training = case.training
    y = layer.forward(x.astype(precision))
    dx = layer.backward(cases.layer_gradient(name, x.shape).astype(precision))
    results = {"y": y, "dx": dx} | {f"d{parameter.name}": parameter.grad for parameter in layer.parameters}
    if peer == "keras":                     # PyTorch moves its variance by the one over M - 1
        for statistic, value in layer.moved():
            statistic.value = value
        results |= {statistic.name: statistic.value for statistic in layer.statistics}
    for key, array in results.items():
        expected = frozen[f"{name}/{precision}/{key}"]
        assert array.dtype == precision
        # Measured in float32, of the largest: 1e-6 of Keras' dx, whose means are float32, elsewhere 4e-7.
        assert_near(array, expected, 1e-12 if precision == "float64" else 3e-6 if key == "dx" else 1e-6)
    assert len(results) == sum(path.startswith(f"{name}/{precision}/") for path in frozen)


@each_engine
def test_a_network_with_normalization(engine):
    frozen, first = FROZEN["keras_normalization"], cases.normalized_weights()
    makers = {"conv": lambda F, K, padding: Conv2D(F, K, padding=padding), "relu": ReLU, "max_pool": MaxPool2D,
              "flatten": Flatten, "dense": Dense, "batch": BatchNormalization, "layer": LayerNormalization}
    layers = [makers[kind](*options) for kind, *options in cases.NORMALIZED.layers]
    model = Sequential([*layers, Sigmoid()], cases.NORMALIZED.input_shape, engine=engine)
    model.compile(Adam(learning_rate=cases.LEARNING_RATE, **ADAMS["keras"]), loss="binary_crossentropy")
    model.set_weights(first.values())
    x, t = cases.normalized_batch(0)

    def logits():
        probabilities = model.predict(x).astype(np.float64)
        return np.log(probabilities / (1 - probabilities))
    np.testing.assert_allclose(logits(), frozen["normalized/float32/predicted"], rtol=0, atol=1e-5)
    loss, gradients = model.loss_and_gradients(x, t)
    assert loss == pytest.approx(frozen["normalized/float32/loss"].item(), abs=1e-5)
    trained = [name for name in first if "moving" not in name]
    assert len(gradients) == len(trained)
    for index, gradient in enumerate(gradients):
        assert_near(gradient, frozen[f"normalized/float32/gradient/{index}"], 1e-4)
    for step in range(cases.NORMALIZED.steps):
        model.train_on_batch(*cases.normalized_batch(step))
    np.testing.assert_allclose(logits(), frozen["normalized/float32/predicted_after_3_steps"], rtol=0, atol=1e-5)
    for name, value in zip(first, model.get_weights(), strict=True):
        after = frozen[f"normalized/float32/after_3_steps/{name}"]
        if "moving" in name:
            assert np.abs(value - after).max() <= 1e-6
        else:
            assert (np.abs(value - after) <= 2e-5).mean() >= 0.999, name


@each_engine
@each_peer
def test_softmax(peer, precision, engine):
    z, _ = cases.class_logits()
    results = run_layer(Softmax(), z, cases.layer_gradient("softmax", z.shape), engine, precision)
    assert_layer(results, "softmax", peer, precision, 3e-7)


@each_engine
@each_peer
@pytest.mark.parametrize("name, inputs, gradient", [("categorical_crossentropy", cases.class_logits(), "dz"),
                                                    ("mean_squared_error", cases.regression(), "dy")])
def test_loss(name, inputs, gradient, peer, precision, engine):
    z, t = (a.astype(precision) for a in inputs)
    losses, dz = np.empty(len(z)), np.empty_like(z)
    value = get_loss(name)(get_engine(engine), z, t, None, losses, dz)
    frozen, bar = FROZEN[peer], 1e-6 if precision == "float32" else 1e-12
    assert value == pytest.approx(frozen[f"{name}/{precision}/loss"].item(), rel=bar)
    assert_near(dz, frozen[f"{name}/{precision}/{gradient}"], bar)


# --- forms of convolution ---------------------------------------------------------------------------------------------

@each_engine
@pytest.mark.parametrize("peer, precision, bar", [("keras", "float32", 1e-6), ("torch", "float64", 1e-13)])
@pytest.mark.parametrize("name", cases.FORMS)
def test_form_of_convolution(name, peer, precision, bar, engine):
    case, frozen = cases.FORMS[name], FROZEN[f"{peer}_convolution"]
    if peer == "torch" and "Pool" in case.kind:
        assert f"{name}/{precision}/y" not in frozen        # PyTorch does not pool with `same` padding
        return
    layer, x, y = getattr(minicnn, case.kind)(**case.arguments), cases.form_input(name), frozen[f"{name}/{precision}/y"]
    layer.configure(dtype=precision, engine=engine)
    assert (len(x), *layer.build(x.shape[1:])) == y.shape
    weights = cases.form_weights(name, [parameter.value.shape for parameter in layer.parameters])
    for parameter, weight in zip(layer.parameters, weights):
        parameter.value = weight
    # Measured: at most 2.7e-7 of the largest from Keras, 9e-16 from PyTorch.
    assert_near(layer.forward(x), y, bar)
    assert_near(layer.backward(cases.layer_gradient(name, y.shape)), frozen[f"{name}/{precision}/dx"], bar)
    assert len(layer.parameters) == sum(key.startswith(f"{name}/{precision}/gradient/") for key in frozen)
    for i, parameter in enumerate(layer.parameters):
        assert_near(parameter.grad, frozen[f"{name}/{precision}/gradient/{i}"], bar)


def network_of_forms(engine):
    """Return the network of the forms with its weights, and the sigmoid that the loss folds into itself."""
    layers = [getattr(minicnn, kind)(**arguments) for kind, arguments, _ in cases.FORMS_NETWORK]
    model = Sequential([*layers, Sigmoid()], input_shape=cases.FORMS_BATCH[1:], engine=engine)
    model.set_weights(cases.form_weights("forms", [w.shape for w in model.get_weights()]))
    model.compile(Adam(learning_rate=cases.LEARNING_RATE), loss="binary_crossentropy")
    return model


@each_engine
def test_a_network_of_the_forms_trains_as_in_keras(engine):
    frozen = {key.removeprefix("forms/float32/"): array for key, array in FROZEN["keras_convolution"].items()}
    model, (x, t) = network_of_forms(engine), cases.forms_batch(0)
    p = 1 / (1 + np.exp(-frozen["logits"].astype(np.float64)))
    np.testing.assert_allclose(model.predict(x), p, rtol=0, atol=1e-5)
    loss, gradients = model.loss_and_gradients(x, t)
    assert loss == pytest.approx(frozen["loss"].item(), abs=1e-5)
    for i, gradient in enumerate(gradients):
        assert_near(gradient, frozen[f"gradient/{i}"], 1e-4)
    for step in range(cases.FORMS_STEPS):
        model.train_on_batch(*cases.forms_batch(step))
    for i, value in enumerate(model.get_weights()):
        difference = np.abs(value - frozen[f"after_{cases.FORMS_STEPS}_steps/{i}"])
        assert (difference <= 2e-5).mean() >= 0.999, f"parameter {i}"


# --- graphs -----------------------------------------------------------------------------------------------------------

@each_engine
@pytest.mark.parametrize("name", cases.GRAPHS)
def test_a_graph_trains_as_in_keras(name, engine):
    """Outputs, loss, gradients, three Adam steps and the moving statistics, from the code that made the model in Keras."""
    frozen = {key.removeprefix(f"{name}/float32/"): array for key, array in FROZEN["keras_graphs"].items()
              if key.startswith(f"{name}/")}
    inputs, outputs = cases.GRAPHS[name].make(minicnn)
    model = minicnn.Model(inputs, outputs, engine=engine)
    several = len(outputs) > 1
    model.compile("adam", cases.GRAPHS[name].losses if several else cases.GRAPHS[name].losses[0],
                  loss_weights=cases.GRAPHS[name].weights if several else None)
    named = {one: model.get_layer(one) for one in cases.set_graph_weights(name, model.layers)}
    x, targets = cases.graph_batch(name, 0, model.input_shape)
    predicted = model.predict(x) if several else [model.predict(x)]
    for i, one in enumerate(predicted):
        np.testing.assert_allclose(one, frozen[f"output/{i}"], rtol=0, atol=1e-5)
    loss, gradients = model.loss_and_gradients(x, targets if several else targets[0])
    assert loss == pytest.approx(frozen["loss"].item(), abs=1e-5)
    by_parameter = dict(zip(map(id, model.network.parameters), gradients))
    for layer_name, layer in named.items():
        for i, parameter in enumerate(layer.trainable_weights):
            assert_near(by_parameter[id(parameter)], frozen[f"gradient/{layer_name}/{i}"], 1e-4)
    for step in range(cases.GRAPH_STEPS):
        x, targets = cases.graph_batch(name, step, model.input_shape)
        model.train_on_batch(x, targets if several else targets[0])
    moved = [(layer_name, i, weight) for layer_name, layer in named.items() for i, weight in enumerate(layer.weights)]
    assert len(moved) == sum(key.startswith("after/") for key in frozen)
    for layer_name, i, weight in moved:
        difference = np.abs(weight.value - frozen[f"after/{layer_name}/{i}"])
        if weight.name.startswith("moving"):
            assert difference.max() <= 1e-6, (layer_name, weight.name)
        else:       # Adam's first steps are as long as the learning rate whatever the gradient: near 0 a rounding decides
            assert (difference <= 2e-5).mean() >= 0.999, (layer_name, weight.name)


# --- initialisers -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind, shape", cases.INITIALIZER_SHAPES.items())
@pytest.mark.parametrize("law", cases.INITIALIZERS)
def test_initializer_follows_the_law_of_keras(law, kind, shape):
    keras = {name: FROZEN["keras"][f"initializer/{law}/{kind}/{name}"].item()
             for name in ("count", "minimum", "maximum", "mean", "variance")}
    repeats = keras["count"] // np.prod(shape)
    values = np.concatenate([initialize(law, shape, np.float32, seed=0, index=i).ravel() for i in range(repeats)])
    values = values.astype(np.float64)
    # The extremes of 589,824 draws lie within 1e-3 of the bounds of the law (measured for Keras: 5e-5).
    assert values.max() == pytest.approx(keras["maximum"], rel=1e-3)
    assert values.min() == pytest.approx(keras["minimum"], rel=1e-3)
    # The variance of so many draws has a relative deviation below 1.5e-3; two of them differ by less than 4 such, and
    # 1 %. Drawn without the correction for truncation it would be off by 23 %.
    assert values.var() == pytest.approx(keras["variance"], rel=0.01)
    assert abs(values.mean()) < 4 * np.sqrt(keras["variance"] / keras["count"])


@each_engine
@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("name", cases.CAPSULES)
def test_capsules(name, precision, engine):
    frozen = {key.removeprefix(f"{name}/"): array for key, array in FROZEN["keras_capsules"].items() if key.startswith(f"{name}/")}
    x, layers = frozen["x"].astype(precision), [*(Capsules(*one) for one in cases.CAPSULES[name][3]), CapsuleLength()]
    model = Sequential(layers, x.shape[1:], dtype=precision, engine=engine)
    model.set_weights([frozen[f"kernel/{i}"] for i in range(len(layers) - 1)])
    model.compile(SGD(), "margin")
    loss, gradients = model.loss_and_gradients(x, frozen["t"])
    results = {"lengths": model.predict(x), "loss": loss} | {f"gradient/{i}": gradient for i, gradient in enumerate(gradients)}
    again = [*(Capsules(*one) for one in cases.CAPSULES[name][3]), CapsuleLength()]         # by hand, for dx
    y = x
    for layer, kernel in zip(again, [*model.get_weights(), None]):
        layer.configure(precision, engine)
        layer.build(y.shape[1:])
        layer.set_weights([] if kernel is None else [kernel])
        results["capsules"], y = y, layer.forward(y)
    dy = np.empty_like(y)
    get_loss("margin")(get_engine(engine), y, frozen["t"].astype(precision), None, np.empty(len(y)), dy)
    for layer in reversed(again):
        dy = layer.backward(dy)
    # Measured in float32, of the largest: 1e-6.
    for key, array in (results | {"dx": dy}).items():
        assert_near(array, frozen[f"{precision}/{key}"], 1e-12 if precision == "float64" else 1e-5)
    assert len(results) + 1 == sum(key.startswith(precision) for key in frozen)
