"""The exercises: a stub is reported as not written, the reference passes, common mistakes fail at their smallest case
with the computation by hand, and no file is overwritten."""

import argparse
import os
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from minicnn import reference as ref
from minicnn.cli import exercise as exercise_command
from minicnn.errors import CheckpointError, InputError
from minicnn.teaching import exercises
from minicnn.teaching.exercises import EXERCISES, find_mistake, levels, write

each_exercise = pytest.mark.parametrize("name", EXERCISES)
NO_PADS = (0, 0, 0, 0)


# ---- Solutions, from the reference -----------------------------------------------------------------------------------

def bce(z, t):
    losses, dz = ref.binary_crossentropy(z[:, None], t[:, None], np.full(len(z), 1 / len(z)))
    return losses.sum(), dz[:, 0]


def adam(w, m, v, dw, t, learning_rate, beta_1, beta_2, epsilon):
    rate = learning_rate * np.sqrt(1 - beta_2**t) / (1 - beta_1**t)
    return ref.adam(w, m, v, dw, rate, beta_1, beta_2, epsilon)


def conv_backward(dy, x, w, strides, pads):
    return (ref.conv2d_input_gradient(dy, w, x.shape[1:3], strides, pads),
            *ref.conv2d_weight_gradient(dy, x, w.shape[:2], strides, pads))


def max_pool_backward(dy, x, pool_size, strides):
    _, switches = ref.max_pool2d(x, pool_size, strides, NO_PADS)
    return ref.max_pool2d_gradient(dy, switches, x.shape[1:3], pool_size, strides, NO_PADS)


def dense_backward(dy, x, w):
    return ref.dense_input_gradient(dy, w), *ref.dense_weight_gradient(dy, x)


SOLUTIONS = {"im2col": ref.im2col, "conv-forward": ref.conv2d, "conv-backward": conv_backward,
             "max-pool-backward": max_pool_backward, "bce": bce, "adam": adam, "dense-backward": dense_backward}


# ---- Common mistakes: (exercise, wrong function, text that the message must contain) ---------------------------------

def channels_first(x, kernel_size, strides, pads):
    cols = ref.im2col(x, kernel_size, strides, pads)
    return cols.reshape(len(cols), -1, x.shape[3]).transpose(0, 2, 1).reshape(len(cols), -1)


def without_steps(x, kernel_size, strides, pads):
    return ref.im2col(x, kernel_size, (1, 1), pads)


def columns_before_rows(x, kernel_size, strides, pads):
    cols = ref.im2col(x, kernel_size, strides, pads)
    return cols.reshape(len(cols), *kernel_size, -1).transpose(0, 2, 1, 3).reshape(len(cols), -1)


def flipped(x, w, b, strides, pads):
    return ref.conv2d(x, w[::-1, ::-1], b, strides, pads)


def without_bias(x, w, b, strides, pads):
    return ref.conv2d(x, w, 0 * b, strides, pads)


def padding_after_first(x, w, b, strides, pads):
    return ref.conv2d(x, w, b, strides, (pads[1], pads[0], pads[3], pads[2]))


def overwrites(dy, x, w, strides, pads):
    dx, dw, db = conv_backward(dy, x, w, strides, pads)
    padded = np.zeros((len(x), pads[0] + x.shape[1] + pads[1], pads[2] + x.shape[2] + pads[3], x.shape[3]), x.dtype)
    for n, oh, ow in np.ndindex(dy.shape[:3]):
        h, v = oh * strides[0], ow * strides[1]
        padded[n, h:h + w.shape[0], v:v + w.shape[1]] = (w * dy[n, oh, ow]).sum(axis=3)
    return padded[:, pads[0]:pads[0] + x.shape[1], pads[2]:pads[2] + x.shape[2]], dw, db


def mean_of_images(dy, x, w, strides, pads):
    dx, dw, db = conv_backward(dy, x, w, strides, pads)
    return dx, dw / len(x), db


