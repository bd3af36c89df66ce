"""The bug lab: common bugs of backpropagation, to inject into a model and to find with the checkers.

    with inject("col2im-overwrite", model, "conv2d_2"):
        print(gradcheck(model))                 # BUG at conv2d_2/x

Each Bug has a checker that finds it and a place that the checker must report. `demonstrate(name)` injects it into a
small model and returns the report. Only this model is changed, and only inside the `with`.
"""

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FunctionType

import numpy as np

from minicnn import reference
from minicnn.core.backend import filling
from minicnn.core.random import uniforms
from minicnn.errors import InputError, nearest
from minicnn.gradient_check import check_determinism, check_optimizer, gradcheck
from minicnn.gradient_check.problems import draw
from minicnn.layers import (AveragePool2D, BatchNormalization, Conv2D, Dense, Dropout, Flatten, LayerNormalization,
                            MaxPool2D, ReLU, Residual, Sigmoid, Softmax, Tanh)
from minicnn.losses import get_loss
from minicnn.model import Sequential
from minicnn.optimizers import SGD, Adam
from minicnn.reference import fusion
from minicnn.teaching import mistakes

__all__ = ["Bug", "BUGS", "inject", "demonstrate", "get_bug"]


@dataclass(frozen=True)
class Bug:
    """One bug.

    name : str
    story : str, what is wrong
    layer, parameter : str, the place that the report must name
    layers : function without arguments that returns the layers of a small model, or an optimizer
    input_shape : tuple without N
    checker : "gradcheck", "check_optimizer" or "check_determinism"
    loss : str; N : int, samples; flat : bool, whether the images have constant patches, so that neighbours tie
    engine : str, if the bug exists on one engine only
    """

    name: str
    story: str
    layer: str
    parameter: str
    layers: object
    input_shape: tuple = ()
    checker: str = "gradcheck"
    loss: str = "binary_crossentropy"
    N: int = 3
    flat: bool = False
    engine: str = None
    verdict: str = "BUG"


def _convolutions():
    return [Conv2D(2, 3), Tanh(), Conv2D(3, 2), Tanh(), Flatten(), Dense(1), Sigmoid()]


def _strided():
    return [Conv2D(2, 2), Tanh(), Conv2D(2, 2, strides=2, padding="same"), Flatten(), Dense(1), Sigmoid()]


def _square():
    return [Dense(3), Tanh(), Dense(3), Tanh(), Dense(1), Sigmoid()]


def _residual():
    return [Dense(3), ReLU(), Residual([Dense(3), Tanh()]), Dense(1), Sigmoid()]


def _rectified():
    return [Dense(4), ReLU(), Dense(4), ReLU(), Dense(1), Sigmoid()]


def _pooled(pool):
    return lambda: [Conv2D(2, 2), pool(), Flatten(), Dense(1), Sigmoid()]


def _activated(activation):
    return lambda: [Dense(3), activation(), Dense(1), Sigmoid()]


def _normalized(kind=BatchNormalization):
    return lambda: [Conv2D(2, 2), Tanh(), kind(), Flatten(), Dense(1), Sigmoid()]        # not folded


