"""Model and Sequential, the public API of the library: they check what users pass in, and connect the other modules."""

import copyreg
import functools
import hashlib
import math
import warnings
from contextlib import closing
from itertools import product
from pathlib import Path

import numpy as np

from minicnn import checkpoint, model_data, weights
from minicnn.callbacks import Callbacks, Checkpoint, CSVHistory, History, as_callbacks, check_monitors
from minicnn.callbacks.base import say
from minicnn.checkpoint import Position
from minicnn.core import signals
from minicnn.core.arguments import Flag, Having, OneOf, OrNone, Real, Whole, check
from minicnn.core.backend import ENGINES, default_engine
from minicnn.core.files import keep_as
from minicnn.core.locks import Lock
from minicnn.core.memory import split
from minicnn.core.parameter import Parameter
from minicnn.core.processes import Alone
from minicnn.core.random import check_seed
from minicnn.core.text import grid
from minicnn.core.validation import as_array, check_finite
from minicnn.data.batches import Batches, is_batches
from minicnn.data.labels import check_classes
from minicnn.data.loader import ArrayDataset, check_scale, load, schedule
from minicnn.errors import DTypeError, InputError, ShapeError, WeightsError, nearest, printable
from minicnn.keras_names import as_loss, as_metrics, as_optimizer, in_order, is_told, one_of, refuse
from minicnn.layers.base import LAYERS, Layer
from minicnn.layers.custom import CustomStep, check_protocol
from minicnn.layers.naming import name_layers
from minicnn.layers.nodes import Input, Node, chain, connect, inferred, inside, ordered
from minicnn.network import Network
from minicnn.optimizers import Optimizer
from minicnn.training import Trainer

__all__ = ["Model", "Sequential", "load_model"]


def _in_all_processes(method):
    """Let a method have the processes that train together as its argument `distributed`: an error in one is one in all."""
    @functools.wraps(method)
    def run(self, *arguments, distributed=None, **others):
        group = check(method.__name__, "distributed", distributed, OrNone(Having("together", "a distributed.MPI()"))) or Alone()
        with group.together():
            return method(self, *arguments, distributed=group, **others)
    return run


