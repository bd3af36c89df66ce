"""`minicnn data audit`: what it prints, word for word (golden/), what it says of absent classes, and progress."""

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from minicnn.cli.main import main
from minicnn.data.synthetic import phantom
from tests.support import golden, planted

GOLDEN = Path(__file__).with_name("golden")


@pytest.fixture(scope="module")
def collections(tmp_path_factory):
    """A folder with a collection of all flaws, flawed/, and one without, clean/."""
    folder = tmp_path_factory.mktemp("collections")
    planted.flawed(folder / "flawed", n=140)
    planted.clean(folder / "clean", n=60)
    return folder


@pytest.fixture
def audit(collections, monkeypatch, capsys):
    """Run the command there; return (exit code, stdout, stderr)."""
    monkeypatch.chdir(collections)

    def run(*arguments):
        code = main(["data", "audit", *map(str, arguments)])
        return code, *capsys.readouterr()
    return run


@pytest.mark.parametrize("name, code, arguments", [
    ("flawed", 1, ["flawed/manifest.csv"]), ("clean", 0, ["clean/manifest.csv"]),
    ("absent", 0, ["clean/manifest.csv", "--classes", "normal,pneumonia,covid"])])
def test_it_prints_this(name, code, arguments, audit):
    seen, out, err = audit(*arguments, "--quiet")
    assert seen == code and not err
    golden.check(GOLDEN / f"audit_{name}.txt", out)


# ---- Classes without images, and other collections of which little can be measured -----------------------------------

def one_label(label, count, sources=("a", "b")):
    return [f"{i}.png,{label},p{i},{sources[i % len(sources)]}" for i in range(count)]


# Rows of path, label, patient and source, the classes, and what is said.
BOTH, FEW = "normal,covid", "not judged: too few patients for 5 folds with both labels in each: 1 of covid, 1 of the rest"
LITTLE = {
    "all of the positive class": (one_label("covid", 24), BOTH, "Not measured: all images are of covid."),
    "none of the positive class": (one_label("normal", 24), BOTH, "Not measured: there is no image of covid."),
    "two of three are absent": (one_label("covid", 24), "normal,covid,other", "Not measured: there is no image of normal, "
                                "all images are of covid and there is no image of other."),
    "one image": (one_label("covid", 1), BOTH, "Not measured: all images are of covid."),
    "two images": (["0.png,normal,p,a", "1.png,covid,q,a"], BOTH, FEW),
    "one patient": ([f"{i}.png,{('normal', 'covid')[i % 2]},p,a" for i in range(24)], BOTH, FEW),
    "a source for each class": ([f"{i}.png,{('normal', 'covid')[i % 2]},p{i},{'ab'[i % 2]}" for i in range(24)], BOTH,
                                "the source alone predicts covid with an AUC of 1.00"),
    "a source for each of three, one absent": ([f"{i}.png,{'xy'[i % 2]},p{i},{'ab'[i % 2]}" for i in range(24)],
                                               "x,y,z", "Not measured: there is no image of z."),
}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    phantom.write(folder / "made", n=24, seed=5, size=64)
    for i, path in enumerate(sorted((folder / "made" / "images").iterdir())):
        shutil.copy(path, folder / f"{i}.png")
    return folder


@pytest.mark.parametrize("name", LITTLE)
def test_what_cannot_be_measured_is_said_with_the_reason(name, images, audit):
    rows, classes, sentence = LITTLE[name]
    (images / "index.csv").write_text("\n".join(["path,label,patient_id,source", *rows]) + "\n")
    code, out, err = audit(images / "index.csv", "--classes", classes, "--quiet")
    assert sentence in " ".join(out.split()) and code in (0, 1) and not err
    assert ("No confounder could be measured" in out) == (not name.startswith("a source"))
    assert ("Logistic regression on each confounder" in out) == name.startswith("a source")


def test_images_without_any_contrast_are_audited(images, audit):
    from PIL import Image
    for i in range(24):
        Image.new("L", (64, 64), 128).save(images / f"blank{i}.png")
    (images / "index.csv").write_text("path,label,patient_id\n" + "".join(
        f"blank{i}.png,{('normal', 'covid')[i % 2]},p{i}\n" for i in range(24)))
    code, out, _ = audit(images / "index.csv", "--quiet")
    assert "pairs of duplicate images: 23" in out and "is blank: all pixels are equal" in out


