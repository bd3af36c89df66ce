"""How a model is compiled, in Keras and here: the optimizer, the loss, and what the optimizer remembers."""

import numpy as np

from minicnn.core.arguments import Real, check
from minicnn.core.text import shortened
from minicnn.errors import InputError
from minicnn.interop.keras.layers import snake_case
from minicnn.keras_names import as_optimizer
from minicnn.losses import BinaryCrossentropy, get_loss
from minicnn.losses.further import CategoricalCrossentropy, MeanSquaredError
from minicnn.optimizers.adaptive import OPTIMIZERS

__all__ = ["compile_as", "compile_config", "optimizer_arrays"]

_ARGUMENTS = {"Adam": ("beta_1", "beta_2", "epsilon", "amsgrad"),
              "AdamW": ("beta_1", "beta_2", "epsilon", "amsgrad", "weight_decay"),
              "SGD": ("momentum", "nesterov"), "RMSprop": ("rho", "momentum", "epsilon")}
_CLIPPING = "clipnorm", "clipvalue", "global_clipnorm"
# {argument of Keras' optimizers that there is not here: what it may be}
_OFF = {"weight_decay": None, "use_ema": False, "gradient_accumulation_steps": None, "loss_scale_factor": None, "centered": False,
        "decay": 0.0, "is_legacy_optimizer": False}
_LOSSES = {"binary_crossentropy": BinaryCrossentropy, "categorical_crossentropy": CategoricalCrossentropy,
           "sparse_categorical_crossentropy": CategoricalCrossentropy, "mean_squared_error": MeanSquaredError,
           "mse": MeanSquaredError}


# ---- From Keras ------------------------------------------------------------------------------------------------------

def compile_as(model, config):
    """Compile a model as a config of Keras says: compile_config, or training_config of a legacy file.

    Metrics are minicnn's own. InputError where the optimizer or a loss is not here, or does not fit the model.
    """
    optimizer = config.get("optimizer", config.get("optimizer_config"))
    loss, weights = config.get("loss"), config.get("loss_weights")
    if isinstance(loss, dict) and "class_name" not in loss:
        loss = {name: _loss(one) for name, one in loss.items()}
    elif isinstance(loss, list):
        loss = [_loss(one) for one in loss]
    else:
        loss = _loss(loss)
    if not model.output_names:
        weights = None
        if isinstance(loss, (dict, list)) and len(loss) == 1:
            loss, = loss.values() if isinstance(loss, dict) else loss
    model.compile(_optimizer(optimizer), loss, loss_weights=weights)


def _optimizer(config):
    if isinstance(config, str):         # as it was given: "adam"
        return as_optimizer(config)
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
        raise InputError(f"its optimizer is {shortened(repr(config), 60)}")
    kind, given = str(config.get("class_name")).rpartition(">")[2], config["config"]
    if kind == "Adam" and given.get("weight_decay"):        # Keras decays beside the gradient, as AdamW does
        kind = "AdamW"
    if kind not in OPTIMIZERS:
        raise InputError(f"its optimizer is {shortened(kind, 60)}")
    for name, off in _OFF.items():
        if given.get(name, off) not in (off, None, False, 0) and name not in _ARGUMENTS[kind]:
            raise InputError(f"its optimizer has {name}={shortened(repr(given[name]), 60)}")
    arguments = {name: given[name] for name in (*_ARGUMENTS[kind], *_CLIPPING) if given.get(name) is not None}
    rate = given.get("learning_rate", given.get("lr"))
    return OPTIMIZERS[kind](check("its optimizer", "learning_rate", rate, Real(0, brackets="()")), **arguments)


def _loss(config):
    name, given = config, {}
    if isinstance(config, dict):
        name, given = config.get("class_name"), config.get("config")
        given = given if isinstance(given, dict) else {}
        if name == "function":          # Keras 3 writes a function so
            name, given = config.get("config"), {}
    name = snake_case(name) if isinstance(name, str) else None
    if name not in _LOSSES:
        raise InputError(f"its loss is {shortened(repr(config), 80)}")
    if given.get("from_logits"):
        raise InputError(f"its loss {name} takes logits: put the activation behind the model, and compile it")
    if given.get("ignore_class") is not None or given.get("reduction", "auto") not in ("sum_over_batch_size", "auto"):
        raise InputError(f"its loss {name} has arguments that are not here")
    smoothing = given.get("label_smoothing") or 0.0
    return _LOSSES[name](smoothing) if smoothing else get_loss(_LOSSES[name].operation)


# ---- To Keras --------------------------------------------------------------------------------------------------------

def compile_config(model, output_names):
    """Return Keras' compile_config for a model; `output_names` are those of the outputs in Keras.

    Raises
    ------
    InputError
        where Keras has not the optimizer or a loss
    """
    kind = type(model.optimizer).__name__
    if OPTIMIZERS.get(kind) is not type(model.optimizer):
        raise InputError(f"the optimizer {kind} is your own")
    if getattr(model.optimizer, "epsilon_mode", "keras") != "keras":
        raise InputError(f"{kind} has epsilon_mode={model.optimizer.epsilon_mode!r}, Keras' is 'keras'")
    arguments = {name: getattr(model.optimizer, name) for name in ("learning_rate", *_ARGUMENTS[kind], *_CLIPPING)}
    several = model.loss.weights is not None
    losses = [_loss_config(output.loss) for output in model.loss.outputs] if several else _loss_config(model.loss)
    return {"optimizer": {"module": "keras.optimizers", "class_name": kind, "config": {"name": kind.lower()} | arguments,
                          "registered_name": None},
            "loss": losses if not several else dict(zip(output_names, losses)),
            "loss_weights": dict(zip(output_names, model.loss.weights)) if several else None,
            "metrics": None if several or model.loss.head is None else ["accuracy"], "weighted_metrics": None, "run_eagerly": False,
            "steps_per_execution": 1, "jit_compile": False}


def _loss_config(loss):
    kind = type(loss)
    if kind not in _LOSSES.values():
        raise InputError(f"the loss {kind.__name__} is your own")
    if not loss.label_smoothing:
        return loss.operation
    return {"module": "keras.losses", "class_name": kind.__name__, "registered_name": None,
            "config": {"name": loss.operation, "reduction": "sum_over_batch_size", "from_logits": False,
                       "label_smoothing": loss.label_smoothing, "axis": -1}}


def optimizer_arrays(model, parameters):
    """Return {name: array} of what Keras' optimizer remembers: the step, the learning rate, and the slots of each parameter.

    `parameters` are those that Keras trains, in its order.
    """
    optimizer = model.optimizer
    state, slots = optimizer.state(model.network.parameters), [[slot] for slot in optimizer.slots]
    if "m" in optimizer.slots:                          # Adam's: m and v of each parameter together, then v_hat of each
        slots = [["m", "v"], *slots[2:]]
    elif not optimizer.momentum:
        slots.remove(["velocity"])
    place = {id(parameter): i for i, parameter in enumerate(model.network.parameters)}
    arrays = [np.int64(optimizer.t), np.float32(optimizer.learning_rate)]
    for together in slots:
        arrays += [state[slot][place[id(parameter)]] for parameter in parameters for slot in together]
    return {str(i): array for i, array in enumerate(arrays)}
