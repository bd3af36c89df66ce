"""The specification, against what it is the specification of: nested loops, hand-worked cases, finite differences and
the laws of adjoints. Kernels and layers are compared with it, so this is the file where errors must end."""

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from laws import as_tuple, assert_adjoint, assert_gradient, assert_same_bits, digest
from strategies import DTYPES, LINEAR, OPERATIONS, cases, separated, small_cases, specified

from minicnn import reference as ref
from minicnn.reference import fusion

NO_PADS = (0, 0, 0, 0)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def close(got, expected):
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-13)


# ---- Nested loops: each sum of the definition, number by number ------------------------------------------------------

def meetings(case):
    """Yield (n, oh, ow, kh, kw, h, w): each place of each window that lies on the image."""
    _, OH, OW, _ = case.y_shape(1)
    for n in range(case.N):
        for oh in range(OH):
            for ow in range(OW):
                for kh in range(case.kernel[0]):
                    for kw in range(case.kernel[1]):
                        h = oh * case.strides[0] + kh - case.pads[0]
                        w = ow * case.strides[1] + kw - case.pads[2]
                        if 0 <= h < case.H and 0 <= w < case.W:
                            yield n, oh, ow, kh, kw, h, w


@given(small_cases())
def test_convolution_and_its_gradients_are_their_loops(case):
    x, w, b = case.normals(*case.x_shape), case.normals(*case.w_shape), case.normals(case.F)
    dy = case.normals(*case.y_shape(case.F))
    y, dx, dw, db = np.zeros(dy.shape) + b, np.zeros(x.shape), np.zeros(w.shape), np.zeros(case.F)
    for n, oh, ow, kh, kw, i, j in meetings(case):
        for c in range(case.C):
            for f in range(case.F):
                y[n, oh, ow, f] += x[n, i, j, c] * w[kh, kw, c, f]
                dx[n, i, j, c] += dy[n, oh, ow, f] * w[kh, kw, c, f]
                dw[kh, kw, c, f] += dy[n, oh, ow, f] * x[n, i, j, c]
    for place in np.ndindex(dy.shape):
        db[place[3]] += dy[place]
    window = case.strides, case.pads
    close(ref.conv2d(x, w, b, *window), y)
    close(ref.conv2d_input_gradient(dy, w, (case.H, case.W), *window), dx)
    got_dw, got_db = ref.conv2d_weight_gradient(dy, x, case.kernel, *window)
    close(got_dw, dw)
    close(got_db, db)


@given(small_cases())
def test_im2col_and_col2im_are_their_loops(case):
    x = case.normals(*case.x_shape)
    N, OH, OW, _ = case.y_shape(1)
    cols, image = np.zeros((N, OH, OW, *case.kernel, case.C)), np.zeros(x.shape)
    dcols = case.normals(*cols.shape)
    for n, oh, ow, kh, kw, h, w in meetings(case):
        cols[n, oh, ow, kh, kw] = x[n, h, w]
        image[n, h, w] += dcols[n, oh, ow, kh, kw]
    assert_same_bits(ref.im2col(x, case.kernel, case.strides, case.pads), cols.reshape(N * OH * OW, -1))
    close(ref.col2im(dcols, (case.H, case.W), case.kernel, case.strides, case.pads), image)


@given(small_cases(), st.sampled_from([0.0, 0.3, 1.0]))
def test_max_pooling_is_its_loop(case, share_nan):
    # Few values, so that most windows have ties; NaN in some of them.
    x = np.round(case.normals(*case.x_shape))
    x[case.normals(case.C, *case.x_shape[:3]).transpose(1, 2, 3, 0) > 3 - 3 * share_nan] = np.nan
    window = case.kernel, case.strides, case.pads
    y, switches = ref.max_pool2d(x, *window)
    values, dy = {}, case.normals(*y.shape)
    for n, oh, ow, kh, kw, h, w in meetings(case):
        for c in range(case.C):
            values.setdefault((n, oh, ow, c), []).append((kh * case.kernel[1] + kw, x[n, h, w, c], (n, h, w, c)))
    assert len(values) == y.size and switches.dtype == np.uint16
    dx = np.zeros(x.shape)
    for place, met in values.items():
        nans = [k for k, value, _ in met if value != value]
        if nans:
            assert np.isnan(y[place]) and switches[place] in nans
        else:
            largest = max(value for _, value, _ in met)
            first = min(k for k, value, _ in met if value == largest)
            assert y[place] == largest and switches[place] == first
        dx[next(pixel for k, _, pixel in met if k == switches[place])] += dy[place]
    close(ref.max_pool2d_gradient(dy, switches, (case.H, case.W), *window), dx)


