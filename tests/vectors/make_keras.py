"""Freeze what Keras on TensorFlow computes for the cases of `cases.py` into `keras.safetensors`, and for the layers that
COV-19Net has no use for into `keras_further.safetensors`,
those of normalization into `keras_normalization.safetensors`, what training has beyond it into
`keras_training.safetensors`, and networks that are graphs into `keras_graphs.safetensors`.

Run by hand from the root of the checkout, in an environment with TensorFlow, safetensors and NumPy (it is not needed to
run the tests; last run with the versions in the file's metadata):

    python -m pip install -e . tensorflow-cpu==2.21.0 keras==3.15.1 safetensors
    python tests/vectors/make_keras.py [keras | keras_further | keras_graphs | ...]        # all by default

One thread and no time, host or path in the output: two runs on one machine write the same bytes.

Two models per network. `logits` ends in its last dense layer and trains with `BinaryCrossentropy(from_logits=True)`:
the clean comparison. `sigmoid` ends in a sigmoid and trains with `BinaryCrossentropy()`, as the paper's code would: in
`train_on_batch` Keras recognises the sigmoid in front of the loss and goes back to its logits, so both train alike.
`saturated/bias` is the witness: at z = 50, t = 0 a loss from clipped probabilities would have no gradient there.
"""

import os

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", TF_ENABLE_ONEDNN_OPTS="0", KERAS_BACKEND="tensorflow",
                  CUDA_VISIBLE_DEVICES="")

import sys
from pathlib import Path

import cases
import keras
import numpy as np
import safetensors
import tensorflow as tf
from keras import layers
from safetensors.numpy import save_file


def make_model(name, final_sigmoid):
    """Return a compiled network of `cases.NETWORKS` with the weights of `cases.weights`."""
    network = cases.NETWORKS[name]
    stack = [layers.Input(network.input_shape)]
    for kind, *options in network.layers:
        if kind == "conv":
            stack.append(layers.Conv2D(options[0], options[1], padding=options[2]))
        else:
            stack.append({"relu": layers.ReLU, "max_pool": layers.MaxPooling2D, "flatten": layers.Flatten,
                          "dense": layers.Dense}[kind](*options))
    if final_sigmoid:
        stack.append(layers.Activation("sigmoid"))
    model = keras.Sequential(stack)
    model.set_weights(cases.weights(name))
    # Without XLA: its fusions would be one more thing to differ by a rounding.
    model.compile(keras.optimizers.Adam(learning_rate=cases.LEARNING_RATE), jit_compile=False,
                  loss=keras.losses.BinaryCrossentropy(from_logits=not final_sigmoid))
    return model


def freeze_network(out, name):
    """Record logits, loss and gradients on the first batch, then the weights after whole Adam steps, both models."""
    prefix, steps = f"{name}/float32", cases.NETWORKS[name].steps
    x, t = cases.batch(name, 0)
    model = make_model(name, final_sigmoid=False)
    with tf.GradientTape() as tape:
        z = model(x, training=True)
        loss = model.loss(t, z)
    gradients = [g.numpy() for g in tape.gradient(loss, model.trainable_variables)]
    record(out, prefix, logits=z.numpy(), loss=np.float64(loss.numpy()),
           probabilities=make_model(name, final_sigmoid=True).predict_on_batch(x))
    for index, gradient in enumerate(gradients):
        out[f"{prefix}/gradient/{index}"] = cases.sampled(gradient)
        out[f"{prefix}/gradient_max/{index}"] = np.float64(abs(gradient).max())
    record(out, prefix, **{f"after_{steps}_steps/{index}": cases.sampled(value)
                           for index, value in enumerate(trained(model, name))})
    record(out, prefix, **{f"sigmoid_model_after_{steps}_steps/{index}": cases.sampled(value)
                           for index, value in enumerate(trained(make_model(name, final_sigmoid=True), name))})


def trained(model, name):
    """Return the weights of `model` after one Adam step on each batch."""
    for step in range(cases.NETWORKS[name].steps):
        model.train_on_batch(*cases.batch(name, step))
    return model.get_weights()


