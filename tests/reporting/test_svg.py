"""Drawings of a page: inline SVG that scales, and text of unknown origin that stays text."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from minicnn.reporting import plots
from minicnn.reporting.document import Bullets, Chapter, Estimate, Fold, Forest, Plot, Series, Table, Tile, Tiles, said_once
from minicnn.reporting.svg import drawn, ticks

HOSTILE = "</svg><script>alert('\x1b\u202e')</script>\"' onload=x"
POINTS = [{"low": 0.1, "high": 0.2, "n": 40, "predicted": 0.15, "observed": 0.2, "interval": (0.1, 0.4, 40, None)},
          {"low": 0.9, "high": 1.0, "n": 1, "predicted": 0.95, "observed": 1.0, "interval": None}]


def all_kinds(word):
    return [*plots.learning_curves([[{"epoch": 1, "loss": 0.5, "accuracy": None}, {"epoch": 2, "loss": 0.3}]]),
            plots.roc({word: [([0, 0.5, 1], [0, 1, 1])]}), *plots.reliability({word: POINTS, "none": []}),
            *plots.confusions({word: [[3, 1], [0, 4]]}, [word, "b"]),
            Forest([word], [(word, word, word, [Estimate(word)]), (word, "b", "", [Estimate("0.9", 0.9, 0.8, 1.0, (0.8, 0.95))])],
                   0.4, [True]),
            Tiles(word, [Tile((plots.png(np.eye(4)),), word, (word,), framed=True)])]


class Parser(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, tuple(attributes)))

    def handle_data(self, data):
        self.text += data


def test_each_svg_scales_and_equal_drawings_are_equal_bytes():
    page = drawn(all_kinds("x"))
    assert page == drawn(all_kinds("x"))
    shapes = [dict(attributes) for tag, attributes in Parser(page).tags if tag == "svg"]
    assert len(shapes) == 9                     # five panels, two strips, two samples of the key
    assert all("viewbox" in one and not {"width", "height", "id", "style"} & one.keys() for one in shapes)
    assert not re.search(r"\bnan\b|\binf\b|url\(|href", page)


def test_names_stay_text():
    harmless, hostile = Parser(drawn(all_kinds("x"))), Parser(drawn(all_kinds(HOSTILE)))
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in harmless.tags]
    assert [[name for name, _ in given] for _, given in hostile.tags] == [[name for name, _ in given]
                                                                          for _, given in harmless.tags]
    assert hostile.text.count("<script>alert('\\x1b\\u202e')</script>") == 13
    assert not {"\x1b", "\u202e"} & set(hostile.text)


def path_of(points, style="line"):
    page = drawn([Plot("t", "x", "", [Series("", points, style=style)])])
    return re.search(rf'class="{"faint" if style == "marks" else style}" d="([^"]*)"', page)


def test_a_missing_value_is_a_gap_and_points_on_a_level_line_are_left_out():
    assert path_of([(0, 0.1), (0.2, 0.1), (0.4, None), (0.6, 0.5), (0.8, float("nan")), (0.9, 0), (1, 1)])[1].count("M") == 2
    level = path_of([(0, 0.5), (0.1, 0.5), (0.7, 0.5), (1, 0.5)])[1]
    assert level.count("L") == 1
    assert "nothing to draw" in drawn([Plot("t", "x", "", [Series("", [(0, None)])])])


def test_places_on_the_axes_are_those_of_the_values():
    page = drawn([Plot("t", "x", "y", [Series("a", [(0, 0), (1, 1)])])])
    (x0, y0), (x1, y1) = (map(float, place.split(" ")) for place in re.search(r'class="line" d="M([^"]*)"', page)[1].split("L"))
    upright = {label: float(y) - 4 for y, label in re.findall(r'y="([\d.]+)" text-anchor="end">([\d.]+)</text>', page)}
    level = {label: float(x) for x, label in re.findall(r'<text x="([\d.]+)" y="[\d.]+" text-anchor="middle">([\d.]+)<', page)}
    assert (level["0"], upright["0"], level["1"], upright["1"]) == (x0, y0, x1, y1)
    assert upright["0.2"] == pytest.approx(y0 + 0.2 * (y1 - y0), abs=0.06)


def test_ticks_are_round_and_lie_inside():
    for low, high in ((0, 1), (0.4, 1.0), (0, 0.753), (0.5, 20.5), (0, 1e-6), (0.94, 1.0018)):
        found = ticks(low, high)
        assert 2 <= len(found) <= 7 and low - 1e-9 <= found[0] and found[-1] <= high + 1e-9


def test_a_table_knows_whether_a_phone_has_room_for_it():
    row = ["accuracy", ("77.2 %", "70.2 to 83.0~")]
    assert not Table("t", ["", "test"], [row]).is_wide
    assert not Table("t", ["source", "normal", "covid", "all"], [["nih", "394", "0", "394"]]).is_wide
    assert Table("t", ["", "a", "b", "c"], [row + [row[1]] * 2]).is_wide
    assert not Table("t", ["", "a", "b", "c"], [row + [row[1]] * 2], numeric=False).is_wide       # becomes cards


def test_a_small_note_is_said_once_on_a_page():
    note, other = Bullets(["~ approximate"], small=True), Bullets(["~ approximate", "a: none"], small=True)
    first, second = said_once([Chapter("a", "A", [note, Fold("f", [other, note])]), Chapter("b", "B", [note])])
    assert [block.kind for block in first.blocks] == ["bullets", "fold"] and second.blocks == []
    assert [block.items for block in first.blocks[1].blocks] == [["a: none"]]
    folded, seen = said_once([Chapter("a", "A", [Fold("f", [note]), Fold("g", [note])]), Chapter("b", "B", [note])])
    assert [len(fold.blocks) for fold in folded.blocks] == [1, 0] and len(seen.blocks) == 1     # a closed fold says nothing
