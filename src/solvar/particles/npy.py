"""Numpy's own array format, read without trust.

`np.load` allocates what a header claims and fails in a dozen ways on a damaged one. Here the claim is held
against the bytes that are there, and arrays of Python objects are not read.
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from solvar.errors import InputError

NPY_MAGIC = b"\x93NUMPY"


def read_npy(path: Path, what: str, remedy: str) -> NDArray[Any]:
    """The array of an .npy file.

    Parameters
    ----------
    path : Path
    what : str
        What the file should be, for messages: "a .cs file".
    remedy : str

    Raises
    ------
    InputError
        If the file cannot be read, is damaged or truncated, or holds Python objects.
    """
    try:
        with path.open("rb") as file:
            return read_array(file, path.stat().st_size)
    # numpy evaluates the header as Python text and lets through whatever that raises
    except Exception as error:
        raise InputError(f"cannot be read as {what} ({error})", file=path, remedy=remedy) from error


def read_array(stream: IO[bytes], size: int) -> NDArray[Any]:
    """The array in an open .npy stream of `size` bytes.

    Raises
    ------
    Exception
        Of nearly any kind, if the stream is damaged; memory is bounded by `size` in every case.
    """
    version = npy_format.read_magic(stream)
    # versions 2 and 3 differ in the encoding of field names alone
    first = version == (1, 0)
    header = npy_format.read_array_header_1_0 if first else npy_format.read_array_header_2_0
    try:
        shape, fortran, dtype = header(stream)
    except MemoryError:
        # what Python says of text with too many brackets
        raise ValueError("its header makes no sense") from None
    count = prod(shape)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    if any(edge < 0 for edge in shape) or count * dtype.itemsize > size:
        raise ValueError(f"its header claims the shape {shape} in a file of {size} bytes")
    # a bytearray, because arrays over bytes cannot be written to
    content = bytearray(count * dtype.itemsize)
    if stream.readinto(content) < len(content):  # type: ignore[attr-defined]
        raise ValueError("it is truncated")
    array: NDArray[Any] = np.frombuffer(content, dtype, count)
    return array.reshape(shape, order="F" if fortran else "C")
