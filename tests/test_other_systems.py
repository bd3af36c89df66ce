"""Systems that lack what Linux has, Windows above all: minicnn is imported, trains, locks and saves there too.

`plain` hides the names that are not there, and so has no locks at all; `windows` has the locks and the stubbornness of
files of that system (tests/support/other_system.py). What was not tried is the system itself: see CONTRIBUTING.md.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from minicnn.core import files

ROOT = Path(__file__).parents[1]
SYSTEMS = {"plain": "hide", "windows": "windows"}


def start(system, code, *arguments):
    """Start a process that does what the code says on such a system."""
    code = f"from tests.support import other_system\nother_system.{SYSTEMS[system]}()\n{code}"
    return subprocess.Popen([sys.executable, "-W", "error", "-c", code, *map(str, arguments)], cwd=ROOT, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run(system, code, *arguments):
    """Return what such a process printed, after it ended well."""
    process = start(system, code, *arguments)
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, out + error
    return out, error


each_system = pytest.mark.parametrize("system", SYSTEMS)

EVERYTHING = """
import importlib, os, pkgutil, signal, sys
assert not hasattr(os, "fork") and not hasattr(signal, "SIGXFSZ") and sys.modules["fcntl"] is None
import minicnn
for module in pkgutil.walk_packages(minicnn.__path__, "minicnn."):
    if "stubs" not in module.name and module.name != "minicnn.__main__":
        importlib.import_module(module.name)
from minicnn.kernels.runtime import jit
assert jit.FOLDER is not None
from minicnn.cli.main import main
folder, finished, new, page = sys.argv[1:]
assert main(["train", "--resume", folder, "--quiet"]) == 0
assert main(["data", "phantom", new, "--n", "6", "--size", "64", "--seed", "9", "--quiet"]) == 0
for _ in range(2):          # decoded, then found in the cache
    assert main(["evaluate", folder, "--data", new + "/manifest.csv", "--quiet", "--report", page]) == 0
assert main(["doctor"]) == 0
"""


@each_system
def test_a_run_is_the_same_bytes(system, finished, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_bytes((finished / "config.json").read_bytes())
    out, error = run(system, EVERYTHING, folder, finished, tmp_path / "new", tmp_path / "page.html")
    assert "GFLOP/s" in out and not error and "Not drawn" not in out, out
    names = set(os.listdir(finished)) - {"environment.json", "split.csv"}       # those are written at the beginning
    assert set(os.listdir(folder)) == names
    for name in names - {"looks.json"}:
        assert (folder / name).read_bytes() == (finished / name).read_bytes(), name


HOLD = """
import sys
from minicnn.experiment.run_folder import RunFolder
with RunFolder(sys.argv[1]) as run:
    print(run.is_locked, flush=True)
    try:
        RunFolder(sys.argv[1]).__enter__()
    except Exception as error:
        print(type(error).__name__, flush=True)
    sys.stdin.read()
"""

TAKE = """
import sys
from minicnn.experiment.run_folder import RunFolder
from minicnn.errors import RunLockedError
print(RunFolder(sys.argv[1]).is_locked)
try:
    with RunFolder(sys.argv[1]) as run:
        print("taken")
except RunLockedError as error:
    print(error)
"""


@each_system
def test_a_folder_serves_one_process_at_a_time(system, tmp_path):
    folder = tmp_path / "run"
    code = HOLD.replace("sys.stdin.read()", "import time; time.sleep(600)")
    holder = start(system, code, folder)
    try:
        assert [holder.stdout.readline() for _ in range(2)] == ["True\n", "RunLockedError\n"]
        told = run(system, TAKE, folder)[0]
        assert told.startswith("True\n") and f"another run is using this folder (process {holder.pid})" in told
    finally:
        holder.kill(), holder.communicate()
    assert (folder / "run.lock").exists()
    assert run(system, TAKE, folder)[0] == "False\ntaken\n"         # a lock goes with its process
    assert os.listdir(folder) == []


@each_system
def test_files_are_saved_whole(system, tmp_path):
    code = """
import os, sys
from pathlib import Path
from minicnn.core.files import keep_as, open_regular, remove_leftovers, write_atomic
folder = Path(sys.argv[1])
for number in range(3):
    if number:
        keep_as(folder / "last", folder / "previous")
    write_atomic(folder / "last", [b"line %d\\n" % number, bytes(2**20)])
print(sorted(os.listdir(folder)), (folder / "last").read_bytes()[:7], (folder / "previous").read_bytes()[:7])
(folder / ".last.999999999.0123abcd.tmp").touch()
print(remove_leftovers(folder))
try:
    open_regular(folder)
except OSError as error:
    print(type(error).__name__)
