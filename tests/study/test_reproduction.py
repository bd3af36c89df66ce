"""Studies: which trainings, over which images, what is said of several seeds, and that a study is repeatable."""

import csv
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from minicnn import metrics
from minicnn.cli.main import main
from minicnn.data.synthetic import phantom
from minicnn.errors import InputError, ManifestError
from minicnn.evaluation import intervals
from minicnn.study.aggregate import Answers, over_seeds
from minicnn.study.results import command_of
from minicnn.study.trainings import Collection, Study

QUICK = ["--seeds", "2", "--epochs", "1", "--steps-per-epoch", "2", "--quiet"]


# ---- Several seeds ---------------------------------------------------------------------------------------------------

def made_up(seed, n=120, patients=60, sources=("a", "b")):
    """Return Answers of a network that is right more often than not."""
    chance = np.random.default_rng(seed)
    patient = chance.integers(patients, size=n)
    labels = (patient % 2).astype(np.int64)
    p = 1 / (1 + np.exp(-(labels - 0.5) * 2 - chance.normal(size=patients)[patient] - 0.3 * chance.normal(size=n)))
    return Answers(labels, p, patient, {"source": [sources[k % len(sources)] for k in patient]}, 0.4 + seed / 100)


def together(answers, **options):
    return over_seeds(answers, [one.summary() for one in answers], **options)


def test_one_seed_is_described_as_by_itself():
    one = made_up(1)
    told, alone = together([one]), one.summary()
    for name in ("n", "patients", "accuracy", "specificity", "precision", "recall", "f1", "auc", "brier", "slope",
                 "average_precision", "intercept", "loss"):
        assert told[name] == pytest.approx(alone[name]), name
        if name in ("accuracy", "recall", "specificity", "precision", "f1", "brier", "slope"):
            assert told["intervals"][name] == pytest.approx(alone["intervals"][name]), name
    for share in ("accuracy", "recall"):
        assert told["at_threshold"][share] == alone["at_threshold"][share]
    for word, group in alone["groups"]["source"].items():
        assert told["groups"]["source"][word]["recall"] == group["recall"]
        assert told["groups"]["source"][word]["auc"] == pytest.approx(group["auc"])


def test_shares_are_of_all_answers_and_the_auc_is_a_mean():
    answers = [made_up(seed) for seed in range(3)]
    told, alone = together(answers), [one.summary() for one in answers]
    labels = np.concatenate([one.labels for one in answers])
    p = np.concatenate([one.probabilities for one in answers])
    assert told["accuracy"] == ((p > 0.5) == labels).mean()
    assert told["auc"] == pytest.approx(np.mean([one["auc"] for one in alone]))
    assert told["auc"] != pytest.approx(metrics.auc(labels, p), abs=1e-6)
    for name in ("accuracy", "auc", "loss"):
        values = [one[name] for one in alone]
        assert (told["lowest"][name], told["highest"][name]) == (min(values), max(values))
        low, high = told["intervals"][name]
        assert low < told[name] < high


def test_a_patient_whom_all_seeds_tested_is_one_patient():
    """The same answers three times tell no more than once: the intervals stay as wide."""
    one = made_up(4)
    told, alone = together([one] * 3), together([one])
    for name in ("accuracy", "recall", "auc", "brier"):
        assert told["intervals"][name] == pytest.approx(alone["intervals"][name], abs=2e-3), name
    # Had the answers been about other patients each time, they would be narrower.
    others = [Answers(one.labels, one.probabilities, one.patients + 1000 * k, {}) for k in range(3)]
    low, high = together(others)["intervals"]["accuracy"]
    assert high - low < 0.8 * np.diff(alone["intervals"]["accuracy"])[0]


def test_what_one_seed_leaves_undefined_is_undefined_with_the_reason():
    one = made_up(1)
    healthy = one.subset(one.labels == 0)
    told = together([healthy, healthy])
    assert told["auc"] is None and told["recall"] is None
    assert told["undefined"]["auc"] == "all samples have the same label"
    assert "auc" not in told["intervals"] and "auc" not in told["lowest"]
    few = made_up(2, n=20, patients=10)
    assert "accuracy" in together([few, few])["approximate"]


def test_no_interval_for_what_was_trained_on():
    told = together([made_up(1)], trained_on=True)
    assert told["intervals"] == {} and told["no_interval"]["accuracy"] == "the network was trained on these images"


