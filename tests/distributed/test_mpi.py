"""Processes that mpiexec starts: the bits of one, and an end of all where one fails."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from argparse import Namespace

import numpy as np
import pytest

from minicnn.cli import main
from minicnn.core.processes import Alone
from minicnn.data.manifest import Manifest
from minicnn.data.pixel_cache import PixelCache
from minicnn.data.preprocessing import Preprocessing
from minicnn.data.sharing import share_dataset
from minicnn.distributed import group
from minicnn.errors import InputError, MissingExtraError
from tests.distributed import program
from tests.support.processes import ROOT, finish, mpiexec, run_together, start

PROGRAM = "-m", "tests.distributed.program"
TRAIN = "-m", "minicnn", "train", "--epochs", "2", "--steps-per-epoch", "6", "--batch-size", "8", "--threads", "1", "--seed", "3"


@pytest.fixture(scope="module")
def expected():
    return program.digests(None)


@pytest.mark.parametrize("ranks, threads", [(1, 1), (2, 2), (3, 1), (4, 2)])
def test_any_number_of_ranks_and_threads_gives_the_same_bits(expected, ranks, threads, same_threads):
    code, out, err = finish(start(ranks, *PROGRAM, "bits", threads))
    assert (code, err) == (0, "") and json.loads(out) == expected


# ---- When one fails --------------------------------------------------------------------------------------------------

def files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def check_failure(tmp_path, kind, rank, batch, ranks, resumed, whole):
    """Let a rank fail; all end soon, and the run goes on to the same files with another number of ranks."""
    began = time.monotonic()
    code, out, err = finish(start(ranks, *PROGRAM, "fail", tmp_path, kind, rank, batch), 30)
    names = {path.name for path in tmp_path.iterdir()} if tmp_path.exists() else set()
    assert not any(name.endswith(".tmp") for name in names) or kind == "kill" and rank == 0, names
    if kind == "disk" and rank != 0:
        assert code == 0                    # it writes nothing
    else:
        said = [line for line in err.splitlines() if re.match(r"\w*(Error|Interrupted):", line)]
        assert code != 0 and time.monotonic() - began < 30
        assert len(said) == (kind != "kill"), err
        assert {"exception": f"DistributedError: rank {rank}: something is wrong (ValueError)",
                "memory": f"MemoryError: rank {rank}: Unable to allocate", "hang": "DistributedError: rank",
                "nan": "NonFiniteError: epoch ", "drift": "DistributedError: after step", "signal": "Interrupted: interrupted in ",
                "disk": "CheckpointError: rank 0: ", "kill": ""}[kind] in "".join(said)
        if kind in ("nan", "drift"):
            assert f"rank {rank}" in said[0]
    if kind in ("nan", "drift"):
        return              # the weights of one rank are not those of a run without
    if resumed == 1:
        assert program.fail(Alone(), tmp_path, "none", 0, 0) == 0
    else:
        code, _, err = finish(start(resumed, *PROGRAM, "fail", tmp_path, "none", 0, 0))
        assert code == 0, err
    assert files(tmp_path) == whole


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The files of a run without a failure, in one process."""
    folder = tmp_path_factory.mktemp("whole")
    assert program.fail(Alone(), folder, "none", 0, 0) == 0
    return files(folder)


@pytest.mark.parametrize("kind, rank, batch, ranks, resumed", [
    ("exception", 1, 2, 3, 1), ("kill", 0, 5, 2, 1), ("signal", 1, 4, 2, 3), ("disk", 0, 3, 2, 1), ("nan", 1, 2, 2, 1)])
def test_a_failure_of_one_ends_all(tmp_path, whole, kind, rank, batch, ranks, resumed):
    check_failure(tmp_path / "run", kind, rank, batch, ranks, resumed, whole)


@pytest.mark.soak
@pytest.mark.parametrize("kind, rank, batch, ranks, resumed", [("drift", 1, 2, 2, 1), ("hang", 1, 3, 2, 1)])
def test_one_that_computes_wrongly_or_hangs_ends_all(tmp_path, whole, kind, rank, batch, ranks, resumed):
    check_failure(tmp_path / "run", kind, rank, batch, ranks, resumed, whole)


@pytest.mark.soak
def test_a_hundred_failures(tmp_path, whole):
    drawn = random.Random(20)
    for number in range(100):
        ranks = drawn.choice([2, 3, 4])
        kind = drawn.choice(["exception", "kill", "kill", "signal", "disk", "memory"])
        rank = 0 if kind == "disk" else drawn.randrange(ranks)
        check_failure(tmp_path / str(number), kind, rank, drawn.randint(1, 9), ranks, drawn.choice([1, 2, 3]), whole)


@pytest.mark.parametrize("what, named", [("epochs", "epochs: 1 on rank 0, 2 on rank 1"), ("batch_size", "batch size: 4 on"),
                                         ("optimizer", "optimizer: {'type': 'Adam'"), ("targets", "training targets: "),
                                         ("data", "training data: ")])
def test_what_differs_between_ranks_is_named(what, named):
    with pytest.raises(InputError, match=f"^fit: the processes differ in {re.escape(named)}"):
        run_together(2, lambda group: program.differ(group, what))


