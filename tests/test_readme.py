"""The README's Python runs as it stands there, and its commands exist."""

import re
import shlex
from pathlib import Path

import pytest

from minicnn.cli import main

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.S)
COMMANDS = re.findall(r"^(minicnn [^#\n]*)", "\n".join(re.findall(r"```sh\n(.*?)```", README, re.S)).replace("\\\n", ""), re.M)


@pytest.mark.parametrize("block", PYTHON, ids=range(len(PYTHON)))
def test_the_python_runs(block, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_parse(command):
    assert main._parser().parse_args(shlex.split(command)[1:]).run


def test_the_two_commands_stand_there():
    assert 'pip install ".[app]" && minicnn train\n' in README
    assert 'pip install -e ".[test]" && python -m pytest -q\n' in README


def test_it_says_what_minicnn_is_not():
    assert "not a medical device" in README
