"""A team of threads for compiled loops that release the GIL."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


def available_cores() -> int:
    """Number of cores this process may use (a container or batch system may allow fewer than exist)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class ThreadTeam:
    """Runs a function over ranges of a count on a fixed number of threads.

    Parameters
    ----------
    size : int, optional
        Number of threads; default: all available cores.
    """

    def __init__(self, size: int | None = None) -> None:
        self.size = size or available_cores()
        self._pool = ThreadPoolExecutor(self.size) if self.size > 1 else None

    def over_ranges(self, count: int, step: int, function: Callable[[int, int], None]) -> None:
        """Call function(first, last) for consecutive ranges of at most `step` that cover 0 … count."""
        ranges = [(first, min(first + step, count)) for first in range(0, count, step)]
        if self._pool is None or len(ranges) == 1:
            for first, last in ranges:
                function(first, last)
            return
        for task in [self._pool.submit(function, *r) for r in ranges]:
            task.result()
