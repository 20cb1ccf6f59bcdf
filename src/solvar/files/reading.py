"""The one way in which files are opened for reading.

A name may lead to a device that never ends, a pipe that never answers, or a file that claims a terabyte
and holds nothing of it. Only regular files are opened, and a size counts only as far as the disk holds it.
"""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.machine import available_memory

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISLNK, "a link"),
)
# Holes are legal (a mask is mostly zeros, and some disks store zeros as holes), and so are archives of
# zeros: below the first number of bytes nobody asks, and beyond it content may be larger by the second
# than what the disk holds.
_UNQUESTIONED = 256 << 20
_HOLLOW = 64
_MOST_PIECES = 100_000


class NotAFileError(OSError):
    """What was to be opened is a pipe, a device, a socket, a folder or an unwanted link."""

    def __init__(self, path: Path, kind: str) -> None:
        super().__init__(errno.EINVAL, f"it is {kind}, not a file", str(path))


def open_regular(path: str | Path, *, follow: bool = True) -> BinaryIO:
    """Open a regular file for reading.

    Parameters
    ----------
    path : path
    follow : bool
        Whether the last part of `path` may be a link.

    Raises
    ------
    OSError
        If the file is missing or may not be read; `NotAFileError` if it is no regular file.
    """
    path = Path(path)
    try:
        # looked at before it is opened: to open a device may already do something
        _refuse_special(path, os.stat(path, follow_symlinks=follow).st_mode)
        # O_NONBLOCK: what has become a pipe since then must not hold us up
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        handle = os.open(path, flags if follow else flags | os.O_NOFOLLOW)
    except ValueError as error:  # a zero byte in the name
        raise OSError(errno.EINVAL, str(error), str(path)) from error
    try:
        _refuse_special(path, os.fstat(handle).st_mode)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def open_inside(folder: Path, name: str | Path) -> BinaryIO:
    """Open the regular file `name`, relative to `folder`, through no link below the folder.

    Raises
    ------
    OSError
        As `open_regular`; a link is no regular file here, and nothing outside the folder is.
    """
    place, parts = Path(folder), Path(name).parts
    if Path(name).is_absolute() or ".." in parts:
        raise NotAFileError(place / name, "outside its folder")
    for part in parts[:-1]:
        place = place / part
        if place.is_symlink():
            raise NotAFileError(place, "a link")
    return open_regular(Path(folder) / name, follow=False)


def open_below(path: str | Path, inside: Path | None) -> BinaryIO:
    """`open_inside` for a path that begins with the folder `inside`; `open_regular` without one."""
    if inside is None:
        return open_regular(path)
    return open_inside(inside, Path(path).relative_to(inside))


@contextmanager
def explained(path: str | Path, remedy: str | None = None) -> Iterator[None]:
    """Turn what goes wrong with opening and reading `path` into one sentence.

    Raises
    ------
    InputError
        In place of an OSError.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(
            "no such file", file=path, remedy=remedy or "check the spelling"
        ) from error
    except OSError as error:
        raise _unreadable(path, error, remedy) from error


def _unreadable(path: str | Path, error: OSError, remedy: str | None) -> InputError:
    reason = error.strerror or str(error)
    return InputError(f"cannot be read ({reason})", file=path, remedy=remedy)


def _refuse_special(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise NotAFileError(path, next((word for is_it, word in _KINDS if is_it(mode)), "special"))


def believed_size(file: BinaryIO) -> int:
    """Bytes of an open file that may be counted on: its size, or less if hardly any of it is stored.

    What a header claims is held against this. The size alone can be set to anything by anyone.
    """
    size = os.fstat(file.fileno()).st_size
    return size if size <= _UNQUESTIONED else min(size, believable(_stored(file.fileno(), size)))


def refuse_hollow(file: BinaryIO) -> None:
    """Raise OSError if hardly anything of an open file is stored."""
    size = os.fstat(file.fileno()).st_size
    if size > believed_size(file):
        raise OSError(errno.EFBIG, f"it claims {size} bytes and is nearly empty on the disk")


def refuse_claim(claimed: int, stored: int) -> None:
    """Raise OSError if content cannot be as long as is claimed, or does not fit into memory.

    Parameters
    ----------
    claimed : int
        Bytes that it takes in memory.
    stored : int
        Bytes that hold it, packed or not.
    """
    if claimed > believable(stored):
        raise OSError(errno.EFBIG, f"it claims {claimed} bytes and holds {stored}")
    if claimed > _UNQUESTIONED and claimed > available_memory():
        raise OSError(errno.EFBIG, f"its {claimed} bytes do not fit into memory")


def believable(stored: int) -> int:
    """Bytes of content that so many on the disk may stand for, packed or with holes."""
    return max(_UNQUESTIONED, _HOLLOW * stored)


def _stored(handle: int, size: int) -> int:
    """Bytes of an open file that are no holes; its size where the system does not tell."""
    if not hasattr(os, "SEEK_DATA"):
        return size
    here = os.lseek(handle, 0, os.SEEK_CUR)
    found, place = 0, 0
    try:
        for _ in range(_MOST_PIECES):
            first = os.lseek(handle, place, os.SEEK_DATA)
            place = os.lseek(handle, first, os.SEEK_HOLE)
            found += place - first
        return size  # so many pieces are no trick
    except OSError as error:
        return found if error.errno == errno.ENXIO else size
    finally:
        os.lseek(handle, here, os.SEEK_SET)


def read_bytes(file: BinaryIO, most: int | None = None) -> bytes:
    """The rest of an open file, if it fits into memory, or its next `most` bytes.

    Raises
    ------
    OSError
        If the file is hollow, or larger than the memory that is free.
    """
    size = os.fstat(file.fileno()).st_size
    if most is None:
        refuse_hollow(file)
        refuse_claim(size, size)
    # One that grows while it is read is cut. Files of the kernel have the size 0: some never end, some never
    # answer, and none of them is ours to read.
    return file.read(size if most is None else min(size, most))


def read_text(path: str | Path, *, inside: Path | None = None) -> str:
    """A text file, decoded as UTF-8.

    Parameters
    ----------
    path : path
    inside : path, optional
        A folder that `path` begins with, and below which no link is followed.

    Raises
    ------
    OSError
        As `open_regular` and `read_bytes`.
    UnicodeDecodeError
    """
    with open_below(path, inside) as file:
        return read_bytes(file).decode("utf-8")


def read_json(folder: Path, name: str, remedy: str | None = None) -> Any:
    """The content of a JSON file below `folder` that is no link.

    Raises
    ------
    FileNotFoundError
        If there is none.
    InputError
        If it cannot be read, is no JSON, or holds numbers that JSON does not know.
    """
    path = Path(folder) / name
    try:
        text = read_text(path, inside=Path(folder))
        content = json.loads(text, parse_constant=_refused, parse_float=_finite)
        if "\\u" in text:
            # halves of characters, which no file or terminal takes
            json.dumps(content, ensure_ascii=False).encode("utf-8")
        return content
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unreadable(path, error, remedy) from error
    # brackets nested by the thousand exhaust the parser's recursion
    except (ValueError, RecursionError) as error:
        raise InputError("is not readable as JSON", file=path, remedy=remedy) from error


def _refused(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _finite(digits: str) -> float:
    """A number; "1e999" is one to JSON and infinite to Python."""
    value = float(digits)
    return value if math.isfinite(value) else _refused(digits)


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
