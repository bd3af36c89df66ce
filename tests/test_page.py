"""The page of a run: self-contained, passive, and deaf to hostile names."""

import base64
import sys
from html.parser import HTMLParser

import pytest
from hostile import PAYLOADS

from minicnn.errors import CheckpointError, ImageError, MissingExtraError, printable
from minicnn.metrics import binary_metrics
from minicnn.report.page import page

PNG = b"\x89PNG\r\n\x1a\n" + b"pixels"
PARTS = {"training": binary_metrics([0, 1], [0.1, 0.9], loss=0.25),
         "test": binary_metrics([0, 0], [0.1, 0.2], loss=0.5)}
TAGS = {"html", "head", "meta", "title", "style", "body", "header", "main", "footer", "h1", "h2", "p", "strong", "div",
        "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "figure", "figcaption", "img"}
ATTRIBUTES = {"lang", "charset", "http-equiv", "content", "name", "class", "scope", "src", "alt"}


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
        if tag not in ("meta", "img"):
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
    policy = [value for tag, name, value in walker.attributes if (tag, name) == ("meta", "content")]
    assert policy[0] == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return walker


def test_page_shows_metrics_pictures_settings_and_the_warning(tmp_path):
    (tmp_path / "curves.png").write_bytes(PNG)
    page(tmp_path / "r.html", "Run 7", PARTS, {"Loss by epoch": tmp_path / "curves.png"},
         {"epochs": 20, "augmentation": {"zoom": 0.1, "one_technique": False}, "data": None}, ["normal", "covid"],
         ["Seen once."])
    walker = walk(tmp_path / "r.html")
    text = " ".join(" ".join(walker.text).split())
    assert "not a medical device" in text and "Positive is covid" in text and "Seen once." in text
    assert "training 2 100.00 % 100.00 % 100.00 % 100.00 % 100.00 % 1.0000 0.2500" in text
    assert "test 2 100.00 % 100.00 % undefined undefined undefined undefined 0.5000" in text
    assert "test AUC is undefined: all samples have the same label." in text
    assert "epochs 20 augmentation.zoom 0.1 augmentation.one_technique false data null" in text
    assert [value for _, name, value in walker.attributes if name == "src"] == [
        "data:image/png;base64," + base64.b64encode(PNG).decode()]
    assert walker.tags.count("h1") == 1 and text.startswith("Run 7 Run 7")


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


def test_equal_input_gives_equal_bytes_for_the_owner_alone(tmp_path):
    for name in ("a.html", "b.html"):
        page(tmp_path / name, "t", PARTS)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert (tmp_path / "a.html").stat().st_mode & 0o077 == 0


def test_bad_pictures_folders_and_extras(tmp_path, monkeypatch):
    with pytest.raises(ImageError, match=r"none\.png: cannot be read \(No such file or directory\)\. Check the path"):
        page(tmp_path / "r.html", "t", PARTS, {"c": tmp_path / "none.png"})
    (tmp_path / "x.png").write_bytes(b"<svg>")
    with pytest.raises(ImageError, match=r"x\.png: expected a PNG file for the page\."):
        page(tmp_path / "r.html", "t", PARTS, {"c": tmp_path / "x.png"})
    with pytest.raises(CheckpointError, match=r"r\.html: not written, .* No such file or directory\. Make the folder first"):
        page(tmp_path / "nowhere" / "r.html", "t", PARTS)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match=r"writing the report needs jinja2, which is not installed\."):
        page(tmp_path / "r.html", "t", PARTS)
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]
