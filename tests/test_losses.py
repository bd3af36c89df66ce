"""The losses: the mean is taken once, extremes stay finite, and targets that make no sense are named."""

import copy

import numpy as np
import pytest
from hypothesis import given, strategies as st

from minicnn import L2, SGD, Conv2D, Dense, Flatten, ReLU, Sequential, Sigmoid, Softmax, gradcheck
from minicnn.core.backend import ENGINES, get_engine
from minicnn.errors import InputError, ShapeError
from minicnn.losses import BinaryCrossentropy, get_loss
from minicnn.losses.further import CategoricalCrossentropy, MarginLoss, MeanSquaredError
from tests.support.laws import assert_gradient, assert_same_bits, digest
from tests.support.strategies import DTYPES, normals

LOSSES = [BinaryCrossentropy, CategoricalCrossentropy, MeanSquaredError, MarginLoss]
each_loss = pytest.mark.parametrize("loss", LOSSES)
each_engine = pytest.mark.parametrize("engine", ENGINES)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def targets_for(loss, z):
    if loss.one_hot:
        return np.eye(z.shape[1], dtype=z.dtype)[np.arange(len(z)) % z.shape[1]]
    return (normals(99, z.shape) > 0).astype(z.dtype)


def evaluate(loss, z, t, weights=None, engine="fast"):
    """Return (mean loss, each sample's share, dz)."""
    losses, dz = np.full(len(z), np.nan), np.full_like(z, np.nan)
    return loss()(get_engine(engine), z, t, weights, losses, dz), losses, dz


@each_engine
@each_loss
@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 99), st.booleans())
def test_gradients(loss, engine, N, K, seed, weighted):
    z = 3 * normals(seed, (N, K))
    t, weights = targets_for(loss, z), np.abs(normals(seed + 1, (N,))) if weighted else None
    _, _, dz = evaluate(loss, z, t, weights, engine)
    assert_gradient(lambda z: np.array([evaluate(loss, z, t, weights, engine)[0]]), dz, z, np.ones(1))


@each_loss
def test_a_gradient_wrong_by_a_thousandth_is_noticed(loss):
    z = normals(0, (4, 3))
    t = targets_for(loss, z)
    dz = evaluate(loss, z, t)[2]
    dz[np.unravel_index(np.abs(dz).argmax(), dz.shape)] *= 1.001
    with pytest.raises(AssertionError, match="the gradient is off by"):
        assert_gradient(lambda z: np.array([evaluate(loss, z, t)[0]]), dz, z, np.ones(1))


@each_engine
@each_dtype
@each_loss
def test_the_mean_is_over_samples_and_their_outputs(loss, dtype, engine):
    z = normals(0, (6, 4), dtype)
    t = targets_for(loss, z)
    mean, losses, dz = evaluate(loss, z, t, engine=engine)
    assert isinstance(mean, float) and losses.dtype == np.float64 and dz.dtype == dtype
    assert mean == pytest.approx(losses.sum(), rel=1e-15)
    singles = [evaluate(loss, z[i:i + 1], t[i:i + 1], engine=engine) for i in range(6)]
    np.testing.assert_allclose(mean, np.mean([single[0] for single in singles]), rtol=1e-14)
    np.testing.assert_allclose(dz, np.concatenate([single[2] for single in singles]) / 6, rtol=4 * np.finfo(dtype).eps)


def test_what_counts_as_a_term():
    z, t = np.zeros((2, 4)), np.eye(4)[:2]
    assert evaluate(BinaryCrossentropy, z, t)[0] == pytest.approx(np.log(2))               # the mean of 8 equal terms
    assert evaluate(CategoricalCrossentropy, z, t)[0] == pytest.approx(np.log(4))          # one choice a sample
    assert evaluate(MeanSquaredError, z, t)[0] == pytest.approx(2 / 8)
    assert evaluate(MarginLoss, z + 0.2, t)[0] == pytest.approx(0.7**2 + 3 * 0.5 * 0.1**2)      # a sum over the classes
    images = np.zeros((2, 3, 5, 1))
    assert evaluate(MeanSquaredError, images, images + 2)[0] == pytest.approx(4)


