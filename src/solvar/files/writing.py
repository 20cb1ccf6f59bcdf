"""Files that are either whole or absent: written under a random name of their own, synced, renamed.

A name that others could guess might be a link that somebody left there, and writing through it would
change a file elsewhere. So a temporary file is created by this process alone (O_EXCL) or not at all.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

from solvar.errors import InputError

# names that `replacing` gives
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.partial(\.\w+)?")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a new empty file in the folder of `path`; it becomes `path` when the block succeeds.

    The suffix is kept because some writers choose the format by it. A failure removes the temporary
    file and leaves what was there before. A link with the name of `path` is replaced, not followed.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(8)}.partial{path.suffix}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    os.close(os.open(temporary, flags, 0o666))
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def check_destination(paths: Iterable[Path], inputs: Iterable[Path], overwrite: bool) -> None:
    """Refuse to write to what is read, and without `overwrite` to what is there.

    Raises
    ------
    InputError
    """
    kept = {path.resolve() for path in inputs}
    for path in paths:
        if path.resolve() in kept:
            raise InputError(
                "is an input and is never replaced", file=path, remedy="choose another --output"
            )
        if path.exists() and not overwrite:
            raise InputError(
                "is there already", file=path, remedy="choose another --output or pass --overwrite"
            )


def remove_orphans(folder: Path, below: Iterable[str] = ()) -> None:
    """Remove what killed writers left in a folder: temporary files of `replacing`.

    Only for who owns the folder: a temporary file of a living writer looks the same.

    Parameters
    ----------
    folder : Path
    below : iterable of str
        Folders below it to look into, too, if no link leads there.
    """
    _remove_temporary(Path(folder))
    for name in map(PurePosixPath, below):
        way = [name, *name.parents][:-1]
        if not any((folder / step).is_symlink() for step in way):
            _remove_temporary(folder / name)


def _remove_temporary(folder: Path) -> None:
    with suppress(FileNotFoundError, NotADirectoryError):
        for path in sorted(folder.iterdir()):
            if _TEMPORARY.fullmatch(path.name) and stat.S_ISREG(path.lstat().st_mode):
                path.unlink(missing_ok=True)


def open_log(path: Path) -> TextIO:
    """Open a text file to append to, never through a link.

    Raises
    ------
    OSError
        If `path` is a link, no regular file or one with several names, or may not be written.
    """
    from solvar.files.reading import NotAFileError

    # O_NONBLOCK: a pipe that nobody reads must not hold us up
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    if path.is_symlink():
        raise NotAFileError(path, "a link")
    handle = os.open(path, flags | os.O_NOFOLLOW, 0o666)
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        os.close(handle)
        raise NotAFileError(path, "a pipe or a device")
    if found.st_nlink > 1:
        # a snapshot made of links would grow, too
        os.close(handle)
        raise OSError(errno.EMLINK, "it has another name elsewhere", str(path))
    return os.fdopen(handle, "a", encoding="utf-8", errors="backslashreplace")


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
