"""The command line: `minicnn train`, `evaluate`, `predict`, `summary`, `trace`, `gradcheck`, `exercise`, `data`, `warmup`,
`doctor`.

Thin: each command reads its options, calls the room that does the work, and prints. Rooms are imported inside the
commands, so that --help answers at once. Results go to stdout, progress and errors to stderr.
"""

import argparse
import faulthandler
import json
import os
import sys
import warnings

from minicnn import __version__
from minicnn.cli import audit, compare, exercise, explain, gradcheck, import_collection, reproduce, trace
from minicnn.core import signals
from minicnn.errors import CheckpointError, MiniCNNError, MissingExtraError, RunLockedError, WeightsError, printable

__all__ = ["main"]

NOT_A_DEVICE = ("minicnn is a tool for teaching and research, not a medical device: its output must not be used for "
                "diagnosis or treatment.")

DONE, CHECK_FAILED, USAGE, BAD_DATA, BAD_CHECKPOINT, LOCKED, SIGNALLED = 0, 1, 2, 3, 4, 5, 128


def main(arguments=None):
    """Run one command; return its exit code (0 done, 1 a check said no, 2 usage, 3 bad data, numbers or memory,
    4 checkpoint or weights file, 5 run folder locked, 130 interrupted, 143 terminated).

    Without arguments it is the process, which is to end with it: signals then do not get their old handlers back.
    """
    options = _parser().parse_args(arguments)
    if not faulthandler.is_enabled():
        faulthandler.enable()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")       # as stderr is: a class's name may be beyond the locale
    form = warnings.formatwarning
    warnings.formatwarning = lambda message, *where: f"minicnn: {message}\n"
    try:
        return _run(options, last=arguments is None)
    finally:
        warnings.formatwarning = form


def _run(options, last):
    try:
        with signals.handled(last):
            if getattr(options, "threads", None) is not None:
                from minicnn.kernels.runtime.threads import set_thread_count
                set_thread_count(options.threads)
            code = options.run(options) or DONE
            sys.stdout.flush()
        return code
    except KeyboardInterrupt as signal:
        print(f"minicnn: {str(signal) or 'interrupted.'}{_how_to_resume(options)}", file=sys.stderr)
        return SIGNALLED + getattr(signal, "number", 2)
    except BrokenPipeError:
        # Whoever read our output has left: nobody to tell.
        _drop_output()
        return DONE
    except (MiniCNNError, MemoryError) as error:
        if options.debug:
            raise
        # A manifest lists its problems, one a line; all else is one line.
        print(f"minicnn: {_out_of_memory(error) if isinstance(error, MemoryError) else error}", file=sys.stderr)
        return _exit_code(error)
    except OSError as error:
        if options.debug:
            raise
        _drop_output()
        print(f"minicnn: the output could not be written: {error.strerror}.", file=sys.stderr)
        return BAD_CHECKPOINT


