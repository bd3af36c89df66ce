"""What the chapters of the report and the checklists read out of the results of a study (results.py)."""

from minicnn.errors import printable
from minicnn.reporting.document import Picture, Text
from minicnn.reporting.tables import join, number

__all__ = ["PROTOCOLS", "of", "printed", "claimed", "layers_of", "recipe_of", "counts_of", "drawn"]

PROTOCOLS = {"paper": "the paper's protocol", "honest": "the honest protocol", "robust": "recipe robust"}


def of(results, protocol, part):
    """Return the description, as mean over the seeds, of a part under a protocol; None where there is none."""
    return (((results["protocols"].get(protocol) or {}).get("parts") or {}).get(part) or {}).get("mean")


def printed(results, part="validation"):
    """Return {metric: value} of what the paper prints for a part in Table II."""
    return (results["paper"].get("table_ii") or {}).get(part) or {}


def claimed(results):
    """Return the accuracy that the paper prints for validation, or None."""
    return printed(results).get("accuracy")


def layers_of(results):
    """Return the rows of the network's layers, without their total."""
    return [layer for layer in results["layers"] if layer["name"] != "total"]


def recipe_of(fold, recipe="paper"):
    """Return the description of a fold with a source held out, under a recipe; None where there is none."""
    return (fold.get("recipes") or {}).get(recipe)


def counts_of(counts):
    """Return {class: number of images} as words.

    >>> counts_of({"normal": 1410, "covid": 3})
    '1,410 normal and 3 covid'
    """
    return join(f"{number(n)} {printable(name)}" for name, n in counts.items())


def drawn(results, key, caption, alt):
    """Return the Picture of a key of results["figures"]; where it was not drawn, a Text that says so."""
    path = results["figures"].get(key)
    return Text(f"Not drawn: {caption}") if path is None else Picture(path, caption, alt)
