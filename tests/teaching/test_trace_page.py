"""The page of a trace: its security policy, its data, and, in a browser, that its numbers are those of NumPy."""

import base64
import functools
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from benchmarks.reliability.hostile_files import PAYLOADS
import minicnn
from minicnn import cov19net
from minicnn.cli import trace as trace_command
from minicnn.data.synthetic import phantom
from minicnn.errors import CheckpointError, InputError, printable
from minicnn.layers import (AveragePool2D, Conv2D, Dense, Dropout, Flatten, MaxPool2D, ReLU, Sigmoid, Softmax, Tanh)
from minicnn.model import Sequential
from minicnn.teaching import trace_page
from minicnn.teaching.trace import trace
from tests.support.browser import chromium, resize
from tests.support.strategies import normals, separated


@functools.cache
def cov19net_traced():
    made = phantom.generate(n=2, seed=1)
    model = cov19net(seed=7, classes=["normal", "covid"])
    # Biases as after training: at first they are 0.
    model.set_weights([w if w.ndim > 1 else normals(i, w.shape, np.float32) / 20 for i, w in
                       enumerate(model.get_weights())])
    return trace(model, np.repeat(made.images[..., None], 3, axis=3)[:1], made.labels[:1])


def small_traced(name=None, dtype="float32"):
    """Every kind of layer, with padding, strides and more channels than are shown together."""
    model = Sequential([Conv2D(5, (3, 2), strides=(2, 1), padding="same", name=name), ReLU(),
                        MaxPool2D(3, strides=2, padding="same"), Conv2D(4, 2), Tanh(),
                        AveragePool2D(2, strides=1, padding="same"), Dropout(0.3), Flatten(), Dense(6), Sigmoid(),
                        Dense(3), Softmax()], input_shape=(11, 9, 2), seed=5, engine="reference", dtype=dtype)
    model.set_weights([normals(i, w.shape, np.dtype(dtype)) * 0.5 for i, w in enumerate(model.get_weights())])
    return trace(model, separated(3, (1, *model.input_shape), np.dtype(dtype)))