def _drop_output():
    """Let nothing be written to stdout any more; Python would try to, at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _exit_code(error):
    if isinstance(error, RunLockedError):
        return LOCKED
    if isinstance(error, (CheckpointError, WeightsError)):
        return BAD_CHECKPOINT
    return USAGE if isinstance(error, MissingExtraError) else BAD_DATA


def _out_of_memory(error):
    """Return what was needed, as far as the error says, and what there is."""
    import resource
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    what = "this process may have"
    if limit == resource.RLIM_INFINITY:
        limit, what = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), "this machine has"
    needed = str(error).rstrip(".") or "one more array did not fit"
    return f"out of memory: {needed}; {what} {limit / 2**20:,.0f} MiB. Try a smaller --batch-size, or fewer --workers."


def _how_to_resume(options):
    if getattr(options, "folder", None) is None:
        return ""
    from minicnn.experiment import training_run
    command = training_run.how_to_resume(options.folder)
    return "" if command is None else f" Go on with:\n  {command}"


# ---- The commands ----------------------------------------------------------------------------------------------------

def _train(options):
    from pathlib import Path

    from minicnn.experiment import training_run, run_folder

    if options.resume is not None:
        given = [name for name, default in options.of_the_plan.items() if getattr(options, name) != default]
        if given:
            print(f"minicnn: --resume goes on with the options the run was begun with: leave out "
                  f"{', '.join('--' + name.replace('_', '-') for name in given)}.", file=sys.stderr)
            return USAGE
        options.folder = Path(options.resume)
        return _show(options, training_run.resume(options.folder, progress=not options.quiet))
    options.folder = Path(options.out) if options.out is not None else run_folder.next_folder()
    plan = training_run.Plan(data=options.data, protocol=options.protocol, augmentation=options.augmentation,
                           epochs=options.epochs, steps_per_epoch=options.steps_per_epoch,
                           batch_size=options.batch_size, learning_rate=options.learning_rate, seed=options.seed,
                           classes=options.classes, columns=options.columns, workers=options.workers,
                           allow_outside_root=options.allow_outside_root, recipe=options.recipe,
                           hold_out=options.hold_out)
    before = None if options.out is not None else run_folder.newest_folder()
    sentence = None if before is None else training_run.unfinished(plan, before)
    if sentence is not None and not options.quiet:
        print(f"minicnn: {sentence}\nminicnn: beginning anew in {printable(options.folder)}.", file=sys.stderr)
    return _show(options, training_run.train(plan, options.folder, progress=not options.quiet))


def _show(options, result):
    """Print what a finished run has to say: JSON, or the table and the paths."""
    if options.json:
        print(json.dumps(result.metrics, allow_nan=False))
        return
    print(result.table())
    if result.pictures:
        print("\nPictures: " + ", ".join(printable(path) for path in result.pictures))
    print(f"Run folder: {printable(result.folder)}")


def _evaluate(options):
    from minicnn.experiment import training_run
    result = training_run.evaluate(options.run_folder, data=options.data, report=options.report, columns=options.columns,
                                 workers=options.workers, allow_outside_root=options.allow_outside_root,
                                 expect=options.expect_sha256, allow_training_images=options.allow_training_images,
                                 progress=not options.quiet, calibrated=options.calibrated,
                                 shortcuts=options.shortcuts)
    if options.json:
        print(json.dumps(result.to_dict(), allow_nan=False))
    else:
        print(result.table())
        if options.report:
            print(f"\nReport: {printable(options.report)}")
    return CHECK_FAILED if result.shortcuts is not None and result.shortcuts.findings else DONE


def _predict(options):
    from minicnn.experiment import training_run
    said = training_run.predict(options.run_folder, options.files, csv=options.csv, expect=options.expect_sha256)
    print(json.dumps(said.to_dict(), allow_nan=False) if options.json else said.table())


def _summary(options):
    if options.what == "cov19net":
        from minicnn import cov19net
        model = cov19net()
    else:
        from minicnn.experiment import training_run
        model = training_run.load_model(options.what)
    model.summary(plan=options.plan)


def _data_phantom(options):
    from minicnn.core.progress import Progress
    from minicnn.data.synthetic import phantom
    with Progress(options.n, "images", "image", not options.quiet) as bar:
        manifest = phantom.write(options.folder_out, n=options.n, seed=options.seed, size=options.size,
                                 progress=bar.advance)
    print(f"{options.n} synthetic radiographs in {printable(options.folder_out)}\n"
          f"Train on them: minicnn train --data {printable(manifest)}")


def _data_split(options):
    from minicnn.experiment import training_run
    print(training_run.split_table(options.data, protocol=options.protocol, seed=options.seed, classes=options.classes,
                                 columns=options.columns, allow_outside_root=options.allow_outside_root,
                                 workers=options.workers, out=options.out, progress=not options.quiet,
                                 hold_out=options.hold_out))


def _warmup(options):
    from minicnn.cli import warmup
    facts = warmup.warm_up(options.dtype, progress=not options.quiet)
    print(json.dumps(facts, allow_nan=False) if options.json else warmup.report(facts))


def _doctor(options):
    from minicnn.cli import doctor
    facts = doctor.examine()
    print(json.dumps(facts, allow_nan=False) if options.json else doctor.report(facts))


# ---- The options -----------------------------------------------------------------------------------------------------

def _parser():
    parser = _Parser(prog="minicnn", description="Train COV-19Net on chest radiographs, on a CPU, and see how well it "
                     "does. " + NOT_A_DEVICE, epilog="""examples:
  minicnn train                                  embedded synthetic radiographs, no files, no network
  minicnn train --data radiographs/index.csv     your own, split by patient
  minicnn evaluate runs/001 --data other.csv     the trained network on other images
  minicnn predict runs/001 scan.png              one image
  minicnn COMMAND --help                         all options of a command""")
    parser.add_argument("--version", action="version", version=f"minicnn {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _train_options(commands)
    _evaluate_options(commands)
    _predict_options(commands)
    _add(commands, "compare", compare, "ask whether one of two runs is better", NOT_A_DEVICE)
    summary = _command(commands, "summary", _summary, "print a network's layers, parameters and costs", """examples:
  minicnn summary                    COV-19Net: Table I of the paper
  minicnn summary runs/001 --plan    a trained network, and the steps in which it runs""")
    summary.add_argument("what", nargs="?", default="cov19net", metavar="cov19net | RUN | FILE",
                         help="what to describe (default: cov19net)")
    summary.add_argument("--plan", action="store_true", help="also print the steps in which the engine runs the layers")
    _add(commands, "trace", trace, "explain a network on real numbers, layer by layer", NOT_A_DEVICE)
    _add(commands, "gradcheck", gradcheck, "compare gradients with differences")
    _add(commands, "exercise", exercise, "write an exercise and its tests into a folder")
    _add(commands, "explain", explain, "show where in a picture an answer comes from", NOT_A_DEVICE)
    _add(commands, "reproduce", reproduce, "the paper's protocol and an honest one, side by side, as one page",
         NOT_A_DEVICE, _source_options, lambda command: _classes_option(command, "NEGATIVE,POSITIVE"))
    _data_options(commands)
    warmup = _command(commands, "warmup", _warmup, "compile ahead what training and prediction need", """examples:
  minicnn warmup                    for COV-19Net in float32; later commands then start at once
  minicnn warmup --dtype float64    for networks of that dtype""")
    warmup.add_argument("--dtype", choices=["float32", "float64"], default="float32", help="default: %(default)s")
    warmup.add_argument("--quiet", action="store_true", help="no progress on stderr")
    warmup.add_argument("--json", action="store_true", help="print JSON on stdout")
    doctor = _command(commands, "doctor", _doctor, "print versions, threads, the kernel cache and the speed reached")
    doctor.add_argument("--json", action="store_true", help="print JSON on stdout")
    return parser


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser that keeps the lines of its epilog."""

    def __init__(self, **settings):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **settings)


