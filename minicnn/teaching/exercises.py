"""Exercises: `minicnn exercise NAME` writes a function to implement, and its tests.

The tests try small cases, and first those in which what a level is about can be seen. The first failure is printed with
the expected result, the student's result, and one number computed by hand. `python exercises/test_NAME.py` needs
nothing but minicnn; under pytest the same file gives grades: `python -m pytest FOLDER --junitxml=grades.xml`.
"""

import inspect
import traceback
from functools import partial
from pathlib import Path

import numpy as np

from minicnn.core.text import grid
from minicnn.errors import CheckpointError, InputError, nearest, printable
from minicnn.teaching.exercise_cases import EXERCISES, show

__all__ = ["EXERCISES", "write", "levels", "find_mistake", "check", "grade"]

_STUBS = Path(__file__).parent / "stubs"
_NOT_WRITTEN = "is not written yet: put your code in place of `raise NotImplementedError`."

_TESTS = '''"""Tests of the exercise {name}: python {test_file}

They stop at the first mistake. For grades, a test a level: python -m pytest {test_file} (pip install pytest).
"""

from {function} import {function}

from minicnn.teaching.exercises import check, grade, levels


def pytest_generate_tests(metafunc):
    metafunc.parametrize("level", levels("{name}"))


def test_{function}(level):
    grade("{name}", {function}, level)


if __name__ == "__main__":
    raise SystemExit(check("{name}", {function}))
'''