class Model:
    """A network of layers: build it, compile it, fit it, ask it. Sequential is the one whose layers stand in a row.

    Several threads may ask it: one is served at a time. So may a forked child, whatever other threads were doing, with the
    weights of that moment. `copy.deepcopy` and `pickle` keep all of it, optimizer and history too, and what they give goes
    on with the same bits. Hand out the file of `save`: a pickle can run code when it is read.

    Parameters
    ----------
    inputs : node that `Input` returned, or a list of them
    outputs : node that layers made of them (layers/nodes.py), or a list
    seed : int from 0 to 2**64 - 1; decides initial weights, shuffling, augmentation and dropout
    dtype : "float32" or "float64"
    engine : "fast" (numba) or "reference" (NumPy, to learn and to debug); `$MINICNN_ENGINE` or "fast" where None
    classes : names of the classes in the order of the outputs, optional; a manifest brings its own

    Attributes
    ----------
    history : list of dict, one an epoch
    split_digest : str, the SHA-256 of which image was in which split, or None (evaluation/test_access.py)
    input_names, output_names : tuples of str, where there are several inputs or outputs; else empty
    input_range : (least, greatest) value of the images that it was trained on, or None where it is not known
    position : Position (checkpoint.py) in the middle of an epoch whose training was interrupted, else None

    Raises
    ------
    ShapeError
        if the layers do not fit together, naming the layer and, for images too small, the least size that fits
    InputError
        if an output is not made of these inputs alone, or a layer stands in two places

    Examples
    --------
    >>> from minicnn import Add, Conv2D, Input
    >>> x = Input((8, 8, 3))
    >>> y = Conv2D(3, 3, padding="same")(x)
    >>> model = Model(x, Add()([x, y]))
    >>> model.output_shape, [layer.name for layer in model.layers]
    ((8, 8, 3), ['conv2d_1', 'add_1'])

    With several outputs, `compile` takes a loss for each, and a weight of each; targets and predictions are lists:

    >>> from minicnn import Dense, Flatten
    >>> features = Flatten()(y)
    >>> model = Model(x, [Dense(1, activation="sigmoid", name="covid")(features), Dense(2, name="place")(features)])
    >>> model.compile("adam", loss={"covid": "binary_crossentropy", "place": "mse"}, loss_weights=[1, 0.5])
    >>> _ = model.fit(np.ones((2, 8, 8, 3)), {"covid": [0, 1], "place": np.zeros((2, 2))}, progress=False)
    >>> [y.shape for y in model.predict(np.ones((3, 8, 8, 3)))]
    [(3, 1), (3, 2)]
    """

    input_names = output_names = ()

    def __init__(self, inputs, outputs, seed=0, dtype="float32", engine=None, classes=None):
        ends = [list(nodes) if isinstance(nodes, (list, tuple)) else [nodes] for nodes in (inputs, outputs)]
        for argument, nodes in zip(("inputs", "outputs"), ends):
            strange = [node for node in nodes if not isinstance(node, Node)]
            if strange or not nodes or len(set(nodes)) < len(nodes):
                got = f"{type(strange[0]).__name__}" if strange else "one of them twice" if nodes else "none"
                raise InputError(f"Model: expected {argument} to be a node, such as Input((64, 64, 3)) or what a layer "
                                 f"returns for it, or a list of nodes, got {got}.")
        self._prepare(seed, dtype, engine, classes)
        self._build(*ends)

    def _prepare(self, seed, dtype, engine, classes):
        """Check and keep what a network is built with; it has none yet."""
        name = type(self).__name__
        self.seed = check_seed(seed)
        try:
            self.dtype = np.dtype(dtype)
        except TypeError:
            self.dtype = None
        if self.dtype not in (np.float32, np.float64):
            raise DTypeError(f"{name}: dtype must be 'float32' or 'float64', got {dtype!r}.")
        self.engine = check(name, "engine", default_engine() if engine is None else engine, OneOf(ENGINES))
        self.classes = None if classes is None else check_classes(classes)
        self.preprocessing = None
        self.optimizer = self.loss = self.metrics = None
        self.history = []
        self.training_digests = self.split_digest = self.position = self.input_range = None
        self._trainer = None
        self._lock = Lock()                 # the layers' buffers serve one caller at a time

    def _build(self, inputs, outputs):
        """Build the network between nodes; several inputs, and several outputs, are one row for it (layers/ends.py)."""
        nodes = ordered(outputs)
        strange = [node for node in nodes if node.layer is None and node not in inputs]
        unused = [node for node in inputs if node not in nodes or node in outputs]
        if strange or unused:
            what = f"another input, {strange[0]!r}" if strange else f"no layer that takes {unused[0]!r}"
            raise InputError(f"{type(self).__name__}: the output must be made of the input "
                             f"{', '.join(map(repr, inputs))}, there is {what}.")
        made, row = [node for node in nodes if node not in inputs], inputs[0]
        number = {row: 0}
        if len(inputs) > 1 or len(outputs) > 1:
            from minicnn.layers.ends import InputLayer, Outputs
            made += [Node(Outputs(), outputs, None)] * (len(outputs) > 1)
            if len(inputs) > 1:
                first = np.cumsum([0] + [math.prod(node.shape[1:]) for node in inputs]).tolist()
                row = Node(None, (), (None, first[-1]))
                taken = [Node(InputLayer(i, node.shape[1:], node.name), (row,), node.shape) for i, node in zip(first, inputs)]
                made, number = taken + made, {row: 0} | {node: i for i, node in enumerate(inputs, 1)}
        layers = tuple(node.layer for node in made)
        check_protocol(layers)
        name_layers([(*node.blocks, node.layer) for node in made], type(self).__name__)
        number |= {node: i for i, node in enumerate(made, 1)}
        self._make(layers, row.shape[1:], [[number[source] for source in node.sources] for node in made])

    def _make(self, layers, input_shape, sources=None):
        try:
            self.network = network = Network(layers, input_shape, self.seed, self.dtype, self.engine, CustomStep, sources)
        except ShapeError as error:
            raise ShapeError(f"{error}{_least_size(layers, input_shape, sources)}") from None
        self.input_names = tuple(layer.name for layer in layers if type(layer) is LAYERS.get("InputLayer"))
        self.output_names = ()
        if len(network.outputs) > 1:
            self.output_names = tuple(_output_name(network, value - 1) for value in network.outputs)

    def __call__(self, x):
        """Return what the layers make of a node, as a block of another network; or of a batch, its outputs."""
        given = list(x.values() if isinstance(x, dict) else x) if isinstance(x, (list, tuple, dict)) else [x]
        if not given or not isinstance(given[0], Node):
            return self.predict(x)
        if self.input_names:
            given = [None, *in_order(x, self.input_names, type(self).__name__, "nodes")]
        nodes, inputs = given[:1], len(self.input_names)
        with inside(self):
            for i, (layer, sources) in enumerate(zip(self.layers, self.network.sources)):
                taken = [nodes[source] for source in sources]
                if self.output_names and i == len(self.layers) - 1:
                    return taken
                nodes.append(given[i + 1] if i < inputs else connect(layer, taken if len(taken) > 1 else taken[0]))
        return nodes[-1]

    def __getstate__(self):
        """What a copy and a pickle keep: all but what is made of the rest. It waits for a `fit` of another thread."""
        with self._lock:
            return vars(self) | {"_trainer": None, "_shared": _shared_arrays(self.network)}

    def __setstate__(self, state):
        shared = state.pop("_shared")
        vars(self).update(state)
        for layer, attribute, parameter, name in shared:
            setattr(layer, attribute, getattr(parameter, name))
        if self.optimizer is not None:
            self._trainer = Trainer(self.network, self.loss, self.optimizer, signals.check, self.metrics)
            if isinstance(self.optimizer, Optimizer) and self.optimizer.t:
                self.optimizer.restore(self.optimizer.t, self.optimizer.state(self.network.parameters))

    @property
    def layers(self):
        """The layers, a tuple."""
        return self.network.layers

    @property
    def trainable(self):
        """Whether training changes any weights; setting it sets that of every layer, before `compile` or later."""
        return any(getattr(layer, "trainable", True) for layer in self.layers)

    @trainable.setter
    def trainable(self, value):
        value = check("model", "trainable", value, Flag())
        for layer in self.layers:
            layer.trainable = value

    @property
    def input_shape(self):
        """The shape of the input without N; of several inputs a list of shapes."""
        if not self.input_names:
            return self.network.input_shape
        return [layer.output_shape for layer in self.layers[:len(self.input_names)]]

    @property
    def output_shape(self):
        """The shape of the output without N; of several outputs a list of shapes."""
        network = self.network
        return [network.shapes[value] for value in network.outputs] if self.output_names else network.output_shape

    def compile(self, optimizer="rmsprop", loss=None, *, metrics=None, loss_weights=None, **others):
        """Choose how to train: an optimizer ("adam", "rmsprop", "sgd", or an object such as Adam(1e-4)), and a loss.

        "binary_crossentropy" wants a final Sigmoid, "categorical_crossentropy" a final Softmax; both are folded into the
        loss, which is computed from the logits. "mean_squared_error" takes the outputs as they are, "margin" the lengths of capsules.

        Parameters
        ----------
        loss : a name or a Loss; for several outputs one for all, a list, or a dict by the names of the output layers
        metrics : list of "accuracy", "auc", "precision", "recall", "specificity", "f1", optional; what each epoch is
            measured with, in training and in validation. By default accuracy, and in validation AUC too. For several
            outputs one list for all, or a dict; history has main_loss, main_accuracy, ... for an output main
        loss_weights : list or dict of a number for each of several outputs: the loss is the sum of weight x loss
        """
        refuse(self.compile, others)
        optimizer, loss = as_optimizer(optimizer), as_loss(loss, self.output_names, self.output_shape, loss_weights)
        metrics = as_metrics(metrics, loss, self.output_shape)
        self._trainer = Trainer(self.network, loss, optimizer, signals.check, metrics)
        self.optimizer, self.loss, self.metrics = optimizer, loss, metrics

    @_in_all_processes
    def fit(self, x, t=None, batch_size=32, epochs=1, verbose=None, callbacks=(), validation_split=0.0,
            validation_data=None, shuffle=True, class_weight=None, sample_weight=None, initial_epoch=None,
            steps_per_epoch=None, validation_steps=None, *, y=None, validation=None, run=None, resume=False, workers=1,
            progress=True, distributed=None, **others):
        """Train for `epochs` more epochs, of which one that was interrupted in its middle is the first.

        Ctrl-C and SIGTERM end training after the batch under way, and leave the model whole; with `run`, saved. A
        second one ends the process at once. In a thread other than the main one they do what they do anyway.

        Parameters
        ----------
        x : array (N, ...), or a Manifest (with augmentation, if it has one), or a dataset of data/loader.py; or what gives
            batches (x, t) or (x, t, weights): a generator, or an object with __len__ and __getitem__ (data/batches.py).
            For several inputs a list of arrays, or a dict by their names
        t, or y : array of targets, where x is an array: (N,) or the shape of the outputs; for several outputs a list of
            them, or a dict
        batch_size, epochs : int >= 1
        callbacks : one Callback or several (callbacks/)
        validation_split : float in [0, 1); this share of the samples is not trained on but measured after each epoch. They
            are drawn by the seed, as many of each class; images of one patient stay together where a Manifest has patients
        validation, or validation_data : (x, t), a Manifest, a dataset or batches, measured after each epoch; in
            (x, t, weights) the weight of each sample counts in val_loss
        shuffle : bool; whether each pass has an order of its own
        class_weight : the weight of each class's samples in the loss: a dict from class names or numbers, where those left
            out weigh 1; a list or array, one for each class; or "balanced", n / (number of classes x n of the class)
        sample_weight : array (N,), the weight of each sample in the loss, times that of its class
        initial_epoch : int; the number of epochs trained before, of which `epochs` then counts the last
        steps_per_epoch : int >= 1, or None for one pass over the data. With a number, batches are always full and run
            on through the shuffled data, epoch after epoch
        validation_steps : int >= 1; how many batches of a generator are validation data
        run : folder that receives last, previous and best.safetensors and history.csv after each epoch
        resume : bool; first take everything from last.safetensors in `run` if there is one (the learning rate, and what is
            frozen, too), and train until there are `epochs` epochs in all: the result is, to the bit, that without an
            interruption
        workers : int >= 0, threads that prepare batches ahead; never changes a result
        progress, or verbose : bool, report on stderr
        distributed : distributed.MPI, of the processes that share each batch: all of them call fit with the same arguments, and
            get what one process would, to the bit. Rank 0 alone writes and reports; callbacks of your own see their rank
            in `reports`

        Returns
        -------
        History of these epochs; epochs go on counting from earlier calls

        Raises
        ------
        NonFiniteError
            in the step where the loss or a gradient becomes NaN or infinite; the weights are those before that step
        Interrupted (a KeyboardInterrupt, signals.py)
            after a signal; `fit` with the same arguments goes on, as does, in another process, the model that was saved
        WeightsError
            with `resume`, if neither last nor previous.safetensors is whole
        InputError
            if an epoch was begun with other data or batches, the run is not of a model and callbacks like these, a
            generator ends early, or the processes of `distributed` were given different arguments or data
        DistributedError
            where the processes of `distributed` lose each other. An error of one is raised in all, and says which
        """
        refuse(self.fit, others)
        group = distributed
        trainer = self._compiled("fit")
        t, validation = one_of("fit", t=t, y=y), one_of("fit", validation=validation, validation_data=validation_data)
        progress = is_told(verbose, progress) and group.rank == 0
        epochs, batch_size = check("fit", "epochs", epochs, Whole()), _batch_size("fit", batch_size)
        steps_per_epoch = check("fit", "steps_per_epoch", steps_per_epoch, OrNone(Whole()))
        validation_split = check("fit", "validation_split", validation_split, Real(0, 1))
        if validation_split and (validation is not None or is_batches(x)):
            raise InputError("fit: validation_split is for arrays and manifests, in place of validation data. Give "
                             "validation data: validation_data=(x, y).")
        if initial_epoch is not None:
            if check("fit", "initial_epoch", initial_epoch, Whole(0)) != len(self.history) and not resume:
                raise InputError(f"fit: initial_epoch must be {len(self.history)}, the number of epochs that the model has "
                                 f"trained, got {initial_epoch}. Leave it out to train epochs more.")
            epochs = check("fit", "epochs - initial_epoch", epochs - initial_epoch, Whole())
        callbacks = as_callbacks(callbacks)
        check_monitors(callbacks, self._metrics_of_an_epoch(),
                       validation if validation is not None else validation_split or None)
        if resume and (run is None or hasattr(x, "__next__")):
            raise InputError("fit: resume=True needs the folder to go on with, run='...', and data that can be taken up "
                             "again: arrays, a Manifest, or an object with __len__ and __getitem__, not a generator.")
        with signals.handled(), self._lock:
            if not validation_split:            # which asks for patients, that rank 0 would have to send
                x = model_data.opened_once(self, x, group, "fit", workers, progress)
            validation = model_data.opened_once(self, validation, group, "fit, validation", workers, progress)
            if is_batches(x):
                data, targets, digests, measured = Batches(x, steps_per_epoch, "fit"), None, None, None
                if t is not None or sample_weight is not None or class_weight == "balanced":
                    raise InputError("fit: batches bring their targets and weights: leave out y and sample_weight, and give "
                                     "the weight of each class as a number.")
                begin = Position(None, None, data.steps, bool(shuffle) and not data.in_order)
            else:
                data, targets, weights, measured = model_data.training_data(self, x, t, sample_weight, validation_split, workers,
                                                                 progress)
                model_data.widen(self, data)
                digests, begin = _identities(data), Position(len(data), batch_size, steps_per_epoch, bool(shuffle))
                weights = model_data.sample_weights(self, class_weight, targets, weights)
            if validation is not None:
                measured = model_data.validation_data(self, validation, validation_steps, workers, progress)
            kept = self._go_on_with(Path(run), digests, group) if resume else None
            if kept is not None and targets is not None:
                check_scale(data, self.input_range, "fit")
            if digests is not None:
                self.training_digests = digests
            names = [type(callback).__name__ for callback in callbacks]
            if run is not None and group.rank == 0:
                callbacks = [Checkpoint(run), CSVHistory(Path(run) / "history.csv")] + callbacks
            if self.position is not None:
                self.position.check_same_epoch(begin)
            trainer = self._trainer_behind(data, trainer)
            if group.size > 1:
                group.check_batch_size("fit", batch_size if targets is not None else None)
                group.same("fit", **self._facts(data, targets, weights if targets is not None else None, measured), epochs=epochs,
                           batch_size=batch_size, steps_per_epoch=steps_per_epoch, shuffle=bool(shuffle), resume=resume,
                           class_weight=class_weight, callbacks=names)

            def batches(epoch, position):
                if targets is None:
                    with closing(data.epoch(epoch, position.batch, self.seed, position.shuffle, workers)) as given:
                        for name, batch in given:
                            images, x, t, w = model_data.one_batch(self, *batch, *[None] * (3 - len(batch)), name)
                            model_data.widen(self, images)
                            yield x[group.samples(len(x), self.network)], t, model_data.sample_weights(self, class_weight, t, w)
                    return
                steps = schedule(position.samples, position.batch_size, epoch - 1, position.steps_per_epoch, self.seed,
                                 position.shuffle, start=position.batch)
                with closing(load(data, steps, self.seed, workers, lambda n: group.samples(n, self.network))) as given:
                    for samples, x in given:
                        yield x, targets[samples], None if weights is None else weights[samples]
            epochs = epochs if resume else len(self.history) + epochs
            with signals.postponed():
                return History(group.trainer(trainer).fit(self, batches, begin=begin, validation=measured, batch_size=batch_size,
                                           epochs=epochs, callbacks=Callbacks(callbacks, kept, progress, group)))

    @_in_all_processes
    def predict(self, x, batch_size=32, verbose=None, steps=None, *, distributed=None, **others):
        """Return the outputs for x, in input order: probabilities after a Sigmoid or Softmax.

        Parameters
        ----------
        x : array (N, ...), a Manifest, a file name or a list of them, or batches, as for `fit`
        verbose : nothing is reported
        steps : int >= 1; how many batches of a generator to take
        distributed : distributed.MPI, of processes that all call predict for the same x, and predict a part of it each

        Returns
        -------
        ndarray, shape (N,) + output_shape: a copy; row i is the same bits whatever else is in the batch. For several
        outputs a list of them
        """
        refuse(self.predict, others)
        batch_size = _batch_size("predict", batch_size)
        x = Batches(x, steps, "predict", "steps").collected(1)[0] if is_batches(x) else x
        with self._lock:
            data = model_data.as_dataset(self, x, "predict")
            own = distributed.portion(len(data))
            network = self._network_behind(data)
            outputs = np.empty((own.stop - own.start,) + self.network.output_shape, self.dtype)
            for start in range(own.start, own.stop, batch_size):
                end = min(start + batch_size, own.stop)
                samples = slice(start, end) if isinstance(data, ArrayDataset) else np.arange(start, end)
                outputs[start - own.start:end - own.start] = network.predict(data.batch(samples))
            outputs = distributed.joined(outputs)
            return split(outputs, self.output_shape) if self.output_names else outputs

    def predict_on_batch(self, x):
        """Return the outputs for one batch."""
        one = in_order(x, self.input_names, "predict_on_batch", "arrays x")[0] if self.input_names else x
        return self.predict(x, len(one))

    def evaluate(self, x, t=None, batch_size=32, verbose=None, sample_weight=None, steps=None, *, y=None, return_dict=True,
                 **others):
        """Return the metrics of labelled data (metrics.py): accuracy, specificity, precision, recall, f1, auc, loss.

        Arguments as for `fit`; nothing is augmented. With return_dict=False, the list that Keras returns: the loss, then
        the metrics that the model was compiled with.
        """
        refuse(self.evaluate, others)
        trainer, t = self._compiled("evaluate"), one_of("evaluate", t=t, y=y)
        batch_size = _batch_size("evaluate", batch_size)
        if is_batches(x):
            x, t, sample_weight = Batches(x, steps, "evaluate", "steps").collected()
        with self._lock:
            data, targets = model_data.labelled(self, x, t, "evaluate")
            weights = model_data.weights_of_samples(sample_weight, len(targets), "evaluate", "sample_weight")
            measured = self._trainer_behind(data, trainer).evaluate(data, targets, batch_size, weights)
        names = self.loss.measured(self.metrics)
        return measured if return_dict else [measured[name] for name in names if name in measured]

    def train_on_batch(self, x, t=None, sample_weight=None, *, y=None, return_dict=False):
        """Update the weights once from one batch; return its mean loss before the update, or {"loss", "accuracy"}."""
        return self._on_batch(x, one_of("train_on_batch", t=t, y=y), sample_weight, "train_on_batch",
                              self._compiled("train_on_batch").step, return_dict)

    def test_on_batch(self, x, t=None, sample_weight=None, *, y=None, return_dict=False):
        """Return the mean loss of one batch as `evaluate` would, or {"loss", "accuracy"}."""
        trainer = self._compiled("test_on_batch")

        def measure(x, t, weights):
            z = self.network.forward(x, trainer.rows)
            return trainer.mean_loss(z, t, weights), trainer.outputs(z)
        return self._on_batch(x, one_of("test_on_batch", t=t, y=y), sample_weight, "test_on_batch", measure, return_dict)

    def loss_and_gradients(self, x, t, sample_weight=None):
        """Return (mean loss, [gradient of each parameter]) of one batch, copies, without an update; 0 where it is frozen."""
        loss = self._on_batch(x, t, sample_weight, "loss_and_gradients",
                              self._compiled("loss_and_gradients").loss_and_gradients)
        return loss, [p.grad.copy() if p.trainable else np.zeros_like(p.grad) for p in self.network.parameters]

    def trace(self, x, t=None):
        """Return what every layer computes for x, on real numbers (teaching/trace.py): print it, or write its `page`."""
        from minicnn.teaching.trace import trace
        with self._lock:
            return trace(self, model_data.as_dataset(self, x, "trace"), t)

    @property
    def weights(self):
        """All weights, a list of Parameter in the order of `get_weights`."""
        return [weight for _, weight in self.network.weights()]

    @property
    def trainable_weights(self):
        """Those that training changes, a list of Parameter."""
        self.network.note_frozen()
        return [parameter for parameter in self.network.parameters if parameter.trainable]

    def count_params(self):
        """Return how many numbers the weights hold."""
        return sum(weight.value.size for weight in self.weights)

    def get_layer(self, name=None, index=None):
        """Return the layer of this name, or with this number, counted from 0."""
        names = [layer.name for layer in self.layers]
        if (name is None) == (index is None):
            raise InputError("get_layer: give a name or an index.")
        if index is not None:
            return self.layers[check("get_layer", "index", index, Whole(-len(names), len(names) - 1))]
        if name not in names:
            raise InputError(f"get_layer: there is no layer {printable(repr(name))[:80]}, only {', '.join(names)}."
                             f"{nearest(name, names)}")
        return self.layers[names.index(name)]

    def get_config(self):
        """Return what a model file says of the layers: their types, names and arguments."""
        return checkpoint.architecture_of(self)

    def __repr__(self):
        kinds = [type(layer).__name__ for layer in self.layers]
        inside = ", ".join(kinds if len(kinds) < 9 else [*kinds[:4], "...", *kinds[-3:]])
        ends = [" and ".join(map(_by, shape if several else [shape])) for shape, several in
                ((self.input_shape, self.input_names), (self.output_shape, self.output_names))]
        return (f"<{type(self).__name__} of {len(kinds)} layers ({inside}), {' to '.join(ends)}, "
                f"{self.count_params():,} parameters>")

    def get_weights(self):
        """Return copies of all weights in Keras' order, by layer: kernel (KH, KW, C, F) or (in, out), then bias; the
        statistics of a layer, such as moving means, come after its parameters."""
        return [weight.value.copy() for weight in self.weights]

    def set_weights(self, arrays):
        """Set all weights from arrays in the order and shapes of `get_weights`; all or none."""
        named = self.network.named_weights()
        arrays = list(arrays)
        if len(arrays) != len(named):
            raise ShapeError(f"set_weights: expected {len(named)} arrays, got {len(arrays)}.")
        accepted = []
        for (name, parameter), array in zip(named.items(), arrays):
            array = np.array(as_array(array, "set_weights", name, parameter.value.dtype))     # it may be a parameter's own
            if array.shape != parameter.value.shape:
                raise ShapeError(f"set_weights: {name} has shape {parameter.value.shape}, got {array.shape}.")
            check_finite(array, "set_weights", name)
            accepted.append(array)
        with self._lock:
            for parameter, array in zip(named.values(), accepted):
                parameter.value[...] = array

    def summary(self, plan=False):
        """Print each layer with its output shape, parameters, FLOPs and bytes (Table I of the paper).

        With plan=True, also the steps in which the engine runs the layers.
        """
        print(self.summary_text(plan))

    def summary_text(self, plan=False):
        """Return what `summary` prints."""
        takes = [] if self.network.is_chain else ["takes"]
        rows = [("layer", "type", "output shape", "parameters", "FLOPs", "bytes", *takes)]
        shape = self.network.input_shape
        rows.append(("input", "", _by(shape), "0", "0", f"{math.prod(shape) * self.dtype.itemsize:,}", *[""] * len(takes)))
        for row in self.summary_rows():
            rows.append((row["name"], row["type"], _by(row["output_shape"]), f"{row['parameters']:,}",
                         "?" if row["flops"] is None else f"{row['flops']:,}", f"{row['bytes']:,}",
                         *[", ".join(row["takes"])] * len(takes)))
        total = sum(p.value.size for p in self.network.parameters)
        moving, learned = self.count_params() - total, sum(p.value.size for p in self.trainable_weights)
        flops = [row["flops"] or 0 for row in self.summary_rows()]
        lines = grid(rows, numbers=(3, 4, 5))
        rule = "-" * max(map(len, lines))
        lines[1:1] = [rule]
        lines += [rule, f"Total parameters: {total:,} ({'all' if learned == total else f'{learned:,}'} trainable; "
                  f"{total * self.dtype.itemsize:,} bytes as {self.dtype})"
                  + f", and {moving:,} moving statistics" * bool(moving),
                  f"Forward pass: {sum(flops) / 1e6:.1f} MFLOP an image; FLOPs and bytes are of one image, a multiply-add "
                  "counts as two"]
        if plan:
            heads = () if self.loss is None else self.loss.heads
            lines += ["", f"Plan of the {self.engine} engine ({'training step' if self.loss else 'not compiled'}):"]
            lines += [f"  {i:2d}  {' + '.join(step)}" for i, step in enumerate(self.network.plan(heads), 1)]
        return "\n".join(lines)

    def summary_rows(self):
        """Yield a dict for each layer: takes (names), name, type, output_shape, parameters, flops (None where unknown),
        bytes of the output."""
        names = ["input", *(layer.name for layer in self.layers)]
        for layer, shape, taken in zip(self.layers, self.network.shapes[1:], self.network.sources):
            yield {"takes": [names[value] for value in taken], "name": layer.name, "type": type(layer).__name__,
                   "output_shape": shape, "parameters": sum(p.value.size for p in getattr(layer, "parameters", ())),
                   "flops": layer.flops() if hasattr(layer, "flops") else None,
                   "bytes": math.prod(shape) * self.dtype.itemsize}

    def save(self, path):
        """Write the model to `path`, all or nothing: weights, architecture, classes, preprocessing, optimizer, history.

        The file is safetensors (weights.py); equal models are equal bytes. Custom layers are named in it, but
        `load` cannot make them: build the model in code and use `load_weights`. The umask decides who may read it.

        Raises
        ------
        CheckpointError
            if the file cannot be written; the old one is intact
        NonFiniteError
            if a weight is NaN or infinite
        """
        with self._lock:
            checkpoint.save(path, self, private=False)

    @staticmethod
    def load(path, engine=None, expect=None):
        """Read a model that `save` wrote: ready to predict, evaluate, and to go on training.

        `expect` is the SHA-256 of the file, as `sha256sum` prints it, where a forged one must be told from the true one.

        Raises
        ------
        WeightsError
            if the file is damaged, not a minicnn model, not the expected one, or holds custom layers
        """
        content = checkpoint.read(path, expect)
        with checkpoint.refusing(content.name):
            architecture = content.architecture
            chain = "sources" not in architecture
            model = object.__new__(Sequential if chain else Model)
            model._prepare(architecture["seed"], architecture["dtype"], engine, None)
            layers = content.layers()
            check_protocol(layers)
            name_layers([(layer,) for layer in layers], "Model", nested=True)
            model._make(tuple(layers), tuple(architecture["input_shape"]), architecture.get("sources"))
            if content.optimizer is not None:
                model.compile(content.optimizer, content.loss, metrics=content.metrics, loss_weights=content.loss_weights)
            model.classes, model.preprocessing = content.classes, content.preprocessing
            several = model.network.output_shape[-1] if model.output_shape != (1,) else 2
            if model.classes is not None and len(model.classes) != several:
                raise InputError(f"{len(model.classes)} classes for outputs of shape {model.output_shape}.")
            if model.preprocessing is not None and model.preprocessing.shape != model.input_shape:
                raise InputError(f"images are prepared to {model.preprocessing.shape}, the network takes {model.input_shape}.")
            model._take(content)
        return model

    def save_weights(self, path):
        """Write the weights alone to `path`, all or nothing, for `load_weights`; errors as of `save`."""
        with self._lock:
            checkpoint.save_weights(path, self.network)

    def load_weights(self, path):
        """Take the weights of a file that `save` or `save_weights` wrote; names and shapes must agree."""
        tensors, _ = weights.load(path)
        checkpoint.check_parameters(tensors, self.network, printable(path))
        self._take_parameters(tensors)

    # -- private --

    def _facts(self, data, targets, weights, measured):
        """Return what must be the same in all processes that train together: {name: value}."""
        def digest(*arrays):
            return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()[:16]

        facts = {"layers": checkpoint.architecture_of(self), "weights": digest(*self.get_weights()), "loss": self.loss.name,
                 "optimizer": self.optimizer.config(), "step": self.optimizer.t, "metrics": self.metrics}
        for name, (data, targets, *weights) in (("training", (data, targets, weights)), ("validation", measured or (None, None))):
            if targets is not None:
                some = np.unique(np.linspace(0, len(data) - 1, 16).astype(np.int64))
                facts |= {f"{name}_samples": len(data), f"{name}_data": digest(data.batch(some)), f"{name}_targets": digest(targets),
                          f"{name}_weights": [None if one is None else digest(one) for one in weights]}
        return facts

    def _network_behind(self, data):
        """Return the network that takes the samples of a dataset: of FrozenFeatures what is behind them (frozen.py)."""
        if not getattr(data, "begin", 0):
            return self.network
        from minicnn.frozen import Behind
        return Behind(self.network, data.begin)

    def _trainer_behind(self, data, trainer):
        network = self._network_behind(data)
        return trainer if network is self.network else Trainer(network, self.loss, self.optimizer, signals.check, self.metrics)

    def _compiled(self, verb):
        if self._trainer is None:
            raise InputError(f"{verb}: the model is not compiled. Call model.compile(Adam(), "
                             "loss='binary_crossentropy') first.")
        return self._trainer

    def _on_batch(self, x, t, sample_weight, verb, function, return_dict=False):
        _, x, t, sample_weight = model_data.one_batch(self, x, t, sample_weight, verb)
        with self._lock:
            loss, outputs = function(x, t, sample_weight)
            if not return_dict or not self.loss.classifies and not self.output_names:
                return {"loss": loss} if return_dict else loss
            if self.output_names:
                measured = self.loss.describe(outputs, t, loss)
                return {name: measured[name] for name in self.loss.measured(self.metrics) if name in measured}
            return {"loss": loss, "accuracy": self.loss.share_right(outputs, t)}

    def _metrics_of_an_epoch(self):
        """Return the names of what training measures in each epoch (training.py), with validation data."""
        validation = self.loss.measured(self.metrics, validation=True)
        if self.metrics is None and self.loss.head == "Sigmoid" and self.output_shape != (1,):
            validation = ["loss"]
        return [*self.loss.measured(self.metrics), *(f"val_{name}" for name in validation)]

    def _take(self, content):
        """Take arrays, history and position of a file's content that fits this model, all or nothing."""
        content.check_arrays(self.network)
        with self._lock:
            self._take_parameters(content.tensors)
            if content.optimizer is not None:
                self.optimizer.restore(*content.optimizer_arrays(self.network))
                self.optimizer.state(self.network.parameters)
            self.history, self.position = content.history, content.position
            if self.position is not None and "position/outputs" in content.tensors:
                self.position.keep(content.tensors["position/outputs"], content.tensors["position/targets"])
            self.training_digests, self.split_digest = content.tensors.get("training_images"), content.split
            self.input_range = content.input_range

    def _take_parameters(self, tensors):
        with self._lock:
            for key, weight in self.network.named_weights().items():
                weight.value[...] = tensors[key]

    def _go_on_with(self, run, digests, group):
        """Take the newest checkpoint of a run on images of these digests; return (stop, states) of its callbacks.

        Return None where it has none yet. Rank 0 of the group reads it.
        """
        content = group.broadcast(self._newest(run, digests) if group.rank == 0 else None)
        if content is None:
            return None
        self._take(content)
        self.optimizer.learning_rate = content.optimizer.learning_rate
        frozen = [config.get("trainable", True) for config in content.architecture["layers"]]
        other = [layer for layer, trainable in zip(self.layers, frozen) if getattr(layer, "trainable", True) != trainable]
        if other:
            names = ", ".join(layer.name for layer in other)
            warnings.warn(f"fit: going on with what was frozen in the run, which differs in {names}. To freeze others, "
                          "train on in another folder.", RuntimeWarning, stacklevel=5)
            for layer, trainable in zip(self.layers, frozen):
                layer.trainable = trainable
        return content.stop, content.states

    def _newest(self, run, digests):
        """Return the Content of a run's last.safetensors; of previous.safetensors, with a warning, where it is damaged."""
        last, previous = run / "last.safetensors", run / "previous.safetensors"
        if not last.exists() and not previous.exists():
            return None
        damage = None
        try:
            content = checkpoint.read(last)
        except WeightsError as error:
            if not previous.exists() or isinstance(error.__cause__, MemoryError):
                raise
            content, damage = checkpoint.read(previous), error
        content.check_goes_on(self, digests)
        if damage is not None:
            keep_as(previous, last)
            warnings.warn(f"{damage} Going on from {printable(previous)}, the epoch before.", RuntimeWarning,
                          stacklevel=6)
        return content