def _add(commands, name, module, help_line, description="", *options):
    """Add a command that has a file of its own; `options` add what it shares with others."""
    command = _command(commands, name, module.run, help_line, module.EXAMPLES, description)
    for add in (*options, module.add_options):
        add(command)


def _command(commands, name, run, help_line, epilog=None, description=""):
    command = commands.add_parser(name, help=help_line, description=(help_line[0].upper() + help_line[1:] + ". "
                                                                    + description).strip(), epilog=epilog)
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    command.set_defaults(run=run)
    return command


def _classes_option(command, metavar="NEGATIVE,POSITIVE[,...]"):
    command.add_argument("--classes", type=_classes, metavar=metavar, help="labels in order")


def _source_options(command, required=False):
    if required:
        command.add_argument("data", metavar="SOURCE", help="a folder with one folder per class, or a CSV file")
    else:
        command.add_argument("--data", metavar="SOURCE", help="a folder with one folder per class, or a CSV with the "
                             "columns path,label and, where known, patient_id,source,view,modality,split")
    command.add_argument("--columns", type=_columns, metavar="NAME=HEADER[,...]",
                         help="how the CSV calls its columns, such as label=finding,patient_id=subject")
    command.add_argument("--allow-outside-root", action="store_true",
                         help="read images that lie outside the folder of the CSV")
    command.add_argument("--workers", type=_whole(0, 64), metavar="N",
                         help="threads that decode and prepare images; never changes a result")


