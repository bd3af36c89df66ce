"""The trace of a network: formulas with their sizes, receptive fields by brute force, numbers by hand, the text."""

import numpy as np
import pytest

from minicnn import DepthwiseConv2D, SeparableConv2D, cov19net
from minicnn.core.backend import ENGINES
from minicnn.core.parameter import Parameter
from minicnn.core.receptive_field import Field
from minicnn.data.synthetic import phantom
from minicnn.errors import DTypeError, InputError, NonFiniteError, ShapeError
from minicnn.layers import (ELU, AveragePool2D, BatchNormalization, Conv2D, Dense, Dropout, Flatten, GlobalAveragePooling2D, GlobalMaxPooling2D,
                            LayerNormalization, LeakyReLU, MaxPool2D, ReLU, Rescaling, Reshape, Sigmoid, Softmax, Softplus, SpatialDropout2D, Swish,
                            Tanh, UpSampling2D, ZeroPadding2D)
from minicnn.model import Sequential
from minicnn.optimizers import Adam
from minicnn.teaching.formulas import by_hand, explain, times, window_of
from minicnn.teaching.trace import hand_lines, trace
from tests.support.laws import digest
from tests.support.strategies import normals, separated

each_engine = pytest.mark.parametrize("engine", ENGINES)


def every_kind(engine="fast", dtype="float32", rate=0.3):
    """Return a model with every kind of layer, with padding, strides and biases other than 0."""
    model = Sequential([Conv2D(5, (3, 2), strides=(2, 1), padding="same"), ReLU(),
                        MaxPool2D(3, strides=2, padding="same"), Conv2D(4, 2), Tanh(),
                        AveragePool2D(2, strides=1, padding="same"), Dropout(rate), Flatten(), Dense(6), Sigmoid(),
                        Dense(3), Softmax()], input_shape=(11, 9, 2), seed=5, dtype=dtype, engine=engine)
    model.set_weights([normals(i, w.shape, np.dtype(dtype)) * 0.5 for i, w in enumerate(model.get_weights())])
    return model


def image(model, n=1, seed=3):
    return separated(seed, (n, *model.input_shape), np.dtype(model.dtype))


class Doubled:
    """A custom layer."""

    def build(self, input_shape):
        self.parameters = [Parameter("factor", np.array([2.0], np.float32))]
        return input_shape

    def forward(self, x):
        self.x = x
        return x * self.parameters[0].value

    def backward(self, dy):
        self.parameters[0].grad[...] = (dy * self.x).sum()
        return dy * self.parameters[0].value


# ---- One number by hand ----------------------------------------------------------------------------------------------

@each_engine
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_number_of_every_kind_agrees_with_the_engine(engine, dtype):
    model = every_kind(engine, dtype)
    traced = trace(model, image(model))
    kinds = set()
    for layer in traced.layers:
        kinds.add(layer.kind)
        for index in np.ndindex(layer.y.shape[1:]):
            hand = layer.by_hand(index)
            assert hand.agrees, (layer.name, index, hand)
            assert hand.engine == layer.y[0][index]
            assert hand.bound <= 1e-4 * (1 + abs(layer.y).max()) * (1 if dtype == "float32" else 1e-8)
    assert kinds == {"conv", "relu", "max", "average", "tanh", "same", "flatten", "dense", "sigmoid", "softmax"}


