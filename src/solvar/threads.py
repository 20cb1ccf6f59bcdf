"""A team of threads for compiled loops and matrix products that release the GIL."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

from solvar.machine import available_cores
from solvar.parallel import processes_here

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")

# enough pieces that all threads end together, each of so many numbers that handing it out costs nothing
_PIECES_A_THREAD, _FEWEST_NUMBERS = 16, 1 << 15


def prefetched(load: Callable[[Item], Loaded], items: Sequence[Item]) -> Iterator[Loaded]:
    """load(item) for every item, the next one under way on a thread while the caller uses this one."""
    if not items:
        return
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(load, items[0])
        for item in items[1:]:
            ready = coming.result()
            coming = reader.submit(load, item)
            yield ready
        yield coming.result()


class ThreadTeam:
    """Runs a function over ranges of a count on a fixed number of threads.

    As a context it also keeps BLAS to one thread a call: BLAS workers spin for milliseconds after
    each product and would take the cores from this team, which runs products side by side instead.

    Parameters
    ----------
    size : int, optional
        Number of threads; default: all available cores, shared with the job's other processes here.
    """

    def __init__(self, size: int | None = None) -> None:
        self.size = size or max(1, available_cores() // processes_here())
        self._pool = ThreadPoolExecutor(self.size) if self.size > 1 else None

    def __enter__(self) -> ThreadTeam:
        from threadpoolctl import threadpool_limits

        self._limits = threadpool_limits(1, user_api="blas")
        return self

    def __exit__(self, *exception: object) -> None:
        self._limits.restore_original_limits()
        if self._pool is not None:
            self._pool.shutdown()

    def over_ranges(self, count: int, step: int, function: Callable[[int, int], None]) -> None:
        """Call function(first, last) for ranges of at most `step` that cover 0 … count.

        The calling thread takes its share. Whoever is free takes the next range, which costs next to nothing.
        """
        ranges = [(first, min(first + step, count)) for first in range(0, count, step)]
        coming = iter(ranges)

        def work() -> None:
            for first, last in coming:
                function(first, last)

        others = range(1, min(self.size, len(ranges)))
        tasks = [self._pool.submit(work) for _ in others] if self._pool else []
        try:
            work()
        finally:
            # nobody begins another range after an error, and nobody works on after this call
            for _ in coming:
                pass
            started = [task for task in tasks if not task.cancel()]
            wait(started)
        for task in started:
            task.result()

    def over_items(self, count: int, size: int, function: Callable[[int, int], None]) -> None:
        """`over_ranges` in pieces that keep all threads busy: for results that do not depend on the pieces.

        An item is work on so many numbers: pieces of little work are not handed out.
        """
        each = max(-(-count // (_PIECES_A_THREAD * self.size)), -(-_FEWEST_NUMBERS // max(1, size)))
        self.over_ranges(count, each, function)

    def mapped(self, function: Callable[[Item], Loaded], items: Iterable[Item]) -> Iterator[Loaded]:
        """function(item) for every item in order, as many at once as there are threads.

        Items are taken by the calling thread, when there is a thread for them or about to be one.
        """
        if self._pool is None:
            yield from map(function, items)
            return
        coming = deque[Future[Loaded]]()
        for item in items:
            if len(coming) > self.size:
                yield coming.popleft().result()
            coming.append(self._pool.submit(function, item))
        while coming:
            yield coming.popleft().result()
