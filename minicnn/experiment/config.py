"""The options of a run, checked, and what a run folder says of them: config.json, which may come from a stranger."""

import math
import shlex
from dataclasses import dataclass, fields, replace

from minicnn.errors import InputError, printable
from minicnn.experiment.recipes import RECIPES
from minicnn.experiment.run_folder import RunFolder

__all__ = ["Plan", "PROTOCOLS", "plan_of", "is_same", "how_to_resume"]

PROTOCOLS = {
    "honest": "70/15/15 by patient; augmentation in training only; the test part is looked at once, after training",
    "paper": "as published: seven versions of every image, then 70/30 by image. It leaks: versions of one radiograph, "
             "and images of one patient, are on both sides, so the validation figures are too good",
}


def _whole(low, high):
    return lambda value: type(value) is int and low <= value <= high, f"a whole number from {low} to {high}"


def _optional(option):
    holds, expected = option
    return lambda value: value is None or holds(value), f"{expected}, or none"


def _one_of(*choices):
    return lambda value: isinstance(value, str) and value in choices, " or ".join(choices)


def _is_text(value):
    return isinstance(value, str) and value != "" and "\0" not in value


_OPTIONS = {
    "data": _optional((_is_text, "the name of a folder or a file")),
    "protocol": _one_of(*PROTOCOLS),
    "recipe": (lambda value: isinstance(value, str) and value in RECIPES, " or ".join(RECIPES)),
    "hold_out": _optional((_is_text, "the name of a source")),
    "augmentation": _optional(_one_of("honest", "paper", "none")),
    "epochs": _whole(1, 2**31 - 1),
    "steps_per_epoch": _whole(1, 2**31 - 1),
    "batch_size": _whole(1, 2**31 - 1),
    "learning_rate": (lambda value: type(value) in (int, float) and 0 < value < math.inf, "a positive number"),
    "seed": _whole(0, 2**64 - 1),
    "classes": _optional((lambda value: isinstance(value, list) and len(value) > 1 and all(map(_is_text, value))
                          and len(set(value)) == len(value), "a list of two or more different names")),
    "columns": _optional((lambda value: isinstance(value, dict) and all(map(_is_text, [*value, *value.values()])),
                          "a table from names to headers")),
    "workers": _optional(_whole(0, 64)),
    "allow_outside_root": (lambda value: type(value) is bool, "true or false"),
}


@dataclass(frozen=True)
class Plan:
    """The options of a run; `config.json` holds them. See `minicnn train --help` for their meaning.

    Raises
    ------
    InputError
        if an option cannot be, or two do not go together; a config.json may come from a stranger
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

    def __post_init__(self):
        for name, (holds, expected) in _OPTIONS.items():
            if not holds(value := getattr(self, name)):
                raise InputError(f"{name}: expected {expected}, got {printable(repr(value))[:80]}.")
        if self.protocol != "paper":
            return
        if self.augmentation not in (None, "paper"):
            raise InputError(f"augmentation: the paper's protocol brings its own, drawn once; {self.augmentation!r} "
                             "belongs to --protocol honest.")
        if self.recipe != "paper":
            raise InputError("recipe: the paper's protocol is trained by the paper's recipe; "
                             f"{self.recipe!r} belongs to --protocol honest.")
        if self.hold_out is not None:
            raise InputError("hold_out: the paper's protocol divides images, not sources; to hold one out belongs to "
                             "--protocol honest.")

    @property
    def protocol_sentence(self):
        """What is said of the figures of such a run, once, beside them."""
        recipe = "" if self.recipe == "paper" else f" Recipe {self.recipe}."
        if self.hold_out is None:
            return f"Protocol {self.protocol}: {PROTOCOLS[self.protocol]}.{recipe}"
        return (f"Protocol honest, source {printable(self.hold_out)} unseen: the test part is all of this source and "
                "patients held out with it; nobody in it is in training or validation; augmentation in training only; "
                f"the test part is looked at once, after training.{recipe}")


def plan_of(run):
    """Return the Plan of the run in a RunFolder; options that were not there when it was written have their defaults.

    Raises
    ------
    InputError : no run, options that cannot be, or options of another version of minicnn
    """
    config, name = run.read_json("config.json"), printable(run.path / "config.json")
    if not isinstance(config, dict):
        raise InputError(f"{name}: not the options of this version of minicnn.")
    known = {item.name for item in fields(Plan)}
    if unknown := sorted(set(config) - known):
        raise InputError(f"{name}: not the options of this version of minicnn, which does not know "
                         f"{', '.join(printable(word)[:60] for word in unknown[:5])}. Was the run made by a later one? "
                         "Then use that.")
    try:
        return Plan(**config)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def is_same(plan, other):
    """Whether two plans have the same results: the number of workers changes none."""
    return replace(plan, workers=None) == replace(other, workers=None)


def how_to_resume(folder):
    """Return the command that goes on with a run, or None where there is nothing to go on with."""
    return f"minicnn train --resume {shlex.quote(printable(folder))}" if RunFolder(folder).is_begun else None