@pytest.mark.parametrize("truth", [0.7, 0.9])
def test_the_interval_of_a_mean_covers(truth):
    """Of 200 simulated studies of two seeds, the 95 % interval of the accuracy holds the truth in 93 to 98 %."""
    chance, covered = np.random.default_rng(7), 0
    for _ in range(200):
        patient = np.arange(150) % 75
        labels = patient % 2
        answers = []
        hard = chance.random(75) < 0.3      # patients on whom both seeds err alike
        wrong = chance.random(75) >= truth
        for _ in range(2):
            right = np.where(hard[patient], ~wrong[patient], chance.random(150) < truth)
            answers.append(Answers(labels, np.where(right == (labels == 1), 0.9, 0.1), patient, {}))
        positive, p = (np.concatenate([getattr(one, key) for one in answers]) for key in ("labels", "probabilities"))
        patients = np.concatenate([one.patients for one in answers])
        low, high = intervals.proportion_interval((p > 0.5) == positive, p > 0, patients)[1][:2]
        covered += low <= truth <= high
    assert 186 <= covered <= 196


# ---- The study -------------------------------------------------------------------------------------------------------

def collection(folder, name, n=48, sources=True, seed=3, patients="", labels=("normal", "covid")):
    """Write phantoms with a source column: positives from two sources, negatives from all three; return the CSV."""
    path = phantom.write(folder / name, n=n, seed=seed, size=64)
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    names, count = dict(zip(("normal", "covid"), labels)), {"normal": 0, "covid": 0}
    for row in rows:
        k = count[row["label"]] = count[row["label"]] + 1
        if sources:
            row["source"] = "north" if k % 3 == 0 else ("south" if row["label"] == "covid" else "east")
        row["patient_id"] = patients + row["patient_id"]
        row["label"] = names[row["label"]]
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def test_which_trainings_a_study_has(tmp_path):
    study = Study(collection(tmp_path, "own"), seeds=2)
    read = Collection.read(study)
    assert [fold.source for fold in read.folds] == ["north", "south"]
    plans = study.configs(read.folds)
    assert list(plans) == ["paper-0", "paper-1", "honest-0", "honest-1", "robust-0", "unseen-0", "unseen-1"]
    assert (plans["honest-1"].seed, plans["honest-1"].augmentation, plans["honest-1"].recipe) == (1, "paper", "paper")
    assert (plans["unseen-1"].hold_out, plans["unseen-1"].recipe, plans["robust-0"].recipe) == ("south", "paper", "robust")


def test_without_sources_nothing_is_held_out_and_that_is_said(tmp_path):
    read = Collection.read(Study(collection(tmp_path, "own", sources=False)))
    assert read.folds == [] and "No source was held out." in read.remarks[0] and "source" in read.remarks[0]


def test_external_images_in_the_collection_are_excluded(tmp_path):
    own = collection(tmp_path, "own")
    other = collection(tmp_path, "other", n=12, seed=8, patients="x")
    with open(other, newline="") as file:
        rows = list(csv.DictReader(file))
    for row, k in zip(rows, (0, 5)):
        stolen = (tmp_path / "own" / f"images/{k:06d}.png")
        stolen = stolen if stolen.exists() else sorted((tmp_path / "own").rglob("*.png"))[k]
        (tmp_path / "other" / row["path"]).write_bytes(stolen.read_bytes())
    read = Collection.read(Study(own, other))
    assert len(read.external) == 10
    assert any("2 of 12 external images are in the collection too" in remark for remark in read.remarks)
    with pytest.raises(InputError, match="all its images are in the collection too"):
        Collection.read(Study(own, own))


def test_patients_of_the_same_name_are_pointed_out(tmp_path):
    read = Collection.read(Study(collection(tmp_path, "own"), collection(tmp_path, "other", n=12, seed=8)))
    assert any("patient identifiers of the external set occur in the collection too" in remark for remark in read.remarks)


def test_what_cannot_be_reproduced_is_said_before_training(tmp_path):
    own = collection(tmp_path, "own")
    with pytest.raises(ManifestError, match="label"):
        Collection.read(Study(own, collection(tmp_path, "other", n=12, seed=8, labels=("healthy", "ill"))))
    lines = (tmp_path / "own" / "manifest.csv").read_text().splitlines()
    (tmp_path / "own" / "three.csv").write_text("\n".join(
        [lines[0]] + [line.replace(",covid,", ",pneumonia,") if i % 4 == 0 else line for i, line in enumerate(lines[1:])]))
    with pytest.raises(InputError, match="expected two classes, as in the paper, got 3"):
        Collection.read(Study(str(tmp_path / "own" / "three.csv")))


