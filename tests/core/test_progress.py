"""Progress on a terminal: bars within a bar, and lines that stay whole above them."""

import io
import sys

import pytest

from minicnn.core.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def work():
    with Progress(2, "study", "part") as study:
        for k in (1, 2):
            study.begin(f"training {k} of 2")
            with Progress(3, "epoch 1/1", "step") as epoch:
                for _ in range(3):
                    epoch.advance(loss=0.5)
                epoch.say(f"epoch 1/1 of {k}")
            study.advance()
        return study.done, epoch.done


@pytest.mark.parametrize("bars", [True, False], ids=["tqdm", "count"])
def test_lines_stay_whole_above_bars_within_a_bar(monkeypatch, bars):
    if bars:
        pytest.importorskip("tqdm")
    else:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert work() == (2, 3)
    text = sys.stderr.getvalue()
    for line in ("training 1 of 2", "epoch 1/1 of 1", "training 2 of 2", "epoch 1/1 of 2"):
        place = text.index(line + "\n")
        assert text[:place].endswith(("\r", "\x1b[K", "\x1b[A"))           # at the left edge of a line that was cleared
        assert "training 1 of 2:" in text.split("training 2 of 2\n")[0]      # what began stands before the bar
    assert "1/2" in text if bars else "training 2 of 2: 1 of 2 parts" in text


def test_without_a_terminal_or_with_nothing_to_count_there_are_lines_only(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    work()
    assert sys.stderr.getvalue().split("\n") == ["training 1 of 2", "epoch 1/1 of 1", "training 2 of 2", "epoch 1/1 of 2", ""]
    monkeypatch.setattr(sys, "stderr", Terminal())
    Progress(0, "").say("one line")
    assert sys.stderr.getvalue() == "one line\n"


def test_a_closed_stderr_costs_no_work(monkeypatch):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError
    monkeypatch.setattr(sys, "stderr", Closed())
    assert work() == (2, 3)
