"""Locks in forked children: whatever other threads of the parent were doing, a child predicts, trains and can be ended."""

import copy
import faulthandler
import importlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from minicnn import Adam, Callback, Conv2D, Dense, Flatten, MaxPool2D, ReLU, Sequential, Sigmoid
from minicnn.core import signals
from minicnn.core.locks import Lock
from tests.support.fence import survives

X, T = np.linspace(0, 1, 32 * 64, dtype=np.float32).reshape(32, 8, 8, 1), np.arange(32) % 2


def small(engine="fast"):
    layers = [Conv2D(4, 3), ReLU(), MaxPool2D(2), Flatten(), Dense(1), Sigmoid()]
    model = Sequential(layers, (8, 8, 1), seed=3, engine=engine)
    model.compile(Adam(1e-3), "binary_crossentropy")
    return model


@contextmanager
def threads_that(*works):
    """Do each of these again and again, each in a thread, until the end of the block."""
    ended, failures = threading.Event(), []

    def repeat(work):
        try:
            while not ended.is_set():
                work()
        except BaseException as failure:
            failures.append(failure)
    threads = [threading.Thread(target=repeat, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    yield
    ended.set()
    for thread in threads:
        thread.join(60)
    assert not failures and not any(thread.is_alive() for thread in threads), failures


def answers(child, seconds=60):
    """Fork a child that calls `child`; return whether it ended with 0, and in time."""
    return status_of(child, seconds) == 0


def status_of(child, seconds):
    """Fork a child that calls `child`; return its status, or None where it has not ended in time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        number = os.fork()
    if number == 0:
        code = 1
        try:
            child()
            code = 0
        finally:
            os._exit(code)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ended, status = os.waitpid(number, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.002)
    os.kill(number, signal.SIGKILL)
    os.waitpid(number, 0)
    return None


def held_elsewhere(lock):
    """Let another thread hold the lock until the event that this returns is set."""
    held, done = threading.Event(), threading.Event()

    def hold():
        with lock:
            held.set()
            done.wait()
    threading.Thread(target=hold, daemon=True).start()
    held.wait()
    return done


def test_what_another_thread_held_is_free_in_a_child(tmp_path):
    lock, other = Lock(), Lock()
    done = held_elsewhere(lock)
    with other:
        def work(say):
            assert lock.acquire(timeout=10)
            taken = []
            thread = threading.Thread(target=lambda: taken.append(other.acquire(blocking=False)))
            thread.start(), thread.join()
            assert taken == [False]         # the thread that forked still holds its own
        alive, said = survives(work, tmp_path / "log")
        assert alive, said
        assert not lock.acquire(blocking=False)
    done.set()


def test_a_copy_of_a_lock_is_another():
    lock = Lock()
    done = held_elsewhere(lock)
    for other in (copy.copy(lock), copy.deepcopy(lock), pickle.loads(pickle.dumps(lock))):
        assert type(other) is Lock and other.acquire(blocking=False)
    done.set()


def test_a_fork_waits_for_what_another_thread_imports(tmp_path, monkeypatch):
    (tmp_path / "slow_to_import.py").write_text("import time\ntime.sleep(0.3)\nvalue = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    imports = threading.Thread(target=lambda: importlib.import_module("slow_to_import"))
    imports.start()
    while "slow_to_import" not in sys.modules:
        time.sleep(0.001)

    def work(say):
        faulthandler.dump_traceback_later(10, exit=True)
        assert importlib.import_module("slow_to_import").value == 1
    alive, said = survives(work, tmp_path / "log")
    imports.join()
    assert alive, said


FRESH = """
import sys
sys.path.insert(0, {root!r})
from tests.core.test_locks import soak
assert soak(1) > 0
"""


def test_a_child_predicts_while_others_predict_for_the_first_time():
    """They import and load what they need, and fork the child in the middle of it."""
    done = subprocess.run([sys.executable, "-c", FRESH.format(root=str(Path(__file__).parents[2]))], text=True,
                          capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_twenty_children_predict_while_four_threads_do(engine):
    model = small(engine)
    expected = model.predict(X)

    def child():
        assert (model.predict(X) == expected).all()
    with threads_that(*4 * [lambda: model.predict(X, batch_size=8)]):
        assert [answers(child) for _ in range(20)] == 20 * [True]
    assert (model.predict(X) == expected).all()


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_a_child_predicts_and_trains_while_another_thread_trains(engine):
    model, other = small(engine), small(engine)

    def child():
        assert np.isfinite(model.predict(X)).all()
        model.fit(X, T, progress=False)
        assert other.fit(X, T, progress=False).epochs == [1]
    with threads_that(lambda: model.fit(X, T, workers=1, progress=False)):
        assert [answers(child) for _ in range(3)] == 3 * [True]


def test_a_child_of_a_callback_predicts():
    told = []

    class Forks(Callback):
        def on_epoch_end(self, model, epoch, metrics):
            told.append(answers(lambda: model.predict(X)))
    small().fit(X, T, epochs=2, callbacks=Forks(), progress=False)
    assert told == [True, True]


def soak(seconds):
    """Fit, predict and fork together; return how many children were forked."""
    models, n, end = [small("fast"), small("reference")], 0, time.monotonic() + seconds
    works = [lambda model=model: model.fit(X, T, progress=False) for model in models]
    works += [lambda model=model: model.predict(X) for model in models]
    with threads_that(*works):
        while time.monotonic() < end:
            assert answers(lambda: [model.predict(X) for model in models])
            n += 1
    return n


def test_fit_predict_and_fork_together():
    assert soak(5) > 3


@pytest.mark.soak
def test_fit_predict_and_fork_together_for_long():
    assert soak(200) > 100


# ---- Signals ---------------------------------------------------------------------------------------------------------

@pytest.fixture
def pythons_own_handlers():
    before = [signal.signal(signal.SIGINT, signal.default_int_handler), signal.signal(signal.SIGTERM, signal.SIG_DFL)]
    yield
    signal.signal(signal.SIGINT, before[0]), signal.signal(signal.SIGTERM, before[1])


def forked_by(thread, work):
    """Return the status of a child of this thread, or of another."""
    if not thread:
        return status_of(work, 10)
    told = []
    other = threading.Thread(target=lambda: told.append(status_of(work, 10)))
    other.start(), other.join()
    return told[0]


@pytest.mark.parametrize("thread", [False, True])
def test_a_signal_ends_a_child_of_a_training_process(thread, pythons_own_handlers):
    """Process.terminate() is one SIGTERM, and join() waits for ever where it is only noted."""
    def child():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)
    with signals.handled(), signals.postponed():
        assert forked_by(thread, child) == signal.SIGTERM


@pytest.mark.parametrize("thread", [False, True])
def test_a_child_of_a_training_process_handles_signals_of_its_own(thread, pythons_own_handlers, tmp_path):
    def child():
        try:
            with signals.handled():
                with signals.postponed():
                    os.kill(os.getpid(), signal.SIGINT)
                    (tmp_path / "postponed").touch()
                signals.check()
        except signals.Interrupted:
            (tmp_path / "interrupted").touch()
    with signals.handled(), signals.postponed():
        assert forked_by(thread, child) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"postponed", "interrupted"}