@each_loss
def test_weights_count_samples_and_keep_the_denominator(loss):
    z = normals(0, (3, 2))
    t = targets_for(loss, z)
    _, plain, dz = evaluate(loss, z, t)
    mean, losses, weighted = evaluate(loss, z, t, np.array([0.0, 1.0, 2.5]))
    np.testing.assert_allclose(losses, plain * [0, 1, 2.5], rtol=1e-14)
    np.testing.assert_allclose(weighted, dz * np.array([[0], [1], [2.5]]), rtol=1e-14)
    assert mean == pytest.approx(losses.sum())


@each_engine
@each_dtype
@pytest.mark.parametrize("size", [16.2, 88, 104, 1e4])
@pytest.mark.parametrize("loss", [BinaryCrossentropy, CategoricalCrossentropy])
def test_extreme_logits_have_finite_losses_and_gradients(loss, size, dtype, engine):
    z = np.array([[size, -size], [-size, size], [size, size], [-size, -size]], dtype)
    for t in (np.tile(np.eye(2, dtype=dtype), (2, 1)), np.tile(np.array([[0, 1]], dtype), (4, 1))):
        mean, losses, dz = evaluate(loss, z, t, engine=engine)
        assert np.isfinite(losses).all() and np.isfinite(dz).all() and np.isfinite(mean) and (losses >= 0).all()
    # Where a clipped probability would have lost it, a wrong answer still pulls with all its weight.
    _, _, dz = evaluate(BinaryCrossentropy, np.array([[size]], dtype), np.zeros((1, 1), dtype), engine=engine)
    assert dz.item() == pytest.approx(1)


@each_engine
@pytest.mark.parametrize("t", [0.0, 1.0])
def test_one_class_alone_is_learnable(t, engine):
    z = np.zeros((5, 1), np.float32)
    mean, _, dz = evaluate(BinaryCrossentropy, z, np.full_like(z, t), engine=engine)
    assert mean == pytest.approx(np.log(2)) and (dz == np.float32((0.5 - t) / 5)).all()


@each_engine
@each_loss
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_do_not_hide(loss, value, engine):
    z = np.zeros((2, 3))
    z[1, 1] = value
    t = np.array([[0, 0, 1], [1.0, 0, 0]])
    with np.errstate(all="ignore"):
        mean, losses, _ = evaluate(loss, z, t, engine=engine)
    assert not np.isfinite(mean) and not np.isfinite(losses[1]) and np.isfinite(losses[0])


@each_engine
@each_loss
def test_inputs_stay_as_they_are(loss, engine):
    z, weights = normals(0, (4, 3), np.float32), np.ones(4)
    t = targets_for(loss, z)
    before = [digest(a) for a in (z, t, weights)]
    evaluate(loss, z, t, weights, engine)
    assert [digest(a) for a in (z, t, weights)] == before


@each_loss
def test_engines_agree(loss):
    z = 5 * normals(0, (7, 3))
    fast, slow = (evaluate(loss, z, targets_for(loss, z), engine=engine) for engine in ENGINES)
    np.testing.assert_allclose(fast[1], slow[1], rtol=1e-13)
    np.testing.assert_allclose(fast[2], slow[2], rtol=1e-13, atol=1e-17)


def test_a_gradient_of_images_has_their_shape():
    z = normals(0, (2, 3, 3, 1))
    _, _, dz = evaluate(BinaryCrossentropy, z, np.zeros_like(z))
    assert dz.shape == z.shape
    flat = evaluate(BinaryCrossentropy, z.reshape(2, 9), np.zeros((2, 9)))[2]
    assert_same_bits(dz.reshape(2, 9), flat)


