"""Trainings that processes divide: the page is that of one process, and one failure or signal ends all of them."""

import json
import signal
import time
from dataclasses import asdict

import pytest

from minicnn import checkpoint, experiment
from minicnn.cli.main import main
from minicnn.core.processes import Alone
from minicnn.distributed.tasks import spread
from minicnn.kernels.runtime.threads import available_cores, set_thread_count
from tests.study.test_reproduction import collection
from tests.support.processes import finish, is_open_mpi, start

STUDY = ["--seeds", "1", "--epochs", "1", "--steps-per-epoch", "2"]
# The plots take longer than all else, and have their tests.
NO_PLOTS = """
import sys
from minicnn.cli.main import main
from minicnn.study import plots
plots.draw = lambda *found: ({}, {})
sys.exit(main())
"""
# Six tasks: each leaves a file, or fails, or takes a minute.
TASKS = """
import os, signal, sys, time
from pathlib import Path
from minicnn import errors
from minicnn.distributed import MPI, tasks

def one(kind, name):
    Path(sys.argv[1], name).write_text("begun")
    if kind == "fails":
        raise ERROR
    time.sleep(60 if kind == "long" else 0)
    Path(sys.argv[1], name).write_text("done")

group = MPI()
try:
    with group.together():
        if group.rank > 0:
            tasks.work(group)
        else:
            kinds = sys.argv[2:]
            tasks.spread(group, one, {f"task {k}": (kind, f"task {k}") for k, kind in enumerate(kinds)},
                         lambda *told: print(*told[:2], flush=True))
            tasks.dismiss(group)
except errors.MiniCNNError as error:
    if not error.relayed:
        print(type(error).__name__, error, file=sys.stderr)
    group.end(3)
"""


@pytest.fixture
def program(tmp_path):
    """A function that writes a program; the path of it is returned."""
    def write(code):
        path = tmp_path / "program.py"
        path.write_text(code)
        return path
    return write


def test_one_process_does_one_task_after_another():
    done = []
    spread(Alone(), done.append, {"a": (1,), "b": (2,)}, lambda *told: done.append(told))
    assert done == [1, (1, "a", 0), 2, (2, "b", 0)]


def test_all_tasks_are_done_and_told_by_rank_0(program, tmp_path):
    code, out, err = finish(start(3, program(TASKS), tmp_path, *["short"] * 6))
    assert code == 0 and err == ""
    lines = out.splitlines()
    assert [line[0] for line in lines] == list("123456")
    assert sorted(line[2:] for line in lines) == [f"task {k}" for k in range(6)]
    assert all((tmp_path / f"task {k}").read_text() == "done" for k in range(6))


@pytest.mark.parametrize("kinds, error, said", [
    (["fails", "long", "long"], "errors.NonFiniteError('not finite')", "NonFiniteError rank 1: task 0: not finite"),
    (["long", "long", "fails"], "errors.NonFiniteError('not finite')", "NonFiniteError rank 0: task 2: not finite"),
    (["short", "long", "long", "fails"], "KeyError('lost')", "DistributedError rank 1: task 3: 'lost' (KeyError)")])
def test_one_failure_ends_all_and_names_the_rank_and_the_task(program, tmp_path, kinds, error, said):
    began = time.monotonic()
    code, _, err = finish(start(3, program(TASKS.replace("ERROR", error)), tmp_path, *kinds), 30)
    assert code == 3 and time.monotonic() - began < 30
    assert [line for line in err.splitlines() if line.split(" ")[0].endswith("Error")] == [said]     # launchers have words of their own
    if kinds[0] == "short":
        assert (tmp_path / "task 0").read_text() == "done"


def results(folder):
    """Return the bytes of what a study and its trainings leave, but the time and the threads of each."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")
            if path.suffix in (".json", ".html", ".md", ".csv", ".safetensors") and path.name != "environment.json"}


def test_a_study_over_processes_is_that_of_one(program, tmp_path, monkeypatch, capsys, same_threads):
    """With a training that fails, with a signal, and then to its end, with other numbers of processes."""
    set_thread_count(available_cores())         # which the page names
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    arguments = ["reproduce", "--data", collection(tmp_path, "own", n=24, sources=False), *STUDY]
    monkeypatch.setattr("minicnn.study.plots.draw", lambda *found: ({}, {}))
    assert main([*arguments, "--quiet", "--out", str(tmp_path / "one")]) == 0
    alone, out = capsys.readouterr().out, tmp_path / "several"

    other = out / "runs" / "honest-0" / "config.json"
    other.parent.mkdir(parents=True)
    other.write_text(json.dumps(asdict(experiment.Config(epochs=3))))
    words = [program(NO_PLOTS), *arguments, "--mpi", "--out", out]
    code, _, err = finish(start(3, *words), 30)
    (said,) = [line for line in err.splitlines() if line.startswith("minicnn: ")]
    assert code == 3 and said.startswith("minicnn: rank 2: honest-0: ") and "other options" in said
    other.unlink()

    code, found, err = finish(start(2, *words))
    assert code == 0 and found.replace(str(out), "OUT") == alone.replace(str(tmp_path / "one"), "OUT")
    lines = err.splitlines()
    assert lines[:1] == ["reading manifest.csv"] and lines[1].endswith(" trainings over 2 processes") and "epoch" not in err
    assert results(out) == results(tmp_path / "one")
    assert (out / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_study_in_all_processes_and_trainings_go_on(tmp_path, number, code):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)       # children inherit an ignored one
    out = tmp_path / "out"
    child = start(2, "-m", "minicnn", "reproduce", "--data", collection(tmp_path, "own", n=24, sources=False), "--seeds", "1",
                  "--epochs", "400", "--steps-per-epoch", "2", "--mpi", "--quiet", "--out", out)
    signal.signal(signal.SIGINT, before)
    began = time.monotonic()
    while len(list(out.glob("runs/*/last.safetensors"))) < 2 and time.monotonic() - began < 60:
        assert child.poll() is None
        time.sleep(0.05)
    child.send_signal(number)
    ended, _, err = finish(child, 30)
    if is_open_mpi():                           # it drops what its processes say, and their code
        assert ended == 1
    else:
        assert ended == code and "Traceback" not in err and "No training is finished yet." in err
        assert f"Go on with:\n  mpiexec -n 2 minicnn reproduce --data {tmp_path}" in err
    for name in ("paper-0", "honest-0"):        # each goes on where its checkpoint says
        content = checkpoint.read(out / "runs" / name / "last.safetensors")
        assert content.history or content.position is not None
