"""The 1,024 bytes at the start of an MRC file, judged before any pixel is touched."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from solvar.errors import InputError
from solvar.files import believed_size, open_regular

HEADER_BYTES = 1024
_PIXEL_TYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
_LARGEST_EDGE = 65536


@dataclass(frozen=True)
class MrcHeader:
    """Where the pixels of an MRC file are.

    Attributes
    ----------
    shape : (nz, ny, nx)
    dtype : dtype
        Of the pixels, byte order included.
    offset : int
        Byte at which the pixels begin.
    labels : tuple of str
        What programs said of it.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    offset: int
    labels: tuple[str, ...] = ()


def read_mrc_header(path: Path) -> MrcHeader:
    """Read and judge a header.

    Files that call themselves volumes instead of stacks, or lack the "MAP " mark, are accepted:
    many programs write them.

    Raises
    ------
    InputError
        If the file cannot be read, is compressed, is not MRC, has an unsupported mode, or is
        shorter than the header promises.
    """
    raw, actual = _first_bytes(path)
    header = _parse(raw)
    if header is None:
        raise InputError("is not an MRC file: the header makes no sense", file=path)
    if header["mode"] not in _PIXEL_TYPES:
        raise InputError(
            f"has MRC mode {header['mode']}; modes 0, 1, 2, 6 and 12 hold images",
            file=path,
            remedy="convert it to 32-bit floats (mode 2)",
        )
    dtype = np.dtype(header["order"] + _PIXEL_TYPES[header["mode"]])
    shape = (header["nz"], header["ny"], header["nx"])
    offset = HEADER_BYTES + header["nsymbt"]
    expected = offset + shape[0] * shape[1] * shape[2] * dtype.itemsize
    if actual < expected:
        raise InputError(
            f"is truncated: {actual} bytes where the header promises {expected}",
            file=path,
            remedy="copy or extract it again",
        )
    return MrcHeader(shape, dtype, offset, _labels(raw))


def looks_like_mrc(path: Path) -> bool:
    """Whether the file starts with a sane MRC header."""
    try:
        return _parse(_first_bytes(path)[0]) is not None
    except InputError:
        return False


def _labels(raw: bytes) -> tuple[str, ...]:
    """The ten labels of 80 characters that end a header, without those that are empty."""
    texts = (raw[at : at + 80].split(b"\0")[0] for at in range(224, HEADER_BYTES, 80))
    return tuple(text.decode("ascii", "replace").strip() for text in texts if text.strip())


def _first_bytes(path: Path) -> tuple[bytes, int]:
    try:
        with open_regular(path) as file:
            raw, size = file.read(HEADER_BYTES), believed_size(file)
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", file=path) from error
    if raw[:2] == b"\x1f\x8b" or raw[:3] == b"BZh":
        raise InputError("is compressed", file=path, remedy="decompress it first")
    if len(raw) < HEADER_BYTES:
        raise InputError(f"is too short for an MRC header ({len(raw)} bytes)", file=path)
    return raw, size


def _parse(raw: bytes) -> dict[str, Any] | None:
    """The fields that matter, in whichever byte order makes sense, or None."""
    if len(raw) < HEADER_BYTES:
        return None
    for order in "<>":
        record = np.frombuffer(raw, _header_dtype(order))[0]
        header = {name: int(record[name]) for name in ("nx", "ny", "nz", "mode", "nsymbt")}
        edges = header["nx"], header["ny"]
        sane = all(0 < edge <= _LARGEST_EDGE for edge in edges) and 0 < header["nz"] < 2**31
        if sane and 0 <= header["mode"] <= 1024 and header["nsymbt"] >= 0:
            return {**header, "order": order}
    return None


@cache
def _header_dtype(order: str) -> np.dtype[Any]:
    from mrcfile.dtypes import HEADER_DTYPE

    return HEADER_DTYPE.newbyteorder(order)
