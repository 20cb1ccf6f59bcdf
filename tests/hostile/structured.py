"""Damage that keeps the format: values, types, shapes and names change, the file stays well-formed."""

from __future__ import annotations

import io
import json
import pickle
import re
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np

Rng = np.random.Generator

_VALUES: tuple[Any, ...] = (
    *(np.nan, np.inf, -np.inf, 1e300, -1e300, 1e-310, 0.0, -1.0, 0.5, 1e9),
    *(2**31, 2**53, -(2**63), 2**63 - 1),
)
_DTYPES = ("f4", "f8", "f2", "i1", "i8", "u8", "b1", "c8", "S3", "U2", "M8[s]", ">f8", "V5")
_SHAPES = ((), (0,), (1,), (3,), (2, 2), (6, 1), (1, 6))
_LEAVES = (None, True, -1, 0, 1.5, 1e308, 10**30, "", "x", "../..", "\x00", [], {}, [[]], "é" * 300)
_TOKENS = (
    *(b"nan", b"inf", b"-inf", b"1e400", b"1e308", b"-1", b"0", b"0.5", b"9" * 25, b"9" * 5000),
    *(b"x", b"-", b"1e", b"0x1", b"1_0", b"<NA>", b"None", b"''", b'""', b"'a b'", b"a#b"),
    *(b"000000@a", b"9999999999999999999@stack.mrcs", b"1@", b"1.5@stack.mrcs", b"2@stack.mrcs"),
    *(b"1@/dev/zero", b"1@../stack.mrcs", b"1@~/stack.mrcs", "1@é.mrcs".encode(), b"_a", b"data_b"),
)


def structured(content: bytes, suffix: str, rng: Rng) -> bytes | None:
    """`content` with one thing changed; None for a kind of file that nothing is known of."""
    change = _KINDS.get(suffix)
    return None if change is None else change(content, rng)


def _token(content: bytes, rng: Rng) -> bytes:
    """A word of a star or text file; the separators stay."""
    words = re.split(rb"([\s,]+)", content)
    words[2 * int(rng.integers((len(words) + 1) // 2))] = _TOKENS[rng.integers(len(_TOKENS))]
    return b"".join(words)


def _json(content: bytes, rng: Rng) -> bytes:
    """A leaf or branch of a JSON tree becomes something else, or goes."""
    tree = json.loads(content)
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        if isinstance(node, dict | list):
            for key in node if isinstance(node, dict) else range(len(node)):
                places.append((node, key))
                walk(node[key])

    walk(tree)
    node, key = places[rng.integers(len(places))]
    if rng.random() < 0.2:
        del node[key]
    else:
        node[key] = _LEAVES[rng.integers(len(_LEAVES))]
    return json.dumps(tree).encode()


def _npy(content: bytes, rng: Rng) -> bytes:
    stream = io.BytesIO()
    np.save(stream, _table(np.load(io.BytesIO(content)), rng), allow_pickle=False)
    return stream.getvalue()


def _pickle(content: bytes, rng: Rng) -> bytes:
    """Our own samples alone are unpickled here."""
    held = pickle.loads(content)
    arrays = list(held) if isinstance(held, tuple) else [held]
    which = rng.integers(len(arrays))
    arrays[which] = _table(np.asarray(arrays[which]), rng)
    changed: Any = tuple(arrays) if isinstance(held, tuple) else arrays[0]
    if rng.random() < 0.1:
        changed = [changed, {"a": changed}, "text"][rng.integers(3)]
    return pickle.dumps(changed, int(rng.integers(6)))


def _hdf5(content: bytes, rng: Rng) -> bytes:
    stream = io.BytesIO(content)
    with h5py.File(stream, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        name = names[rng.integers(len(names))]
        kind = rng.integers(5)
        if kind == 0 and len(file.attrs):
            attribute = list(file.attrs)[rng.integers(len(file.attrs))]
            file.attrs[attribute] = ["text", [1, 2], np.nan, "\u00e9"][rng.integers(4)]
            return _closed(file, stream)
        held = file[name][()] if isinstance(file[name], h5py.Dataset) else None
        del file[name]
        if kind == 1 or held is None:
            pass
        elif kind == 2:
            file.create_group(name)
        elif kind == 3:
            # nothing is written, so the file stays small
            file.create_dataset(name, (10**6, 10**6), "f8", chunks=(1000, 1000))
        else:
            held = _table(held, rng)
            file[name] = held if held.dtype.kind not in "UM" else held.astype("S")
        return _closed(file, stream)


def _closed(file: h5py.File, stream: io.BytesIO) -> bytes:
    file.close()
    return stream.getvalue()


def _table(array: np.ndarray, rng: Rng) -> np.ndarray:
    """One field, value, type or edge of an array changed."""
    if array.dtype.names is None:
        return _array(array, rng)
    fields = {name: array[name] for name in array.dtype.names}
    name = array.dtype.names[rng.integers(len(array.dtype.names))]
    changed = _array(fields[name], rng)
    if rng.random() < 0.15:
        del fields[name]
    elif changed.ndim and len(changed) == len(array):
        fields[name] = changed
    else:
        return array[: int(rng.integers(len(array)))].copy()
    types = [(n, v.dtype, v.shape[1:]) for n, v in fields.items()]
    table = np.zeros(len(array), types)
    for field, values in fields.items():
        table[field] = values
    return table


def _array(array: np.ndarray, rng: Rng) -> np.ndarray:
    kind = rng.integers(4)
    with np.errstate(all="ignore"):
        if kind == 0:
            dtype = np.dtype(_DTYPES[rng.integers(len(_DTYPES))])
            return np.zeros(array.shape, dtype) if dtype.kind in "VM" else _cast(array, dtype)
        if kind == 1:
            return np.resize(array, _SHAPES[rng.integers(len(_SHAPES))])
        array = array.copy()
        if array.size and array.dtype.kind in "fiub":
            value = _VALUES[rng.integers(len(_VALUES))]
            array.flat[rng.integers(array.size)] = np.asarray(value).astype(array.dtype)
        elif array.size and array.dtype.kind == "S":
            odd = (b"\xff\xfe", b"", b">>", b"../x", b"a\nb", b"/", b"~")
            array.flat[rng.integers(array.size)] = odd[rng.integers(len(odd))]
        return array


def _cast(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    try:
        return array.astype(dtype)
    except (ValueError, TypeError, OverflowError):
        return np.zeros(array.shape, dtype)


_KINDS: dict[str, Callable[[bytes, Rng], bytes]] = {
    **dict.fromkeys((".star", ".txt", ".csv", ".pdb"), _token),
    **dict.fromkeys((".npy", ".cs"), _npy),
    ".json": _json,
    ".pkl": _pickle,
    ".h5": _hdf5,
}
