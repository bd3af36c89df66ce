"""gradcheck: no false positives and no false negatives, and the findings on layers that break the contract."""

import json
import sys
from argparse import ArgumentParser
from html.parser import HTMLParser
from types import ModuleType

import numpy as np
import pytest

import minicnn
from minicnn import (ELU, SGD, Adam, AdamW, BinaryCrossentropy, CategoricalCrossentropy, Conv2D, Dense, Dropout, Flatten,
                     GlobalMaxPooling2D, MarginLoss, MaxPool2D, MeanSquaredError, Parameter, ReLU, RMSprop, Sequential, Sigmoid,
                     Softmax, Softplus, Swish, Tanh, assert_gradients, check_determinism, check_optimizer, cov19net, gradcheck)
from minicnn.cli import gradcheck as gradcheck_command
from minicnn.core.backend import ENGINES
from minicnn.core.random import uniforms
from minicnn.errors import DTypeError, InputError, NonFiniteError, ShapeError
from minicnn.gradient_check import Finding, Report
from minicnn.gradient_check.diagnosis import likely_cause
from minicnn.gradient_check.problems import NetworkProblem, draw
from minicnn.losses import get_loss
from tests.support.laws import assert_same_bits
from tests.support.layer_checks import LAYERS_TO_CHECK
from tests.support.random_networks import flat_images, random_case

each_engine = pytest.mark.parametrize("engine", ENGINES)


# ---- No false positives -----------------------------------------------------------------------------------------------

@each_engine
@pytest.mark.parametrize("make, shape", LAYERS_TO_CHECK, ids=[f"{make()!r} {shape}" for make, shape in LAYERS_TO_CHECK])
def test_every_layer_passes(make, shape, engine):
    report = gradcheck(make(), shape=(2, *shape), engine=engine, limit=60)
    assert report and report.counts["PRECISION"] == 0, report
    # On inputs in general position everything is OK; ties add kinks.
    assert all(row.count("OK") == len(row.coordinates) for row in report.rows if not row.inputs), report


@each_engine
@pytest.mark.parametrize("loss", [BinaryCrossentropy(), CategoricalCrossentropy(), MeanSquaredError(), MarginLoss()],
                         ids=lambda loss: loss.name)
def test_every_loss_passes(loss, engine):
    report = gradcheck(loss, shape=(4, 3), engine=engine)
    assert report and report.counts == {"OK": 12, "KINK": 0, "PRECISION": 0, "BUG": 0}, report


def check_random_networks(numbers):
    """Check correct networks. On generic inputs at least 99 % of the numbers are OK."""
    generic, tied, explained = [], [], 0
    for number in numbers:
        model, x = random_case(number)
        report = gradcheck(model, x=x, seed=number)
        assert report, f"network {number}:\n{report}"
        (generic if number % 3 else tied).append(report.counts)
        explained += sum(report.explained.values())
    total = sum(sum(counts.values()) for counts in generic)
    assert total > 20 * len(generic) and sum(counts["OK"] for counts in generic) >= 0.99 * total
    return tied, explained


@pytest.mark.parametrize("count", [120, pytest.param(500, marks=pytest.mark.soak)])
def test_random_correct_networks_give_no_false_positive(count):
    tied, explained = check_random_networks(range(count))
    assert sum(counts["KINK"] for counts in tied) > count / 15 and explained > count / 15       # there are ties


def naive(model, x, t, step, bar=1e-6):
    """Return {(layer, parameter): mask of the numbers that central differences at one step report as wrong}."""
    problem = NetworkProblem(model.network, get_loss("binary_crossentropy"), x, t)
    reported = {}
    for place, gradient in problem.gradients().items():
        array = problem.arrays[place]
        wrong = np.zeros(array.shape, bool)
        for index in np.ndindex(*array.shape):
            start = array[index]
            losses = []
            for moved in (start + step, start - step):
                array[index] = moved
                losses.append(problem.terms()[0].sum())
            array[index] = start
            numeric = (losses[0] - losses[1]) / (2 * step)
            wrong[index] = abs(numeric - gradient[index]) > bar * max(abs(numeric), abs(gradient[index])) + 1e-10
        reported[place] = wrong
    return reported


@pytest.mark.parametrize("flat", [False, True])
@each_engine
def test_false_positives_of_a_naive_check_are_explained(engine, flat):
    """A wide step on a small network: each false positive of a naive check is a kink or insufficient precision."""
    model = Sequential([Conv2D(4, 3), ReLU(), MaxPool2D(2), Flatten(), Dense(5), ReLU(), Dense(1), Sigmoid()],
                       (8, 8, 1), seed=3, dtype="float64", engine=engine)
    rng = np.random.default_rng(0)
    x, t = rng.random((4, 8, 8, 1)), np.array([[0.0], [1.0], [1.0], [0.0]])
    if flat:
        x = flat_images(rng, x)
    for layer in model.layers:
        for parameter in layer.parameters[1:]:
            parameter.value[...] = rng.normal(0, 0.05, parameter.value.shape)
    reported = naive(model, x, t, step=1e-2)
    report = gradcheck(model, x=x, t=t, step=1e-2)
    assert report and report.counts["OK"] >= 0.99 * sum(report.counts.values()), report
    assert sum(wrong.sum() for wrong in reported.values()) > 10
    for row in report.rows:
        wrong = reported[row.layer, row.parameter].ravel()
        assert set(row.first[wrong]) <= {"KINK", "PRECISION"}
    assert report.explained["KINK"] > 0 and "false positives" in str(report)


