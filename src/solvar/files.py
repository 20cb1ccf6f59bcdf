"""Files that are either whole or absent: written under a temporary name, synced, renamed."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# names that `replacing` gives
_TEMPORARY = re.compile(r"\..+\.\d+\.partial(\.\w+)?")


def read_at(handle: int, array: NDArray[Any], offset: int) -> None:
    """Fill a contiguous array with the bytes at `offset` of an open file.

    Unlike a memory map this keeps nothing of the file in the process, and a file that is cut short meanwhile
    raises instead of ending the program.

    Raises
    ------
    EOFError
        If the file ends before.
    """
    rest = array.reshape(-1).view(np.uint8).data
    while len(rest):
        got = os.preadv(handle, [rest], offset)
        if got == 0:
            raise EOFError
        offset, rest = offset + got, rest[got:]


def neighbours(place: NDArray[np.int64]) -> list[tuple[int, int]]:
    """First and one past the last position of each run of consecutive numbers in `place`."""
    if not len(place):
        return []
    cuts = (np.flatnonzero(np.diff(place) != 1) + 1).tolist()
    return list(zip([0, *cuts], [*cuts, len(place)], strict=True))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name in the folder of `path`; it becomes `path` when the block succeeds.

    The suffix is kept because some writers choose the format by it. A failure removes the temporary
    file and leaves what was there before.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def remove_orphans(folder: Path) -> None:
    """Remove what killed writers left in a folder and below: temporary files of `replacing`."""
    for path in folder.rglob(".*.partial*"):
        if _TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink()


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content` to a file as `strict_json` gives it."""
    with replacing(path) as temporary:
        temporary.write_text(strict_json(content) + "\n", encoding="utf-8")


def strict_json(content: Any, ascii_only: bool = False) -> str:
    """JSON that every reader accepts: arrays as lists, numbers that are not finite as null."""
    return json.dumps(_strict(content), indent=2, ensure_ascii=ascii_only, allow_nan=False)


def _strict(value: Any) -> Any:
    """The same value in JSON's own types: numpy unpacked, NaN and inf as None."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def _sync(path: Path) -> None:
    """Ask the disk to keep `path` now, so that the rename cannot overtake the content."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        # Some network file systems refuse to sync a folder; the rename itself is still atomic.
        if not path.is_dir():
            raise
    finally:
        os.close(handle)