def test_the_command_that_repeats_a_study_names_no_folder():
    study = Study("/home/ann/my data/index.csv", "../b/other.csv", 5, epochs=2, classes=["no", "yes"])
    assert command_of(study) == ("minicnn reproduce --data index.csv --external other.csv --seeds 5 --epochs 2 "
                                 "--classes no,yes")
    assert command_of(Study("/tmp/phantoms/manifest.csv"), synthetic=True) == "minicnn reproduce --seeds 3"
    study = Study("index.csv", network="vgg19", size=64, weights="/home/ann/vgg.h5", freeze="trunk", head=[32, 8])
    assert command_of(study).endswith("--seeds 3 --network vgg19 --size 64 --weights vgg.h5 --freeze trunk --head 32,8")


# ---- From the command to the page ------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """A small study, carried out by the command: its folder, and the arguments."""
    folder = tmp_path_factory.mktemp("study")
    arguments = ["reproduce", "--data", collection(folder, "own"),
                 "--external", collection(folder, "other", n=16, seed=8, patients="x"), *QUICK]
    assert main([*arguments, "--out", str(folder / "out")]) == 0
    return folder, arguments


def test_a_study_leaves_its_findings_and_its_page(studied):
    folder, _ = studied
    found = json.loads((folder / "out" / "results.json").read_text())
    assert found["format"] == "minicnn reproduction 1" and found["settings"]["seeds"] == [0, 1]
    for protocol, parts in {"paper": ["training", "validation", "external"],
                            "honest": ["training", "validation", "test", "external"]}.items():
        assert list(found["protocols"][protocol]["parts"]) == parts
    assert found["protocols"]["honest"]["parts"]["external"]["mean"]["n"] == 16
    assert found["protocols"]["paper"]["parts"]["validation"]["mean"]["n"] == 100      # 48 x 7 x 0.3, by class
    assert [one["source"] for one in found["unseen"]] == ["north", "south"]
    assert {one["name"] for one in found["stress"]} == {"honest, test", "honest, external"}
    assert [row["condition"] for row in found["stress"][0]["rows"]][:2] == ["untouched", "border black"]
    assert found["audit"]["images"] == 48 and len(found["checklists"]) == 3
    for name in found["figures"].values():
        assert (folder / "out" / name).read_bytes().startswith(b"\x89PNG")
    for page in ("report.html", "report.md"):
        assert (folder / "out" / page).stat().st_size > 10_000


def test_no_figure_of_a_study_names_the_machine(studied):
    folder, _ = studied
    for name in ("results.json", "report.md", "report.html"):
        text = (folder / "out" / name).read_text()
        assert str(folder) not in text and os.uname().nodename not in text.split() and "/tmp/" not in text, name


def test_the_same_command_trains_nothing_again_finds_the_same_and_says_the_answer(studied, capsys):
    folder, arguments = studied
    before = {path: path.read_bytes() for path in (folder / "out").rglob("*") if path.is_file()
              and path.suffix in (".json", ".html", ".md", ".safetensors", ".png")}
    assert main([*arguments, "--out", str(folder / "out")]) == 0
    said = capsys.readouterr().out
    assert "The paper reports an accuracy of 99.45 %." in said and "the honest protocol, test" in said
    assert f"Report: {folder / 'out' / 'report.html'}" in said
    assert [path.name for path in before if path.read_bytes() != before[path]] == []


def test_a_plot_that_cannot_be_drawn_costs_no_study(studied, tmp_path, monkeypatch, capsys):
    def fail(*arguments):
        raise RuntimeError("no such font")
    folder, arguments = studied
    shutil.copytree(folder / "out", tmp_path / "out")
    (tmp_path / "out" / "results.json").unlink()
    monkeypatch.setattr("minicnn.plotting.network.pooling", fail)
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    assert "Not drawn: pooling (RuntimeError: no such font)\n" in capsys.readouterr().out
    found, before = (json.loads((parent / "out" / "results.json").read_text()) for parent in (tmp_path, folder))
    assert found["remarks"] == [*before["remarks"], "Not drawn: pooling (RuntimeError: no such font)"]
    assert set(before["figures"]) - set(found["figures"]) == {"pooling"}
    assert "Not drawn: " in (tmp_path / "out" / "report.md").read_text()


