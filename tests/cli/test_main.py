"""The command line: what it prints, the files it writes, and its exit codes."""

import csv
import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from benchmarks.reliability.run_faults import ended
from minicnn import ReLU, Sequential, cov19net
from minicnn.cli.main import COMMANDS, main
from minicnn.core.random import Stream, uniforms
from minicnn.errors import RunLockedError
from minicnn.experiment import run_folder


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


QUICK = ["--epochs", "2", "--steps-per-epoch", "3", "--batch-size", "8", "--quiet"]


def test_train_leaves_a_whole_run_folder(finished):
    assert sorted(os.listdir(finished)) == sorted([
        "config.json", "environment.json", "split.csv", "history.csv", "last.safetensors", "previous.safetensors",
        "best.safetensors", "familiarity.safetensors", "looks.json", "decision.json", "predictions.csv", "metrics.json",
        "curves.png", "roc.png", "reliability.png", "confusion.png", "samples.png"])
    metrics = json.loads((finished / "metrics.json").read_text())
    assert list(metrics) == ["training", "validation", "test"]
    for summary in metrics.values():
        assert set(summary) >= {"n", "accuracy", "specificity", "precision", "recall", "f1", "auc", "loss", "undefined",
                                "brier", "slope", "intercept", "average_precision", "intervals", "patients",
                                "at_threshold", "reliability"}
    split = rows_of(finished / "split.csv")
    assert len(split) == 24 and {row["split"] for row in split} == {"training", "validation", "test"}
    sets = {}
    for row in split:
        assert sets.setdefault(row["patient_id"], row["split"]) == row["split"]
    predictions = rows_of(finished / "predictions.csv")
    assert [row["path"] for row in predictions] == [row["path"] for row in split]
    assert len(rows_of(finished / "history.csv")) == 2
    model = Sequential.load(finished / "last.safetensors")
    assert model.classes == ("normal", "covid") and model.training_digests.shape[1] == 32
    assert len(model.split_digest) == 64
    assert os.stat(finished).st_mode & 0o077 == 0


def test_the_same_seed_is_the_same_bytes_whatever_threads_and_workers(collection, finished, tmp_path):
    for i, extra in enumerate([["--threads", "1", "--workers", "0"], ["--threads", "4", "--workers", "4"]]):
        folder = tmp_path / str(i)
        assert main(["train", "--data", str(collection), "--out", str(folder), *QUICK, *extra]) == 0
        for name in ("last.safetensors", "best.safetensors", "history.csv", "split.csv", "metrics.json"):
            assert (folder / name).read_bytes() == (finished / name).read_bytes()
    main(["train", "--data", str(collection), "--out", str(tmp_path / "other"), "--seed", "1", *QUICK])
    assert (tmp_path / "other" / "last.safetensors").read_bytes() != (finished / "last.safetensors").read_bytes()


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_goes_on_to_the_same_bytes(number, code, collection, finished, tmp_path, monkeypatch,
                                                      capsys):
    from minicnn.training import Trainer
    step, steps = Trainer.step, []

    def interrupt(self, *batch):
        steps.append(step(self, *batch))
        if len(steps) == 5:                                  # epoch 2, batch 2 of 3
            os.kill(os.getpid(), number)
        return steps[-1]

    monkeypatch.setattr(Trainer, "step", interrupt)
    folder = tmp_path / "cut it"
    command = ["train", "--data", str(collection), "--out", str(folder), "--classes", "normal,covid", *QUICK]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)       # it may be ignored here
    assert main(command) == code
    signal.signal(signal.SIGINT, before)
    error = capsys.readouterr().err
    assert "minicnn: interrupted in epoch 2, batch 2 of 3: saved. Go on with:\n" in error
    assert error.endswith(f"\n  minicnn train --resume '{folder}'\n")
    assert not (folder / "run.lock").exists()
    assert main(command) == 3
    error = capsys.readouterr().err
    assert "already holds this very run, interrupted in epoch 2 of 2, batch 2 of 3. Go on with it: minicnn train " \
        in error and error.count("\n") == 1
    assert main(["evaluate", str(folder)]) == 3
    assert "this run is not finished. Go on with it: minicnn train --resume '" in capsys.readouterr().err
    assert main(["train", "--resume", str(folder), "--quiet"]) == 0
    assert sorted(os.listdir(folder)) == sorted(os.listdir(finished))
    for name in set(os.listdir(finished)) - {"environment.json"}:
        assert (folder / name).read_bytes() == (finished / name).read_bytes(), name
    assert main(command) == 3
    assert "already holds this very run, finished. See it: minicnn evaluate '" in capsys.readouterr().err
    assert main(["train", "--resume", str(folder), "--quiet"]) == 0                 # there is nothing left to do
    assert (folder / "last.safetensors").read_bytes() == (finished / "last.safetensors").read_bytes()