_CONV, _IMAGE, _ROW = (5, 5, 2), (6, 6, 2), (4,)
BUGS = {bug.name: bug for bug in [
    Bug("col2im-overwrite", "col2im assigns where it should add", "conv2d_2", "x", _convolutions, _CONV),
    Bug("im2col-column-order", "the columns of im2col are in the order C, KH, KW", "conv2d_2", "kernel",
        _convolutions, _CONV),
    Bug("kernel-flipped", "dx correlates with the flipped kernel", "conv2d_2", "x", _convolutions, _CONV, N=2),
    Bug("strides-forgotten", "dx is computed with stride 1", "conv2d_2", "x", _strided, _IMAGE, N=2),
    Bug("padding-other-side", "dx is cropped on the wrong side of `same` padding", "conv2d_2", "x",
        lambda: [Conv2D(2, 2), Tanh(), Conv2D(2, 2, padding="same"), Flatten(), Dense(1), Sigmoid()], (4, 4, 2), N=2),
    Bug("conv-bias-wrong-axes", "db is summed over images, columns and filters", "conv2d_1", "bias",
        lambda: [Conv2D(3, 3), Tanh(), Flatten(), Dense(1), Sigmoid()], _CONV),
    Bug("conv-bias-one-pixel", "db is summed over images, not over pixels", "conv2d_2", "bias", _convolutions, _CONV),
    Bug("conv-float32", "forward is computed in float32 and cast to float64", "conv2d_2", "", _convolutions, _CONV),
    Bug("dense-bias-wrong-axis", "db is summed over the outputs instead of the samples", "dense_2", "bias", _square,
        _ROW),
    Bug("dense-bias-mean", "db is the mean over the samples, which the loss includes already", "dense_2", "bias",
        _square, _ROW),
    Bug("dense-bias-missing", "db is never computed", "dense_2", "bias", _square, _ROW),
    Bug("dense-kernel-transposed", "dw = dy' x instead of x' dy", "dense_2", "kernel", _square, _ROW),
    Bug("dense-not-transposed", "dx = dy w instead of dy w'", "dense_2", "x", _square, _ROW),
    Bug("dense-one-number-off", "one number of dw is wrong by 0.1 %", "dense_2", "kernel", _square, _ROW),
    Bug("float32-accumulation", "dw is accumulated in float32", "dense_2", "kernel", _square, _ROW),
    Bug("pool-next-place", "max pooling passes dy to the next position", "max_pool2d_1", "x", _pooled(MaxPool2D), _CONV,
        N=2),
    Bug("pool-spread-evenly", "max pooling passes dy to the whole window", "max_pool2d_1", "x", _pooled(MaxPool2D),
        _CONV, N=2),
    Bug("pool-all-ties", "max pooling passes dy to every tied position", "max_pool2d_1", "x", _pooled(MaxPool2D),
        _IMAGE, N=2, flat=True),
    Bug("pool-overlap-overwrite", "where windows overlap, the last one overwrites the others", "max_pool2d_1", "x",
        _pooled(lambda: MaxPool2D(3, strides=1)), _IMAGE, N=2),
    Bug("average-pool-padding", "average pooling divides by the window size, padding included", "average_pool2d_1", "x",
        _pooled(lambda: AveragePool2D(2, padding="same")), (4, 4, 2), N=2),
    Bug("average-pool-sum", "average pooling does not divide", "average_pool2d_1", "x", _pooled(AveragePool2D),
        _CONV, N=2),
    Bug("relu-mask-of-gradient", "the mask of ReLU is dy > 0", "relu_2", "x", _rectified, _ROW),
    Bug("relu-mask-not-strict", "the mask of ReLU is y >= 0, which is always true", "relu_2", "x", _rectified, _ROW),
    Bug("relu-mask-wrong-layer", "the mask is that of another ReLU", "relu_2", "x", _rectified, _ROW,
        engine="reference"),
    Bug("sigmoid-half", "sigmoid' = y, without the factor (1 - y)", "sigmoid_1", "x", _activated(Sigmoid), _ROW),
    Bug("tanh-not-squared", "tanh' = 1 - y instead of 1 - y^2", "tanh_1", "x", _activated(Tanh), _ROW),
    Bug("softmax-diagonal", "softmax' has only its diagonal terms", "softmax_1", "x", _activated(Softmax), _ROW),
    Bug("sigmoid-twice", "the loss from logits is multiplied by sigmoid' again", "binary_crossentropy", "z", _square,
        _ROW),
    Bug("mean-twice", "the loss divides by N twice", "binary_crossentropy", "z", _square, _ROW),
    Bug("mean-missing", "dz is not divided by N", "binary_crossentropy", "z", _square, _ROW),
    Bug("loss-sign", "dz = t - p", "binary_crossentropy", "z", _square, _ROW),
    Bug("crossentropy-no-softmax", "dz = -t instead of softmax(z) - t", "categorical_crossentropy", "z",
        lambda: [Dense(3), Tanh(), Dense(3), Softmax()], _ROW, loss="categorical_crossentropy"),
    Bug("square-without-two", "the factor 2 of the square is missing", "mean_squared_error", "z",
        lambda: [Dense(3), Tanh(), Dense(2)], _ROW, loss="mean_squared_error"),
    Bug("stale-cache", "backward uses the input of an earlier forward", "dense_2", "kernel", _square, _ROW),
    Bug("gradient-accumulated", "dw is added to the previous dw", "conv2d_2", "kernel", _convolutions, _CONV),
    Bug("in-place-activation", "an activation overwrites its input, which the previous layer still needs",
        "sigmoid_1", "x", lambda: [Dense(3), Tanh(), Sigmoid(), Dense(1), Sigmoid()], _ROW),
    Bug("dropout-other-mask", "backward uses another mask than forward", "dropout_1", "x",
        _activated(lambda: Dropout(0.5)), _ROW),
    Bug("dropout-not-scaled", "backward does not divide by 1 - rate", "dropout_1", "x",
        _activated(lambda: Dropout(0.4)), _ROW, N=6),
    Bug("flatten-column-major", "backward of Flatten uses column-major order", "flatten_1", "x",
        _convolutions, _CONV, N=2),
    Bug("batch-norm-constant-statistics", "dx treats mean and variance of the batch as constants",
        "batch_normalization_1", "x", _normalized(), _CONV),
    Bug("batch-norm-unbiased-variance", "forward divides the variance by M - 1, backward by M",
        "batch_normalization_1", "x", _normalized(), _CONV),
    Bug("batch-norm-unbiased-moving", "the moving variance follows the variance over M - 1", "batch_normalization_1",
        "moving_variance", _normalized(), _CONV),
    Bug("batch-norm-momentum-swapped", "the moving average is the wrong way round: (1 - momentum) old + momentum new",
        "batch_normalization_1", "moving_mean", _normalized(), _CONV),
    Bug("layer-norm-constant-statistics", "dx treats mean and variance of the row as constants",
        "layer_normalization_1", "x", _normalized(LayerNormalization), _CONV),
    Bug("branch-gradient-forgotten", "of an array that two layers take, the gradient of one is forgotten", "relu_1", "y",
        _residual, _ROW),
    Bug("branch-gradient-twice", "of an array that two layers take, the gradient of one is added twice", "relu_1", "y",
        _residual, _ROW),
    Bug("adam-no-bias-correction", "the bias correction of the moments is missing", "Adam", "w", Adam,
        checker="check_optimizer"),
    Bug("adam-epsilon-inside-root", "epsilon is inside the root", "Adam", "w", Adam, checker="check_optimizer"),
    Bug("adam-step-ahead", "the step count starts at 2", "Adam", "w", Adam, checker="check_optimizer"),
    Bug("adam-betas-swapped", "beta_1 and beta_2 are swapped", "Adam", "w", Adam, checker="check_optimizer"),
    Bug("adam-moments-not-weighted", "the new gradient is not multiplied by 1 - beta", "Adam", "w", Adam,
        checker="check_optimizer"),
    Bug("sgd-climbs", "the sign is flipped: w + learning_rate g", "SGD", "w", SGD, checker="check_optimizer"),
    Bug("sgd-momentum-missing", "the velocity is not kept between steps", "SGD", "w", lambda: SGD(0.1, momentum=0.9),
        checker="check_optimizer"),
    Bug("sgd-no-look-ahead", "the look-ahead of Nesterov is missing", "SGD", "w",
        lambda: SGD(0.1, momentum=0.9, nesterov=True), checker="check_optimizer"),
    Bug("shards-mean-of-means", "the batch gradient is the mean of the means of uneven shards", "dense_2", "kernel",
        _square, _ROW, checker="check_determinism"),
    Bug("threads-decide-order", "a sum is split into one part for each thread", "dense_2", "kernel",
        lambda: [Dense(9), Tanh(), Dense(9), Tanh(), Dense(1), Sigmoid()], _ROW, checker="check_determinism",
        engine="fast"),
    Bug("dropout-new-mask", "each call draws a new mask, although the step is the same", "dropout_1", "output",
        lambda: [Dense(6), Dropout(0.5), Dense(1), Sigmoid()], _ROW, checker="check_determinism"),
    Bug("batch-mean", "a layer subtracts the batch mean, so the samples depend on each other", "tanh_2", "output",
        _square, _ROW, checker="check_determinism"),
    Bug("batch-norm-predicts-from-batch", "prediction takes mean and variance of its batch, not the moving ones",
        "batch_normalization_1", "output", _normalized(), _CONV, checker="check_determinism"),
    Bug("rows-left-over", "rows of an earlier, larger batch are included in a sum", "dense_2", "kernel", _square, _ROW,
        checker="check_determinism"),
]}


