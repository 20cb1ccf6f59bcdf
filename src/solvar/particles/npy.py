"""Numpy's own formats, read without trust.

`np.load` allocates what a header claims and fails in a dozen ways on a damaged one. Here the claim is held
against the bytes that are there and the memory, and arrays of Python objects are not read.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.files import Shelf, believed_size, open_below, refuse_claim, rest

NPY_MAGIC = b"\x93NUMPY"
# Bytes; a .cs file of some hundred fields has more than numpy's limit of 10,000.
_LARGEST_HEADER = 2**18


def read_npy(path: Path, what: str, remedy: str, inside: Path | None = None) -> NDArray[Any]:
    """The array of an .npy file.

    Parameters
    ----------
    path : Path
    what : str
        What the file should be, for messages: "a .cs file".
    remedy : str
    inside : Path, optional
        A folder that `path` begins with, and below which no link is followed.

    Raises
    ------
    InputError
        If the file cannot be read, is damaged or truncated, or holds Python objects.
    """
    try:
        with open_below(path, inside) as file:
            return read_array(file, believed_size(file))
    # numpy evaluates the header as Python text and lets through whatever that raises
    except Exception as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"cannot be read as {what} ({reason})", file=path, remedy=remedy
        ) from error


def read_npz(file: BinaryIO, shelf: Shelf | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of an open .npz file, by name.

    Raises
    ------
    Exception
        Of nearly any kind, if it is damaged; memory is bounded by what the file may hold.
    """
    arrays = {}
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        _refuse_bomb(entries, believed_size(file))
        for entry in entries:
            with archive.open(entry) as stream:
                name = entry.filename.removesuffix(".npy")
                array = read_array(stream, entry.file_size)
                arrays[name] = array if shelf is None else shelf.keep(array)
    return arrays


def write_npz(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays as numpy.savez does; those that a shelf keeps are in memory one at a time."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            # the size is told afterwards: it may be anything
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                npy_format.write_array(stream, array, allow_pickle=False)
            rest(array)


def _refuse_bomb(entries: Iterable[zipfile.ZipInfo], size: int) -> None:
    """Raise OSError or ValueError if an archive of `size` bytes claims more than it can hold."""
    refuse_claim(sum(entry.file_size for entry in entries), size)
    for entry in entries:
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError("it is packed in a way that numpy does not use")
        stored = entry.compress_type == zipfile.ZIP_STORED
        if entry.compress_size > size or (stored and entry.file_size > entry.compress_size):
            raise ValueError(f"it claims {entry.file_size} bytes of {entry.filename}")


def npy_length(path: Path, inside: Path | None = None) -> int:
    """Entries of the array of an .npy file, as its header says; the array itself is not read.

    Raises
    ------
    Exception
        Of nearly any kind, if the file cannot be read or is damaged.
    """
    with open_below(path, inside) as file:
        shape, _, dtype = _header(file)
        if len(shape) != 1 or shape[0] * dtype.itemsize > believed_size(file):
            raise ValueError(f"its header claims the shape {shape}")
        return shape[0]


def read_array(stream: IO[bytes], size: int) -> NDArray[Any]:
    """The array in an open .npy stream of `size` bytes.

    Raises
    ------
    Exception
        Of nearly any kind, if the stream is damaged; memory is bounded by `size` in every case.
    """
    shape, fortran, dtype = _header(stream)
    count = prod(shape)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    if any(edge < 0 for edge in shape) or count * dtype.itemsize > size:
        raise ValueError(f"its header claims the shape {shape} in a file of {size} bytes")
    refuse_claim(count * dtype.itemsize, size)
    # a bytearray, because arrays over bytes cannot be written to
    content = bytearray(count * dtype.itemsize)
    if stream.readinto(content) < len(content):  # type: ignore[attr-defined]
        raise ValueError("it is truncated")
    array: NDArray[Any] = np.frombuffer(content, dtype, count)
    return array.reshape(shape, order="F" if fortran else "C")


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether it is in Fortran's order, and type."""
    version = npy_format.read_magic(stream)
    # versions 2 and 3 differ in the encoding of field names alone
    first = version == (1, 0)
    header = npy_format.read_array_header_1_0 if first else npy_format.read_array_header_2_0
    try:
        found: tuple[tuple[int, ...], bool, np.dtype[Any]] = header(stream, _LARGEST_HEADER)
    except MemoryError:
        # what Python says of text with too many brackets
        raise ValueError("its header makes no sense") from None
    return found
