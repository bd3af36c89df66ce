"""`minicnn trace`: the options of the command, and what it does. Everything else is imported when it runs."""

from minicnn.errors import printable

__all__ = ["EXAMPLES", "add_options", "run"]

EXAMPLES = """examples:
  minicnn trace                               COV-19Net with its initial weights, on a synthetic radiograph
  minicnn trace runs/001 scan.png             a trained network on a picture
  minicnn trace runs/001 --html trace.html    as a page: pick a layer and a pixel, see every product"""


def add_options(command):
    """Add the options of `minicnn trace` to its parser."""
    command.add_argument("what", nargs="?", default="cov19net", metavar="cov19net | RUN",
                         help="the network: a run folder, or a .safetensors file (default: cov19net)")
    command.add_argument("file", nargs="?", metavar="FILE", help="a picture (default: a synthetic radiograph)")
    command.add_argument("--html", metavar="OUT.html", help="write a page instead of printing")


def run(options):
    """Print the trace, or write its page."""
    from minicnn.data.loader import open_dataset
    from minicnn.data.preprocessing import Preprocessing
    from minicnn.teaching.trace import trace

    model, name = _model(options.what)
    preprocessing = model.preprocessing or Preprocessing(*model.input_shape)
    if options.file is None:
        x, t, what = *_radiograph(preprocessing, model), "a synthetic radiograph"
    else:
        x, t, what = open_dataset(options.file, preprocessing, model.classes, "trace"), None, options.file
    traced = trace(model, x, t)
    if options.html is None:
        print(traced)
        return
    traced.page(options.html, f"{name} on {what}")
    print(f"The page: {printable(options.html)}")


def _model(what):
    """Return (the network, what to call it)."""
    if what == "cov19net":
        from minicnn import cov19net
        return cov19net(), "COV-19Net"
    from minicnn.experiment import training_run
    return training_run.load_model(what), what


def _radiograph(preprocessing, model):
    """Return (x, t) of a synthetic radiograph that shows COVID-19; t is None where the network knows other classes."""
    import numpy as np

    from minicnn.data.preprocessing import resize, to_input
    from minicnn.data.synthetic import phantom

    made = phantom.generate(n=2, size=max(32, min(preprocessing.height, preprocessing.width, 2048)))
    shown = int(made.labels.argmax())
    pixels = made.images[shown]
    if preprocessing.color == "rgb":
        pixels = np.repeat(pixels[..., np.newaxis], 3, axis=2)
    known = model.output_shape == (1,) and model.classes in (None, made.classes)
    return to_input(resize(pixels, preprocessing)[np.newaxis], preprocessing), [1] if known else None