@given(small_cases())
def test_average_pooling_is_its_loop(case):
    x, dy = case.normals(*case.x_shape), case.normals(*case.y_shape(case.C))
    total, count, dx = np.zeros(dy.shape), np.zeros(dy.shape), np.zeros(x.shape)
    for n, oh, ow, _, _, h, w in meetings(case):
        total[n, oh, ow] += x[n, h, w]
        count[n, oh, ow] += 1
    for n, oh, ow, _, _, h, w in meetings(case):
        dx[n, h, w] += dy[n, oh, ow] / count[n, oh, ow]
    window = case.kernel, case.strides, case.pads
    close(ref.average_pool2d(x, *window), total / count)
    close(ref.average_pool2d_gradient(dy, (case.H, case.W), *window), dx)


@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 5), st.integers(0, 99))
def test_dense_and_its_gradients_are_their_loops(N, D, F, seed):
    x, w, b, dy = (np.random.default_rng([seed, i]).standard_normal(shape)
                   for i, shape in enumerate([(N, D), (D, F), (F,), (N, F)]))
    y, dx, dw, db = np.zeros((N, F)) + b, np.zeros((N, D)), np.zeros((D, F)), np.zeros(F)
    for n, d, f in np.ndindex(N, D, F):
        y[n, f] += x[n, d] * w[d, f]
        dx[n, d] += dy[n, f] * w[d, f]
        dw[d, f] += x[n, d] * dy[n, f]
    for n, f in np.ndindex(N, F):
        db[f] += dy[n, f]
    close(ref.dense(x, w, b), y)
    close(ref.dense_input_gradient(dy, w), dx)
    for got, expected in zip(ref.dense_weight_gradient(dy, x), (dw, db), strict=True):
        close(got, expected)


logits = st.floats(-50, 50)


@given(st.lists(st.tuples(logits, st.booleans()), min_size=1, max_size=5), st.floats(0.1, 3))
def test_binary_crossentropy_is_its_definition(pairs, scale):
    z, t = np.array([pairs]).transpose(2, 0, 1).astype(float)
    losses, dz = ref.binary_crossentropy(z, t, np.array([scale]))
    # -log p with p = sigmoid(z), or 1 - p = sigmoid(-z): no difference is taken, so nothing cancels
    expected = sum(math.log1p(math.exp(-a)) if hit else math.log1p(math.exp(a)) for a, hit in pairs)
    np.testing.assert_allclose(losses, expected * scale, rtol=1e-12)
    close(dz[0], [(1 / (1 + math.exp(-a)) - hit) * scale for a, hit in pairs])


@given(st.lists(logits, min_size=1, max_size=5), st.integers(0, 4), st.floats(0.1, 3))
def test_categorical_crossentropy_is_its_definition(row, k, scale):
    k %= len(row)
    losses, dz = ref.categorical_crossentropy(np.array([row]), np.eye(len(row))[[k]], np.array([scale]))
    p = [math.exp(a) / math.fsum(map(math.exp, row)) for a in row]
    np.testing.assert_allclose(losses, -math.log(p[k]) * scale, rtol=1e-12, atol=1e-15)
    close(dz[0], [(p[i] - (i == k)) * scale for i in range(len(row))])


@given(st.lists(st.tuples(logits, logits), min_size=1, max_size=5), st.floats(0.1, 3))
def test_mean_squared_error_is_its_definition(pairs, scale):
    z, t = np.array([pairs]).transpose(2, 0, 1)
    losses, dz = ref.mean_squared_error(z, t, np.array([scale]))
    np.testing.assert_allclose(losses, math.fsum((a - b) ** 2 for a, b in pairs) * scale, rtol=1e-12)
    close(dz[0], [2 * (a - b) * scale for a, b in pairs])


# ---- Worked by hand --------------------------------------------------------------------------------------------------

def image(rows):
    return np.array(rows, np.float64)[None, :, :, None]


