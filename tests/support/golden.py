"""Golden outputs: what a command prints, word for word, as it was read and approved."""

import difflib
import os
from pathlib import Path


def check(path, text):
    """Compare text with a golden file; MINICNN_WRITE_GOLDEN=1 writes the file anew, to be read before it is kept."""
    path = Path(path)
    if os.environ.get("MINICNN_WRITE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    kept = path.read_text(encoding="utf-8")
    assert text == kept, "\n".join(difflib.unified_diff(kept.splitlines(), text.splitlines(), path.name, "now"))
