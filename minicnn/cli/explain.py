"""`minicnn explain`: the options of the command, and what it does. Everything else is imported when it runs."""

import json
import re
from pathlib import Path

from minicnn.errors import CheckpointError, printable

__all__ = ["EXAMPLES", "add_options", "run"]

EXAMPLES = """examples:
  minicnn explain runs/001 scan.png                          Grad-CAM of the last convolution
  minicnn explain runs/001 scans/*.png --layer conv2d_2      of another layer, where the map is finer
  minicnn explain runs/001 scan.png --method hirescam        each place with its own gradient
  minicnn explain runs/001 scan.png --method occlusion       what hiding each place costs
  minicnn explain runs/001 scans/*.png --sanity              does the map depend on what was learnt?"""


def add_options(command):
    """Add the options of `minicnn explain` to its parser."""
    command.add_argument("run_folder", metavar="RUN", help="a run folder, or a .safetensors file")
    command.add_argument("files", nargs="+", metavar="FILE", help="image files")
    command.add_argument("--method", choices=["gradcam", "hirescam", "occlusion"], default="gradcam",
                         help="hirescam: Grad-CAM with each place's own gradient (default: %(default)s)")
    command.add_argument("--layer", metavar="NAME", help="the convolution to look at, such as conv2d_3 "
                                                         "(default: the last one)")
    command.add_argument("--target", metavar="CLASS", help="the class to explain (default: the network's answer)")
    command.add_argument("--out", default="explanations", metavar="DIR",
                         help="where the pictures go, a PNG for each file (default: %(default)s)")
    command.add_argument("--sanity", action="store_true", help="also make the layers forget one after another, and "
                                                               "print how much of the maps is left")
    command.add_argument("--expect-sha256", metavar="DIGEST", help="refuse a weights file with another SHA-256")
    command.add_argument("--json", action="store_true", help="print JSON on stdout")


def run(options):
    """Explain the files, write a picture of each, and print where they are and what they say."""
    import numpy as np

    from minicnn.data.loader import open_dataset
    from minicnn.data.preprocessing import Preprocessing
    from minicnn.evaluation.explanation.gradcam import check_classifies, convolutions, explain
    from minicnn.evaluation.explanation.sanity import border_check
    from minicnn.experiment import training_run
    from minicnn.plotting.explanation import explanation

    model = training_run.load_model(options.run_folder, options.expect_sha256)
    check_classifies(model)
    preprocessing = model.preprocessing or Preprocessing(*model.input_shape)
    source = open_dataset([str(file) for file in options.files], preprocessing, model.classes, "explain")
    pictures = source.batch(np.arange(len(source)))
    explained = explain(model, pictures, options.method, options.layer, options.target)
    paths = _names(options.files, options.out, options.method)
    _make(options.out)
    for i, (file, path) in enumerate(zip(options.files, paths)):
        explanation(pictures[i], explained, path, Path(file).name, i)
    report = {"method": explained.method, "layer": explained.layer, "even_share": explained.even_share, "files": [
        {"path": str(file), "class": name, "probability": round(float(p), 6), "border_share": share,
         "picture": str(path)}
        for file, name, p, share, path in zip(options.files, explained.names, explained.probabilities,
                                              explained.border_shares, paths)]}
    if options.sanity:
        from minicnn.evaluation.explanation.sanity import parameter_randomization
        rows = parameter_randomization(model, pictures, options.method, options.layer, explained.targets)
        report["sanity"] = [row._asdict() for row in rows]
    report["border"] = border_check(model, pictures)._asdict() if convolutions(model) else None
    print(json.dumps(report, allow_nan=False) if options.json else _text(report))


def _text(report):
    """Return the report for a terminal."""
    from minicnn.reporting.console import grid

    files = report["files"]
    rows = [("file", "class", "probability", "on the border", "picture")]
    rows += [(printable(one["path"]), printable(one["class"]), f"{one['probability']:.4f}",
              "no map" if one["border_share"] is None else _percent(one["border_share"]),
              printable(one["picture"])) for one in files]
    lines = grid(rows, numbers=(2, 3))
    what = {"gradcam": "Grad-CAM of ", "hirescam": "HiResCAM of "}.get(report["method"], "Occlusion")
    what += report["layer"] or ""
    lines += ["", f"{what}. Of a map that is the same everywhere, {_percent(report['even_share'])} would lie on the "
                  "border (the outer eighth of each side)."]
    if any(one["border_share"] is None for one in files):
        lines.append("No map: nothing in it speaks for the class. Try an earlier --layer, or --method occlusion.")
    if report["border"] is not None:
        lines += ["", report["border"]["sentence"]]
    if "sanity" in report:
        rows = [("random from here to the end", "correlation", "strength", "maps")]
        rows += [(row["layer"], *("undefined" if row[key] is None else f"{row[key]:.2f}"
                                  for key in ("correlation", "strength")), str(row["defined"]))
                 for row in report["sanity"]]
        lines += ["", "Sanity: rank correlation of the maps with those after layers have lost what they learnt. It "
                      "should come near 0;", "a map that stays the same (1) shows the picture, not the network."]
        lines += grid(rows, numbers=(1, 2, 3))
    return "\n".join(lines)


def _percent(share):
    return f"{100 * share:.0f} %"


def _names(files, folder, method):
    """Return a path in `folder` for the picture of each file: named after it, and no two the same.

    >>> [path.name for path in _names(["a/scan 1.png", "b/scan 1.png"], "out", "gradcam")]
    ['scan_1-gradcam.png', 'scan_1-2-gradcam.png']
    """
    taken, paths = set(), []
    for file in files:
        stem = re.sub(r"[^A-Za-z0-9_-]", "_", Path(file).stem)[:100] or "picture"
        name, number = stem, 1
        while name.lower() in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.lower())
        paths.append(Path(folder) / f"{name}-{method}.png")
    return paths


def _make(folder):
    try:
        Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"{printable(folder)}: the folder cannot be made ({error.strerror}). Choose another with "
                              "--out.") from error