class Sequential(Model):
    """A network of layers in a row.

    Parameters
    ----------
    layers : list of layers (layers/, or your own) and blocks (layers/nodes.py); the first may be an `Input`
    input_shape : tuple of int, without N: (H, W, C) for images; where None, that of the `Input`
    seed, dtype, engine, classes : see Model

    Examples
    --------
    >>> from minicnn import Sequential, Flatten, Dense, Sigmoid, Adam
    >>> model = Sequential([Flatten(), Dense(1), Sigmoid()], input_shape=(2, 2, 1), seed=7, engine="reference")
    >>> model.compile(Adam(learning_rate=0.1), loss="binary_crossentropy")
    >>> x = np.array([0.0, 1.0]).reshape(2, 1, 1, 1) * np.ones((2, 2, 2, 1))
    >>> history = model.fit(x, [0, 1], epochs=50, progress=False)
    >>> (model.predict(x) > 0.5).ravel().tolist()
    [False, True]
    """

    _input = _parts = None

    def __init__(self, layers=None, input_shape=None, seed=0, dtype="float32", engine=None, classes=None):
        self._prepare(seed, dtype, engine, classes)
        self._input, self._parts, self._network = None, [], None
        if input_shape is not None:
            self._input = Input(input_shape, owner="Sequential", argument="input_shape")
        parts = [] if layers is None else list(layers)
        if layers is not None and not parts:
            raise InputError("Sequential: expected at least one layer, got none.")
        if parts and self._input is None and not _is_input(parts[0]):
            raise InputError("Sequential: expected the shape of the input: input_shape=(H, W, C), or Input((H, W, C)) as the "
                             "first of the layers.")
        self._extend(parts)

    @property
    def network(self):
        """The Network, built anew with each layer that is added."""
        if self._network is None:
            raise InputError("Sequential: it has no layers yet: model.add(Input((64, 64, 3))), then model.add(layer).")
        return self._network

    @network.setter
    def network(self, network):
        self._network = network

    def __repr__(self):
        return "<Sequential of 0 layers>" if self._network is None else super().__repr__()

    def __getstate__(self):
        """As of Model. What the layers were made of stays behind: a block may be a function that no pickle knows."""
        return super().__getstate__() | {"_input": None, "_parts": None}

    def add(self, layer):
        """Append a layer or a block, or, first of all, an `Input`. Weights that there are stay."""
        if self.optimizer is not None:
            raise InputError("add: the model is compiled. Add all layers before `compile`.")
        if self._parts is None:             # a copy, or read from a file
            if not self.network.is_chain:
                raise InputError("add: this copy has blocks, and does not know them any more. Add layers before copying.")
            self._input, self._parts = Input(self.input_shape), list(self.layers)
        if self._input is None and not _is_input(layer):
            raise InputError("add: the first must be an Input: model.add(Input((64, 64, 3))).")
        weights = [] if self._network is None else self.get_weights()
        self._extend([layer])
        if weights:
            for parameter, value in zip(self.network.named_weights().values(), weights):
                parameter.value = value

    def _extend(self, parts):
        """Append parts, and build the network again."""
        if self._input is None and parts and _is_input(parts[0]):
            self._input, parts = parts[0], parts[1:]
        elif parts and _is_input(parts[0]):
            raise InputError("Sequential: an Input stands first, and only there; this model has the shape of its input "
                             "already.")
        self._parts += parts
        if self._parts:
            self._build([self._input], [chain(self._parts, self._input, "Sequential", late=True)])


