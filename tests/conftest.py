"""Shared by all tests: hypothesis profiles, a kernel cache of the session's own, and the optional radiographs."""

import os
import tempfile
from pathlib import Path

# Before minicnn is imported: kernels are compiled once per test session, into a folder that goes with it. A developer
# who sets MINICNN_CACHE_DIR keeps the compiled kernels between sessions.
if not os.environ.get("MINICNN_CACHE_DIR"):
    _cache = tempfile.TemporaryDirectory(prefix="minicnn-test-cache-")
    os.environ["MINICNN_CACHE_DIR"] = _cache.name
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest
from hypothesis import HealthCheck, settings

for name, examples in (("default", 40), ("ci", 100)):
    settings.register_profile(name, max_examples=examples, deadline=None, derandomize=True, database=None,
                              suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("nightly", max_examples=2000, deadline=None, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or "default")

# Scripts run by hand: they import the frameworks whose numbers are frozen in tests/vectors.
collect_ignore_glob = ["vectors/make_*.py"]

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared():
    """The folder of real radiographs beside the checkout; tests that need it skip where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip("needs the real radiographs in ../shared/data, which are not here")
    return SHARED


@pytest.fixture
def same_threads():
    """The number of threads is afterwards what it was before."""
    from minicnn.kernels.runtime import threads
    before = threads.thread_count()
    yield
    threads.set_thread_count(before)


@pytest.fixture
def caught(monkeypatch):
    """The matplotlib figures that minicnn.plotting saves, to look inside."""
    from minicnn.plotting import style
    seen, save = [], style.save

    def keep(figure, path):
        seen.append(figure)
        save(figure, path)

    monkeypatch.setattr(style, "save", keep)
    return seen


@pytest.fixture(scope="session")
def collection(tmp_path_factory):
    """The manifest of 24 small radiographs as files."""
    from minicnn.cli.main import main
    folder = tmp_path_factory.mktemp("collection") / "files"
    assert main(["data", "phantom", str(folder), "--n", "24", "--seed", "3", "--size", "64", "--quiet"]) == 0
    return folder / "manifest.csv"


@pytest.fixture(scope="session")
def finished(collection, tmp_path_factory):
    """The folder of a finished short run on the collection, under the honest protocol."""
    from minicnn import experiment
    config = experiment.Config(str(collection), epochs=2, steps_per_epoch=3, batch_size=8, classes=["normal", "covid"])
    return experiment.train(config, tmp_path_factory.mktemp("runs") / "a", progress=False).folder


def pytest_collection_modifyitems(config, items):
    """Leave out what is marked `soak` unless -m asks for it."""
    if not config.getoption("-m"):
        for item in items:
            if item.get_closest_marker("soak"):
                item.add_marker(pytest.mark.skip(reason="a longer run: ask for it with -m soak"))
