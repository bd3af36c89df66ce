"""The API reference is built from the docstrings without a warning, and documents what is public."""

import importlib
import posixpath
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pdoc", reason="needs the extra docs: pip install -e '.[docs]'")
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The text of each page by the name of its module."""
    folder = tmp_path_factory.mktemp("docs")
    done = subprocess.run([sys.executable, "-m", "docs", folder], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return {".".join(path.relative_to(folder).with_suffix("").parts): path.read_text(encoding="utf-8")
            for path in folder.rglob("*.html")}


def test_the_command_is_in_contributing():
    assert "python -m docs" in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_the_public_names_are_documented(pages):
    names = """layers losses optimizers metrics callbacks networks data experiment evaluation gradient_check reference
        weights errors""".split()
    for module in ("minicnn", *(f"minicnn.{name}" for name in names)):
        public = importlib.import_module(module).__all__
        assert {name for name in public if f'<section id="{name}">' not in pages[module]} == set(), module
    assert {"minicnn.evaluation", "minicnn.evaluation.intervals", "minicnn.plotting.run"} < set(pages)
    assert not [module for module in pages if re.search(r"minicnn\.(core|cli|reporting|study|kernels\.)", module)]


def test_sections_are_lists(pages):
    """No heading of numpydoc is left as it stands in the source, and each page is reached from the first."""
    for module, page in pages.items():
        shown = re.sub(r"<pre.*?</pre>", "", page, flags=re.S)
        assert not re.search(r"^-{3,}$|<hr", shown, re.M), module
        assert module in ("index", "minicnn") or f'href="{module.replace(".", "/")}.html"' in pages["minicnn"], module
    assert "<li><strong>seed</strong>: int" in pages["minicnn"]


def test_links_lead_somewhere(pages):
    for module, page in pages.items():
        shown = re.sub(r"<script.*?</script>|<pre.*?</pre>", "", page, flags=re.S)
        for path, place in re.findall(r'href="((?!https?:|data:)[^"#]*)#?([^"]*)"', shown):
            file = posixpath.normpath(posixpath.join(posixpath.dirname(module.replace(".", "/")), path))
            other = pages.get(file.removesuffix(".html").replace("/", ".") if path else module)
            assert other and (not place or f'id="{place}"' in other), f"{module}: {path}#{place}"


def test_a_docstring_in_markdown():
    from docs import __main__ as docs
    text = ("Add.\n\nParameters\n----------\nx : int: one\ny : int,\n    optional\n\n"
            "Raises\n------\nError\n    always\n\n>>> add(1)")
    assert [line for line in docs.markdown(text).splitlines() if line] == [
        "Add.", "###### Parameters", "- **x**: int: one", "- **y**: int,", "    optional",
        "###### Raises", "- **Error**: always", "###### Examples", ">>> add(1)"]