def plane(batch):
    return batch[0, :, :, 0].tolist()


def test_a_convolution_does_not_flip_its_filter():
    x = image([[0, 0, 0], [0, 1, 0], [0, 0, 0]])
    w = np.arange(9.0).reshape(3, 3, 1, 1)
    # The one pixel meets the last weight first: correlation lays the filter out turned round.
    assert plane(ref.conv2d(x, w, np.zeros(1), (1, 1), (1, 1, 1, 1))) == [[8, 7, 6], [5, 4, 3], [2, 1, 0]]


def test_the_odd_padding_comes_after():
    x = image([[1, 2, 3]])
    assert plane(ref.conv2d(x, np.ones((1, 2, 1, 1)), np.zeros(1), (1, 1), (0, 0, 0, 1))) == [[3, 5, 3]]


def test_convolution_adds_up_channels_and_keeps_filters_apart():
    x = np.array([[[[1.0, 10.0]]]])
    w = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]).reshape(1, 1, 2, 3)
    assert ref.conv2d(x, w, np.array([0.5, 0, 0]), (1, 1), NO_PADS).tolist() == [[[[41.5, 52, 63]]]]


def test_bias_gradient_sums_images_and_pixels():
    dy = np.arange(8.0).reshape(2, 2, 1, 2)
    assert ref.conv2d_weight_gradient(dy, np.zeros((2, 2, 1, 1)), (1, 1), (1, 1), NO_PADS)[1].tolist() == [12, 16]


def test_an_average_counts_only_pixels_of_the_image():
    x = image([[2, 4], [6, 8]])
    assert plane(ref.average_pool2d(x, (2, 2), (1, 1), (0, 1, 0, 1))) == [[5, 6], [7, 8]]


def test_padding_never_wins_a_maximum():
    y, switches = ref.max_pool2d(image([[-5, -6], [-np.inf, -8]]), (2, 2), (1, 1), (1, 0, 1, 0))
    assert plane(y) == [[-5, -5], [-5, -5]] and plane(switches) == [[3, 2], [1, 0]]
    y, switches = ref.max_pool2d(image([[-np.inf]]), (2, 2), (1, 1), (1, 0, 1, 0))
    assert plane(y) == [[-np.inf]] and plane(switches) == [[3]]


def test_a_pixel_that_two_windows_chose_receives_both():
    x = image([[1, 9, 2]])
    _, switches = ref.max_pool2d(x, (1, 2), (1, 1), NO_PADS)
    dx = ref.max_pool2d_gradient(image([[10, 100]]), switches, (1, 3), (1, 2), (1, 1), NO_PADS)
    assert plane(dx) == [[0, 110, 0]]


def test_relu_at_the_edges():
    x = np.array([-np.inf, -1, -0.0, 0, 1e-45, 3, np.inf, np.nan])
    np.testing.assert_array_equal(ref.relu(x), [0, 0, 0, 0, 1e-45, 3, np.inf, np.nan])
    # relu'(0) = 0; and where the output is NaN no gradient is made of it (TensorFlow; PyTorch passes it on)
    assert ref.relu_gradient(np.full(8, 7.0), ref.relu(x)).tolist() == [0, 0, 0, 0, 7, 7, 7, 0]


@each_dtype
@pytest.mark.parametrize("name, exact", [("sigmoid", lambda a: 1 / (1 + math.exp(-a)) if a > 0
                                          else math.exp(a) / (1 + math.exp(a))), ("tanh", math.tanh)])
def test_sigmoid_and_tanh_keep_their_tails(name, exact, dtype):
    # Within 4 units in the last place of each value, also far out, where tanh(x/2)/2 + 1/2 would have lost all.
    x = np.concatenate([np.linspace(-87, 87, 2001), [-30, 30, 0, 1e-30, -1e-30]]).astype(dtype)
    expected = np.array([exact(float(a)) for a in x])
    error = np.abs(specified(name)(x).astype(np.float64) - expected)
    assert (error <= 4 * np.spacing(np.abs(expected).astype(dtype))).all()
    ends = specified(name)(np.array([-np.inf, np.inf, np.nan], dtype))
    np.testing.assert_array_equal(ends, [0 if name == "sigmoid" else -1, 1, np.nan])


