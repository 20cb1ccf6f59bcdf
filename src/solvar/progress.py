"""How long steps report to whoever is watching: silent unless a call is given a `Progress`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol


class Step(Protocol):
    """One long step that is under way."""

    def advance(self, amount: int = 1) -> None:
        """Count `amount` more units as done."""

    def note(self, text: str) -> None:
        """Show a short remark beside the step (a band, a likelihood)."""


class Progress(Protocol):
    """Where long steps announce themselves; the command line draws bars, others what they like.

    What one of these functions cannot write is lost and ends nothing (`harmless`).
    """

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


def harmless(progress: Progress | None) -> Progress:
    """`progress` made unable to end what it watches; silence if there is none.

    A closed stream, a full disk or an encoding without σ (OSError, ValueError) loses that line and nothing
    else. Other exceptions pass: whoever watches may want to stop the work.
    """
    if progress is None:
        return SilentProgress()
    return progress if isinstance(progress, HarmlessProgress) else HarmlessProgress(progress)


class HarmlessProgress:
    """See `harmless`."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    @contextmanager
    def step(self, name: str, total: int, unit: str = "particles") -> Iterator[Step]:
        context = _attempt(self._progress.step, name, total, unit)
        step = _attempt(context.__enter__) if context is not None else None
        ended: tuple[Any, Any, Any] = (None, None, None)
        try:
            yield _HarmlessStep(step or _SilentStep())
        except BaseException:
            ended = sys.exc_info()
            raise
        finally:
            if step is not None:
                _attempt(context.__exit__, *ended)

    def message(self, text: str) -> None:
        _attempt(self._progress.message, text)


class _HarmlessStep:
    def __init__(self, step: Step) -> None:
        self._step = step

    def advance(self, amount: int = 1) -> None:
        _attempt(self._step.advance, amount)

    def note(self, text: str) -> None:
        _attempt(self._step.note, text)


def _attempt(tell: Callable[..., Any], *words: Any) -> Any:
    """What `tell` returns; None if it could not be written."""
    try:
        return tell(*words)
    except (OSError, ValueError):
        return None
