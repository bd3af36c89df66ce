"""The compiled code's folder: what is wrong with it costs time and one warning, never an error nor a wrong number.

A small kernel is compiled, or loaded, for two dtypes: by a process of its own, which says what happened, or, where it
does not matter how the folder is found, by a forked child, which need not import numba first.
"""

import ctypes
import importlib
import json
import os
import pwd
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import llvmlite
import numba
import numpy as np
import pytest
from numba.core import serialize
from numba.core.caching import NullCache

import minicnn
from minicnn.cli import doctor
from minicnn.kernels.runtime import jit
from tests.support.fence import survives

SCRIPT = '''
import warnings
import numpy as np

def scaled(x, y):
    for i in range(len(x)):
        y[i] = 3 * x[i] + 0.5

def use():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        from minicnn.kernels.runtime import jit     # chooses the folder, and may warn
        fast, results = jit.kernel(scaled), []
        for dtype in (np.float32, np.float64):
            y = np.empty(4, dtype)
            fast(np.arange(4, dtype=dtype), y)
            results.append(y.tolist())
    return {"results": results, "loaded": sum(fast.stats.cache_hits.values()),
            "folder": jit.FOLDER and str(jit.FOLDER), "warnings": [str(w.message) for w in caught]}
'''
RESULTS = [[0.5, 3.5, 6.5, 9.5]] * 2


def obey_modes():
    """Run in a child before it starts: root then obeys the modes of files as their owner must, too."""
    if os.geteuid() == 0:
        for capability in (1, 2):                           # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
            ctypes.CDLL(None).prctl(24, capability)         # PR_CAPBSET_DROP


def start(script, base, code=Path(minicnn.__file__).parents[1], preexec_fn=obey_modes, **environment):
    """Start a process that does what the script says, with its caches in `base`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    own = {"MINICNN_CACHE_DIR": str(base), "PYTHONPATH": f"{code}{os.pathsep}{script.parent}",
           "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen([sys.executable, "-c", f"import json, {script.stem} as s; print(json.dumps(s.use()))"],
                            env=inherited | own | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, preexec_fn=preexec_fn)


def end(process, results=RESULTS):
    """Return what the process said, after checking that it ended well and that its numbers are right."""
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    told = json.loads(stdout)
    assert told["results"] == results
    return told


def run(*arguments, **settings):
    return end(start(*arguments, **settings))


first_number = numba.njit(lambda x: x[0])


def fork(script, folder, log):
    """Do what the script says in a forked child with this folder of compiled code; return what it said, checked."""
    def work(say):
        sys.path.insert(0, str(script.parent))
        use = importlib.import_module(script.stem).use
        jit.FOLDER = folder() if callable(folder) else folder
        say(json.dumps(use()))
    first_number(np.ones(1))        # what numba imports late is then in memory: some children may not read it
    alive, said = survives(work, log)
    assert alive, said
    told = json.loads(said)
    assert told["results"] == RESULTS
    return told


def kept(base):
    """Return the files of compiled code under `base`; there are no others."""
    files = [path for path in Path(base).rglob("*") if path.is_file()]
    assert all(path.suffix == ".nbc" for path in files), files
    return sorted(files)


def is_whole(path):
    content = path.read_bytes()
    return content[:32] == jit._seal(path, content[32:])


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("script") / "script.py"
    path.write_text(SCRIPT)
    return path


@pytest.fixture(scope="module")
def filled(script, tmp_path_factory):
    """A folder for caches in which the script's code has been kept."""
    base = tmp_path_factory.mktemp("cache") / "filled"
    told = run(script, base, preexec_fn=lambda: (os.umask(0), obey_modes()))
    assert told["loaded"] == 0 and not told["warnings"]
    return base


@pytest.fixture
def base(filled, tmp_path):
    """A copy of it, to be spoilt."""
    return shutil.copytree(filled, tmp_path / "base")


# ---- What is good is used --------------------------------------------------------------------------------------------

def test_what_one_process_compiled_the_next_one_loads(script, base):
    files = kept(base)
    before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in files]
    told = run(script, base)
    assert told["loaded"] == 2 and not told["warnings"]
    assert len(files) == 2 and all(map(is_whole, files)) and {str(path.parent) for path in files} == {told["folder"]}
    assert [(path.read_bytes(), path.stat().st_mtime_ns) for path in files] == before
    size = sum(len(content) for content, _ in before)
    assert jit.contents(files[0].parent) == {"folder": told["folder"], "kernels": 2, "bytes": size}


