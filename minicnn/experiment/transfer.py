"""Transfer learning: the network of a config with weights of a file, its first layers frozen.

    weights of a minicnn model      by their names: all of the trunk, and of the head what has the same shape
    of Keras and of PyTorch         the trunk; the head is new. Pixels are scaled as those weights want it (networks/imagenet.py)

The trunk is what makes the last feature map; the head makes a vector of that, and the answer. What is said against a network, its
size, its weights and its memory is said before the data is read.
"""

import io
import math
from pathlib import Path

from minicnn import weights
from minicnn.core.available_memory import available_memory
from minicnn.core.files import open_regular
from minicnn.core.untrusted import Archive, raising
from minicnn.errors import InputError, WeightsError
from minicnn.experiment.evaluation_run import evaluated_weights
from minicnn.experiment.recipes import RECIPES
from minicnn.experiment.run_folder import RunFolder
from minicnn.interop.matching import Matching
from minicnn.layers import BatchNormalization
from minicnn.networks import NETWORKS, WITH_TRUNK, efficientnet, imagenet

__all__ = ["initial_model", "weights_file", "trunk_length", "check_memory"]

_IMAGENET = {"efficientnet_lite0": efficientnet.imagenet_weights}
_MOST_BYTES = 2**31


def initial_model(config, classes, file=None, recipe=None):
    """Return the compiled Model of a Config before its training: its network for these classes, with weights, frozen as it says.

    Parameters
    ----------
    config : Config
    classes : names of the classes
    file : path of the weights, where they are not those of `weights_file(config)`: a checkpoint of the run
    recipe : Recipe, where it is not the one that the config names

    Raises
    ------
    ShapeError : a size too small; it names the least that fits
    WeightsError : weights of another network; it holds the table of what did not match
    InputError : a layer to freeze that is not there
    """
    file = weights_file(config) if file is None else file
    tool = None if file is None else _tool(file)
    tensors = weights.load(file)[0] if tool == "minicnn" else {}
    scale = imagenet.pixels(config.network, tool) if tool in ("keras", "pytorch") else None
    if "pixels/moving_mean" in tensors:
        scale = tensors["pixels/moving_mean"], tensors["pixels/moving_variance"]**0.5
    model = _model(config, recipe or RECIPES[config.recipe], classes, scale)
    if tool == "minicnn":
        _take(model, tensors, config, Path(file))
    elif tool is not None:
        _take_of(model, config, file, tool)
    if config.freeze == "normalization":
        for layer in model.layers:
            layer.trainable = layer.trainable and not isinstance(layer, BatchNormalization)
        return model
    frozen = trunk_length(model) if config.freeze == "trunk" else config.freeze or 0
    learning = [i for i, layer in enumerate(model.layers) if layer.parameters]
    if frozen > learning[-1]:
        raise InputError(f"freeze: {config.network} has {len(model.layers)} layers, the last with weights is number "
                         f"{learning[-1] + 1}; freeze at most {learning[-1]}, got {frozen}. `minicnn summary` lists them.")
    for layer in model.layers[:frozen]:
        layer.trainable = False
    return model


def weights_file(config):
    """Return the Path of the file that a Config's weights lie in; None where it has none."""
    if config.weights is None:
        return None
    if config.weights == "imagenet":
        if config.network not in _IMAGENET:
            raise InputError(f"weights: no package brings weights for ImageNet of {config.network}, only of "
                             f"{', '.join(_IMAGENET)}. Name a file of Keras or PyTorch that has them.")
        return _IMAGENET[config.network]()
    path = Path(config.weights)
    return evaluated_weights(path, type(config).read(RunFolder(path))) if path.is_dir() else path


def trunk_length(model):
    """Return how many layers make the last feature map of a model over images: those before the last that makes a vector of one.

    >>> trunk_length(NETWORKS["cov19net"]())
    8
    """
    shapes, sources = model.network.shapes, model.network.sources
    return max((i for i, taken in enumerate(sources) if len(shapes[taken[0]]) == 3 > len(shapes[i + 1])), default=0)


# ---- Weights ---------------------------------------------------------------------------------------------------------

