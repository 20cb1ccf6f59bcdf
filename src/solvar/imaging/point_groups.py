"""Point groups: the rotations after which a molecule of identical parts looks the same.

A particle at pose R is as well at g·R, for every rotation g of the group: its image says the same of the
volume from each of these poses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.rotations import from_rotation_vector, nearest_rotation

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_GOLDEN = (1 + 5**0.5) / 2
_X, _Z, _DIAGONAL = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (1.0, 1.0, 1.0)
# Axes (order, direction x, y, z) that generate a group, as RELION lays them. C and D take their order.
_GENERATORS: dict[str, tuple[tuple[int, tuple[float, float, float]], ...]] = {
    "T": ((3, _Z), (2, (0.0, 2**0.5, 1.0))),
    "O": ((3, _DIAGONAL), (4, _Z)),
    "I1": ((2, _Z), (5, (_GOLDEN, 0.0, -1.0))),
    "I2": ((2, _Z), (5, (1.0, 0.0, _GOLDEN))),
    "I3": ((5, _Z), (2, (-1.0, 0.0, _GOLDEN))),
    "I4": ((5, _Z), (2, (1.0, 0.0, _GOLDEN))),
}
_ALIAS = {"I": "I2"}
HIGHEST_ORDER = 60
# radians: angles in files have some six digits
_SAME = np.deg2rad(0.05)
_BLOCK = 1 << 16
KINDS = "C1, C2, …, D2, D3, …, T, O, I1 to I4"


@dataclass(frozen=True, eq=False)
class PointGroup:
    """The n rotations of a group, the identity first.

    Attributes
    ----------
    name : str
        Schoenflies symbol, "C4"; of icosahedral groups with RELION's number of the setting, "I2".
    operations : (n, 3, 3) float64
        They act on positions (x, y, z) in the volume.
    """

    name: str
    operations: Float64

    @classmethod
    def named(cls, name: str) -> PointGroup:
        """The group of a Schoenflies symbol in any case, axes as RELION lays them: n-fold ones along z.

        Raises
        ------
        ValueError
            If there is none of that name.
        """
        symbol = name.strip().upper()
        symbol = _ALIAS.get(symbol, symbol)
        return cls(symbol, _closure(_generators(symbol, name)))

    def __len__(self) -> int:
        return len(self.operations)

    @cached_property
    def generators(self) -> Float64:
        """Rotations (m, 3, 3) that all others are products of; none of a molecule without symmetry."""
        return _generators(self.name, self.name)

    def turned(self, rotation: Float64) -> PointGroup:
        """The same group about axes that are turned by a rotation (3, 3)."""
        return PointGroup(self.name, rotation @ self.operations @ rotation.T)


def generated(operations: Float64) -> Float64 | None:
    """The rotations (n, 3, 3) of the smallest group that holds some (m, 3, 3), roughly known.

    None where it has more than sixty, or some are no rotations of a group.
    """
    try:
        return _closure(operations)
    except ValueError:
        return None


def distinct(rotations: Float64) -> Float64:
    """Those of the rotations (m, 3, 3) that differ by more than angles in files do, first ones kept."""
    kept = np.empty((0, 3, 3))
    for rotation in rotations:
        if not len(kept) or nearest_operation(rotation[None], kept)[1][0] > _SAME:
            kept = np.concatenate([kept, rotation[None]])
    return kept


def nearest_operation(rotations: Float64, operations: Float64) -> tuple[Int64, Float64]:
    """For each of (m, 3, 3) the nearest of (n, 3, 3), (m,), and the angle between them, (m,) radians."""
    place, angle = np.empty(len(rotations), np.int64), np.empty(len(rotations))
    for start in range(0, len(rotations), _BLOCK):
        part = slice(start, start + _BLOCK)
        trace = rotations[part].reshape(-1, 9) @ operations.reshape(-1, 9).T
        place[part] = trace.argmax(axis=1)
        # the sine of half the angle, which small angles do not lose
        away = rotations[part] - operations[place[part]]
        half = np.linalg.norm(away, axis=(1, 2)) / np.sqrt(8)
        angle[part] = 2 * np.arcsin(np.minimum(half, 1))
    return place, angle


def nearest_equivalent(rotation: Float64, near: Float64, operations: Float64) -> Float64:
    """Of the poses that a group makes alike to each (N, 3, 3), the one nearest to another pose (N, 3, 3)."""
    return (
        operations[nearest_operation(near @ rotation.transpose(0, 2, 1), operations)[0]] @ rotation
    )


def _generators(symbol: str, asked: str) -> Float64:
    cyclic = re.fullmatch(r"([CD])([1-9]\d?)", symbol)
    if cyclic is not None and int(cyclic[2]) <= HIGHEST_ORDER:
        axes = [(int(cyclic[2]), _Z)] + ([(2, _X)] if cyclic[1] == "D" else [])
    elif symbol in _GENERATORS:
        axes = list(_GENERATORS[symbol])
    else:
        raise ValueError(f"'{asked}' is no point group; there are {KINDS}")
    turns = [2 * np.pi / n * np.array(axis) / np.linalg.norm(axis) for n, axis in axes if n > 1]
    return from_rotation_vector(np.array(turns).reshape(-1, 3))


def _closure(generators: Float64) -> Float64:
    """All products of rotations (m, 3, 3), the identity first.

    Raises
    ------
    ValueError
        If there are more than a point group has.
    """
    found = np.eye(3)[None]
    reached = 0
    while reached < len(found):
        element, reached = found[reached], reached + 1
        for product in generators @ element:
            if nearest_operation(product[None], found)[1][0] > _SAME:
                found = np.concatenate([found, nearest_rotation(product)[None]])
        if len(found) > 2 * HIGHEST_ORDER:
            raise ValueError("these rotations generate no point group")
    return found
