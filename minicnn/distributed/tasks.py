"""Whole trainings spread over the processes of a group, by mpi4py.futures: rank 0 hands them out, and does its share.

    if group.rank > 0:
        work(group)                                             until rank 0 calls dismiss(group)
    else:
        spread(group, function, {name: arguments, ...}, tell)   the longest task first
        dismiss(group)

A task is a function of a module and arguments that can be pickled, and leaves its results in files that all ranks see. Nothing of
it is undone when another one fails.
"""

from collections import deque
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import ExitStack

__all__ = ["spread", "work", "dismiss"]

_LOOK = 0.1                     # seconds between two looks whether another rank has failed


def spread(group, function, tasks, tell):
    """Call function(*arguments) for each of {name: arguments}, as many at a time as there are processes.

    Rank 0 calls this, while the others `work`. It computes in a second thread, so that it hears at once of what ends elsewhere.

    Parameters
    ----------
    group : core.processes.Alone or MPI
    tell : function of (number of tasks that are done, name, rank), called in rank 0 after each

    Raises
    ------
    the error of the first task that fails; its text begins with the rank and the name. What runs then ends with `group.end`
    Interrupted : after a signal, in this process or another

    >>> from minicnn.core.processes import Alone
    >>> spread(Alone(), print, {"one": (1,), "two": (2,)}, print)
    1
    1 one 0
    2
    2 two 0
    """
    if group.size == 1:
        for done, (name, arguments) in enumerate(tasks.items(), 1):
            function(*arguments)
            tell(done, name, 0)
        return
    group.broadcast(True)
    with ExitStack() as stack:
        pool, own = stack.enter_context(group.executor()), ThreadPoolExecutor(1)
        waiting, running, free = deque(tasks.items()), {}, [own, *[pool] * (group.size - 1)]
        try:
            while waiting or running:
                while waiting and free:
                    place, (name, arguments) = free.pop(), waiting.popleft()
                    running[place.submit(_attempt, function, arguments)] = place, name
                for future in wait(running, _LOOK, FIRST_COMPLETED).done:
                    place, name = running.pop(future)
                    rank, failure = future.result()
                    if failure is not None:
                        raise group.failure(rank, name, *failure)
                    free.append(place)
                    tell(len(tasks) - len(waiting) - len(running), name, rank)
                group.heed()
        except BaseException:
            stack.pop_all()             # leaving the executor would wait for all that runs
            raise


def work(group, order=None):
    """Do what rank 0 hands out, until it dismisses this process; `order` is what it has broadcast already."""
    while group.broadcast() if order is None else order:
        order = None
        with group.executor():
            pass                        # mpi4py has served rank 0 when it enters the block


def dismiss(group):
    """Let the other processes go, which `work`; rank 0 calls this."""
    group.broadcast(False)


def _attempt(function, arguments):
    """Call function(*arguments); return this rank, and None or (class, text, number of a signal) of an error."""
    from mpi4py.MPI import COMM_WORLD

    try:
        function(*arguments)
    except (Exception, KeyboardInterrupt) as error:
        return COMM_WORLD.rank, (type(error).__name__, str(error), getattr(error, "number", None))
    return COMM_WORLD.rank, None
