"""The queue and the pool: every unit done once, by whoever is free; exceptions, late helpers, forks and spawns.

A kernel may be a Python function. Here it often is one, because it can wait: then nothing is left to luck.
"""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numba.core.compiler_lock import global_compiler_lock

from minicnn import Sequential, kernels
from minicnn.core.pool import Pool
from minicnn.errors import InputError
from minicnn.kernels.runtime import threads, work_queue
from minicnn.kernels.runtime.jit import kernel
from minicnn.kernels.runtime.work_queue import COUNT, LANE, LANES, LOOKS, NEXT, TICKET, queue_size, leave, watch
from minicnn.layers import Conv2D, Dense, Flatten, MaxPool2D, ReLU, Sigmoid
from minicnn.layers.base import lending
from tests.support.fence import survives
from tests.support.laws import assert_same_bits
from tests.support.strategies import normals

pytestmark = pytest.mark.usefixtures("same_threads")


@kernel
def claim(queue, lane):
    """Claim a unit from Python: what kernels call is only ever inlined into them."""
    return work_queue.claim(queue, lane)


def units_of(queue, lane):
    """Claim units until there are none."""
    unit = claim(queue, lane)
    while unit >= 0:
        yield int(unit)
        unit = claim(queue, lane)


def note(seen, scratch, queue, lane):
    for unit in units_of(queue, lane):
        seen.append((unit, lane))


def assert_works(n=23):
    """The pool does each of n units once."""
    seen = []
    threads.run(note, n, seen)
    assert sorted(unit for unit, _ in seen) == list(range(n))


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    assert condition(), "waited in vain"


class Absent(Exception):
    """A helper did not come in time: it may, and the work is done without it."""


def until_all_came(work, attempts=40):
    """Return work(), which raises Absent where a helper was missing, as it may once, but not again and again."""
    for attempt in range(attempts):
        try:
            return work()
        except Absent:
            continue
    pytest.fail(f"a helper was missing {attempts} times")


def meet(barrier):
    try:
        barrier.wait(0.25)
    except threading.BrokenBarrierError:
        raise Absent from None


# ---- Units -----------------------------------------------------------------------------------------------------------

@kernel
def count_units(counts, scratch, queue, lane):
    unit = claim(queue, lane)
    while unit >= 0:
        counts[unit] += 1
        unit = claim(queue, lane)


@settings(max_examples=200)
@given(st.integers(1, 4), st.integers(0, 60))
def test_every_unit_is_done_once(count, n):
    threads.set_thread_count(count)
    assert_works(n)
    counts = np.zeros(n + 1, np.int64)
    for _ in range(20):         # one piece of work right after another: helpers are awake
        threads.run(count_units, n, counts)
    assert counts.tolist() == [20] * n + [0]


def test_each_lane_is_one_thread_and_lane_0_the_caller():
    threads.set_thread_count(3)
    seen = set()

    def work(scratch, queue, lane):
        for _ in units_of(queue, lane):
            seen.add((lane, threading.get_ident()))
    for _ in range(50):
        threads.run(work, 9)
    assert (0, threading.get_ident()) in seen
    assert len({lane for lane, _ in seen}) == len({thread for _, thread in seen}) == len(seen) <= 3


@pytest.mark.parametrize("count", [2, 3, 4])
def test_all_threads_take_part(count):
    threads.set_thread_count(count)

    def together():
        barrier, lanes = threading.Barrier(count), set()

        def work(scratch, queue, lane):
            for _ in units_of(queue, lane):
                lanes.add(lane)
                meet(barrier)           # who has a unit waits until everybody has one
        threads.run(work, count)
        return lanes
    assert until_all_came(together) == set(range(count))


def test_no_more_threads_take_part_than_there_are_units():
    threads.set_thread_count(4)
    seen = []
    for _ in range(50):
        threads.run(note, 1, seen)
    assert seen == [(0, 0)] * 50


