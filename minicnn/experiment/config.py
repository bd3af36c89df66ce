"""The configuration of a run: its options, checked, as config.json keeps them."""

import inspect
import math
from dataclasses import dataclass, fields, replace

from minicnn.core.arguments import Flag, OneOf, OrNone, Real, Text, Whole, check_all
from minicnn.errors import InputError, printable
from minicnn.experiment.recipes import RECIPES
from minicnn.networks import NETWORKS, WITH_TRUNK

__all__ = ["Config", "PROTOCOLS"]

PROTOCOLS = {
    "honest": "70/15/15 by patient; augmentation in training only; the test set is evaluated once, after training",
    "paper": "as published: seven versions of every image, then 70/30 by image. It leaks: versions of one radiograph, "
             "and images of one patient, are in both sets, so the validation metrics are too good",
}


class _Names:
    """Two or more different names."""

    def __call__(self, value):
        if not isinstance(value, (list, tuple)) or len(set(map(Text(""), value))) < max(2, len(value)):
            raise ValueError
        return list(value)

    def __str__(self):
        return "be a list of two or more different names"


class _Pairs:
    """From words to words: columns to their headers, labels to their names."""

    def __init__(self, what):
        self.what = what

    def __call__(self, value):
        if not isinstance(value, dict):
            raise TypeError
        return {Text("")(word): Text("")(other) for word, other in value.items()}

    def __str__(self):
        return f"be a dict from {self.what}"


class _Units:
    """The sizes of dense layers."""

    def __call__(self, value):
        if not isinstance(value, (list, tuple)) or not value:
            raise TypeError
        return [Whole(1, 2**20)(units) for units in value]

    def __str__(self):
        return "be a list of sizes of dense layers, such as [1024, 256]"


class _Frozen:
    """A word, or how many layers."""

    def __call__(self, value):
        return value if value in ("trunk", "normalization") else Whole()(value)

    def __str__(self):
        return 'be "trunk", "normalization", or how many layers, from the first'


_TRAINED_HERE = [name for name in NETWORKS if name != "anomaly_detector"]       # which has targets of its own for a second output

_CONSTRAINTS = {
    "data": OrNone(Text("the path of a folder or a CSV file")),
    "protocol": OneOf(PROTOCOLS),
    "augmentation": OrNone(OneOf(["honest", "paper", "none"])),
    "epochs": Whole(), "steps_per_epoch": Whole(), "batch_size": Whole(),
    "learning_rate": Real(0, math.inf, "()"),
    "seed": Whole(0, 2**64 - 1),
    "classes": OrNone(_Names()),
    "columns": OrNone(_Pairs("columns to headers")),
    "workers": OrNone(Whole(0, 64)),
    "allow_outside_root": Flag(),
    "recipe": OneOf(RECIPES),
    "hold_out": OrNone(Text("the name of a source")),
    "root": OrNone(Text("the path of a folder")),
    "bits": OrNone(Whole(8, 16)),
    "labels": OrNone(_Pairs("labels to names")),
    "skip_unreadable": Flag(),
    "network": OneOf(_TRAINED_HERE),
    "size": OrNone(Whole(8, 4096)),
    "weights": OrNone(Text('"imagenet", or the path of a weights file or a run folder')),
    "freeze": OrNone(_Frozen()),
    "head": OrNone(_Units()),
    "folds": OrNone(Whole(2, 100)), "fold": OrNone(Whole(1, 100)),
}

# What the paper's protocol leaves no choice about: the values that it allows, and why.
_FIXED_BY_THE_PAPER = {
    "augmentation": ((None, "paper"), "brings its own augmentation, drawn once"),
    "recipe": (("paper",), "is trained by the paper's recipe"),
    "hold_out": ((None,), "splits images, not sources"),
    "folds": ((None,), "splits images, not patients"),
}


