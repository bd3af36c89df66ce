"""`minicnn gradcheck`: check the gradients of COV-19Net, a custom layer, or a model with an injected bug."""

import importlib
import os
import sys
from contextlib import contextmanager

from minicnn.cli.options import add_shared, checked, number, show, whole
from minicnn.core.arguments import Real, Whole
from minicnn.errors import InputError, MiniCNNError, nearest, printable

__all__ = ["HELP", "EXAMPLES", "add_options", "run"]

HELP = "compare gradients with finite differences"
EXAMPLES = """examples:
  minicnn gradcheck cov19net                              609,473 parameters along 20 random directions
  minicnn gradcheck mylayers:Scale --shape 2,9,9,3        class Scale of mylayers.py in this folder, element by element
  minicnn gradcheck --inject col2im-overwrite             a small network with a bug, which is found
  minicnn gradcheck cov19net --inject relu-mask-of-gradient
  minicnn gradcheck --list-bugs"""


def add_options(parser):
    parser.add_argument("subject", nargs="?", metavar="cov19net | MODULE:LAYER",
                        help="what to check: the network of the paper (default), or a class with build, forward and "
                             "backward, or a function that makes one. The module is your code, and is run")
    parser.add_argument("--shape", type=checked(_shape, "be whole numbers with commas between, such as 2,9,9,3"),
                        metavar="N,H,W,C", help="the shape of a batch for MODULE:LAYER")
    parser.add_argument("--inject", metavar="BUG", help="inject a bug: into cov19net if that is the subject, otherwise "
                        "into a small network")
    parser.add_argument("--list-bugs", action="store_true", help="print the bugs that can be injected")
    parser.add_argument("--engine", choices=["fast", "reference"], help="default: $MINICNN_ENGINE or fast")
    parser.add_argument("--step", type=number(float, Real(1e-12, 1)), metavar="H",
                        help="the first step of the differences (default: 1e-5; along directions 3e-7)")
    parser.add_argument("--directions", type=whole(1, 10**6), default=20, metavar="N",
                        help="random directions for a large network (default: %(default)s)")
    add_shared(parser, "--seed", "--json")


def run(options):
    """Check, or list the bugs; return 1 if a bug was found."""
    if options.list_bugs:
        _list_bugs(options)
        return 0
    report = _report(options)
    show(options, report.as_dict(), lambda facts: report)
    return 0 if report else 1


def _report(options):
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
        raise InputError("gradcheck: --inject puts a bug into cov19net or, without a subject, into a small network.")
    place = _module_and_attribute(options.subject)
    if options.shape is None:
        raise InputError(f"gradcheck: --shape is needed for {printable(options.subject)}, such as --shape 2,9,9,3.")
    return gradcheck(_layer(options.subject, *place), options.shape, engine=options.engine, **settings)


def _module_and_attribute(name):
    """Return the two of "module:Layer"."""
    module_name, colon, attribute = name.partition(":")
    if not colon or not all(word.isidentifier() for word in (*module_name.split("."), *attribute.split("."))):
        raise InputError("gradcheck: expected cov19net or MODULE:LAYER, such as mylayers:Scale, "
                         f"got {printable(name)!r}.{nearest(name, ['cov19net'])}")
    return module_name, attribute


def _layer(name, module_name, attribute):
    """Return a layer from "module:Layer", which is code of the user's."""
    sys.path.insert(0, os.getcwd())
    try:
        with _code_of_the_user(f"module {module_name} could not be imported from {printable(os.getcwd())} or the "
                               "installed packages"):
            found = importlib.import_module(module_name)
    finally:
        sys.path.remove(os.getcwd())
    for word in attribute.split("."):
        if not hasattr(found, word):
            raise InputError(f"gradcheck: module {module_name} has no {attribute}.")
        found = getattr(found, word)
    if callable(found) and (isinstance(found, type) or not hasattr(found, "forward")):
        with _code_of_the_user(f"{name}() failed (it is called without arguments; name a function that makes a layer)"):
            return found()
    return found


@contextmanager
def _code_of_the_user(failure):
    """Turn whatever the block raises, beside our own errors, into an InputError."""
    try:
        yield
    except MiniCNNError:
        raise
    except Exception as error:
        raise InputError(f"gradcheck: {failure}: {type(error).__name__}: {printable(error)}") from error


def _list_bugs(options):
    from minicnn.teaching.bugs import BUGS

    names = ("name", "story", "checker", "verdict", "layer", "parameter")
    width = max(map(len, BUGS))
    show(options, [{name: getattr(bug, name) for name in names} for bug in BUGS.values()],
         lambda bugs: "\n".join(f"{bug['name']:{width}}  {bug['checker']:17}  {bug['story']}" for bug in bugs))


def _shape(text):
    return tuple(Whole()(int(size)) for size in text.split(","))