def bias_of_the_first_image(dy, x, w, strides, pads):
    return *conv_backward(dy, x, w, strides, pads)[:2], dy[0].sum(axis=(0, 1))


def to_all_ties(dy, x, pool_size, strides):
    dx = np.zeros_like(x)
    for n, oh, ow, c in np.ndindex(dy.shape):
        place = n, slice(oh * strides[0], oh * strides[0] + pool_size[0]), \
            slice(ow * strides[1], ow * strides[1] + pool_size[1]), c
        dx[place] += (x[place] == x[place].max()) * dy[n, oh, ow, c]
    return dx


def keeps_one_of_several(dy, x, pool_size, strides):
    dx = np.zeros_like(x)
    for n, oh, ow, c in np.ndindex(dy.shape):
        window = x[n, oh * strides[0]:oh * strides[0] + pool_size[0], ow * strides[1]:ow * strides[1] + pool_size[1], c]
        kh, kw = np.unravel_index(window.argmax(), window.shape)
        dx[n, oh * strides[0] + kh, ow * strides[1] + kw, c] = dy[n, oh, ow, c]
    return dx


def as_an_average(dy, x, pool_size, strides):
    return ref.average_pool2d_gradient(dy, x.shape[1:3], pool_size, strides, NO_PADS)


def overflowing(z, t):
    p = 1 / (1 + np.exp(-z))
    return -np.mean(t * np.log(p) + (1 - t) * np.log(1 - p)), (p - t) / len(z)


def sum_for_mean(z, t):
    loss, dz = bce(z, t)
    return loss * len(z), dz


def sigmoid_twice(z, t):
    p = ref.sigmoid(z)
    return bce(z, t)[0], (p - t) * p * (1 - p) / len(z)


def without_correction(w, m, v, dw, t, learning_rate, beta_1, beta_2, epsilon):
    return ref.adam(w, m, v, dw, learning_rate, beta_1, beta_2, epsilon)


def epsilon_in_the_root(w, m, v, dw, t, learning_rate, beta_1, beta_2, epsilon):
    _, m, v = ref.adam(w, m, v, dw, 0.0, beta_1, beta_2, epsilon)
    return w - learning_rate * np.sqrt(1 - beta_2**t) / (1 - beta_1**t) * m / np.sqrt(v + epsilon), m, v


def forgets_one_minus(w, m, v, dw, t, learning_rate, beta_1, beta_2, epsilon):
    w, m, v = adam(w, m, v, dw, t, learning_rate, beta_1, beta_2, epsilon)
    return w, m / (1 - beta_1), v


def mean_of_samples(dy, x, w):
    dx, dw, db = dense_backward(dy, x, w)
    return dx, dw / len(x), db


def without_transposing(dy, x, w):
    return dy @ w, x.T @ dy, dy.sum(axis=0)


def bias_of_each_sample(dy, x, w):
    return dy @ w.T, x.T @ dy, dy.sum(axis=1)