# ---- Label smoothing -------------------------------------------------------------------------------------------------

def test_smoothing_spreads_a_share_over_the_classes():
    two, three = BinaryCrossentropy(label_smoothing=0.2), CategoricalCrossentropy(0.3)
    np.testing.assert_allclose(two.smoothed(np.array([[0.0], [0.25], [1.0]])), [[0.1], [0.3], [0.9]])
    np.testing.assert_allclose(three.smoothed(np.eye(3)), np.eye(3) * 0.7 + 0.1)
    assert two.smoothed(np.zeros((2, 1), np.float32)).dtype == np.float32
    for loss in (BinaryCrossentropy(), MeanSquaredError()):
        t = np.array([[0.0], [1.0]])
        assert loss.smoothed(t) is t and loss.name == loss.operation


@each_engine
@pytest.mark.parametrize("head, name", [([Dense(1), Sigmoid()], "binary_crossentropy"),
                                        ([Dense(3), Softmax()], "categorical_crossentropy")])
def test_training_is_smoothed_and_measuring_is_not(head, name, engine):
    """The gradient is that of smoothed targets; what `evaluate` says does not change by how a network was trained."""
    x, t = normals(0, (6, 2, 2, 1)), np.array([0, 1, 1, 0, 1, 0])
    model = Sequential([Flatten(), *head], (2, 2, 1), dtype="float64", engine=engine)
    model.compile(SGD(), name)
    hard = model.evaluate(x, t)
    targets = np.eye(3)[t] * 0.9 + 0.1 / 3 if "categorical" in name else t[:, None] * 0.9 + 0.05
    expected = model.loss_and_gradients(x, targets)
    model.compile(SGD(), f"{name}(smoothing=0.1)")
    found = model.loss_and_gradients(x, t)
    assert found[0] == pytest.approx(expected[0], rel=1e-14)
    for ours, theirs in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-13, atol=1e-16)
    assert model.evaluate(x, t) == hard


@pytest.mark.parametrize("smoothing", [0.1, 1e-7, 0.99])
def test_smoothing_travels_in_the_name(smoothing, tmp_path):
    model = Sequential([Flatten(), Dense(1), Sigmoid()], (2, 2, 1))
    model.compile(SGD(), BinaryCrossentropy(label_smoothing=smoothing))
    model.save(tmp_path / "model.safetensors")
    again = Sequential.load(tmp_path / "model.safetensors").loss
    assert type(again) is BinaryCrossentropy and again.label_smoothing == smoothing and again.name == model.loss.name


@pytest.mark.parametrize("smoothing", [-0.1, 1, 1.5, True, "0.1", float("nan")])
def test_smoothing_that_cannot_be(smoothing):
    with pytest.raises(InputError, match=r"binary_crossentropy: label_smoothing must lie in \[0, 1\), got"):
        BinaryCrossentropy(smoothing)


@pytest.mark.parametrize("name", ["binary_crossentropy(smoothing=2)", "categorical_crossentropy(smoothing=9.5)"])
def test_smoothing_that_cannot_be_in_a_name(name):
    with pytest.raises(InputError, match=r"label_smoothing must lie in \[0, 1\)"):
        get_loss(name)


@pytest.mark.parametrize("name", ["binary_crossentropy(smoothing=...)", "binary_crossentropy(smoothing=0.1",
                                  "binary_crossentropy()", "mean_squared_error\n"])
def test_names_that_are_none(name):
    with pytest.raises(InputError, match="loss: expected one of"):
        get_loss(name)


def test_arguments_that_a_loss_does_not_have():
    with pytest.raises(InputError, match="BinaryCrossentropy: there is no argument 'from_logits'.*takes the logits itself"):
        BinaryCrossentropy(from_logits=True)


def test_a_mean_of_squares_is_not_smoothed():
    with pytest.raises(InputError, match="mean_squared_error: label_smoothing must be 0 where targets are no classes, got 0.1"):
        get_loss("mean_squared_error(smoothing=0.1)")


