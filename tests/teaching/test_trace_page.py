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
from minicnn.layers import (ELU, Add, AveragePool2D, BatchNormalization, Concatenate, Conv2D, Dense, Dropout, Flatten,
                            GlobalAveragePooling2D, GlobalMaxPooling2D, LayerNormalization, LeakyReLU, MaxPool2D, Multiply, ReLU,
                            Rescaling, Reshape, Residual, Sigmoid, Softmax, Softplus, Swish, Tanh, UpSampling2D, ZeroPadding2D)
from minicnn.layers.depthwise_convolution import DepthwiseConv2D, SeparableConv2D
from minicnn.layers.nodes import Input, connect
from minicnn.model import Model, Sequential
from minicnn.teaching import trace_page
from minicnn.teaching.trace import trace
from tests.support.browser import chromium, resize
from tests.support.strategies import normals, separated
from tests.teaching.test_trace import Doubled


@functools.cache
def cov19net_traced():
    made = phantom.generate(n=2, seed=1)
    model = cov19net(seed=7, classes=["normal", "covid"])
    # Biases as after training: at first they are 0.
    model.set_weights([w if w.ndim > 1 else normals(i, w.shape, np.float32) / 20 for i, w in
                       enumerate(model.get_weights())])
    return trace(model, np.repeat(made.images[..., None], 3, axis=3)[:1], made.labels[:1])


def small_traced(name=None, dtype="float32", target=None):
    """Every kind of layer, with padding, strides and more channels than are shown together."""
    model = Sequential([Conv2D(5, (3, 2), strides=(2, 1), padding="same", name=name), ReLU(),
                        MaxPool2D(3, strides=2, padding="same"), Conv2D(4, 2), Tanh(),
                        AveragePool2D(2, strides=1, padding="same"), Dropout(0.3), Flatten(), Dense(6), Sigmoid(),
                        Dense(3), Softmax()], input_shape=(11, 9, 2), seed=5, engine="reference", dtype=dtype)
    model.set_weights([normals(i, w.shape, np.dtype(dtype)) * 0.5 for i, w in enumerate(model.get_weights())])
    return trace(model, separated(3, (1, *model.input_shape), np.dtype(dtype)), target)


def graph_traced(model, target):
    """A graph with weights as after training: a variance is above 0."""
    model.set_weights([normals(i, w.shape, w.dtype) * 0.2 if w.ndim > 1 else 0.5 + abs(normals(i, w.shape, w.dtype))
                       for i, w in enumerate(model.get_weights())])
    return trace(model, separated(3, (1, *model.input_shape), np.dtype(model.dtype)), target)


def residual_traced():
    """A residual block that keeps the shape, and one with a convolution in its shortcut."""
    return graph_traced(Sequential([
        Input((10, 8, 2)), Conv2D(4, 3, padding="same"), BatchNormalization(), ReLU(),
        Residual([Conv2D(4, 3, padding="same"), BatchNormalization(), ReLU(), Conv2D(4, 3, padding="same")]), ReLU(),
        Residual([Conv2D(6, 3, strides=2, padding="same"), BatchNormalization()], [Conv2D(6, 1, strides=2)]), ReLU(),
        GlobalAveragePooling2D(), Dense(1), Sigmoid()], seed=5, engine="fast"), [1])


