"""PyTorch: weights in, of safetensors, .pt and .pth; a network out, as a short module and its state_dict. Without PyTorch.

    from minicnn.interop import pytorch
    print(pytorch.load_weights(model, "resnet.pth"))        # a table of what became of each array
    pytorch.save(model, "network.py")                       # and network.safetensors; in PyTorch: from network import load

`reading` tells what a file is, and `unpickler` reads PyTorch's own without running them. `state_dict` says which array is which
weight, and how its axes lie; `rows` how flattened images do. `module` writes the Python text.
"""

from pathlib import Path

from minicnn.core.files import write_atomic
from minicnn.errors import InputError, MissingExtraError, printable
from minicnn.interop.matching import check_options
from minicnn.interop.pytorch.module import module_text
from minicnn.interop.pytorch.state_dict import match, state_dict

__all__ = ["load_weights", "save"]


def load_weights(model, path, strict=True, names=None):
    """Take the weights of a state_dict; return a table of what became of each array (matching.Matching).

    The file is told by its content: safetensors, or what `torch.save` writes, today or before 1.6, of a state_dict or of a
    dict that holds one as "state_dict", "model_state_dict" or "model". Layers are paired by name if the names of one side are
    all on the other: those of the layers, or those that `save` made of them. Otherwise the first convolution of the file is
    that of the model, the first batch normalization, and so on, in the order of the file, in which safetensors has natural
    order: features.2 before features.10. Layers that PyTorch divides, as SeparableConv2D, are two: NAME.depthwise and
    NAME.pointwise. Behind Flatten, columns are taken from PyTorch's order, channels first, to ours.

    What a state_dict does not say must be said when the model is built: BatchNormalization(epsilon=1e-5, momentum=0.9) is
    PyTorch's default, LayerNormalization(epsilon=1e-5); ZeroPadding2D(1) and "valid" pad as padding=1 with a stride does.

    Parameters
    ----------
    model : Model or Sequential; float32 or float64, arrays of other precision are converted, and the table says so
    path : str or Path
    strict : bool; otherwise what fits is taken, and the table is printed where something does not. "model": each weight of the
        model must be found, and what the file has beside, such as its classifier, is left
    names : {module in the file: layer of the model}, optional; without "module.", which DataParallel puts in front

    Raises
    ------
    WeightsError
        if the file cannot be read, names code, or, where `strict`, if an array or a weight is left over. All weights are
        then what they were
    InputError
        for a name that is not there, and a model whose rows have no counterpart in PyTorch
    MissingExtraError
        for a safetensors file, where the library safetensors is not installed

    >>> import os, tempfile
    >>> from minicnn import Conv2D, Dense, Flatten, Sequential
    >>> model = Sequential([Conv2D(2, 3), Flatten(), Dense(1)], (4, 5, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(model, os.path.join(folder, "network.py"))
    ...     matching = load_weights(model, os.path.join(folder, "network.safetensors"))
    >>> matching.path = "network.safetensors"
    >>> print(matching)
    name in the file  layer            shape         what was done
    conv2d_1.bias     conv2d_1/bias    (2,)          as it is
    conv2d_1.weight   conv2d_1/kernel  (2, 3, 3, 3)  transposed from O,I,H,W
    dense_1.bias      dense_1/bias     (1,)          as it is
    dense_1.weight    dense_1/kernel   (1, 12)       transposed, its columns from C,H,W
    """
    check_options(strict, names)
    matching, taken = match(model, path, names)
    matching.check(strict)
    with model._lock:
        for weight, array in taken:
            weight.value[...] = array
    return matching


def save(model, path):
    """Write a network as a module of PyTorch, `path`, and its state_dict beside it, as safetensors.

    `load()` of the module gives the network with its weights: for images (N, C, H, W) it gives what `predict` gives for
    (N, H, W, C), and trains on. Its class is short and plain, to be changed. Several inputs are arguments in the order of
    `input_names`, several outputs a tuple. A final sigmoid or softmax is part of it, as of the model here: for
    BCEWithLogitsLoss or CrossEntropyLoss take it away.

    Not carried over: the optimizer, L2, what is frozen. PyTorch's BatchNorm divides the variances that it keeps by one less.

    Parameters
    ----------
    path : str or Path that ends with .py

    Raises
    ------
    InputError
        before anything is written, for layers without a counterpart, and another end of `path`
    CheckpointError
        if a file cannot be written
    MissingExtraError
        if the library safetensors is not installed

    >>> import os, tempfile
    >>> from minicnn import Dense, Flatten, ReLU, Sequential
    >>> model = Sequential([Flatten(), Dense(2), ReLU()], (4, 5, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(model, os.path.join(folder, "network.py"))
    ...     print(Path(folder, "network.py").read_text().partition("class ")[2].partition("def load")[0].rstrip())
    Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.dense_1 = nn.Linear(60, 2)
    <BLANKLINE>
        def forward(self, x):
            x = x.flatten(1)
            return F.relu(self.dense_1(x))
    """
    path = Path(path)
    if path.suffix != ".py":
        raise InputError(f"save: expected a path that ends with .py, such as network.py, got {printable(path)}.")
    try:
        from safetensors.numpy import save as encoded
    except ImportError:
        raise MissingExtraError("writing safetensors files", "safetensors", "pytorch") from None
    with model._lock:
        text, weights = module_text(model), encoded(state_dict(model), {"format": "pt"})
    write_atomic(path.with_suffix(".safetensors"), weights, private=False)
    write_atomic(path, text.encode("ascii"), private=False)
