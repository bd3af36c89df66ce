"""`minicnn train`: train a network in a run folder, or go on with an interrupted run."""

import sys
from pathlib import Path

from minicnn.cli.options import add_shared, path, positive, show, whole
from minicnn.errors import printable

__all__ = ["HELP", "EXAMPLES", "add_options", "run"]

HELP = "train a network and evaluate it"
EXAMPLES = """examples:
  minicnn train                                              synthetic radiographs, made from the seed
  minicnn train --data radiographs/ --out runs/mine          a folder with one folder per class
  minicnn train --data index.csv --protocol paper --seed 1   the paper's own protocol, which leaks
  minicnn train --data index.csv --hold-out cohen            how well it does on a source that is not in training
  minicnn train --data index.csv --folds 5                   each image predicted by a network that has not seen its patient
  minicnn train --data index.csv --network resnet50 --size 96            another network than COV-19Net
  minicnn train --data index.csv --network efficientnet_lite0 --weights imagenet --freeze trunk --out runs/head
  minicnn train --data index.csv --network efficientnet_lite0 --weights runs/head --freeze normalization --learning-rate 1e-4
  mpiexec -n 4 minicnn train --mpi --threads 1               four processes share each batch
  minicnn train --resume runs/mine                           go on after an interruption
  minicnn train --resume runs/mine --data /new/index.csv     the same, where the data was moved"""


# What says where moved data is, and how it is read.
_WHERE = ("data", "columns", "labels", "allow_outside_root", "root")


def add_options(parser):
    before = len(parser._actions)
    add_shared(parser, "--data", "--bits", "--skip-unreadable", "--protocol", "--hold-out", "--folds", "--classes", "--seed",
               "--epochs", "--steps-per-epoch")
    parser.add_argument("--batch-size", type=whole(), default=32, metavar="N", help="default: %(default)s")
    parser.add_argument("--learning-rate", type=positive, default=1e-3, metavar="RATE", help="default: %(default)s")
    parser.add_argument("--augmentation", choices=["honest", "paper", "none"],
                        help="of training images under the honest protocol (default: honest)")
    parser.add_argument("--recipe", choices=["paper", "common", "robust", "covid-net", "covid-caps"], default="paper",
                        help="robust: what did best on held-out sources; common: for short trainings of any network; covid-net, covid-caps: as their authors trained these networks "
                        "(default: %(default)s)")
    add_shared(parser, "--network", "--size", "--weights", "--freeze", "--head")
    parser.add_argument("--out", type=path, metavar="RUN", help="the run folder (default: the next free runs/NNN)")
    parser.set_defaults(of_the_run={action.dest: action.default for action in parser._actions[before:]})
    parser.add_argument("--resume", type=path, metavar="RUN", help="go on with this run, with its options")
    add_shared(parser, "--threads", "--mpi", "--quiet", "--json")


def run(options):
    """Train or resume, and print the metrics and where the results are."""
    from minicnn import experiment
    from minicnn.experiment.run_folder import RunFolder

    if options.group.rank > 0:
        return experiment.assist(options.group)
    progress = not options.quiet
    if options.resume is not None:
        moved = _WHERE if options.data is not None else ()
        given = [name for name, default in options.of_the_run.items()
                 if getattr(options, name) != default and name not in moved]
        if given:
            print(f"minicnn: --resume goes on with the options that the run was begun with: leave out "
                  f"{', '.join('--' + name.replace('_', '-') for name in given)}.", file=sys.stderr)
            return 2
        options.folder = Path(options.resume)
        kept = RunFolder(options.folder)
        is_of_folds = kept.is_begun and experiment.Config.read(kept).is_cross_validation
        result = (experiment.resume_folds if is_of_folds else experiment.resume)(
            options.folder, progress, group=options.group, **{name: getattr(options, name) for name in _WHERE} if moved else {})
    else:
        config = experiment.Config(**{name: getattr(options, name) for name in options.of_the_run if name != "out"})
        run = experiment.cross_validate if config.is_cross_validation else experiment.train
        result = run(config, _new_folder(options, config), progress, group=options.group)
    show(options, result.metrics, lambda metrics: _text(result))
    for note in filter(None, result.notes if options.json else ()):       # the table has them itself
        print(f"minicnn: {note}", file=sys.stderr)


def _new_folder(options, config):
    """Return the folder of a new run, by default a function that makes it: the data, where it may lie, is read before.

    Say so if the run before it has the same options and was interrupted.
    """
    from minicnn.experiment.run_folder import make_next, next_folder
    from minicnn.experiment.training_run import unfinished

    if options.out is not None:
        options.folder = Path(options.out)
        return options.folder
    folder = next_folder()
    sentence = unfinished(config, folder.with_name(f"{int(folder.name) - 1:03d}"))
    if sentence is not None and not options.quiet:
        print(f"minicnn: {sentence}\nminicnn: beginning anew in {printable(folder)}.", file=sys.stderr)

    def make():
        options.folder = make_next()
        return options.folder
    return make


def _text(result):
    plots = f", with {', '.join(printable(plot.name) for plot in result.plots)}" if result.plots else ""
    return f"{result.table()}\n\nRun folder: {printable(result.folder)}{plots}"
