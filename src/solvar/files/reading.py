"""The one way in which files are opened for reading.

A name may lead to a device that never ends, a pipe that never answers, or a file that claims a terabyte
and holds nothing of it. Only regular files are opened, and a size counts only as far as the disk holds it.
"""

from __future__ import annotations

import errno
import json
import os
import stat
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
# Holes are legal (a mask is mostly zeros, and some disks store zeros as holes): below the first number of
# bytes they are not looked for, and beyond it a file may be larger by the second than what the disk holds.
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


def open_inside(folder: Path, name: str) -> BinaryIO:
    """Open the regular file `name` (parts separated by ``/``) below `folder`, through no link below it.

    Raises
    ------
    OSError
        As `open_regular`; a link is no regular file here.
    """
    place = Path(folder)
    for part in name.split("/")[:-1]:
        place = place / part
        if place.is_symlink():
            raise NotAFileError(place, "a link")
    return open_regular(Path(folder) / name, follow=False)


def _refuse_special(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise NotAFileError(path, next((word for is_it, word in _KINDS if is_it(mode)), "special"))


def believed_size(file: BinaryIO) -> int:
    """Bytes of an open file that may be counted on: its size, or less if hardly any of it is stored.

    What a header claims is held against this. The size alone can be set to anything by anyone.
    """
    size = os.fstat(file.fileno()).st_size
    if size <= _UNQUESTIONED:
        return size
    return min(size, max(_UNQUESTIONED, _HOLLOW * _stored(file.fileno(), size)))


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


def read_bytes(file: BinaryIO) -> bytes:
    """The rest of an open file, if it fits into memory.

    Raises
    ------
    OSError
        If the file is hollow, or larger than the memory that is free.
    """
    size = os.fstat(file.fileno()).st_size
    if size > believed_size(file):
        raise OSError(errno.EFBIG, f"it claims {size} bytes and is nearly empty on the disk")
    if size > _UNQUESTIONED and size > available_memory():
        raise OSError(errno.EFBIG, f"its {size} bytes do not fit into memory")
    # one that grows while it is read is cut
    return file.read(size)


def read_text(path: str | Path, *, follow: bool = True) -> str:
    """A text file, decoded as UTF-8.

    Raises
    ------
    OSError
        As `open_regular` and `read_bytes`.
    UnicodeDecodeError
    """
    with open_regular(path, follow=follow) as file:
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
        with open_inside(folder, name) as file:
            return json.loads(read_bytes(file).decode("utf-8"), parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"cannot be read ({reason})", file=path, remedy=remedy) from error
    # brackets nested by the thousand exhaust the parser's recursion
    except (ValueError, RecursionError) as error:
        raise InputError("is not readable as JSON", file=path, remedy=remedy) from error


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


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