# ---- What weights add ------------------------------------------------------------------------------------------------

def penalized(engine="fast", dtype="float64", l2=0.1):
    model = Sequential([Conv2D(2, 2, kernel_regularizer=L2(l2)), ReLU(), Flatten(), Dense(3),
                        Dense(1, kernel_regularizer=L2()), Sigmoid()], (4, 4, 1), seed=3, dtype=dtype, engine=engine)
    model.compile(SGD(0.1), "binary_crossentropy")
    return model


@each_engine
def test_l2_adds_to_the_loss_and_to_the_gradient_of_its_kernel_alone(engine):
    x, t = normals(0, (6, 4, 4, 1)), np.array([0, 1, 1, 0, 1, 0])
    plain, model = penalized(engine), penalized(engine)
    for layer in plain.layers:
        for parameter in layer.parameters:
            parameter.regularizer = None
    (loss, gradients), (more, others) = plain.loss_and_gradients(x, t), model.loss_and_gradients(x, t)
    kernel, head = model.get_weights()[0], model.get_weights()[4]
    added = 0.1 * (kernel**2).sum() + 0.01 * (head**2).sum()
    assert more - loss == pytest.approx(added, rel=1e-13)
    assert model.evaluate(x, t)["loss"] - plain.evaluate(x, t)["loss"] == pytest.approx(added, rel=1e-13)
    for number, (ours, theirs) in enumerate(zip(others, gradients, strict=True)):
        expected = theirs + {0: 0.2 * kernel, 4: 0.02 * head}.get(number, 0)
        np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-15)
    model.layers[0].trainable = False
    assert model.loss_and_gradients(x, t)[0] - loss == pytest.approx(0.01 * (head**2).sum(), rel=1e-12)
    history = model.fit(x, t, validation=(x, t), progress=False).rows[0]
    assert history["val_loss"] == model.evaluate(x, t)["loss"]


@each_engine
def test_gradcheck_checks_the_penalty_and_the_smoothed_loss(engine, monkeypatch):
    model = penalized(engine)
    for loss in ("binary_crossentropy", "binary_crossentropy(smoothing=0.2)"):
        model.compile(SGD(), loss)
        assert (report := gradcheck(model)), report
    monkeypatch.setattr(L2, "gradient", lambda self, w: w * self.l2)
    assert {finding.layer for finding in gradcheck(model).bugs} == {"conv2d_1", "dense_2"}


def test_a_model_file_keeps_its_regularizers(tmp_path):
    model = penalized(l2=1e-4)
    assert model.layers[0].config()["kernel_regularizer"] == {"type": "L2", "l2": 1e-4}
    assert "kernel_regularizer" not in model.layers[3].config()
    model.save(tmp_path / "m")
    again, x, t = Sequential.load(tmp_path / "m"), normals(0, (2, 4, 4, 1)), [0, 1]
    for one in (again, copy.deepcopy(model)):
        assert [getattr(layer, "kernel_regularizer", None) and layer.kernel_regularizer.l2 for layer in one.layers] == \
            [1e-4, None, None, None, 0.01, None]
        assert one.loss_and_gradients(x, t)[0] == model.loss_and_gradients(x, t)[0]


@pytest.mark.parametrize("given", [0.01, "l2", {"type": "L2", "l2": 1}, L2])
def test_what_is_no_regularizer(given):
    with pytest.raises(InputError, match="Dense: kernel_regularizer must be a regularizer, such as L2"):
        Dense(1, kernel_regularizer=given)
    with pytest.raises(InputError, match=r"L2: l2 must lie in \[0, inf\)"):
        L2(-1)


# ---- Sentences -------------------------------------------------------------------------------------------------------

@each_loss
def test_names_and_heads(loss):
    assert isinstance(get_loss(loss.operation), loss) and get_loss(loss.operation).name == loss.operation
    instance = loss()
    assert get_loss(instance) is instance

