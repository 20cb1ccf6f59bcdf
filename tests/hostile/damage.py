"""What can be done to files of a run folder: to any, to an entry of a JSON tree, to an array of HDF5."""

from __future__ import annotations

import copy
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

# -- any file -----------------------------------------------------------------------------------

Spoil = Callable[[Path, Path], object]


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def _link(path: Path, target: Path | str) -> None:
    _remove(path)
    path.symlink_to(target)


def _linked_away(path: Path, other: Path) -> None:
    """A link to its own content, elsewhere."""
    elsewhere = path.parent / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def _pipe(path: Path, other: Path) -> None:
    _remove(path)
    os.mkfifo(path)


def _folder(path: Path, other: Path) -> None:
    _remove(path)
    path.mkdir()


def _socket(path: Path, other: Path) -> None:
    _remove(path)
    here = os.getcwd()
    os.chdir(path.parent)  # the names of sockets are short
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


def _giant(path: Path, other: Path) -> None:
    """The same beginning, and then a terabyte of nothing."""
    os.truncate(path, 1 << 40)


def _cut(path: Path, other: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


ANY_FILE: dict[str, Spoil] = {
    "missing": lambda path, other: _remove(path),
    "link": _linked_away,
    "device": lambda path, other: _link(path, "/dev/zero"),
    "kernel": lambda path, other: _link(path, "/proc/self/status"),
    "pipe": _pipe,
    "folder": _folder,
    "socket": _socket,
    "giant": _giant,
    "hollow": lambda path, other: (path.write_bytes(b""), os.truncate(path, 1 << 40)),
    "empty": lambda path, other: path.write_bytes(b""),
    "cut": _cut,
    "text": lambda path, other: path.write_text("nothing of the kind\n"),
    "bytes": lambda path, other: path.write_bytes(bytes(range(256)) * 64),
    "other run": lambda path, other: shutil.copy(other, path),
}

# -- JSON ---------------------------------------------------------------------------------------

Place = tuple[str | int, ...]

VALUES: dict[str, Any] = {
    "null": None,
    "text": "nothing of the kind",
    "zero byte": "\0",
    "half a character": "\ud800",
    "truth": True,
    "negative": -1,
    "fraction": 0.5,
    "huge": 1e300,
    "long": 10**400,
    "nan": float("nan"),
    "infinite": float("inf"),
    "list": [[]],
    "dict": {"a": {}},
}


def places(tree: Any, at: Place = ()) -> Iterator[Place]:
    """Every entry of a JSON tree; of a list the first."""
    if isinstance(tree, dict | list):
        for key in tree if isinstance(tree, dict) else range(min(len(tree), 1)):
            yield (*at, key)
            yield from places(tree[key], (*at, key))


def changed(tree: Any, place: Place, value: Any) -> Any:
    """A copy with another value at one place."""
    tree = copy.deepcopy(tree)
    _holder(tree, place)[place[-1]] = value
    return tree


def without(tree: Any, place: Place) -> Any:
    """A copy without one entry."""
    tree = copy.deepcopy(tree)
    del _holder(tree, place)[place[-1]]
    return tree


def json_damages(tree: Any) -> Iterator[tuple[str, str]]:
    """Names and texts of the tree with one thing wrong."""
    for place in places(tree):
        name = ".".join(map(str, place))
        held = _holder(tree, place)[place[-1]]
        yield f"{name} missing", json.dumps(without(tree, place))
        if isinstance(held, list) and held:
            yield f"{name} short", json.dumps(changed(tree, place, held[:-1]))
            yield f"{name} longer", json.dumps(changed(tree, place, [*held, held[-1]]))
        for what, value in VALUES.items():
            if type(value) is not type(held) or value != held:
                yield f"{name} {what}", json.dumps(changed(tree, place, value))


def _holder(tree: Any, place: Place) -> Any:
    for key in place[:-1]:
        tree = tree[key]
    return tree


# -- HDF5 ---------------------------------------------------------------------------------------

SpoilArray = Callable[[h5py.File, str], object]


def _replace(change: Callable[[np.ndarray], Any]) -> SpoilArray:
    def spoil(file: h5py.File, name: str) -> None:
        held = file[name][()]
        del file[name]
        with np.errstate(all="ignore"):
            file[name] = change(held)

    return spoil


def _entry(value: float) -> SpoilArray:
    """One number of the array becomes another."""

    def change(array: np.ndarray) -> np.ndarray:
        array = array.astype(np.float64) if array.dtype.kind in "iub" else array.copy()
        array.reshape(-1)[-1] = value
        return array

    return _replace(change)


def _everywhere(value: float) -> SpoilArray:
    return _replace(lambda array: np.full_like(array, value))


def _stored(**options: Any) -> SpoilArray:
    """The same numbers, kept in a way of HDF5 that solvar does not use."""

    def spoil(file: h5py.File, name: str) -> None:
        held = file[name][()]
        del file[name]
        file.create_dataset(name, data=held, **options)

    return spoil


def _elsewhere(file: h5py.File, name: str) -> None:
    """The numbers lie in a file that the reader may read and the writer may not."""
    held = file[name][()]
    del file[name]
    where = [("/etc/passwd", 0, held.nbytes)]
    file.create_dataset(name, held.shape, held.dtype, external=where)


def _virtual(file: h5py.File, name: str) -> None:
    held = file[name][()]
    del file[name]
    layout = h5py.VirtualLayout(held.shape, held.dtype)
    layout[...] = h5py.VirtualSource("other.h5", name, held.shape)
    file.create_virtual_dataset(name, layout)


def _link_to(link: Callable[[str], Any]) -> SpoilArray:
    def spoil(file: h5py.File, name: str) -> None:
        file.move(name, "moved")
        file[name] = link(name)

    return spoil


def _unwritten(file: h5py.File, name: str) -> None:
    """The right shape of numbers that nobody wrote, in a file of a few bytes."""
    held = file[name]
    shape, dtype = held.shape, held.dtype
    del file[name]
    file.create_dataset(name, shape, dtype, chunks=tuple(max(1, edge) for edge in shape))


def _bottomless(file: h5py.File, name: str) -> None:
    """As many dimensions, each without an end, and not one number."""
    shape = (2**31,) * max(1, len(file[name].shape))
    del file[name]
    file.create_dataset(name, shape, "f8", chunks=(1,) * len(shape))


def _group(file: h5py.File, name: str) -> None:
    del file[name]
    group = file.create_group(name)
    group["again"] = group  # that holds itself


ANY_ARRAY: dict[str, SpoilArray] = {
    "missing": lambda file, name: file.__delitem__(name),
    "nan": _entry(np.nan),
    "infinite": _entry(np.inf),
    "huge": _entry(1e300),
    "negative": _entry(-1e9),
    "all zero": _everywhere(0),
    "all one": _everywhere(1),
    "short": _replace(lambda array: array[:-1]),
    "empty": _replace(lambda array: array[:0]),
    "one more edge": _replace(lambda array: array[None]),
    "flat": _replace(lambda array: array.reshape(-1)),
    "scalar": _replace(lambda array: array.reshape(-1)[0]),
    "32 edges": _replace(lambda array: array.reshape(*array.shape, *(1,) * (32 - array.ndim))),
    "text": _replace(lambda array: np.full(array.shape, b"a")),
    "half precision": _replace(lambda array: array.astype(np.float16)),
    "long precision": _replace(lambda array: array.astype(np.longdouble)),
    "other order": _replace(lambda array: array.astype(array.dtype.newbyteorder(">"))),
    "complex": _replace(lambda array: array.astype(np.complex128)),
    "truth": _replace(lambda array: array.astype(bool)),
    "compound": _replace(lambda array: np.zeros(array.shape, [("a", "f8")])),
    "objects": lambda file, name: (
        _stored(dtype=h5py.string_dtype())(file, name)
        if file[name].dtype.kind in "SO"
        else _replace(lambda array: np.full(array.shape, "text", h5py.string_dtype()))(file, name)
    ),
    "references": lambda file, name: _replace(
        lambda array: np.full(array.shape, file.ref, h5py.ref_dtype)
    )(file, name),
    "enumeration": _replace(
        lambda array: array.astype(h5py.enum_dtype({"a": 0, "b": 1}, basetype="i8"))
    ),
    "compressed": _stored(compression="gzip"),
    "elsewhere": _elsewhere,
    "virtual": _virtual,
    "soft link": _link_to(lambda name: h5py.SoftLink("/moved")),
    "external link": _link_to(lambda name: h5py.ExternalLink("other.h5", name)),
    "link to a pipe": _link_to(lambda name: h5py.ExternalLink("pipe", name)),
    "unwritten": _unwritten,
    "bottomless": _bottomless,
    "group": _group,
    "type": lambda file, name: (file.__delitem__(name), file.__setitem__(name, np.dtype("f8"))),
}


def array_names(path: Path) -> list[str]:
    """Every array of a file, by its path."""
    names: list[str] = []
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None
        )
    return names


def spoil_array(path: Path, name: str, damage: str) -> None:
    """Do `damage` to the array `name` of an HDF5 file, beside which lie another file and a pipe."""
    shutil.copy(path, path.parent / "other.h5")
    pipe = path.parent / "pipe"
    if not pipe.exists():
        os.mkfifo(pipe)
    with h5py.File(path, "r+") as file:
        ANY_ARRAY[damage](file, name)


ATTRIBUTES: dict[str, Any] = {
    "missing": None,
    "nan": np.nan,
    "huge": 1e300,
    "text": "text",
    "numbers": np.arange(5),
    "many": np.zeros(8000),
    "long text": "a" * 60_000,
    "empty": h5py.Empty("f8"),
    "half": np.float16(1),
}


def spoil_attribute(path: Path, name: str, damage: str) -> None:
    """Do `damage` to an attribute of an HDF5 file."""
    with h5py.File(path, "r+") as file:
        del file.attrs[name]
        if ATTRIBUTES[damage] is not None:
            file.attrs[name] = ATTRIBUTES[damage]
