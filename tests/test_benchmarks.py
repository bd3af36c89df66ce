"""The benchmarks: contestants answer or are left out, and what the documents show is what is stored."""

from contextlib import ExitStack
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from benchmarks import contestant, distributed_model, suite
from benchmarks.command import load, modules
from benchmarks.measure import OURS, compare, interleave
from benchmarks.networks import COV19NET, NETWORKS, PUBLISHED
from benchmarks.peers import minicnn_model
from benchmarks.readme import readme_tables
from benchmarks.report import compose, readme_section
from minicnn import Model, thread_count
from minicnn.networks import resnet50
from tests.support.laws import digest
from tests.support.processes import run_together

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


def test_a_published_network_is_that_of_the_library():
    network, published = PUBLISHED["ResNet-50, 224x224x3"], resnet50()
    shapes, expected = (sorted(layer.output_shape for layer in layers if type(layer).__name__ in ("Conv2D", "Dense", "MaxPool2D", "Add"))
                        for layers in (minicnn_model(network, thread_count()).layers, published.layers))
    assert shapes == expected
    assert sorted(w.shape for array in network.arrays for w in array.weights) == sorted(w.shape for w in published.get_weights())


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


@pytest.mark.parametrize("N, ranks", [(32, 2), (128, 3)])
def test_the_formula_says_what_a_step_sends(N, ranks):
    grey = np.random.default_rng(0).random((N, 64, 64, 1), np.float32)

    def sent(group):
        model = minicnn_model(COV19NET, thread_count())
        x = np.repeat(grey[group.samples(N, model.network)], 3, axis=3)
        group.trainer(model._trainer).step(x, np.zeros((N, 1), np.float32))
        return group.sent
    assert run_together(ranks, sent) == distributed_model.sent(distributed_model.cov19net(), N, ranks).tolist()


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