def _model(config, recipe, classes, scale):
    options = {"pixels": scale} if scale is not None and config.network in WITH_TRUNK else {}
    if config.head is not None:
        options["head"] = config.head
    return recipe.model(config.seed, classes, config.learning_rate, config.network, input_shape=config.preprocessing.shape,
                        **options)


def _tool(path):
    """Return "minicnn", "keras" or "pytorch": what wrote a weights file, by its content."""
    with raising(WeightsError, path):
        file, _ = open_regular(path)
        with file:
            start = file.read(8)
            if start.startswith(b"\x89HDF"):
                return "keras"
            if start.startswith(b"PK\3\4"):      # a minicnn file begins with the length of its header, whose bytes may be PK
                file.seek(0)
                names = Archive(io.BytesIO(file.read(_MOST_BYTES)), _MOST_BYTES).names
                return "keras" if "config.json" in names else "pytorch"
            header = file.read(64)
    # What is neither is told by the reader of PyTorch's files.
    return "minicnn" if header.startswith(b'{"__metadata__":{"sha256":"') else "pytorch"


def _take(model, tensors, config, path):
    """Take from the arrays of a minicnn model those of the trunk, all of them, and of the head those that fit."""
    matching, found = Matching(path), []
    trunk = {layer.name for layer in model.layers[:trunk_length(model)]}
    named = model.network.named_weights()
    for key, weight in named.items():
        array, must = tensors.get(key), key.rpartition("/")[0] in trunk
        if array is not None and array.shape == weight.value.shape and array.dtype.kind == "f":
            matching.add(key, key, array.shape, "as it is")
            found.append(array)
        else:
            shape = None if array is None else array.shape
            matching.add(None if array is None else key, key, shape, f"the network has {weight.value.shape}: "
                         f"{'not found' if array is None else 'not used'}" if must else "new", matched=not must)
            found.append(weight.value)
    for key in tensors:
        if key not in named and not key.startswith(("optimizer/", "callbacks/", "position/")) and key != "training_images":
            matching.add(key, None, tensors[key].shape, "not used: there is no layer for it", matched=False)
    its = type(config).read(RunFolder(path.parent)) if (path.parent / "config.json").exists() else None
    matching.check("model", f"Are these weights of {config.network}?" + ("" if its is None else
                   f" Those of this run are of --network {its.network} --size {its.preprocessing.height}."))
    model.set_weights(found)


def _take_of(model, config, path, tool):
    """Take the weights of the trunk from a file of Keras or PyTorch; of a network without a trunk of its own all weights."""
    from minicnn.interop import keras, pytorch
    reader = {"keras": keras, "pytorch": pytorch}[tool]
    make = NETWORKS[config.network]
    if config.network not in WITH_TRUNK:
        reader.load_weights(model, path)
        return
    trunk = make(input_shape=config.preprocessing.shape, top=False, dtype=str(model.dtype), seed=config.seed)
    reader.load_weights(trunk, path, strict="model")
    named = model.network.named_weights()
    for key, weight in trunk.network.named_weights().items():
        named[key].value[...] = weight.value


# ---- Memory ----------------------------------------------------------------------------------------------------------

def check_memory(model, batch_size):
    """Raise InputError, which names the batch that fits, if a step of training needs more memory than there is.

    What a step needs is estimated: the values of the layers from the first that learns on, of those before it the six largest,
    for each image; and the size of the weights once more, for sums of their gradients and the state of the optimizer.
    """
    there = available_memory()
    if there is None:
        return
    network, size = model.network, model.dtype.itemsize
    values = [math.prod(shape) for shape in network.shapes]
    first = next((i for i, layer in enumerate(model.layers) if layer.trainable and layer.parameters), 0)
    of_image = size * (sum(values[first:]) + 6 * max(values[:first + 1]) * (first > 0))
    fixed = size * model.count_params() * (1 + len(model.optimizer.slots))
    if fixed + batch_size * of_image <= there:
        return
    fits = max(0, int((there - fixed) / of_image))
    way = f"A batch of {fits} fits: batch_size={fits} (--batch-size {fits})" if fits else "A smaller size is needed (--size)"
    raise InputError(f"a training step with {batch_size} images needs about {(fixed + batch_size * of_image) / 2**30:.1f} GiB of "
                     f"memory, there are {there / 2**30:.1f} GiB. {way}; frozen layers need less (--freeze trunk).")