def get_bug(name):
    """Return the Bug of this name.

    >>> get_bug("kernel-flipt")
    Traceback (most recent call last):
    minicnn.errors.InputError: bug: there is none called 'kernel-flipt'. Did you mean 'kernel-flipped'? ...
    """
    if name not in BUGS:
        raise InputError(f"bug: there is none called {name!r}.{nearest(name, BUGS)} "
                         "`minicnn gradcheck --list-bugs` lists them.")
    return BUGS[name]


@contextmanager
def inject(name, subject, layer=None):
    """Inject a bug into `subject` inside the `with`, and remove it afterwards.

    Parameters
    ----------
    name : str, a key of BUGS
    subject : a Sequential in float64, or an optimizer for a bug of optimizers
    layer : str, the name of the layer; by default the last of the right type

    Raises InputError if the bug cannot be injected into the subject.

    >>> model = Sequential([Dense(2), ReLU(), Dense(1), Sigmoid()], (3,), dtype="float64", engine="reference")
    >>> with inject("relu-mask-of-gradient", model):
    ...     gradcheck(model).verdict()
    'network of 11 parameters: BUG at relu_1/x'
    >>> bool(gradcheck(model))
    True
    """
    bug = get_bug(name)
    with ExitStack() as stack:
        if bug.checker == "check_optimizer":
            if not hasattr(subject, "update"):
                raise InputError(f"{name}: this is a bug of optimizers, and {type(subject).__name__} is not one.")
            _replace(stack, subject, "update", mistakes.OPTIMIZERS[name](subject))
        elif bug.layer.endswith(("crossentropy", "error")):
            _into_loss(stack, bug, subject)
        else:
            _into_layer(stack, bug, subject, layer)
        yield subject