# ---- Exceptions ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("failing", [{0}, {1}, {0, 1}])
def test_an_exception_of_any_lane_is_raised_and_the_pool_works_afterwards(failing):
    threads.set_thread_count(2)

    def together():
        barrier = threading.Barrier(2)

        def work(scratch, queue, lane):
            for i, _ in enumerate(units_of(queue, lane)):
                if i == 0:
                    meet(barrier)
                if lane in failing:
                    raise MemoryError(f"no room in lane {lane}")
        threads.run(work, 6)
    with pytest.raises(MemoryError, match=f"no room in lane {min(failing)}"):
        until_all_came(together)
    for _ in range(20):
        assert_works()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_an_exception_before_the_first_unit_is_raised(count):
    threads.set_thread_count(count)

    def work(scratch, queue, lane):
        if lane == 0:
            raise KeyboardInterrupt
    for _ in range(5):
        with pytest.raises(KeyboardInterrupt):
            threads.run(work, 6)
        assert_works()


def test_no_units_are_begun_after_an_exception():
    threads.set_thread_count(2)
    seen = []

    def work(scratch, queue, lane):
        for unit in units_of(queue, lane):
            if lane == 0:
                raise ValueError
            seen.append(unit)
            time.sleep(0.001)
    with pytest.raises(ValueError):
        threads.run(work, 10**6)
    assert len(seen) < 10**5


def test_a_large_workspace_is_lent_by_the_pool_of_the_network_that_runs():
    size, pool = threads._LARGE + 1, Pool()
    own = threads.workspace("large", size, np.float32)
    with lending(pool):
        small = [threads.workspace("small", 8, np.float32) for _ in range(2)]
        large = [threads.workspace("large", size, np.float32) for _ in range(2)]
        pool.keep([])                           # the end of the step
        assert any(np.shares_memory(pool.get((size,), np.dtype(np.float32)), array) for array in large)
    assert np.shares_memory(*small) and not np.shares_memory(*large) and not np.shares_memory(own, large[0])
    assert np.shares_memory(own, threads.workspace("large", size, np.float32))


# ---- Late helpers ----------------------------------------------------------------------------------------------------

def queue_of(units, lanes=2):
    queue = np.zeros(queue_size(lanes), np.int64)
    queue[COUNT] = units
    return queue


def test_a_helper_too_late_for_its_work_gets_nothing():
    queue = queue_of(3)
    mine = LANES + LANE
    assert [claim(queue, 0) for _ in range(4)] == [0, 1, 2, -1]        # the work is over
    queue[mine], queue[NEXT] = queue[TICKET], 0
    assert claim(queue, 1) == -1 and queue[NEXT] == 0
    queue[COUNT] = 5
    assert claim(queue, 0) == 0                                         # other work has begun
    assert claim(queue, 1) == -1 and queue[NEXT] == 1
    queue[mine] = queue[TICKET]                                         # called for this one
    assert claim(queue, 1) == 4 and claim(queue, 0) == 1


def test_a_helper_of_the_work_before_is_not_let_in_while_the_next_is_being_opened():
    queue = queue_of(3)
    assert [claim(queue, 0) for _ in range(4)] == [0, 1, 2, -1]
    before = int(queue[TICKET])
    queue[NEXT] = 0
    assert claim(queue, 0) == 0                                         # the next is open
    queue[LANES + LANE], queue[TICKET] = before, before                 # and its ticket is not seen yet
    assert claim(queue, 1) == -1
    queue[LANES + LANE] = queue[TICKET] = before + 1
    assert claim(queue, 1) == 2


@pytest.mark.parametrize("lanes", [2, 3, 4])
def test_units_are_claimed_from_both_ends(lanes):
    queue = queue_of(9, lanes)
    claimed = [[claim(queue, 0)], *[[] for _ in range(1, lanes)]]      # it opens the work
    queue[LANES + LANE::LANE] = queue[TICKET]
    for turn in range(8):
        claimed[turn % lanes].append(claim(queue, turn % lanes))
    assert sorted(sum(claimed, [])) == list(range(9))
    for lane, units in enumerate(claimed):
        assert units == sorted(units, reverse=lane % 2 == 1)
    assert [claim(queue, lane) for lane in reversed(range(lanes))] == [-1] * lanes