def test_a_study_in_a_folder_of_another_is_refused(studied, capsys):
    folder, arguments = studied
    assert main([*arguments, "--out", str(folder / "out"), "--epochs", "3"]) == 3
    assert "other options (epochs)" in capsys.readouterr().err


@pytest.mark.parametrize("seeds", [0, 101, 2.5, "3"])
def test_the_number_of_seeds(seeds):
    with pytest.raises(InputError, match="seeds must be a whole number from 1 to 100"):
        Study("index.csv", seeds=seeds)


def test_a_study_that_is_interrupted_goes_on(studied, tmp_path, monkeypatch, capsys):
    """A signal in the middle: the exit code and the sentence, and then the same findings as without it."""
    from minicnn.core.signals import Interrupted
    from minicnn import experiment
    from minicnn.study import plots
    folder, arguments = studied
    train_or_resume, done = experiment.train_or_resume, []

    def stopped(plan, *others, **options):
        done.append(plan)
        if len(done) == 3:
            raise Interrupted(2, "interrupted in epoch 1, batch 1 of 2: saved.")
        return train_or_resume(plan, *others, **options)

    def copied(found, collection, trainings, checks, out):      # the plots are drawn, and compared, in the test above
        shutil.copytree(folder / "out" / "figures", out / "figures")
        return json.loads((folder / "out" / "results.json").read_text())["figures"], {}

    monkeypatch.setattr(experiment, "train_or_resume", stopped)
    monkeypatch.setattr(plots, "draw", copied)
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 130
    words = shlex.join(["minicnn", *arguments, "--out", str(tmp_path / "out")])
    assert f"saved. 2 trainings are finished and kept. Go on with:\n  {words}\n" in capsys.readouterr().err
    assert not (tmp_path / "out" / "results.json").exists()
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "results.json").read_bytes() == (folder / "out" / "results.json").read_bytes()


@pytest.fixture
def command():
    """A function that starts minicnn; Ctrl-C reaches it also where the tests themselves ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda *words: subprocess.Popen([sys.executable, "-m", "minicnn", *words], stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)


def until(process, text):
    """Read stderr until a line has `text` in it; return the lines before and that one."""
    lines = []
    while not lines or text not in lines[-1]:
        lines.append(process.stderr.readline())
        assert lines[-1], "".join(lines)
    return lines


def test_ctrl_c_prints_how_to_go_on(command, tmp_path):
    """While images are read and in two trainings: what is printed is the command, and it repeats no training."""
    words = ["reproduce", "--data", collection(tmp_path, "own", n=24, sources=False), "--seeds", "1", "--epochs", "1",
             "--steps-per-epoch", "2", "--out", str(tmp_path / "my out")]
    for moment, kept in (("reading manifest.csv", "No training is finished yet."),
                         ("training 2 of 3: honest protocol, seed 0 (honest-0)", "1 training is finished and kept."),
                         ("training 3 of 3: the robust recipe (robust-0)", "2 trainings are finished and kept.")):
        process = command(*words)
        lines = until(process, moment)
        process.send_signal(signal.SIGINT)
        said = process.communicate()[1]
        assert process.returncode == 130 and "Traceback" not in said
        assert said.endswith(f"{kept} Go on with:\n  minicnn {shlex.join(words)}\n")
        assert lines[0] == "reading manifest.csv\n"
    assert lines[1] == "training 1 of 3: paper protocol, seed 0 (paper-0), finished: evaluated again\n"
    assert lines[2].startswith("training 2 of 3")                   # no epoch between the two


def test_ctrl_c_while_synthetic_files_are_made_says_what_is_there(command, tmp_path):
    words = ["data", "phantom", str(tmp_path / "made"), "--n", "100000", "--size", "64"]
    process = command(*words)
    assert until(process, "making 100,000 synthetic radiographs of 64 x 64 pixels in ")
    while not list(tmp_path.glob("made/images/*.png")):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    said = process.communicate()[1]
    assert process.returncode == 130 and not (tmp_path / "made").exists()
    assert re.fullmatch(r"minicnn: interrupted after [\d,]+ of 100,000 radiographs: they were removed, none is in .*made\. "
                        rf"Begin again: minicnn {re.escape(shlex.join(words))}\n", said)


def test_the_readmes_table_is_that_of_a_study():
    from benchmarks.report import readme_section
    from benchmarks.reproduction import STORED, readme_table
    assert readme_section("reproduction")[1] == readme_table(json.loads(STORED.read_text(encoding="ascii")))
