"""What a user may set, hand in or return, abused at random: every way from Python to a kernel.

    python -m tests.support.abuse 2000 LOG [HOLE]

draws so many abuses, the same in each run, in this process; a line in LOG names the one under way. With a HOLE of
`HOLES` one check is left out, so that there is something to find. All memory that
minicnn hands to kernels ends at a protected page here, and so does what is handed in: a read or a write past an end
kills the process. An abuse ends in a typed error, and nothing is changed, or in the numbers that the reference engine
computes from the same numbers in plain arrays. Prints {"right", "refused", by way: [right, refused]} as JSON.
"""

import collections
import json
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from minicnn import (ELU, SGD, Adam, AdamW, AveragePool2D, Conv2D, Dense, Dropout, Flatten, GlobalAveragePooling2D,
                     GlobalMaxPooling2D, LeakyReLU, MaxPool2D, MiniCNNError, Parameter, ReLU, Rescaling, Reshape, Sequential,
                     Sigmoid, Softmax, Softplus, SpatialDropout2D, Swish, Tanh, UpSampling2D, ZeroPadding2D, fusion, gradcheck,
                     weights)
from minicnn.core import memory
from minicnn.core.backend import get_engine
from minicnn.data import Augmentation
from minicnn.layers import base
from minicnn.losses import get_loss
from tests.support.fence import fenced
from tests.support.layer_checks import unaligned
from tests.support.random_networks import Block

ENGINES, DTYPES = st.sampled_from(["fast", "fast", "fast", "reference"]), st.sampled_from(["float32", "float64"])


# ---- Arrays in every form --------------------------------------------------------------------------------------------

def numbers(seed, shape):
    """Return numbers that float16 and everything wider hold exactly."""
    return np.random.default_rng([seed, *shape]).integers(-8, 9, shape) / 8


