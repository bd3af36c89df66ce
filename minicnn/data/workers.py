"""Worker threads that compute results ahead and hand them out in order."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor

__all__ = ["in_order"]


def in_order(function, items, workers, ahead, name, initializer=None):
    """Yield function(item) for each item, in order, computed by threads, or on demand without workers.

    An error is raised at the position of its item. Closing the generator ends the threads.

    Parameters
    ----------
    ahead : int; the number of items computed, or waiting for a thread, beyond the current one
    name : str, of the threads
    initializer : function that each thread calls first, optional

    >>> list(in_order(abs, [-2, 3, -1], workers=2, ahead=1, name="abs"))
    [2, 3, 1]
    """
    if not workers:
        yield from map(function, items)
        return
    pending = deque()
    pool = ThreadPoolExecutor(workers, name, initializer)
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