def demonstrate(name, seed=0, engine=None):
    """Inject a bug into a small model, and return the report of its checker.

    >>> print(demonstrate("dense-kernel-transposed").bugs[0].cause)
    these are the right numbers transposed; 5 more of this array are wrong
    """
    bug = get_bug(name)
    engine = bug.engine or engine or "reference"
    if bug.checker == "check_optimizer":
        with inject(name, bug.layers()) as optimizer:
            return check_optimizer(optimizer, engine=engine, seed=seed)
    if bug.checker == "check_determinism":
        with ExitStack() as stack:
            return check_determinism(lambda: stack.enter_context(inject(name, _model(bug, seed, engine), bug.layer)),
                                     seed=seed)
    x = draw(uniforms, seed, 1, (bug.N, *bug.input_shape))
    if bug.flat:
        x[:, 1:] = 0.5
    with inject(name, _model(bug, seed, engine), bug.layer) as model:
        return gradcheck(model, x=x, seed=seed)


def _model(bug, seed, engine):
    model = Sequential(bug.layers(), bug.input_shape, seed=seed, dtype="float64", engine=engine)
    model.compile(SGD(), loss=bug.loss)
    return model


def _replace(stack, owner, attribute, value):
    """Set an attribute of one object until the stack is closed."""
    kept = vars(owner).get(attribute, _replace)         # a method is an attribute of the class: nothing to restore
    setattr(owner, attribute, value)
    stack.callback(lambda: delattr(owner, attribute) if kept is _replace else setattr(owner, attribute, kept))


