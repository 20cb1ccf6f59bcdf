"""Assemblies: copies of the built-in molecule about the axes of a point group, each in one of two states."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.point_groups import PointGroup
from solvar.simulation.molecule import FlexibleMolecule

Float64 = NDArray[np.float64]

# where the first subunit lies: off every axis and mirror plane of every group
_DIRECTION = np.array([0.88, 0.2, 0.36])
# subunits touch: their blobs fill a part of the sphere around each
_FILLED = 1.2


@dataclass(frozen=True, eq=False)
class Assembly:
    """n subunits in the operations' order.

    Attributes
    ----------
    subunit : FlexibleMolecule
        The first one about its own centre, at its size.
    centre : (3,) float64
        Of the first one, Å.
    operations : (n, 3, 3) float64
    """

    subunit: FlexibleMolecule
    centre: Float64
    operations: Float64

    @classmethod
    def of(cls, molecule: FlexibleMolecule, group: PointGroup, diameter: float) -> Assembly:
        """Copies of a molecule, scaled so that all together are as wide as `diameter`, Å."""
        direction = _DIRECTION / np.linalg.norm(_DIRECTION)
        others = group.operations[1:] @ direction
        half = 0.5 * np.linalg.norm(others - direction, axis=1).min()
        distance = 0.5 * diameter / (1 + half)
        size = _FILLED * 2 * half * distance / molecule.diameter()
        return cls(molecule.scaled(size), distance * direction, group.operations)

    def positions(self, open_: Float64) -> Float64:
        """Blob centres (k, n·A, 3) where subunits (k, n) have a closed arm (0) or an open one (1), Å."""
        here = self.subunit.conformation(open_, 0.5) + self.centre
        there = np.einsum("nij,knaj->knai", self.operations, here)
        return there.reshape(len(open_), -1, 3)

    @property
    def weights(self) -> Float64:
        """Integral of each blob, (n·A,)."""
        return np.tile(self.subunit.weights, len(self.operations))


def all_states(subunits: int, share: float) -> tuple[Float64, Float64]:
    """Every combination of open and closed subunits (2ⁿ, n), and its probability (2ⁿ,).

    `share` is that of open ones, each independent of the others.
    """
    combination = np.array(list(product((0.0, 1.0), repeat=subunits)))
    return combination, np.where(combination == 1, share, 1 - share).prod(axis=1)