def test_the_same_command_offers_to_go_on_with_the_newest_run(collection, tmp_path, monkeypatch, capsys):
    from minicnn.training import Trainer
    monkeypatch.chdir(tmp_path)
    command = ["train", "--data", str(collection), "--classes", "normal,covid", *QUICK[:-1]]

    def fail(self, *batch):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", fail)
        assert main(command) == 130
        assert "minicnn: interrupted. Go on with:\n  minicnn train --resume runs/001\n" in capsys.readouterr().err
        assert main(command) == 130
        error = capsys.readouterr().err
        assert ("minicnn: runs/001: already holds this very run, interrupted before its first checkpoint. Go on with "
                "it: minicnn train --resume runs/001\nminicnn: beginning anew in runs/002.\n") in error
        assert main([*command, "--seed", "1"]) == 130 and "already holds" not in capsys.readouterr().err
        with run_folder.RunFolder("runs/003"):
            assert main([*command, "--seed", "1"]) == 130 and "already holds" not in capsys.readouterr().err
        (tmp_path / "runs" / "004" / "config.json").write_text("[]")
        assert main([*command, "--seed", "1"]) == 130 and "already holds" not in capsys.readouterr().err


def test_the_papers_protocol_says_that_it_leaks(collection, tmp_path, capsys):
    folder = tmp_path / "paper"
    assert main(["train", "--data", str(collection), "--protocol", "paper", "--out", str(folder), *QUICK]) == 0
    text = capsys.readouterr().out
    assert "It leaks" in text and "Run folder" in text and "curves.png" in text
    split = rows_of(folder / "split.csv")
    assert len(split) == 7 * 24 and {row["split"] for row in split} == {"training", "validation"}
    assert list(json.loads((folder / "metrics.json").read_text())) == ["training", "validation"]


