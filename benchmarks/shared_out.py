"""What of a job its team of threads shares out, by the CPU clock of one thread: right on a busy machine, too.

`Account` watches a job that runs on one thread and keeps, for each of its steps, the seconds outside and
inside of what a team would share out, and in how many tasks. `model` says what that is worth on more threads:
time outside stays, a call of m tasks takes ⌈m/n⌉/m of its time on n threads. Bandwidth of the memory, the
interpreter's lock and uneven tasks are left out of it.
"""

from __future__ import annotations

import functools
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import scipy.fft

from solvar.threads import ThreadTeam

_MANY = 1 << 10
_TRANSFORMS = ("rfft2", "irfft2", "rfftn", "irfftn")


class Account:
    """CPU seconds of the steps of a job, while it is entered."""

    def __init__(self) -> None:
        self.step, self._inside = "start", False
        self.outside: dict[str, float] = defaultdict(float)
        self.shared: dict[str, Counter[int]] = defaultdict(Counter)
        self._seen = time.thread_time()

    @contextmanager
    def watching(self) -> Iterator[Account]:
        """Account for what this thread does."""
        ranges, mapped = ThreadTeam.over_ranges, ThreadTeam.mapped
        before = {name: getattr(scipy.fft, name) for name in _TRANSFORMS}

        def over_ranges(team: Any, count: int, step: int, function: Any) -> None:
            # slabs of a lattice: as many as there are threads
            tasks = _MANY if count == team.size else -(-count // step)
            with self._sharing(tasks):
                ranges(team, count, step, function)

        def mapped_at_once(team: Any, function: Any, items: Any) -> Iterator[Any]:
            items = list(items)
            with self._sharing(len(items)):
                found = list(mapped(team, function, items))
            return iter(found)

        def transform(function: Any, *given: Any, **options: Any) -> Any:
            if "workers" not in options:
                return function(*given, **options)
            # pocketfft shares out lines: many more than there are threads
            with self._sharing(_MANY):
                return function(*given, **options)

        ThreadTeam.over_ranges, ThreadTeam.mapped = over_ranges, mapped_at_once  # type: ignore
        for name, function in before.items():
            setattr(scipy.fft, name, functools.partial(transform, function))
        self._seen = time.thread_time()
        try:
            yield self
        finally:
            self.turn_to("end")
            ThreadTeam.over_ranges, ThreadTeam.mapped = ranges, mapped  # type: ignore
            for name, function in before.items():
                setattr(scipy.fft, name, function)

    def timed(self, step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function that is accounted for as a step of its own."""

        @functools.wraps(function)
        def run(*given: Any, **options: Any) -> Any:
            before = self.step
            self.turn_to(step)
            try:
                return function(*given, **options)
            finally:
                self.turn_to(before)

        return run

    def turn_to(self, step: str) -> None:
        """What follows belongs to another step."""
        self.outside[self.step] += self._passed()
        self.step = step

    def _passed(self) -> float:
        before, self._seen = self._seen, time.thread_time()
        return self._seen - before

    @contextmanager
    def _sharing(self, tasks: int) -> Iterator[None]:
        if self._inside:
            yield
            return
        self.outside[self.step] += self._passed()
        self._inside = True
        try:
            yield
        finally:
            self._inside = False
            self.shared[self.step][max(tasks, 1)] += self._passed()  # type: ignore

    def seconds(self, step: str) -> tuple[float, float]:
        """Outside and inside of what is shared out."""
        return self.outside[step], sum(self.shared[step].values())

    def model(self, steps: list[str], threads: int) -> float:
        """Seconds of some steps on so many threads."""
        total = sum(self.outside[step] for step in steps)
        for step in steps:
            for tasks, seconds in self.shared[step].items():
                total += seconds * math.ceil(tasks / threads) / tasks
        return total