def branched_traced(dtype="float32"):
    """Every layer that merges, one array that seven layers take, and one that a layer takes twice."""
    x = Input((8, 9, 3))
    a = Rescaling(2, offset=-0.5)(Conv2D(4, 3, padding="same", use_bias=False)(x))
    y = Concatenate()([
        a, Swish()(DepthwiseConv2D(3, padding="same", depth_multiplier=2)(a)), connect(Doubled(), a),
        ELU(0.5)(SeparableConv2D(5, 3, padding="same", depth_multiplier=2)(a)),
        Conv2D(6, 2, groups=2, dilation_rate=2, padding="same")(a), UpSampling2D((2, 3))(MaxPool2D((2, 3))(a)),
        Conv2D(2, 3)(ZeroPadding2D(((1, 1), (2, 0)))(a))])
    y = Multiply()([y, Reshape((1, 1, 33))(Dense(33, activation="sigmoid")(GlobalMaxPooling2D()(y)))])
    y = LayerNormalization()(Add()([y, y, LeakyReLU()(y)]))
    y = Concatenate()([GlobalAveragePooling2D()(ReLU(1)(y)), GlobalMaxPooling2D()(y)])
    return graph_traced(Model(x, Softmax()(Dense(3)(Softplus()(y))), seed=3, dtype=dtype, engine="reference"), [2])


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


def test_gradients_are_in_the_page_unless_the_layer_after_only_passes_them_back(tmp_path):
    traced = cov19net_traced()
    traced.page(tmp_path / "t.html", "COV-19Net")
    data = page_data(tmp_path / "t.html")
    kinds = {layer.name: entry["gradient"] for layer, entry in zip(traced.layers, data["layers"])}
    assert [name for name, gradient in kinds.items() if gradient not in (None, "computed")] == [
        "max_pool2d_1", "max_pool2d_2", "flatten_1", "relu_4", "dense_2"]
    assert kinds["sigmoid_1"] is None
    assert [entry["name"] for entry in data["layers"] if "rest" in entry] == ["flatten_1"]
    assert data["loss"] == {"top": 11, "of": "the loss", "operation": "binary_crossentropy", "terms": 1,
                            "target": [0.0]}
    assert data["classes"] == ["normal", "covid"]


def test_a_gradient_that_is_not_what_is_passed_back_is_in_the_page(tmp_path):
    traced = small_traced()
    traced["flatten_1"].dy[0, 0] += 1
    traced.page(tmp_path / "t.html", "T")
    assert page_data(tmp_path / "t.html")["layers"][6]["gradient"] != "computed"


def test_the_page_of_a_graph_says_what_each_layer_takes(tmp_path):
    traced = residual_traced()
    traced.page(tmp_path / "t.html", "T")
    entries = page_data(tmp_path / "t.html")["layers"]
    taken = {entry["name"]: entry["sources"] for entry in entries if "sources" in entry}
    assert taken == {"residual_1/add_1": [7, 3], "residual_2/conv2d_2": [9], "residual_2/add_1": [11, 12]}
    assert all(entry["kind"] for entry in entries)


def test_what_a_custom_layer_sends_back_is_in_the_page_where_the_gradient_is_a_sum(tmp_path):
    traced = branched_traced("float64")
    traced.page(tmp_path / "t.html", "T")
    sent = {entry["name"]: entry["sent"] for entry in page_data(tmp_path / "t.html")["layers"] if "sent" in entry}
    numbers = np.frombuffer(base64.b64decode(sent["rescaling_1"][0]), "<f8")
    assert list(sent) == ["rescaling_1"] and np.array_equal(numbers, traced["doubled_1"].sent[0].ravel())
    takers = trace_page._takers(traced, traced["rescaling_1"].number)
    assert [layer.number for layer, _ in takers] == sorted((layer.number for layer, _ in takers), reverse=True)
    np.testing.assert_allclose(sum(layer.sent[k] for layer, k in takers), traced["rescaling_1"].dy[0], rtol=1e-12)


def test_a_network_of_several_outputs_has_no_page(tmp_path):
    x = Input((4,))
    traced = trace(Model(x, [Dense(2, name="a")(x), Dense(1, name="b")(x)]), np.ones((1, 4), np.float32))
    with pytest.raises(InputError, match="one input and one output; print this trace instead"):
        traced.page(tmp_path / "t.html")


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