# ---- The command line ------------------------------------------------------------------------------------------------

def one_process(*arguments, cwd):
    return subprocess.run([sys.executable, *map(str, arguments)], cwd=cwd, env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True,
                          capture_output=True, timeout=120)


@pytest.mark.parametrize("options", [[], ["--freeze", "trunk", "--size", "32"]], ids=["whole", "frozen"])
def test_train_is_interrupted_and_goes_on_with_other_ranks(options, tmp_path, collection):
    data = "--data", collection, "--classes", "normal,covid", *options
    done = one_process(*TRAIN, *data, "--out", "one", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    child = start(3, *TRAIN, *data, "--mpi", "--out", "many", cwd=tmp_path)
    last = tmp_path / "many" / "last.safetensors"
    while not last.exists() and child.poll() is None:
        time.sleep(0.01)
    child.send_signal(signal.SIGTERM)               # mpiexec passes it on
    code, _, err = finish(child)
    if code != 0:                                   # it may have been done before the signal came
        assert err.count("minicnn: interrupted") <= 1, err
        resumed = start(2, "-m", "minicnn", "train", "--resume", "many", "--mpi", "--threads", "1", cwd=tmp_path)
        code, out, err = finish(resumed)
        assert code == 0, err
    assert files(tmp_path / "many") == files(tmp_path / "one")


def test_a_process_on_another_disk_decodes_what_it_meets(tmp_path, collection, monkeypatch):
    """Rank 1 has a cache of its own, in which it keeps the images that it needed."""
    dataset = Manifest.read(collection, classes=["normal", "covid"]).open(Preprocessing(64, 64, 3), workers=0)
    monkeypatch.setenv("MINICNN_CACHE_DIR", str(tmp_path))
    shared = run_together(2, lambda group: share_dataset(group, dataset if group.rank == 0 else None))
    assert shared[0] is dataset and shared[1].classes == dataset.classes
    np.testing.assert_array_equal(shared[1].labels, dataset.labels)
    for samples in (np.array([5, 2]), np.array([2, 7])):
        np.testing.assert_array_equal(shared[1].batch(samples), dataset.batch(samples))
    kept, = (tmp_path / "pixels").glob("*.own")
    assert np.flatnonzero(np.fromfile(kept, np.uint8)[-len(dataset):]).tolist() == [2, 5, 7]
    assert not list((tmp_path / "pixels").glob("[0-9a-f]" * 64))


def test_a_manifest_is_opened_by_rank_0(collection, monkeypatch):
    """Its images are decoded once; the others find them in the cache, and reports say nothing twice."""
    whole, opened, prepare = Manifest.read(collection, classes=["normal", "covid"]), [], PixelCache.prepare.__func__
    monkeypatch.setattr(PixelCache, "prepare", classmethod(lambda *args, **named: opened.append(1) or prepare(*args, **named)))

    def fit(group=None):
        model = program.cov19_like()
        model.compile("adam", "binary_crossentropy")
        return model.fit(whole, validation=whole, epochs=1, batch_size=8, progress=False, distributed=group).rows, model.classes
    expected = fit()
    opened.clear()
    assert run_together(3, fit) == [expected] * 3 and len(opened) == 2


def test_options_that_differ_are_refused(tmp_path):
    both = [["-n", "1", sys.executable, *TRAIN, "--mpi", "--quiet", "--out", "run", "--learning-rate", rate] for rate in ("1e-3", "1e-4")]
    done = subprocess.run([mpiexec(), *both[0], ":", *both[1]], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True,
                          capture_output=True, timeout=60)
    assert done.returncode == 3 and not (tmp_path / "run").exists()
    assert done.stderr.splitlines()[0] == ("minicnn: minicnn train: the processes differ in learning rate: 0.001 on rank 0, 0.0001 on "
                                           "rank 1. All of them need the same.")


def test_one_process_is_told_that_it_is_alone(monkeypatch, capsys):
    monkeypatch.setattr("minicnn.distributed.MPI", Alone)
    assert main._processes(Namespace(words=["train", "--mpi", "--out", "my run"], mpi=True)).size == 1
    assert capsys.readouterr().err == ("minicnn: --mpi: this is one process, which shares with none. Start several: mpiexec -n 4 minicnn "
                                       "train --mpi --out 'my run'\n")


def test_without_mpi4py_the_line_to_install_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(MissingExtraError, match=r'mpi4py, which is not installed. Install it with: pip install "minicnn\[mpi\]"'):
        group.MPI()


def test_a_mixed_cluster_is_refused():
    def join(group):
        group.same("MPI", CPU="znver4" if group.rank == 1 else "sapphirerapids", numpy="2.4.6")
    with pytest.raises(InputError, match="the processes differ in CPU: 'sapphirerapids' on rank 0, 'znver4' on rank 1"):
        run_together(2, join)


def test_more_ranks_than_chunks_are_told():
    def check(group):
        with pytest.warns(RuntimeWarning, match=r"a batch of 4 has 2 chunks, so 1 of 3 processes have nothing to compute in training. "
                                                r"A batch of 5 gives each a chunk"):
            group.check_batch_size("fit", 4)

    class Three(group.MPI):
        def __init__(self):
            self.rank, self.size = 0, 3
    check(Three())
