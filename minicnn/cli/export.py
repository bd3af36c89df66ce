"""`minicnn export`: a trained network as a file of another tool."""

from pathlib import Path

from minicnn.cli.options import add_shared, checked, path, show
from minicnn.core.arguments import Text
from minicnn.errors import InputError, printable

__all__ = ["HELP", "EXAMPLES", "add_options", "run"]

HELP = "write a trained network as a file of ONNX, Keras or PyTorch"
EXAMPLES = """examples:
  minicnn export runs/001 model.onnx                                 for ONNX Runtime, OpenVINO and other engines
  minicnn export runs/001 model.onnx --layout nchw --input uint8     images (N, C, H, W) of pixels from 0 to 255
  minicnn export runs/001 model.keras                                opens in Keras 3; model.weights.h5: weights alone
  minicnn export runs/001 model.py                                   a module of PyTorch, and model.safetensors for it"""

_FOR_ONNX = ("layout", "input", "licence")


def add_options(parser):
    add_shared(parser, "run_folder")
    parser.add_argument("file", type=path, metavar="FILE", help="the file to write: its ending, .onnx, .keras, .weights.h5 or .py, "
                        "says for which tool")
    parser.add_argument("--layout", choices=["nhwc", "nchw"], help="the order of the axes of images in an ONNX file (default: nhwc)")
    parser.add_argument("--input", choices=["float32", "uint8"], help="what an ONNX file takes: values from 0 to 1, or pixels from 0 "
                        "to 255, which it divides itself (default: float32)")
    parser.add_argument("--licence", type=checked(Text(""), "be a text, such as CC-BY-4.0"), metavar="TEXT",
                        help="the licence of the weights, kept in an ONNX file")
    add_shared(parser, "--expect-sha256", "--json")


def run(options):
    """Write the file, and say what is in it."""
    kinds = {".onnx": _onnx, ".keras": _keras, ".weights.h5": _keras_weights, ".py": _pytorch}
    kind = next((write for ending, write in kinds.items() if options.file.endswith(ending)), None)
    if kind is None:
        raise InputError(f"{printable(options.file)}: the ending of FILE must be one of {', '.join(kinds)}.")
    given = {name: getattr(options, name) for name in _FOR_ONNX if getattr(options, name) is not None}
    if given and kind is not _onnx:
        raise InputError(f"--{next(iter(given))} is for ONNX files, FILE is {printable(options.file)}.")
    from minicnn import experiment
    model = experiment.load_model(options.run_folder, options.expect_sha256)
    files = [options.file, *kind(model, options, given)]
    facts = {"files": files, "input": model.input_shape, "output": model.output_shape, "classes": model.classes,
             "parameters": model.count_params()}
    show(options, facts, _text)


def _text(facts):
    classes = f", of the classes {', '.join(map(printable, facts['classes']))}" if facts["classes"] else ""
    return (f"{' and '.join(map(printable, facts['files']))}: {facts['parameters']:,} weights, inputs (N, "
            f"{', '.join(map(str, facts['input']))}), outputs (N, {', '.join(map(str, facts['output']))}){classes}")


def _onnx(model, options, given):
    from minicnn.evaluation.operating_point import OperatingPoint
    from minicnn.experiment.run_folder import RunFolder
    from minicnn.interop import onnx

    point = OperatingPoint.read(RunFolder(options.run_folder)) if Path(options.run_folder).is_dir() else None
    onnx.save(model, options.file, threshold=point and point.threshold, **given)
    return []


def _keras(model, options, given):
    from minicnn.interop import keras

    keras.save(model, options.file)
    return []


def _keras_weights(model, options, given):
    from minicnn.interop import keras

    keras.save_weights(model, options.file)
    return []


def _pytorch(model, options, given):
    from minicnn.interop import pytorch

    pytorch.save(model, options.file)
    return [options.file.removesuffix(".py") + ".safetensors"]