def test_one_unit_calls_nobody():
    queue = queue_of(1)
    assert claim(queue, 0) == 0 and queue[TICKET] == 0
    assert claim(queue, 0) == -1


def test_lane_0_leaves_last():
    queue = queue_of(9)
    claim(queue, 0)
    queue[LANES + LANE] = queue[TICKET]
    claim(queue, 1)
    leaver = threading.Thread(target=leave, args=(queue, 0))
    leaver.start()
    leaver.join(0.05)
    assert leaver.is_alive()
    leave(queue, 1)
    leaver.join(20)
    assert not leaver.is_alive()
    leave(queue, 0)                                                     # who is outside may leave again


@pytest.mark.parametrize("looks", [0, 1, 1000])
def test_watching_ends_with_new_work_or_with_patience(looks):
    queue = queue_of(0)
    queue[TICKET], queue[LOOKS] = 7, looks
    assert watch(queue, 6) and not watch(queue, 7)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not say on which cores a thread may run")
def test_a_helper_is_woken_on_another_core_and_may_go_anywhere_then():
    threads.set_thread_count(2)
    assert_works()
    helper, = threads._pool.helpers
    wait_until(lambda: threads._pool.asleep)
    kept = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "_keep_to", lambda thread, cores: kept.append((thread, set(cores))))
        assert_works()
        wait_until(lambda: len(kept) > 1 or len(os.sched_getaffinity(0)) == 1)
    allowed = os.sched_getaffinity(0)
    if len(allowed) > 1:
        (thread, cores), (own, anywhere), *_ = kept
        assert thread == helper.native_id and cores < allowed and own == 0 and anywhere == allowed


@pytest.mark.skipif(threads.available_cores() < 2, reason="helpers do not wait where there are more threads than cores")
def test_a_helper_that_is_about_to_sleep_joins_the_work_that_comes():
    threads.set_thread_count(2)
    assert_works()
    pool, about, both = threads._pool, threading.Event(), threading.Barrier(2)
    wait_until(lambda: pool.asleep)

    class Late(list):
        """The work comes after the last look for it, and before the helper is on the list of those to be woken."""

        def append(self, lane):
            about.set()
            wait_until(lambda: pool.job is not threads._NO_JOB)
            super().append(lane)

    def work(scratch, queue, lane):
        for _ in units_of(queue, lane):
            both.wait(20)
    pool.asleep = Late(pool.asleep)
    assert_works()                      # it wakes, and soon is about to sleep again
    about.wait(20)
    threads.run(work, 2)
    assert not both.broken


@pytest.mark.parametrize("other_work_runs", [False, True])
def test_a_helper_that_wakes_after_the_work_writes_nothing(other_work_runs):
    threads.set_thread_count(2)

    def together():
        entered, go, done, out = threading.Event(), threading.Event(), threading.Event(), np.full(5, -1)

        def work(scratch, queue, lane):
            if lane == 1:
                entered.set()
                go.wait(20)
            for unit in units_of(queue, lane):
                if lane == 0 and not entered.wait(0.25):
                    raise Absent
                out[unit] = lane
            if lane == 1:
                done.set()
        threads.run(work, 5)
        assert (out == 0).all()
        out[:] = -1
        if other_work_runs:
            seen = []

            def other(scratch, queue, lane):
                for unit in units_of(queue, lane):
                    seen.append(unit)
                    go.set()
                    assert done.wait(20)        # the late one looks for units while there are some, of other work
            threads.run(other, 3)
            assert sorted(seen) == [0, 1, 2]
        go.set()
        assert done.wait(20) and (out == -1).all()
    until_all_came(together)
    assert_works()


# ---- Threads of the user ---------------------------------------------------------------------------------------------

def small_model(seed=3):
    return Sequential([Conv2D(16, 3), ReLU(), MaxPool2D(2), Conv2D(16, 3), ReLU(), MaxPool2D(2), Flatten(), Dense(8),
                       ReLU(), Dense(1), Sigmoid()], input_shape=(18, 18, 3), seed=seed)


