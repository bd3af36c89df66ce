"""The page of a run: self-contained and passive, with hostile names escaped."""

import base64
import io
import json
import shutil
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from benchmarks.reliability.hostile_files import PAYLOADS
from minicnn import experiment, metrics
from minicnn.errors import CheckpointError, ImageError, MissingExtraError, printable
from minicnn.evaluation.summary import summarize
from minicnn.experiment.run_page import page
from minicnn.experiment.run_plots import read_answers
from minicnn.metrics import binary_metrics
from tests.support.browser import chromium, resize


def png():
    file = io.BytesIO()
    Image.fromarray(np.zeros((6, 8), np.uint8)).save(file, "PNG")
    return file.getvalue()


PNG = png()
PARTS = {"training": binary_metrics([0, 1], [0.1, 0.9], loss=0.25),
         "test": binary_metrics([0, 0], [0.1, 0.2], loss=0.5)}
TAGS = {"html", "head", "meta", "title", "style", "body", "header", "main", "footer", "h1", "h2", "p", "strong", "div",
        "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "figure", "figcaption", "img", "link", "a", "nav", "ol",
        "details", "summary", "section", "caption", "i", "b", "small", "span", "svg", "path", "text", "g"}
ATTRIBUTES = {"lang", "charset", "http-equiv", "content", "name", "class", "scope", "src", "alt", "rel", "href", "id",
              "role", "aria-label", "aria-labelledby", "tabindex", "data-head", "width", "height", "style", "viewbox", "d",
              "x", "y", "text-anchor", "transform", "stroke-dasharray"}


