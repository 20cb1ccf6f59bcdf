"""Large arrays that leave memory while nobody looks at them.

They are mapped from files without names: whoever looks at one finds it in memory again, and nothing but the
resident memory of the process changes. What is written goes through the file and not the mapping: a full disk
is an error and no signal.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from solvar.errors import SolvarError

T = TypeVar("T", bound=np.generic)

# bytes; smaller arrays stay in memory
LEAST = 32 << 20
_PIECE = 64 << 20


class Shelf:
    """Keeps arrays in files, or in memory where it has no folder.

    Parameters
    ----------
    folder : path, optional
    least : int
        Bytes from which an array goes to a file.
    """

    def __init__(self, folder: Path | None = None, least: int = LEAST) -> None:
        self._folder, self._least = folder, least
        self._kept: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()
        self._lock = threading.Lock()

    def keep(self, array: NDArray[T]) -> NDArray[T]:
        """The same values, not to be written to; the array itself where it stays in memory."""
        if self._folder is None or array.nbytes < self._least or _mapping(array) is not None:
            return array
        pile = Pile(array.shape, array.dtype.type, self._folder, self._noted)
        pile.put(array)
        return pile.whole()

    def pile(self, shape: tuple[int, ...], dtype: type[T]) -> Pile[T]:
        """Room for an array that comes in pieces."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return Pile(shape, dtype, None if size < self._least else self._folder, self._noted)

    def _noted(self, mapping: mmap.mmap) -> None:
        with self._lock:
            self._kept.add(mapping)

    def rest(self) -> None:
        """All that is kept in files leaves memory until somebody looks at it."""
        with self._lock:
            for mapping in self._kept:
                _leave(mapping)


class Pile(Generic[T]):
    """An array whose rows come in pieces: in memory, or in a file where it has a folder.

    Parameters
    ----------
    shape : tuple of int
    dtype : type
    folder : path or None
    noted : callable
        Told of the mapping of the file.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: type[T],
        folder: Path | None,
        noted: Callable[[mmap.mmap], None],
    ) -> None:
        self._shape, self._dtype, self._folder, self._noted = shape, dtype, folder, noted
        self._rows, self._room, self._file = 0, np.empty(0 if folder else shape, dtype), None
        if folder is not None:
            with self._fitting():
                # open until `whole`
                self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115

    def put(self, piece: NDArray[T]) -> None:
        """Add the next rows."""
        if self._file is None:
            self._room[self._rows : self._rows + len(piece)] = piece
            self._rows += len(piece)
            return
        content = np.ascontiguousarray(piece).view(np.uint8).reshape(-1).data
        with self._fitting():
            written = 0
            while written < len(content):
                part = content[written : written + _PIECE]
                written += os.write(self._file.fileno(), part)

    def whole(self) -> NDArray[T]:
        """All of it, in a file not to be written to."""
        if self._file is None:
            return self._room
        with self._file, self._fitting():
            mapping = mmap.mmap(self._file.fileno(), self._size, access=mmap.ACCESS_READ)
        self._noted(mapping)
        return np.frombuffer(mapping, self._dtype).reshape(self._shape)

    @property
    def _size(self) -> int:
        return int(np.prod(self._shape)) * np.dtype(self._dtype).itemsize

    @contextmanager
    def _fitting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SolvarError(
                f"{self._folder} cannot take {self._size / 2**30:.1f} GiB of the model under way "
                f"({error.strerror}); free some space or name another folder with --scratch"
            ) from error


def rest(array: NDArray[Any]) -> None:
    """An array that a shelf keeps in a file leaves memory until somebody looks at it; others stay."""
    mapping = _mapping(array)
    if mapping is not None:
        _leave(mapping)


def _mapping(array: Any) -> mmap.mmap | None:
    """The mapped file that an array is a view of."""
    while isinstance(array, np.ndarray):
        array = array.base
    if isinstance(array, memoryview):
        array = array.obj
    return array if isinstance(array, mmap.mmap) else None


def _leave(mapping: mmap.mmap) -> None:
    if hasattr(mmap, "MADV_DONTNEED"):
        # the pages are those of the file, which still has them
        mapping.madvise(mmap.MADV_DONTNEED)
