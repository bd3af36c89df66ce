"""`minicnn trace`: the numbers of a network on one image, layer by layer."""

from pathlib import Path

from minicnn.cli.options import add_shared, load_network, path
from minicnn.errors import printable

__all__ = ["HELP", "EXAMPLES", "add_options", "run"]

HELP = "explain a network on real numbers, layer by layer"
EXAMPLES = """examples:
  minicnn trace                               COV-19Net with its initial weights, on a synthetic radiograph
  minicnn trace runs/001 scan.png             a trained network on an image
  minicnn trace runs/001 --html trace.html    as a page: pick a layer and a pixel, see every product"""


def add_options(parser):
    add_shared(parser, "network")
    parser.add_argument("file", nargs="?", type=path, metavar="FILE", help="an image (default: a synthetic radiograph)")
    parser.add_argument("--html", type=path, metavar="OUT.html", help="write a page instead of printing")


def run(options):
    """Print the trace, or write its page."""
    from minicnn.data.loader import open_dataset
    from minicnn.data.preprocessing import Preprocessing
    from minicnn.teaching.trace import trace

    model = load_network(options.network)
    preprocessing = model.preprocessing or Preprocessing(*model.input_shape)
    if options.file is None:
        x, t, classes, what = *_radiograph(preprocessing, model), "a synthetic radiograph"
    else:
        x, t, classes = open_dataset(options.file, preprocessing, model.classes, "trace"), None, model.classes
        what = Path(options.file).name
    traced = trace(model, x, t)
    traced.classes = classes
    if options.html is None:
        print(traced)
        return
    network = Path(options.network).resolve()
    name = "COV-19Net" if options.network == "cov19net" else f"Run {network.name}" if network.is_dir() else network.name
    traced.page(options.html, f"{name} on {what}")
    print(f"The page: {printable(options.html)}")


def _radiograph(preprocessing, model):
    """Return (x, t, classes) of a synthetic radiograph with COVID-19; t is None if the network has other classes."""
    import numpy as np

    from minicnn.data.preprocessing import resize, to_input
    from minicnn.data.synthetic import phantom

    made = phantom.generate(n=2, size=max(32, min(preprocessing.height, preprocessing.width, 2048)))
    pixels = made.images[int(made.labels.argmax())]
    if preprocessing.color == "rgb":
        pixels = np.repeat(pixels[..., np.newaxis], 3, axis=2)
    known = model.output_shape == (1,) and model.classes in (None, made.classes)
    x = to_input(resize(pixels, preprocessing)[np.newaxis], preprocessing)
    return (x, [1], made.classes) if known else (x, None, model.classes)
