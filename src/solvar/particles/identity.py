"""Who a particle is: a 64-bit number that survives reordering, selection and export."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

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