def _into_loss(stack, bug, model):
    loss = get_loss(getattr(model, "loss", None) or bug.loss)
    if loss.operation not in mistakes.OPERATIONS[bug.name]:
        raise InputError(f"{bug.name}: this is a bug of {bug.loss}, the model's loss is {loss.name}.")

    class Wrong(type(loss)):
        def __call__(self, ops, *arguments):
            return super().__call__(_Operations(ops, mistakes.OPERATIONS[bug.name]), *arguments)
    _replace(stack, model, "loss", Wrong())


def _into_layer(stack, bug, model, name):
    network = getattr(model, "network", model)
    if network.dtype != np.float64:
        raise InputError(f"{bug.name}: expected a model of dtype float64, got {network.dtype}. gradcheck checks a copy "
                         "of other models, which would not have the bug.")
    kind = next(type(layer) for layer in _model(bug, 0, "reference").layers if layer.name == bug.layer)
    fitting = [layer for layer in network.layers if type(layer) is kind and name in (None, layer.name)]
    if not fitting:
        raise InputError(f"{bug.name}: this is a bug of {kind.__name__}, and the model has none"
                         + (f" called {name!r}." if name else "."))
    layer = fitting[-1]
    fused = [step for step in network.steps if len(step.layers) > 1 and layer in step.layers]
    if bug.name in mistakes.OPERATIONS:
        wrong = _Operations(layer.ops, mistakes.OPERATIONS[bug.name])
        _replace(stack, layer, "_ops", wrong)
        for step in fused:
            _replace(stack, step, "ops", wrong)
        return
    wrong = mistakes.LAYERS[bug.name](network, layer)
    if fused and layer in wrong:
        raise InputError(f"{bug.name}: {layer.name!r} runs in one step with its neighbours. Make the model with "
                         "engine='reference', where it runs alone.")
    for owner, methods in wrong.items():
        for method, function in methods.items():
            for one in (owner, *(step for step in network.steps if step.layers == [owner])):
                _replace(stack, one, method, function)


class _Operations:
    """An engine in which some operations of `reference` are replaced, also where other operations call them.

    Every function of `reference` is copied into a namespace with the replacements, so that `conv2d_input_gradient` and
    the fused operations use a wrong `col2im`. The package itself does not change. Operations that use none of the
    replacements are those of the engine.
    """

    def __init__(self, ops, replacements):
        self._ops, self._names = ops, _callers_of(set(replacements))
        self._namespace = _reference_names()
        for name, function in self._namespace.items():
            if isinstance(function, FunctionType):
                self._namespace[name] = FunctionType(function.__code__, self._namespace, name, function.__defaults__)
        self._namespace.update(replacements)

    def __getattr__(self, name):
        if name not in self._names:
            return getattr(self._ops, name)
        return filling(self._namespace[name])


def _reference_names():
    """Return {name: value} of all names in the files of the package reference together."""
    names = {}
    for module in (reference, fusion):
        for name in module.__all__:
            names |= getattr(module, name).__globals__
    return names


def _callers_of(names):
    """Return `names` and the names of all functions of `reference` that call one of them, directly or not."""
    while True:
        callers = {name for name, function in _reference_names().items()
                   if isinstance(function, FunctionType) and names & set(function.__code__.co_names)}
        if callers <= names:
            return names
        names = names | callers