@each_dtype
def test_softmax_of_extremes(dtype):
    y = ref.softmax(np.array([[1e4, -1e4, 1e4], [0, 0, 0], [np.nan, 1, 2], [-30, 0, 30]], dtype))
    assert y[0].tolist() == [0.5, 0, 0.5]
    assert np.isnan(y[2]).all() and np.isfinite(y[[0, 1, 3]]).all()
    tail = np.exp([-60.0, -30.0, 0.0])
    np.testing.assert_allclose(y[3], tail / tail.sum(), rtol=4 * np.finfo(dtype).eps)


def test_dropout_keeps_the_expected_value():
    assert ref.dropout(np.array([4.0, 4.0, np.nan, -4.0]), np.array([True, False, False, True]), 0.75).tolist() == \
        [16, 0, 0, -16]


@pytest.mark.parametrize("z, t, loss, dz", [(1e4, 0, 1e4, 1), (-1e4, 1, 1e4, -1), (1e4, 1, 0, 0), (-1e4, 0, 0, 0),
                                            (0, 0.5, math.log(2), 0)])
def test_binary_crossentropy_of_extremes(z, t, loss, dz):
    losses, gradient = ref.binary_crossentropy(np.array([[z]], np.float32), np.array([[t]], np.float32), np.ones(1))
    assert losses.tolist() == [loss] and gradient.tolist() == [[dz]] and losses.dtype == np.float64


def test_categorical_crossentropy_of_extremes():
    z = np.array([[1e4, -1e4], [1e4, -1e4]], np.float32)
    losses, dz = ref.categorical_crossentropy(z, np.eye(2, dtype=np.float32), np.ones(2))
    assert losses.tolist() == [0, 2e4] and dz.tolist() == [[0, 0], [1, -1]]


def test_a_loss_scales_each_sample_on_its_own():
    z, t = np.array([[1.0], [2.0], [3.0]]), np.zeros((3, 1))
    losses, dz = ref.mean_squared_error(z, t, np.array([1.0, 0.0, 0.5]))
    assert losses.tolist() == [1, 0, 4.5] and dz.tolist() == [[2], [0], [3]]


def test_two_steps_of_sgd_by_hand():
    w, v = ref.sgd(np.array([1.0]), np.array([0.0]), np.array([2.0]), 0.25, 0.5, False)
    assert (w.item(), v.item()) == (0.5, -0.5)                         # v = -0.25 * 2
    w, v = ref.sgd(w, v, np.array([1.0]), 0.25, 0.5, False)
    assert (w.item(), v.item()) == (0.0, -0.5)                         # v = 0.5 * -0.5 - 0.25
    w, v = ref.sgd(np.array([1.0]), np.array([-0.5]), np.array([2.0]), 0.25, 0.5, True)
    assert (w.item(), v.item()) == (0.125, -0.75)                      # v = -0.25 - 0.5; w = 1 + 0.5 v - 0.5


def test_one_step_of_adam_by_hand():
    # m = 0 + 0.5 (2 - 0) = 1, v = 0 + 0.25 (4 - 0) = 1, w = 3 - 0.5 * 1 / (1 + 1)
    w, m, v = ref.adam(np.array([3.0]), np.zeros(1), np.zeros(1), np.array([2.0]), 0.5, 0.5, 0.75, 1.0)
    assert (w.item(), m.item(), v.item()) == (2.75, 1, 1)


# ---- Laws ------------------------------------------------------------------------------------------------------------

def convolution_maps(case):
    """Return the linear maps in x, w and b of a convolution, each with its transpose, and the shapes they take."""
    x, w, b = case.normals(*case.x_shape), case.normals(*case.w_shape), np.zeros(case.F)
    window = case.strides, case.pads
    return [(case.x_shape, lambda v: ref.conv2d(v, w, b, *window),
             lambda dy: ref.conv2d_input_gradient(dy, w, (case.H, case.W), *window)),
            (case.w_shape, lambda v: ref.conv2d(x, v, b, *window),
             lambda dy: ref.conv2d_weight_gradient(dy, x, case.kernel, *window)[0]),
            ((case.F,), lambda v: ref.conv2d(0 * x, w, v, *window),
             lambda dy: ref.conv2d_weight_gradient(dy, x, case.kernel, *window)[1])]