def freeze_saturated(out):
    """Record the bias of a one-weight model with a final sigmoid after one SGD(1) step at z = 50, t = 0: -1."""
    model = keras.Sequential([layers.Input((1,)), layers.Dense(1), layers.Activation("sigmoid")])
    model.set_weights([np.full((1, 1), 50.0, np.float32), np.zeros(1, np.float32)])
    model.compile(keras.optimizers.SGD(1.0), loss=keras.losses.BinaryCrossentropy(), jit_compile=False)
    model.train_on_batch(np.ones((1, 1), np.float32), np.zeros((1, 1), np.float32))
    out["saturated/bias"] = model.get_weights()[1]


def freeze_optimizer(out, name, optimizer):
    """Record 320 parameters after each of five updates with the frozen gradients."""
    parameter, rows = keras.Variable(cases.optimizer_start()), []
    for gradient in cases.optimizer_gradients():
        optimizer.apply([tf.constant(gradient)], [parameter])
        rows.append(parameter.numpy().copy())
    out[f"optimizer/{name}/float32"] = np.stack(rows)


def freeze_layer(out, prefix, layer, x, dy_name, arrays=()):
    """Record y, dx and, for a layer with weights, dw and db, for the drawn gradient dy."""
    layer.build(x.shape)
    layer.set_weights(arrays)
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    dy = tf.constant(cases.layer_gradient(dy_name, tuple(y.shape)))
    dx, *dparameters = tape.gradient(y, [x, *layer.trainable_variables], output_gradients=dy)
    record(out, prefix, y=y.numpy(), dx=dx.numpy(), **{f"d{n}": g.numpy() for n, g in zip("wb", dparameters)})


def freeze_layers(out):
    """Record the layer table: convolutions, poolings, dense layers, activations, softmax."""
    for name, case in cases.CONVOLUTIONS.items():
        layer = layers.Conv2D(case.filters, case.kernel, strides=case.strides, padding=case.padding)
        freeze_layer(out, f"{name}/float32", layer, cases.layer_input(name, case.input_shape), name,
                     cases.convolution_weights(name))
    for name, case in cases.POOLINGS.items():
        options = dict(pool_size=case.pool_size, strides=case.strides, padding=case.padding)
        freeze_layer(out, f"max_{name}/float32", layers.MaxPooling2D(**options),
                     cases.tied_input(name, case.input_shape), name)
        freeze_layer(out, f"average_{name}/float32", layers.AveragePooling2D(**options),
                     cases.layer_input(name, case.input_shape), name)
    for name, (N, n_in, n_out) in cases.DENSE.items():
        freeze_layer(out, f"{name}/float32", layers.Dense(n_out), cases.layer_input(name, (N, n_in)), name,
                     cases.dense_weights(name))
    for name in cases.ACTIVATIONS:
        freeze_layer(out, f"{name}/float32", layers.Activation(name), cases.activation_input(), name)
    freeze_layer(out, "softmax/float32", layers.Softmax(), cases.class_logits()[0], "softmax")


def freeze_further(out):
    """Record y and dx of the layers that COV-19Net has no use for."""
    for name, case in cases.FURTHER.items():
        layer = layers.Activation(case.kind.lower()) if case.kind in ("Swish", "Softplus") else \
            getattr(layers, case.kind)(**case.arguments)
        freeze_layer(out, f"{name}/float32", layer, cases.further_input(name), name)


def normalization(kind, options):
    return {"batch": layers.BatchNormalization, "layer": layers.LayerNormalization}[kind](**options)


def freeze_normalization(out):
    """Record the layers of normalization, and a network with both."""
    freeze_normalizations(out)
    freeze_normalized_network(out)


