"""Where a fit may lay down what it has reached, so that another process can go on from there."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from solvar.files import Shelf


class Workspace(Protocol):
    """A place for checkpoints and large temporary files.

    Content is made of dict, list, tuple, numpy arrays, numbers, strings, None, and the dataclasses of the
    fit; it comes back as it was, to the last bit.

    Attributes
    ----------
    scratch : path
        Folder of temporary files.
    """

    scratch: Path

    def load(self, name: str, shelf: Shelf) -> Any | None:
        """What was kept under `name`, large arrays on a shelf; None if nothing was."""

    def save(self, name: str, content: Any) -> None:
        """Keep what a finished step found, in place of what `keep` laid down on the way to it."""

    def keep(self, name: str, content: Callable[[], Any], *, always: bool = False) -> None:
        """Keep how far the step `name` has come, unless that was done a moment ago."""


class NoWorkspace:
    """Forgets everything; implements `Workspace`."""

    def __init__(self) -> None:
        self.scratch = Path(tempfile.gettempdir())

    def load(self, name: str, shelf: Shelf) -> Any | None:
        """See `Workspace`."""
        return None

    def save(self, name: str, content: Any) -> None:
        """See `Workspace`."""

    def keep(self, name: str, content: Callable[[], Any], *, always: bool = False) -> None:
        """See `Workspace`."""