def _is_input(part):
    return isinstance(part, Node) and part.layer is None


def _batch_size(owner, batch_size):
    return 32 if batch_size is None else check(owner, "batch_size", batch_size, Whole())


def _parameter(name, owner, trainable, regularizer, value, grad):
    """Return a Parameter from what a copy or a pickle keeps: read-only arrays, as joblib may give, are copied."""
    parameter = Parameter(name, value, grad)
    parameter.owner, parameter.trainable, parameter.regularizer = owner, trainable, regularizer
    return parameter


copyreg.pickle(Parameter, lambda p: (_parameter, (p.name, p.owner, p.trainable, p.regularizer, p._value, p._grad)))


def _shared_arrays(network):
    """Return [(layer, attribute, Parameter, "value" or "grad")] where a custom layer holds an array of a parameter.

    A copy of the layer gets a copy of the array: it is to be that of the copied parameter.
    """
    shared = []
    for layer in network.layers:
        arrays = {} if type(layer) in LAYERS.values() else getattr(layer, "__dict__", {})
        arrays = [(attribute, array) for attribute, array in arrays.items() if isinstance(array, np.ndarray)]
        for (attribute, array), parameter, name in product(arrays, getattr(layer, "parameters", ()), ("value", "grad")):
            own = getattr(parameter, name)
            if own.__array_interface__ == array.__array_interface__:
                shared.append((layer, attribute, parameter, name))
            elif np.may_share_memory(own, array):
                raise InputError(f"layer {layer.name!r}: its {attribute} is a part of its {parameter.name}, which a copy "
                                 f"would not be. Take it from parameter.{name} where it is used.")
    return shared


