"""Exercises: `minicnn exercise NAME` writes a function to fill in, and its tests.

The tests try small cases from the smallest up. The first that fails is the smallest, and is printed with the right
answer, the student's, and one number computed by hand. They run under pytest, so they also grade:
`python -m pytest FOLDER --junitxml=grades.xml`.
"""

import inspect
import traceback
from pathlib import Path

import numpy as np

from minicnn.errors import CheckpointError, InputError, nearest, printable
from minicnn.teaching.exercise_cases import EXERCISES, show

__all__ = ["EXERCISES", "write", "levels", "find_mistake"]

_STUBS = Path(__file__).parent / "stubs"

_TESTS = '''"""Tests of the exercise {name}: python -m pytest {test_file}

Each level tries small cases from the smallest up, and shows the first that fails.
"""

import pytest
from {function} import {function}

from minicnn.teaching.exercises import find_mistake, levels


@pytest.mark.parametrize("level", levels("{name}"))
def test_{function}(level):
    mistake = find_mistake("{name}", {function}, level)
    if mistake:
        pytest.fail(mistake, pytrace=False)
'''


def write(name, folder="exercises"):
    """Write the stub of an exercise and its tests into a folder; no file of a student's is ever overwritten.

    Returns
    -------
    (Path of the stub, Path of the tests)

    Raises
    ------
    InputError
        no such exercise; or a file of that name is there already
    CheckpointError
        the disk, the folder or the permissions do not let us
    """
    _exercise(name)
    function, folder = _function_name(name), Path(folder)
    stub, tests = folder / f"{function}.py", folder / f"test_{function}.py"
    content = _TESTS.format(name=name, function=function, test_file=tests.name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if stub.exists() or stub.is_symlink():
            raise FileExistsError(0, "", str(stub))
        if not (tests.is_file() and tests.read_text(encoding="utf-8") == content):     # ours, as we wrote it: keep it
            _write_new(tests, content)
        _write_new(stub, (_STUBS / stub.name).read_text(encoding="utf-8"))
    except FileExistsError as error:
        raise InputError(f"{printable(error.filename)}: exists already, and may hold somebody's work; nothing was "
                         f"overwritten. Choose another folder: minicnn exercise {name} FOLDER") from None
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
    """Return what is wrong with a student's function at the smallest case that fails, as text; None where all is right.

    Parameters
    ----------
    name : str, of the exercise
    function : the student's
    level : str, one of `levels(name)`; all of them, in order, where None

    >>> from minicnn import reference
    >>> find_mistake("im2col", reference.im2col)
    >>> def dense_backward(dy, x, w):
    ...     return dy @ w.T, x.T @ dy, dy.mean(axis=0)
    >>> print(find_mistake("dense-backward", dense_backward))
    dense-backward, level "several samples": wrong at this case, the smallest that fails.
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
            complaint = _try(exercise, function, case)
            if complaint is not None:
                return "\n".join([f'{name}, level "{title}": wrong at this case, the smallest that fails.',
                                  *_tell(case), *complaint])
    return None


# ---- One case --------------------------------------------------------------------------------------------------------

def _try(exercise, function, case):
    """Return what is wrong with the student's answer to one case, as lines, or None."""
    given = {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in case.items()}
    try:
        with np.errstate(all="ignore"):
            answer = function(*given.values())
    except NotImplementedError:
        return [f"{_called(function)} is not written yet: put your code in place of `raise NotImplementedError`."]
    except Exception as error:
        return [f"{_called(function)} stopped: {type(error).__name__}: {error}", _where(function, error)]
    for name, value in case.items():
        if isinstance(value, np.ndarray) and not np.array_equal(given[name], value):
            return [f"{_called(function)} changed its argument {name}, which belongs to the caller. Work on a copy."]
    if answer is None:
        return [f"{_called(function)} returned None. Is there a `return` at its end?"]
    outputs, right = exercise.outputs, exercise.solve(**case)
    if len(outputs) > 1 and (not isinstance(answer, (tuple, list)) or len(answer) != len(outputs)):
        what = f"{len(answer)} things" if isinstance(answer, (tuple, list)) else f"one {type(answer).__name__}"
        return [f"{_called(function)} must return {len(outputs)} things, ({', '.join(outputs)}); it returned {what}."]
    for output, got, expected in zip(outputs, answer if len(outputs) > 1 else (answer,), right):
        complaint = _compare(exercise, case, output, got, np.asarray(expected))
        if complaint is not None:
            return complaint
    return None


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
    """Return a line where all numbers are off by one and the same factor: a mean too many, a sign, a 2."""
    there = expected != 0
    if there.sum() < 2 or not np.isfinite(got).all() or got[~there].any():
        return []
    factors = got[there] / expected[there]
    if factors[0] == 0 or not np.allclose(factors, factors[0], rtol=1e-9):
        return []
    return [f"  All of your {output} is {show(factors[0])} times what it should be."]


# ---- As text ---------------------------------------------------------------------------------------------------------

def _tell(case):
    """Return the arguments of a case as lines; rows are divided by |, further planes by their place."""
    lines = []
    for name, value in case.items():
        if not isinstance(value, np.ndarray):
            lines.append(f"  {name} = {value}")
        elif value.ndim <= 2:
            lines.append(f"  {name}, shape {value.shape}:   " + " | ".join(_rows(value)))
        else:
            planes = [(place, " | ".join(_rows(plane))) for place, plane in _planes(name, value)]
            lines.append(f"  {name}, shape {value.shape}:" + (f"   {planes[0][1]}" if len(planes) == 1 else ""))
            lines += [f"    {place}   {plane}" for place, plane in planes if len(planes) > 1]
    return lines


def _planes(name, array):
    """Yield (place, matrix): pictures (N, H, W, C) a channel at a time, windows w (KH, KW, C, F) likewise."""
    for place in _places(name, array.shape):
        yield _as_text(place), array[place]


def _places(name, shape):
    whole = slice(None)
    if name.endswith("w"):
        return [(whole, whole, c, f) for c, f in np.ndindex(shape[2:])]
    return [(n, whole, whole, c) for n, c in np.ndindex(shape[0], shape[3])]


def _as_text(place):
    return f"[{', '.join(':' if isinstance(i, slice) else str(i) for i in place)}]"


def _rows(array):
    return [" ".join(map(show, row)) for row in np.atleast_2d(array)]


def _side_by_side(output, expected, got, index):
    """Return the right numbers and the student's beside each other, of the plane that holds the first mistake."""
    where = ""
    if expected.ndim == 4:
        place = next(place for place in _places(output, expected.shape)
                     if all(isinstance(i, slice) or i == j for i, j in zip(place, index)))
        expected, got, where = expected[place], got[place], _as_text(place) + " "
    left, right = [f"{where}should be", *_rows(expected)], ["is", *_rows(got)]
    if len(left) > 12:
        left[12:], right[12:] = ["..."], ["..."]
    width = max(map(len, left))
    return [f"    {a:{width}}    {b}".rstrip() for a, b in zip(left, right)]


def _called(function):
    return getattr(function, "__name__", "your function")


def _where(function, error):
    """Return the student's line at which an error happened: the last that lies in the file of the function."""
    try:
        file = inspect.getsourcefile(function)
    except TypeError:
        file = None
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    if not frames:
        return f"It happened in {_called(function)}."
    return f"It happened in {printable(Path(file).name)}, line {frames[-1].lineno}: {frames[-1].line}"


def _exercise(name):
    if name not in EXERCISES:
        raise InputError(f"exercise: there is no {name!r}; there are {', '.join(EXERCISES)}.{nearest(name, EXERCISES)}")
    return EXERCISES[name]


def _function_name(name):
    return name.replace("-", "_")


def _write_new(path, content):
    with open(path, "x", encoding="utf-8") as file:
        file.write(content)
