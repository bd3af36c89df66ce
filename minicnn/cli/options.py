"""Options that several commands share, and the types of their values: a wrong value is a usage error (exit code 2).

A command is a file with `HELP` (a line), `EXAMPLES`, `add_options(parser)` and `run(options)`, which returns its exit code
or None for 0. Everything else is imported in `run`, so that --help answers at once.
"""

import argparse
import json
import math

from minicnn.core.arguments import Real, Text, Whole

__all__ = ["NOT_A_DEVICE", "PROTOCOLS", "checked", "whole", "positive", "path", "seed", "digest", "names", "columns",
           "add_data", "add_classes", "add_hold_out", "add_threads", "add_network", "add_described_network",
           "load_network", "add_quiet", "add_json", "show"]

NOT_A_DEVICE = ("minicnn is a tool for teaching and research, not a medical device: its output must not be used for "
                "diagnosis or treatment.")
PROTOCOLS = ["honest", "paper"]


# ---- Types of values -------------------------------------------------------------------------------------------------

def checked(constraint, convert=str):
    """Return the type of an option: it converts the text, and refuses what a constraint of core/arguments does.

    >>> checked(Whole(1, 9), int)("7")
    7
    """
    def parse(text):
        try:
            return constraint(convert(text))
        except (ValueError, TypeError, OverflowError):
            raise argparse.ArgumentTypeError(f"must {constraint}, got {text!r}") from None
    return parse


def whole(low=1, high=2**31 - 1):
    """Return the type of a whole number from `low` to `high`."""
    return checked(Whole(low, high), int)


class _Digest(Text):
    def __call__(self, value):
        if len(bytes.fromhex(value)) != 32 or len(value) != 64:
            raise ValueError
        return value


class _Names(Text):
    def __call__(self, value):
        found = [name.strip() for name in value.split(",")]
        if len(found) < 2 or "" in found or len(set(found)) < len(found):
            raise ValueError
        return found


class _Columns(Text):
    def __call__(self, value):
        pairs = [pair.split("=", 1) for pair in value.split(",")]
        if not all(len(pair) == 2 and all(pair) for pair in pairs):
            raise ValueError
        return dict(pairs)


positive = checked(Real(0, math.inf, "()"), float)
seed = whole(0, 2**64 - 1)
path = checked(Text("a path"))
digest = checked(_Digest("a SHA-256 of 64 hexadecimal digits"))
names = checked(_Names("two or more different names with commas between"))
columns = checked(_Columns("NAME=HEADER[,NAME=HEADER...]"))


# ---- Options ---------------------------------------------------------------------------------------------------------

def add_data(parser, required=False):
    """Add the data that a command reads, and how to read it."""
    kinds = "a folder with one folder per class, or a CSV file with the columns path,label and, where known, " \
            "patient_id,source,view,modality,split"
    parser.add_argument("data" if required else "--data", type=path, metavar="DATA", help=kinds)
    parser.add_argument("--columns", type=columns, metavar="NAME=HEADER[,...]",
                        help="the headers of the columns in the CSV file, such as label=finding,patient_id=subject")
    parser.add_argument("--allow-outside-root", action="store_true",
                        help="read images that lie outside the folder of the CSV file")
    parser.add_argument("--workers", type=whole(0, 64), metavar="N",
                        help="threads that decode and prepare images; never changes a result")


def add_classes(parser, metavar="NEGATIVE,POSITIVE[,...]"):
    """Add the names of the classes."""
    parser.add_argument("--classes", type=names, metavar=metavar, help="labels in the order of the outputs; needed where "
                        "the labels do not tell which of two is the positive one")


def add_hold_out(parser):
    """Add the source that becomes the test set."""
    parser.add_argument("--hold-out", type=checked(Text("the name of a source")), metavar="SOURCE",
                        help="test on a source that is not in training: all of it and, where it has positives, a share of "
                             "the patients who have only negatives (honest protocol, two classes, a source column; a "
                             "split column is ignored)")


def add_threads(parser):
    """Add the number of threads that compute."""
    parser.add_argument("--threads", type=whole(1, 256), metavar="N", help="threads that compute; never changes a result "
                        "(default: the cores available)")


def add_network(parser):
    """Add the trained network that a command uses."""
    parser.add_argument("run_folder", type=path, metavar="RUN", help="a run folder, or a .safetensors file")
    parser.add_argument("--expect-sha256", type=digest, metavar="DIGEST", help="refuse a weights file with another "
                        "SHA-256, as sha256sum prints it (of a run: best.safetensors; last.safetensors under the paper's "
                        "protocol, average.safetensors where the recipe averages)")


def add_described_network(parser):
    """Add the network that a command describes: COV-19Net unless another one is given."""
    parser.add_argument("network", nargs="?", type=path, default="cov19net", metavar="cov19net | RUN",
                        help="the network: a run folder, or a .safetensors file (default: cov19net)")


def load_network(name):
    """Return COV-19Net, or the network of a run or a weights file."""
    if name == "cov19net":
        from minicnn import cov19net
        return cov19net()
    from minicnn import experiment
    return experiment.load_model(name)


def add_quiet(parser):
    """Add --quiet."""
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")


def add_json(parser):
    """Add --json."""
    parser.add_argument("--json", action="store_true", help="print JSON on stdout")


def show(options, facts, text):
    """Print facts as JSON where --json asks for it, otherwise what `text` returns of them."""
    print(json.dumps(facts, allow_nan=False) if options.json else text(facts))