def test_cov19net_in_full():
    model = cov19net(seed=7)
    weights = model.get_weights()
    report = gradcheck(model)
    assert report and len(report.directions) == 20, report
    assert report.error <= 1e-7 and report.redrawn <= 5, report
    assert "609,473" in str(report) and "20 random directions" in str(report)
    for before, after in zip(weights, model.get_weights()):
        assert_same_bits(after, before)


def test_a_model_is_left_as_it_was():
    model = Sequential([Dense(3), Dropout(0.5), ReLU(), Dense(1), Sigmoid()], (4,), dtype="float64")
    model.layers[0].parameters[0].value[0, 0] = -0.0
    weights, x = model.get_weights(), np.ones((2, 4))
    before = model.predict(x)
    assert gradcheck(model, x=x)
    for old, new in zip(weights, model.get_weights()):
        assert_same_bits(new, old)
    assert_same_bits(model.predict(x), before)


def test_a_layer_of_a_model_is_not_built_anew():
    model = Sequential([Dense(3), ReLU(), Dense(1)], (4,), dtype="float64")
    weights = model.get_weights()
    assert gradcheck(model.layers[0], shape=(2, 4)) and gradcheck(model.layers[0], shape=(2, 7))
    for old, new in zip(weights, model.get_weights()):
        assert_same_bits(new, old)
    assert model.layers[0].input_shape == (4,) and model.predict(np.ones((1, 4))).shape == (1, 1)


def test_a_layer_gets_its_parameters_back():
    layer = Scale()
    assert gradcheck(layer, shape=(2, 3))
    assert layer.parameters[0].value.tolist() == [1, 1, 1]


def test_a_check_in_float32():
    report = gradcheck(Dense(3), shape=(4, 5), dtype="float32")
    assert report and report.counts["OK"] > 0.9 * sum(report.counts.values()), report
    model = Sequential([Conv2D(2, 2), ReLU(), Flatten(), Dense(1), Sigmoid()], (5, 5, 1))
    assert gradcheck(model, dtype="float32")


# ---- No false negatives ----------------------------------------------------------------------------------------------

class Scale:
    """Multiply each channel by a learned factor: the layer of the README, with one fault."""

    def __init__(self, fault=""):
        self.fault = fault

    def build(self, input_shape):
        dtype = np.float32 if self.fault == "float32 factor" else np.float64
        self.parameters = [Parameter("factor", np.ones(input_shape[-1], dtype))]
        self.calls = 0
        return (*input_shape[:-1], input_shape[-1] + 1) if self.fault == "promise" else input_shape

    def forward(self, x):
        self.calls += 1
        self.x = x.copy()
        if self.fault == "writes to x":
            x *= 2
        if self.fault == "raises forward":
            raise RuntimeError("no idea")
        y = self.x * self.parameters[0].value
        if self.fault == "random":
            y += 1e-3 * self.calls
        if self.fault == "float32 inside":
            return (self.x.astype(np.float32) * self.parameters[0].value.astype(np.float32)).astype(np.float64)
        return y.astype(np.float32) if self.fault == "float32 y" else y * np.nan if self.fault == "nan" else y

    def backward(self, dy):
        grad = (dy * self.x).sum(axis=tuple(range(dy.ndim - 1)))
        factor = self.parameters[0]
        if self.fault == "raises backward":
            return dy @ np.zeros(7)
        if self.fault == "accumulates":
            factor.grad += grad
        elif self.fault == "grad shape":
            factor.grad = grad[:1]
        elif self.fault == "grad float32":
            factor.grad = grad.astype(np.float32)
        elif self.fault == "grad None":
            factor.grad = None
        elif self.fault != "grad missing":
            factor.grad[...] = grad
        if self.fault == "0.1 %":
            factor.grad[1] *= 1.001
        if self.fault == "writes to dy":
            dy *= 2
            dy /= 1.999
        dx = dy * (1 if self.fault == "forgets the factor" else factor.value)
        if self.fault == "random backward":
            self.calls += 1
            dx = dx * (1 + 1e-3 * self.calls)
        if self.fault == "0.1 % of x":
            dx[1, 2] *= 1.001
        if self.fault == "nan gradient":
            dx[0, 0] = np.nan
        return {"dx shape": dx[:, :2], "dx None": None, "dx float32": dx.astype(np.float32),
                "dx rounded": dx.astype(np.float32).astype(np.float64)}.get(self.fault, dx)