class Walker(HTMLParser):
    """Collect tags, attributes and text, and insist that what opens is closed in order."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.text, self._open = [], [], [], []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attributes]
        if tag not in ("meta", "img", "link"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if "style" not in self._open:
            self.text.append(data)

    def handle_comment(self, data):
        raise AssertionError("a comment")


def walk(path):
    walker = Walker(path.read_text(encoding="utf-8"))
    assert set(walker.tags) <= TAGS
    assert {name for _, name, _ in walker.attributes} <= ATTRIBUTES
    assert all(value.startswith("data:image/png;base64,") for _, name, value in walker.attributes if name == "src")
    assert all(value.startswith("#") or value == "data:," for _, name, value in walker.attributes if name == "href")
    policy = [value for tag, name, value in walker.attributes if (tag, name) == ("meta", "content")]
    assert policy[0] == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return walker


def told(n=60, **more):
    """A description of n images of n / 2 patients."""
    labels, p = np.arange(n) % 2, (np.arange(n) % 7 + 3 * (np.arange(n) % 2)) / 11
    return summarize(labels, p, clusters=np.arange(n) // 2, loss=0.5, samples=50, **more)


def test_page_shows_metrics_images_options_and_the_warning(tmp_path):
    for name in ("curves", "reliability"):
        (tmp_path / f"{name}.png").write_bytes(PNG)
    page(tmp_path / "r.html", "Run 7", PARTS,
         {"Loss by epoch": tmp_path / "curves.png", "Reliability": tmp_path / "reliability.png"},
         {"epochs": 20, "columns": {"label": "finding"}, "data": None}, ["normal", "covid"],
         ["Seen once."])
    walker = walk(tmp_path / "r.html")
    text = " ".join(" ".join(walker.text).split())
    assert "not a medical device" in text and "Positive is covid" in text and "Seen once." in text
    assert "accuracy 100.0 % 100.0 %" in text and "recall 100.0 % undefined" in text and "loss 0.250 0.500" in text
    assert "test: undefined AUC, because all samples have the same label." in text
    assert 'epochs 20 columns {"label": "finding"} data null' in text
    assert [value for _, name, value in walker.attributes if name == "src"] == [
        "data:image/png;base64," + base64.b64encode(PNG).decode()] * 2
    assert walker.tags.count("h1") == 1 and text.startswith("Run 7 ")
    assert text.rindex("Reliability") < text.rindex("Loss by epoch")          # in the chapter it belongs to


def test_page_shows_intervals_thresholds_groups_and_shortcuts(tmp_path):
    one = told(threshold=0.45, columns={"view": ["PA", "PA", "AP", "L"] * 15, "sex": ["F"] * 60})
    alone = told(columns={"source": ["a", "b"] * 30})
    row = {"condition": "untouched", "what": "as they are", "accuracy": 0.5, "recall": 1.0, "specificity": None,
           "auc": 0.75, "interval": [0.6, 0.9], "change": None, "change_interval": None}
    check = {"rows": [row, row | {"condition": "middle black", "change": -0.25, "change_interval": [-0.5, 0.1]}],
             "sentences": ["SHORTCUT: it is the tag."], "patients": 30}
    page(tmp_path / "r.html", "t", {"validation": told(threshold=0.45), "test": one}, classes=["normal", "covid"],
         shortcuts=check)
    text = " ".join(" ".join(walk(tmp_path / "r.html").text).split())
    low, high = one["intervals"]["auc"]
    assert f"test: AUC {one['auc']:.3f} ({low:.3f} to {high:.3f})~, better than chance" in text
    assert "At the threshold fixed on validation: p > 0.45" in text and "these values are too good" in text
    points = one["reliability"]
    assert sum(point["n"] for point in points) == 60
    assert all(f"{point['n']} {point['predicted']:.3f} {100 * point['observed']:.1f} %" in text for point in points)
    assert "test, by view view images patients accuracy" in text and "approximate: the interval rests on fewer" in text
    assert "middle black 50.0 % 100.0 % undefined 0.75 0.60 to 0.90 -0.25 -0.50 to +0.10" in text
    assert "SHORTCUT: it is the tag." in text
    page(tmp_path / "r.html", "t", {"evaluation": alone}, classes=["normal", "covid"])
    text = " ".join(" ".join(walk(tmp_path / "r.html").text).split())
    assert "a: undefined recall, because no sample is positive." in text and "shortcut" not in text
    assert "b: undefined AUC, because all samples have the same label." in text


def test_the_page_of_a_run_draws_what_the_run_keeps(finished, tmp_path):
    """Curves, ROC, reliability and the confusion matrix are drawn from numbers; what cannot be read is shown as a file."""
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    experiment.evaluate(run, report=tmp_path / "a.html", progress=False)
    text = (tmp_path / "a.html").read_text("utf-8")
    walker = walk(tmp_path / "a.html")
    assert text.count('<svg class="plot"') == 2 + 1 + 3 and text.count("data:image/png;base64,") == 1       # samples
    summary = json.loads((run / "metrics.json").read_text())["test"]
    assert f"test: AUC {summary['auc']:.3f}" in text and all(f">{n:,}<small>" in text for row in summary["confusion"]["matrix"]
                                                             for n in row)
    assert "Confusion matrix: test. normal: " in [value for _, name, value in walker.attributes
                                                  if name == "aria-label" and "Confusion" in value][0]
    shown = read_answers(run, ["normal", "covid"])
    assert sorted(shown) == ["test", "training", "validation"] and len(shown["test"][0]) == summary["n"]
    assert metrics.auc(shown["test"][0], shown["test"][1][:, 0]) == pytest.approx(summary["auc"])
    (run / "predictions.csv").write_text("part,label,probability\ntest,normal,nan\ntest,flu,1\n")
    (run / "history.csv").write_text("epoch,loss\n1,x\n")
    experiment.evaluate(run, report=tmp_path / "b.html", progress=False)
    text = (tmp_path / "b.html").read_text("utf-8")
    assert text.count('<svg class="plot"') == 3 and text.count("data:image/png;base64,") == 3       # curves, ROC too


def test_a_browser_shows_the_page_without_errors(tmp_path):
    (tmp_path / "curves.png").write_bytes(PNG)
    page(tmp_path / "r.html", "Run 7", {"test": told(threshold=0.45, columns={"source": ["a long name", "b"] * 30})},
         {"Loss": tmp_path / "curves.png"}, {"data": "x" * 200}, ["normal", "covid"])
    with chromium(tmp_path / "profile") as browser:
        browser.requests()
        browser.get((tmp_path / "r.html").as_uri())
        assert browser.complaints() == []
        assert {address.split(":")[0] for address in browser.requests()} == {"file", "data"}
        for width in (1280, 390):
            resize(browser, width)
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def test_page_of_a_bare_run(tmp_path):
    page(tmp_path / "r.html", "t", PARTS)
    assert "img" not in walk(tmp_path / "r.html").tags


def test_hostile_names_stay_text(tmp_path):
    (tmp_path / "curves.png").write_bytes(PNG)

    def walked(word):
        metrics = PARTS["test"] | {"undefined": {"recall": word}}
        page(tmp_path / "r.html", word, {word: metrics}, {word: tmp_path / "curves.png"},
             {word: word, "inner": {word: [word]}}, [word, word], [word])
        return walk(tmp_path / "r.html")

    harmless = walked("x")
    for payload in PAYLOADS:
        hostile = walked(payload)
        assert hostile.tags == harmless.tags                # a name added nothing
        assert [pair[:2] for pair in hostile.attributes] == [pair[:2] for pair in harmless.attributes]
        text = (tmp_path / "r.html").read_text("utf-8")
        assert all(character.isprintable() or character == "\n" for character in text)
        assert printable(payload) in "".join(hostile.text)


def test_equal_input_gives_equal_bytes(tmp_path):
    for name in ("a.html", "b.html"):
        page(tmp_path / name, "t", PARTS)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_bad_images_folders_and_extras(tmp_path, monkeypatch):
    with pytest.raises(ImageError, match=r"none\.png: cannot be read \(No such file or directory\)\. Check the path"):
        page(tmp_path / "r.html", "t", PARTS, {"c": tmp_path / "none.png"})
    (tmp_path / "x.png").write_bytes(b"<svg>")
    with pytest.raises(ImageError, match=r"x\.png: expected a PNG file for the page\."):
        page(tmp_path / "r.html", "t", PARTS, {"c": tmp_path / "x.png"})
    with pytest.raises(CheckpointError, match=r"r\.html: not written, .* No such file or directory\. Create the folder first"):
        page(tmp_path / "nowhere" / "r.html", "t", PARTS)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match=r"writing the report needs jinja2, which is not installed\."):
        page(tmp_path / "r.html", "t", PARTS)
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]