def freeze_normalizations(out):
    """Record y, dx, the gradients of gamma and beta, and what batch normalization has of the moving statistics after."""
    for name, case in cases.NORMALIZATIONS.items():
        layer = normalization(case.kind, case.options)
        x = tf.constant(3 * cases.layer_input(name, case.input_shape) + 1)
        layer.build(x.shape)
        layer.set_weights(cases.normalization_weights(name, x.shape[-1], case.kind, case.options))
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=case.training)
        dy = tf.constant(cases.layer_gradient(name, tuple(y.shape)))
        dx, *dparameters = tape.gradient(y, [x, *layer.trainable_variables], output_gradients=dy)
        record(out, f"{name}/float32", y=y.numpy(), dx=dx.numpy(),
               **{f"d{variable.name}": gradient.numpy() for variable, gradient in zip(layer.trainable_variables, dparameters)},
               **{variable.name: variable.numpy() for variable in layer.non_trainable_variables})


def freeze_normalized_network(out):
    """Record what NORMALIZED computes in training and prediction, its gradients, and its weights after Adam's steps."""
    stack = [layers.Input(cases.NORMALIZED.input_shape)]
    for kind, *options in cases.NORMALIZED.layers:
        stack.append(layers.Conv2D(options[0], options[1], padding=options[2]) if kind == "conv" else
                     normalization(kind, {}) if kind in ("batch", "layer") else
                     {"relu": layers.ReLU, "max_pool": layers.MaxPooling2D, "flatten": layers.Flatten,
                      "dense": layers.Dense}[kind](*options))
    model = keras.Sequential(stack)
    model.compile(keras.optimizers.Adam(learning_rate=cases.LEARNING_RATE), jit_compile=False,
                  loss=keras.losses.BinaryCrossentropy(from_logits=True))
    model.set_weights(list(cases.normalized_weights().values()))
    x, t = cases.normalized_batch(0)
    record(out, "normalized/float32", predicted=model(x, training=False).numpy())
    with tf.GradientTape() as tape:
        loss = model.loss(t, model(x, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    record(out, "normalized/float32", loss=np.float64(loss.numpy()),
           **{f"gradient/{index}": gradient.numpy() for index, gradient in enumerate(gradients)})
    model.set_weights(list(cases.normalized_weights().values()))      # the pass in training has moved the statistics
    for step in range(cases.NORMALIZED.steps):
        model.train_on_batch(*cases.normalized_batch(step))
    record(out, "normalized/float32", predicted_after_3_steps=model(x, training=False).numpy(),
           **{f"after_3_steps/{name}": value for name, value in zip(cases.normalized_weights(), model.get_weights(), strict=True)})


def freeze_losses(out):
    """Record categorical cross-entropy from logits and mean squared error, with their gradients."""
    for name, loss, (y, t), gradient in (
            ("categorical_crossentropy", keras.losses.CategoricalCrossentropy(from_logits=True),
             cases.class_logits(), "dz"),
            ("mean_squared_error", keras.losses.MeanSquaredError(), cases.regression(), "dy")):
        y = tf.constant(y)
        with tf.GradientTape() as tape:
            tape.watch(y)
            value = loss(t, y)
        record(out, f"{name}/float32", loss=np.float64(value.numpy()), **{gradient: tape.gradient(value, y).numpy()})


def freeze_initializers(out):
    """Record the least, greatest and mean value and the variance of about 600,000 draws."""
    for name in cases.INITIALIZERS:
        for kind, shape in cases.INITIALIZER_SHAPES.items():
            repeats = -(-589_824 // int(np.prod(shape)))
            values = np.concatenate([keras.initializers.get({"class_name": name, "config": {"seed": seed}})(shape)
                                     .numpy().ravel() for seed in range(repeats)]).astype(np.float64)
            record(out, f"initializer/{name}/{kind}", count=np.int64(values.size), minimum=values.min(),
                   maximum=values.max(), mean=values.mean(), variance=values.var())


def record(out, prefix, **arrays):
    """Keep arrays under `prefix/name`."""
    for name, array in arrays.items():
        out[f"{prefix}/{name}"] = array


def freeze_all(out):
    """Record the networks, optimizers, layers, losses and initializers that COV-19Net has a use for."""
    for name in cases.NETWORKS:
        freeze_network(out, name)
    freeze_saturated(out)
    freeze_optimizer(out, "adam", keras.optimizers.Adam(learning_rate=cases.LEARNING_RATE))
    for name, (momentum, nesterov) in cases.SGD.items():
        freeze_optimizer(out, name, keras.optimizers.SGD(cases.SGD_LEARNING_RATE, momentum, nesterov))
    freeze_layers(out)
    freeze_losses(out)
    freeze_initializers(out)


def freeze_forms(out):
    """Record y, dx and the gradients of the parameters of each form of convolution, then a network of them."""
    kinds = {"MaxPool2D": layers.MaxPooling2D, "AveragePool2D": layers.AveragePooling2D}
    for name, case in cases.FORMS.items():
        layer = kinds.get(case.kind, getattr(layers, case.kind, None))(**case.arguments)
        x = tf.constant(cases.form_input(name))
        layer.build(x.shape)
        layer.set_weights(cases.form_weights(name, [w.shape for w in layer.weights]))
        dy = tf.constant(cases.layer_gradient(name, tuple(layer(x).shape)))

        def passed():
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x)
            return y, tape.gradient(y, [x, *layer.trainable_variables], output_gradients=dy)
        # TensorFlow has the gradient of groups on a CPU in compiled code alone.
        y, (dx, *gradients) = (tf.function(passed, jit_compile=True) if "groups" in case.arguments else passed)()
        record(out, f"{name}/float32", y=y.numpy(), dx=dx.numpy(),
               **{f"gradient/{i}": gradient.numpy() for i, gradient in enumerate(gradients)})

    model = keras.Sequential([layers.Input(cases.FORMS_BATCH[1:]),
                              *(kinds.get(kind, getattr(layers, kind, None))(**arguments)
                                for kind, arguments, _ in cases.FORMS_NETWORK)])
    model.set_weights(cases.form_weights("forms", [w.shape for w in model.get_weights()]))
    model.compile(keras.optimizers.Adam(learning_rate=cases.LEARNING_RATE), jit_compile=False,
                  loss=keras.losses.BinaryCrossentropy(from_logits=True))
    x, t = cases.forms_batch(0)
    with tf.GradientTape() as tape:
        z = model(x, training=True)
        loss = model.loss(t, z)
    gradients = tape.gradient(loss, model.trainable_variables)
    for step in range(cases.FORMS_STEPS):
        model.train_on_batch(*cases.forms_batch(step))
    record(out, "forms/float32", logits=z.numpy(), loss=np.float64(loss.numpy()),
           **{f"gradient/{i}": gradient.numpy() for i, gradient in enumerate(gradients)},
           **{f"after_{cases.FORMS_STEPS}_steps/{i}": value for i, value in enumerate(model.get_weights())})


def freeze_training(out):
    """Record what training has beyond COV-19Net's: optimizers, clipped gradients, smoothed labels, a penalty of weights."""
    for name, (kind, arguments) in cases.FURTHER_OPTIMIZERS.items():
        optimizer = getattr(keras.optimizers, kind)(**arguments)
        parameters = [keras.Variable(half) for half in np.split(cases.optimizer_start(), 2)]
        rows = []
        for gradient in cases.optimizer_gradients():
            optimizer.apply([tf.constant(half) for half in np.split(gradient, 2)], parameters)
            rows.append(np.concatenate([parameter.numpy() for parameter in parameters]))
        out[f"optimizer/{name}/float32"] = np.stack(rows)
    for name, kind in (("binary_crossentropy", keras.losses.BinaryCrossentropy),
                       ("categorical_crossentropy", keras.losses.CategoricalCrossentropy)):
        z, t = map(tf.constant, cases.smoothed_logits(name))
        with tf.GradientTape() as tape:
            tape.watch(z)
            value = kind(from_logits=True, label_smoothing=cases.LABEL_SMOOTHING)(t, z)
        record(out, f"smoothed_{name}/float32", loss=np.float64(value.numpy()), dz=tape.gradient(value, z).numpy())
    for frozen in (False, True):
        model = make_model("small", final_sigmoid=True)
        for layer in model.layers:
            if layer.weights:
                layer.kernel.regularizer = keras.regularizers.L2(cases.L2)
        model.layers[0].trainable = not frozen
        model.compile(keras.optimizers.Adam(learning_rate=cases.LEARNING_RATE), jit_compile=False,
                      loss=keras.losses.BinaryCrossentropy())
        losses = [model.train_on_batch(*cases.batch("small", step)) for step in range(cases.NETWORKS["small"].steps)]
        record(out, f"l2_frozen_{frozen}/float32", losses=np.float64(losses),
               tested=np.float64(model.test_on_batch(*cases.batch("small", 0))),
               **{str(i): cases.sampled(value) for i, value in enumerate(model.get_weights())})


def freeze_graphs(out):
    """Record outputs, loss, gradients and the weights after whole Adam steps of each graph, by the names of its layers."""
    def made(name):
        inputs, outputs = cases.GRAPHS[name].make(layers)
        model = keras.Model(inputs, outputs)
        names = cases.set_graph_weights(name, model.layers)
        one = len(outputs) == 1
        model.compile(keras.optimizers.Adam(cases.LEARNING_RATE), jit_compile=False,
                      loss=cases.GRAPHS[name].losses[0] if one else cases.GRAPHS[name].losses,
                      loss_weights=None if one else cases.GRAPHS[name].weights)
        return model, [model.get_layer(one) for one in names]

    for name, graph in cases.GRAPHS.items():
        model, named = made(name)
        x, targets = cases.graph_batch(name, 0, model.input_shape[1:])
        outputs = model.predict_on_batch(x)
        with tf.GradientTape() as tape:
            y = model(x, training=True)
            losses = [keras.losses.get(loss)(t, one) for loss, t, one in
                      zip(graph.losses, targets, y if isinstance(y, list) else [y])]
            loss = sum(weight * tf.reduce_mean(one) for weight, one in zip(graph.weights, losses))
        gradients = iter(tape.gradient(loss, [w for layer in named for w in layer.trainable_weights]))
        for i, one in enumerate(outputs if isinstance(outputs, list) else [outputs]):
            out[f"{name}/float32/output/{i}"] = one
        out[f"{name}/float32/loss"] = np.float64(loss.numpy())
        for layer in named:
            record(out, f"{name}/float32/gradient/{layer.name}",
                   **{str(i): next(gradients).numpy() for i in range(len(layer.trainable_weights))})
        model, named = made(name)
        for step in range(cases.GRAPH_STEPS):
            x, targets = cases.graph_batch(name, step, model.input_shape[1:])
            model.train_on_batch(x, targets[0] if len(targets) == 1 else targets)
        for layer in named:
            record(out, f"{name}/float32/after/{layer.name}", **{str(i): w for i, w in enumerate(layer.get_weights())})


FILES = {"keras_graphs": freeze_graphs, "keras_training": freeze_training, "keras_convolution": freeze_forms,
         "keras": freeze_all, "keras_further": freeze_further, "keras_normalization": freeze_normalization}


def main(*names):
    """Write the files of these names, by default all."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    for name in names or FILES:
        out = {}
        FILES[name](out)
        write(out, Path(__file__).with_name(f"{name}.safetensors"))


def write(out, path):
    """Write the recorded arrays to a file, with the versions."""
    # One metadata entry: safetensors writes several in no particular order, and equal runs should be equal bytes.
    versions = (f"tensorflow {tf.__version__}, keras {keras.__version__}, numpy {np.__version__}, "
                f"safetensors {safetensors.__version__}")
    save_file({key: np.asarray(array, order="C") for key, array in out.items()}, path, {"versions": versions})
    print(f"{path.name}: {len(out)} arrays, {path.stat().st_size:,} bytes, {versions}")


if __name__ == "__main__":
    main(*sys.argv[1:])