@each_engine
def test_every_number_of_the_further_layers_agrees_with_the_engine(engine):
    model = Sequential([Rescaling(-2, offset=0.3), ZeroPadding2D(((1, 0), (0, 2))), Conv2D(4, 2), LeakyReLU(0.1),
                        UpSampling2D((1, 2)), ELU(0.5), SpatialDropout2D(0.4), ReLU(0.2), MaxPool2D(2), Conv2D(6, 1), Swish(),
                        GlobalAveragePooling2D(keepdims=True), Softplus(), Reshape((1, 2, 3)), GlobalMaxPooling2D(),
                        Dense(1), Sigmoid()], input_shape=(5, 4, 2), seed=5, engine=engine)
    traced = trace(model, image(model))
    assert {layer.kind for layer in traced.layers} == {"further", "conv", "same", "max", "dense", "sigmoid"}
    for layer in traced.layers:
        for index in np.ndindex(layer.y.shape[1:]):
            hand = layer.by_hand(index)
            assert hand.agrees and hand.bound <= 1e-4 * (1 + abs(layer.y).max()), (layer.name, index, hand)
        assert dict(layer.facts())["formula"] and "not known" not in dict(layer.facts())["formula"]
    text = str(traced)
    for sentence in ("y = -2 x + 0.3", "else 0.1 x", "else 0.5 (exp(x) - 1)", "y = min(max(x, 0), 0.2)",
                     "each channel is set to 0", "= mean(", "= leaky_relu(", "y[i, j, c] = x[i, j // 2, c]", "x[i - 1, j, c], 0 outside the image"):
        assert sentence in text, sentence


@each_engine
def test_every_number_of_the_forms_of_convolution_agrees_with_the_engine(engine):
    model = Sequential([Conv2D(4, 2, use_bias=False, padding="same"),
                        DepthwiseConv2D((3, 2), strides=(1, 2), depth_multiplier=2, padding="same", activation="relu"),
                        Conv2D(6, (2, 3), groups=2, dilation_rate=(1, 2), padding="same"), SeparableConv2D(3, 2, use_bias=False),
                        Flatten(), Dense(4, use_bias=False), Dense(1, activation="sigmoid")],
                       input_shape=(6, 5, 2), seed=5, engine=engine)
    traced = trace(model, image(model))
    for layer in traced.layers:
        for index in np.ndindex(layer.y.shape[1:]):
            hand = layer.by_hand(index)
            assert hand.agrees and hand.bound <= 1e-4 * (1 + abs(layer.y).max()), (layer.name, index, hand)
    text = " ".join(str(traced).split())
    for sentence in ("y[i, j, f] = sum of x[i + kh, j + kw, c] w[kh, kw, c, f]",
                     "x[i + kh - 1, 2 j + kw, f // 2] w[kh, kw, f // 2, f % 2] over kh < 3, kw < 2: channels do not mix",
                     "x[i + kh, j + 2 kw - 2, 4 (f // 3) + c]", "for each of 2 groups of channels and filters",
                     "y[i, j, f] = sum of z[i, j, c] p[c, f] over c < 6", "24 + 18 = 42; a Conv2D to 3 filters has 72",
                     "y[f] = sum of x[d] w[d, f] over d < 30", "GEMM y = x @ w: (1 x 30) @ (30 x 4)"):
        assert sentence in text, sentence


@each_engine
def test_every_normalized_number_agrees_with_the_engine(engine):
    model = Sequential([Conv2D(3, 2), BatchNormalization(), LayerNormalization(center=False), Flatten(),
                        BatchNormalization(scale=False), LayerNormalization(), Dense(1), Sigmoid()], (4, 5, 2), seed=5,
                       engine=engine)
    model.set_weights([0.5 + np.abs(normals(i, w.shape)) for i, w in enumerate(model.get_weights())])
    traced = trace(model, image(model))
    for layer in traced.layers[1:6]:
        for index in np.ndindex(layer.y.shape[1:]):
            hand = layer.by_hand(index)
            assert hand.agrees and hand.bound <= 1e-4 * (1 + abs(layer.y).max()), (layer.name, index, hand)
    text, facts = " ".join(str(traced).split()), dict(traced["batch_normalization_1"].facts())
    assert "moving mean and variance at inference, as here" in text and "with mean and variance of" in text
    assert "N x 3 x 4 numbers; then moving <- 0.99 moving + 0.01 that" in facts["training"]
    assert facts["variance"].startswith("(3) moving, now ") and "not known" not in text


