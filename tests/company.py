"""Several processes in one: threads that take turns and meet where processes sum.

For parts of a fit: up to Python 3.11 no two threads can be in a `cached_property`, as where whole fits sum.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from solvar.parallel import Array, OneProcess, Processes

T = TypeVar("T")

# seconds after which who is alone in a sum gives up
_PATIENCE = 60


class Room:
    """Where members of a company of some size meet; one of them works at a time."""

    def __init__(self, size: int) -> None:
        self.size, self.turn = size, threading.Lock()
        self.everybody = threading.Barrier(size, timeout=_PATIENCE)
        self.brought: dict[int, np.ndarray] = {}


class Member(OneProcess):
    """One process of a company; knows the size of the largest array that it has summed, bytes."""

    def __init__(self, rank: int, room: Room) -> None:
        self.rank, self.size, self._room, self.largest = rank, room.size, room, 0

    def sum(self, values: Array) -> Array:
        """See `Processes`."""
        self.largest = max(self.largest, np.asarray(values).nbytes)
        room = self._room
        room.brought[self.rank] = values
        room.turn.release()
        try:
            room.everybody.wait()
            total = sum(np.asarray(room.brought[rank]) for rank in range(self.size))
            room.everybody.wait()
        finally:
            room.turn.acquire()
        return total  # type: ignore[return-value]

    def wait(self) -> None:
        """See `Processes`."""
        self.sum(np.zeros(1))


def together(size: int, work: Callable[[Processes], T]) -> list[T]:
    """What each process of a company of some size makes of a piece of work."""
    room, failures = Room(size), list[BaseException]()

    def alone(rank: int) -> T:
        with room.turn:
            try:
                return work(Member(rank, room))
            except BaseException as error:
                failures.append(error)
                room.everybody.abort()
                raise

    with ThreadPoolExecutor(size) as threads:
        found = [threads.submit(alone, rank) for rank in range(size)]
    # the others fail because one has
    for error in failures[:1]:
        raise error
    return [each.result() for each in found]
