"""`minicnn explain`: heat maps of what a prediction depends on."""

import re
import sys
from pathlib import Path

from minicnn.cli.options import add_shared, lost, path, show
from minicnn.errors import CheckpointError, ManifestError, printable

__all__ = ["HELP", "EXAMPLES", "add_options", "run"]

HELP = "show which places of an image a prediction depends on"
EXAMPLES = """examples:
  minicnn explain runs/001 scan.png                          Grad-CAM of the last convolution
  minicnn explain runs/001 scans/ --layer conv2d_2           all images in a folder, another layer: a finer map
  minicnn explain runs/001 scan.png --method hirescam        each place with its own gradient
  minicnn explain runs/001 scan.png --method occlusion       how the probability falls when a place is hidden
  minicnn explain runs/001 scans/*.png --sanity              does the map depend on the trained weights?"""


def add_options(parser):
    add_shared(parser, "run_folder", "files", "--bits", "--expect-sha256", "--quiet", "--json")
    parser.add_argument("--method", choices=["gradcam", "hirescam", "occlusion"], default="gradcam",
                        help="hirescam: Grad-CAM with each place's own gradient (default: %(default)s)")
    parser.add_argument("--layer", metavar="NAME", help="a convolution, such as conv2d_3 (default: the last one)")
    parser.add_argument("--target", metavar="CLASS", help="the class to explain (default: the predicted class)")
    parser.add_argument("--out", type=path, default="explanations", metavar="DIR",
                        help="the folder of the plots, a PNG for each file (default: %(default)s)")
    parser.add_argument("--sanity", action="store_true", help="also randomize the layers one after another, and print "
                        "how much of the maps is left")


def run(options):
    """Explain the files, write a plot of each, and print where they are and what they show; 3 if one is unreadable."""
    import numpy as np

    from minicnn.data.loader import image_files, open_dataset
    from minicnn.evaluation.explanation.gradcam import check_classifies, convolutions, explain
    from minicnn.evaluation.explanation.sanity import border_check
    from minicnn.experiment.evaluation_run import load_model, preprocessing_of
    from minicnn.plotting.explanation import explanation
    from minicnn.plotting.style import attempt, not_drawn

    model = load_model(options.run_folder, options.expect_sha256)
    check_classifies(model)
    named, unreadable = image_files(options.files), {}
    dataset = open_dataset(named, preprocessing_of(model, options.bits), model.classes, "explain",
                           progress=not options.quiet, unreadable=unreadable)
    if dataset is None:
        raise ManifestError("\n  ".join(["explain: no file can be read", *unreadable.values()]))
    files, images = dataset.names, dataset.batch(np.arange(len(dataset)))
    explained = explain(model, images, options.method, options.layer, options.target)
    plots = _plot_paths(files, options.out, options.method)
    try:
        Path(options.out).mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"{printable(options.out)}: the folder cannot be made ({error.strerror}). Choose another "
                              "with --out.") from error
    failures = {}
    for i, (file, plot) in enumerate(zip(files, plots)):
        if not attempt(failures, printable(plot), explanation, images[i], explained, plot, Path(file).name, i):
            plots[i] = None
    told = iter([{"class": name, "probability": round(float(p), 6), "border_share": share,
                  "picture": None if plot is None else str(plot), "error": ""} for name, p, share, plot in
                 zip(explained.names, explained.probabilities, explained.border_shares, plots)])
    no = {"class": None, "probability": None, "border_share": None, "picture": None}
    report = {"method": explained.method, "layer": explained.layer, "even_share": explained.even_share, "files": [
        {"path": file} | (no | {"error": unreadable[number]} if number in unreadable else next(told))
        for number, file in enumerate(named)]}
    if options.sanity:
        from minicnn.evaluation.explanation.sanity import parameter_randomization
        rows = parameter_randomization(model, images, options.method, options.layer, explained.targets)
        report["sanity"] = [row._asdict() for row in rows]
    report["border"] = border_check(model, images)._asdict() if convolutions(model) else None
    show(options, report, _text)
    for sentence in not_drawn(failures):
        print(f"minicnn: {sentence}", file=sys.stderr)
    return lost(len(unreadable), len(named))


def _text(report):
    """Return the report for a terminal."""
    from minicnn.core.text import grid, number, percent

    files = [one for one in report["files"] if not one["error"]]
    errors = [f"NOT READ: {one['error']}" for one in report["files"] if one["error"]]
    rows = [("file", "explained class", "probability, uncalibrated", "on the border", "plot")]
    rows += [(printable(one["path"]), "not read", "-", "-", "-") if one["error"] else
             (printable(one["path"]), printable(one["class"]), f"{one['probability']:.4f}",
              "no map" if one["border_share"] is None else percent(one["border_share"], 0),
              printable(one["picture"] or "not drawn")) for one in report["files"]]
    lines = grid(rows, numbers=(2, 3))
    lines += ["", *errors] if errors else []
    what = {"gradcam": "Grad-CAM of ", "hirescam": "HiResCAM of "}.get(report["method"], "Occlusion")
    what += report["layer"] or ""
    lines += ["", f"{what}. Of a map that is the same everywhere, {percent(report['even_share'], 0)} would lie on the "
                  "border (the outer eighth of each side)."]
    if any(one["border_share"] is None for one in files):
        lines.append("No map: no place of the image supports the class. Try an earlier --layer, or --method occlusion.")
    if report["border"] is not None:
        lines += ["", report["border"]["sentence"]]
    if "sanity" in report:
        rows = [("randomized from here to the end", "correlation", "strength", "maps")]
        rows += [(row["layer"], number(row["correlation"], "{:.2f}"), number(row["strength"], "{:.2f}"),
                  str(row["defined"])) for row in report["sanity"]]
        lines += ["", "Sanity: rank correlation of the maps with those of the same network with randomized layers. It "
                      "should come near 0;", "a map that stays the same (1) shows the image, not the network."]
        lines += grid(rows, numbers=(1, 2, 3))
    return "\n".join(lines)


def _plot_paths(files, folder, method):
    """Return a path in `folder` for the plot of each file: named after it, and no two the same.

    >>> [path.name for path in _plot_paths(["a/scan 1.png", "b/scan 1.png"], "out", "gradcam")]
    ['scan_1-gradcam.png', 'scan_1-2-gradcam.png']
    """
    taken, paths = set(), []
    for file in files:
        stem = re.sub(r"[^A-Za-z0-9_-]", "_", Path(file).stem)[:100] or "image"
        name, number = stem, 1
        while name.lower() in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.lower())
        paths.append(Path(folder) / f"{name}-{method}.png")
    return paths
