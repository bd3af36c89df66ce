"""The command line: the parser of all commands (a file each), and the exit code of each error.

Results go to stdout, progress and errors to stderr.
"""

import argparse
import errno
import faulthandler
import os
import shlex
import sys
import traceback
import warnings
from contextlib import suppress

from minicnn import __version__
from minicnn.cli import (audit, comparators, compare, doctor, evaluate, exercise, explain, export, gradcheck, import_collection,
                         phantom, predict, reproduce, split, summary, trace, train, warmup)
from minicnn.cli.options import NOT_A_DEVICE
from minicnn.core import signals
from minicnn.core.processes import Alone
from minicnn.errors import (CheckpointError, MiniCNNError, MissingExtraError, RunLockedError, WeightsError, nearest,
                            printable)

__all__ = ["main"]

COMMANDS = {"train": train, "evaluate": evaluate, "predict": predict, "compare": compare, "summary": summary,
            "trace": trace, "gradcheck": gradcheck, "exercise": exercise, "explain": explain, "export": export,
            "reproduce": reproduce, "comparators": comparators,
            "data": {"phantom": phantom, "split": split, "audit": audit, "import": import_collection},
            "warmup": warmup, "doctor": doctor}
_ABOUT_RADIOGRAPHS = ("evaluate", "predict", "compare", "trace", "explain", "reproduce", "comparators")   # their help has NOT_A_DEVICE

EXAMPLES = """examples:
  minicnn train                                  synthetic radiographs, no files, no network
  minicnn train --data radiographs/index.csv     your own, split by patient
  minicnn evaluate runs/001 --data other.csv     the trained network on other images
  minicnn predict runs/001 scan.png              one image
  minicnn COMMAND --help                         all options of a command"""

DONE, USAGE, BAD_DATA, BAD_CHECKPOINT, LOCKED, SIGNALLED = 0, 2, 3, 4, 5, 128
_CODES = {RunLockedError: LOCKED, CheckpointError: BAD_CHECKPOINT, WeightsError: BAD_CHECKPOINT,
          MissingExtraError: USAGE}


def main(arguments=None):
    """Run one command; return its exit code: 0 done, 1 a check failed, 2 usage, 3 bad data, numbers or memory,
    4 checkpoint or weights file, 5 run folder locked, 130 interrupted, 143 terminated.

    Without arguments it is the process, which is to end with it: signals then do not get their old handlers back.
    """
    options = _parser().parse_args(arguments)
    options.words, options.group = list(sys.argv[1:] if arguments is None else arguments), Alone()
    if not faulthandler.is_enabled():
        faulthandler.enable()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")       # as stderr is: a class's name may be beyond the locale
    form = warnings.formatwarning
    warnings.formatwarning = lambda message, *where: f"minicnn: {str(message).removeprefix('minicnn: ')}\n"
    try:
        code = _run(options, last=arguments is None)
        options.group.end(code)
        return code
    except BaseException:
        if options.group.size > 1:
            traceback.print_exc()
            options.group.end(1)        # at once: the interpreter would first wait for trainings in its threads
        raise
    finally:
        warnings.formatwarning = form


def _run(options, last):
    try:
        with signals.handled(last):
            if getattr(options, "mpi", False):
                options.group = _processes(options)
                if options.threads is None:
                    options.group.share_cores()
            if getattr(options, "threads", None) is not None:
                from minicnn.kernels.runtime.threads import set_thread_count
                set_thread_count(options.threads)
            with options.group.together():
                code = options.run(options) or DONE
                options.group.broadcast()           # the others wait, asleep, for what rank 0 does last
            sys.stdout.flush()
        return code
    except KeyboardInterrupt as signal:
        _tell(signal, f"{str(signal) or 'interrupted.'}{_how_to_resume(options)}")
        return SIGNALLED + getattr(signal, "number", 2)
    except BrokenPipeError:
        _drop_output()          # the reader of our output has ended: there is nobody to tell
        return DONE
    except (MiniCNNError, MemoryError) as error:
        if options.debug:
            raise
        # A manifest lists its problems, one a line; all else is one line.
        _tell(error, _out_of_memory(error) if _is_for_memory(error) else error)
        return BAD_DATA if _is_for_memory(error) else \
            next((code for kind, code in _CODES.items() if isinstance(error, kind)), BAD_DATA)
    except OSError as error:
        if options.debug:
            raise
        if _is_for_memory(error):
            _tell(error, _out_of_memory(error))
            return BAD_DATA
        _drop_output()
        _tell(error, f"the output could not be written: {error.strerror}.")
        return BAD_CHECKPOINT