MISTAKES = [
    ("im2col", channels_first, "x, shape (1, 1, 3, 2):\n    [0, :, :, 0]   2 4 6\n    [0, :, :, 1]   3 5 7\n"),
    ("im2col", without_steps, "cols must have shape (2, 2); yours has (3, 2)"),
    ("im2col", columns_before_rows, "(kh, kw, c) = (0, 1, 0) in it: x[0, 0, 1, 0] = 3"),
    ("conv-forward", flipped, "x, shape (1, 1, 3, 1):   2 3 4\n"),
    ("conv-forward", without_bias, "should be 18.5; yours is 18. By hand:\n    x[0, 0, 0, 0] w[0, 0, 0, 0] + "
                                   "x[0, 0, 1, 0] w[0, 1, 0, 0] + b[0]\n    = 2 * 3 + 3 * 4 + 0.5 = 18.5"),
    ("conv-forward", padding_after_first, "pads = (0, 0, 0, 1)"),
    ("conv-backward", overwrites, "+ dy[0, 0, 1, 0] w[0, 0, 0, 0]\n    = 5 * 4 + 6 * 3 = 38"),
    ("conv-backward", mean_of_images, "dw[0, 0, 0, 0] should be 111; yours is 55.5"),
    ("conv-backward", bias_of_the_first_image, "+ dy[1, 0, 0, 0] + dy[1, 0, 1, 0]\n    = 5 + 6 + 7 + 8 = 26"),
    ("max-pool-backward", to_all_ties, "holds 0 0. Its largest, 0, the first of several, is x[0, 0, 0, 0]"),
    ("max-pool-backward", keeps_one_of_several, "gets 5 + 6 = 11"),
    ("max-pool-backward", as_an_average, "yours is 2.5"),
    ("bce", overflowing, "loss should be 40; yours is inf. By hand:\n    sample 0: max(z, 0) - z t"),
    ("bce", sum_for_mean, "= 0 - 0 + 0.126928 = 0.126928\n    mean over 2: 0.2200948"),
    ("bce", sigmoid_twice, "= (0.8807971 - 1) / 1 = -0.1192029"),
    ("adam", without_correction, "rate = 0.1 sqrt(1 - 0.999^1) / (1 - 0.9^1) = 0.03162278"),
    ("adam", epsilon_in_the_root, "/ (sqrt(0.00025) + 1e-07) = 0.9000006"),
    ("adam", forgets_one_minus, "m = 0 + (1 - 0.9) (0.5 - 0) = 0.05"),
    ("dense-backward", mean_of_samples, "x[0, 0] dy[0, 0] + x[1, 0] dy[1, 0]\n    = 2 * 5 + 3 * 6 = 28"),
    ("dense-backward", without_transposing, "dy[0, 0] w[0, 0] + dy[0, 1] w[0, 1]\n    = 5 * 3 + 6 * 4 = 39"),
    ("dense-backward", bias_of_each_sample, "db must have shape (2,); yours has (1,)"),
]


@each_exercise
def test_the_reference_is_the_solution(name):
    assert find_mistake(name, SOLUTIONS[name]) is None


@pytest.mark.parametrize("name, mistake, sentence", MISTAKES, ids=lambda value: getattr(value, "__name__", None))
def test_common_mistakes_fail_at_their_smallest_case(name, mistake, sentence):
    message = find_mistake(name, mistake)
    assert sentence in message, message
    assert message.startswith(f'{name}, level "') and "the smallest that shows it" in message


@each_exercise
def test_every_exercise_has_common_mistakes(name):
    assert sum(exercise == name for exercise, *_ in MISTAKES) == 3


def test_the_smallest_case_is_the_smallest():
    """A mistake that needs 3 rows and a window of 2 is reported there, not at a larger shape."""
    def wrong_at(x, w, b, strides, pads):
        y = ref.conv2d(x, w, b, strides, pads)
        return y + 1 if x.shape[1] >= 3 and w.shape[0] == 2 else y

    message = find_mistake("conv-forward", wrong_at)
    assert "x, shape (1, 3, 1, 1):   2 | 3 | 4\n" in message and "w, shape (2, 1, 1, 1):" in message
    assert "    10.5" not in message and message.count("yours is") == 1


def test_a_common_factor_is_named():
    message = find_mistake("dense-backward", lambda dy, x, w: (2 * dy @ w.T, x.T @ dy, dy.sum(axis=0)),
                        "several samples")
    assert "All of your dx is 2 times what it should be." in message


@each_exercise
def test_computations_by_hand_agree_with_the_reference(name):
    """The last number of each computation by hand is right, for every number of every seventh case."""
    exercise, seen = EXERCISES[name], 0
    for cases in exercise.levels.values():
        for case in cases()[::7] + cases()[-1:]:
            for output, expected in zip(exercise.outputs, exercise.solve(**case), strict=True):
                for index in np.ndindex(np.shape(expected)):
                    last = exercise.by_hand(case, output, index)[-1]
                    number = last.split()[-1]
                    assert float(number) == pytest.approx(float(np.asarray(expected)[index]), rel=1e-6, abs=1e-12), last
                    seen += 1
    assert seen >= 15


