"""The report of `reproduce`: HTML and Markdown have the same content, are passive, and escape hostile names."""

import copy
import html
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from benchmarks.reliability.hostile_files import PAYLOADS
from minicnn.errors import CheckpointError, ImageError, MissingExtraError, printable
from minicnn.evaluation.calibration import reliability_curve
from minicnn.evaluation.shortcut_test import CONDITIONS
from minicnn.reporting import plots
from minicnn.reporting.document import Tile, Tiles
from minicnn.reporting.markdown import escaped, markdown
from minicnn.study import result_plots
from minicnn.study.checklists.guidelines import checklists
from minicnn.study.page import write
from minicnn.study.results import departures
from minicnn.study.trainings import Study
from tests.support.browser import chromium, resize
from tests.support.reproduction_example import FIGURES, example, pictures, renamed, stress

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
VOID = ("meta", "link", "img")


@pytest.fixture(scope="module")
def results():
    return example()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, results):
    folder = tmp_path_factory.mktemp("report")
    pictures(folder, (1440, 800))
    write(results, folder)
    return folder


class Reader(HTMLParser):
    """Collect tags, attributes, and the text of header and main in order, alternative texts too."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text, self.headings, self._open = [], [], [], [], []
        self.pairs, self._drawing = {}, None
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attributes]
        given = dict(attributes)
        self.pairs.setdefault(given.get("aria-label"), set()).update(attributes)
        if given.get("role") == "img":                  # what is in it is not read: its label is
            self._drawing = len(self._open)
            self.text.append(given["aria-label"])
        elif tag == "img" and self._drawing is None:
            self.text.append(given["alt"])
        if tag in ("h1", "h2", "h3"):
            self.headings.append((int(tag[1]), ""))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag
        if self._drawing == len(self._open):
            self._drawing = None

    def handle_data(self, data):
        if {"header", "main"} & set(self._open) and self._drawing is None:
            self.text.append(data)
            if self._open[-1] in ("h1", "h2", "h3"):
                self.headings[-1] = (self.headings[-1][0], self.headings[-1][1] + data)

    def handle_comment(self, data):
        raise AssertionError("a comment")


def read(folder):
    return Reader((folder / "report.html").read_text("utf-8"))


def plain(markdown):
    """Return the text of the Markdown file: its marks removed, its escapes undone."""
    lines = [line for line in markdown.splitlines() if not re.fullmatch(r"\|( ---:? \|)+", line)]
    text = "\n".join(line for line in lines if line != "|  | value | interval | remark |")
    text = re.sub(r"!\[((?:\\.|[^\]\\])*)\]\([^)]*\)", r"\1", text).replace("<br>", " ")
    text = re.sub(r"(?m)^(#+|>|-) ", "", text)
    text = re.sub(r"(?<!\\)(\*\*|\|)", " ", text)
    return html.unescape(re.sub(r"\\([\\`*_\[\]#|~{}!.)+=:-])", r"\1", text))


def words(text):
    return text.replace("\N{NO-BREAK SPACE}", " ").split()


def drawings():
    """Return a drawing of each kind, as `plots.draw` makes them."""
    histories = [[{"epoch": e, "loss": 1 / (e + i), "accuracy": 0.5, "val_loss": None, "val_accuracy": 0.6}
                  for e in range(1, 21)] for i in range(2)]
    labels, p = np.arange(60) % 2, (np.arange(60) * 7 % 60) / 60
    points = reliability_curve(labels, p)
    errors = [{"label": "normal", "prediction": "covid", "probability": 0.99, "part": "external", "seed": 0,
               "source": "a longer name", "border_share": 0.4}] * 3
    tiles = [Tiles(name, [Tile((plots.png(np.eye(8)),), name, ("a line",))] * 8) for name in ("normal", "covid")]
    return {"curves_paper": plots.learning_curves(histories), "curves_honest": plots.learning_curves(histories[:1]),
            "roc_pr": result_plots.roc_and_precision_panels({"the paper's protocol": [(labels, p)] * 2, "none": []}),
            "reliability": plots.reliability({"a": points, "b": points, "undefined": []}),
            "confusions": plots.confusions({"a": [[1999, 1], [0, 0]], "b": np.eye(2, dtype=int)}, ["normal", "covid"])
            + plots.confusions({"c": np.eye(7, dtype=int)}, ["pneumonia"] * 7),
            "stress": plots.shortcut_check([stress("test"), stress("external")], dict.fromkeys(CONDITIONS, np.eye(8))),
            "worst": [Tiles("", [Tile((plots.png(np.eye(8)),) * 2, one["label"], ("external, somewhere, seed 0", "no map"),
                                      framed=True) for one in errors])], "samples": tiles, "augmentation": tiles,
            "convolution": [Tiles("", [Tile((plots.png(np.eye(8)),), "image", frame=(40, 50, 10, 10)), Tile(
                title="numbers", numbers=((("-0.27", True), ("0.12", False)) * 3,) * 5)], "a note")],
            "architecture": [Tiles("", [Tile(title="Conv2D 3 x 3 ReLU", lines=("62 x 62 x 32", "589,952 parameters"))] * 9)]}


# ---- The page --------------------------------------------------------------------------------------------------------

def test_the_page_needs_nothing_and_runs_nothing(folder):
    page = read(folder)
    assert [value for tag, name, value in page.attributes if (tag, name) == ("meta", "content")][0] == POLICY
    assert not {"script", "iframe", "object", "form", "base", "foreignobject", "use", "image"} & set(page.tags)
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    for tag, name, value in page.attributes:
        assert not name.startswith("on")
        if name == "src":
            assert tag == "img" and value.startswith("data:image/png;base64,")
        if name == "href":
            assert value == "data:," or value[1:] in ids and value[0] == "#"
    assert page.tags.count("img") == len(FIGURES) - 2 and page.tags.count("svg") > 20      # both forest plots are drawn
    style = (folder / "report.html").read_text("utf-8").split("<style>")[1].split("</style>")[0]
    assert "url(" not in style and "@import" not in style


def test_headings_tables_and_images_are_accessible(folder):
    page = read(folder)
    levels = [level for level, _ in page.headings]
    assert levels.count(1) == 1 and levels[0] == 1 and levels.count(2) == 12
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:]))
    roles = [value for tag, name, value in page.attributes if (tag, name) == ("table", "role")]
    assert len(roles) == page.tags.count("caption") > 15            # but for those in a drawing, which is one image
    scopes = [value for tag, name, value in page.attributes if (tag, name) == ("th", "scope")]
    assert len(scopes) > 100 and set(scopes) == {"row", "col"}
    alternatives = [value for tag, name, value in page.attributes
                    if name == "alt" or (tag, name) == ("div", "aria-label") and ("role", "img") in page.pairs[value]]
    assert len(alternatives) == len(FIGURES) and all(len(text) > 40 for text in alternatives)
    assert page.tags.index("nav") < page.tags.index("main") and ("a", "class", "skip") in page.attributes


def test_the_warning_stands_once_and_first(folder):
    text = " ".join(words(" ".join(read(folder).text)))
    assert text.count("not a medical device") == 1
    assert text.index("not a medical device") < text.index("Summary")


def test_the_colours_of_text_stand_out(folder):
    style = (folder / "report.html").read_text("utf-8").split("<style>")[1]
    light, dark = (dict(re.findall(r"--(\w+): (#\w{6});", part.split("}")[0])) for part in style.split(":root {")[1:])
    assert light.keys() == dark.keys()

    def luminance(colour):
        channels = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055)**2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for colours in (light, dark):
        for names, grounds, least in ((("ink", "quiet", "blue", "good", "bad"), ("page", "band", "alarm"), 4.5),
                                      ([f"tone{i}" for i in range(6)], ("page",), 3)):      # lines and marks
            for name in names:
                for ground in grounds:
                    one, other = sorted((luminance(colours[name]), luminance(colours[ground])))
                    assert (other + 0.05) / (one + 0.05) > least, (name, ground)


# ---- Markdown --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("given", [{}, {"external": False, "sources": False, "synthetic": True}, {"one_class": True}],
                         ids=["whole", "bare", "undefined"])
def test_the_markdown_has_the_same_content_in_the_same_order(tmp_path, given):
    pictures(tmp_path)
    write(example(**given), tmp_path)
    page, markdown_text = read(tmp_path), (tmp_path / "report.md").read_text("utf-8")
    headings = [(len(marks), plain(text)) for marks, text in re.findall(r"(?m)^(#+) (.*)$", markdown_text)]
    assert headings == page.headings
    assert words(plain(markdown_text)) == words(" ".join(page.text))
    assert re.findall(r"\]\((figures/[^)]*)\)", markdown_text) == [f"figures/{key}.png" for key in ordered(page)]


def ordered(page):
    """Return the keys of the images in the order of the report."""
    order = ["headline", "samples", "curves_paper", "curves_honest", "architecture", "convolution", "pooling", "roc_pr",
             "reliability", "confusions", "sources", "stress", "worst", "augmentation"]
    return order if "Forest plot by source." in " ".join(page.text) else [key for key in order if key != "sources"]


# ---- What is said ----------------------------------------------------------------------------------------------------

def text_of(tmp_path, results):
    if not (tmp_path / "figures").exists():
        pictures(tmp_path)
    write(results, tmp_path)
    return " ".join(words(" ".join(read(tmp_path).text)))


def test_a_note_is_said_once_and_where_it_is_seen(folder):
    page = (folder / "report.html").read_text("utf-8")
    notes = re.findall(r"<li>([^<]*)</li>", "".join(re.findall(r'<ul class="notes">(.*?)</ul>', page, re.S)))
    assert len(notes) >= 3 and len(notes) == len(set(notes))
    assert 0 < page.index("~ approximate: the interval rests on fewer than 50 patients.") < page.index("<details><summary>The")
    sentences = [words(text) for text in re.findall(r"<(?:p|figcaption)>(.*?)</(?:p|figcaption)>", page, re.S)]
    long = [" ".join(one) for one in sentences if len(one) > 8]
    assert len(long) == len(set(long))


def test_a_network_that_does_not_generalize_is_called_so(tmp_path, results):
    text = text_of(tmp_path, results)
    told = results["protocols"]["honest"]["parts"]["external"]["mean"]
    low, high = (f"{100 * bound:.1f}" for bound in told["intervals"]["accuracy"])
    assert f"the accuracy is {100 * told['accuracy']:.1f} % ({low} to {high}, approximate)" in text
    assert "over seeds: not shown to be better than chance. The AUC is" in text
    assert "The network is not shown to generalize to the external images." in text
    assert "the labels are predicted by the file header alone (AUC 0.99)" in text
    assert "predicts the label (flagged)" in text


def test_a_good_result_is_called_good(tmp_path):
    text = text_of(tmp_path, example(good=True))
    assert "the accuracy is 92.1 %" in text and "over seeds: better than chance. The AUC is" in text
    assert "The network generalizes to the external images" in text
    assert "not shown to be better" not in text.split("Why the values differ")[0].replace("AUC", "")
    assert "No confounder is flagged." in text and "the labels are predicted by" not in text


def test_without_external_validation_and_with_synthetic_images(tmp_path):
    text = text_of(tmp_path, example(external=False, synthetic=True, sources=False))
    assert "There was no external validation" in text and "External validation not done" in text
    assert "This does not repeat the paper: the images are synthetic. No value" in text
    assert "The sources of the images are unknown: there is no source column." in text
    assert "not judged: there is no source column" in text
    assert "No source could be held out" in text


# What a verdict on a network is made of, in every sentence of the report that draws one.
VERDICTS = re.compile(r"(better|worse) than (chance|always|on its)|(does|is|not shown to) (not )?generalize\b|"
                      r"(above|within|below) our interval|intervals? (do not )?overlap|too (extreme|moderate)|SHORTCUT|"
                      r"(higher|lower) than on the|not shown to be|no (miscalibration|loss)|its recipe gives|"
                      r"(more|less) than in a uniform map")
SPREAD = re.compile(r"over (\d|several)? ?seeds|\[[\d.]+ to [\d.]+\]|range over|all seeds|are (the )?seeds|var(y|ies) by|"
                    r"means over", re.I)


@pytest.mark.parametrize("given", [{"short": True}, {"short": True, "synthetic": True}, {"synthetic": True},
                                   {"short": True, "external": False}, {"short": True, "good": True}],
                         ids=" ".join)
def test_less_than_the_recipe_is_said_first_and_judges_nothing(tmp_path, given):
    """Fewer epochs and seeds, or synthetic images: the first sentence says so, and no sentence draws a verdict."""
    results = example(**given)
    text = text_of(tmp_path, results | {"checklists": checklists(results)})
    clauses = ["the images are synthetic"] * given.get("synthetic", False) + [
        "3 of 20 epochs and 1 of 3 seeds were run"] * given.get("short", False)
    reason = ", and ".join(clauses)
    assert text.startswith(f"Reproduction of COV-19Net This does not repeat the paper: {reason}. No value measured here")
    first = (tmp_path / "report.md").read_text("utf-8").split("\n")[2]
    assert plain(first).startswith(f"This does not repeat the paper: {reason}.")
    assert text.count(f"not judged: {reason}") >= 9 and not VERDICTS.search(text), VERDICTS.search(text)
    assert bool(SPREAD.search(text)) == ("short" not in given), SPREAD.search(text)
    assert "consistency checks of the paper's own values fail" in text      # arithmetic, whatever was run


def test_the_recipe_itself_is_judged(tmp_path, results):
    """The patterns of the test above are those of the sentences that are there for the whole recipe."""
    text = text_of(tmp_path, results)
    assert "not judged:" not in text.replace("not judged: there is no source column", "")
    assert "This does not repeat" not in text
    assert len(set(match[0] for match in VERDICTS.finditer(text))) >= 8 and len(SPREAD.findall(text)) > 5


@pytest.mark.parametrize("settings, clauses", [
    ({}, []), ({"steps_per_epoch": 200, "seeds": [0, 1, 2, 3]}, []), ({"epochs": 40}, ["there were 40 epochs, not 20"]),
    ({"steps_per_epoch": 10, "seeds": [0]}, ["10 of 100 steps per epoch and 1 of 3 seeds were run"]),
    ({"batch_size": 8}, ["the batch size was 8, not 32"]),
    ({"network": "vgg19, 64 x 64"}, ["the network is vgg19, 64 x 64"])])
def test_what_is_not_the_recipe(results, settings, clauses):
    assert departures(results | {"settings": results["settings"] | settings}) == clauses


def test_a_study_of_another_network_is_none_of_the_papers(tmp_path, results):
    assert Study("x").other_network == ""
    other = Study("x", network="vgg19", size=64, weights="/home/ann/vgg.h5", freeze="trunk", head=[8, 4]).other_network
    assert other == "vgg19, 64 x 64, weights vgg.h5, trunk frozen, head 8, 4"
    text = text_of(tmp_path, results | {"settings": results["settings"] | {"network": other}})
    assert text.startswith(f"The study of COV-19Net, with vgg19 This does not repeat the paper: the network is {other}.")
    assert not VERDICTS.search(text) and "honest protocol, test vgg19" in text


def test_where_the_answers_come_from_is_what_the_border_check_says(tmp_path, results):
    assert "52 % of the evidence lies on the border, more than in a uniform map (44 %)" in text_of(tmp_path, results)
    check = {"sentence": "HiResCAM of conv2d_3: of what speaks for the positive answers 71 % lies on the border. EXPOSED."}
    page = text_of(tmp_path, results | {"sanity": results["sanity"] | {"border_check": check}})
    assert check["sentence"] in page and "Plain Grad-CAM puts 52 % there." in page


def test_undefined_is_said_with_its_reason(tmp_path):
    text = text_of(tmp_path, example(one_class=True))
    assert "the honest protocol and recipe robust: undefined specificity, because no sample is negative." in text
    assert "The AUC is undefined (all samples have the same label): no conclusion" in text
    assert "no conclusion: all images are covid. The AUC is undefined (all samples have the same label)" in text
    assert "<i>undefined</i>" in (tmp_path / "report.html").read_text("utf-8")
    assert re.search(r"\| AUC \| undefined \| undefined \|", (tmp_path / "report.md").read_text("utf-8"))


def test_the_paper_is_checked_by_what_was_computed(tmp_path, results):
    failed = sum(not check["holds"] for check in results["paper"]["checks"])
    text = text_of(tmp_path, results)
    assert f"{failed} of {len(results['paper']['checks'])} checks fail." in text
    held = copy.deepcopy(results)
    for check in held["paper"]["checks"]:
        check["holds"] = True
    text = text_of(tmp_path, held)
    assert f"0 of {len(held['paper']['checks'])} checks fail." in text and "they cannot all be right" not in text


def test_what_was_not_drawn_or_not_done_is_said(tmp_path, results):
    bare = copy.deepcopy(results) | {"stress": [], "worst": [], "checklists": [], "remarks": []}
    del bare["figures"]["pooling"], bare["protocols"]["robust"]
    for fold in bare["unseen"]:
        fold["recipes"]["robust"] = None
    text = text_of(tmp_path, bare)
    assert "Not drawn: Figure 4." in text and "The robust recipe was not run." in text
    assert "The network made no errors on these sets." in text and "No checklist was filled in." in text


# ---- Strangers' words ------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def harmless(tmp_path_factory, results):
    folder = tmp_path_factory.mktemp("harmless")
    pictures(folder)
    write(renamed(results, "x"), folder)
    return folder, read(folder), (folder / "report.md").read_text("utf-8").split("\n")


# All at once, and some alone: of what they have in common one word is as good as another, and each takes a whole page.
@pytest.mark.parametrize("payload", [" ".join(PAYLOADS), *PAYLOADS[::16], "1. one", "- two", "# three", "> four"])
def test_hostile_names_stay_text(harmless, results, payload):
    folder, expected, markdown_text = harmless
    write(renamed(results, payload), folder)
    page, hostile = read(folder), (folder / "report.md").read_text("utf-8").split("\n")
    assert page.tags == expected.tags                       # a name added nothing
    assert [pair[:2] for pair in page.attributes] == [pair[:2] for pair in expected.attributes]
    assert "".join(words(printable(payload))) in "".join(words("".join(page.text)))
    assert len(hostile) == len(markdown_text)
    for line, other in zip(hostile, markdown_text):
        if not other.startswith("    "):                    # a line of code shows all as it is
            assert_escaped(line, other)


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_hostile_words_are_escaped_in_markdown(payload):
    assert_escaped(escaped(payload), "")
    assert words(plain(escaped(payload))) == words(printable(payload))


def assert_escaped(line, other):
    """Assert that a line of Markdown has no mark but those that a harmless one has in its place."""
    assert line.isprintable()
    for mark in "|*`[]_#$~{}":
        assert unescaped(line, mark) == unescaped(other, mark), line
    assert set(re.findall(r"<[^>]*>?", line)) <= {"<br>"}


def unescaped(line, mark):
    return len(re.findall(r"(?<!\\)(?:\\\\)*" + re.escape(mark), re.sub(r"&#?\w+;", "", line)))


# ---- Files -----------------------------------------------------------------------------------------------------------

def test_equal_results_give_equal_bytes_for_the_owner_alone(tmp_path, folder, results):
    pictures(tmp_path, (1440, 800))
    paths = write(results, tmp_path)
    for path in paths:
        assert path.read_bytes() == (folder / path.name).read_bytes()
        assert path.stat().st_mode & 0o077 == 0


def test_bad_images_folders_and_extras(tmp_path, results, monkeypatch):
    with pytest.raises(ImageError, match=r"samples\.png: cannot be read \(No such file or directory\)"):
        write(results, tmp_path)
    pictures(tmp_path)
    (tmp_path / "figures" / "stress.png").write_bytes(b"<svg>")
    with pytest.raises(ImageError, match=r"stress\.png: expected a PNG file for the page\."):
        write(results, tmp_path)
    assert not list(tmp_path.glob("report*"))
    with pytest.raises(CheckpointError, match=r"report\.html: not written"):
        write(results | {"figures": {}}, tmp_path / "nowhere")
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match=r"writing the report needs jinja2, which is not installed\."):
        write(results, tmp_path)
    with pytest.raises(MissingExtraError, match=r"writing the report needs jinja2, which is not installed\."):
        markdown("title", "warning", "about", [])


# ---- In the browser --------------------------------------------------------------------------------------------------

SIZES = """return [...document.querySelectorAll('[role=img] *')].filter(e => e.checkVisibility() &&
    [...e.childNodes].some(n => n.nodeType == 3 && n.data.trim())).map(e => {
        const svg = e.ownerSVGElement, scale = svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
        return [parseFloat(getComputedStyle(e).fontSize) * scale, e.textContent]; })"""


def test_drawings_are_read_on_a_phone_and_on_a_screen(tmp_path, results):
    """No text in a drawing is smaller than 12 pixels, none lies on another or is cut off, whatever the colours."""
    pictures(tmp_path)
    write(results, tmp_path, drawings())
    with chromium(tmp_path / "profile") as browser:
        browser.get((tmp_path / "report.html").as_uri())
        browser.execute_script("document.querySelectorAll('main details').forEach(one => one.open = true)")
        for width in (1280, 390):
            resize(browser, width)
            sizes = browser.execute_script(SIZES)
            assert len(sizes) > 150 and min(sizes)[0] >= 12, min(sizes)
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width
            wide = browser.execute_script("""return [...document.querySelectorAll('[role=img] :is(svg:not(.sample), img)')]
                .map(e => [e.getBoundingClientRect().right, e.getAttribute('width')])""")
            assert len(wide) > 50 and all(right <= width and fixed is None for right, fixed in wide)
            assert browser.execute_script("""return [...document.querySelectorAll('.forest tr')].filter(row => {
                const boxes = [...row.querySelectorAll('svg, .value, .why, th')].map(e => e.getBoundingClientRect());
                return boxes.some((a, i) => boxes.some((b, k) => k > i && a.left < b.right - 1 && b.left < a.right - 1 &&
                                                       a.top < b.bottom - 1 && b.top < a.bottom - 1)); }).length""") == 0
            broken = "return [...document.querySelectorAll('.numbers td')].map(e => getComputedStyle(e).whiteSpace)"
            assert set(browser.execute_script(broken)) == {"nowrap"}        # a number stands in one line
        colours = []
        for scheme in ("light", "dark"):
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [
                {"name": "prefers-color-scheme", "value": scheme}]})
            colours.append([browser.execute_script(f"return getComputedStyle(document.querySelector('{what}')).{name}")
                            for what, name in (("body", "backgroundColor"), (".panel svg text", "fill"), (".line", "stroke"))])
        assert all(light != dark for light, dark in zip(*colours))


def test_in_the_browser(folder, tmp_path):
    with chromium(tmp_path / "profile") as browser:
        browser.requests()
        browser.get((folder / "report.html").as_uri())
        assert browser.complaints() == []
        assert {address.split(":")[0] for address in browser.requests()} == {"file", "data"}
        for width in (1280, 390, 320):
            resize(browser, width)
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        tables = browser.execute_script("return [...document.querySelectorAll('.numbers')].map(t => [t.offsetWidth, "
                                        "t.parentElement.clientWidth, getComputedStyle(t.parentElement).overflowX])")
        assert any(table > frame for table, frame, _ in tables) and {how for _, _, how in tables} == {"auto"}
        resize(browser, 1280)
        assert browser.execute_script("return document.querySelector('nav li').offsetHeight") > 0
        folded = "return [...document.querySelectorAll('main details table')].map(t => t.checkVisibility())"
        assert set(browser.execute_script(folded)) == {False}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        assert set(browser.execute_script(folded)) == {True}      # on paper nothing is folded away
        assert browser.execute_script("return document.querySelector('nav').offsetHeight") == 0
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        check_print(browser)


def check_print(browser):
    """The PDF has pages, of which none is wider than the paper: Chromium would shrink them all."""
    from base64 import b64decode
    made = b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})["data"])
    assert made.startswith(b"%PDF-")
    boxes = re.findall(rb"/MediaBox\s*\[\s*0 0 ([\d.]+) ([\d.]+)\s*\]", made)
    assert len(boxes) > 8 and {(round(float(w)), round(float(h))) for w, h in boxes} == {(595, 842)}