def _identities(data):
    """Return the SHA-256 of a dataset's files and of their pixels, each once: (n, 32), uint8; None without files."""
    if data.digests is None:
        return None
    return np.unique(np.concatenate([data.digests, getattr(data, "pixel_digests", data.digests)]), axis=0)


def _output_name(network, i):
    """Return the name of layer i, or, where it is the activation of the layer before it (layers/affine.py), of that one."""
    name, before = network.layers[i].name, network.sources[i][0] - 1
    leader = network.layers[before].name if before >= 0 else None
    return leader if name == f"{leader}_activation" else name


def _by(shape):
    return " x ".join(map(str, shape))


def _least_size(layers, input_shape, sources=None, most=1024):
    """Return a sentence with the least square image that fits all layers, or an empty string where none does."""
    if len(input_shape) != 3 or not all(isinstance(layer, Layer) for layer in layers):
        return ""
    for size in range(min(input_shape[:2]) + 1, most + 1):
        try:
            inferred(layers, (size, size, input_shape[2]), sources)
        except ShapeError:
            continue
        return f" This network needs images of at least {size} x {size}; these are {input_shape[0]} x {input_shape[1]}."
    return ""


def load_model(path, engine=None, expect=None):
    """Read a model that `save` wrote: Model.load."""
    return Model.load(path, engine, expect)
