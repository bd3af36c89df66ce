"""Signals: noted where something must not be cut off, raised elsewhere, obeyed at once the second time."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from benchmarks.reliability.run_faults import EPOCH, handles, measure, wait
from minicnn import Adam, Callback, Dense, Flatten, Sequential, Sigmoid
from minicnn.core import signals
from minicnn.core.signals import Interrupted


@pytest.fixture(autouse=True)
def pythons_own_handlers():
    """As in a process that was started from a terminal, wherever the tests were started."""
    before = [signal.signal(signal.SIGINT, signal.default_int_handler), signal.signal(signal.SIGTERM, signal.SIG_DFL)]
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert not signals._postponements and signals._noted is None
    signal.signal(signal.SIGINT, before[0]), signal.signal(signal.SIGTERM, before[1])


def send(number=signal.SIGINT):
    """Send this process a signal; Python's handler has run when this returns."""
    os.kill(os.getpid(), number)
    for _ in range(1000):
        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_raised_at_once(number):
    with pytest.raises(KeyboardInterrupt) as told:
        with signals.handled():
            send(number)
            raise AssertionError("it was not raised")
    assert type(told.value) is Interrupted and told.value.number == number and str(told.value) == "interrupted."


def test_where_it_is_postponed_it_waits_for_the_next_check(capfd):
    done = []
    with signals.handled():
        with pytest.raises(Interrupted):
            with signals.postponed():
                send()
                done.append("the step")
                signals.check()
                done.append("another step")
    assert done == ["the step"]
    assert capfd.readouterr().err == "minicnn: ending after the current step; a second signal ends at once.\n"


def test_at_the_latest_it_is_raised_where_the_outermost_block_ends():
    done = []
    with signals.handled():
        with pytest.raises(Interrupted):
            with signals.postponed():
                with signals.postponed():
                    send()
                done.append("the inner block ended")
    assert done


def test_an_error_is_not_hidden_by_a_signal():
    with signals.handled():
        with pytest.raises(ZeroDivisionError):
            with signals.postponed():
                send()
                1 / 0
        with pytest.raises(Interrupted):
            signals.check()


def test_a_signal_that_somebody_swallowed_is_raised_by_the_next_check():
    """Python does not let an exception out of some places, such as a destructor or a callback of a C library."""
    with signals.handled():
        try:
            send()
        except KeyboardInterrupt:
            pass
        with pytest.raises(Interrupted):
            signals.check()
    signals.check()              # outside, nothing is left of it


def test_what_a_library_in_c_makes_of_it_is_a_signal_again():
    """Matplotlib's image resampling catches what the handler raised, and says that a matrix is invalid."""
    with pytest.raises(Interrupted) as told:
        with signals.handled():
            try:
                send()
            except KeyboardInterrupt:
                raise ValueError("Invalid affine transformation matrix") from None
    assert told.value.number == signal.SIGINT and isinstance(told.value.__cause__, ValueError)
    with pytest.raises(ValueError):         # but what went wrong while a signal was waiting went wrong by itself
        with signals.handled(), signals.postponed():
            send()
            raise ValueError


@pytest.mark.parametrize("moment, raised, done", [(1, Interrupted, []), (2, Interrupted, []), (3, Interrupted, [1]),
                                                  (4, KeyboardInterrupt, [1])])
def test_a_signal_while_handlers_are_put_in_place_or_taken_away(moment, raised, done, monkeypatch):
    """Ours for SIGINT is in place, both are, SIGINT's alone is left, Python's own are back. `pythons_own_handlers` sees
    that nothing is left of it."""
    real, calls, came = signal.signal, [], []

    def installs(*arguments):
        before = real(*arguments)
        calls.append(arguments)
        if len(calls) == moment:
            send()
        return before

    monkeypatch.setattr(signals.signal, "signal", installs)
    with pytest.raises(KeyboardInterrupt) as told:
        with signals.handled():
            came.append(1)
    monkeypatch.undo()
    assert type(told.value) is raised and came == done


LAST = """
import os, signal, sys
from minicnn.core import signals
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    with signals.handled(last=True):
        if sys.argv[2] == "noted":
            os.kill(os.getpid(), int(sys.argv[1]))
            sum(range(1000))
except signals.Interrupted:
    pass
print("done", flush=True)
os.kill(os.getpid(), int(sys.argv[1]))
sum(range(1000))
os._exit(1)
"""


@pytest.mark.parametrize("number", [2, 15])
@pytest.mark.parametrize("before", ["noted", "nothing"])
def test_where_nothing_comes_after_it_a_signal_still_ends_the_process_at_once(number, before):
    """A second Ctrl-C while Python goes to sleep is no traceback."""
    done = subprocess.run([sys.executable, "-c", LAST, str(number), before], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (128 + number, "done\n")
    assert done.stderr == "minicnn: ended at once; the last checkpoint is intact.\n"


def test_within_each_other_the_outer_one_counts():
    with signals.handled():
        handler = signal.getsignal(signal.SIGINT)
        with signals.handled():
            assert signal.getsignal(signal.SIGINT) is handler
            with pytest.raises(Interrupted):
                send()
        assert signal.getsignal(signal.SIGINT) is handler
        with pytest.raises(Interrupted):
            signals.check()


def test_handlers_of_somebody_else_are_left_alone():
    came = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with signals.handled(), signals.postponed():
            send(signal.SIGINT), send(signal.SIGTERM)
            signals.check()
        assert came == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler), signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_in_another_thread_nothing_is_handled_noted_or_raised():
    done = []

    def work():
        with signals.handled(), signals.postponed():
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler and not signals._postponements
            signals.check()
            done.append(True)

    with signals.handled():
        with pytest.raises(Interrupted):
            send()
        inner = threading.Thread(target=lambda: (signals.check(), done.append(True)))
        inner.start(), inner.join()
    outer = threading.Thread(target=work)
    outer.start(), outer.join()
    assert done == [True, True]


