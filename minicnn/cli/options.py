"""The options that commands share, and the types of their values: a wrong value is a usage error (exit code 2).

A command is a file with `HELP` (a line), `EXAMPLES`, `add_options(parser)` and `run(options)`, which returns its exit
code or None for 0. Everything else is imported in `run`, so that --help answers at once.
"""

import argparse
import csv
import json
import math
import sys

from minicnn.core.arguments import Real, Text, Whole

__all__ = ["NOT_A_DEVICE", "checked", "number", "whole", "positive", "path", "add_shared", "load_network", "show",
           "lost"]

NOT_A_DEVICE = ("minicnn is a tool for teaching and research, not a medical device: its output must not be used for "
                "diagnosis or treatment.")


# ---- Types of values -------------------------------------------------------------------------------------------------

def checked(convert, expected):
    """Return the type of an option: `convert` returns the value of a text, or raises if it is not `expected`."""
    def parse(text):
        try:
            return convert(text)
        except (ValueError, TypeError, OverflowError):
            raise argparse.ArgumentTypeError(f"must {expected}, got {text!r}") from None
    return parse


def number(kind, constraint):
    """Return the type of an int or float within a constraint of core/arguments.

    >>> number(int, Whole(1, 9))("7")
    7
    """
    return checked(lambda text: constraint(kind(text)), constraint)


def whole(low=1, high=2**31 - 1):
    """Return the type of a whole number from `low` to `high`."""
    return number(int, Whole(low, high))


def _digest(text):
    if len(text) != 64 or len(bytes.fromhex(text)) != 32:
        raise ValueError
    return text


def _names(text):
    names = [name.strip() for name in text.split(",")]
    if len(names) < 2 or "" in names or len(set(names)) < len(names):
        raise ValueError
    return names


def _columns(text):
    columns = dict(pair.split("=", 1) for pair in text.split(","))
    if "" in (*columns, *columns.values()):
        raise ValueError
    return columns


def _labels(text):
    try:
        (pairs,) = csv.reader([text], skipinitialspace=True)
    except csv.Error:
        raise ValueError from None
    pairs = [[word.strip() for word in pair.rsplit("=", 1)] for pair in pairs]      # a name holds no =, a label may
    labels = {label: name for label, name in pairs}
    if not labels or "" in (*labels, *labels.values()) or len(labels) < len(pairs):
        raise ValueError
    return labels


def _frozen(text):
    return text if text in ("trunk", "normalization") else Whole()(int(text))


def _units(text):
    return [Whole(1, 2**20)(int(part)) for part in text.split(",")]


positive = number(float, Real(0, math.inf, "()"))
path = checked(Text("a path"), Text("a path"))


# ---- Options ---------------------------------------------------------------------------------------------------------

_DATA = dict(type=path, metavar="DATA", help="a folder with one folder per class, or a CSV file with the columns "
             "path,label and, where known, patient_id,source,view,modality,split")
# Those of networks.NETWORKS that a run can train: written here, for --help imports nothing.
_NETWORKS = ("cov19net", "vgg16", "vgg19", "resnet50", "resnet101", "resnet152", "resnet50_v2", "mobilenet_v2", "inception_v3",
             "inception_resnet_v2", "efficientnet_b0", "efficientnet_lite0", "covid_net", "covid_net_pepx", "covid_caps")
