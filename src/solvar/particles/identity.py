"""Who a particle is, and which image it shows.

A particle is known by a 64-bit number that survives reordering, selection and export. An image is a
frame of a file, by whatever name that file is reached.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

UInt64 = NDArray[np.uint64]


def mix(values: UInt64) -> UInt64:
    """SplitMix64 (Steele et al. 2014): a random-looking bijection of 64-bit integers."""
    with np.errstate(over="ignore"):
        x = values + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def seeded(uid: UInt64, seed: int) -> UInt64:
    """A random-looking number (N,) of each particle, a function of its uid and a seed alone."""
    return mix(uid ^ mix(np.array(seed % 2**64, dtype=np.uint64)))


def first_of_each(value: NDArray[np.generic]) -> NDArray[np.int64]:
    """For each of some values (N,) the position of the first that is the same."""
    _, first, inverse = np.unique(value, return_index=True, return_inverse=True)
    return first[inverse.reshape(-1)].astype(np.int64)


def find_uids(wanted: UInt64, among: UInt64) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where particles are in another list.

    Parameters
    ----------
    wanted : (M,) uint64
    among : (N,) uint64
        All different, N > 0.

    Returns
    -------
    (M,) int64
        Position of each in `among`; anything where there is none.
    (M,) bool
        Whether it is there.
    """
    order = np.argsort(among, kind="stable")
    place = np.searchsorted(among, wanted, sorter=order)
    place = order[np.minimum(place, len(order) - 1)]
    return place, among[place] == wanted


def image_uid(
    stack_names: Sequence[str], stack_index: NDArray[np.int64], frame: NDArray[np.int64]
) -> UInt64:
    """Digest of `frame@stack` as the metadata spells it.

    Each distinct stack is hashed once (blake2b) and mixed with the frame, so that a million rows
    cost no loop over rows.

    Parameters
    ----------
    stack_names : sequence of str
    stack_index, frame : (N,) int64

    Returns
    -------
    (N,) uint64
    """
    digests = [blake2b(name.encode(), digest_size=8).digest() for name in stack_names]
    stacks = np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)
    return mix(stacks[stack_index] ^ mix(frame.astype(np.uint64)))


def file_key(path: Path) -> Hashable:
    """What the names of one file have in common, links included."""
    try:
        status = path.stat()
    except OSError:
        return path
    # some network file systems number no files
    return (status.st_dev, status.st_ino) if status.st_ino else path.resolve()


def number_files(paths: Sequence[Path]) -> NDArray[np.int64]:
    """A number of each path, (S,), the same for names of one file."""
    numbers: dict[Hashable, int] = {}
    found = [numbers.setdefault(file_key(path), len(numbers)) for path in paths]
    return np.array(found, dtype=np.int64)


class Repeated(NamedTuple):
    """The first value that occurs again.

    Attributes
    ----------
    earlier, later : int
        Its first two positions; nothing before `later` is a repetition.
    total : int
        How many positions repeat an earlier one.
    """

    earlier: int
    later: int
    total: int


def repeated(*columns: NDArray[Any]) -> Repeated | None:
    """The first position whose values, one of each column (N,), occurred before; None if all differ."""
    order = np.lexsort(columns)
    alike = np.ones(max(len(order) - 1, 0), dtype=np.bool_)
    for column in columns:
        there = column[order]
        alike &= there[1:] == there[:-1]
    again = np.flatnonzero(alike)
    if not len(again):
        return None
    # the sort is stable, so the earliest of the later ones follows the very first
    first = again[np.argmin(order[again + 1])]
    return Repeated(int(order[first]), int(order[first + 1]), len(again))