@pytest.mark.parametrize("fault, place, sentence", [
    ("writes to x", "Scale/x", "Forward changes its input"),
    ("writes to dy", "Scale/x", "Backward changes dy"),
    ("promise", "Scale", r"Forward returned shape \(2, 3\), where build promised \(2, 4\)"),
    ("random", "Scale", "Forward is random between calls"),
    ("random backward", "Scale/x", "Backward is random between calls"),
    ("float32 y", "Scale", "Computed in float32: x is float64, forward returned float32"),
    ("float32 inside", "Scale", "Computed in float32: .* change by 1e-9"),
    ("dx float32", "Scale/x", "Computed in float32: x is float64, dx is float32"),
    ("dx rounded", "Scale/x", "Computed in float32: an error of"),
    ("grad float32", "Scale/factor", "Computed in float32: an error of"),
    ("dx shape", "Scale/x", r"Backward returned dx of shape \(2, 2\), x has shape \(2, 3\)"),
    ("dx None", "Scale/x", "Backward returned no dx"),
    ("grad shape", "Scale/factor", r"Its factor has shape \(3,\), the gradient \(1,\)"),
    ("grad None", "Scale/factor", r"Factor\.grad must hold real numbers, got dtype object"),
    ("grad missing", "Scale/factor", "Backward never writes its gradient"),
    ("accumulates", "Scale/factor", "accumulated instead of overwritten"),
    ("0.1 %", r"Scale/factor\[1\]", r"ratio 1\.001\. A single number is wrong"),
    ("0.1 % of x", r"Scale/x\[1, 2\]", r"ratio 1\.001\. A single number is wrong"),
    ("forgets the factor", "Scale/x", "a factor for each channel is missing"),
    ("nan gradient", "Scale/x", "It holds NaN or infinity"),
])
def test_each_broken_rule_has_its_own_message(fault, place, sentence):
    assert gradcheck(Scale(), shape=(2, 3))
    report = gradcheck(Scale(fault), shape=(2, 3))
    assert not report and {str(finding.verdict) for finding in report.bugs} == {"BUG"}
    with pytest.raises(AssertionError, match=f"BUG +{place}[^\n]*{sentence}"):
        assert_gradients(Scale(fault), shape=(2, 3))


def test_a_float32_parameter_is_checked_in_float64():
    report = gradcheck(Scale("float32 factor"), shape=(2, 3))
    assert report and report.counts["OK"] == 18, report


@pytest.mark.parametrize("fault, error, sentence", [
    ("raises forward", InputError, "Scale: forward raised RuntimeError: no idea"),
    ("raises backward", InputError, "Scale: backward raised ValueError: matmul"),
    ("nan", NonFiniteError, r"Scale: the output holds NaN or infinity for these inputs.*x=\.\.\."),
])
def test_what_cannot_be_checked_is_a_typed_error(fault, error, sentence):
    with pytest.raises(error, match=sentence):
        gradcheck(Scale(fault), shape=(2, 3))


class NoBackward:
    def build(self, input_shape):
        return input_shape

    def forward(self, x):
        return x


class BadBuild(Scale):
    def build(self, input_shape):
        super().build(input_shape)
        return [3]


class BadParameter(Scale):
    def build(self, input_shape):
        self.parameters = [np.ones(3)]
        return input_shape


@pytest.mark.parametrize("subject, arguments, error, sentence", [
    (NoBackward(), {"shape": (2, 3)}, InputError, r"NoBackward: it has no backward\. A layer needs build"),
    (object(), {"shape": (2, 3)}, InputError, "object: it has no build, no forward, no backward"),
    (NoBackward, {"shape": (2, 3)}, InputError, r"NoBackward is a class; .* gradcheck\(NoBackward\("),
    ((np.sin,), {"shape": (2, 3)}, InputError, r"expected a pair of functions, \(x\) -> y and \(x, dy\) -> dx"),
    (Dense(2), {}, InputError, r"Dense: shape must be .* such as \(2, 5, 5, 3\), got None"),
    (Dense(2), {"shape": (0, 3)}, InputError, "Dense: shape must be a whole number from 1"),
    (Dense(2), {"shape": (2, 3, 4)}, ShapeError, r"Dense: expected one row a sample"),
    (Dense(2), {"shape": (2, 3), "dtype": "float16"}, InputError, "dtype must be one of float64, float32, got 'float16'"),
    (Dense(2), {"shape": (2, 3), "step": 2}, InputError, r"step must lie in \(0, 1\), .*got 2"),
    (Dense(2), {"x": np.array([["a"]])}, DTypeError, "Dense: x must hold real numbers"),
    (BadBuild(), {"shape": (2, 3)}, ShapeError, "BadBuild: build must return the output shape without N"),
    (BadParameter(), {"shape": (2, 3)}, DTypeError, "BadParameter: parameter .* must hold an array of float32 or"),
])
def test_invalid_subjects(subject, arguments, error, sentence):
    with pytest.raises(error, match=sentence):
        gradcheck(subject, **arguments)