def test_the_cache_is_its_owners_alone_whatever_the_umask(filled):
    for path in [filled, *filled.rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_code_of_a_file_that_changed_is_not_used(script, base, tmp_path):
    changed = tmp_path / "script.py"
    changed.write_text(SCRIPT.replace("3 * x[i]", "4 * x[i]"))
    told = end(start(changed, base), [[0.5, 4.5, 8.5, 12.5]] * 2)
    assert told["loaded"] == 0 and not told["warnings"] and len(kept(base)) == 4


def test_another_cpu_has_a_folder_of_its_own(script, base):
    told = run(script, base, NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="")      # what numba then knows of this one
    assert told["loaded"] == 0 and not told["warnings"]
    assert len(kept(base)) == 4 and len(kept(told["folder"])) == 2


@pytest.mark.parametrize("owner, name, value", [
    (numba, "__version__", "0.1"), (llvmlite, "__version__", "0.1"), (sys, "version", "4.0"),
    (numba.config, "BOUNDSCHECK", 1), (numba.config, "OPT", 0)])
def test_all_that_decides_the_code_is_in_the_folders_name(owner, name, value, monkeypatch, tmp_path):
    monkeypatch.setenv("MINICNN_CACHE_DIR", str(tmp_path))
    before = jit.cache_folder()
    monkeypatch.setattr(owner, name, value)
    assert jit.cache_folder() != before


def test_a_read_only_install_is_enough(script, tmp_path):
    site = tmp_path / "site"
    shutil.copytree(Path(minicnn.__file__).parent, site / "minicnn", ignore=shutil.ignore_patterns("__pycache__"))
    files = sorted(site.rglob("*"))
    for path in [site, *files]:
        path.chmod(path.stat().st_mode & 0o555)
    try:
        loaded = [run(script, tmp_path / "base", site, PYTHONDONTWRITEBYTECODE="") for _ in range(2)]
        assert [told["loaded"] for told in loaded] == [0, 2] and not any(told["warnings"] for told in loaded)
        assert sorted(site.rglob("*")) == files
    finally:
        for path in [site, *files]:
            path.chmod(path.stat().st_mode | 0o700)


# ---- What is damaged is compiled again -------------------------------------------------------------------------------

def flipped(content, where):
    return content[:where] + bytes([content[where] ^ 1]) + content[where + 1:]


# With numba's own cache each of these crashes the process or goes unnoticed, in its index (.nbi) and its code (.nbc).
# Ours has no index: a file is a digest, and pickled names, and machine code.
DAMAGES = {"empty": lambda content: b"", "shorter than a digest": lambda content: content[:20],
           "nothing but a digest": lambda content: content[:32], "half": lambda content: content[:len(content) // 2],
           "flipped in the digest": lambda content: flipped(content, 5),
           "flipped in the names": lambda content: flipped(content, 40),
           "flipped in the machine code": lambda content: flipped(content, content.index(b".text") + 64),
           "longer": lambda content: content + b"\0"}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_code_is_compiled_again_with_one_warning(damage, script, base, tmp_path):
    files = kept(base)
    for path in files:                  # both, and yet one warning
        path.write_bytes(DAMAGES[damage](path.read_bytes()))
        assert not is_whole(path)
    told = fork(script, files[0].parent, tmp_path / "log")
    assert told["loaded"] == 0
    [warning] = told["warnings"]
    assert warning.startswith("minicnn: kernel cache: ") and "cannot be used (it is not what was written)" in warning
    assert "compiling it again" in warning and any(str(path) in warning for path in files)
    assert kept(base) == files and all(map(is_whole, files))


def test_a_process_meets_damaged_code_too(script, base):
    for path in kept(base):
        os.truncate(path, 1000)
    told = run(script, base)
    assert told["loaded"] == 0 and len(told["warnings"]) == 1 and all(map(is_whole, kept(base)))


def test_code_under_the_name_of_other_code_is_not_used(script, base, tmp_path):
    one, other = kept(base)
    shutil.copyfile(one, other)
    told = fork(script, one.parent, tmp_path / "log")
    assert told["loaded"] == 1 and len(told["warnings"]) == 1 and is_whole(other)


def test_whole_files_that_numba_cannot_use_are_compiled_again(script, base, tmp_path):
    files = kept(base)
    for path, payload in zip(files, [b"no pickle", serialize.dumps(("of", "another", "numba"))], strict=True):
        path.write_bytes(jit._seal(path, payload) + payload)
    told = fork(script, files[0].parent, tmp_path / "log")
    assert told["loaded"] == 0 and len(told["warnings"]) == 1 and "compiling it again" in told["warnings"][0]
    told = fork(script, files[0].parent, tmp_path / "log")
    assert told["loaded"] == 2 and not told["warnings"]


def test_a_folder_in_the_place_of_a_file_is_survived(script, base, tmp_path):
    path = kept(base)[0]
    path.unlink()
    path.mkdir()
    told = fork(script, path.parent, tmp_path / "log")
    assert told["loaded"] == 1 and len(told["warnings"]) == 1


def test_a_folder_that_goes_while_it_is_in_use_is_survived(script, base, tmp_path):
    told = fork(script, base / "gone", tmp_path / "log")
    assert told["loaded"] == 0 and len(told["warnings"]) == 1 and "Create the folder first" in told["warnings"][0]


# ---- Where nothing can be kept ---------------------------------------------------------------------------------------

def full():
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


def test_a_full_disk_is_said_once_and_leaves_nothing(script, tmp_path):
    told = run(script, tmp_path / "base", preexec_fn=full)
    assert kept(tmp_path / "base") == []
    [warning] = told["warnings"]
    assert "not written" in warning and "compiled at each start until MINICNN_CACHE_DIR" in warning


def linked(base):
    folder = next(base.iterdir())
    folder.rename(base / "elsewhere")
    folder.symlink_to(base / "elsewhere")


def folder_mode(mode):
    return lambda base: next(base.iterdir()).chmod(mode)


SPOILT = {
    "open to all": (folder_mode(0o777), "is not a folder of this user alone"),
    "open to the group": (folder_mode(0o770), "is not a folder of this user alone"),
    "in a folder open to all": (lambda base: base.chmod(0o777), "lies in a folder that everybody can write to"),
    "a link": (linked, "is not a folder of this user alone"),
}


@pytest.mark.parametrize("how", SPOILT)
def test_code_is_neither_loaded_from_nor_written_to_such_a_folder(how, script, base, tmp_path, monkeypatch):
    files = kept(base)
    before = [path.stat().st_mtime_ns for path in files]
    spoil, sentence = SPOILT[how]
    spoil(base)
    monkeypatch.setenv("MINICNN_CACHE_DIR", str(base))
    with pytest.warns(RuntimeWarning, match=f"minicnn: kernel cache .* {sentence}; compiling without it. .* MINICNN_C"):
        assert jit.cache_folder() is None
    told = fork(script, None, tmp_path / "log")
    assert told["loaded"] == 0 and not told["warnings"]
    assert sorted(path for path in base.rglob("*.nbc")) == files or how == "a link"
    assert how == "a link" or [path.stat().st_mtime_ns for path in files] == before


@pytest.mark.parametrize("mode, sentence", [(0o777, "is not a folder of this user alone"),
                                            (0o500, "cannot be used (Permission denied)")])
def test_a_process_says_once_that_it_compiles_without_a_folder(mode, sentence, script, base):
    files = kept(base)
    next(base.iterdir()).chmod(mode)
    told = run(script, base)
    assert told["loaded"] == 0 and told["folder"] is None and kept(base) == files
    [warning] = told["warnings"]
    assert f"{sentence}; compiling without it" in warning


def test_a_folder_open_to_all_whose_files_only_their_owner_moves_is_trusted(script, base):
    base.chmod(0o1777)                  # as /tmp is
    assert run(script, base)["loaded"] == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("environment", [{"MINICNN_CACHE_DIR": "{base}"}, {"HOME": "/nonexistent"}, {}],
                         ids=["somebody else's folder", "a home that is not there", "no HOME"])
def test_nobody_compiles_too(environment, script, base, tmp_path):
    def folder():
        for name in ("MINICNN_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
            os.environ.pop(name, None)
        os.environ.update({name: value.format(base=base) for name, value in environment.items()})
        os.setgroups([])
        os.setuid(65534)
        with pytest.warns(RuntimeWarning, match="kernel cache .* cannot be used .Permission denied.; compiling"):
            return jit.cache_folder()
    told = fork(script, folder, tmp_path / "log")
    assert told["folder"] is None and told["loaded"] == 0 and not told["warnings"]


def test_a_user_without_a_home_gets_no_folder_in_the_current_one(monkeypatch, tmp_path):
    def unknown(uid):
        raise KeyError(uid)
    for name in ("MINICNN_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.chdir(tmp_path)
    with pytest.warns(RuntimeWarning, match="kernel cache .* cannot be used .this user has no home folder.; compiling"):
        assert jit.cache_folder() is None
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")        # not absolute: to be ignored, says its specification
    with pytest.warns(RuntimeWarning, match="this user has no home folder"):
        assert jit.cache_folder() is None
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert jit.cache_folder().parent == tmp_path / "xdg" / "minicnn"


def test_doctor_says_whether_the_folder_is_trusted(filled, monkeypatch):
    def told():
        monkeypatch.setattr(doctor, "_gflops", dict)
        facts = doctor.examine()
        return facts["kernel_cache"], next(line for line in doctor.report(facts).splitlines() if "kernel cache" in line)
    monkeypatch.setenv("MINICNN_CACHE_DIR", str(filled))
    cache, line = told()
    assert cache["trusted"] and cache["kernels"] == 2 and cache["bytes"] > 2000 and cache["problem"] is None
    assert f"{cache['folder']}: trusted, 2 kernels, 0.0 MiB" in line
    monkeypatch.setenv("MINICNN_CACHE_DIR", __file__)
    cache, line = told()
    assert not cache["trusted"] and cache["folder"] is None and "cannot be used" in cache["problem"]
    assert line.startswith("kernel cache   not trusted: minicnn: kernel cache ") and __file__ in line


# ---- Several processes -----------------------------------------------------------------------------------------------

def test_four_processes_that_start_together_need_no_folder(script, tmp_path):
    processes = [start(script, tmp_path / "base") for _ in range(4)]
    told = [end(process) for process in processes]
    assert not any(each["warnings"] for each in told)
    assert len(kept(tmp_path / "base")) == 2 and all(map(is_whole, kept(tmp_path / "base")))


TOGETHER = SCRIPT + '''
import os, sys
from pathlib import Path

def race(folder, dtypes, gate, loaded):
    """Fork a child that waits at the gate, then compiles or loads; return its process number."""
    pid = os.fork()
    if pid:
        return pid
    try:
        warnings.simplefilter("error")
        from minicnn.kernels.runtime import jit
        jit.FOLDER = folder
        fast = jit.kernel(scaled)
        os.read(gate, 1)
        for dtype in dtypes:
            y = np.empty(4, dtype)
            fast(np.arange(4, dtype=dtype), y)
            assert y.tolist() == [0.5, 3.5, 6.5, 9.5]
        assert loaded in (None, sum(fast.stats.cache_hits.values()))
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)

alone = use

def use():
    told = alone()              # numba is ready before the race begins
    for number in range(10):
        folder = Path(told["folder"]) / str(number)
        folder.mkdir()
        gate, key = os.pipe()
        both = [np.float32, np.float64]
        children = [race(folder, dtypes, gate, None) for dtypes in (both, both[::-1], both[:1], both[1:])]
        os.write(key, b"go!!")
        assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4
        os.write(key, b"!")
        assert os.waitpid(race(folder, both, gate, 2), 0)[1] == 0
    return told
'''


def test_four_processes_at_once_ten_times(tmp_path):
    together = tmp_path / "together.py"
    together.write_text(TOGETHER)
    told = run(together, tmp_path / "base")
    for number in range(10):
        files = kept(Path(told["folder"]) / str(number))
        assert len(files) == 2 and all(map(is_whole, files))


# ---- Tidiness --------------------------------------------------------------------------------------------------------

def test_folders_of_other_versions_go_when_nobody_used_them_for_a_month(tmp_path):
    used, month = time.time(), 31 * 86400
    ages = {"kernels-" + 16 * "a": month, "kernels-" + 16 * "b": 29 * 86400, "kernels-" + 16 * "c": month,
            "kernels-mine": month, "pixels": month}
    for name, age in ages.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
        os.utime(tmp_path / name, (used - age, used - age))
    (tmp_path / ("kernels-" + 16 * "d")).symlink_to(tmp_path / "pixels")
    os.utime(tmp_path / ("kernels-" + 16 * "d"), (used - month, used - month), follow_symlinks=False)
    jit._remove_unused(tmp_path / ("kernels-" + 16 * "c"))      # the one in use, which it says by its date
    left = {path.name for path in tmp_path.iterdir()}
    assert left == set(ages) - {"kernels-" + 16 * "a"} | {"kernels-" + 16 * "d"}
    assert (tmp_path / "pixels" / "file").exists()
    assert (tmp_path / ("kernels-" + 16 * "c")).stat().st_mtime > used - 60
    jit._remove_unused(tmp_path / "gone")                       # nothing to tidy is no error


def test_importing_tidies(script, base):
    old = base / ("kernels-" + 16 * "0")
    old.mkdir()
    os.utime(old, (0, 0))
    assert run(script, base)["loaded"] == 2 and not old.exists()


def test_code_in_no_file_is_not_kept():
    names = {}
    exec(compile("def f(x):\n    return x\n", "<string>", "exec"), names)
    assert type(jit.kernel(names["f"])._cache) is NullCache


labs = ctypes.CDLL(None).labs
labs.argtypes, labs.restype = [ctypes.c_long], ctypes.c_long


def magnitude(x):
    return labs(x)


def test_code_that_holds_an_address_of_this_process_is_not_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(jit, "FOLDER", tmp_path)
    assert jit.kernel(magnitude)(-3) == 3 and list(tmp_path.iterdir()) == []


def test_a_kernel_closes_over_nothing():
    factor = 2.0

    def f(x):
        return factor * x
    with pytest.raises(AssertionError, match="f: no file name would tell what it closes over"):
        jit.kernel(f)