def _tell(error, sentence):
    """Say what an error is on stderr, unless it is that of another process, which says it."""
    if not getattr(error, "relayed", False):
        print(f"minicnn: {sentence}", file=sys.stderr)


def _processes(options):
    """Return the processes that mpiexec started, which must have been given the same options."""
    from minicnn.distributed import MPI

    group, own = MPI(), ("run", "debug", "threads", "workers", "quiet", "json", "words", "group", "of_the_run")
    with group.together():
        group.same(f"minicnn {options.words[0]}", **{name: value for name, value in vars(options).items() if name not in own})
    if group.rank > 0:                          # rank 0 says what there is to say
        signals.say_nothing()
        warnings.simplefilter("ignore")
    if group.size == 1:
        print("minicnn: --mpi: this is one process, which shares with none. Start several: mpiexec -n 4 "
              f"{printable(shlex.join(['minicnn', *options.words]))}", file=sys.stderr)
    return group


def _is_for_memory(error):
    """Whether memory was the cause: of an array, of a checkpoint's arrays, or of a file that could not be mapped."""
    return isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError) or \
        getattr(error, "errno", None) == errno.ENOMEM


def _drop_output():
    """Discard what is still written to stdout; Python would try to write it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _out_of_memory(error):
    """Return how much memory was needed, as far as the error says, and how much there is."""
    has = ""
    with suppress(AttributeError, ValueError, OSError):         # Windows has neither of the two
        has = f"; this machine has {os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**20:,.0f} MiB"
    with suppress(ImportError):
        import resource
        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        has = has if limit == resource.RLIM_INFINITY else f"; this process may have {limit / 2**20:,.0f} MiB"
    needed = str(error).rstrip(".") or "one more array did not fit"
    return f"out of memory: {needed}{has}. Try a smaller --batch-size, or fewer --workers."


def _how_to_resume(options):
    command = getattr(options, "go_on", None)
    if getattr(options, "folder", None) is not None:
        from minicnn.experiment.run_folder import RunFolder
        command = RunFolder(options.folder).resume_command
    return "" if command is None else f" Go on with:\n  {command}"


# ---- The parser ------------------------------------------------------------------------------------------------------

def _parser():
    parser = _Parser(prog="minicnn", description="Train COV-19Net on chest radiographs, on a CPU, and evaluate it. "
                     + NOT_A_DEVICE, epilog=EXAMPLES)
    parser.add_argument("--version", action="version", version=f"minicnn {__version__}")
    _add_commands(parser, COMMANDS)
    return parser


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser that keeps the lines of its epilog, and names the nearest command, choice or option."""

    def __init__(self, **settings):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **settings)

    def _check_value(self, action, value):
        if action.choices is None or value in action.choices:
            return
        inner = {name: f"data {name}" for name in COMMANDS["data"]} if "data" in action.choices else {}
        hint = f" Did you mean {inner[value]!r}?" if value in inner else nearest(value, action.choices)
        raise argparse.ArgumentError(action, f"invalid choice: '{printable(value)}'.{hint} "
                                             f"Choose from {', '.join(map(str, action.choices))}.")

    def parse_known_args(self, args=None, namespace=None):
        """Refuse what is unknown here, where the options are known that it may be meant for."""
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            known = [name for action in self._actions for name in action.option_strings]
            first = next((word.split("=")[0] for word in unknown if word.startswith("-")), None)
            hint = nearest(first, known) if first else ""
            self.error("unrecognized arguments: " + " ".join(map(printable, unknown)) + (f".{hint}" if hint else ""))
        return options, unknown


def _add_commands(parser, commands):
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, command in commands.items():
        if isinstance(command, dict):
            _add_commands(subparsers.add_parser(name, help="make or inspect images", description="Make or inspect "
                                                "collections of images."), command)
            continue
        description = f"{command.HELP[0].upper()}{command.HELP[1:]}."
        if name in _ABOUT_RADIOGRAPHS:
            description += " " + NOT_A_DEVICE
        added = subparsers.add_parser(name, help=command.HELP, description=description, epilog=command.EXAMPLES)
        added.add_argument("--debug", action="store_true", help="show the traceback of an error")
        added.set_defaults(run=command.run)
        command.add_options(added)