def test_equal_findings_are_told_once_with_their_number(images, audit):
    (images / "index.csv").write_text("path,label,patient_id,view\n" + "".join(
        f"{i}.png,{('normal', 'covid')[i % 2]},p{i},{('PA', 'L', 'Axial')[i % 3]}\n" for i in range(24)))
    code, out, _ = audit(images / "index.csv", "--quiet")
    told = out.partition("images that are not frontal radiographs: 16\n")[2].splitlines()[:6]
    lateral, slice = "N is a lateral view according to the manifest (L).", "N is a slice of a CT according to the manifest"
    more = "... and 6 more like the two above (--json lists all)"
    assert [re.sub(r"\d+\.png", "N", line.strip()) for line in told] == [
        lateral, lateral, more, f"{slice} (Axial).", f"{slice} (Axial).", more]


def test_words_in_two_spellings_are_one_row_of_a_table(images, audit):
    (images / "index.csv").write_text("path,label,patient_id,view\n" + "".join(
        f"{i}.png,{('normal', 'covid')[i % 2]},p{i},{('AP', 'ap', 'Ap ')[i % 3]}\n" for i in range(24)))
    _, out, _ = audit(images / "index.csv", "--quiet")
    assert "view  normal  covid\nAP        12     12\n\n" in out


# ---- Waiting and ending ----------------------------------------------------------------------------------------------

def test_each_phase_is_announced_where_there_is_no_terminal(audit):
    _, _, err = audit("clean/manifest.csv")
    assert err.splitlines() == ["reading 60 images", "finding copies among 60 images",
                                "measuring confounders on 60 images"]


WAITING = """
import sys, time
from minicnn.core import progress, signals
def update(count, n):
    shown(count, n)
    if n:
        progress._Count.update, end = shown, time.monotonic() + 20
        print("waiting", end="", file=sys.stderr, flush=True)
        while signals._noted is None and time.monotonic() < end:
            time.sleep(0.01)
shown, progress._Count.update = progress._Count.update, update
"""


def start(collections, cache, before=""):
    """Start an audit without tqdm, with stderr on a terminal, after the code `before`; return the process, a list that
    receives what it writes there, and the thread that reads it."""
    ours, theirs = pty.openpty()
    # Where tests run in the background, SIGINT is ignored, and a child would ignore it too.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += f"import sys; sys.modules['tqdm'] = None\n{before}\nfrom minicnn.cli.main import main; sys.exit(main())"
    process = subprocess.Popen([sys.executable, "-c", code, "data", "audit", "flawed/manifest.csv"], cwd=collections,
                               env=os.environ | {"MINICNN_CACHE_DIR": str(cache)}, stdout=subprocess.PIPE,
                               stderr=theirs)
    os.close(theirs)
    seen = []

    def read():
        try:
            while data := os.read(ours, 65536):
                seen.append(data.decode())
        except OSError:         # the terminal ends with its last process
            pass
        os.close(ours)

    reader = threading.Thread(target=read)
    reader.start()
    return process, seen, reader


def test_a_terminal_without_tqdm_shows_a_count_in_each_phase(collections, tmp_path):
    process, seen, reader = start(collections, tmp_path)
    out = process.communicate()[0].decode()
    reader.join()
    written = "".join(seen)
    for phase in ("reading images: 0 of 147 images", "finding copies: ", "measuring confounders: 0 of 20 folds"):
        assert f"\r\x1b[K{phase}" in written
    assert written.endswith("\r\x1b[K") and out.startswith("flawed/manifest.csv: 147 images")


def test_ctrl_c_ends_with_one_line(collections, tmp_path):
    process, seen, reader = start(collections, tmp_path, WAITING)       # a short audit is over before the signal comes
    while "waiting" not in "".join(seen):
        assert process.poll() is None
        reader.join(0.01)
    process.send_signal(signal.SIGINT)
    out = process.communicate()[0]
    reader.join()
    last = "".join(seen).rpartition("\x1b[K")[2].split("\r\n")
    assert last == ["minicnn: the audit was interrupted; the same command begins it again.", ""]
    assert process.returncode == 130 and not out