def test_a_wrong_engine_is_detected():
    """An error of one part in 100,000 is more than a rounding error, and the text says so."""
    model = every_kind()
    layer = trace(model, image(model))["conv2d_1"]
    weights = [value for value, _ in layer.parameters.values()]
    index = layer.start()
    hand = by_hand(layer.layer, weights, layer.x[0], layer.y[0] + np.float32(2e-4), index)
    assert not hand.agrees
    assert hand_lines(layer, hand)[-1].endswith(f"more than a rounding error (at most {hand.bound:.1e})")


def test_twenty_seven_products_and_a_bias():
    made = phantom.generate(n=2, seed=1)
    model = cov19net(seed=7)
    traced = trace(model, np.repeat(made.images[..., None], 3, axis=3)[:1])
    hand = traced.by_hand("conv2d_1", (10, 20, 5))
    w = model.get_weights()[0].astype(np.float64)
    window = np.repeat(made.images[0, 10:13, 20:23, None] / np.float32(255), 3, axis=2)
    assert hand.products.size == 27 and np.array_equal(hand.x, window)
    assert np.array_equal(hand.products, window.astype(np.float64) * w[..., 5])
    assert hand.value == pytest.approx(hand.products.sum(), rel=1e-13) and hand.difference < 1e-6
    assert "y[10, 20, 5] = 27 products and a bias:" in "\n".join(hand_lines(traced["conv2d_1"], hand))


def test_what_one_reads_can_be_multiplied():
    """The products in the table of a window are those of the numbers above them, to the digits that stand there."""
    model = cov19net(seed=7)
    layer = trace(model, normals(2, (1, 64, 64, 3), np.float32))["conv2d_1"]
    lines = hand_lines(layer, layer.by_hand())
    rows = [[float(word) for word in line.split()[-9:]] for line in lines[1:10]]
    x, w, products = np.array(rows[:3]), np.array(rows[3:6]), np.array(rows[6:])
    np.testing.assert_allclose(products, x * w, rtol=0, atol=1.001e-4)
    assert np.mean(np.abs(products - x * w) <= 0.55e-4) > 0.9


def test_padding_is_zero_and_is_ignored_in_pooling():
    conv, pool = Conv2D(1, 3, padding="same"), AveragePool2D(2, strides=1, padding="same")
    for layer in (conv, pool):
        layer.build((2, 2, 1))
    x = np.arange(1.0, 5.0).reshape(2, 2, 1)
    window, inside = window_of(conv, (3, 3), x, (0, 0, 0))
    assert window[..., 0].tolist() == [[0, 0, 0], [0, 1, 2], [0, 3, 4]] and inside.sum() == 4
    assert by_hand(pool, [], x, np.full((2, 2, 1), 3.5), (1, 1, 0)).value == 4     # one number of four is inside