def write(name, folder="exercises"):
    """Write the stub of an exercise and its tests into a folder. Existing files are never overwritten.

    Returns
    -------
    (Path of the stub, Path of the tests)

    Raises
    ------
    InputError
        there is no such exercise, or a file of that name exists
    CheckpointError
        the files cannot be written: the disk, the folder or the permissions
    """
    _exercise(name)
    function, folder = name.replace("-", "_"), Path(folder)
    stub, tests = folder / f"{function}.py", folder / f"test_{function}.py"
    content = _TESTS.format(name=name, function=function, test_file=tests.name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if stub.exists() or stub.is_symlink():
            raise FileExistsError(0, "", str(stub))
        if not (tests.is_file() and tests.read_text(encoding="utf-8") == content):     # written by an earlier call
            _write_new(tests, content)
        _write_new(stub, (_STUBS / stub.name).read_text(encoding="utf-8"))
    except FileExistsError as error:
        raise InputError(f"{printable(error.filename)}: exists already; it was not overwritten. Choose another folder: "
                         f"minicnn exercise {name} FOLDER") from None
    except OSError as error:
        raise CheckpointError(f"{printable(folder)}: the exercise could not be written ({error.strerror or error}). "
                              "Choose another folder, or free some space.") from error
    return stub, tests


def levels(name):
    """Return the titles of an exercise's levels, the easiest first.

    >>> levels("dense-backward")
    ['one sample', 'several samples']
    """
    return list(_exercise(name).levels)


def find_mistake(name, function, level=None):
    """Return the mistake of a student's function at the smallest case that shows it, as text; None if all are right.

    Cases in which a level's point cannot be seen, such as a window of one number, are tried after the others.

    Parameters
    ----------
    name : str, the exercise
    function : the student's function
    level : str, one of `levels(name)`; all of them, in order, by default

    >>> from minicnn import reference
    >>> find_mistake("im2col", reference.im2col)
    >>> def dense_backward(dy, x, w):
    ...     return dy @ w.T, x.T @ dy, dy.mean(axis=0)
    >>> print(find_mistake("dense-backward", dense_backward))
    dense-backward, level "several samples": wrong at this case, the smallest that shows it.
      dy, shape (2, 1):   5 | 6
      x, shape (2, 1):   2 | 3
      w, shape (1, 1):   3
    db is wrong.
      db[0] should be 11; yours is 5.5. By hand:
        dy[0, 0] + dy[1, 0]
        = 5 + 6 = 11
    """
    exercise = _exercise(name)
    if level is not None and level not in exercise.levels:
        raise InputError(f"{name}: its levels are {', '.join(map(repr, exercise.levels))}; got {level!r}.")
    for title, cases in exercise.levels.items():
        for case in cases() if level in (None, title) else ():
            mistake = _try(exercise, function, case)
            if mistake == [_NOT_WRITTEN]:
                return f"{_called(function)} {_NOT_WRITTEN}"
            if mistake is not None:
                return "\n".join([f'{name}, level "{title}": wrong at this case, the smallest that shows it.',
                                  *_case_lines(case), *mistake])
    return None


def check(name, function):
    """Print the levels of an exercise that a student's function passes, or its first mistake; return 0 or 1.

    >>> from minicnn import reference
    >>> check("im2col", reference.im2col)
    right: one image, one channel
    right: several images, channels, filters
    right: strides
    right: padding
    right: all together
    im2col is right.
    0
    """
    for level in levels(name):
        mistake = find_mistake(name, function, level)
        if mistake:
            print(mistake)
            return 1
        print(f"right: {level}")
    print(f"{name} is right.")
    return 0


def grade(name, function, level):
    """Fail the running test of pytest with the mistake at this level; a function that is not written fails once.

    Its other levels are skipped, so that they are neither passed nor a failure each.
    """
    import pytest

    mistake = find_mistake(name, function, level)
    if mistake:
        again = mistake.endswith(_NOT_WRITTEN) and level != levels(name)[0]
        (pytest.skip if again else partial(pytest.fail, pytrace=False))(mistake)


# ---- One case --------------------------------------------------------------------------------------------------------

def _try(exercise, function, case):
    """Return the mistake of the student's function at one case, as lines, or None."""
    given = {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in case.items()}
    try:
        with np.errstate(all="ignore"):
            answer = function(*given.values())
    except NotImplementedError:
        return [_NOT_WRITTEN]
    except Exception as error:
        return [f"{_called(function)} raised {type(error).__name__}: {error}", _where(function, error)]
    for name, value in case.items():
        if isinstance(value, np.ndarray) and not np.array_equal(given[name], value):
            return [f"{_called(function)} changed its argument {name}, which belongs to the caller. Work on a copy."]
    if answer is None:
        return [f"{_called(function)} returned None. Is there a `return` at its end?"]
    outputs = exercise.outputs
    if len(outputs) == 1:
        answer = answer,
    elif not isinstance(answer, (tuple, list)) or len(answer) != len(outputs):
        what = f"{len(answer)} values" if isinstance(answer, (tuple, list)) else f"one {type(answer).__name__}"
        return [f"{_called(function)} must return {len(outputs)} values, ({', '.join(outputs)}); it returned {what}."]
    mistakes = (_compare(exercise, case, output, got, np.asarray(expected))
                for output, got, expected in zip(outputs, answer, exercise.solve(**case)))
    return next(filter(None, mistakes), None)


def _compare(exercise, case, output, got, expected):
    try:
        got = np.asarray(got, np.float64)
    except (TypeError, ValueError):
        return [f"{output} must be an array of numbers; it is a {type(got).__name__}."]
    if got.shape != expected.shape:
        return [f"{output} must have shape {expected.shape}; yours has {got.shape}."]
    wrong = ~np.isclose(got, expected, rtol=1e-9, atol=1e-12)
    if not wrong.any():
        return None
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    lines = [f"{output} is wrong."]
    if expected.size > 1:
        lines = [f"{output}, shape {expected.shape}, is wrong in {wrong.sum()} of {wrong.size} places."]
        lines += _side_by_side(output, expected, got, index)
    lines += [f"  {output}[{', '.join(map(str, index))}]" if index else f"  {output}"]
    lines[-1] += f" should be {show(expected[index])}; yours is {show(got[index])}. By hand:"
    by_hand = ["    " + line for line in exercise.by_hand(case, output, index)]
    return lines + by_hand + _same_factor(output, got, expected)


def _same_factor(output, got, expected):
    """Return a line if all numbers are wrong by the same factor, such as a mean, a sign or a 2."""
    nonzero = expected != 0
    if nonzero.sum() < 2 or not np.isfinite(got).all() or got[~nonzero].any():
        return []
    factors = got[nonzero] / expected[nonzero]
    if factors[0] == 0 or not np.allclose(factors, factors[0], rtol=1e-9):
        return []
    return [f"  All of your {output} is {show(factors[0])} times what it should be."]


# ---- As text ---------------------------------------------------------------------------------------------------------

def _case_lines(case):
    """Return the arguments of a case as lines; the rows of a matrix are separated by |."""
    lines = []
    for name, value in case.items():
        if not isinstance(value, np.ndarray):
            lines.append(f"  {name} = {value}")
            continue
        head, planes = f"  {name}, shape {value.shape}:", _planes(name, value)
        texts = [" | ".join(_rows(value[plane])) for plane in planes]
        lines += [f"{head}   {texts[0]}"] if len(planes) == 1 else [
            head, *(f"    {_as_text(plane)}   {text}" for plane, text in zip(planes, texts))]
    return lines


def _planes(name, array):
    """Return the indices of the matrices in an array: images (N, H, W, C) and windows w (KH, KW, C, F) by channel."""
    if array.ndim <= 2:
        return [()]
    whole = slice(None)
    if name.endswith("w"):
        return [(whole, whole, c, f) for c, f in np.ndindex(array.shape[2:])]
    return [(n, whole, whole, c) for n, c in np.ndindex(array.shape[0], array.shape[3])]


def _as_text(plane):
    return f"[{', '.join(':' if isinstance(i, slice) else str(i) for i in plane)}]"


def _rows(array):
    return [" ".join(map(show, row)) for row in np.atleast_2d(array)]


def _side_by_side(output, expected, got, index):
    """Return the expected numbers and the student's side by side, for the matrix with the first mistake."""
    plane = next(plane for plane in _planes(output, expected)
                 if all(isinstance(i, slice) or i == j for i, j in zip(plane, index)))
    rows = [(f"{_as_text(plane)} should be" if plane else "should be", "is"),
            *zip(_rows(expected[plane]), _rows(got[plane]))]
    return ["    " + line for line in grid(rows[:12] + [("...", "...")] * (len(rows) > 12))]


def _called(function):
    return getattr(function, "__name__", "your function")


def _where(function, error):
    """Return the line of the student's file where an error was raised."""
    try:
        file = inspect.getsourcefile(function)
    except TypeError:
        file = None
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    if not frames:
        return f"It was raised in {_called(function)}."
    return f"It was raised in {printable(Path(file).name)}, line {frames[-1].lineno}: {frames[-1].line}"


def _exercise(name):
    if name not in EXERCISES:
        raise InputError(f"exercise: there is no {name!r}; there are {', '.join(EXERCISES)}.{nearest(name, EXERCISES)}")
    return EXERCISES[name]


def _write_new(path, content):
    with open(path, "x", encoding="utf-8") as file:
        file.write(content)