def returns_nothing(dy, x, w):
    dy @ w.T


def changes_its_argument(dy, x, w):
    dy *= 2
    return dy, dy, dy


def out_of_range(dy, x, w):
    return dy[99]


ANSWERS = {
    returns_nothing: "returns_nothing returned None. Is there a `return` at its end?",
    changes_its_argument: "changes_its_argument changed its argument dy, which belongs to the caller",
    out_of_range: "out_of_range raised IndexError: index 99 is out of bounds for axis 0 with size 1\n"
                  "It was raised in test_exercises.py, line {line}: return dy[99]",
    (lambda dy, x, w: dy): "must return 3 values, (dx, dw, db); it returned one ndarray",
    (lambda dy, x, w: (dy, dy)): "it returned 2 values",
    (lambda dy, x, w: ("a", "b", "c")): "dx must be an array of numbers; it is a str",
    (lambda dy, x, w: (1.0, 1.0, 1.0)): "dx must have shape (1, 2); yours has ()",
    (lambda dy, x, w: (dy * np.nan, dy, dy)): "yours is nan",
    (lambda dy: dy): "raised TypeError",
}


@pytest.mark.parametrize("function", ANSWERS, ids=range(len(ANSWERS)))
def test_other_mistakes_are_reported(function):
    line = out_of_range.__code__.co_firstlineno + 1
    assert ANSWERS[function].format(line=line) in find_mistake("dense-backward", function)


@each_exercise
def test_the_stub_is_reported_as_not_written(name):
    function = getattr(import_module(f"minicnn.teaching.stubs.{name.replace('-', '_')}"), name.replace("-", "_"))
    for level in levels(name):
        assert find_mistake(name, function, level) == (
            f"{function.__name__} is not written yet: put your code in place of `raise NotImplementedError`.")


def test_names_are_checked():
    with pytest.raises(InputError, match="there is no 'im2cool'; there are im2col, .*Did you mean 'im2col'"):
        write("im2cool")
    with pytest.raises(InputError, match="its levels are 'one sample', 'several samples'; got 'three'"):
        find_mistake("dense-backward", dense_backward, "three")


# ---- Writing, and grading by pytest ----------------------------------------------------------------------------------

def test_a_students_file_is_never_overwritten(tmp_path):
    stub, tests = write("bce", tmp_path / "mine")
    stub.write_text("my work")
    with pytest.raises(InputError, match=r"bce\.py: exists already.*minicnn exercise bce FOLDER"):
        write("bce", tmp_path / "mine")
    assert stub.read_text() == "my work"
    stub.unlink()
    assert write("bce", tmp_path / "mine") == (stub, tests)         # the tests are those that were written before
    stub.unlink()
    tests.write_text("my own tests")
    with pytest.raises(InputError, match=r"test_bce\.py: exists already"):
        write("bce", tmp_path / "mine")
    assert tests.read_text() == "my own tests" and not stub.exists()
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "adam.py").symlink_to(tmp_path / "nowhere.py")
    with pytest.raises(InputError, match=r"adam\.py: exists already"):
        write("adam", tmp_path / "linked")
    assert not (tmp_path / "nowhere.py").exists()


def test_a_folder_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises((CheckpointError, InputError), match="file"):
        write("bce", tmp_path / "file")


def pytest_in(folder, *arguments):
    return subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments], cwd=folder,
                          capture_output=True, text=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})