@settings(max_examples=200)
@given(cases())
def test_convolution_gradients_are_adjoints(case):
    for shape, forward, backward in convolution_maps(case):
        assert_adjoint(forward, backward, case.normals(*shape), case.normals(*case.y_shape(case.F)))


@settings(max_examples=200)
@given(cases())
def test_pooling_gradients_are_adjoints(case):
    x, window = case.separated(*case.x_shape), (case.kernel, case.strides, case.pads)
    _, switches = ref.max_pool2d(x, *window)
    v, dy = case.normals(*case.x_shape), case.normals(*case.y_shape(case.C))
    assert_adjoint(lambda v: ref.average_pool2d(v, *window),
                   lambda dy: ref.average_pool2d_gradient(dy, (case.H, case.W), *window), v, dy)

    def chosen(v):
        """Pick from each window of v what the switches name: max pooling with its choice held fixed."""
        cols = ref.im2col(v, *window).reshape(*dy.shape[:3], -1, case.C)
        return np.take_along_axis(cols, switches[:, :, :, None].astype(int), axis=3)[:, :, :, 0]
    assert_adjoint(chosen, lambda dy: ref.max_pool2d_gradient(dy, switches, (case.H, case.W), *window), v, dy)
    assert_same_bits(chosen(x), ref.max_pool2d(x, *window)[0])


@settings(max_examples=200)
@given(cases())
def test_dense_gradients_are_adjoints(case):
    N, D, F = case.N, case.H * case.C, case.F
    x, w, dy = case.normals(N, D), case.normals(D, F), case.normals(N, F)
    assert_adjoint(lambda v: ref.dense(v, w, np.zeros(F)), lambda dy: ref.dense_input_gradient(dy, w), x, dy)
    assert_adjoint(lambda v: ref.dense(x, v, np.zeros(F)), lambda dy: ref.dense_weight_gradient(dy, x)[0], w, dy)
    assert_adjoint(lambda v: ref.dense(0 * x, w, v), lambda dy: ref.dense_weight_gradient(dy, x)[1], case.normals(F),
                   dy)


@given(cases())
def test_im2col_and_col2im_are_adjoints(case):
    v = case.normals(*case.x_shape)
    window = case.kernel, case.strides, case.pads
    dcols = case.normals(*case.y_shape(1)[:3], *case.kernel, case.C)
    assert_adjoint(lambda v: ref.im2col(v, *window).reshape(dcols.shape),
                   lambda dcols: ref.col2im(dcols, (case.H, case.W), *window), v, dcols)


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh", "softmax"])
@given(cases())
def test_activation_gradients(activation, case):
    forward, gradient = getattr(ref, activation), getattr(ref, activation + "_gradient")
    x, dy = case.separated(*case.x_shape), case.normals(*case.x_shape)
    assert_gradient(forward, gradient(dy, forward(x)), x, dy)


@given(cases())
def test_max_pooling_gradient(case):
    x, window = case.separated(*case.x_shape), (case.kernel, case.strides, case.pads)
    y, switches = ref.max_pool2d(x, *window)
    dy = case.normals(*y.shape)
    assert_gradient(lambda x: ref.max_pool2d(x, *window)[0],
                    ref.max_pool2d_gradient(dy, switches, (case.H, case.W), *window), x, dy)


@pytest.mark.parametrize("loss", ["binary_crossentropy", "categorical_crossentropy", "mean_squared_error"])
@given(cases())
def test_loss_gradients(loss, case):
    z, t, scale = OPERATIONS[loss](case, np.float64)
    _, dz = getattr(ref, loss)(z, t, scale)
    assert_gradient(lambda z: getattr(ref, loss)(z, t, scale)[0], dz, z, np.ones(case.N))


@given(cases())
def test_softmax_rows_are_distributions_that_ignore_a_common_shift(case):
    x = 10 * case.normals(*case.x_shape)
    y = ref.softmax(x)
    assert (y >= 0).all()
    np.testing.assert_allclose(y.sum(axis=-1), 1, rtol=1e-14)
    np.testing.assert_allclose(ref.softmax(x + 100), y, rtol=1e-12)


# ---- What holds for all ----------------------------------------------------------------------------------------------