TWICE = """
import os, signal, sys
from minicnn.core import signals
signal.signal(signal.SIGINT, signal.default_int_handler)
numbers = [int(number) for number in sys.argv[1:]]
with signals.handled(), signals.postponed():
    for number in numbers:
        os.kill(os.getpid(), number)
        print("went on", flush=True)
os._exit(1)
"""


@pytest.mark.parametrize("first, second", [(2, 2), (15, 15), (2, 15), (15, 2)])
def test_the_second_signal_ends_the_process_at_once(first, second):
    done = subprocess.run([sys.executable, "-c", TWICE, str(first), str(second)], capture_output=True, text=True)
    assert done.returncode == 128 + second and done.stdout == "went on\n"
    assert done.stderr.splitlines()[-1] == "minicnn: ended at once; the last checkpoint is intact."


# ---- Training --------------------------------------------------------------------------------------------------------

X, T = np.linspace(0, 1, 12 * 4, dtype=np.float32).reshape(12, 2, 2, 1), np.arange(12) % 2


class Send(Callback):
    """Send a signal before an epoch: it comes in the middle of what is not to be cut off."""

    def __init__(self, epoch, number=signal.SIGINT):
        self.epoch, self.number = epoch, number

    def on_epoch_begin(self, model, epoch):
        if epoch == self.epoch:
            send(self.number)


def tiny():
    model = Sequential([Flatten(), Dense(1), Sigmoid()], (2, 2, 1), seed=3)
    model.compile(Adam(0.1), "binary_crossentropy")
    return model


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_training_after_the_batch_and_is_saved(number, tmp_path):
    settings = dict(epochs=3, batch_size=3, progress=False)
    with pytest.raises(KeyboardInterrupt, match=r"^interrupted in epoch 2, batch 1 of 4: saved\.$") as told:
        tiny().fit(X, T, run=tmp_path / "run", callbacks=[Send(2, number)], **settings)
    assert told.value.number == number
    assert Sequential.load(tmp_path / "run" / "last.safetensors").position.batch == 1
    model, whole = tiny(), tiny()
    model.fit(X, T, run=tmp_path / "run", resume=True, **settings)
    whole.fit(X, T, **settings)
    assert model.history == whole.history and (model.predict(X) == whole.predict(X)).all()


def test_without_a_folder_the_model_is_whole_and_goes_on():
    model, whole = tiny(), tiny()
    with pytest.raises(KeyboardInterrupt, match=r"^interrupted in epoch 1, batch 1 of 4\.$"):
        model.fit(X, T, epochs=2, batch_size=3, progress=False, callbacks=[Send(1)])
    model.fit(X, T, epochs=2, batch_size=3, progress=False)
    whole.fit(X, T, epochs=2, batch_size=3, progress=False)
    assert model.history == whole.history and (model.predict(X) == whole.predict(X)).all()


def test_training_in_another_thread_is_not_disturbed():
    model, failures = tiny(), []

    def work():
        try:
            model.fit(X, T, epochs=2, progress=False)
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=work)
    thread.start(), thread.join()
    assert not failures and len(model.history) == 2


# ---- Processes -------------------------------------------------------------------------------------------------------

def check(figures, count):
    assert figures["signals"] == count and figures["twice"] > 0 and figures["litter"] == 0
    assert figures["codes_right"] == figures["identical"] == count + figures["ended_first"]
    assert figures["seconds"] < 10          # 0.1 s where nothing hangs


def test_signals_at_random_times_end_well_and_change_no_bit(tmp_path):
    check(measure("signalled", folder=str(tmp_path), count=8), 8)


@pytest.mark.soak
def test_two_hundred_signals_end_well_and_change_no_bit(tmp_path):
    check(measure("signalled", folder=str(tmp_path), count=200, seed=1), 200)


@pytest.mark.soak
@pytest.mark.parametrize("times", [1, 2])
def test_signals_while_kernels_are_compiled(times, tmp_path):
    """With an empty cache: the first ends after the batch, with all that this one needs compiled, the second at once."""
    from minicnn.cli.main import main
    assert main(["data", "phantom", str(tmp_path / "data"), "--n", "24", "--size", "64", "--quiet"]) == 0
    arguments = ["train", "--data", str(tmp_path / "data" / "manifest.csv"), "--out", str(tmp_path / "run"), *EPOCH]
    process = subprocess.Popen([sys.executable, "-m", "minicnn", *arguments], stderr=subprocess.PIPE,
                               env=os.environ | {"MINICNN_CACHE_DIR": str(tmp_path / "cache")})
    while not (tmp_path / "run" / "config.json").exists():
        assert process.poll() is None
    for _ in range(times):
        threading.Event().wait(0.5)
        process.send_signal(signal.SIGTERM)
    error = process.communicate(timeout=120)[1].decode()
    assert process.returncode == 143
    assert ("batch 1 of 4: saved." in error) == (times == 1) and "Traceback" not in error
    assert main(["train", "--resume", str(tmp_path / "run"), "--quiet"]) == 0


def test_the_harness_notices_a_run_that_hangs(tmp_path):
    child = os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "60")
    with pytest.raises(AssertionError, match="hangs"):
        wait(child, seconds=0.1)
    assert not Path(f"/proc/{child}").exists()


def test_the_harness_knows_who_handles_signals():
    assert not handles(os.getpid())
    with signals.handled():
        assert handles(os.getpid())