def _spaced(array):
    wide = np.full((*array.shape[:-1], 2 * array.shape[-1]), 7.0, array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


def _frozen(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def _fenced(array):
    copy = fenced(array.shape, array.dtype)
    copy[...] = array
    return copy


class _Subclass(np.ndarray):
    pass


# The same numbers in memory of any kind ...
GOOD = {
    "float32": lambda a: a.astype(np.float32), "float64": lambda a: a.copy(), "float16": lambda a: a.astype(np.float16),
    "big-endian": lambda a: a.astype(">f4"), "long double": lambda a: a.astype(np.longdouble),
    "fenced float32": lambda a: _fenced(a.astype(np.float32)), "fenced float64": _fenced,
    "Fortran order": lambda a: np.asfortranarray(a.astype(np.float32)), "spaced": lambda a: _spaced(a.astype(np.float32)),
    "backwards": lambda a: a[::-1].copy()[::-1], "read-only": lambda a: _frozen(a.astype(np.float32)),
    "unaligned": lambda a: unaligned(a.astype(np.float32)), "subclass": lambda a: a.astype(np.float32).view(_Subclass),
    "list": lambda a: a.tolist(), "masked nowhere": lambda a: np.ma.array(a)}
# ... and what is not the same numbers, or of another shape.
BAD = {
    "complex": lambda a: a + 0j, "objects": lambda a: a.astype(object), "text": lambda a: a.astype(str),
    "dates": lambda a: np.zeros(a.shape, "M8[s]"), "None": lambda a: None, "masked": lambda a: np.ma.array(a, mask=True),
    "one axis more": lambda a: a[..., None], "one number": lambda a: 0.5, "empty": lambda a: a[:0],
    "shorter": lambda a: _fenced(a[..., :-1]) if a.shape[-1] > 1 else a.ravel()[:0],
    "longer": lambda a: np.concatenate([a, a], axis=-1), "flat": lambda a: a.ravel() if a.ndim > 1 else a[None],
    "turned": lambda a: a.T if a.T.shape != a.shape else a[..., :0]}


@st.composite
def forms(draw, bad=True):
    """Draw (name, whether it means the same numbers, function)."""
    table = BAD if bad and draw(st.integers(0, 2)) == 0 else GOOD
    name = draw(st.sampled_from(sorted(table)))
    return name, table is GOOD, table[name]


# ---- Models ----------------------------------------------------------------------------------------------------------

class Mine:
    """y = a x: a custom layer, which hands back what it is told to."""

    def __init__(self, y=None, dx=None, da=None, inside=None):
        self.forms, self.inside = {"y": y, "dx": dx, "da": da}, inside

    def build(self, input_shape):
        self.parameters = [Parameter("a", numbers(3, input_shape[-1:]) + 2)]
        return input_shape

    def _as(self, what, array):
        form = self.forms[what]
        return array if form is None else form(np.asarray(array, np.float64))

    def forward(self, x):
        self.x = x.copy()
        y = x * self.parameters[0].value
        if self.inside:
            x *= 3                          # its own copy: nobody else may notice
        return self._as("y", y)

    def backward(self, dy):
        self.parameters[0].grad = self._as("da", (dy * self.x).sum(axis=tuple(range(dy.ndim - 1))))
        return self._as("dx", dy * self.parameters[0].value)


def stack(kind, mine=Mine):
    """Return (layers, input shape, loss) of small networks that take all ways through the engine."""
    return {
        "paper": lambda: ([Conv2D(4, 3), ReLU(), MaxPool2D(2), Conv2D(3, 2), ReLU(), Flatten(), Dense(3), ReLU(), Dense(1),
                           Sigmoid()], (9, 8, 3), "binary_crossentropy"),
        "wide": lambda: ([Conv2D(16, 3, padding="same"), Tanh(), AveragePool2D(2), Conv2D(16, 3), ReLU(), Flatten(),
                          Dropout(0), Dense(2), Softmax()], (6, 7, 16), "categorical_crossentropy"),
        "strided": lambda: ([Conv2D(5, (2, 3), strides=(2, 1), padding="same"), MaxPool2D(3, strides=1), ReLU(), Flatten(),
                             Dense(2)], (7, 8, 2), "mean_squared_error"),
        "mine": lambda: ([Conv2D(3, 3), mine(), Sigmoid(), mine(), Flatten(), Dense(1), Sigmoid()], (5, 5, 2),
                         "binary_crossentropy")}[kind]()


def model_of(kind, dtype, engine, mine=Mine, optimizer=SGD):
    made, shape, loss = stack(kind, mine)
    model = Sequential(made, shape, seed=5, dtype=dtype, engine=engine)
    model.compile(optimizer(0.1), loss=loss)
    model.set_weights([numbers(i, w.shape) for i, w in enumerate(model.get_weights())])
    return model


def data_of(model, seed, n=3):
    x = np.abs(numbers(seed, (n, *model.input_shape)))
    t = np.eye(model.output_shape[-1])[np.arange(n) % model.output_shape[-1]] if model.output_shape[-1] > 1 else \
        (np.arange(n) % 2.0)[:, None]
    return x, t


def assert_near(got, expected, dtype):
    for one, other in zip(got, expected, strict=True):
        one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
        bar = (2e-4 if dtype == "float32" else 1e-10) * max(1.0, np.abs(other).max(initial=0))
        assert one.shape == other.shape and np.abs(one - other).max(initial=0) <= bar, (one, other)


def seen(model, seed=1):
    """Return what a model says, its gradients, and its weights after a step."""
    x, t = data_of(model, seed)
    p = model.predict(x)
    loss, gradients = model.loss_and_gradients(x, t)
    model.train_on_batch(x, t)
    return [p, loss, *gradients, *model.get_weights()]


def attempt(action, good, promised=True):
    """Run it; return (result, None) or (None, "refused"). What is good must not be refused where that is promised."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)     # NumPy's, of shapes set in place
            result = action()
    except MiniCNNError as error:
        assert str(error)[:1] and not (good and promised), f"refused: {error}"
        return None, "refused"
    assert good, "it was not refused"
    return result, None


# ---- The ways to a kernel --------------------------------------------------------------------------------------------

kinds, places = st.sampled_from(["paper", "wide", "strided", "mine"]), st.integers(0, 63)


def set_parameter(draw):
    """model.layers[i].parameters[j].value = array"""
    kind, dtype, engine = draw(kinds), draw(DTYPES), draw(ENGINES)
    model, twin = model_of(kind, dtype, engine), model_of(kind, dtype, "reference")
    place = draw(places) % len(model.network.parameters)
    name, good, form = draw(forms())
    one, other = model.network.parameters[place], twin.network.parameters[place]
    wanted = numbers(draw(st.integers(0, 9)), one.value.shape)
    given = form(wanted)

    def action():
        one.value = given
    _, refused = attempt(action, good)
    if good:
        other.value = wanted
        if isinstance(given, np.ndarray) and given.flags.writeable:
            given[...] = 0                  # changed after it was handed in
    assert_near(seen(model), seen(twin), dtype)
    return refused


def set_gradient(draw):
    """parameter.grad = array, then a step of an optimizer on any list of parameters"""
    dtype, engine, name_of = draw(DTYPES), draw(ENGINES), draw(st.sampled_from([SGD, Adam, AdamW]))
    shapes = [(3, 2), (4,), (1,)]
    mine, twins = ([Parameter(f"p{i}", numbers(i, shape).astype(dtype)) for i, shape in enumerate(shapes)] for _ in "ab")
    one, two = name_of(0.1), name_of(0.1)
    refused = None
    for step in range(2):
        place, (_, good, form) = draw(places) % 3, draw(forms())
        wanted = numbers(step, shapes[place])

        def action():
            mine[place].grad = form(wanted)
        if attempt(action, good)[1] is None:
            twins[place].grad = wanted
        else:
            refused = "refused"
        one.step(get_engine(engine), mine)
        two.step(get_engine("reference"), twins)
    assert_near([p.value for p in mine], [p.value for p in twins], dtype)
    return refused


def foreign_optimizer(draw):
    """An optimizer with what is not its own: other lists, other networks, restored arrays, one memory twice."""
    dtype, engine, kind = draw(DTYPES), draw(ENGINES), draw(st.sampled_from([SGD, Adam, AdamW]))
    model = model_of("paper", dtype, engine)
    ops, optimizer, parameters = get_engine(engine), kind(0.1), model.network.parameters
    way = draw(st.sampled_from(["list first", "restored", "other dtype", "no Parameter", "twice", "shared", "other shapes",
                                "reshaped"]))
    good, x_t = way in ("list first", "other dtype", "restored"), data_of(model, 2)
    slots = kind(0.1).slots

    def action():
        model.loss_and_gradients(*x_t)
        if way == "list first":
            optimizer.step(ops, list(parameters))
        elif way == "other dtype":
            optimizer.step(ops, [Parameter("w", p.value.astype("f4" if dtype == "float64" else "f8")) for p in parameters])
        elif way == "restored":
            _, _, form = draw(forms(bad=False))
            optimizer.restore(1, {slot: [form(np.zeros(p.value.shape)) for p in parameters] for slot in slots})
        elif way == "no Parameter":
            optimizer.step(ops, [p.value for p in parameters])
        elif way == "twice":
            optimizer.step(ops, [parameters[0], parameters[0]])
        elif way == "shared":
            flat = np.zeros(20, dtype)
            optimizer.step(ops, [Parameter("a", flat[:12]), Parameter("b", flat[8:])])
        elif way == "other shapes":
            optimizer.step(ops, [Parameter("a", np.zeros(5, dtype))])
        elif way == "reshaped":
            memory = np.zeros((4, 3), dtype)
            p = Parameter("a", memory)
            optimizer.step(ops, [p])
            memory.shape = (12,)
            optimizer.step(ops, [p])
        state = optimizer.state(parameters)
        for arrays in state.values():
            arrays[0].shape = (-1,)                 # what is told may be changed ...
            arrays[-1] = np.zeros(1, np.int8)       # ... and is not what is used
        optimizer.step(ops, parameters)
    _, refused = attempt(action, good)
    assert all(np.isfinite(p.value).all() for p in parameters) and np.isfinite(model.predict(x_t[0])).all()
    return refused


LAYERS = [(lambda: Conv2D(4, 3), (6, 5, 3)), (lambda: Conv2D(16, 3, padding="same"), (5, 4, 16)),
          (lambda: Conv2D(17, (3, 2), strides=(2, 1), padding="same"), (6, 7, 2)), (lambda: MaxPool2D(2), (5, 4, 3)),
          (lambda: MaxPool2D(3, strides=1, padding="same"), (5, 4, 2)), (lambda: AveragePool2D(2), (5, 5, 3)),
          (lambda: Flatten(), (3, 2, 2)), (lambda: Dense(5), (7,)), (lambda: Dense(33), (70,)), (lambda: ReLU(), (3, 4, 5)),
          (lambda: Sigmoid(), (7,)), (lambda: Tanh(), (2, 3)), (lambda: Softmax(), (4,)), (lambda: Dropout(0.5), (9,)),
          (lambda: ReLU(0.5), (3, 4, 5)), (lambda: LeakyReLU(), (9,)), (lambda: ELU(0.5), (3, 4, 5)), (lambda: Swish(), (9,)),
          (lambda: Softplus(), (9,)), (lambda: GlobalAveragePooling2D(), (5, 4, 3)), (lambda: GlobalMaxPooling2D(True), (5, 4, 3)),
          (lambda: ZeroPadding2D(((0, 1), (2, 0))), (3, 4, 2)), (lambda: UpSampling2D((2, 3)), (3, 4, 2)),
          (lambda: Reshape((-1, 2)), (3, 2, 2)), (lambda: Rescaling(0.5, 1), (3, 4, 2)), (lambda: SpatialDropout2D(0.5), (3, 4, 5))]


def built(make, shape, dtype, engine):
    layer = make()
    layer.configure(dtype, engine, seed=2)
    layer.build(shape)
    layer.training = True
    for i, p in enumerate(layer.parameters):
        p.value = numbers(i, p.value.shape)
    return layer


def by_hand(draw):
    """A layer called by hand, with arrays of any form, that are changed after it was called"""
    make, shape = draw(st.sampled_from(LAYERS))
    dtype, engine = draw(DTYPES), draw(ENGINES)
    layer, twin = built(make, shape, dtype, engine), built(make, shape, dtype, "reference")
    x = numbers(draw(st.integers(0, 9)), (draw(st.integers(1, 3)), *shape)) + 1 / 3 ** 8    # no number is a kink
    dy = numbers(1, (len(x), *layer.output_shape))
    (_, good, form), (_, good_dy, form_dy) = draw(forms()), draw(forms())
    meant = np.asarray(form(x), np.float64) if good else None
    given = form(x)
    y, refused = attempt(lambda: layer.forward(given), good)
    if refused:
        return refused
    expected = [twin.forward(meant).copy(), twin.backward(dy), *(p.grad for p in twin.parameters)]
    assert_near([y], expected[:1], dtype)
    again = draw(st.sampled_from(["nothing", "x", "y", "weights", "once more"]))
    if again == "x" and isinstance(given, np.ndarray) and given.flags.writeable:
        given[...] = 9
    elif again == "y" and y.flags.writeable and type(layer) not in (Flatten, Reshape, Dropout):
        y *= 0
    elif again == "weights":
        for p in layer.parameters:
            p.value = np.zeros(p.value.shape)
    elif again == "once more" and y.shape == np.shape(given):
        kept = y.copy()
        layer.forward(y)                    # into itself
        assert np.array_equal(kept, y)
        layer.forward(given)
    dx, refused = attempt(lambda: layer.backward(form_dy(dy)), good_dy)
    if refused is None:
        assert_near([dx, *(p.grad for p in layer.parameters)], expected[1:], dtype)
        if dx.shape == dy.shape:
            layer.forward(x)
            assert layer.backward(dx).shape == dx.shape         # into itself
    return refused


def steps_by_hand(draw):
    """The steps of a plan called by hand"""
    kind, dtype, engine = draw(st.sampled_from(["paper", "wide", "strided"])), draw(DTYPES), draw(ENGINES)
    model, twin = model_of(kind, dtype, engine), model_of(kind, dtype, "reference")
    number = draw(places) % len(model.network.steps)
    step, first = model.network.steps[number], 0
    for earlier in model.network.steps[:number]:
        first += len(earlier.layers)
    theirs = twin.layers[first:first + len(step.layers)]
    x = numbers(3, (2, *model.network.shapes[first])) + 1 / 3 ** 8
    (_, good, form), (_, good_dy, form_dy) = draw(forms()), draw(forms())
    given = form(x)
    y, refused = attempt(lambda: step.forward(given), good)
    if refused:
        return refused
    expected = np.asarray(form(x), np.float64)
    for layer in theirs:
        expected = layer.forward(expected)
    assert_near([y], [expected], dtype)
    dy = numbers(4, y.shape)
    if isinstance(given, np.ndarray) and given.flags.writeable:
        given[...] = 9
    dx, refused = attempt(lambda: step.backward(form_dy(dy)), good_dy)
    if refused is None:
        for layer in theirs[::-1]:
            dy = layer.backward(dy)
        assert_near([p.grad for layer in step.layers for p in layer.parameters],
                    [p.grad for layer in theirs for p in layer.parameters], dtype)
        if dx is not None and dy is not None:
            assert_near([dx], [dy], dtype)
    return refused


def own_layers(draw):
    """A custom layer that returns its output, dx or gradient in any form, and writes to its input"""
    dtype, engine = draw(DTYPES), draw(ENGINES)
    (_, good, form), what = draw(forms()), draw(st.sampled_from(["y", "dx", "da"]))
    inside = draw(st.booleans())
    # Numbers that pass through float16 are other numbers: then it is enough that all is finite.
    narrow = form in (GOOD["float16"],) or dtype == "float64" and form not in (
        GOOD["float64"], GOOD["fenced float64"], GOOD["list"], GOOD["backwards"], GOOD["masked nowhere"],
        GOOD["long double"])

    def run(engine, form):
        model = model_of("mine", dtype, engine, lambda: Mine(**{what: form}, inside=inside))
        return seen(model)
    got, refused = attempt(lambda: run(engine, form), good)
    if refused is None:
        expected = run("reference", None)
        if narrow:
            assert all(np.isfinite(array).all() for array in got)
        else:
            assert_near(got, expected, dtype)
    return refused


def front_door(draw):
    """x, targets and sample weights of a model in any form"""
    kind, dtype, engine = draw(kinds), draw(DTYPES), draw(ENGINES)
    model, twin = model_of(kind, dtype, engine), model_of(kind, dtype, "reference")
    x, t = data_of(model, 4)
    weight = np.abs(numbers(5, (3,))) + 1
    which, (name, good, form) = draw(st.sampled_from(["x", "t", "weight"])), draw(forms())
    if which == "t" and (name in ("flat", "one axis more", "turned", "shorter")):
        good = None                         # (N,) and (N, 1) are one thing to a loss
    if which == "t" and name == "objects":
        good = True                         # targets of a table are often objects that hold numbers
    if which == "weight" and name == "None":
        good = True                         # no weights are all alike
    given = {"x": x, "t": t, "weight": weight}
    given[which] = form(given[which])

    def action():
        return [model.train_on_batch(given["x"], given["t"], given["weight"]), model.predict(given["x"])]
    got, refused = attempt(action, good is not False, promised=bool(good))
    if refused is None and good and not (which == "weight" and name == "None"):
        plain = {"x": x, "t": t, "weight": weight}
        expected = [twin.train_on_batch(plain["x"], plain["t"], plain["weight"]), twin.predict(x)]
        assert_near(got, expected, dtype)
    return refused


def all_weights(draw):
    """set_weights and load_weights with one array in any form, and with the model's own arrays exchanged"""
    kind, dtype, engine = draw(kinds), draw(DTYPES), draw(ENGINES)
    model, twin = model_of(kind, dtype, engine), model_of(kind, dtype, "reference")
    way = draw(st.sampled_from(["set", "file", "exchanged"]))
    place, (name, good, form) = draw(places) % len(model.network.parameters), draw(forms())
    wanted = [numbers(20 + i, w.shape) for i, w in enumerate(model.get_weights())]
    if way == "exchanged":
        model, twin = (Sequential([Dense(4), Dense(4)], (4,), seed=1, dtype=dtype, engine=one) for one in (engine, "reference"))
        own = [p.value for p in model.network.parameters]
        before = model.get_weights()
        model.set_weights([own[2], own[3], own[0], own[1]])
        assert_near(model.get_weights(), [before[2], before[3], before[0], before[1]], dtype)
        return None
    given = list(wanted)
    given[place] = form(wanted[place])
    if way == "set":
        _, refused = attempt(lambda: model.set_weights(given), good)
    else:
        array = given[place] if name == "list" or given[place] is None else np.asarray(given[place])    # files know no masks
        good = isinstance(array, np.ndarray) and array.shape == wanted[place].shape and \
            array.dtype == model.network.parameters[place].value.dtype
        if not isinstance(array, np.ndarray) or array.dtype not in (np.float32, np.float64) or array.size == 0:
            array, good = numbers(1, (7, 7)), False         # what a file cannot hold
        tensors = {key: w.astype(p.value.dtype) for (key, p), w in zip(model.network.named_parameters().items(), wanted)}
        tensors[list(tensors)[place]] = array
        with tempfile.TemporaryDirectory() as folder:
            weights.save(Path(folder) / "w.safetensors", tensors, {})
            _, refused = attempt(lambda: model.load_weights(Path(folder) / "w.safetensors"), good)
    if refused is None:
        twin.set_weights(wanted)
    assert_near(seen(model), seen(twin), dtype)
    return refused


def losses(draw):
    """A loss called by hand"""
    dtype, engine = draw(DTYPES), draw(ENGINES)
    loss = get_loss(draw(st.sampled_from(["binary_crossentropy", "categorical_crossentropy", "mean_squared_error", "margin", "deviation"])))
    plain = {"z": numbers(1, (3, 4)).astype(dtype), "t": np.full((3, 4), 0.25, dtype), "weights": np.ones(3)}
    outputs = {"losses": np.empty(3), "dz": np.empty((3, 4), dtype)}
    which, (_, good, form) = draw(st.sampled_from([*plain, *outputs])), draw(forms())
    given = plain | outputs
    given[which] = form(given[which].astype(np.float64) if which in plain else np.zeros(outputs[which].shape))
    if which in outputs or which == "z":        # what is filled has to be of the right form as it is
        given["dz"] = given["dz"] if which == "dz" else np.empty((3, 4), getattr(given["z"], "dtype", dtype))
        good = None if good else False
    if which == "weights" and given[which] is None:
        good = True
    expected, dz = np.empty(3), np.empty((3, 4), dtype)
    right = loss(get_engine("reference"), *plain.values(), expected, dz)
    got, refused = attempt(lambda: loss(get_engine(engine), *given.values()), good is not False, promised=bool(good))
    if refused is None:
        assert_near([got, given["losses"], given["dz"]], [right, expected, dz], "float32")
    return refused


def changed_layers(draw):
    """A layer of a network that is changed, rebuilt or put elsewhere afterwards"""
    kind, dtype, engine = draw(st.sampled_from(["paper", "wide", "strided"])), draw(DTYPES), draw(ENGINES)
    model, twin = model_of(kind, dtype, engine), model_of(kind, dtype, "reference")
    layer = model.layers[draw(places) % len(model.layers)]
    way = draw(st.sampled_from(["set", "build", "configure", "another", "rename", "shape in place", "trainable", "infer",
                                "parameters"]))
    gone = way in ("build", "configure", "another")

    def action():
        if way == "set":
            name = draw(st.sampled_from([*layer.fields, "dtype", "input_shape", "output_shape", "parameters"]
                                        + ["pads"] * hasattr(layer, "pads")))
            setattr(layer, name, draw(st.sampled_from([1, 2, (1, 1), (5, 5, 5), "same", np.dtype("f8"), ()])))
        elif way == "build":
            layer.build(tuple(size + 1 for size in layer.input_shape))
        elif way == "configure":
            layer.configure(dtype="float64" if dtype == "float32" else "float32")
        elif way == "another":
            Sequential([layer], layer.input_shape, dtype=dtype, engine=engine)
        elif way == "trainable":
            whole = draw(st.booleans())
            for one in (model, twin):
                (one if whole else one.layers[model.layers.index(layer)]).trainable = False
        elif way == "parameters":
            layer.parameters[0] = Parameter("kernel", np.zeros(3))
        elif way == "rename":
            for p in layer.parameters:
                p.name = "same"
        elif way == "shape in place":
            for p in layer.parameters:
                p.value.shape = (-1,)
                p.grad.shape = (-1,)
        elif way == "infer":
            layer.infer(tuple(size + 3 for size in layer.input_shape))
    try:
        _, refused = attempt(action, way != "set", promised=False)
    except TypeError:                       # a tuple cannot be assigned to: Python says so
        refused = "refused"
        assert way == "parameters"
    got, lost = attempt(lambda: seen(model), True, promised=not gone)
    assert (lost == "refused") == gone or refused == "refused"
    if lost is None:
        assert_near(got, seen(twin), dtype)
    return lost or refused


def layers_inside(draw):
    """Layers of ours inside a custom layer: the network's dtype, seed and engine, each its own weights"""
    dtype, engine, where = draw(DTYPES), draw(ENGINES), draw(st.sampled_from(["build", "build", "init"]))
    names, checked = draw(st.booleans()), draw(st.integers(0, 7)) == 0

    def action():
        if checked:
            report = gradcheck(Block((5, 5, 3), where, names, 0.0), shape=(2, 3, 3, 3), engine=engine, limit=6)
            assert report and sum(row.size for row in report.rows if not row.inputs) == 54 + 2 * (81 + 3), str(report)
            return None
        block = Block((5, 5, 3), where, names)
        model = Sequential([block, Flatten(), Dense(1), Sigmoid()], (5, 5, 3), seed=3, dtype=dtype, engine=engine)
        model.compile(SGD(0.1), loss="binary_crossentropy")
        x, t = data_of(model, 1)
        kernels = [p.value for p in block.parameters if p.value.ndim == 4]
        assert where == "init" or not np.array_equal(*kernels) and all(p.value.dtype == dtype for p in block.parameters)
        model.train_on_batch(x, t)
        assert (block.parts["first"][1].forward(np.ones((1, 5, 5, 3))) == 0).any()       # it drops while it trains ...
        return model.predict(x), model.predict(x)                                    # ... and not here
    got, refused = attempt(action, True, promised=where == "build" and (names or checked))
    assert refused or where == "build"
    if got is not None:
        assert np.array_equal(*got) and got[0].dtype == dtype
    return refused


def augmented(draw):
    """Augmentation with pixels and `out` in any form"""
    pixels = np.abs(numbers(1, (2, 6, 5, 3)))
    augmentation, which, (name, good, form) = Augmentation.honest(), draw(st.sampled_from(["pixels", "out"])), draw(forms())
    given = {"pixels": form(pixels) if which == "pixels" else pixels, "seed": 3, "epochs": 1, "samples": 2,
             "out": form(np.zeros((2, 6, 5, 3))) if which == "out" else None}
    if name in ("empty", "list", "shorter", "longer", "turned", "one axis more") or which == "out":
        good = None         # fewer rows or columns are pixels too, and what is filled has to be of the right form as it is
    got, refused = attempt(lambda: augmentation.apply(**given), good is not False, promised=bool(good))
    if refused is None and got.shape == pixels.shape:
        assert_near([got], [augmentation.apply(pixels, 3, 1, 2)], "float32")
    return refused


def looked_into(draw):
    """trace and explain, of images in any form"""
    from minicnn.evaluation.explanation.gradcam import explain

    dtype, engine = draw(DTYPES), draw(ENGINES)
    model, (_, good, form) = model_of("paper", dtype, engine), draw(forms())
    x = data_of(model, 6)[0]
    given, way = form(x), draw(st.sampled_from(["trace", "gradcam", "occlusion"]))
    before = model.predict(x)
    if way == "trace":
        got, refused = attempt(lambda: model.trace(given), good)
    else:
        got, refused = attempt(lambda: explain(model, given, method=way), good)
    assert np.array_equal(before, model.predict(x))
    if got is not None and way == "trace":
        assert_near([got.output], [model_of("paper", dtype, "reference").predict(x)], dtype)
    return refused


WAYS = [set_parameter, set_gradient, foreign_optimizer, by_hand, by_hand, steps_by_hand, own_layers, front_door, all_weights,
        losses, changed_layers, layers_inside, augmented, looked_into]


# The checks that can be left out: what is set is held as it is, layers can be changed, any `out` is filled.
HOLES = {
    "value": lambda: setattr(Parameter, "value", property(lambda p: p._value, lambda p, array: setattr(
        p, "_value", np.asarray(array)))),
    "strides": lambda: setattr(base.Settled, "__set__", lambda self, layer, value: vars(layer).update(
        {self.name: value})),
    "out": lambda: setattr(sys.modules["minicnn.data.augmentation"], "check_output", lambda *arguments: None)}


def main(count, log, hole=None):
    warnings.simplefilter("error")
    for module in (memory, base, fusion):
        module.aligned = fenced
    if hole:
        HOLES[hole]()
    counted = collections.defaultdict(lambda: [0, 0])

    with open(log, "w", encoding="utf-8") as file:
        @settings(max_examples=count, derandomize=True, database=None, deadline=None, phases=[Phase.generate, Phase.shrink],
                  suppress_health_check=list(HealthCheck))
        @given(st.data())
        def abuse(data):
            drawn = []

            def draw(strategy):
                drawn.append(data.draw(strategy))
                file.seek(0)
                file.truncate()
                file.write(str(drawn))
                file.flush()
                return drawn[-1]
            way = WAYS[draw(st.integers(0, len(WAYS) - 1))]
            drawn.append(way.__doc__)
            counted[way.__name__][way(draw) == "refused"] += 1
        abuse()
    right, refused = (sum(numbers) for numbers in zip(*counted.values()))
    print(json.dumps({"right": right, "refused": refused} | counted))


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
