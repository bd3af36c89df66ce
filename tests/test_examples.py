"""The chapters of examples/: each runs, asserts its claims, draws its plot, and has the form of a chapter."""

import ast
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"
CHAPTERS = sorted(EXAMPLES.glob("[01][0-9]_*.py"))
README = (EXAMPLES / "README.md").read_text(encoding="utf-8")
each_chapter = pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)


@each_chapter
def test_it_runs_says_what_it_found_and_draws_its_plot(chapter, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MINICNN_FIGURES", str(tmp_path / "figures"))
    monkeypatch.chdir(tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in (EXAMPLES / "figures").iterdir()}
    runpy.run_path(str(chapter), run_name="__main__")
    *found, last = capsys.readouterr().out.splitlines()
    assert last == f"The plot: {tmp_path / 'figures' / chapter.stem}.png"
    assert any(re.search(r"\d", line) for line in found)
    assert [path.name for path in tmp_path.iterdir()] == ["figures"]
    drawn, = (tmp_path / "figures").iterdir()
    assert drawn.name == f"{chapter.stem}.png" and drawn.stat().st_size < 60_000
    with Image.open(drawn) as image:
        assert image.width >= 900 and np.asarray(image.convert("L")).std() > 5
    assert before == {path.name: path.stat().st_mtime_ns for path in (EXAMPLES / "figures").iterdir()}


@each_chapter
def test_it_is_a_chapter(chapter):
    """Cells of text and code in turn, short, with asserted claims and seeded random numbers."""
    text = chapter.read_text(encoding="utf-8")
    lines = text.splitlines()
    assert len(lines) <= 120 and max(map(len, lines)) <= 120
    assert re.match(rf"# %% \[markdown\]\n# # {int(chapter.stem[:2])}\. [A-Z]", text)
    marks = [line for line in lines if line.startswith("# %%")]
    assert set(marks) == {"# %%", "# %% [markdown]"} and marks.count("# %% [markdown]") >= 5
    claims = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Assert)]
    assert len(claims) >= 4
    assert "default_rng()" not in text and "np.random.seed" not in text


def code_cells(text):
    """Return the cells of code, and those of text without their `# `."""
    cells = re.split(r"^# %%(.*)\n", text, flags=re.M)[1:]
    return list(zip(cells[::2], cells[1::2]))


@each_chapter
def test_text_cells_hold_text_alone(chapter):
    for mark, cell in code_cells(chapter.read_text(encoding="utf-8")):
        if "markdown" in mark:
            assert all(line.startswith("#") for line in cell.strip().splitlines())
        else:
            ast.parse(cell)


def test_plots_are_saved_beside_the_script_and_a_notebook_shows_them(tmp_path, monkeypatch):
    from minicnn.teaching import drawing

    def draw():
        fig = drawing.figure(3, 2)
        drawing.plot(fig.subplots(), "title", "x", "y")
        return drawing.save(fig, "some")

    monkeypatch.delenv("MINICNN_FIGURES", raising=False)
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(tmp_path / "chapter.py"), raising=False)
    shown = draw()
    assert shown.path == tmp_path / "figures" / "some.png" and shown._repr_png_().startswith(b"\x89PNG")
    monkeypatch.delattr(sys.modules["__main__"], "__file__")            # as in a notebook, whose folder it runs in
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert draw().path.resolve() == tmp_path.resolve() / "notebooks" / "figures" / "some.png"
    assert shown._repr_png_() == (tmp_path / "notebooks" / "figures" / "some.png").read_bytes()


def test_they_are_numbered_from_one():
    assert [int(path.stem[:2]) for path in CHAPTERS] == list(range(1, 15))


def test_the_contents_name_each_chapter_and_plot_once():
    assert re.findall(r"\]\((\d\d_\w+\.py)\)", README) == [path.name for path in CHAPTERS]
    plots = re.findall(r"!\[[^\]]{20,}\]\(figures/(\w+\.png)\)", README)
    assert plots == [f"{path.stem}.png" for path in CHAPTERS]
    kept = sorted((EXAMPLES / "figures").iterdir())
    assert [path.name for path in kept] == plots
    assert all(path.stat().st_size < 60_000 for path in kept) and sum(path.stat().st_size for path in kept) < 600_000


def test_the_contents_name_each_exercise():
    from minicnn.teaching.exercises import EXERCISES
    assert sorted(re.findall(r"^\| `([\w-]+)` \|", README, re.M)) == sorted(EXERCISES)


def test_the_message_shown_is_what_is_printed():
    from minicnn import reference
    from minicnn.teaching.exercises import find_mistake

    def flipped(x, w, b, strides, pads):
        return reference.conv2d(x, w[::-1, ::-1], b, strides, pads)

    message = find_mistake("conv-forward", flipped)
    assert f"\n{message}\n```" in README
