"""Environments: little memory, unusual locales, no home folder, threads of other libraries; and exit codes (E4 to
E6, C9, C10).

The caches of compiled code are kernels/runtime/test_jit.py's, the threads that compute kernels/runtime/test_work_queue.py's.
"""

import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from benchmarks.reliability.run_faults import ended, measure
from minicnn import Adam, set_thread_count, cov19net
from minicnn.cli.main import main
from minicnn.experiment import run_folder
from tests.kernels.runtime.test_jit import obey_modes

QUICK = ["--epochs", "2", "--steps-per-epoch", "2", "--batch-size", "4", "--quiet"]


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """24 small radiographs with a manifest that has a label beyond ASCII."""
    folder = tmp_path_factory.mktemp("collection") / "files"
    assert main(["data", "phantom", str(folder), "--n", "24", "--seed", "3", "--size", "64", "--quiet"]) == 0
    manifest = folder / "manifest.csv"
    manifest.write_text(manifest.read_text().replace("covid", "malade à 37 oC"), encoding="utf-8")
    return manifest


CLASSES = ["--classes", "normal,malade à 37 oC"]


@pytest.fixture(scope="module")
def finished(collection, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "a"
    assert main(["train", "--data", str(collection), "--out", str(folder), *CLASSES, *QUICK]) == 0
    return folder


def run(*arguments, flags=(), preexec_fn=None, **environment):
    """Run the command line in a new process."""
    return subprocess.run([sys.executable, *flags, "-m", "minicnn", *map(str, arguments)], capture_output=True,
                          encoding="utf-8", errors="replace", env=os.environ | environment, preexec_fn=preexec_fn)


ELSEWHERE = {
    "no home folder": ((), {"HOME": "/proc/nowhere", "XDG_CACHE_HOME": "", "XDG_CONFIG_HOME": ""}),
    "a locale that knows ASCII alone": ((), {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0",
                                             "PYTHONCOERCECLOCALE": "0"}),
    "warnings are errors": (("-W", "error"), {}),
    "without assertions and docstrings": (("-OO",), {}),
}


@pytest.mark.parametrize("flags, environment", ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_run_is_the_same_bytes_elsewhere(flags, environment, collection, finished, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_bytes((finished / "config.json").read_bytes())
    done = run("train", "--resume", tmp_path / "run", "--quiet", flags=flags, **environment)
    assert done.returncode == 0, done.stderr
    assert "minicnn:" not in done.stderr and "Traceback" not in done.stderr
    for name in ("last.safetensors", "best.safetensors", "history.csv", "metrics.json", "predictions.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (finished / name).read_bytes(), name
    image = next((collection.parent / "images").iterdir())
    done = run("predict", finished, image, flags=flags, **environment)
    assert done.returncode == 0 and os.path.basename(image) in done.stdout, done.stderr
    assert not {"malade à 37 oC", "malade \\xe0 37 oC", "normal"}.isdisjoint(done.stdout.split("  "))


def test_an_empty_variable_is_an_unset_one(tmp_path):
    code = ("from minicnn import cov19net, thread_count\n"
            "from minicnn.kernels.runtime import jit, simd, threads\n"
            "assert cov19net().engine == 'fast' and thread_count() == threads.available_cores()\n"
            "print(simd.REGISTER_BYTES, jit.FOLDER)")
    unset = {name: value for name, value in os.environ.items() if not name.startswith("MINICNN_")}
    unset["XDG_CACHE_HOME"] = str(tmp_path)
    empty = unset | {f"MINICNN_{name}": "" for name in ("CACHE_DIR", "ENGINE", "THREADS", "VECTOR_BYTES", "FIGURES")}
    first, second = (subprocess.run([sys.executable, "-c", code], env=variables, check=True, capture_output=True).stdout
                     for variables in (unset, empty))
    assert first == second and str(tmp_path).encode() in first


@pytest.mark.soak
def test_a_run_needs_no_folder_for_what_it_compiles(collection, finished, tmp_path):
    done = run("train", "--data", collection, "--out", tmp_path / "run", *CLASSES, *QUICK, HOME="/proc/nowhere",
               XDG_CACHE_HOME="", MINICNN_CACHE_DIR="")
    assert done.returncode == 0, done.stderr
    assert "kernel cache" in done.stderr and "Set MINICNN_CACHE_DIR to a folder of yours" in done.stderr
    assert (tmp_path / "run" / "last.safetensors").read_bytes() == (finished / "last.safetensors").read_bytes()


# ---- Threads ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("count, workers", [(1, 0), (2, 1), (4, 2)])
def test_no_more_threads_than_asked_for(count, workers):
    counts = measure("threads", count=count, workers=workers)
    assert count - 1 <= counts["during"] - counts["before"] <= count - 1 + workers
    assert counts["after"] - counts["before"] == count - 1


def test_the_callers_blas_keeps_its_threads(same_threads):
    def counts():
        return [(library["filepath"], library["num_threads"]) for library in threadpool_info()]

    model = cov19net(seed=1)
    model.compile(Adam(), "binary_crossentropy")
    x, seen = np.zeros((4, 64, 64, 3), np.uint8), []
    model.fit(x, [0, 1, 0, 1], progress=False)              # numba brings SciPy's BLAS along
    for blas, ours in ((1, 2), (2, 1), (2, 2)):
        with threadpool_limits(blas):
            before = counts()
            set_thread_count(ours)
            model.fit(x, [0, 1, 0, 1], validation=(x, [0, 1, 0, 1]), progress=False)
            model.predict(x)
            assert counts() == before
            seen.append(before)
    assert seen[0] and seen[0] != seen[1]


# ---- Memory ----------------------------------------------------------------------------------------------------------

def test_too_little_memory_is_said_and_loses_nothing(tmp_path):
    counts = measure("starved", folder=str(tmp_path))
    assert counts["starved"] >= 3 and set(counts["codes"]) == {3} and counts["sentences"] == counts["starved"]
    assert counts["lost"] == 0 and counts["identical"] == 1


def test_training_and_predicting_do_not_grow():
    counts = measure("grown", epochs=50, predictions=1000)
    assert counts["training"] <= 8 and counts["predicting"] <= 4


def test_training_fits_into_a_gibibyte(tmp_path):
    arguments = ["train", "--out", str(tmp_path / "run"), "--epochs", "1", "--steps-per-epoch", "20", "--quiet"]
    assert 50 < measure("peak", arguments=arguments) <= 1024


@pytest.mark.soak
def test_the_default_run_fits_into_a_gibibyte(tmp_path):
    assert 50 < measure("peak", arguments=["train", "--out", str(tmp_path / "run"), "--quiet"]) <= 1024


@pytest.mark.soak
def test_memory_does_not_grow_with_the_collection(tmp_path):
    peaks = []
    for n in (1000, 10_000):
        data = tmp_path / str(n)
        assert main(["data", "phantom", str(data), "--n", str(n), "--size", "64", "--quiet"]) == 0
        arguments = ["train", "--data", str(data / "manifest.csv"), "--out", str(tmp_path / f"run{n}"), "--epochs", "1",
                     "--steps-per-epoch", "20", "--quiet"]
        peaks.append(measure("peak", arguments=arguments))
    assert peaks[1] - peaks[0] <= 32, peaks


# ---- Ends ------------------------------------------------------------------------------------------------------------

LITTLE_ROOM = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
from minicnn.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_checkpoint_that_finds_no_room_is_said_and_leaves_nothing(collection, tmp_path):
    folder = tmp_path / "run"
    done = subprocess.run([sys.executable, "-c", LITTLE_ROOM, "train", "--data", collection, "--out", folder, *CLASSES,
                           *QUICK], capture_output=True, text=True)
    assert done.returncode == 4 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"minicnn: {folder}/best.safetensors: not written, ")
    assert sorted(os.listdir(folder)) == ["config.json", "environment.json", "history.csv", "split.csv"]
    assert main(["train", "--resume", str(folder), "--quiet"]) == 0


def test_a_read_only_run_folder_is_said(collection, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    folder.chmod(0o500)
    done = run("train", "--data", collection, "--out", folder, *CLASSES, *QUICK, preexec_fn=obey_modes)
    assert done.returncode == 4 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"minicnn: {folder}: cannot be used as a run folder: Permission denied.")


def raises(error):
    def fail(*arguments, **settings):
        raise error
    return fail


@pytest.mark.parametrize("code, sentence, arguments", [
    (0, "", ["summary"]),
    (2, "error: unrecognized arguments", ["train", "--steps", "3"]),
    (2, "error: argument --epochs", ["train", "--epochs", "many"]),
    (3, "Training stopped before this update; a smaller learning rate may help.",
     ["train", "--data", "{data}", "--out", "{new}", *CLASSES, *QUICK, "--learning-rate", "1e30"]),
    (3, "no such run folder", ["train", "--resume", "{new}"]),
    (3, "nowhere.csv", ["data", "split", "nowhere.csv"]),
    (4, "cannot be read", ["predict", "{new}.safetensors", "x.png"]),
    (4, "damaged", ["predict", "{damaged}", "x.png"]),
    (5, "another run is using this folder", ["train", "--resume", "{locked}"]),
])
def test_each_end_has_its_code_and_one_line(code, sentence, arguments, collection, finished, tmp_path, capsys):
    content = (finished / "last.safetensors").read_bytes()
    (tmp_path / "damaged.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    names = dict(data=collection, new=tmp_path / "new", damaged=tmp_path / "damaged.safetensors",
                 locked=tmp_path / "locked")
    arguments = [argument.format(**names) for argument in arguments]
    with run_folder.RunFolder(tmp_path / "locked"):
        got = ended(arguments)
    error = capsys.readouterr().err
    assert got == code and sentence in error and "Traceback" not in error
    assert error.count("\n") == (code != 0) or code == 2


@pytest.mark.parametrize("error, code, sentence", [
    (KeyboardInterrupt(), 130, "minicnn: interrupted.\n"),
    (MemoryError(), 3, "minicnn: out of memory: one more array did not fit; this "),
    (np._core._exceptions._ArrayMemoryError((2**40,), np.dtype("f4")), 3,
     "minicnn: out of memory: Unable to allocate 4.00 TiB for an array with shape (1099511627776,)"),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), 3, "minicnn: out of memory: [Errno 12] Cannot allocate memory; this "),
    (BrokenPipeError(), 0, ""),
])
def test_what_python_raises_has_its_code_too(error, code, sentence, monkeypatch, capfd):
    monkeypatch.setattr("minicnn.cli.main._drop_output", lambda: None)
    monkeypatch.setattr("minicnn.cli.summary.load_network", raises(error))
    assert main(["summary"]) == code
    told = capfd.readouterr().err
    assert told.startswith(sentence) and told.count("\n") == (code != 0)


def test_a_traceback_comes_when_asked_for(monkeypatch):
    with pytest.raises(MemoryError):
        monkeypatch.setattr("minicnn.cli.summary.load_network", raises(MemoryError()))
        main(["summary", "--debug"])


def test_a_crash_of_the_process_would_show_where(tmp_path):
    code = "import faulthandler\nfrom minicnn.cli.main import main\nmain(['summary'])\nassert faulthandler.is_enabled()"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_json_on_stdout_is_all_there_is_on_it(finished):
    done = run("evaluate", finished, "--json")
    assert done.returncode == 0 and json.loads(done.stdout) == json.loads((finished / "metrics.json").read_text())