def _digest_option(command):
    command.add_argument("--expect-sha256", metavar="DIGEST", help="refuse a weights file with another SHA-256, as "
                         "sha256sum prints it (of a run: best.safetensors; last.safetensors under the paper's "
                         "protocol, average.safetensors where the recipe averages)")


def _hold_out_option(command):
    command.add_argument("--hold-out", metavar="SOURCE", help="test on a source that training has seen nothing of: all "
                         "of it and, where it has positives, a share of the patients who have only negatives (honest "
                         "protocol, two classes, a source column; a split column then plays no part)")


def _train_options(commands):
    train = _command(commands, "train", _train, "train COV-19Net and measure it", """examples:
  minicnn train                                              embedded synthetic radiographs, made from the seed
  minicnn train --data radiographs/ --out runs/mine          a folder with one folder per class
  minicnn train --data index.csv --protocol paper --seed 1   the paper's own protocol, which leaks
  minicnn train --data index.csv --hold-out cohen            how well it does on a source it has never seen
  minicnn train --resume runs/mine                           go on after an interruption""")
    _source_options(train)
    train.add_argument("--out", metavar="RUN", help="the run folder (default: the next free runs/NNN)")
    train.add_argument("--epochs", type=_whole(1), default=20, metavar="N", help="default: %(default)s")
    train.add_argument("--steps-per-epoch", type=_whole(1), default=100, metavar="N",
                       help="batches an epoch (default: %(default)s; the paper says 100 in one place, 200 in another)")
    train.add_argument("--batch-size", type=_whole(1), default=32, metavar="N", help="default: %(default)s")
    train.add_argument("--learning-rate", type=_positive, default=1e-3, metavar="RATE", help="default: %(default)s")
    train.add_argument("--seed", type=_whole(0, 2**64 - 1), default=0, metavar="N",
                       help="decides split, initial weights, order and augmentation; repeats a run to the bit "
                            "(default: %(default)s)")
    train.add_argument("--protocol", choices=["honest", "paper"], default="honest",
                       help="honest: 70/15/15 by patient, augmentation in training only; paper: augment, then split "
                            "70/30 by image, as published: copies of one radiograph fall on both sides, so its "
                            "validation figures are too good (default: %(default)s)")
    train.add_argument("--augmentation", choices=["honest", "paper", "none"], default=None,
                       help="what training images go through under the honest protocol (default: honest)")
    train.add_argument("--recipe", choices=["paper", "robust"], default="paper",
                       help="robust: what held up best on sources it had not seen (default: %(default)s)")
    _hold_out_option(train)
    train.add_argument("--classes", type=_classes, metavar="NEGATIVE,POSITIVE[,...]", help="labels in the order of the "
                       "outputs; needed where it is not plain which of two is the positive one")
    train.set_defaults(of_the_plan={action.dest: action.default for action in train._actions if action.dest not in
                                    ("help", "debug")})
    train.add_argument("--threads", type=_whole(1, 256), metavar="N", help="threads that compute; never changes a "
                       "result (default: the cores available)")
    train.add_argument("--resume", metavar="RUN", help="go on with the run in this folder, with its options")
    _output_options(train)


def _evaluate_options(commands):
    evaluate = _command(commands, "evaluate", _evaluate, "measure a trained network", """examples:
  minicnn evaluate runs/001                              what was measured when training ended
  minicnn evaluate runs/001 --data hospital/index.csv    on other images
  minicnn evaluate runs/001 --data hospital/ --shortcuts is it the lungs that it looks at?
  minicnn evaluate runs/001 --report page.html           as a page with pictures""", NOT_A_DEVICE)
    evaluate.add_argument("run_folder", metavar="RUN", help="a run folder, or a .safetensors file")
    _source_options(evaluate)
    _digest_option(evaluate)
    evaluate.add_argument("--allow-training-images", action="store_true",
                          help="measure on images that the network was trained on too, and say so")
    evaluate.add_argument("--calibrated", action="store_true", help="measure the probabilities at the temperature that "
                          "the run fixed on its validation part (with --data)")
    evaluate.add_argument("--shortcuts", action="store_true",
                          help="also ask whether it is the lungs that the network looks at: the same images without "
                               "border, without middle, re-encoded, inverted and blurred (with --data); exits with 1 "
                               "where it finds a shortcut")
    evaluate.add_argument("--report", metavar="FILE.html", help="write a self-contained page")
    evaluate.add_argument("--threads", type=_whole(1, 256), metavar="N", help="threads that compute")
    _output_options(evaluate)