@dataclass(frozen=True)
class Config:
    """The options of a run.

    Parameters
    ----------
    data : path of a folder with one folder per class, or of a CSV file; None: synthetic radiographs, made from the seed
    protocol : "honest" or "paper" (see PROTOCOLS)
    augmentation : "honest", "paper" or "none", of training images under the honest protocol; None: that of the recipe, or
        none where the trunk is frozen, whose features are then computed once
    epochs, steps_per_epoch, batch_size : int
    learning_rate : float
    seed : int from 0 to 2**64 - 1; decides split, initial weights, order and augmentation
    classes : list of names in the order of the outputs, optional; of two, the second is the positive one
    columns : dict from columns to the headers of the CSV file, such as {"label": "finding"}, optional
    workers : int from 0 to 64, threads that prepare images; never changes a result
    allow_outside_root : bool; read images that lie outside the root
    recipe : "paper" or "robust" (see recipes.RECIPES)
    hold_out : name of a source that becomes the test set (honest protocol), optional
    root : path of the folder that the paths in the CSV file are relative to; None: that of the file
    bits : int from 8 to 16, the bits that 16-bit files use (Preprocessing), optional
    labels : dict from labels of the data to their names here, such as {"Covid-19": "covid"}, optional
    skip_unreadable : bool; leave out images that cannot be read, with a warning, before the data is split; files that
        are not there are an error all the same
    network : the name of a network of networks.NETWORKS
    size : int, the height and width of its images; None: what it was published with
    weights : what it begins with: "imagenet", or the path of a minicnn, Keras or PyTorch file, or of a run folder (transfer.py);
        None: initial weights, made from the seed
    freeze : int, how many layers, from the first, are not trained; or "trunk", those that make the last feature map; or
        "normalization", all batch normalizations, which then keep the moving statistics that the weights came with
    head : list of int, the units of new dense layers between the means of that map and the answer; None: the network's own
    folds : int, for cross-validation by patient (cross_validation.py): so many networks, each tested on another part of the patients
    fold : int from 1 to `folds`, which of these networks it is; None: all of them

    Raises
    ------
    InputError : an option that is not allowed, or two that exclude each other

    >>> Config(epochs=5, batch_size=64).learning_rate
    0.001
    >>> Config(epochs=0)
    Traceback (most recent call last):
    minicnn.errors.InputError: Config: epochs must be a whole number from 1 to 2**31 - 1, got 0.
    """

    data: str | None = None
    protocol: str = "honest"
    augmentation: str | None = None
    epochs: int = 20
    steps_per_epoch: int = 100
    batch_size: int = 32
    learning_rate: float = 1e-3
    seed: int = 0
    classes: list | None = None
    columns: dict | None = None
    workers: int | None = None
    allow_outside_root: bool = False
    recipe: str = "paper"
    hold_out: str | None = None
    root: str | None = None
    bits: int | None = None
    labels: dict | None = None
    skip_unreadable: bool = False
    network: str = "cov19net"
    size: int | None = None
    weights: str | None = None
    freeze: int | str | None = None
    head: list | None = None
    folds: int | None = None
    fold: int | None = None

    def __post_init__(self):
        for name, value in check_all("Config", _CONSTRAINTS, vars(self)).items():
            object.__setattr__(self, name, value)
        for name, (allowed, reason) in _FIXED_BY_THE_PAPER.items():
            if self.protocol == "paper" and getattr(self, name) not in allowed:
                raise InputError(f"Config: the paper's protocol {reason}: {name} "
                                 f"{printable(repr(getattr(self, name)))} needs the protocol honest.")
        if self.head is not None and self.network not in WITH_TRUNK:
            raise InputError(f"Config: {self.network} has no trunk that another head could follow: leave head out.")
        if self.folds and self.hold_out is not None:
            raise InputError("Config: folds are tested on parts of the patients, hold_out on a source: leave one of them out.")
        if self.fold is not None and self.fold > (self.folds or 0):
            raise InputError(f"Config: fold {self.fold} needs as many folds, got folds={self.folds}.")

    @classmethod
    def read(cls, run):
        """Return the Config of a RunFolder; an option that an earlier version did not write has its default.

        Raises
        ------
        InputError : no run, options that are not allowed, or options of another version of minicnn
        """
        content, name = run.read_json("config.json"), printable(run.path / "config.json")
        if not isinstance(content, dict):
            raise InputError(f"{name}: not the options of this version of minicnn.")
        if unknown := sorted(set(content) - {item.name for item in fields(cls)}):
            raise InputError(f"{name}: not the options of this version of minicnn, which does not know "
                             f"{', '.join(printable(word)[:60] for word in unknown[:5])}. If a later version made the "
                             "run, use that version.")
        try:
            return cls(**content)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None

    def differences(self, other):
        """Return the names of the options in which another Config has other results; `workers` changes none."""
        return [item.name for item in fields(self)
                if item.name != "workers" and getattr(self, item.name) != getattr(other, item.name)]

    @property
    def is_cross_validation(self):
        """Whether it is of several networks, one for each fold."""
        return self.folds is not None and self.fold is None

    @property
    def preprocessing(self):
        """The Preprocessing of its images."""
        published = inspect.signature(NETWORKS[self.network]).parameters["input_shape"].default
        side = self.size or published[0]
        return replace(RECIPES[self.recipe].preprocessing, height=side, width=side, bits=self.bits)

    @property
    def drawn(self):
        """The name of the augmentation of training images under the honest protocol."""
        return self.augmentation or RECIPES[self.recipe].augmentation or ("none" if self.freeze == "trunk" else "honest")

    @property
    def network_sentence(self):
        """Which network it is, where it is not COV-19Net as it was published; else an empty string."""
        side = self.preprocessing.height
        if (self.network, side, self.weights, self.freeze) == ("cov19net", 64, None, None):
            return ""
        parts = [f"{side} x {side}", f"weights {printable(self.weights)}" if self.weights else "",
                 f"first {self.freeze} layers frozen" if isinstance(self.freeze, int) else f"{self.freeze} frozen" if self.freeze else "",
                 f"head {', '.join(map(str, self.head))}" if self.head else ""]
        return f" Network {self.network}, {', '.join(filter(None, parts))}."

    @property
    def protocol_sentence(self):
        """What the metrics of such a run mean, in a sentence that is printed beside them."""
        recipe = self.network_sentence + ("" if self.recipe == "paper" else f" Recipe {self.recipe}.")
        if self.folds:
            which = f"{self.folds}-fold cross-validation by patient: the test set of each network" if self.fold is None else \
                f"fold {self.fold} of {self.folds}: the test set"
            return (f"Protocol honest, {which} is a part of the patients, of whom none is in its training or validation set; the others are "
                    f"85/15 training and validation set; augmentation in training only.{recipe}")
        if self.hold_out is None:
            return f"Protocol {self.protocol}: {PROTOCOLS[self.protocol]}.{recipe}"
        return (f"Protocol honest, source {printable(self.hold_out)} held out: the test set is all of this source and "
                "the patients held out with it; no patient of it is in training or validation; augmentation in "
                f"training only; the test set is evaluated once, after training.{recipe}")
