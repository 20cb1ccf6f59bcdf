"""The right to write in the run folder, shared by the threads of the viewer.

A process holds a folder's lock once. A reconstruction keeps it for minutes, and meanwhile selections are
saved; other commands are refused until both are done.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

from solvar.errors import InputError
from solvar.files import OwnedFolder, owned
from solvar.volumes.folder import remove_unfinished


class SharedFolder:
    """A folder that this process owns while any of its threads writes there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mutex = threading.Lock()
        self._held = ExitStack()
        self._own: OwnedFolder | None = None
        self._users = 0

    @contextmanager
    def writing(self) -> Iterator[OwnedFolder]:
        """Own the folder, together with other threads.

        Raises
        ------
        InputError
            If another process writes there, or the folder cannot be written to.
        """
        with self._mutex:
            if self._own is None:
                self._own = self._acquired()
            own = self._own
            self._users += 1
        try:
            yield own
        finally:
            with self._mutex:
                self._users -= 1
                if not self._users:
                    self._own = None
                    self._held.close()

    def _acquired(self) -> OwnedFolder:
        try:
            own = self._held.enter_context(owned(self._folder, "solvar view"))
            remove_unfinished(own)
            return own
        except BaseException as error:
            self._held.close()
            if isinstance(error, InputError):
                # who looks at a page has no --output to choose
                raise InputError(error.problem, file=error.file) from error
            raise


def shared_folder(folder: Path) -> SharedFolder:
    """The one `SharedFolder` of a folder in this process."""
    return _shared(Path(folder).resolve())


@cache
def _shared(folder: Path) -> SharedFolder:
    return SharedFolder(folder)
