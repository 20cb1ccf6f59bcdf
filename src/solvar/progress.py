"""How long steps report to whoever is watching: silent unless a call is given a `Progress`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Step(Protocol):
    """One long step that is under way."""

    def advance(self, amount: int = 1) -> None:
        """Count `amount` more units as done."""

    def note(self, text: str) -> None:
        """Show a short remark beside the step (a level, a residual)."""


class Progress(Protocol):
    """Where long steps announce themselves; the command line draws bars, others what they like."""

    def step(self, name: str, total: int, unit: str = "particles") -> AbstractContextManager[Step]:
        """Announce a step of `total` units; leaving the context ends it."""

    def message(self, text: str) -> None:
        """Tell one thing that is worth knowing, such as a compilation that takes seconds."""


class _SilentStep:
    def advance(self, amount: int = 1) -> None: ...

    def note(self, text: str) -> None: ...


class SilentProgress:
    """The default: says nothing."""

    @contextmanager
    def step(self, name: str, total: int, unit: str = "particles") -> Iterator[Step]:
        yield _SilentStep()

    def message(self, text: str) -> None: ...