def test_evaluate_predict_and_report(collection, finished, tmp_path, capsys):
    assert main(["evaluate", str(finished), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((finished / "metrics.json").read_text())
    page = tmp_path / "page.html"
    on_all = ["evaluate", str(finished), "--data", str(collection), "--report", str(page), "--quiet"]
    assert main(on_all) == 3
    assert "16 of these 24 images are among those that the network was trained on" in capsys.readouterr().err
    assert main([*on_all, "--allow-training-images"]) == 0
    assert "are among those that the network was trained on: on them the metrics mean nothing." in capsys.readouterr().out
    assert "<script" not in page.read_text() and "medical device" in page.read_text()
    files = [str(collection.parent / "images" / name) for name in sorted(os.listdir(collection.parent / "images"))[:3]]
    assert main(["predict", str(finished), *files, "--csv", str(tmp_path / "out.csv")]) == 0
    assert len(capsys.readouterr().out.split("\n\n")[0].splitlines()) == 1 + 3
    rows = rows_of(tmp_path / "out.csv")
    assert [row["path"] for row in rows] == files
    known = {row["path"]: row["probability"] for row in rows_of(finished / "predictions.csv")}
    assert all(known["images/" + os.path.basename(row["path"])] == row["probability"] for row in rows)


def test_files_named_by_the_user_obey_the_umask_and_run_folders_are_private(collection, finished, tmp_path):
    before = os.umask(0o027)
    try:
        image = str(next((collection.parent / "images").iterdir()))
        assert main(["predict", str(finished), image, "--csv", str(tmp_path / "out.csv")]) == 0
        assert main(["evaluate", str(finished), "--report", str(tmp_path / "page.html")]) == 0
        assert main(["trace", str(finished), image, "--html", str(tmp_path / "trace.html")]) == 0
        assert main(["data", "split", str(collection), "--out", str(tmp_path / "split.csv"), "--quiet"]) == 0
        Sequential.load(finished / "best.safetensors").save(tmp_path / "model.safetensors")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(["out.csv", "page.html", "trace.html", "split.csv", "model.safetensors"], 0o640)
    assert finished.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in finished.iterdir()} == \
        {path.name: 0o600 for path in finished.iterdir()}


def test_predict_takes_any_network_that_classifies(collection, tmp_path, capsys):
    image = str(next((collection.parent / "images").iterdir()))
    cov19net(seed=1).save(tmp_path / "nameless.safetensors")
    assert main(["predict", str(tmp_path / "nameless.safetensors"), image]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[1] in ("0", "1")
    Sequential([ReLU()], (64, 64, 3)).save(tmp_path / "map.safetensors")
    assert main(["predict", str(tmp_path / "map.safetensors"), image]) == 3
    assert "this network does not classify: its outputs have the shape (64, 64, 3)" in capsys.readouterr().err


def test_each_access_to_the_test_set_is_counted(finished, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    before = json.loads((folder / "looks.json").read_text())["test"]
    assert main(["evaluate", str(folder)]) == 0 and main(["evaluate", str(folder)]) == 0
    assert f"has been evaluated {before + 2} times. If anything was changed" in capsys.readouterr().out


def test_a_model_file_with_a_malformed_split_is_refused(finished, tmp_path, capsys):
    model = Sequential.load(finished / "last.safetensors")
    model.split_digest = "1b" * 20
    model.save(tmp_path / "malformed.safetensors")
    assert main(["summary", str(tmp_path / "malformed.safetensors")]) == 4
    assert "split: expected a SHA-256, got '1b1b" in capsys.readouterr().err


def test_audit_and_import(collection, tmp_path, capsys):
    assert main(["data", "audit", str(collection), "--quiet"]) == 0
    assert "No problem found" in capsys.readouterr().out
    assert main(["data", "import", "cohen", str(tmp_path)]) == 3
    assert "there is no metadata.csv in it" in capsys.readouterr().err


def test_data_split_shows_and_writes_the_sets(collection, finished, tmp_path, capsys):
    assert main(["data", "split", str(collection), "--out", str(tmp_path / "split.csv"), "--quiet"]) == 0
    assert "validation" in capsys.readouterr().out
    assert (tmp_path / "split.csv").read_bytes() == (finished / "split.csv").read_bytes()


def test_paths_may_be_relative_to_another_folder(collection, finished, tmp_path, capsys):
    """A list beside the images, above them and elsewhere, for every command that reads one."""
    text, images = collection.read_text(), collection.parent / "images"
    for place, root in ((tmp_path / "elsewhere.csv", images), (collection.parent / "bare.csv", images)):
        place.write_text(text.replace("images/", ""))
        assert main(["data", "split", str(place)]) == 3
        told = capsys.readouterr().err
        assert "root= (--root" in told and (place.parent == tmp_path or f"--root {root})" in told)
        assert main(["data", "split", str(place), "--root", str(root), "--out", str(tmp_path / "split.csv")]) == 0
        assert f"24 images are read from {os.path.realpath(root)}" in capsys.readouterr().err
        kept = (finished / "split.csv").read_text().replace("images/", "")
        assert (tmp_path / "split.csv").read_text() == kept
    assert main(["data", "audit", str(place), "--root", str(root), "--quiet"]) == 0
    how = ["--data", str(place), "--root", str(root), "--quiet", "--allow-training-images"]
    assert main(["evaluate", str(finished), *how]) == 0
    assert main(["compare", str(finished), str(finished), *how]) == 0
    assert main(["train", "--data", str(collection.parent), "--root", str(root), "--quiet"]) == 3
    assert "root: is for the paths in a CSV file" in capsys.readouterr().err
    place.unlink()


def test_summary_and_doctor(finished, capsys):
    assert main(["summary"]) == 0 and "609,473" in capsys.readouterr().out
    assert main(["summary", "mobilenet_v2"]) == 0 and "block_16_project_BN" in capsys.readouterr().out
    assert main(["summary", str(finished), "--plan"]) == 0 and "sigmoid_1 + loss" in capsys.readouterr().out
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "GFLOP/s" in text and "kernel cache" in text and "threads in use" in text


def test_warmup_says_what_it_does_and_where_the_code_is(capsys):
    from minicnn.kernels.runtime.jit import FOLDER
    assert main(["warmup"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Ready in ") and out.rstrip().endswith(f"MiB, in {FOLDER}")
    assert "compiling: a step of training\n" in err and "compiling: prediction\n" in err
    assert main(["warmup", "--quiet", "--json"]) == 0
    out, err = capsys.readouterr()
    facts = json.loads(out)
    assert set(facts) == {"dtype", "seconds", "folder", "kernels", "bytes"} and not err
    assert facts["dtype"] == "float32" and facts["seconds"] > 0 and facts["folder"] == str(FOLDER)
    assert facts["kernels"] == len(list(FOLDER.glob("*.nbc"))) > 5


def test_warmup_says_that_nothing_is_kept(monkeypatch):
    from minicnn.cli import warmup
    from minicnn.kernels.runtime import jit
    monkeypatch.setattr(warmup, "_tasks", lambda dtype: {})
    monkeypatch.setattr(jit, "FOLDER", None)
    facts = warmup.warm_up(progress=False)
    assert facts["folder"] is None and facts["kernels"] == 0
    assert warmup.report(facts) == "Ready in 0.0 s, but nothing is kept: the warning says why."


AFTER_WARMUP = """
import gc, sys
import numpy as np
from numba.core.dispatcher import Dispatcher
from minicnn import Adam, cov19net
from minicnn.cli.main import main

def compiled():
    kernels = [d for d in gc.get_objects() if isinstance(d, Dispatcher)]
    return {(kernel.__module__, kernel.__name__, str(dtypes)) for kernel in kernels for dtypes in kernel.signatures}

folder, data, image = sys.argv[1:]
assert main(["warmup", "--quiet"]) == 0
before = compiled()
assert len(before) > 5
for protocol in ("honest", "paper"):
    assert main(["train", "--data", data, "--out", folder + protocol, "--protocol", protocol, "--epochs", "1",
                 "--steps-per-epoch", "2", "--quiet"]) == 0
    assert main(["evaluate", folder + protocol, "--data", data, "--quiet", "--allow-training-images"]) == 0
    assert main(["predict", folder + protocol, image]) == 0
assert compiled() == before, compiled() - before

assert main(["warmup", "--quiet", "--dtype", "float64"]) == 0
before = compiled()
model = cov19net(dtype="float64")
model.compile(Adam(), "binary_crossentropy")
for x in (np.zeros((5, 64, 64, 3), np.uint8), np.zeros((5, 64, 64, 3))):
    model.fit(x, np.arange(5) % 2, epochs=1, progress=False)
    model.predict(x)
assert compiled() == before, compiled() - before
"""


@pytest.mark.soak
def test_after_warmup_nothing_is_left_to_compile(collection, tmp_path):
    image = next((collection.parent / "images").iterdir())
    done = subprocess.run([sys.executable, "-c", AFTER_WARMUP, str(tmp_path / "run"), str(collection), str(image)],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_three_classes_train_from_folders(tmp_path, capsys):
    pixels = (uniforms(1, Stream.PHANTOM, 9, 2, 30 * 64 * 64).reshape(30, 64, 64) * 255).astype(np.uint8)
    for i, image in enumerate(pixels):
        folder = tmp_path / "src" / "abc"[i % 3]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{i}.png")
    assert main(["train", "--data", str(tmp_path / "src"), "--out", str(tmp_path / "run"), *QUICK]) == 0
    assert Sequential.load(tmp_path / "run" / "last.safetensors").classes == ("a", "b", "c")
    assert main(["evaluate", str(tmp_path / "run"), "--data", str(tmp_path / "src"), "--quiet",
                 "--allow-training-images"]) == 0


@pytest.mark.parametrize("arguments, code, sentence", [
    (["train", "--epochs", "0"], 2, "must be a whole number from 1"),
    (["train", "--learning-rate", "nan"], 2, "must lie in (0, inf), got 'nan'"),
    (["train", "--classes", "one"], 2, "two or more different names"),
    (["train", "--data", "nowhere.csv", "--out", "{tmp}/r"], 3, "nowhere.csv"),
    (["train", "--resume", "{tmp}/nothing"], 3, "no such run folder"),
    (["train", "--protocol", "paper", "--augmentation", "honest", "--out", "{tmp}/r"], 3, "brings its own"),
    (["train", "--out", "/proc/nowhere/r", *QUICK], 4, "cannot be used as a run folder"),
    (["evaluate", "{tmp}"], 3, "not a run folder: it has no config.json"),
    (["predict", "{tmp}/none.safetensors", "x.png"], 4, "cannot be read"),
    (["data", "phantom", "{full}", "--n", "2", "--quiet"], 3, "full"),
    ([], 2, "required"),
])
def test_errors_are_one_line_and_a_code(arguments, code, sentence, tmp_path, capsys):
    full = tmp_path / "full"
    full.mkdir()
    (full / "something").touch()
    arguments = [argument.format(tmp=tmp_path, full=full) for argument in arguments]
    got = ended(arguments)
    error = capsys.readouterr().err
    assert got == code and sentence in error and "Traceback" not in error
    assert code == 2 or error.count("\n") == 1


@pytest.mark.parametrize("arguments", [
    "train --epochs 1.5", "train --steps-per-epoch 0", "train --batch-size many", "train --learning-rate 0",
    "train --learning-rate inf", "train --seed -1", f"train --seed {2**64}", "train --workers 65", "train --threads 0",
    "train --protocol none", "train --augmentation flip", "train --recipe secret", "train --classes a,a",
    "train --columns a", "train --columns a=", "train --hold-out ''", "train --data ''", "train --out ''",
    "evaluate x --expect-sha256 12",
    f"predict x y --expect-sha256 {'g' * 64}", "gradcheck x:Y --shape 2,0", "gradcheck --step 0", "gradcheck --step 1",
    "gradcheck --directions 0", "gradcheck --engine slow", "exercise nothing", "explain x y --method lime",
    "warmup --dtype f2", "reproduce --seeds 0", "reproduce --epochs 0", "data phantom x --n 1",
    "data phantom x --size 31",
    "data audit x --seed no", "data split x --protocol none", "data import x x"])
def test_a_wrong_value_is_a_usage_error(arguments, capsys):
    assert ended(shlex.split(arguments)) == 2
    error = capsys.readouterr().err
    assert "error: argument" in error and repr(shlex.split(arguments)[-1])[:5] in error


@pytest.mark.parametrize("arguments, meant", [
    ("tran", "train"), ("evalute x", "evaluate"), ("data audt", "audit"), ("audit x", "data audit"),
    ("exercise im2cl", "im2col"), ("train --epohcs 3", "--epochs"), ("train --epochs 3 --thread=2", "--threads"),
    ("train --protocol papr", "paper")])
def test_the_nearest_word_is_named(arguments, meant, capsys):
    assert ended(shlex.split(arguments)) == 2
    assert f"Did you mean {meant!r}?" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", ["xyzzy", "train --xyzzy", "trace a b c", "data \x1b[2J"])
def test_no_word_is_named_where_none_is_near(arguments, capsys):
    assert ended(shlex.split(arguments)) == 2
    error = capsys.readouterr().err
    assert "error: " in error and "Did you mean" not in error and "\x1b" not in error


def test_every_command_has_one_form():
    commands = {**COMMANDS, **COMMANDS["data"]}
    del commands["data"]
    for command in commands.values():
        assert command.__all__[:2] == ["HELP", "EXAMPLES"] and {"add_options", "run"} <= set(command.__all__)
        assert command.EXAMPLES.startswith(("example:", "examples:"))


def test_all_problems_of_a_manifest_are_listed(collection, tmp_path, capsys):
    lines = collection.read_text().splitlines()[:3]
    (tmp_path / "bad.csv").write_text("\n".join(lines + [f"missing{i}.png,covid,p,s,PA" for i in range(30)]) + "\n")
    assert main(["train", "--data", str(tmp_path / "bad.csv"), "--out", str(tmp_path / "r"), *QUICK]) == 3
    error = capsys.readouterr().err
    assert "1 problem, in 32 places" in error and "line 2: there is no file" in error and "and 30 more" in error
    assert not (tmp_path / "r" / "config.json").exists()


def test_a_folder_serves_one_run_at_a_time(finished, tmp_path, capsys):
    assert main(["train", "--out", str(finished), *QUICK]) == 3
    error = capsys.readouterr().err
    assert "already holds a run, with other options (data, classes). Go on with it: minicnn train --resume " in error
    with run_folder.RunFolder(tmp_path / "r"):
        with pytest.raises(RunLockedError, match=f"another run is using this folder .process {os.getpid()}."):
            run_folder.RunFolder(tmp_path / "r").__enter__()
        assert main(["train", "--out", str(tmp_path / "r"), *QUICK]) == 5
    assert not (tmp_path / "r" / "run.lock").exists()


HOLD = """
import sys, time
from minicnn.experiment.run_folder import RunFolder
with RunFolder(sys.argv[1]) as run:
    (run.path / f".last.safetensors.{__import__('os').getpid()}.0123abcd.tmp").touch()
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_lock_goes_with_its_process_however_that_ends(tmp_path, capsys):
    folder = tmp_path / "r"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    began = time.monotonic()
    assert main(["train", "--out", str(folder), *QUICK]) == 5
    assert time.monotonic() - began < 10                    # it does not wait for the other
    assert f"another run is using this folder (process {holder.pid})" in capsys.readouterr().err
    assert run_folder.RunFolder(folder).is_locked and holder.poll() is None
    holder.kill(), holder.communicate()
    assert (folder / "run.lock").exists() and not run_folder.RunFolder(folder).is_locked and list(folder.glob(".*.tmp"))
    with run_folder.RunFolder(folder):
        assert not list(folder.glob(".*.tmp"))
    assert os.listdir(folder) == [] and not run_folder.RunFolder(folder).is_locked


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("elsewhere"), os.mkfifo, os.mkdir])
def test_what_stands_in_the_place_of_the_lock_is_not_used(make, tmp_path, capsys):
    (tmp_path / "elsewhere").write_text("mine")
    make(tmp_path / "run.lock")
    assert main(["train", "--out", str(tmp_path), *QUICK]) == 4
    assert "cannot be used as a run folder" in capsys.readouterr().err
    assert (tmp_path / "elsewhere").read_text() == "mine"


WRONG = [("epochs", 0), ("epochs", 10**30), ("epochs", True), ("epochs", 2.0), ("steps_per_epoch", None),
           ("steps_per_epoch", "100"), ("batch_size", -1), ("batch_size", [32]), ("learning_rate", 0),
           ("learning_rate", "fast"), ("learning_rate", True), ("seed", -1), ("seed", 2**64), ("protocol", []),
           ("protocol", "none"), ("augmentation", {}), ("augmentation", "flip"), ("data", 7), ("data", ""),
           ("data", "a\0b"), ("classes", "ab"), ("classes", ["a"]), ("classes", ["a", "a"]), ("classes", [1, 2]),
           ("columns", ["path"]), ("columns", {"path": 1}), ("workers", 65), ("workers", 1.5),
           ("allow_outside_root", 1), ("allow_outside_root", None)]


@pytest.mark.parametrize("name, value", WRONG)
def test_wrong_options_in_a_run_folder_are_refused(name, value, tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps({name: value}))
    assert main(["train", "--resume", str(tmp_path)]) == 3
    error = capsys.readouterr().err
    assert f"config.json: Config: {name} must " in error and error.count("\n") == 1
    assert main(["evaluate", str(tmp_path)]) == 3 and main(["predict", str(tmp_path), "x.png"]) == 3


@pytest.mark.parametrize("text", ["", "[", "[]", "7", "null", '{"epochs": NaN}', '{"epochs": ' + "9" * 5000 + "}",
                                  "[" * 10**5, '{"more": 1}', '{"epochs": 1' + " " * 2**20 + "}", "\ud800"])
def test_a_malformed_config_is_refused(text, tmp_path, capsys):
    (tmp_path / "config.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert main(["train", "--resume", str(tmp_path)]) == 3
    error = capsys.readouterr().err
    assert "config.json" in error and error.count("\n") == 1
    os.remove(tmp_path / "config.json"), os.mkfifo(tmp_path / "config.json")
    assert main(["train", "--resume", str(tmp_path)]) == 3
    assert "not a regular file" in capsys.readouterr().err


@pytest.mark.parametrize("change", [
    lambda metrics: [], lambda metrics: {"test": 1}, lambda metrics: {"test": {}},
    lambda metrics: {"test": metrics["test"] | {"auc": "1"}},
    lambda metrics: {"test": metrics["test"] | {"n": 10**400}},
    lambda metrics: {"test": metrics["test"] | {"more": 1}},
    lambda metrics: {"test": metrics["test"] | {"undefined": []}},
    lambda metrics: {"test": metrics["test"] | {"undefined": {"auc": "\x1b[2J"}}},
    lambda metrics: {"test": metrics["test"] | {"undefined": {"more": "x"}}}])
def test_malformed_metrics_are_refused(change, finished, tmp_path, capsys):
    (tmp_path / "config.json").write_bytes((finished / "config.json").read_bytes())
    (tmp_path / "metrics.json").write_text(json.dumps(change(json.loads((finished / "metrics.json").read_text()))))
    assert main(["evaluate", str(tmp_path)]) == 3
    error = capsys.readouterr().err
    assert "metrics.json" in error and error.count("\n") == 1


def test_a_weights_file_can_be_told_by_its_digest(collection, finished, tmp_path, capsys):
    image = str(next((collection.parent / "images").iterdir()))
    digest = hashlib.sha256((finished / "best.safetensors").read_bytes()).hexdigest()
    for command in (["predict", str(finished), image],
                    ["evaluate", str(finished), "--data", str(collection), "--quiet", "--allow-training-images"]):
        assert main([*command, "--expect-sha256", digest]) == 0
        assert main([*command, "--expect-sha256", "0" * 64]) == 4
        assert "not the file that was expected" in capsys.readouterr().err
        assert ended([*command, "--expect-sha256", "1234"]) == 2


def test_an_output_that_cannot_be_written_is_said_in_a_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "minicnn", "summary"], stdout=full, stderr=subprocess.PIPE,
                              text=True)
    assert done.returncode == 4
    assert done.stderr == "minicnn: the output could not be written: No space left on device.\n"


def test_training_goes_on_when_nobody_reads_its_progress(collection, tmp_path):
    process = subprocess.Popen([sys.executable, "-m", "minicnn", "train", "--data", str(collection), "--out",
                                str(tmp_path / "r"), *QUICK[:-1]], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stderr.close()
    assert b"Run folder" in process.stdout.read() and process.wait() == 0
    process.stdout.close()


def test_help_answers_without_numba(capsys):
    code = ("import sys; from minicnn.cli.main import main\n"
            "try: main(['train', '--help'])\nexcept SystemExit: pass\n"
            "assert not {'numba', 'numpy'} & set(sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "examples:" in done.stdout


def test_evaluate_uses_what_was_fixed_on_validation(collection, finished, tmp_path, capsys):
    fixed = json.loads((finished / "decision.json").read_text())
    command = ["evaluate", str(finished), "--data", str(collection), "--allow-training-images", "--quiet",
               "--json"]
    assert main(command) == 0
    plain = json.loads(capsys.readouterr().out)["evaluation"]
    assert plain["at_threshold"]["threshold"] == fixed["threshold"] and plain["patients"] <= 24
    if fixed["temperature"] is not None:
        assert main([*command, "--calibrated"]) == 0
        calibrated = json.loads(capsys.readouterr().out)["evaluation"]
        assert calibrated["auc"] == plain["auc"] and calibrated["accuracy"] == plain["accuracy"]
        assert calibrated["at_threshold"]["recall"] == plain["at_threshold"]["recall"]
        assert calibrated["loss"] != plain["loss"]
    assert main(["evaluate", str(finished), "--calibrated"]) == 3
    assert "calibrated probabilities are measured on images; name them with --data." in capsys.readouterr().err
    assert main(["evaluate", str(finished / "best.safetensors"), "--data", str(collection), "--calibrated",
                 "--allow-training-images"]) == 3
    assert "no temperature was fixed on validation" in capsys.readouterr().err


def test_compare_two_runs(finished, capsys):
    assert main(["compare", str(finished), str(finished), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["difference"]["accuracy"] == 0.0