# ---- Receptive fields ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("layers", [
    [Conv2D(2, 3), ReLU(), MaxPool2D(2), Conv2D(2, 3)],
    [Conv2D(2, 3, strides=2, padding="same"), AveragePool2D(2), Tanh(), Conv2D(1, (2, 3), padding="same")],
    [Conv2D(1, (1, 4), strides=(1, 3)), Conv2D(1, 3, strides=2)],
])
def test_an_output_depends_on_the_pixels_of_its_receptive_field(layers):
    """Brute force: an output changes with a pixel if and only if the pixel is in its field; with padding, only if."""
    shape, field = (17, 19, 1), Field()
    for i, layer in enumerate(layers):
        layer.configure(np.float64, "reference", seed=0, index=i)
        shape, field = layer.build(shape), layer.receptive_field(field)
        for parameter in layer.parameters:
            parameter.value[...] = 1            # so that nothing cancels

    def run(x):
        for layer in layers:
            # Averages in place of maxima, because they depend on every number.
            x = AveragePool2D.forward(layer, x) if isinstance(layer, MaxPool2D) else layer.forward(x)
        return x.copy()

    padded = any(any(layer.pads) for layer in layers if hasattr(layer, "pads"))
    x = 0.01 * np.ones((1, 17, 19, 1))
    before = run(x)
    OH, OW = before.shape[1:3]
    for i, j in [(0, 0), (OH // 2, OW // 2), (OH - 1, OW - 1), (0, OW - 1)]:
        rows, columns = (range(start + k * stride, start + k * stride + size) for k, start, stride, size in
                         zip((i, j), field.start, field.stride, field.size))
        for pixel in np.ndindex(17, 19):
            changed = x.copy()
            changed[0, pixel[0], pixel[1]] += 0.5
            moved = run(changed)[0, i, j, 0] != before[0, i, j, 0]
            seen = pixel[0] in rows and pixel[1] in columns
            assert seen or not moved, (i, j, pixel)
            if not padded or (i, j) == (OH // 2, OW // 2):
                assert moved or not seen, (i, j, pixel)


def test_the_receptive_fields_of_cov19net():
    fields = {layer.name: layer.field for layer in trace(cov19net(), np.zeros((1, 64, 64, 3))).layers}
    assert [fields[f"conv2d_{k}"][:2] for k in (1, 2, 3)] == [((3, 3), (1, 1)), ((8, 8), (2, 2)), ((18, 18), (4, 4))]
    assert fields["dense_1"] == Field((62, 62), (0, 0), (0, 0))     # the last two rows and columns are in no field


# ---- Formulas, costs, ranges -----------------------------------------------------------------------------------------

def test_formulas_with_the_sizes():
    model = every_kind()
    words = {layer.name: dict(explain(layer)) for layer in model.layers}
    first = words["conv2d_1"]
    assert first["formula"] == ("y[i, j, f] = b[f] + sum of x[2 i + kh - 1, j + kw, c] w[kh, kw, c, f] over kh < 3, "
                                "kw < 2, c < 2")
    assert first["size"] == "OH = ceil(11 / 2) = 6; OW = ceil(9 / 1) = 9; padding 1 above, 1 below, 0 left, 1 right"
    assert first["im2col"] == "each window of 3 x 2 x 2 becomes a row: (54 x 12), 2,592 bytes"
    assert first["GEMM"] == "y = cols @ w + b: (54 x 12) @ (12 x 5) + (5)"
    assert words["max_pool2d_1"]["formula"] == "y[i, j, c] = max of x[2 i + kh, 2 j + kw - 1, c] over kh, kw < 3"
    assert words["average_pool2d_1"]["formula"] == "y[i, j, c] = mean of x[i + kh, j + kw, c] over kh, kw < 2"
    assert words["dense_1"]["GEMM"] == "y = x @ w + b: (1 x 32) @ (32 x 6) + (6)"
    assert words["softmax_1"]["formula"] == "y[k] = exp(x[k]) / sum over j < 3 of exp(x[j])"
    assert "0.3" in words["dropout_1"]["training"]
    (word, text), = explain(Doubled())
    assert word == "formula" and "custom layer" in text


def test_the_position_in_a_flattened_row():
    flatten = Flatten()
    flatten.build((2, 3, 4))
    formula = dict(explain(flatten))["formula"]
    place = formula.split("[")[1].split("]")[0]
    assert place == "(i 3 + j) 4 + c"
    assert np.arange(24).reshape(2, 3, 4)[1, 2, 3] == (1 * 3 + 2) * 4 + 3


def test_rows_in_no_window():
    pool = MaxPool2D(2)
    pool.build((29, 30, 1))
    assert dict(explain(pool))["size"].endswith("OW = (30 - 2) // 2 + 1 = 15; the last rows (1) and columns (0) "
                                                "are in no window")
    pool.build((28, 30, 1))
    assert "no window" not in dict(explain(pool))["size"]


def test_dead_relus_are_counted_over_all_samples():
    model = Sequential([Conv2D(3, 1), ReLU()], input_shape=(2, 2, 1), engine="reference")
    model.set_weights([np.array([1.0, -1.0, 0.0]).reshape(1, 1, 1, 3), np.zeros(3)])
    x = np.ones((2, 2, 2, 1))
    x[1] = -1
    assert trace(model, x[:1])["relu_1"].dead() == [1, 2]
    both = trace(model, x)
    assert both["relu_1"].dead() == [2]
    assert dict(both["relu_1"].facts())["y"].endswith("dead on all 2 samples: 1 of 3 filters (3)")


# ---- Gradients -------------------------------------------------------------------------------------------------------

@each_engine
def test_gradients_are_those_of_the_loss(engine):
    """dy of each layer against a central difference of the loss run on from there; parameters against the model's."""
    model = every_kind(engine, "float64", rate=0)
    x, t = image(model), np.array([2])
    model.compile(Adam(), loss="categorical_crossentropy")
    loss, gradients = model.loss_and_gradients(x, t)
    traced = trace(model, x, t)
    assert traced.loss == pytest.approx(loss, rel=1e-12)
    assert traced.layers[-1].dy is None and traced.layers[0].dy.shape == traced.layers[0].y.shape
    got = [gradient for layer in traced.layers for _, gradient in layer.parameters.values()]
    for one, other in zip(got, gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-14)

    def loss_from(number, y):
        for layer in model.layers[number:]:
            y = layer.forward(y)
        return -np.log(y[0, 2])

    for layer in traced.layers[:-1]:
        # Zeros stay zero: pooling has ties between the zeros of ReLU, and a tie is a kink.
        direction, h = normals(layer.number, layer.y.shape, np.float64) * (layer.y != 0), 1e-6
        up, down = (loss_from(layer.number, layer.y + step * direction) for step in (h, -h))
        assert (up - down) / (2 * h) == pytest.approx((layer.dy * direction).sum(), rel=1e-5, abs=1e-9), layer.name


def test_without_a_target_the_gradient_is_that_of_the_largest_logit():
    model = every_kind()
    traced = trace(model, image(model, 2))
    assert traced.loss is None and "gradient of the largest logit" in str(traced)
    logits, dy = traced["dense_2"].y, traced["dense_2"].dy
    assert np.array_equal(dy.argmax(axis=1), logits.argmax(axis=1)) and dy.sum() == 2


def test_a_mean_squared_error_has_no_head_to_fold():
    model = Sequential([Flatten(), Dense(2)], input_shape=(2, 2, 1), engine="reference")
    traced = trace(model, np.ones((1, 2, 2, 1)), np.array([[0.0, 1.0]]))
    np.testing.assert_allclose(traced["dense_1"].dy, traced["dense_1"].y - [[0, 1]], rtol=1e-6)
    assert "Loss (mean_squared_error)" in str(traced) and "folded" not in str(traced)
    assert traced["flatten_1"].dy is None and "no layer up to this one has parameters" in str(traced)


# ---- The text and the public functions -------------------------------------------------------------------------------

def test_the_text_fits_a_terminal_and_is_complete():
    model = cov19net(seed=7, classes=["normal", "covid"], engine="fast")
    made = phantom.generate(n=2, seed=1)
    traced = trace(model, np.repeat(made.images[..., None], 3, axis=3)[:1], made.labels[:1])
    text = str(traced)
    assert max(map(len, text.split("\n"))) <= 100 and repr(traced) == text
    assert text.startswith("13 layers, 609,473 parameters, on 1 sample of 64 x 64 x 3; float32, fast engine.")
    for layer in model.layers:
        assert f"  {layer.name}  {type(layer).__name__}" in text
    assert text.count("Engine: ") == 13 and "more than a rounding error" not in text
    for part in ("(3,844 x 27) @ (27 x 32) + (32)", "6,642,432 FLOP; 492,032 bytes out; 896 parameters",
                 "27 products and a bias", "288 products and a bias", "4,608 products and a bias", "dead on this sample",
                 "18 x 18 pixels of the image, stride 4 x 4", "folded into the loss", ", the probability of covid."):
        assert part in text
    assert f"Output: {model.predict(np.repeat(made.images[..., None], 3, axis=3)[:1])[0, 0]:.6g}" in text


def test_the_values_are_those_of_the_model_which_is_not_changed():
    model = every_kind()
    x = image(model, 3)
    before = digest(x), [digest(w) for w in model.get_weights()]
    traced = trace(model, x, [0, 1, 2])
    np.testing.assert_allclose(traced.layers[-1].y, model.predict(x), rtol=1e-5)
    assert np.array_equal(traced.output, model.predict(x))
    assert (digest(x), [digest(w) for w in model.get_weights()]) == before
    kept = traced["conv2d_1"].y.copy()
    model.predict(image(model, 3, seed=9))            # overwrites the buffers of the layers
    assert np.array_equal(traced["conv2d_1"].y, kept)


def test_dropout_is_off_also_after_training():
    model = every_kind()
    model.compile(Adam(), loss="categorical_crossentropy")
    model.train_on_batch(image(model, 2), [0, 1])
    layer = trace(model, image(model))["dropout_1"]
    assert np.array_equal(layer.x, layer.y)


def test_custom_layers_have_values_but_no_numbers_by_hand():
    model = Sequential([Flatten(), Doubled(), Dense(1)], input_shape=(2, 2, 1))
    traced = trace(model, np.ones((1, 2, 2, 1)))
    assert np.array_equal(traced["doubled_1"].y, 2 * traced["doubled_1"].x) and traced["doubled_1"].field is None
    assert traced["dense_1"].field is None and traced["flatten_1"].field == Field((2, 2), (0, 0), (0, 0))
    assert "unknown FLOP" in str(traced) and "not known for a custom layer" in str(traced)
    with pytest.raises(InputError, match="trace: 'doubled_1' is a custom layer"):
        traced.by_hand("doubled_1")


def test_a_row_in_and_a_map_out():
    row = trace(Sequential([Dense(3), ReLU()], input_shape=(4,), engine="reference"), np.ones((1, 4)))
    assert row["dense_1"].field is None and row["relu_1"].by_hand(1).agrees
    out = trace(Sequential([Conv2D(2, 1)], input_shape=(3, 3, 1), engine="reference"), np.ones((1, 3, 3, 1)))
    assert "Output: a map of 3 x 3 x 2." in str(out) and times(1234, 5) == "1,234 x 5"


@pytest.mark.parametrize("index, sentence", [
    (lambda traced: traced["conv2d_9"], r"trace: there is no layer 'conv2d_9'; .* Did you mean 'conv2d_\d'\?"),
    (lambda traced: traced[0], r"trace: there is no layer 0; there are conv2d_1, relu_1"),
    (lambda traced: traced.by_hand(1, (0, 0)), r"'conv2d_1' has shape \(6, 9, 5\): there is no number \(0, 0\)"),
    (lambda traced: traced.by_hand(1, (0, 9, 0)), r"there is no number \(0, 9, 0\)"),
    (lambda traced: traced.by_hand("dense_1", -1), r"there is no number \(-1,\)"),
])
def test_layers_and_numbers_that_do_not_exist(index, sentence):
    model = every_kind()
    with pytest.raises(InputError, match=sentence):
        index(trace(model, image(model)))


def test_bad_input_is_a_typed_error():
    model = every_kind()
    x = image(model)
    with pytest.raises(ShapeError, match=r"trace: expected x of shape \(N, 11, 9, 2\), got \(11, 9, 2\)\. .* batch axis"):
        trace(model, x[0])
    with pytest.raises(DTypeError, match="trace: x must hold real numbers"):
        trace(model, x.astype(complex))
    with pytest.raises(InputError, match="trace: x holds nan"):
        trace(model, np.full_like(x, np.nan))
    with pytest.raises(ShapeError, match="trace: 1 samples, but 2 targets"):
        trace(model, x, [0, 1])
    with pytest.raises(InputError, match="targets: expected whole-number classes from 0 to 2"):
        trace(model, x, [7])
    model.set_weights([np.full_like(w, 3e38) for w in model.get_weights()])
    with pytest.raises(NonFiniteError, match="layer 'conv2d_1': the first whose output holds NaN or infinity"):
        trace(model, x)