def test_it_grades_under_pytest_with_junit_xml(tmp_path):
    for name in EXERCISES:
        write(name, tmp_path)
    for name in ("im2col", "dense-backward"):
        function = name.replace("-", "_")
        answer = "im2col" if name == "im2col" else "dense_input_gradient"
        (tmp_path / f"{function}.py").write_text(f"from minicnn.reference import {answer} as {function}\n")
    done = pytest_in(tmp_path, "--junitxml=grades.xml")
    cases = list(ElementTree.parse(tmp_path / "grades.xml").iter("testcase"))
    assert done.returncode == 1 and len(cases) == sum(len(levels(name)) for name in EXERCISES)
    assert "Traceback" not in done.stdout and "site-packages" not in done.stdout
    unwritten = set()
    for case in cases:
        failure, skipped, exercise = case.find("failure"), case.find("skipped"), case.get("classname")
        if exercise == "test_im2col":
            assert failure is None and skipped is None
        elif exercise == "test_dense_backward":
            assert "dense_input_gradient raised TypeError" in failure.text
        else:                                               # one failure, and no level that is passed
            assert (failure is None) == (exercise in unwritten) == (skipped is not None)
            assert "is not written yet" in (failure if skipped is None else skipped).text
            unwritten.add(exercise)


@each_exercise
def test_what_the_command_prints_runs_without_pytest(name, tmp_path, capsys):
    """A function that is not written is one line."""
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "pytest.py").write_text("raise ImportError")
    exercise_command.run(argparse.Namespace(name=name, folder_out=tmp_path / "my work"))
    python, tests = shlex.split(capsys.readouterr().out.partition("check it: ")[2])
    assert python == "python"
    done = subprocess.run([sys.executable, tests], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(tmp_path / "hidden")})
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == (f"{name.replace('-', '_')} is not written yet: put your code in place of "
                           "`raise NotImplementedError`.\n")


@each_exercise
def test_the_first_case_of_a_level_is_not_degenerate(name):
    """It has a window of several numbers in several positions, or a sum of several terms."""
    for title, cases in EXERCISES[name].levels.items():
        case = cases()[0]
        if "strides" in case:
            window = case.get("kernel_size") or case.get("pool_size") or case["w"].shape[:2]
            assert np.prod(window) > 1
            answer = EXERCISES[name].solve(**case)[0]
            positions = len(answer) if name == "im2col" else np.prod(case.get("dy", answer).shape[:3])
            assert positions > 1, title


def test_the_check_says_what_is_right_and_ends_at_the_first_mistake(capsys):
    assert exercises.check("bce", bce) == 0
    assert capsys.readouterr().out.splitlines() == [*(f"right: {level}" for level in levels("bce")), "bce is right."]
    assert exercises.check("dense-backward", mean_of_samples) == 1
    assert capsys.readouterr().out == f"right: one sample\n{find_mistake('dense-backward', mean_of_samples)}\n"


def test_the_command(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    exercise_command.add_options(parser)
    exercise_command.run(parser.parse_args(["im2col", str(tmp_path / "work")]))
    assert {path.name for path in (tmp_path / "work").iterdir()} == {"im2col.py", "test_im2col.py"}
    assert capsys.readouterr().out == (f"Fill in {tmp_path}/work/im2col.py, and check it: "
                                       f"python {tmp_path}/work/test_im2col.py\n")
    assert parser.parse_args(["bce"]).folder_out == "exercises"
    assert exercise_command.NAMES == tuple(EXERCISES)


def test_every_exercise_has_a_stub_of_the_right_arguments():
    stubs = {path.stem for path in (Path(exercises.__file__).parent / "stubs").glob("*.py")} - {"__init__"}
    assert stubs == {name.replace("-", "_") for name in EXERCISES}
    for name, exercise in EXERCISES.items():
        function = getattr(import_module(f"minicnn.teaching.stubs.{name.replace('-', '_')}"), name.replace("-", "_"))
        parameters = function.__code__.co_varnames[:function.__code__.co_argcount]
        assert parameters == tuple(next(iter(exercise.levels.values()))()[0])