def in_threads(count, work):
    """Run work(i) in threads at once; raise what any of them raised."""
    failures = []

    def safely(i):
        try:
            work(i)
        except BaseException as failure:
            failures.append(failure)
    started = [threading.Thread(target=safely, args=(i,)) for i in range(count)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    if failures:
        raise failures[0]


@pytest.mark.parametrize("shared_by_all", [True, False])
def test_four_threads_predict_at_once(shared_by_all):
    threads.set_thread_count(2)
    model = small_model()
    x = [np.abs(normals(i, (9, 18, 18, 3), np.float32)) for i in range(4)]
    expected = [model.predict(batch) for batch in x]
    models = [model] * 4 if shared_by_all else [small_model() for _ in x]

    def predict(i):
        for _ in range(20):
            assert_same_bits(models[i].predict(x[i], batch_size=4), expected[i])
    in_threads(4, predict)


def test_the_number_of_threads_changes_only_between_two_pieces_of_work():
    threads.set_thread_count(2)
    seen, others = [], []

    def work(scratch, queue, lane):
        for unit in units_of(queue, lane):
            seen.append(unit)
            if unit == 0:
                others.append(threading.Thread(target=threads.set_thread_count, args=(3,)))
                others[0].start()
                others[0].join(0.05)
                assert others[0].is_alive() and threads.thread_count() == 2
    threads.run(work, 50)
    assert sorted(seen) == list(range(50))
    others[0].join(20)
    assert threads.thread_count() == 3
    assert_works()


def test_the_number_of_threads_may_change_at_any_time():
    x = normals(0, (40_000,), np.float32)
    expected = np.maximum(x, 0)

    def change(i):
        for n in range(60):
            if i == 0:
                threads.set_thread_count(1 + n % 4)
            else:
                y = np.full_like(x, np.nan)
                kernels.relu(x, y)
                assert_same_bits(y, expected)
    in_threads(3, change)


def helpers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("minicnn-")]


COUNTED = """
import os, sys
sys.path.insert(0, {root!r})
from tests.kernels.runtime.test_work_queue import assert_works, helpers, threads, wait_until

def tasks():
    # Python's and others, where the system says it
    return len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 1 + len(helpers())

threads.set_thread_count(1)
assert_works()
alone = tasks()
for count in (4, 2, 3, 1, 2):
    threads.set_thread_count(count)
    assert_works()
    wait_until(lambda: len(helpers()) == count - 1 == tasks() - alone)       # those of before end soon
print("so many")
"""


