"""The bug lab: the checker of each bug reports it at its place; after the `with` the bug is gone."""

import json
from argparse import ArgumentParser

import numpy as np
import pytest

from minicnn import Adam, Conv2D, Dense, Flatten, ReLU, Sequential, Sigmoid, Tanh, cov19net, gradcheck, reference
from minicnn.cli import gradcheck as gradcheck_command
from minicnn.core.backend import ENGINES
from minicnn.errors import InputError
from minicnn.teaching import mistakes
from minicnn.teaching.bugs import BUGS, demonstrate, inject
from tests.support.laws import assert_same_bits

each_bug = pytest.mark.parametrize("bug", BUGS.values(), ids=lambda bug: bug.name)


def places(report):
    return {(finding.layer, finding.parameter) for finding in report.bugs}


def check_caught(bug, seeds, engine):
    """The report contains a BUG at the place of the bug, and no other."""
    for seed in seeds:
        report = demonstrate(bug.name, seed, engine)
        assert {finding.verdict for finding in report.bugs} == {bug.verdict}
        assert places(report) == {(bug.layer, bug.parameter)}, f"seed {seed}:\n{report}"


@pytest.mark.parametrize("engine, seeds", [("reference", 4), ("fast", 2)])
@each_bug
def test_every_bug_is_caught_at_its_place(bug, engine, seeds):
    check_caught(bug, range(seeds), engine)


@pytest.mark.soak
@pytest.mark.parametrize("engine", ENGINES)
@each_bug
def test_every_bug_is_caught_at_its_place_on_twenty_seeds(bug, engine):
    check_caught(bug, range(20), engine)


def test_the_lab_has_its_bugs():
    assert len(BUGS) >= 25
    assert set(BUGS) == set(mistakes.OPERATIONS) | set(mistakes.LAYERS) | set(mistakes.OPTIMIZERS)
    assert {bug.checker for bug in BUGS.values()} == {"gradcheck", "check_optimizer", "check_determinism"}


@pytest.mark.parametrize("name, sentence", [
    ("mean-twice", "the mean over the batch is taken twice"), ("loss-sign", "the sign is flipped"),
    ("dense-kernel-transposed", "transposed"), ("im2col-column-order", "another order of axes"),
    ("conv-bias-wrong-axes", "the sum of dy runs over the wrong axes"), ("col2im-overwrite", "overwritten where"),
    ("float32-accumulation", "computed in float32"), ("conv-float32", "computed in float32"),
    ("stale-cache", "stale cache"), ("gradient-accumulated", "accumulated instead of overwritten"),
    ("in-place-activation", "forward changes its input"), ("square-without-two", "a factor 2 is missing"),
    ("adam-no-bias-correction", "the bias correction is missing"), ("adam-epsilon-inside-root", "inside the root"),
    ("sgd-no-look-ahead", "look-ahead of Nesterov is missing"), ("dense-one-number-off", "a single number"),
    ("shards-mean-of-means", "a mean is taken over shards of unequal size"),
    ("threads-decide-order", "depends on the threads"),
    ("batch-norm-constant-statistics", "in each channel of the batch it should add up to 0"),
    ("layer-norm-constant-statistics", "along the last axis it should add up to 0"),
    ("batch-norm-momentum-swapped", "the wrong way round"), ("batch-norm-unbiased-moving", "by M - 1, not by M = 48"),
    ("batch-norm-predicts-from-batch", "depends on the other samples of the batch"),
])
def test_the_likely_cause_is_named(name, sentence):
    assert sentence in demonstrate(name).bugs[0].cause


def small(engine="reference", dtype="float64"):
    return Sequential([Conv2D(2, 3), Tanh(), Conv2D(2, 2), ReLU(), Flatten(), Dense(1), Sigmoid()], (6, 6, 1), seed=2,
                      dtype=dtype, engine=engine)


@pytest.mark.parametrize("engine", ["reference", "fast"])
def test_a_bug_is_gone_after_the_with(engine):
    model, functions = small(engine), dict(vars(reference))
    for name in ("col2im-overwrite", "gradient-accumulated", "mean-twice"):
        layer = "conv2d_1" if name == "gradient-accumulated" else None
        before = model.predict(np.ones((2, 6, 6, 1)))
        with pytest.raises(ZeroDivisionError):
            with inject(name, model, layer):
                assert not gradcheck(model)
                raise ZeroDivisionError
        assert gradcheck(model)
        assert_same_bits(model.predict(np.ones((2, 6, 6, 1))), before)
    assert dict(vars(reference)) == functions


def test_a_bug_is_injected_into_the_named_layer():
    model = small()
    with inject("conv-bias-one-pixel", model, "conv2d_1"):
        assert places(gradcheck(model)) == {("conv2d_1", "bias")}
        assert gradcheck(small())               # another model does not have it


@pytest.mark.parametrize("name, subject, layer, sentence", [
    ("no-such-bug", None, None, "there is none called 'no-such-bug'"),
    ("adam-step-ahead", small(), None, "this is a bug of optimizers, and Sequential is not one"),
    ("pool-next-place", small(), None, "this is a bug of MaxPool2D, and the model has none"),
    ("kernel-flipped", small(), "dense_1", "this is a bug of Conv2D, and the model has none called 'dense_1'"),
    ("kernel-flipped", small(dtype="float32"), None, "expected a model of dtype float64, got float32"),
    ("square-without-two", small(), None, "a bug of mean_squared_error, the model's loss is binary_crossentropy"),
    ("gradient-accumulated", small("fast"), None, "'conv2d_2' runs in one step with its neighbours"),
])
def test_bugs_that_cannot_be_injected(name, subject, layer, sentence):
    if name == "square-without-two":
        subject.compile(Adam(), loss="binary_crossentropy")
    with pytest.raises(InputError, match=sentence):
        with inject(name, subject, layer):
            raise AssertionError("it was injected")


@pytest.mark.parametrize("name, place", [("col2im-overwrite", "x"), ("conv-bias-one-pixel", "bias")])
def test_a_bug_in_cov19net_is_located(name, place):
    model = cov19net(dtype="float64")
    with inject(name, model):
        report = gradcheck(model, directions=3)
    assert places(report) == {("conv2d_3", place)}, report


def run(*arguments):
    parser = ArgumentParser()
    gradcheck_command.add_options(parser)
    return gradcheck_command.run(parser.parse_args(arguments))


def test_the_command_injects_and_lists(capsys):
    assert run("--inject", "col2im-overwrite") == 1
    assert "BUG at conv2d_2/x" in capsys.readouterr().out
    assert run("--list-bugs") == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == list(BUGS)
    assert run("--list-bugs", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)) == len(BUGS)
    assert run("--inject", "mean-twice", "--json") == 1
    assert json.loads(capsys.readouterr().out)["findings"][0]["layer"] == "binary_crossentropy"
