"""The benchmarks: contestants answer or are left out, and what the documents show is what is stored."""

from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from benchmarks import contestant, distributed_model, suite
from benchmarks.command import load, modules
from benchmarks.measure import OURS, compare, interleave
from benchmarks.networks import COV19NET, NETWORKS
from benchmarks.peers import minicnn_model
from benchmarks.readme import readme_tables
from benchmarks.report import compose, readme_section
from minicnn import Model, thread_count
from minicnn.core.memory import Buffers, here
from minicnn.core.processes import Alone
from minicnn.distributed.share import Share
from tests.support.laws import digest

FOLDER = Path(suite.__file__).parent
LENET = next(iter(NETWORKS.values()))


def test_a_contestant_answers_and_one_that_fails_is_left_out(monkeypatch):
    with ExitStack() as stack:
        there, absent = contestant.start(stack, [OURS, "nobody"], LENET, 1)
        assert list(there) == [OURS] and absent == {"nobody": "KeyError: 'nobody'"}
        ours = there[OURS]
        assert ours.tasks == ["predict", "train"] and ours.values("predict", 3).shape == (1, 3, 10)
        rows = compare(interleave({OURS: ours.turns("train", 2), "again": ours.turns("train", 2)}, rounds=2, budget=0))
        assert [row["name"] for row in rows] == [OURS, "again"] and rows[0]["ratio"] == 1
        resident, peak = ours.memory()
        assert 10 < resident < peak + 1
        with pytest.raises(contestant.Failed, match="TypeError"):
            ours.ask("times")
        hanging = stack.enter_context(contestant.Contestant(OURS, LENET.name, 1))
        hanging.answer()
        monkeypatch.setattr(contestant, "LIMIT", 1)
        with pytest.raises(contestant.Failed, match="no answer in 1 s"):
            hanging.ask("times", "predict", 1, 60, 1)


def test_who_computes_something_else_is_left_out():
    class Answers:
        tasks = ["predict", "train"]

        def __init__(self, off):
            self.off = off

        def values(self, task, n, count=1):
            return np.full(count, 0.5 + self.off)

    contestants, absent = {OURS: Answers(0), "near": Answers(5e-5), "far": Answers(2e-4), "none": Answers(np.nan)}, {}
    assert suite.agree(LENET, contestants, absent) == pytest.approx({"predictions": 5e-5, "losses": 5e-5})
    assert list(contestants) == [OURS, "near"]
    assert absent == {"far": "its predictions differ by 0.0002", "none": "its predictions differ by nan"}


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_shapes_and_parameters_are_those_that_minicnn_finds(network):
    model = minicnn_model(network, thread_count())
    assert [layer.output_shape for layer in model.layers[:-1]] == [array.shape for array in network.arrays[1:]]
    assert sum(p.value.size for layer in model.layers for p in getattr(layer, "parameters", ())) == network.parameters


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_no_thread_batch_order_or_pause_decides_a_bit(network, tmp_path, same_threads):
    """Of two steps with 1 to 4 threads, the second after a load; and of predictions in a batch, alone, and backward."""
    images, t = network.images()
    n = 2 if network.batch < 32 else 5
    images, t, trained, predicted = images[:n], t[:n], set(), set()
    for threads in (1, 2, 3, 4):
        model = minicnn_model(network, threads)
        first = model.train_on_batch(images, t)
        if threads == 3:
            model.save(tmp_path / "model.safetensors")
            model = Model.load(tmp_path / "model.safetensors")
        second = model.train_on_batch(images, t)
        trained.add((first, second, *map(digest, model.get_weights())))
        for _ in range(1 if network.batch < 32 else 5):            # the last is a replay
            alone = np.concatenate([model.predict(image[None]) for image in images])
            predicted |= {digest(model.predict(images)), digest(alone), digest(model.predict(images[::-1])[::-1])}
    assert len(trained) == len(predicted) == 1


def test_operations_are_counted():
    assert (COV19NET.flops(), COV19NET.flops(training=True)) == (25977856, 71291136)


class Twin(Alone):
    """The first of two ranks, which takes what the other would send for what it sends itself."""

    size = 2

    def __init__(self):
        self.sent, self.signal, self.buffers = 0, None, Buffers()

    @contextmanager
    def sharing(self, n, network):
        here.share = Share(self, n, network.dtype)
        try:
            yield here.share
        finally:
            here.share = None

    def start_gather(self, given, sizes, found):
        own, other = np.split(found.reshape(-1).view(np.uint8), [sizes[0]])
        if given is not None:
            own[:] = given.reshape(-1).view(np.uint8)
        other[:] = np.resize(own, sizes[1])
        self.sent += sizes[0]

    def start_exchange(self, given, counts, sizes, found):
        own, other = np.split(found.reshape(-1).view(np.uint8), [sizes[0]])
        own[:], other[:] = np.split(np.resize(given.reshape(-1).view(np.uint8), sum(sizes)), [sizes[0]])
        self.sent += counts[1]

    def wait(self, *requests):
        pass

    ask = wait


@pytest.mark.parametrize("N", (32, 128))
def test_the_formula_says_what_a_step_sends(N):
    model, twin = minicnn_model(COV19NET, thread_count()), Twin()
    grey = np.random.default_rng(0).random((N // 2, 64, 64, 1), np.float32)
    with model._trainer.shared_by(twin):
        model._trainer.step(np.repeat(grey, 3, axis=3), np.zeros((N, 1), np.float32))
    assert twin.sent == distributed_model.sent(distributed_model.cov19net(), N, 2)[0]


def test_the_formula_gives_one_rank_1_and_others_never_more_than_they_are():
    cost, networks = distributed_model.Cost(3e-4, 1e-3), distributed_model.NETWORKS
    assert [distributed_model.parameters(networks[name][0]()) for name in ("ResNet-50", "VGG-19")] == [25583592, 143667240]
    for define, batches in networks.values():
        layers = define()
        for N, (latency, bandwidth) in product(batches, ((2e-5, 1e9), (0.0, np.inf))):
            alone, hidden = distributed_model.step_seconds(layers, N, 1, cost, latency, bandwidth)
            assert alone == hidden == pytest.approx(N * cost.image + cost.rest) and not distributed_model.sent(layers, N, 1).any()
            for R in (2, 3, 16, 64):
                slow, fast = distributed_model.step_seconds(layers, N, R, cost, latency, bandwidth)
                assert alone / R <= fast <= slow


def test_the_documents_show_what_is_stored(tmp_path):
    stored = load(FOLDER / "results")
    assert readme_section("benchmarks")[1] == readme_tables(stored)
    assert (FOLDER / "RESULTS.md").read_text(encoding="utf-8") == compose(modules(), stored, tmp_path)