_SHARED = {
    "data": _DATA, "--data": _DATA,
    "--columns": dict(type=checked(_columns, "be NAME=HEADER[,NAME=HEADER...]"), metavar="NAME=HEADER[,...]",
                      help="the headers of the columns in the CSV file, such as label=finding,patient_id=subject"),
    "--labels": dict(type=checked(_labels, "be LABEL=NAME[,LABEL=NAME...]"), metavar="LABEL=NAME[,...]",
                     help="what labels of the data are called here, such as Covid-19=covid,No_findings=normal; others "
                     "stay. Quotes go around a label that holds a comma: '\"Effusion, left\"=other'"),
    "--root": dict(type=path, metavar="DIR", help="the folder that the paths in the CSV file are relative to (default: "
                   "that of the file)"),
    "--allow-outside-root": dict(action="store_true", help="read images that lie outside that folder"),
    "--skip-unreadable": dict(action="store_true", help="leave out images that are there and cannot be read, and count "
                              "them (default: an error that tells them)"),
    "--bits": dict(type=whole(8, 16), metavar="N", help="bits that 16-bit files use, such as 12: white is then 4095"),
    "--workers": dict(type=whole(0, 64), metavar="N",
                      help="threads that decode and prepare images; never changes a result"),
    "--classes": dict(type=checked(_names, "be two or more different names with commas between"),
                      metavar="NEGATIVE,POSITIVE[,...]", help="labels in the order of the outputs; needed where the "
                      "labels do not tell which of two is the positive one"),
    "--allow-training-images": dict(action="store_true", help="measure on images that the network was trained on too, "
                                    "and say so"),
    "--leave-out-copies": dict(action="store_true", help="leave out images that the network was trained on, and "
                               "altered copies of them"),
    "--protocol": dict(choices=["honest", "paper"], default="honest",
                       help="honest: 70/15/15 by patient, augmentation in training only; paper: augment, then split "
                            "70/30 by image, as published: copies of one radiograph are in both sets, so its "
                            "validation metrics are too good (default: %(default)s)"),
    "--hold-out": dict(type=checked(Text(""), "be the name of a source"), metavar="SOURCE",
                       help="test on a source that is not in training: all of it and, where it has positives, a share "
                            "of the patients who have only negatives (honest protocol, two classes, a source column; "
                            "a split column is ignored)"),
    "--folds": dict(type=whole(2, 100), metavar="K", help="cross-validation by patient: K networks, each tested on another part of the "
                    "patients, so that each image is predicted once by a network that has not seen its patient"),
    "--seed": dict(type=whole(0, 2**64 - 1), default=0, metavar="N",
                   help="decides all random numbers; the same seed repeats a result to the bit (default: %(default)s)"),
    "--epochs": dict(type=whole(), default=20, metavar="N", help="default: %(default)s, as in the paper"),
    "--steps-per-epoch": dict(type=whole(), default=100, metavar="N", help="batches an epoch (default: %(default)s; "
                              "the paper says 100 in one place, 200 in another)"),
    "--network": dict(choices=_NETWORKS, default="cov19net", metavar="NAME",
                      help=f"{', '.join(_NETWORKS)} (default: %(default)s)"),
    "--size": dict(type=whole(8, 4096), metavar="N", help="height and width of its images (default: as published)"),
    "--weights": dict(type=path, metavar="imagenet | FILE", help="what it begins with: a minicnn, Keras or PyTorch file, a run folder, "
                      "or imagenet, of efficientnet_lite0 (extra imagenet) (default: initial weights, made from the seed)"),
    "--freeze": dict(type=checked(_frozen, 'be "trunk", "normalization" or a number of layers'), metavar="trunk | normalization | N",
                     help="do not train the trunk, whose features are then computed once; or the batch normalizations, which keep "
                          "the statistics of the weights; or the first N layers"),
    "--head": dict(type=checked(_units, "be sizes of dense layers, such as 1024,256"), metavar="N[,N...]",
                   help="new dense layers between the means of the last feature map and the answer"),
    "network": dict(nargs="?", type=path, default="cov19net", metavar="NAME | RUN",
                    help="a published network, a run folder, or a .safetensors file (default: cov19net)"),
    "run_folder": dict(type=path, metavar="RUN", help="a run folder, or a .safetensors file"),
    "--expect-sha256": dict(type=checked(_digest, "be a SHA-256 of 64 hexadecimal digits"), metavar="DIGEST",
                            help="refuse a weights file with another SHA-256, as sha256sum prints it (of a run: "
                                 "best.safetensors; last.safetensors under the paper's protocol, average.safetensors "
                                 "where the recipe averages)"),
    "files": dict(nargs="+", type=path, metavar="FILE", help="image files, folders of images, and patterns such as "
                  "'scans/*.png'"),
    "--threads": dict(type=whole(1, 256), metavar="N",
                      help="threads that compute; never changes a result (default: the cores available; with --mpi shared by the "
                           "processes on a machine)"),
    "--mpi": dict(action="store_true", help="share the work with the other processes that mpiexec started: mpiexec -n 4 minicnn "
                  "... --mpi; the result is that of one process, to the bit (extra `mpi`)"),
    "--quiet": dict(action="store_true", help="no progress on stderr"),
    "--json": dict(action="store_true", help="print JSON on stdout"),
}


def add_shared(parser, *names):
    """Add options of the table above to an argparse parser; how to read data comes with "data" and "--data"."""
    for name in names:
        parser.add_argument(name, **_SHARED[name])
        if name in ("data", "--data"):
            add_shared(parser, "--columns", "--labels", "--root", "--allow-outside-root", "--workers")


# ---- What commands share in `run` ------------------------------------------------------------------------------------

def load_network(name):
    """Return a published network, by its name, or the network of a run or a weights file."""
    from minicnn.networks import NETWORKS

    if name in NETWORKS:
        return NETWORKS[name]()
    from minicnn import experiment
    return experiment.load_model(name)


def show(options, facts, text):
    """Print facts as JSON where --json asks for it, otherwise what `text` returns of them."""
    print(json.dumps(facts, allow_nan=False) if options.json else text(facts))


def lost(unreadable, n):
    """Return the exit code of a command for n files, and say on stderr how many of them could not be read, if any."""
    if unreadable:
        sys.stdout.flush()
        print(f"minicnn: {unreadable:,} of {n:,} files could not be read; each is listed with its error.",
              file=sys.stderr)
    return 3 if unreadable else 0