def test_each_loss_folds_the_activation_that_belongs_to_it():
    assert [loss.head for loss in LOSSES] == ["Sigmoid", "Softmax", None, None]


@pytest.mark.parametrize("loss", ["mse", BinaryCrossentropy, None, ["mean_squared_error"], 3])
def test_unknown_losses_hear_the_known(loss):
    with pytest.raises(InputError, match="loss: expected one of binary_crossentropy, categorical_crossentropy, "
                                         "mean_squared_error, margin, deviation, got "):
        get_loss(loss)


def test_a_misspelt_loss_hears_the_nearest():
    with pytest.raises(InputError, match="got 'binary_crosentropy'. Did you mean 'binary_crossentropy'?"):
        get_loss("binary_crosentropy")


@each_loss
def test_targets_of_another_shape_never_reach_a_kernel(loss):
    # A kernel trusts shapes: it would read beyond the end of t.
    with pytest.raises(ShapeError, match=rf"{loss.operation}: expected targets of shape \(2, 6\), that of the outputs, "
                                         r"got \(2, 3\)"):
        evaluate(loss, np.zeros((2, 6)), np.zeros((2, 3)))
    with pytest.raises(ShapeError, match=rf"{loss.operation}: expected targets of shape \(2, 6\), got \(2, 3\)"):
        loss().check_targets(np.zeros((2, 3)), (2, 6))


@pytest.mark.parametrize("loss, t, sentence", [
    (MeanSquaredError, [[np.nan]], "mean_squared_error: targets hold NaN or infinity"),
    (BinaryCrossentropy, [[np.inf]], "binary_crossentropy: targets hold NaN or infinity"),
    (BinaryCrossentropy, [[-0.1], [2.0]], r"binary_crossentropy: targets must lie in \[0, 1\], got values from -0.1 to "
                                          "2.0. For whole-number classes use loss='categorical_crossentropy' and"),
    (CategoricalCrossentropy, [[0.5, 0.4], [1, 0]], "categorical_crossentropy: each row of targets must hold "
                                                    "probabilities that sum to 1 .* got sums from 0.9 to 1.0"),
    (CategoricalCrossentropy, [[-1.0, 2.0]], "each row of targets must hold probabilities"),
    (MarginLoss, [[1.0, 1.0]], "margin: each row of targets must hold probabilities that sum to 1"),
])
def test_targets_that_make_no_sense(loss, t, sentence):
    with pytest.raises(InputError, match=sentence):
        loss().check_targets(np.array(t), np.shape(t))


def test_a_softmax_over_images_is_no_choice():
    with pytest.raises(ShapeError, match=r"categorical_crossentropy: expected outputs of shape \(N, K\), got "
                                         r"\(2, 3, 3, 4\)\. Put Flatten\(\) and Dense\(K\) before the Softmax"):
        CategoricalCrossentropy().check_targets(np.zeros((2, 3, 3, 4)), (2, 3, 3, 4))
    with pytest.raises(ShapeError, match=r"margin: .* got \(2, 3, 4\)\. Put Capsules\(K, size\) and CapsuleLength\(\) at the end"):
        MarginLoss().check_targets(np.zeros((2, 3, 4)), (2, 3, 4))


@each_loss
def test_targets_that_make_sense(loss):
    loss().check_targets(np.array([[0.0, 1.0], [0.25, 0.75]]), (2, 2))


def test_a_loss_tells_what_makes_it_again():
    for loss in (BinaryCrossentropy(0.1), CategoricalCrossentropy(), MeanSquaredError(), MarginLoss(0.2)):
        config = loss.config()
        again = {"BinaryCrossentropy": BinaryCrossentropy, "CategoricalCrossentropy": CategoricalCrossentropy,
                 "MeanSquaredError": MeanSquaredError, "MarginLoss": MarginLoss}[config.pop("type")](**config)
        assert again.name == loss.name == get_loss(loss.name).name