def test_the_registry_knows_every_operation_of_the_specification():
    apart = {"im2col", "col2im"}      # of the reference alone, tested above
    elsewhere = {"grey_planes"}                                      # test_steps.py
    assert set(OPERATIONS) | apart | elsewhere == set(ref.__all__) | set(fusion.__all__)


@each_dtype
@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=20)
@given(case=cases())
def test_inputs_stay_as_they_are_and_dtypes_are_kept(name, dtype, case):
    inputs = OPERATIONS[name](case, dtype)
    arrays = [a for a in inputs if isinstance(a, np.ndarray)]
    before = [digest(a) for a in arrays]
    for i, result in enumerate(as_tuple(specified(name)(*inputs))):
        is_loss = i == 0 and name.endswith(("entropy", "squared_error"))
        switches = {"max_pool2d": np.uint16, "conv2d_relu_pool": np.uint8}.get(name) if i == 1 else None
        assert result.dtype == (np.float64 if is_loss else switches or dtype)
        assert not any(np.shares_memory(result, a) for a in arrays)
    assert [digest(a) for a in arrays] == before


@pytest.mark.parametrize("name", LINEAR)
@settings(max_examples=30)
@given(case=cases())
def test_float32_is_float64_rounded_once(name, case):
    operation, inputs = specified(name), OPERATIONS[name](case, np.float32)
    wide = [a.astype(np.float64) if isinstance(a, np.ndarray) and a.dtype == np.float32 else a for a in inputs]
    for narrow, exact in zip(as_tuple(operation(*inputs)), as_tuple(operation(*wide)), strict=True):
        assert_same_bits(narrow, exact.astype(np.float32))


# ---- The tests are tested --------------------------------------------------------------------------------------------

def overwriting_col2im(dcols, image_size, kernel_size, strides, pads):
    """col2im that forgets to add: the last window that reaches a pixel wins."""
    (N, OH, OW, KH, KW, C), (SH, SW), (top, bottom, left, right) = dcols.shape, strides, pads
    padded = np.zeros((N, top + image_size[0] + bottom, left + image_size[1] + right, C))
    for kh in range(KH):
        for kw in range(KW):
            padded[:, kh:kh + OH * SH:SH, kw:kw + OW * SW:SW] = dcols[:, :, :, kh, kw]
    return padded[:, top:top + image_size[0], left:left + image_size[1]]


def test_a_col2im_that_overwrites_breaks_the_adjoint_law():
    v, dcols = separated(1, (1, 4, 4, 2)), separated(2, (1, 3, 3, 2, 2, 2))
    window = (2, 2), (1, 1), NO_PADS
    with pytest.raises(AssertionError, match="differ by"):
        assert_adjoint(lambda v: ref.im2col(v, *window).reshape(dcols.shape),
                       lambda dcols: overwriting_col2im(dcols, (4, 4), *window), v, dcols)


def test_a_transpose_wrong_by_a_thousandth_in_one_place_breaks_the_adjoint_law():
    x, w, dy = separated(1, (5, 7)), separated(2, (7, 3)), separated(3, (5, 3))

    def wrong(dy):
        dx = ref.dense_input_gradient(dy, w)
        dx[2, 3] *= 1.001
        return dx
    with pytest.raises(AssertionError, match="differ by"):
        assert_adjoint(lambda v: ref.dense(v, w, np.zeros(3)), wrong, x, dy)


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh", "softmax"])
def test_a_gradient_wrong_by_a_thousandth_in_one_place_is_caught(activation):
    x, dy = separated(1, (3, 20)), separated(2, (3, 20))
    forward = getattr(ref, activation)
    dx = getattr(ref, activation + "_gradient")(dy, forward(x))
    assert_gradient(forward, dx, x, dy)
    largest = np.unravel_index(np.abs(dx).argmax(), dx.shape)
    dx[largest] *= 1.001
    with pytest.raises(AssertionError, match="the gradient is off by"):
        assert_gradient(forward, dx, x, dy)


def test_a_step_over_a_kink_would_show():
    # Why pooling and ReLU get separated numbers: on a kink the difference quotient is half the gradient.
    with pytest.raises(AssertionError, match="the gradient is off by"):
        assert_gradient(ref.relu, np.zeros(4), np.zeros(4), np.ones(4))
    assert np.diff(np.sort(separated(5, (99,)))).min() > 0.019 and np.abs(separated(5, (99,))).min() > 0.009