def in_a_process(code, path):
    """Return what Python code prints in a process of its own; its imports find the tests."""
    path.write_text(code.format(root=str(Path(__file__).parents[3])))
    done = subprocess.run([sys.executable, str(path)], text=True, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_there_are_no_more_threads_than_asked_for(tmp_path):
    """In a process where no other library starts or ends threads meanwhile."""
    assert_works()                      # compiled and kept
    assert in_a_process(COUNTED, tmp_path / "script.py") == "so many\n"


@pytest.mark.parametrize("count", [0, -1, 257, "many", None])
def test_the_number_of_threads_is_checked(count):
    with pytest.raises(InputError, match="threads: expected a number of threads from 1 to 256, got"):
        threads.set_thread_count(count)


def test_the_number_of_threads_of_the_environment_is_checked(monkeypatch):
    for name, count in (("NUMBA_NUM_THREADS", 2), ("MINICNN_THREADS", 3)):      # joblib sets the first in its processes; ours is before it
        monkeypatch.setattr(threads, "_count", None)
        monkeypatch.delenv("MINICNN_THREADS", raising=False)
        monkeypatch.setenv(name, str(count))
        assert threads.thread_count() == count
    monkeypatch.setattr(threads, "_count", None)
    monkeypatch.setenv("MINICNN_THREADS", "all")
    with pytest.raises(InputError, match="MINICNN_THREADS: expected a number of threads from 1 to 256, got 'all'"):
        threads.thread_count()


# ---- Other processes -------------------------------------------------------------------------------------------------

def convolution():
    x, w, b = normals(0, (8, 9, 9, 3), np.float32), normals(1, (3, 3, 3, 16), np.float32), np.ones(16, np.float32)
    y = np.full((8, 7, 7, 16), np.nan, np.float32)
    kernels.conv2d(x, w, b, (1, 1), (0, 0, 0, 0), y)
    return y


def test_a_forked_child_computes_with_threads_of_its_own(tmp_path):
    threads.set_thread_count(2)
    expected = convolution()            # the pool has threads now; a child inherits its memory, not them

    def work(say):
        assert helpers() == []
        assert_same_bits(convolution(), expected)
        assert_works()
        assert len(helpers()) == 1
    alive, said = survives(work, tmp_path / "log")
    assert alive, said
    assert_same_bits(convolution(), expected)


def test_a_child_forked_while_work_runs_is_not_locked_out(tmp_path):
    threads.set_thread_count(2)
    results = []

    def work(scratch, queue, lane):
        for unit in units_of(queue, lane):
            if lane == 0 and not results:
                results.append(survives(lambda say: assert_works(), tmp_path / "log"))
    threads.run(work, 2)
    assert results[0][0], results[0][1]


def test_a_child_forked_while_another_thread_compiles_can_compile(tmp_path):
    held = threading.Event()

    def compile_something():
        with global_compiler_lock:
            held.set()
            time.sleep(0.3)
    thread = threading.Thread(target=compile_something)
    thread.start(), held.wait()
    alive, said = survives(lambda say: global_compiler_lock._lock.acquire(timeout=10) or 1 / 0, tmp_path / "log")
    thread.join()
    assert alive, said


SPAWN = """
import multiprocessing, sys
sys.path.insert(0, {root!r})
from tests.kernels.runtime.test_work_queue import convolution, threads

if __name__ == "__main__":
    threads.set_thread_count(2)
    expected = convolution()
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        results = [pool.apply_async(convolution) for _ in range(4)]
        assert all((result.get(100) == expected).all() for result in results)
    print("the same")
"""


def test_spawned_processes_compute_the_same(tmp_path):
    convolution()                       # compiled and kept
    assert in_a_process(SPAWN, tmp_path / "script.py") == "the same\n"


# ---- Workspaces ------------------------------------------------------------------------------------------------------

def test_a_workspace_belongs_to_one_thread_under_one_name():
    mine = threads.workspace("test", (3, 4), np.float32)
    assert threads.workspace("test", (3, 4), np.float32).ctypes.data == mine.ctypes.data
    assert threads.workspace("test", 12, np.float32).ctypes.data == mine.ctypes.data
    assert not np.shares_memory(threads.workspace("other", 12, np.float32), mine)
    theirs = []
    in_threads(1, lambda i: theirs.append(threads.workspace("test", (3, 4), np.float32)))
    assert not np.shares_memory(theirs[0], mine)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scratch_has_room_and_begins_on_a_line_for_every_lane(count, dtype):
    threads.set_thread_count(count)
    for size in (0, 1, 15, 16, 17, 1000):
        shapes = []

        def work(integers, scratch, queue, lane):
            shapes.append((integers.shape, scratch.shape, integers.dtype, scratch.dtype))
            for row in (*integers, *scratch):
                assert row.ctypes.data % 64 == 0
            for _ in units_of(queue, lane):
                pass
        threads.run(work, 4, scratch=size, dtype=dtype, integers=size + 1)
        integers, scratch, *dtypes = shapes[0]
        assert dtypes == [np.int64, dtype]
        assert integers[0] == scratch[0] == count and integers[1] > size and scratch[1] >= max(size, 1)


def held(buffers):
    """Return how many bytes are held."""
    return sum(array.nbytes for array in buffers._arrays.values())


def test_workspaces_do_not_grow_with_use():
    threads.set_thread_count(2)
    convolution()
    before = held(threads._own.buffers)
    for _ in range(20):
        convolution()
    assert held(threads._own.buffers) == before > 0