"""
    out = run(system, code, tmp_path)[0].splitlines()
    assert out[0] == "['last', 'previous'] b'line 2\\n' b'line 1\\n'" and out[1] == "1" and out[2].endswith("Error")


@each_system
def test_ctrl_c_saves_and_the_run_goes_on(system, tmp_path):
    code = """
import os, signal, sys
import numpy as np
from minicnn import Adam, Callback, Dense, Flatten, Sequential, Sigmoid
signal.signal(signal.SIGINT, signal.default_int_handler)

class Stop(Callback):
    def on_epoch_begin(self, model, epoch):
        if epoch == 2:
            signal.raise_signal(signal.SIGINT)

def tiny():
    model = Sequential([Flatten(), Dense(1), Sigmoid()], (2, 2, 1), seed=3)
    model.compile(Adam(0.1), "binary_crossentropy")
    return model

x, t = np.linspace(0, 1, 48, dtype="f").reshape(12, 2, 2, 1), np.arange(12) % 2
settings = dict(epochs=3, batch_size=4, progress=False)
try:
    tiny().fit(x, t, run=sys.argv[1], callbacks=[Stop()], **settings)
except KeyboardInterrupt as interrupted:
    print(interrupted)
model, whole = tiny(), tiny()
model.fit(x, t, run=sys.argv[1], resume=True, **settings)
whole.fit(x, t, **settings)
print((model.predict(x) == whole.predict(x)).all())
"""
    assert run(system, code, tmp_path / "run")[0] == "interrupted in epoch 2, batch 1 of 3: saved.\nTrue\n"


@each_system
def test_too_little_memory_is_said_as_far_as_it_is_known(system):
    code = """
from minicnn.cli import main, summary
def fail(*arguments):
    raise MemoryError("Unable to allocate 4.00 TiB")
summary.load_network = fail
assert main.main(["summary"]) == 3
"""
    error = run(system, code)[1]
    assert error.startswith("minicnn: out of memory: Unable to allocate 4.00 TiB. Try a smaller --batch-size")
    assert error.count("\n") == 1


# ---- What differs there ----------------------------------------------------------------------------------------------

def test_bytes_are_written_as_bytes(monkeypatch):
    monkeypatch.setattr(os, "O_BINARY", 1 << 30, raising=False)
    assert all(files.open_flags(*names) & 1 << 30 for names in (["RDONLY"], ["WRONLY", "CREAT"], ["NOTHING"]))


def test_no_process_is_sent_a_ctrl_c(monkeypatch):
    """There os.kill(process, 0) is not a question."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "kill", None)
        patch.setattr(os, "name", "nt")
        answers = [files.lives_elsewhere(number) for number in (1, os.getpid(), os.getppid())]
    assert answers == [False] * 3


class Scanned(PermissionError):
    """What Windows raises while a virus scanner has the file open."""

    winerror = 32


@pytest.mark.parametrize("times, error, written", [(1, Scanned, True), (3, Scanned, True), (9, Scanned, False),
                                                   (1, PermissionError, False)])
def test_a_file_that_a_scanner_has_open_is_waited_for(times, error, written, tmp_path, monkeypatch):
    real, calls, pauses = os.replace, [], []

    def replace(*paths):
        calls.append(paths)
        if len(calls) <= times:
            raise error(13, "Permission denied")
        real(*paths)

    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(files.time, "sleep", pauses.append)
    if written:
        files.write_atomic(tmp_path / "x", b"new")
        assert (tmp_path / "x").read_bytes() == b"new" and len(pauses) == times
    else:
        with pytest.raises(files.CheckpointError, match="x: not written, .* You have no permission"):
            files.write_atomic(tmp_path / "x", b"new")
        assert os.listdir(tmp_path) == [] and len(pauses) == (3 if error is Scanned else 0)


def test_the_emulation_refuses_what_windows_refuses(tmp_path):
    code = """
import fcntl_of_windows_is_not_there
"""
    process = start("windows", code)
    assert "ModuleNotFoundError" in process.communicate()[1]
    code = """
import json, msvcrt, os, sys
told = []
def refused(work):
    try:
        work()
        told.append(False)
    except PermissionError:
        told.append(True)
path = sys.argv[1] + "/x"
file = open(path, "w")
refused(lambda: os.replace(path, path + "y"))
refused(lambda: os.unlink(path))
refused(lambda: os.open(sys.argv[1], os.O_RDONLY))
other = open(path, "r+")
msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
refused(lambda: msvcrt.locking(other.fileno(), msvcrt.LK_NBLCK, 1))
msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
msvcrt.locking(other.fileno(), msvcrt.LK_NBLCK, 1)
file.close(), other.close()
os.unlink(path)
print(json.dumps(told))
"""
    assert json.loads(run("windows", code, tmp_path)[0]) == [True] * 4