def _predict_options(commands):
    predict = _command(commands, "predict", _predict, "ask a trained network about images", """examples:
  minicnn predict runs/001 scan.png
  minicnn predict runs/001 scans/*.png --csv out.csv""", NOT_A_DEVICE)
    predict.add_argument("run_folder", metavar="RUN", help="a run folder, or a .safetensors file")
    predict.add_argument("files", nargs="+", metavar="FILE", help="image files")
    predict.add_argument("--csv", metavar="OUT", help="also write a CSV with one row a file, in order")
    _digest_option(predict)
    predict.add_argument("--threads", type=_whole(1, 256), metavar="N", help="threads that compute")
    predict.add_argument("--json", action="store_true", help="print JSON on stdout")


def _data_options(commands):
    data = commands.add_parser("data", help="make or inspect images",
                               description="Make or inspect collections of images.")
    parts = data.add_subparsers(title="commands", metavar="COMMAND", required=True)
    phantom = _command(parts, "phantom", _data_phantom, "write synthetic radiographs as files with a manifest",
                       """example:
  minicnn data phantom phantoms/ --n 820 && minicnn train --data phantoms/manifest.csv""")
    phantom.add_argument("folder_out", metavar="DIR", help="a folder that is empty or not there yet")
    phantom.add_argument("--n", type=_whole(2, 10**7), default=820, metavar="N", help="images (default: %(default)s)")
    phantom.add_argument("--seed", type=_whole(0, 2**64 - 1), default=0, metavar="N", help="default: %(default)s")
    phantom.add_argument("--size", type=_whole(32, 2048), default=256, metavar="PIXELS", help="default: %(default)s")
    phantom.add_argument("--quiet", action="store_true", help="no progress on stderr")
    split = _command(parts, "split", _data_split, "show, and write, which image falls into which part")
    _source_options(split, required=True)
    split.add_argument("--protocol", choices=["honest", "paper"], default="honest", help="default: %(default)s")
    split.add_argument("--seed", type=_whole(0, 2**64 - 1), default=0, metavar="N", help="default: %(default)s")
    split.add_argument("--classes", type=_classes, metavar="NEGATIVE,POSITIVE[,...]", help="labels in order")
    _hold_out_option(split)
    split.add_argument("--out", metavar="FILE.csv", help="write a manifest with a split column")
    split.add_argument("--quiet", action="store_true", help="no progress on stderr")
    _add(parts, "audit", audit, "look for what makes figures on a collection untrue", "",
         lambda command: _source_options(command, required=True), _classes_option)
    _add(parts, "import", import_collection, "write the manifest of a public collection, as unpacked")


def _output_options(command):
    command.add_argument("--quiet", action="store_true", help="no progress on stderr")
    command.add_argument("--json", action="store_true", help="print the metrics as JSON on stdout")


def _whole(low, high=2**31 - 1):
    def whole(text):
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"expected a whole number from {low} to {high}, got {text!r}")
        return value
    return whole


def _positive(text):
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text!r}")
    return value


def _classes(text):
    names = [name.strip() for name in text.split(",")]
    if len(names) < 2 or "" in names or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"expected two or more different names with commas between, got {text!r}")
    return names


def _columns(text):
    pairs = [pair.split("=", 1) for pair in text.split(",")]
    if any(len(pair) != 2 or not all(pair) for pair in pairs):
        raise argparse.ArgumentTypeError(f"expected NAME=HEADER[,NAME=HEADER...], got {text!r}")
    return dict(pairs)
