"""Reading other programs' pickles without running them.

A pickle is a program. This unpickler knows the few names that plain numpy arrays need and maps each
to an inert stand-in of our own, so nothing outside this file is ever called; arrays are built from
the bytes that are really in the file, so a claimed shape cannot allocate memory. The pure-Python
unpickler is used on purpose: the C one allocates whatever a memo index or a length claims.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.files import explained, open_regular, read_bytes

_PLAIN_KINDS = "biufSU"


def read_pickled_arrays(path: Path) -> list[NDArray[Any]]:
    """Arrays of a pickle that holds one array, a list of numbers, or a flat tuple of arrays.

    Parameters
    ----------
    path : Path

    Returns
    -------
    list of ndarray
        One entry for an array or a list of numbers, one per element for a tuple or list of arrays.

    Raises
    ------
    InputError
        If the file is missing, not a pickle, truncated, or holds anything but plain numpy arrays.
    """
    with explained(path), open_regular(path) as file:
        data = read_bytes(file)
    try:
        return _as_arrays(_PlainUnpickler(data).load())
    # a hostile or damaged pickle can make the unpickler raise nearly anything
    except Exception as error:
        raise InputError(
            f"is not a plain numpy pickle ({error or type(error).__name__})",
            file=path,
            remedy="save the numpy arrays alone, with pickle.dump((rotations, shifts), file)",
        ) from error


class _Refused(Exception):
    """The pickle asks for something that a plain array does not need."""


class _NdarrayMarker:
    """Stands for the class numpy.ndarray; never instantiated."""


@dataclass
class _Dtype:
    """Stands for a numpy.dtype that is being unpickled."""

    code: Any
    align: Any = False
    copy: Any = True
    order: str = "|"

    def __setstate__(self, state: Any) -> None:
        self.order = _text(state[1])

    def resolve(self) -> np.dtype[Any]:
        dtype = np.dtype(_text(self.code))
        if dtype.kind not in _PLAIN_KINDS or dtype.itemsize == 0:
            raise _Refused(f"elements of type {dtype}")
        return dtype.newbyteorder(">") if self.order == ">" else dtype.newbyteorder("<")


class _Array:
    """Stands for a numpy.ndarray that is being unpickled."""

    def __init__(self, state: Any = None) -> None:
        self.state = state

    def __setstate__(self, state: Any) -> None:
        self.state = state[1:]

    def resolve(self) -> NDArray[Any]:
        shape, dtype, fortran, data = self.state
        raw = data.encode("latin1") if isinstance(data, str) else data
        if not isinstance(dtype, _Dtype) or not isinstance(raw, (bytes, bytearray)):
            raise _Refused("an array of objects")
        resolved = dtype.resolve()
        if any(n < 0 for n in shape) or prod(shape) * resolved.itemsize != len(raw):
            raise _Refused(f"shape {tuple(shape)} does not fit {len(raw)} bytes")
        return np.frombuffer(raw, resolved).reshape(shape, order="F" if fortran else "C")


def _reconstruct(subtype: Any, shape: Any, typecode: Any) -> _Array:
    return _Array()


def _frombuffer(buffer: Any, dtype: Any, shape: Any, order: Any, *rest: Any) -> _Array:
    return _Array((shape, dtype, order == "F", buffer))


def _scalar(dtype: Any, raw: Any) -> _Array:
    return _Array(((), dtype, False, raw))


def _encode(text: str, codec: str) -> bytes:
    if codec not in ("latin1", "latin-1"):
        raise _Refused(f"codec {codec}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""


_ADMITTED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _NdarrayMarker,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    # how protocols 0 to 2 spell the bytes of an empty array
    ("__builtin__", "bytes"): _no_bytes,
    # numpy 2 renamed numpy.core to numpy._core; both spellings are in circulation
    **{
        (f"numpy.{core}.{module}", name): stand_in
        for core in ("core", "_core")
        for module, name, stand_in in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _frombuffer),
        )
    },
}


class _PlainUnpickler(pickle._Unpickler):
    """Admits `_ADMITTED` and nothing else."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="latin1")
        self._size = len(data)

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise _Refused(f"it asks for {module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("it refers to objects outside the file")

    def load_bytearray8(self) -> None:
        (length,) = struct.unpack("<Q", self.read(8))  # type: ignore[attr-defined]
        if length > self._size:
            raise _Refused(f"it claims {length} bytes")
        self.append(bytearray(self.read(length)))  # type: ignore[attr-defined]

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8

    def load_build(self) -> None:
        # BUILD sets attributes of whatever is on the stack, our own functions included
        if not isinstance(self.stack[-2], (_Array, _Dtype)):  # type: ignore[attr-defined]
            raise _Refused("it changes something else than an array")
        super().load_build()  # type: ignore[misc]

    dispatch[pickle.BUILD[0]] = load_build


def _as_arrays(content: Any) -> list[NDArray[Any]]:
    """One level of nesting is all that is known to exist; deeper ones can grow exponentially."""
    if isinstance(content, _Array):
        return [content.resolve()]
    if not isinstance(content, (tuple, list)) or not content:
        raise _Refused(f"it holds a {type(content).__name__.strip('_')}")
    if all(isinstance(item, (int, float)) for item in content):
        # an integer beyond 64 bits would silently become an array of objects
        return [np.array(content, dtype=np.int64 if isinstance(content[0], int) else np.float64)]
    if not all(isinstance(item, _Array) for item in content):
        raise _Refused("it holds other things than arrays")
    arrays = [item.resolve() for item in content]
    return [np.array(arrays)] if all(a.ndim == 0 for a in arrays) else arrays


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)
