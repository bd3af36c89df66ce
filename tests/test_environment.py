"""Environments: little memory, unusual locales, no home folder, threads of other libraries; and exit codes (E4 to
E6, C9, C10).

The caches of compiled code are kernels/runtime/test_jit.py's, the threads that compute kernels/runtime/test_work_queue.py's.
"""

import errno
import importlib.abc
import json
import os
import pwd
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from benchmarks.reliability.run_faults import ended, measure
from minicnn import Adam, set_thread_count, cov19net
from minicnn.cli.main import main
from minicnn.core.files import private_folder
from minicnn.errors import CheckpointError
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
    "variables that are set but empty": ((), {"NUMBA_DISABLE_JIT": "", "NUMBA_OPT": "", "MPLBACKEND": "",
                                              "COLUMNS": ""}),
    "numba's compiler off, for code of one's own": (("-W", "error"), {"NUMBA_DISABLE_JIT": "1"}),
    "in a notebook's shell": (("-W", "error"), {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}),
}


@pytest.mark.parametrize("flags, environment", ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_run_is_the_same_bytes_elsewhere(flags, environment, collection, finished, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_bytes((finished / "config.json").read_bytes())
    done = run("train", "--resume", tmp_path / "run", "--quiet", flags=flags, **environment)
    assert done.returncode == 0, done.stderr
    assert "minicnn:" not in done.stderr and "Traceback" not in done.stderr
    for name in ("last.safetensors", "best.safetensors", "history.csv", "metrics.json", "predictions.csv", "roc.png"):
        assert (tmp_path / "run" / name).read_bytes() == (finished / name).read_bytes(), name
    image = next((collection.parent / "images").iterdir())
    done = run("predict", finished, image, flags=flags, **environment)
    assert done.returncode == 0 and os.path.basename(image) in done.stdout, done.stderr
    assert "p_normal" in done.stdout and ("p_malade à 37 oC" in done.stdout or "p_malade \\xe0 37 oC" in done.stdout)


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


DISABLED = """
from minicnn import Conv2D, Dense, Flatten, Sequential, Sigmoid
from minicnn.kernels.runtime.jit import kernel
import numba, numpy as np
own = numba.njit(lambda x: x + 1)
print(hasattr(own, "py_func"), hasattr(kernel(lambda x: x), "py_func"), numba.config.DISABLE_JIT)
model = Sequential([Conv2D(2, 3), Flatten(), Dense(1), Sigmoid()], (6, 6, 1), seed=1)
print(model.engine, model.predict(np.linspace(0, 1, 72, dtype="f").reshape(2, 6, 6, 1)).tobytes().hex())
"""


@pytest.mark.parametrize("variables", [{"NUMBA_DISABLE_JIT": "1"}, {"NUMBA_DISABLE_JIT": "", "NUMBA_NUM_THREADS": ""},
                                       {"NUMBA_DISABLE_JIT": "0", "NUMBA_WARNINGS": "1"}])
def test_numbas_switch_is_for_the_users_own_code(variables, tmp_path):
    if variables["NUMBA_DISABLE_JIT"] == "1":           # compiled, not loaded
        variables = variables | {"MINICNN_CACHE_DIR": str(tmp_path)}
    plain, told = (subprocess.run([sys.executable, "-W", "error", "-c", DISABLED], env=os.environ | extra, check=True,
                                  capture_output=True, text=True) for extra in ({}, variables))
    disabled = variables["NUMBA_DISABLE_JIT"] == "1"
    assert told.stdout.splitlines()[0] == f"{not disabled} True {int(disabled)}" and told.stderr == ""
    assert told.stdout.splitlines()[1] == plain.stdout.splitlines()[1]


@pytest.mark.parametrize("variables, size", [
    ({"NUMBA_CPU_NAME": "generic"}, 16), ({"NUMBA_ENABLE_AVX": "0"}, 16), ({"NUMBA_CPU_FEATURES": "+sse2,+avx"}, 32),
    ({"NUMBA_CPU_FEATURES": "+avx512f"}, 16), ({"NUMBA_CPU_NAME": "generic", "MINICNN_VECTOR_BYTES": "32"}, 32)])
def test_vectors_are_as_wide_as_the_code_numba_makes(variables, size, tmp_path):
    """LLVM ends the process where code asks for registers that the target does not have."""
    code = "from minicnn.kernels.runtime import simd; print(simd.REGISTER_BYTES)"
    environment = {name: value for name, value in os.environ.items() if name != "MINICNN_VECTOR_BYTES"} | variables
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env=environment | {"MINICNN_CACHE_DIR": str(tmp_path)})
    assert told.stdout == f"{size}\n"


def test_what_numba_refuses_is_said_in_a_line(tmp_path):
    done = run("doctor", NUMBA_NUM_THREADS="0", MINICNN_CACHE_DIR=str(tmp_path))
    assert done.returncode == 3 and done.stderr.startswith("minicnn: numba cannot be imported (Number of threads spec")
    assert done.stderr.count("\n") == 1 and "Check NUMBA_..." in done.stderr


def test_doctor_shows_the_variables_and_what_they_do(monkeypatch):
    from minicnn.cli import doctor
    monkeypatch.setattr(doctor, "_gflops", dict)
    for name, value in {"NUMBA_DISABLE_JIT": "1", "MPLBACKEND": "module://x\x1b[2J", "MINICNN_THREADS": ""}.items():
        monkeypatch.setenv(name, value)
    facts = doctor.examine()
    assert facts["variables"]["MPLBACKEND"].startswith("module://x") and "MINICNN_THREADS" not in facts["variables"]
    lines = doctor.report(facts).splitlines()
    assert "environment    MPLBACKEND=module://x\\x1b[2J" in lines
    [line] = [line for line in lines if "NUMBA_DISABLE_JIT=1" in line]
    assert "kernels are compiled all the same" in line and "MINICNN_ENGINE=reference" in line


@pytest.mark.parametrize("home", ["", "/proc/nowhere", "{read_only}"])
def test_doctor_needs_no_home(home, tmp_path):
    """An empty HOME is one that is not set: the home is then that of the user database."""
    tmp_path.chmod(0o500)
    done = run("doctor", "--json", HOME=home.format(read_only=tmp_path), XDG_CACHE_HOME="", preexec_fn=obey_modes)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert json.loads(done.stdout)["kernel_cache"]["trusted"]           # MINICNN_CACHE_DIR is elsewhere


def test_an_empty_home_is_not_the_root_folder(tmp_path, monkeypatch):
    for name, value in {"HOME": "", "XDG_CACHE_HOME": "", "MINICNN_CACHE_DIR": ""}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(pwd, "getpwuid", lambda user: SimpleNamespace(pw_dir=str(tmp_path)))
    assert private_folder("pixels", "pixel cache", "x") == tmp_path / ".cache" / "minicnn" / "pixels"
    monkeypatch.setenv("MINICNN_CACHE_DIR", "~/mine")
    assert private_folder("pixels", "pixel cache", "x") == tmp_path / "mine" / "pixels"
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    with pytest.warns(RuntimeWarning, match="pixel cache .* cannot be used .this user has no home folder"):
        assert private_folder("pixels", "pixel cache", "x") is None


@pytest.mark.soak
def test_a_run_needs_no_folder_for_what_it_compiles(collection, finished, tmp_path):
    done = run("train", "--data", collection, "--out", tmp_path / "run", *CLASSES, *QUICK, HOME="/proc/nowhere",
               XDG_CACHE_HOME="", MINICNN_CACHE_DIR="")
    assert done.returncode == 0, done.stderr
    assert "kernel cache" in done.stderr and "Set MINICNN_CACHE_DIR to a folder of yours" in done.stderr
    assert (tmp_path / "run" / "last.safetensors").read_bytes() == (finished / "last.safetensors").read_bytes()


# ---- Plots -----------------------------------------------------------------------------------------------------------

def resumed(finished, tmp_path, *arguments):
    """Measure and draw a finished run again; return its exit code."""
    folder = tmp_path / "run"
    shutil.copytree(finished, folder, ignore=shutil.ignore_patterns("*.png", "metrics.json"))
    return main(["train", "--resume", str(folder), "--quiet", *arguments])


WAYS = {"a function of matplotlib": (RuntimeError("no LaTeX"), "RuntimeError: no LaTeX"),
        "a font": (FileNotFoundError(2, "No such file", "DejaVuSans.ttf"), "DejaVuSans.ttf"),
        "a warning": (UserWarning("tight layout not applied"), "UserWarning: tight layout not applied"),
        "memory": (MemoryError(), "MemoryError"),
        "the disk": (CheckpointError("roc.png: not written, 7 bytes."), "(roc.png: not written, 7 bytes.)")}


@pytest.mark.parametrize("error, sentence", WAYS.values(), ids=WAYS)
def test_a_plot_that_fails_costs_that_plot_alone(error, sentence, finished, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("minicnn.plotting.run.roc", raises(error))
    assert resumed(finished, tmp_path) == 0
    out = capsys.readouterr().out
    assert "\nNot drawn: roc.png (" in out and sentence in out and "accuracy" in out and "curves.png" in out
    names = set(os.listdir(tmp_path / "run"))
    assert "roc.png" not in names and {"curves.png", "reliability.png", "confusion.png", "samples.png"} <= names
    assert (tmp_path / "run" / "metrics.json").read_bytes() == (finished / "metrics.json").read_bytes()


@pytest.mark.parametrize("module, sentence", [
    (None, 'drawing pictures needs matplotlib, which is not installed. Install it with: pip install "minicnn[app]")'),
    (ImportError("numpy.core.multiarray failed to import"), "which cannot be imported (ImportError: numpy.core.mul"),
    (AttributeError("_ARRAY_API not found"), "which cannot be imported (AttributeError: _ARRAY_API not found). Inst"),
    (OSError(30, "Read-only file system"), "which cannot be imported (OSError: [Errno 30] Read-only file system). I")])
def test_without_matplotlib_there_is_all_but_the_plots(module, sentence, collection, finished, tmp_path, monkeypatch,
                                                       capsys):
    class Broken(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path, target=None):
            if name == "matplotlib.figure":
                raise module

    if module is None:
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    else:
        monkeypatch.delitem(sys.modules, "matplotlib.figure", raising=False)
        monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    assert resumed(finished, tmp_path, "--json") == 0
    out, error = capsys.readouterr()
    assert json.loads(out) == json.loads((finished / "metrics.json").read_text())
    assert error.startswith("minicnn: Not drawn: curves.png, confusion.png, roc.png, reliability.png and samples.png (")
    assert sentence in error and not list((tmp_path / "run").glob("*.png"))
    page = tmp_path / "page.html"
    assert main(["evaluate", str(finished), "--data", str(collection), "--allow-training-images", "--shortcuts",
                 "--report", str(page), "--quiet"]) in (0, 1)
    out = capsys.readouterr().out
    assert "accuracy" in out and "Not drawn" not in out     # the page draws without matplotlib
    assert page.read_text().count('<svg class="plot"') >= 2 and "Not drawn" not in page.read_text()
    image = str(next((collection.parent / "images").iterdir()))
    assert main(["explain", str(finished), image, "--out", str(tmp_path / "maps"), "--json"]) == 0
    out, error = capsys.readouterr()
    [told] = json.loads(out)["files"]
    assert told["picture"] is None and told["class"] and "minicnn: Not drawn: " in error and sentence in error
    assert main(["explain", str(finished), image, "--out", str(tmp_path / "maps")]) == 0
    assert "not drawn\n" in capsys.readouterr().out


BACKEND = """
import os, sys
from minicnn.plotting import run
run.curves([{"epoch": 1, "loss": 0.5}], sys.argv[1])
import matplotlib
backend = dict.__getitem__(matplotlib.rcParams, "backend")
print(os.environ.get("MPLBACKEND"), backend if isinstance(backend, str) else "the first that works")
"""


@pytest.mark.parametrize("backend, known", [
    ("module://matplotlib_inline.backend_inline", None), ("no such backend", None), ("module://nowhere.backend", True),
    ("svg", True), ("qtagg", True)])
def test_any_plotting_backend_will_do(backend, known, tmp_path):
    """What others draw afterwards is drawn by the backend that was asked for, where there is one."""
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    plain, told = (subprocess.run([sys.executable, "-W", "error", "-c", BACKEND, str(tmp_path / name)], check=True,
                                  capture_output=True, text=True, env=environment | extra)
                   for name, extra in (("a.png", {}), ("b.png", {"MPLBACKEND": backend})))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    default = plain.stdout.removeprefix("None ")
    assert told.stdout == f"{backend} " + (f"{backend}\n" if known else default)


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