def test_models_that_cannot_be_checked():
    with pytest.raises(InputError, match="no parameters"):
        gradcheck(Sequential([ReLU()], (3,)))
    model = Sequential([Dense(2), Sigmoid()], (3,))
    with pytest.raises(InputError, match=r"'categorical_crossentropy' needs Softmax\(\) as the last layer, got"):
        gradcheck(model, loss="categorical_crossentropy")
    with pytest.raises(InputError, match=r"targets must lie in \[0, 1\]"):
        gradcheck(model, t=np.full((2, 2), 3.0))
    large = Sequential([Dense(60), ReLU(), Dense(60), ReLU(), Dense(1)], (60,))
    with pytest.raises(InputError, match=r"\d+ of 30 directions cross a kink within a step of 5e-01"):
        gradcheck(large, step=0.5, directions=3)


class MyMaxPool:
    """Max pooling that sends dy to every tied position."""

    def __init__(self, wrong=True):
        self.wrong = wrong

    def build(self, input_shape):
        H, W, C = input_shape
        return H // 2, W // 2, C

    def forward(self, x):
        N, H, W, C = x.shape
        windows = x.reshape(N, H // 2, 2, W // 2, 2, C).transpose(0, 1, 3, 5, 2, 4)
        self.windows = windows.reshape(N, H // 2, W // 2, C, 4)
        return self.windows.max(axis=4)

    def backward(self, dy):
        N, OH, OW, C = dy.shape
        chosen = self.windows == self.windows.max(axis=4, keepdims=True)
        if not self.wrong:
            chosen &= np.arange(4) == chosen.argmax(axis=4)[..., None]
        dcols = (chosen * dy[..., None]).reshape(N, OH, OW, C, 2, 2)
        return dcols.transpose(0, 1, 4, 2, 5, 3).reshape(N, 2 * OH, 2 * OW, C)


def test_ties_of_a_layer_whose_masks_are_not_known():
    """Each of two tied numbers may get all of the gradient, or none; together they must get it once."""
    right, wrong = gradcheck(MyMaxPool(wrong=False), shape=(2, 4, 4, 2)), gradcheck(MyMaxPool(), shape=(2, 4, 4, 2))
    assert right and right.counts["KINK"] > 0, right
    assert not wrong and "numbers tied at" in str(wrong)
    generic = np.random.default_rng(0).random((2, 4, 4, 2))
    assert gradcheck(MyMaxPool(), x=generic)                  # the bug is visible only at ties


class LeakyReLU:
    def __init__(self, at_zero=0.1):
        self.at_zero = at_zero

    def build(self, input_shape):
        return input_shape

    def forward(self, x):
        self.x = x
        return np.where(x > 0, x, 0.1 * x)

    def backward(self, dy):
        return dy * np.where(self.x > 0, 1, np.where(self.x < 0, 0.1, self.at_zero))


@each_engine
@pytest.mark.parametrize("make, x, kinks", [
    (lambda: ReLU(6), [[-1, 0, 3, 6, 7]], 2), (lambda: minicnn.LeakyReLU(), [[-1, 0, 3, 6, 7]], 1),
    (lambda: ELU(0.5), [[-1, 0, 3, 6, 7]], 1), (lambda: ELU(), [[-1, 0, 3, 6, 7]], 0),
    (lambda: Swish(), [[-1, 0, 3, 6, 7]], 0), (lambda: Softplus(), [[-1, 0, 3, 6, 7]], 0),
    (lambda: GlobalMaxPooling2D(), [[[[2], [5]], [[5], [1]]]], 2)])
def test_kinks_of_the_further_layers_are_no_bugs(make, x, kinks, engine):
    """At 0 and at max_value, and where two pixels tie, there is no derivative; elsewhere everything is right."""
    report = gradcheck(make(), x=np.array(x, float), engine=engine)
    assert report and report.counts["KINK"] == kinks and report.counts["PRECISION"] == 0, report


@pytest.mark.parametrize("kind, wrong", [
    (ReLU, lambda layer, dy, y: dy * (y > 0)), (minicnn.LeakyReLU, lambda layer, dy, y: dy * (y > 0)),
    (ELU, lambda layer, dy, x: dy * np.where(x > 0, 1, np.exp(x))), (Swish, lambda layer, dy, x: dy / (1 + np.exp(-x))),
    (Softplus, lambda layer, dy, y: dy * np.exp(-y))])
def test_a_wrong_gradient_of_an_activation_is_a_bug(kind, wrong, monkeypatch):
    """The clip forgotten, the slope, alpha, the product's other half, 1 - exp(-y) turned round."""
    monkeypatch.setattr(kind, "backward", lambda layer, dy: wrong(layer, *layer.consume(dy)))
    report = gradcheck({ReLU: ReLU(1), ELU: ELU(0.5)}.get(kind) or kind(), shape=(2, 9), engine="reference")
    assert not report and report.counts["BUG"] > 0, report


def test_a_kink_that_is_not_visible():
    x = np.array([[0.0, 0.5, -0.5, 1e-7, -3e-6]])
    report = gradcheck(LeakyReLU(), x=x)
    row, = report.rows
    assert report and row.verdicts.tolist() == ["KINK", "OK", "OK", "OK", "OK"], report
    assert row.first.tolist() == ["KINK", "OK", "OK", "KINK", "KINK"]
    for allowed in (0.1, 0.6, 1.0):
        assert gradcheck(LeakyReLU(allowed), x=x)
    for outside in (0.05, 1.1, -0.1):
        report = gradcheck(LeakyReLU(outside), x=x)
        assert [finding.index for finding in report.bugs] == [(0, 0)], report


def test_a_wrong_slope_near_a_kink_is_a_bug():
    class Wrong(LeakyReLU):
        def backward(self, dy):
            return dy * np.where(self.x > 0, 1, 0.2)
    report = gradcheck(Wrong(), x=np.array([[0.5, -1e-7]]))
    assert [finding.index for finding in report.bugs] == [(0, 1)], report


def two_kinks_at_once(backward_of_leaky=None):
    """Two numbers exactly at the kink of a layer whose mask is not known; one weight moves them in opposite directions."""
    leaky = LeakyReLU()
    if backward_of_leaky:
        leaky.backward = backward_of_leaky
    model = Sequential([Dense(1), Dense(2), leaky, Dense(1)], (1,), dtype="float64", engine="reference")
    model.set_weights([[[1.0]], [1.0], [[1.0, -1.0]], [-2.0, 2.0], [[1.0], [-1.0]], [0.5]])
    return gradcheck(model, x=np.ones((2, 1)), t=np.zeros((2, 1)))


def test_two_kinks_at_once_are_checked_by_the_chain_rule():
    """Both one-sided slopes are 1.1 times the factors, and by the chain rule 0.1 at each kink gives 0.2."""
    report = two_kinks_at_once()
    assert report and "Several numbers are at kinks" in str(report), report
    assert all(row.verdicts.tolist() == ["KINK"] for row in report.rows if row.layer == "dense_1")
    assert not two_kinks_at_once(lambda dy: 0.05 * dy)


@pytest.mark.parametrize("part", range(3))
def test_networks_with_a_layer_whose_masks_are_not_known_give_no_false_positive(part):
    for number in range(part, 150, 3):          # every third has many ties
        model, x = random_case(number)
        for layer in model.layers:
            if type(layer) is ReLU:
                break
        else:
            continue
        layers = [LeakyReLU() if type(layer) is ReLU else type(layer)(**{name: getattr(layer, name) for name in layer.fields})
                  for layer in model.layers]
        mine = Sequential(layers, model.input_shape, dtype="float64", engine=model.network.engine)
        mine.set_weights(model.get_weights())
        report = gradcheck(mine, x=x, seed=number)
        assert report, f"network {number}:\n{report}"


def test_a_step_that_is_too_large_is_insufficient_precision():
    report = gradcheck((np.exp, lambda x, dy: np.exp(x) * dy), x=np.array([0.3, -1.0, 2.0]), step=0.5)
    assert report and report.explained == {"KINK": 0, "PRECISION": 3} and report.better_step <= 1e-3
    assert "a step of 1e-04 decides most" in str(report)


def test_insufficient_precision_is_reported():
    """The rounding error of a large constant hides the derivative of a small term that is added to it."""
    drowned = gradcheck((lambda x: 1e9 + 1e-6 * x, lambda x, dy: 1e-6 * dy), x=np.array([0.3, -1.0, 2.0]))
    assert drowned and drowned.counts["PRECISION"] == 3, drowned
    assert "Insufficient precision" in str(drowned)


def test_functions_losses_and_models_of_the_users_own():
    assert_gradients((np.tanh, lambda x, dy: (1 - np.tanh(x)**2) * dy), shape=(3, 2))
    report = gradcheck((np.tanh, lambda x, dy: (1 - np.tanh(x)) * dy), shape=(3, 2))
    assert [finding.layer for finding in report.bugs] == ["tanh"] * 3
    model = Sequential([Scale(), Flatten(), Dense(1), Sigmoid()], (3, 3, 2))
    assert gradcheck(model) and model.layers[0].parameters[0].value.dtype == np.float64
    wrong = gradcheck(Sequential([Dense(3), Scale("forgets the factor"), Dense(1), Sigmoid()], (2,)))
    assert wrong.counts["BUG"] == 0             # a factor of 1 hides the bug in a network, not in the layer alone
    assert not gradcheck(Scale("forgets the factor"), shape=(2, 3))


def test_a_wrong_layer_between_right_ones_of_a_large_network():
    class Twice(Dense):
        def backward(self, dy):
            dx = super().backward(dy)
            self.parameters[1].grad *= 1.001
            return dx
    model = Sequential([Dense(40), Tanh(), Twice(40, name="twice"), Tanh(), Dense(1), Sigmoid()], (30,), seed=1)
    report = gradcheck(model)
    assert {(finding.layer, finding.parameter) for finding in report.bugs} == {("twice", "bias")}, report
    assert len(report.directions) == 20 and "each is 1.001 times" in report.bugs[0].cause


def test_the_consequences_of_a_wrong_layer_are_not_reported_as_bugs():
    class Half(Tanh):
        def backward(self, dy):
            return super().backward(dy) / 2
    model = Sequential([Dense(3), Half(name="half"), Dense(1), Sigmoid()], (2,), dtype="float64")
    report = gradcheck(model)
    assert {(finding.layer, finding.parameter) for finding in report.bugs} == {("half", "x")}
    assert "each is 1/2 of what it should be" in str(report).lower()
    assert "Wrong as a consequence: dense_1/kernel, dense_1/bias." in str(report)


class TwoFactors:
    """y = a b x, with two parameters of the same name; the gradient of the first is multiplied by `times`."""

    def __init__(self, times=1, names=("factor", "factor")):
        self.times, self.names = times, names

    def build(self, input_shape):
        self.parameters = [Parameter(name, np.ones(input_shape[-1])) for name in self.names]
        return input_shape

    def forward(self, x):
        self.x = x
        return x * self.parameters[0].value * self.parameters[1].value

    def backward(self, dy):
        a, b = self.parameters
        a.grad, b.grad = self.times * (dy * self.x * b.value).sum(axis=0), (dy * self.x * a.value).sum(axis=0)
        return dy * a.value * b.value


def test_two_parameters_of_the_same_name_are_both_checked():
    report = gradcheck(TwoFactors(), shape=(2, 3))
    assert report and report.counts["OK"] == 2 * (6 + 3 + 3)           # at general inputs, and at ties
    report = gradcheck(TwoFactors(times=2), shape=(2, 3))
    assert {(finding.layer, finding.parameter) for finding in report.bugs} == {("TwoFactors", "factor")}
    assert report.counts["BUG"] == 3 and report.counts["OK"] == 6 + 3
    assert [row.parameter for row in report.rows] == ["x", "factor", "factor_2"]
    report = gradcheck(TwoFactors(names=("a_2", "a_2")), shape=(2, 3))
    assert [row.parameter for row in report.rows][:3] == ["x", "a_2", "a_2_2"]


class TwoConvolutions:
    def __init__(self, early=False):
        self.first, self.then, self.early = Conv2D(32, 3, padding="same"), Conv2D(32, 3), early
        if early:
            self.make((4, 4, 32))

    def make(self, shape):
        shape = self.then.build(self.first.build(shape))
        self.parameters = [*self.first.parameters, *self.then.parameters]
        return shape

    def build(self, shape):
        return (2, 2, 32) if self.early else self.make(shape)

    def forward(self, x):
        return self.then.forward(self.first.forward(x))

    def backward(self, dy):
        return self.first.backward(self.then.backward(dy))


@each_engine
def test_layers_of_minicnn_inside_a_custom_layer(engine):
    """They are checked in float64 too. They once were float32, and read past the end of float64 parameters."""
    report = gradcheck(TwoConvolutions(), shape=(2, 4, 4, 32), engine=engine, limit=40)
    assert report and [row.size for row in report.rows[:5]] == [2 * 4 * 4 * 32, 9 * 32 * 32, 32, 9 * 32 * 32, 32]
    with pytest.raises(DTypeError, match=r"Conv2D: it computes in float32, and its kernel is float64\. Call its build in"):
        gradcheck(TwoConvolutions(early=True), shape=(2, 4, 4, 32), engine=engine)


def test_a_custom_float32_layer_is_float32_after_the_check():
    layer = Scale("float32 factor")
    assert gradcheck(layer, shape=(2, 3))
    factor, = layer.parameters
    assert factor.value.dtype == factor.grad.dtype == np.float32 and (factor.value == 1).all()


# ---- The report ------------------------------------------------------------------------------------------------------

class Tags(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.seen = set()
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.seen.add((tag, *attrs))


def test_the_report_in_a_terminal_and_in_a_notebook():
    evil = 'x"><img src=x onerror=alert(1)>\x1b[2J'
    layer = Scale("0.1 %")
    layer.name = evil
    report = gradcheck(layer, shape=(2, 3))
    assert "\x1b" not in str(report) and "ratio 1.001" in str(report)
    tags = Tags(report._repr_html_()).seen
    assert {tag for tag, *_ in tags} == {"p", "strong", "table", "thead", "tbody", "tr", "th", "td", "ul", "li"}
    assert all(len(tag) == 1 for tag in tags)           # no attributes at all
    assert "\x1b" not in report._repr_html_()


def test_the_report_as_json():
    content = json.loads(json.dumps(gradcheck(Scale("0.1 %"), shape=(2, 3)).as_dict(), allow_nan=False))
    finding = content["findings"][0]
    assert content["ok"] is False and content["counts"]["BUG"] == 1
    assert finding["layer"] == "Scale" and finding["index"] == [1] and abs(finding["ratio"] - 1.001) < 1e-6
    assert json.dumps(gradcheck(Scale("nan gradient"), shape=(2, 3)).as_dict(), allow_nan=False)


def test_many_findings_are_counted():
    report = Report("x", findings=[Finding("BUG", "layer", str(i)) for i in range(30)])
    assert "... and 10 more (report.findings)" in str(report) and not report


@pytest.mark.parametrize("wrong, sentence", [
    (lambda n: -n, "the sign is flipped"),
    (lambda n: n / 5, r"1/N of what it should be \(N = 5\)"),
    (lambda n: n * 5, r"N times what it should be \(N = 5\)"),
    (lambda n: n * 3, "each is 3 times what it should be: a constant factor"),
    (lambda n: n.T.copy(), "transposed"),
    (lambda n: n[::-1, ::-1], "the kernel is flipped"),
    (lambda n: np.roll(n, 1, 0), "shifted by one along axis 0"),
    (lambda n: n * 0, "the gradient is missing"),
    (lambda n: n * np.arange(1.0, 5), "a factor for each channel"),
    (lambda n: n * (np.arange(16).reshape(4, 4) % 3 > 0), "part of the gradient is dropped"),
    (lambda n: n * (1 + 1e-6 * np.sin(np.arange(16.0)).reshape(4, 4)), "computed in float32"),
])
def test_likely_causes(wrong, sentence):
    numeric = np.random.default_rng(0).standard_normal((4, 4))
    with pytest.raises(AssertionError, match=sentence):
        raise AssertionError(likely_cause(wrong(numeric), numeric, 5))


# ---- Optimizers and determinism --------------------------------------------------------------------------------------

@each_engine
@pytest.mark.parametrize("make", [Adam, lambda: Adam(0.1, 0, 0.5, 1e-3), lambda: Adam(epsilon_mode="paper"), lambda: AdamW(0.1, 0.2), SGD,
                                  lambda: Adam(0.1, 0.5, 0.5, amsgrad=True), lambda: RMSprop(0.1, 0.5, 0.9, 1e-3),
                                  RMSprop, lambda: Adam(clipnorm=0.5), lambda: RMSprop(global_clipnorm=0.5),
                                  lambda: SGD(clipvalue=1e-3),
                                  lambda: SGD(0.1, momentum=0.9), lambda: SGD(0.1, momentum=0.9, nesterov=True)],
                         ids=lambda make: repr(make()))
def test_optimizers_pass(make, engine):
    assert (report := check_optimizer(make(), engine=engine)), report


def test_the_mistake_of_a_wrong_optimizer_is_named():
    class Wrong(Adam):
        def update(self, ops, w, dw, slots):
            super().update(ops, w, 1.001 * dw, slots)
    class Through(AdamW):
        def update(self, ops, w, dw, slots):
            Adam.update(self, ops, w, dw, slots)
    assert "The weight decay is missing" in str(check_optimizer(Through(weight_decay=0.2)))
    class Forgetful(Adam):
        def update(self, ops, w, dw, slots):
            slots[2][...] = 0
            super().update(ops, w, dw, slots)
    assert "not the largest v so far" in str(check_optimizer(Forgetful(0.1, 0.5, 0.5, amsgrad=True)))

    class Outside(RMSprop):
        def update(self, ops, w, dw, slots):
            v, velocity = slots
            v += (1 - self.rho) * (dw * dw - v)
            w -= self.learning_rate * dw / (np.sqrt(v) + self.epsilon)
    assert "Epsilon is outside the root" in str(check_optimizer(Outside()))
    report = check_optimizer(Wrong())
    assert not report and report.bugs[0].place.startswith("Wrong/w[")
    with pytest.raises(InputError, match="has taken 12 steps; make a new one"):
        check_optimizer(used := Adam()) and check_optimizer(used)
    with pytest.raises(InputError, match="expected Adam, RMSprop, SGD or a subclass, got object"):
        check_optimizer(object())


def maker(engine, dtype="float64", *layers):
    def make_model():
        model = Sequential([Conv2D(3, 3), ReLU(), MaxPool2D(2), Flatten(), Dense(5), *[layer() for layer in layers],
                            ReLU(), Dense(1), Sigmoid()], (8, 8, 2), seed=1, dtype=dtype, engine=engine)
        model.compile(SGD(), loss="binary_crossentropy")
        return model
    return make_model


@each_engine
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_models_are_deterministic(engine, dtype, same_threads):
    assert (report := check_determinism(maker(engine, dtype))), report
    report = check_determinism(maker(engine, dtype, lambda: Dropout(0.3)))
    assert report and "shards were not compared" in str(report)


def test_a_model_that_is_not_deterministic():
    class Counting(Tanh):
        made = 0

        def __init__(self):
            super().__init__()
            Counting.made += 1
            self.number = Counting.made

        def forward(self, x):
            return super().forward(x) * self.number
    report = check_determinism(maker("reference", "float64", Counting))
    assert {(finding.layer, finding.parameter) for finding in report.bugs} == {("counting_1", "output")}
    assert "a new model of the same seed gives another result" in str(report).lower()
    with pytest.raises(InputError, match="make_model must return a new Sequential that is compiled, got Sequential"):
        check_determinism(lambda: Sequential([Dense(1)], (2,)))
    with pytest.raises(InputError, match="expected at least 3 samples and as many targets, got 2 and 2"):
        check_determinism(maker("reference"), x=np.zeros((2, 8, 8, 2)), t=np.zeros((2, 1)))


# ---- The command -----------------------------------------------------------------------------------------------------

def run(*arguments):
    parser = ArgumentParser()
    gradcheck_command.add_options(parser)
    return gradcheck_command.run(parser.parse_args(arguments))


@pytest.fixture
def module(monkeypatch):
    """A module of the user: mylayers."""
    made = ModuleType("mylayers")
    made.Scale, made.wrong, made.instance = Scale, lambda: Scale("0.1 %"), Scale()
    made.Needs = type("Needs", (), {"__init__": lambda self, size: None})
    monkeypatch.setitem(sys.modules, "mylayers", made)


def test_the_command_checks_a_layer(module, capsys):
    for name in ("Scale", "instance"):
        assert run(f"mylayers:{name}", "--shape", "2,3") == 0
    assert capsys.readouterr().out.count("Scale: no bug found") == 2
    assert run("mylayers:wrong", "--shape", "2,3", "--json") == 1
    assert json.loads(capsys.readouterr().out)["findings"][0]["parameter"] == "factor"


def test_the_command_imports_from_the_folder(tmp_path, monkeypatch, capsys):
    (tmp_path / "folder_layers.py").write_text("from minicnn import Tanh\n")
    (tmp_path / "broken_layers.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    assert run("folder_layers:Tanh", "--shape", "2,3") == 0
    with pytest.raises(InputError, match="module broken_layers could not be imported from .*ZeroDivisionError"):
        run("broken_layers:Tanh", "--shape", "2,3")
    assert sys.path == before
    monkeypatch.delitem(sys.modules, "folder_layers")


def test_the_command_checks_cov19net(capsys):
    assert run("cov19net", "--directions", "2") == 0 and run("--directions", "2") == 0
    assert capsys.readouterr().out.count("2 random directions") == 2


@pytest.mark.parametrize("arguments, sentence", [
    (("mylayers:Scale",), "--shape is needed for mylayers:Scale"),
    (("mylayers",  "--shape", "2,3"), "expected cov19net or MODULE:LAYER, such as mylayers:Scale, got 'mylayers'"),
    (("os;x:y", "--shape", "2,3"), "expected cov19net or MODULE:LAYER"),
    (("cov19nt",), "Did you mean 'cov19net'"),
    (("nowhere_at_all:Scale", "--shape", "2,3"), "module nowhere_at_all could not be imported"),
    (("mylayers:Nothing", "--shape", "2,3"), "module mylayers has no Nothing"),
    (("mylayers:Needs", "--shape", "2,3"), r"mylayers:Needs\(\) failed .*called without arguments.*TypeError"),
    (("mylayers:Scale", "--inject", "mean-twice"), "--inject puts a bug into cov19net or"),
    (("--inject", "mean-twise"), "there is none called 'mean-twise'. Did you mean 'mean-twice'?"),
    (("cov19net", "--inject", "tanh-not-squared"), "this is a bug of Tanh, and the model has none"),
])
def test_the_command_reports_wrong_arguments(module, arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        run(*arguments)


@pytest.mark.parametrize("arguments", [("x:Y", "--shape", "2,0"), ("x:Y", "--shape", "two"), ("x:Y", "--step", "0"),
                                       ("x:Y", "--seed", "-1"), ("x:Y", "--directions", "0")])
def test_the_command_refuses_options(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(*arguments)
    assert f"argument {arguments[1]}: " in capsys.readouterr().err


def test_random_numbers_depend_on_seed_and_purpose_alone():
    one, other = draw(uniforms, 1, 1, (5,)), draw(uniforms, 1, 1, (5, 2))
    assert one.tolist() == other.ravel()[:5].tolist() and one.tolist() != draw(uniforms, 1, 2, (5,)).tolist()
    assert minicnn.gradcheck is gradcheck and Softmax().choices() == ()