class Reader(HTMLParser):
    """Collect tags, attributes, and the text of each element by its tag."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.texts, self._open = [], [], {}, [""]
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attributes]
        if tag not in ("meta", "link", "img", "input"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.setdefault(self._open[-1], []).append(data)

    def handle_comment(self, data):
        raise AssertionError("a comment")


def read(path):
    return Reader(path.read_text("utf-8"))


def page_data(path):
    return json.loads(read(path).texts["script"][0])


# ---- The file --------------------------------------------------------------------------------------------------------

def test_the_policy_allows_the_style_and_script_by_their_digests_and_nothing_else(tmp_path):
    small_traced().page(tmp_path / "t.html", "T")
    page = read(tmp_path / "t.html")
    policy = next(value for tag, name, value in page.attributes if (tag, name) == ("meta", "content"))
    parts = dict(part.split(" ", 1) for part in policy.split("; "))
    assert parts["default-src"] == "'none'" and "unsafe" not in policy and "http" not in policy
    assert set(parts) == {"default-src", "img-src", "style-src", "script-src", "base-uri", "form-action"}

    def digest(text):
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    assert parts["style-src"] == digest("".join(page.texts["style"]))
    assert parts["script-src"] == digest(page.texts["script"][1])
    assert page.tags.count("script") == 2 and ("script", "type", "application/json") in page.attributes
    assert not {name for _, name, _ in page.attributes} & {"src", "style", "action", "srcset"}
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert [value for _, name, value in page.attributes if name == "href"] == ["data:,"]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval|fetch|XMLHttp|import\(|localStorage",
                         page.texts["script"][1])
    assert "not a medical device" in "".join(page.texts["strong"])


def test_the_numbers_on_the_page_are_those_of_the_trace(tmp_path):
    for dtype, letter in (("float32", "<f4"), ("float64", "<f8")):
        traced = small_traced(dtype=dtype)
        traced.page(tmp_path / "t.html", "T")
        data = page_data(tmp_path / "t.html")

        def unpacked(text):
            return np.frombuffer(base64.b64decode(text), letter)

        assert data["dtype"] == dtype and np.array_equal(unpacked(data["input"]["packed"]), traced.x[0].ravel())
        assert len(data["layers"]) == len(traced.layers)
        for layer, entry in zip(traced.layers, data["layers"]):
            assert tuple(entry["shape"]) == layer.y.shape[1:] and tuple(entry["start"]) == layer.start()
            assert ("packed" in entry) == (layer.kind not in ("relu", "flatten", "same"))
            if "packed" in entry:
                assert np.array_equal(unpacked(entry["packed"]), layer.y[0].ravel())
            if "weights" in entry:
                w, b = (value for value, _ in layer.parameters.values())
                assert entry["filters"] == list(range(w.shape[-1])) and np.array_equal(unpacked(entry["bias"]), b)
                assert np.array_equal(unpacked(entry["weights"]).reshape(w.shape[-1], -1).T, w.reshape(-1, w.shape[-1]))


def test_the_page_has_the_text_for_browsers_without_scripts(tmp_path):
    traced = small_traced()
    traced.page(tmp_path / "t.html", "T")
    page = read(tmp_path / "t.html")
    assert "".join(page.texts["pre"]) == str(traced)
    assert ("main", "hidden", None) in page.attributes and ("details", "open", None) in page.attributes


def test_cov19net_fits_into_two_megabytes(tmp_path):
    cov19net_traced().page(tmp_path / "t.html", "COV-19Net")
    assert (tmp_path / "t.html").stat().st_size < 2_000_000
    data = page_data(tmp_path / "t.html")
    assert [len(entry.get("filters", ())) for entry in data["layers"] if entry["kind"] in ("conv", "dense")] == [
        32, 32, 32, 16, 1]
    assert data["layers"][9]["start"][0] in data["layers"][9]["filters"]


def test_outputs_that_are_not_the_relu_of_the_input_are_included(tmp_path):
    traced = small_traced()
    traced["relu_1"].y[0, 0, 0, 0] += 1
    traced.page(tmp_path / "t.html", "T")
    assert "packed" in page_data(tmp_path / "t.html")["layers"][1]


def test_names_stay_text(tmp_path):
    traced = small_traced()
    traced.page(tmp_path / "t.html", "harmless")
    harmless = read(tmp_path / "t.html")
    for payload in PAYLOADS:
        traced.classes, traced.layers[0].layer.name = (payload, "a", "b"), payload
        traced.layers[-1].y[0], traced.output[0] = [1, 0, 0], [1, 0, 0]
        traced.page(tmp_path / "t.html", payload)
        hostile = read(tmp_path / "t.html")
        assert hostile.tags == harmless.tags
        assert [pair[:2] for pair in hostile.attributes] == [pair[:2] for pair in harmless.attributes]
        assert printable(payload) in "".join(hostile.texts["h1"])
        text = (tmp_path / "t.html").read_text("utf-8")
        assert all(character.isprintable() or character == "\n" for character in text)


def test_equal_traces_give_equal_files_readable_by_the_owner_only(tmp_path):
    for name in ("a.html", "b.html"):
        small_traced().page(tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert (tmp_path / "a.html").stat().st_mode & 0o077 == 0


def test_pages_that_cannot_be_written(tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match=r"t\.html: .*No such file or directory"):
        small_traced().page(tmp_path / "nowhere" / "t.html")
    monkeypatch.setattr(trace_page, "_MAX_NUMBERS", 100)
    with pytest.raises(InputError, match=r"trace: a page may hold 100 numbers, this one needs [\d,]+\."):
        small_traced().page(tmp_path / "t.html")
    assert not list(tmp_path.iterdir())


def test_template_style_and_scripts_are_installed_with_the_package():
    """Every file of the package that is not Python must match a pattern in setup.cfg."""
    root = Path(minicnn.__file__).parents[1]
    patterns = (root / "setup.cfg").read_text("utf-8").split("minicnn.teaching =")[1].split("\n[")[0].split()
    files = [path for path in (root / "minicnn" / "teaching").glob("trace*") if path.suffix != ".py"]
    assert len(files) == 4
    for path in files:
        assert any(path.match(pattern) for pattern in patterns), path


# ---- The command -----------------------------------------------------------------------------------------------------

def options(*arguments):
    import argparse
    parser = argparse.ArgumentParser(prog="minicnn trace", epilog=trace_command.EXAMPLES)
    trace_command.add_options(parser)
    return parser.parse_args(arguments)


def test_the_command_traces_a_trained_network_on_an_image(tmp_path, capsys):
    model = Sequential([Conv2D(4, 3), ReLU(), Flatten(), Dense(1), Sigmoid()], input_shape=(12, 10, 1), seed=1,
                       classes=["normal", "covid"])
    model.save(tmp_path / "m.safetensors")
    manifest = phantom.write(tmp_path / "p", n=2, size=32)
    image = manifest.parent / "images" / "000001.png"
    trace_command.run(options(str(tmp_path / "m.safetensors"), str(image)))
    text = capsys.readouterr().out
    assert "5 layers, 361 parameters, on 1 sample of 12 x 10 x 1" in text and "No target: " in text
    assert f"Output: {model.predict(str(image))[0, 0]:.6g}" in text
    trace_command.run(options(str(tmp_path / "m.safetensors"), "--html", str(tmp_path / "t.html")))
    assert capsys.readouterr().out == f"The page: {tmp_path / 't.html'}\n"
    assert "".join(read(tmp_path / "t.html").texts["h1"]) == f"{tmp_path / 'm.safetensors'} on a synthetic radiograph"
    assert "Loss (binary_crossentropy)" in "".join(read(tmp_path / "t.html").texts["pre"])


def test_the_command_alone_explains_cov19net(capsys):
    trace_command.run(options())
    assert "13 layers, 609,473 parameters, on 1 sample of 64 x 64 x 3" in capsys.readouterr().out


def test_a_network_that_takes_no_images(tmp_path):
    Sequential([Flatten(), Dense(1)], input_shape=(4, 4, 7)).save(tmp_path / "m.safetensors")
    with pytest.raises(InputError, match="channels must be .* got 7"):
        trace_command.run(options(str(tmp_path / "m.safetensors")))


# ---- In the browser --------------------------------------------------------------------------------------------------

def number(text):
    """Return a number of the page, which has a typographic minus sign."""
    return float(text.replace("\u2212", "-"))


def shown(browser):
    """Return {label: number} of the result, and the sentence below it."""
    rows = browser.execute_script("return [...document.querySelectorAll('#result tr')].map("
                                  "row => [row.cells[0].textContent, row.cells[1].textContent])")
    verdict = browser.execute_script("return document.getElementById('verdict').textContent")
    return {label: number(text) for label, text in rows}, verdict


def pick(browser, **fields):
    """Type into the number fields: c, i, j, unit or channel."""
    for key, value in fields.items():
        browser.execute_script("const field = document.getElementById('pick-' + arguments[0]); field.value = arguments[1];"
                               "field.dispatchEvent(new Event('input'))", key, value)


def choose_layer(browser, index):
    browser.execute_script("document.querySelectorAll('#layers input')[arguments[0]].click()", index)


def check_against(hand, result, verdict):
    assert result["by hand"] == pytest.approx(hand.value, rel=1e-8, abs=1e-12)
    assert result["engine"] == pytest.approx(hand.engine, rel=1e-8, abs=1e-12)
    assert verdict.startswith("They are equal") if hand.difference == 0 else ", a rounding error in" in verdict, verdict
    if hand.products is not None:
        assert result[f"sum of {hand.products.size:,} products"] == pytest.approx(
            hand.products.sum(), rel=1e-7, abs=1e-9)
        assert result["bias"] == pytest.approx(hand.bias, rel=1e-8)


def check_every_kind(browser, tmp_path):
    """All numbers of all kinds of layers, on a small network with padding."""
    traced = small_traced()
    traced.page(tmp_path / "small.html", "Every kind")
    browser.get((tmp_path / "small.html").as_uri())
    for position, layer in enumerate(traced.layers):
        choose_layer(browser, position)
        assert browser.find_element("id", "name").text.startswith(layer.name)
        for k in range(0, layer.y[0].size, max(1, layer.y[0].size // 7)):
            index = tuple(int(i) for i in np.unravel_index(k, layer.y.shape[1:]))
            pick(browser, **(dict(zip("ijc", index)) if len(index) == 3 else {"unit": k}))
            check_against(layer.by_hand(index), *shown(browser))


def check_cov19net(browser, tmp_path):
    from selenium.webdriver.common.keys import Keys

    traced = cov19net_traced()
    traced.page(tmp_path / "t.html", "COV-19Net")
    browser.get((tmp_path / "t.html").as_uri())
    # The first layer as it opens; then a click into the output, and the arrow keys.
    first = traced["conv2d_1"]
    start = first.start()
    check_against(first.by_hand(), *shown(browser))
    assert browser.find_element("id", "sum-title").text == "27 products and a bias"
    cells = browser.execute_script("return [...document.querySelectorAll('#terms .grid')].map(grid => "
                                   "[...grid.querySelectorAll('td')].map(cell => cell.textContent))")
    hand = first.by_hand()
    for c in range(3):
        for grid, array in zip(cells[3 * c:], (hand.x, hand.w, hand.products)):
            np.testing.assert_allclose([number(text) for text in grid], array[..., c].ravel(), atol=5.01e-4)
    canvas = browser.find_element("id", "output")
    box = canvas.rect
    from selenium.webdriver import ActionChains
    ActionChains(browser).move_to_element_with_offset(
        canvas, round(-box["width"] / 2 + box["width"] * 10.5 / 62), round(-box["height"] / 2 + box["height"] * 40.5 / 62)
    ).click().perform()
    check_against(first.by_hand((40, 10, start[2])), *shown(browser))
    canvas.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_UP)
    check_against(first.by_hand((39, 12, start[2])), *shown(browser))
    # The layers by keyboard, and numbers by typing.
    browser.find_element("css selector", "#layers input").send_keys(Keys.ARROW_RIGHT)
    check_against(traced["relu_1"].by_hand((39, 12, start[2])), *shown(browser))
    choose_layer(browser, 3)
    pick(browser, c=7, i=3, j=28, channel=30)
    hand = traced["conv2d_2"].by_hand((3, 28, 7))
    check_against(hand, *shown(browser))
    channel = number(browser.find_element("css selector", ".product small").text.removeprefix("sum "))
    assert channel == pytest.approx(hand.products[..., 30].sum(), rel=1e-7, abs=1e-12)
    field = browser.find_element("id", "pick-j")
    field.send_keys(Keys.ARROW_DOWN)
    check_against(traced["conv2d_2"].by_hand((3, 27, 7)), *shown(browser))
    assert browser.execute_script("return document.activeElement.id") == "pick-j"       # keeps the focus after redrawing
    check_dense(browser, traced["dense_1"])


def check_dense(browser, layer):
    """A layer with the weights of only some units in the page."""
    choose_layer(browser, layer.number - 1)
    check_against(layer.by_hand(), *shown(browser))
    buttons = layer.y[0].argsort()[-16:].tolist()
    missing = next(unit for unit in range(128) if unit not in buttons)
    pick(browser, unit=missing)
    assert browser.find_element("id", "sum-title").text == "Weights not included in this page"
    assert "by hand" not in shown(browser)[0]
    first = browser.find_element("css selector", "#missing button")
    unit = int(first.text)
    first.click()
    check_against(layer.by_hand(unit), *shown(browser))


def check_sizes(browser):
    """On a phone and on a desktop nothing overflows, and the output is visible."""
    for width in (390, 1280):
        resize(browser, width)
        for position in range(13):
            choose_layer(browser, position)
            wide = browser.execute_script("return document.documentElement.scrollWidth")
            assert wide <= width, (width, position)
    assert browser.find_element("id", "output").is_displayed()


def test_the_page_in_a_browser(tmp_path):
    with chromium(tmp_path / "profile") as browser:
        resize(browser, 1280)
        check_every_kind(browser, tmp_path)
        check_cov19net(browser, tmp_path)
        check_sizes(browser)
        assert browser.complaints() == []
        assert set(browser.requests()) == {(tmp_path / name).as_uri() for name in ("small.html", "t.html")}


def test_a_browser_blocks_other_scripts_and_requests(tmp_path):
    """An injected script, style, image or request is blocked and reported."""
    small_traced().page(tmp_path / "t.html", "T")
    injected = ("<script>document.title = 'injected'</script><img src='http://127.0.0.1:9/x.png' alt=''>"
                "<b onclick='1' style='color: red'></b>")
    text = (tmp_path / "t.html").read_text("utf-8").replace("<header>", "<header>" + injected, 1)
    (tmp_path / "t.html").write_text(text, "utf-8")
    with chromium(tmp_path / "profile") as browser:
        browser.get((tmp_path / "t.html").as_uri())
        assert browser.title == "T" and browser.find_element("id", "lab").is_displayed()
        assert sum("violates the following Content Security Policy" in line for line in browser.complaints()) >= 3
