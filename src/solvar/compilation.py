"""Loops compiled by numba, and where the compiled code is kept from one run to the next.

Compiled code is kept as pickles, which are programs to whoever reads them. It is therefore read only from
where solvar itself is installed, from the folder that NUMBA_CACHE_DIR names, or from a folder below the
user's own cache that nobody else can have prepared. Where none of these can be written, code is compiled
anew in each process and kept in memory alone. A disk that is full or a damaged file costs a compilation,
nothing else.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
from numba.core.caching import Cache, CompileResultCacheImpl

_OPTIONS = {"nogil": True, "fastmath": True, "boundscheck": False, "error_model": "numpy"}


def compiled(*parts: ModuleType) -> Callable[[Callable[..., None]], Any]:
    """Decorator: compile a loop when it is first called, or read what an earlier process compiled.

    Parameters
    ----------
    *parts : module
        Modules whose functions and constants become part of the compiled code: a change in them, as in the
        loop's own file, asks for a new compilation.
    """

    def decorate(function: Callable[..., None]) -> Any:
        dispatcher = numba.njit(**_OPTIONS)(function)
        file = Path(function.__code__.co_filename)
        folder = kept_in(file)
        if folder is not None:
            stamp = _digest([file, *(Path(str(part.__file__)) for part in parts)])
            # as numba's own `enable_caching`, which knows other folders
            dispatcher._cache = _cache_of(folder, stamp)(function)
        return dispatcher

    return decorate


def kept_in(file: Path) -> Path | None:
    """Where compiled code of a source file is kept; None if there is no safe place that can be written."""
    name = f"{file.parent.name}_{hashlib.sha256(os.fsencode(file.parent)).hexdigest()[:40]}"
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen and _writable(Path(chosen) / name):
        return Path(chosen) / name
    beside = file.parent / "__pycache__"
    if _writable(beside):
        return beside
    # relative without HOME and without an entry for the user; that would be a folder of anybody's
    own = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(own) / "solvar" / name
    return folder if os.path.isabs(own) and _writable(folder) and _private(folder) else None


def _writable(folder: Path) -> bool:
    """Whether files can be made in a folder, which is made if need be."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


def _private(folder: Path) -> bool:
    """Whether no other user can have put files into a folder, or the folder into its place."""
    # who owns the root of the tree, by whatever number a container shows it, can do everything anyway
    trusted = {os.geteuid(), os.stat("/").st_uid}
    folder = folder.resolve()
    for place in (folder, *folder.parents):
        found = place.stat()
        # in a sticky folder such as /tmp nobody can replace what is another's
        sticky = place != folder and found.st_mode & stat.S_ISVTX
        if found.st_uid not in trusted or (found.st_mode & stat.S_IWOTH and not sticky):
            return False
    return True


def _digest(files: list[Path]) -> str:
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def _cache_of(folder: Path, stamp: str) -> type[Cache]:
    """numba's cache on disk with a folder and a stamp of ours."""

    class Locator:
        """Where numba finds the code of a function; duck-typed, numba's own differ between versions."""

        def __init__(self, line: int) -> None:
            self._line = line

        @classmethod
        def from_function(cls, function: Any, file: str) -> Locator:
            return cls(function.__code__.co_firstlineno)

        def ensure_cache_path(self) -> None:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

        def get_cache_path(self) -> str:
            return str(folder)

        def get_source_stamp(self) -> str:
            return stamp

        def get_disambiguator(self) -> str:
            return str(self._line)

    class Results(CompileResultCacheImpl):
        _locator_classes = [Locator]  # noqa: RUF012 - as numba spells it

    class Forgiving(_Forgiving):
        _impl_class = Results

    return Forgiving


class _Forgiving(Cache):
    """A cache on disk whose failures cost a compilation."""

    def load_overload(self, signature: Any, target: Any) -> Any:
        try:
            return super().load_overload(signature, target)
        except Exception:  # a damaged pickle raises whatever it likes
            self._forget()
            return None

    def save_overload(self, signature: Any, result: Any) -> None:
        try:
            super().save_overload(signature, result)
        except OSError:
            # the index may by now name a file that holds older code
            self._forget()

    def _forget(self) -> None:
        with suppress(OSError):
            os.unlink(self._cache_file._index_path)
