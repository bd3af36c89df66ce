"""The command `minicnn gradcheck`: check COV-19Net, a layer of your own, or a model with a bug put into it."""

import json
import os
import sys

from minicnn.errors import InputError, MiniCNNError, printable

__all__ = ["EXAMPLES", "add_options", "run"]

EXAMPLES = """examples:
  minicnn gradcheck cov19net                              609,473 parameters along 20 random directions
  minicnn gradcheck mylayers:Scale --shape 2,9,9,3        class Scale of mylayers.py in this folder, number by number
  minicnn gradcheck --inject col2im-overwrite             a small network with a bug: watch it being found
  minicnn gradcheck cov19net --inject relu-mask-of-gradient
  minicnn gradcheck --list-bugs"""


def add_options(command):
    """Add the options of the command to an argparse parser."""
    command.add_argument("subject", nargs="?", metavar="cov19net | MODULE:LAYER",
                         help="what to check: the network of the paper (default), or a class with build, forward and "
                              "backward; a function that makes one will do. The module is your code, and is run")
    command.add_argument("--shape", type=_shape, metavar="N,H,W,C", help="the shape of a batch for MODULE:LAYER")
    command.add_argument("--inject", metavar="BUG", help="put a mistake in: into cov19net if that is the subject, else "
                                                        "into a small network of its own")
    command.add_argument("--list-bugs", action="store_true", help="print the mistakes that can be put in")
    command.add_argument("--engine", choices=["fast", "reference"], help="default: $MINICNN_ENGINE or fast")
    command.add_argument("--step", type=_step, metavar="H", help="the first step of the differences (default: 1e-5; "
                                                                 "along directions 3e-7)")
    command.add_argument("--directions", type=_count, default=20, metavar="N",
                         help="random directions for a large network (default: %(default)s)")
    command.add_argument("--seed", type=_seed, default=0, metavar="N",
                         help="decides all that is drawn (default: %(default)s)")
    command.add_argument("--json", action="store_true", help="print JSON on stdout")


def run(options):
    """Run the command; return 0, or 1 where a bug was found."""
    if options.list_bugs:
        return _list_bugs(options.json)
    report = _checked(options)
    print(json.dumps(report.as_dict(), allow_nan=False) if options.json else report)
    return 0 if report else 1


def _checked(options):
    from minicnn.gradient_check import gradcheck

    settings = {"step": options.step, "directions": options.directions, "seed": options.seed}
    if options.subject is None and options.inject:
        from minicnn.teaching.bugs import demonstrate
        return demonstrate(options.inject, options.seed, options.engine)
    if options.subject in (None, "cov19net"):
        from minicnn.networks import cov19net
        from minicnn.teaching.bugs import inject

        model = cov19net(seed=options.seed, dtype="float64", engine=options.engine)
        if not options.inject:
            return gradcheck(model, **settings)
        with inject(options.inject, model):
            return gradcheck(model, **settings)
    if options.inject:
        raise InputError("gradcheck: --inject puts a bug into cov19net or, without a subject, into a network of its "
                         "own.")
    if options.shape is None:
        raise InputError(f"gradcheck: --shape is needed for {printable(options.subject)}, such as --shape 2,9,9,3.")
    return gradcheck(_made(options.subject), options.shape, engine=options.engine, **settings)


def _made(name):
    """Return a layer from "module:Layer": the user's own code, named on the command line."""
    module_name, colon, attribute = name.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module_name.split("."), *attribute.split("."))):
        raise InputError("gradcheck: expected cov19net or MODULE:LAYER, such as mylayers:Scale, "
                         f"got {printable(name)!r}.")
    found = _imported(module_name)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise InputError(f"gradcheck: module {module_name} has no {attribute}.")
        found = getattr(found, part)
    if callable(found) and (isinstance(found, type) or not hasattr(found, "forward")):
        try:
            return found()
        except MiniCNNError:
            raise
        except Exception as error:          # anything may come out of a user's code
            raise InputError(f"gradcheck: {name}() raised {type(error).__name__}: {printable(error)}. It is called "
                             "without arguments; name a function that makes the layer.") from error
    return found


def _imported(name):
    import importlib

    sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except MiniCNNError:
        raise
    except Exception as error:              # a missing module, or anything that it raises
        raise InputError(f"gradcheck: module {name} could not be imported from {printable(os.getcwd())} or the "
                         f"installed packages: {type(error).__name__}: {printable(error)}") from error
    finally:
        sys.path.remove(os.getcwd())


def _list_bugs(as_json):
    from minicnn.teaching.bugs import BUGS

    if as_json:
        print(json.dumps([{"name": bug.name, "story": bug.story, "checker": bug.checker, "verdict": bug.verdict,
                           "layer": bug.layer, "parameter": bug.parameter} for bug in BUGS.values()]))
        return 0
    width = max(map(len, BUGS))
    for bug in BUGS.values():
        print(f"{bug.name:{width}}  {bug.checker:17}  {bug.story}")
    return 0


def _number(text, kind, low, high, meaning):
    from argparse import ArgumentTypeError

    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not low <= value < high:
        raise ArgumentTypeError(f"expected {meaning}, got {text!r}")
    return value


def _shape(text):
    return tuple(_number(part, int, 1, 2**31, "whole numbers with commas between, such as 2,9,9,3")
                 for part in text.split(","))


def _step(text):
    return _number(text, float, 1e-12, 1.0, "a number between 1e-12 and 1")


def _count(text):
    return _number(text, int, 1, 10**6, "a whole number of at least 1")


def _seed(text):
    return _number(text, int, 0, 2**64, "a whole number from 0 to 2**64 - 1")
