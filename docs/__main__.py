"""`python -m docs [FOLDER]` builds the API reference from the docstrings, by default into build/docs (extra: docs)."""

import re
import sys
import warnings
from pathlib import Path

import pdoc
from jinja2 import pass_context

from minicnn.interop.sklearn import CNNClassifier

# In the order of the menu. Where a package has no `__all__`, its modules come with it.
MODULES = r"""
    minicnn minicnn.layers minicnn.losses minicnn.regularizers minicnn.optimizers minicnn.initializers minicnn.metrics
    minicnn.callbacks
    minicnn.networks minicnn.interop minicnn.distributed minicnn.data minicnn.data.manifest minicnn.data.split minicnn.data.collections
    minicnn.data.dicom minicnn.data.dicom_folder
    minicnn.data.synthetic.phantom minicnn.experiment minicnn.evaluation minicnn.evaluation.summary
    minicnn.evaluation.intervals minicnn.evaluation.comparison minicnn.evaluation.calibration
    minicnn.evaluation.operating_point minicnn.evaluation.out_of_distribution minicnn.evaluation.source_folds
    minicnn.evaluation.shortcut_test minicnn.evaluation.test_access minicnn.evaluation.auditing.auditor
    minicnn.evaluation.explanation.gradcam minicnn.evaluation.explanation.sanity minicnn.plotting minicnn.gradient_check
    minicnn.frozen minicnn.weights minicnn.errors minicnn.reference minicnn.kernels minicnn.teaching.bugs minicnn.teaching.exercises
    minicnn.teaching.trace
    !.*\.dense$""".split()          # named in __all__ as functions are, and no module is meant
LISTS = "Parameters", "Other Parameters", "Attributes", "Returns", "Yields", "Raises", "Warns"


def markdown(docstring):
    """Return a docstring in Markdown.

    pdoc reads numpydoc too, but expects descriptions below `name : type`, and a heading above examples.
    """
    start, *rest = re.split(r"^([A-Z][A-Za-z ]+)\n---+\n", docstring, flags=re.M)
    parts = [start]
    for heading, text in zip(rest[::2], rest[1::2]):
        text, *examples = re.split(r"^(?=>>>)", text, maxsplit=1, flags=re.M)
        if heading in LISTS:
            text = re.sub(r"^(\S.*?)(?: : |\n(?= ))\s*", r"- **\1**: ", text, flags=re.M)
        parts += [f"###### {heading}", text.strip()]
        if examples:
            parts += ["###### Examples", *examples] if text.strip() else examples
    return re.sub(r"Alias for field number \d+|Create new instance of .*", "", "\n\n".join(parts))      # of NamedTuples


def main(folder="build/docs"):
    warnings.simplefilter("error")      # a name in __all__ that does not exist, say
    for name in [name for name in vars(CNNClassifier) if name.endswith("_request")]:     # scikit-learn's, with pages there
        delattr(CNNClassifier, name)
    pdoc.render.configure(docformat="numpy", template_directory=Path(__file__).parent)
    to_markdown = pdoc.render.env.filters["to_markdown"]
    pdoc.render.env.filters["to_markdown"] = pass_context(lambda context, text: to_markdown(context, markdown(text)))
    pdoc.pdoc(*MODULES, output_directory=Path(folder))
    print(f"{folder}/index.html")


if __name__ == "__main__":
    main(*sys.argv[1:])
