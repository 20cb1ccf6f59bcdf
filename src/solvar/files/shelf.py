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
from pathlib import Path
from typing import Any, TypeVar

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
        mapping = _mapped(array, self._folder)
        with self._lock:
            self._kept.add(mapping)
        return np.frombuffer(mapping, array.dtype).reshape(array.shape)

    def rest(self) -> None:
        """All that is kept in files leaves memory until somebody looks at it."""
        with self._lock:
            for mapping in self._kept:
                _leave(mapping)


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


def _mapped(array: NDArray[Any], folder: Path) -> mmap.mmap:
    """The bytes of an array, in a file that nobody else can find."""
    content = np.ascontiguousarray(array).view(np.uint8).reshape(-1).data
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            written = 0
            while written < len(content):
                written += os.write(file.fileno(), content[written : written + _PIECE])
            return mmap.mmap(file.fileno(), len(content), access=mmap.ACCESS_READ)
    except OSError as error:
        raise SolvarError(
            f"{folder} cannot take {len(content) / 2**30:.1f} GiB of the model under way ({error.strerror}); "
            "free some space or name another folder with --scratch"
        ) from error