def test_equal_traces_give_equal_files_that_obey_the_umask(tmp_path):
    for name in ("a.html", "b.html"):
        small_traced().page(tmp_path / name)
    (tmp_path / "c.html").write_text("")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert (tmp_path / "a.html").stat().st_mode == (tmp_path / "c.html").stat().st_mode


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
    assert "".join(read(tmp_path / "t.html").texts["h1"]) == "m.safetensors on a synthetic radiograph"
    trace_command.run(options(str(tmp_path / "m.safetensors"), str(image), "--html", str(tmp_path / "i.html")))
    assert "".join(read(tmp_path / "i.html").texts["h1"]) == "m.safetensors on 000001.png"
    assert str(tmp_path) not in (tmp_path / "i.html").read_text("utf-8")
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
    """Type into the number fields: c, i, j, unit or channel, from 0; the fields count from 1."""
    for key, value in fields.items():
        browser.execute_script("const field = document.getElementById('pick-' + arguments[0]); field.value = arguments[1];"
                               "field.dispatchEvent(new Event('input'))", key, value + 1)


def choose_layer(browser, index):
    browser.execute_script("document.querySelectorAll('#layers input')[arguments[0]].click()", index)


def check_against(hand, result, verdict):
    """The page multiplies the digits that it shows, which are within 1e-9 of the numbers."""
    rounding = max(4e-9, hand.bound / 50) if hand.products is None else 4e-9 * np.abs(hand.products).sum()
    assert result["by hand"] == pytest.approx(hand.value, rel=1e-8, abs=rounding)
    assert result["engine"] == pytest.approx(hand.engine, rel=1e-8, abs=1e-12)
    assert verdict.startswith("They are equal") if hand.bound == 0 else "more than" not in verdict, verdict
    if hand.products is not None:
        assert result[f"sum of {hand.products.size:,} products"] == pytest.approx(
            hand.products.sum(), rel=1e-7, abs=rounding)
        assert result.get("bias", 0) == pytest.approx(hand.bias, rel=1e-8)


def check_gradient(browser, layer, index):
    """The gradient is that of NumPy, and what it is said to come from adds up to it."""
    result, verdict = browser.execute_script("""
        return [[...document.querySelectorAll('#gradient-result tr')].map(
                    row => [...row.cells].map(cell => cell.textContent)),
                document.getElementById('gradient-verdict').textContent]""")
    result = {label: number(text) for label, text in result}
    if layer.dy is None:
        assert not result and not verdict
        return
    assert result["engine"] == pytest.approx(float(layer.dy[0][index]), rel=1e-8, abs=1e-30)
    # Behind Winograd's algorithm a small number has the rounding of the largest beside it.
    assert result["by hand"] == pytest.approx(result["engine"], rel=1e-4, abs=1e-8)
    assert verdict and "more than" not in verdict, (layer.name, index, result, verdict)
    return result


def mean_squared_traced():
    """A loss without a head, of two samples, and a convolution after a Softmax of each pixel."""
    model = Sequential([Conv2D(3, 2, name="first"), Softmax(), Conv2D(2, 3, strides=2), Flatten(), Dense(2)],
                       input_shape=(7, 7, 1), seed=5, engine="reference", dtype="float64")
    return trace(model, separated(3, (2, *model.input_shape), np.dtype("float64")), np.array([[0.5, -1.0], [2.0, 0.0]]))


