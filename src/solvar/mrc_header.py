"""MRC files: the 1,024 bytes at their start, judged before any pixel is touched, and the pixels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.files import believed_size, explained, open_below, read_at, read_bytes, refuse_claim

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
    pixel_size_angstrom : float
        Along x; 0 where the file does not say.
    labels : tuple of str
        What programs said of it.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    offset: int
    pixel_size_angstrom: float = 0.0
    labels: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of all pixels."""
        return self.shape[0] * self.shape[1] * self.shape[2] * self.dtype.itemsize


def read_mrc_header(path: Path, inside: Path | None = None) -> MrcHeader:
    """Read and judge a header.

    Files that call themselves volumes instead of stacks, or lack the "MAP " mark, are accepted:
    many programs write them.

    Parameters
    ----------
    path : Path
    inside : Path, optional
        A folder that `path` begins with, and below which no link is followed.

    Raises
    ------
    InputError
        If the file cannot be read, is compressed, is not MRC, has an unsupported mode, or is
        shorter than the header promises.
    """
    with explained(path), open_below(path, inside) as file:
        return _judged(path, file)


def read_mrc(path: Path, inside: Path | None = None) -> tuple[MrcHeader, NDArray[Any]]:
    """Header and pixels (nz, ny, nx), in the number type of the file.

    Not by mrcfile, which opens the path once more and takes memory for what the header promises.

    Raises
    ------
    InputError
        As `read_mrc_header`, and if the pixels do not fit into memory.
    """
    with explained(path), open_below(path, inside) as file:
        header = _judged(path, file)
        refuse_claim(header.nbytes, header.nbytes)
        pixels = np.empty(header.shape, header.dtype)
        try:
            read_at(file.fileno(), pixels, header.offset)
        except EOFError:
            raise InputError("has become shorter while it was read", file=path) from None
    return header, pixels


def _judged(path: Path, file: BinaryIO) -> MrcHeader:
    raw, actual = read_bytes(file, HEADER_BYTES), believed_size(file)
    if raw[:2] == b"\x1f\x8b" or raw[:3] == b"BZh":
        raise InputError("is compressed", file=path, remedy="decompress it first")
    if len(raw) < HEADER_BYTES:
        raise InputError(f"is too short for an MRC header ({len(raw)} bytes)", file=path)
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
    found = MrcHeader(shape, dtype, offset, header["pixel_size"], _labels(raw))
    if actual < offset + found.nbytes:
        raise InputError(
            f"is truncated: {actual} bytes where the header promises {offset + found.nbytes}",
            file=path,
            remedy="copy or extract it again",
        )
    return found


def looks_like_mrc(path: Path) -> bool:
    """Whether the file starts with a sane MRC header."""
    try:
        with open_below(path, None) as file:
            return _parse(read_bytes(file, HEADER_BYTES)) is not None
    except OSError:
        return False


def _labels(raw: bytes) -> tuple[str, ...]:
    """The ten labels of 80 characters that end a header, without those that are empty."""
    texts = (raw[at : at + 80].split(b"\0")[0] for at in range(224, HEADER_BYTES, 80))
    return tuple(text.decode("ascii", "replace").strip() for text in texts if text.strip())


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
            return {**header, "order": order, "pixel_size": _pixel_size(record)}
    return None


def _pixel_size(record: Any) -> float:
    """Edge of the box over its number of pixels, Å; 0 if they say nothing."""
    edge, count = float(record["cella"]["x"]), int(record["mx"])
    return edge / count if np.isfinite(edge) and edge > 0 and count > 0 else 0.0


@cache
def _header_dtype(order: str) -> np.dtype[Any]:
    from mrcfile.dtypes import HEADER_DTYPE

    return HEADER_DTYPE.newbyteorder(order)
