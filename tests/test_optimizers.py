"""The optimizers: worked steps, extremes, state that a checkpoint can carry, and arguments. Known answers to 60 digits
and the frameworks' own steps are in test_parity.py."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from minicnn.core.backend import ENGINES, get_engine
from minicnn.core.parameter import Parameter
from minicnn.errors import InputError
from minicnn.fusion import PackedParameters
from minicnn.optimizers import SGD, Adam
from minicnn.optimizers.adaptive import OPTIMIZERS, AdamW, RMSprop
from tests.support.laws import assert_same_bits
from tests.support.strategies import DTYPES, normals

OPTIMIZERS_TO_CHECK = [lambda: Adam(), lambda: Adam(0.01, 0.5, 0.9, 1e-8, "paper"), lambda: Adam(beta_1=0, beta_2=0),
                       lambda: AdamW(0.01, 0.1), lambda: Adam(0.01, 0.5, 0.5, amsgrad=True), lambda: RMSprop(),
                       lambda: RMSprop(0.1, 0.5, 0.9, clipnorm=0.5), lambda: AdamW(0.1, global_clipnorm=0.5),
                       lambda: SGD(), lambda: SGD(0.1, 0.9), lambda: SGD(0.1, 0.9, nesterov=True)]
each_optimizer = pytest.mark.parametrize("make", OPTIMIZERS_TO_CHECK, ids=lambda make: repr(make()))
each_engine = pytest.mark.parametrize("engine", ENGINES)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def parameters(dtype=np.float64, *shapes):
    return [Parameter(f"p{i}", normals(i, shape, dtype)) for i, shape in enumerate(shapes or [(3, 2), (4,)])]


def steps(optimizer, params, n, engine="fast", first=0):
    """Take n steps with gradients drawn by the number of the step; return copies of the parameters after each."""
    after = []
    for step in range(first, first + n):
        for i, p in enumerate(params):
            p.grad[...] = normals(1000 + 10 * step + i, p.value.shape)
        optimizer.step(get_engine(engine), params)
        after.append([p.value.copy() for p in params])
    return after


def adam_by_hand(w, gradients, learning_rate, beta_1, beta_2, epsilon, mode):
    """Adam of one number, from Algorithm 1 of Kingma & Ba, the moments and powers as exact fractions."""
    m = v = Fraction(0)
    b1, b2 = Fraction(beta_1), Fraction(beta_2)
    for t, g in enumerate(map(Fraction, gradients), 1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        if mode == "paper":
            w -= learning_rate * float(m / (1 - b1**t)) / (float(v / (1 - b2**t)) ** 0.5 + epsilon)
        else:
            w -= learning_rate * float(1 - b2**t) ** 0.5 / float(1 - b1**t) * float(m) / (float(v) ** 0.5 + epsilon)
    return w


@each_engine
@pytest.mark.parametrize("mode", ["keras", "paper"])
@given(st.lists(st.floats(-100, 100), min_size=1, max_size=6), st.floats(0, 0.99), st.floats(0.5, 0.9999))
def test_adam_is_its_algorithm(mode, engine, gradients, beta_1, beta_2):
    optimizer, parameter = Adam(1e-3, beta_1, beta_2, 1e-7, mode), Parameter("w", np.array([0.5]))
    for gradient in gradients:
        parameter.grad[0] = gradient
        optimizer.step(get_engine(engine), [parameter])
    expected = adam_by_hand(0.5, gradients, 1e-3, beta_1, beta_2, 1e-7, mode)
    # m + (1 - beta_1) (g - m) cancels where gradients change sign: the error is judged beside a step's size, 1e-3.
    assert parameter.value[0] == pytest.approx(expected, abs=1e-12)


def test_the_known_answers_tell_keras_from_the_paper():
    known = json.loads((Path(__file__).parent / "vectors" / "golden.json").read_text(encoding="utf-8"))["adam"]
    options = (known["lr"], known["beta1"], known["beta2"])
    for i, w in enumerate(known["p0"]):
        gradients = [row[i] for row in known["grads"]]
        assert adam_by_hand(w, gradients, *options, 1e-7, "keras") == pytest.approx(known["keras_epshat_1e-7"][-1][i],
                                                                                    rel=1e-14)
        assert adam_by_hand(w, gradients, *options, 1e-8, "paper") == \
            pytest.approx(known["paper_or_torch_eps_1e-8"][-1][i], rel=1e-14)
    assert abs(known["keras_epshat_1e-7"][-1][3] - known["paper_or_torch_eps_1e-8"][-1][3]) > 5e-4


@each_engine
def test_weight_decay_shrinks_before_the_step_and_beside_the_gradient(engine):
    plain, decayed = (parameters(np.float64, (5,), (3,)) for _ in range(2))
    for p in decayed:
        p.value *= 2
    steps(Adam(0.1), plain, 1, engine), steps(AdamW(0.1, weight_decay=0.25), decayed, 1, engine)
    for p, q in zip(plain, decayed):
        start = normals(plain.index(p), p.value.shape)
        np.testing.assert_allclose(q.value, 2 * start * (1 - 0.1 * 0.25) + (p.value - start), rtol=1e-14)


@each_engine
def test_weight_decay_alone_is_a_power(engine):
    parameter, optimizer = Parameter("w", np.ones(3)), AdamW(0.1, weight_decay=0.25)
    for _ in range(40):                                                     # the gradient is 0
        optimizer.step(get_engine(engine), [parameter])
    np.testing.assert_allclose(parameter.value, (1 - 0.1 * 0.25)**40, rtol=1e-13)


@each_engine
@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_its_formula(nesterov, engine):
    optimizer, (p,) = SGD(0.1, 0.9, nesterov), parameters(np.float64, (5,))
    w, velocity = p.value.copy(), np.zeros(5)
    for step in range(4):
        g = normals(1000 + 10 * step, (5,))
        velocity = 0.9 * velocity - 0.1 * g
        w = w + (0.9 * velocity - 0.1 * g if nesterov else velocity)
        np.testing.assert_allclose(steps(optimizer, [p], 1, engine, first=step)[0][0], w, rtol=1e-14)


@each_dtype
@each_optimizer
def test_engines_take_the_same_steps(make, dtype):
    fast, slow = (steps(make(), parameters(dtype), 4, engine) for engine in ENGINES)
    for ours, expected in zip(sum(fast, []), sum(slow, []), strict=True):
        assert_same_bits(ours, expected)
        assert ours.dtype == dtype


@each_optimizer
def test_an_optimizer_goes_on_from_its_state(make):
    whole = steps(make(), params := parameters(), 6)[-1]
    first, params = make(), parameters()
    steps(first, params, 3)
    state = {slot: [a.copy() for a in arrays] for slot, arrays in first.state(params).items()}
    second = make()
    second.restore(np.int64(first.t), state)
    assert second.t == 3 and type(second.t) is int
    for resumed, straight in zip(steps(second, params, 3, first=3)[-1], whole, strict=True):
        assert_same_bits(resumed, straight)


@each_optimizer
def test_an_optimizer_is_made_again_from_its_config(make):
    config = json.loads(json.dumps(make().config()))
    again = OPTIMIZERS[config.pop("type")](**config)
    assert repr(again) == repr(make())


@each_optimizer
def test_state_before_the_first_step_is_zero(make):
    optimizer, params = make(), parameters(np.float32)
    state = optimizer.state(params)
    assert set(state) == set(optimizer.slots) and optimizer.t == 0
    for arrays in state.values():
        assert [a.shape for a in arrays] == [(3, 2), (4,)]
        assert all(a.dtype == np.float32 and not a.any() for a in arrays)


@each_optimizer
def test_an_optimizer_serves_one_network(make):
    optimizer = make()
    steps(optimizer, parameters(), 1)
    for others in (parameters(np.float64, (3, 2)), parameters(np.float64, (3, 2), (5,))):
        with pytest.raises(InputError, match=f"{type(optimizer).__name__}: this optimizer has already trained a "
                                             "network of other shapes. Make a new one for each model"):
            steps(optimizer, others, 1)
    assert optimizer.t == 1


# ---- Clipped gradients -----------------------------------------------------------------------------------------------

GRADIENTS = [np.array([3.0, -4.0]), np.array([0.0, 12.0, 0.5])]


@each_engine
@pytest.mark.parametrize("clipping, taken", [
    ({"clipnorm": 5.0}, [[3, -4], np.array([0, 12, 0.5]) * 5 / 144.25**0.5]),       # the first has norm 5
    ({"clipnorm": 20}, GRADIENTS), ({"global_clipnorm": 1e9}, GRADIENTS), ({"clipvalue": 12.0}, GRADIENTS),
    ({"clipvalue": 3.5}, [[3, -3.5], [0, 3.5, 0.5]]),
    ({"global_clipnorm": 1.0}, [g / 169.25**0.5 for g in GRADIENTS])])
@pytest.mark.parametrize("packed", [False, True])
def test_a_gradient_is_clipped_as_it_is_named(clipping, taken, packed, engine):
    optimizer = SGD(1.0, **clipping)
    params = [Parameter(f"p{i}", np.zeros(len(g))) for i, g in enumerate(GRADIENTS)]
    trained = PackedParameters(params, [True, True]) if packed else params
    for p, g in zip(params, GRADIENTS):
        p.grad = g
    optimizer.step(get_engine(engine), trained)
    for p, g, expected in zip(params, GRADIENTS, taken, strict=True):
        np.testing.assert_allclose(p.value, -np.array(expected), rtol=1e-14)
        assert_same_bits(p.grad, g)         # stays as it was


def test_the_norm_of_all_is_that_of_the_trainable():
    optimizer, (frozen, other) = SGD(1.0, global_clipnorm=1.0), parameters(np.float64, (2,), (2,))
    frozen.grad, other.grad, frozen.trainable = [300, 400], [3, 4], False
    before, start = frozen.value.copy(), other.value.copy()
    optimizer.step(get_engine("fast"), [frozen, other])
    assert_same_bits(frozen.value, before)
    np.testing.assert_allclose(start - other.value, [0.6, 0.8], rtol=1e-14)


@each_dtype
def test_a_large_gradient_has_a_norm(dtype):
    parameter, optimizer = Parameter("w", np.zeros(2, dtype)), SGD(1.0, clipnorm=1.0)
    parameter.grad = np.array([3e30, -4e30], dtype)         # their squares are no float32
    optimizer.step(get_engine("fast"), [parameter])
    np.testing.assert_allclose(parameter.value, [-0.6, 0.8], rtol=1e-6)


@pytest.mark.parametrize("make, sentence", [
    (lambda: Adam(clipnorm=1, clipvalue=1), "Adam: give one of clipnorm, clipvalue, global_clipnorm"),
    (lambda: SGD(clipnorm=0), r"SGD: clipnorm must lie in \(0, inf\), or be None, got 0"),
    (lambda: RMSprop(clip_norm=1), "RMSprop: there is no argument 'clip_norm', only .*Did you mean 'clipnorm'"),
    (lambda: AdamW(amsgrad="yes"), "AdamW: amsgrad must be True or False"),
    (lambda: RMSprop(rho=1), r"RMSprop: rho must lie in \[0, 1\)")])
def test_arguments_that_cannot_be(make, sentence):
    with pytest.raises(InputError, match=sentence):
        make()


def test_arguments_of_later_are_kept_only_where_they_are_given():
    assert Adam().config() == {"type": "Adam", "learning_rate": 1e-3, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7,
                               "epsilon_mode": "keras"}
    assert SGD(clipnorm=1).config()["clipnorm"] == 1.0 and Adam(amsgrad=True).config()["amsgrad"] is True


# ---- Extremes --------------------------------------------------------------------------------------------------------

@each_engine
@each_dtype
@pytest.mark.parametrize("mode", ["keras", "paper"])
@pytest.mark.parametrize("epsilon", [1e-7, 1e-30])
def test_adam_stays_finite_and_steps_at_most_as_far_as_it_may(epsilon, mode, dtype, engine):
    g = np.array([0, 1e-45, 1e-30, 1e-8, 1, 1e8, 1e18, -1e-30, -1e18], dtype)
    optimizer, parameter = Adam(epsilon=epsilon, epsilon_mode=mode), Parameter("w", np.ones(g.size, dtype))
    for t in range(5):
        before = parameter.value.copy()
        parameter.grad = g if t < 3 else 0 * g
        optimizer.step(get_engine(engine), [parameter])
        assert np.isfinite(parameter.value).all()
        # With one gradient over and over the step is the learning rate, less where epsilon damps it.
        assert (np.abs(parameter.value - before) <= 1e-3 * (1 + 1e-6) + 2 * np.finfo(dtype).eps).all()
    assert parameter.value[0] == 1
    assert all(np.isfinite(a).all() for arrays in optimizer.state([parameter]).values() for a in arrays)


def test_the_first_step_of_adam_has_the_size_of_the_learning_rate():
    # With a gradient far above epsilon m / sqrt(v) is 1 after the correction, whatever the gradient's size.
    for g in (1e-2, 1.0, -1e6):
        parameter = Parameter("w", np.zeros(1), np.array([g]))
        Adam(0.125).step(get_engine("fast"), [parameter])
        assert parameter.value[0] == pytest.approx(-0.125 * np.sign(g), rel=1e-3)


def test_a_late_step_counts_in_whole_numbers():
    # beta_2^t is taken in float64 from a whole t: at t = 10^9 the correction is 1, and no power overflowed.
    optimizer, parameter = Adam(), Parameter("w", np.zeros(1, np.float32), np.ones(1, np.float32))
    optimizer.restore(10**9, {"m": [np.ones(1, np.float32)], "v": [np.ones(1, np.float32)]})
    optimizer.step(get_engine("fast"), [parameter])
    assert optimizer.t == 10**9 + 1 and parameter.value[0] == np.float32(-1e-3 / (1 + 1e-7))


@each_engine
def test_nan_in_a_gradient_reaches_the_weight(engine):
    for make in OPTIMIZERS_TO_CHECK:
        parameter = Parameter("w", np.ones(2, np.float32), np.array([np.nan, 0], np.float32))
        optimizer = make()
        optimizer.step(get_engine(engine), [parameter])
        decay = optimizer.learning_rate * getattr(optimizer, "weight_decay", 0)
        assert np.isnan(parameter.value[0]) and parameter.value[1] == np.float32(1 - decay)


# ---- Arguments -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("make, sentence", [
    (lambda: Adam(0), r"Adam: learning_rate must lie in \(0, inf\), got 0\."),
    (lambda: Adam(-1e-3), r"Adam: learning_rate must lie in \(0, inf\), got -0.001\."),
    (lambda: SGD(float("inf")), r"SGD: learning_rate must lie in \(0, inf\), got inf\."),
    (lambda: SGD(float("nan")), r"SGD: learning_rate must lie in \(0, inf\), got nan\."),
    (lambda: Adam("1e-3"), r"Adam: learning_rate must lie in \(0, inf\), got '1e-3'\."),
    (lambda: Adam(True), r"Adam: learning_rate must lie in \(0, inf\), got True\."),
    (lambda: Adam(None), r"Adam: learning_rate must lie in \(0, inf\), got None\."),
    (lambda: Adam(beta_1=1), r"Adam: beta_1 must lie in \[0, 1\), got 1\."),
    (lambda: Adam(beta_2=-0.1), r"Adam: beta_2 must lie in \[0, 1\), got -0.1\."),
    # With 0 a weight whose gradients are all 0 would become 0 / 0.
    (lambda: Adam(epsilon=0), r"Adam: epsilon must lie in \[1e-30, 1\), got 0\."),
    (lambda: Adam(epsilon=1), r"Adam: epsilon must lie in \[1e-30, 1\), got 1\."),
    (lambda: Adam(epsilon_mode="torch"), "Adam: epsilon_mode must be one of keras, paper, got 'torch'"),
    (lambda: AdamW(weight_decay=1), r"AdamW: weight_decay must lie in \[0, 1\), got 1\."),
    (lambda: AdamW(weight_decay=-0.1), r"AdamW: weight_decay must lie in \[0, 1\), got -0.1\."),
    (lambda: SGD(momentum=1.0), r"SGD: momentum must lie in \[0, 1\), got 1.0\."),
])
def test_arguments_that_cannot_be_used(make, sentence):
    with pytest.raises(InputError, match=sentence):
        make()


def test_numbers_of_numpy_are_numbers():
    optimizer = Adam(np.float32(0.25), beta_1=np.float64(0.5), beta_2=0)
    assert (optimizer.learning_rate, optimizer.beta_1, optimizer.beta_2) == (0.25, 0.5, 0.0)
    assert type(optimizer.learning_rate) is float


# ---- Arrays of others ------------------------------------------------------------------------------------------------

@each_optimizer
def test_the_state_lies_as_the_parameters_do(make):
    """Moments of a list are moved, and not read past their end, when the same parameters come as one piece of memory."""
    params, straight = (PackedParameters(parameters(np.float32), [True, True]) for _ in range(2))
    moved, kept = make(), make()
    for optimizer, trained, ways in ((moved, params, (list(params), params)), (kept, straight, (straight, straight))):
        for i, way in enumerate(ways):
            for p in trained:
                p.grad = normals(i, p.value.shape)
            optimizer.step(get_engine("fast"), way)
    for one, other in zip(params, straight, strict=True):
        assert_same_bits(one.value, other.value)


@each_optimizer
def test_the_state_is_of_the_parameters_dtype(make):
    optimizer = make()
    steps(optimizer, parameters(np.float32), 1)
    steps(optimizer, params := parameters(np.float64), 1)
    assert {array.dtype for arrays in optimizer.state(params).values() for array in arrays} <= {np.dtype(np.float64)}


def test_what_an_optimizer_tells_of_its_state_is_not_what_it_uses():
    optimizer, params = Adam(), parameters()
    steps(optimizer, params, 1)
    optimizer.state(params)["m"][0] = np.zeros(1, np.int8)
    steps(optimizer, params, 1)
    assert optimizer.state(params)["m"][0].shape == (3, 2)


def test_what_is_no_parameter_is_refused():
    with pytest.raises(InputError, match=r"Adam: expected objects of minicnn.Parameter, got array"):
        Adam().step(get_engine("fast"), [np.ones(3)])
    params = parameters()
    with pytest.raises(InputError, match="Adam: p0 shares memory with a parameter before it"):
        Adam().step(get_engine("fast"), [params[0], params[0]])


@pytest.mark.parametrize("wrong", [np.ones(4), np.ones(5, np.float32), np.ones(10)[::2]])
def test_kernels_that_optimizers_of_ones_own_are_given_look_at_what_they_get(wrong):
    ops, w = get_engine("fast"), np.ones(5)
    with pytest.raises(InputError, match=r"expected C-contiguous, writable arrays of one shape and dtype, \(5,\) float64"):
        ops.sgd(w, wrong, w, 0.1, 0.9, False, w, w)
    with pytest.raises(InputError, match=r"expected C-contiguous, writable arrays of one shape and dtype, \(5,\) float64"):
        ops.adam(w, w, wrong, w, 0.1, 0.9, 0.9, 1e-7, w, w, w)