def check_every_kind(browser, tmp_path):
    """All numbers of all kinds of layers, on a small network with padding, and all losses."""
    for traced in (small_traced(), small_traced(target=[1]), mean_squared_traced()):
        traced.page(tmp_path / "small.html", "Every kind")
        browser.get((tmp_path / "small.html").as_uri())
        for position, layer in enumerate(traced.layers):
            choose_layer(browser, position)
            assert browser.find_element("id", "name").text.startswith(layer.name)
            for k in range(0, layer.y[0].size, max(1, layer.y[0].size // 5)):
                index = tuple(int(i) for i in np.unravel_index(k, layer.y.shape[1:]))
                pick(browser, **(dict(zip("ijc", index)) if len(index) == 3 else {"unit": k}))
                place = ", ".join(map(str, index))
                assert browser.find_element("id", "selected").text.startswith(f"y[{place}] = ")
                check_against(layer.by_hand(index), *shown(browser))
                check_gradient(browser, layer, index)
            if layer.dy is not None:
                numbers = browser.execute_script("return Array.from(data.layers[arguments[0]].gradient)", position)
                assert np.array_equal(np.array(numbers, layer.dy.dtype), layer.dy[0].ravel())


def check_graph(browser, path, traced):
    """The numbers of a graph: what a layer takes is shown, and what is shown gives the number and its gradient."""
    traced.page(path, "A graph")
    browser.get(path.as_uri())
    drawn = browser.execute_script("return [...document.querySelectorAll('#strip path')].map("
                                   "line => [Number(line.dataset.from) + 1, Number(line.dataset.to) + 1])")
    assert sorted(drawn) == sorted([source, layer.number] for layer in traced.layers for source in layer.sources)
    for position, layer in enumerate(traced.layers):
        choose_layer(browser, position)
        assert all(name in browser.find_element("id", "name").text for name in layer.takes if name != "input")
        for k in range(0, layer.y[0].size, max(1, layer.y[0].size // 4)):
            index = tuple(int(i) for i in np.unravel_index(k, layer.y.shape[1:]))
            pick(browser, **(dict(zip("ijc", index)) if len(index) == 3 else {"unit": k}))
            result, verdict = shown(browser)
            if isinstance(layer.x, list):
                check_merged(browser, layer, index, result, verdict)
            elif layer.kind is not None and "by hand" in result:
                check_against(layer.by_hand(index), result, verdict)
            check_sum(browser, traced, layer, index)


def listed(browser, where):
    return browser.execute_script("return [...document.querySelectorAll(arguments[0] + ' .list tbody tr')].map("
                                  "row => [...row.cells].map(cell => cell.textContent))", where)


def check_merged(browser, layer, index, result, verdict):
    """The numbers that are listed are those at their places in the layers that are named, and make up the number."""
    values, rows = dict(zip(layer.takes, layer.inputs)), listed(browser, "#terms")
    assert [name for name, _, _ in rows] == (layer.takes if type(layer.layer) is not Concatenate else [rows[0][0]])
    for name, place, value in rows:
        place = tuple(map(int, place[2:-1].split(", ")))
        assert number(value) == pytest.approx(float(values[name][0][place]), rel=1e-8)
    numbers = [number(value) for _, _, value in rows]
    assert result["by hand"] == pytest.approx(np.prod(numbers) if type(layer.layer) is Multiply else sum(numbers), rel=1e-8)
    assert result["engine"] == pytest.approx(float(layer.y[0][index]), rel=1e-8) and "more than" not in verdict


def check_sum(browser, traced, layer, index):
    """A gradient is the sum of what each layer sent back, in order, and that the sum of the products that are listed."""
    result = check_gradient(browser, layer, index)
    takers = [(taker, slot) for taker, slot in trace_page._takers(traced, layer.number) if taker.dy is not None]
    if result is None or not takers:
        return
    parts = [(label, value) for label, value in result.items() if label.startswith("from ")]
    assert len(parts) == (len(takers) if len(takers) > 1 else 0)
    for (label, value), (taker, slot) in zip(parts, takers):
        assert label.startswith(f"from {taker.name}")
        assert value == pytest.approx(float(taker.sent[slot][index]), rel=1e-4, abs=1e-8)
    assert result["by hand"] == pytest.approx(sum(value for _, value in parts) if parts else result["by hand"],
                                              rel=1e-8, abs=1e-12)
    for _, gradient, factor, product in listed(browser, "#gradient-terms"):
        assert number(product) == pytest.approx(number(gradient) * number(factor), rel=1e-8)


def check_graphs(browser, tmp_path, monkeypatch):
    check_graph(browser, tmp_path / "graph.html", residual_traced())
    choose_layer(browser, 7)                                                    # what an Add takes leads to it
    browser.find_element("css selector", "#terms .list button").click()
    assert browser.find_element("id", "name").text.startswith("residual_1/conv2d_2 ")
    check_sizes(browser, 16)
    check_graph(browser, tmp_path / "graph.html", branched_traced())
    check_sizes(browser, 23)
    monkeypatch.setattr(trace_page, "_MAX_WEIGHTS", 20)
    check_graph(browser, tmp_path / "graph.html", branched_traced("float64"))


def grids(browser):
    cells = browser.execute_script("return [...document.querySelectorAll('#terms .grid')].map(grid => "
                                   "[...grid.querySelectorAll('td')].map(cell => cell.textContent))")
    return [np.array([number(text) for text in grid]) for grid in cells]


def check_cov19net(browser, tmp_path):
    from selenium.webdriver.common.keys import Keys

    traced = cov19net_traced()
    traced.page(tmp_path / "t.html", "COV-19Net")
    browser.get((tmp_path / "t.html").as_uri())
    # The first layer as it opens; then a click into the output, and the arrow keys.
    first = traced["conv2d_1"]
    start = first.start()
    check_against(first.by_hand(), *shown(browser))
    check_multiplied(browser, first.by_hand())
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
    channel = number(browser.find_elements("css selector", ".grid caption")[2].text.removeprefix("products, sum "))
    assert channel == pytest.approx(hand.products[..., 30].sum(), rel=1e-7, abs=1e-9)
    field = browser.find_element("id", "pick-j")
    field.send_keys(Keys.ARROW_DOWN)
    check_against(traced["conv2d_2"].by_hand((3, 27, 7)), *shown(browser))
    assert browser.execute_script("return document.activeElement.id") == "pick-j"       # keeps the focus after redrawing
    axes = browser.execute_script("return [...document.querySelectorAll('#channels span')].map(one => one.textContent)")
    assert {"1", "4", "32", "0"} <= set(axes)
    check_dense(browser, traced["dense_1"])
    check_chain(browser, traced)
    check_classes(browser)


def check_multiplied(browser, hand):
    """Whoever multiplies and adds the numbers on the page gets the numbers on the page, to the last digit."""
    assert browser.find_element("id", "sum-title").text == "27 products and a bias"
    sums = [number(one.text.removeprefix("products, sum "))
            for one in browser.find_elements("css selector", ".grid caption") if "sum" in one.text]
    tables, total = grids(browser), 0
    for c, (x, w, products) in enumerate(zip(tables[::3], tables[1::3], tables[2::3], strict=True)):
        np.testing.assert_allclose([x, w], [hand.x[..., c].ravel(), hand.w[..., c].ravel()], rtol=1e-8)
        assert [float(f"{product:.9g}") for product in x * w] == products.tolist()
        assert sums[c] == pytest.approx((x * w).sum(), rel=1e-8)
        total += (x * w).sum()
    assert len(sums) == 3 and shown(browser)[0]["by hand"] == pytest.approx(total + hand.bias, rel=2e-9)


def check_dense(browser, layer):
    """A layer with the weights of only some units in the page, and the gradients of the layer before it."""
    choose_layer(browser, layer.number - 1)
    check_against(layer.by_hand(), *shown(browser))
    buttons = layer.y[0].argsort()[-16:].tolist()
    missing = next(unit for unit in range(128) if unit not in buttons)
    pick(browser, unit=missing)
    assert browser.find_element("id", "sum-title").text == "Weights not included in this page"
    assert "by hand" not in shown(browser)[0]
    first = browser.find_element("css selector", "#missing button")
    unit = int(first.text) - 1
    first.click()
    check_against(layer.by_hand(unit), *shown(browser))


def check_chain(browser, traced):
    """Gradients of all layers, from the products with those of the next layer, whose buttons lead to the loss."""
    for layer in traced.layers:
        choose_layer(browser, layer.number - 1)
        if layer.dy is None:
            continue
        numbers = np.frombuffer(base64.b64decode(browser.execute_script(
            "return btoa(Array.from(new Uint8Array(data.layers[arguments[0]].gradient.buffer), "
            "b => String.fromCharCode(b)).join(''))", layer.number - 1)), "<f4")
        assert np.array_equal(numbers, layer.dy[0].ravel())
        for place in np.abs(layer.dy[0]).ravel().argsort()[[-1, -7 % layer.dy[0].size, 0]]:
            index = tuple(int(i) for i in np.unravel_index(place, layer.dy.shape[1:]))
            pick(browser, **(dict(zip("ijc", index)) if len(index) == 3 else {"unit": int(place)}))
            check_gradient(browser, layer, index)
    choose_layer(browser, 0)
    resize(browser, 390)
    browser.find_element("css selector", "#gradient-terms p button").click()       # the largest gradient of the layer
    passed = []
    while browser.find_elements("css selector", "#gradient-terms .list button"):
        passed.append(browser.find_element("id", "name").text.split(" ")[0])
        button = browser.find_element("css selector", "#gradient-terms .list button")
        code = button.text
        browser.execute_script("arguments[0].click()", button)
        assert browser.find_element("id", "gradient-title").text == f"Its gradient, {code}"
        left, right = browser.execute_script("const box = document.querySelector('#strip label:has(:checked)')"
                                             ".getBoundingClientRect(); return [box.left, box.right]")
        assert 0 <= left and right <= 390
        assert abs(browser.execute_script("return document.getElementById('layers').getBoundingClientRect().top")) < 900
    assert passed == [layer.name for layer in traced.layers[:11]]
    assert "p − t" in browser.find_element("id", "gradient-terms").text
    resize(browser, 1280)


def check_classes(browser):
    choose_layer(browser, 12)
    assert browser.find_element("id", "output-caption").text.startswith("Output: probability of covid 0.")
    assert "y is the probability of covid, 1 − y" in browser.find_element("id", "terms").text
    assert browser.execute_script("return data.layers[12].view.rows") == 1


def check_sizes(browser, layers=13):
    """On a phone and on a desktop nothing overflows, in light and in dark, which repaints the maps."""
    for width, scheme in ((390, "light"), (390, "dark"), (1280, "dark"), (1280, "light")):
        resize(browser, width)
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {
            "features": [{"name": "prefers-color-scheme", "value": scheme}]})
        for position in range(layers):
            choose_layer(browser, position)
            wide = browser.execute_script("return document.documentElement.scrollWidth")
            assert wide <= width, (width, position)
        page, zero = browser.execute_script("return [getComputedStyle(document.body).backgroundColor, colour(0, 1)]")
        assert page == "rgb({}, {}, {})".format(*zero) and (sum(zero) < 100) == (scheme == "dark")
    assert browser.find_element("id", "output").is_displayed()


def test_the_page_in_a_browser(tmp_path):
    with chromium(tmp_path / "profile") as browser:
        resize(browser, 1280)
        check_every_kind(browser, tmp_path)
        check_cov19net(browser, tmp_path)
        check_sizes(browser)
        assert browser.complaints() == []
        assert set(browser.requests()) == {(tmp_path / name).as_uri() for name in ("small.html", "t.html")}


def test_the_page_of_a_graph_in_a_browser(tmp_path, monkeypatch):
    with chromium(tmp_path / "profile") as browser:
        resize(browser, 1280)
        check_graphs(browser, tmp_path, monkeypatch)
        assert browser.complaints() == [] and set(browser.requests()) == {(tmp_path / "graph.html").as_uri()}


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
